/*
 * What the decoder and its tables of opcodes agree on.
 *
 * A table has 256 entries, one for each opcode of a map.  An entry points to
 * the rows of that opcode, of which the first that fits is taken; NULL, and no
 * row that fits, is #UD.  Whether a row fits is one AND: `except` has a bit for
 * everything that the row does not take, and an instruction sets one bit in
 * each group of DECODE_* bits.
 *
 * A row is written with the macros below, of which each sets some fields:
 *
 *	[0x85] = ONE(NAME("test", TEST), ANDS, OPS(RD(Ev), RD(Gv))),
 *
 * and names its operands as the opcode maps of the manuals do (SDM volume 2,
 * A.2): where the operand is, then how wide it is.
 */
#ifndef ENGINE_X86_DECODE_IMPL_H
#define ENGINE_X86_DECODE_IMPL_H

#include "engine/x86/decode.h"

/* ---- what a row can hang on --------------------------------------------- */

#define DECODE_PP(pp) (1u << (pp)) /* mandatory prefix: none, 66, F3, F2 */
#define DECODE_MEM (1u << 4)       /* ModRM.mod is not 3 */
#define DECODE_REG (1u << 5)
#define DECODE_MODRM_REG(n) (1u << (6 + (n)))
/* ModRM.rm; the value of REX.B for an opcode without ModRM */
#define DECODE_MODRM_RM(n) (1u << (14 + (n)))
#define DECODE_LEGACY_CODE (1u << 22)
#define DECODE_CODE64 (1u << 23)
#define DECODE_W(w) (1u << (24 + (w)))
#define DECODE_VL(vl) (1u << (26 + (vl))) /* vector length, 0 to 3 */
#define DECODE_R(r) (1u << (30 + (r)))    /* REX.R */

/* Conditions, as what they exclude; several are joined with |. */
#define NP (0xfu & ~DECODE_PP(0))
#define P66 (0xfu & ~DECODE_PP(1))
#define PF3 (0xfu & ~DECODE_PP(2))
#define PF2 (0xfu & ~DECODE_PP(3))
#define NP_66 (DECODE_PP(2) | DECODE_PP(3)) /* 66 is the operand size */
#define MEM DECODE_REG
#define REG DECODE_MEM
#define EXT(n) ((0xffu << 6) & ~DECODE_MODRM_REG(n))
#define RM(n) ((0xffu << 14) & ~DECODE_MODRM_RM(n))
#define NO64 DECODE_CODE64
#define ONLY64 DECODE_LEGACY_CODE
#define W0 DECODE_W(1)
#define W1 DECODE_W(0)
#define R0 DECODE_R(1)
#define L0 ((0xfu << 26) & ~DECODE_VL(0))
#define L1 ((0xfu << 26) & ~DECODE_VL(1))
#define L2 ((0xfu << 26) & ~DECODE_VL(2))
#define L01 (DECODE_VL(2) | DECODE_VL(3))
#define L12 (DECODE_VL(0) | DECODE_VL(3))
#define L012 DECODE_VL(3)

#define WHEN(what) .except = (what)

/* ---- operands ----------------------------------------------------------- */

/* clang-format off */
/* Where an operand is: see decode_places[]. */
enum decode_place {
	AT_NONE,
	AT_E,    /* GPR or memory: ModRM.rm */
	AT_R,    /* GPR, whatever ModRM.mod says: ModRM.rm */
	AT_G,    /* GPR: ModRM.reg */
	AT_Z,    /* GPR: opcode */
	AT_B,    /* GPR: VEX.vvvv */
	AT_M,    /* memory: ModRM.rm */
	AT_O,    /* memory: absolute address */
	AT_I,    /* immediate */
	AT_ONE,  /* 1, not in the encoding */
	AT_AX,   /* the register itself */
	AT_CX,
	AT_DX,
	AT_S,    /* segment register: ModRM.reg */
	AT_ES,
	AT_CS,
	AT_SS,
	AT_DS,
	AT_FS,
	AT_GS,
	AT_C,    /* control register: ModRM.reg */
	AT_D,    /* debug register: ModRM.reg */
	AT_P,    /* MMX: ModRM.reg */
	AT_Q,    /* MMX or memory: ModRM.rm */
	AT_V,    /* vector: ModRM.reg */
	AT_W,    /* vector or memory: ModRM.rm */
	AT_H,    /* vector: VEX.vvvv */
	AT_L,    /* vector: immediate, bits 7-4 */
	AT_XMM0,
	AT_KG,   /* opmask: ModRM.reg */
	AT_KE,   /* opmask or memory: ModRM.rm */
	AT_KB,   /* opmask: VEX.vvvv */
	AT_ST0,
	AT_ST,   /* x87: ModRM.rm */
	AT_PLACES,
};

