/*
 * SMBIOS structures and their entry point.
 *
 * Models       DMTF DSP0134, version 2.8: the 32-bit entry point "_SM_", and
 *              structures 0 to 4, 16, 17, 19, 32 and 127 in the lengths of that
 *              version.  2.8 rather than 2.6, because only from 2.7 on a memory
 *              device can be larger than 32 GiB.
 * Handles      The type in the upper byte, a count in the lower: a structure
 *              can name another that is not written yet.
 * Texts        follow their structure, each ended by a NUL, the last by two;
 *              fields hold their number, from 1.
 * Locking      none; one thread builds, before the machine starts.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "firmware/smbios/smbios.h"
#include "vm/platform.h"

struct smbios_header {
	uint8_t type;
	uint8_t length;
	le16 handle;
};
#define HEADER(t, s)                              \
	{                                         \
		.type = (t), .length = sizeof(s), \
		.handle = le16_make((t) << 8)     \
	}

struct smbios_entry {
	char anchor[4];
	uint8_t checksum;
	uint8_t length;
	uint8_t major;
	uint8_t minor;
	le16 max_structure;
	uint8_t revision;
	uint8_t formatted[5];
	char dmi_anchor[5];
	uint8_t dmi_checksum;
	le16 table_len;
	le32 table;
	le16 count;
	uint8_t bcd_revision;
};
_Static_assert(sizeof(struct smbios_entry) == 0x1f, "31-byte entry point");
#define SMBIOS_DMI_OFFSET offsetof(struct smbios_entry, dmi_anchor)
#define SMBIOS_TABLE_OFFSET 0x20

/* Keys of the texts: the one in use, an older one, the default. */
static const struct smbios_key {
	const char *key;
	const char *alias;
	const char *dflt;
} smbios_keys[SMBIOS_TEXTS] = {
	[SMBIOS_BIOS_VENDOR] = { "bios.vendor", NULL, "BHYVE" },
	[SMBIOS_BIOS_VERSION] = { "bios.version", NULL, "14.0" },
	[SMBIOS_BIOS_RELEASE_DATE] = { "bios.release_date", NULL,
	    "10/17/2021" },
	[SMBIOS_SYSTEM_MANUFACTURER] = { "system.manufacturer",
	    "smbios.manufacturer", "Apiary" },
	[SMBIOS_SYSTEM_PRODUCT_NAME] = { "system.product_name",
	    "smbios.product", "BHYVE" },
	[SMBIOS_SYSTEM_VERSION] = { "system.version", "smbios.version", "1.0" },
	[SMBIOS_SYSTEM_SERIAL_NUMBER] = { "system.serial_number",
	    "smbios.serial", "None" },
	[SMBIOS_SYSTEM_SKU] = { "system.sku", "smbios.sku", "None" },
	[SMBIOS_SYSTEM_FAMILY_NAME] = { "system.family_name", "smbios.family",
	    "Virtual Machine" },
	[SMBIOS_BOARD_MANUFACTURER] = { "board.manufacturer", NULL, "Apiary" },
	[SMBIOS_BOARD_PRODUCT_NAME] = { "board.product_name", NULL, "BHYVE" },
	[SMBIOS_BOARD_VERSION] = { "board.version", NULL, "1.0" },
	[SMBIOS_BOARD_SERIAL_NUMBER] = { "board.serial_number", NULL, "None" },
	[SMBIOS_BOARD_ASSET_TAG] = { "board.asset_tag", NULL, "None" },
	[SMBIOS_BOARD_LOCATION] = { "board.location", NULL, "None" },
	[SMBIOS_CHASSIS_MANUFACTURER] = { "chassis.manufacturer", NULL,
	    "Apiary" },
	[SMBIOS_CHASSIS_VERSION] = { "chassis.version", NULL, "1.0" },
	[SMBIOS_CHASSIS_SERIAL_NUMBER] = { "chassis.serial_number", NULL,
	    "None" },
	[SMBIOS_CHASSIS_ASSET_TAG] = { "chassis.asset_tag", NULL, "None" },
	[SMBIOS_CHASSIS_SKU] = { "chassis.sku", NULL, "None" },
};

/* The value of key, or of alias where key is unset, or dflt. */
static int
smbios_get(struct config *root, const char *key, const char *alias,
    const char *dflt, char **value, struct err *err)
{
	if (alias != NULL && !config_has(root, key))
		key = alias;
	return config_str(root, key, dflt, value, err);
}

static int
smbios_default_uuid(struct config *root, struct uuid *uuid, struct err *err)
{
	char host[256] = "";
	char *name;
	int rc;

	rc = config_str(root, "name", "", &name, err);
	if (rc < 0)
		return rc;
	if (gethostname(host, sizeof(host) - 1) != 0)
		host[0] = '\0'; /* then it is stable by the name alone */
	uuid_from_names(name, host, uuid);
	free(name);
	return 0;
}

