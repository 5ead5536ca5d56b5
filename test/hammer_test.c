/*
 * A whole board under random accesses: every port and register of every device,
 * every width, all classes of values, for as long as BENCH_SOAK says.  What
 * must come of it: no sanitizer's report, no hang, no growth.
 */
#include <stdio.h>

#include "test/bench.h"
#include "vm/platform.h"

/* More than this in a soak is a leak, not a high-water mark. */
#define GROWTH_MAX_KIB (16 * 1024)

static const struct bench_range ranges[] = {
	{ BUS_PORT, 0x20, 2 },
	{ BUS_PORT, 0xa0, 2 },
	{ BUS_PORT, 0x40, 4 },
	{ BUS_PORT, 0x60, 8 }, /* 8042, port 0x61 */
	{ BUS_PORT, 0x70, 8 },
	{ BUS_PORT, 0x84, 1 },
	{ BUS_PORT, PLAT_PORT_SMI_CMD, 1 },
	{ BUS_PORT, 0x2e8, 8 },
	{ BUS_PORT, 0x2f8, 8 },
	{ BUS_PORT, 0x3e8, 8 },
	{ BUS_PORT, 0x3f8, 8 },
	{ BUS_PORT, PLAT_PORT_PM1A_EVT, 16 },
	{ BUS_PORT, 0x4d0, 2 },
	{ BUS_PORT, 0xcf8, 8 },
	{ BUS_PORT, 0, 0x10000 }, /* and anywhere */
	{ BUS_MMIO, PLAT_IOAPIC_BASE, 0x20 },
	{ BUS_MMIO, PLAT_IOAPIC_BASE, 0x1000 },
	{ BUS_MMIO, PLAT_HPET_BASE, 0x200 },
	{ BUS_MMIO, PLAT_HPET_BASE, 0x400 },
	{ BUS_MMIO, PLAT_ECAM_BASE, 0x1000 },
	{ BUS_MMIO, PLAT_ECAM_BASE + (5 << 20) + (2 << 15), 0x100 },
	{ BUS_MMIO, PLAT_ECAM_BASE + (5 << 20) + (4 << 15), 0x100 },
	{ BUS_MMIO, PLAT_ECAM_BASE + (31 << 15), 0x100 },
	{ BUS_MMIO, PLAT_ECAM_BASE, PLAT_ECAM_SIZE },
	{ BUS_MMIO, PLAT_PCI_MEM32_BASE, 0x40000000 },
	{ BUS_MMIO, PLAT_PCI_MEM32_BASE, 0x8000 },
	{ BUS_PORT, PLAT_PCI_IO_BASE, 0x20 },
	{ BUS_MMIO, PLAT_4GIB - 16, 32 },
};

static long
resident_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long size, resident;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
	(void)fclose(f);
	return resident * 4;
}

static int
board_setup(void **state)
{
	*state = bench_new_board();
	return 0;
}

static void
hammered(void **state)
{
	struct bench *b = *state;
	long before, after;

	/* Once, so that every buffer has had its largest size. */
	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 50000, 1);
	before = resident_kib();
	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 100000, 2);
	after = resident_kib();
	print_message("resident: %ld KiB before, %ld KiB after\n", before,
	    after);
	assert_true(after - before < GROWTH_MAX_KIB);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hammered, board_setup,
		    bench_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
