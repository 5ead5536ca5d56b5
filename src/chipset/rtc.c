/*
 * RTC: the real-time clock and the NVRAM of a PC.
 *
 * Models       Motorola MC146818A data sheet, with the century byte (0x32) and
 *              128 bytes as PCs have them, ports 0x70-0x71; bhyve's NVRAM
 *              layout for firmware: the size of memory at 0x34-0x35 (from
 *              16 MiB to lowmem's end) and 0x5b-0x5d (from 4 GiB up), in units
 *              of 64 KiB.
 * Leaves out   daylight saving (B.DSE is stored), the square wave output, the
 *              other crystals: the divider runs when A.DV is 010.
 * Departures   The NMI mask in bit 7 of the index is ignored, as bhyve does.
 *              The day of the week is computed, not counted from what the
 *              guest wrote.  A date that does not exist stops the clock until
 *              it is corrected, as bhyve does.
 *              A change of B.DM or B.24/12 while the clock runs converts the
 *              registers; a real part would misread them.
 *              There is no battery: a reset is a power-on, with the host's time
 *              at the start plus the machine's time since.
 * Locking      the device lock, held at every entry, taken by rtc.h's calls.
 *
 * Time.  The divider runs from `start_ns` of the machine clock; every rate
 * below 32768 Hz is arithmetic on the time since.  While the clock runs, the
 * date is `offset` plus the whole seconds since start_ns, and the registers
 * are made from it when somebody looks; so nothing drifts.  A guest that writes
 * them sets `offset`.  While it does not run they are plain memory.
 *
 *      runs = divider on, B.SET clear, the registers hold a date  (is_running)
 *
 * Interrupts.  The flags of C are set when somebody looks, from what has
 * passed since the last look (`seen_ns`): rtc_sync() begins every entry.  The
 * timer waits for the first event whose interrupt is enabled.  While C.IRQF is
 * set there is nothing to wait for: the line is up until the guest reads C.  So
 * an idle clock costs nothing, and the fastest one 8192 firings a second.
 *
 * Invariants   1. C.IRQF is set exactly if a flag and its enable are; the line
 *                 is C.IRQF.
 *              2. Years are four digits: after 9999 comes 0.
 */
#include <errno.h>
#include <time.h>

#include "base/util.h"
#include "chipset/rtc.h"
#include "chipset/ticks.h"
#include "irq/irq.h"
#include "vm/platform.h"
#include "vm/vm.h"

#define RTC_PORT 0x70

enum rtc_reg {
	RTC_SEC,
	RTC_SEC_ALARM,
	RTC_MIN,
	RTC_MIN_ALARM,
	RTC_HOUR,
	RTC_HOUR_ALARM,
	RTC_WDAY,
	RTC_MDAY,
	RTC_MONTH,
	RTC_YEAR,
	RTC_A,
	RTC_B,
	RTC_C,
	RTC_D,
	RTC_RAM, /* the first byte that is plain memory */
	RTC_CENTURY = 0x32,
	RTC_LOWMEM = 0x34,
	RTC_HIGHMEM = 0x5b,
};

#define RTC_A_RS 0x0f
#define RTC_A_DV 0x70
#define RTC_A_DV_ON 0x20
#define RTC_A_UIP 0x80
#define RTC_B_24H 0x02
#define RTC_B_DM 0x04 /* binary, not BCD */
#define RTC_B_UIE 0x10
#define RTC_B_AIE 0x20
#define RTC_B_PIE 0x40
#define RTC_B_SET 0x80
#define RTC_C_UF 0x10 /* the flags lie where their enables do in B */
#define RTC_C_AF 0x20
#define RTC_C_PF 0x40
#define RTC_C_IRQF 0x80
#define RTC_D_VRT 0x80
#define RTC_FLAGS (RTC_C_UF | RTC_C_AF | RTC_C_PF)
#define RTC_HOUR_PM 0x80
#define RTC_DONT_CARE 0xc0 /* in an alarm byte: any value */

#define RTC_HZ 32768u
#define RTC_UIP_NS 2228000u /* 244 us of warning and 1984 us of update */
#define RTC_FIRST_UPDATE_NS (NS_PER_SEC / 2) /* after the divider's reset */
#define SECS_PER_DAY 86400
#define NEVER UINT64_MAX

/*
 * Seconds are counted from 0000-01-01 in here, so they are never negative: from
 * there to 1970, and to 10000.
 */