/* How wide it is: see decode_sizes[]. */
enum decode_size {
	SZ_0,
	SZ_1,
	SZ_2,
	SZ_4,
	SZ_8,
	SZ_10,
	SZ_16,
	SZ_32,
	SZ_64,
	SZ_512,
	SZ_XSAVE,
	SZ_NATIVE, /* 4; in 64-bit code 8 */
	SZ_TABLE,  /* GDTR, IDTR in memory: 6; in 64-bit code 10 */
	SZ_ADDR,   /* as the address size */
	SZ_IMM,    /* as the immediate is in the encoding */
	/* by operand size 2, 4, 8 */
	SZ_V,      /* 2 4 8 */
	SZ_Z,      /* 2 4 4 */
	SZ_Y,      /* 4 4 8 */
	SZ_P,      /* far pointer: 4 6 10 */
	SZ_A,      /* two of them: 4 8 16 */
	SZ_CX,     /* CMPXCHG8B, 16B: 8 8 16 */
	SZ_2V,     /* 2 in memory, in registers 2 4 8 */
	SZ_ENV,    /* x87 environment: 14 28 28 */
	SZ_STATE,  /* x87 state: 94 108 108 */
	/* by vector length 16, 32, 64 */
	SZ_X,
	SZ_HALF,
	SZ_QUARTER,
	SZ_EIGHTH,
	/* part of a register, in memory as wide as said */
	SZ_X1,     /* a vector register */
	SZ_X2,
	SZ_X4,
	SZ_X8,
	SZ_Q4,     /* an MMX register */
	SZ_K1,     /* an opmask register */
	SZ_K2,
	SZ_K4,
	SZ_DUP,    /* VMOVDDUP: 8 32 64 */
	SZ_D1,     /* a 32-bit register */
	SZ_D2,
	SZ_SIZES,
};
/* clang-format on */

#define DECODE_SPEC(place, size) ((place) | (size) << 6)
#define DECODE_SPEC_PLACE(spec) ((spec)&0x3fu)
#define DECODE_SPEC_SIZE(spec) ((spec) >> 6 & 0x3fu)
#define DECODE_SPEC_RW(spec) ((uint8_t)((spec) >> 12 & 3u))

/* An operand that is read, written, both, or only named. */
#define RD(spec) ((spec) | X86_R << 12)
#define WR(spec) ((spec) | X86_W << 12)
#define RW(spec) ((spec) | X86_RW << 12)
#define NO(spec) (spec)

#define OPS(...) .opnd = { __VA_ARGS__ }

