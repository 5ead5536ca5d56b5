/*
 * What sequences start from: registers and memory.
 *
 * Registers are mixed so that most memory operands can reach the pages: some
 * point into them, some are small, the rest is anything.  Numbers, integers
 * and floating point alike, are taken from their edges more often than from
 * between.
 */
#include <string.h>

#include "test/cpu/diff.h"

const struct diff_page diff_pages[DIFF_PAGES] = {
	{ DIFF_CODE, true, true },
	{ DIFF_CODE + DIFF_PAGE, true, true },
	{ DIFF_DATA + 1 * DIFF_PAGE, true, false },
	{ DIFF_DATA + 2 * DIFF_PAGE, true, false },
	{ DIFF_DATA + 3 * DIFF_PAGE, false, false },
	{ DIFF_DATA + 4 * DIFF_PAGE, true, false },
	{ DIFF_STACK, true, false },
	{ DIFF_STACK + DIFF_PAGE, true, false },
};

uint8_t diff_pristine[DIFF_PAGES][DIFF_PAGE];

static const uint64_t edges[] = { 0, 1, 2, 3, 0x7f, 0x80, 0xff, 0x7fff, 0x8000,
	0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff,
	0x8000000000000000, 0xffffffffffffffff, 0xfffffffffffffffe,
	0x5555555555555555, 0xaaaaaaaaaaaaaaaa };

static const uint32_t floats[] = { 0, 0x80000000, 0x3f800000, 0xbf800000,
	0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xffbfffff,
	0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4f000000, 0xcf000000,
	0x5f000000, 0x3fc00000, 0x40490fdb, 0x34000000, 0x33800000,
	0x3c003c00 };

static const uint64_t doubles[] = { 0, 0x8000000000000000, 0x3ff0000000000000,
	0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
	0x7ff8000000000000, 0xfff8000000000000, 0x7ff0000000000001,
	0xfff7ffffffffffff, 1, 0x800fffffffffffff, 0x0010000000000000,
	0x7fefffffffffffff, 0x41e0000000000000, 0xc1e0000000000000,
	0x43e0000000000000, 0x3ff8000000000000, 0x400921fb54442d18,
	0x3cb0000000000000, 0x47efffffe0000000, 0x36a0000000000000 };

static uint64_t
some_integer(struct rng *rng)
{
	uint64_t v = rng_next(rng);

	switch (rng_below(rng, 6)) {
	case 0:
	case 1:
		return edges[v % ARRAY_SIZE(edges)];
	case 2:
		return v & 0xff;
	case 3:
		return (uint64_t)(int64_t)(int32_t)v;
	default:
		return v;
	}
}

/* Sixteen bytes for a vector register or for memory. */
static void
some_chunk(struct rng *rng, uint8_t *p)
{
	uint64_t q[2];
	uint32_t d[4];

	switch (rng_below(rng, 8)) {
	case 0:
		memset(p, 0, 16);
		return;
	case 1:
		memset(p, 0xff, 16);
		return;
	case 2:
		for (unsigned i = 0; i < 4; i++)
			d[i] = floats[rng_below(rng, ARRAY_SIZE(floats))];
		memcpy(p, d, 16);
		return;
	case 3: /* numbers of similar size: sums and products that round */
		for (unsigned i = 0; i < 4; i++)
			d[i] =
			    ((uint32_t)rng_next(rng) & 0x83ffffff) | 0x3c000000;
		memcpy(p, d, 16);
		return;
	case 4:
		for (unsigned i = 0; i < 2; i++)
			q[i] = doubles[rng_below(rng, ARRAY_SIZE(doubles))];
		break;
	case 5:
		for (unsigned i = 0; i < 2; i++)
			q[i] = (rng_next(rng) & 0x800fffffffffffff) |
			    (uint64_t)(0x3f0 + rng_below(rng, 32)) << 52;
		break;
	case 6:
		for (unsigned i = 0; i < 2; i++)
			q[i] = some_integer(rng);
		break;
	default:
		for (unsigned i = 0; i < 2; i++)
			q[i] = rng_next(rng);
		break;
	}
	memcpy(p, q, 16);
}

static const uint64_t extended_mantissa[] = { 0, 1, 0x4000000000000000,
	0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001,
	0xbfffffffffffffff, 0xc000000000000000, 0xc90fdaa22168c235,
	0xffffffffffffffff };

