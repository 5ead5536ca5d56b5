/*
 * INTx and MSI through "dummy" functions: who shares what, where it arrives,
 * and what the guest can change about it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "pci/pci.h"
#include "test/bench.h"
#include "vm/platform.h"

#define CFG(slot, func, off) \
	(PLAT_ECAM_BASE + ((slot) << 15) + ((func) << 12) + (off))
#define LPC(off) CFG(31, 0, off)
#define INTX_DISABLE 0x400
#define STATUS_INTX 0x08
#define APIC 0xfee03000u

static const char *const options[] = {
	"pci.0.3.0.device=dummy",
	"pci.0.5.0.device=dummy",
	"pci.0.5.1.device=dummy",
	"pci.0.5.2.device=dummy",
	"pci.0.5.3.device=dummy",
	"pci.0.5.4.device=dummy",
	"pci.0.5.5.device=dummy",
	"pci.0.31.0.device=lpc",
	NULL,
};

/* Pin, I/O APIC pin and ISA IRQ after a reset. */
static const struct place {
	uint8_t slot, func, pin, gsi, link, irq;
} places[] = {
	{ 3, 0, 1, 16, 0, 5 },
	{ 5, 0, 1, 17, 1, 6 },
	{ 5, 1, 2, 18, 2, 7 },
	{ 5, 2, 3, 19, 3, 10 },
	{ 5, 3, 4, 20, 4, 11 },
	{ 5, 4, 1, 17, 1, 6 },
	{ 5, 5, 2, 18, 2, 7 },
};

static struct bench *
machine(void **state)
{
	struct bench *b = *state;
	struct err err = { "" };

	if (pci_create_devices(b->vm, &err) < 0)
		fail_msg("%s", err.msg);
	b->dev = device_find(b->vm, "dummy@0:5:0");
	return b;
}

static void
port_write(struct bench *b, const struct place *p, unsigned off, uint32_t value)
{
	uint64_t bar = bench_read(b, CFG(p->slot, p->func, 0x10), 4);

	bench_out32(b, (uint16_t)((bar & 0xfffc) + off), value);
}

static void
pull(struct bench *b, const struct place *p, bool level)
{
	port_write(b, p, 8, level);
}

static void
command(struct bench *b, const struct place *p, unsigned bits)
{
	bench_write(b, CFG(p->slot, p->func, 4), 2, bits);
}

static unsigned
cap(struct bench *b, const struct place *p, unsigned id)
{
	unsigned off = (unsigned)bench_read(b, CFG(p->slot, p->func, 0x34), 1);

	while (off != 0 && bench_read(b, CFG(p->slot, p->func, off), 1) != id)
		off =
		    (unsigned)bench_read(b, CFG(p->slot, p->func, off + 1), 1);
	assert_int_not_equal(off, 0);
	return off;
}

static bool
status_intx(struct bench *b, const struct place *p)
{
	uint64_t gpa = CFG(p->slot, p->func, 4);
	bool set = bench_read(b, gpa + 2, 1) & STATUS_INTX;

	assert_int_equal(bench_read(b, gpa + 2, 2) & STATUS_INTX,
	    set ? STATUS_INTX : 0);
	assert_int_equal(bench_read(b, gpa, 4) >> 16 & STATUS_INTX,
	    set ? STATUS_INTX : 0);
	return set;
}

static void
pins_and_lines_are_handed_out(void **state)
{
	struct bench *b = machine(state);

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const struct place *p = &places[i];
		const struct pci_func *func =
		    pci_find(b->vm, (struct pci_addr) { 0, p->slot, p->func });

		assert_int_equal(bench_read(b, CFG(p->slot, p->func, 0x3c), 2),
		    p->pin << 8 | p->irq);
		assert_int_equal(func->intx.pin, p->pin);
		assert_int_equal(func->intx.gsi, p->gsi);
		assert_int_equal(func->intx.link, p->link);
		assert_int_equal(bench_trigger(b, p->irq), IRQ_LEVEL);
		assert_false(bench_line(b, p->gsi));
		pull(b, p, true);
		assert_true(bench_line(b, p->gsi));
		assert_true(bench_line(b, p->irq));
		assert_true(status_intx(b, p));
		pull(b, p, false);
		assert_false(bench_line(b, p->gsi));
		assert_false(bench_line(b, p->irq));
		assert_false(status_intx(b, p));
	}
	assert_int_equal(bench_read(b, LPC(0x60), 4), 0x0a070605);
	assert_int_equal(bench_read(b, LPC(0x68), 4), 0x8080800b);
	assert_int_equal(bench_trigger(b, 14), IRQ_EDGE);
	/* A pin is fixed, the line is the guest's note to itself. */
	bench_write(b, CFG(3, 0, 0x3c), 4, 0xffffffff);
	assert_int_equal(bench_read(b, CFG(3, 0, 0x3c), 4), 0x1ff);
}

