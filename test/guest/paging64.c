/*
 * 4-level paging (SDM volume 3, chapter 4): rights at each level and their
 * error codes, accessed and dirty bits, reserved bits, page sizes, what
 * forgets translations, SMEP and SMAP.
 *
 * WINDOW is a linear address with tables of its own at every level.
 */
#include "ring.h"

#define WINDOW 0x8000000000u
#define LEVELS 4

/* Error code of #PF */
#define ERR_P 1u
#define ERR_W 2u
#define ERR_U 4u
#define ERR_RSVD 8u
#define ERR_I 16u

static uint64_t window_pdpt[512] __attribute__((aligned(4096)));
static uint64_t window_pd[512] __attribute__((aligned(4096)));
static uint64_t window_table[512] __attribute__((aligned(4096)));
static uint8_t page[2][4096] __attribute__((aligned(4096)));
/* The entries that lead to WINDOW, from the root to the page. */
static uint64_t *const entry[LEVELS] = { &pml4[WINDOW >> 39], window_pdpt,
	window_pd, window_table };

static void
reset(void)
{
	entry[0][0] = (uint64_t)window_pdpt | PTE_P | PTE_W | PTE_U;
	entry[1][0] = (uint64_t)window_pd | PTE_P | PTE_W | PTE_U;
	entry[2][0] = (uint64_t)window_table | PTE_P | PTE_W | PTE_U;
	entry[3][0] = (uint64_t)page[0] | PTE_P | PTE_W | PTE_U;
	entry[3][1] = (uint64_t)page[1] | PTE_P | PTE_W | PTE_U;
	flush_tlb();
}

enum access { READ, WRITE, FETCH };

static uint32_t
access(enum access how, bool user)
{
	uint64_t at = WINDOW + 8;

	fault_error = 0xdead;
	if (user) {
		switch (how) {
		case READ:
			return USER("cmpb $0, (%0)", "r"(at));
		case WRITE:
			return USER("movb $0, (%0)", "r"(at));
		default:
			return USER("call *%0", "r"(at));
		}
	}
	switch (how) {
	case READ:
		return TRY("cmpb $0, (%0)", "r"(at));
	case WRITE:
		return TRY("movb $0, (%0)", "r"(at));
	default:
		return TRY("call *%0", "r"(at));
	}
}

/* ---- rights ------------------------------------------------------------- */

static unsigned right;

/* Take `bits` from (or, NX, give to) one level; try everything. */
static void
rights_at(unsigned level, uint64_t without, uint64_t nx)
{
	reset();
	*entry[level] = (*entry[level] & ~without) | nx;
	flush_tlb();
	for (unsigned n = 0; n < 12; n++) {
		enum access how = n % 3;
		bool user = n / 3 & 1, wp = n / 6;
		uint32_t want = 0, vector;

		if (wp)
			write_cr0(read_cr0() | CR0_WP);
		else
			write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
		if (without & PTE_P)
			want = 0x100;
		else if ((user && (without & PTE_U)) ||
		    (how == WRITE && (without & PTE_W) && (user || wp)) ||
		    (how == FETCH && nx))
			want = 0x100 | ERR_P;
		if (want != 0)
			want |= (how == WRITE ? ERR_W : 0) |
			    (how == FETCH ? ERR_I : 0) | (user ? ERR_U : 0);
		page[0][8] = 0xc3; /* RET */
		vector = access(how, user);
		if (want == 0)
			right += vector == (user ? HOME : NO_FAULT);
		else
			right += vector == PF && fault_error == (want & 0xff) &&
			    read_cr2() == WINDOW + 8;
	}
}

static void
rights(void)
{
	static const char *const names[LEVELS] = { "PML4E", "PDPTE", "PDE",
		"PTE" };

	for (unsigned level = 0; level < LEVELS; level++) {
		right = 0;
		for (unsigned n = 0; n < 16; n++) {
			uint64_t without = (n & 1 ? PTE_P : 0) |
			    (n & 2 ? PTE_W : 0) | (n & 4 ? PTE_U : 0);

			rights_at(level, without, n & 8 ? PTE_NX : 0);
		}
		check_eq(names[level], right, 16 * 12);
	}
	write_cr0(read_cr0() | CR0_WP);
	/* Without EFER.NXE bit 63 is reserved. */
	reset();
	*entry[3] |= PTE_NX;
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_NXE);
	flush_tlb();
	check_eq("NX without EFER.NXE", access(READ, false), PF);
	check_eq("its error code", (uint32_t)fault_error, ERR_P | ERR_RSVD);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
}

