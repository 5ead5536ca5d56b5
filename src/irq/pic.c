/*
 * The 8259A pair: a PC's first interrupt controllers.
 *
 * Models       Intel 8259A data sheet (231468), two of them as an 82371SB
 *              wires them: ports 0x20-0x21 and 0xa0-0xa1, the slave's output
 *              on the master's input 2, edge or level by line (ELCR).  All of
 *              ICW1, 2 and 4, OCW1-3, every mode of priority, poll.
 * Leaves out   8080 mode, buffered mode, ICW1's LTIM (the ELCR replaces it, as
 *              in the 82371SB) and ICW3: the wiring is what it is.
 * Departures   An edge stays latched when its line falls before the processor
 *              acknowledges; the data sheet would turn it into a spurious
 *              IRQ 7.  Devices here pulse their lines.
 *              ICW1 clears what is in service, as real parts do although the
 *              data sheet does not say so.
 *              The cascade is no latched edge: the master's input 2 requests
 *              while the slave has something to deliver.
 *              Before its first ICW1 a chip delivers nothing, but its mask can
 *              be written and read, which is how guests probe for it.
 * Locking      the irq lock, taken at every entry; the model is unlocked.
 *              The engine is called under it: see irq.c.
 * Invariants   1. `intr` is what request_locked() finds for the master; every
 *                 change of state ends in update_locked().
 *              2. An edge is latched only for a line that senses edges.
 *
 *      IDLE ──ICW1──▶ ICW2 ──▶ ICW3 ──▶ ICW4 ──▶ READY    (write_data_locked)
 *                         └─SNGL──┴────▶ ┴─no IC4──▶ READY
 *      any ──ICW1──▶ ICW2                               (write_command_locked)
 */
#include <errno.h>

#include "base/util.h"
#include "engine/engine.h"
#include "irq/irq_impl.h"
#include "vm/device.h"

enum { PIC_MASTER, PIC_SLAVE, PIC_CHIPS };
#define PIC_INPUTS 8

enum pic_step { PIC_IDLE, PIC_ICW2, PIC_ICW3, PIC_ICW4, PIC_READY };

#define PIC_ICW1 0x10 /* in a command: it is ICW1 */
#define PIC_ICW1_IC4 0x01
#define PIC_ICW1_SNGL 0x02
#define PIC_ICW2_BASE 0xf8
#define PIC_ICW4_AEOI 0x02
#define PIC_ICW4_SFNM 0x10
#define PIC_OCW3 0x08 /* in a command: it is OCW3, else OCW2 */
#define PIC_OCW2_LEVEL 0x07
#define PIC_OCW3_RIS 0x01
#define PIC_OCW3_RR 0x02
#define PIC_OCW3_P 0x04
#define PIC_OCW3_SMM 0x20
#define PIC_OCW3_ESMM 0x40
#define PIC_POLL_REQUEST 0x80

/* OCW2, bits 7 to 5: rotate, specific, end of interrupt. */
enum pic_ocw2 {
	PIC_ROTATE_AEOI_CLEAR,
	PIC_EOI,
	PIC_NOP,
	PIC_EOI_SPECIFIC,
	PIC_ROTATE_AEOI_SET,
	PIC_ROTATE_EOI,
	PIC_SET_PRIORITY,
	PIC_ROTATE_EOI_SPECIFIC,
};

struct i8259 {
	uint8_t edges; /* latched and not acknowledged */
	uint8_t imr;
	uint8_t isr;
	uint8_t base;   /* vector of input 0 */
	uint8_t lowest; /* the input of lowest priority; the next is highest */
	uint8_t step;   /* enum pic_step */
	bool single;
	bool wants_icw4;
	bool auto_eoi;
	bool nested; /* special fully nested mode */
	bool rotate_aeoi;
	bool special_mask;
	bool read_isr;
	bool poll; /* the next read acknowledges */
};

struct pic {
	struct irq_chip *chip; /* borrowed: outlives every device */
	struct i8259 i8259[PIC_CHIPS];
	bool intr; /* the wire to the processor */
};

