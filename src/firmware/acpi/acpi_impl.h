/*
 * Between the files that make ACPI tables: the common header, and who makes
 * which table.
 */
#ifndef FIRMWARE_ACPI_ACPI_IMPL_H
#define FIRMWARE_ACPI_ACPI_IMPL_H

#include "base/wire.h"
#include "firmware/acpi/acpi.h"

/* ACPI 6.4, table 5.4: what all but the RSDP and the FACS begin with. */
struct acpi_header {
	char signature[4];
	le32 length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[6];
	char oem_table_id[8];
	le32 oem_revision;
	char creator_id[4];
	le32 creator_revision;
};
_Static_assert(sizeof(struct acpi_header) == 36, "36-byte header");

#define ACPI_OEM_ID "BHYVE "

struct acpi_header acpi_header(const char signature[4], uint8_t revision,
    const char oem_table_id[8]);

/*
 * Begun with a struct acpi_header that has no length yet: give it one, note
 * its checksum, and take the bytes out of `out`.  The index of the table.
 */
unsigned acpi_add(struct acpi_tables *tables, const char *name,
    struct buf *out);
/* The same for what has no such header. */
unsigned acpi_add_raw(struct acpi_tables *tables, const char *name,
    struct buf *out, unsigned align);
void acpi_point(struct acpi_tables *tables, unsigned table, size_t offset,
    unsigned size, unsigned target);

unsigned acpi_add_madt(struct acpi_tables *tables,
    const struct acpi_params *params);
unsigned acpi_add_fadt(struct acpi_tables *tables, unsigned facs,
    unsigned dsdt);
unsigned acpi_add_hpet(struct acpi_tables *tables);
unsigned acpi_add_mcfg(struct acpi_tables *tables);
unsigned acpi_add_facs(struct acpi_tables *tables);
unsigned acpi_add_dsdt(struct acpi_tables *tables,
    const struct acpi_params *params);

#endif
