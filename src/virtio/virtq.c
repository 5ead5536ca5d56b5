/*
 * Virtqueues, split and packed.
 *
 * Models       Virtio 1.2, sections 2.7 (split) and 2.8 (packed): indirect
 *              descriptors, event index, suppression of notifications both
 *              ways; 2.7.7 and legacy's NOTIFY_ON_EMPTY.
 * Leaves out   in-order use (VIRTIO_F_IN_ORDER), which is never offered.
 * Locking      the queue's lock, held at every entry.  Guest memory is shared
 *              with the driver, which runs at the same time: rings are read by
 *              single atomic loads, and written by atomic stores.
 * Order        Acquire: the load that finds a chain available comes before
 *              those of its descriptors.  Release: what a device wrote comes
 *              before the store that shows a chain as used.  Full barrier:
 *              between what we publish and our look at what the driver asks to
 *              be told, and the reverse, or both sides sleep.
 * Invariants   1. A descriptor is fetched once; the copy is checked and used.
 *              2. No chain is longer than the queue, in slots or in buffers, so
 *                 a loop ends there (2.7.5.3.1).
 *              3. in_flight never exceeds the size of the queue: a driver that
 *                 offers slots which it did not get back breaks it.
 *              4. Every iovec of a chain lies in one region of RAM (for
 *                 reading: or ROM), and its length is not 0.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "virtio/virtq.h"

/* Descriptors: 2.7.5, and 2.8.13 with the same bits. */
#define DESC_SIZE 16u
#define DESC_F_NEXT 0x0001u
#define DESC_F_WRITE 0x0002u
#define DESC_F_INDIRECT 0x0004u
#define DESC_F_AVAIL 0x0080u /* packed: 2.8.1 */
#define DESC_F_USED 0x8000u

/* Split: the available ring, 2.7.6, and the used ring, 2.7.8. */
#define AVAIL_FLAGS 0u
#define AVAIL_IDX 2u
#define AVAIL_RING 4u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_FLAGS 0u
#define USED_IDX 2u
#define USED_RING 4u
#define USED_ELEM_SIZE 8u
#define USED_F_NO_NOTIFY 1u

/* Packed: event suppression, 2.8.14. */
#define EVENT_SIZE 4u
#define EVENT_FLAGS 2u
#define EVENT_ENABLE 0u
#define EVENT_DISABLE 1u
#define EVENT_DESC 2u

/*
 * Packed: what regs.avail and regs.used hold beside a slot.  Set in every other
 * lap, where the wrap counter of 2.8.1 is 0: so a new ring begins at 0.
 */
#define LAP BIT(15)

struct virtq_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next; /* split */
	uint16_t id;   /* packed */
};

/* ---- the rings in memory ------------------------------------------------ */

static uint16_t
ring_load16(const uint8_t *at, int order)
{
	return le16toh(order == __ATOMIC_ACQUIRE ?
		__atomic_load_n((const uint16_t *)(const void *)at,
		    __ATOMIC_ACQUIRE) :
		__atomic_load_n((const uint16_t *)(const void *)at,
		    __ATOMIC_RELAXED));
}

static uint32_t
ring_load32(const uint8_t *at)
{
	return le32toh(__atomic_load_n((const uint32_t *)(const void *)at,
	    __ATOMIC_RELAXED));
}

/* Descriptors of a ring are aligned; an indirect table may lie anywhere. */
static uint64_t
ring_load64(const uint8_t *at)
{
	uint64_t value = 0;

	if ((uintptr_t)at % 8 == 0)
		return le64toh(
		    __atomic_load_n((const uint64_t *)(const void *)at,
			__ATOMIC_ACQUIRE));
	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)__atomic_load_n(at + i, __ATOMIC_RELAXED)
		    << (8 * i);
	return value;
}

static void
ring_store16(uint8_t *at, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)at, htole16(value),
	    __ATOMIC_RELEASE);
}

