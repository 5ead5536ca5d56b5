/* The 8259A pair, on lines that the test device drives. */
#include "guest.h"

#define OCW3_READ_IRR 0x0a
#define OCW3_READ_ISR 0x0b

static volatile unsigned count[16];
static volatile unsigned order[16];
static volatile unsigned seen;
static volatile unsigned isr;
static volatile unsigned keep_up; /* line 11 falls at this delivery */
static volatile bool silent;      /* no EOI */

static void
arrived(unsigned irq)
{
	count[irq]++;
	if (seen < 16)
		order[seen] = irq;
	seen++;
	out8(0x20, OCW3_READ_ISR);
	isr = in8(0x20);
	if (irq == 11 && count[11] >= keep_up)
		out32(TESTDEV_LINE, 11);
	if (!silent)
		pic_eoi(irq);
}

#define IRQ(n)              \
	HANDLER(irq##n)     \
	{                   \
		arrived(n); \
	}
IRQ(0)
IRQ(3)
IRQ(4)
IRQ(5)
IRQ(7)
IRQ(10)
IRQ(11)

/* A host that emulates may take its time. */
static bool
comes(unsigned irq, unsigned n)
{
	return wait_count(&count[irq], n, 10000000);
}

static void
forget(void)
{
	for (int i = 0; i < 16; i++)
		count[i] = 0;
	seen = 0;
}

void
payload(void)
{
	test("pic");
	gate(PIC_BASE + 0, irq0);
	gate(PIC_BASE + 3, irq3);
	gate(PIC_BASE + 4, irq4);
	gate(PIC_BASE + 5, irq5);
	gate(PIC_BASE + 7, irq7);
	gate(PIC_BASE + 10, irq10);
	gate(PIC_BASE + 11, irq11);

	/* The local APIC is as reset left it: the pair is wired through. */
	pic_init();
	pic_mask(0xffff & ~(1u << 5));
	out32(TESTDEV_PULSE, 5);
	check("an edge arrives, local APIC untouched", comes(5, 1));
	check_eq("in service while handled", isr, 1 << 5);
	out8(0x20, OCW3_READ_ISR);
	check_eq("not after EOI", in8(0x20), 0);
	settle();
	check_eq("and only once", count[5], 1);

	forget();
	pic_mask(0xffff);
	out32(TESTDEV_PULSE, 5);
	settle();
	check_eq("masked: nothing arrives", seen, 0);
	out8(0x20, OCW3_READ_IRR);
	check_eq("but it is requested", in8(0x20), 1 << 5);
	pic_mask(0xffff & ~(1u << 5));
	check("and arrives when unmasked", comes(5, 1));

	forget();
	pic_mask(0xffff & ~(1u << 2 | 1u << 10));
	out32(TESTDEV_PULSE, 10);
	check("the second chip's vector", comes(10, 1));
	check_eq("cascade in service", isr, 1 << 2);

	forget();
	pic_mask(0xffff & ~(1u << 2 | 1u << 3 | 1u << 4 | 1u << 10));
	out32(TESTDEV_PULSE, 4);
	out32(TESTDEV_PULSE, 3);
	out32(TESTDEV_PULSE, 10);
	check("priority: 10, 3, 4",
	    comes(4, 1) && seen == 3 && order[0] == 10 && order[1] == 3 &&
		order[2] == 4);

	forget();
	silent = true;
	out32(TESTDEV_PULSE, 4);
	check("one comes", comes(4, 1));
	out32(TESTDEV_PULSE, 4);
	settle();
	check_eq("no EOI, no second one", count[4], 1);
	silent = false;
	out32(TESTDEV_PULSE, 3);
	check("a higher one comes through", comes(3, 1));
	pic_eoi(4);
	check("the second one after EOI", comes(4, 2));

	forget();
	out8(0x4d1, 1 << 3);
	pic_mask(0xffff & ~(1u << 2 | 1u << 11));
	keep_up = 3;
	out32(TESTDEV_LINE, TESTDEV_LINE_RAISE | 11);
	check("a level comes again", comes(11, 3));
	settle();
	check_eq("until it falls", count[11], 3);
	forget();
	out32(TESTDEV_LINE, TESTDEV_LINE_RAISE | 11);
	out32(TESTDEV_LINE, 11);
	settle();
	check_eq("a level that fell in time does not come", count[11], 0);
	out8(0x4d1, 0);

	forget();
	out8(0x20, 0x11);
	out8(0x21, PIC_BASE);
	out8(0x21, 1 << 2);
	out8(0x21, 3);
	pic_mask(0xffff & ~(1u << 4));
	silent = true;
	out32(TESTDEV_PULSE, 4);
	check("automatic EOI: one comes", comes(4, 1));
	out32(TESTDEV_PULSE, 4);
	check("and the next", comes(4, 2));
	silent = false;

	forget();
	pic_init();
	pic_mask(0xffff & ~1u);
	pit_start(0, 2, PIT_HZ / 100);
	check("the PIT on IRQ 0", comes(0, 3));
	pic_mask(0xffff);
	done();
}
