/*
 * The local APIC, for its own files.
 *
 * Files        lapic.c has the registers and the saved state, lapic_irq.c
 *              priorities and messages, lapic_timer.c the timer.
 * Threads      What belongs to the owner is touched by its thread alone.  The
 *              rest is atomic, and grouped below by who writes it.
 * Invariants   1. IRR, ISR and TMR have no bit below 16: such vectors are
 *                 errors, and found before.
 *              2. `isrv`, `best`, `ppr` and `route` follow from the registers;
 *                 whoever changes those calls lapic_update(), and for route
 *                 lapic_publish() first.
 */
#ifndef ENGINE_X86_LAPIC_IMPL_H
#define ENGINE_X86_LAPIC_IMPL_H

#include <stdatomic.h>

#include "engine/x86/lapic.h"

/*
 * SDM table 11-1, by number: the offset in the page divided by 16, which is
 * also the x2APIC MSR less 0x800.
 */
enum lapic_reg {
	LAPIC_ID = 0x02,
	LAPIC_VERSION = 0x03,
	LAPIC_TPR = 0x08,
	LAPIC_APR = 0x09,
	LAPIC_PPR = 0x0a,
	LAPIC_EOI = 0x0b,
	LAPIC_RRD = 0x0c,
	LAPIC_LDR = 0x0d,
	LAPIC_DFR = 0x0e,
	LAPIC_SVR = 0x0f,
	LAPIC_ISR = 0x10,
	LAPIC_TMR = 0x18,
	LAPIC_IRR = 0x20,
	LAPIC_ESR = 0x28,
	LAPIC_LVT_CMCI = 0x2f,
	LAPIC_ICR = 0x30,
	LAPIC_ICR_HIGH = 0x31,
	LAPIC_LVT_TIMER = 0x32,
	LAPIC_LVT_THERMAL = 0x33,
	LAPIC_LVT_PMC = 0x34,
	LAPIC_LVT_LINT0 = 0x35,
	LAPIC_LVT_LINT1 = 0x36,
	LAPIC_LVT_ERROR = 0x37,
	LAPIC_TIMER_INITIAL = 0x38,
	LAPIC_TIMER_CURRENT = 0x39,
	LAPIC_TIMER_DIVIDE = 0x3e,
	LAPIC_SELF_IPI = 0x3f,
	LAPIC_REGS = 0x40,
};
#define LAPIC_VECTOR_WORDS 8u /* ISR, TMR and IRR */
#define LAPIC_VECTOR_MIN 16u  /* those below are illegal */

#define LAPIC_BASE_ADDR 0xfee00000ULL
#define LAPIC_BASE_BSP BIT(8)
#define LAPIC_BASE_X2APIC CPU_APIC_BASE_X2APIC
#define LAPIC_BASE_ENABLE BIT(11)

#define LAPIC_SVR_ENABLE 0x100u
#define LAPIC_SVR_NO_EOI 0x1000u /* suppress EOI broadcasts */

#define LAPIC_LVT_VECTOR 0xffu
#define LAPIC_LVT_MODE 0x700u
#define LAPIC_LVT_MASKED 0x10000u
#define LAPIC_LVT_TIMER_MODE(lvt) ((lvt) >> 17 & 3)

/* Delivery modes of LVT, ICR and messages. */
enum lapic_mode {
	LAPIC_MODE_FIXED,
	LAPIC_MODE_LOWEST,
	LAPIC_MODE_SMI,
	LAPIC_MODE_RESERVED,
	LAPIC_MODE_NMI,
	LAPIC_MODE_INIT,
	LAPIC_MODE_SIPI,
	LAPIC_MODE_EXTINT,
};

#define LAPIC_ESR_SEND_VECTOR 0x20u
#define LAPIC_ESR_RECEIVE_VECTOR 0x40u
#define LAPIC_ESR_REGISTER 0x80u

#define LAPIC_ICR_LEVEL 0x4000u
#define LAPIC_ICR_TRIGGER 0x8000u

struct lapic_timer {
	bool runs; /* counts down: one-shot or periodic */
	/* When the count was the initial one: ns + frac / 2^18. */
	uint64_t start_ns;
	uint32_t start_frac;
	uint64_t quiet_ns; /* do not expire before */
	uint64_t deadline; /* TSC; 0: none */
};

struct lapic {
	struct lapic_bus *bus;       /* borrowed: outlives every APIC */
	const struct lapic_ops *ops; /* borrowed: outlives the APIC */
	void *arg;
	unsigned id; /* the processor's number, and the x2APIC id */

	/* The owner's.  reg lacks what is kept elsewhere: PPR, TMR, IRR ... */
	uint64_t base; /* the MSR */
	uint32_t reg[LAPIC_REGS];
	uint32_t errors; /* found since ESR was last written */
	uint8_t isrv;    /* highest vector in service; 0: none */
	int best; /* what lapic_pending() answers while there is no news */
	struct lapic_timer timer;

	/* Senders set bits, and news last; the owner takes them away. */
	_Atomic uint32_t irr[LAPIC_VECTOR_WORDS];
	_Atomic uint32_t tmr[LAPIC_VECTOR_WORDS];
	_Atomic uint32_t errors_found;
	_Atomic bool news;

	/* The owner writes them for senders to read. */
	_Atomic uint32_t route; /* who it is and whether it listens */
	_Atomic uint8_t ppr;
};

static inline bool
lapic_is_enabled(const struct lapic *lapic)
{
	return lapic->base & LAPIC_BASE_ENABLE;
}

static inline bool
lapic_is_x2apic(const struct lapic *lapic)
{
	return lapic->base & LAPIC_BASE_X2APIC;
}

/* ---- lapic_irq.c --------------------------------------------------------- */

/* Tell senders of a new ID, LDR, DFR, SVR or APIC_BASE. */
void lapic_publish(struct lapic *lapic);
/* Find out what is deliverable now, and say so if something is. */
void lapic_update(struct lapic *lapic);
/* An error: to ESR, and to the processor. */
void lapic_error(struct lapic *lapic, uint32_t bits);
/* The event of an LVT entry has happened. */
void lapic_lvt_deliver(struct lapic *lapic, enum lapic_reg lvt);
/* EOI was written. */
void lapic_end_of_interrupt(struct lapic *lapic);
/* ICR was written: send it. */
void lapic_ipi(struct lapic *lapic);
void lapic_self_ipi(struct lapic *lapic, uint8_t vector);
void lapic_bus_add(struct lapic_bus *bus, struct lapic *lapic);
void lapic_bus_remove(struct lapic_bus *bus, struct lapic *lapic);

/* ---- lapic_timer.c ------------------------------------------------------- */

void lapic_timer_stop(struct lapic *lapic);
/* The current count register. */
uint32_t lapic_timer_count(const struct lapic *lapic);
/* Go on from `count`, as a saved state has it. */
void lapic_timer_resume(struct lapic *lapic, uint32_t count);
/* Registers of the timer are written. */
void lapic_timer_set_initial(struct lapic *lapic, uint32_t count);
void lapic_timer_set_divide(struct lapic *lapic, uint32_t divide);
void lapic_timer_set_lvt(struct lapic *lapic, uint32_t lvt);
uint64_t lapic_timer_get_deadline(struct lapic *lapic);
void lapic_timer_set_deadline(struct lapic *lapic, uint64_t tsc);

#endif
