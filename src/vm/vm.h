/*
 * The machine: memory, an engine, vCPU threads, buses, devices, one life.
 *
 *              vm_new          devices are made (device_new)
 *                 │
 *              vm_start
 *                 ▼
 *              running ◀── vm_resume ── paused ◀─┐ vm_reset, load
 *                 │ └────── vm_pause ────▶ │  └──┘
 *                 │ vm_end (anybody)       │
 *                 ▼                        ▼
 *               ended ─────── vm_free ──▶ gone
 *
 * Threads      Life-cycle calls come from the event loop's thread, but vm_end()
 *              from anywhere, whatever locks are held.
 * Locks        device, back end, irq, clock: see base/lock.h.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include <sched.h>

#include "base/buf.h"
#include "base/err.h"
#include "config/config.h"
#include "engine/engine.h"
#include "event/event.h"
#include "mem/mem.h"

struct bus;
struct clock;
struct irq_chip;
struct vm;

struct vm_params {
	const char *name;
	struct config *config; /* the root; borrowed: outlives the machine */
	struct loop *loop;     /* borrowed: outlives the machine */
	const char *engine;    /* a name for engine_new() */
	struct engine_soft soft;
	unsigned vcpus;        /* 0: a bench, which has no CPU threads */
	unsigned sockets, cores, threads;
	uint64_t mem_size;
	struct mem_params mem;
	bool x2apic;
	bool strict_msr;
	bool strict_io; /* -e: an access to an unowned port ends the machine */
	bool exit_on_pause;
	bool manual_clock; /* the bench moves time by hand */
};

int vm_new(const struct vm_params *params, struct vm **vm, struct err *err);
void vm_free(struct vm *vm); /* any state; NULL is fine */

/* How a machine ended; the numbers are bhyve's. */
enum vm_end {
	VM_END_NONE = 0,
	VM_END_RESET = 1,
	VM_END_POWEROFF = 2,
	VM_END_HALT = 3,
	VM_END_TRIPLE_FAULT = 4,
	VM_END_ERROR = 5, /* vm_end_error() has the sentence */
};

/*
 * Set the state of a vCPU before vm_start(): loaders call it for vCPU 0.
 * Those not set start at power-on reset, all but vCPU 0 waiting for INIT.
 */
int vm_set_cpu(struct vm *vm, unsigned vcpu, const struct cpu_state *cpu,
    struct err *err);

/* Before vm_start(): the host CPUs that a vCPU's thread may run on. */
void vm_pin(struct vm *vm, unsigned vcpu, const cpu_set_t *cpus);

int vm_start(struct vm *vm, struct err *err);
/* Returns with every vCPU out of the guest, devices quiet, time stopped. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);
/* While paused: CPUs and devices as after power-on; memory is kept. */
int vm_reset(struct vm *vm, struct err *err);

/* The first call decides; then vm_run() returns.  Never blocks. */
void vm_end(struct vm *vm, enum vm_end how);
void vm_end_failed(struct vm *vm, const struct err *why);
/* Run the event loop until the machine ends, and stop its vCPUs. */
enum vm_end vm_run(struct vm *vm);
enum vm_end vm_ended(const struct vm *vm); /* VM_END_NONE: it goes on */
const char *vm_end_error(const struct vm *vm);

/* While paused or before start. */
int vm_get_cpu(struct vm *vm, unsigned vcpu, struct cpu_state *cpu,
    struct err *err);

/* Save and load all devices and the clock, while paused or on the bench. */
void vm_save_devices(struct vm *vm, struct buf *out);
int vm_load_devices(struct vm *vm, struct reader *in, struct err *err);

const char *vm_name(const struct vm *vm);
struct config *vm_config(struct vm *vm);
struct loop *vm_loop(struct vm *vm);
struct mem *vm_mem(struct vm *vm);
struct clock *vm_clock(struct vm *vm);
struct engine *vm_engine(struct vm *vm);
struct bus *vm_ports(struct vm *vm);
struct bus *vm_mmio(struct vm *vm);
unsigned vm_vcpus(const struct vm *vm);
const struct vm_params *vm_params(const struct vm *vm);

/*
 * The interrupt chips, set by the irq directory when its device is made.  The
 * machine only passes the engine's questions on to it.
 */
struct vm_irq_ops {
	uint8_t (*intack)(struct irq_chip *chip);
	bool (*intr)(struct irq_chip *chip);
	void (*eoi)(struct irq_chip *chip, uint8_t vector);
};
void vm_set_irq_chip(struct vm *vm, struct irq_chip *chip,
    const struct vm_irq_ops *ops);
struct irq_chip *vm_irq_chip(struct vm *vm);

#endif
