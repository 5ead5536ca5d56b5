/*
 * MMX and SSE of two bytes, 0F and one more.
 *
 * Models       Intel SDM volume 2, table A-3: what decode_map_0f leaves out.
 * Alignment    16 bytes of memory must be aligned but for MOVUPS and its kin.
 */
#include "engine/x86/decode_impl.h"

#define MMX(name, feature, when, ...) \
	VECTOR_ROW(name, MMX, feature, when, __VA_ARGS__)
/* Nothing to be aligned: less than 16 bytes, or any address is fine. */
#define SSE(name, feature, when, ...) \
	VECTOR_ROW(name, SSE, feature, when, __VA_ARGS__)
#define ALIGNED(name, feature, when, ...) \
	VECTOR_ROW(name, SSE, feature, when, ATTRS(X86_A_ALIGN), __VA_ARGS__)

/* The same for MMX and, with 66, SSE2 registers. */
#define BOTH_OF(name, mmx_feature, dst)                        \
	ROWS(MMX(name, mmx_feature, NP, OPS(dst(Pq), RD(Qq))), \
	    ALIGNED(name, SSE2, P66, OPS(dst(Vx), RD(Wx))))
#define BOTH(name) BOTH_OF(name, MMX, RW)
/* From SSE on for MMX registers. */
#define BOTH_SSE(name) BOTH_OF(name, SSE, RW)
/* Of the MMX source only the lower half is read. */
#define UNPACK_LOW(name)                              \
	ROWS(MMX(name, MMX, NP, OPS(RW(Pq), RD(Qd))), \
	    ALIGNED(name, SSE2, P66, OPS(RW(Vx), RD(Wx))))

/* ps, pd, ss, sd */
#define PS_PD(stem)                                       \
	ALIGNED(stem "ps", SSE, NP, OPS(RW(Vx), RD(Wx))), \
	    ALIGNED(stem "pd", SSE2, P66, OPS(RW(Vx), RD(Wx)))
#define ARITHMETIC(stem)                                                  \
	ROWS(PS_PD(stem), SSE(stem "ss", SSE, PF3, OPS(RW(Vx), RD(W4b))), \
	    SSE(stem "sd", SSE2, PF2, OPS(RW(Vx), RD(W8b))))

/* Shifts by an immediate, of registers */
#define SHIFT_IMM(n, name)                                             \
	MMX(name, MMX, NP | REG | EXT(n), IMM(8), OPS(RW(Qq), RD(I))), \
	    SSE(name, SSE2, P66 | REG | EXT(n), IMM(8), OPS(RW(Wx), RD(I)))
#define SHIFT_IMM_SSE(n, name) \
	SSE(name, SSE2, P66 | REG | EXT(n), IMM(8), OPS(RW(Wx), RD(I)))

#define COMPARES FLAGS(0, ARITH, 0)

