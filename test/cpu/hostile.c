/*
 * Hostile guests: does an engine survive them?
 *
 *	hostile [-c] [-e ENGINE] [-k KINDS] [-m MODES] [-n ROUNDS] [-s SEED]
 *	    [-t SECONDS] [-v]
 *
 *	-c	compare: every round on "interp" and on ENGINE, whose ends must
 *		be the same; rounds that end by themselves and depend on no time
 *	-k, -m	only these, with commas: names as -v prints them
 *	-n	that many rounds instead of SECONDS
 *	-s	the first round's seed; the next one has the next number
 *
 * A round must leave the process as it was: no crash, no sanitizer's report, no
 * access beside guest memory, every vCPU back soon after a kick, states that
 * the engine takes again, ROM and, from jail, everything else untouched; and
 * over all rounds no growth.
 *
 * Prints TAP.  What fails is told with the seed that repeats it; a comparison is
 * cut down to the bytes of code that matter.  Exits 0 if all passed, 1 if not,
 * and 77 if there is no such engine here.
 */
#include <dirent.h>
#include <getopt.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "test/cpu/hostile.h"

#define EXIT_SKIP 77
#define PTE_A 0x20
#define PTE_D 0x40
/* Cutting down what two engines differ in. */
#define SHRINK_S 20u
#define LINES_MAX 24u
/* Does it come to the same end so many times? */
#define AGAIN 4u
/* Bytes of code; more are a REP's. */
#define OVERWRITTEN_MAX 256u
/* A machine is made anew after so many rounds. */
#define GENERATION 3000u
#define FAILURES_MAX 5u
/*
 * Between machines: memory that allocators keep, and memory in use.  More is a
 * leak, not a high-water mark.
 */
#define GROWTH_MAX_KIB (160 * 1024)
#define GROWTH_USED_MAX_KIB 2048
/*
 * While a machine runs: 64 MiB of translated code, what is known of half a
 * million blocks, and what a sanitizer keeps of all that.
 */
#define RESIDENT_MAX_KIB (1024 * 1024)
/* The promise is 100 ms; sanitizers and a host with other work get more. */
#define BACK_CPU_MS 300
#define BACK_WALL_MS 5000

struct options {
	const char *engine;
	uint64_t kinds, modes;
	uint64_t seed;
	uint64_t rounds;
	unsigned seconds;
	bool compare, verbose;
};

struct growth {
	long first_kib, first_used_kib;
	long worst_kib, worst_used_kib, peak_kib;
	unsigned first_fds, worst_fds;
	unsigned generations;
};

struct tally {
	uint64_t rounds, refused, timed_out, exits[4];
	uint64_t compared, unsteady, stale;
	unsigned failures;
	struct rig_worst worst;
};

/* Sanitizers keep freed memory; not so much that growth is not seen. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
	return "quarantine_size_mb=8:allocator_release_to_os_interval_ms=0";
}

/* Guests and devices share memory as on any machine: without locks. */
const char *__tsan_default_suppressions(void);
const char *
__tsan_default_suppressions(void)
{
	return "race:copy_to_guest\nrace:mem_fill\nrace:copy_from_guest\n";
}

/* ------------------------------------------------------------------ process */

static long
resident_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long size = 0, resident = 0;

	if (f == NULL)
		return 0;
	if (fscanf(f, "%ld %ld", &size, &resident) != 2)
		resident = 0;
	(void)fclose(f);
	return resident * 4;
}

/* Sanitizers' allocators have a number of their own. */
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static long
used_bytes(void)
{
	if (__sanitizer_get_current_allocated_bytes != NULL)
		return (long)__sanitizer_get_current_allocated_bytes();
	return (long)mallinfo2().uordblks;
}

static unsigned
open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (dir != NULL && readdir(dir) != NULL)
		n++;
	if (dir != NULL)
		closedir(dir);
	return n;
}

/* Is any page both writable and executable? */
static bool
has_writable_code(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512], access[8];
	bool found = false;

	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%*s %7s", access) == 1 && access[1] == 'w' &&
		    access[2] == 'x')
			found = true;
	}
	if (f != NULL)
		(void)fclose(f);
	return found;
}