static void
shared_lines_are_counted(void **state)
{
	const struct place *first = &places[1], *second = &places[5];
	struct bench *b = machine(state);

	(void)bench_irqs(b, 17);
	(void)bench_irqs(b, 6);
	pull(b, first, true);
	pull(b, second, true);
	pull(b, first, false);
	assert_true(bench_line(b, 17));
	assert_true(bench_line(b, 6));
	assert_false(status_intx(b, first));
	assert_true(status_intx(b, second));
	pull(b, second, false);
	assert_false(bench_line(b, 17));
	assert_false(bench_line(b, 6));
	assert_int_equal(bench_irqs(b, 17), 1);
	assert_int_equal(bench_irqs(b, 6), 1);
}

static void
the_guest_lets_go_of_a_pin(void **state)
{
	const struct place *p = &places[0];
	struct bench *b = machine(state);

	pull(b, p, true);
	command(b, p, 3 | INTX_DISABLE);
	assert_false(bench_line(b, 16));
	assert_false(bench_line(b, 5));
	/* What the device wants can be seen all the same. */
	assert_true(status_intx(b, p));
	bench_round_trip(b);
	command(b, p, 3);
	assert_true(bench_line(b, 16));
	assert_true(bench_line(b, 5));
	/* Messages take its place. */
	bench_write(b, CFG(3, 0, cap(b, p, 0x11) + 2), 2, 0x8000);
	assert_false(bench_line(b, 16));
	bench_write(b, CFG(3, 0, cap(b, p, 0x11) + 2), 2, 0);
	assert_true(bench_line(b, 16));
	bench_write(b, CFG(3, 0, cap(b, p, 0x05) + 2), 2, 1);
	assert_false(bench_line(b, 16));
	assert_false(bench_line(b, 5));
	bench_write(b, CFG(3, 0, cap(b, p, 0x05) + 2), 2, 0);
	assert_true(bench_line(b, 5));
	/* The status bit is not the guest's. */
	bench_write(b, CFG(3, 0, 4), 4, 0xffff0003);
	assert_true(status_intx(b, p));
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_false(status_intx(b, p));
	assert_false(bench_line(b, 16));
	assert_false(bench_line(b, 5));
}

static void
links_move_between_irqs(void **state)
{
	const struct place *p = &places[0];
	struct bench *b = machine(state);

	pull(b, p, true);
	assert_true(bench_line(b, 5));
	bench_write(b, LPC(0x60), 1, 14);
	assert_false(bench_line(b, 5));
	assert_true(bench_line(b, 14));
	assert_int_equal(bench_trigger(b, 14), IRQ_LEVEL);
	assert_int_equal(bench_trigger(b, 5), IRQ_EDGE);
	/* None: by the bit, and by IRQs that PCI may not use. */
	for (unsigned reg = 0; reg <= 0xff; reg++) {
		unsigned irq = reg & 0xf;
		bool legal = !(reg & 0x80) && (0xdef8 & BIT(irq));

		bench_write(b, LPC(0x60), 1, reg);
		assert_int_equal(bench_read(b, LPC(0x60), 1), reg & 0x8f);
		for (unsigned line = 3; line < 16; line++) {
			assert_int_equal(bench_line(b, line),
			    legal && line == irq);
		}
	}
	/* The I/O APIC's pin knows nothing of links. */
	assert_true(bench_line(b, 16));
	/* Two links on one IRQ, all four registers at once. */
	bench_write(b, LPC(0x60), 4, 0x0f0f0f0f);
	assert_true(bench_line(b, 15));
	pull(b, &places[2], true);
	pull(b, p, false);
	assert_true(bench_line(b, 15));
	bench_write(b, LPC(0x62), 1, 0x80);
	assert_false(bench_line(b, 15));
	assert_int_equal(bench_trigger(b, 15), IRQ_LEVEL);
	bench_round_trip(b);
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_int_equal(bench_read(b, LPC(0x60), 4), 0x0a070605);
	assert_int_equal(bench_trigger(b, 15), IRQ_EDGE);
}

