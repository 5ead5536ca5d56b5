/*
 * Segments in 32-bit protected mode: which selectors which register takes (SDM
 * volume 3, 5.5 to 5.7), what LAR, LSL, VERR, VERW and ARPL say of them (5.10),
 * and the limits of all kinds of segments (5.3).
 *
 * The descriptor at TRIED takes every type, presence and DPL; the rules are
 * worked out here from the manual's text.
 */
#include "ring.h"

#define TRIED (GDT_FREE * 8)
#define LIMITED ((GDT_FREE + 1) * 8)
#define NO_ERROR 0xdeadu
#define ALL_KINDS (32 * 2 * 4 * 4) /* S and type, P, DPL, RPL */

struct kind {
	unsigned type; /* with S in bit 4 */
	bool present;
	unsigned dpl, rpl, cpl;
};

/* Make descriptor n of all; gives the selector. */
static uint16_t
make(unsigned n, unsigned cpl, struct kind *k)
{
	k->type = n & 31;
	k->present = n >> 5 & 1;
	k->dpl = n >> 6 & 3;
	k->rpl = n >> 8 & 3;
	k->cpl = cpl;
	gdt[TRIED / 8] = segment(0, 0xfffff,
	    k->type << 8 | (k->present ? DESC_P : 0) | DESC_DPL(k->dpl) |
		DESC_BIG | DESC_PAGES);
	return (uint16_t)(TRIED | k->rpl);
}

static bool
is_code(const struct kind *k)
{
	return (k->type & 0x18) == 0x18;
}

static bool
is_conforming(const struct kind *k)
{
	return (k->type & 0x1c) == 0x1c;
}

static bool
may_see(const struct kind *k)
{
	return is_conforming(k) || (k->dpl >= k->rpl && k->dpl >= k->cpl);
}

/* ---- loads -------------------------------------------------------------- */

static uint32_t
data_rule(const struct kind *k)
{
	if (!(k->type & 0x10) || (is_code(k) && !(k->type & 2)) || !may_see(k))
		return GP;
	return k->present ? NO_FAULT : NP;
}

static uint32_t
stack_rule(const struct kind *k)
{
	if (k->rpl != k->cpl || (k->type & 0x1a) != 0x12 || k->dpl != k->cpl)
		return GP;
	return k->present ? NO_FAULT : SS;
}

static uint32_t
load_fs(uint16_t selector, unsigned cpl)
{
	return cpl == 0 ? TRY("mov %0, %%fs", "r"(selector)) :
			  USER("mov %0, %%fs", "r"(selector));
}

static uint32_t
load_ss(uint16_t selector, unsigned cpl)
{
	return cpl == 0 ?
	    TRY("mov %0, %%ss; mov %1, %%ss", "r"(selector),
		"r"(DATA_SELECTOR)) :
	    USER("mov %0, %%ss; mov %1, %%ss", "r"(selector), "r"(USER_DATA));
}

static unsigned
loads(unsigned cpl, uint32_t (*load)(uint16_t, unsigned),
    uint32_t (*rule)(const struct kind *))
{
	unsigned right = 0;

	for (unsigned n = 0; n < ALL_KINDS; n++) {
		struct kind k;
		uint16_t selector = make(n, cpl, &k);
		uint32_t want = rule(&k), got, error;
		bool accessed;

		fault_error = NO_ERROR;
		got = load(selector, cpl);
		if (got == HOME)
			got = NO_FAULT;
		error = want == NO_FAULT ? NO_ERROR : TRIED;
		/* A segment that was loaded is marked accessed. */
		accessed = gdt[TRIED / 8] >> 40 & 1;
		right += got == want && fault_error == error &&
		    accessed == (want == NO_FAULT || (k.type & 1));
	}
	return right;
}

/* ---- checks ------------------------------------------------------------- */

/* What the four instructions say of the selector in EDX. */
struct answer {
	uint32_t lar_zf, lsl_zf, verr, verw, lar, lsl;
};
static struct answer answer __attribute__((used));
__asm__(".text\n"
	"ask: xor %eax, %eax; xor %ecx, %ecx\n"
	"lar %edx, %eax; setz answer\n"
	"lsl %edx, %ecx; setz answer + 4\n"
	"verr %dx; setz answer + 8\n"
	"verw %dx; setz answer + 12\n"
	"mov %eax, answer + 16; mov %ecx, answer + 20\n"
	"ret\n");

static struct answer
answer_rule(const struct kind *k)
{
	/* Types of system segments: TSS, LDT, call and task gates. */
	bool lar = k->type & 0x10 || (0x1a3eu >> k->type & 1);
	bool lsl = k->type & 0x10 || (0x0a0eu >> k->type & 1);
	struct answer a = { 0 };

	if (!may_see(k))
		return a;
	a.lar_zf = lar;
	a.lsl_zf = lsl;
	a.verr = k->type & 0x10 && (!is_code(k) || k->type & 2);
	a.verw = (k->type & 0x1a) == 0x12;
	a.lar = lar ? (uint32_t)(gdt[TRIED / 8] >> 32) & 0xf0ff00 : 0;
	a.lsl = lsl ? UINT32_MAX : 0;
	return a;
}

