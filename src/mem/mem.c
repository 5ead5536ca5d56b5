/*
 * Guest memory: regions, the look-up, copies.
 *
 * Models       nothing of its own: a region is a memfd mapped shared, so that
 *              a debugger, a device's helper or a second process can map the
 *              same pages.  Untouched pages cost nothing, unless memory is
 *              wired or made of huge pages.
 * Locking      none to look up or copy.  One thread adds regions and sets the
 *              listener before any other thread uses the memory, and clears
 *              the listener after they are gone.
 * Invariants   1. Regions are sorted, page-aligned, do not overlap and end at
 *                 or below MEM_GPA_LIMIT, so gpa + size of one never wraps.
 *              2. struct mem_region never moves: engines keep pointers.
 *              3. The memory object is sealed against growing and shrinking:
 *                 no holder of the descriptor can make our mapping fault
 *                 (short of punching holes into huge pages).
 *              4. Every byte that a device writes passes mem_wrote() after it
 *                 was stored.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "mem/mem_impl.h"

/* MAXPHYADDR of the architecture, SDM volume 3, 4.1.4. */
#define MEM_GPA_LIMIT BIT(52)
#define MEM_HUGE_SIZE (2 * MIB)

struct mem *
mem_new(const struct mem_params *params)
{
	struct mem *mem = xcalloc(1, sizeof(*mem));

	mem->params = *params;
	lock_init(&mem->lock);
	return mem;
}

static void
region_free(struct region *region)
{
	if (region->pub.host != NULL)
		munmap(region->pub.host, region->pub.size);
	if (region->pub.fd >= 0)
		close(region->pub.fd);
	free(region->dirty);
	free((char *)region->pub.name);
	free(region);
}

void
mem_free(struct mem *mem)
{
	if (mem == NULL)
		return;
	mem_clear_listener(mem);
	for (unsigned i = 0; i < mem->count; i++)
		region_free(mem->regions[i]);
	lock_fini(&mem->lock);
	free(mem);
}

/* ------------------------------------------------------------ regions */

/*
 * Fault a region in and lock it into the host's memory, or say what stands in
 * the way.
 */
static int
region_wire(const struct mem *mem, const struct mem_region *region,
    struct err *err)
{
	uint64_t total = region->size;
	struct rlimit limit;
	int error;

	/* As mlock(), which the sanitizers make a no-op. */
	if (mlock2(region->host, region->size, 0) == 0)
		return 0;
	error = errno;
	for (unsigned i = 0; i < mem->count; i++)
		total += mem->regions[i]->pub.size;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < total)
		return err_set(err, -error,
		    "cannot wire %llu KiB of guest memory: locked memory is "
		    "limited to %llu KiB; raise RLIMIT_MEMLOCK (ulimit -l, or "
		    "LimitMEMLOCK= of a service) or run with CAP_IPC_LOCK",
		    (unsigned long long)(total / KIB),
		    (unsigned long long)(limit.rlim_cur / KIB));
	return err_set_errno(err, -error,
	    "cannot wire %llu KiB of guest memory",
	    (unsigned long long)(total / KIB));
}

/* The memory object of a region, of its size for good. */
static int
region_object(const char *name, uint64_t size, bool huge, struct err *err)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	char label[64];
	int fd, error;

	if (huge)
		flags |= MFD_HUGETLB | MFD_HUGE_2MB;
	snprintf(label, sizeof(label), "guest-%s", name);
	fd = memfd_create(label, flags);
	if (fd < 0)
		return err_set_errno(err, -errno, "memory \"%s\": memfd_create",
		    name);
	if (ftruncate(fd, (off_t)size) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
		0) {
		error = errno;
		close(fd);
		return err_set_errno(err, -error,
		    "memory \"%s\": cannot make an object of %llu KiB", name,
		    (unsigned long long)(size / KIB));
	}
	return fd;
}

