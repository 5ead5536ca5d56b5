/*
 * bhyve's edits of CPUID, on hosts that offer everything.
 *
 * The hosts are made up: every feature bit set, so that a bit in the guest's
 * table is there because a rule lets it through.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "engine/x86/cpuid.h"

#define ALL 0xffffffffu

static struct cpuid_table host, guest; /* too large for some stacks */

static void
host_leaf(uint32_t leaf, uint32_t eax, uint32_t ebx, uint32_t ecx, uint32_t edx)
{
	host.leaf[host.count++] =
	    (struct cpuid_leaf) { leaf, 0, false, eax, ebx, ecx, edx };
}

static void
host_subleaf(uint32_t leaf, uint32_t subleaf, uint32_t eax, uint32_t ebx)
{
	host.leaf[host.count++] =
	    (struct cpuid_leaf) { leaf, subleaf, true, eax, ebx, 0, 0 };
}

/* XSAVE components with the sizes and places of today's processors. */
static void
host_xsave(void)
{
	host_subleaf(0xd, 0, 0x602e7, 11008);
	host_subleaf(0xd, 1, 0x1f, 0);
	host_subleaf(0xd, 2, 256, 576);
	host_subleaf(0xd, 5, 64, 1088);
	host_subleaf(0xd, 6, 512, 1152);
	host_subleaf(0xd, 7, 1024, 1664);
	host_subleaf(0xd, 9, 8, 2688);
	host_subleaf(0xd, 17, 64, 2752);
	host_subleaf(0xd, 18, 8192, 2816);
}

static void
intel_host(void)
{
	host.count = 0;
	host_leaf(0, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69);
	host_leaf(1, 0x000806f8, 0x01234567, ALL, ALL);
	host_leaf(2, 0x00feff01, 0xf0, 0, 0);
	/* L1D, L1I, L2 of 2 threads, L3 of 64. */
	host_subleaf(4, 0, 0xfc004121, 0x02c0003f);
	host_subleaf(4, 1, 0xfc004122, 0x01c0003f);
	host_subleaf(4, 2, 0xfc004143, 0x03c0003f);
	host_subleaf(4, 3, 0xfc0fc163, 0x0380003f);
	host_subleaf(4, 4, 0, 0);
	host_leaf(5, ALL, ALL, ALL, ALL);
	host_leaf(6, ALL, ALL, ALL, ALL);
	host_subleaf(7, 0, 2, ALL);
	host.leaf[host.count - 1].ecx = host.leaf[host.count - 1].edx = ALL;
	host_subleaf(7, 1, ALL, ALL);
	host_leaf(0xa, ALL, ALL, ALL, ALL);
	host_subleaf(0xb, 0, 1, 2);
	host_xsave();
	host_subleaf(0xf, 0, ALL, ALL);
	host_subleaf(0x10, 0, ALL, ALL);
	host_subleaf(0x12, 0, ALL, ALL);
	host_subleaf(0x14, 0, ALL, ALL);
	host_leaf(0x15, 2, 200, 25000000, 0);
	host_leaf(0x16, 2600, 3800, 100, 0);
	host_leaf(0x1f, ALL, ALL, ALL, ALL);
	host_leaf(0x40000000, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	host_leaf(0x40000001, ALL, 0, 0, 0);
	host_leaf(0x80000000, 0x80000008, 0, 0, 0);
	host_leaf(0x80000001, 0, 0, ALL, ALL);
	host_leaf(0x80000002, 0x65746e49, 0x2952286c, 1, 2);
	host_leaf(0x80000006, 0, 0, 0x08007040, 0);
	host_leaf(0x80000007, ALL, ALL, ALL, ALL);
	host_leaf(0x80000008, 0x3934, ALL, ALL, ALL);
}

static void
amd_host(void)
{
	host.count = 0;
	host_leaf(0, 0x10, 0x68747541, 0x444d4163, 0x69746e65);
	host_leaf(1, 0x00b00f21, 0x01234567, ALL, ALL);
	host_subleaf(7, 0, 1, ALL);
	host_subleaf(0xb, 0, 1, 2);
	host_xsave();
	host_leaf(0x80000000, 0x80000026, 0x68747541, 0x444d4163, 0x69746e65);
	host_leaf(0x80000001, 0x00b00f21, 0x40000000, ALL, ALL);
	host_leaf(0x80000007, ALL, ALL, ALL, ALL);
	host_leaf(0x80000008, 0x3030, ALL, ALL, ALL);
	host_leaf(0x8000000a, ALL, ALL, ALL, ALL);
	host_leaf(0x8000001a, 6, 0, 0, 0);
	host_leaf(0x8000001b, ALL, ALL, ALL, ALL);
	host_subleaf(0x8000001d, 0, 0x00004121, 0x02c0003f);
	host_subleaf(0x8000001d, 1, 0x00004122, 0x01c0003f);
	host_subleaf(0x8000001d, 2, 0x00004143, 0x03c0003f);
	host_subleaf(0x8000001d, 3, 0x0001c163, 0x03c0003f);
	host_subleaf(0x8000001d, 4, 0, 0);
	host_leaf(0x8000001e, ALL, ALL, ALL, ALL);
	host_leaf(0x8000001f, ALL, ALL, ALL, ALL);
	host_leaf(0x80000021, ALL, ALL, ALL, ALL);
}

static void
make_guest(unsigned vcpu, unsigned cores, unsigned threads, bool x2apic)
{
	const struct cpuid_params params = { vcpu, cores, threads, x2apic };

	cpuid_guest(&host, &params, &guest);
}

static struct cpuid_leaf
leaf(uint32_t number, uint32_t subleaf)
{
	return cpuid_read(&guest, number, subleaf);
}

static void
check(uint32_t number, uint32_t subleaf, uint32_t eax, uint32_t ebx,
    uint32_t ecx, uint32_t edx)
{
	struct cpuid_leaf l = leaf(number, subleaf);

	assert_int_equal(l.eax, eax);
	assert_int_equal(l.ebx, ebx);
	assert_int_equal(l.ecx, ecx);
	assert_int_equal(l.edx, edx);
}

static void
features_are_edited(void **state)
{
	intel_host();
	make_guest(5, 4, 2, false);
	/* APIC id 5, 8 logical processors; 4567 are the host's. */
	check(1, 0, 0x000806f8, 0x05084567,
	    ALL &
		~(uint32_t)(BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) |
		    BIT(7) | BIT(8) | BIT(11) | BIT(14) | BIT(15) | BIT(18) |
		    BIT(21) | BIT(24) | BIT(27)),
	    ALL & ~(uint32_t)(BIT(21) | BIT(22) | BIT(29) | BIT(31)));
	make_guest(5, 4, 2, true);
	assert_true(leaf(1, 0).ecx & BIT(21));
	check(6, 0, 4, 0, 0, 0);
	check(7, 0, 0, 0xfd9f0fb9, 0x600, 0x400);
	check(7, 1, 0, 0, 0, 0);
	check(0x80000007, 0, 0, 0, 0, 0x100);
	check(0x80000008, 0, 0x3934, 0, 0, 0);
	assert_false(leaf(0x80000001, 0).ecx & (BIT(2) | BIT(19) | BIT(29)));
	assert_true(leaf(0x80000001, 0).edx & BIT(27)); /* RDTSCP */
	/* What a host lacks nobody adds, but for what the machine has. */
	host.leaf[1].ecx = host.leaf[1].edx = 0;
	make_guest(0, 1, 1, false);
	assert_int_equal(leaf(1, 0).ecx, BIT(31));
	assert_int_equal(leaf(1, 0).edx, BIT(7) | BIT(12) | BIT(14) | BIT(28));
}

