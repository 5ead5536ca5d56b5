/*
 * A machine of processors and memory alone, for the tests of the software
 * engine: made through the engine contract, so that any engine can be in it.
 *
 * Guest memory (gpa; linear addresses are the same unless said otherwise)
 *      0x1000          page tables; GDT, IDT, a TSS for each vCPU
 *      0xa000          stacks of exceptions, 256 bytes for each vCPU
 *      RIG_CODE        where tests put code, RIG_STACK their stack
 *      RIG_DATA        two pages that every run of rig_compare() begins with
 *                      the same bytes in
 *      RIG_HOLE        linear: no page.  RIG_RO: may not be written.
 *      RIG_ALIAS       linear: the page at RIG_CODE once more
 *      RIG_BIG         linear: 3 GiB, all the same 2 MiB
 *      RIG_HIGH        linear: the first GiB again; and 1 GiB further
 *      RIG_MMIO        linear and physical: no memory
 *      RIG_ROM         ROM
 *
 * Each vector has a handler that writes to a port which is the vector; code ends
 * by writing to RIG_DONE.  Either stops the vCPU.
 */
#ifndef ENGINE_JIT_JIT_RIG_H
#define ENGINE_JIT_JIT_RIG_H

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/wire.h"
#include "engine/cpu_state.h"
#include "engine/engine.h"

#define RIG_RAM_SIZE (8 * MIB)
#define RIG_CODE 0x10000u
#define RIG_STACK 0x80000u
#define RIG_DATA 0x100000u
#define RIG_DATA_SIZE 0x2000u
#define RIG_ALIAS 0x1d0000u
#define RIG_RO 0x1e0000u
#define RIG_HOLE 0x1f0000u
#define RIG_BIG (1 * GIB)
#define RIG_BIG_GPA 0x400000u
#define RIG_HIGH (512 * GIB)
#define RIG_MMIO 0xa00000u
#define RIG_ROM 0xc00000u
#define RIG_ROM_SIZE 0x10000u

#define RIG_PML4 0x1000u
#define RIG_PDPT 0x2000u
#define RIG_PD 0x3000u
#define RIG_PT 0x4000u
#define RIG_PD_BIG 0x5000u
#define RIG_PDPT_HIGH 0xc000u
#define RIG_GDT 0x6000u
#define RIG_IDT 0x6100u
#define RIG_HANDLERS 0x7000u
#define RIG_TSS 0x9000u
#define RIG_TSS_STEP 0x80u
#define RIG_IST 0xa000u
#define RIG_IST_STEP 0x100u

#define RIG_VECTORS 32u
#define RIG_PORT_VECTOR 0x40u /* and the vector */
#define RIG_DONE 0xf4u
#define RIG_HAS_ERROR 0x27d00u /* vectors 8, 10-14, 17 */

#define RIG_PTE_P 1ull
#define RIG_PTE_W 2ull
#define RIG_PTE_U 4ull
#define RIG_PTE_PS 0x80ull

#define RIG_CS64 0x10u
#define RIG_SS 0x18u
#define RIG_ARITH 0x8d5u /* the six flags */

/* Give up: nothing here takes seconds by itself. */
#define RIG_GIVE_UP_S 120

/*
 * Guest code written in this file: name[] and name_len.  It may be put at any
 * address.
 */
#define RIG_ASM(name, bits, text)                                        \
	__asm__(".pushsection .rodata\n"                                 \
		".intel_syntax noprefix\n"                               \
		".code" #bits "\n" #name ":\n" text "\n" #name "_end:\n" \
		".code64\n"                                              \
		".att_syntax prefix\n"                                   \
		".popsection\n");                                        \
	extern const uint8_t name[], name##_end[]
#define RIG_LEN(name) ((size_t)(name##_end - name))
#define DONE "\n out 0xf4, al\n"

