/*
 * Integer instructions against the processor that runs this test.
 *
 * The same bytes, at the same address and with the same operands, run natively
 * and through x86_step(): the guest's memory is our own, at our own addresses,
 * with paging off.  Registers, memory and all six flags must come out alike.
 * What the manual leaves undefined is compared only on AMD family 1Ah, which
 * alu.c says it follows.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmocka.h>

#include "engine/x86/interp.h"
#include "engine/x86/mmu.h"

#define SIZE 0x10000u
#define CODE 0x0u     /* where in the region an instruction is put */
#define DATA 0x4000u  /* memory operands are about here */
#define GATE 0x8000u  /* the way into 32-bit code and back */
#define STACK 0xf000u /* of 32-bit code */
#define WINDOW 1024u  /* bytes around DATA that are filled and compared */
#define ROUNDS 120

struct regs {
	uint64_t gpr[CPU_GPRS];
	uint64_t rflags;
};

static uint8_t *region;
static struct x86_cpu *cpu;
static struct x86_mem mem;
static bool strict; /* undefined flags, too */
static bool legacy; /* 32-bit code */
static bool zeros;  /* memory is filled with zeros, for CMPXCHG to find */

/* --------------------------------------------------------- the processor */

/* Set by run(), read by the code below. */
struct native {
	struct regs *regs;
	const void *target;
	uint64_t scratch;
	bool faulted;
};
struct native native;
void native_run(void);
void native_return(void);

__asm__(".text\n"
	"native_run:\n"
	"	push %rbx\n"
	"	push %rbp\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov native(%rip), %rdi\n"
	"	pushq 128(%rdi)\n"
	"	popfq\n"
	"	mov 0(%rdi), %rax\n"
	"	mov 8(%rdi), %rcx\n"
	"	mov 16(%rdi), %rdx\n"
	"	mov 24(%rdi), %rbx\n"
	"	mov 40(%rdi), %rbp\n"
	"	mov 48(%rdi), %rsi\n"
	"	mov 64(%rdi), %r8\n"
	"	mov 72(%rdi), %r9\n"
	"	mov 80(%rdi), %r10\n"
	"	mov 88(%rdi), %r11\n"
	"	mov 96(%rdi), %r12\n"
	"	mov 104(%rdi), %r13\n"
	"	mov 112(%rdi), %r14\n"
	"	mov 120(%rdi), %r15\n"
	"	mov 56(%rdi), %rdi\n"
	"	jmp *native+8(%rip)\n"
	"native_return:\n"
	"	mov %rdi, native+16(%rip)\n"
	"	mov native(%rip), %rdi\n"
	"	mov %rax, 0(%rdi)\n"
	"	mov %rcx, 8(%rdi)\n"
	"	mov %rdx, 16(%rdi)\n"
	"	mov %rbx, 24(%rdi)\n"
	"	mov %rbp, 40(%rdi)\n"
	"	mov %rsi, 48(%rdi)\n"
	"	mov %r8, 64(%rdi)\n"
	"	mov %r9, 72(%rdi)\n"
	"	mov %r10, 80(%rdi)\n"
	"	mov %r11, 88(%rdi)\n"
	"	mov %r12, 96(%rdi)\n"
	"	mov %r13, 104(%rdi)\n"
	"	mov %r14, 112(%rdi)\n"
	"	mov %r15, 120(%rdi)\n"
	"	mov native+16(%rip), %rax\n"
	"	mov %rax, 56(%rdi)\n"
	"	pushfq\n"
	"	popq 128(%rdi)\n"
	"	cld\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbp\n"
	"	pop %rbx\n"
	"	ret\n");

static void
fault(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t stack;

	native.faulted = true;
	if (legacy) {
		memcpy(&stack, region + STACK, sizeof(stack));
		uc->uc_mcontext.gregs[REG_RSP] = stack;
	}
	uc->uc_mcontext.gregs[REG_RIP] =
	    (greg_t)(uintptr_t)(void *)native_return;
}

static unsigned
emit(unsigned at, const void *bytes, unsigned len)
{
	memcpy(region + at, bytes, len);
	return at + len;
}

/* jmp native_return */
static unsigned
emit_return(unsigned at)
{
	static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
	uint64_t back = (uintptr_t)(void *)native_return;

	at = emit(at, jump, sizeof(jump));
	return emit(at, &back, sizeof(back));
}

/*
 * Into 32-bit code at CODE, where a far return stands behind the instruction,
 * by the selector that Linux has for it.  rSP is kept at STACK.
 */
