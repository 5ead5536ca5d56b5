/*
 * Segments, far transfers, tasks: the rules of the SDM, one by one.
 */
#include "engine/x86/system_rig.h"

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

/* SDM volume 2, MOV: exceptions of a load into a segment register. */
static void
loads_are_checked(void **state)
{
	static const struct {
		unsigned cpl;
		enum cpu_seg seg;
		uint16_t selector;
		int vector; /* -1: none */
		uint16_t error;
	} rows[] = {
		{ 0, CPU_DS, K_DATA, -1, 0 },
		{ 0, CPU_DS, K_DATA | 3, X86_GP, K_DATA }, /* RPL > DPL */
		{ 3, CPU_DS, K_DATA, X86_GP, K_DATA },     /* CPL > DPL */
		{ 3, CPU_DS, U_DATA, -1, 0 },
		{ 3, CPU_ES, 0, -1, 0 },
		{ 3, CPU_ES, 3, -1, 0 },
		{ 0, CPU_ES, K_READONLY, -1, 0 },
		{ 0, CPU_ES, K_CODE, -1, 0 }, /* readable */
		{ 0, CPU_ES, K_EXECONLY, X86_GP, K_EXECONLY },
		{ 3, CPU_ES, K_CONFORMING | 3, -1, 0 },
		{ 3, CPU_ES, K_CODE, X86_GP, K_CODE },
		{ 0, CPU_ES, S_TSS, X86_GP, S_TSS }, /* system */
		{ 0, CPU_ES, S_OUT, X86_GP, S_OUT },
		{ 0, CPU_ES, K_ABSENT, X86_NP, K_ABSENT },
		{ 3, CPU_ES, K_ABSENT, X86_GP, K_ABSENT }, /* DPL first */
		{ 0, CPU_ES, 0x0c, X86_GP, 0x0c },   /* an empty LDT entry */
		{ 0, CPU_ES, 0x104, X86_GP, 0x104 }, /* beyond the LDT */
		{ 0, CPU_SS, K_DATA, -1, 0 },
		{ 0, CPU_SS, 0, X86_GP, 0 },
		{ 0, CPU_SS, U_DATA, X86_GP, U_DATA & ~3 },
		{ 0, CPU_SS, K_DATA | 3, X86_GP, K_DATA }, /* RPL != CPL */
		{ 3, CPU_SS, U_DATA & ~3, X86_GP, U_DATA & ~3 },
		{ 3, CPU_SS, U_DATA, -1, 0 },
		{ 0, CPU_SS, K_READONLY, X86_GP, K_READONLY },
		{ 0, CPU_SS, K_CODE, X86_GP, K_CODE },
		{ 0, CPU_SS, K_ABSENT, X86_SS, K_ABSENT },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool raised;

		rig_prot(rows[i].cpl);
		raised =
		    CATCH(x86_load_seg(rig.cpu, rows[i].seg, rows[i].selector));
		assert_int_equal(raised, rows[i].vector >= 0);
		if (raised) {
			assert_int_equal(rig.cpu->event.vector, rows[i].vector);
			assert_int_equal(rig.cpu->event.error, rows[i].error);
			assert_true(rig.cpu->event.has_error);
		} else {
			assert_int_equal(rig.cpu->seg[rows[i].seg].selector,
			    rows[i].selector);
		}
	}
}

/* SDM volume 3, 3.4.5: base, limit with granularity, attributes, accessed. */
static void
descriptors_are_unpacked(void **state)
{
	const struct cpu_segment *s = &rig.cpu->seg[CPU_FS];

	rig_prot(0);
	rig_gdt(S_FREE, rig_desc(0x12345678, 0x0abcd, 0xf2, 0x5));
	SUCCEEDS(x86_load_seg(rig.cpu, CPU_FS, S_FREE | 3));
	assert_int_equal(s->base, 0x12345678);
	assert_int_equal(s->limit, 0xabcd);
	assert_int_equal(s->access, 0x50f3); /* D/B, AVL; accessed */
	assert_int_equal(rig_peek(GDT + S_FREE + 5, 1), 0xf3);
	rig_gdt(S_FREE, rig_desc(0, 0xabcde, 0x92, 0xc));
	SUCCEEDS(x86_load_seg(rig.cpu, CPU_FS, S_FREE));
	assert_int_equal(s->limit, 0xabcdefff);
	assert_int_equal(s->access, 0xc093);
	/* The same from the LDT. */
	rig_poke(LDT + 8, 8, rig_desc(0x4000, 0xff, 0x92, 0));
	SUCCEEDS(x86_load_seg(rig.cpu, CPU_FS, 0x0c));
	assert_int_equal(s->base, 0x4000);
	assert_int_equal(rig_peek(LDT + 8 + 5, 1), 0x93);
	rig.cpu->gdtr.limit = K_DATA + 6; /* one byte short */
	RAISES(x86_load_seg(rig.cpu, CPU_FS, K_DATA), X86_GP, K_DATA);
	rig.cpu->gdtr.limit = K_DATA + 7;
	SUCCEEDS(x86_load_seg(rig.cpu, CPU_FS, K_DATA));
	rig.cpu->seg[CPU_LDTR].access = CPU_SEG_UNUSABLE;
	RAISES(x86_load_seg(rig.cpu, CPU_FS, 0x0c), X86_GP, 0x0c);
}

