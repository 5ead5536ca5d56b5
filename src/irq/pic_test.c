/*
 * The 8259A pair: each command by hand, then long random runs against a model
 * that is written the other way round, as a queue of inputs.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "test/bench.h"

#define MASTER 0x20
#define SLAVE 0xa0
#define EOI 0x20
#define READ_IRR 0x0a
#define READ_ISR 0x0b
#define POLL 0x0c
#define SMM_ON 0x68
#define SMM_OFF 0x48

/* Vectors 0x20 and 0x28, all unmasked. */
static void
set_up(struct bench *b, uint8_t master_icw4, uint8_t slave_icw4)
{
	bench_out8(b, MASTER, 0x11);
	bench_out8(b, MASTER + 1, 0x20);
	bench_out8(b, MASTER + 1, 0x04);
	bench_out8(b, MASTER + 1, master_icw4);
	bench_out8(b, SLAVE, 0x11);
	bench_out8(b, SLAVE + 1, 0x28);
	bench_out8(b, SLAVE + 1, 0x02);
	bench_out8(b, SLAVE + 1, slave_icw4);
}

static uint8_t
status(struct bench *b, uint16_t chip, uint8_t which)
{
	bench_out8(b, chip, which);
	return bench_in8(b, chip);
}

static struct irq_line
line(struct bench *b, unsigned number)
{
	struct irq_line l;

	irq_line_init(&l, vm_irq_chip(b->vm), number);
	return l;
}

static void
pulse(struct bench *b, unsigned number)
{
	struct irq_line l = line(b, number);

	irq_line_pulse(&l);
}

static void
silent_before_icw1(void **state)
{
	struct bench *b = *state;

	pulse(b, 0);
	pulse(b, 9);
	assert_false(bench_intr(b));
	/* How Linux finds out that there is an 8259A. */
	assert_int_equal(bench_in8(b, MASTER + 1), 0);
	bench_out8(b, MASTER + 1, 0xfb);
	assert_int_equal(bench_in8(b, MASTER + 1), 0xfb);
	bench_out8(b, SLAVE + 1, 0x5a);
	assert_int_equal(bench_in8(b, SLAVE + 1), 0x5a);
	assert_int_equal(b->intr_count, 0);
}

static void
initialisation(void **state)
{
	struct bench *b = *state;

	bench_out8(b, MASTER + 1, 0xff);
	bench_out8(b, MASTER, 0x11);
	assert_int_equal(bench_in8(b, MASTER + 1), 0); /* IMR cleared */
	bench_out8(b, MASTER + 1, 0x47); /* the low bits are not the base's */
	pulse(b, 3);
	assert_false(bench_intr(b)); /* not ready */
	bench_out8(b, MASTER + 1, 0x04);
	assert_false(bench_intr(b));
	bench_out8(b, MASTER + 1, 0x01);
	assert_true(bench_intr(b));
	assert_int_equal(bench_intack(b), 0x43);
	/* From here on the data port is the mask. */
	bench_out8(b, MASTER + 1, 0x08);
	assert_int_equal(bench_in8(b, MASTER + 1), 0x08);
	/* ICW1 forgets mask, requests and what is in service. */
	pulse(b, 5);
	bench_out8(b, MASTER, 0x11);
	bench_out8(b, MASTER + 1, 0x40);
	bench_out8(b, MASTER + 1, 0x04);
	bench_out8(b, MASTER + 1, 0x01);
	assert_int_equal(status(b, MASTER, READ_IRR), 0);
	assert_int_equal(status(b, MASTER, READ_ISR), 0);
	assert_false(bench_intr(b));
	/* An ICW1 amid the others begins anew. */
	bench_out8(b, MASTER, 0x11);
	bench_out8(b, MASTER + 1, 0x50);
	bench_out8(b, MASTER, 0x12); /* single, no ICW4 */
	bench_out8(b, MASTER + 1, 0x60);
	bench_out8(b, MASTER + 1, 0x01); /* the mask already */
	assert_int_equal(bench_in8(b, MASTER + 1), 0x01);
	pulse(b, 6);
	assert_int_equal(bench_intack(b), 0x66);
}

static void
a_single_chip_has_no_cascade(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	bench_out8(b, MASTER, 0x13);
	bench_out8(b, MASTER + 1, 0x20);
	bench_out8(b, MASTER + 1, 0x01); /* ICW4: no ICW3 when single */
	bench_out8(b, MASTER + 1, 0x00);
	pulse(b, 10);
	assert_int_equal(bench_intack(b), 0x22);
}

