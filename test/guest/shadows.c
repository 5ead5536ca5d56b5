/*
 * When an interrupt that waits comes in: after the instruction that follows STI
 * (SDM volume 3, 6.8.1 and volume 2, STI), at once after POPF, IRET and a lower
 * task priority (10.8.3), never between STI and CLI; and into everything that
 * runs for long.
 */
#include "ring.h"

#define VECTOR 0x41u
#define HIGHER 0x61u
#define TIMER 0x71u
#define SELF 0x44000u

static volatile unsigned count, higher, ticks, nested;
static volatile uint64_t at, flags;

HANDLER(interrupt)
{
	count++;
	at = frame->ip;
	flags = frame->flags;
	lapic_eoi();
}

HANDLER(interrupt_higher)
{
	higher++;
	lapic_eoi();
}

/* Sends the other two from within. */
HANDLER(interrupt_nesting)
{
	unsigned before = count;

	lapic_ipi(0, SELF | VECTOR);
	lapic_ipi(0, SELF | HIGHER);
	__asm__ volatile("sti; nop; nop; nop; cli");
	nested = higher << 8 | (count - before);
	lapic_eoi();
}

HANDLER(interrupt_flags)
{
	flags = read_flags();
	lapic_eoi();
}

/* Skips the jump that waits. */
HANDLER(timer)
{
	ticks++;
	at = frame->ip;
	flags = frame->flags;
	if (read8(frame->ip) == 0xeb)
		frame->ip += 2;
	lapic_eoi();
}

/* The interrupt must come in where label 9 is. */
#define COMES(label, code)                                               \
	do {                                                             \
		uint64_t want;                                           \
                                                                         \
		count = 0;                                               \
		lapic_ipi(0, SELF | VECTOR);                             \
		__asm__ volatile(code "\ncli; lea 9b(%%rip), %0"         \
				 : "=&r"(want)                           \
				 :                                       \
				 : "rax", "rcx", "rdx", "memory", "cc"); \
		check_eq(label, count, 1);                               \
		check64(label ": where", at, want);                      \
	} while (0)

static void
windows(void)
{
	COMES("STI", "sti; nop; 9: nop; nop");
	COMES("STI twice", "sti; sti; 9: nop; nop");
	COMES("POPF", "pushf; orl $0x200, (%%rsp); popf; 9: nop; nop");
	COMES("IRET",
	    "mov %%rsp, %%rax; push $0x10; push %%rax; push $0x202; push $8;"
	    "push $9f; iretq; 9: nop; nop");
	COMES("STI and HLT", "sti; hlt; 9: nop");
	COMES("STI and a jump", "sti; jmp 9f; nop; 9: nop; nop");
	COMES("STI and a call", "sti; call 9f; jmp 8f; 9: nop; ret; 8: nop");
	COMES("STI and a store", "sti; movl $1, -64(%%rsp); 9: nop; nop");
	COMES("STI and CPUID",
	    "push %%rbx; xor %%eax, %%eax; sti; cpuid; 9: nop; pop %%rbx");
	COMES("STI, a fault of the next instruction, and its handler",
	    "movq $8f, fault_resume; mov %%rsp, fault_sp;"
	    "sti; ud2; 8: sti; nop; 9: nop");
}

static void
none(void)
{
	count = 0;
	lapic_ipi(0, SELF | VECTOR);
	__asm__ volatile("nop; nop; nop");
	check_eq("none while IF is clear", count, 0);
	for (int i = 0; i < 1000; i++)
		__asm__ volatile("sti; cli");
	check_eq("none between STI and CLI", count, 0);
	__asm__ volatile("pushf; pushf; orl $0x200, (%%rsp); mov $0x10, %%eax;"
			 "sti; cli; popf; nop; popf" ::
			     : "rax", "memory", "cc");
	check_eq("but after POPF", count, 1);
}

