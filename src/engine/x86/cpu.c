/*
 * A software processor: making it, its state in and out, raising exceptions.
 *
 * State        struct cpu_state has what all engines save; MSRs that this
 *              processor has are in msr_places.  Hidden parts of segments are
 *              kept in the form of struct cpu_segment, so saving loses nothing.
 *              CPL is the DPL of SS, as in a VMCS: real mode has 0, virtual-8086
 *              mode 3.
 * Vectors      live in the host's registers while guest code runs.  Around calls
 *              into other code they are put into cpu->xsave and the host's
 *              units are made as the C library expects them: round to nearest,
 *              exceptions masked, x87 stack empty, upper halves clear.
 * Features     come from the guest's own CPUID table, so that what is hidden
 *              there is #UD here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "engine/x86/cpu.h"
#include "engine/x86/mmu.h"

#define MSR_TSC 0x10u

#define XSAVE_LEGACY 512u
#define XSAVE_HEADER 64u
#define XSAVE_FOP 6u /* and FIP, FDP */
#define XSAVE_MXCSR 24u
#define XSAVE_MXCSR_MASK 28u
#define XSAVE_BV 512u
#define MXCSR_RESET 0x1f80u

/* MSRs that travel with a processor and are plain storage here. */
static const struct {
	uint32_t first;
	uint32_t count;
	size_t place;
} msr_places[] = {
	{ 0x174, 1, offsetof(struct x86_cpu, sysenter_cs) },
	{ 0x175, 1, offsetof(struct x86_cpu, sysenter_esp) },
	{ 0x176, 1, offsetof(struct x86_cpu, sysenter_eip) },
	{ 0x1a0, 1, offsetof(struct x86_cpu, misc_enable) },
	{ 0x200, 20, offsetof(struct x86_cpu, mtrr_var) },
	{ 0x250, 1, offsetof(struct x86_cpu, mtrr_fixed[0]) },
	{ 0x258, 2, offsetof(struct x86_cpu, mtrr_fixed[1]) },
	{ 0x268, 8, offsetof(struct x86_cpu, mtrr_fixed[3]) },
	{ 0x277, 1, offsetof(struct x86_cpu, pat) },
	{ 0x2ff, 1, offsetof(struct x86_cpu, mtrr_def) },
	{ 0xc0000081, 1, offsetof(struct x86_cpu, star) },
	{ 0xc0000082, 1, offsetof(struct x86_cpu, lstar) },
	{ 0xc0000083, 1, offsetof(struct x86_cpu, cstar) },
	{ 0xc0000084, 1, offsetof(struct x86_cpu, sfmask) },
	{ 0xc0000102, 1, offsetof(struct x86_cpu, kernel_gs_base) },
	{ 0xc0000103, 1, offsetof(struct x86_cpu, tsc_aux) },
};

/* ------------------------------------------------------------ features */

enum cpuid_reg { EAX, EBX, ECX, EDX };

