/*
 * The machine that hostile guests run in: an engine, memory between guards, a
 * thread for each vCPU, and devices that answer anything.
 *
 * Threads      The caller's thread is the tormentor: while the vCPUs run it
 *              sends them interrupts, writes into their code as a device would,
 *              and kicks them.  Devices are called on the vCPUs' threads and do
 *              some of that too.
 * Kicks        One kick must be enough, so the last one of a round is the only
 *              one, and what it takes is measured: by the clock, and by the CPU
 *              time of the vCPU's thread, which a busy host does not change.
 * Strays       Guest memory stands between pages without access.  A signal of
 *              the kind that an address leads nowhere is noted before it goes
 *              on to the engine, which would take one in translated code for a
 *              guest's vector instruction.
 */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "test/cpu/hostile.h"

#define GUARD (64 * KIB)
#define HANG_NS (20 * NS_PER_SEC)
#define COMPARE_NS (NS_PER_SEC / 10)
#define PIO_BYTES_MAX 65536u
#define REGIONS 3u
#define DIRTY_WORDS 4u /* pages of the largest region / 64 */
_Static_assert(LOW_SIZE / MEM_PAGE_SIZE <= 64 * DIRTY_WORDS &&
	HIGH_SIZE <= LOW_SIZE && ROM_SIZE <= LOW_SIZE,
    "the largest region");

struct worker {
	struct rig *rig;
	struct engine_vcpu *vcpu;
	unsigned id;
	pthread_t thread;
	bool started;
	sem_t go, done;
	atomic_bool idle; /* done has been, or will be, posted */
	/* Of a kick that is measured; 0: none. */
	_Atomic uint64_t kicked_at, kicked_cpu;
	unsigned exits[4];
};

struct rig {
	struct mem *mem;
	struct engine *engine;
	struct worker worker[VCPUS];
	struct cpu_state base[VCPUS];
	struct rig_limits limits;
	struct {
		void *at[2];
	} guard[REGIONS];
	uint8_t rom[ROM_SIZE];
	uint64_t dirty[REGIONS][DIRTY_WORDS];
	const struct image *image;

	/* The round. */
	const struct plan *plan;
	struct outcome *outcome;
	pthread_mutex_t complaint_lock;
	atomic_bool stop;  /* come back and stay out */
	atomic_bool ended; /* the guest says so */
	atomic_bool leave; /* the threads end */
	atomic_bool wire;  /* INTR */
	_Atomic uint64_t calls;
	_Atomic uint64_t calls_hash;
	_Atomic uint64_t worst_cpu, worst_wall;
};

/* ------------------------------------------------------------------ strays */

static struct sigaction before_segv, before_bus;
static _Atomic unsigned strays;
static _Atomic uintptr_t stray_address, stray_code;

static void
on_signal(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	const struct sigaction *before =
	    signal == SIGSEGV ? &before_segv : &before_bus;

	if (signal == SIGBUS || info->si_code == SEGV_MAPERR ||
	    info->si_code == SEGV_ACCERR) {
		if (atomic_fetch_add(&strays, 1) == 0) {
			atomic_store(&stray_address, (uintptr_t)info->si_addr);
			atomic_store(&stray_code,
			    (uintptr_t)uc->uc_mcontext.gregs[REG_RIP]);
		}
	}
	if (before->sa_flags & SA_SIGINFO)
		before->sa_sigaction(signal, info, context);
	else
		(void)sigaction(signal, before, NULL);
}

/* After the engine has set its own. */
static void
signals_install(void)
{
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigemptyset(&action.sa_mask);
	(void)sigaction(SIGSEGV, &action, &before_segv);
	(void)sigaction(SIGBUS, &action, &before_bus);
}

unsigned
rig_strays(char *what, size_t len)
{
	unsigned n = atomic_load(&strays);

	if (n != 0)
		(void)snprintf(what, len,
		    "%u accesses where nothing is; the first of 0x%llx at "
		    "0x%llx",
		    n, (unsigned long long)atomic_load(&stray_address),
		    (unsigned long long)atomic_load(&stray_code));
	return n;
}

/* ------------------------------------------------------------------- helpers */

