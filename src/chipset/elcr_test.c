#include <errno.h>
#include <stdlib.h>

#include "base/util.h"
#include "test/bench.h"

#define ELCR 0x4d0

static void
reset_values(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_in16(b, ELCR), 0);
	for (unsigned irq = 0; irq < IRQ_ISA_LINES; irq++)
		assert_int_equal(bench_trigger(b, irq), IRQ_EDGE);
}

static void
hardwired_lines_stay_edge(void **state)
{
	struct bench *b = *state;

	bench_out8(b, ELCR, 0xff);
	bench_out8(b, ELCR + 1, 0xff);
	assert_int_equal(bench_in8(b, ELCR), 0xf8);
	assert_int_equal(bench_in8(b, ELCR + 1), 0xde);
	for (unsigned irq = 0; irq < IRQ_ISA_LINES; irq++) {
		bool wired = irq <= 2 || irq == 8 || irq == 13;

		assert_int_equal(bench_trigger(b, irq),
		    wired ? IRQ_EDGE : IRQ_LEVEL);
	}
}

/* What the board wires as level stays so under a guest's hands. */
static void
wired_levels(void **state)
{
	struct bench *b = *state;
	struct irq_chip *chip = vm_irq_chip(b->vm);
	struct err err;

	irq_wire_level(chip, 9, true);
	assert_int_equal(bench_trigger(b, 9), IRQ_LEVEL);
	bench_out8(b, ELCR + 1, 0x02);
	bench_out8(b, ELCR + 1, 0x00);
	assert_int_equal(bench_trigger(b, 9), IRQ_LEVEL);
	assert_int_equal(vm_reset(b->vm, &err), 0);
	assert_int_equal(bench_trigger(b, 9), IRQ_LEVEL);
	irq_wire_level(chip, 9, false);
	assert_int_equal(bench_trigger(b, 9), IRQ_EDGE);
}

static void
survives_a_round_trip(void **state)
{
	struct bench *b = *state;

	bench_out8(b, ELCR, 0xa8);
	bench_out8(b, ELCR + 1, 0x42);
	bench_round_trip(b);
	assert_int_equal(bench_in16(b, ELCR), 0x42a8);
}

/* Lines come and go at the 8259A pair while their sensing changes. */
static void
mid_activity_round_trips(void **state)
{
	static const uint8_t master[] = { 0x20, 0x04, 0x01, 0x00 };
	static const uint8_t slave[] = { 0x28, 0x02, 0x01, 0x00 };
	struct irq_line lines[IRQ_ISA_LINES];
	struct bench *b = *state;

	srandom(3);
	bench_out8(b, 0x20, 0x11);
	bench_out8(b, 0xa0, 0x11);
	for (unsigned i = 0; i < ARRAY_SIZE(master); i++) {
		bench_out8(b, 0x21, master[i]);
		bench_out8(b, 0xa1, slave[i]);
	}
	for (unsigned i = 0; i < IRQ_ISA_LINES; i++)
		irq_line_init(&lines[i], vm_irq_chip(b->vm), i);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 20; j++) {
			switch (random() % 5) {
			case 0:
				bench_out8(b, ELCR + random() % 2,
				    (uint8_t)random());
				break;
			case 1:
				bench_out16(b, ELCR, (uint16_t)random());
				break;
			case 2:
				irq_line_set(&lines[random() % IRQ_ISA_LINES],
				    random() % 2);
				break;
			case 3:
				if (bench_intr(b))
					(void)bench_intack(b);
				break;
			case 4:
				bench_out8(b, random() % 2 ? 0x20 : 0xa0, 0x20);
				break;
			}
		}
		bench_round_trip(b);
	}
}

static void
forged_state_is_refused(void **state)
{
	const uint8_t irq0_level[2] = { 0x01, 0x00 };
	const uint8_t irq13_level[2] = { 0x00, 0x20 };
	struct bench *b = *state;

	b->dev = device_find(b->vm, "elcr");
	assert_int_equal(bench_load(b, irq0_level, 2), -EINVAL);
	assert_int_equal(bench_load(b, irq13_level, 2), -EINVAL);
	assert_int_equal(bench_load(b, irq13_level, 1), -EINVAL);
	assert_int_equal(bench_trigger(b, 0), IRQ_EDGE);
}

static void
hammered(void **state)
{
	const struct bench_range range = { BUS_PORT, ELCR, 2 };

	bench_hammer(*state, &range, 1, 20000, 1);
}

BENCH_MAIN("", BENCH_TEST(reset_values), BENCH_TEST(hardwired_lines_stay_edge),
    BENCH_TEST(wired_levels), BENCH_TEST(survives_a_round_trip),
    BENCH_TEST(mid_activity_round_trips), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(hammered))
