/*
 * A vCPU of the software engine: its life between instructions.
 *
 *      engine_run ──▶ look at `attention` ──▶ deliver what is due
 *                          ▲                        │
 *                          │                        ▼
 *                          └── dispatch.c ◀── not halted, not waiting
 *
 * Requests     Another thread sets a bit of `attention`, an atomic word of the
 *              processor, and wakes its thread if that sleeps.  Translated
 *              code and interpreter look at the word often; the loop here
 *              takes bits out before it acts on them, so that none is lost.
 * Interrupts   X86_ATTENTION_INTR says "look again".  If the processor does not
 *              take interrupts then, `intr_waits` remembers, and the dispatcher
 *              comes back as soon as it does.
 * Sleep        HLT and waiting for INIT or SIPI: a futex on `attention`.
 * Timer        The local APIC's next deadline is a POSIX timer whose signal goes
 *              to the thread in engine_run() and sets a bit.
 * Faults       A divide error, an SSE or x87 exception or a misaligned vector
 *              operand in translated code arrives as a signal of the host:
 *              the handler sends the code to where the instruction is handed
 *              to the interpreter, which raises what the guest must see.
 */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/jit/jit_impl.h"
#include "engine/x86/event.h"

#define TIMER_SIGNAL SIGVTALRM

static const int fault_signals[] = { SIGFPE, SIGSEGV, SIGBUS };
static struct sigaction fault_before[ARRAY_SIZE(fault_signals)];

/* --------------------------------------------------------------- signals */

static void
timer_handler(int signal)
{
	struct jit_vcpu *vcpu = world_self();

	if (vcpu != NULL)
		atomic_fetch_or(&vcpu->cpu->attention, X86_ATTENTION_TIMER);
}

static void
fault_handler(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;
	const uint8_t *at = (const uint8_t *)regs[REG_RIP];
	struct jit_vcpu *vcpu = world_self();
	uint16_t guest;

	if (vcpu != NULL && jit_cache_holds(vcpu->jit, at) &&
	    jit_cache_place(vcpu->jit, at, &guest)) {
		regs[REG_RCX] = guest;
		regs[REG_RIP] = (greg_t)vcpu->jit->cache.stubs.emulate;
		return;
	}
	/* Ours: as if we had not been asked. */
	for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++) {
		if (fault_signals[i] != signal)
			continue;
		if (fault_before[i].sa_flags & SA_SIGINFO)
			fault_before[i].sa_sigaction(signal, info, context);
		else
			(void)sigaction(signal, &fault_before[i], NULL);
	}
}

static void
signals_install(void)
{
	struct sigaction timer = {
		.sa_handler = timer_handler,
		.sa_flags = SA_RESTART,
	};
	struct sigaction fault = {
		.sa_sigaction = fault_handler,
		.sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	sigemptyset(&timer.sa_mask);
	sigemptyset(&fault.sa_mask);
	if (sigaction(TIMER_SIGNAL, &timer, NULL) != 0)
		abort(); /* only for a signal that does not exist */
	for (size_t i = 0; i < ARRAY_SIZE(fault_signals); i++) {
		if (sigaction(fault_signals[i], &fault, &fault_before[i]) != 0)
			abort();
	}
}

/* -------------------------------------------------------------- requests */

static void
futex_wake(_Atomic uint32_t *word)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void
jit_vcpu_attend(struct jit_vcpu *vcpu, uint32_t bits)
{
	/* Pairs with sleep_until_attention(): one of both sees the other. */
	atomic_fetch_or(&vcpu->cpu->attention, bits);
	if (atomic_load(&vcpu->asleep))
		futex_wake(&vcpu->cpu->attention);
}

void
jit_vcpu_kick(struct engine_vcpu *v)
{
	jit_vcpu_attend(jit_vcpu_of(v), X86_ATTENTION_KICK);
}

void
jit_vcpu_nmi(struct engine_vcpu *v)
{
	jit_vcpu_attend(jit_vcpu_of(v), X86_ATTENTION_NMI);
}

static void
sleep_until_attention(struct jit_vcpu *vcpu)
{
	struct x86_cpu *cpu = vcpu->cpu;

	x86_fpu_put(cpu);
	world_leave(vcpu);
	atomic_store(&vcpu->asleep, true);
	while (atomic_load(&cpu->attention) == 0)
		(void)syscall(SYS_futex, &cpu->attention, FUTEX_WAIT_PRIVATE, 0,
		    NULL, NULL, 0);
	atomic_store(&vcpu->asleep, false);
	world_enter(vcpu);
}

/* --------------------------------------------- what the local APIC asks */

static uint64_t
apic_now(void *arg)
{
	struct jit_vcpu *vcpu = arg;

	x86_fpu_put(vcpu->cpu); /* the clock is the C library's */
	return jit_now(vcpu->jit);
}

static uint64_t
vcpu_tsc(struct x86_cpu *cpu)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);
	struct jit *jit = vcpu->jit;
	uint64_t host =
	    atomic_load(&jit->time_runs) ? jit_rdtsc() : jit->tsc_stopped;

	return host - atomic_load(&jit->tsc_base) + (uint64_t)vcpu->tsc_offset;
}

