/*
 * How timers are measured against the machine clock.
 *
 * A busy host delivers late, so one measurement of several has to agree: of a
 * wrong rate none will.
 */
#ifndef TEST_GUEST_TIMER_H
#define TEST_GUEST_TIMER_H

#include "guest.h"

#define ROUNDS 20

/* Noted by a tick's handler. */
struct ticks {
	volatile unsigned count;
	volatile uint32_t first_us;
	volatile uint32_t last_us;
};

static inline void
tick(struct ticks *t)
{
	uint32_t now = clock_us();

	if (t->count++ == 0)
		t->first_us = now;
	t->last_us = now;
}

/* What measure() finds, within `percent` of want. */
static inline void
check_measure(const char *label, uint32_t (*measure)(void), uint32_t want,
    unsigned percent)
{
	uint32_t slack = want / 100 * percent;
	uint32_t got = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		got = measure();
		if (got >= want - slack && got <= want + slack)
			break;
	}
	check_near(label, got, want, percent);
}

/* The mean of `n` periods, in microseconds. */
static inline void
check_period(const char *label, struct ticks *t, unsigned n, uint32_t want_us,
    unsigned percent)
{
	uint32_t slack = want_us / 100 * percent;
	uint32_t got = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		t->count = 0;
		if (!wait_count(&t->count, n + 1, 20 * n * want_us))
			break;
		got = (t->last_us - t->first_us) / (t->count - 1);
		if (got >= want_us - slack && got <= want_us + slack)
			break;
	}
	check_near(label, got, want_us, percent);
}

/* From now to the next tick, in microseconds; UINT32_MAX if none comes. */
static inline uint32_t
until_tick(struct ticks *t, uint32_t start)
{
	return wait_count(&t->count, 1, 1000000) ? t->last_us - start :
						   UINT32_MAX;
}

#endif