static void
the_sci_stays_a_level(void **state)
{
	struct bench *b = machine(state);

	(void)bench_add(b, "acpi_pm", NULL);
	bench_write(b, LPC(0x60), 1, 9);
	assert_int_equal(bench_trigger(b, 9), IRQ_LEVEL);
	bench_write(b, LPC(0x60), 1, 0x80);
	assert_int_equal(bench_trigger(b, 9), IRQ_LEVEL);
}

/* A load is no edge, and forgets what was pulled before it. */
static void
levels_survive_a_load(void **state)
{
	struct bench *b = machine(state);
	struct buf low = { 0 }, high = { 0 };
	struct reader in;

	vm_save_devices(b->vm, &low);
	pull(b, &places[0], true);
	bench_write(b, LPC(0x60), 1, 10);
	vm_save_devices(b->vm, &high);
	(void)bench_irqs(b, 10);
	(void)bench_irqs(b, 5);
	(void)bench_irqs(b, 16);
	in = reader_make(high.data, high.len);
	assert_int_equal(vm_load_devices(b->vm, &in, NULL), 0);
	assert_true(bench_line(b, 10));
	assert_true(bench_line(b, 16));
	in = reader_make(low.data, low.len);
	assert_int_equal(vm_load_devices(b->vm, &in, NULL), 0);
	assert_false(bench_line(b, 10));
	assert_false(bench_line(b, 16));
	assert_false(status_intx(b, &places[0]));
	assert_int_equal(bench_irqs(b, 10), 0);
	assert_int_equal(bench_irqs(b, 5), 0);
	assert_int_equal(bench_irqs(b, 16), 0);
	/* And into the low machine the high state, which it was not saved in. */
	in = reader_make(high.data, high.len);
	assert_int_equal(vm_load_devices(b->vm, &in, NULL), 0);
	assert_true(bench_line(b, 10));
	assert_int_equal(bench_irqs(b, 10), 0);
	assert_int_equal(bench_irqs(b, 5), 0);
	pull(b, &places[0], false);
	assert_false(bench_line(b, 10));
	assert_false(bench_line(b, 16));
	buf_fini(&low);
	buf_fini(&high);
}

static void
firmware_finds_routes_by_slot_and_pin(void **state)
{
	static const char *const rom[] = { "lpc.bootrom=/rom",
		"pci.0.3.0.device=dummy", "pci.0.11.0.device=dummy",
		"pci.0.3.1.device=dummy", NULL };
	struct bench *b = bench_new("", rom);
	const struct pci_func *func;

	assert_int_equal(pci_create_devices(b->vm, NULL), 0);
	func = pci_find(b->vm, (struct pci_addr) { 0, 3, 0 });
	assert_int_equal(func->intx.gsi, 16);
	assert_int_equal(func->intx.link, 0);
	func = pci_find(b->vm, (struct pci_addr) { 0, 3, 1 });
	assert_int_equal(func->intx.gsi, 17);
	assert_int_equal(func->intx.link, 1);
	func = pci_find(b->vm, (struct pci_addr) { 0, 11, 0 });
	assert_int_equal(func->intx.gsi, 16);
	assert_int_equal(func->intx.link, 0);
	assert_int_equal(func->intx.pin, 1);
	bench_free(b);
}