/* Between machines. */
static void
growth_look(struct growth *g)
{
	unsigned fds = open_files();
	long kib, used_kib;

	(void)malloc_trim(0); /* what is freed does not count */
	kib = resident_kib();
	used_kib = used_bytes() / 1024;
	/* The first two warm up. */
	if (g->generations++ < 2) {
		g->first_kib = kib;
		g->first_used_kib = used_kib;
		g->first_fds = fds;
	}
	g->worst_kib = MAX(g->worst_kib, kib - g->first_kib);
	g->worst_used_kib =
	    MAX(g->worst_used_kib, used_kib - g->first_used_kib);
	g->worst_fds =
	    MAX(g->worst_fds, fds > g->first_fds ? fds - g->first_fds : 0);
}

static uint64_t
seconds_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec;
}

/* -------------------------------------------------------------------- rounds */

static void
tell_failure(struct tally *t, const struct options *o, const struct plan *plan,
    const char *what)
{
	t->failures++;
	printf("# %s\n# ", what);
	plan_print(plan, stdout);
	printf("# repeat: hostile -e %s%s -s %llu -n 1\n", o->engine,
	    o->compare ? " -c" : "", (unsigned long long)plan->seed);
	fflush(stdout);
}

static void
count(struct tally *t, const struct outcome *outcome)
{
	t->rounds++;
	t->refused += outcome->refused;
	t->timed_out += outcome->timed_out;
	for (unsigned r = 0; r < ARRAY_SIZE(t->exits); r++)
		t->exits[r] += outcome->exits[r];
}

static void
survive(struct rig *rig, const struct options *o, const struct plan *plan,
    struct image *image, struct outcome *outcome, struct tally *t)
{
	image_make(image, plan, rig_base(rig));
	rig_run(rig, plan, image, outcome);
	count(t, outcome);
	if (outcome->complaint[0] != '\0')
		tell_failure(t, o, plan, outcome->complaint);
}

/* --------------------------------------------------------------- comparison */

/* A machine of each engine, and what the last round left of the first. */
struct pair {
	struct rig *rig[2];
	struct outcome outcome[2];
	uint8_t low[LOW_SIZE], high[HIGH_SIZE];
	struct outcome again;
};

static bool
is_table(uint32_t at)
{
	return at >= TABLES && at < TABLES_END;
}

/*
 * What is left to an engine: how long it remembers page tables that were
 * changed, until it is told to forget; and when a REP that has overwritten
 * itself is fetched again.
 */
static bool
is_left_open(const struct plan *plan, const struct image *image,
    const uint8_t *low)
{
	unsigned overwritten = 0;

	for (uint32_t at = TABLES; at < TABLES_END; at++) {
		if (((low[at] ^ image->low[at]) & ~(PTE_A | PTE_D)) &&
		    world_paged(plan->world))
			return true;
	}
	for (uint32_t at = CODE; at < CODE + CODE_SIZE; at++)
		overwritten += low[at] != image->low[at];
	return overwritten > OVERWRITTEN_MAX;
}

static const char *
ends_differ(const struct plan *plan, const struct pair *p,
    const struct outcome *b, const struct rig *rig, uint32_t *at)
{
	const struct outcome *a = &p->outcome[0];
	const uint8_t *other = rig_low(rig);
	/*
	 * Accessed bits may be set early, for code ahead; dirty ones cleared
	 * behind an engine's back.
	 */
	uint8_t loose = plan->kinds & BIT(K_TABLES) ? PTE_A | PTE_D : PTE_A;

	if (a->exits[ENGINE_EXIT_TRIPLE_FAULT] !=
	    b->exits[ENGINE_EXIT_TRIPLE_FAULT])
		return "end";
	for (*at = 0; *at < LOW_SIZE; (*at)++) {
		uint8_t mask = is_table(*at) ? (uint8_t)~loose : 0xff;

		if ((p->low[*at] ^ other[*at]) & mask)
			return "memory";
	}
	if (memcmp(p->high, rig_high(rig), HIGH_SIZE) != 0)
		return "high memory";
	if (a->calls != b->calls)
		return "device accesses";
	return state_differs(&a->cpu[0], &b->cpu[0], true);
}

