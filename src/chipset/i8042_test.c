/*
 * The keyboard controller, the keyboard and the mouse, as a driver meets them.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "chipset/i8042.h"
#include "chipset/ps2_impl.h"
#include "test/bench.h"
#include "vm/bus.h"
#include "vm/platform.h"

#define DATA 0x60
#define CMD 0x64
#define OBF 0x01
#define AUX 0x20
#define EMPTY (-1)

/* The next byte; EMPTY if there is none.  From the mouse: 0x100 added. */
static int
take(struct bench *b)
{
	uint8_t status = bench_in8(b, CMD);

	if (!(status & OBF))
		return EMPTY;
	return bench_in8(b, DATA) | (status & AUX ? 0x100 : 0);
}

static void
expect(struct bench *b, const int *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int byte = take(b);

		if (byte != bytes[i])
			fail_msg("byte %zu is %d, not 0x%x", i, byte,
			    (unsigned)bytes[i]);
	}
	assert_int_equal(take(b), EMPTY);
}
#define EXPECT(b, ...)                           \
	expect(b, (const int[]) { __VA_ARGS__ }, \
	    sizeof((const int[]) { __VA_ARGS__ }) / sizeof(int))

static void
ccb_set(struct bench *b, uint8_t value)
{
	bench_out8(b, CMD, 0x60);
	bench_out8(b, DATA, value);
}

static uint8_t
ccb_get(struct bench *b)
{
	bench_out8(b, CMD, 0x20);
	return (uint8_t)take(b);
}

static void
mouse_out(struct bench *b, uint8_t byte)
{
	bench_out8(b, CMD, 0xd4);
	bench_out8(b, DATA, byte);
}

static void
key(struct bench *b, const char *codes)
{
	i8042_key(b->dev, (const uint8_t *)codes, strlen(codes));
}

/* ---- the controller ----------------------------------------------------- */

static void
power_on_is_as_a_bios_leaves_it(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_in8(b, CMD), 0x14);
	assert_int_equal(ccb_get(b), 0x44);
	assert_int_equal(bench_in8(b, CMD), 0x1c);
	assert_int_equal(take(b), EMPTY);
	/* An empty buffer gives the last byte again. */
	assert_int_equal(bench_in8(b, DATA), 0x44);
	bench_out8(b, CMD, 0xff);
	assert_int_equal(b->ended, VM_END_NONE);
}

static void
ram_is_32_bytes(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < 32; i++) {
		bench_out8(b, CMD, (uint8_t)(0x60 + i));
		bench_out8(b, DATA, (uint8_t)(0xc8 + i));
	}
	for (unsigned i = 0; i < 32; i++) {
		bench_out8(b, CMD, (uint8_t)(0x20 + i));
		EXPECT(b, (int)(0xc8 + i));
	}
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	bench_out8(b, CMD, 0x3f);
	EXPECT(b, 0);
}

static void
tests_pass(void **state)
{
	static const uint8_t answers[][2] = { { 0xa4, 0xf1 }, { 0xa9, 0x00 },
		{ 0xaa, 0x55 }, { 0xab, 0x00 }, { 0xc0, 0x00 } };
	struct bench *b = *state;

	ccb_set(b, 0);
	assert_int_equal(bench_in8(b, CMD), 0x10);
	for (unsigned i = 0; i < ARRAY_SIZE(answers); i++) {
		bench_out8(b, CMD, answers[i][0]);
		EXPECT(b, answers[i][1]);
	}
	/* The self test has set the system flag. */
	assert_int_equal(ccb_get(b), 0x04);
}

