/*
 * The memory unit: page tables of every mode, rights, the bits that a walk sets,
 * the TLB, accesses that cross pages or leave memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "engine/x86/lapic.h"
#include "engine/x86/mmu.h"

#define RAM_SIZE (4 * MIB)
#define ROM_GPA 0xff000000u
#define ROM_SIZE (64 * KIB)

/* Page table entries */
#define P 0x1u
#define W 0x2u
#define U 0x4u
#define A 0x20u
#define D 0x40u
#define PS 0x80u
#define NX BIT(63)

struct unit {
	struct x86_cpu *cpu;
	struct x86_mem mem;
	struct x86_host host;
	struct lapic_bus *bus;
	/* What devices were asked for. */
	gpa_t device_gpa[8];
	unsigned device_size[8];
	uint64_t device_value[8];
	unsigned device_calls;
	unsigned code_calls;
	gpa_t code_gpa;
	uint64_t device_reads;
};

static struct unit *
unit_of(struct x86_cpu *cpu)
{
	return cpu->owner;
}

static void
host_mmio(struct x86_cpu *cpu, gpa_t gpa, bool write, unsigned size, void *data)
{
	struct unit *u = unit_of(cpu);
	unsigned n = u->device_calls++ % 8;

	u->device_gpa[n] = gpa;
	u->device_size[n] = size;
	u->device_value[n] = 0;
	if (write)
		memcpy(&u->device_value[n], data, size);
	else
		memcpy(data, &u->device_reads, size);
}

static void
host_wrote_code(struct x86_cpu *cpu, gpa_t gpa, unsigned len)
{
	struct unit *u = unit_of(cpu);

	u->code_calls++;
	u->code_gpa = gpa;
}

static uint64_t
host_tsc(struct x86_cpu *cpu)
{
	return 0;
}

static void
apic_nothing(void *arg)
{
}

static uint64_t
apic_zero(void *arg)
{
	return 0;
}

static void
apic_timer(void *arg, uint64_t ns)
{
}

static const struct lapic_ops apic_ops = {
	.now = apic_zero,
	.tsc = apic_zero,
	.set_timer = apic_timer,
	.notify = apic_nothing,
};

static void
add_ram(struct unit *u, gpa_t gpa, uint64_t size, bool rom)
{
	u->mem.ram[u->mem.count++] = (struct x86_ram) {
		.gpa = gpa,
		.size = size,
		.host = xcalloc(1, size),
		.rom = rom,
		.code = xcalloc(size / MEM_PAGE_SIZE, 1),
		.dirty = xcalloc(size / MEM_PAGE_SIZE, 1),
		.writers = xcalloc(size / MEM_PAGE_SIZE, 4),
	};
}

static int
setup(void **state)
{
	struct unit *u = xcalloc(1, sizeof(*u));
	struct cpuid_table *cpuid = xcalloc(1, sizeof(*cpuid));
	struct msr_params msr = { .vendor = CPUID_AMD };

	cpuid_host(cpuid);
	u->host = (struct x86_host) {
		.mmio = host_mmio,
		.wrote_code = host_wrote_code,
		.tsc = host_tsc,
	};
	u->cpu = x86_cpu_new(0, cpuid, &msr, true);
	free(cpuid);
	u->cpu->host = &u->host;
	u->cpu->owner = u;
	u->cpu->mem = &u->mem;
	u->bus = lapic_bus_new(1);
	u->cpu->lapic = lapic_new(u->bus, 0, &apic_ops, u);
	add_ram(u, 0, RAM_SIZE, false);
	add_ram(u, ROM_GPA, ROM_SIZE, true);
	*state = u;
	return 0;
}

static int
teardown(void **state)
{
	struct unit *u = *state;

	for (unsigned i = 0; i < u->mem.count; i++) {
		free(u->mem.ram[i].host);
		free(u->mem.ram[i].code);
		free(u->mem.ram[i].dirty);
		free(u->mem.ram[i].writers);
	}
	lapic_free(u->cpu->lapic);
	lapic_bus_free(u->bus);
	x86_cpu_free(u->cpu);
	free(u);
	return 0;
}

static uint8_t *
ram(struct unit *u, gpa_t gpa)
{
	return u->mem.ram[0].host + gpa;
}

