/*
 * Vector instructions against the processor itself.
 *
 * The same instruction is carried out twice from the same random state: by
 * x86_exec_native() on a guest's memory behind page tables, and as it stands,
 * on memory of ours at the same addresses.  Registers, flags, memory and the
 * exception, if there is one (a signal here), must be the same.  One page
 * is missing on both sides.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "engine/x86/interp.h"
#include "engine/x86/lapic.h"
#include "engine/x86/mmu.h"

#define ARENA 0x10000000ULL
#define PAGES 8u
#define HOLE 4u /* this one is missing */
#define PAGE MEM_PAGE_SIZE
#define ARENA_SIZE (PAGES * PAGE)
#define ARENA_GPA 0x100000u
#define RAM_SIZE (2 * MIB)

#define ST_AT 32u
#define XMM_AT 160u
#define BV_AT 512u
#define MXCSR_AT 24u

/* ------------------------------------------------------- the real processor */

static struct {
	uint64_t gpr[CPU_GPRS];
	uint64_t rflags;
	uint64_t code;
	uint64_t stack;
	uint64_t components;
	/* What happened: 0, or the number of an exception. */
	unsigned trap, error;
	bool trapped;
	uint64_t cr2;
	_Alignas(64) uint8_t xsave[CPU_XSAVE_MAX];
} real __asm__("native_test_real") __attribute__((used));

void native_test_run(void);
void native_test_back(void);

__asm__(".text\n"
	"native_test_run:\n"
	"	push %rbx\n	push %rbp\n"
	"	push %r12\n	push %r13\n	push %r14\n	push %r15\n"
	"	mov %rsp, native_test_real+144(%rip)\n"
	"	mov native_test_real+152(%rip), %eax\n"
	"	mov native_test_real+156(%rip), %edx\n"
	"	lea native_test_real+192(%rip), %rcx\n"
	"	xrstor64 (%rcx)\n"
	"	push native_test_real+128(%rip)\n"
	"	popfq\n"
	"	mov native_test_real+0(%rip), %rax\n"
	"	mov native_test_real+8(%rip), %rcx\n"
	"	mov native_test_real+16(%rip), %rdx\n"
	"	mov native_test_real+24(%rip), %rbx\n"
	"	mov native_test_real+32(%rip), %rsp\n"
	"	mov native_test_real+40(%rip), %rbp\n"
	"	mov native_test_real+48(%rip), %rsi\n"
	"	mov native_test_real+56(%rip), %rdi\n"
	"	mov native_test_real+64(%rip), %r8\n"
	"	mov native_test_real+72(%rip), %r9\n"
	"	mov native_test_real+80(%rip), %r10\n"
	"	mov native_test_real+88(%rip), %r11\n"
	"	mov native_test_real+96(%rip), %r12\n"
	"	mov native_test_real+104(%rip), %r13\n"
	"	mov native_test_real+112(%rip), %r14\n"
	"	mov native_test_real+120(%rip), %r15\n"
	"	jmp *native_test_real+136(%rip)\n"
	"native_test_back:\n"
	"	mov %rax, native_test_real+0(%rip)\n"
	"	mov %rcx, native_test_real+8(%rip)\n"
	"	mov %rdx, native_test_real+16(%rip)\n"
	"	mov %rbx, native_test_real+24(%rip)\n"
	"	mov %rsp, native_test_real+32(%rip)\n"
	"	mov %rbp, native_test_real+40(%rip)\n"
	"	mov %rsi, native_test_real+48(%rip)\n"
	"	mov %rdi, native_test_real+56(%rip)\n"
	"	mov %r8, native_test_real+64(%rip)\n"
	"	mov %r9, native_test_real+72(%rip)\n"
	"	mov %r10, native_test_real+80(%rip)\n"
	"	mov %r11, native_test_real+88(%rip)\n"
	"	mov %r12, native_test_real+96(%rip)\n"
	"	mov %r13, native_test_real+104(%rip)\n"
	"	mov %r14, native_test_real+112(%rip)\n"
	"	mov %r15, native_test_real+120(%rip)\n"
	"	mov native_test_real+144(%rip), %rsp\n"
	"	pushfq\n"
	"	pop native_test_real+128(%rip)\n"
	"	mov native_test_real+152(%rip), %eax\n"
	"	mov native_test_real+156(%rip), %edx\n"
	"	lea native_test_real+192(%rip), %rcx\n"
	"	xsave64 (%rcx)\n"
	"	fninit\n"
	"	push $0x1f80\n"
	"	ldmxcsr (%rsp)\n"
	"	pop %rax\n"
	"	pop %r15\n	pop %r14\n	pop %r13\n	pop %r12\n"
	"	pop %rbp\n	pop %rbx\n"
	"	ret\n");
_Static_assert(offsetof(__typeof__(real), rflags) == 128 &&
	offsetof(__typeof__(real), code) == 136 &&
	offsetof(__typeof__(real), stack) == 144 &&
	offsetof(__typeof__(real), components) == 152 &&
	offsetof(__typeof__(real), xsave) == 192,
    "as the assembly has them");

static bool on_real; /* else a signal is a failure of what we test */
static char doing[128];
static struct sigaction product; /* what native.c does about SIGFPE */

static void
on_signal(int sig, siginfo_t *info, void *context)
{
	greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (!on_real && sig == SIGFPE && product.sa_sigaction != NULL) {
		product.sa_sigaction(sig, info, context);
		return;
	}
	if (!on_real) {
		print_message("signal %d in %s\n", sig, doing);
		_exit(1);
	}
	real.trapped = true;
	real.trap = (unsigned)gregs[REG_TRAPNO];
	real.error = (unsigned)gregs[REG_ERR];
	real.cr2 = (uint64_t)gregs[REG_CR2];
	gregs[REG_RIP] = (greg_t)native_test_back;
}

/* In each test: cmocka has handlers of its own. */
static void
catch_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGFPE, SIGILL, SIGBUS };
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK,
	};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
}

/* -------------------------------------------------------------- the guest */

static struct x86_cpu *cpu;
static struct x86_mem mem;
static uint8_t *ram;
static uint8_t *code; /* where the real processor runs an instruction */
static uint64_t components;
static uint32_t mxcsr_mask;

static uint64_t
zero(void *arg)
{
	return 0;
}

static void
timer(void *arg, uint64_t ns)
{
}

static void
nothing(void *arg)
{
}