static void
ring_store32(uint8_t *at, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)at, htole32(value),
	    __ATOMIC_RELAXED);
}

/*
 * A full barrier.  An atomic read-modify-write is one on the hosts there are,
 * and unlike a fence the thread sanitizer knows it.
 */
static void
virtq_barrier(struct virtq *vq)
{
	atomic_fetch_add_explicit(&vq->barrier, 0, memory_order_seq_cst);
}

/* Invariant 1.  The half with the flags first: it says if the rest counts. */
static struct virtq_desc
desc_fetch(const uint8_t *at, bool packed)
{
	uint64_t tail = ring_load64(at + 8);
	uint64_t addr = ring_load64(at);
	uint16_t third = (uint16_t)(tail >> 32), last = (uint16_t)(tail >> 48);

	return (struct virtq_desc) {
		.addr = addr,
		.len = (uint32_t)tail,
		.flags = packed ? last : third,
		.next = packed ? 0 : last,
		.id = packed ? third : 0,
	};
}

/* ---- life --------------------------------------------------------------- */

void
virtq_chain_init(struct virtq_chain *chain, unsigned max)
{
	*chain = (struct virtq_chain) {
		.max = max,
		.iov = xcalloc(max, sizeof(*chain->iov)),
		.gpa = xcalloc(max, sizeof(*chain->gpa)),
	};
}

void
virtq_chain_fini(struct virtq_chain *chain)
{
	free(chain->iov);
	free(chain->gpa);
	*chain = (struct virtq_chain) { .max = 0 };
}

void
virtq_init(struct virtq *vq, struct mem *mem, struct virtq_regs *regs,
    uint16_t size_max, const struct virtq_ops *ops, void *arg, unsigned index)
{
	*vq = (struct virtq) {
		.mem = mem,
		.regs = regs,
		.ops = ops,
		.arg = arg,
		.index = index,
		.size_max = size_max,
	};
	lock_init(&vq->lock);
}

void
virtq_fini(struct virtq *vq)
{
	lock_fini(&vq->lock);
}

void
virtq_reset(struct virtq *vq)
{
	virtq_stop(vq);
	vq->failed = false;
	*vq->regs = (struct virtq_regs) {
		.size = vq->size_max,
		.vector = UINT16_MAX,
	};
}

static bool
size_valid(uint64_t size, uint16_t size_max, bool packed)
{
	return size != 0 && size <= size_max && (packed || is_power_of_2(size));
}

static bool
slot_valid(uint64_t pos, uint64_t size)
{
	return pos < 2 * LAP && (pos & ~LAP) < size;
}

int
virtq_check(const struct virtq_regs *regs, uint16_t size_max, uint64_t features,
    unsigned index, struct err *err)
{
	bool packed = features & VIRTIO_F_RING_PACKED;
	bool fine = regs->size <= UINT16_MAX && regs->vector <= UINT16_MAX &&
	    regs->enabled <= 1;

	if (fine && regs->enabled)
		fine = size_valid(regs->size, size_max, packed) &&
		    regs->avail == regs->used && regs->avail <= UINT16_MAX &&
		    (!packed || slot_valid(regs->avail, regs->size));
	else if (fine)
		fine = regs->avail == 0 && regs->used == 0 &&
		    regs->unsignalled == 0;
	if (!fine)
		return err_set(err, -EINVAL,
		    "queue %u: registers that no driver could have left",
		    index);
	return 0;
}

void
virtq_fail(struct virtq *vq, const char *why)
{
	assert(lock_held(&vq->lock));
	if (vq->failed || !vq->running)
		return;
	vq->failed = true;
	vq->ops->broken(vq, why);
}

