/*
 * The ACPI tables as a guest finds them: walked from the RSDP, and read by
 * ACPI's own compiler and interpreter where they are installed.
 */
#include <errno.h>

#include "base/wire.h"
#include "firmware/acpi/acpi.h"
#include "firmware/tool_test.h"
#include "vm/platform.h"

#define HEADER_LEN 36
#define TABLES_LEN (PLAT_ACPI_END - PLAT_ACPI_BASE)

static const struct acpi_bus buses[] = {
	{ 0, { 0x2000, 0x1000 }, { 0xc0000000, 0x1000000 }, { 0 } },
	{ 3, { 0x3000, 0x20 }, { 0 }, { 0x1000000000, 0x800000000 } },
	{ 255, { 0xff00, 0x100 }, { 0xdff00000, 0x100000 }, { 0 } },
};

static const struct intx_route routes[] = {
	{ 0, 1, 1, 17, 5 },
	{ 0, 2, 1, 16, 0 },
	{ 0, 31, 4, 31, 7 },
	{ 3, 0, 2, 20, INTX_NO_LINK },
};

static const struct acpi_params plain = {
	.cpus = 1,
	.buses = buses,
	.bus_count = 1,
};

static const struct acpi_params usual = {
	.cpus = 2,
	.hpet = true,
	.lpc = true,
	.lpc_slot = 31,
	.coms = 0x1,
	.buses = buses,
	.bus_count = 1,
	.routes = routes,
	.route_count = 3,
};

static const struct acpi_params full = {
	.cpus = 32,
	.hpet = true,
	.lpc = true,
	.lpc_slot = 1,
	.lpc_func = 3,
	.coms = 0xf,
	.buses = buses,
	.bus_count = 3,
	.routes = routes,
	.route_count = 4,
};

static const struct acpi_params *const sets[] = { &plain, &usual, &full };

static struct buf
linked(const struct acpi_params *params)
{
	struct acpi_tables tables;
	struct buf image;
	struct err err;

	acpi_build(params, &tables);
	assert_int_equal(acpi_link(&tables, PLAT_ACPI_BASE, TABLES_LEN, &image,
			     &err),
	    0);
	acpi_tables_fini(&tables);
	return image;
}

/* A guest address inside the image, with len bytes behind it. */
static const uint8_t *
at(const struct buf *image, uint64_t gpa, size_t len)
{
	assert_true(gpa >= PLAT_ACPI_BASE);
	assert_true(range_within(gpa - PLAT_ACPI_BASE, len, image->len));
	return image->data + (gpa - PLAT_ACPI_BASE);
}

static void
assert_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	assert_int_equal(sum, 0);
}

/* The table at gpa, checked; *len is its length. */
static const uint8_t *
table_at(const struct buf *image, uint64_t gpa, size_t *len)
{
	const uint8_t *t = at(image, gpa, HEADER_LEN);

	*len = le32_load(t + 4);
	assert_int_equal(gpa % 16, 0);
	assert_sum(at(image, gpa, *len), *len);
	assert_memory_equal(t + 10, "BHYVE BV", 8);
	assert_int_equal(le32_load(t + 24), 1);
	return t;
}

/* By signature, through the XSDT, which must agree with the RSDT; or NULL. */
static const uint8_t *
table_find(const struct buf *image, const char *signature, size_t *len)
{
	const uint8_t *rsdp = image->data;
	const uint8_t *found = NULL;
	const uint8_t *rsdt, *xsdt;
	size_t rsdt_len, xsdt_len;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_sum(rsdp, 20);
	assert_sum(rsdp, 36);
	assert_memory_equal(rsdp + 9, "BHYVE ", 6);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(le32_load(rsdp + 20), 36);
	rsdt = table_at(image, le32_load(rsdp + 16), &rsdt_len);
	xsdt = table_at(image, le64_load(rsdp + 24), &xsdt_len);
	assert_memory_equal(rsdt, "RSDT", 4);
	assert_memory_equal(xsdt, "XSDT", 4);
	assert_int_equal((rsdt_len - HEADER_LEN) * 2, xsdt_len - HEADER_LEN);
	for (size_t i = 0; i < (xsdt_len - HEADER_LEN) / 8; i++) {
		uint64_t gpa = le64_load(xsdt + HEADER_LEN + i * 8);
		size_t this_len;
		const uint8_t *t = table_at(image, gpa, &this_len);

		assert_int_equal(le32_load(rsdt + HEADER_LEN + i * 4), gpa);
		if (memcmp(t, signature, 4) == 0) {
			assert_null(found);
			found = t;
			*len = this_len;
		}
	}
	return found;
}

