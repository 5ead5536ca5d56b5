/*
 * Runs sequences of random instructions on the processor and on an engine, and
 * compares all that they leave behind.
 *
 * usage: diff [-aluv] [-b BITS] [-C MODEL] [-c CASES] [-e ENGINE]
 *             [-L MAXLEN] [-m CLASSES] [-n SEQUENCES] [-r REPEAT] [-s SEED]
 *             [-x MISMATCHES]
 *
 *      -a  without alignment checks (#AC)
 *      -b  with -m: 64-bit, 32-bit or 16-bit code (64)
 *      -C  the guest's CPU model (the engine's choice)
 *      -c  run the cases of this file first
 *      -e  the engine to judge (jit); "native" is the processor once more: what
 *          differs then is not fit for comparing
 *      -l  list what is left out, and why
 *      -L  instructions in a sequence, at most (8)
 *      -m  classes of instructions, with commas; without, groups of them in
 *          turn
 *      -n  sequences in all (100000)
 *      -r  how often each runs on the engine: once translated it may go
 *          another way (1)
 *      -s  the first seed (1)
 *      -u  leave out what hangs on flags that the manual leaves undefined
 *      -v  say what was run
 *      -x  give up after so many mismatches in a group (3)
 *
 * A mismatch is confirmed by another native run (what the processor does not do
 * twice proves nothing), then shrunk by leaving out instructions.  What is
 * printed in the end begins with a line to be added to the file of cases:
 *
 *      bits=64 seed=SEED rip=RIP code=HEX      # comment
 *
 * The seed stands for registers and memory, the code for itself.  A line that
 * begins with "avx512" is for guests that have it.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/err.h"
#include "test/cpu/diff.h"

#define VECTOR_DEBUG 1
#define VECTOR_UD 6
#define VECTOR_GP 13
#define VECTOR_PAGE_FAULT 14
#define ERROR_FETCH 0x10              /* of a page fault */
#define ADDRESS_KERNEL 0x7ffffffff000 /* and up: not for user mode */
#define FLAG_AC BIT(18)
#define FLAGS_STATUS 0x8d5ULL
#define VECTOR_STACK 12
#define AVX512_CASE "avx512 "

struct options {
	const char *engine;
	const char *model; /* NULL: by default */
	const char *cases;
	uint64_t classes; /* 0: in turn */
	unsigned bits;
	unsigned max_len;
	uint64_t sequences;
	unsigned repeat;
	uint64_t seed;
	unsigned give_up;
	bool defined, aligned, verbose;
};

static const struct {
	const char *name;
	uint64_t classes;
	unsigned bits;
	unsigned share; /* of the sequences, in percent */
} groups[] = {
	{ "integer", GEN_INT | GEN_BYTES, DIFF_64, 12 },
	{ "string", GEN_STRING | GEN_INT, DIFF_64, 6 },
	{ "flow", GEN_STACK | GEN_FLOW | GEN_INT, DIFF_64, 10 },
	{ "x87", GEN_X87, DIFF_64, 6 },
	{ "mmx", GEN_MMX, DIFF_64, 4 },
	{ "sse", GEN_SSE, DIFF_64, 8 },
	{ "avx", GEN_AVX, DIFF_64, 8 },
	{ "avx512", GEN_AVX512, DIFF_64, 7 },
	{ "all", GEN_ALL, DIFF_64, 7 },
	{ "32-bit integer", GEN_INT | GEN_STRING | GEN_BYTES, DIFF_32, 6 },
	{ "32-bit flow", GEN_STACK | GEN_FLOW | GEN_INT, DIFF_32, 6 },
	{ "32-bit all", GEN_ALL, DIFF_32, 5 },
	{ "16-bit integer", GEN_INT | GEN_STRING | GEN_BYTES, DIFF_16, 6 },
	{ "16-bit flow", GEN_STACK | GEN_FLOW | GEN_INT, DIFF_16, 5 },
	{ "16-bit all", GEN_ALL, DIFF_16, 4 },
};

static const struct {
	const char *name;
	uint64_t class;
} class_names[] = {
	{ "int", GEN_INT },
	{ "string", GEN_STRING },
	{ "stack", GEN_STACK },
	{ "flow", GEN_FLOW },
	{ "x87", GEN_X87 },
	{ "mmx", GEN_MMX },
	{ "sse", GEN_SSE },
	{ "avx", GEN_AVX },
	{ "avx512", GEN_AVX512 },
	{ "system", GEN_SYSTEM },
	{ "bytes", GEN_BYTES },
	{ "all", GEN_ALL },
};

