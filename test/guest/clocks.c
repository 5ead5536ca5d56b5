/* Clocks that only count, and the local APIC's timer, whose rate varies. */
#include "timer.h"

#define PM_TMR 0x408
#define PM_TMR_HZ 3579545u
#define VECTOR 0x51
#define BHYVE_LAPIC_HZ 134217728u
#define KVM_LAPIC_HZ 1000000000u

static struct ticks ticks;

HANDLER(interrupt)
{
	tick(&ticks);
	lapic_eoi();
}

/* Microseconds in which the PM timer counts an eighth of its frequency. */
static uint32_t
pm_eighth(void)
{
	uint32_t from = in32(PM_TMR);
	uint32_t start = clock_us();

	while (in32(PM_TMR) - from < PM_TMR_HZ / 8)
		;
	return clock_us() - start;
}

/* TSC counts in a microsecond. */
static uint32_t
tsc_rate(void)
{
	uint32_t start = clock_us();
	uint32_t from = rdtsc();

	delay_us(50000);
	return (rdtsc() - from) / (clock_us() - start);
}

/* One measurement as thousandths of another. */
static uint32_t
tsc_steadiness(void)
{
	uint32_t before = tsc_rate();

	return tsc_rate() * 1000 / before;
}

/* Counts of the APIC timer in 125 ms. */
static uint32_t
lapic_rate(void)
{
	uint32_t start, from;

	lapic_write(LAPIC_LVT_TIMER, LAPIC_MASKED);
	lapic_write(LAPIC_TIMER_INITIAL, 0xffffffff);
	start = clock_us();
	from = lapic_read(LAPIC_TIMER_CURRENT);
	delay_us(125000);
	from -= lapic_read(LAPIC_TIMER_CURRENT);
	return (uint32_t)((uint64_t)from * 125000 / (clock_us() - start));
}

static uint32_t one_shot_count;

static uint32_t
one_shot(void)
{
	uint32_t start;

	ticks.count = 0;
	start = clock_us();
	lapic_write(LAPIC_TIMER_INITIAL, one_shot_count);
	return until_tick(&ticks, start);
}

void
payload(void)
{
	uint32_t from, rate, bhyve, kvm;

	test("clocks");
	pic_init();
	lapic_init();
	gate(VECTOR, interrupt);

	from = in32(PM_TMR);
	check_measure("the PM timer runs at 3579545 Hz", pm_eighth, 125000, 1);
	out32(PM_TMR, 0);
	check("and cannot be written", in32(PM_TMR) - from >= PM_TMR_HZ / 8);

	check("the TSC counts", tsc_rate() > 100);
	check_measure("at a steady rate", tsc_steadiness, 1000, 2);

	/* KVM's runs at 1 GHz, whatever bhyve's guests may be used to. */
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb);
	rate = lapic_rate();
	bhyve = BHYVE_LAPIC_HZ / 8;
	kvm = KVM_LAPIC_HZ / 8;
	rate = rate < (bhyve + kvm) / 2 ? bhyve : kvm;
	check_measure("the APIC timer is bhyve's or KVM's", lapic_rate, rate,
	    1);
	lapic_write(LAPIC_TIMER_DIVIDE, 0x3);
	check_measure("divided by 16", lapic_rate, rate / 16, 1);

	lapic_write(LAPIC_LVT_TIMER, VECTOR);
	one_shot_count = rate / 16 / 125 * 100;
	check_measure("one shot after 100 ms", one_shot, 100000, 5);
	ticks.count = 0;
	check("and only one", !wait_count(&ticks.count, 1, 250000));
	lapic_write(LAPIC_LVT_TIMER, VECTOR | LAPIC_PERIODIC);
	lapic_write(LAPIC_TIMER_INITIAL, rate / 16 / 5);
	check_period("periodic every 25 ms", &ticks, 4, 25000, 3);
	lapic_write(LAPIC_TIMER_INITIAL, 0);
	delay_us(30000); /* one that was due may be on its way */
	ticks.count = 0;
	check("a count of 0 stops it", !wait_count(&ticks.count, 1, 60000));
	done();
}
