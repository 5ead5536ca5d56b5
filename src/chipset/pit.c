/*
 * PIT: the interval timer of a PC.
 *
 * Models       Intel 8254 data sheet (231164), ports 0x40-0x43: three counters,
 *              modes 0 to 5, binary and BCD, counter latch and read-back; and
 *              the timer bits of port B (0x61) as in the 82371SB data sheet:
 *              gate and speaker of counter 2, its output, the refresh toggle.
 *              Counter 0 raises IRQ 0, counter 1 paces the refresh that no
 *              memory needs.  1193182 Hz.
 * Leaves out   sound; port B's parity and channel check, which read 0.
 * Departures   IRQ 0 is a pulse at each rise of OUT 0, not its level: an input
 *              that senses edges cannot tell, and it takes half the timers.
 *              A count of 1 in modes 2 and 3, which is illegal, leaves OUT high
 *              and counts as a rise each clock.
 *              After power-on, where the data sheet knows nothing, the counters
 *              run in mode 2 at 100 Hz, and no interrupt comes of it.
 * Locking      the device lock, held at every entry.
 *
 * Time.  Nothing is counted here.  A clock of the counters is a tick: tick t
 * lies t / 1193182 s after the machine clock's zero.  A counter knows the tick
 * that its count was loaded at, and all else (what it counts now, its output,
 * the next rise) is arithmetic on the tick that it is now.  So no error adds
 * up, and a late timer delays one interrupt but never the following ones.
 *
 *      IDLE      a control word was written and no count, or no trigger yet
 *      RUNNING   `count` was loaded at tick `start`, or will be: one ahead
 *      HELD      the gate is low, `held` ticks after the load
 *
 *      any ─control word─▶ IDLE        (write_control)
 *      IDLE ─count─▶ RUNNING           (modes 0, 2, 3, 4: load)
 *      IDLE, RUNNING ─gate rises─▶ RUNNING     (modes 1, 5: set_gate)
 *      RUNNING ◀─gate─▶ HELD           (modes 0, 2, 3, 4: set_gate)
 *      RUNNING ─first byte of two─▶ IDLE       (mode 0: write_counter)
 *
 * In modes 2 and 3 a count that is written while the counter runs waits
 * (`pending`) for tick `switch_at`, the end of the (half) period.
 *
 * Invariants   1. 1 <= count <= 65536, and 16665 in BCD: a digit can be 15.
 *              2. next_rise is the tick of the next IRQ 0, or NEVER; pit_sync()
 *                 delivers those that are past, all as one, before anything
 *                 else looks at or changes counter 0.
 *              3. IRQ 0 comes at most every CLOCK_MIN_PERIOD_NS by itself:
 *                 shorter periods are taken several at a time.
 */
#include <errno.h>

#include "base/util.h"
#include "chipset/ticks.h"
#include "irq/irq.h"
#include "vm/device.h"
#include "vm/platform.h"

#define PIT_PORT 0x40
#define PIT_PORT_B 0x61
#define PIT_CONTROL 3 /* its offset; 0 to 2 are the counters */
#define PIT_COUNTERS 3

/* Control word */
#define PIT_CW_SC(cw) ((cw) >> 6)
#define PIT_CW_SC_READ_BACK 3
#define PIT_CW_RW(cw) ((cw) >> 4 & 3)
#define PIT_CW_MODE(cw) ((cw) >> 1 & 7)
#define PIT_CW_BCD 0x01
/* Read-back command: the first two are active low. */
#define PIT_RB_NO_COUNT 0x20
#define PIT_RB_NO_STATUS 0x10
#define PIT_RB_COUNTER(n) (2u << (n))
/* Status byte */
#define PIT_STATUS_OUT 0x80
#define PIT_STATUS_NULL_COUNT 0x40

#define PORT_B_GATE2 0x01
#define PORT_B_SPEAKER 0x02
#define PORT_B_REFRESH 0x10
#define PORT_B_OUT2 0x20