#define RTC_UNIX_EPOCH 62167219200ULL
#define RTC_END 315569520000ULL

struct rtc {
	struct clock *clock; /* borrowed: outlives every device */
	struct mem *mem;     /* borrowed: outlives every device */
	struct irq_line irq;
	struct clock_timer timer; /* not saved: follows from the rest */
	uint64_t boot_time; /* the host's time, when the machine's was 0 */
	uint8_t index;
	uint8_t reg[RTC_NVRAM_SIZE]; /* the clock's own are made by fold() */
	bool valid;                  /* the registers hold a date */
	uint64_t offset;             /* modulo 2^64: it may come out below 0 */
	uint64_t start_ns;
	uint64_t seen_ns;
};

static const struct field rtc_state[] = {
	STATE_INT_MAX(struct rtc, index, RTC_D, RTC_NVRAM_SIZE - 1),
	STATE_ARRAY(struct rtc, reg, 0),
	STATE_BOOL(struct rtc, valid, true),
	STATE_INT(struct rtc, offset, 0),
	STATE_INT(struct rtc, start_ns, 0),
	STATE_INT(struct rtc, seen_ns, 0),
};

/* ---- the calendar -------------------------------------------------------- */

struct date {
	unsigned year;
	unsigned month, day; /* from 1 */
	unsigned wday;       /* Sunday is 1 */
	unsigned hour, min, sec;
};

static bool
is_leap(unsigned year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned
days_in_month(unsigned year, unsigned month)
{
	static const uint8_t days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31,
		30, 31 };

	return days[month - 1] + (month == 2 && is_leap(year));
}

/* Days from 0000-01-01 to the first of January of a year from 0 on. */
static unsigned
days_before_year(unsigned year)
{
	/* Year 0 is a leap year; its own rule counts one too few before it. */
	return year * 365 + (year + 3) / 4 - (year + 99) / 100 +
	    (year + 399) / 400;
}

static uint64_t
date_to_seconds(const struct date *d)
{
	uint64_t days = days_before_year(d->year) + d->day - 1;

	for (unsigned month = 1; month < d->month; month++)
		days += days_in_month(d->year, month);
	return days * SECS_PER_DAY + d->hour * 3600 + d->min * 60 + d->sec;
}

static struct date
seconds_to_date(uint64_t seconds)
{
	struct date d = { .month = 1 };
	unsigned days = seconds % RTC_END / SECS_PER_DAY;
	unsigned second = seconds % SECS_PER_DAY;

	d.wday = (days + 6) % 7 + 1; /* 0000-01-01 is a Saturday */
	d.hour = second / 3600;
	d.min = second / 60 % 60;
	d.sec = second % 60;
	d.year = days / 366; /* never too late, by some years too early */
	while (days_before_year(d.year + 1) <= days)
		d.year++;
	days -= days_before_year(d.year);
	while (days >= days_in_month(d.year, d.month))
		days -= days_in_month(d.year, d.month++);
	d.day = days + 1;
	return d;
}

/* ---- registers ----------------------------------------------------------- */

static uint8_t
encode(const struct rtc *rtc, unsigned n)
{
	if (rtc->reg[RTC_B] & RTC_B_DM)
		return n;
	return n / 10 << 4 | n % 10;
}

/* False for what is no number in the mode that B says. */
static bool
decode(const struct rtc *rtc, uint8_t value, unsigned *n)
{
	if (rtc->reg[RTC_B] & RTC_B_DM) {
		*n = value;
		return true;
	}
	*n = (value >> 4) * 10 + (value & 15);
	return value >> 4 <= 9 && (value & 15) <= 9;
}

static uint8_t
encode_hour(const struct rtc *rtc, unsigned hour)
{
	if (rtc->reg[RTC_B] & RTC_B_24H)
		return encode(rtc, hour);
	return encode(rtc, (hour + 11) % 12 + 1) |
	    (hour >= 12 ? RTC_HOUR_PM : 0);
}

static bool
decode_hour(const struct rtc *rtc, uint8_t value, unsigned *hour)
{
	if (rtc->reg[RTC_B] & RTC_B_24H)
		return decode(rtc, value, hour) && *hour < 24;
	if (!decode(rtc, value & ~RTC_HOUR_PM, hour) || *hour < 1 || *hour > 12)
		return false;
	*hour = *hour % 12 + (value & RTC_HOUR_PM ? 12 : 0);
	return true;
}

