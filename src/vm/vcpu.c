/*
 * vCPU threads: one each, running the engine until the machine says otherwise.
 *
 *      made ──vcpus_start──▶ parked ◀──vcpus_pause── running
 *                              │ └──vcpus_resume──────▶ │
 *                              └─────vcpus_stop──▶ gone ◀┘
 *
 * A thread looks at `hold`, `quit` and the machine's end before it enters the
 * engine; whoever sets one kicks the engine afterwards.  A kick stays until the
 * engine has seen it, so none can fall between the look and the entry.
 */
#include <errno.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/log.h"
#include "vm/vm_impl.h"

/* SDM volume 3, table 10-1: where a processor is after a reset. */
#define RESET_CS_BASE 0xffff0000u
#define RESET_RIP 0xfff0u

/* May no vCPU run now?  After the end a thread only waits to be joined. */
static bool
vcpus_held(const struct vm *vm)
{
	return atomic_load(&vm->hold) || atomic_load(&vm->quit) ||
	    vm_ended(vm) != VM_END_NONE;
}

/* Wait here while the machine is held.  False when the thread must go. */
static bool
vcpu_park(struct vm *vm)
{
	bool stay;

	pthread_mutex_lock(&vm->park_mutex);
	vm->parked++;
	pthread_cond_broadcast(&vm->park_cond);
	while (vcpus_held(vm) && !atomic_load(&vm->quit))
		pthread_cond_wait(&vm->park_cond, &vm->park_mutex);
	stay = !atomic_load(&vm->quit);
	vm->parked--;
	pthread_mutex_unlock(&vm->park_mutex);
	return stay;
}

/*
 * The machine is about to end, and this line is all that will be left to look
 * at.  On AMD processors not even that: KVM resets the vCPU before it tells.
 */
static void
vcpu_tell_triple_fault(struct vcpu *vcpu)
{
	static struct log_limit limit;
	struct cpu_state *cpu = xcalloc(1, sizeof(*cpu));
	const struct cpu_segment *cs = &cpu->seg[CPU_CS];
	struct err err;

	if (engine_get(vcpu->engine, cpu, &err) < 0)
		log_guest(&limit, "vCPU %u: triple fault; %s", vcpu->id,
		    err.msg);
	else if (cpu->rip == RESET_RIP && cs->base == RESET_CS_BASE)
		log_guest(&limit,
		    "vCPU %u: triple fault; its registers are lost", vcpu->id);
	else
		log_guest(&limit,
		    "vCPU %u: triple fault; rip %#jx, cs %#x base %#jx, "
		    "rsp %#jx, cr0 %#jx, cr2 %#jx, cr3 %#jx, cr4 %#jx, "
		    "efer %#jx, idt %#jx limit %#x",
		    vcpu->id, (uintmax_t)cpu->rip, cs->selector,
		    (uintmax_t)cs->base, (uintmax_t)cpu->gpr[CPU_RSP],
		    (uintmax_t)cpu->cr0, (uintmax_t)cpu->cr2,
		    (uintmax_t)cpu->cr3, (uintmax_t)cpu->cr4,
		    (uintmax_t)cpu->efer, (uintmax_t)cpu->idtr.base,
		    cpu->idtr.limit);
	free(cpu);
}

static void *
vcpu_main(void *arg)
{
	struct vcpu *vcpu = arg;
	struct vm *vm = vcpu->vm;
	struct engine_exit exit;
	char name[16];

	(void)snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
	(void)pthread_setname_np(pthread_self(), name); /* for debuggers only */
	for (;;) {
		if (vcpus_held(vm)) {
			if (!vcpu_park(vm))
				return NULL;
			continue;
		}
		engine_run(vcpu->engine, &exit);
		switch (exit.reason) {
		case ENGINE_EXIT_KICKED:
			if (atomic_exchange(&vcpu->ask_halted, false))
				atomic_store(&vcpu->halted,
				    engine_halted(vcpu->engine));
			break;
		case ENGINE_EXIT_TRIPLE_FAULT:
			vcpu_tell_triple_fault(vcpu);
			vm_end(vm, VM_END_TRIPLE_FAULT);
			break;
		case ENGINE_EXIT_DEBUG:
			(void)err_set(&exit.err, -EIO,
			    "vCPU %u stopped for a debugger, and there is none",
			    vcpu->id);
			vm_end_failed(vm, &exit.err);
			break;
		case ENGINE_EXIT_ERROR:
			vm_end_failed(vm, &exit.err);
			break;
		}
	}
}

int
vcpus_new(struct vm *vm, struct err *err)
{
	int error;

	vm->vcpus = xcalloc(vm->params.vcpus, sizeof(vm->vcpus[0]));
	atomic_store(&vm->hold, true);
	for (unsigned i = 0; i < vm->params.vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		vcpu->vm = vm;
		vcpu->id = i;
		error = engine_vcpu_new(vm->engine, i, &vcpu->engine, err);
		if (error < 0)
			return error;
	}
	return vcpus_reset(vm, err);
}

