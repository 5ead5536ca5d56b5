/*
 * PCI functions: configuration space as bytes and a mask for each.
 *
 * Models       the type 0 header and the capability list of PCI Local Bus 3.0,
 *              chapter 6, as bhyve shows them: of the command register bits
 *              0-6 and 8-10 can be written, and of the status register only
 *              the level of INTx changes.  What BARs, messages and pins are is
 *              told by their own files.
 * Locking      A function's cfg is guarded by its device's lock: taken here for
 *              accesses of the guest, held already in life-cycle calls.  The
 *              masks, `initial` and the address are constant once the machine
 *              has been made.  irq_lock is taken under the device's lock, or
 *              alone.
 * Invariants   1. cfg and initial differ only in writable bits, so that is what
 *                 a loaded state is measured by (pci_func_check).
 *              2. Every function of a slot with more than one has bit 7 of
 *                 its header type set.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "pci/pci_impl.h"
#include "pci/pci_legacy.h"
#include "vm/vm.h"

#define PCI_STATUS_INTX 0x0008u
#define PCI_STATUS_CAP_LIST 0x0010
#define PCI_HEADER_MULTI 0x80
#define PCI_INT_LINE_NONE 0xff
#define PCI_CAP_FIRST 0x40
#define PCI_CAP_HEADER 2u /* id, next */

void
pci_set_cfg(struct pci_func *func, unsigned off, unsigned size, uint32_t value,
    uint32_t writable)
{
	assert(range_within(off, size, PCI_CFG_SIZE));
	for (unsigned i = 0; i < size; i++) {
		func->cfg[off + i] = (uint8_t)(value >> (8 * i));
		func->initial[off + i] = func->cfg[off + i];
		func->writable[off + i] = (uint8_t)(writable >> (8 * i));
	}
}

uint32_t
pci_get_cfg(const struct pci_func *func, unsigned off, unsigned size)
{
	uint32_t value = 0;

	assert(size <= 4 && range_within(off, size, PCI_CFG_SIZE));
	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)func->cfg[off + i] << (8 * i);
	return value;
}

unsigned
pci_add_capability(struct pci_func *func, uint8_t id, const void *body,
    unsigned len)
{
	const uint8_t *bytes = body;
	unsigned off = func->cap_end;

	assert(range_within(off, PCI_CAP_HEADER + len, PCI_CFG_SIZE));
	pci_set_cfg(func, off, 1, id, 0);
	for (unsigned i = 0; i < len; i++)
		pci_set_cfg(func, off + PCI_CAP_HEADER + i, 1, bytes[i], 0);
	if (func->cap_last != 0)
		pci_set_cfg(func, func->cap_last + 1u, 1, off, 0);
	else
		pci_set_cfg(func, PCI_CFG_CAP_PTR, 1, off, 0);
	pci_set_cfg(func, PCI_CFG_STATUS, 2, PCI_STATUS_CAP_LIST, 0);
	func->cap_last = (uint8_t)off;
	func->cap_end = (uint16_t)round_up(off + PCI_CAP_HEADER + len, 4);
	return off;
}

struct pci_func *
pci_func_of(struct device *dev)
{
	/* What -s may name is one, and nothing else. */
	return device_model(dev)->pci_help != NULL ? device_self(dev) : NULL;
}

int
pci_node_addr(struct config *node, struct pci_addr *addr, struct err *err)
{
	char *path = node != NULL ? config_path(node) : xstrdup("");
	unsigned bus, slot, func;
	int end = 0, rc = 0;

	if (sscanf(path, "pci.%3u.%2u.%1u%n", &bus, &slot, &func, &end) != 3 ||
	    path[end] != '\0' || bus >= PCI_BUSES || slot >= PCI_SLOTS ||
	    func >= PCI_FUNCS)
		rc = err_set(err, -EINVAL,
		    "\"%s\" is not the place of a PCI device", path);
	else
		*addr = (struct pci_addr) { (uint8_t)bus, (uint8_t)slot,
			(uint8_t)func };
	free(path);
	return rc;
}

/* Invariant 2, when `func` has just been attached. */
static void
mark_multi_function(struct pci_func *func)
{
	struct pci_addr addr = func->addr;
	struct vm *vm = device_vm(func->dev);

	for (addr.func = 0; addr.func < PCI_FUNCS; addr.func++) {
		struct pci_func *other = pci_find(vm, addr);

		if (other == NULL || other == func)
			continue;
		pci_set_cfg(other, PCI_CFG_HEADER, 1, PCI_HEADER_MULTI, 0);
		pci_set_cfg(func, PCI_CFG_HEADER, 1, PCI_HEADER_MULTI, 0);
	}
}

