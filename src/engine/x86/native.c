/*
 * Vector, opmask, MMX and x87 instructions, carried out by the host's units.
 *
 * Models       Intel SDM volume 1: chapter 8 (x87; exceptions: 8.4 to 8.7), 9
 *              (MMX), 11.5 (SIMD exceptions); AMD APM volume 1, 4.2.2
 *              (MXCSR.MM).
 * Method       The guest's registers are the host's (cpu.h, "Vector state").
 *              The instruction is re-encoded so that it works on a few fixed
 *              registers and on a buffer of ours; followed by RET it is a
 *              stub, which native_call() calls.  Memory is read into the
 *              buffer before, and written from it after; what an access can
 *              raise has been raised before the instruction runs.
 *
 *              Where elements are masked, only some bytes of the buffer stand
 *              for memory (native_masked.c).  What an EVEX store has written is
 *              found by storing twice, over different bytes.
 * Stubs        live in a table for each processor, mapped twice: writable, and
 *              executable.  A stub's bytes are its key, so a slot that has
 *              them is right, whatever made it.  After writing one, CPUID
 *              serializes: the manual asks for that where code was written at
 *              another linear address (SDM volume 3, 8.1.3).
 * Exceptions   A waiting x87 or MMX instruction with an unmasked exception
 *              pending is #MF before it runs.  SIMD exceptions are the host's
 *              own: an unmasked one is SIGFPE, whose handler has the stub
 *              return.  Then nothing has changed but the flags of MXCSR, and
 *              that MMX operands have made x87 registers MMX registers.
 * Differences  1. With CR0.NE clear, a pending x87 exception is ignored, as
 *                 with IGNNE# asserted; no IRQ 13 is raised.
 *              2. FNSTENV and FNSAVE store FIP, FDP, FCS, FDS and FOP as
 *                 zeros: what the unit knows are addresses of ours.
 * Compiled     without vector registers, and calls nothing of the C library
 *              while fpu_live.  Where that cannot be had (sanitizers, no
 *              optimization), define X86_VECTORS_CLOBBERED: then the state is
 *              in the host's registers only within native_swap().
 */
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"
#include "base/wire.h"
#include "engine/engine.h"
#include "engine/x86/mmu.h"
#include "engine/x86/native_impl.h"
#include "engine/x86/reencode.h"

/* Unoptimized code calls memset() and memcpy() where nobody wrote them. */
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) ||          \
    defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) || \
    __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#undef X86_VECTORS_CLOBBERED
#define X86_VECTORS_CLOBBERED 1
#endif

#define MXCSR_MM BIT(17)

#define FCW_MASKS 0x3fu
#define FSW_PE 0x20u
#define FSW_ES_B 0x8080u

/* ------------------------------------------------------------ the call out */

/* Registers of a stub: general ones in and out, and where its memory is. */
struct frame {
	uint64_t rax, rcx, rdx; /* fixed registers */
	uint64_t opnd[2];       /* general registers among the operands */
	void *mem;
	uint8_t of;     /* 1 if OF is set */
	uint8_t flags;  /* the others, as LAHF has them */
	uint8_t raised; /* the vector that ended it, or 0 */
};

/* Which host registers stand for frame.opnd and frame.mem. */
static const uint8_t opnd_regs[] = { CPU_RSI, CPU_R8 };

__attribute__((visibility("hidden"))) void native_call(struct frame *f,
    const void *stub);
/* Its RET: where a stub goes on that has raised something. */
__attribute__((visibility("hidden"))) void native_return(void);