static const struct {
	uint8_t feature;
	uint8_t reg;
	uint8_t bit;
	uint32_t leaf;
	uint32_t subleaf;
} feature_bits[] = {
	{ X86_F_FPU, EDX, 0, 1, 0 },
	{ X86_F_CX8, EDX, 8, 1, 0 },
	{ X86_F_SEP, EDX, 11, 1, 0 },
	{ X86_F_CMOV, EDX, 15, 1, 0 },
	{ X86_F_CLFSH, EDX, 19, 1, 0 },
	{ X86_F_MMX, EDX, 23, 1, 0 },
	{ X86_F_FXSR, EDX, 24, 1, 0 },
	{ X86_F_SSE, EDX, 25, 1, 0 },
	{ X86_F_SSE2, EDX, 26, 1, 0 },
	{ X86_F_SSE3, ECX, 0, 1, 0 },
	{ X86_F_PCLMUL, ECX, 1, 1, 0 },
	{ X86_F_SSSE3, ECX, 9, 1, 0 },
	{ X86_F_FMA, ECX, 12, 1, 0 },
	{ X86_F_CX16, ECX, 13, 1, 0 },
	{ X86_F_SSE41, ECX, 19, 1, 0 },
	{ X86_F_SSE42, ECX, 20, 1, 0 },
	{ X86_F_MOVBE, ECX, 22, 1, 0 },
	{ X86_F_POPCNT, ECX, 23, 1, 0 },
	{ X86_F_AES, ECX, 25, 1, 0 },
	{ X86_F_XSAVE, ECX, 26, 1, 0 },
	{ X86_F_AVX, ECX, 28, 1, 0 },
	{ X86_F_F16C, ECX, 29, 1, 0 },
	{ X86_F_RDRAND, ECX, 30, 1, 0 },
	{ X86_F_FSGSBASE, EBX, 0, 7, 0 },
	{ X86_F_BMI1, EBX, 3, 7, 0 },
	{ X86_F_AVX2, EBX, 5, 7, 0 },
	{ X86_F_BMI2, EBX, 8, 7, 0 },
	{ X86_F_INVPCID, EBX, 10, 7, 0 },
	{ X86_F_AVX512, EBX, 16, 7, 0 },
	{ X86_F_RDSEED, EBX, 18, 7, 0 },
	{ X86_F_ADX, EBX, 19, 7, 0 },
	{ X86_F_SMAP, EBX, 20, 7, 0 },
	{ X86_F_CLFLUSHOPT, EBX, 23, 7, 0 },
	{ X86_F_CLWB, EBX, 24, 7, 0 },
	{ X86_F_SHA, EBX, 29, 7, 0 },
	{ X86_F_GFNI, ECX, 8, 7, 0 },
	{ X86_F_VAES, ECX, 9, 7, 0 },
	{ X86_F_VPCLMUL, ECX, 10, 7, 0 },
	{ X86_F_RDPID, ECX, 22, 7, 0 },
	{ X86_F_MOVDIRI, ECX, 27, 7, 0 },
	{ X86_F_AVXVNNI, EAX, 4, 7, 1 },
	{ X86_F_XSAVEOPT, EAX, 0, 0xd, 1 },
	{ X86_F_XSAVEC, EAX, 1, 0xd, 1 },
	{ X86_F_XSAVES, EAX, 3, 0xd, 1 },
	{ X86_F_LAHF64, ECX, 0, 0x80000001, 0 },
	{ X86_F_LZCNT, ECX, 5, 0x80000001, 0 },
	{ X86_F_SSE4A, ECX, 6, 0x80000001, 0 },
	{ X86_F_PREFETCHW, ECX, 8, 0x80000001, 0 },
	{ X86_F_SYSCALL, EDX, 11, 0x80000001, 0 },
	{ X86_F_RDTSCP, EDX, 27, 0x80000001, 0 },
	{ X86_F_LM, EDX, 29, 0x80000001, 0 },
	{ X86_F_CLZERO, EBX, 0, 0x80000008, 0 },
};

static uint64_t
cpu_features(const struct cpuid_table *cpuid)
{
	uint64_t features = BIT(X86_F_BASE);

	for (size_t i = 0; i < ARRAY_SIZE(feature_bits); i++) {
		struct cpuid_leaf l = cpuid_read(cpuid, feature_bits[i].leaf,
		    feature_bits[i].subleaf);
		const uint32_t regs[] = { l.eax, l.ebx, l.ecx, l.edx };

		if (l.leaf == feature_bits[i].leaf &&
		    (regs[feature_bits[i].reg] & BIT(feature_bits[i].bit)))
			features |= BIT(feature_bits[i].feature);
	}
	return features;
}

/* ---------------------------------------------------------------- life */

/* SDM volume 1, 11.6.6: the bits that MXCSR has. */
static uint32_t
host_mxcsr_mask(void)
{
	_Alignas(16) uint8_t image[XSAVE_LEGACY] = { 0 };
	uint32_t mask;

	__asm__ volatile("fxsave64 %0" : "=m"(image));
	mask = le32_load(image + XSAVE_MXCSR_MASK);
	return mask != 0 ? mask : 0xffbf;
}