static void
put64(struct unit *u, gpa_t gpa, uint64_t value)
{
	memcpy(ram(u, gpa), &value, 8);
}

static uint64_t
get64(struct unit *u, gpa_t gpa)
{
	uint64_t value;

	memcpy(&value, ram(u, gpa), 8);
	return value;
}

static void
put32(struct unit *u, gpa_t gpa, uint32_t value)
{
	memcpy(ram(u, gpa), &value, 4);
}

/* What raised; 0x100: nothing. */
#define NOTHING 0x100u
#define TRY(u, access)                                    \
	({                                                \
		jmp_buf jmp_;                             \
		volatile unsigned raised_ = NOTHING;      \
                                                          \
		(u)->cpu->jmp = &jmp_;                    \
		if (_setjmp(jmp_) == 0)                   \
			(void)(access);                   \
		else                                      \
			raised_ = (u)->cpu->event.vector; \
		raised_;                                  \
	})

#define assert_page_fault(u, access, lin, code)                \
	do {                                                   \
		assert_int_equal(TRY(u, access), X86_PFV);     \
		assert_int_equal((u)->cpu->event.cr2, lin);    \
		assert_int_equal((u)->cpu->event.error, code); \
	} while (0)

static void
view(struct unit *u, unsigned cpl, uint64_t flags)
{
	u->cpu->cpl = (uint8_t)cpl;
	u->cpu->rflags = X86_FLAGS_FIXED | flags;
	x86_cpu_mode(u->cpu);
	u->cpu->seg[CPU_CS].access |= X86_SEG_L;
	x86_cpu_mode(u->cpu);
}

/*
 * Long mode with tables at 0x1000 (PML4), 0x2000 (PDPT), 0x3000 (PD), 0x4000
 * (PT): linear 0 to 2 MiB through the PT, which is empty.
 */
static void
long_mode(struct unit *u)
{
	u->cpu->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
	u->cpu->cr4 = X86_CR4_PAE;
	u->cpu->efer = X86_EFER_LMA | X86_EFER_LME | X86_EFER_NXE;
	u->cpu->cr3 = 0x1000;
	put64(u, 0x1000, 0x2000 | P | W | U);
	put64(u, 0x2000, 0x3000 | P | W | U);
	put64(u, 0x3000, 0x4000 | P | W | U);
	view(u, 0, 0);
}

static void
map(struct unit *u, uint64_t lin, uint64_t entry)
{
	put64(u, 0x4000 + (lin >> 12) * 8, entry);
	x86_tlb_flush(u->cpu, true);
}

/* ---------------------------------------------------------------- tests */

static void
without_paging_linear_is_physical(void **state)
{
	struct unit *u = *state;

	view(u, 0, 0);
	x86_store(u->cpu, 0x12345, 4, 0xdeadbeef);
	assert_int_equal(x86_load(u->cpu, 0x12345, 4), 0xdeadbeef);
	assert_memory_equal(ram(u, 0x12345), "\xef\xbe\xad\xde", 4);
}

static void
sizes_are_exact(void **state)
{
	struct unit *u = *state;

	view(u, 0, 0);
	for (unsigned size = 1; size <= 8; size *= 2) {
		memset(ram(u, 0x8000), 0x11, 32);
		x86_store(u->cpu, 0x8008, size, UINT64_MAX);
		assert_int_equal(*ram(u, 0x8007), 0x11);
		assert_int_equal(*ram(u, 0x8008 + size - 1), 0xff);
		assert_int_equal(*ram(u, 0x8008 + size), 0x11);
		assert_int_equal(x86_load(u->cpu, 0x8008, size),
		    size_mask(size));
	}
}

static void
four_levels_lead_to_a_page(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | W | U);
	x86_store(u->cpu, 0x5123, 8, 0x1122334455667788);
	assert_int_equal(get64(u, 0x200123), 0x1122334455667788);
}

/* SDM volume 3, 4.8: A on the way, D at the end of a write. */
static void
accessed_and_dirty_are_set(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | W | U);
	(void)x86_load(u->cpu, 0x5000, 1);
	assert_int_equal(get64(u, 0x1000) & A, A);
	assert_int_equal(get64(u, 0x2000) & A, A);
	assert_int_equal(get64(u, 0x3000) & A, A);
	assert_int_equal(get64(u, 0x4028) & (A | D), A);
	x86_store(u->cpu, 0x5000, 1, 0);
	assert_int_equal(get64(u, 0x4028) & (A | D), A | D);
	assert_int_equal(get64(u, 0x3000) & D, 0);
}

