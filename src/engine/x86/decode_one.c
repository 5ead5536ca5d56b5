/*
 * Opcodes of one byte.
 *
 * Models       Intel SDM volume 2, table for the groups.
 * Fixed        fixed_read and fixed_written also have the registers of operands
 * registers    that are implied (slot X86_S_FIXED).  Where a write can leave a
 *              part of the register as it was (AL, AX), it counts as a read,
 *              too.  A REP prefix may be there or not, so strings always use
 *              RCX.
 * Flags        What may stay as it was (a shift by 0, CMPS repeated 0 times) is
 *              both read and written.
 */
#include "engine/x86/decode_impl.h"

/* clang-format off */
/* ADD and its seven like, by the low three bits of the opcode. */
#define ALU(base, name, id, lock, dst, flags, fixed)                      \
	[(base) + 0] = ONE(NAME(name, id), ATTRS(lock), flags,            \
	    OPS(dst(Eb), RD(Gb))),                                        \
	[(base) + 1] = ONE(NAME(name, id), ATTRS(lock), flags,            \
	    OPS(dst(Ev), RD(Gv))),                                        \
	[(base) + 2] = ONE(NAME(name, id), flags, OPS(dst(Gb), RD(Eb))),  \
	[(base) + 3] = ONE(NAME(name, id), flags, OPS(dst(Gv), RD(Ev))),  \
	[(base) + 4] = ONE(NAME(name, id), flags, fixed, IMM(8S),         \
	    OPS(dst(AL), RD(I))),                                         \
	[(base) + 5] = ONE(NAME(name, id), flags, fixed, IMM(Z),          \
	    OPS(dst(rAX), RD(I)))
/* clang-format on */

#define ADDS FLAGS(0, ARITH, 0)
#define ADCS FLAGS(CF, ARITH, 0)
#define ANDS FLAGS(0, ARITH, AF)

#define GROUP1_ROW(when, name, id, lock, dst, flags, e, imm_kind)              \
	{                                                                      \
		NAME(name, id), WHEN(when), ATTRS(lock), flags, IMM(imm_kind), \
		    OPS(dst(e), RD(I))                                         \
	}
#define GROUP1(e, imm_kind, when)                                       \
	ROWS(GROUP1_ROW(EXT(0) | (when), "add", ADD, LOCK, RW, ADDS, e, \
		 imm_kind),                                             \
	    GROUP1_ROW(EXT(1) | (when), "or", OR, LOCK, RW, ANDS, e,    \
		imm_kind),                                              \
	    GROUP1_ROW(EXT(2) | (when), "adc", ADC, LOCK, RW, ADCS, e,  \
		imm_kind),                                              \
	    GROUP1_ROW(EXT(3) | (when), "sbb", SBB, LOCK, RW, ADCS, e,  \
		imm_kind),                                              \
	    GROUP1_ROW(EXT(4) | (when), "and", AND, LOCK, RW, ANDS, e,  \
		imm_kind),                                              \
	    GROUP1_ROW(EXT(5) | (when), "sub", SUB, LOCK, RW, ADDS, e,  \
		imm_kind),                                              \
	    GROUP1_ROW(EXT(6) | (when), "xor", XOR, LOCK, RW, ANDS, e,  \
		imm_kind),                                              \
	    GROUP1_ROW(EXT(7) | (when), "cmp", CMP, 0, RD, ADDS, e, imm_kind))

/*
 * Rotates and shifts.  Once: nothing is left as it was, and OF is defined.
 * Otherwise the count may be 0.
 */
#define ROTATE_1 FLAGS(0, CF | OF, 0)
#define ROTATE_N FLAGS(CF | OF, CF | OF, OF)
#define ROTATE_CARRY_1 FLAGS(CF, CF | OF, 0)
#define SHIFT_1 FLAGS(0, ARITH, AF)
#define SHIFT_N FLAGS(ARITH, ARITH, OF | AF)
#define GROUP2_ROW(n, name, id, flags, ...)                      \
	{                                                        \
		NAME(name, id), WHEN(EXT(n)), flags, __VA_ARGS__ \
	}
