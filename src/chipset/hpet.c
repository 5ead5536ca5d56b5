/*
 * HPET: the high precision event timers.
 *
 * Models       IA-PC HPET specification 1.0a with bhyve's parameters: eight
 *              comparators, all periodic and able to send messages (FSB), a
 *              main counter of 32 bits at 16777216 Hz, interrupts on I/O APIC
 *              pins 24 to 31, at 0xfed00000.
 * Leaves out   legacy replacement, which the capabilities deny.
 * Accesses     aligned, 4 or 8 bytes; any other reads 0 and writes nothing.
 * Departures   The main counter ignores writes while it runs; the spec calls
 *              them undefined.
 *              A route that a comparator does not have leaves the old one.
 *              A raised level falls when its comparator, or the whole, is
 *              disabled, or routed elsewhere; the status bit stays.  It goes
 *              with the level trigger.
 * Locking      the device lock, held at every entry; the irq lock is a leaf.
 *
 * Time.  As in the PIT nothing is counted: a tick is 1 / 16777216 s of the
 * machine clock.  While enabled, the counter is `counter` plus the ticks since
 * `start`.  A comparator knows the tick of its next match (`match`);
 * hpet_sync() begins every entry and delivers the matches that are past, those
 * of one comparator as one.  A match that is missed comes back when the counter
 * has gone round, after 256 s, as in any such chip; so a comparator that is set
 * to the past makes no storm.
 *
 * Invariants   1. While the counter runs, match[n] is the first tick, from the
 *                 last sync on, at which the counter equals comparator n.
 *              2. A comparator fires at most every CLOCK_MIN_PERIOD_NS by
 *                 itself: shorter periods are taken several at a time (stride).
 *              3. A status bit is set only for a comparator that is
 *                 level-triggered.
 */
#include <errno.h>

#include "base/util.h"
#include "chipset/ticks.h"
#include "irq/irq.h"
#include "vm/device.h"
#include "vm/platform.h"

#define HPET_SIZE 0x400
#define HPET_CAP 0x000
#define HPET_CONFIG 0x010
#define HPET_STATUS 0x020
#define HPET_COUNTER 0x0f0
#define HPET_TIMER 0x100 /* the first; each has 0x20 bytes */
#define HPET_TIMER_SIZE 0x20
#define HPET_TIMER_CONFIG 0x00
#define HPET_TIMER_COMPARATOR 0x08
#define HPET_TIMER_FSB 0x10

#define HPET_TIMERS 8
/* Vendor 8086, one 32-bit counter, 8 comparators, revision 1; the period. */
#define HPET_CAP_LOW 0x80860701ULL
#define HPET_PERIOD_FS 59604644ULL
_Static_assert(HPET_PERIOD_FS == 1000000000000000ULL / PLAT_HPET_HZ,
    "the period that the guest reads is the one we count");

#define HPET_CONFIG_ENABLE 0x1
#define HPET_TN_LEVEL BIT(1)
#define HPET_TN_ENABLE BIT(2)
#define HPET_TN_PERIODIC BIT(3)
#define HPET_TN_PER_CAP BIT(4)
#define HPET_TN_VAL_SET BIT(6)
#define HPET_TN_ROUTE(config) ((config) >> 9 & 31)
#define HPET_TN_ROUTE_MASK (31ULL << 9)
#define HPET_TN_FSB BIT(14)
#define HPET_TN_FSB_CAP BIT(15)
#define HPET_TN_CAP (HPET_TN_PER_CAP | HPET_TN_FSB_CAP)
#define HPET_TN_WRITABLE                                                       \
	(HPET_TN_LEVEL | HPET_TN_ENABLE | HPET_TN_PERIODIC | HPET_TN_VAL_SET | \
	    HPET_TN_ROUTE_MASK | HPET_TN_FSB)

#define HPET_PINS 8
#define HPET_FIRST_PIN 24
#define HPET_ROUTES (0xffULL << HPET_FIRST_PIN)

/* Rounded up: a period of so many ticks is no storm. */
#define HPET_MIN_TICKS \
	(CLOCK_MIN_PERIOD_NS * (uint64_t)PLAT_HPET_HZ / NS_PER_SEC + 1)

