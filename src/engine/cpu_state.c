/*
 * The processor state that every engine saves: its power-on values, its table
 * of MSRs, the names of its registers.
 *
 * Power-on is what bhyve gives a vCPU (bhyvectl prints it), which differs from
 * the SDM (volume 3, table 9-1) in three places: CR0 has NE alone, LDTR is an
 * LDT and not unusable, and the caches are on.  The local APIC follows table
 * 11-1, but for LINT0 of the first processor: the 8259A pair is wired to it
 * and open from the start, so that a PC without an APIC driver has interrupts.
 */
#include <string.h>

#include "base/wire.h"
#include "engine/cpu_state.h"

#define SEG_RESET 0x93u  /* data, accessed, writable; also for real mode CS */
#define TR_RESET 0x8bu   /* busy TSS */
#define LDTR_RESET 0x82u /* LDT */

#define APIC_BASE_RESET 0xfee00000ULL
#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_ENABLE BIT(11)

#define LAPIC_ID 0x020
#define LAPIC_VERSION 0x030
#define LAPIC_DFR 0x0e0
#define LAPIC_SVR 0x0f0
#define LAPIC_LVT_CMCI 0x2f0
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_ERROR 0x370
#define LAPIC_LVT_MASKED 0x10000u
#define LAPIC_LVT_EXTINT 0x700u
#define LAPIC_VERSION_BHYVE 0x00060010u /* version 0x10, 7 LVT entries */

#define MSR_PAT 0x277u
#define MSR_PAT_RESET 0x0007040600070406ULL

static void
lapic_reset(uint8_t *lapic, unsigned id)
{
	memset(lapic, 0, CPU_LAPIC_SIZE);
	le32_store(lapic + LAPIC_ID, id << 24);
	le32_store(lapic + LAPIC_VERSION, LAPIC_VERSION_BHYVE);
	le32_store(lapic + LAPIC_DFR, UINT32_MAX);
	le32_store(lapic + LAPIC_SVR, 0xff);
	le32_store(lapic + LAPIC_LVT_CMCI, LAPIC_LVT_MASKED);
	for (unsigned r = LAPIC_LVT_TIMER; r <= LAPIC_LVT_ERROR; r += 0x10)
		le32_store(lapic + r, LAPIC_LVT_MASKED);
	if (id == 0)
		le32_store(lapic + LAPIC_LVT_LINT0, LAPIC_LVT_EXTINT);
}

void
cpu_state_reset(struct cpu_state *cpu, unsigned id)
{
	uint32_t xsave_size = cpu->xsave_size;

	memset(cpu, 0, sizeof(*cpu));
	cpu->xsave_size = xsave_size;
	cpu->gpr[CPU_RDX] = 0xf00; /* family 15, as every reset since */
	cpu->rip = 0xfff0;
	cpu->rflags = 0x2;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++) {
		cpu->seg[s] = (struct cpu_segment) {
			.limit = 0xffff,
			.access = SEG_RESET,
		};
	}
	cpu->seg[CPU_CS].selector = 0xf000;
	cpu->seg[CPU_CS].base = 0xffff0000;
	cpu->seg[CPU_LDTR] = (struct cpu_segment) {
		.limit = 0xffff,
		.access = LDTR_RESET,
	};
	cpu->seg[CPU_TR] = (struct cpu_segment) { .access = TR_RESET };
	cpu->gdtr.limit = 0xffff;
	cpu->idtr.limit = 0xffff;
	cpu->cr0 = 0x20; /* NE */
	cpu->dr6 = 0xffff0ff0;
	cpu->dr7 = 0x400;
	cpu->xcr0 = 1; /* x87, which cannot be turned off */
	/* FCW, MXCSR and, in XSTATE_BV, nothing: all else is initial. */
	le16_store(cpu->xsave, 0x37f);
	le32_store(cpu->xsave + 24, 0x1f80);
	cpu->apic_base =
	    APIC_BASE_RESET | APIC_BASE_ENABLE | (id == 0 ? APIC_BASE_BSP : 0);
	(void)cpu_state_set_msr(cpu, MSR_PAT, MSR_PAT_RESET); /* has room */
	lapic_reset(cpu->lapic, id);
	cpu->run_state = id == 0 ? CPU_RUNNING : CPU_WAIT_INIT;
}

struct cpu_msr *
cpu_state_msr(struct cpu_state *cpu, uint32_t index)
{
	for (unsigned i = 0; i < cpu->msr_count; i++) {
		if (cpu->msr[i].index == index)
			return &cpu->msr[i];
	}
	return NULL;
}

bool
cpu_state_set_msr(struct cpu_state *cpu, uint32_t index, uint64_t value)
{
	struct cpu_msr *msr = cpu_state_msr(cpu, index);

	if (msr == NULL) {
		if (cpu->msr_count == CPU_MSRS_MAX)
			return false;
		msr = &cpu->msr[cpu->msr_count++];
		msr->index = index;
	}
	msr->value = value;
	return true;
}

const char *
cpu_gpr_name(enum cpu_gpr gpr)
{
	static const char *const names[CPU_GPRS] = { "rax", "rcx", "rdx", "rbx",
		"rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
		"r13", "r14", "r15" };

	return names[gpr];
}

const char *
cpu_seg_name(enum cpu_seg seg)
{
	static const char *const names[CPU_SEGS] = { "es", "cs", "ss", "ds",
		"fs", "gs", "ldtr", "tr" };

	return names[seg];
}
