/* The I/O APIC, on lines that the test device drives. */
#include "guest.h"

#define EDGE_VECTOR 0x51
#define LEVEL_VECTOR 0x61
#define PIT_VECTOR 0x71
#define LEVEL_PIN 20

static volatile unsigned edges;
static volatile unsigned levels;
static volatile unsigned nmis;
static volatile unsigned ticks;
static volatile unsigned falls_at;

HANDLER(edge)
{
	edges++;
	lapic_eoi();
}

HANDLER(level)
{
	if (++levels >= falls_at)
		out32(TESTDEV_LINE, LEVEL_PIN);
	lapic_eoi();
}

HANDLER(nmi)
{
	nmis++;
}

HANDLER(tick)
{
	ticks++;
	lapic_eoi();
}

void
payload(void)
{
	test("ioapic");
	pic_init();
	lapic_init();
	gate(2, nmi);
	gate(EDGE_VECTOR, edge);
	gate(LEVEL_VECTOR, level);
	gate(PIT_VECTOR, tick);

	check_eq("version 0x11 with 32 pins", ioapic_read(1) & 0xff00ff,
	    0x1f0011);
	ioapic_write(0, 0x0f000000);
	check_eq("the ID can be written", ioapic_read(0), 0x0f000000);
	ioapic_write(0, 0);
	check_eq("pins are masked after reset",
	    ioapic_pin_low(7) & IOAPIC_MASKED, IOAPIC_MASKED);

	out32(TESTDEV_PULSE, 5);
	ioapic_pin(5, EDGE_VECTOR, 0);
	settle();
	edges = 0;
	out32(TESTDEV_PULSE, 5);
	settle();
	check_eq("an edge arrives once", edges, 1);
	ioapic_pin(5, EDGE_VECTOR | IOAPIC_MASKED, 0);
	out32(TESTDEV_PULSE, 5);
	settle();
	check_eq("masked: nothing arrives", edges, 1);

	lapic_write(LAPIC_DFR, 0xffffffff);
	lapic_write(LAPIC_LDR, 0x02000000);
	ioapic_pin(5, EDGE_VECTOR | IOAPIC_LOGICAL, 2);
	edges = 0;
	out32(TESTDEV_PULSE, 5);
	settle();
	check_eq("logical destination", edges, 1);
	ioapic_pin(5, EDGE_VECTOR | IOAPIC_LOGICAL, 4);
	out32(TESTDEV_PULSE, 5);
	settle();
	check_eq("somebody else's logical destination", edges, 1);

	falls_at = 3;
	ioapic_pin(LEVEL_PIN, LEVEL_VECTOR | IOAPIC_LEVEL, 0);
	out32(TESTDEV_LINE, TESTDEV_LINE_RAISE | LEVEL_PIN);
	settle();
	check_eq("a level comes again after each EOI", levels, 3);
	check_eq("remote IRR is clear at the end",
	    ioapic_pin_low(LEVEL_PIN) & IOAPIC_REMOTE_IRR, 0);

	levels = 0;
	falls_at = 1;
	ioapic_pin(LEVEL_PIN, LEVEL_VECTOR | IOAPIC_LEVEL | IOAPIC_MASKED, 0);
	out32(TESTDEV_LINE, TESTDEV_LINE_RAISE | LEVEL_PIN);
	settle();
	check_eq("a masked level waits", levels, 0);
	ioapic_pin(LEVEL_PIN, LEVEL_VECTOR | IOAPIC_LEVEL, 0);
	settle();
	check_eq("and comes when unmasked", levels, 1);

	ioapic_pin(6, 4 << 8, 0);
	out32(TESTDEV_PULSE, 6);
	check("delivery as NMI", wait_count(&nmis, 1, 1000000));

	ioapic_pin(2, PIT_VECTOR, 0);
	pit_start(0, 2, PIT_HZ / 100);
	check("the PIT on pin 2", wait_count(&ticks, 3, 5000000));
	ioapic_pin(2, IOAPIC_MASKED, 0);
	done();
}
