/*
 * Memory-mapped I/O by every instruction that a driver might use: the operand
 * is the test device's window, which keeps what is written as memory would.
 */
#include "guest.h"

#define AT(off) (TESTDEV_MMIO + (off))

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
	return size | (write ? TESTDEV_LAST_WRITE : 0) | TESTDEV_LAST_MMIO |
	    off << TESTDEV_LAST_OFFSET_SHIFT;
}

/*
 * Run insn with the register in EAX and the window's first doubleword in (EBX);
 * compare both afterwards, and the arithmetic flags if a mask of them is given.
 */
struct after {
	uint32_t eax, mem, flags;
};
#define CF 0x01u
#define ZF 0x40u
#define SF 0x80u
#define OF 0x800u

#define RUN(insn, eax0, mem0)                                     \
	({                                                        \
		struct after a_ = { .eax = (eax0) };              \
                                                                  \
		write32(AT(0), mem0);                             \
		__asm__ volatile(insn "; pushf; pop %1"           \
				 : "+a"(a_.eax), "=r"(a_.flags)   \
				 : "b"(AT(0))                     \
				 : "ecx", "edx", "memory", "cc"); \
		a_.mem = read32(AT(0));                           \
		a_;                                               \
	})

#define CHECK(insn, eax0, mem0, eax1, mem1)                         \
	do {                                                        \
		struct after r_ = RUN(insn, eax0, mem0);            \
                                                                    \
		if (r_.eax != (eax1))                               \
			check_eq(insn " (register)", r_.eax, eax1); \
		else                                                \
			check_eq(insn, r_.mem, mem1);               \
	} while (0)

#define CHECK_FLAGS(insn, eax0, mem0, mask, want) \
	check_eq(insn " (flags)", (RUN(insn, eax0, mem0).flags) & (mask), want)

static void
moves(void)
{
	CHECK("movb (%%ebx), %%al", 0xffffffff, 0x44332211, 0xffffff11,
	    0x44332211);
	CHECK("movw 1(%%ebx), %%ax", 0, 0x44332211, 0x3322, 0x44332211);
	CHECK("movl (%%ebx), %%eax", 0, 0x44332211, 0x44332211, 0x44332211);
	CHECK("movb %%ah, 2(%%ebx)", 0xaabb, 0x44332211, 0xaabb, 0x44aa2211);
	CHECK("movw %%ax, 2(%%ebx)", 0xaabb, 0x44332211, 0xaabb, 0xaabb2211);
	CHECK("movl %%eax, (%%ebx)", 0xaabb, 0x44332211, 0xaabb, 0xaabb);
	CHECK("movb $0x5a, 3(%%ebx)", 0, 0x44332211, 0, 0x5a332211);
	CHECK("movw $0x5a5b, (%%ebx)", 0, 0x44332211, 0, 0x44335a5b);
	CHECK("movl $0x01020304, (%%ebx)", 0, 0x44332211, 0, 0x01020304);
	CHECK("movl 0xfe000000, %%eax", 0, 0x44332211, 0x44332211, 0x44332211);
	CHECK("movb 0xfe000001, %%al", 0, 0x44332211, 0x22, 0x44332211);
	CHECK("movl %%eax, 0xfe000000", 0x77, 0x44332211, 0x77, 0x77);
	CHECK("movw %%ax, 0xfe000002", 0x77, 0x44332211, 0x77, 0x00772211);
	CHECK("movzbl 3(%%ebx), %%eax", 0xffffffff, 0x84332211, 0x84,
	    0x84332211);
	CHECK("movzwl 2(%%ebx), %%eax", 0xffffffff, 0x84332211, 0x8433,
	    0x84332211);
	CHECK("movsbl 3(%%ebx), %%eax", 0, 0x84332211, 0xffffff84, 0x84332211);
	CHECK("movswl 2(%%ebx), %%eax", 0, 0x84332211, 0xffff8433, 0x84332211);
	CHECK("movsbw 3(%%ebx), %%ax", 0, 0x84332211, 0xff84, 0x84332211);
	CHECK("mov $0, %%ecx; movl (%%ebx, %%ecx, 8), %%eax", 0, 0x44332211,
	    0x44332211, 0x44332211);
	CHECK("pushl (%%ebx); pop %%eax", 0, 0x44332211, 0x44332211,
	    0x44332211);
	CHECK("push %%eax; popl (%%ebx)", 0x99, 0x44332211, 0x99, 0x99);
}