static unsigned
checks(unsigned cpl)
{
	unsigned right = 0;

	for (unsigned n = 0; n < ALL_KINDS; n++) {
		struct kind k;
		uint16_t selector = make(n, cpl, &k);
		struct answer want = answer_rule(&k);

		if (cpl == 0)
			(void)TRY_FULL("call ask", , "d"(selector), "eax",
			    "ecx", "cc");
		else
			(void)USER_FULL("call ask", , "d"(selector), "eax",
			    "ecx", "cc");
		answer.lar &= 0xf0ff00; /* bits 19 to 16 are undefined */
		right += answer.lar_zf == want.lar_zf &&
		    answer.lsl_zf == want.lsl_zf && answer.verr == want.verr &&
		    answer.verw == want.verw && answer.lar == want.lar &&
		    answer.lsl == want.lsl;
	}
	return right;
}

static void
odd_selectors(void)
{
	uint32_t zf, value = 5;

	__asm__("xor %%eax, %%eax; lar %2, %1; setz %%al"
		: "=&a"(zf), "+r"(value)
		: "r"(0)
		: "cc");
	check_eq("LAR of null", zf, 0);
	check_eq("its target is unchanged", value, 5);
	__asm__("lsl %2, %1; mov $0, %0; setz %b0"
		: "=&q"(zf), "+r"(value)
		: "r"(0xfff8)
		: "cc");
	check_eq("LSL beyond the table", zf, 0);
	__asm__("lsl %1, %0" : "=r"(value) : "r"(DATA_SELECTOR) : "cc");
	check_eq("LSL in pages", value, UINT32_MAX);
	gdt[LIMITED / 8] = segment(0, 0x12345, DESC_DATA);
	__asm__("lsl %1, %0" : "=r"(value) : "r"(LIMITED) : "cc");
	check_eq("LSL in bytes", value, 0x12345);

	value = 0x11110;
	__asm__("arpl %w2, %w1; mov $0, %0; setz %b0"
		: "=&q"(zf), "+r"(value)
		: "r"(3)
		: "cc");
	check_eq("ARPL raises RPL", value, 0x11113);
	check_eq("and says so", zf, 1);
	__asm__("arpl %w2, %w1; mov $0, %0; setz %b0"
		: "=&q"(zf), "+r"(value)
		: "r"(2)
		: "cc");
	check_eq("it never lowers it", value, 0x11113);
	check_eq("and says so", zf, 0);
	check_eq("null to DS", TRY("mov %0, %%fs", "r"(3)), NO_FAULT);
	check_eq("its use", TRY("movb $0, %%fs:0", "r"(0)), GP);
	check_eq("null to SS", TRY("mov %0, %%ss", "r"(0)), GP);
	check_eq("LLDT of data", TRY("lldt %w0", "r"(DATA_SELECTOR)), GP);
	check_eq("its error code", fault_error, DATA_SELECTOR);
	check_eq("LTR of a busy TSS", TRY("ltr %w0", "r"(TSS_SELECTOR)), GP);
	check_eq("its error code", fault_error, TSS_SELECTOR);
	check_eq("LLDT in ring 3", USER("lldt %w0", "r"(0)), GP);
	check_eq("LTR of null", TRY("ltr %w0", "r"(0)), GP);
}

/* ---- limits ------------------------------------------------------------- */

/* How many bytes from off on can be read, by FS, up to 4; 0: a fault. */
static uint32_t
read_fs(uint32_t off, unsigned size)
{
	switch (size) {
	case 1:
		return TRY("cmpb $0, %%fs:(%0)", "r"(off));
	case 2:
		return TRY("cmpw $0, %%fs:(%0)", "r"(off));
	default:
		return TRY("cmpl $0, %%fs:(%0)", "r"(off));
	}
}

/* Offsets from first to last are inside, their neighbours are not. */
static void
range(const char *name, uint64_t descriptor, uint32_t first, uint32_t last)
{
	unsigned right = 0;

	gdt[LIMITED / 8] = descriptor;
	__asm__ volatile("mov %0, %%fs" : : "r"(LIMITED));
	for (unsigned size = 1; size <= 4; size *= 2) {
		right += read_fs(first, size) == NO_FAULT;
		right += first == 0 || read_fs(first - 1, size) == GP;
		right += read_fs(last + 1 - size, size) == NO_FAULT;
		right += last == UINT32_MAX ||
		    (read_fs(last + 2 - size, size) == GP && fault_error == 0);
	}
	check_eq(name, right, 12);
}

