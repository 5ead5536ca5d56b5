/*
 * What the processor below us and the guest's both offer, by CPUID.
 *
 * An instruction is tested only if both sides announce it: where the guest's
 * CPUID is poorer it rightly raises #UD, and a hypervisor below us may hide in
 * CPUID what its processor still carries out.
 */
#include <cpuid.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "test/cpu/diff.h"

static const struct {
	uint32_t leaf, subleaf;
	unsigned reg;
} words[FEATURE_WORDS] = {
	[FW_1C] = { 1, 0, 2 },
	[FW_1D] = { 1, 0, 3 },
	[FW_7B] = { 7, 0, 1 },
	[FW_7C] = { 7, 0, 2 },
	[FW_7D] = { 7, 0, 3 },
	[FW_71A] = { 7, 1, 0 },
	[FW_D1A] = { 0xd, 1, 0 },
	[FW_E1C] = { 0x80000001, 0, 2 },
	[FW_E1D] = { 0x80000001, 0, 3 },
	[FW_E8B] = { 0x80000008, 0, 1 },
};

void
features_read(struct features *f, cpuid_fn *cpuid, void *arg)
{
	uint32_t reg[4], max, max_extended;

	memset(f, 0, sizeof(*f));
	cpuid(arg, 0, 0, reg);
	max = reg[0];
	cpuid(arg, 0x80000000, 0, reg);
	max_extended = reg[0];
	for (unsigned i = 0; i < FEATURE_WORDS; i++) {
		uint32_t leaf = words[i].leaf;

		if (leaf > (leaf & BIT(31) ? max_extended : max))
			continue;
		cpuid(arg, leaf, words[i].subleaf, reg);
		f->word[i] = reg[words[i].reg];
	}
	f->x.mask = 3;
	f->x.size = 576;
	if (max < 0xd || !(f->word[FW_1C] & bit_XSAVE))
		return;
	cpuid(arg, 0xd, 0, reg);
	f->x.mask = reg[0] & 0xe7;
	for (unsigned i = XCOMP_AVX; i < XCOMPS; i++) {
		if (!(f->x.mask & BIT(i)))
			continue;
		cpuid(arg, 0xd, i, reg);
		if (reg[0] == 0 || reg[1] < 576 ||
		    reg[0] + reg[1] > CPU_XSAVE_MAX) {
			f->x.mask &= ~BIT(i);
			continue;
		}
		f->x.len[i] = reg[0];
		f->x.at[i] = reg[1];
		if (f->x.size < reg[0] + reg[1])
			f->x.size = reg[0] + reg[1];
	}
}

static void
host_cpuid(void *arg, uint32_t leaf, uint32_t subleaf, uint32_t reg[static 4])
{
	__cpuid_count(leaf, subleaf, reg[0], reg[1], reg[2], reg[3]);
}

void
features_host(struct features *f)
{
	features_read(f, host_cpuid, NULL);
}

void
features_common(struct features *out, const struct features *a,
    const struct features *b)
{
	*out = *a;
	for (unsigned i = 0; i < FEATURE_WORDS; i++)
		out->word[i] &= b->word[i];
	out->x.mask &= b->x.mask;
}

#define NEED_VL BIT(0)
#define NEED_YMM BIT(1)
#define NEED_ZMM BIT(2)
#define ALWAYS FEATURE_WORDS

/* Sets of VEX and EVEX instructions come in sizes; all hang on one bit. */
#define ROW(set, word, bit, need)                    \
	{                                            \
		ZYDIS_ISA_SET_##set, word, bit, need \
	}