struct rig {
	struct mem *mem;
	struct engine *engine;
	struct engine_params params;
	struct engine_vcpu *vcpu[ENGINE_VCPUS_MAX];
	_Atomic uint32_t port[ENGINE_VCPUS_MAX]; /* it ended with, or 0 */
	/* A test's own; they may be NULL. */
	void (*pio)(struct rig *rig, unsigned vcpu, uint16_t port, bool write,
	    unsigned size, void *data);
	void (*mmio)(struct rig *rig, unsigned vcpu, gpa_t gpa, bool write,
	    unsigned size, void *data);
	void *arg;
};

/* How a run has ended. */
#define RIG_NO_VECTOR UINT32_MAX /* at RIG_DONE */
struct rig_end {
	uint32_t vector;
	uint32_t error;
	uint64_t cr2;
	/* After RIG_DONE: behind the OUT.  Else rip, rflags, rsp of the frame. */
	struct cpu_state cpu;
};

/* ------------------------------------------------------------- the host */

static inline void
rig_host_pio(void *arg, unsigned vcpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	struct rig *rig = arg;

	if (!write)
		memset(data, 0xff, (size_t)size * count);
	if (write &&
	    (port == RIG_DONE || port - RIG_PORT_VECTOR < RIG_VECTORS)) {
		atomic_store(&rig->port[vcpu], port);
		engine_kick(rig->vcpu[vcpu]);
	} else if (rig->pio != NULL) {
		rig->pio(rig, vcpu, port, write, size, data);
	}
}

static inline void
rig_host_mmio(void *arg, unsigned vcpu, gpa_t gpa, bool write, unsigned size,
    void *data)
{
	struct rig *rig = arg;

	if (!write)
		memset(data, 0xff, size);
	if (rig->mmio != NULL)
		rig->mmio(rig, vcpu, gpa, write, size, data);
}

static inline uint8_t
rig_host_intack(void *arg)
{
	return 0xff;
}

static inline bool
rig_host_intr(void *arg)
{
	return false;
}

static inline void
rig_host_eoi(void *arg, uint8_t vector)
{
}

/* ------------------------------------------------------- made and freed */

/*
 * cmocka takes the signals of faults for itself before each test, and the
 * software engine wants them too, from the first time it needs them: what is
 * installed with SA_SIGINFO is the engine's, and is put back.
 */
static inline void
rig_signals(void)
{
	static const int signals[] = { SIGFPE, SIGSEGV, SIGBUS };
	static struct sigaction engine[ARRAY_SIZE(signals)];
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&mutex);
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
		struct sigaction now;

		(void)sigaction(signals[i], NULL, &now);
		if (now.sa_flags & SA_SIGINFO)
			engine[i] = now;
		else if (engine[i].sa_flags & SA_SIGINFO)
			(void)sigaction(signals[i], &engine[i], NULL);
	}
	pthread_mutex_unlock(&mutex);
}

static inline void
rig_put(struct rig *rig, gpa_t gpa, const void *data, size_t len)
{
	assert_int_equal(mem_write(rig->mem, gpa, data, len), 0);
}

static inline void
rig_put64(struct rig *rig, gpa_t gpa, uint64_t value)
{
	rig_put(rig, gpa, &value, sizeof(value));
}

static inline uint64_t
rig_get64(struct rig *rig, gpa_t gpa)
{
	uint64_t value;

	assert_int_equal(mem_read(rig->mem, gpa, &value, sizeof(value)), 0);
	return value;
}

#define RIG_PUT(rig, gpa, name) rig_put(rig, gpa, name, RIG_LEN(name))

static inline void
rig_map(struct rig *rig, uint64_t lin, uint64_t pte)
{
	rig_put64(rig, RIG_PT + lin / MEM_PAGE_SIZE * 8, pte);
}

