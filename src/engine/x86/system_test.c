/*
 * System instructions: privilege, control registers, MSRs, ports, fast calls.
 */
#include "engine/x86/system_rig.h"

#define PE X86_CR0_PE
#define PG X86_CR0_PG

static int
set_up(void **state)
{
	rig_new(CPUID_INTEL);
	return 0;
}

static int
set_up_amd(void **state)
{
	rig_new(CPUID_AMD);
	return 0;
}

static int
tear_down(void **state)
{
	rig_free();
	return 0;
}

static bool
is_amd(void)
{
	return rig.cpu->msr.vendor == CPUID_AMD;
}

static void
set_pair(uint32_t index, uint64_t value)
{
	rig.cpu->gpr[CPU_RCX] = index;
	rig.cpu->gpr[CPU_RAX] = (uint32_t)value;
	rig.cpu->gpr[CPU_RDX] = value >> 32;
}

static bool
wrmsr(uint32_t index, uint64_t value)
{
	set_pair(index, value);
	return !INSN(0x0f, 0x30);
}

static uint64_t
rdmsr(uint32_t index)
{
	rig.cpu->gpr[CPU_RCX] = index;
	assert_false(INSN(0x0f, 0x32));
	return rig.cpu->gpr[CPU_RDX] << 32 | rig.cpu->gpr[CPU_RAX];
}

/* ----------------------------------------------------- control registers */

/* SDM volume 2, MOV to control registers; volume 3, 2.5. */
static void
control_registers(void **state)
{
	static const struct {
		const char *what;
		bool long_mode;
		unsigned cr;
		uint64_t value;
		bool faults;
	} rows[] = {
		{ "PG without PE", false, 0, PG, true },
		{ "NW without CD", false, 0, PE | X86_CR0_NW, true },
		{ "NW with CD", false, 0, PE | X86_CR0_NW | X86_CR0_CD, false },
		{ "upper half", true, 0, PG | PE | BIT(32), true },
		{ "reserved bits", false, 0, PE | 0x1ff8ffc0, false },
		{ "PG off in 64-bit code", true, 0, PE, true },
		{ "WP off", true, 0, PG | PE, false },
		{ "PAE off in long mode", true, 4, 0, true },
		{ "LA57", true, 4, X86_CR4_PAE | X86_CR4_LA57, true },
		{ "PKE", false, 4, X86_CR4_PKE, true },
		{ "VMXE", false, 4, BIT(13), true },
		{ "upper half", true, 4, X86_CR4_PAE | BIT(32), true },
		{ "all there are", true, 4, 0x370fff, false },
		{ "PCIDE outside long mode", false, 4, X86_CR4_PCIDE, true },
		{ "PCIDE", true, 4, X86_CR4_PAE | X86_CR4_PCIDE, false },
		{ "CR3 beyond MAXPHYADDR", true, 3, BIT(40), true },
		{ "CR3 without PCIDE", true, 3, BIT(63) | PAGES, true },
		{ "CR3", true, 3, PAGES | 0x18, false },
		{ "CR8", true, 8, 15, false },
		{ "CR8", true, 8, 16, true },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint8_t rex = rows[i].cr == 8 ? 0x44 : 0x40;
		const uint8_t modrm = 0xc0 | (rows[i].cr & 7) << 3;
		const uint8_t mov64[] = { rex, 0x0f, 0x22, modrm };
		bool raised;

		cpu->cr4 = 0;
		cpu->efer = 0;
		(rows[i].long_mode ? rig_long : rig_prot)(0);
		cpu->gpr[CPU_RAX] = rows[i].value;
		raised = rows[i].long_mode ? rig_raises(mov64, 4) :
					     rig_raises(mov64 + 1, 3);
		assert_int_equal(raised, rows[i].faults);
		if (raised) {
			assert_int_equal(cpu->event.vector, X86_GP);
			assert_int_equal(cpu->event.error, 0);
		}
	}
	/* Reading back: ET is one, what is reserved zero. */
	cpu->cr4 = 0;
	cpu->efer = 0;
	rig_prot(0);
	cpu->gpr[CPU_RAX] = PE | 0x1ff8ffc0;
	assert_false(INSN(0x0f, 0x22, 0xc0));
	assert_false(INSN(0x0f, 0x20, 0xc3));
	assert_int_equal(cpu->gpr[CPU_RBX], PE | X86_CR0_ET);
	/* CR3 keeps bit 63 to itself. */
	rig_long(0);
	cpu->cr4 |= X86_CR4_PCIDE;
	cpu->gpr[CPU_RAX] = BIT(63) | PAGES | 5;
	assert_false(INSN(0x0f, 0x22, 0xd8));
	assert_int_equal(cpu->cr3, PAGES | 5);
	/* PCIDE can be set with PCID 0 only. */
	cpu->cr4 &= ~(uint64_t)X86_CR4_PCIDE;
	cpu->gpr[CPU_RAX] = X86_CR4_PAE | X86_CR4_PCIDE;
	INSN_RAISES(X86_GP, 0, 0x0f, 0x22, 0xe0);
	/* CR8 is the APIC's. */
	cpu->gpr[CPU_RAX] = 9;
	assert_false(INSN(0x44, 0x0f, 0x22, 0xc0));
	assert_int_equal(lapic_get_cr8(cpu->lapic), 9);
	assert_false(INSN(0x44, 0x0f, 0x20, 0xc3));
	assert_int_equal(cpu->gpr[CPU_RBX], 9);
}

/* SDM volume 3, 9.8.5: into IA-32e mode and out of it. */
static void
long_mode_comes_and_goes(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(0); /* for its page tables */
	cpu->cr4 = cpu->efer = 0;
	cpu->cr0 = PE | X86_CR0_ET;
	rig_seg(CPU_CS, K_CODE);
	x86_cpu_mode(cpu);
	assert_true(wrmsr(0xc0000080, X86_EFER_LME | X86_EFER_SCE));
	assert_false(x86_long_mode(cpu));
	cpu->gpr[CPU_RAX] = PG | PE;
	INSN_RAISES(X86_GP, 0, 0x0f, 0x22, 0xc0); /* without PAE */
	cpu->cr4 = X86_CR4_PAE;
	cpu->seg[CPU_CS].access |= X86_SEG_L;
	INSN_RAISES(X86_GP, 0, 0x0f, 0x22, 0xc0);
	cpu->seg[CPU_CS].access &= ~(uint32_t)X86_SEG_L;
	cpu->seg[CPU_TR].access = 0x83; /* a 16-bit TSS */
	INSN_RAISES(X86_GP, 0, 0x0f, 0x22, 0xc0);
	cpu->seg[CPU_TR].access = 0x8b;
	rig.flushes = 0;
	assert_false(INSN(0x0f, 0x22, 0xc0));
	assert_true(rig.flushes > 0);
	assert_true(x86_long_mode(cpu));
	assert_int_equal(cpu->code, X86_CODE32); /* compatibility mode */
	assert_int_equal(rdmsr(0xc0000080),
	    X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE);
	/* LME cannot change under paging; LMA is read-only. */
	assert_false(wrmsr(0xc0000080, 0));
	assert_true(wrmsr(0xc0000080, X86_EFER_LME));
	assert_true(x86_long_mode(cpu));
	SUCCEEDS(x86_jmp_far(cpu, K_CODE64, CODE, 4));
	assert_int_equal(cpu->code, X86_CODE64);
	SUCCEEDS(x86_jmp_far(cpu, K_CODE, CODE, 4));
	cpu->gpr[CPU_RAX] = PE;
	cpu->cr4 |= X86_CR4_PCIDE;
	INSN_RAISES(X86_GP, 0, 0x0f, 0x22, 0xc0);
	cpu->cr4 &= ~(uint64_t)X86_CR4_PCIDE;
	assert_false(INSN(0x0f, 0x22, 0xc0));
	assert_false(x86_long_mode(cpu));
	assert_true(cpu->efer & X86_EFER_LME);
	/* Reserved bits of EFER. */
	assert_false(wrmsr(0xc0000080, BIT(12))); /* SVME */
	assert_false(wrmsr(0xc0000080, BIT(63)));
	assert_true(wrmsr(0xc0000080, X86_EFER_NXE));
}