/*
 * Run the image on both.  What differs, or NULL; also if one of them did not
 * end, or if one does not come to the same end again.
 */
static const char *
differs(struct pair *p, const struct plan *plan, const struct image *image,
    struct tally *t, uint32_t *at)
{
	const char *what;

	for (unsigned i = 0; i < 2; i++) {
		rig_run(p->rig[i], plan, image, &p->outcome[i]);
		if (p->outcome[i].timed_out || p->outcome[i].refused) {
			if (t != NULL)
				t->timed_out++;
			return NULL;
		}
		if (i == 0) {
			memcpy(p->low, rig_low(p->rig[0]), LOW_SIZE);
			memcpy(p->high, rig_high(p->rig[0]), HIGH_SIZE);
		}
	}
	what = ends_differ(plan, p, &p->outcome[1], p->rig[1], at);
	if (what == NULL)
		return NULL;
	if (is_left_open(plan, image, p->low) ||
	    is_left_open(plan, image, rig_low(p->rig[1]))) {
		if (t != NULL)
			t->stale++;
		return NULL;
	}
	for (unsigned i = 0; i < AGAIN; i++) {
		uint32_t unused;

		rig_run(p->rig[0], plan, image, &p->again);
		if (ends_differ(plan, p, &p->again, p->rig[0], &unused) !=
		    NULL) {
			if (t != NULL)
				t->unsteady++;
			return NULL;
		}
	}
	rig_run(p->rig[1], plan, image, &p->outcome[1]);
	what = ends_differ(plan, p, &p->outcome[1], p->rig[1], at);
	if (what == NULL && t != NULL)
		t->unsteady++;
	return what;
}

/* Nothing to take away: NOPs and ends of the round. */
static bool
is_filler(const uint8_t *code, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++) {
		if (code[i] != 0x90 && code[i] != 0xe6 && code[i] != PORT_END)
			return false;
	}
	return true;
}

/* Replace code by NOPs as long as they still differ, and time allows. */
static void
shrink(struct pair *p, const struct plan *plan, struct image *image)
{
	uint64_t until = seconds_now() + SHRINK_S;
	uint8_t *code = image->low + CODE;
	uint8_t saved[CODE_SIZE];
	uint32_t at;

	for (uint32_t piece = CODE_SIZE / 4; piece > 0; piece /= 2) {
		for (uint32_t i = 0; i < CODE_SIZE && seconds_now() < until;
		     i += piece) {
			if (is_filler(code + i, piece))
				continue;
			memcpy(saved, code + i, piece);
			memset(code + i, 0x90, piece);
			if (differs(p, plan, image, NULL, &at) == NULL)
				memcpy(code + i, saved, piece);
		}
	}
}

static void
print_code(const struct image *image)
{
	const uint8_t *code = image->low + CODE;

	unsigned lines = 0;

	for (uint32_t i = 0; i < CODE_SIZE; i += 16) {
		if (is_filler(code + i, 16))
			continue;
		if (lines++ == LINES_MAX) {
			printf("# ... and more\n");
			return;
		}
		printf("# %05x:", CODE + i);
		for (unsigned n = 0; n < 16; n++)
			printf(" %02x", code[i + n]);
		printf("\n");
	}
}

static void
print_states(const struct pair *p)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct cpu_state *cpu = &p->outcome[i].cpu[0];

		printf("# %s: rip %llx rflags %llx cs %x cr0 %llx cr2 %llx "
		       "cr3 %llx cr4 %llx efer %llx %s\n",
		    i == 0 ? "interp" : "other ", (unsigned long long)cpu->rip,
		    (unsigned long long)cpu->rflags, cpu->seg[CPU_CS].selector,
		    (unsigned long long)cpu->cr0, (unsigned long long)cpu->cr2,
		    (unsigned long long)cpu->cr3, (unsigned long long)cpu->cr4,
		    (unsigned long long)cpu->efer,
		    p->outcome[i].exits[ENGINE_EXIT_TRIPLE_FAULT] ?
			"shut down" :
			"");
		for (unsigned g = 0; g < CPU_GPRS; g++)
			printf("%s%s %llx%s", g % 8 == 0 ? "#   " : "",
			    cpu_gpr_name((enum cpu_gpr)g),
			    (unsigned long long)cpu->gpr[g],
			    g % 8 == 7 ? "\n" : " ");
	}
}

