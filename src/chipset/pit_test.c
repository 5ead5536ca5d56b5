#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "test/bench.h"
#include "vm/platform.h"

#define COUNTER(n) (0x40 + (n))
#define CONTROL 0x43
#define PORT_B 0x61
#define CW(n, rw, mode) ((n) << 6 | (rw) << 4 | (mode) << 1)
#define LSB 1
#define MSB 2
#define BOTH 3
#define STATUS_OF(n) (0xe0 | 2 << (n)) /* read-back, without the count */
#define OUT 0x80
#define NULL_COUNT 0x40

static uint64_t
tick(struct bench *b)
{
	return clock_ns_to_ticks(clock_now(vm_clock(b->vm)), PLAT_PIT_HZ);
}

/* To the first nanosecond of the tick that is n ahead. */
static void
advance(struct bench *b, uint64_t n)
{
	uint64_t to = clock_ticks_to_ns(tick(b) + n, PLAT_PIT_HZ) + 1;

	bench_advance(b, to - clock_now(vm_clock(b->vm)));
}

static void
program(struct bench *b, unsigned n, unsigned mode, uint16_t count)
{
	bench_out8(b, CONTROL, CW(n, BOTH, mode));
	bench_out8(b, COUNTER(n), count);
	bench_out8(b, COUNTER(n), count >> 8);
}

static void
rewrite(struct bench *b, unsigned n, uint16_t count)
{
	bench_out8(b, COUNTER(n), count);
	bench_out8(b, COUNTER(n), count >> 8);
}

static uint16_t
read_both(struct bench *b, unsigned n)
{
	uint16_t lsb = bench_in8(b, COUNTER(n));

	return lsb | bench_in8(b, COUNTER(n)) << 8;
}

static uint8_t
get_status(struct bench *b, unsigned n)
{
	bench_out8(b, CONTROL, STATUS_OF(n));
	return bench_in8(b, COUNTER(n));
}

static bool
out2(struct bench *b)
{
	return bench_in8(b, PORT_B) & 0x20;
}

/* Tick by tick: OUT of counter 2 as a string of 0s and 1s. */
static void
expect_out2(struct bench *b, const char *levels)
{
	for (unsigned i = 0; levels[i] != '\0'; i++) {
		if (out2(b) != (levels[i] == '1'))
			print_error("tick %u of %s\n", i, levels);
		assert_int_equal(out2(b), levels[i] == '1');
		advance(b, 1);
	}
}

static void
expect_counts2(struct bench *b, const uint16_t *counts, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(read_both(b, 2), counts[i]);
		advance(b, 1);
	}
}

static void
after_power_on(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_in8(b, CONTROL), 0xff);
	assert_int_equal(bench_in8(b, PORT_B), 0x20);
	/* They run at 100 Hz, without interrupts. */
	advance(b, 31);
	for (unsigned n = 0; n < 2; n++) {
		assert_int_equal(get_status(b, n), OUT | BOTH << 4 | 2 << 1);
		assert_int_equal(read_both(b, n), PLAT_PIT_HZ / 100 - 31);
	}
	assert_int_equal(read_both(b, 2), PLAT_PIT_HZ / 100); /* gate closed */
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 0), 0);
}

/* Interrupts in whole seconds of machine time, to the exact count. */
static void
frequencies(void **state)
{
	static const uint32_t counts[] = { 65536, 11932, 1193, 119, 60 };
	struct bench *b = *state;

	for (unsigned mode = 2; mode <= 3; mode++) {
		for (unsigned i = 0; i < ARRAY_SIZE(counts); i++) {
			uint64_t start = tick(b) + 1, end;

			program(b, 0, mode, counts[i]);
			(void)bench_irqs(b, 0);
			bench_advance(b, 5 * NS_PER_SEC);
			end = tick(b);
			assert_int_equal(bench_irqs(b, 0),
			    (end - start) / counts[i]);
		}
	}
}

