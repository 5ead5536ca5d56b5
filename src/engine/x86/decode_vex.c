/*
 * Opcodes with a VEX prefix: AVX, AVX2, FMA, F16C, AVX-VNNI, opmasks, BMI; AES,
 * PCLMULQDQ and GFNI by VEX.
 *
 * Models       Intel SDM volume 2, chapters 3 to 5, by the instructions' own
 *              pages.  W and L that a row does not mention are ignored.
 * Alignment    only of moves that say so in their name, and non-temporal ones.
 */
#include "engine/x86/decode_impl.h"

#define AVX(name, when, ...) VECTOR_ROW(name, AVX, AVX, when, __VA_ARGS__)
#define AVX2(name, when, ...) VECTOR_ROW(name, AVX, AVX2, when, __VA_ARGS__)
#define OTHER(name, feature, when, ...) \
	VECTOR_ROW(name, AVX, feature, when, __VA_ARGS__)
/* Integer instructions: 128 bits are AVX, 256 bits AVX2. */
#define INT_ROWS(name, when, ...)            \
	AVX(name, (when) | L0, __VA_ARGS__), \
	    AVX2(name, (when) | L1, __VA_ARGS__)
#define INT(name, ...) ROWS(INT_ROWS(name, P66, __VA_ARGS__))
#define INT_3(name) INT(name, OPS(WR(Vx), RD(Hx), RD(Wx)))
#define INT_2(name) INT(name, OPS(WR(Vx), RD(Wx)))
#define INT_3_IMM(name) INT(name, IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))
/* The count is 128 bits wide. */
#define INT_SHIFT(name) INT(name, OPS(WR(Vx), RD(Hx), RD(Wdq)))
#define INT_SHIFT_IMM(n, name) \
	INT_ROWS(name, P66 | REG | EXT(n), IMM(8), OPS(WR(Hx), RD(Wx), RD(I)))

#define OPS_3 OPS(WR(Vx), RD(Hx), RD(Wx))
#define OPS_SS OPS(WR(Vdq), RD(Hdq), RD(W4b))
#define OPS_SD OPS(WR(Vdq), RD(Hdq), RD(W8b))
#define OPS_2 OPS(WR(Vx), RD(Wx))

#define PS_PD_3(stem) \
	AVX(stem "ps", NP | L01, OPS_3), AVX(stem "pd", P66 | L01, OPS_3)
#define SS_SD_3(stem) AVX(stem "ss", PF3, OPS_SS), AVX(stem "sd", PF2, OPS_SD)
#define ARITHMETIC(stem) ROWS(PS_PD_3(stem), SS_SD_3(stem))
#define ALIGNED ATTRS(X86_A_ALIGN)
#define COMPARES FLAGS(0, ARITH, 0)

/* FMA: W chooses double precision. */
#define FMA_PACKED(stem)                                                   \
	ROWS(OTHER(stem "ps", FMA, P66 | W0, OPS(RW(Vx), RD(Hx), RD(Wx))), \
	    OTHER(stem "pd", FMA, P66 | W1, OPS(RW(Vx), RD(Hx), RD(Wx))))
#define FMA_SCALAR(stem)                                                      \
	ROWS(OTHER(stem "ss", FMA, P66 | W0, OPS(RW(Vdq), RD(Hdq), RD(W4b))), \
	    OTHER(stem "sd", FMA, P66 | W1, OPS(RW(Vdq), RD(Hdq), RD(W8b))))
/* clang-format off */
/* Ten opcodes, from FMADDSUB on; `order` is 132, 213 or 231. */
#define FMA_ALL(base, order)                                      \
	[(base) + 0x0] = FMA_PACKED("vfmaddsub" order),           \
	[(base) + 0x1] = FMA_PACKED("vfmsubadd" order),           \
	[(base) + 0x2] = FMA_PACKED("vfmadd" order),              \
	[(base) + 0x3] = FMA_SCALAR("vfmadd" order),              \
	[(base) + 0x4] = FMA_PACKED("vfmsub" order),              \
	[(base) + 0x5] = FMA_SCALAR("vfmsub" order),              \
	[(base) + 0x6] = FMA_PACKED("vfnmadd" order),             \
	[(base) + 0x7] = FMA_SCALAR("vfnmadd" order),             \
	[(base) + 0x8] = FMA_PACKED("vfnmsub" order),             \
	[(base) + 0x9] = FMA_SCALAR("vfnmsub" order)
/* clang-format on */

/* Only the elements that a mask names are accessed. */
#define SPECIAL(name, id, feature, when, ...)                               \
	{                                                                   \
		NAME(name, id), CLASS(SYSTEM), UNIT(AVX), FEATURE(feature), \
		    WHEN(when), SIZE(Y), __VA_ARGS__                        \
	}
#define MASKED_LOAD(name, feature, when)                     \
	SPECIAL(name, VMASKMOV, feature, P66 | MEM | (when), \
	    OPS(WR(Vx), RD(Hx), RD(Mx)))
#define MASKED_STORE(name, feature, when)                    \
	SPECIAL(name, VMASKMOV, feature, P66 | MEM | (when), \
	    OPS(WR(Mx), RD(Hx), RD(Vx)))