static void
emit_gate(unsigned len)
{
	uint32_t stack = (uint32_t)(uintptr_t)region + STACK;
	uint32_t code = (uint32_t)(uintptr_t)region + CODE;
	uint32_t pointer = stack + 8;
	unsigned at = GATE;

	emit(CODE + len, "\xcb", 1);
	emit(STACK + 8, &code, 4);
	emit(STACK + 12, "\x23\0", 2);
	at = emit(at, "\x48\x89\x24\x25", 4); /* mov [stack], rsp */
	at = emit(at, &stack, 4);
	at = emit(at, "\xbc", 1); /* mov esp, stack */
	at = emit(at, &stack, 4);
	at = emit(at, "\xff\x1c\x25", 3); /* call far [pointer] */
	at = emit(at, &pointer, 4);
	at = emit(at, "\x48\x8b\x24\x25", 4); /* mov rsp, [stack] */
	at = emit(at, &stack, 4);
	(void)emit_return(at);
}

/* The processor's answer; false if it raised an exception. */
static bool
run_native(unsigned len, struct regs *regs)
{
	native.regs = regs;
	native.faulted = false;
	native.target = region + (legacy ? GATE : CODE);
	if (legacy)
		emit_gate(len);
	else
		(void)emit_return(CODE + len);
	native_run();
	return !native.faulted;
}

/* The interpreter's; an empty IDT makes of every exception a shutdown. */
static bool
run_interpreted(unsigned len, struct regs *regs)
{
	uint64_t begin = (uintptr_t)region + CODE;
	enum x86_step result;

	memcpy(cpu->gpr, regs->gpr, sizeof(cpu->gpr));
	cpu->rflags = regs->rflags | X86_FLAGS_FIXED;
	cpu->rip = begin;
	do
		result = x86_step(cpu);
	while (result == X86_STEP_NEXT && cpu->rip == begin);
	memcpy(regs->gpr, cpu->gpr, sizeof(cpu->gpr));
	regs->rflags = cpu->rflags;
	if (result == X86_STEP_NEXT)
		assert_int_equal(cpu->rip, begin + len);
	else
		assert_int_equal(cpu->rip, begin);
	return result == X86_STEP_NEXT;
}

static struct cpu_segment
flat(uint32_t access)
{
	return (struct cpu_segment) {
		.limit = UINT32_MAX,
		.access = X86_SEG_G | X86_SEG_P | X86_SEG_S | X86_SEG_RW |
		    X86_SEG_ACCESSED | access,
	};
}

static void
set_legacy(bool on)
{
	legacy = on;
	cpu->seg[CPU_CS] = flat(X86_SEG_CODE | (on ? X86_SEG_DB : X86_SEG_L));
	x86_cpu_mode(cpu);
}

/* Operands are to both sides of a page boundary. */
static void
nothing(struct x86_cpu *self)
{
}

static int
setup(void **state)
{
	static struct cpuid_table host, guest;
	static const struct cpuid_params params = { .cores = 1, .threads = 1 };
	static const struct msr_params msr = { 0 };
	static const struct x86_host alone_anyway = {
		.exclusive_begin = nothing,
		.exclusive_end = nothing,
	};
	region = mmap(NULL, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	assert_ptr_not_equal(region, MAP_FAILED);
	cpuid_host(&host);
	cpuid_guest(&host, &params, &guest);
	strict = cpuid_vendor(&host) == CPUID_AMD &&
	    ((cpuid_read(&host, 1, 0).eax >> 20) & 0xff) == 0xb;

	cpu = x86_cpu_new(0, &guest, &msr, false);
	cpu->host = &alone_anyway;
	cpu->mem = &mem;
	mem.ram[0] = (struct x86_ram) {
		.gpa = (uintptr_t)region,
		.size = SIZE,
		.host = region,
		.code = calloc(SIZE / 4096, 1),
		.dirty = calloc(SIZE / 4096, 1),
		.writers = calloc(SIZE / 4096, sizeof(uint32_t)),
	};
	mem.count = 1;
	cpu->cr0 = X86_CR0_PE | X86_CR0_ET;
	cpu->efer = X86_EFER_LMA;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s] = flat(X86_SEG_DB);
	set_legacy(false);
	return 0;
}

static int
teardown(void **state)
{
	free((void *)mem.ram[0].code);
	free((void *)mem.ram[0].dirty);
	free((void *)mem.ram[0].writers);
	x86_cpu_free(cpu);
	munmap(region, SIZE);
	return 0;
}

/* ------------------------------------------------------------- operands */

static uint64_t
random_bits(void)
{
	static uint64_t s = 0x9e3779b97f4a7c15ULL;

	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}

