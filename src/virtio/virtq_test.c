/*
 * Virtqueues against a small driver, in both kinds of ring.
 *
 * The driver keeps to the rules unless a test makes it lie: then the queue must
 * be broken, once, and nothing outside RAM be handed to a device.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"
#include "virtio/virtq.h"

#define LOW (4 * MIB)
#define HIGH (4 * MIB)
#define ROM 0xffff0000u
#define ROM_SIZE 0x10000u

#define DESC 0x10000u
#define DRIVER 0xa0000u
#define DEVICE 0xc0000u
#define DATA 0x100000u
#define TABLE 0x200000u

#define NEXT 1u
#define WRITE 2u
#define INDIRECT 4u

struct part {
	gpa_t gpa;
	uint32_t len;
	uint16_t flags; /* NEXT is the driver's own affair */
};

struct driver {
	struct mem *mem;
	struct virtq vq;
	struct virtq_regs regs;
	struct virtq_chain chain;
	uint64_t features;
	bool packed;
	unsigned size;
	uint16_t avail; /* split: index */
	uint16_t slot;  /* next descriptor to use */
	bool wrap;
	uint16_t used_slot; /* split: index */
	bool used_wrap;
	unsigned interrupts;
	unsigned broken;
	const char *why;
};

static void
driver_interrupt(struct virtq *vq)
{
	struct driver *d = vq->arg;

	d->interrupts++;
}

static void
driver_broken(struct virtq *vq, const char *why)
{
	struct driver *d = vq->arg;

	d->broken++;
	d->why = why;
}

static const struct virtq_ops driver_ops = {
	.interrupt = driver_interrupt,
	.broken = driver_broken,
};

static void
poke(struct driver *d, gpa_t gpa, unsigned size, uint64_t value)
{
	le64 raw = le64_make(value);

	assert_int_equal(mem_write(d->mem, gpa, &raw, size), 0);
}

static uint64_t
peek(struct driver *d, gpa_t gpa, unsigned size)
{
	le64 raw = le64_make(0);

	assert_int_equal(mem_read(d->mem, gpa, &raw, size), 0);
	return le64_get(raw);
}

/* A queue with its registers set and started. */
static void
driver_init(struct driver *d, bool packed, unsigned size, uint64_t features)
{
	const struct mem_params params = { 0 };
	struct err err;

	*d = (struct driver) {
		.mem = mem_new(&params),
		.features = features | VIRTIO_F_VERSION_1 |
		    (packed ? VIRTIO_F_RING_PACKED : 0),
		.packed = packed,
		.size = size,
		.wrap = true,
		.used_wrap = true,
	};
	assert_int_equal(mem_add_pc_ram(d->mem, LOW + HIGH, LOW, &err), 0);
	assert_int_equal(mem_add(d->mem, "rom", MEM_ROM, ROM, ROM_SIZE, &err),
	    0);
	virtq_chain_init(&d->chain, size);
	virtq_init(&d->vq, d->mem, &d->regs, (uint16_t)size, &driver_ops, d, 0);
	lock_take(&d->vq.lock);
	virtq_reset(&d->vq);
	assert_int_equal(d->regs.size, size);
	assert_int_equal(d->regs.vector, 0xffff);
	d->regs.desc = DESC;
	d->regs.driver = DRIVER;
	d->regs.device = DEVICE;
	d->regs.enabled = 1;
	virtq_start(&d->vq, d->features);
}

static void
driver_fini(struct driver *d)
{
	lock_drop(&d->vq.lock);
	virtq_chain_fini(&d->chain);
	virtq_fini(&d->vq);
	mem_free(d->mem);
}

/* A descriptor in any table; the kinds differ in their second half. */
static void
put_desc(struct driver *d, gpa_t at, const struct part *part, uint16_t flags,
    uint16_t next_or_id)
{
	poke(d, at, 8, part->gpa);
	poke(d, at + 8, 4, part->len);
	if (d->packed) {
		poke(d, at + 12, 2, next_or_id);
		poke(d, at + 14, 2, flags);
	} else {
		poke(d, at + 12, 2, flags);
		poke(d, at + 14, 2, next_or_id);
	}
}

static void
show_split(struct driver *d, uint16_t head)
{
	poke(d, DRIVER + 4 + d->avail % d->size * 2, 2, head);
	poke(d, DRIVER + 2, 2, ++d->avail);
}

/* Offer a chain: its id, which is the slot that it begins in. */
static uint16_t
offer(struct driver *d, const struct part *parts, unsigned n)
{
	uint16_t first = d->slot, head_flags = 0;
	gpa_t head = DESC + first * 16u;

	for (unsigned i = 0; i < n; i++) {
		uint16_t flags = parts[i].flags | (i + 1 < n ? NEXT : 0);
		gpa_t at = DESC + d->slot * 16u;
		uint16_t next = (uint16_t)((d->slot + 1u) % d->size);

		if (d->packed) {
			flags |= d->wrap ? 0x0080 : 0x8000;
			if (i == 0)
				head_flags = flags;
			put_desc(d, at, &parts[i],
			    i == 0 ? flags ^ 0x8080 : flags, first);
		} else {
			put_desc(d, at, &parts[i], flags, next);
		}
		d->slot = next;
		if (next == 0)
			d->wrap = !d->wrap;
	}
	if (d->packed)
		poke(d, head + 14, 2, head_flags);
	else
		show_split(d, first);
	return first;
}

static uint16_t
offer_one(struct driver *d, gpa_t gpa, uint32_t len, uint16_t flags)
{
	const struct part part = { gpa, len, flags };

	return offer(d, &part, 1);
}