/* For translated code: neither of both changes while a vCPU runs. */
static void
tsc_tell(struct jit_vcpu *vcpu)
{
	vcpu->cpu->tsc_delta = (uint64_t)vcpu->tsc_offset -
	    atomic_load(&vcpu->jit->tsc_base);
}

static void
vcpu_set_tsc(struct x86_cpu *cpu, uint64_t tsc)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);

	/* Any number, modulo 2^64: the guest may choose it. */
	vcpu->tsc_offset = (int64_t)((uint64_t)vcpu->tsc_offset + tsc -
	    vcpu_tsc(cpu));
	tsc_tell(vcpu);
	if (cpu->lapic != NULL) /* its deadline is another moment now */
		lapic_timer_due(cpu->lapic);
}

static uint64_t
apic_tsc(void *arg)
{
	struct jit_vcpu *vcpu = arg;

	return vcpu_tsc(vcpu->cpu);
}

static uint64_t
apic_tsc_to_ns(void *arg, uint64_t tsc)
{
	struct jit_vcpu *vcpu = arg;
	uint64_t now = vcpu_tsc(vcpu->cpu);
	unsigned __int128 ns;

	x86_fpu_put(vcpu->cpu);
	if (tsc <= now)
		return jit_now(vcpu->jit);
	ns = (unsigned __int128)(tsc - now) * NS_PER_SEC / vcpu->jit->tsc_hz;
	return jit_now(vcpu->jit) + (uint64_t)MIN(ns, UINT64_MAX / 2);
}

void
jit_vcpu_timer_rearm(struct jit_vcpu *vcpu)
{
	struct itimerspec when = { 0 };

	if (!vcpu->has_timer)
		return;
	if (vcpu->timer_at != UINT64_MAX) {
		uint64_t now = jit_now(vcpu->jit);
		/* 0 would disarm it. */
		uint64_t ns = vcpu->timer_at > now ? vcpu->timer_at - now : 1;

		when.it_value.tv_sec = (time_t)(ns / NS_PER_SEC);
		when.it_value.tv_nsec = (long)(ns % NS_PER_SEC);
	}
	(void)timer_settime(vcpu->timer, 0, &when, NULL); /* a valid time */
}

static void
apic_set_timer(void *arg, uint64_t ns)
{
	struct jit_vcpu *vcpu = arg;

	x86_fpu_put(vcpu->cpu);
	vcpu->timer_at = ns;
	jit_vcpu_timer_rearm(vcpu);
}

static void
apic_notify(void *arg)
{
	jit_vcpu_attend(arg, X86_ATTENTION_INTR);
}

static void
apic_signal(void *arg, enum lapic_signal signal, uint8_t vector)
{
	struct jit_vcpu *vcpu = arg;

	switch (signal) {
	case LAPIC_NMI:
		jit_vcpu_attend(vcpu, X86_ATTENTION_NMI);
		break;
	case LAPIC_INIT:
		jit_vcpu_attend(vcpu, X86_ATTENTION_INIT);
		break;
	case LAPIC_SIPI:
		atomic_store(&vcpu->sipi_vector, vector);
		jit_vcpu_attend(vcpu, X86_ATTENTION_SIPI);
		break;
	case LAPIC_EXTINT:
		atomic_store(&vcpu->extint, true);
		jit_vcpu_attend(vcpu, X86_ATTENTION_INTR);
		break;
	}
}