/* SDM volume 3, 5.3 to 5.5. */
static void
addresses_are_checked(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	rig_gdt(S_FREE, rig_desc(0x5000, 0x0fff, 0x92, 0x4));
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, S_FREE));
	SUCCEEDS(
	    assert_int_equal(x86_linear(cpu, CPU_DS, 0xffc, 4, true), 0x5ffc));
	RAISES(x86_linear(cpu, CPU_DS, 0xffd, 4, false), X86_GP, 0);
	RAISES(x86_linear(cpu, CPU_DS, 0xffffffff, 2, false), X86_GP, 0);
	/* Expand-down: above the limit, up to 4 GiB or 64 KiB. */
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, K_DOWN));
	RAISES(x86_linear(cpu, CPU_DS, 0xfff, 1, false), X86_GP, 0);
	SUCCEEDS(x86_linear(cpu, CPU_DS, 0x1000, 4, true));
	SUCCEEDS(x86_linear(cpu, CPU_DS, 0xfffffffc, 4, true));
	RAISES(x86_linear(cpu, CPU_DS, 0xfffffffd, 4, true), X86_GP, 0);
	rig_gdt(S_FREE, rig_desc(0, 0xfff, 0x96, 0));
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, S_FREE));
	SUCCEEDS(x86_linear(cpu, CPU_DS, 0xfffe, 2, true));
	RAISES(x86_linear(cpu, CPU_DS, 0xffff, 2, true), X86_GP, 0);
	/* Types. */
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, K_READONLY));
	SUCCEEDS(x86_linear(cpu, CPU_DS, 0, 4, false));
	RAISES(x86_linear(cpu, CPU_DS, 0, 4, true), X86_GP, 0);
	RAISES(x86_linear(cpu, CPU_CS, 0, 4, true), X86_GP, 0);
	SUCCEEDS(x86_linear(cpu, CPU_CS, 0, 4, false));
	rig_seg(CPU_CS, K_EXECONLY);
	RAISES(x86_linear(cpu, CPU_CS, 0, 4, false), X86_GP, 0);
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, 0));
	RAISES(x86_linear(cpu, CPU_DS, 0, 1, false), X86_GP, 0);
	/* The stack has its own exception. */
	rig_gdt(S_FREE, rig_desc(0, 0x0fff, 0x92, 0x4));
	SUCCEEDS(x86_load_seg(cpu, CPU_SS, S_FREE));
	RAISES(x86_linear(cpu, CPU_SS, 0x1000, 1, false), X86_SS, 0);
	/* Linear addresses have 32 bits. */
	rig_gdt(S_FREE, rig_desc(0xffff0000, 0xfffff, 0x92, 0xc));
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, S_FREE));
	SUCCEEDS(assert_int_equal(x86_linear(cpu, CPU_DS, 0x20000, 4, true),
	    0x10000));
}

/* SDM volume 1, 3.3.7.1; volume 3, 5.3.1. */
static void
long_mode_addresses(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(0);
	cpu->seg[CPU_DS].base = 0x1234;
	cpu->seg[CPU_DS].limit = 0;
	cpu->seg[CPU_GS].base = 0xffff800000000000;
	SUCCEEDS(
	    assert_int_equal(x86_linear(cpu, CPU_DS, 0x7ffffffffff8, 8, true),
		0x7ffffffffff8));
	RAISES(x86_linear(cpu, CPU_DS, 0x7ffffffffff9, 8, true), X86_GP, 0);
	RAISES(x86_linear(cpu, CPU_SS, 0x800000000000, 8, true), X86_SS, 0);
	SUCCEEDS(assert_int_equal(x86_linear(cpu, CPU_GS, 0x10, 8, true),
	    0xffff800000000010));
	/* A null SS: below level 3, with RPL = CPL. */
	SUCCEEDS(x86_load_seg(cpu, CPU_SS, 0));
	assert_int_equal(X86_SEG_DPL(cpu->seg[CPU_SS].access), 0);
	RAISES(x86_load_seg(cpu, CPU_SS, 1), X86_GP, 0);
	rig_long(3);
	RAISES(x86_load_seg(cpu, CPU_SS, 3), X86_GP, 0);
}

/* SDM volume 3, 20.1.1 and 20.2; and "unreal" mode. */
static void
real_mode_segments(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_real();
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, 0xf001));
	assert_int_equal(cpu->seg[CPU_DS].base, 0xf0010);
	SUCCEEDS(assert_int_equal(x86_linear(cpu, CPU_DS, 0xfffe, 2, true),
	    0x10000e));
	RAISES(x86_linear(cpu, CPU_DS, 0xffff, 2, true), X86_GP, 0);
	cpu->seg[CPU_DS].limit = UINT32_MAX;
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, 0));
	SUCCEEDS(assert_int_equal(x86_linear(cpu, CPU_DS, 0x80000000, 4, true),
	    0x80000000));
	rig_v86(0);
	cpu->seg[CPU_DS].limit = UINT32_MAX;
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, 0x1000));
	assert_int_equal(cpu->seg[CPU_DS].limit, 0xffff);
	assert_int_equal(cpu->seg[CPU_DS].access, 0xf3);
}

/* With a null selector Intel clears the base, AMD leaves it (APM 2, 4.5.3). */
static void
null_selectors(void **state)
{
	struct x86_cpu *cpu = rig.cpu;
	bool amd = cpu->msr.vendor == CPUID_AMD;

	rig_long(3);
	cpu->seg[CPU_FS].base = 0x1234567890;
	SUCCEEDS(x86_load_seg(cpu, CPU_FS, 0));
	assert_int_equal(cpu->seg[CPU_FS].base, amd ? 0x1234567890 : 0);
}

/* SDM volume 1, 6.2.2: the width of the stack is SS.B's. */
static void
stacks_have_widths(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	cpu->gpr[CPU_RSP] = 0x100000000ULL + STACK0;
	SUCCEEDS(x86_push(cpu, 0x11223344, 4));
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 4);
	assert_int_equal(rig_peek(STACK0 - 4, 4), 0x11223344);
	SUCCEEDS(assert_int_equal(x86_pop(cpu, 2), 0x3344));
	SUCCEEDS(x86_load_seg(cpu, CPU_SS, K_DATA16));
	cpu->gpr[CPU_RSP] = 0xabcd0000;
	SUCCEEDS(x86_push(cpu, 0x5566, 2));
	assert_int_equal(cpu->gpr[CPU_RSP], 0xabcdfffe);
	assert_int_equal(rig_peek(0xfffe, 2), 0x5566);
	SUCCEEDS(x86_pop(cpu, 2));
	assert_int_equal(cpu->gpr[CPU_RSP], 0xabcd0000);
	cpu->gpr[CPU_RSP] = 1;
	RAISES(x86_push(cpu, 0, 2), X86_SS, 0);
}