#define GATHER(name, when, v, m, h)                                        \
	SPECIAL(name, GATHER, AVX2, P66 | MEM | (when), ATTRS(X86_A_VSIB), \
	    OPS(RW(v), RD(m), RW(h)))

/* Opmask instructions by W and pp: b d (66), w q (no prefix). */
#define OPMASK(name, when, ...) \
	VECTOR_ROW(name, AVX512, AVX512, when, __VA_ARGS__)
#define OPMASK_BWDQ(stem, when, ...)                          \
	ROWS(OPMASK(stem "w", NP | W0 | (when), __VA_ARGS__), \
	    OPMASK(stem "b", P66 | W0 | (when), __VA_ARGS__), \
	    OPMASK(stem "q", NP | W1 | (when), __VA_ARGS__),  \
	    OPMASK(stem "d", P66 | W1 | (when), __VA_ARGS__))
#define OPMASK_3(stem) OPMASK_BWDQ(stem, REG | L1, OPS(WR(KG), RD(KB), RD(KE)))
#define OPMASK_2(stem, ...) OPMASK_BWDQ(stem, REG | L0, __VA_ARGS__)
#define OPMASK_SHIFT(low, high)                       \
	ROWS(OPMASK(low, P66 | REG | L0 | W0, IMM(8), \
		 OPS(WR(KG), RD(KE), RD(I))),         \
	    OPMASK(high, P66 | REG | L0 | W1, IMM(8), \
		OPS(WR(KG), RD(KE), RD(I))))

