/* HLT, and everything that ends it. */
#include "guest.h"

#define ALARM_LINE 5
#define VECTOR 0x51
#define SLEEP_US 50000u

static volatile unsigned alarms;
static volatile unsigned messages;
static volatile unsigned nmis;

HANDLER(alarm)
{
	alarms++;
	pic_eoi(ALARM_LINE);
}

HANDLER(message)
{
	messages++;
	lapic_eoi();
}

HANDLER(nmi)
{
	nmis++;
}

/* Asleep until the alarm; how long it took. */
static uint32_t
sleep(void)
{
	uint32_t start = clock_us();

	out32(TESTDEV_ALARM, SLEEP_US);
	sti_hlt_cli();
	return clock_us() - start;
}

void
payload(void)
{
	uint32_t us;

	test("hlt");
	pic_init();
	gate(2, nmi);
	gate(PIC_BASE + ALARM_LINE, alarm);
	gate(VECTOR, message);
	out32(TESTDEV_ALARM_LINE, ALARM_LINE);
	pic_mask(0xffff & ~(1u << ALARM_LINE));

	us = sleep();
	check_eq("the 8259A ends it", alarms, 1);
	check("not before the time", us >= SLEEP_US);
	check("and soon after", us < SLEEP_US + 200000);

	out32(TESTDEV_PULSE, ALARM_LINE);
	sti_hlt_cli();
	check_eq("what is pending ends it at once", alarms, 2);

	pic_mask(0xffff);
	lapic_init();
	ioapic_pin(ALARM_LINE, VECTOR, 0);
	us = sleep();
	check_eq("the I/O APIC ends it", messages, 1);
	check("at its time", us >= SLEEP_US && us < SLEEP_US + 200000);

	lapic_ipi(0, VECTOR);
	sti_hlt_cli();
	check_eq("a pending vector ends it at once", messages, 2);

	/* Interrupts are off: only the NMI can. */
	ioapic_pin(ALARM_LINE, 4 << 8, 0);
	out32(TESTDEV_ALARM, SLEEP_US);
	__asm__ volatile("hlt" ::: "memory");
	check_eq("an NMI ends it with interrupts off", nmis, 1);

	ioapic_pin(ALARM_LINE, VECTOR, 0);
	for (int i = 0; i < 20; i++) {
		out32(TESTDEV_ALARM, 1 + (uint32_t)i * 20);
		sti_hlt_cli();
	}
	check_eq("no wake is lost around falling asleep", messages, 22);
	done();
}