/* ------------------------------------------------------------ far JMP, CALL */

/* SDM volume 2, JMP and CALL: exceptions of far pointers. */
static void
far_pointers_are_checked(void **state)
{
	static const struct {
		unsigned cpl;
		uint16_t selector;
		int vector;
		uint16_t error;
	} rows[] = {
		{ 0, K_CODE, -1, 0 },
		{ 0, 0, X86_GP, 0 },
		{ 0, 3, X86_GP, 0 },
		{ 0, S_OUT, X86_GP, S_OUT },
		{ 0, K_DATA, X86_GP, K_DATA },
		{ 0, U_CODE, X86_GP, U_CODE & ~3 }, /* DPL != CPL */
		{ 0, K_CODE | 3, X86_GP, K_CODE },  /* RPL > CPL */
		{ 3, K_CODE, X86_GP, K_CODE },
		{ 3, U_CODE & ~3, -1, 0 },
		{ 3, K_CONFORMING | 3, -1, 0 },
		{ 3, K_CONFORMING, -1, 0 },
		{ 0, K_ABSENT_CODE, X86_NP, K_ABSENT_CODE },
		{ 0, K_EXECONLY, -1, 0 },
		{ 0, S_LDT, X86_GP, S_LDT },
		{ 0, S_TSS, X86_GP, S_TSS }, /* busy */
		{ 3, S_TSS2, X86_GP, S_TSS2 },
	};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		size_t n = i / 2;
		bool raised;

		rig_prot(rows[n].cpl);
		raised = CATCH((i & 1 ? x86_call_far : x86_jmp_far)(rig.cpu,
		    rows[n].selector, 0x1234, 4));
		assert_int_equal(raised, rows[n].vector >= 0);
		if (raised) {
			assert_int_equal(rig.cpu->event.vector, rows[n].vector);
			assert_int_equal(rig.cpu->event.error, rows[n].error);
			continue;
		}
		assert_int_equal(rig.cpu->rip, 0x1234);
		assert_int_equal(rig.cpu->cpl, rows[n].cpl);
		assert_int_equal(rig.cpu->seg[CPU_CS].selector,
		    (rows[n].selector & ~3u) | rows[n].cpl);
		assert_true(rig.cpu->seg[CPU_CS].access & X86_SEG_ACCESSED);
		if (i & 1) {
			assert_int_equal(rig_stack(0, 4), CODE);
			assert_int_equal(rig_stack(1, 4),
			    rows[n].cpl == 0 ? K_CODE : U_CODE);
		}
	}
	rig_prot(0);
	rig_gdt(S_FREE, rig_desc(0, 0xfffff, A_CODE | 4 | A_DPL(3), F_32));
	RAISES(x86_jmp_far(rig.cpu, S_FREE, 0, 4), X86_GP, S_FREE);
	RAISES(x86_jmp_far(rig.cpu, K_CODE16, 0x10000, 4), X86_GP, 0);
	SUCCEEDS(x86_jmp_far(rig.cpu, K_CODE16, 0xffff, 4));
	assert_int_equal(rig.cpu->code, X86_CODE16);
}

static void
far_in_real_mode(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_real();
	SUCCEEDS(x86_call_far(cpu, 0x1000, 0x20, 2));
	assert_int_equal(cpu->seg[CPU_CS].base, 0x10000);
	assert_int_equal(cpu->rip, 0x20);
	assert_int_equal(rig_stack(0, 2), CODE);
	SUCCEEDS(x86_ret_far(cpu, 2, 6));
	assert_int_equal(cpu->rip, CODE);
	assert_int_equal(cpu->seg[CPU_CS].selector, 0);
	assert_int_equal(cpu->gpr[CPU_RSP], 0x7006);
	RAISES(x86_jmp_far(cpu, 0, 0x10000, 4), X86_GP, 0);
}

/* SDM volume 3, 5.8.3 to 5.8.6: a call gate to level 0, and back. */
static void
call_gate_and_return(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	rig_gdt(S_FREE, rig_gate_desc(K_CODE | 3, 0x9000, 0xec, 2));
	rig_poke(STACK3, 4, 0x1111);
	rig_poke(STACK3 + 4, 4, 0x2222);
	SUCCEEDS(x86_call_far(cpu, S_FREE | 3, 0xdead, 4));
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->seg[CPU_CS].selector, K_CODE);
	assert_true(cpu->seg[CPU_CS].access & X86_SEG_ACCESSED);
	assert_int_equal(rig_peek(GDT + K_CODE + 5, 1), A_CODE | 1);
	assert_int_equal(cpu->seg[CPU_SS].selector, K_DATA);
	assert_int_equal(cpu->rip, 0x9000);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 6 * 4);
	assert_int_equal(rig_stack(0, 4), CODE);
	assert_int_equal(rig_stack(1, 4), U_CODE);
	assert_int_equal(rig_stack(2, 4), 0x1111);
	assert_int_equal(rig_stack(3, 4), 0x2222);
	assert_int_equal(rig_stack(4, 4), STACK3);
	assert_int_equal(rig_stack(5, 4), U_DATA);
	/* What level 3 could not have loaded is gone afterwards. */
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, K_DATA));
	SUCCEEDS(x86_load_seg(cpu, CPU_FS, K_CONFORMING));
	SUCCEEDS(x86_ret_far(cpu, 4, 8));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->rip, CODE);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3 + 8);
	assert_int_equal(cpu->seg[CPU_SS].selector, U_DATA);
	assert_int_equal(cpu->seg[CPU_DS].selector, 0);
	assert_true(cpu->seg[CPU_DS].access & CPU_SEG_UNUSABLE);
	assert_int_equal(cpu->seg[CPU_ES].selector, U_DATA);
	assert_int_equal(cpu->seg[CPU_FS].selector, K_CONFORMING);
}

