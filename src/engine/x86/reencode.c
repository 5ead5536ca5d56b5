/*
 * Re-encoding: one decoded instruction as 64-bit code with other registers and
 * another memory operand.
 *
 * Models       Intel SDM volume 2, chapter 2: legacy prefixes, REX, ModRM and
 *              SIB (2.1, 2.2), VEX (2.3), EVEX (2.7).
 * Method       Three fields name registers (ModRM.reg, ModRM.rm or the opcode's
 *              low bits, VEX.vvvv).  They are gathered with their high bits
 *              from the operands, general registers through the map, and the
 *              instruction is put together around them.
 *
 *              What is kept: the opcode or the ModRM.reg that extends it, the
 *              mandatory prefix, LOCK, W, vector length, EVEX's mask, zeroing,
 *              broadcast and rounding, the immediate.  What is dropped: address
 *              size and segment prefixes (the caller's address stands for
 *              them), hints, REP where it means nothing.  The prefix 66 is
 *              decided anew, because 64-bit code has 32-bit operands without
 *              it where 16-bit code has them with it.
 *
 *              16- and 32-bit code knows encodings that 64-bit code uses for
 *              something else: INC and DEC of 40-4F become FF, 82 becomes 80,
 *              MOV with an absolute address gets a ModRM.  VEX.W and EVEX.W
 *              count as 0 for general registers there.  VZEROALL and
 *              VZEROUPPER have no 64-bit form: they would clear registers 8 to
 *              15, too.
 * Differences  X86_OP_NOP of any form becomes the one byte 90.  Hints are of no
 *              use at the caller's address, and what is a NOP for the guest
 *              (MPX, RDSSP) need not be one on its host.
 *              LEA computes the given address, not the guest's.
 * Invariants   1. A result has at most 14 bytes, so no processor refuses it as
 *                 too long: gs, LOCK, 66, a mandatory prefix and REX never meet
 *                 all together.
 *              2. EVEX displacements are 0 or 32 bits wide: an 8-bit one would
 *                 be scaled (2.7.5).
 */
#include <errno.h>
#include <string.h>

#include "engine/x86/reencode.h"

/* Host registers with meanings of their own in ModRM and SIB, low 3 bits. */
#define RM_SIB 4u     /* rsp, r12 as rm: a SIB byte follows */
#define RM_NO_DISP 5u /* rbp, r13 as base with mod 0: disp32 without base */
#define INDEX_NONE 4u /* rsp as index: none */
#define REX_ANY 0x40u

/* Where the registers go; general ones are the host's. */
struct fields {
	uint8_t reg;   /* ModRM.reg and its high bits */
	uint8_t rm;    /* ModRM.rm, if that is a register, or the opcode's */
	uint8_t vvvv;  /* not inverted */
	bool gpr;      /* there is a general register among them */
	bool high;     /* there is one of AH CH DH BH: REX is impossible */
	bool byte_rex; /* a byte register 4 to 7: REX is needed */
};

/* 64-bit code cannot say it, or says it with memory that nobody can move. */
static bool
has_no_64bit_form(const struct x86_insn *insn)
{
	const struct x86_op *op = insn->op;

	if ((op->cls != X86_C_PLAIN && op->cls != X86_C_VECTOR) ||
	    (op->attrs & X86_A_VSIB))
		return true;
	switch (op->id) {
	case X86_OP_DAA:
	case X86_OP_DAS:
	case X86_OP_AAA:
	case X86_OP_AAS:
	case X86_OP_AAM:
	case X86_OP_AAD:
	case X86_OP_SALC:
	case X86_OP_BOUND:
		return true;
	case X86_OP_XLAT:
	case X86_OP_MASKMOV:
	case X86_OP_CLZERO:
	case X86_OP_MOVDIR64B:
		return true; /* memory at a fixed register, or two of them */
	default:
		return insn->code != X86_CODE64 && insn->encoding == X86_VEX &&
		    insn->map == 1 &&
		    insn->opcode == 0x77; /* VZEROALL, VZEROUPPER */
	}
}

