/*
 * Opcodes of two bytes, 0F and one more: integer and system instructions.  MMX
 * and SSE are in decode_sse.c, but for what shares its opcode with these.
 *
 * Models       Intel SDM volume 2, table for the groups.
 *              fixed_read and fixed_written: see decode_one.c.
 */
#include "engine/x86/decode_impl.h"

#define SYSTEM_ROW(name, id, when, ...)                                \
	{                                                              \
		NAME(name, id), CLASS(SYSTEM), WHEN(when), __VA_ARGS__ \
	}
#define SYSTEM(...) ONE(CLASS(SYSTEM), __VA_ARGS__)

/* clang-format off */
/* Sixteen conditions: JO, SETO, CMOVO ... */
#define CC(base, row, stem)                                              \
	[(base) + 0x0] = row(stem "o", OF),                              \
	[(base) + 0x1] = row(stem "no", OF),                             \
	[(base) + 0x2] = row(stem "b", CF),                              \
	[(base) + 0x3] = row(stem "nb", CF),                             \
	[(base) + 0x4] = row(stem "z", ZF),                              \
	[(base) + 0x5] = row(stem "nz", ZF),                             \
	[(base) + 0x6] = row(stem "be", CF | ZF),                        \
	[(base) + 0x7] = row(stem "nbe", CF | ZF),                       \
	[(base) + 0x8] = row(stem "s", SF),                              \
	[(base) + 0x9] = row(stem "ns", SF),                             \
	[(base) + 0xa] = row(stem "p", PF),                              \
	[(base) + 0xb] = row(stem "np", PF),                             \
	[(base) + 0xc] = row(stem "l", SF | OF),                         \
	[(base) + 0xd] = row(stem "nl", SF | OF),                        \
	[(base) + 0xe] = row(stem "le", ZF | SF | OF),                   \
	[(base) + 0xf] = row(stem "nle", ZF | SF | OF)
/* clang-format on */

#define CMOV(name, read)                                          \
	ONE(NAME(name, CMOVCC), FEATURE(CMOV), FLAGS(read, 0, 0), \
	    OPS(RW(Gv), RD(Ev)))
#define JCC(name, read)                                                    \
	ONE(NAME(name, JCC), CLASS(FLOW), NEAR, FLAGS(read, 0, 0), IMM(Z), \
	    OPS(RD(I)))
#define SET(name, read) ONE(NAME(name, SETCC), FLAGS(read, 0, 0), OPS(WR(Eb)))

/* Bit tests: only CF is defined, and ZF kept. */
#define BITS FLAGS(0, ARITH & ~ZF, ARITH & ~ZF & ~CF)
#define BIT_REG(name, id, attrs, dst)                            \
	ONE(NAME(name, id), ATTRS(X86_A_BITSTR | (attrs)), BITS, \
	    OPS(dst(Ev), RD(Gv)))
#define BIT_IMM(n, name, id, attrs, dst)                                  \
	{                                                                 \
		NAME(name, id), WHEN(EXT(n)), ATTRS(attrs), BITS, IMM(8), \
		    OPS(dst(Ev), RD(I))                                   \
	}

/* The count may be 0. */
#define SHIFTS_DOUBLE FLAGS(ARITH, ARITH, OF | AF)
#define COUNTS FLAGS(0, ARITH, ARITH & ~ZF & ~CF)
#define SCANS FLAGS(0, ARITH, ARITH & ~ZF)

/* All hints are NOPs with a ModRM that nobody looks at. */
#define HINT ONE(NAME("nop", NOP), ATTRS(X86_A_NO_MEM_READ), OPS(NO(Ev)))

#define SEG_PUSH(seg) \
	SYSTEM(NAME("push", PUSH), DEF64, FIXED(rSP, rSP), OPS(RD(seg)))
#define SEG_POP(seg) \
	SYSTEM(NAME("pop", POP), DEF64, FIXED(rSP, rSP), OPS(WR(seg)))
#define LOAD_FAR(name, seg) \
	ROWS(SYSTEM_ROW(name, LOAD_FAR, MEM, OPS(WR(Gv), RD(Mp), WR(seg))))

/* CR0 CR2 CR3 CR4, and with REX.R CR8 */
#define CR_LOW                                            \
	(R0 | DECODE_MODRM_REG(1) | DECODE_MODRM_REG(5) | \
	    DECODE_MODRM_REG(6) | DECODE_MODRM_REG(7))
#define MOV_CR(id, ...)                                             \
	ROWS(SYSTEM_ROW("mov", id, CR_LOW, REGS_ONLY, __VA_ARGS__), \
	    SYSTEM_ROW("mov", id, EXT(0), REGS_ONLY, __VA_ARGS__))