static void
ports_are_switched(void **state)
{
	struct bench *b = *state;

	bench_out8(b, CMD, 0xa7);
	assert_int_equal(ccb_get(b), 0x64);
	bench_out8(b, CMD, 0xad);
	assert_int_equal(ccb_get(b), 0x74);
	key(b, "\x1c");
	assert_int_equal(take(b), EMPTY);
	bench_out8(b, CMD, 0xae);
	EXPECT(b, 0x1e);
	bench_out8(b, CMD, 0xa8);
	assert_int_equal(ccb_get(b), 0x44);
	/* Speaking to a device opens its port. */
	ccb_set(b, 0x74);
	bench_out8(b, DATA, 0xee);
	EXPECT(b, 0xee);
	assert_int_equal(ccb_get(b), 0x64);
	mouse_out(b, 0xf2);
	EXPECT(b, 0x1fa, 0x100);
	assert_int_equal(ccb_get(b), 0x44);
}

static void
buffers_are_written(void **state)
{
	struct bench *b = *state;

	ccb_set(b, 0x47);
	bench_out8(b, CMD, 0xd2);
	bench_out8(b, DATA, 0xf0);
	assert_int_equal(bench_irqs(b, 1), 1);
	assert_int_equal(bench_irqs(b, 12), 0);
	EXPECT(b, 0xf0); /* as it is: no translation */
	bench_out8(b, CMD, 0xd3);
	bench_out8(b, DATA, 0x5a);
	assert_int_equal(bench_irqs(b, 1), 0);
	assert_int_equal(bench_irqs(b, 12), 1);
	EXPECT(b, 0x15a);
	assert_false(bench_line(b, 1));
	assert_false(bench_line(b, 12));
}

static void
output_port_and_a20(void **state)
{
	struct bench *b = *state;

	bench_out8(b, CMD, 0xd0);
	EXPECT(b, 0x03);
	bench_out8(b, CMD, 0xd1);
	bench_out8(b, DATA, 0xdd);
	bench_out8(b, CMD, 0xd0);
	EXPECT(b, 0x01);
	key(b, "\x1c");
	bench_out8(b, CMD, 0xd0);
	EXPECT(b, 0x11, 0x1e);
	assert_int_equal(b->ended, VM_END_NONE);
	bench_out8(b, CMD, 0xd1);
	bench_out8(b, DATA, 0xfe);
	assert_int_equal(b->ended, VM_END_RESET);
}

static void
pulse_resets(void **state)
{
	struct bench *b = *state;

	for (unsigned command = 0xf1; command <= 0xff; command += 2)
		bench_out8(b, CMD, (uint8_t)command);
	assert_int_equal(b->ended, VM_END_NONE);
	bench_out8(b, CMD, 0xfe);
	assert_int_equal(b->ended, VM_END_RESET);
}

static void
unknown_commands_do_nothing(void **state)
{
	static const uint8_t unknown[] = { 0x00, 0x1f, 0x40, 0x5f, 0x80, 0xa0,
		0xa5, 0xac, 0xaf, 0xc1, 0xc2, 0xcf, 0xd5, 0xe0, 0xef };
	struct bench *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++) {
		bench_out8(b, CMD, unknown[i]);
		assert_int_equal(take(b), EMPTY);
		/* Nor do they wait for an argument: this is the keyboard's. */
		bench_out8(b, DATA, 0xee);
		EXPECT(b, 0xee);
	}
	/* A command in place of an argument: the first is forgotten. */
	bench_out8(b, CMD, 0x60);
	bench_out8(b, CMD, 0xd4);
	bench_out8(b, DATA, 0xf2);
	EXPECT(b, 0x1fa, 0x100);
	assert_int_equal(ccb_get(b), 0x44);
}

static void
answers_go_before_keys(void **state)
{
	struct bench *b = *state;

	key(b, "\x1c");
	key(b, "\x32");
	bench_out8(b, CMD, 0x20);
	bench_out8(b, CMD, 0xaa); /* the first answer was not fetched: lost */
	EXPECT(b, 0x55, 0x1e, 0x30);
}

