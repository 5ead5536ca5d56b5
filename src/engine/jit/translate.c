/*
 * From guest instructions to a block of host code.
 *
 * Most instructions are written out again as they are, with other registers and
 * another memory operand (reencode.h): the guest's arithmetic, vector and x87
 * instructions run on the host's own units, and its flags are the host's.  Jumps
 * and the stack have code of their own (flow.c).  Everything else is a call of
 * the interpreter, which comes back if the code behind it is what follows.
 *
 *      entry:  mov   ecx <- attention      8 bytes: see cache.c, Invalidation
 *              jrcxz body
 *              jmp   bail
 *      body:   ...
 *      cold:   slow paths of memory accesses, jumps that are not linked yet
 *      bail:   leave, to go on at the block's first instruction
 *
 * Extent       A block follows the code until something ends it: an unconditional
 *              jump, an instruction that changes what code means, the end of
 *              the page, a limit.  An instruction across two pages is a block
 *              of its own, with a guard.  Conditional jumps leave it at the side.
 * Precision    An instruction changes guest registers, flags and memory only by
 *              its last host instruction that can fault; so a fault finds the
 *              state from before it.  Guest R12 to R15, which have no register,
 *              and RCX, where an instruction insists on it, are loaded before
 *              and stored after.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "engine/jit/jit_impl.h"
#include "engine/x86/reencode.h"

/* One instruction, its slow paths and exits need less. */
#define INSN_ROOM 512u

/* ------------------------------------------------------- as it is, renamed */

struct renamed {
	uint8_t bytes[X86_REENCODED_MAX];
	unsigned len;
	uint32_t load, store; /* guest registers around it */
	uint8_t host[CPU_GPRS];
	bool lean; /* the memory operand is T1 alone, T2 holds a register */
	bool low;  /* ... is T0, because REX is not allowed */
};

static unsigned
memory_operand(const struct x86_insn *insn)
{
	unsigned i = 0;

	while (i < insn->operands && insn->opnd[i].kind != X86_K_MEM)
		i++;
	return i;
}

static bool
is_high(const struct x86_insn *insn)
{
	for (unsigned i = 0; i < insn->operands; i++) {
		if (insn->opnd[i].kind == X86_K_HIGH)
			return true;
	}
	return false;
}

/* Which guest registers the instruction names, and which of those it writes. */
static void
named_gprs(const struct x86_insn *insn, uint32_t *named, uint32_t *written)
{
	*named = *written = 0;
	for (unsigned i = 0; i < insn->operands; i++) {
		const struct x86_operand *o = &insn->opnd[i];

		if (o->kind != X86_K_GPR && o->kind != X86_K_HIGH)
			continue;
		*named |= (uint32_t)BIT(o->reg);
		if (o->rw & X86_W)
			*written |= (uint32_t)BIT(o->reg);
	}
}

/* Fixed use of rCX: the processor wants it in its own place. */
static bool
wants_rcx(const struct x86_insn *insn)
{
	if ((insn->op->fixed_read | insn->op->fixed_written) & BIT(CPU_RCX))
		return true;
	for (unsigned i = 0; i < insn->operands; i++) {
		const struct x86_operand *o = &insn->opnd[i];

		if (o->kind == X86_K_GPR && o->slot == X86_S_FIXED &&
		    o->reg == CPU_RCX)
			return true;
	}
	return false;
}

/* Choose host registers and re-encode; false: not possible this way. */
static bool
rename_registers(const struct x86_insn *insn, struct renamed *r)
{
	struct x86_regmap map = { .base = X86_NO_REG, .index = X86_NO_REG };
	uint8_t temps[3] = { T0, T1, T2 };
	uint32_t named, written;
	unsigned next = 0;
	bool high = is_high(insn);
	int n;

	memset(r, 0, sizeof(*r));
	named_gprs(insn, &named, &written);
	for (unsigned g = 0; g < CPU_GPRS; g++)
		map.gpr[g] = (uint8_t)(jit_home(g) != NOREG ? jit_home(g) : 0);
	if (wants_rcx(insn) || (high && (named & BIT(CPU_RCX)))) {
		map.gpr[CPU_RCX] = RCX;
		r->load |= (uint32_t)BIT(CPU_RCX);
		if ((written | insn->op->fixed_written) & BIT(CPU_RCX))
			r->store |= (uint32_t)BIT(CPU_RCX);
		next = 1; /* T0 is taken */
	}
	if (insn->has_mem && high) {
		if (next != 0)
			return false;
		r->low = true;
		map.base = T0;
		next = 3;
	} else if (insn->has_mem) {
		map.base = T1;
		map.index = T2;
		temps[1] = T2; /* if need be, made free by an LEA */
	}
	for (unsigned g = CPU_R12; g <= CPU_R15; g++) {
		if (!(named & BIT(g)))
			continue;
		if (next >= (insn->has_mem ? 2u : 3u))
			return false;
		if (insn->has_mem && next == 1) {
			r->lean = true;
			map.index = X86_NO_REG;
		}
		map.gpr[g] = temps[next++];
		r->load |= (uint32_t)BIT(g);
		if (written & BIT(g))
			r->store |= (uint32_t)BIT(g);
	}
	memcpy(r->host, map.gpr, sizeof(r->host));
	n = x86_reencode(insn, &map, r->bytes);
	if (n <= 0)
		return false;
	r->len = (unsigned)n;
	return true;
}