static int
smbios_get_uuid(struct config *root, struct uuid *uuid, struct err *err)
{
	char *text;
	int rc;

	rc = config_str(root, "uuid", NULL, &text, err);
	if (rc < 0)
		return rc;
	if (text == NULL)
		return smbios_default_uuid(root, uuid, err);
	if (!uuid_parse(text, uuid))
		rc = err_set(err, -EINVAL, "uuid: \"%s\" is not a UUID", text);
	free(text);
	return rc;
}

int
smbios_params_from_config(struct config *root, struct smbios_params *params,
    struct err *err)
{
	int rc;

	*params = (struct smbios_params) { 0 };
	for (size_t i = 0; i < SMBIOS_TEXTS; i++) {
		rc = smbios_get(root, smbios_keys[i].key, smbios_keys[i].alias,
		    smbios_keys[i].dflt, &params->text[i], err);
		if (rc < 0)
			return rc;
	}
	return smbios_get_uuid(root, &params->uuid, err);
}

void
smbios_params_fini(struct smbios_params *params)
{
	for (size_t i = 0; i < SMBIOS_TEXTS; i++)
		free(params->text[i]);
	*params = (struct smbios_params) { 0 };
}

/* ---- structures ---------------------------------------------------------- */

struct smbios_tables {
	struct buf out;
	unsigned count;
	size_t largest;
};

/* Add a structure, whose first member is its header, and its texts. */
static void
smbios_add(struct smbios_tables *tables, const void *structure,
    char *const *texts, unsigned text_count)
{
	const struct smbios_header *h = structure;
	size_t start = tables->out.len;

	buf_put(&tables->out, structure, h->length);
	for (unsigned i = 0; i < text_count; i++)
		buf_put(&tables->out, texts[i], strlen(texts[i]) + 1);
	buf_put_int(&tables->out, 0, text_count == 0 ? 2 : 1);
	tables->count++;
	tables->largest = MAX(tables->largest, tables->out.len - start);
}

static void
smbios_add_bios(struct smbios_tables *tables, const struct smbios_params *p)
{
	const struct {
		struct smbios_header h;
		uint8_t vendor, version;
		le16 segment;
		uint8_t date, size;
		le64 characteristics;
		uint8_t extension[2];
		uint8_t major, minor, ec_major, ec_minor;
	} bios = {
		.h = HEADER(0, bios),
		.vendor = 1,
		.version = 2,
		.segment = le16_make(0xf000),
		.date = 3,
		/* ISA, PCI, shadowing, boot from CD, EDD */
		.characteristics =
		    le64_make(BIT(4) | BIT(7) | BIT(12) | BIT(15) | BIT(19)),
		/* ACPI; BIOS boot specification, virtual machine */
		.extension = { BIT(0), BIT(0) | BIT(4) },
		.ec_major = 0xff,
		.ec_minor = 0xff,
	};

	_Static_assert(sizeof(bios) == 0x18, "type 0");
	smbios_add(tables, &bios, &p->text[SMBIOS_BIOS_VENDOR], 3);
}

static void
smbios_add_system(struct smbios_tables *tables, const struct smbios_params *p)
{
	struct {
		struct smbios_header h;
		uint8_t manufacturer, product, version, serial;
		uint8_t uuid[16];
		uint8_t wake_up, sku, family;
	} system = {
		.h = HEADER(1, system),
		.manufacturer = 1,
		.product = 2,
		.version = 3,
		.serial = 4,
		.wake_up = 6, /* power switch */
		.sku = 5,
		.family = 6,
	};

	_Static_assert(sizeof(system) == 0x1b, "type 1");
	uuid_to_guid(&p->uuid, system.uuid);
	smbios_add(tables, &system, &p->text[SMBIOS_SYSTEM_MANUFACTURER], 6);
}

#define SMBIOS_CHASSIS_HANDLE 0x0300

static void
smbios_add_board(struct smbios_tables *tables, const struct smbios_params *p)
{
	const struct {
		struct smbios_header h;
		uint8_t manufacturer, product, version, serial, asset_tag;
		uint8_t features, location;
		le16 chassis;
		uint8_t type, contained;
	} board = {
		.h = HEADER(2, board),
		.manufacturer = 1,
		.product = 2,
		.version = 3,
		.serial = 4,
		.asset_tag = 5,
		.features = BIT(0), /* hosting board */
		.location = 6,
		.chassis = le16_make(SMBIOS_CHASSIS_HANDLE),
		.type = 10, /* motherboard */
	};

	_Static_assert(sizeof(board) == 0x0f, "type 2");
	smbios_add(tables, &board, &p->text[SMBIOS_BOARD_MANUFACTURER], 6);
}

