/*
 * Task switches (SDM volume 3, 7.2 to 7.4): by CALL, JMP, IRET, INT and
 * exceptions through task gates; busy bits, back links, NT and TS; TSSs of 32
 * and 16 bits; what is wrong with the new task, which faults in the new task
 * (table 7-1); the debug trap bit.
 */
#include "ring.h"

#define FLAT (DESC_BIG | DESC_PAGES)
#define OTHER (GDT_FREE * 8) /* a task */
#define HANDLER_TASK ((GDT_FREE + 1) * 8)
#define SMALL ((GDT_FREE + 2) * 8) /* one of 16 bits */
#define GATE ((GDT_FREE + 3) * 8)  /* a task gate */
#define SPARE ((GDT_FREE + 4) * 8)
#define SMALL_CODE ((GDT_FREE + 5) * 8)
#define LDT_SELECTOR ((GDT_FREE + 6) * 8)
#define SMALL_STACK ((GDT_FREE + 7) * 8)
#define NO_ERROR 0xdeadu
#define DR6_BT 0x8000u
#define WINDOW 0x50000000u

struct tss16 {
	uint16_t link, stacks[6], ip, flags, ax, cx, dx, bx, sp, bp, si, di;
	uint16_t es, cs, ss, ds, ldt;
} __attribute__((packed));

static struct tss other, handler;
static struct tss16 small;
static uint8_t stack[512] __attribute__((aligned(16)));
static uint8_t handler_stack[512] __attribute__((aligned(16)));

/* What the tasks found. */
static struct {
	uint32_t runs, flags, tr, cr0, ldt, esi, window;
	uint32_t main_desc, other_desc; /* upper halves */
	uint32_t handled, error, handler_esp;
} seen __attribute__((used));
static struct {
	uint32_t off;
	uint16_t selector;
} __attribute__((packed)) pointer __attribute__((used));

#define STRING(x) #x
#define VALUE(x) STRING(x)
__asm__(
    ".text\n"
    "look: pushf; pop seen + 4\n"
    "incl seen\n"
    "movl $0, seen + 8; str seen + 8\n"
    "mov %cr0, %eax; mov %eax, seen + 12\n"
    "movl $0, seen + 16; sldt seen + 16\n"
    "mov %esi, seen + 20\n"
    "mov gdt + 0x28 + 4, %eax; mov %eax, seen + 28\n"
    "mov gdt + 0x30 + 4, %eax; mov %eax, seen + 32\n"
    "ret\n"
    /* Goes back to where it was called from, again and again. */
    "nested: call look; iret; jmp nested\n"
    "jumped: call look; ljmp $0x28, $0; jmp jumped\n"
    "paged: mov " VALUE(
	WINDOW) ", %eax; mov %eax, seen + 24\n"
		"iret; jmp paged\n"
		/* Handles an exception with an error code: skips two bytes. */
		"skips: incl seen + 36; popl seen + 40; mov %esp, seen + 44\n"
		"addl $2, ring_tss + 32\n"
		"iret; jmp skips\n"
		/* The same of a task that cannot go on: the first one does. */
		"leaves: incl seen + 36; popl seen + 40; mov %esp, seen + 44\n"
		"ljmp $0x28, $0; jmp leaves\n"
		"small_entry: call 1f; iret; jmp small_entry\n"
		"1: incl seen; pushf; pop seen + 4\n"
		"movl $0, seen + 8; str seen + 8; mov %esi, seen + 20; ret\n");
extern const char nested[], jumped[], paged[], skips[], leaves[], small_entry[];

static uint32_t
type_of(unsigned selector)
{
	return (uint32_t)(gdt[selector / 8] >> 40) & 0xf;
}

static void
clean(void)
{
	gdt[OTHER / 8] =
	    segment((uint32_t)&other, sizeof(other) - 1, DESC_TSS32);
	gdt[HANDLER_TASK / 8] =
	    segment((uint32_t)&handler, sizeof(handler) - 1, DESC_TSS32);
	gdt[SMALL / 8] =
	    segment((uint32_t)&small, sizeof(small) - 1, DESC_TSS16);
}

