/*
 * The memory unit: page tables, the TLB, and accesses of all kinds.
 *
 * Models       Intel SDM volume 3, chapter 4: no paging, 32-bit paging with
 *              PSE and PSE-36, PAE, 4-level paging with 2 MiB and 1 GiB pages; write
 *              protection, NX, SMEP, SMAP; accessed and dirty bits set by
 *              locked updates.
 * Leaves out   protection keys and 5-level paging, neither of which our CPUID
 *              offers; memory types; instruction fetches from devices, which
 *              read ones.
 * TLB          A tag is there only if an access may go straight to memory.  A
 *              write tag needs a page that is RAM, writable, dirty, not code.
 *              A flush clears only views that were used; one that spares global
 *              pages, only views that have others.  Large pages enter in pieces
 *              of 4 KiB, and the range they span is remembered, so that INVLPG
 *              of one can forget all pieces.
 * Code pages   Every store that takes the long way looks, after a full
 *              barrier, whether its page holds translated code.  The
 *              translator marks the page, with a barrier, before it reads the
 *              bytes: so one of both sees the other.
 */
#include "engine/x86/debug.h"
#include "engine/x86/lapic.h"
#include "engine/x86/mmu.h"

/* Page table entries */
#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_G BIT(8)
#define PTE_NX BIT(63)
#define PTE_ADDR 0x000ffffffffff000ULL

#define CR3_PAE_BASE 0xffffffe0u
#define PDPTE_RESERVED 0x1e6u /* bits 8-5, 2-1 of a PDPTE in PAE mode */

#define PAGE_SIZE MEM_PAGE_SIZE
#define PAGE_MASK (~(uint64_t)(PAGE_SIZE - 1))

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

/* How an access looks at memory. */
struct look {
	enum access access;
	bool user; /* CPL 3, and no implicit supervisor access */
	bool smap; /* user pages are forbidden to supervisor data accesses */
	bool no_effect; /* a debugger: set no bits */
};

struct page {
	gpa_t gpa;     /* of the 4 KiB page */
	bool writable; /* by this look */
	bool dirty;
	bool global;
	uint64_t size; /* 4 KiB, or what the large page spans */
};

/* Linear addresses of the program; of the processor itself (GDT, TSS ...). */
static uint64_t
lin_mask(const struct x86_cpu *cpu)
{
	return cpu->code == X86_CODE64 ? UINT64_MAX : UINT32_MAX;
}

static uint64_t
system_mask(const struct x86_cpu *cpu)
{
	return x86_long_mode(cpu) ? UINT64_MAX : UINT32_MAX;
}

static struct look
look_of(const struct x86_cpu *cpu, enum x86_view view, enum access access)
{
	return (struct look) {
		.access = access,
		.user = view == X86_VIEW_USER,
		.smap = view == X86_VIEW_KERNEL,
	};
}

/* ----------------------------------------------------------- page tables */

/* Bits that must be zero in an entry that is present. */
static uint64_t
reserved_bits(const struct x86_cpu *cpu)
{
	uint64_t rsvd = PTE_ADDR & ~(BIT(cpu->phys_bits) - 1);

	if (!(cpu->efer & X86_EFER_NXE))
		rsvd |= PTE_NX;
	if (!x86_long_mode(cpu)) /* PAE: bits 62-52 */
		rsvd |= 0x7ff0000000000000ULL;
	return rsvd;
}

/* A table's entry: its place in memory, or NULL outside of memory. */
static void *
entry_place(const struct x86_cpu *cpu, gpa_t gpa)
{
	struct x86_ram *ram = x86_ram_find(cpu->mem, gpa);

	return ram != NULL ? ram->host + (gpa - ram->gpa) : NULL;
}

static uint64_t
entry_read(const void *place, unsigned size)
{
	if (place == NULL)
		return UINT64_MAX; /* as a bus without a device */
	if (size == 4)
		return __atomic_load_n((const uint32_t *)place,
		    __ATOMIC_ACQUIRE);
	return __atomic_load_n((const uint64_t *)place, __ATOMIC_ACQUIRE);
}