static void
interrupts_are_edges(void **state)
{
	struct bench *b = *state;

	key(b, "\x1c");
	key(b, "\x32");
	assert_int_equal(bench_irqs(b, 1), 0);
	ccb_set(b, 0x45);
	assert_int_equal(bench_irqs(b, 1), 1);
	assert_int_equal(bench_trigger(b, 1), IRQ_EDGE);
	assert_int_equal(take(b), 0x1e);
	assert_int_equal(bench_irqs(b, 1), 1);
	assert_int_equal(take(b), 0x30);
	assert_int_equal(bench_irqs(b, 1), 0);
	assert_false(bench_line(b, 1));
	key(b, "\x1c");
	assert_true(bench_line(b, 1));
	ccb_set(b, 0x44);
	assert_false(bench_line(b, 1));
	assert_int_equal(take(b), 0x1e);

	ccb_set(b, 0x46);
	(void)bench_irqs(b, 1);
	mouse_out(b, 0xf2);
	assert_int_equal(bench_irqs(b, 12), 1);
	assert_int_equal(take(b), 0x1fa);
	assert_int_equal(bench_irqs(b, 12), 1);
	assert_int_equal(take(b), 0x100);
	assert_int_equal(bench_irqs(b, 12), 0);
	assert_int_equal(bench_irqs(b, 1), 0);
}

/* ---- the keyboard ------------------------------------------------------- */

static void
keyboard_commands(void **state)
{
	struct bench *b = *state;

	ccb_set(b, 0x04);
	bench_out8(b, DATA, 0xf2);
	EXPECT(b, 0xfa, 0xab, 0x83);
	bench_out8(b, DATA, 0xed);
	EXPECT(b, 0xfa);
	bench_out8(b, DATA, 0x07);
	EXPECT(b, 0xfa);
	bench_out8(b, DATA, 0xf3);
	EXPECT(b, 0xfa);
	bench_out8(b, DATA, 0x20);
	EXPECT(b, 0xfa);
	for (unsigned command = 0xf4; command <= 0xfa; command++) {
		bench_out8(b, DATA, (uint8_t)command);
		EXPECT(b, 0xfa);
	}
	bench_out8(b, DATA, 0xee);
	EXPECT(b, 0xee);
	bench_out8(b, DATA, 0xfe);
	EXPECT(b, 0xee);
	bench_out8(b, DATA, 0xff);
	EXPECT(b, 0xfa, 0xaa);
	/* Unknown ones, and those for set 3. */
	for (unsigned command = 0; command < 0xed; command++) {
		bench_out8(b, DATA, (uint8_t)command);
		EXPECT(b, 0xfe);
	}
	bench_out8(b, DATA, 0xfc);
	EXPECT(b, 0xfe);
	/* A command in place of an argument. */
	bench_out8(b, DATA, 0xed);
	EXPECT(b, 0xfa);
	bench_out8(b, DATA, 0xee);
	EXPECT(b, 0xee);
	bench_out8(b, DATA, 0x07);
	EXPECT(b, 0xfe);
	/* The id goes through the translation like any code. */
	ccb_set(b, 0x44);
	bench_out8(b, DATA, 0xf2);
	EXPECT(b, 0xfa, 0xab, 0x41);
}