struct diff {
	struct options opt;
	struct native *native;
	struct guest *guest; /* NULL: `self` is judged in its place */
	struct native *self;
	struct features common;
	struct diff_job *job; /* NATIVE_BATCH */
	struct diff_result result;
	uint32_t undefined; /* status flags not to compare */
	unsigned points;    /* of the TAP output */
	unsigned failures;
	uint64_t count[DIFF_LOST + 1];
	uint64_t vectors[32];
	uint64_t flaky;
	uint32_t mnemonic[ZYDIS_MNEMONIC_MAX_VALUE + 1];
};

/* ---- comparing ---------------------------------------------------------- */

/* A difference, told to `out` unless that is NULL. */
static void
differ(FILE *out, const char *what, uint64_t native, uint64_t guest)
{
	if (out != NULL)
		fprintf(out,
		    "#   %-12s native %016" PRIx64 "  engine %016" PRIx64 "\n",
		    what, native, guest);
}

static bool
same64(FILE *out, const char *what, uint64_t native, uint64_t guest)
{
	if (native == guest)
		return true;
	differ(out, what, native, guest);
	return false;
}

static bool
same_bytes(FILE *out, const char *what, unsigned index, const uint8_t *native,
    const uint8_t *guest, unsigned len)
{
	char name[32];

	if (memcmp(native, guest, len) == 0)
		return true;
	for (unsigned at = 0; at < len && out != NULL; at += 8) {
		uint64_t a = 0, b = 0;

		memcpy(&a, native + at, MIN(8u, len - at));
		memcpy(&b, guest + at, MIN(8u, len - at));
		if (a == b)
			continue;
		(void)snprintf(name, sizeof(name), "%s%u+%u", what, index, at);
		differ(out, name, a, b);
	}
	return false;
}

static bool
same_vectors(FILE *out, const uint8_t *a, const uint8_t *b,
    const struct xlayout *x)
{
	bool same = true;

	same &= same_bytes(out, "fcw,fsw,ftw", 0, a, b, 8);
	same &= same_bytes(out, "mxcsr", 0, a + 24, b + 24, 4);
	for (unsigned i = 0; i < 8; i++)
		same &= same_bytes(out, "st", i, a + 32 + 16 * i,
		    b + 32 + 16 * i, 10);
	for (unsigned i = 0; i < 16; i++)
		same &= same_bytes(out, "xmm", i, a + 160 + 16 * i,
		    b + 160 + 16 * i, 16);
	for (unsigned c = XCOMP_AVX; c < XCOMPS; c++) {
		static const char *const names[XCOMPS] = {
			[XCOMP_AVX] = "ymm.hi",
			[XCOMP_OPMASK] = "k",
			[XCOMP_ZMM_HI] = "zmm.hi",
			[XCOMP_HI_ZMM] = "zmm16+",
		};
		static const uint8_t lens[XCOMPS] = { [XCOMP_AVX] = 16,
			[XCOMP_OPMASK] = 8,
			[XCOMP_ZMM_HI] = 32,
			[XCOMP_HI_ZMM] = 64 };

		if (!(x->mask & BIT(c)) || names[c] == NULL)
			continue;
		for (unsigned i = 0; i * lens[c] < x->len[c]; i++)
			same &= same_bytes(out, names[c], i,
			    a + x->at[c] + i * lens[c],
			    b + x->at[c] + i * lens[c], lens[c]);
	}
	return same;
}

/* Pointers of the last x87 instruction, stored to where they are expected. */
static bool
ignored(uint32_t lin)
{
	return (lin >= DIFF_SLOT_FX + 6 && lin < DIFF_SLOT_FX + 24) ||
	    (lin >= DIFF_SLOT_FX + 28 && lin < DIFF_SLOT_FX + 32) ||
	    (lin >= DIFF_SLOT_ENV + 12 && lin < DIFF_SLOT_ENV + 28);
}