static void
a_read_gives_no_right_to_write_a_clean_page(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | W | U);
	assert_true(x86_tlb_fill(u->cpu, 0x5000, 8, false));
	assert_int_equal(u->cpu->tlb[u->cpu->view].write[5], x86_tlb_none(5));
	assert_true(x86_tlb_fill(u->cpu, 0x5000, 8, true));
	assert_int_equal(u->cpu->tlb[u->cpu->view].write[5],
	    x86_tlb_tag(0x5000));
	assert_int_equal(get64(u, 0x4028) & D, D);
}

static void
rights_are_kept(void **state)
{
	static const struct {
		uint64_t entry;
		unsigned cpl;
		uint64_t cr0, cr4, flags; /* turned on beside long mode's */
		bool wp_off, write;
		unsigned code; /* NOTHING: it is allowed */
	} rows[] = {
		/* 4.6: not present, user and supervisor, read and write */
		{ 0, 0, 0, 0, 0, false, false, 0 },
		{ 0, 3, 0, 0, 0, false, true, 6 },
		{ P, 0, 0, 0, 0, false, false, NOTHING },
		{ P, 3, 0, 0, 0, false, false, 5 },
		{ P | W, 3, 0, 0, 0, false, true, 7 },
		{ P | U, 3, 0, 0, 0, false, false, NOTHING },
		{ P | U, 3, 0, 0, 0, false, true, 7 },
		{ P | U, 3, 0, 0, 0, true, true, 7 },
		{ P | W | U, 3, 0, 0, 0, false, true, NOTHING },
		/* CR0.WP binds the supervisor */
		{ P, 0, 0, 0, 0, false, true, 3 },
		{ P, 0, 0, 0, 0, true, true, NOTHING },
		{ P | U, 0, 0, 0, 0, false, true, 3 },
		/* SMAP */
		{ P | W | U, 0, 0, X86_CR4_SMAP, 0, false, false, 1 },
		{ P | W | U, 0, 0, X86_CR4_SMAP, 0, false, true, 3 },
		{ P | W | U, 0, 0, X86_CR4_SMAP, X86_AC, false, true, NOTHING },
		{ P | W | U, 3, 0, X86_CR4_SMAP, 0, false, true, NOTHING },
		{ P | W, 0, 0, X86_CR4_SMAP, 0, false, true, NOTHING },
		/* reserved bits: 4.7 */
		{ P | W | U | BIT(51), 0, 0, 0, 0, false, false, 9 },
		{ P | W | U | BIT(51), 3, 0, 0, 0, false, true, 15 },
	};
	struct unit *u = *state;

	for (volatile size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		unsigned raised;

		long_mode(u);
		u->cpu->phys_bits = 48;
		u->cpu->cr4 |= rows[i].cr4;
		if (rows[i].wp_off)
			u->cpu->cr0 &= ~X86_CR0_WP;
		view(u, rows[i].cpl, rows[i].flags);
		map(u, 0x7000,
		    rows[i].entry != 0 ? rows[i].entry | 0x200000 : 0);
		raised = rows[i].write ?
		    TRY(u, (x86_store(u->cpu, 0x7010, 4, 1), 0)) :
		    TRY(u, x86_load(u->cpu, 0x7010, 4));
		if (rows[i].code == NOTHING) {
			assert_int_equal(raised, NOTHING);
			continue;
		}
		if (raised != X86_PFV || u->cpu->event.error != rows[i].code)
			fail_msg("row %zu: raised 0x%x, code 0x%x", i, raised,
			    u->cpu->event.error);
		assert_int_equal(u->cpu->event.cr2, 0x7010);
	}
}

/* The strictest level counts. */
static void
upper_levels_take_rights_away(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | W | U);
	put64(u, 0x2000, 0x3000 | P | U);
	view(u, 3, 0);
	x86_tlb_flush(u->cpu, true);
	assert_int_equal(TRY(u, x86_load(u->cpu, 0x5000, 1)), NOTHING);
	assert_page_fault(u, (x86_store(u->cpu, 0x5000, 1, 0), 0), 0x5000, 7);
	put64(u, 0x1000, 0x2000 | P | W);
	x86_tlb_flush(u->cpu, true);
	assert_page_fault(u, x86_load(u->cpu, 0x5000, 1), 0x5000, 5);
}