/* Set bits in an entry unless it has changed meanwhile. */
static bool
entry_mark(struct x86_cpu *cpu, gpa_t gpa, unsigned size, uint64_t old,
    uint64_t bits)
{
	struct x86_ram *ram = x86_ram_find(cpu->mem, gpa);
	void *place;
	bool done;

	if (ram == NULL || ram->rom)
		return true;
	place = ram->host + (gpa - ram->gpa);
	if (size == 4) {
		uint32_t was = (uint32_t)old;

		done = __atomic_compare_exchange_n((uint32_t *)place, &was,
		    (uint32_t)(old | bits), false, __ATOMIC_SEQ_CST,
		    __ATOMIC_SEQ_CST);
	} else {
		uint64_t was = old;

		done = __atomic_compare_exchange_n((uint64_t *)place, &was,
		    old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	if (done) {
		uint64_t page = (gpa - ram->gpa) / PAGE_SIZE;

		if (ram->code[page])
			cpu->host->wrote_code(cpu, gpa, size);
		if (cpu->mem->tracking)
			ram->dirty[page] = 1;
	}
	return done;
}

static uint32_t
fault_code(const struct x86_cpu *cpu, const struct look *look, uint32_t code)
{
	if (look->access == ACCESS_WRITE)
		code |= X86_PF_W;
	if (look->user)
		code |= X86_PF_U;
	if (look->access == ACCESS_FETCH &&
	    ((cpu->cr4 & X86_CR4_SMEP) ||
		((cpu->efer & X86_EFER_NXE) && (cpu->cr4 & X86_CR4_PAE))))
		code |= X86_PF_I;
	return code;
}

/* One level of one way to page. */
struct level {
	uint8_t shift; /* of the address bits that index it */
	uint8_t bits;  /* how many */
	bool large;    /* an entry with PS set is a page */
};

static const struct level levels_4[] = { { 39, 9, false }, { 30, 9, true },
	{ 21, 9, true }, { 12, 9, true } };
static const struct level levels_pae[] = { { 21, 9, true }, { 12, 9, true } };
static const struct level levels_32[] = { { 22, 10, true }, { 12, 10, true } };

/* Bits of a large page's entry that must be zero: below its address. */
static uint64_t
large_reserved(const struct level *level, unsigned size)
{
	if (size == 4)
		return BIT(21); /* the rest is PSE-36's part of the address */
	return (BIT(level->shift) - 1) & PTE_ADDR & ~BIT(12); /* 12: PAT */
}

/*
 * Walk the tables for linear address lin.  0, or the page fault's error code
 * with bit 31 set (an error code may be 0).
 */
#define WALK_FAULT 0x80000000u
static uint32_t
walk(struct x86_cpu *cpu, uint64_t lin, const struct look *look,
    struct page *page)
{
	const struct level *level;
	unsigned count, size = 8;
	uint64_t rsvd, table;
	gpa_t place[4];
	uint64_t entry[4];
	bool user, write, nx, large;
	unsigned i;

again:
	rsvd = reserved_bits(cpu);
	user = write = true;
	nx = large = false;
	if (x86_long_mode(cpu)) {
		level = levels_4;
		count = ARRAY_SIZE(levels_4);
		table = cpu->cr3 & PTE_ADDR;
	} else if (cpu->cr4 & X86_CR4_PAE) {
		uint64_t pdpte = cpu->pdpte[(lin >> 30) & 3];

		if (!(pdpte & PTE_P))
			return WALK_FAULT | fault_code(cpu, look, 0);
		level = levels_pae;
		count = ARRAY_SIZE(levels_pae);
		table = pdpte & PTE_ADDR;
	} else {
		level = levels_32;
		count = ARRAY_SIZE(levels_32);
		table = cpu->cr3 & 0xfffff000u;
		size = 4;
		rsvd = 0;
	}

	for (i = 0;; i++) {
		uint64_t index =
		    (lin >> level[i].shift) & (BIT(level[i].bits) - 1);
		uint64_t e;

		place[i] = table + index * size;
		e = entry_read(entry_place(cpu, place[i]), size);
		entry[i] = e;
		if (!(e & PTE_P))
			return WALK_FAULT | fault_code(cpu, look, 0);
		if (size == 4)
			e &= UINT32_MAX;
		large = i + 1 < count && (e & PTE_PS) &&
		    (size == 8 || (cpu->cr4 & X86_CR4_PSE));
		if ((e & rsvd) || (large && !level[i].large) ||
		    (large && (e & large_reserved(&level[i], size))))
			return WALK_FAULT |
			    fault_code(cpu, look, X86_PF_P | X86_PF_RSVD);
		user = user && (e & PTE_U);
		write = write && (e & PTE_W);
		nx = nx || (size == 8 && (e & PTE_NX));
		if (large || i + 1 == count)
			break;
		table = e & (size == 8 ? PTE_ADDR : 0xfffff000u);
	}

	page->size = BIT(level[i].shift);
	page->gpa = (entry[i] & (size == 8 ? PTE_ADDR : 0xfffff000u) &
			~(page->size - 1)) |
	    (lin & (page->size - 1) & PAGE_MASK);
	if (large && size == 4) /* PSE-36 */
		page->gpa |= ((entry[i] >> 13) & 0xff) << 32;
	if (look->user) {
		if (!user)
			goto denied;
	} else if (user) {
		if (look->access == ACCESS_FETCH ?
			(cpu->cr4 & X86_CR4_SMEP) != 0 :
			look->smap)
			goto denied;
	}
	page->writable = write || (!look->user && !(cpu->cr0 & X86_CR0_WP));
	if (look->access == ACCESS_WRITE && !page->writable)
		goto denied;
	if (look->access == ACCESS_FETCH && nx)
		goto denied;

	page->dirty = entry[i] & PTE_D;
	page->global = (entry[i] & PTE_G) && (cpu->cr4 & X86_CR4_PGE);
	if (look->no_effect)
		return 0;
	for (unsigned n = 0; n <= i; n++) {
		uint64_t bits = PTE_A;

		if (n == i && look->access == ACCESS_WRITE)
			bits |= PTE_D;
		if ((entry[n] & bits) == bits)
			continue;
		if (!entry_mark(cpu, place[n], size, entry[n], bits))
			goto again;
	}
	page->dirty = page->dirty || look->access == ACCESS_WRITE;
	return 0;

denied:
	return WALK_FAULT | fault_code(cpu, look, X86_PF_P);
}

/* Where lin leads by this look; raises the page fault. */
static void
translate(struct x86_cpu *cpu, uint64_t lin, const struct look *look,
    struct page *page)
{
	uint32_t code;

	if (!(cpu->cr0 & X86_CR0_PG)) {
		*page = (struct page) {
			.gpa = lin & PAGE_MASK,
			.writable = true,
			.dirty = true,
			.global = true,
			.size = PAGE_SIZE,
		};
		return;
	}
	code = walk(cpu, lin, look, page);
	if (code != 0)
		x86_raise_page_fault(cpu, lin, code & ~WALK_FAULT);
}

bool
x86_load_pdptes(struct x86_cpu *cpu, uint64_t cr3, uint64_t pdpte[4])
{
	uint64_t rsvd = PDPTE_RESERVED | ~(BIT(cpu->phys_bits) - 1);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t e =
		    entry_read(entry_place(cpu, (cr3 & CR3_PAE_BASE) + 8 * i),
			8);

		if ((e & PTE_P) && (e & rsvd))
			return false;
		pdpte[i] = e;
	}
	return true;
}

bool
x86_lookup(const struct x86_cpu *cpu, uint64_t lin, gpa_t *gpa)
{
	const struct look look = { .access = ACCESS_READ, .no_effect = true };
	struct page page;

	if (!(cpu->cr0 & X86_CR0_PG)) {
		*gpa = lin;
		return true;
	}
	/* Without effect nothing of the processor changes. */
	if (walk((struct x86_cpu *)cpu, lin, &look, &page) != 0)
		return false;
	*gpa = page.gpa | (lin & (PAGE_SIZE - 1));
	return true;
}

/* ------------------------------------------------------------------- TLB */

static void
clear_tags(uint64_t *tags)
{
	uint64_t *to = tags + 2, n = X86_TLB_SIZE - 2;

	tags[0] = tags[1] = x86_tlb_none(0);
	__asm__ volatile("rep stosq"
			 : "+D"(to), "+c"(n)
			 : "a"(x86_tlb_none(2))
			 : "memory");
}

void
x86_tlb_flush(struct x86_cpu *cpu, bool global)
{
	cpu->stat_tlb_flushes++;
	for (unsigned v = 0; v < X86_VIEWS; v++) {
		if (!(global ? cpu->tlb_used[v] : cpu->tlb_local[v]))
			continue;
		cpu->tlb_used[v] = false;
		cpu->tlb_local[v] = false;
		clear_tags(cpu->tlb[v].read);
		clear_tags(cpu->tlb[v].write);
	}
	for (unsigned i = 0; i < X86_ITLB_SIZE; i++) {
		if (global || !cpu->itlb[i].global)
			cpu->itlb[i].tag = X86_ITLB_NONE;
	}
	for (unsigned i = 0; global && i < X86_TLB_LARGE; i++) {
		cpu->tlb_large[i].first = UINT64_MAX;
		cpu->tlb_large[i].last = 0;
	}
	if (cpu->host != NULL && cpu->host->flushed != NULL)
		cpu->host->flushed(cpu, global);
}

/* Systems keep different things far apart: so do the ranges of large pages. */
static unsigned
large_piece(uint64_t lin)
{
	return (lin >> 39) % X86_TLB_LARGE;
}

void
x86_tlb_flush_page(struct x86_cpu *cpu, uint64_t lin)
{
	unsigned piece = large_piece(lin);
	unsigned i = (lin / PAGE_SIZE) % X86_TLB_SIZE;

	if (lin >= cpu->tlb_large[piece].first &&
	    lin <= cpu->tlb_large[piece].last) {
		x86_tlb_flush(cpu, true);
		return;
	}
	cpu->stat_tlb_flushes++;
	for (unsigned v = 0; v < X86_VIEWS; v++) {
		cpu->tlb[v].read[i] = x86_tlb_none(i);
		cpu->tlb[v].write[i] = x86_tlb_none(i);
	}
	cpu->itlb[(lin / PAGE_SIZE) % X86_ITLB_SIZE].tag = X86_ITLB_NONE;
	if (cpu->host->flushed_page != NULL)
		cpu->host->flushed_page(cpu, lin);
}

void
x86_tlb_flush_writes(struct x86_cpu *cpu)
{
	for (unsigned v = 0; v < X86_VIEWS; v++) {
		if (cpu->tlb_used[v])
			clear_tags(cpu->tlb[v].write);
	}
}

static void
large_note(struct x86_cpu *cpu, uint64_t lin, const struct page *page)
{
	unsigned piece = large_piece(lin);
	uint64_t first = lin & ~(page->size - 1);

	if (page->size == PAGE_SIZE)
		return;
	cpu->tlb_large[piece].first = MIN(cpu->tlb_large[piece].first, first);
	cpu->tlb_large[piece].last =
	    MAX(cpu->tlb_large[piece].last, first + page->size - 1);
}

/* Enter a page of memory; write: the access that led here was one. */
static void
tlb_enter(struct x86_cpu *cpu, enum x86_view view, uint64_t lin,
    const struct page *page, struct x86_ram *ram, bool write)
{
	struct x86_tlb *tlb = &cpu->tlb[view];
	unsigned i = (lin / PAGE_SIZE) % X86_TLB_SIZE;
	uint64_t tag = x86_tlb_tag(lin);
	uint64_t n = (page->gpa - ram->gpa) / PAGE_SIZE;

	cpu->stat_tlb_fills++;
	cpu->tlb_used[view] = true;
	if (!page->global)
		cpu->tlb_local[view] = true;
	large_note(cpu, lin, page);
	tlb->addend[i] =
	    (uint64_t)(uintptr_t)(ram->host + (page->gpa - ram->gpa)) -
	    (lin & PAGE_MASK);
	tlb->read[i] = tag;
	tlb->write[i] = x86_tlb_none(i);
	if (!page->writable || !page->dirty || ram->rom)
		return;
	if (cpu->mem->tracking) {
		/* A page that will be written unseen counts as written. */
		if (!write && !ram->dirty[n])
			return;
		ram->dirty[n] = 1;
	}
	if (!(ram->writers[n] & BIT(cpu->id)))
		atomic_fetch_or(&ram->writers[n], (uint32_t)BIT(cpu->id));
	tlb->write[i] = tag;
	/*
	 * We must be known as a writer before we look for code: the translator
	 * marks the page, then looks for writers and takes their tags away.
	 */
	atomic_thread_fence(memory_order_seq_cst);
	if (ram->code[n])
		tlb->write[i] = x86_tlb_none(i);
}

bool
x86_tlb_fill(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool write)
{
	enum x86_view view = cpu->view;
	struct look look =
	    look_of(cpu, view, write ? ACCESS_WRITE : ACCESS_READ);
	unsigned i = (lin / PAGE_SIZE) % X86_TLB_SIZE;
	struct page page;
	struct x86_ram *ram;

	if ((lin & (PAGE_SIZE - 1)) + size > PAGE_SIZE)
		return false;
	translate(cpu, lin, &look, &page);
	ram = x86_ram_find(cpu->mem, page.gpa);
	if (ram == NULL)
		return false;
	tlb_enter(cpu, view, lin, &page, ram, write);
	return !write || cpu->tlb[view].write[i] == x86_tlb_tag(lin);
}

/* ------------------------------------------------------------ one access */

/* The host's integers at any address, each in one access. */
typedef uint16_t __attribute__((aligned(1), may_alias)) any16;
typedef uint32_t __attribute__((aligned(1), may_alias)) any32;
typedef uint64_t __attribute__((aligned(1), may_alias)) any64;

GUEST_MAY_RACE static uint64_t
host_read(const void *p, unsigned size)
{
	switch (size) {
	case 1:
		return *(const volatile uint8_t *)p;
	case 2:
		return *(const volatile any16 *)p;
	case 4:
		return *(const volatile any32 *)p;
	default:
		return *(const volatile any64 *)p;
	}
}

GUEST_MAY_RACE static void
host_write(void *p, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		*(volatile uint8_t *)p = (uint8_t)value;
		break;
	case 2:
		*(volatile any16 *)p = (uint16_t)value;
		break;
	case 4:
		*(volatile any32 *)p = (uint32_t)value;
		break;
	default:
		*(volatile any64 *)p = value;
		break;
	}
}

