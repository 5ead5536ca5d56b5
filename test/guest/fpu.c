/*
 * Who may use which unit (SDM volume 3, 2.5 and table 2-2, chapters 12 and 13):
 * CR0.EM, MP and TS, CR4.OSFXSR, OSXMMEXCPT and OSXSAVE, XCR0; #MF and #XM;
 * what XRSTOR refuses; and the lazy switch between two owners of the registers.
 */
#include "ring.h"

#define XCR0_X87 1u
#define XCR0_SSE 2u
#define XCR0_AVX 4u

static uint64_t cr0, cr4;
static bool has_avx, has_xsave;
static uint8_t area[4096] __attribute__((aligned(64), used));
static uint8_t other[4096] __attribute__((aligned(64)));

/* ---- gating ------------------------------------------------------------- */

enum unit { X87, WAIT, MMX, SSE, SSE_FREE, FXSAVE, AVX, UNITS };

static uint32_t
use(enum unit unit)
{
	switch (unit) {
	case X87:
		return TRY("fnop", "r"(0));
	case WAIT:
		return TRY("fwait", "r"(0));
	case MMX:
		return TRY("movd %0, %%mm0; emms", "r"(0));
	case SSE:
		return TRY("xorps %%xmm0, %%xmm0", "r"(0));
	case SSE_FREE: /* needs none of the registers */
		return TRY("sfence; movnti %0, area; prefetcht0 area", "r"(0));
	case FXSAVE:
		return TRY("fxsave area", "r"(0));
	default:
		return TRY("vxorps %%ymm0, %%ymm0, %%ymm0", "r"(0));
	}
}

static uint32_t
rule(enum unit unit, bool em, bool mp, bool ts, bool osfxsr)
{
	switch (unit) {
	case X87:
		return em || ts ? NM : NO_FAULT;
	case WAIT:
		return mp && ts ? NM : NO_FAULT;
	case MMX:
		return em ? UD : ts ? NM : NO_FAULT;
	case SSE:
		return em || !osfxsr ? UD : ts ? NM : NO_FAULT;
	case FXSAVE:
		return em || ts ? NM : NO_FAULT;
	default:
		return NO_FAULT;
	}
}

static void
gating(void)
{
	static const char *const names[UNITS] = { "x87", "WAIT", "MMX", "SSE",
		"what needs no unit", "FXSAVE" };

	for (enum unit unit = X87; unit <= FXSAVE; unit++) {
		unsigned right = 0;

		for (unsigned n = 0; n < 16; n++) {
			bool em = n & 1, mp = n & 2, ts = n & 4, fx = n & 8;
			uint32_t got;

			write_cr4((cr4 & ~(uint64_t)CR4_OSFXSR) |
			    (fx ? CR4_OSFXSR : 0));
			write_cr0(
			    (cr0 & ~(uint64_t)(CR0_EM | CR0_MP | CR0_TS)) |
			    (em ? CR0_EM : 0) | (mp ? CR0_MP : 0) |
			    (ts ? CR0_TS : 0));
			got = use(unit);
			write_cr0(cr0);
			right += got == rule(unit, em, mp, ts, fx);
		}
		check_eq(names[unit], right, 16);
	}
	write_cr4(cr4 | CR4_OSFXSR | CR4_OSXMMEXCPT);
}

static void
clts(void)
{
	write_cr0(cr0 | CR0_TS);
	check_eq("TS", use(SSE), NM);
	__asm__ volatile("clts");
	check_eq("CLTS", use(SSE), NO_FAULT);
	check_eq("in ring 3", USER("clts", "r"(0)), GP);
	write_cr0(cr0 | CR0_TS);
	check_eq("TS by MOV CR0", use(X87), NM);
	__asm__ volatile("smsw %%eax; and $~8, %%eax; lmsw %%ax" ::: "eax");
	check_eq("cleared by LMSW", use(X87), NO_FAULT);
	__asm__ volatile("lmsw %w0" : : "r"(0));
	check_eq("LMSW cannot clear PE", (uint32_t)read_cr0() & 1, 1);
	write_cr0(cr0);
}

static void
set_xcr0(uint32_t value)
{
	__asm__ volatile("xsetbv" : : "a"(value), "c"(0), "d"(0));
}

