/*
 * Events: exceptions, interrupts, INT n, on their way to a handler.
 *
 * Models       Intel SDM volume 3, chapter 6 (6.12 stacks and flags, 6.13 error
 *              codes, table 6-5 double faults, 6.14 64-bit mode), 20.1.4 and
 *              20.3 (real and virtual-8086 mode); volume 2, INT n.
 * Nesting      An attempt to deliver changes nothing but memory until nothing
 *              can fail any more; a fault on the way takes the event's place.
 *              A task switch is the exception: its late faults are in the new
 *              task (task.c), and found in cpu->pending.
 * Leaves out   The EXT bit in faults that INT1 meets; RF for interrupts within
 *              repeated strings.
 */
#include "engine/x86/event.h"
#include "engine/x86/segment.h"
#include "engine/x86/system_impl.h"

/* In error codes: not by what a program did; the index is one of the IDT. */
#define ERROR_EXT BIT(0)
#define ERROR_IDT BIT(1)

#define FLAGS_REAL_CLEAR (X86_IF | X86_TF | X86_AC | X86_RF)
#define FLAGS_CLEAR (X86_TF | X86_NT | X86_RF | X86_VM)

#define TSS_IOMAP 0x66u
#define TSS64_IST 0x24u
#define REDIRECTION_BYTES 32u /* before the I/O bitmap, a bit a vector */

enum origin {
	ORIGIN_PROGRAM,   /* INT n: by its gate's DPL, IOPL */
	ORIGIN_INT3,      /* INT3, INTO: by DPL only */
	ORIGIN_EXCEPTION, /* and INT1 */
	ORIGIN_EXTERNAL,
};

struct entry {
	enum origin origin;
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint64_t flags; /* as pushed */
};

static bool
by_program(const struct entry *e)
{
	return e->origin == ORIGIN_PROGRAM || e->origin == ORIGIN_INT3;
}

/* ------------------------------------------- real and virtual-8086 mode */

/* Through a vector table of far pointers; image is what is pushed. */
static void
enter_8086(struct x86_cpu *cpu, uint32_t pointer, uint64_t image)
{
	struct x86_stack stack = x86_stack_now(cpu);

	x86_stack_push(cpu, &stack, image, 2);
	x86_stack_push(cpu, &stack, cpu->seg[CPU_CS].selector, 2);
	x86_stack_push(cpu, &stack, cpu->rip, 2);
	x86_check_rip(cpu, &cpu->seg[CPU_CS], pointer & 0xffff);
	x86_load_seg_real(cpu, CPU_CS, (uint16_t)(pointer >> 16));
	cpu->rip = pointer & 0xffff;
	x86_stack_use(cpu, &stack);
}

static void
enter_real(struct x86_cpu *cpu, const struct entry *e)
{
	unsigned at = e->vector * 4u;

	if (at + 3 > cpu->idtr.limit)
		x86_raise_error(cpu, X86_GP, e->vector * 8u + ERROR_IDT);
	enter_8086(cpu, (uint32_t)x86_load_sys(cpu, cpu->idtr.base + at, 4),
	    e->flags);
	cpu->rflags &= ~(uint64_t)FLAGS_REAL_CLEAR;
	x86_cpu_mode(cpu);
}

/* SDM volume 3, 20.3.3: does INT n stay in the 8086 program? */
static bool
redirected(struct x86_cpu *cpu, uint8_t vector)
{
	const struct cpu_segment *tr = &cpu->seg[CPU_TR];
	uint32_t map;

	if (!(cpu->cr4 & X86_CR4_VME))
		return false;
	if (TSS_IOMAP + 1 > tr->limit)
		x86_raise_gp(cpu);
	map = (uint32_t)x86_load_sys(cpu, x86_sys_lin(cpu, tr->base, TSS_IOMAP),
	    2);
	if (map < REDIRECTION_BYTES || map - 1 > tr->limit)
		x86_raise_gp(cpu);
	map += vector / 8u - REDIRECTION_BYTES;
	return !(x86_load_sys(cpu, x86_sys_lin(cpu, tr->base, map), 1) &
	    BIT(vector % 8));
}

/* INT n in virtual-8086 mode.  False: it goes on to the IDT. */
static bool
enter_v86(struct x86_cpu *cpu, const struct entry *e)
{
	uint64_t image = e->flags;
	bool free = x86_iopl(cpu) == 3;

	if (!redirected(cpu, e->vector)) {
		if (!free)
			x86_raise_gp(cpu);
		return false;
	}
	if (!free) {
		image = (image & ~(uint64_t)X86_IF) | X86_IOPL;
		if (image & X86_VIF)
			image |= X86_IF;
	}
	enter_8086(cpu, (uint32_t)x86_load(cpu, e->vector * 4u, 4), image);
	cpu->rflags &= ~(uint64_t)(X86_TF | (free ? X86_IF : X86_VIF));
	x86_cpu_mode(cpu);
	return true;
}

/* ------------------------------------------------------- protected mode */

