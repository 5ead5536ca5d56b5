/*
 * Far calls, jumps and returns in 32-bit protected mode (SDM volume 3, 5.8):
 * direct ones, call gates of 32 and 16 bits with their parameters and stacks,
 * conforming code, and returns to outer rings.
 */
#include "ring.h"

#define NO_ERROR 0xdeadu

/* A payload's own descriptors */
#define GATE (GDT_FREE * 8)
#define TARGET ((GDT_FREE + 1) * 8)
#define RING1_CODE ((GDT_FREE + 2) * 8)
#define RING1_STACK ((GDT_FREE + 3) * 8)
#define LDT_SELECTOR ((GDT_FREE + 4) * 8)
#define SPARE ((GDT_FREE + 5) * 8)
#define FLAT (DESC_BIG | DESC_PAGES)

static uint8_t ring1_stack[256] __attribute__((aligned(16)));
static uint64_t ldt[2] __attribute__((aligned(8)));

/* What the code behind a gate found. */
static struct {
	uint32_t esp, ss, cs, stack[8];
} seen __attribute__((used));
static struct {
	uint32_t off;
	uint16_t selector;
} __attribute__((packed)) pointer __attribute__((used));

/* entry_32 returns, the other one goes home. */
__asm__(".text\n"
	"seen_all: pop %ecx\n"
	"mov %esp, seen; movw %ss, seen + 4; movw %cs, seen + 8\n"
	"mov $8, %ebx\n"
	"1: mov %ss:-4(%esp, %ebx, 4), %eax\n"
	"mov %eax, seen + 8(, %ebx, 4)\n"
	"dec %ebx; jnz 1b\n"
	"push %ecx; ret\n"
	"entry_32: call seen_all; lret $8\n"
	"entry_home: call seen_all; int $0x80\n");
extern const char entry_32[], entry_home[];

#define CALL(...)                                                          \
	USER_FULL("push $0x1111; push $0x2222\n" HERE("lcall *pointer"), , \
	    "r"(0), "eax", "ebx", "ecx", "cc")

static void
set_gate(uint16_t code, const void *entry, uint32_t access)
{
	gdt[GATE / 8] = far_gate(code, (uint32_t)entry, access);
	pointer.selector = GATE | 3;
	pointer.off = 0xdeadbeef; /* of no matter */
	fault_error = NO_ERROR;
}

static void
inner(void)
{
	uint32_t esp;

	set_gate(CODE_SELECTOR, entry_32, (DESC_CALL32 | DESC_DPL(3)) + 2);
	check_eq("a gate of 32 bits",
	    USER_FULL("push $0x1111; push $0x2222\n" HERE(
			  "lcall *pointer") "mov %%esp, %0",
		"=&d"(esp), "r"(0), "eax", "ebx", "ecx", "cc"),
	    HOME);
	check_eq("SS", seen.ss, DATA_SELECTOR);
	check_eq("CS", seen.cs, CODE_SELECTOR);
	check_eq("ESP", seen.esp, RING_STACK - 24);
	check_eq("the return address", seen.stack[0], insn_end);
	check_eq("CS there", seen.stack[1], USER_CODE);
	check_eq("the last parameter", seen.stack[2], 0x2222);
	check_eq("the first", seen.stack[3], 0x1111);
	check_eq("the outer ESP", seen.stack[4], fault_sp - 8);
	check_eq("the outer SS", seen.stack[5], USER_DATA);
	check_eq("the return releases both stacks", esp, fault_sp);

	/* The code's segment begins at its entry: 16 bits reach it. */
	gdt[TARGET / 8] =
	    segment((uint32_t)entry_home, 0xfffff, DESC_CODE | FLAT);
	gdt[SPARE / 8] = segment(0, 0xfffff, DESC_CODE | FLAT);
	set_gate(TARGET, (void *)0, (DESC_CALL16 | DESC_DPL(3)) + 3);
	check_eq("a gate of 16 bits", CALL(), HOME);
	check_eq("ESP", seen.esp, RING_STACK - 14);
	check_eq("return address and CS", seen.stack[0],
	    USER_CODE << 16 | (insn_end & 0xffff));
	check_eq("two parameters", seen.stack[1], 0x00002222);
	check_eq("the third, and SP", seen.stack[2],
	    ((fault_sp - 8) & 0xffff) << 16 | 0x1111);
	check_eq("SS", seen.stack[3] & 0xffff, USER_DATA);

	ldt[1] = gdt[GATE / 8] = far_gate(CODE_SELECTOR, (uint32_t)entry_32,
	    (DESC_CALL32 | DESC_DPL(3)) + 2);
	gdt[GATE / 8] = 0;
	pointer.selector = 0xf;
	check_eq("a gate in the LDT", CALL(), HOME);
}