/* A denied access sets no bits. */
static void
denied_accesses_leave_no_trace(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P);
	view(u, 3, 0);
	assert_page_fault(u, x86_load(u->cpu, 0x5000, 1), 0x5000, 5);
	assert_int_equal(get64(u, 0x1000) & A, 0);
	assert_int_equal(get64(u, 0x4028) & A, 0);
}

static void
fetching_obeys_nx_and_smep(void **state)
{
	struct unit *u = *state;
	uint8_t buf[16];

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | U | NX);
	assert_page_fault(u, x86_fetch(u->cpu, 0x5000, buf), 0x5000, 0x11);
	map(u, 0x5000, 0x200000 | P | U);
	assert_int_equal(TRY(u, x86_fetch(u->cpu, 0x5000, buf)), NOTHING);
	u->cpu->cr4 |= X86_CR4_SMEP;
	x86_tlb_flush(u->cpu, true);
	assert_page_fault(u, x86_fetch(u->cpu, 0x5000, buf), 0x5000, 0x11);
	/* Without NXE the bit is reserved. */
	u->cpu->efer &= ~X86_EFER_NXE;
	map(u, 0x5000, 0x200000 | P | U | NX);
	assert_page_fault(u, x86_load(u->cpu, 0x5000, 1), 0x5000, 9);
}

static void
fetching_stops_at_the_page_that_is_not_there(void **state)
{
	struct unit *u = *state;
	uint8_t buf[16];

	long_mode(u);
	map(u, 0x5000, 0x200000 | P);
	memcpy(ram(u, 0x200ffa), "abcdef", 6);
	assert_int_equal(x86_fetch(u->cpu, 0x5ffa, buf), 6);
	assert_memory_equal(buf, "abcdef", 6);
	put64(u, 0x4030, 0x201000 | P);
	memcpy(ram(u, 0x201000), "ghijklmno", 9);
	assert_int_equal(x86_fetch(u->cpu, 0x5ffa, buf), 15);
	assert_memory_equal(buf, "abcdefghijklmno", 15);
	/* Until INVLPG what is remembered counts, of the second page as well. */
	put64(u, 0x4030, 0);
	assert_int_equal(x86_fetch(u->cpu, 0x5ffa, buf), 15);
	x86_tlb_flush_page(u->cpu, 0x6000);
	assert_int_equal(x86_fetch(u->cpu, 0x5ffa, buf), 6);
}

static void
large_pages(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	/* 2 MiB at linear 2 MiB, 1 GiB at linear 1 GiB: both physical 2 MiB
	 * and 0. */
	put64(u, 0x3008, 0x200000 | P | W | PS);
	put64(u, 0x2008, P | W | PS);
	x86_store(u->cpu, 0x212345, 4, 0x1234567);
	assert_memory_equal(ram(u, 0x212345), "\x67\x45\x23\x01", 4);
	x86_store(u->cpu, 0x40012345, 4, 0x89abcdef);
	assert_memory_equal(ram(u, 0x12345), "\xef\xcd\xab\x89", 4);
	assert_int_equal(get64(u, 0x3008) & (A | D), A | D);
	/* Bits below the address are reserved, but for PAT. */
	put64(u, 0x3008, 0x200000 | P | W | PS | BIT(13));
	x86_tlb_flush(u->cpu, true);
	assert_page_fault(u, x86_load(u->cpu, 0x212345, 4), 0x212345, 9);
	put64(u, 0x3008, 0x200000 | P | W | PS | BIT(12));
	assert_int_equal(TRY(u, x86_load(u->cpu, 0x212345, 4)), NOTHING);
	/* PS in a PML4 entry is reserved. */
	put64(u, 0x1000, 0x2000 | P | W | U | PS);
	x86_tlb_flush(u->cpu, true);
	assert_page_fault(u, x86_load(u->cpu, 0x5000, 4), 0x5000, 9);
}