static void
arithmetic(void)
{
	CHECK("addl %%eax, (%%ebx)", 5, 10, 5, 15);
	CHECK("addl (%%ebx), %%eax", 5, 10, 15, 10);
	CHECK("addb $0xff, (%%ebx)", 0, 0x101, 0, 0x100);
	CHECK("addl $-1, (%%ebx)", 0, 0, 0, 0xffffffff);
	CHECK("stc; adcl %%eax, (%%ebx)", 5, 10, 5, 16);
	CHECK("subl %%eax, (%%ebx)", 5, 10, 5, 5);
	CHECK("stc; sbbl %%eax, (%%ebx)", 5, 10, 5, 4);
	CHECK("andl %%eax, (%%ebx)", 0xff00, 0x1234, 0xff00, 0x1200);
	CHECK("andb $0x0f, (%%ebx)", 0, 0x1234, 0, 0x1204);
	CHECK("orl $0x80000000, (%%ebx)", 0, 1, 0, 0x80000001);
	CHECK("orw %%ax, 2(%%ebx)", 0xff, 1, 0xff, 0x00ff0001);
	CHECK("xorl %%eax, (%%ebx)", 0xff, 0x0f, 0xff, 0xf0);
	CHECK("notl (%%ebx)", 0, 0x0f, 0, 0xfffffff0);
	CHECK("negl (%%ebx)", 0, 1, 0, 0xffffffff);
	CHECK("incl (%%ebx)", 0, 0xffffffff, 0, 0);
	CHECK("decb (%%ebx)", 0, 0x100, 0, 0x1ff);
	CHECK("shll $4, (%%ebx)", 0, 0x11, 0, 0x110);
	CHECK("sarw $1, (%%ebx)", 0, 0x18002, 0, 0x1c001);
	CHECK("rolb $1, (%%ebx)", 0, 0x181, 0, 0x103);
	CHECK("imull (%%ebx), %%eax", 7, 6, 42, 6);
	CHECK("mull (%%ebx)", 7, 6, 42, 6);
	CHECK("xor %%edx, %%edx; divl (%%ebx)", 43, 6, 7, 6);
	CHECK("btsl $5, (%%ebx)", 0, 0, 0, 0x20);
	CHECK("btrl $5, (%%ebx)", 0, 0xff, 0, 0xdf);
	CHECK("bsfl (%%ebx), %%eax", 0, 0x100, 8, 0x100);
	CHECK("stc; setc (%%ebx)", 0, 0, 0, 1);
	CHECK("xor %%ecx, %%ecx; cmovzl (%%ebx), %%eax", 0, 0x55, 0x55, 0x55);
	CHECK_FLAGS("cmpl $10, (%%ebx)", 0, 10, ZF | CF, ZF);
	CHECK_FLAGS("cmpl %%eax, (%%ebx)", 11, 10, ZF | CF, CF);
	CHECK_FLAGS("testl $0x80000000, (%%ebx)", 0, 0x80000000, ZF | SF, SF);
	CHECK_FLAGS("testb %%al, (%%ebx)", 1, 2, ZF, ZF);
	CHECK_FLAGS("incl (%%ebx)", 0, 0x7fffffff, OF | SF | ZF, OF | SF);
	CHECK_FLAGS("btl $3, (%%ebx)", 0, 8, CF, CF);
}

static void
exchanges(void)
{
	CHECK("xchgl %%eax, (%%ebx)", 1, 2, 2, 1);
	CHECK("xchgb %%al, (%%ebx)", 1, 0x202, 2, 0x201);
	CHECK("lock xaddl %%eax, (%%ebx)", 1, 2, 2, 3);
	CHECK("lock addl %%eax, (%%ebx)", 1, 2, 1, 3);
	CHECK("lock incl (%%ebx)", 0, 2, 0, 3);
	CHECK("mov $9, %%ecx; lock cmpxchgl %%ecx, (%%ebx)", 2, 2, 2, 9);
	CHECK("mov $9, %%ecx; cmpxchgl %%ecx, (%%ebx)", 1, 2, 2, 2);
}