/* Edges more often than chance has them. */
static uint64_t
operand(void)
{
	static const uint64_t edges[] = { 0, 1, 2, UINT64_MAX, 0x7f, 0x80,
		0x7fff, 0x8000, 0x7fffffff, 0x80000000, INT64_MAX, 1ULL << 63,
		0xffff, 0xff, 0xffffffff, 0xffffffff80000000 };
	uint64_t r = random_bits();

	switch (r & 3) {
	case 0:
		return edges[(r >> 8) % ARRAY_SIZE(edges)];
	case 1:
		return random_bits() >> ((r >> 8) & 63);
	default:
		return random_bits();
	}
}

static void
random_regs(struct regs *regs)
{
	for (unsigned r = 0; r < CPU_GPRS; r++)
		regs->gpr[r] = operand();
	regs->rflags = (random_bits() & X86_ARITH) | X86_FLAGS_FIXED;
}

/* Run what stands at CODE both ways; `what` is for whoever reads a failure. */
static void
compare(const char *what, unsigned len, const struct regs *before)
{
	static uint8_t data[WINDOW], theirs[WINDOW];
	uint8_t *window = region + DATA - WINDOW / 2;
	struct regs expected = *before, got = *before;
	uint64_t mask = X86_ARITH | X86_DF;
	struct x86_insn insn;
	bool fine, same;

	assert_int_equal(x86_decode(region + CODE, X86_INSN_MAX, cpu->code,
			     &insn),
	    X86_DECODED);
	if (!x86_has(cpu, insn.op->feature))
		return;
	if (!strict)
		mask &= ~(uint64_t)insn.op->flags_undefined;
	for (unsigned i = 0; i < WINDOW; i += 8) {
		uint64_t v = zeros ? 0 : operand();

		memcpy(data + i, &v, 8);
	}
	memcpy(window, data, WINDOW);
	fine = run_native(len, &expected);
	memcpy(theirs, window, WINDOW);
	memcpy(window, data, WINDOW);
	same = run_interpreted(len, &got) == fine;
	expected.gpr[CPU_RSP] = got.gpr[CPU_RSP];
	/* Flags after an exception are those before. */
	if (!fine)
		mask = 0;
	same = same && ((expected.rflags ^ got.rflags) & mask) == 0 &&
	    memcmp(expected.gpr, got.gpr, sizeof(got.gpr)) == 0 &&
	    memcmp(theirs, window, WINDOW) == 0;
	if (same)
		return;
	print_error("%s:", what);
	for (unsigned i = 0; i < len; i++)
		print_error(" %02x", region[CODE + i]);
	print_error("\nflags %llx: %llx, not %llx\n",
	    (unsigned long long)before->rflags & X86_ARITH,
	    (unsigned long long)got.rflags & mask,
	    (unsigned long long)expected.rflags & mask);
	for (unsigned r = 0; r < CPU_GPRS; r++)
		print_error("%s %llx: %llx, not %llx\n", cpu_gpr_name(r),
		    (unsigned long long)before->gpr[r],
		    (unsigned long long)got.gpr[r],
		    (unsigned long long)expected.gpr[r]);
	for (unsigned i = 0; i < WINDOW; i++) {
		if (theirs[i] != window[i])
			print_error("memory %d: %02x: %02x, not %02x\n",
			    (int)(i - WINDOW / 2), data[i], window[i],
			    theirs[i]);
	}
	fail();
}

/* ---------------------------------------------------------- instructions */

#define S1 1u
#define S2 2u
#define S4 4u
#define S8 8u
#define SV (S2 | S4 | S8)
#define SALL (S1 | SV)

#define LOCKS BIT(0)    /* LOCK with memory */
#define BITS BIT(1)     /* ModRM.reg is a bit offset */
#define DIVIDES BIT(2)  /* give it a chance not to overflow */
#define COMPARES BIT(3) /* give it a chance to find its accumulator */
#define ONLY_MEM BIT(4)
#define QUIRK BIT(5) /* the result is undefined */

struct op {
	const char *name;
	uint8_t prefix; /* mandatory */
	uint8_t map;    /* 0, 1: 0F, 2: 0F 38, 3: 0F 3A */
	uint8_t opcode; /* of size 2 to 8; one less is size 1 */
	int8_t ext;     /* in ModRM.reg, or -1: a register */
	uint8_t imm;    /* bytes, 0xff: as the operand, at most 4 */
	uint8_t sizes;
	uint8_t how;
};

