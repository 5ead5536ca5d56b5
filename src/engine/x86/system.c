/*
 * System instructions: everything that is neither arithmetic, near control
 * transfer, a string in memory nor a vector.
 *
 * Models       Intel SDM volume 2, each instruction's page; volume 3, 5.9
 *              (privileged instructions), 5.10 (checking pointers), 20.3 and
 *              20.4 (virtual interrupts).
 * Leaves out   MONITOR, MWAIT, VMCALL, VMX, SVM, SMX, RSM: #UD, as CPUID says.
 *              RDPMC reads zeros: there are counters, which stand still.
 */
#include "engine/x86/event.h"
#include "engine/x86/lapic.h"
#include "engine/x86/segment.h"
#include "engine/x86/system_impl.h"

/* Types of system descriptors that LAR and LSL look at, one bit each. */
#define LAR_TYPES                                                       \
	(BIT(X86_DT_TSS16) | BIT(X86_DT_LDT) | BIT(X86_DT_TSS16_BUSY) | \
	    BIT(X86_DT_CALL16) | BIT(X86_DT_TASK) | BIT(X86_DT_TSS32) | \
	    BIT(X86_DT_TSS32_BUSY) | BIT(X86_DT_CALL32))
#define LSL_TYPES                                                       \
	(BIT(X86_DT_TSS16) | BIT(X86_DT_LDT) | BIT(X86_DT_TSS16_BUSY) | \
	    BIT(X86_DT_TSS32) | BIT(X86_DT_TSS32_BUSY))
#define LONG_TYPES                                                      \
	(BIT(X86_DT_LDT) | BIT(X86_DT_TSS32) | BIT(X86_DT_TSS32_BUSY) | \
	    BIT(X86_DT_CALL32))

#define LAR_MASK 0x00ffff00u

#define APIC_BASE_ENABLE BIT(11)
#define CPUID_1_EDX_APIC BIT(9)
#define CPUID_1_ECX_OSXSAVE BIT(27)
#define CPUID_D_COMPACT (BIT(1) | BIT(3)) /* XSAVEC, XSAVES */
#define XSAVE_FIXED 576u                  /* the legacy area and the header */

#define RDPMC_COUNTERS_INTEL 2u
#define RDPMC_COUNTERS_AMD 4u

enum invpcid { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL, INVPCID_LOCAL };

static void
need_cpl0(struct x86_cpu *cpu)
{
	if (cpu->cpl != 0)
		x86_raise_gp(cpu);
}

/* Instructions that only protected mode knows. */
static void
need_protected(struct x86_cpu *cpu)
{
	if (!x86_protected(cpu))
		x86_raise(cpu, X86_UD);
}

static void
need_code64(struct x86_cpu *cpu)
{
	if (cpu->code != X86_CODE64)
		x86_raise(cpu, X86_UD);
}

static void
need_umip(struct x86_cpu *cpu)
{
	if ((cpu->cr4 & X86_CR4_UMIP) && cpu->cpl > 0)
		x86_raise_gp(cpu);
}

static uint64_t
advance(const struct x86_cpu *cpu, uint64_t lin, unsigned bytes)
{
	lin += bytes;
	return cpu->code == X86_CODE64 ? lin : (uint32_t)lin;
}

/* RDX:RAX */
static void
put_pair(struct x86_cpu *cpu, uint64_t value)
{
	cpu->gpr[CPU_RAX] = (uint32_t)value;
	cpu->gpr[CPU_RDX] = value >> 32;
}

static uint64_t
get_pair(const struct x86_cpu *cpu)
{
	return cpu->gpr[CPU_RDX] << 32 | (uint32_t)cpu->gpr[CPU_RAX];
}

static void
set_zf(struct x86_cpu *cpu, bool zf)
{
	cpu->rflags &= ~(uint64_t)X86_ZF;
	if (zf)
		cpu->rflags |= X86_ZF;
}

/* ---------------------------------------------------- segment registers */

static void
mov_to_seg(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	enum cpu_seg seg = (enum cpu_seg)insn->opnd[0].reg;

	if (seg == CPU_CS || seg > CPU_GS)
		x86_raise(cpu, X86_UD);
	x86_load_seg(cpu, seg, (uint16_t)x86_get(cpu, insn, 1));
	if (seg == CPU_SS)
		cpu->mov_ss_shadow = true;
}

static void
mov_from_seg(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned seg = insn->opnd[1].reg;

	if (seg > CPU_GS)
		x86_raise(cpu, X86_UD);
	x86_put(cpu, insn, 0, cpu->seg[seg].selector);
}

