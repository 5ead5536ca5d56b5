/*
 * Model-specific and control registers: reserved bits, read-only bits, what
 * they depend on (SDM volume 3, 2.5, 2.6, 11.11, 11.12, 10.4.4; volume 4), and
 * the instructions that they open to ring 3 or close: UMIP, TSD, RDPMC, RDTSCP,
 * XGETBV.  CPUID of every leaf.
 */
#include "ring.h"

#define MSR_APIC_BASE 0x1bu
#define MSR_MTRRCAP 0xfeu
#define MSR_MTRR_BASE0 0x200u
#define MSR_MTRR_MASK0 0x201u
#define MSR_MTRR_FIX64K 0x250u
#define MSR_PAT 0x277u
#define MSR_MTRR_DEF 0x2ffu
#define MSR_TSC 0x10u
#define MSR_TSC_AUX 0xc0000103u
#define NOBODYS 0x12345678u

#define WRMSR(msr, value)                              \
	TRY("wrmsr", "c"(msr), "a"((uint32_t)(value)), \
	    "d"((uint32_t)((uint64_t)(value) >> 32)))
#define RDMSR(msr) TRY_FULL("rdmsr", , "c"(msr), "eax", "edx")

/* ---- MSRs --------------------------------------------------------------- */

static void
efer(void)
{
	uint64_t old = rdmsr(MSR_EFER);

	check64("EFER: in long mode", old & (EFER_LME | EFER_LMA),
	    EFER_LME | EFER_LMA);
	check_eq("a reserved bit", WRMSR(MSR_EFER, old | 1ULL << 9), GP);
	check_eq("in the upper half", WRMSR(MSR_EFER, old | 1ULL << 40), GP);
	check_eq("LME while paging is on",
	    WRMSR(MSR_EFER, old & ~(uint64_t)EFER_LME), GP);
	wrmsr(MSR_EFER, old & ~(uint64_t)EFER_SCE);
	check64("SCE", rdmsr(MSR_EFER), old & ~(uint64_t)EFER_SCE);
	wrmsr(MSR_EFER, old);
	check_eq("RDMSR in ring 3", USER("rdmsr", "c"(MSR_EFER)), GP);
	check_eq("WRMSR in ring 3",
	    USER("wrmsr", "c"(MSR_EFER), "a"((uint32_t)old), "d"(0)), GP);
	check_eq("an MSR of nobody", RDMSR(NOBODYS), GP);
	check_eq("written", WRMSR(NOBODYS, 0), GP);
}

static void
memory_types(void)
{
	uint64_t old = rdmsr(MSR_PAT);

	check64("PAT after reset", old, 0x0007040600070406);
	wrmsr(MSR_PAT, 0x0605040100070406);
	check64("all types", rdmsr(MSR_PAT), 0x0605040100070406);
	check_eq("type 2", WRMSR(MSR_PAT, old | 2ULL << 56), GP);
	check_eq("type 8", WRMSR(MSR_PAT, 8), GP);
	wrmsr(MSR_PAT, old);

	check_eq("MTRRCAP is read-only", WRMSR(MSR_MTRRCAP, 0), GP);
	check("it has variable MTRRs", (rdmsr(MSR_MTRRCAP) & 0xff) > 0);
	old = rdmsr(MSR_MTRR_DEF);
	check_eq("MTRR_DEF: reserved bit", WRMSR(MSR_MTRR_DEF, old | 1 << 12),
	    GP);
	check_eq("type 7", WRMSR(MSR_MTRR_DEF, 7), GP);
	wrmsr(MSR_MTRR_BASE0, 0x40000006);
	check64("a base", rdmsr(MSR_MTRR_BASE0), 0x40000006);
	check_eq("with a reserved bit", WRMSR(MSR_MTRR_BASE0, 0x40000106), GP);
	check_eq("of type 2", WRMSR(MSR_MTRR_BASE0, 2), GP);
	check_eq("a mask with a reserved bit", WRMSR(MSR_MTRR_MASK0, 0x400),
	    GP);
	check_eq("beyond MAXPHYADDR", WRMSR(MSR_MTRR_MASK0, 1ULL << 52), GP);
	wrmsr(MSR_MTRR_BASE0, 0);
	check_eq("fixed: type 3", WRMSR(MSR_MTRR_FIX64K, 0x03), GP);
}

static void
apic_base(void)
{
	uint64_t old = rdmsr(MSR_APIC_BASE);
	uint32_t r[4];

	check64("APIC_BASE", old, 0xfee00900);
	check_eq("beyond MAXPHYADDR", WRMSR(MSR_APIC_BASE, old | 1ULL << 52),
	    GP);
	check_eq("reserved bit", WRMSR(MSR_APIC_BASE, old | 1), GP);
	cpuid(1, 0, r);
	check_eq("CPUID: on", r[3] >> 9 & 1, 1);
	wrmsr(MSR_APIC_BASE, old & ~0x800ULL);
	cpuid(1, 0, r);
	check_eq("CPUID: off", r[3] >> 9 & 1, 0);
	wrmsr(MSR_APIC_BASE, old);
	check_eq("x2APIC without xAPIC",
	    WRMSR(MSR_APIC_BASE, (old & ~0x800ULL) | 0x400), GP);
	check_eq("x2APIC registers before it", RDMSR(0x802), GP);
}

