/*
 * The I/O APIC: lines become messages to the local APICs.
 *
 * Models       Intel 82093AA data sheet (290566) with 32 pins, version 0x11,
 *              at 0xfec00000.  Pin 0 hears the 8259As' INTR, pin 2 line 0, any
 *              other the line of its number; nothing is wired to line 2.
 * Leaves out   the serial APIC bus (arbitration id reads as the id; delivery
 *              status is always idle); the EOI register at 0x40, which came
 *              with version 0x20; polarity, which is kept but has no effect:
 *              a line of this machine is asserted or not (irq.c).
 * Accesses     aligned, 4 bytes; any other reads 0 and writes nothing.
 * Locking      the irq lock, taken at every entry; the model is unlocked.
 *              The engine is called under it: see irq.c.
 * Invariants   1. Remote IRR is set only in an entry that is level-triggered
 *                 with fixed or lowest-priority delivery, from the message
 *                 until the EOI of its vector.
 *              2. A level pin that is asserted, not masked and has no remote
 *                 IRR has been offered to the engine and nobody took it: there
 *                 was no target, or the vector was pending there already.  It
 *                 is offered again after the next EOI of its vector.
 *              3. The engine watches the EOI of exactly the level pins,
 *                 masked or not: an interrupt may be on its way already.
 *
 * An edge on a masked pin is lost, as the data sheet says.  A change to edge
 * clears remote IRR: guests end an interrupt so on chips of this version.
 *
 * The work of one access, one EOI or one change of a line is bounded: each pin
 * sends one message at most.  A level that stays asserted comes back after
 * every EOI, at the pace of the guest that sends the EOIs.
 */
#include <errno.h>

#include "base/util.h"
#include "engine/engine.h"
#include "irq/irq_impl.h"
#include "vm/device.h"
#include "vm/platform.h"

#define IOAPIC_SIZE 0x1000
#define IOAPIC_IOREGSEL 0x00
#define IOAPIC_IOWIN 0x10

#define IOAPIC_IOAPICID 0x00
#define IOAPIC_IOAPICVER 0x01
#define IOAPIC_IOAPICARB 0x02
#define IOAPIC_IOREDTBL 0x10 /* two registers a pin, the low half first */

#define IOAPIC_PINS PLAT_IOAPIC_PINS
#define IOAPIC_VERSION (0x11 | (IOAPIC_PINS - 1) << 16)
#define IOAPIC_ID_SHIFT 24
#define IOAPIC_ID_MASK 0x0f000000u

#define IOAPIC_RTE_VECTOR 0xffULL
#define IOAPIC_RTE_DELMOD(rte) ((rte) >> 8 & 7)
#define IOAPIC_RTE_DESTMOD(rte) ((rte) >> 11 & 1)
#define IOAPIC_RTE_REMOTE_IRR BIT(14)
#define IOAPIC_RTE_TRIGGER BIT(15)
#define IOAPIC_RTE_MASK BIT(16)
#define IOAPIC_RTE_DEST(rte) ((rte) >> 56)
/* What a guest may change: all but delivery status, remote IRR, reserved. */
#define IOAPIC_RTE_LOW 0x0001afffULL
#define IOAPIC_RTE_HIGH 0xff00000000000000ULL

#define IOAPIC_FIXED 0
#define IOAPIC_LOWEST 1

_Static_assert(IOAPIC_PINS <= ENGINE_EOI_PINS, "an engine watches all pins");
_Static_assert(IOAPIC_PINS == IRQ_LINES, "each line has its pin");

struct ioapic {
	struct irq_chip *chip; /* borrowed: outlives every device */
	uint32_t select;
	uint32_t id;
	uint64_t redirection[IOAPIC_PINS];
	/* What the engine has been told to watch: its state, so not saved. */
	bool watched[IOAPIC_PINS];
	struct engine_msi watch[IOAPIC_PINS];
};

static const struct field ioapic_state[] = {
	STATE_INT_MAX(struct ioapic, select, 0, UINT8_MAX),
	STATE_INT(struct ioapic, id, PLAT_IOAPIC_ID << IOAPIC_ID_SHIFT),
	STATE_ARRAY(struct ioapic, redirection, IOAPIC_RTE_MASK),
};

