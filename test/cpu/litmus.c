/*
 * Litmus tests: what order of memory accesses vCPUs see of each other.
 *
 * Each test is a few instructions for each of two to four vCPUs, run over an
 * array of cells, and an outcome to look for in each cell afterwards.  x86
 * processors (SDM 8.2, "total store order") let a load pass an earlier store to
 * another address and nothing else, so that most of the outcomes must never be
 * seen.  Those that are allowed are counted: an engine that never shows any is
 * right as well.
 *
 * usage: litmus [-e ENGINE] [-n ROUNDS]
 *
 *      -e  the engine (jit); "native" runs the same code in this process
 *      -n  cells visited by each test of two vCPUs; others take less
 *
 * Guest memory  0x1000 page tables, 0x4000 an OUT for the end, 0x5000 stacks,
 *               0x10000 the code of litmus_guest.S, 2 MiB the cells.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

#define VCPUS 4u
#define RAM_SIZE (6 * MIB)
#define PML4 0x1000u
#define PDPT 0x2000u
#define PD 0x3000u
#define STUB 0x4000u
#define STACKS 0x6000u /* below: vCPU n's */
#define STACK_SIZE 0x1000u
#define CODE 0x10000u
#define CELLS (2 * MIB)
#define PORT_END 0x10

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_PS BIT(7)

struct cell {
	uint32_t x[16], y[16], meet[16], ra[16], rb[16];
};
_Static_assert(sizeof(struct cell) == 320, "CELL in litmus_guest.S");
#define BATCH 8192u

typedef void thread_fn(struct cell *cells, uint64_t count, uint32_t threads,
    uint32_t patience, uint32_t seed);
extern const uint8_t litmus_code[], litmus_code_end[];
thread_fn litmus_sb0, litmus_sb1, litmus_sb_fence0, litmus_sb_fence1,
    litmus_sb_xchg0, litmus_sb_xchg1, litmus_sb_lock0, litmus_sb_lock1,
    litmus_mp0, litmus_mp1, litmus_mp_string0, litmus_lb0, litmus_lb1,
    litmus_r1, litmus_s0, litmus_s1, litmus_w0, litmus_w1, litmus_x,
    litmus_wrc1, litmus_y, litmus_iriw2, litmus_iriw3, litmus_torn0,
    litmus_torn1, litmus_count, litmus_spin;

/* ---- the tests ---------------------------------------------------------- */

static bool
saw_sb(const struct cell *c)
{
	return c->ra[0] == 0 && c->rb[0] == 0;
}

static bool
saw_mp(const struct cell *c)
{
	return c->rb[0] == 1 && c->rb[1] == 0;
}

static bool
saw_lb(const struct cell *c)
{
	return c->ra[0] == 1 && c->rb[0] == 1;
}

static bool
saw_r(const struct cell *c)
{
	return c->y[0] == 2 && c->rb[0] == 0;
}

static bool
saw_s(const struct cell *c)
{
	return c->rb[0] == 1 && c->x[0] == 2;
}

static bool
saw_w(const struct cell *c)
{
	return c->x[0] == 1 && c->y[0] == 1;
}

static bool
saw_wrc(const struct cell *c)
{
	return c->ra[0] == 1 && c->rb[0] == 1 && c->rb[1] == 0;
}

static bool
saw_iriw(const struct cell *c)
{
	return c->ra[0] == 1 && c->ra[1] == 0 && c->rb[0] == 1 && c->rb[1] == 0;
}

static bool
saw_torn(const struct cell *c)
{
	return c->rb[0] != c->rb[1];
}

static bool
saw_miscount(const struct cell *c)
{
	uint32_t across;

	memcpy(&across, (const uint8_t *)c->ra + 62, 4);
	return c->x[0] != 8 * VCPUS || across != 3 * VCPUS;
}

static bool
saw_intruder(const struct cell *c)
{
	return c->y[0] != VCPUS || c->y[1] != VCPUS;
}