static void
priorities_nest(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	pulse(b, 6);
	assert_int_equal(b->intr_count, 1);
	assert_int_equal(bench_intack(b), 0x26);
	pulse(b, 7);
	assert_false(bench_intr(b));
	pulse(b, 6);
	assert_false(bench_intr(b));
	pulse(b, 9); /* by way of input 2: higher */
	assert_int_equal(bench_intack(b), 0x29);
	assert_int_equal(status(b, MASTER, READ_ISR), 0x44);
	assert_int_equal(status(b, SLAVE, READ_ISR), 0x02);
	pulse(b, 8);
	assert_false(bench_intr(b)); /* the master's input 2 is in service */
	pulse(b, 0);
	assert_int_equal(bench_intack(b), 0x20);
	bench_out8(b, MASTER, EOI); /* 0 */
	assert_false(bench_intr(b));
	bench_out8(b, MASTER, EOI); /* 2 */
	assert_int_equal(bench_intack(b), 0x28);
	bench_out8(b, SLAVE, EOI);  /* 8 */
	bench_out8(b, SLAVE, EOI);  /* 9 */
	bench_out8(b, MASTER, EOI); /* 2 */
	bench_out8(b, MASTER, EOI); /* 6 */
	assert_int_equal(bench_intack(b), 0x26);
	bench_out8(b, MASTER, EOI);
	assert_int_equal(bench_intack(b), 0x27);
	bench_out8(b, MASTER, EOI);
	assert_int_equal(status(b, MASTER, READ_ISR), 0);
	assert_int_equal(status(b, SLAVE, READ_ISR), 0);
	bench_out8(b, MASTER, EOI); /* nothing to end */
	assert_int_equal(status(b, MASTER, READ_ISR), 0);
}

static void
masks(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	bench_out8(b, MASTER + 1, 0xfb);
	bench_out8(b, SLAVE + 1, 0xff);
	pulse(b, 4);
	pulse(b, 12);
	assert_false(bench_intr(b));
	assert_int_equal(status(b, MASTER, READ_IRR), 0x10);
	assert_int_equal(status(b, SLAVE, READ_IRR), 0x10);
	bench_out8(b, SLAVE + 1, 0xef);
	assert_int_equal(status(b, MASTER, READ_IRR), 0x14);
	assert_int_equal(bench_intack(b), 0x2c);
	bench_out8(b, SLAVE, EOI);
	bench_out8(b, MASTER, EOI);
	bench_out8(b, MASTER + 1, 0xeb);
	assert_int_equal(bench_intack(b), 0x24);
}

static void
edges_and_levels(void **state)
{
	struct bench *b = *state;
	struct irq_line l5 = line(b, 5), l11 = line(b, 11);

	set_up(b, 0x01, 0x01);
	bench_out8(b, 0x4d0, 0x20);
	/* A level asks as long as it is there. */
	irq_line_set(&l5, true);
	assert_true(bench_intr(b));
	irq_line_set(&l5, false);
	assert_false(bench_intr(b));
	irq_line_set(&l5, true);
	assert_int_equal(bench_intack(b), 0x25);
	assert_int_equal(status(b, MASTER, READ_IRR), 0x20);
	assert_false(bench_intr(b));
	bench_out8(b, MASTER, EOI);
	assert_int_equal(bench_intack(b), 0x25);
	irq_line_set(&l5, false);
	bench_out8(b, MASTER, EOI);
	assert_false(bench_intr(b));
	/* An edge asks once, and is kept when the line falls. */
	irq_line_set(&l11, true);
	assert_int_equal(bench_intack(b), 0x2b);
	bench_out8(b, SLAVE, EOI);
	bench_out8(b, MASTER, EOI);
	assert_false(bench_intr(b));
	irq_line_set(&l11, false);
	irq_line_set(&l11, true);
	irq_line_set(&l11, false);
	assert_true(bench_intr(b));
	/* A change of the trigger drops it. */
	bench_out8(b, 0x4d1, 0x08);
	assert_false(bench_intr(b));
	bench_out8(b, 0x4d1, 0x00);
	assert_false(bench_intr(b));
	/* A high line makes no edge by being sensed anew. */
	irq_line_set(&l5, true);
	bench_out8(b, 0x4d0, 0x00);
	assert_false(bench_intr(b));
	bench_out8(b, 0x4d0, 0x20);
	assert_true(bench_intr(b));
}