/* A far pointer in memory. */
static uint16_t
load_pointer(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t *off)
{
	uint64_t lin = x86_mem_linear(cpu, insn, insn->opsize + 2u, false);

	*off = x86_load(cpu, lin, insn->opsize);
	return (uint16_t)x86_load(cpu, advance(cpu, lin, insn->opsize), 2);
}

static void
load_far(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t off;
	uint16_t selector = load_pointer(cpu, insn, &off);

	x86_load_seg(cpu, (enum cpu_seg)insn->opnd[2].reg, selector);
	x86_put(cpu, insn, 0, off);
}

/* --------------------------------------------------------------- tables */

static void
load_table(struct x86_cpu *cpu, const struct x86_insn *insn,
    struct cpu_table *table)
{
	unsigned size = cpu->code == X86_CODE64 ? 8 : 4;
	uint64_t lin, base;
	uint16_t limit;

	need_cpl0(cpu);
	lin = x86_mem_linear(cpu, insn, 2 + size, false);
	limit = (uint16_t)x86_load(cpu, lin, 2);
	base = x86_load(cpu, advance(cpu, lin, 2), size);
	if (size == 8 && !x86_canonical(base))
		x86_raise_gp(cpu);
	if (size == 4 && insn->opsize == 2)
		base &= 0xffffff;
	table->base = base;
	table->limit = limit;
}

/* The whole base is stored even with a 16-bit operand. */
static void
store_table(struct x86_cpu *cpu, const struct x86_insn *insn,
    const struct cpu_table *table)
{
	unsigned size = cpu->code == X86_CODE64 ? 8 : 4;
	uint64_t lin;

	need_umip(cpu);
	lin = x86_mem_linear(cpu, insn, 2 + size, true);
	x86_check_aligned(cpu, lin + 2, 4);
	x86_probe(cpu, lin, 2 + size, true);
	x86_store(cpu, lin, 2, table->limit);
	x86_store_bytes(cpu, advance(cpu, lin, 2), &table->base, size);
}

static void
store_selector(struct x86_cpu *cpu, const struct x86_insn *insn,
    enum cpu_seg seg)
{
	need_protected(cpu);
	need_umip(cpu);
	x86_put(cpu, insn, 0, cpu->seg[seg].selector);
}

static void
lldt(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	need_protected(cpu);
	need_cpl0(cpu);
	x86_load_ldt(cpu, (uint16_t)x86_get(cpu, insn, 0), X86_GP);
}

static void
ltr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	bool lm = x86_long_mode(cpu);
	uint16_t selector;
	struct x86_desc d;
	struct cpu_segment tr;
	uint32_t type;

	need_protected(cpu);
	need_cpl0(cpu);
	selector = (uint16_t)x86_get(cpu, insn, 0);
	if (x86_is_null(selector))
		x86_raise_gp(cpu);
	if (selector & 4)
		x86_raise_selector(cpu, X86_GP, selector);
	x86_desc_need(cpu, selector, X86_GP, &d);
	type = d.access & (X86_SEG_S | X86_SEG_TYPE);
	if (type != X86_DT_TSS32 && (lm || type != X86_DT_TSS16))
		x86_raise_selector(cpu, X86_GP, selector);
	if (!(d.access & X86_SEG_P))
		x86_raise_selector(cpu, X86_NP, selector);
	if (lm && !x86_desc_rest(cpu, selector, &d))
		x86_raise_selector(cpu, X86_GP, selector);
	tr = x86_desc_segment(&d, selector);
	if (lm && !x86_canonical(tr.base))
		x86_raise_selector(cpu, X86_GP, selector);
	x86_desc_mark(cpu, &d, X86_DT_BUSY);
	tr.access |= X86_DT_BUSY;
	cpu->seg[CPU_TR] = tr;
}

/* ----------------------------------------------------- checking pointers */

/* A descriptor that CPL and RPL may see. */
static bool
see(struct x86_cpu *cpu, uint16_t selector, struct x86_desc *d)
{
	if (x86_is_null(selector) || !x86_desc_find(cpu, selector, d))
		return false;
	if (x86_is_code(d->access) && x86_is_conforming(d->access))
		return true;
	return MAX(cpu->cpl, selector & 3u) <= X86_SEG_DPL(d->access);
}