/* SDM volume 3, 4.4.1: PDPTEs are read and checked when PAE paging begins. */
static void
pae(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	cpu->cr4 = X86_CR4_PAE;
	cpu->cr3 = PAGES;
	rig_poke(PAGES, 8, (PAGES + 0x1000) | 1);
	rig_poke(PAGES + 8, 8, 3); /* reserved: W */
	rig_poke(PAGES + 0x1000, 8, 0x83);
	cpu->gpr[CPU_RAX] = PG | PE;
	INSN_RAISES(X86_GP, 0, 0x0f, 0x22, 0xc0);
	assert_false(cpu->cr0 & PG);
	rig_poke(PAGES + 8, 8, 2); /* not present: no matter */
	assert_false(INSN(0x0f, 0x22, 0xc0));
	assert_int_equal(cpu->pdpte[0], (PAGES + 0x1000) | 1);
	cpu->gpr[CPU_RAX] = PAGES + 0x20;
	rig_poke(PAGES + 0x20, 8, BIT(63) | 1);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x22, 0xd8);
	assert_int_equal(cpu->cr3, PAGES);
}

/* SDM volume 3, 17.2. */
static void
debug_registers(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(0);
	cpu->gpr[CPU_RAX] = 0xffff800012345678;
	assert_false(INSN(0x0f, 0x23, 0xd0)); /* DR2 */
	assert_false(INSN(0x0f, 0x21, 0xd3));
	assert_int_equal(cpu->gpr[CPU_RBX], 0xffff800012345678);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x23, 0xf0); /* DR6: upper half */
	cpu->gpr[CPU_RAX] = 0xffffffff;
	assert_false(INSN(0x0f, 0x23, 0xf0));
	assert_int_equal(cpu->dr6, 0xffffefff);
	cpu->gpr[CPU_RAX] = 0;
	assert_false(INSN(0x0f, 0x23, 0xe0)); /* DR4 is DR6 */
	assert_int_equal(cpu->dr6, 0xffff0ff0);
	cpu->cr4 |= X86_CR4_DE;
	INSN_RAISES(X86_UD, 0, 0x0f, 0x23, 0xe0);
	cpu->gpr[CPU_RAX] = 0xffffffff;
	assert_false(INSN(0x0f, 0x23, 0xf8));
	assert_int_equal(cpu->dr7, 0xffff27ff);
	/* General detect. */
	INSN_RAISES(X86_DB, 0, 0x0f, 0x21, 0xc3);
	assert_true(cpu->dr6 & BIT(13));
	rig_long(3);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x21, 0xc3);
}

/* SDM volume 2, LMSW, SMSW, CLTS. */
static void
machine_status(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_real();
	cpu->gpr[CPU_RAX] = 0xffff;
	assert_false(INSN(0x0f, 0x01, 0xf0));
	assert_int_equal(cpu->cr0,
	    PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET |
		X86_CR0_NE);
	cpu->gpr[CPU_RAX] = 0;
	assert_false(INSN(0x0f, 0x01, 0xf0));
	assert_int_equal(cpu->cr0, PE | X86_CR0_ET | X86_CR0_NE);
	cpu->cr0 |= X86_CR0_TS;
	assert_false(INSN(0x0f, 0x06));
	assert_false(cpu->cr0 & X86_CR0_TS);
	rig_prot(0);
	cpu->gpr[CPU_RBX] = UINT64_MAX;
	assert_false(INSN(0x0f, 0x01, 0xe3));
	assert_int_equal(cpu->gpr[CPU_RBX], (uint32_t)cpu->cr0);
}

/* SDM volume 3, 5.9: privileged instructions at level 3. */
static void
privilege(void **state)
{
	static const struct {
		const char *what;
		uint8_t bytes[4];
		uint8_t len;
	} rows[] = {
		{ "mov cr0", { 0x0f, 0x20, 0xc0 }, 3 },
		{ "mov to cr3", { 0x0f, 0x22, 0xd8 }, 3 },
		{ "clts", { 0x0f, 0x06 }, 2 },
		{ "hlt", { 0xf4 }, 1 },
		{ "lgdt", { 0x0f, 0x01, 0x10 }, 3 },
		{ "lidt", { 0x0f, 0x01, 0x18 }, 3 },
		{ "lldt", { 0x0f, 0x00, 0xd0 }, 3 },
		{ "ltr", { 0x0f, 0x00, 0xd8 }, 3 },
		{ "lmsw", { 0x0f, 0x01, 0xf0 }, 3 },
		{ "invlpg", { 0x0f, 0x01, 0x38 }, 3 },
		{ "invd", { 0x0f, 0x08 }, 2 },
		{ "wbinvd", { 0x0f, 0x09 }, 2 },
		{ "rdmsr", { 0x0f, 0x32 }, 2 },
		{ "wrmsr", { 0x0f, 0x30 }, 2 },
		{ "cli", { 0xfa }, 1 },
		{ "sti", { 0xfb }, 1 },
		{ "in", { 0xec }, 1 },
		{ "out", { 0xee }, 1 },
		{ "insb", { 0x6c }, 1 },
		{ "rdpmc", { 0x0f, 0x33 }, 2 },
	};

	rig_prot(3);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_true(rig_raises(rows[i].bytes, rows[i].len));
		assert_int_equal(rig.cpu->event.vector, X86_GP);
		assert_int_equal(rig.cpu->event.error, 0);
	}
	rig.cpu->cr4 |= X86_CR4_OSXSAVE;
	set_pair(0, 1);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x01, 0xd1);
	INSN_RAISES(X86_UD, 0, 0x0f, 0x01, 0xca); /* CLAC */
	INSN_RAISES(X86_UD, 0, 0x0f, 0x01, 0xc1); /* VMCALL */
	rig_long(3);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x01, 0xf8); /* SWAPGS */
}

/* --------------------------------------------------------------- tables */