/* RAM was written by the long way. */
static void
wrote(struct x86_cpu *cpu, struct x86_ram *ram, gpa_t gpa, unsigned len)
{
	uint64_t page = (gpa - ram->gpa) / PAGE_SIZE;

	/* Pairs with the translator's: see "Code pages" above. */
	atomic_thread_fence(memory_order_seq_cst);
	if (ram->code[page])
		cpu->host->wrote_code(cpu, gpa, len);
	if (cpu->mem->tracking)
		ram->dirty[page] = 1;
}

/* A device's memory, up to 8 bytes, in pieces within 8-byte boundaries. */
static void
device_access(struct x86_cpu *cpu, gpa_t gpa, bool write, unsigned size,
    uint64_t *value)
{
	cpu->stat_mmio++;
	if ((gpa & PAGE_MASK) == lapic_page(cpu->lapic)) {
		unsigned off = gpa & (PAGE_SIZE - 1);

		if (write)
			lapic_mmio_write(cpu->lapic, off, size, *value);
		else
			*value = lapic_mmio_read(cpu->lapic, off, size);
		return;
	}
	x86_fpu_put(cpu);
	if ((gpa & 7) + size <= 8) {
		cpu->host->mmio(cpu, gpa, write, size, value);
	} else {
		unsigned first = 8 - (gpa & 7);
		uint64_t rest = *value >> (8 * first);

		cpu->host->mmio(cpu, gpa, write, first, value);
		cpu->host->mmio(cpu, gpa + first, write, size - first, &rest);
		if (!write)
			*value =
			    (*value & size_mask(first)) | rest << (8 * first);
	}
}

