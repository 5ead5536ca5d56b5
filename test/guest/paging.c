/*
 * Paging in protected mode.  A /dev/kvm that only emulates has it in long mode
 * alone.
 */
#include "guest.h"

#define CR0_WP 0x10000u
#define CR0_PG 0x80000000u
#define CR4_PSE 0x10u
#define PRESENT 1u
#define WRITABLE 2u
#define ACCESSED 0x20u
#define DIRTY 0x40u
#define LARGE 0x80u

#define PF 14

#define CR(n)                                                                  \
	static inline uint32_t read_cr##n(void)                                \
	{                                                                      \
		uint32_t value;                                                \
                                                                               \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(value));          \
		return value;                                                  \
	}                                                                      \
	static inline void write_cr##n(uint32_t value)                         \
	{                                                                      \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(value) : "memory"); \
	}
CR(0)
CR(2)
CR(3)
CR(4)

static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table[1024] __attribute__((aligned(4096)));
static uint8_t page[4096] __attribute__((aligned(4096)));

void
payload(void)
{
	test("paging");
	traps_init();
	for (unsigned i = 0; i < 1024; i++)
		directory[i] = i << 22 | LARGE | WRITABLE | PRESENT;
	directory[1] = (uint32_t)table | WRITABLE | PRESENT;
	table[0] = (uint32_t)page | WRITABLE | PRESENT;
	table[1] = (uint32_t)page | PRESENT;
	write_cr4(read_cr4() | CR4_PSE);
	write_cr3((uint32_t)directory);
	write_cr0(read_cr0() | CR0_PG | CR0_WP);

	write32(0x400010, 0x12345678);
	check_eq("two addresses, one page", read32(0x401010), 0x12345678);
	check_eq("and so in memory", read32((uint32_t)page + 0x10), 0x12345678);
	check_eq("accessed and dirty", table[0] & (ACCESSED | DIRTY),
	    ACCESSED | DIRTY);
	check_eq("read, so accessed only", table[1] & (ACCESSED | DIRTY),
	    ACCESSED);
	check_eq("#PF where nothing is", TRY("movl 0x402004, %%eax", "a"(0)),
	    PF);
	check_eq("its error code", fault_error, 0);
	check_eq("CR2 has the address", read_cr2(), 0x402004);
	check_eq("#PF for a write to read-only",
	    TRY("movl %%eax, 0x401008", "a"(0)), PF);
	check_eq("its error code: write, present", fault_error, 3);
	table[1] |= WRITABLE;
	__asm__ volatile("invlpg 0x401000" ::: "memory");
	check_eq("none once it is writable",
	    TRY("movl %%eax, 0x401008", "a"(0)), NO_FAULT);
	table[2] = (uint32_t)page | WRITABLE | PRESENT;
	check_eq("a new page needs no flush",
	    TRY("movl 0x402010, %%eax", "a"(0)), NO_FAULT);
	done();
}
