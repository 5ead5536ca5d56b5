/*
 * Code for system instructions that systems execute all the time: the clock, a
 * system call's exchange of GS, interrupts off.
 *
 * As everywhere in a block the flags stay the guest's: bits of RFLAGS that are
 * not arithmetic are in the state, where PEXT and PDEP can take one out without
 * touching a flag.
 */
#include "engine/jit/jit_impl.h"

#define OP_RDTSC 0x0f31u

/*
 * The host's TSC and what the guest's differs by (tsc_delta), split into EDX and
 * EAX; RDTSCP waits for what came before, and has its number in ECX.
 */
static void
emit_rdtsc(struct trans *t, bool with_aux)
{
	struct emit *e = &t->e;

	if (with_aux) {
		emit_op(e, 0x0f01); /* rdtscp, into the host's ECX, too */
		emit8(e, 0xf9);
		emit_state(e, false, OP_LOAD, HOST_GUEST_RCX,
		    CPU_FIELD(tsc_aux));
	} else {
		emit_op(e, OP_RDTSC);
	}
	emit_rorx(e, RDX, RDX, 32);
	emit_lea(e, true, RAX, RAX, RDX, 0, 0);
	emit_state(e, true, OP_LOAD, T0, CPU_FIELD(tsc_delta));
	emit_lea(e, true, RAX, RAX, T0, 0, 0);
	emit_rorx(e, RDX, RAX, 32);
	emit_mov(e, false, RDX, RDX); /* clears the upper half */
	emit_mov(e, false, RAX, RAX);
}

static void
emit_swapgs(struct trans *t)
{
	struct emit *e = &t->e;
	uint32_t base = CPU_FIELD(seg[CPU_GS].base);

	emit_state(e, true, OP_LOAD, T0, base);
	emit_state(e, true, OP_LOAD, T1, CPU_FIELD(kernel_gs_base));
	emit_state(e, true, OP_STORE, T1, base);
	emit_state(e, true, OP_STORE, T0, CPU_FIELD(kernel_gs_base));
}

static void
emit_cli(struct trans *t)
{
	struct emit *e = &t->e;

	emit_state(e, true, OP_LOAD, T0, CPU_FIELD(rflags));
	emit_pext_state(e, T0, T0, CPU_FIELD(pext_no_if));
	emit_pdep_state(e, T0, T0, CPU_FIELD(pext_no_if));
	emit_state(e, true, OP_STORE, T0, CPU_FIELD(rflags));
}

bool
jit_emit_system(struct trans *t)
{
	switch (t->insn->op->id) {
	case X86_OP_RDTSC:
	case X86_OP_RDTSCP:
		if (!(t->mode & JIT_MODE_TSC))
			return false;
		emit_rdtsc(t, t->insn->op->id == X86_OP_RDTSCP);
		return true;
	case X86_OP_SWAPGS:
		if (!(t->mode & JIT_MODE_RING0) || t->code != X86_CODE64)
			return false;
		emit_swapgs(t);
		return true;
	case X86_OP_CLI:
		if (!(t->mode & JIT_MODE_RING0))
			return false;
		emit_cli(t);
		return true;
	default:
		return false;
	}
}
