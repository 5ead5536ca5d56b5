#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "test/bench.h"
#include "vm/platform.h"

#define HPET 0xfed00000
#define CAP 0x000
#define CONFIG 0x010
#define STATUS 0x020
#define COUNTER 0x0f0
#define TN_CONFIG(n) (0x100 + 0x20 * (n))
#define TN_COMPARATOR(n) (0x108 + 0x20 * (n))
#define TN_FSB(n) (0x110 + 0x20 * (n))
#define TIMERS 8

#define LEVEL 0x0002
#define ENABLE 0x0004
#define PERIODIC 0x0008
#define VAL_SET 0x0040
#define FSB 0x4000
#define PIN(n) ((n) << 9)
#define CAPS 0x8010

#define HZ PLAT_HPET_HZ

static uint32_t
get(struct bench *b, unsigned off)
{
	return bench_read(b, HPET + off, 4);
}

static void
set(struct bench *b, unsigned off, uint32_t value)
{
	bench_write(b, HPET + off, 4, value);
}

static uint64_t
tick(struct bench *b)
{
	return clock_ns_to_ticks(clock_now(vm_clock(b->vm)), HZ);
}

/* To the first nanosecond of the tick that is n ahead. */
static void
advance(struct bench *b, uint64_t n)
{
	uint64_t to = clock_ticks_to_ns(tick(b) + n, HZ) + 1;

	bench_advance(b, to - clock_now(vm_clock(b->vm)));
}

static void
after_power_on(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_read(b, HPET + CAP, 8), 0x038d7ea480860701ULL);
	assert_int_equal(get(b, CAP), 0x80860701);
	assert_int_equal(get(b, CAP + 4), 59604644);
	assert_int_equal(bench_read(b, HPET + CONFIG, 8), 0);
	assert_int_equal(bench_read(b, HPET + STATUS, 8), 0);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_read(b, HPET + COUNTER, 8), 0);
	for (unsigned n = 0; n < TIMERS; n++) {
		assert_int_equal(bench_read(b, HPET + TN_CONFIG(n), 8),
		    0xff00000000008010ULL);
		assert_int_equal(bench_read(b, HPET + TN_COMPARATOR(n), 8),
		    UINT32_MAX);
		assert_int_equal(bench_read(b, HPET + TN_FSB(n), 8), 0);
		assert_int_equal(bench_read(b, HPET + TN_FSB(n) + 8, 8), 0);
	}
}

static void
reserved_bits(void **state)
{
	struct bench *b = *state;

	bench_write(b, HPET + CAP, 8, 0);
	assert_int_equal(get(b, CAP), 0x80860701);
	for (unsigned n = 0; n < TIMERS; n++) {
		bench_write(b, HPET + TN_CONFIG(n), 8, UINT64_MAX);
		assert_int_equal(bench_read(b, HPET + TN_CONFIG(n), 8),
		    0xff0000000000fe5eULL);
		/* Only pins that it has can be chosen. */
		for (unsigned pin = 0; pin < 24; pin++) {
			set(b, TN_CONFIG(n), PIN(pin));
			assert_int_equal(get(b, TN_CONFIG(n)), PIN(31) | CAPS);
		}
		for (unsigned pin = 24; pin < 32; pin++) {
			set(b, TN_CONFIG(n), PIN(pin));
			assert_int_equal(get(b, TN_CONFIG(n)), PIN(pin) | CAPS);
		}
		/* VAL_SET means nothing without a period. */
		set(b, TN_CONFIG(n), VAL_SET);
		assert_int_equal(get(b, TN_CONFIG(n)), PIN(31) | CAPS);
		set(b, TN_CONFIG(n) + 4, UINT32_MAX);
		assert_int_equal(get(b, TN_CONFIG(n)), PIN(31) | CAPS);
		assert_int_equal(get(b, TN_CONFIG(n) + 4), 0xff000000);
		bench_write(b, HPET + TN_COMPARATOR(n), 8, UINT64_MAX - 5);
		assert_int_equal(bench_read(b, HPET + TN_COMPARATOR(n), 8),
		    UINT32_MAX - 5);
		set(b, TN_COMPARATOR(n) + 4, 7);
		assert_int_equal(bench_read(b, HPET + TN_COMPARATOR(n), 8),
		    UINT32_MAX - 5);
		set(b, TN_FSB(n), 0x11112222);
		set(b, TN_FSB(n) + 4, 0x33334444);
		assert_int_equal(bench_read(b, HPET + TN_FSB(n), 8),
		    0x3333444411112222ULL);
	}
	bench_write(b, HPET + CONFIG, 8, UINT64_MAX);
	assert_int_equal(bench_read(b, HPET + CONFIG, 8), 1); /* no legacy */
	set(b, CONFIG + 4, 0);
	assert_int_equal(get(b, CONFIG), 1);
}

