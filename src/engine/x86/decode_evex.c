/*
 * Opcodes with an EVEX prefix: AVX-512 F, BW, DQ, VL, CD, IFMA, VBMI, VBMI2,
 * VNNI, BITALG, VPOPCNTDQ and BF16; AES, PCLMULQDQ and GFNI by EVEX.
 *
 * Models       Intel SDM volume 2, 2.7 and the instructions' own pages.
 * Operands     The opmask is none: see struct x86_insn, evex_aaa.
 * Faults       of masked-off elements are suppressed (X86_A_MASKED) but for the
 *              exception types that end in NF (2.8): those take memory as a
 *              whole.
 */
#include "engine/x86/decode_impl.h"

/* Masks: merging only, or zeroing, too. */
#define K EVEX_MASK
#define KZ (EVEX_MASK | EVEX_ZERO)
#define ER EVEX_ROUND
#define SAE EVEX_SAE

#define EVEX_ROW(name_, feature_, when_, tuple_, traits_, ...)                \
	{                                                                     \
		NAME(name_, VECTOR), CLASS(VECTOR), UNIT(AVX512),             \
		    FEATURE(feature_), WHEN(when_), SIZE(Y),                  \
		    .tuple = TUPLE_##tuple_, .traits = (traits_), __VA_ARGS__ \
	}
#define E(name, when, tuple, traits, ...)                                \
	EVEX_ROW(name, AVX512, when, tuple, traits, ATTRS(X86_A_MASKED), \
	    __VA_ARGS__)
/* No fault suppression, and maybe no mask at all */
#define E_NF(name, when, tuple, traits, ...) \
	EVEX_ROW(name, AVX512, when, tuple, traits, __VA_ARGS__)
#define E_ALIGNED(name, when, traits, ...)          \
	EVEX_ROW(name, AVX512, when, WHOLE, traits, \
	    ATTRS(X86_A_MASKED | X86_A_ALIGN), __VA_ARGS__)

#define OPS_3 OPS(WR(Vx), RD(Hx), RD(Wx))
#define OPS_RMW OPS(RW(Vx), RD(Hx), RD(Wx))
#define OPS_2 OPS(WR(Vx), RD(Wx))
#define OPS_K OPS(WR(KG), RD(Hx), RD(Wx))
#define OPS_SS OPS(WR(Vdq), RD(Hdq), RD(W4b))
#define OPS_SD OPS(WR(Vdq), RD(Hdq), RD(W8b))
#define OPS_3I IMM(8), OPS(WR(Vx), RD(Hx), RD(Wx), RD(I))
#define OPS_2I IMM(8), OPS(WR(Vx), RD(Wx), RD(I))
#define OPS_KI IMM(8), OPS(WR(KG), RD(Hx), RD(Wx), RD(I))

#define ANY_VL L012

/* Elements of 4 bytes with W0, of 8 with W1, which can be broadcast. */
#define PAIR(name4, name8, when, traits, ...)                     \
	E(name4, (when) | W0, BCST4, KZ | (traits), __VA_ARGS__), \
	    E(name8, (when) | W1, BCST8, KZ | (traits), __VA_ARGS__)
#define PAIR_NF(name4, name8, when, traits, ...)                     \
	E_NF(name4, (when) | W0, BCST4, KZ | (traits), __VA_ARGS__), \
	    E_NF(name8, (when) | W1, BCST8, KZ | (traits), __VA_ARGS__)
#define D_Q(stem) ROWS(PAIR(stem "d", stem "q", P66 | ANY_VL, 0, OPS_3))
#define D_Q_RMW(stem) ROWS(PAIR(stem "d", stem "q", P66 | ANY_VL, 0, OPS_RMW))
/* One element size only */
#define D_ONLY(name, ops) ROWS(E(name, P66 | W0 | ANY_VL, BCST4, KZ, ops))
#define Q_ONLY(name, ops) ROWS(E(name, P66 | W1 | ANY_VL, BCST8, KZ, ops))
#define D_ONLY_NF(name) ROWS(E_NF(name, P66 | W0 | ANY_VL, BCST4, KZ, OPS_3))
#define Q_ONLY_NF(name) ROWS(E_NF(name, P66 | W1 | ANY_VL, BCST8, KZ, OPS_3))
/* Elements of bytes and words: no broadcast */
#define BW_ROW(name, when, ...) \
	E(name, P66 | ANY_VL | (when), WHOLE, KZ, __VA_ARGS__)
#define BW(name) ROWS(BW_ROW(name, 0, OPS_3))
#define BW_NF(name) ROWS(E_NF(name, P66 | ANY_VL, WHOLE, KZ, OPS_3))

/* ps and pd, by prefix as in SSE; ss and sd */
#define PS_PD(stem, traits)                                          \
	E(stem "ps", NP | W0 | ANY_VL, BCST4, KZ | (traits), OPS_3), \
	    E(stem "pd", P66 | W1 | ANY_VL, BCST8, KZ | (traits), OPS_3)
#define PS_PD_NF(stem)                                       \
	E_NF(stem "ps", NP | W0 | ANY_VL, BCST4, KZ, OPS_3), \
	    E_NF(stem "pd", P66 | W1 | ANY_VL, BCST8, KZ, OPS_3)
#define SS_SD(stem, traits)                                   \
	E(stem "ss", PF3 | W0, WHOLE, KZ | (traits), OPS_SS), \
	    E(stem "sd", PF2 | W1, WHOLE, KZ | (traits), OPS_SD)
#define ARITHMETIC(stem, traits) ROWS(PS_PD(stem, traits), SS_SD(stem, traits))
/* The same by W alone */
#define W_PS_PD(stem, traits, ...) \
	ROWS(PAIR(stem "ps", stem "pd", P66 | ANY_VL, traits, __VA_ARGS__))
#define W_SS_SD(stem, traits)                                      \
	ROWS(E(stem "ss", P66 | W0, WHOLE, KZ | (traits), OPS_SS), \
	    E(stem "sd", P66 | W1, WHOLE, KZ | (traits), OPS_SD))
#define W_SS_SD_IMM(stem, traits)                                 \
	ROWS(E(stem "ss", P66 | W0, WHOLE, KZ | (traits), IMM(8), \
		 OPS(WR(Vdq), RD(Hdq), RD(W4b), RD(I))),          \
	    E(stem "sd", P66 | W1, WHOLE, KZ | (traits), IMM(8),  \
		OPS(WR(Vdq), RD(Hdq), RD(W8b), RD(I))))

