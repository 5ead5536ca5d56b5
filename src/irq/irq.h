/*
 * Interrupt delivery: how a device reaches the vCPUs.
 *
 * A device sees numbered lines and messages.  Which chip serves them (8259A,
 * I/O APIC, local APIC, the host kernel's) is this directory's own affair.
 * Lines 0 to 15 are the ISA IRQs: they reach the 8259A pair and the I/O APIC
 * (line 0 on its pin 2).  Lines 16 to 31 are I/O APIC pins alone.
 *
 * Any thread may call in.  The lock taken here is a leaf: callers may hold
 * their own, and nothing here calls back into a device.
 */
#ifndef IRQ_IRQ_H
#define IRQ_IRQ_H

#include "base/err.h"

struct irq_chip;
struct vm;

#define IRQ_ISA_LINES 16
#define IRQ_LINES 32
enum irq_trigger { IRQ_EDGE, IRQ_LEVEL };

/* Make the 8259A pair with its ELCR and the I/O APIC, as devices of vm. */
int irq_chip_new(struct vm *vm, struct err *err);

/*
 * One source on a line, embedded in its device.  Sources of a line are counted:
 * it is asserted while any of them is.
 *
 * A source is no part of its device's saved state: the device's changed() calls
 * irq_line_set() from what the device knows, after a reset or a load as after
 * any other change.
 */
struct irq_line {
	struct irq_chip *chip; /* borrowed: outlives every device */
	uint8_t line;
	bool asserted;  /* guarded by the irq lock, as the next one */
	uint32_t epoch; /* the chip's when this source was last counted */
};
void irq_line_init(struct irq_line *line, struct irq_chip *chip,
    unsigned number);
void irq_line_set(struct irq_line *line, bool asserted);
/* Low, high, low: one edge.  The line must not be asserted by this source. */
void irq_line_pulse(struct irq_line *line);

/*
 * Choose how an ISA line is sensed: the ELCR's call, repeated from its
 * registers after a reset or a load.  Drops an edge still pending on it.
 */
void irq_set_trigger(struct irq_chip *chip, unsigned line,
    enum irq_trigger trigger);
/*
 * The board shares the line among level-triggered devices: it senses levels,
 * whatever the ELCR says.  Not saved: the device that knows calls it in its
 * create(), or in its changed() if a guest can route it.
 */
void irq_wire_level(struct irq_chip *chip, unsigned line, bool level);
enum irq_trigger irq_get_trigger(struct irq_chip *chip, unsigned line);

/* Its level now, and how often it rose in this machine's life. */
bool irq_line_level(struct irq_chip *chip, unsigned line);
uint64_t irq_line_rises(struct irq_chip *chip, unsigned line);

/* Deliver a message.  -EINVAL if no vCPU can be its target. */
int irq_send_msi(struct irq_chip *chip, uint64_t addr, uint32_t data);
/*
 * Signalling fd delivers a message without a thread of ours; attaching again
 * changes the message.  -ENOTSUP where the engine has no such thing.
 */
int irq_attach_fd(struct irq_chip *chip, int fd, uint64_t addr, uint32_t data);
int irq_detach_fd(struct irq_chip *chip, int fd);

#endif