static void
scan_sets(void **state)
{
	struct bench *b = *state;

	/* Set 2, translated by the controller, and not. */
	key(b, "\xe0\x75");
	key(b, "\xe0\xf0\x75");
	EXPECT(b, 0xe0, 0x48, 0xe0, 0xc8);
	key(b, "\xe1\x14\x77\xe1\xf0\x14\xf0\x77");
	EXPECT(b, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
	key(b, "\x83");
	key(b, "\xf0\x83");
	EXPECT(b, 0x41, 0xc1);
	ccb_set(b, 0x04);
	key(b, "\xe0\xf0\x75");
	EXPECT(b, 0xe0, 0xf0, 0x75);

	/* Set 1 by the keyboard itself. */
	bench_out8(b, DATA, 0xf0);
	bench_out8(b, DATA, 0x01);
	EXPECT(b, 0xfa, 0xfa);
	bench_out8(b, DATA, 0xf0);
	bench_out8(b, DATA, 0x00);
	EXPECT(b, 0xfa, 0xfa, 0x01);
	key(b, "\xe0\x75");
	key(b, "\xe0\xf0\x75");
	EXPECT(b, 0xe0, 0x48, 0xe0, 0xc8);
	/* Set 3 there is not. */
	bench_out8(b, DATA, 0xf0);
	bench_out8(b, DATA, 0x03);
	EXPECT(b, 0xfa, 0xfe);
	bench_out8(b, DATA, 0xf6);
	EXPECT(b, 0xfa);
	key(b, "\x1c");
	EXPECT(b, 0x1c);
}

/* Every code of a US keyboard: no two keys may fall together in set 1. */
static void
translation_is_one_to_one(void **state)
{
	bool seen[256] = { false };

	for (unsigned code = 1; code < 0x84; code++) {
		uint8_t one = ps2_set1((uint8_t)code);

		/* 0x7f and 0x84 are both SysRq; 0x80-0x82 are no keys. */
		if (code >= 0x80 && code <= 0x82)
			continue;
		assert_int_not_equal(one, 0);
		assert_true(one < 0x80);
		if (code != 0x02 && code != 0x83)
			assert_false(seen[one]);
		seen[one] = true;
	}
}

static void
disabled_scanning_hears_nothing(void **state)
{
	struct bench *b = *state;

	bench_out8(b, DATA, 0xf5);
	EXPECT(b, 0xfa);
	key(b, "\x1c");
	assert_int_equal(take(b), EMPTY);
	bench_out8(b, DATA, 0xf4);
	EXPECT(b, 0xfa);
	key(b, "\x1c");
	EXPECT(b, 0x1e);
}

static void
overrun_is_told_once(void **state)
{
	struct bench *b = *state;

	ccb_set(b, 0x04);
	/* One goes to the output buffer, 16 wait, the rest is an overrun. */
	for (unsigned i = 0; i < 30; i++)
		key(b, "\x1c");
	for (unsigned i = 0; i < 17; i++)
		assert_int_equal(take(b), 0x1c);
	EXPECT(b, 0x00);
	/* A stroke is whole or not there. */
	bench_out8(b, CMD, 0xad);
	for (unsigned i = 0; i < 15; i++)
		key(b, "\x1c");
	key(b, "\xe0\x75");
	key(b, "\x1c");
	key(b, "\x1c");
	bench_out8(b, CMD, 0xae);
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(take(b), 0x1c);
	EXPECT(b, 0x00);

	/* Another set drops what waits, and has a code of its own. */
	bench_out8(b, CMD, 0xad);
	for (unsigned i = 0; i < 20; i++)
		key(b, "\x1c");
	bench_out8(b, DATA, 0xf0);
	bench_out8(b, DATA, 0x01);
	bench_out8(b, CMD, 0xad);
	for (unsigned i = 0; i < 40; i++)
		key(b, "\x1c\x1c\x1c");
	bench_out8(b, CMD, 0xae);
	assert_int_equal(take(b), 0xfa);
	assert_int_equal(take(b), 0xfa);
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(take(b), 0x1e);
	EXPECT(b, 0xff);
	i8042_key(b->dev, (const uint8_t[64]) { 0 }, 64);
	EXPECT(b, 0xff);
}

/* ---- the mouse ---------------------------------------------------------- */

static void
mouse_commands(void **state)
{
	struct bench *b = *state;

	mouse_out(b, 0xff);
	EXPECT(b, 0x1fa, 0x1aa, 0x100);
	mouse_out(b, 0xf2);
	EXPECT(b, 0x1fa, 0x100);
	mouse_out(b, 0xe9);
	EXPECT(b, 0x1fa, 0x100, 0x102, 0x164);
	mouse_out(b, 0xe8);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0x03);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xf3);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0x28);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xe7);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xf4);
	EXPECT(b, 0x1fa);
	i8042_mouse(b->dev, 0, 0, 0, 1);
	EXPECT(b, 0x109, 0x100, 0x100);
	mouse_out(b, 0xe9);
	EXPECT(b, 0x1fa, 0x134, 0x103, 0x128);
	mouse_out(b, 0xf0);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xe9);
	EXPECT(b, 0x1fa, 0x174, 0x103, 0x128);
	mouse_out(b, 0xea);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xe6);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xfe);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xf6);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xe9);
	EXPECT(b, 0x1fa, 0x104, 0x102, 0x164);
	/* Wrong arguments and unknown commands. */
	mouse_out(b, 0xe8);
	mouse_out(b, 0x04);
	EXPECT(b, 0x1fa, 0x1fe);
	mouse_out(b, 0xf3);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0x29);
	EXPECT(b, 0x1fe);
	for (unsigned command = 0; command < 0xe6; command++) {
		mouse_out(b, (uint8_t)command);
		EXPECT(b, 0x1fe);
	}
	mouse_out(b, 0xf3);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xf2);
	EXPECT(b, 0x1fa, 0x100);
}