__asm__(".text\n"
	".p2align 4\n"
	".hidden native_call\n"
	".globl native_call\n"
	".type native_call, @function\n"
	"native_call:\n"
	".cfi_startproc\n"
	"	push %rbx\n"
	".cfi_adjust_cfa_offset 8\n"
	".cfi_rel_offset %rbx, 0\n"
	"	mov %rdi, %rbx\n"
	"	mov %rsi, %r11\n"
	"	mov 49(%rbx), %ah\n"
	"	sahf\n"
	"	mov 0(%rbx), %rax\n"
	"	mov 8(%rbx), %rcx\n"
	"	mov 16(%rbx), %rdx\n"
	"	mov 24(%rbx), %rsi\n"
	"	mov 32(%rbx), %r8\n"
	"	mov 40(%rbx), %rdi\n"
	"	call *%r11\n"
	"	mov %rax, 0(%rbx)\n"
	"	lahf\n"
	"	seto %al\n"
	"	mov %ax, 48(%rbx)\n"
	"	mov %rcx, 8(%rbx)\n"
	"	mov %rdx, 16(%rbx)\n"
	"	mov %rsi, 24(%rbx)\n"
	"	mov %r8, 32(%rbx)\n"
	"	pop %rbx\n"
	".cfi_adjust_cfa_offset -8\n"
	".cfi_restore %rbx\n"
	".hidden native_return\n"
	".globl native_return\n"
	"native_return:\n"
	"	ret\n"
	".cfi_endproc\n"
	".size native_call, . - native_call\n");
_Static_assert(offsetof(struct frame, rdx) == 16 &&
	offsetof(struct frame, opnd) == 24 &&
	offsetof(struct frame, mem) == 40 && offsetof(struct frame, of) == 48 &&
	offsetof(struct frame, flags) == 49,
    "as native_call() has them");

#ifdef X86_VECTORS_CLOBBERED
/* The same between restoring the guest's state and saving it. */
__attribute__((visibility("hidden"))) void native_swap(struct frame *f,
    const void *stub, void *xsave, uint64_t components);

__asm__(".text\n"
	".p2align 4\n"
	".hidden native_swap\n"
	".globl native_swap\n"
	".type native_swap, @function\n"
	"native_swap:\n"
	".cfi_startproc\n"
	"	push %rbx\n"
	".cfi_adjust_cfa_offset 8\n"
	".cfi_rel_offset %rbx, 0\n"
	"	push %r12\n"
	".cfi_adjust_cfa_offset 8\n"
	".cfi_rel_offset %r12, 0\n"
	"	push $0x1f80\n"
	".cfi_adjust_cfa_offset 8\n"
	"	mov %rdx, %rbx\n"
	"	mov %rcx, %r12\n"
	"	mov %ecx, %eax\n"
	"	mov %rcx, %rdx\n"
	"	shr $32, %rdx\n"
	"	xrstor64 (%rbx)\n"
	"	call native_call\n"
	"	mov %r12d, %eax\n"
	"	mov %r12, %rdx\n"
	"	shr $32, %rdx\n"
	"	xsave64 (%rbx)\n"
	"	fninit\n"
	"	ldmxcsr (%rsp)\n"
	"	test $4, %r12b\n"
	"	jz 1f\n"
	"	vzeroupper\n"
	"1:	pop %rcx\n"
	".cfi_adjust_cfa_offset -8\n"
	"	pop %r12\n"
	".cfi_adjust_cfa_offset -8\n"
	".cfi_restore %r12\n"
	"	pop %rbx\n"
	".cfi_adjust_cfa_offset -8\n"
	".cfi_restore %rbx\n"
	"	ret\n"
	".cfi_endproc\n"
	".size native_swap, . - native_swap\n");
#endif

/* ------------------------------------------------------------------ stubs */

/* An instruction of at most 14 bytes and RET. */
struct stub {
	union {
		uint8_t code[16];
		uint64_t key[2];
	};
};
#define STUBS 4096u /* a processor; a power of 2 */
#define STUBS_SIZE (ENGINE_VCPUS_MAX * STUBS * sizeof(struct stub))
#define RET 0xc3u

/* Constants of the process, made by native_init(). */
static struct {
	pthread_once_t once;
	_Atomic bool ready;
	struct stub *write;
	const struct stub *execute;
	struct sigaction fault_before;
} native = { .once = PTHREAD_ONCE_INIT };

