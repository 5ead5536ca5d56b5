/*
 * From block to block: finds or makes the translation of the code at cs:rip,
 * enters it, and does what it asks for when it comes back.
 *
 * Translated code runs from block to block by itself as long as jumps are linked
 * or found in the processor's own table of jumps.  Here is where that ends: an
 * instruction for the interpreter, a jump not seen before, attention.
 *
 * Order        After an instruction that the interpreter ran with a shadow (STI,
 *              MOV SS), the next one is interpreted too: the shadow ends there.
 *              Single stepping, breakpoints, code outside of memory and modes
 *              that are not translated are the interpreter's as a whole.
 */
#include "base/wire.h"
#include "engine/jit/jit_impl.h"
#include "engine/x86/event.h"
#include "engine/x86/interp.h"

#define INTERP_BURST 512u
#define XSAVE_FSW 2u
#define FSW_ES BIT(7)

/* Flat: the whole 4 GiB from 0, expand-up, usable for reads and writes. */
static bool
flat(const struct cpu_segment *seg, uint64_t base)
{
	return seg->base == base && seg->limit == UINT32_MAX &&
	    (seg->access & (X86_SEG_P | X86_SEG_S | CPU_SEG_UNUSABLE)) ==
	    (X86_SEG_P | X86_SEG_S);
}

static bool
flat_data(const struct cpu_segment *seg, uint64_t base)
{
	return flat(seg, base) &&
	    (seg->access & (X86_SEG_CODE | X86_SEG_CE | X86_SEG_RW)) ==
	    X86_SEG_RW;
}

uint32_t
jit_mode(const struct x86_cpu *cpu)
{
	uint32_t mode = JIT_MODE_VALID | cpu->code | (uint32_t)cpu->view << 2;

	if ((cpu->rflags & (X86_TF | X86_RF | X86_VM)) || (cpu->dr7 & 0xff) ||
	    cpu->align_mask != 0)
		return 0;
	if (cpu->code == X86_CODE32) {
		if (!(cpu->cr0 & X86_CR0_PE) || !flat(&cpu->seg[CPU_CS], 0) ||
		    !flat_data(&cpu->seg[CPU_DS], 0) ||
		    !flat_data(&cpu->seg[CPU_ES], 0) ||
		    !flat_data(&cpu->seg[CPU_SS], 0) ||
		    !(cpu->seg[CPU_SS].access & X86_SEG_DB))
			return 0;
		if (flat_data(&cpu->seg[CPU_FS], cpu->seg[CPU_FS].base))
			mode |= JIT_MODE_FS_FLAT;
		if (flat_data(&cpu->seg[CPU_GS], cpu->seg[CPU_GS].base))
			mode |= JIT_MODE_GS_FLAT;
	} else if (cpu->code != X86_CODE64) {
		return 0;
	}
	if (cpu->cpl == 3)
		mode |= JIT_MODE_CPL3;
	if (cpu->cpl == 0)
		mode |= JIT_MODE_RING0;
	if (cpu->cpl == 0 || !(cpu->cr4 & X86_CR4_TSD))
		mode |= JIT_MODE_TSC;
	if (!(cpu->cr0 & (X86_CR0_EM | X86_CR0_TS))) {
		mode |= JIT_MODE_X87;
		if (cpu->cr4 & X86_CR4_OSFXSR)
			mode |= JIT_MODE_SSE;
		if ((cpu->cr4 & X86_CR4_OSXSAVE) && (cpu->xcr0 & 6) == 6)
			mode |= JIT_MODE_AVX;
		if ((cpu->cr4 & X86_CR4_OSXSAVE) && (cpu->xcr0 & 0xe6) == 0xe6)
			mode |= JIT_MODE_AVX512;
	}
	return mode;
}

unsigned
jit_jump_set(uint32_t mode)
{
	if ((mode & JIT_MODE_CODE) != X86_CODE64)
		return 3;
	return (mode & JIT_MODE_VIEW) >> 2; /* 0 to 2 */
}