static void
stream_packets(void **state)
{
	struct bench *b = *state;

	/* Nothing before it is asked for, and nothing of that later. */
	i8042_mouse(b->dev, 5, 5, 0, 0);
	mouse_out(b, 0xf4);
	EXPECT(b, 0x1fa);
	i8042_mouse(b->dev, 3, -2, 0, 4);
	EXPECT(b, 0x12c, 0x103, 0x1fe);
	i8042_mouse(b->dev, -3, 2, 0, 4);
	EXPECT(b, 0x11c, 0x1fd, 0x102);
	i8042_mouse(b->dev, 0, 0, 0, 4);
	assert_int_equal(take(b), EMPTY);
	i8042_mouse(b->dev, 0, 0, 1, 4);
	assert_int_equal(take(b), EMPTY); /* it has no wheel */
	/* More than a packet holds goes into several. */
	i8042_mouse(b->dev, 300, -256, 0, 0);
	EXPECT(b, 0x128, 0x1ff, 0x101, 0x128, 0x12d, 0x1ff);
	/* Scaling leaves slow motion slow. */
	mouse_out(b, 0xe7);
	EXPECT(b, 0x1fa);
	i8042_mouse(b->dev, 2, -3, 0, 0);
	EXPECT(b, 0x128, 0x101, 0x1fd);
	i8042_mouse(b->dev, 5, 20, 0, 0);
	EXPECT(b, 0x108, 0x109, 0x128);
	mouse_out(b, 0xf5);
	EXPECT(b, 0x1fa);
	i8042_mouse(b->dev, 1, 1, 0, 1);
	assert_int_equal(take(b), EMPTY);
}

static void
remote_and_wrap_modes(void **state)
{
	struct bench *b = *state;

	mouse_out(b, 0xf0);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xf4);
	EXPECT(b, 0x1fa);
	i8042_mouse(b->dev, 7, 8, 0, 2);
	assert_int_equal(take(b), EMPTY);
	mouse_out(b, 0xeb);
	EXPECT(b, 0x1fa, 0x10a, 0x107, 0x108);
	mouse_out(b, 0xeb);
	EXPECT(b, 0x1fa, 0x10a, 0x100, 0x100);
	mouse_out(b, 0xee);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xf2);
	EXPECT(b, 0x1f2);
	mouse_out(b, 0x12);
	EXPECT(b, 0x112);
	mouse_out(b, 0xec);
	EXPECT(b, 0x1fa);
	mouse_out(b, 0xf2);
	EXPECT(b, 0x1fa, 0x100);
}

