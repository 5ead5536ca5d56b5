/*
 * Devices: models, their life, what they map and what they see of the machine.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "vm/vm_impl.h"

/* ---- models ------------------------------------------------------------- */

/* The linker gathers what DEVICE_MODEL puts into this section. */
extern const struct device_model *const __start_device_models[]
    __attribute__((weak));
extern const struct device_model *const __stop_device_models[]
    __attribute__((weak));

const struct device_model *
device_model_find(const char *name)
{
	for (const struct device_model *const *m = __start_device_models;
	     m < __stop_device_models; m++) {
		if (strcmp((*m)->name, name) == 0)
			return *m;
	}
	return NULL;
}

const struct device_model *
device_model_next(const struct device_model *after)
{
	const struct device_model *next = NULL;

	for (const struct device_model *const *m = __start_device_models;
	     m < __stop_device_models; m++) {
		if (after != NULL && strcmp((*m)->name, after->name) <= 0)
			continue;
		if (next == NULL || strcmp((*m)->name, next->name) < 0)
			next = *m;
	}
	return next;
}

/* ---- life --------------------------------------------------------------- */

int
device_new(struct vm *vm, const char *model_name, const char *name,
    struct config *node, struct device **devp, struct err *err)
{
	const struct device_model *model = device_model_find(model_name);
	struct device *dev;
	int error;

	if (model == NULL)
		return err_set(err, -ENODEV, "%s: unknown device", model_name);
	if (device_find(vm, name) != NULL)
		return err_set(err, -EEXIST, "%s: there is one already", name);
	dev = xcalloc(1, sizeof(*dev));
	dev->vm = vm;
	dev->model = model;
	dev->name = xstrdup(name);
	dev->node = node;
	dev->self = xcalloc(1, model->size);
	lock_init(&dev->lock);
	/* In the list at once: what it mapped outlives a failed create(). */
	TAILQ_INSERT_TAIL(vm_devices(vm), dev, link);
	error = model->create(dev, dev->self, err);
	if (error < 0)
		return error;
	device_reset(dev);
	if (devp != NULL)
		*devp = dev;
	return 0;
}

void
device_unlink(struct device *dev)
{
	TAILQ_REMOVE(vm_devices(dev->vm), dev, link);
}

void
device_free(struct device *dev)
{
	struct reg_map *map;

	if (dev->model->destroy != NULL)
		dev->model->destroy(dev->self);
	clock_forget(vm_clock(dev->vm), &dev->lock);
	while ((map = dev->maps) != NULL) {
		dev->maps = map->next;
		free(map);
	}
	lock_fini(&dev->lock);
	free(dev->self);
	free(dev->name);
	free(dev);
}

int
device_start(struct device *dev, struct err *err)
{
	int error = 0;

	if (dev->model->start != NULL) {
		lock_take(&dev->lock);
		error = dev->model->start(dev->self, err);
		lock_drop(&dev->lock);
	}
	return error;
}

void
device_pause(struct device *dev)
{
	if (dev->model->pause != NULL) {
		lock_take(&dev->lock);
		dev->model->pause(dev->self);
		lock_drop(&dev->lock);
	}
}

void
device_resume(struct device *dev)
{
	if (dev->model->resume != NULL) {
		lock_take(&dev->lock);
		dev->model->resume(dev->self);
		lock_drop(&dev->lock);
	}
}

struct device *
device_find(struct vm *vm, const char *name)
{
	struct device *dev;

	TAILQ_FOREACH (dev, vm_devices(vm), link) {
		if (strcmp(dev->name, name) == 0)
			return dev;
	}
	return NULL;
}

struct device *
device_next(struct vm *vm, struct device *after)
{
	return after == NULL ? TAILQ_FIRST(vm_devices(vm)) :
			       TAILQ_NEXT(after, link);
}

/* ---- mapping ------------------------------------------------------------ */

static struct bus *
device_bus(struct device *dev, enum bus_space space)
{
	return space == BUS_PORT ? vm_ports(dev->vm) : vm_mmio(dev->vm);
}