#define GROUP2(rotate, rotate_carry, shift, ...)                  \
	ROWS(GROUP2_ROW(0, "rol", ROL, rotate, __VA_ARGS__),      \
	    GROUP2_ROW(1, "ror", ROR, rotate, __VA_ARGS__),       \
	    GROUP2_ROW(2, "rcl", RCL, rotate_carry, __VA_ARGS__), \
	    GROUP2_ROW(3, "rcr", RCR, rotate_carry, __VA_ARGS__), \
	    GROUP2_ROW(4, "shl", SHL, shift, __VA_ARGS__),        \
	    GROUP2_ROW(5, "shr", SHR, shift, __VA_ARGS__),        \
	    GROUP2_ROW(6, "shl", SHL, shift, __VA_ARGS__),        \
	    GROUP2_ROW(7, "sar", SAR, shift, __VA_ARGS__))
#define GROUP2_IMM(e) \
	GROUP2(ROTATE_N, ROTATE_N, SHIFT_N, IMM(8), OPS(RW(e), RD(I)))
#define GROUP2_ONE(e)                                       \
	GROUP2(ROTATE_1, ROTATE_CARRY_1, SHIFT_1, IMM(ONE), \
	    OPS(RW(e), RD(ONCE)))
#define GROUP2_CL(e) \
	GROUP2(ROTATE_N, ROTATE_N, SHIFT_N, FIXED(rC, 0), OPS(RW(e), RD(CL)))

#define GROUP3(e, imm_kind, regs)                                              \
	ROWS({ NAME("test", TEST), WHEN(EXT(0)), ANDS, IMM(imm_kind),          \
		 OPS(RD(e), RD(I)) },                                          \
	    { NAME("test", TEST), WHEN(EXT(1)), ANDS, IMM(imm_kind),           \
		OPS(RD(e), RD(I)) },                                           \
	    { NAME("not", NOT), WHEN(EXT(2)), ATTRS(LOCK), OPS(RW(e)) },       \
	    { NAME("neg", NEG), WHEN(EXT(3)), ATTRS(LOCK), ADDS, OPS(RW(e)) }, \
	    { NAME("mul", MUL), WHEN(EXT(4)),                                  \
		FLAGS(0, ARITH, SF | ZF | AF | PF), FIXED(regs, regs),         \
		OPS(RD(e)) },                                                  \
	    { NAME("imul", IMUL1), WHEN(EXT(5)),                               \
		FLAGS(0, ARITH, SF | ZF | AF | PF), FIXED(regs, regs),         \
		OPS(RD(e)) },                                                  \
	    { NAME("div", DIV), WHEN(EXT(6)), FLAGS(0, ARITH, ARITH),          \
		FIXED(regs, regs), OPS(RD(e)) },                               \
	    { NAME("idiv", IDIV), WHEN(EXT(7)), FLAGS(0, ARITH, ARITH),        \
		FIXED(regs, regs), OPS(RD(e)) })

#define INCS FLAGS(0, ARITH & ~CF, 0)

/* clang-format off */
/* INC or DEC of 16- and 32-bit code: eight opcodes */
#define INC_DEC(base, name, id)                                      \
	[(base)... (base) + 7] =                                     \
	    ROWS({ NAME(name, id), WHEN(NO64), INCS, OPS(RW(Zv)) })
/* clang-format on */

/* clang-format off */
#define JCC(cc, name, read)                                           \
	[0x70 + (cc)] = ONE(NAME(name, JCC), CLASS(FLOW), NEAR,       \
	    FLAGS(read, 0, 0), IMM(8S), OPS(RD(I)))
/* clang-format on */

#define STRING(name, id, regs_read, regs_written, ...) \
	NAME(name, id), CLASS(STRING),                 \
	    FIXED((regs_read) | rC, (regs_written) | rC), __VA_ARGS__
#define COMPARES FLAGS(ARITH, ARITH, 0)

#define PUSHES CLASS(STACK), DEF64, FIXED(rSP, rSP)
#define SEG_PUSH(seg, ...)                                         \
	NAME("push", PUSH), CLASS(SYSTEM), DEF64, FIXED(rSP, rSP), \
	    OPS(RD(seg)), __VA_ARGS__
