/* The RTC: its interrupts against the machine clock, its memory, its time. */
#include "timer.h"

#define REG_A 0x0a
#define REG_B 0x0b
#define REG_C 0x0c
#define REG_D 0x0d
#define B_UIE 0x10
#define B_PIE 0x40
#define C_IRQF 0x80

#define VECTOR 0x51
#define PIN 8

static struct ticks ticks;
static volatile uint8_t flags;

static uint8_t
nvram(uint8_t reg)
{
	out8(0x70, reg);
	return in8(0x71);
}

static void
nvram_write(uint8_t reg, uint8_t value)
{
	out8(0x70, reg);
	out8(0x71, value);
}

HANDLER(interrupt)
{
	flags = nvram(REG_C);
	tick(&ticks);
	lapic_eoi();
}

static bool
is_bcd(uint8_t value, uint8_t most)
{
	return (value & 15) < 10 && value <= most;
}

void
payload(void)
{
	test("rtc");
	pic_init();
	lapic_init();
	gate(VECTOR, interrupt);

	check_eq("memory is valid", nvram(REG_D), 0x80);
	check_eq("64 MiB: 48 above the 16th", nvram(0x34) | nvram(0x35) << 8,
	    48 * 16);
	check("seconds are BCD", is_bcd(nvram(0), 0x59));
	check("hours are BCD", is_bcd(nvram(4), 0x23));
	check("months are BCD", nvram(8) > 0 && is_bcd(nvram(8), 0x12));
	check_eq("this century", nvram(0x32), 0x20);

	(void)nvram(REG_C);
	ioapic_pin(PIN, VECTOR, 0);
	nvram_write(REG_A, 0x2b); /* 32 Hz */
	nvram_write(REG_B, 0x02 | B_PIE);
	check_period("periodic at 32 Hz", &ticks, 3, 31250, 3);
	check_eq("flag C says periodic", flags & 0xd0, C_IRQF | B_PIE);
	nvram_write(REG_A, 0x2c); /* 16 Hz */
	check_period("periodic at 16 Hz", &ticks, 2, 62500, 3);

	nvram_write(REG_B, 0x02 | B_UIE);
	(void)nvram(REG_C);
	check_period("updates once a second", &ticks, 1, 1000000, 2);
	check_eq("flag C says update", flags & 0x90, C_IRQF | B_UIE);
	nvram_write(REG_B, 0x02);
	done();
}