/* SIGFPE: a stub's, which rbx tells the frame of, or not our affair. */
static void
fault_handler(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;

	if ((uintptr_t)regs[REG_RIP] - (uintptr_t)native.execute < STUBS_SIZE) {
		struct frame *f = (struct frame *)(uintptr_t)regs[REG_RBX];

		f->raised = (uint8_t)regs[REG_TRAPNO];
		regs[REG_RIP] = (greg_t)(uintptr_t)native_return;
	} else if (native.fault_before.sa_flags & SA_SIGINFO) {
		native.fault_before.sa_sigaction(signal, info, context);
	} else {
		(void)sigaction(signal, &native.fault_before, NULL);
	}
}

static void *
map_stubs(int fd, int protection)
{
	return mmap(NULL, STUBS_SIZE, protection, MAP_SHARED, fd, 0);
}

static void
native_init(void)
{
	int fd = memfd_create("vector-stubs", MFD_CLOEXEC);
	void *write = MAP_FAILED, *execute = MAP_FAILED;
	struct sigaction fault = {
		.sa_sigaction = fault_handler,
		.sa_flags = SA_SIGINFO,
	};

	if (fd >= 0 && ftruncate(fd, STUBS_SIZE) == 0) {
		write = map_stubs(fd, PROT_READ | PROT_WRITE);
		execute = map_stubs(fd, PROT_READ | PROT_EXEC);
	}
	if (write == MAP_FAILED || execute == MAP_FAILED) {
		/* Nobody could do without; as xcalloc(). */
		log_error("cannot map memory for code: %s", strerror(errno));
		abort();
	}
	close(fd);
	native.write = write;
	native.execute = execute;
	sigemptyset(&fault.sa_mask);
	if (sigaction(SIGFPE, &fault, &native.fault_before) != 0)
		abort(); /* only for a signal that does not exist */
	atomic_store_explicit(&native.ready, true, memory_order_release);
}

static void
native_want(struct x86_cpu *cpu)
{
	/* Pairs with the release in native_init(). */
	if (atomic_load_explicit(&native.ready, memory_order_acquire))
		return;
	x86_fpu_put(cpu);
	pthread_once(&native.once, native_init);
}

static const void *
stub_find(struct x86_cpu *cpu, const struct stub *want)
{
	uint64_t hash = (want->key[0] * 0x9e3779b97f4a7c15ULL ^ want->key[1]) *
	    0xd6e8feb86659fd93ULL;
	size_t slot = cpu->id * STUBS + (hash >> 32) % STUBS;
	struct stub *have;
	uint32_t eax, ebx, ecx, edx;

	assert(cpu->id < ENGINE_VCPUS_MAX);
	native_want(cpu);
	have = &native.write[slot];
	if (have->key[0] != want->key[0] || have->key[1] != want->key[1]) {
		*have = *want;
		__asm__ volatile("" : : : "memory");
		__cpuid(0, eax, ebx, ecx, edx);
	}
	return native.execute[slot].code;
}

static void
run(struct x86_cpu *cpu, struct frame *f, const void *stub)
{
#ifdef X86_VECTORS_CLOBBERED
	x86_fpu_put(cpu);
	native_swap(f, stub, cpu->xsave, cpu->xcr0_allowed);
#else
	x86_fpu_get(cpu);
	native_call(f, stub);
#endif
}

/* Run an instruction of len (to 7) bytes that uses only memory at [rdi]. */
void
native_run_code(struct x86_cpu *cpu, uint64_t code, unsigned len, void *mem)
{
	struct frame f = { .mem = mem };
	struct stub stub = { .key = { code | (uint64_t)RET << 8 * len } };

	run(cpu, &f, stub_find(cpu, &stub));
}

/* ------------------------------------------------------ status of the units */

static uint32_t
mxcsr_get(struct x86_cpu *cpu)
{
#ifdef X86_VECTORS_CLOBBERED
	x86_fpu_put(cpu);
	return le32_load(cpu->xsave + 24);
#else
	uint32_t mxcsr;

	x86_fpu_get(cpu);
	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	return mxcsr;
#endif
}

