/*
 * The decoder: prefixes, opcode, ModRM, displacement, immediate, and then the
 * operands as the opcode's row names them.
 *
 * Models       Intel SDM volume 2, chapter 2 (formats) and appendix A (opcode
 *              maps), with 66 ignored for near branches in 64-bit code.
 * Method       See decode_impl.h for the tables.  What differs by prefix,
 *              ModRM, code size, W or vector length is a row of its own; sizes
 *              of operands come from small tables by operand size or vector
 *              length.
 * Differences  Opcodes of units that no guest of ours has are X86_OP_UD: XOP,
 *              FMA4, TBM, 3DNow, AMX, CET, TSX, MVEX, AVX-512 ER, PF, FP16,
 *              4FMAPS, 4VNNIW, VP2INTERSECT, and newer ones.  What the
 *              architecture defines as a NOP without its unit (MPX, CET's ENDBR
 *              and RDSSP, CLDEMOTE) is a NOP; WBNOINVD is WBINVD.
 * Invariants   1. Nothing is read but the bytes given, once, into insn->bytes;
 *                 whoever changes them meanwhile cannot confuse us.
 *              2. An instruction decodes from all of its bytes or not at all:
 *                 every shorter piece of it is X86_SHORT.
 *              3. An undefined opcode has no operands, and is as long as what
 *                 had to be looked at.
 */
#include <string.h>

#include "engine/x86/decode_impl.h"

const struct decode_row decode_ud = UD_ROW;

/* ------------------------------------------------------------ first bytes */

enum byte_kind {
	BYTE_OPCODE,
	BYTE_MODRM, /* opcode with ModRM */
	BYTE_66,
	BYTE_67,
	BYTE_LOCK,
	BYTE_REP,
	BYTE_REPNE,
	BYTE_SEG,
	BYTE_REX, /* in 64-bit code */
	BYTE_0F,
	BYTE_C4, /* LES, LDS, BOUND; or VEX and EVEX */
	BYTE_C5,
	BYTE_62,
};

static const uint8_t byte_kinds[256] = {
	[0x00 ... 0x03] = BYTE_MODRM,
	[0x08 ... 0x0b] = BYTE_MODRM,
	[0x0f] = BYTE_0F,
	[0x10 ... 0x13] = BYTE_MODRM,
	[0x18 ... 0x1b] = BYTE_MODRM,
	[0x20 ... 0x23] = BYTE_MODRM,
	[0x26] = BYTE_SEG,
	[0x28 ... 0x2b] = BYTE_MODRM,
	[0x2e] = BYTE_SEG,
	[0x30 ... 0x33] = BYTE_MODRM,
	[0x36] = BYTE_SEG,
	[0x38 ... 0x3b] = BYTE_MODRM,
	[0x3e] = BYTE_SEG,
	[0x40 ... 0x4f] = BYTE_REX,
	[0x62] = BYTE_62,
	[0x63] = BYTE_MODRM,
	[0x64 ... 0x65] = BYTE_SEG,
	[0x66] = BYTE_66,
	[0x67] = BYTE_67,
	[0x69] = BYTE_MODRM,
	[0x6b] = BYTE_MODRM,
	[0x80 ... 0x8f] = BYTE_MODRM,
	[0xc0 ... 0xc1] = BYTE_MODRM,
	[0xc4] = BYTE_C4,
	[0xc5] = BYTE_C5,
	[0xc6 ... 0xc7] = BYTE_MODRM,
	[0xd0 ... 0xd3] = BYTE_MODRM,
	[0xd8 ... 0xdf] = BYTE_MODRM,
	[0xf0] = BYTE_LOCK,
	[0xf2] = BYTE_REPNE,
	[0xf3] = BYTE_REP,
	[0xf6 ... 0xf7] = BYTE_MODRM,
	[0xfe ... 0xff] = BYTE_MODRM,
};

/* Of map 0F: opcodes without ModRM. */
static const bool no_modrm_0f[256] = {
	[0x04 ... 0x0c] = true,
	[0x0e] = true,
	[0x24 ... 0x27] = true,
	[0x30 ... 0x3f] = true,
	[0x77] = true,
	[0x80 ... 0x8f] = true,
	[0xa0 ... 0xa2] = true,
	[0xa6 ... 0xaa] = true,
	[0xc8 ... 0xcf] = true,
};

/* By the segment bits of the prefix, 26 2E 36 3E; 64 and 65 follow. */
static enum cpu_seg
seg_of_prefix(uint8_t byte)
{
	return byte < 0x64 ? byte >> 3 & 3 : byte - 0x64 + CPU_FS;
}

/* ------------------------------------------------------------------ sizes */