/* The clock's registers as a date; false if they hold none. */
static bool
registers_to_seconds(const struct rtc *rtc, uint64_t *seconds)
{
	const uint8_t *reg = rtc->reg;
	unsigned year, century;
	struct date d;

	if (!decode(rtc, reg[RTC_SEC], &d.sec) || d.sec > 59 ||
	    !decode(rtc, reg[RTC_MIN], &d.min) || d.min > 59 ||
	    !decode_hour(rtc, reg[RTC_HOUR], &d.hour) ||
	    !decode(rtc, reg[RTC_MDAY], &d.day) ||
	    !decode(rtc, reg[RTC_MONTH], &d.month) ||
	    !decode(rtc, reg[RTC_YEAR], &year) || year > 99 ||
	    !decode(rtc, reg[RTC_CENTURY], &century) || century > 99)
		return false;
	d.year = century * 100 + year;
	if (d.month < 1 || d.month > 12 || d.day < 1 ||
	    d.day > days_in_month(d.year, d.month))
		return false;
	*seconds = date_to_seconds(&d);
	return true;
}

static void
seconds_to_registers(struct rtc *rtc, uint64_t seconds)
{
	const struct date d = seconds_to_date(seconds);

	rtc->reg[RTC_SEC] = encode(rtc, d.sec);
	rtc->reg[RTC_MIN] = encode(rtc, d.min);
	rtc->reg[RTC_HOUR] = encode_hour(rtc, d.hour);
	rtc->reg[RTC_WDAY] = encode(rtc, d.wday);
	rtc->reg[RTC_MDAY] = encode(rtc, d.day);
	rtc->reg[RTC_MONTH] = encode(rtc, d.month);
	rtc->reg[RTC_YEAR] = encode(rtc, d.year % 100);
	rtc->reg[RTC_CENTURY] = encode(rtc, d.year / 100);
}

static bool
is_clock_reg(unsigned n)
{
	switch (n) {
	case RTC_SEC:
	case RTC_MIN:
	case RTC_HOUR:
	case RTC_WDAY:
	case RTC_MDAY:
	case RTC_MONTH:
	case RTC_YEAR:
	case RTC_CENTURY:
		return true;
	}
	return false;
}

/* ---- the passing of time ------------------------------------------------- */

static bool
is_divider_on(const struct rtc *rtc)
{
	return (rtc->reg[RTC_A] & RTC_A_DV) == RTC_A_DV_ON;
}

static bool
is_running(const struct rtc *rtc)
{
	return is_divider_on(rtc) && !(rtc->reg[RTC_B] & RTC_B_SET) &&
	    rtc->valid;
}

/*
 * Since the divider runs.  It may have begun before the machine did, so the
 * difference counts, not the order; a forged state's can be yet to begin.
 */
static uint64_t
divider_ns(const struct rtc *rtc, uint64_t now_ns)
{
	int64_t ns = (int64_t)(now_ns - rtc->start_ns);

	return ns > 0 ? ns : 0;
}

static uint64_t
divider_seconds(const struct rtc *rtc, uint64_t now_ns)
{
	return divider_ns(rtc, now_ns) / NS_PER_SEC;
}

/* While it runs: what the clock shows. */
static uint64_t
date_at(const struct rtc *rtc, uint64_t now_ns)
{
	return rtc->offset + divider_seconds(rtc, now_ns);
}

static void
set_date(struct rtc *rtc, uint64_t seconds, uint64_t now_ns)
{
	rtc->offset = seconds - divider_seconds(rtc, now_ns);
}

/* Ticks of 32768 Hz in a period of the periodic interrupt; 0: none. */
static uint32_t
period_ticks(const struct rtc *rtc)
{
	unsigned rs = rtc->reg[RTC_A] & RTC_A_RS;

	if (rs == 0 || !is_divider_on(rtc))
		return 0;
	return rs <= 2 ? 64u << rs : 1u << (rs - 1);
}

static bool
alarm_matches(uint8_t alarm, uint8_t value)
{
	return alarm >= RTC_DONT_CARE || alarm == value;
}

/*
 * How many seconds after `seconds` the alarm goes off: 1 to 86400, or NEVER.
 * Hours and minutes that do not match are skipped as wholes, so any alarm is
 * found in fewer steps than there are hours and twice the minutes and seconds.
 */