static void
priority(void)
{
	count = higher = 0;
	write_cr8(4);
	lapic_ipi(0, SELF | VECTOR);
	lapic_ipi(0, SELF | HIGHER);
	__asm__ volatile("sti; nop; nop; nop; cli");
	check_eq("not above the task priority", count, 0);
	check_eq("above it", higher, 1);
	check("it waits in IRR", lapic_bit(LAPIC_IRR, VECTOR));
	__asm__ volatile("sti; nop; mov %0, %%cr8; nop; cli" : : "r"(3ULL));
	check_eq("at once when CR8 falls", count, 1);
	write_cr8(15);
	COMES("when CR8 falls: where",
	    "sti; nop; nop; xor %%eax, %%eax; mov %%rax, %%cr8; 9: nop; nop");
	count = higher = 0;
	gate(VECTOR + 0x10, interrupt_nesting);
	lapic_ipi(0, SELF | (VECTOR + 0x10));
	__asm__ volatile("sti; nop; nop; nop; cli");
	check_eq("only the higher one nests", nested, 0x100);
	check_eq("the lower one follows", count, 1);
}

static void
start_timer(uint32_t n)
{
	lapic_write(LAPIC_TIMER_DIVIDE, 0xb); /* by 1 */
	lapic_write(LAPIC_LVT_TIMER, TIMER);
	lapic_write(LAPIC_TIMER_INITIAL, n);
}

static void
into_loops(void)
{
	static uint8_t from[1 << 16], to[1 << 16];
	uint64_t si = (uint64_t)from, di = (uint64_t)to, cx = sizeof(to);
	unsigned sum = 0;

	ticks = 0;
	start_timer(200000);
	__asm__ volatile("sti; 1: jmp 1b; cli" ::: "memory");
	check_eq("a jump to itself", ticks, 1);

	ticks = 0;
	start_timer(200000);
	__asm__ volatile("sti; 1: cmpl $0, %0; je 1b; cli"
			 :
			 : "m"(ticks)
			 : "memory", "cc");
	check_eq("a loop that waits", ticks, 1);

	for (unsigned i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 7 + (i >> 8));
	ticks = 0;
	start_timer(500);
	__asm__ volatile("sti; rep movsb; 1: cmpl $0, %3; je 1b; cli"
			 : "+S"(si), "+D"(di), "+c"(cx)
			 : "m"(ticks)
			 : "memory", "cc");
	check64("REP MOVS ends", cx, 0);
	check_eq("and was interrupted", ticks, 1);
	for (unsigned i = 0; i < sizeof(to); i++)
		sum += to[i] != from[i];
	check_eq("all is copied", sum, 0);
}

static void
gates(void)
{
	gate(VECTOR, interrupt_flags);
	lapic_ipi(0, SELF | VECTOR);
	__asm__ volatile("sti; nop; nop; cli");
	check_eq("an interrupt gate clears IF", flags & FLAG_IF, 0);
	gate_flags(VECTOR, interrupt_flags, 0x8f00);
	lapic_ipi(0, SELF | VECTOR);
	__asm__ volatile("sti; nop; nop; cli");
	check_eq("a trap gate does not", flags & FLAG_IF, FLAG_IF);
	gate(VECTOR, interrupt);
	count = 0;
	lapic_ipi(0, SELF | VECTOR);
	user_flags = 0x3002; /* IOPL 3 */
	check_eq("STI in ring 3", USER("sti; nop; nop; cli", "r"(0)), HOME);
	check_eq("lets it in", count, 1);
	lapic_ipi(0, SELF | VECTOR);
	user_flags = 0x202;
	check_eq("IRET to ring 3", USER("nop", "r"(0)), HOME);
	check_eq("lets it in", count, 2);
	user_flags = 2;
}

void
payload(void)
{
	test("shadows");
	ring_init();
	lapic_init();
	gate(VECTOR, interrupt);
	gate(HIGHER, interrupt_higher);
	gate(TIMER, timer);
	windows();
	none();
	priority();
	into_loops();
	gates();
	done();
}