static bool
see_type(struct x86_cpu *cpu, uint16_t selector, uint64_t types,
    struct x86_desc *d)
{
	if (!see(cpu, selector, d))
		return false;
	if (x86_long_mode(cpu))
		types &= LONG_TYPES;
	return (d->access & X86_SEG_S) ||
	    (types & BIT(d->access & X86_SEG_TYPE));
}

static void
lar(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	struct x86_desc d;
	bool ok;

	need_protected(cpu);
	ok = see_type(cpu, (uint16_t)x86_get(cpu, insn, 1), LAR_TYPES, &d);
	if (ok)
		x86_put(cpu, insn, 0, (d.low >> 32) & LAR_MASK);
	set_zf(cpu, ok);
}

static void
lsl(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	struct x86_desc d;
	bool ok;

	need_protected(cpu);
	ok = see_type(cpu, (uint16_t)x86_get(cpu, insn, 1), LSL_TYPES, &d);
	if (ok)
		x86_put(cpu, insn, 0, x86_desc_segment(&d, 0).limit);
	set_zf(cpu, ok);
}

static void
verify(struct x86_cpu *cpu, const struct x86_insn *insn, bool write)
{
	struct x86_desc d;
	bool ok;

	need_protected(cpu);
	ok = see(cpu, (uint16_t)x86_get(cpu, insn, 0), &d) &&
	    (d.access & X86_SEG_S);
	if (ok && write)
		ok = x86_is_stack(d.access);
	else if (ok && x86_is_code(d.access))
		ok = d.access & X86_SEG_RW;
	set_zf(cpu, ok);
}

static void
arpl(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t to, from;
	bool raise;

	need_protected(cpu);
	to = x86_get(cpu, insn, 0);
	from = x86_get(cpu, insn, 1);
	raise = (to & 3) < (from & 3);
	if (raise)
		x86_put(cpu, insn, 0, (to & ~3ULL) | (from & 3));
	set_zf(cpu, raise);
}

/* ---------------------------------------------------- control registers */

static void
lmsw(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t low = X86_CR0_MP | X86_CR0_EM | X86_CR0_TS;
	uint64_t value;

	need_cpl0(cpu);
	value = x86_get(cpu, insn, 0);
	/* PE can be set this way, not cleared. */
	x86_set_cr0(cpu, (cpu->cr0 & ~low) | (value & (low | X86_CR0_PE)));
}

static void
smsw(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	need_umip(cpu);
	x86_put(cpu, insn, 0, cpu->cr0);
}

static void
xgetbv(struct x86_cpu *cpu)
{
	uint32_t index = (uint32_t)cpu->gpr[CPU_RCX];

	if (!(cpu->cr4 & X86_CR4_OSXSAVE))
		x86_raise(cpu, X86_UD);
	/* 1: what is in use of it; all, as far as anybody can tell. */
	if (index > 1 ||
	    (index == 1 && !(cpuid_read(&cpu->cpuid, 0xd, 1).eax & BIT(2))))
		x86_raise_gp(cpu);
	put_pair(cpu, cpu->xcr0);
}

static void
xsetbv(struct x86_cpu *cpu)
{
	if (!(cpu->cr4 & X86_CR4_OSXSAVE))
		x86_raise(cpu, X86_UD);
	need_cpl0(cpu);
	x86_set_xcr0(cpu, (uint32_t)cpu->gpr[CPU_RCX], get_pair(cpu));
}

/* ---------------------------------------------------------- translations */

static void
invlpg(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t lin = x86_ea(cpu, insn);

	need_cpl0(cpu);
	if (cpu->code != X86_CODE64)
		lin = (uint32_t)(lin + cpu->seg[insn->seg].base);
	else if (insn->seg == CPU_FS || insn->seg == CPU_GS)
		lin += cpu->seg[insn->seg].base;
	if (x86_canonical(lin))
		x86_tlb_flush_page(cpu, lin);
}

/* Translations have no PCID here: those of all contexts go. */
static void
invpcid(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t type, lin, pcid, addr;

	need_cpl0(cpu);
	type = x86_get(cpu, insn, 0);
	lin = x86_mem_linear(cpu, insn, 16, false);
	pcid = x86_load(cpu, lin, 8);
	addr = x86_load(cpu, advance(cpu, lin, 8), 8);
	if (type > INVPCID_LOCAL || (pcid >> 12) ||
	    (type <= INVPCID_CONTEXT && pcid != 0 &&
		!(cpu->cr4 & X86_CR4_PCIDE)) ||
	    (type == INVPCID_ADDRESS && !x86_canonical(addr)))
		x86_raise_gp(cpu);
	if (type == INVPCID_ADDRESS)
		x86_tlb_flush_page(cpu, addr);
	else
		x86_tlb_flush(cpu, type == INVPCID_ALL);
}

