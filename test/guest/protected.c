/* Protected mode: faults and segments. */
#include "guest.h"

#define DE 0
#define UD 6
#define NM 7
#define NP 11
#define GP 13

static void
set_ts(void)
{
	uint32_t cr0;

	__asm__ volatile("mov %%cr0, %0; orl $8, %0; mov %0, %%cr0"
			 : "=r"(cr0)
			 :
			 : "memory");
}

static void
faults(void)
{
	traps_init();
	check_eq("#DE", TRY("div %0", "r"(0), "a"(1), "d"(0)), DE);
	check_eq("#UD", TRY("ud2", "r"(0)), UD);
	check_eq("#GP for a bad selector", TRY("mov %0, %%es", "r"(0x1234)),
	    GP);
	check_eq("its error code is the selector", fault_error, 0x1234);
	check_eq("no fault, no vector", TRY("mov %0, %%es", "r"(0x10)),
	    NO_FAULT);
	set_ts();
	check_eq("#NM with CR0.TS", TRY("fninit", "r"(0)), NM);
	__asm__ volatile("clts");
	check_eq("none after CLTS", TRY("fninit", "r"(0)), NO_FAULT);
}

static void
segments(void)
{
	uint32_t word;

	gdt[5] = 0x00001300000000ffULL; /* not present */
	check_eq("#NP", TRY("mov %0, %%fs", "r"(0x28)), NP);
	check_eq("its error code", fault_error, 0x28);
	gdt[5] = 0x00409310000000ffULL; /* 256 bytes at 1 MiB */
	__asm__ volatile("mov %0, %%fs" : : "r"(0x28));
	__asm__ volatile("movl %%fs:4, %0" : "=r"(word));
	check_eq("a segment's base counts", word, read32(0x100004));
	__asm__ volatile("mov %0, %%fs" : : "r"(0x10));
}

void
payload(void)
{
	test("protected");
	faults();
	segments();
	done();
}
