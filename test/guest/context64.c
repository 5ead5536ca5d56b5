/*
 * The same code, again and again, while what it depends on changes between two
 * runs: privilege, IOPL, control bits, what lies behind the addresses that it
 * jumps to, the direction flag.  A translator that remembers too much of the
 * first run fails here.
 */
#include "ring.h"

#define WINDOW 0x50000000u
#define SPAN 0x1000u

static uint64_t table[512] __attribute__((aligned(4096)));
static uint8_t pages[5][4096] __attribute__((aligned(4096)));

/* ---- code that ring 0 calls, and ring 3 ---------------------------------- */

__asm__(".text\n"
	"do_cr0: mov %cr0, %rax; ret\n"
	"do_cli: cli; ret\n"
	"do_in: mov $0x600, %edx; in %dx, %al; ret\n"
	"do_rdtsc: rdtsc; ret\n"
	"do_smsw: smsw %eax; ret\n"
	"do_base: rdfsbase %rax; ret\n"
	"do_sse: xorps %xmm0, %xmm0; ret\n"
	"do_wait: fwait; ret\n"
	"do_fs: mov %fs:0, %rax; ret\n"
	"do_int: int $0x40; ret\n"
	"do_stos: mov %rdx, %rdi; mov $4, %ecx; rep stosb; ret\n");
extern const char do_cr0[], do_cli[], do_in[], do_rdtsc[], do_smsw[];
extern const char do_base[], do_sse[], do_wait[], do_fs[], do_int[];
extern const char do_stos[];

static uint32_t
kernel(const char *code)
{
	return TRY_FULL("call *%0", , "r"(code), "rax", "rdx", "rcx", "rdi",
	    "cc");
}

static uint32_t
user(const char *code)
{
	uint32_t vector = USER_FULL("call *%0", , "r"(code), "rax", "rdx",
	    "rcx", "rdi", "cc");

	return vector == HOME ? NO_FAULT : vector;
}

/* Three rounds of ring 0 and ring 3: the same each time. */
static void
rings(const char *label, const char *code, uint32_t in_kernel, uint32_t in_user)
{
	unsigned right = 0;

	for (unsigned i = 0; i < 3; i++) {
		right += kernel(code) == in_kernel;
		right += user(code) == in_user;
	}
	check_eq(label, right, 6);
}

static void
privilege(void)
{
	uint64_t cr4 = read_cr4(), cr0 = read_cr0();
	uint32_t r[4];

	rings("MOV CR0", do_cr0, NO_FAULT, GP);
	rings("CLI with IOPL 0", do_cli, NO_FAULT, GP);
	rings("IN with IOPL 0", do_in, NO_FAULT, GP);
	user_flags = FLAG_IOPL | 2;
	rings("CLI with IOPL 3", do_cli, NO_FAULT, NO_FAULT);
	rings("IN with IOPL 3", do_in, NO_FAULT, NO_FAULT);
	user_flags = 2;
	rings("CLI with IOPL 0 again", do_cli, NO_FAULT, GP);
	rings("RDTSC", do_rdtsc, NO_FAULT, NO_FAULT);
	write_cr4(cr4 | CR4_TSD);
	rings("RDTSC with TSD", do_rdtsc, NO_FAULT, GP);
	write_cr4(cr4);
	rings("RDTSC again", do_rdtsc, NO_FAULT, NO_FAULT);
	rings("INT of a gate of ring 0", do_int, NO_FAULT, GP);
	cpuid(7, 0, r);
	rings("SMSW", do_smsw, NO_FAULT, NO_FAULT);
	if (r[2] >> 2 & 1) {
		write_cr4(cr4 | CR4_UMIP);
		rings("SMSW with UMIP", do_smsw, NO_FAULT, GP);
		write_cr4(cr4);
	}
	rings("RDFSBASE", do_base, UD, UD);
	if (r[1] & 1) {
		write_cr4(cr4 | CR4_FSGSBASE);
		rings("RDFSBASE with CR4", do_base, NO_FAULT, NO_FAULT);
		write_cr4(cr4);
		rings("RDFSBASE again", do_base, UD, UD);
	}
	rings("SSE without OSFXSR", do_sse, UD, UD);
	write_cr4(cr4 | CR4_OSFXSR);
	rings("SSE", do_sse, NO_FAULT, NO_FAULT);
	write_cr0(cr0 | CR0_TS);
	rings("SSE with TS", do_sse, NM, NM);
	write_cr0((cr0 | CR0_TS) & ~(uint64_t)CR0_MP);
	rings("FWAIT with TS", do_wait, NO_FAULT, NO_FAULT);
	write_cr0(cr0 | CR0_TS | CR0_MP);
	rings("FWAIT with TS and MP", do_wait, NM, NM);
	write_cr0(cr0 & ~(uint64_t)CR0_TS);
	rings("SSE again", do_sse, NO_FAULT, NO_FAULT);
	wrmsr(0xc0000100, (uint64_t)gdt);
	rings("FS base", do_fs, NO_FAULT, NO_FAULT);
	wrmsr(0xc0000100, 0x7ffffffffffe);
	rings("FS base at the edge", do_fs, GP, GP);
	wrmsr(0xc0000100, (uint64_t)gdt);
	rings("FS base again", do_fs, NO_FAULT, NO_FAULT);
	write_cr4(cr4);
	write_cr0(cr0);
}