/* Does the pin wait for an EOI between two messages? */
static bool
is_level(uint64_t rte)
{
	return (rte & IOAPIC_RTE_TRIGGER) &&
	    IOAPIC_RTE_DELMOD(rte) <= IOAPIC_LOWEST;
}

static struct engine_msi
rte_msi(uint64_t rte)
{
	struct engine_msi msi = {
		.addr = PLAT_LAPIC_BASE | IOAPIC_RTE_DEST(rte) << 12 |
		    IOAPIC_RTE_DESTMOD(rte) << 2,
		.data = (rte & IOAPIC_RTE_VECTOR) | IOAPIC_RTE_DELMOD(rte) << 8,
	};

	if (is_level(rte))
		msi.data |= BIT(14) | BIT(15); /* assert, level */
	return msi;
}

static bool
asserted_locked(const struct ioapic *ioapic, unsigned pin)
{
	if (pin == 0)
		return pic_intr_locked(ioapic->chip->pic);
	return ioapic->chip->level & BIT(pin == 2 ? 0 : pin);
}

static void
send_locked(struct ioapic *ioapic, unsigned pin)
{
	uint64_t *rte = &ioapic->redirection[pin];
	const struct engine_msi msi = rte_msi(*rte);

	/* Not taken, a level stays due, and an edge is gone. */
	if (engine_send_msi(ioapic->chip->engine, &msi) >= 0 && is_level(*rte))
		*rte |= IOAPIC_RTE_REMOTE_IRR;
}

/* Send what a level pin has due. */
static void
level_due_locked(struct ioapic *ioapic, unsigned pin)
{
	uint64_t rte = ioapic->redirection[pin];

	if (is_level(rte) &&
	    !(rte & (IOAPIC_RTE_MASK | IOAPIC_RTE_REMOTE_IRR)) &&
	    asserted_locked(ioapic, pin))
		send_locked(ioapic, pin);
}

/* An entry has changed: have its vector watched, or no longer. */
static void
watch_locked(struct ioapic *ioapic, unsigned pin)
{
	struct engine *engine = ioapic->chip->engine;
	bool level = is_level(ioapic->redirection[pin]);
	const struct engine_msi msi = rte_msi(ioapic->redirection[pin]);

	/* Telling an engine can be dear; guests mask and unmask a lot. */
	if (!level) {
		if (ioapic->watched[pin])
			engine_watch_eoi(engine, pin, NULL);
	} else if (!ioapic->watched[pin] ||
	    ioapic->watch[pin].addr != msi.addr ||
	    ioapic->watch[pin].data != msi.data) {
		engine_watch_eoi(engine, pin, &msi);
		ioapic->watch[pin] = msi;
	}
	ioapic->watched[pin] = level;
}

/* ---- for irq.c and pic.c ------------------------------------------------- */

void
ioapic_pin_locked(struct ioapic *ioapic, unsigned pin, bool level)
{
	uint64_t rte = ioapic->redirection[pin];

	assert(lock_held(&ioapic->chip->lock));
	if (!level)
		return;
	if (is_level(rte))
		level_due_locked(ioapic, pin);
	else if (!(rte & IOAPIC_RTE_MASK))
		send_locked(ioapic, pin);
}

void
ioapic_eoi_locked(struct ioapic *ioapic, uint8_t vector)
{
	assert(lock_held(&ioapic->chip->lock));
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *rte = &ioapic->redirection[pin];

		if (is_level(*rte) && (*rte & IOAPIC_RTE_VECTOR) == vector) {
			*rte &= ~IOAPIC_RTE_REMOTE_IRR;
			level_due_locked(ioapic, pin);
		}
	}
}

/* ---- the guest's side ---------------------------------------------------- */