static void
knocking_gives_a_wheel(void **state)
{
	static const uint8_t knock[] = { 200, 100, 80 };
	struct bench *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(knock); i++) {
		mouse_out(b, 0xf3);
		EXPECT(b, 0x1fa);
		mouse_out(b, knock[i]);
		EXPECT(b, 0x1fa);
	}
	mouse_out(b, 0xf2);
	EXPECT(b, 0x1fa, 0x103);
	mouse_out(b, 0xf4);
	EXPECT(b, 0x1fa);
	i8042_mouse(b->dev, 1, 2, -1, 0);
	EXPECT(b, 0x108, 0x101, 0x102, 0x1ff);
	i8042_mouse(b->dev, 0, 0, 9, 0);
	EXPECT(b, 0x108, 0x100, 0x100, 0x107, 0x108, 0x100, 0x100, 0x102);
	mouse_out(b, 0xeb);
	EXPECT(b, 0x1fa, 0x108, 0x100, 0x100, 0x100);
	mouse_out(b, 0xff);
	EXPECT(b, 0x1fa, 0x1aa, 0x100);
}

static void
motion_adds_up_to_a_limit(void **state)
{
	struct bench *b = *state;
	int right = 0, down = 0, first;

	mouse_out(b, 0xf4);
	EXPECT(b, 0x1fa);
	for (unsigned i = 0; i < 1000; i++)
		i8042_mouse(b->dev, INT32_MAX, INT32_MIN, INT32_MIN, i & 7);
	while ((first = take(b)) != EMPTY) {
		assert_int_equal(first & 0x138, 0x128);
		right += take(b) & 0xff;
		down += 0x200 - take(b);
	}
	assert_int_equal(right, down);
	/* What was sent at once, and then the limit. */
	assert_in_range(right, PS2MOUSE_MOTION_MAX,
	    PS2MOUSE_MOTION_MAX + 6 * 255);
	/* A command drops the packets that wait, not the byte in the buffer. */
	i8042_mouse(b->dev, 1, 0, 0, 0);
	i8042_mouse(b->dev, 1, 0, 0, 0);
	mouse_out(b, 0xf2);
	assert_int_equal(take(b) & 0x108, 0x108);
	EXPECT(b, 0x1fa, 0x100);
}

/* ---- hostile ------------------------------------------------------------ */

static void
random_activity(struct bench *b)
{
	static const char *const strokes[] = { "\x1c", "\xf0\x1c", "\xe0\x75",
		"\xe0\xf0\x75", "\xe1\x14\x77\xe1\xf0\x14\xf0\x77" };

	switch (random() % 6) {
	case 0:
		key(b, strokes[random() % ARRAY_SIZE(strokes)]);
		break;
	case 1:
		i8042_mouse(b->dev, (int)(random() % 600) - 300,
		    (int)(random() % 600) - 300, (int)(random() % 5) - 2,
		    (unsigned)random());
		break;
	case 2:
		bench_out8(b, CMD, (uint8_t)random() | 1);
		break;
	case 3:
		bench_out8(b, DATA, (uint8_t)random() | 1);
		break;
	case 4:
		mouse_out(b, (uint8_t)(0xe6 + random() % 26));
		break;
	default:
		(void)take(b);
		break;
	}
}

static void
mid_activity_round_trips(void **state)
{
	struct bench *b = *state;

	srandom(4);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 30; j++)
			random_activity(b);
		bench_round_trip(b);
	}
	assert_int_equal(b->ended, VM_END_NONE);
}