/* The three areas, where they must be: Virtio 1.2, 2.7 and 2.8.10. */
static bool
map_split(struct virtq *vq)
{
	const struct virtq_regs *regs = vq->regs;
	uint64_t n = regs->size, tail = vq->event_idx ? 2 : 0;

	if (regs->desc % 16 != 0 || regs->driver % 2 != 0 ||
	    regs->device % 4 != 0)
		return false;
	vq->desc = NULL;
	vq->desc_read = mem_ptr_read(vq->mem, regs->desc, n * DESC_SIZE);
	vq->driver =
	    mem_ptr_read(vq->mem, regs->driver, AVAIL_RING + n * 2 + tail);
	vq->device = mem_ptr_write(vq->mem, regs->device,
	    USED_RING + n * USED_ELEM_SIZE + tail);
	return vq->desc_read != NULL && vq->driver != NULL &&
	    vq->device != NULL;
}

static bool
map_packed(struct virtq *vq)
{
	const struct virtq_regs *regs = vq->regs;

	if (regs->desc % 16 != 0 || regs->driver % 4 != 0 ||
	    regs->device % 4 != 0)
		return false;
	vq->desc = mem_ptr_write(vq->mem, regs->desc, regs->size * DESC_SIZE);
	vq->desc_read = vq->desc;
	vq->driver = mem_ptr_read(vq->mem, regs->driver, EVENT_SIZE);
	vq->device = mem_ptr_write(vq->mem, regs->device, EVENT_SIZE);
	return vq->desc != NULL && vq->driver != NULL && vq->device != NULL;
}

void
virtq_start(struct virtq *vq, uint64_t features)
{
	struct virtq_regs *regs = vq->regs;

	assert(lock_held(&vq->lock));
	vq->packed = features & VIRTIO_F_RING_PACKED;
	vq->indirect = features & VIRTIO_F_INDIRECT_DESC;
	vq->event_idx = features & VIRTIO_F_EVENT_IDX;
	vq->notify_on_empty = features & VIRTIO_F_NOTIFY_ON_EMPTY;
	vq->in_flight = 0;
	vq->failed = false;
	vq->running = true;
	if (!size_valid(regs->size, vq->size_max, vq->packed)) {
		virtq_fail(vq, "impossible size");
		return;
	}
	vq->size = (uint16_t)regs->size;
	if (!(vq->packed ? map_packed(vq) : map_split(vq)))
		virtq_fail(vq, "rings outside RAM or not aligned");
}

void
virtq_stop(struct virtq *vq)
{
	assert(lock_held(&vq->lock));
	vq->running = false;
	vq->in_flight = 0;
}

void
virtq_hold(struct virtq *vq, bool held)
{
	assert(lock_held(&vq->lock));
	vq->held = held;
}

static bool
virtq_usable(struct virtq *vq)
{
	assert(lock_held(&vq->lock));
	return vq->running && !vq->failed;
}

/* ---- popping ------------------------------------------------------------ */

/* One buffer.  NULL, or what is wrong with it. */
static const char *
chain_add(struct virtq *vq, struct virtq_chain *chain, uint64_t addr,
    uint32_t len, bool write)
{
	unsigned n = chain->readable + chain->writable;
	const void *host;

	if (n == chain->max || n == vq->size)
		return "chain too long";
	if (!write && chain->writable != 0)
		return "readable buffer behind a writable one";
	if (len == 0)
		return "buffer without bytes";
	host = write ? mem_ptr_write(vq->mem, addr, len) :
		       mem_ptr_read(vq->mem, addr, len);
	if (host == NULL)
		return "buffer outside RAM";
	chain->iov[n].iov_base = (void *)host;
	chain->iov[n].iov_len = len;
	chain->gpa[n] = addr;
	if (write) {
		chain->writable++;
		chain->writable_len += len;
	} else {
		chain->readable++;
		chain->readable_len += len;
	}
	/* 2.7.4.2: a chain is not longer than 2^32 bytes in all. */
	if (chain->readable_len + chain->writable_len > UINT32_MAX)
		return "chain of more than 4 GiB";
	return NULL;
}

