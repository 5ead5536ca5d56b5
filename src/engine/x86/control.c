/*
 * Control and debug registers, EFER, XCR0: what may be written, and what it
 * turns into.
 *
 * Models       Intel SDM volume 3, 2.5, 2.6, 4.10.4 (invalidation), 9.8.5
 *              (entering IA-32e mode), 17.2; volume 2, MOV CRn, MOV DRn.
 * Differences  A write of CR3 with bit 63 set (PCIDs, keep translations)
 *              forgets them all the same: translations have no PCID here.
 *              Reserved bits of CR4 are those whose feature the guest's CPUID
 *              does not show.
 */
#include "engine/x86/lapic.h"
#include "engine/x86/system_impl.h"

#define CR0_BITS                                                          \
	(X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_NE | \
	    X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
#define CR3_NO_FLUSH BIT(63)
#define CR3_PCID 0xfffu

/* Changes of these bits change what addresses mean. */
#define CR0_TRANSLATION (X86_CR0_PE | X86_CR0_PG | X86_CR0_WP)
#define CR4_TRANSLATION                                            \
	(X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PCIDE | \
	    X86_CR4_SMEP | X86_CR4_SMAP)
/* Changes of these load the PDPTEs of PAE paging. */
#define CR0_PDPTE (X86_CR0_CD | X86_CR0_NW | X86_CR0_PG)
#define CR4_PDPTE (X86_CR4_PAE | X86_CR4_PGE | X86_CR4_PSE | X86_CR4_SMEP)

#define DR6_BITS 0xe00fu
#define DR7_BITS 0xffff23ffu

/* CPUID leaf and bit behind each bit of CR4. */
enum cr4_source { CR4_ALWAYS, CR4_1_ECX, CR4_1_EDX, CR4_7_EBX, CR4_7_ECX };
static const struct {
	uint32_t cr4;
	uint8_t source; /* enum cr4_source */
	uint8_t bit;
} cr4_bits[] = {
	{ X86_CR4_VME | X86_CR4_PVI, CR4_1_EDX, 1 },
	{ X86_CR4_TSD, CR4_1_EDX, 4 },
	{ X86_CR4_DE, CR4_1_EDX, 2 },
	{ X86_CR4_PSE, CR4_1_EDX, 3 },
	{ X86_CR4_PAE, CR4_1_EDX, 6 },
	{ X86_CR4_MCE, CR4_1_EDX, 7 },
	{ X86_CR4_PGE, CR4_1_EDX, 13 },
	{ X86_CR4_PCE, CR4_ALWAYS, 0 },
	{ X86_CR4_OSFXSR, CR4_1_EDX, 24 },
	{ X86_CR4_OSXMMEXCPT, CR4_1_EDX, 25 },
	{ X86_CR4_UMIP, CR4_7_ECX, 2 },
	{ X86_CR4_FSGSBASE, CR4_7_EBX, 0 },
	{ X86_CR4_PCIDE, CR4_1_ECX, 17 },
	{ X86_CR4_OSXSAVE, CR4_1_ECX, 26 },
	{ X86_CR4_SMEP, CR4_7_EBX, 7 },
	{ X86_CR4_SMAP, CR4_7_EBX, 20 },
};

static uint64_t
cr4_allowed(const struct x86_cpu *cpu)
{
	struct cpuid_leaf l1 = cpuid_read(&cpu->cpuid, 1, 0);
	struct cpuid_leaf l7 = cpuid_read(&cpu->cpuid, 7, 0);
	const uint32_t regs[] = {
		[CR4_ALWAYS] = 1,
		[CR4_1_ECX] = l1.ecx,
		[CR4_1_EDX] = l1.edx,
		[CR4_7_EBX] = l7.leaf == 7 ? l7.ebx : 0,
		[CR4_7_ECX] = l7.leaf == 7 ? l7.ecx : 0,
	};
	uint64_t allowed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cr4_bits); i++) {
		if (regs[cr4_bits[i].source] & BIT(cr4_bits[i].bit))
			allowed |= cr4_bits[i].cr4;
	}
	return allowed;
}

/* Paging with PDPTEs, in a state that is about to be. */
static bool
pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & X86_CR0_PG) && (cr4 & X86_CR4_PAE) &&
	    !(efer & X86_EFER_LME);
}

