/*
 * Events on their way to handlers: the rules of the SDM, mode by mode.
 */
#include "engine/x86/system_rig.h"

#define HANDLER_OF(v) (HANDLER + (v)*16u)

static int
set_up(void **state)
{
	rig_new(CPUID_INTEL);
	return 0;
}

static int
tear_down(void **state)
{
	rig_free();
	return 0;
}

/* Deliver an exception as an instruction would have raised it. */
static bool
deliver(uint8_t vector, bool has_error, uint32_t error)
{
	rig.cpu->event = (struct x86_event) {
		.vector = vector,
		.has_error = has_error,
		.error = error,
		.cr2 = 0x12345000,
	};
	return x86_deliver_exception(rig.cpu);
}

/* SDM volume 3, 20.1.4: FLAGS, CS, IP; IF, TF, AC off; no error code. */
static void
real_mode(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_real();
	rig_poke(13 * 4, 4, 0x10002222);
	cpu->rflags |= X86_IF | X86_TF | X86_AC | X86_CF;
	assert_true(deliver(X86_GP, true, 0x50));
	assert_int_equal(cpu->seg[CPU_CS].base, 0x10000);
	assert_int_equal(cpu->rip, 0x2222);
	assert_int_equal(cpu->gpr[CPU_RSP], 0x7000 - 6);
	assert_int_equal(rig_stack(0, 2), CODE);
	assert_int_equal(rig_stack(1, 2), 0);
	assert_int_equal(rig_stack(2, 2), X86_IF | X86_TF | X86_CF | 2);
	assert_int_equal(cpu->rflags, X86_CF | 2);
	/* And back. */
	SUCCEEDS(x86_iret(cpu, 2));
	assert_int_equal(cpu->rip, CODE);
	assert_int_equal(cpu->rflags, X86_IF | X86_TF | X86_CF | 2);
	/* INT n: a vector beyond the table is #GP. */
	rig_poke(0x21 * 4, 4, 0x00003333);
	SUCCEEDS(x86_soft_interrupt(cpu, 0x21, false));
	assert_int_equal(cpu->rip, 0x3333);
	cpu->idtr.limit = 0x21 * 4 + 2;
	RAISES(x86_soft_interrupt(cpu, 0x21, false), X86_GP, 0x21 * 8 + 2);
	/* No table at all: shutdown. */
	cpu->idtr.limit = 0;
	assert_false(x86_deliver_interrupt(cpu, 0x20));
}

/* SDM volume 3, 6.12.1: same level and inner level. */
static void
protected_mode(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	rig_idt(X86_GP, K_CODE, 0x8e);
	cpu->rflags |= X86_IF | X86_TF | X86_NT;
	assert_true(deliver(X86_GP, true, 0x18));
	assert_int_equal(cpu->rip, HANDLER_OF(X86_GP));
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 16);
	assert_int_equal(rig_stack(0, 4), 0x18);
	assert_int_equal(rig_stack(1, 4), CODE);
	assert_int_equal(rig_stack(2, 4), K_CODE);
	assert_int_equal(rig_stack(3, 4),
	    X86_IF | X86_TF | X86_NT | X86_RF | 2);
	assert_int_equal(cpu->rflags, 2);

	rig_prot(3);
	rig_idt(0x30, K_CODE, 0x8f); /* a trap gate leaves IF */
	cpu->rflags |= X86_IF;
	assert_true(x86_deliver_interrupt(cpu, 0x30));
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->rflags, X86_IF | 2);
	assert_int_equal(cpu->seg[CPU_SS].selector, K_DATA);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 20);
	assert_int_equal(rig_stack(0, 4), CODE);
	assert_int_equal(rig_stack(1, 4), U_CODE);
	assert_int_equal(rig_stack(2, 4), X86_IF | 2); /* no RF */
	assert_int_equal(rig_stack(3, 4), STACK3);
	assert_int_equal(rig_stack(4, 4), U_DATA);
	SUCCEEDS(x86_iret(cpu, 4));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3);

	/* A 16-bit gate pushes words. */
	rig_prot(3);
	rig_idt(X86_GP, K_CODE, 0x86);
	assert_true(deliver(X86_GP, true, 0x18));
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 12);
	assert_int_equal(rig_stack(0, 2), 0x18);
	assert_int_equal(rig_stack(5, 2), U_DATA);

	/* A conforming handler runs at the level it interrupts. */
	rig_prot(3);
	rig_idt(0x30, K_CONFORMING, 0x8e);
	assert_true(x86_deliver_interrupt(cpu, 0x30));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->seg[CPU_CS].selector, K_CONFORMING | 3);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3 - 12);
}