/* To ring 1, whose stack can be spoiled without harm to exceptions. */
static void
bad_stacks(void)
{
	uint32_t top = (uint32_t)ring1_stack + sizeof(ring1_stack);

	set_gate(RING1_CODE, entry_home, (DESC_CALL32 | DESC_DPL(3)) + 2);
	gdt[RING1_STACK / 8] =
	    segment(0, 0xfffff, DESC_DATA | DESC_DPL(1) | FLAT);
	ring_tss.stack[1].esp = top;
	ring_tss.stack[1].ss = RING1_STACK | 1;
	check_eq("to ring 1", CALL(), HOME);
	check_eq("CS", seen.cs, RING1_CODE | 1);
	check_eq("SS", seen.ss, RING1_STACK | 1);
	check_eq("ESP", seen.esp, top - 24);

	ring_tss.stack[1].ss = 0;
	check_eq("SS null", CALL(), TS);
	check_eq("its error code", fault_error, 0);
	check_eq("rip is the call", fault_ip, insn_at);
	ring_tss.stack[1].ss = DATA_SELECTOR | 1;
	check_eq("of another level", CALL(), TS);
	check_eq("its error code", fault_error, DATA_SELECTOR);
	ring_tss.stack[1].ss = RING1_STACK | 3;
	check_eq("with another RPL", CALL(), TS);
	check_eq("its error code", fault_error, RING1_STACK);
	ring_tss.stack[1].ss = 0xfff9;
	check_eq("beyond the table", CALL(), TS);
	check_eq("its error code", fault_error, 0xfff8);
	ring_tss.stack[1].ss = RING1_STACK | 1;
	gdt[RING1_STACK / 8] &= ~((uint64_t)DESC_P << 32);
	check_eq("not present", CALL(), SS);
	check_eq("its error code", fault_error, RING1_STACK);
	/* Room for five of six words. */
	gdt[RING1_STACK / 8] = segment((uint32_t)ring1_stack, 0xff,
	    DESC_DATA | DESC_DPL(1) | DESC_BIG);
	ring_tss.stack[1].esp = 20;
	check_eq("too small", CALL(), SS);
	check_eq("its error code", fault_error, RING1_STACK);
	ring_tss.stack[1].esp = 28; /* what is behind calls once */
	check_eq("large enough", CALL(), HOME);
	check_eq("ESP", seen.esp, 4);
}

