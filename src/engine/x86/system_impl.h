/*
 * What the files of the system half share: descriptors, stacks of other
 * privilege levels, control registers, MSRs.
 *
 *              segment.c    addresses, descriptors, segment registers, stacks
 *              far.c        far JMP, CALL, RET, IRET
 *              task.c       task switches
 *              event.c      exceptions and interrupts
 *              system.c     the instructions, and the small ones among them
 *              control.c    CR0 to CR8, DR0 to DR7, EFER, XCR0
 *              fastcall.c   SYSCALL, SYSRET, SYSENTER, SYSEXIT
 *              port.c       IN, OUT, INS, OUTS
 *              msr_cpu.c    RDMSR, WRMSR
 */
#ifndef ENGINE_X86_SYSTEM_IMPL_H
#define ENGINE_X86_SYSTEM_IMPL_H

#include "engine/x86/interp.h"
#include "engine/x86/mmu.h"

/* Types of system descriptors, SDM volume 3, table 3-2. */
#define X86_DT_TSS16 0x1u
#define X86_DT_LDT 0x2u
#define X86_DT_TSS16_BUSY 0x3u
#define X86_DT_CALL16 0x4u
#define X86_DT_TASK 0x5u
#define X86_DT_INTR16 0x6u
#define X86_DT_TRAP16 0x7u
#define X86_DT_TSS32 0x9u /* in long mode: the 64-bit one; and so below */
#define X86_DT_TSS32_BUSY 0xbu
#define X86_DT_CALL32 0xcu
#define X86_DT_INTR32 0xeu
#define X86_DT_TRAP32 0xfu
#define X86_DT_BUSY 0x2u
#define X86_DT_WIDE 0x8u /* not a 16-bit TSS or gate */

/* Where in a descriptor P, DPL, S and type are. */
#define X86_DESC_ACCESS 5u

#define X86_DR6_FIXED 0xffff0ff0u
#define X86_DR6_BD BIT(13)
#define X86_DR6_BT BIT(15)
#define X86_DR7_GD BIT(13)
#define X86_DR7_FIXED 0x400u
#define X86_DR7_LOCAL 0x155u /* L0 to L3 and LE */

/* A descriptor, fetched once. */
struct x86_desc {
	uint64_t lin;    /* where it lies */
	uint64_t low;    /* the eight bytes that all have */
	uint32_t high;   /* long mode, system: bits 63-32 of base or offset */
	uint32_t access; /* as in struct cpu_segment */
};

static inline uint16_t
x86_gate_selector(const struct x86_desc *d)
{
	return (uint16_t)(d->low >> 16);
}

static inline uint64_t
x86_gate_off(const struct x86_desc *d)
{
	uint64_t off = d->low & 0xffff;

	if (d->access & X86_DT_WIDE)
		off |= (d->low >> 48) << 16 | (uint64_t)d->high << 32;
	return off;
}

static inline bool
x86_is_code(uint32_t access)
{
	const uint32_t both = X86_SEG_S | X86_SEG_CODE;

	return (access & both) == both;
}

static inline bool
x86_is_conforming(uint32_t access)
{
	return access & X86_SEG_CE;
}

static inline bool
x86_is_stack(uint32_t access)
{
	return (access & (X86_SEG_S | X86_SEG_CODE | X86_SEG_RW)) ==
	    (X86_SEG_S | X86_SEG_RW);
}

static inline bool
x86_is_null(uint16_t selector)
{
	return (selector & 0xfffc) == 0;
}

/* Code of this segment is 64-bit code. */
static inline bool
x86_is_code64(const struct x86_cpu *cpu, uint32_t access)
{
	return x86_long_mode(cpu) && (access & X86_SEG_L);
}

/* An address in a system table; legacy ones have 32 bits. */
static inline uint64_t
x86_sys_lin(const struct x86_cpu *cpu, uint64_t base, uint64_t off)
{
	return x86_long_mode(cpu) ? base + off : (uint32_t)(base + off);
}

/* Raise with a selector for an error code. */
static inline _Noreturn void
x86_raise_selector(struct x86_cpu *cpu, enum x86_vector vector,
    uint16_t selector)
{
	x86_raise_error(cpu, vector, selector & 0xfffcu);
}