/* SDM volume 2, INT n: exceptions, with the vector or a selector. */
static void
gates_are_checked(void **state)
{
	static const struct {
		unsigned cpl;
		uint16_t code;
		uint8_t access;
		int vector;
		uint16_t error;
	} rows[] = {
		{ 0, K_CODE, 0x8e, -1, 0 },
		{ 3, K_CODE, 0x8e, X86_GP, 0x40 * 8 + 2 }, /* DPL */
		{ 3, K_CODE, 0xee, -1, 0 },
		{ 0, K_CODE, 0x0e, X86_NP, 0x40 * 8 + 2 },
		{ 0, K_CODE, 0x8c, X86_GP, 0x40 * 8 + 2 }, /* a call gate */
		{ 0, K_CODE, 0x9e, X86_GP, 0x40 * 8 + 2 }, /* not system */
		{ 0, 0, 0x8e, X86_GP, 0 },
		{ 0, S_OUT, 0x8e, X86_GP, S_OUT },
		{ 0, K_DATA, 0x8e, X86_GP, K_DATA },
		{ 0, U_CODE, 0x8e, X86_GP, U_CODE & ~3 }, /* outwards */
		{ 0, K_ABSENT_CODE, 0x8e, X86_NP, K_ABSENT_CODE },
		{ 0, K_CODE | 3, 0x8e, -1, 0 },    /* RPL does not matter */
		{ 0, S_TSS, 0x85, X86_GP, S_TSS }, /* busy */
		{ 0, K_DATA, 0x85, X86_GP, K_DATA },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		bool raised;

		rig_prot(rows[i].cpl);
		rig_idt(0x40, rows[i].code, rows[i].access);
		raised = CATCH(x86_soft_interrupt(cpu, 0x40, false));
		assert_int_equal(raised, rows[i].vector >= 0);
		if (raised) {
			assert_int_equal(cpu->event.vector, rows[i].vector);
			assert_int_equal(cpu->event.error, rows[i].error);
		} else {
			assert_int_equal(cpu->rip, HANDLER_OF(0x40));
			assert_int_equal(cpu->cpl, 0);
		}
	}
	/* Only programs need the DPL. */
	rig_prot(3);
	rig_idt(0x40, K_CODE, 0x8e);
	assert_true(x86_deliver_interrupt(cpu, 0x40));
	rig_prot(3);
	rig_idt(X86_BP, K_CODE, 0x8e);
	RAISES(x86_soft_interrupt(cpu, X86_BP, true), X86_GP, 3 * 8 + 2);
	rig_idt(X86_DB, K_CODE, 0x8e);
	SUCCEEDS(x86_soft_interrupt(cpu, X86_DB, true)); /* INT1 */
	rig_prot(0);
	cpu->idtr.limit = 0x40 * 8 + 6;
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0x40 * 8 + 2);
}

