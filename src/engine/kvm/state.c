/*
 * struct cpu_state from and to the pieces that KVM knows.
 *
 * Models       every piece that a guest of this engine can have: nested
 *              virtualization and system management mode are hidden from it.
 * Order        Reading asks for the multiprocessing state first: KVM takes a
 *              waiting INIT or SIPI in there, which changes the rest.  Writing
 *              sets APIC_BASE (with the system registers) before the local
 *              APIC, whose form depends on it, and the events last, because
 *              writing registers drops them.
 * MSRs         The kernel's own list has MSRs that it reads and cannot write,
 *              and lacks others.  So each MSR below is tried on the first vCPU,
 *              read and written back, and those that survive are the engine's.
 *              Their values at that moment are those of power-on, which a
 *              state that does not mention them means.  A state without a TSC
 *              leaves the TSC alone, so that vCPUs stay in step.
 * Locking      none: the vCPU does not run (engine.h).
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "engine/kvm/kvm_impl.h"

#define LAPIC_ID 0x20
#define LAPIC_LVT_TIMER 0x320
#define LVT_MASKED 0x10000u
#define LVT_TIMER_MODE 0x60000u /* 0: one-shot */
#define LAPIC_TIMER_INITIAL 0x380
#define LAPIC_TIMER_CURRENT 0x390
#define RFLAGS_IF BIT(9)

_Static_assert(sizeof(struct kvm_lapic_state) == CPU_LAPIC_SIZE,
    "KVM's local APIC is the SDM's page without the empty end");
_Static_assert(sizeof(struct kvm_xsave) == CPU_XSAVE_MAX,
    "CPUID hides components that need more");

/* What belongs to a processor and is neither a register nor a segment. */
static const struct {
	uint32_t first, last;
} msr_list[] = {
	{ 0x174, 0x176 },           /* SYSENTER_CS, ESP, EIP */
	{ 0x1a0, 0x1a0 },           /* MISC_ENABLE */
	{ 0x200, 0x20f },           /* MTRR_PHYSBASE0, MASK0, ... */
	{ 0x250, 0x250 },           /* MTRR_FIX64K */
	{ 0x258, 0x259 },           /* MTRR_FIX16K */
	{ 0x268, 0x26f },           /* MTRR_FIX4K */
	{ 0x277, 0x277 },           /* PAT */
	{ 0x2ff, 0x2ff },           /* MTRR_DEF_TYPE */
	{ 0xc0000081, 0xc0000084 }, /* STAR, LSTAR, CSTAR, SFMASK */
	{ 0xc0000102, 0xc0000103 }, /* KERNEL_GS_BASE, TSC_AUX */
};

union msr_buf {
	struct kvm_msrs msrs;
	uint8_t room[sizeof(struct kvm_msrs) +
	    CPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

struct pieces {
	struct kvm_mp_state mp;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_vcpu_events events;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_xsave xsave;
};

/* One ioctl for one piece; what: "cannot read its registers". */
static int
piece(struct kvm_vcpu *vcpu, unsigned long request, void *arg, const char *what,
    struct err *err)
{
	int rc = kvm_ioctl(vcpu->fd, request, arg);

	if (rc < 0)
		return err_set_errno(err, rc, "kvm: vCPU %u: cannot %s",
		    vcpu->vcpu.id, what);
	return 0;
}

/* --------------------------------------------------------------- MSRs */

int
kvm_msr_get(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value)
{
	union msr_buf buf = { .msrs.nmsrs = 1 };
	int rc;

	buf.msrs.entries[0].index = index;
	rc = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &buf);
	if (rc != 1)
		return rc < 0 ? rc : -ENOENT;
	*value = buf.msrs.entries[0].data;
	return 0;
}

int
kvm_msr_set(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
	union msr_buf buf = { .msrs.nmsrs = 1 };
	int rc;

	buf.msrs.entries[0].index = index;
	buf.msrs.entries[0].data = value;
	rc = kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &buf);
	if (rc != 1)
		return rc < 0 ? rc : -EINVAL;
	return 0;
}

void
kvm_msrs_probe(struct kvm_vcpu *vcpu)
{
	struct kvm_msr_set *set = &vcpu->kvm->msrs;
	int khz;

	for (size_t r = 0; r < ARRAY_SIZE(msr_list); r++) {
		for (uint32_t i = msr_list[r].first; i <= msr_list[r].last;
		     i++) {
			struct cpu_msr msr = { .index = i };

			if (kvm_msr_get(vcpu, i, &msr.value) < 0 ||
			    kvm_msr_set(vcpu, i, msr.value) < 0)
				continue;
			assert(set->count < CPU_MSRS_MAX - 1); /* and the TSC */
			set->msr[set->count++] = msr;
		}
	}
	khz = kvm_ioctl(vcpu->fd, KVM_GET_TSC_KHZ, NULL);
	vcpu->kvm->msr.tsc_hz = khz > 0 ? (uint64_t)khz * 1000 : 0;
}

