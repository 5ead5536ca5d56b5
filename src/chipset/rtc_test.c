#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/util.h"
#include "chipset/rtc.h"
#include "test/bench.h"

#define INDEX 0x70
#define DATA 0x71

enum {
	SEC = 0,
	SEC_ALARM = 1,
	MIN = 2,
	MIN_ALARM = 3,
	HOUR = 4,
	HOUR_ALARM = 5,
	WDAY = 6,
	MDAY = 7,
	MONTH = 8,
	YEAR = 9,
	A = 10,
	B = 11,
	C = 12,
	D = 13,
	CENTURY = 0x32,
};

#define UIP 0x80
#define SET 0x80
#define PIE 0x40
#define AIE 0x20
#define UIE 0x10
#define DM 0x04
#define H24 0x02
#define IRQF 0x80
#define PF 0x40
#define AF 0x20
#define UF 0x10

#define MS 1000000ULL

static uint8_t
get(struct bench *b, uint8_t reg)
{
	bench_out8(b, INDEX, reg);
	return bench_in8(b, DATA);
}

static void
set(struct bench *b, uint8_t reg, uint8_t value)
{
	bench_out8(b, INDEX, reg);
	bench_out8(b, DATA, value);
}

/* A date in BCD as one number: century, year, month, day, hour, min, sec. */
static uint64_t
date(struct bench *b)
{
	static const uint8_t regs[] = { CENTURY, YEAR, MONTH, MDAY, HOUR, MIN,
		SEC };
	uint64_t value = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
		value = value << 8 | get(b, regs[i]);
	return value;
}

static void
set_date(struct bench *b, uint64_t value)
{
	static const uint8_t regs[] = { SEC, MIN, HOUR, MDAY, MONTH, YEAR,
		CENTURY };

	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++, value >>= 8)
		set(b, regs[i], value);
}

/* A known time: 2023-11-14 22:13:20, a Tuesday. */
#define KNOWN 1700000000
#define KNOWN_DATE 0x20231114221320

static void
set_time(struct bench *b, int64_t seconds)
{
	struct err err;

	assert_int_equal(rtc_set_time(b->dev, seconds, &err), 0);
}

static void
after_power_on(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_in8(b, INDEX), 0xff);
	assert_int_equal(bench_in8(b, DATA), 0x80); /* the index is D's */
	assert_int_equal(get(b, A), 0x20);
	assert_int_equal(get(b, B), 0x02);
	assert_int_equal(get(b, C), 0x00);
	assert_int_equal(get(b, D), 0x80);
	assert_int_equal(get(b, SEC_ALARM), 0);
	/* The mask of NMIs is not part of the index. */
	set(b, 0x80 | 0x40, 0x5a);
	assert_int_equal(get(b, 0x40), 0x5a);
	assert_false(bench_line(b, 8));
}

static void
host_time(void **state)
{
	const char *const utc[] = { "rtc.use_localtime=false", NULL };
	struct bench *b;
	int64_t seconds;
	struct err err;

	/* Five hours and a half east of Greenwich. */
	setenv("TZ", "XXX-5:30", 1);
	tzset();
	b = bench_new("rtc", utc);
	assert_int_equal(rtc_get_time(b->dev, &seconds, &err), 0);
	assert_in_range(time(NULL) - seconds, 0, 5);
	bench_free(b);
	b = bench_new("rtc", NULL);
	assert_int_equal(rtc_get_time(b->dev, &seconds, &err), 0);
	assert_in_range(time(NULL) + 19800 - seconds, 0, 5);
	bench_free(b);
}

/* NVRAM of a machine with that much memory, in units of 64 KiB. */
static void
expect_size(struct bench *b, uint64_t size, unsigned low, unsigned high)
{
	struct vm_params params = *vm_params(b->vm);
	struct device *dev;
	struct vm *vm;
	uint8_t v[5];
	struct err err;

	params.engine = "bench";
	params.mem_size = size;
	assert_int_equal(vm_new(&params, &vm, &err), 0);
	assert_int_equal(irq_chip_new(vm, &err), 0);
	assert_int_equal(device_new(vm, "rtc", "rtc", NULL, &dev, &err), 0);
	for (unsigned i = 0; i < 2; i++)
		(void)rtc_nvram_read(dev, 0x34 + i, &v[i], &err);
	for (unsigned i = 0; i < 3; i++)
		(void)rtc_nvram_read(dev, 0x5b + i, &v[2 + i], &err);
	assert_int_equal(v[0] | v[1] << 8, low);
	assert_int_equal(v[2] | v[3] << 8 | v[4] << 16, high);
	vm_free(vm);
}

