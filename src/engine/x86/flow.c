/*
 * Near control transfer: JMP, Jcc, CALL, RET, LOOP, JrCXZ.
 *
 * Models       Intel SDM volume 2, the operation sections of these.  The target
 *              has the operand's size, which in 64-bit code is always 8 (AMD
 *              heeds an operand-size prefix there; the decoder does not).
 * Invariants   A target beyond the limit of CS, or not canonical in 64-bit
 *              code, is #GP(0) of the transfer itself, before anything changes;
 *              what the push of a CALL raises is raised before that.
 *              Except for CALL and RET nothing raises after a register changed.
 */
#include "engine/x86/interp_impl.h"
#include "engine/x86/mmu.h"

/* Where a transfer to rip leads; raises where it must not. */
static uint64_t
target(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t rip)
{
	rip &= size_mask(insn->opsize);
	if (cpu->code == X86_CODE64) {
		if (!x86_canonical(rip))
			x86_raise_gp(cpu);
	} else if (rip > cpu->seg[CPU_CS].limit) {
		x86_raise_gp(cpu);
	}
	return rip;
}

static void
jump_relative(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	cpu->rip = target(cpu, insn, cpu->rip + insn->imm);
}

/* Raise what a push would raise. */
static void
check_push(struct x86_cpu *cpu, unsigned size)
{
	uint64_t sp =
	    (cpu->gpr[CPU_RSP] - size) & size_mask(x86_stack_width(cpu));
	uint64_t lin = x86_linear(cpu, CPU_SS, sp, size, true);

	x86_check_aligned(cpu, lin, size);
	x86_probe(cpu, lin, size, true);
}

static void
call(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t rip)
{
	check_push(cpu, insn->opsize);
	rip = target(cpu, insn, rip);
	x86_push(cpu, cpu->rip & size_mask(insn->opsize), insn->opsize);
	cpu->rip = rip;
}

static void
ret(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	cpu->rip = target(cpu, insn, x86_pop(cpu, insn->opsize));
	if (insn->imm != 0)
		x86_set_sp(cpu, cpu->gpr[CPU_RSP] + (insn->imm & 0xffff));
}

static void
loop(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t count = (x86_gpr(cpu, CPU_RCX, insn->addrsize) - 1) &
	    size_mask(insn->addrsize);
	bool again = count != 0;

	if (insn->op->id == X86_OP_LOOPE)
		again = again && (cpu->rflags & X86_ZF);
	else if (insn->op->id == X86_OP_LOOPNE)
		again = again && !(cpu->rflags & X86_ZF);
	if (again)
		jump_relative(cpu, insn);
	x86_set_gpr(cpu, CPU_RCX, insn->addrsize, count);
}

void
x86_exec_flow(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	switch (insn->op->id) {
	case X86_OP_JMP:
		jump_relative(cpu, insn);
		break;
	case X86_OP_JMP_IND:
		cpu->rip = target(cpu, insn, x86_get(cpu, insn, 0));
		break;
	case X86_OP_JCC:
		if (x86_condition(cpu->rflags, insn->opcode & 0xf))
			jump_relative(cpu, insn);
		break;
	case X86_OP_CALL:
		call(cpu, insn, cpu->rip + insn->imm);
		break;
	case X86_OP_CALL_IND:
		call(cpu, insn, x86_get(cpu, insn, 0));
		break;
	case X86_OP_RET:
		ret(cpu, insn);
		break;
	case X86_OP_LOOP:
	case X86_OP_LOOPE:
	case X86_OP_LOOPNE:
		loop(cpu, insn);
		break;
	case X86_OP_JCXZ:
		if (x86_gpr(cpu, CPU_RCX, insn->addrsize) == 0)
			jump_relative(cpu, insn);
		break;
	}
}
