/*
 * MSRs that no engine keeps: one table.
 *
 * Models       the list that bhyve serves outside its kernel part, so that
 *              the usual guests find their firmware revision, energy counters
 *              and chip set-up registers empty rather than missing.
 * Differences  AMD's DE_CFG (0xc0011029) has LFENCE dispatch serializing set,
 *              as illumos shows it and as it is: guests fence with it.
 *              PLATFORM_INFO and TURBO_RATIO_LIMIT are read-only, as in the
 *              SDM.
 */
#include "engine/x86/msr.h"

#define INTEL BIT(CPUID_INTEL)
#define AMD BIT(CPUID_AMD)

#define R 1     /* reads have `value` */
#define W 2     /* writes are ignored */
#define RATIO 4 /* the value is `value` times TSC frequency / 100 MHz */
#define RW (R | W)

#define EVERY_BYTE 0x0101010101010101ULL
#define BYTES_1_AND_5 0x0000010000000100ULL

static const struct msr_row {
	uint32_t first, last;
	uint8_t vendors;
	uint8_t flags;
	uint64_t value;
} msr_rows[] = {
	/* Both */
	{ 0x0000008b, 0x0000008b, INTEL | AMD, RW, 0 }, /* BIOS_SIGN_ID */
	{ 0x00000179, 0x00000179, INTEL | AMD, R, 0 },  /* MCG_CAP */
	{ 0x0000017a, 0x0000017a, INTEL | AMD, RW, 0 }, /* MCG_STATUS */
	/* Intel */
	{ 0x00000017, 0x00000017, INTEL, R, 0 },  /* PLATFORM_ID */
	{ 0x0000003a, 0x0000003a, INTEL, R, 1 },  /* FEATURE_CONTROL: lock */
	{ 0x00000079, 0x00000079, INTEL, W, 0 },  /* BIOS_UPDT_TRIG */
	{ 0x000000c1, 0x000000c2, INTEL, RW, 0 }, /* PERFCTR0, 1 */
	{ 0x000000ce, 0x000000ce, INTEL, R | RATIO,
	    BYTES_1_AND_5 },                      /* PLATFORM_INFO */
	{ 0x00000186, 0x00000187, INTEL, RW, 0 }, /* EVNTSEL0, 1 */
	{ 0x000001ad, 0x000001ae, INTEL, R | RATIO,
	    EVERY_BYTE },                              /* TURBO_RATIO_LIMIT */
	{ 0x00000606, 0x00000606, INTEL, R, 0xa1003 }, /* RAPL_POWER_UNIT */
	{ 0x00000611, 0x00000611, INTEL, R, 0 },       /* PKG_ENERGY_STATUS */
	{ 0x00000619, 0x00000619, INTEL, R, 0 },       /* DRAM_ENERGY_STATUS */
	{ 0x00000639, 0x00000639, INTEL, R, 0 },       /* PP0_ENERGY_STATUS */
	{ 0x00000641, 0x00000641, INTEL, R, 0 },       /* PP1_ENERGY_STATUS */
	{ 0x00000c24, 0x00000c24, INTEL, W, 0 },       /* uncore */
	{ 0x00000d04, 0x00000d04, INTEL, W, 0 },       /* uncore */
	/* AMD */
	{ 0xc0010000, 0xc0010007, AMD, RW, 0 },          /* PERF_CTL, _CTR */
	{ 0xc0010010, 0xc0010010, AMD, R, 0 },           /* SYSCFG */
	{ 0xc0010015, 0xc0010015, AMD, RW, 0x01000210 }, /* HWCR */
	{ 0xc001001f, 0xc001001f, AMD, RW, 0 },          /* NB_CFG */
	{ 0xc0010020, 0xc0010020, AMD, W, 0 },           /* PATCH_LOADER */
	{ 0xc0010055, 0xc0010055, AMD, R, 0 },           /* INT_PENDING */
	{ 0xc0010061, 0xc0010061, AMD, R, 0 },           /* P-state limit */
	{ 0xc0010062, 0xc0010062, AMD, RW, 0 },          /* P-state control */
	{ 0xc0010063, 0xc0010064, AMD, R, 0 },           /* P-state status, 0 */
	{ 0xc0010112, 0xc0010113, AMD, R, 0 },           /* SMM_ADDR, _MASK */
	{ 0xc0010114, 0xc0010114, AMD, R, BIT(4) },      /* VM_CR: SVMDIS */
	{ 0xc0011020, 0xc0011021, AMD, RW, 0 },          /* LS_CFG, IC_CFG */
	{ 0xc0011029, 0xc0011029, AMD, R, BIT(1) },      /* DE_CFG */
};

/* The processor's own: an engine that refuses one of them means #GP. */
static const struct {
	uint32_t first, last;
} architectural[] = {
	{ 0x00000010, 0x00000010 }, /* TSC */
	{ 0x0000001b, 0x0000001b }, /* APIC_BASE */
	{ 0x000000fe, 0x000000fe }, /* MTRRCAP */
	{ 0x00000174, 0x00000176 }, /* SYSENTER_* */
	{ 0x000001a0, 0x000001a0 }, /* MISC_ENABLE */
	{ 0x00000200, 0x0000020f }, /* MTRR_PHYS* */
	{ 0x00000250, 0x0000026f }, /* MTRR_FIX* */
	{ 0x00000277, 0x00000277 }, /* PAT */
	{ 0x000002ff, 0x000002ff }, /* MTRR_DEF_TYPE */
	{ 0x00000800, 0x000008ff }, /* x2APIC */
	{ 0xc0000080, 0xc0000084 }, /* EFER, *STAR, SFMASK */
	{ 0xc0000100, 0xc0000103 }, /* *_BASE, TSC_AUX */
};

static const struct msr_row *
msr_find(const struct msr_params *params, uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(msr_rows); i++) {
		const struct msr_row *row = &msr_rows[i];

		if (index >= row->first && index <= row->last &&
		    (row->vendors & BIT(params->vendor)))
			return row;
	}
	return NULL;
}

bool
msr_reads(const struct msr_params *params, uint32_t index)
{
	const struct msr_row *row = msr_find(params, index);

	return row != NULL && (row->flags & R);
}

bool
msr_writes(const struct msr_params *params, uint32_t index)
{
	const struct msr_row *row = msr_find(params, index);

	return row != NULL && (row->flags & W);
}

static enum msr_answer
msr_refuse(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(architectural); i++) {
		if (index >= architectural[i].first &&
		    index <= architectural[i].last)
			return MSR_FAULT;
	}
	return MSR_UNKNOWN;
}

enum msr_answer
msr_read(const struct msr_params *params, uint32_t index, uint64_t *value)
{
	const struct msr_row *row = msr_find(params, index);
	uint64_t ratio = params->tsc_hz / 100000000;

	*value = 0;
	if (!msr_reads(params, index))
		return msr_refuse(index);
	*value = row->value;
	if (row->flags & RATIO)
		*value *= MIN(ratio, 255ULL); /* one byte each */
	return MSR_OK;
}

enum msr_answer
msr_write(const struct msr_params *params, uint32_t index)
{
	return msr_writes(params, index) ? MSR_OK : msr_refuse(index);
}
