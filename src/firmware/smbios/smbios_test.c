/*
 * SMBIOS, walked as a guest would, and read by dmidecode where it is
 * installed.
 */
#include <errno.h>

#include "base/wire.h"
#include "firmware/smbios/smbios.h"
#include "firmware/tool_test.h"
#include "vm/platform.h"

#define UUID "00112233-4455-6677-8899-aabbccddeeff"

/* A tree from "key=value" texts, ended by NULL. */
static struct smbios_params
params_of(const char *const *options)
{
	struct config *root = config_new();
	struct smbios_params params;
	struct err err;

	for (; *options != NULL; options++)
		assert_int_equal(config_set_option(root, *options, &err), 0);
	assert_int_equal(smbios_params_from_config(root, &params, &err), 0);
	config_free(root);
	params.lowmem = 256 * MIB;
	params.sockets = 1;
	params.cores = 1;
	params.threads = 1;
	return params;
}

static const char *const defaults[] = { "name=vm0", "uuid=" UUID, NULL };

static struct buf
built(const struct smbios_params *params)
{
	struct buf image;
	struct err err;

	assert_int_equal(smbios_build(params, PLAT_SMBIOS_BASE, &image, &err),
	    0);
	return image;
}

static void
assert_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	assert_int_equal(sum, 0);
}

/*
 * Structure `index` of a type, NULL behind the last; the whole table is
 * checked on the way.
 */
static const uint8_t *
structure(const struct buf *image, uint8_t type, unsigned index)
{
	const uint8_t *found = NULL;
	unsigned count = 0;
	size_t off = 0x20;
	uint8_t last = 0;

	while (off < image->len) {
		const uint8_t *s = image->data + off;
		size_t end = off + s[1];

		assert_true(range_within(off, 4, image->len));
		assert_true(last <= s[0]);
		last = s[0];
		while (image->data[end] != 0 || image->data[end + 1] != 0) {
			end++;
			assert_true(end + 1 < image->len);
		}
		if (s[0] == type && index-- == 0)
			found = s;
		off = end + 2;
		count++;
	}
	assert_int_equal(off, image->len);
	assert_int_equal(last, 127);
	assert_int_equal(le16_load(image->data + 0x1c), count);
	return found;
}

/* The text that a field of a structure names. */
static const char *
text(const uint8_t *s, unsigned field)
{
	const char *p = (const char *)s + s[1];

	assert_int_not_equal(s[field], 0);
	for (unsigned i = 1; i < s[field]; i++) {
		assert_int_not_equal(*p, '\0');
		p += strlen(p) + 1;
	}
	return p;
}

static void
entry_point_leads_to_the_table(void **state)
{
	struct smbios_params params = params_of(defaults);
	struct buf image = built(&params);
	const uint8_t *e = image.data;

	assert_memory_equal(e, "_SM_", 4);
	assert_int_equal(e[5], 0x1f);
	assert_sum(e, 0x1f);
	assert_memory_equal(e + 6, "\x02\x08", 2);
	assert_memory_equal(e + 0x10, "_DMI_", 5);
	assert_sum(e + 0x10, 0xf);
	assert_int_equal(le16_load(e + 0x16), image.len - 0x20);
	assert_int_equal(le32_load(e + 0x18), PLAT_SMBIOS_BASE + 0x20);
	assert_int_equal(e[0x1e], 0x28);
	/* The largest structure is the BIOS' or the system's, texts and all. */
	assert_in_range(le16_load(e + 8), 0x1b + 40, 0x1b + 60);
	assert_non_null(structure(&image, 127, 0));
	smbios_params_fini(&params);
	buf_fini(&image);
}

static void
defaults_are_bhyves(void **state)
{
	struct smbios_params params = params_of(defaults);
	struct buf image = built(&params);
	const uint8_t *s;

	s = structure(&image, 0, 0);
	assert_string_equal(text(s, 4), "BHYVE");
	assert_string_equal(text(s, 5), "14.0");
	assert_string_equal(text(s, 8), "10/17/2021");
	assert_int_equal(le16_load(s + 6), 0xf000);
	assert_int_equal(le64_load(s + 10), 0x89090);
	assert_memory_equal(s + 18, "\x01\x11", 2);
	s = structure(&image, 1, 0);
	assert_string_equal(text(s, 4), "Apiary");
	assert_string_equal(text(s, 5), "BHYVE");
	assert_string_equal(text(s, 6), "1.0");
	assert_string_equal(text(s, 7), "None");
	assert_memory_equal(s + 8,
	    "\x33\x22\x11\x00\x55\x44\x77\x66"
	    "\x88\x99\xaa\xbb\xcc\xdd\xee\xff",
	    16);
	assert_int_equal(s[0x18], 6);
	assert_string_equal(text(s, 0x19), "None");
	assert_string_equal(text(s, 0x1a), "Virtual Machine");
	s = structure(&image, 2, 0);
	assert_string_equal(text(s, 5), "BHYVE");
	assert_string_equal(text(s, 10), "None");
	assert_int_equal(le16_load(s + 11),
	    le16_load(structure(&image, 3, 0) + 2));
	s = structure(&image, 3, 0);
	assert_string_equal(text(s, 6), "1.0");
	assert_string_equal(text(s, 0x15), "None");
	assert_int_equal(s[5], 2);
	assert_non_null(structure(&image, 32, 0));
	smbios_params_fini(&params);
	buf_fini(&image);
}