/* Compares to an opmask */
#define K_BW(name) ROWS(E(name, P66 | ANY_VL, WHOLE, K, OPS_K))
#define K_D(name) ROWS(E(name, P66 | W0 | ANY_VL, BCST4, K, OPS_K))
#define K_Q(name) ROWS(E(name, P66 | W1 | ANY_VL, BCST8, K, OPS_K))

/* Shifts by 128 bits of count, and by an immediate */
#define SHIFT_ROW(name, when)                        \
	E_NF(name, P66 | ANY_VL | (when), WHOLE, KZ, \
	    OPS(WR(Vx), RD(Hx), RD(Wdq)))
#define SHIFT_IMM(n, name, when, tuple)                            \
	E(name, P66 | EXT(n) | ANY_VL | (when), tuple, KZ, IMM(8), \
	    OPS(WR(Hx), RD(Wx), RD(I)))

/* Moves of a whole register: load and store */
#define LOAD(name, when) E(name, (when) | ANY_VL, WHOLE, KZ, OPS_2)
#define STORE(name, when) \
	E(name, (when) | ANY_VL, WHOLE, KZ, OPS(WR(Wx), RD(Vx)))
#define LOAD_ALIGNED(name, when) E_ALIGNED(name, (when) | ANY_VL, KZ, OPS_2)
#define STORE_ALIGNED(name, when) \
	E_ALIGNED(name, (when) | ANY_VL, KZ, OPS(WR(Wx), RD(Vx)))
#define NON_TEMPORAL(name, when, ...)                           \
	EVEX_ROW(name, AVX512, (when) | MEM | ANY_VL, WHOLE, 0, \
	    ATTRS(X86_A_ALIGN), __VA_ARGS__)
/* Half a register */
#define HALF_LOAD(name, when) \
	E_NF(name, (when) | MEM | L0, WHOLE, 0, OPS(WR(Vx), RD(Hx), RD(Mq)))
#define HALF_STORE(name, when) \
	E_NF(name, (when) | MEM | L0, WHOLE, 0, OPS(WR(Mq), RD(Vx)))

/* Conversions between the vector's length and half of it */
/*
 * Those that are always exact (VCVTDQ2PD, VCVTSI2SD of 32 bits) allow rounding
 * control, and ignore it.
 */
#define TO_HALF(name, when, traits) \
	E(name, (when) | W1 | ANY_VL, BCST8, KZ | (traits), OPS(WR(Vh), RD(Wx)))
#define FROM_HALF(name, when, traits) \
	E(name, (when) | W0 | ANY_VL, BCST4, KZ | (traits), OPS(WR(Vx), RD(Wh)))
#define CONVERT4(name, when, traits) \
	E(name, (when) | W0 | ANY_VL, BCST4, KZ | (traits), OPS_2)
#define CONVERT8(name, when, traits) \
	E(name, (when) | W1 | ANY_VL, BCST8, KZ | (traits), OPS_2)
/* To and from general registers */
#define TO_GPR(name, when, traits, src) \
	E_NF(name, when, WHOLE, traits, OPS(WR(Gy), RD(src)))
#define FROM_GPR(name, when, traits) \
	E_NF(name, when, WHOLE, traits, OPS(WR(Vdq), RD(Hdq), RD(Ey)))

#define COMPARES FLAGS(0, ARITH, 0)
#define COMPARE(name, when, src) \
	E_NF(name, when, WHOLE, SAE, COMPARES, OPS(RD(Vdq), RD(src)))