static void
direction(void)
{
	static uint8_t bytes[16] __attribute__((used));
	unsigned right = 0;

	for (unsigned i = 0; i < 4; i++) {
		for (unsigned n = 0; n < sizeof(bytes); n++)
			bytes[n] = 0;
		if (i & 1)
			__asm__ volatile("std; call do_stos; cld"
					 :
					 : "d"(bytes + 8), "a"(1)
					 : "rcx", "rdi", "memory");
		else
			__asm__ volatile("call do_stos"
					 :
					 : "d"(bytes + 8), "a"(1)
					 : "rcx", "rdi", "memory");
		right += bytes[8] == 1 && bytes[i & 1 ? 5 : 11] == 1 &&
		    bytes[i & 1 ? 11 : 5] == 0;
	}
	check_eq("REP STOS up and down", right, 4);
}

/* ---- jumps to pages that change ------------------------------------------ */

static void
map(unsigned slot, unsigned page, uint64_t bits)
{
	table[slot] = (uint64_t)pages[page] | PTE_P | PTE_W | PTE_U | bits;
	invlpg(WINDOW + slot * SPAN);
}

static void
put_code(unsigned page, unsigned off, const uint8_t *code, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		pages[page][off + i] = code[i];
}

/* MOV EAX, n; RET */
static void
put_value(unsigned page, unsigned off, uint8_t n)
{
	const uint8_t code[] = { 0xb8, n, 0, 0, 0, 0xc3 };

	put_code(page, off, code, sizeof(code));
}

static uint32_t
call(unsigned off)
{
	return ((uint32_t(*)(void))(uintptr_t)(WINDOW + off))();
}

/*
 * The first page jumps, branches, calls and runs into the second, which is one
 * of three.
 */