/* What the device gave back: false if nothing.  slots: of that chain. */
static bool
used(struct driver *d, unsigned slots, uint32_t *id, uint32_t *len)
{
	if (d->packed) {
		gpa_t at = DESC + d->used_slot * 16u;
		uint64_t flags = peek(d, at + 14, 2) & 0x8080;

		if (flags != (d->used_wrap ? 0x8080 : 0))
			return false;
		*id = (uint32_t)peek(d, at + 12, 2);
		*len = (uint32_t)peek(d, at + 8, 4);
		d->used_slot = (uint16_t)(d->used_slot + slots);
		if (d->used_slot >= d->size) {
			d->used_slot = (uint16_t)(d->used_slot - d->size);
			d->used_wrap = !d->used_wrap;
		}
		return true;
	}
	if (peek(d, DEVICE + 2, 2) == d->used_slot)
		return false;
	*id = (uint32_t)peek(d, DEVICE + 4 + d->used_slot % d->size * 8, 4);
	*len = (uint32_t)peek(d, DEVICE + 8 + d->used_slot % d->size * 8, 4);
	d->used_slot++;
	return true;
}

static void
assert_used(struct driver *d, unsigned slots, uint32_t id, uint32_t len)
{
	uint32_t got_id, got_len;

	assert_true(used(d, slots, &got_id, &got_len));
	assert_int_equal(got_id, id);
	assert_int_equal(got_len, len);
}

static int
pop(struct driver *d)
{
	return virtq_pop(&d->vq, &d->chain);
}

/* The queue finds out, tells once, and does nothing more. */
static void
assert_breaks(struct driver *d, const char *why)
{
	struct virtq_chain stale = d->chain;

	assert_int_equal(pop(d), -EPROTO);
	assert_int_equal(d->broken, 1);
	assert_string_equal(d->why, why);
	assert_int_equal(pop(d), -EPROTO);
	assert_int_equal(d->broken, 1);
	assert_false(virtq_want_notify(&d->vq));
	virtq_no_notify(&d->vq);
	stale.readable = stale.writable = 0;
	stale.readable_len = stale.writable_len = 0;
	virtq_push(&d->vq, &stale, 0);
	virtq_unpop(&d->vq, &stale);
	virtq_notify(&d->vq);
	assert_int_equal(d->interrupts, 0);
}

#define BOTH(packed) for (int packed = 0; packed < 2; packed++)

/* ---- keeping to the rules ------------------------------------------------ */

static void
bytes_go_both_ways(void **state)
{
	static const struct part parts[] = {
		{ DATA, 1, 0 },
		{ DATA + 100, 3, 0 },
		{ 4 * GIB, 2, WRITE },
		{ DATA + 200, 4, WRITE },
	};
	struct iovec iov[4];
	uint8_t buf[8];

	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 8, 0);
		assert_int_equal(pop(&d), 0);
		assert_int_equal(mem_write(d.mem, DATA, "a", 1), 0);
		assert_int_equal(mem_write(d.mem, DATA + 100, "bcd", 3), 0);
		offer(&d, parts, 4);
		assert_true(virtq_pending(&d.vq));
		assert_int_equal(pop(&d), 1);
		assert_int_equal(d.chain.readable, 2);
		assert_int_equal(d.chain.writable, 2);
		assert_int_equal(d.chain.readable_len, 4);
		assert_int_equal(d.chain.writable_len, 6);
		assert_true(virtq_read(&d.chain, 0, buf, 4));
		assert_memory_equal(buf, "abcd", 4);
		assert_true(virtq_read(&d.chain, 2, buf, 1));
		assert_memory_equal(buf, "c", 1);
		assert_false(virtq_read(&d.chain, 2, buf, 3));
		assert_false(virtq_read(&d.chain, UINT64_MAX, buf, 2));
		assert_true(virtq_write(&d.chain, 1, "wxyz", 4));
		assert_false(virtq_write(&d.chain, 1, "wxyz..", 6));
		assert_int_equal(virtq_slice(&d.chain, false, 0, 4, iov), 2);
		assert_int_equal(iov[0].iov_len, 1);
		assert_int_equal(iov[1].iov_len, 3);
		assert_int_equal(virtq_slice(&d.chain, true, 2, 3, iov), 1);
		assert_ptr_equal(iov[0].iov_base, d.chain.iov[3].iov_base);
		assert_int_equal(iov[0].iov_len, 3);
		assert_int_equal(virtq_slice(&d.chain, true, 6, 0, iov), 0);
		virtq_push(&d.vq, &d.chain, 5);
		assert_int_equal(peek(&d, 4 * GIB + 1, 1), 'w');
		assert_int_equal(peek(&d, DATA + 200, 3), 0x7a7978);
		assert_used(&d, 4, 0, 5);
		assert_int_equal(pop(&d), 0);
		assert_false(virtq_pending(&d.vq));
		assert_int_equal(d.broken, 0);
		driver_fini(&d);
	}
}

static void
indexes_wrap(void **state)
{
	static const unsigned sizes[] = { 1, 2, 8, 256 };

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		struct part parts[2] = { { DATA, 1, 0 }, { DATA, 1, 0 } };
		unsigned size = sizes[i / 2];
		unsigned n = MIN(size, 2u);
		struct driver d;

		driver_init(&d, i % 2, size, 0);
		for (unsigned round = 0; round < 70000; round++) {
			uint16_t id = offer(&d, parts, n);

			assert_int_equal(pop(&d), 1);
			virtq_push(&d.vq, &d.chain, 0);
			assert_used(&d, n, id, 0);
		}
		assert_int_equal(pop(&d), 0);
		assert_int_equal(d.broken, 0);
		driver_fini(&d);
	}
}

