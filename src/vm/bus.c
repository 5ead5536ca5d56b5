/*
 * Buses: from an address to the range that answers.
 *
 * Look-up      Readers search a table of pieces, sorted and without overlap.
 *              A writer builds the pieces anew under `lock` and stores them
 *              between two steps of the sequence count; a reader that saw the
 *              count odd or changed searches again (invariant 1).  Every field
 *              of a piece is an atomic, so a torn look is only a wasted one.
 * Life         Ranges live as long as their devices, and devices as long as
 *              the machine, so a reader may use what it found.  A table that
 *              was outgrown stays until the end: sizes double, so all of them
 *              together are less than twice the last.
 * A move       while another vCPU is in the old place: that access is as one
 *              made before the move.  Offsets never exceed a range's length.
 *
 * Invariants   1. An odd count means a writer is at work.
 *              2. Pieces are sorted by `first` and disjoint.
 *              3. first - origin + length of an access stays in the range.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/lock.h"
#include "vm/vm_impl.h"

struct bus_piece {
	_Atomic uint64_t first; /* addresses first to last are this piece */
	_Atomic uint64_t last;
	_Atomic uint64_t origin; /* address of offset 0 of the range */
	_Atomic(struct io_range *) range;
};

struct bus_table {
	struct bus_table *outgrown; /* owned */
	size_t room;
	struct bus_piece pieces[];
};

struct io_range {
	struct bus *bus;
	const struct io_ops *ops;
	void *arg;
	struct lock *lock; /* NULL: entered without */
	uint64_t len;
	uint64_t base;  /* guarded by the bus's lock, like the rest below */
	uint64_t since; /* when it was mapped, to settle overlaps */
	bool mapped;
	bool fixed;
	LIST_ENTRY(io_range) link;
};

/* A piece in the writer's hands. */
struct bus_draft {
	uint64_t first, last;
	struct io_range *range;
};

struct bus {
	struct lock lock;        /* a leaf: for writers */
	struct bus_draft *draft; /* owned; room for as many as the table has */
	uint64_t limit;          /* highest address */
	atomic_uint seq;
	_Atomic(struct bus_table *) table;
	atomic_size_t count;
	uint64_t maps; /* so far */
	LIST_HEAD(, io_range) ranges;
};

/* What a reader takes from a piece. */
struct bus_found {
	struct io_range *range; /* NULL: nobody */
	uint64_t off;
	uint64_t room; /* bytes behind this one in the piece or hole */
};

static struct bus_table *
bus_table_new(size_t room, struct bus_table *outgrown)
{
	struct bus_table *table;

	table = xcalloc(1, sizeof(*table) + room * sizeof(table->pieces[0]));
	table->room = room;
	table->outgrown = outgrown;
	return table;
}

struct bus *
bus_new(uint64_t limit)
{
	struct bus *bus = xcalloc(1, sizeof(*bus));

	lock_init(&bus->lock);
	LIST_INIT(&bus->ranges);
	bus->limit = limit;
	atomic_init(&bus->table, bus_table_new(64, NULL));
	return bus;
}

void
bus_free(struct bus *bus)
{
	struct bus_table *table, *outgrown;
	struct io_range *range;

	if (bus == NULL)
		return;
	while ((range = LIST_FIRST(&bus->ranges)) != NULL) {
		LIST_REMOVE(range, link);
		free(range);
	}
	for (table = atomic_load(&bus->table); table != NULL;
	     table = outgrown) {
		outgrown = table->outgrown;
		free(table);
	}
	free(bus->draft);
	lock_fini(&bus->lock);
	free(bus);
}

static void
bus_find(struct bus *bus, uint64_t addr, struct bus_found *found)
{
	struct bus_table *table;
	size_t lo, hi, mid;
	uint64_t last, next;
	unsigned seq;

	for (;;) {
		seq = atomic_load_explicit(&bus->seq, memory_order_acquire);
		if (seq & 1)
			continue;
		table = atomic_load_explicit(&bus->table, memory_order_acquire);
		hi = atomic_load_explicit(&bus->count, memory_order_acquire);
		hi = MIN(hi, table->room);
		/* The first piece that does not end before addr. */
		for (lo = 0, mid = 0; lo < hi;) {
			mid = lo + (hi - lo) / 2;
			last = atomic_load_explicit(&table->pieces[mid].last,
			    memory_order_acquire);
			if (last < addr)
				lo = mid + 1;
			else
				hi = mid;
		}
		found->range = NULL;
		found->off = 0;
		found->room = bus->limit - addr;
		if (lo <
		    MIN(atomic_load_explicit(&bus->count, memory_order_acquire),
			table->room)) {
			const struct bus_piece *p = &table->pieces[lo];

			next = atomic_load_explicit(&p->first,
			    memory_order_acquire);
			last = atomic_load_explicit(&p->last,
			    memory_order_acquire);
			if (next <= addr) {
				found->range = atomic_load_explicit(&p->range,
				    memory_order_acquire);
				found->off = addr -
				    atomic_load_explicit(&p->origin,
					memory_order_acquire);
				found->room = last - addr;
			} else {
				found->room = next - addr - 1;
			}
		}
		if (atomic_load_explicit(&bus->seq, memory_order_acquire) ==
		    seq)
			return;
	}
}