void
jit_jumps_clear(struct x86_cpu *cpu, unsigned set)
{
	uint64_t *tag = cpu->jumps[set].tag, *to = tag, n = X86_JUMPS;

	if (cpu->jumps_mode[set] == 0)
		return;
	cpu->jumps_mode[set] = 0;
	cpu->jumps_local[set] = false;
	cpu->jumps_pages[set] = 0;
	/* A rip of 0 belongs in entry 0 alone, and 1 does not. */
	__asm__ volatile("rep stosq"
			 : "+D"(to), "+c"(n)
			 : "a"(~0ULL)
			 : "memory");
	tag[0] = ~1ULL;
}

static unsigned
jump_index(uint64_t rip)
{
	uint64_t rotated =
	    rip >> X86_JUMPS_ROTATE | rip << (64 - X86_JUMPS_ROTATE);

	return (unsigned)((rip + rotated) % X86_JUMPS);
}

static uint64_t
jump_page_bit(uint64_t rip)
{
	return BIT((rip / MEM_PAGE_SIZE) % 64);
}

void
jit_jumps_clear_page(struct x86_cpu *cpu, uint64_t lin)
{
	uint64_t page = lin & ~(uint64_t)(MEM_PAGE_SIZE - 1);

	for (unsigned s = 0; s < X86_JUMP_SETS; s++) {
		uint64_t *tag = cpu->jumps[s].tag;

		if (!(cpu->jumps_pages[s] & jump_page_bit(page)))
			continue;
		for (unsigned n = 0; n < X86_JUMPS; n++) {
			if ((~tag[n] & ~(uint64_t)(MEM_PAGE_SIZE - 1)) == page)
				tag[n] = n == 0 ? ~1ULL : ~0ULL;
		}
	}
}

/* Have the table of jumps lead from rip to block. */
static void
jump_learn(struct x86_cpu *cpu, uint32_t mode, const struct jit_block *block)
{
	unsigned set = jit_jump_set(mode);
	struct x86_jumps *jumps = &cpu->jumps[set];
	unsigned i = jump_index(cpu->rip);

	if (cpu->jumps_mode[set] != mode) {
		jit_jumps_clear(cpu, set);
		cpu->jumps_mode[set] = mode;
	}
	if (!x86_code_is_global(cpu, cpu->rip))
		cpu->jumps_local[set] = true;
	cpu->jumps_pages[set] |= jump_page_bit(cpu->rip);
	jumps->tag[i] = ~cpu->rip;
	jumps->host[i] = block->entry;
	jumps->base[i] = cpu->rip & ~0xfffULL;
}

/* The block at cs:rip, made if need be; NULL: the interpreter's turn. */
static struct jit_block *
find_block(struct jit_vcpu *vcpu, uint32_t mode)
{
	struct x86_cpu *cpu = vcpu->cpu;
	struct jit_block *block;
	const uint8_t *page;
	gpa_t gpa;

	if (cpu->code == X86_CODE64 && !x86_canonical(cpu->rip))
		return NULL;
	page = x86_code_page(cpu, cpu->rip, &gpa);
	if (page == NULL)
		return NULL;
	gpa |= cpu->rip & 0xfff;
	block = jit_cache_find(vcpu->jit, gpa, mode);
	if (block != NULL)
		return block;
	x86_fpu_put(cpu);
	return jit_translate(vcpu, page, gpa, mode);
}

/* After interpreted instructions; false: leave with *stop. */
static bool
after_step(const struct jit_vcpu *vcpu, enum x86_step step, enum jit_stop *stop)
{
	switch (step) {
	case X86_STEP_NEXT:
		break;
	case X86_STEP_HALT:
		*stop = JIT_STOP_HALT;
		return false;
	case X86_STEP_TRIPLE_FAULT:
		*stop = JIT_STOP_TRIPLE_FAULT;
		return false;
	}
	if (vcpu->nmi_waits ||
	    (vcpu->intr_waits && x86_interruptible(vcpu->cpu))) {
		*stop = JIT_STOP_ATTENTION;
		return false;
	}
	return true;
}

/* One step by the interpreter; false: leave with *stop. */
static bool
interpret(struct jit_vcpu *vcpu, enum jit_stop *stop)
{
	struct x86_cpu *cpu = vcpu->cpu;
	bool burst = !vcpu->jit->translates && !vcpu->intr_waits;

	return after_step(vcpu,
	    burst ? x86_steps(cpu, INTERP_BURST) : x86_step(cpu), stop);
}

/* ---------------------------------------- called from translated code */