static void
accesses(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_read(b, HPET + CAP, 1), 0);
	assert_int_equal(bench_read(b, HPET + CAP, 2), 0);
	assert_int_equal(bench_read(b, HPET + CAP + 2, 4), 0);
	assert_int_equal(bench_read(b, HPET + CAP + 4, 8), 0);
	bench_write(b, HPET + CONFIG, 1, 1);
	bench_write(b, HPET + CONFIG, 2, 1);
	bench_write(b, HPET + CONFIG - 2, 4, 0x10000);
	assert_int_equal(get(b, CONFIG), 0);
	/* Where there is nothing. */
	for (unsigned off = 0; off < 0x400; off += 4) {
		if (off < 0x08 || off / 8 * 8 == CONFIG ||
		    off / 8 * 8 == STATUS || off / 8 * 8 == COUNTER ||
		    (off >= 0x100 && off < 0x200 && off % 0x20 < 0x18))
			continue;
		set(b, off, UINT32_MAX);
		assert_int_equal(get(b, off), 0);
	}
}

static void
the_counter(void **state)
{
	struct bench *b = *state;

	set(b, COUNTER, 100);
	set(b, COUNTER + 4, 100);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_read(b, HPET + COUNTER, 8), 100);
	set(b, CONFIG, 1);
	bench_advance(b, 10 * NS_PER_SEC);
	assert_int_equal(get(b, COUNTER), 100 + 10 * HZ);
	set(b, COUNTER, 5); /* not while it runs */
	bench_write(b, HPET + COUNTER, 8, 5);
	assert_int_equal(get(b, COUNTER), 100 + 10 * HZ);
	assert_int_equal(get(b, COUNTER + 4), 0);
	/* Halted it stands; enabled it goes on. */
	set(b, CONFIG, 0);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(get(b, COUNTER), 100 + 10 * HZ);
	set(b, CONFIG, 1);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(get(b, COUNTER), 100 + 11 * HZ);
	/* 32 bits: 256 s. */
	bench_advance(b, 256 * NS_PER_SEC);
	assert_int_equal(bench_read(b, HPET + COUNTER, 8), 100 + 11 * HZ);
}

static void
one_shot(void **state)
{
	struct bench *b = *state;

	set(b, CONFIG, 1);
	for (unsigned n = 0; n < TIMERS; n++) {
		set(b, TN_CONFIG(n), ENABLE | PIN(24 + n));
		set(b, TN_COMPARATOR(n), get(b, COUNTER) + 1000);
		advance(b, 999);
		assert_int_equal(bench_irqs(b, 24 + n), 0);
		advance(b, 1);
		assert_int_equal(bench_irqs(b, 24 + n), 1);
		assert_false(bench_line(b, 24 + n));
		set(b, TN_CONFIG(n), PIN(24 + n));
	}
	assert_int_equal(get(b, STATUS), 0);
	/* Once round the counter it matches again. */
	set(b, TN_CONFIG(0), ENABLE | PIN(24));
	set(b, TN_COMPARATOR(0), get(b, COUNTER) + 1000);
	bench_advance(b, 255 * NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 1);
	bench_advance(b, 2 * NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 1);
	/* Not enabled, not routed, or halted: nothing. */
	set(b, TN_COMPARATOR(0), get(b, COUNTER) + 1000);
	set(b, CONFIG, 0);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 0);
	set(b, CONFIG, 1);
	advance(b, 1000);
	assert_int_equal(bench_irqs(b, 24), 1);
	set(b, TN_CONFIG(0), PIN(24));
	set(b, TN_COMPARATOR(0), get(b, COUNTER) + 1000);
	advance(b, 2000);
	assert_int_equal(bench_irqs(b, 24), 0);
	assert_int_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
}

