#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "test/bench.h"

#define IOAPIC 0xfec00000
#define PINS 32
#define MASKED 0x10000u
#define LEVEL 0x8000u
#define REMOTE_IRR 0x4000u
#define ID 0
#define VER 1
#define ARB 2
#define LOW(pin) (0x10 + 2 * (pin))
#define HIGH(pin) (LOW(pin) + 1)

static uint32_t
get(struct bench *b, unsigned reg)
{
	bench_write(b, IOAPIC, 4, reg);
	return bench_read(b, IOAPIC + 0x10, 4);
}

static void
set(struct bench *b, unsigned reg, uint32_t value)
{
	bench_write(b, IOAPIC, 4, reg);
	bench_write(b, IOAPIC + 0x10, 4, value);
}

static struct irq_line
line(struct bench *b, unsigned number)
{
	struct irq_line l;

	irq_line_init(&l, vm_irq_chip(b->vm), number);
	return l;
}

/* One message reached the processor, and it is this one. */
static void
expect_msi(struct bench *b, uint64_t addr, uint32_t data)
{
	assert_int_equal(b->msi_count, 1);
	assert_int_equal(b->msi[0].addr, addr);
	assert_int_equal(b->msi[0].data, data);
	b->msi_count = 0;
}

static void
reset_values(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_read(b, IOAPIC, 4), 0);
	assert_int_equal(get(b, ID), 0);
	assert_int_equal(get(b, VER), 0x1f0011);
	assert_int_equal(get(b, ARB), 0);
	for (unsigned pin = 0; pin < PINS; pin++) {
		assert_int_equal(get(b, LOW(pin)), MASKED);
		assert_int_equal(get(b, HIGH(pin)), 0);
		assert_false(b->eoi_watched[pin]);
	}
}

static void
reserved_bits(void **state)
{
	struct bench *b = *state;

	set(b, ID, UINT32_MAX);
	assert_int_equal(get(b, ID), 0x0f000000);
	assert_int_equal(get(b, ARB), 0x0f000000);
	set(b, VER, 0);
	assert_int_equal(get(b, VER), 0x1f0011);
	set(b, ARB, 0);
	assert_int_equal(get(b, ARB), 0x0f000000);
	for (unsigned pin = 0; pin < PINS; pin++) {
		set(b, LOW(pin), UINT32_MAX);
		set(b, HIGH(pin), UINT32_MAX);
		assert_int_equal(get(b, LOW(pin)), 0x1afff);
		assert_int_equal(get(b, HIGH(pin)), 0xff000000);
		set(b, LOW(pin), 0);
		assert_int_equal(get(b, LOW(pin)), 0);
		assert_int_equal(get(b, HIGH(pin)), 0xff000000);
	}
	for (unsigned reg = 3; reg < 256; reg++) {
		if (reg < LOW(0) || reg >= LOW(PINS)) {
			set(b, reg, UINT32_MAX);
			assert_int_equal(get(b, reg), 0);
		}
	}
	/* The select register is a byte. */
	bench_write(b, IOAPIC, 4, 0xffffff01);
	assert_int_equal(bench_read(b, IOAPIC, 4), 1);
}

static void
only_aligned_dwords(void **state)
{
	static const uint8_t sizes[] = { 1, 2, 8 };
	struct bench *b = *state;

	set(b, LOW(4), 0x51);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		assert_int_equal(bench_read(b, IOAPIC, sizes[i]), 0);
		assert_int_equal(bench_read(b, IOAPIC + 0x10, sizes[i]), 0);
		bench_write(b, IOAPIC + 0x10, sizes[i], 0x61);
	}
	bench_write(b, IOAPIC + 0x12, 4, UINT32_MAX);
	assert_int_equal(bench_read(b, IOAPIC + 0x0e, 4), 0);
	assert_int_equal(get(b, LOW(4)), 0x51);
	/* Other offsets hold nothing; 0x40 is no EOI in version 0x11. */
	for (unsigned off = 0x14; off < 0x1000; off += 4) {
		bench_write(b, IOAPIC + off, 4, UINT32_MAX);
		assert_int_equal(bench_read(b, IOAPIC + off, 4), 0);
	}
	assert_int_equal(get(b, LOW(4)), 0x51);
}

