/*
 * The code cache: blocks of translated code, found by where their guest code
 * stands in physical memory.
 *
 * Memory       One memory object, mapped twice: to write and to execute, so no
 *              page is both.  It fills from the front; when it is full all
 *              blocks are forgotten at once, while no vCPU runs.
 * Invalidation A store into code (by a vCPU, another one, a device) kills the
 *              blocks that overlap it: out of the hash, and the first
 *              instruction at the entry, 8 aligned bytes, becomes a jump out of
 *              the block.  One store, so a vCPU that is about to enter sees the
 *              old or the new instruction; one that is inside finishes the
 *              block, as a processor may finish what it has fetched.  Jumps
 *              linked to it ask for a link again.  Nothing is reused before
 *              the next forgetting, so a table that still has a dead block
 *              leads into it and out again.
 * Noticing     A page with blocks has no write tags: stores to it take the long
 *              way and come here.  Which 64-byte lines hold code is known, so
 *              data beside code costs no block.
 * Locking      code_lock for everything that changes.  Look-ups take none: a
 *              bucket is a list that only grows at its head and loses members
 *              whose memory stays.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "engine/jit/jit_impl.h"

#define CACHE_SIZE (64 * MIB)
#define LINE 64u

static unsigned
hash(gpa_t gpa, uint32_t mode)
{
	uint64_t h = (gpa ^ (uint64_t)mode << 20) * 0x9e3779b97f4a7c15ULL;

	return (unsigned)(h >> 48) % JIT_HASH_SIZE;
}

struct jit_block *
jit_cache_find(struct jit *jit, gpa_t gpa, uint32_t mode)
{
	struct jit_block *block =
	    atomic_load_explicit(&jit->cache.hash[hash(gpa, mode)],
		memory_order_acquire);

	while (block != NULL && (block->gpa != gpa || block->mode != mode))
		block = block->next;
	return block;
}

/* ------------------------------------------------------------- forgetting */

static void
block_free(struct jit_block *block)
{
	while (block->decoded != NULL) {
		struct jit_decoded *decoded = block->decoded;

		block->decoded = decoded->next;
		free(decoded);
	}
	free(block->places);
	free(block);
}

/* The page's entry in the table, or NULL outside of memory. */
static struct jit_page **
page_slot(struct jit *jit, struct x86_ram *ram, gpa_t gpa)
{
	return &jit->cache.pages[ram->slot][(gpa - ram->gpa) / MEM_PAGE_SIZE];
}

static void
pages_free(struct jit *jit, const struct x86_ram *ram)
{
	struct jit_page **pages = jit->cache.pages[ram->slot];

	for (size_t i = 0; i < ram->size / MEM_PAGE_SIZE; i++) {
		free(pages[i]);
		pages[i] = NULL;
	}
}

static void
forget_all(struct jit *jit)
{
	struct jit_cache *cache = &jit->cache;

	for (size_t i = 0; i < cache->block_count; i++)
		block_free(cache->blocks[i]);
	cache->block_count = 0;
	cache->exit_count = 0;
	cache->used = cache->stubs_end;
	for (size_t i = 0; i < JIT_HASH_SIZE; i++)
		atomic_store_explicit(&cache->hash[i], NULL,
		    memory_order_relaxed);
	for (unsigned i = 0; i < jit->mem.count; i++) {
		struct x86_ram *ram = &jit->mem.ram[i];

		pages_free(jit, ram);
		for (size_t n = 0; n < ram->size / MEM_PAGE_SIZE; n++)
			ram->code[n] = 0;
	}
	for (unsigned i = 0; i < jit->engine.params.vcpus; i++) {
		for (unsigned s = 0; jit->vcpus[i] != NULL && s < X86_JUMP_SETS;
		     s++)
			jit_jumps_clear(jit->vcpus[i]->cpu, s);
	}
	cache->generation++;
}