const decode_table decode_vex_0f = {
	[0x10] = ROWS(AVX("vmovups", NP | L01, OPS_2),
	    AVX("vmovupd", P66 | L01, OPS_2),
	    AVX("vmovss", PF3 | MEM, OPS(WR(Vdq), RD(Md))),
	    AVX("vmovss", PF3 | REG, OPS(WR(Vdq), RD(Hdq), RD(Wdq))),
	    AVX("vmovsd", PF2 | MEM, OPS(WR(Vdq), RD(Mq))),
	    AVX("vmovsd", PF2 | REG, OPS(WR(Vdq), RD(Hdq), RD(Wdq)))),
	[0x11] = ROWS(AVX("vmovups", NP | L01, OPS(WR(Wx), RD(Vx))),
	    AVX("vmovupd", P66 | L01, OPS(WR(Wx), RD(Vx))),
	    AVX("vmovss", PF3 | MEM, OPS(WR(Md), RD(Vdq))),
	    AVX("vmovss", PF3 | REG, OPS(WR(Wdq), RD(Hdq), RD(Vdq))),
	    AVX("vmovsd", PF2 | MEM, OPS(WR(Mq), RD(Vdq))),
	    AVX("vmovsd", PF2 | REG, OPS(WR(Wdq), RD(Hdq), RD(Vdq)))),
	[0x12] =
	    ROWS(AVX("vmovlps", NP | MEM | L0, OPS(WR(Vx), RD(Hx), RD(Mq))),
		AVX("vmovhlps", NP | REG | L0, OPS_3),
		AVX("vmovlpd", P66 | MEM | L0, OPS(WR(Vx), RD(Hx), RD(Mq))),
		AVX("vmovsldup", PF3, OPS_2),
		AVX("vmovddup", PF2, OPS(WR(Vx), RD(Wdup)))),
	[0x13] = ROWS(AVX("vmovlps", NP | MEM | L0, OPS(WR(Mq), RD(Vx))),
	    AVX("vmovlpd", P66 | MEM | L0, OPS(WR(Mq), RD(Vx)))),
	[0x14] = ROWS(PS_PD_3("vunpckl")),
	[0x15] = ROWS(PS_PD_3("vunpckh")),
	[0x16] =
	    ROWS(AVX("vmovhps", NP | MEM | L0, OPS(WR(Vx), RD(Hx), RD(Mq))),
		AVX("vmovlhps", NP | REG | L0, OPS_3),
		AVX("vmovhpd", P66 | MEM | L0, OPS(WR(Vx), RD(Hx), RD(Mq))),
		AVX("vmovshdup", PF3, OPS_2)),
	[0x17] = ROWS(AVX("vmovhps", NP | MEM | L0, OPS(WR(Mq), RD(Vx))),
	    AVX("vmovhpd", P66 | MEM | L0, OPS(WR(Mq), RD(Vx)))),
	[0x28] = ROWS(AVX("vmovaps", NP, ALIGNED, OPS_2),
	    AVX("vmovapd", P66, ALIGNED, OPS_2)),
	[0x29] = ROWS(AVX("vmovaps", NP, ALIGNED, OPS(WR(Wx), RD(Vx))),
	    AVX("vmovapd", P66, ALIGNED, OPS(WR(Wx), RD(Vx)))),
	[0x2a] = ROWS(AVX("vcvtsi2ss", PF3, OPS(WR(Vdq), RD(Hdq), RD(Ey))),
	    AVX("vcvtsi2sd", PF2, OPS(WR(Vdq), RD(Hdq), RD(Ey)))),
	[0x2b] = ROWS(AVX("vmovntps", NP | MEM, ALIGNED, OPS(WR(Mx), RD(Vx))),
	    AVX("vmovntpd", P66 | MEM, ALIGNED, OPS(WR(Mx), RD(Vx)))),
	[0x2c] = ROWS(AVX("vcvttss2si", PF3, OPS(WR(Gy), RD(W4b))),
	    AVX("vcvttsd2si", PF2, OPS(WR(Gy), RD(W8b)))),
	[0x2d] = ROWS(AVX("vcvtss2si", PF3, OPS(WR(Gy), RD(W4b))),
	    AVX("vcvtsd2si", PF2, OPS(WR(Gy), RD(W8b)))),
	[0x2e] = ROWS(AVX("vucomiss", NP, COMPARES, OPS(RD(Vdq), RD(W4b))),
	    AVX("vucomisd", P66, COMPARES, OPS(RD(Vdq), RD(W8b)))),
	[0x2f] = ROWS(AVX("vcomiss", NP, COMPARES, OPS(RD(Vdq), RD(W4b))),
	    AVX("vcomisd", P66, COMPARES, OPS(RD(Vdq), RD(W8b)))),

	[0x41] = OPMASK_3("kand"),
	[0x42] = OPMASK_3("kandn"),
	[0x44] = OPMASK_2("knot", OPS(WR(KG), RD(KE))),
	[0x45] = OPMASK_3("kor"),
	[0x46] = OPMASK_3("kxnor"),
	[0x47] = OPMASK_3("kxor"),
	[0x4a] = OPMASK_3("kadd"),
	[0x4b] = ROWS(OPMASK("kunpckbw", P66 | REG | L1 | W0,
			  OPS(WR(KG), RD(KB), RD(KE))),
	    OPMASK("kunpckwd", NP | REG | L1 | W0, OPS(WR(KG), RD(KB), RD(KE))),
	    OPMASK("kunpckdq", NP | REG | L1 | W1,
		OPS(WR(KG), RD(KB), RD(KE)))),

	[0x50] = ROWS(AVX("vmovmskps", NP | REG, OPS(WR(Gd), RD(Wx))),
	    AVX("vmovmskpd", P66 | REG, OPS(WR(Gd), RD(Wx)))),
	[0x51] = ROWS(AVX("vsqrtps", NP, OPS_2), AVX("vsqrtpd", P66, OPS_2),
	    SS_SD_3("vsqrt")),
	[0x52] = ROWS(AVX("vrsqrtps", NP, OPS_2), AVX("vrsqrtss", PF3, OPS_SS)),
	[0x53] = ROWS(AVX("vrcpps", NP, OPS_2), AVX("vrcpss", PF3, OPS_SS)),
	[0x54] = ROWS(PS_PD_3("vand")),
	[0x55] = ROWS(PS_PD_3("vandn")),
	[0x56] = ROWS(PS_PD_3("vor")),
	[0x57] = ROWS(PS_PD_3("vxor")),
	[0x58] = ARITHMETIC("vadd"),
	[0x59] = ARITHMETIC("vmul"),
	[0x5a] = ROWS(AVX("vcvtps2pd", NP, OPS(WR(Vx), RD(Wh))),
	    AVX("vcvtpd2ps", P66, OPS(WR(Vdq), RD(Wx))),
	    AVX("vcvtss2sd", PF3, OPS_SS), AVX("vcvtsd2ss", PF2, OPS_SD)),
	[0x5b] = ROWS(AVX("vcvtdq2ps", NP, OPS_2), AVX("vcvtps2dq", P66, OPS_2),
	    AVX("vcvttps2dq", PF3, OPS_2)),
	[0x5c] = ARITHMETIC("vsub"),
	[0x5d] = ARITHMETIC("vmin"),
	[0x5e] = ARITHMETIC("vdiv"),
	[0x5f] = ARITHMETIC("vmax"),

	[0x60] = INT_3("vpunpcklbw"),
	[0x61] = INT_3("vpunpcklwd"),
	[0x62] = INT_3("vpunpckldq"),
	[0x63] = INT_3("vpacksswb"),
	[0x64] = INT_3("vpcmpgtb"),
	[0x65] = INT_3("vpcmpgtw"),
	[0x66] = INT_3("vpcmpgtd"),
	[0x67] = INT_3("vpackuswb"),
	[0x68] = INT_3("vpunpckhbw"),
	[0x69] = INT_3("vpunpckhwd"),
	[0x6a] = INT_3("vpunpckhdq"),
	[0x6b] = INT_3("vpackssdw"),
	[0x6c] = INT_3("vpunpcklqdq"),
	[0x6d] = INT_3("vpunpckhqdq"),
	[0x6e] = ROWS(AVX("vmovd", P66 | L0, OPS(WR(Vx), RD(Ey)))),
	[0x6f] = ROWS(AVX("vmovdqa", P66, ALIGNED, OPS_2),
	    AVX("vmovdqu", PF3, OPS_2)),

	[0x70] =
	    ROWS(INT_ROWS("vpshufd", P66, IMM(8), OPS(WR(Vx), RD(Wx), RD(I))),
		INT_ROWS("vpshufhw", PF3, IMM(8), OPS(WR(Vx), RD(Wx), RD(I))),
		INT_ROWS("vpshuflw", PF2, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x71] = ROWS(INT_SHIFT_IMM(2, "vpsrlw"), INT_SHIFT_IMM(4, "vpsraw"),
	    INT_SHIFT_IMM(6, "vpsllw")),
	[0x72] = ROWS(INT_SHIFT_IMM(2, "vpsrld"), INT_SHIFT_IMM(4, "vpsrad"),
	    INT_SHIFT_IMM(6, "vpslld")),
	[0x73] = ROWS(INT_SHIFT_IMM(2, "vpsrlq"), INT_SHIFT_IMM(3, "vpsrldq"),
	    INT_SHIFT_IMM(6, "vpsllq"), INT_SHIFT_IMM(7, "vpslldq")),
	[0x74] = INT_3("vpcmpeqb"),
	[0x75] = INT_3("vpcmpeqw"),
	[0x76] = INT_3("vpcmpeqd"),
	[0x77] = ROWS(AVX("vzeroupper", NP | L0), AVX("vzeroall", NP | L1)),
	[0x7c] = ROWS(AVX("vhaddpd", P66, OPS_3), AVX("vhaddps", PF2, OPS_3)),
	[0x7d] = ROWS(AVX("vhsubpd", P66, OPS_3), AVX("vhsubps", PF2, OPS_3)),
	[0x7e] = ROWS(AVX("vmovd", P66 | L0, OPS(WR(Ey), RD(Vx))),
	    AVX("vmovq", PF3 | L0, OPS(WR(Vx), RD(W8b)))),
	[0x7f] = ROWS(AVX("vmovdqa", P66, ALIGNED, OPS(WR(Wx), RD(Vx))),
	    AVX("vmovdqu", PF3, OPS(WR(Wx), RD(Vx)))),

	[0x90] = ROWS(OPMASK("kmovw", NP | L0 | W0, OPS(WR(KG), RD(KE2))),
	    OPMASK("kmovb", P66 | L0 | W0, OPS(WR(KG), RD(KE1))),
	    OPMASK("kmovq", NP | L0 | W1, OPS(WR(KG), RD(KE))),
	    OPMASK("kmovd", P66 | L0 | W1, OPS(WR(KG), RD(KE4)))),
	[0x91] = ROWS(OPMASK("kmovw", NP | MEM | L0 | W0, OPS(WR(Mw), RD(KG))),
	    OPMASK("kmovb", P66 | MEM | L0 | W0, OPS(WR(Mb), RD(KG))),
	    OPMASK("kmovq", NP | MEM | L0 | W1, OPS(WR(Mq), RD(KG))),
	    OPMASK("kmovd", P66 | MEM | L0 | W1, OPS(WR(Md), RD(KG)))),
	[0x92] = ROWS(OPMASK("kmovw", NP | REG | L0 | W0, OPS(WR(KG), RD(Ed))),
	    OPMASK("kmovb", P66 | REG | L0 | W0, OPS(WR(KG), RD(Ed))),
	    OPMASK("kmovd", PF2 | REG | L0 | W0, OPS(WR(KG), RD(Ed))),
	    OPMASK("kmovq", PF2 | REG | L0 | W1 | ONLY64, OPS(WR(KG), RD(Eq))),
	    OPMASK("kmovd", PF2 | REG | L0 | W1, OPS(WR(KG), RD(Ed)))),
	[0x93] = ROWS(OPMASK("kmovw", NP | REG | L0 | W0, OPS(WR(Gd), RD(KE))),
	    OPMASK("kmovb", P66 | REG | L0 | W0, OPS(WR(Gd), RD(KE))),
	    OPMASK("kmovd", PF2 | REG | L0 | W0, OPS(WR(Gd), RD(KE))),
	    OPMASK("kmovq", PF2 | REG | L0 | W1 | ONLY64, OPS(WR(Gy), RD(KE))),
	    OPMASK("kmovd", PF2 | REG | L0 | W1, OPS(WR(Gd), RD(KE)))),
	[0x98] = OPMASK_2("kortest", COMPARES, OPS(RD(KG), RD(KE))),
	[0x99] = OPMASK_2("ktest", COMPARES, OPS(RD(KG), RD(KE))),

	[0xae] = ROWS(SPECIAL("vldmxcsr", LDMXCSR, AVX, NP | MEM | L0 | EXT(2),
			  OPS(RD(Md))),
	    AVX("vstmxcsr", NP | MEM | L0 | EXT(3), OPS(WR(Md)))),
	[0xc2] = ROWS(AVX("vcmpps", NP, IMM(8),
			  OPS(WR(Vx), RD(Hx), RD(Wx), RD(I))),
	    AVX("vcmppd", P66, IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I))),
	    AVX("vcmpss", PF3, IMM(8), OPS(WR(Vdq), RD(Hdq), RD(W4b), RD(I))),
	    AVX("vcmpsd", PF2, IMM(8), OPS(WR(Vdq), RD(Hdq), RD(W8b), RD(I)))),
	[0xc4] = ROWS(AVX("vpinsrw", P66 | L0, IMM(8),
	    OPS(WR(Vx), RD(Hx), RD(Edw), RD(I)))),
	[0xc5] = ROWS(
	    AVX("vpextrw", P66 | REG | L0, IMM(8), OPS(WR(Gd), RD(Wx), RD(I)))),
	[0xc6] = ROWS(AVX("vshufps", NP, IMM(8),
			  OPS(WR(Vx), RD(Hx), RD(Wx), RD(I))),
	    AVX("vshufpd", P66, IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),

	[0xd0] =
	    ROWS(AVX("vaddsubpd", P66, OPS_3), AVX("vaddsubps", PF2, OPS_3)),
	[0xd1] = INT_SHIFT("vpsrlw"),
	[0xd2] = INT_SHIFT("vpsrld"),
	[0xd3] = INT_SHIFT("vpsrlq"),
	[0xd4] = INT_3("vpaddq"),
	[0xd5] = INT_3("vpmullw"),
	[0xd6] = ROWS(AVX("vmovq", P66 | L0, OPS(WR(W8b), RD(Vx)))),
	[0xd7] = ROWS(INT_ROWS("vpmovmskb", P66 | REG, OPS(WR(Gd), RD(Wx)))),
	[0xd8] = INT_3("vpsubusb"),
	[0xd9] = INT_3("vpsubusw"),
	[0xda] = INT_3("vpminub"),
	[0xdb] = INT_3("vpand"),
	[0xdc] = INT_3("vpaddusb"),
	[0xdd] = INT_3("vpaddusw"),
	[0xde] = INT_3("vpmaxub"),
	[0xdf] = INT_3("vpandn"),
	[0xe0] = INT_3("vpavgb"),
	[0xe1] = INT_SHIFT("vpsraw"),
	[0xe2] = INT_SHIFT("vpsrad"),
	[0xe3] = INT_3("vpavgw"),
	[0xe4] = INT_3("vpmulhuw"),
	[0xe5] = INT_3("vpmulhw"),
	[0xe6] = ROWS(AVX("vcvttpd2dq", P66, OPS(WR(Vdq), RD(Wx))),
	    AVX("vcvtdq2pd", PF3, OPS(WR(Vx), RD(Wh))),
	    AVX("vcvtpd2dq", PF2, OPS(WR(Vdq), RD(Wx)))),
	[0xe7] = ROWS(AVX("vmovntdq", P66 | MEM, ALIGNED, OPS(WR(Mx), RD(Vx)))),
	[0xe8] = INT_3("vpsubsb"),
	[0xe9] = INT_3("vpsubsw"),
	[0xea] = INT_3("vpminsw"),
	[0xeb] = INT_3("vpor"),
	[0xec] = INT_3("vpaddsb"),
	[0xed] = INT_3("vpaddsw"),
	[0xee] = INT_3("vpmaxsw"),
	[0xef] = INT_3("vpxor"),
	[0xf0] = ROWS(AVX("vlddqu", PF2 | MEM, OPS(WR(Vx), RD(Mx)))),
	[0xf1] = INT_SHIFT("vpsllw"),
	[0xf2] = INT_SHIFT("vpslld"),
	[0xf3] = INT_SHIFT("vpsllq"),
	[0xf4] = INT_3("vpmuludq"),
	[0xf5] = INT_3("vpmaddwd"),
	[0xf6] = INT_3("vpsadbw"),
	[0xf7] = ROWS(SPECIAL("vmaskmovdqu", MASKMOV, AVX, P66 | REG | L0,
	    FIXED(rDI, 0), OPS(RD(Vx), RD(Wx)))),
	[0xf8] = INT_3("vpsubb"),
	[0xf9] = INT_3("vpsubw"),
	[0xfa] = INT_3("vpsubd"),
	[0xfb] = INT_3("vpsubq"),
	[0xfc] = INT_3("vpaddb"),
	[0xfd] = INT_3("vpaddw"),
	[0xfe] = INT_3("vpaddd"),
};