/* SDM volume 3, 6.13: EXT in what happens on the way of others' events. */
static void
ext_bit(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	rig_idt(X86_GP, K_CODE, 0x8e);
	rig_idt(X86_NP, K_CODE, 0x8e);
	rig_idt(0x40, K_CODE, 0x0e);
	assert_true(x86_deliver_interrupt(cpu, 0x40));
	assert_int_equal(cpu->rip, HANDLER_OF(X86_NP));
	assert_int_equal(rig_stack(0, 4), 0x40 * 8 + 3);
	rig_idt(0x40, S_OUT, 0x8e);
	assert_true(x86_deliver_interrupt(cpu, 0x40));
	assert_int_equal(cpu->rip, HANDLER_OF(X86_GP));
	assert_int_equal(rig_stack(0, 4), S_OUT + 1);
	/* #UD (benign) meets a null selector. */
	rig_idt(X86_UD, 0, 0x8e);
	assert_true(deliver(X86_UD, false, 0));
	assert_int_equal(rig_stack(0, 4), 1);
}

/* SDM volume 3, table 6-5. */
static void
double_faults(void **state)
{
	static const struct {
		uint8_t first;
		bool page_fault; /* the second; else #NP, contributory */
		uint8_t expected;
	} rows[] = {
		{ X86_UD, false, X86_NP },
		{ X86_UD, true, X86_PFV },
		{ X86_DE, false, X86_DFV },
		{ X86_TS, false, X86_DFV },
		{ X86_NP, false, X86_DFV },
		{ X86_SS, false, X86_DFV },
		{ X86_GP, false, X86_DFV },
		{ X86_GP, true, X86_PFV },
		{ X86_PFV, false, X86_DFV },
		{ X86_PFV, true, X86_DFV },
		{ X86_MF, false, X86_NP },
		{ X86_NMI, false, X86_NP },
		{ 0x40, false, X86_NP },
		{ 0x40, true, X86_PFV },
	};
	struct x86_cpu *cpu = rig.cpu;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t first = rows[i].first;

		rig_long(3);
		/* IST entries 1 and 2: an unmapped stack, and a good one. */
		rig_poke(TSS + 0x24, 8, 0x500000);
		rig_poke(TSS + 0x2c, 8, STACK_IST);
		rig_idt(X86_NP, K_CODE64, 0x8e);
		rig_idt(X86_DFV, K_CODE64, 0x8e);
		rig_idt(X86_PFV, K_CODE64, 0x8e);
		if (rows[i].page_fault) {
			rig_idt(first, K_CODE64, 0x8e);
			rig_poke(IDT + first * 16 + 4, 1, 1);
		} else {
			rig_idt(first, K_CODE64, 0x0e); /* not present */
		}
		if (first == X86_NMI || first == 0x40)
			assert_true(x86_deliver_interrupt(cpu, first));
		else
			assert_true(
			    deliver(first, first >= 10 && first <= 14, 0));
		assert_int_equal(cpu->rip, HANDLER_OF(rows[i].expected));
		assert_int_equal(cpu->cpl, 0);
		if (rows[i].expected == X86_DFV)
			assert_int_equal(rig_stack(0, 8), 0);
		if (rows[i].page_fault)
			assert_true(
			    cpu->cr2 >= 0x500000 - 48 && cpu->cr2 < 0x500000);
		assert_int_equal(rig_stack(1, 8), CODE);
	}
	/* An interrupt is benign, whatever its vector. */
	rig_long(3);
	rig_idt(X86_GP, K_CODE64, 0x0e);
	rig_idt(X86_NP, K_CODE64, 0x8e);
	assert_true(x86_deliver_interrupt(cpu, X86_GP));
	assert_int_equal(cpu->rip, HANDLER_OF(X86_NP));
	/* A third one is the end. */
	rig_long(3);
	rig_idt(X86_GP, K_CODE64, 0x0e);
	rig_idt(X86_NP, K_CODE64, 0x8e);
	rig_idt(X86_DFV, K_CODE64, 0x0e);
	assert_false(deliver(X86_GP, true, 0));
}

