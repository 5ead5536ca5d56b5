/*
 * The MP table, walked as a guest would.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"
#include "firmware/mptable.h"
#include "vm/platform.h"

static const struct intx_route routes[] = {
	{ 0, 2, 1, 16, 0 },
	{ 1, 9, 1, 25, 0 }, /* another bus: not for this table */
	{ 0, 31, 4, 31, 7 },
};

static void
assert_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	assert_int_equal(sum, 0);
}

static struct buf
built(unsigned cpus)
{
	const struct mptable_params params = { cpus, routes, 3 };
	struct buf image;
	struct err err;

	assert_int_equal(mptable_build(&params, PLAT_MPTABLE_BASE, &image,
			     &err),
	    0);
	return image;
}

/* Entry `index` of a type; NULL behind the last. */
static const uint8_t *
entry(const struct buf *image, uint8_t type, unsigned index)
{
	static const uint8_t sizes[] = { 20, 8, 8, 8, 8 };
	const uint8_t *table = image->data + 16;
	size_t len = le16_load(table + 4);
	size_t off = 44;
	uint8_t last = 0;

	for (unsigned i = le16_load(table + 34); i > 0; i--) {
		const uint8_t *e = table + off;

		assert_true(range_within(off, 8, len));
		assert_in_range(e[0], last, 4); /* in order of type */
		last = e[0];
		off += sizes[e[0]];
		if (e[0] == type && index-- == 0)
			return e;
	}
	assert_int_equal(off, len);
	return NULL;
}

static void
pointer_leads_to_the_table(void **state)
{
	struct buf image = built(1);
	const uint8_t *table;

	assert_memory_equal(image.data, "_MP_\x10\x00\x0e\x00\x01\x04", 10);
	assert_memory_equal(image.data + 11, "\0\0\0\0\0", 5);
	assert_sum(image.data, 16);
	table = image.data + 16;
	assert_memory_equal(table, "PCMP", 4);
	assert_int_equal(le16_load(table + 4), image.len - 16);
	assert_int_equal(table[6], 4);
	assert_sum(table, image.len - 16);
	assert_memory_equal(table + 8, "BHyVe   Hypervisor  ", 20);
	assert_int_equal(le32_load(table + 36), 0xfee00000);
	buf_fini(&image);
}

static void
processors_are_listed(void **state)
{
	struct buf image = built(4);
	const uint8_t *cpu = entry(&image, 0, 0);

	assert_memory_equal(cpu,
	    "\x00\x00\x10\x03\xa5\x06\x01\x00\xff\xfb\xeb\xbf", 12);
	cpu = entry(&image, 0, 3);
	assert_memory_equal(cpu, "\x00\x03\x10\x01", 4);
	assert_null(entry(&image, 0, 4));
	buf_fini(&image);
}

static void
buses_and_chips_are_listed(void **state)
{
	struct buf image = built(1);

	assert_memory_equal(entry(&image, 1, 0), "\x01\x00PCI   ", 8);
	assert_memory_equal(entry(&image, 1, 1), "\x01\x01ISA   ", 8);
	assert_null(entry(&image, 1, 2));
	assert_memory_equal(entry(&image, 2, 0), "\x02\x00\x11\x01\0\0\xc0\xfe",
	    8);
	assert_null(entry(&image, 2, 1));
	buf_fini(&image);
}

static void
interrupts_are_wired(void **state)
{
	static const char *const lines[] = {
		"\x03\x03\0\0\x01\x00\x00\x00", /* the 8259A pair, on pin 0 */
		"\x03\x00\0\0\x01\x00\x00\x02", /* the timer, on pin 2 */
		"\x03\x00\0\0\x01\x01\x00\x01",
		"\x03\x00\0\0\x01\x03\x00\x03",
	};
	struct buf image = built(1);

	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		assert_memory_equal(entry(&image, 3, i), lines[i], 8);
	assert_memory_equal(entry(&image, 3, 9),
	    "\x03\x00\x0f\0\x01\x09\x00\x09", 8);
	assert_memory_equal(entry(&image, 3, 15),
	    "\x03\x00\0\0\x01\x0f\x00\x0f", 8);
	assert_memory_equal(entry(&image, 3, 16),
	    "\x03\x00\0\0\x00\x08\x00\x10", 8);
	assert_memory_equal(entry(&image, 3, 17),
	    "\x03\x00\0\0\x00\x7f\x00\x1f", 8);
	assert_null(entry(&image, 3, 18));
	assert_memory_equal(entry(&image, 4, 0), "\x04\x03\0\0\x01\x00\xff\x00",
	    8);
	assert_memory_equal(entry(&image, 4, 1), "\x04\x01\0\0\x01\x00\xff\x01",
	    8);
	assert_null(entry(&image, 4, 2));
	buf_fini(&image);
}

static void
more_processors_than_ids_are_refused(void **state)
{
	struct mptable_params params = { 256, NULL, 0 };
	struct buf image = built(255);
	struct err err;

	assert_memory_equal(entry(&image, 0, 254), "\x00\xfe\x10\x01", 4);
	buf_fini(&image);
	assert_int_equal(mptable_build(&params, PLAT_MPTABLE_BASE, &image,
			     &err),
	    -ENOSPC);
	assert_non_null(strstr(err.msg, "255 processors, not 256"));
}

static void
table_goes_into_memory(void **state)
{
	const struct mptable_params params = { 4, routes, 3 };
	const struct mem_params mem_params = { 0 };
	struct mem *mem = mem_new(&mem_params);
	struct buf image = built(4);
	struct err err;

	assert_int_equal(mptable_install(mem, &params, &err), -EFAULT);
	assert_int_equal(mem_add_pc_ram(mem, 16 * MIB, PLAT_LOWMEM_LIMIT, &err),
	    0);
	assert_int_equal(mptable_install(mem, &params, &err), 0);
	assert_memory_equal(mem_ptr_read(mem, PLAT_MPTABLE_BASE, image.len),
	    image.data, image.len);
	buf_fini(&image);
	mem_free(mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pointer_leads_to_the_table),
		cmocka_unit_test(processors_are_listed),
		cmocka_unit_test(buses_and_chips_are_listed),
		cmocka_unit_test(interrupts_are_wired),
		cmocka_unit_test(more_processors_than_ids_are_refused),
		cmocka_unit_test(table_goes_into_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