static int
msrs_get(struct kvm_vcpu *vcpu, struct cpu_state *cpu, struct err *err)
{
	const struct kvm_msr_set *set = &vcpu->kvm->msrs;
	union msr_buf buf = { .msrs.nmsrs = set->count };
	int rc;

	for (unsigned i = 0; i < set->count; i++)
		buf.msrs.entries[i].index = set->msr[i].index;
	rc = kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &buf);
	if (rc < 0)
		return err_set_errno(err, rc, "kvm: vCPU %u: cannot read MSRs",
		    vcpu->vcpu.id);
	if ((unsigned)rc < set->count)
		return err_set(err, -EIO,
		    "kvm: vCPU %u: cannot read MSR 0x%x any more",
		    vcpu->vcpu.id, set->msr[rc].index);
	cpu->msr_count = set->count;
	for (unsigned i = 0; i < set->count; i++)
		cpu->msr[i] = (struct cpu_msr) { set->msr[i].index,
			buf.msrs.entries[i].data };
	(void)cpu_state_set_msr(cpu, MSR_IA32_TSC, kvm_time_tsc(vcpu));
	return 0;
}

static int
msr_put(struct kvm_vcpu *vcpu, const struct cpu_msr *msr, struct err *err)
{
	uint64_t now;

	if (kvm_msr_set(vcpu, msr->index, msr->value) == 0 ||
	    (kvm_msr_get(vcpu, msr->index, &now) == 0 && now == msr->value))
		return 0;
	/* One that this kernel does not know and the guest did not use. */
	if (msr->value == 0)
		return 0;
	return err_set(err, -EINVAL,
	    "kvm: vCPU %u: MSR 0x%x cannot be 0x%llx on this host",
	    vcpu->vcpu.id, msr->index, (unsigned long long)msr->value);
}

static int
msrs_set(struct kvm_vcpu *vcpu, const struct cpu_state *cpu, struct err *err)
{
	const struct kvm_msr_set *set = &vcpu->kvm->msrs;
	struct cpu_state *all = xcalloc(1, sizeof(*all));
	int rc = 0;

	/* Power-on values, then what the state says. */
	memcpy(all->msr, set->msr, sizeof(all->msr));
	all->msr_count = set->count;
	for (unsigned i = 0; i < cpu->msr_count && rc == 0; i++) {
		if (!cpu_state_set_msr(all, cpu->msr[i].index,
			cpu->msr[i].value))
			rc = err_set(err, -EINVAL,
			    "kvm: vCPU %u: more than %u MSRs", vcpu->vcpu.id,
			    CPU_MSRS_MAX);
	}
	for (unsigned i = 0; i < all->msr_count && rc == 0; i++) {
		if (all->msr[i].index != MSR_IA32_TSC) {
			rc = msr_put(vcpu, &all->msr[i], err);
			continue;
		}
		rc = kvm_time_set_tsc(vcpu, all->msr[i].value);
		if (rc < 0)
			(void)err_set_errno(err, rc,
			    "kvm: vCPU %u: cannot set its TSC", vcpu->vcpu.id);
	}
	free(all);
	return rc;
}

/* ---------------------------------------------------------- registers */

/* enum cpu_gpr is the encoding's order, struct kvm_regs' is another. */
static __u64 *
reg_of(struct kvm_regs *regs, enum cpu_gpr gpr)
{
	__u64 *const order[CPU_GPRS] = { &regs->rax, &regs->rcx, &regs->rdx,
		&regs->rbx, &regs->rsp, &regs->rbp, &regs->rsi, &regs->rdi,
		&regs->r8, &regs->r9, &regs->r10, &regs->r11, &regs->r12,
		&regs->r13, &regs->r14, &regs->r15 };

	return order[gpr];
}

static struct kvm_segment *
seg_of(struct kvm_sregs *sregs, enum cpu_seg seg)
{
	struct kvm_segment *const order[CPU_SEGS] = { &sregs->es, &sregs->cs,
		&sregs->ss, &sregs->ds, &sregs->fs, &sregs->gs, &sregs->ldt,
		&sregs->tr };

	return order[seg];
}