static void
spurious_interrupts(void **state)
{
	struct bench *b = *state;
	struct irq_line l5 = line(b, 5), l10 = line(b, 10);

	set_up(b, 0x01, 0x01);
	bench_out8(b, 0x4d0, 0x20);
	bench_out8(b, 0x4d1, 0x04);
	irq_line_set(&l5, true);
	irq_line_set(&l5, false);
	assert_int_equal(bench_intack(b), 0x27);
	assert_int_equal(status(b, MASTER, READ_ISR), 0);
	/* Masked between INTR and its acknowledge. */
	irq_line_set(&l5, true);
	bench_out8(b, MASTER + 1, 0x20);
	assert_int_equal(bench_intack(b), 0x27);
	irq_line_set(&l5, false);
	/* The slave's: its line goes when the master has decided. */
	irq_line_set(&l10, true);
	bench_out8(b, MASTER, POLL);
	assert_int_equal(bench_in8(b, MASTER), 0x82);
	irq_line_set(&l10, false);
	bench_out8(b, SLAVE, POLL);
	assert_int_equal(bench_in8(b, SLAVE), 0x07);
	assert_int_equal(status(b, SLAVE, READ_ISR), 0);
	assert_int_equal(status(b, MASTER, READ_ISR), 0x04);
}

static void
specific_eoi(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	pulse(b, 6);
	(void)bench_intack(b);
	pulse(b, 3);
	(void)bench_intack(b);
	assert_int_equal(status(b, MASTER, READ_ISR), 0x48);
	bench_out8(b, MASTER, 0x66);
	assert_int_equal(status(b, MASTER, READ_ISR), 0x08);
	bench_out8(b, MASTER, 0x40 | 3); /* no operation */
	assert_int_equal(status(b, MASTER, READ_ISR), 0x08);
	bench_out8(b, MASTER, 0x63);
	assert_int_equal(status(b, MASTER, READ_ISR), 0);
}

static void
rotation(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	bench_out8(b, MASTER, 0xc4); /* 4 is lowest, 5 highest */
	pulse(b, 4);
	pulse(b, 3);
	pulse(b, 6);
	assert_int_equal(bench_intack(b), 0x26);
	pulse(b, 5);
	assert_int_equal(bench_intack(b), 0x25);
	bench_out8(b, MASTER, 0xa0); /* ends 5, now the lowest: 6 is highest */
	assert_int_equal(status(b, MASTER, READ_ISR), 0x40);
	pulse(b, 5);
	bench_out8(b, MASTER, 0xe6); /* ends 6, now the lowest: 7 is highest */
	assert_int_equal(status(b, MASTER, READ_ISR), 0);
	assert_int_equal(bench_intack(b), 0x23);
	bench_out8(b, MASTER, 0x63);
	assert_int_equal(bench_intack(b), 0x24);
	bench_out8(b, MASTER, 0x64);
	assert_int_equal(bench_intack(b), 0x25);
	/* With nothing in service a rotating EOI does nothing. */
	bench_out8(b, MASTER, 0xe5);
	bench_out8(b, MASTER, 0xa0);
	pulse(b, 5);
	pulse(b, 6);
	assert_int_equal(bench_intack(b), 0x26);
}

static void
automatic_eoi(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x03, 0x01);
	pulse(b, 4);
	pulse(b, 5);
	assert_int_equal(bench_intack(b), 0x24);
	assert_int_equal(status(b, MASTER, READ_ISR), 0);
	assert_int_equal(b->intr_count, 2); /* told again: 5 is waiting */
	assert_int_equal(bench_intack(b), 0x25);
	bench_out8(b, MASTER, 0x80); /* rotate */
	pulse(b, 4);
	assert_int_equal(bench_intack(b), 0x24);
	pulse(b, 4);
	pulse(b, 7);
	assert_int_equal(bench_intack(b), 0x27);
	assert_int_equal(bench_intack(b), 0x24);
	bench_out8(b, MASTER, 0x00); /* and no longer: 4 stays lowest */
	pulse(b, 5);
	assert_int_equal(bench_intack(b), 0x25);
	pulse(b, 4);
	pulse(b, 5);
	assert_int_equal(bench_intack(b), 0x25);
}

