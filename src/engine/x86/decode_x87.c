/*
 * x87: D8 to DF.
 *
 * Models       Intel SDM volume 2, tables; AMD APM volume 3, table
 *              A-15, for the aliases that Intel's leave blank.
 * Operands     ST0 is one where the manual writes it (FADD ST(0), ST(i)), not
 *              where it is understood (FADD m32fp).
 */
#include "engine/x86/decode_impl.h"

#define X87_ROW(name, feature, when, ...)                     \
	{                                                     \
		NAME(name, VECTOR), CLASS(VECTOR), UNIT(X87), \
		    FEATURE(feature), WHEN(when), __VA_ARGS__ \
	}
#define X87_MEM(n, name, ...) X87_ROW(name, FPU, MEM | EXT(n), __VA_ARGS__)
#define X87_REG(n, name, ...) X87_ROW(name, FPU, REG | EXT(n), __VA_ARGS__)
/* By the whole of ModRM */
#define X87_ONE(modrm, name, ...)                                       \
	X87_ROW(name, FPU, REG | EXT((modrm) >> 3 & 7) | RM((modrm)&7), \
	    __VA_ARGS__)

#define ARITHMETIC(mem, i)                          \
	X87_MEM(0, "f" i "add", OPS(RD(mem))),      \
	    X87_MEM(1, "f" i "mul", OPS(RD(mem))),  \
	    X87_MEM(2, "f" i "com", OPS(RD(mem))),  \
	    X87_MEM(3, "f" i "comp", OPS(RD(mem))), \
	    X87_MEM(4, "f" i "sub", OPS(RD(mem))),  \
	    X87_MEM(5, "f" i "subr", OPS(RD(mem))), \
	    X87_MEM(6, "f" i "div", OPS(RD(mem))),  \
	    X87_MEM(7, "f" i "divr", OPS(RD(mem)))

#define FCMOV(n, name, read)                                 \
	X87_ROW(name, CMOV, REG | EXT(n), FLAGS(read, 0, 0), \
	    OPS(RW(ST0), RD(ST)))
/* To EFLAGS; OF, SF and AF are cleared. */
#define FCOMI(n, name)                                        \
	X87_ROW(name, CMOV, REG | EXT(n), FLAGS(0, ARITH, 0), \
	    OPS(RD(ST0), RD(ST)))
#define FISTTP(mem) X87_ROW("fisttp", SSE3, MEM | EXT(1), OPS(WR(mem)))

const struct decode_row decode_d8[] = {
	ARITHMETIC(Md, ""),
	X87_REG(0, "fadd", OPS(RW(ST0), RD(ST))),
	X87_REG(1, "fmul", OPS(RW(ST0), RD(ST))),
	X87_REG(2, "fcom", OPS(RD(ST))),
	X87_REG(3, "fcomp", OPS(RD(ST))),
	X87_REG(4, "fsub", OPS(RW(ST0), RD(ST))),
	X87_REG(5, "fsubr", OPS(RW(ST0), RD(ST))),
	X87_REG(6, "fdiv", OPS(RW(ST0), RD(ST))),
	X87_REG(7, "fdivr", OPS(RW(ST0), RD(ST))),
	UD_ROW,
};

const struct decode_row decode_d9[] = {
	X87_MEM(0, "fld", OPS(RD(Md))),
	X87_MEM(2, "fst", OPS(WR(Md))),
	X87_MEM(3, "fstp", OPS(WR(Md))),
	X87_MEM(4, "fldenv", OPS(RD(Menv))),
	X87_MEM(5, "fldcw", OPS(RD(Mw))),
	X87_MEM(6, "fnstenv", OPS(WR(Menv))),
	X87_MEM(7, "fnstcw", OPS(WR(Mw))),
	X87_REG(0, "fld", OPS(RD(ST))),
	X87_REG(1, "fxch", OPS(RW(ST))),
	X87_REG(3, "fstpnce", OPS(WR(ST))),
	X87_ONE(0xd0, "fnop"),
	X87_ONE(0xe0, "fchs"),
	X87_ONE(0xe1, "fabs"),
	X87_ONE(0xe4, "ftst"),
	X87_ONE(0xe5, "fxam"),
	X87_ONE(0xe8, "fld1"),
	X87_ONE(0xe9, "fldl2t"),
	X87_ONE(0xea, "fldl2e"),
	X87_ONE(0xeb, "fldpi"),
	X87_ONE(0xec, "fldlg2"),
	X87_ONE(0xed, "fldln2"),
	X87_ONE(0xee, "fldz"),
	X87_ONE(0xf0, "f2xm1"),
	X87_ONE(0xf1, "fyl2x"),
	X87_ONE(0xf2, "fptan"),
	X87_ONE(0xf3, "fpatan"),
	X87_ONE(0xf4, "fxtract"),
	X87_ONE(0xf5, "fprem1"),
	X87_ONE(0xf6, "fdecstp"),
	X87_ONE(0xf7, "fincstp"),
	X87_ONE(0xf8, "fprem"),
	X87_ONE(0xf9, "fyl2xp1"),
	X87_ONE(0xfa, "fsqrt"),
	X87_ONE(0xfb, "fsincos"),
	X87_ONE(0xfc, "frndint"),
	X87_ONE(0xfd, "fscale"),
	X87_ONE(0xfe, "fsin"),
	X87_ONE(0xff, "fcos"),
	UD_ROW,
};

