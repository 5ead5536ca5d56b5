/*
 * One x86 processor in software: its state, and the rules that many files of
 * this directory stand on.
 *
 * The interpreter (interp.h), the memory unit (mmu.h), events (event.h) and the
 * local APIC (lapic.h) all work on struct x86_cpu; so does translated code,
 * which finds it at the gs base.  It knows nothing of who runs it: see struct
 * x86_host for what it asks of the engine around it.
 *
 * Threads      A processor belongs to the thread that runs it.  Other threads
 *              may only touch `attention` and what lapic.h says.
 * Vector state While `fpu_live` is set the guest's x87 and vector registers are
 *              in the host's registers, and all code of engine/x86 and
 *              engine/jit is compiled without using those (-mgeneral-regs-only)
 *              and calls nothing of the C library but setjmp and longjmp.
 *              Whoever calls out to other code calls x86_fpu_put() first.
 * Exceptions   x86_raise() and its kin do not return: they jump to cpu->jmp.
 *              The interpreter takes back what the instruction changed in gpr,
 *              rip and rflags; everything else is changed only after the last
 *              thing that can raise.
 */
#ifndef ENGINE_X86_CPU_H
#define ENGINE_X86_CPU_H

#include <setjmp.h>
#include <stdatomic.h>

#include "base/err.h"
#include "engine/cpu_state.h"
#include "engine/x86/cpuid.h"
#include "engine/x86/decode.h"
#include "engine/x86/msr.h"
#include "mem/mem.h"

/* RFLAGS */
#define X86_TF BIT(8)
#define X86_IF BIT(9)
#define X86_DF BIT(10)
#define X86_IOPL (3u << 12)
#define X86_NT BIT(14)
#define X86_RF BIT(16)
#define X86_VM BIT(17)
#define X86_AC BIT(18)
#define X86_VIF BIT(19)
#define X86_VIP BIT(20)
#define X86_ID BIT(21)
#define X86_FLAGS_FIXED 0x2u /* always one */
#define X86_FLAGS_ALL 0x3f7fd5u

#define X86_CR0_PE BIT(0)
#define X86_CR0_MP BIT(1)
#define X86_CR0_EM BIT(2)
#define X86_CR0_TS BIT(3)
#define X86_CR0_ET BIT(4)
#define X86_CR0_NE BIT(5)
#define X86_CR0_WP BIT(16)
#define X86_CR0_AM BIT(18)
#define X86_CR0_NW BIT(29)
#define X86_CR0_CD BIT(30)
#define X86_CR0_PG BIT(31)

#define X86_CR4_VME BIT(0)
#define X86_CR4_PVI BIT(1)
#define X86_CR4_TSD BIT(2)
#define X86_CR4_DE BIT(3)
#define X86_CR4_PSE BIT(4)
#define X86_CR4_PAE BIT(5)
#define X86_CR4_MCE BIT(6)
#define X86_CR4_PGE BIT(7)
#define X86_CR4_PCE BIT(8)
#define X86_CR4_OSFXSR BIT(9)
#define X86_CR4_OSXMMEXCPT BIT(10)
#define X86_CR4_UMIP BIT(11)
#define X86_CR4_LA57 BIT(12)
#define X86_CR4_FSGSBASE BIT(16)
#define X86_CR4_PCIDE BIT(17)
#define X86_CR4_OSXSAVE BIT(18)
#define X86_CR4_SMEP BIT(20)
#define X86_CR4_SMAP BIT(21)
#define X86_CR4_PKE BIT(22)

#define X86_EFER_SCE BIT(0)
#define X86_EFER_LME BIT(8)
#define X86_EFER_LMA BIT(10)
#define X86_EFER_NXE BIT(11)

#define X86_XCR0_X87 BIT(0)
#define X86_XCR0_SSE BIT(1)
#define X86_XCR0_AVX BIT(2)
#define X86_XCR0_AVX512 (7u << 5)

/* struct cpu_segment, access */
#define X86_SEG_TYPE 0xfu
#define X86_SEG_ACCESSED BIT(0)
#define X86_SEG_RW BIT(1) /* code: readable; data: writable */
#define X86_SEG_CE BIT(2) /* code: conforming; data: expands down */
#define X86_SEG_CODE BIT(3)
#define X86_SEG_S BIT(4)
#define X86_SEG_DPL(access) (((access) >> 5) & 3)
#define X86_SEG_P BIT(7)
#define X86_SEG_L BIT(13)
#define X86_SEG_DB BIT(14)
#define X86_SEG_G BIT(15)