/* SDM volume 3, 6.14: frames, alignment, IST. */
static void
long_mode(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(3);
	rig_idt(X86_PFV, K_CODE64, 0x8e);
	rig_poke(TSS + 4, 8, STACK0 - 3); /* aligned to 16 */
	cpu->rflags |= X86_IF;
	assert_true(deliver(X86_PFV, true, 6));
	assert_int_equal(cpu->cr2, 0x12345000);
	assert_int_equal(cpu->rip, HANDLER_OF(X86_PFV));
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->seg[CPU_SS].selector, 0);
	assert_true(cpu->seg[CPU_SS].access & CPU_SEG_UNUSABLE);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 16 - 48);
	assert_int_equal(rig_stack(0, 8), 6);
	assert_int_equal(rig_stack(1, 8), CODE);
	assert_int_equal(rig_stack(2, 8), U_CODE64);
	assert_int_equal(rig_stack(3, 8), X86_IF | X86_RF | 2);
	assert_int_equal(rig_stack(4, 8), STACK3);
	assert_int_equal(rig_stack(5, 8), U_DATA);
	cpu->gpr[CPU_RSP] += 8;
	/* An outer level finds null selectors to be 0, with their bases. */
	cpu->seg[CPU_FS].selector = 3;
	cpu->seg[CPU_FS].access = CPU_SEG_UNUSABLE;
	cpu->seg[CPU_FS].base = 0x7000;
	SUCCEEDS(x86_iret(cpu, 8));
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3);
	assert_int_equal(cpu->rflags, X86_IF | X86_RF | 2);
	assert_int_equal(cpu->seg[CPU_FS].selector, 0);
	assert_int_equal(cpu->seg[CPU_FS].base, 0x7000);

	/* The same level: SS and RSP all the same, SS stays. */
	rig_long(0);
	rig_idt(0x40, K_CODE64, 0x8e);
	cpu->gpr[CPU_RSP] = STACK0 - 5;
	assert_true(x86_deliver_interrupt(cpu, 0x40));
	assert_int_equal(cpu->seg[CPU_SS].selector, K_DATA);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 16 - 40);
	assert_int_equal(rig_stack(3, 8), STACK0 - 5);
	assert_int_equal(rig_stack(4, 8), K_DATA);
	/* With an IST entry. */
	rig_poke(IDT + 0x40 * 16 + 4, 1, 1);
	assert_true(x86_deliver_interrupt(cpu, 0x40));
	assert_int_equal(cpu->gpr[CPU_RSP], STACK_IST - 40);
	assert_int_equal(cpu->seg[CPU_SS].selector, K_DATA);
	/* From compatibility mode. */
	rig_long(3);
	rig_idt(0x40, K_CODE64, 0xee);
	rig_seg(CPU_CS, U_CODE);
	x86_cpu_mode(cpu);
	SUCCEEDS(x86_soft_interrupt(cpu, 0x40, false));
	assert_int_equal(cpu->code, X86_CODE64);
	SUCCEEDS(x86_iret(cpu, 8));
	assert_int_equal(cpu->code, X86_CODE32);
	assert_int_equal(cpu->cpl, 3);
}

static void
long_mode_faults(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_long(3);
	rig_idt(0x40, K_CODE, 0xee); /* not L */
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, K_CODE);
	rig_idt(0x40, K_CODE64, 0xe6); /* a 16-bit gate */
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0x40 * 8 + 2);
	rig_idt(0x40, S_TSS2, 0xe5);
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0x40 * 8 + 2);
	rig_idt(0x40, K_CODE64, 0xee);
	rig_poke(IDT + 0x40 * 16 + 8, 4, 0x8000);
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0);
	rig_idt(0x40, K_CODE64, 0xee);
	rig_poke(TSS + 4, 8, 0x800000000000 + 64);
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_SS, 0);
	cpu->seg[CPU_TR].limit = 10;
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_TS, S_TSS);
	cpu->idtr.limit = 0x40 * 16 + 14;
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0x40 * 8 + 2);
}