static int
region_map(const struct mem *mem, struct region *region, struct err *err)
{
	struct mem_region *pub = &region->pub;
	bool huge = mem->params.hugepages && pub->kind == MEM_RAM;
	int flags = MAP_SHARED;
	void *host;
	int rc;

	if (huge && pub->size % MEM_HUGE_SIZE != 0)
		return err_set(err, -EINVAL,
		    "memory \"%s\": with huge pages the size must be a "
		    "multiple of 2 MiB",
		    pub->name);
	rc = region_object(pub->name, pub->size, huge, err);
	if (rc < 0)
		return rc;
	pub->fd = rc;

	/*
	 * Huge pages are reserved by the mapping: better an error now than a
	 * SIGBUS when the pool runs dry under a running guest.
	 */
	if (!huge)
		flags |= MAP_NORESERVE;
	host = mmap(NULL, pub->size, PROT_READ | PROT_WRITE, flags, pub->fd, 0);
	if (host == MAP_FAILED && huge)
		return err_set_errno(err, -errno,
		    "memory \"%s\": the host has not %llu free huge pages of "
		    "2 MiB (see vm.nr_hugepages)",
		    pub->name, (unsigned long long)(pub->size / MEM_HUGE_SIZE));
	if (host == MAP_FAILED)
		return err_set_errno(err, -errno,
		    "memory \"%s\": cannot map %llu KiB", pub->name,
		    (unsigned long long)(pub->size / KIB));
	pub->host = host;

	/* A hint: a kernel without it writes a larger core, no more. */
	if (!mem->params.in_core)
		(void)madvise(host, pub->size, MADV_DONTDUMP);
	if (mem->params.wired)
		return region_wire(mem, pub, err);
	return 0;
}

static int
region_check(const struct mem *mem, const char *name, gpa_t gpa, uint64_t size,
    struct err *err)
{
	if (size == 0 || size % MEM_PAGE_SIZE != 0 || gpa % MEM_PAGE_SIZE != 0)
		return err_set(err, -EINVAL,
		    "memory \"%s\": address and size must be multiples of "
		    "4 KiB, and the size not 0",
		    name);
	if (!range_within(gpa, size, MEM_GPA_LIMIT))
		return err_set(err, -EINVAL,
		    "memory \"%s\": %llu KiB at 0x%llx end beyond 2^52", name,
		    (unsigned long long)(size / KIB), (unsigned long long)gpa);
	for (unsigned i = 0; i < mem->count; i++) {
		const struct mem_region *old = &mem->regions[i]->pub;

		if (gpa < old->gpa + old->size && old->gpa < gpa + size)
			return err_set(err, -EEXIST,
			    "memory \"%s\" at 0x%llx overlaps \"%s\"", name,
			    (unsigned long long)gpa, old->name);
	}
	if (mem->count == MEM_REGIONS_MAX)
		return err_set(err, -ENOSPC,
		    "memory \"%s\": more than %d regions", name,
		    MEM_REGIONS_MAX);
	return 0;
}

int
mem_add(struct mem *mem, const char *name, enum mem_kind kind, gpa_t gpa,
    uint64_t size, struct err *err)
{
	struct region *region;
	unsigned at = 0;
	int rc;

	if (mem_dirty_tracking(mem))
		return err_set(err, -EBUSY,
		    "memory \"%s\": not while dirty pages are tracked", name);
	rc = region_check(mem, name, gpa, size, err);
	if (rc != 0)
		return rc;

	region = xcalloc(1, sizeof(*region));
	region->pub = (struct mem_region) {
		.name = xstrdup(name),
		.gpa = gpa,
		.size = size,
		.kind = kind,
		.fd = -1,
		.slot = mem->count, /* regions leave only with the memory */
	};
	rc = region_map(mem, region, err);
	if (rc != 0)
		goto fail;
	region->dirty = calloc(mem_dirty_words(&region->pub), sizeof(uint64_t));
	if (region->dirty == NULL) {
		rc = err_set_errno(err, -ENOMEM, "memory \"%s\": dirty bitmap",
		    name);
		goto fail;
	}
	if (mem->listener != NULL) {
		rc = mem->listener->map(mem->listener_arg, &region->pub, err);
		if (rc != 0)
			goto fail;
	}

	while (at < mem->count && mem->regions[at]->pub.gpa < gpa)
		at++;
	memmove(&mem->regions[at + 1], &mem->regions[at],
	    (mem->count - at) * sizeof(mem->regions[0]));
	mem->regions[at] = region;
	mem->count++;
	return 0;

fail:
	region_free(region);
	return rc;
}