/* ------------------------------------------------------- interrupt flag */

/* Does CLI or STI work on VIF?  PVI at CPL 3, VME in virtual-8086 mode. */
static bool
virtual_interrupts(const struct x86_cpu *cpu)
{
	if (x86_v86(cpu))
		return cpu->cr4 & X86_CR4_VME;
	return (cpu->cr4 & X86_CR4_PVI) && cpu->cpl == 3;
}

static void
cli(struct x86_cpu *cpu)
{
	if (cpu->cpl <= x86_iopl(cpu))
		cpu->rflags &= ~(uint64_t)X86_IF;
	else if (virtual_interrupts(cpu))
		cpu->rflags &= ~(uint64_t)X86_VIF;
	else
		x86_raise_gp(cpu);
}

static void
sti(struct x86_cpu *cpu)
{
	if (cpu->cpl <= x86_iopl(cpu)) {
		if (!(cpu->rflags & X86_IF))
			cpu->sti_shadow = true;
		cpu->rflags |= X86_IF;
	} else if (virtual_interrupts(cpu) && !(cpu->rflags & X86_VIP)) {
		cpu->rflags |= X86_VIF;
	} else {
		x86_raise_gp(cpu);
	}
}

static void
set_ac(struct x86_cpu *cpu, bool on)
{
	if (cpu->cpl != 0)
		x86_raise(cpu, X86_UD);
	cpu->rflags &= ~(uint64_t)X86_AC;
	if (on)
		cpu->rflags |= X86_AC;
	x86_cpu_mode(cpu);
}

static void
hlt(struct x86_cpu *cpu)
{
	need_cpl0(cpu);
	cpu->halted = true;
}

/* ----------------------------------------------- what the processor says */

/* XSAVE's area for the components that are on, in standard or compact form. */
static uint32_t
xsave_area(const struct x86_cpu *cpu, bool compact)
{
	uint32_t size = XSAVE_FIXED;

	for (unsigned i = 2; i < 63; i++) {
		struct cpuid_leaf l;

		if (!(cpu->xcr0 & BIT(i)))
			continue;
		l = cpuid_read(&cpu->cpuid, 0xd, i);
		if (!compact)
			size = MAX(size, l.ebx + l.eax);
		else if (l.ecx & BIT(1)) /* aligned */
			size = ((size + 63) & ~63u) + l.eax;
		else
			size += l.eax;
	}
	return size;
}

static void
cpuid(struct x86_cpu *cpu)
{
	uint32_t leaf = (uint32_t)cpu->gpr[CPU_RAX];
	uint32_t subleaf = (uint32_t)cpu->gpr[CPU_RCX];
	struct cpuid_leaf l = cpuid_read(&cpu->cpuid, leaf, subleaf);

	switch (l.leaf) {
	case 1:
		if (cpu->cr4 & X86_CR4_OSXSAVE)
			l.ecx |= (uint32_t)CPUID_1_ECX_OSXSAVE;
		/* fall through */
	case 0x80000001:
		/* In the extended leaf only AMD has the bit. */
		if (!(lapic_base(cpu->lapic) & APIC_BASE_ENABLE))
			l.edx &= ~(uint32_t)CPUID_1_EDX_APIC;
		break;
	case 0xd:
		if (subleaf == 0 && l.eax != 0)
			l.ebx = xsave_area(cpu, false);
		else if (subleaf == 1 && (l.eax & CPUID_D_COMPACT))
			l.ebx = xsave_area(cpu, true);
		break;
	default:
		break;
	}
	cpu->gpr[CPU_RAX] = l.eax;
	cpu->gpr[CPU_RBX] = l.ebx;
	cpu->gpr[CPU_RCX] = l.ecx;
	cpu->gpr[CPU_RDX] = l.edx;
}

static void
rdtsc(struct x86_cpu *cpu, bool aux)
{
	if ((cpu->cr4 & X86_CR4_TSD) && cpu->cpl != 0)
		x86_raise_gp(cpu);
	put_pair(cpu, cpu->host->tsc(cpu));
	if (aux)
		cpu->gpr[CPU_RCX] = (uint32_t)cpu->tsc_aux;
}

