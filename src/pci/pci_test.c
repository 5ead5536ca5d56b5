/*
 * Configuration space through both mechanisms, and the making of functions.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "pci/pci.h"
#include "test/bench.h"
#include "vm/bus.h"
#include "vm/platform.h"

#define ECAM(bus, slot, func, off)                                   \
	(PLAT_ECAM_BASE + ((uint64_t)(bus) << 20) + ((slot) << 15) + \
	    ((func) << 12) + (off))
#define STATUS_CAP_LIST 0x00100000u

static const char *const options[] = {
	"pci.0.0.0.device=hostbridge",
	"pci.0.3.0.device=hostbridge",
	"pci.0.3.0.model=q35",
	"pci.0.3.1.device=hostbridge",
	"pci.0.3.1.model=amd",
	"pci.255.31.0.device=hostbridge",
	"pci.255.31.0.vendor=0xabcd",
	"pci.255.31.0.devid=0x1234",
	"pci.255.31.0.pcireg.revid=0x42",
	"pci.255.31.0.pcireg.subvendor=0x5678",
	"pci.enable_bars=false",
	NULL,
};

static const struct place {
	uint8_t bus, slot, func;
	uint32_t id;
	uint8_t header;
} places[] = {
	{ 0, 0, 0, 0x12751275, 0x00 },
	{ 0, 3, 0, 0x29b08086, 0x80 },
	{ 0, 3, 1, 0x74321022, 0x80 },
	{ 255, 31, 0, 0x1234abcd, 0x00 },
};

static struct bench *
machine(void **state)
{
	struct bench *b = *state;
	struct err err = { "" };

	if (pci_create_devices(b->vm, &err) < 0)
		fail_msg("%s", err.msg);
	b->dev = device_find(b->vm, "hostbridge@0:0:0");
	assert_non_null(b->dev);
	return b;
}

static void
point(struct bench *b, const struct place *p, unsigned off)
{
	bench_out32(b, 0xcf8,
	    0x80000000u | (uint32_t)p->bus << 16 | (uint32_t)p->slot << 11 |
		(uint32_t)p->func << 8 | (off & 0xfc));
}

static uint32_t
cfg_read(struct bench *b, const struct place *p, unsigned off, unsigned size)
{
	point(b, p, off);
	return (uint32_t)bus_read(vm_ports(b->vm), 0xcfc + off % 4, size);
}

static void
cfg_write(struct bench *b, const struct place *p, unsigned off, unsigned size,
    uint32_t value)
{
	point(b, p, off);
	bus_write(vm_ports(b->vm), 0xcfc + off % 4, size, value);
}

static void
functions_are_what_the_tree_says(void **state)
{
	struct bench *b = machine(state);

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		const struct place *p = &places[i];

		assert_int_equal(cfg_read(b, p, 0x00, 4), p->id);
		assert_int_equal(cfg_read(b, p, 0x04, 4), STATUS_CAP_LIST);
		assert_int_equal(cfg_read(b, p, 0x08, 4),
		    p->bus == 255 ? 0x06000042 : 0x06000000);
		assert_int_equal(cfg_read(b, p, 0x0e, 1), p->header);
		assert_int_equal(cfg_read(b, p, 0x2c, 4),
		    p->bus == 255 ? 0x5678 : 0);
		assert_int_equal(cfg_read(b, p, 0x3c, 4), 0xff);
	}
}

static void
every_width_of_both_mechanisms_agrees(void **state)
{
	struct bench *b = machine(state);

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		const struct place *p = &places[i];

		for (unsigned off = 0; off < PCI_CFG_SIZE; off++) {
			uint32_t word = cfg_read(b, p, off & 0xfc, 4);

			for (unsigned size = 1; size <= 4; size *= 2) {
				uint64_t gpa =
				    ECAM(p->bus, p->slot, p->func, off);
				uint32_t expect = (uint32_t)size_mask(size);

				if (off % size == 0)
					expect &= word >> (off % 4 * 8);
				assert_int_equal(bench_read(b, gpa, size),
				    expect);
				/* Across the end the ports go on with 0xd00. */
				if (off % 4 + size <= 4)
					assert_int_equal(cfg_read(b, p, off,
							     size),
					    expect);
			}
		}
		assert_true(bench_read(b, ECAM(p->bus, p->slot, p->func, 0),
				8) == UINT64_MAX);
	}
}