static void
not_routed(void **state)
{
	struct bench *b = *state;

	set(b, CONFIG, 1);
	set(b, TN_CONFIG(3), ENABLE);
	set(b, TN_COMPARATOR(3), 1000);
	bench_advance(b, NS_PER_SEC);
	for (unsigned line = 0; line < IRQ_LINES; line++)
		assert_int_equal(bench_irqs(b, line), 0);
	assert_int_equal(b->msi_count, 0);
}

/* The past comes round again in 256 s; the present is now. */
static void
comparators_in_the_past(void **state)
{
	struct bench *b = *state;

	set(b, CONFIG, 1);
	bench_advance(b, NS_PER_SEC);
	set(b, TN_CONFIG(0), ENABLE | PIN(24));
	set(b, TN_COMPARATOR(0), get(b, COUNTER) - 1);
	bench_advance(b, 255 * NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 0);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 1);
	set(b, TN_COMPARATOR(0), 0);
	bench_advance(b, NS_PER_SEC / 2);
	assert_int_equal(bench_irqs(b, 24), 0);
	set(b, TN_COMPARATOR(0), get(b, COUNTER));
	bench_advance(b, 1000);
	assert_int_equal(bench_irqs(b, 24), 1);
	bench_advance(b, 100 * NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 0);
}

/* Interrupts in whole seconds, to the exact count. */
static void
frequencies(void **state)
{
	static const uint32_t periods[] = { HZ, 167772, 16777, 1000, 839 };
	struct bench *b = *state;

	set(b, CONFIG, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(periods); i++) {
		uint64_t start = tick(b);

		set(b, TN_CONFIG(1), ENABLE | PERIODIC | VAL_SET | PIN(25));
		set(b, TN_COMPARATOR(1), get(b, COUNTER) + periods[i]);
		assert_int_equal(get(b, TN_CONFIG(1)) & VAL_SET, 0);
		set(b, TN_COMPARATOR(1), periods[i]);
		bench_advance(b, 7 * NS_PER_SEC);
		assert_int_equal(bench_irqs(b, 25),
		    (tick(b) - start) / periods[i]);
		/* What is read is the next match. */
		assert_in_range(get(b, TN_COMPARATOR(1)) - get(b, COUNTER), 1,
		    periods[i]);
		set(b, TN_CONFIG(1), PIN(25));
	}
}

/* The specification's way: halted at 0, one write sets match and period. */
static void
period_in_one_write(void **state)
{
	struct bench *b = *state;

	set(b, TN_CONFIG(0), ENABLE | PERIODIC | VAL_SET | PIN(24));
	bench_write(b, HPET + TN_COMPARATOR(0), 8, HZ / 1024);
	assert_int_equal(get(b, TN_COMPARATOR(0)), HZ / 1024);
	set(b, CONFIG, 1);
	bench_advance(b, 10 * NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 10240);
	/* Another period, from the next match on. */
	set(b, TN_COMPARATOR(0), HZ / 256);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 256);
	/* One-shot forgets it. */
	set(b, TN_CONFIG(0), ENABLE | PIN(24));
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 24), 1);
}

static void
no_drift(void **state)
{
	struct bench *b = *state;

	set(b, TN_CONFIG(0), ENABLE | PERIODIC | VAL_SET | PIN(24));
	set(b, TN_COMPARATOR(0), 10007);
	set(b, CONFIG, 1);
	srandom(1);
	while (tick(b) < 20 * (uint64_t)HZ) {
		bench_advance(b, random() % 400000);
		(void)get(b, COUNTER);
	}
	assert_int_equal(bench_irqs(b, 24), tick(b) / 10007);
}