static const struct test {
	const char *name, *outcome;
	bool (*saw)(const struct cell *c);
	bool allowed;
	unsigned threads;
	unsigned divisor; /* of the rounds: what takes longer is done less */
	thread_fn *thread[VCPUS];
} tests[] = {
	{ "SB", "both loads pass the stores", saw_sb, true, 2, 1,
	    { litmus_sb0, litmus_sb1 } },
	{ "SB with MFENCE", "both loads pass the stores", saw_sb, false, 2, 1,
	    { litmus_sb_fence0, litmus_sb_fence1 } },
	{ "SB with XCHG", "both loads pass the stores", saw_sb, false, 2, 1,
	    { litmus_sb_xchg0, litmus_sb_xchg1 } },
	{ "SB with LOCK elsewhere", "both loads pass the stores", saw_sb, false,
	    2, 1, { litmus_sb_lock0, litmus_sb_lock1 } },
	{ "MP", "the flag without the message", saw_mp, false, 2, 1,
	    { litmus_mp0, litmus_mp1 } },
	{ "MP by REP STOS", "the flag without the message", saw_mp, false, 2, 1,
	    { litmus_mp_string0, litmus_mp1 } },
	{ "LB", "both loads see later stores", saw_lb, false, 2, 1,
	    { litmus_lb0, litmus_lb1 } },
	{ "R", "the load passes the store", saw_r, true, 2, 1,
	    { litmus_mp0, litmus_r1 } },
	{ "S", "stores out of order", saw_s, false, 2, 1,
	    { litmus_s0, litmus_s1 } },
	{ "2+2W", "stores out of order", saw_w, false, 2, 1,
	    { litmus_w0, litmus_w1 } },
	{ "8 bytes", "half of a store", saw_torn, false, 2, 1,
	    { litmus_torn0, litmus_torn1 } },
	{ "WRC", "an effect without its cause", saw_wrc, false, 3, 4,
	    { litmus_x, litmus_wrc1, litmus_mp1 } },
	{ "IRIW", "two stores in two orders", saw_iriw, false, 4, 4,
	    { litmus_x, litmus_y, litmus_iriw2, litmus_iriw3 } },
	{ "locked counters", "a lost count", saw_miscount, false, 4, 16,
	    { litmus_count, litmus_count, litmus_count, litmus_count } },
	{ "a spin lock", "two inside", saw_intruder, false, 4, 16,
	    { litmus_spin, litmus_spin, litmus_spin, litmus_spin } },
};

/* ---- machine ------------------------------------------------------------ */

struct litmus {
	struct mem *mem;
	struct engine *engine; /* NULL: natively */
	struct cell *cells;
	uint32_t patience;
	struct worker {
		struct litmus *litmus;
		unsigned id;
		pthread_t thread;
		struct engine_vcpu *vcpu;
		struct cpu_state start; /* as at the first instruction */
		bool ended;
	} worker[VCPUS];
	pthread_barrier_t begin, end;
	/* between begin and end */
	const struct test *test;
	uint32_t batch, count; /* number; cells in it */
	bool stop;
};

static void
host_pio(void *arg, unsigned vcpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	struct litmus *l = arg;

	if (!write)
		memset(data, 0xff, size * count);
	if (write && port == PORT_END) {
		l->worker[vcpu].ended = true;
		engine_kick(l->worker[vcpu].vcpu);
	}
}

static void
host_mmio(void *arg, unsigned vcpu, gpa_t gpa, bool write, unsigned size,
    void *data)
{
	if (!write)
		memset(data, 0xff, size);
}

static uint8_t
host_intack(void *arg)
{
	return 0xff;
}

static bool
host_intr(void *arg)
{
	return false;
}

static void
host_eoi(void *arg, uint8_t vector)
{
}

static _Noreturn void
die(const struct err *err)
{
	printf("Bail out! %s\n", err->msg);
	exit(1);
}

static void
put(struct litmus *l, gpa_t gpa, const void *data, size_t len)
{
	int rc = mem_write(l->mem, gpa, data, len);

	assert(rc == 0);
	(void)rc;
}

static void
put64(struct litmus *l, gpa_t gpa, uint64_t value)
{
	put(l, gpa, &value, 8);
}

static void
segment(struct cpu_segment *seg, uint16_t selector, uint32_t access)
{
	*seg = (struct cpu_segment) { 0, 0xffffffff, access, selector };
}

