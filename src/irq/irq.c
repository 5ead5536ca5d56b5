/*
 * The lines between devices and the interrupt chips, and the chips as a whole.
 *
 * Models       the wires of a PC's board.  A line is a wire that any number of
 *              sources may pull; what its level means is the chips' affair.
 *
 *                 sources ──▶ line ─┬─▶ 8259A pair ──▶ INTR ──▶ processor
 *                  (irq_line_set)   │       └──▶ pin 0
 *                                   └─▶ I/O APIC ──▶ messages ─▶ local APICs
 *
 *              Line 0 is pin 2 of the I/O APIC.  Line 2 does not exist: it is
 *              the cascade of the 8259As; pulling it has no effect.
 * Leaves out   polarity: a line is asserted or not, and both chips take that
 *              for active, whatever the guest believes about volts.
 * Locking      the irq lock guards the lines and both chips.  It is a leaf:
 *              the engine is called under it (engine_send_msi, engine_intr,
 *              engine_watch_eoi never call back and hold nothing that does),
 *              and devices are not called at all.  Because of it the models
 *              here are `unlocked`; the device lock would guard nothing.
 *              intack, intr and eoi arrive on vCPU threads and take it too.
 * Invariants   1. sources[n] counts the irq_lines of line n with `asserted`
 *                 set and the chip's epoch.
 *              2. Outside a load and the resume after it, a line is high
 *                 exactly when it has a source.
 *
 * Saved state, and why nothing is lost or doubled:
 *
 * The wires' levels are saved, the sources are not.  This device is the first
 * to be made, so the first to be loaded or reset.  When that happens it starts
 * a new epoch: every source is forgotten, the wires keep the loaded levels.
 * Then elcr, pic and ioapic load, which look at the wires but see no change
 * of them.  Then each device of the machine is loaded, and its changed() sets
 * its sources again: one that is asserted finds its wire high already, so no
 * chip sees an edge; one that is not has nothing to lower, although it may
 * have been asserted before the load.  A wire that is high without a source
 * once all is loaded can only come from a forged state; it falls when the
 * machine starts or resumes.  The ELCR is loaded before the 8259As, because a
 * change of trigger drops the edge that is pending then.  What the board wires
 * as level is no state: irq_wire_level() is called by the same devices in every
 * such machine.
 *
 * A reset is the load of a state with all wires low: a device that stays
 * asserted through a reset makes a new edge, and the chips, being reset first,
 * are masked by then.
 */
#include <errno.h>

#include "base/util.h"
#include "engine/engine.h"
#include "irq/irq.h"
#include "irq/irq_impl.h"
#include "vm/device.h"
#include "vm/vm.h"

static void
set_level_locked(struct irq_chip *chip, unsigned line, bool level)
{
	if (((chip->level & BIT(line)) != 0) == level)
		return;
	chip->level ^= BIT(line);
	if (level)
		chip->rises[line]++;
	if (line == IRQ_CASCADE)
		return;
	if (line < IRQ_ISA_LINES)
		pic_line_locked(chip->pic, line, level);
	ioapic_pin_locked(chip->ioapic, line == 0 ? 2 : line, level);
}

void
irq_line_init(struct irq_line *line, struct irq_chip *chip, unsigned number)
{
	assert(number < IRQ_LINES);
	*line = (struct irq_line) { .chip = chip, .line = number };
}

/* A source that was last set before a load or reset is not counted. */
static void
join_epoch_locked(struct irq_line *line)
{
	if (line->epoch != line->chip->epoch) {
		line->epoch = line->chip->epoch;
		line->asserted = false;
	}
}

void
irq_line_set(struct irq_line *line, bool asserted)
{
	struct irq_chip *chip = line->chip;

	lock_take(&chip->lock);
	join_epoch_locked(line);
	if (line->asserted != asserted) {
		line->asserted = asserted;
		chip->sources[line->line] += asserted ? 1 : -1;
		set_level_locked(chip, line->line,
		    chip->sources[line->line] > 0);
	}
	lock_drop(&chip->lock);
}

void
irq_line_pulse(struct irq_line *line)
{
	struct irq_chip *chip = line->chip;

	lock_take(&chip->lock);
	join_epoch_locked(line);
	assert(!line->asserted);
	/* High already, the wire shows no edge of ours. */
	if (!(chip->level & BIT(line->line))) {
		set_level_locked(chip, line->line, true);
		set_level_locked(chip, line->line, false);
	}
	lock_drop(&chip->lock);
}

/* The ELCR or the board says otherwise in its mask; what comes of both? */
static void
set_sense_locked(struct irq_chip *chip, unsigned line, uint32_t *mask,
    bool level)
{
	uint32_t before = chip->level_triggered;

	*mask = level ? *mask | BIT(line) : *mask & ~BIT(line);
	chip->level_triggered = chip->elcr | chip->wired_level;
	/* The ELCR is set up before there is an 8259A. */
	if (chip->level_triggered != before && chip->pic != NULL)
		pic_sense_locked(chip->pic, line);
}