void
vcpus_free(struct vm *vm)
{
	if (vm->vcpus == NULL)
		return;
	for (unsigned i = 0; i < vm->params.vcpus; i++)
		engine_vcpu_free(vm->vcpus[i].engine);
	free(vm->vcpus);
	vm->vcpus = NULL;
}

/* Power-on: the first one runs from its reset vector, the others wait. */
int
vcpus_reset(struct vm *vm, struct err *err)
{
	struct cpu_state *cpu = xcalloc(1, sizeof(*cpu));
	int error = 0;

	for (unsigned i = 0; i < vm->params.vcpus && error == 0; i++) {
		error = engine_get(vm->vcpus[i].engine, cpu, err);
		if (error < 0)
			break;
		cpu_state_reset(cpu, i);
		if (vm->params.x2apic)
			cpu->apic_base |= CPU_APIC_BASE_X2APIC;
		error = engine_set(vm->vcpus[i].engine, cpu, err);
	}
	free(cpu);
	return error;
}

int
vm_set_cpu(struct vm *vm, unsigned vcpu, const struct cpu_state *cpu,
    struct err *err)
{
	assert(vcpu < vm->params.vcpus && vm->life != VM_RUNNING);
	return engine_set(vm->vcpus[vcpu].engine, cpu, err);
}

int
vm_get_cpu(struct vm *vm, unsigned vcpu, struct cpu_state *cpu, struct err *err)
{
	assert(vcpu < vm->params.vcpus && vm->life != VM_RUNNING);
	return engine_get(vm->vcpus[vcpu].engine, cpu, err);
}

void
vm_pin(struct vm *vm, unsigned vcpu, const cpu_set_t *cpus)
{
	assert(vcpu < vm->params.vcpus && vm->life == VM_MADE);
	vm->vcpus[vcpu].pinned = true;
	vm->vcpus[vcpu].cpus = *cpus;
}

static int
vcpu_start(struct vcpu *vcpu, struct err *err)
{
	pthread_attr_t attr;
	int error;

	pthread_attr_init(&attr);
	if (vcpu->pinned)
		/* Checked by pthread_create(), which says EINVAL. */
		(void)pthread_attr_setaffinity_np(&attr, sizeof(vcpu->cpus),
		    &vcpu->cpus);
	error = pthread_create(&vcpu->thread, &attr, vcpu_main, vcpu);
	pthread_attr_destroy(&attr);
	if (error == EINVAL && vcpu->pinned)
		return err_set(err, -error,
		    "vCPU %u: none of the host CPUs it is pinned to is there",
		    vcpu->id);
	if (error != 0)
		return err_set_errno(err, -error,
		    "cannot make a thread for vCPU %u", vcpu->id);
	vcpu->has_thread = true;
	return 0;
}

int
vcpus_start(struct vm *vm, struct err *err)
{
	int error = 0;

	for (unsigned i = 0; i < vm->params.vcpus && error == 0; i++)
		error = vcpu_start(&vm->vcpus[i], err);
	return error;
}

void
vcpus_kick(struct vm *vm)
{
	for (unsigned i = 0; vm->vcpus != NULL && i < vm->params.vcpus; i++) {
		if (vm->vcpus[i].engine != NULL)
			engine_kick(vm->vcpus[i].engine);
	}
}

void
vcpus_pause(struct vm *vm)
{
	unsigned threads = 0;

	for (unsigned i = 0; i < vm->params.vcpus; i++)
		threads += vm->vcpus[i].has_thread;
	pthread_mutex_lock(&vm->park_mutex);
	atomic_store(&vm->hold, true);
	vcpus_kick(vm);
	while (vm->parked < threads)
		pthread_cond_wait(&vm->park_cond, &vm->park_mutex);
	pthread_mutex_unlock(&vm->park_mutex);
}

void
vcpus_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->park_mutex);
	atomic_store(&vm->hold, false);
	pthread_cond_broadcast(&vm->park_cond);
	pthread_mutex_unlock(&vm->park_mutex);
}

void
vcpus_stop(struct vm *vm)
{
	if (vm->vcpus == NULL)
		return;
	pthread_mutex_lock(&vm->park_mutex);
	atomic_store(&vm->quit, true);
	pthread_cond_broadcast(&vm->park_cond);
	pthread_mutex_unlock(&vm->park_mutex);
	vcpus_kick(vm);
	for (unsigned i = 0; i < vm->params.vcpus; i++) {
		struct vcpu *vcpu = &vm->vcpus[i];

		if (vcpu->has_thread)
			pthread_join(vcpu->thread, NULL);
		vcpu->has_thread = false;
	}
}
