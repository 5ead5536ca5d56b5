/*
 * Buses: who answers, how odd accesses are cut, and look-up while ranges move.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "vm/vm_impl.h"

/* A range that notes what reaches it; reads give the offset in each byte. */
struct probe {
	unsigned reads, writes;
	uint64_t off, value;
	unsigned size;
	uint8_t mark; /* what its bytes read as, plus their offset */
};

static uint64_t
probe_read(void *self, uint64_t off, unsigned size)
{
	struct probe *p = self;
	uint64_t value = 0;

	p->reads++;
	p->off = off;
	p->size = size;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)(uint8_t)(p->mark + off + i) << (i * 8);
	return value;
}

static void
probe_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct probe *p = self;

	p->writes++;
	p->off = off;
	p->size = size;
	p->value = value;
}

#define PROBE_OPS(id, ...)                                    \
	static const struct io_ops id = { .read = probe_read, \
		.write = probe_write,                         \
		__VA_ARGS__ }
PROBE_OPS(any_ops, .odd = IO_SPLIT);
PROBE_OPS(byte_ops, .widths = 1, .odd = IO_SPLIT);
PROBE_OPS(narrow_ops, .widths = 1, .odd = IO_NARROW);
PROBE_OPS(dword_ops, .widths = 4, .odd = IO_ZEROS, .aligned = true);
PROBE_OPS(ones_ops, .widths = 4, .odd = IO_ONES);
PROBE_OPS(timer_ops, .widths = 4, .odd = IO_SPLIT, .aligned = true);

static struct io_range *
add(struct bus *bus, uint64_t base, uint64_t len, const struct io_ops *ops,
    struct probe *probe, bool fixed)
{
	struct io_range *range =
	    bus_add_range(bus, len, ops, probe, NULL, fixed);
	struct err err;

	assert_int_equal(io_range_map(range, base, &err), 0);
	return range;
}

static void
nobody_reads_as_ones(void **state)
{
	struct bus *bus = bus_new(UINT16_MAX);
	uint8_t data[8] = { 0 };

	assert_int_equal(bus_read(bus, 0x80, 1), 0xff);
	assert_int_equal(bus_read(bus, 0x80, 4), 0xffffffff);
	assert_false(bus_access(bus, 0x80, true, 2, data));
	/* Over the end of the ports. */
	assert_int_equal(bus_read(bus, 0xffff, 4), 0xffffffff);
	bus_free(bus);
}

static void
split_over_two_owners(void **state)
{
	struct bus *bus = bus_new(UINT16_MAX);
	struct probe a = { .mark = 0x10 }, b = { .mark = 0x20 };
	uint8_t data[4];

	add(bus, 0x40, 2, &any_ops, &a, true);
	add(bus, 0x42, 1, &any_ops, &b, true);
	assert_int_equal(bus_read(bus, 0x41, 4), 0xffff2011);
	assert_false(bus_access(bus, 0x41, false, 4, data));
	assert_true(bus_access(bus, 0x40, false, 2, data));
	bus_free(bus);
}

static void
odd_widths(void **state)
{
	struct bus *bus = bus_new(UINT64_MAX);
	struct probe p = { 0 };

	add(bus, 0x100, 8, &byte_ops, &p, true);
	assert_int_equal(bus_read(bus, 0x101, 4), 0x04030201);
	assert_int_equal(p.reads, 4);
	bus_write(bus, 0x100, 2, 0xaabb);
	assert_int_equal(p.writes, 2);
	assert_int_equal(p.value, 0xaa);

	p = (struct probe) { .mark = 7 };
	add(bus, 0x200, 8, &narrow_ops, &p, true);
	bus_write(bus, 0x200, 4, 0x11223344);
	assert_int_equal(p.writes, 1);
	assert_int_equal(p.value, 0x44);
	assert_int_equal(bus_read(bus, 0x201, 4), 8);

	p = (struct probe) { 0 };
	add(bus, 0x300, 16, &dword_ops, &p, true);
	assert_int_equal(bus_read(bus, 0x304, 4), 0x07060504);
	assert_int_equal(bus_read(bus, 0x304, 8), 0);
	assert_int_equal(bus_read(bus, 0x302, 4), 0);
	assert_int_equal(bus_read(bus, 0x300, 1), 0);
	bus_write(bus, 0x300, 8, 1);
	assert_int_equal(p.writes, 0);

	add(bus, 0x400, 4, &ones_ops, &p, true);
	assert_int_equal(bus_read(bus, 0x400, 2), 0xffff);

	/* A part of a register that is only read whole. */
	p = (struct probe) { .mark = 1 };
	add(bus, 0x500, 4, &timer_ops, &p, true);
	assert_int_equal(bus_read(bus, 0x501, 2), 0x0302);
	assert_int_equal(p.reads, 1);
	assert_int_equal(p.size, 4);
	bus_write(bus, 0x501, 1, 1);
	assert_int_equal(p.writes, 0);
	/* Two wide registers in one access. */
	p.reads = 0;
	add(bus, 0x600, 8, &timer_ops, &p, true);
	assert_int_equal(bus_read(bus, 0x600, 8), 0x0807060504030201);
	assert_int_equal(p.reads, 2);
	bus_free(bus);
}

