/*
 * What lies between an interrupt and its EOI.  A payload of its own, because a
 * /dev/kvm that only emulates may end an interrupt by itself.
 */
#include "guest.h"

#define VECTOR 0x61
#define SAME_CLASS 0x65
#define PIN 20

static volatile unsigned levels;
static volatile unsigned others;

HANDLER(level)
{
	levels++;
}

HANDLER(other)
{
	others++;
	lapic_eoi();
}

void
payload(void)
{
	test("eoi");
	pic_init();
	lapic_init();
	gate(VECTOR, level);
	gate(SAME_CLASS, other);
	ioapic_pin(PIN, VECTOR | IOAPIC_LEVEL, 0);

	out32(TESTDEV_LINE, TESTDEV_LINE_RAISE | PIN);
	settle();
	check_eq("a level comes once", levels, 1);
	check("it is in service", lapic_bit(LAPIC_ISR, VECTOR));
	check("no more requested", !lapic_bit(LAPIC_IRR, VECTOR));
	check("known as level-triggered", lapic_bit(LAPIC_TMR, VECTOR));
	check_eq("PPR is its class", lapic_read(LAPIC_PPR), VECTOR & 0xf0);
	check_eq("remote IRR is set", ioapic_pin_low(PIN) & IOAPIC_REMOTE_IRR,
	    IOAPIC_REMOTE_IRR);
	lapic_ipi(0, SAME_CLASS);
	settle();
	check_eq("one of its class waits", others, 0);

	out32(TESTDEV_LINE, PIN);
	settle();
	check_eq("the line's fall alone does not end it",
	    ioapic_pin_low(PIN) & IOAPIC_REMOTE_IRR, IOAPIC_REMOTE_IRR);
	out32(TESTDEV_LINE, TESTDEV_LINE_RAISE | PIN);
	lapic_eoi();
	settle();
	check_eq("after EOI the other comes", others, 1);
	check_eq("and the level again, for its line is up", levels, 2);
	out32(TESTDEV_LINE, PIN);
	lapic_eoi();
	settle();
	check_eq("not when it is down", levels, 2);
	check_eq("remote IRR is clear", ioapic_pin_low(PIN) & IOAPIC_REMOTE_IRR,
	    0);
	check("nothing in service", !lapic_bit(LAPIC_ISR, VECTOR));
	check_eq("PPR is 0", lapic_read(LAPIC_PPR), 0);
	done();
}