/* By enum decode_opsize, code size, W, and 66. */
static const uint8_t opsizes[SIZE_RULES][3][2][2] = {
	[SIZE_ANY] = { { { 2, 4 }, { 2, 4 } }, { { 4, 2 }, { 4, 2 } },
	    { { 4, 2 }, { 8, 8 } } },
	[SIZE_BYTE] = { { { 1, 1 }, { 1, 1 } }, { { 1, 1 }, { 1, 1 } },
	    { { 1, 1 }, { 1, 1 } } },
	[SIZE_DEF64] = { { { 2, 4 }, { 2, 4 } }, { { 4, 2 }, { 4, 2 } },
	    { { 8, 2 }, { 8, 8 } } },
	[SIZE_NEAR] = { { { 2, 4 }, { 2, 4 } }, { { 4, 2 }, { 4, 2 } },
	    { { 8, 8 }, { 8, 8 } } },
	[SIZE_NATIVE] = { { { 4, 4 }, { 4, 4 } }, { { 4, 4 }, { 4, 4 } },
	    { { 8, 8 }, { 8, 8 } } },
	[SIZE_NO_W] = { { { 2, 4 }, { 2, 4 } }, { { 4, 2 }, { 4, 2 } },
	    { { 4, 2 }, { 4, 4 } } },
	[SIZE_Y] = { { { 4, 4 }, { 4, 4 } }, { { 4, 4 }, { 4, 4 } },
	    { { 4, 4 }, { 8, 8 } } },
};

/*
 * Bytes by enum decode_size: in a register and in memory, by operand size 2, 4,
 * 8 or by vector length.
 */
/* clang-format off */
#define SAME(a, b, c) { { a, b, c }, { a, b, c } }
/* clang-format on */
static const uint16_t decode_sizes[SZ_SIZES][2][3] = {
	[SZ_1] = SAME(1, 1, 1),
	[SZ_2] = SAME(2, 2, 2),
	[SZ_4] = SAME(4, 4, 4),
	[SZ_8] = SAME(8, 8, 8),
	[SZ_10] = SAME(10, 10, 10),
	[SZ_16] = SAME(16, 16, 16),
	[SZ_32] = SAME(32, 32, 32),
	[SZ_64] = SAME(64, 64, 64),
	[SZ_512] = SAME(512, 512, 512),
	[SZ_XSAVE] = SAME(576, 576, 576), /* at least: by XCR0 */
	[SZ_V] = SAME(2, 4, 8),
	[SZ_Z] = SAME(2, 4, 4),
	[SZ_Y] = SAME(4, 4, 8),
	[SZ_P] = SAME(4, 6, 10),
	[SZ_A] = SAME(4, 8, 16),
	[SZ_CX] = SAME(8, 8, 16),
	[SZ_2V] = { { 2, 4, 8 }, { 2, 2, 2 } },
	[SZ_ENV] = SAME(14, 28, 28),
	[SZ_STATE] = SAME(94, 108, 108),
	[SZ_X] = SAME(16, 32, 64),
	[SZ_HALF] = { { 16, 16, 32 }, { 8, 16, 32 } },
	[SZ_QUARTER] = { { 16, 16, 16 }, { 4, 8, 16 } },
	[SZ_EIGHTH] = { { 16, 16, 16 }, { 2, 4, 8 } },
	[SZ_X1] = { { 16, 16, 16 }, { 1, 1, 1 } },
	[SZ_X2] = { { 16, 16, 16 }, { 2, 2, 2 } },
	[SZ_X4] = { { 16, 16, 16 }, { 4, 4, 4 } },
	[SZ_X8] = { { 16, 16, 16 }, { 8, 8, 8 } },
	[SZ_Q4] = { { 8, 8, 8 }, { 4, 4, 4 } },
	[SZ_K1] = { { 8, 8, 8 }, { 1, 1, 1 } },
	[SZ_K2] = { { 8, 8, 8 }, { 2, 2, 2 } },
	[SZ_K4] = { { 8, 8, 8 }, { 4, 4, 4 } },
	[SZ_DUP] = { { 16, 32, 64 }, { 8, 32, 64 } },
	[SZ_D1] = { { 4, 4, 4 }, { 1, 1, 1 } },
	[SZ_D2] = { { 4, 4, 4 }, { 2, 2, 2 } },
};

/* --------------------------------------------------------------- operands */

/* Register numbers as the encoding has them. */
enum decode_source {
	FROM_NOWHERE, /* 0 */
	FROM_REG,
	FROM_RM,
	FROM_OPCODE,
	FROM_VVVV,
	FROM_IS4,
	SOURCES,
};