static void
avx(void)
{
	write_cr4(read_cr4() & ~(uint64_t)CR4_OSXSAVE);
	check_eq("AVX without CR4.OSXSAVE", use(AVX), UD);
	check_eq("XGETBV", TRY("xgetbv", "c"(0)), UD);
	check_eq("XSETBV", TRY("xsetbv", "a"(1), "c"(0), "d"(0)), UD);
	check_eq("XSAVE", TRY("xsave area", "a"(0), "d"(0)), UD);
	write_cr4(read_cr4() | CR4_OSXSAVE);
	set_xcr0(XCR0_X87 | XCR0_SSE);
	check_eq("without XCR0", use(AVX), UD);
	set_xcr0(XCR0_X87 | XCR0_SSE | XCR0_AVX);
	check_eq("with it", use(AVX), NO_FAULT);
	write_cr0(cr0 | CR0_TS);
	check_eq("with TS", use(AVX), NM);
	write_cr0(cr0 | CR0_EM);
	check_eq("EM does not matter to AVX", use(AVX), NO_FAULT);
	write_cr0(cr0);
	check_eq("XCR0 without x87",
	    TRY("xsetbv", "a"(XCR0_SSE), "c"(0), "d"(0)), GP);
	check_eq("AVX without SSE",
	    TRY("xsetbv", "a"(XCR0_X87 | XCR0_AVX), "c"(0), "d"(0)), GP);
	check_eq("what nobody has",
	    TRY("xsetbv", "a"(7), "c"(0), "d"(0x40000000)), GP);
	check_eq("another register", TRY("xsetbv", "a"(7), "c"(1), "d"(0)), GP);
	check_eq("in ring 3", USER("xsetbv", "a"(7), "c"(0), "d"(0)), GP);
}

/* ---- exceptions of the units -------------------------------------------- */

static void
x87_errors(void)
{
	uint16_t control = 0x037b; /* divide by zero is not masked */

	write_cr0(cr0 | CR0_NE);
	__asm__ volatile("fninit; fldcw %0; fldz; fld1" : : "m"(control));
	check_eq("the division itself is quiet",
	    TRY("fdiv %%st(1), %%st", "r"(0)), NO_FAULT);
	check_eq("the next instruction is #MF", TRY(HERE("fwait"), "r"(0)), MF);
	check64("a fault", fault_ip, insn_at);
	check_eq("still", TRY("fld1", "r"(0)), MF);
	check_eq("MMX, too", TRY("emms", "r"(0)), MF);
	check_eq("FNSTSW is none", TRY("fnstsw area", "r"(0)), NO_FAULT);
	check_eq("ZE and ES", *(uint16_t *)area & 0x84, 0x84);
	check_eq("SSE is none", use(SSE), NO_FAULT);
	__asm__ volatile("fnclex");
	check_eq("FNCLEX ends it", TRY("fwait", "r"(0)), NO_FAULT);
	__asm__ volatile("fninit");
	write_cr0(cr0);
}

static void
sse_errors(void)
{
	uint32_t mxcsr = 0x1d80; /* divide by zero is not masked */
	static const float one = 1;

	__asm__ volatile("ldmxcsr %0; xorps %%xmm1, %%xmm1; movss %1, %%xmm0"
			 :
			 : "m"(mxcsr), "m"(one));
	check_eq("#XM", TRY(HERE("divss %%xmm1, %%xmm0"), "r"(0)), XM);
	check64("a fault", fault_ip, insn_at);
	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	check_eq("ZE", mxcsr & 0x3f, 4);
	__asm__ volatile("movss %%xmm0, %0" : "=m"(area));
	check_eq("its target is unchanged", *(uint32_t *)area, 0x3f800000);
	write_cr4(read_cr4() & ~(uint64_t)CR4_OSXMMEXCPT);
	check_eq("#UD without OSXMMEXCPT", TRY("divss %%xmm1, %%xmm0", "r"(0)),
	    UD);
	write_cr4(read_cr4() | CR4_OSXMMEXCPT);
	mxcsr = 0x10000;
	check_eq("reserved bits of MXCSR", TRY("ldmxcsr %0", "m"(mxcsr)), GP);
	mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	check_eq("MOVAPS off its alignment",
	    TRY("movaps area + 8, %%xmm0", "r"(0)), GP);
	check_eq("FXSAVE", TRY("fxsave area + 8", "r"(0)), GP);
	check_eq("ADDPS", TRY("addps area + 4, %%xmm0", "r"(0)), GP);
	check_eq("MOVUPS is none", TRY("movups area + 8, %%xmm0", "r"(0)),
	    NO_FAULT);
}

/* ---- XSAVE -------------------------------------------------------------- */

#define HEADER(i) (((uint64_t *)(area + 512))[i])

static uint32_t
restore(void)
{
	return TRY("xrstor area", "a"(7), "d"(0));
}