/* A queue of 3 exists for packed rings only. */
static void
odd_sizes_are_for_packed_rings(void **state)
{
	struct part parts[2] = { { DATA, 1, 0 }, { DATA, 1, 0 } };
	struct driver d;

	driver_init(&d, true, 3, 0);
	for (unsigned round = 0; round < 100; round++) {
		uint16_t id = offer(&d, parts, 2);

		assert_int_equal(pop(&d), 1);
		virtq_push(&d.vq, &d.chain, 0);
		assert_used(&d, 2, id, 0);
	}
	driver_fini(&d);
	driver_init(&d, false, 3, 0);
	assert_int_equal(d.broken, 1);
	driver_fini(&d);
}

static void
chains_come_back_in_any_order(void **state)
{
	BOTH(packed)
	{
		struct virtq_chain other;
		struct driver d;
		uint16_t a, b;

		driver_init(&d, packed, 4, 0);
		virtq_chain_init(&other, 4);
		a = offer_one(&d, DATA, 4, 0);
		b = offer_one(&d, DATA + 4, 8, WRITE);
		assert_int_equal(pop(&d), 1);
		assert_int_equal(virtq_pop(&d.vq, &other), 1);
		virtq_push(&d.vq, &other, 8);
		assert_used(&d, 1, b, 8);
		virtq_push(&d.vq, &d.chain, 0);
		assert_used(&d, 1, a, 0);
		virtq_chain_fini(&other);
		driver_fini(&d);
	}
}

/* With packed rings over the end of a lap, too. */
static void
several_are_pushed_in_their_order(void **state)
{
	static const struct part parts[] = { { DATA, 4, WRITE },
		{ DATA + 8, 4, WRITE } };
	static const uint64_t written[] = { 4, 0, 3 };

	BOTH(packed)
	{
		struct virtq_chain chains[3];
		struct driver d;
		uint16_t ids[3];

		driver_init(&d, packed, 8, 0);
		for (unsigned i = 0; i < 3; i++)
			virtq_chain_init(&chains[i], 8);
		for (unsigned round = 0; round < 9; round++) {
			for (unsigned i = 0; i < 3; i++) {
				ids[i] = i == 1 ? offer(&d, parts, 2) :
						  offer_one(&d, DATA, 4, WRITE);
				assert_int_equal(virtq_pop(&d.vq, &chains[i]),
				    1);
			}
			virtq_push_all(&d.vq, chains, written, 3);
			for (unsigned i = 0; i < 3; i++)
				assert_used(&d, i == 1 ? 2 : 1, ids[i],
				    (uint32_t)written[i]);
			virtq_push_all(&d.vq, chains, written, 0);
		}
		for (unsigned i = 0; i < 3; i++)
			virtq_chain_fini(&chains[i]);
		driver_fini(&d);
	}
}

static void
a_chain_given_back_is_popped_again(void **state)
{
	static const struct part parts[] = { { DATA, 1, 0 }, { DATA, 2, 0 } };

	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 4, 0);
		for (unsigned round = 0; round < 9; round++) {
			uint16_t id = offer(&d, parts, 2);

			assert_int_equal(pop(&d), 1);
			assert_int_equal(pop(&d), 0);
			virtq_unpop(&d.vq, &d.chain);
			assert_true(virtq_pending(&d.vq));
			assert_int_equal(pop(&d), 1);
			assert_int_equal(d.chain.readable_len, 3);
			virtq_push(&d.vq, &d.chain, 0);
			assert_used(&d, 2, id, 0);
		}
		driver_fini(&d);
	}
}

static void
indirect_tables_are_followed(void **state)
{
	static const struct part table[] = {
		{ DATA + 1, 2, 0 },
		{ DATA + 3, 4, WRITE },
	};
	/* A direct one before it is allowed; its WRITE flag means nothing. */
	static const struct part chain[] = {
		{ DATA, 1, 0 },
		{ TABLE + 3, 32, INDIRECT | WRITE },
	};

	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 8, VIRTIO_F_INDIRECT_DESC);
		put_desc(&d, TABLE + 3, &table[0], packed ? 0 : NEXT, 1);
		put_desc(&d, TABLE + 19, &table[1], WRITE, 0);
		offer(&d, chain, 2);
		assert_int_equal(pop(&d), 1);
		assert_int_equal(d.chain.readable, 2);
		assert_int_equal(d.chain.readable_len, 3);
		assert_int_equal(d.chain.writable_len, 4);
		virtq_push(&d.vq, &d.chain, 4);
		assert_used(&d, 2, 0, 4);
		assert_int_equal(pop(&d), 0);
		driver_fini(&d);
	}
}

static void
what_was_written_is_dirty(void **state)
{
	static const struct part parts[] = {
		{ DATA, 0x1000, 0 },
		{ DATA + 0x2000, 0x1800, WRITE },
		{ DATA + 0x8000, 0x2000, WRITE },
	};

	BOTH(packed)
	{
		uint64_t *map;
		struct driver d;

		driver_init(&d, packed, 8, 0);
		offer(&d, parts, 3);
		assert_int_equal(mem_dirty_start(d.mem, NULL), 0);
		assert_int_equal(pop(&d), 1);
		virtq_push(&d.vq, &d.chain, 0x1801);
		map = calloc(mem_dirty_words(mem_region(d.mem, 0)), 8);
		assert_non_null(map);
		assert_int_equal(mem_dirty_fetch(d.mem, 0, map, NULL), 0);
		assert_true(
		    map[DATA / 0x1000 / 64] == (BIT(2) | BIT(3) | BIT(8)));
		if (packed)
			assert_true(map[0] == BIT(DESC / 0x1000));
		else
			assert_true(map[DEVICE / 0x1000 / 64] == 1);
		free(map);
		driver_fini(&d);
	}
}