int
mem_add_pc_ram(struct mem *mem, uint64_t size, uint64_t lowmem_limit,
    struct err *err)
{
	uint64_t low = MIN(size, lowmem_limit);
	int rc;

	if (lowmem_limit > 4 * GIB)
		return err_set(err, -EINVAL,
		    "low memory may not reach beyond 4 GiB");
	rc = mem_add(mem, "lowmem", MEM_RAM, 0, low, err);
	if (rc != 0)
		return rc;
	mem->lowmem = low;
	if (size > low) {
		rc = mem_add(mem, "highmem", MEM_RAM, 4 * GIB, size - low, err);
		if (rc != 0)
			return rc;
		mem->highmem = size - low;
	}
	return 0;
}

uint64_t
mem_lowmem(const struct mem *mem)
{
	return mem->lowmem;
}

uint64_t
mem_highmem(const struct mem *mem)
{
	return mem->highmem;
}

unsigned
mem_region_count(const struct mem *mem)
{
	return mem->count;
}

const struct mem_region *
mem_region(const struct mem *mem, unsigned index)
{
	assert(index < mem->count);
	return &mem->regions[index]->pub;
}

/* ------------------------------------------------------------ listener */

int
mem_set_listener(struct mem *mem, const struct mem_listener *listener,
    void *arg, struct err *err)
{
	assert(mem->listener == NULL);
	assert(!mem_dirty_tracking(mem));
	for (unsigned i = 0; i < mem->count; i++) {
		int rc = listener->map(arg, &mem->regions[i]->pub, err);

		if (rc != 0) {
			while (i-- > 0)
				listener->unmap(arg, &mem->regions[i]->pub);
			return rc;
		}
	}
	mem->listener_arg = arg;
	mem->listener = listener;
	return 0;
}

void
mem_clear_listener(struct mem *mem)
{
	const struct mem_listener *listener = mem->listener;

	if (listener == NULL)
		return;
	mem_dirty_stop(mem);
	mem->listener = NULL;
	for (unsigned i = mem->count; i-- > 0;)
		listener->unmap(mem->listener_arg, &mem->regions[i]->pub);
}

/* ------------------------------------------------------ look up, copy */

struct region *
mem_find(const struct mem *mem, gpa_t gpa)
{
	unsigned low = 0, high = mem->count;

	while (low < high) {
		unsigned mid = (low + high) / 2;
		struct region *region = mem->regions[mid];

		if (gpa < region->pub.gpa)
			high = mid;
		else if (gpa - region->pub.gpa >= region->pub.size)
			low = mid + 1;
		else
			return region;
	}
	return NULL;
}

static uint8_t *
mem_ptr(const struct mem *mem, gpa_t gpa, uint64_t len, bool write)
{
	const struct region *region = mem_find(mem, gpa);

	if (region == NULL || (write && region->pub.kind != MEM_RAM) ||
	    !range_within(gpa - region->pub.gpa, len, region->pub.size))
		return NULL;
	return region->pub.host + (gpa - region->pub.gpa);
}

const void *
mem_ptr_read(const struct mem *mem, gpa_t gpa, uint64_t len)
{
	return mem_ptr(mem, gpa, len, false);
}

void *
mem_ptr_write(const struct mem *mem, gpa_t gpa, uint64_t len)
{
	return mem_ptr(mem, gpa, len, true);
}

/*
 * The piece of [gpa, gpa + len) that lies in the region of gpa: its place, and
 * its length in *piece.  NULL where there is no memory, or only ROM for a
 * writer.  Stepping by pieces cannot wrap (invariant 1) and ends at a hole, so
 * a forged len costs no more steps than there are regions.
 */
static uint8_t *
mem_piece(const struct mem *mem, gpa_t gpa, uint64_t len, bool write,
    uint64_t *piece)
{
	const struct region *region = mem_find(mem, gpa);

	*piece = 0;
	if (region == NULL || (write && region->pub.kind != MEM_RAM))
		return NULL;
	*piece = MIN(len, region->pub.size - (gpa - region->pub.gpa));
	return region->pub.host + (gpa - region->pub.gpa);
}

