/*
 * The interpreter's frame: fetching, dispatch, operands, and what ends a step.
 *
 * Models       Intel SDM volume 1, 3.7 (operand addressing); volume 3, 6.5 to
 *              6.9 (exceptions, their restart, what masks them).
 * Taking back  An exception jumps to the x86_undo of carry_out(), which
 *              restores rip, rflags and gpr.  The first two are always
 *              remembered.  Copying gpr is left out for instructions that
 *              change no general register before the last thing that can
 *              raise: rows without `undo`, which is a promise of alu.c, move.c
 *              and flow.c.
 * RF           is cleared before an instruction, so that one that pushes or
 *              loads flags has the last word, and comes back with an exception
 *              or with a repeated instruction that is not finished.  A debug
 *              trap within such a one sets it.
 */
#include "engine/x86/debug.h"
#include "engine/x86/event.h"
#include "engine/x86/interp_impl.h"
#include "engine/x86/mmu.h"

#define PAGE_OFFSET(lin) ((unsigned)((lin) & (MEM_PAGE_SIZE - 1)))

static x86_exec_fn exec_ud;

/* Who carries out what. */
/* clang-format off */
static const struct exec {
	x86_exec_fn *fn;
	bool undo; /* may raise after it changed a general register */
} execs[X86_OPS] = {
	[X86_OP_UD] = { exec_ud, false },
	[X86_OP_ADD ... X86_OP_BSR] = { x86_exec_alu, false },
	[X86_OP_TZCNT ... X86_OP_POPCNT] = { x86_exec_alu, false },
	[X86_OP_BSWAP ... X86_OP_MOVBE] = { x86_exec_move, false },
	[X86_OP_CRC32 ... X86_OP_CMPXCHG8B] = { x86_exec_alu, false },
	[X86_OP_MOV ... X86_OP_XLAT] = { x86_exec_move, false },
	[X86_OP_DAA ... X86_OP_AAD] = { x86_exec_alu, false },
	[X86_OP_SALC ... X86_OP_RDPID] = { x86_exec_move, false },
	[X86_OP_MOVS ... X86_OP_SCAS] = { x86_exec_string, true },
	[X86_OP_INS ... X86_OP_OUTS] = { x86_exec_system, true },
	[X86_OP_PUSH ... X86_OP_LEAVE] = { x86_exec_move, true },
	[X86_OP_JMP ... X86_OP_JCC] = { x86_exec_flow, false },
	[X86_OP_CALL ... X86_OP_RET] = { x86_exec_flow, true },
	[X86_OP_LOOP ... X86_OP_JCXZ] = { x86_exec_flow, false },
	[X86_OP_JMP_FAR ... X86_OP_VMCALL] = { x86_exec_system, true },
	[X86_OP_VECTOR ... X86_OP_LDMXCSR] = { x86_exec_native, true },
};
/* clang-format on */

static void
exec_ud(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	x86_raise(cpu, X86_UD);
}

/* -------------------------------------------------------------- operands */

uint64_t
x86_ea(const struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t off = (uint64_t)insn->disp;

	if (insn->base == X86_BASE_RIP)
		off += cpu->rip; /* of the next instruction already */
	else if (insn->base != X86_NO_REG)
		off += cpu->gpr[insn->base];
	if (insn->index != X86_NO_REG)
		off += cpu->gpr[insn->index] << insn->scale;
	return off & size_mask(insn->addrsize);
}

uint64_t
x86_mem_linear(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned size,
    bool write)
{
	return x86_address(cpu, insn->seg, x86_ea(cpu, insn), size, write);
}

uint64_t
x86_get(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned i)
{
	const struct x86_operand *o = &insn->opnd[i];

	switch (o->kind) {
	case X86_K_GPR:
		return x86_gpr(cpu, o->reg, o->size);
	case X86_K_HIGH:
		return (cpu->gpr[o->reg] >> 8) & 0xff;
	case X86_K_MEM:
		return x86_load(cpu, x86_mem_linear(cpu, insn, o->size, false),
		    o->size);
	case X86_K_IMM:
		/* As far as the instruction extends it, not as encoded. */
		return insn->imm;
	case X86_K_SEG:
		return cpu->seg[o->reg].selector;
	default:
		/* Control and debug registers, vectors: not through here. */
		return 0;
	}
}

void
x86_put(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned i,
    uint64_t value)
{
	const struct x86_operand *o = &insn->opnd[i];

	switch (o->kind) {
	case X86_K_GPR:
		x86_set_gpr(cpu, o->reg, o->size, value);
		break;
	case X86_K_HIGH:
		cpu->gpr[o->reg] =
		    (cpu->gpr[o->reg] & ~0xff00ULL) | (value & 0xff) << 8;
		break;
	case X86_K_MEM:
		x86_store(cpu, x86_mem_linear(cpu, insn, o->size, true),
		    o->size, value);
		break;
	default:
		break;
	}
}