const decode_table decode_evex_0f = {
	[0x10] = ROWS(LOAD("vmovups", NP | W0), LOAD("vmovupd", P66 | W1),
	    E("vmovss", PF3 | W0 | MEM, WHOLE, KZ, OPS(WR(Vdq), RD(Md))),
	    E("vmovss", PF3 | W0 | REG, WHOLE, KZ,
		OPS(WR(Vdq), RD(Hdq), RD(Wdq))),
	    E("vmovsd", PF2 | W1 | MEM, WHOLE, KZ, OPS(WR(Vdq), RD(Mq))),
	    E("vmovsd", PF2 | W1 | REG, WHOLE, KZ,
		OPS(WR(Vdq), RD(Hdq), RD(Wdq)))),
	[0x11] = ROWS(STORE("vmovups", NP | W0), STORE("vmovupd", P66 | W1),
	    E("vmovss", PF3 | W0 | MEM, WHOLE, K, OPS(WR(Md), RD(Vdq))),
	    E("vmovss", PF3 | W0 | REG, WHOLE, KZ,
		OPS(WR(Wdq), RD(Hdq), RD(Vdq))),
	    E("vmovsd", PF2 | W1 | MEM, WHOLE, K, OPS(WR(Mq), RD(Vdq))),
	    E("vmovsd", PF2 | W1 | REG, WHOLE, KZ,
		OPS(WR(Wdq), RD(Hdq), RD(Vdq)))),
	[0x12] = ROWS(HALF_LOAD("vmovlps", NP | W0),
	    E_NF("vmovhlps", NP | W0 | REG | L0, WHOLE, 0, OPS_3),
	    HALF_LOAD("vmovlpd", P66 | W1),
	    E_NF("vmovsldup", PF3 | W0 | ANY_VL, WHOLE, KZ, OPS_2),
	    E_NF("vmovddup", PF2 | W1 | ANY_VL, WHOLE, KZ,
		OPS(WR(Vx), RD(Wdup)))),
	[0x13] = ROWS(HALF_STORE("vmovlps", NP | W0),
	    HALF_STORE("vmovlpd", P66 | W1)),
	[0x14] = ROWS(PS_PD_NF("vunpckl")),
	[0x15] = ROWS(PS_PD_NF("vunpckh")),
	[0x16] = ROWS(HALF_LOAD("vmovhps", NP | W0),
	    E_NF("vmovlhps", NP | W0 | REG | L0, WHOLE, 0, OPS_3),
	    HALF_LOAD("vmovhpd", P66 | W1),
	    E_NF("vmovshdup", PF3 | W0 | ANY_VL, WHOLE, KZ, OPS_2)),
	[0x17] = ROWS(HALF_STORE("vmovhps", NP | W0),
	    HALF_STORE("vmovhpd", P66 | W1)),
	[0x28] = ROWS(LOAD_ALIGNED("vmovaps", NP | W0),
	    LOAD_ALIGNED("vmovapd", P66 | W1)),
	[0x29] = ROWS(STORE_ALIGNED("vmovaps", NP | W0),
	    STORE_ALIGNED("vmovapd", P66 | W1)),
	[0x2a] = ROWS(FROM_GPR("vcvtsi2ss", PF3, ER),
	    FROM_GPR("vcvtsi2sd", PF2, ER)),
	[0x2b] = ROWS(NON_TEMPORAL("vmovntps", NP | W0, OPS(WR(Mx), RD(Vx))),
	    NON_TEMPORAL("vmovntpd", P66 | W1, OPS(WR(Mx), RD(Vx)))),
	[0x2c] = ROWS(TO_GPR("vcvttss2si", PF3, SAE, W4b),
	    TO_GPR("vcvttsd2si", PF2, SAE, W8b)),
	[0x2d] = ROWS(TO_GPR("vcvtss2si", PF3, ER, W4b),
	    TO_GPR("vcvtsd2si", PF2, ER, W8b)),
	[0x2e] = ROWS(COMPARE("vucomiss", NP | W0, W4b),
	    COMPARE("vucomisd", P66 | W1, W8b)),
	[0x2f] = ROWS(COMPARE("vcomiss", NP | W0, W4b),
	    COMPARE("vcomisd", P66 | W1, W8b)),

	[0x51] = ROWS(CONVERT4("vsqrtps", NP, ER), CONVERT8("vsqrtpd", P66, ER),
	    SS_SD("vsqrt", ER)),
	[0x54] = ROWS(PS_PD("vand", 0)),
	[0x55] = ROWS(PS_PD("vandn", 0)),
	[0x56] = ROWS(PS_PD("vor", 0)),
	[0x57] = ROWS(PS_PD("vxor", 0)),
	[0x58] = ARITHMETIC("vadd", ER),
	[0x59] = ARITHMETIC("vmul", ER),
	[0x5a] =
	    ROWS(FROM_HALF("vcvtps2pd", NP, SAE), TO_HALF("vcvtpd2ps", P66, ER),
		E("vcvtss2sd", PF3 | W0, WHOLE, KZ | SAE, OPS_SS),
		E("vcvtsd2ss", PF2 | W1, WHOLE, KZ | ER, OPS_SD)),
	[0x5b] = ROWS(CONVERT4("vcvtdq2ps", NP, ER),
	    TO_HALF("vcvtqq2ps", NP, ER), CONVERT4("vcvtps2dq", P66, ER),
	    CONVERT4("vcvttps2dq", PF3, SAE)),
	[0x5c] = ARITHMETIC("vsub", ER),
	[0x5d] = ARITHMETIC("vmin", SAE),
	[0x5e] = ARITHMETIC("vdiv", ER),
	[0x5f] = ARITHMETIC("vmax", SAE),

	[0x60] = BW_NF("vpunpcklbw"),
	[0x61] = BW_NF("vpunpcklwd"),
	[0x62] = D_ONLY_NF("vpunpckldq"),
	[0x63] = BW_NF("vpacksswb"),
	[0x64] = K_BW("vpcmpgtb"),
	[0x65] = K_BW("vpcmpgtw"),
	[0x66] = K_D("vpcmpgtd"),
	[0x67] = BW_NF("vpackuswb"),
	[0x68] = BW_NF("vpunpckhbw"),
	[0x69] = BW_NF("vpunpckhwd"),
	[0x6a] = D_ONLY_NF("vpunpckhdq"),
	[0x6b] = D_ONLY_NF("vpackssdw"),
	[0x6c] = Q_ONLY_NF("vpunpcklqdq"),
	[0x6d] = Q_ONLY_NF("vpunpckhqdq"),
	[0x6e] = ROWS(E_NF("vmovd", P66 | L0, WHOLE, 0, OPS(WR(Vx), RD(Ey)))),
	[0x6f] = ROWS(LOAD_ALIGNED("vmovdqa32", P66 | W0),
	    LOAD_ALIGNED("vmovdqa64", P66 | W1), LOAD("vmovdqu32", PF3 | W0),
	    LOAD("vmovdqu64", PF3 | W1), LOAD("vmovdqu8", PF2 | W0),
	    LOAD("vmovdqu16", PF2 | W1)),

	[0x70] = ROWS(E_NF("vpshufd", P66 | W0 | ANY_VL, BCST4, KZ, OPS_2I),
	    E_NF("vpshufhw", PF3 | ANY_VL, WHOLE, KZ, OPS_2I),
	    E_NF("vpshuflw", PF2 | ANY_VL, WHOLE, KZ, OPS_2I)),
	[0x71] = ROWS(SHIFT_IMM(2, "vpsrlw", 0, WHOLE),
	    SHIFT_IMM(4, "vpsraw", 0, WHOLE), SHIFT_IMM(6, "vpsllw", 0, WHOLE)),
	[0x72] = ROWS(SHIFT_IMM(0, "vprord", W0, BCST4),
	    SHIFT_IMM(0, "vprorq", W1, BCST8),
	    SHIFT_IMM(1, "vprold", W0, BCST4),
	    SHIFT_IMM(1, "vprolq", W1, BCST8),
	    SHIFT_IMM(2, "vpsrld", W0, BCST4),
	    SHIFT_IMM(4, "vpsrad", W0, BCST4),
	    SHIFT_IMM(4, "vpsraq", W1, BCST8),
	    SHIFT_IMM(6, "vpslld", W0, BCST4)),
	[0x73] = ROWS(SHIFT_IMM(2, "vpsrlq", W1, BCST8),
	    E_NF("vpsrldq", P66 | EXT(3) | ANY_VL, WHOLE, 0, IMM(8),
		OPS(WR(Hx), RD(Wx), RD(I))),
	    SHIFT_IMM(6, "vpsllq", W1, BCST8),
	    E_NF("vpslldq", P66 | EXT(7) | ANY_VL, WHOLE, 0, IMM(8),
		OPS(WR(Hx), RD(Wx), RD(I)))),
	[0x74] = K_BW("vpcmpeqb"),
	[0x75] = K_BW("vpcmpeqw"),
	[0x76] = K_D("vpcmpeqd"),
	[0x78] = ROWS(CONVERT4("vcvttps2udq", NP, SAE),
	    TO_HALF("vcvttpd2udq", NP, SAE), FROM_HALF("vcvttps2uqq", P66, SAE),
	    CONVERT8("vcvttpd2uqq", P66, SAE),
	    TO_GPR("vcvttss2usi", PF3, SAE, W4b),
	    TO_GPR("vcvttsd2usi", PF2, SAE, W8b)),
	[0x79] = ROWS(CONVERT4("vcvtps2udq", NP, ER),
	    TO_HALF("vcvtpd2udq", NP, ER), FROM_HALF("vcvtps2uqq", P66, ER),
	    CONVERT8("vcvtpd2uqq", P66, ER), TO_GPR("vcvtss2usi", PF3, ER, W4b),
	    TO_GPR("vcvtsd2usi", PF2, ER, W8b)),
	[0x7a] = ROWS(FROM_HALF("vcvttps2qq", P66, SAE),
	    CONVERT8("vcvttpd2qq", P66, SAE), FROM_HALF("vcvtudq2pd", PF3, ER),
	    CONVERT8("vcvtuqq2pd", PF3, ER), CONVERT4("vcvtudq2ps", PF2, ER),
	    TO_HALF("vcvtuqq2ps", PF2, ER)),
	[0x7b] = ROWS(FROM_HALF("vcvtps2qq", P66, ER),
	    CONVERT8("vcvtpd2qq", P66, ER), FROM_GPR("vcvtusi2ss", PF3, ER),
	    FROM_GPR("vcvtusi2sd", PF2, ER)),
	[0x7e] = ROWS(E_NF("vmovd", P66 | L0, WHOLE, 0, OPS(WR(Ey), RD(Vx))),
	    E_NF("vmovq", PF3 | W1 | L0, WHOLE, 0, OPS(WR(Vx), RD(W8b)))),
	[0x7f] = ROWS(STORE_ALIGNED("vmovdqa32", P66 | W0),
	    STORE_ALIGNED("vmovdqa64", P66 | W1), STORE("vmovdqu32", PF3 | W0),
	    STORE("vmovdqu64", PF3 | W1), STORE("vmovdqu8", PF2 | W0),
	    STORE("vmovdqu16", PF2 | W1)),

	[0xc2] = ROWS(E("vcmpps", NP | W0 | ANY_VL, BCST4, K | SAE, OPS_KI),
	    E("vcmppd", P66 | W1 | ANY_VL, BCST8, K | SAE, OPS_KI),
	    E("vcmpss", PF3 | W0, WHOLE, K | SAE, IMM(8),
		OPS(WR(KG), RD(Hdq), RD(W4b), RD(I))),
	    E("vcmpsd", PF2 | W1, WHOLE, K | SAE, IMM(8),
		OPS(WR(KG), RD(Hdq), RD(W8b), RD(I)))),
	[0xc4] = ROWS(E_NF("vpinsrw", P66 | L0, WHOLE, 0, IMM(8),
	    OPS(WR(Vx), RD(Hx), RD(Edw), RD(I)))),
	[0xc5] = ROWS(E_NF("vpextrw", P66 | REG | L0, WHOLE, 0, IMM(8),
	    OPS(WR(Gd), RD(Wx), RD(I)))),
	[0xc6] = ROWS(E_NF("vshufps", NP | W0 | ANY_VL, BCST4, KZ, OPS_3I),
	    E_NF("vshufpd", P66 | W1 | ANY_VL, BCST8, KZ, OPS_3I)),

	[0xd1] = ROWS(SHIFT_ROW("vpsrlw", 0)),
	[0xd2] = ROWS(SHIFT_ROW("vpsrld", W0)),
	[0xd3] = ROWS(SHIFT_ROW("vpsrlq", W1)),
	[0xd4] = Q_ONLY("vpaddq", OPS_3),
	[0xd5] = BW("vpmullw"),
	[0xd6] =
	    ROWS(E_NF("vmovq", P66 | W1 | L0, WHOLE, 0, OPS(WR(W8b), RD(Vx)))),
	[0xd8] = BW("vpsubusb"),
	[0xd9] = BW("vpsubusw"),
	[0xda] = BW("vpminub"),
	[0xdb] = D_Q("vpand"),
	[0xdc] = BW("vpaddusb"),
	[0xdd] = BW("vpaddusw"),
	[0xde] = BW("vpmaxub"),
	[0xdf] = D_Q("vpandn"),
	[0xe0] = BW("vpavgb"),
	[0xe1] = ROWS(SHIFT_ROW("vpsraw", 0)),
	[0xe2] = ROWS(SHIFT_ROW("vpsrad", W0), SHIFT_ROW("vpsraq", W1)),
	[0xe3] = BW("vpavgw"),
	[0xe4] = BW("vpmulhuw"),
	[0xe5] = BW("vpmulhw"),
	[0xe6] = ROWS(TO_HALF("vcvttpd2dq", P66, SAE),
	    FROM_HALF("vcvtdq2pd", PF3, ER), CONVERT8("vcvtqq2pd", PF3, ER),
	    TO_HALF("vcvtpd2dq", PF2, ER)),
	[0xe7] = ROWS(NON_TEMPORAL("vmovntdq", P66 | W0, OPS(WR(Mx), RD(Vx)))),
	[0xe8] = BW("vpsubsb"),
	[0xe9] = BW("vpsubsw"),
	[0xea] = BW("vpminsw"),
	[0xeb] = D_Q("vpor"),
	[0xec] = BW("vpaddsb"),
	[0xed] = BW("vpaddsw"),
	[0xee] = BW("vpmaxsw"),
	[0xef] = D_Q("vpxor"),
	[0xf1] = ROWS(SHIFT_ROW("vpsllw", 0)),
	[0xf2] = ROWS(SHIFT_ROW("vpslld", W0)),
	[0xf3] = ROWS(SHIFT_ROW("vpsllq", W1)),
	[0xf4] = Q_ONLY("vpmuludq", OPS_3),
	[0xf5] = BW_NF("vpmaddwd"),
	[0xf6] = ROWS(E_NF("vpsadbw", P66 | ANY_VL, WHOLE, 0, OPS_3)),
	[0xf8] = BW("vpsubb"),
	[0xf9] = BW("vpsubw"),
	[0xfa] = D_ONLY("vpsubd", OPS_3),
	[0xfb] = Q_ONLY("vpsubq", OPS_3),
	[0xfc] = BW("vpaddb"),
	[0xfd] = BW("vpaddw"),
	[0xfe] = D_ONLY("vpaddd", OPS_3),
};