struct hpet {
	struct irq_chip *chip; /* borrowed: outlives every device */
	struct clock *clock;   /* borrowed: outlives every device */
	/* Not saved, for they follow from the rest. */
	struct irq_line pin[HPET_PINS]; /* what all comparators do to it */
	struct clock_timer timer;
	bool enabled;
	uint8_t status;
	uint32_t counter;
	uint64_t start;
	uint16_t config[HPET_TIMERS];
	uint32_t comparator[HPET_TIMERS];
	uint32_t period[HPET_TIMERS];
	uint64_t fsb[HPET_TIMERS]; /* address in the upper half, data */
	uint64_t match[HPET_TIMERS];
};

static const struct field hpet_state[] = {
	STATE_BOOL(struct hpet, enabled, false),
	STATE_INT(struct hpet, status, 0),
	STATE_INT(struct hpet, counter, 0),
	STATE_INT(struct hpet, start, 0),
	STATE_ARRAY(struct hpet, config, HPET_TN_CAP),
	STATE_ARRAY(struct hpet, comparator, UINT32_MAX),
	STATE_ARRAY(struct hpet, period, 0),
	STATE_ARRAY(struct hpet, fsb, 0),
	STATE_ARRAY(struct hpet, match, 0),
};

/* ---- interrupts ---------------------------------------------------------- */

static bool
is_periodic(const struct hpet *hpet, unsigned n)
{
	return (hpet->config[n] & HPET_TN_PERIODIC) && hpet->period[n] != 0;
}

/* Does comparator n drive its pin by level? */
static bool
is_level(const struct hpet *hpet, unsigned n)
{
	return (hpet->config[n] & HPET_TN_LEVEL) &&
	    !(hpet->config[n] & HPET_TN_FSB);
}

static struct irq_line *
pin_of(struct hpet *hpet, unsigned n)
{
	unsigned route = HPET_TN_ROUTE(hpet->config[n]);

	return route >= HPET_FIRST_PIN ? &hpet->pin[route - HPET_FIRST_PIN] :
					 NULL;
}

/* The pins follow status, configuration and routes. */
static void
update_pins(struct hpet *hpet)
{
	bool asserted[HPET_PINS] = { false };

	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		const struct irq_line *pin = pin_of(hpet, n);

		if (pin != NULL && hpet->enabled && is_level(hpet, n) &&
		    (hpet->config[n] & HPET_TN_ENABLE) &&
		    (hpet->status & BIT(n)))
			asserted[pin - hpet->pin] = true;
	}
	for (unsigned i = 0; i < HPET_PINS; i++)
		irq_line_set(&hpet->pin[i], asserted[i]);
}

static void
fire(struct hpet *hpet, unsigned n)
{
	struct irq_line *pin = pin_of(hpet, n);

	if (is_level(hpet, n)) {
		hpet->status |= BIT(n);
		update_pins(hpet);
	} else if (!(hpet->config[n] & HPET_TN_ENABLE)) {
		return;
	} else if (hpet->config[n] & HPET_TN_FSB) {
		/* A message that has no target is lost, as on a bus. */
		(void)irq_send_msi(hpet->chip, hpet->fsb[n] >> 32,
		    (uint32_t)hpet->fsb[n]);
	} else if (pin != NULL && !pin->asserted) {
		irq_line_pulse(pin);
	}
}

/* ---- the passing of time ------------------------------------------------- */

static uint64_t
hpet_now(const struct hpet *hpet)
{
	return clock_ns_to_ticks(clock_now(hpet->clock), PLAT_HPET_HZ);
}

static uint32_t
counter_at(const struct hpet *hpet, uint64_t now)
{
	return hpet->counter + (hpet->enabled ? now - hpet->start : 0);
}

/* The first tick from `from` on at which the counter equals comparator n. */
static void
set_match(struct hpet *hpet, unsigned n, uint64_t from)
{
	hpet->match[n] =
	    from + (uint32_t)(hpet->comparator[n] - counter_at(hpet, from));
}

/* Ticks between two firings of a periodic comparator. */
static uint64_t
stride(const struct hpet *hpet, unsigned n)
{
	uint64_t period = hpet->period[n];

	return (HPET_MIN_TICKS + period - 1) / period * period;
}

/* Comparator n has matched, at the latest now: go on to the next match. */
static void
advance(struct hpet *hpet, unsigned n, uint64_t now)
{
	uint64_t step;

	if (is_periodic(hpet, n)) {
		step = stride(hpet, n);
		step *= (now - hpet->match[n]) / step + 1;
		hpet->comparator[n] += step;
		hpet->match[n] += step;
	} else {
		set_match(hpet, n, now + 1);
	}
}