static void
memory_size(void **state)
{
	static const uint8_t regs[] = { 0x34, 0x35, 0x5b, 0x5c, 0x5d };
	struct bench *b = *state;

	expect_size(b, 4 * MIB, 0, 0);
	expect_size(b, 16 * MIB, 0, 0);
	expect_size(b, 256 * MIB, 0xf00, 0);
	expect_size(b, 5 * GIB, 0xbf00, 0x8000);
	/* It is memory after all. */
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		set(b, regs[i], 0xa5);
		assert_int_equal(get(b, regs[i]), 0xa5);
	}
}

static void
nvram(void **state)
{
	struct bench *b = *state;
	uint8_t value;
	struct err err;

	for (unsigned i = 14; i < 128; i++) {
		if (i == CENTURY)
			continue;
		set(b, i, i ^ 0xa5);
	}
	for (unsigned i = 14; i < 128; i++) {
		if (i == CENTURY)
			continue;
		assert_int_equal(get(b, i), i ^ 0xa5);
		assert_int_equal(rtc_nvram_read(b->dev, i, &value, &err), 0);
		assert_int_equal(value, i ^ 0xa5);
		assert_int_equal(rtc_nvram_write(b->dev, i, i, &err), 0);
		assert_int_equal(get(b, i), i);
	}
	assert_int_equal(rtc_nvram_write(b->dev, 13, 1, &err), -EPERM);
	assert_int_equal(rtc_nvram_write(b->dev, 0, 1, &err), -EPERM);
	assert_int_equal(rtc_nvram_write(b->dev, CENTURY, 1, &err), -EPERM);
	assert_int_equal(rtc_nvram_write(b->dev, 128, 1, &err), -EINVAL);
	assert_int_equal(rtc_nvram_read(b->dev, 128, &value, &err), -EINVAL);
	assert_int_equal(rtc_nvram_read(b->dev, B, &value, &err), 0);
	assert_int_equal(value, H24);
	/* C and D are read-only, A's UIP too. */
	set(b, C, 0xff);
	set(b, D, 0x00);
	set(b, A, 0xa6);
	assert_int_equal(get(b, C), 0);
	assert_int_equal(get(b, D), 0x80);
	assert_int_equal(get(b, A), 0x26);
}

static void
the_clock_goes(void **state)
{
	struct bench *b = *state;
	int64_t seconds;
	struct err err;

	set_time(b, KNOWN);
	assert_int_equal(date(b), KNOWN_DATE);
	assert_int_equal(get(b, WDAY), 3);
	bench_advance(b, 39 * NS_PER_SEC);
	assert_int_equal(date(b), KNOWN_DATE + 0x39);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(date(b), 0x20231114221400);
	bench_advance(b, (uint64_t)86400 * 47 * NS_PER_SEC);
	assert_int_equal(date(b), 0x20231231221400);
	assert_int_equal(get(b, WDAY), 1);
	bench_advance(b, (uint64_t)6400 * NS_PER_SEC);
	assert_int_equal(date(b), 0x20240101000040);
	assert_int_equal(rtc_get_time(b->dev, &seconds, &err), 0);
	assert_int_equal(seconds, 1704067240);
}