/* What must not have changed for a block to go on after the interpreter. */
struct before {
	uint64_t killed, generation, flushes;
};

static struct before
before_step(const struct jit_vcpu *vcpu)
{
	return (struct before) {
		.killed = vcpu->jit->cache.killed,
		.generation = vcpu->jit->cache.generation,
		.flushes = vcpu->cpu->stat_tlb_flushes,
	};
}

/*
 * An instruction that ends before page offset `next` was interpreted: may the
 * block that it is in go on there?  Then all is ready for that.
 */
static bool
goes_on(struct jit_vcpu *vcpu, const struct before *before, uint32_t next)
{
	struct x86_cpu *cpu = vcpu->cpu;
	uint64_t rip = cpu->code_base + next;
	enum jit_stop stop;

	if (cpu->code != X86_CODE64)
		rip &= UINT32_MAX;
	if (cpu->rip != rip || cpu->sti_shadow || cpu->mov_ss_shadow ||
	    cpu->has_pending ||
	    atomic_load_explicit(&cpu->attention, memory_order_relaxed) != 0 ||
	    !after_step(vcpu, vcpu->step, &stop) ||
	    vcpu->jit->cache.killed != before->killed ||
	    vcpu->jit->cache.generation != before->generation ||
	    cpu->stat_tlb_flushes != before->flushes ||
	    jit_mode(cpu) != cpu->jit_mode)
		return false;
	jit_stubs_resume(cpu);
	return true;
}

/*
 * The block's decoded instruction, copied: when a device is called all blocks may
 * be forgotten.  Not by the C library, which may use vector registers.
 */
static void
copy_insn(struct x86_insn *to, const struct x86_insn *from)
{
	size_t n = sizeof(*to) / sizeof(uint64_t);

	_Static_assert(sizeof(*to) % sizeof(uint64_t) == 0, "whole words");
	__asm__ volatile("rep movsq"
			 : "+D"(to), "+S"(from), "+c"(n)
			 :
			 : "memory");
}

uint32_t
jit_interpret(struct x86_cpu *cpu, const struct x86_insn *decoded, uint32_t off)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);
	struct before before = before_step(vcpu);
	struct x86_insn insn;
	uint32_t next;

	copy_insn(&insn, decoded);
	next = off + insn.len;
	cpu->jit_arg = off;
	jit_stubs_settle(cpu, JIT_EMULATE);
	vcpu->step = x86_step_insn(cpu, &insn);
	return goes_on(vcpu, &before, next) ? JIT_AGAIN : JIT_STEPPED;
}

/* Will the next x87 instruction that waits raise #MF? */
static bool
x87_pending(const struct x86_cpu *cpu)
{
	uint16_t fsw;

	if (cpu->fpu_live)
		__asm__ volatile("fnstsw %0" : "=a"(fsw));
	else
		fsw = le16_load(cpu->xsave + XSAVE_FSW);
	return fsw & FSW_ES;
}

/*
 * A page fault jumps from here to the dispatcher, over translated code: the
 * state is complete.
 */
uint32_t
jit_slow_path(struct x86_cpu *cpu, uint64_t lin, uint32_t what, bool write)
{
	struct jit_vcpu *vcpu = jit_owner(cpu);
	unsigned off = what & 0xfff, len = what >> 12 & 0xf;
	unsigned size = what >> 16;
	struct before before;
	bool canonical, aligned;

	before = before_step(vcpu);
	cpu->jit_arg = off;
	jit_stubs_settle(cpu, JIT_EMULATE);
	/*
	 * The interpreter knows what an address that is not canonical means, and
	 * what comes before a page fault: #GP of misaligned vectors, #MF.
	 */
	canonical = cpu->code != X86_CODE64 ||
	    (x86_canonical(lin) && x86_canonical(lin + size - 1));
	aligned = size <= 8 || (lin & (MIN(size, 64u) - 1)) == 0;
	if (canonical && aligned && !x87_pending(cpu) &&
	    x86_tlb_fill(cpu, lin, size, write)) {
		/*
		 * The page tables may be where code was: then vectors were put
		 * away, and while we waited for the lock even this block may
		 * have been forgotten.
		 */
		if (vcpu->jit->cache.generation != before.generation)
			return JIT_EMULATE;
		jit_stubs_resume(cpu);
		return JIT_AGAIN;
	}
	vcpu->step = x86_step(cpu);
	/* A jump may lead behind itself, but its code does not go on there. */
	return len != 0 && goes_on(vcpu, &before, off + len) ? JIT_DONE :
							       JIT_STEPPED;
}