/* By enum decode_place. */
static const struct place {
	uint8_t kind, slot;
	uint8_t from; /* enum decode_source */
	uint8_t mask; /* bits of the number that count */
	uint8_t reg;  /* added to it */
} decode_places[AT_PLACES] = {
	[AT_E] = { X86_K_GPR, X86_S_RM, FROM_RM, 15, 0 },
	[AT_R] = { X86_K_GPR, X86_S_RM, FROM_RM, 15, 0 },
	[AT_G] = { X86_K_GPR, X86_S_REG, FROM_REG, 15, 0 },
	[AT_Z] = { X86_K_GPR, X86_S_OPCODE, FROM_OPCODE, 15, 0 },
	[AT_B] = { X86_K_GPR, X86_S_VVVV, FROM_VVVV, 15, 0 },
	[AT_M] = { X86_K_MEM, X86_S_RM, FROM_NOWHERE, 0, 0 },
	[AT_O] = { X86_K_MEM, X86_S_MOFFS, FROM_NOWHERE, 0, 0 },
	[AT_I] = { X86_K_IMM, X86_S_IMM, FROM_NOWHERE, 0, 0 },
	[AT_ONE] = { X86_K_IMM, X86_S_FIXED, FROM_NOWHERE, 0, 0 },
	[AT_AX] = { X86_K_GPR, X86_S_FIXED, FROM_NOWHERE, 0, CPU_RAX },
	[AT_CX] = { X86_K_GPR, X86_S_FIXED, FROM_NOWHERE, 0, CPU_RCX },
	[AT_DX] = { X86_K_GPR, X86_S_FIXED, FROM_NOWHERE, 0, CPU_RDX },
	[AT_S] = { X86_K_SEG, X86_S_REG, FROM_REG, 7, 0 },
	[AT_ES] = { X86_K_SEG, X86_S_FIXED, FROM_NOWHERE, 0, CPU_ES },
	[AT_CS] = { X86_K_SEG, X86_S_FIXED, FROM_NOWHERE, 0, CPU_CS },
	[AT_SS] = { X86_K_SEG, X86_S_FIXED, FROM_NOWHERE, 0, CPU_SS },
	[AT_DS] = { X86_K_SEG, X86_S_FIXED, FROM_NOWHERE, 0, CPU_DS },
	[AT_FS] = { X86_K_SEG, X86_S_FIXED, FROM_NOWHERE, 0, CPU_FS },
	[AT_GS] = { X86_K_SEG, X86_S_FIXED, FROM_NOWHERE, 0, CPU_GS },
	[AT_C] = { X86_K_CR, X86_S_REG, FROM_REG, 15, 0 },
	[AT_D] = { X86_K_DR, X86_S_REG, FROM_REG, 15, 0 },
	[AT_P] = { X86_K_MMX, X86_S_REG, FROM_REG, 7, 0 },
	[AT_Q] = { X86_K_MMX, X86_S_RM, FROM_RM, 7, 0 },
	[AT_V] = { X86_K_VEC, X86_S_REG, FROM_REG, 31, 0 },
	[AT_W] = { X86_K_VEC, X86_S_RM, FROM_RM, 31, 0 },
	[AT_H] = { X86_K_VEC, X86_S_VVVV, FROM_VVVV, 31, 0 },
	[AT_L] = { X86_K_VEC, X86_S_IS4, FROM_IS4, 15, 0 },
	[AT_XMM0] = { X86_K_VEC, X86_S_FIXED, FROM_NOWHERE, 0, 0 },
	[AT_KG] = { X86_K_OPMASK, X86_S_REG, FROM_REG, 7, 0 },
	[AT_KE] = { X86_K_OPMASK, X86_S_RM, FROM_RM, 7, 0 },
	[AT_KB] = { X86_K_OPMASK, X86_S_VVVV, FROM_VVVV, 7, 0 },
	[AT_ST0] = { X86_K_ST, X86_S_FIXED, FROM_NOWHERE, 0, 0 },
	[AT_ST] = { X86_K_ST, X86_S_RM, FROM_RM, 7, 0 },
};

static unsigned
operand_size(const struct x86_insn *insn, enum decode_size size, bool mem)
{
	unsigned by;

	switch (size) {
	case SZ_NATIVE:
		return insn->code == X86_CODE64 ? 8 : 4;
	case SZ_TABLE:
		return insn->code == X86_CODE64 ? 10 : 6;
	case SZ_ADDR:
		return insn->addrsize;
	case SZ_IMM:
		return insn->imm_size;
	default:
		by = size >= SZ_X ? insn->vl : insn->opsize >> 2;
		return decode_sizes[size][mem][by];
	}
}

static void
set_operands(struct x86_insn *insn, const struct decode_row *row,
    const uint8_t from[SOURCES])
{
	unsigned n;

	for (n = 0; n < ARRAY_SIZE(row->opnd) && row->opnd[n] != 0; n++) {
		unsigned spec = row->opnd[n];
		const struct place *place =
		    &decode_places[DECODE_SPEC_PLACE(spec)];
		struct x86_operand *opnd = &insn->opnd[n];
		bool mem = place->kind == X86_K_MEM ||
		    (place->slot == X86_S_RM && insn->has_mem);

		opnd->slot = place->slot;
		opnd->rw = DECODE_SPEC_RW(spec);
		opnd->size =
		    (uint16_t)operand_size(insn, DECODE_SPEC_SIZE(spec), mem);
		if (mem) {
			opnd->kind = X86_K_MEM;
			opnd->reg = 0;
			continue;
		}
		opnd->kind = place->kind;
		opnd->reg = (from[place->from] & place->mask) + place->reg;
		if (opnd->kind == X86_K_GPR && opnd->size == 1 &&
		    opnd->reg >= 4 && opnd->reg < 8 &&
		    !(insn->pfx & X86_PFX_REX) &&
		    insn->encoding == X86_LEGACY) {
			opnd->kind = X86_K_HIGH;
			opnd->reg -= 4;
		}
	}
	insn->operands = (uint8_t)n;
}

