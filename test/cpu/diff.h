/*
 * The differential test: random instructions on this processor and through an
 * engine, every result compared.
 *
 *      gen.c      makes sequences of instructions
 *      state.c    makes what they start from, out of one seed
 *      native.c   runs them in user mode on the processor below us
 *      guest.c    runs them in ring 3 of a guest of an engine
 *      features.c what both sides offer
 *      diff.c     compares, shrinks, tells
 *
 * Both sides see the same linear addresses: a handful of pages (diff_pages)
 * with nothing around them.  A sequence runs until something is raised; behind
 * its end stands INT3, so that an end is an exception like all others.
 */
#ifndef TEST_CPU_DIFF_H
#define TEST_CPU_DIFF_H

#include <stdio.h>

#include "engine/cpu_state.h"

/* ---- memory ------------------------------------------------------------- */

#define DIFF_PAGE 4096u
#define DIFF_CODE 0x10000000u
#define DIFF_CODE_SIZE (2 * DIFF_PAGE)
#define DIFF_DATA 0x10010000u /* its first page is unmapped */
#define DIFF_DATA_END (DIFF_DATA + 5 * DIFF_PAGE)
#define DIFF_STACK 0x10020000u
#define DIFF_STACK_SIZE (2 * DIFF_PAGE)

struct diff_page {
	uint32_t lin;
	bool write, exec;
};
#define DIFF_PAGES 8u
extern const struct diff_page diff_pages[DIFF_PAGES];
/* What all of them contain before a sequence is put there. */
extern uint8_t diff_pristine[DIFF_PAGES][DIFF_PAGE];

/*
 * Places in the last page of data with contents that random bytes would not
 * have: what the generator wants when it says so.
 */
#define DIFF_SLOTS (DIFF_DATA + 4 * DIFF_PAGE + 0x800)
#define DIFF_SLOT_FX (DIFF_SLOTS + 0x000)     /* FXSAVE and FSAVE images */
#define DIFF_SLOT_MXCSR (DIFF_SLOTS + 0x200)  /* 16 valid values */
#define DIFF_SLOT_INDEX4 (DIFF_SLOTS + 0x240) /* 16 small indices */
#define DIFF_SLOT_INDEX8 (DIFF_SLOTS + 0x280) /* 8 of them */
#define DIFF_SLOT_JUMP (DIFF_SLOTS + 0x2c0)   /* a pointer */
#define DIFF_SLOT_ENV (DIFF_SLOTS + 0x300)    /* FSTENV, FSAVE */

/*
 * The three sizes of code.  32-bit code has flat segments.  16-bit code has
 * segments of its own, in an LDT, that begin with the pages and end with them:
 * its addresses are offsets.
 */
enum diff_bits { DIFF_16 = 16, DIFF_32 = 32, DIFF_64 = 64 };

/* Linux' selectors for user mode; DS and ES are SS, FS and GS null. */
#define DIFF_SEL_CS32 0x23
#define DIFF_SEL_DATA 0x2b
#define DIFF_SEL_CS64 0x33
#define DIFF_SEL_CS16 0x07
#define DIFF_SEL_DATA16 0x0f
#define DIFF_SEL_STACK16 0x17

/* What address `lin` of a segment has for code of this size. */
static inline uint64_t
diff_offset(unsigned bits, uint32_t segment, uint64_t lin)
{
	return bits == DIFF_16 ? lin - segment : lin;
}

/* ---- random numbers ----------------------------------------------------- */

struct rng {
	uint64_t s;
};