static uint64_t
seconds_to_alarm(const struct rtc *rtc, uint64_t seconds)
{
	const uint8_t *reg = rtc->reg;
	unsigned ahead = 1;

	for (unsigned step = 0; step < 24 + 4 * 60; step++) {
		unsigned second = (seconds + ahead) % SECS_PER_DAY;
		unsigned hour = second / 3600, min = second / 60 % 60;

		if (!alarm_matches(reg[RTC_HOUR_ALARM], encode_hour(rtc, hour)))
			ahead += 3600 - second % 3600;
		else if (!alarm_matches(reg[RTC_MIN_ALARM], encode(rtc, min)))
			ahead += 60 - second % 60;
		else if (!alarm_matches(reg[RTC_SEC_ALARM],
			     encode(rtc, second % 60)))
			ahead++;
		else
			return ahead;
	}
	return NEVER;
}

/* Has a flag come or gone?  Then IRQF and the line follow. */
static void
update_irq(struct rtc *rtc)
{
	uint8_t *c = &rtc->reg[RTC_C];

	*c &= RTC_FLAGS;
	if (*c & rtc->reg[RTC_B])
		*c |= RTC_C_IRQF;
	irq_line_set(&rtc->irq, *c & RTC_C_IRQF);
}

/* Bring registers and flags up to the present, which is returned. */
static uint64_t
rtc_sync(struct rtc *rtc)
{
	uint64_t now = clock_now(rtc->clock);
	uint64_t seen = MIN(rtc->seen_ns, now);
	uint32_t period = period_ticks(rtc);
	uint64_t passed;

	if (period != 0 &&
	    clock_ns_to_ticks(divider_ns(rtc, now), RTC_HZ) / period !=
		clock_ns_to_ticks(divider_ns(rtc, seen), RTC_HZ) / period)
		rtc->reg[RTC_C] |= RTC_C_PF;
	passed = divider_seconds(rtc, now) - divider_seconds(rtc, seen);
	if (is_running(rtc) && passed > 0) {
		rtc->reg[RTC_C] |= RTC_C_UF;
		if (seconds_to_alarm(rtc, date_at(rtc, seen)) <= passed)
			rtc->reg[RTC_C] |= RTC_C_AF;
		seconds_to_registers(rtc, date_at(rtc, now));
	}
	rtc->seen_ns = now;
	update_irq(rtc);
	return now;
}

/* When have so many ticks of hz passed in the divider? */
static uint64_t
divider_deadline(const struct rtc *rtc, uint64_t ticks, uint32_t hz)
{
	return rtc->start_ns + ticks_deadline(ticks, hz);
}

/* Wait for the first event that would raise the line. */
static void
reschedule(struct rtc *rtc, uint64_t now)
{
	uint8_t enabled = rtc->reg[RTC_B];
	uint32_t period = period_ticks(rtc);
	uint64_t second = divider_seconds(rtc, now);
	uint64_t deadline = NEVER, ticks, ahead;

	if (!(rtc->reg[RTC_C] & RTC_C_IRQF)) {
		if ((enabled & RTC_B_PIE) && period != 0) {
			ticks = clock_ns_to_ticks(divider_ns(rtc, now), RTC_HZ);
			deadline = divider_deadline(rtc,
			    (ticks / period + 1) * period, RTC_HZ);
		}
		if ((enabled & RTC_B_UIE) && is_running(rtc))
			deadline =
			    MIN(deadline, divider_deadline(rtc, second + 1, 1));
		if ((enabled & RTC_B_AIE) && is_running(rtc)) {
			ahead = seconds_to_alarm(rtc, date_at(rtc, now));
			if (ahead != NEVER)
				deadline = MIN(deadline,
				    divider_deadline(rtc, second + ahead, 1));
		}
	}
	/* Only a forged state puts it into the past; it would fire for ever. */
	if (deadline != NEVER && deadline > now)
		clock_timer_arm(&rtc->timer, deadline);
	else
		clock_timer_disarm(&rtc->timer);
}

static void
rtc_timer(void *arg)
{
	struct rtc *rtc = arg;

	reschedule(rtc, rtc_sync(rtc));
}

/* ---- the guest's side ---------------------------------------------------- */

static bool
is_updating(const struct rtc *rtc, uint64_t now)
{
	return is_running(rtc) &&
	    NS_PER_SEC - divider_ns(rtc, now) % NS_PER_SEC <= RTC_UIP_NS;
}

