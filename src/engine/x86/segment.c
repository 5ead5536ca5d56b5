/*
 * Segments: linear addresses, descriptors, segment registers, stacks.
 *
 * Models       Intel SDM volume 3, chapters 3 and 5; the order of checks is
 *              that of MOV, PUSH and CALL in volume 2.
 * Differences  A null selector clears the base on Intel and leaves it on AMD.
 *              The accessed bit is set by an ordinary store: who shares a table
 *              among processors shares its accessed bits, too.
 * Invariants   1. The DPL of SS is CPL, even of a null SS: a saved state finds
 *                 CPL there.
 *              2. Real mode keeps limits, so that "unreal" mode works, and
 *                 makes every segment writable data; virtual-8086 mode has
 *                 64 KiB and DPL 3.
 */
#include "engine/x86/segment.h"
#include "engine/x86/system_impl.h"

#define ACCESS_REAL 0x93u /* present, data, writable, accessed */
#define ACCESS_V86 0xf3u  /* the same with DPL 3 */

/* ------------------------------------------------------------ addresses */

/* Do [off, off + size) lie within the limit?  off has at most 32 bits. */
static bool
within_limit(const struct cpu_segment *s, uint64_t off, unsigned size)
{
	uint64_t last = off + size - 1;
	bool down = !(s->access & X86_SEG_CODE) && (s->access & X86_SEG_CE);

	if (!down)
		return last <= s->limit;
	return off > s->limit &&
	    last <= (s->access & X86_SEG_DB ? UINT32_MAX : 0xffffu);
}

static bool
may_access(const struct cpu_segment *s, bool write)
{
	if (s->access & CPU_SEG_UNUSABLE)
		return false;
	if (write)
		return !(s->access & X86_SEG_CODE) && (s->access & X86_SEG_RW);
	return !(s->access & X86_SEG_CODE) || (s->access & X86_SEG_RW);
}

uint64_t
x86_linear(struct x86_cpu *cpu, enum cpu_seg seg, uint64_t off, unsigned size,
    bool write)
{
	const struct cpu_segment *s = &cpu->seg[seg];

	size = MAX(size, 1u);
	if (cpu->code == X86_CODE64) {
		uint64_t lin = off;

		if (seg == CPU_FS || seg == CPU_GS)
			lin += s->base;
		if (x86_canonical(lin) && x86_canonical(lin + size - 1))
			return lin;
	} else if ((!x86_protected(cpu) || may_access(s, write)) &&
	    within_limit(s, off, size)) {
		return (uint32_t)(s->base + off);
	}
	x86_raise_error(cpu, seg == CPU_SS ? X86_SS : X86_GP, 0);
}

void
x86_check_rip(struct x86_cpu *cpu, const struct cpu_segment *cs, uint64_t rip)
{
	if (x86_is_code64(cpu, cs->access) ? !x86_canonical(rip) :
					     rip > cs->limit)
		x86_raise_gp(cpu);
}

/* ---------------------------------------------------------- descriptors */

bool
x86_desc_find(struct x86_cpu *cpu, uint16_t selector, struct x86_desc *d)
{
	const struct cpu_segment *ldt = &cpu->seg[CPU_LDTR];
	bool local = selector & 4;
	uint64_t base = local ? ldt->base : cpu->gdtr.base;
	uint32_t limit = local ? ldt->limit : cpu->gdtr.limit;

	if ((local && (ldt->access & CPU_SEG_UNUSABLE)) ||
	    (selector | 7u) > limit)
		return false;
	d->lin = x86_sys_lin(cpu, base, selector & 0xfff8u);
	d->low = x86_load_sys(cpu, d->lin, 8);
	d->high = 0;
	d->access = (uint32_t)(d->low >> 40) & 0xf0ff;
	return true;
}

void
x86_desc_need(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector,
    struct x86_desc *d)
{
	if (!x86_desc_find(cpu, selector, d))
		x86_raise_selector(cpu, vector, selector);
}

bool
x86_desc_rest(struct x86_cpu *cpu, uint16_t selector, struct x86_desc *d)
{
	uint32_t limit =
	    selector & 4 ? cpu->seg[CPU_LDTR].limit : cpu->gdtr.limit;
	uint64_t rest;

	if ((uint64_t)(selector | 7u) + 8 > limit)
		return false;
	rest = x86_load_sys(cpu, d->lin + 8, 8);
	d->high = (uint32_t)rest;
	/* Bits 44-40 must be 0, so that the rest alone is no descriptor. */
	return ((rest >> 40) & 0x1f) == 0;
}

void
x86_desc_mark(struct x86_cpu *cpu, struct x86_desc *d, uint32_t bits)
{
	if ((d->access & bits) == bits)
		return;
	d->access |= bits;
	x86_store_sys(cpu, d->lin + X86_DESC_ACCESS, 1, d->access & 0xff);
}

