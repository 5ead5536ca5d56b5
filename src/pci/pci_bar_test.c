/*
 * BARs: sizing, moving, overlaps, and where they are after a reset.
 *
 * The functions here have the BARs that their node's key `bars` asks for: one
 * letter a register, p for ports, m for 32-bit and q for 64-bit memory, with
 * the size in hexadecimal behind it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "pci/pci.h"
#include "test/bench.h"
#include "vm/platform.h"

#define CFG(slot, off) (PLAT_ECAM_BASE + ((slot) << 15) + (off))
#define BAR(n) (0x10u + 4 * (n))
#define ALL_ONES 0xffffffffu

struct probe {
	struct pci_func func;
	unsigned bar_changes;
};

static const struct field probe_state[] = {
	PCI_FUNC_STATE(struct probe, func),
};

/* Which function, and where in its BAR. */
static uint64_t
probe_read(void *self, uint64_t off, unsigned size)
{
	const struct probe *probe = self;

	return ((uint64_t)probe->func.addr.slot << 24 | (off & 0xffffff)) &
	    size_mask(size);
}

static void
probe_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
}

static const struct io_ops probe_ops = {
	.read = probe_read,
	.write = probe_write,
};

static void
probe_bar_changed(void *self, unsigned bar)
{
	struct probe *probe = self;

	probe->bar_changes++;
}

static int
probe_create(struct device *dev, void *self, struct err *err)
{
	static const struct pci_ids ids = { .vendor = 1, .device = 2 };
	const char *text = config_raw(device_config(dev), "bars");
	struct probe *probe = self;
	unsigned index = 0;
	int rc;

	rc = pci_func_init(&probe->func, dev, &ids, err);
	probe->func.bar_changed = probe_bar_changed;
	while (rc == 0 && *text != '\0') {
		char letter = *text++, *end;
		uint64_t size = strtoull(text, &end, 16);
		enum pci_bar_kind kind = letter == 'p' ? PCI_BAR_PORT :
		    letter == 'm'                      ? PCI_BAR_MEM32 :
							 PCI_BAR_MEM64;

		rc = pci_add_bar(&probe->func, index, kind, size, &probe_ops,
		    NULL, err);
		index += letter == 'q' ? 2 : 1;
		text = end;
	}
	return rc;
}

static void
probe_reset(void *self)
{
	struct probe *probe = self;

	pci_func_reset(&probe->func);
}

static void
probe_changed(void *self)
{
	struct probe *probe = self;

	pci_func_changed(&probe->func);
}

static int
probe_check(const void *self, struct err *err)
{
	const struct probe *probe = self;

	return pci_func_check(&probe->func, err);
}

static void
probe_destroy(void *self)
{
	struct probe *probe = self;

	pci_func_fini(&probe->func);
}

DEVICE_MODEL(probe) = {
	.name = "probe",
	.state_version = 1,
	.size = sizeof(struct probe),
	STATE_TABLE(probe_state),
	.pci_help = "for tests",
	.create = probe_create,
	.reset = probe_reset,
	.changed = probe_changed,
	.check = probe_check,
	.destroy = probe_destroy,
};

static const char *const options[] = {
	"pci.0.3.0.device=probe",
	"pci.0.3.0.bars=p5m1q1000m2000",
	"pci.0.4.0.device=probe",
	"pci.0.4.0.bars=q10000000p100m100000",
	"pci.0.5.0.device=probe",
	"pci.0.5.0.bars=m2000q20000000",
	NULL,
};

static struct bench *
machine(void **state)
{
	struct bench *b = *state;
	struct err err = { "" };

	if (pci_create_devices(b->vm, &err) < 0)
		fail_msg("%s", err.msg);
	b->dev = device_find(b->vm, "probe@0:3:0");
	return b;
}

static struct probe *
probe_of(struct bench *b, unsigned slot)
{
	struct pci_func *func =
	    pci_find(b->vm, (struct pci_addr) { 0, (uint8_t)slot, 0 });

	return (struct probe *)(void *)func;
}

static uint32_t
cfg(struct bench *b, unsigned slot, unsigned off)
{
	return (uint32_t)bench_read(b, CFG(slot, off), 4);
}

static void
cfg_set(struct bench *b, unsigned slot, unsigned off, uint32_t value)
{
	bench_write(b, CFG(slot, off), 4, value);
}