/* An instruction on its way. */
struct decoding {
	unsigned avail; /* bytes in insn->bytes, at most 15 */
	unsigned pos;
	unsigned p66; /* 66 was given: 0, 1 */
	unsigned rep; /* the last of F3, F2: 0, 2, 3 as in pp */
	unsigned pp;  /* what may select the row */
	/* R, B, X in their places in a register's number */
	unsigned reg_high, rm_high, index_high;
	unsigned vvvv; /* all bits of it */
	uint8_t seg;   /* override, or 0xff */
	bool modrm;    /* ModRM follows the opcode */
	const decode_table *table;
};

#define NO_SEG 0xffu

/* ------------------------------------------------- displacement, immediate */

/* 1, 2, 4 or 8 bytes, which have been checked to be there. */
static uint64_t
get_le(const uint8_t *p, unsigned size)
{
	uint64_t v8;
	uint32_t v4;
	uint16_t v2;

	switch (size) {
	case 1:
		return *p;
	case 2:
		memcpy(&v2, p, sizeof(v2));
		return v2;
	case 4:
		memcpy(&v4, p, sizeof(v4));
		return v4;
	default:
		memcpy(&v8, p, sizeof(v8));
		return v8;
	}
}

static int64_t
sign_extend(uint64_t value, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (int64_t)(value << shift) >> shift;
}

/* base and index by ModRM.rm with 16-bit addresses: SDM volume 2, table 2-1. */
static const uint8_t modrm16[8][2] = {
	{ CPU_RBX, CPU_RSI },
	{ CPU_RBX, CPU_RDI },
	{ CPU_RBP, CPU_RSI },
	{ CPU_RBP, CPU_RDI },
	{ CPU_RSI, X86_NO_REG },
	{ CPU_RDI, X86_NO_REG },
	{ CPU_RBP, X86_NO_REG },
	{ CPU_RBX, X86_NO_REG },
};

/*
 * The memory operand of ModRM, whose next byte is at d->pos.  Returns where the
 * displacement is, of which disp_size bytes are yet to come; a SIB that is not
 * there is read as 0, and found missing by the caller.
 */
static unsigned
modrm_mem(struct x86_insn *insn, const struct decoding *d, bool vsib)
{
	unsigned mod = insn->modrm >> 6, rm = insn->modrm & 7;
	unsigned pos = d->pos, sib, index;

	insn->has_mem = true;
	if (insn->addrsize == 2) {
		insn->base = modrm16[rm][0];
		insn->index = modrm16[rm][1];
		insn->disp_size = (uint8_t)mod;
		if (mod == 0 && rm == 6) {
			insn->base = X86_NO_REG;
			insn->disp_size = 2;
		}
		return pos;
	}
	insn->disp_size = mod == 2 ? 4 : (uint8_t)mod;
	if (rm != 4) {
		insn->base = (uint8_t)(rm | d->rm_high);
		if (mod == 0 && rm == 5) {
			insn->base = insn->code == X86_CODE64 ? X86_BASE_RIP :
								X86_NO_REG;
			insn->disp_size = 4;
		}
		return pos;
	}
	sib = insn->bytes[pos++];
	index = (sib >> 3 & 7) | d->index_high;
	insn->scale = (uint8_t)(sib >> 6);
	if (vsib)
		insn->index = (uint8_t)(index | (d->vvvv & 16));
	else
		insn->index = index == 4 ? X86_NO_REG : (uint8_t)index;
	insn->base = (uint8_t)((sib & 7) | d->rm_high);
	if (mod == 0 && (sib & 7) == 5) {
		insn->base = X86_NO_REG;
		insn->disp_size = 4;
	}
	return pos;
}

/* How many bytes of immediate follow, all told. */
static unsigned
immediate_size(enum decode_imm kind, unsigned opsize)
{
	switch (kind) {
	case IMM_8:
	case IMM_8S:
		return 1;
	case IMM_16:
	case IMM_PAIR:
		return 2;
	case IMM_Z:
		return MIN(opsize, 4u);
	case IMM_V:
		return opsize;
	case IMM_FAR:
		return MIN(opsize, 4u) + 2;
	case IMM_ENTER:
		return 3;
	default:
		return 0;
	}
}