/* An x87 register, ten bytes. */
static void
some_extended(struct rng *rng, uint8_t *p)
{
	uint64_t mantissa = rng_next(rng) | BIT(63);
	uint16_t exponent = (uint16_t)(0x3fff - 40 + rng_below(rng, 80));

	switch (rng_below(rng, 8)) {
	case 0: /* zero, the largest, infinity, NaN and what is none of them */
		exponent = rng_chance(rng, 50) ? 0x7fff : 0;
		mantissa = extended_mantissa[rng_below(rng,
		    ARRAY_SIZE(extended_mantissa))];
		break;
	case 1:
		mantissa = extended_mantissa[rng_below(rng,
		    ARRAY_SIZE(extended_mantissa))];
		break;
	case 2:
		exponent = (uint16_t)rng_next(rng);
		mantissa = rng_next(rng);
		break;
	case 3: /* an integer */
		mantissa = BIT(63) | (uint64_t)rng_below(rng, 256) << 55;
		exponent = (uint16_t)(0x3fff + rng_below(rng, 10));
		break;
	default:
		break;
	}
	if (rng_chance(rng, 50))
		exponent |= 0x8000;
	memcpy(p, &mantissa, 8);
	memcpy(p + 8, &exponent, 2);
}

static uint32_t
some_mxcsr(struct rng *rng)
{
	uint32_t v = (uint32_t)rng_next(rng);
	uint32_t mxcsr = 0x1f80;

	mxcsr |= v & 0x6000; /* rounding */
	if (rng_chance(rng, 20))
		mxcsr |= v & 0x8040; /* flush to zero, denormals are zero */
	if (rng_chance(rng, 20))
		mxcsr |= v & 0x3f; /* flags already there */
	if (rng_chance(rng, 15))
		mxcsr &= ~(v >> 8 & 0x1f80); /* some exceptions unmasked */
	return mxcsr;
}

/* The first 160 bytes of an FXSAVE image, and the rest for 8 ST registers. */
static void
some_x87(struct rng *rng, uint8_t *fx)
{
	uint16_t fcw = 0x37f, fsw = 0;
	uint32_t mxcsr = some_mxcsr(rng);

	if (rng_chance(rng, 40))
		fcw = (uint16_t)((fcw & ~0xf00) |
		    (rng_next(rng) & 0xc00)); /* rounding, 24 bits */
	if (rng_chance(rng, 30))
		fcw = (uint16_t)((fcw & ~0x300) | 0x200);
	if (rng_chance(rng, 10))
		fcw &= (uint16_t) ~(rng_next(rng) & 0x3f);
	if (rng_chance(rng, 60))
		fsw =
		    (uint16_t)(rng_next(rng) & 0x7f7f); /* TOP, C0-C3, flags */
	if (!rng_chance(rng, 10))
		fsw &= (uint16_t) ~(~fcw & 0x3f); /* nothing pending */
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	memcpy(fx, &fcw, 2);
	memcpy(fx + 2, &fsw, 2);
	fx[4] = rng_chance(rng, 70) ? (uint8_t)rng_next(rng) :
	    rng_chance(rng, 50)     ? 0xff :
				      0;
	memcpy(fx + 24, &mxcsr, 4);
	for (unsigned i = 0; i < 8; i++)
		some_extended(rng, fx + 32 + 16 * i);
}

void
diff_pristine_fill(void)
{
	struct rng rng = { 0xb0a710ad };
	uint8_t *slots = diff_pristine[5] + DIFF_SLOTS % DIFF_PAGE;

	_Static_assert(DIFF_SLOTS / DIFF_PAGE == DIFF_DATA / DIFF_PAGE + 4,
	    "slots are in page 5");
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		if (diff_pages[i].exec) {
			memset(diff_pristine[i], 0xcc, DIFF_PAGE); /* INT3 */
			continue;
		}
		for (unsigned at = 0; at < DIFF_PAGE; at += 16)
			some_chunk(&rng, diff_pristine[i] + at);
	}
	memset(slots, 0, 0x400);
	some_x87(&rng, slots);
	for (unsigned i = 0; i < 16; i++)
		some_chunk(&rng, slots + 160 + 16 * i);
	for (unsigned i = 0; i < 16; i++) {
		uint32_t mxcsr = some_mxcsr(&rng);
		int32_t index4 = (int32_t)rng_below(&rng, 128) - 16;
		int64_t index8 = (int64_t)rng_below(&rng, 128) - 16;

		memcpy(slots + 0x200 + 4 * i, &mxcsr, 4);
		memcpy(slots + 0x240 + 4 * i, &index4, 4);
		if (i < 8)
			memcpy(slots + 0x280 + 8 * i, &index8, 8);
	}
}

/* An address that most often is one of a page of data, near its edge or not. */
static uint64_t
some_pointer(struct rng *rng)
{
	uint32_t page = DIFF_DATA + (1 + rng_below(rng, 4)) * DIFF_PAGE;

	if (rng_chance(rng, 30))
		return page + rng_below(rng, 64) - 32;
	return DIFF_DATA + DIFF_PAGE + rng_below(rng, 2 * DIFF_PAGE);
}

/* For 16-bit code, what points somewhere is an offset; SP always is one. */
static void
make_offsets(struct diff_state *state)
{
	for (unsigned i = 0; i < CPU_GPRS; i++) {
		uint64_t v = state->gpr[i];

		if (v - DIFF_DATA < 0x10000)
			state->gpr[i] = v - DIFF_DATA;
		else if (v - DIFF_STACK < 0x10000 || i == CPU_RSP)
			state->gpr[i] = (v - DIFF_STACK) & 0xffff;
	}
}