static void
compare(struct pair *p, const struct options *o, const struct plan *plan,
    struct image *image, struct tally *t)
{
	char text[200];
	const char *what;
	uint32_t at = 0;

	image_make(image, plan, rig_base(p->rig[0]));
	what = differs(p, plan, image, t, &at);
	count(t, &p->outcome[1]);
	t->compared++;
	for (unsigned i = 0; i < 2; i++) {
		if (p->outcome[i].complaint[0] != '\0') {
			tell_failure(t, o, plan, p->outcome[i].complaint);
			return;
		}
	}
	if (what == NULL)
		return;
	(void)snprintf(text, sizeof(text), "%s differs%s", what,
	    strcmp(what, "memory") == 0 ? " first at" : "");
	if (strcmp(what, "memory") == 0)
		(void)snprintf(text + strlen(text), sizeof(text) - strlen(text),
		    " 0x%x", at);
	tell_failure(t, o, plan, text);
	shrink(p, plan, image);
	what = differs(p, plan, image, NULL, &at);
	printf("# cut down, %s differs:\n",
	    what != NULL ? what : "nothing any more");
	print_code(image);
	print_states(p);
	fflush(stdout);
}

/* ----------------------------------------------------------------- program */

/* 0, or a mask of what names has. */
static uint64_t
parse_names(const char *text, const char *const *names, unsigned count)
{
	char *copy = xstrdup(text), *save = NULL;
	uint64_t mask = 0;

	for (char *word = strtok_r(copy, ",", &save); word != NULL;
	     word = strtok_r(NULL, ",", &save)) {
		unsigned i = 0;

		while (i < count && strcmp(word, names[i]) != 0)
			i++;
		if (i == count && strcmp(word, "none") != 0) {
			fprintf(stderr, "hostile: %s: unknown\n", word);
			exit(EXIT_FAILURE);
		}
		if (i < count)
			mask |= BIT(i);
	}
	free(copy);
	return mask;
}

static uint64_t
parse_number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (*text == '\0' || *end != '\0') {
		fprintf(stderr, "hostile: %s: not a number\n", text);
		exit(EXIT_FAILURE);
	}
	return n;
}

static void
parse_options(struct options *o, int argc, char **argv)
{
	int opt;

	while ((opt = getopt(argc, argv, "ce:k:m:n:s:t:v")) != -1) {
		switch (opt) {
		case 'c':
			o->compare = true;
			break;
		case 'e':
			o->engine = optarg;
			break;
		case 'k':
			o->kinds = parse_names(optarg, kind_names, KINDS);
			break;
		case 'm':
			o->modes = parse_names(optarg, mode_names, MODES);
			break;
		case 'n':
			o->rounds = parse_number(optarg);
			break;
		case 's':
			o->seed = parse_number(optarg);
			break;
		case 't':
			o->seconds = (unsigned)parse_number(optarg);
			break;
		case 'v':
			o->verbose = true;
			break;
		default:
			fprintf(stderr,
			    "usage: hostile [-c] [-e ENGINE] [-k KINDS] "
			    "[-m MODES] [-n ROUNDS] [-s SEED] [-t SECONDS] "
			    "[-v]\n");
			exit(EXIT_FAILURE);
		}
	}
	if (o->kinds == 0)
		o->kinds = KINDS_ALL;
}

/* Rounds with one machine, or pair; false: no more. */
static bool
generation(struct pair *p, const struct options *o, struct image *image,
    uint64_t until, struct tally *t)
{
	for (unsigned i = 0; i < GENERATION; i++) {
		struct plan plan;

		if (t->failures >= FAILURES_MAX ||
		    (o->rounds != 0 ? t->rounds == o->rounds :
				      seconds_now() >= until))
			return false;
		plan_make(&plan, o->seed + t->rounds, o->kinds, o->modes,
		    o->compare);
		if (o->verbose) {
			printf("# ");
			plan_print(&plan, stdout);
			fflush(stdout);
		}
		if (o->compare)
			compare(p, o, &plan, image, t);
		else
			survive(p->rig[1], o, &plan, image, &p->outcome[1], t);
	}
	return true;
}