static uint64_t
host_tsc(struct x86_cpu *self)
{
	return 0;
}

static const struct lapic_ops apic_ops = {
	.now = zero,
	.tsc = zero,
	.set_timer = timer,
	.notify = nothing,
};
static const struct x86_host host = { .tsc = host_tsc };

static void
page_tables(void)
{
	const uint64_t rights = 0x67; /* P W U A D */

	le64_store(ram + 0x1000, 0x2000 | rights);
	le64_store(ram + 0x2000, 0x3000 | rights);
	le64_store(ram + 0x3000 + (ARENA >> 21) * 8, 0x4000 | rights);
	for (unsigned i = 0; i < PAGES; i++) {
		if (i != HOLE)
			le64_store(ram + 0x4000 + i * 8ULL,
			    (ARENA_GPA + i * PAGE) | rights);
	}
}

static void
guest_mode(unsigned cpl)
{
	cpu->cr0 =
	    X86_CR0_PE | X86_CR0_PG | X86_CR0_NE | X86_CR0_ET | X86_CR0_MP;
	cpu->cr3 = 0x1000;
	cpu->cr4 =
	    X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
	cpu->efer = X86_EFER_LME | X86_EFER_LMA;
	cpu->seg[CPU_CS].access = 0xa0fb;
	cpu->xcr0 = components;
	cpu->cpl = (uint8_t)cpl;
	x86_cpu_mode(cpu);
}

/* The handler of native.c is there as soon as there is a stub. */
static void
find_product_handler(void)
{
	static const uint8_t xorps[] = { 0x0f, 0x57, 0xc0 };
	struct x86_insn insn;

	assert_int_equal(x86_decode(xorps, sizeof(xorps), X86_CODE64, &insn),
	    X86_DECODED);
	x86_exec_native(cpu, &insn);
	x86_fpu_put(cpu);
	sigaction(SIGFPE, NULL, &product);
}

static int
setup(void **state)
{
	struct cpuid_table *cpuid = xcalloc(1, sizeof(*cpuid));
	struct msr_params msr = { .vendor = CPUID_AMD };
	static uint8_t signal_stack[64 * KIB];
	stack_t stack = {
		.ss_sp = signal_stack,
		.ss_size = sizeof(signal_stack),
	};
	void *arena;

	__asm__ volatile("fxsave64 %0" : "=m"(real.xsave));
	mxcsr_mask = le32_load(real.xsave + MXCSR_AT + 4);
	cpuid_host(cpuid);
	components = cpuid_xcr0(cpuid) & CPUID_XCR0_ALLOWED;
	cpu = x86_cpu_new(0, cpuid, &msr, true);
	free(cpuid);
	cpu->xcr0_allowed = components;
	cpu->host = &host;
	cpu->mem = &mem;
	cpu->lapic = lapic_new(lapic_bus_new(1), 0, &apic_ops, NULL);
	ram = xcalloc(1, RAM_SIZE);
	mem.ram[0] = (struct x86_ram) {
		.size = RAM_SIZE,
		.host = ram,
		.code = xcalloc(RAM_SIZE / PAGE, 1),
		.dirty = xcalloc(RAM_SIZE / PAGE, 1),
		.writers = xcalloc(RAM_SIZE / PAGE, 4),
	};
	mem.count = 1;
	page_tables();
	guest_mode(3);

	arena = mmap((void *)ARENA, ARENA_SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE,
	    -1, 0);
	assert_ptr_equal(arena, (void *)ARENA);
	assert_int_equal(mprotect((char *)arena + HOLE * PAGE, PAGE, PROT_NONE),
	    0);
	code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(code != MAP_FAILED);
	sigaltstack(&stack, NULL);
	find_product_handler();
	return 0;
}

/* ------------------------------------------------------------------ chance */

static uint64_t seed = 0x9e3779b97f4a7c15ULL;

static uint64_t
random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dULL;
}

static unsigned
below(unsigned n)
{
	return (unsigned)(random64() >> 33) % n;
}

/* Numbers that make units work: every kind of single, double, integer. */
static uint64_t
random_value(void)
{
	static const uint64_t values[] = { 0, 0x3ff0000000000000, /* 1.0 */
		0x8000000000000000, 0x7ff0000000000000, 0xfff0000000000000,
		0x7ff8000000000000, 0x7ff0000000000001, /* quiet, signalling */
		0x0000000000000001, 0x000fffffffffffff, /* denormal */
		0x7fefffffffffffff, 0x0010000000000000, 0x3ca0000000000000,
		0x3f8000003f800000, 0x7f80000000800000, 0x7fc000007f800001,
		0x0000000100000000, 0x80000000007fffff, 0x7f7fffffff7fffff,
		0x4040000040800000, 0x4008000000000000, 0x00000000ffffffff };

	switch (below(4)) {
	case 0:
		return random64();
	case 1: /* singles near 1 */
		return (random64() & 0x83ffffff83ffffff) | 0x3c0000003c000000;
	case 2: /* a double near 1 */
		return (random64() & 0x803fffffffffffff) | 0x3fc0000000000000;
	default:
		return values[below(ARRAY_SIZE(values))];
	}
}

static void
random_fill(void *at, unsigned size)
{
	for (unsigned i = 0; i < size; i += 8) {
		uint64_t value = random_value();

		memcpy((uint8_t *)at + i, &value, 8);
	}
}