static void
smbios_add_chassis(struct smbios_tables *tables, const struct smbios_params *p)
{
	const struct {
		struct smbios_header h;
		uint8_t manufacturer, type, version, serial, asset_tag;
		uint8_t boot_state, power_state, thermal_state, security;
		le32 oem;
		uint8_t height, cords, elements, element_len, sku;
	} chassis = {
		.h = HEADER(3, chassis),
		.manufacturer = 1,
		.type = 2, /* unknown */
		.version = 2,
		.serial = 3,
		.asset_tag = 4,
		.boot_state = 3, /* safe */
		.power_state = 3,
		.thermal_state = 3,
		.security = 3, /* none */
		.sku = 5,
	};

	_Static_assert(sizeof(chassis) == 0x16, "type 3");
	smbios_add(tables, &chassis, &p->text[SMBIOS_CHASSIS_MANUFACTURER], 5);
}

static void
smbios_add_socket(struct smbios_tables *tables, unsigned socket,
    const struct smbios_params *p)
{
	const struct {
		struct smbios_header h;
		uint8_t designation, type, family, manufacturer;
		le64 id;
		uint8_t version, voltage;
		le16 clock, max_speed, speed;
		uint8_t status, upgrade;
		le16 l1, l2, l3;
		uint8_t serial, asset_tag, part;
		uint8_t cores, cores_enabled, threads;
		le16 characteristics, family2;
	} processor = {
		.h = { 4, sizeof(processor),
		    le16_make((uint16_t)(0x0400 + socket)) },
		.designation = 1,
		.type = 3,               /* central processor */
		.family = 1,             /* other */
		.status = BIT(6) | 1,    /* populated, enabled */
		.upgrade = 6,            /* none */
		.l1 = le16_make(0xffff), /* not told */
		.l2 = le16_make(0xffff),
		.l3 = le16_make(0xffff),
		.cores = (uint8_t)MIN(p->cores, 255u),
		.cores_enabled = (uint8_t)MIN(p->cores, 255u),
		.threads = (uint8_t)MIN(p->cores * p->threads, 255u),
		.characteristics = le16_make(BIT(2)), /* 64-bit capable */
		.family2 = le16_make(1),
	};
	char *name = xasprintf("CPU #%u", socket);

	_Static_assert(sizeof(processor) == 0x2a, "type 4");
	smbios_add(tables, &processor, &name, 1);
	free(name);
}

#define SMBIOS_ARRAY_HANDLE 0x1000
#define SMBIOS_NO_ERRORS_TOLD 0xfffe

/* The memory of the machine is one array of one device. */
static void
smbios_add_memory(struct smbios_tables *tables, uint64_t size)
{
	const uint64_t kib = size / KIB;
	const uint64_t mib = size / MIB;
	const bool in_kib = size % MIB != 0 && kib < 0x7fff;
	const struct {
		struct smbios_header h;
		uint8_t location, use, correction;
		le32 capacity; /* KiB; from 2^31 on the extended one counts */
		le16 errors, devices;
		le64 extended_capacity; /* bytes */
	} array = {
		.h = HEADER(16, array),
		.location = 3,   /* system board */
		.use = 3,        /* system memory */
		.correction = 3, /* none */
		.capacity = le32_make((uint32_t)MIN(kib, BIT(31))),
		.errors = le16_make(SMBIOS_NO_ERRORS_TOLD),
		.devices = le16_make(1),
		.extended_capacity = le64_make(kib >= BIT(31) ? size : 0),
	};
	const struct {
		struct smbios_header h;
		le16 array, errors, total_width, data_width;
		le16 size; /* MiB, or with bit 15 KiB; 0x7fff: extended */
		uint8_t form, set, locator, bank, type;
		le16 detail, speed;
		uint8_t manufacturer, serial, asset_tag, part, attributes;
		le32 extended_size; /* MiB */
		le16 configured_speed, min_mv, max_mv, configured_mv;
	} device = {
		.h = HEADER(17, device),
		.array = le16_make(SMBIOS_ARRAY_HANDLE),
		.errors = le16_make(SMBIOS_NO_ERRORS_TOLD),
		.total_width = le16_make(64),
		.data_width = le16_make(64),
		.size = le16_make(
		    (uint16_t)(in_kib ? kib | BIT(15) : MIN(mib, 0x7fffull))),
		.form = 2, /* unknown */
		.locator = 1,
		.type = 2,                   /* unknown */
		.detail = le16_make(BIT(2)), /* unknown */
		.extended_size = le32_make((uint32_t)(mib >= 0x7fff ? mib : 0)),
	};
	char *locator = xstrdup("DIMM 0");

	_Static_assert(sizeof(array) == 0x17, "type 16");
	_Static_assert(sizeof(device) == 0x28, "type 17");
	smbios_add(tables, &array, NULL, 0);
	smbios_add(tables, &device, &locator, 1);
	free(locator);
}