static void
fixed_ranges_do_not_clash(void **state)
{
	struct bus *bus = bus_new(UINT16_MAX);
	struct probe p = { 0 };
	struct io_range *range;
	struct err err;

	add(bus, 0x60, 5, &any_ops, &p, true);
	range = bus_add_range(bus, 4, &any_ops, &p, NULL, true);
	assert_true(io_range_map(range, 0x64, &err) < 0);
	assert_true(io_range_map(range, 0xfffe, &err) < 0);
	assert_int_equal(io_range_map(range, 0x65, &err), 0);
	bus_free(bus);
}

static void
overlaps_are_settled(void **state)
{
	struct bus *bus = bus_new(UINT64_MAX);
	struct probe fixed = { .mark = 0x10 }, one = { .mark = 0x20 },
		     two = { .mark = 0x30 };
	struct io_range *first, *second;
	uint64_t base;

	add(bus, 0x1010, 0x10, &any_ops, &fixed, true);
	first = add(bus, 0x1000, 0x40, &any_ops, &one, false);
	second = add(bus, 0x1020, 0x40, &any_ops, &two, false);
	assert_int_equal(bus_read(bus, 0x100f, 1), 0x2f);
	assert_int_equal(bus_read(bus, 0x1010, 1), 0x10);
	assert_int_equal(bus_read(bus, 0x1020, 1), 0x40);
	assert_int_equal(bus_read(bus, 0x103f, 1), 0x5f);
	assert_int_equal(bus_read(bus, 0x1040, 1), 0x50);
	assert_int_equal(bus_read(bus, 0x105f, 1), 0x6f);
	assert_int_equal(bus_read(bus, 0x1060, 1), 0xff);
	io_range_unmap(first);
	assert_int_equal(bus_read(bus, 0x1000, 1), 0xff);
	assert_int_equal(bus_read(bus, 0x1020, 1), 0x30);
	assert_false(io_range_mapped(first, &base));
	/* At the very top, where sums would wrap. */
	assert_int_equal(io_range_map(second, UINT64_MAX - 0x3f, NULL), 0);
	assert_true(io_range_mapped(second, &base));
	assert_int_equal(bus_read(bus, UINT64_MAX, 1), 0x6f);
	assert_int_equal(bus_read(bus, UINT64_MAX, 4), 0xffffff6f);
	assert_true(io_range_map(second, UINT64_MAX - 0x3e, NULL) < 0);
	bus_free(bus);
}

static void
many_ranges(void **state)
{
	struct bus *bus = bus_new(UINT64_MAX);
	struct probe p = { 0 };

	for (uint64_t i = 0; i < 500; i++)
		add(bus, (499 - i) * 0x100, 0x80, &any_ops, &p, i % 2);
	for (uint64_t i = 0; i < 500; i++) {
		p.off = 1;
		(void)bus_read(bus, i * 0x100 + 0x7f, 1);
		assert_int_equal(p.off, 0x7f);
		assert_int_equal(bus_read(bus, i * 0x100 + 0x80, 1), 0xff);
	}
	bus_free(bus);
}

/* Readers while a range moves: each read is of one of the two places. */
struct mover {
	struct bus *bus;
	struct io_range *range;
	atomic_bool stop;
	unsigned wrong;
};

static uint64_t
constant_read(void *self, uint64_t off, unsigned size)
{
	return off == 8 ? 0x5a : 0;
}

static void
ignore_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
}

static const struct io_ops constant_ops = { .read = constant_read,
	.write = ignore_write,
	.odd = IO_SPLIT };

static void *
mover_reader(void *arg)
{
	struct mover *m = arg;

	for (unsigned i = 0; i < 5000; i++) {
		uint64_t a = bus_read(m->bus, 0x1008, 1);
		uint64_t b = bus_read(m->bus, 0x2008, 1);

		if ((a != 0x5a && a != 0xff) || (b != 0x5a && b != 0xff))
			m->wrong++;
		/* A range that stays is always found. */
		if (bus_read(m->bus, 0x1808, 1) != 0x5a)
			m->wrong++;
	}
	atomic_store(&m->stop, true);
	return NULL;
}

static void
look_up_while_ranges_move(void **state)
{
	struct mover m = { .bus = bus_new(UINT64_MAX) };
	struct io_range *other;
	pthread_t thread;

	add(m.bus, 0x1800, 0x10, &constant_ops, NULL, true);
	m.range = add(m.bus, 0x1000, 0x10, &constant_ops, NULL, false);
	assert_int_equal(pthread_create(&thread, NULL, mover_reader, &m), 0);
	for (uint64_t i = 0; !atomic_load(&m.stop); i++) {
		assert_int_equal(io_range_map(m.range, i % 2 ? 0x1000 : 0x2000,
				     NULL),
		    0);
		/* Make the table grow now and then. */
		if (i < 200) {
			other = bus_add_range(m.bus, 1, &constant_ops, NULL,
			    NULL, false);
			assert_int_equal(io_range_map(other, 0x4000 + i, NULL),
			    0);
		}
	}
	pthread_join(thread, NULL);
	assert_int_equal(m.wrong, 0);
	bus_free(m.bus);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_reads_as_ones),
		cmocka_unit_test(split_over_two_owners),
		cmocka_unit_test(odd_widths),
		cmocka_unit_test(fixed_ranges_do_not_clash),
		cmocka_unit_test(overlaps_are_settled),
		cmocka_unit_test(many_ranges),
		cmocka_unit_test(look_up_while_ranges_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