struct x86_cpu *
x86_cpu_new(unsigned id, const struct cpuid_table *cpuid,
    const struct msr_params *msr, bool strict_msr)
{
	struct cpuid_leaf sizes = cpuid_read(cpuid, 0x80000008, 0);
	size_t size = round_up(sizeof(struct x86_cpu), MEM_PAGE_SIZE);
	struct x86_cpu *cpu = aligned_alloc(MEM_PAGE_SIZE, size);

	if (cpu == NULL)
		abort(); /* as xcalloc() */
	memset(cpu, 0, size);
	cpu->id = id;
	cpu->cpuid = *cpuid;
	cpu->msr = *msr;
	cpu->strict_msr = strict_msr;
	cpu->features = cpu_features(cpuid);
	/* Without XSAVE there is no XCR0, but there is SSE. */
	cpu->xcr0_allowed = cpuid_xcr0(cpuid) | X86_XCR0_X87 | X86_XCR0_SSE;
	cpu->xsave_size = cpuid_xsave_size(cpuid);
	cpu->phys_bits = sizes.eax & 0xff ? MIN(sizes.eax & 0xff, 52u) : 36;
	cpu->pext_index = (uint64_t)(X86_TLB_SIZE - 1) * MEM_PAGE_SIZE;
	cpu->pext_page = ~(uint64_t)(MEM_PAGE_SIZE - 1);
	cpu->pext_jump = X86_JUMPS - 1;
	cpu->pext_no_if = ~X86_IF;
	cpu->pext_itlb = (uint64_t)(X86_ITLB_SIZE - 1) * MEM_PAGE_SIZE;
	cpu->pext_sign = 0x1fffe; /* bits 63 to 47, one added, but the last */
	cpu->host_mxcsr = MXCSR_RESET;
	cpu->mxcsr_mask = host_mxcsr_mask();
	for (unsigned i = 0; i < X86_TLB_LARGE; i++)
		cpu->tlb_large[i].first = UINT64_MAX;
	le16_store(cpu->xsave, 0x37f);
	le32_store(cpu->xsave + XSAVE_MXCSR, MXCSR_RESET);
	cpu->rflags = X86_FLAGS_FIXED;
	for (unsigned i = 0; i < X86_ITLB_SIZE; i++)
		cpu->itlb[i].tag = X86_ITLB_NONE;
	for (unsigned v = 0; v < X86_VIEWS; v++) {
		for (unsigned i = 0; i < X86_TLB_SIZE; i++)
			cpu->tlb[v].read[i] = cpu->tlb[v].write[i] =
			    x86_tlb_none(i);
	}
	return cpu;
}

void
x86_cpu_free(struct x86_cpu *cpu)
{
	free(cpu);
}

/* ------------------------------------------------------------ the mode */

void
x86_cpu_mode(struct x86_cpu *cpu)
{
	const struct cpu_segment *cs = &cpu->seg[CPU_CS];

	if (x86_long_mode(cpu) && (cs->access & X86_SEG_L))
		cpu->code = X86_CODE64;
	else if ((cs->access & X86_SEG_DB) && !x86_v86(cpu))
		cpu->code = X86_CODE32;
	else
		cpu->code = X86_CODE16;
	if (cpu->cpl == 3)
		cpu->view = X86_VIEW_USER;
	else if ((cpu->cr4 & X86_CR4_SMAP) && !(cpu->rflags & X86_AC))
		cpu->view = X86_VIEW_KERNEL;
	else
		cpu->view = X86_VIEW_KERNEL_AC;
	cpu->align_mask =
	    cpu->cpl == 3 && (cpu->cr0 & X86_CR0_AM) && (cpu->rflags & X86_AC) ?
	    UINT32_MAX :
	    0;
}

/* ------------------------------------------------------- vector state */

void
x86_fpu_put(struct x86_cpu *cpu)
{
	if (!cpu->fpu_live)
		return;
	__asm__ volatile("xsave64 %0"
			 : "+m"(cpu->xsave)
			 : "a"((uint32_t)cpu->xcr0_allowed),
			 "d"((uint32_t)(cpu->xcr0_allowed >> 32))
			 : "memory");
	__asm__ volatile("fninit; ldmxcsr %0" : : "m"(cpu->host_mxcsr));
	if (cpu->xcr0_allowed & X86_XCR0_AVX)
		__asm__ volatile("vzeroupper");
	cpu->fpu_live = false;
}

void
x86_fpu_get(struct x86_cpu *cpu)
{
	if (cpu->fpu_live)
		return;
	__asm__ volatile("xrstor64 %0"
			 :
			 : "m"(cpu->xsave), "a"((uint32_t)cpu->xcr0_allowed),
			 "d"((uint32_t)(cpu->xcr0_allowed >> 32))
			 : "memory");
	cpu->fpu_live = true;
}

/* -------------------------------------------------------------- raising */

_Noreturn static void
raise_now(struct x86_cpu *cpu)
{
	cpu->stat_exceptions++;
	longjmp(*cpu->jmp, 1); /* ThreadSanitizer knows no _longjmp() */
}

_Noreturn void
x86_raise(struct x86_cpu *cpu, enum x86_vector vector)
{
	cpu->event.vector = (uint8_t)vector;
	cpu->event.has_error = false;
	cpu->event.error = 0;
	raise_now(cpu);
}

_Noreturn void
x86_raise_error(struct x86_cpu *cpu, enum x86_vector vector, uint32_t error)
{
	cpu->event.vector = (uint8_t)vector;
	cpu->event.has_error = true;
	cpu->event.error = error;
	raise_now(cpu);
}