/*
 * Out of the world while a device is called, which may write memory and so take
 * code_lock: plain accesses of others may then come between those of a locked
 * one that a device has part in, but no other locked one.
 */
static void
callout_begin(struct jit_vcpu *vcpu)
{
	x86_fpu_put(vcpu->cpu);
	if (vcpu->exclusive)
		world_together(vcpu->jit, vcpu);
	world_leave(vcpu);
}

static void
callout_end(struct jit_vcpu *vcpu)
{
	world_enter(vcpu);
	if (vcpu->exclusive)
		world_alone(vcpu->jit, vcpu);
}

static void
apic_eoi(void *arg, uint8_t vector)
{
	struct jit_vcpu *vcpu = arg;
	const struct engine_host *host = &vcpu->jit->engine.params.host;

	if (!(atomic_load(&vcpu->jit->eoi_vectors[vector / 64]) &
		BIT(vector % 64)))
		return;
	callout_begin(vcpu);
	host->eoi(host->arg, vector);
	callout_end(vcpu);
}

static const struct lapic_ops apic_ops = {
	.now = apic_now,
	.tsc = apic_tsc,
	.tsc_to_ns = apic_tsc_to_ns,
	.set_timer = apic_set_timer,
	.notify = apic_notify,
	.signal = apic_signal,
	.eoi = apic_eoi,
};

/* ---------------------------------------------- what the processor asks */

static void
vcpu_pio(struct x86_cpu *cpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);
	const struct engine_host *host = &vcpu->jit->engine.params.host;

	callout_begin(vcpu);
	host->pio(host->arg, cpu->id, port, write, size, data, count);
	callout_end(vcpu);
}

static void
vcpu_mmio(struct x86_cpu *cpu, gpa_t gpa, bool write, unsigned size, void *data)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);
	const struct engine_host *host = &vcpu->jit->engine.params.host;

	callout_begin(vcpu);
	host->mmio(host->arg, cpu->id, gpa, write, size, data);
	callout_end(vcpu);
}

static void
vcpu_wrote_code(struct x86_cpu *cpu, gpa_t gpa, unsigned len)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);

	if (vcpu->exclusive) {
		/* An access is at most 16 bytes, and told byte by byte. */
		assert(vcpu->put_off < ARRAY_SIZE(vcpu->put_off_writes));
		vcpu->put_off_writes[vcpu->put_off].gpa = gpa;
		vcpu->put_off_writes[vcpu->put_off++].len = len;
		return;
	}
	x86_fpu_put(cpu);
	jit_cache_wrote(vcpu->jit, gpa, len);
}

static void
vcpu_flushed(struct x86_cpu *cpu, bool global)
{
	for (unsigned i = 0; i < X86_JUMP_SETS; i++) {
		if (global || cpu->jumps_local[i])
			jit_jumps_clear(cpu, i);
	}
}

/*
 * single_lock outlasts being alone, which ends while a device is called.  Who
 * waits for it is out of the world: its holder may be about to be alone.
 */
static void
vcpu_exclusive_begin(struct x86_cpu *cpu)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);

	x86_fpu_put(cpu);
	if (!lock_try(&vcpu->jit->single_lock)) {
		world_leave(vcpu);
		lock_take(&vcpu->jit->single_lock);
		world_enter(vcpu);
	}
	world_alone(vcpu->jit, vcpu);
	vcpu->exclusive = true;
}

static void
vcpu_exclusive_end(struct x86_cpu *cpu)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);

	x86_fpu_put(cpu);
	vcpu->exclusive = false;
	world_together(vcpu->jit, vcpu);
	lock_drop(&vcpu->jit->single_lock);
	for (unsigned i = 0; i < vcpu->put_off; i++)
		jit_cache_wrote(vcpu->jit, vcpu->put_off_writes[i].gpa,
		    vcpu->put_off_writes[i].len);
	vcpu->put_off = 0;
}

static const struct x86_host cpu_host = {
	.pio = vcpu_pio,
	.mmio = vcpu_mmio,
	.wrote_code = vcpu_wrote_code,
	.flushed = vcpu_flushed,
	.flushed_page = jit_jumps_clear_page,
	.exclusive_begin = vcpu_exclusive_begin,
	.exclusive_end = vcpu_exclusive_end,
	.tsc = vcpu_tsc,
	.set_tsc = vcpu_set_tsc,
};