static void
extended_space_is_empty(void **state)
{
	struct bench *b = machine(state);

	for (unsigned off = 0x100; off < 0x1000; off += 4)
		assert_int_equal(bench_read(b, ECAM(0, 0, 0, off), 4),
		    off == 0x100 ? 0 : 0xffffffff);
	assert_int_equal(bench_read(b, ECAM(0, 0, 0, 0x102), 2), 0);
	assert_int_equal(bench_read(b, ECAM(0, 0, 0, 0x103), 1), 0);
	bench_write(b, ECAM(0, 0, 0, 0x100), 4, 0xffffffff);
	assert_int_equal(bench_read(b, ECAM(0, 0, 0, 0x100), 4), 0);
	/* Nor is there any behind a function that is not there. */
	assert_int_equal(bench_read(b, ECAM(0, 1, 0, 0x100), 4), 0xffffffff);
}

static void
absent_functions_read_ones(void **state)
{
	struct bench *b = machine(state);
	unsigned found = 0;

	for (unsigned n = 0; n < PCI_BUSES * PCI_SLOTS * PCI_FUNCS; n++) {
		struct place p = { .bus = (uint8_t)(n >> 8),
			.slot = (n >> 3) & 31,
			.func = n & 7 };
		uint32_t id = cfg_read(b, &p, 0, 4);

		assert_int_equal(id,
		    bench_read(b, ECAM(p.bus, p.slot, p.func, 0), 4));
		if (id != 0xffffffff)
			found++;
		else
			cfg_write(b, &p, 4, 4, 0);
	}
	assert_int_equal(found, ARRAY_SIZE(places));
	assert_null(pci_find(b->vm, (struct pci_addr) { 7, 7, 7 }));
}

static void
address_is_a_dword(void **state)
{
	struct bench *b = machine(state);

	bench_out32(b, 0xcf8, 0xffffffff);
	assert_int_equal(bench_in32(b, 0xcf8), 0x80fffffc);
	point(b, &places[0], 0);
	/* Narrow accesses are not the register's. */
	bench_out16(b, 0xcf8, 0x1234);
	bench_out8(b, 0xcf8, 0x12);
	bench_out8(b, 0xcfb, 0);
	assert_int_equal(bench_in32(b, 0xcf8), 0x80000000);
	assert_int_equal(bench_in16(b, 0xcf8), 0xffff);
	assert_int_equal(bench_in16(b, 0xcfa), 0xffff);
	assert_int_equal(bench_in8(b, 0xcf8), 0xff);
	assert_int_equal(bench_in8(b, 0xcfb), 0xff);
	/* Without the enable bit there is nothing behind it. */
	bench_out32(b, 0xcf8, 0x00000004);
	assert_int_equal(bench_in32(b, 0xcfc), 0xffffffff);
	bench_out32(b, 0xcfc, 0xffffffff);
	assert_int_equal(cfg_read(b, &places[0], 4, 4), STATUS_CAP_LIST);
}