/* ---- control registers -------------------------------------------------- */

static void
control(void)
{
	uint64_t cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4();
	uint32_t r[4];

#define MOV_CR(cr, value) TRY("mov %0, %%" cr, "r"((uint64_t)(value)))
	check_eq("CR0: PG without PE", MOV_CR("cr0", cr0 & ~1ULL), GP);
	check_eq("NW without CD", MOV_CR("cr0", cr0 | CR0_NW), GP);
	check_eq("upper half", MOV_CR("cr0", cr0 | 1ULL << 32), GP);
	check_eq("PG cleared in 64-bit code",
	    MOV_CR("cr0", cr0 & ~(uint64_t)CR0_PG), GP);
	check_eq("reserved bits below are ignored",
	    MOV_CR("cr0", cr0 | 1 << 6 | 1 << 17), NO_FAULT);
	check64("and not kept", read_cr0(), cr0);
	write_cr0(cr0 & ~0x10ULL);
	check_eq("ET is always set", read_cr0() >> 4 & 1, 1);
	write_cr0(cr0 | CR0_CD | CR0_NW);
	check64("CD and NW are kept", read_cr0(), cr0 | CR0_CD | CR0_NW);
	write_cr0(cr0);
	cpuid(0x80000008, 0, r);
	if ((r[0] & 0xff) < 52)
		check_eq("CR3 beyond MAXPHYADDR",
		    MOV_CR("cr3", cr3 | 1ULL << 51), GP);
	check_eq("CR3: bit 52", MOV_CR("cr3", cr3 | 1ULL << 52), GP);
	check_eq("CR3: low bits are ignored", MOV_CR("cr3", cr3 | 0x7),
	    NO_FAULT);
	write_cr3(cr3);
	check_eq("CR4: PAE cleared in long mode",
	    MOV_CR("cr4", cr4 & ~(uint64_t)CR4_PAE), GP);
	check_eq("a reserved bit", MOV_CR("cr4", cr4 | 1 << 15), GP);
	check_eq("VMXE that is not offered", MOV_CR("cr4", cr4 | 1 << 13), GP);
	check_eq("upper half", MOV_CR("cr4", cr4 | 1ULL << 63), GP);
	check_eq("CR8: 16", MOV_CR("cr8", 16), GP);
	check_eq("CR8: 15", MOV_CR("cr8", 15), NO_FAULT);
	check64("it reads back", read_cr8(), 15);
	write_cr8(0);
	check_eq("CR1", TRY(".byte 0x0f, 0x20, 0xc8", "r"(0)), UD);
	check_eq("CR9", TRY(".byte 0x44, 0x0f, 0x20, 0xc8", "r"(0)), UD);
	check_eq("MOV CR0 in ring 3", USER("mov %0, %%cr0", "r"(cr0)), GP);
	check_eq("read", USER_FULL("mov %%cr0, %0", , "a"(0ULL), "cc"), GP);
	check_eq("CR8", USER("mov %0, %%cr8", "r"(0ULL)), GP);
	/* A 16-bit operand size does not matter, nor does ModRM.mod. */
	__asm__ volatile(".byte 0x66, 0x0f, 0x20, 0x18" /* mod 0 */
			 : "=a"(cr0));
	check64("ModRM.mod is ignored", cr0, cr3);
}

/* ---- what ring 3 may --------------------------------------------------- */