static const uint8_t *
dsdt_find(const struct buf *image, size_t *len)
{
	size_t fadt_len;
	const uint8_t *fadt = table_find(image, "FACP", &fadt_len);
	const uint8_t *dsdt;

	assert_non_null(fadt);
	dsdt = table_at(image, le32_load(fadt + 40), len);
	assert_memory_equal(dsdt, "DSDT", 4);
	return dsdt;
}

static void
tables_are_where_the_rsdp_leads(void **state)
{
	static const char *const names[] = { "FACP", "APIC", "MCFG" };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		struct buf image = linked(sets[i]);
		size_t len;

		for (size_t j = 0; j < ARRAY_SIZE(names); j++)
			assert_non_null(table_find(&image, names[j], &len));
		assert_int_equal(table_find(&image, "HPET", &len) != NULL,
		    sets[i]->hpet);
		assert_non_null(dsdt_find(&image, &len));
		buf_fini(&image);
	}
}

static void
fadt_tells_the_ports(void **state)
{
	struct buf image = linked(&usual);
	const uint8_t *fadt, *facs;
	size_t len;

	fadt = table_find(&image, "FACP", &len);
	assert_non_null(fadt);
	assert_int_equal(len, 0x10c);
	assert_int_equal(fadt[8], 5);
	assert_int_equal(fadt[131], 1);
	assert_int_equal(le16_load(fadt + 46), 9);
	assert_int_equal(le32_load(fadt + 48), 0xb2);
	assert_int_equal(fadt[52], 0xa0);
	assert_int_equal(fadt[53], 0xa1);
	assert_int_equal(le32_load(fadt + 56), 0x400);
	assert_int_equal(le32_load(fadt + 64), 0x404);
	assert_int_equal(le32_load(fadt + 76), 0x408);
	assert_int_equal(le32_load(fadt + 80), 0x40c);
	assert_memory_equal(fadt + 88, "\x04\x02\x00\x04\x02\x00", 6);
	assert_int_equal(fadt[108], 0x32);
	assert_int_equal(le16_load(fadt + 109), 0x14);
	assert_int_equal(le32_load(fadt + 112), 0x81525);
	assert_memory_equal(fadt + 116,
	    "\x01\x08\x00\x01\xf9\x0c\0\0\0\0\0\0\x06", 13);
	assert_memory_equal(fadt + 148, "\x01\x20\x00\x02\x00\x04\0\0\0\0\0\0",
	    12);
	assert_int_equal(le64_load(fadt + 140), le32_load(fadt + 40));
	assert_int_equal(le64_load(fadt + 132), 0);
	assert_int_equal(le32_load(fadt + 36) % 64, 0);
	facs = at(&image, le32_load(fadt + 36), 64);
	assert_memory_equal(facs, "FACS\x40\x00\x00\x00", 8);
	assert_int_equal(facs[32], 2);
	buf_fini(&image);
}

/* Entries of the MADT of a type; *last is the last of them. */
static unsigned
madt_entries(const struct buf *image, uint8_t type, const uint8_t **last)
{
	unsigned count = 0;
	size_t len;
	const uint8_t *madt = table_find(image, "APIC", &len);

	assert_non_null(madt);
	for (size_t off = 44; off < len; off += madt[off + 1]) {
		assert_true(madt[off + 1] >= 6);
		assert_true(range_within(off, madt[off + 1], len));
		if (madt[off] == type) {
			*last = madt + off;
			count++;
		}
	}
	return count;
}