static void
mxcsr_set(struct x86_cpu *cpu, uint32_t mxcsr)
{
#ifdef X86_VECTORS_CLOBBERED
	x86_fpu_put(cpu);
	le32_store(cpu->xsave + 24, mxcsr);
#else
	x86_fpu_get(cpu);
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
#endif
}

/*
 * x87 exceptions that are signalled and not masked; the status word's ES is the
 * same in one bit.
 */
static unsigned
x87_pending(struct x86_cpu *cpu)
{
	uint16_t fcw, fsw;

#ifdef X86_VECTORS_CLOBBERED
	x86_fpu_put(cpu);
	if (!(le64_load(cpu->xsave + 512) & X86_XCR0_X87))
		return 0;
	fcw = le16_load(cpu->xsave);
	fsw = le16_load(cpu->xsave + 2);
#else
	x86_fpu_get(cpu);
	__asm__ volatile("fnstcw %0; fnstsw %1" : "=m"(fcw), "=m"(fsw));
#endif
	return fsw & ~fcw & FCW_MASKS;
}

/*
 * What an instruction that waits for x87 exceptions meets first: #MF, or if
 * CR0.NE does not let it through, true: run it between the next two.
 */
bool
native_x87_wait(struct x86_cpu *cpu)
{
	if (x87_pending(cpu) == 0)
		return false;
	if (cpu->cr0 & X86_CR0_NE)
		x86_raise(cpu, X86_MF);
	return true;
}

/* Have nothing pending, by masking everything; the control word before. */
uint16_t
native_x87_mask(struct x86_cpu *cpu)
{
	uint16_t fcw;

	x86_fpu_put(cpu);
	fcw = le16_load(cpu->xsave);
	le16_store(cpu->xsave, fcw | FCW_MASKS);
	le16_store(cpu->xsave + 2,
	    le16_load(cpu->xsave + 2) & (uint16_t)~FSW_ES_B);
	return fcw;
}

/* Back to control word fcw, and to what is pending with it. */
void
native_x87_unmask(struct x86_cpu *cpu, uint16_t fcw)
{
	uint16_t fsw;

	x86_fpu_put(cpu);
	le16_store(cpu->xsave, fcw);
	fsw = le16_load(cpu->xsave + 2);
	if (fsw & ~fcw & FCW_MASKS)
		le16_store(cpu->xsave + 2, fsw | FSW_ES_B);
}

/* ---------------------------------------------------------- what it is like */

static unsigned
modrm_reg(const struct x86_insn *insn)
{
	return insn->modrm >> 3 & 7;
}

/* FNSTENV and FNSAVE: their images have pointers. */
static bool
stores_environment(const struct x86_insn *insn)
{
	return insn->op->fpu == X86_FPU_X87 && insn->has_mem &&
	    (insn->opcode == 0xd9 || insn->opcode == 0xdd) &&
	    modrm_reg(insn) == 6;
}

/* FLDCW, FLDENV, FRSTOR */
static bool
loads_control_word(const struct x86_insn *insn)
{
	return insn->op->fpu == X86_FPU_X87 && insn->has_mem &&
	    ((insn->opcode == 0xd9 &&
		 (modrm_reg(insn) == 4 || modrm_reg(insn) == 5)) ||
		(insn->opcode == 0xdd && modrm_reg(insn) == 4));
}