static const struct field pic_state[] = {
#define I8259_STATE(n)                                                     \
	STATE_INT(struct pic, i8259[n].edges, 0),                          \
	    STATE_INT(struct pic, i8259[n].imr, 0),                        \
	    STATE_INT(struct pic, i8259[n].isr, 0),                        \
	    STATE_INT(struct pic, i8259[n].base, 0),                       \
	    STATE_INT_MAX(struct pic, i8259[n].lowest, PIC_INPUTS - 1,     \
		PIC_INPUTS - 1),                                           \
	    STATE_INT_MAX(struct pic, i8259[n].step, PIC_IDLE, PIC_READY), \
	    STATE_BOOL(struct pic, i8259[n].single, 0),                    \
	    STATE_BOOL(struct pic, i8259[n].wants_icw4, 0),                \
	    STATE_BOOL(struct pic, i8259[n].auto_eoi, 0),                  \
	    STATE_BOOL(struct pic, i8259[n].nested, 0),                    \
	    STATE_BOOL(struct pic, i8259[n].rotate_aeoi, 0),               \
	    STATE_BOOL(struct pic, i8259[n].special_mask, 0),              \
	    STATE_BOOL(struct pic, i8259[n].read_isr, 0),                  \
	    STATE_BOOL(struct pic, i8259[n].poll, 0)
	I8259_STATE(PIC_MASTER),
	I8259_STATE(PIC_SLAVE),
};

static int request_locked(const struct pic *pic, unsigned n);

/* The interrupt request register of chip n. */
static uint8_t
irr_locked(const struct pic *pic, unsigned n)
{
	const struct irq_chip *chip = pic->chip;
	uint32_t high = chip->level & chip->level_triggered;
	uint8_t irr = pic->i8259[n].edges | high >> (n * PIC_INPUTS);

	if (n == PIC_MASTER) {
		irr &= ~BIT(IRQ_CASCADE);
		if (request_locked(pic, PIC_SLAVE) >= 0)
			irr |= BIT(IRQ_CASCADE);
	}
	return irr;
}

/* The input that chip n would have acknowledged now; -1 if there is none. */
static int
request_locked(const struct pic *pic, unsigned n)
{
	const struct i8259 *p = &pic->i8259[n];
	uint8_t requests, blocking = p->isr;

	if (p->step != PIC_READY)
		return -1;
	requests = irr_locked(pic, n) & ~p->imr;
	/* In special mask mode a masked input in service holds nobody up. */
	if (p->special_mask)
		blocking &= ~p->imr;
	for (unsigned i = 1; i <= PIC_INPUTS; i++) {
		unsigned input = (p->lowest + i) % PIC_INPUTS;
		bool in_service = blocking & BIT(input);
		/* The slave may have found something more urgent. */
		bool nested =
		    p->nested && n == PIC_MASTER && input == IRQ_CASCADE;

		if ((requests & BIT(input)) && (!in_service || nested))
			return input;
		if (in_service)
			return -1;
	}
	return -1;
}

/* Acknowledge: the input, 7 if the request has gone away meanwhile. */
static unsigned
acknowledge_locked(struct pic *pic, unsigned n)
{
	struct i8259 *p = &pic->i8259[n];
	int input = request_locked(pic, n);

	if (input < 0)
		return PIC_INPUTS - 1;
	p->edges &= ~BIT(input);
	if (!p->auto_eoi)
		p->isr |= BIT(input);
	else if (p->rotate_aeoi)
		p->lowest = input;
	return input;
}

static void
set_intr_locked(struct pic *pic, bool intr)
{
	if (pic->intr == intr)
		return;
	pic->intr = intr;
	ioapic_pin_locked(pic->chip->ioapic, 0, intr);
	if (intr)
		engine_intr(pic->chip->engine);
}

static void
update_locked(struct pic *pic)
{
	set_intr_locked(pic, request_locked(pic, PIC_MASTER) >= 0);
}

/* ---- for irq.c ----------------------------------------------------------- */

