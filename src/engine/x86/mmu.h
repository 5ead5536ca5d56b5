/*
 * The memory unit: linear addresses to guest memory, with everything that can
 * happen on the way.
 *
 * All of these raise (cpu.h) the page fault that the access deserves, and reach
 * devices through the host's mmio where there is no memory.  Addresses are
 * linear: segmentation is segment.h's.  In code that is not 64-bit a linear
 * address has 32 bits, and an access may wrap around.
 *
 * Accesses use the processor's current view (CPL, AC), unless called _sys:
 * those are the implicit supervisor accesses to GDT, IDT, LDT and TSS.
 */
#ifndef ENGINE_X86_MMU_H
#define ENGINE_X86_MMU_H

#include "engine/x86/cpu.h"

/*
 * 1, 2, 4 or 8 bytes, aligned to that if alignment is checked.  A write that
 * crosses pages writes all or nothing.
 */
uint64_t x86_load(struct x86_cpu *cpu, uint64_t lin, unsigned size);
void x86_store(struct x86_cpu *cpu, uint64_t lin, unsigned size,
    uint64_t value);
/* Load for a store that will follow: faults as a write does. */
uint64_t x86_load_rw(struct x86_cpu *cpu, uint64_t lin, unsigned size);
uint64_t x86_load_sys(struct x86_cpu *cpu, uint64_t lin, unsigned size);
void x86_store_sys(struct x86_cpu *cpu, uint64_t lin, unsigned size,
    uint64_t value);

/* Any length up to 4096; all pages are checked before the first byte moves. */
void x86_load_bytes(struct x86_cpu *cpu, uint64_t lin, void *buf, unsigned len);
void x86_store_bytes(struct x86_cpu *cpu, uint64_t lin, const void *buf,
    unsigned len);
/* Raise what an access to all of it would raise. */
void x86_probe(struct x86_cpu *cpu, uint64_t lin, unsigned len, bool write);

/*
 * The host's place of size (1 to 16) bytes in RAM for a read-modify-write; the
 * caller calls x86_rmw_done() after writing.  NULL for a device's memory, for
 * ROM, or across pages: then load and store between exclusive_begin and _end.
 */
void *x86_rmw_ptr(struct x86_cpu *cpu, uint64_t lin, unsigned size);
void x86_rmw_done(struct x86_cpu *cpu, uint64_t lin, unsigned size);

/*
 * For REP: the host's place of the page run that begins at lin, and in *len (in:
 * bytes wanted) how many lie in this page.  NULL where it must go piece by
 * piece, as under breakpoints.  After writing, x86_rmw_done() for what was
 * written.
 */
void *x86_run_ptr(struct x86_cpu *cpu, uint64_t lin, bool write, uint64_t *len);

/*
 * Code at linear address lin: up to 15 bytes into buf, the number that can be
 * fetched; the page fault of the first byte is raised, later ones end the run.
 */
unsigned x86_fetch(struct x86_cpu *cpu, uint64_t lin, uint8_t *buf);
/* Raise the fault that fetching at lin meets: for a run that ended early. */
void x86_fetch_fault(struct x86_cpu *cpu, uint64_t lin);
/* The same, if the TLB of code has it: nothing is looked up, nothing raised. */
const uint8_t *x86_code_known(const struct x86_cpu *cpu, uint64_t lin,
    gpa_t *gpa);
/* Is the page of code at lin global?  After x86_code_page() of it. */
bool x86_code_is_global(const struct x86_cpu *cpu, uint64_t lin);
/* The page of code at lin: its memory and address.  NULL: not in memory. */
const uint8_t *x86_code_page(struct x86_cpu *cpu, uint64_t lin, gpa_t *gpa);

/* Changes of CR3 and the like: forget translations. */
void x86_tlb_flush(struct x86_cpu *cpu, bool global);
void x86_tlb_flush_page(struct x86_cpu *cpu, uint64_t lin);
/* Forget all write tags: pages have become code. */
void x86_tlb_flush_writes(struct x86_cpu *cpu);

/*
 * The slow path of translated code: make lin usable for reads or writes of size
 * bytes by the current view.  False: emulate the access (a device, two pages,
 * translated code on the page).
 */
bool x86_tlb_fill(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool write);

/* PAE: the four PDPTEs at cr3; false if one has reserved bits set (#GP). */
bool x86_load_pdptes(struct x86_cpu *cpu, uint64_t cr3, uint64_t pdpte[4]);

/* A debugger's look: linear to physical without side effects.  False: none. */
bool x86_lookup(const struct x86_cpu *cpu, uint64_t lin, gpa_t *gpa);

/* ---- the memory of a machine, as all its processors see it ---------------- */

/*
 * One bit array over each region's pages says which pages hold translated
 * code: set under the translator's lock, read by every store to a page that
 * has no write tag.
 */
struct x86_ram {
	gpa_t gpa;
	uint64_t size;
	uint8_t *host;
	bool rom;
	unsigned slot; /* of the region: finds the translator's own arrays */
	_Atomic uint8_t *code;     /* owned: a byte a page; not 0: has code */
	_Atomic uint8_t *dirty;    /* owned: a byte a page, while tracking */
	_Atomic uint32_t *writers; /* owned: vCPUs that may have a write tag */
};
#define X86_RAMS_MAX 32
struct x86_mem {
	struct x86_ram ram[X86_RAMS_MAX];
	unsigned count;
	_Atomic bool tracking; /* of dirty pages */
};

static inline struct x86_ram *
x86_ram_find(struct x86_mem *mem, gpa_t gpa)
{
	for (unsigned i = 0; i < mem->count; i++) {
		struct x86_ram *ram = &mem->ram[i];

		if (gpa - ram->gpa < ram->size)
			return ram;
	}
	return NULL;
}

#endif