/* The table behind an indirect descriptor: 2.7.5.3 and 2.8.7. */
static const char *
chain_add_table(struct virtq *vq, struct virtq_chain *chain,
    const struct virtq_desc *ind)
{
	unsigned count = ind->len / DESC_SIZE;
	const uint8_t *table;
	unsigned i = 0;

	if (!vq->indirect)
		return "indirect descriptor without the feature";
	if (ind->flags & DESC_F_NEXT)
		return "indirect descriptor with a next one";
	if (ind->len % DESC_SIZE != 0 || count == 0 || count > vq->size)
		return "impossible size of an indirect table";
	table = mem_ptr_read(vq->mem, ind->addr, ind->len);
	if (table == NULL)
		return "indirect table outside RAM";
	for (unsigned steps = 0; steps < count; steps++) {
		struct virtq_desc d =
		    desc_fetch(table + i * DESC_SIZE, vq->packed);
		const char *why;

		if (d.flags & DESC_F_INDIRECT)
			return "indirect table within another";
		why =
		    chain_add(vq, chain, d.addr, d.len, d.flags & DESC_F_WRITE);
		if (why != NULL)
			return why;
		/* 2.8.7: there all of a packed table's descriptors count. */
		if (vq->packed) {
			i++;
			continue;
		}
		if (!(d.flags & DESC_F_NEXT))
			return NULL;
		if (d.next >= count)
			return "next descriptor beyond the table";
		i = d.next;
	}
	return vq->packed ? NULL : "chain loops in an indirect table";
}

static const char *
chain_add_desc(struct virtq *vq, struct virtq_chain *chain,
    const struct virtq_desc *d)
{
	/* 2.7.5.3.2: the flag "write" of an indirect descriptor is ignored. */
	if (d->flags & DESC_F_INDIRECT)
		return chain_add_table(vq, chain, d);
	return chain_add(vq, chain, d->addr, d->len, d->flags & DESC_F_WRITE);
}

/* How far the driver is ahead of us; ordered before what it tells of. */
static uint16_t
split_available(const struct virtq *vq)
{
	uint16_t idx = ring_load16(vq->driver + AVAIL_IDX, __ATOMIC_ACQUIRE);

	return (uint16_t)(idx - (uint16_t)vq->regs->avail);
}

static const char *
pop_split(struct virtq *vq, struct virtq_chain *chain, bool *found)
{
	uint16_t pos = (uint16_t)vq->regs->avail;
	uint32_t available = split_available(vq);
	struct virtq_desc d = { .flags = DESC_F_NEXT };
	unsigned steps;
	const char *why;

	if (available == 0)
		return NULL;
	/* Invariant 3. */
	if (available > vq->size - MIN(vq->in_flight, (uint32_t)vq->size))
		return "available index is too far ahead";
	chain->id = ring_load16(vq->driver + AVAIL_RING + pos % vq->size * 2u,
	    __ATOMIC_RELAXED);
	d.next = chain->id;
	for (steps = 0; d.flags & DESC_F_NEXT; steps++) {
		if (steps == vq->size)
			return "chain loops";
		if (d.next >= vq->size)
			return "descriptor beyond the table";
		d = desc_fetch(vq->desc_read + d.next * DESC_SIZE, false);
		why = chain_add_desc(vq, chain, &d);
		if (why != NULL)
			return why;
	}
	chain->slots = 1;
	vq->regs->avail = (uint16_t)(pos + 1);
	*found = true;
	return NULL;
}

static uint64_t
slot_forward(const struct virtq *vq, uint64_t pos, unsigned by)
{
	uint64_t slot = (pos & ~LAP) + by;

	if (slot < vq->size)
		return slot | (pos & LAP);
	return (slot - vq->size) | (~pos & LAP);
}

