/*
 * Into translated code and out of it: code made once, at the front of the cache.
 *
 *      enter(cpu, code) ──▶ block ──▶ block ──▶ a way out ──▶ returns a reason
 *                             │  ▲
 *                             ▼  │ again
 *                         slow path ──▶ a way out
 *
 * Registers    Guest registers live in the host's of the same name, but for RCX
 *              (in R12), RSP (in R13) and R12 to R15 (in memory); RCX, R14 and
 *              R15 are scratch.  Arithmetic flags are in the host's flags.
 *              The processor's state is at the gs base.
 * Stack        rsp is the host's all the while and 16-byte aligned in a block;
 *              the processor's address is on top of it.
 * Vectors      stay in the host's registers, because all C code below is
 *              compiled without them.  Where a sanitizer instruments that code
 *              (JIT_VECTORS_CLOBBERED) they are put away on every way out and
 *              slow path.
 */
#include <asm/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/jit/jit_impl.h"

#define FLAGS_FOR_HOST 0x202u /* IF and the fixed bit */
#define OP_PUSHFQ 0x9cu
#define OP_POPFQ 0x9du

/* Callee-saved registers, in the order in which enter() pushes them. */
static const uint8_t callee_saved[] = { RBX, RBP, R12, R13, R14, R15 };

void
jit_stubs_adopt(struct jit_vcpu *vcpu)
{
	(void)syscall(SYS_arch_prctl, ARCH_SET_GS, vcpu->cpu); /* cannot fail */
}

void
jit_stubs_settle(struct x86_cpu *cpu, enum jit_reason reason)
{
	cpu->rflags = (cpu->rflags & ~(uint64_t)X86_ARITH) |
	    (cpu->host_flags & X86_ARITH);
	if (reason == JIT_LOOKUP)
		cpu->rip = cpu->jit_exit;
	else
		cpu->rip = cpu->code_base + (uint64_t)(int32_t)cpu->jit_arg;
	if (cpu->code != X86_CODE64)
		cpu->rip &= UINT32_MAX;
}

void
jit_stubs_resume(struct x86_cpu *cpu)
{
	cpu->host_flags = (cpu->rflags & X86_ARITH) | FLAGS_FOR_HOST;
#ifndef JIT_VECTORS_CLOBBERED /* else the stub does */
	x86_fpu_get(cpu);
#endif
}

static uint32_t
slow_load(struct x86_cpu *cpu, uint64_t lin, uint32_t what)
{
	return jit_slow_path(cpu, lin, what, false);
}

static uint32_t
slow_store(struct x86_cpu *cpu, uint64_t lin, uint32_t what)
{
	return jit_slow_path(cpu, lin, what, true);
}

/* ---------------------------------------------------------------- pieces */

static void
emit_push(struct emit *e, unsigned reg)
{
	emit_rex(e, false, 0, 0, reg);
	emit8(e, 0x50 | (reg & 7));
}

static void
emit_pop(struct emit *e, unsigned reg)
{
	emit_rex(e, false, 0, 0, reg);
	emit8(e, 0x58 | (reg & 7));
}

static void
emit_guest_out(struct emit *e)
{
	for (unsigned g = 0; g < CPU_GPRS; g++) {
		if (jit_home(g) != NOREG)
			emit_state(e, true, OP_STORE, jit_home(g),
			    CPU_GPR_AT(g));
	}
	emit8(e, OP_PUSHFQ);
	emit8(e, 0x65); /* pop gs:host_flags */
	emit8(e, 0x8f);
	emit_modrm_mem(e, 0, NOREG, NOREG, 0, (int32_t)CPU_FIELD(host_flags));
}

static void
emit_guest_in(struct emit *e)
{
	emit8(e, 0x65); /* push gs:host_flags */
	emit8(e, 0xff);
	emit_modrm_mem(e, 6, NOREG, NOREG, 0, (int32_t)CPU_FIELD(host_flags));
	emit8(e, OP_POPFQ);
	for (unsigned g = 0; g < CPU_GPRS; g++) {
		if (jit_home(g) != NOREG)
			emit_state(e, true, OP_LOAD, jit_home(g),
			    CPU_GPR_AT(g));
	}
}

/* xsave64 or xrstor64 of gs:xsave, all that the guest may have. */
static void
emit_vectors(struct emit *e, bool out)
{
#ifdef JIT_VECTORS_CLOBBERED
	emit_state(e, false, OP_LOAD, RAX, CPU_FIELD(xcr0_allowed));
	emit_state(e, false, OP_LOAD, RDX, CPU_FIELD(xcr0_allowed) + 4);
	emit8(e, 0x65);
	emit8(e, 0x48);
	emit_op(e, 0x0fae);
	emit_modrm_mem(e, out ? 4 : 5, NOREG, NOREG, 0,
	    (int32_t)CPU_FIELD(xsave));
	if (out) {
		emit8(e, 0xdb); /* fninit */
		emit8(e, 0xe3);
		emit8(e, 0x65); /* ldmxcsr gs:host_mxcsr */
		emit_op(e, 0x0fae);
		emit_modrm_mem(e, 2, NOREG, NOREG, 0,
		    (int32_t)CPU_FIELD(host_mxcsr));
	}
	/* mov byte gs:fpu_live, !out */
	emit8(e, 0x65);
	emit8(e, 0xc6);
	emit_modrm_mem(e, 0, NOREG, NOREG, 0, (int32_t)CPU_FIELD(fpu_live));
	emit8(e, !out);
#endif
}