static uint64_t
now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void PRINTF_LIKE(2, 3) complain(struct rig *rig, const char *fmt, ...)
{
	va_list args;

	pthread_mutex_lock(&rig->complaint_lock);
	if (rig->outcome->complaint[0] == '\0') {
		va_start(args, fmt);
		(void)vsnprintf(rig->outcome->complaint,
		    sizeof(rig->outcome->complaint), fmt, args);
		va_end(args);
	}
	pthread_mutex_unlock(&rig->complaint_lock);
}

static void
raise_to(_Atomic uint64_t *most, uint64_t value)
{
	uint64_t was = atomic_load(most);

	while (was < value && !atomic_compare_exchange_weak(most, &was, value))
		;
}

/* ---------------------------------------------------------------- torments */

static void
send_message(struct rig *rig, struct rng *rng)
{
	struct engine_msi msi = {
		.addr = APIC | rng_below(rng, 4) << 12 | rng_below(rng, 4) << 2,
		.data = 0x20 + rng_below(rng, 0xe0),
	};

	if (rng_chance(rng, 5))
		msi.addr = APIC | (rng_next(rng) & 0xfffff);
	if (!(rig->plan->modes & M_JAIL) && rng_chance(rng, 30)) {
		msi.data = (uint32_t)rng_next(rng) & 0xc7ff;
		/* INIT ends what there is to see; seldom, then. */
		if ((msi.data >> 8 & 7) == 5 && rng_chance(rng, 70))
			msi.data &= 0xc0ff;
	}
	(void)engine_send_msi(rig->engine, &msi); /* may have no target */
}

/* As a device writes: a piece of code, a byte, a table's entry. */
static void
write_memory(struct rig *rig, struct rng *rng)
{
	unsigned bits = world_bits(rig->plan->world);
	uint8_t code[CODE_ONE_MAX];
	uint32_t at =
	    CODE + rng_below(rng, 2) * (CODE_SIZE / 2) + rng_below(rng, 0x2000);
	unsigned len = code_one(rig->plan, rng, bits, code, at);
	uint64_t word = rng_wild(rng);

	switch (rng_below(rng, 6)) {
	case 0:
	case 1:
		(void)mem_write(rig->mem, at, code, len);
		break;
	case 2:
		(void)mem_write(rig->mem, at & ~7u, &word, 8);
		break;
	case 3:
		(void)mem_fill(rig->mem, at, 0x90, 1 + rng_below(rng, 0x800));
		break;
	default:
		if (!(rig->plan->modes & M_JAIL))
			at = TABLES + rng_below(rng, TABLES_END - TABLES);
		(void)mem_write(rig->mem, at & ~7u, &word, 8);
		break;
	}
}

static void
torment(struct rig *rig, struct rng *rng)
{
	unsigned id = rng_below(rng, rig->plan->vcpus);
	struct engine_msi msi = { APIC, 0x20 + rng_below(rng, 0xe0) };

	switch (rng_below(rng, 12)) {
	case 0:
	case 1:
	case 2:
		send_message(rig, rng);
		break;
	case 3:
		engine_nmi(rig->worker[id].vcpu);
		break;
	case 4:
	case 5:
		atomic_store(&rig->wire, rng_chance(rng, 80));
		engine_intr(rig->engine);
		break;
	case 6:
		engine_kick(rig->worker[id].vcpu);
		break;
	case 7:
		engine_watch_eoi(rig->engine, rng_below(rng, ENGINE_EOI_PINS),
		    rng_chance(rng, 70) ? &msi : NULL);
		break;
	default:
		write_memory(rig, rng);
		break;
	}
}

/* ------------------------------------------------------------------ devices */

/*
 * The number of an item that a device is asked for, and random numbers of its
 * own: it does not matter how many items come in one call.
 */
static struct rng
call_rng(struct rig *rig)
{
	return (struct rng) { rig->plan->seed ^
		atomic_fetch_add(&rig->calls, 1) << 40 };
}

static void
note_call(struct rig *rig, uint64_t what, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t h = atomic_load(&rig->calls_hash) ^ what;

	for (size_t i = 0; i < len; i++)
		h = (h ^ p[i]) * 0x100000001b3;
	atomic_store(&rig->calls_hash, h * 0x9e3779b97f4a7c15);
}