static uint32_t
sized(struct bench *b, unsigned slot, unsigned bar)
{
	uint32_t old = cfg(b, slot, BAR(bar)), size;

	cfg_set(b, slot, BAR(bar), ALL_ONES);
	size = cfg(b, slot, BAR(bar));
	cfg_set(b, slot, BAR(bar), old);
	assert_int_equal(cfg(b, slot, BAR(bar)), old);
	return size;
}

/* The number of the slot that answers; 0xff for nobody. */
static unsigned
who(struct bench *b, uint64_t gpa)
{
	return (unsigned)bench_read(b, gpa, 4) >> 24;
}

static void
sizes_are_powers_of_two(void **state)
{
	struct bench *b = machine(state);

	for (unsigned decoding = 0; decoding < 4; decoding++) {
		cfg_set(b, 3, 4, decoding);
		cfg_set(b, 4, 4, decoding);
		assert_int_equal(sized(b, 3, 0), 0xfff9);
		assert_int_equal(sized(b, 3, 1), 0xfffffff0);
		assert_int_equal(sized(b, 3, 2), 0xfffff004);
		assert_int_equal(sized(b, 3, 3), ALL_ONES);
		assert_int_equal(sized(b, 3, 4), 0xffffe000);
		assert_int_equal(sized(b, 3, 5), 0);
		assert_int_equal(sized(b, 4, 0), 0xf000000c);
		assert_int_equal(sized(b, 4, 1), ALL_ONES);
	}
	assert_int_equal(sized(b, 5, 1), 0xe000000c);
	/* Kind and place are where they were. */
	assert_int_equal(who(b, cfg(b, 3, BAR(4))), 3);
}

static void
every_bar_has_a_place_after_reset(void **state)
{
	struct bench *b = machine(state);
	struct pci_bus_windows w;
	uint64_t high;

	for (unsigned round = 0; round < 2; round++) {
		/* Ports from 0x2000, memory from 3 GiB, the largest first. */
		assert_int_equal(cfg(b, 4, BAR(2)), 0x2001);
		assert_int_equal(cfg(b, 3, BAR(0)), 0x2101);
		assert_int_equal(cfg(b, 4, BAR(3)), 0xc0000000);
		assert_int_equal(cfg(b, 3, BAR(4)), 0xc0100000);
		assert_int_equal(cfg(b, 5, BAR(0)), 0xc0102000);
		assert_int_equal(cfg(b, 3, BAR(2)), 0xc0104004);
		assert_int_equal(cfg(b, 3, BAR(3)), 0);
		assert_int_equal(cfg(b, 3, BAR(1)), 0xc0105000);
		/* Beyond 128 MiB above all RAM. */
		high = 8 * 4 * GIB;
		assert_int_equal(cfg(b, 5, BAR(1)), 0xc);
		assert_int_equal(cfg(b, 5, BAR(2)), high >> 32);
		assert_int_equal(cfg(b, 4, BAR(0)), 0x2000000c);
		assert_int_equal(cfg(b, 4, BAR(1)), high >> 32);
		assert_int_equal(cfg(b, 3, 4) & 0xffff, 3);
		assert_int_equal(cfg(b, 5, 4) & 0xffff, 2);
		assert_int_equal(who(b, 0xc0102000), 5);
		assert_int_equal(who(b, high + 0x20000000), 4);
		cfg_set(b, 3, BAR(0), ALL_ONES);
		cfg_set(b, 4, 4, 0);
		assert_int_equal(vm_reset(b->vm, NULL), 0);
	}
	pci_bus_windows(b->vm, 0, &w);
	assert_int_equal(w.io.base, PLAT_PCI_IO_BASE);
	assert_int_equal(w.io.len, PLAT_PCI_IO_END - PLAT_PCI_IO_BASE);
	assert_int_equal(w.mem32.base, PLAT_PCI_MEM32_BASE);
	assert_int_equal(w.mem32.len, PLAT_PCI_MEM32_END - PLAT_PCI_MEM32_BASE);
	assert_int_equal(w.mem64.base, high);
	assert_int_equal(w.mem64.len, GIB + 512 * MIB);
}