/* The TLB's answer, or NULL. */
static uint8_t *
tlb_read(const struct x86_cpu *cpu, uint64_t lin, unsigned size,
    enum x86_view view)
{
	const struct x86_tlb *tlb = &cpu->tlb[view];
	unsigned i = (lin / PAGE_SIZE) % X86_TLB_SIZE;

	if (tlb->read[i] != x86_tlb_tag(lin + size - 1))
		return NULL;
	return (uint8_t *)(uintptr_t)(lin + tlb->addend[i]);
}

static uint8_t *
tlb_write(const struct x86_cpu *cpu, uint64_t lin, unsigned size,
    enum x86_view view)
{
	const struct x86_tlb *tlb = &cpu->tlb[view];
	unsigned i = (lin / PAGE_SIZE) % X86_TLB_SIZE;

	if (tlb->write[i] != x86_tlb_tag(lin + size - 1))
		return NULL;
	return (uint8_t *)(uintptr_t)(lin + tlb->addend[i]);
}

/* Within one page. */
static uint64_t
load_page(struct x86_cpu *cpu, uint64_t lin, unsigned size, enum x86_view view,
    enum access access)
{
	struct look look = look_of(cpu, view, access);
	struct page page;
	struct x86_ram *ram;
	uint64_t value = 0;
	gpa_t gpa;