enum x86_vector {
	X86_DE = 0,
	X86_DB = 1,
	X86_NMI = 2,
	X86_BP = 3,
	X86_OFV = 4, /* #OF */
	X86_BR = 5,
	X86_UD = 6,
	X86_NM = 7,
	X86_DFV = 8, /* #DF */
	X86_TS = 10,
	X86_NP = 11,
	X86_SS = 12,
	X86_GP = 13,
	X86_PFV = 14, /* #PF */
	X86_MF = 16,
	X86_AC_FAULT = 17,
	X86_MC = 18,
	X86_XM = 19,
};

/* Error code of #PF */
#define X86_PF_P BIT(0)
#define X86_PF_W BIT(1)
#define X86_PF_U BIT(2)
#define X86_PF_RSVD BIT(3)
#define X86_PF_I BIT(4)

/*
 * The data TLB of translated code and interpreter: one set of tables for each
 * way to look at memory.  An access of view v to linear page p may use entry
 * i = p % X86_TLB_SIZE if its tag is x86_tlb_tag(p * 4096): the byte at linear
 * address a is then at host address a + addend[i].  read and write differ in
 * that a page which is read-only, not dirty yet or holds translated code has no
 * write tag.  No entry for what is not RAM or ROM.
 *
 * A tag is the complement of the page's address, so that code which may not
 * touch the flags can subtract it with LEA.
 */
#define X86_TLB_SIZE 1024u
#define X86_TLB_LARGE 16u
enum x86_view {
	X86_VIEW_USER,      /* CPL 3 */
	X86_VIEW_KERNEL,    /* CPL 0 to 2; user pages are #PF by SMAP */
	X86_VIEW_KERNEL_AC, /* the same with SMAP off or EFLAGS.AC set */
	X86_VIEWS,
};
struct x86_tlb {
	uint64_t read[X86_TLB_SIZE];
	uint64_t write[X86_TLB_SIZE];
	uint64_t addend[X86_TLB_SIZE];
};

static inline uint64_t
x86_tlb_tag(uint64_t lin)
{
	return ~(lin & ~0xfffULL);
}

/*
 * No page: the tag of an address that is not canonical, and at entries 0 and 1
 * of another one.  Subtracting it in the way above from an address which leads
 * to that entry never gives an offset within a page.
 */
static inline uint64_t
x86_tlb_none(unsigned entry)
{
	return ~(0x8000000000000800ULL + (entry < 2 ? 0x2000u : 0));
}

/* Where code is fetched from: a few pages, found again fast. */
#define X86_ITLB_SIZE 256u
#define X86_ITLB_NONE 1u
struct x86_itlb_entry {
	uint64_t tag; /* linear page address, | 2 for CPL 3; X86_ITLB_NONE */
	const uint8_t *host;
	gpa_t gpa;
	bool global;
};

/*
 * Where indirect jumps of translated code lead: by the target's rip, for one
 * kind of code (mode) at a time.
 */
#define X86_JUMPS 4096u
/*
 * Entry (rip + rip rotated right by X86_JUMPS_ROTATE) % X86_JUMPS: functions
 * begin at multiples of 16, so that the low bits alone would not spread them.
 */
#define X86_JUMPS_ROTATE 9u
#define X86_JUMP_SETS 4u
struct x86_jumps {
	uint64_t tag[X86_JUMPS]; /* the complement of rip */
	const void *host[X86_JUMPS];
	uint64_t base[X86_JUMPS]; /* code_base of the target */
};

/* Other threads set bits here; the owner looks between instructions. */
#define X86_ATTENTION_KICK BIT(0) /* leave engine_run() */
#define X86_ATTENTION_INTR BIT(1) /* an interrupt may be deliverable */
#define X86_ATTENTION_NMI BIT(2)
#define X86_ATTENTION_INIT BIT(3)
#define X86_ATTENTION_SIPI BIT(4)
#define X86_ATTENTION_STOP BIT(5)  /* another vCPU wants to be alone */
#define X86_ATTENTION_TIMER BIT(6) /* the local APIC's timer is due */
#define X86_ATTENTION_FLUSH BIT(7) /* forget all translations of addresses */

struct x86_cpu;
struct lapic;