static inline uint64_t
rng_next(struct rng *rng)
{
	uint64_t z = rng->s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline uint32_t
rng_below(struct rng *rng, uint32_t n)
{
	return (uint32_t)((rng_next(rng) >> 32) * n >> 32);
}

static inline bool
rng_chance(struct rng *rng, unsigned percent)
{
	return rng_below(rng, 100) < percent;
}

/* ---- what a sequence starts from and ends in ---------------------------- */

/* XCR0 components that are compared, and where this processor puts them. */
#define XCOMP_X87 0
#define XCOMP_SSE 1
#define XCOMP_AVX 2
#define XCOMP_OPMASK 5
#define XCOMP_ZMM_HI 6
#define XCOMP_HI_ZMM 7
#define XCOMPS 8

struct xlayout {
	uint64_t mask;                    /* XCR0 */
	uint32_t size;                    /* of the whole area, standard form */
	uint32_t at[XCOMPS], len[XCOMPS]; /* from XCOMP_AVX up */
};

struct diff_state {
	uint64_t gpr[CPU_GPRS];
	uint64_t rip, rflags;
	uint64_t fs_base, gs_base;
	uint32_t vector, error; /* of what was raised */
	uint64_t cr2;           /* vector 14 */
	_Alignas(
	    64) uint8_t xsave[CPU_XSAVE_MAX]; /* as this processor lays out */
};

enum diff_outcome {
	DIFF_RAISED,
	DIFF_HUNG, /* no end in sight */
	DIFF_LOST, /* nothing to compare: a system call, the runner died */
};

struct diff_result {
	enum diff_outcome outcome;
	struct diff_state end;
	uint32_t
	    dirty; /* pages that differ from pristine; the others are stale */
	uint8_t page[DIFF_PAGES][DIFF_PAGE];
};

#define DIFF_CODE_MAX 1536u
struct diff_job {
	uint64_t seed;
	unsigned bits; /* of the code: enum diff_bits */
	struct diff_state start;
	uint32_t code_len;
	uint8_t code[DIFF_CODE_MAX]; /* goes to start.rip */
	struct diff_result native;
};

/* In the form of a file of cases: see diff.c. */
void diff_print_case(FILE *out, const struct diff_job *job);

/* ---- features.c --------------------------------------------------------- */

/* CPUID's words that say what instructions there are. */
enum feature_word {
	FW_1C,
	FW_1D,
	FW_7B,
	FW_7C,
	FW_7D,
	FW_71A, /* leaf 7.1 EAX */
	FW_D1A, /* leaf 0xd.1 EAX */
	FW_E1C, /* leaf 0x80000001 ECX */
	FW_E1D,
	FW_E8B, /* leaf 0x80000008 EBX */
	FEATURE_WORDS,
};

struct features {
	uint32_t word[FEATURE_WORDS];
	struct xlayout x;
};

typedef void cpuid_fn(void *arg, uint32_t leaf, uint32_t subleaf,
    uint32_t reg[static 4]);
void features_read(struct features *f, cpuid_fn *cpuid, void *arg);
void features_host(struct features *f);
/* What both have; the layout is a's. */
void features_common(struct features *out, const struct features *a,
    const struct features *b);
/* Zydis' instruction sets: is it known, and offered? */
bool features_have_isa(const struct features *f, int isa_set);

/* ---- state.c ------------------------------------------------------------ */

void diff_pristine_fill(void);
/* All but rip.  Cases rely on it: the same seed is the same state for ever. */
void diff_state_fill(struct diff_state *state, uint64_t seed, unsigned bits,
    const struct xlayout *x);
/*
 * Give components that are not in xsave's XSTATE_BV their initial values, and
 * clear what is not compared: pointers of the last x87 instruction, reserved
 * bytes, the header.
 */
void diff_xsave_canon(uint8_t *xsave, const struct xlayout *x);

/* ---- gen.c -------------------------------------------------------------- */

#define GEN_INT BIT(0) /* integer, BMI; also far less common ones */
#define GEN_STRING BIT(1)
#define GEN_STACK BIT(2)
#define GEN_FLOW BIT(3)
#define GEN_X87 BIT(4)
#define GEN_MMX BIT(5)
#define GEN_SSE BIT(6)
#define GEN_AVX BIT(7)
#define GEN_AVX512 BIT(8)
#define GEN_SYSTEM BIT(9) /* what user mode may not do */
#define GEN_BYTES BIT(10) /* nonsense */
#define GEN_ALL 0x7ffu

struct gen_params {
	uint64_t classes;
	unsigned max_len;
	unsigned bits;
	bool defined; /* nothing may depend on undefined flags */
	bool aligned; /* AC stays clear, as far as it can be seen to */
	const struct features *features;
};

/* How a field of an item is filled in when it has got its place. */
enum gen_rel {
	REL_NONE,
	REL_JUMP, /* relative to the end: the place of item `target` */
	REL_ABS,  /* 32-bit address of item `target` */
	REL_DATA, /* relative to the end: the linear address `addr` */
};

#define GEN_ITEM_MAX 112u
struct gen_item {
	uint8_t len;
	uint8_t bytes[GEN_ITEM_MAX];
	uint8_t rel, rel_at, rel_size, rel_end;
	uint8_t target;
	uint32_t addr;
	uint16_t mnemonic; /* ZydisMnemonic; 0: nonsense */
	uint16_t writes;   /* BIT(enum cpu_gpr) */
	uint32_t flags_undefined, flags_defined; /* of RFLAGS, written */
};

#define GEN_ITEMS_MAX 16u
struct gen_seq {
	unsigned items;
	struct gen_item item[GEN_ITEMS_MAX];
	bool flow; /* not a straight line */
};

struct ZydisDecoder_;
void gen_decoder(struct ZydisDecoder_ *decoder, unsigned bits);
/* Which instructions are left out, and why: for people. */
void gen_list_excluded(FILE *out);
/* A sequence that suits the state. */
void gen_sequence(struct gen_seq *seq, const struct gen_params *params,
    const struct diff_state *state, struct rng *rng);
/*
 * Put the items of `keep` (a bit each) at `rip`.  Returns the length, or 0 if
 * a displacement does not fit.
 */
unsigned gen_assemble(const struct gen_seq *seq, uint32_t keep, uint64_t rip,
    uint8_t code[static DIFF_CODE_MAX]);
/* Of the status flags, those that may be undefined at the end. */
uint32_t gen_undefined(const struct gen_seq *seq);

/* ---- native.c ----------------------------------------------------------- */

#define NATIVE_BATCH 32u
struct native;
struct err;

int native_new(struct native **native, struct err *err);
void native_free(struct native *native);
/* NATIVE_BATCH jobs, shared with the runner. */
struct diff_job *native_jobs(struct native *native);
/* Fill the `native` of the first n jobs. */
int native_run(struct native *native, unsigned n, struct err *err);

/* ---- guest.c ------------------------------------------------------------ */

struct guest;

/* model: a CPU model, or NULL for the engine's own choice */
int guest_new(const char *engine, const char *model, struct guest **guest,
    struct err *err);
void guest_free(struct guest *guest);
const struct features *guest_features(const struct guest *guest);
int guest_run(struct guest *guest, const struct diff_job *job,
    const struct xlayout *x, struct diff_result *result, struct err *err);

#endif