void
irq_set_trigger(struct irq_chip *chip, unsigned line, enum irq_trigger trigger)
{
	assert(line < IRQ_ISA_LINES);
	lock_take(&chip->lock);
	set_sense_locked(chip, line, &chip->elcr, trigger == IRQ_LEVEL);
	lock_drop(&chip->lock);
}

void
irq_wire_level(struct irq_chip *chip, unsigned line, bool level)
{
	assert(line < IRQ_ISA_LINES);
	lock_take(&chip->lock);
	set_sense_locked(chip, line, &chip->wired_level, level);
	lock_drop(&chip->lock);
}

enum irq_trigger
irq_get_trigger(struct irq_chip *chip, unsigned line)
{
	bool level;

	assert(line < IRQ_ISA_LINES);
	lock_take(&chip->lock);
	level = (chip->level_triggered & BIT(line)) != 0;
	lock_drop(&chip->lock);
	return level ? IRQ_LEVEL : IRQ_EDGE;
}

bool
irq_line_level(struct irq_chip *chip, unsigned line)
{
	bool level;

	assert(line < IRQ_LINES);
	lock_take(&chip->lock);
	level = (chip->level & BIT(line)) != 0;
	lock_drop(&chip->lock);
	return level;
}

uint64_t
irq_line_rises(struct irq_chip *chip, unsigned line)
{
	uint64_t rises;

	assert(line < IRQ_LINES);
	lock_take(&chip->lock);
	rises = chip->rises[line];
	lock_drop(&chip->lock);
	return rises;
}

int
irq_send_msi(struct irq_chip *chip, uint64_t addr, uint32_t data)
{
	const struct engine_msi msi = { .addr = addr, .data = data };

	/* Anywhere else it would be a write to memory, and not ours to do. */
	if (addr >> 20 != 0xfee)
		return -EINVAL;
	return engine_send_msi(chip->engine, &msi);
}

int
irq_attach_fd(struct irq_chip *chip, int fd, uint64_t addr, uint32_t data)
{
	const struct engine_msi msi = { .addr = addr, .data = data };

	return engine_irqfd(chip->engine, fd, &msi);
}

int
irq_detach_fd(struct irq_chip *chip, int fd)
{
	return engine_irqfd(chip->engine, fd, NULL);
}

/* ---- the machine's questions --------------------------------------------- */

static uint8_t
irq_intack(struct irq_chip *chip)
{
	uint8_t vector;

	lock_take(&chip->lock);
	vector = pic_intack_locked(chip->pic);
	lock_drop(&chip->lock);
	return vector;
}

static bool
irq_intr(struct irq_chip *chip)
{
	bool intr;

	lock_take(&chip->lock);
	intr = pic_intr_locked(chip->pic);
	lock_drop(&chip->lock);
	return intr;
}

static void
irq_eoi(struct irq_chip *chip, uint8_t vector)
{
	lock_take(&chip->lock);
	ioapic_eoi_locked(chip->ioapic, vector);
	lock_drop(&chip->lock);
}

static const struct vm_irq_ops irq_ops = {
	.intack = irq_intack,
	.intr = irq_intr,
	.eoi = irq_eoi,
};

/* ---- the device ---------------------------------------------------------- */

static const struct field irq_state[] = {
	STATE_INT(struct irq_chip, level, 0),
};

static int
irq_create(struct device *dev, void *self, struct err *err)
{
	struct irq_chip *chip = self;

	lock_init(&chip->lock);
	chip->engine = vm_engine(device_vm(dev));
	vm_set_irq_chip(device_vm(dev), chip, &irq_ops);
	return 0;
}

/* Reset or loaded: the wires are as they shall be, their sources to come. */
static void
irq_changed(void *self)
{
	struct irq_chip *chip = self;

	lock_take(&chip->lock);
	chip->epoch++;
	for (unsigned line = 0; line < IRQ_LINES; line++)
		chip->sources[line] = 0;
	lock_drop(&chip->lock);
}

/* Every device has had its say: a wire without a source falls. */
static void
irq_resume(void *self)
{
	struct irq_chip *chip = self;

	lock_take(&chip->lock);
	for (unsigned line = 0; line < IRQ_LINES; line++) {
		if (chip->sources[line] == 0)
			set_level_locked(chip, line, false);
	}
	lock_drop(&chip->lock);
}

static int
irq_start(void *self, struct err *err)
{
	irq_resume(self);
	return 0;
}

static void
irq_destroy(void *self)
{
	struct irq_chip *chip = self;

	lock_fini(&chip->lock);
}

DEVICE_MODEL(irq) = {
	.name = "irq",
	.state_version = 1,
	.size = sizeof(struct irq_chip),
	STATE_TABLE(irq_state),
	.unlocked = true,
	.create = irq_create,
	.start = irq_start,
	.resume = irq_resume,
	.changed = irq_changed,
	.destroy = irq_destroy,
};

int
irq_chip_new(struct vm *vm, struct err *err)
{
	/* In the order of loading: see "saved state" above. */
	static const char *const models[] = { "irq", "elcr", "pic", "ioapic" };

	for (unsigned i = 0; i < ARRAY_SIZE(models); i++) {
		struct device *dev;
		int rc = device_new(vm, models[i], models[i], NULL, &dev, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}