/* Does it look for pending x87 exceptions?  SDM volume 1, 8.3.11 to 8.3.13. */
bool
native_is_waiting(const struct x86_insn *insn)
{
	if (insn->op->fpu == X86_FPU_MMX)
		return true;
	if (insn->op->fpu == X86_FPU_X87) {
		if (insn->has_mem) /* FNSTENV, FNSTCW, FNSAVE, FNSTSW */
			return (insn->opcode != 0xd9 && insn->opcode != 0xdd) ||
			    modrm_reg(insn) < 6 ||
			    (insn->opcode == 0xdd && modrm_reg(insn) == 5);
		if (insn->opcode == 0xdb) /* FNCLEX, FNINIT, FNENI ... */
			return modrm_reg(insn) != 4;
		return insn->opcode != 0xdf || insn->modrm != 0xe0; /* FNSTSW */
	}
	for (unsigned i = 0; i < insn->operands; i++) {
		if (insn->opnd[i].kind == X86_K_MMX)
			return true;
	}
	return false;
}

/* VZEROALL, VZEROUPPER */
static bool
is_vzero(const struct x86_insn *insn)
{
	return insn->encoding == X86_VEX && insn->map == 1 &&
	    insn->opcode == 0x77;
}

/* The one store that signals SIMD exceptions. */
static bool
is_vcvtps2ph(const struct x86_insn *insn)
{
	return insn->encoding == X86_EVEX && insn->map == 3 &&
	    insn->opcode == 0x1d;
}

/*
 * Moves whose only point is to be aligned stay so under MXCSR.MM: MOVAPS,
 * MOVDQA, MOVNT...
 */
static bool
is_aligned_move(const struct x86_insn *insn)
{
	if (insn->encoding != X86_LEGACY)
		return true;
	if (insn->map != 1)
		return insn->map == 2 && insn->opcode == 0x2a;
	switch (insn->opcode) {
	case 0x28:
	case 0x29:
	case 0x2b:
	case 0x6f:
	case 0x7f:
	case 0xe7:
		return true;
	default:
		return false;
	}
}

/* ------------------------------------------------------- one instruction */

/* What is about to run: an instruction in terms of frame and buffer. */
struct job {
	const struct x86_insn *insn;
	struct frame frame;
	const void *stub;
	uint8_t opnd_reg[ARRAY_SIZE(opnd_regs)]; /* guest registers */
	unsigned opnds;
};

static void
job_init(struct x86_cpu *cpu, const struct x86_insn *insn, void *mem,
    struct job *job)
{
	struct x86_regmap map = {
		.base = NATIVE_MEM_REG,
		.index = X86_NO_REG,
	};
	struct stub stub = { .key = { 0 } };
	int len;

	job->insn = insn;
	job->opnds = 0;
	job->frame = (struct frame) {
		.rax = cpu->gpr[CPU_RAX],
		.rcx = cpu->gpr[CPU_RCX],
		.rdx = cpu->gpr[CPU_RDX],
		.mem = mem,
		.flags = (uint8_t)cpu->rflags,
	};
	for (unsigned i = 0; i < insn->operands; i++) {
		const struct x86_operand *opnd = &insn->opnd[i];

		if (opnd->kind != X86_K_GPR || opnd->slot == X86_S_FIXED)
			continue;
		assert(job->opnds < ARRAY_SIZE(opnd_regs));
		map.gpr[opnd->reg] = opnd_regs[job->opnds];
		job->opnd_reg[job->opnds] = opnd->reg;
		job->frame.opnd[job->opnds++] = cpu->gpr[opnd->reg];
	}
	len = x86_reencode(insn, &map, stub.code);
	if (len < 0)
		x86_raise(cpu, X86_UD);
	stub.code[len] = RET;
	job->stub = stub_find(cpu, &stub);
}

/* General registers and flags, after the last thing that can raise. */
static void
job_finish(struct x86_cpu *cpu, const struct job *job)
{
	const struct frame *f = &job->frame;
	uint64_t flags = f->flags | (f->of ? X86_OF : 0);
	uint64_t written = job->insn->op->flags_written;

	cpu->gpr[CPU_RAX] = f->rax;
	cpu->gpr[CPU_RCX] = f->rcx;
	cpu->gpr[CPU_RDX] = f->rdx;
	for (unsigned i = 0; i < job->opnds; i++)
		cpu->gpr[job->opnd_reg[i]] = f->opnd[i];
	cpu->rflags = (cpu->rflags & ~written) | (flags & written);
}

