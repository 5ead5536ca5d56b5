/*
 * The local APIC of a processor in software: xAPIC and x2APIC.
 *
 * Models       Intel SDM volume 3, chapter 11; version and reset state as
 *              cpu_state.h documents them for bhyve.
 * Threads      Registers are accessed by the processor's own thread.  Messages
 *              (lapic_deliver) may come from any thread: they set bits in
 *              atomic words and tell the owner through `notify`.
 * Time         comes from the owner, in nanoseconds that stand still while the
 *              machine is paused.
 */
#ifndef ENGINE_X86_LAPIC_H
#define ENGINE_X86_LAPIC_H

#include "base/err.h"
#include "base/util.h"
#include "engine/cpu_state.h"

struct lapic;
struct lapic_bus;

/* What can be sent to a processor besides a vector. */
enum lapic_signal { LAPIC_NMI, LAPIC_INIT, LAPIC_SIPI, LAPIC_EXTINT };

/* What an APIC asks of the engine. */
struct lapic_ops {
	/* Nanoseconds of machine time. */
	uint64_t (*now)(void *arg);
	/* The guest's TSC, for the deadline mode; and the way back. */
	uint64_t (*tsc)(void *arg);
	uint64_t (*tsc_to_ns)(void *arg, uint64_t tsc);
	/* Call lapic_timer_due() at `ns`; UINT64_MAX: never.  Own thread. */
	void (*set_timer)(void *arg, uint64_t ns);
	/* Something may be deliverable: any thread. */
	void (*notify)(void *arg);
	/* NMI, INIT, SIPI (vector), ExtINT for this processor: any thread. */
	void (*signal)(void *arg, enum lapic_signal signal, uint8_t vector);
	/* A vector that was level-triggered has had its EOI.  Own thread. */
	void (*eoi)(void *arg, uint8_t vector);
};

/* All APICs of a machine, to send messages among them. */
struct lapic_bus *lapic_bus_new(unsigned count);
void lapic_bus_free(struct lapic_bus *bus);

struct lapic *lapic_new(struct lapic_bus *bus, unsigned id,
    const struct lapic_ops *ops, void *arg);
void lapic_free(struct lapic *lapic);

/* To and from struct cpu_state: registers at 16-byte steps, and APIC_BASE. */
void lapic_get(struct lapic *lapic, struct cpu_state *state);
int lapic_set(struct lapic *lapic, const struct cpu_state *state,
    struct err *err);
/* As after INIT: the ID and APIC_BASE stay. */
void lapic_init(struct lapic *lapic);

/* ---- registers: the processor's thread ----------------------------------- */

/* In xAPIC mode, offset in the page; size 1 to 8 as the guest accessed it. */
uint64_t lapic_mmio_read(struct lapic *lapic, unsigned offset, unsigned size);
void lapic_mmio_write(struct lapic *lapic, unsigned offset, unsigned size,
    uint64_t value);
/* x2APIC MSRs 0x800 to 0x8ff, APIC_BASE (0x1b), TSC_DEADLINE (0x6e0); false: #GP. */
bool lapic_rdmsr(struct lapic *lapic, uint32_t index, uint64_t *value);
bool lapic_wrmsr(struct lapic *lapic, uint32_t index, uint64_t value);
/* The page where its registers are, or UINT64_MAX: off or in x2APIC mode. */
uint64_t lapic_page(const struct lapic *lapic);
uint64_t lapic_base(const struct lapic *lapic); /* the MSR */
/* CR8 */
unsigned lapic_get_cr8(const struct lapic *lapic);
void lapic_set_cr8(struct lapic *lapic, unsigned cr8);

/* ---- interrupts: the processor's thread ---------------------------------- */

/* The vector that would be delivered now (above the processor's priority), or -1. */
int lapic_pending(struct lapic *lapic);
/* Take it: IRR to ISR. */
uint8_t lapic_accept(struct lapic *lapic);
/* Would ExtINT on LINT0 reach the processor?  (Also with the APIC disabled.) */
bool lapic_takes_extint(const struct lapic *lapic);
void lapic_timer_due(struct lapic *lapic);

/* ---- messages: any thread ------------------------------------------------ */

/*
 * An MSI, from the I/O APIC or a device: address and data as on the PCI bus.
 * -EINVAL if no processor can be its target.
 */
int lapic_bus_msi(struct lapic_bus *bus, uint64_t addr, uint32_t data);

#endif