static void
chains(void)
{
	/* At the first page's offsets 0x100 ...: to 0x80 of the second. */
	static const uint8_t jmp[] = { 0xe9, 0x7b, 0x0f, 0, 0 };
	static const uint8_t jcc[] = { 0x31, 0xc0, 0x0f, 0x84, 0x78, 0x0e, 0,
		0 };
	static const uint8_t call_it[] = { 0xe8, 0x7b, 0x0d, 0, 0, 0xff, 0xc0,
		0xc3 };
	static const unsigned starts[] = { 0x100, 0x200, 0x300, 0xffe };
	unsigned right = 0;

	put_code(0, 0x100, jmp, sizeof(jmp));
	put_code(0, 0x200, jcc, sizeof(jcc));
	put_code(0, 0x300, call_it, sizeof(call_it));
	put_code(0, 0xffe, (const uint8_t[]) { 0x90, 0x90 }, 2);
	for (unsigned p = 1; p < 4; p++) {
		put_value(p, 0, (uint8_t)(0x10 + p));
		put_value(p, 0x80, (uint8_t)(0x20 + p));
	}
	map(0, 0, 0);
	for (unsigned i = 0; i < 60; i++) {
		unsigned p = 1 + i % 3;

		map(1, p, i & 1 ? PTE_G : 0);
		right += call(0x100) == 0x20 + p;
		right += call(0x200) == 0x20 + p;
		right += call(0x300) == 0x21 + p;
		right += call(0xffe) == 0x10 + p;
	}
	check_eq("into a page that is remapped", right, 240);
	right = 0;
	for (unsigned i = 0; i < 12; i++) {
		unsigned start = starts[i % 4];
		uint64_t target = WINDOW + SPAN + (start == 0xffe ? 0 : 0x80);

		map(1, 1, 0);
		(void)call(start);
		table[1] = 0;
		invlpg(WINDOW + SPAN);
		right += TRY_FULL("call *%0", , "r"(WINDOW + (uint64_t)start),
			     "rax", "cc") == PF &&
		    fault_ip == target && read_cr2() == target &&
		    fault_error == 0x10;
		map(1, 1, 0);
		(void)call(start);
		map(1, 1, PTE_NX);
		right += TRY_FULL("call *%0", , "r"(WINDOW + (uint64_t)start),
			     "rax", "cc") == PF &&
		    fault_ip == target && fault_error == 0x11;
	}
	check_eq("that is absent, or no code any more", right, 24);
	map(1, 1, 0);
	check_eq("ring 3, too",
	    USER_FULL("call *%0", , "r"(WINDOW + 0x100ULL), "rax", "cc"), HOME);
	table[1] &= ~PTE_U;
	invlpg(WINDOW + SPAN);
	check_eq("that is ring 0's now",
	    USER_FULL("call *%0", , "r"(WINDOW + 0x100ULL), "rax", "cc"), PF);
	check_eq("its error code", (uint32_t)fault_error, 0x15);
	check_eq("which may still use it", call(0x100), 0x21);
}

/* A return to an address that means something else by then. */
static void
returns(void)
{
	unsigned right = 0;

	/* CALL *RDX; MOV EAX, 1 or 2; RET at 0x400 of two pages. */
	for (unsigned p = 0; p < 2; p++) {
		const uint8_t code[] = { 0xff, 0xd2, 0xb8, (uint8_t)(p + 1), 0,
			0, 0, 0xc3 };

		put_code(3 + p, 0x400, code, sizeof(code));
	}
	for (unsigned i = 0; i < 40; i++) {
		uint32_t value;
		bool change = i % 3 == 0;

		map(2, 3 + i % 2, 0);
		/* What is called remaps the page of its caller. */
		__asm__ volatile("lea 1f(%%rip), %%rdx; call *%1; jmp 2f\n"
				 "1: test %b2, %b2; jz 3f\n"
				 "mov %3, (%4); invlpg (%5)\n"
				 "3: ret\n"
				 "2:"
				 : "=a"(value)
				 : "r"(WINDOW + 2 * SPAN + 0x400ULL),
				 "q"(change),
				 "r"((uint64_t)pages[4 - i % 2] | PTE_P |
				     PTE_W),
				 "r"(&table[2]), "r"(WINDOW + 2 * SPAN + 0ULL)
				 : "rdx", "memory", "cc");
		right +=
		    value == (i % 2 ? 2u : 1u) + (change ? i % 2 ? -1 : 1 : 0);
	}
	check_eq("a return into a page that was remapped", right, 40);
}

HANDLER(interrupt)
{
}

void
payload(void)
{
	test("context64");
	ring_init();
	gate(0x40, interrupt);
	write_cr0(read_cr0() & ~(uint64_t)(CR0_EM | CR0_TS));
	*pde(WINDOW) = (uint64_t)table | PTE_P | PTE_W | PTE_U;
	flush_tlb();
	privilege();
	direction();
	chains();
	returns();
	done();
}
