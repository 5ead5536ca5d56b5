/*
 * The interpreter: any one instruction, in any mode, as the manual says.
 *
 * The reference for the translator, which hands it whatever it does not
 * translate itself.
 *
 *              interp.c     fetching, dispatch, operands, what ends a step
 *              alu.c        arithmetic, logic, shifts, bits, BMI
 *              move.c       data movement, stack, strings
 *              system.c     control registers, MSRs, tables, ports, CPUID
 *              native.c     vector and x87 instructions on the host's units
 *              debug.c      breakpoints and single steps
 */
#ifndef ENGINE_X86_INTERP_H
#define ENGINE_X86_INTERP_H

#include "engine/x86/cpu.h"

enum x86_step {
	X86_STEP_NEXT, /* go on at cs:rip */
	X86_STEP_HALT, /* HLT was carried out: cpu->halted is set */
	X86_STEP_TRIPLE_FAULT,
};

/*
 * Carry out the instruction at cs:rip, or one round of a REP that other things
 * may interrupt; deliver the exception it raises, or the debug trap after it.
 * Clears the shadows of the instruction before.
 */
enum x86_step x86_step(struct x86_cpu *cpu);
/*
 * The same for an instruction that was decoded before, and stands at cs:rip.
 * Instruction breakpoints are not looked for.
 */
enum x86_step x86_step_insn(struct x86_cpu *cpu, const struct x86_insn *insn);
/* The same for up to n instructions, as long as `attention` is 0. */
enum x86_step x86_steps(struct x86_cpu *cpu, unsigned n);

/* ---- for the files of the interpreter ------------------------------------ */

/* Carry out a decoded instruction; rip is the next one's already. */
typedef void x86_exec_fn(struct x86_cpu *cpu, const struct x86_insn *insn);
x86_exec_fn x86_exec_alu, x86_exec_move, x86_exec_string, x86_exec_flow,
    x86_exec_system, x86_exec_native;

/* The memory operand: its offset (cut to the address size), linear address. */
uint64_t x86_ea(const struct x86_cpu *cpu, const struct x86_insn *insn);
uint64_t x86_mem_linear(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned size, bool write);

/* Operand i: zero-extended.  A 4-byte GPR write clears the upper half. */
uint64_t x86_get(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned i);
void x86_put(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned i,
    uint64_t value);

/* By the low four bits of Jcc, SETcc, CMOVcc. */
bool x86_condition(uint64_t rflags, unsigned cc);

static inline uint64_t
x86_gpr(const struct x86_cpu *cpu, unsigned reg, unsigned size)
{
	return cpu->gpr[reg] & size_mask(size);
}

static inline void
x86_set_gpr(struct x86_cpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
	uint64_t keep = size >= 4 ? 0 : ~size_mask(size);

	cpu->gpr[reg] = (cpu->gpr[reg] & keep) | (value & size_mask(size));
}

/* #NM and #UD that a unit's instructions meet before anything else. */
void x86_fpu_check(struct x86_cpu *cpu, enum x86_fpu unit);

#endif