static void
rdpmc(struct x86_cpu *cpu)
{
	unsigned counters = cpu->msr.vendor == CPUID_AMD ? RDPMC_COUNTERS_AMD :
							   RDPMC_COUNTERS_INTEL;

	if ((!(cpu->cr4 & X86_CR4_PCE) && cpu->cpl != 0) ||
	    (uint32_t)cpu->gpr[CPU_RCX] >= counters)
		x86_raise_gp(cpu);
	put_pair(cpu, 0);
}

static void
rdmsr(struct x86_cpu *cpu)
{
	need_cpl0(cpu);
	put_pair(cpu, x86_rdmsr(cpu, (uint32_t)cpu->gpr[CPU_RCX]));
}

static void
wrmsr(struct x86_cpu *cpu)
{
	need_cpl0(cpu);
	x86_wrmsr(cpu, (uint32_t)cpu->gpr[CPU_RCX], get_pair(cpu));
}

/* ------------------------------------------------------- FS and GS bases */

static void
swapgs(struct x86_cpu *cpu)
{
	uint64_t base = cpu->seg[CPU_GS].base;

	need_code64(cpu);
	need_cpl0(cpu);
	cpu->seg[CPU_GS].base = cpu->kernel_gs_base;
	cpu->kernel_gs_base = base;
}

static void
need_fsgsbase(struct x86_cpu *cpu)
{
	need_code64(cpu);
	if (!(cpu->cr4 & X86_CR4_FSGSBASE))
		x86_raise(cpu, X86_UD);
}

static void
rdbase(struct x86_cpu *cpu, const struct x86_insn *insn, enum cpu_seg seg)
{
	need_fsgsbase(cpu);
	x86_put(cpu, insn, 0, cpu->seg[seg].base);
}

static void
wrbase(struct x86_cpu *cpu, const struct x86_insn *insn, enum cpu_seg seg)
{
	uint64_t base;

	need_fsgsbase(cpu);
	base = x86_get(cpu, insn, 0);
	if (!x86_canonical(base))
		x86_raise_gp(cpu);
	cpu->seg[seg].base = base;
}

/* ------------------------------------------------------------- dispatch */

/* Control transfer and interrupts. */
static bool
exec_transfer(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t off;
	uint16_t selector;

	switch (insn->op->id) {
	case X86_OP_JMP_FAR:
		x86_jmp_far(cpu, insn->imm2, insn->imm, insn->opsize);
		return true;
	case X86_OP_JMP_FAR_IND:
		selector = load_pointer(cpu, insn, &off);
		x86_jmp_far(cpu, selector, off, insn->opsize);
		return true;
	case X86_OP_CALL_FAR:
		x86_call_far(cpu, insn->imm2, insn->imm, insn->opsize);
		return true;
	case X86_OP_CALL_FAR_IND:
		selector = load_pointer(cpu, insn, &off);
		x86_call_far(cpu, selector, off, insn->opsize);
		return true;
	case X86_OP_RET_FAR:
		x86_ret_far(cpu, insn->opsize, insn->imm & 0xffff);
		return true;
	case X86_OP_INT3:
		x86_soft_interrupt(cpu, X86_BP, true);
		return true;
	case X86_OP_INT1:
		x86_soft_interrupt(cpu, X86_DB, true);
		return true;
	case X86_OP_INT:
		x86_soft_interrupt(cpu, insn->imm & 0xff, false);
		return true;
	case X86_OP_INTO:
		if (cpu->rflags & X86_OF)
			x86_soft_interrupt(cpu, X86_OFV, true);
		return true;
	case X86_OP_IRET:
		x86_iret(cpu, insn->opsize);
		return true;
	case X86_OP_SYSCALL:
		x86_syscall(cpu);
		return true;
	case X86_OP_SYSRET:
		x86_sysret(cpu, insn->opsize);
		return true;
	case X86_OP_SYSENTER:
		x86_sysenter(cpu);
		return true;
	case X86_OP_SYSEXIT:
		x86_sysexit(cpu, insn->opsize);
		return true;
	default:
		return false;
	}
}

