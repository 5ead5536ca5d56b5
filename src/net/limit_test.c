/*
 * Rate limits: how they are written, and that they hold, with time by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>

#include "net/net_impl.h"

#define SOME_TIME (77 * NS_PER_SEC + 1)

static void
rates_are_parsed(void **state)
{
	static const struct {
		const char *text;
		uint64_t bits;
	} good[] = {
		{ "0", 0 },
		{ "8000", 8000 },
		{ "8K", 8000 },
		{ "500k", 500000 },
		{ "20M", 20000000 },
		{ "1g", 1000000000 },
		{ "1000G", 1000000000000 },
	};
	static const char *const bad[] = { "", "K", "-1", "+5M", "1T", "1MM",
		"1.5M", " 8K", "7999", "1K", "1001G", "99999999999999999999",
		"18446744073709551615G" };
	struct err err;
	uint64_t bits;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(limit_parse(good[i].text, &bits, &err), 0);
		assert_int_equal(bits, good[i].bits);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_true(limit_parse(bad[i], &bits, &err) < 0);
}

static void
no_rate_is_no_limit(void **state)
{
	struct limit limit;

	limit_init(&limit, 0, 0, SOME_TIME);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(limit_wait(&limit, SOME_TIME), 0);
		limit_charge(&limit, NET_FRAME_MAX);
	}
}

static void
a_burst_passes_then_the_rate_holds(void **state)
{
	uint64_t now = SOME_TIME, sent = 0, wait;
	struct limit limit;

	/* 8 Mb/s is a byte a microsecond; the burst is 100 frames. */
	limit_init(&limit, 8000000, 100 * 1000 * 8, now);
	while (limit_wait(&limit, now) == 0) {
		limit_charge(&limit, 1000);
		sent++;
	}
	assert_int_equal(sent, 101);
	assert_int_equal(limit_wait(&limit, now), 1000000);
	/* For ten seconds do what it says. */
	for (sent = 0; now < SOME_TIME + 10 * NS_PER_SEC; sent++) {
		wait = limit_wait(&limit, now);
		now += wait;
		assert_int_equal(limit_wait(&limit, now), 0);
		limit_charge(&limit, 1000);
	}
	assert_in_range(sent, 9999, 10001);
}

static void
idle_time_earns_no_more_than_the_burst(void **state)
{
	struct limit limit;
	unsigned sent = 0;

	limit_init(&limit, 8000000, 80000, SOME_TIME);
	while (limit_wait(&limit, SOME_TIME + 3600 * NS_PER_SEC) == 0) {
		limit_charge(&limit, 1000);
		sent++;
	}
	assert_int_equal(sent, 11);
}

static void
a_frame_above_the_burst_is_only_late(void **state)
{
	struct limit limit;

	limit_init(&limit, 8000, 8, SOME_TIME);
	assert_int_equal(limit_wait(&limit, SOME_TIME), 0);
	limit_charge(&limit, 10001);
	assert_int_equal(limit_wait(&limit, SOME_TIME), 10 * NS_PER_SEC);
	assert_int_equal(limit_wait(&limit, SOME_TIME + 10 * NS_PER_SEC - 1),
	    1);
	assert_int_equal(limit_wait(&limit, SOME_TIME + 10 * NS_PER_SEC), 0);
}

static void
fractions_of_a_bit_add_up(void **state)
{
	struct limit limit;
	uint64_t now = SOME_TIME;

	/* Asked each 100 ns, 0.0008 bits come at a time. */
	limit_init(&limit, 8000, 8, now);
	limit_charge(&limit, 2);
	while (limit_wait(&limit, now) != 0)
		now += 100;
	assert_in_range(now - SOME_TIME, NS_PER_SEC / 1000,
	    NS_PER_SEC / 1000 + 100);
}

static void
time_that_stands_still_earns_nothing(void **state)
{
	struct limit limit;

	limit_init(&limit, 8000, 8000, SOME_TIME);
	limit_charge(&limit, 1001);
	assert_true(limit_wait(&limit, SOME_TIME) > 0);
	assert_true(limit_wait(&limit, SOME_TIME - NS_PER_SEC) > 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rates_are_parsed),
		cmocka_unit_test(no_rate_is_no_limit),
		cmocka_unit_test(a_burst_passes_then_the_rate_holds),
		cmocka_unit_test(idle_time_earns_no_more_than_the_burst),
		cmocka_unit_test(a_frame_above_the_burst_is_only_late),
		cmocka_unit_test(fractions_of_a_bit_add_up),
		cmocka_unit_test(time_that_stands_still_earns_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