/* A standard XSAVE image in which everything may be in use. */
static void
random_image(uint8_t *image, bool exceptions)
{
	static const uint16_t exponents[] = { 0, 0, 1, 0x3fff, 0x3ffe, 0x4000,
		0x4005, 0x7fff, 0x7ffe, 0xbfff, 0xffff, 0x403e, 0x3f00 };
	uint32_t mxcsr = 0x1f80;
	uint16_t fcw = 0x37f, fsw;

	memset(image, 0, CPU_XSAVE_MAX);
	random_fill(image + 576, CPU_XSAVE_MAX - 576);
	random_fill(image + XMM_AT, 256);
	if (below(4) == 0)
		fcw = (uint16_t)((random64() & 0xf00) | 0x7f);
	fsw = (uint16_t)(random64() & (below(2) ? 0x7800 : 0x7f7f));
	if (exceptions && below(8) == 0)
		fcw &= (uint16_t)random64();
	/* Pending ones make everything #MF: not often. */
	if (exceptions && (fsw & ~fcw & 0x3f) && below(8) != 0)
		fsw &= (uint16_t)(fcw | ~0x3fu);
	le16_store(image, fcw);
	le16_store(image + 2, fsw);
	image[4] = (uint8_t)(below(2) ? random64() : 0xff);
	for (unsigned i = 0; i < 8; i++) {
		uint8_t *st = image + ST_AT + 16 * i;
		uint16_t exponent = exponents[below(ARRAY_SIZE(exponents))];
		uint64_t fraction = below(3) ? random64() : 0;

		if ((exponent & 0x7fff) != 0 && below(8) != 0)
			fraction |= BIT(63);
		le64_store(st, fraction);
		le16_store(st + 8, exponent);
	}
	if (below(2) == 0)
		mxcsr |= (uint32_t)random64() & 0xe07f;
	if (exceptions && below(6) == 0)
		mxcsr &= (uint32_t)random64() | ~0x1f80u;
	if (below(8) == 0)
		mxcsr |= (uint32_t)BIT(17) & mxcsr_mask; /* MM */
	le32_store(image + MXCSR_AT, mxcsr);
	le64_store(image + BV_AT,
	    components & (below(8) ? UINT64_MAX : random64()));
}

/* The layout of cpu->xsave, for the test's own hands. */
static uint8_t *
component_at(uint8_t *image, unsigned i)
{
	return image + cpuid_read(&cpu->cpuid, 0xd, i).ebx;
}

static void
set_vector(uint8_t *image, unsigned reg, const uint8_t value[64])
{
	if (reg >= 16) {
		memcpy(component_at(image, 7) + (reg - 16) * 64, value, 64);
		return;
	}
	memcpy(image + XMM_AT + reg * 16, value, 16);
	if (components & X86_XCR0_AVX)
		memcpy(component_at(image, 2) + reg * 16, value + 16, 16);
	if (components & X86_XCR0_AVX512)
		memcpy(component_at(image, 6) + reg * 32, value + 32, 32);
}

/* --------------------------------------------------------------- a trial */

struct trial {
	struct x86_insn insn;
	uint64_t gpr[CPU_GPRS];
	uint64_t rflags;
	uint64_t target; /* around which memory is looked at */
	_Alignas(64) uint8_t image[CPU_XSAVE_MAX];
};

static void
trial_name(const struct trial *t)
{
	char *to = doing;

	to += snprintf(to, 24, "%s:", t->insn.op->name);
	for (unsigned i = 0; i < t->insn.len; i++)
		to += snprintf(to, 8, " %02x", t->insn.bytes[i]);
	snprintf(to, 30, " at %llx", (unsigned long long)t->target);
}

/* What FNSTENV and FNSAVE have stored of FIP, FDP and FOP: zeros for guests. */
static void
clear_pointers(const struct x86_insn *insn, uint8_t *at)
{
	if (insn->op->fpu != X86_FPU_X87 || !insn->has_mem ||
	    (insn->modrm >> 3 & 7) != 6 ||
	    (insn->opcode != 0xd9 && insn->opcode != 0xdd))
		return;
	if (insn->opsize == 2) {
		memset(at + 6, 0, 8);
	} else {
		memset(at + 12, 0, 8);
		memset(at + 20, 0, 6);
	}
}

static void
run_real(const struct trial *t)
{
	static const uint8_t jump[] = { 0xff, 0x25, 0, 0, 0, 0 };
	uint64_t back = (uint64_t)(uintptr_t)native_test_back;

	memcpy(real.gpr, t->gpr, sizeof(real.gpr));
	memcpy(real.xsave, t->image, sizeof(real.xsave));
	real.rflags = t->rflags | 0x202;
	real.code = (uint64_t)(uintptr_t)code;
	real.components = components;
	real.trapped = false;
	memcpy(code, t->insn.bytes, t->insn.len);
	memcpy(code + t->insn.len, jump, sizeof(jump));
	memcpy(code + t->insn.len + sizeof(jump), &back, sizeof(back));
	on_real = true;
	native_test_run();
	on_real = false;
	if (!real.trapped)
		clear_pointers(&t->insn, (uint8_t *)(uintptr_t)t->target);
}

/*
 * False if it raised.  Vectors are put away before anybody else can use their
 * registers, and have been in registers, so that both sides saw the units.
 */
__attribute__((noinline)) static bool
step_guest(const struct x86_insn *insn)
{
	jmp_buf jmp;
	volatile bool raised = false;

	cpu->jmp = &jmp;
	if (_setjmp(jmp) == 0)
		x86_exec_native(cpu, insn);
	else
		raised = true;
	x86_fpu_get(cpu);
	x86_fpu_put(cpu);
	return !raised;
}

static bool
run_guest(const struct trial *t)
{
	memcpy(cpu->gpr, t->gpr, sizeof(cpu->gpr));
	x86_fpu_put(cpu);
	memcpy(cpu->xsave, t->image, sizeof(cpu->xsave));
	cpu->rflags = t->rflags | 2;
	return step_guest(&t->insn);
}

_Noreturn static void
differ(const struct trial *t, const char *what, uint64_t have, uint64_t want)
{
	fail_msg("%s: %s: %llx, not %llx", doing, what,
	    (unsigned long long)have, (unsigned long long)want);
	abort();
}

static void
compare_bytes(const struct trial *t, const char *what, const uint8_t *have,
    const uint8_t *want, unsigned size)
{
	if (memcmp(have, want, size) == 0)
		return;
	for (unsigned i = 0; i < size; i++) {
		if (have[i] != want[i]) {
			print_message("byte %u of ", i);
			differ(t, what, have[i], want[i]);
		}
	}
}

/*
 * Where in the missing page a fault of these is reported is the processor's
 * affair: x87 images go in pieces, masked stores by element or whole.
 */
static bool
cr2_is_vague(const struct x86_insn *insn)
{
	return (insn->op->fpu == X86_FPU_X87 && insn->has_mem &&
		   insn->opnd[0].size > 10) ||
	    (insn->evex_aaa != 0 && insn->has_mem &&
		(insn->opnd[0].rw & X86_W)) ||
	    insn->op->id == X86_OP_MASKMOV;
}

