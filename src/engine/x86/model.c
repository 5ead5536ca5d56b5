/*
 * CPU models by name: the levels of the x86-64 psABI, and "host".
 *
 * Policy       Instructions run on the host's own units, so a model can only
 *              take away.  A host that lacks a feature of the model asked for
 *              is refused in a sentence, rather than have a guest find out; and
 *              the software engines need BMI2 and AVX of their host whatever
 *              the model, because of the code they write.
 *              What no system needs to run and no engine of ours carries out
 *              (MPX, protection keys, AMX, transactions, CET, SVM) is in no
 *              model.
 * Names        The vendor and family are the host's: systems choose work-arounds
 *              by them, and the host's units are what they run on.
 */
#include <errno.h>
#include <string.h>

#include "engine/x86/model.h"

enum { EAX, EBX, ECX, EDX };

/* The feature words that guests see, and a name for each bit that matters. */
enum word { W_1C, W_1D, W_7B, W_7C, W_D1A, W_81C, W_81D, WORDS };

static const struct {
	uint32_t leaf, subleaf;
	uint8_t reg;
} words[WORDS] = {
	[W_1C] = { 1, 0, ECX },
	[W_1D] = { 1, 0, EDX },
	[W_7B] = { 7, 0, EBX },
	[W_7C] = { 7, 0, ECX },
	[W_D1A] = { 0xd, 1, EAX },
	[W_81C] = { 0x80000001, 0, ECX },
	[W_81D] = { 0x80000001, 0, EDX },
};

enum level { L_BASE, L_V2, L_V3, L_V4, L_HOST };

/* From which level on a model has a bit; need: it is not the level without. */
static const struct {
	const char *name;
	uint8_t word, bit, level;
	bool need;
} bits[] = {
	{ "sse3", W_1C, 0, L_V2, true },
	{ "pclmulqdq", W_1C, 1, L_V2, false },
	{ "ssse3", W_1C, 9, L_V2, true },
	{ "fma", W_1C, 12, L_V3, true },
	{ "cx16", W_1C, 13, L_V2, true },
	{ "pcid", W_1C, 17, L_V2, false },
	{ "sse4.1", W_1C, 19, L_V2, true },
	{ "sse4.2", W_1C, 20, L_V2, true },
	{ "x2apic", W_1C, 21, L_BASE, false },
	{ "movbe", W_1C, 22, L_V3, true },
	{ "popcnt", W_1C, 23, L_V2, true },
	{ "aes", W_1C, 25, L_V2, false },
	{ "xsave", W_1C, 26, L_V3, true },
	{ "avx", W_1C, 28, L_V3, true },
	{ "f16c", W_1C, 29, L_V3, true },
	{ "rdrand", W_1C, 30, L_BASE, false },
	{ "fpu", W_1D, 0, L_BASE, true },
	{ "de", W_1D, 2, L_BASE, false },
	{ "pse", W_1D, 3, L_BASE, true },
	{ "tsc", W_1D, 4, L_BASE, true },
	{ "msr", W_1D, 5, L_BASE, true },
	{ "pae", W_1D, 6, L_BASE, true },
	{ "mce", W_1D, 7, L_BASE, false },
	{ "cx8", W_1D, 8, L_BASE, true },
	{ "apic", W_1D, 9, L_BASE, false },
	{ "sep", W_1D, 11, L_BASE, true },
	{ "mtrr", W_1D, 12, L_BASE, false },
	{ "pge", W_1D, 13, L_BASE, true },
	{ "mca", W_1D, 14, L_BASE, false },
	{ "cmov", W_1D, 15, L_BASE, true },
	{ "pat", W_1D, 16, L_BASE, true },
	{ "pse36", W_1D, 17, L_BASE, false },
	{ "clflush", W_1D, 19, L_BASE, true },
	{ "mmx", W_1D, 23, L_BASE, true },
	{ "fxsr", W_1D, 24, L_BASE, true },
	{ "sse", W_1D, 25, L_BASE, true },
	{ "sse2", W_1D, 26, L_BASE, true },
	{ "htt", W_1D, 28, L_BASE, false },
	{ "fsgsbase", W_7B, 0, L_V3, false },
	{ "bmi1", W_7B, 3, L_V3, true },
	{ "avx2", W_7B, 5, L_V3, true },
	{ "smep", W_7B, 7, L_BASE, false },
	{ "bmi2", W_7B, 8, L_V3, true },
	{ "erms", W_7B, 9, L_BASE, false },
	{ "invpcid", W_7B, 10, L_V2, false },
	{ "avx512f", W_7B, 16, L_V4, true },
	{ "avx512dq", W_7B, 17, L_V4, true },
	{ "rdseed", W_7B, 18, L_BASE, false },
	{ "adx", W_7B, 19, L_V3, false },
	{ "smap", W_7B, 20, L_BASE, false },
	{ "clflushopt", W_7B, 23, L_BASE, false },
	{ "clwb", W_7B, 24, L_BASE, false },
	{ "avx512cd", W_7B, 28, L_V4, true },
	{ "sha", W_7B, 29, L_V2, false },
	{ "avx512bw", W_7B, 30, L_V4, true },
	{ "avx512vl", W_7B, 31, L_V4, true },
	{ "umip", W_7C, 2, L_BASE, false },
	{ "gfni", W_7C, 8, L_HOST, false },
	{ "vaes", W_7C, 9, L_V3, false },
	{ "vpclmulqdq", W_7C, 10, L_V3, false },
	{ "rdpid", W_7C, 22, L_HOST, false },
	{ "xsaveopt", W_D1A, 0, L_V3, false },
	{ "lahf", W_81C, 0, L_V2, true },
	{ "cmp_legacy", W_81C, 1, L_BASE, false },
	{ "cr8_legacy", W_81C, 4, L_BASE, false },
	{ "lzcnt", W_81C, 5, L_V3, true },
	{ "sse4a", W_81C, 6, L_HOST, false },
	{ "misalignsse", W_81C, 7, L_HOST, false },
	{ "prefetchw", W_81C, 8, L_BASE, false },
	{ "topoext", W_81C, 22, L_BASE, false },
	{ "fpu", W_81D, 0, L_BASE, false },
	{ "de", W_81D, 2, L_BASE, false },
	{ "pse", W_81D, 3, L_BASE, false },
	{ "tsc", W_81D, 4, L_BASE, false },
	{ "msr", W_81D, 5, L_BASE, false },
	{ "pae", W_81D, 6, L_BASE, false },
	{ "mce", W_81D, 7, L_BASE, false },
	{ "cx8", W_81D, 8, L_BASE, false },
	{ "apic", W_81D, 9, L_BASE, false },
	{ "syscall", W_81D, 11, L_BASE, true },
	{ "mtrr", W_81D, 12, L_BASE, false },
	{ "pge", W_81D, 13, L_BASE, false },
	{ "mca", W_81D, 14, L_BASE, false },
	{ "cmov", W_81D, 15, L_BASE, false },
	{ "pat", W_81D, 16, L_BASE, false },
	{ "pse36", W_81D, 17, L_BASE, false },
	{ "nx", W_81D, 20, L_BASE, true },
	{ "mmxext", W_81D, 22, L_BASE, false },
	{ "mmx", W_81D, 23, L_BASE, false },
	{ "fxsr", W_81D, 24, L_BASE, false },
	{ "pdpe1gb", W_81D, 26, L_BASE, false },
	{ "rdtscp", W_81D, 27, L_BASE, false },
	{ "lm", W_81D, 29, L_BASE, true },
};