#define Eb DECODE_SPEC(AT_E, SZ_1)
#define Ew DECODE_SPEC(AT_E, SZ_2)
#define Ed DECODE_SPEC(AT_E, SZ_4)
#define Eq DECODE_SPEC(AT_E, SZ_8)
#define Ev DECODE_SPEC(AT_E, SZ_V)
#define Ey DECODE_SPEC(AT_E, SZ_Y)
#define En DECODE_SPEC(AT_E, SZ_NATIVE)
#define Evw DECODE_SPEC(AT_E, SZ_2V) /* Mw, Rv */
#define Edb DECODE_SPEC(AT_E, SZ_D1) /* Mb, Rd */
#define Edw DECODE_SPEC(AT_E, SZ_D2) /* Mw, Rd */
#define Gb DECODE_SPEC(AT_G, SZ_1)
#define Gw DECODE_SPEC(AT_G, SZ_2)
#define Gd DECODE_SPEC(AT_G, SZ_4)
#define Gv DECODE_SPEC(AT_G, SZ_V)
#define Gy DECODE_SPEC(AT_G, SZ_Y)
#define Gn DECODE_SPEC(AT_G, SZ_NATIVE)
#define Ga DECODE_SPEC(AT_G, SZ_ADDR)
#define By DECODE_SPEC(AT_B, SZ_Y)
#define Zb DECODE_SPEC(AT_Z, SZ_1)
#define Zv DECODE_SPEC(AT_Z, SZ_V)
#define Ma DECODE_SPEC(AT_M, SZ_A)
#define Mp DECODE_SPEC(AT_M, SZ_P)
#define Ms DECODE_SPEC(AT_M, SZ_TABLE)
#define Mv DECODE_SPEC(AT_M, SZ_V)
#define My DECODE_SPEC(AT_M, SZ_Y)
#define M0 DECODE_SPEC(AT_M, SZ_0)
#define Mb DECODE_SPEC(AT_M, SZ_1)
#define Mw DECODE_SPEC(AT_M, SZ_2)
#define Md DECODE_SPEC(AT_M, SZ_4)
#define Mq DECODE_SPEC(AT_M, SZ_8)
#define Mt DECODE_SPEC(AT_M, SZ_10)
#define Mdq DECODE_SPEC(AT_M, SZ_16)
#define Mqq DECODE_SPEC(AT_M, SZ_32)
#define M64 DECODE_SPEC(AT_M, SZ_64)
#define M512 DECODE_SPEC(AT_M, SZ_512)
#define Mxsave DECODE_SPEC(AT_M, SZ_XSAVE)
#define Menv DECODE_SPEC(AT_M, SZ_ENV)
#define Mstate DECODE_SPEC(AT_M, SZ_STATE)
#define Mcx DECODE_SPEC(AT_M, SZ_CX)
#define Mx DECODE_SPEC(AT_M, SZ_X)
#define Ob DECODE_SPEC(AT_O, SZ_1)
#define Ov DECODE_SPEC(AT_O, SZ_V)
#define I DECODE_SPEC(AT_I, SZ_IMM)
#define ONCE DECODE_SPEC(AT_ONE, SZ_1)
#define AL DECODE_SPEC(AT_AX, SZ_1)
#define AX DECODE_SPEC(AT_AX, SZ_2)
#define rAX DECODE_SPEC(AT_AX, SZ_V)
#define zAX DECODE_SPEC(AT_AX, SZ_Z)
#define CL DECODE_SPEC(AT_CX, SZ_1)
#define DX DECODE_SPEC(AT_DX, SZ_2)
#define Rn DECODE_SPEC(AT_R, SZ_NATIVE)
#define Sw DECODE_SPEC(AT_S, SZ_2)
#define SegES DECODE_SPEC(AT_ES, SZ_2)
#define SegCS DECODE_SPEC(AT_CS, SZ_2)
#define SegSS DECODE_SPEC(AT_SS, SZ_2)
#define SegDS DECODE_SPEC(AT_DS, SZ_2)
#define SegFS DECODE_SPEC(AT_FS, SZ_2)
#define SegGS DECODE_SPEC(AT_GS, SZ_2)
#define Cn DECODE_SPEC(AT_C, SZ_NATIVE)
#define Dn DECODE_SPEC(AT_D, SZ_NATIVE)

/*
 * MMX and vector operands.  P, V: ModRM.reg; Q, W: ModRM.rm; H: VEX.vvvv.  x:
 * as long as the vector, h: half of that, f: a fourth, e: an eighth.  Of W, a
 * number is how many bytes are used in memory; the register is 16 bytes.
 */