/* SDM volume 1, appendix B. */
bool
x86_condition(uint64_t rflags, unsigned cc)
{
	bool less = !(rflags & X86_SF) != !(rflags & X86_OF);
	bool met;

	switch (cc >> 1) {
	case 0: /* O */
		met = rflags & X86_OF;
		break;
	case 1: /* B */
		met = rflags & X86_CF;
		break;
	case 2: /* E */
		met = rflags & X86_ZF;
		break;
	case 3: /* BE */
		met = rflags & (X86_CF | X86_ZF);
		break;
	case 4: /* S */
		met = rflags & X86_SF;
		break;
	case 5: /* P */
		met = rflags & X86_PF;
		break;
	case 6: /* L */
		met = less;
		break;
	default: /* LE */
		met = less || (rflags & X86_ZF);
		break;
	}
	return met != (cc & 1);
}

/* SDM volume 3, 2.5 (CR0), 13.1 and 13.5; volume 2, 2.4 to 2.7. */
void
x86_fpu_check(struct x86_cpu *cpu, enum x86_fpu unit)
{
	uint64_t units = X86_XCR0_SSE | X86_XCR0_AVX;

	switch (unit) {
	case X86_FPU_NONE:
		return;
	case X86_FPU_X87:
		if (cpu->cr0 & (X86_CR0_EM | X86_CR0_TS))
			x86_raise(cpu, X86_NM);
		return;
	case X86_FPU_WAIT:
		if ((cpu->cr0 & X86_CR0_MP) && (cpu->cr0 & X86_CR0_TS))
			x86_raise(cpu, X86_NM);
		return;
	case X86_FPU_MMX:
		if (cpu->cr0 & X86_CR0_EM)
			x86_raise(cpu, X86_UD);
		break;
	case X86_FPU_SSE:
		if ((cpu->cr0 & X86_CR0_EM) || !(cpu->cr4 & X86_CR4_OSFXSR))
			x86_raise(cpu, X86_UD);
		break;
	case X86_FPU_AVX512:
		units |= X86_XCR0_AVX512;
		/* fallthrough */
	case X86_FPU_AVX:
		if (!x86_protected(cpu) || !(cpu->cr4 & X86_CR4_OSXSAVE) ||
		    (cpu->xcr0 & units) != units)
			x86_raise(cpu, X86_UD);
		break;
	case X86_FPU_AMX:
		x86_raise(cpu, X86_UD);
	}
	if (cpu->cr0 & X86_CR0_TS)
		x86_raise(cpu, X86_NM);
}

/* -------------------------------------------------------------- fetching */

/*
 * An instruction near the end of a page, of the segment or of the lower half of
 * linear addresses; or one outside of memory.
 */
static void
fetch_slow(struct x86_cpu *cpu, uint64_t lin, struct x86_insn *insn)
{
	uint64_t allowed = X86_INSN_MAX;

	if (cpu->code != X86_CODE64)
		allowed = MIN(allowed, cpu->seg[CPU_CS].limit - cpu->rip + 1);
	else if (!x86_canonical(lin + X86_INSN_MAX - 1))
		allowed = BIT(47) - lin;
	for (;;) {
		uint8_t bytes[X86_INSN_MAX];
		unsigned have = x86_fetch(cpu, lin, bytes);
		enum x86_decoded decoded = x86_decode(bytes,
		    MIN(have, (unsigned)allowed), cpu->code, insn);

		if (decoded == X86_DECODED)
			return;
		if (decoded == X86_TOO_LONG || have >= allowed)
			x86_raise_gp(cpu);
		/* Returns if the page is there by now. */
		x86_fetch_fault(cpu, (lin + have) & x86_rip_mask(cpu));
	}
}

/* Decode the instruction at lin, which is cs:rip. */
static void
fetch(struct x86_cpu *cpu, uint64_t lin, struct x86_insn *insn)
{
	const uint8_t *page;
	gpa_t gpa;

	if (cpu->code == X86_CODE64) {
		if (!x86_canonical(lin))
			x86_raise_gp(cpu);
	} else if (cpu->rip > cpu->seg[CPU_CS].limit) {
		x86_raise_gp(cpu);
	}
	if (PAGE_OFFSET(lin) > MEM_PAGE_SIZE - X86_INSN_MAX ||
	    (cpu->code != X86_CODE64 &&
		cpu->seg[CPU_CS].limit - cpu->rip < X86_INSN_MAX - 1) ||
	    (page = x86_code_page(cpu, lin, &gpa)) == NULL) {
		fetch_slow(cpu, lin, insn);
		return;
	}
	/* Others may be writing there: the decoder reads every byte once. */
	if (x86_decode(page + PAGE_OFFSET(lin), X86_INSN_MAX, cpu->code,
		insn) != X86_DECODED)
		x86_raise_gp(cpu);
}

/* ------------------------------------------------------------------ steps */

/*
 * Opcodes that an older processor takes for another one, rather than for none:
 * F3 BSF and F3 BSR (SDM volume 2, TZCNT and LZCNT).
 */
static bool
falls_back(const struct x86_insn *insn)
{
	return insn->op->id == X86_OP_TZCNT || insn->op->id == X86_OP_LZCNT;
}

