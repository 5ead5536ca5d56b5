/*
 * Debug exceptions (SDM volume 3, chapter 17): breakpoints on instructions, data
 * and ports, single steps over each kind of instruction, DR6 and DR7, general
 * detect, and DR4 and DR5.
 */
#include "ring.h"

#define DR6_RESET 0xffff0ff0u
#define DR6_B0 0x1u
#define DR6_B1 0x2u
#define DR6_ALL 0xfu
#define DR6_BD 0x2000u
#define DR6_BS 0x4000u
#define DR7_L0 0x1u
#define DR7_G0 0x2u
#define DR7_L1 0x4u
#define DR7_GD 0x2000u
#define DR7_FIXED 0x400u
#define VECTOR 0x40u

/* Where the traps came from, and with which DR6. */
#define TRAPS_MAX 32
static volatile unsigned traps;
static volatile uint64_t trap_ip[TRAPS_MAX], trap_dr6[TRAPS_MAX];
static volatile uint64_t trap_flags[TRAPS_MAX];
/* What the handler does to the frame it returns to. */
static volatile uint64_t handler_sets;
static volatile unsigned traps_end; /* so many, and stepping ends */

HANDLER(debug)
{
	unsigned n = traps++;

	if (n < TRAPS_MAX) {
		trap_ip[n] = frame->ip;
		trap_dr6[n] = read_dr6();
		trap_flags[n] = frame->flags;
	}
	write_dr6(DR6_RESET);
	frame->flags |= handler_sets;
	if (traps == traps_end)
		frame->flags &= ~(uint64_t)FLAG_TF;
}

/* ---- single steps ------------------------------------------------------- */

/*
 * Step over code, the nth trap at its label 1n; a NOP follows, whose trap is
 * the last one.
 */
#define STEPS(label, wants, code)                                             \
	do {                                                                  \
		uint64_t want[4];                                             \
                                                                              \
		traps = 0;                                                    \
		traps_end = (wants) + 1;                                      \
		__asm__ volatile("pushf; orl $0x100, (%%rsp); popf\n" code    \
				 "\nnop\n19: nop\n"                           \
				 "lea 11b(%%rip), %%rax; mov %%rax, (%0)\n"   \
				 "lea 12b(%%rip), %%rax; mov %%rax, 8(%0)\n"  \
				 "lea 13b(%%rip), %%rax; mov %%rax, 16(%0)\n" \
				 "lea 19b(%%rip), %%rax; mov %%rax, 24(%0)\n" \
				 :                                            \
				 : "r"(want)                                  \
				 : "rax", "rbx", "rcx", "rdx", "rdi", "r11",  \
				 "memory", "cc");                             \
		check_eq(label ": traps", traps, (wants) + 1);                \
		for (unsigned i = 0; i < (wants); i++)                        \
			check64(label ": where", trap_ip[i], want[i]);        \
		check64(label ": the end", trap_ip[wants], want[3]);          \
	} while (0)

static uint8_t buffer[64] __attribute__((used));

/* By SYSCALL, which need not come from ring 3, and back without SYSRET. */
extern const char step_entry[];
__asm__("step_entry: push %r11; popf; jmp *%rcx\n");

HANDLER(interrupt)
{
	/* Returns to what is stepped. */
}

HANDLER(undefined)
{
	frame->ip += 2;
}

