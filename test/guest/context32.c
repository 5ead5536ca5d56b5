/*
 * The same code while its segments change between two runs: base, limit, type
 * and width of DS, SS, ES and CS.  A translator that takes segments for flat
 * once it has seen them so fails here.  And 16-bit code among 32-bit code.
 */
#include "ring.h"

#define A (GDT_FREE * 8)
#define B ((GDT_FREE + 1) * 8)
#define FLAT (DESC_BIG | DESC_PAGES)

static uint32_t words[2048] __attribute__((aligned(4096)));
static struct {
	uint32_t off;
	uint16_t selector;
} __attribute__((packed)) pointer __attribute__((used));
static uint32_t result __attribute__((used));
static uint8_t code16[0x10000];

/* ---- data --------------------------------------------------------------- */

/*
 * With DS and ES from ECX: what is at EBX, and a store and a string to it.  DS
 * and ES are flat again behind it, and after a fault by the caller.
 */
__asm__(".text\n"
	"do_load: mov %ecx, %ds; mov 4(%ebx), %eax; jmp flat\n"
	"do_store: mov %ecx, %ds; mov %eax, 4(%ebx); jmp flat\n"
	"do_add: mov %ecx, %ds; add %eax, 4(%ebx); jmp flat\n"
	"do_stos: mov %ecx, %es; lea 4(%ebx), %edi; stosl; jmp flat\n"
	"flat: mov $0x23, %ecx; mov %ecx, %ds; mov %ecx, %es; ret\n");
extern const char do_load[], do_store[], do_add[], do_stos[];

static uint32_t
access(const char *code, uint16_t selector, uint32_t off, uint32_t *value)
{
	uint32_t vector;

	/* The handlers need DS, so a fault must not meet them without. */
	vector = TRY_FULL("call *%2", "+a"(*value),
	    OPERANDS("c"(selector), "S"(code), "b"(off)), "edi", "cc");
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_DATA));
	return vector;
}