/* A new count amid a period: when the interrupts change over. */
static void
a_change_of_frequency(void **state)
{
	struct bench *b = *state;

	program(b, 0, 2, 1000);
	advance(b, 501);
	rewrite(b, 0, 400);
	advance(b, 499);
	assert_int_equal(bench_irqs(b, 0), 0);
	advance(b, 1);
	assert_int_equal(bench_irqs(b, 0), 1);
	advance(b, 4000);
	assert_int_equal(bench_irqs(b, 0), 10);
	/* Mode 3: the high half ends, then comes the new low half. */
	program(b, 0, 3, 1000);
	advance(b, 301);
	rewrite(b, 0, 600);
	advance(b, 200 + 299);
	assert_int_equal(bench_irqs(b, 0), 0);
	advance(b, 1);
	assert_int_equal(bench_irqs(b, 0), 1);
	/* The low half ends: a rise, then a whole new period. */
	advance(b, 400);
	rewrite(b, 0, 100);
	advance(b, 199);
	assert_int_equal(bench_irqs(b, 0), 0);
	advance(b, 1);
	assert_int_equal(bench_irqs(b, 0), 1);
	advance(b, 100);
	assert_int_equal(bench_irqs(b, 0), 1);
}

/* However the time passes, and whatever is read meanwhile. */
static void
no_drift(void **state)
{
	struct bench *b = *state;
	uint64_t start = tick(b) + 1;

	program(b, 0, 2, 1000);
	srandom(1);
	while (tick(b) < 10 * PLAT_PIT_HZ) {
		bench_advance(b, random() % 700000);
		(void)read_both(b, 0);
	}
	assert_int_equal(bench_irqs(b, 0), (tick(b) - start) / 1000);
	assert_int_equal(read_both(b, 0), 1000 - (tick(b) - start) % 1000);
}

static void
short_periods_are_bounded(void **state)
{
	struct bench *b = *state;

	for (unsigned count = 1; count < 60; count++) {
		uint32_t taken = (60 + count - 1) / count * count;
		unsigned irqs;

		program(b, 0, 2, count);
		(void)bench_irqs(b, 0);
		bench_advance(b, NS_PER_SEC / 10);
		irqs = bench_irqs(b, 0);
		assert_in_range(irqs, PLAT_PIT_HZ / 10 / taken - 2,
		    PLAT_PIT_HZ / 10 / taken + 1);
		/* Reading and latching do not put it off. */
		for (unsigned i = 0; i < 1000; i++) {
			bench_out8(b, CONTROL, CW(0, 0, 0));
			(void)read_both(b, 0);
			bench_advance(b, 10000);
		}
		assert_in_range(bench_irqs(b, 0), PLAT_PIT_HZ / 100 / taken - 2,
		    PLAT_PIT_HZ / 100 / taken + 1);
	}
}

/* Once for each count; the OUT of a new mode can rise at once. */
static void
one_shots(void **state)
{
	struct bench *b = *state;

	program(b, 0, 0, 100);
	advance(b, 100);
	assert_int_equal(bench_irqs(b, 0), 0);
	advance(b, 1);
	assert_int_equal(bench_irqs(b, 0), 1);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 0), 0);
	/* A count alone starts it again, also amid the count. */
	rewrite(b, 0, 1000);
	advance(b, 500);
	rewrite(b, 0, 1000);
	advance(b, 1000);
	assert_int_equal(bench_irqs(b, 0), 0);
	advance(b, 1);
	assert_int_equal(bench_irqs(b, 0), 1);
	/* Mode 0 lowers OUT, mode 2 lifts it: an edge. */
	bench_out8(b, CONTROL, CW(0, BOTH, 0));
	assert_int_equal(bench_irqs(b, 0), 0);
	bench_out8(b, CONTROL, CW(0, BOTH, 2));
	assert_int_equal(bench_irqs(b, 0), 1);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 0), 0);
	/* Mode 4: the strobe is one tick low, then it rises. */
	program(b, 0, 4, 100);
	advance(b, 101);
	assert_int_equal(get_status(b, 0) & OUT, 0);
	assert_int_equal(bench_irqs(b, 0), 0);
	advance(b, 1);
	assert_int_equal(bench_irqs(b, 0), 1);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 0), 0);
	/* Modes 1 and 5 wait for a gate that never moves. */
	program(b, 0, 1, 100);
	bench_advance(b, NS_PER_SEC);
	program(b, 0, 5, 100);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 0), 0);
}