/* Against the C library, over all the years that the clock knows. */
static void
calendar(void **state)
{
	struct bench *b = *state;
	struct err err;
	int64_t back;

	srandom(1);
	set(b, B, H24 | DM);
	for (unsigned i = 0; i < 20000; i++) {
		int64_t seconds = -62167219200LL +
		    (int64_t)((random() * 0x80000000ULL + random()) %
			315569520000ULL);
		time_t t = seconds;
		struct tm tm;

		assert_non_null(gmtime_r(&t, &tm));
		set_time(b, seconds);
		assert_int_equal(get(b, CENTURY) * 100 + get(b, YEAR),
		    tm.tm_year + 1900);
		assert_int_equal(get(b, MONTH), tm.tm_mon + 1);
		assert_int_equal(get(b, MDAY), tm.tm_mday);
		assert_int_equal(get(b, WDAY), tm.tm_wday + 1);
		assert_int_equal(get(b, HOUR), tm.tm_hour);
		assert_int_equal(get(b, MIN), tm.tm_min);
		assert_int_equal(get(b, SEC), tm.tm_sec);
		/* And back: the registers taken for the date. */
		set(b, B, H24 | DM | SET);
		set(b, B, H24 | DM);
		assert_int_equal(rtc_get_time(b->dev, &back, &err), 0);
		assert_int_equal(back, seconds);
	}
	assert_int_equal(rtc_set_time(b->dev, 253402300800LL, &err), -ERANGE);
	assert_int_equal(rtc_set_time(b->dev, -62167219201LL, &err), -ERANGE);
	assert_int_equal(rtc_set_time(b->dev, INT64_MIN, &err), -ERANGE);
	assert_int_equal(rtc_set_time(b->dev, INT64_MAX, &err), -ERANGE);
	/* The end of all years. */
	set(b, B, H24);
	set_time(b, 253402300799LL);
	assert_int_equal(date(b), 0x99991231235959);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(date(b), 0x00000101000000);
}

static void
leap_years(void **state)
{
	struct bench *b = *state;

	set_date(b, 0x20240228235959);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(date(b), 0x20240229000000);
	set_date(b, 0x20230228235959);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(date(b), 0x20230301000000);
	set_date(b, 0x21000228235959);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(date(b), 0x21000301000000);
	set_date(b, 0x19991231235959);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(date(b), 0x20000101000000);
}

static void
formats(void **state)
{
	/* hour, 24 h BCD, 24 h binary, 12 h BCD, 12 h binary */
	static const uint8_t hours[][5] = {
		{ 0, 0x00, 0, 0x12, 12 },
		{ 1, 0x01, 1, 0x01, 1 },
		{ 9, 0x09, 9, 0x09, 9 },
		{ 11, 0x11, 11, 0x11, 11 },
		{ 12, 0x12, 12, 0x92, 0x8c },
		{ 13, 0x13, 13, 0x81, 0x81 },
		{ 23, 0x23, 23, 0x91, 0x8b },
	};
	static const uint8_t b_of[] = { H24, H24 | DM, 0, DM };
	struct bench *b = *state;
	struct err err;
	int64_t seconds;

	for (unsigned i = 0; i < ARRAY_SIZE(hours); i++) {
		for (unsigned f = 0; f < ARRAY_SIZE(b_of); f++) {
			/* Shown in each format, whichever it was before. */
			set_time(b, hours[i][0] * 3600);
			set(b, B, b_of[f]);
			assert_int_equal(get(b, HOUR), hours[i][1 + f]);
			assert_int_equal(get(b, YEAR),
			    b_of[f] & DM ? 70 : 0x70);
			/* And understood. */
			set(b, B, b_of[f] | SET);
			set(b, HOUR, 0);
			set(b, HOUR, hours[i][1 + f]);
			set(b, B, b_of[f]);
			assert_int_equal(rtc_get_time(b->dev, &seconds, &err),
			    0);
			assert_int_equal(seconds, hours[i][0] * 3600);
		}
	}
}

