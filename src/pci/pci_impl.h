/*
 * Between the files of this directory: the host bridge's table of functions,
 * configuration accesses, and what follows from what they write.
 */
#ifndef PCI_PCI_IMPL_H
#define PCI_PCI_IMPL_H

#include "pci/pci.h"

#define PCI_ONES 0xffffffffu
#define PCI_COMMAND_WRITABLE 0x077f

/* Put a function into its machine's table, making the host if need be. */
int pci_host_attach(struct vm *vm, struct pci_func *func, struct err *err);

/* Functions in order of address; NULL begins and ends. */
struct pci_func *pci_host_next(struct pci_host *host, struct pci_func *after);
/* The machine's, or NULL if it has no functions. */
struct pci_host *pci_host(struct vm *vm);
struct pci_bus_windows *pci_host_windows(struct pci_host *host, uint8_t bus);

/* Under the device's lock: config space has changed, or may have. */
void pci_bar_update(struct pci_func *func);
void pci_msix_update(struct pci_func *func);
void pci_msix_reset(struct pci_func *func);
void pci_msix_fini(struct pci_func *func);
/* func may be part of a copy of its device's state. */
int pci_msix_check(const struct pci_func *func, struct err *err);

/*
 * A guest's access to cfg[off, off + size), which lies within it.  The caller
 * holds no device's lock; the function's own is taken.
 */
uint32_t pci_cfg_read(struct pci_func *func, unsigned off, unsigned size);
void pci_cfg_write(struct pci_func *func, unsigned off, unsigned size,
    uint32_t value);

#endif