static bool
same_page(FILE *out, unsigned page, const struct diff_result *a,
    const struct diff_result *b)
{
	const uint8_t *was = diff_pristine[page];
	const uint8_t *x = a->dirty & BIT(page) ? a->page[page] : was;
	const uint8_t *y = b->dirty & BIT(page) ? b->page[page] : was;
	bool same = true;
	unsigned told = 0;

	if (x == y || memcmp(x, y, DIFF_PAGE) == 0)
		return true;
	for (unsigned at = 0; at < DIFF_PAGE; at++) {
		uint32_t lin = diff_pages[page].lin + at;
		char name[32];

		if (x[at] == y[at] || ignored(lin))
			continue;
		same = false;
		(void)snprintf(name, sizeof(name), "[%#x]", lin);
		if (told++ < 20)
			differ(out, name, x[at], y[at]);
	}
	return same;
}

/* What is not compared of one result. */
struct liberties {
	bool late_lock; /* what the operand raises instead of #UD */
	bool gprs;
	uint64_t flags;
	uint64_t cr2;            /* these bits may differ */
	int mask_reg, mask_size; /* a gather's; the size of an element */
};

/*
 * Where processors differ after a fault within an instruction.  POPA has loaded
 * some registers on AMD's.  REP CMPS and SCAS leave the flags of the last
 * comparison there (SDM: what they were before).  MASKMOV names the first byte
 * it may write or the first it would, and what loads much memory does so in an
 * order of its own.  Gathers clear mask elements on their way, or only those
 * that were set.  LOCK where it is not allowed may be noticed after the operand
 * was read.
 */