static void
compare_images(const struct trial *t, const uint8_t *have, const uint8_t *want)
{
	static const unsigned extended[] = { 2, 5, 6, 7 };

	compare_bytes(t, "x87 status", have, want, 6);
	compare_bytes(t, "ST", have + ST_AT, want + ST_AT, 128);
	if (le32_load(have + MXCSR_AT) != le32_load(want + MXCSR_AT))
		differ(t, "MXCSR", le32_load(have + MXCSR_AT),
		    le32_load(want + MXCSR_AT));
	compare_bytes(t, "XMM", have + XMM_AT, want + XMM_AT, 256);
	for (unsigned i = 0; i < ARRAY_SIZE(extended); i++) {
		struct cpuid_leaf l = cpuid_read(&cpu->cpuid, 0xd, extended[i]);

		if (components & BIT(extended[i]))
			compare_bytes(t, "an extended register", have + l.ebx,
			    want + l.ebx, l.eax);
	}
}

static void
compare(const struct trial *t, bool done)
{
	if (done == real.trapped)
		differ(t, "exception", done ? 0 : cpu->event.vector,
		    real.trapped ? real.trap : 0);
	if (!done) {
		if (cpu->event.vector != real.trap)
			differ(t, "vector", cpu->event.vector, real.trap);
		if (real.trap == X86_PFV && cpu->event.error != real.error)
			differ(t, "error code", cpu->event.error, real.error);
		if (real.trap == X86_PFV && cpu->event.cr2 != real.cr2 &&
		    !(cr2_is_vague(&t->insn) &&
			(cpu->event.cr2 ^ real.cr2) < PAGE))
			differ(t, "CR2", cpu->event.cr2, real.cr2);
	} else {
		for (unsigned i = 0; i < CPU_GPRS; i++) {
			if (cpu->gpr[i] != real.gpr[i])
				differ(t, cpu_gpr_name(i), cpu->gpr[i],
				    real.gpr[i]);
		}
		if ((cpu->rflags ^ real.rflags) & X86_ARITH)
			differ(t, "flags", cpu->rflags & X86_ARITH,
			    real.rflags & X86_ARITH);
	}
	compare_images(t, cpu->xsave, real.xsave);
}

static void
compare_memory(const struct trial *t)
{
	uint64_t from = t->target - 512, to = t->target + 1024;

	for (uint64_t at = MAX(from, ARENA); at < MIN(to, ARENA + ARENA_SIZE);
	     at = (at | (PAGE - 1)) + 1) {
		unsigned size = (unsigned)(MIN(to, (at | (PAGE - 1)) + 1) - at);

		if ((at - ARENA) / PAGE != HOLE)
			compare_bytes(t, "memory",
			    ram + ARENA_GPA + (at - ARENA), (const uint8_t *)at,
			    size);
	}
}

/* The same random bytes for both around an address. */
static void
fill_memory(uint64_t target)
{
	uint64_t from = (target - 64) & ~7ULL, to = target + 192;

	for (uint64_t at = from; at < to; at += 8) {
		uint64_t value = random_value();

		if (at < ARENA || at >= ARENA + ARENA_SIZE ||
		    (at - ARENA) / PAGE == HOLE)
			continue;
		memcpy((void *)at, &value, 8);
		memcpy(ram + ARENA_GPA + (at - ARENA), &value, 8);
	}
}

/* ------------------------------------------------------ random instructions */

/* Gathers, scatters and masked moves, which chance alone makes too few of. */
static void
random_masked(uint8_t *b)
{
	bool evex = below(2);
	uint8_t *opcode;

	for (unsigned i = 0; i < X86_INSN_MAX; i++)
		b[i] = (uint8_t)random64();
	if (evex) {
		b[0] = 0x62;
		b[1] = (uint8_t)((b[1] & 0xf0) | 2);
		b[2] |= 0x7d;
		b[2] &= 0xfd;
		b[3] &= 0x6f;
		opcode = b + 4;
		*opcode = (uint8_t)((below(2) ? 0x90 : 0xa0) | below(4));
	} else {
		static const uint8_t moves[] = { 0x2c, 0x2d, 0x2e, 0x2f, 0x8c,
			0x8e };

		b[0] = 0xc4;
		b[1] = (uint8_t)((b[1] & 0xe0) | 2);
		b[2] = (uint8_t)((b[2] & 0xfc) | 1);
		opcode = b + 3;
		*opcode = below(2) ? (uint8_t)(0x90 | below(4)) :
				     moves[below(ARRAY_SIZE(moves))];
	}
	opcode[1] = (uint8_t)((opcode[1] & 0xb8) | 4); /* memory, with SIB */
}

/* Bytes of vector instructions of every encoding. */
static void
random_bytes(uint8_t *b)
{
	static const uint8_t prefixes[] = { 0x66, 0x66, 0xf2, 0xf3, 0x67 };
	unsigned at = 0;

	if (below(20) == 0) {
		random_masked(b);
		return;
	}
	for (unsigned i = 0; i < X86_INSN_MAX; i++)
		b[i] = (uint8_t)random64();
	while (below(2) == 0 && at < 2)
		b[at++] = prefixes[below(ARRAY_SIZE(prefixes))];
	if (below(2) == 0)
		b[at++] = (uint8_t)(0x40 | below(16));
	switch (below(12)) {
	case 0:
		b[at] = below(20) ? (uint8_t)(0xd8 | below(8)) : 0x9b;
		break;
	case 1:
	case 2:
		b[at] = 0x0f;
		break;
	case 3:
		b[at] = 0x0f;
		b[at + 1] = below(2) ? 0x38 : 0x3a;
		break;
	case 4:
		b[0] = 0xc5;
		b[1] |= below(2) ? 0x78 : 0;
		break;
	case 5:
		b[0] = 0xc4;
		b[1] = (uint8_t)((b[1] & 0xe0) | (1 + below(3)));
		b[2] |= below(2) ? 0x78 : 0;
		break;
	default:
		b[0] = 0x62;
		b[1] = (uint8_t)((b[1] & 0xf0) | (1 + below(3)));
		b[2] = (b[2] & 0xfc) | 0x04 | (below(4) ? 1 : below(4));
		b[2] |= below(2) ? 0x78 : 0;
		b[3] |= below(4) ? 0x08 : 0;
		b[3] &= below(2) ? 0x6f : 0xff; /* without z and b */
		b[5] &= below(2) ? 0xbf : 0xff; /* rather memory */
		break;
	}
}

static uint64_t
random_target(void)
{
	switch (below(8)) {
	case 0:
	case 1: /* across two pages */
		return ARENA + 2 * PAGE - below(64);
	case 2: /* into the missing page */
		return ARENA + HOLE * PAGE - below(80);
	case 3: /* out of it */
		return ARENA + (HOLE + 1) * PAGE - below(80);
	case 4: /* anywhere */
		return ARENA + PAGE + below(PAGE);
	default: /* aligned */
		return ARENA + PAGE + below(32) * 64ULL;
	}
}