static void
forged(void)
{
	__asm__ volatile("xsave area" : : "a"(7), "d"(0) : "memory");
	check_eq("XRSTOR of what XSAVE wrote", restore(), NO_FAULT);
	HEADER(0) |= 1ULL << 40;
	check_eq("a component that XCR0 lacks", restore(), GP);
	HEADER(0) &= 7;
	HEADER(1) = 1;
	check_eq("compact form without its bit", restore(), GP);
	HEADER(1) = 0;
	HEADER(2) = 1;
	check_eq("a reserved word", restore(), GP);
	HEADER(2) = 0;
	((uint32_t *)area)[6] |= 0x80000000; /* MXCSR */
	check_eq("MXCSR", restore(), GP);
	((uint32_t *)area)[6] &= 0xffff;
	check_eq("XSAVE off its alignment",
	    TRY("xsave area + 16", "a"(7), "d"(0)), GP);
	check_eq("XRSTOR off its alignment",
	    TRY("xrstor area + 16", "a"(7), "d"(0)), GP);
	HEADER(0) = 0;
	__asm__ volatile("pcmpeqd %xmm5, %xmm5");
	check_eq("XRSTOR to the initial state", restore(), NO_FAULT);
	__asm__ volatile("movups %%xmm5, %0" : "=m"(other));
	check64("clears", *(uint64_t *)other, 0);
	__asm__ volatile("pcmpeqd %xmm5, %xmm5");
	(void)TRY("xrstor area", "a"(1), "d"(0));
	__asm__ volatile("movups %%xmm5, %0" : "=m"(other));
	check64("but only what is asked for", *(uint64_t *)other, UINT64_MAX);
	write_cr0(cr0 | CR0_TS);
	check_eq("with TS", restore(), NM);
	write_cr0(cr0);
}

/* ---- the lazy switch ---------------------------------------------------- */

static volatile unsigned owner, switches;
static bool wide;

HANDLER(not_available)
{
	uint8_t *from = owner == 0 ? area : other;
	uint8_t *to = owner == 0 ? other : area;

	__asm__ volatile("clts");
	if (wide)
		__asm__ volatile("xsave (%0); xrstor (%1)"
				 :
				 : "r"(from), "r"(to), "a"(7), "d"(0)
				 : "memory");
	else
		__asm__ volatile("fxsave (%0); fxrstor (%1)"
				 :
				 : "r"(from), "r"(to)
				 : "memory");
	owner ^= 1;
	switches++;
}

/* Two sums, each by one owner. */
static void
lazy(const char *name)
{
	uint64_t sum[2] = { 0, 0 };
	unsigned in_mmx = 0;

	for (unsigned i = 0; i < sizeof(area); i++)
		area[i] = other[i] = 0;
	__asm__ volatile("fninit; fxsave area; fxsave (%0)"
			 :
			 : "r"(other)
			 : "memory");
	owner = switches = 0;
	__asm__ volatile("fninit; fldz; xorps %xmm7, %xmm7");
	write_cr0(cr0 | CR0_TS);
	/* The other owner begins with an empty stack. */
	__asm__ volatile("fldz; xorps %xmm7, %xmm7");
	for (unsigned i = 1; i <= 100; i++) {
		write_cr0(cr0 | CR0_TS);
		__asm__ volatile("movq %0, %%xmm0; paddq %%xmm0, %%xmm7;"
				 "fld1; faddp"
				 :
				 : "r"((uint64_t)i << (owner ? 0 : 20)));
	}
	for (unsigned i = 0; i < 2; i++) {
		unsigned me = owner;
		double value;

		__asm__ volatile("movq %%xmm7, %0; fstl %1"
				 : "=r"(sum[me]), "=m"(value));
		in_mmx += *(uint64_t *)&value == 0x4049000000000000; /* 50.0 */
		write_cr0(cr0 | CR0_TS);
		__asm__ volatile("fnop");
	}
	write_cr0(cr0);
	check_eq(name, switches, 103);
	/* The first one had the odd numbers. */
	check64("the first kept its own XMM", sum[0], 2500);
	check64("and the second", sum[1], 2550ULL << 20);
	check_eq("and its own x87", in_mmx, 2);
}

void
payload(void)
{
	uint32_t r[4];

	test("fpu");
	ring_init();
	cr0 = read_cr0() & ~(uint64_t)(CR0_EM | CR0_MP | CR0_TS);
	cr4 = read_cr4();
	cpuid(1, 0, r);
	has_xsave = r[2] >> 26 & 1;
	has_avx = r[2] >> 28 & 1;
	write_cr0(cr0);
	gating();
	clts();
	x87_errors();
	sse_errors();
	if (has_avx)
		avx();
	if (has_xsave) {
		write_cr4(read_cr4() | CR4_OSXSAVE);
		set_xcr0(has_avx ? 7 : 3);
		forged();
	}
	gate(NM, not_available);
	lazy("lazy by FXSAVE");
	wide = has_xsave;
	lazy("lazy by XSAVE");
	done();
}