/* What a processor asks of the engine around it; all on its own thread. */
struct x86_host {
	/* As in engine.h.  Vector state has been put away. */
	void (*pio)(struct x86_cpu *cpu, uint16_t port, bool write,
	    unsigned size, void *data, uint32_t count);
	void (*mmio)(struct x86_cpu *cpu, gpa_t gpa, bool write, unsigned size,
	    void *data);
	/* RAM at gpa was written and code had been translated from its page. */
	void (*wrote_code)(struct x86_cpu *cpu, gpa_t gpa, unsigned len);
	/*
	 * Addresses mean something else now: all of them, those of pages that
	 * are not global, those of one page.
	 */
	void (*flushed)(struct x86_cpu *cpu, bool global);
	void (*flushed_page)(struct x86_cpu *cpu, uint64_t lin);
	/* Alone: no other vCPU runs guest code between these two. */
	void (*exclusive_begin)(struct x86_cpu *cpu);
	void (*exclusive_end)(struct x86_cpu *cpu);
	/* The guest's TSC now. */
	uint64_t (*tsc)(struct x86_cpu *cpu);
	void (*set_tsc)(struct x86_cpu *cpu, uint64_t tsc);
};

/* A piece of memory, as an engine knows it: see mmu.h. */
struct x86_ram;
struct x86_mem;

struct x86_event {
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint64_t cr2; /* #PF */
};

struct x86_cpu {
	/*
	 * Translated code reaches these by small offsets.  Arithmetic flags are
	 * in the host's flags while it runs; rflags has the others.
	 */
	uint64_t gpr[CPU_GPRS];
	uint64_t rip;
	uint64_t rflags;
	_Atomic uint32_t attention;
	uint8_t code; /* enum x86_code, from CS and EFER.LMA */
	uint8_t cpl;
	uint8_t view; /* enum x86_view, from CPL, CR4.SMAP and AC */
	bool fpu_live;
	uint64_t pext_index; /* constants for code that may not touch flags */
	uint64_t pext_page;
	uint64_t pext_jump;
	uint64_t pext_itlb;
	uint64_t pext_no_if; /* all but RFLAGS.IF */
	uint64_t tsc_delta;  /* the guest's TSC less the host's, while it runs */
	uint64_t pext_sign;
	uint64_t code_base;  /* rip at offset 0 of the page of code that runs */
	uint64_t host_flags; /* the host's flags when translated code ended */
	uint32_t jit_mode;   /* what it was made for: its JIT_MODE_* */
	uint64_t jit_arg;    /* what it left for whom it came back to */
	uint64_t jit_exit;
	uint64_t jit_tmp;    /* its own, within an instruction */
	uint32_t host_mxcsr; /* MXCSR as C code expects it */
	uint32_t align_mask; /* x86_check_aligned(): 0 or all ones */

	struct cpu_segment seg[CPU_SEGS];
	struct cpu_table gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4, efer;
	uint64_t xcr0;
	uint64_t dr[4], dr6, dr7;
	uint64_t pdpte[4]; /* PAE: loaded with CR3 */

	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, tsc_adjust, misc_enable;
	uint64_t mtrr_def, mtrr_fixed[11], mtrr_var[32];

	/* Between instructions */
	bool sti_shadow;    /* no interrupt before the next instruction ends */
	bool mov_ss_shadow; /* nor a debug exception */
	uint8_t watched;    /* data and port breakpoints met: bits of DR6 */
	bool nmi_masked;
	bool halted;              /* in HLT */
	struct x86_event pending; /* an exception of a saved state, not begun */
	bool has_pending;

	/* The exception being raised, for whom cpu->jmp leads to. */
	struct x86_event event;
	jmp_buf *jmp;

	/* Fixed when made */
	unsigned id;
	const struct x86_host *host;
	void *owner; /* the engine's own */
	struct x86_mem *mem;
	struct lapic *lapic;
	struct cpuid_table cpuid; /* as its guest sees it */
	uint64_t features;        /* BIT(enum x86_feature) */
	uint64_t xcr0_allowed;
	uint32_t xsave_size;
	uint32_t mxcsr_mask;
	struct msr_params msr;
	bool strict_msr;
	unsigned phys_bits; /* MAXPHYADDR */

	/* Counted for the statistics */
	uint64_t stat_tlb_fills, stat_tlb_flushes, stat_interp, stat_exceptions,
	    stat_interrupts, stat_mmio, stat_pio;