#define PIT_REFRESH_TICKS 18 /* 15 us, as counter 1 is set on every PC */
#define PIT_POWER_ON_COUNT (PLAT_PIT_HZ / 100)
#define PIT_MIN_TICKS 60 /* not shorter than CLOCK_MIN_PERIOD_NS */
#define NEVER UINT64_MAX

_Static_assert(CLOCK_MIN_PERIOD_NS <= NS_PER_SEC * PIT_MIN_TICKS / PLAT_PIT_HZ,
    "the clock's shortest period");

enum pit_mode {
	PIT_TERMINAL_COUNT,
	PIT_ONE_SHOT,
	PIT_RATE,
	PIT_SQUARE,
	PIT_SOFT_STROBE,
	PIT_HARD_STROBE,
};

enum pit_rw { PIT_RW_LATCH, PIT_RW_LSB, PIT_RW_MSB, PIT_RW_BOTH };

enum pit_run { PIT_IDLE, PIT_RUNNING, PIT_HELD };

struct counter {
	uint8_t mode; /* enum pit_mode */
	uint8_t rw;   /* enum pit_rw, never the first */
	bool bcd;
	bool gate;
	uint8_t run; /* enum pit_run */
	uint32_t count;
	uint64_t start;
	uint64_t held;
	bool low; /* mode 1: triggered again, OUT stays low until `start` */
	/* The count register: written, to be loaded when its time comes. */
	uint16_t reg;
	bool reg_valid; /* since the control word */
	uint8_t lsb;    /* of a count whose second byte is awaited */
	bool write_msb;
	bool pending;
	uint64_t switch_at;
	/* Reading */
	bool read_msb;
	bool count_latched;
	uint16_t latch;
	bool status_latched;
	uint8_t status;
};

struct pit {
	struct clock *clock; /* borrowed: outlives every device */
	struct irq_line irq0;
	struct clock_timer timer; /* not saved: it follows next_rise */
	struct counter counter[PIT_COUNTERS];
	uint64_t next_rise;
	bool speaker;
};

static const struct field pit_state[] = {
#define COUNTER_STATE(n, gate_open)                                            \
	STATE_INT_MAX(struct pit, counter[n].mode, PIT_RATE, PIT_HARD_STROBE), \
	    STATE_INT_MAX(struct pit, counter[n].rw, PIT_RW_BOTH,              \
		PIT_RW_BOTH),                                                  \
	    STATE_BOOL(struct pit, counter[n].bcd, false),                     \
	    STATE_BOOL(struct pit, counter[n].gate, gate_open),                \
	    STATE_INT_MAX(struct pit, counter[n].run,                          \
		(gate_open) ? PIT_RUNNING : PIT_HELD, PIT_HELD),               \
	    STATE_INT_MAX(struct pit, counter[n].count, PIT_POWER_ON_COUNT,    \
		65536),                                                        \
	    STATE_INT(struct pit, counter[n].start, 0),                        \
	    STATE_INT(struct pit, counter[n].held, 0),                         \
	    STATE_BOOL(struct pit, counter[n].low, false),                     \
	    STATE_INT(struct pit, counter[n].reg, PIT_POWER_ON_COUNT),         \
	    STATE_BOOL(struct pit, counter[n].reg_valid, true),                \
	    STATE_INT(struct pit, counter[n].lsb, 0),                          \
	    STATE_BOOL(struct pit, counter[n].write_msb, false),               \
	    STATE_BOOL(struct pit, counter[n].pending, false),                 \
	    STATE_INT(struct pit, counter[n].switch_at, 0),                    \
	    STATE_BOOL(struct pit, counter[n].read_msb, false),                \
	    STATE_BOOL(struct pit, counter[n].count_latched, false),           \
	    STATE_INT(struct pit, counter[n].latch, 0),                        \
	    STATE_BOOL(struct pit, counter[n].status_latched, false),          \
	    STATE_INT(struct pit, counter[n].status, 0)
	COUNTER_STATE(0, true),
	COUNTER_STATE(1, true),
	COUNTER_STATE(2, false),
	STATE_INT(struct pit, next_rise, NEVER),
	STATE_BOOL(struct pit, speaker, false),
};

