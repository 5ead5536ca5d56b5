/*
 * ACPI tables: putting the set together, and giving it addresses.
 *
 * Models       ACPI 6.4, section 5.2: RSDP, RSDT and XSDT.  The other tables
 *              are made in tables.c and dsdt.c.
 * Linking      A table holds addresses of others and a checksum over itself.
 *              Both are kept as lists beside the tables, because who knows the
 *              addresses differs: acpi_link() here, or firmware that takes the
 *              tables through a loader interface of its own.
 * Invariants   1. Table 0 is the RSDP.
 *              2. A checksum is settled after every pointer, and the RSDP's
 *                 short one before its long one: list order.
 * Locking      none; one thread builds, before the machine starts.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "firmware/acpi/acpi_impl.h"
#include "vm/platform.h"

/* Section 5.2.5.3 */
struct acpi_rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	le32 rsdt;
	le32 length;
	le64 xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
};
_Static_assert(sizeof(struct acpi_rsdp) == 36, "36-byte RSDP");
#define ACPI_RSDP_V1_LEN 20

#define ACPI_TABLE_ALIGN 16

struct acpi_header
acpi_header(const char signature[4], uint8_t revision,
    const char oem_table_id[8])
{
	struct acpi_header h = {
		.revision = revision,
		.oem_id = ACPI_OEM_ID,
		.oem_revision = le32_make(1),
		.creator_id = "APRY",
		.creator_revision = le32_make(1),
	};

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_table_id, oem_table_id, sizeof(h.oem_table_id));
	return h;
}

unsigned
acpi_add_raw(struct acpi_tables *tables, const char *name, struct buf *out,
    unsigned align)
{
	assert(tables->table_count < ARRAY_SIZE(tables->table));
	tables->table[tables->table_count] = (struct acpi_table) {
		.name = name,
		.data = out->data,
		.len = out->len,
		.align = align,
	};
	*out = (struct buf) { 0 };
	return tables->table_count++;
}

static void
acpi_sum(struct acpi_tables *tables, unsigned table, size_t offset, size_t len)
{
	assert(tables->checksum_count < ARRAY_SIZE(tables->checksum));
	tables->checksum[tables->checksum_count++] = (struct acpi_checksum) {
		.table = table,
		.offset = offset,
		.len = len,
	};
}

unsigned
acpi_add(struct acpi_tables *tables, const char *name, struct buf *out)
{
	size_t len = out->len;
	unsigned table;

	assert(len >= sizeof(struct acpi_header));
	le32_store(out->data + offsetof(struct acpi_header, length),
	    (uint32_t)len);
	table = acpi_add_raw(tables, name, out, ACPI_TABLE_ALIGN);
	acpi_sum(tables, table, offsetof(struct acpi_header, checksum), len);
	return table;
}

void
acpi_point(struct acpi_tables *tables, unsigned table, size_t offset,
    unsigned size, unsigned target)
{
	assert(tables->pointer_count < ARRAY_SIZE(tables->pointer));
	tables->pointer[tables->pointer_count++] = (struct acpi_pointer) {
		.table = table,
		.offset = offset,
		.size = size,
		.target = target,
	};
}

static unsigned
acpi_add_rsdp(struct acpi_tables *tables)
{
	const struct acpi_rsdp rsdp = {
		.signature = "RSD PTR ",
		.oem_id = ACPI_OEM_ID,
		.revision = 2,
		.length = le32_make(sizeof(rsdp)),
	};
	struct buf out = { 0 };
	unsigned table;

	buf_put(&out, &rsdp, sizeof(rsdp));
	table = acpi_add_raw(tables, "RSDP", &out, ACPI_TABLE_ALIGN);
	acpi_sum(tables, table, offsetof(struct acpi_rsdp, checksum),
	    ACPI_RSDP_V1_LEN);
	acpi_sum(tables, table, offsetof(struct acpi_rsdp, extended_checksum),
	    sizeof(rsdp));
	return table;
}