static void
paging_of_32_bits(void **state)
{
	struct unit *u = *state;

	u->cpu->cr0 = X86_CR0_PE | X86_CR0_PG;
	u->cpu->cr4 = X86_CR4_PSE;
	u->cpu->efer = 0;
	u->cpu->cr3 = 0x1000;
	u->cpu->cpl = 0;
	u->cpu->rflags = X86_FLAGS_FIXED;
	x86_cpu_mode(u->cpu);
	put32(u, 0x1000, 0x2000 | P | W | U);
	put32(u, 0x1004, P | W | PS); /* 4 MiB at 4 MiB: physical 0 */
	put32(u, 0x2014, 0x200000 | P | W);
	x86_store(u->cpu, 0x5010, 4, 42);
	assert_int_equal(*ram(u, 0x200010), 42);
	x86_store(u->cpu, 0x400020, 4, 43);
	assert_int_equal(*ram(u, 0x20), 43);
	/* Without PSE the bit means nothing. */
	u->cpu->cr4 = 0;
	x86_tlb_flush(u->cpu, true);
	put32(u, 0, 0x201000 | P | W);
	assert_int_equal(TRY(u, x86_load(u->cpu, 0x400020, 4)), NOTHING);
}

static void
paging_with_pae(void **state)
{
	struct unit *u = *state;

	u->cpu->cr0 = X86_CR0_PE | X86_CR0_PG;
	u->cpu->cr4 = X86_CR4_PAE;
	u->cpu->efer = 0;
	u->cpu->cr3 = 0x1020;
	u->cpu->rflags = X86_FLAGS_FIXED;
	u->cpu->phys_bits = 40;
	put64(u, 0x1020, 0x2000 | P);
	put64(u, 0x1028, 0);
	put64(u, 0x1030, 0);
	put64(u, 0x1038, 0x3000 | P);
	put64(u, 0x2000, 0x4000 | P | W | U);
	put64(u, 0x3ff8, 0x200000 | P | W | PS);
	put64(u, 0x4028, 0x201000 | P | W);
	x86_cpu_mode(u->cpu);
	assert_true(x86_load_pdptes(u->cpu, u->cpu->cr3, u->cpu->pdpte));
	x86_store(u->cpu, 0x5010, 4, 42);
	assert_int_equal(*ram(u, 0x201010), 42);
	x86_store(u->cpu, 0xffe00010, 4, 43);
	assert_int_equal(*ram(u, 0x200010), 43);
	assert_page_fault(u, x86_load(u->cpu, 0x40000000, 4), 0x40000000, 0);
	/* 4.4.1: reserved bits of a present PDPTE are told at the load. */
	put64(u, 0x1028, 0x2000 | P | W);
	assert_false(x86_load_pdptes(u->cpu, u->cpu->cr3, u->cpu->pdpte));
	put64(u, 0x1028, W);
	assert_true(x86_load_pdptes(u->cpu, u->cpu->cr3, u->cpu->pdpte));
}

/* All of it or nothing, and the fault names the byte that has it. */
static void
accesses_across_pages(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | W);
	map(u, 0x6000, 0x300000 | P | W);
	x86_store(u->cpu, 0x5ffd, 8, 0x8877665544332211);
	assert_memory_equal(ram(u, 0x200ffd), "\x11\x22\x33", 3);
	assert_memory_equal(ram(u, 0x300000), "\x44\x55\x66\x77\x88", 5);
	assert_int_equal(x86_load(u->cpu, 0x5ffd, 8), 0x8877665544332211);
	map(u, 0x6000, 0x300000 | P);
	assert_page_fault(u, (x86_store(u->cpu, 0x5ffd, 8, 0), 0), 0x6000, 3);
	assert_memory_equal(ram(u, 0x200ffd), "\x11\x22\x33", 3);
	assert_false(x86_tlb_fill(u->cpu, 0x5ffd, 8, false));
	assert_null(x86_rmw_ptr(u->cpu, 0x5ffd, 8));
}

static void
bytes_move_across_pages(void **state)
{
	struct unit *u = *state;
	uint8_t in[600], out[600];

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | W);
	map(u, 0x6000, 0x300000 | P | W);
	for (unsigned i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7);
	x86_store_bytes(u->cpu, 0x5e01, in, sizeof(in));
	x86_load_bytes(u->cpu, 0x5e01, out, sizeof(out));
	assert_memory_equal(in, out, sizeof(in));
	assert_memory_equal(ram(u, 0x200e01), in, 511);
	assert_memory_equal(ram(u, 0x300000), in + 511, sizeof(in) - 511);
}

