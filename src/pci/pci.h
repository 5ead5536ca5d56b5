/*
 * PCI: functions, their configuration space, BARs and messages, and the host
 * bridge that reaches them through 0xcf8 and the ECAM window.
 *
 * A PCI device is a device whose state begins with a struct pci_func.  Its
 * node is `pci.BUS.SLOT.FUNC`.  Config space is kept as bytes with a mask of
 * those that a guest may change; a device is told when one of them did.
 *
 *      create()     pci_func_init(), then pci_add_*()
 *      reset()      pci_func_reset()
 *      changed()    pci_func_changed()
 *      check()      pci_func_check()
 *      destroy()    pci_func_fini()
 *
 * Threads      Configuration accesses enter a function under its device's
 *              lock, and that is the lock of all calls here; those that any
 *              thread may make say so.
 */
#ifndef PCI_PCI_H
#define PCI_PCI_H

#include <stdatomic.h>

#include "base/err.h"
#include "irq/irq.h"
#include "vm/device.h"

struct pci_host;
struct vm;

#define PCI_BUSES 256
#define PCI_SLOTS 32
#define PCI_FUNCS 8
#define PCI_CFG_SIZE 256u
#define PCI_BARS 6
#define PCI_WINDOWS 4

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

#define PCI_COMMAND_IO 0x0001
#define PCI_COMMAND_MEMORY 0x0002
#define PCI_COMMAND_MASTER 0x0004
#define PCI_COMMAND_INTX_DISABLE 0x0400

struct pci_addr {
	uint8_t bus, slot, func;
};

struct pci_ids {
	uint16_t vendor, device;
	uint16_t subvendor, subdevice;
	uint8_t class, subclass, prog_if, revision;
};

enum pci_bar_kind { PCI_BAR_PORT, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar {
	struct io_range *range; /* borrowed: as long as its device; or NULL */
	enum pci_bar_kind kind;
	uint64_t size;
	uint64_t base; /* where it is mapped */
	bool mapped;
};

/* Accesses of a dword of config space that its device answers. */
struct pci_window {
	unsigned off; /* a multiple of 4 */
	uint32_t (*read)(void *self, unsigned off, unsigned size);
	void (*write)(void *self, unsigned off, unsigned size, uint32_t value);
};

/* A vector of MSI-X: four words as the guest sees them, and its pending bit. */
struct pci_msix_entry {
	uint32_t addr_low;
	uint32_t addr_high;
	uint32_t data;
	uint32_t control;
	uint32_t pending;
};

struct pci_msix {
	uint8_t cap;     /* its capability; 0: none */
	unsigned count;  /* vectors */
	size_t entries;  /* offset in the device's state */
	unsigned pba;    /* offset in its BAR */
	int *irqfd;      /* owned: a vector's, -1 for none */
	bool *attached;  /* owned: the engine serves the vector's irqfd */
	bool masked;     /* the whole function */
	_Atomic bool on; /* read without the lock */
};

struct pci_msi {
	uint8_t cap;   /* its capability; 0: none */
	uint64_t addr; /* as in config space, for those without its lock */
	uint16_t data;
	unsigned granted; /* messages that the guest gave, a power of 2 */
	_Atomic bool on;  /* read without the lock */
};

/* What an INTx pin is wired to is constant once the machine has been made. */
struct pci_intx {
	uint8_t pin;          /* 1: INTA, 4: INTD; 0: none */
	uint8_t gsi;          /* pin of the I/O APIC */
	uint8_t link;         /* 0: PIRQA, 7: PIRQH */
	struct irq_line line; /* to gsi */
	bool asserted;        /* the device asks for service */
	bool blocked;         /* and the guest does not want it this way */
	bool pulling;         /* counted at the link */
	uint32_t epoch;       /* the links' when it was */
};

struct pci_func {
	struct device *dev;    /* borrowed: owns this; NULL before init */
	struct pci_host *host; /* borrowed: outlives every function */
	struct pci_addr addr;
	uint8_t cfg[PCI_CFG_SIZE];
	uint8_t writable[PCI_CFG_SIZE]; /* bits a guest may change */
	uint8_t initial[PCI_CFG_SIZE];  /* cfg after reset */
	uint16_t cap_end;               /* where the next capability goes */
	uint8_t cap_last; /* the last capability, to be linked; 0: none */
	struct pci_bar bars[PCI_BARS];
	struct pci_window windows[PCI_WINDOWS];
	unsigned window_count;
	/* Optional: a guest changed cfg[off, off + len). */
	void (*cfg_changed)(void *self, unsigned off, unsigned len);
	/* Optional: bars[bar] is mapped, moved or unmapped. */
	void (*bar_changed)(void *self, unsigned bar);

