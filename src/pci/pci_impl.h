/*
 * Between the files of this directory: the host bridge's table of functions,
 * configuration accesses, and what follows from what they write.
 */
#ifndef PCI_PCI_IMPL_H
#define PCI_PCI_IMPL_H

#include "pci/pci.h"
#include "vm/platform.h"

#define PCI_ONES 0xffffffffu
#define PCI_COMMAND_WRITABLE 0x077f

/* Put a function into its machine's table, making the host if need be. */
int pci_host_attach(struct vm *vm, struct pci_func *func, struct err *err);

/*
 * The links from INTx pins to ISA IRQs.  Part of the host's state; what is
 * below reg is guarded by the lock, a leaf but for irq's.
 */
struct pci_links {
	struct irq_chip *chip;            /* borrowed: outlives every device */
	unsigned next_gsi;                /* while the machine is made: */
	unsigned users[PLAT_PIRQ_LINKS];  /* pins routed to a link */
	unsigned shares[IRQ_ISA_LINES];   /* links routed to an IRQ */
	uint8_t initial[PLAT_PIRQ_LINKS]; /* registers after a reset */
	struct lock lock;
	uint8_t reg[PLAT_PIRQ_LINKS];    /* the PIRQ registers */
	uint32_t epoch;                  /* grows when pulls are forgotten */
	unsigned pulls[PLAT_PIRQ_LINKS]; /* pins that are asserted */
	bool routed[PLAT_PIRQ_LINKS];
	struct irq_line line[PLAT_PIRQ_LINKS]; /* if routed */
};

void pci_links_init(struct pci_links *links, struct irq_chip *chip);
void pci_links_fini(struct pci_links *links); /* before or after init */
void pci_links_reset(struct pci_links *links);
/* A reset or a load: functions say again what they pull. */
void pci_links_changed(struct pci_links *links);
int pci_links_check(const struct pci_links *links, struct err *err);
struct pci_links *pci_host_links(struct pci_host *host);

/* Functions in order of address; NULL begins and ends. */
struct pci_func *pci_host_next(struct pci_host *host, struct pci_func *after);
/* The machine's, or NULL if it has no functions. */
struct pci_host *pci_host(struct vm *vm);
struct pci_bus_windows *pci_host_windows(struct pci_host *host, uint8_t bus);

/* Under the device's lock: config space has changed, or may have. */
void pci_bar_update(struct pci_func *func);
void pci_msi_update(struct pci_func *func); /* before MSI-X and INTx */
void pci_msix_update(struct pci_func *func);
void pci_intx_update(struct pci_func *func);
void pci_msix_reset(struct pci_func *func);
void pci_msix_fini(struct pci_func *func);
/* The device's level is not known until it calls pci_intx_set(). */
void pci_intx_forget(struct pci_func *func);
bool pci_intx_asserted(struct pci_func *func);
/* What config space says, func being perhaps part of a copy of the state. */
bool pci_msi_wanted(const struct pci_func *func);
bool pci_msix_wanted(const struct pci_func *func);
int pci_msix_check(const struct pci_func *func, struct err *err);

/*
 * A guest's access to cfg[off, off + size), which lies within it.  The caller
 * holds no device's lock; the function's own is taken.
 */
uint32_t pci_cfg_read(struct pci_func *func, unsigned off, unsigned size);
void pci_cfg_write(struct pci_func *func, unsigned off, unsigned size,
    uint32_t value);

#endif