static void
set_immediate(struct x86_insn *insn, enum decode_imm kind, const uint8_t *p)
{
	unsigned size = insn->imm_size;

	switch (kind) {
	case IMM_NONE:
		break;
	case IMM_8:
	case IMM_16:
	case IMM_V:
		insn->imm = get_le(p, size);
		break;
	case IMM_8S:
	case IMM_Z:
		insn->imm = (uint64_t)sign_extend(get_le(p, size), size);
		break;
	case IMM_FAR:
		insn->imm = get_le(p, size - 2);
		insn->imm2 = (uint16_t)get_le(p + size - 2, 2);
		break;
	case IMM_ENTER:
		insn->imm = get_le(p, 2);
		insn->imm2 = p[2];
		break;
	case IMM_PAIR:
		insn->imm = p[0];
		insn->imm2 = p[1];
		break;
	case IMM_ONE:
		insn->imm = 1;
		break;
	}
}

/* -------------------------------------------------------------- the whole */

static enum x86_decoded
ended(struct x86_insn *insn, const struct decoding *d)
{
	insn->op = &decode_ud.op;
	insn->len = (uint8_t)d->avail;
	return d->avail < X86_INSN_MAX ? X86_SHORT : X86_TOO_LONG;
}

static enum x86_decoded
undefined(struct x86_insn *insn, const struct decoding *d)
{
	insn->op = &decode_ud.op;
	insn->len = (uint8_t)d->pos;
	insn->operands = 0;
	insn->has_mem = false;
	return X86_DECODED;
}

/* A copy of what may be read; zeros behind it. */
GUEST_MAY_RACE static unsigned
copy_bytes(struct x86_insn *insn, const uint8_t *bytes, unsigned len)
{
	unsigned n = MIN(len, X86_INSN_MAX);

	if (n == X86_INSN_MAX) {
		memcpy(insn->bytes, bytes, 8);
		memcpy(insn->bytes + 7, bytes + 7, 8);
	} else {
		for (unsigned i = 0; i < n; i++)
			insn->bytes[i] = bytes[i];
	}
	return n;
}

/* Legacy prefixes and REX; the first byte that is neither, or d->avail. */
static enum byte_kind
prefixes(struct x86_insn *insn, struct decoding *d)
{
	unsigned rex = 0;

	for (; d->pos < d->avail; d->pos++) {
		uint8_t byte = insn->bytes[d->pos];
		enum byte_kind kind = byte_kinds[byte];

		switch (kind) {
		case BYTE_66:
			insn->pfx |= X86_PFX_66;
			d->p66 = 1;
			break;
		case BYTE_67:
			insn->pfx |= X86_PFX_67;
			break;
		case BYTE_LOCK:
			insn->pfx |= X86_PFX_LOCK;
			break;
		case BYTE_REP:
			insn->pfx &= ~X86_PFX_REPNE;
			insn->pfx |= X86_PFX_REP;
			d->rep = 2;
			break;
		case BYTE_REPNE:
			insn->pfx &= ~X86_PFX_REP;
			insn->pfx |= X86_PFX_REPNE;
			d->rep = 3;
			break;
		case BYTE_SEG:
			if (insn->code != X86_CODE64 || byte >= 0x64)
				d->seg = (uint8_t)seg_of_prefix(byte);
			break;
		case BYTE_REX:
			if (insn->code == X86_CODE64) {
				rex = byte;
				continue;
			}
			return BYTE_OPCODE;
		default:
			if (rex != 0) {
				insn->pfx |= X86_PFX_REX;
				insn->rex = rex & 0xf;
				d->reg_high = (rex & X86_REX_R) << 1;
				d->index_high = (rex & X86_REX_X) << 2;
				d->rm_high = (rex & X86_REX_B) << 3;
			}
			return kind;
		}
		rex = 0;
	}
	return BYTE_OPCODE;
}

/* The escape 0F: which map. */
static bool
escape(struct x86_insn *insn, struct decoding *d)
{
	uint8_t byte = insn->bytes[++d->pos];

	insn->map = 1;
	d->table = &decode_map_0f;
	if (d->pos >= d->avail)
		return false;
	if (byte == 0x38 || byte == 0x3a) {
		insn->map = byte == 0x38 ? 2 : 3;
		d->table = byte == 0x38 ? &decode_map_0f38 : &decode_map_0f3a;
		d->modrm = true;
		d->pos++;
		return d->pos < d->avail;
	}
	if (decode_map_0f[byte] == NULL)
		d->table = &decode_sse_0f;
	d->modrm = !no_modrm_0f[byte];
	return true;
}

/* By enum byte_kind, from BYTE_C4: how many bytes come before the opcode. */
static const uint8_t vex_sizes[] = { 3, 2, 4 };

/* Prefixes that make VEX and EVEX undefined (SDM volume 2, 2.3.2). */
#define NOT_BEFORE_VEX \
	(X86_PFX_LOCK | X86_PFX_REP | X86_PFX_REPNE | X86_PFX_66 | X86_PFX_REX)