static void
fill(struct tss *tss, const void *entry, uint8_t *top)
{
	*tss = (struct tss) {
		.eip = (uint32_t)entry,
		.eflags = 2,
		.esp = (uint32_t)top,
		.esi = 0x12345678,
		.es = USER_DATA,
		.cs = CODE_SELECTOR,
		.ss = DATA_SELECTOR,
		.ds = USER_DATA,
		.iomap = sizeof(*tss),
		.cr3 = read_cr3(),
	};
	clean();
}

static uint32_t
switch_to(unsigned selector, bool call)
{
	pointer.selector = (uint16_t)selector;
	pointer.off = 0xdeadbeef;
	fault_error = NO_ERROR;
	return call ? TRY_FULL(HERE("lcall *pointer"), , "r"(0), "eax", "cc") :
		      TRY_FULL(HERE("ljmp *pointer"), , "r"(0), "eax", "cc");
}

/* ---- switches ----------------------------------------------------------- */

static void
by_call(void)
{
	fill(&other, nested, stack + sizeof(stack));
	seen.runs = 0;
	write_cr0(read_cr0() & ~CR0_TS);
	check_eq("CALL of a TSS", switch_to(OTHER, true), NO_FAULT);
	check_eq("the task ran", seen.runs, 1);
	check_eq("NT", seen.flags, FLAG_NT | 2);
	check_eq("TR", seen.tr, OTHER);
	check_eq("TS", seen.cr0 & CR0_TS, CR0_TS);
	check_eq("ESI of its TSS", seen.esi, 0x12345678);
	check_eq("the link", other.link, TSS_SELECTOR);
	check_eq("both are busy: the caller", seen.main_desc >> 8 & 0xf, 0xb);
	check_eq("and the called", seen.other_desc >> 8 & 0xf, 0xb);
	check_eq("after IRET it is not", type_of(OTHER), 9);
	check_eq("the caller is", type_of(TSS_SELECTOR), 0xb);
	check_eq("NT is clear again", read_flags() & FLAG_NT, 0);
	check_eq("and in its TSS", other.eflags & FLAG_NT, 0);
	check_eq("the caller's EIP was saved", ring_tss.eip, insn_end);
	check_eq("ESP", ring_tss.esp, fault_sp);
	check_eq("CS", ring_tss.cs & 0xffff, CODE_SELECTOR);
	check_eq("DS", ring_tss.ds & 0xffff, USER_DATA);
	check_eq("again: it goes on behind its IRET", switch_to(OTHER, true),
	    NO_FAULT);
	check_eq("the task ran", seen.runs, 2);
	write_cr0(read_cr0() & ~CR0_TS);
}

static void
by_jump(void)
{
	fill(&other, jumped, stack + sizeof(stack));
	other.link = 0x1111;
	seen.runs = 0;
	check_eq("JMP to a TSS", switch_to(OTHER, false), NO_FAULT);
	check_eq("the task ran", seen.runs, 1);
	check_eq("no NT", seen.flags, 2);
	check_eq("no link", other.link, 0x1111);
	check_eq("the old task is not busy", seen.main_desc >> 8 & 0xf, 9);
	check_eq("the new one is", seen.other_desc >> 8 & 0xf, 0xb);
	check_eq("and back: not", type_of(OTHER), 9);
	check_eq("the first one is", type_of(TSS_SELECTOR), 0xb);
}

