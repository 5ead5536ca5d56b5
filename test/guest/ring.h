/*
 * What payloads about the processor itself stand on: its registers, a task
 * state segment, ring 3, and page tables of one's own.
 */
#ifndef TEST_GUEST_RING_H
#define TEST_GUEST_RING_H

#include "guest.h"

enum {
	DE = 0,
	DB = 1,
	NMI = 2,
	BP = 3,
	OVER = 4, /* #OF */
	BR = 5,
	UD = 6,
	NM = 7,
	DF = 8,
	TS = 10,
	NP = 11,
	SS = 12,
	GP = 13,
	PF = 14,
	MF = 16,
	AC = 17,
	XM = 19,
};

#define FLAG_CF 0x1u
#define FLAG_ZF 0x40u
#define FLAG_TF 0x100u
#define FLAG_IF 0x200u
#define FLAG_DF 0x400u
#define FLAG_IOPL 0x3000u
#define FLAG_NT 0x4000u
#define FLAG_RF 0x10000u
#define FLAG_VM 0x20000u
#define FLAG_AC 0x40000u
#define FLAG_VIF 0x80000u
#define FLAG_VIP 0x100000u
#define FLAG_ID 0x200000u

#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_NW 0x20000000u
#define CR0_CD 0x40000000u
#define CR0_PG 0x80000000u
#define CR4_VME 0x1u
#define CR4_TSD 0x4u
#define CR4_DE 0x8u
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_PGE 0x80u
#define CR4_PCE 0x100u
#define CR4_OSFXSR 0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_UMIP 0x800u
#define CR4_FSGSBASE 0x10000u
#define CR4_PCIDE 0x20000u
#define CR4_OSXSAVE 0x40000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u

#define MSR_EFER 0xc0000080u
#define EFER_SCE 0x1u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NXE 0x800u