static void
find_liberties(const struct diff_job *job, struct liberties *l)
{
	uint64_t at = job->native.end.rip - job->start.rip;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction in;
	ZydisDecoder decoder;
	ZyanStatus status;

	if (job->native.end.vector < VECTOR_STACK || at >= job->code_len)
		return;
	gen_decoder(&decoder, job->bits);
	status = ZydisDecoderDecodeFull(&decoder, job->code + at,
	    job->code_len - at, &in, op);
	if (status == ZYDIS_STATUS_ILLEGAL_LOCK)
		l->late_lock = true;
	if (!ZYAN_SUCCESS(status))
		return;
	switch (in.mnemonic) {
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		l->gprs = true;
		break;
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		l->cr2 = UINT64_MAX;
		break;
	default:
		break;
	}
	if (in.attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		l->flags = FLAGS_STATUS;
	if (in.meta.category == ZYDIS_CATEGORY_AVX2GATHER &&
	    op[2].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		l->mask_reg = ZydisRegisterGetId(op[2].reg.value);
		l->mask_size = op[0].element_size / 8;
	}
}

/* Leave of a gather's mask what counts: the elements that are set. */
static void
reduce_mask(uint8_t *xsave, const struct liberties *l, const struct xlayout *x)
{
	uint8_t *half[2] = { xsave + 160 + 16 * l->mask_reg,
		xsave + x->at[XCOMP_AVX] + 16 * l->mask_reg };

	if (l->mask_size == 0)
		return;
	for (unsigned h = 0; h < 2; h++) {
		for (int at = 0; at < 16; at += l->mask_size) {
			if (!(half[h][at + l->mask_size - 1] & 0x80))
				memset(half[h] + at, 0, (size_t)l->mask_size);
		}
	}
}

/*
 * Has code changed itself into what the generator leaves out?  INT1, or a near
 * branch with 66 in 64-bit code, which AMD's cut to 16 bits.
 */
static bool
became_excluded(const struct diff_job *job)
{
	const struct diff_state *end = &job->native.end;
	uint64_t from = job->start.rip % DIFF_CODE;

	if (end->vector != VECTOR_DEBUG &&
	    !(end->vector == VECTOR_PAGE_FAULT && job->bits == DIFF_64 &&
		(end->error & ERROR_FETCH) && end->rip <= UINT16_MAX))
		return false;
	for (unsigned at = 0; at < DIFF_CODE_SIZE; at++) {
		uint8_t was = at - from < job->code_len ?
		    job->code[at - from] :
		    diff_pristine[at / DIFF_PAGE][at % DIFF_PAGE];

		if (job->native.page[at / DIFF_PAGE][at % DIFF_PAGE] != was &&
		    (job->native.dirty & BIT(at / DIFF_PAGE)))
			return true;
	}
	return false;
}

static bool
same_result(const struct diff *d, FILE *out, const struct diff_job *job,
    const struct diff_result *guest)
{
	const struct diff_result *native = &job->native;
	static struct diff_state copy[2];
	const struct diff_state *a = &native->end, *b = &guest->end;
	struct liberties l = { .flags = d->undefined };
	uint32_t error = ~0u;
	bool same = true;

	if (native->outcome != guest->outcome) {
		differ(out, "outcome", native->outcome, guest->outcome);
		return false;
	}
	if (became_excluded(job))
		return true;
	/* The kernel does not tell user mode what it has mapped. */
	if (a->vector == VECTOR_PAGE_FAULT && a->cr2 >= ADDRESS_KERNEL)
		error = ~1u;
	/* Where an operand wraps around: SDM volume 3, 5.3.1. */
	if (job->bits == DIFF_32 && a->vector == VECTOR_PAGE_FAULT &&
	    (uint32_t)(a->cr2 + DIFF_PAGE) < 2 * DIFF_PAGE &&
	    (b->vector == VECTOR_GP || b->vector == VECTOR_STACK))
		return b->rip == a->rip;
	find_liberties(job, &l);
	if (l.late_lock)
		return b->vector == VECTOR_UD && b->rip == a->rip;
	if (l.mask_size != 0) {
		copy[0] = *a;
		copy[1] = *b;
		a = &copy[0];
		b = &copy[1];
		reduce_mask(copy[0].xsave, &l, &d->common.x);
		reduce_mask(copy[1].xsave, &l, &d->common.x);
	}
	same &= same64(out, "vector", a->vector, b->vector);
	same &= same64(out, "error", a->error & error, b->error & error);
	same &= same64(out, "cr2", a->cr2 & ~l.cr2, b->cr2 & ~l.cr2);
	same &= same64(out, "rip", a->rip, b->rip);
	same &=
	    same64(out, "rflags", a->rflags & ~l.flags, b->rflags & ~l.flags);
	for (unsigned i = 0; i < CPU_GPRS && !l.gprs; i++)
		same &= same64(out, cpu_gpr_name((enum cpu_gpr)i), a->gpr[i],
		    b->gpr[i]);
	same &= same64(out, "fs base", a->fs_base, b->fs_base);
	same &= same64(out, "gs base", a->gs_base, b->gs_base);
	same &= same_vectors(out, a->xsave, b->xsave, &d->common.x);
	for (unsigned i = 0; i < DIFF_PAGES; i++)
		same &= same_page(out, i, native, guest);
	return same;
}

/* ---- telling ------------------------------------------------------------ */

static void
print_code(const struct diff_job *job)
{
	ZydisDecoder decoder;
	ZydisFormatter formatter;
	unsigned at = 0;

	gen_decoder(&decoder, job->bits);
	(void)ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	while (at < job->code_len) {
		ZydisDecodedInstruction in;
		ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
		char text[128] = "(bad)";
		unsigned len = job->code_len - at;

		if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder,
			job->code + at, len, &in, op))) {
			(void)ZydisFormatterFormatInstruction(&formatter, &in,
			    op, in.operand_count_visible, text, sizeof(text),
			    job->start.rip + at, NULL);
			len = in.length;
		}
		printf("#   %08" PRIx64 " ", job->start.rip + at);
		for (unsigned i = 0; i < MAX(len, 12u); i++)
			printf(i < len ? "%02x" : "  ", job->code[at + i]);
		printf(" %s\n", text);
		at += len;
	}
}

static void
print_start(const struct diff_state *s)
{
	uint16_t fcw, fsw;
	uint32_t mxcsr;

	memcpy(&fcw, s->xsave, 2);
	memcpy(&fsw, s->xsave + 2, 2);
	memcpy(&mxcsr, s->xsave + 24, 4);
	for (unsigned i = 0; i < CPU_GPRS; i++)
		printf("%s%3s=%016" PRIx64 "%s", i % 4 == 0 ? "#   " : " ",
		    cpu_gpr_name((enum cpu_gpr)i), s->gpr[i],
		    i % 4 == 3 ? "\n" : "");
	printf("#   rflags=%" PRIx64 " fs=%" PRIx64 " gs=%" PRIx64
	       " fcw=%x fsw=%x ftw=%x mxcsr=%x\n",
	    s->rflags, s->fs_base, s->gs_base, fcw, fsw, s->xsave[4], mxcsr);
}