static void
table_registers(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	cpu->gpr[CPU_RAX] = 0x5000;
	rig_poke(0x5000, 2, 0x1234);
	rig_poke(0x5002, 4, 0x89abcdef);
	assert_false(INSN(0x0f, 0x01, 0x18));
	assert_int_equal(cpu->idtr.limit, 0x1234);
	assert_int_equal(cpu->idtr.base, 0x89abcdef);
	assert_false(INSN(0x66, 0x0f, 0x01, 0x18)); /* 24 bits */
	assert_int_equal(cpu->idtr.base, 0xabcdef);
	cpu->idtr.base = 0x89abcdef;
	rig_poke(0x5000, 8, 0);
	assert_false(INSN(0x0f, 0x01, 0x08)); /* SIDT */
	assert_int_equal(rig_peek(0x5000, 8), 0x89abcdef1234);

	rig_long(0);
	cpu->gpr[CPU_RAX] = 0x5000;
	rig_poke(0x5000, 2, 0x77);
	rig_poke(0x5002, 8, 0xffff800000001000);
	assert_false(INSN(0x0f, 0x01, 0x18));
	assert_int_equal(cpu->idtr.base, 0xffff800000001000);
	rig_poke(0x5002, 8, 0x800000001000);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x01, 0x18);
	assert_int_equal(cpu->idtr.base, 0xffff800000001000);
}

/* SDM volume 2, LLDT and LTR. */
static void
system_segments(void **state)
{
	static const struct {
		bool ltr;
		uint16_t selector;
		int vector;
		uint16_t error;
	} rows[] = {
		{ false, S_LDT, -1, 0 },
		{ false, 0, -1, 0 },
		{ false, S_LDT | 4, X86_GP, S_LDT | 4 },
		{ false, S_OUT, X86_GP, S_OUT },
		{ false, K_DATA, X86_GP, K_DATA },
		{ false, S_TSS2, X86_GP, S_TSS2 },
		{ true, S_TSS2, -1, 0 },
		{ true, 0, X86_GP, 0 },
		{ true, S_TSS, X86_GP, S_TSS }, /* busy */
		{ true, S_TSS2 | 4, X86_GP, S_TSS2 | 4 },
		{ true, S_LDT, X86_GP, S_LDT },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		size_t n = i / 2;
		const uint8_t modrm = rows[n].ltr ? 0xd8 : 0xd0;
		bool raised;

		cpu->cr4 = cpu->efer = 0;
		(i & 1 ? rig_long : rig_prot)(0);
		cpu->gpr[CPU_RAX] = rows[n].selector;
		raised = INSN(0x0f, 0x00, modrm);
		assert_int_equal(raised, rows[n].vector >= 0);
		if (raised) {
			assert_int_equal(cpu->event.vector, rows[n].vector);
			assert_int_equal(cpu->event.error, rows[n].error);
		}
	}
	assert_int_equal(cpu->seg[CPU_TR].selector, S_TSS);
	cpu->cr4 = cpu->efer = 0;
	rig_prot(0);
	cpu->gpr[CPU_RAX] = S_TSS2;
	assert_false(INSN(0x0f, 0x00, 0xd8));
	assert_int_equal(rig_peek(GDT + S_TSS2 + 5, 1), 0x8b);
	assert_int_equal(cpu->seg[CPU_TR].base, TSS2);
	rig_gdt(S_TSS2, rig_desc(TSS2, 0x67, 0x09, 0));
	INSN_RAISES(X86_NP, S_TSS2, 0x0f, 0x00, 0xd8);
	rig_gdt(S_LDT, rig_desc(LDT, 0x67, 0x02, 0));
	cpu->gpr[CPU_RAX] = S_LDT;
	INSN_RAISES(X86_NP, S_LDT, 0x0f, 0x00, 0xd0);
	/* In long mode the base has 64 bits. */
	rig_long(0);
	cpu->gpr[CPU_RAX] = S_TSS2;
	rig_poke(GDT + S_TSS2 + 8, 8, 0xffff8000);
	assert_false(INSN(0x0f, 0x00, 0xd8));
	assert_int_equal(cpu->seg[CPU_TR].base, 0xffff800000000000 + TSS2);
	rig_gdt(S_TSS2, rig_desc(TSS2, 0x67, 0x89, 0));
	rig_poke(GDT + S_TSS2 + 8, 8, 0x8000);
	INSN_RAISES(X86_GP, S_TSS2, 0x0f, 0x00, 0xd8);
	/* Real mode has none of them. */
	cpu->cr4 = cpu->efer = 0;
	rig_real();
	INSN_RAISES(X86_UD, 0, 0x0f, 0x00, 0xd8);
	INSN_RAISES(X86_UD, 0, 0x0f, 0x00, 0xc0);
	INSN_RAISES(X86_UD, 0, 0x0f, 0x02, 0xc0);
	INSN_RAISES(X86_UD, 0, 0x0f, 0x00, 0xe0);
}

/* SDM volume 3, 2.5 (CR4.UMIP). */
static void
umip(void **state)
{
	static const uint8_t modrm[][2] = { { 0x01, 0x00 }, { 0x01, 0x08 },
		{ 0x00, 0xc0 }, { 0x00, 0xc8 }, { 0x01, 0xe0 } };
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(modrm); i++) {
		cpu->cr4 = 0;
		rig_prot(3);
		cpu->gpr[CPU_RAX] = 0x5000;
		assert_false(INSN(0x0f, modrm[i][0], modrm[i][1]));
		cpu->cr4 = X86_CR4_UMIP;
		INSN_RAISES(X86_GP, 0, 0x0f, modrm[i][0], modrm[i][1]);
		rig_prot(0);
		cpu->gpr[CPU_RAX] = 0x5000;
		assert_false(INSN(0x0f, modrm[i][0], modrm[i][1]));
	}
}

