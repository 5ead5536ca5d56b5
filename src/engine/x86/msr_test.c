/*
 * What guests find in the MSRs that no engine keeps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/x86/msr.h"

static const struct msr_params intel = { CPUID_INTEL, 2600000000 };
static const struct msr_params amd = { CPUID_AMD, 2600000000 };

static void
check(const struct msr_params *params, uint32_t index, uint64_t value)
{
	uint64_t got = ~value;

	assert_true(msr_reads(params, index));
	assert_int_equal(msr_read(params, index, &got), MSR_OK);
	assert_int_equal(got, value);
}

static void
each_vendor_has_its_list(void **state)
{
	uint64_t v;

	check(&intel, 0x8b, 0);
	check(&amd, 0x8b, 0);
	check(&intel, 0x17, 0);
	check(&intel, 0x3a, 1);
	check(&intel, 0x606, 0xa1003);
	check(&amd, 0xc0010015, 0x01000210);
	check(&amd, 0xc0011029, 2);
	check(&amd, 0xc0010114, 0x10);
	check(&amd, 0xc0010003, 0);
	check(&amd, 0xc0010007, 0);
	assert_int_equal(msr_read(&amd, 0x606, &v), MSR_UNKNOWN);
	assert_int_equal(msr_read(&amd, 0xc0010008, &v), MSR_UNKNOWN);
	assert_int_equal(msr_read(&intel, 0xc0010015, &v), MSR_UNKNOWN);
	assert_int_equal(v, 0);
}

static void
ratios_follow_the_tsc(void **state)
{
	static const struct msr_params slow = { CPUID_INTEL, 0 };
	static const struct msr_params fast = { CPUID_INTEL, 99000000000 };

	check(&intel, 0xce, 26ULL << 8 | 26ULL << 40);
	check(&intel, 0x1ad, 0x1a1a1a1a1a1a1a1a);
	check(&slow, 0xce, 0);
	check(&fast, 0x1ad, 0xffffffffffffffff);
}

static void
some_writes_are_ignored(void **state)
{
	assert_int_equal(msr_write(&intel, 0x79), MSR_OK);
	assert_int_equal(msr_write(&intel, 0x8b), MSR_OK);
	assert_int_equal(msr_write(&amd, 0xc0010020), MSR_OK);
	assert_int_equal(msr_write(&amd, 0xc0010015), MSR_OK);
	assert_int_equal(msr_write(&amd, 0x79), MSR_UNKNOWN);
	assert_int_equal(msr_write(&intel, 0x3a), MSR_UNKNOWN);
	/* Written and not read. */
	assert_false(msr_reads(&amd, 0xc0010020));
	assert_true(msr_writes(&amd, 0xc0010020));
}

static void
misuse_of_the_processors_own_is_a_fault(void **state)
{
	static const uint32_t own[] = { 0x10, 0x1b, 0xfe, 0x174, 0x277, 0x2ff,
		0x20f, 0x802, 0x8ff, 0xc0000080, 0xc0000082, 0xc0000101 };
	static const uint32_t foreign[] = { 0x3b, 0x48, 0x122, 0x210, 0x6e0,
		0xda0, 0x900, 0x40000000, 0x4b564d00, 0xc0000085, 0xffffffff };
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		assert_int_equal(msr_read(&intel, own[i], &v), MSR_FAULT);
		assert_int_equal(msr_write(&amd, own[i]), MSR_FAULT);
	}
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
		assert_int_equal(msr_read(&amd, foreign[i], &v), MSR_UNKNOWN);
		assert_int_equal(msr_write(&intel, foreign[i]), MSR_UNKNOWN);
	}
}

/* The header promises where they are: engines build filters from it. */
static void
the_list_lies_where_it_says(void **state)
{
	static const struct {
		uint32_t first, last;
	} outside[] = { { 0x2000, 0x3000 }, { 0xc0000000, 0xc000ffff },
		{ 0xc0012000, 0xc0013000 } };

	for (size_t r = 0; r < ARRAY_SIZE(outside); r++) {
		for (uint32_t i = outside[r].first; i <= outside[r].last; i++) {
			assert_false(msr_reads(&intel, i));
			assert_false(msr_reads(&amd, i));
			assert_false(msr_writes(&intel, i));
			assert_false(msr_writes(&amd, i));
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_vendor_has_its_list),
		cmocka_unit_test(ratios_follow_the_tsc),
		cmocka_unit_test(some_writes_are_ignored),
		cmocka_unit_test(misuse_of_the_processors_own_is_a_fault),
		cmocka_unit_test(the_list_lies_where_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