/* ------------------------------------------------------------ attention */

/* SDM volume 3, 8.4: the first processor goes on from its reset vector. */
static void
take_init(struct jit_vcpu *vcpu)
{
	x86_cpu_init(vcpu->cpu);
	lapic_init(vcpu->cpu->lapic);
	vcpu->injected = false;
	vcpu->nmi_waits = false;
	vcpu->waiting = vcpu->vcpu.id == 0 ? CPU_RUNNING : CPU_WAIT_SIPI;
}

static void
take_sipi(struct jit_vcpu *vcpu)
{
	struct x86_cpu *cpu = vcpu->cpu;
	uint8_t vector = atomic_load(&vcpu->sipi_vector);

	if (vcpu->waiting != CPU_WAIT_SIPI)
		return;
	cpu->seg[CPU_CS].selector = (uint16_t)(vector << 8);
	cpu->seg[CPU_CS].base = (uint64_t)vector << 12;
	cpu->rip = 0;
	vcpu->waiting = CPU_RUNNING;
}

/* Act on the bits; true when engine_run() must return. */
static bool
take_attention(struct jit_vcpu *vcpu, struct engine_exit *exit)
{
	struct x86_cpu *cpu = vcpu->cpu;
	uint32_t bits = atomic_exchange(&cpu->attention, 0);

	x86_fpu_put(cpu);
	if (bits & X86_ATTENTION_STOP) {
		world_leave(vcpu);
		world_enter(vcpu);
	}
	if (bits & X86_ATTENTION_FLUSH)
		x86_tlb_flush(cpu, true);
	if (bits & X86_ATTENTION_TIMER)
		lapic_timer_due(cpu->lapic);
	if (bits & X86_ATTENTION_INIT)
		take_init(vcpu);
	if (bits & X86_ATTENTION_SIPI)
		take_sipi(vcpu);
	if (bits & X86_ATTENTION_NMI)
		vcpu->nmi_waits = true;
	if (bits & (X86_ATTENTION_INTR | X86_ATTENTION_TIMER))
		vcpu->intr_waits = true;
	if (bits & X86_ATTENTION_KICK) {
		exit->reason = ENGINE_EXIT_KICKED;
		return true;
	}
	return false;
}

/* The 8259 pair's vector, if its wire is up and leads here. */
static bool
take_extint(struct jit_vcpu *vcpu, uint8_t *vector)
{
	const struct engine_host *host = &vcpu->jit->engine.params.host;
	bool up;

	if (!atomic_load(&vcpu->extint) ||
	    !lapic_takes_extint(vcpu->cpu->lapic))
		return false;
	callout_begin(vcpu);
	atomic_store(&vcpu->extint, false);
	up = host->intr(host->arg);
	if (up) {
		*vector = host->intack(host->arg);
		/* Look again after this one. */
		atomic_store(&vcpu->extint, true);
	}
	callout_end(vcpu);
	return up;
}

/* Deliver one event that is due; false: the processor has shut down. */
static bool
deliver(struct jit_vcpu *vcpu)
{
	struct x86_cpu *cpu = vcpu->cpu;
	uint8_t vector;
	int pending;

	if (cpu->has_pending) {
		cpu->has_pending = false;
		cpu->event = cpu->pending;
		cpu->halted = false;
		return x86_deliver_exception(cpu);
	}
	if (vcpu->injected) {
		vcpu->injected = false;
		cpu->halted = false;
		return x86_deliver_interrupt(cpu, vcpu->injected_vector);
	}
	if (vcpu->nmi_waits && !cpu->nmi_masked && !cpu->sti_shadow &&
	    !cpu->mov_ss_shadow) {
		vcpu->nmi_waits = false;
		cpu->halted = false;
		return x86_deliver_interrupt(cpu, X86_NMI);
	}
	if (!vcpu->intr_waits || !x86_interruptible(cpu))
		return true;
	pending = lapic_pending(cpu->lapic);
	if (pending >= 0) {
		vector = lapic_accept(cpu->lapic);
	} else if (!take_extint(vcpu, &vector)) {
		vcpu->intr_waits = false;
		return true;
	}
	cpu->halted = false;
	cpu->stat_interrupts++;
	return x86_deliver_interrupt(cpu, vector);
}

/* ------------------------------------------------------------------- run */