#define REGS_ONLY SIZE(NATIVE), .traits = MOD_IGNORED

#define MONITOR_ROW(name, modrm, when)                            \
	SYSTEM_ROW(name, MONITOR,                                 \
	    REG | EXT((modrm) >> 3 & 7) | RM((modrm)&7) | (when), \
	    FEATURE(NEVER))
#define ROW_0F01(name, id, modrm, when, ...) \
	SYSTEM_ROW(name, id,                 \
	    REG | EXT((modrm) >> 3 & 7) | RM((modrm)&7) | (when), __VA_ARGS__)

#define FENCE(n, name, feature)                                              \
	{                                                                    \
		NAME(name, FENCE), WHEN(NP | REG | EXT(n)), FEATURE(feature) \
	}
#define FSGSBASE(n, name, id, access)                              \
	SYSTEM_ROW(name, id, PF3 | REG | EXT(n) | ONLY64, SIZE(Y), \
	    FEATURE(FSGSBASE), OPS(access(Ey)))
#define CACHE_LINE(when, name, feature)                                        \
	{                                                                      \
		NAME(name, CLFLUSH), WHEN(when), FEATURE(feature), OPS(RD(Mb)) \
	}
/* XSAVE and its kin: which components is in EDX:EAX */
#define XSAVES_ROW(n, name, id, feature, access)                           \
	SYSTEM_ROW(name, id, NP | MEM | EXT(n), FEATURE(feature), SIZE(Y), \
	    FIXED(rA | rD, 0), OPS(access(Mxsave)))

#define RANDOM(when, name, id)                                               \
	{                                                                    \
		NAME(name, id), WHEN(when), FEATURE(id), FLAGS(0, ARITH, 0), \
		    OPS(WR(Ev))                                              \
	}