/* The fields in order, as good[] has them after power-on. */
enum {
	F_RAM = 0,
	F_COMMAND = 32,
	F_LAST_COMMAND,
	F_A20,
	F_RELEASE,
	F_OUT,
	F_OUT_SOURCE,
	F_OUT_ANSWER,
	F_HELD,
	F_HELD_SOURCE,
	F_KBD,
	F_REPLY_LEN = 5, /* within a device's output */
	F_REPLY_POS,
	F_HEAD = F_REPLY_POS + 1 + PS2_FIFO_SIZE,
	F_COUNT,
	F_OUT_SIZE = F_COUNT + 2,
	F_KBD_LEDS = F_KBD + F_OUT_SIZE + 1,
	F_KBD_TYPEMATIC,
	F_KBD_SET,
	F_KBD_SCANNING,
	F_MOUSE,
	F_MOUSE_ID = F_MOUSE + F_OUT_SIZE + 1,
	F_MOUSE_RESOLUTION = F_MOUSE_ID + 4,
	F_MOUSE_BUTTONS = F_MOUSE_RESOLUTION + 5,
	F_MOUSE_DX = F_MOUSE_BUTTONS + 2,
	F_SIZE = F_MOUSE_DX + 6,
};

static void
forged_state_is_refused(void **state)
{
	static const struct {
		unsigned at;
		uint8_t value;
	} lies[] = {
		{ F_COMMAND, 0x20 },
		{ F_LAST_COMMAND, 2 },
		{ F_A20, 0xff },
		{ F_OUT_SOURCE, 3 },
		{ F_OUT_ANSWER, 1 },  /* of no source */
		{ F_HELD_SOURCE, 1 }, /* behind no answer */
		{ F_HELD_SOURCE, 3 },
		{ F_KBD + F_REPLY_LEN, 6 },
		{ F_KBD + F_REPLY_POS, 1 },
		{ F_KBD + F_HEAD, 17 },
		{ F_KBD + F_COUNT, 18 },
		{ F_KBD_LEDS, 8 },
		{ F_KBD_TYPEMATIC, 0x80 },
		{ F_KBD_SET, 0 },
		{ F_KBD_SET, 3 },
		{ F_KBD_SCANNING, 2 },
		{ F_MOUSE + F_REPLY_LEN, 0xff },
		{ F_MOUSE + F_REPLY_POS, 5 },
		{ F_MOUSE + F_HEAD, 0xff },
		{ F_MOUSE + F_COUNT, 0xff },
		{ F_MOUSE_ID, 1 },
		{ F_MOUSE_ID, 4 },
		{ F_MOUSE_RESOLUTION, 4 },
		{ F_MOUSE_BUTTONS, 8 },
		{ F_MOUSE_DX + 1, 0x7f },
		{ F_MOUSE_DX + 3, 0x80 },
	};
	struct bench *b = *state;
	struct buf saved = { 0 };
	uint8_t good[F_SIZE], forged[F_SIZE];

	bench_save(b, &saved);
	assert_true(saved.len > F_SIZE);
	memcpy(good, saved.data + saved.len - F_SIZE, F_SIZE);
	buf_fini(&saved);
	assert_int_equal(good[F_KBD_SET], 2);
	assert_int_equal(good[F_MOUSE_RESOLUTION], 2);
	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		memcpy(forged, good, F_SIZE);
		forged[lies[i].at] = lies[i].value;
		if (bench_load(b, forged, F_SIZE) != -EINVAL)
			fail_msg("lie %u is believed", i);
	}
	assert_int_equal(bench_load(b, good, F_SIZE - 1), -EINVAL);
	/* A byte of the mouse in the buffer, its interrupt enabled. */
	good[F_RAM] = 0x06;
	good[F_OUT] = 0x42;
	good[F_OUT_SOURCE] = 2;
	assert_int_equal(bench_load(b, good, F_SIZE), 0);
	assert_true(bench_line(b, 12));
	EXPECT(b, 0x142);

	/* A queue full of codes, with no place for the overrun that comes. */
	good[F_RAM] = 0x10;
	good[F_OUT_SOURCE] = 0;
	memset(good + F_KBD + F_REPLY_POS + 1, 0x1c, PS2_FIFO_SIZE);
	good[F_KBD + F_HEAD] = 3;
	good[F_KBD + F_COUNT] = PS2_FIFO_SIZE;
	assert_int_equal(bench_load(b, good, F_SIZE), 0);
	key(b, "\x32");
	bench_out8(b, CMD, 0xae);
	for (unsigned i = 0; i < PS2_FIFO_SIZE; i++)
		assert_int_equal(take(b), 0x1c);
	assert_int_equal(take(b), EMPTY);
}