/* ---- accessed and dirty ------------------------------------------------- */

static unsigned
marks(void)
{
	unsigned all = 0;

	for (unsigned level = 0; level < LEVELS; level++)
		all = all << 4 | (*entry[level] & PTE_A ? 1 : 0) |
		    (*entry[level] & PTE_D ? 2 : 0);
	reset();
	return all;
}

static void
accessed_dirty(void)
{
	uint64_t at = WINDOW + 8;
	uint32_t value = 0;

	reset();
	page[0][8] = 0xc3;
	(void)access(READ, false);
	check_eq("a read marks all levels accessed", marks(), 0x1111);
	(void)access(WRITE, false);
	check_eq("a write marks the page dirty", marks(), 0x1113);
	page[0][8] = 0xc3;
	(void)access(FETCH, false);
	check_eq("a fetch marks accessed", marks(), 0x1111);
	(void)access(READ, true);
	check_eq("ring 3, read", marks(), 0x1111);
	(void)access(WRITE, true);
	check_eq("ring 3, write", marks(), 0x1113);
	__asm__ volatile("lock cmpxchgl %1, (%0)"
			 :
			 : "r"(at), "r"(1), "a"(0xdeadbeef)
			 : "memory", "cc");
	check_eq("CMPXCHG that fails writes, too", marks(), 0x1113);
	__asm__ volatile("addl $0, (%0)" : : "r"(at) : "memory", "cc");
	check_eq("ADD of 0", marks(), 0x1113);
	(void)*(volatile uint32_t *)at;
	*(volatile uint32_t *)at = 0;
	check_eq("a read, then a write", marks(), 0x1113);
	*entry[3] &= ~PTE_W;
	flush_tlb();
	write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
	(void)access(WRITE, false);
	write_cr0(read_cr0() | CR0_WP);
	check_eq("a write to read-only without WP", marks(), 0x1113);
	__asm__ volatile("bt %1, (%0)" : : "r"(at), "r"(0) : "cc");
	check_eq("BT reads only", marks(), 0x1111);
	__asm__ volatile("cmpl %0, (%1)" : : "r"(value), "r"(at) : "cc");
	check_eq("CMP", marks(), 0x1111);
	__asm__ volatile("prefetchnta 64(%0); movl $0, (%0)"
			 :
			 : "r"(at)
			 : "memory");
	*entry[3] &= ~(PTE_A | PTE_D);
	invlpg(WINDOW);
	(void)access(WRITE, false);
	check_eq("again after INVLPG", marks(), 0x1113);
}

/* ---- reserved bits, sizes ----------------------------------------------- */

static void
reserved(void)
{
	uint32_t r[4];

	cpuid(0x80000008, 0, r);
	for (unsigned level = 0; level < LEVELS && (r[0] & 0xff) < 52;
	     level++) {
		reset();
		*entry[level] |= 1ULL << 51;
		flush_tlb();
		check_eq("an address beyond MAXPHYADDR", access(WRITE, true),
		    PF);
		check_eq("its error code", (uint32_t)fault_error,
		    ERR_P | ERR_W | ERR_U | ERR_RSVD);
		*entry[level] &= ~PTE_P;
		flush_tlb();
		check_eq("not present", access(READ, false), PF);
		check_eq("its error code", (uint32_t)fault_error, 0);
	}
	reset();
	*entry[0] |= PTE_PS;
	flush_tlb();
	check_eq("PS in a PML4E", access(READ, false), PF);
	check_eq("its error code", (uint32_t)fault_error, ERR_P | ERR_RSVD);
	reset();
	*entry[2] = 0x2000 | PTE_P | PTE_PS;
	flush_tlb();
	check_eq("a 2 MiB page that is not aligned", access(READ, false), PF);
	check_eq("its error code", (uint32_t)fault_error, ERR_P | ERR_RSVD);
	check_eq("not canonical", TRY("cmpb $0, (%0)", "r"(1ULL << 47)), GP);
	check_eq("a fetch from there", TRY("jmp *%0", "r"(1ULL << 47)), GP);
	check_eq("a call off the stack's edge",
	    TRY("cmpb $0, -1(%%rsp, %0)", "r"(1ULL << 47)), SS);
}