/* VPMOVSX and VPMOVZX: the source is a part of the vector's length. */
#define INT_WIDEN(name, src) INT(name, OPS(WR(Vx), RD(src)))
#define VNNI(name) \
	ROWS(OTHER(name, AVXVNNI, P66 | W0, OPS(RW(Vx), RD(Hx), RD(Wx))))
/* From a register or an element in memory to all elements */
#define BROADCAST(name, src) ROWS(AVX2(name, P66 | W0, OPS(WR(Vx), RD(src))))
#define AES(name)                               \
	ROWS(OTHER(name, AES, P66 | L0, OPS_3), \
	    OTHER(name, VAES, P66 | L1, OPS_3))

/* BMI: no vectors at all */
#define BMI(name, id, feature, when, ...)                                     \
	{                                                                     \
		NAME(name, id), FEATURE(feature), SIZE(Y), WHEN((when) | L0), \
		    __VA_ARGS__                                               \
	}
#define BMI_FLAGS FLAGS(0, ARITH, AF | PF)

const decode_table decode_vex_0f38 = {
	[0x00] = INT_3("vpshufb"),
	[0x01] = INT_3("vphaddw"),
	[0x02] = INT_3("vphaddd"),
	[0x03] = INT_3("vphaddsw"),
	[0x04] = INT_3("vpmaddubsw"),
	[0x05] = INT_3("vphsubw"),
	[0x06] = INT_3("vphsubd"),
	[0x07] = INT_3("vphsubsw"),
	[0x08] = INT_3("vpsignb"),
	[0x09] = INT_3("vpsignw"),
	[0x0a] = INT_3("vpsignd"),
	[0x0b] = INT_3("vpmulhrsw"),
	[0x0c] = ROWS(AVX("vpermilps", P66 | W0, OPS_3)),
	[0x0d] = ROWS(AVX("vpermilpd", P66 | W0, OPS_3)),
	[0x0e] = ROWS(AVX("vtestps", P66 | W0, COMPARES, OPS(RD(Vx), RD(Wx)))),
	[0x0f] = ROWS(AVX("vtestpd", P66 | W0, COMPARES, OPS(RD(Vx), RD(Wx)))),
	[0x13] = ROWS(OTHER("vcvtph2ps", F16C, P66 | W0, OPS(WR(Vx), RD(Wh)))),
	[0x16] = ROWS(AVX2("vpermps", P66 | L1 | W0, OPS_3)),
	[0x17] = ROWS(AVX("vptest", P66, COMPARES, OPS(RD(Vx), RD(Wx)))),
	[0x18] = ROWS(AVX("vbroadcastss", P66 | MEM | W0, OPS(WR(Vx), RD(Md))),
	    AVX2("vbroadcastss", P66 | REG | W0, OPS(WR(Vx), RD(Wdq)))),
	[0x19] = ROWS(AVX("vbroadcastsd", P66 | MEM | L1 | W0,
			  OPS(WR(Vx), RD(Mq))),
	    AVX2("vbroadcastsd", P66 | REG | L1 | W0, OPS(WR(Vx), RD(Wdq)))),
	[0x1a] = ROWS(
	    AVX("vbroadcastf128", P66 | MEM | L1 | W0, OPS(WR(Vx), RD(Mdq)))),
	[0x1c] = INT_2("vpabsb"),
	[0x1d] = INT_2("vpabsw"),
	[0x1e] = INT_2("vpabsd"),
	[0x20] = INT_WIDEN("vpmovsxbw", Wh),
	[0x21] = INT_WIDEN("vpmovsxbd", Wf),
	[0x22] = INT_WIDEN("vpmovsxbq", We),
	[0x23] = INT_WIDEN("vpmovsxwd", Wh),
	[0x24] = INT_WIDEN("vpmovsxwq", Wf),
	[0x25] = INT_WIDEN("vpmovsxdq", Wh),
	[0x28] = INT_3("vpmuldq"),
	[0x29] = INT_3("vpcmpeqq"),
	[0x2a] = ROWS(
	    INT_ROWS("vmovntdqa", P66 | MEM, ALIGNED, OPS(WR(Vx), RD(Mx)))),
	[0x2b] = INT_3("vpackusdw"),
	[0x2c] = ROWS(MASKED_LOAD("vmaskmovps", AVX, W0)),
	[0x2d] = ROWS(MASKED_LOAD("vmaskmovpd", AVX, W0)),
	[0x2e] = ROWS(MASKED_STORE("vmaskmovps", AVX, W0)),
	[0x2f] = ROWS(MASKED_STORE("vmaskmovpd", AVX, W0)),
	[0x30] = INT_WIDEN("vpmovzxbw", Wh),
	[0x31] = INT_WIDEN("vpmovzxbd", Wf),
	[0x32] = INT_WIDEN("vpmovzxbq", We),
	[0x33] = INT_WIDEN("vpmovzxwd", Wh),
	[0x34] = INT_WIDEN("vpmovzxwq", Wf),
	[0x35] = INT_WIDEN("vpmovzxdq", Wh),
	[0x36] = ROWS(AVX2("vpermd", P66 | L1 | W0, OPS_3)),
	[0x37] = INT_3("vpcmpgtq"),
	[0x38] = INT_3("vpminsb"),
	[0x39] = INT_3("vpminsd"),
	[0x3a] = INT_3("vpminuw"),
	[0x3b] = INT_3("vpminud"),
	[0x3c] = INT_3("vpmaxsb"),
	[0x3d] = INT_3("vpmaxsd"),
	[0x3e] = INT_3("vpmaxuw"),
	[0x3f] = INT_3("vpmaxud"),
	[0x40] = INT_3("vpmulld"),
	[0x41] = ROWS(AVX("vphminposuw", P66 | L0, OPS_2)),
	[0x45] = ROWS(AVX2("vpsrlvd", P66 | W0, OPS_3),
	    AVX2("vpsrlvq", P66 | W1, OPS_3)),
	[0x46] = ROWS(AVX2("vpsravd", P66 | W0, OPS_3)),
	[0x47] = ROWS(AVX2("vpsllvd", P66 | W0, OPS_3),
	    AVX2("vpsllvq", P66 | W1, OPS_3)),
	[0x50] = VNNI("vpdpbusd"),
	[0x51] = VNNI("vpdpbusds"),
	[0x52] = VNNI("vpdpwssd"),
	[0x53] = VNNI("vpdpwssds"),
	[0x58] = BROADCAST("vpbroadcastd", W4b),
	[0x59] = BROADCAST("vpbroadcastq", W8b),
	[0x5a] = ROWS(
	    AVX2("vbroadcasti128", P66 | MEM | L1 | W0, OPS(WR(Vx), RD(Mdq)))),
	[0x78] = BROADCAST("vpbroadcastb", W1b),
	[0x79] = BROADCAST("vpbroadcastw", W2b),
	[0x8c] = ROWS(MASKED_LOAD("vpmaskmovd", AVX2, W0),
	    MASKED_LOAD("vpmaskmovq", AVX2, W1)),
	[0x8e] = ROWS(MASKED_STORE("vpmaskmovd", AVX2, W0),
	    MASKED_STORE("vpmaskmovq", AVX2, W1)),
	[0x90] = ROWS(GATHER("vpgatherdd", W0, Vx, Md, Hx),
	    GATHER("vpgatherdq", W1, Vx, Mq, Hx)),
	[0x91] = ROWS(GATHER("vpgatherqd", W0, Vdq, Md, Hdq),
	    GATHER("vpgatherqq", W1, Vx, Mq, Hx)),
	[0x92] = ROWS(GATHER("vgatherdps", W0, Vx, Md, Hx),
	    GATHER("vgatherdpd", W1, Vx, Mq, Hx)),
	[0x93] = ROWS(GATHER("vgatherqps", W0, Vdq, Md, Hdq),
	    GATHER("vgatherqpd", W1, Vx, Mq, Hx)),
	FMA_ALL(0x96, "132"),
	FMA_ALL(0xa6, "213"),
	FMA_ALL(0xb6, "231"),
	[0xcf] = ROWS(OTHER("vgf2p8mulb", GFNI, P66 | W0, OPS_3)),
	[0xdb] = ROWS(OTHER("vaesimc", AES, P66 | L0, OPS_2)),
	[0xdc] = AES("vaesenc"),
	[0xdd] = AES("vaesenclast"),
	[0xde] = AES("vaesdec"),
	[0xdf] = AES("vaesdeclast"),
	[0xf2] = ROWS(BMI("andn", ANDN, BMI1, NP, BMI_FLAGS,
	    OPS(WR(Gy), RD(By), RD(Ey)))),
	[0xf3] = ROWS(BMI("blsr", BLSR, BMI1, NP | EXT(1), BMI_FLAGS,
			  OPS(WR(By), RD(Ey))),
	    BMI("blsmsk", BLSMSK, BMI1, NP | EXT(2), BMI_FLAGS,
		OPS(WR(By), RD(Ey))),
	    BMI("blsi", BLSI, BMI1, NP | EXT(3), BMI_FLAGS,
		OPS(WR(By), RD(Ey)))),
	[0xf5] = ROWS(BMI("bzhi", BZHI, BMI2, NP, BMI_FLAGS,
			  OPS(WR(Gy), RD(Ey), RD(By))),
	    BMI("pext", PEXT, BMI2, PF3, OPS(WR(Gy), RD(By), RD(Ey))),
	    BMI("pdep", PDEP, BMI2, PF2, OPS(WR(Gy), RD(By), RD(Ey)))),
	[0xf6] = ROWS(BMI("mulx", MULX, BMI2, PF2, FIXED(rD, 0),
	    OPS(WR(Gy), WR(By), RD(Ey)))),
	[0xf7] =
	    ROWS(BMI("bextr", BEXTR, BMI1, NP, FLAGS(0, ARITH, AF | PF | SF),
		     OPS(WR(Gy), RD(Ey), RD(By))),
		BMI("shlx", SHLX, BMI2, P66, OPS(WR(Gy), RD(Ey), RD(By))),
		BMI("sarx", SARX, BMI2, PF3, OPS(WR(Gy), RD(Ey), RD(By))),
		BMI("shrx", SHRX, BMI2, PF2, OPS(WR(Gy), RD(Ey), RD(By)))),
};