static void
answer(struct rig *rig, bool write, uint64_t what, void *data, size_t size,
    uint32_t count)
{
	struct rng rng = { 0 };
	uint8_t *p = data;

	for (uint32_t n = 0; n < count; n++, p += size) {
		rng = call_rng(rig);
		for (size_t i = 0; i < size && !write; i++)
			p[i] = (uint8_t)rng_next(&rng);
		note_call(rig, what << 1 | write, p, size);
	}
	if ((rig->plan->modes & M_EVENTS) && rng_chance(&rng, 3))
		torment(rig, &rng);
}

static void
host_pio(void *arg, unsigned vcpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	struct rig *rig = arg;

	if (vcpu >= rig->plan->vcpus || (size != 1 && size != 2 && size != 4) ||
	    count == 0 || (uint64_t)size * count > PIO_BYTES_MAX)
		complain(rig, "pio of vCPU %u, %u times %u bytes", vcpu, count,
		    size);
	else if ((rig->plan->modes & M_JAIL) && (port != PORT_END || !write))
		complain(rig, "port 0x%x reached from jail", port);
	else
		answer(rig, write, port, data, size, count);
	if (port == PORT_END && write) {
		atomic_store(&rig->ended, true);
		engine_kick(rig->worker[vcpu].vcpu);
	}
}

static bool
is_ram(gpa_t gpa)
{
	return gpa < LOW_SIZE || (gpa >= HIGH && gpa < HIGH + HIGH_SIZE);
}

static void
host_mmio(void *arg, unsigned vcpu, gpa_t gpa, bool write, unsigned size,
    void *data)
{
	struct rig *rig = arg;

	if (vcpu >= rig->plan->vcpus || size == 0 || size > 8 ||
	    (gpa & 7) + size > 8)
		complain(rig, "mmio of vCPU %u, %u bytes at 0x%llx", vcpu, size,
		    (unsigned long long)gpa);
	else if (is_ram(gpa) || (!write && gpa >= ROM && gpa < HIGH))
		complain(rig, "mmio at 0x%llx, which is memory",
		    (unsigned long long)gpa);
	else if (rig->plan->modes & M_JAIL)
		complain(rig, "device at 0x%llx reached from jail",
		    (unsigned long long)gpa);
	else
		answer(rig, write, gpa, data, size, 1);
}

static uint8_t
host_intack(void *arg)
{
	struct rig *rig = arg;
	struct rng rng = call_rng(rig);

	if (rng_chance(&rng, 60))
		atomic_store(&rig->wire, false);
	if (rig->plan->modes & M_JAIL)
		return (uint8_t)(0x20 + rng_below(&rng, 0xe0));
	return (uint8_t)rng_next(&rng);
}

static bool
host_intr(void *arg)
{
	struct rig *rig = arg;

	return atomic_load(&rig->wire);
}

static void
host_eoi(void *arg, uint8_t vector)
{
	struct rig *rig = arg;
	struct rng rng = call_rng(rig);

	if (rng_chance(&rng, 5))
		torment(rig, &rng);
}

/* ------------------------------------------------------------------ workers */

static void
measure(struct rig *rig, struct worker *w)
{
	uint64_t at = atomic_exchange(&w->kicked_at, 0);
	uint64_t wall, cpu;

	if (at == 0)
		return;
	wall = now_ns(CLOCK_MONOTONIC) - at;
	cpu = atomic_load(&w->kicked_cpu);
	/* Unknown if it was back before the kick's end. */
	cpu = cpu == UINT64_MAX ? 0 : now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
	raise_to(&rig->worst_wall, wall);
	raise_to(&rig->worst_cpu, cpu);
	if (cpu / 1000000 > rig->limits.cpu_ms)
		complain(rig, "vCPU %u took %llu ms of CPU to come back", w->id,
		    (unsigned long long)(cpu / 1000000));
	if (wall / 1000000 > rig->limits.wall_ms)
		complain(rig, "vCPU %u took %llu ms to come back", w->id,
		    (unsigned long long)(wall / 1000000));
}

/* What engine_get() says, engine_set() must take. */
static void
set_what_was_got(struct rig *rig, struct worker *w, struct cpu_state *state)
{
	struct err err = { 0 };

	if (engine_get(w->vcpu, state, &err) != 0)
		complain(rig, "vCPU %u: engine_get: %s", w->id, err.msg);
	else if (engine_set(w->vcpu, state, &err) != 0)
		complain(rig, "vCPU %u: engine_set of what engine_get said: %s",
		    w->id, err.msg);
}