	/* Between x86_rmw_ptr() and x86_rmw_done(): the page, if it matters. */
	bool rmw_told;
	gpa_t rmw_gpa;

	/* Views used since the last flush; linear ranges of large pages in it. */
	bool tlb_used[X86_VIEWS];
	bool tlb_local[X86_VIEWS]; /* by pages that are not global */
	struct {
		uint64_t first, last;
	} tlb_large[X86_TLB_LARGE]; /* by 512 GiB pieces, modulo */

	_Alignas(64) uint8_t xsave[CPU_XSAVE_MAX]; /* while not fpu_live */
	_Alignas(64) struct x86_tlb tlb[X86_VIEWS];
	struct x86_itlb_entry itlb[X86_ITLB_SIZE];
	struct x86_jumps jumps[X86_JUMP_SETS];
	uint32_t jumps_mode[X86_JUMP_SETS];  /* 0: the set is empty */
	bool jumps_local[X86_JUMP_SETS];     /* leads to pages not global */
	uint64_t jumps_pages[X86_JUMP_SETS]; /* BIT(page % 64) it leads to */
};

/* ---- cpu.c -------------------------------------------------------------- */

/*
 * A processor whose CPUID is `cpuid`; the caller then sets host, owner, mem and
 * lapic.  Aligned memory of its own; x86_cpu_free() takes NULL.
 */
struct x86_cpu *x86_cpu_new(unsigned id, const struct cpuid_table *cpuid,
    const struct msr_params *msr, bool strict_msr);
void x86_cpu_free(struct x86_cpu *cpu);

/*
 * To and from the state that all engines save, but for lapic and what belongs
 * to the vCPU's life (run_state, sipi_vector, nmi_pending, interrupt).  Setting
 * refuses, with a sentence, what no processor can be in.
 */
void x86_cpu_get(struct x86_cpu *cpu, struct cpu_state *state);
int x86_cpu_set(struct x86_cpu *cpu, const struct cpu_state *state,
    struct err *err);
/* INIT: as reset, but x87, vector state, caches, MSRs and TSC stay. */
void x86_cpu_init(struct x86_cpu *cpu);

/* After CS, SS, EFER, CR0, CR4.SMAP, CPL or AC changed: what hangs on them. */
void x86_cpu_mode(struct x86_cpu *cpu);

/* Guest vector state out of the host's registers, and in again. */
void x86_fpu_put(struct x86_cpu *cpu);
void x86_fpu_get(struct x86_cpu *cpu);

static inline bool
x86_long_mode(const struct x86_cpu *cpu)
{
	return cpu->efer & X86_EFER_LMA;
}

static inline bool
x86_protected(const struct x86_cpu *cpu) /* protected, and not virtual-8086 */
{
	return (cpu->cr0 & X86_CR0_PE) && !(cpu->rflags & X86_VM);
}

static inline bool
x86_v86(const struct x86_cpu *cpu)
{
	return cpu->rflags & X86_VM;
}

static inline bool
x86_has(const struct x86_cpu *cpu, enum x86_feature feature)
{
	return cpu->features & BIT(feature);
}

static inline unsigned
x86_iopl(const struct x86_cpu *cpu)
{
	return (unsigned)(cpu->rflags >> 12) & 3;
}

/* 48-bit linear addresses (57-bit ones are not offered). */
static inline bool
x86_canonical(uint64_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

/* ---- raising (cpu.c) ---------------------------------------------------- */

_Noreturn void x86_raise(struct x86_cpu *cpu, enum x86_vector vector);
_Noreturn void x86_raise_error(struct x86_cpu *cpu, enum x86_vector vector,
    uint32_t error);
_Noreturn void x86_raise_page_fault(struct x86_cpu *cpu, uint64_t lin,
    uint32_t error);

/* #GP(0), the most common one. */
static inline _Noreturn void
x86_raise_gp(struct x86_cpu *cpu)
{
	x86_raise_error(cpu, X86_GP, 0);
}

/*
 * #AC if lin is no multiple of alignment, a power of 2, and that matters: at
 * CPL 3 with CR0.AM and EFLAGS.AC.  SDM volume 3, 6.15.
 */
static inline void
x86_check_aligned(struct x86_cpu *cpu, uint64_t lin, unsigned alignment)
{
	if (lin & (alignment - 1) & cpu->align_mask)
		x86_raise_error(cpu, X86_AC_FAULT, 0);
}

#endif