static void
mode_0(void **state)
{
	static const uint16_t counts[] = { 4, 4, 3, 2, 1, 0, 0xffff, 0xfffe };
	struct bench *b = *state;

	bench_out8(b, PORT_B, 1);
	program(b, 2, 0, 4);
	expect_counts2(b, counts, ARRAY_SIZE(counts));
	program(b, 2, 0, 4);
	expect_out2(b, "0000011");
	/* The gate stops it; the count goes on where it was. */
	program(b, 2, 0, 4);
	expect_out2(b, "000");
	bench_out8(b, PORT_B, 0);
	expect_out2(b, "00000");
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "0011");
	/* The first of two bytes stops it, and OUT falls. */
	bench_out8(b, COUNTER(2), 3);
	expect_out2(b, "00000000");
	bench_out8(b, COUNTER(2), 0);
	expect_out2(b, "00001");
	/* A count written with the gate closed waits. */
	bench_out8(b, PORT_B, 0);
	rewrite(b, 2, 2);
	expect_out2(b, "00000");
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "001");
}

static void
mode_1(void **state)
{
	struct bench *b = *state;

	program(b, 2, 1, 3);
	expect_out2(b, "1111");
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "100011");
	/* Triggered again while it runs. */
	bench_out8(b, PORT_B, 0);
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "10");
	bench_out8(b, PORT_B, 0);
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "000011");
	/* A new count is for the next trigger. */
	bench_out8(b, PORT_B, 0);
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "1");
	rewrite(b, 2, 1);
	expect_out2(b, "00011");
	bench_out8(b, PORT_B, 0);
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "1011");
	/* Without a count since the control word a trigger does nothing. */
	bench_out8(b, CONTROL, CW(2, BOTH, 1));
	bench_out8(b, PORT_B, 0);
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "1111");
}

static void
mode_2(void **state)
{
	static const uint16_t counts[] = { 3, 3, 2, 1, 3, 2, 1, 3 };
	struct bench *b = *state;

	bench_out8(b, PORT_B, 1);
	program(b, 2, 2, 3);
	expect_counts2(b, counts, ARRAY_SIZE(counts));
	program(b, 2, 2, 3);
	expect_out2(b, "1110110110");
	/* A new count takes effect after the period. */
	rewrite(b, 2, 2);
	assert_int_equal(get_status(b, 2) & NULL_COUNT, NULL_COUNT);
	expect_out2(b, "1101010");
	assert_int_equal(get_status(b, 2) & NULL_COUNT, 0);
	/* The gate closed lifts OUT; opened, the count begins anew. */
	program(b, 2, 2, 4);
	expect_out2(b, "1111");
	bench_out8(b, PORT_B, 0);
	expect_out2(b, "1111");
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "11110111");
}

static void
mode_3(void **state)
{
	static const uint16_t even[] = { 4, 4, 2, 4, 2, 4 };
	static const uint16_t odd[] = { 4, 4, 2, 0, 4, 2, 4, 2, 0 };
	struct bench *b = *state;

	bench_out8(b, PORT_B, 1);
	program(b, 2, 3, 4);
	expect_counts2(b, even, ARRAY_SIZE(even));
	program(b, 2, 3, 5);
	expect_counts2(b, odd, ARRAY_SIZE(odd));
	program(b, 2, 3, 4);
	expect_out2(b, "11100110011");
	program(b, 2, 3, 5);
	expect_out2(b, "1111001110011");
	/* A new count takes effect after the half period: high, */
	program(b, 2, 3, 6);
	expect_out2(b, "111");
	rewrite(b, 2, 2);
	expect_out2(b, "1010101");
	/* and low. */
	program(b, 2, 3, 6);
	expect_out2(b, "11110");
	rewrite(b, 2, 2);
	expect_out2(b, "00101010");
	/* The gate closed lifts OUT. */
	program(b, 2, 3, 4);
	expect_out2(b, "1110");
	bench_out8(b, PORT_B, 0);
	expect_out2(b, "1111");
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "1110011");
	/* Modes 6 and 7 are 2 and 3. */
	program(b, 2, 7, 4);
	expect_out2(b, "11100110011");
	assert_int_equal(get_status(b, 2) >> 1 & 7, 3);
	program(b, 2, 6, 3);
	expect_out2(b, "1110110110");
	assert_int_equal(get_status(b, 2) >> 1 & 7, 2);
}