static void
the_hypervisor_is_bhyve(void **state)
{
	intel_host();
	make_guest(0, 1, 1, false);
	assert_int_equal(leaf(0x40000000, 0).eax, 0x40000000);
	assert_memory_equal(&cpuid_find(&guest, 0x40000000, 0)->ebx,
	    "bhyve bhyve ", 12);
	/* KVM's own leaf is not there: its range ends before. */
	assert_null(cpuid_find(&guest, 0x40000001, 0));
	assert_int_equal(leaf(0x40000001, 0).eax, 0x40000000);
}

static void
unknown_leaves_are_hidden(void **state)
{
	static const uint32_t zero[] = { 5, 0xa, 0xf, 0x10, 0x12, 0x14, 0x15,
		0x16 };

	intel_host();
	make_guest(0, 2, 1, false);
	for (size_t i = 0; i < ARRAY_SIZE(zero); i++)
		check(zero[i], 0, 0, 0, 0, 0);
	assert_int_equal(leaf(0, 0).eax, 0x16);
	check(0x1f, 0, 0, 0, 0, 0); /* beyond: as 0x16 */
	amd_host();
	make_guest(0, 2, 1, false);
	check(0x8000000a, 0, 0, 0, 0, 0);
	check(0x8000001b, 0, 0, 0, 0, 0);
	assert_int_equal(leaf(0x80000000, 0).eax, 0x8000001e);
	assert_null(cpuid_find(&guest, 0x8000001f, 0));
	assert_null(cpuid_find(&guest, 0x80000021, 0));
}

static void
intel_topology_is_the_one_asked_for(void **state)
{
	intel_host();
	make_guest(3, 3, 2, false); /* 3 cores of 2 threads a socket */
	check(0xb, 0, 1, 2, 0x100, 3);
	check(0xb, 1, 3, 6, 0x201, 3);
	check(0xb, 2, 0, 0, 2, 3);
	/* Cores 3: 2 << 26; caches shared by 2 threads or by all 6. */
	check(4, 0, 0x121 | 1 << 14 | 2 << 26, 0x02c0003f, 0, 0);
	check(4, 2, 0x143 | 1 << 14 | 2 << 26, 0x03c0003f, 0, 0);
	check(4, 3, 0x163 | 5 << 14 | 2 << 26, 0x0380003f, 0, 0);
	check(4, 4, 0, 0, 0, 0);
	make_guest(0, 1, 1, false);
	check(0xb, 0, 0, 1, 0x100, 0);
	check(0xb, 1, 0, 1, 0x201, 0);
	check(4, 0, 0x121, 0x02c0003f, 0, 0);
}

