/*
 * IRETQ, call gates and far returns in long mode (SDM volume 3, 5.8.3.1, 6.14;
 * volume 2, IRET and CALL): to 64-bit code and to compatibility mode, inner
 * stacks, null SS, bad frames.
 */
#include "ring.h"

#define NO_ERROR 0xdeadu
#define FLAT (DESC_BIG | DESC_PAGES)
#define CODE64 (DESC_LONG | DESC_PAGES)
#define COMPAT_CODE 0x1bu   /* ring 3, 32 bits */
#define COMPAT_KERNEL 0x30u /* ring 0, 32 bits */
#define SPARE (GDT_FREE * 8)
#define GATE ((GDT_FREE + 2) * 8) /* two entries each, as system ones are */

static uint32_t
to(uint64_t cs, uint64_t ss, uint64_t rip, uint64_t flags)
{
	fault_error = NO_ERROR;
	return TRY("push %1; push fault_sp; push %2; push %0; push %3; iretq",
	    "r"(cs), "r"(ss), "r"(flags), "r"(rip));
}

extern const char home64[], home32[], home32_end[];
static uint32_t seen_eax __attribute__((used));
static uint64_t seen_rsp __attribute__((used));
__asm__(".text\n"
	"home64: mov %rsp, seen_rsp; int $0x80\n"
	".code32\n"
	"home32: mov $1, %eax; .byte 0x40\n" /* INC EAX, or a prefix */
	"mov %eax, seen_eax\n"
	"int $0x80\n"
	"home32_end:\n"
	".code64\n");

static uint64_t
home(void)
{
	return (uint64_t)home64;
}