static void
short_periods_are_bounded(void **state)
{
	static const uint32_t periods[] = { 0, 1, 2, 100, 838 };
	struct bench *b = *state;

	set(b, CONFIG, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(periods); i++) {
		for (unsigned n = 0; n < TIMERS; n++) {
			set(b, TN_CONFIG(n),
			    ENABLE | PERIODIC | VAL_SET | PIN(24 + n));
			set(b, TN_COMPARATOR(n), get(b, COUNTER) + 5);
			set(b, TN_COMPARATOR(n), periods[i]);
		}
		bench_advance(b, NS_PER_SEC / 10);
		for (unsigned n = 0; n < TIMERS; n++) {
			unsigned irqs = bench_irqs(b, 24 + n);

			if (periods[i] == 0)
				assert_int_equal(irqs, 1);
			else
				assert_in_range(irqs, 990, 2001);
		}
	}
}

static void
levels(void **state)
{
	struct bench *b = *state;

	set(b, CONFIG, 1);
	set(b, TN_CONFIG(2), LEVEL | ENABLE | PERIODIC | VAL_SET | PIN(26));
	set(b, TN_COMPARATOR(2), 10000);
	advance(b, 10000);
	assert_true(bench_line(b, 26));
	assert_int_equal(get(b, STATUS), 0x04);
	/* Up until the status is cleared, by a one and by no other bit. */
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 26), 1);
	set(b, STATUS, 0xfb);
	set(b, STATUS + 4, UINT32_MAX);
	assert_true(bench_line(b, 26));
	set(b, STATUS, 0x04);
	assert_false(bench_line(b, 26));
	assert_int_equal(get(b, STATUS), 0);
	bench_advance(b, NS_PER_SEC / 1000);
	assert_true(bench_line(b, 26));
	/* Disabled, the line falls; the status stays. */
	set(b, TN_CONFIG(2), LEVEL | PERIODIC | PIN(26));
	assert_false(bench_line(b, 26));
	assert_int_equal(get(b, STATUS), 0x04);
	set(b, TN_CONFIG(2), LEVEL | ENABLE | PERIODIC | PIN(26));
	assert_true(bench_line(b, 26));
	set(b, CONFIG, 0);
	assert_false(bench_line(b, 26));
	set(b, CONFIG, 1);
	assert_true(bench_line(b, 26));
	/* Routed elsewhere, it moves. */
	set(b, TN_CONFIG(2), LEVEL | ENABLE | PERIODIC | PIN(31));
	assert_false(bench_line(b, 26));
	assert_true(bench_line(b, 31));
	/* Edges have no status. */
	set(b, TN_CONFIG(2), ENABLE | PERIODIC | PIN(31));
	assert_false(bench_line(b, 31));
	assert_int_equal(get(b, STATUS), 0);
	/* Without its interrupt enabled, the status tells of the match. */
	set(b, TN_CONFIG(2), LEVEL | PIN(31));
	set(b, TN_COMPARATOR(2), get(b, COUNTER) + 10);
	advance(b, 10);
	assert_int_equal(get(b, STATUS), 0x04);
	assert_false(bench_line(b, 31));
}

static void
one_pin_for_two(void **state)
{
	struct bench *b = *state;

	set(b, CONFIG, 1);
	set(b, TN_CONFIG(0), LEVEL | ENABLE | PIN(24));
	set(b, TN_CONFIG(1), LEVEL | ENABLE | PIN(24));
	set(b, TN_CONFIG(2), ENABLE | PIN(24));
	set(b, TN_COMPARATOR(0), 1000);
	set(b, TN_COMPARATOR(1), 2000);
	set(b, TN_COMPARATOR(2), 3000);
	advance(b, 3500);
	assert_int_equal(get(b, STATUS), 0x03);
	assert_int_equal(bench_irqs(b, 24), 1);
	set(b, STATUS, 0x01);
	assert_true(bench_line(b, 24));
	set(b, STATUS, 0x02);
	assert_false(bench_line(b, 24));
}