static int
fields_gather(struct fields *f, const struct x86_insn *insn,
    const struct x86_regmap *map)
{
	*f = (struct fields) {
		.reg = insn->modrm >> 3 & 7,
		.rm = insn->has_modrm ? insn->modrm & 7 : insn->opcode & 7,
		.vvvv = insn->vvvv,
	};
	for (unsigned i = 0; i < insn->operands; i++) {
		const struct x86_operand *opnd = &insn->opnd[i];
		uint8_t reg = opnd->reg;

		if (opnd->kind == X86_K_MEM || opnd->kind == X86_K_IMM)
			continue;
		if (opnd->slot != X86_S_REG && opnd->slot != X86_S_RM &&
		    opnd->slot != X86_S_OPCODE && opnd->slot != X86_S_VVVV)
			continue;
		if (opnd->kind == X86_K_GPR) {
			reg = map->gpr[reg];
			f->gpr = true;
			if (opnd->size == 1 && reg >= 4)
				f->byte_rex = true;
		} else if (opnd->kind == X86_K_HIGH) {
			if (map->gpr[reg] != reg)
				return -ENOTSUP;
			reg += 4;
			f->high = true;
		}
		if (opnd->slot == X86_S_REG)
			f->reg = reg;
		else if (opnd->slot == X86_S_VVVV)
			f->vvvv = reg;
		else
			f->rm = reg;
	}
	return 0;
}

/*
 * The operand-size prefix, of instructions in which it is one.  An opcode that
 * takes no 16-bit operand must not get it for being in 16-bit code: it may
 * choose another instruction (66 0F AE).
 */
static bool
wants_66(const struct x86_insn *insn)
{
	const struct x86_op *op = insn->op;

	if (insn->opsize != 2)
		return false;
	if (op->fpu == X86_FPU_X87) /* FLDENV, FNSTENV, FRSTOR, FNSAVE */
		return insn->has_mem &&
		    (insn->opcode == 0xd9 || insn->opcode == 0xdd) &&
		    (insn->modrm & 0x20);
	if (op->fpu != X86_FPU_NONE)
		return false;
	if (op->id == X86_OP_CBW || op->id == X86_OP_CWD)
		return true;
	for (unsigned i = 0; i < insn->operands; i++) {
		if (insn->opnd[i].size == 2)
			return true;
	}
	return false;
}

/* W of VEX and EVEX, which means nothing to general registers elsewhere. */
static bool
vex_w(const struct x86_insn *insn, const struct fields *f)
{
	if (!(insn->rex & X86_REX_W))
		return false;
	if (insn->code == X86_CODE64)
		return true;
	if (f->gpr)
		return false;
	/* Lengths in EAX and EDX: VPCMPESTRM, VPCMPESTRI. */
	if (insn->op->fixed_read & BIT(CPU_RDX))
		return false;
	if (!insn->has_mem)
		return true;
	/* Memory in place of a general register. */
	switch (insn->map << 8 | insn->opcode) {
	case 0x12a: /* VCVTSI2SS, VCVTSI2SD */
	case 0x17b: /* VCVTUSI2SS, VCVTUSI2SD; VCVTPS2QQ and VCVTPD2QQ */
		return insn->pp < 2;
	case 0x16e: /* VMOVD */
		return false;
	case 0x17e: /* VMOVD; with F3 VMOVQ */
		return insn->pp != 1;
	case 0x316: /* VPEXTRD */
	case 0x322: /* VPINSRD */
		return false;
	default:
		return true;
	}
}