static void
special_mask(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	pulse(b, 3);
	(void)bench_intack(b);
	pulse(b, 6);
	assert_false(bench_intr(b));
	bench_out8(b, MASTER + 1, 0x08);
	assert_false(bench_intr(b));
	bench_out8(b, MASTER, SMM_ON);
	assert_int_equal(bench_intack(b), 0x26);
	assert_int_equal(status(b, MASTER, READ_ISR), 0x48);
	/* The masked input is not what a plain EOI ends. */
	bench_out8(b, MASTER, EOI);
	assert_int_equal(status(b, MASTER, READ_ISR), 0x08);
	bench_out8(b, MASTER, EOI);
	assert_int_equal(status(b, MASTER, READ_ISR), 0x08);
	bench_out8(b, MASTER, SMM_OFF);
	pulse(b, 7);
	assert_false(bench_intr(b));
	bench_out8(b, MASTER, EOI);
	assert_int_equal(bench_intack(b), 0x27);
}

static void
special_fully_nested(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x11, 0x01);
	pulse(b, 12);
	assert_int_equal(bench_intack(b), 0x2c);
	pulse(b, 3);
	assert_false(bench_intr(b)); /* lower than the slave's input */
	pulse(b, 13);
	assert_false(bench_intr(b)); /* lower within the slave */
	pulse(b, 9);
	assert_int_equal(bench_intack(b), 0x29);
	bench_out8(b, SLAVE, EOI);
	bench_out8(b, SLAVE, EOI);
	assert_int_equal(bench_intack(b), 0x2d);
	bench_out8(b, SLAVE, EOI);
	bench_out8(b, MASTER, EOI);
	assert_int_equal(bench_intack(b), 0x23);
}

static void
polling(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	bench_out8(b, MASTER, POLL);
	assert_int_equal(bench_in8(b, MASTER), 0x07);
	pulse(b, 5);
	bench_out8(b, MASTER, POLL);
	assert_int_equal(bench_in8(b, MASTER), 0x85);
	assert_false(bench_intr(b));
	assert_int_equal(status(b, MASTER, READ_ISR), 0x20);
	/* One read only; and either port will do. */
	assert_int_equal(bench_in8(b, MASTER), 0x20);
	pulse(b, 1);
	bench_out8(b, MASTER, POLL);
	assert_int_equal(bench_in8(b, MASTER + 1), 0x81);
	assert_int_equal(bench_in8(b, MASTER + 1), 0x00);
}

static void
the_status_read_stays_chosen(void **state)
{
	struct bench *b = *state;

	set_up(b, 0x01, 0x01);
	pulse(b, 4);
	assert_int_equal(bench_in8(b, MASTER), 0x10); /* IRR at first */
	assert_int_equal(status(b, MASTER, READ_ISR), 0x00);
	bench_out8(b, MASTER, 0x08); /* neither: as before */
	assert_int_equal(bench_in8(b, MASTER), 0x00);
	(void)bench_intack(b);
	assert_int_equal(bench_in8(b, MASTER), 0x10);
	assert_int_equal(status(b, MASTER, READ_IRR), 0x00);
	/* Two ports in one access. */
	bench_out8(b, MASTER + 1, 0xa5);
	assert_int_equal(bench_in16(b, MASTER), 0xa500);
}

/* ---- a model ------------------------------------------------------------- */

struct model_chip {
	unsigned order[8]; /* inputs, most urgent first */
	bool edge[8], in_service[8], masked[8];
	bool auto_eoi, rotate, nested, special;
};

struct model {
	struct model_chip chip[2];
	bool high[16], level[16];
};

static int model_next(const struct model *m, unsigned n);

static bool
model_requests(const struct model *m, unsigned n, unsigned input)
{
	if (n == 0 && input == 2)
		return model_next(m, 1) >= 0;
	if (m->level[n * 8 + input])
		return m->high[n * 8 + input];
	return m->chip[n].edge[input];
}

/* Is the input held up by what is in service before it in the queue? */
static bool
model_blocked(const struct model *m, unsigned n, unsigned input)
{
	const struct model_chip *c = &m->chip[n];

	for (unsigned i = 0;; i++) {
		unsigned other = c->order[i];
		bool counts =
		    c->in_service[other] && !(c->special && c->masked[other]);

		if (other == input)
			return counts && !(n == 0 && input == 2 && c->nested);
		if (counts)
			return true;
	}
}