void
diff_print_case(FILE *out, const struct diff_job *job)
{
	fprintf(out,
	    "# bits=%u seed=%#" PRIx64 " rip=%#" PRIx64 " code=", job->bits,
	    job->seed, job->start.rip);
	for (unsigned i = 0; i < job->code_len; i++)
		fprintf(out, "%02x", job->code[i]);
	fprintf(out, "\n");
}

static void
point(struct diff *d, bool ok, const char *text)
{
	d->points++;
	d->failures += !ok;
	printf("%sok %u - %s\n", ok ? "" : "not ", d->points, text);
	(void)fflush(stdout);
}

static _Noreturn void
die(const struct err *err)
{
	printf("Bail out! %s\n", err->msg);
	exit(1);
}

/* ---- running ------------------------------------------------------------ */

/* The other side's result of job[i]. */
static int
run_other(struct diff *d, unsigned i, struct err *err)
{
	struct diff_job *copy;
	int rc;

	if (d->guest != NULL)
		return guest_run(d->guest, &d->job[i], &d->common.x, &d->result,
		    err);
	copy = native_jobs(d->self);
	memcpy(copy, &d->job[i], offsetof(struct diff_job, native));
	rc = native_run(d->self, 1, err);
	d->result = copy->native;
	return rc;
}

/* job[0] on both sides: do they agree?  `lost` if there is nothing to say. */
static bool
agree(struct diff *d, FILE *out, bool *lost)
{
	struct err err;
	bool same = true;

	*lost = true;
	if (native_run(d->native, 1, &err) < 0)
		die(&err);
	if (d->job[0].native.outcome != DIFF_RAISED)
		return true;
	*lost = false;
	for (unsigned i = 0; i < d->opt.repeat && same; i++) {
		if (run_other(d, 0, &err) < 0)
			die(&err);
		same = same_result(d, out, &d->job[0], &d->result);
	}
	return same;
}

/* Does it still differ, natively the same twice? */
static bool
disagrees(struct diff *d)
{
	static struct diff_result first;
	bool lost;
	struct err err;

	if (agree(d, NULL, &lost) || lost)
		return false;
	first = d->job[0].native;
	if (native_run(d->native, 1, &err) < 0)
		die(&err);
	return same_result(d, NULL, &d->job[0], &first);
}

static void
tell(struct diff *d)
{
	bool lost;

	diff_print_case(stdout, &d->job[0]);
	print_code(&d->job[0]);
	print_start(&d->job[0].start);
	(void)agree(d, NULL, &lost);
	printf("# differences (vector %u):\n", d->job[0].native.end.vector);
	if (agree(d, stdout, &lost))
		printf("#   none this time: %s\n", lost ? "lost" : "unstable");
}

/* Leave out whatever can be left out. */
static void
shrink(struct diff *d, const struct gen_seq *seq)
{
	struct diff_job *job = &d->job[0];
	uint32_t keep = (uint32_t)BIT(seq->items) - 1;
	bool smaller = true;

	while (smaller) {
		smaller = false;
		for (unsigned i = seq->items; i-- > 0;) {
			uint32_t less = keep & ~(uint32_t)BIT(i);

			if (less == keep)
				continue;
			job->code_len =
			    gen_assemble(seq, less, job->start.rip, job->code);
			if (job->code_len != 0 && disagrees(d)) {
				keep = less;
				smaller = true;
			}
		}
	}
	job->code_len = gen_assemble(seq, keep, job->start.rip, job->code);
}

/*
 * Where a sequence stands: anywhere, often across the pages' border, and now
 * and then right at the end, with nothing behind it.  (There some processors
 * fault on a branch that they expected not to be taken out of a segment.)
 */
static void
place(struct diff_job *job, const struct gen_seq *seq, struct rng *rng)
{
	uint32_t all = (uint32_t)BIT(seq->items) - 1;
	uint64_t code = job->bits == DIFF_16 ? 0 : DIFF_CODE;
	uint64_t rip =
	    code + rng_below(rng, DIFF_CODE_SIZE - DIFF_CODE_MAX - 16);

	job->code_len = gen_assemble(seq, all, rip, job->code);
	if (rng_chance(rng, 30)) {
		rip = code + DIFF_PAGE - rng_below(rng, job->code_len + 1);
		job->code_len = gen_assemble(seq, all, rip, job->code);
	} else if (!(seq->flow && job->bits == DIFF_16) && rng_chance(rng, 4)) {
		rip = code + DIFF_CODE_SIZE - job->code_len;
		job->code_len = gen_assemble(seq, all, rip, job->code);
	}
	job->start.rip = rip;
}