/* ---- arithmetic ---------------------------------------------------------- */

static uint32_t
from_bcd(uint16_t digits)
{
	return (digits >> 12) * 1000 + (digits >> 8 & 15) * 100 +
	    (digits >> 4 & 15) * 10 + (digits & 15);
}

static uint16_t
to_bcd(uint32_t n)
{
	return n / 1000 % 10 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 |
	    n % 10;
}

/* Where a counter that passes 0 goes on. */
static uint32_t
modulus(const struct counter *c)
{
	return c->bcd ? 10000 : 65536;
}

/* What the count register stands for: 0 is the largest count. */
static uint32_t
reg_count(const struct counter *c)
{
	uint32_t count = c->bcd ? from_bcd(c->reg) : c->reg;

	return count != 0 ? count : modulus(c);
}

static bool
is_periodic(const struct counter *c)
{
	return c->mode == PIT_RATE || c->mode == PIT_SQUARE;
}

/* Mode 3: how long OUT is high; the odd tick belongs to that half. */
static uint32_t
high_half(uint32_t count)
{
	return (count + 1) / 2;
}

/*
 * Ticks since the load, as if the gate had never been low; 0 before.  A start
 * in the future is one tick ahead; mode 3 can put one before tick 0, so the
 * difference counts, not the order.
 */
static uint64_t
elapsed(const struct counter *c, uint64_t now)
{
	int64_t ticks = (int64_t)(now - c->start);

	if (c->run == PIT_HELD)
		return c->held;
	return ticks > 0 ? ticks : 0;
}

/* Has the counter what was last written? */
static bool
is_loaded(const struct counter *c, uint64_t now)
{
	return c->run != PIT_IDLE && !c->pending &&
	    (c->run == PIT_HELD || (int64_t)(now - c->start) >= 0);
}

/* What the counting element shows, as the guest reads it. */
static uint16_t
counting(const struct counter *c, uint64_t now)
{
	uint64_t ticks = elapsed(c, now);
	uint32_t n, phase;

	if (c->run == PIT_IDLE)
		return 0;
	phase = ticks % c->count;
	switch ((enum pit_mode)c->mode) {
	case PIT_RATE:
		n = c->count - phase;
		break;
	case PIT_SQUARE:
		if (phase >= high_half(c->count))
			phase -= high_half(c->count);
		n = (c->count & ~1u) - 2 * phase;
		break;
	default:
		n = (c->count + modulus(c) - ticks % modulus(c)) % modulus(c);
		break;
	}
	return c->bcd ? to_bcd(n) : n;
}

static bool
output(const struct counter *c, uint64_t now)
{
	uint64_t ticks = elapsed(c, now);
	bool started = c->run == PIT_HELD || (int64_t)(now - c->start) >= 0;

	if (c->run == PIT_IDLE)
		return c->mode != PIT_TERMINAL_COUNT;
	switch ((enum pit_mode)c->mode) {
	case PIT_TERMINAL_COUNT:
		return ticks >= c->count;
	case PIT_ONE_SHOT:
		return started ? ticks >= c->count : !c->low;
	case PIT_RATE:
		return c->run == PIT_HELD || c->count == 1 ||
		    ticks % c->count != c->count - 1;
	case PIT_SQUARE:
		return c->run == PIT_HELD ||
		    ticks % c->count < high_half(c->count);
	case PIT_SOFT_STROBE:
	case PIT_HARD_STROBE:
		return ticks != c->count;
	}
	return true;
}