static void
set_pdptes(struct x86_cpu *cpu, const uint64_t pdpte[4])
{
	for (unsigned i = 0; i < 4; i++)
		cpu->pdpte[i] = pdpte[i];
}

/* SDM volume 3, 9.8.5: what IA-32e mode asks of the rest. */
static void
check_enter_long(struct x86_cpu *cpu)
{
	uint32_t tr = cpu->seg[CPU_TR].access;

	if (!(cpu->cr4 & X86_CR4_PAE) ||
	    (cpu->seg[CPU_CS].access & X86_SEG_L) || !(tr & X86_DT_WIDE))
		x86_raise_gp(cpu);
}

void
x86_set_cr0(struct x86_cpu *cpu, uint64_t value)
{
	uint64_t cr0 = (value & CR0_BITS) | X86_CR0_ET;
	uint64_t changed = cr0 ^ cpu->cr0;
	uint64_t efer = cpu->efer;
	uint64_t pdpte[4];
	bool load;

	if ((value >> 32) || ((cr0 & X86_CR0_PG) && !(cr0 & X86_CR0_PE)) ||
	    ((cr0 & X86_CR0_NW) && !(cr0 & X86_CR0_CD)))
		x86_raise_gp(cpu);
	if ((changed & X86_CR0_PG) && (efer & X86_EFER_LME)) {
		if (cr0 & X86_CR0_PG) {
			check_enter_long(cpu);
			efer |= X86_EFER_LMA;
		} else {
			if (cpu->code == X86_CODE64)
				x86_raise_gp(cpu);
			efer &= ~(uint64_t)X86_EFER_LMA;
		}
	}
	if ((changed & X86_CR0_PG) && (cpu->cr4 & X86_CR4_PCIDE))
		x86_raise_gp(cpu);
	load = (changed & CR0_PDPTE) && pae_paging(cr0, cpu->cr4, efer);
	if (load && !x86_load_pdptes(cpu, cpu->cr3, pdpte))
		x86_raise_gp(cpu);
	if (load)
		set_pdptes(cpu, pdpte);
	cpu->cr0 = cr0;
	cpu->efer = efer;
	if (changed & X86_CR0_PE)
		cpu->cpl = 0;
	if (changed & CR0_TRANSLATION)
		x86_tlb_flush(cpu, true);
	x86_cpu_mode(cpu);
}

void
x86_set_cr3(struct x86_cpu *cpu, uint64_t value)
{
	uint64_t pdpte[4];

	if (cpu->cr4 & X86_CR4_PCIDE)
		value &= ~CR3_NO_FLUSH;
	if (value & ~(BIT(cpu->phys_bits) - 1))
		x86_raise_gp(cpu);
	if (pae_paging(cpu->cr0, cpu->cr4, cpu->efer)) {
		if (!x86_load_pdptes(cpu, value, pdpte))
			x86_raise_gp(cpu);
		set_pdptes(cpu, pdpte);
	}
	cpu->cr3 = value;
	x86_tlb_flush(cpu, false);
}

void
x86_set_cr4(struct x86_cpu *cpu, uint64_t value)
{
	uint64_t changed = value ^ cpu->cr4;
	uint64_t pdpte[4];
	bool load;

	if (value & ~cr4_allowed(cpu))
		x86_raise_gp(cpu);
	if (x86_long_mode(cpu) && !(value & X86_CR4_PAE))
		x86_raise_gp(cpu);
	if ((changed & value & X86_CR4_PCIDE) &&
	    (!x86_long_mode(cpu) || (cpu->cr3 & CR3_PCID)))
		x86_raise_gp(cpu);
	load = (changed & CR4_PDPTE) && pae_paging(cpu->cr0, value, cpu->efer);
	if (load && !x86_load_pdptes(cpu, cpu->cr3, pdpte))
		x86_raise_gp(cpu);
	if (load)
		set_pdptes(cpu, pdpte);
	cpu->cr4 = value;
	if (changed & CR4_TRANSLATION)
		x86_tlb_flush(cpu, true);
	x86_cpu_mode(cpu);
}