static int
model_next(const struct model *m, unsigned n)
{
	const struct model_chip *c = &m->chip[n];

	for (unsigned i = 0; i < 8; i++) {
		unsigned input = c->order[i];

		if (model_requests(m, n, input) && !c->masked[input] &&
		    !model_blocked(m, n, input))
			return input;
	}
	return -1;
}

/* Turn the queue until the input is its last. */
static void
model_rotate(struct model_chip *c, unsigned input)
{
	while (c->order[7] != input) {
		unsigned first = c->order[0];

		for (unsigned i = 0; i < 7; i++)
			c->order[i] = c->order[i + 1];
		c->order[7] = first;
	}
}

static unsigned
model_take(struct model *m, unsigned n)
{
	struct model_chip *c = &m->chip[n];
	int input = model_next(m, n);

	if (input < 0)
		return 7;
	c->edge[input] = false;
	if (!c->auto_eoi)
		c->in_service[input] = true;
	else if (c->rotate)
		model_rotate(c, input);
	return input;
}

static unsigned
model_vector(struct model *m)
{
	unsigned input = model_take(m, 0);

	return input == 2 ? 0x28 + model_take(m, 1) : 0x20 + input;
}

static void
model_ocw2(struct model_chip *c, uint8_t value)
{
	bool rotate = value & 0x80, specific = value & 0x40;
	unsigned input = value & 7;

	if (!(value & 0x20)) {
		if (rotate && specific)
			model_rotate(c, input);
		else if (!specific)
			c->rotate = rotate;
		return;
	}
	for (unsigned i = 0; i < 8 && !specific; i++) {
		unsigned other = c->order[i];

		if (c->in_service[other] && !(c->special && c->masked[other])) {
			specific = true;
			input = other;
		}
	}
	if (!specific)
		return;
	c->in_service[input] = false;
	if (rotate)
		model_rotate(c, input);
}

static uint8_t
model_bits(const bool *bits)
{
	uint8_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value |= bits[i] << i;
	return value;
}

static void
model_compare(struct bench *b, const struct model *m)
{
	assert_int_equal(bench_intr(b), model_next(m, 0) >= 0);
	for (unsigned n = 0; n < 2; n++) {
		uint16_t port = n == 0 ? MASTER : SLAVE;
		bool irr[8];

		for (unsigned i = 0; i < 8; i++)
			irr[i] = model_requests(m, n, i);
		assert_int_equal(status(b, port, READ_IRR), model_bits(irr));
		assert_int_equal(status(b, port, READ_ISR),
		    model_bits(m->chip[n].in_service));
		assert_int_equal(bench_in8(b, port + 1),
		    model_bits(m->chip[n].masked));
	}
}

static void
model_init(struct bench *b, struct model *m)
{
	uint8_t icw4[2];

	for (unsigned n = 0; n < 2; n++) {
		struct model_chip *c = &m->chip[n];

		icw4[n] = 0x01 | (random() & 0x12);
		*c = (struct model_chip) {
			.auto_eoi = icw4[n] & 0x02,
			.nested = icw4[n] & 0x10,
		};
		for (unsigned i = 0; i < 8; i++)
			c->order[i] = i;
	}
	set_up(b, icw4[0], icw4[1]);
}

static void
model_line(struct model *m, struct irq_line *lines, unsigned number)
{
	bool high = random() % 2;

	irq_line_set(&lines[number], high);
	if (high && !m->high[number] && !m->level[number])
		m->chip[number / 8].edge[number % 8] = true;
	m->high[number] = high;
}

static void
model_step(struct bench *b, struct model *m, struct irq_line *lines)
{
	unsigned n = random() % 2, number = random() % 16;
	uint16_t port = n == 0 ? MASTER : SLAVE;
	struct model_chip *c = &m->chip[n];
	uint8_t value = random();
	int polled;

	switch (random() % 16) {
	case 0:
		bench_out8(b, port + 1, value);
		for (unsigned i = 0; i < 8; i++)
			c->masked[i] = value & BIT(i);
		break;
	case 1:
		bench_out8(b, port, value & 0xe7); /* any OCW2 */
		model_ocw2(c, value & 0xe7);
		break;
	case 2:
		c->special = value & 1;
		bench_out8(b, port, c->special ? SMM_ON : SMM_OFF);
		break;
	case 3:
		polled = model_next(m, n);
		bench_out8(b, port, POLL);
		assert_int_equal(bench_in8(b, port),
		    model_take(m, n) | (polled >= 0 ? 0x80 : 0));
		break;
	case 4:
		number = 3 + number % 5; /* IRQ 3 to 7 */
		m->level[number] = !m->level[number];
		m->chip[0].edge[number] = false;
		value = 0;
		for (unsigned i = 3; i < 8; i++)
			value |= m->level[i] << i;
		bench_out8(b, 0x4d0, value);
		break;
	case 5:
	case 6:
		bench_out8(b, port, EOI);
		model_ocw2(c, EOI);
		break;
	case 7:
	case 8:
	case 9:
		if (!bench_intr(b) && random() % 8 != 0)
			break;
		assert_int_equal(bench_intack(b), model_vector(m));
		break;
	default:
		if (number != 2)
			model_line(m, lines, number);
		break;
	}
}