/* The first tick after now at which OUT rises by counting. */
static uint64_t
rise_after(const struct counter *c, uint64_t now)
{
	uint64_t ticks = elapsed(c, now), rise = NEVER;
	uint32_t next;

	if (c->run != PIT_RUNNING)
		return NEVER;
	switch ((enum pit_mode)c->mode) {
	case PIT_TERMINAL_COUNT:
	case PIT_ONE_SHOT:
		if (ticks < c->count)
			rise = c->start + c->count;
		break;
	case PIT_SOFT_STROBE:
	case PIT_HARD_STROBE:
		if (ticks < c->count + 1)
			rise = c->start + c->count + 1;
		break;
	case PIT_RATE:
	case PIT_SQUARE:
		rise = c->start + (ticks / c->count + 1) * c->count;
		next = reg_count(c);
		/* The new count begins with its low half. */
		if (c->pending && c->switch_at != rise)
			rise = c->switch_at + next - high_half(next);
		break;
	}
	return rise;
}

/* ---- the passing of time ------------------------------------------------- */

/* Load what is in the count register, at tick `at`. */
static void
load(struct counter *c, uint64_t at)
{
	c->count = reg_count(c);
	c->start = at;
	c->held = 0;
	c->pending = false;
	c->run = PIT_RUNNING;
}

/* Counts that waited for the end of a period. */
static void
counter_sync(struct counter *c, uint64_t now)
{
	uint64_t at = c->switch_at;
	bool high;

	if (!c->pending || (int64_t)(now - at) < 0)
		return;
	/* Mode 3 may switch in the middle: what was high goes on low. */
	high = (at - c->start) % c->count == 0;
	load(c, at);
	if (!high)
		c->start -= high_half(c->count);
}

/*
 * The next rise that is worth an interrupt of its own: of a short period, one
 * that is PIT_MIN_TICKS away.
 */
static uint64_t
next_interrupt(const struct counter *c, uint64_t now)
{
	uint64_t rise = rise_after(c, now);

	if (rise != NEVER && is_periodic(c) && c->count < PIT_MIN_TICKS) {
		while (rise - now < PIT_MIN_TICKS)
			rise += c->count;
	}
	return rise;
}

static uint64_t
pit_now(const struct pit *pit)
{
	return clock_ns_to_ticks(clock_now(pit->clock), PLAT_PIT_HZ);
}

/* Arm the timer for next_rise. */
static void
arm(struct pit *pit)
{
	uint64_t deadline = ticks_deadline(pit->next_rise, PLAT_PIT_HZ);

	if (deadline < UINT64_MAX)
		clock_timer_arm(&pit->timer, deadline);
	else
		clock_timer_disarm(&pit->timer);
}

/* Counter 0 has been changed: when is its next interrupt? */
static void
reschedule(struct pit *pit, uint64_t now)
{
	pit->next_rise = next_interrupt(&pit->counter[0], now);
	arm(pit);
}

/* Catch up with the clock; the tick that it is. */
static uint64_t
pit_sync(struct pit *pit)
{
	uint64_t now = pit_now(pit);

	for (unsigned n = 0; n < PIT_COUNTERS; n++)
		counter_sync(&pit->counter[n], now);
	if (pit->next_rise <= now) {
		irq_line_pulse(&pit->irq0);
		reschedule(pit, now);
	}
	return now;
}

static void
pit_timer(void *arg)
{
	(void)pit_sync(arg); /* the tick is of no use here */
}

/* ---- the guest's side ---------------------------------------------------- */

static void
latch_count(struct counter *c, uint64_t now)
{
	/* The first latch counts until it has been read. */
	if (!c->count_latched) {
		c->latch = counting(c, now);
		c->count_latched = true;
	}
}

static void
latch_status(struct counter *c, uint64_t now)
{
	if (c->status_latched)
		return;
	c->status = c->rw << 4 | c->mode << 1 | (c->bcd ? PIT_CW_BCD : 0);
	if (output(c, now))
		c->status |= PIT_STATUS_OUT;
	if (!is_loaded(c, now))
		c->status |= PIT_STATUS_NULL_COUNT;
	c->status_latched = true;
}

