/*
 * PCI: functions, their configuration space, and the host bridge that reaches
 * it through 0xcf8 and the ECAM window.
 *
 * A PCI device is a device whose state begins with a struct pci_func.  Its
 * node is `pci.BUS.SLOT.FUNC`.  Config space is kept as bytes with a mask of
 * those that a guest may change; a device is told when one of them did.
 *
 * Configuration accesses enter a function under its device's lock.
 */
#ifndef PCI_PCI_H
#define PCI_PCI_H

#include "base/err.h"
#include "vm/device.h"

struct vm;

#define PCI_BUSES 256
#define PCI_SLOTS 32
#define PCI_FUNCS 8
#define PCI_CFG_SIZE 256u

/* Registers of the type 0 header, PCI Local Bus 3.0, section 6.1. */
#define PCI_CFG_VENDOR 0x00
#define PCI_CFG_DEVICE 0x02
#define PCI_CFG_COMMAND 0x04
#define PCI_CFG_STATUS 0x06
#define PCI_CFG_REVISION 0x08
#define PCI_CFG_PROG_IF 0x09
#define PCI_CFG_SUBCLASS 0x0a
#define PCI_CFG_CLASS 0x0b
#define PCI_CFG_HEADER 0x0e
#define PCI_CFG_BAR0 0x10
#define PCI_CFG_SUBVENDOR 0x2c
#define PCI_CFG_SUBDEVICE 0x2e
#define PCI_CFG_CAP_PTR 0x34
#define PCI_CFG_INT_LINE 0x3c
#define PCI_CFG_INT_PIN 0x3d

struct pci_addr {
	uint8_t bus, slot, func;
};

struct pci_ids {
	uint16_t vendor, device;
	uint16_t subvendor, subdevice;
	uint8_t class, subclass, prog_if, revision;
};

struct pci_func {
	struct device *dev; /* borrowed: owns this */
	struct pci_addr addr;
	uint8_t cfg[PCI_CFG_SIZE];
	uint8_t writable[PCI_CFG_SIZE]; /* bits a guest may change */
	uint8_t initial[PCI_CFG_SIZE];  /* cfg after reset */
	uint16_t cap_end;               /* where the next capability goes */
	uint8_t cap_last; /* the last capability, to be linked; 0: none */
	/* Optional: a guest changed cfg[off, off + len). */
	void (*cfg_changed)(void *self, unsigned off, unsigned len);
};

/* The row to put in a PCI device's state table. */
#define PCI_FUNC_STATE(type, member) STATE_ARRAY(type, member.cfg, 0)

/* In a device's create(): take the place that its node's name says. */
int pci_func_init(struct pci_func *func, struct device *dev,
    const struct pci_ids *ids, struct err *err);
/* In its reset(): configuration space as it was after create(). */
void pci_func_reset(struct pci_func *func);
/* In its check(): what no guest could have written is refused. */
int pci_func_check(const struct pci_func *func, struct err *err);

/*
 * Ids and revision that NODE.pcireg.{vendor,device,subvendor,subdevice,revid}
 * give in place of a device's own.  node may be NULL.
 */
int pci_ids_override(struct config *node, struct pci_ids *ids, struct err *err);

/*
 * While creating: add a read-only capability, body being the len bytes behind
 * its id and link.  Returns its offset.
 */
unsigned pci_add_capability(struct pci_func *func, uint8_t id, const void *body,
    unsigned len);
/* While creating: values after reset, and the bits that a guest may change. */
void pci_set_cfg(struct pci_func *func, unsigned off, unsigned size,
    uint32_t value, uint32_t writable);
uint32_t pci_get_cfg(const struct pci_func *func, unsigned off, unsigned size);

/* Make every device of the tree's `pci` nodes, in order of their addresses. */
int pci_create_devices(struct vm *vm, struct err *err);
/* The function at an address, or NULL. */
struct pci_func *pci_find(struct vm *vm, struct pci_addr addr);

/*
 * One -s argument into the tree.  "help" and its prefixes print the names and
 * return 1.  Messages are bhyve's.
 */
int pci_parse_slot(struct config *root, const char *arg, struct err *err);

#endif
