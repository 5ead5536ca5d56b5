/*
 * Code for jumps, calls, returns and the stack.
 *
 * Within a page a jump goes straight to the block it leads to, once that is
 * known: until then to a way out that asks for it to be linked.  To another page,
 * where linear neighbours need not be physical ones, and for indirect jumps and
 * returns, the target's rip is looked up in the processor's table of jumps:
 *
 *              T1 = rip
 *              rorx  index <- T1; lea index <- index + T1; pext index
 *              mov   t <- tag[index]; lea t <- t + T1 + 1; jrcxz hit
 *              mov   t <- what undoes the jump; jmp lookup
 *      hit:    code_base = base[index]; jmp host[index]
 *
 * Every block looks at `attention` when it is entered, so no loop can keep
 * others waiting.
 */
#include "base/alloc.h"
#include "engine/jit/jit_impl.h"

/*
 * T1 is where to go on; rSP is `moved` from where it was before the instruction
 * at page offset `at`, which is carried out again if T1 is not canonical.
 */
static void
emit_jump_table(struct trans *t, unsigned at, int moved)
{
	struct emit *e = &t->e;
	uint32_t jumps = CPU_FIELD(jumps) +
	    jit_jump_set(t->mode) * (uint32_t)sizeof(struct x86_jumps);
	uint8_t *hit;

	emit_rorx(e, T2, T1, X86_JUMPS_ROTATE);
	emit_lea(e, true, T2, T1, T2, 0, 0);
	emit_pext_state(e, T2, T2, CPU_FIELD(pext_jump));
	emit_state_index(e, true, OP_LOAD, T0, T2,
	    jumps + (uint32_t)offsetof(struct x86_jumps, tag));
	emit_lea(e, true, T0, T0, T1, 0, 1);
	hit = emit_jrcxz(e);
	emit_mov_imm32(e, T0, JIT_LOOKUP_UNDO(at, moved));
	emit_branch(e, OP_JMP, t->jit->cache.stubs.lookup);
	emit_land8(e, hit);
	emit_state_index(e, true, OP_LOAD, T0, T2,
	    jumps + (uint32_t)offsetof(struct x86_jumps, base));
	emit_state(e, true, OP_STORE, T0, CPU_FIELD(code_base));
	emit8(e, 0x65); /* jmp gs:host[T2 * 8] */
	emit_rex(e, false, 4, T2, 0);
	emit8(e, 0xff);
	emit_modrm_mem(e, 4, NOREG, T2, 3,
	    (int32_t)(jumps + offsetof(struct x86_jumps, host)));
}

/* T1 = code_base + target, in the width of rip. */
static void
emit_rip(struct trans *t, unsigned reg, int64_t target)
{
	emit_state(&t->e, true, OP_LOAD, reg, CPU_FIELD(code_base));
	emit_lea(&t->e, t->code == X86_CODE64, reg, reg, NOREG, 0,
	    (int32_t)target);
}

static bool
on_page(int64_t target)
{
	return target >= 0 && target < MEM_PAGE_SIZE;
}

void
jit_emit_emulate(struct trans *t)
{
	emit_mov_imm32(&t->e, T0, t->at);
	emit_branch(&t->e, OP_JMP, t->jit->cache.stubs.emulate);
}

void
jit_emit_interpret(struct trans *t)
{
	struct emit *e = &t->e;
	struct jit_decoded *decoded = xcalloc(1, sizeof(*decoded));

	decoded->insn = *t->insn;
	decoded->next = t->block->decoded;
	t->block->decoded = decoded;
	emit_rex(e, true, 0, 0, T1); /* mov T1, imm64 */
	emit8(e, 0xb8 | (T1 & 7));
	emit64(e, (uint64_t)(uintptr_t)&decoded->insn);
	emit_mov_imm32(e, T0, t->at);
	emit_branch(e, OP_CALL, t->jit->cache.stubs.interpret);
}

/* As emit_jump_table(), to a place that is known. */
static void
emit_goto(struct trans *t, int64_t target, unsigned at, int moved)
{
	struct emit *e = &t->e;
	struct jit_cold *cold;

	if (!on_page(target)) {
		emit_rip(t, T1, target);
		emit_jump_table(t, at, moved);
		return;
	}
	cold = &t->cold[t->colds++];
	cold->kind = COLD_JUMP;
	cold->target = (int32_t)target;
	emit_align(e, 4, 1);
	cold->from = emit_branch_later(e, OP_JMP);
}