/* R, X, B as VEX has them: inverted, at bits 7 to 5.  W at bit 7 of `w`. */
static void
set_rxb(struct x86_insn *insn, struct decoding *d, unsigned rxb, unsigned w)
{
	insn->rex = w >> 4 & X86_REX_W;
	if (insn->code != X86_CODE64)
		return;
	rxb = ~rxb;
	insn->rex |= rxb >> 5 & (X86_REX_R | X86_REX_X | X86_REX_B);
	d->reg_high = rxb >> 4 & 8;
	d->index_high = rxb >> 3 & 8;
	d->rm_high = rxb >> 2 & 8;
}

/* In 16- and 32-bit code there are 8 registers, and bit 3 means nothing. */
static void
set_vvvv(struct x86_insn *insn, struct decoding *d, unsigned vvvv)
{
	d->vvvv = vvvv;
	insn->vvvv = insn->code == X86_CODE64 ? (uint8_t)vvvv : vvvv & 7;
}

/* C4 or C5.  False if there is no such map. */
static bool
vex(struct x86_insn *insn, struct decoding *d)
{
	static const decode_table *const maps[] = { NULL, &decode_vex_0f,
		&decode_vex_0f38, &decode_vex_0f3a };
	const uint8_t *p = insn->bytes + d->pos;
	unsigned last;

	insn->encoding = X86_VEX;
	if (p[0] == 0xc5) {
		insn->map = 1;
		set_rxb(insn, d, p[1] | 0x60, 0);
		last = p[1];
	} else {
		insn->map = p[1] & 0x1f;
		set_rxb(insn, d, p[1], p[2]);
		last = p[2];
	}
	set_vvvv(insn, d, ~last >> 3 & 15);
	insn->vl = last >> 2 & 1;
	d->pp = last & 3;
	if (insn->map == 0 || insn->map >= ARRAY_SIZE(maps))
		return false;
	d->table = maps[insn->map];
	return true;
}

/* 62.  False if there is no such map, or a fixed bit is not as it must be. */
static bool
evex(struct x86_insn *insn, struct decoding *d)
{
	static const decode_table *const maps[] = { NULL, &decode_evex_0f,
		&decode_evex_0f38, &decode_evex_0f3a };
	const uint8_t *p = insn->bytes + d->pos;
	unsigned p0 = p[1], p1 = p[2], p2 = p[3]; /* as the manual has them */
	unsigned vvvv_high = 0;

	insn->encoding = X86_EVEX;
	insn->map = p0 & 7;
	set_rxb(insn, d, p0, p1);
	if (insn->code == X86_CODE64) {
		d->reg_high |= ~p0 & 0x10;
		vvvv_high = ~p2 << 1 & 0x10;
	}
	set_vvvv(insn, d, (~p1 >> 3 & 15) | vvvv_high);
	insn->vl = p2 >> 5 & 3;
	insn->evex_z = p2 & 0x80;
	insn->evex_b = p2 & 0x10;
	insn->evex_aaa = p2 & 7;
	d->pp = p1 & 3;
	if ((p0 & 8) || !(p1 & 4))
		return false;
	/* Where there are 8 registers V' is not ignored, as R' is. */
	if (insn->code != X86_CODE64 && !(p2 & 8))
		return false;
	if (insn->map == 0 || insn->map >= ARRAY_SIZE(maps))
		return false;
	d->table = maps[insn->map];
	return true;
}

/* The instruction's bits for struct decode_row, except. */
static uint32_t
selectors(const struct x86_insn *insn, const struct decoding *d)
{
	unsigned modrm = insn->modrm;
	uint32_t bits = DECODE_PP(d->pp) | DECODE_W(insn->rex >> 3) |
	    (insn->code == X86_CODE64 ? DECODE_CODE64 : DECODE_LEGACY_CODE) |
	    DECODE_VL(insn->vl) | DECODE_R(insn->rex >> 2 & 1);

	if (!insn->has_modrm)
		return bits | DECODE_MODRM_RM(insn->rex & X86_REX_B);
	return bits | (modrm >= 0xc0 ? DECODE_REG : DECODE_MEM) |
	    DECODE_MODRM_REG(modrm >> 3 & 7) | DECODE_MODRM_RM(modrm & 7);
}

static void
clear(struct x86_insn *insn, enum x86_code code)
{
	memset(insn, 0, sizeof(*insn));
	insn->op = &decode_ud.op;
	insn->code = (uint8_t)code;
	insn->seg = CPU_DS;
	insn->base = X86_NO_REG;
	insn->index = X86_NO_REG;
}

/* Masking, zeroing, broadcast and rounding (SDM volume 2, 2.7.3 to 2.7.11). */
static bool
evex_allowed(const struct x86_insn *insn, const struct decode_row *row)
{
	unsigned traits = row->traits;

	if (insn->evex_aaa == 0) {
		if (insn->evex_z || (traits & EVEX_NEED_MASK))
			return false;
	} else if (!(traits & EVEX_MASK)) {
		return false;
	}
	if (insn->evex_z &&
	    (!(traits & EVEX_ZERO) || insn->opnd[0].kind == X86_K_MEM))
		return false;
	if (!insn->evex_b)
		return true;
	return insn->has_mem ?
	    row->tuple == TUPLE_BCST4 || row->tuple == TUPLE_BCST8 :
	    traits & (EVEX_ROUND | EVEX_SAE);
}