#define BLEND(name, when)                    \
	AVX(name, P66 | W0 | (when), IMM(8), \
	    OPS(WR(Vx), RD(Hx), RD(Wx), RD(Lx)))
#define PCMPSTR(name, reads, writes)               \
	ROWS(AVX(name, P66 | L0, IMM(8), COMPARES, \
	    FIXED((reads) | (writes), writes), OPS(RD(Vx), RD(Wx), RD(I))))
#define INSERT(name, feature, src)                       \
	ROWS(OTHER(name, feature, P66 | L1 | W0, IMM(8), \
	    OPS(WR(Vx), RD(Hx), RD(src), RD(I))))
#define EXTRACT(name, feature)                           \
	ROWS(OTHER(name, feature, P66 | L1 | W0, IMM(8), \
	    OPS(WR(Wdq), RD(Vx), RD(I))))

const decode_table decode_vex_0f3a = {
	[0x00] = ROWS(
	    AVX2("vpermq", P66 | L1 | W1, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x01] = ROWS(
	    AVX2("vpermpd", P66 | L1 | W1, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x02] = ROWS(AVX2("vpblendd", P66 | W0, IMM(8),
	    OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0x04] = ROWS(
	    AVX("vpermilps", P66 | W0, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x05] = ROWS(
	    AVX("vpermilpd", P66 | W0, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x06] = INSERT("vperm2f128", AVX, Wx),
	[0x08] = ROWS(AVX("vroundps", P66, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x09] = ROWS(AVX("vroundpd", P66, IMM(8), OPS(WR(Vx), RD(Wx), RD(I)))),
	[0x0a] = ROWS(AVX("vroundss", P66, IMM(8),
	    OPS(WR(Vdq), RD(Hdq), RD(W4b), RD(I)))),
	[0x0b] = ROWS(AVX("vroundsd", P66, IMM(8),
	    OPS(WR(Vdq), RD(Hdq), RD(W8b), RD(I)))),
	[0x0c] = ROWS(
	    AVX("vblendps", P66, IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0x0d] = ROWS(
	    AVX("vblendpd", P66, IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0x0e] = INT_3_IMM("vpblendw"),
	[0x0f] = INT_3_IMM("vpalignr"),
	[0x14] =
	    ROWS(AVX("vpextrb", P66 | L0, IMM(8), OPS(WR(Edb), RD(Vx), RD(I)))),
	[0x15] =
	    ROWS(AVX("vpextrw", P66 | L0, IMM(8), OPS(WR(Edw), RD(Vx), RD(I)))),
	[0x16] = ROWS(AVX("vpextrd", P66 | L0 | W0, IMM(8),
			  OPS(WR(Ed), RD(Vx), RD(I))),
	    AVX("vpextrq", P66 | L0 | W1 | ONLY64, IMM(8),
		OPS(WR(Eq), RD(Vx), RD(I)))),
	[0x17] = ROWS(
	    AVX("vextractps", P66 | L0, IMM(8), OPS(WR(Ed), RD(Vx), RD(I)))),
	[0x18] = INSERT("vinsertf128", AVX, Wdq),
	[0x19] = EXTRACT("vextractf128", AVX),
	[0x1d] = ROWS(OTHER("vcvtps2ph", F16C, P66 | W0, IMM(8),
	    OPS(WR(Wh), RD(Vx), RD(I)))),
	[0x20] = ROWS(AVX("vpinsrb", P66 | L0, IMM(8),
	    OPS(WR(Vx), RD(Hx), RD(Edb), RD(I)))),
	[0x21] = ROWS(AVX("vinsertps", P66 | L0, IMM(8),
	    OPS(WR(Vx), RD(Hx), RD(W4b), RD(I)))),
	[0x22] = ROWS(AVX("vpinsrd", P66 | L0 | W0, IMM(8),
			  OPS(WR(Vx), RD(Hx), RD(Ed), RD(I))),
	    AVX("vpinsrq", P66 | L0 | W1 | ONLY64, IMM(8),
		OPS(WR(Vx), RD(Hx), RD(Eq), RD(I)))),
	[0x30] = OPMASK_SHIFT("kshiftrb", "kshiftrw"),
	[0x31] = OPMASK_SHIFT("kshiftrd", "kshiftrq"),
	[0x32] = OPMASK_SHIFT("kshiftlb", "kshiftlw"),
	[0x33] = OPMASK_SHIFT("kshiftld", "kshiftlq"),
	[0x38] = INSERT("vinserti128", AVX2, Wdq),
	[0x39] = EXTRACT("vextracti128", AVX2),
	[0x40] =
	    ROWS(AVX("vdpps", P66, IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0x41] = ROWS(
	    AVX("vdppd", P66 | L0, IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0x42] = INT_3_IMM("vmpsadbw"),
	[0x44] = ROWS(OTHER("vpclmulqdq", PCLMUL, P66 | L0, IMM(8),
			  OPS(WR(Vx), RD(Hx), RD(Wx), RD(I))),
	    OTHER("vpclmulqdq", VPCLMUL, P66 | L1, IMM(8),
		OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0x46] = INSERT("vperm2i128", AVX2, Wx),
	[0x4a] = ROWS(BLEND("vblendvps", 0)),
	[0x4b] = ROWS(BLEND("vblendvpd", 0)),
	[0x4c] = ROWS(BLEND("vpblendvb", L0),
	    AVX2("vpblendvb", P66 | W0 | L1, IMM(8),
		OPS(WR(Vx), RD(Hx), RD(Wx), RD(Lx)))),
	[0x60] = PCMPSTR("vpcmpestrm", rA | rD, 0),
	[0x61] = PCMPSTR("vpcmpestri", rA | rD, rC),
	[0x62] = PCMPSTR("vpcmpistrm", 0, 0),
	[0x63] = PCMPSTR("vpcmpistri", 0, rC),
	[0xce] = ROWS(OTHER("vgf2p8affineqb", GFNI, P66 | W1, IMM(8),
	    OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0xcf] = ROWS(OTHER("vgf2p8affineinvqb", GFNI, P66 | W1, IMM(8),
	    OPS(WR(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0xdf] = ROWS(OTHER("vaeskeygenassist", AES, P66 | L0, IMM(8),
	    OPS(WR(Vx), RD(Wx), RD(I)))),
	[0xf0] = ROWS(
	    BMI("rorx", RORX, BMI2, PF2, IMM(8), OPS(WR(Gy), RD(Ey), RD(I)))),
};