static void
madt_lists_processors_and_overrides(void **state)
{
	struct buf image = linked(&full);
	const uint8_t *entry, *madt;
	size_t len;

	madt = table_find(&image, "APIC", &len);
	assert_int_equal(madt[8], 1);
	assert_int_equal(le32_load(madt + 36), 0xfee00000);
	assert_int_equal(le32_load(madt + 40), 1);
	assert_int_equal(madt_entries(&image, 0, &entry), 32);
	assert_memory_equal(entry, "\x00\x08\x1f\x1f\x01\0\0\0", 8);
	assert_int_equal(madt_entries(&image, 1, &entry), 1);
	assert_memory_equal(entry,
	    "\x01\x0c\x00\x00\x00\x00\xc0\xfe\x00\x00\x00\x00", 12);
	assert_int_equal(madt_entries(&image, 2, &entry), 2);
	assert_memory_equal(entry - 10, "\x02\x0a\x00\x00\x02\0\0\0\x05\x00",
	    10);
	assert_memory_equal(entry, "\x02\x0a\x00\x09\x09\0\0\0\x0f\x00", 10);
	assert_int_equal(madt_entries(&image, 4, &entry), 1);
	assert_memory_equal(entry, "\x04\x06\xff\x05\x00\x01", 6);
	assert_int_equal(madt_entries(&image, 9, &entry), 0);
	assert_int_equal(madt_entries(&image, 10, &entry), 0);
	buf_fini(&image);
}

/* APIC id 255 addresses everybody, so from there on ids need 32 bits. */
static void
high_apic_ids_take_x2apic_entries(void **state)
{
	struct acpi_params params = plain;
	struct buf image;
	const uint8_t *entry;

	params.cpus = 257;
	image = linked(&params);
	assert_int_equal(madt_entries(&image, 0, &entry), 255);
	assert_int_equal(madt_entries(&image, 9, &entry), 2);
	assert_memory_equal(entry,
	    "\x09\x10\x00\x00\x00\x01\0\0\x01\0\0\0\x00\x01\0\0", 16);
	assert_int_equal(madt_entries(&image, 10, &entry), 1);
	assert_memory_equal(entry, "\x0a\x0c\x05\x00\xff\xff\xff\xff\x01\0\0\0",
	    12);
	buf_fini(&image);
}

static void
hpet_and_mcfg_tell_addresses(void **state)
{
	struct buf image = linked(&usual);
	const uint8_t *t;
	size_t len;

	t = table_find(&image, "HPET", &len);
	assert_int_equal(len, 56);
	assert_int_equal(le32_load(t + 36), 0x80860701);
	assert_memory_equal(t + 40, "\0\0\0\0\0\0\xd0\xfe\0\0\0\0\x00\0\0\x01",
	    16);
	t = table_find(&image, "MCFG", &len);
	assert_int_equal(len, 60);
	assert_memory_equal(t + 44, "\0\0\0\xe0\0\0\0\0\0\0\x00\xff\0\0\0\0",
	    16);
	buf_fini(&image);
}

static void
tables_go_into_memory(void **state)
{
	const struct mem_params mem_params = { 0 };
	struct mem *mem = mem_new(&mem_params);
	struct acpi_tables tables;
	struct buf image = linked(&usual);
	struct err err;

	acpi_build(&usual, &tables);
	assert_int_equal(acpi_install(mem, &tables, &err), -EFAULT);
	assert_non_null(strstr(err.msg, "ACPI"));
	assert_int_equal(mem_add_pc_ram(mem, 16 * MIB, PLAT_LOWMEM_LIMIT, &err),
	    0);
	assert_int_equal(acpi_install(mem, &tables, &err), 0);
	assert_memory_equal(mem_ptr_read(mem, PLAT_ACPI_BASE, image.len),
	    image.data, image.len);
	acpi_tables_fini(&tables);
	buf_fini(&image);
	mem_free(mem);
}