/* The gate of a vector, allowed for its origin. */
static struct x86_desc
find_gate(struct x86_cpu *cpu, const struct entry *e)
{
	bool lm = x86_long_mode(cpu);
	unsigned size = lm ? 16 : 8;
	uint32_t error = e->vector * 8u + ERROR_IDT;
	struct x86_desc d = { 0 };

	if (e->vector * size + size - 1 > cpu->idtr.limit)
		x86_raise_error(cpu, X86_GP, error);
	d.lin = x86_sys_lin(cpu, cpu->idtr.base, e->vector * size);
	d.low = x86_load_sys(cpu, d.lin, 8);
	d.access = (uint32_t)(d.low >> 40) & 0xff;
	switch (d.access & (X86_SEG_S | X86_SEG_TYPE)) {
	case X86_DT_INTR32:
	case X86_DT_TRAP32:
		break;
	case X86_DT_TASK:
	case X86_DT_INTR16:
	case X86_DT_TRAP16:
		if (!lm)
			break;
		/* fall through */
	default:
		x86_raise_error(cpu, X86_GP, error);
	}
	if (by_program(e) && X86_SEG_DPL(d.access) < cpu->cpl)
		x86_raise_error(cpu, X86_GP, error);
	if (!(d.access & X86_SEG_P))
		x86_raise_error(cpu, X86_NP, error);
	if (lm)
		d.high = (uint32_t)x86_load_sys(cpu, d.lin + 8, 4);
	return d;
}