static struct cpu_segment
segment_get(const struct kvm_segment *k)
{
	return (struct cpu_segment) {
		.base = k->base,
		.limit = k->limit,
		.selector = k->selector,
		.access = (uint32_t)k->type | (uint32_t)k->s << 4 |
		    (uint32_t)k->dpl << 5 | (uint32_t)k->present << 7 |
		    (uint32_t)k->avl << 12 | (uint32_t)k->l << 13 |
		    (uint32_t)k->db << 14 | (uint32_t)k->g << 15 |
		    (uint32_t)k->unusable << 16,
	};
}

static struct kvm_segment
segment_make(const struct cpu_segment *s)
{
	return (struct kvm_segment) {
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->access & 0xf,
		.s = s->access >> 4 & 1,
		.dpl = s->access >> 5 & 3,
		.present = s->access >> 7 & 1,
		.avl = s->access >> 12 & 1,
		.l = s->access >> 13 & 1,
		.db = s->access >> 14 & 1,
		.g = s->access >> 15 & 1,
		.unusable = s->access >> 16 & 1,
	};
}

static void
registers_get(struct pieces *p, struct cpu_state *cpu)
{
	const struct kvm_sregs *s = &p->sregs;

	for (unsigned i = 0; i < CPU_GPRS; i++)
		cpu->gpr[i] = *reg_of(&p->regs, i);
	cpu->rip = p->regs.rip;
	cpu->rflags = p->regs.rflags;
	for (unsigned i = 0; i < CPU_SEGS; i++)
		cpu->seg[i] = segment_get(seg_of(&p->sregs, i));
	cpu->gdtr.base = s->gdt.base;
	cpu->gdtr.limit = s->gdt.limit;
	cpu->idtr.base = s->idt.base;
	cpu->idtr.limit = s->idt.limit;
	cpu->cr0 = s->cr0;
	cpu->cr2 = s->cr2;
	cpu->cr3 = s->cr3;
	cpu->cr4 = s->cr4;
	cpu->cr8 = s->cr8;
	cpu->efer = s->efer;
	cpu->apic_base = s->apic_base;
	for (unsigned i = 0; i < ARRAY_SIZE(cpu->dr); i++)
		cpu->dr[i] = p->debug.db[i];
	cpu->dr6 = p->debug.dr6;
	cpu->dr7 = p->debug.dr7;
	cpu->xcr0 = 1;
	for (unsigned i = 0; i < p->xcrs.nr_xcrs; i++) {
		if (p->xcrs.xcrs[i].xcr == 0)
			cpu->xcr0 = p->xcrs.xcrs[i].value;
	}
}

static void
registers_make(struct pieces *p, const struct cpu_state *cpu)
{
	struct kvm_sregs *s = &p->sregs;

	for (unsigned i = 0; i < CPU_GPRS; i++)
		*reg_of(&p->regs, i) = cpu->gpr[i];
	p->regs.rip = cpu->rip;
	p->regs.rflags = cpu->rflags;
	for (unsigned i = 0; i < CPU_SEGS; i++)
		*seg_of(&p->sregs, i) = segment_make(&cpu->seg[i]);
	s->gdt.base = cpu->gdtr.base;
	s->gdt.limit = cpu->gdtr.limit;
	s->idt.base = cpu->idtr.base;
	s->idt.limit = cpu->idtr.limit;
	s->cr0 = cpu->cr0;
	s->cr2 = cpu->cr2;
	s->cr3 = cpu->cr3;
	s->cr4 = cpu->cr4;
	s->cr8 = cpu->cr8;
	s->efer = cpu->efer;
	s->apic_base = cpu->apic_base;
	for (unsigned i = 0; i < ARRAY_SIZE(cpu->dr); i++)
		p->debug.db[i] = cpu->dr[i];
	p->debug.dr6 = cpu->dr6;
	p->debug.dr7 = cpu->dr7;
	p->xcrs.nr_xcrs = 1;
	p->xcrs.xcrs[0].xcr = 0;
	p->xcrs.xcrs[0].value = cpu->xcr0;
	memcpy(&p->xsave, cpu->xsave, cpu->xsave_size);
}

/* ------------------------------------------------------------- events */

/*
 * What was on its way when the guest stopped.  An INT n is not: RIP is still
 * at it and it will run again.  An NMI whose delivery was cut short is pending
 * again, and unmasked, or it would wait for an IRET that never comes.
 */