/* Narrowing and widening by 2, 4, 8 */
#define NARROW(name, dst) \
	E(name, PF3 | W0 | ANY_VL, WHOLE, KZ, OPS(WR(dst), RD(Vx)))
#define WIDEN(name, when, src) \
	E(name, P66 | ANY_VL | (when), WHOLE, KZ, OPS(WR(Vx), RD(src)))
/* An element, or a group of them, to all places */
#define BROADCAST(name, when, src) \
	E(name, P66 | (when), WHOLE, KZ, OPS(WR(Vx), RD(src)))
#define FROM_OPMASK(name, when) \
	E_NF(name, PF3 | REG | ANY_VL | (when), WHOLE, 0, OPS(WR(Vx), RD(KE)))
#define TO_OPMASK(name, when) \
	E_NF(name, PF3 | REG | ANY_VL | (when), WHOLE, 0, OPS(WR(KG), RD(Wx)))
/* Memory is packed: as many elements as the mask has bits. */
#define EXPAND(name, when, size) \
	E(name, P66 | ANY_VL | (when), ELEMENT##size, KZ, OPS_2)
#define COMPRESS(name, when, size) \
	E(name, P66 | ANY_VL | (when), ELEMENT##size, KZ, OPS(WR(Wx), RD(Vx)))
#define PERMUTE_BW(name, when, ...) \
	E_NF(name, P66 | ANY_VL | (when), WHOLE, KZ, __VA_ARGS__)
#define AES(name) ROWS(EVEX_ROW(name, VAES, P66 | ANY_VL, WHOLE, 0, OPS_3))
#define VNNI(name) D_ONLY(name, OPS_RMW)
#define GATHER_ROW(name, when, v, m)                                    \
	{                                                               \
		NAME(name, GATHER), CLASS(SYSTEM), UNIT(AVX512),        \
		    FEATURE(AVX512), WHEN(P66 | MEM | ANY_VL | (when)), \
		    SIZE(Y), ATTRS(X86_A_VSIB | X86_A_MASKED),          \
		    .traits = K | EVEX_NEED_MASK, OPS(RW(v), RD(m))     \
	}
#define SCATTER_ROW(name, when, v, m)                                   \
	{                                                               \
		NAME(name, SCATTER), CLASS(SYSTEM), UNIT(AVX512),       \
		    FEATURE(AVX512), WHEN(P66 | MEM | ANY_VL | (when)), \
		    SIZE(Y), ATTRS(X86_A_VSIB | X86_A_MASKED),          \
		    .traits = K | EVEX_NEED_MASK, OPS(WR(m), RD(v))     \
	}

#define FMA_PACKED(stem) W_PS_PD(stem, ER, OPS_RMW)
#define FMA_SCALAR(stem)                            \
	ROWS(E(stem "ss", P66 | W0, WHOLE, KZ | ER, \
		 OPS(RW(Vdq), RD(Hdq), RD(W4b))),   \
	    E(stem "sd", P66 | W1, WHOLE, KZ | ER,  \
		OPS(RW(Vdq), RD(Hdq), RD(W8b))))
/* clang-format off */
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

const decode_table decode_evex_0f38 = {
	[0x00] = BW_NF("vpshufb"),
	[0x04] = BW_NF("vpmaddubsw"),
	[0x0b] = BW("vpmulhrsw"),
	[0x0c] = D_ONLY_NF("vpermilps"),
	[0x0d] = Q_ONLY_NF("vpermilpd"),
	[0x10] = ROWS(BW_ROW("vpsrlvw", W1, OPS_3), NARROW("vpmovuswb", Wh)),
	[0x11] = ROWS(BW_ROW("vpsravw", W1, OPS_3), NARROW("vpmovusdb", Wf)),
	[0x12] = ROWS(BW_ROW("vpsllvw", W1, OPS_3), NARROW("vpmovusqb", We)),
	[0x13] = ROWS(E("vcvtph2ps", P66 | W0 | ANY_VL, WHOLE, KZ | SAE,
			  OPS(WR(Vx), RD(Wh))),
	    NARROW("vpmovusdw", Wh)),
	[0x14] = ROWS(PAIR("vprorvd", "vprorvq", P66 | ANY_VL, 0, OPS_3),
	    NARROW("vpmovusqw", Wf)),
	[0x15] = ROWS(PAIR("vprolvd", "vprolvq", P66 | ANY_VL, 0, OPS_3),
	    NARROW("vpmovusqd", Wh)),
	[0x16] = ROWS(PAIR_NF("vpermps", "vpermpd", P66 | L12, 0, OPS_3)),
	[0x18] = ROWS(BROADCAST("vbroadcastss", W0 | ANY_VL, W4b)),
	[0x19] = ROWS(BROADCAST("vbroadcastf32x2", W0 | L12, W8b),
	    BROADCAST("vbroadcastsd", W1 | L12, W8b)),
	[0x1a] = ROWS(BROADCAST("vbroadcastf32x4", W0 | L12 | MEM, Mdq),
	    BROADCAST("vbroadcastf64x2", W1 | L12 | MEM, Mdq)),
	[0x1b] = ROWS(BROADCAST("vbroadcastf32x8", W0 | L2 | MEM, Mqq),
	    BROADCAST("vbroadcastf64x4", W1 | L2 | MEM, Mqq)),
	[0x1c] = ROWS(BW_ROW("vpabsb", 0, OPS_2)),
	[0x1d] = ROWS(BW_ROW("vpabsw", 0, OPS_2)),
	[0x1e] = D_ONLY("vpabsd", OPS_2),
	[0x1f] = Q_ONLY("vpabsq", OPS_2),
	[0x20] = ROWS(WIDEN("vpmovsxbw", 0, Wh), NARROW("vpmovswb", Wh)),
	[0x21] = ROWS(WIDEN("vpmovsxbd", 0, Wf), NARROW("vpmovsdb", Wf)),
	[0x22] = ROWS(WIDEN("vpmovsxbq", 0, We), NARROW("vpmovsqb", We)),
	[0x23] = ROWS(WIDEN("vpmovsxwd", 0, Wh), NARROW("vpmovsdw", Wh)),
	[0x24] = ROWS(WIDEN("vpmovsxwq", 0, Wf), NARROW("vpmovsqw", Wf)),
	[0x25] = ROWS(WIDEN("vpmovsxdq", W0, Wh), NARROW("vpmovsqd", Wh)),
	[0x26] = ROWS(E("vptestmb", P66 | W0 | ANY_VL, WHOLE, K, OPS_K),
	    E("vptestmw", P66 | W1 | ANY_VL, WHOLE, K, OPS_K),
	    E("vptestnmb", PF3 | W0 | ANY_VL, WHOLE, K, OPS_K),
	    E("vptestnmw", PF3 | W1 | ANY_VL, WHOLE, K, OPS_K)),
	[0x27] = ROWS(E("vptestmd", P66 | W0 | ANY_VL, BCST4, K, OPS_K),
	    E("vptestmq", P66 | W1 | ANY_VL, BCST8, K, OPS_K),
	    E("vptestnmd", PF3 | W0 | ANY_VL, BCST4, K, OPS_K),
	    E("vptestnmq", PF3 | W1 | ANY_VL, BCST8, K, OPS_K)),
	[0x28] = ROWS(E("vpmuldq", P66 | W1 | ANY_VL, BCST8, KZ, OPS_3),
	    FROM_OPMASK("vpmovm2b", W0), FROM_OPMASK("vpmovm2w", W1)),
	[0x29] = ROWS(E("vpcmpeqq", P66 | W1 | ANY_VL, BCST8, K, OPS_K),
	    TO_OPMASK("vpmovb2m", W0), TO_OPMASK("vpmovw2m", W1)),
	[0x2a] = ROWS(NON_TEMPORAL("vmovntdqa", P66 | W0, OPS(WR(Vx), RD(Mx))),
	    FROM_OPMASK("vpbroadcastmb2q", W1)),
	[0x2b] = D_ONLY_NF("vpackusdw"),
	[0x2c] = W_PS_PD("vscalef", ER, OPS_3),
	[0x2d] = W_SS_SD("vscalef", ER),
	[0x30] = ROWS(WIDEN("vpmovzxbw", 0, Wh), NARROW("vpmovwb", Wh)),
	[0x31] = ROWS(WIDEN("vpmovzxbd", 0, Wf), NARROW("vpmovdb", Wf)),
	[0x32] = ROWS(WIDEN("vpmovzxbq", 0, We), NARROW("vpmovqb", We)),
	[0x33] = ROWS(WIDEN("vpmovzxwd", 0, Wh), NARROW("vpmovdw", Wh)),
	[0x34] = ROWS(WIDEN("vpmovzxwq", 0, Wf), NARROW("vpmovqw", Wf)),
	[0x35] = ROWS(WIDEN("vpmovzxdq", W0, Wh), NARROW("vpmovqd", Wh)),
	[0x36] = ROWS(PAIR_NF("vpermd", "vpermq", P66 | L12, 0, OPS_3)),
	[0x37] = K_Q("vpcmpgtq"),
	[0x38] = ROWS(BW_ROW("vpminsb", 0, OPS_3), FROM_OPMASK("vpmovm2d", W0),
	    FROM_OPMASK("vpmovm2q", W1)),
	[0x39] = ROWS(PAIR("vpminsd", "vpminsq", P66 | ANY_VL, 0, OPS_3),
	    TO_OPMASK("vpmovd2m", W0), TO_OPMASK("vpmovq2m", W1)),
	[0x3a] = ROWS(BW_ROW("vpminuw", 0, OPS_3),
	    FROM_OPMASK("vpbroadcastmw2d", W0)),
	[0x3b] = D_Q("vpminu"),
	[0x3c] = BW("vpmaxsb"),
	[0x3d] = D_Q("vpmaxs"),
	[0x3e] = BW("vpmaxuw"),
	[0x3f] = D_Q("vpmaxu"),
	[0x40] = D_Q("vpmull"),
	[0x42] = W_PS_PD("vgetexp", SAE, OPS_2),
	[0x43] = W_SS_SD("vgetexp", SAE),
	[0x44] = ROWS(PAIR("vplzcntd", "vplzcntq", P66 | ANY_VL, 0, OPS_2)),
	[0x45] = D_Q("vpsrlv"),
	[0x46] = D_Q("vpsrav"),
	[0x47] = D_Q("vpsllv"),
	[0x4c] = W_PS_PD("vrcp14", 0, OPS_2),
	[0x4d] = W_SS_SD("vrcp14", 0),
	[0x4e] = W_PS_PD("vrsqrt14", 0, OPS_2),
	[0x4f] = W_SS_SD("vrsqrt14", 0),
	[0x50] = VNNI("vpdpbusd"),
	[0x51] = VNNI("vpdpbusds"),
	[0x52] = ROWS(E("vpdpwssd", P66 | W0 | ANY_VL, BCST4, KZ, OPS_RMW),
	    E("vdpbf16ps", PF3 | W0 | ANY_VL, BCST4, KZ, OPS_RMW)),
	[0x53] = VNNI("vpdpwssds"),
	[0x54] =
	    ROWS(BW_ROW("vpopcntb", W0, OPS_2), BW_ROW("vpopcntw", W1, OPS_2)),
	[0x55] = ROWS(PAIR("vpopcntd", "vpopcntq", P66 | ANY_VL, 0, OPS_2)),
	[0x58] = ROWS(BROADCAST("vpbroadcastd", W0 | ANY_VL, W4b)),
	[0x59] = ROWS(BROADCAST("vbroadcasti32x2", W0 | ANY_VL, W8b),
	    BROADCAST("vpbroadcastq", W1 | ANY_VL, W8b)),
	[0x5a] = ROWS(BROADCAST("vbroadcasti32x4", W0 | L12 | MEM, Mdq),
	    BROADCAST("vbroadcasti64x2", W1 | L12 | MEM, Mdq)),
	[0x5b] = ROWS(BROADCAST("vbroadcasti32x8", W0 | L2 | MEM, Mqq),
	    BROADCAST("vbroadcasti64x4", W1 | L2 | MEM, Mqq)),
	[0x62] = ROWS(EXPAND("vpexpandb", W0, 1), EXPAND("vpexpandw", W1, 2)),
	[0x63] = ROWS(COMPRESS("vpcompressb", W0, 1),
	    COMPRESS("vpcompressw", W1, 2)),
	[0x64] = ROWS(
	    PAIR("vpblendmd", "vpblendmq", P66 | ANY_VL, EVEX_CHOOSE, OPS_3)),
	[0x65] = W_PS_PD("vblendm", EVEX_CHOOSE, OPS_3),
	[0x66] = ROWS(E("vpblendmb", P66 | W0 | ANY_VL, WHOLE, KZ | EVEX_CHOOSE,
			  OPS_3),
	    E("vpblendmw", P66 | W1 | ANY_VL, WHOLE, KZ | EVEX_CHOOSE, OPS_3)),
	[0x70] = ROWS(BW_ROW("vpshldvw", W1, OPS_RMW)),
	[0x71] = D_Q_RMW("vpshldv"),
	[0x72] = ROWS(BW_ROW("vpshrdvw", W1, OPS_RMW),
	    E("vcvtneps2bf16", PF3 | W0 | ANY_VL, BCST4, KZ,
		OPS(WR(Vh), RD(Wx))),
	    E_NF("vcvtne2ps2bf16", PF2 | W0 | ANY_VL, BCST4, KZ, OPS_3)),
	[0x73] = D_Q_RMW("vpshrdv"),
	[0x75] = ROWS(PERMUTE_BW("vpermi2b", W0, OPS_RMW),
	    PERMUTE_BW("vpermi2w", W1, OPS_RMW)),
	[0x76] =
	    ROWS(PAIR_NF("vpermi2d", "vpermi2q", P66 | ANY_VL, 0, OPS_RMW)),
	[0x77] =
	    ROWS(PAIR_NF("vpermi2ps", "vpermi2pd", P66 | ANY_VL, 0, OPS_RMW)),
	[0x78] = ROWS(BROADCAST("vpbroadcastb", W0 | ANY_VL, W1b)),
	[0x79] = ROWS(BROADCAST("vpbroadcastw", W0 | ANY_VL, W2b)),
	[0x7a] = ROWS(BROADCAST("vpbroadcastb", W0 | REG | ANY_VL, Ed)),
	[0x7b] = ROWS(BROADCAST("vpbroadcastw", W0 | REG | ANY_VL, Ed)),
	[0x7c] = ROWS(BROADCAST("vpbroadcastd", REG | ANY_VL, Ey)),
	[0x7d] = ROWS(PERMUTE_BW("vpermt2b", W0, OPS_RMW),
	    PERMUTE_BW("vpermt2w", W1, OPS_RMW)),
	[0x7e] =
	    ROWS(PAIR_NF("vpermt2d", "vpermt2q", P66 | ANY_VL, 0, OPS_RMW)),
	[0x7f] =
	    ROWS(PAIR_NF("vpermt2ps", "vpermt2pd", P66 | ANY_VL, 0, OPS_RMW)),
	[0x83] = Q_ONLY_NF("vpmultishiftqb"),
	[0x88] = ROWS(EXPAND("vexpandps", W0, 4), EXPAND("vexpandpd", W1, 8)),
	[0x89] = ROWS(EXPAND("vpexpandd", W0, 4), EXPAND("vpexpandq", W1, 8)),
	[0x8a] = ROWS(COMPRESS("vcompressps", W0, 4),
	    COMPRESS("vcompresspd", W1, 8)),
	[0x8b] = ROWS(COMPRESS("vpcompressd", W0, 4),
	    COMPRESS("vpcompressq", W1, 8)),
	[0x8d] = ROWS(PERMUTE_BW("vpermb", W0, OPS_3),
	    PERMUTE_BW("vpermw", W1, OPS_3)),
	[0x8f] = ROWS(E("vpshufbitqmb", P66 | W0 | ANY_VL, WHOLE, K, OPS_K)),
	[0x90] = ROWS(GATHER_ROW("vpgatherdd", W0, Vx, Md),
	    GATHER_ROW("vpgatherdq", W1, Vx, Mq)),
	[0x91] = ROWS(GATHER_ROW("vpgatherqd", W0, Vh, Md),
	    GATHER_ROW("vpgatherqq", W1, Vx, Mq)),
	[0x92] = ROWS(GATHER_ROW("vgatherdps", W0, Vx, Md),
	    GATHER_ROW("vgatherdpd", W1, Vx, Mq)),
	[0x93] = ROWS(GATHER_ROW("vgatherqps", W0, Vh, Md),
	    GATHER_ROW("vgatherqpd", W1, Vx, Mq)),
	FMA_ALL(0x96, "132"),
	[0xa0] = ROWS(SCATTER_ROW("vpscatterdd", W0, Vx, Md),
	    SCATTER_ROW("vpscatterdq", W1, Vx, Mq)),
	[0xa1] = ROWS(SCATTER_ROW("vpscatterqd", W0, Vh, Md),
	    SCATTER_ROW("vpscatterqq", W1, Vx, Mq)),
	[0xa2] = ROWS(SCATTER_ROW("vscatterdps", W0, Vx, Md),
	    SCATTER_ROW("vscatterdpd", W1, Vx, Mq)),
	[0xa3] = ROWS(SCATTER_ROW("vscatterqps", W0, Vh, Md),
	    SCATTER_ROW("vscatterqpd", W1, Vx, Mq)),
	FMA_ALL(0xa6, "213"),
	[0xb4] = Q_ONLY("vpmadd52luq", OPS_RMW),
	[0xb5] = Q_ONLY("vpmadd52huq", OPS_RMW),
	FMA_ALL(0xb6, "231"),
	[0xc4] =
	    ROWS(PAIR_NF("vpconflictd", "vpconflictq", P66 | ANY_VL, 0, OPS_2)),
	[0xcf] = ROWS(EVEX_ROW("vgf2p8mulb", GFNI, P66 | W0 | ANY_VL, WHOLE, KZ,
	    ATTRS(X86_A_MASKED), OPS_3)),
	[0xdc] = AES("vaesenc"),
	[0xdd] = AES("vaesenclast"),
	[0xde] = AES("vaesdec"),
	[0xdf] = AES("vaesdeclast"),
};

#define INSERT(name, when, src)                     \
	E_NF(name, P66 | (when), WHOLE, KZ, IMM(8), \
	    OPS(WR(Vx), RD(Hx), RD(src), RD(I)))
#define EXTRACT(name, when, dst) \
	E_NF(name, P66 | (when), WHOLE, KZ, IMM(8), OPS(WR(dst), RD(Vx), RD(I)))
#define FROM_VECTOR(name, dst)                      \
	ROWS(E_NF(name, P66 | L0, WHOLE, 0, IMM(8), \
	    OPS(WR(dst), RD(Vx), RD(I))))
#define INTO_VECTOR(name, when, src)                         \
	ROWS(E_NF(name, P66 | L0 | (when), WHOLE, 0, IMM(8), \
	    OPS(WR(Vx), RD(Hx), RD(src), RD(I))))
#define CLASSIFY_SCALAR(name, when, src) \
	E(name, P66 | (when), WHOLE, K, IMM(8), OPS(WR(KG), RD(src), RD(I)))
#define GF_AFFINE(name) \
	ROWS(EVEX_ROW(name, GFNI, P66 | W1 | ANY_VL, BCST8, KZ, OPS_3I))

const decode_table decode_evex_0f3a = {
	[0x00] = ROWS(E_NF("vpermq", P66 | W1 | L12, BCST8, KZ, OPS_2I)),
	[0x01] = ROWS(E_NF("vpermpd", P66 | W1 | L12, BCST8, KZ, OPS_2I)),
	[0x03] = ROWS(PAIR_NF("valignd", "valignq", P66 | ANY_VL, 0, OPS_3I)),
	[0x04] = ROWS(E_NF("vpermilps", P66 | W0 | ANY_VL, BCST4, KZ, OPS_2I)),
	[0x05] = ROWS(E_NF("vpermilpd", P66 | W1 | ANY_VL, BCST8, KZ, OPS_2I)),
	[0x08] =
	    ROWS(E("vrndscaleps", P66 | W0 | ANY_VL, BCST4, KZ | SAE, OPS_2I)),
	[0x09] =
	    ROWS(E("vrndscalepd", P66 | W1 | ANY_VL, BCST8, KZ | SAE, OPS_2I)),
	[0x0a] = ROWS(E("vrndscaless", P66 | W0, WHOLE, KZ | SAE, IMM(8),
	    OPS(WR(Vdq), RD(Hdq), RD(W4b), RD(I)))),
	[0x0b] = ROWS(E("vrndscalesd", P66 | W1, WHOLE, KZ | SAE, IMM(8),
	    OPS(WR(Vdq), RD(Hdq), RD(W8b), RD(I)))),
	[0x0f] = ROWS(E_NF("vpalignr", P66 | ANY_VL, WHOLE, KZ, OPS_3I)),
	[0x14] = FROM_VECTOR("vpextrb", Edb),
	[0x15] = FROM_VECTOR("vpextrw", Edw),
	[0x16] = FROM_VECTOR("vpextrd", Ey),
	[0x17] = FROM_VECTOR("vextractps", Ed),
	[0x18] = ROWS(INSERT("vinsertf32x4", W0 | L12, Wdq),
	    INSERT("vinsertf64x2", W1 | L12, Wdq)),
	[0x19] = ROWS(EXTRACT("vextractf32x4", W0 | L12, Wdq),
	    EXTRACT("vextractf64x2", W1 | L12, Wdq)),
	[0x1a] = ROWS(INSERT("vinsertf32x8", W0 | L2, Wqq),
	    INSERT("vinsertf64x4", W1 | L2, Wqq)),
	[0x1b] = ROWS(EXTRACT("vextractf32x8", W0 | L2, Wqq),
	    EXTRACT("vextractf64x4", W1 | L2, Wqq)),
	[0x1d] = ROWS(E("vcvtps2ph", P66 | W0 | ANY_VL, WHOLE, KZ | SAE, IMM(8),
	    OPS(WR(Wh), RD(Vx), RD(I)))),
	[0x1e] = ROWS(E("vpcmpud", P66 | W0 | ANY_VL, BCST4, K, OPS_KI),
	    E("vpcmpuq", P66 | W1 | ANY_VL, BCST8, K, OPS_KI)),
	[0x1f] = ROWS(E("vpcmpd", P66 | W0 | ANY_VL, BCST4, K, OPS_KI),
	    E("vpcmpq", P66 | W1 | ANY_VL, BCST8, K, OPS_KI)),
	[0x20] = INTO_VECTOR("vpinsrb", 0, Edb),
	[0x21] = INTO_VECTOR("vinsertps", W0, W4b),
	[0x22] = INTO_VECTOR("vpinsrd", 0, Ey),
	[0x23] =
	    ROWS(PAIR_NF("vshuff32x4", "vshuff64x2", P66 | L12, 0, OPS_3I)),
	[0x25] = ROWS(PAIR("vpternlogd", "vpternlogq", P66 | ANY_VL, 0, IMM(8),
	    OPS(RW(Vx), RD(Hx), RD(Wx), RD(I)))),
	[0x26] = W_PS_PD("vgetmant", SAE, OPS_2I),
	[0x27] = W_SS_SD_IMM("vgetmant", SAE),
	[0x38] = ROWS(INSERT("vinserti32x4", W0 | L12, Wdq),
	    INSERT("vinserti64x2", W1 | L12, Wdq)),
	[0x39] = ROWS(EXTRACT("vextracti32x4", W0 | L12, Wdq),
	    EXTRACT("vextracti64x2", W1 | L12, Wdq)),
	[0x3a] = ROWS(INSERT("vinserti32x8", W0 | L2, Wqq),
	    INSERT("vinserti64x4", W1 | L2, Wqq)),
	[0x3b] = ROWS(EXTRACT("vextracti32x8", W0 | L2, Wqq),
	    EXTRACT("vextracti64x4", W1 | L2, Wqq)),
	[0x3e] = ROWS(E("vpcmpub", P66 | W0 | ANY_VL, WHOLE, K, OPS_KI),
	    E("vpcmpuw", P66 | W1 | ANY_VL, WHOLE, K, OPS_KI)),
	[0x3f] = ROWS(E("vpcmpb", P66 | W0 | ANY_VL, WHOLE, K, OPS_KI),
	    E("vpcmpw", P66 | W1 | ANY_VL, WHOLE, K, OPS_KI)),
	[0x42] = ROWS(E_NF("vdbpsadbw", P66 | W0 | ANY_VL, WHOLE, KZ, OPS_3I)),
	[0x43] =
	    ROWS(PAIR_NF("vshufi32x4", "vshufi64x2", P66 | L12, 0, OPS_3I)),
	[0x44] = ROWS(
	    EVEX_ROW("vpclmulqdq", VPCLMUL, P66 | ANY_VL, WHOLE, 0, OPS_3I)),
	[0x50] = W_PS_PD("vrange", SAE, OPS_3I),
	[0x51] = W_SS_SD_IMM("vrange", SAE),
	[0x54] = W_PS_PD("vfixupimm", SAE, IMM(8),
	    OPS(RW(Vx), RD(Hx), RD(Wx), RD(I))),
	[0x55] = ROWS(E("vfixupimmss", P66 | W0, WHOLE, KZ | SAE, IMM(8),
			  OPS(RW(Vdq), RD(Hdq), RD(W4b), RD(I))),
	    E("vfixupimmsd", P66 | W1, WHOLE, KZ | SAE, IMM(8),
		OPS(RW(Vdq), RD(Hdq), RD(W8b), RD(I)))),
	[0x56] = W_PS_PD("vreduce", SAE, OPS_2I),
	[0x57] = W_SS_SD_IMM("vreduce", SAE),
	[0x66] = ROWS(E("vfpclassps", P66 | W0 | ANY_VL, BCST4, K, IMM(8),
			  OPS(WR(KG), RD(Wx), RD(I))),
	    E("vfpclasspd", P66 | W1 | ANY_VL, BCST8, K, IMM(8),
		OPS(WR(KG), RD(Wx), RD(I)))),
	[0x67] = ROWS(CLASSIFY_SCALAR("vfpclassss", W0, W4b),
	    CLASSIFY_SCALAR("vfpclasssd", W1, W8b)),
	[0x70] = ROWS(BW_ROW("vpshldw", W1, OPS_3I)),
	[0x71] = ROWS(PAIR("vpshldd", "vpshldq", P66 | ANY_VL, 0, OPS_3I)),
	[0x72] = ROWS(BW_ROW("vpshrdw", W1, OPS_3I)),
	[0x73] = ROWS(PAIR("vpshrdd", "vpshrdq", P66 | ANY_VL, 0, OPS_3I)),
	[0xce] = GF_AFFINE("vgf2p8affineqb"),
	[0xcf] = GF_AFFINE("vgf2p8affineinvqb"),
};