	_Atomic bool master; /* the command register's bit, for other threads */
	/* Interrupts: guarded by irq_lock, a leaf but for those of irq/. */
	struct lock irq_lock;
	struct pci_msix msix;
	struct pci_msi msi;
	struct pci_intx intx;
};

/* The row to put in a PCI device's state table. */
#define PCI_FUNC_STATE(type, member) STATE_ARRAY(type, member.cfg, 0)
/* And the row for its array of MSI-X entries, if it has one. */
#define PCI_MSIX_STATE(type, member)                                    \
	{                                                               \
		.kind = FIELD_INT, .size = sizeof(uint32_t),            \
		.count = FIELD_SIZE(type, member) / (sizeof(uint32_t)), \
		.offset = offsetof(type, member), .max = UINT32_MAX,    \
		.name = #member                                         \
	}

/* The place that the node `pci.BUS.SLOT.FUNC` names. */
int pci_node_addr(struct config *node, struct pci_addr *addr, struct err *err);
/* In a device's create(): take the place that its node's name says. */
int pci_func_init(struct pci_func *func, struct device *dev,
    const struct pci_ids *ids, struct err *err);
void pci_func_fini(struct pci_func *func); /* before or after init */
/* In its reset(): configuration space as it was after create(). */
void pci_func_reset(struct pci_func *func);
/*
 * In its changed(): config space has been reset or loaded.  A function with a
 * pin calls pci_intx_set() then, from what the device knows.
 */
void pci_func_changed(struct pci_func *func);
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

/*
 * While creating: the dword at `off` of config space is answered by handlers,
 * under the device's lock.  off + size never goes beyond it; their `off` counts
 * from its begin.  What they keep is the device's own state.
 */
void pci_add_window(struct pci_func *func, const struct pci_window *window);

/* ---- BARs (pci_bar.c) --------------------------------------------------- */

/*
 * While creating: BAR `index` (a MEM64 takes index + 1, too).  The size is
 * rounded up to a power of 2, 4 ports or 16 bytes at least.  ops as for
 * device_add_range(); arg NULL: the device's state.  Where it is decided by
 * pci_assign(), and then by the guest; wherever that may be, ports and memory
 * that the machine has there of its own come first.
 */
int pci_add_bar(struct pci_func *func, unsigned index, enum pci_bar_kind kind,
    uint64_t size, const struct io_ops *ops, void *arg, struct err *err);

/*
 * Places for all BARs of a machine, as they are after a reset.
 * pci_create_devices() ends with it; who makes PCI devices one by one makes
 * the device "pci" before and calls this after.
 */
int pci_assign(struct vm *vm, struct err *err);

/* The windows of a bus, in which its BARs are after a reset; len 0: none. */
struct pci_bus_window {
	uint64_t base, len;
};
struct pci_bus_windows {
	struct pci_bus_window io, mem32, mem64;
};
void pci_bus_windows(struct vm *vm, uint8_t bus, struct pci_bus_windows *out);

/* The command register allows DMA.  Any thread. */
bool pci_may_dma(const struct pci_func *func);

/* ---- interrupts --------------------------------------------------------- */
/*
 * MSI overrules MSI-X, and either overrules the pin.  All senders: any thread,
 * under any lock above irq's.
 */

/* While creating: a pin of its slot, routed to both interrupt chips. */
void pci_add_intx(struct pci_func *func);
void pci_intx_set(struct pci_func *func, bool asserted);
/* While creating the LPC bridge: its PIRQ registers, to change routes by. */
void pci_add_pirqs(struct pci_func *func);

/* While creating: MSI with so many messages, a power of 2, at most 32. */
#define PCI_MSI_MAX 32u
void pci_add_msi(struct pci_func *func, unsigned messages);
bool pci_msi_enabled(const struct pci_func *func);
/* Beyond what the guest granted, messages share those it did. */
void pci_msi_send(struct pci_func *func, unsigned message);

/*
 * While creating: MSI-X, with its table and PBA in BAR `bar`, which holds
 * nothing else.  entries is an array in the device's state, with a row
 * PCI_MSIX_STATE() in its table; count of them are vectors.
 */
#define PCI_MSIX_MAX 2048
int pci_add_msix(struct pci_func *func, unsigned bar,
    struct pci_msix_entry *entries, unsigned count, struct err *err);

bool pci_msix_enabled(const struct pci_func *func);
/*
 * A masked vector becomes pending and is sent when unmasked; one that does not
 * exist is ignored, as are all while MSI-X is off.
 */
void pci_msix_send(struct pci_func *func, unsigned vector);
/*
 * Signalling fd is pci_msix_send() without a thread: follows what the guest
 * makes of the vector.  fd -1 detaches.  -ENOTSUP where the engine cannot, or
 * -ENOSPC: then the caller watches fd itself.  -EINVAL for a vector that does
 * not exist.
 */
int pci_msix_irqfd(struct pci_func *func, unsigned vector, int fd);

/* ---- the machine -------------------------------------------------------- */

/* Make every device of the tree's `pci` nodes, in order of their addresses. */
int pci_create_devices(struct vm *vm, struct err *err);
/* The function that a device is, or NULL. */
struct pci_func *pci_func_of(struct device *dev);
/* The function at an address, or NULL. */
struct pci_func *pci_find(struct vm *vm, struct pci_addr addr);

/*
 * One -s argument into the tree.  "help" and its prefixes print the names and
 * return 1.  Messages are bhyve's.
 */
int pci_parse_slot(struct config *root, const char *arg, struct err *err);

#endif