static const struct op ops[] = {
	{ "add", 0, 0, 0x01, -1, 0, SALL, LOCKS },
	{ "or", 0, 0, 0x09, -1, 0, SALL, LOCKS },
	{ "adc", 0, 0, 0x11, -1, 0, SALL, LOCKS },
	{ "sbb", 0, 0, 0x19, -1, 0, SALL, LOCKS },
	{ "and", 0, 0, 0x21, -1, 0, SALL, LOCKS },
	{ "sub", 0, 0, 0x29, -1, 0, SALL, LOCKS },
	{ "xor", 0, 0, 0x31, -1, 0, SALL, LOCKS },
	{ "cmp", 0, 0, 0x39, -1, 0, SALL, 0 },
	{ "add to register", 0, 0, 0x03, -1, 0, SALL, 0 },
	{ "sbb from register", 0, 0, 0x1b, -1, 0, SALL, 0 },
	{ "cmp register", 0, 0, 0x3b, -1, 0, SALL, 0 },
	{ "test", 0, 0, 0x85, -1, 0, SALL, 0 },
	{ "add imm", 0, 0, 0x81, 0, 0xff, SALL, LOCKS },
	{ "adc imm", 0, 0, 0x81, 2, 0xff, SALL, LOCKS },
	{ "and imm", 0, 0, 0x81, 4, 0xff, SALL, LOCKS },
	{ "sub imm8", 0, 0, 0x83, 5, 1, SV, LOCKS },
	{ "xor imm8", 0, 0, 0x83, 6, 1, SV, LOCKS },
	{ "cmp imm8", 0, 0, 0x83, 7, 1, SV, 0 },
	{ "test imm", 0, 0, 0xf7, 0, 0xff, SALL, 0 },
	{ "not", 0, 0, 0xf7, 2, 0, SALL, LOCKS },
	{ "neg", 0, 0, 0xf7, 3, 0, SALL, LOCKS },
	{ "inc", 0, 0, 0xff, 0, 0, SALL, LOCKS },
	{ "dec", 0, 0, 0xff, 1, 0, SALL, LOCKS },
	{ "mul", 0, 0, 0xf7, 4, 0, SALL, 0 },
	{ "imul1", 0, 0, 0xf7, 5, 0, SALL, 0 },
	{ "div", 0, 0, 0xf7, 6, 0, SALL, DIVIDES },
	{ "idiv", 0, 0, 0xf7, 7, 0, SALL, DIVIDES },
	{ "imul", 0, 1, 0xaf, -1, 0, SV, 0 },
	{ "imul imm", 0, 0, 0x69, -1, 0xff, SV, 0 },
	{ "imul imm8", 0, 0, 0x6b, -1, 1, SV, 0 },
	{ "rol", 0, 0, 0xd3, 0, 0, SALL, 0 },
	{ "ror", 0, 0, 0xd3, 1, 0, SALL, 0 },
	{ "rcl", 0, 0, 0xd3, 2, 0, SALL, 0 },
	{ "rcr", 0, 0, 0xd3, 3, 0, SALL, 0 },
	{ "shl", 0, 0, 0xd3, 4, 0, SALL, 0 },
	{ "shr", 0, 0, 0xd3, 5, 0, SALL, 0 },
	{ "sal", 0, 0, 0xd3, 6, 0, SALL, 0 },
	{ "sar", 0, 0, 0xd3, 7, 0, SALL, 0 },
	{ "rol imm", 0, 0, 0xc1, 0, 1, SALL, 0 },
	{ "rcl imm", 0, 0, 0xc1, 2, 1, SALL, 0 },
	{ "rcr imm", 0, 0, 0xc1, 3, 1, SALL, 0 },
	{ "shl imm", 0, 0, 0xc1, 4, 1, SALL, 0 },
	{ "shr imm", 0, 0, 0xc1, 5, 1, SALL, 0 },
	{ "sar imm", 0, 0, 0xc1, 7, 1, SALL, 0 },
	{ "ror 1", 0, 0, 0xd1, 1, 0, SALL, 0 },
	{ "rcl 1", 0, 0, 0xd1, 2, 0, SALL, 0 },
	{ "rcr 1", 0, 0, 0xd1, 3, 0, SALL, 0 },
	{ "shl 1", 0, 0, 0xd1, 4, 0, SALL, 0 },
	{ "sar 1", 0, 0, 0xd1, 7, 0, SALL, 0 },
	{ "shld imm", 0, 1, 0xa4, -1, 1, S4 | S8, 0 },
	{ "shld", 0, 1, 0xa5, -1, 0, S4 | S8, 0 },
	{ "shrd imm", 0, 1, 0xac, -1, 1, S4 | S8, 0 },
	{ "shrd", 0, 1, 0xad, -1, 0, S4 | S8, 0 },
	{ "shld 16", 0, 1, 0xa5, -1, 0, S2, QUIRK },
	{ "shrd 16", 0, 1, 0xad, -1, 0, S2, QUIRK },
	{ "bt", 0, 1, 0xa3, -1, 0, SV, BITS },
	{ "bts", 0, 1, 0xab, -1, 0, SV, BITS | LOCKS },
	{ "btr", 0, 1, 0xb3, -1, 0, SV, BITS | LOCKS },
	{ "btc", 0, 1, 0xbb, -1, 0, SV, BITS | LOCKS },
	{ "bt imm", 0, 1, 0xba, 4, 1, SV, 0 },
	{ "bts imm", 0, 1, 0xba, 5, 1, SV, LOCKS },
	{ "btr imm", 0, 1, 0xba, 6, 1, SV, LOCKS },
	{ "btc imm", 0, 1, 0xba, 7, 1, SV, LOCKS },
	{ "bsf", 0, 1, 0xbc, -1, 0, SV, 0 },
	{ "bsr", 0, 1, 0xbd, -1, 0, SV, 0 },
	{ "tzcnt", 0xf3, 1, 0xbc, -1, 0, SV, 0 },
	{ "lzcnt", 0xf3, 1, 0xbd, -1, 0, SV, 0 },
	{ "popcnt", 0xf3, 1, 0xb8, -1, 0, SV, 0 },
	{ "crc32", 0xf2, 2, 0xf1, -1, 0, SALL, 0 },
	{ "adcx", 0x66, 2, 0xf6, -1, 0, S4 | S8, 0 },
	{ "adox", 0xf3, 2, 0xf6, -1, 0, S4 | S8, 0 },
	{ "xadd", 0, 1, 0xc1, -1, 0, SALL, LOCKS },
	{ "xchg", 0, 0, 0x87, -1, 0, SALL, LOCKS },
	{ "cmpxchg", 0, 1, 0xb1, -1, 0, SALL, LOCKS | COMPARES },
	{ "cmpxchg8b", 0, 1, 0xc7, 1, 0, S4 | S8, LOCKS | COMPARES | ONLY_MEM },
	{ "movbe", 0, 2, 0xf0, -1, 0, SV, ONLY_MEM },
	{ "movbe to memory", 0, 2, 0xf1, -1, 0, SV, ONLY_MEM },
	{ "mov", 0, 0, 0x89, -1, 0, SALL, 0 },
	{ "mov to register", 0, 0, 0x8b, -1, 0, SALL, 0 },
	{ "mov imm", 0, 0, 0xc7, 0, 0xff, SALL, 0 },
	{ "movzx byte", 0, 1, 0xb6, -1, 0, SV, 0 },
	{ "movzx word", 0, 1, 0xb7, -1, 0, SV, 0 },
	{ "movsx byte", 0, 1, 0xbe, -1, 0, SV, 0 },
	{ "movsx word", 0, 1, 0xbf, -1, 0, SV, 0 },
	{ "movsxd", 0, 0, 0x63, -1, 0, SV, 0 },
	{ "lea", 0, 0, 0x8d, -1, 0, SV, ONLY_MEM },
	{ "movnti", 0, 1, 0xc3, -1, 0, S4 | S8, ONLY_MEM },
	{ "nop", 0, 1, 0x1f, 0, 0, SV, 0 },
	{ "prefetch", 0, 1, 0x18, 1, 0, S4, ONLY_MEM },
};