/* ---- the writer --------------------------------------------------------- */

/* Of two ranges at one address, does a answer before b? */
static bool
bus_range_before(const struct io_range *a, const struct io_range *b)
{
	if (a->fixed != b->fixed)
		return a->fixed;
	return a->since < b->since;
}

/* The mapped range that answers at addr, and up to where it does. */
static struct io_range *
bus_owner_locked(struct bus *bus, uint64_t addr, uint64_t *last)
{
	struct io_range *best = NULL, *r;
	uint64_t end;

	LIST_FOREACH (r, &bus->ranges, link) {
		if (r->mapped && addr >= r->base && addr - r->base < r->len &&
		    (best == NULL || bus_range_before(r, best)))
			best = r;
	}
	end = best != NULL ? best->base + (best->len - 1) : bus->limit;
	/* A range that would answer before this one, or any in a hole. */
	LIST_FOREACH (r, &bus->ranges, link) {
		if (r->mapped && r->base > addr && r->base <= end &&
		    (best == NULL || bus_range_before(r, best)))
			end = r->base - 1;
	}
	*last = end;
	return best;
}

/* Work out the pieces first: readers wait only while they are stored. */
static void
bus_rebuild_locked(struct bus *bus)
{
	struct bus_table *table = atomic_load(&bus->table);
	struct bus_draft *draft;
	struct io_range *r;
	size_t most = 0, n = 0;
	uint64_t addr = 0, last;

	assert(lock_held(&bus->lock));
	/* Each range begins at most two pieces: its own and one behind it. */
	LIST_FOREACH (r, &bus->ranges, link)
		most += 2;
	while (table->room < most)
		table = bus_table_new(table->room * 2, table);
	bus->draft =
	    xreallocarray(bus->draft, table->room, sizeof(bus->draft[0]));
	for (;;) {
		r = bus_owner_locked(bus, addr, &last);
		if (r != NULL) {
			assert(n < table->room);
			bus->draft[n++] = (struct bus_draft) { addr, last, r };
		}
		if (last >= bus->limit)
			break;
		addr = last + 1;
	}

	atomic_fetch_add_explicit(&bus->seq, 1, memory_order_acq_rel);
	atomic_store_explicit(&bus->table, table, memory_order_release);
	for (size_t i = 0; i < n; i++) {
		struct bus_piece *p = &table->pieces[i];

		draft = &bus->draft[i];
		atomic_store_explicit(&p->first, draft->first,
		    memory_order_release);
		atomic_store_explicit(&p->last, draft->last,
		    memory_order_release);
		atomic_store_explicit(&p->origin, draft->range->base,
		    memory_order_release);
		atomic_store_explicit(&p->range, draft->range,
		    memory_order_release);
	}
	atomic_store_explicit(&bus->count, n, memory_order_release);
	atomic_fetch_add_explicit(&bus->seq, 1, memory_order_acq_rel);
}

struct io_range *
bus_add_range(struct bus *bus, uint64_t len, const struct io_ops *ops,
    void *arg, struct lock *lock, bool fixed)
{
	struct io_range *range = xcalloc(1, sizeof(*range));

	range->bus = bus;
	range->ops = ops;
	range->arg = arg;
	range->lock = lock;
	range->len = len;
	range->fixed = fixed;
	lock_take(&bus->lock);
	LIST_INSERT_HEAD(&bus->ranges, range, link);
	lock_drop(&bus->lock);
	return range;
}

int
io_range_map(struct io_range *range, uint64_t base, struct err *err)
{
	struct bus *bus = range->bus;
	const struct io_range *r;
	int error = 0;

	if (range->len == 0 || base > bus->limit ||
	    range->len - 1 > bus->limit - base)
		return err_set(err, -ERANGE,
		    "0x%" PRIx64 " bytes at 0x%" PRIx64 " end beyond the bus",
		    range->len, base);
	lock_take(&bus->lock);
	if (range->fixed) {
		LIST_FOREACH (r, &bus->ranges, link) {
			if (r != range && r->mapped && r->fixed &&
			    r->base <= base + (range->len - 1) &&
			    base <= r->base + (r->len - 1)) {
				error = err_set(err, -EBUSY,
				    "0x%" PRIx64 " is taken already", base);
				goto out;
			}
		}
	}
	range->base = base;
	range->mapped = true;
	range->since = ++bus->maps;
	bus_rebuild_locked(bus);
out:
	lock_drop(&bus->lock);
	return error;
}