static bool
over(struct rig *rig, struct worker *w, const struct engine_exit *exit)
{
	switch (exit->reason) {
	case ENGINE_EXIT_KICKED:
		break;
	case ENGINE_EXIT_TRIPLE_FAULT:
		return true;
	case ENGINE_EXIT_ERROR:
		complain(rig, "vCPU %u cannot go on: %s", w->id, exit->err.msg);
		return true;
	default:
		complain(rig, "vCPU %u came back for reason %d", w->id,
		    (int)exit->reason);
		return true;
	}
	if (atomic_load(&rig->stop) || atomic_load(&rig->ended))
		return true;
	return engine_halted(w->vcpu) && rig->plan->vcpus == 1 &&
	    !(rig->plan->modes & M_EVENTS);
}

static void
work(struct rig *rig, struct worker *w)
{
	struct engine_exit exit;
	struct cpu_state state;
	unsigned times = 0;

	for (;;) {
		memset(&exit, 0, sizeof(exit));
		engine_run(w->vcpu, &exit);
		measure(rig, w);
		if ((unsigned)exit.reason < ARRAY_SIZE(w->exits))
			w->exits[exit.reason]++;
		if (over(rig, w, &exit))
			return;
		if (!rig->plan->compare && times++ % 4 == 0)
			set_what_was_got(rig, w, &state);
	}
}

static void *
worker_thread(void *arg)
{
	struct worker *w = arg;
	struct rig *rig = w->rig;

	for (;;) {
		while (sem_wait(&w->go) != 0)
			; /* a signal */
		if (atomic_load(&rig->leave))
			return NULL;
		work(rig, w);
		atomic_store(&w->idle, true);
		sem_post(&w->done);
	}
}

/* ------------------------------------------------------------------- rounds */

static void
kick_measured(struct worker *w)
{
	clockid_t clock;

	if (pthread_getcpuclockid(w->thread, &clock) != 0) {
		engine_kick(w->vcpu);
		return;
	}
	atomic_store(&w->kicked_cpu, UINT64_MAX);
	atomic_store(&w->kicked_at, now_ns(CLOCK_MONOTONIC));
	engine_kick(w->vcpu);
	/* Behind it: a busy host may have kept us from running before. */
	atomic_store(&w->kicked_cpu, now_ns(clock));
}

static void
await(struct rig *rig, struct worker *w)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += HANG_NS / NS_PER_SEC;
	while (sem_timedwait(&w->done, &until) != 0) {
		if (errno != ETIMEDOUT)
			continue;
		printf("# vCPU %u hangs: ", w->id);
		plan_print(rig->plan, stdout);
		fflush(stdout);
		abort();
	}
}

static void
fetch_dirty(struct rig *rig)
{
	for (unsigned i = 0; i < mem_region_count(rig->mem); i++) {
		uint64_t bitmap[DIRTY_WORDS] = { 0 };
		struct err err;

		if (mem_dirty_fetch(rig->mem, i, bitmap, &err) != 0)
			complain(rig, "mem_dirty_fetch: %s", err.msg);
		for (unsigned n = 0; n < DIRTY_WORDS; n++)
			rig->dirty[i][n] |= bitmap[n];
	}
}

/* While the vCPUs run. */
static void
oversee(struct rig *rig)
{
	const struct plan *plan = rig->plan;
	struct rng rng = { plan->seed ^ 0x5851f42d4c957f2d };
	uint64_t slice = plan->compare ? COMPARE_NS : plan->slice_us * 1000ULL;
	uint64_t begin = now_ns(CLOCK_MONOTONIC);
	struct timespec nap = { 0 };
	bool idle = false;

	while (!idle && now_ns(CLOCK_MONOTONIC) - begin < slice) {
		nap.tv_nsec = 30000 + rng_below(&rng, 100000);
		if (plan->modes & M_EVENTS) {
			for (unsigned n = rng_below(&rng, 6); n > 0; n--)
				torment(rig, &rng);
			nap.tv_nsec /= 4;
		}
		(void)nanosleep(&nap, NULL); /* a signal may end it early */
		if ((plan->modes & M_DIRTY) && rng_chance(&rng, 30))
			fetch_dirty(rig);
		/* So that a halted one is seen. */
		idle = true;
		for (unsigned i = 0; i < plan->vcpus; i++) {
			if (atomic_load(&rig->worker[i].idle))
				continue;
			idle = false;
			if (plan->compare || rng_chance(&rng, 20))
				engine_kick(rig->worker[i].vcpu);
		}
		idle = idle || atomic_load(&rig->ended);
	}
	rig->outcome->timed_out = !idle;
}