/* Ring 0 of 64-bit mode, interrupts off, memory mapped one to one. */
static void
fill_start(struct cpu_state *cpu, unsigned id)
{
	cpu->cr0 = 0x80050033;
	cpu->cr3 = PML4;
	cpu->cr4 = 0x620;
	cpu->efer = 0x500;
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		segment(&cpu->seg[i], 0x18, 0xc093);
	segment(&cpu->seg[CPU_CS], 0x10, 0xa09b);
	segment(&cpu->seg[CPU_LDTR], 0, CPU_SEG_UNUSABLE);
	segment(&cpu->seg[CPU_TR], 0x40, 0x8b);
	cpu->seg[CPU_TR].limit = 0x67;
	cpu->rflags = 2;
	cpu->gpr[CPU_RSP] = STACKS + (id + 1) * STACK_SIZE - 8;
	cpu->run_state = CPU_RUNNING;
	cpu->msr_count = 0;
}

static void
fill_memory(struct litmus *l)
{
	static const uint8_t stub[] = { 0xe6, PORT_END, 0xeb, 0xfe };

	put64(l, PML4, PDPT | PTE_P | PTE_W);
	put64(l, PDPT, PD | PTE_P | PTE_W);
	for (unsigned i = 0; i < RAM_SIZE / (2 * MIB); i++)
		put64(l, PD + 8 * i, i * 2 * MIB | PTE_P | PTE_W | PTE_PS);
	put(l, STUB, stub, sizeof(stub));
	put(l, CODE, litmus_code, (size_t)(litmus_code_end - litmus_code));
	for (unsigned i = 0; i < VCPUS; i++)
		put64(l, STACKS + (i + 1) * STACK_SIZE - 8, STUB);
}

static void
engine_make(struct litmus *l, const char *name)
{
	static const struct mem_params mem_params;
	struct engine_params params = {
		.vcpus = VCPUS,
		.sockets = 1,
		.cores = VCPUS,
		.threads = 1,
		.host = { .pio = host_pio,
		    .mmio = host_mmio,
		    .intack = host_intack,
		    .intr = host_intr,
		    .eoi = host_eoi,
		    .arg = l },
	};
	struct err err = { .msg = "no memory" };

	_Static_assert(BATCH * sizeof(struct cell) <= RAM_SIZE - CELLS,
	    "all cells fit");
	params.mem = l->mem = mem_new(&mem_params);
	if (l->mem == NULL ||
	    mem_add(l->mem, "ram", MEM_RAM, 0, RAM_SIZE, &err) < 0)
		die(&err);
	fill_memory(l);
	l->cells = mem_ptr_write(l->mem, CELLS, BATCH * sizeof(struct cell));
	if (engine_new(name, &params, &l->engine, &err) < 0)
		die(&err);
}

/* On its own thread, as engines want it. */
static void
vcpu_make(struct worker *w)
{
	struct err err;

	if (engine_vcpu_new(w->litmus->engine, w->id, &w->vcpu, &err) < 0 ||
	    engine_get(w->vcpu, &w->start, &err) < 0)
		die(&err);
	fill_start(&w->start, w->id);
}

static void
vcpu_run(struct worker *w, const struct test *test, uint32_t patience,
    uint32_t seed)
{
	static _Thread_local struct cpu_state cpu;
	struct engine_exit exit;
	struct err err;

	cpu = w->start;
	cpu.rip = CODE +
	    (uint64_t)((const uint8_t *)(uintptr_t)test->thread[w->id] -
		litmus_code);
	cpu.gpr[CPU_RDI] = CELLS;
	cpu.gpr[CPU_RSI] = w->litmus->count;
	cpu.gpr[CPU_RDX] = test->threads;
	cpu.gpr[CPU_RCX] = patience;
	cpu.gpr[CPU_R8] = seed;
	w->ended = false;
	if (engine_set(w->vcpu, &cpu, &err) < 0)
		die(&err);
	do {
		engine_run(w->vcpu, &exit);
	} while (exit.reason == ENGINE_EXIT_KICKED && !w->ended);
	if (exit.reason == ENGINE_EXIT_ERROR)
		die(&exit.err);
	if (exit.reason != ENGINE_EXIT_KICKED) {
		err_set(&err, -EIO, "vCPU %u ended with reason %d", w->id,
		    exit.reason);
		die(&err);
	}
}

