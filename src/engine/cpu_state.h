/*
 * The architectural state of one x86 processor, as every engine saves it.
 *
 * It is engine-neutral: what KVM saves the translator can resume and the other
 * way round.  Spellings follow the Intel SDM, volume 3.
 */
#ifndef ENGINE_CPU_STATE_H
#define ENGINE_CPU_STATE_H

#include "base/util.h"

enum cpu_gpr {
	CPU_RAX,
	CPU_RCX,
	CPU_RDX,
	CPU_RBX,
	CPU_RSP,
	CPU_RBP,
	CPU_RSI,
	CPU_RDI,
	CPU_R8,
	CPU_R9,
	CPU_R10,
	CPU_R11,
	CPU_R12,
	CPU_R13,
	CPU_R14,
	CPU_R15,
	CPU_GPRS,
};

enum cpu_seg {
	CPU_ES,
	CPU_CS,
	CPU_SS,
	CPU_DS,
	CPU_FS,
	CPU_GS,
	CPU_LDTR,
	CPU_TR,
	CPU_SEGS,
};

/*
 * access is as in a VMCS and as bhyvectl prints it: type 3-0, S 4, DPL 6-5,
 * P 7, AVL 12, L 13, D/B 14, G 15, unusable 16.  limit is in bytes.
 */
struct cpu_segment {
	uint64_t base;
	uint32_t limit;
	uint32_t access;
	uint16_t selector;
};
#define CPU_SEG_UNUSABLE BIT(16)

struct cpu_table {
	uint64_t base;
	uint16_t limit;
};

/* MSRs that belong to a processor and travel with it. */
struct cpu_msr {
	uint32_t index;
	uint64_t value;
};
#define CPU_MSRS_MAX 128

enum cpu_run_state {
	CPU_RUNNING,
	CPU_HALTED,    /* after HLT, waiting for an interrupt */
	CPU_WAIT_INIT, /* an AP before its INIT */
	CPU_WAIT_SIPI, /* after INIT */
};

/* An event on its way into the processor. */
struct cpu_event {
	bool valid;
	uint8_t vector;
	bool has_error;
	uint32_t error;
};

/* In apic_base: the local APIC is in x2APIC mode. */
#define CPU_APIC_BASE_X2APIC BIT(10)

#define CPU_XSAVE_MAX 4096u
#define CPU_LAPIC_SIZE 1024u

struct cpu_state {
	uint64_t gpr[CPU_GPRS];
	uint64_t rip;
	uint64_t rflags;
	struct cpu_segment seg[CPU_SEGS];
	struct cpu_table gdtr;
	struct cpu_table idtr;
	uint64_t cr0, cr2, cr3, cr4, cr8;
	uint64_t efer;
	uint64_t apic_base;
	uint64_t dr[4], dr6, dr7;
	uint64_t xcr0;
	/* XSAVE area, standard (not compacted) form; xsave_size bytes count. */
	uint32_t xsave_size;
	_Alignas(64) uint8_t xsave[CPU_XSAVE_MAX];
	unsigned msr_count;
	struct cpu_msr msr[CPU_MSRS_MAX];
	/* Local APIC: the 32-bit registers at 16-byte steps, SDM table 11-1. */
	_Alignas(16) uint8_t lapic[CPU_LAPIC_SIZE];
	enum cpu_run_state run_state;
	bool sti_shadow;
	bool mov_ss_shadow;
	bool nmi_pending;
	bool nmi_masked;
	uint8_t sipi_vector;
	struct cpu_event exception; /* to be delivered before the next step */
	struct cpu_event interrupt; /* accepted, not yet delivered */
};

/*
 * Power-on reset, as bhyve documents it: CS f000:fff0 with base 0xffff0000.
 * Sets everything but xsave_size and the MSRs that an engine adds of itself.
 */
void cpu_state_reset(struct cpu_state *cpu, unsigned id);

struct cpu_msr *cpu_state_msr(struct cpu_state *cpu, uint32_t index);
/* Set or add; false if the table is full. */
bool cpu_state_set_msr(struct cpu_state *cpu, uint32_t index, uint64_t value);

/* The names bhyvectl uses: "rax", "cs". */
const char *cpu_gpr_name(enum cpu_gpr gpr);
const char *cpu_seg_name(enum cpu_seg seg);

#endif
