/*
 * The MP table: processors, buses and interrupt wiring, for systems that do
 * not read ACPI.  It describes PCI bus 0 alone.
 */
#ifndef FIRMWARE_MPTABLE_H
#define FIRMWARE_MPTABLE_H

#include "base/buf.h"
#include "base/err.h"
#include "firmware/intx.h"
#include "mem/mem.h"

struct mptable_params {
	unsigned cpus; /* at least 1; APIC ids count from 0 */
	const struct intx_route *routes;
	unsigned route_count;
};

/*
 * The floating pointer and, behind it, the table, for address `base`.
 * -ENOSPC for more processors than the table has numbers for.
 */
int mptable_build(const struct mptable_params *params, gpa_t base,
    struct buf *image, struct err *err);

/* Into guest memory, at PLAT_MPTABLE_BASE. */
int mptable_install(struct mem *mem, const struct mptable_params *params,
    struct err *err);

#endif