int
pci_func_init(struct pci_func *func, struct device *dev,
    const struct pci_ids *ids, struct err *err)
{
	int rc;

	func->dev = dev;
	func->cap_end = PCI_CAP_FIRST;
	lock_init(&func->irq_lock);
	rc = pci_node_addr(device_config(dev), &func->addr, err);
	if (rc < 0)
		return rc;
	pci_set_cfg(func, PCI_CFG_VENDOR, 2, ids->vendor, 0);
	pci_set_cfg(func, PCI_CFG_DEVICE, 2, ids->device, 0);
	pci_set_cfg(func, PCI_CFG_COMMAND, 2, 0, PCI_COMMAND_WRITABLE);
	pci_set_cfg(func, PCI_CFG_REVISION, 1, ids->revision, 0);
	pci_set_cfg(func, PCI_CFG_PROG_IF, 1, ids->prog_if, 0);
	pci_set_cfg(func, PCI_CFG_SUBCLASS, 1, ids->subclass, 0);
	pci_set_cfg(func, PCI_CFG_CLASS, 1, ids->class, 0);
	pci_set_cfg(func, PCI_CFG_SUBVENDOR, 2, ids->subvendor, 0);
	pci_set_cfg(func, PCI_CFG_SUBDEVICE, 2, ids->subdevice, 0);
	pci_set_cfg(func, PCI_CFG_INT_LINE, 1, PCI_INT_LINE_NONE, 0xff);
	rc = pci_host_attach(device_vm(dev), func, err);
	if (rc < 0)
		return rc;
	mark_multi_function(func);
	return 0;
}

void
pci_func_fini(struct pci_func *func)
{
	if (func->dev == NULL)
		return;
	pci_msix_fini(func);
	lock_fini(&func->irq_lock);
	func->dev = NULL;
}

void
pci_func_reset(struct pci_func *func)
{
	memcpy(func->cfg, func->initial, sizeof(func->cfg));
	pci_msix_reset(func);
}

/* What follows from config space as it is now. */
static void
func_update(struct pci_func *func)
{
	uint32_t command = pci_get_cfg(func, PCI_CFG_COMMAND, 2);

	assert(lock_held(device_lock(func->dev)));
	atomic_store_explicit(&func->master, command & PCI_COMMAND_MASTER,
	    memory_order_release);
	pci_bar_update(func);
	pci_msi_update(func);
	pci_msix_update(func);
	pci_intx_update(func);
}

void
pci_func_changed(struct pci_func *func)
{
	pci_intx_forget(func);
	func_update(func);
}

bool
pci_may_dma(const struct pci_func *func)
{
	return atomic_load_explicit(&func->master, memory_order_acquire);
}

int
pci_func_check(const struct pci_func *func, struct err *err)
{
	for (unsigned off = 0; off < PCI_CFG_SIZE; off++) {
		uint8_t fixed = (uint8_t)~func->writable[off];

		if ((func->cfg[off] & fixed) != (func->initial[off] & fixed))
			return err_set(err, -EINVAL,
			    "configuration byte 0x%02x is 0x%02x, which no "
			    "guest could have written",
			    off, func->cfg[off]);
	}
	return pci_msix_check(func, err);
}

void
pci_add_window(struct pci_func *func, const struct pci_window *window)
{
	assert(func->window_count < PCI_WINDOWS);
	assert(window->off % 4 == 0 && window->off < PCI_CFG_SIZE);
	func->windows[func->window_count++] = *window;
}

static const struct pci_window *
find_window(const struct pci_func *func, unsigned off)
{
	for (unsigned i = 0; i < func->window_count; i++) {
		if (func->windows[i].off == round_down(off, 4))
			return &func->windows[i];
	}
	return NULL;
}

static uint32_t
cfg_read_locked(struct pci_func *func, unsigned off, unsigned size)
{
	uint32_t value = pci_get_cfg(func, off, size);

	/* The one bit of it all that the device itself changes. */
	if (off <= PCI_CFG_STATUS && PCI_CFG_STATUS - off < size &&
	    pci_intx_asserted(func))
		value |= PCI_STATUS_INTX << (8 * (PCI_CFG_STATUS - off));
	return value;
}

uint32_t
pci_cfg_read(struct pci_func *func, unsigned off, unsigned size)
{
	const struct pci_window *window = find_window(func, off);
	struct lock *lock = device_lock(func->dev);
	uint32_t value;

	assert(off % 4 + size <= 4);
	lock_take(lock);
	if (window != NULL)
		value = window->read(device_self(func->dev), off % 4, size);
	else
		value = cfg_read_locked(func, off, size);
	lock_drop(lock);
	return value;
}