static void
steps(void)
{
	STEPS("NOP", 1, "nop; 11: 12: 13:");
	check_eq("BS in DR6", (uint32_t)trap_dr6[0], DR6_RESET | DR6_BS);
	check_eq("TF in the saved flags", trap_flags[0] & FLAG_TF, FLAG_TF);
	STEPS("arithmetic", 3,
	    "inc %%eax; 11: add $5, %%ecx; 12: neg %%edx; 13:");
	STEPS("JMP", 2, "jmp 11f; nop; 11: nop; 12: 13:");
	STEPS("CALL and RET", 3, "call 11f; 12: jmp 13f; 11: ret; 13:");
	STEPS("Jcc", 3,
	    "cmp %%eax, %%eax; 11: jne 1f; 12: je 13f; 1: nop; 13:");
	STEPS("MOV SS keeps a trap back", 2,
	    "mov %%ss, %%eax; 11: mov %%eax, %%ss; nop; 12: 13:");
	STEPS("STI does not", 3, "nop; 11: sti; 12: cli; 13:");
	STEPS("CPUID", 2, "xor %%eax, %%eax; 11: cpuid; 12: 13:");
	STEPS("RDTSC", 1, "rdtsc; 11: 12: 13:");
	STEPS("IN and OUT", 3,
	    "mov $0x600, %%edx; 11: in %%dx, %%al; 12: out %%al, %%dx; 13:");
	STEPS("MOV CR3", 2, "mov %%cr3, %%rax; 11: mov %%rax, %%cr3; 12: 13:");
	STEPS("PUSHF and POPF", 2, "pushf; 11: popf; 12: 13:");
	STEPS("REP STOS of nothing", 3,
	    "lea buffer, %%edi; 11: mov $0, %%ecx; 12: rep stosb; 13:");
	STEPS("INT n hides its handler", 1, "int $0x40; nop; 11: 12: 13:");
	STEPS("a fault is no step", 1, "ud2; nop; 11: 12: 13:");
}

static void
rep_rounds(void)
{
	uint64_t di = (uint64_t)buffer, cx = 3, rip;

	traps = 0;
	traps_end = 3;
	__asm__ volatile("pushf; orl $0x100, (%%rsp); lea 1f(%%rip), %2; popf;"
			 "1: rep stosb; nop"
			 : "+D"(di), "+c"(cx), "=&r"(rip)
			 : "a"(0)
			 : "memory", "cc");
	check_eq("REP STOS of 3 is 3 traps", traps, 3);
	check64("the first within it", trap_ip[0], rip);
	check64("the last behind it", trap_ip[2], rip + 2);
}

/* TF by IRET: the trap comes after the instruction at its target. */
static void
by_iret(void)
{
	uint64_t target;

	traps = 0;
	traps_end = 1;
	__asm__ volatile("mov %%rsp, %%rcx; lea 1f(%%rip), %0;"
			 "push $0x10; push %%rcx; push $0x102; push $0x08;"
			 "push %0; iretq; 1: nop; nop"
			 : "=&r"(target)
			 :
			 : "rcx", "memory", "cc");
	check_eq("IRET with TF: one trap", traps, 1);
	check64("behind its target", trap_ip[0], target + 1);
	traps = 0;
	traps_end = 100;
	__asm__ volatile("lea 1f(%%rip), %0; mov %%rsp, %%rcx;"
			 "push $0x10; push %%rcx; push $2; push $0x08; push %0;"
			 "pushf; orl $0x100, (%%rsp); popf;"
			 "iretq; 1: nop; nop"
			 : "=&r"(target)
			 :
			 : "rcx", "memory", "cc");
	check_eq("IRET that clears TF: one trap", traps, 1);
	check64("at its target", trap_ip[0], target);
	traps = 0;
	__asm__ volatile("pushf; pushf; orl $0x100, (%%rsp); popf;"
			 "popf; 1: nop; nop; lea 1b(%%rip), %0"
			 : "=r"(target)
			 :
			 : "memory", "cc");
	check_eq("POPF that clears TF: one trap", traps, 1);
	check64("behind it", trap_ip[0], target);
}

static void
by_syscall(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(0xc0000081, 0x0000000800000000ULL);
	wrmsr(0xc0000082, (uint64_t)step_entry);
	wrmsr(0xc0000084, FLAG_TF);
	STEPS("SYSCALL with TF masked", 1, "syscall; 11: 12: 13:");
	wrmsr(0xc0000084, 0);
	traps = 0;
	traps_end = 5;
	__asm__ volatile("pushf; orl $0x100, (%%rsp); popf; syscall; nop"
			 :
			 :
			 : "rcx", "r11", "memory", "cc");
	check_eq("SYSCALL with TF kept", traps, 5);
	check64("traps at its entry", trap_ip[0], (uint64_t)step_entry);
}