#define SEG_POP(seg, ...)                                                      \
	NAME("pop", POP), CLASS(SYSTEM), DEF64, FIXED(rSP, rSP), OPS(WR(seg)), \
	    __VA_ARGS__

#define NO64_SYSTEM(...) ROWS({ CLASS(SYSTEM), WHEN(NO64), __VA_ARGS__ })
#define SYSTEM(...) ONE(CLASS(SYSTEM), __VA_ARGS__)
#define FLOW(...) ONE(CLASS(FLOW), NEAR, __VA_ARGS__)

#define LOOPS(name, id, read)                                           \
	FLOW(NAME(name, id), FLAGS(read, 0, 0), FIXED(rC, rC), IMM(8S), \
	    OPS(RD(I)))

#define ALL_REGS 0xffu
#define NO_SEG_6_7 (DECODE_MODRM_REG(6) | DECODE_MODRM_REG(7))

const decode_table decode_map_one = {
	ALU(0x00, "add", ADD, LOCK, RW, ADDS, FIXED(rA, rA)),
	ALU(0x08, "or", OR, LOCK, RW, ANDS, FIXED(rA, rA)),
	ALU(0x10, "adc", ADC, LOCK, RW, ADCS, FIXED(rA, rA)),
	ALU(0x18, "sbb", SBB, LOCK, RW, ADCS, FIXED(rA, rA)),
	ALU(0x20, "and", AND, LOCK, RW, ANDS, FIXED(rA, rA)),
	ALU(0x28, "sub", SUB, LOCK, RW, ADDS, FIXED(rA, rA)),
	ALU(0x30, "xor", XOR, LOCK, RW, ANDS, FIXED(rA, rA)),
	ALU(0x38, "cmp", CMP, 0, RD, ADDS, FIXED(rA, 0)),
	[0x06] = ROWS({ SEG_PUSH(SegES, WHEN(NO64)) }),
	[0x07] = ROWS({ SEG_POP(SegES, WHEN(NO64)) }),
	[0x0e] = ROWS({ SEG_PUSH(SegCS, WHEN(NO64)) }),
	[0x16] = ROWS({ SEG_PUSH(SegSS, WHEN(NO64)) }),
	[0x17] = ROWS({ SEG_POP(SegSS, WHEN(NO64)) }),
	[0x1e] = ROWS({ SEG_PUSH(SegDS, WHEN(NO64)) }),
	[0x1f] = ROWS({ SEG_POP(SegDS, WHEN(NO64)) }),
	[0x27] = NO64_SYSTEM(NAME("daa", DAA), FLAGS(CF | AF, ARITH, OF),
	    FIXED(rA, rA)),
	[0x2f] = NO64_SYSTEM(NAME("das", DAS), FLAGS(CF | AF, ARITH, OF),
	    FIXED(rA, rA)),
	[0x37] = NO64_SYSTEM(NAME("aaa", AAA),
	    FLAGS(AF, ARITH, OF | SF | ZF | PF), FIXED(rA, rA)),
	[0x3f] = NO64_SYSTEM(NAME("aas", AAS),
	    FLAGS(AF, ARITH, OF | SF | ZF | PF), FIXED(rA, rA)),

	INC_DEC(0x40, "inc", INC),
	INC_DEC(0x48, "dec", DEC),
	[0x50 ... 0x57] = ONE(NAME("push", PUSH), PUSHES, OPS(RD(Zv))),
	[0x58 ... 0x5f] = ONE(NAME("pop", POP), PUSHES, OPS(WR(Zv))),
	[0x60] = ROWS({ NAME("pusha", PUSHA), CLASS(STACK), WHEN(NO64),
	    FIXED(ALL_REGS, rSP) }),
	[0x61] = ROWS({ NAME("popa", POPA), CLASS(STACK), WHEN(NO64),
	    FIXED(ALL_REGS, ALL_REGS) }),
	[0x62] = ROWS({ NAME("bound", BOUND), CLASS(SYSTEM), WHEN(NO64 | MEM),
	    OPS(RD(Gv), RD(Ma)) }),
	[0x63] =
	    ROWS({ NAME("movsxd", MOVSX), WHEN(ONLY64), OPS(WR(Gv), RD(Ed)) },
		{ NAME("arpl", ARPL), CLASS(SYSTEM), WHEN(NO64),
		    FLAGS(0, ZF, 0), OPS(RW(Ew), RD(Gw)) }),
	[0x68] = ONE(NAME("push", PUSH), PUSHES, IMM(Z), OPS(RD(I))),
	[0x69] = ONE(NAME("imul", IMUL), FLAGS(0, ARITH, SF | ZF | AF | PF),
	    IMM(Z), OPS(WR(Gv), RD(Ev), RD(I))),
	[0x6a] = ONE(NAME("push", PUSH), PUSHES, IMM(8S), OPS(RD(I))),
	[0x6b] = ONE(NAME("imul", IMUL), FLAGS(0, ARITH, SF | ZF | AF | PF),
	    IMM(8S), OPS(WR(Gv), RD(Ev), RD(I))),
	[0x6c] = ONE(STRING("ins", INS, rD | rDI, rDI, SIZE(BYTE))),
	[0x6d] = ONE(STRING("ins", INS, rD | rDI, rDI, SIZE(NO_W))),
	[0x6e] = ONE(STRING("outs", OUTS, rD | rSI, rSI, SIZE(BYTE))),
	[0x6f] = ONE(STRING("outs", OUTS, rD | rSI, rSI, SIZE(NO_W))),

	JCC(0x0, "jo", OF),
	JCC(0x1, "jno", OF),
	JCC(0x2, "jb", CF),
	JCC(0x3, "jnb", CF),
	JCC(0x4, "jz", ZF),
	JCC(0x5, "jnz", ZF),
	JCC(0x6, "jbe", CF | ZF),
	JCC(0x7, "jnbe", CF | ZF),
	JCC(0x8, "js", SF),
	JCC(0x9, "jns", SF),
	JCC(0xa, "jp", PF),
	JCC(0xb, "jnp", PF),
	JCC(0xc, "jl", SF | OF),
	JCC(0xd, "jnl", SF | OF),
	JCC(0xe, "jle", ZF | SF | OF),
	JCC(0xf, "jnle", ZF | SF | OF),

	[0x80] = GROUP1(Eb, 8S, 0),
	[0x81] = GROUP1(Ev, Z, 0),
	[0x82] = GROUP1(Eb, 8S, NO64),
	[0x83] = GROUP1(Ev, 8S, 0),
	[0x84] = ONE(NAME("test", TEST), ANDS, OPS(RD(Eb), RD(Gb))),
	[0x85] = ONE(NAME("test", TEST), ANDS, OPS(RD(Ev), RD(Gv))),
	[0x86] = ONE(NAME("xchg", XCHG), ATTRS(LOCK), OPS(RW(Eb), RW(Gb))),
	[0x87] = ONE(NAME("xchg", XCHG), ATTRS(LOCK), OPS(RW(Ev), RW(Gv))),
	[0x88] = ONE(NAME("mov", MOV), OPS(WR(Eb), RD(Gb))),
	[0x89] = ONE(NAME("mov", MOV), OPS(WR(Ev), RD(Gv))),
	[0x8a] = ONE(NAME("mov", MOV), OPS(WR(Gb), RD(Eb))),
	[0x8b] = ONE(NAME("mov", MOV), OPS(WR(Gv), RD(Ev))),
	[0x8c] = ROWS({ NAME("mov", MOV_FROM_SEG), CLASS(SYSTEM),
	    WHEN(NO_SEG_6_7), OPS(WR(Evw), RD(Sw)) }),
	[0x8d] = ROWS({ NAME("lea", LEA), ATTRS(X86_A_NO_MEM_READ), WHEN(MEM),
	    OPS(WR(Gv), NO(M0)) }),
	[0x8e] = ROWS({ NAME("mov", MOV_TO_SEG), CLASS(SYSTEM),
	    WHEN(NO_SEG_6_7 | DECODE_MODRM_REG(CPU_CS)), OPS(WR(Sw), RD(Ew)) }),
	[0x8f] = ROWS({ NAME("pop", POP), PUSHES, WHEN(EXT(0)), OPS(WR(Ev)) }),

	/* Without REX.B these are NOP and PAUSE. */
	[0x90] = ROWS({ NAME("pause", PAUSE), WHEN(PF3 | RM(0)) },
	    { NAME("nop", NOP), WHEN(RM(0)) },
	    { NAME("xchg", XCHG), FIXED(rA, rA), OPS(RW(Zv), RW(rAX)) }),
	[0x91 ... 0x97] =
	    ONE(NAME("xchg", XCHG), FIXED(rA, rA), OPS(RW(Zv), RW(rAX))),
	[0x98] = ONE(NAME("cbw", CBW), FIXED(rA, rA)),
	[0x99] = ONE(NAME("cwd", CWD), FIXED(rA | rD, rD)),
	[0x9a] = NO64_SYSTEM(NAME("call", CALL_FAR), FIXED(rSP, rSP), IMM(FAR),
	    OPS(RD(I))),
	[0x9b] = SYSTEM(NAME("wait", WAIT), UNIT(WAIT)),
	[0x9c] = ONE(NAME("pushf", PUSHF), PUSHES, FLAGS(ARITH, 0, 0)),
	[0x9d] = ONE(NAME("popf", POPF), PUSHES, FLAGS(0, ARITH, 0)),
	[0x9e] = ROWS({ NAME("sahf", SAHF), WHEN(NO64), FIXED(rA, 0),
			  FLAGS(0, ARITH & ~OF, 0) },
	    { NAME("sahf", SAHF), FEATURE(LAHF64), FIXED(rA, 0),
		FLAGS(0, ARITH & ~OF, 0) }),
	[0x9f] = ROWS({ NAME("lahf", LAHF), WHEN(NO64), FIXED(rA, rA),
			  FLAGS(ARITH & ~OF, 0, 0) },
	    { NAME("lahf", LAHF), FEATURE(LAHF64), FIXED(rA, rA),
		FLAGS(ARITH & ~OF, 0, 0) }),

	[0xa0] = ONE(NAME("mov", MOV), FIXED(rA, rA), OPS(WR(AL), RD(Ob))),
	[0xa1] = ONE(NAME("mov", MOV), FIXED(rA, rA), OPS(WR(rAX), RD(Ov))),
	[0xa2] = ONE(NAME("mov", MOV), FIXED(rA, 0), OPS(WR(Ob), RD(AL))),
	[0xa3] = ONE(NAME("mov", MOV), FIXED(rA, 0), OPS(WR(Ov), RD(rAX))),
	[0xa4] = ONE(STRING("movs", MOVS, rSI | rDI, rSI | rDI, SIZE(BYTE))),
	[0xa5] = ONE(STRING("movs", MOVS, rSI | rDI, rSI | rDI, SIZE(ANY))),
	[0xa6] = ONE(
	    STRING("cmps", CMPS, rSI | rDI, rSI | rDI, SIZE(BYTE), COMPARES)),
	[0xa7] = ONE(
	    STRING("cmps", CMPS, rSI | rDI, rSI | rDI, SIZE(ANY), COMPARES)),
	[0xa8] = ONE(NAME("test", TEST), ANDS, FIXED(rA, 0), IMM(8S),
	    OPS(RD(AL), RD(I))),
	[0xa9] = ONE(NAME("test", TEST), ANDS, FIXED(rA, 0), IMM(Z),
	    OPS(RD(rAX), RD(I))),
	[0xaa] = ONE(STRING("stos", STOS, rA | rDI, rDI, SIZE(BYTE))),
	[0xab] = ONE(STRING("stos", STOS, rA | rDI, rDI, SIZE(ANY))),
	[0xac] = ONE(STRING("lods", LODS, rA | rSI, rA | rSI, SIZE(BYTE))),
	[0xad] = ONE(STRING("lods", LODS, rA | rSI, rA | rSI, SIZE(ANY))),
	[0xae] = ONE(STRING("scas", SCAS, rA | rDI, rDI, SIZE(BYTE), COMPARES)),
	[0xaf] = ONE(STRING("scas", SCAS, rA | rDI, rDI, SIZE(ANY), COMPARES)),

	[0xb0 ... 0xb7] = ONE(NAME("mov", MOV), IMM(8), OPS(WR(Zb), RD(I))),
	[0xb8 ... 0xbf] = ONE(NAME("mov", MOV), IMM(V), OPS(WR(Zv), RD(I))),

	[0xc0] = GROUP2_IMM(Eb),
	[0xc1] = GROUP2_IMM(Ev),
	[0xc2] = FLOW(NAME("ret", RET), FIXED(rSP, rSP), IMM(16), OPS(RD(I))),
	[0xc3] = FLOW(NAME("ret", RET), FIXED(rSP, rSP)),
	[0xc4] = ROWS({ NAME("les", LOAD_FAR), CLASS(SYSTEM), WHEN(NO64 | MEM),
	    OPS(WR(Gv), RD(Mp), WR(SegES)) }),
	[0xc5] = ROWS({ NAME("lds", LOAD_FAR), CLASS(SYSTEM), WHEN(NO64 | MEM),
	    OPS(WR(Gv), RD(Mp), WR(SegDS)) }),
	[0xc6] = ROWS(
	    { NAME("mov", MOV), WHEN(EXT(0)), IMM(8S), OPS(WR(Eb), RD(I)) }),
	[0xc7] = ROWS(
	    { NAME("mov", MOV), WHEN(EXT(0)), IMM(Z), OPS(WR(Ev), RD(I)) }),
	[0xc8] = ONE(NAME("enter", ENTER), CLASS(STACK), DEF64,
	    FIXED(rSP | rBP, rSP | rBP), IMM(ENTER), OPS(RD(I))),
	[0xc9] = ONE(NAME("leave", LEAVE), CLASS(STACK), DEF64,
	    FIXED(rSP | rBP, rSP | rBP)),
	[0xca] =
	    SYSTEM(NAME("retf", RET_FAR), FIXED(rSP, rSP), IMM(16), OPS(RD(I))),
	[0xcb] = SYSTEM(NAME("retf", RET_FAR), FIXED(rSP, rSP)),
	[0xcc] =
	    SYSTEM(NAME("int3", INT3), FIXED(rSP, rSP), FLAGS(ARITH, 0, 0)),
	[0xcd] = SYSTEM(NAME("int", INT), FIXED(rSP, rSP), FLAGS(ARITH, 0, 0),
	    IMM(8), OPS(RD(I))),
	[0xce] = NO64_SYSTEM(NAME("into", INTO), FIXED(rSP, rSP),
	    FLAGS(ARITH, 0, 0)),
	[0xcf] =
	    SYSTEM(NAME("iret", IRET), FIXED(rSP, rSP), FLAGS(0, ARITH, 0)),

	[0xd0] = GROUP2_ONE(Eb),
	[0xd1] = GROUP2_ONE(Ev),
	[0xd2] = GROUP2_CL(Eb),
	[0xd3] = GROUP2_CL(Ev),
	[0xd4] = NO64_SYSTEM(NAME("aam", AAM), FLAGS(0, ARITH, OF | AF | CF),
	    FIXED(rA, rA), IMM(8), OPS(RD(I))),
	[0xd5] = NO64_SYSTEM(NAME("aad", AAD), FLAGS(0, ARITH, OF | AF | CF),
	    FIXED(rA, rA), IMM(8), OPS(RD(I))),
	[0xd6] =
	    NO64_SYSTEM(NAME("salc", SALC), FLAGS(CF, 0, 0), FIXED(rA, rA)),
	[0xd7] = SYSTEM(NAME("xlat", XLAT), FIXED(rA | rB, rA)),
	[0xd8] = decode_d8,
	[0xd9] = decode_d9,
	[0xda] = decode_da,
	[0xdb] = decode_db,
	[0xdc] = decode_dc,
	[0xdd] = decode_dd,
	[0xde] = decode_de,
	[0xdf] = decode_df,

	[0xe0] = LOOPS("loopne", LOOPNE, ZF),
	[0xe1] = LOOPS("loope", LOOPE, ZF),
	[0xe2] = LOOPS("loop", LOOP, 0),
	[0xe3] = FLOW(NAME("jcxz", JCXZ), FIXED(rC, 0), IMM(8S), OPS(RD(I))),
	[0xe4] = SYSTEM(NAME("in", IN), SIZE(BYTE), FIXED(rA, rA), IMM(8),
	    OPS(WR(AL), RD(I))),
	[0xe5] = SYSTEM(NAME("in", IN), SIZE(NO_W), FIXED(rA, rA), IMM(8),
	    OPS(WR(zAX), RD(I))),
	[0xe6] = SYSTEM(NAME("out", OUT), SIZE(BYTE), FIXED(rA, 0), IMM(8),
	    OPS(RD(I), RD(AL))),
	[0xe7] = SYSTEM(NAME("out", OUT), SIZE(NO_W), FIXED(rA, 0), IMM(8),
	    OPS(RD(I), RD(zAX))),
	[0xe8] = FLOW(NAME("call", CALL), FIXED(rSP, rSP), IMM(Z), OPS(RD(I))),
	[0xe9] = FLOW(NAME("jmp", JMP), IMM(Z), OPS(RD(I))),
	[0xea] = NO64_SYSTEM(NAME("jmp", JMP_FAR), IMM(FAR), OPS(RD(I))),
	[0xeb] = FLOW(NAME("jmp", JMP), IMM(8S), OPS(RD(I))),
	[0xec] = SYSTEM(NAME("in", IN), SIZE(BYTE), FIXED(rA | rD, rA),
	    OPS(WR(AL), RD(DX))),
	[0xed] = SYSTEM(NAME("in", IN), SIZE(NO_W), FIXED(rA | rD, rA),
	    OPS(WR(zAX), RD(DX))),
	[0xee] = SYSTEM(NAME("out", OUT), SIZE(BYTE), FIXED(rA | rD, 0),
	    OPS(RD(DX), RD(AL))),
	[0xef] = SYSTEM(NAME("out", OUT), SIZE(NO_W), FIXED(rA | rD, 0),
	    OPS(RD(DX), RD(zAX))),

	[0xf1] =
	    SYSTEM(NAME("int1", INT1), FIXED(rSP, rSP), FLAGS(ARITH, 0, 0)),
	[0xf4] = SYSTEM(NAME("hlt", HLT)),
	[0xf5] = ONE(NAME("cmc", CMC), FLAGS(CF, CF, 0)),
	[0xf6] = GROUP3(Eb, 8S, rA),
	[0xf7] = GROUP3(Ev, Z, rA | rD),
	[0xf8] = ONE(NAME("clc", CLC), FLAGS(0, CF, 0)),
	[0xf9] = ONE(NAME("stc", STC), FLAGS(0, CF, 0)),
	[0xfa] = SYSTEM(NAME("cli", CLI)),
	[0xfb] = SYSTEM(NAME("sti", STI)),
	[0xfc] = SYSTEM(NAME("cld", CLD)),
	[0xfd] = SYSTEM(NAME("std", STD)),
	[0xfe] = ROWS({ NAME("inc", INC), WHEN(EXT(0)), ATTRS(LOCK), INCS,
			  OPS(RW(Eb)) },
	    { NAME("dec", DEC), WHEN(EXT(1)), ATTRS(LOCK), INCS, OPS(RW(Eb)) }),
	[0xff] = ROWS({ NAME("inc", INC), WHEN(EXT(0)), ATTRS(LOCK), INCS,
			  OPS(RW(Ev)) },
	    { NAME("dec", DEC), WHEN(EXT(1)), ATTRS(LOCK), INCS, OPS(RW(Ev)) },
	    { NAME("call", CALL_IND), CLASS(FLOW), WHEN(EXT(2)), NEAR,
		FIXED(rSP, rSP), OPS(RD(Ev)) },
	    { NAME("call", CALL_FAR_IND), CLASS(SYSTEM), WHEN(EXT(3) | MEM),
		FIXED(rSP, rSP), OPS(RD(Mp)) },
	    { NAME("jmp", JMP_IND), CLASS(FLOW), WHEN(EXT(4)), NEAR,
		OPS(RD(Ev)) },
	    { NAME("jmp", JMP_FAR_IND), CLASS(SYSTEM), WHEN(EXT(5) | MEM),
		OPS(RD(Mp)) },
	    { NAME("push", PUSH), WHEN(EXT(6)), PUSHES, OPS(RD(Ev)) }),
};
