/*
 * Guest memory: the one place that turns a guest address into a pointer.
 *
 * A machine has a few regions, each one shared memory object mapped once and
 * demand paged.  Whatever has no region is not memory: reads and writes of it
 * fail here, and the buses answer for it.
 *
 * Threads      Regions are added before vCPUs run and never move.  Everything
 *              else may be called from any thread.  The guest writes at the
 *              same time as we do: read once, check the copy, use the copy.
 * Dirty        Writes by the guest are known to the engine, writes by devices
 *              are marked here; mem_dirty_fetch() merges both.
 */
#ifndef MEM_MEM_H
#define MEM_MEM_H

#include "base/err.h"

typedef uint64_t gpa_t; /* guest physical address */
typedef uint64_t gva_t; /* guest virtual address */

#define MEM_PAGE_SIZE 4096u

struct mem;

enum mem_kind {
	MEM_RAM,
	MEM_ROM, /* the guest's writes reach no memory, MMIO at best */
};

struct mem_region {
	const char *name; /* as bhyvectl and core dumps call it */
	gpa_t gpa;
	uint64_t size;
	enum mem_kind kind;
	uint8_t *host; /* the mapping in this process */
	int fd;        /* the memory object, for others to map */
	unsigned slot; /* small number of its own: index for engines */
};

struct mem_params {
	bool wired;     /* -S: resident and locked before the guest runs */
	bool hugepages; /* back RAM with huge pages; an error without */
	bool in_core;   /* -C: include RAM in a core dump of this process */
};

struct mem *mem_new(const struct mem_params *params);
void mem_free(struct mem *mem);

/*
 * Add a region, page-aligned and overlapping no other.  ROM is filled through
 * mem_region_ptr() or mem_write_rom() before the guest runs.
 */
int mem_add(struct mem *mem, const char *name, enum mem_kind kind, gpa_t gpa,
    uint64_t size, struct err *err);

/*
 * A PC's RAM: `size` bytes from 0 up to lowmem_limit, the rest from 4 GiB.
 * After an error what was added stays; mem_free() is all that is left to do.
 */
int mem_add_pc_ram(struct mem *mem, uint64_t size, uint64_t lowmem_limit,
    struct err *err);
uint64_t mem_lowmem(const struct mem *mem);  /* bytes of RAM below 4 GiB */
uint64_t mem_highmem(const struct mem *mem); /* bytes of RAM from 4 GiB up */

unsigned mem_region_count(const struct mem *mem);
const struct mem_region *mem_region(const struct mem *mem, unsigned index);

/*
 * A pointer to len bytes that lie in one region, or NULL.  The bytes change
 * under the reader's eyes.  mem_ptr_write() refuses ROM; after writing through
 * it, call mem_wrote() for the bytes written.
 */
const void *mem_ptr_read(const struct mem *mem, gpa_t gpa, uint64_t len);
void *mem_ptr_write(const struct mem *mem, gpa_t gpa, uint64_t len);
void mem_wrote(struct mem *mem, gpa_t gpa, uint64_t len);

/*
 * Copies, also across adjacent regions.  0 or -EFAULT with nothing copied.
 * Aligned, 2, 4 and 8 bytes are one access: never torn.
 */
int mem_read(const struct mem *mem, gpa_t gpa, void *buf, uint64_t len);
int mem_write(struct mem *mem, gpa_t gpa, const void *buf, uint64_t len);
int mem_fill(struct mem *mem, gpa_t gpa, uint8_t byte, uint64_t len);
/* As mem_write(), and into ROM too: for loaders, before the guest runs. */
int mem_write_rom(struct mem *mem, gpa_t gpa, const void *buf, uint64_t len);

/*
 * Dirty tracking.  A page is dirty if it was written since tracking started or
 * since the last fetch that reported it.  The bitmap has one bit a page of the
 * region, lowest address first, in 64-bit words.  Fetching clears; a fetch
 * that fails loses nothing.  Starting twice is -EBUSY; stopping never fails.
 */
int mem_dirty_start(struct mem *mem, struct err *err);
void mem_dirty_stop(struct mem *mem);
bool mem_dirty_tracking(const struct mem *mem);
size_t mem_dirty_words(const struct mem_region *region);
int mem_dirty_fetch(struct mem *mem, unsigned index, uint64_t *bitmap,
    struct err *err);

/*
 * What an engine wants to know.  One listener; `map` is called at once for the
 * regions that are there.  Dirty hooks may be NULL where the engine marks
 * pages through mem_wrote().  `wrote` (may be NULL) hears of every write by a
 * device, any thread, so that translated code can be dropped.  It is set before
 * other threads use the memory and cleared after they are gone.
 */
struct mem_listener {
	int (*map)(void *arg, const struct mem_region *region, struct err *err);
	void (*unmap)(void *arg, const struct mem_region *region);
	int (*dirty_start)(void *arg, const struct mem_region *region,
	    struct err *err);
	void (*dirty_stop)(void *arg, const struct mem_region *region);
	/* Merge, with OR, the pages the guest wrote, and forget them. */
	int (*dirty_fetch)(void *arg, const struct mem_region *region,
	    uint64_t *bitmap, struct err *err);
	void (*wrote)(void *arg, gpa_t gpa, uint64_t len);
};
int mem_set_listener(struct mem *mem, const struct mem_listener *listener,
    void *arg, struct err *err);
void mem_clear_listener(struct mem *mem);

#endif