#define ROWS_512(set, word, bit)                           \
	ROW(set##_128, word, bit, NEED_ZMM | NEED_VL),     \
	    ROW(set##_256, word, bit, NEED_ZMM | NEED_VL), \
	    ROW(set##_512, word, bit, NEED_ZMM)

static const struct {
	uint8_t isa, word, bit, need;
} isa_sets[] = {
	ROW(I86, ALWAYS, 0, 0),
	ROW(I186, ALWAYS, 0, 0),
	ROW(I286REAL, ALWAYS, 0, 0),
	ROW(I286PROTECTED, ALWAYS, 0, 0),
	ROW(I386, ALWAYS, 0, 0),
	ROW(I486, ALWAYS, 0, 0),
	ROW(I486REAL, ALWAYS, 0, 0),
	ROW(PENTIUMREAL, ALWAYS, 0, 0),
	ROW(PENTIUMMMX, ALWAYS, 0, 0),
	ROW(PPRO, ALWAYS, 0, 0),
	ROW(CMOV, ALWAYS, 0, 0),
	ROW(FCMOV, ALWAYS, 0, 0),
	ROW(X87, ALWAYS, 0, 0),
	ROW(LONGMODE, ALWAYS, 0, 0),
	ROW(FAT_NOP, ALWAYS, 0, 0),
	ROW(PREFETCH_NOP, ALWAYS, 0, 0),
	ROW(PAUSE, ALWAYS, 0, 0),
	ROW(FXSAVE, ALWAYS, 0, 0),
	ROW(FXSAVE64, ALWAYS, 0, 0),
	ROW(SSE, ALWAYS, 0, 0),
	ROW(SSEMXCSR, ALWAYS, 0, 0),
	ROW(SSE_PREFETCH, ALWAYS, 0, 0),
	ROW(SSE2, ALWAYS, 0, 0),
	ROW(SSE2MMX, ALWAYS, 0, 0),
	ROW(SSE3, FW_1C, 0, 0),
	ROW(SSE3X87, FW_1C, 0, 0),
	ROW(PCLMULQDQ, FW_1C, 1, 0),
	ROW(SSSE3, FW_1C, 9, 0),
	ROW(SSSE3MMX, FW_1C, 9, 0),
	ROW(FMA, FW_1C, 12, NEED_YMM),
	ROW(CMPXCHG16B, FW_1C, 13, 0),
	ROW(SSE4, FW_1C, 19, 0),
	ROW(SSE42, FW_1C, 20, 0),
	ROW(MOVBE, FW_1C, 22, 0),
	ROW(POPCNT, FW_1C, 23, 0),
	ROW(AES, FW_1C, 25, 0),
	ROW(AVX, FW_1C, 28, NEED_YMM),
	ROW(AVXAES, FW_1C, 25, NEED_YMM),
	ROW(F16C, FW_1C, 29, NEED_YMM),
	ROW(CLFSH, FW_1D, 19, 0),
	ROW(RDWRFSGS, FW_7B, 0, 0),
	ROW(BMI1, FW_7B, 3, 0),
	ROW(AVX2, FW_7B, 5, NEED_YMM),
	ROW(AVX2GATHER, FW_7B, 5, NEED_YMM),
	ROW(BMI2, FW_7B, 8, 0),
	ROW(ADOX_ADCX, FW_7B, 19, 0),
	ROW(CLFLUSHOPT, FW_7B, 23, 0),
	ROW(CLWB, FW_7B, 24, 0),
	ROW(SHA, FW_7B, 29, 0),
	ROW(GFNI, FW_7C, 8, 0),
	ROW(AVX_GFNI, FW_7C, 8, NEED_YMM),
	ROW(VAES, FW_7C, 9, NEED_YMM),
	ROW(VPCLMULQDQ, FW_7C, 10, NEED_YMM),
	ROW(MOVDIR, FW_7C, 27, 0),
	ROW(AVX_VNNI, FW_71A, 4, NEED_YMM),
	ROW(LAHF, FW_E1C, 0, 0),
	ROW(LZCNT, FW_E1C, 5, 0),
	ROW(SSE4A, FW_E1C, 6, 0),
	ROW(TBM, FW_E1C, 21, 0),
	ROW(CLZERO, FW_E8B, 0, 0),
	ROW(AVX512F_SCALAR, FW_7B, 16, NEED_ZMM),
	ROW(AVX512F_128N, FW_7B, 16, NEED_ZMM),
	ROW(AVX512F_KOP, FW_7B, 16, NEED_ZMM),
	ROWS_512(AVX512F, FW_7B, 16),
	ROW(AVX512DQ_SCALAR, FW_7B, 17, NEED_ZMM),
	ROW(AVX512DQ_128N, FW_7B, 17, NEED_ZMM),
	ROW(AVX512DQ_KOP, FW_7B, 17, NEED_ZMM),
	ROWS_512(AVX512DQ, FW_7B, 17),
	ROWS_512(AVX512_IFMA, FW_7B, 21),
	ROWS_512(AVX512CD, FW_7B, 28),
	ROW(AVX512BW_128N, FW_7B, 30, NEED_ZMM),
	ROW(AVX512BW_KOP, FW_7B, 30, NEED_ZMM),
	ROWS_512(AVX512BW, FW_7B, 30),
	ROWS_512(AVX512_VBMI, FW_7C, 1),
	ROWS_512(AVX512_VBMI2, FW_7C, 6),
	ROWS_512(AVX512_GFNI, FW_7C, 8),
	ROWS_512(AVX512_VAES, FW_7C, 9),
	ROWS_512(AVX512_VPCLMULQDQ, FW_7C, 10),
	ROWS_512(AVX512_VNNI, FW_7C, 11),
	ROWS_512(AVX512_BITALG, FW_7C, 12),
	ROWS_512(AVX512_VPOPCNTDQ, FW_7C, 14),
	ROWS_512(AVX512_VP2INTERSECT, FW_7D, 8),
	ROWS_512(AVX512_BF16, FW_71A, 5),
	ROW(AVX512_FP16_SCALAR, FW_7D, 23, NEED_ZMM),
	ROW(AVX512_FP16_128N, FW_7D, 23, NEED_ZMM),
	ROWS_512(AVX512_FP16, FW_7D, 23),
};

bool
features_have_isa(const struct features *f, int isa_set)
{
	for (unsigned i = 0; i < ARRAY_SIZE(isa_sets); i++) {
		uint8_t need = isa_sets[i].need;

		if (isa_sets[i].isa != isa_set)
			continue;
		if ((need & NEED_YMM) && !(f->x.mask & BIT(XCOMP_AVX)))
			return false;
		if ((need & NEED_ZMM) && (f->x.mask & 0xe4) != 0xe4)
			return false;
		if ((need & NEED_VL) && !(f->word[FW_7B] & BIT(31)))
			return false;
		return isa_sets[i].word == ALWAYS ||
		    (f->word[isa_sets[i].word] & BIT(isa_sets[i].bit));
	}
	return false;
}
