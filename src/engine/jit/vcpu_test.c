/*
 * A vCPU's life as the machine sees it: kicks, state in the middle of things,
 * guests that move from one engine to another, devices that are called.
 *
 * How long a kick takes is printed; the bound is generous, because the host may
 * be busy.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>

#include "engine/jit/jit_rig.h"

#define KICKS 200u
#define KICK_LIMIT_NS (50 * 1000000ULL)
#define FLAG (RIG_DATA + 0x800)

static const char *const engines[] = { "jit", "interp" };

/* ---------------------------------------------------------------- power-on */

static void
power_on(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
		struct rig *rig = rig_new(engines[i], 2, NULL);
		struct cpu_state *want = calloc(1, sizeof(*want));
		struct cpu_state is;

		assert_non_null(want);
		for (unsigned v = 0; v < 2; v++) {
			cpu_state_reset(want, v);
			rig_get(rig, v, &is);
			/* SDM volume 3, table 9-1; x87 as after FINIT. */
			assert_int_equal(le16_load(is.xsave), 0x37f);
			assert_int_equal(le32_load(is.xsave + 24), 0x1f80);
			assert_memory_equal(is.gpr, want->gpr,
			    sizeof(want->gpr));
			assert_memory_equal(is.seg, want->seg,
			    sizeof(want->seg));
			assert_int_equal(is.rip, want->rip);
			assert_int_equal(is.run_state, want->run_state);
		}
		free(want);
		rig_free(rig);
	}
}

/* ------------------------------------------------------------------- kicks */

#define STARTED "out 0x81, al\n"

RIG_ASM(spin_code, 64, STARTED "1: jmp 1b");
RIG_ASM(calls_code, 64,
    STARTED "1: call 2f\n lea rax, [rip + 3f]\n call rax\n jmp 1b\n"
	    "2: add rbx, 1\n ret\n .fill 4096, 1, 0xf4\n 3: add rbx, 1\n ret");
RIG_ASM(halt_code, 64, STARTED "1: hlt\n jmp 1b");
RIG_ASM(stos_code, 64,
    STARTED
    "1: mov rdi, 0x40000000\n mov ecx, 0xb0000000\n rep stosb\n jmp 1b");
RIG_ASM(system_code, 64,
    STARTED "1: mov rax, cr0\n mov cr0, rax\n cpuid\n jmp 1b");

static const struct {
	const char *name;
	const uint8_t *code, *end;
	uint64_t rflags;
} busy[] = {
	{ "jmp to itself", spin_code, spin_code_end, 2 },
	{ "calls", calls_code, calls_code_end, 2 },
	{ "hlt", halt_code, halt_code_end, 0x202 },
	{ "hlt for ever", halt_code, halt_code_end, 2 },
	{ "rep stosb", stos_code, stos_code_end, 2 },
	{ "system instructions", system_code, system_code_end, 2 },
};

struct runner {
	pthread_t thread;
	struct rig *rig;
	unsigned vcpu;
	sem_t go, back;
	atomic_bool stop;
	_Atomic uint64_t came_back; /* when */
	struct engine_exit exit;
};

static void *
runner_main(void *arg)
{
	struct runner *r = arg;

	for (;;) {
		while (sem_wait(&r->go) != 0)
			;
		if (atomic_load(&r->stop))
			return NULL;
		engine_run(r->rig->vcpu[r->vcpu], &r->exit);
		atomic_store(&r->came_back, rig_now_ns());
		sem_post(&r->back);
	}
}

static void
runner_start(struct runner *r, struct rig *rig, unsigned vcpu)
{
	*r = (struct runner) { .rig = rig, .vcpu = vcpu };
	sem_init(&r->go, 0, 0);
	sem_init(&r->back, 0, 0);
	assert_int_equal(pthread_create(&r->thread, NULL, runner_main, r), 0);
}

