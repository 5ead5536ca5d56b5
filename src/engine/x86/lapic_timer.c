/*
 * The local APIC's timer.
 *
 * Models       SDM volume 3, 11.5.4: one-shot, periodic and TSC-deadline.  The
 *              bus clock is bhyve's, 2^27 Hz.
 * Time         One tick of it is 1953125 / 2^18 ns, so all is counted in units
 *              of 2^-18 ns and nothing drifts.  Nothing is counted down: the
 *              registers follow from when the count began.
 * States       One-shot and periodic timers are wholly in the registers: a
 *              one-shot timer runs while its current count is not 0, a periodic
 *              one while its initial count is not 0.  So a one-shot timer that
 *              has expired and is made periodic begins a period.
 * Differences  A periodic timer with a period below PERIOD_MIN_NS keeps its
 *              phase, but skips expiries: a guest cannot have its processor do
 *              nothing else.
 *              After PERIODS_SEEN_NS without a look at it a periodic timer may
 *              lose its phase.
 *              Timer mode 3 is reserved; here it is a timer that stands still.
 * Threads      the owner's.
 */
#include "engine/x86/lapic_impl.h"

enum {
	TIMER_ONE_SHOT,
	TIMER_PERIODIC,
	TIMER_DEADLINE,
};

#define UNIT_BITS 18
#define UNITS_PER_TICK 1953125ULL
#define UNITS_MAX BIT(63)
#define PERIODS_SEEN_NS (UNITS_MAX >> UNIT_BITS)
#define PERIOD_MIN_NS 10000

#define DIVIDE_MASK 0xbu

static unsigned
timer_mode(const struct lapic *lapic)
{
	return LAPIC_LVT_TIMER_MODE(lapic->reg[LAPIC_LVT_TIMER]);
}

/* Divide configuration: bits 3, 1 and 0 are the power of 2 less 1; 7: none. */
static uint64_t
tick_units(const struct lapic *lapic)
{
	uint32_t divide = lapic->reg[LAPIC_TIMER_DIVIDE];
	unsigned power = ((divide & 3) | (divide >> 1 & 4)) + 1;

	return UNITS_PER_TICK << (power & 7);
}

/* At most 2^60. */
static uint64_t
period_units(const struct lapic *lapic)
{
	return lapic->reg[LAPIC_TIMER_INITIAL] * tick_units(lapic);
}

/* The count was the initial one this long before `now`. */
static void
timer_begin(struct lapic *lapic, uint64_t now, uint64_t elapsed)
{
	struct lapic_timer *timer = &lapic->timer;
	uint64_t back = elapsed + BIT(UNIT_BITS) - 1;

	/* Up to the next whole nanosecond, and the rest forward again. */
	timer->start_ns = now - (back >> UNIT_BITS);
	timer->start_frac = ~back & (BIT(UNIT_BITS) - 1);
}

static uint64_t
timer_elapsed(const struct lapic *lapic, uint64_t now)
{
	const struct lapic_timer *timer = &lapic->timer;
	uint64_t ns = now - timer->start_ns; /* time 0 may be in between */

	if ((int64_t)ns <= 0)
		return 0;
	if (ns >= PERIODS_SEEN_NS)
		return UNITS_MAX;
	return (ns << UNIT_BITS) - timer->start_frac;
}

/* Let happen what was due by now. */
static void
timer_settle(struct lapic *lapic)
{
	struct lapic_timer *timer = &lapic->timer;
	uint64_t period, elapsed, now;

	if (timer->deadline != 0) {
		if (lapic->ops->tsc(lapic->arg) < timer->deadline)
			return;
		timer->deadline = 0;
	} else {
		if (!timer->runs)
			return;
		now = lapic->ops->now(lapic->arg);
		elapsed = timer_elapsed(lapic, now);
		period = period_units(lapic);
		if (elapsed < period)
			return;
		if (timer_mode(lapic) == TIMER_PERIODIC) {
			timer_begin(lapic, now, elapsed % period);
			timer->quiet_ns = now + PERIOD_MIN_NS;
		} else {
			timer->runs = false;
		}
	}
	lapic_lvt_deliver(lapic, LAPIC_LVT_TIMER);
}

