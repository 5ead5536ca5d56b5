/*
 * What mem.c and dirty.c share: the regions and who guards what.
 */
#ifndef MEM_MEM_IMPL_H
#define MEM_MEM_IMPL_H

#include <stdatomic.h>

#include "base/lock.h"
#include "mem/mem.h"

/* Enough for RAM, ROMs, a few frame buffers; KVM has at least 32 slots. */
#define MEM_REGIONS_MAX 32

struct region {
	struct mem_region pub;   /* what the header shows; never moves */
	_Atomic uint64_t *dirty; /* owned: bits of pages devices wrote */
};

/*
 * Regions, sizes and listener are set up by one thread before others use
 * memory, and read without a lock after that.
 */
struct mem {
	struct mem_params params;
	struct region *regions[MEM_REGIONS_MAX]; /* owned, sorted by gpa */
	unsigned count;
	uint64_t lowmem, highmem;
	const struct mem_listener *listener; /* borrowed, or NULL */
	void *listener_arg;

	/* Serialises dirty start, stop and fetch. */
	struct lock lock;
	atomic_bool tracking;
};

static inline uint64_t
region_pages(const struct mem_region *region)
{
	return region->size / MEM_PAGE_SIZE;
}

/* The region that gpa lies in, or NULL. */
struct region *mem_find(const struct mem *mem, gpa_t gpa);

#endif
