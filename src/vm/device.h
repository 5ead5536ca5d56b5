/*
 * Devices: a model says what a device is, the core gives it a life.
 *
 * A model registers itself with DEVICE_MODEL; nothing lists it.  The core makes
 * its state (zeroed), calls create(), and from then on enters it under the
 * device's lock: bus accesses, timers, life-cycle calls alike.
 *
 *      device_new          create ──▶ reset values ──▶ reset ──▶ changed
 *      vm_start            start
 *      vm_pause            pause          vm_resume   resume
 *      vm_reset            reset values ──▶ reset ──▶ changed
 *      load of a state     check (on a copy) ──▶ fields ──▶ changed
 *      vm_free             destroy
 *
 * State has one description, used for reset, save and load: the register
 * tables a device maps plus the model's `state` table, in this order.
 *
 * A device gets an offset, a size, a value.  It never sees the CPU.
 */
#ifndef VM_DEVICE_H
#define VM_DEVICE_H

#include "base/buf.h"
#include "base/err.h"
#include "base/lock.h"
#include "config/config.h"
#include "mem/mem.h"
#include "vm/bus.h"
#include "vm/clock.h"

struct device;
struct irq_chip;
struct vm;

/* ---- registers ---------------------------------------------------------- */

/*
 * One register of a table: where the guest finds it, the field that holds it,
 * its value after reset and the bits that a guest may change.
 */
struct reg {
	uint32_t offset;
	uint8_t size; /* 1, 2, 4 or 8, also the field's */
	size_t field; /* offsetof its field in the device's state */
	uint64_t reset;
	uint64_t writable;
	uint64_t clear;  /* bits that writing a 1 clears */
	uint64_t device; /* bits that the device itself changes */
	/* Optional: what a read gives instead of the field. */
	uint64_t (*read)(void *self, const struct reg *reg);
	/* Optional: called after the field took a guest's write of `value`. */
	void (*wrote)(void *self, const struct reg *reg, uint64_t value);
};

#define REG_SIZED(bytes, off, type, member, dflt, mask, ...)      \
	{                                                         \
		.offset = (off), .size = (bytes),                 \
		.field = offsetof(type, member), .reset = (dflt), \
		.writable = (mask), __VA_ARGS__                   \
	}
#define REG8(...) REG_SIZED(1, __VA_ARGS__)
#define REG16(...) REG_SIZED(2, __VA_ARGS__)
#define REG32(...) REG_SIZED(4, __VA_ARGS__)
#define REG64(...) REG_SIZED(8, __VA_ARGS__)

#define REG_TABLE(table) (table), ARRAY_SIZE(table)

/* ---- the rest of the state ---------------------------------------------- */

enum field_kind {
	FIELD_INT,   /* `count` integers of `size` bytes, each at most max */
	FIELD_BOOL,  /* `count` of them, saved as 0 or 1 */
	FIELD_TIMER, /* a struct clock_timer: armed and its deadline */
};

struct field {
	enum field_kind kind;
	uint8_t size;
	uint32_t count;
	size_t offset;
	uint64_t reset; /* a timer is disarmed by reset */
	uint64_t max;
	uint16_t since; /* state_version that brought it; 0: the first */
	const char *name;
};

#define FIELD_SIZE(type, member) sizeof(((type *)0)->member)
#define STATE_INT_MAX(type, member, dflt, most)                                \
	{                                                                      \
		.kind = FIELD_INT, .size = FIELD_SIZE(type, member),           \
		.count = 1, .offset = offsetof(type, member), .reset = (dflt), \
		.max = (most), .name = #member                                 \
	}
#define STATE_INT(type, member, dflt) \
	STATE_INT_MAX(type, member, dflt, UINT64_MAX)
#define STATE_ARRAY_MAX(type, member, dflt, most)                           \
	{                                                                   \
		.kind = FIELD_INT, .size = FIELD_SIZE(type, member[0]),     \
		.count =                                                    \
		    FIELD_SIZE(type, member) / FIELD_SIZE(type, member[0]), \
		.offset = offsetof(type, member), .reset = (dflt),          \
		.max = (most), .name = #member                              \
	}
#define STATE_ARRAY(type, member, dflt) \
	STATE_ARRAY_MAX(type, member, dflt, UINT64_MAX)
