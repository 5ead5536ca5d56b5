/*
 * Far control transfer: JMP, CALL, RET, IRET.
 *
 * Models       Intel SDM volume 2, the pseudo code of these instructions;
 *              volume 3, 5.8 (gates), 7.3 (tasks), 20.2 (virtual-8086 mode).
 * Order        All checks, and all pushes, come before the first change of
 *              a segment register.  What has been pushed below the stack
 *              pointer when a later check fails is nobody's data.
 * NMI          IRET unmasks it even if it then faults (volume 3, 6.7.1).
 */
#include "engine/x86/segment.h"
#include "engine/x86/system_impl.h"

/* What IRET takes from a 32-bit image; the rest is kept (volume 2, IRET). */
#define IRET_BASE (X86_ARITH | X86_TF | X86_DF | X86_NT) /* in every image */
#define IRET_WIDE (X86_RF | X86_AC | X86_ID) /* in those of 32 bits and more */

static void
enter_code(struct x86_cpu *cpu, const struct cpu_segment *cs, uint64_t rip)
{
	cpu->seg[CPU_CS] = *cs;
	cpu->rip = rip;
	x86_cpu_mode(cpu);
}

/* Real and virtual-8086 mode: the limit of CS stays what it is. */
static void
enter_code_real(struct x86_cpu *cpu, uint16_t selector, uint64_t rip)
{
	x86_load_seg_real(cpu, CPU_CS, selector);
	cpu->rip = rip;
	x86_cpu_mode(cpu);
}