/*
 * Everything about a sequence hangs on its seed; false if there is none, since
 * a displacement did not fit or AC is not wanted.
 */
static bool
make(struct diff *d, const struct gen_params *params, uint64_t seed,
    struct diff_job *job, struct gen_seq *seq)
{
	struct rng rng = { seed ^ params->classes << 40 };

	rng.s = rng_next(&rng); /* neighbours must have nothing in common */
	job->bits = params->bits;
	job->seed = seed;
	diff_state_fill(&job->start, seed, job->bits, &d->common.x);
	if (params->aligned && (job->start.rflags & FLAG_AC))
		return false;
	gen_sequence(seq, params, &job->start, &rng);
	place(job, seq, &rng);
	return job->code_len != 0;
}

static bool
judge(struct diff *d, unsigned at, const struct gen_seq *seq)
{
	struct diff_job *job = &d->job[at];
	struct err err;
	bool same = true;

	d->count[job->native.outcome]++;
	if (job->native.outcome != DIFF_RAISED)
		return true;
	if (job->native.end.vector < 32)
		d->vectors[job->native.end.vector]++;
	d->undefined = d->opt.defined ? gen_undefined(seq) : 0;
	for (unsigned i = 0; i < d->opt.repeat && same; i++) {
		if (run_other(d, at, &err) < 0) {
			diff_print_case(stdout, job);
			print_code(job);
			die(&err);
		}
		same = same_result(d, NULL, job, &d->result);
	}
	return same;
}

/*
 * Make job[i], which differs, job[0]; is it a mismatch?  What the processor
 * itself does not do twice is none.  What the engine does once only is one that
 * cannot be shrunk: a stale translation, perhaps.
 */
static bool
confirm(struct diff *d, unsigned i, const struct gen_seq *seq)
{
	static struct diff_result native, guest;
	struct diff_job *job = &d->job[0];
	struct err err;

	native = d->job[i].native;
	guest = d->result;
	memmove(job, &d->job[i], offsetof(struct diff_job, native));
	for (unsigned k = 0; k < 3; k++) {
		if (disagrees(d)) {
			shrink(d, seq);
			tell(d);
			return true;
		}
	}
	if (native_run(d->native, 1, &err) < 0)
		die(&err);
	if (!same_result(d, NULL, job, &native)) {
		d->flaky++;
		return false;
	}
	diff_print_case(stdout, job);
	print_code(job);
	print_start(&job->start);
	printf("# differences, that once:\n");
	(void)same_result(d, stdout, job, &guest);
	return true;
}

/* One group of classes; the number of mismatches. */
static unsigned
run_group(struct diff *d, uint64_t classes, unsigned bits, uint64_t sequences)
{
	static struct gen_seq seq[NATIVE_BATCH];
	struct gen_params params = { .classes = classes,
		.max_len = d->opt.max_len,
		.bits = bits,
		.defined = d->opt.defined,
		.aligned = d->opt.aligned,
		.features = &d->common };
	unsigned mismatches = 0;

	for (uint64_t done = 0; done < sequences && mismatches < d->opt.give_up;
	     done += NATIVE_BATCH) {
		unsigned n = (unsigned)MIN(NATIVE_BATCH, sequences - done);
		unsigned made = 0;
		struct err err;

		for (unsigned i = 0; i < n; i++) {
			made += make(d, &params, d->opt.seed + done + i,
			    &d->job[made], &seq[made]);
		}
		if (native_run(d->native, made, &err) < 0)
			die(&err);
		for (unsigned i = 0; i < made; i++) {
			for (unsigned k = 0; k < seq[i].items; k++)
				d->mnemonic[seq[i].item[k].mnemonic]++;
			if (judge(d, i, &seq[i]))
				continue;
			mismatches += confirm(d, i, &seq[i]);
			if (mismatches >= d->opt.give_up)
				break;
		}
	}
	return mismatches;
}

/* ---- cases -------------------------------------------------------------- */