/* ---- notifications ------------------------------------------------------- */

static void
push_one(struct driver *d)
{
	uint32_t id, len;

	offer_one(d, DATA, 1, 0);
	assert_int_equal(pop(d), 1);
	virtq_push(&d->vq, &d->chain, 0);
	assert_true(used(d, 1, &id, &len));
}

static unsigned
notified(struct driver *d)
{
	unsigned before = d->interrupts;

	virtq_notify(&d->vq);
	return d->interrupts - before;
}

static void
interrupts_follow_the_flags(void **state)
{
	BOTH(packed)
	{
		gpa_t flags = packed ? DRIVER + 2 : DRIVER;
		struct driver d;

		driver_init(&d, packed, 8, 0);
		assert_int_equal(notified(&d), 0);
		push_one(&d);
		push_one(&d);
		assert_int_equal(notified(&d), 1);
		assert_int_equal(notified(&d), 0);
		poke(&d, flags, 2, 1);
		push_one(&d);
		assert_int_equal(notified(&d), 0);
		poke(&d, flags, 2, 0);
		assert_int_equal(notified(&d), 0);
		push_one(&d);
		assert_int_equal(notified(&d), 1);
		driver_fini(&d);
	}
}

static void
an_empty_queue_may_interrupt_always(void **state)
{
	struct driver d;

	driver_init(&d, false, 8, VIRTIO_F_NOTIFY_ON_EMPTY);
	poke(&d, DRIVER, 2, 1);
	push_one(&d);
	assert_int_equal(notified(&d), 1);
	push_one(&d);
	offer_one(&d, DATA, 1, 0);
	assert_int_equal(notified(&d), 0);
	driver_fini(&d);
}

static void
interrupts_follow_the_event_index(void **state)
{
	struct driver d;

	driver_init(&d, false, 4, VIRTIO_F_EVENT_IDX);
	for (unsigned i = 0; i < 70000; i++) {
		/* Asked for the third from here. */
		poke(&d, DRIVER + 4 + 8, 2, (uint16_t)(d.regs.used + 2));
		for (unsigned j = 0; j < 4; j++) {
			push_one(&d);
			assert_int_equal(notified(&d), j == 2);
		}
		/* Two at once pass it, too. */
		poke(&d, DRIVER + 4 + 8, 2, (uint16_t)d.regs.used);
		push_one(&d);
		push_one(&d);
		assert_int_equal(notified(&d), 1);
	}
	driver_fini(&d);
}

static void
interrupts_follow_the_packed_event(void **state)
{
	static const unsigned sizes[] = { 4, 5, 7 };

	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
		unsigned size = sizes[s];
		struct driver d;

		driver_init(&d, true, size, VIRTIO_F_EVENT_IDX);
		for (unsigned i = 0; i < 50; i++) {
			unsigned slot = d.used_slot + 2u;
			bool wrap = d.used_wrap;

			if (slot >= size) {
				slot -= size;
				wrap = !wrap;
			}
			poke(&d, DRIVER, 2, slot | (unsigned)wrap << 15);
			poke(&d, DRIVER + 2, 2, 2);
			for (unsigned j = 0; j < 3; j++) {
				push_one(&d);
				assert_int_equal(notified(&d), j == 2);
			}
		}
		poke(&d, DRIVER + 2, 2, 1);
		push_one(&d);
		assert_int_equal(notified(&d), 0);
		poke(&d, DRIVER + 2, 2, 0);
		push_one(&d);
		assert_int_equal(notified(&d), 1);
		driver_fini(&d);
	}
}

static void
the_device_says_what_it_wants_to_hear(void **state)
{
	struct driver d;

	driver_init(&d, false, 4, 0);
	virtq_no_notify(&d.vq);
	assert_int_equal(peek(&d, DEVICE, 2), 1);
	offer_one(&d, DATA, 1, 0);
	assert_true(virtq_want_notify(&d.vq));
	assert_int_equal(peek(&d, DEVICE, 2), 0);
	assert_int_equal(pop(&d), 1);
	assert_false(virtq_want_notify(&d.vq));
	driver_fini(&d);

	driver_init(&d, false, 4, VIRTIO_F_EVENT_IDX);
	virtq_no_notify(&d.vq);
	assert_int_equal(peek(&d, DEVICE, 2), 0);
	push_one(&d);
	assert_false(virtq_want_notify(&d.vq));
	assert_int_equal(peek(&d, DEVICE + 4 + 32, 2), 1);
	driver_fini(&d);

	driver_init(&d, true, 4, 0);
	virtq_no_notify(&d.vq);
	assert_int_equal(peek(&d, DEVICE + 2, 2), 1);
	assert_false(virtq_want_notify(&d.vq));
	assert_int_equal(peek(&d, DEVICE + 2, 2), 0);
	driver_fini(&d);

	driver_init(&d, true, 4, VIRTIO_F_EVENT_IDX);
	for (unsigned i = 0; i < 5; i++)
		push_one(&d);
	assert_false(virtq_want_notify(&d.vq));
	assert_int_equal(peek(&d, DEVICE, 4), 0x20001);
	offer_one(&d, DATA, 1, 0);
	assert_true(virtq_want_notify(&d.vq));
	driver_fini(&d);
}