/* ModRM, SIB and displacement for the map's address. */
static uint8_t *
emit_mem(uint8_t *p, unsigned reg, const struct x86_regmap *map,
    bool scaled_disp8)
{
	bool has_base = map->base != X86_NO_REG;
	bool has_index = map->index != X86_NO_REG;
	unsigned base = has_base ? map->base & 7 : RM_NO_DISP;
	unsigned index = has_index ? map->index & 7 : INDEX_NONE;
	unsigned mod, width;

	if (!has_base) {
		mod = 0;
		width = 4;
	} else if (map->disp == 0 && base != RM_NO_DISP) {
		mod = 0;
		width = 0;
	} else if (map->disp == 0 ||
	    (map->disp == (int8_t)map->disp && !scaled_disp8)) {
		mod = 1;
		width = 1;
	} else {
		mod = 2;
		width = 4;
	}
	if (has_base && !has_index && base != RM_SIB) {
		*p++ = (uint8_t)(mod << 6 | (reg & 7) << 3 | base);
	} else {
		*p++ = (uint8_t)(mod << 6 | (reg & 7) << 3 | RM_SIB);
		*p++ = (uint8_t)(index << 3 | base);
	}
	if (width == 1) {
		*p++ = (uint8_t)map->disp;
	} else if (width == 4) {
		memcpy(p, &map->disp, 4);
		p += 4;
	}
	return p;
}

static uint8_t *
emit_modrm(uint8_t *p, const struct x86_insn *insn, const struct fields *f,
    const struct x86_regmap *map)
{
	if (insn->has_mem)
		return emit_mem(p, f->reg, map, insn->encoding == X86_EVEX);
	*p++ = (uint8_t)(0xc0 | (f->reg & 7) << 3 | (f->rm & 7));
	return p;
}

/*
 * Kept as it is, but for a register of 8 to 15 in bits 7-4, which does not
 * exist in 16- and 32-bit code: there bit 7 is ignored.
 */
static uint8_t *
emit_imm(uint8_t *p, const struct x86_insn *insn)
{
	for (unsigned i = insn->len - insn->imm_size; i < insn->len; i++)
		*p++ = insn->bytes[i];
	if (insn->encoding == X86_VEX && insn->code != X86_CODE64) {
		for (unsigned i = 0; i < insn->operands; i++) {
			if (insn->opnd[i].slot == X86_S_IS4)
				p[-1] &= 0x7f;
		}
	}
	return p;
}

/* R, X and B: the high bits of reg, and of index and base, or of rm. */
static unsigned
high_bits(const struct x86_insn *insn, const struct fields *f,
    const struct x86_regmap *map)
{
	unsigned bits = f->reg & 8 ? X86_REX_R : 0;

	if (!insn->has_mem)
		return bits | (f->rm & 16 ? X86_REX_X : 0) |
		    (f->rm & 8 ? X86_REX_B : 0);
	if (map->index != X86_NO_REG && (map->index & 8))
		bits |= X86_REX_X;
	if (map->base != X86_NO_REG && (map->base & 8))
		bits |= X86_REX_B;
	return bits;
}

static uint8_t *
emit_legacy(uint8_t *p, const struct x86_insn *insn, const struct fields *f,
    const struct x86_regmap *map)
{
	static const uint8_t mandatory[] = { 0, 0x66, 0xf3, 0xf2 };
	unsigned rex = high_bits(insn, f, map) | (insn->rex & X86_REX_W);
	struct fields changed = *f;
	uint8_t opcode = insn->opcode;
	bool modrm = insn->has_modrm;

	if (insn->map == 0 && insn->code != X86_CODE64) {
		if (opcode >= 0x40 && opcode <= 0x4f) { /* INC, DEC */
			changed.reg = opcode >> 3 & 1;
			opcode = 0xff;
			modrm = true;
		} else if (opcode == 0x82) {
			opcode = 0x80;
		}
	}
	if (insn->map == 0 && opcode >= 0xa0 && opcode <= 0xa3) {
		changed.reg = CPU_RAX;
		opcode = (uint8_t)(opcode + (opcode < 0xa2 ? 0xea : 0xe6));
		modrm = true;
	}

	if (insn->pfx & X86_PFX_LOCK)
		*p++ = 0xf0;
	if (insn->pp == 1 || wants_66(insn))
		*p++ = 0x66;
	if (insn->pp > 1)
		*p++ = mandatory[insn->pp];
	if (rex != 0 || f->byte_rex) {
		if (f->high)
			return NULL;
		*p++ = (uint8_t)(REX_ANY | rex);
	}
	if (insn->map >= 1)
		*p++ = 0x0f;
	if (insn->map >= 2)
		*p++ = insn->map == 2 ? 0x38 : 0x3a;
	if (modrm) {
		*p++ = opcode;
		return emit_modrm(p, insn, &changed, map);
	}
	/* 90 without REX.B would be NOP. */
	if (insn->op->id == X86_OP_XCHG && f->rm == CPU_RAX)
		return NULL;
	*p++ = (uint8_t)((opcode & ~7u) | (f->rm & 7));
	return p;
}

