/*
 * The machine clock: by hand, and on a loop.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vm/clock.h"

struct fixture {
	struct clock *clock;
	struct lock lock;
	struct clock_timer timer[3];
	uint64_t fired_at[3];
	unsigned fired[3];
	unsigned order; /* of the last firings, a decimal digit each */
	struct loop *loop;
};

/* One function for all three: arg tells which by its address. */
struct slot {
	struct fixture *f;
	unsigned i;
};

static void
slot_fired(void *arg)
{
	struct slot *s = arg;

	assert_true(lock_held(&s->f->lock));
	s->f->fired[s->i]++;
	s->f->fired_at[s->i] = clock_now(s->f->clock);
	s->f->order = s->f->order * 10 + s->i;
	if (s->f->loop != NULL)
		loop_stop(s->f->loop);
}

static void
fixture_init(struct fixture *f, struct slot slot[3], struct loop *loop)
{
	struct err err;

	*f = (struct fixture) { .loop = loop };
	lock_init(&f->lock);
	assert_int_equal(clock_new(loop, &f->clock, &err), 0);
	for (unsigned i = 0; i < 3; i++) {
		slot[i] = (struct slot) { f, i };
		clock_timer_init(&f->timer[i], f->clock, &f->lock, slot_fired,
		    &slot[i]);
	}
}

static void
fixture_fini(struct fixture *f)
{
	clock_free(f->clock);
	lock_fini(&f->lock);
}

static void
arm(struct fixture *f, unsigned i, uint64_t deadline_ns)
{
	lock_take(&f->lock);
	clock_timer_arm(&f->timer[i], deadline_ns);
	lock_drop(&f->lock);
}

static void
fires_in_order_at_its_time(void **state)
{
	struct fixture f;
	struct slot slot[3];

	fixture_init(&f, slot, NULL);
	arm(&f, 0, 300);
	arm(&f, 1, 100);
	arm(&f, 2, 300);
	assert_int_equal(clock_next(f.clock), 100);
	clock_advance(f.clock, 99);
	assert_int_equal(f.order, 0);
	clock_advance(f.clock, 1);
	assert_int_equal(f.fired_at[1], 100);
	clock_advance(f.clock, 1000);
	assert_int_equal(f.order, 102);
	assert_int_equal(f.fired_at[0], 300);
	assert_int_equal(f.fired_at[2], 300);
	assert_int_equal(clock_now(f.clock), 1100);
	assert_int_equal(clock_next(f.clock), UINT64_MAX);
	/* One that has passed fires at once, and time does not go back. */
	arm(&f, 0, 5);
	clock_advance(f.clock, 0);
	assert_int_equal(f.fired_at[0], 1100);
	fixture_fini(&f);
}

static void
disarmed_and_rearmed(void **state)
{
	struct fixture f;
	struct slot slot[3];

	fixture_init(&f, slot, NULL);
	arm(&f, 0, 100);
	lock_take(&f.lock);
	assert_true(clock_timer_armed(&f.timer[0]));
	clock_timer_disarm(&f.timer[0]);
	clock_timer_disarm(&f.timer[0]);
	assert_false(clock_timer_armed(&f.timer[0]));
	lock_drop(&f.lock);
	arm(&f, 1, 100);
	arm(&f, 1, 200);
	clock_advance(f.clock, 150);
	assert_int_equal(f.fired[0] + f.fired[1], 0);
	clock_advance(f.clock, 50);
	assert_int_equal(f.fired[1], 1);
	clock_set(f.clock, 7);
	assert_int_equal(clock_now(f.clock), 7);
	fixture_fini(&f);
}

static void
ticks(void **state)
{
	assert_int_equal(clock_ticks_to_ns(1193182, 1193182), NS_PER_SEC);
	assert_int_equal(clock_ns_to_ticks(NS_PER_SEC, 3579545), 3579545);
	assert_int_equal(clock_ticks_to_ns(UINT64_MAX, 1), UINT64_MAX);
	assert_int_equal(clock_ns_to_ticks(UINT64_MAX, 1), 18446744073);
	/* No drift over a year of ticks. */
	assert_int_equal(clock_ns_to_ticks(31536000 * NS_PER_SEC, 1193182),
	    31536000ULL * 1193182);
}

static void
on_a_loop(void **state)
{
	struct fixture f;
	struct slot slot[3];
	struct err err;
	struct loop *loop = loop_new(&err);
	uint64_t stopped;

	assert_non_null(loop);
	fixture_init(&f, slot, loop);
	arm(&f, 0, 2000000);
	assert_int_equal(clock_now(f.clock), 0);
	clock_start(f.clock);
	loop_run(loop);
	assert_int_equal(f.fired[0], 1);
	assert_true(f.fired_at[0] >= 2000000);
	/* Stopped time stands, and nothing fires in it. */
	clock_stop(f.clock);
	stopped = clock_now(f.clock);
	arm(&f, 1, stopped);
	loop_run_once(loop, 5);
	assert_int_equal(f.fired[1], 0);
	assert_int_equal(clock_now(f.clock), stopped);
	clock_start(f.clock);
	loop_run(loop);
	assert_int_equal(f.fired[1], 1);
	fixture_fini(&f);
	loop_free(loop);
}

/* Arming, from another thread, what the loop is about to fire. */
struct race {
	struct fixture *f;
};

static void *
race_main(void *arg)
{
	struct race *r = arg;

	for (unsigned i = 0; i < 5000; i++) {
		lock_take(&r->f->lock);
		clock_timer_arm(&r->f->timer[0], clock_now(r->f->clock));
		if (i % 3 == 0)
			clock_timer_disarm(&r->f->timer[0]);
		lock_drop(&r->f->lock);
	}
	arm(r->f, 1, 0); /* ends the race */
	return NULL;
}

static void
armed_from_another_thread(void **state)
{
	struct fixture f;
	struct slot slot[3];
	struct err err;
	struct loop *loop = loop_new(&err);
	struct race race = { .f = &f };
	pthread_t thread;

	assert_non_null(loop);
	fixture_init(&f, slot, loop);
	clock_start(f.clock);
	assert_int_equal(pthread_create(&thread, NULL, race_main, &race), 0);
	while (f.fired[1] == 0)
		loop_run(loop);
	pthread_join(thread, NULL);
	/* Each arming fires at most once. */
	assert_true(f.fired[0] <= 5000);
	assert_int_equal(f.fired[1], 1);
	fixture_fini(&f);
	loop_free(loop);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fires_in_order_at_its_time),
		cmocka_unit_test(disarmed_and_rearmed),
		cmocka_unit_test(ticks),
		cmocka_unit_test(on_a_loop),
		cmocka_unit_test(armed_from_another_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