static void
the_command_register_decodes(void **state)
{
	struct bench *b = machine(state);

	for (unsigned command = 0; command < 8; command++) {
		cfg_set(b, 3, 4, command);
		assert_int_equal(bench_in32(b, 0x2100),
		    command & 1 ? 0x03000000 : ALL_ONES);
		assert_int_equal(who(b, 0xc0100000), command & 2 ? 3 : 0xff);
		assert_int_equal(who(b, 0xc0104000), command & 2 ? 3 : 0xff);
		assert_int_equal(pci_may_dma(&probe_of(b, 3)->func),
		    (command & 4) != 0);
	}
}

static void
enable_bars_may_be_off(void **state)
{
	static const char *const off[] = { "pci.0.3.0.device=probe",
		"pci.0.3.0.bars=p10m10", "pci.enable_bars=false", NULL };
	struct bench *b = bench_new("", off);

	assert_int_equal(pci_create_devices(b->vm, NULL), 0);
	assert_int_equal(cfg(b, 3, 4), 0);
	assert_int_equal(cfg(b, 3, BAR(0)), 0x2001);
	assert_int_equal(bench_in32(b, 0x2000), ALL_ONES);
	assert_int_equal(who(b, 0xc0000000), 0xff);
	bench_free(b);
}

static void
a_bar_moves_with_decoding_on(void **state)
{
	struct bench *b = machine(state);
	struct probe *probe = probe_of(b, 3);
	unsigned changes = probe->bar_changes;

	cfg_set(b, 3, BAR(4), 0xd0003ffc);
	assert_int_equal(cfg(b, 3, BAR(4)), 0xd0002000);
	assert_int_equal(who(b, 0xc0100000), 0xff);
	assert_int_equal(bench_read(b, 0xd0003ffc, 4), 0x03001ffc);
	assert_int_equal(who(b, 0xd0004000), 0xff);
	assert_int_equal(probe->bar_changes - changes, 1);
	/* The same again, and bits that are not its own, are no moves. */
	cfg_set(b, 3, BAR(4), 0xd0002fff);
	cfg_set(b, 3, 4, 0x107);
	assert_int_equal(probe->bar_changes - changes, 1);
	/* A byte at a time, it has been everywhere in between. */
	bench_write(b, CFG(3, BAR(4) + 3), 1, 0xd8);
	assert_int_equal(who(b, 0xd8002000), 3);
	bench_write(b, CFG(3, BAR(4)), 2, 0);
	assert_int_equal(who(b, 0xd8000000), 3);
	/* Off, it goes; and comes back where it was sent meanwhile. */
	cfg_set(b, 3, 4, 0);
	cfg_set(b, 3, BAR(4), 0xdf000000);
	assert_int_equal(who(b, 0xdf000000), 0xff);
	cfg_set(b, 3, 4, 2);
	assert_int_equal(who(b, 0xdf000000), 3);
	/* Ports */
	cfg_set(b, 3, 4, 3);
	cfg_set(b, 3, BAR(0), 0xffff3008);
	assert_int_equal(cfg(b, 3, BAR(0)), 0x3009);
	assert_int_equal(bench_in32(b, 0x300c), 0x03000004);
	assert_int_equal(bench_in32(b, 0x2100), ALL_ONES);
}

static void
halves_of_64_bits_move_by_themselves(void **state)
{
	struct bench *b = machine(state);

	cfg_set(b, 3, BAR(3), 0x12);
	assert_int_equal(who(b, 0x12c0104000), 3);
	assert_int_equal(who(b, 0xc0104000), 0xff);
	cfg_set(b, 3, BAR(2), 0x1000);
	assert_int_equal(who(b, 0x1200001000), 3);
	/* The last page of all addresses. */
	cfg_set(b, 3, BAR(2), ALL_ONES);
	cfg_set(b, 3, BAR(3), ALL_ONES);
	assert_int_equal(bench_read(b, UINT64_MAX - 3, 4), 0x03000ffc);
	cfg_set(b, 5, BAR(1), ALL_ONES);
	cfg_set(b, 5, BAR(2), ALL_ONES);
	assert_int_equal(who(b, UINT64_MAX - 0x1003), 5);
	/* Of two there the first answers. */
	assert_int_equal(who(b, UINT64_MAX - 3), 3);
	bench_round_trip(b);
}