static bool
emit_renamed(struct trans *t)
{
	struct emit *e = &t->e;
	const struct x86_insn *insn = t->insn;
	struct renamed r;

	if (!rename_registers(insn, &r))
		return false;
	if (insn->has_mem) {
		const struct x86_operand *o = &insn->opnd[memory_operand(insn)];

		if (!jit_emit_address(t))
			return false;
		jit_emit_check(t, o->size, o->rw & X86_W);
		if (r.low)
			emit_lea(e, true, T0, T1, T2, 0, 0);
		else if (r.lean)
			emit_lea(e, true, T1, T1, T2, 0, 0);
	}
	for (unsigned g = 0; g < CPU_GPRS; g++) {
		if (!(r.load & BIT(g)))
			continue;
		if (jit_home(g) != NOREG)
			emit_mov(e, true, r.host[g], jit_home(g));
		else
			emit_state(e, true, OP_LOAD, r.host[g], CPU_GPR_AT(g));
	}
	memcpy(e->p, r.bytes, r.len);
	e->p += r.len;
	for (unsigned g = 0; g < CPU_GPRS; g++) {
		if (!(r.store & BIT(g)))
			continue;
		if (jit_home(g) != NOREG)
			emit_mov(e, true, jit_home(g), r.host[g]);
		else
			emit_state(e, true, OP_STORE, r.host[g], CPU_GPR_AT(g));
	}
	return true;
}

/* LEA computes an address and goes nowhere. */
static bool
emit_lea_insn(struct trans *t)
{
	struct emit *e = &t->e;
	struct x86_insn plain = *t->insn;
	const struct x86_insn *insn = t->insn;
	unsigned to = jit_home(insn->opnd[0].reg);
	bool done;

	if (insn->opsize == 2 || insn->opnd[0].kind != X86_K_GPR)
		return false;
	plain.seg = CPU_DS; /* no segment base is added */
	t->insn = &plain;
	done = jit_emit_address(t);
	t->insn = insn;
	if (!done)
		return false;
	if (to != NOREG)
		emit_mov(e, insn->opsize == 8, to, T1);
	else if (insn->opsize == 8)
		emit_state(e, true, OP_STORE, T1,
		    CPU_GPR_AT(insn->opnd[0].reg));
	else {
		emit_mov(e, false, T1, T1); /* the upper half is cleared */
		emit_state(e, true, OP_STORE, T1,
		    CPU_GPR_AT(insn->opnd[0].reg));
	}
	return true;
}

/* -------------------------------------------------------- what is allowed */

static bool
unit_is_on(const struct trans *t)
{
	switch ((enum x86_fpu)t->insn->op->fpu) {
	case X86_FPU_NONE:
		return true;
	case X86_FPU_X87:
	case X86_FPU_WAIT:
	case X86_FPU_MMX:
		return t->mode & JIT_MODE_X87;
	case X86_FPU_SSE:
		return t->mode & JIT_MODE_SSE;
	case X86_FPU_AVX:
		return t->mode & JIT_MODE_AVX;
	case X86_FPU_AVX512:
		return t->mode & JIT_MODE_AVX512;
	case X86_FPU_AMX:
		return false;
	}
	return false;
}

/* x87 state images hold the address of an instruction: ours would be the host's. */
static bool
stores_environment(const struct x86_insn *insn)
{
	return insn->has_mem && insn->op->fpu == X86_FPU_X87 &&
	    insn->opnd[memory_operand(insn)].size > 10;
}

static bool
emit_plain(struct trans *t)
{
	const struct x86_insn *insn = t->insn;

	if (!unit_is_on(t) || stores_environment(insn))
		return false;
	if (insn->op->id == X86_OP_LEA)
		return emit_lea_insn(t);
	if (insn->has_mem && (insn->op->attrs & X86_A_NO_MEM_READ))
		return insn->op->id == X86_OP_NOP; /* nothing to emit */
	if (insn->has_mem &&
	    (insn->op->attrs & (X86_A_BITSTR | X86_A_VSIB | X86_A_MASKED)))
		return false;
	return emit_renamed(t);
}