/* Any state that is believed must be one to go on from. */
static void
random_states_do_no_harm(void **state)
{
	struct bench *b = *state;
	uint8_t fields[F_SIZE];
	unsigned believed = 0;

	srandom(5);
	for (unsigned i = 0; i < 20000; i++) {
		for (unsigned j = 0; j < F_SIZE; j++)
			fields[j] = (uint8_t)(random() % (j < F_KBD ? 3 : 4));
		/* Queues of any length, wherever they begin. */
		fields[F_KBD + F_HEAD] = (uint8_t)(random() % PS2_FIFO_SIZE);
		fields[F_KBD + F_COUNT] =
		    (uint8_t)(random() % (PS2_FIFO_SIZE + 1));
		fields[F_MOUSE + F_HEAD] = (uint8_t)(random() % PS2_FIFO_SIZE);
		fields[F_MOUSE + F_COUNT] =
		    (uint8_t)(random() % (PS2_FIFO_SIZE + 1));
		if (bench_load(b, fields, F_SIZE) == 0)
			believed++;
		for (unsigned j = 0; j < 20; j++)
			random_activity(b);
	}
	assert_true(believed > 0);
}

static void
hammered_in_every_width(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_PORT, 0x5d, 12 },
	};
	struct bench *b = *state;

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 50000, 0x8042);
	/* It has been reset many times, but it works. */
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	bench_out8(b, CMD, 0xaa);
	EXPECT(b, 0x55);
}

/* A vCPU reads what another thread types. */
static void *
typist(void *arg)
{
	struct bench *b = arg;

	for (unsigned i = 0; i < 5000; i++) {
		key(b, "\x1c");
		i8042_mouse(b->dev, 1, 1, 0, i & 1);
	}
	return NULL;
}

static void
input_comes_from_any_thread(void **state)
{
	struct bench *b = *state;
	pthread_t thread;
	uint8_t byte;

	mouse_out(b, 0xf4);
	EXPECT(b, 0x1fa);
	assert_int_equal(pthread_create(&thread, NULL, typist, b), 0);
	for (unsigned i = 0; i < 5000; i++) {
		byte = (uint8_t)bus_read(vm_ports(b->vm), DATA, 1);
		bus_write(vm_ports(b->vm), CMD, 1, byte | 1);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	while (take(b) != EMPTY)
		;
	bench_round_trip(b);
}

BENCH_MAIN("i8042", BENCH_TEST(power_on_is_as_a_bios_leaves_it),
    BENCH_TEST(ram_is_32_bytes), BENCH_TEST(tests_pass),
    BENCH_TEST(ports_are_switched), BENCH_TEST(buffers_are_written),
    BENCH_TEST(output_port_and_a20), BENCH_TEST(pulse_resets),
    BENCH_TEST(unknown_commands_do_nothing), BENCH_TEST(answers_go_before_keys),
    BENCH_TEST(interrupts_are_edges), BENCH_TEST(keyboard_commands),
    BENCH_TEST(scan_sets), BENCH_TEST(translation_is_one_to_one),
    BENCH_TEST(disabled_scanning_hears_nothing),
    BENCH_TEST(overrun_is_told_once), BENCH_TEST(mouse_commands),
    BENCH_TEST(stream_packets), BENCH_TEST(remote_and_wrap_modes),
    BENCH_TEST(knocking_gives_a_wheel), BENCH_TEST(motion_adds_up_to_a_limit),
    BENCH_TEST(mid_activity_round_trips), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(random_states_do_no_harm), BENCH_TEST(hammered_in_every_width),
    BENCH_TEST(input_comes_from_any_thread))
