/*
 * Port 0xcf9 behind the host bridge, and the POST port.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "test/bench.h"
#include "vm/bus.h"

static void
reset_control_reads_back(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_in8(b, 0xcf9), 0);
	for (unsigned value = 0; value < 256; value++) {
		if (value & 4)
			continue;
		bench_out8(b, 0xcf9, (uint8_t)value);
		assert_int_equal(bench_in8(b, 0xcf9), value);
	}
	assert_int_equal(b->ended, VM_END_NONE);
	assert_int_equal(bench_in32(b, 0xcf8), 0);
}

static void
bit_2_resets(void **state)
{
	struct bench *b = *state;

	bench_out8(b, 0xcf9, 0x02);
	assert_int_equal(b->ended, VM_END_NONE);
	bench_out8(b, 0xcf9, 0x06);
	assert_int_equal(b->ended, VM_END_RESET);
}

static void
soft_reset_is_one_too(void **state)
{
	struct bench *b = *state;

	bench_out8(b, 0xcf9, 0x04);
	assert_int_equal(b->ended, VM_END_RESET);
}

static void
wider_accesses_are_not_its(void **state)
{
	struct bench *b = *state;

	bench_out32(b, 0xcf8, 0xffffffff);
	bench_out16(b, 0xcf8, 0xffff);
	bench_out16(b, 0xcf9, 0xffff);
	assert_int_equal(bench_in16(b, 0xcf9), 0xffff);
	assert_int_equal(bench_in8(b, 0xcf9), 0);
	assert_int_equal(b->ended, VM_END_NONE);
}

static void
post_port_reads_ones(void **state)
{
	struct bench *b = *state;

	bench_out8(b, 0x84, 0x12);
	assert_int_equal(bench_in8(b, 0x84), 0xff);
	bench_out32(b, 0x84, 0);
	assert_int_equal(bench_in32(b, 0x84), 0xffffffff);
}

static void
reset_forgets(void **state)
{
	struct bench *b = *state;

	bench_out8(b, 0xcf9, 0x02);
	bench_round_trip(b);
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_int_equal(bench_in8(b, 0xcf9), 0);
	bench_round_trip(b);
}

/* Whatever was written stays, even a byte that ends the machine. */
static void
mid_activity_round_trips(void **state)
{
	struct bench *b = *state;
	uint8_t control = 0;

	srandom(4);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 20; j++) {
			switch (random() % 4) {
			case 0:
				control = (uint8_t)random();
				bench_out8(b, 0xcf9, control);
				break;
			case 1:
				bench_out32(b, 0xcf8, (uint32_t)random());
				break;
			case 2:
				bench_out8(b, 0x84, (uint8_t)random());
				break;
			case 3:
				assert_int_equal(bench_in8(b, 0xcf9), control);
				break;
			}
		}
		bench_round_trip(b);
		assert_int_equal(bench_in8(b, 0xcf9), control);
	}
}

static void
forged_state_is_refused(void **state)
{
	struct bench *b = *state;

	b->dev = device_find(b->vm, "reset");
	assert_int_equal(bench_load(b, "\xfe\x02", 2), -EINVAL);
	assert_int_equal(bench_load(b, "\xff\x02\x00", 3), -EINVAL);
	assert_int_equal(bench_load(b, "\xff\x02", 2), 0);
	assert_int_equal(bench_in8(b, 0xcf9), 2);
}

/* The host bridge is entered without a lock, the register is not. */
static void *
second_vcpu(void *arg)
{
	struct bench *b = arg;

	for (unsigned i = 0; i < 1000; i++)
		bus_write(vm_ports(b->vm), 0xcf9, 1, 2);
	return NULL;
}

static void
two_vcpus_do_not_race(void **state)
{
	struct bench *b = *state;
	pthread_t thread;
	uint64_t value;

	assert_int_equal(pthread_create(&thread, NULL, second_vcpu, b), 0);
	for (unsigned i = 0; i < 1000; i++) {
		value = bus_read(vm_ports(b->vm), 0xcf9, 1);
		assert_true(value == 0 || value == 2);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(bench_in8(b, 0xcf9), 2);
}

BENCH_MAIN("pci", BENCH_TEST(reset_control_reads_back),
    BENCH_TEST(bit_2_resets), BENCH_TEST(soft_reset_is_one_too),
    BENCH_TEST(wider_accesses_are_not_its), BENCH_TEST(post_port_reads_ones),
    BENCH_TEST(reset_forgets), BENCH_TEST(mid_activity_round_trips),
    BENCH_TEST(two_vcpus_do_not_race), BENCH_TEST(forged_state_is_refused))