static void
amd_topology_is_the_one_asked_for(void **state)
{
	amd_host();
	make_guest(5, 4, 2, false);
	check(0xb, 0, 0, 0, 0, 0);
	check(0x80000008, 0, 0x3030, 7, 3 << 12 | 7, 0);
	check(0x8000001d, 0, 0x121 | 1 << 14, 0x02c0003f, 0, 0);
	check(0x8000001d, 3, 0x163 | 7 << 14, 0x03c0003f, 0, 0);
	check(0x8000001d, 4, 0, 0, 0, 0);
	check(0x8000001e, 0, 5, 1 << 8 | 2, 0, 0);
	assert_true(leaf(0x80000001, 0).ecx & BIT(1));  /* CmpLegacy */
	assert_true(leaf(0x80000001, 0).ecx & BIT(22)); /* TopologyExt */
	check(4, 0, 0, 0, 0, 0);
	/* Topology leaves that the host lacks. */
	host.leaf[4 + 9].eax = 0x80000008;
	assert_int_equal(host.leaf[4 + 9].leaf, 0x80000000);
	make_guest(0, 4, 2, false);
	assert_false(leaf(0x80000001, 0).ecx & BIT(22));
}

static void
xsave_is_cut_to_what_a_guest_may_have(void **state)
{
	intel_host();
	make_guest(0, 1, 1, false);
	assert_int_equal(cpuid_xcr0(&guest), 0xe7);
	assert_int_equal(cpuid_xsave_size(&guest), 2688);
	check(0xd, 0, 0xe7, 2688, 2688, 0);
	check(0xd, 1, 1, 0, 0, 0);
	check(0xd, 2, 256, 576, 0, 0);
	check(0xd, 7, 1024, 1664, 0, 0);
	check(0xd, 9, 0, 0, 0, 0);
	check(0xd, 18, 0, 0, 0, 0);
	assert_int_equal(cpuid_xsave_size(&host), 11008);
	/* A host that does not let us use XSAVE. */
	host.leaf[1].ecx &= ~(uint32_t)BIT(26);
	make_guest(0, 1, 1, false);
	check(0xd, 0, 0, 0, 0, 0);
	check(0xd, 2, 0, 0, 0, 0);
	assert_false(leaf(1, 0).ecx & (BIT(26) | BIT(28)));
}

static void
reads_beyond_a_range_are_its_maximum(void **state)
{
	intel_host();
	make_guest(0, 1, 1, false);
	host_leaf(0x17, 1, 2, 3, 4);
	assert_int_equal(cpuid_read(&guest, 0x12345678, 0).eax,
	    cpuid_read(&guest, 0x16, 0).eax);
	assert_int_equal(cpuid_read(&guest, 0x80001234, 0).eax, 0x3934);
	assert_int_equal(cpuid_read(&guest, 0x4fffffff, 0).eax, 0x40000000);
}

static void
virtualization_is_seen(void **state)
{
	intel_host();
	assert_int_equal(cpuid_vendor(&host), CPUID_INTEL);
	assert_true(cpuid_has_virtualization(&host));
	make_guest(0, 1, 1, false);
	assert_false(cpuid_has_virtualization(&guest));
	amd_host();
	assert_int_equal(cpuid_vendor(&host), CPUID_AMD);
	assert_true(cpuid_has_virtualization(&host));
	make_guest(0, 1, 1, false);
	assert_false(cpuid_has_virtualization(&guest));
	assert_int_equal(cpuid_vendor(&guest), CPUID_AMD);
}

/* Also on what this very processor says. */
static void
the_host_can_be_asked(void **state)
{
	cpuid_host(&host);
	assert_true(host.count > 4 && host.count < CPUID_LEAVES_MAX);
	assert_true(leaf(0x80000001, 0).edx & BIT(29)); /* long mode */
	make_guest(0, 2, 2, false);
	assert_false(cpuid_has_virtualization(&guest));
	assert_true(cpuid_xsave_size(&guest) <= 2688);
	assert_in_range(leaf(0, 0).eax, 1, 0x16);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(features_are_edited),
		cmocka_unit_test(the_hypervisor_is_bhyve),
		cmocka_unit_test(unknown_leaves_are_hidden),
		cmocka_unit_test(intel_topology_is_the_one_asked_for),
		cmocka_unit_test(amd_topology_is_the_one_asked_for),
		cmocka_unit_test(xsave_is_cut_to_what_a_guest_may_have),
		cmocka_unit_test(reads_beyond_a_range_are_its_maximum),
		cmocka_unit_test(virtualization_is_seen),
		cmocka_unit_test(the_host_can_be_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