static void
what_the_machine_has_comes_first(void **state)
{
	static const uint32_t places[] = { PLAT_IOAPIC_BASE, PLAT_HPET_BASE,
		(uint32_t)PLAT_ECAM_BASE, ALL_ONES, 0 };
	struct bench *b = machine(state);
	uint64_t ioapic, hpet;

	(void)bench_add(b, "hpet", NULL);
	ioapic = bench_read(b, PLAT_IOAPIC_BASE, 4);
	hpet = bench_read(b, PLAT_HPET_BASE, 4);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		cfg_set(b, 3, BAR(4), places[i]);
		cfg_set(b, 4, BAR(3), places[i]);
		cfg_set(b, 5, BAR(0), places[i]);
		assert_int_equal(bench_read(b, PLAT_IOAPIC_BASE, 4), ioapic);
		assert_int_equal(bench_read(b, PLAT_HPET_BASE, 4), hpet);
		assert_int_equal(cfg(b, 3, 0), 0x00020001);
	}
	/* Behind what is fixed there the BAR goes on. */
	cfg_set(b, 3, BAR(4), PLAT_HPET_BASE);
	assert_int_equal(bench_read(b, PLAT_HPET_BASE, 4), hpet);
	assert_int_equal(bench_read(b, PLAT_HPET_BASE + 0x1ffc, 4), 0x03001ffc);
	/* Over the ports of config space and over the 8259A. */
	cfg_set(b, 4, BAR(2), 0xc00);
	bench_out32(b, 0xcf8, 0x80001800);
	assert_int_equal(bench_in32(b, 0xcf8), 0x80001800);
	assert_int_equal(bench_in32(b, 0xcfc), 0x00020001);
	assert_int_equal(bench_in32(b, 0xcf0) >> 24, 4);
	cfg_set(b, 4, BAR(2), 0);
	assert_int_not_equal(bench_in32(b, 0x20), 0x04000020);
	bench_round_trip(b);
}

static void
bars_may_lie_over_each_other(void **state)
{
	struct bench *b = machine(state);

	cfg_set(b, 3, BAR(4), 0xd0000000);
	cfg_set(b, 5, BAR(0), 0xd0000000);
	assert_int_equal(who(b, 0xd0000000), 3);
	/* A larger one shows around it. */
	cfg_set(b, 4, BAR(3), 0xd0000000);
	assert_int_equal(bench_read(b, 0xd0002000, 4), 0x04002000);
	/* Whoever goes makes room. */
	cfg_set(b, 3, 4, 0);
	assert_int_equal(who(b, 0xd0000000), 5);
	cfg_set(b, 5, BAR(0), 0xd8000000);
	assert_int_equal(who(b, 0xd0000000), 4);
	/* Two BARs of one function. */
	cfg_set(b, 3, 4, 2);
	cfg_set(b, 3, BAR(2), 0xd8000000);
	cfg_set(b, 3, BAR(4), 0xd8000000);
	assert_int_equal(who(b, 0xd8000000), 5);
	cfg_set(b, 5, 4, 0);
	assert_int_equal(who(b, 0xd8001000), 3);
}

static void
loaded_bars_are_mapped(void **state)
{
	struct bench *b = machine(state);
	struct pci_func *func = &probe_of(b, 3)->func;
	uint8_t bytes[PCI_CFG_SIZE];

	memcpy(bytes, func->cfg, sizeof(bytes));
	bytes[BAR(4) + 3] = 0xd3;
	assert_int_equal(bench_load(b, bytes, sizeof(bytes)), 0);
	assert_int_equal(who(b, 0xd3100000), 3);
	assert_int_equal(who(b, 0xc0100000), 0xff);
	/* A kind or an alignment that no guest could have written. */
	bytes[BAR(4)] = 0x04;
	assert_int_equal(bench_load(b, bytes, sizeof(bytes)), -EINVAL);
	bytes[BAR(4)] = 0;
	bytes[BAR(0) + 2] = 1;
	assert_int_equal(bench_load(b, bytes, sizeof(bytes)), -EINVAL);
	assert_int_equal(who(b, 0xd3100000), 3);
	bench_round_trip(b);
}

