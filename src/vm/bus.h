/*
 * The two buses of a machine: ports and memory-mapped registers.
 *
 * A bus turns an address into a device's range and enters the device under its
 * lock.  Look-up takes no lock: readers walk a sorted table guarded by a
 * sequence count (theory in bus.c).
 *
 * An access to nobody reads ones and writes nothing.  An access that reaches
 * over the end of a range is split, each byte going to its owner.
 */
#ifndef VM_BUS_H
#define VM_BUS_H

#include "base/err.h"

enum bus_space { BUS_PORT, BUS_MMIO };
#define BUS_SPACES 2

/* What a range makes of an access of a width that it does not take. */
enum io_odd {
	/*
	 * A wider access becomes several of the widest width it takes, upwards.
	 * A narrower one reads its part of the register and writes nothing.
	 */
	IO_SPLIT,
	IO_NARROW, /* one access of the widest width: the low part counts */
	IO_ONES,   /* reads all ones, writes nothing */
	IO_ZEROS,  /* reads 0, writes nothing */
};

/*
 * Handlers of a range.  off + size never exceeds the range; size is one of
 * those in `widths`.  The device's lock is held unless its model is `unlocked`.
 */
struct io_ops {
	uint64_t (*read)(void *self, uint64_t off, unsigned size);
	void (*write)(void *self, uint64_t off, unsigned size, uint64_t value);
	uint8_t widths; /* 1 | 2 | 4 | 8; 0 takes any */
	enum io_odd odd;
	bool aligned; /* an access not aligned to its size is odd, too */
};

struct bus;
struct io_range; /* lives as long as its device */

/*
 * Where fixed ranges and BARs lie over each other the fixed one answers; among
 * BARs the one that was there first.
 */
int io_range_map(struct io_range *range, uint64_t base, struct err *err);
void io_range_unmap(struct io_range *range);
bool io_range_mapped(const struct io_range *range, uint64_t *base);

/*
 * An access by a vCPU: 1 to 8 bytes at data, little-endian.  False if nobody
 * owned some of them.
 */
bool bus_access(struct bus *bus, uint64_t addr, bool write, unsigned size,
    void *data);
uint64_t bus_read(struct bus *bus, uint64_t addr, unsigned size);
void bus_write(struct bus *bus, uint64_t addr, unsigned size, uint64_t value);

#endif