static void
job_run(struct x86_cpu *cpu, struct job *job)
{
	run(cpu, &job->frame, job->stub);
	if (job->frame.raised == X86_XM)
		x86_raise(cpu, cpu->cr4 & X86_CR4_OSXMMEXCPT ? X86_XM : X86_UD);
	if (job->frame.raised == X86_MF && native_x87_wait(cpu)) {
		/* CVTPI2PS from memory: Intel's wait, AMD's do not. */
		uint16_t fcw = native_x87_mask(cpu);

		job->frame.raised = 0;
		run(cpu, &job->frame, job->stub);
		native_x87_unmask(cpu, fcw);
	}
}

/* The largest operand that is not a whole state image: that of FNSAVE. */
#define BUFFER_SIZE 128u

/*
 * What an alignment check asks for: SDM volume 3, table 6-7.  Vectors that are
 * longer need not be aligned to more than 16 bytes.
 */
static unsigned
natural_alignment(const struct x86_insn *insn, unsigned size)
{
	if (insn->op->fpu != X86_FPU_X87 || size <= 8)
		return MIN(size, 16u);
	if (size == 10)
		return 8;
	return insn->opsize == 2 ? 2 : 4; /* environments, state images */
}

/* The same with an opmask. */
static unsigned
masked_alignment(const struct x86_insn *insn, unsigned size)
{
	unsigned element = native_masked_element(insn);

	return element != 0 ? element : natural_alignment(insn, size);
}

static void
check_alignment(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned size)
{
	if (!(insn->op->attrs & X86_A_ALIGN) ||
	    (x86_first_byte(cpu, insn) & (size - 1)) == 0)
		return;
	if (is_aligned_move(insn) || !(mxcsr_get(cpu) & MXCSR_MM))
		x86_raise_gp(cpu);
}

static void
load_operand(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned size,
    uint8_t *buf)
{
	if (insn->encoding == X86_EVEX && insn->evex_aaa != 0) {
		bytes_t bytes = native_bytes_needed(cpu, insn, size);

		if (bytes != 0)
			check_alignment(cpu, insn, size);
		native_load_masked(cpu, insn, masked_alignment(insn, size), buf,
		    bytes);
	} else {
		uint64_t lin;

		check_alignment(cpu, insn, size);
		lin = x86_mem_linear(cpu, insn, size, false);
		x86_check_aligned(cpu, lin, natural_alignment(insn, size));
		x86_load_bytes(cpu, lin, buf, size);
	}
}

/*
 * The instruction has stored into buf, which was zeros.  Storing over ones as
 * well shows which bytes are its own.
 */
static void
finish_masked_store(struct x86_cpu *cpu, struct job *job, const uint8_t *buf,
    unsigned size)
{
	_Alignas(64) uint8_t again[BUFFER_SIZE];
	bytes_t bytes = 0;

	native_fill(again, UINT64_MAX);
	job->frame.mem = again;
	run(cpu, &job->frame, job->stub);
	for (unsigned i = 0; i < size; i++) {
		if (buf[i] == again[i])
			bytes |= BIT(i);
	}
	if (bytes != 0)
		check_alignment(cpu, job->insn, size);
	/* Without suppression all of it has been checked. */
	native_store_masked(cpu, job->insn,
	    MAX(native_masked_element(job->insn), 1u), x86_ea(cpu, job->insn),
	    buf, bytes);
}

/* FIP, FCS, FOP, FDP and FDS: of the 16-bit form, and of the 32-bit one. */
static void
clear_pointers(uint8_t *image, unsigned opsize)
{
	if (opsize == 2) {
		memset(image + 6, 0, 8);
	} else {
		memset(image + 12, 0, 8);
		memset(image + 20, 0, 6);
	}
}