static void
runner_wait(struct runner *r)
{
	while (sem_wait(&r->back) != 0)
		assert_int_equal(errno, EINTR);
	if (r->exit.reason == ENGINE_EXIT_ERROR)
		fail_msg("%s", r->exit.err.msg);
	assert_int_equal(r->exit.reason, ENGINE_EXIT_KICKED);
}

static void
runner_stop(struct runner *r)
{
	atomic_store(&r->stop, true);
	sem_post(&r->go);
	assert_int_equal(pthread_join(r->thread, NULL), 0);
	sem_destroy(&r->go);
	sem_destroy(&r->back);
}

static void
wait_ns(uint64_t ns)
{
	uint64_t start = rig_now_ns();

	while (rig_now_ns() - start < ns)
		;
}

static int
by_value(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static void
has_started(struct rig *rig, unsigned vcpu, uint16_t port, bool write,
    unsigned size, void *data)
{
	sem_post(rig->arg);
}

static void
wait_for(sem_t *sem)
{
	while (sem_wait(sem) != 0)
		assert_int_equal(errno, EINTR);
}

static uint64_t
median_of_kicks(struct rig *rig, const struct cpu_state *cpu, unsigned n)
{
	uint64_t *took = calloc(n, sizeof(*took)), median;
	struct runner r;
	sem_t started;

	assert_non_null(took);
	sem_init(&started, 0, 0);
	rig->pio = has_started;
	rig->arg = &started;
	runner_start(&r, rig, 0);
	for (unsigned i = 0; i < n; i++) {
		uint64_t start;

		rig_set(rig, 0, cpu);
		sem_post(&r.go);
		wait_for(&started);
		wait_ns(i * 211 % 100000);
		start = rig_now_ns();
		engine_kick(rig->vcpu[0]);
		runner_wait(&r);
		took[i] = atomic_load(&r.came_back) - start;
	}
	runner_stop(&r);
	sem_destroy(&started);
	rig->pio = NULL;
	qsort(took, n, sizeof(*took), by_value);
	median = took[n / 2];
	free(took);
	return median;
}

static void
kicks_are_quick(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
		struct rig *rig = rig_new(engines[i], 1, NULL);

		for (unsigned b = 0; b < ARRAY_SIZE(busy); b++) {
			struct cpu_state cpu;
			uint64_t median;

			rig_state(rig, 0, &cpu);
			cpu.rflags = busy[b].rflags;
			rig_put(rig, RIG_CODE, busy[b].code,
			    (size_t)(busy[b].end - busy[b].code));
			median = median_of_kicks(rig, &cpu, KICKS);
			print_message("# %s, %s: a kick takes %llu us\n",
			    engines[i], busy[b].name,
			    (unsigned long long)median / 1000);
			assert_true(median < KICK_LIMIT_NS);
		}
		rig_free(rig);
	}
}

/* One that comes before engine_run() counts, once. */
static void
a_kick_beforehand_counts(void **state)
{
	struct rig *rig = rig_new("jit", 1, NULL);
	struct engine_exit exit;
	struct cpu_state cpu;

	RIG_PUT(rig, RIG_CODE, spin_code);
	for (unsigned i = 0; i < 4; i++) {
		rig_state(rig, 0, &cpu);
		if (i >= 2) /* asleep already */
			cpu.run_state = CPU_HALTED;
		rig_set(rig, 0, &cpu);
		engine_kick(rig->vcpu[0]);
		if (i % 2 == 1)
			engine_kick(rig->vcpu[0]);
		engine_run(rig->vcpu[0], &exit);
		assert_int_equal(exit.reason, ENGINE_EXIT_KICKED);
		rig_get(rig, 0, &cpu);
		assert_int_equal(cpu.rip, RIG_CODE);
		assert_int_equal(cpu.run_state,
		    i >= 2 ? CPU_HALTED : CPU_RUNNING);
		assert_int_equal(engine_halted(rig->vcpu[0]), i >= 2);
	}
	rig_free(rig);
}

