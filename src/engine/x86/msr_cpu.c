/*
 * The MSRs that this processor has; all others are msr.h's.
 *
 * Models       Intel SDM volume 4 and volume 3, 11.11 (MTRRs), 11.12 (PAT),
 *              17.17 (TSC); AMD APM volume 2, appendix A.
 * Vendors      AMD ignores bits 63-32 of SFMASK and TSC_AUX, Intel refuses
 *              them.  MISC_ENABLE is Intel's.
 * MTRRs        are stored, checked as the SDM says, and have no effect: all
 *              guest memory is ordinary memory.
 */
#include "engine/x86/lapic.h"
#include "engine/x86/system_impl.h"

#define MSR_TSC 0x10u
#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_ADJUST 0x3bu
#define MSR_MTRRCAP 0xfeu
#define MSR_SYSENTER_CS 0x174u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_MISC_ENABLE 0x1a0u
#define MSR_MTRR_VAR 0x200u
#define MSR_MTRR_FIX64K 0x250u
#define MSR_MTRR_FIX16K 0x258u
#define MSR_MTRR_FIX4K 0x268u
#define MSR_PAT 0x277u
#define MSR_MTRR_DEF 0x2ffu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC 0x800u
#define MSR_X2APIC_COUNT 0x100u
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u

#define MTRR_PAIRS 10u
#define MTRRCAP (BIT(10) /* WC */ | BIT(8) /* fixed */ | MTRR_PAIRS)
#define MTRR_DEF_BITS (BIT(11) | BIT(10) | 0xff)
#define MTRR_MASK_VALID BIT(11)

#define MISC_ENABLE_XD_DISABLE BIT(34)

/* Memory types by their numbers: UC, WC, WT, WP, WB; and UC- of the PAT. */
#define TYPES_MTRR 0x73u
#define TYPES_PAT 0xf3u

static bool
valid_types(uint64_t value, unsigned types)
{
	for (unsigned i = 0; i < 8; i++) {
		unsigned type = (value >> (8 * i)) & 0xff;

		if (type > 7 || !(types & BIT(type)))
			return false;
	}
	return true;
}

/* Where a fixed-range MTRR is stored, or NULL. */
static uint64_t *
mtrr_fixed(struct x86_cpu *cpu, uint32_t index)
{
	if (index == MSR_MTRR_FIX64K)
		return &cpu->mtrr_fixed[0];
	if (index - MSR_MTRR_FIX16K < 2)
		return &cpu->mtrr_fixed[1 + index - MSR_MTRR_FIX16K];
	if (index - MSR_MTRR_FIX4K < 8)
		return &cpu->mtrr_fixed[3 + index - MSR_MTRR_FIX4K];
	return NULL;
}

static bool
is_lapic(uint32_t index)
{
	return index == MSR_APIC_BASE || index == MSR_TSC_DEADLINE ||
	    index - MSR_X2APIC < MSR_X2APIC_COUNT;
}

static bool
has_tsc_adjust(const struct x86_cpu *cpu)
{
	struct cpuid_leaf l7 = cpuid_read(&cpu->cpuid, 7, 0);

	return l7.leaf == 7 && (l7.ebx & BIT(1));
}

/*
 * Those that are plain storage: their place, or NULL, also for what this
 * guest's processor does not have.
 */
static uint64_t *
storage(struct x86_cpu *cpu, uint32_t index)
{
	bool lm = x86_has(cpu, X86_F_LM);

	switch (index) {
	case MSR_SYSENTER_CS:
		return &cpu->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &cpu->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &cpu->sysenter_eip;
	case MSR_MISC_ENABLE:
		return cpu->msr.vendor == CPUID_INTEL ? &cpu->misc_enable :
							NULL;
	case MSR_PAT:
		return &cpu->pat;
	case MSR_MTRR_DEF:
		return &cpu->mtrr_def;
	case MSR_STAR:
		return x86_has(cpu, X86_F_SYSCALL) ? &cpu->star : NULL;
	case MSR_LSTAR:
		return lm ? &cpu->lstar : NULL;
	case MSR_CSTAR:
		return lm ? &cpu->cstar : NULL;
	case MSR_SFMASK:
		return lm ? &cpu->sfmask : NULL;
	case MSR_FS_BASE:
		return lm ? &cpu->seg[CPU_FS].base : NULL;
	case MSR_GS_BASE:
		return lm ? &cpu->seg[CPU_GS].base : NULL;
	case MSR_KERNEL_GS_BASE:
		return lm ? &cpu->kernel_gs_base : NULL;
	case MSR_TSC_AUX:
		return x86_has(cpu, X86_F_RDTSCP) || x86_has(cpu, X86_F_RDPID) ?
		    &cpu->tsc_aux :
		    NULL;
	default:
		if (index - MSR_MTRR_VAR < 2 * MTRR_PAIRS)
			return &cpu->mtrr_var[index - MSR_MTRR_VAR];
		return mtrr_fixed(cpu, index);
	}
}