static void
limits(void)
{
	range("bytes", segment(0x1000, 0xffe, DESC_DATA), 0, 0xffe);
	range("pages", segment(0x1000, 0, DESC_DATA | DESC_PAGES), 0, 0xfff);
	range("pages, more", segment(0x1000, 1, DESC_DATA | DESC_PAGES), 0,
	    0x1fff);
	range("expand-down, 16 bits",
	    segment(0x100000, 0xffe, DESC_DATA | DESC_DOWN), 0xfff, 0xffff);
	range("expand-down, 32 bits",
	    segment(0x100000, 0xffe, DESC_DATA | DESC_DOWN | DESC_BIG), 0xfff,
	    UINT32_MAX);
	range("expand-down, pages",
	    segment(0x100000, 0, DESC_DATA | DESC_DOWN | DESC_BIG | DESC_PAGES),
	    0x1000, UINT32_MAX);
	range("code that can be read", segment(0x1000, 0x7ff, DESC_CODE), 0,
	    0x7ff);

	gdt[LIMITED / 8] = segment(0, 0xfffff,
	    (DESC_DATA & ~DESC_WRITABLE) | DESC_BIG | DESC_PAGES);
	__asm__ volatile("mov %0, %%fs" : : "r"(LIMITED));
	check_eq("a write to read-only data",
	    TRY("movb $0, %%fs:(%0)", "r"(&answer)), GP);
	gdt[LIMITED / 8] =
	    segment(0, 0xfffff, DESC_CODE | DESC_BIG | DESC_PAGES);
	__asm__ volatile("mov %0, %%fs" : : "r"(LIMITED));
	check_eq("to code", TRY("movb $0, %%fs:(%0)", "r"(&answer)), GP);
	/* Of the stack: #SS.  The handler needs another one. */
	gdt[LIMITED / 8] =
	    segment(0, 0x1ffff, DESC_DATA | DESC_DPL(3) | DESC_BIG);
	check_eq("beyond the stack",
	    USER("mov %0, %%ss; cmpb $0, %%ss:0x20000", "r"(LIMITED | 3)), SS);
	check_eq("its error code", fault_error, 0);
	check_eq("PUSH there", USER("mov %0, %%ss; push %0", "r"(LIMITED | 3)),
	    SS);
	/* A 16-bit stack uses SP alone. */
	gdt[LIMITED / 8] = segment((uint32_t)ring_stack, 0xfff, DESC_DATA);
	check_eq("PUSH with SP at its limit",
	    TRY("mov %0, %%ss; mov $0xabcd1000, %%esp; push %%eax; push %%eax;"
		"mov %%esp, %%eax; mov %1, %%ss; mov fault_sp, %%esp;"
		"mov %%eax, answer",
		"r"(LIMITED), "r"(DATA_SELECTOR), "a"(0)),
	    NO_FAULT);
	check_eq("and the upper half of ESP stays", answer.lar_zf, 0xabcd0ff8);
}

/* The limit of CS: a jump beyond, and an instruction that ends beyond. */
static void
code_limit(void)
{
	static uint8_t edge[8192] __attribute__((aligned(4096)));
	uint32_t end = (uint32_t)edge + 4095;
	static struct {
		uint32_t off;
		uint16_t selector;
	} __attribute__((packed)) pointer;

	gdt[LIMITED / 8] =
	    segment(0, end >> 12, DESC_CODE | DESC_BIG | DESC_PAGES);
	pointer.selector = LIMITED;
	pointer.off = end + 1;
	check_eq("a far jump beyond the limit", TRY("ljmp *%0", "m"(pointer)),
	    GP);
	check_eq("its error code", fault_error, 0);
	check_eq("in the old segment", fault_cs, CODE_SELECTOR);
	pointer.off = end;
	write8(end, 0xb0); /* of MOV AL, imm8: one byte too few */
	check_eq("an instruction over the limit", TRY("ljmp *%0", "m"(pointer)),
	    GP);
	check_eq("its error code", fault_error, 0);
	check_eq("in the new segment", fault_cs, LIMITED);
	check_eq("at its first byte", fault_ip, end);
	write8(end, 0x90);
	check_eq("running over the limit", TRY("ljmp *%0", "m"(pointer)), GP);
	check_eq("behind it", fault_ip, end + 1);
}

void
payload(void)
{
	test("segments");
	ring_init();
	check_eq("FS in ring 0", loads(0, load_fs, data_rule), ALL_KINDS);
	check_eq("FS in ring 3", loads(3, load_fs, data_rule), ALL_KINDS);
	check_eq("SS in ring 0", loads(0, load_ss, stack_rule), ALL_KINDS);
	check_eq("SS in ring 3", loads(3, load_ss, stack_rule), ALL_KINDS);
	check_eq("LAR, LSL, VERR, VERW in ring 0", checks(0), ALL_KINDS);
	check_eq("in ring 3", checks(3), ALL_KINDS);
	odd_selectors();
	limits();
	code_limit();
	done();
}