static void
modes_4_and_5(void **state)
{
	struct bench *b = *state;

	bench_out8(b, PORT_B, 1);
	program(b, 2, 4, 3);
	expect_out2(b, "11110111");
	rewrite(b, 2, 2);
	expect_out2(b, "1110111");
	rewrite(b, 2, 2);
	expect_out2(b, "11");
	bench_out8(b, PORT_B, 0);
	expect_out2(b, "1111");
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "1011");
	bench_out8(b, PORT_B, 0);
	program(b, 2, 5, 3);
	expect_out2(b, "1111");
	bench_out8(b, PORT_B, 1);
	expect_out2(b, "111101111");
}

static void
bcd(void **state)
{
	struct bench *b = *state;

	bench_out8(b, PORT_B, 1);
	bench_out8(b, CONTROL, CW(2, BOTH, 0) | 1);
	rewrite(b, 2, 0x1002);
	advance(b, 4);
	assert_int_equal(read_both(b, 2), 0x0999);
	advance(b, 1000);
	assert_int_equal(read_both(b, 2), 0x9999);
	bench_out8(b, CONTROL, CW(2, BOTH, 2) | 1);
	rewrite(b, 2, 0); /* ten thousand */
	advance(b, 2);
	assert_int_equal(read_both(b, 2), 0x9999);
	advance(b, 10000);
	assert_int_equal(read_both(b, 2), 0x9999);
	assert_int_equal(get_status(b, 2), OUT | BOTH << 4 | 2 << 1 | 1);
}

static void
bytes(void **state)
{
	struct bench *b = *state;

	bench_out8(b, PORT_B, 1);
	bench_out8(b, CONTROL, CW(2, LSB, 2));
	assert_int_equal(get_status(b, 2),
	    OUT | NULL_COUNT | LSB << 4 | 2 << 1);
	bench_out8(b, COUNTER(2), 0x34);
	assert_int_equal(get_status(b, 2),
	    OUT | NULL_COUNT | LSB << 4 | 2 << 1);
	advance(b, 2);
	assert_int_equal(get_status(b, 2), OUT | LSB << 4 | 2 << 1);
	assert_int_equal(bench_in8(b, COUNTER(2)), 0x33);
	assert_int_equal(bench_in8(b, COUNTER(2)), 0x33);
	bench_out8(b, CONTROL, CW(2, MSB, 2));
	bench_out8(b, COUNTER(2), 0x12);
	advance(b, 2);
	assert_int_equal(bench_in8(b, COUNTER(2)), 0x11);
	assert_int_equal(bench_in8(b, COUNTER(2)), 0x11);
	/* 16 bits at a time reach the next port, too. */
	program(b, 1, 2, 0x5678);
	program(b, 2, 2, 0x1234);
	advance(b, 1);
	assert_int_equal(bench_in16(b, COUNTER(1)), 0x3478);
	assert_int_equal(bench_in16(b, COUNTER(1)), 0x1256);
}