/* Intel's manual has these check alignment; AMD's processors do not. */
static bool
is_sha(const struct x86_insn *insn)
{
	return insn->encoding == X86_LEGACY &&
	    ((insn->map == 2 && insn->opcode >= 0xc8 && insn->opcode <= 0xcd) ||
		(insn->map == 3 && insn->opcode == 0xcc));
}

/* Registers such that the memory operand is at t->target; false: not so. */
static bool
aim(struct trial *t)
{
	const struct x86_insn *insn = &t->insn;
	uint64_t base = t->target - (uint64_t)insn->disp;

	if (insn->op->id == X86_OP_MASKMOV) {
		t->gpr[CPU_RDI] = t->target;
		return true;
	}
	if (!insn->has_mem)
		return true;
	if (insn->op->attrs & X86_A_VSIB) {
		uint8_t index[64];

		if (insn->base >= CPU_GPRS)
			return false;
		for (unsigned i = 0; i < 64; i += 4) {
			bool high = (insn->opcode & 1) && (i & 4);
			int32_t value = (int32_t)below(64) - 32;

			/* Sign extension of the quadword before. */
			if (high)
				value = (int32_t)le32_load(index + i - 4) >> 31;
			le32_store(index + i, (uint32_t)value);
		}
		set_vector(t->image, insn->index, index);
		t->gpr[insn->base] = base;
		return true;
	}
	if (insn->index != X86_NO_REG) {
		t->gpr[insn->index] = below(64);
		base -= t->gpr[insn->index] << insn->scale;
		if (insn->base == insn->index)
			return false;
	}
	if (insn->base >= CPU_GPRS)
		return false;
	t->gpr[insn->base] = base;
	return true;
}

static bool
is_ours(const struct x86_insn *insn)
{
	if (insn->op->cls != X86_C_VECTOR && insn->op->id < X86_OP_VECTOR)
		return false;
	if (insn->pfx & X86_PFX_SEG)
		return false;
	switch (insn->op->id) {
	case X86_OP_VECTOR:
	case X86_OP_WAIT:
	case X86_OP_MASKMOV:
	case X86_OP_VMASKMOV:
	case X86_OP_GATHER:
	case X86_OP_SCATTER:
	case X86_OP_LDMXCSR:
		return true;
	default:
		return false;
	}
}

static bool
random_trial(struct trial *t)
{
	uint8_t bytes[X86_INSN_MAX];

	random_bytes(bytes);
	if (x86_decode(bytes, sizeof(bytes), X86_CODE64, &t->insn) !=
		X86_DECODED ||
	    !is_ours(&t->insn))
		return false;
	for (unsigned i = 0; i < CPU_GPRS; i++)
		t->gpr[i] = below(2) ? random64() : random_value();
	t->rflags = random64() & X86_ARITH;
	t->target = random_target();
	if (is_sha(&t->insn))
		t->target &= ~15ULL;
	random_image(t->image, true);
	if (t->insn.op->id == X86_OP_VMASKMOV ||
	    t->insn.op->id == X86_OP_GATHER) {
		uint8_t mask[64];

		for (unsigned i = 0; i < 64; i++)
			mask[i] = below(2) ? 0xff : 0;
		set_vector(t->image, t->insn.vvvv, mask);
	}
	return aim(t);
}

/*
 * Only one of both raised, and may: half of an operand that is not used (PUNPCKL
 * and kin), and must be misaligned to stick out.
 */
static bool
is_free_to_fault(const struct trial *t, bool done)
{
	if (done == !real.trapped)
		return false;
	return le32_load(t->image + MXCSR_AT) & BIT(17);
}

#define TRIALS 300000u

static void
random_ones_are_as_on_the_processor(void **state)
{
	static struct trial t;
	unsigned by_encoding[3] = { 0 };
	unsigned by_trap[32] = { 0 };
	unsigned by_id[X86_OPS] = { 0 };

	catch_signals();
	for (unsigned i = 0; i < TRIALS; i++) {
		bool done;

		if (!random_trial(&t))
			continue;
		trial_name(&t);
		fill_memory(t.target);
		run_real(&t);
		if (real.trapped && real.trap == X86_UD &&
		    t.insn.op->id != X86_OP_GATHER)
			continue; /* a unit that this processor lacks */
		done = run_guest(&t);
		if (is_free_to_fault(&t, done))
			continue;
		compare(&t, done);
		compare_memory(&t);
		by_encoding[t.insn.encoding]++;
		by_id[t.insn.op->id]++;
		if (real.trapped)
			by_trap[real.trap & 31]++;
	}
	for (unsigned i = 0; i < 32; i++) {
		if (by_trap[i] != 0)
			print_message("exception %u: %u\n", i, by_trap[i]);
	}
	print_message("legacy %u, VEX %u, EVEX %u\n", by_encoding[X86_LEGACY],
	    by_encoding[X86_VEX], by_encoding[X86_EVEX]);
	assert_true(by_encoding[X86_LEGACY] > 1000);
	if (components & X86_XCR0_AVX) {
		assert_true(by_encoding[X86_VEX] > 1000);
		assert_true(by_id[X86_OP_VMASKMOV] > 10);
		assert_true(by_id[X86_OP_GATHER] > 10);
	}
	if (components & X86_XCR0_AVX512) {
		assert_true(by_encoding[X86_EVEX] > 1000);
		assert_true(by_id[X86_OP_SCATTER] > 10);
	}
	assert_true(by_id[X86_OP_MASKMOV] > 10);
	assert_true(by_trap[X86_GP] > 100 && by_trap[X86_PFV] > 100);
	assert_true(by_trap[X86_MF] > 100 && by_trap[X86_XM] > 100);
}

/* ------------------------------------------------------------ state images */

#define IMAGE_AT (ARENA + PAGE)