static void
by_gates(void)
{
	uint64_t old = idt[HOME];

	fill(&other, nested, stack + sizeof(stack));
	seen.runs = 0;
	gdt[GATE / 8] = far_gate(OTHER, 0, DESC_TASK_GATE | DESC_DPL(3));
	check_eq("CALL of a task gate", switch_to(GATE, true), NO_FAULT);
	check_eq("the task ran", seen.runs, 1);
	check_eq("from ring 3",
	    USER_FULL(HERE("lcall *pointer"), , "r"(0), "eax", "cc"), HOME);
	check_eq("the task ran", seen.runs, 2);
	check_eq("ring 3's CS was saved", ring_tss.cs & 0xffff, USER_CODE);
	gdt[GATE / 8] = far_gate(OTHER, 0, DESC_TASK_GATE | DESC_DPL(2));
	check_eq("a gate of ring 2",
	    USER_FULL(HERE("lcall *pointer"), , "r"(0), "eax", "cc"), GP);
	check_eq("its error code", fault_error, GATE);
	gdt[GATE / 8] = far_gate(OTHER, 0, DESC_TASK_GATE & ~DESC_P);
	check_eq("not present", switch_to(GATE, true), NP);
	check_eq("its error code", fault_error, GATE);
	gdt[GATE / 8] = far_gate(DATA_SELECTOR, 0, DESC_TASK_GATE);
	check_eq("to data", switch_to(GATE, true), GP);
	check_eq("its error code", fault_error, DATA_SELECTOR);

	idt[HOME] = far_gate(OTHER, 0, DESC_TASK_GATE);
	seen.runs = 0;
	check_eq("INT through a task gate",
	    TRY_FULL(HERE("int $0x80"), , "r"(0), "eax", "cc"), NO_FAULT);
	check_eq("the task ran", seen.runs, 1);
	check_eq("EIP saved", ring_tss.eip, insn_end);
	idt[HOME] = old;
}

/* An exception's task finds the error code on its stack. */
static void
exceptions(void)
{
	uint64_t old = idt[GP];

	fill(&handler, skips, handler_stack + sizeof(handler_stack));
	seen.handled = 0;
	idt[GP] = far_gate(HANDLER_TASK, 0, DESC_TASK_GATE);
	check_eq("#GP by a task gate", TRY(HERE("mov %0, %%fs"), "r"(0xfff8)),
	    NO_FAULT);
	check_eq("its task ran", seen.handled, 1);
	check_eq("with the error code", seen.error, 0xfff8);
	check_eq("popped from its stack", seen.handler_esp,
	    (uint32_t)handler_stack + sizeof(handler_stack));
	check_eq("EIP saved, two bytes on", ring_tss.eip, insn_end);
	check_eq("RF saved", ring_tss.eflags & FLAG_RF, FLAG_RF);
	check_eq("again", TRY(HERE("mov %0, %%gs"), "r"(0xfff8)), NO_FAULT);
	check_eq("its task ran", seen.handled, 2);
	idt[GP] = old;
}

/* No stack for #SS: #DF, whose task has one. */
static void
double_fault(void)
{
	uint64_t old = idt[DF];

	fill(&handler, leaves, handler_stack + sizeof(handler_stack));
	seen.handled = 0;
	seen.error = NO_ERROR;
	gdt[SPARE / 8] = segment(0, 0xff, DESC_DATA | DESC_BIG);
	idt[DF] = far_gate(HANDLER_TASK, 0, DESC_TASK_GATE);
	gdt[TSS_SELECTOR / 8] &= ~((uint64_t)DESC_BUSY << 32);
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
	/* The task comes back to 1: with what is saved then. */
	(void)TRY_FULL("mov %0, %%ss; mov $0x1000, %%esp; push %%eax", ,
	    "r"(SPARE), "eax", "cc");
	check_eq("#DF by a task gate", seen.handled, 1);
	check_eq("its error code", seen.error, 0);
	idt[DF] = old;
}

/* ---- what is wrong ------------------------------------------------------ */