/* The timer's signal must reach this thread. */
static void
timer_adopt(struct jit_vcpu *vcpu)
{
	pid_t tid = (pid_t)syscall(SYS_gettid);
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = TIMER_SIGNAL,
	};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, TIMER_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	if (!vcpu->has_timer || vcpu->timer_tid != tid) {
		if (vcpu->has_timer)
			(void)timer_delete(vcpu->timer);
		event._sigev_un._tid = tid;
		vcpu->has_timer =
		    timer_create(CLOCK_MONOTONIC, &event, &vcpu->timer) == 0;
		vcpu->timer_tid = tid;
	}
	jit_vcpu_timer_rearm(vcpu);
}

static void
shut_down(struct engine_exit *exit)
{
	exit->reason = ENGINE_EXIT_TRIPLE_FAULT;
}

static void
run(struct jit_vcpu *vcpu, struct engine_exit *exit)
{
	struct x86_cpu *cpu = vcpu->cpu;

	for (;;) {
		if (atomic_load(&cpu->attention) != 0 &&
		    take_attention(vcpu, exit))
			return;
		if (vcpu->waiting != CPU_RUNNING) {
			sleep_until_attention(vcpu);
			continue;
		}
		if (!deliver(vcpu)) {
			shut_down(exit);
			return;
		}
		if (cpu->halted) {
			sleep_until_attention(vcpu);
			continue;
		}
		if (jit_dispatch(vcpu) == JIT_STOP_TRIPLE_FAULT) {
			shut_down(exit);
			return;
		}
	}
}

void
jit_vcpu_run(struct engine_vcpu *v, struct engine_exit *exit)
{
	struct jit_vcpu *vcpu = jit_vcpu_of(v);

	v->engine->ops->time_start(v->engine);
	world_enter(vcpu);
	timer_adopt(vcpu);
	if (!vcpu->has_timer) {
		exit->reason = ENGINE_EXIT_ERROR;
		(void)err_set_errno(&exit->err, -errno,
		    "vCPU %u: no timer can be had", v->id);
	} else {
		jit_stubs_adopt(vcpu);
		tsc_tell(vcpu);
		vcpu->intr_waits = true;
		run(vcpu, exit);
	}
	x86_fpu_put(vcpu->cpu);
	world_leave(vcpu);
}

/* ----------------------------------------------------------------- state */

bool
jit_vcpu_halted(struct engine_vcpu *v)
{
	struct jit_vcpu *vcpu = jit_vcpu_of(v);

	return vcpu->waiting != CPU_RUNNING ||
	    (vcpu->cpu->halted && !(vcpu->cpu->rflags & X86_IF));
}

int
jit_vcpu_get(struct engine_vcpu *v, struct cpu_state *state, struct err *err)
{
	struct jit_vcpu *vcpu = jit_vcpu_of(v);
	struct x86_cpu *cpu = vcpu->cpu;
	uint32_t bits = atomic_load(&cpu->attention);

	/* What has been sent and not looked at yet. */
	if (bits & X86_ATTENTION_INIT) {
		atomic_fetch_and(&cpu->attention,
		    ~(uint32_t)X86_ATTENTION_INIT);
		take_init(vcpu);
	}
	if (bits & X86_ATTENTION_SIPI) {
		atomic_fetch_and(&cpu->attention,
		    ~(uint32_t)X86_ATTENTION_SIPI);
		take_sipi(vcpu);
	}
	x86_cpu_get(cpu, state);
	lapic_get(cpu->lapic, state);
	state->apic_base = lapic_base(cpu->lapic);
	state->cr8 = lapic_get_cr8(cpu->lapic);
	if (vcpu->waiting != CPU_RUNNING)
		state->run_state = vcpu->waiting;
	else
		state->run_state = cpu->halted ? CPU_HALTED : CPU_RUNNING;
	state->sipi_vector = atomic_load(&vcpu->sipi_vector);
	state->nmi_pending = vcpu->nmi_waits || (bits & X86_ATTENTION_NMI);
	if (vcpu->injected)
		state->interrupt = (struct cpu_event) {
			.valid = true,
			.vector = vcpu->injected_vector,
		};
	return 0;
}