static void
write_control(struct pit *pit, uint8_t cw, uint64_t now)
{
	uint8_t mode = PIT_CW_MODE(cw);
	struct counter *c;

	if (PIT_CW_SC(cw) == PIT_CW_SC_READ_BACK) {
		for (unsigned n = 0; n < PIT_COUNTERS; n++) {
			if (!(cw & PIT_RB_COUNTER(n)))
				continue;
			if (!(cw & PIT_RB_NO_COUNT))
				latch_count(&pit->counter[n], now);
			if (!(cw & PIT_RB_NO_STATUS))
				latch_status(&pit->counter[n], now);
		}
		return;
	}
	c = &pit->counter[PIT_CW_SC(cw)];
	if (PIT_CW_RW(cw) == PIT_RW_LATCH) {
		latch_count(c, now);
		return;
	}
	*c = (struct counter) {
		/* Modes 6 and 7 are other names of 2 and 3. */
		.mode = mode <= PIT_HARD_STROBE ? mode : mode & 3,
		.rw = PIT_CW_RW(cw),
		.bcd = cw & PIT_CW_BCD,
		.gate = c->gate,
		.run = PIT_IDLE,
		.count = 1,
	};
}

/* A whole count has been written.  It is loaded by the next tick. */
static void
write_count(struct counter *c, uint16_t reg, uint64_t now)
{
	uint32_t count = c->count;
	uint64_t ticks = elapsed(c, now);

	c->reg = reg;
	c->reg_valid = true;
	switch ((enum pit_mode)c->mode) {
	case PIT_TERMINAL_COUNT:
	case PIT_SOFT_STROBE:
		load(c, now + 1);
		break;
	case PIT_RATE:
	case PIT_SQUARE:
		if (c->run != PIT_RUNNING) {
			load(c, now + 1);
		} else if (!c->pending) {
			uint32_t half = high_half(count);
			uint64_t period = ticks - ticks % count;

			c->pending = true;
			if (c->mode == PIT_SQUARE && ticks % count < half &&
			    half < count)
				c->switch_at = c->start + period + half;
			else
				c->switch_at = c->start + period + count;
		}
		break;
	case PIT_ONE_SHOT:
	case PIT_HARD_STROBE:
		return; /* for the next trigger */
	}
	if (!c->gate)
		c->run = PIT_HELD;
}

static void
write_counter(struct counter *c, uint8_t value, uint64_t now)
{
	switch ((enum pit_rw)c->rw) {
	case PIT_RW_LSB:
		write_count(c, value, now);
		break;
	case PIT_RW_MSB:
		write_count(c, value << 8, now);
		break;
	case PIT_RW_BOTH:
		c->write_msb = !c->write_msb;
		if (!c->write_msb) {
			write_count(c, value << 8 | c->lsb, now);
			break;
		}
		c->lsb = value;
		if (c->mode == PIT_TERMINAL_COUNT)
			c->run = PIT_IDLE;
		break;
	case PIT_RW_LATCH: /* invariant: never stored */
		break;
	}
}

static uint8_t
read_counter(struct counter *c, uint64_t now)
{
	uint16_t value;
	bool msb;

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	value = c->count_latched ? c->latch : counting(c, now);
	msb = c->rw == PIT_RW_MSB || (c->rw == PIT_RW_BOTH && c->read_msb);
	if (c->rw == PIT_RW_BOTH)
		c->read_msb = !c->read_msb;
	/* Hold the latch until both bytes are read. */
	if (c->rw != PIT_RW_BOTH || msb)
		c->count_latched = false;
	return msb ? value >> 8 : value;
}

static void
set_gate(struct counter *c, bool gate, uint64_t now)
{
	if (c->gate == gate)
		return;
	c->gate = gate;
	switch ((enum pit_mode)c->mode) {
	case PIT_ONE_SHOT:
	case PIT_HARD_STROBE:
		if (gate && c->reg_valid) {
			c->low = !output(c, now);
			load(c, now + 1);
		}
		break;
	case PIT_RATE:
	case PIT_SQUARE:
		if (gate && c->run == PIT_HELD) {
			load(c, now + 1);
			break;
		}
		/* fall through */
	case PIT_TERMINAL_COUNT:
	case PIT_SOFT_STROBE:
		if (gate && c->run == PIT_HELD) {
			c->run = PIT_RUNNING;
			c->start = now - c->held;
		} else if (!gate && c->run == PIT_RUNNING) {
			c->held = elapsed(c, now);
			c->run = PIT_HELD;
			c->pending = false;
		}
		break;
	}
}