/* True: handled; *ends: nothing follows. */
static bool
emit_insn(struct trans *t, bool *ends)
{
	*ends = false;
	if (!x86_has(t->cpu, t->insn->op->feature))
		return false;
	switch ((enum x86_class)t->insn->op->cls) {
	case X86_C_PLAIN:
	case X86_C_VECTOR:
		return t->insn->op->id != X86_OP_UD &&
		    !t->jit->engine.params.soft.no_native && emit_plain(t);
	case X86_C_FLOW:
		return jit_emit_flow(t, ends);
	case X86_C_STACK:
		return jit_emit_stack(t);
	case X86_C_SYSTEM:
		return jit_emit_system(t);
	default:
		return false;
	}
}

/* ------------------------------------------------------------------ blocks */

/* attention, and a way out if it is set. */
static void
emit_entry(struct trans *t, uint8_t **bail)
{
	struct emit *e = &t->e;
	uint8_t *body;

	emit_state(e, false, OP_LOAD, RCX, CPU_FIELD(attention));
	body = emit_jrcxz(e);
	*bail = emit_branch_later(e, OP_JMP);
	emit_land8(e, body);
}

/* Does code behind it seldom follow, or in another mode? */
static bool
ends_block(const struct x86_insn *insn)
{
	switch (insn->op->id) {
	case X86_OP_UD:
	case X86_OP_HLT:
	case X86_OP_STI: /* its shadow is the interpreter's */
	case X86_OP_MOV_TO_CR:
	case X86_OP_JMP_IND:
	case X86_OP_CALL_IND:
	case X86_OP_RET:
		return true;
	default:
		return insn->op->id >= X86_OP_JMP_FAR &&
		    insn->op->id <= X86_OP_SYSEXIT;
	}
}

/*
 * An instruction that goes on in the next page is a block of its own.  Its
 * bytes are where they were as long as the TLB of code says so: where it does
 * not, it may know no better and be told by the interpreter.
 */
static enum x86_decoded
decode_straddling(struct trans *t, struct x86_insn *insn)
{
	unsigned here = MEM_PAGE_SIZE - t->at;
	uint8_t bytes[X86_INSN_MAX];

	if (t->page2 == NULL || here >= X86_INSN_MAX)
		return X86_SHORT;
	memcpy(bytes, t->page + t->at, here);
	memcpy(bytes + here, t->page2, X86_INSN_MAX - here);
	if (x86_decode(bytes, X86_INSN_MAX, t->code, insn) != X86_DECODED)
		return X86_SHORT;
	t->straddles = true;
	return X86_DECODED;
}

static void
emit_straddle_guard(struct trans *t)
{
	struct emit *e = &t->e;
	uint32_t entry = CPU_FIELD(itlb);
	int32_t tag =
	    (t->mode & JIT_MODE_CPL3 ? 2 : 0) + (int32_t)MEM_PAGE_SIZE;
	uint8_t *known, *same;

	_Static_assert(sizeof(struct x86_itlb_entry) == 32, "4 times 8");
	emit_state(e, true, OP_LOAD, T1, CPU_FIELD(code_base));
	emit_lea(e, true, T2, T1, NOREG, 0, MEM_PAGE_SIZE);
	emit_pext_state(e, T2, T2, CPU_FIELD(pext_itlb));
	emit_lea(e, true, T2, NOREG, T2, 2, 0);
	/* tag - (code_base + 4096 | CPL 3) */
	emit_state_index(e, true, OP_LOAD, T0, T2,
	    entry + (uint32_t)offsetof(struct x86_itlb_entry, tag));
	emit_not(e, T0);
	emit_lea(e, true, T0, T0, T1, 0, tag + 1);
	known = emit_jrcxz(e);
	jit_emit_emulate(t);
	emit_land8(e, known);
	emit_rex(e, true, 0, 0, T1); /* mov T1, imm64 */
	emit8(e, 0xb8 | (T1 & 7));
	emit64(e, ~t->gpa2);
	emit_state_index(e, true, OP_LOAD, T0, T2,
	    entry + (uint32_t)offsetof(struct x86_itlb_entry, gpa));
	emit_lea(e, true, T0, T0, T1, 0, 1);
	same = emit_jrcxz(e);
	jit_emit_emulate(t);
	emit_land8(e, same);
}

