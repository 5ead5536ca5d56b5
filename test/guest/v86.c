/*
 * Virtual-8086 mode (SDM volume 3, chapter 20): in by IRET and by a task, out
 * by exceptions and interrupts with all its segment registers; what IOPL and
 * the I/O bitmap allow; real-mode segments; and a DOS-like program whose INT
 * 21h, CLI, PUSHF and IRET a monitor carries out, as EMM386 and DOSEMU did.
 * With VME (20.3), if CPUID offers it, also without a monitor.
 */
#include "ring.h"

#define PROGRAM 0x10000u /* CS */
#define PROGRAM_SEGMENT (PROGRAM >> 4)
#define STACK_SEGMENT 0x2000u
#define STACK_TOP 0x100u
#define DATA_SEGMENT 0x3000u
#define OTHER (GDT_FREE * 8)
#define RING1_CODE ((GDT_FREE + 1) * 8)

/* As the stubs below leave it on the stack. */
struct regs {
	uint32_t edi, esi, ebp, skip, ebx, edx, ecx, eax;
	uint32_t vector, error;
	uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs;
};

/* The bitmap, with the VME's before it, ends the TSS. */
static struct {
	struct tss tss;
	uint8_t redirect[32];
	uint8_t ports[0x700 / 8 + 1];
} __attribute__((packed)) io;

static struct regs out __attribute__((used)); /* the last exit */
static struct regs in __attribute__((used));  /* what is entered */
static uint32_t home_esp __attribute__((used));
static uint32_t exit_ds __attribute__((used));
static bool monitored;

bool on_exit(struct regs *r);

#define EACH_STUB(each)                                                  \
	each(0) each(1) each(3) each(4) each(5) each(6) each(7) each(10) \
	    each(11) each(12) each(13) each(14) each(33) each(48)