static void
what_is_no_memory_is_a_devices(void **state)
{
	struct unit *u = *state;

	view(u, 0, 0);
	u->device_reads = 0x1122334455667788;
	assert_int_equal(x86_load(u->cpu, 0xd0000004, 4), 0x55667788);
	assert_int_equal(u->device_gpa[0], 0xd0000004);
	assert_int_equal(u->device_size[0], 4);
	x86_store(u->cpu, 0xd0000006, 2, 0x12345);
	assert_int_equal(u->device_value[1], 0x2345);
	/* In pieces that do not cross 8 bytes. */
	x86_store(u->cpu, 0xd0000006, 4, 0xaabbccdd);
	assert_int_equal(u->device_calls, 4);
	assert_int_equal(u->device_size[2], 2);
	assert_int_equal(u->device_value[2], 0xccdd);
	assert_int_equal(u->device_gpa[3], 0xd0000008);
	assert_int_equal(u->device_value[3], 0xaabb);
	assert_false(x86_tlb_fill(u->cpu, 0xd0000000, 4, false));
	assert_null(x86_rmw_ptr(u->cpu, 0xd0000000, 4));
}

static void
the_local_apic_answers_for_its_page(void **state)
{
	struct unit *u = *state;

	view(u, 0, 0);
	assert_int_equal(x86_load(u->cpu, 0xfee00030, 4) & 0xff, 0x10);
	x86_store(u->cpu, 0xfee00080, 4, 0x20);
	assert_int_equal(lapic_get_cr8(u->cpu->lapic), 2);
	assert_int_equal(u->device_calls, 0);
}

static void
rom_is_read_and_not_written(void **state)
{
	struct unit *u = *state;

	view(u, 0, 0);
	u->mem.ram[1].host[0x10] = 0x5a;
	assert_int_equal(x86_load(u->cpu, ROM_GPA + 0x10, 1), 0x5a);
	x86_store(u->cpu, ROM_GPA + 0x10, 1, 0xff);
	assert_int_equal(u->mem.ram[1].host[0x10], 0x5a);
	assert_int_equal(u->device_calls, 1);
	assert_true(x86_tlb_fill(u->cpu, ROM_GPA, 8, false));
	assert_false(x86_tlb_fill(u->cpu, ROM_GPA, 8, true));
}

static void
a_page_with_code_tells_of_its_stores(void **state)
{
	struct unit *u = *state;

	view(u, 0, 0);
	x86_store(u->cpu, 0x9000, 4, 1);
	assert_int_equal(u->code_calls, 0);
	assert_int_equal(u->mem.ram[0].writers[9], 1);
	u->mem.ram[0].code[9] = 1;
	x86_tlb_flush_writes(u->cpu);
	x86_store(u->cpu, 0x9004, 4, 1);
	assert_int_equal(u->code_calls, 1);
	assert_int_equal(u->code_gpa, 0x9004);
	assert_false(x86_tlb_fill(u->cpu, 0x9000, 4, true));
	assert_true(x86_tlb_fill(u->cpu, 0x9000, 4, false));
	assert_non_null(x86_rmw_ptr(u->cpu, 0x9008, 4));
	x86_rmw_done(u->cpu, 0x9008, 4);
	assert_int_equal(u->code_gpa, 0x9008);
}

static void
writes_are_counted_while_tracked(void **state)
{
	struct unit *u = *state;

	view(u, 0, 0);
	u->mem.tracking = true;
	(void)x86_load(u->cpu, 0xa000, 4);
	assert_int_equal(u->mem.ram[0].dirty[10], 0);
	x86_store(u->cpu, 0xa000, 4, 1);
	assert_int_equal(u->mem.ram[0].dirty[10], 1);
}

/* INVLPG of one page, also of a piece of a large one. */
static void
translations_are_kept_until_they_are_flushed(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P | W);
	(void)x86_load(u->cpu, 0x5000, 1);
	put64(u, 0x4028, 0);
	assert_int_equal(TRY(u, x86_load(u->cpu, 0x5000, 1)), NOTHING);
	x86_tlb_flush_page(u->cpu, 0x5000);
	assert_page_fault(u, x86_load(u->cpu, 0x5000, 1), 0x5000, 0);

	put64(u, 0x3008, P | W | PS);
	(void)x86_load(u->cpu, 0x200000, 1);
	(void)x86_load(u->cpu, 0x3ff000, 1);
	put64(u, 0x3008, 0);
	x86_tlb_flush_page(u->cpu, 0x300000);
	assert_page_fault(u, x86_load(u->cpu, 0x200000, 1), 0x200000, 0);
	assert_page_fault(u, x86_load(u->cpu, 0x3ff000, 1), 0x3ff000, 0);
}