static inline void
rig_fill(struct rig *rig)
{
	static const uint64_t gdt[] = {
		[RIG_CS64 / 8] = 0x00af9b000000ffff,
		[RIG_SS / 8] = 0x00cf93000000ffff,
	};
	static const uint16_t no_ports = 0x68; /* beyond the limit */
	const uint64_t all = RIG_PTE_P | RIG_PTE_W | RIG_PTE_U;

	rig_put64(rig, RIG_PML4, RIG_PDPT | all);
	rig_put64(rig, RIG_PML4 + RIG_HIGH / (512 * GIB) * 8,
	    RIG_PDPT_HIGH | all);
	rig_put64(rig, RIG_PDPT, RIG_PD | all);
	rig_put64(rig, RIG_PDPT_HIGH, RIG_PD | all);
	rig_put64(rig, RIG_PDPT_HIGH + 8, RIG_PD | all);
	for (unsigned i = 1; i < 4; i++)
		rig_put64(rig, RIG_PDPT + 8 * i, RIG_PD_BIG | all);
	rig_put64(rig, RIG_PD, RIG_PT | all);
	for (uint64_t i = 0; i < 512; i++) {
		if (i > 0)
			rig_put64(rig, RIG_PD + 8 * i,
			    i * 2 * MIB | all | RIG_PTE_PS);
		rig_put64(rig, RIG_PD_BIG + 8 * i,
		    RIG_BIG_GPA | all | RIG_PTE_PS);
		/* Tables and handlers are not for users, nor under SMAP. */
		rig_map(rig, i * MEM_PAGE_SIZE,
		    i * MEM_PAGE_SIZE |
			(i < RIG_CODE / MEM_PAGE_SIZE ? all & ~RIG_PTE_U :
							all));
	}
	rig_map(rig, RIG_HOLE, 0);
	rig_map(rig, RIG_RO, RIG_RO | RIG_PTE_P | RIG_PTE_U);
	rig_map(rig, RIG_ALIAS, RIG_CODE | all);

	rig_put(rig, RIG_GDT, gdt, sizeof(gdt));
	for (unsigned v = 0; v < RIG_VECTORS; v++) {
		uint64_t handler = RIG_HANDLERS + 8 * v;
		/* out vector, al; jmp . */
		const uint8_t out[] = { 0xe6, (uint8_t)(RIG_PORT_VECTOR + v),
			0xeb, 0xfe };

		rig_put(rig, handler, out, sizeof(out));
		/* An interrupt gate with stack 1. */
		rig_put64(rig, RIG_IDT + 16 * v,
		    handler | RIG_CS64 << 16 | 0x8e01ULL << 32);
		rig_put64(rig, RIG_IDT + 16 * v + 8, 0);
	}
	for (unsigned i = 0; i < ENGINE_VCPUS_MAX; i++) {
		gpa_t tss = RIG_TSS + RIG_TSS_STEP * i;

		rig_put64(rig, tss + 0x24, RIG_IST + RIG_IST_STEP * (i + 1));
		rig_put(rig, tss + 0x66, &no_ports, sizeof(no_ports));
	}
}

static inline void
rig_engine(struct rig *rig, const char *engine)
{
	struct err err = { .msg = "" };

	if (engine_new(engine, &rig->params, &rig->engine, &err) != 0)
		fail_msg("%s", err.msg);
	for (unsigned i = 0; i < rig->params.vcpus; i++) {
		if (engine_vcpu_new(rig->engine, i, &rig->vcpu[i], &err) != 0)
			fail_msg("%s", err.msg);
	}
}

static inline void
rig_engine_free(struct rig *rig)
{
	for (unsigned i = 0; i < rig->params.vcpus; i++)
		engine_vcpu_free(rig->vcpu[i]);
	engine_free(rig->engine);
}

