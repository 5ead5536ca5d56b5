/*
 * Between the files of this directory: the host bridge's table of functions,
 * and configuration accesses.
 */
#ifndef PCI_PCI_IMPL_H
#define PCI_PCI_IMPL_H

#include "pci/pci.h"

#define PCI_ONES 0xffffffffu

/* Put a function into its machine's table, making the host if need be. */
int pci_host_attach(struct vm *vm, struct pci_func *func, struct err *err);

/*
 * A guest's access to cfg[off, off + size), which lies within it.  The caller
 * holds no device's lock; the function's own is taken.
 */
uint32_t pci_cfg_read(struct pci_func *func, unsigned off, unsigned size);
void pci_cfg_write(struct pci_func *func, unsigned off, unsigned size,
    uint32_t value);

#endif
