/*
 * What the files of this directory share.
 */
#ifndef VM_VM_IMPL_H
#define VM_VM_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/lock.h"
#include "vm/bus.h"
#include "vm/clock.h"
#include "vm/device.h"
#include "vm/vm.h"

/* ---- bus.c -------------------------------------------------------------- */

struct bus *bus_new(uint64_t limit); /* limit: the highest address */
void bus_free(struct bus *bus);
/* Owned by the bus; unmapped.  lock is taken around the handlers. */
struct io_range *bus_add_range(struct bus *bus, uint64_t len,
    const struct io_ops *ops, void *arg, struct lock *lock, bool fixed);

/* ---- device.c ----------------------------------------------------------- */

/* Registers mapped by table: what the handlers of regs.c get. */
struct reg_map {
	struct device *dev;
	const struct reg *regs;
	size_t count;
	struct reg_map *next; /* in order of mapping */
};

struct device {
	struct vm *vm;
	const struct device_model *model;
	char *name;
	struct config *node;
	void *self;
	struct lock lock;
	struct reg_map *maps; /* owned */
	TAILQ_ENTRY(device) link;
};

void device_unlink(struct device *dev); /* from its machine's list */
void device_free(struct device *dev);
int device_start(struct device *dev, struct err *err);
void device_pause(struct device *dev);
void device_resume(struct device *dev);

/* ---- device_state.c ----------------------------------------------------- */

void device_reset(struct device *dev);
uint64_t int_load(const void *p, unsigned size);
void int_store(void *p, unsigned size, uint64_t value);

static inline void *
field_at(void *self, size_t offset)
{
	return (uint8_t *)self + offset;
}

/* ---- regs.c ------------------------------------------------------------- */

extern const struct io_ops regs_ops; /* arg: a struct reg_map */

/* ---- vm.c --------------------------------------------------------------- */

TAILQ_HEAD(device_list, device);
struct device_list *vm_devices(struct vm *vm);

/* ---- vcpu.c ------------------------------------------------------------- */

struct vcpu {
	struct vm *vm;
	unsigned id;
	struct engine_vcpu *engine; /* owned */
	pthread_t thread;
	bool has_thread;
	bool pinned;
	cpu_set_t cpus; /* if pinned */
	/* Of the halt watch: asked by the loop, answered by the thread. */
	atomic_bool ask_halted;
	atomic_bool halted;
};

int vcpus_new(struct vm *vm, struct err *err);
void vcpus_free(struct vm *vm);
int vcpus_start(struct vm *vm, struct err *err); /* threads, parked */
void vcpus_pause(struct vm *vm); /* returns when all are parked */
void vcpus_resume(struct vm *vm);
void vcpus_stop(struct vm *vm); /* joins the threads */
void vcpus_kick(struct vm *vm); /* from anywhere */
int vcpus_reset(struct vm *vm, struct err *err);

/* ---- the machine -------------------------------------------------------- */

enum vm_life { VM_MADE, VM_RUNNING, VM_PAUSED, VM_ENDED };

struct vm {
	struct vm_params params;
	char *name;
	struct mem *mem;       /* owned, as all below */
	struct engine *engine; /* NULL on a machine without vCPUs */
	struct clock *clock;
	struct bus *ports, *mmio;
	struct device_list devices;
	struct irq_chip *irq_chip; /* borrowed: a device's state */
	const struct vm_irq_ops *irq_ops;
	enum vm_life life; /* the loop's thread only */

	/* The end: decided once, by any thread. */
	_Atomic(enum vm_end) end;
	struct err end_err; /* written before `end` by the one who decides */
	atomic_bool end_claimed;
	struct event *end_event;

	/* vCPU threads: parked while `hold`, gone after `quit`. */
	struct vcpu *vcpus;
	pthread_mutex_t park_mutex;
	pthread_cond_t park_cond;
	unsigned parked;  /* guarded by park_mutex */
	atomic_bool hold; /* changed under park_mutex, peeked at without */
	atomic_bool quit;
	struct event *halt_event;
	unsigned halt_rounds;
};

#endif
