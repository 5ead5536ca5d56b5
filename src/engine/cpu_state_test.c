/*
 * Power-on values, the table of MSRs, the names of registers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"
#include "engine/cpu_state.h"

static struct cpu_state cpu; /* too large for some stacks */

static void
reset_is_bhyves(void **state)
{
	memset(&cpu, 0xa5, sizeof(cpu));
	cpu.xsave_size = 832;
	cpu_state_reset(&cpu, 0);
	assert_int_equal(cpu.rip, 0xfff0);
	assert_int_equal(cpu.rflags, 2);
	assert_int_equal(cpu.cr0, 0x20);
	assert_int_equal(cpu.cr3 | cpu.cr4 | cpu.cr2 | cpu.cr8 | cpu.efer, 0);
	for (unsigned r = 0; r < CPU_GPRS; r++)
		assert_int_equal(cpu.gpr[r], r == CPU_RDX ? 0xf00 : 0);
	for (unsigned s = CPU_ES; s <= CPU_GS; s++) {
		assert_int_equal(cpu.seg[s].limit, 0xffff);
		assert_int_equal(cpu.seg[s].access, 0x93);
		assert_int_equal(cpu.seg[s].selector, s == CPU_CS ? 0xf000 : 0);
		assert_int_equal(cpu.seg[s].base, s == CPU_CS ? 0xffff0000 : 0);
	}
	assert_int_equal(cpu.seg[CPU_TR].access, 0x8b);
	assert_int_equal(cpu.seg[CPU_TR].limit, 0);
	assert_int_equal(cpu.seg[CPU_LDTR].access, 0x82);
	assert_int_equal(cpu.seg[CPU_LDTR].limit, 0xffff);
	assert_int_equal(cpu.gdtr.limit, 0xffff);
	assert_int_equal(cpu.idtr.limit, 0xffff);
	assert_int_equal(cpu.gdtr.base | cpu.idtr.base, 0);
	assert_int_equal(cpu.xcr0, 1);
	assert_int_equal(cpu.xsave_size, 832); /* the engine's */
	assert_int_equal(le16_load(cpu.xsave), 0x37f);
	assert_int_equal(le64_load(cpu.xsave + 512), 0);
	assert_int_equal(cpu.run_state, CPU_RUNNING);
	assert_false(cpu.sti_shadow || cpu.mov_ss_shadow || cpu.nmi_pending ||
	    cpu.nmi_masked || cpu.exception.valid || cpu.interrupt.valid);
	assert_int_equal(cpu.msr_count, 1);
	assert_int_equal(cpu_state_msr(&cpu, 0x277)->value, 0x0007040600070406);
}

static void
only_the_first_one_runs(void **state)
{
	cpu_state_reset(&cpu, 0);
	assert_int_equal(cpu.apic_base, 0xfee00900);
	assert_int_equal(le32_load(cpu.lapic + 0x350), 0x700); /* ExtINT */
	cpu_state_reset(&cpu, 3);
	assert_int_equal(cpu.run_state, CPU_WAIT_INIT);
	assert_int_equal(cpu.apic_base, 0xfee00800);
	assert_int_equal(le32_load(cpu.lapic + 0x20), 3 << 24);
	for (unsigned lvt = 0x320; lvt <= 0x370; lvt += 0x10)
		assert_int_equal(le32_load(cpu.lapic + lvt), 0x10000);
	assert_int_equal(le32_load(cpu.lapic + 0x2f0), 0x10000);
	assert_int_equal(le32_load(cpu.lapic + 0xe0), 0xffffffff);
	assert_int_equal(le32_load(cpu.lapic + 0xf0), 0xff);
	assert_int_equal(le32_load(cpu.lapic + 0x30), 0x60010);
}

static void
msr_table_is_bounded(void **state)
{
	memset(&cpu, 0, sizeof(cpu));
	assert_null(cpu_state_msr(&cpu, 0));
	for (uint32_t i = 0; i < CPU_MSRS_MAX; i++)
		assert_true(cpu_state_set_msr(&cpu, 0x1000 + i, i));
	assert_false(cpu_state_set_msr(&cpu, 0x999, 1));
	assert_true(cpu_state_set_msr(&cpu, 0x1000, 77)); /* known: no room */
	assert_int_equal(cpu.msr_count, CPU_MSRS_MAX);
	assert_int_equal(cpu_state_msr(&cpu, 0x1000)->value, 77);
	assert_int_equal(cpu_state_msr(&cpu, 0x1000 + CPU_MSRS_MAX - 1)->value,
	    CPU_MSRS_MAX - 1);
}

static void
names_are_bhyvectls(void **state)
{
	assert_string_equal(cpu_gpr_name(CPU_RAX), "rax");
	assert_string_equal(cpu_gpr_name(CPU_RDI), "rdi");
	assert_string_equal(cpu_gpr_name(CPU_R15), "r15");
	assert_string_equal(cpu_seg_name(CPU_ES), "es");
	assert_string_equal(cpu_seg_name(CPU_TR), "tr");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reset_is_bhyves),
		cmocka_unit_test(only_the_first_one_runs),
		cmocka_unit_test(msr_table_is_bounded),
		cmocka_unit_test(names_are_bhyvectls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
