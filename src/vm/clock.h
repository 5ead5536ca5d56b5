/*
 * The machine clock: nanoseconds that pass only while the machine runs.
 *
 * All timers of devices are events of this clock.  On a real machine it follows
 * CLOCK_MONOTONIC while started; on the bench a test moves it by hand.
 *
 * Threads      Any thread may read the clock and arm timers.  A timer's
 *              function runs on the event loop's thread (on the bench: inside
 *              clock_advance()) with the timer's lock held.  The clock's own
 *              lock is a leaf.
 * Invariants   1. The clock never goes back but by clock_set().
 *              2. A timer disarmed or re-armed under its lock does not fire for
 *                 the deadline it had before.
 *              3. Timers fire in order of deadline; by hand, the clock shows
 *                 the deadline while the timer runs.
 */
#ifndef VM_CLOCK_H
#define VM_CLOCK_H

#include <sys/queue.h>

#include "base/err.h"
#include "base/lock.h"
#include "event/event.h"

struct clock;

/* loop NULL: moved by hand.  Starts stopped, at 0. */
int clock_new(struct loop *loop, struct clock **clock, struct err *err);
void clock_free(struct clock *clock);

uint64_t clock_now(struct clock *clock);
void clock_start(struct clock *clock);
void clock_stop(struct clock *clock);
/* For a restored state, while stopped.  No machine runs for CLOCK_MAX_NS. */
#define CLOCK_MAX_NS BIT(63)
void clock_set(struct clock *clock, uint64_t now_ns);
/* By hand only: move on, firing what falls due. */
void clock_advance(struct clock *clock, uint64_t ns);
/* By hand only: the next deadline, UINT64_MAX if none is armed. */
uint64_t clock_next(struct clock *clock);

typedef void clock_timer_fn(void *arg);

/* Embedded in its owner's state; fields are the clock's own. */
struct clock_timer {
	struct clock *clock;
	struct lock *lock;
	clock_timer_fn *fn;
	void *arg;
	uint64_t deadline_ns;
	bool armed;
	bool due; /* taken off the queue, about to run */
	TAILQ_ENTRY(clock_timer) link;
};

/* Disarm every timer of this lock, for good: its owner goes. */
void clock_forget(struct clock *clock, struct lock *lock);

/* lock is held around fn; all calls below are made with it held. */
void clock_timer_init(struct clock_timer *timer, struct clock *clock,
    struct lock *lock, clock_timer_fn *fn, void *arg);
/* An absolute time of this clock; one that has passed fires soon. */
void clock_timer_arm(struct clock_timer *timer, uint64_t deadline_ns);
void clock_timer_disarm(struct clock_timer *timer);
bool clock_timer_armed(const struct clock_timer *timer);

/*
 * No periodic timer runs faster than this, whatever a guest programs: a device
 * counts the periods that fall into one firing instead.
 */
#define CLOCK_MIN_PERIOD_NS 50000u

/* ticks * NS_PER_SEC / hz and back, without overflow for any 64-bit value. */
uint64_t clock_ticks_to_ns(uint64_t ticks, uint32_t hz);
uint64_t clock_ns_to_ticks(uint64_t ns, uint32_t hz);

#endif