void
jit_cache_reserve_locked(struct jit *jit, struct jit_vcpu *vcpu)
{
	struct jit_cache *cache = &jit->cache;

	if (cache->size - cache->used >= JIT_BLOCK_ROOM &&
	    cache->block_count < cache->block_room)
		return;
	world_alone(jit, vcpu);
	forget_all(jit);
	world_together(jit, vcpu);
}

/* ------------------------------------------------------------------ blocks */

void
jit_cache_claim_locked(struct jit *jit, struct jit_vcpu *vcpu, gpa_t gpa)
{
	struct x86_ram *ram = x86_ram_find(&jit->mem, gpa);
	size_t page = (gpa - ram->gpa) / MEM_PAGE_SIZE;
	uint32_t writers;

	if (ram->code[page])
		return;
	ram->code[page] = 1;
	/* Pairs with tlb_enter() and wrote() of the memory unit. */
	atomic_thread_fence(memory_order_seq_cst);
	writers = atomic_load(&ram->writers[page]);
	if (writers & BIT(vcpu->vcpu.id))
		x86_tlb_flush_writes(vcpu->cpu);
	if (writers & ~(uint32_t)BIT(vcpu->vcpu.id)) {
		world_alone(jit, vcpu);
		for (unsigned i = 0; i < jit->engine.params.vcpus; i++) {
			if (jit->vcpus[i] != NULL && (writers & BIT(i)))
				x86_tlb_flush_writes(jit->vcpus[i]->cpu);
		}
		world_together(jit, vcpu);
	}
	atomic_fetch_and(&ram->writers[page], ~writers);
}

static uint64_t
part_lines(const struct jit_part *part)
{
	return (UINT64_MAX << (part->first / LINE)) &
	    (UINT64_MAX >> (63 - part->last / LINE));
}

static void
part_add(struct jit *jit, struct jit_block *block, gpa_t gpa, unsigned first,
    unsigned len)
{
	struct x86_ram *ram = x86_ram_find(&jit->mem, gpa);
	struct jit_page **page = page_slot(jit, ram, gpa);
	struct jit_part *part = &block->part[block->parts++];

	if (*page == NULL)
		*page = xcalloc(1, sizeof(**page));
	*part = (struct jit_part) {
		.next = (*page)->parts,
		.block = block,
		.page = gpa,
		.first = (uint16_t)first,
		.last = (uint16_t)(first + len - 1),
	};
	(*page)->parts = part;
	(*page)->lines |= part_lines(part);
}

void
jit_cache_add_locked(struct jit *jit, struct jit_block *block, gpa_t gpa2)
{
	struct jit_cache *cache = &jit->cache;
	unsigned h = hash(block->gpa, block->mode);
	unsigned off = block->gpa % MEM_PAGE_SIZE;
	unsigned here = MIN(block->len, MEM_PAGE_SIZE - off);

	block->incoming = JIT_NO_EXIT;
	part_add(jit, block, block->gpa - off, off, here);
	if (here < block->len)
		part_add(jit, block, gpa2, 0, block->len - here);
	cache->made++;
	cache->blocks[cache->block_count] = block;
	/* A signal handler sees it only when it is complete. */
	atomic_fetch_add_explicit(&cache->block_count, 1, memory_order_release);
	block->next = cache->hash[h];
	atomic_store_explicit(&cache->hash[h], block, memory_order_release);
}

uint32_t
jit_cache_exit_locked(struct jit *jit, uint8_t *field, gpa_t gpa)
{
	struct jit_cache *cache = &jit->cache;

	if (cache->exit_count == cache->exit_room) {
		cache->exit_room = MAX(2 * cache->exit_room, 1024UL);
		cache->exits = xreallocarray(cache->exits, cache->exit_room,
		    sizeof(cache->exits[0]));
	}
	cache->exits[cache->exit_count] = (struct jit_exit) {
		.field = field,
		.unlinked = le32_load(field),
		.page = gpa / MEM_PAGE_SIZE,
	};
	return (uint32_t)cache->exit_count++;
}