void
pic_line_locked(struct pic *pic, unsigned line, bool level)
{
	assert(lock_held(&pic->chip->lock));
	if (level && !(pic->chip->level_triggered & BIT(line)))
		pic->i8259[line / PIC_INPUTS].edges |= BIT(line % PIC_INPUTS);
	update_locked(pic);
}

void
pic_sense_locked(struct pic *pic, unsigned line)
{
	assert(lock_held(&pic->chip->lock));
	pic->i8259[line / PIC_INPUTS].edges &= ~BIT(line % PIC_INPUTS);
	update_locked(pic);
}

bool
pic_intr_locked(const struct pic *pic)
{
	assert(lock_held(&pic->chip->lock));
	return pic->intr;
}

uint8_t
pic_intack_locked(struct pic *pic)
{
	const struct i8259 *p = &pic->i8259[PIC_MASTER];
	unsigned input;

	assert(lock_held(&pic->chip->lock));
	input = acknowledge_locked(pic, PIC_MASTER);
	if (input == IRQ_CASCADE && !p->single) {
		p = &pic->i8259[PIC_SLAVE];
		input = acknowledge_locked(pic, PIC_SLAVE);
	}
	/* The wire falls while the vector is read: what remains is news. */
	set_intr_locked(pic, false);
	update_locked(pic);
	return p->base + input;
}

/* ---- the guest's side ---------------------------------------------------- */

static void
end_of_interrupt_locked(struct i8259 *p, enum pic_ocw2 command, unsigned input)
{
	uint8_t in_service = p->isr;

	if (command == PIC_EOI || command == PIC_ROTATE_EOI) {
		/* The most urgent; special mask mode hides the masked ones. */
		if (p->special_mask)
			in_service &= ~p->imr;
		input = (p->lowest + 1) % PIC_INPUTS;
		for (unsigned i = 1; i < PIC_INPUTS; i++) {
			if (in_service & BIT(input))
				break;
			input = (input + 1) % PIC_INPUTS;
		}
		if (!(in_service & BIT(input)))
			return;
	}
	p->isr &= ~BIT(input);
	if (command == PIC_ROTATE_EOI || command == PIC_ROTATE_EOI_SPECIFIC)
		p->lowest = input;
}

static void
write_ocw2_locked(struct i8259 *p, uint8_t value)
{
	enum pic_ocw2 command = value >> 5;
	unsigned input = value & PIC_OCW2_LEVEL;

	switch (command) {
	case PIC_EOI:
	case PIC_EOI_SPECIFIC:
	case PIC_ROTATE_EOI:
	case PIC_ROTATE_EOI_SPECIFIC:
		end_of_interrupt_locked(p, command, input);
		break;
	case PIC_ROTATE_AEOI_CLEAR:
	case PIC_ROTATE_AEOI_SET:
		p->rotate_aeoi = command == PIC_ROTATE_AEOI_SET;
		break;
	case PIC_SET_PRIORITY:
		p->lowest = input;
		break;
	case PIC_NOP:
		break;
	}
}

static void
write_command_locked(struct i8259 *p, uint8_t value)
{
	if (value & PIC_ICW1) {
		*p = (struct i8259) {
			.step = PIC_ICW2,
			.lowest = PIC_INPUTS - 1,
			.base = p->base,
			.single = value & PIC_ICW1_SNGL,
			.wants_icw4 = value & PIC_ICW1_IC4,
		};
	} else if (value & PIC_OCW3) {
		if (value & PIC_OCW3_ESMM)
			p->special_mask = value & PIC_OCW3_SMM;
		p->poll = value & PIC_OCW3_P;
		if (value & PIC_OCW3_RR)
			p->read_isr = value & PIC_OCW3_RIS;
	} else {
		write_ocw2_locked(p, value);
	}
}