static void
there_are_fewer_lines_than_pins(void **state)
{
	struct bench *b = bench_new("", NULL);
	char path[32];

	for (unsigned slot = 0; slot < 20; slot++) {
		(void)snprintf(path, sizeof(path), "pci.0.%u.0.device", slot);
		assert_int_equal(config_set(b->config, path, "dummy", NULL), 0);
	}
	assert_int_equal(pci_create_devices(b->vm, NULL), 0);
	for (unsigned slot = 0; slot < 20; slot++) {
		/* Seven IRQs are free to choose from; the last link shares. */
		static const uint8_t irqs[] = { 5, 6, 7, 10, 11, 14, 15, 5 };
		const struct pci_func *func =
		    pci_find(b->vm, (struct pci_addr) { 0, (uint8_t)slot, 0 });

		assert_int_equal(func->intx.gsi, 16 + slot % 16);
		assert_int_equal(func->intx.link, slot % 8);
		assert_int_equal(bench_read(b, CFG(slot, 0, 0x3c), 1),
		    irqs[slot % 8]);
	}
	bench_free(b);
}

/* ---- MSI ---------------------------------------------------------------- */

static void
msi_program(struct bench *b, const struct place *p, uint64_t addr,
    unsigned granted, bool on)
{
	uint64_t gpa = CFG(p->slot, p->func, cap(b, p, 0x05));

	bench_write(b, gpa + 4, 4, (uint32_t)addr);
	bench_write(b, gpa + 8, 4, addr >> 32);
	bench_write(b, gpa + 12, 2, 0x4153);
	bench_write(b, gpa + 2, 2, granted << 4 | on);
}

static void
msi_capability_has_64_bits(void **state)
{
	const struct place *p = &places[0];
	struct bench *b = machine(state);
	uint64_t gpa = CFG(3, 0, cap(b, p, 0x05));

	assert_int_equal(bench_read(b, gpa + 2, 2), 0x84);
	for (unsigned off = 0; off < 16; off += 4)
		bench_write(b, gpa + off, 4, 0xffffffff);
	assert_int_equal(bench_read(b, gpa + 2, 2), 0xf5);
	assert_int_equal(bench_read(b, gpa, 1), 5);
	assert_int_equal(bench_read(b, gpa + 4, 4), 0xfffffffc);
	assert_int_equal(bench_read(b, gpa + 8, 4), 0xffffffff);
	assert_int_equal(bench_read(b, gpa + 12, 4), 0xffff);
	bench_round_trip(b);
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_int_equal(bench_read(b, gpa + 2, 2), 0x84);
	assert_int_equal(bench_read(b, gpa + 4, 8), UINT64_MAX);
	assert_int_equal(bench_read(b, gpa + 4, 4), 0);
}

static void
messages_share_what_was_granted(void **state)
{
	/* What messages 0 to 4 become for each grant; there are four. */
	static const uint8_t low[8][5] = { { 0x53, 0x53, 0x53, 0x53, 0x53 },
		{ 0x52, 0x53, 0x52, 0x53, 0x52 },
		{ 0x50, 0x51, 0x52, 0x53, 0x50 },
		{ 0x50, 0x51, 0x52, 0x53, 0x50 },
		{ 0x50, 0x51, 0x52, 0x53, 0x50 },
		{ 0x50, 0x51, 0x52, 0x53, 0x50 },
		{ 0x50, 0x51, 0x52, 0x53, 0x50 },
		{ 0x50, 0x51, 0x52, 0x53, 0x50 } };
	const struct place *p = &places[0];
	struct bench *b = machine(state);

	port_write(b, p, 4, 1);
	msi_program(b, p, APIC, 2, false);
	port_write(b, p, 4, 1);
	assert_int_equal(b->msi_count, 0);
	for (unsigned granted = 0; granted < 8; granted++) {
		msi_program(b, p, APIC, granted, true);
		for (unsigned n = 0; n < 5; n++) {
			port_write(b, p, 4, n);
			assert_int_equal(b->msi_count, 1);
			assert_int_equal(b->msi[0].addr, APIC);
			assert_int_equal(b->msi[0].data,
			    0x4100 + low[granted][n]);
			b->msi_count = 0;
		}
	}
	/* Not to a processor. */
	msi_program(b, p, 0x1fee00000, 0, true);
	port_write(b, p, 4, 0);
	msi_program(b, p, 0, 0, true);
	port_write(b, p, 4, 0);
	assert_int_equal(b->msi_count, 0);
}

