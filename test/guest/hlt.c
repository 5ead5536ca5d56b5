/*
 * HLT, and everything that ends it.
 *
 * STI keeps interrupts off until HLT has begun, so none is served before it and
 * then slept through.  QEMU's emulation of SVM forgets that if an interrupt of
 * the host's comes between the two (VMRUN does not look at int_state, which the
 * exit has saved).  So a second timer ends each sleep that nothing else does,
 * and of the many sleeps here it may do so once.
 */
#include "guest.h"

#define ALARM_LINE 5
#define VECTOR 0x51
#define RESCUE_VECTOR 0x52
#define RESCUE_COUNT 500000000u /* 0.5 s, or 3.7 s where it ticks slowly */
#define EXTINT 0x700u
#define SLEEP_US 50000u

static volatile unsigned alarms;
static volatile unsigned messages;
static volatile unsigned nmis;
static volatile unsigned rescues;

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

HANDLER(rescue)
{
	rescues++;
	lapic_eoi();
}

/* Asleep until an interrupt. */
static void
sleep(void)
{
	lapic_write(LAPIC_TIMER_INITIAL, RESCUE_COUNT);
	sti_hlt_cli();
	lapic_write(LAPIC_TIMER_INITIAL, 0);
}

/* Asleep until the alarm; how long it took. */
static uint32_t
sleep_alarm(void)
{
	uint32_t start = clock_us();

	out32(TESTDEV_ALARM, SLEEP_US);
	sleep();
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
	gate(RESCUE_VECTOR, rescue);
	lapic_init();
	lapic_write(LAPIC_LVT_LINT0, EXTINT);
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
	lapic_write(LAPIC_LVT_TIMER, RESCUE_VECTOR);
	out32(TESTDEV_ALARM_LINE, ALARM_LINE);
	pic_mask(0xffff & ~(1u << ALARM_LINE));

	us = sleep_alarm();
	check_eq("the 8259A ends it", alarms, 1);
	check("not before the time", us >= SLEEP_US);
	check("and soon after", us < SLEEP_US + 200000);

	out32(TESTDEV_PULSE, ALARM_LINE);
	sleep();
	check_eq("what is pending ends it at once", alarms, 2);

	pic_mask(0xffff);
	lapic_write(LAPIC_LVT_LINT0, LAPIC_MASKED);
	ioapic_pin(ALARM_LINE, VECTOR, 0);
	us = sleep_alarm();
	check_eq("the I/O APIC ends it", messages, 1);
	check("at its time", us >= SLEEP_US && us < SLEEP_US + 200000);

	lapic_ipi(0, VECTOR);
	sleep();
	check_eq("a pending vector ends it at once", messages, 2);

	/* Interrupts are off: only the NMI can. */
	ioapic_pin(ALARM_LINE, 4 << 8, 0);
	out32(TESTDEV_ALARM, SLEEP_US);
	__asm__ volatile("hlt" ::: "memory");
	check_eq("an NMI ends it with interrupts off", nmis, 1);

	ioapic_pin(ALARM_LINE, VECTOR, 0);
	for (int i = 0; i < 20; i++) {
		out32(TESTDEV_ALARM, 1 + (uint32_t)i * 20);
		sleep();
	}
	check_eq("no interrupt is lost around falling asleep", messages, 22);
	check("and no wake", rescues <= 1);
	done();
}