int
jit_vcpu_set(struct engine_vcpu *v, const struct cpu_state *state,
    struct err *err)
{
	struct jit_vcpu *vcpu = jit_vcpu_of(v);
	struct jit_vcpu *self = world_self_in(vcpu->jit);
	struct x86_cpu *cpu = vcpu->cpu;
	int rc;

	/* It forgets translations, as mem_watch_stores() makes it do. */
	world_alone(vcpu->jit, self);
	rc = x86_cpu_set(cpu, state, err);
	world_together(vcpu->jit, self);
	if (rc == 0)
		rc = lapic_set(cpu->lapic, state, err);
	if (rc != 0)
		return rc;
	/* What was sent before and not looked at is the old state's. */
	atomic_fetch_and(&cpu->attention,
	    ~(uint32_t)(X86_ATTENTION_NMI | X86_ATTENTION_INIT |
		X86_ATTENTION_SIPI));
	cpu->halted = state->run_state == CPU_HALTED;
	vcpu->waiting =
	    state->run_state == CPU_HALTED ? CPU_RUNNING : state->run_state;
	atomic_store(&vcpu->sipi_vector, state->sipi_vector);
	vcpu->nmi_waits = state->nmi_pending;
	vcpu->injected = state->interrupt.valid;
	vcpu->injected_vector = state->interrupt.vector;
	vcpu->intr_waits = true;
	if (v->id == 0)
		atomic_store(&vcpu->extint, true);
	return 0;
}

/* ------------------------------------------------------------------ life */

void
jit_vcpu_destroy(struct engine_vcpu *v)
{
	struct jit_vcpu *vcpu = jit_vcpu_of(v);

	vcpu->jit->vcpus[v->id] = NULL;
	world_forget(vcpu);
	if (vcpu->has_timer)
		(void)timer_delete(vcpu->timer);
	lapic_free(vcpu->cpu->lapic);
	x86_cpu_free(vcpu->cpu);
	free(vcpu);
}

/* A system that sees TSC_ADJUST believes that the TSC is the same everywhere. */
static void
show_tsc_adjust(struct cpuid_table *cpuid)
{
	for (unsigned i = 0; i < cpuid->count; i++) {
		struct cpuid_leaf *leaf = &cpuid->leaf[i];

		if (leaf->leaf == 7 && leaf->subleaf == 0)
			leaf->ebx |= (uint32_t)BIT(1);
	}
}

int
jit_vcpu_create(struct engine *engine, unsigned id, struct engine_vcpu **v,
    struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct jit *jit = jit_of(engine);
	struct jit_vcpu *vcpu = xcalloc(1, sizeof(*vcpu));
	struct cpuid_table *cpuid = xcalloc(1, sizeof(*cpuid));
	const struct engine_params *params = &engine->params;
	struct cpu_state *reset = xcalloc(1, sizeof(*reset));
	int rc;

	pthread_once(&once, signals_install);
	vcpu->vcpu.engine = engine;
	vcpu->vcpu.id = id;
	vcpu->jit = jit;
	vcpu->timer_at = UINT64_MAX;
	vcpu->waiting = CPU_WAIT_INIT;
	cpuid_guest(&jit->model,
	    &(struct cpuid_params) {
		.vcpu = id,
		.cores = params->cores,
		.threads = params->threads,
		.x2apic = params->x2apic,
	    },
	    cpuid);
	show_tsc_adjust(cpuid);
	vcpu->cpu = x86_cpu_new(id, cpuid, &jit->msr, params->strict_msr);
	vcpu->cpu->host = &cpu_host;
	vcpu->cpu->owner = vcpu;
	vcpu->cpu->mem = &jit->mem;
	vcpu->cpu->lapic = lapic_new(jit->apics, id, &apic_ops, vcpu);
	free(cpuid);
	/* An empty table of jumps is not all zeroes: the first flush fills it. */
	for (unsigned i = 0; i < X86_JUMP_SETS; i++)
		vcpu->cpu->jumps_mode[i] = JIT_MODE_VALID;
	reset->xsave_size = vcpu->cpu->xsave_size; /* MXCSR is there */
	cpu_state_reset(reset, id);
	rc = jit_vcpu_set(&vcpu->vcpu, reset, err);
	free(reset);
	jit->vcpus[id] = vcpu;
	if (rc != 0) {
		jit_vcpu_destroy(&vcpu->vcpu);
		return rc;
	}
	*v = &vcpu->vcpu;
	return 0;
}