/* SDM volume 2, LAR, LSL, VERR, VERW, ARPL: ZF says. */
static void
pointer_checks(void **state)
{
	static const struct {
		unsigned cpl;
		uint16_t selector;
		bool lar, lsl, verr, verw;
	} rows[] = {
		{ 0, K_DATA, true, true, true, true },
		{ 3, K_DATA, false, false, false, false },
		{ 0, K_DATA | 3, false, false, false, false },
		{ 3, U_DATA, true, true, true, true },
		{ 0, K_READONLY, true, true, true, false },
		{ 0, K_CODE, true, true, true, false },
		{ 0, K_EXECONLY, true, true, false, false },
		{ 3, K_CONFORMING | 3, true, true, true, false },
		{ 0, K_ABSENT, true, true, true, true },
		{ 0, 0, false, false, false, false },
		{ 0, S_OUT, false, false, false, false },
		{ 0, S_TSS, true, true, false, false },
		{ 0, S_LDT, true, true, false, false },
		{ 0, S_FREE, true, false, false, false },   /* a call gate */
		{ 0, S_FREE2, false, false, false, false }, /* interrupt gate */
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rig_prot(rows[i].cpl);
		rig_gdt(S_FREE, rig_gate_desc(K_CODE, 0, 0x8c, 0));
		rig_gdt(S_FREE2, rig_gate_desc(K_CODE, 0, 0x8e, 0));
		cpu->gpr[CPU_RAX] = rows[i].selector;
		assert_false(INSN(0x0f, 0x02, 0xd8)); /* LAR EBX, EAX */
		assert_int_equal(!!(cpu->rflags & X86_ZF), rows[i].lar);
		assert_false(INSN(0x0f, 0x03, 0xd8));
		assert_int_equal(!!(cpu->rflags & X86_ZF), rows[i].lsl);
		assert_false(INSN(0x0f, 0x00, 0xe0));
		assert_int_equal(!!(cpu->rflags & X86_ZF), rows[i].verr);
		assert_false(INSN(0x0f, 0x00, 0xe8));
		assert_int_equal(!!(cpu->rflags & X86_ZF), rows[i].verw);
	}
	rig_prot(0);
	rig_gdt(S_FREE, rig_desc(0x55aa1234, 0x12345, 0xf2, 0xd));
	cpu->gpr[CPU_RAX] = S_FREE;
	cpu->gpr[CPU_RBX] = UINT64_MAX;
	assert_false(INSN(0x0f, 0x02, 0xd8));
	assert_int_equal(cpu->gpr[CPU_RBX], 0xd1f200);
	assert_false(INSN(0x66, 0x0f, 0x02, 0xd8));
	assert_int_equal(cpu->gpr[CPU_RBX], 0xd1f200 & 0xffffffff);
	assert_false(INSN(0x0f, 0x03, 0xd8));
	assert_int_equal(cpu->gpr[CPU_RBX], 0x12345fff);
	/* Long mode: no 16-bit TSS, no task gates. */
	rig_long(0);
	rig_gdt(S_FREE, rig_desc(0, 0x67, 0x81, 0));
	assert_false(INSN(0x0f, 0x02, 0xd8));
	assert_false(cpu->rflags & X86_ZF);
	rig_gdt(S_FREE, rig_desc(0, 0x67, 0x89, 0));
	assert_false(INSN(0x0f, 0x03, 0xd8));
	assert_true(cpu->rflags & X86_ZF);

	cpu->cr4 = cpu->efer = 0;
	rig_prot(3);
	cpu->gpr[CPU_RAX] = 0x10;
	cpu->gpr[CPU_RBX] = 0x23;
	assert_false(INSN(0x63, 0xd8)); /* ARPL AX, BX */
	assert_int_equal(cpu->gpr[CPU_RAX], 0x13);
	assert_true(cpu->rflags & X86_ZF);
	assert_false(INSN(0x63, 0xd8));
	assert_int_equal(cpu->gpr[CPU_RAX], 0x13);
	assert_false(cpu->rflags & X86_ZF);
}

/* What the processor that runs this test says of its own descriptors. */
static void
lar_as_hardware(void **state)
{
	static const uint16_t selectors[] = { 0x23, 0x2b, 0x33 };
	struct x86_cpu *cpu = rig.cpu;

	rig_long(3);
	for (size_t i = 0; i < ARRAY_SIZE(selectors); i++) {
		uint32_t rights = 0x12345678, limit = 0x12345678;
		bool visible;

		__asm__("lar %2, %0\n\tsetz %1"
			: "+r"(rights), "=q"(visible)
			: "r"((uint32_t)selectors[i])
			: "cc");
		__asm__("lsl %1, %0"
			: "+r"(limit)
			: "r"((uint32_t)selectors[i])
			: "cc");
		if (!visible || !(rights & BIT(23)))
			continue;
		/* The same descriptor in our table. */
		rig_gdt(U_DATA,
		    rig_desc(0, limit >> 12, (rights >> 8) & 0xff,
			(rights >> 20) & 0xf));
		cpu->gpr[CPU_RAX] = U_DATA;
		cpu->gpr[CPU_RBX] = 0x12345678;
		assert_false(INSN(0x0f, 0x02, 0xd8));
		assert_int_equal(cpu->gpr[CPU_RBX], rights);
		assert_false(INSN(0x0f, 0x03, 0xd8));
		assert_int_equal(cpu->gpr[CPU_RBX], limit);
	}
}

static void
moving_selectors(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	cpu->gpr[CPU_RAX] = K_DATA;
	assert_false(INSN(0x8e, 0xd8)); /* MOV DS, AX */
	assert_false(cpu->mov_ss_shadow);
	assert_false(INSN(0x8e, 0xd0)); /* MOV SS, AX */
	assert_true(cpu->mov_ss_shadow);
	cpu->gpr[CPU_RBX] = UINT64_MAX;
	assert_false(INSN(0x8c, 0xdb));
	assert_int_equal(cpu->gpr[CPU_RBX], K_DATA);
	cpu->gpr[CPU_RBX] = UINT64_MAX;
	assert_false(INSN(0x66, 0x8c, 0xdb));
	assert_int_equal(cpu->gpr[CPU_RBX], 0xffffffffffff0010);
	cpu->mov_ss_shadow = false;
	cpu->gpr[CPU_RAX] = 0x5000;
	rig_poke(0x5000, 4, 0x11223344);
	rig_poke(0x5004, 2, U_DATA);
	assert_false(INSN(0x0f, 0xb5, 0x18)); /* LGS EBX, [EAX] */
	assert_int_equal(cpu->gpr[CPU_RBX], 0x11223344);
	assert_int_equal(cpu->seg[CPU_GS].selector, U_DATA);
	rig_poke(0x5000, 4, 0x55667788);
	rig_poke(0x5004, 2, S_OUT);
	INSN_RAISES(X86_GP, S_OUT, 0x0f, 0xb5, 0x18);
	assert_int_equal(cpu->gpr[CPU_RBX], 0x11223344);
	rig_poke(0x5004, 2, K_CODE);
	assert_false(INSN(0xff, 0x28)); /* JMP FAR [EAX] */
	assert_int_equal(cpu->rip, 0x55667788);
}

/* ------------------------------------------------------------------ MSRs */

/* Every MSR in reach takes and gives, or is #GP; nothing else happens. */
static void
msr_sweep(void **state)
{
	static const uint32_t ranges[][2] = { { 0, 0x2000 },
		{ 0xc0000000, 0xc0012000 } };
	static const uint64_t values[] = { 0, UINT64_MAX };
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	for (size_t r = 0; r < ARRAY_SIZE(ranges); r++) {
		for (uint32_t i = ranges[r][0]; i < ranges[r][1]; i++) {
			for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
				cpu->gpr[CPU_RCX] = i;
				if (INSN(0x0f, 0x32)) {
					assert_int_equal(cpu->event.vector,
					    X86_GP);
					assert_int_equal(cpu->event.error, 0);
				}
				if (!wrmsr(i, values[v]))
					assert_int_equal(cpu->event.vector,
					    X86_GP);
			}
		}
	}
	/* Lenient: what nobody knows reads zero. */
	cpu->strict_msr = false;
	assert_int_equal(rdmsr(0x1234), 0);
	assert_true(wrmsr(0x1234, 5));
	cpu->strict_msr = true;
	assert_false(wrmsr(0x1234, 5));
	INSN_RAISES(X86_GP, 0, 0x0f, 0x32);
}

