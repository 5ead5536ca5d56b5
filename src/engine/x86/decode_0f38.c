/*
 * Opcodes of three bytes, 0F 38 or 0F 3A and one more, without VEX.
 *
 * Models       Intel SDM volume 2, tables.
 * Alignment    as in decode_sse.c.
 */
#include "engine/x86/decode_impl.h"

#define SSE(name, feature, ...) VECTOR_ROW(name, SSE, feature, P66, __VA_ARGS__)
#define ALIGNED(name, feature, ...) \
	VECTOR_ROW(name, SSE, feature, P66, ATTRS(X86_A_ALIGN), __VA_ARGS__)

/* dst, src: with 66, and for SSSE3 on MMX registers without */
#define BOTH(name, dst)                                              \
	ROWS(VECTOR_ROW(name, MMX, SSSE3, NP, OPS(dst(Pq), RD(Qq))), \
	    ALIGNED(name, SSSE3, OPS(dst(Vx), RD(Wx))))
#define TWO(name, feature) ROWS(ALIGNED(name, feature, OPS(RW(Vx), RD(Wx))))
#define MOVE(name, feature) ROWS(ALIGNED(name, feature, OPS(WR(Vx), RD(Wx))))
#define WIDEN(name, src) ROWS(SSE(name, SSE41, OPS(WR(Vx), RD(src))))
#define BLEND(name) ROWS(ALIGNED(name, SSE41, OPS(RW(Vx), RD(Wx), RD(XMM0))))
#define TWO_IMM(name, feature) \
	ROWS(ALIGNED(name, feature, IMM(8), OPS(RW(Vx), RD(Wx), RD(I))))
#define MOVE_IMM(name, feature) \
	ROWS(ALIGNED(name, feature, IMM(8), OPS(WR(Vx), RD(Wx), RD(I))))
/* No prefix at all */
#define SHA(name, ...) \
	ROWS(VECTOR_ROW(name, SSE, SHA, NP, ATTRS(X86_A_ALIGN), __VA_ARGS__))
/* Lengths in EAX and EDX, the index to ECX: any address is fine. */
#define PCMPSTR(name, reads, writes)                      \
	ROWS(SSE(name, SSE42, IMM(8), FLAGS(0, ARITH, 0), \
	    FIXED((reads) | (writes), writes), OPS(RD(Vx), RD(Wx), RD(I))))