static inline struct rig *
rig_new(const char *engine, unsigned vcpus, const struct engine_soft *soft)
{
	static const struct mem_params mem_params;
	struct rig *rig = calloc(1, sizeof(*rig));
	struct err err = { .msg = "" };

	assert_non_null(rig);
	(void)alarm(RIG_GIVE_UP_S); /* a guest that never comes back */
	rig->mem = mem_new(&mem_params);
	if (mem_add(rig->mem, "ram", MEM_RAM, 0, RIG_RAM_SIZE, &err) != 0 ||
	    mem_add(rig->mem, "rom", MEM_ROM, RIG_ROM, RIG_ROM_SIZE, &err) != 0)
		fail_msg("%s", err.msg);
	rig->params = (struct engine_params) {
		.mem = rig->mem,
		.host = {
			.pio = rig_host_pio,
			.mmio = rig_host_mmio,
			.intack = rig_host_intack,
			.intr = rig_host_intr,
			.eoi = rig_host_eoi,
			.arg = rig,
		},
		.vcpus = vcpus,
		.sockets = 1,
		.cores = vcpus,
		.threads = 1,
	};
	if (soft != NULL)
		rig->params.soft = *soft;
	rig_fill(rig);
	rig_engine(rig, engine);
	rig_signals();
	return rig;
}

static inline void
rig_free(struct rig *rig)
{
	rig_engine_free(rig);
	mem_free(rig->mem);
	free(rig);
	(void)alarm(0);
}

/* ----------------------------------------------------------------- states */

static inline struct cpu_segment
rig_segment(unsigned selector, uint64_t base, uint32_t access)
{
	return (struct cpu_segment) {
		.selector = (uint16_t)selector,
		.base = base,
		.limit = 0xffffffff,
		.access = access,
	};
}

/* 64-bit code of ring 0 at RIG_CODE, registers 0 but rsp. */
static inline void
rig_state(struct rig *rig, unsigned vcpu, struct cpu_state *cpu)
{
	const struct cpu_segment none = { .access = CPU_SEG_UNUSABLE };
	struct err err = { .msg = "" };

	if (engine_get(rig->vcpu[vcpu], cpu, &err) != 0)
		fail_msg("%s", err.msg);
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->rip = RIG_CODE;
	cpu->gpr[CPU_RSP] = RIG_STACK;
	cpu->rflags = 2;
	cpu->cr0 = 0x80010033; /* PG WP NE ET MP PE */
	cpu->cr2 = 0;
	cpu->cr3 = RIG_PML4;
	cpu->cr4 = 0x406a0; /* OSXSAVE OSXMMEXCPT OSFXSR PGE PAE */
	cpu->cr8 = 0;
	cpu->efer = 0x500; /* LMA LME */
	cpu->xcr0 = 7;
	cpu->gdtr = (struct cpu_table) { RIG_GDT, 0xff };
	cpu->idtr = (struct cpu_table) { RIG_IDT, RIG_VECTORS * 16 - 1 };
	for (unsigned i = CPU_ES; i <= CPU_GS; i++)
		cpu->seg[i] = rig_segment(RIG_SS, 0, 0xc093);
	cpu->seg[CPU_CS] = rig_segment(RIG_CS64, 0, 0xa09b);
	cpu->seg[CPU_LDTR] = none;
	cpu->seg[CPU_TR] =
	    rig_segment(0x40, RIG_TSS + RIG_TSS_STEP * vcpu, 0x8b);
	cpu->seg[CPU_TR].limit = 0x67;
	cpu->dr7 = 0x400;
	memset(cpu->xsave, 0, sizeof(cpu->xsave));
	le16_store(cpu->xsave, 0x37f);
	le32_store(cpu->xsave + 24, 0x1f80);
	cpu->sti_shadow = cpu->mov_ss_shadow = false;
	cpu->exception.valid = cpu->interrupt.valid = false;
	cpu->run_state = CPU_RUNNING;
}

/* 32-bit code: a compatibility segment of long mode, and ring 0 still. */
static inline void
rig_state32(struct rig *rig, unsigned vcpu, struct cpu_state *cpu)
{
	rig_state(rig, vcpu, cpu);
	cpu->seg[CPU_CS] = rig_segment(0x20, 0, 0xc09b);
}

/* ---------------------------------------------------------------- running */

