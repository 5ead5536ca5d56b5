/*
 * The PCI-ISA bridge: identification, PIRQ registers, what hangs below it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pci/pci.h"
#include "test/bench.h"
#include "vm/bus.h"
#include "vm/platform.h"

static const char *const options[] = {
	"bench.node=pci.0.31.0",
	"lpc.pcireg.revid=0x17",
	"lpc.pcireg.subdevice=0x1100",
	"lpc.pcireg.subvendor=0x1af4",
	NULL,
};

#define LPC(off) (PLAT_ECAM_BASE + (31 << 15) + (off))

static void
it_is_a_piix3(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_read(b, LPC(0x00), 4), 0x70008086);
	assert_int_equal(bench_read(b, LPC(0x04), 4), 0);
	assert_int_equal(bench_read(b, LPC(0x08), 4), 0x06010017);
	assert_int_equal(bench_read(b, LPC(0x2c), 4), 0x11001af4);
	assert_int_equal(bench_read(b, LPC(0x34), 4), 0);
}

static void
pirq_registers_keep_disable_and_irq(void **state)
{
	struct bench *b = *state;

	for (unsigned off = 0x60; off < 0x70; off++) {
		bool pirq = off < 0x64 || (off >= 0x68 && off < 0x6c);

		assert_int_equal(bench_read(b, LPC(off), 1), pirq ? 0x80 : 0);
		bench_write(b, LPC(off), 1, 0xff);
		assert_int_equal(bench_read(b, LPC(off), 1), pirq ? 0x8f : 0);
		bench_write(b, LPC(off), 1, 0x7a);
		assert_int_equal(bench_read(b, LPC(off), 1), pirq ? 0x0a : 0);
	}
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_int_equal(bench_read(b, LPC(0x60), 4), 0x80808080);
	assert_int_equal(bench_read(b, LPC(0x68), 4), 0x80808080);
}

static void
uarts_hang_below_it(void **state)
{
	static const uint16_t scratch[] = { 0x3ff, 0x2ff, 0x3ef, 0x2ef };
	struct bench *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(scratch); i++) {
		bench_out8(b, scratch[i], (uint8_t)(0x50 + i));
		assert_int_equal(bench_in8(b, scratch[i]), 0x50 + i);
	}
	assert_non_null(device_find(b->vm, "com1"));
	assert_non_null(device_find(b->vm, "com4"));
}

static void
there_is_one_and_on_bus_0(void **state)
{
	struct bench *b = bench_new("", NULL);
	struct config *node;
	struct err err;

	assert_int_equal(config_make(b->config, "pci.1.0.0", &node, NULL), 0);
	assert_int_equal(device_new(b->vm, "lpc", "lpc@1:0:0", node, NULL,
			     &err),
	    -EINVAL);
	assert_string_equal(err.msg,
	    "lpc@1:0:0: the LPC bridge must be on bus 0");
	bench_free(b);

	b = *state;
	assert_int_equal(config_make(b->config, "pci.0.1.0", &node, NULL), 0);
	assert_int_equal(device_new(b->vm, "lpc", "lpc@0:1:0", node, NULL,
			     &err),
	    -EEXIST);
	assert_string_equal(err.msg,
	    "lpc@0:1:0: there is an LPC bridge already");
}

static void
mid_activity_round_trips(void **state)
{
	struct bench *b = *state;

	srandom(2);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 20; j++)
			bench_write(b, LPC((unsigned)random() & 0xfc), 4,
			    (uint64_t)random());
		bench_round_trip(b);
	}
}

static void
forged_state_is_refused(void **state)
{
	struct bench *b = *state;
	const struct pci_func *func =
	    pci_find(b->vm, (struct pci_addr) { 0, 31, 0 });
	uint8_t bytes[PCI_CFG_SIZE];

	memcpy(bytes, func->cfg, sizeof(bytes));
	bytes[0x3c] = 0x0b;
	assert_int_equal(bench_load(b, bytes, sizeof(bytes)), 0);
	assert_int_equal(bench_read(b, LPC(0x3c), 1), 0x0b);
	/* The PIRQ registers are not among them. */
	bytes[0x61] = 0x01;
	assert_int_equal(bench_load(b, bytes, sizeof(bytes)), -EINVAL);
	bytes[0x61] = 0;
	bytes[0x0b] = 0x02;
	assert_int_equal(bench_load(b, bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(bench_read(b, LPC(0x08), 4), 0x06010017);
}

static void
hammered_in_every_width(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_MMIO, LPC(0), 0x110 },
	};
	struct bench *b = *state;

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 20000, 0x17c);
	assert_int_equal(bench_read(b, LPC(0x00), 4), 0x70008086);
}

BENCH_MAIN_OPTIONS("lpc", options, BENCH_TEST(it_is_a_piix3),
    BENCH_TEST(pirq_registers_keep_disable_and_irq),
    BENCH_TEST(uarts_hang_below_it), BENCH_TEST(there_is_one_and_on_bus_0),
    BENCH_TEST(mid_activity_round_trips), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(hammered_in_every_width))