/* Translate from t->at on; the number of instructions, 0: none. */
static unsigned
translate_insns(struct trans *t, struct jit_block *block)
{
	unsigned n = 0;

	for (;;) {
		enum x86_decoded decoded;
		struct x86_insn insn;
		unsigned colds;
		bool ends;

		if (n == JIT_BLOCK_INSNS || t->straddles ||
		    t->colds > JIT_BLOCK_COLD - 8 ||
		    !emit_room(&t->e, (t->colds + 2) * 64 + INSN_ROOM) ||
		    t->at >= MEM_PAGE_SIZE) {
			jit_emit_goto(t, t->at);
			return n;
		}
		decoded = x86_decode(t->page + t->at, MEM_PAGE_SIZE - t->at,
		    t->code, &insn);
		if (decoded == X86_SHORT && n == 0)
			decoded = decode_straddling(t, &insn);
		if (decoded != X86_DECODED) {
			if (n > 0)
				jit_emit_goto(t, t->at);
			return n;
		}
		block->places[n].host =
		    (uint32_t)(emit_here(&t->e) - block->entry);
		block->places[n].guest = (uint16_t)t->at;
		t->insn = &insn;
		if (t->straddles)
			emit_straddle_guard(t);
		colds = t->colds;
		if (!emit_insn(t, &ends)) {
			ends = ends_block(&insn);
			jit_emit_interpret(t);
			if (ends)
				jit_emit_goto(t, (int64_t)t->at + insn.len);
		} else if (insn.op->cls != X86_C_FLOW) {
			for (unsigned i = colds; i < t->colds; i++)
				t->cold[i].done = t->e.p;
		}
		n++;
		t->at += insn.len;
		if (ends)
			return n;
	}
}

static struct jit_block *
make_block(struct jit_vcpu *vcpu, const uint8_t *page, gpa_t gpa,
    const uint8_t *page2, gpa_t gpa2, uint32_t mode)
{
	struct jit_cache *cache = &vcpu->jit->cache;
	struct jit_place places[JIT_BLOCK_INSNS];
	struct trans t = {
		.e = {
			.p = cache->rw + cache->used,
			.end = cache->rw + cache->used + JIT_BLOCK_ROOM,
			.rx = cache->rx - cache->rw,
		},
		.jit = vcpu->jit,
		.cpu = vcpu->cpu,
		.mode = mode,
		.code = mode & JIT_MODE_CODE,
		.at = gpa % MEM_PAGE_SIZE,
		.page = page,
		.page2 = page2,
		.gpa2 = gpa2,
		.block = xcalloc(1, sizeof(*t.block)),
	};
	struct jit_block *block = t.block;
	uint8_t *bail;

	emit_align(&t.e, 8, 0);
	block->gpa = gpa;
	block->mode = mode;
	block->entry = emit_here(&t.e);
	block->places = places;
	emit_entry(&t, &bail);
	block->insns = (uint16_t)translate_insns(&t, block);
	if (block->insns == 0) {
		free(block);
		return NULL;
	}
	block->len = (uint16_t)(t.at - gpa % MEM_PAGE_SIZE);
	jit_emit_cold(&t);
	block->bail = emit_here(&t.e);
	emit_land32(&t.e, bail);
	emit_mov_imm32(&t.e, T0, gpa % MEM_PAGE_SIZE);
	emit_branch(&t.e, OP_JMP, cache->stubs.attention);
	block->end = emit_here(&t.e);
	block->places =
	    xreallocarray(NULL, block->insns, sizeof(block->places[0]));
	memcpy(block->places, places, block->insns * sizeof(block->places[0]));
	cache->used = (size_t)(t.e.p - cache->rw);
	return block;
}

/* The linear address of the page behind the one of cs:rip. */
static uint64_t
next_page(const struct x86_cpu *cpu)
{
	uint64_t lin =
	    (cpu->rip & ~(uint64_t)(MEM_PAGE_SIZE - 1)) + MEM_PAGE_SIZE;

	return cpu->code == X86_CODE64 ? lin : lin & UINT32_MAX;
}

struct jit_block *
jit_translate(struct jit_vcpu *vcpu, const uint8_t *page, gpa_t gpa,
    uint32_t mode)
{
	struct jit *jit = vcpu->jit;
	struct jit_block *block;
	const uint8_t *page2 = NULL;
	gpa_t gpa2 = 0;

	/* Only near the end of its page can an instruction leave it. */
	if (MEM_PAGE_SIZE - gpa % MEM_PAGE_SIZE < X86_INSN_MAX)
		page2 = x86_code_known(vcpu->cpu, next_page(vcpu->cpu), &gpa2);
	code_lock_take(jit);
	/* Another vCPU may have been first. */
	block = jit_cache_find(jit, gpa, mode);
	if (block == NULL) {
		jit_cache_reserve_locked(jit, vcpu);
		jit_cache_claim_locked(jit, vcpu, gpa);
		if (page2 != NULL)
			jit_cache_claim_locked(jit, vcpu, gpa2);
		block = make_block(vcpu, page, gpa, page2, gpa2, mode);
		if (block != NULL) {
			jit_cache_add_locked(jit, block, gpa2);
			jit_inspect_block(jit, block, page);
		}
	}
	code_lock_drop(jit);
	return block;
}
