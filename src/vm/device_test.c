/*
 * The device core, seen through a toy: registers by table, saved state, life.
 */
#include <errno.h>
#include <string.h>

#include "test/bench.h"
#include "vm/bus.h"

struct toy {
	struct device *dev;
	uint8_t ctl;
	uint8_t status;
	uint16_t wide;
	uint32_t id;
	uint32_t count; /* of changed() */
	bool flag;
	uint8_t level;
	uint16_t words[3];
	struct clock_timer timer;
	unsigned fired;
	uint64_t wrote;
};

static uint64_t
toy_id(void *self, const struct reg *reg)
{
	return 0x12345678;
}

static void
toy_wrote(void *self, const struct reg *reg, uint64_t value)
{
	struct toy *toy = self;

	toy->wrote = value;
	clock_timer_arm(&toy->timer, clock_now(device_clock(toy->dev)) + value);
}

static const struct reg toy_regs[] = {
	REG8(0, struct toy, ctl, 0x81, 0x0f),
	REG8(1, struct toy, status, 0, 0, .clear = 0x03, .device = 0x07),
	REG16(2, struct toy, wide, 0xbeef, 0xff00, .wrote = toy_wrote),
	REG32(8, struct toy, id, 0, 0, .read = toy_id),
};

static const struct field toy_state[] = {
	STATE_BOOL(struct toy, flag, true),
	STATE_INT_MAX(struct toy, level, 3, 9),
	STATE_ARRAY(struct toy, words, 0x55),
	STATE_TIMER(struct toy, timer),
};

static void
toy_fired(void *self)
{
	struct toy *toy = self;

	toy->fired++;
	toy->status |= 0x07;
}

static int
toy_create(struct device *dev, void *self, struct err *err)
{
	struct toy *toy = self;

	toy->dev = dev;
	device_timer_init(dev, &toy->timer, toy_fired);
	return device_map_ports(dev, 0x1230, REG_TABLE(toy_regs), err);
}

static void
toy_changed(void *self)
{
	struct toy *toy = self;

	toy->count++;
}

static int
toy_check(const void *self, struct err *err)
{
	const struct toy *toy = self;

	if (toy->words[0] == 0xdead)
		return err_set(err, -EINVAL, "toy: word 0 is dead");
	return 0;
}

DEVICE_MODEL(toy) = {
	.name = "toy",
	.state_version = 2,
	.size = sizeof(struct toy),
	STATE_TABLE(toy_state),
	.create = toy_create,
	.changed = toy_changed,
	.check = toy_check,
};

static struct toy *
toy_of(struct bench *b)
{
	return device_self(b->dev);
}

static void
registers_by_table(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_in8(b, 0x1230), 0x81);
	bench_out8(b, 0x1230, 0x7e);
	assert_int_equal(bench_in8(b, 0x1230), 0x8e);
	assert_int_equal(bench_in16(b, 0x1232), 0xbeef);
	assert_int_equal(bench_in32(b, 0x1238), 0x12345678);
	/* Halves of a register, and bytes that are none. */
	assert_int_equal(bench_in8(b, 0x1233), 0xbe);
	bench_out8(b, 0x1233, 0x12);
	assert_int_equal(bench_in16(b, 0x1232), 0x12ef);
	assert_int_equal(toy_of(b)->wrote, 0x1200);
	assert_int_equal(bench_in8(b, 0x1234), 0xff);
	assert_int_equal(bench_in16(b, 0x123a), 0x1234);
	/* Several at once: each takes its bytes, changed() comes once. */
	toy_of(b)->count = 0;
	bench_out32(b, 0x1230, 0x34000000);
	assert_int_equal(toy_of(b)->count, 1);
	assert_int_equal(bench_in32(b, 0x1230), 0x34ef0080);
}

static void
write_one_clears(void **state)
{
	struct bench *b = *state;

	bench_out16(b, 0x1232, 0x0100);
	bench_advance(b, 0xff);
	assert_int_equal(toy_of(b)->fired, 0);
	bench_advance(b, 1);
	assert_int_equal(toy_of(b)->fired, 1);
	assert_int_equal(bench_in8(b, 0x1231), 0x07);
	bench_out8(b, 0x1231, 0xfd);
	assert_int_equal(bench_in8(b, 0x1231), 0x06);
}

static void
reset_puts_values_back(void **state)
{
	struct bench *b = *state;
	struct err err;

	bench_out16(b, 0x1232, 0x0100);
	bench_out8(b, 0x1230, 0);
	toy_of(b)->flag = false;
	toy_of(b)->words[2] = 1;
	assert_int_equal(vm_reset(b->vm, &err), 0);
	assert_int_equal(bench_in8(b, 0x1230), 0x81);
	assert_true(toy_of(b)->flag);
	assert_int_equal(toy_of(b)->level, 3);
	assert_int_equal(toy_of(b)->words[2], 0x55);
	bench_advance(b, 0x1000);
	assert_int_equal(toy_of(b)->fired, 0);
}