/* 256 buses with every pin of every slot in use. */
static void
too_many_tables_are_refused(void **state)
{
	const unsigned pins = 32 * 4;
	struct acpi_bus *bus = xcalloc(256, sizeof(*bus));
	struct intx_route *route = xcalloc(256 * pins, sizeof(*route));
	struct acpi_params params = usual;
	struct acpi_tables tables;
	struct buf image;
	struct err err;

	for (unsigned i = 0; i < 256 * pins; i++)
		route[i] = (struct intx_route) {
			.bus = (uint8_t)(i / pins),
			.slot = i / 4 % 32,
			.pin = i % 4 + 1,
			.gsi = 16,
		};
	for (unsigned i = 0; i < 256; i++)
		bus[i].number = (uint8_t)i;
	params.buses = bus;
	params.bus_count = 256;
	params.routes = route;
	params.route_count = 256 * pins;
	acpi_build(&params, &tables);
	assert_int_equal(acpi_link(&tables, PLAT_ACPI_BASE, TABLES_LEN, &image,
			     &err),
	    -ENOSPC);
	assert_non_null(strstr(err.msg, "ACPI tables take "));
	acpi_tables_fini(&tables);

	/* One bus of that kind fits well. */
	params.bus_count = 1;
	params.route_count = pins;
	image = linked(&params);
	buf_fini(&image);
	free(route);
	free(bus);
}

/* ---- ACPI's own tools ---------------------------------------------------- */

static void
assert_no_complaint(char *output)
{
	static const char *const words[] = { "Error ", "ERROR", "Warning ",
		"Exception", "AE_" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strstr(output, words[i]) != NULL)
			fail_msg("%s", output);
	}
	free(output);
}

static void
iasl_takes_each_table(void **state)
{
	static const char *const names[] = { "FACP", "APIC", "HPET", "MCFG" };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		struct buf image = linked(sets[i]);

		for (size_t j = 0; j < ARRAY_SIZE(names); j++) {
			char *const argv[] = { "iasl", "-d", "table.aml",
				NULL };
			size_t len = 0;
			const uint8_t *t = table_find(&image, names[j], &len);

			if (t == NULL)
				continue;
			tool_write(*state, "table.aml", t, len);
			assert_no_complaint(tool_run(*state, argv));
		}
		buf_fini(&image);
	}
}

/* What the disassembler reads compiles to the very same code. */
static void
iasl_rebuilds_the_dsdt(void **state)
{
	char *const disassemble[] = { "iasl", "-d", "dsdt.aml", NULL };
	char *const compile[] = { "iasl", "-oa", "-p", "again", "dsdt.dsl",
		NULL };

	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		struct buf image = linked(sets[i]);
		size_t len, again_len;
		const uint8_t *dsdt = dsdt_find(&image, &len);
		char *again, *output;

		tool_write(*state, "dsdt.aml", dsdt, len);
		assert_no_complaint(tool_run(*state, disassemble));
		output = tool_run(*state, compile);
		if (strstr(output, "0 Errors, 0 Warnings") == NULL)
			fail_msg("%s", output);
		free(output);
		again = tool_read(*state, "again.aml", &again_len);
		assert_int_equal(again_len, len);
		assert_memory_equal(again + HEADER_LEN, dsdt + HEADER_LEN,
		    len - HEADER_LEN);
		free(again);
		buf_fini(&image);
	}
}

/* In order, each after the one before. */
static void
assert_output(char *output, const char *const *parts, size_t n)
{
	const char *p = output;

	for (size_t i = 0; i < n; i++) {
		p = strstr(p, parts[i]);
		if (p == NULL)
			fail_msg("\"%s\" (part %zu) missing in:\n%s", parts[i],
			    i, output);
	}
	assert_no_complaint(output);
}

#define LNKF "\\_SB.PC00.ISA.LNKF"