/* bytes: hexadecimal, the memory operand is [rdi]. */
static void
image_trial(struct trial *t, const char *bytes, uint64_t target, uint64_t rfbm)
{
	uint8_t b[X86_INSN_MAX];
	unsigned n = 0;

	for (char *end; *bytes != '\0'; bytes = *end == ' ' ? end + 1 : end)
		b[n++] = (uint8_t)strtoul(bytes, &end, 16);
	assert_int_equal(x86_decode(b, n, cpu->code, &t->insn), X86_DECODED);
	assert_int_equal(t->insn.len, n);
	for (unsigned i = 0; i < CPU_GPRS; i++)
		t->gpr[i] = random64();
	t->gpr[CPU_RDI] = target;
	t->gpr[CPU_RAX] = (uint32_t)rfbm;
	t->gpr[CPU_RDX] = rfbm >> 32;
	t->rflags = 0;
	t->target = target;
	trial_name(t);
}

static void
put_memory(uint64_t target, const void *bytes, unsigned size)
{
	memcpy((void *)target, bytes, size);
	memcpy(ram + ARENA_GPA + (target - ARENA), bytes, size);
}

static const uint8_t *
guest_memory(uint64_t target)
{
	return ram + ARENA_GPA + (target - ARENA);
}

static void
clear_image_pointers(uint8_t *image)
{
	memset(image + 6, 0, 18);
}

/* All of XSAVE's operand: pointers apart, which are zeros or untouched. */
static void
compare_stored(const struct trial *t)
{
	uint8_t *want = (uint8_t *)IMAGE_AT;
	const uint8_t *have = guest_memory(IMAGE_AT);
	static const uint8_t zeros[18];

	if (memcmp(have + 6, zeros, sizeof(zeros)) == 0)
		clear_image_pointers(want);
	compare_bytes(t, "the image", have, want, 2 * PAGE);
}

static bool
has_feature(enum x86_feature feature)
{
	return cpu->features & BIT(feature);
}

/* Every set of components asked for, out of every kind of state. */
static void
saving_is_as_on_the_processor(void **state)
{
	static const struct {
		const char *bytes;
		enum x86_feature feature;
	} saves[] = {
		{ "48 0f ae 27", X86_F_XSAVE }, /* xsave64 */
		{ "0f ae 27", X86_F_XSAVE },
		{ "48 0f ae 37", X86_F_XSAVEOPT },
		{ "48 0f c7 27", X86_F_XSAVEC },
		{ "48 0f ae 07", X86_F_FXSR }, /* fxsave64 */
		{ "0f ae 07", X86_F_FXSR },
	};
	static struct trial t;
	static uint8_t before[2 * PAGE];

	catch_signals();
	for (unsigned i = 0; i < 256 * ARRAY_SIZE(saves) * 2; i++) {
		unsigned which = i / 512;
		uint64_t target = IMAGE_AT;

		if (!has_feature(saves[which].feature))
			continue;
		/* The pending exception of one trial is nobody's here. */
		random_image(t.image, i & 1);
		for (unsigned b = 0; b < sizeof(before); b += 8)
			le64_store(before + b, random64());
		put_memory(IMAGE_AT, before, sizeof(before));
		if (below(20) == 0)
			target += 8u << below(3);
		image_trial(&t, saves[which].bytes, target,
		    (i >> 1 & 0xff) | random64() << 32);
		run_real(&t);
		compare(&t, run_guest(&t));
		compare_stored(&t);
	}
}

/* What makes an image wrong, now and then. */
static void
spoil(uint8_t *image)
{
	static const uint16_t header[] = { 512, 513, 519, 520, 521, 527, 528,
		535, 536, 544, 575, 26, 27 };

	if (below(2) == 0)
		image[header[below(ARRAY_SIZE(header))]] |=
		    (uint8_t)(1u << below(8));
}

static void
restoring_is_as_on_the_processor(void **state)
{
	static const struct {
		const char *bytes;
		enum x86_feature feature;
	} restores[] = {
		{ "48 0f ae 2f", X86_F_XSAVE }, /* xrstor64 */
		{ "0f ae 2f", X86_F_XSAVE },
		{ "48 0f ae 0f", X86_F_FXSR }, /* fxrstor64 */
		{ "0f ae 0f", X86_F_FXSR },
	};
	static struct trial t;
	static uint8_t image[CPU_XSAVE_MAX];
	unsigned raised = 0, done = 0;

	catch_signals();
	for (unsigned i = 0; i < 512 * ARRAY_SIZE(restores) * 2; i++) {
		unsigned which = i / 1024;
		uint64_t target = IMAGE_AT, bv;

		if (!has_feature(restores[which].feature))
			continue;
		random_image(t.image, false);
		random_image(image, true);
		bv = components & random64();
		le64_store(image + BV_AT, bv);
		if (has_feature(X86_F_XSAVEC) && below(2) == 0)
			le64_store(image + BV_AT + 8,
			    BIT(63) | bv | (components & random64()));
		spoil(image);
		put_memory(IMAGE_AT, image, sizeof(image));
		if (below(20) == 0)
			target += 8u << below(3);
		image_trial(&t, restores[which].bytes, target,
		    (i >> 1 & 0xff) | random64() << 32);
		run_real(&t);
		compare(&t, run_guest(&t));
		raised += real.trapped;
		done += !real.trapped;
	}
	assert_true(raised > 100 && done > 100);
}

static void
only_enabled_components_are_saved(void **state)
{
	static struct trial t;
	static uint8_t before[CPU_XSAVE_MAX], image[CPU_XSAVE_MAX];
	const uint8_t *stored = guest_memory(IMAGE_AT);

	memset(before, 0xcc, sizeof(before));
	memset(before + 512, 0, 64);
	put_memory(IMAGE_AT, before, sizeof(before));
	random_image(t.image, false);
	le64_store(t.image + BV_AT, components);
	image_trial(&t, "48 0f ae 27", IMAGE_AT, UINT64_MAX);
	cpu->xcr0 = 3;
	assert_true(run_guest(&t));
	assert_int_equal(le64_load(stored + BV_AT), 3);
	assert_memory_equal(stored + 576, before + 576, CPU_XSAVE_MAX - 576);
	assert_memory_equal(stored + XMM_AT, t.image + XMM_AT, 256);

	/* Nor is one restored that is not enabled. */
	random_image(image, false);
	le64_store(image + BV_AT, 4);
	put_memory(IMAGE_AT, image, sizeof(image));
	image_trial(&t, "48 0f ae 2f", IMAGE_AT, 3);
	assert_false(run_guest(&t));
	assert_int_equal(cpu->event.vector, X86_GP);
	assert_int_equal(cpu->event.error, 0);
	guest_mode(3);
}