/* A value that the register refuses; bits that it does not have are cut. */
static bool
acceptable(const struct x86_cpu *cpu, uint32_t index, uint64_t *value)
{
	uint64_t beyond = ~(BIT(cpu->phys_bits) - 1);

	switch (index) {
	case MSR_SYSENTER_ESP:
	case MSR_SYSENTER_EIP:
	case MSR_LSTAR:
	case MSR_CSTAR:
	case MSR_FS_BASE:
	case MSR_GS_BASE:
	case MSR_KERNEL_GS_BASE:
		return x86_canonical(*value);
	case MSR_SYSENTER_CS:
		*value = (uint32_t)*value;
		return true;
	case MSR_SFMASK:
	case MSR_TSC_AUX:
		if (cpu->msr.vendor == CPUID_INTEL)
			return *value >> 32 == 0;
		*value = (uint32_t)*value;
		return true;
	case MSR_MISC_ENABLE:
		*value &= ~MISC_ENABLE_XD_DISABLE;
		return true;
	case MSR_PAT:
		return valid_types(*value, TYPES_PAT);
	case MSR_MTRR_DEF:
		return !(*value & ~MTRR_DEF_BITS) &&
		    valid_types(*value & 0xff, TYPES_MTRR);
	case MSR_STAR:
		return true;
	default:
		if (index - MSR_MTRR_VAR >= 2 * MTRR_PAIRS)
			return valid_types(*value, TYPES_MTRR); /* fixed */
		if (index & 1)                                  /* mask */
			return !(*value & (beyond | (MTRR_MASK_VALID - 1)));
		return !(*value & (beyond | 0xf00)) &&
		    valid_types(*value & 0xff, TYPES_MTRR);
	}
}

/* What is nobody's: by the machine's policy. */
static void
check_answer(struct x86_cpu *cpu, enum msr_answer answer)
{
	if (answer == MSR_FAULT || (answer == MSR_UNKNOWN && cpu->strict_msr))
		x86_raise_gp(cpu);
}

uint64_t
x86_rdmsr(struct x86_cpu *cpu, uint32_t index)
{
	const uint64_t *place = storage(cpu, index);
	uint64_t value = 0;

	if (place != NULL)
		return *place;
	if (is_lapic(index)) {
		if (!lapic_rdmsr(cpu->lapic, index, &value))
			x86_raise_gp(cpu);
		return value;
	}
	switch (index) {
	case MSR_TSC:
		return cpu->host->tsc(cpu);
	case MSR_TSC_ADJUST:
		if (has_tsc_adjust(cpu))
			return cpu->tsc_adjust;
		break;
	case MSR_MTRRCAP:
		return MTRRCAP;
	case MSR_EFER:
		return cpu->efer;
	default:
		break;
	}
	check_answer(cpu, msr_read(&cpu->msr, index, &value));
	return value;
}

/* The TSC and its adjustment move together: SDM volume 3, 17.17.3. */
static void
set_tsc(struct x86_cpu *cpu, uint64_t tsc, uint64_t was)
{
	cpu->host->set_tsc(cpu, tsc);
	cpu->tsc_adjust += tsc - was;
}

void
x86_wrmsr(struct x86_cpu *cpu, uint32_t index, uint64_t value)
{
	uint64_t *place = storage(cpu, index);
	uint64_t tsc;

	if (place != NULL) {
		if (!acceptable(cpu, index, &value))
			x86_raise_gp(cpu);
		*place = value;
		return;
	}
	if (is_lapic(index)) {
		if (!lapic_wrmsr(cpu->lapic, index, value))
			x86_raise_gp(cpu);
		return;
	}
	switch (index) {
	case MSR_TSC:
		set_tsc(cpu, value, cpu->host->tsc(cpu));
		return;
	case MSR_TSC_ADJUST:
		if (!has_tsc_adjust(cpu))
			break;
		tsc = cpu->host->tsc(cpu);
		set_tsc(cpu, tsc + value - cpu->tsc_adjust, tsc);
		return;
	case MSR_MTRRCAP:
		x86_raise_gp(cpu);
	case MSR_EFER:
		x86_set_efer(cpu, value);
		return;
	default:
		break;
	}
	check_answer(cpu, msr_write(&cpu->msr, index));
}