static void
buses_have_windows_of_their_own(void **state)
{
	static const char *const two[] = { "pci.0.3.0.device=probe",
		"pci.0.3.0.bars=p10m1000", "pci.7.0.0.device=probe",
		"pci.7.0.0.bars=p4m10", NULL };
	struct bench *b = bench_new("", two);
	struct pci_bus_windows w;

	assert_int_equal(pci_create_devices(b->vm, NULL), 0);
	pci_bus_windows(b->vm, 0, &w);
	assert_int_equal(w.io.base, 0x2000);
	assert_int_equal(w.io.len, 0x40);
	assert_int_equal(w.mem32.base, 0xc0000000);
	assert_int_equal(w.mem32.len, 0x200000);
	assert_int_equal(w.mem64.len, 0);
	pci_bus_windows(b->vm, 7, &w);
	assert_int_equal(w.io.base, 0x2040);
	assert_int_equal(w.io.base + w.io.len, PLAT_PCI_IO_END);
	assert_int_equal(w.mem32.base, 0xc0200000);
	assert_int_equal(w.mem32.base + w.mem32.len, PLAT_PCI_MEM32_END);
	pci_bus_windows(b->vm, 1, &w);
	assert_int_equal(w.io.len, 0);
	bench_free(b);
}

static const struct {
	const char *bars;
	const char *message;
} refusals[] = {
	{ "p8001",
	    "probe@0:3:0: BAR 0: 0x8001 bytes are more than the 0x8000 of its "
	    "window" },
	{ "m10m20000001",
	    "probe@0:3:0: BAR 1: 0x20000001 bytes are more than the 0x20000000 "
	    "of its window" },
	{ "m10000000m10000000m10",
	    "probe@0:3:0: BAR 2: no room is left for 0x10 bytes" },
	{ "q800000000q10000000",
	    "probe@0:3:0: BAR 2: no room is left for 0x10000000 bytes" },
	{ "p4p8000p8000",
	    "probe@0:3:0: BAR 2: no room is left for 0x8000 bytes" },
};

static void
what_does_not_fit_is_refused(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct err err = { "" };
		struct bench *b = bench_new("", NULL);

		assert_int_equal(config_set(b->config, "pci.0.3.0.device",
				     "probe", NULL),
		    0);
		assert_int_equal(config_set(b->config, "pci.0.3.0.bars",
				     refusals[i].bars, NULL),
		    0);
		assert_true(pci_create_devices(b->vm, &err) < 0);
		assert_string_equal(err.msg, refusals[i].message);
		bench_free(b);
	}
}

/* One vCPU moves a BAR while another reads where it may be. */
static void *
reading_vcpu(void *arg)
{
	struct bench *b = arg;

	for (unsigned i = 0; i < 4000; i++) {
		uint64_t gpa = 0xd0000000 + (i & 3) * 0x2000;
		uint64_t value = bus_read(vm_mmio(b->vm), gpa, 4);

		assert_true(value == 0x03000000 || value == ALL_ONES);
	}
	return NULL;
}

static void
a_bar_moves_under_a_reader(void **state)
{
	struct bench *b = machine(state);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, reading_vcpu, b), 0);
	for (unsigned i = 0; i < 2000; i++) {
		bus_write(vm_mmio(b->vm), CFG(3, BAR(4)), 4,
		    0xd0000000 + (i & 3) * 0x2000);
		if (i % 16 == 0)
			bus_write(vm_mmio(b->vm), CFG(3, 4), 2, i & 32 ? 2 : 0);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void
hammered_in_every_width(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_MMIO, CFG(3, 0), 0x40 },
		{ BUS_MMIO, CFG(4, 0), 0x40 },
		{ BUS_MMIO, CFG(5, 0), 0x40 },
		{ BUS_MMIO, PLAT_PCI_MEM32_BASE, 0x200000 },
		{ BUS_PORT, 0x2000, 0x200 },
	};
	struct bench *b = machine(state);

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 20000, 0xba5);
	assert_int_equal(cfg(b, 5, 0), 0x00020001);
}

BENCH_MAIN_OPTIONS("", options, BENCH_TEST(sizes_are_powers_of_two),
    BENCH_TEST(every_bar_has_a_place_after_reset),
    BENCH_TEST(the_command_register_decodes),
    BENCH_TEST(enable_bars_may_be_off),
    BENCH_TEST(a_bar_moves_with_decoding_on),
    BENCH_TEST(halves_of_64_bits_move_by_themselves),
    BENCH_TEST(what_the_machine_has_comes_first),
    BENCH_TEST(bars_may_lie_over_each_other),
    BENCH_TEST(loaded_bars_are_mapped),
    BENCH_TEST(buses_have_windows_of_their_own),
    BENCH_TEST(what_does_not_fit_is_refused),
    BENCH_TEST(a_bar_moves_under_a_reader), BENCH_TEST(hammered_in_every_width))