/* ---- segment.c ----------------------------------------------------------- */

/* False: beyond the table.  May raise #PF, as all of these. */
bool x86_desc_find(struct x86_cpu *cpu, uint16_t selector, struct x86_desc *d);
/* The same, raising vector(selector). */
void x86_desc_need(struct x86_cpu *cpu, uint16_t selector,
    enum x86_vector vector, struct x86_desc *d);
/* Long mode: the rest of a system descriptor.  False: malformed. */
bool x86_desc_rest(struct x86_cpu *cpu, uint16_t selector, struct x86_desc *d);
/* Set bits of the type in memory: accessed, busy. */
void x86_desc_mark(struct x86_cpu *cpu, struct x86_desc *d, uint32_t bits);
struct cpu_segment x86_desc_segment(const struct x86_desc *d,
    uint16_t selector);

/* Segment registers as modes without descriptors load them. */
void x86_load_seg_real(struct x86_cpu *cpu, enum cpu_seg seg,
    uint16_t selector);
void x86_null_seg(struct x86_cpu *cpu, enum cpu_seg seg, uint16_t selector);
/* A null SS: CPL still is its DPL. */
struct cpu_segment x86_null_ss(uint16_t selector, unsigned cpl);
void x86_load_ldt(struct x86_cpu *cpu, uint16_t selector,
    enum x86_vector vector);

/* Raise #GP(0) unless code can run at rip of this segment. */
void x86_check_rip(struct x86_cpu *cpu, const struct cpu_segment *cs,
    uint64_t rip);

/* A stack that is, or will be, the one in use. */
struct x86_stack {
	struct cpu_segment ss;
	uint64_t sp;
	unsigned width;
	bool inner;     /* of a level below 3: accessed as supervisor */
	uint16_t error; /* the selector in #SS */
};
struct x86_stack x86_stack_now(const struct x86_cpu *cpu);
/* The stack that the TSS names for a level. */
struct x86_stack x86_stack_inner(struct x86_cpu *cpu, unsigned cpl);
/* Long mode: the RSP at offset `at` of the TSS. */
struct x86_stack x86_stack_tss64(struct x86_cpu *cpu, unsigned at,
    unsigned cpl);
void x86_stack_push(struct x86_cpu *cpu, struct x86_stack *stack,
    uint64_t value, unsigned size);
/* Make it SS:rSP.  CS and CPL have been set. */
void x86_stack_use(struct x86_cpu *cpu, const struct x86_stack *stack);

/* ---- control.c ----------------------------------------------------------- */

/* Raise #GP(0) for what no processor can be in. */
void x86_set_cr0(struct x86_cpu *cpu, uint64_t value);
void x86_set_cr3(struct x86_cpu *cpu, uint64_t value);
void x86_set_cr4(struct x86_cpu *cpu, uint64_t value);
void x86_set_efer(struct x86_cpu *cpu, uint64_t value);
void x86_set_xcr0(struct x86_cpu *cpu, uint32_t index, uint64_t value);
void x86_get_cr(struct x86_cpu *cpu, const struct x86_insn *insn);
void x86_set_cr(struct x86_cpu *cpu, const struct x86_insn *insn);
void x86_get_dr(struct x86_cpu *cpu, const struct x86_insn *insn);
void x86_set_dr(struct x86_cpu *cpu, const struct x86_insn *insn);

/* ---- fastcall.c, port.c, msr_cpu.c --------------------------------------- */

void x86_syscall(struct x86_cpu *cpu);
void x86_sysret(struct x86_cpu *cpu, unsigned opsize);
void x86_sysenter(struct x86_cpu *cpu);
void x86_sysexit(struct x86_cpu *cpu, unsigned opsize);

void x86_in(struct x86_cpu *cpu, const struct x86_insn *insn);
void x86_out(struct x86_cpu *cpu, const struct x86_insn *insn);
void x86_ins(struct x86_cpu *cpu, const struct x86_insn *insn);
void x86_outs(struct x86_cpu *cpu, const struct x86_insn *insn);

/* Without the check of CPL; raise #GP(0). */
uint64_t x86_rdmsr(struct x86_cpu *cpu, uint32_t index);
void x86_wrmsr(struct x86_cpu *cpu, uint32_t index, uint64_t value);

#endif