/* Would a match of comparator n be heard? */
static bool
is_heard(const struct hpet *hpet, unsigned n)
{
	uint16_t config = hpet->config[n];

	if (!(config & HPET_TN_ENABLE))
		return false;
	if (is_level(hpet, n) && (hpet->status & BIT(n)))
		return false;
	return (config & HPET_TN_FSB) || HPET_TN_ROUTE(config) != 0;
}

/* Wait for the first match that would be heard. */
static void
reschedule(struct hpet *hpet)
{
	uint64_t match = UINT64_MAX, deadline;

	for (unsigned n = 0; hpet->enabled && n < HPET_TIMERS; n++) {
		if (is_heard(hpet, n))
			match = MIN(match, hpet->match[n]);
	}
	deadline = ticks_deadline(match, PLAT_HPET_HZ);
	if (deadline < UINT64_MAX)
		clock_timer_arm(&hpet->timer, deadline);
	else
		clock_timer_disarm(&hpet->timer);
}

/* Deliver what is past; the tick that it is. */
static uint64_t
hpet_sync(struct hpet *hpet)
{
	uint64_t now = hpet_now(hpet);

	for (unsigned n = 0; hpet->enabled && n < HPET_TIMERS; n++) {
		if (hpet->match[n] <= now) {
			fire(hpet, n);
			advance(hpet, n, now);
		}
	}
	return now;
}

static void
hpet_timer(void *arg)
{
	(void)hpet_sync(arg); /* the tick is of no use here */
	reschedule(arg);
}

/* ---- the guest's side ---------------------------------------------------- */

static uint64_t
read_timer(const struct hpet *hpet, unsigned n, uint64_t off)
{
	switch (off) {
	case HPET_TIMER_CONFIG:
		return hpet->config[n] | HPET_ROUTES << 32;
	case HPET_TIMER_COMPARATOR:
		return hpet->comparator[n];
	case HPET_TIMER_FSB:
		return hpet->fsb[n];
	}
	return 0;
}

static uint64_t
hpet_read(void *self, uint64_t off, unsigned size)
{
	struct hpet *hpet = self;
	uint64_t reg = round_down(off, 8), value = 0;
	uint64_t now = hpet_sync(hpet);

	switch (reg) {
	case HPET_CAP:
		value = HPET_CAP_LOW | HPET_PERIOD_FS << 32;
		break;
	case HPET_CONFIG:
		value = hpet->enabled ? HPET_CONFIG_ENABLE : 0;
		break;
	case HPET_STATUS:
		value = hpet->status;
		break;
	case HPET_COUNTER:
		value = counter_at(hpet, now);
		break;
	}
	if (reg >= HPET_TIMER &&
	    reg < HPET_TIMER + HPET_TIMERS * HPET_TIMER_SIZE)
		value = read_timer(hpet, (reg - HPET_TIMER) / HPET_TIMER_SIZE,
		    reg % HPET_TIMER_SIZE);
	return value >> ((off - reg) * 8);
}

static void
enable(struct hpet *hpet, bool on, uint64_t now)
{
	if (hpet->enabled == on)
		return;
	hpet->counter = counter_at(hpet, now);
	hpet->enabled = on;
	hpet->start = now;
	for (unsigned n = 0; on && n < HPET_TIMERS; n++)
		set_match(hpet, n, now);
}

static void
write_config(struct hpet *hpet, unsigned n, uint16_t value)
{
	uint16_t old = hpet->config[n];

	value = (value & HPET_TN_WRITABLE) | HPET_TN_CAP;
	if (HPET_TN_ROUTE(value) < HPET_FIRST_PIN)
		value =
		    (value & ~HPET_TN_ROUTE_MASK) | (old & HPET_TN_ROUTE_MASK);
	if (!(value & HPET_TN_PERIODIC)) {
		value &= ~HPET_TN_VAL_SET;
		hpet->period[n] = 0;
	}
	hpet->config[n] = value;
	if (!is_level(hpet, n))
		hpet->status &= ~BIT(n);
}

/*
 * In periodic mode a write gives the period; with VAL_SET, which lasts for one
 * write, the next match too.  Guests do it in one write or in two.
 */