#define Pq DECODE_SPEC(AT_P, SZ_8)
#define Qq DECODE_SPEC(AT_Q, SZ_8)
#define Qd DECODE_SPEC(AT_Q, SZ_Q4)
#define Vx DECODE_SPEC(AT_V, SZ_X)
#define Vdq DECODE_SPEC(AT_V, SZ_16)
#define Vh DECODE_SPEC(AT_V, SZ_HALF)
#define Wx DECODE_SPEC(AT_W, SZ_X)
#define Wh DECODE_SPEC(AT_W, SZ_HALF)
#define Wf DECODE_SPEC(AT_W, SZ_QUARTER)
#define We DECODE_SPEC(AT_W, SZ_EIGHTH)
#define W1b DECODE_SPEC(AT_W, SZ_X1)
#define W2b DECODE_SPEC(AT_W, SZ_X2)
#define W4b DECODE_SPEC(AT_W, SZ_X4)
#define W8b DECODE_SPEC(AT_W, SZ_X8)
#define Wdq DECODE_SPEC(AT_W, SZ_16)
#define Wqq DECODE_SPEC(AT_W, SZ_32)
#define Wdup DECODE_SPEC(AT_W, SZ_DUP)
#define Hx DECODE_SPEC(AT_H, SZ_X)
#define Hdq DECODE_SPEC(AT_H, SZ_16)
#define Lx DECODE_SPEC(AT_L, SZ_X)
#define XMM0 DECODE_SPEC(AT_XMM0, SZ_16)
#define KG DECODE_SPEC(AT_KG, SZ_8)
#define KB DECODE_SPEC(AT_KB, SZ_8)
#define KE DECODE_SPEC(AT_KE, SZ_8)
#define KE1 DECODE_SPEC(AT_KE, SZ_K1)
#define KE2 DECODE_SPEC(AT_KE, SZ_K2)
#define KE4 DECODE_SPEC(AT_KE, SZ_K4)
#define ST0 DECODE_SPEC(AT_ST0, SZ_10)
#define ST DECODE_SPEC(AT_ST, SZ_10)

/* ---- immediates --------------------------------------------------------- */

enum decode_imm {
	IMM_NONE,
	IMM_8,     /* zero-extended */
	IMM_8S,    /* sign-extended */
	IMM_16,    /* zero-extended */
	IMM_Z,     /* 2 or 4 bytes by operand size, sign-extended */
	IMM_V,     /* 2, 4 or 8 bytes by operand size, zero-extended */
	IMM_FAR,   /* 2 or 4 bytes, then a selector */
	IMM_ENTER, /* 16 bits, then 8 */
	IMM_PAIR,  /* 8 bits, then 8 */
	IMM_ONE,   /* 1, of no bytes */
};

#define IMM(kind) .imm = IMM_##kind

/* ---- operand size ------------------------------------------------------- */

enum decode_opsize {
	SIZE_ANY,    /* 66 and REX.W count */
	SIZE_BYTE,   /* byte form of string and port instructions: 1 */
	SIZE_DEF64,  /* 8 in 64-bit code unless 66 */
	SIZE_NEAR,   /* near branches: always 8 in 64-bit code */
	SIZE_NATIVE, /* by the code size alone: 4 or 8 */
	SIZE_NO_W,   /* 2 or 4 */
	SIZE_Y,      /* 4 or 8 by W: 66 is no operand size, or is mandatory */
	SIZE_RULES,
};

#define SIZE(rule) .opsize = SIZE_##rule
#define DEF64 .opsize = SIZE_DEF64, .op.attrs = X86_A_DEF64
#define NEAR .opsize = SIZE_NEAR, .op.attrs = X86_A_DEF64

/* ---- facts -------------------------------------------------------------- */

#define NAME(name_, id_) .op.name = (name_), .op.id = X86_OP_##id_
#define CLASS(class_) .op.cls = X86_C_##class_
#define FEATURE(feature_) .op.feature = X86_F_##feature_
#define UNIT(fpu_) .op.fpu = X86_FPU_##fpu_
#define ATTRS(attrs_) .op.attrs = (attrs_)
#define LOCK X86_A_LOCK