void
x86_set_efer(struct x86_cpu *cpu, uint64_t value)
{
	struct cpuid_leaf ext = cpuid_read(&cpu->cpuid, 0x80000001, 0);
	uint64_t allowed = X86_EFER_LMA; /* read-only, writes do not matter */
	uint64_t changed;

	if (x86_has(cpu, X86_F_SYSCALL))
		allowed |= X86_EFER_SCE;
	if (x86_has(cpu, X86_F_LM))
		allowed |= X86_EFER_LME;
	if (ext.leaf == 0x80000001 && (ext.edx & BIT(20)))
		allowed |= X86_EFER_NXE;
	if (value & ~allowed)
		x86_raise_gp(cpu);
	value = (value & ~(uint64_t)X86_EFER_LMA) | (cpu->efer & X86_EFER_LMA);
	changed = value ^ cpu->efer;
	if ((changed & X86_EFER_LME) && (cpu->cr0 & X86_CR0_PG))
		x86_raise_gp(cpu);
	cpu->efer = value;
	if (changed & X86_EFER_NXE)
		x86_tlb_flush(cpu, true);
	x86_cpu_mode(cpu);
}

/* XSETBV: SDM volume 1, 13.3. */
void
x86_set_xcr0(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
	uint64_t avx512 = value & X86_XCR0_AVX512;

	if (index != 0 || !(value & X86_XCR0_X87) ||
	    (value & ~cpu->xcr0_allowed) ||
	    ((value & X86_XCR0_AVX) && !(value & X86_XCR0_SSE)) ||
	    (avx512 != 0 &&
		(avx512 != X86_XCR0_AVX512 || !(value & X86_XCR0_AVX))))
		x86_raise_gp(cpu);
	cpu->xcr0 = value;
}

/* ------------------------------------------------------------- MOV CRn */

void
x86_get_cr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t value;

	switch (insn->opnd[1].reg) {
	case 0:
		value = cpu->cr0;
		break;
	case 2:
		value = cpu->cr2;
		break;
	case 3:
		value = cpu->cr3;
		break;
	case 4:
		value = cpu->cr4;
		break;
	case 8:
		value = lapic_get_cr8(cpu->lapic);
		break;
	default:
		x86_raise(cpu, X86_UD);
	}
	if (cpu->cpl != 0)
		x86_raise_gp(cpu);
	x86_put(cpu, insn, 0, value);
}

void
x86_set_cr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned cr = insn->opnd[0].reg;
	uint64_t value = x86_get(cpu, insn, 1);

	if (cr > 8 || !(BIT(cr) & (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(8))))
		x86_raise(cpu, X86_UD);
	if (cpu->cpl != 0)
		x86_raise_gp(cpu);
	switch (cr) {
	case 0:
		x86_set_cr0(cpu, value);
		break;
	case 2:
		cpu->cr2 = value;
		break;
	case 3:
		x86_set_cr3(cpu, value);
		break;
	case 4:
		x86_set_cr4(cpu, value);
		break;
	default:
		if (value > 15)
			x86_raise_gp(cpu);
		lapic_set_cr8(cpu->lapic, (unsigned)value);
		break;
	}
}

/* ------------------------------------------------------------- MOV DRn */

/* The register meant: 0 to 3, 6 or 7. */
static unsigned
debug_register(struct x86_cpu *cpu, unsigned dr)
{
	if (cpu->cpl != 0)
		x86_raise_gp(cpu);
	if (dr > 7)
		x86_raise(cpu, X86_UD);
	if (dr == 4 || dr == 5) {
		if (cpu->cr4 & X86_CR4_DE)
			x86_raise(cpu, X86_UD);
		dr += 2;
	}
	if (cpu->dr7 & X86_DR7_GD) {
		cpu->dr6 |= X86_DR6_BD; /* part of the exception */
		x86_raise(cpu, X86_DB);
	}
	return dr;
}

void
x86_get_dr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned dr = debug_register(cpu, insn->opnd[1].reg);
	uint64_t value = dr < 4 ? cpu->dr[dr] : dr == 6 ? cpu->dr6 : cpu->dr7;

	x86_put(cpu, insn, 0, value);
}

void
x86_set_dr(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned dr = debug_register(cpu, insn->opnd[0].reg);
	uint64_t value = x86_get(cpu, insn, 1);

	if (dr < 4) {
		cpu->dr[dr] = value;
		return;
	}
	if (value >> 32)
		x86_raise_gp(cpu);
	if (dr == 6)
		cpu->dr6 = (value & DR6_BITS) | X86_DR6_FIXED;
	else
		cpu->dr7 = (value & DR7_BITS) | X86_DR7_FIXED;
}
