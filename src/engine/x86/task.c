/*
 * Task switches through a TSS, as 16- and 32-bit protected mode has them.
 *
 * Models       Intel SDM volume 3, 7.3, and table 7-1 for the exceptions.
 * Commit       Up to the point where the new task's state is in the processor a
 *              fault belongs to the old task and is raised like any other.
 *              After it a fault belongs to the new task and must not be taken
 *              back: it is left in cpu->pending, to be delivered before the
 *              next instruction, and so is the debug trap of a task with its T
 *              bit set.
 * Differences  A 16-bit TSS leaves ones in the upper halves of the registers,
 *              as processors do; the SDM does not say.
 */
#include "engine/x86/segment.h"
#include "engine/x86/system_impl.h"

/* Segment registers in the order both kinds of TSS have them. */
static const enum cpu_seg tss_segs[] = { CPU_ES, CPU_CS, CPU_SS, CPU_DS, CPU_FS,
	CPU_GS };

#define LINK 0 /* the previous task */

/* Where things are in the two kinds of TSS. */
static const struct layout {
	uint32_t limit; /* at least */
	uint8_t size;   /* of a register */
	uint8_t ip;     /* then flags, and eight registers */
	uint8_t segs;
	uint8_t seg_step;
	uint8_t seg_count; /* a 286 has no FS and GS */
	uint8_t ldt;
} layout16 = { 0x2b, 2, 0x0e, 0x22, 2, 4, 0x2a },
  layout32 = { 0x67, 4, 0x20, 0x48, 4, 6, 0x60 };

#define TSS32_CR3 0x1c
#define TSS32_TRAP 0x64

struct task {
	struct cpu_segment tr;
	struct x86_desc desc;
	const struct layout *layout;
	uint64_t ip, flags, gpr[8];
	uint16_t seg[ARRAY_SIZE(tss_segs)];
	uint16_t ldt;
	uint64_t cr3, pdpte[4];
	bool load_cr3;
	bool trap;
};

static const struct layout *
layout_of(uint32_t access)
{
	return access & X86_DT_WIDE ? &layout32 : &layout16;
}

static uint64_t
get(struct x86_cpu *cpu, const struct cpu_segment *tr, unsigned at,
    unsigned size)
{
	return x86_load_sys(cpu, x86_sys_lin(cpu, tr->base, at), size);
}

static void
put(struct x86_cpu *cpu, const struct cpu_segment *tr, unsigned at,
    unsigned size, uint64_t value)
{
	x86_store_sys(cpu, x86_sys_lin(cpu, tr->base, at), size, value);
}

/* The new task's descriptor: available, or for IRET busy. */
static void
find_task(struct x86_cpu *cpu, uint16_t selector, enum x86_task_cause cause,
    struct task *task)
{
	enum x86_vector vector = cause == X86_TASK_IRET ? X86_TS : X86_GP;
	uint32_t busy = cause == X86_TASK_IRET ? X86_DT_BUSY : 0;
	uint32_t type;