/* Arithmetic flags: read, written, of those undefined. */
#define FLAGS(read, written, undefined)                         \
	.op.flags_read = (read), .op.flags_written = (written), \
	.op.flags_undefined = (undefined)
#define CF X86_CF
#define PF X86_PF
#define AF X86_AF
#define ZF X86_ZF
#define SF X86_SF
#define OF X86_OF
#define ARITH X86_ARITH

/* General registers used without being operands in the encoding. */
#define FIXED(read, written) \
	.op.fixed_read = (read), .op.fixed_written = (written)
#define rA (1u << CPU_RAX)
#define rC (1u << CPU_RCX)
#define rD (1u << CPU_RDX)
#define rB (1u << CPU_RBX)
#define rSP (1u << CPU_RSP)
#define rBP (1u << CPU_RBP)
#define rSI (1u << CPU_RSI)
#define rDI (1u << CPU_RDI)
#define r11 (1u << CPU_R11)

/* ---- rows and tables ---------------------------------------------------- */

/* How EVEX scales an 8-bit displacement (SDM volume 2, 2.7.5). */
enum decode_tuple {
	TUPLE_WHOLE, /* as wide as the memory operand, which is no vector of */
		     /* elements: no broadcast */
	TUPLE_BCST4, /* of 4-byte elements, one of which can be broadcast */
	TUPLE_BCST8,
	TUPLE_ELEMENT1, /* by one element of that size */
	TUPLE_ELEMENT2,
	TUPLE_ELEMENT4,
	TUPLE_ELEMENT8,
};

/* struct decode_row, traits */
#define ROW_UNDEFINED (1u << 7) /* the end of an opcode's rows */
#define MOD_IGNORED (1u << 6)   /* ModRM names registers, whatever its mod */
/* of EVEX rows */
#define EVEX_MASK (1u << 0)      /* takes an opmask */
#define EVEX_ZERO (1u << 1)      /* and may zero with it */
#define EVEX_ROUND (1u << 2)     /* between registers b is rounding: 512 bits */
#define EVEX_SAE (1u << 3)       /* between registers b suppresses exceptions */
#define EVEX_NEED_MASK (1u << 4) /* gather, scatter: k0 is #UD */
#define EVEX_CHOOSE (1u << 5)    /* the mask chooses a source: no merging */

struct decode_row {
	struct x86_op op;
	uint32_t except;
	uint16_t opnd[4];
	uint8_t imm;    /* enum decode_imm */
	uint8_t opsize; /* enum decode_opsize */
	uint8_t tuple;  /* enum decode_tuple */
	uint8_t traits;
};

typedef const struct decode_row *decode_table[256];

extern const struct decode_row decode_ud;

#define UD_ROW                                                         \
	{                                                              \
		NAME("ud", UD), CLASS(SYSTEM), .traits = ROW_UNDEFINED \
	}

/* A vector instruction without anything of its own but operands. */
#define VECTOR_ROW(name_, unit_, feature_, when_, ...)                   \
	{                                                                \
		NAME(name_, VECTOR), CLASS(VECTOR), UNIT(unit_),         \
		    FEATURE(feature_), WHEN(when_), SIZE(Y), __VA_ARGS__ \
	}

/* An opcode with one row, which fits always. */
#define ONE(...) ((const struct decode_row[]) { { __VA_ARGS__ } })
/* An opcode with several. */
#define ROWS(...) ((const struct decode_row[]) { __VA_ARGS__, UD_ROW })

extern const decode_table decode_map_one, decode_map_0f, decode_map_0f38,
    decode_map_0f3a;
extern const decode_table decode_sse_0f; /* where decode_map_0f has nothing */
extern const decode_table decode_vex_0f, decode_vex_0f38, decode_vex_0f3a;
extern const decode_table decode_evex_0f, decode_evex_0f38, decode_evex_0f3a;
/* D8 to DF */
extern const struct decode_row decode_d8[], decode_d9[], decode_da[],
    decode_db[], decode_dc[], decode_dd[], decode_de[], decode_df[];

#endif