static void
sizes(void)
{
	volatile uint32_t *at = (volatile uint32_t *)(WINDOW + 0x1ff008);
	uint64_t base = (uint64_t)page & ~0x1fffffULL;
	uint32_t r[4];

	/* The same physical bytes by three sizes of pages. */
	*(volatile uint32_t *)(base + 0x1ff008) = 0x11223344;
	reset();
	*entry[2] = base | PTE_P | PTE_W | PTE_PS;
	flush_tlb();
	check_eq("2 MiB", *at, 0x11223344);
	check_eq("accessed", *entry[2] & (PTE_A | PTE_D), PTE_A);
	*at = 0x55667788;
	check_eq("written", *(volatile uint32_t *)(base + 0x1ff008),
	    0x55667788);
	check_eq("dirty", *entry[2] & (PTE_A | PTE_D), PTE_A | PTE_D);
	(void)*(volatile uint32_t *)(WINDOW + 0x1000);
	*entry[2] = 0;
	/* One INVLPG forgets the whole page. */
	invlpg(WINDOW + 0x100000);
	check_eq("INVLPG elsewhere in it",
	    TRY("cmpl $0, (%0)", "r"(WINDOW + 0x1ff008)), PF);
	check_eq("and here", TRY("cmpl $0, (%0)", "r"(WINDOW + 0x1008)), PF);
	cpuid(0x80000001, 0, r);
	if (r[3] >> 26 & 1) {
		*entry[1] = PTE_P | PTE_W | PTE_PS;
		flush_tlb();
		at = (volatile uint32_t *)(WINDOW + base + 0x1ff008);
		check_eq("1 GiB", *at, 0x55667788);
		*at = 1;
		check_eq("dirty", *entry[1] & (PTE_A | PTE_D), PTE_A | PTE_D);
		*entry[1] |= 0x2000;
		flush_tlb();
		check_eq("not aligned", TRY("cmpl $0, (%0)", "r"(at)), PF);
		check_eq("its error code", (uint32_t)fault_error,
		    ERR_P | ERR_RSVD);
	}
}

/* Two pages that are not neighbours in memory. */
static void
split(void)
{
	volatile uint64_t *at = (volatile uint64_t *)(WINDOW + 4096 - 3);
	uint64_t value;

	reset();
	*entry[3] = (uint64_t)page[1] | PTE_P | PTE_W | PTE_U;
	entry[3][1] = (uint64_t)page[0] | PTE_P | PTE_W | PTE_U;
	flush_tlb();
	*at = 0x8877665544332211;
	check_eq("a store over two pages: the first", page[1][4095], 0x33);
	check_eq("the second", page[0][0], 0x44);
	check64("loaded again", *at, 0x8877665544332211);
	__asm__ volatile("lock xaddq %0, (%1)"
			 : "=r"(value)
			 : "r"(at), "0"(1ULL << 32)
			 : "memory", "cc");
	check64("locked", value, 0x8877665544332211);
	check64("and changed", *at, 0x8877665644332211);
	__asm__ volatile("xchg %%rsp, %1; pop %0; push %0; xchg %%rsp, %1"
			 : "=&r"(value)
			 : "r"(at)
			 : "memory");
	check64("POP and PUSH", value, 0x8877665644332211);
}

/* ---- what forgets translations ------------------------------------------ */

static uint32_t
seen(void)
{
	return *(volatile uint32_t *)WINDOW;
}

static void
point(unsigned n, uint64_t bits)
{
	*entry[3] = (uint64_t)page[n] | PTE_P | PTE_W | PTE_U | bits;
}