static void
strings(void)
{
	static uint32_t buf[8];
	uint32_t at, to, n, eax;
	bool equal;

	for (unsigned i = 0; i < 8; i++)
		buf[i] = 0x01010101 * (i + 1);
	(void)accesses();
	at = (uint32_t)buf, to = AT(0x100), n = 8;
	__asm__ volatile("rep movsl"
			 : "+S"(at), "+D"(to), "+c"(n)
			 :
			 : "memory");
	check_eq("REP MOVSL to the device: 8 writes", accesses(), 8);
	check("index registers",
	    n == 0 && at == (uint32_t)(buf + 8) && to == AT(0x120));
	check_eq("the last one", read32(AT(0x11c)), 0x08080808);

	for (unsigned i = 0; i < 8; i++)
		buf[i] = 0;
	at = AT(0x100), to = (uint32_t)buf, n = 32;
	(void)accesses();
	__asm__ volatile("rep movsb"
			 : "+S"(at), "+D"(to), "+c"(n)
			 :
			 : "memory");
	check_eq("REP MOVSB from it: 32 reads", accesses(), 32);
	check("all there", buf[0] == 0x01010101 && buf[7] == 0x08080808);

	at = AT(0x100), to = AT(0x200), n = 4;
	__asm__ volatile("rep movsw"
			 : "+S"(at), "+D"(to), "+c"(n)
			 :
			 : "memory");
	check_eq("from the device to itself", read32(AT(0x204)), 0x02020202);

	to = AT(0x300), n = 4;
	__asm__ volatile("rep stosl"
			 : "+D"(to), "+c"(n)
			 : "a"(0xabcd1234)
			 : "memory");
	check("REP STOSL",
	    read32(AT(0x300)) == 0xabcd1234 &&
		read32(AT(0x30c)) == 0xabcd1234 && read32(AT(0x310)) == 0);
	to = AT(0x30c), n = 2;
	__asm__ volatile("std; rep stosw; cld"
			 : "+D"(to), "+c"(n)
			 : "a"(0x5555)
			 : "memory");
	check("downwards",
	    to == AT(0x308) && read16(AT(0x308)) == 0x1234 &&
		read16(AT(0x30a)) == 0x5555 && read16(AT(0x30c)) == 0x5555);

	at = AT(0x104);
	__asm__ volatile("lodsl" : "+S"(at), "=a"(eax) : : "memory");
	check_eq("LODSL", eax, 0x02020202);
	to = AT(0x100), n = 32;
	__asm__ volatile("repne scasb"
			 : "+D"(to), "+c"(n)
			 : "a"(3)
			 : "memory", "cc");
	check_eq("REPNE SCASB", to, AT(0x109));
	at = AT(0x100), to = (uint32_t)buf, n = 32;
	__asm__ volatile("repe cmpsb; sete %3"
			 : "+S"(at), "+D"(to), "+c"(n), "=q"(equal)
			 :
			 : "memory", "cc");
	check("REPE CMPSB", equal && n == 0);
}

static void
edges(void)
{
	uint32_t eax;

	write32(AT(0x40), 0x44332211);
	write32(AT(0x44), 0x88776655);
	check_eq("a write is one access", in32(TESTDEV_LAST),
	    last(4, true, 0x44));
	(void)read16(AT(0x42));
	check_eq("a read, too", in32(TESTDEV_LAST), last(2, false, 0x42));
	(void)read8(AT(0x43));
	check_eq("of the width asked for", in32(TESTDEV_LAST),
	    last(1, false, 0x43));
	check_eq("unaligned", read32(AT(0x43)), 0x77665544);
	write32(AT(0x46), 0xa1a2a3a4);
	check_eq("unaligned write", read32(AT(0x44)), 0xa3a46655);
	write8(AT(TESTDEV_MMIO_LEN - 1), 0x42);
	check_eq("over the end: each byte from its owner",
	    read32(AT(TESTDEV_MMIO_LEN - 1)), 0xffffff42);
	check_eq("nobody's memory reads ones", read32(0xf8000000), 0xffffffff);
	write32(0xf8000000, 0);
	check_eq("and drops writes", read32(0xf8000000), 0xffffffff);

	/* A jump target and a function out of a device, as ROM code might. */
	__asm__ volatile("movl $1f, (%1); xor %0, %0; jmp *(%1)\n"
			 "ud2\n1: movl $2f, (%1); call *(%1); jmp 3f\n"
			 "2: mov $7, %0; ret\n3:"
			 : "=&a"(eax)
			 : "b"(AT(0))
			 : "memory");
	check_eq("indirect jump and call", eax, 7);
}

void
payload(void)
{
	test("mmio");
	moves();
	arithmetic();
	exchanges();
	strings();
	edges();
	done();
}