const decode_table decode_map_0f38 = {
	[0x00] = BOTH("pshufb", RW),
	[0x01] = BOTH("phaddw", RW),
	[0x02] = BOTH("phaddd", RW),
	[0x03] = BOTH("phaddsw", RW),
	[0x04] = BOTH("pmaddubsw", RW),
	[0x05] = BOTH("phsubw", RW),
	[0x06] = BOTH("phsubd", RW),
	[0x07] = BOTH("phsubsw", RW),
	[0x08] = BOTH("psignb", RW),
	[0x09] = BOTH("psignw", RW),
	[0x0a] = BOTH("psignd", RW),
	[0x0b] = BOTH("pmulhrsw", RW),
	[0x10] = BLEND("pblendvb"),
	[0x14] = BLEND("blendvps"),
	[0x15] = BLEND("blendvpd"),
	[0x17] = ROWS(
	    ALIGNED("ptest", SSE41, FLAGS(0, ARITH, 0), OPS(RD(Vx), RD(Wx)))),
	[0x1c] = BOTH("pabsb", WR),
	[0x1d] = BOTH("pabsw", WR),
	[0x1e] = BOTH("pabsd", WR),
	[0x20] = WIDEN("pmovsxbw", W8b),
	[0x21] = WIDEN("pmovsxbd", W4b),
	[0x22] = WIDEN("pmovsxbq", W2b),
	[0x23] = WIDEN("pmovsxwd", W8b),
	[0x24] = WIDEN("pmovsxwq", W4b),
	[0x25] = WIDEN("pmovsxdq", W8b),
	[0x28] = TWO("pmuldq", SSE41),
	[0x29] = TWO("pcmpeqq", SSE41),
	[0x2a] = ROWS(VECTOR_ROW("movntdqa", SSE, SSE41, P66 | MEM,
	    ATTRS(X86_A_ALIGN), OPS(WR(Vx), RD(Mdq)))),
	[0x2b] = TWO("packusdw", SSE41),
	[0x30] = WIDEN("pmovzxbw", W8b),
	[0x31] = WIDEN("pmovzxbd", W4b),
	[0x32] = WIDEN("pmovzxbq", W2b),
	[0x33] = WIDEN("pmovzxwd", W8b),
	[0x34] = WIDEN("pmovzxwq", W4b),
	[0x35] = WIDEN("pmovzxdq", W8b),
	[0x37] = TWO("pcmpgtq", SSE42),
	[0x38] = TWO("pminsb", SSE41),
	[0x39] = TWO("pminsd", SSE41),
	[0x3a] = TWO("pminuw", SSE41),
	[0x3b] = TWO("pminud", SSE41),
	[0x3c] = TWO("pmaxsb", SSE41),
	[0x3d] = TWO("pmaxsd", SSE41),
	[0x3e] = TWO("pmaxuw", SSE41),
	[0x3f] = TWO("pmaxud", SSE41),
	[0x40] = TWO("pmulld", SSE41),
	[0x41] = MOVE("phminposuw", SSE41),
	[0x80] = ROWS({ NAME("invept", MONITOR), CLASS(SYSTEM), FEATURE(NEVER),
	    WHEN(P66 | MEM), SIZE(NATIVE), OPS(RD(Gn), RD(Mdq)) }),
	[0x81] = ROWS({ NAME("invvpid", MONITOR), CLASS(SYSTEM), FEATURE(NEVER),
	    WHEN(P66 | MEM), SIZE(NATIVE), OPS(RD(Gn), RD(Mdq)) }),
	[0x82] =
	    ROWS({ NAME("invpcid", INVPCID), CLASS(SYSTEM), FEATURE(INVPCID),
		WHEN(P66 | MEM), SIZE(NATIVE), OPS(RD(Gn), RD(Mdq)) }),
	[0xc8] = SHA("sha1nexte", OPS(RW(Vx), RD(Wx))),
	[0xc9] = SHA("sha1msg1", OPS(RW(Vx), RD(Wx))),
	[0xca] = SHA("sha1msg2", OPS(RW(Vx), RD(Wx))),
	[0xcb] = SHA("sha256rnds2", OPS(RW(Vx), RD(Wx), RD(XMM0))),
	[0xcc] = SHA("sha256msg1", OPS(RW(Vx), RD(Wx))),
	[0xcd] = SHA("sha256msg2", OPS(RW(Vx), RD(Wx))),
	[0xcf] = TWO("gf2p8mulb", GFNI),
	[0xdb] = MOVE("aesimc", AES),
	[0xdc] = TWO("aesenc", AES),
	[0xdd] = TWO("aesenclast", AES),
	[0xde] = TWO("aesdec", AES),
	[0xdf] = TWO("aesdeclast", AES),
	[0xf0] = ROWS({ NAME("movbe", MOVBE), WHEN(NP_66 | MEM), FEATURE(MOVBE),
			  OPS(WR(Gv), RD(Mv)) },
	    { NAME("crc32", CRC32), WHEN(PF2), FEATURE(SSE42),
		OPS(RW(Gy), RD(Eb)) }),
	[0xf1] = ROWS({ NAME("movbe", MOVBE), WHEN(NP_66 | MEM), FEATURE(MOVBE),
			  OPS(WR(Mv), RD(Gv)) },
	    { NAME("crc32", CRC32), WHEN(PF2), FEATURE(SSE42),
		OPS(RW(Gy), RD(Ev)) }),
	[0xf6] = ROWS({ NAME("adcx", ADCX), WHEN(P66), SIZE(Y), FEATURE(ADX),
			  FLAGS(CF, CF, 0), OPS(RW(Gy), RD(Ey)) },
	    { NAME("adox", ADOX), WHEN(PF3), SIZE(Y), FEATURE(ADX),
		FLAGS(OF, OF, 0), OPS(RW(Gy), RD(Ey)) }),
	[0xf8] = ROWS({ NAME("movdir64b", MOVDIR64B), CLASS(SYSTEM),
	    WHEN(P66 | MEM), FEATURE(MOVDIRI), SIZE(Y), OPS(RD(Ga), RD(M64)) }),
	[0xf9] = ROWS({ NAME("movdiri", MOVDIRI), WHEN(NP | MEM), SIZE(Y),
	    FEATURE(MOVDIRI), OPS(WR(My), RD(Gy)) }),
};