static void
user_instructions(void)
{
	uint64_t cr4 = read_cr4();
	uint32_t r[4];

#define USER_IN(insn) USER_FULL(insn, , "c"(0), "rax", "rdx", "cc")
	check_eq("RDTSC in ring 3", USER_IN("rdtsc"), HOME);
	write_cr4(cr4 | CR4_TSD);
	check_eq("with CR4.TSD", USER_IN("rdtsc"), GP);
	check_eq("in ring 0", TRY_FULL("rdtsc", , "r"(0), "rax", "rdx"),
	    NO_FAULT);
	cpuid(0x80000001, 0, r);
	if (r[3] >> 27 & 1) {
		uint32_t aux;

		check_eq("RDTSCP with CR4.TSD",
		    USER_FULL("rdtscp", , "r"(0), "rax", "rcx", "rdx"), GP);
		write_cr4(cr4 & ~(uint64_t)CR4_TSD);
		wrmsr(MSR_TSC_AUX, 0x12345);
		check_eq("without",
		    USER_FULL("rdtscp", "=c"(aux), "r"(0), "rax", "rdx"), HOME);
		check_eq("TSC_AUX in ECX", aux, 0x12345);
	}
	write_cr4(cr4 & ~(uint64_t)(CR4_PCE | CR4_TSD));
	check_eq("RDPMC in ring 3", USER_IN("rdpmc"), GP);
	check_eq("of a counter of nobody", TRY("rdpmc", "c"(0x1000)), GP);

	cpuid(7, 0, r);
	check_eq("SGDT in ring 3", USER_IN("sgdt -128(%%rsp)"), HOME);
	check_eq("SMSW", USER_IN("smsw %%eax"), HOME);
	check_eq("SLDT", USER_IN("sldt %%eax"), HOME);
	if (r[2] >> 2 & 1) {
		write_cr4(cr4 | CR4_UMIP);
		check_eq("UMIP: SGDT", USER_IN("sgdt -128(%%rsp)"), GP);
		check_eq("SIDT", USER_IN("sidt -128(%%rsp)"), GP);
		check_eq("SLDT", USER_IN("sldt %%eax"), GP);
		check_eq("STR", USER_IN("str %%eax"), GP);
		check_eq("SMSW", USER_IN("smsw %%eax"), GP);
		check_eq("in ring 0",
		    TRY_FULL("sgdt -128(%%rsp); str %%eax", , "r"(0), "rax",
			"cc"),
		    NO_FAULT);
	}
	write_cr4(cr4);
	check_eq("LGDT", USER("lgdt gdt", "r"(0)), GP);
	check_eq("LIDT", USER("lidt idt", "r"(0)), GP);
	check_eq("LMSW", USER("lmsw %w0", "r"(1)), GP);
	check_eq("HLT", USER("hlt", "r"(0)), GP);
	check_eq("INVD", USER("invd", "r"(0)), GP);
	check_eq("WBINVD", USER("wbinvd", "r"(0)), GP);
	check_eq("CLI", USER("cli", "r"(0)), GP);
	check_eq("STI", USER("sti", "r"(0)), GP);
	check_eq("IN", USER_FULL("in $0x80, %%al", , "r"(0), "rax", "cc"), GP);
	check_eq("OUT", USER("out %%al, $0x80", "r"(0)), GP);
	check_eq("CPUID is everybody's",
	    USER_FULL("cpuid", , "r"(0), "rax", "rbx", "rcx", "rdx"), HOME);
}

static void
osxsave(void)
{
	uint64_t cr4 = read_cr4();
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 26 & 1)) {
		check_eq("CR4.OSXSAVE that is not offered",
		    MOV_CR("cr4", cr4 | CR4_OSXSAVE), GP);
		return;
	}
	write_cr4(cr4 & ~(uint64_t)CR4_OSXSAVE);
	cpuid(1, 0, r);
	check_eq("CPUID: OSXSAVE off", r[2] >> 27 & 1, 0);
	write_cr4(cr4 | CR4_OSXSAVE);
	cpuid(1, 0, r);
	check_eq("CPUID: OSXSAVE on", r[2] >> 27 & 1, 1);
	check_eq("XGETBV in ring 3", USER_IN("xgetbv"), HOME);
	check_eq("XGETBV of register 2", TRY("xgetbv", "c"(2)), GP);
	__asm__ volatile("xsetbv" : : "a"(3), "c"(0), "d"(0));
	cpuid(0xd, 0, r);
	check_eq("CPUID: the area of x87 and SSE", r[1], 576);
	write_cr4(cr4);
}

static void
all_leaves(void)
{
	static const uint32_t bases[] = { 0, 0x40000000, 0x80000000,
		0xc0000000 };
	unsigned faults = 0;
	uint32_t r[4];

	for (unsigned b = 0; b < 4; b++)
		for (uint32_t leaf = 0; leaf < 0x40; leaf++)
			for (uint32_t sub = 0; sub < 4; sub++)
				faults += TRY_FULL("cpuid",
					      OPERANDS("=a"(r[0]), "=c"(r[2])),
					      OPERANDS("a"(bases[b] + leaf),
						  "c"(sub)),
					      "rbx", "rdx") != NO_FAULT;
	check_eq("CPUID of all leaves", faults, 0);
	cpuid(0x80000000, 0, r);
	check("extended leaves", r[0] >= 0x80000008);
	cpuid(0x80000008, 0, r);
	check("48 linear address bits", (r[0] >> 8 & 0xff) >= 48);
}

/* Writes of the upper half of a register, and the TSC's own MSR. */
static void
tsc(void)
{
	uint64_t now, set = 0x123456789abcdef;
	uint32_t low, high;

	wrmsr(MSR_TSC, set);
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	now = (uint64_t)high << 32 | low;
	check("TSC goes on from what was written",
	    now >= set && now - set < 1ULL << 36);
	check("RDMSR of it", rdmsr(MSR_TSC) >= now);
}

void
payload(void)
{
	test("msr");
	ring_init();
	efer();
	memory_types();
	apic_base();
	control();
	user_instructions();
	osxsave();
	all_leaves();
	tsc();
	done();
}
