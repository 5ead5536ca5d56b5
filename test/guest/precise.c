/*
 * Precise exceptions (SDM volume 3, 6.6): when an instruction faults, all
 * registers and flags are those before it, whatever the instructions just
 * before it did.  Each faulting instruction stands behind some that change
 * registers and flags, in one block of code.
 */
#include "ring.h"

#define HOLE 0x50000000u
#define NOT_CANONICAL (1ULL << 63)

/* In the order in which they are pushed below. */
struct registers {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx,
	    rcx, rax, vector, error, rip, cs, rflags, rsp, ss;
};
static struct registers seen __attribute__((used));
static uint8_t area[1024] __attribute__((aligned(64), used));
static uint64_t home_rsp __attribute__((used));

#define EACH_STUB(each) \
	each(0) each(6) each(7) each(12) each(13) each(14) each(16) each(19)
#define STUB(n, error) \
	__asm__("stub" #n ": " error "push $" #n "; jmp stub_common\n");
STUB(0, "push $0;")
STUB(6, "push $0;")
STUB(7, "push $0;")
STUB(12, )
STUB(13, )
STUB(14, )
STUB(16, "push $0;")
STUB(19, "push $0;")
__asm__(".text\n"
	"stub_common: push %rax; push %rcx; push %rdx; push %rbx; push %rbp\n"
	"push %rsi; push %rdi; push %r8; push %r9; push %r10; push %r11\n"
	"push %r12; push %r13; push %r14; push %r15\n"
	"mov %rsp, %rsi; mov $seen, %edi; mov $22, %ecx; cld; rep movsq\n"
	"mov home_rsp, %rsp\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"push $2; popf; ret\n"
	/* Run the code at RDI with registers and flags of our own. */
	"run: push %rbx; push %rbp; push %r12; push %r13; push %r14\n"
	"push %r15\n"
	"mov %rsp, home_rsp\n"
	"push %rdi\n"
	"mov $0x1000000, %rax; mov $3, %rcx\n"
	"mov $0x3333333333333333, %rdx\n"
	"mov $0x4444444444444444, %rbx; mov $0x5555555555555555, %rbp\n"
	"mov $0x6666666666666666, %rsi; mov $0x7777777777777777, %rdi\n"
	"mov $0x8888888888888888, %r8; mov $0x9999999999999999, %r9\n"
	"mov $0xaaaaaaaaaaaaaaaa, %r10; mov $0xbbbbbbbbbbbbbbbb, %r11\n"
	"mov $0xcccccccccccccccc, %r12; mov $0xdddddddddddddddd, %r13\n"
	"mov $0x50000000, %r14; movabs $0x8000000000000000, %r15\n"
	"ret\n");
void run(const void *code);
#define DECLARE(n) extern const char stub##n[];
EACH_STUB(DECLARE)

static volatile uint64_t code_start __attribute__((used));
static volatile uint64_t code_at __attribute__((used));

/* The flags that the last ADD before the instruction leaves: ZF, CF, OF, PF. */
#define FLAGS 0x845u
#define ARITHMETIC_FLAGS 0xcd5u

static void
precise(const char *label, unsigned vector)
{
	static const uint64_t want[] = { NOT_CANONICAL, HOLE,
		0xdddddddddddddddd, 0, 0x7f000000, 0xaaaaaaaaaaaaaaaa,
		0x9999999999999999, 0x8888888888888888, 0x7777777777777777,
		0x6666666666666666, 0x7777777777777788, 0x7777777777777777,
		0x3333333333333333, 3, 0x1000000 };
	const uint64_t *got = &seen.r15;
	unsigned wrong = 0;

	run((const void *)code_start);
	check_eq(label, (uint32_t)seen.vector, vector);
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		wrong |= (got[i] != want[i]) << i;
	wrong |= (seen.rip != code_at) << 16;
	wrong |= (seen.rsp != home_rsp) << 17;
	wrong |= ((seen.rflags & ARITHMETIC_FLAGS) != FLAGS) << 18;
	check_eq("registers and flags", wrong, 0);
}

/*
 * Code that changes RBX, RBP, R11, R12 and the flags, then the instruction, in
 * which R14 leads to no page and R15 is not canonical.
 */
#define PRECISE(vector, insn)                                                \
	do {                                                                 \
		__asm__ volatile("movq $2f, code_start; movq $3f, code_at\n" \
				 "jmp 1f\n"                                  \
				 "2: add %rdx, %rbx\n"                       \
				 "lea 5(%rbx, %rcx, 4), %rbp\n"              \
				 "mov $-1, %r11d; add $0x7f000001, %r11d\n"  \
				 "mov $0x80000000, %r12d\n"                  \
				 "add %r12d, %r12d\n"                        \
				 "3: " insn "\n"                             \
				 "mov $0, %ebx; mov $0, %ebp; ud2\n"         \
				 "1:");                                      \
		precise(insn, vector);                                       \
	} while (0)

static void
integers(void)
{
	uint32_t r[4];

	write_cr4(read_cr4() | CR4_OSFXSR);
	PRECISE(DE, "div %r12");
	PRECISE(DE, "idivl %r12d");
	PRECISE(DE, "divl %ecx");
	PRECISE(UD, "ud2");
	PRECISE(UD, ".byte 0xf0, 0x01, 0xc0");
	PRECISE(GP, "mov %r15, %cr3");
	PRECISE(PF, "mov (%r14), %rax");
	PRECISE(PF, "mov %rax, 8(%r14, %rcx, 8)");
	PRECISE(PF, "movb $1, (%r14)");
	PRECISE(PF, "add (%r14), %rax");
	PRECISE(PF, "add %rax, (%r14)");
	PRECISE(PF, "adc %rax, (%r14)");
	PRECISE(PF, "incl (%r14)");
	PRECISE(PF, "cmpl $1, (%r14)");
	PRECISE(PF, "lock xadd %rax, (%r14)");
	PRECISE(PF, "lock incq (%r14)");
	PRECISE(PF, "xadd %rax, (%r14)");
	PRECISE(PF, "cmpxchg %rcx, (%r14)");
	PRECISE(PF, "lock cmpxchg8b (%r14)");
	PRECISE(PF, "xchg %rcx, (%r14)");
	PRECISE(PF, "shll %cl, (%r14)");
	PRECISE(PF, "rclq $3, (%r14)");
	PRECISE(PF, "shld $3, %rcx, (%r14)");
	PRECISE(PF, "btsl $3, (%r14)");
	PRECISE(PF, "cmovnz (%r14), %rax");
	PRECISE(PF, "setz (%r14)");
	PRECISE(PF, "mulq (%r14)");
	PRECISE(PF, "imul $3, (%r14), %rax");
	PRECISE(PF, "divq (%r14)");
	PRECISE(PF, "movzbl (%r14), %eax");
	PRECISE(PF, "movslq (%r14), %rax");
	PRECISE(PF, "notq (%r14)");
	PRECISE(PF, "bsf (%r14), %rax");
	cpuid(1, 0, r);
	PRECISE(r[2] >> 22 & 1 ? PF : UD, "movbe (%r14), %rax");
	PRECISE(r[2] >> 9 & 1 ? PF : UD, "pshufb (%r14), %xmm1");
	cpuid(7, 0, r);
	PRECISE(r[1] >> 3 & 1 ? PF : UD, "andn (%r14), %rcx, %rax");
	PRECISE(r[1] >> 8 & 1 ? PF : UD, "mulx (%r14), %rax, %rcx");
	PRECISE(GP, "mov (%r15), %rax");
	PRECISE(GP, "mov %eax, 4(%r15)");
	PRECISE(GP, "lock incl (%r15)");
	PRECISE(SS, "mov (%rsp, %r15), %rax");
	PRECISE(SS, "addl $1, (%rsp, %r15)");
	PRECISE(GP, "mov 0x123(%rdi, %rsi, 2), %rax");
}

static void
transfers(void)
{
	PRECISE(PF, "push (%r14)");
	PRECISE(PF, "popq (%r14)");
	PRECISE(PF, "call *(%r14)");
	PRECISE(PF, "jmp *(%r14)");
	PRECISE(GP, "push (%r15)");
	PRECISE(GP, "popq (%r15)");
	PRECISE(GP, "jmp *%r15");
	PRECISE(GP, "call *%r15");
	PRECISE(SS, "leave"); /* RBP is not canonical */
	PRECISE(GP, "movsb");
	PRECISE(GP, "lodsq");
	PRECISE(GP, "stosl");
	PRECISE(GP, "rep stosb");
	PRECISE(GP, "repe cmpsb");
	PRECISE(GP, "lcall *(%r15)");
	PRECISE(PF, "lgdt (%r14)");
	PRECISE(PF, "mov (%r14), %fs");
	PRECISE(GP, "mov %ebp, %fs");
}

static void
vectors(void)
{
	static const float numbers[4]
	    __attribute__((aligned(16))) = { 1, 2, 3, 4 };
	uint64_t kept[2];
	uint32_t mxcsr = 0x1d80; /* divide by zero is not masked */
	uint32_t r[4];
	double top;

	write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
	__asm__ volatile(
	    "movups %0, %%xmm1; xorps %%xmm2, %%xmm2; fninit; fldpi"
	    :
	    : "m"(numbers));
	PRECISE(PF, "movaps (%r14), %xmm1");
	PRECISE(PF, "movups %xmm1, (%r14)");
	PRECISE(PF, "addss (%r14), %xmm1");
	PRECISE(PF, "cvtsi2sdl (%r14), %xmm1");
	PRECISE(PF, "movntdq %xmm1, (%r14)");
	PRECISE(GP, "movaps area + 4, %xmm1");
	PRECISE(GP, "addps area + 4, %xmm1");
	PRECISE(GP, "movups (%r15), %xmm1");
	PRECISE(PF, "fldl (%r14)");
	PRECISE(PF, "fstpl (%r14)");
	PRECISE(PF, "fildl (%r14)");
	PRECISE(PF, "faddl (%r14)");
	PRECISE(PF, "fxrstor (%r14)");
	PRECISE(GP, "fxsave area + 8");
	PRECISE(PF, "ldmxcsr (%r14)");
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	PRECISE(XM, "divps %xmm2, %xmm1");
	mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0; movups %%xmm1, %1; fstl %2"
			 : "+m"(mxcsr), "=m"(kept), "=m"(top));
	check64("XMM1 is unchanged", kept[0], 0x400000003f800000);
	check64("and its upper half", kept[1], 0x4080000040400000);
	check64("and the top of x87", *(uint64_t *)&top, 0x400921fb54442d18);
	write_cr0(read_cr0() | CR0_TS);
	PRECISE(NM, "addps %xmm1, %xmm1");
	PRECISE(NM, "fld1");
	PRECISE(NM, "movd %eax, %mm0");
	write_cr0(read_cr0() & ~(uint64_t)CR0_TS);
	cpuid(1, 0, r);
	if (!(r[2] >> 28 & 1))
		return;
	write_cr4(read_cr4() | CR4_OSXSAVE);
	__asm__ volatile("xsetbv" : : "a"(7), "c"(0), "d"(0));
	PRECISE(PF, "vmovups (%r14), %ymm1");
	PRECISE(PF, "vmovups %ymm1, (%r14)");
	PRECISE(PF, "vaddps (%r14), %ymm1, %ymm1");
	PRECISE(GP, "vmovaps area + 4, %ymm1");
	PRECISE(PF, "vbroadcastss (%r14), %ymm1");
	PRECISE(GP, "xrstor area + 8");
	__asm__ volatile("movups %%xmm1, %0" : "=m"(kept));
	check64("XMM1 is unchanged", kept[0], 0x400000003f800000);
}

void
payload(void)
{
	test("precise");
	ring_init();
	*pde(HOLE) = 0;
	flush_tlb();
#define GATE_OF(n) gate(n, stub##n);
	EACH_STUB(GATE_OF)
	write_cr0(read_cr0() & ~(uint64_t)(CR0_EM | CR0_TS));
	integers();
	transfers();
	vectors();
	done();
}