static void
texts_come_from_the_tree(void **state)
{
	static const char *const options[] = { "name=vm0",
		"system.manufacturer=Joyent", "smbios.manufacturer=ignored",
		"smbios.product=SmartDC HVM", "smbios.family=Bees",
		"bios.vendor=%(name) vendor", "board.location=slot 4",
		"chassis.sku=42", NULL };
	struct smbios_params params = params_of(options);
	struct buf image = built(&params);
	const uint8_t *s;

	assert_string_equal(text(structure(&image, 0, 0), 4), "vm0 vendor");
	s = structure(&image, 1, 0);
	assert_string_equal(text(s, 4), "Joyent");
	assert_string_equal(text(s, 5), "SmartDC HVM");
	assert_string_equal(text(s, 0x1a), "Bees");
	assert_string_equal(text(structure(&image, 2, 0), 10), "slot 4");
	assert_string_equal(text(structure(&image, 3, 0), 0x15), "42");
	smbios_params_fini(&params);
	buf_fini(&image);
}

static void
default_uuid_is_made_from_names(void **state)
{
	static const char *const options[] = { "name=vm0", NULL };
	struct smbios_params params = params_of(options);
	char host[256] = "";
	struct uuid uuid;

	assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
	uuid_from_names("vm0", host, &uuid);
	assert_memory_equal(&params.uuid, &uuid, sizeof(uuid));
	smbios_params_fini(&params);
}

static void
bad_uuid_is_refused(void **state)
{
	struct config *root = config_new();
	struct smbios_params params;
	struct err err;

	assert_int_equal(config_set(root, "uuid", "not one", &err), 0);
	assert_int_equal(smbios_params_from_config(root, &params, &err),
	    -EINVAL);
	assert_string_equal(err.msg, "uuid: \"not one\" is not a UUID");
	smbios_params_fini(&params);
	config_free(root);
}

static void
sockets_have_cores_and_threads(void **state)
{
	struct smbios_params params = params_of(defaults);
	struct buf image;
	const uint8_t *s;

	params.sockets = 2;
	params.cores = 4;
	params.threads = 2;
	image = built(&params);
	s = structure(&image, 4, 0);
	assert_string_equal(text(s, 4), "CPU #0");
	s = structure(&image, 4, 1);
	assert_int_equal(s[1], 0x2a);
	assert_string_equal(text(s, 4), "CPU #1");
	assert_int_equal(s[5], 3);
	assert_int_equal(s[0x18], 0x41);
	assert_memory_equal(s + 0x23, "\x04\x04\x08", 3);
	assert_null(structure(&image, 4, 2));
	smbios_params_fini(&params);
	buf_fini(&image);
}