static void
edges(void **state)
{
	struct bench *b = *state;
	struct irq_line l = line(b, 4);

	irq_line_set(&l, true);
	irq_line_set(&l, false);
	assert_int_equal(b->msi_count, 0); /* masked: lost */
	set(b, HIGH(4), 0x03000000);
	set(b, LOW(4), 0x51);
	assert_int_equal(b->msi_count, 0);
	assert_false(b->eoi_watched[4]);
	irq_line_set(&l, true);
	expect_msi(b, 0xfee03000, 0x51);
	irq_line_set(&l, false);
	assert_int_equal(b->msi_count, 0);
	assert_int_equal(get(b, LOW(4)), 0x51);
	/* No EOI is waited for. */
	irq_line_pulse(&l);
	expect_msi(b, 0xfee03000, 0x51);
	/* Unmasking finds a line high, but no edge. */
	set(b, LOW(4), 0x51 | MASKED);
	irq_line_set(&l, true);
	set(b, LOW(4), 0x51);
	assert_int_equal(b->msi_count, 0);
}

static void
levels(void **state)
{
	struct bench *b = *state;
	struct irq_line one = line(b, 20), two = line(b, 20);

	set(b, LOW(20), 0x61 | LEVEL);
	assert_true(b->eoi_watched[20]);
	assert_int_equal(b->eoi_watch[20].data & 0xff, 0x61);
	irq_line_set(&one, true);
	expect_msi(b, 0xfee00000, 0xc061);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL | REMOTE_IRR);
	/* Not again before the EOI, whatever the line does. */
	irq_line_set(&two, true);
	irq_line_set(&one, false);
	irq_line_set(&two, false);
	irq_line_set(&two, true);
	assert_int_equal(b->msi_count, 0);
	bench_eoi(b, 0x60);
	assert_int_equal(b->msi_count, 0);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL | REMOTE_IRR);
	/* Still asserted: again. */
	bench_eoi(b, 0x61);
	expect_msi(b, 0xfee00000, 0xc061);
	irq_line_set(&two, false);
	bench_eoi(b, 0x61);
	assert_int_equal(b->msi_count, 0);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL);
	/* Remote IRR is read-only. */
	set(b, LOW(20), 0x61 | LEVEL | REMOTE_IRR);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL);
}

static void
a_masked_level_waits(void **state)
{
	struct bench *b = *state;
	struct irq_line l = line(b, 20);

	set(b, LOW(20), 0x61 | LEVEL | MASKED);
	irq_line_set(&l, true);
	assert_int_equal(b->msi_count, 0);
	set(b, LOW(20), 0x61 | LEVEL);
	expect_msi(b, 0xfee00000, 0xc061);
	/* Masked in service, as a threaded handler does it. */
	set(b, LOW(20), 0x61 | LEVEL | MASKED);
	assert_true(b->eoi_watched[20]);
	bench_eoi(b, 0x61);
	assert_int_equal(b->msi_count, 0);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL | MASKED);
	set(b, LOW(20), 0x61 | LEVEL);
	expect_msi(b, 0xfee00000, 0xc061);
	bench_eoi(b, 0x61);
	expect_msi(b, 0xfee00000, 0xc061);
	irq_line_set(&l, false);
	bench_eoi(b, 0x61);
	assert_int_equal(b->msi_count, 0);
}

/* How a guest ends an interrupt without an EOI register. */
static void
a_change_to_edge_clears_remote_irr(void **state)
{
	struct bench *b = *state;
	struct irq_line l = line(b, 20);

	set(b, LOW(20), 0x61 | LEVEL);
	irq_line_set(&l, true);
	expect_msi(b, 0xfee00000, 0xc061);
	set(b, LOW(20), 0x61 | MASKED);
	assert_false(b->eoi_watched[20]);
	assert_int_equal(get(b, LOW(20)), 0x61 | MASKED);
	set(b, LOW(20), 0x61 | LEVEL);
	expect_msi(b, 0xfee00000, 0xc061);
	assert_true(b->eoi_watched[20]);
}

static void
one_vector_for_two_pins(void **state)
{
	struct bench *b = *state;
	struct irq_line one = line(b, 20), two = line(b, 21);

	set(b, LOW(20), 0x61 | LEVEL);
	set(b, LOW(21), 0x61 | LEVEL);
	irq_line_set(&one, true);
	irq_line_set(&two, true);
	assert_int_equal(b->msi_count, 2);
	irq_line_set(&one, false);
	b->msi_count = 0;
	bench_eoi(b, 0x61);
	expect_msi(b, 0xfee00000, 0xc061);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL);
	assert_int_equal(get(b, LOW(21)), 0x61 | LEVEL | REMOTE_IRR);
}

