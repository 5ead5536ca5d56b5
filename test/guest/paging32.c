/*
 * 32-bit and PAE paging in protected mode (SDM volume 3, 4.3 and 4.4): page
 * sizes, PSE-36, rights, when the PDPTEs are loaded, no-execute.
 */
#include "ring.h"

#define P 1u
#define W 2u
#define U 4u
#define A 0x20u
#define D 0x40u
#define PS 0x80u
#define G 0x100u

#define ERR_P 1u
#define ERR_W 2u
#define ERR_U 4u
#define ERR_RSVD 8u
#define ERR_I 16u

#define WINDOW 0x50000000u /* a 4 MiB page, or two of 2 MiB */

static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t table[1024] __attribute__((aligned(4096)));
static uint64_t pdpt[4] __attribute__((aligned(32)));
static uint64_t other_pdpt[4] __attribute__((aligned(32)));
static uint64_t pae_pd[4][512] __attribute__((aligned(4096)));
static uint64_t pae_table[512] __attribute__((aligned(4096)));
static uint8_t page[2][4096] __attribute__((aligned(4096)));

static uint32_t
seen(uint32_t at)
{
	return *(volatile uint32_t *)at;
}

/* ---- 32-bit ------------------------------------------------------------- */

static void
legacy_on(void)
{
	for (unsigned i = 0; i < 1024; i++)
		directory[i] = i << 22 | PS | U | W | P;
	directory[WINDOW >> 22] = (uint32_t)table | U | W | P;
	table[0] = (uint32_t)page[0] | U | W | P;
	table[1] = (uint32_t)page[1] | U | W | P;
	write_cr4(read_cr4() | CR4_PSE);
	write_cr3((uint32_t)directory);
	write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void
off(void)
{
	write_cr0(read_cr0() & ~CR0_PG);
	write_cr4(read_cr4() & ~(CR4_PAE | CR4_PSE | CR4_PGE));
}

static void
legacy_rights(void)
{
	unsigned right = 0;

	for (unsigned n = 0; n < 64; n++) {
		uint32_t pde = n & 3, pte = n >> 2 & 3;
		bool user = n & 16, write = n & 32;
		uint32_t want = 0, vector;

		/* 1: without W, 2: without U */
		directory[WINDOW >> 22] = (uint32_t)table | A | P |
		    (pde & 1 ? 0 : W) | (pde & 2 ? 0 : U);
		table[0] = (uint32_t)page[0] | P | (pte & 1 ? 0 : W) |
		    (pte & 2 ? 0 : U);
		flush_tlb();
		if ((write && ((pde | pte) & 1)) || (user && ((pde | pte) & 2)))
			want = ERR_P | (write ? ERR_W : 0) | (user ? ERR_U : 0);
		if (user)
			vector = write ? USER("movb $0, (%0)", "r"(WINDOW)) :
					 USER("cmpb $0, (%0)", "r"(WINDOW));
		else
			vector = write ? TRY("movb $0, (%0)", "r"(WINDOW)) :
					 TRY("cmpb $0, (%0)", "r"(WINDOW));
		if (want == 0)
			right += vector == (user ? HOME : NO_FAULT) &&
			    (table[0] & (A | D)) == (write ? A | D : A);
		else
			right += vector == PF && fault_error == want;
	}
	check_eq("rights and marks", right, 64);
	directory[WINDOW >> 22] = (uint32_t)table | U | W | P;
	table[0] = (uint32_t)page[0] | U | W | P;
	flush_tlb();
}

static void
legacy(void)
{
	uint32_t r[4], word, zero;

	legacy_on();
	legacy_rights();
	/* Without PSE bit 7 of an entry means nothing. */
	write32((uint32_t)page[1], 0x1234);
	table[1] |= PS;
	flush_tlb();
	check_eq("bit 7 of a PTE is no size", seen(WINDOW + 0x1000), 0x1234);
	table[1] &= ~PS;
	directory[WINDOW >> 22] = 0 | PS | U | W | P;
	flush_tlb();
	check_eq("4 MiB: the same bytes", seen(WINDOW + (uint32_t)page[1]),
	    0x1234);
	check_eq("accessed only", directory[WINDOW >> 22] & (A | D), A);
	write32(WINDOW + (uint32_t)page[1], 0x5678);
	check_eq("dirty", directory[WINDOW >> 22] & (A | D), A | D);
	directory[WINDOW >> 22] = 0;
	invlpg(WINDOW + 0x200000);
	check_eq("INVLPG of 4 MiB",
	    TRY("cmpl $0, (%0)", "r"(WINDOW + (uint32_t)page[1])), PF);
	directory[WINDOW >> 22] = 1u << 21 | PS | W | P;
	flush_tlb();
	check_eq("bit 21 of a large page", TRY("cmpb $0, (%0)", "r"(WINDOW)),
	    PF);
	check_eq("is reserved", fault_error, ERR_P | ERR_RSVD);
	cpuid(1, 0, r);
	if (r[3] >> 17 & 1) {
		/* Physical address 4 GiB + ..., where nothing is. */
		directory[WINDOW >> 22] = 1u << 13 | PS | W | P;
		flush_tlb();
		check_eq("PSE-36", seen(WINDOW + (uint32_t)page[1]),
		    UINT32_MAX);
	}
	directory[WINDOW >> 22] = (uint32_t)table | U | W | P;
	flush_tlb();

	/* A linear address that wraps around, in the middle of an access. */
	directory[1023] = (uint32_t)table | W | P;
	table[1023] = (uint32_t)page[0] | W | P;
	flush_tlb();
	gdt[GDT_FREE] =
	    segment(0xfffff000, 0xfffff, DESC_DATA | DESC_BIG | DESC_PAGES);
	write8((uint32_t)&page[0][4095], 0x11);
	zero = read8(0);
	__asm__ volatile("mov %1, %%fs; movzwl %%fs:0xfff, %0"
			 : "=r"(word)
			 : "r"(GDT_FREE * 8));
	check_eq("over the end of 4 GiB", word, zero << 8 | 0x11);
	off();
}

/* ---- PAE ---------------------------------------------------------------- */

static void
pae_on(void)
{
	for (unsigned i = 0; i < 4; i++) {
		pdpt[i] = (uint32_t)pae_pd[i] | P;
		for (uint32_t n = 0; n < 512; n++)
			pae_pd[i][n] =
			    (uint64_t)(i << 9 | n) << 21 | PS | U | W | P;
	}
	pae_pd[WINDOW >> 30][WINDOW >> 21 & 511] =
	    (uint32_t)pae_table | U | W | P;
	pae_table[0] = (uint32_t)page[0] | U | W | P;
	pae_table[1] = (uint32_t)page[1] | U | W | P;
	write_cr4(read_cr4() | CR4_PAE);
	write_cr3((uint32_t)pdpt);
	write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void
pae(void)
{
	uint64_t efer;

	pae_on();
	write32((uint32_t)page[0], 0x1111);
	write32((uint32_t)page[1], 0x2222);
	check_eq("PAE: 4 KiB", seen(WINDOW + 0x1000), 0x2222);
	check_eq("accessed", (uint32_t)pae_table[1] & (A | D), A);
	write32(WINDOW, 0x3333);
	check_eq("dirty", (uint32_t)pae_table[0] & (A | D), A | D);
	check_eq("not in a PDPTE", (uint32_t)pdpt[0] & (A | D), 0);

	/* The other directory takes effect with MOV CR3. */
	for (unsigned i = 0; i < 4; i++)
		other_pdpt[i] = pdpt[i];
	other_pdpt[WINDOW >> 30] = 0;
	write_cr3((uint32_t)other_pdpt);
	check_eq("a PDPTE that is not present",
	    TRY("cmpb $0, (%0)", "r"(WINDOW)), PF);
	check_eq("its error code", fault_error, 0);
	other_pdpt[WINDOW >> 30] = pdpt[WINDOW >> 30];
	flush_tlb();
	check_eq("present after MOV CR3", seen(WINDOW), 0x3333);
	other_pdpt[WINDOW >> 30] |= 2;
	check_eq("a reserved bit: #GP of MOV CR3",
	    TRY("mov %0, %%cr3", "r"(other_pdpt)), GP);
	other_pdpt[WINDOW >> 30] = 2;
	check_eq("not if it is not present",
	    TRY("mov %0, %%cr3", "r"(other_pdpt)), NO_FAULT);
	write_cr3((uint32_t)pdpt);
	/* Flags in CR3 are no part of the address: 32 bytes are aligned. */
	write_cr3((uint32_t)pdpt | 0x18);
	check_eq("PWT and PCD", seen(WINDOW), 0x3333);

	efer = rdmsr(MSR_EFER);
	pae_table[0] |= 1ULL << 63;
	flush_tlb();
	check_eq("NX is reserved without EFER.NXE",
	    TRY("cmpb $0, (%0)", "r"(WINDOW)), PF);
	check_eq("its error code", fault_error, ERR_P | ERR_RSVD);
	wrmsr(MSR_EFER, efer | EFER_NXE);
	check_eq("with it data is data", TRY("cmpb $0, (%0)", "r"(WINDOW)),
	    NO_FAULT);
	check_eq("and no code", TRY("call *%0", "r"(WINDOW)), PF);
	check_eq("its error code", fault_error, ERR_P | ERR_I);
	check_eq("in ring 3", USER("jmp *%0", "r"(WINDOW)), PF);
	check_eq("its error code", fault_error, ERR_P | ERR_I | ERR_U);
	wrmsr(MSR_EFER, efer);
	pae_table[0] = 1ULL << 62 | (uint32_t)page[0] | P;
	flush_tlb();
	check_eq("bit 62 is reserved", TRY("cmpb $0, (%0)", "r"(WINDOW)), PF);
	check_eq("its error code", fault_error, ERR_P | ERR_RSVD);
	pae_table[0] = (uint32_t)page[0] | P | W;
	pae_pd[WINDOW >> 30][WINDOW >> 21 & 511] = 0x2000 | PS | W | P;
	flush_tlb();
	check_eq("2 MiB not aligned", TRY("cmpb $0, (%0)", "r"(WINDOW)), PF);
	check_eq("its error code", fault_error, ERR_P | ERR_RSVD);
	pae_pd[WINDOW >> 30][WINDOW >> 21 & 511] = PS | W | P;
	flush_tlb();
	check_eq("2 MiB", seen(WINDOW + (uint32_t)page[1]), 0x2222);
	check_eq("LME cannot change while paging is on",
	    TRY("wrmsr", "c"(MSR_EFER), "a"(EFER_LME), "d"(0)), GP);
	off();
}

void
payload(void)
{
	test("paging32");
	ring_init();
	legacy();
	pae();
	done();
}