static uint64_t
slot_back(const struct virtq *vq, uint64_t pos, unsigned by)
{
	uint64_t slot = pos & ~LAP;

	if (slot >= by)
		return (slot - by) | (pos & LAP);
	return (slot + vq->size - by) | (~pos & LAP);
}

/* 2.8.1: available bit like the wrap counter, used bit unlike it. */
static bool
packed_available(uint16_t flags, uint64_t pos)
{
	bool wrap = !(pos & LAP);

	return !!(flags & DESC_F_AVAIL) == wrap &&
	    !!(flags & DESC_F_USED) != wrap;
}

static const char *
pop_packed(struct virtq *vq, struct virtq_chain *chain, bool *found)
{
	uint64_t pos = vq->regs->avail;
	struct virtq_desc d;
	unsigned slots = 0;
	const char *why;

	do {
		d = desc_fetch(vq->desc_read + (pos & ~LAP) * DESC_SIZE, true);
		if (slots == 0 && !packed_available(d.flags, pos))
			return NULL;
		/* Invariants 2 and 3. */
		if (slots == vq->size - vq->in_flight)
			return "more available than the ring holds";
		why = chain_add_desc(vq, chain, &d);
		if (why != NULL)
			return why;
		slots++;
		pos = slot_forward(vq, pos, 1);
	} while (d.flags & DESC_F_NEXT);
	chain->id = d.id;
	chain->slots = (uint16_t)slots;
	vq->regs->avail = pos;
	*found = true;
	return NULL;
}

int
virtq_pop(struct virtq *vq, struct virtq_chain *chain)
{
	const char *why;
	bool found = false;

	chain->readable = chain->writable = 0;
	chain->readable_len = chain->writable_len = 0;
	if (!virtq_usable(vq))
		return -EPROTO;
	if (vq->held)
		return 0;
	why = vq->packed ? pop_packed(vq, chain, &found) :
			   pop_split(vq, chain, &found);
	if (why != NULL) {
		virtq_fail(vq, why);
		return -EPROTO;
	}
	if (!found)
		return 0;
	vq->in_flight += chain->slots;
	return 1;
}

void
virtq_unpop(struct virtq *vq, const struct virtq_chain *chain)
{
	struct virtq_regs *regs = vq->regs;

	if (!virtq_usable(vq))
		return;
	assert(vq->in_flight >= chain->slots);
	vq->in_flight -= chain->slots;
	if (vq->packed)
		regs->avail = slot_back(vq, regs->avail, chain->slots);
	else
		regs->avail = (uint16_t)(regs->avail - 1);
}

bool
virtq_pending(struct virtq *vq)
{
	uint64_t pos = vq->regs->avail;

	if (!virtq_usable(vq) || vq->held)
		return false;
	if (!vq->packed)
		return split_available(vq) != 0;
	return packed_available(ring_load16(vq->desc_read +
					(pos & ~LAP) * DESC_SIZE + 14,
				    __ATOMIC_ACQUIRE),
	    pos);
}

/* ---- pushing ------------------------------------------------------------ */

static void
chain_mark_dirty(struct virtq *vq, const struct virtq_chain *chain,
    uint64_t written)
{
	for (unsigned i = chain->readable; written != 0; i++) {
		uint64_t len = MIN(written, chain->iov[i].iov_len);

		mem_wrote(vq->mem, chain->gpa[i], len);
		written -= len;
	}
}

static void
push_split(struct virtq *vq, const struct virtq_chain *chains,
    const uint64_t *written, unsigned n)
{
	uint16_t idx = (uint16_t)vq->regs->used;

	for (unsigned i = 0; i < n; i++, idx++) {
		uint64_t off =
		    USED_RING + idx % vq->size * (uint64_t)USED_ELEM_SIZE;

		ring_store32(vq->device + off, chains[i].id);
		ring_store32(vq->device + off + 4, (uint32_t)written[i]);
		mem_wrote(vq->mem, vq->regs->device + off, USED_ELEM_SIZE);
	}
	ring_store16(vq->device + USED_IDX, idx);
	mem_wrote(vq->mem, vq->regs->device + USED_IDX, 2);
	vq->regs->used = idx;
}