/* ---- breakpoints -------------------------------------------------------- */

extern const char bp_first[], bp_second[], bp_third[], bp_shadow[];
uint32_t bp_code(uint32_t count);
__asm__(".text\n"
	"bp_code: xor %eax, %eax\n"
	"bp_first: inc %eax\n"
	"bp_second: .byte 0x3e; add $2, %eax\n"
	"mov %ss, %ecx; mov %ecx, %ss\n"
	"bp_shadow: nop\n"
	"bp_third: dec %edi\n"
	"jnz bp_first\n"
	"ret\n");

static uint32_t
broken(uint32_t count)
{
	traps = 0;
	traps_end = 0;
	return bp_code(count);
}

static void
breakpoints(void)
{
	check_eq("no breakpoint", broken(1000), 3000);
	check_eq("no trap", traps, 0);
	handler_sets = FLAG_RF;
	write_dr0((uint64_t)bp_first);
	check_eq("none while DR7 does not enable it", broken(1) + traps, 3);
	write_dr7(DR7_FIXED | DR7_L0);
	check_eq("a local one", broken(3), 9);
	check_eq("each time", traps, 3);
	check64("before the instruction", trap_ip[0], (uint64_t)bp_first);
	check_eq("B0 in DR6", (uint32_t)trap_dr6[0], DR6_RESET | DR6_B0);
	write_dr7(DR7_FIXED | DR7_G0);
	check_eq("a global one", broken(2), 6);
	check_eq("each time", traps, 2);

	write_dr1((uint64_t)bp_third);
	write_dr7(DR7_FIXED | DR7_L0 | DR7_L1);
	check_eq("two", broken(2), 6);
	check_eq("each time", traps, 4);
	check_eq("B1 in DR6", (uint32_t)trap_dr6[1], DR6_RESET | DR6_B1);
	write_dr0((uint64_t)bp_second + 1);
	write_dr1((uint64_t)bp_shadow);
	check_eq("in the middle of one, and behind MOV SS", broken(2), 6);
	check_eq("none", traps, 0);
	write_dr0((uint64_t)bp_second);
	check_eq("at its prefix", broken(2), 6);
	check_eq("it is", traps, 2);

	write_dr7(DR7_FIXED);
	check_eq("off again", broken(1000), 3000);
	check_eq("none", traps, 0);

	/* In ring 3, and over code that a step leads to. */
	write_dr0((uint64_t)bp_first);
	write_dr7(DR7_FIXED | DR7_L0);
	traps = 0;
	check_eq("in ring 3",
	    USER_FULL("mov $2, %%edi; call bp_code", , "r"(0), "rax", "rcx",
		"rdi"),
	    HOME);
	check_eq("too", traps, 2);
	write_dr7(DR7_FIXED);
	handler_sets = 0;
}

/* ---- data --------------------------------------------------------------- */

#define ON_WRITE 1u
#define ON_PORT 2u
#define ON_ACCESS 3u
#define LENGTH_1 0u
#define LENGTH_2 1u
#define LENGTH_8 2u
#define LENGTH_4 3u

static uint8_t cells[4096] __attribute__((used, aligned(64)));

static uint32_t
enable(unsigned n, unsigned on, unsigned length)
{
	return 1u << (2 * n) | (on | length << 2) << (16 + 4 * n);
}

/* One breakpoint, the first. */
static void
watch(uint64_t at, unsigned on, unsigned length)
{
	write_dr0(at);
	write_dr7(DR7_FIXED | enable(0, on, length));
}

/*
 * Traps while an instruction is carried out, with rdi at cells.  Each has to be
 * right behind it.
 */