static uint8_t *
emit_vex(uint8_t *p, const struct x86_insn *insn, const struct fields *f,
    const struct x86_regmap *map)
{
	unsigned high = high_bits(insn, f, map);
	unsigned inverted = ~high;
	/* L and pp as they are; vvvv new. */
	unsigned last =
	    (insn->bytes[insn->opcode_at - 1] & 7u) | (~f->vvvv & 15u) << 3;

	if (insn->map == 1 && !vex_w(insn, f) &&
	    !(high & (X86_REX_X | X86_REX_B))) {
		*p++ = 0xc5;
		*p++ = (uint8_t)((inverted & X86_REX_R) << 5 | last);
	} else {
		*p++ = 0xc4;
		*p++ = (uint8_t)((inverted & 7) << 5 | insn->map);
		*p++ = (uint8_t)((vex_w(insn, f) ? 0x80 : 0) | last);
	}
	*p++ = insn->opcode;
	return insn->has_modrm ? emit_modrm(p, insn, f, map) : p;
}

static uint8_t *
emit_evex(uint8_t *p, const struct x86_insn *insn, const struct fields *f,
    const struct x86_regmap *map)
{
	const uint8_t *payload = &insn->bytes[insn->opcode_at - 3];
	unsigned inverted = ~high_bits(insn, f, map);

	*p++ = 0x62;
	*p++ = (uint8_t)((inverted & 7) << 5 | (f->reg & 16 ? 0 : 0x10) |
	    (payload[0] & 0x0f));
	*p++ = (uint8_t)((vex_w(insn, f) ? 0x80 : 0) | (~f->vvvv & 15u) << 3 |
	    (payload[1] & 0x07));
	*p++ = (uint8_t)((payload[2] & 0xf7) | (f->vvvv & 16 ? 0 : 0x08));
	*p++ = insn->opcode;
	return emit_modrm(p, insn, f, map);
}

int
x86_reencode(const struct x86_insn *insn, const struct x86_regmap *map,
    uint8_t *out)
{
	struct fields f;
	uint8_t *p = out;

	if (has_no_64bit_form(insn))
		return -ENOTSUP;
	if (insn->op->id == X86_OP_NOP) {
		*out = 0x90;
		return 1;
	}
	if (insn->has_mem && map->index == CPU_RSP)
		return -ENOTSUP;
	if (fields_gather(&f, insn, map) != 0)
		return -ENOTSUP;

	if (insn->has_mem && map->gs)
		*p++ = 0x65;
	switch (insn->encoding) {
	case X86_LEGACY:
		p = emit_legacy(p, insn, &f, map);
		break;
	case X86_VEX:
		p = emit_vex(p, insn, &f, map);
		break;
	default:
		p = emit_evex(p, insn, &f, map);
		break;
	}
	if (p == NULL)
		return -ENOTSUP;
	return (int)(emit_imm(p, insn) - out);
}