static bool
put_image(struct rig *rig, const struct image *image)
{
	const struct plan *plan = rig->plan;
	struct err err = { 0 };

	(void)mem_write(rig->mem, 0, image->low, LOW_SIZE);
	(void)mem_write(rig->mem, HIGH, image->high, HIGH_SIZE);
	for (unsigned i = 0; i < VCPUS; i++) {
		struct cpu_state state =
		    i < plan->vcpus ? image->cpu[i] : rig->base[i];

		if (engine_set(rig->worker[i].vcpu, &state, &err) == 0)
			continue;
		/* A unit that it lacks, perhaps. */
		state.xcr0 = 1;
		if (engine_set(rig->worker[i].vcpu, &state, &err) == 0)
			continue;
		rig->outcome->refused = true;
		if (!(plan->modes & M_FORGED))
			complain(rig, "engine_set: %s", err.msg);
		return false;
	}
	return true;
}

/* ------------------------------------------------------------------- checks */

static void
check_states(struct rig *rig)
{
	struct outcome *o = rig->outcome;
	struct cpu_state *again = xcalloc(1, sizeof(*again));
	struct err err = { 0 };

	for (unsigned i = 0; i < rig->plan->vcpus; i++) {
		const char *what;

		set_what_was_got(rig, &rig->worker[i], &o->cpu[i]);
		if (engine_get(rig->worker[i].vcpu, again, &err) != 0)
			complain(rig, "engine_get: %s", err.msg);
		what = state_differs(&o->cpu[i], again, false);
		if (what != NULL)
			complain(rig,
			    "vCPU %u: get, set and get give another %s", i,
			    what);
	}
	free(again);
}

static void
check_dirty(struct rig *rig)
{
	for (unsigned i = 0; i < mem_region_count(rig->mem); i++) {
		const struct mem_region *region = mem_region(rig->mem, i);
		const uint8_t *was = region->gpa == 0 ? rig->image->low :
		    region->gpa == HIGH               ? rig->image->high :
							NULL;

		for (uint64_t at = 0; was != NULL && at < region->size;
		     at += MEM_PAGE_SIZE) {
			uint64_t n = at / MEM_PAGE_SIZE;

			if (memcmp(was + at, region->host + at,
				MEM_PAGE_SIZE) != 0 &&
			    !(rig->dirty[i][n / 64] & BIT(n % 64)))
				complain(rig,
				    "page 0x%llx was written and is not dirty",
				    (unsigned long long)(region->gpa + at));
		}
	}
}

static void
check_jail(struct rig *rig)
{
	const uint8_t *low = rig_low(rig);

	for (uint32_t at = 0; at < LOW_SIZE; at++) {
		if (low[at] == rig->image->low[at] || image_open(at))
			continue;
		complain(rig, "byte 0x%x was written from jail", at);
		return;
	}
	if (memcmp(rig_high(rig), rig->image->high, HIGH_SIZE) != 0)
		complain(rig, "high memory was written from jail");
	for (unsigned i = 0; i < rig->plan->vcpus; i++) {
		const struct cpu_state *was = &rig->image->cpu[i];
		const struct cpu_state *is = &rig->outcome->cpu[i];

		if (is->cr0 != was->cr0 || is->cr3 != was->cr3 ||
		    is->cr4 != was->cr4 || is->efer != was->efer ||
		    is->gdtr.base != was->gdtr.base ||
		    is->idtr.base != was->idtr.base ||
		    is->seg[CPU_TR].base != was->seg[CPU_TR].base)
			complain(rig, "vCPU %u: control was taken from jail",
			    i);
	}
}

static void
check(struct rig *rig)
{
	char what[200];

	check_states(rig);
	if (memcmp(mem_ptr_read(rig->mem, ROM, ROM_SIZE), rig->rom, ROM_SIZE) !=
	    0)
		complain(rig, "ROM was written");
	if (rig->plan->modes & M_DIRTY) {
		fetch_dirty(rig);
		check_dirty(rig);
	}
	if (rig->plan->modes & M_JAIL && !(rig->plan->modes & M_EVENTS))
		check_jail(rig);
	if (rig_strays(what, sizeof(what)) != 0)
		complain(rig, "%s", what);
}