static void
case_ok(unsigned *n, bool ok, const char *what)
{
	printf("%s %u - %s\n", ok ? "ok" : "not ok", ++*n, what);
}

static bool
report(const struct options *o, const struct tally *t, const struct growth *g,
    bool writable_code)
{
	bool grown = g->worst_kib > GROWTH_MAX_KIB ||
	    g->worst_used_kib > GROWTH_USED_MAX_KIB || g->worst_fds != 0 ||
	    g->peak_kib > RESIDENT_MAX_KIB;
	unsigned n = 0;

	printf("# %llu rounds: %llu kicked out, %llu shut down, %llu refused "
	       "states, %llu to the end of their time\n",
	    (unsigned long long)t->rounds,
	    (unsigned long long)t->exits[ENGINE_EXIT_KICKED],
	    (unsigned long long)t->exits[ENGINE_EXIT_TRIPLE_FAULT],
	    (unsigned long long)t->refused, (unsigned long long)t->timed_out);
	if (o->compare)
		printf("# %llu compared, %llu do not end twice alike, %llu "
		       "differ in what is left open\n",
		    (unsigned long long)t->compared,
		    (unsigned long long)t->unsteady,
		    (unsigned long long)t->stale);
	printf("# back after a kick: at most %.1f ms of CPU, %.1f ms by the "
	       "clock\n",
	    (double)t->worst.cpu_ns / 1e6, (double)t->worst.wall_ns / 1e6);
	printf("# %u machines: %ld KiB resident, %ld KiB in use, %u files more "
	       "than after the second; "
	       "at most %ld KiB resident\n",
	    g->generations, g->worst_kib, g->worst_used_kib, g->worst_fds,
	    g->peak_kib);
	case_ok(&n, t->failures == 0,
	    o->compare ? "both engines come to the same ends" :
			 "hostile guests do no harm");
	case_ok(&n, !grown, "the process does not grow");
	case_ok(&n, !writable_code, "no memory is writable and executable");
	printf("1..%u\n", n);
	return t->failures == 0 && !grown && !writable_code;
}

int
main(int argc, char **argv)
{
	struct options o = { .engine = "jit",
		.modes = M_ALL,
		.seed = 1,
		.seconds = 10 };
	const struct rig_limits limits = { BACK_CPU_MS, BACK_WALL_MS };
	struct pair *p = xcalloc(1, sizeof(*p));
	struct image *image = xcalloc(1, sizeof(*image));
	struct growth growth = { 0 };
	struct tally t = { 0 };
	bool more = true, writable_code = false;
	uint64_t until;

	parse_options(&o, argc, argv);
	/* Fewer places where freed memory stays. */
	(void)mallopt(M_ARENA_MAX, 1);
	until = seconds_now() + o.seconds;
	while (more) {
		/* The machine, too, comes from the seed that repeats a round. */
		uint64_t seed = o.seed + t.rounds;
		struct err err = { 0 };
		int rc = 0;

		if (o.compare)
			rc = rig_new("interp", seed, &limits, &p->rig[0], &err);
		if (rc == 0)
			rc = rig_new(o.engine, seed, &limits, &p->rig[1], &err);
		if (rc != 0) {
			printf("1..0 # skip %s\n", err.msg);
			return EXIT_SKIP;
		}
		writable_code = writable_code || has_writable_code();
		more = generation(p, &o, image, until, &t);
		writable_code = writable_code || has_writable_code();
		growth.peak_kib = MAX(growth.peak_kib, resident_kib());
		for (unsigned i = 0; i < 2; i++) {
			struct rig_worst worst = { 0 };

			if (p->rig[i] != NULL)
				worst = rig_worst(p->rig[i]);
			t.worst.cpu_ns = MAX(t.worst.cpu_ns, worst.cpu_ns);
			t.worst.wall_ns = MAX(t.worst.wall_ns, worst.wall_ns);
			rig_free(p->rig[i]);
			p->rig[i] = NULL;
		}
		growth_look(&growth);
	}
	more = report(&o, &t, &growth, writable_code);
	free(image);
	free(p);
	return more ? EXIT_SUCCESS : EXIT_FAILURE;
}