static const struct {
	const char *name;
	enum level level;
} models[] = {
	{ "x86-64-v3", L_V3 }, /* the default */
	{ "x86-64", L_BASE },
	{ "x86-64-v2", L_V2 },
	{ "x86-64-v4", L_V4 },
	{ "host", L_HOST },
};

const char *
model_names(void)
{
	return "x86-64, x86-64-v2, x86-64-v3, x86-64-v4, host";
}

static uint32_t *
leaf_reg(struct cpuid_leaf *leaf, unsigned reg)
{
	uint32_t *const regs[] = { &leaf->eax, &leaf->ebx, &leaf->ecx,
		&leaf->edx };

	return regs[reg];
}

static struct cpuid_leaf *
table_leaf(struct cpuid_table *table, uint32_t leaf, uint32_t subleaf)
{
	return (struct cpuid_leaf *)cpuid_find(table, leaf, subleaf);
}

static uint32_t
word_get(struct cpuid_table *table, enum word w)
{
	struct cpuid_leaf *leaf =
	    table_leaf(table, words[w].leaf, words[w].subleaf);

	return leaf != NULL ? *leaf_reg(leaf, words[w].reg) : 0;
}

static int
model_check(struct cpuid_table *host, enum level level, const char *name,
    struct err *err)
{
	static const char *const engine_needs[] = { "bmi2", "avx", "xsave" };

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		bool has = word_get(host, bits[i].word) & BIT(bits[i].bit);

		if (has)
			continue;
		if (bits[i].need && bits[i].level <= level && level != L_HOST)
			return err_set(err, -ENOTSUP,
			    "cpu model %s needs %s, which this host's "
			    "processor lacks",
			    name, bits[i].name);
		for (size_t n = 0; n < ARRAY_SIZE(engine_needs); n++) {
			if (strcmp(bits[i].name, engine_needs[n]) == 0)
				return err_set(err, -ENOTSUP,
				    "the software engine needs a host "
				    "processor with %s",
				    bits[i].name);
		}
	}
	return 0;
}

int
model_cpuid(const char *name, struct cpuid_table *table, struct err *err)
{
	enum level level = models[0].level;
	size_t m = 0;
	int rc;

	if (name != NULL) {
		while (
		    m < ARRAY_SIZE(models) && strcmp(name, models[m].name) != 0)
			m++;
		if (m == ARRAY_SIZE(models))
			return err_set(err, -EINVAL,
			    "%s: unknown cpu model; there are: %s", name,
			    model_names());
		level = models[m].level;
	}
	cpuid_host(table);
	rc = model_check(table, level, models[m].name, err);
	if (rc != 0)
		return rc;
	for (enum word w = 0; w < WORDS; w++) {
		struct cpuid_leaf *leaf =
		    table_leaf(table, words[w].leaf, words[w].subleaf);
		uint32_t keep = 0;

		for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
			if (bits[i].word == w && bits[i].level <= level)
				keep |= (uint32_t)BIT(bits[i].bit);
		}
		if (leaf != NULL)
			*leaf_reg(leaf, words[w].reg) &= keep;
	}
	/* XCR0: what the units left need. */
	{
		struct cpuid_leaf *d = table_leaf(table, 0xd, 0);
		uint32_t xcr0 = 3;

		if (word_get(table, W_1C) & BIT(28))
			xcr0 |= 4;
		if (word_get(table, W_7B) & BIT(16))
			xcr0 |= 0xe0;
		if (d != NULL) {
			d->eax &= xcr0;
			d->edx = 0;
		}
	}
	return 0;
}