static void
messages(void **state)
{
	struct bench *b = *state;

	set(b, CONFIG, 1);
	set(b, TN_FSB(5), 0x4051);
	set(b, TN_FSB(5) + 4, 0xfee01000);
	set(b, TN_CONFIG(5), LEVEL | FSB | ENABLE | PIN(29));
	set(b, TN_COMPARATOR(5), 1000);
	advance(b, 1000);
	assert_int_equal(b->msi_count, 1);
	assert_int_equal(b->msi[0].addr, 0xfee01000);
	assert_int_equal(b->msi[0].data, 0x4051);
	assert_int_equal(bench_irqs(b, 29), 0);
	assert_int_equal(get(b, STATUS), 0);
	/* Not to memory. */
	set(b, TN_FSB(5) + 4, 0x1000);
	set(b, TN_COMPARATOR(5), get(b, COUNTER) + 1000);
	advance(b, 1000);
	assert_int_equal(b->msi_count, 1);
	/* Not without being enabled. */
	set(b, TN_FSB(5) + 4, 0xfee00000);
	set(b, TN_CONFIG(5), FSB);
	set(b, TN_COMPARATOR(5), get(b, COUNTER) + 1000);
	advance(b, 1000);
	assert_int_equal(b->msi_count, 1);
}

static void
a_reset_stops_it(void **state)
{
	struct bench *b = *state;
	struct err err;

	set(b, CONFIG, 1);
	set(b, TN_CONFIG(0), LEVEL | ENABLE | PIN(24));
	set(b, TN_COMPARATOR(0), 1000);
	bench_advance(b, NS_PER_SEC);
	assert_true(bench_line(b, 24));
	assert_int_equal(vm_reset(b->vm, &err), 0);
	assert_false(bench_line(b, 24));
	after_power_on(state);
	assert_int_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
}

static void
random_round_trips(void **state)
{
	struct bench *b = *state;

	srandom(4);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 30; j++) {
			unsigned n = random() % TIMERS;

			switch (random() % 8) {
			case 0:
				set(b, CONFIG, random() % 8 != 0);
				break;
			case 1:
				set(b, STATUS, random());
				break;
			case 2:
				set(b, COUNTER, random());
				break;
			case 3:
			case 4:
				set(b, TN_CONFIG(n), random() | PIN(24));
				break;
			case 5:
				set(b, TN_FSB(n), random());
				break;
			default:
				set(b, TN_COMPARATOR(n),
				    random() % 3 == 0 ?
					random() % 20000 :
					get(b, COUNTER) + random() % 100000);
				break;
			}
			bench_advance(b, random() % 2000000);
		}
		bench_round_trip(b);
	}
}

static void
a_load_keeps_the_pace(void **state)
{
	struct bench *b = *state, *fresh = bench_new("hpet", NULL);
	struct buf saved = { 0 };
	struct reader in;
	struct err err;

	set(b, TN_CONFIG(0), ENABLE | PERIODIC | VAL_SET | PIN(24));
	set(b, TN_COMPARATOR(0), 16777);
	set(b, TN_CONFIG(1), LEVEL | ENABLE | PIN(25));
	set(b, TN_COMPARATOR(1), 2 * HZ);
	set(b, CONFIG, 1);
	bench_advance(b, NS_PER_SEC + 12345);
	vm_save_devices(b->vm, &saved);
	in = reader_make(saved.data, saved.len);
	assert_int_equal(vm_load_devices(fresh->vm, &in, &err), 0);
	(void)bench_irqs(b, 24);
	for (unsigned i = 0; i < 2000; i++) {
		bench_advance(b, 777777);
		bench_advance(fresh, 777777);
		assert_int_equal(bench_irqs(b, 24), bench_irqs(fresh, 24));
		assert_int_equal(bench_irqs(b, 25), bench_irqs(fresh, 25));
	}
	assert_true(bench_line(b, 25));
	assert_true(bench_line(fresh, 25));
	buf_fini(&saved);
	bench_free(fresh);
}