/* The code goes on there of itself: so nothing is to be undone. */
void
jit_emit_goto(struct trans *t, int64_t target)
{
	emit_goto(t, target, (unsigned)target, 0);
}

static void
emit_jcc(struct trans *t, int64_t target)
{
	struct emit *e = &t->e;
	struct jit_cold *cold = &t->cold[t->colds++];

	cold->kind = COLD_JUMP;
	cold->target = (int32_t)target;
	cold->what = t->at;
	emit_align(e, 4, 2);
	cold->from = emit_branch_later(e, OP_JCC | (t->insn->opcode & 0xf));
}

void
jit_emit_cold(struct trans *t)
{
	struct emit *e = &t->e;
	const struct jit_stubs *stubs = &t->jit->cache.stubs;

	for (unsigned i = 0; i < t->colds; i++) {
		struct jit_cold *cold = &t->cold[i];

		emit_land32(e, cold->from);
		switch (cold->kind) {
		case COLD_LOAD:
		case COLD_STORE:
			emit_mov_imm32(e, T0, cold->what);
			emit_branch(e, OP_CALL,
			    cold->kind == COLD_LOAD ? stubs->load :
						      stubs->store);
			emit_branch(e, OP_JMP, cold->retry + e->rx);
			/* Not reached after a jump. */
			emit_branch(e, OP_JMP,
			    (cold->done != NULL ? cold->done : cold->retry) +
				e->rx);
			break;
		case COLD_JUMP:
			if (on_page(cold->target)) {
				emit_mov_imm32(e, T1,
				    jit_cache_exit_locked(t->jit,
					cold->from - 4, t->block->gpa));
				emit_mov_imm32(e, T0, (uint32_t)cold->target);
				emit_branch(e, OP_JMP, stubs->link);
			} else {
				emit_rip(t, T1, cold->target);
				emit_jump_table(t, cold->what, 0);
			}
			break;
		}
	}
}

/* ------------------------------------------------------------------ stack */

static unsigned
stack_size(const struct trans *t)
{
	return t->code == X86_CODE64 ? 8 : 4;
}

/* rSP + n into reg. */
static void
emit_stack_lea(struct trans *t, unsigned reg, int n)
{
	emit_lea(&t->e, t->code == X86_CODE64, reg, HOST_GUEST_RSP, NOREG, 0,
	    n);
}

/* The place of a new item: T1 + T2. */
static void
emit_push_check(struct trans *t)
{
	int size = (int)stack_size(t);

	emit_stack_lea(t, T1, -size);
	jit_emit_check(t, (unsigned)size, true);
}

/* The value is in reg: store it there, and rSP moves. */
static void
emit_push_value(struct trans *t, unsigned reg)
{
	emit_rm(&t->e, t->code == X86_CODE64, OP_STORE, reg, T1, T2, 0, 0);
	emit_stack_lea(t, HOST_GUEST_RSP, -(int)stack_size(t));
}

/* Load the top of the stack into reg, which may be T0 or T1. */
static void
emit_pop_value(struct trans *t, unsigned reg)
{
	emit_stack_lea(t, T1, 0);
	jit_emit_check(t, stack_size(t), false);
	emit_rm(&t->e, t->code == X86_CODE64, OP_LOAD, reg, T1, T2, 0, 0);
}

/* Load the memory operand into reg. */
static bool
emit_load_operand(struct trans *t, unsigned reg)
{
	if (!jit_emit_address(t))
		return false;
	jit_emit_check(t, stack_size(t), false);
	emit_rm(&t->e, t->code == X86_CODE64, OP_LOAD, reg, T1, T2, 0, 0);
	return true;
}

static bool
emit_push(struct trans *t)
{
	struct emit *e = &t->e;
	const struct x86_operand *o = &t->insn->opnd[0];
	bool wide = t->code == X86_CODE64;
	unsigned reg;

	switch (o->kind) {
	case X86_K_GPR:
		emit_push_check(t);
		reg = jit_emit_use(t, o->reg, T0);
		break;
	case X86_K_IMM:
		emit_push_check(t);
		emit_mov_imm(e, T0, (int32_t)t->insn->imm);
		reg = T0;
		break;
	case X86_K_MEM:
		if (!emit_load_operand(t, T0))
			return false;
		emit_state(e, wide, OP_STORE, T0, CPU_FIELD(jit_tmp));
		emit_push_check(t);
		emit_state(e, wide, OP_LOAD, T0, CPU_FIELD(jit_tmp));
		reg = T0;
		break;
	default:
		return false;
	}
	emit_push_value(t, reg);
	return true;
}