/* SDM volume 3, 20.3.1: nine words, and no segments left. */
static void
virtual_8086(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_v86(3);
	rig_idt(0x40, K_CODE, 0xee);
	SUCCEEDS(x86_load_seg(cpu, CPU_DS, 0x1111));
	SUCCEEDS(x86_load_seg(cpu, CPU_GS, 0x2222));
	SUCCEEDS(x86_soft_interrupt(cpu, 0x40, false));
	assert_false(x86_v86(cpu));
	assert_int_equal(cpu->cpl, 0);
	assert_int_equal(cpu->code, X86_CODE32);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK0 - 36);
	assert_int_equal(rig_stack(0, 4), CODE);
	assert_int_equal(rig_stack(1, 4), 0);
	assert_int_equal(rig_stack(2, 4), X86_VM | X86_IOPL | 2);
	assert_int_equal(rig_stack(3, 4), 0x7000);
	assert_int_equal(rig_stack(4, 4), 0);
	assert_int_equal(rig_stack(6, 4), 0x1111);
	assert_int_equal(rig_stack(8, 4), 0x2222);
	assert_int_equal(cpu->seg[CPU_DS].selector, 0);
	assert_true(cpu->seg[CPU_DS].access & CPU_SEG_UNUSABLE);
	SUCCEEDS(x86_iret(cpu, 4));
	assert_true(x86_v86(cpu));
	assert_int_equal(cpu->seg[CPU_DS].base, 0x11110);
	assert_int_equal(cpu->gpr[CPU_RSP], 0x7000);
	/* INT n asks for IOPL 3; INT3 and exceptions do not. */
	rig_v86(0);
	rig_idt(0x40, K_CODE, 0xee);
	rig_idt(X86_BP, K_CODE, 0xee);
	RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0);
	SUCCEEDS(x86_soft_interrupt(cpu, X86_BP, true));
	/* The handler must be at level 0. */
	rig_v86(0);
	rig_idt(0x40, C_CODE1, 0xee);
	rig_idt(X86_GP, K_CODE, 0x8e);
	assert_true(x86_deliver_interrupt(cpu, 0x40));
	assert_int_equal(cpu->rip, HANDLER_OF(X86_GP));
	assert_int_equal(rig_stack(0, 4), (C_CODE1 & ~3) + 1);
}

/* SDM volume 3, 20.3.3: the redirection bitmap. */
static void
virtual_8086_redirection(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	for (unsigned iopl = 0; iopl <= 3; iopl += 3) {
		rig_v86(iopl);
		cpu->cr4 |= X86_CR4_VME;
		rig_poke(TSS + 0x66, 2, 0x88 + 32);
		rig_poke(0x40 * 4, 4, 0x04001234);
		cpu->rflags |= X86_TF | X86_VIF | (iopl == 3 ? X86_IF : 0);
		SUCCEEDS(x86_soft_interrupt(cpu, 0x40, false));
		assert_true(x86_v86(cpu));
		assert_int_equal(cpu->rip, 0x1234);
		assert_int_equal(cpu->seg[CPU_CS].base, 0x4000);
		assert_int_equal(cpu->gpr[CPU_RSP], 0x7000 - 6);
		assert_int_equal(rig_stack(0, 2), CODE);
		assert_int_equal(rig_stack(2, 2),
		    X86_IOPL | X86_TF | X86_IF | 2);
		assert_int_equal(cpu->rflags,
		    X86_VM | iopl << 12 | 2 | (iopl == 3 ? X86_VIF : 0));
		/* The vector's bit is set: as without VME. */
		rig_idt(0x40, K_CODE, 0xee);
		rig_poke(TSS + 0x88 + 8, 1, 1);
		if (iopl == 3) {
			SUCCEEDS(x86_soft_interrupt(cpu, 0x40, false));
			assert_false(x86_v86(cpu));
		} else {
			RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0);
		}
		/* A map that is not in the TSS. */
		rig_v86(iopl);
		rig_poke(TSS + 0x66, 2, 31);
		RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0);
		rig_poke(TSS + 0x66, 2, TSS_LIMIT + 2);
		RAISES(x86_soft_interrupt(cpu, 0x40, false), X86_GP, 0);
	}
}