static void
round_trip_in_the_middle(void **state)
{
	struct bench *b = *state;

	bench_out32(b, 0x1230, 0xab00000f);
	bench_advance(b, 0x80);
	toy_of(b)->words[1] = 0x1234;
	toy_of(b)->level = 9;
	bench_round_trip(b);
}

/* The fields of a toy as its record holds them. */
static const uint8_t good[] = {
	0x81, 0x00, 0xef, 0xbe, 0, 0, 0, 0,    /* ctl status wide id */
	0x01, 0x03, 0x55, 0, 0x55, 0, 0x55, 0, /* flag level words */
	0x01, 0x10, 0, 0, 0, 0, 0, 0, 0,       /* timer */
};

static void
loads_what_is_possible(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_load(b, good, sizeof(good)), 0);
	bench_advance(b, 0x10);
	assert_int_equal(toy_of(b)->fired, 1);
}

static void
refuses_what_is_not(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
	} lies[] = {
		{ 0, 0x01 }, /* a bit that is always one */
		{ 1, 0x08 }, /* one that is always zero */
		{ 2, 0xee }, { 4, 0x01 },
		{ 8, 0x02 },  /* neither true nor false */
		{ 9, 10 },    /* above its bound */
		{ 16, 0x02 }, /* neither armed nor not */
	};
	struct bench *b = *state;
	uint8_t forged[sizeof(good) + 1];
	struct buf before = { 0 }, after = { 0 };

	bench_save(b, &before);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		memcpy(forged, good, sizeof(good));
		forged[lies[i].at] = lies[i].value;
		assert_int_equal(bench_load(b, forged, sizeof(good)), -EINVAL);
	}
	memcpy(forged, good, sizeof(good));
	forged[10] = 0xad;
	forged[11] = 0xde;
	assert_int_equal(bench_load(b, forged, sizeof(good)), -EINVAL);
	assert_int_equal(bench_load(b, good, sizeof(good) - 1), -EINVAL);
	assert_int_equal(bench_load(b, forged, sizeof(good) + 1), -EINVAL);
	assert_int_equal(bench_load(b, good, 0), -EINVAL);
	/* None of it has left a trace. */
	bench_save(b, &after);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	buf_fini(&before);
	buf_fini(&after);
}

static void
refuses_other_records(void **state)
{
	struct bench *b = *state;
	struct buf record = { 0 };
	struct reader in;
	struct err err;

	bench_save(b, &record);
	for (size_t len = 0; len < record.len; len++) {
		in = reader_make(record.data, len);
		assert_int_equal(device_load(b->dev, &in, &err), -EINVAL);
	}
	record.data[2] ^= 1; /* the model's name */
	in = reader_make(record.data, record.len);
	assert_int_equal(device_load(b->dev, &in, &err), -EINVAL);
	record.data[2] ^= 1;
	record.data[10] = 3; /* a version from the future */
	in = reader_make(record.data, record.len);
	assert_int_equal(device_load(b->dev, &in, &err), -EINVAL);
	record.data[10] = 1; /* and one from the past */
	in = reader_make(record.data, record.len);
	assert_int_equal(device_load(b->dev, &in, &err), 0);
	buf_fini(&record);
}

static void
devices_by_name(void **state)
{
	struct bench *b = *state;
	struct err err;

	assert_ptr_equal(device_find(b->vm, "toy"), b->dev);
	assert_null(device_find(b->vm, "nothing"));
	assert_int_equal(device_new(b->vm, "nothing", "x", NULL, NULL, &err),
	    -ENODEV);
	assert_string_equal(err.msg, "nothing: unknown device");
	assert_int_equal(device_new(b->vm, "toy", "toy", NULL, NULL, &err),
	    -EEXIST);
	/* Its ports are taken. */
	assert_int_equal(device_new(b->vm, "toy", "toy2", NULL, NULL, &err),
	    -EBUSY);
	assert_non_null(device_model_find("toy"));
	assert_null(device_model_find("to"));
}

static void
hammered(void **state)
{
	const struct bench_range ranges[] = { { BUS_PORT, 0x122e, 0x10 } };

	bench_hammer(*state, ranges, ARRAY_SIZE(ranges), 20000, 1);
}

BENCH_MAIN("toy", BENCH_TEST(registers_by_table), BENCH_TEST(write_one_clears),
    BENCH_TEST(reset_puts_values_back), BENCH_TEST(round_trip_in_the_middle),
    BENCH_TEST(loads_what_is_possible), BENCH_TEST(refuses_what_is_not),
    BENCH_TEST(refuses_other_records), BENCH_TEST(devices_by_name),
    BENCH_TEST(hammered))
