/*
 * The host's side of PCI: the table of functions, configuration mechanism 1,
 * and the window of enhanced configuration accesses (ECAM).
 *
 * Models       PCI Local Bus 3.0, section 3.2.2.3.2: CONFIG_ADDRESS at 0xcf8, a
 *              register for accesses of 32 bits alone, and CONFIG_DATA at
 *              0xcfc-0xcff in every width.  PCI Express 2.0, section 7.2.2:
 *              1 MiB a bus at PLAT_ECAM_BASE.  An unaligned access, or one to
 *              a function that is not there, reads ones.  No function has
 *              extended space: its first dword says so with 0, the rest
 *              reads ones.
 * 0xcf9        The reset control register lies inside CONFIG_ADDRESS' dword.
 *              As chip sets do, we tell them apart by width and hand bytes on
 *              to chipset/reset.c.
 * Locking      Unlocked: an access goes on into a function under that device's
 *              lock, and two devices' locks must not nest (the function may
 *              be the caller of pci_find() in another thread).
 *              CONFIG_ADDRESS is an atomic; that two vCPUs must not interleave
 *              address and data is the guest's affair, as on a real machine.
 *              The table of functions is filled while the machine is made and
 *              constant once vCPUs run.
 */
#include <errno.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "chipset/reset.h"
#include "pci/pci_impl.h"
#include "vm/vm.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_ADDRESS_ENABLE 0x80000000u
#define CONFIG_ADDRESS_MASK 0x80fffffcu
#define CONFIG_DATA 0xcfc

#define ECAM_FUNC_SIZE 4096u
#define ECAM_EXTENDED_HEADER PCI_CFG_SIZE

struct pci_host {
	_Atomic uint32_t config_address;
	struct device *reset; /* borrowed: has the reset control register */
	/* One table a bus, made when its first function is: owned. */
	struct pci_func **buses[PCI_BUSES];
	struct pci_bus_windows windows[PCI_BUSES];
	struct pci_links links;
};

static const struct field pci_host_state[] = {
	STATE_INT(struct pci_host, config_address, 0),
	STATE_ARRAY(struct pci_host, links.reg, PLAT_PIRQ_DISABLED),
};

/* ---- the table ---------------------------------------------------------- */

static struct pci_func *
pci_host_find(const struct pci_host *host, struct pci_addr addr)
{
	if (host->buses[addr.bus] == NULL)
		return NULL;
	return host->buses[addr.bus][addr.slot * PCI_FUNCS + addr.func];
}

int
pci_host_attach(struct vm *vm, struct pci_func *func, struct err *err)
{
	struct device *dev = device_find(vm, "pci");
	struct pci_addr addr = func->addr;
	struct pci_host *host;
	int rc;

	if (dev == NULL) {
		rc = device_new(vm, "pci", "pci", NULL, &dev, err);
		if (rc < 0)
			return rc;
	}
	host = device_self(dev);
	if (pci_host_find(host, addr) != NULL)
		return err_set(err, -EEXIST,
		    "pci slot %u:%u:%u already occupied!", addr.bus, addr.slot,
		    addr.func);
	if (host->buses[addr.bus] == NULL)
		host->buses[addr.bus] =
		    xcalloc(PCI_SLOTS * PCI_FUNCS, sizeof(struct pci_func *));
	host->buses[addr.bus][addr.slot * PCI_FUNCS + addr.func] = func;
	func->host = host;
	return 0;
}

struct pci_host *
pci_host(struct vm *vm)
{
	struct device *dev = device_find(vm, "pci");

	return dev != NULL ? device_self(dev) : NULL;
}

struct pci_func *
pci_find(struct vm *vm, struct pci_addr addr)
{
	struct pci_host *host = pci_host(vm);

	return host != NULL ? pci_host_find(host, addr) : NULL;
}

struct pci_func *
pci_host_next(struct pci_host *host, struct pci_func *after)
{
	unsigned bus = 0, i = 0;

	if (after != NULL) {
		bus = after->addr.bus;
		i = after->addr.slot * PCI_FUNCS + after->addr.func + 1u;
	}
	for (; bus < PCI_BUSES; bus++, i = 0) {
		if (host->buses[bus] == NULL)
			continue;
		for (; i < PCI_SLOTS * PCI_FUNCS; i++) {
			if (host->buses[bus][i] != NULL)
				return host->buses[bus][i];
		}
	}
	return NULL;
}

struct pci_bus_windows *
pci_host_windows(struct pci_host *host, uint8_t bus)
{
	return &host->windows[bus];
}

struct pci_links *
pci_host_links(struct pci_host *host)
{
	return &host->links;
}

/* ---- mechanism 1 -------------------------------------------------------- */

static uint64_t
address_read(void *self, uint64_t off, unsigned size)
{
	struct pci_host *host = self;

	if (size == 4)
		return atomic_load_explicit(&host->config_address,
		    memory_order_relaxed);
	if (off == PLAT_PORT_RESET - CONFIG_ADDRESS)
		return reset_control_read(host->reset);
	return PCI_ONES;
}