/* 2.8.6: one used descriptor for a chain; the first one's flags come last. */
static void
push_packed(struct virtq *vq, const struct virtq_chain *chains,
    const uint64_t *written, unsigned n)
{
	uint64_t first = (vq->regs->used & ~LAP) * DESC_SIZE;
	uint16_t first_flags = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t pos = vq->regs->used;
		uint64_t off = (pos & ~LAP) * DESC_SIZE;
		uint16_t flags = pos & LAP ? 0 : DESC_F_AVAIL | DESC_F_USED;

		if (written[i] != 0)
			flags |= DESC_F_WRITE;
		ring_store32(vq->desc + off + 8, (uint32_t)written[i]);
		ring_store16(vq->desc + off + 12, chains[i].id);
		if (i == 0)
			first_flags = flags;
		else
			ring_store16(vq->desc + off + 14, flags);
		mem_wrote(vq->mem, vq->regs->desc + off + 8, 8);
		vq->regs->used = slot_forward(vq, pos, chains[i].slots);
	}
	ring_store16(vq->desc + first + 14, first_flags);
	mem_wrote(vq->mem, vq->regs->desc + first + 14, 2);
}

void
virtq_push_all(struct virtq *vq, const struct virtq_chain *chains,
    const uint64_t *written, unsigned n)
{
	if (n == 0 || !virtq_usable(vq))
		return;
	for (unsigned i = 0; i < n; i++) {
		assert(written[i] <= chains[i].writable_len);
		assert(vq->in_flight >= chains[i].slots);
		chain_mark_dirty(vq, &chains[i], written[i]);
		vq->in_flight -= chains[i].slots;
		vq->regs->unsignalled += chains[i].slots;
	}
	if (vq->packed)
		push_packed(vq, chains, written, n);
	else
		push_split(vq, chains, written, n);
}

void
virtq_push(struct virtq *vq, const struct virtq_chain *chain, uint64_t written)
{
	virtq_push_all(vq, chain, &written, 1);
}

/* ---- notifications ------------------------------------------------------ */

/*
 * 2.7.10 and 2.8.14: did we pass `event`, having pushed `count` slots up to
 * `now`?
 */
static bool
passed_event(uint16_t event, uint16_t now, uint64_t count)
{
	return (uint16_t)(now - event - 1) < count;
}

static bool
split_wants_interrupt(struct virtq *vq, uint64_t count)
{
	uint16_t now = (uint16_t)vq->regs->used;

	if (vq->notify_on_empty && split_available(vq) == 0 &&
	    vq->in_flight == 0)
		return true;
	if (vq->event_idx)
		return passed_event(ring_load16(vq->driver + AVAIL_RING +
					    vq->size * 2u,
					__ATOMIC_RELAXED),
		    now, count);
	return !(ring_load16(vq->driver + AVAIL_FLAGS, __ATOMIC_RELAXED) &
	    AVAIL_F_NO_INTERRUPT);
}

static bool
packed_wants_interrupt(struct virtq *vq, uint64_t count)
{
	uint64_t pos = vq->regs->used;
	uint32_t word = ring_load32(vq->driver);
	uint16_t flags = (uint16_t)(word >> 16) & 3;
	uint16_t event = word & (LAP - 1);

	if (flags != EVENT_DESC || !vq->event_idx)
		return flags != EVENT_DISABLE;
	/* A place in the lap before ours lies below our slots. */
	if (!((word ^ pos) & LAP))
		event = (uint16_t)(event - vq->size);
	return passed_event(event, (uint16_t)(pos & ~LAP), count);
}