static void
dates_that_do_not_exist(void **state)
{
	static const struct {
		uint8_t reg, bad, good;
	} rows[] = {
		{ SEC, 0x60, 0x59 },
		{ SEC, 0x0a, 0x09 },
		{ SEC, 0xff, 0x00 },
		{ MIN, 0x60, 0x59 },
		{ HOUR, 0x24, 0x23 },
		{ HOUR, 0x80, 0x00 },
		{ MDAY, 0x00, 0x01 },
		{ MDAY, 0x31, 0x30 }, /* of November */
		{ MONTH, 0x00, 0x01 },
		{ MONTH, 0x13, 0x12 },
		{ YEAR, 0xa0, 0x99 },
		{ CENTURY, 0xff, 0x20 },
	};
	struct bench *b = *state;
	int64_t seconds = 0;
	struct err err;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		set_time(b, KNOWN);
		set(b, rows[i].reg, rows[i].bad);
		bench_advance(b, 10 * NS_PER_SEC);
		assert_int_equal(get(b, rows[i].reg), rows[i].bad);
		if (rows[i].reg != SEC)
			assert_int_equal(get(b, SEC), 0x20); /* it stands */
		assert_int_equal(rtc_get_time(b->dev, &seconds, &err), -EBUSY);
		set(b, rows[i].reg, rows[i].good);
		assert_int_equal(rtc_get_time(b->dev, &seconds, &err), 0);
		bench_advance(b, 2 * NS_PER_SEC);
		assert_int_not_equal(get(b, SEC), 0x20);
	}
	/* Twelve hours: 0 and 13 do not exist. */
	set(b, B, 0);
	set(b, HOUR, 0x00);
	assert_int_equal(rtc_get_time(b->dev, &seconds, &err), -EBUSY);
	set(b, HOUR, 0x13);
	assert_int_equal(rtc_get_time(b->dev, &seconds, &err), -EBUSY);
	/* The host can set it right. */
	set_time(b, KNOWN);
	assert_int_equal(rtc_get_time(b->dev, &seconds, &err), 0);
	assert_int_equal(seconds, KNOWN);
}

static void
set_stops_updates(void **state)
{
	struct bench *b = *state;
	struct err err;

	set_time(b, KNOWN);
	set(b, B, SET | UIE | H24);
	assert_int_equal(get(b, B), SET | H24); /* UIE is cleared */
	bench_advance(b, 100 * NS_PER_SEC);
	assert_int_equal(date(b), KNOWN_DATE);
	assert_int_equal(get(b, A) & UIP, 0);
	assert_int_equal(get(b, C), 0);
	assert_int_equal(rtc_set_time(b->dev, 0, &err), -EBUSY);
	set_date(b, 0x19841231235958);
	set(b, B, H24);
	assert_int_equal(date(b), 0x19841231235958);
	bench_advance(b, 2 * NS_PER_SEC);
	assert_int_equal(date(b), 0x19850101000000);
}

static void
the_divider(void **state)
{
	struct bench *b = *state;

	set_time(b, KNOWN);
	set(b, A, 0x70);
	bench_advance(b, 100 * NS_PER_SEC);
	assert_int_equal(date(b), KNOWN_DATE);
	/* The first update comes half a second after its reset. */
	bench_advance(b, 123456789);
	set(b, A, 0x20);
	bench_advance(b, 499 * MS);
	assert_int_equal(date(b), KNOWN_DATE);
	bench_advance(b, MS);
	assert_int_equal(date(b), KNOWN_DATE + 1);
	bench_advance(b, 999 * MS);
	assert_int_equal(date(b), KNOWN_DATE + 1);
	bench_advance(b, MS);
	assert_int_equal(date(b), KNOWN_DATE + 2);
}

/* The same in the machine's first half second. */
static void
the_divider_at_once(void **state)
{
	struct bench *b = *state;

	set(b, A, 0x60);
	set_date(b, 0x20000101000000);
	set(b, A, 0x26);
	set(b, B, UIE | PIE | H24);
	assert_int_equal(date(b), 0x20000101000000);
	bench_advance(b, 499 * MS);
	assert_int_equal(date(b), 0x20000101000000);
	bench_advance(b, MS);
	assert_int_equal(date(b), 0x20000101000001);
	bench_round_trip(b);
}

static void
update_in_progress(void **state)
{
	struct bench *b = *state;
	unsigned on = 0;

	set_time(b, KNOWN);
	for (unsigned us = 0; us < 1000000; us += 100) {
		bool uip = get(b, A) & UIP;

		on += uip;
		/* Reading while it is off is safe for 244 us. */
		if (!uip)
			assert_in_range(us, 0, 1000000 - 2228);
		bench_advance(b, 100000);
	}
	assert_int_equal(on, 22);
	assert_int_equal(get(b, A) & UIP, 0);
	assert_int_equal(date(b), KNOWN_DATE + 1);
}

