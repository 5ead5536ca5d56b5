/*
 * Steps of the assembly that have files of their own.
 */
#ifndef CMD_BHYVE_MACHINE_IMPL_H
#define CMD_BHYVE_MACHINE_IMPL_H

#include "mem/mem.h"
#include "vm/vm.h"

/* *rsdp is 0 where no ACPI tables are in memory. */
int machine_tables(struct vm *vm, gpa_t *rsdp, struct err *err);

/* Nothing where there is no boot.kernel. */
int machine_boot(struct vm *vm, gpa_t rsdp, struct err *err);

#endif