static void
latches(void **state)
{
	struct bench *b = *state;

	program(b, 0, 2, 0x1234);
	advance(b, 2);
	bench_out8(b, CONTROL, CW(0, 0, 0));
	advance(b, 50);
	bench_out8(b, CONTROL, CW(0, 0, 0)); /* the first one stays */
	assert_int_equal(read_both(b, 0), 0x1233);
	assert_int_equal(read_both(b, 0), 0x1201);
	/* Between the bytes of an unlatched count time goes on. */
	advance(b, 1);
	assert_int_equal(bench_in8(b, COUNTER(0)), 0x00);
	advance(b, 1);
	assert_int_equal(bench_in8(b, COUNTER(0)), 0x11);
	/* A new control word forgets the latch. */
	bench_out8(b, CONTROL, CW(0, 0, 0));
	program(b, 0, 2, 0x4321);
	advance(b, 1);
	assert_int_equal(read_both(b, 0), 0x4321);
	/* Read-back: counts of all three, then both of one. */
	program(b, 1, 2, 0x1000);
	bench_out8(b, PORT_B, 1);
	program(b, 2, 2, 0x2000);
	advance(b, 1);
	bench_out8(b, CONTROL, 0xde);
	advance(b, 7);
	assert_int_equal(read_both(b, 0), 0x4320);
	assert_int_equal(read_both(b, 1), 0x1000);
	assert_int_equal(read_both(b, 2), 0x2000);
	bench_out8(b, CONTROL, 0xc4); /* counter 1: status and count */
	advance(b, 5);
	assert_int_equal(bench_in8(b, COUNTER(1)), OUT | BOTH << 4 | 2 << 1);
	assert_int_equal(read_both(b, 1), 0x1000 - 7);
	assert_int_equal(read_both(b, 1), 0x1000 - 12);
	/* A status that was not read stays, too. */
	bench_out8(b, CONTROL, STATUS_OF(1));
	bench_out8(b, CONTROL, CW(1, LSB, 0));
	bench_out8(b, CONTROL, STATUS_OF(1));
	assert_int_equal(bench_in8(b, COUNTER(1)), NULL_COUNT | LSB << 4);
}

static void
port_b(void **state)
{
	struct bench *b = *state;
	unsigned toggles = 0;
	uint8_t last;

	bench_out8(b, PORT_B, 0xff);
	assert_int_equal(bench_in8(b, PORT_B) & ~0x30, 0x03);
	bench_out8(b, PORT_B, 0x02);
	assert_int_equal(bench_in8(b, PORT_B) & ~0x30, 0x02);
	bench_out8(b, PORT_B, 0x00);
	assert_int_equal(bench_in8(b, PORT_B) & ~0x30, 0x00);
	/* The refresh toggle, every 15 us. */
	last = bench_in8(b, PORT_B) & 0x10;
	for (unsigned i = 0; i < 10000; i++) {
		bench_advance(b, 1000);
		toggles += (bench_in8(b, PORT_B) & 0x10) != last;
		last = bench_in8(b, PORT_B) & 0x10;
	}
	assert_in_range(toggles, 661, 664);
}

/* As Linux does it: gate, mode 0, wait for OUT2. */
static void
calibration(void **state)
{
	struct bench *b = *state;
	uint32_t latch = PLAT_PIT_HZ / 100; /* 10 ms */
	uint64_t start, ns;

	bench_out8(b, PORT_B, (bench_in8(b, PORT_B) & ~2) | 1);
	program(b, 2, 0, latch);
	start = clock_now(vm_clock(b->vm));
	while (!out2(b))
		bench_advance(b, 500);
	ns = clock_now(vm_clock(b->vm)) - start;
	assert_in_range(ns, 10000000 - 2000, 10000000 + 2000);
	/* And by watching the high byte go down. */
	program(b, 2, 0, 0xffff);
	advance(b, 1);
	(void)bench_in8(b, COUNTER(2));
	assert_int_equal(bench_in8(b, COUNTER(2)), 0xff);
	for (unsigned msb = 0xff; msb > 0xf0; msb--) {
		(void)bench_in8(b, COUNTER(2));
		assert_int_equal(bench_in8(b, COUNTER(2)), msb);
		advance(b, 256);
	}
}

static void
a_reset_stops_it(void **state)
{
	struct bench *b = *state;
	struct err err;

	program(b, 0, 2, 1000);
	bench_out8(b, PORT_B, 3);
	bench_advance(b, NS_PER_SEC);
	assert_true(bench_irqs(b, 0) > 0);
	assert_int_equal(vm_reset(b->vm, &err), 0);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 0), 0);
	assert_int_equal(bench_in8(b, PORT_B) & 3, 0);
}