/* The handler's code segment.  Its RPL becomes CPL. */
static struct cpu_segment
find_code(struct x86_cpu *cpu, uint16_t selector)
{
	struct x86_desc d;
	unsigned dpl, cpl;

	if (x86_is_null(selector))
		x86_raise_gp(cpu);
	x86_desc_need(cpu, selector, X86_GP, &d);
	dpl = X86_SEG_DPL(d.access);
	if (!x86_is_code(d.access) || dpl > cpu->cpl ||
	    (x86_long_mode(cpu) &&
		(d.access & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L))
		x86_raise_selector(cpu, X86_GP, selector);
	cpl = x86_is_conforming(d.access) ? cpu->cpl : dpl;
	/* Virtual-8086 mode is left for level 0 only. */
	if (x86_v86(cpu) && cpl != 0)
		x86_raise_selector(cpu, X86_GP, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	return x86_desc_segment(&d, (uint16_t)((selector & ~3u) | cpl));
}

/* Long mode always switches by the rules of 6.14.2 to 6.14.5. */
static struct x86_stack
find_stack64(struct x86_cpu *cpu, unsigned ist, unsigned cpl)
{
	struct x86_stack stack;

	if (ist != 0)
		stack = x86_stack_tss64(cpu, TSS64_IST + 8 * (ist - 1), cpl);
	else if (cpl != cpu->cpl)
		stack = x86_stack_inner(cpu, cpl);
	else
		stack = x86_stack_now(cpu);
	stack.width = 8;
	stack.sp &= ~15ULL;
	if (cpl == cpu->cpl)
		stack.ss = cpu->seg[CPU_SS];
	return stack;
}

static void
enter_gate(struct x86_cpu *cpu, const struct entry *e, const struct x86_desc *d)
{
	static const enum cpu_seg v86_segs[] = { CPU_GS, CPU_FS, CPU_DS,
		CPU_ES };
	bool lm = x86_long_mode(cpu), v86 = x86_v86(cpu);
	unsigned size = lm ? 8 : d->access & X86_DT_WIDE ? 4 : 2;
	struct cpu_segment cs = find_code(cpu, x86_gate_selector(d));
	unsigned cpl = cs.selector & 3;
	uint64_t off = x86_gate_off(d);
	struct x86_stack stack;

	if (lm)
		stack = find_stack64(cpu, (d->low >> 32) & 7, cpl);
	else if (cpl != cpu->cpl)
		stack = x86_stack_inner(cpu, cpl);
	else
		stack = x86_stack_now(cpu);
	x86_check_rip(cpu, &cs, off);
	for (size_t i = 0; v86 && i < ARRAY_SIZE(v86_segs); i++)
		x86_stack_push(cpu, &stack, cpu->seg[v86_segs[i]].selector,
		    size);
	if (lm || cpl != cpu->cpl) {
		x86_stack_push(cpu, &stack, cpu->seg[CPU_SS].selector, size);
		x86_stack_push(cpu, &stack, cpu->gpr[CPU_RSP], size);
	}
	x86_stack_push(cpu, &stack, e->flags, size);
	x86_stack_push(cpu, &stack, cpu->seg[CPU_CS].selector, size);
	x86_stack_push(cpu, &stack, cpu->rip, size);
	if (e->has_error)
		x86_stack_push(cpu, &stack, e->error, size);

	for (size_t i = 0; v86 && i < ARRAY_SIZE(v86_segs); i++)
		x86_null_seg(cpu, v86_segs[i], 0);
	cpu->seg[CPU_CS] = cs;
	cpu->cpl = (uint8_t)cpl;
	cpu->rip = off;
	x86_stack_use(cpu, &stack);
	cpu->rflags &= ~(uint64_t)FLAGS_CLEAR;
	if (!(d->access & 1)) /* an interrupt gate, not a trap gate */
		cpu->rflags &= ~(uint64_t)X86_IF;
	x86_cpu_mode(cpu);
}

static void
enter(struct x86_cpu *cpu, const struct entry *e)
{
	struct x86_desc d;

	if (!(cpu->cr0 & X86_CR0_PE)) {
		enter_real(cpu, e);
		return;
	}
	if (x86_v86(cpu) && e->origin == ORIGIN_PROGRAM && enter_v86(cpu, e))
		return;
	d = find_gate(cpu, e);
	if ((d.access & X86_SEG_TYPE) != X86_DT_TASK) {
		enter_gate(cpu, e, &d);
		return;
	}
	cpu->rflags = e->flags;
	x86_task_switch(cpu, x86_gate_selector(&d), X86_TASK_GATE, e->has_error,
	    e->error);
}

void
x86_soft_interrupt(struct x86_cpu *cpu, uint8_t vector, bool int3)
{
	struct entry e = {
		.origin = int3 ? ORIGIN_INT3 : ORIGIN_PROGRAM,
		.vector = vector,
		.flags = cpu->rflags,
	};

	if (int3 && vector == X86_DB) /* INT1 asks for no DPL */
		e.origin = ORIGIN_EXCEPTION;
	enter(cpu, &e);
	if (e.origin == ORIGIN_EXCEPTION)
		cpu->dr7 &= ~(uint64_t)X86_DR7_GD;
}

/* ------------------------------------------------------------- delivery */

/* One attempt.  False: cpu->event came in the way. */
static bool
attempt(struct x86_cpu *cpu, const struct entry *e)
{
	const uint64_t rflags = cpu->rflags;
	jmp_buf here, *const outer = cpu->jmp;

	cpu->jmp = &here;
	if (_setjmp(here) != 0) {
		cpu->jmp = outer;
		cpu->rflags = rflags; /* a task gate had a copy made */
		return false;
	}
	enter(cpu, e);
	cpu->jmp = outer;
	return true;
}

/* A new task that cannot be entered: that, too, is in the way. */
static bool
task_failed(struct x86_cpu *cpu)
{
	if (!cpu->has_pending || cpu->pending.vector == X86_DB)
		return false;
	cpu->event = cpu->pending;
	cpu->has_pending = false;
	return true;
}

static bool
contributory(uint8_t vector)
{
	return vector == X86_DE || (vector >= X86_TS && vector <= X86_GP);
}

/* SDM volume 3, table 6-5: are both a double fault? */
static bool
double_fault(uint8_t first, uint8_t second)
{
	if (contributory(first))
		return contributory(second);
	return first == X86_PFV && (contributory(second) || second == X86_PFV);
}

/* Faults return to their instruction, and must not break there again. */
static bool
is_fault(uint8_t vector)
{
	switch (vector) {
	case X86_DB:
	case X86_NMI:
	case X86_BP:
	case X86_OFV:
	case X86_DFV:
	case X86_MC:
		return false;
	default:
		return true;
	}
}

/* What stands in cpu->event becomes the event to deliver. */
static struct entry
exception(struct x86_cpu *cpu)
{
	const struct x86_event *event = &cpu->event;

	if (event->vector == X86_PFV)
		cpu->cr2 = event->cr2;
	return (struct entry) {
		.origin = ORIGIN_EXCEPTION,
		.vector = event->vector,
		.has_error = event->has_error,
		.error = event->error,
		.flags = cpu->rflags | (is_fault(event->vector) ? X86_RF : 0),
	};
}

static bool
deliver(struct x86_cpu *cpu, struct entry e)
{
	const bool pending = cpu->has_pending; /* of another one */

	while (!attempt(cpu, &e) || (!pending && task_failed(cpu))) {
		bool first_is_exception = e.origin == ORIGIN_EXCEPTION;
		uint8_t first = e.vector;

		e = exception(cpu);
		if (e.vector >= X86_TS && e.vector <= X86_GP)
			e.error |= ERROR_EXT;
		if (!first_is_exception)
			continue;
		if (first == X86_DFV &&
		    (contributory(e.vector) || e.vector == X86_PFV))
			return false;
		if (double_fault(first, e.vector))
			e = (struct entry) {
				.origin = ORIGIN_EXCEPTION,
				.vector = X86_DFV,
				.has_error = true,
				.flags = cpu->rflags,
			};
	}
	if (e.origin == ORIGIN_EXCEPTION && e.vector == X86_DB)
		cpu->dr7 &= ~(uint64_t)X86_DR7_GD;
	cpu->sti_shadow = cpu->mov_ss_shadow = false;
	cpu->halted = false;
	return true;
}

bool
x86_deliver_exception(struct x86_cpu *cpu)
{
	return deliver(cpu, exception(cpu));
}

bool
x86_deliver_interrupt(struct x86_cpu *cpu, uint8_t vector)
{
	const struct entry e = {
		.origin = ORIGIN_EXTERNAL,
		.vector = vector,
		.flags = cpu->rflags,
	};

	if (vector == X86_NMI)
		cpu->nmi_masked = true;
	return deliver(cpu, e);
}