static void
refused(void)
{
	fill(&other, nested, stack + sizeof(stack));
	gdt[OTHER / 8] |= (uint64_t)DESC_BUSY << 32;
	check_eq("a busy TSS", switch_to(OTHER, true), GP);
	check_eq("its error code", fault_error, OTHER);
	check_eq("by a jump", switch_to(OTHER, false), GP);
	check_eq("one's own", switch_to(TSS_SELECTOR, false), GP);
	clean();
	gdt[OTHER / 8] &= ~((uint64_t)DESC_P << 32);
	check_eq("not present", switch_to(OTHER, true), NP);
	check_eq("its error code", fault_error, OTHER);
	gdt[OTHER / 8] = segment((uint32_t)&other, 0x66, DESC_TSS32);
	check_eq("too short", switch_to(OTHER, true), TS);
	check_eq("its error code", fault_error, OTHER);
	check_eq("in the old task", fault_ip, insn_at);
	gdt[SMALL / 8] = segment((uint32_t)&small, 0x2a, DESC_TSS16);
	check_eq("of 16 bits, too short", switch_to(SMALL, true), TS);
	check_eq("its error code", fault_error, SMALL);
	clean();
	check_eq("in ring 3",
	    (pointer.selector = OTHER,
		USER_FULL(HERE("lcall *pointer"), , "r"(0), "eax", "cc")),
	    GP);
	check_eq("its error code", fault_error, OTHER);

	/* IRET with NT: the link must be a busy TSS. */
	ring_tss.link = OTHER;
	fault_error = NO_ERROR;
	check_eq("IRET to a task that is not busy",
	    TRY("pushf; orl $0x4000, (%%esp); popf; iret", "r"(0)), TS);
	check_eq("its error code", fault_error, OTHER);
	ring_tss.link = 0xc;
	check_eq("to one of the LDT",
	    TRY("pushf; orl $0x4000, (%%esp); popf; iret", "r"(0)), TS);
	check_eq("its error code", fault_error, 0xc);
	ring_tss.link = DATA_SELECTOR;
	check_eq("to data",
	    TRY("pushf; orl $0x4000, (%%esp); popf; iret", "r"(0)), TS);
	check_eq("its error code", fault_error, DATA_SELECTOR);
	__asm__ volatile("push $2; popf" : : : "cc");
}

/* The new task's own faults: a task of their own handles them. */
static void
broken(const char *name, unsigned vector, uint32_t error)
{
	uint64_t old = idt[vector];

	fill(&handler, leaves, handler_stack + sizeof(handler_stack));
	gdt[HANDLER_TASK / 8] &= ~((uint64_t)DESC_BUSY << 32);
	seen.handled = 0;
	seen.error = NO_ERROR;
	idt[vector] = far_gate(HANDLER_TASK, 0, DESC_TASK_GATE);
	(void)switch_to(OTHER, false);
	idt[vector] = old;
	check_eq(name, seen.handled, 1);
	check_eq("its error code", seen.error, error);
	check_eq("in the new task", handler.link, OTHER);
	check_eq("whose EIP is saved", other.eip, (uint32_t)nested);
	fill(&other, nested, stack + sizeof(stack));
}

static void
new_task_faults(void)
{
	fill(&other, nested, stack + sizeof(stack));
	other.cs = 0;
	broken("CS null", TS, 0);
	other.cs = DATA_SELECTOR;
	broken("CS data", TS, DATA_SELECTOR);
	other.cs = CODE_SELECTOR | 3;
	broken("CS with another RPL", TS, CODE_SELECTOR);
	gdt[SPARE / 8] = segment(0, 0xfffff, (DESC_CODE & ~DESC_P) | FLAT);
	other.cs = SPARE;
	broken("CS not present", NP, SPARE);
	other.ss = 0;
	broken("SS null", TS, 0);
	other.ss = CODE_SELECTOR;
	broken("SS code", TS, CODE_SELECTOR);
	other.ss = USER_DATA;
	broken("SS of another ring", TS, USER_DATA & ~3u);
	gdt[SPARE / 8] = segment(0, 0xfffff, (DESC_DATA & ~DESC_P) | FLAT);
	other.ss = SPARE;
	broken("SS not present", SS, SPARE);
	other.ds = SPARE;
	broken("DS not present", NP, SPARE);
	other.fs = 0xfff8;
	broken("FS beyond the table", TS, 0xfff8);
	gdt[SPARE / 8] =
	    segment(0, 0xfffff, (DESC_CODE & ~DESC_READABLE) | FLAT);
	other.gs = SPARE;
	broken("GS that cannot be read", TS, SPARE);
	other.ldt = DATA_SELECTOR;
	broken("LDT data", TS, DATA_SELECTOR);
	gdt[LDT_SELECTOR / 8] = segment(0, 0xff, DESC_LDT & ~DESC_P);
	other.ldt = LDT_SELECTOR;
	broken("LDT not present", TS, LDT_SELECTOR);
}

/* ---- the rest of the state ---------------------------------------------- */