static void
bad_gates(void)
{
	set_gate(CODE_SELECTOR, entry_home, DESC_CALL32 | DESC_DPL(2));
	check_eq("a gate of ring 2", CALL(), GP);
	check_eq("its error code", fault_error, GATE);
	set_gate(CODE_SELECTOR, entry_home,
	    (DESC_CALL32 | DESC_DPL(3)) & ~DESC_P);
	check_eq("not present", CALL(), NP);
	check_eq("its error code", fault_error, GATE);
	set_gate(3, entry_home, DESC_CALL32 | DESC_DPL(3));
	check_eq("to null", CALL(), GP);
	check_eq("its error code", fault_error, 0);
	set_gate(DATA_SELECTOR, entry_home, DESC_CALL32 | DESC_DPL(3));
	check_eq("to data", CALL(), GP);
	check_eq("its error code", fault_error, DATA_SELECTOR);
	set_gate(0xfff8, entry_home, DESC_CALL32 | DESC_DPL(3));
	check_eq("beyond the table", CALL(), GP);
	check_eq("its error code", fault_error, 0xfff8);
	gdt[TARGET / 8] = segment(0, 0xfffff, (DESC_CODE & ~DESC_P) | FLAT);
	set_gate(TARGET, entry_home, DESC_CALL32 | DESC_DPL(3));
	check_eq("to code that is not present", CALL(), NP);
	check_eq("its error code", fault_error, TARGET);
	gdt[TARGET / 8] = segment(0, 0xfff, DESC_CODE | DESC_BIG);
	set_gate(TARGET, entry_home, DESC_CALL32 | DESC_DPL(3));
	check_eq("beyond the limit of its code", CALL(), GP);
	check_eq("its error code", fault_error, 0);
	set_gate(USER_CODE, entry_home, DESC_CALL32 | DESC_DPL(3));
	check_eq("outwards", TRY("lcall *pointer", "r"(0)), GP);
	check_eq("its error code", fault_error, USER_CODE & ~3u);
	set_gate(CODE_SELECTOR, entry_home, DESC_CALL32 | DESC_DPL(3));
	check_eq("a jump inwards", USER("ljmp *pointer", "r"(0)), GP);
	check_eq("its error code", fault_error, CODE_SELECTOR);
}

/* Conforming code runs at its caller's level, on its caller's stack. */
static void
conforming(void)
{
	gdt[TARGET / 8] =
	    segment(0, 0xfffff, DESC_CODE | DESC_CONFORMING | FLAT);
	set_gate(TARGET, entry_home, (DESC_CALL32 | DESC_DPL(3)) + 2);
	check_eq("a gate to conforming code", CALL(), HOME);
	check_eq("CS", seen.cs, TARGET | 3);
	check_eq("SS", seen.ss, USER_DATA);
	check_eq("no parameters", seen.esp, fault_sp - 16);
	check_eq("a jump by a gate", USER("ljmp *pointer", "r"(0)), HOME);
	check_eq("CS", seen.cs, TARGET | 3);
	pointer.selector = TARGET;
	pointer.off = (uint32_t)entry_home;
	check_eq("a direct call", CALL(), HOME);
	check_eq("CS", seen.cs, TARGET | 3);
	gdt[TARGET / 8] = segment(0, 0xfffff,
	    DESC_CODE | DESC_CONFORMING | DESC_DPL(3) | FLAT);
	check_eq("of an outer ring", TRY("lcall *pointer", "r"(0)), GP);
	check_eq("its error code", fault_error, TARGET);
}

static void
direct(void)
{
	pointer.off = (uint32_t)entry_home;
	pointer.selector = CODE_SELECTOR;
	check_eq("ring 0 from ring 3", CALL(), GP);
	check_eq("its error code", fault_error, CODE_SELECTOR);
	pointer.selector = CODE_SELECTOR | 3;
	check_eq("with RPL 3 from ring 0", TRY("ljmp *pointer", "r"(0)), GP);
	check_eq("its error code", fault_error, CODE_SELECTOR);
	pointer.selector = USER_CODE & ~3u;
	check_eq("ring 3 with RPL 0 from ring 3", CALL(), HOME);
	check_eq("CS", seen.cs, USER_CODE);
	pointer.selector = 0;
	check_eq("null", CALL(), GP);
	check_eq("its error code", fault_error, 0);
	pointer.selector = DATA_SELECTOR;
	check_eq("data", CALL(), GP);
	check_eq("its error code", fault_error, DATA_SELECTOR);
}