static void *
worker_main(void *arg)
{
	struct worker *w = arg;
	struct litmus *l = w->litmus;

	if (l->engine != NULL)
		vcpu_make(w);
	for (;;) {
		/* With more threads than processors waiting is in vain. */
		uint32_t patience, seed;

		(void)pthread_barrier_wait(&l->begin);
		if (l->stop)
			break;
		patience = l->test->threads == 2 ? l->patience : 100;
		seed = l->batch * VCPUS + w->id;
		if (w->id >= l->test->threads)
			;
		else if (l->engine != NULL)
			vcpu_run(w, l->test, patience, seed);
		else
			l->test->thread[w->id](l->cells, l->count,
			    l->test->threads, patience, seed);
		(void)pthread_barrier_wait(&l->end);
	}
	engine_vcpu_free(w->vcpu);
	return NULL;
}

/* ---- main --------------------------------------------------------------- */

static uint64_t
run_test(struct litmus *l, const struct test *test, uint64_t rounds)
{
	uint64_t seen = 0;

	l->test = test;
	l->count = (uint32_t)MIN(BATCH, rounds);
	for (uint64_t b = 0; b * BATCH < rounds; b++) {
		memset(l->cells, 0, BATCH * sizeof(struct cell));
		if (l->engine != NULL)
			mem_wrote(l->mem, CELLS, BATCH * sizeof(struct cell));
		l->batch = (uint32_t)b;
		(void)pthread_barrier_wait(&l->begin);
		(void)pthread_barrier_wait(&l->end);
		for (unsigned i = 0; i < l->count; i++)
			seen += test->saw(&l->cells[i]);
	}
	return seen;
}

static void
start(struct litmus *l, const char *engine)
{
	static struct cell *native;

	if (strcmp(engine, "native") == 0) {
		native = aligned_alloc(64, BATCH * sizeof(struct cell));
		l->cells = native;
		if (native == NULL)
			die(&(struct err) { "no memory" });
	} else {
		engine_make(l, engine);
	}
	(void)pthread_barrier_init(&l->begin, NULL, VCPUS + 1);
	(void)pthread_barrier_init(&l->end, NULL, VCPUS + 1);
	for (unsigned i = 0; i < VCPUS; i++) {
		l->worker[i].litmus = l;
		l->worker[i].id = i;
		if (pthread_create(&l->worker[i].thread, NULL, worker_main,
			&l->worker[i]) != 0)
			die(&(struct err) { "no thread" });
	}
}

static void
stop(struct litmus *l)
{
	l->stop = true;
	(void)pthread_barrier_wait(&l->begin);
	for (unsigned i = 0; i < VCPUS; i++)
		(void)pthread_join(l->worker[i].thread, NULL);
	(void)pthread_barrier_destroy(&l->begin);
	(void)pthread_barrier_destroy(&l->end);
	if (l->engine == NULL)
		free(l->cells);
	engine_free(l->engine);
	mem_free(l->mem);
}

int
main(int argc, char **argv)
{
	static struct litmus litmus;
	const char *engine = "jit";
	uint64_t rounds = 100000;
	unsigned failures = 0;
	int c;

	while ((c = getopt(argc, argv, "e:n:")) != -1) {
		if (c == 'e') {
			engine = optarg;
		} else if (c == 'n') {
			rounds = strtoull(optarg, NULL, 0);
		} else {
			fprintf(stderr,
			    "usage: litmus [-e ENGINE] "
			    "[-n ROUNDS]\n");
			return 2;
		}
	}
	/* An interpreter waits long for the same count. */
	litmus.patience = strcmp(engine, "interp") == 0 ? 200 : 20000;
	start(&litmus, engine);
	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++) {
		const struct test *test = &tests[i];
		uint64_t n = MAX(rounds / test->divisor, 1u);
		uint64_t seen = run_test(&litmus, test, n);
		bool ok = seen == 0 || test->allowed;

		failures += !ok;
		printf("%sok %u - %s: %s: %" PRIu64 " of %" PRIu64 "%s\n",
		    ok ? "" : "not ", i + 1, test->name, test->outcome, seen, n,
		    test->allowed ? " (allowed)" : "");
		(void)fflush(stdout);
	}
	stop(&litmus);
	printf("1..%zu\n", ARRAY_SIZE(tests));
	return failures == 0 ? 0 : 1;
}