#define REGISTER(name)                                                 \
	static inline uintptr_t read_##name(void)                      \
	{                                                              \
		uintptr_t value;                                       \
                                                                       \
		__asm__ volatile("mov %%" #name ", %0" : "=r"(value)); \
		return value;                                          \
	}                                                              \
	static inline void write_##name(uintptr_t value)               \
	{                                                              \
		__asm__ volatile("mov %0, %%" #name                    \
				 :                                     \
				 : "r"(value)                          \
				 : "memory");                          \
	}
REGISTER(cr0)
REGISTER(cr2)
REGISTER(cr3)
REGISTER(cr4)
REGISTER(dr0)
REGISTER(dr1)
REGISTER(dr6)
REGISTER(dr7)
#ifdef __x86_64__
REGISTER(cr8)
#endif

static inline void
flush_tlb(void)
{
	write_cr3(read_cr3());
}

static inline void
invlpg(uintptr_t at)
{
	__asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
}

static inline uintptr_t
read_flags(void)
{
	uintptr_t flags;

	__asm__ volatile("pushf; pop %0" : "=r"(flags));
	return flags;
}

/* ---- segments ----------------------------------------------------------- */

#define CODE_SELECTOR 0x08u
#define DATA_SELECTOR 0x10u
#define USER_DATA 0x23u
#ifdef __x86_64__
#define USER_CODE 0x2bu
#define TSS_SELECTOR 0x38u
#define GDT_FREE 9 /* from here on gdt[] is a payload's own, up to 31 */
#else
#define USER_CODE 0x1bu
#define TSS_SELECTOR 0x28u
#define GDT_FREE 6
#endif

/* Bits 8 to 23 of a descriptor's upper half, as LAR shows them. */
#define DESC_P 0x8000u
#define DESC_DPL(n) ((unsigned)(n) << 13)
#define DESC_DATA 0x9300u /* present, writable, accessed */
#define DESC_CODE 0x9b00u /* present, readable, accessed */
#define DESC_CONFORMING 0x400u
#define DESC_DOWN 0x400u
#define DESC_WRITABLE 0x200u
#define DESC_READABLE 0x200u
#define DESC_ACCESSED 0x100u
#define DESC_BIG 0x400000u
#define DESC_PAGES 0x800000u
#define DESC_LONG 0x200000u
#define DESC_TSS16 0x8100u
#define DESC_LDT 0x8200u
#define DESC_CALL16 0x8400u
#define DESC_TASK_GATE 0x8500u
#define DESC_TSS32 0x8900u
#define DESC_BUSY 0x200u
#define DESC_CALL32 0x8c00u

static inline uint64_t
segment(uint32_t base, uint32_t limit, uint32_t access)
{
	uint32_t high = (base >> 16 & 0xff) | (base & 0xff000000) |
	    (limit & 0xf0000) | access;

	return (uint64_t)high << 32 | base << 16 | (limit & 0xffff);
}

/* Call and task gates. */
static inline uint64_t
far_gate(uint16_t selector, uint32_t off, uint32_t access)
{
	return (uint64_t)((off & 0xffff0000) | access) << 32 |
	    (uint32_t)selector << 16 | (off & 0xffff);
}

#ifdef __x86_64__
struct tss {
	uint32_t reserved0;
	uint64_t rsp[3];
	uint64_t reserved1;
	uint64_t ist[7];
	uint64_t reserved2;
	uint16_t reserved3, iomap;
} __attribute__((packed));
#else
struct tss {
	uint32_t link;
	struct {
		uint32_t esp, ss;
	} stack[3];
	uint32_t cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
	uint32_t es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, iomap;
} __attribute__((packed));
#endif

/* ---- ring 3 ------------------------------------------------------------- */

/*
 * traps_init(), a TSS in TR whose rings 0 have ring_stack, and memory that ring
 * 3 may use: in 64 bits by the U bits of all pages; in 32 bits DS and ES are
 * USER_DATA from now on.
 */
void ring_init(void);
extern struct tss ring_tss;
extern uint8_t ring_stack[4096];
#define RING_STACK ((uintptr_t)ring_stack + sizeof(ring_stack))

/* The flags that USER starts with. */
extern uintptr_t user_flags;

/*
 * TRY in ring 3, on the same stack.  HOME is its vector if nothing went wrong.
 */
#ifdef __x86_64__
#define USER_PREPARE                                      \
	"pushq $0x23; pushq fault_sp; pushq user_flags\n" \
	"pushq $0x2b; pushq $2f; iretq\n2:\n"
#else
#define USER_PREPARE                                      \
	"pushl $0x23; pushl fault_sp; pushl user_flags\n" \
	"pushl $0x1b; pushl $2f; iret\n2:\n"
#endif
#define USER(insn, ...) TRY(USER_PREPARE insn "\nint $0x80", __VA_ARGS__)

/* With outputs, each list in OPERANDS(), and what else it changes. */
#define OPERANDS(...) __VA_ARGS__
#define TRY_FULL(insn, outputs, inputs, ...)               \
	({                                                 \
		fault_vector = NO_FAULT;                   \
		__asm__ volatile(TRY_PREPARE insn "\n1:"   \
				 : outputs:inputs          \
				 : "memory", __VA_ARGS__); \
		(uint32_t) fault_vector;                   \
	})
#define USER_FULL(insn, outputs, inputs, ...)                        \
	TRY_FULL(USER_PREPARE insn "\nint $0x80", OPERANDS(outputs), \
	    OPERANDS(inputs), __VA_ARGS__)

/* An instruction, so that insn_at and insn_end say where it is. */
extern uintptr_t insn_at, insn_end;
#ifdef __x86_64__
#define HERE(insn) "movq $77f, insn_at; movq $78f, insn_end\n77:" insn "\n78:\n"
#else
#define HERE(insn) "movl $77f, insn_at; movl $78f, insn_end\n77:" insn "\n78:\n"
#endif

/* ---- pages in 64 bits --------------------------------------------------- */

#ifdef __x86_64__
#define PTE_P 1ULL
#define PTE_W 2ULL
#define PTE_U 4ULL
#define PTE_A 0x20ULL
#define PTE_D 0x40ULL
#define PTE_PS 0x80ULL
#define PTE_G 0x100ULL
#define PTE_NX (1ULL << 63)
extern uint64_t pml4[], pdpt[], pds[];

/* The page directory entry of an address below 8 GiB. */
static inline uint64_t *
pde(uintptr_t at)
{
	return &pds[at >> 21];
}
#endif

#endif