static void
write_data_locked(struct i8259 *p, uint8_t value)
{
	switch ((enum pic_step)p->step) {
	case PIC_ICW2:
		p->base = value & PIC_ICW2_BASE;
		if (!p->single)
			p->step = PIC_ICW3;
		else
			p->step = p->wants_icw4 ? PIC_ICW4 : PIC_READY;
		break;
	case PIC_ICW3:
		p->step = p->wants_icw4 ? PIC_ICW4 : PIC_READY;
		break;
	case PIC_ICW4:
		p->auto_eoi = value & PIC_ICW4_AEOI;
		p->nested = value & PIC_ICW4_SFNM;
		p->step = PIC_READY;
		break;
	case PIC_IDLE:
	case PIC_READY:
		p->imr = value;
		break;
	}
}

static void
pic_write(struct pic *pic, unsigned n, uint64_t off, uint8_t value)
{
	lock_take(&pic->chip->lock);
	if (off == 0)
		write_command_locked(&pic->i8259[n], value);
	else
		write_data_locked(&pic->i8259[n], value);
	update_locked(pic);
	lock_drop(&pic->chip->lock);
}

static uint8_t
pic_read(struct pic *pic, unsigned n, uint64_t off)
{
	struct i8259 *p = &pic->i8259[n];
	uint8_t value;

	lock_take(&pic->chip->lock);
	if (p->poll) {
		p->poll = false;
		value = request_locked(pic, n) >= 0 ? PIC_POLL_REQUEST : 0;
		value |= acknowledge_locked(pic, n);
		update_locked(pic);
	} else if (off != 0) {
		value = p->imr;
	} else {
		value = p->read_isr ? p->isr : irr_locked(pic, n);
	}
	lock_drop(&pic->chip->lock);
	return value;
}

static uint64_t
master_read(void *self, uint64_t off, unsigned size)
{
	return pic_read(self, PIC_MASTER, off);
}

static void
master_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	pic_write(self, PIC_MASTER, off, value);
}

static uint64_t
slave_read(void *self, uint64_t off, unsigned size)
{
	return pic_read(self, PIC_SLAVE, off);
}

static void
slave_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	pic_write(self, PIC_SLAVE, off, value);
}

static const struct io_ops master_ops = {
	.read = master_read,
	.write = master_write,
	.widths = 1,
	.odd = IO_SPLIT,
};

static const struct io_ops slave_ops = {
	.read = slave_read,
	.write = slave_write,
	.widths = 1,
	.odd = IO_SPLIT,
};

static int
pic_create(struct device *dev, void *self, struct err *err)
{
	struct pic *pic = self;
	int rc;

	pic->chip = device_irq_chip(dev);
	pic->chip->pic = pic;
	rc = device_map_port_ops(dev, 0x20, 2, &master_ops, err);
	if (rc < 0)
		return rc;
	return device_map_port_ops(dev, 0xa0, 2, &slave_ops, err);
}

/*
 * Reset or loaded: the wire is where the state puts it, and no edge of it is
 * seen by the I/O APIC.  The processor may not know about it, and asks.
 */
static void
pic_changed(void *self)
{
	struct pic *pic = self;

	lock_take(&pic->chip->lock);
	pic->intr = request_locked(pic, PIC_MASTER) >= 0;
	if (pic->intr)
		engine_intr(pic->chip->engine);
	lock_drop(&pic->chip->lock);
}

static int
pic_check(const void *self, struct err *err)
{
	const struct pic *pic = self;

	for (unsigned n = 0; n < PIC_CHIPS; n++) {
		const struct i8259 *p = &pic->i8259[n];

		if (p->base & ~PIC_ICW2_BASE)
			return err_set(err, -EINVAL,
			    "8259A %u: vectors cannot start at 0x%02x", n,
			    p->base);
	}
	if (pic->i8259[PIC_MASTER].edges & BIT(IRQ_CASCADE))
		return err_set(err, -EINVAL,
		    "8259A 0: the cascade cannot latch an edge");
	return 0;
}

DEVICE_MODEL(pic) = {
	.name = "pic",
	.state_version = 1,
	.size = sizeof(struct pic),
	STATE_TABLE(pic_state),
	.unlocked = true,
	.create = pic_create,
	.changed = pic_changed,
	.check = pic_check,
};
