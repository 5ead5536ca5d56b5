/*
 * ACPI tables: what the machine tells an operating system about itself.
 *
 * acpi_build() makes the tables as separate pieces that do not know yet where
 * they will be: a list of pointers and one of checksums say what is missing.
 * Either acpi_install() places them into the guest's memory and settles both,
 * or a firmware interface hands the pieces and the lists to the firmware.
 */
#ifndef FIRMWARE_ACPI_ACPI_H
#define FIRMWARE_ACPI_ACPI_H

#include "base/buf.h"
#include "base/err.h"
#include "firmware/intx.h"
#include "mem/mem.h"

struct acpi_range {
	uint64_t base;
	uint64_t len; /* 0: none */
};

/* A PCI bus, its own root bridge, and what it passes on. */
struct acpi_bus {
	uint8_t number;
	struct acpi_range io; /* beyond the ports that bus 0 always has */
	struct acpi_range mem32;
	struct acpi_range mem64;
};

struct acpi_params {
	unsigned cpus; /* at least 1; APIC ids count from 0 */
	bool hpet;
	bool lpc; /* a PCI-ISA bridge on bus 0, at: */
	uint8_t lpc_slot;
	uint8_t lpc_func;
	uint8_t coms; /* bit 0: COM1 ... bit 3: COM4; they need lpc */
	const struct acpi_bus *buses; /* bus 0 among them */
	unsigned bus_count;
	const struct intx_route *routes;
	unsigned route_count;
};

#define ACPI_TABLES_MAX 16
#define ACPI_POINTERS_MAX 40

struct acpi_table {
	const char *name; /* static; its signature, "RSDP" for the first */
	uint8_t *data;    /* owned */
	size_t len;
	unsigned align;
};

/* `size` bytes at `offset` of a table must hold the address of `target`. */
struct acpi_pointer {
	unsigned table;
	size_t offset;
	unsigned size; /* 4 or 8 */
	unsigned target;
};

/* The byte at `offset` makes the first `len` bytes of a table add up to 0. */
struct acpi_checksum {
	unsigned table;
	size_t offset;
	size_t len;
};

struct acpi_tables {
	struct acpi_table table[ACPI_TABLES_MAX]; /* the RSDP is the first */
	unsigned table_count;
	struct acpi_pointer pointer[ACPI_POINTERS_MAX];
	unsigned pointer_count;
	struct acpi_checksum checksum[ACPI_TABLES_MAX + 1];
	unsigned checksum_count;
};

/* Pointers and checksums of the result are 0.  Release it in any case. */
void acpi_build(const struct acpi_params *params, struct acpi_tables *tables);
void acpi_tables_fini(struct acpi_tables *tables);

/*
 * Place the tables from `base` on, the RSDP at `base` itself, and settle their
 * pointers and checksums.  -ENOSPC if they take more than `room` bytes.
 */
int acpi_link(const struct acpi_tables *tables, gpa_t base, uint64_t room,
    struct buf *image, struct err *err);

/* Into guest memory: the RSDP is at PLAT_ACPI_BASE. */
int acpi_install(struct mem *mem, const struct acpi_tables *tables,
    struct err *err);

#endif