static inline void
rig_set(struct rig *rig, unsigned vcpu, const struct cpu_state *cpu)
{
	struct err err = { .msg = "" };

	if (engine_set(rig->vcpu[vcpu], cpu, &err) != 0)
		fail_msg("%s", err.msg);
}

static inline void
rig_get(struct rig *rig, unsigned vcpu, struct cpu_state *cpu)
{
	struct err err = { .msg = "" };

	if (engine_get(rig->vcpu[vcpu], cpu, &err) != 0)
		fail_msg("%s", err.msg);
}

/* Until it ends, whoever kicks it. */
static inline void
rig_go(struct rig *rig, unsigned vcpu)
{
	struct engine_exit exit;

	atomic_store(&rig->port[vcpu], 0);
	rig_signals();
	do {
		engine_run(rig->vcpu[vcpu], &exit);
	} while (exit.reason == ENGINE_EXIT_KICKED &&
	    atomic_load(&rig->port[vcpu]) == 0);
	rig_signals();
	if (exit.reason != ENGINE_EXIT_KICKED)
		fail_msg("vCPU %u ends with reason %d", vcpu, exit.reason);
}

/* What rig_go() has led to. */
static inline void
rig_end(struct rig *rig, unsigned vcpu, struct rig_end *end)
{
	uint64_t frame[6];
	bool has_error;

	rig_get(rig, vcpu, &end->cpu);
	end->vector = RIG_NO_VECTOR;
	end->error = 0;
	end->cr2 = 0;
	if (atomic_load(&rig->port[vcpu]) == RIG_DONE)
		return;
	end->vector = atomic_load(&rig->port[vcpu]) - RIG_PORT_VECTOR;
	has_error = RIG_HAS_ERROR & BIT(end->vector);
	assert_int_equal(mem_read(rig->mem,
			     RIG_IST + RIG_IST_STEP * (vcpu + 1) -
				 sizeof(frame),
			     frame, sizeof(frame)),
	    0);
	if (has_error)
		end->error = (uint32_t)frame[0];
	if (end->vector == 14)
		end->cr2 = end->cpu.cr2;
	end->cpu.rip = frame[1];
	end->cpu.rflags = frame[3];
	end->cpu.gpr[CPU_RSP] = frame[4];
}

static inline void
rig_run(struct rig *rig, unsigned vcpu, const struct cpu_state *cpu,
    struct rig_end *end)
{
	rig_set(rig, vcpu, cpu);
	rig_go(rig, vcpu);
	rig_end(rig, vcpu, end);
}

/* The same, of code that does not raise anything. */
static inline void
rig_run_done(struct rig *rig, const struct cpu_state *cpu, struct rig_end *end)
{
	rig_run(rig, 0, cpu, end);
	if (end->vector != RIG_NO_VECTOR)
		fail_msg("exception %u, error 0x%x, at 0x%llx, cr2 0x%llx",
		    end->vector, end->error, (unsigned long long)end->cpu.rip,
		    (unsigned long long)end->cr2);
}

/* A vCPU on a thread of its own. */
struct rig_thread {
	pthread_t thread;
	struct rig *rig;
	unsigned vcpu;
	struct cpu_state cpu;
	struct rig_end end;
};

static inline void *
rig_thread_main(void *arg)
{
	struct rig_thread *t = arg;

	rig_run(t->rig, t->vcpu, &t->cpu, &t->end);
	return NULL;
}

/* t->cpu is where it begins. */
static inline void
rig_start(struct rig_thread *t, struct rig *rig, unsigned vcpu)
{
	t->rig = rig;
	t->vcpu = vcpu;
	assert_int_equal(pthread_create(&t->thread, NULL, rig_thread_main, t),
	    0);
}

static inline void
rig_join(struct rig_thread *t)
{
	assert_int_equal(pthread_join(t->thread, NULL), 0);
}

/* -------------------------------------------------------------- counters */

struct rig_stat {
	const char *name;
	uint64_t sum;
};