static uint32_t
register_read_locked(const struct ioapic *ioapic)
{
	unsigned half = ioapic->select - IOAPIC_IOREDTBL;

	switch (ioapic->select) {
	case IOAPIC_IOAPICID:
	case IOAPIC_IOAPICARB:
		return ioapic->id;
	case IOAPIC_IOAPICVER:
		return IOAPIC_VERSION;
	}
	if (half / 2 >= IOAPIC_PINS)
		return 0;
	return ioapic->redirection[half / 2] >> (half % 2 * 32);
}

static void
register_write_locked(struct ioapic *ioapic, uint32_t value)
{
	unsigned half = ioapic->select - IOAPIC_IOREDTBL;
	unsigned pin = half / 2;
	uint64_t mask = half % 2 == 0 ? IOAPIC_RTE_LOW : IOAPIC_RTE_HIGH;
	uint64_t *rte;

	if (ioapic->select == IOAPIC_IOAPICID)
		ioapic->id = value & IOAPIC_ID_MASK;
	if (pin >= IOAPIC_PINS)
		return;
	rte = &ioapic->redirection[pin];
	*rte = (*rte & ~mask) | ((uint64_t)value << (half % 2 * 32) & mask);
	if (!is_level(*rte))
		*rte &= ~IOAPIC_RTE_REMOTE_IRR;
	watch_locked(ioapic, pin);
	level_due_locked(ioapic, pin);
}

static uint64_t
ioapic_read(void *self, uint64_t off, unsigned size)
{
	const struct ioapic *ioapic = self;
	uint64_t value = 0;

	lock_take(&ioapic->chip->lock);
	if (off == IOAPIC_IOREGSEL)
		value = ioapic->select;
	else if (off == IOAPIC_IOWIN)
		value = register_read_locked(ioapic);
	lock_drop(&ioapic->chip->lock);
	return value;
}

static void
ioapic_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct ioapic *ioapic = self;

	lock_take(&ioapic->chip->lock);
	if (off == IOAPIC_IOREGSEL)
		ioapic->select = value & UINT8_MAX;
	else if (off == IOAPIC_IOWIN)
		register_write_locked(ioapic, value);
	lock_drop(&ioapic->chip->lock);
}

static const struct io_ops ioapic_ops = {
	.read = ioapic_read,
	.write = ioapic_write,
	.widths = 4,
	.odd = IO_ZEROS,
	.aligned = true,
};

static int
ioapic_create(struct device *dev, void *self, struct err *err)
{
	struct ioapic *ioapic = self;

	ioapic->chip = device_irq_chip(dev);
	ioapic->chip->ioapic = ioapic;
	return device_map_mmio_ops(dev, PLAT_IOAPIC_BASE, IOAPIC_SIZE,
	    &ioapic_ops, err);
}

/* Reset or loaded. */
static void
ioapic_changed(void *self)
{
	struct ioapic *ioapic = self;

	lock_take(&ioapic->chip->lock);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		watch_locked(ioapic, pin);
		/* By invariant 2, news only to an engine with more vCPUs. */
		level_due_locked(ioapic, pin);
	}
	lock_drop(&ioapic->chip->lock);
}

static int
ioapic_check(const void *self, struct err *err)
{
	const struct ioapic *ioapic = self;

	if (ioapic->id & ~IOAPIC_ID_MASK)
		return err_set(err, -EINVAL,
		    "I/O APIC: id register cannot be 0x%08x", ioapic->id);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t rte = ioapic->redirection[pin];
		uint64_t valid = IOAPIC_RTE_LOW | IOAPIC_RTE_HIGH;

		if (is_level(rte))
			valid |= IOAPIC_RTE_REMOTE_IRR;
		if (rte & ~valid)
			return err_set(err, -EINVAL,
			    "I/O APIC: pin %u cannot be 0x%016llx", pin,
			    (unsigned long long)rte);
	}
	return 0;
}

DEVICE_MODEL(ioapic) = {
	.name = "ioapic",
	.state_version = 1,
	.size = sizeof(struct ioapic),
	STATE_TABLE(ioapic_state),
	.unlocked = true,
	.create = ioapic_create,
	.changed = ioapic_changed,
	.check = ioapic_check,
};