/* ---- lies ---------------------------------------------------------------- */

static void
buffers_lie_in_ram(void **state)
{
	static const struct lie {
		struct part part;
		const char *why;
	} lies[] = {
		{ { LOW, 1, 0 }, "buffer outside RAM" },
		{ { LOW - 1, 2, 0 }, "buffer outside RAM" },
		{ { LOW - 1, 2, WRITE }, "buffer outside RAM" },
		{ { 0xc0000000, 4, WRITE }, "buffer outside RAM" },
		{ { 0xe0000000, 4, WRITE }, "buffer outside RAM" },
		{ { 0xfee00000, 4, WRITE }, "buffer outside RAM" },
		{ { ROM, 1, WRITE }, "buffer outside RAM" },
		{ { ROM + ROM_SIZE - 4, 8, 0 }, "buffer outside RAM" },
		{ { 4 * GIB + HIGH - 1, 2, 0 }, "buffer outside RAM" },
		{ { 4 * GIB - 1, 2, WRITE }, "buffer outside RAM" },
		{ { UINT64_MAX, 1, 0 }, "buffer outside RAM" },
		{ { UINT64_MAX - 7, 16, WRITE }, "buffer outside RAM" },
		{ { DATA, 0xffffffff, 0 }, "buffer outside RAM" },
		{ { 4 * GIB, 0xffffffff, WRITE }, "buffer outside RAM" },
		{ { DATA, 0, 0 }, "buffer without bytes" },
		{ { DATA, 0, WRITE }, "buffer without bytes" },
	};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(lies); i++) {
		const struct lie *lie = &lies[i / 2];
		const struct part table = { TABLE, 16, INDIRECT };
		struct driver d;

		driver_init(&d, i % 2, 8, VIRTIO_F_INDIRECT_DESC);
		offer(&d, &lie->part, 1);
		assert_breaks(&d, lie->why);
		driver_fini(&d);

		driver_init(&d, i % 2, 8, VIRTIO_F_INDIRECT_DESC);
		put_desc(&d, TABLE, &lie->part, lie->part.flags, 0);
		offer(&d, &table, 1);
		assert_breaks(&d, lie->why);
		driver_fini(&d);
	}
}

static void
rom_can_be_read_and_the_ends_of_ram_used(void **state)
{
	static const struct part parts[] = {
		{ ROM, ROM_SIZE, 0 },
		{ LOW - 1, 1, WRITE },
		{ 4 * GIB + HIGH - 2, 2, WRITE },
		{ 0, 1, WRITE },
	};

	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 4, 0);
		offer(&d, parts, 4);
		assert_int_equal(pop(&d), 1);
		assert_int_equal(d.chain.readable_len, ROM_SIZE);
		driver_fini(&d);
	}
}

static void
a_chain_ends_at_4_gib(void **state)
{
	struct part parts[1025];

	for (unsigned i = 0; i < 1025; i++)
		parts[i] = (struct part) { 4 * GIB, 4 * MIB, WRITE };
	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 2048, 0);
		offer(&d, parts, 1023);
		assert_int_equal(pop(&d), 1);
		assert_true(d.chain.writable_len == 1023 * 4 * MIB);
		offer(&d, parts, 1025);
		assert_breaks(&d, "chain of more than 4 GiB");
		driver_fini(&d);
	}
}

static void
readable_buffers_come_first(void **state)
{
	static const struct part parts[] = {
		{ DATA, 1, WRITE },
		{ DATA, 1, 0 },
	};

	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 4, 0);
		offer(&d, parts, 2);
		assert_breaks(&d, "readable buffer behind a writable one");
		driver_fini(&d);
	}
}

static void
split_chains_end(void **state)
{
	static const struct part part = { DATA, 1, 0 };
	struct driver d;

	driver_init(&d, false, 4, 0); /* to itself */
	put_desc(&d, DESC, &part, NEXT, 0);
	show_split(&d, 0);
	assert_breaks(&d, "chain loops");
	driver_fini(&d);

	driver_init(&d, false, 4, 0); /* all in a ring */
	for (unsigned i = 0; i < 4; i++)
		put_desc(&d, DESC + i * 16, &part, NEXT,
		    (uint16_t)((i + 1) % 4));
	show_split(&d, 2);
	assert_breaks(&d, "chain loops");
	driver_fini(&d);

	driver_init(&d, false, 4, 0); /* 4 are fine */
	offer(&d, (struct part[]) { part, part, part, part }, 4);
	assert_int_equal(pop(&d), 1);
	driver_fini(&d);

	driver_init(&d, false, 4, 0);
	put_desc(&d, DESC, &part, NEXT, 4);
	show_split(&d, 0);
	assert_breaks(&d, "descriptor beyond the table");
	driver_fini(&d);

	driver_init(&d, false, 4, 0);
	show_split(&d, 4);
	assert_breaks(&d, "descriptor beyond the table");
	driver_fini(&d);
}

static void
packed_chains_end(void **state)
{
	static const struct part part = { DATA, 1, 0 };
	struct driver d;

	driver_init(&d, true, 4, 0);
	for (unsigned i = 0; i < 4; i++)
		put_desc(&d, DESC + i * 16, &part, NEXT | 0x80, 0);
	assert_breaks(&d, "more available than the ring holds");
	driver_fini(&d);
}

