/* The HPET: its counter against the machine clock, its timers' interrupts. */
#include "timer.h"

#define HPET 0xfed00000u
#define HPET_CAP 0x0u
#define HPET_PERIOD 0x4u
#define HPET_CONFIG 0x10u
#define HPET_STATUS 0x20u
#define HPET_COUNTER 0xf0u
#define HPET_TIMER 0x100u
#define HPET_COMPARE 0x108u
#define HPET_FSB_DATA 0x110u
#define HPET_FSB_ADDR 0x114u
#define HPET_TIMER_SIZE 0x20u

#define INT_ENABLE 0x4u
#define PERIODIC 0x8u
#define SET_VALUE 0x40u
#define FSB_ENABLE 0x4000u
#define ROUTE_SHIFT 9
#define PIN 24u
#define HZ 16777216u
#define VECTOR 0x51

static struct ticks ticks;

HANDLER(interrupt)
{
	tick(&ticks);
	lapic_eoi();
}

static uint32_t
hpet(uint32_t reg)
{
	return read32(HPET + reg);
}

static void
hpet_write(uint32_t reg, uint32_t value)
{
	write32(HPET + reg, value);
}

/* Microseconds in which the counter counts an eighth of its frequency. */
static uint32_t
eighth(void)
{
	uint32_t from = hpet(HPET_COUNTER);
	uint32_t start = clock_us();

	while (hpet(HPET_COUNTER) - from < HZ / 8)
		;
	return clock_us() - start;
}

static uint32_t
one_shot(void)
{
	uint32_t start;

	ticks.count = 0;
	start = clock_us();
	hpet_write(HPET_COMPARE, hpet(HPET_COUNTER) + HZ / 10);
	return until_tick(&ticks, start);
}

static uint32_t
message(void)
{
	uint32_t start;

	ticks.count = 0;
	start = clock_us();
	hpet_write(HPET_COMPARE + HPET_TIMER_SIZE,
	    hpet(HPET_COUNTER) + HZ / 10);
	return until_tick(&ticks, start);
}

void
payload(void)
{
	uint32_t from;

	test("hpet");
	pic_init();
	lapic_init();
	gate(VECTOR, interrupt);

	check_eq("8 timers of Intel's", hpet(HPET_CAP), 0x80860701);
	check_eq("period in femtoseconds", hpet(HPET_PERIOD), 59604644);
	check_eq("off after reset", hpet(HPET_CONFIG) & 1, 0);
	from = hpet(HPET_COUNTER);
	delay_us(1000);
	check_eq("and standing still", hpet(HPET_COUNTER), from);
	hpet_write(HPET_CONFIG, 1);
	check_measure("the counter runs at 16777216 Hz", eighth, 125000, 1);

	check_eq("timer 0 can reach pin 24", hpet(HPET_TIMER + 4) >> PIN & 1,
	    1);
	ioapic_pin(PIN, VECTOR, 0);
	hpet_write(HPET_TIMER, INT_ENABLE | PIN << ROUTE_SHIFT);
	check_measure("one shot arrives at its time", one_shot, 100000, 5);

	hpet_write(HPET_TIMER,
	    INT_ENABLE | PERIODIC | SET_VALUE | PIN << ROUTE_SHIFT);
	hpet_write(HPET_COMPARE, hpet(HPET_COUNTER) + HZ / 50);
	hpet_write(HPET_COMPARE, HZ / 50);
	check_period("periodic at 50 Hz", &ticks, 4, 20000, 3);
	hpet_write(HPET_TIMER, 0);

	hpet_write(HPET_FSB_DATA + HPET_TIMER_SIZE, VECTOR);
	hpet_write(HPET_FSB_ADDR + HPET_TIMER_SIZE, 0xfee00000);
	hpet_write(HPET_TIMER + HPET_TIMER_SIZE, INT_ENABLE | FSB_ENABLE);
	check_measure("as a message, at its time", message, 100000, 5);
	done();
}