static void
xsave_needs_osxsave_and_no_ts(void **state)
{
	static struct trial t;

	random_image(t.image, false);
	image_trial(&t, "0f ae 27", IMAGE_AT, 3);
	cpu->cr0 |= X86_CR0_TS;
	assert_false(run_guest(&t));
	assert_int_equal(cpu->event.vector, X86_NM);
	cpu->cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	assert_false(run_guest(&t));
	assert_int_equal(cpu->event.vector, X86_UD);
	guest_mode(3);
}

static void
narrow_mode(void)
{
	guest_mode(3);
	cpu->seg[CPU_CS].access = 0xc0fb;
	cpu->seg[CPU_DS] = (struct cpu_segment) {
		.limit = UINT32_MAX,
		.access = 0xc0f3,
	};
	x86_cpu_mode(cpu);
	assert_int_equal(cpu->code, X86_CODE32);
}

/* 32-bit code does not reach registers 8 to 15, and leaves them alone. */
static void
narrow_code_leaves_high_registers(void **state)
{
	static const struct {
		const char *save, *restore;
	} pairs[] = { { "0f ae 07", "0f ae 0f" }, { "0f ae 27", "0f ae 2f" } };
	static struct trial t;
	static uint8_t blank[CPU_XSAVE_MAX], other[CPU_XSAVE_MAX];
	static const uint8_t zeros[64];
	const uint8_t *stored = guest_memory(IMAGE_AT);

	memset(blank, 0xcc, sizeof(blank));
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		put_memory(IMAGE_AT, blank, sizeof(blank));
		put_memory(IMAGE_AT + BV_AT, zeros, sizeof(zeros));
		random_image(t.image, false);
		le64_store(t.image + BV_AT, components);
		narrow_mode();
		image_trial(&t, pairs[i].save, IMAGE_AT, components);
		assert_true(run_guest(&t));
		assert_memory_equal(stored + XMM_AT, t.image + XMM_AT, 128);
		assert_memory_equal(stored + XMM_AT + 128, blank, 128);
		if (i == 1 && (components & X86_XCR0_AVX512)) {
			unsigned low = cpuid_read(&cpu->cpuid, 0xd, 6).ebx;
			unsigned high = cpuid_read(&cpu->cpuid, 0xd, 7).ebx;

			assert_memory_equal(stored + low, t.image + low, 256);
			assert_memory_equal(stored + low + 256, blank, 256);
			assert_memory_equal(stored + high, blank, 1024);
		}

		/* Into another state, all of whose components are in use. */
		random_image(other, false);
		le64_store(other + BV_AT, components);
		memcpy(t.image, other, sizeof(other));
		image_trial(&t, pairs[i].restore, IMAGE_AT, components);
		assert_true(run_guest(&t));
		assert_memory_equal(cpu->xsave + XMM_AT, stored + XMM_AT, 128);
		assert_memory_equal(cpu->xsave + XMM_AT + 128,
		    other + XMM_AT + 128, 128);

		/* Initial values, too, for the lower ones only. */
		if (i == 0)
			continue;
		le64_store(ram + ARENA_GPA + PAGE + BV_AT, 0);
		assert_true(run_guest(&t));
		assert_memory_equal(cpu->xsave + XMM_AT, zeros, 64);
		assert_memory_equal(cpu->xsave + XMM_AT + 128,
		    other + XMM_AT + 128, 128);
	}
	guest_mode(3);
}

/* VZEROALL and VZEROUPPER in 32-bit code: SDM volume 2. */
static void
narrow_code_clears_eight_registers(void **state)
{
	static struct trial t;
	static const uint8_t zeros[128];
	unsigned avx;

	if (!(components & X86_XCR0_AVX))
		skip();
	avx = cpuid_read(&cpu->cpuid, 0xd, 2).ebx;
	narrow_mode();
	for (unsigned all = 0; all < 2; all++) {
		random_image(t.image, false);
		le64_store(t.image + BV_AT, components);
		image_trial(&t, all ? "c5 fc 77" : "c5 f8 77", IMAGE_AT, 0);
		assert_true(run_guest(&t));
		assert_memory_equal(cpu->xsave + XMM_AT,
		    all ? zeros : t.image + XMM_AT, 128);
		assert_memory_equal(cpu->xsave + XMM_AT + 128,
		    t.image + XMM_AT + 128, 128);
		assert_memory_equal(cpu->xsave + avx, zeros, 128);
		assert_memory_equal(cpu->xsave + avx + 128, t.image + avx + 128,
		    128);
	}
	guest_mode(3);
}

/* A page of the operand is missing: nothing is saved, nothing restored. */
static void
images_fault_whole(void **state)
{
	/* XSAVE, XRSTOR; FXSAVE, FXRSTOR, which use no byte after 416 */
	static const char *const bytes[] = { "48 0f ae 27", "48 0f ae 2f",
		"48 0f ae 07", "48 0f ae 0f" };
	static struct trial t;
	uint8_t before[448];

	for (unsigned i = 0; i < ARRAY_SIZE(bytes); i++) {
		uint64_t target = ARENA + HOLE * PAGE - 448;
		uint64_t missing = i < 2 ? target + BV_AT : ARENA + HOLE * PAGE;

		memset(before, 0, sizeof(before));
		put_memory(target, before, sizeof(before));
		random_image(t.image, false);
		le64_store(t.image + BV_AT, components);
		image_trial(&t, bytes[i], target, 7);
		assert_false(run_guest(&t));
		assert_int_equal(cpu->event.vector, X86_PFV);
		assert_int_equal(cpu->event.cr2, missing);
		assert_int_equal(cpu->event.error, i % 2 == 0 ? 6 : 4);
		assert_memory_equal(guest_memory(target), before, 448);
		assert_memory_equal(cpu->xsave + XMM_AT, t.image + XMM_AT, 256);
	}
}