/* An instruction on its way to CODE. */
struct code {
	unsigned len;
};

static void
byte(struct code *c, unsigned value)
{
	region[CODE + c->len++] = (uint8_t)value;
}

static unsigned
random_reg(void)
{
	unsigned reg = random_bits() & 15;

	return reg == CPU_RSP ? CPU_RBX : reg; /* the stack is in use */
}

/* ModRM, SIB and displacement of an operand within the window. */
static void
memory(struct code *c, struct regs *regs, unsigned reg, unsigned base,
    unsigned index, bool aligned)
{
	int8_t disp = (int8_t)random_bits();
	unsigned scale = random_bits() & 3;
	uint64_t at = (uintptr_t)region + DATA + (random_bits() & 48);

	if (!aligned)
		at += random_bits() & 15;
	if (index == CPU_RSP) {
		/* r12 as a base cannot do without SIB. */
		byte(c, 0x44 | (reg & 7) << 3);
		byte(c, 0x20 | (base & 7));
	} else {
		regs->gpr[index] = random_bits() & 7;
		at -= regs->gpr[index] << scale;
		byte(c, 0x44 | (reg & 7) << 3);
		byte(c, scale << 6 | (index & 7) << 3 | (base & 7));
	}
	byte(c, (uint8_t)disp);
	regs->gpr[base] = at - (uint64_t)disp;
}

