/*
 * From a configuration tree to a machine that waits for vm_start().
 */
#ifndef CMD_BHYVE_MACHINE_H
#define CMD_BHYVE_MACHINE_H

#include "base/err.h"
#include "config/config.h"
#include "event/event.h"
#include "vm/vm.h"

/*
 * Make the machine that the tree describes: memory, processors, chips, PCI
 * devices, firmware tables, and a kernel where `boot.kernel` names one; without
 * one the first processor starts at its reset vector.  root and loop must
 * outlive the machine, which the caller frees.
 */
int machine_new(struct config *root, struct loop *loop, struct vm **vm,
    struct err *err);

/* `memory.size` in bytes. */
int machine_mem_size(struct config *root, uint64_t *size, struct err *err);

/* -ENOEXEC unless the tree names something to boot. */
int machine_check_boot(struct config *root, struct err *err);

#endif