/* Segments, tables, pointers. */
static bool
exec_segments(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	switch (insn->op->id) {
	case X86_OP_MOV_FROM_SEG:
		mov_from_seg(cpu, insn);
		return true;
	case X86_OP_MOV_TO_SEG:
		mov_to_seg(cpu, insn);
		return true;
	case X86_OP_LOAD_FAR:
		load_far(cpu, insn);
		return true;
	case X86_OP_LGDT:
		load_table(cpu, insn, &cpu->gdtr);
		return true;
	case X86_OP_LIDT:
		load_table(cpu, insn, &cpu->idtr);
		return true;
	case X86_OP_SGDT:
		store_table(cpu, insn, &cpu->gdtr);
		return true;
	case X86_OP_SIDT:
		store_table(cpu, insn, &cpu->idtr);
		return true;
	case X86_OP_LLDT:
		lldt(cpu, insn);
		return true;
	case X86_OP_SLDT:
		store_selector(cpu, insn, CPU_LDTR);
		return true;
	case X86_OP_LTR:
		ltr(cpu, insn);
		return true;
	case X86_OP_STR:
		store_selector(cpu, insn, CPU_TR);
		return true;
	case X86_OP_ARPL:
		arpl(cpu, insn);
		return true;
	case X86_OP_LAR:
		lar(cpu, insn);
		return true;
	case X86_OP_LSL:
		lsl(cpu, insn);
		return true;
	case X86_OP_VERR:
		verify(cpu, insn, false);
		return true;
	case X86_OP_VERW:
		verify(cpu, insn, true);
		return true;
	case X86_OP_SWAPGS:
		swapgs(cpu);
		return true;
	case X86_OP_RDFSBASE:
		rdbase(cpu, insn, CPU_FS);
		return true;
	case X86_OP_RDGSBASE:
		rdbase(cpu, insn, CPU_GS);
		return true;
	case X86_OP_WRFSBASE:
		wrbase(cpu, insn, CPU_FS);
		return true;
	case X86_OP_WRGSBASE:
		wrbase(cpu, insn, CPU_GS);
		return true;
	default:
		return false;
	}
}

/* Control registers, flags, ports, and what the processor says of itself. */
static bool
exec_control(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	switch (insn->op->id) {
	case X86_OP_MOV_FROM_CR:
		x86_get_cr(cpu, insn);
		return true;
	case X86_OP_MOV_TO_CR:
		x86_set_cr(cpu, insn);
		return true;
	case X86_OP_MOV_FROM_DR:
		x86_get_dr(cpu, insn);
		return true;
	case X86_OP_MOV_TO_DR:
		x86_set_dr(cpu, insn);
		return true;
	case X86_OP_LMSW:
		lmsw(cpu, insn);
		return true;
	case X86_OP_SMSW:
		smsw(cpu, insn);
		return true;
	case X86_OP_CLTS:
		need_cpl0(cpu);
		cpu->cr0 &= ~(uint64_t)X86_CR0_TS;
		return true;
	case X86_OP_XGETBV:
		xgetbv(cpu);
		return true;
	case X86_OP_XSETBV:
		xsetbv(cpu);
		return true;
	case X86_OP_INVLPG:
		invlpg(cpu, insn);
		return true;
	case X86_OP_INVPCID:
		invpcid(cpu, insn);
		return true;
	case X86_OP_INVD:
	case X86_OP_WBINVD:
		need_cpl0(cpu); /* caches are the host's affair */
		return true;
	case X86_OP_HLT:
		hlt(cpu);
		return true;
	case X86_OP_CLI:
		cli(cpu);
		return true;
	case X86_OP_STI:
		sti(cpu);
		return true;
	case X86_OP_CLAC:
		set_ac(cpu, false);
		return true;
	case X86_OP_STAC:
		set_ac(cpu, true);
		return true;
	case X86_OP_IN:
		x86_in(cpu, insn);
		return true;
	case X86_OP_OUT:
		x86_out(cpu, insn);
		return true;
	case X86_OP_INS:
		x86_ins(cpu, insn);
		return true;
	case X86_OP_OUTS:
		x86_outs(cpu, insn);
		return true;
	case X86_OP_RDMSR:
		rdmsr(cpu);
		return true;
	case X86_OP_WRMSR:
		wrmsr(cpu);
		return true;
	case X86_OP_RDTSC:
		rdtsc(cpu, false);
		return true;
	case X86_OP_RDTSCP:
		rdtsc(cpu, true);
		return true;
	case X86_OP_RDPMC:
		rdpmc(cpu);
		return true;
	case X86_OP_RDPID:
		x86_put(cpu, insn, 0, cpu->tsc_aux);
		return true;
	case X86_OP_CPUID:
		cpuid(cpu);
		return true;
	default:
		return false;
	}
}

void
x86_exec_system(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	if (!exec_transfer(cpu, insn) && !exec_segments(cpu, insn) &&
	    !exec_control(cpu, insn))
		x86_raise(cpu, X86_UD);
}