static inline void
rig_stat_add(void *arg, int vcpu, const char *name, uint64_t value)
{
	struct rig_stat *stat = arg;

	if (strcmp(name, stat->name) == 0)
		stat->sum += value;
}

static inline uint64_t
rig_stat(struct rig *rig, const char *name)
{
	struct rig_stat stat = { .name = name };

	engine_stats(rig->engine, rig_stat_add, &stat);
	return stat.sum;
}

#define RIG_INTERPRETED "instructions interpreted"

/* -------------------------------------------------- the same on each engine */

/*
 * A machine for each way to run code; the first is the one to look at.  Group
 * fixtures: *state is the set.
 */
#define RIG_WAYS 4u
struct rig_set {
	struct rig *rig[RIG_WAYS];
	uint64_t flags; /* those of the result that are defined */
	/* What a run begins with; then its result. */
	uint8_t data[RIG_DATA_SIZE];
	uint64_t
	    interpreted; /* instructions, in the first machine's last run */
};

static const struct {
	const char *name, *engine;
	struct engine_soft soft;
} rig_ways[RIG_WAYS] = {
	{ "jit", "jit", { .cpu_model = NULL } },
	{ "jit without links", "jit", { .no_chain = true } },
	{ "jit of jumps only", "jit", { .no_native = true } },
	{ "interp", "interp", { .cpu_model = NULL } },
};

static inline int
rig_set_new(void **state)
{
	struct rig_set *set = calloc(1, sizeof(*set));

	assert_non_null(set);
	for (unsigned i = 0; i < RIG_WAYS; i++)
		set->rig[i] = rig_new(rig_ways[i].engine, 1, &rig_ways[i].soft);
	*state = set;
	return 0;
}

static inline int
rig_set_free(void **state)
{
	struct rig_set *set = *state;

	for (unsigned i = 0; i < RIG_WAYS; i++)
		rig_free(set->rig[i]);
	free(set);
	return 0;
}

/* What each test begins with: known bytes, and registers of that kind too. */
static inline void
rig_set_begin(struct rig_set *set, unsigned bits, struct cpu_state *cpu)
{
	if (bits == 32)
		rig_state32(set->rig[0], 0, cpu);
	else
		rig_state(set->rig[0], 0, cpu);
	for (unsigned r = 0; r < CPU_GPRS; r++) {
		if (r != CPU_RSP)
			cpu->gpr[r] = (0x9e3779b97f4a7c15ULL * (r + 1)) &
			    (bits == 32 ? UINT32_MAX : UINT64_MAX);
	}
	for (unsigned i = 0; i < RIG_DATA_SIZE; i++)
		set->data[i] = (uint8_t)(i * 7 + (i >> 8) * 31 + 1);
	set->flags = RIG_ARITH;
}

static inline void
rig_same64(const char *way, const char *what, unsigned n, uint64_t is,
    uint64_t first)
{
	if (is != first)
		fail_msg("%s: %s %u is 0x%llx, with %s 0x%llx", way, what, n,
		    (unsigned long long)is, rig_ways[0].name,
		    (unsigned long long)first);
}

/* x87, SSE and AVX state, with what the header calls initial written out. */
#define RIG_VECTORS_SIZE 832u
static inline void
rig_vectors(uint8_t *to, const struct cpu_state *cpu)
{
	uint64_t bv = le64_load(cpu->xsave + 512);

	memcpy(to, cpu->xsave, RIG_VECTORS_SIZE);
	if (!(bv & BIT(0))) {
		memset(to, 0, 24);
		le16_store(to, 0x37f);
		memset(to + 32, 0, 128);
	}
	if (!(bv & BIT(1)))
		memset(to + 160, 0, 256);
	memset(to + 28, 0, 4); /* MXCSR_MASK, of the processor */
	memset(to + 416, 0, 160);
	if (!(bv & BIT(2)))
		memset(to + 576, 0, 256);
}