/* RSDT or XSDT: the header, then an address for each table listed. */
static unsigned
acpi_add_root(struct acpi_tables *tables, const char *name,
    const char *oem_table_id, unsigned size, const unsigned *list,
    unsigned count)
{
	struct acpi_header h = acpi_header(name, 1, oem_table_id);
	struct buf out = { 0 };
	unsigned table;

	buf_put(&out, &h, sizeof(h));
	for (unsigned i = 0; i < count; i++)
		buf_put_int(&out, 0, size);
	table = acpi_add(tables, name, &out);
	for (unsigned i = 0; i < count; i++)
		acpi_point(tables, table, sizeof(h) + i * size, size, list[i]);
	return table;
}

void
acpi_build(const struct acpi_params *params, struct acpi_tables *tables)
{
	unsigned rsdp, rsdt, xsdt, facs, dsdt;
	unsigned list[ACPI_TABLES_MAX]; /* what RSDT and XSDT name */
	unsigned count = 0;

	assert(params->cpus != 0);
	*tables = (struct acpi_tables) { 0 };
	rsdp = acpi_add_rsdp(tables);
	facs = acpi_add_facs(tables);
	dsdt = acpi_add_dsdt(tables, params);
	list[count++] = acpi_add_fadt(tables, facs, dsdt);
	list[count++] = acpi_add_madt(tables, params);
	if (params->hpet)
		list[count++] = acpi_add_hpet(tables);
	list[count++] = acpi_add_mcfg(tables);
	rsdt = acpi_add_root(tables, "RSDT", "BVRSDT  ", 4, list, count);
	xsdt = acpi_add_root(tables, "XSDT", "BVXSDT  ", 8, list, count);
	acpi_point(tables, rsdp, offsetof(struct acpi_rsdp, rsdt), 4, rsdt);
	acpi_point(tables, rsdp, offsetof(struct acpi_rsdp, xsdt), 8, xsdt);
}

void
acpi_tables_fini(struct acpi_tables *tables)
{
	for (unsigned i = 0; i < tables->table_count; i++)
		free(tables->table[i].data);
	*tables = (struct acpi_tables) { 0 };
}

static void
acpi_settle_pointer(uint8_t *field, unsigned size, uint64_t addr)
{
	if (size == 8) {
		le64_store(field, addr);
	} else {
		assert(size == 4 && addr <= UINT32_MAX);
		le32_store(field, (uint32_t)addr);
	}
}

int
acpi_link(const struct acpi_tables *tables, gpa_t base, uint64_t room,
    struct buf *image, struct err *err)
{
	size_t at[ACPI_TABLES_MAX]; /* where each table is in the image */
	size_t len = 0;
	uint8_t *data;

	for (unsigned i = 0; i < tables->table_count; i++) {
		at[i] = round_up(len, tables->table[i].align);
		len = at[i] + tables->table[i].len;
	}
	if (len > room)
		return err_set(err, -ENOSPC,
		    "ACPI tables take %zu bytes, more than the %ju there are",
		    len, (uintmax_t)room);
	data = xcalloc(len, 1);
	for (unsigned i = 0; i < tables->table_count; i++)
		memcpy(data + at[i], tables->table[i].data,
		    tables->table[i].len);
	for (unsigned i = 0; i < tables->pointer_count; i++) {
		const struct acpi_pointer *p = &tables->pointer[i];

		acpi_settle_pointer(data + at[p->table] + p->offset, p->size,
		    base + at[p->target]);
	}
	for (unsigned i = 0; i < tables->checksum_count; i++) {
		const struct acpi_checksum *c = &tables->checksum[i];
		uint8_t sum = 0;

		for (size_t j = 0; j < c->len; j++)
			sum += data[at[c->table] + j];
		data[at[c->table] + c->offset] = (uint8_t)-sum;
	}
	*image = (struct buf) { .data = data, .len = len, .room = len };
	return 0;
}

int
acpi_install(struct mem *mem, const struct acpi_tables *tables, struct err *err)
{
	struct buf image;
	int rc;

	rc = acpi_link(tables, PLAT_ACPI_BASE, PLAT_ACPI_END - PLAT_ACPI_BASE,
	    &image, err);
	if (rc < 0)
		return rc;
	rc = mem_write(mem, PLAT_ACPI_BASE, image.data, image.len);
	buf_fini(&image);
	if (rc < 0)
		return err_set(err, rc, "no memory for ACPI tables at %#llx",
		    PLAT_ACPI_BASE);
	return 0;
}