	if ((selector & 4) || x86_is_null(selector))
		x86_raise_selector(cpu, vector, selector);
	x86_desc_need(cpu, selector, vector, &task->desc);
	type = task->desc.access & (X86_SEG_S | X86_SEG_TYPE);
	if ((type & ~X86_DT_BUSY & ~X86_DT_WIDE) != X86_DT_TSS16 ||
	    (type & X86_DT_BUSY) != busy)
		x86_raise_selector(cpu, vector, selector);
	if (!(task->desc.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
	task->tr = x86_desc_segment(&task->desc, selector);
	task->layout = layout_of(task->desc.access);
	if (task->tr.limit < task->layout->limit)
		x86_raise_selector(cpu, X86_TS, selector);
}

static void
read_task(struct x86_cpu *cpu, struct task *task)
{
	const struct layout *l = task->layout;
	uint64_t upper = l->size == 2 ? 0xffff0000u : 0;
	bool paging = cpu->cr0 & X86_CR0_PG;

	task->trap = task->load_cr3 = false;
	task->ip = get(cpu, &task->tr, l->ip, l->size);
	task->flags = get(cpu, &task->tr, l->ip + l->size, l->size);
	for (unsigned r = 0; r < 8; r++)
		task->gpr[r] =
		    get(cpu, &task->tr, l->ip + (r + 2) * l->size, l->size) |
		    upper;
	for (unsigned s = 0; s < ARRAY_SIZE(tss_segs); s++)
		task->seg[s] = s >= l->seg_count ?
		    0 :
		    (uint16_t)get(cpu, &task->tr, l->segs + s * l->seg_step, 2);
	task->ldt = (uint16_t)get(cpu, &task->tr, l->ldt, 2);
	if (l->size == 2)
		return;
	task->trap = get(cpu, &task->tr, TSS32_TRAP, 2) & 1;
	task->cr3 = get(cpu, &task->tr, TSS32_CR3, 4);
	task->load_cr3 = paging;
	if (paging && (cpu->cr4 & X86_CR4_PAE) &&
	    !x86_load_pdptes(cpu, task->cr3, task->pdpte))
		x86_raise_gp(cpu);
}

static void
save_task(struct x86_cpu *cpu, uint64_t flags)
{
	const struct cpu_segment *tr = &cpu->seg[CPU_TR];
	const struct layout *l = layout_of(tr->access);

	put(cpu, tr, l->ip, l->size, cpu->rip);
	put(cpu, tr, l->ip + l->size, l->size, flags);
	for (unsigned r = 0; r < 8; r++)
		put(cpu, tr, l->ip + (r + 2) * l->size, l->size, cpu->gpr[r]);
	for (unsigned s = 0; s < l->seg_count; s++)
		put(cpu, tr, l->segs + s * l->seg_step, 2,
		    cpu->seg[tss_segs[s]].selector);
}

/* The task that is left is not busy any more. */
static void
free_old(struct x86_cpu *cpu)
{
	struct x86_desc d;

	if (!x86_desc_find(cpu, cpu->seg[CPU_TR].selector & 0xfff8u, &d))
		return;
	d.access &= ~X86_DT_BUSY;
	x86_store_sys(cpu, d.lin + X86_DESC_ACCESS, 1, d.access & 0xff);
}

/* From here on the processor is in the new task. */
static void
commit(struct x86_cpu *cpu, const struct task *task, bool nested)
{
	cpu->seg[CPU_TR] = task->tr;
	cpu->seg[CPU_TR].access |= X86_DT_BUSY;
	cpu->rip = task->ip;
	cpu->rflags = (task->flags & X86_FLAGS_ALL) | X86_FLAGS_FIXED;
	if (nested)
		cpu->rflags |= X86_NT;
	for (unsigned r = 0; r < 8; r++)
		cpu->gpr[r] = task->gpr[r];
	cpu->cr0 |= X86_CR0_TS;
	cpu->dr7 &= ~(uint64_t)X86_DR7_LOCAL;
	if (task->load_cr3) {
		cpu->cr3 = task->cr3;
		for (unsigned i = 0; (cpu->cr4 & X86_CR4_PAE) && i < 4; i++)
			cpu->pdpte[i] = task->pdpte[i];
		x86_tlb_flush(cpu, false);
	}
	/* Selectors, as yet without anything behind them. */
	for (unsigned s = 0; s < ARRAY_SIZE(tss_segs); s++)
		cpu->seg[tss_segs[s]] = (struct cpu_segment) {
			.access = CPU_SEG_UNUSABLE,
			.selector = task->seg[s],
		};
	cpu->cpl = x86_v86(cpu) ? 3 : cpu->seg[CPU_CS].selector & 3;
	cpu->seg[CPU_SS].access |= (uint32_t)cpu->cpl << 5;
	cpu->seg[CPU_LDTR] = (struct cpu_segment) {
		.access = CPU_SEG_UNUSABLE,
		.selector = task->ldt,
	};
	x86_cpu_mode(cpu);
}

static void
load_code(struct x86_cpu *cpu, uint16_t selector)
{
	unsigned rpl = selector & 3;
	struct x86_desc d;
	unsigned dpl;

	if (x86_is_null(selector))
		x86_raise_selector(cpu, X86_TS, selector);
	x86_desc_need(cpu, selector, X86_TS, &d);
	dpl = X86_SEG_DPL(d.access);
	if (!x86_is_code(d.access) ||
	    (x86_is_conforming(d.access) ? dpl > rpl : dpl != rpl))
		x86_raise_selector(cpu, X86_TS, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	cpu->seg[CPU_CS] = x86_desc_segment(&d, selector);
}

static void
load_stack(struct x86_cpu *cpu, uint16_t selector)
{
	struct x86_desc d;

	if (x86_is_null(selector))
		x86_raise_selector(cpu, X86_TS, selector);
	x86_desc_need(cpu, selector, X86_TS, &d);
	if ((selector & 3u) != cpu->cpl || !x86_is_stack(d.access) ||
	    X86_SEG_DPL(d.access) != cpu->cpl)
		x86_raise_selector(cpu, X86_TS, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_SS, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	cpu->seg[CPU_SS] = x86_desc_segment(&d, selector);
}

static void
load_data(struct x86_cpu *cpu, enum cpu_seg seg, uint16_t selector)
{
	struct x86_desc d;

	if (x86_is_null(selector)) {
		x86_null_seg(cpu, seg, selector);
		return;
	}
	x86_desc_need(cpu, selector, X86_TS, &d);
	if (!(d.access & X86_SEG_S) ||
	    (x86_is_code(d.access) && !(d.access & X86_SEG_RW)))
		x86_raise_selector(cpu, X86_TS, selector);
	if (!(x86_is_code(d.access) && x86_is_conforming(d.access)) &&
	    MAX(cpu->cpl, selector & 3u) > X86_SEG_DPL(d.access))
		x86_raise_selector(cpu, X86_TS, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
	x86_desc_mark(cpu, &d, X86_SEG_ACCESSED);
	cpu->seg[seg] = x86_desc_segment(&d, selector);
}

/* What is behind the selectors; then the error code of the event, if any. */
static void
load_segments(struct x86_cpu *cpu, const struct task *task, bool has_error,
    uint32_t error)
{
	static const uint8_t data[] = { 3, 0, 4, 5 }; /* of task->seg */

	x86_load_ldt(cpu, task->ldt, X86_TS);
	if (x86_v86(cpu)) {
		for (unsigned s = 0; s < ARRAY_SIZE(tss_segs); s++)
			x86_load_seg_real(cpu, tss_segs[s], task->seg[s]);
	} else {
		load_code(cpu, task->seg[1]);
		x86_cpu_mode(cpu);
		load_stack(cpu, task->seg[2]);
		for (size_t i = 0; i < ARRAY_SIZE(data); i++)
			load_data(cpu, tss_segs[data[i]], task->seg[data[i]]);
	}
	x86_cpu_mode(cpu);
	if (has_error)
		x86_push(cpu, error, task->layout->size);
	x86_check_rip(cpu, &cpu->seg[CPU_CS], cpu->rip);
}

/* Leave an exception for the time before the next instruction. */
static void
set_pending(struct x86_cpu *cpu, const struct x86_event *event)
{
	cpu->pending = *event;
	cpu->has_pending = true;
	/* Only our own thread has to see it. */
	atomic_fetch_or_explicit(&cpu->attention, X86_ATTENTION_INTR,
	    memory_order_relaxed);
}

static void
new_task(struct x86_cpu *cpu, const struct task *task, bool has_error,
    uint32_t error)
{
	static const struct x86_event trap = { .vector = X86_DB };
	jmp_buf here, *outer = cpu->jmp;

	cpu->jmp = &here;
	if (_setjmp(here) == 0) {
		load_segments(cpu, task, has_error, error);
		if (task->trap) {
			cpu->dr6 |= X86_DR6_BT;
			set_pending(cpu, &trap);
		}
	} else {
		x86_cpu_mode(cpu);
		set_pending(cpu, &cpu->event);
	}
	cpu->jmp = outer;
}

void
x86_task_switch(struct x86_cpu *cpu, uint16_t selector,
    enum x86_task_cause cause, bool has_error, uint32_t error)
{
	bool nested = cause == X86_TASK_CALL || cause == X86_TASK_GATE;
	uint64_t flags = cpu->rflags;
	struct task task;

	find_task(cpu, selector, cause, &task);
	read_task(cpu, &task);
	if (cause == X86_TASK_IRET)
		flags &= ~(uint64_t)X86_NT;
	save_task(cpu, flags);
	if (nested)
		put(cpu, &task.tr, LINK, 2, cpu->seg[CPU_TR].selector);
	else
		free_old(cpu);
	if (cause != X86_TASK_IRET)
		x86_desc_mark(cpu, &task.desc, X86_DT_BUSY);
	commit(cpu, &task, nested);
	new_task(cpu, &task, has_error, error);
}