static uint8_t
read_reg(const struct rtc *rtc, unsigned n, uint64_t now)
{
	uint8_t value = rtc->reg[n];

	if (n == RTC_A && is_updating(rtc, now))
		value |= RTC_A_UIP;
	return value;
}

/* The registers have been written or are in force again: what do they say? */
static void
take_registers(struct rtc *rtc, uint64_t now)
{
	uint64_t seconds;

	rtc->valid = registers_to_seconds(rtc, &seconds);
	if (rtc->valid)
		set_date(rtc, seconds, now);
}

static void
write_a(struct rtc *rtc, uint8_t value, uint64_t now)
{
	bool was_on = is_divider_on(rtc);

	rtc->reg[RTC_A] = value & ~RTC_A_UIP;
	/* Half a second passes from the divider's reset to the first update:
	 * guests set the clock to the fraction of a second with it. */
	if (!was_on && is_divider_on(rtc)) {
		rtc->start_ns = now + RTC_FIRST_UPDATE_NS - NS_PER_SEC;
		take_registers(rtc, now);
	}
}

static void
write_b(struct rtc *rtc, uint8_t value, uint64_t now)
{
	bool ran = is_running(rtc);

	if (value & RTC_B_SET)
		value &= ~RTC_B_UIE;
	rtc->reg[RTC_B] = value;
	if (ran && is_running(rtc))
		seconds_to_registers(rtc, date_at(rtc, now));
	else
		take_registers(rtc, now);
}

static void
write_reg(struct rtc *rtc, unsigned n, uint8_t value, uint64_t now)
{
	switch (n) {
	case RTC_A:
		write_a(rtc, value, now);
		break;
	case RTC_B:
		write_b(rtc, value, now);
		break;
	case RTC_C:
	case RTC_D:
		break;
	default:
		rtc->reg[n] = value;
		if (is_clock_reg(n))
			take_registers(rtc, now);
		break;
	}
	update_irq(rtc);
	reschedule(rtc, now);
}

static uint64_t
rtc_read(void *self, uint64_t off, unsigned size)
{
	struct rtc *rtc = self;
	uint64_t now;
	uint8_t value;

	if (off == 0)
		return 0xff; /* write-only: nobody drives the bus */
	now = rtc_sync(rtc);
	value = read_reg(rtc, rtc->index, now);
	if (rtc->index == RTC_C) {
		rtc->reg[RTC_C] = 0;
		update_irq(rtc);
		reschedule(rtc, now);
	}
	return value;
}

static void
rtc_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct rtc *rtc = self;

	if (off == 0)
		rtc->index = value % RTC_NVRAM_SIZE;
	else
		write_reg(rtc, rtc->index, value, rtc_sync(rtc));
}

static const struct io_ops rtc_ops = {
	.read = rtc_read,
	.write = rtc_write,
	.widths = 1,
	.odd = IO_SPLIT,
};

/* ---- for tools ----------------------------------------------------------- */

int
rtc_set_time(struct device *dev, int64_t seconds, struct err *err)
{
	struct rtc *rtc = device_self(dev);
	uint64_t now, date = (uint64_t)seconds + RTC_UNIX_EPOCH;
	int rc = 0;

	if (date >= RTC_END)
		return err_set(err, -ERANGE,
		    "the clock knows the years 0 to 9999 only");
	lock_take(device_lock(dev));
	now = rtc_sync(rtc);
	if (is_divider_on(rtc) && !(rtc->reg[RTC_B] & RTC_B_SET)) {
		rtc->valid = true;
		set_date(rtc, date, now);
		seconds_to_registers(rtc, date);
		reschedule(rtc, now);
	} else {
		rc = err_set(err, -EBUSY, "the guest has stopped the clock");
	}
	lock_drop(device_lock(dev));
	return rc;
}

int
rtc_get_time(struct device *dev, int64_t *seconds, struct err *err)
{
	struct rtc *rtc = device_self(dev);
	uint64_t now;
	int rc = 0;

	lock_take(device_lock(dev));
	now = rtc_sync(rtc);
	if (is_running(rtc))
		*seconds = date_at(rtc, now) % RTC_END - RTC_UNIX_EPOCH;
	else
		rc = err_set(err, -EBUSY, "the guest has stopped the clock");
	lock_drop(device_lock(dev));
	return rc;
}

int
rtc_nvram_read(struct device *dev, unsigned offset, uint8_t *value,
    struct err *err)
{
	struct rtc *rtc = device_self(dev);

