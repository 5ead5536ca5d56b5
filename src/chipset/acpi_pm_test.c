/*
 * ACPI fixed hardware: registers, the SCI, power button and sleep.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chipset/acpi_pm.h"
#include "test/bench.h"
#include "vm/bus.h"
#include "vm/platform.h"

#define PM1_STS 0x400
#define PM1_EN 0x402
#define PM1_CNT 0x404
#define PM_TMR 0x408
#define GPE0_STS 0x40c
#define GPE0_EN 0x40d
#define PWRBTN 0x0100

static void
enable(struct bench *b)
{
	bench_out8(b, PLAT_PORT_SMI_CMD, PLAT_SMI_ACPI_ENABLE);
}

static void
reset_values(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_in16(b, PM1_STS), 0);
	assert_int_equal(bench_in16(b, PM1_EN), 0);
	assert_int_equal(bench_in16(b, PM1_CNT), 0);
	assert_int_equal(bench_in32(b, PM_TMR), 0);
	assert_int_equal(bench_in8(b, GPE0_STS), 0);
	assert_int_equal(bench_in8(b, GPE0_EN), 0);
	assert_int_equal(bench_in8(b, PLAT_PORT_SMI_CMD), 0xff);
	assert_false(bench_line(b, PLAT_IRQ_SCI));
	assert_int_equal(bench_trigger(b, PLAT_IRQ_SCI), IRQ_LEVEL);
	irq_set_trigger(vm_irq_chip(b->vm), PLAT_IRQ_SCI, IRQ_EDGE);
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_int_equal(bench_trigger(b, PLAT_IRQ_SCI), IRQ_LEVEL);
}

static void
reserved_bits_stay(void **state)
{
	struct bench *b = *state;

	bench_out16(b, PM1_EN, 0xffff);
	assert_int_equal(bench_in16(b, PM1_EN), 0x0520);
	bench_out8(b, PM1_EN + 1, 0);
	assert_int_equal(bench_in16(b, PM1_EN), 0x0020);
	bench_out16(b, PM1_STS, 0xffff);
	assert_int_equal(bench_in16(b, PM1_STS), 0);
	/* SLP_TYP 7 is no sleep state, so this is but a write. */
	bench_out16(b, PM1_CNT, 0xffff);
	assert_int_equal(bench_in16(b, PM1_CNT), 0x1ffc);
	assert_int_equal(b->ended, VM_END_NONE);
	bench_out8(b, GPE0_EN, 0xff);
	assert_int_equal(bench_in8(b, GPE0_EN), 0x01);
	bench_out8(b, GPE0_STS, 0xff);
	assert_int_equal(bench_in8(b, GPE0_STS), 0);
	bench_out32(b, PM_TMR, 0xffffffff);
	assert_int_equal(bench_in32(b, PM_TMR), 0);
	/* A dword over the event block is both registers of it. */
	bench_out32(b, PM1_STS, 0x0100ffff);
	assert_int_equal(bench_in32(b, PM1_STS), 0x01000000);
	assert_int_equal(bench_in16(b, PM1_CNT + 2), 0xffff);
}

static void
only_smi_cmd_switches_acpi_mode(void **state)
{
	struct bench *b = *state;

	for (unsigned value = 0; value < 256; value++) {
		if (value == PLAT_SMI_ACPI_ENABLE)
			continue;
		bench_out8(b, PLAT_PORT_SMI_CMD, (uint8_t)value);
		assert_int_equal(bench_in16(b, PM1_CNT), 0);
	}
	bench_out16(b, PM1_CNT, 1);
	assert_int_equal(bench_in16(b, PM1_CNT), 0);
	enable(b);
	assert_int_equal(bench_in16(b, PM1_CNT) & 1, 1);
	assert_int_equal(bench_in16(b, PM1_CNT), 1);
	bench_out16(b, PM1_CNT, 0);
	assert_int_equal(bench_in16(b, PM1_CNT), 1);
	bench_out8(b, PLAT_PORT_SMI_CMD, PLAT_SMI_ACPI_DISABLE);
	assert_int_equal(bench_in16(b, PM1_CNT), 0);
}