_Noreturn void
x86_raise_page_fault(struct x86_cpu *cpu, uint64_t lin, uint32_t error)
{
	cpu->event.cr2 = lin;
	x86_raise_error(cpu, X86_PFV, error);
}

/* ---------------------------------------------------------------- state */

static uint64_t *
msr_place(struct x86_cpu *cpu, uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(msr_places); i++) {
		if (index - msr_places[i].first < msr_places[i].count)
			return (uint64_t *)(void *)((uint8_t *)cpu +
				   msr_places[i].place) +
			    (index - msr_places[i].first);
	}
	return NULL;
}

void
x86_cpu_get(struct x86_cpu *cpu, struct cpu_state *state)
{
	x86_fpu_put(cpu);
	memset(state, 0, sizeof(*state));
	memcpy(state->gpr, cpu->gpr, sizeof(state->gpr));
	state->rip = cpu->rip;
	state->rflags = cpu->rflags;
	memcpy(state->seg, cpu->seg, sizeof(state->seg));
	state->gdtr = cpu->gdtr;
	state->idtr = cpu->idtr;
	state->cr0 = cpu->cr0;
	state->cr2 = cpu->cr2;
	state->cr3 = cpu->cr3;
	state->cr4 = cpu->cr4;
	state->efer = cpu->efer;
	memcpy(state->dr, cpu->dr, sizeof(state->dr));
	state->dr6 = cpu->dr6;
	state->dr7 = cpu->dr7;
	state->xcr0 = cpu->xcr0;
	state->xsave_size = cpu->xsave_size;
	memcpy(state->xsave, cpu->xsave, cpu->xsave_size);
	/* Where an x87 instruction was: in translated code, the host's. */
	memset(state->xsave + XSAVE_FOP, 0, XSAVE_MXCSR - XSAVE_FOP);
	for (size_t i = 0; i < ARRAY_SIZE(msr_places); i++) {
		for (uint32_t n = 0; n < msr_places[i].count; n++) {
			uint32_t index = msr_places[i].first + n;

			/* The rows are fewer than there is room for. */
			(void)cpu_state_set_msr(state, index,
			    *msr_place(cpu, index));
		}
	}
	(void)cpu_state_set_msr(state, MSR_TSC, cpu->host->tsc(cpu));
	state->sti_shadow = cpu->sti_shadow;
	state->mov_ss_shadow = cpu->mov_ss_shadow;
	state->nmi_masked = cpu->nmi_masked;
	if (cpu->has_pending)
		state->exception = (struct cpu_event) {
			.valid = true,
			.vector = cpu->pending.vector,
			.has_error = cpu->pending.has_error,
			.error = cpu->pending.error,
		};
}

/* The rules that everything else here takes for granted. */
static int
state_check(const struct x86_cpu *cpu, const struct cpu_state *state,
    struct err *err)
{
	uint32_t mxcsr = le32_load(state->xsave + XSAVE_MXCSR);
	uint64_t bv = le64_load(state->xsave + XSAVE_BV);

	if ((state->cr0 & X86_CR0_PG) && !(state->cr0 & X86_CR0_PE))
		return err_set(err, -EINVAL,
		    "vCPU %u: CR0 0x%llx has paging without protection",
		    cpu->id, (unsigned long long)state->cr0);
	if ((state->efer & X86_EFER_LMA) &&
	    (!(state->cr0 & X86_CR0_PG) || !(state->cr4 & X86_CR4_PAE)))
		return err_set(err, -EINVAL,
		    "vCPU %u: EFER 0x%llx has long mode without paging",
		    cpu->id, (unsigned long long)state->efer);
	if (state->xcr0 & ~cpu->xcr0_allowed)
		return err_set(err, -EINVAL,
		    "vCPU %u: XCR0 0x%llx has units that it lacks", cpu->id,
		    (unsigned long long)state->xcr0);
	if (state->xsave_size > CPU_XSAVE_MAX ||
	    state->msr_count > CPU_MSRS_MAX)
		return err_set(err, -EINVAL,
		    "vCPU %u: %u bytes of XSAVE area, %u MSRs: more than there "
		    "can be",
		    cpu->id, state->xsave_size, state->msr_count);
	if ((bv & ~cpu->xcr0_allowed) || (mxcsr & ~cpu->mxcsr_mask))
		return err_set(err, -EINVAL,
		    "vCPU %u: no processor can hold its vector state "
		    "(XSTATE_BV 0x%llx, MXCSR 0x%x)",
		    cpu->id, (unsigned long long)bv, mxcsr);
	return 0;
}