static inline void
rig_same(const char *way, uint64_t flags, const struct rig_end *is,
    const struct rig_end *first)
{
	uint8_t is_vectors[RIG_VECTORS_SIZE], first_vectors[RIG_VECTORS_SIZE];
	bool wide = first->cpu.seg[CPU_CS].access & BIT(13);

	rig_same64(way, "exception", 0, is->vector, first->vector);
	rig_same64(way, "error of exception", is->vector, is->error,
	    first->error);
	rig_same64(way, "cr2 of exception", is->vector, is->cr2, first->cr2);
	for (unsigned r = 0; r < CPU_GPRS; r++) {
		uint64_t mask = wide ? UINT64_MAX : r < 8 ? UINT32_MAX : 0;

		rig_same64(way, "register", r, is->cpu.gpr[r] & mask,
		    first->cpu.gpr[r] & mask);
	}
	rig_same64(way, "rip", 0, is->cpu.rip, first->cpu.rip);
	rig_same64(way, "rflags", 0, is->cpu.rflags & flags,
	    first->cpu.rflags & flags);
	rig_vectors(is_vectors, &is->cpu);
	rig_vectors(first_vectors, &first->cpu);
	for (unsigned i = 0; i < RIG_VECTORS_SIZE; i++)
		rig_same64(way, "vector state, byte", i, is_vectors[i],
		    first_vectors[i]);
}

/*
 * Run code with each engine from the same state; registers, flags, vector state
 * and data are the same in the end, or the test fails.
 */
static inline void
rig_compare(struct rig_set *set, const uint8_t *code, size_t len,
    const struct cpu_state *cpu, struct rig_end *end)
{
	uint8_t first[RIG_DATA_SIZE];
	struct rig_end other;
	uint64_t interpreted = rig_stat(set->rig[0], RIG_INTERPRETED);

	for (unsigned i = 0; i < RIG_WAYS; i++) {
		struct rig *rig = set->rig[i];
		const uint8_t *data;

		rig_put(rig, RIG_DATA, set->data, RIG_DATA_SIZE);
		if (len != 0)
			rig_put(rig, RIG_CODE, code, len);
		rig_run(rig, 0, cpu, i == 0 ? end : &other);
		data = mem_ptr_read(rig->mem, RIG_DATA, RIG_DATA_SIZE);
		assert_non_null(data);
		if (i == 0) {
			memcpy(first, data, sizeof(first));
			continue;
		}
		rig_same(rig_ways[i].name, set->flags, &other, end);
		for (unsigned n = 0; n < RIG_DATA_SIZE; n++)
			rig_same64(rig_ways[i].name, "byte of data", n, data[n],
			    first[n]);
	}
	memcpy(set->data, first, sizeof(first));
	set->interpreted = rig_stat(set->rig[0], RIG_INTERPRETED) - interpreted;
}

#define RIG_COMPARE(set, name, cpu, end) \
	rig_compare(set, name, RIG_LEN(name), cpu, end)

/* The same, of code that does not raise anything. */
static inline void
rig_compare_done(struct rig_set *set, const uint8_t *code, size_t len,
    const struct cpu_state *cpu, struct rig_end *end)
{
	rig_compare(set, code, len, cpu, end);
	if (end->vector != RIG_NO_VECTOR)
		fail_msg("exception %u, error 0x%x, at 0x%llx, cr2 0x%llx",
		    end->vector, end->error, (unsigned long long)end->cpu.rip,
		    (unsigned long long)end->cr2);
}

#define RIG_COMPARE_DONE(set, name, cpu, end) \
	rig_compare_done(set, name, RIG_LEN(name), cpu, end)

static inline uint64_t
rig_data64(const struct rig_set *set, unsigned at)
{
	uint64_t value;

	memcpy(&value, set->data + at, sizeof(value));
	return value;
}

static inline void
rig_set_data64(struct rig_set *set, unsigned at, uint64_t value)
{
	memcpy(set->data + at, &value, sizeof(value));
}

static inline uint64_t
rig_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

#endif
