/* com1 from the guest's side: what the judge types arrives, by interrupt. */
#include "guest.h"

#define COM1 0x3f8
#define IER 1
#define FCR 2
#define IIR 2
#define MCR 4
#define LSR 5

static volatile char text[16];
static volatile unsigned len;
static volatile unsigned interrupts;

HANDLER(irq4)
{
	interrupts++;
	while (in8(COM1 + LSR) & 1) {
		char c = (char)in8(COM1);

		if (len < sizeof(text))
			text[len++] = c;
	}
	pic_eoi(4);
}

static bool
heard(const char *want, unsigned n)
{
	if (!wait_count(&len, n, 5000000))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (text[i] != want[i])
			return false;
	}
	return len == n;
}

void
payload(void)
{
	test("uart");
	pic_init();
	gate(PIC_BASE + 4, irq4);
	out8(COM1 + FCR, 0xc1);
	check_eq("FIFOs are on", in8(COM1 + IIR) & 0xc0, 0xc0);
	out8(COM1 + MCR, 0x0b);
	out8(COM1 + IER, 1);
	pic_mask(0xffff & ~(1u << 4));
	input("hello");
	check("what is typed arrives", heard("hello", 5));
	check("by interrupt", interrupts > 0);
	len = 0;
	input("more than sixteen");
	(void)wait_count(&len, 16, 5000000);
	check_eq("and more than the FIFO holds", len, 16);
	out8(COM1 + IER, 0);
	done();
}