/* SDM volume 4, table 2-2. */
static void
msr_rules(void **state)
{
	static const struct {
		const char *what;
		uint32_t index;
		uint64_t value;
		int accepted; /* 2: and cut to 32 bits */
		int accepted_amd;
	} rows[] = {
		{ "PAT", 0x277, 0x0007040600070406, 1, 1 },
		{ "PAT, type 2", 0x277, 0x0207040600070406, 0, 0 },
		{ "PAT, type 8", 0x277, 0x0007040600070408, 0, 0 },
		{ "FS_BASE", 0xc0000100, 0xffff800000000000, 1, 1 },
		{ "FS_BASE", 0xc0000100, 0x0000800000000000, 0, 0 },
		{ "GS_BASE", 0xc0000101, 0x7fffffffffff, 1, 1 },
		{ "KERNEL_GS_BASE", 0xc0000102, BIT(63), 0, 0 },
		{ "LSTAR", 0xc0000082, BIT(63), 0, 0 },
		{ "CSTAR", 0xc0000083, 0xffffffff81000000, 1, 1 },
		{ "STAR", 0xc0000081, 0x0023001000000000, 1, 1 },
		{ "SFMASK", 0xc0000084, 0x100047700, 0, 2 },
		{ "SFMASK", 0xc0000084, 0x47700, 1, 1 },
		{ "TSC_AUX", 0xc0000103, 0x100000007, 0, 2 },
		{ "SYSENTER_ESP", 0x175, 0xffff800000001000, 1, 1 },
		{ "SYSENTER_EIP", 0x176, BIT(47), 0, 0 },
		{ "MTRRCAP", 0xfe, 0, 0, 0 },
		{ "MTRR_DEF", 0x2ff, 0xc06, 1, 1 },
		{ "MTRR_DEF, type 2", 0x2ff, 0xc02, 0, 0 },
		{ "MTRR_DEF, reserved", 0x2ff, 0x1c06, 0, 0 },
		{ "MTRR_BASE", 0x200, 0x80000006, 1, 1 },
		{ "MTRR_BASE, reserved", 0x200, 0x80000106, 0, 0 },
		{ "MTRR_MASK", 0x213, 0xff80000800, 1, 1 },
		{ "MTRR_MASK, beyond 40 bits", 0x213, 0x1ff80000800, 0, 0 },
		{ "the 11th pair", 0x214, 0, 0, 0 },
		{ "MTRR_FIX4K", 0x26f, 0x0606060606060606, 1, 1 },
		{ "MTRR_FIX4K, type 7", 0x26f, 0x0606060606060607, 0, 0 },
		{ "MISC_ENABLE", 0x1a0, 1, 1, 0 },
		{ "TSC_ADJUST", 0x3b, 5, 1, 1 },
		{ "XSS", 0xda0, 0, 0, 0 },
	};

	rig_long(0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int expected =
		    is_amd() ? rows[i].accepted_amd : rows[i].accepted;

		assert_int_equal(wrmsr(rows[i].index, rows[i].value),
		    expected != 0);
		if (expected != 0)
			assert_int_equal(rdmsr(rows[i].index),
			    expected == 2 ? (uint32_t)rows[i].value :
					    rows[i].value);
	}
	assert_int_equal(rdmsr(0xfe), 0x50a);
	assert_int_equal(rdmsr(0x1b), 0xfee00900);
	/* SDM volume 3, 17.17.3. */
	rig.tsc = 1000;
	assert_true(wrmsr(0x3b, 0));
	rig.tsc = 1000;
	assert_true(wrmsr(0x10, 5000));
	assert_int_equal(rig.tsc, 5000);
	assert_int_equal(rdmsr(0x3b), 4000);
	assert_true(wrmsr(0x3b, 4100));
	assert_int_equal(rdmsr(0x10), 5100);
	/* XD disable is not for us. */
	if (!is_amd()) {
		assert_true(wrmsr(0x1a0, BIT(34) | 1));
		assert_int_equal(rdmsr(0x1a0), 1);
	}
}

/* ----------------------------------------------------------- fast calls */

static void
syscall_and_back(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(3);
	cpu->star = 0x0023001000000000;
	cpu->lstar = 0xffffffff81000000;
	cpu->cstar = 0xffffffff82000000;
	cpu->sfmask = X86_IF | X86_TF | X86_DF | X86_AC;
	cpu->rflags = X86_IF | X86_AC | X86_CF | 2;
	assert_false(INSN(0x0f, 0x05));
	assert_int_equal(cpu->gpr[CPU_RCX], CODE + 2);
	assert_int_equal(cpu->gpr[CPU_R11], X86_IF | X86_AC | X86_CF | 2);
	assert_int_equal(cpu->rip, 0xffffffff81000000);
	assert_int_equal(cpu->rflags, X86_CF | 2);
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->seg[CPU_CS].selector, 0x10);
	assert_int_equal(cpu->seg[CPU_CS].access, 0xa09b);
	assert_int_equal(cpu->seg[CPU_SS].selector, 0x18);
	assert_int_equal(cpu->seg[CPU_SS].access, 0xc093);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3); /* not switched */
	cpu->gpr[CPU_R11] = X86_FLAGS_ALL | 2;
	assert_false(INSN(0x48, 0x0f, 0x07));
	assert_int_equal(cpu->rip, CODE + 2);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->code, X86_CODE64);
	assert_int_equal(cpu->seg[CPU_CS].selector, 0x33);
	assert_int_equal(cpu->seg[CPU_SS].selector, 0x2b);
	assert_int_equal(cpu->rflags, (X86_FLAGS_ALL & 0x3c7fd7) | 2);
	INSN_RAISES(X86_GP, 0, 0x48, 0x0f, 0x07); /* CPL 3 */

	/* To compatibility mode, and from there. */
	rig_long(0);
	cpu->gpr[CPU_RCX] = 0x1234567800009000;
	cpu->gpr[CPU_R11] = 2;
	assert_false(INSN(0x0f, 0x07));
	assert_int_equal(cpu->code, X86_CODE32);
	assert_int_equal(cpu->rip, 0x9000);
	assert_int_equal(cpu->seg[CPU_CS].selector, 0x23);
	if (is_amd()) {
		assert_false(INSN(0x0f, 0x05));
		assert_int_equal(cpu->rip, 0xffffffff82000000);
		assert_int_equal(cpu->code, X86_CODE64);
	} else {
		INSN_RAISES(X86_UD, 0, 0x0f, 0x05);
	}
	/* An address that is not canonical: at once, or at level 3. */
	rig_long(0);
	cpu->gpr[CPU_RCX] = 0x800000000000;
	assert_int_equal(INSN(0x48, 0x0f, 0x07), !is_amd());
	assert_int_equal(cpu->cpl, is_amd() ? 3 : 0);
	rig_long(3);
	cpu->efer &= ~(uint64_t)X86_EFER_SCE;
	INSN_RAISES(X86_UD, 0, 0x0f, 0x05);
}