/* ------------------------------------------------------------ coming back */

/* It leads to no address: as before the jump, for the interpreter to raise. */
static void
take_back_jump(struct x86_cpu *cpu)
{
	uint32_t undo = (uint32_t)cpu->jit_arg;

	cpu->rip = cpu->code_base + JIT_LOOKUP_AT(undo);
	cpu->gpr[CPU_RSP] -= (uint64_t)(int64_t)JIT_LOOKUP_MOVED(undo);
}

/* Translated code has come back: what is left to do? */
enum left {
	LEFT_NOTHING,
	LEFT_INSN, /* the instruction at cs:rip, for the interpreter */
	LEFT_STEP, /* what follows from vcpu->step */
};

static enum left
came_back(struct jit_vcpu *vcpu, enum jit_reason reason, uint32_t mode)
{
	struct jit *jit = vcpu->jit;
	struct x86_cpu *cpu = vcpu->cpu;
	uint64_t generation = jit->cache.generation;
	struct jit_block *to;

	vcpu->stat_exits[reason]++;
	if (reason == JIT_STEPPED) /* its state is newer than the stub's */
		return LEFT_STEP;
	jit_stubs_settle(cpu, reason);
	if (reason == JIT_EMULATE)
		return LEFT_INSN;
	if (reason == JIT_LOOKUP && cpu->code == X86_CODE64 &&
	    !x86_canonical(cpu->rip)) {
		take_back_jump(cpu);
		return LEFT_INSN;
	}
	if (reason == JIT_GOTO || jit->engine.params.soft.no_chain ||
	    atomic_load_explicit(&cpu->attention, memory_order_relaxed) != 0)
		return LEFT_NOTHING;
	to = find_block(vcpu, mode);
	if (to == NULL)
		return LEFT_INSN;
	if (reason == JIT_LINK) {
		x86_fpu_put(cpu);
		jit_cache_link(jit, generation, (uint32_t)cpu->jit_exit, to);
	} else {
		/* Without attention it was a dead block that the table has. */
		jump_learn(cpu, mode, to);
	}
	return LEFT_NOTHING;
}

static enum left
run_translated(struct jit_vcpu *vcpu, uint32_t mode)
{
	struct x86_cpu *cpu = vcpu->cpu;
	struct jit_block *block = find_block(vcpu, mode);
	unsigned set = jit_jump_set(mode);

	if (block == NULL)
		return LEFT_INSN;
	if (cpu->jumps_mode[set] != mode) {
		jit_jumps_clear(cpu, set);
		cpu->jumps_mode[set] = mode;
	}
#ifndef JIT_VECTORS_CLOBBERED /* else enter() does */
	x86_fpu_get(cpu);
#endif
	cpu->jit_mode = mode;
	cpu->code_base = cpu->rip & ~0xfffULL;
	return came_back(vcpu, vcpu->jit->cache.stubs.enter(cpu, block->entry),
	    mode);
}

enum jit_stop
jit_dispatch(struct jit_vcpu *vcpu)
{
	struct x86_cpu *cpu = vcpu->cpu;
	enum jit_stop stop;
	jmp_buf jmp;

	/* A fetch that faults, or a memory access of translated code. */
	if (_setjmp(jmp) != 0 && !x86_deliver_exception(cpu))
		return JIT_STOP_TRIPLE_FAULT;
	cpu->jmp = &jmp;
	while (
	    atomic_load_explicit(&cpu->attention, memory_order_relaxed) == 0) {
		bool shadow = cpu->sti_shadow || cpu->mov_ss_shadow;
		uint32_t mode =
		    vcpu->jit->translates && !shadow ? jit_mode(cpu) : 0;
		enum left left = LEFT_INSN;

		if (mode != 0)
			left = run_translated(vcpu, mode);
		if (left == LEFT_NOTHING)
			continue;
		if (left == LEFT_STEP ? !after_step(vcpu, vcpu->step, &stop) :
					!interpret(vcpu, &stop))
			return stop;
	}
	return JIT_STOP_ATTENTION;
}