/* A 16-bit gate pushes words; a conforming target or CPL = DPL no stack. */
static void
other_call_gates(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	rig_gdt(S_FREE, rig_gate_desc(K_CODE, 0x59000, 0xe4, 1));
	rig_poke(STACK3, 2, 0x7777);
	SUCCEEDS(x86_call_far(cpu, S_FREE, 0, 4));
	assert_int_equal(cpu->rip, 0x9000);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 5 * 2);
	assert_int_equal(rig_stack(0, 2), CODE);
	assert_int_equal(rig_stack(1, 2), U_CODE);
	assert_int_equal(rig_stack(2, 2), 0x7777);
	assert_int_equal(rig_stack(3, 2), STACK3 & 0xffff);
	assert_int_equal(rig_stack(4, 2), U_DATA);

	rig_prot(3);
	rig_gdt(S_FREE, rig_gate_desc(K_CONFORMING, 0x9000, 0xec, 3));
	SUCCEEDS(x86_call_far(cpu, S_FREE, 0, 4));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3 - 8);
	SUCCEEDS(x86_jmp_far(cpu, S_FREE, 0, 4));
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3 - 8);
}

static void
call_gate_faults(void **state)
{
	static const struct {
		const char *what;
		uint16_t code;
		uint8_t access;
		uint16_t rpl;
		int vector;
		uint16_t error;
	} rows[] = {
		{ "DPL < CPL", K_CODE, 0x8c, 0, X86_GP, S_FREE },
		{ "not present", K_CODE, 0x6c, 0, X86_NP, S_FREE },
		{ "null code", 0, 0xec, 0, X86_GP, 0 },
		{ "code beyond the table", S_OUT, 0xec, 0, X86_GP, S_OUT },
		{ "not code", K_DATA, 0xec, 0, X86_GP, K_DATA },
		{ "code absent", K_ABSENT_CODE, 0xec, 0, X86_NP,
		    K_ABSENT_CODE },
		{ "an interrupt gate", K_CODE, 0xee, 0, X86_GP, S_FREE },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		rig_prot(3);
		rig_gdt(S_FREE,
		    rig_gate_desc(rows[i].code, 0x9000, rows[i].access, 0));
		RAISES(x86_call_far(cpu, S_FREE | rows[i].rpl, 0, 4),
		    rows[i].vector, rows[i].error);
	}
	/* JMP cannot change the privilege level. */
	rig_prot(3);
	rig_gdt(S_FREE, rig_gate_desc(K_CODE, 0x9000, 0xec, 0));
	RAISES(x86_jmp_far(cpu, S_FREE, 0, 4), X86_GP, K_CODE);
	/* The stack of the TSS: SDM volume 2, CALL. */
	rig_poke(TSS + 8, 2, 0);
	RAISES(x86_call_far(cpu, S_FREE, 0, 4), X86_TS, 0);
	rig_poke(TSS + 8, 2, K_DATA | 3);
	RAISES(x86_call_far(cpu, S_FREE, 0, 4), X86_TS, K_DATA);
	rig_poke(TSS + 8, 2, C_DATA1 & ~3);
	RAISES(x86_call_far(cpu, S_FREE, 0, 4), X86_TS, C_DATA1 & ~3);
	rig_poke(TSS + 8, 2, K_READONLY);
	RAISES(x86_call_far(cpu, S_FREE, 0, 4), X86_TS, K_READONLY);
	rig_poke(TSS + 8, 2, K_ABSENT);
	RAISES(x86_call_far(cpu, S_FREE, 0, 4), X86_SS, K_ABSENT);
	rig_poke(TSS + 8, 2, K_DOWN); /* no room below 0x1000 */
	rig_poke(TSS + 4, 4, 0x1004);
	RAISES(x86_call_far(cpu, S_FREE, 0, 4), X86_SS, K_DOWN);
	rig_poke(TSS + 8, 2, K_DATA);
	cpu->seg[CPU_TR].limit = 8; /* SS0 ends at 9 */
	RAISES(x86_call_far(cpu, S_FREE, 0, 4), X86_TS, S_TSS);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->seg[CPU_CS].selector, U_CODE);
	cpu->seg[CPU_TR].limit = 9;
	SUCCEEDS(x86_call_far(cpu, S_FREE, 0, 4));
}