static bool
emit_pop(struct trans *t)
{
	struct emit *e = &t->e;
	const struct x86_operand *o = &t->insn->opnd[0];
	unsigned home;

	if (o->kind != X86_K_GPR)
		return false;
	home = jit_home(o->reg);
	if (o->reg == CPU_RSP) {
		emit_pop_value(t, HOST_GUEST_RSP);
		return true;
	}
	emit_pop_value(t, home != NOREG ? home : T0);
	if (home == NOREG)
		emit_state(e, true, OP_STORE, T0, CPU_GPR_AT(o->reg));
	emit_stack_lea(t, HOST_GUEST_RSP, (int)stack_size(t));
	return true;
}

static void
emit_leave(struct trans *t)
{
	struct emit *e = &t->e;
	bool wide = t->code == X86_CODE64;

	emit_lea(e, wide, T1, RBP, NOREG, 0, 0);
	jit_emit_check(t, stack_size(t), false);
	emit_rm(e, wide, OP_LOAD, T0, T1, T2, 0, 0);
	emit_lea(e, wide, HOST_GUEST_RSP, RBP, NOREG, 0, (int)stack_size(t));
	emit_mov(e, wide, RBP, T0);
}

bool
jit_emit_stack(struct trans *t)
{
	if (t->insn->opsize != stack_size(t))
		return false;
	switch (t->insn->op->id) {
	case X86_OP_PUSH:
		return emit_push(t);
	case X86_OP_POP:
		return emit_pop(t);
	case X86_OP_LEAVE:
		emit_leave(t);
		return true;
	default:
		return false;
	}
}

/* ------------------------------------------------------------------- flow */

/* Push the address of the next instruction. */
static void
emit_push_return(struct trans *t)
{
	emit_push_check(t);
	emit_rip(t, T0, (int64_t)t->at + t->insn->len);
	emit_push_value(t, T0);
}

/* The target of an indirect jump or call into jit_tmp. */
static bool
emit_target(struct trans *t)
{
	const struct x86_operand *o = &t->insn->opnd[0];
	bool wide = t->code == X86_CODE64;

	if (o->kind == X86_K_GPR) {
		/* In a copy of the right width. */
		unsigned reg = jit_emit_use(t, o->reg, T1);

		emit_mov(&t->e, wide, T1, reg);
	} else if (o->kind != X86_K_MEM || !emit_load_operand(t, T1)) {
		return false;
	}
	return true;
}

/* A call to no address must not have pushed: it is left to the interpreter. */
static void
emit_canonical_check(struct trans *t)
{
	struct emit *e = &t->e;
	uint8_t *canonical;

	if (t->code != X86_CODE64)
		return;
	emit_rorx(e, T0, T1, 47);
	emit_lea(e, true, T0, T0, NOREG, 0, 1);
	emit_pext_state(e, T0, T0, CPU_FIELD(pext_sign));
	canonical = emit_jrcxz(e);
	jit_emit_emulate(t);
	emit_land8(e, canonical);
}

bool
jit_emit_flow(struct trans *t, bool *ends)
{
	struct emit *e = &t->e;
	const struct x86_insn *insn = t->insn;
	int64_t next = (int64_t)t->at + insn->len;
	int64_t target = next + (int64_t)insn->imm;
	int size = (int)stack_size(t);

	if (insn->opsize != stack_size(t) || target != (int32_t)target)
		return false;
	*ends = true;
	switch (insn->op->id) {
	case X86_OP_JCC:
		emit_jcc(t, target);
		*ends = false;
		return true;
	case X86_OP_JMP:
		emit_goto(t, target, t->at, 0);
		return true;
	case X86_OP_CALL:
		emit_push_return(t);
		emit_goto(t, target, t->at, -size);
		return true;
	case X86_OP_JMP_IND:
		if (!emit_target(t))
			return false;
		emit_jump_table(t, t->at, 0);
		return true;
	case X86_OP_CALL_IND:
		if (!emit_target(t))
			return false;
		emit_canonical_check(t);
		emit_state(e, true, OP_STORE, T1, CPU_FIELD(jit_tmp));
		emit_push_return(t);
		emit_state(e, true, OP_LOAD, T1, CPU_FIELD(jit_tmp));
		emit_jump_table(t, t->at, 0);
		return true;
	case X86_OP_RET:
		emit_pop_value(t, T1);
		size += (int)(uint32_t)insn->imm;
		emit_stack_lea(t, HOST_GUEST_RSP, size);
		emit_jump_table(t, t->at, size);
		return true;
	default:
		return false;
	}
}