/* Aligned, so others execute the old jump or the new one. */
static void
exit_set(const struct jit_exit *exit, uint32_t rel)
{
	__atomic_store_n((uint32_t *)(void *)exit->field, rel,
	    __ATOMIC_RELEASE);
}

void
jit_cache_link(struct jit *jit, uint64_t generation, uint32_t n,
    struct jit_block *to)
{
	struct jit_cache *cache = &jit->cache;

	code_lock_take(jit);
	/* While we waited all of it may have been forgotten. */
	if (cache->generation == generation && !to->dead) {
		struct jit_exit *exit = &cache->exits[n];
		const uint8_t *from = cache->rx + (exit->field - cache->rw) + 4;

		/* Another vCPU may have done it. */
		if (le32_load(exit->field) == exit->unlinked &&
		    to->gpa / MEM_PAGE_SIZE == exit->page) {
			exit->incoming = to->incoming;
			to->incoming = n;
			exit_set(exit, (uint32_t)(to->entry - from));
		}
	}
	code_lock_drop(jit);
}

/* ------------------------------------------------------------ invalidation */

static void
block_kill(struct jit *jit, struct jit_block *block)
{
	struct jit_cache *cache = &jit->cache;
	_Atomic(struct jit_block *) *head =
	    &cache->hash[hash(block->gpa, block->mode)];
	uint8_t *entry = cache->rw + (block->entry - cache->rx);
	uint32_t rel = (uint32_t)(block->bail - (block->entry + 5));
	/* jmp bail; nop */
	uint64_t insn = OP_JMP | (uint64_t)rel << 8 | 0x001f0fULL << 40;

	if (*head == block) {
		atomic_store_explicit(head, block->next, memory_order_release);
	} else {
		struct jit_block *b = *head;

		while (b->next != block)
			b = b->next;
		__atomic_store_n(&b->next, block->next, __ATOMIC_RELEASE);
	}
	block->dead = true;
	cache->killed++;
	for (uint32_t n = block->incoming; n != JIT_NO_EXIT;
	     n = cache->exits[n].incoming)
		exit_set(&cache->exits[n], cache->exits[n].unlinked);
	__atomic_store_n((uint64_t *)(void *)entry, insn, __ATOMIC_RELEASE);
}

/* The block's part in another page than `here` is no longer of that page. */
static void
part_unlink_other(struct jit *jit, struct jit_block *block,
    const struct jit_part *here)
{
	for (unsigned i = 0; i < block->parts; i++) {
		struct jit_part *part = &block->part[i], **at;
		struct jit_page *page;

		if (part == here)
			continue;
		page = *page_slot(jit, x86_ram_find(&jit->mem, part->page),
		    part->page);
		for (at = &page->parts; *at != part; at = &(*at)->next)
			;
		*at = part->next;
	}
}

/* [first, last] are offsets in the page. */
static void
page_wrote(struct jit *jit, struct x86_ram *ram, gpa_t gpa, unsigned first,
    unsigned last)
{
	struct jit_page *page = *page_slot(jit, ram, gpa);
	uint64_t lines =
	    (UINT64_MAX << (first / LINE)) & (UINT64_MAX >> (63 - last / LINE));
	struct jit_part **at;

	if (page != NULL && (page->lines & lines)) {
		page->lines = 0;
		at = &page->parts;
		while (*at != NULL) {
			struct jit_part *part = *at;

			if (first <= part->last && part->first <= last) {
				*at = part->next;
				part_unlink_other(jit, part->block, part);
				block_kill(jit, part->block);
			} else {
				page->lines |= part_lines(part);
				at = &part->next;
			}
		}
	}
	if (page == NULL || page->parts == NULL)
		ram->code[(gpa - ram->gpa) / MEM_PAGE_SIZE] = 0;
}