static void
one_op(const struct op *op, unsigned size, bool mem_operand)
{
	struct code c = { 0 };
	struct regs regs;
	unsigned reg = op->ext >= 0 ? (unsigned)op->ext : random_reg();
	unsigned rm = random_reg(), index = random_bits() & 15;
	unsigned imm = op->imm == 0xff ? MIN(size, 4u) : op->imm;
	unsigned rex = size == 8 ? 0x48 : 0;

	random_regs(&regs);
	if (!mem_operand || index == rm)
		index = CPU_RSP; /* none */
	rex |= (reg & 8) >> 1 | (index & 8) >> 2 | rm >> 3;
	/* With REX even an empty one, bytes 4 to 7 are SPL to DIL. */
	if (rex != 0 || (size == 1 && (random_bits() & 1)))
		rex |= 0x40;
	if (size == 1 && rex == 0 && !mem_operand && (random_bits() & 1))
		rm = CPU_RSP; /* AH */
	if ((op->how & DIVIDES) && (random_bits() & 7)) {
		uint64_t sign = regs.gpr[CPU_RAX] >> (size * 8 - 1) & 1;

		regs.gpr[CPU_RDX] = sign && op->ext == 7 ? UINT64_MAX : 0;
		regs.gpr[CPU_RAX] &= size == 1 ? 0xff : UINT64_MAX;
	}
	zeros = (op->how & COMPARES) && (random_bits() & 1);
	if (zeros)
		regs.gpr[CPU_RAX] = regs.gpr[CPU_RDX] = 0;

	if (size == 2)
		byte(&c, 0x66);
	if (op->prefix != 0)
		byte(&c, op->prefix);
	if (mem_operand && (op->how & LOCKS) && (random_bits() & 1))
		byte(&c, 0xf0);
	if (rex != 0)
		byte(&c, rex);
	if (op->map != 0)
		byte(&c, 0x0f);
	if (op->map >= 2)
		byte(&c, op->map == 2 ? 0x38 : 0x3a);
	byte(&c, size == 1 ? op->opcode & 0xfe : op->opcode);
	if (mem_operand) {
		memory(&c, &regs, reg, rm, index, op->how & COMPARES);
		if (op->how & BITS) {
			if (reg == rm || reg == index)
				return;
			regs.gpr[reg] &= ~0xffffULL & ~size_mask(size);
			regs.gpr[reg] |=
			    (random_bits() % 3000 - 1500) & size_mask(size);
		}
	} else {
		byte(&c, 0xc0 | (reg & 7) << 3 | (rm & 7));
	}
	for (unsigned i = 0; i < imm; i++)
		byte(&c, random_bits() & 1 ? random_bits() & 0xff : 0xff);
	compare(op->name, c.len, &regs);
	zeros = false;
}

static void
integer_instructions(void **state)
{
	const struct sigaction action = {
		.sa_sigaction = fault,
		.sa_flags = SA_SIGINFO,
	};

	/* Here, because the framework has handlers of its own for each test. */
	sigaction(SIGFPE, &action, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		const struct op *op = &ops[i];

		if ((op->how & QUIRK) && !strict)
			continue;
		for (unsigned size = 1; size <= 8; size *= 2) {
			if (!(op->sizes & size))
				continue;
			for (unsigned n = 0; n < ROUNDS; n++) {
				if (!(op->how & ONLY_MEM))
					one_op(op, size, false);
				one_op(op, size, true);
			}
		}
	}
}

/* Every count, for the flags that only some of them set. */
static void
every_shift_count(void **state)
{
	for (unsigned ext = 0; ext < 8; ext++) {
		for (unsigned size = 1; size <= 8; size *= 2) {
			for (unsigned count = 0; count < 256; count++) {
				struct code c = { 0 };
				struct regs regs;

				random_regs(&regs);
				if (size == 2)
					byte(&c, 0x66);
				if (size == 8)
					byte(&c, 0x48);
				byte(&c, size == 1 ? 0xc0 : 0xc1);
				byte(&c, 0xc0 | ext << 3 | CPU_RDX);
				byte(&c, count);
				compare("shift", c.len, &regs);
			}
		}
	}
}

/* ----------------------------------------------------------------- BMI */

static const struct {
	const char *name;
	uint8_t opcode;
	uint8_t map;
	uint8_t pp; /* 0, 1: 66, 2: F3, 3: F2 */
	int8_t ext;
	bool imm;
} vex_ops[] = {
	{ "andn", 0xf2, 2, 0, -1, false },
	{ "blsr", 0xf3, 2, 0, 1, false },
	{ "blsmsk", 0xf3, 2, 0, 2, false },
	{ "blsi", 0xf3, 2, 0, 3, false },
	{ "bzhi", 0xf5, 2, 0, -1, false },
	{ "pext", 0xf5, 2, 2, -1, false },
	{ "pdep", 0xf5, 2, 3, -1, false },
	{ "mulx", 0xf6, 2, 3, -1, false },
	{ "bextr", 0xf7, 2, 0, -1, false },
	{ "shlx", 0xf7, 2, 1, -1, false },
	{ "sarx", 0xf7, 2, 2, -1, false },
	{ "shrx", 0xf7, 2, 3, -1, false },
	{ "rorx", 0xf0, 3, 3, -1, true },
};