static void
power_button_is_a_level(void **state)
{
	struct bench *b = *state;

	/* Nobody looks before ACPI mode: nothing is remembered. */
	assert_false(acpi_pm_power_button(b->dev));
	assert_int_equal(bench_in16(b, PM1_STS), 0);

	enable(b);
	assert_true(acpi_pm_power_button(b->dev));
	assert_int_equal(bench_in16(b, PM1_STS), PWRBTN);
	assert_false(bench_line(b, PLAT_IRQ_SCI));
	bench_out16(b, PM1_EN, PWRBTN);
	assert_true(bench_line(b, PLAT_IRQ_SCI));
	assert_int_equal(bench_irqs(b, PLAT_IRQ_SCI), 1);

	/* Twice is once until it was cleared. */
	assert_true(acpi_pm_power_button(b->dev));
	assert_int_equal(bench_irqs(b, PLAT_IRQ_SCI), 0);
	bench_out16(b, PM1_STS, (uint16_t)~PWRBTN);
	assert_true(bench_line(b, PLAT_IRQ_SCI));
	bench_out8(b, PM1_STS + 1, PWRBTN >> 8);
	assert_false(bench_line(b, PLAT_IRQ_SCI));
	assert_int_equal(bench_in16(b, PM1_STS), 0);

	assert_true(acpi_pm_power_button(b->dev));
	assert_int_equal(bench_irqs(b, PLAT_IRQ_SCI), 1);
	bench_out16(b, PM1_EN, 0);
	assert_false(bench_line(b, PLAT_IRQ_SCI));
	bench_out8(b, PLAT_PORT_SMI_CMD, PLAT_SMI_ACPI_DISABLE);
	assert_false(acpi_pm_power_button(b->dev));
}

static void
general_event_shares_the_line(void **state)
{
	struct bench *b = *state;

	acpi_pm_raise_gpe(b->dev, PLAT_GPE_VMGENC);
	assert_int_equal(bench_in8(b, GPE0_STS), 1);
	assert_false(bench_line(b, PLAT_IRQ_SCI));
	bench_out8(b, GPE0_EN, 1);
	assert_true(bench_line(b, PLAT_IRQ_SCI));
	enable(b);
	bench_out16(b, PM1_EN, PWRBTN);
	assert_true(acpi_pm_power_button(b->dev));
	bench_out8(b, GPE0_STS, 1);
	assert_true(bench_line(b, PLAT_IRQ_SCI));
	bench_out16(b, PM1_STS, PWRBTN);
	assert_false(bench_line(b, PLAT_IRQ_SCI));
}

static void
only_s5_ends_the_machine(void **state)
{
	struct bench *b = *state;

	for (unsigned type = 0; type < 8; type++) {
		if (type == PLAT_SLP_TYP_S5)
			continue;
		bench_out16(b, PM1_CNT, (uint16_t)(type << 10 | 0x2000));
		assert_int_equal(b->ended, VM_END_NONE);
		assert_int_equal(bench_in16(b, PM1_CNT), type << 10);
	}
	bench_out16(b, PM1_CNT, PLAT_SLP_TYP_S5 << 10);
	assert_int_equal(b->ended, VM_END_NONE);
	bench_out16(b, PM1_CNT, PLAT_SLP_TYP_S5 << 10 | 0x2000);
	assert_int_equal(b->ended, VM_END_POWEROFF);
}

static void
s5_by_a_byte(void **state)
{
	struct bench *b = *state;

	bench_out8(b, PM1_CNT, 0x34);
	assert_int_equal(b->ended, VM_END_NONE);
	bench_out8(b, PM1_CNT + 1, 0x34);
	assert_int_equal(b->ended, VM_END_POWEROFF);
}