static void
indirect_tables_keep_to_the_rules(void **state)
{
	static const struct lie {
		struct part desc;
		uint16_t flags; /* of the table's only kind of entry */
		uint16_t next;
		const char *why[2]; /* split, packed; NULL: no lie there */
	} lies[] = {
		{ { TABLE, 0, INDIRECT }, 0, 0,
		    { "impossible size of an indirect table",
			"impossible size of an indirect table" } },
		{ { TABLE, 17, INDIRECT }, 0, 0,
		    { "impossible size of an indirect table",
			"impossible size of an indirect table" } },
		{ { TABLE, 9 * 16, INDIRECT }, 0, 0,
		    { "impossible size of an indirect table",
			"impossible size of an indirect table" } },
		{ { TABLE, 0xfffffff0, INDIRECT }, 0, 0,
		    { "impossible size of an indirect table",
			"impossible size of an indirect table" } },
		{ { LOW - 16, 32, INDIRECT }, 0, 0,
		    { "indirect table outside RAM",
			"indirect table outside RAM" } },
		{ { 0xfee00000, 32, INDIRECT }, 0, 0,
		    { "indirect table outside RAM",
			"indirect table outside RAM" } },
		{ { UINT64_MAX - 15, 32, INDIRECT }, 0, 0,
		    { "indirect table outside RAM",
			"indirect table outside RAM" } },
		{ { TABLE, 32, INDIRECT }, INDIRECT, 0,
		    { "indirect table within another",
			"indirect table within another" } },
		{ { TABLE, 32, INDIRECT }, NEXT, 2,
		    { "next descriptor beyond the table", NULL } },
		{ { TABLE, 32, INDIRECT }, NEXT, 0,
		    { "chain loops in an indirect table", NULL } },
	};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(lies); i++) {
		const struct lie *lie = &lies[i / 2];
		const struct part entry = { DATA, 1, 0 };
		struct driver d;

		driver_init(&d, i % 2, 8, VIRTIO_F_INDIRECT_DESC);
		for (unsigned j = 0; j < 9; j++)
			put_desc(&d, TABLE + j * 16, &entry, lie->flags,
			    lie->next);
		offer(&d, &lie->desc, 1);
		if (lie->why[i % 2] != NULL)
			assert_breaks(&d, lie->why[i % 2]);
		else
			assert_int_equal(pop(&d), 1);
		driver_fini(&d);
	}
	BOTH(packed)
	{
		const struct part both[] = { { TABLE, 16, INDIRECT },
			{ DATA, 1, 0 } };
		const struct part entry = { DATA, 1, 0 };
		struct part full[8] = { { DATA, 1, 0 }, { DATA, 1, 0 },
			{ TABLE, 7 * 16, INDIRECT } };
		struct driver d;

		driver_init(&d, packed, 8, VIRTIO_F_INDIRECT_DESC);
		offer(&d, both, 2);
		assert_breaks(&d, "indirect descriptor with a next one");
		driver_fini(&d);

		driver_init(&d, packed, 8, 0);
		offer(&d, both, 1);
		assert_breaks(&d, "indirect descriptor without the feature");
		driver_fini(&d);

		/* 2 and 7 are more than the queue's 8. */
		driver_init(&d, packed, 8, VIRTIO_F_INDIRECT_DESC);
		for (uint16_t j = 0; j < 7; j++)
			put_desc(&d, TABLE + j * 16u, &entry,
			    j < 6 && !packed ? NEXT : 0, (uint16_t)(j + 1));
		offer(&d, full, 3);
		assert_breaks(&d, "chain too long");
		driver_fini(&d);
	}
}

static void
the_available_index_stays_within_the_ring(void **state)
{
	static const uint16_t jumps[] = { 5, 0x8000, 0xffff };

	for (unsigned i = 0; i < ARRAY_SIZE(jumps); i++) {
		struct driver d;

		driver_init(&d, false, 4, 0);
		poke(&d, DRIVER + 2, 2, jumps[i]);
		assert_breaks(&d, "available index is too far ahead");
		driver_fini(&d);
	}
}

/* What was not given back cannot be offered again: no requests without end. */
static void
no_more_in_flight_than_the_ring_holds(void **state)
{
	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 4, 0);
		for (unsigned i = 0; i < 4; i++) {
			offer_one(&d, DATA, 1, 0);
			assert_int_equal(pop(&d), 1);
		}
		offer_one(&d, DATA, 1, 0);
		assert_breaks(&d,
		    packed ? "more available than the ring holds" :
			     "available index is too far ahead");
		driver_fini(&d);
	}
}