#define STUB(n, error) \
	__asm__("exit" #n ": " error "push $" #n "; jmp exit_common\n");
STUB(0, "push $0;")
STUB(1, "push $0;")
STUB(3, "push $0;")
STUB(4, "push $0;")
STUB(5, "push $0;")
STUB(6, "push $0;")
STUB(7, "push $0;")
STUB(10, )
STUB(11, )
STUB(12, )
STUB(13, )
STUB(14, )
STUB(33, "push $0;")
STUB(48, "push $0;")
__asm__(".text\n"
	"exit_common: pusha\n"
	"mov %ds, %ecx; mov $0x23, %eax; mov %eax, %ds; mov %eax, %es\n"
	"mov %ecx, exit_ds\n"
	"push %esp; call on_exit; add $4, %esp\n"
	"test %al, %al; jz 1f\n"
	"popa; add $8, %esp; iret\n"
	"1: mov home_esp, %esp; push $2; popf; popa; ret\n"
	"enter: pusha; mov %esp, home_esp\n"
	"mov $in + 76, %ecx\n" /* gs, then downwards to eip */
	"1: sub $4, %ecx; pushl (%ecx); cmp $in + 40, %ecx; jne 1b\n"
	"mov in + 28, %eax; mov in + 20, %edx; mov in + 16, %ebx\n"
	"iret\n");
void enter(void);

#define DECLARE(n) extern const char exit##n[];
EACH_STUB(DECLARE)

static void
v86_gates(void)
{
#define GATE_OF(n) gate(n, exit##n);
	EACH_STUB(GATE_OF)
	gate_flags(BP, exit3, GATE_INTERRUPT | GATE_USER);
	gate_flags(33, exit33, GATE_INTERRUPT | GATE_USER);
}

/* Run what stands at PROGRAM:ip; out is how it ended. */
static uint32_t
run_at(uint16_t ip, uint32_t flags)
{
	in.eip = ip;
	in.cs = PROGRAM_SEGMENT;
	in.eflags = flags | FLAG_VM | 2;
	in.esp = STACK_TOP;
	in.ss = STACK_SEGMENT;
	in.es = 0x1111;
	in.ds = DATA_SEGMENT;
	in.fs = 0x2222;
	in.gs = 0x3333;
	out.vector = NO_FAULT;
	__asm__ volatile("call enter" ::
			     : "eax", "ebx", "ecx", "edx", "esi", "edi",
			 "memory", "cc");
	return out.vector;
}

static uint32_t
run(const uint8_t *code, unsigned len, uint32_t flags)
{
	volatile uint8_t *to = (volatile uint8_t *)PROGRAM;

	for (unsigned i = 0; i < len; i++)
		to[i] = code[i];
	to[len] = 0xf4; /* HLT is #GP */
	return run_at(0, flags);
}
#define RUN(flags, ...)                                 \
	({                                              \
		const uint8_t code[] = { __VA_ARGS__ }; \
                                                        \
		run(code, sizeof(code), flags);         \
	})
/* It ended by the HLT behind it. */
#define RAN(len) (out.vector == GP && out.error == 0 && out.eip == (len))

/* ---- in and out --------------------------------------------------------- */

static void
frames(void)
{
	check_eq("out by #GP", RUN(0, 0xf4), GP);
	check_eq("its error code", out.error, 0);
	check_eq("CS", out.cs, PROGRAM_SEGMENT);
	check_eq("EIP", out.eip, 0);
	check_eq("VM in the flags", out.eflags & FLAG_VM, FLAG_VM);
	check_eq("SS", out.ss, STACK_SEGMENT);
	check_eq("ESP", out.esp, STACK_TOP);
	check_eq("ES", out.es, 0x1111);
	check_eq("DS", out.ds, DATA_SEGMENT);
	check_eq("FS", out.fs, 0x2222);
	check_eq("GS", out.gs, 0x3333);
	check_eq("DS in the handler is null", exit_ds, 0);
	(void)RUN(0, 0x66, 0xb8, 0x78, 0x56, 0x34, 0x12); /* MOV EAX */
	check_eq("32-bit registers", out.eax, 0x12345678);
	in.eax = 7;
	in.ebx = 0;
	check_eq("#DE", RUN(0, 0x90, 0xf6, 0xf3), DE); /* DIV BL */
	check_eq("its EIP", out.eip, 1);
	check_eq("#UD", RUN(0, 0x0f, 0x0b), UD);
	check_eq("#DB by TF", RUN(FLAG_TF, 0x90, 0x90), DB);
	check_eq("its EIP", out.eip, 1);
	write_dr6(0xffff0ff0);
}

/* MOV DS, imm; MOV AX, [off] */
#define LOAD(segment, off)                                                  \
	0xb8, (segment)&0xff, (segment) >> 8, 0x8e, 0xd8, 0xa1, (off)&0xff, \
	    (off) >> 8

static void
segments(void)
{
	*(volatile uint32_t *)(DATA_SEGMENT << 4) = 0x55aa1234;
	(void)RUN(0, LOAD(DATA_SEGMENT, 0));
	check_eq("a base is the selector, four bits on", out.eax & 0xffff,
	    0x1234);
	(void)RUN(0, LOAD(DATA_SEGMENT - 0x100, 0x1002));
	check_eq("any selector", out.eax & 0xffff, 0x55aa);
	check_eq("beyond 64 KiB", RUN(0, LOAD(DATA_SEGMENT, 0xffff)), GP);
	check_eq("its error code", out.error, 0);
	check_eq("its EIP", out.eip, 5);
	/* MOV AX, SS:[0xffff] */
	check_eq("of the stack", RUN(0, 0x36, 0xa1, 0xff, 0xff), SS);
	/* MOV CS: AX; and a far jump to itself by another selector */
	(void)RUN(0, 0xea, 0x15, 0x00, 0xff, 0x0f, 0xf4);
	check_eq("a far jump", out.cs, PROGRAM_SEGMENT - 1);
	check_eq("its EIP", out.eip, 0x15);
	(void)RUN(0, 0x0e, 0x68, 0x07, 0x00, 0xcb, 0x90, 0x90); /* RETF */
	check_eq("a far return", out.eip, 7);
	check_eq("ARPL", RUN(0, 0x63, 0xc0), UD);
	check_eq("LAR", RUN(0, 0x0f, 0x02, 0xc0), UD);
	check_eq("SLDT", RUN(0, 0x0f, 0x00, 0xc0), UD);
	check_eq("VERR", RUN(0, 0x0f, 0x00, 0xe0), UD);
	check_eq("SMSW", (RUN(0, 0x0f, 0x01, 0xe0), out.eax & 1), 1);
	check_eq("LMSW", RUN(0, 0x0f, 0x01, 0xf0), GP);
	check_eq("MOV from CR0", RUN(0, 0x0f, 0x20, 0xc0), GP);
	check_eq("LGDT", RUN(0, 0x0f, 0x01, 0x16, 0x00, 0x00), GP);
	check_eq("CLTS", RUN(0, 0x0f, 0x06), GP);
}

/* ---- IOPL --------------------------------------------------------------- */

static void
iopl(void)
{
	check_eq("IOPL 0: CLI", RUN(0, 0xfa) << 8 | out.eip, GP << 8);
	check_eq("STI", RUN(0, 0xfb) << 8 | out.eip, GP << 8);
	check_eq("PUSHF", RUN(0, 0x9c) << 8 | out.eip, GP << 8);
	check_eq("POPF", RUN(0, 0x9d) << 8 | out.eip, GP << 8);
	check_eq("INT 21h", RUN(0, 0xcd, 0x21) << 8 | out.eip, GP << 8);
	check_eq("its error code", out.error, 0);
	check_eq("IRET", RUN(0, 0xcf) << 8 | out.eip, GP << 8);
	check_eq("IOPL 2, too", RUN(0x2000, 0xfa) << 8 | out.eip, GP << 8);
	check_eq("INT3 is not sensitive", RUN(0, 0xcc), BP);
	check_eq("its EIP", out.eip, 1);
	check_eq("nor is INTO", RUN(0, 0xb0, 0x7f, 0xfe, 0xc0, 0xce), GP);
	check_eq("whose gate is ring 0's", out.error, 4 * 8 + 2);

	(void)RUN(FLAG_IOPL | FLAG_IF, 0xfa);
	check("IOPL 3: CLI", RAN(1));
	check_eq("IF", out.eflags & FLAG_IF, 0);
	(void)RUN(FLAG_IOPL, 0xfb, 0x90);
	check("STI", RAN(2));
	check_eq("IF", out.eflags & FLAG_IF, FLAG_IF);
	(void)RUN(FLAG_IOPL, 0x9c, 0x58); /* PUSHF; POP AX */
	check_eq("PUSHF", out.eax & 0xffff, FLAG_IOPL | 2);
	/* PUSH 0x0ed7 less TF; POPF */
	(void)RUN(FLAG_IOPL, 0x68, 0xd7, 0x0e, 0x9d);
	check("POPF", RAN(4));
	check_eq("keeps VM and IOPL", out.eflags & (FLAG_VM | 0x7fd7),
	    FLAG_VM | FLAG_IOPL | 0xed7);
	/* PUSH flags, CS, IP 12; IRET */
	(void)RUN(FLAG_IOPL, 0x68, 0x03, 0x00, 0x0e, 0x68, 0x0c, 0x00, 0xcf,
	    0x90, 0x90, 0x90, 0x90);
	check("IRET", RAN(12));
	check_eq("keeps VM and IOPL", out.eflags & (FLAG_VM | 0x7fd7),
	    FLAG_VM | FLAG_IOPL | 3);
	check_eq("INT 21h by its gate", RUN(FLAG_IOPL, 0xcd, 0x21), 0x21);
	check_eq("its EIP", out.eip, 2);
	check_eq("INT 30h, whose gate is ring 0's", RUN(FLAG_IOPL, 0xcd, 0x30),
	    GP);
	check_eq("its error code", out.error, 0x30 * 8 + 2);
	check_eq("HLT", RUN(FLAG_IOPL, 0xf4), GP);
	/* It is left for ring 0 only. */
	gdt[RING1_CODE / 8] = segment(0, 0xfffff,
	    DESC_CODE | DESC_CONFORMING | DESC_BIG | DESC_PAGES);
	idt[0x21] = (idt[0x21] & ~0xffff0000ULL) | RING1_CODE << 16;
	check_eq("INT to conforming code", RUN(FLAG_IOPL, 0xcd, 0x21), GP);
	check_eq("its error code", out.error, RING1_CODE);
	v86_gates();
}

/* Whatever IOPL is, the bitmap decides. */
static void
ports(void)
{
	out8(TESTDEV_PORTS, 0x5a);
	io.ports[TESTDEV_PORTS / 8] = 0xfe;
	(void)RUN(0, 0xba, 0x00, 0x06, 0xec);
	check("IN of an open port", RAN(4));
	check_eq("its value", out.eax & 0xff, 0x5a);
	check_eq("the next port", RUN(0, 0xba, 0x01, 0x06, 0xec), GP);
	check_eq("both at once", RUN(0, 0xba, 0x00, 0x06, 0xed), GP);
	check_eq("with IOPL 3", RUN(FLAG_IOPL, 0xba, 0x01, 0x06, 0xec), GP);
	check_eq("beyond the TSS", RUN(0, 0xba, 0x00, 0xff, 0xec), GP);
	/* INS into ES:DI, whose port is open. */
	(void)RUN(0, 0xba, 0x00, 0x06, 0xbf, 0, 0, 0xb8, 0x00, 0x30, 0x8e, 0xc0,
	    0x6c);
	check("INS", RAN(12));
	check_eq("its byte", read8(DATA_SEGMENT << 4), 0x5a);
	io.ports[TESTDEV_PORTS / 8] = 0xff;
}

/* ---- a program and its monitor ------------------------------------------ */

static unsigned calls[256];
static uint32_t virtual_if;
static char said[16];

__asm__(".code16\n"
	"dos: sti\n"
	"push %cs; pop %ds\n"
	"mov $0x09, %ah; mov $(dos_text - dos), %dx; int $0x21\n"
	"mov $5, %cx\n"
	"1: mov $0x02, %ah; mov $'x', %dl; int $0x21; loop 1b\n"
	"cli; pushf; pop %bx; sti; pushf; pop %si\n"
	"xor %di, %di; int $0x1c; int $0x1c\n"
	"hlt\n"
	"dos_text: .ascii \"hello$\"\n"
	"dos_handler: add $100, %di; iret\n"
	"dos_end:\n"
	".code32\n");
extern const uint8_t dos[], dos_handler[], dos_end[];

static uint8_t *
linear(uint32_t segment_, uint32_t off)
{
	return (uint8_t *)((segment_ << 4) + (off & 0xffff));
}

static void
push16(struct regs *r, uint32_t value)
{
	r->esp = (r->esp & 0xffff0000) | ((r->esp - 2) & 0xffff);
	*(uint16_t *)linear(r->ss, r->esp) = (uint16_t)value;
}

static uint32_t
pop16(struct regs *r)
{
	uint32_t value = *(uint16_t *)linear(r->ss, r->esp);

	r->esp = (r->esp & 0xffff0000) | ((r->esp + 2) & 0xffff);
	return value;
}

static void
say(char c)
{
	for (unsigned i = 0; i < sizeof(said) - 1; i++) {
		if (said[i] == '\0') {
			said[i] = c;
			return;
		}
	}
}

/* INT 21h: DOS is the monitor.  All others are the program's. */
static void
dos_int(struct regs *r, uint8_t n)
{
	const uint16_t *vector = (const uint16_t *)0 + 2 * n;

	calls[n]++;
	r->eip += 2;
	if (n == 0x21) {
		const uint8_t *text = linear(r->ds, r->edx);

		if ((r->eax >> 8 & 0xff) == 2)
			say((char)r->edx);
		else
			while (*text != '$')
				say((char)*text++);
		return;
	}
	push16(r, (r->eflags & 0xcfff & ~FLAG_IF) | virtual_if);
	push16(r, r->cs);
	push16(r, r->eip);
	__asm__("" : "+r"(vector)); /* address 0 is one here */
	r->eip = vector[0];
	r->cs = vector[1];
	virtual_if = 0;
}

bool
on_exit(struct regs *r)
{
	const uint8_t *code = linear(r->cs, r->eip);

	out = *r;
	if (!monitored || r->vector != GP || r->error != 0)
		return false;
	switch (code[0]) {
	case 0xcd:
		dos_int(r, code[1]);
		return true;
	case 0xcf: {
		uint32_t flags;

		r->eip = pop16(r);
		r->cs = pop16(r);
		flags = pop16(r);
		virtual_if = flags & FLAG_IF;
		r->eflags = (r->eflags & 0xffff3200) | (flags & 0xcdd5) | 2;
		return true;
	}
	case 0xfa:
		virtual_if = 0;
		break;
	case 0xfb:
		virtual_if = FLAG_IF;
		break;
	case 0x9c:
		push16(r, (r->eflags & ~FLAG_IF) | virtual_if);
		break;
	default:
		return false;
	}
	calls[code[0]]++;
	r->eip++;
	return true;
}

static void
program(void)
{
	uint16_t *vector = (uint16_t *)0 + 2 * 0x1c;

	__asm__("" : "+r"(vector));
	vector[0] = (uint16_t)(dos_handler - dos);
	vector[1] = PROGRAM_SEGMENT;
	for (const uint8_t *from = dos; from < dos_end; from++)
		*(volatile uint8_t *)(PROGRAM + (from - dos)) = *from;
	monitored = true;
	check_eq("the program ends by HLT", run_at(0, 0), GP);
	check_eq("in its own code", out.cs, PROGRAM_SEGMENT);
	check_eq("INT 21h", calls[0x21], 6);
	check("what it said",
	    said[0] == 'h' && said[4] == 'o' && said[5] == 'x' &&
		said[9] == 'x' && said[10] == '\0');
	check_eq("CLI, then PUSHF", out.ebx & 0xffff & FLAG_IF, 0);
	check_eq("STI, then PUSHF", out.esi & 0xffff & FLAG_IF, FLAG_IF);
	check_eq("its own handler ran twice", out.edi & 0xffff, 200);
	check_eq("the stack is balanced", out.esp, STACK_TOP);
	check_eq("CLI and STI", calls[0xfa] << 8 | calls[0xfb], 0x102);
	monitored = false;
}

/* ---- by a task ---------------------------------------------------------- */

static void
by_task(void)
{
	static struct tss task;
	static struct {
		uint32_t off;
		uint16_t selector;
	} __attribute__((packed)) pointer = { 0, OTHER };

	task = io.tss;
	task.eip = 1;
	task.eflags = FLAG_VM | 2;
	task.cs = PROGRAM_SEGMENT;
	task.ss = STACK_SEGMENT;
	task.esp = STACK_TOP;
	task.ds = task.es = DATA_SEGMENT;
	gdt[OTHER / 8] = segment((uint32_t)&task, sizeof(task) - 1, DESC_TSS32);
	(void)RUN(0, 0x90);
	write8(PROGRAM, 0xb8);
	write8(PROGRAM + 1, 0x90);
	write8(PROGRAM + 2, 0xf4);
	out.vector = NO_FAULT;
	__asm__ volatile("call 2f; jmp 3f; 2: pusha; mov %%esp, home_esp;"
			 "ljmp *%0; 3:"
			 :
			 : "m"(pointer)
			 : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory",
			 "cc");
	check_eq("a task in virtual-8086 mode", out.vector, GP);
	check_eq("CS", out.cs, PROGRAM_SEGMENT);
	check_eq("EIP", out.eip, 2);
	check_eq("DS", out.ds, DATA_SEGMENT);
	check_eq("VM", out.eflags & FLAG_VM, FLAG_VM);
	gdt[TSS_SELECTOR / 8] &= ~((uint64_t)DESC_BUSY << 32);
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}

/* ---- VME ---------------------------------------------------------------- */

static void
vme(void)
{
	uint16_t *vector = (uint16_t *)0 + 2 * 0x1c;

	__asm__("" : "+r"(vector));
	write_cr4(read_cr4() | CR4_VME);
	(void)RUN(FLAG_VIF, 0xfa);
	check("VME: CLI", RAN(1));
	check_eq("clears VIF", out.eflags & FLAG_VIF, 0);
	(void)RUN(0, 0xfb);
	check("STI", RAN(1));
	check_eq("sets VIF", out.eflags & FLAG_VIF, FLAG_VIF);
	check_eq("STI with VIP", RUN(FLAG_VIP, 0xfb), GP);
	(void)RUN(FLAG_VIF, 0x9c, 0x58);
	check_eq("PUSHF has VIF for IF, and IOPL 3", out.eax & 0xffff,
	    FLAG_IF | FLAG_IOPL | 2);
	vector[0] = 0x20;
	vector[1] = PROGRAM_SEGMENT;
	write8(PROGRAM + 0x20, 0xf4);
	io.redirect[0x1c / 8] = 0;
	check_eq("INT n to the program's own handler",
	    RUN(FLAG_VIF, 0xcd, 0x1c) << 8 | out.eip, GP << 8 | 0x20);
	check_eq("clears VIF", out.eflags & FLAG_VIF, 0);
	io.redirect[0x1c / 8] = 0xff;
	check_eq("or to the monitor", RUN(FLAG_VIF, 0xcd, 0x1c) << 8 | out.eip,
	    GP << 8);
	write_cr4(read_cr4() & ~CR4_VME);
}

void
payload(void)
{
	uint32_t r[4];

	test("v86");
	ring_init();
	for (unsigned i = 0; i < sizeof(io.redirect); i++)
		io.redirect[i] = 0xff;
	for (unsigned i = 0; i < sizeof(io.ports); i++)
		io.ports[i] = 0xff;
	io.tss = ring_tss;
	io.tss.iomap = offsetof(__typeof__(io), ports);
	gdt[TSS_SELECTOR / 8] =
	    segment((uint32_t)&io, sizeof(io) - 1, DESC_TSS32);
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
	v86_gates();
	frames();
	segments();
	iopl();
	ports();
	program();
	by_task();
	cpuid(1, 0, r);
	if (r[3] >> 1 & 1)
		vme();
	else
		check_eq("VME that is not offered",
		    (traps_init(),
			TRY("mov %0, %%cr4", "r"(read_cr4() | CR4_VME))),
		    GP);
	done();
}