/* All vCPUs that there can be: running, halted, and stopped together. */
static void
a_pause_of_many(void **state)
{
	enum { VCPUS = ENGINE_VCPUS_MAX, ROUNDS = 8 };
	static struct runner runners[VCPUS];
	struct rig *rig = rig_new("jit", VCPUS, NULL);
	uint64_t count[VCPUS] = { 0 }, longest = 0, sum = 0;
	sem_t started;

	RIG_PUT(rig, RIG_CODE, calls_code);
	RIG_PUT(rig, RIG_CODE + 0x4000, halt_code);
	sem_init(&started, 0, 0);
	rig->pio = has_started;
	rig->arg = &started;
	for (unsigned i = 0; i < VCPUS; i++) {
		struct cpu_state cpu;

		rig_state(rig, i, &cpu);
		cpu.gpr[CPU_RSP] -= 0x100 * i;
		if (i % 4 == 3)
			cpu.rip = RIG_CODE + 0x4000;
		rig_set(rig, i, &cpu);
		runner_start(&runners[i], rig, i);
	}
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t start;

		for (unsigned i = 0; i < VCPUS; i++)
			sem_post(&runners[i].go);
		/* Each of them has been there once. */
		for (unsigned i = 0; n == 0 && i < VCPUS; i++)
			wait_for(&started);
		wait_ns(2000000);
		start = rig_now_ns();
		for (unsigned i = 0; i < VCPUS; i++)
			engine_kick(rig->vcpu[i]);
		for (unsigned i = 0; i < VCPUS; i++)
			runner_wait(&runners[i]);
		longest = MAX(longest, rig_now_ns() - start);
		/* They do not go on by themselves. */
		for (unsigned i = 0; i < VCPUS; i++) {
			struct cpu_state cpu;

			rig_get(rig, i, &cpu);
			assert_true(cpu.gpr[CPU_RBX] >= count[i]);
			count[i] = cpu.gpr[CPU_RBX];
		}
	}
	for (unsigned i = 0; i < VCPUS; i++) {
		sum += count[i];
		runner_stop(&runners[i]);
	}
	assert_true(sum > 0);
	sem_destroy(&started);
	print_message("# %d vCPUs: a pause takes up to %llu us\n", VCPUS,
	    (unsigned long long)longest / 1000);
	rig_free(rig);
}

/* --------------------------------------------------- state in the middle */

/*
 * A sum that everything has part in: registers that translated code keeps in
 * memory, flags from one round to the next, vectors, x87, memory and stack.
 */
RIG_ASM(sum_code, 64,
    "1: lea r12, [r12 + r12*2 + 1]\n"
    "xor r12, rcx\n rol r12, 7\n"
    "add r13, r12\n adc r14, r15\n"
    "push r14\n call 2f\n pop r15\n"
    "movq xmm0, r12\n paddq xmm1, xmm0\n vpaddd ymm2, ymm2, ymm3\n"
    "vpxor ymm3, ymm3, ymm2\n pinsrd xmm4, r14d, 2\n"
    "vpsllq ymm5, ymm2, 3\n vpaddq ymm3, ymm3, ymm5\n"
    "fiadd dword ptr [rdi]\n"
    "inc rcx\n cmp byte ptr [rsi], 0\n je 1b" DONE
    "2: xor [rdi + 8], r13\n add rbx, [rdi + 8]\n ret\n");

/* For an engine that knows little: the same of general registers. */
RIG_ASM(small_sum_code, 64,
    "1: lea r12, [r12 + r12*2 + 1]\n"
    "xor r12, rcx\n rol r12, 7\n"
    "add r13, r12\n adc r14, r15\n"
    "mov r15, r14\n"
    "xor [rdi + 8], r13\n add rbx, [rdi + 8]\n"
    "inc rcx\n cmp byte ptr [rsi], 0\n je 1b" DONE);

struct sum {
	bool small;
	uint64_t rcx, rbx, r12, r13, r14, r15, memory;
	uint64_t xmm1, ymm2[4], ymm3[4];
	double x87;
};