static void
bmi_instructions(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(vex_ops); i++) {
		for (unsigned n = 0; n < 8 * ROUNDS; n++) {
			struct code c = { 0 };
			struct regs regs;
			int8_t ext = vex_ops[i].ext;
			unsigned reg = ext >= 0 ? (unsigned)ext : random_reg();
			unsigned rm = random_reg(), v = random_reg();
			unsigned w = random_bits() & 1;
			bool mem_operand = random_bits() & 1;

			random_regs(&regs);
			/* The lengths and places of BEXTR and BZHI */
			if (random_bits() & 1)
				regs.gpr[v] &= 0x7f7f;
			if (vex_ops[i].imm)
				v = 0;
			byte(&c, 0xc4);
			byte(&c,
			    (~reg & 8) << 4 | 0x40 | (~rm & 8) << 2 |
				vex_ops[i].map);
			byte(&c, w << 7 | (~v & 15) << 3 | vex_ops[i].pp);
			byte(&c, vex_ops[i].opcode);
			if (mem_operand)
				memory(&c, &regs, reg, rm, CPU_RSP, false);
			else
				byte(&c, 0xc0 | (reg & 7) << 3 | (rm & 7));
			if (vex_ops[i].imm)
				byte(&c, random_bits() & 0xff);
			compare(vex_ops[i].name, c.len, &regs);
		}
	}
}

/* ------------------------------------------------- without a ModRM byte */

static void
conditions(void **state)
{
	for (unsigned cc = 0; cc < 16; cc++) {
		struct op op = { "cmov", 0, 1, (uint8_t)(0x40 | cc), -1, 0, SV,
			0 };

		for (unsigned n = 0; n < ROUNDS; n++) {
			struct regs regs;
			struct code c = { 0 };

			op.name = "cmov";
			op.opcode = (uint8_t)(0x40 | cc);
			one_op(&op, 4, n & 1);
			one_op(&op, 8, n & 1);
			random_regs(&regs);
			byte(&c, 0x0f);
			byte(&c, 0x90 | cc);
			byte(&c, 0xc0 | (n & 7)); /* AH to BH, too */
			compare("setcc", c.len, &regs);
		}
	}
}

static void
fixed_instructions(void **state)
{
	static const struct {
		const char *name;
		uint8_t bytes[4];
		uint8_t len;
		bool quirk;
	} forms[] = {
		{ "cbw", { 0x66, 0x98 }, 2, false },
		{ "cwde", { 0x98 }, 1, false },
		{ "cdqe", { 0x48, 0x98 }, 2, false },
		{ "cwd", { 0x66, 0x99 }, 2, false },
		{ "cdq", { 0x99 }, 1, false },
		{ "cqo", { 0x48, 0x99 }, 2, false },
		{ "lahf", { 0x9f }, 1, false },
		{ "sahf", { 0x9e }, 1, false },
		{ "clc", { 0xf8 }, 1, false },
		{ "stc", { 0xf9 }, 1, false },
		{ "cmc", { 0xf5 }, 1, false },
		{ "cld", { 0xfc }, 1, false },
		{ "std", { 0xfd }, 1, false },
		{ "bswap", { 0x0f, 0xca }, 2, false },
		{ "bswap r9", { 0x49, 0x0f, 0xc9 }, 3, false },
		{ "bswap dx", { 0x66, 0x0f, 0xca }, 3, true },
		{ "xchg eax", { 0x91 }, 1, false },
		{ "xchg r8", { 0x49, 0x90 }, 2, false },
		{ "nop", { 0x90 }, 1, false },
		{ "pause", { 0xf3, 0x90 }, 2, false },
		{ "mov al", { 0xb2, 0x7f }, 2, false },
		{ "mov ah", { 0xb6, 0x7f }, 2, false },
		{ "mfence", { 0x0f, 0xae, 0xf0 }, 3, false },
		{ "lfence", { 0x0f, 0xae, 0xe8 }, 3, false },
		{ "sfence", { 0x0f, 0xae, 0xf8 }, 3, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (forms[i].quirk && !strict)
			continue;
		for (unsigned n = 0; n < ROUNDS; n++) {
			struct regs regs;

			random_regs(&regs);
			memcpy(region + CODE, forms[i].bytes, forms[i].len);
			compare(forms[i].name, forms[i].len, &regs);
		}
	}
}

static void
translation_and_absolute_addresses(void **state)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t at = (uintptr_t)region + DATA - 128;
		struct code c = { 0 };
		struct regs regs;

		random_regs(&regs);
		regs.gpr[CPU_RBX] = at;
		if (n & 1)
			byte(&c, 0x67);
		byte(&c, 0xd7);
		compare("xlat", c.len, &regs);

		c.len = 0;
		if (n & 1)
			byte(&c, 0x48);
		byte(&c, 0xa0 | (n >> 1 & 3));
		memcpy(region + CODE + c.len, &at, 8);
		compare("mov moffs", c.len + 8, &regs);
	}
}