#define STATE_BOOL(type, member, dflt)                                       \
	{                                                                    \
		.kind = FIELD_BOOL, .size = sizeof(bool), .count = 1,        \
		.offset = offsetof(type, member), .reset = (dflt), .max = 1, \
		.name = #member                                              \
	}
#define STATE_TIMER(type, member)                                 \
	{                                                         \
		.kind = FIELD_TIMER, .count = 1,                  \
		.offset = offsetof(type, member), .name = #member \
	}

/* ---- models ------------------------------------------------------------- */

struct device_model {
	const char *name;
	uint16_t state_version; /* from 1; grows when saved fields change */
	size_t size;            /* of the state */
	const struct field *state;
	size_t state_count;
	/* The bus does not take the device's lock; the model says why. */
	bool unlocked;
	/* Not one of the machine's own: what -s may name.  NULL for others. */
	const char *pci_help;

	int (*create)(struct device *dev, void *self, struct err *err);
	int (*start)(void *self, struct err *err);
	void (*pause)(void *self);
	void (*resume)(void *self);
	/* Beyond the table's reset values, which are in place already. */
	void (*reset)(void *self);
	/* A guest's register write, a reset or a load has changed fields. */
	void (*changed)(void *self);
	/* Is a loaded state possible?  self is a copy: read fields only. */
	int (*check)(const void *self, struct err *err);
	void (*destroy)(void *self);
};

#define STATE_TABLE(table) .state = (table), .state_count = ARRAY_SIZE(table)

#define DEVICE_MODEL(id)                                                   \
	static const struct device_model id##_model;                       \
	static const struct device_model *const id##_model_entry           \
	    __attribute__((used, section("device_models"))) = &id##_model; \
	static const struct device_model id##_model

/* NULL if no model has the name. */
const struct device_model *device_model_find(const char *name);
/* All models in order of name; NULL begins and ends. */
const struct device_model *device_model_next(const struct device_model *after);

/* ---- a device's world --------------------------------------------------- */

/*
 * Make a device.  `name` is how logs and saved states call it ("com1"); node
 * holds its keys and may be NULL.  The machine owns it from here.
 */
int device_new(struct vm *vm, const char *model, const char *name,
    struct config *node, struct device **dev, struct err *err);
/* The device of that name, or NULL. */
struct device *device_find(struct vm *vm, const char *name);
/* All devices in order of making; NULL begins and ends. */
struct device *device_next(struct vm *vm, struct device *after);

const char *device_name(const struct device *dev);
const struct device_model *device_model(const struct device *dev);
void *device_self(struct device *dev);
struct vm *device_vm(struct device *dev);
struct config *device_config(struct device *dev); /* its node; may be NULL */
struct mem *device_mem(struct device *dev);
struct irq_chip *device_irq_chip(struct device *dev);
struct clock *device_clock(struct device *dev);
struct loop *device_loop(struct device *dev);
struct lock *device_lock(struct device *dev);

/* Keys of its node that the model does not know: an error that names one. */
int device_check_keys(struct device *dev, const char *const *known, size_t n,
    struct err *err);

/* A timer under the device's lock.  List it with STATE_TIMER to save it. */
void device_timer_init(struct device *dev, struct clock_timer *timer,
    clock_timer_fn *fn);

/* Registers at a fixed place, by table: the core does all the rest. */
int device_map_ports(struct device *dev, uint16_t base, const struct reg *regs,
    size_t n, struct err *err);
int device_map_mmio(struct device *dev, gpa_t base, const struct reg *regs,
    size_t n, struct err *err);

/* Registers at a fixed place, by handlers. */
int device_map_port_ops(struct device *dev, uint16_t base, uint16_t len,
    const struct io_ops *ops, struct err *err);
int device_map_mmio_ops(struct device *dev, gpa_t base, uint64_t len,
    const struct io_ops *ops, struct err *err);

/*
 * A range that moves (a BAR): unmapped at first.  arg is what ops get; NULL
 * means the device's state.
 */
struct io_range *device_add_range(struct device *dev, enum bus_space space,
    uint64_t len, const struct io_ops *ops, void *arg);

/* ---- saved state -------------------------------------------------------- */

/*
 * One record: model, name, version, fields.  Loading checks all of it on a copy
 * before anything changes: 0, or -EINVAL and a sentence, and nothing changed.
 */
void device_save(struct device *dev, struct buf *out);
int device_load(struct device *dev, struct reader *in, struct err *err);

#endif