static void
sum_begin(struct rig *rig, struct cpu_state *cpu, struct sum *sum, bool small)
{
	rig_state(rig, 0, cpu);
	if (small)
		RIG_PUT(rig, RIG_CODE, small_sum_code);
	else
		RIG_PUT(rig, RIG_CODE, sum_code);
	*sum = (struct sum) { .small = small, .r12 = 1 };
	cpu->gpr[CPU_RDI] = RIG_DATA;
	cpu->gpr[CPU_RSI] = FLAG;
	cpu->gpr[CPU_R12] = sum->r12;
	for (unsigned i = 0; i < 4; i++) {
		sum->ymm2[i] = 0x0102030405060708 * (i + 1);
		sum->ymm3[i] = 0x1112131415161718 * (i + 1);
	}
	for (unsigned i = 0; i < 2; i++) {
		le64_store(cpu->xsave + 160 + 32 + 8 * i, sum->ymm2[i]);
		le64_store(cpu->xsave + 160 + 48 + 8 * i, sum->ymm3[i]);
		le64_store(cpu->xsave + 576 + 32 + 8 * i, sum->ymm2[i + 2]);
		le64_store(cpu->xsave + 576 + 48 + 8 * i, sum->ymm3[i + 2]);
	}
	/* ST0 is 0, and there. */
	le16_store(cpu->xsave + 2, 7 << 11);
	cpu->xsave[4] = 0x80;
	le64_store(cpu->xsave + 512, 7);
	rig_put64(rig, RIG_DATA, 3);
	rig_put64(rig, RIG_DATA + 8, 0);
	rig_put64(rig, FLAG, 0);
}

static uint64_t
add_each_32(uint64_t a, uint64_t b)
{
	return ((a + (b & 0xffffffff00000000)) & 0xffffffff00000000) |
	    (uint32_t)(a + b);
}

static void
sum_round(struct sum *s)
{
	bool carry;

	s->r12 = s->r12 * 3 + 1;
	s->r12 ^= s->rcx;
	s->r12 = s->r12 << 7 | s->r12 >> 57;
	carry = add_overflows(s->r13, s->r12, &s->r13);
	s->r14 += s->r15 + carry;
	s->memory ^= s->r13;
	s->rbx += s->memory;
	s->r15 = s->r14;
	s->xmm1 += s->r12;
	for (unsigned i = 0; i < 4; i++) {
		s->ymm2[i] = add_each_32(s->ymm2[i], s->ymm3[i]);
		s->ymm3[i] = (s->ymm3[i] ^ s->ymm2[i]) + (s->ymm2[i] << 3);
	}
	s->x87 += 3;
	s->rcx++;
}

/* It has ended after as many rounds as it says: what should be there? */
static void
sum_check(struct rig *rig, const struct cpu_state *cpu, struct sum *sum)
{
	while (sum->rcx < cpu->gpr[CPU_RCX])
		sum_round(sum);
	assert_int_equal(cpu->gpr[CPU_RBX], sum->rbx);
	assert_int_equal(cpu->gpr[CPU_R12], sum->r12);
	assert_int_equal(cpu->gpr[CPU_R13], sum->r13);
	assert_int_equal(cpu->gpr[CPU_R14], sum->r14);
	assert_int_equal(cpu->gpr[CPU_R15], sum->r15);
	assert_int_equal(cpu->gpr[CPU_RSP], RIG_STACK);
	assert_int_equal(rig_get64(rig, RIG_DATA + 8), sum->memory);
	if (sum->small)
		return;
	assert_int_equal(le64_load(cpu->xsave + 160 + 16), sum->xmm1);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(le64_load(cpu->xsave + 160 + 32 + 8 * i),
		    sum->ymm2[i]);
		assert_int_equal(le64_load(cpu->xsave + 576 + 48 + 8 * i),
		    sum->ymm3[i + 2]);
	}
	assert_int_equal(le32_load(cpu->xsave + 160 + 64 + 8),
	    (uint32_t)sum->r14);
	if (sum->rcx > 0) {
		long double st;

		memcpy(&st, cpu->xsave + 32, 10);
		assert_true(st == (long double)sum->x87);
	}
}