int
x86_cpu_set(struct x86_cpu *cpu, const struct cpu_state *state, struct err *err)
{
	int rc = state_check(cpu, state, err);

	if (rc != 0)
		return rc;
	x86_fpu_put(cpu);
	memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
	cpu->rip = state->rip;
	cpu->rflags = (state->rflags & X86_FLAGS_ALL) | X86_FLAGS_FIXED;
	memcpy(cpu->seg, state->seg, sizeof(cpu->seg));
	cpu->gdtr = state->gdtr;
	cpu->idtr = state->idtr;
	cpu->cr0 = state->cr0 | X86_CR0_ET;
	cpu->cr2 = state->cr2;
	cpu->cr3 = state->cr3;
	cpu->cr4 = state->cr4;
	cpu->efer = state->efer;
	memcpy(cpu->dr, state->dr, sizeof(cpu->dr));
	cpu->dr6 = state->dr6;
	cpu->dr7 = state->dr7;
	cpu->xcr0 = state->xcr0 | X86_XCR0_X87;
	memset(cpu->xsave, 0, sizeof(cpu->xsave));
	memcpy(cpu->xsave, state->xsave,
	    MIN(state->xsave_size, cpu->xsave_size));
	memset(cpu->xsave + XSAVE_BV + 8, 0, XSAVE_HEADER - 8);
	/* What a state does not mention is as at power-on. */
	cpu->pat = 0x0007040600070406ULL;
	cpu->misc_enable = 1; /* fast strings */
	for (unsigned i = 0; i < state->msr_count; i++) {
		uint64_t *place = msr_place(cpu, state->msr[i].index);

		if (state->msr[i].index == MSR_TSC)
			cpu->host->set_tsc(cpu, state->msr[i].value);
		else if (place != NULL)
			*place = state->msr[i].value;
	}
	cpu->sti_shadow = state->sti_shadow;
	cpu->mov_ss_shadow = state->mov_ss_shadow;
	cpu->nmi_masked = state->nmi_masked;
	cpu->has_pending = state->exception.valid;
	cpu->pending = (struct x86_event) {
		.vector = state->exception.vector,
		.has_error = state->exception.has_error,
		.error = state->exception.error,
		.cr2 = state->cr2,
	};
	if (x86_v86(cpu))
		cpu->cpl = 3;
	else if (cpu->cr0 & X86_CR0_PE)
		cpu->cpl = (uint8_t)X86_SEG_DPL(cpu->seg[CPU_SS].access);
	else
		cpu->cpl = 0;
	x86_cpu_mode(cpu);
	/* PAE without long mode reads its four roots when CR3 is loaded. */
	if ((cpu->cr0 & X86_CR0_PG) && (cpu->cr4 & X86_CR4_PAE) &&
	    !x86_long_mode(cpu) && !x86_load_pdptes(cpu, cpu->cr3, cpu->pdpte))
		memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
	x86_tlb_flush(cpu, true);
	return 0;
}

/* SDM volume 3, table 9-1, the column of INIT. */
void
x86_cpu_init(struct x86_cpu *cpu)
{
	x86_fpu_put(cpu); /* its values stay; the C library is used below */
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[CPU_RDX] = 0xf00;
	cpu->rip = 0xfff0;
	cpu->rflags = X86_FLAGS_FIXED;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s] = (struct cpu_segment) {
			.limit = 0xffff,
			.access = 0x93,
		};
	cpu->seg[CPU_CS].selector = 0xf000;
	cpu->seg[CPU_CS].base = 0xffff0000;
	cpu->seg[CPU_LDTR] = (struct cpu_segment) {
		.limit = 0xffff,
		.access = 0x82,
	};
	cpu->seg[CPU_TR] = (struct cpu_segment) {
		.limit = 0xffff,
		.access = 0x8b,
	};
	cpu->gdtr = cpu->idtr = (struct cpu_table) { .limit = 0xffff };
	cpu->cr0 = X86_CR0_ET | (cpu->cr0 & (X86_CR0_CD | X86_CR0_NW));
	cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
	cpu->efer = 0;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr6 = 0xffff0ff0;
	cpu->dr7 = 0x400;
	cpu->cpl = 0;
	cpu->sti_shadow = cpu->mov_ss_shadow = false;
	cpu->nmi_masked = false;
	cpu->halted = false;
	cpu->has_pending = false;
	x86_cpu_mode(cpu);
	x86_tlb_flush(cpu, true);
}