const decode_table decode_map_0f = {
	[0x00] = ROWS(SYSTEM_ROW("sldt", SLDT, EXT(0), OPS(WR(Evw))),
	    SYSTEM_ROW("str", STR, EXT(1), OPS(WR(Evw))),
	    SYSTEM_ROW("lldt", LLDT, EXT(2), OPS(RD(Ew))),
	    SYSTEM_ROW("ltr", LTR, EXT(3), OPS(RD(Ew))),
	    SYSTEM_ROW("verr", VERR, EXT(4), FLAGS(0, ZF, 0), OPS(RD(Ew))),
	    SYSTEM_ROW("verw", VERW, EXT(5), FLAGS(0, ZF, 0), OPS(RD(Ew)))),
	[0x01] = ROWS(SYSTEM_ROW("sgdt", SGDT, MEM | EXT(0), OPS(WR(Ms))),
	    SYSTEM_ROW("sidt", SIDT, MEM | EXT(1), OPS(WR(Ms))),
	    SYSTEM_ROW("lgdt", LGDT, MEM | EXT(2), OPS(RD(Ms))),
	    SYSTEM_ROW("lidt", LIDT, MEM | EXT(3), OPS(RD(Ms))),
	    SYSTEM_ROW("invlpg", INVLPG, MEM | EXT(7), ATTRS(X86_A_NO_MEM_READ),
		OPS(NO(Mb))),
	    SYSTEM_ROW("smsw", SMSW, EXT(4), OPS(WR(Evw))),
	    SYSTEM_ROW("lmsw", LMSW, EXT(6), OPS(RD(Ew))),
	    ROW_0F01("vmcall", VMCALL, 0xc1, NP),
	    MONITOR_ROW("vmlaunch", 0xc2, NP),
	    MONITOR_ROW("vmresume", 0xc3, NP), MONITOR_ROW("vmxoff", 0xc4, NP),
	    MONITOR_ROW("monitor", 0xc8, NP), MONITOR_ROW("mwait", 0xc9, NP),
	    ROW_0F01("clac", CLAC, 0xca, NP, FEATURE(SMAP)),
	    ROW_0F01("stac", STAC, 0xcb, NP, FEATURE(SMAP)),
	    ROW_0F01("xgetbv", XGETBV, 0xd0, NP, FEATURE(XSAVE),
		FIXED(rC, rA | rD)),
	    ROW_0F01("xsetbv", XSETBV, 0xd1, NP, FEATURE(XSAVE),
		FIXED(rA | rC | rD, 0)),
	    MONITOR_ROW("vmfunc", 0xd4, NP), MONITOR_ROW("vmrun", 0xd8, 0),
	    ROW_0F01("vmmcall", VMCALL, 0xd9, 0),
	    MONITOR_ROW("vmload", 0xda, 0), MONITOR_ROW("vmsave", 0xdb, 0),
	    MONITOR_ROW("stgi", 0xdc, 0), MONITOR_ROW("clgi", 0xdd, 0),
	    MONITOR_ROW("skinit", 0xde, 0), MONITOR_ROW("invlpga", 0xdf, 0),
	    ROW_0F01("swapgs", SWAPGS, 0xf8, ONLY64),
	    ROW_0F01("rdtscp", RDTSCP, 0xf9, 0, FEATURE(RDTSCP),
		FIXED(0, rA | rC | rD)),
	    MONITOR_ROW("monitorx", 0xfa, 0), MONITOR_ROW("mwaitx", 0xfb, NP),
	    ROW_0F01("clzero", CLZERO, 0xfc, NP_66, FEATURE(CLZERO),
		FIXED(rA, 0))),
	[0x02] = SYSTEM(NAME("lar", LAR), FLAGS(0, ZF, 0), OPS(RW(Gv), RD(Ew))),
	[0x03] = SYSTEM(NAME("lsl", LSL), FLAGS(0, ZF, 0), OPS(RW(Gv), RD(Ew))),
	[0x05] = SYSTEM(NAME("syscall", SYSCALL), FEATURE(SYSCALL),
	    FLAGS(ARITH, 0, 0), FIXED(0, rC | r11)),
	[0x06] = SYSTEM(NAME("clts", CLTS)),
	[0x07] = SYSTEM(NAME("sysret", SYSRET), FEATURE(SYSCALL),
	    FLAGS(0, ARITH, 0), FIXED(rC | r11, 0)),
	[0x08] = SYSTEM(NAME("invd", INVD)),
	[0x09] = SYSTEM(NAME("wbinvd", WBINVD)),
	[0x0b] = SYSTEM(NAME("ud2", UD)),
	[0x0d] = HINT,
	/* 3DNow: ModRM, operands, and the opcode as an immediate */
	[0x0f] = SYSTEM(NAME("3dnow", UD), IMM(8)),
	[0x18 ... 0x1f] = HINT,
	[0x20] = MOV_CR(MOV_FROM_CR, OPS(WR(Rn), RD(Cn))),
	[0x21] = ROWS(
	    SYSTEM_ROW("mov", MOV_FROM_DR, R0, REGS_ONLY, OPS(WR(Rn), RD(Dn)))),
	[0x22] = MOV_CR(MOV_TO_CR, OPS(WR(Cn), RD(Rn))),
	[0x23] = ROWS(
	    SYSTEM_ROW("mov", MOV_TO_DR, R0, REGS_ONLY, OPS(WR(Dn), RD(Rn)))),
	[0x30] = SYSTEM(NAME("wrmsr", WRMSR), FIXED(rA | rC | rD, 0)),
	[0x31] = SYSTEM(NAME("rdtsc", RDTSC), FIXED(0, rA | rD)),
	[0x32] = SYSTEM(NAME("rdmsr", RDMSR), FIXED(rC, rA | rD)),
	[0x33] = SYSTEM(NAME("rdpmc", RDPMC), FIXED(rC, rA | rD)),
	[0x34] =
	    SYSTEM(NAME("sysenter", SYSENTER), FEATURE(SEP), FIXED(0, rSP)),
	[0x35] =
	    SYSTEM(NAME("sysexit", SYSEXIT), FEATURE(SEP), FIXED(rC | rD, rSP)),
	[0x37] = ROWS(SYSTEM_ROW("getsec", MONITOR, NP, FEATURE(NEVER))),
	CC(0x40, CMOV, "cmov"),
	CC(0x80, JCC, "j"),
	CC(0x90, SET, "set"),
	[0x78] = ROWS(SYSTEM_ROW("vmread", MONITOR, NP, FEATURE(NEVER),
			  SIZE(NATIVE), OPS(WR(En), RD(Gn))),
	    VECTOR_ROW("extrq", SSE, SSE4A, P66 | REG | EXT(0), IMM(PAIR),
		OPS(RW(Wx), RD(I))),
	    VECTOR_ROW("insertq", SSE, SSE4A, PF2 | REG, IMM(PAIR),
		OPS(RW(Vx), RD(Wx), RD(I)))),
	[0x79] = ROWS(SYSTEM_ROW("vmwrite", MONITOR, NP, FEATURE(NEVER),
			  SIZE(NATIVE), OPS(RD(Gn), RD(En))),
	    VECTOR_ROW("extrq", SSE, SSE4A, P66 | REG, OPS(RW(Vx), RD(Wx))),
	    VECTOR_ROW("insertq", SSE, SSE4A, PF2 | REG, OPS(RW(Vx), RD(Wx)))),
	[0xa0] = SEG_PUSH(SegFS),
	[0xa1] = SEG_POP(SegFS),
	[0xa2] =
	    SYSTEM(NAME("cpuid", CPUID), FIXED(rA | rC, rA | rB | rC | rD)),
	[0xa3] = BIT_REG("bt", BT, 0, RD),
	[0xa4] = ONE(NAME("shld", SHLD), SHIFTS_DOUBLE, IMM(8),
	    OPS(RW(Ev), RD(Gv), RD(I))),
	[0xa5] = ONE(NAME("shld", SHLD), SHIFTS_DOUBLE, FIXED(rC, 0),
	    OPS(RW(Ev), RD(Gv), RD(CL))),
	[0xa8] = SEG_PUSH(SegGS),
	[0xa9] = SEG_POP(SegGS),
	[0xaa] = SYSTEM(NAME("rsm", MONITOR), FEATURE(NEVER)),
	[0xab] = BIT_REG("bts", BTS, LOCK, RW),
	[0xac] = ONE(NAME("shrd", SHRD), SHIFTS_DOUBLE, IMM(8),
	    OPS(RW(Ev), RD(Gv), RD(I))),
	[0xad] = ONE(NAME("shrd", SHRD), SHIFTS_DOUBLE, FIXED(rC, 0),
	    OPS(RW(Ev), RD(Gv), RD(CL))),
	[0xae] = ROWS(SYSTEM_ROW("fxsave", FXSAVE, NP | MEM | EXT(0),
			  FEATURE(FXSR), UNIT(X87), SIZE(Y), ATTRS(X86_A_ALIGN),
			  OPS(WR(M512))),
	    SYSTEM_ROW("fxrstor", FXRSTOR, NP | MEM | EXT(1), FEATURE(FXSR),
		UNIT(X87), SIZE(Y), ATTRS(X86_A_ALIGN), OPS(RD(M512))),
	    SYSTEM_ROW("ldmxcsr", LDMXCSR, NP | MEM | EXT(2), FEATURE(SSE),
		UNIT(SSE), SIZE(Y), OPS(RD(Md))),
	    { NAME("stmxcsr", VECTOR), CLASS(VECTOR), WHEN(NP | MEM | EXT(3)),
		FEATURE(SSE), UNIT(SSE), SIZE(Y), OPS(WR(Md)) },
	    XSAVES_ROW(4, "xsave", XSAVE, XSAVE, RW),
	    XSAVES_ROW(5, "xrstor", XRSTOR, XSAVE, RD),
	    XSAVES_ROW(6, "xsaveopt", XSAVEOPT, XSAVEOPT, RW),
	    CACHE_LINE(NP | MEM | EXT(7), "clflush", CLFSH),
	    CACHE_LINE(P66 | MEM | EXT(7), "clflushopt", CLFLUSHOPT),
	    CACHE_LINE(P66 | MEM | EXT(6), "clwb", CLWB),
	    FENCE(5, "lfence", SSE2), FENCE(6, "mfence", SSE2),
	    FENCE(7, "sfence", SSE), FSGSBASE(0, "rdfsbase", RDFSBASE, WR),
	    FSGSBASE(1, "rdgsbase", RDGSBASE, WR),
	    FSGSBASE(2, "wrfsbase", WRFSBASE, RD),
	    FSGSBASE(3, "wrgsbase", WRGSBASE, RD)),
	[0xaf] = ONE(NAME("imul", IMUL), FLAGS(0, ARITH, SF | ZF | AF | PF),
	    OPS(RW(Gv), RD(Ev))),
	[0xb0] = ONE(NAME("cmpxchg", CMPXCHG), ATTRS(LOCK), FLAGS(0, ARITH, 0),
	    FIXED(rA, rA), OPS(RW(Eb), RD(Gb))),
	[0xb1] = ONE(NAME("cmpxchg", CMPXCHG), ATTRS(LOCK), FLAGS(0, ARITH, 0),
	    FIXED(rA, rA), OPS(RW(Ev), RD(Gv))),
	[0xb2] = LOAD_FAR("lss", SegSS),
	[0xb3] = BIT_REG("btr", BTR, LOCK, RW),
	[0xb4] = LOAD_FAR("lfs", SegFS),
	[0xb5] = LOAD_FAR("lgs", SegGS),
	[0xb6] = ONE(NAME("movzx", MOVZX), OPS(WR(Gv), RD(Eb))),
	[0xb7] = ONE(NAME("movzx", MOVZX), OPS(WR(Gv), RD(Ew))),
	[0xb8] = ROWS({ NAME("popcnt", POPCNT), WHEN(PF3), FEATURE(POPCNT),
	    FLAGS(0, ARITH, 0), OPS(WR(Gv), RD(Ev)) }),
	[0xb9] = SYSTEM(NAME("ud1", UD), OPS(NO(Gv), NO(Ev))),
	[0xba] = ROWS(BIT_IMM(4, "bt", BT, 0, RD),
	    BIT_IMM(5, "bts", BTS, LOCK, RW), BIT_IMM(6, "btr", BTR, LOCK, RW),
	    BIT_IMM(7, "btc", BTC, LOCK, RW)),
	[0xbb] = BIT_REG("btc", BTC, LOCK, RW),
	/* BSF and BSR of 0 leave their destination. */
	[0xbc] = ROWS({ NAME("tzcnt", TZCNT), WHEN(PF3), FEATURE(BMI1), COUNTS,
			  OPS(WR(Gv), RD(Ev)) },
	    { NAME("bsf", BSF), SCANS, OPS(RW(Gv), RD(Ev)) }),
	[0xbd] = ROWS({ NAME("lzcnt", LZCNT), WHEN(PF3), FEATURE(LZCNT), COUNTS,
			  OPS(WR(Gv), RD(Ev)) },
	    { NAME("bsr", BSR), SCANS, OPS(RW(Gv), RD(Ev)) }),
	[0xbe] = ONE(NAME("movsx", MOVSX), OPS(WR(Gv), RD(Eb))),
	[0xbf] = ONE(NAME("movsx", MOVSX), OPS(WR(Gv), RD(Ew))),
	[0xc0] = ONE(NAME("xadd", XADD), ATTRS(LOCK), FLAGS(0, ARITH, 0),
	    OPS(RW(Eb), RW(Gb))),
	[0xc1] = ONE(NAME("xadd", XADD), ATTRS(LOCK), FLAGS(0, ARITH, 0),
	    OPS(RW(Ev), RW(Gv))),
	[0xc3] = ROWS({ NAME("movnti", MOVNTI), WHEN(NP | MEM), FEATURE(SSE2),
	    SIZE(Y), OPS(WR(Ey), RD(Gy)) }),
	[0xc7] = ROWS({ NAME("cmpxchg16b", CMPXCHG8B), WHEN(MEM | EXT(1) | W1),
			  ATTRS(LOCK), FEATURE(CX16), FLAGS(0, ZF, 0),
			  FIXED(rA | rB | rC | rD, rA | rD), OPS(RW(Mcx)) },
	    { NAME("cmpxchg8b", CMPXCHG8B), WHEN(MEM | EXT(1)), ATTRS(LOCK),
		FEATURE(CX8), FLAGS(0, ZF, 0),
		FIXED(rA | rB | rC | rD, rA | rD), OPS(RW(Mcx)) },
	    XSAVES_ROW(3, "xrstors", XRSTORS, XSAVES, RD),
	    XSAVES_ROW(4, "xsavec", XSAVEC, XSAVEC, WR),
	    XSAVES_ROW(5, "xsaves", XSAVES, XSAVES, WR),
	    RANDOM(NP_66 | REG | EXT(6), "rdrand", RDRAND),
	    RANDOM(NP_66 | REG | EXT(7), "rdseed", RDSEED),
	    SYSTEM_ROW("rdpid", RDPID, PF3 | REG | EXT(7), FEATURE(RDPID),
		SIZE(NATIVE), OPS(WR(En))),
	    SYSTEM_ROW("vmptrld", MONITOR, NP | MEM | EXT(6), FEATURE(NEVER),
		OPS(RD(Mq))),
	    SYSTEM_ROW("vmclear", MONITOR, P66 | MEM | EXT(6), FEATURE(NEVER),
		OPS(RD(Mq))),
	    SYSTEM_ROW("vmxon", MONITOR, PF3 | MEM | EXT(6), FEATURE(NEVER),
		OPS(RD(Mq))),
	    SYSTEM_ROW("vmptrst", MONITOR, NP | MEM | EXT(7), FEATURE(NEVER),
		OPS(WR(Mq)))),
	[0xc8 ... 0xcf] = ONE(NAME("bswap", BSWAP), OPS(RW(Zv))),
	[0xff] = SYSTEM(NAME("ud0", UD), OPS(NO(Gv), NO(Ev))),
};