static void
forged_state_is_refused(void **state)
{
	enum {
		ENABLED = 0,
		STATUS_AT = 1,
		START = 6,
		CONFIGS = 14,
		PERIODS = CONFIGS + 8 * 2 + 8 * 4,
		MATCHES = PERIODS + 8 * 4 + 8 * 8,
		SIZE = MATCHES + 8 * 8
	};
	struct bench *b = *state;
	struct buf saved = { 0 };
	uint8_t *fields;

	bench_save(b, &saved);
	fields = saved.data + saved.len - SIZE;
	assert_int_equal(bench_load(b, fields, SIZE), 0);
	assert_int_equal(bench_load(b, fields, SIZE - 1), -EINVAL);
	fields[ENABLED] = 2;
	assert_int_equal(bench_load(b, fields, SIZE), -EINVAL);
	fields[ENABLED] = 1;
	fields[STATUS_AT] = 1; /* of an edge */
	assert_int_equal(bench_load(b, fields, SIZE), -EINVAL);
	fields[STATUS_AT] = 0;
	fields[CONFIGS] = 0x00; /* without its capabilities */
	assert_int_equal(bench_load(b, fields, SIZE), -EINVAL);
	fields[CONFIGS] = 0x11; /* a reserved bit */
	assert_int_equal(bench_load(b, fields, SIZE), -EINVAL);
	fields[CONFIGS] = 0x50; /* VAL_SET of a one-shot */
	assert_int_equal(bench_load(b, fields, SIZE), -EINVAL);
	fields[CONFIGS] = 0x10;
	fields[CONFIGS + 1] = 0x80 | PIN(5) >> 8; /* a pin it has not */
	assert_int_equal(bench_load(b, fields, SIZE), -EINVAL);
	fields[CONFIGS + 1] = 0x80 | PIN(24) >> 8;
	fields[PERIODS] = 1; /* of a one-shot */
	assert_int_equal(bench_load(b, fields, SIZE), -EINVAL);
	fields[PERIODS] = 0;
	assert_int_equal(bench_load(b, fields, SIZE), 0);
	/* Any start, match and period: no harm. */
	srandom(6);
	for (unsigned i = 0; i < 2000; i++) {
		fields[CONFIGS] = 0x10 | ENABLE | PERIODIC;
		for (unsigned j = 0; j < 8; j++) {
			fields[START + j] = i % 3 == 0 ? 0xff : random();
			fields[MATCHES + j] = i % 5 == 0 ? 0 : random();
		}
		for (unsigned j = 0; j < 4; j++)
			fields[PERIODS + j] = i % 7 < j ? 0 : random();
		assert_int_equal(bench_load(b, fields, SIZE), 0);
		(void)get(b, COUNTER);
		bench_advance(b, 1000000);
		assert_in_range(bench_irqs(b, 24), 0, 21);
	}
	buf_fini(&saved);
}

static void
hammered(void **state)
{
	const struct bench_range ranges[] = {
		{ BUS_MMIO, HPET, 0x400 },
		{ BUS_MMIO, HPET + 0x100, 0x100 },
		{ BUS_MMIO, HPET + CONFIG, 4 },
	};

	bench_hammer(*state, ranges, ARRAY_SIZE(ranges), 50000, 9);
}

BENCH_MAIN("hpet", BENCH_TEST(after_power_on), BENCH_TEST(reserved_bits),
    BENCH_TEST(accesses), BENCH_TEST(the_counter), BENCH_TEST(one_shot),
    BENCH_TEST(not_routed), BENCH_TEST(comparators_in_the_past),
    BENCH_TEST(frequencies), BENCH_TEST(period_in_one_write),
    BENCH_TEST(no_drift), BENCH_TEST(short_periods_are_bounded),
    BENCH_TEST(levels), BENCH_TEST(one_pin_for_two), BENCH_TEST(messages),
    BENCH_TEST(a_reset_stops_it), BENCH_TEST(random_round_trips),
    BENCH_TEST(a_load_keeps_the_pace), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(hammered))