static void
events_get(const struct kvm_vcpu_events *e, struct cpu_state *cpu)
{
	cpu->exception = (struct cpu_event) {
		.valid = e->exception.injected || e->exception.pending,
		.vector = e->exception.nr,
		.has_error = e->exception.has_error_code,
		.error = e->exception.error_code,
	};
	cpu->interrupt = (struct cpu_event) {
		.valid = e->interrupt.injected && !e->interrupt.soft,
		.vector = e->interrupt.nr,
	};
	/* Where there is none its leftovers are not state. */
	if (!cpu->exception.valid)
		cpu->exception = (struct cpu_event) { 0 };
	if (!cpu->interrupt.valid)
		cpu->interrupt = (struct cpu_event) { 0 };
	cpu->sti_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_STI;
	cpu->mov_ss_shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS;
	cpu->nmi_pending = e->nmi.pending || e->nmi.injected;
	cpu->nmi_masked = e->nmi.masked && !e->nmi.injected;
}

static void
events_make(struct kvm_vcpu_events *e, const struct cpu_state *cpu)
{
	memset(e, 0, sizeof(*e));
	/* With all of SMM zero: a reset leaves it. */
	e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
	    KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
	e->exception.injected = cpu->exception.valid;
	e->exception.nr = cpu->exception.vector;
	e->exception.has_error_code = cpu->exception.has_error;
	e->exception.error_code = cpu->exception.error;
	e->interrupt.injected = cpu->interrupt.valid;
	e->interrupt.nr = cpu->interrupt.vector;
	if (cpu->sti_shadow)
		e->interrupt.shadow |= KVM_X86_SHADOW_INT_STI;
	if (cpu->mov_ss_shadow)
		e->interrupt.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
	e->nmi.pending = cpu->nmi_pending;
	e->nmi.masked = cpu->nmi_masked;
}

static enum cpu_run_state
run_state_get(const struct kvm_mp_state *mp)
{
	switch (mp->mp_state) {
	case KVM_MP_STATE_UNINITIALIZED:
		return CPU_WAIT_INIT;
	case KVM_MP_STATE_INIT_RECEIVED:
		return CPU_WAIT_SIPI;
	case KVM_MP_STATE_HALTED:
		return CPU_HALTED;
	default:
		return CPU_RUNNING;
	}
}

static uint32_t
run_state_make(enum cpu_run_state state)
{
	switch (state) {
	case CPU_WAIT_INIT:
		return KVM_MP_STATE_UNINITIALIZED;
	case CPU_WAIT_SIPI:
		return KVM_MP_STATE_INIT_RECEIVED;
	case CPU_HALTED:
		return KVM_MP_STATE_HALTED;
	case CPU_RUNNING:
		break;
	}
	return KVM_MP_STATE_RUNNABLE;
}

/* --------------------------------------------------------- local APIC */

/* In x2APIC mode the id fills its register and is not the guest's to choose. */
static void
lapic_get(const struct kvm_vcpu *vcpu, const struct pieces *p,
    struct cpu_state *cpu)
{
	memcpy(cpu->lapic, p->lapic.regs, CPU_LAPIC_SIZE);
	if (cpu->apic_base & CPU_APIC_BASE_X2APIC)
		le32_store(cpu->lapic + LAPIC_ID, vcpu->vcpu.id);
}

/*
 * KVM takes a one-shot timer whose count is 0 for one that expires now, even
 * if it had done so long ago.  Without an initial count it stays quiet; that
 * register then reads 0, as after a guest has stopped the timer.
 */
static void
timer_calm(uint8_t *lapic)
{
	uint32_t lvt = le32_load(lapic + LAPIC_LVT_TIMER);

	if ((lvt & (LVT_MASKED | LVT_TIMER_MODE)) == 0 &&
	    le32_load(lapic + LAPIC_TIMER_CURRENT) == 0)
		le32_store(lapic + LAPIC_TIMER_INITIAL, 0);
}

static void
lapic_make(const struct kvm_vcpu *vcpu, struct pieces *p,
    const struct cpu_state *cpu)
{
	memcpy(p->lapic.regs, cpu->lapic, CPU_LAPIC_SIZE);
	timer_calm((uint8_t *)p->lapic.regs);
	if (cpu->apic_base & CPU_APIC_BASE_X2APIC)
		le32_store(p->lapic.regs + LAPIC_ID,
		    vcpu->kvm->caps.x2apic_api ? vcpu->vcpu.id :
						 vcpu->vcpu.id << 24);
}

/* ---------------------------------------------------------- get, set */