static void
sysenter_and_back(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x34); /* CS MSR is null */
	cpu->sysenter_cs = 0x10;
	cpu->sysenter_esp = 0xffffffff00001000;
	cpu->sysenter_eip = 0xffffffff00002000;
	cpu->rflags |= X86_IF;
	assert_false(INSN(0x0f, 0x34));
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->seg[CPU_CS].selector, 0x10);
	assert_int_equal(cpu->seg[CPU_SS].selector, 0x18);
	assert_int_equal(cpu->gpr[CPU_RSP], 0x1000);
	assert_int_equal(cpu->rip, 0x2000);
	assert_false(cpu->rflags & X86_IF);
	cpu->gpr[CPU_RDX] = 0x3000;
	cpu->gpr[CPU_RCX] = 0x4000;
	assert_false(INSN(0x0f, 0x35));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->seg[CPU_CS].selector, 0x23);
	assert_int_equal(cpu->seg[CPU_SS].selector, 0x2b);
	assert_int_equal(cpu->rip, 0x3000);
	assert_int_equal(cpu->gpr[CPU_RSP], 0x4000);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x35); /* CPL 3 */

	rig_long(3);
	if (is_amd()) {
		INSN_RAISES(X86_UD, 0, 0x0f, 0x34);
		return;
	}
	assert_false(INSN(0x0f, 0x34));
	assert_int_equal(cpu->code, X86_CODE64);
	assert_int_equal(cpu->gpr[CPU_RSP], 0xffffffff00001000);
	assert_false(INSN(0x48, 0x0f, 0x35));
	assert_int_equal(cpu->code, X86_CODE64);
	assert_int_equal(cpu->seg[CPU_CS].selector, 0x33);
	rig_long(0);
	cpu->gpr[CPU_RDX] = BIT(47);
	INSN_RAISES(X86_GP, 0, 0x48, 0x0f, 0x35);
}

static void
segment_bases(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(0);
	cpu->seg[CPU_GS].base = 0x1111;
	cpu->kernel_gs_base = 0xffff888800000000;
	assert_false(INSN(0x0f, 0x01, 0xf8));
	assert_int_equal(cpu->seg[CPU_GS].base, 0xffff888800000000);
	assert_int_equal(cpu->kernel_gs_base, 0x1111);
	INSN_RAISES(X86_UD, 0, 0xf3, 0x48, 0x0f, 0xae, 0xc0); /* RDFSBASE */
	cpu->cr4 |= X86_CR4_FSGSBASE;
	cpu->gpr[CPU_RAX] = 0xffff800012345678;
	assert_false(INSN(0xf3, 0x48, 0x0f, 0xae, 0xd0)); /* WRFSBASE RAX */
	assert_int_equal(cpu->seg[CPU_FS].base, 0xffff800012345678);
	assert_false(INSN(0xf3, 0x0f, 0xae, 0xc3)); /* RDFSBASE EBX */
	assert_int_equal(cpu->gpr[CPU_RBX], 0x12345678);
	assert_false(INSN(0xf3, 0x0f, 0xae, 0xd8)); /* WRGSBASE EAX */
	assert_int_equal(cpu->seg[CPU_GS].base, 0x12345678);
	cpu->gpr[CPU_RAX] = BIT(47);
	INSN_RAISES(X86_GP, 0, 0xf3, 0x48, 0x0f, 0xae, 0xd0);
}

/* ------------------------------------------------------------------ ports */

/* SDM volume 1, 19.5.2. */
static void
io_bitmap(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	rig_poke(TSS + 0x66, 2, 0x80);
	rig_poke(TSS + 0x80 + 0x70 / 8, 2, 0x0110); /* 0x74, 0x78 */
	cpu->gpr[CPU_RDX] = 0x70;
	assert_false(INSN(0xec)); /* IN AL, DX */
	assert_int_equal(cpu->gpr[CPU_RAX] & 0xff, 0xa1);
	assert_int_equal(rig.pio.port, 0x70);
	cpu->gpr[CPU_RAX] = UINT64_MAX;
	assert_false(INSN(0xed)); /* IN EAX, DX */
	assert_int_equal(cpu->gpr[CPU_RAX], 0xa4a3a2a1);
	cpu->gpr[CPU_RDX] = 0x71;
	INSN_RAISES(X86_GP, 0, 0xed);
	INSN_RAISES(X86_GP, 0, 0xe4, 0x74);
	cpu->gpr[CPU_RDX] = 0x74;
	cpu->gpr[CPU_RCX] = 0;
	INSN_RAISES(X86_GP, 0, 0xf3, 0x6e); /* REP OUTSB of nothing */
	cpu->gpr[CPU_RDX] = 0x77;
	assert_false(INSN(0xec));
	INSN_RAISES(X86_GP, 0, 0x66, 0xed); /* over the byte's end */
	/* The map ends with the TSS, and two bytes are read. */
	cpu->gpr[CPU_RDX] = 8 * (TSS_LIMIT - 0x80);
	INSN_RAISES(X86_GP, 0, 0xec);
	cpu->gpr[CPU_RDX] -= 8;
	assert_false(INSN(0xec));
	cpu->rflags |= X86_IOPL;
	cpu->gpr[CPU_RDX] = 0x74;
	cpu->gpr[CPU_RAX] = 0x12345678;
	rig.pios = 0;
	assert_false(INSN(0x66, 0xef)); /* OUT DX, AX */
	assert_int_equal(rig.pios, 1);
	assert_int_equal(rig.pio.size, 2);
	assert_true(rig.pio.write);
	assert_int_equal(rig.pio.data[0] | rig.pio.data[1] << 8, 0x5678);
	/* Virtual-8086 mode: always by the map. */
	rig_v86(3);
	cpu->gpr[CPU_RDX] = 0x74;
	INSN_RAISES(X86_GP, 0, 0xec);
	rig_poke(TSS + 0x66, 2, 0x80);
	assert_false(INSN(0xec));
	cpu->seg[CPU_TR].access = 0x83;
	INSN_RAISES(X86_GP, 0, 0xec);
}