static void
update_interrupt(void **state)
{
	struct bench *b = *state;

	set_time(b, KNOWN);
	set(b, B, UIE | H24);
	bench_advance(b, 999999999);
	assert_false(bench_line(b, 8));
	bench_advance(b, 1);
	assert_true(bench_line(b, 8));
	assert_int_equal(date(b), KNOWN_DATE + 1);
	/* Up until C is read; one edge, whatever else happens. */
	bench_advance(b, 10 * NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 8), 1);
	assert_int_equal(get(b, C), IRQF | UF);
	assert_false(bench_line(b, 8));
	assert_int_equal(get(b, C), 0);
	for (unsigned i = 0; i < 100; i++) {
		bench_advance(b, NS_PER_SEC);
		assert_int_equal(get(b, C), IRQF | UF);
	}
	assert_int_equal(bench_irqs(b, 8), 100);
	/* Not enabled, the flag comes alone. */
	set(b, B, H24);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(get(b, C), UF);
	/* Enabled afterwards, it counts. */
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 8), 0);
	set(b, B, UIE | H24);
	assert_int_equal(bench_irqs(b, 8), 1);
	set(b, B, H24);
	assert_false(bench_line(b, 8));
	assert_int_equal(get(b, C), UF);
}

static void
periodic_interrupt(void **state)
{
	static const unsigned hz[] = { 0, 256, 128, 8192, 4096, 2048, 1024, 512,
		256, 128, 64, 32, 16, 8, 4, 2 };
	struct bench *b = *state;

	set(b, B, PIE | H24);
	for (unsigned rs = 0; rs < 16; rs++) {
		set(b, A, 0x20 | rs);
		(void)get(b, C);
		(void)bench_irqs(b, 8);
		for (unsigned i = 0; i < 3 * 8192; i++) {
			bench_advance(b, 3 * NS_PER_SEC / (3 * 8192));
			if (bench_line(b, 8))
				assert_int_equal(get(b, C) & ~UF, IRQF | PF);
		}
		/* 3 s less 8192 * 3 roundings: one less at most. */
		assert_in_range(bench_irqs(b, 8),
		    hz[rs] == 0 ? 0 : hz[rs] * 3 - 1, hz[rs] * 3);
	}
	/* Nobody reads C: one interrupt, and nothing to wait for. */
	set(b, A, 0x23);
	(void)bench_irqs(b, 8);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 8), 1);
	assert_int_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
	/* No divider, no periods. */
	set(b, A, 0x63);
	(void)get(b, C);
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(get(b, C), 0);
}

/* To the exact count, over simulated seconds. */
static void
periodic_frequency(void **state)
{
	struct bench *b = *state;
	uint64_t end = 10 * NS_PER_SEC, now;
	unsigned reads = 0;

	set(b, A, 0x26);
	set(b, B, PIE | H24);
	while ((now = clock_next(vm_clock(b->vm))) <= end) {
		bench_advance(b, now - clock_now(vm_clock(b->vm)));
		assert_true(get(b, C) & PF);
		reads++;
	}
	assert_int_equal(reads, 10240);
}