void
io_range_unmap(struct io_range *range)
{
	lock_take(&range->bus->lock);
	if (range->mapped) {
		range->mapped = false;
		bus_rebuild_locked(range->bus);
	}
	lock_drop(&range->bus->lock);
}

bool
io_range_mapped(const struct io_range *range, uint64_t *base)
{
	bool mapped;

	lock_take(&range->bus->lock);
	mapped = range->mapped;
	*base = range->base;
	lock_drop(&range->bus->lock);
	return mapped;
}

/* ---- access ------------------------------------------------------------- */

static uint64_t
bus_load(const uint8_t *data, unsigned size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)data[i] << (i * 8);
	return value;
}

static void
bus_store(uint8_t *data, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		data[i] = (uint8_t)(value >> (i * 8));
}

static bool
io_takes(const struct io_ops *ops, uint64_t off, unsigned size)
{
	if (!is_power_of_2(size) || (ops->widths != 0 && !(ops->widths & size)))
		return false;
	return !ops->aligned || (off & (size - 1)) == 0;
}

/* The widest width taken at off that is at most size; 0 if all are wider. */
static unsigned
io_widest(const struct io_ops *ops, uint64_t off, unsigned size)
{
	unsigned width = 8;

	while (width != 0 && (width > size || !io_takes(ops, off, width)))
		width >>= 1;
	return width;
}

static void
io_one(const struct io_range *r, uint64_t off, bool write, unsigned size,
    uint8_t *data)
{
	if (write)
		r->ops->write(r->arg, off, size, bus_load(data, size));
	else
		bus_store(data, size, r->ops->read(r->arg, off, size));
}

/*
 * An access narrower than any width the range takes at off: reads its bytes of
 * the register around them, writes nothing.  Returns the bytes dealt with.
 */
static unsigned
io_part(const struct io_range *r, uint64_t off, bool write, unsigned size,
    uint8_t *data)
{
	uint8_t whole[8];

	for (unsigned width = 2; width <= 8; width *= 2) {
		uint64_t start = round_down(off, width);
		unsigned part = (unsigned)(start + width - off);

		if (!io_takes(r->ops, start, width) ||
		    !range_within(start, width, r->len))
			continue;
		part = MIN(part, size);
		if (!write) {
			bus_store(whole, width,
			    r->ops->read(r->arg, start, width));
			memcpy(data, whole + (off - start), part);
		}
		return part;
	}
	if (!write)
		data[0] = 0xff;
	return 1;
}

/* An access that lies within the range. */
static void
io_access_locked(const struct io_range *r, uint64_t off, bool write,
    unsigned size, uint8_t *data)
{
	unsigned width;

	if (io_takes(r->ops, off, size)) {
		io_one(r, off, write, size, data);
		return;
	}
	switch (r->ops->odd) {
	case IO_SPLIT:
		for (; size > 0; size -= width, off += width, data += width) {
			width = io_widest(r->ops, off, size);
			if (width == 0)
				width = io_part(r, off, write, size, data);
			else
				io_one(r, off, write, width, data);
		}
		break;
	case IO_NARROW:
		width = io_widest(r->ops, off, size);
		if (!write)
			memset(data, 0, size);
		if (width != 0)
			io_one(r, off, write, width, data);
		break;
	case IO_ONES:
	case IO_ZEROS:
		if (!write)
			memset(data, r->ops->odd == IO_ONES ? 0xff : 0, size);
		break;
	}
}

bool
bus_access(struct bus *bus, uint64_t addr, bool write, unsigned size,
    void *data)
{
	struct bus_found found;
	uint8_t *bytes = data;
	bool owned = true;
	unsigned n;

	assert(size >= 1 && size <= 8);
	for (; size > 0; size -= n, bytes += n, addr += n) {
		if (addr > bus->limit) {
			/* Ports wrap at 64 KiB; no memory is above the limit. */
			if (!write)
				memset(bytes, 0xff, size);
			return false;
		}
		bus_find(bus, addr, &found);
		n = found.room < size ? (unsigned)found.room + 1 : size;
		if (found.range == NULL) {
			owned = false;
			if (!write)
				memset(bytes, 0xff, n);
			continue;
		}
		if (found.range->lock != NULL)
			lock_take(found.range->lock);
		io_access_locked(found.range, found.off, write, n, bytes);
		if (found.range->lock != NULL)
			lock_drop(found.range->lock);
	}
	return owned;
}

uint64_t
bus_read(struct bus *bus, uint64_t addr, unsigned size)
{
	uint8_t data[8];

	(void)bus_access(bus, addr, false, size, data);
	return bus_load(data, size);
}

void
bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t value)
{
	uint8_t data[8];

	bus_store(data, size, value);
	(void)bus_access(bus, addr, true, size, data);
}