const decode_table decode_map_0f3a = {
	[0x08] = MOVE_IMM("roundps", SSE41),
	[0x09] = MOVE_IMM("roundpd", SSE41),
	[0x0a] =
	    ROWS(SSE("roundss", SSE41, IMM(8), OPS(RW(Vx), RD(W4b), RD(I)))),
	[0x0b] =
	    ROWS(SSE("roundsd", SSE41, IMM(8), OPS(RW(Vx), RD(W8b), RD(I)))),
	[0x0c] = TWO_IMM("blendps", SSE41),
	[0x0d] = TWO_IMM("blendpd", SSE41),
	[0x0e] = TWO_IMM("pblendw", SSE41),
	[0x0f] = ROWS(VECTOR_ROW("palignr", MMX, SSSE3, NP, IMM(8),
			  OPS(RW(Pq), RD(Qq), RD(I))),
	    ALIGNED("palignr", SSSE3, IMM(8), OPS(RW(Vx), RD(Wx), RD(I)))),
	[0x14] =
	    ROWS(SSE("pextrb", SSE41, IMM(8), OPS(WR(Edb), RD(Vx), RD(I)))),
	[0x15] =
	    ROWS(SSE("pextrw", SSE41, IMM(8), OPS(WR(Edw), RD(Vx), RD(I)))),
	[0x16] = ROWS(SSE("pextrd", SSE41, IMM(8), OPS(WR(Ey), RD(Vx), RD(I)))),
	[0x17] =
	    ROWS(SSE("extractps", SSE41, IMM(8), OPS(WR(Ed), RD(Vx), RD(I)))),
	[0x20] =
	    ROWS(SSE("pinsrb", SSE41, IMM(8), OPS(RW(Vx), RD(Edb), RD(I)))),
	[0x21] =
	    ROWS(SSE("insertps", SSE41, IMM(8), OPS(RW(Vx), RD(W4b), RD(I)))),
	[0x22] = ROWS(SSE("pinsrd", SSE41, IMM(8), OPS(RW(Vx), RD(Ey), RD(I)))),
	[0x40] = TWO_IMM("dpps", SSE41),
	[0x41] = TWO_IMM("dppd", SSE41),
	[0x42] = TWO_IMM("mpsadbw", SSE41),
	[0x44] = TWO_IMM("pclmulqdq", PCLMUL),
	[0x60] = PCMPSTR("pcmpestrm", rA | rD, 0),
	[0x61] = PCMPSTR("pcmpestri", rA | rD, rC),
	[0x62] = PCMPSTR("pcmpistrm", 0, 0),
	[0x63] = PCMPSTR("pcmpistri", 0, rC),
	[0xcc] = SHA("sha1rnds4", IMM(8), OPS(RW(Vx), RD(Wx), RD(I))),
	[0xce] = TWO_IMM("gf2p8affineqb", GFNI),
	[0xcf] = TWO_IMM("gf2p8affineinvqb", GFNI),
	[0xdf] = MOVE_IMM("aeskeygenassist", AES),
};