static void
same_state(const struct cpu_state *a, const struct cpu_state *b)
{
	assert_memory_equal(a->gpr, b->gpr, sizeof(a->gpr));
	assert_int_equal(a->rip, b->rip);
	assert_int_equal(a->rflags, b->rflags);
	assert_memory_equal(a->seg, b->seg, sizeof(a->seg));
	assert_int_equal(a->cr0, b->cr0);
	assert_int_equal(a->cr3, b->cr3);
	assert_int_equal(a->cr4, b->cr4);
	assert_int_equal(a->efer, b->efer);
	assert_int_equal(a->xcr0, b->xcr0);
	assert_int_equal(a->xsave_size, b->xsave_size);
	assert_memory_equal(a->xsave, b->xsave, a->xsave_size);
	assert_memory_equal(a->lapic, b->lapic, sizeof(a->lapic));
	assert_int_equal(a->run_state, b->run_state);
}

/* Until it has gone on. */
static void
sum_wait(struct rig *rig)
{
	uint64_t before = rig_get64(rig, RIG_DATA + 8);

	while (rig_get64(rig, RIG_DATA + 8) == before)
		(void)sched_yield();
}

static void
state_is_the_same_after_a_thousand_kicks(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
		unsigned times = i == 0 ? 1000 : 200;
		struct rig *rig = rig_new(engines[i], 1, NULL);
		struct cpu_state *cpu = calloc(2, sizeof(*cpu));
		struct runner r;
		struct sum sum;

		assert_non_null(cpu);
		sum_begin(rig, cpu, &sum, false);
		rig_set(rig, 0, cpu);
		runner_start(&r, rig, 0);
		for (unsigned n = 0; n < times; n++) {
			sem_post(&r.go);
			sum_wait(rig);
			wait_ns(n * 97 % 5000);
			engine_kick(rig->vcpu[0]);
			runner_wait(&r);
			rig_get(rig, 0, &cpu[0]);
			rig_set(rig, 0, &cpu[0]);
			rig_get(rig, 0, &cpu[1]);
			same_state(&cpu[0], &cpu[1]);
		}
		runner_stop(&r);
		rig_put64(rig, FLAG, 1);
		rig_go(rig, 0);
		rig_get(rig, 0, &cpu[0]);
		assert_true(cpu->gpr[CPU_RCX] >= times / 2);
		sum_check(rig, &cpu[0], &sum);
		free(cpu);
		rig_free(rig);
	}
}

/* From one to the other and back, memory too. */
static void
move_between(const char *one, const char *other, unsigned times, bool small)
{
	struct rig *rig[2] = { rig_new(one, 1, NULL), rig_new(other, 1, NULL) };
	struct cpu_state *cpu = calloc(1, sizeof(*cpu));
	struct runner r[2];
	struct sum sum;

	assert_non_null(cpu);
	for (unsigned i = 0; i < 2; i++) {
		sum_begin(rig[i], cpu, &sum, small);
		runner_start(&r[i], rig[i], 0);
	}
	for (unsigned n = 0; n < times; n++) {
		struct rig *from = rig[n % 2], *to = rig[(n + 1) % 2];

		rig_set(from, 0, cpu);
		sem_post(&r[n % 2].go);
		sum_wait(from);
		wait_ns(n * 97 % 5000);
		engine_kick(from->vcpu[0]);
		runner_wait(&r[n % 2]);
		engine_time_stop(from->engine);
		rig_get(from, 0, cpu);
		rig_put64(to, RIG_DATA + 8, rig_get64(from, RIG_DATA + 8));
		rig_put64(to, cpu->gpr[CPU_RSP],
		    rig_get64(from, cpu->gpr[CPU_RSP]));
		for (unsigned i = 1; i <= 2; i++)
			rig_put64(to, RIG_STACK - 8 * i,
			    rig_get64(from, RIG_STACK - 8 * i));
	}
	for (unsigned i = 0; i < 2; i++)
		runner_stop(&r[i]);
	rig_set(rig[times % 2], 0, cpu);
	rig_put64(rig[times % 2], FLAG, 1);
	rig_go(rig[times % 2], 0);
	rig_get(rig[times % 2], 0, cpu);
	assert_true(cpu->gpr[CPU_RCX] >= times / 2);
	print_message("# %s and %s: %u moves in %llu rounds\n", one, other,
	    times, (unsigned long long)cpu->gpr[CPU_RCX]);
	sum_check(rig[times % 2], cpu, &sum);
	free(cpu);
	for (unsigned i = 0; i < 2; i++)
		rig_free(rig[i]);
}