static void
only_command_and_interrupt_line_change(void **state)
{
	static const uint32_t patterns[] = { 0xffffffff, 0, 0xa5a5a5a5 };
	struct bench *b = machine(state);
	const struct place *p = &places[1];

	for (unsigned i = 0; i < ARRAY_SIZE(patterns); i++) {
		for (unsigned size = 1; size <= 4; size *= 2) {
			for (unsigned off = 0; off < PCI_CFG_SIZE;
			     off += size) {
				uint32_t old = cfg_read(b, p, off & 0xfc, 4);
				uint32_t mask = (off & 0xfc) == 4 ? 0x077f :
				    (off & 0xfc) == 0x3c          ? 0xff :
								    0;

				mask &= (uint32_t)size_mask(size)
				    << (off % 4 * 8);
				cfg_write(b, p, off, size, patterns[i]);
				assert_int_equal(cfg_read(b, p, off & 0xfc, 4),
				    (old & ~mask) |
					((patterns[i] << (off % 4 * 8)) &
					    mask));
			}
		}
	}
	cfg_write(b, p, 4, 4, 0xffffffff);
	assert_int_equal(cfg_read(b, p, 4, 4), STATUS_CAP_LIST | 0x077f);
	/* The neighbour has not heard of it. */
	assert_int_equal(cfg_read(b, &places[2], 4, 4), STATUS_CAP_LIST);
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_int_equal(cfg_read(b, p, 4, 4), STATUS_CAP_LIST);
	assert_int_equal(cfg_read(b, p, 0x3c, 4), 0xff);
}

static void
root_port_capability_ends_the_list(void **state)
{
	struct bench *b = machine(state);

	assert_int_equal(cfg_read(b, &places[0], 0x34, 1), 0x40);
	assert_int_equal(cfg_read(b, &places[0], 0x40, 4), 0x00420010);
	assert_int_equal(cfg_read(b, &places[0], 0x4c, 4), 0x411);
	assert_int_equal(cfg_read(b, &places[0], 0x52, 2), 0x11);
}

static void
mid_activity_round_trips(void **state)
{
	struct bench *b = machine(state);

	srandom(1);
	for (unsigned i = 0; i < 100; i++) {
		for (unsigned j = 0; j < 10; j++)
			cfg_write(b, &places[random() % ARRAY_SIZE(places)],
			    (unsigned)random() & 0xfc, 4, (uint32_t)random());
		bench_round_trip(b);
	}
}

static void
forged_config_bytes_are_refused(void **state)
{
	struct bench *b = machine(state);
	struct pci_func *func = pci_find(b->vm, (struct pci_addr) { 0 });
	uint8_t bytes[PCI_CFG_SIZE];

	memcpy(bytes, func->cfg, sizeof(bytes));
	assert_int_equal(bench_load(b, bytes, sizeof(bytes)), 0);
	for (unsigned off = 0; off < PCI_CFG_SIZE; off++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			bytes[off] ^= (uint8_t)BIT(bit);
			assert_int_equal(bench_load(b, bytes, sizeof(bytes)),
			    func->writable[off] & BIT(bit) ? 0 : -EINVAL);
			bytes[off] ^= (uint8_t)BIT(bit);
		}
	}
	assert_int_equal(bench_load(b, bytes, sizeof(bytes) - 1), -EINVAL);

	b->dev = device_find(b->vm, "pci");
	memset(bytes, 0x80, 12);
	memcpy(bytes, "\xff\xff\xff\xff", 4);
	assert_int_equal(bench_load(b, bytes, 12), -EINVAL);
	memcpy(bytes, "\xfc\xff\xff\x80", 4);
	assert_int_equal(bench_load(b, bytes, 12), 0);
	/* CONFIG_ADDRESS, and the eight PIRQ registers. */
	bytes[11] = 0x90;
	assert_int_equal(bench_load(b, bytes, 12), -EINVAL);
	bytes[11] = 0x0f;
	assert_int_equal(bench_load(b, bytes, 12), 0);
	assert_int_equal(bench_in32(b, 0xcf8), 0x80fffffc);
}

/* One vCPU by mechanism 1, one through the window, into the same function. */
static void *
window_vcpu(void *arg)
{
	struct bench *b = arg;

	for (unsigned i = 0; i < 2000; i++) {
		bus_write(vm_mmio(b->vm), ECAM(0, 0, 0, 0x3c), 1, i & 0xff);
		(void)bus_read(vm_mmio(b->vm), ECAM(0, 0, 0, 4), 4);
	}
	return NULL;
}