static void
alarm_interrupt(void **state)
{
	struct bench *b = *state;

	set_time(b, KNOWN);
	set(b, SEC_ALARM, 0x25);
	set(b, MIN_ALARM, 0x13);
	set(b, HOUR_ALARM, 0x22);
	set(b, B, AIE | H24);
	bench_advance(b, 5 * NS_PER_SEC - 1);
	assert_false(bench_line(b, 8));
	bench_advance(b, 1);
	assert_true(bench_line(b, 8));
	assert_int_equal(get(b, C), IRQF | AF | UF);
	/* Again tomorrow. */
	bench_advance(b, 86400 * NS_PER_SEC - 1);
	assert_false(bench_line(b, 8));
	bench_advance(b, 1);
	assert_int_equal(get(b, C), IRQF | AF | UF);
	assert_int_equal(date(b), 0x20231115221325);
	(void)bench_irqs(b, 8);
	/* Any minute, any hour: once a minute. */
	set(b, MIN_ALARM, 0xc0);
	set(b, HOUR_ALARM, 0xff);
	for (unsigned i = 0; i < 600; i++) {
		bench_advance(b, NS_PER_SEC);
		if (bench_line(b, 8)) {
			assert_int_equal(get(b, SEC), 0x25);
			(void)get(b, C);
		}
	}
	assert_int_equal(bench_irqs(b, 8), 10);
	/* Anything: once a second. */
	set(b, SEC_ALARM, 0xc5);
	for (unsigned i = 0; i < 100; i++) {
		bench_advance(b, NS_PER_SEC);
		assert_int_equal(get(b, C), IRQF | AF | UF);
	}
	/* Never. */
	set(b, SEC_ALARM, 0x77);
	(void)bench_irqs(b, 8);
	bench_advance(b, 2 * 86400 * NS_PER_SEC);
	assert_int_equal(bench_irqs(b, 8), 0);
	assert_int_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
	/* The flag without its interrupt, after a long time. */
	set(b, B, H24);
	set(b, SEC_ALARM, 0x00);
	set(b, MIN_ALARM, 0x00);
	set(b, HOUR_ALARM, 0x00);
	(void)get(b, C);
	bench_advance(b, 86400 * NS_PER_SEC);
	assert_int_equal(get(b, C), AF | UF);
}

/* Every alarm byte, against a clock that is looked at each second. */
static void
alarms_are_found(void **state)
{
	struct bench *b = *state;

	srandom(3);
	set(b, B, AIE | DM | H24);
	for (unsigned i = 0; i < 200; i++) {
		uint8_t hour = random() % 3 == 0 ? 0xff : random() % 26;
		uint8_t min = random() % 3 == 0 ? 0xff : random() % 62;
		uint8_t sec = random() % 3 == 0 ? 0xff : random() % 62;
		unsigned start = random() % 86400, expected = 0;

		set_time(b, start);
		set(b, HOUR_ALARM, hour);
		set(b, MIN_ALARM, min);
		set(b, SEC_ALARM, sec);
		(void)get(b, C);
		for (unsigned s = 1; s <= 86400 && expected == 0; s++) {
			unsigned t = (start + s) % 86400;

			if ((hour == 0xff || hour == t / 3600) &&
			    (min == 0xff || min == t / 60 % 60) &&
			    (sec == 0xff || sec == t % 60))
				expected = s;
		}
		if (expected == 0) {
			assert_int_equal(clock_next(vm_clock(b->vm)),
			    UINT64_MAX);
			continue;
		}
		assert_int_equal(clock_next(vm_clock(b->vm)) / NS_PER_SEC -
			clock_now(vm_clock(b->vm)) / NS_PER_SEC,
		    expected);
	}
}

/* An idle clock costs no timer, nor does one that only shows the time. */
static void
no_needless_timers(void **state)
{
	struct bench *b = *state;

	assert_int_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
	set(b, A, 0x26);
	(void)date(b);
	assert_int_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
	set(b, B, PIE | H24);
	assert_int_not_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
	set(b, B, H24);
	assert_int_equal(clock_next(vm_clock(b->vm)), UINT64_MAX);
}

static void
a_reset_is_a_power_on(void **state)
{
	struct bench *b = *state;
	int64_t before, after;
	struct err err;

	assert_int_equal(rtc_get_time(b->dev, &before, &err), 0);
	set_time(b, KNOWN);
	set(b, 0x40, 1);
	set(b, A, 0x2f);
	set(b, B, PIE | H24);
	bench_advance(b, 90 * NS_PER_SEC);
	assert_true(bench_line(b, 8));
	assert_int_equal(vm_reset(b->vm, &err), 0);
	assert_false(bench_line(b, 8));
	assert_int_equal(get(b, 0x40), 0);
	assert_int_equal(get(b, B), H24);
	assert_int_equal(rtc_get_time(b->dev, &after, &err), 0);
	assert_int_equal(after, before + 90);
}