/*
 * With EVEX an 8-bit displacement counts in units of the memory operand (SDM
 * volume 2, 2.7.5), and a broadcast reads one element.
 */
static void
evex_memory(struct x86_insn *insn, const struct decode_row *row)
{
	static const uint8_t element[] = {
		[TUPLE_BCST4] = 4,
		[TUPLE_BCST8] = 8,
		[TUPLE_ELEMENT1] = 1,
		[TUPLE_ELEMENT2] = 2,
		[TUPLE_ELEMENT4] = 4,
		[TUPLE_ELEMENT8] = 8,
	};
	struct x86_operand *mem = insn->opnd;
	unsigned unit;

	while (mem->kind != X86_K_MEM)
		mem++;
	if (insn->evex_b)
		mem->size = element[row->tuple];
	unit = row->tuple >= TUPLE_ELEMENT1 ? element[row->tuple] : mem->size;
	if (insn->disp_size == 1)
		insn->disp *= unit;
}

/* Rules of VEX and EVEX that hang on the registers. */
static bool
registers_allowed(const struct x86_insn *insn, const struct decoding *d,
    const uint8_t from[SOURCES])
{
	bool vsib = insn->op->attrs & X86_A_VSIB, vvvv_used = false;

	for (unsigned i = 0; i < insn->operands; i++) {
		const struct x86_operand *opnd = &insn->opnd[i];

		if (opnd->slot == X86_S_VVVV)
			vvvv_used = true;
		/* Opmasks are 8; EVEX's R' is no bit of a general register. */
		if (opnd->kind == X86_K_OPMASK &&
		    ((opnd->slot == X86_S_REG && from[FROM_REG] > 7) ||
			(opnd->slot == X86_S_VVVV && from[FROM_VVVV] > 7)))
			return false;
		if (opnd->kind == X86_K_GPR && opnd->slot == X86_S_REG &&
		    from[FROM_REG] > 15)
			return false;
	}
	if (!vsib)
		return vvvv_used || d->vvvv == 0;
	if ((insn->modrm & 7) != 4 || insn->addrsize == 2)
		return false; /* no SIB */
	/* A gather's destination, index and, with VEX, mask are different. */
	if (insn->op->id == X86_OP_GATHER && from[FROM_REG] == insn->index)
		return false;
	if (insn->encoding == X86_EVEX) /* V' is a bit of the index */
		return (d->vvvv & 15) == 0;
	return from[FROM_REG] != insn->vvvv && insn->index != insn->vvvv;
}

static bool
lock_allowed(const struct x86_insn *insn)
{
	return (insn->op->attrs & X86_A_LOCK) && insn->operands > 0 &&
	    insn->opnd[0].kind == X86_K_MEM;
}

/*
 * Prefixes up to ModRM.  With X86_DECODED, d->table has the opcode's rows; NULL
 * if there can be none.
 */
static enum x86_decoded
decode_head(struct x86_insn *insn, struct decoding *d)
{
	enum byte_kind kind = prefixes(insn, d);

	if (d->pos >= d->avail)
		return ended(insn, d);
	if (d->seg != NO_SEG)
		insn->pfx |= X86_PFX_SEG;
	insn->addrsize = insn->code == X86_CODE64 ? 8 : 2 << insn->code;
	if (insn->pfx & X86_PFX_67)
		insn->addrsize = insn->addrsize == 4 ? 2 : 4;

	d->pp = d->rep != 0 ? d->rep : d->p66;
	d->modrm = kind != BYTE_OPCODE;
	if (kind == BYTE_0F) {
		if (!escape(insn, d))
			return ended(insn, d);
	} else if (kind >= BYTE_C4) {
		/* In 16- and 32-bit code memory means LES, LDS and BOUND. */
		if (d->pos + 1 >= d->avail)
			return ended(insn, d);
		if (insn->code == X86_CODE64 ||
		    insn->bytes[d->pos + 1] >= 0xc0) {
			unsigned size = vex_sizes[kind - BYTE_C4];
			bool known;

			if (d->pos + size >= d->avail)
				return ended(insn, d);
			known = kind == BYTE_62 ? evex(insn, d) : vex(insn, d);
			d->pos += size;
			if (!known || (insn->pfx & NOT_BEFORE_VEX))
				d->table = NULL;
			/* VZEROUPPER, VZEROALL */
			d->modrm =
			    insn->map != 1 || insn->bytes[d->pos] != 0x77;
		}
	}
	insn->opcode_at = (uint8_t)d->pos;
	insn->opcode = insn->bytes[d->pos++];
	if (d->modrm) {
		if (d->pos >= d->avail)
			return ended(insn, d);
		insn->has_modrm = true;
		insn->modrm = insn->bytes[d->pos++];
	}
	return X86_DECODED;
}