static void
a_guest_moves_between_engines(void **state)
{
	move_between("jit", "interp", 100, false);
}

static void
a_guest_moves_to_kvm_and_back(void **state)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	struct engine_exit exit = { .reason = ENGINE_EXIT_ERROR };
	struct cpu_state cpu;
	struct rig *rig;

	if (fd < 0) {
		print_message("# /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	(void)close(fd);
	rig = rig_new("kvm", 1, NULL);
	rig_state(rig, 0, &cpu);
	RIG_PUT(rig, RIG_CODE, small_sum_code);
	cpu.gpr[CPU_RDI] = RIG_DATA;
	cpu.gpr[CPU_RSI] = FLAG;
	rig_put64(rig, FLAG, 1);
	if (engine_set(rig->vcpu[0], &cpu, &exit.err) == 0)
		engine_run(rig->vcpu[0], &exit);
	rig_free(rig);
	if (exit.reason == ENGINE_EXIT_ERROR) {
		print_message("# /dev/kvm: %s\n", exit.err.msg);
		skip();
	}
	move_between("jit", "kvm", 20, true);
}

/* ----------------------------------------------------------------- devices */

RIG_ASM(locked_code, 64, "lock add [rdi], eax\n lock xchg [rsi], eax" DONE);

static void *
wants_to_be_alone(void *arg)
{
	struct rig *rig = arg;
	struct err err = { .msg = "" };

	if (mem_dirty_start(rig->mem, &err) == 0)
		mem_dirty_stop(rig->mem);
	return NULL;
}

static void
wait_for_another(struct rig *rig, unsigned vcpu, gpa_t gpa, bool write,
    unsigned size, void *data)
{
	unsigned *calls = rig->arg;
	pthread_t thread;

	(*calls)++;
	assert_int_equal(pthread_create(&thread, NULL, wants_to_be_alone, rig),
	    0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	/* It changes the code that is running. */
	rig_put(rig, RIG_CODE, locked_code, 1);
}

/*
 * A locked access to a device's memory: the device is called as always, and may
 * write to memory and wait for others.
 */
static void
a_locked_access_to_a_device(void **state)
{
	struct rig *rig = rig_new("jit", 2, NULL);
	unsigned calls = 0;
	struct cpu_state cpu;
	struct rig_end end;

	RIG_PUT(rig, RIG_CODE, locked_code);
	rig->mmio = wait_for_another;
	rig->arg = &calls;
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RAX] = 5;
	cpu.gpr[CPU_RDI] = RIG_MMIO;
	cpu.gpr[CPU_RSI] = RIG_MMIO + 16;
	rig_run_done(rig, &cpu, &end);
	assert_int_equal(calls, 4);
	assert_int_equal((uint32_t)end.cpu.gpr[CPU_RAX], UINT32_MAX);
	rig_free(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_on),
		cmocka_unit_test(kicks_are_quick),
		cmocka_unit_test(a_kick_beforehand_counts),
		cmocka_unit_test(a_pause_of_many),
		cmocka_unit_test(state_is_the_same_after_a_thousand_kicks),
		cmocka_unit_test(a_guest_moves_between_engines),
		cmocka_unit_test(a_guest_moves_to_kvm_and_back),
		cmocka_unit_test(a_locked_access_to_a_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