const decode_table decode_sse_0f = {
	[0x10] = ROWS(SSE("movups", SSE, NP, OPS(WR(Vx), RD(Wx))),
	    SSE("movupd", SSE2, P66, OPS(WR(Vx), RD(Wx))),
	    SSE("movss", SSE, PF3 | MEM, OPS(WR(Vx), RD(Md))),
	    SSE("movss", SSE, PF3 | REG, OPS(RW(Vx), RD(Wx))),
	    SSE("movsd", SSE2, PF2 | MEM, OPS(WR(Vx), RD(Mq))),
	    SSE("movsd", SSE2, PF2 | REG, OPS(RW(Vx), RD(Wx)))),
	[0x11] = ROWS(SSE("movups", SSE, NP, OPS(WR(Wx), RD(Vx))),
	    SSE("movupd", SSE2, P66, OPS(WR(Wx), RD(Vx))),
	    SSE("movss", SSE, PF3 | MEM, OPS(WR(Md), RD(Vx))),
	    SSE("movss", SSE, PF3 | REG, OPS(RW(Wx), RD(Vx))),
	    SSE("movsd", SSE2, PF2 | MEM, OPS(WR(Mq), RD(Vx))),
	    SSE("movsd", SSE2, PF2 | REG, OPS(RW(Wx), RD(Vx)))),
	[0x12] = ROWS(SSE("movlps", SSE, NP | MEM, OPS(RW(Vx), RD(Mq))),
	    SSE("movhlps", SSE, NP | REG, OPS(RW(Vx), RD(Wx))),
	    SSE("movlpd", SSE2, P66 | MEM, OPS(RW(Vx), RD(Mq))),
	    ALIGNED("movsldup", SSE3, PF3, OPS(WR(Vx), RD(Wx))),
	    SSE("movddup", SSE3, PF2, OPS(WR(Vx), RD(W8b)))),
	[0x13] = ROWS(SSE("movlps", SSE, NP | MEM, OPS(WR(Mq), RD(Vx))),
	    SSE("movlpd", SSE2, P66 | MEM, OPS(WR(Mq), RD(Vx)))),
	[0x14] = ROWS(PS_PD("unpckl")),
	[0x15] = ROWS(PS_PD("unpckh")),
	[0x16] = ROWS(SSE("movhps", SSE, NP | MEM, OPS(RW(Vx), RD(Mq))),
	    SSE("movlhps", SSE, NP | REG, OPS(RW(Vx), RD(Wx))),
	    SSE("movhpd", SSE2, P66 | MEM, OPS(RW(Vx), RD(Mq))),
	    ALIGNED("movshdup", SSE3, PF3, OPS(WR(Vx), RD(Wx)))),
	[0x17] = ROWS(SSE("movhps", SSE, NP | MEM, OPS(WR(Mq), RD(Vx))),
	    SSE("movhpd", SSE2, P66 | MEM, OPS(WR(Mq), RD(Vx)))),
	[0x28] = ROWS(ALIGNED("movaps", SSE, NP, OPS(WR(Vx), RD(Wx))),
	    ALIGNED("movapd", SSE2, P66, OPS(WR(Vx), RD(Wx)))),
	[0x29] = ROWS(ALIGNED("movaps", SSE, NP, OPS(WR(Wx), RD(Vx))),
	    ALIGNED("movapd", SSE2, P66, OPS(WR(Wx), RD(Vx)))),
	[0x2a] = ROWS(SSE("cvtpi2ps", SSE, NP, OPS(RW(Vx), RD(Qq))),
	    SSE("cvtpi2pd", SSE2, P66, OPS(WR(Vx), RD(Qq))),
	    SSE("cvtsi2ss", SSE, PF3, OPS(RW(Vx), RD(Ey))),
	    SSE("cvtsi2sd", SSE2, PF2, OPS(RW(Vx), RD(Ey)))),
	[0x2b] = ROWS(ALIGNED("movntps", SSE, NP | MEM, OPS(WR(Mdq), RD(Vx))),
	    ALIGNED("movntpd", SSE2, P66 | MEM, OPS(WR(Mdq), RD(Vx))),
	    SSE("movntss", SSE4A, PF3 | MEM, OPS(WR(Md), RD(Vx))),
	    SSE("movntsd", SSE4A, PF2 | MEM, OPS(WR(Mq), RD(Vx)))),
	[0x2c] = ROWS(SSE("cvttps2pi", SSE, NP, OPS(WR(Pq), RD(W8b))),
	    ALIGNED("cvttpd2pi", SSE2, P66, OPS(WR(Pq), RD(Wx))),
	    SSE("cvttss2si", SSE, PF3, OPS(WR(Gy), RD(W4b))),
	    SSE("cvttsd2si", SSE2, PF2, OPS(WR(Gy), RD(W8b)))),
	[0x2d] = ROWS(SSE("cvtps2pi", SSE, NP, OPS(WR(Pq), RD(W8b))),
	    ALIGNED("cvtpd2pi", SSE2, P66, OPS(WR(Pq), RD(Wx))),
	    SSE("cvtss2si", SSE, PF3, OPS(WR(Gy), RD(W4b))),
	    SSE("cvtsd2si", SSE2, PF2, OPS(WR(Gy), RD(W8b)))),
	[0x2e] = ROWS(SSE("ucomiss", SSE, NP, COMPARES, OPS(RD(Vx), RD(W4b))),
	    SSE("ucomisd", SSE2, P66, COMPARES, OPS(RD(Vx), RD(W8b)))),
	[0x2f] = ROWS(SSE("comiss", SSE, NP, COMPARES, OPS(RD(Vx), RD(W4b))),
	    SSE("comisd", SSE2, P66, COMPARES, OPS(RD(Vx), RD(W8b)))),

	[0x50] = ROWS(SSE("movmskps", SSE, NP | REG, OPS(WR(Gd), RD(Wx))),
	    SSE("movmskpd", SSE2, P66 | REG, OPS(WR(Gd), RD(Wx)))),
	[0x51] = ROWS(ALIGNED("sqrtps", SSE, NP, OPS(WR(Vx), RD(Wx))),
	    ALIGNED("sqrtpd", SSE2, P66, OPS(WR(Vx), RD(Wx))),
	    SSE("sqrtss", SSE, PF3, OPS(RW(Vx), RD(W4b))),
	    SSE("sqrtsd", SSE2, PF2, OPS(RW(Vx), RD(W8b)))),
	[0x52] = ROWS(ALIGNED("rsqrtps", SSE, NP, OPS(WR(Vx), RD(Wx))),
	    SSE("rsqrtss", SSE, PF3, OPS(RW(Vx), RD(W4b)))),
	[0x53] = ROWS(ALIGNED("rcpps", SSE, NP, OPS(WR(Vx), RD(Wx))),
	    SSE("rcpss", SSE, PF3, OPS(RW(Vx), RD(W4b)))),
	[0x54] = ROWS(PS_PD("and")),
	[0x55] = ROWS(PS_PD("andn")),
	[0x56] = ROWS(PS_PD("or")),
	[0x57] = ROWS(PS_PD("xor")),
	[0x58] = ARITHMETIC("add"),
	[0x59] = ARITHMETIC("mul"),
	[0x5a] = ROWS(SSE("cvtps2pd", SSE2, NP, OPS(WR(Vx), RD(W8b))),
	    ALIGNED("cvtpd2ps", SSE2, P66, OPS(WR(Vx), RD(Wx))),
	    SSE("cvtss2sd", SSE2, PF3, OPS(RW(Vx), RD(W4b))),
	    SSE("cvtsd2ss", SSE2, PF2, OPS(RW(Vx), RD(W8b)))),
	[0x5b] = ROWS(ALIGNED("cvtdq2ps", SSE2, NP, OPS(WR(Vx), RD(Wx))),
	    ALIGNED("cvtps2dq", SSE2, P66, OPS(WR(Vx), RD(Wx))),
	    ALIGNED("cvttps2dq", SSE2, PF3, OPS(WR(Vx), RD(Wx)))),
	[0x5c] = ARITHMETIC("sub"),
	[0x5d] = ARITHMETIC("min"),
	[0x5e] = ARITHMETIC("div"),
	[0x5f] = ARITHMETIC("max"),

	[0x60] = UNPACK_LOW("punpcklbw"),
	[0x61] = UNPACK_LOW("punpcklwd"),
	[0x62] = UNPACK_LOW("punpckldq"),
	[0x63] = BOTH("packsswb"),
	[0x64] = BOTH("pcmpgtb"),
	[0x65] = BOTH("pcmpgtw"),
	[0x66] = BOTH("pcmpgtd"),
	[0x67] = BOTH("packuswb"),
	[0x68] = BOTH("punpckhbw"),
	[0x69] = BOTH("punpckhwd"),
	[0x6a] = BOTH("punpckhdq"),
	[0x6b] = BOTH("packssdw"),
	[0x6c] = ROWS(ALIGNED("punpcklqdq", SSE2, P66, OPS(RW(Vx), RD(Wx)))),
	[0x6d] = ROWS(ALIGNED("punpckhqdq", SSE2, P66, OPS(RW(Vx), RD(Wx)))),
	[0x6e] = ROWS(MMX("movd", MMX, NP, OPS(WR(Pq), RD(Ey))),
	    SSE("movd", SSE2, P66, OPS(WR(Vx), RD(Ey)))),
	[0x6f] = ROWS(MMX("movq", MMX, NP, OPS(WR(Pq), RD(Qq))),
	    ALIGNED("movdqa", SSE2, P66, OPS(WR(Vx), RD(Wx))),
	    SSE("movdqu", SSE2, PF3, OPS(WR(Vx), RD(Wx)))),

	[0x70] = ROWS(MMX("pshufw", SSE, NP, IMM(8),
			  OPS(WR(Pq), RD(Qq), RD(I))),
	    ALIGNED("pshufd", SSE2, P66, IMM(8), OPS(WR(Vx), RD(Wx), RD(I))),
	    ALIGNED("pshufhw", SSE2, PF3, IMM(8), OPS(WR(Vx), RD(Wx), RD(I))),
	    ALIGNED("pshuflw", SSE2, PF2, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x71] = ROWS(SHIFT_IMM(2, "psrlw"), SHIFT_IMM(4, "psraw"),
	    SHIFT_IMM(6, "psllw")),
	[0x72] = ROWS(SHIFT_IMM(2, "psrld"), SHIFT_IMM(4, "psrad"),
	    SHIFT_IMM(6, "pslld")),
	[0x73] = ROWS(SHIFT_IMM(2, "psrlq"), SHIFT_IMM_SSE(3, "psrldq"),
	    SHIFT_IMM(6, "psllq"), SHIFT_IMM_SSE(7, "pslldq")),
	[0x74] = BOTH("pcmpeqb"),
	[0x75] = BOTH("pcmpeqw"),
	[0x76] = BOTH("pcmpeqd"),
	[0x77] = ROWS(MMX("emms", MMX, NP)),
	[0x7c] = ROWS(ALIGNED("haddpd", SSE3, P66, OPS(RW(Vx), RD(Wx))),
	    ALIGNED("haddps", SSE3, PF2, OPS(RW(Vx), RD(Wx)))),
	[0x7d] = ROWS(ALIGNED("hsubpd", SSE3, P66, OPS(RW(Vx), RD(Wx))),
	    ALIGNED("hsubps", SSE3, PF2, OPS(RW(Vx), RD(Wx)))),
	[0x7e] = ROWS(MMX("movd", MMX, NP, OPS(WR(Ey), RD(Pq))),
	    SSE("movd", SSE2, P66, OPS(WR(Ey), RD(Vx))),
	    SSE("movq", SSE2, PF3, OPS(WR(Vx), RD(W8b)))),
	[0x7f] = ROWS(MMX("movq", MMX, NP, OPS(WR(Qq), RD(Pq))),
	    ALIGNED("movdqa", SSE2, P66, OPS(WR(Wx), RD(Vx))),
	    SSE("movdqu", SSE2, PF3, OPS(WR(Wx), RD(Vx)))),

	[0xc2] =
	    ROWS(ALIGNED("cmpps", SSE, NP, IMM(8), OPS(RW(Vx), RD(Wx), RD(I))),
		ALIGNED("cmppd", SSE2, P66, IMM(8), OPS(RW(Vx), RD(Wx), RD(I))),
		SSE("cmpss", SSE, PF3, IMM(8), OPS(RW(Vx), RD(W4b), RD(I))),
		SSE("cmpsd", SSE2, PF2, IMM(8), OPS(RW(Vx), RD(W8b), RD(I)))),
	[0xc4] =
	    ROWS(MMX("pinsrw", SSE, NP, IMM(8), OPS(RW(Pq), RD(Edw), RD(I))),
		SSE("pinsrw", SSE2, P66, IMM(8), OPS(RW(Vx), RD(Edw), RD(I)))),
	[0xc5] = ROWS(MMX("pextrw", SSE, NP | REG, IMM(8),
			  OPS(WR(Gd), RD(Qq), RD(I))),
	    SSE("pextrw", SSE2, P66 | REG, IMM(8), OPS(WR(Gd), RD(Wx), RD(I)))),
	[0xc6] = ROWS(ALIGNED("shufps", SSE, NP, IMM(8),
			  OPS(RW(Vx), RD(Wx), RD(I))),
	    ALIGNED("shufpd", SSE2, P66, IMM(8), OPS(RW(Vx), RD(Wx), RD(I)))),

	[0xd0] = ROWS(ALIGNED("addsubpd", SSE3, P66, OPS(RW(Vx), RD(Wx))),
	    ALIGNED("addsubps", SSE3, PF2, OPS(RW(Vx), RD(Wx)))),
	[0xd1] = BOTH("psrlw"),
	[0xd2] = BOTH("psrld"),
	[0xd3] = BOTH("psrlq"),
	[0xd4] = BOTH_OF("paddq", SSE2, RW),
	[0xd5] = BOTH("pmullw"),
	[0xd6] = ROWS(SSE("movq", SSE2, P66, OPS(WR(W8b), RD(Vx))),
	    SSE("movq2dq", SSE2, PF3 | REG, OPS(WR(Vx), RD(Qq))),
	    SSE("movdq2q", SSE2, PF2 | REG, OPS(WR(Pq), RD(Wx)))),
	[0xd7] = ROWS(MMX("pmovmskb", SSE, NP | REG, OPS(WR(Gd), RD(Qq))),
	    SSE("pmovmskb", SSE2, P66 | REG, OPS(WR(Gd), RD(Wx)))),
	[0xd8] = BOTH("psubusb"),
	[0xd9] = BOTH("psubusw"),
	[0xda] = BOTH_SSE("pminub"),
	[0xdb] = BOTH("pand"),
	[0xdc] = BOTH("paddusb"),
	[0xdd] = BOTH("paddusw"),
	[0xde] = BOTH_SSE("pmaxub"),
	[0xdf] = BOTH("pandn"),
	[0xe0] = BOTH_SSE("pavgb"),
	[0xe1] = BOTH("psraw"),
	[0xe2] = BOTH("psrad"),
	[0xe3] = BOTH_SSE("pavgw"),
	[0xe4] = BOTH_SSE("pmulhuw"),
	[0xe5] = BOTH("pmulhw"),
	[0xe6] = ROWS(ALIGNED("cvttpd2dq", SSE2, P66, OPS(WR(Vx), RD(Wx))),
	    SSE("cvtdq2pd", SSE2, PF3, OPS(WR(Vx), RD(W8b))),
	    ALIGNED("cvtpd2dq", SSE2, PF2, OPS(WR(Vx), RD(Wx)))),
	[0xe7] = ROWS(MMX("movntq", SSE, NP | MEM, OPS(WR(Mq), RD(Pq))),
	    ALIGNED("movntdq", SSE2, P66 | MEM, OPS(WR(Mdq), RD(Vx)))),
	[0xe8] = BOTH("psubsb"),
	[0xe9] = BOTH("psubsw"),
	[0xea] = BOTH_SSE("pminsw"),
	[0xeb] = BOTH("por"),
	[0xec] = BOTH("paddsb"),
	[0xed] = BOTH("paddsw"),
	[0xee] = BOTH_SSE("pmaxsw"),
	[0xef] = BOTH("pxor"),
	[0xf0] = ROWS(SSE("lddqu", SSE3, PF2 | MEM, OPS(WR(Vx), RD(Mdq)))),
	[0xf1] = BOTH("psllw"),
	[0xf2] = BOTH("pslld"),
	[0xf3] = BOTH("psllq"),
	[0xf4] = BOTH_OF("pmuludq", SSE2, RW),
	[0xf5] = BOTH("pmaddwd"),
	[0xf6] = BOTH_SSE("psadbw"),
	[0xf7] = ROWS({ NAME("maskmovq", MASKMOV), CLASS(SYSTEM), UNIT(MMX),
			  FEATURE(SSE), WHEN(NP | REG), SIZE(Y), FIXED(rDI, 0),
			  OPS(RD(Pq), RD(Qq)) },
	    { NAME("maskmovdqu", MASKMOV), CLASS(SYSTEM), UNIT(SSE),
		FEATURE(SSE2), WHEN(P66 | REG), SIZE(Y), FIXED(rDI, 0),
		OPS(RD(Vx), RD(Wx)) }),
	[0xf8] = BOTH("psubb"),
	[0xf9] = BOTH("psubw"),
	[0xfa] = BOTH("psubd"),
	[0xfb] = BOTH_OF("psubq", SSE2, RW),
	[0xfc] = BOTH("paddb"),
	[0xfd] = BOTH("paddw"),
	[0xfe] = BOTH("paddd"),
};