/* SDM volume 3, 6.7.1 and 17.2.4; and what a failed attempt leaves. */
static void
side_effects(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(0);
	rig_idt(X86_NMI, K_CODE, 0x8e);
	rig_idt(X86_DB, K_CODE, 0x8e);
	cpu->sti_shadow = cpu->halted = true;
	assert_true(x86_deliver_interrupt(cpu, X86_NMI));
	assert_true(cpu->nmi_masked);
	assert_false(cpu->sti_shadow || cpu->halted);
	cpu->dr7 = 0x2400;
	assert_true(deliver(X86_DB, false, 0));
	assert_int_equal(cpu->dr7, 0x400);
	assert_int_equal(rig_stack(2, 4), 2); /* #DB keeps RF as it is */

	rig_prot(3);
	cpu->jmp = NULL;
	cpu->rflags |= X86_IF;
	assert_false(x86_deliver_interrupt(cpu, 0x41));
	assert_null(cpu->jmp);
	assert_int_equal(cpu->cpl, 3);
	assert_int_equal(cpu->rip, CODE);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK3);
	assert_int_equal(cpu->rflags, X86_IF | 2);
	rig_idt(X86_GP, S_TSS, 0x85); /* a task that is busy */
	assert_false(deliver(X86_GP, true, 0));
	assert_int_equal(cpu->rflags, X86_IF | 2);
}

/* SDM volume 3, 6.12.2: a handler that is a task. */
static void
task_gate(void **state)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	rig_poke(TSS2 + 0x20, 4, 0xa000);
	rig_poke(TSS2 + 0x24, 4, 2);
	rig_poke(TSS2 + 0x38, 4, STACK1);
	rig_poke(TSS2 + 0x4c, 2, K_CODE);
	rig_poke(TSS2 + 0x50, 2, K_DATA);
	rig_idt(X86_DFV, S_TSS2, 0x85);
	rig_idt(X86_GP, K_CODE, 0x0e);
	assert_true(deliver(X86_GP, true, 0)); /* not there: #DF */
	assert_false(cpu->has_pending);
	assert_int_equal(cpu->seg[CPU_TR].selector, S_TSS2);
	assert_int_equal(cpu->rip, 0xa000);
	assert_true(cpu->rflags & X86_NT);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK1 - 4);
	assert_int_equal(rig_stack(0, 4), 0); /* the error code */
	assert_int_equal(rig_peek(TSS2, 2), S_TSS);
	assert_int_equal(rig_peek(TSS + 0x20, 4), CODE);
	assert_int_equal(rig_peek(TSS + 0x38, 4), STACK3);

	/* The new task has no stack: that is another fault, in it. */
	rig_prot(3);
	rig_poke(TSS2 + 0x20, 4, 0xa000);
	rig_poke(TSS2 + 0x24, 4, 2);
	rig_poke(TSS2 + 0x38, 4, STACK1);
	rig_poke(TSS2 + 0x4c, 2, K_CODE);
	rig_poke(TSS2 + 0x50, 2, K_ABSENT);
	rig_idt(0x40, S_TSS2, 0x85);
	assert_false(x86_deliver_interrupt(cpu, 0x40)); /* nor has #SS */
	assert_int_equal(cpu->seg[CPU_TR].selector, S_TSS2);
	assert_false(cpu->has_pending);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(real_mode),
		TEST(protected_mode),
		TEST(gates_are_checked),
		TEST(ext_bit),
		TEST(double_faults),
		TEST(long_mode),
		TEST(long_mode_faults),
		TEST(virtual_8086),
		TEST(virtual_8086_redirection),
		TEST(side_effects),
		TEST(task_gate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