static void
cfg_write_locked(struct pci_func *func, unsigned off, unsigned size,
    uint32_t value)
{
	bool changed = false;

	for (unsigned i = 0; i < size; i++) {
		uint8_t mask = func->writable[off + i];
		uint8_t old = func->cfg[off + i];
		uint8_t byte = (uint8_t)(value >> (8 * i));

		func->cfg[off + i] = (old & ~mask) | (byte & mask);
		changed |= func->cfg[off + i] != old;
	}
	if (!changed)
		return;
	func_update(func);
	if (func->cfg_changed != NULL)
		func->cfg_changed(device_self(func->dev), off, size);
}

void
pci_cfg_write(struct pci_func *func, unsigned off, unsigned size,
    uint32_t value)
{
	const struct pci_window *window = find_window(func, off);
	struct lock *lock = device_lock(func->dev);

	assert(off % 4 + size <= 4 && off < PCI_CFG_SIZE);
	lock_take(lock);
	if (window != NULL)
		window->write(device_self(func->dev), off % 4, size, value);
	else
		cfg_write_locked(func, off, size, value);
	lock_drop(lock);
}

int
pci_ids_override(struct config *node, struct pci_ids *ids, struct err *err)
{
	const struct {
		const char *key;
		uint16_t *id;
	} words[] = {
		{ "pcireg.vendor", &ids->vendor },
		{ "pcireg.device", &ids->device },
		{ "pcireg.subvendor", &ids->subvendor },
		{ "pcireg.subdevice", &ids->subdevice },
	};
	int64_t value;
	int rc;

	if (node == NULL)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		rc = config_int(node, words[i].key, *words[i].id, 0, UINT16_MAX,
		    &value, err);
		if (rc < 0)
			return rc;
		*words[i].id = (uint16_t)value;
	}
	rc = config_int(node, "pcireg.revid", ids->revision, 0, UINT8_MAX,
	    &value, err);
	if (rc < 0)
		return rc;
	ids->revision = (uint8_t)value;
	return 0;
}

static int
create_device(struct vm *vm, struct config *node, struct pci_addr addr,
    struct err *err)
{
	const struct device_model *model;
	char *name = NULL, *place;
	const char *alias;
	struct device *dev;
	int rc;

	place = xasprintf("pci slot %u:%u:%u", addr.bus, addr.slot, addr.func);
	rc = config_get(node, "device", &name, err);
	if (rc == -ENOENT)
		rc = err_set(err, -EINVAL, "%s: missing \"device\" value",
		    place);
	if (rc < 0)
		goto out;
	alias = pci_legacy_alias(name);
	if (alias != NULL) {
		rc = err_set(err, -EINVAL,
		    "%s: legacy device \"%s\", use \"%s\" instead", place, name,
		    alias);
		goto out;
	}
	model = device_model_find(name);
	if (model == NULL || model->pci_help == NULL) {
		rc = err_set(err, -EINVAL, "%s: unknown device \"%s\"", place,
		    name);
		goto out;
	}
	free(place);
	place = xasprintf("%s@%u:%u:%u", name, addr.bus, addr.slot, addr.func);
	rc = device_new(vm, name, place, node, &dev, err);
out:
	free(place);
	free(name);
	return rc < 0 ? rc : 0;
}

/* The functions of a slot: higher ones need function 0 to be found by. */
static int
create_slot(struct vm *vm, struct config *node, struct pci_addr addr,
    struct err *err)
{
	struct config *func;
	char word[4];
	int rc;

	for (unsigned i = 0; i < PCI_FUNCS; i++) {
		(void)snprintf(word, sizeof(word), "%u", i);
		func = config_find(node, word);
		if (func == NULL)
			continue;
		if (i > 0 && config_find(node, "0") == NULL)
			return err_set(err, -EINVAL,
			    "pci slot %u:%u:%u: the slot has no function 0",
			    addr.bus, addr.slot, i);
		addr.func = (uint8_t)i;
		rc = create_device(vm, func, addr, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int
pci_create_devices(struct vm *vm, struct err *err)
{
	struct config *root = vm_config(vm), *bus, *slot;
	char path[16];
	int rc;

	if (device_find(vm, "pci") == NULL) {
		rc = device_new(vm, "pci", "pci", NULL, NULL, err);
		if (rc < 0)
			return rc;
	}
	for (unsigned i = 0; i < PCI_BUSES; i++) {
		(void)snprintf(path, sizeof(path), "pci.%u", i);
		bus = config_find(root, path);
		for (unsigned j = 0; bus != NULL && j < PCI_SLOTS; j++) {
			(void)snprintf(path, sizeof(path), "%u", j);
			slot = config_find(bus, path);
			if (slot == NULL)
				continue;
			rc = create_slot(vm, slot,
			    (struct pci_addr) { (uint8_t)i, (uint8_t)j, 0 },
			    err);
			if (rc < 0)
				return rc;
		}
	}
	return pci_assign(vm, err);
}
