/*
 * The machine clock.
 *
 * While started, machine time is CLOCK_MONOTONIC plus `offset_ns`; while
 * stopped it stands at `stopped_ns`.  By hand, it stands where it was put.
 * Armed timers are a list in order of deadline: a machine has a few dozen.  One
 * event of the loop waits for the first of them.
 *
 * Firing takes a timer off the list under the clock's lock and marks it due,
 * drops that lock, takes the timer's own, and looks again: arming or disarming
 * meanwhile cleared the mark (invariant 2 of clock.h).
 */
#include <errno.h>
#include <time.h>

#include "base/alloc.h"
#include "vm/clock.h"

/* Firings in one go before the loop looks at its other sources again. */
#define CLOCK_BATCH 64

struct clock {
	struct lock lock;
	TAILQ_HEAD(clock_queue, clock_timer) armed;
	struct event *event; /* owned; NULL: moved by hand */
	bool started;
	uint64_t offset_ns; /* while started: machine minus host time */
	uint64_t stopped_ns;
	uint64_t waiting_ns; /* deadline that the event is armed for, or max */
};

static uint64_t
clock_host_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t
clock_now_locked(struct clock *clock)
{
	assert(lock_held(&clock->lock));
	if (!clock->started || clock->event == NULL)
		return clock->stopped_ns;
	return clock_host_ns() + clock->offset_ns;
}

/* Have the event wait for the first timer, if that has changed. */
static void
clock_rearm_locked(struct clock *clock)
{
	const struct clock_timer *first = TAILQ_FIRST(&clock->armed);
	uint64_t now;

	if (clock->event == NULL)
		return;
	if (!clock->started || first == NULL) {
		if (clock->waiting_ns != UINT64_MAX)
			event_disarm(clock->event);
		clock->waiting_ns = UINT64_MAX;
		return;
	}
	if (clock->waiting_ns == first->deadline_ns)
		return;
	clock->waiting_ns = first->deadline_ns;
	now = clock_now_locked(clock);
	event_arm(clock->event,
	    first->deadline_ns > now ? first->deadline_ns - now : 0, 0);
}

/* Fire the first timer if it is due at `now`. */
static bool
clock_fire_one(struct clock *clock, uint64_t now)
{
	struct clock_timer *timer;
	bool run;

	lock_take(&clock->lock);
	timer = TAILQ_FIRST(&clock->armed);
	if (timer == NULL || timer->deadline_ns > now) {
		lock_drop(&clock->lock);
		return false;
	}
	TAILQ_REMOVE(&clock->armed, timer, link);
	timer->armed = false;
	timer->due = true;
	if (clock->event == NULL && timer->deadline_ns > clock->stopped_ns)
		clock->stopped_ns = timer->deadline_ns;
	lock_drop(&clock->lock);

	lock_take(timer->lock);
	lock_take(&clock->lock);
	run = timer->due;
	timer->due = false;
	lock_drop(&clock->lock);
	if (run)
		timer->fn(timer->arg);
	lock_drop(timer->lock);
	return true;
}

/* The loop's timer has run out. */
static void
clock_expired(void *arg, uint64_t expirations)
{
	struct clock *clock = arg;
	uint64_t now = clock_now(clock);

	for (unsigned i = 0; i < CLOCK_BATCH && clock_fire_one(clock, now); i++)
		;
	lock_take(&clock->lock);
	clock->waiting_ns = UINT64_MAX;
	clock_rearm_locked(clock);
	lock_drop(&clock->lock);
}

int
clock_new(struct loop *loop, struct clock **clockp, struct err *err)
{
	struct clock *clock = xcalloc(1, sizeof(*clock));
	int error;

	lock_init(&clock->lock);
	TAILQ_INIT(&clock->armed);
	clock->waiting_ns = UINT64_MAX;
	if (loop != NULL) {
		error = event_add_timer(loop, clock_expired, clock,
		    &clock->event, err);
		if (error < 0) {
			clock_free(clock);
			return error;
		}
	}
	*clockp = clock;
	return 0;
}

void
clock_free(struct clock *clock)
{
	if (clock == NULL)
		return;
	event_remove(clock->event);
	lock_fini(&clock->lock);
	free(clock);
}