static void *volatile after;
#define HITS(insn)                                                           \
	({                                                                   \
		traps = 0;                                                   \
		traps_end = 0;                                               \
		__asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, after;"   \
				 "lea cells(%%rip), %%rdi; mov $1, %%eax;"   \
				 "mov %%rsp, %%rbx\n" insn "\n1: nop\n"      \
				 "mov %%rbx, %%rsp"                          \
				 :                                           \
				 :                                           \
				 : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", \
				 "memory", "cc");                            \
		for (unsigned i = 0; i < traps; i++)                         \
			check64(insn, trap_ip[i], (uint64_t)after);          \
		traps;                                                       \
	})

static void
data_places(void)
{
	watch((uint64_t)cells + 8, ON_WRITE, LENGTH_4);
	check_eq("a write", HITS("movl %%eax, 8(%%rdi)"), 1);
	check_eq("B0 in DR6", (uint32_t)trap_dr6[0], DR6_RESET | DR6_B0);
	check_eq("done before the trap", cells[8], 1);
	check_eq("no RF", trap_flags[0] & FLAG_RF, 0);
	check_eq("a read", HITS("movl 8(%%rdi), %%eax"), 0);
	check_eq("a comparison", HITS("cmpl %%eax, 8(%%rdi)"), 0);
	check_eq("an address", HITS("lea 8(%%rdi), %%rax"), 0);
	check_eq("the byte before", HITS("movb %%al, 7(%%rdi)"), 0);
	check_eq("its first byte", HITS("movb %%al, 8(%%rdi)"), 1);
	check_eq("its last byte", HITS("movb %%al, 11(%%rdi)"), 1);
	check_eq("the byte behind", HITS("movb %%al, 12(%%rdi)"), 0);
	check_eq("all around it", HITS("movups %%xmm0, 1(%%rdi)"), 1);
	check_eq("its beginning", HITS("mov %%rax, 1(%%rdi)"), 1);
	check_eq("its end", HITS("movw %%ax, 11(%%rdi)"), 1);
	watch((uint64_t)cells + 10, ON_WRITE, LENGTH_4);
	check_eq("low bits of its address", HITS("movb %%al, 8(%%rdi)"), 1);
	watch((uint64_t)cells + 16, ON_WRITE, LENGTH_8);
	check_eq("the eighth byte", HITS("movb %%al, 23(%%rdi)"), 1);
	check_eq("the ninth", HITS("movb %%al, 24(%%rdi)"), 0);
	watch((uint64_t)cells + 16, ON_WRITE, LENGTH_2);
	check_eq("the second byte", HITS("movb %%al, 17(%%rdi)"), 1);
	check_eq("the third", HITS("movb %%al, 18(%%rdi)"), 0);
	watch((uint64_t)cells + 17, ON_WRITE, LENGTH_1);
	check_eq("one byte", HITS("movw %%ax, 17(%%rdi)"), 1);
	check_eq("the one before", HITS("movb %%al, 16(%%rdi)"), 0);
	watch((uint64_t)cells + 8, ON_ACCESS, LENGTH_4);
	check_eq("any access: a read", HITS("movb 9(%%rdi), %%al"), 1);
	check_eq("a comparison", HITS("cmpl %%eax, 8(%%rdi)"), 1);
	check_eq("a write", HITS("movb %%al, 9(%%rdi)"), 1);
	check_eq("a vector", HITS("movdqu (%%rdi), %%xmm0"), 1);
	check_eq("a prefetch", HITS("prefetcht0 8(%%rdi)"), 0);
	write_dr7(DR7_FIXED);
	check_eq("disabled", HITS("movb %%al, 9(%%rdi)"), 0);
}