static void
timer_counts_3579545_hz(void **state)
{
	struct bench *b = *state;

	bench_advance(b, NS_PER_SEC);
	assert_int_equal(bench_in32(b, PM_TMR), 3579545);
	assert_int_equal(bench_in16(b, PM_TMR), 3579545 & 0xffff);
	assert_int_equal(bench_in16(b, PM_TMR + 2), 3579545 >> 16);
	assert_int_equal(bench_in8(b, PM_TMR + 1), 3579545 >> 8 & 0xff);
	/* And wraps at 32 bits, after 20 minutes. */
	bench_advance(b, 1199 * NS_PER_SEC);
	assert_int_equal(bench_in32(b, PM_TMR), (uint32_t)(1200ULL * 3579545));
	assert_true(1200ULL * 3579545 > UINT32_MAX);
}

static void
mid_activity_round_trips(void **state)
{
	struct bench *b = *state;

	srandom(3);
	for (unsigned i = 0; i < 100; i++) {
		bench_out8(b, PLAT_PORT_SMI_CMD,
		    random() & 1 ? PLAT_SMI_ACPI_ENABLE :
				   PLAT_SMI_ACPI_DISABLE);
		bench_out16(b, PM1_EN, (uint16_t)random());
		bench_out16(b, PM1_CNT, (uint16_t)random());
		bench_out8(b, GPE0_EN, (uint8_t)random());
		if (random() & 1)
			(void)acpi_pm_power_button(b->dev);
		if (random() & 1)
			acpi_pm_raise_gpe(b->dev, PLAT_GPE_VMGENC);
		if (random() % 4 == 0)
			bench_out16(b, PM1_STS, 0xffff);
		bench_advance(b, (uint64_t)random());
		bench_round_trip(b);
	}
}

/* The fields in order: STS, EN, CNT, TMR, GPE0, SMI_CMD. */
static void
forged_state_is_refused(void **state)
{
	static const uint8_t good[13] = { 0x00, 0x01, 0x00, 0x01, 0x01, 0x14, 0,
		0, 0, 0, 1, 1, 0xff };
	static const struct {
		uint8_t byte, value;
	} lies[] = {
		{ 0, 0x02 },
		{ 1, 0x10 },
		{ 2, 0x01 },
		{ 3, 0x02 },
		{ 4, 0x02 },
		{ 5, 0x20 },
		{ 6, 0x01 },
		{ 9, 0x80 },
		{ 10, 0x02 },
		{ 11, 0x04 },
		{ 12, 0x00 },
	};
	struct bench *b = *state;
	uint8_t forged[sizeof(good)];

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		memcpy(forged, good, sizeof(forged));
		forged[lies[i].byte] = lies[i].value;
		assert_int_equal(bench_load(b, forged, sizeof(forged)),
		    -EINVAL);
		assert_false(bench_line(b, PLAT_IRQ_SCI));
	}
	assert_int_equal(bench_load(b, good, sizeof(good) - 1), -EINVAL);
	assert_int_equal(bench_load(b, good, sizeof(good)), 0);
	assert_true(bench_line(b, PLAT_IRQ_SCI));
	assert_int_equal(bench_in16(b, PM1_CNT) & 1, 1);
}

static void
hammered_in_every_width(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_PORT, 0x3fc, 0x14 },
		{ BUS_PORT, 0xb0, 4 },
	};
	struct bench *b = *state;

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 50000, 0xac91);
	bench_round_trip(b);
}

BENCH_MAIN("acpi_pm", BENCH_TEST(reset_values), BENCH_TEST(reserved_bits_stay),
    BENCH_TEST(only_smi_cmd_switches_acpi_mode),
    BENCH_TEST(power_button_is_a_level),
    BENCH_TEST(general_event_shares_the_line),
    BENCH_TEST(only_s5_ends_the_machine), BENCH_TEST(s5_by_a_byte),
    BENCH_TEST(timer_counts_3579545_hz), BENCH_TEST(mid_activity_round_trips),
    BENCH_TEST(forged_state_is_refused), BENCH_TEST(hammered_in_every_width))