/* NULL if there is none. */
static const struct decode_row *
find_row(struct x86_insn *insn, const struct decoding *d)
{
	const struct decode_row *row;
	uint32_t bits;

	if (d->table == NULL)
		return NULL;
	row = (*d->table)[insn->opcode];
	/* Rounding control takes the place of the vector length. */
	if (insn->evex_b && insn->modrm >= 0xc0)
		insn->vl = 2;
	if (row == NULL || insn->vl == 3)
		return NULL;
	bits = selectors(insn, d);
	while (bits & row->except)
		row++;
	return row->traits & ROW_UNDEFINED ? NULL : row;
}

/* What comes after ModRM.  False if bytes are missing. */
static bool
decode_tail(struct x86_insn *insn, struct decoding *d,
    const struct decode_row *row)
{
	unsigned disp_at = d->pos, imm_at;

	if (insn->has_modrm && insn->modrm < 0xc0 &&
	    !(row->traits & MOD_IGNORED)) {
		disp_at = modrm_mem(insn, d, row->op.attrs & X86_A_VSIB);
		if (insn->base == CPU_RSP || insn->base == CPU_RBP)
			insn->seg = CPU_SS;
	} else if (DECODE_SPEC_PLACE(row->opnd[0]) == AT_O ||
	    DECODE_SPEC_PLACE(row->opnd[1]) == AT_O) {
		insn->has_mem = true;
		insn->disp_size = insn->addrsize;
	}
	if (d->seg != NO_SEG)
		insn->seg = d->seg;
	imm_at = disp_at + insn->disp_size;
	insn->imm_size = (uint8_t)immediate_size(row->imm, insn->opsize);
	d->pos = imm_at + insn->imm_size;
	if (d->pos > d->avail)
		return false;
	insn->len = (uint8_t)d->pos;
	if (insn->disp_size != 0) {
		uint64_t disp = get_le(insn->bytes + disp_at, insn->disp_size);

		insn->disp = insn->has_modrm ?
		    sign_extend(disp, insn->disp_size) :
		    (int64_t)disp;
	}
	set_immediate(insn, row->imm, insn->bytes + imm_at);
	return true;
}

/* VEX and EVEX, after operands have been set.  False if that is undefined. */
static bool
finish_vex(struct x86_insn *insn, const struct decoding *d,
    const struct decode_row *row, const uint8_t from[SOURCES])
{
	if (insn->encoding == X86_EVEX) {
		if (!evex_allowed(insn, row))
			return false;
		if (insn->has_mem)
			evex_memory(insn, row);
		/* Merging: what the mask leaves out stays. */
		if (insn->evex_aaa != 0 && !insn->evex_z &&
		    !(row->traits & EVEX_CHOOSE) &&
		    insn->opnd[0].kind == X86_K_VEC)
			insn->opnd[0].rw |= X86_R;
	}
	return registers_allowed(insn, d, from);
}

enum x86_decoded
x86_decode(const uint8_t *bytes, unsigned len, enum x86_code code,
    struct x86_insn *insn)
{
	struct decoding d = { .seg = NO_SEG, .table = &decode_map_one };
	const struct decode_row *row;
	uint8_t from[SOURCES];
	enum x86_decoded result;

	clear(insn, code);
	d.avail = copy_bytes(insn, bytes, len);
	result = decode_head(insn, &d);
	if (result != X86_DECODED)
		return result;
	row = find_row(insn, &d);
	if (row == NULL)
		return undefined(insn, &d);
	insn->op = &row->op;
	if (insn->encoding != X86_LEGACY || (row->except & DECODE_PP(0)))
		insn->pp = (uint8_t)d.pp;
	insn->opsize = opsizes[row->opsize][code][insn->rex >> 3][d.p66];
	if (!decode_tail(insn, &d, row))
		return ended(insn, &d);

	from[FROM_NOWHERE] = 0;
	from[FROM_REG] = (uint8_t)((insn->modrm >> 3 & 7) | d.reg_high);
	from[FROM_RM] = (uint8_t)((insn->modrm & 7) | d.rm_high);
	if (insn->encoding == X86_EVEX) /* X is bit 4 of a vector register */
		from[FROM_RM] |= d.index_high << 1;
	from[FROM_OPCODE] = (uint8_t)((insn->opcode & 7) | d.rm_high);
	from[FROM_VVVV] = insn->vvvv;
	from[FROM_IS4] =
	    (uint8_t)(insn->imm >> 4 & (code == X86_CODE64 ? 15 : 7));
	set_operands(insn, row, from);
	if (insn->encoding != X86_LEGACY && !finish_vex(insn, &d, row, from))
		return undefined(insn, &d);
	if ((insn->pfx & X86_PFX_LOCK) && !lock_allowed(insn))
		return undefined(insn, &d);
	return X86_DECODED;
}