static void
forgetting(void)
{
	uint64_t cr4 = read_cr4();
	uint32_t r[4];

	*(uint32_t *)page[0] = 0;
	*(uint32_t *)page[1] = 1;
	reset();
	(void)seen();
	point(1, 0);
	flush_tlb();
	check_eq("MOV CR3", seen(), 1);
	point(0, 0);
	invlpg(WINDOW + 0xfff);
	check_eq("INVLPG", seen(), 0);
	point(1, 0);
	write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
	write_cr0(read_cr0() | CR0_WP);
	flush_tlb();
	check_eq("CR0.WP and MOV CR3", seen(), 1);

	write_cr4(cr4 | CR4_PGE);
	point(1, PTE_G);
	flush_tlb();
	(void)seen();
	point(0, PTE_G);
	invlpg(WINDOW);
	check_eq("INVLPG of a global page", seen(), 0);
	point(1, PTE_G);
	write_cr4(cr4);
	check_eq("CR4.PGE cleared", seen(), 1);
	point(0, PTE_G);
	flush_tlb();
	check_eq("without it nothing is global", seen(), 0);
	write_cr4(cr4 | CR4_PGE);
	point(1, PTE_G);
	flush_tlb();
	write_cr4(cr4 & ~(uint64_t)CR4_PGE);
	write_cr4(cr4 | CR4_PGE);
	check_eq("cleared and set", seen(), 1);
	write_cr4(cr4);

	check_eq("INVLPG of what is not canonical is a NOP",
	    TRY("invlpg (%0)", "r"(1ULL << 63)), NO_FAULT);
	check_eq("INVLPG in ring 3", USER("invlpg (%0)", "r"(WINDOW)), GP);
	cpuid(7, 0, r);
	if (r[1] >> 10 & 1) {
		uint64_t descriptor[2]
		    __attribute__((aligned(16))) = { 0, WINDOW };

		point(0, 0);
		__asm__ volatile("invpcid %0, %1"
				 :
				 : "m"(descriptor), "r"(2ULL)
				 : "memory");
		check_eq("INVPCID of all", seen(), 0);
		point(1, 0);
		__asm__ volatile("invpcid %0, %1"
				 :
				 : "m"(descriptor), "r"(0ULL)
				 : "memory");
		check_eq("INVPCID of one address", seen(), 1);
		check_eq("of a fourth kind",
		    TRY("invpcid %0, %1", "m"(descriptor), "r"(4ULL)), GP);
		descriptor[0] = 1 << 12;
		check_eq("reserved bits",
		    TRY("invpcid %0, %1", "m"(descriptor), "r"(2ULL)), GP);
		descriptor[0] = 0;
		descriptor[1] = 1ULL << 63;
		check_eq("not canonical",
		    TRY("invpcid %0, %1", "m"(descriptor), "r"(0ULL)), GP);
		check_eq("in ring 3",
		    USER("invpcid (%0), %1", "r"(descriptor), "r"(2ULL)), GP);
	} else {
		check_eq("INVPCID that is not offered",
		    TRY("invpcid (%0), %1", "r"(WINDOW), "r"(2ULL)), UD);
	}
}

static void
pcid(void)
{
	uint64_t cr3 = read_cr3(), cr4 = read_cr4();
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 17 & 1)) {
		check_eq("CR4.PCIDE that is not offered",
		    TRY("mov %0, %%cr4", "r"(cr4 | CR4_PCIDE)), GP);
		check_eq("bit 63 of CR3",
		    TRY("mov %0, %%cr3", "r"(cr3 | 1ULL << 63)), GP);
		return;
	}
	write_cr3(cr3 | 8);
	check_eq("CR4.PCIDE needs CR3 with PCID 0",
	    TRY("mov %0, %%cr4", "r"(cr4 | CR4_PCIDE)), GP);
	write_cr3(cr3);
	write_cr4(cr4 | CR4_PCIDE);
	point(0, 0);
	write_cr3(cr3 | 1);
	check_eq("PCID 1", seen(), 0);
	point(1, 0);
	write_cr3(cr3 | 1);
	check_eq("MOV CR3 forgets its own", seen(), 1);
	write_cr3(cr3 | 2 | 1ULL << 63);
	check64("bit 63 is not kept", read_cr3(), cr3 | 2);
	check_eq("PCID 2", seen(), 1);
	write_cr3(cr3);
	write_cr4(cr4);
}

/* ---- SMEP and SMAP ------------------------------------------------------ */

/* Only WINDOW is ring 3's. */
static void
own_kernel(bool own)
{
	for (unsigned i = 0; i < 8 * 512; i++)
		pds[i] = own ? pds[i] & ~PTE_U : pds[i] | PTE_U;
	flush_tlb();
}

static void
smep(uint64_t cr4)
{
	write_cr4(cr4 | CR4_SMEP);
	page[0][8] = 0xc3;
	check_eq("SMEP: a fetch from a user page", access(FETCH, false), PF);
	check_eq("its error code", (uint32_t)fault_error, ERR_P | ERR_I);
	check_eq("a read is none", access(READ, false), NO_FAULT);
	*entry[1] &= ~PTE_U;
	flush_tlb();
	check_eq("not ring 3's by one level", access(FETCH, false), NO_FAULT);
	*entry[1] |= PTE_U;
	write_cr4(cr4);
	check_eq("SMEP off again", access(FETCH, false), NO_FAULT);
}