/* Where a part of the array appears in the address space. */
static void
smbios_add_range(struct smbios_tables *tables, unsigned index, gpa_t base,
    uint64_t size)
{
	const uint64_t last = base + (size - 1);
	const bool extended = last / KIB >= UINT32_MAX;
	const struct {
		struct smbios_header h;
		le32 start, end; /* KiB; all ones: the extended ones */
		le16 array;
		uint8_t width;
		le64 extended_start, extended_end;
	} range = {
		.h = { 19, sizeof(range),
		    le16_make((uint16_t)(0x1300 + index)) },
		.start =
		    le32_make(extended ? UINT32_MAX : (uint32_t)(base / KIB)),
		.end =
		    le32_make(extended ? UINT32_MAX : (uint32_t)(last / KIB)),
		.array = le16_make(SMBIOS_ARRAY_HANDLE),
		.width = 1,
		.extended_start = le64_make(extended ? base : 0),
		.extended_end = le64_make(extended ? last : 0),
	};

	_Static_assert(sizeof(range) == 0x1f, "type 19");
	smbios_add(tables, &range, NULL, 0);
}

static void
smbios_add_boot_status(struct smbios_tables *tables)
{
	const struct {
		struct smbios_header h;
		uint8_t reserved[6], status;
	} boot = { .h = HEADER(32, boot) };

	_Static_assert(sizeof(boot) == 0x0b, "type 32");
	smbios_add(tables, &boot, NULL, 0);
}

static uint8_t
smbios_checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	return (uint8_t)-sum;
}

static void
smbios_make_entry(const struct smbios_tables *tables, gpa_t base,
    uint8_t entry[SMBIOS_TABLE_OFFSET])
{
	struct smbios_entry e = {
		.anchor = "_SM_",
		.length = sizeof(e),
		.major = 2,
		.minor = 8,
		.max_structure = le16_make((uint16_t)tables->largest),
		.dmi_anchor = "_DMI_",
		.table_len = le16_make((uint16_t)tables->out.len),
		.table = le32_make((uint32_t)base + SMBIOS_TABLE_OFFSET),
		.count = le16_make((uint16_t)tables->count),
		.bcd_revision = 0x28,
	};

	e.dmi_checksum = smbios_checksum((uint8_t *)&e + SMBIOS_DMI_OFFSET,
	    sizeof(e) - SMBIOS_DMI_OFFSET);
	e.checksum = smbios_checksum((uint8_t *)&e, sizeof(e));
	memcpy(entry, &e, sizeof(e));
	entry[sizeof(e)] = 0;
}

int
smbios_build(const struct smbios_params *params, gpa_t base, struct buf *image,
    struct err *err)
{
	const struct smbios_header end = HEADER(127, end);
	uint8_t entry[SMBIOS_TABLE_OFFSET];
	struct smbios_tables tables = { 0 };

	smbios_add_bios(&tables, params);
	smbios_add_system(&tables, params);
	smbios_add_board(&tables, params);
	smbios_add_chassis(&tables, params);
	for (unsigned i = 0; i < params->sockets; i++)
		smbios_add_socket(&tables, i, params);
	smbios_add_memory(&tables, params->lowmem + params->highmem);
	smbios_add_range(&tables, 0, 0, params->lowmem);
	if (params->highmem != 0)
		smbios_add_range(&tables, 1, PLAT_4GIB, params->highmem);
	smbios_add_boot_status(&tables);
	smbios_add(&tables, &end, NULL, 0);

	if (tables.out.len > PLAT_SMBIOS_MAX - SMBIOS_TABLE_OFFSET) {
		size_t len = tables.out.len + SMBIOS_TABLE_OFFSET;

		buf_fini(&tables.out);
		return err_set(err, -ENOSPC,
		    "SMBIOS takes %zu bytes, more "
		    "than the %u there are: shorten the texts of bios, "
		    "system, board and chassis",
		    len, PLAT_SMBIOS_MAX);
	}
	smbios_make_entry(&tables, base, entry);
	*image = (struct buf) { 0 };
	buf_put(image, entry, sizeof(entry));
	buf_put(image, tables.out.data, tables.out.len);
	buf_fini(&tables.out);
	return 0;
}

int
smbios_install(struct mem *mem, const struct smbios_params *params,
    struct err *err)
{
	struct buf image;
	int rc;

	rc = smbios_build(params, PLAT_SMBIOS_BASE, &image, err);
	if (rc < 0)
		return rc;
	rc = mem_write(mem, PLAT_SMBIOS_BASE, image.data, image.len);
	buf_fini(&image);
	if (rc < 0)
		return err_set(err, rc, "no memory for SMBIOS at %#llx",
		    PLAT_SMBIOS_BASE);
	return 0;
}