static struct io_range *
device_range(struct device *dev, enum bus_space space, uint64_t len,
    const struct io_ops *ops, void *arg, bool fixed)
{
	return bus_add_range(device_bus(dev, space), len, ops, arg,
	    dev->model->unlocked ? NULL : &dev->lock, fixed);
}

static int
device_map_fixed(struct device *dev, enum bus_space space, uint64_t base,
    uint64_t len, const struct io_ops *ops, void *arg, struct err *err)
{
	struct io_range *range = device_range(dev, space, len, ops, arg, true);
	int error = io_range_map(range, base, err);

	return error < 0 ? err_prefix(err, error, "%s", dev->name) : 0;
}

static int
device_map_regs(struct device *dev, enum bus_space space, uint64_t base,
    const struct reg *regs, size_t n, struct err *err)
{
	struct reg_map *map = xcalloc(1, sizeof(*map)), **tail;
	uint64_t len = 0;

	map->dev = dev;
	map->regs = regs;
	map->count = n;
	for (tail = &dev->maps; *tail != NULL; tail = &(*tail)->next)
		;
	*tail = map;
	for (size_t i = 0; i < n; i++)
		len = MAX(len, (uint64_t)regs[i].offset + regs[i].size);
	return device_map_fixed(dev, space, base, len, &regs_ops, map, err);
}

int
device_map_ports(struct device *dev, uint16_t base, const struct reg *regs,
    size_t n, struct err *err)
{
	return device_map_regs(dev, BUS_PORT, base, regs, n, err);
}

int
device_map_mmio(struct device *dev, gpa_t base, const struct reg *regs,
    size_t n, struct err *err)
{
	return device_map_regs(dev, BUS_MMIO, base, regs, n, err);
}

int
device_map_port_ops(struct device *dev, uint16_t base, uint16_t len,
    const struct io_ops *ops, struct err *err)
{
	return device_map_fixed(dev, BUS_PORT, base, len, ops, dev->self, err);
}

int
device_map_mmio_ops(struct device *dev, gpa_t base, uint64_t len,
    const struct io_ops *ops, struct err *err)
{
	return device_map_fixed(dev, BUS_MMIO, base, len, ops, dev->self, err);
}

struct io_range *
device_add_range(struct device *dev, enum bus_space space, uint64_t len,
    const struct io_ops *ops, void *arg)
{
	return device_range(dev, space, len, ops, arg != NULL ? arg : dev->self,
	    false);
}

/* ---- a device's world --------------------------------------------------- */

int
device_check_keys(struct device *dev, const char *const *known, size_t n,
    struct err *err)
{
	struct config *child;
	char *path;
	size_t i;

	if (dev->node == NULL)
		return 0;
	for (child = config_child(dev->node, NULL); child != NULL;
	     child = config_child(dev->node, child)) {
		for (i = 0; i < n; i++) {
			if (strcmp(config_name(child), known[i]) == 0)
				break;
		}
		if (i == n) {
			path = config_path(child);
			(void)err_set(err, -EINVAL,
			    "%s: the device \"%s\" has no such option", path,
			    dev->model->name);
			free(path);
			return -EINVAL;
		}
	}
	return 0;
}

void
device_timer_init(struct device *dev, struct clock_timer *timer,
    clock_timer_fn *fn)
{
	clock_timer_init(timer, vm_clock(dev->vm), &dev->lock, fn, dev->self);
}

const char *
device_name(const struct device *dev)
{
	return dev->name;
}

const struct device_model *
device_model(const struct device *dev)
{
	return dev->model;
}

void *
device_self(struct device *dev)
{
	return dev->self;
}

struct vm *
device_vm(struct device *dev)
{
	return dev->vm;
}

struct config *
device_config(struct device *dev)
{
	return dev->node;
}

struct mem *
device_mem(struct device *dev)
{
	return vm_mem(dev->vm);
}

struct irq_chip *
device_irq_chip(struct device *dev)
{
	return vm_irq_chip(dev->vm);
}

struct clock *
device_clock(struct device *dev)
{
	return vm_clock(dev->vm);
}

struct loop *
device_loop(struct device *dev)
{
	return vm_loop(dev->vm);
}

struct lock *
device_lock(struct device *dev)
{
	return &dev->lock;
}