/* What an instruction that raises leaves as it found it. */
static void
remember(struct x86_cpu *cpu, struct x86_undo *undo)
{
	undo->rip = cpu->rip;
	undo->rflags = cpu->rflags;
	undo->gprs = false;
	undo->left--;
	cpu->stat_interp++;
	cpu->sti_shadow = false;
	if (!cpu->mov_ss_shadow)
		cpu->watched = 0;
	cpu->mov_ss_shadow = false;
}

/* A decoded instruction, or one round of a repeated one; raises. */
static void
run_insn(struct x86_cpu *cpu, struct x86_undo *undo,
    const struct x86_insn *insn)
{
	uint64_t begin = cpu->rip, rflags = cpu->rflags;
	const struct exec *exec;
	bool unfinished;

	if (!x86_has(cpu, insn->op->feature) && !falls_back(insn))
		x86_raise(cpu, X86_UD);
	/* There is no VEX in real and virtual-8086 mode. */
	if (insn->encoding != X86_LEGACY && !x86_protected(cpu))
		x86_raise(cpu, X86_UD);
	if (insn->op->fpu != X86_FPU_NONE)
		x86_fpu_check(cpu, insn->op->fpu);

	exec = &execs[insn->op->id];
	if (exec->undo) {
		memcpy(undo->gpr, cpu->gpr, sizeof(undo->gpr));
		undo->gprs = true;
	}
	cpu->rip = (begin + insn->len) & x86_rip_mask(cpu);
	cpu->rflags = rflags & ~X86_RF;
	exec->fn(cpu, insn);

	if ((rflags & (X86_RF | X86_TF)) == 0 && cpu->watched == 0)
		return;
	unfinished = insn->op->id >= X86_OP_MOVS &&
	    insn->op->id <= X86_OP_OUTS && cpu->rip == begin;
	if (unfinished)
		cpu->rflags |= rflags & X86_RF;
	if (x86_debug_trap(cpu, insn, rflags)) {
		/* What the instruction did stays. */
		undo->rip = cpu->rip;
		undo->rflags = cpu->rflags | (unfinished ? X86_RF : 0);
		undo->gprs = false;
		cpu->halted = false;
		x86_raise(cpu, X86_DB);
	}
}

/* The instruction at cs:rip; raises. */
static void
step(struct x86_cpu *cpu, struct x86_undo *undo)
{
	struct x86_insn insn;
	uint64_t lin = cpu->rip;
	bool shadow = cpu->mov_ss_shadow;

	remember(cpu, undo);
	if (cpu->code != X86_CODE64)
		lin = (uint32_t)(lin + cpu->seg[CPU_CS].base);

	if ((cpu->dr7 & X86_DR7_ENABLES) && !(cpu->rflags & X86_RF) && !shadow)
		x86_debug_insn(cpu, lin);

	fetch(cpu, lin, &insn);
	run_insn(cpu, undo, &insn);
}

static enum x86_step
steps(struct x86_cpu *cpu, struct x86_undo *undo)
{
	do {
		step(cpu, undo);
		if (cpu->halted)
			return X86_STEP_HALT;
	} while (undo->left > 0 && !x86_wants_attention(cpu));
	return X86_STEP_NEXT;
}

static bool
take_back(struct x86_cpu *cpu, const struct x86_undo *undo)
{
	cpu->rip = undo->rip;
	cpu->rflags = undo->rflags;
	if (undo->gprs)
		memcpy(cpu->gpr, undo->gpr, sizeof(cpu->gpr));
	return x86_deliver_exception(cpu);
}

/* n is not 0; the first is carried out whatever `attention` says. */
static enum x86_step
carry_out(struct x86_cpu *cpu, unsigned n)
{
	jmp_buf *outer = cpu->jmp;
	struct x86_undo undo;
	enum x86_step result;

	undo.left = n;
	cpu->jmp = &undo.jmp;
	if (_setjmp(undo.jmp) == 0)
		result = steps(cpu, &undo);
	else if (!take_back(cpu, &undo))
		result = X86_STEP_TRIPLE_FAULT;
	else if (undo.left > 0 && !x86_wants_attention(cpu))
		result = steps(cpu, &undo);
	else
		result = X86_STEP_NEXT;
	cpu->jmp = outer;
	return result;
}

enum x86_step
x86_step(struct x86_cpu *cpu)
{
	return carry_out(cpu, 1);
}

enum x86_step
x86_step_insn(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	jmp_buf *outer = cpu->jmp;
	struct x86_undo undo;
	enum x86_step result = X86_STEP_NEXT;

	undo.left = 1;
	cpu->jmp = &undo.jmp;
	if (_setjmp(undo.jmp) == 0) {
		remember(cpu, &undo);
		run_insn(cpu, &undo, insn);
		if (cpu->halted)
			result = X86_STEP_HALT;
	} else if (!take_back(cpu, &undo)) {
		result = X86_STEP_TRIPLE_FAULT;
	}
	cpu->jmp = outer;
	return result;
}

enum x86_step
x86_steps(struct x86_cpu *cpu, unsigned n)
{
	if (n == 0 || x86_wants_attention(cpu))
		return X86_STEP_NEXT;
	return carry_out(cpu, n);
}