static void
rings_lie_in_ram_and_are_aligned(void **state)
{
	static const struct lie {
		gpa_t desc, driver, device;
		uint64_t size;
		int broken[2];
	} lies[] = {
		{ DESC, DRIVER, DEVICE, 8, { 0, 0 } },
		{ 0, 0, 0, 8, { 0, 0 } }, /* over each other, but in RAM */
		{ DESC, DRIVER, DEVICE, 0, { 1, 1 } },
		{ DESC, DRIVER, DEVICE, 3, { 1, 0 } },
		{ DESC, DRIVER, DEVICE, 16, { 1, 1 } },
		{ DESC, DRIVER, DEVICE, 0xffff, { 1, 1 } },
		{ DESC + 8, DRIVER, DEVICE, 8, { 1, 1 } },
		{ DESC, DRIVER + 1, DEVICE, 8, { 1, 1 } },
		{ DESC, DRIVER + 2, DEVICE, 8, { 0, 1 } },
		{ DESC, DRIVER, DEVICE + 2, 8, { 1, 1 } },
		{ LOW - 64, DRIVER, DEVICE, 8, { 1, 1 } },
		{ DESC, LOW, DEVICE, 8, { 1, 1 } },
		{ DESC, DRIVER, LOW, 8, { 1, 1 } },
		{ DESC, DRIVER, LOW - 64, 8, { 1, 0 } },
		{ ROM, DRIVER, DEVICE, 8, { 0, 1 } },
		{ DESC, ROM, DEVICE, 8, { 0, 0 } },
		{ DESC, DRIVER, ROM, 8, { 1, 1 } },
		{ UINT64_MAX - 15, DRIVER, DEVICE, 8, { 1, 1 } },
		{ DESC, UINT64_MAX - 3, DEVICE, 8, { 1, 1 } },
		{ DESC, DRIVER, UINT64_MAX - 3, 8, { 1, 1 } },
	};

	for (unsigned i = 0; i < 2 * ARRAY_SIZE(lies); i++) {
		const struct lie *lie = &lies[i / 2];
		struct driver d;

		driver_init(&d, i % 2, 8, 0);
		virtq_stop(&d.vq);
		d.regs.desc = lie->desc;
		d.regs.driver = lie->driver;
		d.regs.device = lie->device;
		d.regs.size = lie->size;
		virtq_start(&d.vq, d.features);
		assert_int_equal(d.broken, lie->broken[i % 2]);
		if (d.broken)
			assert_int_equal(pop(&d), -EPROTO);
		else
			assert_in_range(pop(&d) + EPROTO, 0, EPROTO + 1);
		driver_fini(&d);
	}
}

/* A device writes its used ring over what the driver has to say. */
static void
overlapping_rings_break_or_work(void **state)
{
	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 8, 0);
		virtq_stop(&d.vq);
		d.regs.device = d.regs.driver = DESC;
		virtq_start(&d.vq, d.features);
		d.broken = 0;
		poke(&d, DESC, 4, 0x30000);
		for (unsigned i = 0; i < 100; i++) {
			if (pop(&d) != 1)
				break;
			virtq_push(&d.vq, &d.chain, 0);
			virtq_notify(&d.vq);
		}
		driver_fini(&d);
	}
}

static void
a_stopped_queue_is_silent(void **state)
{
	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 8, 0);
		offer_one(&d, DATA, 8, WRITE);
		assert_int_equal(pop(&d), 1);
		virtq_stop(&d.vq);
		virtq_push(&d.vq, &d.chain, 8);
		virtq_notify(&d.vq);
		assert_int_equal(d.interrupts, 0);
		if (!packed)
			assert_int_equal(peek(&d, DEVICE + 2, 2), 0);
		assert_int_equal(pop(&d), -EPROTO);
		virtq_fail(&d.vq, "late");
		assert_int_equal(d.broken, 0);
		driver_fini(&d);
	}
}

static void
a_held_queue_pushes_only(void **state)
{
	BOTH(packed)
	{
		struct driver d;
		uint16_t id;

		driver_init(&d, packed, 8, 0);
		id = offer_one(&d, DATA, 8, WRITE);
		assert_int_equal(pop(&d), 1);
		offer_one(&d, DATA, 8, WRITE);
		virtq_hold(&d.vq, true);
		assert_false(virtq_pending(&d.vq));
		virtq_push(&d.vq, &d.chain, 8);
		assert_used(&d, 1, id, 8);
		assert_int_equal(pop(&d), 0);
		virtq_hold(&d.vq, false);
		assert_int_equal(pop(&d), 1);
		driver_fini(&d);
	}
}

static void
a_restarted_queue_goes_on(void **state)
{
	BOTH(packed)
	{
		struct driver d;

		driver_init(&d, packed, 4, 0);
		for (unsigned i = 0; i < 20; i++) {
			push_one(&d);
			virtq_stop(&d.vq);
			assert_int_equal(virtq_check(&d.regs, 4, d.features, 0,
					     NULL),
			    0);
			virtq_start(&d.vq, d.features);
		}
		assert_int_equal(d.broken, 0);
		driver_fini(&d);
	}
}

