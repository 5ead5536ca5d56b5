/*
 * The machine's life, and the glue between engine, buses and interrupt chips.
 *
 * The loop's thread makes, starts, pauses and ends a machine; vCPU threads
 * enter through the engine's call-outs below.  Ending is the one thing that
 * anybody may ask for at any time: the first claim of `end` wins, wakes the
 * loop and kicks the vCPUs, and takes no lock on the way.
 *
 * Halt watch   Once a second each vCPU is asked whether only an NMI or a reset
 *              could wake it.  If all said so twice in a row, nobody is left to
 *              send one, and the machine has halted.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "vm/platform.h"
#include "vm/vm_impl.h"

#define VM_HALT_PERIOD_NS NS_PER_SEC
#define VM_HALT_ROUNDS 2

/* ---- what the engine asks ----------------------------------------------- */

static void
vm_strict_io(struct vm *vm, uint16_t port, bool write, unsigned size)
{
	static const char *const suffix[] = { "", "b", "w", "", "l" };
	struct err err;

	(void)err_set(&err, -EIO, "Unhandled %s%s 0x%04x", write ? "out" : "in",
	    suffix[size], port);
	vm_end_failed(vm, &err);
}

static void
vm_pio(void *arg, unsigned vcpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	struct vm *vm = arg;
	uint8_t *item = data;

	for (uint32_t i = 0; i < count; i++, item += size) {
		if (!bus_access(vm->ports, port, write, size, item) &&
		    vm->params.strict_io) {
			vm_strict_io(vm, port, write, size);
			return;
		}
	}
}

static void
vm_mmio_access(void *arg, unsigned vcpu, gpa_t gpa, bool write, unsigned size,
    void *data)
{
	struct vm *vm = arg;

	(void)bus_access(vm->mmio, gpa, write, size, data);
}

static uint8_t
vm_intack(void *arg)
{
	struct vm *vm = arg;

	/* No chips, no wire: what a floating data bus gives. */
	return vm->irq_ops != NULL ? vm->irq_ops->intack(vm->irq_chip) : 0xff;
}

static bool
vm_intr(void *arg)
{
	struct vm *vm = arg;

	return vm->irq_ops != NULL && vm->irq_ops->intr(vm->irq_chip);
}

static void
vm_eoi(void *arg, uint8_t vector)
{
	struct vm *vm = arg;

	if (vm->irq_ops != NULL)
		vm->irq_ops->eoi(vm->irq_chip, vector);
}

/* ---- the end ------------------------------------------------------------ */

static void
vm_decide_end(struct vm *vm, enum vm_end how, const struct err *why)
{
	if (atomic_exchange(&vm->end_claimed, true))
		return;
	if (why != NULL)
		vm->end_err = *why;
	atomic_store(&vm->end, how);
	event_wake(vm->end_event);
	vcpus_kick(vm);
}

void
vm_end(struct vm *vm, enum vm_end how)
{
	assert(how != VM_END_NONE && how != VM_END_ERROR);
	vm_decide_end(vm, how, NULL);
}

void
vm_end_failed(struct vm *vm, const struct err *why)
{
	vm_decide_end(vm, VM_END_ERROR, why);
}

static void
vm_end_noticed(void *arg)
{
	struct vm *vm = arg;

	loop_stop(vm->params.loop);
}

const char *
vm_end_error(const struct vm *vm)
{
	return vm->end_err.msg;
}

enum vm_end
vm_ended(const struct vm *vm)
{
	return atomic_load(&vm->end);
}

static void
vm_watch_halt(void *arg, uint64_t expirations)
{
	struct vm *vm = arg;
	bool all = true;

	for (unsigned i = 0; i < vm->params.vcpus; i++) {
		all = all && atomic_exchange(&vm->vcpus[i].halted, false);
		atomic_store(&vm->vcpus[i].ask_halted, true);
	}
	vm->halt_rounds = all ? vm->halt_rounds + 1 : 0;
	if (vm->halt_rounds >= VM_HALT_ROUNDS)
		vm_end(vm, VM_END_HALT);
	else
		vcpus_kick(vm);
}