static bool
parse_hex(const char *p, struct diff_job *job)
{
	unsigned byte;

	job->code_len = 0;
	while (job->code_len < DIFF_CODE_MAX && isxdigit(p[0]) &&
	    isxdigit(p[1]) && sscanf(p, "%2x", &byte) == 1) {
		job->code[job->code_len++] = (uint8_t)byte;
		p += 2;
	}
	return job->code_len != 0 && !isxdigit(*p);
}

static bool
parse_case(struct diff *d, const char *line)
{
	struct diff_job *job = &d->job[0];
	unsigned bits;
	uint64_t rip;
	int at = 0;

	if (sscanf(line, "bits=%u seed=%" SCNi64 " rip=%" SCNi64 " code=%n",
		&bits, &job->seed, &rip, &at) < 3 ||
	    at == 0 || !parse_hex(line + at, job))
		return false;
	if (bits != DIFF_16 && bits != DIFF_32 && bits != DIFF_64)
		return false;
	job->bits = bits;
	diff_state_fill(&job->start, job->seed, bits, &d->common.x);
	job->start.rip = rip;
	rip -= bits == DIFF_16 ? 0 : DIFF_CODE;
	return range_within(rip, job->code_len, DIFF_CODE_SIZE);
}

static void
run_cases(struct diff *d)
{
	char line[2 * DIFF_CODE_MAX + 256], summary[128];
	unsigned number = 0, cases = 0, bad = 0;
	FILE *file = fopen(d->opt.cases, "r");

	if (file == NULL) {
		struct err err;

		err_set_errno(&err, -errno, "%s", d->opt.cases);
		die(&err);
	}
	d->undefined = 0;
	while (fgets(line, sizeof(line), file) != NULL) {
		const char *text = line;
		bool lost;

		number++;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (strncmp(text, AVX512_CASE, strlen(AVX512_CASE)) == 0) {
			if (!(d->common.x.mask & BIT(XCOMP_HI_ZMM)))
				continue;
			text += strlen(AVX512_CASE);
		}
		cases++;
		if (!parse_case(d, text)) {
			printf("# %s:%u: no case\n", d->opt.cases, number);
			bad++;
		} else if (!agree(d, NULL, &lost)) {
			printf("# %s:%u:\n", d->opt.cases, number);
			tell(d);
			bad++;
		}
	}
	(void)fclose(file);
	(void)snprintf(summary, sizeof(summary), "%u known cases", cases);
	point(d, bad == 0, summary);
}

/* ---- main --------------------------------------------------------------- */

static void
print_counts(const struct diff *d)
{
	unsigned kinds = 0;

	printf("# %" PRIu64 " compared, %" PRIu64 " hung, %" PRIu64
	       " lost, %" PRIu64 " natively unstable\n",
	    d->count[DIFF_RAISED], d->count[DIFF_HUNG], d->count[DIFF_LOST],
	    d->flaky);
	if (!d->opt.verbose)
		return;
	printf("# by vector:");
	for (unsigned i = 0; i < 32; i++) {
		if (d->vectors[i] != 0)
			printf(" %u: %" PRIu64, i, d->vectors[i]);
	}
	printf("\n# by instruction:");
	for (unsigned i = 1; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++) {
		if (d->mnemonic[i] == 0)
			continue;
		printf("%s%s %u", kinds++ % 6 == 0 ? "\n#   " : ", ",
		    ZydisMnemonicGetString((ZydisMnemonic)i), d->mnemonic[i]);
	}
	printf("\n# %u kinds\n", kinds);
}

static uint64_t
parse_classes(const char *text)
{
	uint64_t classes = 0;
	char *copy = strdup(text), *rest = copy, *name;

	while (copy != NULL && (name = strsep(&rest, ",")) != NULL) {
		uint64_t class = 0;

		for (unsigned i = 0; i < ARRAY_SIZE(class_names); i++) {
			if (strcmp(name, class_names[i].name) == 0)
				class = class_names[i].class;
		}
		if (class == 0) {
			fprintf(stderr, "diff: %s: not a class:", name);
			for (unsigned i = 0; i < ARRAY_SIZE(class_names); i++)
				fprintf(stderr, " %s", class_names[i].name);
			fprintf(stderr, "\n");
			exit(2);
		}
		classes |= class;
	}
	free(copy);
	return classes;
}