/* SDM volume 2, INS, OUTS: a page in one call, and what ends a run. */
static void
string_ports(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	cpu->gpr[CPU_RDX] = 0x1f0;
	cpu->gpr[CPU_RDI] = 0x5f00;
	cpu->gpr[CPU_RCX] = 256;
	rig.pios = 0;
	assert_false(INSN(0xf3, 0x66, 0x6d)); /* REP INSW: 512 bytes */
	assert_int_equal(rig.pios, 1);
	assert_int_equal(rig.pio.count, 128); /* to the end of the page */
	assert_int_equal(rig.pio.size, 2);
	assert_int_equal(cpu->gpr[CPU_RCX], 128);
	assert_int_equal(cpu->gpr[CPU_RDI], 0x6000);
	assert_int_equal(cpu->rip, CODE); /* again */
	assert_int_equal(rig_peek(0x5f00, 2), 0xa2a1);
	assert_false(INSN(0xf3, 0x66, 0x6d));
	assert_int_equal(rig.pios, 2);
	assert_int_equal(cpu->gpr[CPU_RCX], 0);
	assert_int_equal(cpu->rip, CODE + 3);
	assert_false(INSN(0xf3, 0x6c)); /* nothing to do */
	assert_int_equal(rig.pios, 2);

	/* An element that two pages share. */
	cpu->gpr[CPU_RDI] = 0x5ffe;
	cpu->gpr[CPU_RCX] = 2;
	assert_false(INSN(0xf3, 0x6d));
	assert_int_equal(rig.pio.count, 1);
	assert_int_equal(rig_peek(0x5ffe, 4), 0xa4a3a2a1);
	/* Downwards it goes one by one. */
	cpu->rflags |= X86_DF;
	cpu->gpr[CPU_RSI] = 0x5100;
	cpu->gpr[CPU_RCX] = 2;
	rig_poke(0x50fc, 8, 0x1111111122222222);
	assert_false(INSN(0xf3, 0x6f)); /* REP OUTSD */
	assert_int_equal(rig.pio.data[0], 0x11);
	assert_int_equal(cpu->gpr[CPU_RSI], 0x50fc);
	assert_false(INSN(0xf3, 0x6f));
	assert_int_equal(rig.pio.data[0], 0x22);
	assert_int_equal(cpu->gpr[CPU_RSI], 0x50f8);
	cpu->rflags &= ~(uint64_t)X86_DF;

	/* The limit ends a run; the next element faults, and reads nothing. */
	rig_gdt(S_FREE, rig_desc(0, 0x5009, 0x92, 4));
	SUCCEEDS(x86_load_seg(cpu, CPU_ES, S_FREE));
	cpu->gpr[CPU_RDI] = 0x5000;
	cpu->gpr[CPU_RCX] = 100;
	assert_false(INSN(0xf3, 0x6d));
	assert_int_equal(rig.pio.count, 2);
	rig.pios = 0;
	INSN_RAISES(X86_GP, 0, 0xf3, 0x6d);
	assert_int_equal(rig.pios, 0);
	/* 16-bit addresses wrap. */
	rig_seg(CPU_ES, U_DATA);
	cpu->gpr[CPU_RDI] = 0xabcdfffe;
	cpu->gpr[CPU_RCX] = 0x12340004;
	assert_false(INSN(0xf3, 0x67, 0x6c));
	assert_int_equal(rig.pio.count, 2);
	assert_int_equal(cpu->gpr[CPU_RDI], 0xabcd0000);
	assert_int_equal(cpu->gpr[CPU_RCX], 0x12340002);
}

/* A page fault comes before the device is asked. */
static void
string_port_page_fault(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(0);
	cpu->gpr[CPU_RDI] = 0x400000; /* not mapped */
	cpu->gpr[CPU_RCX] = 4;
	rig.pios = 0;
	INSN_RAISES(X86_PFV, X86_PF_W, 0xf3, 0x6c);
	assert_int_equal(cpu->event.cr2, 0x400000);
	assert_int_equal(rig.pios, 0);
	cpu->gpr[CPU_RDI] = 0x1ffffe; /* its second half is not */
	INSN_RAISES(X86_PFV, X86_PF_W, 0xf3, 0x6d);
	assert_int_equal(cpu->event.cr2, 0x200000);
	assert_int_equal(rig.pios, 0);
}

/* ------------------------------------------------------------------ flags */

/* SDM volume 2, CLI and STI: tables of modes. */
static void
interrupt_flag(void **state)
{
	static const struct {
		const char *what;
		bool v86;
		unsigned cpl, iopl;
		uint64_t cr4;
		uint64_t flag; /* that changes; 0: #GP */
	} rows[] = {
		{ "CPL 0", false, 0, 0, 0, X86_IF },
		{ "CPL 3", false, 3, 0, 0, 0 },
		{ "CPL 3, IOPL 3", false, 3, 3, 0, X86_IF },
		{ "PVI", false, 3, 0, X86_CR4_PVI, X86_VIF },
		{ "PVI at CPL 1", false, 1, 0, X86_CR4_PVI, 0 },
		{ "V86, IOPL 3", true, 3, 3, 0, X86_IF },
		{ "V86", true, 3, 0, 0, 0 },
		{ "VME", true, 3, 0, X86_CR4_VME, X86_VIF },
		{ "PVI in V86", true, 3, 0, X86_CR4_PVI, 0 },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t before;

		cpu->cr4 = rows[i].cr4;
		cpu->sti_shadow = false;
		if (rows[i].v86)
			rig_v86(rows[i].iopl);
		else
			rig_prot(rows[i].cpl);
		cpu->rflags |= rows[i].iopl << 12;
		before = cpu->rflags;
		if (rows[i].flag == 0) {
			INSN_RAISES(X86_GP, 0, 0xfb);
			INSN_RAISES(X86_GP, 0, 0xfa);
			continue;
		}
		assert_false(INSN(0xfb));
		assert_int_equal(cpu->rflags, before | rows[i].flag);
		assert_int_equal(cpu->sti_shadow, rows[i].flag == X86_IF);
		/* IF was set already: no shadow. */
		cpu->sti_shadow = false;
		assert_false(INSN(0xfb));
		assert_false(cpu->sti_shadow);
		assert_false(INSN(0xfa));
		assert_int_equal(cpu->rflags, before);
		if (rows[i].flag == X86_VIF) {
			cpu->rflags |= X86_VIP;
			INSN_RAISES(X86_GP, 0, 0xfb);
		}
	}
	cpu->cr4 = X86_CR4_SMAP;
	rig_prot(0);
	assert_int_equal(cpu->view, X86_VIEW_KERNEL);
	assert_false(INSN(0x0f, 0x01, 0xcb)); /* STAC */
	assert_int_equal(cpu->view, X86_VIEW_KERNEL_AC);
	assert_false(INSN(0x0f, 0x01, 0xca));
	assert_int_equal(cpu->view, X86_VIEW_KERNEL);
	assert_false(INSN(0xf4));
	assert_true(cpu->halted);
}

/* ---------------------------------------------------- what CPUID says */

static void
cpuid_follows(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	cpu->gpr[CPU_RAX] = 0xffffffff00000001;
	assert_false(INSN(0x0f, 0xa2));
	assert_false(cpu->gpr[CPU_RCX] & BIT(27)); /* OSXSAVE */
	assert_true(cpu->gpr[CPU_RDX] & BIT(9));   /* APIC */
	assert_int_equal(cpu->gpr[CPU_RAX] >> 32, 0);
	cpu->cr4 |= X86_CR4_OSXSAVE;
	assert_true(wrmsr(0x1b, 0xfee00100));
	cpu->gpr[CPU_RAX] = 1;
	assert_false(INSN(0x0f, 0xa2));
	assert_true(cpu->gpr[CPU_RCX] & BIT(27));
	assert_false(cpu->gpr[CPU_RDX] & BIT(9));
	/* The XSAVE area that is enabled. */
	cpu->gpr[CPU_RAX] = 0xd;
	cpu->gpr[CPU_RCX] = 0;
	assert_false(INSN(0x0f, 0xa2));
	assert_int_equal(cpu->gpr[CPU_RBX], 576);
	cpu->xcr0 = 7;
	cpu->gpr[CPU_RAX] = 0xd;
	cpu->gpr[CPU_RCX] = 0;
	assert_false(INSN(0x0f, 0xa2));
	assert_int_equal(cpu->gpr[CPU_RBX], 0x340);
	cpu->xcr0 = 0xe7;
	cpu->gpr[CPU_RAX] = 0xd;
	cpu->gpr[CPU_RCX] = 0;
	assert_false(INSN(0x0f, 0xa2));
	assert_int_equal(cpu->gpr[CPU_RBX], 0xa80);
	cpu->gpr[CPU_RAX] = 0xd;
	cpu->gpr[CPU_RCX] = 1; /* compact */
	assert_false(INSN(0x0f, 0xa2));
	assert_int_equal(cpu->gpr[CPU_RBX], 576 + 0x100 + 0x40 + 0x600);
}