	if (offset >= RTC_NVRAM_SIZE)
		return err_set(err, -EINVAL, "%u: the clock has %u bytes",
		    offset, RTC_NVRAM_SIZE);
	lock_take(device_lock(dev));
	*value = read_reg(rtc, offset, rtc_sync(rtc));
	lock_drop(device_lock(dev));
	return 0;
}

int
rtc_nvram_write(struct device *dev, unsigned offset, uint8_t value,
    struct err *err)
{
	struct rtc *rtc = device_self(dev);

	if (offset >= RTC_NVRAM_SIZE)
		return err_set(err, -EINVAL, "%u: the clock has %u bytes",
		    offset, RTC_NVRAM_SIZE);
	if (offset < RTC_RAM || offset == RTC_CENTURY)
		return err_set(err, -EPERM,
		    "%u: a register of the clock, not memory", offset);
	lock_take(device_lock(dev));
	rtc->reg[offset] = value;
	lock_drop(device_lock(dev));
	return 0;
}

/* ---- life ---------------------------------------------------------------- */

/* The host's time now, UTC or local, as if it were UTC. */
static uint64_t
host_time(bool local)
{
	time_t now = time(NULL);
	struct tm tm;

	if (local && localtime_r(&now, &tm) != NULL)
		now = timegm(&tm);
	return now + RTC_UNIX_EPOCH;
}

static int
rtc_create(struct device *dev, void *self, struct err *err)
{
	struct rtc *rtc = self;
	bool local;
	int rc;

	rtc->clock = device_clock(dev);
	rtc->mem = device_mem(dev);
	irq_line_init(&rtc->irq, device_irq_chip(dev), PLAT_IRQ_RTC);
	device_timer_init(dev, &rtc->timer, rtc_timer);
	rc = config_bool(vm_config(device_vm(dev)), "rtc.use_localtime", true,
	    &local, err);
	if (rc < 0)
		return rc;
	rtc->boot_time = host_time(local) - clock_now(rtc->clock) / NS_PER_SEC;
	return device_map_port_ops(dev, RTC_PORT, 2, &rtc_ops, err);
}

static void
put_size(uint8_t *reg, unsigned bytes, uint64_t size)
{
	for (unsigned i = 0; i < bytes; i++)
		reg[i] = size / (64 * KIB) >> (i * 8);
}

static void
rtc_reset(void *self)
{
	struct rtc *rtc = self;
	uint64_t now = clock_now(rtc->clock);
	uint64_t lowmem = mem_lowmem(rtc->mem);

	rtc->reg[RTC_A] = RTC_A_DV_ON;
	rtc->reg[RTC_B] = RTC_B_24H;
	rtc->reg[RTC_D] = RTC_D_VRT;
	put_size(&rtc->reg[RTC_LOWMEM], 2,
	    lowmem > 16 * MIB ? lowmem - 16 * MIB : 0);
	put_size(&rtc->reg[RTC_HIGHMEM], 3, mem_highmem(rtc->mem));
	rtc->offset = rtc->boot_time;
	rtc->seen_ns = now;
	seconds_to_registers(rtc, date_at(rtc, now));
}

/* Reset or loaded. */
static void
rtc_changed(void *self)
{
	struct rtc *rtc = self;

	update_irq(rtc);
	reschedule(rtc, rtc->seen_ns);
}

static int
rtc_check(const void *self, struct err *err)
{
	const struct rtc *rtc = self;
	uint8_t c = rtc->reg[RTC_C];

	if (rtc->reg[RTC_A] & RTC_A_UIP)
		return err_set(err, -EINVAL, "RTC: UIP cannot be stored");
	if (rtc->reg[RTC_D] != RTC_D_VRT)
		return err_set(err, -EINVAL, "RTC: register D cannot be 0x%02x",
		    rtc->reg[RTC_D]);
	if ((c & ~(RTC_FLAGS | RTC_C_IRQF)) ||
	    !(c & RTC_C_IRQF) != !(c & RTC_FLAGS & rtc->reg[RTC_B]))
		return err_set(err, -EINVAL, "RTC: register C cannot be 0x%02x",
		    c);
	return 0;
}

DEVICE_MODEL(rtc) = {
	.name = "rtc",
	.state_version = 1,
	.size = sizeof(struct rtc),
	STATE_TABLE(rtc_state),
	.create = rtc_create,
	.reset = rtc_reset,
	.changed = rtc_changed,
	.check = rtc_check,
};
