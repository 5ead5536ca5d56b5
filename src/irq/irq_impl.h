/*
 * What the interrupt chips share: the wires between devices, the 8259A pair
 * and the I/O APIC, and the lock over all of it.
 */
#ifndef IRQ_IRQ_IMPL_H
#define IRQ_IRQ_IMPL_H

#include "base/lock.h"
#include "irq/irq.h"

struct engine;
struct ioapic;
struct pic;

#define IRQ_CASCADE 2 /* the slave 8259A's way into the master */

/* The state of the device "irq"; everything in it is under the lock. */
struct irq_chip {
	struct lock lock;
	struct engine *engine; /* borrowed: outlives every device */
	/* Borrowed: made right after this, and gone before it. */
	struct pic *pic;
	struct ioapic *ioapic;
	uint32_t level; /* the wires, a bit for each line */
	/* The ISA lines sensed by level: if the ELCR or the board says so. */
	uint32_t elcr;
	uint32_t wired_level;
	uint32_t level_triggered;
	uint32_t epoch;
	uint32_t sources[IRQ_LINES]; /* asserted ones */
	uint64_t rises[IRQ_LINES];
};

/* An ISA line has changed; its wire shows the new level. */
void pic_line_locked(struct pic *pic, unsigned line, bool level);
/* A line is sensed another way: forget its edge. */
void pic_sense_locked(struct pic *pic, unsigned line);
bool pic_intr_locked(const struct pic *pic);
uint8_t pic_intack_locked(struct pic *pic);

/* A pin has changed; whatever drives it shows the new level. */
void ioapic_pin_locked(struct ioapic *ioapic, unsigned pin, bool level);
void ioapic_eoi_locked(struct ioapic *ioapic, uint8_t vector);

#endif