/* SDM volume 3, 5.8.3.1: 16-byte gates, null SS, no parameters. */
static void
long_call_gate(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(3);
	rig_gdt(S_FREE, rig_gate_desc(K_CODE64, 0x9000, 0xec, 0));
	rig_poke(GDT + S_FREE + 8, 8, 0x7fff);
	SUCCEEDS(x86_call_far(cpu, S_FREE, 0, 8));
	assert_int_equal(cpu->rip, 0x7fff00009000);
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->seg[CPU_SS].selector, 0);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 32);
	assert_int_equal(rig_stack(0, 8), CODE);
	assert_int_equal(rig_stack(1, 8), U_CODE64);
	assert_int_equal(rig_stack(2, 8), STACK3);
	assert_int_equal(rig_stack(3, 8), U_DATA);
	SUCCEEDS(x86_ret_far(cpu, 8, 0));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->rip, CODE);

	rig_poke(GDT + S_FREE + 8, 8, 0x8000); /* not canonical */
	RAISES(x86_call_far(cpu, S_FREE, 0, 8), X86_GP, 0);
	rig_poke(GDT + S_FREE + 8, 8, BIT(40)); /* a type where 0 must be */
	RAISES(x86_call_far(cpu, S_FREE, 0, 8), X86_GP, S_FREE);
	rig_poke(GDT + S_FREE + 8, 8, 0);
	rig_gdt(S_FREE, rig_gate_desc(K_CODE, 0x9000, 0xec, 0)); /* not L */
	RAISES(x86_call_far(cpu, S_FREE, 0, 8), X86_GP, K_CODE);
	rig_gdt(S_FREE, rig_gate_desc(K_CODE64, 0x9000, 0xe4, 0)); /* 16-bit */
	RAISES(x86_call_far(cpu, S_FREE, 0, 8), X86_GP, S_FREE);
	rig_gdt(S_FREE,
	    rig_desc(0, 0xfffff, A_CODE | A_DPL(3), 0xe)); /* L, D */
	RAISES(x86_jmp_far(cpu, S_FREE, 0x9000, 4), X86_GP, S_FREE);
	/* To compatibility mode and back. */
	SUCCEEDS(x86_jmp_far(cpu, U_CODE, 0x9000, 4));
	assert_int_equal(cpu->code, X86_CODE32);
	SUCCEEDS(x86_jmp_far(cpu, U_CODE64, 0x9000, 4));
	assert_int_equal(cpu->code, X86_CODE64);
	/* Tasks there are none. */
	rig_gdt(S_FREE, rig_gate_desc(S_TSS2, 0, 0xe5, 0));
	RAISES(x86_jmp_far(cpu, S_FREE, 0, 4), X86_GP, S_FREE);
	RAISES(x86_jmp_far(cpu, S_TSS2, 0, 4), X86_GP, S_TSS2);
}

/* --------------------------------------------------------------- RET, IRET */

static void
push_frame(const uint64_t *frame, unsigned count, unsigned size)
{
	for (unsigned i = count; i-- > 0;)
		SUCCEEDS(x86_push(rig.cpu, frame[i], size));
}

/* SDM volume 2, RET and IRET: the return code and stack segments. */
static void
returns_are_checked(void **state)
{
	static const struct {
		unsigned cpl;
		uint16_t cs, ss;
		int vector;
		uint16_t error;
	} rows[] = {
		{ 0, U_CODE, U_DATA, -1, 0 },
		{ 0, C_CODE1, C_DATA1, -1, 0 },
		{ 0, 0, U_DATA, X86_GP, 0 },
		{ 0, S_OUT, U_DATA, X86_GP, S_OUT },
		{ 3, K_CODE, K_DATA, X86_GP, K_CODE }, /* inwards */
		{ 0, K_DATA, U_DATA, X86_GP, K_DATA },
		{ 0, U_CODE & ~3, U_DATA, X86_GP, U_CODE & ~3 },
		{ 0, K_CODE | 3, U_DATA, X86_GP, K_CODE },
		{ 0, K_CONFORMING | 3, U_DATA, -1, 0 },
		{ 0, K_ABSENT_CODE, U_DATA, X86_NP, K_ABSENT_CODE },
		{ 0, U_CODE, 0, X86_GP, 0 },
		{ 0, U_CODE, S_OUT | 3, X86_GP, S_OUT },
		{ 0, U_CODE, K_DATA, X86_GP, K_DATA },
		{ 0, U_CODE, K_DATA | 3, X86_GP, K_DATA },
		{ 0, U_CODE, U_DATA & ~3, X86_GP, U_DATA & ~3 },
		{ 0, U_CODE, U_CODE, X86_GP, U_CODE & ~3 },
		{ 0, U_CODE, U_ABSENT, X86_SS, U_ABSENT & ~3 },
	};

	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		size_t n = i / 2;
		bool iret = i & 1, raised;
		const uint64_t frame[] = { 0x9100, rows[n].cs, 2, STACK3,
			rows[n].ss };
		const uint64_t far[] = { 0x9100, rows[n].cs, STACK3,
			rows[n].ss };

		rig_prot(rows[n].cpl);
		if (iret) {
			push_frame(frame, 5, 4);
			raised = CATCH(x86_iret(rig.cpu, 4));
		} else {
			push_frame(far, 4, 4);
			raised = CATCH(x86_ret_far(rig.cpu, 4, 0));
		}
		assert_int_equal(raised, rows[n].vector >= 0);
		if (raised) {
			assert_int_equal(rig.cpu->event.vector, rows[n].vector);
			assert_int_equal(rig.cpu->event.error, rows[n].error);
			assert_int_equal(rig.cpu->cpl, rows[n].cpl);
		} else {
			assert_int_equal(rig.cpu->cpl, rows[n].cs & 3);
			assert_int_equal(rig.cpu->gpr[CPU_RSP], STACK3);
			assert_int_equal(rig.cpu->rip, 0x9100);
		}
	}
}

/* SDM volume 2, IRET: which flags come from the image. */
static void
iret_flags(void **state)
{
	static const struct {
		unsigned cpl, iopl, size;
		uint64_t expected; /* of an image with all flags, from none */
	} rows[] = {
		{ 0, 0, 4, X86_FLAGS_ALL & ~X86_VM },
		{ 0, 0, 2, X86_FLAGS_ALL & 0xffff },
		{ 3, 0, 4,
		    X86_FLAGS_ALL &
			~(X86_VM | X86_IF | X86_IOPL | X86_VIF | X86_VIP) },
		{ 3, 3, 4, X86_FLAGS_ALL & ~(X86_VM | X86_VIF | X86_VIP) },
		{ 3, 0, 2, X86_FLAGS_ALL & 0xffff & ~(X86_IF | X86_IOPL) },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t frame[] = { 0x9100, 0,
			X86_FLAGS_ALL & ~(uint64_t)X86_VM };

		rig_prot(rows[i].cpl);
		frame[1] = cpu->seg[CPU_CS].selector;
		cpu->rflags |= rows[i].iopl << 12;
		push_frame(frame, 3, rows[i].size);
		SUCCEEDS(x86_iret(cpu, rows[i].size));
		assert_int_equal(cpu->rflags,
		    rows[i].expected | X86_FLAGS_FIXED);
	}
}

