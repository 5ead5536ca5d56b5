/* Port I/O of every width and form, on the test device's window. */
#include "guest.h"

#define AT(off) (TESTDEV_PORTS + (off))

/* A page and what lies over its end. */
static uint8_t pages[8192] __attribute__((aligned(4096)));

static uint32_t
accesses(void)
{
	uint32_t n = in32(TESTDEV_COUNT);

	out32(TESTDEV_COUNT, 0);
	return n;
}

static uint32_t
last(uint32_t size, bool write, uint32_t off)
{
	return size | (write ? TESTDEV_LAST_WRITE : 0) |
	    off << TESTDEV_LAST_OFFSET_SHIFT;
}

static void
plain_forms(void)
{
	uint32_t eax;

	out32(AT(0), 0x44332211);
	check_eq("OUT of 32 bits is one access", in32(TESTDEV_LAST),
	    last(4, true, 0));
	out16(AT(4), 0x6655);
	check_eq("of 16", in32(TESTDEV_LAST), last(2, true, 4));
	out8(AT(6), 0x77);
	check_eq("of 8", in32(TESTDEV_LAST), last(1, true, 6));
	check_eq("IN of 32 bits", in32(AT(0)), 0x44332211);
	check_eq("of 16, unaligned", in16(AT(3)), 0x5544);
	check_eq("of 8", in8(AT(6)), 0x77);
	check_eq("of 32, unaligned", in32(AT(3)), 0x77665544);

	__asm__ volatile("mov $0xaabbccdd, %%eax; inb %%dx, %%al"
			 : "=&a"(eax)
			 : "d"(AT(0)));
	check_eq("IN AL keeps the rest", eax, 0xaabbcc11);
	__asm__ volatile("mov $0xaabbccdd, %%eax; inw %%dx, %%ax"
			 : "=&a"(eax)
			 : "d"(AT(0)));
	check_eq("IN AX keeps the rest", eax, 0xaabb2211);

	__asm__ volatile("outl %%eax, $0xe0" : : "a"(0x87654321));
	__asm__ volatile("inl $0xe0, %%eax" : "=a"(eax));
	check_eq("IN and OUT EAX, imm8", eax, 0x87654321);
	__asm__ volatile("outw %%ax, $0xe4" : : "a"(0xbeef));
	__asm__ volatile("inw $0xe4, %%ax" : "=a"(eax) : "a"(0));
	check_eq("AX, imm8", eax, 0xbeef);
	__asm__ volatile("outb %%al, $0xe6" : : "a"(0x5a));
	__asm__ volatile("inb $0xe6, %%al" : "=a"(eax) : "a"(0));
	check_eq("AL, imm8", eax, 0x5a);
}

#define REP(insn, reg, at, port, n)                       \
	do {                                              \
		void *at_ = (at);                         \
		uint32_t n_ = (n);                        \
                                                          \
		__asm__ volatile("rep " insn              \
				 : "+" reg(at_), "+c"(n_) \
				 : "d"(port)              \
				 : "memory");             \
		check_eq(insn " counts to 0", n_, 0);     \
		end = (uint32_t)at_;                      \
	} while (0)

static void
string_forms(void)
{
	static uint32_t in[5], out[5] = { 1, 2, 3, 4, 0x01020304 };
	uint32_t end, n;

	(void)accesses();
	REP("outsl", "S", out, AT(0x10), 5);
	check_eq("five accesses", accesses(), 5);
	check_eq("index moved on", end, (uint32_t)(out + 5));
	check_eq("the last one counts", in32(AT(0x10)), 0x01020304);
	REP("outsw", "S", out, AT(0x10), 2);
	check_eq("OUTSW", in32(AT(0x10)), 0x01020000);
	REP("outsb", "S", out, AT(0x13), 1);
	check_eq("OUTSB", in32(AT(0x10)), 0x01020000);

	out32(AT(0x20), 0xcafe0123);
	(void)accesses();
	REP("insl", "D", in, AT(0x20), 5);
	check_eq("five reads", accesses(), 5);
	check("INSL fills", in[0] == 0xcafe0123 && in[4] == 0xcafe0123);
	REP("insw", "D", in, AT(0x22), 3);
	check("INSW", in[0] == 0xcafecafe && in[1] == 0xcafecafe);
	REP("insb", "D", in, AT(0x20), 1);
	check_eq("INSB", in[0], 0xcafeca23);

	(void)accesses();
	REP("outsl", "S", out, AT(0x10), 0);
	check_eq("a count of 0 does nothing", accesses(), 0);

	/* Downwards. */
	end = (uint32_t)&in[4];
	n = 5;
	in[0] = in[4] = 0;
	__asm__ volatile("std; rep insl; cld"
			 : "+D"(end), "+c"(n)
			 : "d"(AT(0x20))
			 : "memory");
	check("downwards",
	    in[0] == 0xcafe0123 && in[4] == 0xcafe0123 &&
		end == (uint32_t)&in[0] - 4);

	/* Over the end of a page, one item on both sides. */
	REP("insl", "D", pages + 4096 - 6, AT(0x20), 3);
	check("over a page's end",
	    read32((uint32_t)pages + 4096 - 6) == 0xcafe0123 &&
		read32((uint32_t)pages + 4096 - 2) == 0xcafe0123 &&
		read32((uint32_t)pages + 4096 + 2) == 0xcafe0123);

	(void)accesses();
	REP("insb", "D", pages, AT(0x20), 5000);
	check_eq("more than a page at once", accesses(), 5000);
	check("all of it there",
	    pages[0] == 0x23 && pages[4999] == 0x23 && pages[5000] == 0);
	REP("outsb", "S", pages, AT(0x30), 5000);
	check_eq("and out again", accesses(), 5000);
}

void
payload(void)
{
	test("pio");
	plain_forms();
	string_forms();

	check_eq("nobody's port reads ones: 8", in8(0x5b0), 0xff);
	check_eq("16", in16(0x5b0), 0xffff);
	check_eq("32", in32(0x5b0), 0xffffffff);
	out32(0x5b0, 0);
	check_eq("and drops writes", in32(0x5b0), 0xffffffff);
	out8(AT(0xff), 0x42);
	check_eq("over the end: each byte from its owner", in32(AT(0xff)),
	    0xffffff42);
	done();
}