/* Different views never share a right. */
static void
views_are_apart(void **state)
{
	struct unit *u = *state;

	long_mode(u);
	u->cpu->cr4 |= X86_CR4_SMAP;
	map(u, 0x5000, 0x200000 | P | W);
	map(u, 0x6000, 0x300000 | P | W | U);
	view(u, 0, 0);
	(void)x86_load(u->cpu, 0x5000, 1);
	view(u, 3, 0);
	(void)x86_load(u->cpu, 0x6000, 1);
	assert_page_fault(u, x86_load(u->cpu, 0x5000, 1), 0x5000, 5);
	view(u, 0, 0);
	assert_page_fault(u, x86_load(u->cpu, 0x6000, 1), 0x6000, 1);
	view(u, 0, X86_AC);
	assert_int_equal(TRY(u, x86_load(u->cpu, 0x6000, 1)), NOTHING);
	/* Implicit accesses from user code are the supervisor's. */
	view(u, 3, X86_AC);
	assert_int_equal(TRY(u, x86_load_sys(u->cpu, 0x5000, 1)), NOTHING);
	assert_page_fault(u, x86_load_sys(u->cpu, 0x6000, 1), 0x6000, 1);
}

/* No address, canonical or not, matches an empty entry by subtraction. */
static void
empty_entries_match_nothing(void **state)
{
	static const uint64_t near[] = { 0, 0x8000000000000000,
		0x8000000000000800, 0x8000000000001000, 0x8000000000002000,
		0x8000000000002800, 0x8000000000003000, 0x7ffffffffffff000,
		UINT64_MAX - 0xfff };

	for (size_t n = 0; n < ARRAY_SIZE(near); n++) {
		for (int64_t off = -8192; off <= 8192; off++) {
			uint64_t lin = near[n] + (uint64_t)off;
			unsigned i = (lin / 4096) % X86_TLB_SIZE;
			uint64_t in_page = x86_tlb_none(i) + lin + 64;

			assert_true(in_page >= 4096);
			assert_true(x86_tlb_none(i) + lin + 1 >= 4096);
			assert_true(x86_tlb_none(i) != x86_tlb_tag(lin));
		}
	}
}

static void
a_debuggers_look_changes_nothing(void **state)
{
	struct unit *u = *state;
	gpa_t gpa;

	long_mode(u);
	map(u, 0x5000, 0x200000 | P);
	assert_true(x86_lookup(u->cpu, 0x5123, &gpa));
	assert_int_equal(gpa, 0x200123);
	assert_int_equal(get64(u, 0x4028) & A, 0);
	assert_false(x86_lookup(u->cpu, 0x6000, &gpa));
}

int
main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(without_paging_linear_is_physical),
		CASE(sizes_are_exact),
		CASE(four_levels_lead_to_a_page),
		CASE(accessed_and_dirty_are_set),
		CASE(a_read_gives_no_right_to_write_a_clean_page),
		CASE(rights_are_kept),
		CASE(upper_levels_take_rights_away),
		CASE(denied_accesses_leave_no_trace),
		CASE(fetching_obeys_nx_and_smep),
		CASE(fetching_stops_at_the_page_that_is_not_there),
		CASE(large_pages),
		CASE(paging_of_32_bits),
		CASE(paging_with_pae),
		CASE(accesses_across_pages),
		CASE(bytes_move_across_pages),
		CASE(what_is_no_memory_is_a_devices),
		CASE(the_local_apic_answers_for_its_page),
		CASE(rom_is_read_and_not_written),
		CASE(a_page_with_code_tells_of_its_stores),
		CASE(writes_are_counted_while_tracked),
		CASE(translations_are_kept_until_they_are_flushed),
		CASE(views_are_apart),
		cmocka_unit_test(empty_entries_match_nothing),
		CASE(a_debuggers_look_changes_nothing),
	};

	return cmocka_run_group_tests_name("mmu", tests, NULL, NULL);
}