/* SDM volume 3, 6.7.1: IRET unmasks NMI, even when it faults. */
static void
iret_unmasks_nmi(void **state)
{
	rig_prot(0);
	rig.cpu->nmi_masked = true;
	push_frame((const uint64_t[]) { 0x9100, 0, 2 }, 3, 4);
	RAISES(x86_iret(rig.cpu, 4), X86_GP, 0);
	assert_false(rig.cpu->nmi_masked);
}

/* SDM volume 3, 6.14.3: 64-bit code pops SS:RSP always. */
static void
long_iret(void **state)
{
	static const struct {
		uint16_t cs, ss;
		uint64_t rip;
		int vector;
		enum x86_code code;
	} rows[] = {
		{ K_CODE64, K_DATA, CODE, -1, X86_CODE64 },
		{ K_CODE64, 0, CODE, -1, X86_CODE64 },
		{ K_CODE, K_DATA, CODE, -1, X86_CODE32 },
		{ K_CODE, 0, CODE, X86_GP, X86_CODE32 },
		{ U_CODE64, U_DATA, CODE, -1, X86_CODE64 },
		{ U_CODE64, 3, CODE, X86_GP, X86_CODE64 },
		{ U_CODE, U_DATA, CODE, -1, X86_CODE32 },
		{ U_CODE64, U_DATA, 0x800000000000, X86_GP, X86_CODE64 },
		{ U_CODE, U_DATA, 0x100000000, X86_GP, X86_CODE32 },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const uint64_t frame[] = { rows[i].rip, rows[i].cs, X86_VM | 2,
			STACK3, rows[i].ss };
		bool raised;

		rig_long(0);
		push_frame(frame, 5, 8);
		raised = CATCH(x86_iret(cpu, 8));
		assert_int_equal(raised, rows[i].vector >= 0);
		if (raised) {
			assert_int_equal(cpu->event.vector, rows[i].vector);
			assert_int_equal(cpu->event.error, 0);
			continue;
		}
		assert_int_equal(cpu->code, rows[i].code);
		assert_int_equal(cpu->gpr[CPU_RSP], STACK3);
		assert_int_equal(cpu->cpl, rows[i].cs & 3);
		assert_int_equal(X86_SEG_DPL(cpu->seg[CPU_SS].access),
		    cpu->cpl);
		assert_false(cpu->rflags & X86_VM); /* ignored there */
	}
	rig_long(0);
	cpu->rflags |= X86_NT;
	RAISES(x86_iret(cpu, 8), X86_GP, 0);
}

/* SDM volume 3, 20.2: into virtual-8086 mode, and what IRET does there. */
static void
virtual_8086(void **state)
{
	const uint64_t frame[] = { 0x1234, 0x1000, X86_VM | 3 << 12 | 2,
		0x15678, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000 };
	static const struct {
		enum cpu_seg seg;
		uint16_t selector;
	} segs[] = { { CPU_CS, 0x1000 }, { CPU_SS, 0x2000 }, { CPU_ES, 0x3000 },
		{ CPU_DS, 0x4000 }, { CPU_FS, 0x5000 }, { CPU_GS, 0x6000 } };
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	push_frame(frame, 9, 4);
	SUCCEEDS(x86_iret(cpu, 4));
	assert_true(x86_v86(cpu));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->code, X86_CODE16);
	assert_int_equal(cpu->rip, 0x1234);
	assert_int_equal(cpu->gpr[CPU_RSP], 0x15678);
	for (size_t i = 0; i < ARRAY_SIZE(segs); i++) {
		assert_int_equal(cpu->seg[segs[i].seg].selector,
		    segs[i].selector);
		assert_int_equal(cpu->seg[segs[i].seg].base,
		    segs[i].selector << 4);
		assert_int_equal(cpu->seg[segs[i].seg].limit, 0xffff);
	}
	rig_prot(0);
	push_frame(frame, 9, 4);
	rig_poke(cpu->gpr[CPU_RSP], 4, 0x10000);
	RAISES(x86_iret(cpu, 4), X86_GP, 0);
	assert_int_equal(cpu->cpl, 0);
	/* With IOPL 3 as in real mode, but for IOPL itself. */
	rig_v86(3);
	push_frame((const uint64_t[]) { 0x100, 0x200, X86_IF | X86_CF | 2 }, 3,
	    2);
	SUCCEEDS(x86_iret(cpu, 2));
	assert_int_equal(cpu->rflags, X86_VM | 3 << 12 | X86_IF | X86_CF | 2);
	assert_int_equal(cpu->seg[CPU_CS].base, 0x2000);
	/* Otherwise not; or, with VME, on the virtual flag. */
	rig_v86(0);
	RAISES(x86_iret(cpu, 2), X86_GP, 0);
	cpu->cr4 |= X86_CR4_VME;
	RAISES(x86_iret(cpu, 4), X86_GP, 0);
	push_frame((const uint64_t[]) { 0x100, 0x200, X86_IF | 2 }, 3, 2);
	SUCCEEDS(x86_iret(cpu, 2));
	assert_int_equal(cpu->rflags, X86_VM | X86_VIF | 2);
	cpu->rflags |= X86_VIP;
	push_frame((const uint64_t[]) { 0x100, 0x200, X86_IF | 2 }, 3, 2);
	RAISES(x86_iret(cpu, 2), X86_GP, 0);
	push_frame((const uint64_t[]) { 0x100, 0x200, X86_TF | 2 }, 3, 2);
	RAISES(x86_iret(cpu, 2), X86_GP, 0);
}