void
diff_state_fill(struct diff_state *state, uint64_t seed, unsigned bits,
    const struct xlayout *x)
{
	struct rng rng = { seed ^ 0x5eed5eed5eed5eed };
	uint8_t vector[32][64];
	uint64_t opmask[8];

	memset(state, 0, sizeof(*state));
	for (unsigned i = 0; i < CPU_GPRS; i++) {
		switch (rng_below(&rng, 8)) {
		case 0:
		case 1:
		case 2:
			state->gpr[i] = some_pointer(&rng);
			break;
		case 3:
			state->gpr[i] = rng_below(&rng, 64);
			break;
		case 4:
			state->gpr[i] =
			    (uint64_t) - (int64_t)rng_below(&rng, 64);
			break;
		default:
			state->gpr[i] = some_integer(&rng);
			break;
		}
	}
	if (rng_chance(&rng, 30)) /* not canonical, in one register */
		state->gpr[rng_below(&rng, 16)] =
		    some_pointer(&rng) | 0x0800000000000000;
	/* Some room on both sides most times, and now and then none. */
	state->gpr[CPU_RSP] =
	    DIFF_STACK + DIFF_PAGE + 8 * rng_below(&rng, 128) - 512;
	if (rng_chance(&rng, 10))
		state->gpr[CPU_RSP] += rng_below(&rng, 8);
	if (rng_chance(&rng, 6))
		state->gpr[CPU_RSP] = DIFF_STACK + 8 * rng_below(&rng, 4);
	if (rng_chance(&rng, 3))
		state->gpr[CPU_RSP] =
		    DIFF_STACK + DIFF_STACK_SIZE - 8 * rng_below(&rng, 4);
	if (rng_chance(&rng, 2))
		state->gpr[CPU_RSP] = some_integer(&rng);
	if (rng_chance(&rng, 25)) /* a frame */
		state->gpr[CPU_RBP] =
		    state->gpr[CPU_RSP] + 8 * rng_below(&rng, 16);

	state->rflags = 0x202 | (rng_next(&rng) & 0x8d5);
	if (rng_chance(&rng, 15))
		state->rflags |= 0x400; /* DF */
	if (rng_chance(&rng, 3))
		state->rflags |= 0x40000; /* AC */
	state->fs_base = rng_below(&rng, 4096);
	if (rng_chance(&rng, 30))
		state->fs_base = (uint64_t) - (int64_t)rng_below(&rng, 0x10000);
	state->gs_base = some_pointer(&rng);
	if (bits == DIFF_16)
		make_offsets(state);
	if (bits != DIFF_64) { /* what such code cannot see is 0 */
		for (unsigned i = 0; i < CPU_GPRS; i++)
			state->gpr[i] &= i < CPU_R8 ? 0xffffffff : 0;
		state->fs_base = state->gs_base = 0;
	}

	some_x87(&rng, state->xsave);
	for (unsigned i = 0; i < 32; i++) {
		for (unsigned at = 0; at < 64; at += 16)
			some_chunk(&rng, vector[i] + at);
	}
	for (unsigned i = 0; i < 8; i++)
		opmask[i] =
		    rng_chance(&rng, 50) ? rng_next(&rng) : some_integer(&rng);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(state->xsave + 160 + 16 * i, vector[i], 16);
		if (x->mask & BIT(XCOMP_AVX))
			memcpy(state->xsave + x->at[XCOMP_AVX] + 16 * i,
			    vector[i] + 16, 16);
		if ((x->mask & 0xe0) != 0xe0)
			continue;
		memcpy(state->xsave + x->at[XCOMP_ZMM_HI] + 32 * i,
		    vector[i] + 32, 32);
		memcpy(state->xsave + x->at[XCOMP_HI_ZMM] + 64 * i,
		    vector[16 + i], 64);
		if (i < 8)
			memcpy(state->xsave + x->at[XCOMP_OPMASK] + 8 * i,
			    &opmask[i], 8);
	}
}

void
diff_xsave_canon(uint8_t *xsave, const struct xlayout *x)
{
	uint64_t bv;

	memcpy(&bv, xsave + 512, 8);
	if (!(bv & BIT(XCOMP_X87))) {
		memset(xsave, 0, 24);
		memset(xsave + 32, 0, 128);
		xsave[0] = 0x7f;
		xsave[1] = 0x03;
	}
	if (!(bv & BIT(XCOMP_SSE)))
		memset(xsave + 160, 0, 256);
	for (unsigned i = XCOMP_AVX; i < XCOMPS; i++) {
		if (x->len[i] != 0 && !(bv & x->mask & BIT(i)))
			memset(xsave + x->at[i], 0, x->len[i]);
	}
	memset(xsave + 5, 0, 19);
	memset(xsave + 28, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		memset(xsave + 32 + 16 * i + 10, 0, 6);
	memset(xsave + 416, 0, 160);
}