/* The fault handlers' stubs store by DS: these load it first. */
#define FLAT_STUB(n)                                                      \
	__asm__("flat" #n ": push %eax; mov $0x23, %eax; mov %eax, %ds\n" \
		"pop %eax; jmp fault" #n "\n");                           \
	extern const char flat##n[];
FLAT_STUB(12)
FLAT_STUB(13)

static void
data(void)
{
	static const char *const codes[] = { do_load, do_store, do_add,
		do_stos };
	unsigned right = 0;

	for (unsigned n = 0; n < 40; n++) {
		const char *code = codes[n % 4];
		uint32_t value = 0x100 + n;

		/* Flat. */
		words[1] = 7;
		right += access(code, USER_DATA, (uint32_t)words, &value) ==
		    NO_FAULT;
		right += n % 4 == 0 ? value == 7 :
				      words[1] == value + (n % 4 == 2 ? 7 : 0);
		/* A base. */
		gdt[A / 8] =
		    segment((uint32_t)words, 0xfffff, DESC_DATA | FLAT);
		words[1] = 8;
		value = 0x200 + n;
		right += access(code, A, 0, &value) == NO_FAULT;
		right += n % 4 == 0 ? value == 8 :
				      words[1] == value + (n % 4 == 2 ? 8 : 0);
		/* Another one in the same selector. */
		gdt[A / 8] =
		    segment((uint32_t)(words + 100), 0xfffff, DESC_DATA | FLAT);
		words[101] = 9;
		value = 0x300 + n;
		right += access(code, A, 0, &value) == NO_FAULT;
		right += n % 4 == 0 ?
		    value == 9 :
		    words[101] == value + (n % 4 == 2 ? 9 : 0);
		/* A limit, met and not. */
		gdt[B / 8] = segment((uint32_t)words, 7, DESC_DATA | DESC_BIG);
		value = 0x400 + n;
		right += access(code, B, 0, &value) == NO_FAULT;
		words[2] = 0x55;
		right += access(code, B, 1, &value) == GP && words[2] == 0x55;
		/* Read-only, and null. */
		gdt[B / 8] = segment((uint32_t)words, 0xfffff,
		    (DESC_DATA & ~DESC_WRITABLE) | FLAT);
		right +=
		    access(code, B, 0, &value) == (n % 4 == 0 ? NO_FAULT : GP);
		right += access(code, 0, (uint32_t)words, &value) == GP;
		/* Expanding down. */
		gdt[B / 8] = segment((uint32_t)words, 0x10,
		    DESC_DATA | DESC_DOWN | DESC_BIG);
		right += access(code, B, 0, &value) == GP;
		right += access(code, B, 0x20, &value) == NO_FAULT;
	}
	check_eq("loads, stores and strings", right, 40 * 12);
}

/* ---- the stack ---------------------------------------------------------- */

/* Push, call and pop with SS:ESP from ECX:EBX; the old ones come back. */
__asm__("do_stack: mov %esp, %edx; mov %ecx, %ss; mov %ebx, %esp\n"
	"push $0x1234; call 1f; pop %eax; mov %esp, result\n"
	"mov $0x10, %ecx; mov %ecx, %ss; mov %edx, %esp; ret\n"
	"1: push %ebp; pop %ebp; ret\n");

static uint32_t
stack(uint16_t selector, uint32_t esp, uint32_t *popped)
{
	uint32_t vector = TRY_FULL("call do_stack", "=a"(*popped),
	    OPERANDS("c"(selector), "b"(esp)), "edx", "cc");

	return vector;
}

static void
stacks(void)
{
	uint32_t popped;
	unsigned right = 0;

	for (unsigned n = 0; n < 20; n++) {
		right += stack(DATA_SELECTOR, (uint32_t)(words + 50),
			     &popped) == NO_FAULT &&
		    popped == 0x1234 && result == (uint32_t)(words + 50) &&
		    words[49] == 0x1234;
		words[49] = 0;
		gdt[A / 8] =
		    segment((uint32_t)words, 0xfffff, DESC_DATA | FLAT);
		right += stack(A, 40 * 4, &popped) == NO_FAULT &&
		    popped == 0x1234 && result == 40 * 4 && words[39] == 0x1234;
		words[39] = 0;
		/* 16 bits: SP alone, and it wraps. */
		gdt[A / 8] = segment((uint32_t)words, 0xffff, DESC_DATA);
		right += stack(A, 0xabcd0000 + 40 * 4, &popped) == NO_FAULT &&
		    popped == 0x1234 && result == 0xabcd0000 + 40 * 4 &&
		    words[39] == 0x1234;
		words[39] = 0;
	}
	check_eq("pushes and calls", right, 60);
	gdt[A / 8] = segment((uint32_t)words, 0xffff, DESC_DATA);
	gdt[B / 8] =
	    segment((uint32_t)words - 0x10000 + 0x100, 0xffff, DESC_DATA);
	words[63] = 0;
	check_eq("SP wraps around", stack(B, 0x12340000, &popped), NO_FAULT);
	check_eq("to the top of 64 KiB", words[63], 0x1234);
	check_eq("and back", result, 0x12340000);
}

/* ---- code --------------------------------------------------------------- */

/* The same bytes at the same address by another base: EIP differs. */
__asm__("do_where: call 1f; 1: pop %eax; jmp 2f; nop; 2: cmp %eax, %eax\n"
	"jne do_where; mov %eax, result; lret\n");
extern const char do_where[];

static void
bases(void)
{
	unsigned right = 0;

	gdt[A / 8] =
	    segment((uint32_t)do_where - 0x100, 0xfffff, DESC_CODE | FLAT);
	gdt[B / 8] =
	    segment((uint32_t)do_where - 0x100, 0x108, DESC_CODE | DESC_BIG);
	for (unsigned n = 0; n < 30; n++) {
		pointer.selector = CODE_SELECTOR;
		pointer.off = (uint32_t)do_where;
		right += TRY_FULL("lcall *pointer", , "r"(0), "eax", "cc") ==
			NO_FAULT &&
		    result == (uint32_t)do_where + 5;
		pointer.selector = A;
		pointer.off = 0x100;
		right += TRY_FULL("lcall *pointer", , "r"(0), "eax", "cc") ==
			NO_FAULT &&
		    result == 0x105;
		/* A limit within it: its jump leads beyond. */
		pointer.selector = B;
		right +=
		    TRY_FULL("lcall *pointer", , "r"(0), "eax", "cc") == GP &&
		    fault_error == 0 && fault_cs == B && fault_ip == 0x106;
	}
	check_eq("two bases and a limit", right, 90);
}

/*
 * As 32-bit code ADD EAX, 0x90909090 is five bytes long; as 16-bit code it is
 * ADD AX, 0x9090 and two NOPs.  INT comes home from both.
 */
__asm__("do_width: .byte 0x05, 0x90, 0x90, 0x90, 0x90\n"
	"mov %eax, %edx\n" /* or MOV DX, AX */
	"int $0x80\n");
extern const char do_width[];

static void
widths(void)
{
	unsigned right = 0;

	gdt[A / 8] = segment((uint32_t)do_width, 0xffff, DESC_CODE);
	gdt[B / 8] = segment((uint32_t)do_width, 0xffff, DESC_CODE | DESC_BIG);
	pointer.off = 0;
	for (unsigned n = 0; n < 30; n++) {
		uint32_t value;

		pointer.selector = B;
		right += TRY_FULL("mov $0x11110000, %%eax; xor %%edx, %%edx;"
				  "ljmp *pointer",
			     "=d"(value), "r"(0), "eax", "cc") == HOME &&
		    value == 0xa1a19090;
		pointer.selector = A;
		right += TRY_FULL("mov $0x11110000, %%eax; xor %%edx, %%edx;"
				  "ljmp *pointer",
			     "=d"(value), "r"(0), "eax", "cc") == HOME &&
		    value == 0x9090;
	}
	check_eq("16 and 32 bits", right, 60);
	/* A jump of 16-bit code over the end of 64 KiB leads to its begin. */
	gdt[A / 8] = segment((uint32_t)code16, 0xffff, DESC_CODE);
	code16[0xfff0] = 0xeb; /* JMP + 0x20 */
	code16[0xfff1] = 0x20;
	code16[0x12] = 0xcd; /* INT 80h */
	code16[0x13] = HOME;
	pointer.off = 0xfff0;
	pointer.selector = A;
	check_eq("IP wraps around", TRY("ljmp *pointer", "r"(0)), HOME);
	check_eq("at 64 KiB", fault_ip, 0x14);
}

void
payload(void)
{
	test("context32");
	ring_init();
	gate(SS, flat12);
	gate(GP, flat13);
	data();
	stacks();
	bases();
	widths();
	done();
}