/* ------------------------------------------------------------------ tasks */

static void
make_task(uint16_t cs, uint16_t ss)
{
	rig_poke(TSS2 + 0x1c, 4, 0xabc000); /* CR3, without paging */
	rig_poke(TSS2 + 0x20, 4, 0xa000);
	rig_poke(TSS2 + 0x24, 4, X86_CF | 2);
	for (unsigned r = 0; r < 8; r++)
		rig_poke(TSS2 + 0x28 + 4 * r, 4, 0x1000 * (r + 1));
	rig_poke(TSS2 + 0x38, 4, STACK1); /* ESP */
	rig_poke(TSS2 + 0x48, 2, U_DATA);
	rig_poke(TSS2 + 0x4c, 2, cs);
	rig_poke(TSS2 + 0x50, 2, ss);
	rig_poke(TSS2 + 0x54, 2, U_DATA);
	rig_poke(TSS2 + 0x58, 2, 0);
	rig_poke(TSS2 + 0x5c, 2, U_DATA);
	rig_poke(TSS2 + 0x60, 2, 0);
}

#define BUSY(selector) ((rig_peek(GDT + ((selector) & ~7u) + 5, 1) & 2) != 0)

/* SDM volume 3, 7.3 and 7.4: JMP changes busy bits, CALL nests. */
static void
task_switches(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	make_task(U_CODE, U_DATA);
	cpu->gpr[CPU_RAX] = 0x55;
	cpu->dr7 = 0x7ff;
	SUCCEEDS(x86_jmp_far(cpu, S_TSS2, 0, 4));
	assert_false(cpu->has_pending);
	assert_int_equal(cpu->rip, 0xa000);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->rflags, X86_CF | 2);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x1000);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK1);
	assert_int_equal(cpu->gpr[CPU_RDI], 0x8000);
	assert_int_equal(cpu->seg[CPU_CS].selector, U_CODE);
	assert_int_equal(cpu->seg[CPU_CS].limit, UINT32_MAX);
	assert_true(cpu->seg[CPU_FS].access & CPU_SEG_UNUSABLE);
	assert_true(cpu->seg[CPU_LDTR].access & CPU_SEG_UNUSABLE);
	assert_int_equal(cpu->seg[CPU_TR].selector, S_TSS2);
	assert_int_equal(cpu->seg[CPU_TR].access & 0xf, 0xb);
	assert_true(cpu->cr0 & X86_CR0_TS);
	assert_int_equal(cpu->dr7, 0x7ff & ~0x155); /* local ones are off */
	assert_int_not_equal(cpu->cr3, 0xabc000);   /* no paging */
	assert_false(BUSY(S_TSS));
	assert_true(BUSY(S_TSS2));
	/* The old task's state. */
	assert_int_equal(rig_peek(TSS + 0x20, 4), CODE);
	assert_int_equal(rig_peek(TSS + 0x24, 4), 2);
	assert_int_equal(rig_peek(TSS + 0x28, 4), 0x55);
	assert_int_equal(rig_peek(TSS + 0x38, 4), STACK0);
	assert_int_equal(rig_peek(TSS + 0x4c, 2), K_CODE);
	assert_int_equal(rig_peek(TSS + 0x50, 2), K_DATA);

	rig_prot(0);
	make_task(K_CODE, K_DATA);
	SUCCEEDS(x86_call_far(cpu, S_TSS2, 0, 4));
	assert_true(cpu->rflags & X86_NT);
	assert_true(BUSY(S_TSS) && BUSY(S_TSS2));
	assert_int_equal(rig_peek(TSS2, 2), S_TSS); /* the link */
	/* IRET goes back: SDM volume 3, 7.4. */
	cpu->gpr[CPU_RBX] = 0x77;
	cpu->rip = 0xb000;
	SUCCEEDS(x86_iret(cpu, 4));
	assert_false(cpu->has_pending);
	assert_int_equal(cpu->seg[CPU_TR].selector, S_TSS);
	assert_int_equal(cpu->rip, CODE);
	assert_false(cpu->rflags & X86_NT);
	assert_true(BUSY(S_TSS));
	assert_false(BUSY(S_TSS2));
	assert_int_equal(rig_peek(TSS2 + 0x20, 4), 0xb000);
	assert_int_equal(rig_peek(TSS2 + 0x34, 4), 0x77);
	assert_false(rig_peek(TSS2 + 0x24, 4) & X86_NT);
}

/* A task gate; a 16-bit TSS; virtual-8086 mode; the T bit. */
static void
other_tasks(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	make_task(K_CODE, K_DATA);
	rig_poke(TSS2 + 0x64, 2, 1);
	rig_gdt(S_FREE, rig_gate_desc(S_TSS2, 0, 0xe5, 0));
	SUCCEEDS(x86_jmp_far(cpu, S_FREE | 3, 0, 4));
	assert_int_equal(cpu->cpl, 0);
	assert_true(cpu->has_pending);
	assert_int_equal(cpu->pending.vector, X86_DB);
	assert_true(cpu->dr6 & BIT(15));

	rig_prot(0);
	cpu->has_pending = false;
	rig_gdt(S_TSS2, rig_desc(TSS2, 0x2b, 0x81, 0));
	rig_poke(TSS2 + 0x0e, 2, 0xa000);
	rig_poke(TSS2 + 0x10, 2, 2);
	rig_poke(TSS2 + 0x1a, 2, 0x5000); /* SP */
	rig_poke(TSS2 + 0x22, 2, U_DATA);
	rig_poke(TSS2 + 0x24, 2, K_CODE);
	rig_poke(TSS2 + 0x26, 2, K_DATA);
	rig_poke(TSS2 + 0x28, 2, U_DATA);
	SUCCEEDS(x86_call_far(cpu, S_TSS2, 0, 4));
	assert_false(cpu->has_pending);
	assert_int_equal(cpu->rip, 0xa000);
	assert_int_equal(cpu->gpr[CPU_RSP] & 0xffff, 0x5000);
	assert_int_equal(cpu->seg[CPU_ES].selector, U_DATA);
	assert_int_equal(cpu->seg[CPU_FS].selector, 0);
	assert_int_equal(cpu->seg[CPU_TR].access & 0xf, 3);
	SUCCEEDS(x86_iret(cpu, 4));
	assert_int_equal(cpu->rip, CODE);

	rig_prot(0);
	make_task(0x1000, 0x2000);
	rig_poke(TSS2 + 0x24, 4, X86_VM | 2);
	SUCCEEDS(x86_jmp_far(cpu, S_TSS2, 0, 4));
	assert_false(cpu->has_pending);
	assert_true(x86_v86(cpu));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->seg[CPU_CS].base, 0x10000);
	assert_int_equal(cpu->seg[CPU_SS].base, 0x20000);
}