/* -------------------------------------------------------------- strings */

static void
strings(void **state)
{
	static const uint8_t opcodes[] = { 0xa4, 0xa6, 0xaa, 0xac, 0xae };
	static const uint8_t repeats[] = { 0, 0xf2, 0xf3 };

	for (unsigned n = 0; n < 40 * ROUNDS; n++) {
		unsigned opcode = opcodes[n % ARRAY_SIZE(opcodes)];
		unsigned rep = repeats[random_bits() % ARRAY_SIZE(repeats)];
		unsigned size = 1u << (random_bits() & 3);
		struct code c = { 0 };
		struct regs regs;

		random_regs(&regs);
		regs.gpr[CPU_RSI] =
		    (uintptr_t)region + DATA + random_bits() % 200 - 100;
		regs.gpr[CPU_RDI] =
		    (uintptr_t)region + DATA + random_bits() % 200 - 100;
		regs.gpr[CPU_RCX] = random_bits() % 40;
		if (random_bits() & 1)
			regs.rflags |= X86_DF;
		if (random_bits() & 1)
			regs.gpr[CPU_RAX] = 0;
		if (size == 2)
			byte(&c, 0x66);
		if (n & 64)
			byte(&c, 0x67);
		if (rep != 0)
			byte(&c, rep);
		if (size == 8)
			byte(&c, 0x48);
		byte(&c, size == 1 ? opcode : opcode + 1);
		compare("string", c.len, &regs);
	}
}

/* ------------------------------------------------------ 32-bit code */

static void
legacy_instructions(void **state)
{
	static const struct {
		const char *name;
		uint8_t bytes[3];
		uint8_t len; /* without an immediate */
		bool imm;
	} forms[] = {
		{ "daa", { 0x27 }, 1, false },
		{ "das", { 0x2f }, 1, false },
		{ "aaa", { 0x37 }, 1, false },
		{ "aas", { 0x3f }, 1, false },
		{ "aam", { 0xd4 }, 1, true },
		{ "aad", { 0xd5 }, 1, true },
		{ "salc", { 0xd6 }, 1, false },
		{ "inc", { 0x41 }, 1, false },
		{ "dec", { 0x66, 0x4a }, 2, false },
	};
	const struct sigaction action = {
		.sa_sigaction = fault,
		.sa_flags = SA_SIGINFO,
	};
	struct regs regs = { 0 };

	sigaction(SIGSEGV, &action, NULL);
	set_legacy(true);
	emit(CODE, "\x90", 1);
	if (!run_native(1, &regs)) {
		set_legacy(false);
		skip(); /* a kernel without 32-bit programs */
	}
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		for (unsigned n = 0; n < 16 * ROUNDS; n++) {
			struct code c = { 0 };

			random_regs(&regs);
			for (unsigned r = 0; r < CPU_GPRS; r++)
				regs.gpr[r] &= UINT32_MAX;
			for (unsigned b = 0; b < forms[i].len; b++)
				byte(&c, forms[i].bytes[b]);
			if (forms[i].imm)
				byte(&c, n & 1 ? 10 : n % 255 + 1);
			compare(forms[i].name, c.len, &regs);
		}
	}
	/* lea with every 16-bit address */
	for (unsigned modrm = 0; modrm < 0xc0; modrm++) {
		struct code c = { 0 };

		random_regs(&regs);
		for (unsigned r = 0; r < CPU_GPRS; r++)
			regs.gpr[r] &= UINT32_MAX;
		byte(&c, 0x67);
		byte(&c, 0x8d);
		byte(&c, (modrm & 0xc7) | CPU_RAX << 3);
		for (unsigned b = modrm >> 6; b > 0; b--)
			byte(&c, random_bits() & 0xff);
		if ((modrm & 0xc7) == 6) {
			byte(&c, 0x34);
			byte(&c, 0xf2);
		}
		compare("lea", c.len, &regs);
	}
	set_legacy(false);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integer_instructions),
		cmocka_unit_test(every_shift_count),
		cmocka_unit_test(bmi_instructions),
		cmocka_unit_test(conditions),
		cmocka_unit_test(fixed_instructions),
		cmocka_unit_test(translation_and_absolute_addresses),
		cmocka_unit_test(strings),
		cmocka_unit_test(legacy_instructions),
	};

	return cmocka_run_group_tests_name("alu", tests, setup, teardown);
}