static void
emit_call_c(struct emit *e, const void *function)
{
	emit8(e, 0x48); /* mov rax, imm64 */
	emit8(e, 0xb8);
	emit64(e, (uint64_t)(uintptr_t)function);
	emit8(e, 0xff); /* call rax */
	emit8(e, 0xd0);
}

static void
emit_rsp_add(struct emit *e, int n)
{
	emit_lea(e, true, RSP, RSP, NOREG, 0, n);
}

/* ------------------------------------------------------------------- stubs */

/* All state is out: give C its registers back, with the reason in eax. */
static const uint8_t *
make_leave(struct emit *e)
{
	const uint8_t *at = emit_here(e);

	emit_pop(e, RDI);
	for (size_t i = ARRAY_SIZE(callee_saved); i-- > 0;)
		emit_pop(e, callee_saved[i]);
	emit8(e, 0xc3);
	return at;
}

/* uint32_t enter(struct x86_cpu *cpu in rdi, const void *code in rsi) */
static const uint8_t *
make_enter(struct emit *e)
{
	const uint8_t *at = emit_here(e);

	for (size_t i = 0; i < ARRAY_SIZE(callee_saved); i++)
		emit_push(e, callee_saved[i]);
	emit_push(e, RDI);
	emit_mov(e, true, T1, RSI);
	/* The flags, cut to what a guest may set in a host. */
	emit_state(e, false, OP_LOAD, RAX, CPU_FIELD(rflags));
	emit8(e, 0x25); /* and eax, imm32 */
	emit32(e, X86_ARITH);
	emit8(e, 0x0d); /* or eax, imm32 */
	emit32(e, FLAGS_FOR_HOST);
	emit_state(e, true, OP_STORE, RAX, CPU_FIELD(host_flags));
	emit_vectors(e, false);
	emit_guest_in(e);
	emit_rex(e, false, 0, 0, T1); /* jmp T1 */
	emit8(e, 0xff);
	emit8(e, 0xe0 | (T1 & 7));
	return at;
}

static const uint8_t *
make_way_out(struct emit *e, const uint8_t *leave, enum jit_reason reason)
{
	const uint8_t *at = emit_here(e);

	emit_state(e, true, OP_STORE, T0, CPU_FIELD(jit_arg));
	emit_state(e, true, OP_STORE, T1, CPU_FIELD(jit_exit));
	emit_guest_out(e);
	emit_vectors(e, true);
	emit_mov_imm32(e, RAX, reason);
	emit_branch(e, OP_JMP, leave);
	return at;
}

/*
 * A function that is called from a block: (cpu, T1, T0).  It says "again", and
 * the stub returns; or "done", and it returns 5 bytes further, behind the jump
 * that tries again; or why to leave.
 */
static const uint8_t *
make_slow(struct emit *e, const uint8_t *leave, const void *function)
{
	const uint8_t *at = emit_here(e);
	uint8_t *out, *again;

	emit_guest_out(e);
	emit_vectors(e, true);
	emit_rm(e, true, OP_LOAD, RDI, RSP, NOREG, 0, 8);
	emit_mov(e, true, RSI, T1);
	emit_mov(e, false, RDX, T0);
	emit_rsp_add(e, -8);
	emit_call_c(e, function);
	emit_rsp_add(e, 8);
	emit_rr(e, false, 0x85, RAX, RAX);        /* test eax, eax */
	again = emit_branch_later(e, OP_JCC | 4); /* je */
	emit8(e, 0x83);                           /* cmp eax, JIT_DONE */
	emit8(e, 0xf8);
	emit8(e, JIT_DONE);
	out = emit_branch_later(e, OP_JCC | 5); /* jne */
	emit8(e, 0x48);                         /* add qword [rsp], 5 */
	emit8(e, 0x83);
	emit_modrm_mem(e, 0, RSP, NOREG, 0, 0);
	emit8(e, 5);
	emit_land32(e, again);
	emit_vectors(e, false);
	emit_guest_in(e);
	emit8(e, 0xc3);
	emit_land32(e, out);
	emit_rsp_add(e, 8);
	emit_branch(e, OP_JMP, leave);
	return at;
}

void
jit_stubs_make(struct jit *jit)
{
	struct jit_cache *cache = &jit->cache;
	struct jit_stubs *stubs = &cache->stubs;
	struct emit e = {
		.p = cache->rw,
		.end = cache->rw + cache->size,
		.rx = cache->rx - cache->rw,
	};
	const uint8_t *leave = make_leave(&e);

	stubs->enter = (uint32_t(*)(struct x86_cpu *, const void *))(
	    uintptr_t)make_enter(&e);
	stubs->attention = make_way_out(&e, leave, JIT_ATTENTION);
	stubs->emulate = make_way_out(&e, leave, JIT_EMULATE);
	stubs->go_to = make_way_out(&e, leave, JIT_GOTO);
	stubs->link = make_way_out(&e, leave, JIT_LINK);
	stubs->lookup = make_way_out(&e, leave, JIT_LOOKUP);
	stubs->load = make_slow(&e, leave, (const void *)slow_load);
	stubs->store = make_slow(&e, leave, (const void *)slow_store);
	stubs->interpret = make_slow(&e, leave, (const void *)jit_interpret);
	cache->stubs_end = round_up((uint64_t)(e.p - cache->rw), 64);
	cache->used = cache->stubs_end;
}