void
virtq_notify(struct virtq *vq)
{
	uint64_t count = vq->regs->unsignalled;

	if (!virtq_usable(vq) || count == 0)
		return;
	vq->regs->unsignalled = 0;
	/* The used index before the driver's wish: see Order. */
	virtq_barrier(vq);
	if (vq->packed ? packed_wants_interrupt(vq, count) :
			 split_wants_interrupt(vq, count))
		vq->ops->interrupt(vq);
}

static void
device_store16(struct virtq *vq, uint64_t off, uint16_t value)
{
	if (ring_load16(vq->device + off, __ATOMIC_RELAXED) == value)
		return;
	ring_store16(vq->device + off, value);
	mem_wrote(vq->mem, vq->regs->device + off, 2);
}

bool
virtq_want_notify(struct virtq *vq)
{
	uint16_t pos = (uint16_t)vq->regs->avail;

	if (!virtq_usable(vq))
		return false;
	if (!vq->packed && vq->event_idx) {
		device_store16(vq, USED_RING + vq->size * USED_ELEM_SIZE, pos);
	} else if (!vq->packed) {
		device_store16(vq, USED_FLAGS, 0);
	} else if (vq->event_idx) {
		device_store16(vq, 0, pos ^ LAP);
		device_store16(vq, EVENT_FLAGS, EVENT_DESC);
	} else {
		device_store16(vq, EVENT_FLAGS, EVENT_ENABLE);
	}
	/* Our wish before the driver's index: see Order. */
	virtq_barrier(vq);
	return virtq_pending(vq);
}

void
virtq_no_notify(struct virtq *vq)
{
	if (!virtq_usable(vq))
		return;
	if (vq->packed)
		device_store16(vq, EVENT_FLAGS, EVENT_DISABLE);
	else if (!vq->event_idx) /* else the index left behind does it */
		device_store16(vq, USED_FLAGS, USED_F_NO_NOTIFY);
}

/* ---- the bytes of a chain ----------------------------------------------- */

/* The piece of buffer i that is `off` bytes into the part from there on. */
static struct iovec
chain_piece(const struct virtq_chain *chain, unsigned i, uint64_t *off,
    uint64_t len)
{
	const struct iovec *iov = &chain->iov[i];
	uint64_t skip = MIN(*off, iov->iov_len);

	*off -= skip;
	return (struct iovec) {
		.iov_base = (uint8_t *)iov->iov_base + skip,
		.iov_len = MIN(len, iov->iov_len - skip),
	};
}

unsigned
virtq_slice(const struct virtq_chain *chain, bool writable, uint64_t off,
    uint64_t len, struct iovec *iov)
{
	unsigned n = 0;

	assert(range_within(off, len,
	    writable ? chain->writable_len : chain->readable_len));
	for (unsigned i = writable ? chain->readable : 0; len != 0; i++) {
		iov[n] = chain_piece(chain, i, &off, len);
		len -= iov[n].iov_len;
		if (iov[n].iov_len != 0)
			n++;
	}
	return n;
}

bool
virtq_read(const struct virtq_chain *chain, uint64_t off, void *buf,
    uint64_t len)
{
	uint8_t *to = buf;

	if (!range_within(off, len, chain->readable_len))
		return false;
	for (unsigned i = 0; len != 0; i++) {
		struct iovec piece = chain_piece(chain, i, &off, len);

		memcpy(to, piece.iov_base, piece.iov_len);
		to += piece.iov_len;
		len -= piece.iov_len;
	}
	return true;
}

bool
virtq_write(const struct virtq_chain *chain, uint64_t off, const void *buf,
    uint64_t len)
{
	const uint8_t *from = buf;

	if (!range_within(off, len, chain->writable_len))
		return false;
	for (unsigned i = chain->readable; len != 0; i++) {
		struct iovec piece = chain_piece(chain, i, &off, len);

		memcpy(piece.iov_base, from, piece.iov_len);
		from += piece.iov_len;
		len -= piece.iov_len;
	}
	return true;
}