static void
frames(void)
{
	struct frame *frame;

	check_eq("ring 0 to ring 0",
	    to(CODE_SELECTOR, DATA_SELECTOR, home(), 2), HOME);
	check_eq("CS", fault_cs, CODE_SELECTOR);
	check64("RSP is loaded there, too", seen_rsp, fault_sp);
	check_eq("with SS null", to(CODE_SELECTOR, 0, home(), 2), HOME);
	check_eq("ring 0 to ring 3", to(USER_CODE, USER_DATA, home(), 2), HOME);
	check_eq("CS", fault_cs, USER_CODE);
	frame = (struct frame *)fault_frame;
	check_eq("SS", frame->ss, USER_DATA);
	check64("RSP", frame->sp, fault_sp);
	check64("its stack", fault_frame, RING_STACK - 40);
	check_eq("to compatibility mode",
	    to(COMPAT_CODE, USER_DATA, (uint64_t)home32, 2), HOME);
	check_eq("it is 32-bit code", seen_eax, 2);
	check_eq("CS", fault_cs, COMPAT_CODE);
	check64("rip", fault_ip, (uint64_t)home32_end);
	check_eq("to compatibility mode of ring 0",
	    to(COMPAT_KERNEL, DATA_SELECTOR, (uint64_t)home32, 2), HOME);
	check_eq("CS", fault_cs, COMPAT_KERNEL);

	check_eq("CS null", to(0, DATA_SELECTOR, home(), 2), GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	check_eq("CS data", to(DATA_SELECTOR, DATA_SELECTOR, home(), 2), GP);
	check_eq("its error code", (uint32_t)fault_error, DATA_SELECTOR);
	check_eq("SS null in ring 3", to(USER_CODE, 0, home(), 2), GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	check_eq("SS null for 32-bit code",
	    to(COMPAT_KERNEL, 0, (uint64_t)home32, 2), GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	check_eq("SS of another ring", to(USER_CODE, DATA_SELECTOR, home(), 2),
	    GP);
	check_eq("its error code", (uint32_t)fault_error, DATA_SELECTOR);
	check_eq("rip not canonical",
	    to(CODE_SELECTOR, DATA_SELECTOR, 1ULL << 47, 2), GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	check_eq("rip beyond the limit of 32-bit code",
	    to(COMPAT_CODE, USER_DATA, 1ULL << 32, 2), GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	gdt[SPARE / 8] = segment(0, 0xfffff, DESC_CODE | DESC_LONG | FLAT);
	check_eq("CS with L and D", to(SPARE, DATA_SELECTOR, home(), 2), GP);
	check_eq("its error code", (uint32_t)fault_error, SPARE);
	gdt[SPARE / 8] = segment(0, 0xfffff, (DESC_CODE & ~DESC_P) | CODE64);
	check_eq("CS not present", to(SPARE, DATA_SELECTOR, home(), 2), NP);
	check_eq("its error code", (uint32_t)fault_error, SPARE);
	check_eq("with NT",
	    TRY("pushf; orl $0x4000, (%%rsp); popf; push $0x10; push fault_sp;"
		"push $2; push $8; push $home64; iretq",
		"r"(0)),
	    GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	__asm__ volatile("push $2; popf" : : : "cc");
	check_eq("VM is ignored",
	    to(CODE_SELECTOR, DATA_SELECTOR, home(), FLAG_VM | 2), HOME);
	check_eq("flags", (uint32_t)fault_flags, 2);
}

/* Interrupts and exceptions: stacks aligned, SS null in the inner ring. */
static void
stacks(void)
{
	uint64_t sp;
	uint16_t ss;

	/* An unaligned RSP is aligned before the frame, and restored. */
	(void)TRY_FULL("sub $5, %%rsp; int $0x80", , "r"(0), "cc");
	sp = fault_frame;
	check_eq("frames are aligned to 16 bytes", (sp + 40) & 15, 0);
	ring_tss.rsp[0] = RING_STACK - 3;
	(void)USER("nop", "r"(0));
	check64("also those of RSP0", fault_frame,
	    ((RING_STACK - 3) & ~15ULL) - 40);
	ring_tss.rsp[0] = RING_STACK;
	(void)USER("nop", "r"(0));
	__asm__ volatile("mov %%ss, %0" : "=r"(ss));
	check_eq("SS from ring 3 is null", ss, 0);
	__asm__ volatile("mov %0, %%ss" : : "r"(DATA_SELECTOR));
	/* RSP0 that is not canonical is #SS, and that has the same stack. */
	ring_tss.ist[0] = RING_STACK;
	idt[2 * DF] |= 1ULL << 32;
	ring_tss.rsp[0] = 1ULL << 63;
	check_eq("no stack at all", USER("nop", "r"(0)), DF);
	check_eq("saved CS is ring 3's", fault_cs, USER_CODE);
	ring_tss.rsp[0] = RING_STACK;
	idt[2 * DF] &= ~(7ULL << 32);
}

/* ---- call gates --------------------------------------------------------- */

static struct {
	uint32_t off;
	uint16_t selector;
} __attribute__((packed)) pointer __attribute__((used)) = {
	.selector = GATE | 3,
};
static uint64_t gate_stack[4] __attribute__((used));
static uint64_t gate_rsp __attribute__((used));
static uint16_t gate_cs __attribute__((used)), gate_ss __attribute__((used));
__asm__("gate_entry: mov %cs, gate_cs; mov %ss, gate_ss\n"
	"mov %rsp, gate_rsp\n"
	"mov (%rsp), %rax; mov %rax, gate_stack\n"
	"mov 8(%rsp), %rax; mov %rax, gate_stack + 8\n"
	"mov 16(%rsp), %rax; mov %rax, gate_stack + 16\n"
	"mov 24(%rsp), %rax; mov %rax, gate_stack + 24\n"
	"lretq\n");
extern const char gate_entry[];

static uint32_t
call(uint16_t code, uint32_t access)
{
	uint64_t entry = (uint64_t)gate_entry;

	gdt[GATE / 8] = far_gate(code, (uint32_t)entry, access);
	gdt[GATE / 8 + 1] = entry >> 32;
	fault_error = NO_ERROR;
	return USER_FULL(HERE("lcall *pointer"), , "r"(0), "rax", "cc");
}

static void
gates(void)
{
	uint32_t access = DESC_CALL32 | DESC_DPL(3);

	check_eq("a call gate", call(CODE_SELECTOR, access), HOME);
	check_eq("CS", gate_cs, CODE_SELECTOR);
	check_eq("SS is null", gate_ss, 0);
	check64("RSP", gate_rsp, RING_STACK - 32);
	check64("the return address", gate_stack[0], insn_end);
	check64("CS there", gate_stack[1], USER_CODE);
	check64("the outer RSP", gate_stack[2], fault_sp);
	check64("the outer SS", gate_stack[3], USER_DATA);
	check_eq("to 32-bit code", call(COMPAT_KERNEL, access), GP);
	check_eq("its error code", (uint32_t)fault_error, COMPAT_KERNEL);
	check_eq("of ring 0", call(CODE_SELECTOR, DESC_CALL32), GP);
	check_eq("its error code", (uint32_t)fault_error, GATE);
	check_eq("not present", call(CODE_SELECTOR, access & ~DESC_P), NP);
	check_eq("its error code", (uint32_t)fault_error, GATE);
	check_eq("of 16 bits", call(CODE_SELECTOR, DESC_CALL16 | DESC_DPL(3)),
	    GP);
	check_eq("a task gate",
	    call(CODE_SELECTOR, DESC_TASK_GATE | DESC_DPL(3)), GP);
	check_eq("its error code", (uint32_t)fault_error, GATE);
	(void)call(CODE_SELECTOR, access);
	gdt[GATE / 8 + 1] |= 0x0c00ULL << 32;
	check_eq("a type in its upper half",
	    USER_FULL(HERE("lcall *pointer"), , "r"(0), "rax", "cc"), GP);
	check_eq("its error code", (uint32_t)fault_error, GATE);
	gdt[GATE / 8 + 1] = 0xffff0000;
	check_eq("to an address that is not canonical",
	    USER_FULL(HERE("lcall *pointer"), , "r"(0), "rax", "cc"), GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	pointer.selector = TSS_SELECTOR;
	check_eq("a jump to a TSS", TRY("ljmp *pointer", "r"(0)), GP);
	check_eq("its error code", (uint32_t)fault_error, TSS_SELECTOR);
}

static void
interrupt_gates(void)
{
	uint64_t old[2] = { idt[2 * HOME], idt[2 * HOME + 1] };

	idt[2 * HOME] =
	    (old[0] & ~0xffff0000ULL) | (uint64_t)COMPAT_KERNEL << 16;
	check_eq("a gate to 32-bit code", TRY("int $0x80", "r"(0)), GP);
	check_eq("its error code", (uint32_t)fault_error, COMPAT_KERNEL);
	idt[2 * HOME] = old[0] & ~(0x0800ULL << 32);
	check_eq("a gate of 16 bits", TRY("int $0x80", "r"(0)), GP);
	check_eq("its error code", (uint32_t)fault_error, HOME * 8 + 2);
	idt[2 * HOME] = old[0];
	idt[2 * HOME + 1] = 0x80000000;
	check_eq("to an address that is not canonical",
	    TRY("int $0x80", "r"(0)), GP);
	check_eq("its error code", (uint32_t)fault_error, 0);
	idt[2 * HOME + 1] = old[1];
	check_eq("INT of a gate of ring 0 in ring 3", USER("int $13", "r"(0)),
	    GP);
	check_eq("its error code", (uint32_t)fault_error, 13 * 8 + 2);
	check_eq("of one that is absent", USER("int $0x90", "r"(0)), GP);
}

void
payload(void)
{
	test("iret64");
	ring_init();
	/* For 32-bit code; that of ring 0 would not stay. */
	__asm__ volatile("mov %0, %%ds" : : "r"(USER_DATA));
	frames();
	stacks();
	gates();
	interrupt_gates();
	done();
}