/* Is all of it memory, which may be written if asked? */
static bool
mem_covers(const struct mem *mem, gpa_t gpa, uint64_t len, bool write)
{
	uint64_t piece;

	for (; len != 0; gpa += piece, len -= piece)
		if (mem_piece(mem, gpa, len, write, &piece) == NULL)
			return false;
	return true;
}

/*
 * Aligned integers move in one access, as a processor moves them: a guest that
 * polls a ring index must never see half of one.
 */
static void
copy_from_guest(void *to, const uint8_t *from, uint64_t len)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	if (len == 2 && (uintptr_t)from % 2 == 0) {
		v16 = __atomic_load_n((const uint16_t *)(const void *)from,
		    __ATOMIC_RELAXED);
		memcpy(to, &v16, 2);
	} else if (len == 4 && (uintptr_t)from % 4 == 0) {
		v32 = __atomic_load_n((const uint32_t *)(const void *)from,
		    __ATOMIC_RELAXED);
		memcpy(to, &v32, 4);
	} else if (len == 8 && (uintptr_t)from % 8 == 0) {
		v64 = __atomic_load_n((const uint64_t *)(const void *)from,
		    __ATOMIC_RELAXED);
		memcpy(to, &v64, 8);
	} else {
		memcpy(to, from, len);
	}
}

static void
copy_to_guest(uint8_t *to, const void *from, uint64_t len)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	if (len == 2 && (uintptr_t)to % 2 == 0) {
		memcpy(&v16, from, 2);
		__atomic_store_n((uint16_t *)(void *)to, v16, __ATOMIC_RELAXED);
	} else if (len == 4 && (uintptr_t)to % 4 == 0) {
		memcpy(&v32, from, 4);
		__atomic_store_n((uint32_t *)(void *)to, v32, __ATOMIC_RELAXED);
	} else if (len == 8 && (uintptr_t)to % 8 == 0) {
		memcpy(&v64, from, 8);
		__atomic_store_n((uint64_t *)(void *)to, v64, __ATOMIC_RELAXED);
	} else {
		memcpy(to, from, len);
	}
}

int
mem_read(const struct mem *mem, gpa_t gpa, void *buf, uint64_t len)
{
	uint8_t *to = buf;
	uint64_t piece;

	if (!mem_covers(mem, gpa, len, false))
		return -EFAULT;
	for (; len != 0; gpa += piece, len -= piece, to += piece) {
		const uint8_t *from = mem_piece(mem, gpa, len, false, &piece);

		copy_from_guest(to, from, piece);
	}
	return 0;
}

static int
mem_copy_in(struct mem *mem, gpa_t gpa, const void *buf, uint64_t len,
    bool into_rom)
{
	const uint8_t *from = buf;
	gpa_t at = gpa;
	uint64_t left = len, piece;

	if (!mem_covers(mem, gpa, len, !into_rom))
		return -EFAULT;
	for (; left != 0; at += piece, left -= piece, from += piece) {
		uint8_t *to = mem_piece(mem, at, left, !into_rom, &piece);

		copy_to_guest(to, from, piece);
	}
	mem_wrote(mem, gpa, len);
	return 0;
}

int
mem_write(struct mem *mem, gpa_t gpa, const void *buf, uint64_t len)
{
	return mem_copy_in(mem, gpa, buf, len, false);
}

int
mem_write_rom(struct mem *mem, gpa_t gpa, const void *buf, uint64_t len)
{
	return mem_copy_in(mem, gpa, buf, len, true);
}

int
mem_fill(struct mem *mem, gpa_t gpa, uint8_t byte, uint64_t len)
{
	gpa_t at = gpa;
	uint64_t left = len, piece;

	if (!mem_covers(mem, gpa, len, true))
		return -EFAULT;
	for (; left != 0; at += piece, left -= piece) {
		uint8_t *to = mem_piece(mem, at, left, true, &piece);

		memset(to, byte, piece);
	}
	mem_wrote(mem, gpa, len);
	return 0;
}
