/*
 * Dirty tracking: which pages were written since the last look.
 *
 * Two parties write.  The guest's writes are known to the engine, which tells
 * them through its listener; devices' writes are marked here, in a bitmap of
 * ours for each region.  A fetch merges both and clears them.
 *
 * Locking      start, stop and fetch exclude each other by mem->lock, a leaf
 *              but for the engine's hooks.  Writers take no lock.
 * Invariants   1. A write that is complete before a fetch begins is reported
 *                 by that fetch or was by an earlier one.  A write that races
 *                 with a fetch is reported by it or by the next: never lost.
 *              2. Whoever copies memory after mem_dirty_start() returned sees
 *                 a racing write in the copy, or its page is reported later.
 *              For both the writer stores its data first and marks after.
 */
#include <errno.h>
#include <immintrin.h>
#include <string.h>

#include "mem/mem_impl.h"

size_t
mem_dirty_words(const struct mem_region *region)
{
	return (region_pages(region) + 63) / 64;
}

bool
mem_dirty_tracking(const struct mem *mem)
{
	return atomic_load_explicit(&mem->tracking, memory_order_relaxed);
}

/* Mark pages first to last of a region. */
static void
dirty_mark(struct region *region, uint64_t first, uint64_t last)
{
	for (uint64_t word = first / 64; word <= last / 64; word++) {
		uint64_t bits = UINT64_MAX;

		if (word == first / 64)
			bits &= UINT64_MAX << (first % 64);
		if (word == last / 64)
			bits &= UINT64_MAX >> (63 - last % 64);
		/* Release: the exchange in dirty_take() then sees the data. */
		atomic_fetch_or_explicit(&region->dirty[word], bits,
		    memory_order_release);
	}
}

void
mem_wrote(struct mem *mem, gpa_t gpa, uint64_t len)
{
	const struct mem_listener *listener = mem->listener;

	if (len == 0)
		return;

	/*
	 * The data must be visible before `tracking` is looked at: else it
	 * could be missed by a copy that begins just after tracking does, and
	 * its page by the bitmap (invariant 2).  Pairs with the exchange in
	 * mem_dirty_start().
	 */
	_mm_mfence();
	if (mem_dirty_tracking(mem)) {
		gpa_t at = gpa;
		uint64_t left = len, piece;

		for (; left != 0; at += piece, left -= piece) {
			struct region *region = mem_find(mem, at);
			uint64_t off;

			if (region == NULL)
				break;
			off = at - region->pub.gpa;
			piece = MIN(left, region->pub.size - off);
			dirty_mark(region, off / MEM_PAGE_SIZE,
			    (off + piece - 1) / MEM_PAGE_SIZE);
		}
	}
	if (listener != NULL && listener->wrote != NULL)
		listener->wrote(mem->listener_arg, gpa, len);
}

/* Move our bits of a region to bitmap, or throw them away if it is NULL. */
static void
dirty_take(struct region *region, uint64_t *bitmap)
{
	size_t words = mem_dirty_words(&region->pub);

	for (size_t i = 0; i < words; i++) {
		uint64_t bits = 0;

		/* Most words are clean: do not make their lines ours. */
		if (atomic_load_explicit(&region->dirty[i],
			memory_order_relaxed) != 0)
			bits = atomic_exchange_explicit(&region->dirty[i], 0,
			    memory_order_acquire);
		if (bitmap != NULL)
			bitmap[i] = bits;
	}
}

int
mem_dirty_start(struct mem *mem, struct err *err)
{
	const struct mem_listener *listener = mem->listener;
	int rc = 0;

	lock_take(&mem->lock);
	if (mem_dirty_tracking(mem)) {
		rc = err_set(err, -EBUSY, "dirty pages are tracked already");
		goto out;
	}
	for (unsigned i = 0; i < mem->count; i++)
		dirty_take(mem->regions[i], NULL);
	if (listener != NULL && listener->dirty_start != NULL) {
		for (unsigned i = 0; i < mem->count; i++) {
			rc = listener->dirty_start(mem->listener_arg,
			    &mem->regions[i]->pub, err);
			if (rc == 0)
				continue;
			while (i-- > 0 && listener->dirty_stop != NULL)
				listener->dirty_stop(mem->listener_arg,
				    &mem->regions[i]->pub);
			goto out;
		}
	}
	/* A full barrier, for whom mem_wrote() says. */
	atomic_exchange_explicit(&mem->tracking, true, memory_order_seq_cst);
out:
	lock_drop(&mem->lock);
	return rc;
}

void
mem_dirty_stop(struct mem *mem)
{
	const struct mem_listener *listener = mem->listener;

	lock_take(&mem->lock);
	if (mem_dirty_tracking(mem)) {
		atomic_store_explicit(&mem->tracking, false,
		    memory_order_relaxed);
		if (listener != NULL && listener->dirty_stop != NULL)
			for (unsigned i = 0; i < mem->count; i++)
				listener->dirty_stop(mem->listener_arg,
				    &mem->regions[i]->pub);
	}
	lock_drop(&mem->lock);
}

int
mem_dirty_fetch(struct mem *mem, unsigned index, uint64_t *bitmap,
    struct err *err)
{
	const struct mem_listener *listener = mem->listener;
	struct region *region;
	int rc = 0;

	assert(index < mem->count);
	region = mem->regions[index];
	lock_take(&mem->lock);
	if (!mem_dirty_tracking(mem)) {
		rc = err_set(err, -EINVAL, "dirty pages are not tracked");
		goto out;
	}
	dirty_take(region, bitmap);
	if (listener != NULL && listener->dirty_fetch != NULL) {
		rc = listener->dirty_fetch(mem->listener_arg, &region->pub,
		    bitmap, err);
		/* The caller has learnt nothing: keep what we took. */
		if (rc != 0)
			for (size_t i = 0; i < mem_dirty_words(&region->pub);
			     i++)
				atomic_fetch_or_explicit(&region->dirty[i],
				    bitmap[i], memory_order_relaxed);
	}
out:
	lock_drop(&mem->lock);
	return rc;
}
