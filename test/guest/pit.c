/* The 8254: rates, modes and read-back, against the machine clock. */
#include "timer.h"

#define VECTOR 0x51
#define PIN 2

static struct ticks ticks;

HANDLER(interrupt)
{
	tick(&ticks);
	lapic_eoi();
}

static uint16_t
latch(unsigned counter)
{
	uint8_t low;

	out8(0x43, (uint8_t)(counter << 6));
	low = in8((uint16_t)(0x40 + counter));
	return (uint16_t)(low | in8((uint16_t)(0x40 + counter)) << 8);
}

static uint32_t
one_shot(void)
{
	uint32_t start;

	ticks.count = 0;
	start = clock_us();
	pit_start(0, 0, PIT_HZ / 20);
	return until_tick(&ticks, start);
}

/* Counts of counter 2 in a millisecond. */
static uint32_t
count_rate(void)
{
	uint16_t from = latch(2), to;
	uint32_t start = clock_us();

	delay_us(30000);
	to = latch(2);
	return (uint32_t)(uint16_t)(from - to) * 100 /
	    ((clock_us() - start) / 10);
}

static uint32_t
output_rises(void)
{
	uint32_t start = clock_us();

	pit_start(2, 0, PIT_HZ / 20);
	while ((in8(0x61) & 0x20) == 0 && clock_us() - start < 1000000)
		;
	return clock_us() - start;
}

void
payload(void)
{
	test("pit");
	pic_init();
	lapic_init();
	gate(VECTOR, interrupt);
	ioapic_pin(PIN, VECTOR, 0);

	pit_start(0, 2, PIT_HZ / 50);
	check_period("rate generator at 50 Hz", &ticks, 4, 20000, 3);
	pit_start(0, 3, PIT_HZ / 20);
	check_period("square wave at 20 Hz", &ticks, 2, 50000, 3);
	pit_start(0, 2, 0);
	check_period("a count of 0 is 65536", &ticks, 2, 54925, 3);
	check_measure("mode 0 interrupts after its count", one_shot, 50000, 10);
	ticks.count = 0;
	check("and only once", !wait_count(&ticks.count, 1, 120000));
	ioapic_pin(PIN, IOAPIC_MASKED, 0);

	out8(0x61, 1); /* the gate of counter 2 */
	pit_start(2, 2, 0);
	check_measure("the count falls at 1193182 Hz", count_rate, 1193, 2);
	out8(0x43, 0xe8); /* read back: status only, counter 2 */
	check_eq("status: mode 2, 16 bits", in8(0x42) & 0x3f, 0x34);
	pit_start(2, 0, PIT_HZ / 20);
	check_eq("OUT2 is low while counting", in8(0x61) & 0x20, 0);
	check_measure("and rises after the count", output_rises, 50000, 10);
	done();
}