void
jit_cache_wrote(struct jit *jit, gpa_t gpa, uint64_t len)
{
	while (len > 0) {
		struct x86_ram *ram = x86_ram_find(&jit->mem, gpa);
		unsigned off = gpa % MEM_PAGE_SIZE;
		uint64_t piece = MIN(len, MEM_PAGE_SIZE - off);

		/* The writer has a barrier behind its store. */
		if (ram != NULL &&
		    ram->code[(gpa - ram->gpa) / MEM_PAGE_SIZE]) {
			code_lock_take(jit);
			page_wrote(jit, ram, gpa, off,
			    off + (unsigned)piece - 1);
			code_lock_drop(jit);
		}
		gpa += piece;
		len -= piece;
	}
}

/* ------------------------------------------------------------------ places */

bool
jit_cache_place(const struct jit *jit, const uint8_t *host, uint16_t *guest)
{
	const struct jit_cache *cache = &jit->cache;
	size_t low = 0,
	       high = atomic_load_explicit(&cache->block_count,
		   memory_order_acquire);
	const struct jit_block *block;
	unsigned n;

	/* The last one that begins at or before host. */
	while (low < high) {
		size_t mid = (low + high) / 2;

		if (cache->blocks[mid]->entry <= host)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return false;
	block = cache->blocks[low - 1];
	if (host >= block->end)
		return false;
	for (n = block->insns; n > 0; n--) {
		if (block->entry + block->places[n - 1].host <= host)
			break;
	}
	if (n == 0)
		return false;
	*guest = block->places[n - 1].guest;
	return true;
}

/* -------------------------------------------------------------------- life */

int
jit_cache_init(struct jit *jit, struct err *err)
{
	struct jit_cache *cache = &jit->cache;

	cache->size = jit->engine.params.soft.cache_size;
	if (cache->size == 0)
		cache->size = CACHE_SIZE;
	cache->fd = memfd_create("jit", MFD_CLOEXEC);
	if (cache->fd < 0 || ftruncate(cache->fd, (off_t)cache->size) != 0)
		return err_set_errno(err, -errno,
		    "jit: no memory for translated code");
	cache->rw = mmap(NULL, cache->size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    cache->fd, 0);
	cache->rx = mmap(NULL, cache->size, PROT_READ | PROT_EXEC, MAP_SHARED,
	    cache->fd, 0);
	cache->block_room = cache->size / 128;
	cache->blocks = mmap(NULL, cache->block_room * sizeof(cache->blocks[0]),
	    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
	    -1, 0);
	if (cache->rw == MAP_FAILED || cache->rx == MAP_FAILED ||
	    (void *)cache->blocks == MAP_FAILED)
		return err_set_errno(err, -errno,
		    "jit: cannot map memory for translated code, to write and "
		    "to execute");
	jit_stubs_make(jit);
	return 0;
}

void
jit_cache_forget_region(struct jit *jit, const struct x86_ram *ram)
{
	pages_free(jit, ram);
	free(jit->cache.pages[ram->slot]);
	jit->cache.pages[ram->slot] = NULL;
}

void
jit_cache_fini(struct jit *jit)
{
	struct jit_cache *cache = &jit->cache;

	for (size_t i = 0; i < cache->block_count; i++)
		block_free(cache->blocks[i]);
	free(cache->exits);
	if (cache->rw != NULL && cache->rw != MAP_FAILED)
		munmap(cache->rw, cache->size);
	if (cache->rx != NULL && cache->rx != MAP_FAILED)
		munmap((void *)(uintptr_t)cache->rx, cache->size);
	if (cache->blocks != NULL && (void *)cache->blocks != MAP_FAILED)
		munmap(cache->blocks,
		    cache->block_room * sizeof(cache->blocks[0]));
	if (cache->size != 0 && cache->fd >= 0)
		close(cache->fd);
}