/* A code segment that is allowed as far as privilege goes. */
static void
check_code(struct x86_cpu *cpu, const struct x86_desc *d, uint16_t selector)
{
	if (x86_is_code64(cpu, d->access) && (d->access & X86_SEG_DB))
		x86_raise_selector(cpu, X86_GP, selector);
	if (!(d->access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
}

/* The target of JMP and CALL without a gate: CPL stays. */
static struct cpu_segment
direct_code(struct x86_cpu *cpu, struct x86_desc *d, uint16_t selector)
{
	unsigned dpl = X86_SEG_DPL(d->access);

	if (x86_is_conforming(d->access) ?
		dpl > cpu->cpl :
		(selector & 3) > cpu->cpl || dpl != cpu->cpl)
		x86_raise_selector(cpu, X86_GP, selector);
	check_code(cpu, d, selector);
	x86_desc_mark(cpu, d, X86_SEG_ACCESSED);
	return x86_desc_segment(d, (uint16_t)((selector & ~3u) | cpu->cpl));
}

struct gate {
	uint64_t off;
	unsigned size;   /* of what is pushed */
	unsigned params; /* to copy from stack to stack */
	uint16_t selector;
	struct x86_desc code;
};

/* Gates, and TSS descriptors, that CPL and RPL may use. */
static void
check_gate(struct x86_cpu *cpu, const struct x86_desc *d, uint16_t selector)
{
	if (X86_SEG_DPL(d->access) < MAX(cpu->cpl, selector & 3u))
		x86_raise_selector(cpu, X86_GP, selector);
	if (!(d->access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
}

static struct gate
call_gate(struct x86_cpu *cpu, struct x86_desc *d, uint16_t selector)
{
	bool lm = x86_long_mode(cpu);
	struct gate gate;
	uint32_t access;

	if (lm && !x86_desc_rest(cpu, selector, d))
		x86_raise_selector(cpu, X86_GP, selector);
	check_gate(cpu, d, selector);
	gate.selector = x86_gate_selector(d);
	gate.off = x86_gate_off(d);
	gate.size = lm ? 8 : d->access & X86_DT_WIDE ? 4 : 2;
	gate.params = lm ? 0 : (d->low >> 32) & 0x1f;
	if (x86_is_null(gate.selector))
		x86_raise_gp(cpu);
	x86_desc_need(cpu, gate.selector, X86_GP, &gate.code);
	access = gate.code.access;
	if (!x86_is_code(access) || X86_SEG_DPL(access) > cpu->cpl ||
	    (lm && !(access & X86_SEG_L)))
		x86_raise_selector(cpu, X86_GP, gate.selector);
	return gate;
}

/* A far pointer leads to a task: directly, or through a gate. */
static void
far_task(struct x86_cpu *cpu, const struct x86_desc *d, uint16_t selector,
    enum x86_task_cause cause)
{
	check_gate(cpu, d, selector);
	if ((d->access & X86_SEG_TYPE) == X86_DT_TASK)
		selector = x86_gate_selector(d);
	x86_task_switch(cpu, selector, cause, false, 0);
}

enum far_kind { FAR_CODE, FAR_GATE, FAR_TASK };

static enum far_kind
far_kind(struct x86_cpu *cpu, uint16_t selector, struct x86_desc *d)
{
	if (x86_is_null(selector))
		x86_raise_gp(cpu);
	x86_desc_need(cpu, selector, X86_GP, d);
	if (x86_is_code(d->access))
		return FAR_CODE;
	if (d->access & X86_SEG_S)
		x86_raise_selector(cpu, X86_GP, selector);
	switch (d->access & X86_SEG_TYPE) {
	case X86_DT_CALL32:
		return FAR_GATE;
	case X86_DT_CALL16:
		if (!x86_long_mode(cpu))
			return FAR_GATE;
		break;
	case X86_DT_TASK:
	case X86_DT_TSS16:
	case X86_DT_TSS32:
		if (!x86_long_mode(cpu))
			return FAR_TASK;
		break;
	default:
		break;
	}
	x86_raise_selector(cpu, X86_GP, selector);
}

/* ------------------------------------------------------------------ JMP */

void
x86_jmp_far(struct x86_cpu *cpu, uint16_t selector, uint64_t off,
    unsigned opsize)
{
	struct cpu_segment cs;
	struct x86_desc d;
	struct gate gate;

	off &= size_mask(opsize);
	if (!x86_protected(cpu)) {
		x86_check_rip(cpu, &cpu->seg[CPU_CS], off);
		enter_code_real(cpu, selector, off);
		return;
	}
	switch (far_kind(cpu, selector, &d)) {
	case FAR_CODE:
		cs = direct_code(cpu, &d, selector);
		x86_check_rip(cpu, &cs, off);
		enter_code(cpu, &cs, off);
		break;
	case FAR_GATE:
		gate = call_gate(cpu, &d, selector);
		/* The RPL in a gate does not matter. */
		cs = direct_code(cpu, &gate.code, gate.selector & 0xfffc);
		x86_check_rip(cpu, &cs, gate.off);
		enter_code(cpu, &cs, gate.off);
		break;
	case FAR_TASK:
		far_task(cpu, &d, selector, X86_TASK_JMP);
		break;
	}
}

/* ----------------------------------------------------------------- CALL */

static void
push_return(struct x86_cpu *cpu, struct x86_stack *stack, unsigned size)
{
	x86_stack_push(cpu, stack, cpu->seg[CPU_CS].selector, size);
	x86_stack_push(cpu, stack, cpu->rip, size);
}

/* To an inner level: a new stack, with the old one's top on it. */
static void
call_inner(struct x86_cpu *cpu, struct gate *gate)
{
	unsigned cpl = X86_SEG_DPL(gate->code.access);
	struct x86_stack stack = x86_stack_inner(cpu, cpl);
	uint64_t sp = cpu->gpr[CPU_RSP];
	uint64_t mask = size_mask(x86_stack_width(cpu));
	struct cpu_segment cs = x86_desc_segment(&gate->code,
	    (uint16_t)((gate->selector & ~3u) | cpl));

	x86_stack_push(cpu, &stack, cpu->seg[CPU_SS].selector, gate->size);
	x86_stack_push(cpu, &stack, sp, gate->size);
	for (unsigned i = gate->params; i-- > 0;) {
		uint64_t lin = x86_linear(cpu, CPU_SS,
		    (sp + (uint64_t)i * gate->size) & mask, gate->size, false);

		x86_stack_push(cpu, &stack, x86_load(cpu, lin, gate->size),
		    gate->size);
	}
	push_return(cpu, &stack, gate->size);
	x86_check_rip(cpu, &cs, gate->off);
	x86_desc_mark(cpu, &gate->code, X86_SEG_ACCESSED);
	cs.access |= X86_SEG_ACCESSED;
	cpu->cpl = (uint8_t)cpl;
	enter_code(cpu, &cs, gate->off);
	x86_stack_use(cpu, &stack);
}

static void
call_through_gate(struct x86_cpu *cpu, struct x86_desc *d, uint16_t selector)
{
	struct gate gate = call_gate(cpu, d, selector);
	struct x86_stack stack;
	struct cpu_segment cs;

	check_code(cpu, &gate.code, gate.selector);
	if (!x86_is_conforming(gate.code.access) &&
	    X86_SEG_DPL(gate.code.access) < cpu->cpl) {
		call_inner(cpu, &gate);
		return;
	}
	cs = direct_code(cpu, &gate.code, gate.selector & 0xfffc);
	stack = x86_stack_now(cpu);
	push_return(cpu, &stack, gate.size);
	x86_check_rip(cpu, &cs, gate.off);
	enter_code(cpu, &cs, gate.off);
	x86_stack_use(cpu, &stack);
}

void
x86_call_far(struct x86_cpu *cpu, uint16_t selector, uint64_t off,
    unsigned opsize)
{
	struct x86_stack stack = x86_stack_now(cpu);
	struct cpu_segment cs;
	struct x86_desc d;

	off &= size_mask(opsize);
	if (!x86_protected(cpu)) {
		push_return(cpu, &stack, opsize);
		x86_check_rip(cpu, &cpu->seg[CPU_CS], off);
		enter_code_real(cpu, selector, off);
		x86_stack_use(cpu, &stack);
		return;
	}
	switch (far_kind(cpu, selector, &d)) {
	case FAR_CODE:
		cs = direct_code(cpu, &d, selector);
		push_return(cpu, &stack, opsize);
		x86_check_rip(cpu, &cs, off);
		enter_code(cpu, &cs, off);
		x86_stack_use(cpu, &stack);
		break;
	case FAR_GATE:
		call_through_gate(cpu, &d, selector);
		break;
	case FAR_TASK:
		far_task(cpu, &d, selector, X86_TASK_CALL);
		break;
	}
}

/* ------------------------------------------------------------------ RET */

/* The code segment that RET and IRET go back to; its RPL becomes CPL. */
static struct cpu_segment
return_code(struct x86_cpu *cpu, uint16_t selector)
{
	unsigned rpl = selector & 3;
	struct x86_desc d;
	unsigned dpl;

	if (x86_is_null(selector))
		x86_raise_gp(cpu);
	x86_desc_need(cpu, selector, X86_GP, &d);
	dpl = X86_SEG_DPL(d.access);
	if (!x86_is_code(d.access) || rpl < cpu->cpl ||
	    (x86_is_conforming(d.access) ? dpl > rpl : dpl != rpl))
		x86_raise_selector(cpu, X86_GP, selector);
	check_code(cpu, &d, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	return x86_desc_segment(&d, selector);
}

/* And the stack segment. */
static struct cpu_segment
return_stack(struct x86_cpu *cpu, uint16_t selector,
    const struct cpu_segment *cs)
{
	unsigned rpl = cs->selector & 3;
	struct x86_desc d;

	if (x86_is_null(selector)) {
		if (!x86_is_code64(cpu, cs->access) || rpl == 3 ||
		    (selector & 3) != rpl)
			x86_raise_gp(cpu);
		return x86_null_ss(selector, rpl);
	}
	x86_desc_need(cpu, selector, X86_GP, &d);
	if ((selector & 3) != rpl || !x86_is_stack(d.access) ||
	    X86_SEG_DPL(d.access) != rpl)
		x86_raise_selector(cpu, X86_GP, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_SS, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	return x86_desc_segment(&d, selector);
}

/*
 * Take away what the outer level could not have loaded; a null selector loses
 * its RPL, but no base.
 */
static void
drop_inner_segments(struct x86_cpu *cpu)
{
	static const enum cpu_seg segs[] = { CPU_ES, CPU_DS, CPU_FS, CPU_GS };

	for (size_t i = 0; i < ARRAY_SIZE(segs); i++) {
		uint32_t access = cpu->seg[segs[i]].access;
		bool open = x86_is_code(access) && x86_is_conforming(access);

		if (access & CPU_SEG_UNUSABLE)
			cpu->seg[segs[i]].selector = 0;
		else if (!open && X86_SEG_DPL(access) < cpu->cpl)
			x86_null_seg(cpu, segs[i], 0);
	}
}

/*
 * The common end of RET and IRET with a stack: cs and what the stack holds
 * next, rSP and SS, have been popped.
 */
static void
return_to(struct x86_cpu *cpu, const struct cpu_segment *cs, uint64_t rip,
    uint16_t ss_selector, uint64_t sp)
{
	struct cpu_segment ss = return_stack(cpu, ss_selector, cs);
	bool outer = (cs->selector & 3) != cpu->cpl;

	x86_check_rip(cpu, cs, rip);
	cpu->cpl = cs->selector & 3;
	cpu->seg[CPU_SS] = ss;
	enter_code(cpu, cs, rip);
	x86_set_sp(cpu, sp);
	if (outer)
		drop_inner_segments(cpu);
}

static void
release_stack(struct x86_cpu *cpu, unsigned bytes)
{
	x86_set_sp(cpu, cpu->gpr[CPU_RSP] + bytes);
}

void
x86_ret_far(struct x86_cpu *cpu, unsigned opsize, unsigned release)
{
	uint64_t rip = x86_pop(cpu, opsize);
	uint16_t selector = (uint16_t)x86_pop(cpu, opsize);
	struct cpu_segment cs;
	uint64_t sp;

	if (!x86_protected(cpu)) {
		x86_check_rip(cpu, &cpu->seg[CPU_CS], rip);
		release_stack(cpu, release);
		enter_code_real(cpu, selector, rip);
		return;
	}
	cs = return_code(cpu, selector);
	release_stack(cpu, release);
	if ((selector & 3u) == cpu->cpl) {
		x86_check_rip(cpu, &cs, rip);
		enter_code(cpu, &cs, rip);
		return;
	}
	sp = x86_pop(cpu, opsize);
	selector = (uint16_t)x86_pop(cpu, opsize);
	return_to(cpu, &cs, rip, selector, sp + release);
}

/* ----------------------------------------------------------------- IRET */

static void
set_flags(struct x86_cpu *cpu, uint64_t image, uint64_t mask)
{
	cpu->rflags = (cpu->rflags & ~mask) | (image & mask) | X86_FLAGS_FIXED;
}

/* Protected mode, by the privilege of the code that returns. */
static uint64_t
iret_flags(const struct x86_cpu *cpu, unsigned opsize)
{
	uint64_t mask = IRET_BASE;

	if (opsize > 2)
		mask |= IRET_WIDE;
	if (cpu->cpl <= x86_iopl(cpu))
		mask |= X86_IF;
	if (cpu->cpl == 0) {
		mask |= X86_IOPL;
		if (opsize > 2)
			mask |= X86_VIF | X86_VIP;
	}
	return mask;
}

static void
iret_real(struct x86_cpu *cpu, unsigned opsize, uint64_t mask)
{
	uint64_t rip = x86_pop(cpu, opsize);
	uint16_t selector = (uint16_t)x86_pop(cpu, opsize);
	uint64_t image = x86_pop(cpu, opsize);

	if (opsize > 2)
		mask |= IRET_WIDE;
	x86_check_rip(cpu, &cpu->seg[CPU_CS], rip);
	set_flags(cpu, image, mask);
	enter_code_real(cpu, selector, rip);
}

/* SDM volume 3, 20.3: by IOPL, or with the virtual interrupt flag. */
static void
iret_v86(struct x86_cpu *cpu, unsigned opsize)
{
	uint64_t rip, image;
	uint16_t selector;

	if (x86_iopl(cpu) == 3) {
		iret_real(cpu, opsize, IRET_BASE | X86_IF);
		return;
	}
	if (!(cpu->cr4 & X86_CR4_VME) || opsize != 2)
		x86_raise_gp(cpu);
	rip = x86_pop(cpu, 2);
	selector = (uint16_t)x86_pop(cpu, 2);
	image = x86_pop(cpu, 2);
	if ((image & X86_TF) || ((image & X86_IF) && (cpu->rflags & X86_VIP)))
		x86_raise_gp(cpu);
	x86_check_rip(cpu, &cpu->seg[CPU_CS], rip);
	if (image & X86_IF)
		image |= X86_VIF;
	set_flags(cpu, image, IRET_BASE | X86_VIF);
	enter_code_real(cpu, selector, rip);
}

/* Back to the task whose selector is the link of this one. */
static void
iret_task(struct x86_cpu *cpu)
{
	uint16_t link;

	if (x86_long_mode(cpu))
		x86_raise_gp(cpu);
	link = (uint16_t)x86_load_sys(cpu, cpu->seg[CPU_TR].base, 2);
	x86_task_switch(cpu, link, X86_TASK_IRET, false, 0);
}

/* From CPL 0 into virtual-8086 mode. */
static void
iret_to_v86(struct x86_cpu *cpu, uint64_t rip, uint16_t cs, uint64_t image)
{
	static const enum cpu_seg segs[] = { CPU_SS, CPU_ES, CPU_DS, CPU_FS,
		CPU_GS };
	uint64_t sp = x86_pop(cpu, 4);
	uint16_t selector[ARRAY_SIZE(segs)];

	for (size_t i = 0; i < ARRAY_SIZE(segs); i++)
		selector[i] = (uint16_t)x86_pop(cpu, 4);
	if (rip > 0xffff)
		x86_raise_gp(cpu);
	cpu->rflags = (image & X86_FLAGS_ALL) | X86_FLAGS_FIXED;
	cpu->cpl = 3;
	for (size_t i = 0; i < ARRAY_SIZE(segs); i++)
		x86_load_seg_real(cpu, segs[i], selector[i]);
	enter_code_real(cpu, cs, rip);
	/* All of ESP is loaded, whatever the width of the stack. */
	cpu->gpr[CPU_RSP] = (uint32_t)sp;
}

void
x86_iret(struct x86_cpu *cpu, unsigned opsize)
{
	uint64_t rip, image, mask, sp;
	uint16_t selector;
	struct cpu_segment cs;

	cpu->nmi_masked = false;
	if (!(cpu->cr0 & X86_CR0_PE)) {
		iret_real(cpu, opsize, IRET_BASE | X86_IF | X86_IOPL);
		return;
	}
	if (x86_v86(cpu)) {
		iret_v86(cpu, opsize);
		return;
	}
	if (cpu->rflags & X86_NT) {
		iret_task(cpu);
		return;
	}
	rip = x86_pop(cpu, opsize);
	selector = (uint16_t)x86_pop(cpu, opsize);
	image = x86_pop(cpu, opsize);
	if ((image & X86_VM) && cpu->cpl == 0 && !x86_long_mode(cpu)) {
		iret_to_v86(cpu, rip, selector, image);
		return;
	}
	mask = iret_flags(cpu, opsize);
	cs = return_code(cpu, selector);
	/* 64-bit code always has SS and RSP on its stack. */
	if (cpu->code != X86_CODE64 && (selector & 3u) == cpu->cpl) {
		x86_check_rip(cpu, &cs, rip);
		set_flags(cpu, image, mask);
		enter_code(cpu, &cs, rip);
		return;
	}
	sp = x86_pop(cpu, opsize);
	selector = (uint16_t)x86_pop(cpu, opsize);
	return_to(cpu, &cs, rip, selector, sp);
	set_flags(cpu, image, mask);
	x86_cpu_mode(cpu); /* AC */
}