static void
acpiexec_routes_a_link(void **state)
{
	/* Configuration space begins filled with 0x80: not routed. */
	char *const argv[] = { "acpiexec", "-fv", "128", "-b",
		"evaluate " LNKF "._STA;"
		"evaluate " LNKF "._CRS;"
		"evaluate " LNKF "._PRS;"
		"evaluate " LNKF "._SRS (23 00 04 18 79 00);"
		"evaluate \\_SB.PC00.ISA.PIRF;"
		"evaluate \\_SB.PC00.ISA.PIRE;"
		"evaluate " LNKF "._STA;"
		"evaluate " LNKF "._CRS;"
		"evaluate " LNKF "._DIS;"
		"evaluate \\_SB.PC00.ISA.PIRF;"
		"evaluate " LNKF "._STA;"
		"evaluate " LNKF "._SRS (23 00 00 18 79 00);"
		"evaluate \\_SB.PC00.ISA.PIRF;"
		"evaluate " LNKF "._SRS (23 01 00 18 79 00);"
		"evaluate " LNKF "._CRS",
		"dsdt.aml", NULL };
	static const char *const parts[] = {
		"= 0000000000000009", /* there, not enabled */
		"23 00 00 18 79 00",  /* no line */
		"23 F8 DE 18 79 00", "= 000000000000000A", /* PIRF: line 10 */
		"= 0000000000000080", /* PIRE: its neighbour is untouched */
		"= 000000000000000B", /* enabled */
		"23 00 04 18 79 00",
		"= 000000000000008A", /* disabled, the line kept */
		"= 0000000000000009",
		"= 00000000000000FF", /* a template of no line disables */
		"23 00 00 18 79 00",  /* IRQ 0 is not for PCI */
	};
	struct buf image = linked(&full);
	size_t len;
	const uint8_t *dsdt = dsdt_find(&image, &len);

	tool_write(*state, "dsdt.aml", dsdt, len);
	buf_fini(&image);
	assert_output(tool_run(*state, argv), parts, ARRAY_SIZE(parts));
}

static void
acpiexec_reads_routing_and_resources(void **state)
{
	char *const argv[] = { "acpiexec", "-b",
		"evaluate \\_S5;"
		"evaluate \\_SB.PC00._PRT;"
		"evaluate \\_SB.PC03._PRT;"
		"evaluate \\_PIC 1;"
		"evaluate \\_SB.PC00._PRT;"
		"evaluate \\_SB.PC03._PRT;"
		"evaluate \\_SB.PC00.ISA._ADR;"
		"evaluate \\_SB.PCFF._BBN;"
		"evaluate \\_SB.PC00.ISA.COM4._CRS;"
		"evaluate \\_SB.PC00.HPET._CRS;"
		"evaluate \\_SB.PC03._CRS",
		"dsdt.aml", NULL };
	static const char *const parts[] = {
		"= 0000000000000005",
		"Contains 3 Elements",
		"= 000000000001FFFF",
		"LNKF",
		"LNKA",
		"LNKH",
		"Contains 0 Elements",
		"Contains 3 Elements",
		"= 000000000001FFFF",
		"= 0000000000000000",
		"= 0000000000000011",
		"= 000000000002FFFF",
		"= 0000000000000010",
		"= 00000000001FFFFF",
		"= 0000000000000003",
		"= 000000000000001F",
		"Contains 1 Elements",
		"= 000000000000FFFF",
		"= 0000000000000001",
		"= 0000000000000014",
		"= 0000000000010003", /* _ADR */
		"= 00000000000000FF", /* _BBN */
		"47 01 E8 02 E8 02 01 08 22 08 00 79 00",
		"86 09 00 01 00 00 D0 FE 00 04 00 00 79 00",
		"88 0D 00 02 0C 00 00 00 03 00 03 00 00 00 01 00",
	};
	struct buf image = linked(&full);
	size_t len;
	const uint8_t *dsdt = dsdt_find(&image, &len);

	tool_write(*state, "dsdt.aml", dsdt, len);
	buf_fini(&image);
	assert_output(tool_run(*state, argv), parts, ARRAY_SIZE(parts));
}

#define TOOL_TEST(fn) \
	cmocka_unit_test_setup_teardown(fn, tool_setup, tool_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_where_the_rsdp_leads),
		cmocka_unit_test(fadt_tells_the_ports),
		cmocka_unit_test(madt_lists_processors_and_overrides),
		cmocka_unit_test(high_apic_ids_take_x2apic_entries),
		cmocka_unit_test(hpet_and_mcfg_tell_addresses),
		cmocka_unit_test(tables_go_into_memory),
		cmocka_unit_test(too_many_tables_are_refused),
		TOOL_TEST(iasl_takes_each_table),
		TOOL_TEST(iasl_rebuilds_the_dsdt),
		TOOL_TEST(acpiexec_routes_a_link),
		TOOL_TEST(acpiexec_reads_routing_and_resources),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
