/*
 * LPC: the bridge from PCI to the ISA devices of the board.
 *
 * Models       the PCI-ISA bridge of the Intel 82371SB (PIIX3) data sheet as a
 *              PCI function: identification, and the registers that choose an
 *              ISA IRQ for each of the PIRQ links A-D and (bhyve's) E-H, which
 *              are the PCI host's (pci/pci_intx.c).
 * Leaves out   every other register.
 * Makes        the UARTs com1 to com4, which hang below it.
 * Options      lpc.pcireg.*; lpc.comN is the UARTs' own.
 * Locking      the device lock, held at every entry.
 */
#include <errno.h>
#include <stdio.h>

#include "pci/pci.h"
#include "vm/vm.h"

#define LPC_UARTS 4

struct lpc {
	struct pci_func func;
};

static const struct field lpc_state[] = {
	PCI_FUNC_STATE(struct lpc, func),
};

static int
lpc_create(struct device *dev, void *self, struct err *err)
{
	struct pci_ids ids = {
		.vendor = 0x8086,
		.device = 0x7000,
		.class = 0x06,
		.subclass = 0x01,
	};
	struct vm *vm = device_vm(dev);
	struct device *other = NULL;
	struct config *node;
	struct lpc *lpc = self;
	char name[8];
	int rc;

	while ((other = device_next(vm, other)) != NULL) {
		if (other != dev && device_model(other) == device_model(dev))
			return err_set(err, -EEXIST,
			    "%s: there is an LPC bridge already",
			    device_name(dev));
	}
	node = config_find(vm_config(vm), "lpc");
	rc = pci_ids_override(node, &ids, err);
	if (rc < 0)
		return rc;
	rc = pci_func_init(&lpc->func, dev, &ids, err);
	if (rc < 0)
		return rc;
	if (lpc->func.addr.bus != 0)
		return err_set(err, -EINVAL,
		    "%s: the LPC bridge must be on bus 0", device_name(dev));
	pci_add_pirqs(&lpc->func);
	for (unsigned i = 1; i <= LPC_UARTS; i++) {
		(void)snprintf(name, sizeof(name), "com%u", i);
		rc = device_new(vm, "com", name,
		    node != NULL ? config_find(node, name) : NULL, NULL, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void
lpc_reset(void *self)
{
	struct lpc *lpc = self;

	pci_func_reset(&lpc->func);
}

static void
lpc_changed(void *self)
{
	struct lpc *lpc = self;

	pci_func_changed(&lpc->func);
}

static int
lpc_check(const void *self, struct err *err)
{
	const struct lpc *lpc = self;

	return pci_func_check(&lpc->func, err);
}

static void
lpc_destroy(void *self)
{
	struct lpc *lpc = self;

	pci_func_fini(&lpc->func);
}

DEVICE_MODEL(lpc) = {
	.name = "lpc",
	.state_version = 1,
	.size = sizeof(struct lpc),
	STATE_TABLE(lpc_state),
	.pci_help = "PCI-ISA bridge",
	.create = lpc_create,
	.reset = lpc_reset,
	.changed = lpc_changed,
	.check = lpc_check,
	.destroy = lpc_destroy,
};