int
kvm_state_get(struct engine_vcpu *v, struct cpu_state *cpu, struct err *err)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(v);
	struct pieces p;
	const struct {
		unsigned long request;
		void *arg;
		const char *what;
	} reads[] = {
		{ KVM_GET_MP_STATE, &p.mp, "read whether it runs" },
		{ KVM_GET_VCPU_EVENTS, &p.events, "read its events" },
		{ KVM_GET_REGS, &p.regs, "read its registers" },
		{ KVM_GET_SREGS, &p.sregs, "read its system registers" },
		{ KVM_GET_DEBUGREGS, &p.debug, "read its debug registers" },
		{ KVM_GET_XCRS, &p.xcrs, "read XCR0" },
		{ KVM_GET_XSAVE, &p.xsave, "read its vector registers" },
		{ KVM_GET_LAPIC, &p.lapic, "read its local APIC" },
	};

	kvm_vcpu_flush_nmi(vcpu);
	memset(&p, 0, sizeof(p));
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++) {
		int rc;

		if (reads[i].arg == &p.xcrs && !vcpu->kvm->caps.xcrs)
			continue;
		rc = piece(vcpu, reads[i].request, reads[i].arg, reads[i].what,
		    err);
		if (rc < 0)
			return rc;
	}
	kvm_time_still_lapic(vcpu, &p.lapic);

	memset(cpu, 0, sizeof(*cpu));
	cpu->run_state = run_state_get(&p.mp);
	registers_get(&p, cpu);
	events_get(&p.events, cpu);
	cpu->xsave_size = vcpu->xsave_size;
	memcpy(cpu->xsave, &p.xsave, vcpu->xsave_size);
	lapic_get(vcpu, &p, cpu);
	return msrs_get(vcpu, cpu, err);
}

int
kvm_state_set(struct engine_vcpu *v, const struct cpu_state *cpu,
    struct err *err)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(v);
	struct pieces p;
	const struct {
		unsigned long request;
		void *arg;
		const char *what;
	} writes[] = {
		{ KVM_SET_REGS, &p.regs, "set its registers" },
		{ KVM_SET_SREGS, &p.sregs, "set its system registers" },
		{ KVM_SET_DEBUGREGS, &p.debug, "set its debug registers" },
		{ KVM_SET_XCRS, &p.xcrs, "set XCR0" },
		{ KVM_SET_XSAVE, &p.xsave, "set its vector registers" },
		{ KVM_SET_LAPIC, &p.lapic, "set its local APIC" },
		{ KVM_SET_MP_STATE, &p.mp, "set whether it runs" },
		{ KVM_SET_VCPU_EVENTS, &p.events, "set its events" },
	};
	int rc;

	if (cpu->xsave_size > CPU_XSAVE_MAX || cpu->msr_count > CPU_MSRS_MAX)
		return err_set(err, -EINVAL,
		    "kvm: vCPU %u: a state of %u bytes of XSAVE and %u MSRs",
		    v->id, cpu->xsave_size, cpu->msr_count);
	if (cpu->xcr0 != 1 && !vcpu->kvm->caps.xcrs)
		return err_set(err, -EINVAL,
		    "kvm: vCPU %u: XCR0 is 0x%llx, and this host has no XSAVE",
		    v->id, (unsigned long long)cpu->xcr0);
	memset(&p, 0, sizeof(p));
	registers_make(&p, cpu);
	events_make(&p.events, cpu);
	lapic_make(vcpu, &p, cpu);
	p.mp.mp_state = run_state_make(cpu->run_state);
	/* MSRs first: a long-mode state needs none of the rest for them. */
	rc = msrs_set(vcpu, cpu, err);
	for (size_t i = 0; i < ARRAY_SIZE(writes) && rc == 0; i++) {
		if (writes[i].arg == &p.xcrs && !vcpu->kvm->caps.xcrs)
			continue;
		rc = piece(vcpu, writes[i].request, writes[i].arg,
		    writes[i].what, err);
	}
	if (rc == 0)
		kvm_time_keep_lapic(vcpu, &p.lapic);
	atomic_store(&vcpu->nmi, false);
	vcpu->takes = KVM_INTR_UNKNOWN; /* that was the old state */
	return rc;
}

bool
kvm_state_halted(struct engine_vcpu *v)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(v);
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_regs regs;

	kvm_vcpu_flush_nmi(vcpu);
	if (kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0 ||
	    kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0 ||
	    kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
		return false; /* it will fail in engine_run(), with a reason */
	switch (run_state_get(&mp)) {
	case CPU_WAIT_INIT:
	case CPU_WAIT_SIPI:
		return true;
	case CPU_HALTED:
		return !(regs.rflags & RFLAGS_IF) && !events.nmi.pending &&
		    !events.nmi.injected;
	case CPU_RUNNING:
		break;
	}
	return false;
}