static void
ldt_and_debug(void)
{
	fill(&other, nested, stack + sizeof(stack));
	gdt[LDT_SELECTOR / 8] = segment(0, 0xff, DESC_LDT);
	other.ldt = LDT_SELECTOR;
	write_dr7(0x403);
	check_eq("with an LDT", switch_to(OTHER, true), NO_FAULT);
	check_eq("LDTR", seen.ldt, LDT_SELECTOR);
	check_eq("local breakpoints end, global ones do not", read_dr7(),
	    0x402);
	write_dr7(0x400);
	/* The trap comes in the new task, before its first instruction. */
	fill(&other, nested, stack + sizeof(stack));
	other.trap = 1;
	seen.runs = 0;
	write_dr6(0xffff0ff0);
	check_eq("the T bit", switch_to(OTHER, false), DB);
	check_eq("BT in DR6", read_dr6(), 0xffff0ff0 | DR6_BT);
	check_eq("at the task's first instruction", fault_ip, (uint32_t)nested);
	check_eq("which has not run", seen.runs, 0);
	write_dr6(0xffff0ff0);
	gdt[TSS_SELECTOR / 8] &= ~((uint64_t)DESC_BUSY << 32);
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}

static void
of_16_bits(void)
{
	small = (struct tss16) {
		.flags = 2,
		.sp = sizeof(stack),
		.si = 0x4321,
		.es = USER_DATA,
		.cs = SMALL_CODE,
		.ss = SMALL_STACK,
		.ds = USER_DATA,
	};
	clean();
	/* 16 bits of EIP and ESP suffice for these. */
	gdt[SMALL_CODE / 8] =
	    segment((uint32_t)small_entry, 0xffff, DESC_CODE | DESC_BIG);
	gdt[SMALL_STACK / 8] = segment((uint32_t)stack, 0xffff, DESC_DATA);
	seen.runs = 0;
	check_eq("a TSS of 16 bits",
	    (pointer.selector = SMALL,
		TRY_FULL("xor %%esi, %%esi\n" HERE("lcall *pointer"), , "r"(0),
		    "eax", "esi", "cc")),
	    NO_FAULT);
	check_eq("the task ran", seen.runs, 1);
	check_eq("TR", seen.tr, SMALL);
	check_eq("SI", seen.esi & 0xffff, 0x4321);
	check_eq("NT", seen.flags & FLAG_NT, FLAG_NT);
	check_eq("the link", small.link, TSS_SELECTOR);
	check_eq("after IRET it is not busy", type_of(SMALL), 1);
	check_eq("its IP was saved", small.ip, 6);
	check_eq("its SP", small.sp, sizeof(stack));
}

/* ---- paging: CR3 is part of a task --------------------------------------- */

static uint32_t directory[2][1024] __attribute__((aligned(4096)));
static uint32_t table[2][1024] __attribute__((aligned(4096)));
static uint32_t page[2][1024] __attribute__((aligned(4096)));

static void
address_spaces(void)
{
	for (unsigned d = 0; d < 2; d++) {
		for (unsigned i = 0; i < 1024; i++)
			directory[d][i] = i << 22 | 0x87;
		directory[d][WINDOW >> 22] = (uint32_t)table[d] | 7;
		table[d][0] = (uint32_t)page[d] | 7;
		page[d][0] = 0x100 + d;
	}
	write_cr4(read_cr4() | CR4_PSE);
	write_cr3((uint32_t)directory[0]);
	write_cr0(read_cr0() | CR0_PG);
	fill(&other, paged, stack + sizeof(stack));
	other.cr3 = (uint32_t)directory[1];
	ring_tss.cr3 = (uint32_t)directory[0];
	check_eq("its own address space", switch_to(OTHER, true), NO_FAULT);
	check_eq("the task's page", seen.window, 0x101);
	check_eq("CR3 of the first one is loaded again", read_cr3(),
	    (uint32_t)directory[0]);
	check_eq("and its page", read32(WINDOW), 0x100);
	write_cr0(read_cr0() & ~CR0_PG);
}

void
payload(void)
{
	test("tasks");
	ring_init();
	by_call();
	by_jump();
	by_gates();
	exceptions();
	refused();
	new_task_faults();
	ldt_and_debug();
	of_16_bits();
	address_spaces();
	double_fault();
	done();
}