	translate(cpu, lin, &look, &page);
	gpa = page.gpa | (lin & (PAGE_SIZE - 1));
	ram = x86_ram_find(cpu->mem, gpa);
	if (ram != NULL) {
		tlb_enter(cpu, view, lin, &page, ram, access == ACCESS_WRITE);
		return host_read(ram->host + (gpa - ram->gpa), size);
	}
	device_access(cpu, gpa, false, size, &value);
	return value & size_mask(size);
}

static void
store_page(struct x86_cpu *cpu, uint64_t lin, unsigned size, enum x86_view view,
    uint64_t value)
{
	struct look look = look_of(cpu, view, ACCESS_WRITE);
	struct page page;
	struct x86_ram *ram;
	gpa_t gpa;

	translate(cpu, lin, &look, &page);
	gpa = page.gpa | (lin & (PAGE_SIZE - 1));
	ram = x86_ram_find(cpu->mem, gpa);
	if (ram != NULL && !ram->rom) {
		tlb_enter(cpu, view, lin, &page, ram, true);
		host_write(ram->host + (gpa - ram->gpa), size, value);
		wrote(cpu, ram, gpa, size);
		return;
	}
	value &= size_mask(size);
	device_access(cpu, gpa, true, size, &value);
}

static bool
crosses(uint64_t lin, unsigned size)
{
	return (lin & (PAGE_SIZE - 1)) + size > PAGE_SIZE;
}