void
rig_run(struct rig *rig, const struct plan *plan, const struct image *image,
    struct outcome *outcome)
{
	struct err err = { 0 };

	memset(outcome, 0, sizeof(*outcome));
	rig->plan = plan;
	rig->image = image;
	rig->outcome = outcome;
	atomic_store(&rig->stop, false);
	atomic_store(&rig->ended, false);
	atomic_store(&rig->wire, false);
	atomic_store(&rig->calls, 0);
	atomic_store(&rig->calls_hash, 0);
	if (!put_image(rig, image))
		return;
	if (plan->modes & M_DIRTY) {
		memset(rig->dirty, 0, sizeof(rig->dirty));
		if (mem_dirty_start(rig->mem, &err) != 0)
			complain(rig, "mem_dirty_start: %s", err.msg);
	}
	for (unsigned i = 0; i < plan->vcpus; i++) {
		memset(rig->worker[i].exits, 0, sizeof(rig->worker[i].exits));
		atomic_store(&rig->worker[i].idle, false);
		sem_post(&rig->worker[i].go);
	}
	oversee(rig);
	atomic_store(&rig->stop, true);
	for (unsigned i = 0; i < plan->vcpus; i++) {
		if (!atomic_load(&rig->worker[i].idle))
			kick_measured(&rig->worker[i]);
	}
	for (unsigned i = 0; i < plan->vcpus; i++) {
		await(rig, &rig->worker[i]);
		atomic_store(&rig->worker[i].kicked_at, 0);
		for (unsigned r = 0; r < ARRAY_SIZE(outcome->exits); r++)
			outcome->exits[r] += rig->worker[i].exits[r];
	}
	outcome->calls = atomic_load(&rig->calls_hash);
	engine_time_stop(rig->engine);
	check(rig);
	if (plan->modes & M_DIRTY)
		mem_dirty_stop(rig->mem);
	for (unsigned i = 0; i < ENGINE_EOI_PINS; i++)
		engine_watch_eoi(rig->engine, i, NULL);
}

/* ------------------------------------------------------------------ looking */

const uint8_t *
rig_low(const struct rig *rig)
{
	return mem_ptr_read(rig->mem, 0, LOW_SIZE);
}

const uint8_t *
rig_high(const struct rig *rig)
{
	return mem_ptr_read(rig->mem, HIGH, HIGH_SIZE);
}

const struct cpu_state *
rig_base(const struct rig *rig)
{
	return rig->base;
}

struct rig_worst
rig_worst(const struct rig *rig)
{
	return (struct rig_worst) {
		.cpu_ns = atomic_load(&rig->worst_cpu),
		.wall_ns = atomic_load(&rig->worst_wall),
	};
}

/* A component of an XSAVE area as it counts: [at, at + len) or its reset. */
static bool
component_differs(const struct cpu_state *a, const struct cpu_state *b,
    unsigned n, unsigned at, unsigned len)
{
	uint8_t x[CPU_XSAVE_MAX] = { 0 }, y[CPU_XSAVE_MAX] = { 0 };

	if (n == 0 && at == 0)
		x[0] = y[0] = 0x7f, x[1] = y[1] = 0x03; /* FCW */
	if (a->xsave[512] & BIT(n))
		memcpy(x, a->xsave + at, len);
	if (b->xsave[512] & BIT(n))
		memcpy(y, b->xsave + at, len);
	return memcmp(x, y, len) != 0;
}

static const char *
vectors_differ(const struct cpu_state *a, const struct cpu_state *b)
{
	uint32_t mxcsr = le32_load(a->xsave + 24);

	/*
	 * An instruction of SSE that uses MMX registers and raises #XM has left
	 * x87 mode, or not.
	 */
	if (!(mxcsr & ~(mxcsr >> 7) & 0x3f) &&
	    component_differs(a, b, 0, 0, 5)) /* FCW, FSW, FTW */
		return "x87 control";
	for (unsigned i = 0; i < 8; i++) {
		if (component_differs(a, b, 0, 32 + 16 * i, 10))
			return "x87 register";
	}
	if (memcmp(a->xsave + 24, b->xsave + 24, 4) != 0)
		return "MXCSR";
	if (component_differs(a, b, 1, 160, 256))
		return "SSE register";
	if (component_differs(a, b, 2, 576, 256))
		return "AVX register";
	return NULL;
}