static void
data_instructions(void)
{
	watch((uint64_t)cells + 8, ON_WRITE, LENGTH_8);
	check_eq("INC", HITS("incl 8(%%rdi)"), 1);
	check_eq("LOCK XADD", HITS("lock xaddl %%eax, 8(%%rdi)"), 1);
	check_eq("XCHG", HITS("xchg %%al, 9(%%rdi)"), 1);
	check_eq("CMPXCHG that does not",
	    HITS("movl $2, %%ecx; movl $77, %%eax;"
		 "cmpxchgl %%ecx, 8(%%rdi)"),
	    1);
	check_eq("SETZ", HITS("setz 8(%%rdi)"), 1);
	check_eq("POP to it", HITS("push %%rax; popq 8(%%rdi)"), 1);
	check_eq("STOS", HITS("lea 8(%%rdi), %%rdi; stosl"), 1);
	check_eq("FST", HITS("fldz; fstpl 8(%%rdi)"), 1);
	check_eq("MOVNTI", HITS("movnti %%eax, 8(%%rdi)"), 1);
	check_eq("SIDT", HITS("sidt (%%rdi)"), 1);
	watch((uint64_t)cells + 4088, ON_WRITE, LENGTH_8);
	check_eq("PUSH", HITS("lea 4096(%%rdi), %%rsp; push %%rax"), 1);
	check_eq("CALL", HITS("lea 4096(%%rdi), %%rsp; call 1f"), 1);
	check_eq("POP", HITS("lea 4088(%%rdi), %%rsp; pop %%rax"), 0);

	write_dr0((uint64_t)cells + 8);
	write_dr1((uint64_t)cells + 32);
	write_dr7(DR7_FIXED | enable(0, ON_ACCESS, LENGTH_4) |
	    enable(1, ON_WRITE, LENGTH_4));
	check_eq("two by one MOVS",
	    HITS("lea 8(%%rdi), %%rsi; lea 32(%%rdi), %%rdi; movsl"), 1);
	check_eq("both in DR6", (uint32_t)trap_dr6[0] & DR6_ALL,
	    DR6_B0 | DR6_B1);
	traps = 0;
	__asm__ volatile("lea cells(%%rip), %%rdi; mov $24, %%ecx;"
			 "mov $0x5a, %%al; rep stosb"
			 :
			 :
			 : "rax", "rcx", "rdi", "memory", "cc");
	check("REP STOS", traps >= 1 && traps <= 4);
	for (unsigned i = 0; i < 24; i++)
		check_eq("stores all", cells[i], 0x5a);

	cells[8] = 0x10;
	cells[9] = 0;
	check_eq("MOV SS keeps it back", HITS("movw 8(%%rdi), %%ss; nop"), 1);
	check_eq("and INT1 tells of it",
	    HITS("movw 8(%%rdi), %%ss; .byte 0xf1"), 1);
	check_eq("in DR6", (uint32_t)trap_dr6[0], DR6_RESET | DR6_B0);
	/* With a single step: pushf's image sets TF for the MOV. */
	traps = 0;
	traps_end = 2;
	__asm__ volatile("lea cells(%%rip), %%rdi; pushf;"
			 "orl $0x100, (%%rsp); popf; movb 8(%%rdi), %%al; nop"
			 :
			 :
			 : "rax", "rdi", "memory", "cc");
	check_eq("with a step", (uint32_t)trap_dr6[0],
	    DR6_RESET | DR6_BS | DR6_B0);
	check_eq("and a step alone", (uint32_t)trap_dr6[1], DR6_RESET | DR6_BS);
	traps = 0;
	traps_end = 0;
	check_eq("in ring 3", USER("movb cells+8, %%al", "a"(0)), HOME);
	check_eq("too", traps, 1);
	write_dr7(DR7_FIXED);
}

/* ---- ports -------------------------------------------------------------- */

static void
ports(void)
{
	write_cr4(read_cr4() | CR4_DE);
	watch(0x80, ON_PORT, LENGTH_2);
	check_eq("OUT", HITS("outb %%al, $0x80"), 1);
	check_eq("the second byte", HITS("outb %%al, $0x81"), 1);
	check_eq("the third", HITS("outb %%al, $0x82"), 0);
	check_eq("IN", HITS("mov $0x80, %%edx; inb %%dx, %%al"), 1);
	check_eq("memory there", HITS("movb %%al, 0x80"), 0);
	traps = 0;
	__asm__ volatile("lea cells(%%rip), %%rsi; mov $3, %%ecx;"
			 "mov $0x80, %%edx; rep outsb"
			 :
			 :
			 : "rcx", "rdx", "rsi", "memory", "cc");
	check_eq("REP OUTS", traps, 3);
	write_dr7(DR7_FIXED);
	check_eq("disabled", HITS("outb %%al, $0x80"), 0);
	write_cr4(read_cr4() & ~(uint64_t)CR4_DE);
}