/* Both pages are looked at before either is accessed. */
static void
probe_pages(struct x86_cpu *cpu, uint64_t lin, unsigned len, enum x86_view view,
    enum access access, uint64_t mask)
{
	struct look look = look_of(cpu, view, access);
	struct page page;

	for (uint64_t done = 0; done < len;) {
		uint64_t at = (lin + done) & mask;

		translate(cpu, at, &look, &page);
		done += PAGE_SIZE - (at & (PAGE_SIZE - 1));
	}
}

/* The same for two pages that the TLB may know. */
static void
probe_crossing(struct x86_cpu *cpu, uint64_t lin, unsigned size,
    enum x86_view view, enum access access, uint64_t mask)
{
	uint64_t last = (lin + size - 1) & mask;
	bool known = access == ACCESS_WRITE ?
	    tlb_write(cpu, lin, 1, view) && tlb_write(cpu, last, 1, view) :
	    tlb_read(cpu, lin, 1, view) && tlb_read(cpu, last, 1, view);

	if (!known)
		probe_pages(cpu, lin, size, view, access, mask);
}

static uint64_t
load_slow(struct x86_cpu *cpu, uint64_t lin, unsigned size, enum x86_view view,
    enum access access, uint64_t mask)
{
	uint64_t value = 0;

	if (!crosses(lin, size))
		return load_page(cpu, lin, size, view, access);
	probe_crossing(cpu, lin, size, view, access, mask);
	for (unsigned i = 0; i < size; i++) {
		uint64_t at = (lin + i) & mask;
		const uint8_t *p = access == ACCESS_WRITE ?
		    tlb_write(cpu, at, 1, view) :
		    tlb_read(cpu, at, 1, view);

		value |= (p != NULL ? host_read(p, 1) :
				      load_page(cpu, at, 1, view, access))
		    << (8 * i);
	}
	return value;
}

static void
store_slow(struct x86_cpu *cpu, uint64_t lin, unsigned size, enum x86_view view,
    uint64_t value, uint64_t mask)
{
	if (!crosses(lin, size)) {
		store_page(cpu, lin, size, view, value);
		return;
	}
	probe_crossing(cpu, lin, size, view, ACCESS_WRITE, mask);
	for (unsigned i = 0; i < size; i++) {
		uint64_t at = (lin + i) & mask,
			 byte = (value >> (8 * i)) & 0xff;
		uint8_t *p = tlb_write(cpu, at, 1, view);

		if (p != NULL)
			host_write(p, 1, byte);
		else
			store_page(cpu, at, 1, view, byte);
	}
}

/* An instruction's own access. */
static void
watch(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool write)
{
	if (cpu->dr7 & X86_DR7_ENABLES)
		x86_debug_data(cpu, lin, size, write);
}

uint64_t
x86_load(struct x86_cpu *cpu, uint64_t lin, unsigned size)
{
	const uint8_t *p = tlb_read(cpu, lin, size, cpu->view);

	watch(cpu, lin, size, false);
	x86_check_aligned(cpu, lin, size);
	if (p != NULL)
		return host_read(p, size);
	return load_slow(cpu, lin, size, cpu->view, ACCESS_READ, lin_mask(cpu));
}

void
x86_store(struct x86_cpu *cpu, uint64_t lin, unsigned size, uint64_t value)
{
	uint8_t *p = tlb_write(cpu, lin, size, cpu->view);

	watch(cpu, lin, size, true);
	x86_check_aligned(cpu, lin, size);
	if (p != NULL)
		host_write(p, size, value);
	else
		store_slow(cpu, lin, size, cpu->view, value, lin_mask(cpu));
}