/* SDM volume 1, 13.3. */
static void
xcr0(void **state)
{
	static const struct {
		uint64_t value;
		bool ok;
	} rows[] = { { 1, true }, { 3, true }, { 7, true }, { 0xe7, true },
		{ 0, false }, { 2, false }, { 5, false }, { 0xe3, false },
		{ 0x27, false }, { 0x67, false }, { 0xe1, false },
		{ 0x9, false }, { 0x201, false }, { BIT(62) | 1, false } };
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	set_pair(0, 1);
	INSN_RAISES(X86_UD, 0, 0x0f, 0x01, 0xd1);
	INSN_RAISES(X86_UD, 0, 0x0f, 0x01, 0xd0);
	cpu->cr4 |= X86_CR4_OSXSAVE;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		set_pair(0, rows[i].value);
		assert_int_equal(!INSN(0x0f, 0x01, 0xd1), rows[i].ok);
		if (!rows[i].ok)
			assert_int_equal(cpu->event.vector, X86_GP);
		else
			assert_int_equal(cpu->xcr0, rows[i].value);
	}
	set_pair(1, 1);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x01, 0xd1);
	INSN_RAISES(X86_GP, 0, 0x0f, 0x01, 0xd0);
	set_pair(0, 0);
	assert_false(INSN(0x0f, 0x01, 0xd0));
	assert_int_equal(cpu->gpr[CPU_RAX], 0xe7);
}

static void
time_and_counters(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	rig.tsc = 0x1122334455667788;
	cpu->tsc_aux = 7;
	assert_false(INSN(0x0f, 0x01, 0xf9)); /* RDTSCP */
	assert_int_equal(cpu->gpr[CPU_RAX], 0x55667788);
	assert_int_equal(cpu->gpr[CPU_RDX], 0x11223344);
	assert_int_equal(cpu->gpr[CPU_RCX], 7);
	cpu->cr4 |= X86_CR4_TSD;
	INSN_RAISES(X86_GP, 0, 0x0f, 0x31);
	cpu->cr4 |= X86_CR4_PCE;
	cpu->gpr[CPU_RCX] = 0;
	assert_false(INSN(0x0f, 0x33));
	cpu->gpr[CPU_RCX] = is_amd() ? 4 : 2;
	INSN_RAISES(X86_GP, 0, 0x0f, 0x33);
	rig_prot(0);
	assert_false(INSN(0x0f, 0x31));
}

/* SDM volume 2, INVPCID. */
static void
invpcid(void **state)
{
	static const struct {
		uint64_t type, pcid, addr;
		bool pcide, faults;
	} rows[] = { { 0, 0, 0x1000, false, false }, { 1, 0, 0, false, false },
		{ 2, 0, 0, false, false }, { 3, 0, 0, false, false },
		{ 4, 0, 0, false, true }, { 0, 1, 0, false, true },
		{ 1, 1, 0, false, true }, { 1, 1, 0, true, false },
		{ 2, 0x1000, 0, false, true }, { 0, 0, BIT(47), true, true },
		{ 1, 0, BIT(47), true, false } };
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rig_long(0);
		cpu->cr4 &= ~(uint64_t)X86_CR4_PCIDE;
		if (rows[i].pcide)
			cpu->cr4 |= X86_CR4_PCIDE;
		cpu->gpr[CPU_RAX] = rows[i].type;
		cpu->gpr[CPU_RBX] = 0x5000;
		rig_poke(0x5000, 8, rows[i].pcid);
		rig_poke(0x5008, 8, rows[i].addr);
		rig.flushes = 0;
		assert_int_equal(INSN(0x66, 0x0f, 0x38, 0x82, 0x03),
		    rows[i].faults);
		assert_int_equal(rig.flushes > 0, !rows[i].faults);
	}
}

/* A program of a few instructions, through the interpreter. */
static void
stepping(void **state)
{
	static const uint8_t program[] = {
		0xb8, 0x78, 0x56, 0x34, 0x12, /* MOV EAX, 0x12345678 */
		0x0f, 0x05,                   /* SYSCALL */
	};
	struct x86_cpu *cpu = rig.cpu;

	rig_long(3);
	cpu->star = (uint64_t)K_CODE64 << 32;
	cpu->lstar = HANDLER;
	rig_bytes(CODE, program, sizeof(program));
	rig_bytes(HANDLER, (const uint8_t[]) { 0xf4 }, 1);
	assert_int_equal(x86_step(cpu), X86_STEP_NEXT);
	assert_int_equal(x86_step(cpu), X86_STEP_NEXT);
	assert_int_equal(cpu->gpr[CPU_RCX], CODE + sizeof(program));
	assert_int_equal(x86_step(cpu), X86_STEP_HALT);
	assert_int_equal(cpu->rip, HANDLER + 1);
	/* Level 3 may not: #GP, whose gate is not there: shutdown. */
	rig_long(3);
	rig_bytes(CODE, (const uint8_t[]) { 0xf4 }, 1);
	assert_int_equal(x86_step(cpu), X86_STEP_TRIPLE_FAULT);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define TEST_AMD(f) cmocka_unit_test_setup_teardown(f, set_up_amd, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(control_registers),
		TEST(long_mode_comes_and_goes),
		TEST(pae),
		TEST(debug_registers),
		TEST(machine_status),
		TEST(privilege),
		TEST(table_registers),
		TEST(system_segments),
		TEST(umip),
		TEST(pointer_checks),
		TEST(lar_as_hardware),
		TEST(moving_selectors),
		TEST(msr_sweep),
		TEST_AMD(msr_sweep),
		TEST(msr_rules),
		TEST_AMD(msr_rules),
		TEST(syscall_and_back),
		TEST_AMD(syscall_and_back),
		TEST(sysenter_and_back),
		TEST_AMD(sysenter_and_back),
		TEST(segment_bases),
		TEST(io_bitmap),
		TEST(string_ports),
		TEST(string_port_page_fault),
		TEST(interrupt_flag),
		TEST(cpuid_follows),
		TEST(xcr0),
		TEST(time_and_counters),
		TEST_AMD(time_and_counters),
		TEST(invpcid),
		TEST(stepping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