/* Where nobody takes the message, a level waits and an edge is gone. */
static void
messages_that_nobody_takes(void **state)
{
	struct bench *b = *state;
	struct irq_line edge = line(b, 19), level = line(b, 20);

	set(b, LOW(19), 0x51);
	set(b, LOW(20), 0x61 | LEVEL);
	b->deaf = true;
	irq_line_set(&edge, true);
	irq_line_set(&level, true);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL);
	b->deaf = false;
	/* The vector was pending for another pin, say: its EOI comes. */
	bench_eoi(b, 0x61);
	expect_msi(b, 0xfee00000, 0xc061);
	assert_int_equal(get(b, LOW(20)), 0x61 | LEVEL | REMOTE_IRR);
	/* Or the guest mends the destination. */
	irq_line_set(&level, false);
	bench_eoi(b, 0x61);
	b->deaf = true;
	irq_line_set(&level, true);
	b->deaf = false;
	set(b, HIGH(20), 0x02000000);
	expect_msi(b, 0xfee02000, 0xc061);
}

static void
destinations_and_modes(void **state)
{
	struct bench *b = *state;
	struct irq_line l = line(b, 7);

	set(b, HIGH(7), 0xff000000);
	set(b, LOW(7), 0x800 | 0x41); /* logical, fixed */
	irq_line_pulse(&l);
	expect_msi(b, 0xfeeff004, 0x41);
	set(b, LOW(7), 0x900 | 0x41); /* logical, lowest priority */
	irq_line_pulse(&l);
	expect_msi(b, 0xfeeff004, 0x141);
	for (unsigned mode = 2; mode < 8; mode++) {
		/* Only fixed and lowest priority can be levels. */
		set(b, LOW(7), mode << 8 | LEVEL);
		assert_false(b->eoi_watched[7]);
		irq_line_pulse(&l);
		expect_msi(b, 0xfeeff000, mode << 8);
		assert_int_equal(get(b, LOW(7)), mode << 8 | LEVEL);
	}
	set(b, LOW(7), 0x100 | LEVEL | 0x41);
	irq_line_pulse(&l);
	expect_msi(b, 0xfeeff000, 0xc141);
	/* Polarity is kept and has no effect. */
	set(b, LOW(7), MASKED);
	set(b, LOW(7), 0x2041);
	assert_int_equal(get(b, LOW(7)), 0x2041);
	assert_int_equal(b->msi_count, 0);
	irq_line_set(&l, true);
	expect_msi(b, 0xfeeff000, 0x41);
}

static void
every_pin_has_its_line(void **state)
{
	struct bench *b = *state;

	for (unsigned pin = 0; pin < PINS; pin++)
		set(b, LOW(pin), 0x40 + pin);
	for (unsigned number = 0; number < IRQ_LINES; number++) {
		struct irq_line l = line(b, number);

		irq_line_pulse(&l);
		if (number == 2)
			assert_int_equal(b->msi_count, 0);
		else
			expect_msi(b, 0xfee00000,
			    number == 0 ? 0x42 : 0x40 + number);
	}
}

/* Pin 0 hears the 8259As: here one of them, with automatic EOI. */
static void
pin_0_is_intr(void **state)
{
	static const uint8_t icw[] = { 0x13, 0x20, 0x03 };
	struct bench *b = *state;
	struct irq_line l4 = line(b, 4), l5 = line(b, 5);

	for (unsigned i = 0; i < ARRAY_SIZE(icw); i++)
		bench_out8(b, i == 0 ? 0x20 : 0x21, icw[i]);
	set(b, LOW(0), 0x700);
	irq_line_pulse(&l4);
	expect_msi(b, 0xfee00000, 0x700);
	irq_line_pulse(&l5);
	assert_int_equal(b->msi_count, 0);
	/* An acknowledge lowers INTR; it rises again for the other. */
	assert_int_equal(bench_intack(b), 0x24);
	expect_msi(b, 0xfee00000, 0x700);
	assert_int_equal(bench_intack(b), 0x25);
	assert_int_equal(b->msi_count, 0);
}

static void
the_engine_is_told_changes_only(void **state)
{
	struct bench *b = *state;

	set(b, LOW(20), 0x61 | LEVEL);
	b->eoi_watched[20] = false; /* would be set by another call */
	set(b, LOW(20), 0x61 | LEVEL | MASKED);
	set(b, LOW(20), 0x61 | LEVEL);
	assert_false(b->eoi_watched[20]);
	set(b, HIGH(20), 0x01000000);
	assert_true(b->eoi_watched[20]);
	assert_int_equal(b->eoi_watch[20].addr, 0xfee01000);
}