static void
write_comparator(struct hpet *hpet, unsigned n, uint32_t value, uint64_t now)
{
	uint16_t config = hpet->config[n];

	hpet->config[n] &= ~HPET_TN_VAL_SET;
	if (config & HPET_TN_PERIODIC) {
		hpet->period[n] = value;
		if (!(config & HPET_TN_VAL_SET))
			return;
	}
	hpet->comparator[n] = value;
	set_match(hpet, n, now);
}

static void
write_timer(struct hpet *hpet, unsigned n, uint64_t off, uint64_t value,
    uint64_t mask, uint64_t now)
{
	/* All but the FSB route has 32 bits that can be written. */
	bool low = mask & UINT32_MAX;

	if (off == HPET_TIMER_FSB)
		hpet->fsb[n] = (hpet->fsb[n] & ~mask) | (value & mask);
	else if (off == HPET_TIMER_CONFIG && low)
		write_config(hpet, n, value);
	else if (off == HPET_TIMER_COMPARATOR && low)
		write_comparator(hpet, n, value, now);
}

static void
hpet_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct hpet *hpet = self;
	uint64_t reg = round_down(off, 8);
	unsigned shift = (off - reg) * 8;
	uint64_t mask = size_mask(size) << shift;
	uint64_t now = hpet_sync(hpet);
	bool low = mask & UINT32_MAX;

	value <<= shift;
	if (reg == HPET_CONFIG && low)
		enable(hpet, value & HPET_CONFIG_ENABLE, now);
	else if (reg == HPET_STATUS)
		hpet->status &= ~(value & mask);
	else if (reg == HPET_COUNTER && low && !hpet->enabled)
		hpet->counter = value;
	else if (reg >= HPET_TIMER &&
	    reg < HPET_TIMER + HPET_TIMERS * HPET_TIMER_SIZE)
		write_timer(hpet, (reg - HPET_TIMER) / HPET_TIMER_SIZE,
		    reg % HPET_TIMER_SIZE, value, mask, now);
	update_pins(hpet);
	reschedule(hpet);
}

static const struct io_ops hpet_ops = {
	.read = hpet_read,
	.write = hpet_write,
	.widths = 4 | 8,
	.odd = IO_ZEROS,
	.aligned = true,
};

/* ---- life ---------------------------------------------------------------- */

static int
hpet_create(struct device *dev, void *self, struct err *err)
{
	struct hpet *hpet = self;

	hpet->chip = device_irq_chip(dev);
	hpet->clock = device_clock(dev);
	for (unsigned i = 0; i < HPET_PINS; i++)
		irq_line_init(&hpet->pin[i], hpet->chip, HPET_FIRST_PIN + i);
	device_timer_init(dev, &hpet->timer, hpet_timer);
	return device_map_mmio_ops(dev, PLAT_HPET_BASE, HPET_SIZE, &hpet_ops,
	    err);
}

/* Reset or loaded. */
static void
hpet_changed(void *self)
{
	update_pins(self);
	reschedule(self);
}

static int
hpet_check(const void *self, struct err *err)
{
	const struct hpet *hpet = self;

	for (unsigned n = 0; n < HPET_TIMERS; n++) {
		uint16_t config = hpet->config[n];
		unsigned route = HPET_TN_ROUTE(config);

		if ((config & ~HPET_TN_WRITABLE) != HPET_TN_CAP ||
		    (route != 0 && route < HPET_FIRST_PIN))
			return err_set(err, -EINVAL,
			    "HPET: comparator %u cannot be configured 0x%04x",
			    n, config);
		if (!(config & HPET_TN_PERIODIC) &&
		    (hpet->period[n] != 0 || (config & HPET_TN_VAL_SET)))
			return err_set(err, -EINVAL,
			    "HPET: comparator %u has a period in one-shot mode",
			    n);
		if ((hpet->status & BIT(n)) && !is_level(hpet, n))
			return err_set(err, -EINVAL,
			    "HPET: comparator %u has a status without a level",
			    n);
	}
	return 0;
}

DEVICE_MODEL(hpet) = {
	.name = "hpet",
	.state_version = 1,
	.size = sizeof(struct hpet),
	STATE_TABLE(hpet_state),
	.create = hpet_create,
	.changed = hpet_changed,
	.check = hpet_check,
};
