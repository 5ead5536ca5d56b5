/*
 * Code for memory operands: the address, the look into the TLB, the slow path.
 *
 * Nothing here changes the flags, so that a fault in the middle of a block finds
 * the guest's as they were, and no liveness needs to be known.  The look is
 *
 *              pext  index <- address, bits of the page number
 *              mov   t <- tag[index]           the complement of the page
 *              lea   t <- t + address + size   offset of the last byte in it
 *              pext  t <- t, all but the low 12 bits
 *              jrcxz hit
 *              jmp   slow                      behind the block
 *      hit:    mov   T2 <- addend[index]       the place is T1 + T2
 *
 * An access across two pages has an offset beyond the page and goes the slow way,
 * as does one that wraps around 4 GiB in 32-bit code.  The slow path fills the
 * TLB and tries again, or has the interpreter carry out the instruction and goes
 * on behind it.  What it is told: the page offset (12 bits), the instruction's
 * length (4), the size of the access (8).
 */
#include "engine/jit/jit_impl.h"

unsigned
jit_home(unsigned gpr)
{
	switch (gpr) {
	case CPU_RCX:
		return HOST_GUEST_RCX;
	case CPU_RSP:
		return HOST_GUEST_RSP;
	case CPU_R12:
	case CPU_R13:
	case CPU_R14:
	case CPU_R15:
		return NOREG;
	default:
		return gpr;
	}
}

unsigned
jit_emit_use(struct trans *t, unsigned gpr, unsigned tmp)
{
	unsigned home = jit_home(gpr);

	if (home != NOREG)
		return home;
	emit_state(&t->e, true, OP_LOAD, tmp, CPU_GPR_AT(gpr));
	return tmp;
}

/* Is the segment one that the translator can add, or ignore? */
static bool
segment_fits(const struct trans *t, bool write, bool *add)
{
	const struct x86_insn *insn = t->insn;

	*add = insn->seg == CPU_FS || insn->seg == CPU_GS;
	if (t->code == X86_CODE64)
		return true;
	if (insn->seg == CPU_FS)
		return t->mode & JIT_MODE_FS_FLAT;
	if (insn->seg == CPU_GS)
		return t->mode & JIT_MODE_GS_FLAT;
	return insn->seg != CPU_CS; /* not writable, perhaps not readable */
}

bool
jit_emit_address(struct trans *t)
{
	struct emit *e = &t->e;
	const struct x86_insn *insn = t->insn;
	bool wide = insn->addrsize == 8;
	unsigned base = NOREG, index = NOREG;
	int64_t disp = insn->disp;
	bool add_segment;

	if (!segment_fits(t, false, &add_segment) || insn->addrsize == 2 ||
	    (insn->op->attrs & X86_A_VSIB))
		return false;
	if (insn->base == X86_BASE_RIP) {
		disp += (int64_t)t->at + insn->len;
		if (disp != (int32_t)disp)
			return false;
		emit_state(e, true, OP_LOAD, T1, CPU_FIELD(code_base));
		base = T1;
	} else if (insn->base != X86_NO_REG) {
		base = jit_emit_use(t, insn->base, T1);
	}
	if (insn->index != X86_NO_REG)
		index = jit_emit_use(t, insn->index, T2);
	if (base == NOREG && index == NOREG) {
		if (!wide) {
			emit_mov_imm32(e, T1, (uint32_t)disp);
		} else if (disp == (int32_t)disp) {
			emit_mov_imm(e, T1, (int32_t)disp);
		} else {
			emit_rex(e, true, 0, 0, T1); /* mov T1, imm64 */
			emit8(e, 0xb8 | (T1 & 7));
			emit64(e, (uint64_t)disp);
		}
	} else if (wide && index == NOREG && disp == 0) {
		emit_mov(e, true, T1, base);
	} else {
		emit_lea(e, wide, T1, base, index, insn->scale, (int32_t)disp);
	}
	if (add_segment) {
		emit_state(e, true, OP_LOAD, T0,
		    CPU_FIELD(seg[0].base) +
			insn->seg * (uint32_t)sizeof(struct cpu_segment));
		emit_lea(e, t->code == X86_CODE64, T1, T1, T0, 0, 0);
	}
	return true;
}

void
jit_emit_check(struct trans *t, unsigned size, bool write)
{
	struct emit *e = &t->e;
	uint32_t tlb = CPU_FIELD(tlb) +
	    ((t->mode & JIT_MODE_VIEW) >> 2) * (uint32_t)sizeof(struct x86_tlb);
	uint32_t tags = tlb +
	    (uint32_t)(write ? offsetof(struct x86_tlb, write) :
			       offsetof(struct x86_tlb, read));
	struct jit_cold *cold = &t->cold[t->colds++];
	uint8_t *hit;

	cold->kind = write ? COLD_STORE : COLD_LOAD;
	cold->what = t->at | size << 16;
	if (t->insn->op->cls != X86_C_FLOW) /* else nothing is behind it */
		cold->what |= (uint32_t)t->insn->len << 12;
	cold->done = NULL; /* not known yet */
	cold->retry = e->p;
	emit_pext_state(e, T2, T1, CPU_FIELD(pext_index));
	emit_state_index(e, true, OP_LOAD, T0, T2, tags);
	emit_lea(e, true, T0, T0, T1, 0, (int32_t)size);
	emit_pext_state(e, T0, T0, CPU_FIELD(pext_page));
	hit = emit_jrcxz(e);
	cold->from = emit_branch_later(e, OP_JMP);
	emit_land8(e, hit);
	emit_state_index(e, true, OP_LOAD, T2, T2,
	    tlb + (uint32_t)offsetof(struct x86_tlb, addend));
}