uint64_t
x86_load_rw(struct x86_cpu *cpu, uint64_t lin, unsigned size)
{
	const uint8_t *p = tlb_write(cpu, lin, size, cpu->view);

	x86_check_aligned(cpu, lin, size);
	if (p != NULL)
		return host_read(p, size);
	return load_slow(cpu, lin, size, cpu->view, ACCESS_WRITE,
	    lin_mask(cpu));
}

/* Implicit supervisor accesses: SMAP looks at CPL, so AC does not help. */
static enum x86_view
system_view(const struct x86_cpu *cpu)
{
	if (!(cpu->cr4 & X86_CR4_SMAP) ||
	    (cpu->cpl != 3 && (cpu->rflags & X86_AC)))
		return X86_VIEW_KERNEL_AC;
	return X86_VIEW_KERNEL;
}

uint64_t
x86_load_sys(struct x86_cpu *cpu, uint64_t lin, unsigned size)
{
	enum x86_view view = system_view(cpu);
	const uint8_t *p = tlb_read(cpu, lin, size, view);

	if (p != NULL)
		return host_read(p, size);
	return load_slow(cpu, lin, size, view, ACCESS_READ, system_mask(cpu));
}

void
x86_store_sys(struct x86_cpu *cpu, uint64_t lin, unsigned size, uint64_t value)
{
	enum x86_view view = system_view(cpu);
	uint8_t *p = tlb_write(cpu, lin, size, view);

	if (p != NULL)
		host_write(p, size, value);
	else
		store_slow(cpu, lin, size, view, value, system_mask(cpu));
}

/* ---------------------------------------------------------- many bytes */

void
x86_probe(struct x86_cpu *cpu, uint64_t lin, unsigned len, bool write)
{
	if (len == 0)
		return;
	if (!crosses(lin, len) &&
	    (write ? tlb_write(cpu, lin, len, cpu->view) :
		     tlb_read(cpu, lin, len, cpu->view)) != NULL)
		return;
	probe_pages(cpu, lin, len, cpu->view,
	    write ? ACCESS_WRITE : ACCESS_READ, lin_mask(cpu));
}

/* As large as alignment and the rest allow. */
static unsigned
piece_size(uint64_t lin, unsigned left)
{
	unsigned size = 8;

	while (size > left || (lin & (size - 1)))
		size /= 2;
	return size;
}

void
x86_load_bytes(struct x86_cpu *cpu, uint64_t lin, void *buf, unsigned len)
{
	uint8_t *to = buf;

	x86_probe(cpu, lin, len, false);
	while (len > 0) {
		unsigned size = piece_size(lin, len);

		host_write(to, size, x86_load(cpu, lin, size));
		lin = (lin + size) & lin_mask(cpu);
		to += size;
		len -= size;
	}
}

void
x86_store_bytes(struct x86_cpu *cpu, uint64_t lin, const void *buf,
    unsigned len)
{
	const uint8_t *from = buf;

	x86_probe(cpu, lin, len, true);
	while (len > 0) {
		unsigned size = piece_size(lin, len);

		x86_store(cpu, lin, size, host_read(from, size));
		lin = (lin + size) & lin_mask(cpu);
		from += size;
		len -= size;
	}
}

void *
x86_rmw_ptr(struct x86_cpu *cpu, uint64_t lin, unsigned size)
{
	uint8_t *p = tlb_write(cpu, lin, size, cpu->view);
	struct look look;
	struct page page;
	struct x86_ram *ram;

	watch(cpu, lin, size, true);
	x86_check_aligned(cpu, lin, size);
	cpu->rmw_told = p == NULL;
	if (p != NULL)
		return p;
	if (crosses(lin, size))
		return NULL;
	look = look_of(cpu, cpu->view, ACCESS_WRITE);
	translate(cpu, lin, &look, &page);
	ram = x86_ram_find(cpu->mem, page.gpa);
	if (ram == NULL || ram->rom)
		return NULL;
	tlb_enter(cpu, cpu->view, lin, &page, ram, true);
	cpu->rmw_gpa = page.gpa;
	return ram->host + (page.gpa - ram->gpa) + (lin & (PAGE_SIZE - 1));
}

void
x86_rmw_done(struct x86_cpu *cpu, uint64_t lin, unsigned size)
{
	/* Found by a write tag: nobody needs to know. */
	if (cpu->rmw_told)
		wrote(cpu, x86_ram_find(cpu->mem, cpu->rmw_gpa),
		    cpu->rmw_gpa | (lin & (PAGE_SIZE - 1)), size);
}