static void
forged_registers_are_refused(void **state)
{
	static const struct virtq_regs good = { .size = 8,
		.vector = 0xffff,
		.enabled = 1,
		.avail = 3,
		.used = 3 };
	static const struct lie {
		size_t field;
		uint64_t value;
		int split, packed;
	} lies[] = {
		{ offsetof(struct virtq_regs, size), 0, -EINVAL, -EINVAL },
		{ offsetof(struct virtq_regs, size), 5, -EINVAL, 0 },
		{ offsetof(struct virtq_regs, size), 32, -EINVAL, -EINVAL },
		{ offsetof(struct virtq_regs, size), BIT(32), -EINVAL,
		    -EINVAL },
		{ offsetof(struct virtq_regs, size), 2, 0, -EINVAL },
		{ offsetof(struct virtq_regs, vector), 0x10000, -EINVAL,
		    -EINVAL },
		{ offsetof(struct virtq_regs, enabled), 2, -EINVAL, -EINVAL },
		{ offsetof(struct virtq_regs, enabled), 0, -EINVAL, -EINVAL },
		{ offsetof(struct virtq_regs, avail), 4, -EINVAL, -EINVAL },
		{ offsetof(struct virtq_regs, used), 2, -EINVAL, -EINVAL },
		{ offsetof(struct virtq_regs, unsignalled), 2, 0, 0 },
	};
	struct virtq_regs regs = good;

	assert_int_equal(virtq_check(&regs, 16, 0, 0, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		regs = good;
		memcpy((char *)&regs + lies[i].field, &lies[i].value, 8);
		assert_int_equal(virtq_check(&regs, 16, 0, 0, NULL),
		    lies[i].split);
		assert_int_equal(virtq_check(&regs, 16, VIRTIO_F_RING_PACKED, 0,
				     NULL),
		    lies[i].packed);
	}
	regs = good;
	regs.avail = regs.used = 0x8000 | 7;
	assert_int_equal(virtq_check(&regs, 16, VIRTIO_F_RING_PACKED, 0, NULL),
	    0);
	regs.avail = regs.used = 0x8000 | 8;
	assert_int_equal(virtq_check(&regs, 16, VIRTIO_F_RING_PACKED, 0, NULL),
	    -EINVAL);
	regs.avail = regs.used = 0x10000;
	assert_int_equal(virtq_check(&regs, 16, 0, 0, NULL), -EINVAL);
}

/* ---- a guest that rewrites what we look at ------------------------------- */

struct flipper {
	uint8_t *ring; /* the whole of it, in host memory */
	size_t words;
	_Atomic bool stop;
};

static void *
flip(void *arg)
{
	struct flipper *f = arg;
	static const uint64_t values[] = {
		DATA,
		LOW - 1,
		UINT64_MAX,
		0xfee00000,
		0x0000000000000010,
		0x0001000300000010,
		0x0002000700000100,
		0x0003000000000001,
		0x0080000100000010,
		0x8080000100000010,
		0x8000000000000010,
		0x0081000100000004,
		0x0084000000000040,
		TABLE,
	};
	unsigned n = 1;

	while (!atomic_load_explicit(&f->stop, memory_order_relaxed)) {
		n = n * 1103515245u + 12345u;
		__atomic_store_n((uint64_t *)(void *)f->ring +
			(n >> 8) % f->words,
		    values[(n >> 20) % ARRAY_SIZE(values)], __ATOMIC_RELAXED);
	}
	return NULL;
}

static void
assert_chain_is_in_ram(struct driver *d)
{
	unsigned n = d->chain.readable + d->chain.writable;

	assert_in_range(n, 1, d->size);
	for (unsigned i = 0; i < n; i++) {
		uint64_t len = d->chain.iov[i].iov_len;
		const void *host = mem_ptr_read(d->mem, d->chain.gpa[i], len);

		assert_int_not_equal(len, 0);
		assert_ptr_equal(host, d->chain.iov[i].iov_base);
	}
}

static void
a_changing_ring_is_seen_once(void **state)
{
	BOTH(packed)
	{
		struct flipper f = { .words = 16 };
		unsigned popped = 0, broken = 0;
		pthread_t thread;
		struct driver d;

		driver_init(&d, packed, 8, VIRTIO_F_INDIRECT_DESC);
		f.ring = mem_ptr_write(d.mem, DESC, 16 * 8);
		assert_int_equal(pthread_create(&thread, NULL, flip, &f), 0);
		for (unsigned i = 0; popped < 1000 || broken < 1000; i++) {
			int rc;

			if (!packed && d.regs.avail == d.avail)
				show_split(&d, (uint16_t)(i % 8));
			rc = pop(&d);
			if (rc == 1) {
				popped++;
				assert_chain_is_in_ram(&d);
				virtq_push(&d.vq, &d.chain, 0);
				virtq_notify(&d.vq);
			} else if (rc < 0) {
				broken++;
				virtq_stop(&d.vq);
				d.regs.avail = d.regs.used = 0;
				d.avail = 0;
				poke(&d, DRIVER, 4, 0);
				virtq_start(&d.vq, d.features);
			}
		}
		atomic_store(&f.stop, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		driver_fini(&d);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_go_both_ways),
		cmocka_unit_test(indexes_wrap),
		cmocka_unit_test(odd_sizes_are_for_packed_rings),
		cmocka_unit_test(chains_come_back_in_any_order),
		cmocka_unit_test(several_are_pushed_in_their_order),
		cmocka_unit_test(a_chain_given_back_is_popped_again),
		cmocka_unit_test(indirect_tables_are_followed),
		cmocka_unit_test(what_was_written_is_dirty),
		cmocka_unit_test(interrupts_follow_the_flags),
		cmocka_unit_test(an_empty_queue_may_interrupt_always),
		cmocka_unit_test(interrupts_follow_the_event_index),
		cmocka_unit_test(interrupts_follow_the_packed_event),
		cmocka_unit_test(the_device_says_what_it_wants_to_hear),
		cmocka_unit_test(buffers_lie_in_ram),
		cmocka_unit_test(rom_can_be_read_and_the_ends_of_ram_used),
		cmocka_unit_test(a_chain_ends_at_4_gib),
		cmocka_unit_test(readable_buffers_come_first),
		cmocka_unit_test(split_chains_end),
		cmocka_unit_test(packed_chains_end),
		cmocka_unit_test(indirect_tables_keep_to_the_rules),
		cmocka_unit_test(the_available_index_stays_within_the_ring),
		cmocka_unit_test(no_more_in_flight_than_the_ring_holds),
		cmocka_unit_test(rings_lie_in_ram_and_are_aligned),
		cmocka_unit_test(overlapping_rings_break_or_work),
		cmocka_unit_test(a_stopped_queue_is_silent),
		cmocka_unit_test(a_held_queue_pushes_only),
		cmocka_unit_test(a_restarted_queue_goes_on),
		cmocka_unit_test(forged_registers_are_refused),
		cmocka_unit_test(a_changing_ring_is_seen_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