static void
a_load_tells_the_engine(void **state)
{
	struct bench *b = *state, *fresh = bench_new("", NULL);
	struct irq_line l = line(b, 20);
	struct buf saved = { 0 };
	struct reader in;
	struct err err;

	set(b, LOW(20), 0x61 | LEVEL);
	set(b, LOW(21), 0x71 | LEVEL | MASKED);
	irq_line_set(&l, true);
	vm_save_devices(b->vm, &saved);
	in = reader_make(saved.data, saved.len);
	assert_int_equal(vm_load_devices(fresh->vm, &in, &err), 0);
	assert_true(fresh->eoi_watched[20]);
	assert_true(fresh->eoi_watched[21]);
	assert_false(fresh->eoi_watched[22]);
	/* It is in service there too: nothing is sent twice. */
	assert_int_equal(fresh->msi_count, 0);
	bench_eoi(fresh, 0x61);
	expect_msi(fresh, 0xfee00000, 0xc061);
	buf_fini(&saved);
	bench_free(fresh);
}

static void
a_reset_masks_all(void **state)
{
	struct bench *b = *state;
	struct irq_line l = line(b, 20);
	struct err err;

	set(b, ID, 0x05000000);
	set(b, LOW(20), 0x61 | LEVEL);
	irq_line_set(&l, true);
	b->msi_count = 0;
	assert_int_equal(vm_reset(b->vm, &err), 0);
	assert_int_equal(b->msi_count, 0);
	assert_false(b->eoi_watched[20]);
	reset_values(state);
}

/* Random registers, lines and EOIs; then the same in a twin. */
static void
random_round_trips(void **state)
{
	struct bench *b = *state;
	struct irq_line lines[IRQ_LINES];

	srandom(2);
	for (unsigned i = 0; i < IRQ_LINES; i++)
		lines[i] = line(b, i);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 50; j++) {
			unsigned n = random() % IRQ_LINES;

			switch (random() % 4) {
			case 0:
				set(b, random() % 0x54, random());
				break;
			case 1:
				/* Few vectors, so that EOIs find their pins. */
				set(b, LOW(n), 0x50 | (random() & 0x18003));
				break;
			case 2:
				irq_line_set(&lines[n], random() % 2);
				break;
			case 3:
				bench_eoi(b, 0x50 | random() % 4);
				break;
			}
		}
		bench_round_trip(b);
	}
}

static void
forged_state_is_refused(void **state)
{
	struct bench *b = *state;
	uint8_t fields[8 + PINS * 8] = { 0 };
	uint32_t pin3_low = 8 + 3 * 8;

	b->dev = device_find(b->vm, "ioapic");
	assert_int_equal(bench_load(b, fields, sizeof(fields)), 0);
	fields[0] = fields[1] = 1; /* select is a byte */
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[1] = 0;
	fields[4] = 1; /* id */
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[4] = 0;
	fields[pin3_low + 1] = 0x10; /* delivery status */
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[pin3_low + 1] = 0x40; /* remote IRR of an edge */
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[pin3_low + 1] = 0xc4; /* and of an NMI */
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[pin3_low + 1] = 0xc0;
	assert_int_equal(bench_load(b, fields, sizeof(fields)), 0);
	assert_int_equal(bench_load(b, fields, sizeof(fields) - 1), -EINVAL);
	assert_int_equal(get(b, LOW(3)), LEVEL | REMOTE_IRR);
	/* A pin asserted, unmasked and idle cannot be: it is sent. */
	assert_int_equal(b->msi_count, 0);
}

static void
hammered(void **state)
{
	const struct bench_range ranges[] = {
		{ BUS_MMIO, IOAPIC, 0x20 },
		{ BUS_MMIO, IOAPIC, 0x1000 },
		{ BUS_PORT, 0x20, 2 },
	};
	struct bench *b = *state;

	bench_add(b, "hpet", NULL);
	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 50000, 3);
}

BENCH_MAIN("", BENCH_TEST(reset_values), BENCH_TEST(reserved_bits),
    BENCH_TEST(only_aligned_dwords), BENCH_TEST(edges), BENCH_TEST(levels),
    BENCH_TEST(a_masked_level_waits),
    BENCH_TEST(a_change_to_edge_clears_remote_irr),
    BENCH_TEST(one_vector_for_two_pins), BENCH_TEST(messages_that_nobody_takes),
    BENCH_TEST(destinations_and_modes), BENCH_TEST(every_pin_has_its_line),
    BENCH_TEST(pin_0_is_intr), BENCH_TEST(the_engine_is_told_changes_only),
    BENCH_TEST(a_load_tells_the_engine), BENCH_TEST(a_reset_masks_all),
    BENCH_TEST(random_round_trips), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(hammered))