static void
msi_overrules_msix(void **state)
{
	const struct place *p = &places[0];
	struct bench *b = machine(state);
	struct pci_func *func = pci_find(b->vm, (struct pci_addr) { 0, 3, 0 });
	uint64_t msix = CFG(3, 0, cap(b, p, 0x11) + 2);
	uint64_t table = bench_read(b, CFG(3, 0, 0x20), 4);

	bench_write(b, table + 16, 8, APIC);
	bench_write(b, table + 24, 8, 0x77);
	bench_write(b, msix, 2, 0x8000);
	assert_true(pci_msix_enabled(func));
	msi_program(b, p, APIC, 0, true);
	assert_true(pci_msi_enabled(func));
	assert_false(pci_msix_enabled(func));
	port_write(b, p, 4, 1);
	assert_int_equal(b->msi_count, 1);
	assert_int_equal(b->msi[0].data, 0x4153);
	msi_program(b, p, APIC, 0, false);
	assert_true(pci_msix_enabled(func));
	port_write(b, p, 4, 1);
	assert_int_equal(b->msi_count, 2);
	assert_int_equal(b->msi[1].data, 0x77);
}

/* ---- all at once -------------------------------------------------------- */

/* A back end pulls and sends while the guest turns everything off and on. */
static void *
sending_backend(void *arg)
{
	struct bench *b = arg;
	struct pci_func *func = pci_find(b->vm, (struct pci_addr) { 0, 5, 0 });

	for (unsigned i = 0; i < 5000; i++) {
		pci_intx_set(func, i & 1);
		pci_msi_send(func, i % 4);
	}
	return NULL;
}

static void
any_thread_may_pull(void **state)
{
	const struct place *p = &places[1];
	struct bench *b = machine(state);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, sending_backend, b), 0);
	for (unsigned i = 0; i < 2000; i++) {
		command(b, p, i & 2 ? INTX_DISABLE : 0);
		msi_program(b, p, APIC, 0, i % 3 == 0);
		bench_write(b, LPC(0x61), 1, i & 0x8f);
		(void)bench_read(b, CFG(p->slot, p->func, 4), 4);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	command(b, p, 0);
	msi_program(b, p, APIC, 0, false);
	bench_write(b, LPC(0x61), 1, 6);
	assert_true(bench_line(b, 6));
	assert_true(bench_line(b, 17));
	pci_intx_set(pci_find(b->vm, (struct pci_addr) { 0, 5, 0 }), false);
	assert_false(bench_line(b, 6));
	assert_false(bench_line(b, 17));
}

static void
hammered_in_every_width(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_MMIO, CFG(5, 0, 0), 0x6000 },
		{ BUS_MMIO, CFG(5, 1, 0), 0x100 },
		{ BUS_MMIO, LPC(0x60), 0x0c },
		{ BUS_PORT, 0x2000, 0x70 },
		{ BUS_MMIO, PLAT_PCI_MEM32_BASE, 0x1c000 },
		{ BUS_PORT, 0x20, 2 },
		{ BUS_PORT, 0x4d0, 2 },
	};
	struct bench *b = machine(state);

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 20000, 0x127);
	assert_int_equal(bench_read(b, CFG(5, 0, 0), 4), 0x000110dd);
}

BENCH_MAIN_OPTIONS("", options, BENCH_TEST(pins_and_lines_are_handed_out),
    BENCH_TEST(shared_lines_are_counted),
    BENCH_TEST(the_guest_lets_go_of_a_pin), BENCH_TEST(links_move_between_irqs),
    BENCH_TEST(the_sci_stays_a_level), BENCH_TEST(levels_survive_a_load),
    BENCH_TEST(firmware_finds_routes_by_slot_and_pin),
    BENCH_TEST(there_are_fewer_lines_than_pins),
    BENCH_TEST(msi_capability_has_64_bits),
    BENCH_TEST(messages_share_what_was_granted), BENCH_TEST(msi_overrules_msix),
    BENCH_TEST(any_thread_may_pull), BENCH_TEST(hammered_in_every_width))