/* RETF from ring 0 to CS:insn with SS; then the value of FS. */
static uint32_t
retf(uint32_t cs, uint32_t ss, uint32_t fs)
{
	fault_error = NO_ERROR;
	return TRY("mov %2, %%fs; push %1; push fault_sp; push %0; push $2f;"
		   "lret; 2: mov %%fs, seen; int $0x80",
	    "r"(cs), "r"(ss), "r"(fs));
}

static void
returns(void)
{
	seen.esp = 0;
	check_eq("RETF to ring 3", retf(USER_CODE, USER_DATA, USER_DATA), HOME);
	check_eq("FS of ring 3 stays", seen.esp, USER_DATA);
	check_eq("CS", fault_cs, USER_CODE);
	check_eq("again", retf(USER_CODE, USER_DATA, DATA_SELECTOR), HOME);
	check_eq("FS of ring 0 is null", seen.esp, 0);
	gdt[TARGET / 8] =
	    segment(0, 0xfffff, DESC_CODE | DESC_CONFORMING | FLAT);
	(void)retf(USER_CODE, USER_DATA, TARGET);
	check_eq("conforming code in FS stays", seen.esp, TARGET);
	check_eq("to ring 1", retf(RING1_CODE | 1, RING1_STACK | 1, 0), HOME);
	check_eq("CS", fault_cs, RING1_CODE | 1);

	check_eq("inwards", USER("push $8; push $2f; lret; 2:", "r"(0)), GP);
	check_eq("its error code", fault_error, CODE_SELECTOR);
	check_eq("CS null", retf(3, USER_DATA, 0), GP);
	check_eq("its error code", fault_error, 0);
	check_eq("CS data", retf(USER_DATA, USER_DATA, 0), GP);
	check_eq("its error code", fault_error, USER_DATA & ~3u);
	check_eq("CS with another RPL", retf(USER_CODE & ~1u, USER_DATA, 0),
	    GP);
	check_eq("its error code", fault_error, USER_CODE & ~3u);
	check_eq("SS null", retf(USER_CODE, 0, 0), GP);
	check_eq("its error code", fault_error, 0);
	check_eq("SS of ring 0", retf(USER_CODE, DATA_SELECTOR | 3, 0), GP);
	check_eq("its error code", fault_error, DATA_SELECTOR);
	check_eq("SS with another RPL", retf(USER_CODE, USER_DATA & ~3u, 0),
	    GP);
	check_eq("its error code", fault_error, USER_DATA & ~3u);
	gdt[SPARE / 8] =
	    segment(0, 0xfffff, ((DESC_DATA | DESC_DPL(3)) & ~DESC_P) | FLAT);
	check_eq("SS not present", retf(USER_CODE, SPARE | 3, 0), SS);
	check_eq("its error code", fault_error, SPARE);
	gdt[SPARE / 8] =
	    segment(0, 0xfffff, ((DESC_CODE | DESC_DPL(3)) & ~DESC_P) | FLAT);
	check_eq("CS not present", retf(SPARE | 3, USER_DATA, 0), NP);
	check_eq("its error code", fault_error, SPARE);
	gdt[SPARE / 8] = segment(0, 0xfff, DESC_CODE | DESC_DPL(3) | DESC_BIG);
	check_eq("beyond the limit", retf(SPARE | 3, USER_DATA, 0), GP);
	check_eq("its error code", fault_error, 0);
	check_eq("from ring 0", fault_cs, CODE_SELECTOR);
}

void
payload(void)
{
	test("gates");
	ring_init();
	gdt[RING1_CODE / 8] =
	    segment(0, 0xfffff, DESC_CODE | DESC_DPL(1) | FLAT);
	gdt[LDT_SELECTOR / 8] =
	    segment((uint32_t)ldt, sizeof(ldt) - 1, DESC_LDT);
	__asm__ volatile("lldt %w0" : : "r"(LDT_SELECTOR));
	inner();
	bad_stacks();
	bad_gates();
	conforming();
	direct();
	returns();
	done();
}