static bool
segment_differs(const struct cpu_segment *a, const struct cpu_segment *b)
{
	return a->base != b->base || a->limit != b->limit ||
	    a->access != b->access || a->selector != b->selector;
}

static bool
event_differs(const struct cpu_event *a, const struct cpu_event *b)
{
	return a->valid != b->valid || a->vector != b->vector ||
	    a->has_error != b->has_error || a->error != b->error;
}

static const char *
life_differs(const struct cpu_state *a, const struct cpu_state *b)
{
	if (a->run_state != b->run_state)
		return "run state";
	if (a->sti_shadow != b->sti_shadow ||
	    a->mov_ss_shadow != b->mov_ss_shadow)
		return "shadow";
	if (a->nmi_pending != b->nmi_pending || a->nmi_masked != b->nmi_masked)
		return "NMI";
	if (event_differs(&a->exception, &b->exception))
		return "exception";
	if (event_differs(&a->interrupt, &b->interrupt))
		return "interrupt";
	return NULL;
}

static const char *
msrs_differ(const struct cpu_state *a, const struct cpu_state *b, bool loose)
{
	static char what[32];

	if (a->msr_count != b->msr_count)
		return "number of MSRs";
	for (unsigned i = 0; i < a->msr_count; i++) {
		if (loose && a->msr[i].index == 0x10)
			continue;
		if (a->msr[i].index != b->msr[i].index ||
		    a->msr[i].value != b->msr[i].value) {
			(void)snprintf(what, sizeof(what), "MSR 0x%x",
			    a->msr[i].index);
			return what;
		}
	}
	return NULL;
}

static const char *
lapic_differs(const struct cpu_state *a, const struct cpu_state *b, bool loose)
{
	static char what[32];

	for (unsigned i = 0; i < CPU_LAPIC_SIZE; i += 16) {
		if (loose && i == 0x390)
			continue;
		if (memcmp(a->lapic + i, b->lapic + i, 4) != 0) {
			(void)snprintf(what, sizeof(what), "APIC register 0x%x",
			    i);
			return what;
		}
	}
	return NULL;
}

const char *
state_differs(const struct cpu_state *a, const struct cpu_state *b, bool loose)
{
	const char *what;

	if (a->rip != b->rip)
		return "rip";
	for (unsigned i = 0; i < CPU_GPRS; i++) {
		if (a->gpr[i] != b->gpr[i])
			return cpu_gpr_name((enum cpu_gpr)i);
	}
	if (a->rflags != b->rflags)
		return "rflags";
	for (unsigned i = 0; i < CPU_SEGS; i++) {
		if (segment_differs(&a->seg[i], &b->seg[i]))
			return cpu_seg_name((enum cpu_seg)i);
	}
	if (a->gdtr.base != b->gdtr.base || a->gdtr.limit != b->gdtr.limit)
		return "gdtr";
	if (a->idtr.base != b->idtr.base || a->idtr.limit != b->idtr.limit)
		return "idtr";
	if (a->cr0 != b->cr0 || a->cr2 != b->cr2 || a->cr3 != b->cr3 ||
	    a->cr4 != b->cr4 || a->cr8 != b->cr8)
		return "control register";
	if (a->efer != b->efer || a->apic_base != b->apic_base)
		return "EFER or APIC base";
	if (memcmp(a->dr, b->dr, sizeof(a->dr)) != 0 || a->dr6 != b->dr6 ||
	    a->dr7 != b->dr7)
		return "debug register";
	if (a->xcr0 != b->xcr0 || a->xsave_size != b->xsave_size)
		return "xcr0";
	what = life_differs(a, b);
	if (what == NULL)
		what = loose ? vectors_differ(a, b) :
		    memcmp(a->xsave, b->xsave, a->xsave_size) != 0 ?
			       "XSAVE area" :
			       NULL;
	if (what == NULL)
		what = msrs_differ(a, b, loose);
	if (what == NULL)
		what = lapic_differs(a, b, loose);
	return what;
}

/* -------------------------------------------------------------------- life */