static _Noreturn void
usage(void)
{
	fprintf(stderr,
	    "usage: diff [-aluv] [-b BITS] [-C MODEL] [-c CASES] [-e ENGINE]\n"
	    "            [-L MAXLEN] [-m CLASSES] [-n SEQUENCES] [-r REPEAT] "
	    "[-s SEED]\n"
	    "            [-x MISMATCHES]\n");
	exit(2);
}

static void
parse_options(struct options *opt, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "ab:C:c:e:lL:m:n:r:s:uvx:")) != -1) {
		switch (c) {
		case 'a':
			opt->aligned = true;
			break;
		case 'b':
			opt->bits = (unsigned)strtoul(optarg, NULL, 0);
			if (opt->bits != DIFF_16 && opt->bits != DIFF_32 &&
			    opt->bits != DIFF_64)
				usage();
			break;
		case 'C':
			opt->model = optarg;
			break;
		case 'c':
			opt->cases = optarg;
			break;
		case 'e':
			opt->engine = optarg;
			break;
		case 'l':
			gen_list_excluded(stdout);
			exit(0);
		case 'L':
			opt->max_len = (unsigned)strtoul(optarg, NULL, 0);
			opt->max_len =
			    MIN(MAX(opt->max_len, 1u), GEN_ITEMS_MAX);
			break;
		case 'm':
			opt->classes = parse_classes(optarg);
			break;
		case 'n':
			opt->sequences = strtoull(optarg, NULL, 0);
			break;
		case 'r':
			opt->repeat =
			    MAX((unsigned)strtoul(optarg, NULL, 0), 1u);
			break;
		case 's':
			opt->seed = strtoull(optarg, NULL, 0);
			break;
		case 'u':
			opt->defined = true;
			break;
		case 'v':
			opt->verbose = true;
			break;
		case 'x':
			opt->give_up = (unsigned)strtoul(optarg, NULL, 0);
			break;
		default:
			usage();
		}
	}
}

static void
run_groups(struct diff *d)
{
	char text[128];

	for (unsigned i = 0; i < ARRAY_SIZE(groups); i++) {
		uint64_t n = d->opt.sequences * groups[i].share / 100;
		unsigned bad;

		if (n == 0)
			continue;
		if (groups[i].classes == GEN_AVX512 &&
		    !(d->common.x.mask & BIT(XCOMP_HI_ZMM))) {
			point(d, true, "avx512 # SKIP not on both sides");
			continue;
		}
		bad = run_group(d, groups[i].classes, groups[i].bits, n);
		(void)snprintf(text, sizeof(text), "%s: %" PRIu64 " sequences",
		    groups[i].name, n);
		point(d, bad == 0, text);
	}
}

int
main(int argc, char **argv)
{
	struct diff d = { .opt = {
			      .engine = "jit",
			      .bits = DIFF_64,
			      .max_len = 8,
			      .sequences = 100000,
			      .repeat = 1,
			      .seed = 1,
			      .give_up = 3,
			  } };
	struct features host;
	struct err err;
	int rc;

	parse_options(&d.opt, argc, argv);
	diff_pristine_fill();
	rc = native_new(&d.native, &err);
	if (rc == -ENOTSUP) {
		printf("1..0 # SKIP %s\n", err.msg);
		return 0;
	}
	if (rc < 0)
		die(&err);
	features_host(&host);
	if (strcmp(d.opt.engine, "native") == 0) {
		rc = native_new(&d.self, &err);
		d.common = host;
	} else {
		rc = guest_new(d.opt.engine, d.opt.model, &d.guest, &err);
		if (rc == 0)
			features_common(&d.common, &host,
			    guest_features(d.guest));
	}
	if (rc == -ENOTSUP) { /* the model is more than the host */
		printf("1..0 # SKIP %s\n", err.msg);
		native_free(d.native);
		return 0;
	}
	if (rc < 0)
		die(&err);
	d.job = native_jobs(d.native);
	if (d.opt.cases != NULL)
		run_cases(&d);
	if (d.opt.classes != 0) {
		unsigned bad =
		    run_group(&d, d.opt.classes, d.opt.bits, d.opt.sequences);

		point(&d, bad == 0, "the chosen classes");
	} else {
		run_groups(&d);
	}
	print_counts(&d);
	printf("1..%u\n", d.points);
	guest_free(d.guest);
	native_free(d.self);
	native_free(d.native);
	return d.failures == 0 ? 0 : 1;
}