static void
pit_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct pit *pit = self;
	struct counter *c0 = &pit->counter[0];
	uint64_t now = pit_sync(pit);
	bool out0 = output(c0, now);

	if (off == PIT_CONTROL)
		write_control(pit, value, now);
	else
		write_counter(&pit->counter[off], value, now);
	/* A new mode can lift OUT at once, which is a rise like any other. */
	if (!out0 && output(c0, now))
		irq_line_pulse(&pit->irq0);
	/* Latches leave the schedule alone, which may skip short periods. */
	if (off == 0 ||
	    (off == PIT_CONTROL && PIT_CW_SC(value) == 0 &&
		PIT_CW_RW(value) != PIT_RW_LATCH))
		reschedule(pit, now);
}

static uint64_t
pit_read(void *self, uint64_t off, unsigned size)
{
	struct pit *pit = self;
	uint64_t now = pit_sync(pit);

	if (off == PIT_CONTROL)
		return 0xff; /* write-only: nobody drives the bus */
	return read_counter(&pit->counter[off], now);
}

static uint64_t
port_b_read(void *self, uint64_t off, unsigned size)
{
	struct pit *pit = self;
	uint64_t now = pit_sync(pit);
	const struct counter *c2 = &pit->counter[2];

	return (c2->gate ? PORT_B_GATE2 : 0) |
	    (pit->speaker ? PORT_B_SPEAKER : 0) |
	    (now / PIT_REFRESH_TICKS % 2 != 0 ? PORT_B_REFRESH : 0) |
	    (output(c2, now) ? PORT_B_OUT2 : 0);
}

static void
port_b_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct pit *pit = self;
	uint64_t now = pit_sync(pit);

	set_gate(&pit->counter[2], value & PORT_B_GATE2, now);
	pit->speaker = value & PORT_B_SPEAKER;
}

static const struct io_ops pit_ops = {
	.read = pit_read,
	.write = pit_write,
	.widths = 1,
	.odd = IO_SPLIT,
};

static const struct io_ops port_b_ops = {
	.read = port_b_read,
	.write = port_b_write,
	.widths = 1,
	.odd = IO_SPLIT,
};

/* ---- life ---------------------------------------------------------------- */

static int
pit_create(struct device *dev, void *self, struct err *err)
{
	struct pit *pit = self;
	int rc;

	pit->clock = device_clock(dev);
	irq_line_init(&pit->irq0, device_irq_chip(dev), PLAT_IRQ_PIT);
	device_timer_init(dev, &pit->timer, pit_timer);
	rc =
	    device_map_port_ops(dev, PIT_PORT, PIT_COUNTERS + 1, &pit_ops, err);
	if (rc < 0)
		return rc;
	return device_map_port_ops(dev, PIT_PORT_B, 1, &port_b_ops, err);
}

/* Reset or loaded. */
static void
pit_changed(void *self)
{
	arm(self);
}

static int
pit_check(const void *self, struct err *err)
{
	const struct pit *pit = self;

	for (unsigned n = 0; n < PIT_COUNTERS; n++) {
		const struct counter *c = &pit->counter[n];

		if (c->rw == PIT_RW_LATCH)
			return err_set(err, -EINVAL,
			    "PIT: counter %u has no way to be read", n);
		if (c->count == 0)
			return err_set(err, -EINVAL,
			    "PIT: counter %u counts from 0", n);
		if (n != 2 && !c->gate)
			return err_set(err, -EINVAL,
			    "PIT: counter %u has its gate closed", n);
	}
	return 0;
}

DEVICE_MODEL(pit) = {
	.name = "pit",
	.state_version = 1,
	.size = sizeof(struct pit),
	STATE_TABLE(pit_state),
	.create = pit_create,
	.changed = pit_changed,
	.check = pit_check,
};