uint64_t
clock_now(struct clock *clock)
{
	uint64_t now;

	lock_take(&clock->lock);
	now = clock_now_locked(clock);
	lock_drop(&clock->lock);
	return now;
}

void
clock_start(struct clock *clock)
{
	lock_take(&clock->lock);
	if (!clock->started) {
		clock->offset_ns = clock->stopped_ns - clock_host_ns();
		clock->started = true;
		clock_rearm_locked(clock);
	}
	lock_drop(&clock->lock);
}

void
clock_stop(struct clock *clock)
{
	lock_take(&clock->lock);
	if (clock->started) {
		clock->stopped_ns = clock_now_locked(clock);
		clock->started = false;
		clock_rearm_locked(clock);
	}
	lock_drop(&clock->lock);
}

void
clock_set(struct clock *clock, uint64_t now_ns)
{
	lock_take(&clock->lock);
	assert(!clock->started || clock->event == NULL);
	assert(now_ns < CLOCK_MAX_NS);
	clock->stopped_ns = now_ns;
	lock_drop(&clock->lock);
}

void
clock_advance(struct clock *clock, uint64_t ns)
{
	uint64_t target;

	assert(clock->event == NULL);
	target = clock_now(clock) + ns;
	while (clock_fire_one(clock, target))
		;
	lock_take(&clock->lock);
	clock->stopped_ns = target;
	lock_drop(&clock->lock);
}

uint64_t
clock_next(struct clock *clock)
{
	const struct clock_timer *first;
	uint64_t next;

	lock_take(&clock->lock);
	first = TAILQ_FIRST(&clock->armed);
	next = first != NULL ? first->deadline_ns : UINT64_MAX;
	lock_drop(&clock->lock);
	return next;
}

void
clock_timer_init(struct clock_timer *timer, struct clock *clock,
    struct lock *lock, clock_timer_fn *fn, void *arg)
{
	*timer = (struct clock_timer) { .clock = clock,
		.lock = lock,
		.fn = fn,
		.arg = arg };
}

static void
clock_timer_disarm_locked(struct clock_timer *timer)
{
	if (timer->armed)
		TAILQ_REMOVE(&timer->clock->armed, timer, link);
	timer->armed = false;
	timer->due = false;
}

void
clock_forget(struct clock *clock, struct lock *lock)
{
	struct clock_timer *timer, *next;

	lock_take(&clock->lock);
	for (timer = TAILQ_FIRST(&clock->armed); timer != NULL; timer = next) {
		next = TAILQ_NEXT(timer, link);
		if (timer->lock == lock)
			clock_timer_disarm_locked(timer);
	}
	clock_rearm_locked(clock);
	lock_drop(&clock->lock);
}

void
clock_timer_arm(struct clock_timer *timer, uint64_t deadline_ns)
{
	struct clock *clock = timer->clock;
	struct clock_timer *before;

	assert(lock_held(timer->lock));
	lock_take(&clock->lock);
	clock_timer_disarm_locked(timer);
	timer->deadline_ns = deadline_ns;
	timer->armed = true;
	/* Behind its equals: who armed first fires first. */
	TAILQ_FOREACH (before, &clock->armed, link) {
		if (before->deadline_ns > deadline_ns)
			break;
	}
	if (before != NULL)
		TAILQ_INSERT_BEFORE(before, timer, link);
	else
		TAILQ_INSERT_TAIL(&clock->armed, timer, link);
	clock_rearm_locked(clock);
	lock_drop(&clock->lock);
}

void
clock_timer_disarm(struct clock_timer *timer)
{
	struct clock *clock = timer->clock;

	assert(lock_held(timer->lock));
	lock_take(&clock->lock);
	clock_timer_disarm_locked(timer);
	clock_rearm_locked(clock);
	lock_drop(&clock->lock);
}

bool
clock_timer_armed(const struct clock_timer *timer)
{
	assert(lock_held(timer->lock));
	return timer->armed || timer->due;
}

uint64_t
clock_ticks_to_ns(uint64_t ticks, uint32_t hz)
{
	unsigned __int128 ns = (unsigned __int128)ticks * NS_PER_SEC / hz;

	return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

uint64_t
clock_ns_to_ticks(uint64_t ns, uint32_t hz)
{
	return (uint64_t)((unsigned __int128)ns * hz / NS_PER_SEC);
}