static void
memory_is_told_in_its_units(void **state)
{
	static const struct {
		uint64_t lowmem, highmem;
		uint32_t capacity;
		uint16_t size;
		uint32_t extended_size;
	} cases[] = {
		{ 256 * MIB, 0, 256 * 1024, 256, 0 },
		{ 1536 * KIB, 0, 1536, 0x8600, 0 },
		{ 3 * GIB, 1 * GIB, 4 << 20, 4096, 0 },
		{ 3 * GIB, 61 * GIB, 64 << 20, 0x7fff, 65536 },
		{ 3 * GIB, 5117 * GIB, 0x80000000, 0x7fff, 5 << 20 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct smbios_params params = params_of(defaults);
		struct buf image;
		const uint8_t *s;

		params.lowmem = cases[i].lowmem;
		params.highmem = cases[i].highmem;
		image = built(&params);
		s = structure(&image, 16, 0);
		assert_int_equal(le32_load(s + 7), cases[i].capacity);
		assert_int_equal(le64_load(s + 15),
		    cases[i].capacity == 0x80000000 ? 5120 * GIB : 0);
		s = structure(&image, 17, 0);
		assert_int_equal(s[1], 0x28);
		assert_int_equal(le16_load(s + 4),
		    le16_load(structure(&image, 16, 0) + 2));
		assert_int_equal(le16_load(s + 12), cases[i].size);
		assert_int_equal(le32_load(s + 0x1c), cases[i].extended_size);
		s = structure(&image, 19, 0);
		assert_int_equal(le32_load(s + 4), 0);
		assert_int_equal(le32_load(s + 8), cases[i].lowmem / KIB - 1);
		s = structure(&image, 19, 1);
		assert_int_equal(s != NULL, cases[i].highmem != 0);
		if (cases[i].capacity == 0x80000000) {
			assert_int_equal(le32_load(s + 4), UINT32_MAX);
			assert_int_equal(le64_load(s + 15), 4 * GIB);
			assert_int_equal(le64_load(s + 23), 5121 * GIB - 1);
		} else if (s != NULL) {
			assert_int_equal(le32_load(s + 4), 4 << 20);
			assert_int_equal(le32_load(s + 8),
			    (4 << 20) + cases[i].highmem / KIB - 1);
		}
		smbios_params_fini(&params);
		buf_fini(&image);
	}
}

static void
long_texts_are_refused(void **state)
{
	struct smbios_params params = params_of(defaults);
	struct buf image;
	struct err err;

	/* Grow one text to the last byte that fits, and one beyond. */
	image = built(&params);
	free(params.text[SMBIOS_BOARD_LOCATION]);
	params.text[SMBIOS_BOARD_LOCATION] =
	    xasprintf("%0*d", (int)(4 + PLAT_SMBIOS_MAX - image.len), 0);
	buf_fini(&image);
	image = built(&params);
	assert_int_equal(image.len, PLAT_SMBIOS_MAX);
	assert_non_null(structure(&image, 127, 0));
	buf_fini(&image);
	params.sockets++;
	assert_int_equal(smbios_build(&params, PLAT_SMBIOS_BASE, &image, &err),
	    -ENOSPC);
	assert_non_null(strstr(err.msg, "shorten"));
	smbios_params_fini(&params);
}

static void
tables_go_into_memory(void **state)
{
	const struct mem_params mem_params = { 0 };
	struct mem *mem = mem_new(&mem_params);
	struct smbios_params params = params_of(defaults);
	struct buf image = built(&params);
	struct err err;

	assert_int_equal(smbios_install(mem, &params, &err), -EFAULT);
	assert_int_equal(mem_add_pc_ram(mem, 16 * MIB, PLAT_LOWMEM_LIMIT, &err),
	    0);
	assert_int_equal(smbios_install(mem, &params, &err), 0);
	assert_memory_equal(mem_ptr_read(mem, PLAT_SMBIOS_BASE, image.len),
	    image.data, image.len);
	smbios_params_fini(&params);
	buf_fini(&image);
	mem_free(mem);
}

/* A dump is the entry point, told to find the structures at offset 0x20. */
static void
dmidecode_reads_it(void **state)
{
	char *const argv[] = { "/usr/sbin/dmidecode", "--from-dump", "dump",
		NULL };
	static const char *const parts[] = { "SMBIOS 2.8 present",
		"Vendor: BHYVE", "System is a virtual machine",
		"Product Name: BHYVE", UUID, "Base Board Information",
		"Chassis Information", "Socket Designation: CPU #0",
		"Core Count: 1", "Maximum Capacity: 64 GB", "Size: 64 GB",
		"Range Size: 3 GB", "Range Size: 61 GB", "No errors detected",
		"End Of Table" };
	struct smbios_params params = params_of(defaults);
	struct buf image;
	char *output, *p;
	struct err err;

	params.lowmem = 3 * GIB;
	params.highmem = 61 * GIB;
	assert_int_equal(smbios_build(&params, 0, &image, &err), 0);
	tool_write(*state, "dump", image.data, image.len);
	output = tool_run(*state, argv);
	p = output;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		p = strstr(p, parts[i]);
		if (p == NULL)
			fail_msg("\"%s\" missing in:\n%s", parts[i], output);
	}
	assert_null(strstr(output, "OUT OF SPEC"));
	assert_null(strstr(output, "broken"));
	free(output);
	smbios_params_fini(&params);
	buf_fini(&image);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entry_point_leads_to_the_table),
		cmocka_unit_test(defaults_are_bhyves),
		cmocka_unit_test(texts_come_from_the_tree),
		cmocka_unit_test(default_uuid_is_made_from_names),
		cmocka_unit_test(bad_uuid_is_refused),
		cmocka_unit_test(sockets_have_cores_and_threads),
		cmocka_unit_test(memory_is_told_in_its_units),
		cmocka_unit_test(long_texts_are_refused),
		cmocka_unit_test(tables_go_into_memory),
		cmocka_unit_test_setup_teardown(dmidecode_reads_it, tool_setup,
		    tool_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