/* ---- life --------------------------------------------------------------- */

int
vm_new(const struct vm_params *params, struct vm **vmp, struct err *err)
{
	struct vm *vm = xcalloc(1, sizeof(*vm));
	struct engine_params ep;
	int error;

	assert(params->vcpus <= ENGINE_VCPUS_MAX);
	vm->params = *params;
	vm->name = xstrdup(params->name);
	vm->params.name = vm->name;
	vm->params.engine = NULL; /* borrowed; engine_name() knows */
	vm->params.soft = (struct engine_soft) { 0 };
	TAILQ_INIT(&vm->devices);
	pthread_mutex_init(&vm->park_mutex, NULL);
	pthread_cond_init(&vm->park_cond, NULL);
	vm->ports = bus_new(UINT16_MAX);
	vm->mmio = bus_new(UINT64_MAX);
	error = event_add_wake(params->loop, vm_end_noticed, vm, &vm->end_event,
	    err);
	if (error < 0)
		goto fail;
	error = event_add_timer(params->loop, vm_watch_halt, vm,
	    &vm->halt_event, err);
	if (error < 0)
		goto fail;
	error = clock_new(params->manual_clock ? NULL : params->loop,
	    &vm->clock, err);
	if (error < 0)
		goto fail;
	vm->mem = mem_new(&params->mem);
	error =
	    mem_add_pc_ram(vm->mem, params->mem_size, PLAT_LOWMEM_LIMIT, err);
	if (error < 0)
		goto fail;
	ep = (struct engine_params) {
		.mem = vm->mem,
		.host = {
			.pio = vm_pio,
			.mmio = vm_mmio_access,
			.intack = vm_intack,
			.intr = vm_intr,
			.eoi = vm_eoi,
			.arg = vm,
		},
		.vcpus = params->vcpus,
		.sockets = params->sockets,
		.cores = params->cores,
		.threads = params->threads,
		.x2apic = params->x2apic,
		.strict_msr = params->strict_msr,
		.exit_on_pause = params->exit_on_pause,
		.soft = params->soft,
	};
	error = engine_new(params->engine, &ep, &vm->engine, err);
	if (error < 0)
		goto fail;
	error = vcpus_new(vm, err);
	if (error < 0)
		goto fail;
	*vmp = vm;
	return 0;
fail:
	vm_free(vm);
	return error;
}

void
vm_free(struct vm *vm)
{
	struct device *dev;

	if (vm == NULL)
		return;
	vcpus_stop(vm);
	if (vm->clock != NULL)
		clock_stop(vm->clock);
	while ((dev = TAILQ_LAST(&vm->devices, device_list)) != NULL) {
		device_unlink(dev);
		device_free(dev);
	}
	vcpus_free(vm);
	engine_free(vm->engine);
	bus_free(vm->ports);
	bus_free(vm->mmio);
	clock_free(vm->clock);
	event_remove(vm->halt_event);
	event_remove(vm->end_event);
	mem_free(vm->mem);
	pthread_cond_destroy(&vm->park_cond);
	pthread_mutex_destroy(&vm->park_mutex);
	free(vm->name);
	free(vm);
}

static void
vm_go(struct vm *vm)
{
	vm->life = VM_RUNNING;
	clock_start(vm->clock);
	engine_time_start(vm->engine);
	vcpus_resume(vm);
	if (vm->params.vcpus > 0)
		event_arm(vm->halt_event, VM_HALT_PERIOD_NS, VM_HALT_PERIOD_NS);
}

int
vm_start(struct vm *vm, struct err *err)
{
	struct device *dev;
	int error;

	assert(vm->life == VM_MADE);
	TAILQ_FOREACH (dev, &vm->devices, link) {
		error = device_start(dev, err);
		if (error < 0)
			return error;
	}
	error = vcpus_start(vm, err);
	if (error < 0)
		return error;
	vm_go(vm);
	return 0;
}