/* What no user program can try: XSAVES and XRSTORS. */
static void
supervisor_forms_round_trip(void **state)
{
	static struct trial t;
	static uint8_t saved[CPU_XSAVE_MAX];

	memset(saved, 0, sizeof(saved));
	put_memory(IMAGE_AT, saved, sizeof(saved));
	random_image(t.image, false);
	le64_store(t.image + BV_AT, components);
	image_trial(&t, "48 0f c7 2f", IMAGE_AT, components); /* xsaves64 */
	assert_false(run_guest(&t));                          /* at CPL 3 */
	assert_int_equal(cpu->event.vector, X86_GP);
	guest_mode(0);
	assert_true(run_guest(&t));
	memcpy(saved, cpu->xsave, sizeof(saved));
	assert_int_equal(le64_load(guest_memory(IMAGE_AT) + BV_AT + 8),
	    BIT(63) | components);

	random_image(t.image, false);
	image_trial(&t, "48 0f c7 1f", IMAGE_AT, components); /* xrstors64 */
	assert_true(run_guest(&t));
	compare_images(&t, cpu->xsave, saved);

	/* Not from a standard image. */
	le64_store(ram + ARENA_GPA + PAGE + BV_AT + 8, 0);
	assert_false(run_guest(&t));
	assert_int_equal(cpu->event.vector, X86_GP);
	guest_mode(3);
}

/* ------------------------------------------------------ exceptions of units */

static void
unmasked_trial(struct trial *t, uint32_t mxcsr, uint64_t a, uint64_t b)
{
	random_image(t->image, false);
	le32_store(t->image + MXCSR_AT, mxcsr);
	le64_store(t->image + BV_AT, components);
	le64_store(t->image + XMM_AT, a);
	le64_store(t->image + XMM_AT + 16, b);
}

static void
simd_exceptions_are_found(void **state)
{
	static const struct {
		const char *bytes;
		uint32_t mxcsr;
		uint64_t a, b; /* xmm0, xmm1 */
	} cases[] = {
		/* divsd xmm0, xmm1: by zero, unmasked and masked */
		{ "f2 0f 5e c1", 0x1d80, 0x3ff0000000000000, 0 },
		{ "f2 0f 5e c1", 0x1f80, 0x3ff0000000000000, 0 },
		/* mulsd: a denormal result, exact; 2^-1022 / 2 */
		{ "f2 0f 59 c1", 0x1780, 0x0010000000000000,
		    0x3fe0000000000000 },
		{ "f2 0f 59 c1", 0x9780, 0x0010000000000000,
		    0x3fe0000000000000 },
		{ "f2 0f 59 c1", 0x1f80, 0x0010000000000000,
		    0x3fe0000000000000 },
		/* addsd: inexact */
		{ "f2 0f 58 c1", 0x0f80, 0x3ff0000000000000,
		    0x3c90000000000000 },
		/* sqrtsd of -1; cvtsd2si rax of a NaN */
		{ "f2 0f 51 c1", 0x1f00, 0, 0xbff0000000000000 },
		{ "f2 48 0f 2d c1", 0x1f00, 0, 0x7ff8000000000000 },
		/* ucomisd: a signalling NaN, flags unchanged */
		{ "66 0f 2e c1", 0x1f00, 0, 0x7ff0000000000001 },
	};
	static struct trial t;

	catch_signals();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		unmasked_trial(&t, cases[i].mxcsr, cases[i].a, cases[i].b);
		image_trial(&t, cases[i].bytes, IMAGE_AT, 0);
		run_real(&t);
		compare(&t, run_guest(&t));
		assert_int_equal(real.trapped, cases[i].mxcsr != 0x1f80);
	}
	cpu->cr4 &= ~(uint64_t)X86_CR4_OSXMMEXCPT;
	unmasked_trial(&t, cases[0].mxcsr, cases[0].a, cases[0].b);
	image_trial(&t, cases[0].bytes, IMAGE_AT, 0);
	assert_false(run_guest(&t));
	assert_int_equal(cpu->event.vector, X86_UD);
	guest_mode(3);
}

/* Without CR0.NE a pending exception is there, and does nothing. */
static void
pending_exceptions_need_ne(void **state)
{
	static struct trial t;

	random_image(t.image, false);
	le64_store(t.image + BV_AT, components);
	le16_store(t.image, 0x37b);      /* division by zero unmasked, */
	le16_store(t.image + 2, 0x8084); /* and pending */
	t.image[4] = 0;
	image_trial(&t, "d9 e8", IMAGE_AT, 0); /* fld1 */
	assert_false(run_guest(&t));
	assert_int_equal(cpu->event.vector, X86_MF);

	cpu->cr0 &= ~(uint64_t)X86_CR0_NE;
	assert_true(run_guest(&t));
	assert_int_equal(le16_load(cpu->xsave), 0x37b);
	assert_int_equal(le16_load(cpu->xsave + 2) & 0xb8bf, 0xb884);
	assert_int_equal(cpu->xsave[4], 0x80);
	assert_int_equal(le64_load(cpu->xsave + ST_AT), BIT(63));
	assert_int_equal(le16_load(cpu->xsave + ST_AT + 8), 0x3fff);

	/* A new control word is the new one; nothing is pending with it. */
	put_memory(IMAGE_AT, "\x7f\x02", 2);
	image_trial(&t, "d9 2f", IMAGE_AT, 0); /* fldcw */
	assert_true(run_guest(&t));
	assert_int_equal(le16_load(cpu->xsave), 0x27f);
	assert_int_equal(le16_load(cpu->xsave + 2) & 0x80ff, 0x04);
	guest_mode(3);
}

static void
wait_is_mf(void **state)
{
	static struct trial t;

	random_image(t.image, false);
	le64_store(t.image + BV_AT, components);
	le16_store(t.image, 0x37b);
	le16_store(t.image + 2, 0x8084);
	image_trial(&t, "9b", IMAGE_AT, 0);
	assert_false(run_guest(&t));
	assert_int_equal(cpu->event.vector, X86_MF);
	image_trial(&t, "db e2", IMAGE_AT, 0); /* fnclex */
	assert_true(run_guest(&t));
	memcpy(t.image, cpu->xsave, sizeof(t.image));
	image_trial(&t, "9b", IMAGE_AT, 0);
	assert_true(run_guest(&t));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_ones_are_as_on_the_processor),
		cmocka_unit_test(saving_is_as_on_the_processor),
		cmocka_unit_test(restoring_is_as_on_the_processor),
		cmocka_unit_test(only_enabled_components_are_saved),
		cmocka_unit_test(xsave_needs_osxsave_and_no_ts),
		cmocka_unit_test(narrow_code_leaves_high_registers),
		cmocka_unit_test(narrow_code_clears_eight_registers),
		cmocka_unit_test(images_fault_whole),
		cmocka_unit_test(supervisor_forms_round_trip),
		cmocka_unit_test(simd_exceptions_are_found),
		cmocka_unit_test(pending_exceptions_need_ne),
		cmocka_unit_test(wait_is_mf),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