struct cpu_segment
x86_desc_segment(const struct x86_desc *d, uint16_t selector)
{
	uint32_t limit =
	    (uint32_t)((d->low & 0xffff) | ((d->low >> 32) & 0xf0000));
	uint64_t base = ((d->low >> 16) & 0xffffff) | (d->low >> 56) << 24;

	if (d->access & X86_SEG_G)
		limit = limit << 12 | 0xfff;
	return (struct cpu_segment) {
		.base = base | (uint64_t)d->high << 32,
		.limit = limit,
		.access = d->access,
		.selector = selector,
	};
}

/* ---------------------------------------------------- segment registers */

void
x86_load_seg_real(struct x86_cpu *cpu, enum cpu_seg seg, uint16_t selector)
{
	struct cpu_segment *s = &cpu->seg[seg];

	s->selector = selector;
	s->base = (uint64_t)selector << 4;
	if (x86_v86(cpu)) {
		s->limit = 0xffff;
		s->access = ACCESS_V86;
		return;
	}
	if (s->access & CPU_SEG_UNUSABLE) {
		s->limit = 0xffff;
		s->access = 0;
	}
	s->access = (s->access & 0xf000) | ACCESS_REAL;
}

void
x86_null_seg(struct x86_cpu *cpu, enum cpu_seg seg, uint16_t selector)
{
	struct cpu_segment *s = &cpu->seg[seg];

	s->selector = selector;
	s->access = CPU_SEG_UNUSABLE;
	if (cpu->msr.vendor == CPUID_INTEL) {
		s->base = 0;
		s->limit = 0;
	}
}

struct cpu_segment
x86_null_ss(uint16_t selector, unsigned cpl)
{
	return (struct cpu_segment) {
		.limit = UINT32_MAX,
		.access = (uint32_t)CPU_SEG_UNUSABLE | cpl << 5,
		.selector = selector,
	};
}