/* SDM volume 3, table 7-1. */
static void
task_faults(void **state)
{
	static const struct {
		unsigned at;
		uint16_t value;
		int vector;
		uint16_t error;
	} late[] = {
		{ 0x60, S_OUT, X86_TS, S_OUT }, /* LDT */
		{ 0x60, K_DATA, X86_TS, K_DATA },
		{ 0x4c, 0, X86_TS, 0 }, /* CS */
		{ 0x4c, K_DATA, X86_TS, K_DATA },
		{ 0x4c, K_CODE | 3, X86_TS, K_CODE },
		{ 0x4c, K_ABSENT_CODE, X86_NP, K_ABSENT_CODE },
		{ 0x50, 0, X86_TS, 0 }, /* SS */
		{ 0x50, U_DATA, X86_TS, U_DATA & ~3 },
		{ 0x50, K_ABSENT, X86_SS, K_ABSENT },
		{ 0x54, S_OUT, X86_TS, S_OUT }, /* DS */
		{ 0x54, K_EXECONLY, X86_TS, K_EXECONLY },
		{ 0x5c, K_ABSENT, X86_NP, K_ABSENT }, /* GS */
	};
	struct x86_cpu *cpu = rig.cpu;

	/* Before the switch: the old task's. */
	rig_prot(0);
	make_task(K_CODE, K_DATA);
	rig_gdt(S_TSS2, rig_desc(TSS2, 0x66, 0x89, 0));
	RAISES(x86_jmp_far(cpu, S_TSS2, 0, 4), X86_TS, S_TSS2);
	rig_gdt(S_TSS2, rig_desc(TSS2, 0x67, 0x09, 0));
	RAISES(x86_jmp_far(cpu, S_TSS2, 0, 4), X86_NP, S_TSS2);
	rig_gdt(S_TSS2, rig_desc(TSS2, 0x67, 0x8b, 0));
	RAISES(x86_jmp_far(cpu, S_TSS2, 0, 4), X86_GP, S_TSS2);
	rig_gdt(S_FREE, rig_gate_desc(S_TSS2 | 4, 0, 0x85, 0));
	rig_poke(LDT + S_TSS2, 8, rig_desc(TSS2, 0x67, 0x89, 0));
	RAISES(x86_jmp_far(cpu, S_FREE, 0, 4), X86_GP, S_TSS2 | 4);
	cpu->rflags |= X86_NT;
	rig_poke(TSS, 2, S_TSS2);
	rig_gdt(S_TSS2, rig_desc(TSS2, 0x67, 0x89, 0));
	RAISES(x86_iret(cpu, 4), X86_TS, S_TSS2); /* not busy */
	rig_poke(TSS, 2, 4);
	RAISES(x86_iret(cpu, 4), X86_TS, 4);
	assert_int_equal(cpu->seg[CPU_TR].selector, S_TSS);
	/* After it: the new one's, before its first instruction. */
	for (size_t i = 0; i < ARRAY_SIZE(late); i++) {
		rig_prot(0);
		cpu->has_pending = false;
		make_task(K_CODE, K_DATA);
		rig_poke(TSS2 + late[i].at, 2, late[i].value);
		SUCCEEDS(x86_jmp_far(cpu, S_TSS2, 0, 4));
		assert_true(cpu->has_pending);
		assert_int_equal(cpu->pending.vector, late[i].vector);
		assert_int_equal(cpu->pending.error, late[i].error);
		assert_int_equal(cpu->seg[CPU_TR].selector, S_TSS2);
		assert_int_equal(cpu->rip, 0xa000);
		assert_int_equal(cpu->gpr[CPU_RAX], 0x1000);
	}
	rig_prot(0);
	cpu->has_pending = false;
	make_task(K_CODE16, K_DATA);
	rig_poke(TSS2 + 0x20, 4, 0x10000); /* beyond the limit */
	SUCCEEDS(x86_jmp_far(cpu, S_TSS2, 0, 4));
	assert_true(cpu->has_pending);
	assert_int_equal(cpu->pending.vector, X86_GP);
	assert_int_equal(cpu->pending.error, 0);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(loads_are_checked),
		TEST(descriptors_are_unpacked),
		TEST(addresses_are_checked),
		TEST(long_mode_addresses),
		TEST(real_mode_segments),
		TEST(null_selectors),
		cmocka_unit_test_setup_teardown(null_selectors, set_up_amd,
		    tear_down),
		TEST(stacks_have_widths),
		TEST(far_pointers_are_checked),
		TEST(far_in_real_mode),
		TEST(call_gate_and_return),
		TEST(other_call_gates),
		TEST(call_gate_faults),
		TEST(long_call_gate),
		TEST(returns_are_checked),
		TEST(iret_flags),
		TEST(iret_unmasks_nmi),
		TEST(long_iret),
		TEST(virtual_8086),
		TEST(task_switches),
		TEST(other_tasks),
		TEST(task_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