void
vm_pause(struct vm *vm)
{
	struct device *dev;

	assert(vm->life == VM_RUNNING);
	event_disarm(vm->halt_event);
	vm->halt_rounds = 0;
	vcpus_pause(vm);
	engine_time_stop(vm->engine);
	clock_stop(vm->clock);
	TAILQ_FOREACH (dev, &vm->devices, link)
		device_pause(dev);
	vm->life = VM_PAUSED;
}

void
vm_resume(struct vm *vm)
{
	struct device *dev;

	assert(vm->life == VM_PAUSED);
	TAILQ_FOREACH (dev, &vm->devices, link)
		device_resume(dev);
	vm_go(vm);
}

int
vm_reset(struct vm *vm, struct err *err)
{
	struct device *dev;

	assert(vm->life == VM_PAUSED || vm->life == VM_MADE);
	TAILQ_FOREACH (dev, &vm->devices, link)
		device_reset(dev);
	return vcpus_reset(vm, err);
}

enum vm_end
vm_run(struct vm *vm)
{
	assert(vm->life == VM_RUNNING);
	while (vm_ended(vm) == VM_END_NONE)
		loop_run(vm->params.loop);
	event_disarm(vm->halt_event);
	vcpus_stop(vm);
	clock_stop(vm->clock);
	vm->life = VM_ENDED;
	return vm_ended(vm);
}

/* ---- saved state -------------------------------------------------------- */

void
vm_save_devices(struct vm *vm, struct buf *out)
{
	struct device *dev;

	assert(vm->life != VM_RUNNING || vm->params.manual_clock);
	buf_put_int(out, clock_now(vm->clock), 8);
	TAILQ_FOREACH (dev, &vm->devices, link)
		device_save(dev, out);
}

int
vm_load_devices(struct vm *vm, struct reader *in, struct err *err)
{
	struct device *dev;
	uint64_t now;
	int error;

	assert(vm->life != VM_RUNNING || vm->params.manual_clock);
	now = reader_int(in, 8);
	if (in->bad)
		return err_set(err, -EINVAL, "the saved state is cut short");
	if (now >= CLOCK_MAX_NS)
		return err_set(err, -EINVAL,
		    "the saved clock shows a time that no machine reaches");
	clock_set(vm->clock, now);
	TAILQ_FOREACH (dev, &vm->devices, link) {
		error = device_load(dev, in, err);
		if (error < 0)
			return error;
	}
	return 0;
}

/* ---- its parts ---------------------------------------------------------- */

void
vm_set_irq_chip(struct vm *vm, struct irq_chip *chip,
    const struct vm_irq_ops *ops)
{
	vm->irq_chip = chip;
	vm->irq_ops = ops;
}

struct irq_chip *
vm_irq_chip(struct vm *vm)
{
	return vm->irq_chip;
}

const char *
vm_name(const struct vm *vm)
{
	return vm->name;
}

struct config *
vm_config(struct vm *vm)
{
	return vm->params.config;
}

struct loop *
vm_loop(struct vm *vm)
{
	return vm->params.loop;
}

struct mem *
vm_mem(struct vm *vm)
{
	return vm->mem;
}

struct clock *
vm_clock(struct vm *vm)
{
	return vm->clock;
}

struct engine *
vm_engine(struct vm *vm)
{
	return vm->engine;
}

struct bus *
vm_ports(struct vm *vm)
{
	return vm->ports;
}

struct bus *
vm_mmio(struct vm *vm)
{
	return vm->mmio;
}

unsigned
vm_vcpus(const struct vm *vm)
{
	return vm->params.vcpus;
}

const struct vm_params *
vm_params(const struct vm *vm)
{
	return &vm->params;
}

struct device_list *
vm_devices(struct vm *vm)
{
	return &vm->devices;
}