static void
load_ss(struct x86_cpu *cpu, uint16_t selector)
{
	struct x86_desc d;
	unsigned rpl = selector & 3;

	if (x86_is_null(selector)) {
		if (cpu->code != X86_CODE64 || cpu->cpl == 3 || rpl != cpu->cpl)
			x86_raise_gp(cpu);
		cpu->seg[CPU_SS] = x86_null_ss(selector, cpu->cpl);
		return;
	}
	x86_desc_need(cpu, selector, X86_GP, &d);
	if (rpl != cpu->cpl || !x86_is_stack(d.access) ||
	    X86_SEG_DPL(d.access) != cpu->cpl)
		x86_raise_selector(cpu, X86_GP, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_SS, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	cpu->seg[CPU_SS] = x86_desc_segment(&d, selector);
}

static void
load_data(struct x86_cpu *cpu, enum cpu_seg seg, uint16_t selector)
{
	struct x86_desc d;
	bool open; /* to every privilege level */

	if (x86_is_null(selector)) {
		x86_null_seg(cpu, seg, selector);
		return;
	}
	x86_desc_need(cpu, selector, X86_GP, &d);
	if (!(d.access & X86_SEG_S) ||
	    (x86_is_code(d.access) && !(d.access & X86_SEG_RW)))
		x86_raise_selector(cpu, X86_GP, selector);
	open = x86_is_code(d.access) && x86_is_conforming(d.access);
	if (!open && MAX(cpu->cpl, selector & 3u) > X86_SEG_DPL(d.access))
		x86_raise_selector(cpu, X86_GP, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	cpu->seg[seg] = x86_desc_segment(&d, selector);
}

void
x86_load_seg(struct x86_cpu *cpu, enum cpu_seg seg, uint16_t selector)
{
	if (!x86_protected(cpu))
		x86_load_seg_real(cpu, seg, selector);
	else if (seg == CPU_SS)
		load_ss(cpu, selector);
	else
		load_data(cpu, seg, selector);
}

/* LLDT, and the LDT of a task: what is wrong with it raises `vector`. */
void
x86_load_ldt(struct x86_cpu *cpu, uint16_t selector, enum x86_vector vector)
{
	struct cpu_segment ldt;
	struct x86_desc d;

	if (x86_is_null(selector)) {
		cpu->seg[CPU_LDTR] = (struct cpu_segment) {
			.access = CPU_SEG_UNUSABLE,
			.selector = selector,
		};
		return;
	}
	if (selector & 4)
		x86_raise_selector(cpu, vector, selector);
	x86_desc_need(cpu, selector, vector, &d);
	if ((d.access & (X86_SEG_S | X86_SEG_TYPE)) != X86_DT_LDT)
		x86_raise_selector(cpu, vector, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, vector == X86_TS ? X86_TS : X86_NP,
		    selector);
	if (x86_long_mode(cpu) && !x86_desc_rest(cpu, selector, &d))
		x86_raise_selector(cpu, vector, selector);
	ldt = x86_desc_segment(&d, selector);
	if (x86_long_mode(cpu) && !x86_canonical(ldt.base))
		x86_raise_selector(cpu, vector, selector);
	cpu->seg[CPU_LDTR] = ldt;
}

/* --------------------------------------------------------------- stacks */

unsigned
x86_stack_width(const struct x86_cpu *cpu)
{
	if (cpu->code == X86_CODE64)
		return 8;
	return cpu->seg[CPU_SS].access & X86_SEG_DB ? 4 : 2;
}

void
x86_set_sp(struct x86_cpu *cpu, uint64_t sp)
{
	x86_set_gpr(cpu, CPU_RSP, x86_stack_width(cpu), sp);
}

void
x86_push(struct x86_cpu *cpu, uint64_t value, unsigned size)
{
	uint64_t mask = size_mask(x86_stack_width(cpu));
	uint64_t sp = (cpu->gpr[CPU_RSP] - size) & mask;

	x86_store(cpu, x86_linear(cpu, CPU_SS, sp, size, true), size, value);
	x86_set_sp(cpu, sp);
}

uint64_t
x86_pop(struct x86_cpu *cpu, unsigned size)
{
	uint64_t sp = cpu->gpr[CPU_RSP] & size_mask(x86_stack_width(cpu));
	uint64_t value =
	    x86_load(cpu, x86_linear(cpu, CPU_SS, sp, size, false), size);

	x86_set_sp(cpu, sp + size);
	return value;
}

struct x86_stack
x86_stack_now(const struct x86_cpu *cpu)
{
	return (struct x86_stack) {
		.ss = cpu->seg[CPU_SS],
		.sp = cpu->gpr[CPU_RSP],
		.width = x86_stack_width(cpu),
	};
}

struct x86_stack
x86_stack_tss64(struct x86_cpu *cpu, unsigned at, unsigned cpl)
{
	const struct cpu_segment *tr = &cpu->seg[CPU_TR];

	if (at + 7 > tr->limit)
		x86_raise_selector(cpu, X86_TS, tr->selector);
	return (struct x86_stack) {
		.ss = x86_null_ss((uint16_t)cpl, cpl),
		.sp = x86_load_sys(cpu, tr->base + at, 8),
		.width = 8,
		.inner = cpl < 3,
	};
}

/* SDM volume 3, 5.8.5 and 7.2.1. */
struct x86_stack
x86_stack_inner(struct x86_cpu *cpu, unsigned cpl)
{
	const struct cpu_segment *tr = &cpu->seg[CPU_TR];
	bool wide = tr->access & X86_DT_WIDE;
	unsigned at = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
	unsigned size = wide ? 4 : 2;
	struct x86_stack stack = { .inner = true };
	struct x86_desc d;
	uint16_t ss;

	if (x86_long_mode(cpu))
		return x86_stack_tss64(cpu, at, cpl);
	if (at + size + 1 > tr->limit)
		x86_raise_selector(cpu, X86_TS, tr->selector);
	stack.sp = x86_load_sys(cpu, x86_sys_lin(cpu, tr->base, at), size);
	ss = (uint16_t)x86_load_sys(cpu, x86_sys_lin(cpu, tr->base, at + size),
	    2);
	if (x86_is_null(ss))
		x86_raise_error(cpu, X86_TS, 0);
	x86_desc_need(cpu, ss, X86_TS, &d);
	if ((ss & 3) != cpl || !x86_is_stack(d.access) ||
	    X86_SEG_DPL(d.access) != cpl)
		x86_raise_selector(cpu, X86_TS, ss);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_SS, ss);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	stack.ss = x86_desc_segment(&d, ss);
	stack.width = d.access & X86_SEG_DB ? 4 : 2;
	stack.error = ss;
	return stack;
}

void
x86_stack_push(struct x86_cpu *cpu, struct x86_stack *stack, uint64_t value,
    unsigned size)
{
	uint64_t off = (stack->sp - size) & size_mask(stack->width);
	uint64_t lin;

	if (stack->width == 8) {
		lin = off;
		if (!x86_canonical(lin) || !x86_canonical(lin + size - 1))
			x86_raise_selector(cpu, X86_SS, stack->error);
	} else {
		if ((stack->ss.access & CPU_SEG_UNUSABLE) ||
		    !within_limit(&stack->ss, off, size))
			x86_raise_selector(cpu, X86_SS, stack->error);
		lin = (uint32_t)(stack->ss.base + off);
	}
	if (stack->inner)
		x86_store_sys(cpu, lin, size, value);
	else
		x86_store(cpu, lin, size, value);
	stack->sp = (stack->sp & ~size_mask(stack->width)) | off;
}

void
x86_stack_use(struct x86_cpu *cpu, const struct x86_stack *stack)
{
	cpu->seg[CPU_SS] = stack->ss;
	x86_set_gpr(cpu, CPU_RSP, stack->width, stack->sp);
}