static void
random_round_trips(void **state)
{
	struct bench *b = *state;

	srandom(4);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 20; j++) {
			switch (random() % 4) {
			case 0:
				bench_out8(b, CONTROL, random());
				break;
			case 1:
				bench_out8(b, COUNTER(random() % 3), random());
				break;
			case 2:
				(void)bench_in8(b, COUNTER(random() % 3));
				break;
			case 3:
				bench_out8(b, PORT_B, random());
				break;
			}
			bench_advance(b, random() % 3000);
		}
		bench_round_trip(b);
	}
}

/* In the twin of a running timer the same interrupts come at the same time. */
static void
a_load_keeps_the_pace(void **state)
{
	struct bench *b = *state, *fresh = bench_new("pit", NULL);
	struct buf saved = { 0 };
	struct reader in;
	struct err err;

	program(b, 0, 2, 11932);
	bench_advance(b, NS_PER_SEC + 12345);
	vm_save_devices(b->vm, &saved);
	in = reader_make(saved.data, saved.len);
	assert_int_equal(vm_load_devices(fresh->vm, &in, &err), 0);
	(void)bench_irqs(b, 0);
	assert_int_equal(bench_irqs(fresh, 0), 0);
	for (unsigned i = 0; i < 1000; i++) {
		bench_advance(b, 777777);
		bench_advance(fresh, 777777);
		assert_int_equal(bench_irqs(b, 0), bench_irqs(fresh, 0));
	}
	buf_fini(&saved);
	bench_free(fresh);
}

static void
forged_state_is_refused(void **state)
{
	enum { MODE, RW, BCD, GATE, RUN, COUNT, COUNTER_SIZE = 46 };
	struct bench *b = *state;
	struct buf saved = { 0 };
	uint8_t *fields;
	size_t len = 3 * COUNTER_SIZE + 9;

	bench_save(b, &saved);
	fields = saved.data + saved.len - len;
	assert_int_equal(bench_load(b, fields, len), 0);
	assert_int_equal(bench_load(b, fields, len - 1), -EINVAL);
	fields[MODE] = 6;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[MODE] = 2;
	fields[RW] = 0;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[RW] = 3;
	fields[GATE] = 0;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[GATE] = 1;
	fields[RUN] = 3;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[RUN] = 1;
	memset(&fields[COUNT], 0, 4);
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[COUNT + 3] = 1;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[COUNT + 3] = 0;
	fields[COUNT] = 1;
	assert_int_equal(bench_load(b, fields, len), 0);
	/* Any start and any next interrupt: no harm. */
	for (unsigned i = 0; i < 2000; i++) {
		srandom(i);
		for (unsigned j = 0; j < 8; j++) {
			fields[COUNT + 4 + j] = i % 3 == 0 ? 0xff : random();
			fields[len - 9 + j] = i % 5 == 0 ? 0 : random();
		}
		fields[MODE] = random() % 6;
		assert_int_equal(bench_load(b, fields, len), 0);
		(void)read_both(b, 0);
		(void)get_status(b, 0);
		rewrite(b, 0, random());
		bench_advance(b, 1000000);
		assert_in_range(bench_irqs(b, 0), 0, 25);
	}
	buf_fini(&saved);
}

static void
hammered(void **state)
{
	const struct bench_range ranges[] = {
		{ BUS_PORT, 0x40, 4 },
		{ BUS_PORT, 0x61, 1 },
	};

	bench_hammer(*state, ranges, ARRAY_SIZE(ranges), 50000, 5);
}

BENCH_MAIN("pit", BENCH_TEST(after_power_on), BENCH_TEST(frequencies),
    BENCH_TEST(a_change_of_frequency), BENCH_TEST(no_drift),
    BENCH_TEST(short_periods_are_bounded), BENCH_TEST(one_shots),
    BENCH_TEST(mode_0), BENCH_TEST(mode_1), BENCH_TEST(mode_2),
    BENCH_TEST(mode_3), BENCH_TEST(modes_4_and_5), BENCH_TEST(bcd),
    BENCH_TEST(bytes), BENCH_TEST(latches), BENCH_TEST(port_b),
    BENCH_TEST(calibration), BENCH_TEST(a_reset_stops_it),
    BENCH_TEST(random_round_trips), BENCH_TEST(a_load_keeps_the_pace),
    BENCH_TEST(forged_state_is_refused), BENCH_TEST(hammered))