static void
two_vcpus_do_not_race(void **state)
{
	struct bench *b = machine(state);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, window_vcpu, b), 0);
	for (unsigned i = 0; i < 2000; i++) {
		cfg_write(b, &places[0], 4, 2, i & 1 ? 0x77f : 0);
		(void)cfg_read(b, &places[0], 0x3c, 1);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(cfg_read(b, &places[0], 4, 2), 0x77f);
	assert_int_equal(cfg_read(b, &places[0], 0x3c, 1), 1999 & 0xff);
}

static void
hammered_in_every_width(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_PORT, 0xcf0, 0x18 },
		{ BUS_MMIO, ECAM(0, 0, 0, 0), 0x1000 },
		{ BUS_MMIO, ECAM(0, 2, 7, 0xf00), 0x3200 },
		{ BUS_MMIO, ECAM(255, 31, 7, 0xffc) - 0x7fff, 0x8010 },
	};
	struct bench *b = machine(state);

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 20000, 0x9c1);
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		assert_int_equal(cfg_read(b, &places[i], 0, 4), places[i].id);
}

/* What pci_create_devices() says of a tree. */
static const struct refusal {
	const char *options[4];
	const char *message;
} refusals[] = {
	{ { "pci.0.2.0.device=nosuch" },
	    "pci slot 0:2:0: unknown device \"nosuch\"" },
	{ { "pci.0.2.0.device=acpi_pm" },
	    "pci slot 0:2:0: unknown device \"acpi_pm\"" },
	{ { "pci.1.2.0.device=amd_hostbridge" },
	    "pci slot 1:2:0: legacy device \"amd_hostbridge\", use "
	    "\"hostbridge\" instead" },
	{ { "pci.0.2.0.path=x" }, "pci slot 0:2:0: missing \"device\" value" },
	{ { "pci.0.2.5.device=hostbridge" },
	    "pci slot 0:2:5: the slot has no function 0" },
	{ { "pci.0.0.0.device=hostbridge", "pci.0.0.0.model=vax" },
	    "pci.0.0.0: unknown model \"vax\"; known: netapp, amd, i440fx, "
	    "q35" },
	{ { "pci.0.0.0.device=hostbridge", "pci.0.0.0.vendor=1" },
	    "pci.0.0.0: vendor and devid need each other" },
	{ { "pci.0.0.0.device=hostbridge", "pci.0.0.0.devid=1",
	      "pci.0.0.0.model=amd" },
	    "pci.0.0.0: model and vendor or devid exclude each other" },
};

static void
wrong_trees_are_refused(void **state)
{
	static const char *const texts[] = { "pci.enable_bars=maybe",
		"pci.0.0.0.pcireg.vendor=0x10000" };
	struct err err;

	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct bench *b = bench_new("", refusals[i].options);

		assert_int_equal(pci_create_devices(b->vm, &err), -EINVAL);
		assert_string_equal(err.msg, refusals[i].message);
		bench_free(b);
	}
	/* Values: the words are config.c's, the key must be in them. */
	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		const char *const tree[] = { "pci.0.0.0.device=hostbridge",
			texts[i], NULL };
		struct bench *b = bench_new("", tree);

		assert_true(pci_create_devices(b->vm, &err) < 0);
		assert_non_null(strstr(err.msg,
		    i == 0 ? "pci.enable_bars" : "pci.0.0.0.pcireg.vendor"));
		bench_free(b);
	}
}

BENCH_MAIN_OPTIONS("", options, BENCH_TEST(functions_are_what_the_tree_says),
    BENCH_TEST(every_width_of_both_mechanisms_agrees),
    BENCH_TEST(extended_space_is_empty), BENCH_TEST(absent_functions_read_ones),
    BENCH_TEST(address_is_a_dword),
    BENCH_TEST(only_command_and_interrupt_line_change),
    BENCH_TEST(root_port_capability_ends_the_list),
    BENCH_TEST(mid_activity_round_trips),
    BENCH_TEST(forged_config_bytes_are_refused),
    BENCH_TEST(two_vcpus_do_not_race), BENCH_TEST(hammered_in_every_width),
    BENCH_TEST(wrong_trees_are_refused))