static void
exec_vector(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	const struct x86_operand *mem = native_memory_operand(insn);
	unsigned size = mem != NULL ? mem->size : 0;
	bool loads = mem != NULL && (mem->rw & X86_R);
	bool stores = mem != NULL && (mem->rw & X86_W);
	bool masked = insn->encoding == X86_EVEX && insn->evex_aaa != 0;
	bool waiting = native_is_waiting(insn);
	bool ignore = waiting && native_x87_wait(cpu);
	_Alignas(64) uint8_t buf[BUFFER_SIZE];
	struct job job;
	uint64_t lin = 0;
	uint16_t fcw = 0;

	assert(size <= sizeof(buf));
	native_fill(buf, 0);
	if (loads)
		load_operand(cpu, insn, size, buf);
	if (stores && masked && (insn->op->attrs & X86_A_MASKED)) {
		if (is_vcvtps2ph(insn))
			native_probe_masked(cpu, insn,
			    masked_alignment(insn, size), x86_ea(cpu, insn),
			    native_bytes_needed(cpu, insn, size));
	} else if (stores) {
		check_alignment(cpu, insn, size);
		lin = x86_mem_linear(cpu, insn, size, true);
		x86_check_aligned(cpu, lin, natural_alignment(insn, size));
		x86_probe(cpu, lin, size, true);
	}
	job_init(cpu, insn, buf, &job);
	if (ignore)
		fcw = native_x87_mask(cpu);
	job_run(cpu, &job);
	if (ignore) {
		if (loads_control_word(insn)) {
			x86_fpu_put(cpu);
			fcw = le16_load(cpu->xsave);
		}
		native_x87_unmask(cpu, fcw);
	}

	if (stores && masked) {
		finish_masked_store(cpu, &job, buf, size);
	} else if (stores) {
		/*
		 * An unmasked x87 exception leaves memory as it is, but for
		 * precision: SDM volume 1, 8.5.
		 */
		bool failed = insn->op->fpu == X86_FPU_X87 && waiting &&
		    !ignore && (x87_pending(cpu) & ~FSW_PE);

		if (stores_environment(insn))
			clear_pointers(buf, insn->opsize);
		if (!failed)
			x86_store_bytes(cpu, lin, buf, size);
	}
	job_finish(cpu, &job);
}

static void
exec_ldmxcsr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint32_t mxcsr =
	    (uint32_t)x86_load(cpu, x86_mem_linear(cpu, insn, 4, false), 4);

	if (mxcsr & ~cpu->mxcsr_mask)
		x86_raise_gp(cpu);
	mxcsr_set(cpu, mxcsr);
}

/* --------------------------------------------------------------- dispatch */

void
x86_exec_native(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	x86_fpu_check(cpu, insn->op->fpu);
	switch (insn->op->id) {
	case X86_OP_WAIT:
		(void)native_x87_wait(cpu); /* and nothing else */
		break;
	case X86_OP_MASKMOV:
		native_exec_maskmov(cpu, insn);
		break;
	case X86_OP_VMASKMOV:
		native_exec_vmaskmov(cpu, insn);
		break;
	case X86_OP_GATHER:
		native_exec_gather(cpu, insn);
		break;
	case X86_OP_SCATTER:
		native_exec_scatter(cpu, insn);
		break;
	case X86_OP_FXSAVE:
		native_exec_fxsave(cpu, insn);
		break;
	case X86_OP_FXRSTOR:
		native_exec_fxrstor(cpu, insn);
		break;
	case X86_OP_XSAVE:
	case X86_OP_XSAVEOPT:
	case X86_OP_XSAVEC:
	case X86_OP_XSAVES:
		native_exec_xsave(cpu, insn);
		break;
	case X86_OP_XRSTOR:
	case X86_OP_XRSTORS:
		native_exec_xrstor(cpu, insn);
		break;
	case X86_OP_LDMXCSR:
		exec_ldmxcsr(cpu, insn);
		break;
	default:
		if (is_vzero(insn) && insn->code != X86_CODE64)
			native_exec_vzero(cpu, insn);
		else
			exec_vector(cpu, insn);
		break;
	}
}
