/*
 * Lines, their sources, and what a load or a reset does to them.  The device
 * under test is made here: a register whose bits pull lines.
 */
#include <errno.h>
#include <pthread.h>

#include "base/util.h"
#include "test/bench.h"

#define WIRES_PORT 0x300
#define WIRES 4

static const uint8_t wire_line[WIRES] = { 5, 5, 11, 20 };

struct wires {
	struct irq_line line[WIRES];
	uint8_t pulled;
};

static const struct reg wires_regs[] = {
	REG8(0, struct wires, pulled, 0, BIT(WIRES) - 1),
};

static void
wires_changed(void *self)
{
	struct wires *wires = self;

	for (unsigned i = 0; i < WIRES; i++)
		irq_line_set(&wires->line[i], wires->pulled & BIT(i));
}

static int
wires_create(struct device *dev, void *self, struct err *err)
{
	struct wires *wires = self;

	for (unsigned i = 0; i < WIRES; i++)
		irq_line_init(&wires->line[i], device_irq_chip(dev),
		    wire_line[i]);
	return device_map_ports(dev, WIRES_PORT, REG_TABLE(wires_regs), err);
}

DEVICE_MODEL(wires) = {
	.name = "wires",
	.state_version = 1,
	.size = sizeof(struct wires),
	.create = wires_create,
	.changed = wires_changed,
};

#define A5 0x01 /* two sources of line 5 */
#define B5 0x02
#define C11 0x04
#define D20 0x08

static void
set_up_pic(struct bench *b)
{
	static const uint8_t icw[] = { 0x11, 0x20, 0x04, 0x01 };

	for (unsigned i = 0; i < ARRAY_SIZE(icw); i++) {
		bench_out8(b, i == 0 ? 0x20 : 0x21, icw[i]);
		bench_out8(b, i == 0 ? 0xa0 : 0xa1,
		    i == 1     ? 0x28 :
			i == 2 ? 0x02 :
				 icw[i]);
	}
}

static void
sources_are_counted(void **state)
{
	struct bench *b = *state;

	bench_out8(b, WIRES_PORT, A5);
	assert_true(bench_line(b, 5));
	bench_out8(b, WIRES_PORT, A5 | B5);
	bench_out8(b, WIRES_PORT, B5);
	assert_true(bench_line(b, 5));
	assert_int_equal(bench_irqs(b, 5), 1);
	bench_out8(b, WIRES_PORT, 0);
	assert_false(bench_line(b, 5));
	bench_out8(b, WIRES_PORT, D20);
	assert_true(bench_line(b, 20));
	assert_int_equal(bench_irqs(b, 20), 1);
	assert_int_equal(bench_irqs(b, 5), 0);
}

static void
a_pulse_is_one_edge(void **state)
{
	struct bench *b = *state;
	struct irq_line line;

	irq_line_init(&line, vm_irq_chip(b->vm), 5);
	irq_line_pulse(&line);
	assert_int_equal(bench_irqs(b, 5), 1);
	assert_false(bench_line(b, 5));
	/* On a wire that another source pulls there is nothing to see. */
	bench_out8(b, WIRES_PORT, A5);
	irq_line_pulse(&line);
	assert_int_equal(bench_irqs(b, 5), 1);
	assert_true(bench_line(b, 5));
}

static void
line_2_leads_nowhere(void **state)
{
	struct bench *b = *state;
	struct irq_line line;

	set_up_pic(b);
	bench_write(b, 0xfec00000, 4, 0x14);
	bench_write(b, 0xfec00010, 4, 0x31);
	irq_line_init(&line, vm_irq_chip(b->vm), 2);
	irq_line_set(&line, true);
	assert_false(bench_intr(b));
	assert_int_equal(b->msi_count, 0);
	/* Pin 2 is line 0. */
	irq_line_init(&line, vm_irq_chip(b->vm), 0);
	irq_line_set(&line, true);
	assert_int_equal(bench_intack(b), 0x20);
	assert_int_equal(b->msi_count, 1);
	assert_int_equal(b->msi[0].data & 0xff, 0x31);
}

