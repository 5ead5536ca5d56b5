/*
 * The UART behind a BAR: that it is the same as at an ISA port is uart_test.c's
 * affair; here is what PCI adds.
 */
#include <errno.h>
#include <string.h>

#include "pci/pci.h"
#include "test/bench.h"
#include "vm/platform.h"

#define CFG(off) (PLAT_ECAM_BASE + (6 << 15) + (off))
#define BASE 0x2000
#define IER (BASE + 1)
#define IIR (BASE + 2)
#define LCR (BASE + 3)
#define MCR (BASE + 4)
#define LSR (BASE + 5)
#define SCR (BASE + 7)
#define IRQ 5
#define GSI 16

static const char *const options[] = {
	"bench.node=pci.0.6.0",
	NULL,
};

static void
it_is_a_serial_port(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_read(b, CFG(0x00), 4), 0x2000131f);
	assert_int_equal(bench_read(b, CFG(0x08), 4), 0x07000200);
	assert_int_equal(bench_read(b, CFG(0x10), 4), BASE | 1);
	assert_int_equal(bench_read(b, CFG(0x3c), 2), 0x100 | IRQ);
	bench_write(b, CFG(0x10), 4, 0xffffffff);
	assert_int_equal(bench_read(b, CFG(0x10), 4), 0xfff9);
	bench_write(b, CFG(0x10), 4, 0x3f8);
	bench_out8(b, 0x3ff, 0x5a);
	assert_int_equal(bench_in8(b, 0x3ff), 0x5a);
	assert_int_equal(bench_in8(b, 0x3fd), 0x60);
	/* Wider accesses are for the low byte. */
	bench_out32(b, 0x3fc, 0x12345610);
	assert_int_equal(bench_in32(b, 0x3fc), 0x10);
}

static void
its_interrupt_is_inta(void **state)
{
	struct bench *b = *state;

	bench_out8(b, IER, 0x02);
	assert_true(bench_line(b, IRQ));
	assert_true(bench_line(b, GSI));
	assert_int_equal(bench_read(b, CFG(6), 2) & 8, 8);
	bench_round_trip(b);
	assert_int_equal(bench_in8(b, IIR), 0x02);
	assert_false(bench_line(b, IRQ));
	assert_false(bench_line(b, GSI));
	/* A reset of the machine lets go of it. */
	bench_out8(b, IER, 0);
	bench_out8(b, IER, 0x02);
	assert_true(bench_line(b, GSI));
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_false(bench_line(b, GSI));
	assert_int_equal(bench_in8(b, IER), 0);
}

static void
moving_it_loses_nothing(void **state)
{
	struct bench *b = *state;

	bench_out8(b, SCR, 0x77);
	bench_out8(b, MCR, 0x10); /* loops back */
	bench_out8(b, BASE, 'a');
	bench_write(b, CFG(0x04), 2, 0);
	assert_int_equal(bench_in8(b, SCR), 0xff);
	bench_write(b, CFG(0x10), 4, 0x4000);
	bench_write(b, CFG(0x04), 2, 1);
	assert_int_equal(bench_in8(b, SCR), 0xff);
	assert_int_equal(bench_in8(b, 0x4007), 0x77);
	assert_int_equal(bench_in8(b, 0x4005), 0x61);
	assert_int_equal(bench_in8(b, 0x4000), 'a');
	bench_round_trip(b);
}

static void
wrong_options_are_named(void **state)
{
	static const struct {
		const char *key, *value, *message;
	} rows[] = {
		{ "pci.0.7.0.speed", "9600", "pci.0.7.0.speed: " },
		{ "pci.0.7.0.path", "nowhere", "uart@0:7:0: " },
		{ "pci.0.7.0.pcireg.device", "x", "pci.0.7.0.pcireg.device" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bench *b = bench_new("", NULL);
		struct err err;

		assert_int_equal(config_set(b->config, "pci.0.7.0.device",
				     "uart", NULL),
		    0);
		assert_int_equal(config_set(b->config, rows[i].key,
				     rows[i].value, NULL),
		    0);
		assert_true(pci_create_devices(b->vm, &err) < 0);
		assert_non_null(strstr(err.msg, rows[i].message));
		bench_free(b);
	}
}

static void
forged_state_is_refused(void **state)
{
	struct bench *b = *state;
	struct buf saved = { 0 };
	struct reader in;
	uint8_t *fields;
	char name[64];
	size_t len;

	bench_save(b, &saved);
	in = reader_make(saved.data, saved.len);
	reader_str(&in, name, sizeof(name));
	reader_str(&in, name, sizeof(name));
	(void)reader_take(&in, 6);
	fields = saved.data + in.pos;
	len = saved.len - in.pos;
	assert_int_equal(bench_load(b, fields, len), 0);
	fields[PCI_CFG_SIZE] = 0x10; /* IER has no such bit */
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[PCI_CFG_SIZE] = 0;
	fields[PCI_CFG_INT_PIN] = 2;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	buf_fini(&saved);
}

static void
hammered_in_every_width(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_PORT, BASE, 8 },
		{ BUS_MMIO, CFG(0), 0x40 },
	};
	struct bench *b = *state;

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 20000, 0x8250);
	assert_int_equal(bench_read(b, CFG(0), 4), 0x2000131f);
}

BENCH_MAIN_OPTIONS("uart", options, BENCH_TEST(it_is_a_serial_port),
    BENCH_TEST(its_interrupt_is_inta), BENCH_TEST(moving_it_loses_nothing),
    BENCH_TEST(wrong_options_are_named), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(hammered_in_every_width))