/* Pages without access on both sides, where nothing else stands already. */
static void
put_guards(struct rig *rig)
{
	for (unsigned i = 0; i < mem_region_count(rig->mem) && i < REGIONS;
	     i++) {
		const struct mem_region *region = mem_region(rig->mem, i);
		uint8_t *const at[] = { region->host - GUARD,
			region->host + region->size };

		for (unsigned n = 0; n < 2; n++) {
			void *p = mmap(at[n], GUARD, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
				MAP_FIXED_NOREPLACE,
			    -1, 0);

			rig->guard[i].at[n] = p == MAP_FAILED ? NULL : p;
		}
	}
}

static int
make_memory(struct rig *rig, struct err *err)
{
	int rc;

	rig->mem = mem_new(&(struct mem_params) { 0 });
	rc = mem_add(rig->mem, "low", MEM_RAM, 0, LOW_SIZE, err);
	if (rc == 0)
		rc = mem_add(rig->mem, "rom", MEM_ROM, ROM, ROM_SIZE, err);
	if (rc == 0)
		rc = mem_add(rig->mem, "high", MEM_RAM, HIGH, HIGH_SIZE, err);
	if (rc != 0)
		return rc;
	image_rom(rig->rom);
	(void)mem_write_rom(rig->mem, ROM, rig->rom, ROM_SIZE);
	put_guards(rig);
	return 0;
}

static int
make_vcpus(struct rig *rig, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; i < VCPUS && rc == 0; i++) {
		struct worker *w = &rig->worker[i];

		rc = engine_vcpu_new(rig->engine, i, &w->vcpu, err);
		if (rc == 0)
			rc = engine_get(w->vcpu, &rig->base[i], err);
		w->rig = rig;
		w->id = i;
		w->started = rc == 0 &&
		    pthread_create(&w->thread, NULL, worker_thread, w) == 0;
	}
	return rc;
}

int
rig_new(const char *engine, uint64_t seed, const struct rig_limits *limits,
    struct rig **out, struct err *err)
{
	static const char *const models[] = { NULL, "x86-64", "x86-64-v2",
		"x86-64-v3", "host" };
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct rig *rig = xcalloc(1, sizeof(*rig));
	struct rng rng = { seed };
	struct engine_params params = {
		.host = {
			.pio = host_pio,
			.mmio = host_mmio,
			.intack = host_intack,
			.intr = host_intr,
			.eoi = host_eoi,
			.arg = rig,
		},
		.vcpus = VCPUS,
		.sockets = 1,
		.cores = VCPUS,
		.threads = 1,
		.x2apic = rng_chance(&rng, 20),
		.strict_msr = rng_chance(&rng, 50),
		.exit_on_pause = rng_chance(&rng, 20),
		.soft = {
			.cpu_model =
			    models[rng_below(&rng, ARRAY_SIZE(models))],
			/* Small, so that it fills up all the time. */
			.cache_size = rng_chance(&rng, 50) ? MIB : 0,
			.no_chain = rng_chance(&rng, 15),
			.no_native = rng_chance(&rng, 15),
		},
	};
	int rc;

	rig->limits = *limits;
	pthread_mutex_init(&rig->complaint_lock, NULL);
	for (unsigned i = 0; i < VCPUS; i++) {
		sem_init(&rig->worker[i].go, 0, 0);
		sem_init(&rig->worker[i].done, 0, 0);
	}
	rc = make_memory(rig, err);
	params.mem = rig->mem;
	if (rc == 0)
		rc = engine_new(engine, &params, &rig->engine, err);
	if (rc == 0)
		rc = make_vcpus(rig, err);
	if (rc != 0) {
		rig_free(rig);
		return rc;
	}
	pthread_once(&once, signals_install);
	*out = rig;
	return 0;
}

void
rig_free(struct rig *rig)
{
	if (rig == NULL)
		return;
	atomic_store(&rig->leave, true);
	for (unsigned i = 0; i < VCPUS; i++) {
		struct worker *w = &rig->worker[i];

		if (w->started) {
			sem_post(&w->go);
			pthread_join(w->thread, NULL);
		}
		engine_vcpu_free(w->vcpu);
		sem_destroy(&w->go);
		sem_destroy(&w->done);
	}
	engine_free(rig->engine);
	for (unsigned i = 0; i < REGIONS; i++) {
		for (unsigned n = 0; n < 2; n++) {
			if (rig->guard[i].at[n] != NULL)
				munmap(rig->guard[i].at[n], GUARD);
		}
	}
	mem_free(rig->mem);
	pthread_mutex_destroy(&rig->complaint_lock);
	free(rig);
}