static void
agrees_with_a_model(void **state)
{
	struct bench *b = *state;
	struct irq_line lines[16];
	struct model m = { 0 };

	srandom(1);
	for (unsigned i = 0; i < 16; i++)
		lines[i] = line(b, i);
	for (unsigned run = 0; run < 200; run++) {
		model_init(b, &m);
		for (unsigned i = 0; i < 500; i++) {
			model_step(b, &m, lines);
			model_compare(b, &m);
		}
		if (run % 2 == 0)
			bench_round_trip(b);
	}
}

/* ---- saved state --------------------------------------------------------- */

static void
round_trips_amid_initialisation(void **state)
{
	static const uint8_t icw[] = { 0x11, 0x28, 0x02, 0x13 };
	struct bench *b = *state;

	bench_round_trip(b);
	for (unsigned i = 0; i < ARRAY_SIZE(icw); i++) {
		bench_out8(b, i == 0 ? SLAVE : SLAVE + 1, icw[i]);
		pulse(b, 8 + i);
		bench_round_trip(b);
	}
	bench_out8(b, SLAVE, POLL);
	bench_round_trip(b);
}

static void
forged_state_is_refused(void **state)
{
	/* Of each chip: six bytes, eight booleans. */
	enum { EDGES, IMR, ISR, BASE, LOWEST, STEP, SINGLE, CHIP = 14 };
	struct bench *b = *state;
	uint8_t fields[2 * CHIP] = { 0 };

	b->dev = device_find(b->vm, "pic");
	assert_int_equal(bench_load(b, fields, sizeof(fields)), 0);
	fields[EDGES] = 0x04;
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[EDGES] = 0;
	fields[CHIP + BASE] = 0x21;
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[CHIP + BASE] = 0;
	fields[LOWEST] = 8;
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[LOWEST] = 7;
	fields[STEP] = 5;
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[STEP] = 4;
	fields[SINGLE] = 2;
	assert_int_equal(bench_load(b, fields, sizeof(fields)), -EINVAL);
	fields[SINGLE] = 0;
	assert_int_equal(bench_load(b, fields, sizeof(fields) - 1), -EINVAL);
	assert_false(bench_intr(b));
	/* What is loaded is told to the engine. */
	fields[EDGES] = 0x10;
	assert_int_equal(bench_load(b, fields, sizeof(fields)), 0);
	assert_int_equal(b->intr_count, 1);
	assert_int_equal(bench_intack(b), 0x04);
}

static void
hammered(void **state)
{
	const struct bench_range ranges[] = {
		{ BUS_PORT, MASTER, 2 },
		{ BUS_PORT, SLAVE, 2 },
		{ BUS_PORT, 0x4d0, 2 },
		{ BUS_PORT, 0x40, 4 },
	};
	struct bench *b = *state;

	bench_add(b, "pit", NULL);
	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 50000, 1);
}

BENCH_MAIN("", BENCH_TEST(silent_before_icw1), BENCH_TEST(initialisation),
    BENCH_TEST(a_single_chip_has_no_cascade), BENCH_TEST(priorities_nest),
    BENCH_TEST(masks), BENCH_TEST(edges_and_levels),
    BENCH_TEST(spurious_interrupts), BENCH_TEST(specific_eoi),
    BENCH_TEST(rotation), BENCH_TEST(automatic_eoi), BENCH_TEST(special_mask),
    BENCH_TEST(special_fully_nested), BENCH_TEST(polling),
    BENCH_TEST(the_status_read_stays_chosen), BENCH_TEST(agrees_with_a_model),
    BENCH_TEST(round_trips_amid_initialisation),
    BENCH_TEST(forged_state_is_refused), BENCH_TEST(hammered))