/* Nobody needs to be told of an expiry that is masked. */
static void
timer_arm(struct lapic *lapic)
{
	const struct lapic_timer *timer = &lapic->timer;
	bool masked = lapic->reg[LAPIC_LVT_TIMER] & LAPIC_LVT_MASKED;
	uint64_t due = UINT64_MAX;

	if (!masked && timer->deadline != 0) {
		uint64_t now = lapic->ops->now(lapic->arg);

		due = lapic->ops->tsc_to_ns(lapic->arg, timer->deadline);
		due = MAX(due, now + 1); /* the way back may round down */
	} else if (!masked && timer->runs) {
		uint64_t units = period_units(lapic) + timer->start_frac;

		due = timer->start_ns +
		    ((units + BIT(UNIT_BITS) - 1) >> UNIT_BITS);
		if (timer_mode(lapic) == TIMER_PERIODIC)
			due = MAX(due, timer->quiet_ns);
	}
	lapic->ops->set_timer(lapic->arg, due);
}

void
lapic_timer_due(struct lapic *lapic)
{
	timer_settle(lapic);
	timer_arm(lapic);
}

void
lapic_timer_stop(struct lapic *lapic)
{
	struct lapic_timer *timer = &lapic->timer;

	if (!timer->runs && timer->deadline == 0)
		return; /* nor is it armed */
	timer->runs = false;
	timer->deadline = 0;
	timer_arm(lapic);
}

uint32_t
lapic_timer_count(const struct lapic *lapic)
{
	uint32_t initial = lapic->reg[LAPIC_TIMER_INITIAL];
	uint64_t elapsed, period;

	if (!lapic->timer.runs)
		return 0;
	elapsed = timer_elapsed(lapic, lapic->ops->now(lapic->arg));
	period = period_units(lapic);
	if (elapsed >= period) {
		if (timer_mode(lapic) != TIMER_PERIODIC)
			return 0;
		elapsed %= period;
	}
	return initial - (uint32_t)(elapsed / tick_units(lapic));
}

/*
 * KVM saves a periodic timer's count as 0 in its last tick, and in short
 * periods, which it prolongs, as more than there is.
 */
void
lapic_timer_resume(struct lapic *lapic, uint32_t count)
{
	uint32_t initial = lapic->reg[LAPIC_TIMER_INITIAL];
	unsigned mode = timer_mode(lapic);

	if (mode == TIMER_PERIODIC && count == 0)
		count = initial;
	count = MIN(count, initial);
	lapic->timer.runs = mode <= TIMER_PERIODIC && count != 0;
	lapic->timer.quiet_ns = 0;
	timer_begin(lapic, lapic->ops->now(lapic->arg),
	    (initial - count) * tick_units(lapic));
	timer_arm(lapic);
}

/* Ignored in TSC-deadline mode. */
void
lapic_timer_set_initial(struct lapic *lapic, uint32_t count)
{
	if (timer_mode(lapic) > TIMER_PERIODIC)
		return;
	timer_settle(lapic);
	lapic->reg[LAPIC_TIMER_INITIAL] = count;
	lapic_timer_resume(lapic, count);
}

/* The count goes on at another pace. */
void
lapic_timer_set_divide(struct lapic *lapic, uint32_t divide)
{
	uint32_t count;

	timer_settle(lapic);
	count = lapic_timer_count(lapic);
	lapic->reg[LAPIC_TIMER_DIVIDE] = divide & DIVIDE_MASK;
	lapic_timer_resume(lapic, count);
}

/* Into TSC-deadline mode or out of it the timer stops. */
void
lapic_timer_set_lvt(struct lapic *lapic, uint32_t lvt)
{
	unsigned old = timer_mode(lapic);
	unsigned mode = LAPIC_LVT_TIMER_MODE(lvt);

	timer_settle(lapic);
	lapic->reg[LAPIC_LVT_TIMER] = lvt;
	if (mode != old && MAX(mode, old) > TIMER_PERIODIC) {
		lapic->reg[LAPIC_TIMER_INITIAL] = 0;
		lapic_timer_stop(lapic);
	} else if (mode == TIMER_PERIODIC && !lapic->timer.runs) {
		lapic_timer_resume(lapic, 0);
	} else {
		timer_arm(lapic);
	}
}

uint64_t
lapic_timer_get_deadline(struct lapic *lapic)
{
	timer_settle(lapic);
	return lapic->timer.deadline;
}

/* In other modes the MSR reads 0 and writes are ignored. */
void
lapic_timer_set_deadline(struct lapic *lapic, uint64_t tsc)
{
	if (timer_mode(lapic) != TIMER_DEADLINE)
		return;
	timer_settle(lapic);
	lapic->timer.deadline = tsc;
	lapic_timer_due(lapic);
}