static void
random_round_trips(void **state)
{
	struct bench *b = *state;

	srandom(5);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 20; j++) {
			if (random() % 3 == 0)
				(void)get(b, random() % 128);
			else
				set(b, random() % 14, random());
			if (random() % 4 == 0)
				set(b, B, random() & ~SET);
			if (random() % 8 == 0)
				set(b, A, 0x20 | random() % 16);
			if (random() % 16 == 0)
				set_date(b, KNOWN_DATE);
			bench_advance(b, random() % (2 * NS_PER_SEC));
		}
		bench_round_trip(b);
	}
}

static void
forged_state_is_refused(void **state)
{
	struct bench *b = *state;
	struct buf saved = { 0 };
	size_t len = 1 + 128 + 1 + 3 * 8;
	uint8_t *fields, *regs;

	bench_save(b, &saved);
	fields = saved.data + saved.len - len;
	regs = fields + 1;
	assert_int_equal(bench_load(b, fields, len), 0);
	assert_int_equal(bench_load(b, fields, len - 1), -EINVAL);
	fields[0] = 128;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	fields[0] = 127;
	regs[A] |= UIP;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	regs[A] &= ~UIP;
	regs[D] = 0;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	regs[D] = 0x80;
	regs[C] = 0x01;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	regs[C] = IRQF;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	regs[C] = PF;
	regs[B] = PIE;
	assert_int_equal(bench_load(b, fields, len), -EINVAL);
	regs[C] = PF | IRQF;
	assert_int_equal(bench_load(b, fields, len), 0);
	assert_true(bench_line(b, 8));
	/* Whatever the times are: no harm. */
	srandom(6);
	for (unsigned i = 0; i < 2000; i++) {
		regs[A] = 0x20 | random() % 16;
		regs[B] = random() & ~SET;
		regs[C] = 0;
		for (unsigned j = 0; j < 24; j++)
			fields[130 + j] = random() % 4 == 0 ? 0xff : random();
		assert_int_equal(bench_load(b, fields, len), 0);
		(void)date(b);
		bench_advance(b, 100 * MS);
		(void)get(b, C);
		set(b, A, 0x60);
		set(b, A, 0x23);
		bench_advance(b, MS);
	}
	buf_fini(&saved);
}

/* A forged machine clock, far on and near its end: no storm. */
static void
at_the_end_of_time(void **state)
{
	struct bench *b = *state;

	set(b, A, 0x23);
	set(b, B, PIE | UIE | AIE | H24);
	for (unsigned shift = 0; shift < 24; shift++) {
		clock_set(vm_clock(b->vm), CLOCK_MAX_NS - (BIT(39) << shift));
		for (unsigned i = 0; i < 10; i++) {
			(void)get(b, C);
			bench_advance(b, MS);
		}
		assert_in_range(bench_irqs(b, 8), 0, 11);
	}
}

static void
hammered(void **state)
{
	const struct bench_range range = { BUS_PORT, INDEX, 2 };

	bench_hammer(*state, &range, 1, 50000, 7);
}

BENCH_MAIN("rtc", BENCH_TEST(after_power_on), BENCH_TEST(host_time),
    BENCH_TEST(memory_size), BENCH_TEST(nvram), BENCH_TEST(the_clock_goes),
    BENCH_TEST(calendar), BENCH_TEST(leap_years), BENCH_TEST(formats),
    BENCH_TEST(dates_that_do_not_exist), BENCH_TEST(set_stops_updates),
    BENCH_TEST(the_divider), BENCH_TEST(the_divider_at_once),
    BENCH_TEST(update_in_progress), BENCH_TEST(update_interrupt),
    BENCH_TEST(periodic_interrupt), BENCH_TEST(periodic_frequency),
    BENCH_TEST(alarm_interrupt), BENCH_TEST(alarms_are_found),
    BENCH_TEST(no_needless_timers), BENCH_TEST(a_reset_is_a_power_on),
    BENCH_TEST(random_round_trips), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(at_the_end_of_time), BENCH_TEST(hammered))