static void
smap(uint64_t cr4)
{
	uint64_t at = WINDOW + 8;

	write_cr4(cr4 | CR4_SMAP);
	check_eq("SMAP: a read", access(READ, false), PF);
	check_eq("its error code", (uint32_t)fault_error, ERR_P);
	check_eq("a write", access(WRITE, false), PF);
	check_eq("its error code", (uint32_t)fault_error, ERR_P | ERR_W);
	write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
	check_eq("without WP", access(WRITE, false), PF);
	write_cr0(read_cr0() | CR0_WP);
	page[0][8] = 0xc3;
	check_eq("a fetch is none", access(FETCH, false), NO_FAULT);
	check_eq("with AC, by STAC",
	    TRY("stac; cmpb $0, (%0); movb $1, (%0); clac", "r"(at)), NO_FAULT);
	check_eq("CLAC ends it", access(READ, false), PF);
	check_eq("with AC, by POPF",
	    TRY("pushf; pushf; orl $0x40000, (%%rsp); popf;"
		"cmpb $0, (%0); popf",
		"r"(at)),
	    NO_FAULT);
	check_eq("POPF ends it", access(READ, false), PF);
	check_eq("REP MOVS from there",
	    TRY_FULL("rep movsb", ,
		OPERANDS("S"(at), "D"(fault_sp - 256), "c"(1ULL)), "cc"),
	    PF);
	write_cr4(cr4);
	check_eq("SMAP off again", access(READ, false), NO_FAULT);
}

/* What the processor reads for itself in ring 3 it reads as ring 0. */
static void
implicit(void)
{
	uint64_t *ldt = (uint64_t *)page[1];

	ldt[1] = segment(0, 0xfffff, DESC_DATA | DESC_DPL(3));
	gdt[GDT_FREE] = segment((uint32_t)(WINDOW + 4096), 15, DESC_LDT);
	gdt[GDT_FREE + 1] = WINDOW >> 32;
	__asm__ volatile("lldt %w0" : : "r"(GDT_FREE * 8));
	own_kernel(false);
	check_eq("a descriptor on a user page", USER("mov %0, %%fs", "r"(0xf)),
	    HOME);
	entry[3][1] &= ~PTE_U;
	flush_tlb();
	check_eq("on one of ring 0", USER("mov %0, %%fs", "r"(0xf)), HOME);
	entry[3][1] = 0;
	flush_tlb();
	check_eq("on none", USER("mov %0, %%fs", "r"(0xf)), PF);
	check_eq("its error code is ring 0's", (uint32_t)fault_error, 0);
	reset();
}

/* Ring 3, on WINDOW, loads FS from the table behind it. */
static uint32_t
load_fs(void)
{
	return TRY("push $0x23; push $0; push user_flags; push $0x2b; push %0;"
		   "iretq",
	    "r"(WINDOW), "a"(0xf));
}

static void
implicit_smap(uint64_t cr4)
{
	static const uint8_t code[] = { 0x8e, 0xe0, 0xcd, HOME };

	reset();
	for (unsigned i = 0; i < sizeof(code); i++)
		page[0][i] = code[i];
	write_cr4(cr4 | CR4_SMAP);
	check_eq("SMAP: a descriptor on a user page", load_fs(), PF);
	check_eq("its error code", (uint32_t)fault_error, ERR_P);
	user_flags = FLAG_AC | 2;
	check_eq("AC does not help", load_fs(), PF);
	__asm__ volatile("clac");
	user_flags = 2;
	entry[3][1] &= ~PTE_U;
	flush_tlb();
	check_eq("on one of ring 0", load_fs(), HOME);
	write_cr4(cr4);
	reset();
}

void
payload(void)
{
	uint64_t cr4;
	uint32_t r[4];

	test("paging64");
	ring_init();
	write_cr0(read_cr0() | CR0_WP);
	cr4 = read_cr4();
	rights();
	accessed_dirty();
	reserved();
	sizes();
	split();
	forgetting();
	pcid();
	reset();
	implicit();
	own_kernel(true);
	cpuid(7, 0, r);
	if (r[1] >> 7 & 1)
		smep(cr4);
	if (r[1] >> 20 & 1) {
		smap(cr4);
		implicit_smap(cr4);
	}
	done();
}