const struct decode_row decode_da[] = {
	ARITHMETIC(Md, "i"),
	FCMOV(0, "fcmovb", CF),
	FCMOV(1, "fcmove", ZF),
	FCMOV(2, "fcmovbe", CF | ZF),
	FCMOV(3, "fcmovu", PF),
	X87_ONE(0xe9, "fucompp"),
	UD_ROW,
};

const struct decode_row decode_db[] = {
	X87_MEM(0, "fild", OPS(RD(Md))),
	FISTTP(Md),
	X87_MEM(2, "fist", OPS(WR(Md))),
	X87_MEM(3, "fistp", OPS(WR(Md))),
	X87_MEM(5, "fld", OPS(RD(Mt))),
	X87_MEM(7, "fstp", OPS(WR(Mt))),
	FCMOV(0, "fcmovnb", CF),
	FCMOV(1, "fcmovne", ZF),
	FCMOV(2, "fcmovnbe", CF | ZF),
	FCMOV(3, "fcmovnu", PF),
	X87_ONE(0xe0, "fneni"),
	X87_ONE(0xe1, "fndisi"),
	X87_ONE(0xe2, "fnclex"),
	X87_ONE(0xe3, "fninit"),
	X87_ONE(0xe4, "fnsetpm"),
	FCOMI(5, "fucomi"),
	FCOMI(6, "fcomi"),
	UD_ROW,
};

const struct decode_row decode_dc[] = {
	ARITHMETIC(Mq, ""),
	X87_REG(0, "fadd", OPS(RW(ST), RD(ST0))),
	X87_REG(1, "fmul", OPS(RW(ST), RD(ST0))),
	X87_REG(2, "fcom", OPS(RD(ST))),
	X87_REG(3, "fcomp", OPS(RD(ST))),
	X87_REG(4, "fsubr", OPS(RW(ST), RD(ST0))),
	X87_REG(5, "fsub", OPS(RW(ST), RD(ST0))),
	X87_REG(6, "fdivr", OPS(RW(ST), RD(ST0))),
	X87_REG(7, "fdiv", OPS(RW(ST), RD(ST0))),
	UD_ROW,
};

const struct decode_row decode_dd[] = {
	X87_MEM(0, "fld", OPS(RD(Mq))),
	FISTTP(Mq),
	X87_MEM(2, "fst", OPS(WR(Mq))),
	X87_MEM(3, "fstp", OPS(WR(Mq))),
	X87_MEM(4, "frstor", OPS(RD(Mstate))),
	X87_MEM(6, "fnsave", OPS(WR(Mstate))),
	X87_MEM(7, "fnstsw", OPS(WR(Mw))),
	X87_REG(0, "ffree", OPS(RD(ST))),
	X87_REG(1, "fxch", OPS(RW(ST))),
	X87_REG(2, "fst", OPS(WR(ST))),
	X87_REG(3, "fstp", OPS(WR(ST))),
	X87_REG(4, "fucom", OPS(RD(ST))),
	X87_REG(5, "fucomp", OPS(RD(ST))),
	UD_ROW,
};

const struct decode_row decode_de[] = {
	ARITHMETIC(Mw, "i"),
	X87_REG(0, "faddp", OPS(RW(ST), RD(ST0))),
	X87_REG(1, "fmulp", OPS(RW(ST), RD(ST0))),
	X87_REG(2, "fcomp", OPS(RD(ST))),
	X87_ONE(0xd9, "fcompp"),
	X87_REG(4, "fsubrp", OPS(RW(ST), RD(ST0))),
	X87_REG(5, "fsubp", OPS(RW(ST), RD(ST0))),
	X87_REG(6, "fdivrp", OPS(RW(ST), RD(ST0))),
	X87_REG(7, "fdivp", OPS(RW(ST), RD(ST0))),
	UD_ROW,
};

const struct decode_row decode_df[] = {
	X87_MEM(0, "fild", OPS(RD(Mw))),
	FISTTP(Mw),
	X87_MEM(2, "fist", OPS(WR(Mw))),
	X87_MEM(3, "fistp", OPS(WR(Mw))),
	X87_MEM(4, "fbld", OPS(RD(Mt))),
	X87_MEM(5, "fild", OPS(RD(Mq))),
	X87_MEM(6, "fbstp", OPS(WR(Mt))),
	X87_MEM(7, "fistp", OPS(WR(Mq))),
	X87_REG(0, "ffreep", OPS(RD(ST))),
	X87_REG(1, "fxch", OPS(RW(ST))),
	X87_REG(2, "fstp", OPS(WR(ST))),
	X87_REG(3, "fstp", OPS(WR(ST))),
	X87_ONE(0xe0, "fnstsw", FIXED(rA, rA), OPS(WR(AX))),
	FCOMI(5, "fucomip"),
	FCOMI(6, "fcomip"),
	UD_ROW,
};