static void
address_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct pci_host *host = self;

	if (size == 4)
		atomic_store_explicit(&host->config_address,
		    (uint32_t)value & CONFIG_ADDRESS_MASK,
		    memory_order_relaxed);
	else if (off == PLAT_PORT_RESET - CONFIG_ADDRESS)
		reset_control_write(host->reset, (uint8_t)value);
}

static const struct io_ops address_ops = {
	.read = address_read,
	.write = address_write,
	.widths = 1 | 4,
	.odd = IO_ONES,
	.aligned = true,
};

/* What CONFIG_ADDRESS points at: NULL for nothing, and the register. */
static struct pci_func *
address_decode(struct pci_host *host, unsigned *reg)
{
	uint32_t address =
	    atomic_load_explicit(&host->config_address, memory_order_relaxed);
	struct pci_addr addr = {
		.bus = (uint8_t)(address >> 16),
		.slot = (address >> 11) % PCI_SLOTS,
		.func = (address >> 8) % PCI_FUNCS,
	};

	if (!(address & CONFIG_ADDRESS_ENABLE))
		return NULL;
	*reg = address & 0xfc;
	return pci_host_find(host, addr);
}

static uint64_t
data_read(void *self, uint64_t off, unsigned size)
{
	unsigned reg;
	struct pci_func *func = address_decode(self, &reg);

	if (func == NULL)
		return PCI_ONES;
	return pci_cfg_read(func, reg + (unsigned)off, size);
}

static void
data_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	unsigned reg;
	struct pci_func *func = address_decode(self, &reg);

	if (func != NULL)
		pci_cfg_write(func, reg + (unsigned)off, size, (uint32_t)value);
}

static const struct io_ops data_ops = {
	.read = data_read,
	.write = data_write,
	.widths = 1 | 2 | 4,
	.odd = IO_ONES,
	.aligned = true,
};

/* ---- ECAM --------------------------------------------------------------- */

static struct pci_func *
ecam_decode(struct pci_host *host, uint64_t off, unsigned *reg)
{
	struct pci_addr addr = {
		.bus = (uint8_t)(off >> 20),
		.slot = (off >> 15) % PCI_SLOTS,
		.func = (off >> 12) % PCI_FUNCS,
	};

	*reg = off % ECAM_FUNC_SIZE;
	return pci_host_find(host, addr);
}

static uint64_t
ecam_read(void *self, uint64_t off, unsigned size)
{
	unsigned reg;
	struct pci_func *func = ecam_decode(self, off, &reg);

	if (func == NULL)
		return PCI_ONES;
	if (reg < PCI_CFG_SIZE)
		return pci_cfg_read(func, reg, size);
	return reg < ECAM_EXTENDED_HEADER + 4 ? 0 : PCI_ONES;
}

static void
ecam_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	unsigned reg;
	struct pci_func *func = ecam_decode(self, off, &reg);

	if (func != NULL && reg < PCI_CFG_SIZE)
		pci_cfg_write(func, reg, size, (uint32_t)value);
}

static const struct io_ops ecam_ops = {
	.read = ecam_read,
	.write = ecam_write,
	.widths = 1 | 2 | 4,
	.odd = IO_ONES,
	.aligned = true,
};

/* ---- life --------------------------------------------------------------- */

static int
pci_host_create(struct device *dev, void *self, struct err *err)
{
	struct vm *vm = device_vm(dev);
	struct pci_host *host = self;
	int rc;

	pci_links_init(&host->links, device_irq_chip(dev));
	host->reset = device_find(vm, "reset");
	if (host->reset == NULL) {
		rc = device_new(vm, "reset", "reset", NULL, &host->reset, err);
		if (rc < 0)
			return rc;
	}
	rc = device_map_port_ops(dev, CONFIG_ADDRESS, 4, &address_ops, err);
	if (rc < 0)
		return rc;
	rc = device_map_port_ops(dev, CONFIG_DATA, 4, &data_ops, err);
	if (rc < 0)
		return rc;
	return device_map_mmio_ops(dev, PLAT_ECAM_BASE, PLAT_ECAM_SIZE,
	    &ecam_ops, err);
}

static void
pci_host_reset(void *self)
{
	struct pci_host *host = self;

	pci_links_reset(&host->links);
}

static void
pci_host_changed(void *self)
{
	struct pci_host *host = self;

	pci_links_changed(&host->links);
}

static int
pci_host_check(const void *self, struct err *err)
{
	const struct pci_host *host = self;
	uint32_t address =
	    atomic_load_explicit(&host->config_address, memory_order_relaxed);

	if (address & ~CONFIG_ADDRESS_MASK)
		return err_set(err, -EINVAL,
		    "pci: CONFIG_ADDRESS cannot hold 0x%08x", address);
	return pci_links_check(&host->links, err);
}

static void
pci_host_destroy(void *self)
{
	struct pci_host *host = self;

	for (unsigned bus = 0; bus < PCI_BUSES; bus++)
		free(host->buses[bus]);
	pci_links_fini(&host->links);
}

DEVICE_MODEL(pci_host) = {
	.name = "pci",
	.state_version = 1,
	.size = sizeof(struct pci_host),
	STATE_TABLE(pci_host_state),
	.unlocked = true,
	.create = pci_host_create,
	.reset = pci_host_reset,
	.changed = pci_host_changed,
	.check = pci_host_check,
	.destroy = pci_host_destroy,
};
