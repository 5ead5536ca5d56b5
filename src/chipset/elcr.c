/*
 * ELCR: the edge/level control registers of a PC.
 *
 * Models       ports 0x4d0-0x4d1 as in the Intel 82371SB (PIIX3) data sheet:
 *              a bit for each ISA interrupt line, 0 senses edges, 1 levels.
 * Locking      the device lock, held at every entry; the irq lock is a leaf.
 * Invariants   IRQ 0, 1, 2, 8 and 13 stay edge-triggered: the board wires
 *              them so, whatever a guest writes or a saved state claims.
 */
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "irq/irq.h"
#include "vm/device.h"

struct elcr {
	struct irq_chip *chip; /* borrowed: outlives every device */
	uint8_t mode[2];
};

/* offset, field, value after reset, bits the guest may change */
static const struct reg elcr_regs[] = {
	REG8(0, struct elcr, mode[0], 0, 0xf8), /* ELCR1: IRQ 3-7 */
	REG8(1, struct elcr, mode[1], 0, 0xde), /* ELCR2: IRQ 9-12, 14, 15 */
};

/* A guest, a reset or a restored state has changed the registers. */
static void
elcr_changed(void *self)
{
	const struct elcr *elcr = self;

	for (unsigned irq = 0; irq < IRQ_ISA_LINES; irq++) {
		bool level = elcr->mode[irq / 8] & BIT(irq % 8);

		irq_set_trigger(elcr->chip, irq, level ? IRQ_LEVEL : IRQ_EDGE);
	}
}

static int
elcr_create(struct device *dev, void *self, struct err *err)
{
	struct elcr *elcr = self;

	elcr->chip = device_irq_chip(dev);
	return device_map_ports(dev, 0x4d0, REG_TABLE(elcr_regs), err);
}

DEVICE_MODEL(elcr) = {
	.name = "elcr",
	.state_version = 1,
	.size = sizeof(struct elcr),
	.create = elcr_create,
	.changed = elcr_changed,
};