static void
messages(void **state)
{
	struct bench *b = *state;
	struct irq_chip *chip = vm_irq_chip(b->vm);

	assert_int_equal(irq_send_msi(chip, 0xfee01004, 0x4041), 0);
	assert_int_equal(b->msi_count, 1);
	assert_int_equal(b->msi[0].addr, 0xfee01004);
	assert_int_equal(b->msi[0].data, 0x4041);
	assert_int_equal(irq_send_msi(chip, 0xfec00000, 0x41), -EINVAL);
	assert_int_equal(irq_send_msi(chip, 0x1fee00000, 0x41), -EINVAL);
	assert_int_equal(irq_send_msi(chip, 0, 0x41), -EINVAL);
	assert_int_equal(irq_send_msi(chip, UINT64_MAX, 0x41), -EINVAL);
	assert_int_equal(b->msi_count, 1);
}

/* Load what `from` has saved into another machine of the same devices. */
static void
load_into(struct bench *b, const struct buf *saved)
{
	struct reader in = reader_make(saved->data, saved->len);
	struct err err;

	assert_int_equal(vm_load_devices(b->vm, &in, &err), 0);
}

static void
a_load_makes_no_edge(void **state)
{
	struct bench *b = *state, *fresh = bench_new("wires", NULL);
	struct buf saved = { 0 };

	set_up_pic(b);
	bench_write(b, 0xfec00000, 4, 0x10 + 2 * 20);
	bench_write(b, 0xfec00010, 4, 0x51); /* pin 20: edge */
	bench_out8(b, WIRES_PORT, A5 | C11 | D20);
	assert_int_equal(bench_intack(b), 0x2b); /* acknowledged: 11 */
	bench_out8(b, 0x20, 0x20);
	assert_int_equal(bench_intack(b), 0x25); /* and 5 */
	bench_out8(b, 0x20, 0x20);
	bench_out8(b, 0xa0, 0x20);
	assert_int_equal(b->msi_count, 1);
	assert_false(bench_intr(b));

	vm_save_devices(b->vm, &saved);
	load_into(fresh, &saved);
	assert_true(bench_line(fresh, 5));
	assert_true(bench_line(fresh, 11));
	assert_true(bench_line(fresh, 20));
	assert_false(bench_intr(fresh));
	assert_int_equal(fresh->msi_count, 0);
	assert_int_equal(bench_irqs(fresh, 5), 0);
	/* And the lines work on: one fall, one rise, one interrupt. */
	bench_out8(fresh, WIRES_PORT, C11 | D20);
	assert_false(bench_line(fresh, 5));
	bench_out8(fresh, WIRES_PORT, B5 | C11 | D20);
	assert_int_equal(bench_intack(fresh), 0x25);
	buf_fini(&saved);
	bench_free(fresh);
}

static void
a_load_loses_no_edge(void **state)
{
	struct bench *b = *state, *fresh = bench_new("wires", NULL);
	struct buf saved = { 0 };

	set_up_pic(b);
	bench_out8(b, WIRES_PORT, A5);
	bench_out8(b, WIRES_PORT, 0); /* latched, and gone again */
	vm_save_devices(b->vm, &saved);
	/* Sensed by level here, by edge in what is loaded. */
	bench_out8(fresh, 0x4d0, 0x20);
	load_into(fresh, &saved);
	assert_int_equal(bench_trigger(fresh, 5), IRQ_EDGE);
	assert_true(bench_intr(fresh));
	assert_true(fresh->intr_count > 0);
	assert_int_equal(bench_intack(fresh), 0x25);
	assert_false(bench_intr(fresh));
	buf_fini(&saved);
	bench_free(fresh);
}

/* One source was up before the load, another is after: no edge between. */
static void
a_load_over_a_busy_machine(void **state)
{
	struct bench *b = *state;
	struct buf saved = { 0 };

	set_up_pic(b);
	bench_out8(b, WIRES_PORT, B5);
	assert_int_equal(bench_intack(b), 0x25);
	bench_out8(b, 0x20, 0x20);
	vm_save_devices(b->vm, &saved);
	bench_out8(b, WIRES_PORT, 0);
	bench_out8(b, WIRES_PORT, A5);
	assert_int_equal(bench_irqs(b, 5), 2);
	assert_int_equal(bench_intack(b), 0x25);
	bench_out8(b, 0x20, 0x20);
	load_into(b, &saved);
	assert_true(bench_line(b, 5));
	assert_int_equal(bench_irqs(b, 5), 0);
	assert_false(bench_intr(b));
	/* The source of before does not count any more. */
	bench_out8(b, WIRES_PORT, 0);
	assert_false(bench_line(b, 5));
	buf_fini(&saved);
}