void *
x86_run_ptr(struct x86_cpu *cpu, uint64_t lin, bool write, uint64_t *len)
{
	uint64_t room = PAGE_SIZE - (lin & (PAGE_SIZE - 1));

	if (cpu->dr7 & X86_DR7_ENABLES)
		return NULL;
	*len = MIN(*len, room);
	if (write)
		return x86_rmw_ptr(cpu, lin, 1);
	if (tlb_read(cpu, lin, 1, cpu->view) == NULL &&
	    !x86_tlb_fill(cpu, lin, 1, false))
		return NULL;
	return tlb_read(cpu, lin, 1, cpu->view);
}

/* ------------------------------------------------------------------ code */

static uint64_t
itlb_tag(const struct x86_cpu *cpu, uint64_t lin)
{
	return (lin & PAGE_MASK) | (cpu->cpl == 3 ? 2 : 0);
}

const uint8_t *
x86_code_page(struct x86_cpu *cpu, uint64_t lin, gpa_t *gpa)
{
	const struct look look = {
		.access = ACCESS_FETCH,
		.user = cpu->cpl == 3,
	};
	struct x86_itlb_entry *e =
	    &cpu->itlb[(lin / PAGE_SIZE) % X86_ITLB_SIZE];
	uint64_t tag = itlb_tag(cpu, lin);
	struct page page;
	struct x86_ram *ram;

	if (e->tag == tag) {
		*gpa = e->gpa;
		return e->host;
	}
	translate(cpu, lin, &look, &page);
	large_note(cpu, lin, &page);
	*gpa = page.gpa;
	ram = x86_ram_find(cpu->mem, page.gpa);
	if (ram == NULL)
		return NULL;
	e->gpa = page.gpa;
	e->global = page.global;
	e->host = ram->host + (page.gpa - ram->gpa);
	e->tag = tag;
	return e->host;
}

/*
 * Can code at lin be fetched without a fault?  What is remembered counts, as it
 * does for x86_code_page(), whatever the tables have come to say.
 */
static bool
can_fetch(struct x86_cpu *cpu, uint64_t lin)
{
	const struct look look = {
		.access = ACCESS_FETCH,
		.user = cpu->cpl == 3,
	};
	struct page page;

	return !(cpu->cr0 & X86_CR0_PG) ||
	    cpu->itlb[(lin / PAGE_SIZE) % X86_ITLB_SIZE].tag ==
	    itlb_tag(cpu, lin) ||
	    walk(cpu, lin, &look, &page) == 0;
}

const uint8_t *
x86_code_known(const struct x86_cpu *cpu, uint64_t lin, gpa_t *gpa)
{
	const struct x86_itlb_entry *e =
	    &cpu->itlb[(lin / PAGE_SIZE) % X86_ITLB_SIZE];

	if (e->tag != ((lin & PAGE_MASK) | (cpu->cpl == 3 ? 2 : 0)))
		return NULL;
	*gpa = e->gpa;
	return e->host;
}

bool
x86_code_is_global(const struct x86_cpu *cpu, uint64_t lin)
{
	return cpu->itlb[(lin / PAGE_SIZE) % X86_ITLB_SIZE].global;
}

void
x86_fetch_fault(struct x86_cpu *cpu, uint64_t lin)
{
	gpa_t gpa;

	(void)x86_code_page(cpu, lin, &gpa);
}

unsigned
x86_fetch(struct x86_cpu *cpu, uint64_t lin, uint8_t *buf)
{
	unsigned room = PAGE_SIZE - (unsigned)(lin & (PAGE_SIZE - 1));
	unsigned n = MIN(room, X86_INSN_MAX);
	gpa_t gpa;
	const uint8_t *page = x86_code_page(cpu, lin, &gpa);

	if (page != NULL && n == X86_INSN_MAX) {
		const uint8_t *from = page + (lin & (PAGE_SIZE - 1));

		host_write(buf, 8, host_read(from, 8));
		host_write(buf + 7, 8, host_read(from + 7, 8));
		return n;
	}
	for (unsigned i = 0; i < n; i++)
		buf[i] =
		    page != NULL ? page[(lin & (PAGE_SIZE - 1)) + i] : 0xff;
	if (n < X86_INSN_MAX) {
		uint64_t next = (lin + n) & lin_mask(cpu);

		if (!can_fetch(cpu, next))
			return n;
		page = x86_code_page(cpu, next, &gpa);
		for (unsigned i = n; i < X86_INSN_MAX; i++)
			buf[i] = page != NULL ? page[i - n] : 0xff;
	}
	return X86_INSN_MAX;
}