/* ---- registers ---------------------------------------------------------- */

static void
registers(void)
{
	uint64_t value;

	write_dr7(0);
	check_eq("DR7 after 0", (uint32_t)read_dr7(), DR7_FIXED);
	write_dr7(0xffffd7ff);
	check_eq("DR7 after all but GD and RTM", (uint32_t)read_dr7(),
	    0xffff07ff);
	write_dr7(DR7_FIXED);
	write_dr6(0);
	check_eq("DR6 after 0", (uint32_t)read_dr6(), DR6_RESET);
	check_eq("DR6 has 32 bits", TRY("mov %0, %%dr6", "r"(0x100000000ULL)),
	    GP);
	check_eq("DR7 has 32 bits", TRY("mov %0, %%dr7", "r"(0x100000400ULL)),
	    GP);
	write_dr0(0x123456789abcdef0);
	check64("DR0 has 64", read_dr0(), 0x123456789abcdef0);
	write_dr0(0);
	check_eq("not in ring 3", USER("mov %%dr6, %0", "r"(0ULL)), GP);
	check_eq("DR8", TRY(".byte 0x44, 0x0f, 0x21, 0xc0", "r"(0ULL)), UD);

	write_dr6(DR6_BS);
	__asm__ volatile("mov %%dr4, %0" : "=r"(value));
	check_eq("DR4 is DR6", (uint32_t)value, DR6_RESET | DR6_BS);
	__asm__ volatile("mov %%dr5, %0" : "=r"(value));
	check_eq("DR5 is DR7", (uint32_t)value, DR7_FIXED);
	write_cr4(read_cr4() | CR4_DE);
	check_eq("DR4 with CR4.DE", TRY("mov %%dr4, %0", "r"(0ULL)), UD);
	check_eq("DR5 with CR4.DE", TRY("mov %0, %%dr5", "r"(0ULL)), UD);
	write_cr4(read_cr4() & ~(uint64_t)CR4_DE);
	write_dr6(DR6_RESET);
}

static void
general_detect(void)
{
	uint64_t value;

	traps_init();
	write_dr7(DR7_FIXED | DR7_GD);
	check_eq("GD: reading DR0", TRY(HERE("mov %%dr0, %0"), "r"(0ULL)), DB);
	check64("a fault", fault_ip, insn_at);
	check_eq("BD in DR6", (uint32_t)read_dr6(), DR6_RESET | DR6_BD);
	check_eq("GD is clear in the handler", (uint32_t)read_dr7(), DR7_FIXED);
	write_dr6(DR6_RESET);
	write_dr7(DR7_FIXED | DR7_GD);
	check_eq("GD: writing DR7", TRY("mov %0, %%dr7", "r"(0x400ULL)), DB);
	__asm__ volatile("mov %%dr7, %0" : "=r"(value));
	check_eq("and clear again", (uint32_t)value, DR7_FIXED);
	write_dr7(DR7_FIXED | DR7_GD);
	check_eq("GD: in ring 3 #GP comes first",
	    USER("mov %%dr0, %0", "r"(0ULL)), GP);
	(void)TRY("mov %%dr0, %0", "r"(0ULL));
	write_dr6(DR6_RESET);
}

void
payload(void)
{
	test("debug");
	ring_init();
	write_dr6(DR6_RESET);
	gate(DB, debug);
	gate(UD, undefined);
	gate(VECTOR, interrupt);
	steps();
	rep_rounds();
	by_iret();
	by_syscall();
	traps_init();
	gate(DB, debug);
	breakpoints();
	write_cr4(read_cr4() | CR4_OSFXSR);
	data_places();
	data_instructions();
	ports();
	registers();
	general_detect();
	done();
}