static void
a_reset_lowers_all(void **state)
{
	struct bench *b = *state;
	struct err err;

	set_up_pic(b);
	bench_out8(b, WIRES_PORT, A5 | C11 | D20);
	assert_int_equal(vm_reset(b->vm, &err), 0);
	for (unsigned line = 0; line < IRQ_LINES; line++)
		assert_false(bench_line(b, line));
	assert_false(bench_intr(b));
	set_up_pic(b);
	assert_false(bench_intr(b));
	bench_out8(b, WIRES_PORT, A5);
	assert_int_equal(bench_intack(b), 0x25);
}

static void
a_forged_level_falls_at_the_start(void **state)
{
	const uint8_t levels[] = { 0x21, 0x00, 0x00, 0x80 };
	struct bench *b = *state;
	struct device *wires = b->dev;
	const uint8_t pulled = A5;
	struct err err;

	b->dev = device_find(b->vm, "irq");
	assert_int_equal(bench_load(b, levels, sizeof(levels)), 0);
	b->dev = wires;
	assert_int_equal(bench_load(b, &pulled, 1), 0);
	assert_true(bench_line(b, 0));
	assert_true(bench_line(b, 31));
	assert_int_equal(vm_start(b->vm, &err), 0);
	assert_false(bench_line(b, 0));
	assert_false(bench_line(b, 31));
	assert_true(bench_line(b, 5));
}

/* ---- many threads -------------------------------------------------------- */

#define EDGES 2000

static void *
edges_main(void *arg)
{
	struct irq_line *line = arg;

	for (unsigned i = 0; i < EDGES; i++) {
		irq_line_set(line, true);
		irq_line_set(line, false);
	}
	return NULL;
}

static void
many_threads(void **state)
{
	static const uint8_t numbers[] = { 5, 6, 20 };
	struct bench *b = *state;
	struct irq_line line[ARRAY_SIZE(numbers)];
	pthread_t thread[ARRAY_SIZE(numbers)];
	unsigned acknowledged = 0;

	set_up_pic(b);
	bench_write(b, 0xfec00000, 4, 0x10 + 2 * 20);
	bench_write(b, 0xfec00010, 4, 0x8051); /* pin 20: level */
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		irq_line_init(&line[i], vm_irq_chip(b->vm), numbers[i]);
		assert_int_equal(pthread_create(&thread[i], NULL, edges_main,
				     &line[i]),
		    0);
	}
	while (irq_line_rises(vm_irq_chip(b->vm), 5) < EDGES ||
	    irq_line_rises(vm_irq_chip(b->vm), 6) < EDGES ||
	    irq_line_rises(vm_irq_chip(b->vm), 20) < EDGES) {
		bench_eoi(b, 0x51);
		if (!bench_intr(b))
			continue;
		acknowledged++;
		assert_in_range(bench_intack(b), 0x25, 0x26);
		bench_out8(b, 0x20, 0x20);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		pthread_join(thread[i], NULL);
	while (bench_intr(b)) {
		acknowledged++;
		assert_in_range(bench_intack(b), 0x25, 0x26);
		bench_out8(b, 0x20, 0x20);
	}
	assert_in_range(acknowledged, 2, 2 * EDGES);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		assert_false(bench_line(b, numbers[i]));
		assert_int_equal(bench_irqs(b, numbers[i]), EDGES);
	}
}

BENCH_MAIN("wires", BENCH_TEST(sources_are_counted),
    BENCH_TEST(a_pulse_is_one_edge), BENCH_TEST(line_2_leads_nowhere),
    BENCH_TEST(messages), BENCH_TEST(a_load_makes_no_edge),
    BENCH_TEST(a_load_loses_no_edge), BENCH_TEST(a_load_over_a_busy_machine),
    BENCH_TEST(a_reset_lowers_all),
    BENCH_TEST(a_forged_level_falls_at_the_start), BENCH_TEST(many_threads))
