/*
 * virtio-rnd, and with it what all virtio devices share: the registers of both
 * interfaces, negotiation, interrupts, reset, state.
 */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/wire.h"
#include "test/virtio_driver.h"
#include "virtio/virtio.h"
#include "vm/bus.h"
#include "vm/platform.h"

#define READY 0x0f
#define NEEDS_RESET VIRTIO_STATUS_NEEDS_RESET
#define BUF VIRTIO_DATA

static const char *const options[] = { "bench.node=" VIRTIO_DRIVER_NODE, NULL };

static struct virtio_driver
driver(void **state)
{
	struct virtio_driver d;

	virtio_driver_init(&d, *state, 0);
	return d;
}

static uint32_t
cfg(struct virtio_driver *d, unsigned off, unsigned size)
{
	return (uint32_t)bench_read(d->b, d->cfg + off, size);
}

/* Ask for len bytes; how many came. */
static uint32_t
ask(struct virtio_driver *d, gpa_t gpa, uint32_t len)
{
	const struct virtio_part part = { gpa, len, true };
	uint32_t got;

	virtio_driver_offer(d, 0, &part, 1);
	virtio_driver_kick(d, 0);
	assert_true(virtio_driver_used(d, 0, NULL, &got));
	return got;
}

/* Of 16 random bytes two are 0 once in 550 times; half of them never are. */
static bool
has_entropy(struct virtio_driver *d, gpa_t gpa, unsigned len)
{
	unsigned zeros = 0;

	for (unsigned i = 0; i < len; i++)
		zeros += virtio_driver_peek(d, gpa + i, 1) == 0;
	return zeros < len / 2;
}

/* ---- entropy ------------------------------------------------------------- */

static void
buffers_are_filled(void **state)
{
	const struct virtio_part parts[] = {
		{ BUF, 4, false },
		{ BUF + 0x1000, 100, true },
		{ BUF + 0x2000, 200, true },
	};
	struct virtio_driver d = driver(state);
	uint32_t id, len;

	assert_int_equal(ask(&d, BUF, 256), 256);
	assert_true(has_entropy(&d, BUF, 256));
	assert_int_equal(d.b->msi_count, 1);
	assert_int_equal(d.b->msi[0].data, VIRTIO_MSI_DATA(1));
	virtio_driver_offer(&d, 0, parts, 3);
	virtio_driver_kick(&d, 0);
	assert_true(virtio_driver_used(&d, 0, &id, &len));
	assert_int_equal(len, 300);
	assert_true(has_entropy(&d, BUF + 0x1000, 100));
	assert_true(has_entropy(&d, BUF + 0x2000, 200));
	assert_false(virtio_driver_used(&d, 0, NULL, NULL));
	assert_int_equal(virtio_driver_status(&d), READY);
}

static void
a_request_has_a_limit(void **state)
{
	struct virtio_driver d = driver(state);

	assert_int_equal(ask(&d, BUF, 0x400000), 0x10000);
	assert_int_equal(virtio_driver_peek(&d, BUF + 0x10000, 8), 0);
}

static void
a_request_without_room_gets_nothing(void **state)
{
	const struct virtio_part part = { BUF, 16, false };
	struct virtio_driver d = driver(state);
	uint32_t len;

	virtio_driver_offer(&d, 0, &part, 1);
	virtio_driver_kick(&d, 0);
	assert_true(virtio_driver_used(&d, 0, NULL, &len));
	assert_int_equal(len, 0);
}

static void
one_interrupt_for_a_batch(void **state)
{
	const struct virtio_part part = { BUF, 16, true };
	struct virtio_driver d = driver(state);

	for (unsigned i = 0; i < 64; i++)
		virtio_driver_offer(&d, 0, &part, 1);
	virtio_driver_kick(&d, 0);
	for (unsigned i = 0; i < 64; i++)
		assert_true(virtio_driver_used(&d, 0, NULL, NULL));
	assert_int_equal(d.b->msi_count, 1);
}

/* ---- identification ------------------------------------------------------ */

static void
ids_are_transitional(void **state)
{
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	assert_int_equal(cfg(&d, 0, 4), 0x10051af4);
	assert_int_equal(cfg(&d, 8, 4), 0x10000000);
	assert_int_equal(cfg(&d, 0x2c, 4), 0x00041af4);
	assert_int_not_equal(d.common, 0);
	assert_int_not_equal(d.notify, 0);
	assert_int_not_equal(d.isr, 0);
	assert_int_equal(d.device, 0); /* it has no configuration */
	assert_int_not_equal(d.cap_pci, 0);
	assert_int_not_equal(d.msix_cap, 0);
	assert_int_not_equal(d.ports, 0);
	assert_int_equal(virtio_driver_get(&d, VC_NUM_QUEUES, 2), 1);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_SIZE, 2), 64);
	assert_true(virtio_driver_offered(&d) ==
	    (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 |
		VIRTIO_F_RING_PACKED));
	virtio_driver_put(&d, VC_DEVICE_SELECT, 4, 2);
	assert_int_equal(virtio_driver_get(&d, VC_DEVICE_FEATURE, 4), 0);
}

static void
interfaces_can_be_left_out(void **state)
{
	static const char *const modern[] = { "bench.node=" VIRTIO_DRIVER_NODE,
		"virtio.legacy=false", "virtio.packed=false",
		"virtio_msix=false", NULL };
	static const char *const legacy[] = { "bench.node=" VIRTIO_DRIVER_NODE,
		"virtio.modern=false", NULL };
	struct bench *b = bench_new("virtio-rnd", modern);
	struct virtio_driver d;

	virtio_driver_find(&d, b);
	assert_int_equal(cfg(&d, 0, 4), 0x10441af4);
	assert_int_equal(cfg(&d, 8, 1), 1);
	assert_int_equal(cfg(&d, 0x2e, 2), 0x1044);
	assert_int_equal(d.ports, 0);
	assert_int_equal(d.msix_cap, 0);
	assert_false(virtio_driver_offered(&d) & VIRTIO_F_RING_PACKED);
	virtio_driver_init(&d, b, 0);
	virtio_driver_put(&d, VC_CONFIG_VECTOR, 2, 0);
	assert_int_equal(virtio_driver_get(&d, VC_CONFIG_VECTOR, 2), 0xffff);
	assert_int_equal(ask(&d, BUF, 16), 16);
	assert_int_equal(b->msi_count, 0);
	bench_round_trip(b);
	bench_free(b);

	b = bench_new("virtio-rnd", legacy);
	virtio_driver_find(&d, b);
	assert_int_equal(cfg(&d, 0, 4), 0x10051af4);
	assert_int_equal(d.common, 0);
	assert_int_equal(d.cap_pci, 0);
	assert_int_not_equal(d.ports, 0);
	bench_free(b);
}

static void
one_interface_must_be_left(void **state)
{
	struct bench *b = *state;
	struct config *node;
	struct device *dev;
	struct err err;

	assert_int_equal(config_set(b->config, "virtio.modern", "off", NULL),
	    0);
	assert_int_equal(config_set(b->config, "virtio.legacy", "off", NULL),
	    0);
	assert_int_equal(config_make(b->config, "pci.0.4.0", &node, NULL), 0);
	assert_int_equal(device_new(b->vm, "virtio-rnd", "other", node, &dev,
			     &err),
	    -EINVAL);
	assert_non_null(strstr(err.msg, "virtio.modern"));
}

static void
unknown_options_are_refused(void **state)
{
	struct bench *b = *state;
	struct config *node;
	struct device *dev;
	struct err err;

	assert_int_equal(config_set(b->config, "pci.0.4.0.fast", "1", NULL), 0);
	node = config_find(b->config, "pci.0.4.0");
	assert_int_equal(device_new(b->vm, "virtio-rnd", "other", node, &dev,
			     &err),
	    -EINVAL);
}

/* ---- negotiation --------------------------------------------------------- */

/* Up to FEATURES_OK, with these features as written. */
static bool
agreed(struct virtio_driver *d, uint64_t features)
{
	virtio_driver_set_status(d, 0);
	virtio_driver_set_status(d, 3);
	for (unsigned half = 0; half < 2; half++) {
		virtio_driver_put(d, VC_DRIVER_SELECT, 4, half);
		virtio_driver_put(d, VC_DRIVER_FEATURE, 4,
		    (uint32_t)(features >> (32 * half)));
	}
	virtio_driver_set_status(d, 0x0b);
	return virtio_driver_status(d) == 0x0b;
}

static void
only_offered_features_are_agreed(void **state)
{
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	assert_true(agreed(&d, VIRTIO_F_VERSION_1));
	assert_false(agreed(&d, 0));
	assert_false(agreed(&d, VIRTIO_F_EVENT_IDX));
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t features = VIRTIO_F_VERSION_1 | BIT(bit);

		assert_int_equal(agreed(&d, features),
		    (features & ~virtio_driver_offered(&d)) == 0);
	}
	/* A third word of them is nowhere. */
	virtio_driver_set_status(&d, 0);
	virtio_driver_put(&d, VC_DRIVER_SELECT, 4, 2);
	virtio_driver_put(&d, VC_DRIVER_FEATURE, 4, 0xffffffff);
	assert_int_equal(virtio_driver_get(&d, VC_DRIVER_FEATURE, 4), 0);
}

static void
agreed_features_stay(void **state)
{
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	assert_true(agreed(&d, VIRTIO_F_VERSION_1));
	virtio_driver_put(&d, VC_DRIVER_FEATURE, 4, 0);
	assert_int_equal(virtio_driver_get(&d, VC_DRIVER_FEATURE, 4), 1);
	virtio_driver_put(&d, VC_DRIVER_SELECT, 4, 0);
	virtio_driver_put(&d, VC_DRIVER_FEATURE, 4, 0xffffffff);
	assert_int_equal(virtio_driver_get(&d, VC_DRIVER_FEATURE, 4), 0);
}

static void
status_bits_go_by_reset_alone(void **state)
{
	struct virtio_driver d = driver(state);

	virtio_driver_set_status(&d, 0x01);
	assert_int_equal(virtio_driver_status(&d), READY);
	virtio_driver_set_status(&d, READY | NEEDS_RESET | 0x30);
	assert_int_equal(virtio_driver_status(&d), READY);
	virtio_driver_set_status(&d, READY);
	virtio_driver_set_status(&d, 0x80);
	assert_int_equal(virtio_driver_status(&d), READY | 0x80);
	assert_int_equal(ask(&d, BUF, 16), 16);
	virtio_driver_set_status(&d, 0);
	assert_int_equal(virtio_driver_status(&d), 0);
	/* DRIVER_OK is worth nothing without FEATURES_OK. */
	virtio_driver_set_status(&d, 0x07);
	assert_int_equal(virtio_driver_status(&d), 0x03);
}

static void
reset_forgets_everything(void **state)
{
	struct virtio_driver d = driver(state);

	assert_int_equal(ask(&d, BUF, 16), 16);
	virtio_driver_put(&d, VC_QUEUE_SELECT, 2, 7);
	virtio_driver_set_status(&d, 0);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_SELECT, 2), 0);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_ENABLE, 2), 0);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_SIZE, 2), 64);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_VECTOR, 2), 0xffff);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_DESC, 4), 0);
	assert_int_equal(virtio_driver_get(&d, VC_CONFIG_VECTOR, 2), 0xffff);
	assert_int_equal(virtio_driver_get(&d, VC_DRIVER_FEATURE, 4), 0);
	virtio_driver_kick(&d, 0);
	virtio_driver_init(&d, d.b, 0);
	assert_int_equal(ask(&d, BUF, 16), 16);
	for (unsigned i = 0; i < 1000; i++)
		virtio_driver_set_status(&d, 0);
	virtio_driver_init(&d, d.b, 0);
	assert_int_equal(ask(&d, BUF, 16), 16);
}

/* ---- queue registers ----------------------------------------------------- */

static void
queues_are_set_up_between_features_and_ready(void **state)
{
	static const struct {
		unsigned off, size;
		uint32_t value, before;
	} regs[] = {
		{ VC_QUEUE_SIZE, 2, 32, 64 },
		{ VC_QUEUE_DESC, 4, 0x123450, 0 },
		{ VC_QUEUE_DESC + 4, 4, 1, 0 },
		{ VC_QUEUE_DRIVER, 4, 0x123450, 0 },
		{ VC_QUEUE_DRIVER + 4, 4, 1, 0 },
		{ VC_QUEUE_DEVICE, 4, 0x123450, 0 },
		{ VC_QUEUE_DEVICE + 4, 4, 1, 0 },
		{ VC_QUEUE_ENABLE, 2, 1, 0 },
	};
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	virtio_driver_set_status(&d, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		virtio_driver_put(&d, regs[i].off, regs[i].size, regs[i].value);
		assert_int_equal(virtio_driver_get(&d, regs[i].off,
				     regs[i].size),
		    regs[i].before);
	}
	virtio_driver_negotiate(&d, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		virtio_driver_put(&d, regs[i].off, regs[i].size, regs[i].value);
		assert_int_equal(virtio_driver_get(&d, regs[i].off,
				     regs[i].size),
		    regs[i].value);
	}
	/* It is enabled now, and stays as it is. */
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		virtio_driver_put(&d, regs[i].off, regs[i].size, 0);
		assert_int_equal(virtio_driver_get(&d, regs[i].off,
				     regs[i].size),
		    regs[i].value);
	}
}

static void
a_running_queue_is_left_alone(void **state)
{
	static const unsigned offs[] = { VC_QUEUE_SIZE, VC_QUEUE_VECTOR,
		VC_QUEUE_ENABLE };
	struct virtio_driver d = driver(state);
	uint32_t before;

	for (unsigned i = 0; i < ARRAY_SIZE(offs); i++) {
		before = virtio_driver_get(&d, offs[i], 2);
		for (unsigned value = 0; value < 3; value++) {
			virtio_driver_put(&d, offs[i], 2, value);
			assert_int_equal(virtio_driver_get(&d, offs[i], 2),
			    before);
		}
	}
	for (unsigned off = VC_QUEUE_DESC; off < 56; off += 4) {
		before = virtio_driver_get(&d, off, 4);
		virtio_driver_put(&d, off, 4, 0xfee00000);
		assert_int_equal(virtio_driver_get(&d, off, 4), before);
	}
	assert_int_equal(ask(&d, BUF, 16), 16);
}

static void
queues_that_do_not_exist(void **state)
{
	static const uint16_t numbers[] = { 1, 2, 63, 0x7fff, 0xffff };
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	virtio_driver_negotiate(&d, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
		virtio_driver_put(&d, VC_QUEUE_SELECT, 2, numbers[i]);
		assert_int_equal(virtio_driver_get(&d, VC_QUEUE_SELECT, 2),
		    numbers[i]);
		for (unsigned off = VC_QUEUE_SIZE; off < 56; off += 2) {
			virtio_driver_put(&d, off, 2, 1);
			assert_int_equal(virtio_driver_get(&d, off, 2),
			    off == VC_QUEUE_VECTOR ? 0xffff : 0);
		}
	}
	d = driver(state);
	for (unsigned off = 4; off < 0x1000; off += 4)
		bench_write(d.b, d.notify + off, 4, 0xffffffff);
	for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++)
		bench_out16(d.b, d.ports + 16, numbers[i]);
	assert_int_equal(virtio_driver_status(&d), READY);
	assert_int_equal(ask(&d, BUF, 16), 16);
}

static void
impossible_sizes(void **state)
{
	static const struct {
		uint16_t written, kept;
		bool works;
	} sizes[] = {
		{ 0, 0, false },
		{ 3, 3, false },
		{ 63, 63, false },
		{ 128, 64, true },
		{ 0x8000, 64, true },
		{ 0xffff, 64, true },
		{ 1, 1, true },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct virtio_driver d;

		virtio_driver_find(&d, *state);
		virtio_driver_negotiate(&d, 0);
		virtio_driver_put(&d, VC_QUEUE_SIZE, 2, sizes[i].written);
		assert_int_equal(virtio_driver_get(&d, VC_QUEUE_SIZE, 2),
		    sizes[i].kept);
		virtio_driver_queue(&d, 0);
		virtio_driver_set_status(&d, READY);
		assert_int_equal(virtio_driver_status(&d),
		    sizes[i].works ? READY : READY | NEEDS_RESET);
		if (sizes[i].works)
			assert_int_equal(ask(&d, BUF, 16), 16);
	}
}

static void
vectors_that_do_not_exist(void **state)
{
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	virtio_driver_negotiate(&d, 0);
	for (unsigned vector = 0; vector < 0x10000; vector += 0x1f) {
		uint32_t kept = vector < 2 ? vector : 0xffff;

		virtio_driver_put(&d, VC_QUEUE_VECTOR, 2, vector);
		assert_int_equal(virtio_driver_get(&d, VC_QUEUE_VECTOR, 2),
		    kept);
		virtio_driver_put(&d, VC_CONFIG_VECTOR, 2, vector);
		assert_int_equal(virtio_driver_get(&d, VC_CONFIG_VECTOR, 2),
		    kept);
	}
}

/* ---- a broken ring ------------------------------------------------------- */

static void
a_broken_ring_asks_for_a_reset(void **state)
{
	static const gpa_t bad[] = { 0x1000000, 0xfee00000, UINT64_MAX - 3 };
	struct virtio_driver d;

	for (unsigned i = 0; i < ARRAY_SIZE(bad) + 2; i++) {
		struct virtio_part part = { BUF, 16, true };

		d = driver(state);
		/* Its own registers and MSI-X table are not memory either. */
		part.gpa = i < ARRAY_SIZE(bad) ? bad[i] :
		    i == ARRAY_SIZE(bad)       ? d.common :
						 d.msix;
		d.b->msi_count = 0;
		virtio_driver_offer(&d, 0, &part, 1);
		virtio_driver_kick(&d, 0);
		assert_int_equal(virtio_driver_status(&d), READY | NEEDS_RESET);
		assert_int_equal(d.b->msi_count, 1);
		assert_int_equal(d.b->msi[0].data, VIRTIO_MSI_DATA(0));
		virtio_driver_kick(&d, 0);
		assert_false(virtio_driver_used(&d, 0, NULL, NULL));
		assert_int_equal(d.b->msi_count, 1);
		virtio_driver_set_status(&d, 0);
		assert_int_equal(virtio_driver_status(&d), 0);
	}
	d = driver(state);
	assert_int_equal(ask(&d, BUF, 16), 16);
}

static void
no_dma_without_bus_mastering(void **state)
{
	const struct virtio_part part = { BUF, 16, true };
	struct virtio_driver d = driver(state);

	bench_write(d.b, d.cfg + 4, 2, 3);
	virtio_driver_offer(&d, 0, &part, 1);
	virtio_driver_kick(&d, 0);
	assert_false(virtio_driver_used(&d, 0, NULL, NULL));
	bench_write(d.b, d.cfg + 4, 2, 7);
	virtio_driver_wait(&d, 0, NULL, NULL);
}

/* ---- interrupts ---------------------------------------------------------- */

static void
without_messages_there_are_pin_and_status(void **state)
{
	struct virtio_driver d = driver(state);
	unsigned line = PLAT_IOAPIC_PCI_PIN;

	bench_write(d.b, d.cfg + d.msix_cap + 2, 2, 0);
	assert_int_equal(ask(&d, BUF, 16), 16);
	assert_int_equal(d.b->msi_count, 0);
	assert_true(bench_line(d.b, line));
	bench_round_trip(d.b);
	assert_int_equal(bench_read(d.b, d.isr, 1), 1);
	assert_false(bench_line(d.b, line));
	assert_int_equal(bench_read(d.b, d.isr, 1), 0);
	assert_int_equal(ask(&d, BUF, 16), 16);
	assert_int_equal(bench_in8(d.b, d.ports + 19), 1);
	assert_int_equal(bench_in8(d.b, d.ports + 19), 0);
	virtio_driver_poke(&d, virtio_driver_desc(0) + d.queues[0].slot * 16u,
	    8, UINT64_MAX);
	virtio_driver_poke(&d, virtio_driver_avail(0) + 2, 2, 0x100);
	virtio_driver_kick(&d, 0);
	assert_int_equal(bench_read(d.b, d.isr, 1), 2);
}

static void
without_msix_there_is_msi(void **state)
{
	static const char *const msi[] = { "bench.node=" VIRTIO_DRIVER_NODE,
		"virtio_msix=false", NULL };
	struct bench *b = bench_new("virtio-rnd", msi);
	struct virtio_driver d;
	unsigned cap;

	virtio_driver_init(&d, b, 0);
	cap = cfg(&d, 0x34, 1);
	while (cap != 0 && cfg(&d, cap, 1) != 0x05)
		cap = cfg(&d, cap + 1, 1);
	assert_int_not_equal(cap, 0);
	bench_write(b, d.cfg + cap + 4, 4, VIRTIO_MSI_ADDR);
	bench_write(b, d.cfg + cap + 12, 2, 0x55);
	bench_write(b, d.cfg + cap + 2, 2, 1);
	assert_int_equal(ask(&d, BUF, 16), 16);
	assert_int_equal(b->msi_count, 1);
	assert_int_equal(b->msi[0].data, 0x55);
	assert_int_equal(bench_read(b, d.isr, 1), 1);
	assert_false(bench_line(b, PLAT_IOAPIC_PCI_PIN));
	bench_free(b);
}

/* ---- every width --------------------------------------------------------- */

static void
registers_of_every_width(void **state)
{
	struct virtio_driver d = driver(state);
	struct buf before = { 0 }, after = { 0 };

	bench_save(d.b, &before);
	for (unsigned off = 0; off < 0x1000; off++) {
		uint64_t dword = bench_read(d.b, d.common + (off & ~3u), 4);

		assert_int_equal(bench_read(d.b, d.common + off, 1),
		    dword >> (8 * (off % 4)) & 0xff);
		for (unsigned size = 1; size <= 8; size++)
			(void)bench_read(d.b, d.common + off, size);
		/* Past the structure nothing can be written. */
		if (off >= 56)
			bench_write(d.b, d.common + off, 4, 0xffffffff);
	}
	/* Nor by any width but the field's own. */
	for (unsigned off = 0; off < 56; off++) {
		if (off != VC_STATUS)
			bench_write(d.b, d.common + off, 1, 0x5a);
		if (off % 4 == 0 && off >= 16 && off < 32)
			bench_write(d.b, d.common + off, 4, 0x5a5a5a5a);
	}
	bench_save(d.b, &after);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, before.len);
	buf_fini(&before);
	buf_fini(&after);
}

static void
bar_through_configuration_space(void **state)
{
	struct virtio_driver d = driver(state);
	gpa_t cap = d.cfg + d.cap_pci;

	bench_write(d.b, cap + 4, 1, 2);
	bench_write(d.b, cap + 8, 4, VC_STATUS);
	bench_write(d.b, cap + 12, 4, 1);
	assert_int_equal(bench_read(d.b, cap + 16, 1), READY);
	bench_write(d.b, cap + 8, 4, VC_QUEUE_SELECT);
	bench_write(d.b, cap + 12, 4, 2);
	bench_write(d.b, cap + 16, 2, 0x1234);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_SELECT, 2), 0x1234);
	/* A notification comes that way, too. */
	virtio_driver_poke(&d, virtio_driver_avail(0) + 2, 2, 0x7000);
	bench_write(d.b, cap + 8, 4, 0x3000);
	bench_write(d.b, cap + 16, 2, 0);
	assert_int_equal(virtio_driver_status(&d), READY | NEEDS_RESET);
}

static void
bad_windows_read_zero(void **state)
{
	static const struct {
		uint8_t bar;
		uint32_t off, len;
	} bad[] = {
		{ 0, 0, 4 },
		{ 1, 0, 4 },
		{ 3, 0, 4 },
		{ 6, 0, 4 },
		{ 255, 0, 4 },
		{ 2, 1, 4 },
		{ 2, 2, 4 },
		{ 2, 0x4000, 4 },
		{ 2, 0xfffffffc, 4 },
		{ 2, 0x3ffe, 4 },
		{ 2, 0, 0 },
		{ 2, 0, 3 },
		{ 2, 0, 8 },
		{ 2, 0, 0xffffffff },
	};
	struct virtio_driver d = driver(state);
	gpa_t cap = d.cfg + d.cap_pci;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		bench_write(d.b, cap + 4, 1, bad[i].bar);
		bench_write(d.b, cap + 8, 4, bad[i].off);
		bench_write(d.b, cap + 12, 4, bad[i].len);
		for (unsigned size = 1; size <= 4; size *= 2) {
			bench_write(d.b, cap + 16, size, 0);
			assert_int_equal(bench_read(d.b, cap + 16, size), 0);
		}
	}
	assert_int_equal(virtio_driver_status(&d), READY);
	assert_int_equal(ask(&d, BUF, 16), 16);
}

/* ---- legacy -------------------------------------------------------------- */

/* As a legacy driver; its ring is at VIRTIO_RINGS, 64 entries. */
static void
legacy_init(struct virtio_driver *d, struct bench *b)
{
	virtio_driver_find(d, b);
	assert_int_equal(mem_fill(vm_mem(b->vm), VIRTIO_RINGS, 0, 0x10000), 0);
	bench_out8(b, d->ports + 18, 0);
	bench_out8(b, d->ports + 18, 1);
	bench_out8(b, d->ports + 18, 3);
	assert_int_equal(bench_in32(b, d->ports), 0x39000000);
	bench_out32(b, d->ports + 4, 0x20000000);
	bench_out16(b, d->ports + 14, 0);
	assert_int_equal(bench_in16(b, d->ports + 12), 64);
	bench_out32(b, d->ports + 8, VIRTIO_RINGS / 4096);
	bench_out8(b, d->ports + 18, 7);
	assert_int_equal(bench_in8(b, d->ports + 18), 7);
}

/* Offer 16 bytes; is there an answer now? */
static bool
legacy_ask(struct virtio_driver *d, uint16_t n)
{
	gpa_t avail = VIRTIO_RINGS + 64 * 16, used = VIRTIO_RINGS + 0x1000;

	virtio_driver_poke(d, VIRTIO_RINGS, 8, BUF);
	virtio_driver_poke(d, VIRTIO_RINGS + 8, 8, 0x200000010);
	virtio_driver_poke(d, avail + 2, 2, n);
	bench_out16(d->b, d->ports + 16, 0);
	return virtio_driver_peek(d, used + 2, 2) == n &&
	    virtio_driver_peek(d, used + 4 + 8 * (n - 1) + 4, 4) == 16;
}

static void
a_legacy_driver_is_served(void **state)
{
	struct virtio_driver d;

	legacy_init(&d, *state);
	assert_int_equal(bench_in32(d.b, d.ports + 8), VIRTIO_RINGS / 4096);
	assert_true(legacy_ask(&d, 1));
	assert_int_equal(bench_in8(d.b, d.ports + 19), 1);
	assert_true(has_entropy(&d, BUF, 16));
	/* Without a place it is off, and comes back from the start. */
	bench_out32(d.b, d.ports + 8, 0);
	assert_false(legacy_ask(&d, 2));
	assert_int_equal(mem_fill(vm_mem(d.b->vm), VIRTIO_RINGS, 0, 0x2000), 0);
	bench_out32(d.b, d.ports + 8, VIRTIO_RINGS / 4096);
	assert_true(legacy_ask(&d, 1));
	bench_round_trip(d.b);
	bench_out8(d.b, d.ports + 18, 0);
	assert_int_equal(bench_in32(d.b, d.ports + 8), 0);
}

static void
legacy_vectors_move_the_configuration(void **state)
{
	struct virtio_driver d;

	legacy_init(&d, *state);
	bench_write(d.b, d.cfg + d.msix_cap + 2, 2, 0x8000);
	assert_int_equal(bench_in16(d.b, d.ports + 20), 0xffff);
	bench_out16(d.b, d.ports + 20, 0);
	bench_out16(d.b, d.ports + 22, 1);
	assert_int_equal(bench_in16(d.b, d.ports + 20), 0);
	assert_int_equal(bench_in16(d.b, d.ports + 22), 1);
	assert_int_equal(bench_in32(d.b, d.ports + 20), 0x00010000);
	bench_out16(d.b, d.ports + 22, 2);
	assert_int_equal(bench_in16(d.b, d.ports + 22), 0xffff);
}

static void
a_legacy_driver_may_begin_early(void **state)
{
	struct virtio_driver d;

	legacy_init(&d, *state);
	bench_out8(d.b, d.ports + 18, 0);
	assert_int_equal(mem_fill(vm_mem(d.b->vm), VIRTIO_RINGS, 0, 0x2000), 0);
	bench_out32(d.b, d.ports + 8, VIRTIO_RINGS / 4096);
	assert_true(legacy_ask(&d, 1));
}

static void
interfaces_do_not_mix(void **state)
{
	struct virtio_driver d;

	legacy_init(&d, *state);
	virtio_driver_set_status(&d, 0x0f);
	assert_int_equal(virtio_driver_status(&d), 7);
	virtio_driver_put(&d, VC_QUEUE_DESC, 4, 0);
	virtio_driver_put(&d, VC_DRIVER_FEATURE, 4, 0xffffffff);
	assert_true(legacy_ask(&d, 1));

	d = driver(state);
	bench_out8(d.b, d.ports + 18, 0x80);
	bench_out32(d.b, d.ports + 4, 0);
	bench_out32(d.b, d.ports + 8, 0);
	bench_out32(d.b, d.ports + 8, 1);
	assert_int_equal(virtio_driver_status(&d), READY);
	assert_int_equal(ask(&d, BUF, 16), 16);
	bench_out8(d.b, d.ports + 18, 0);
	assert_int_equal(virtio_driver_status(&d), 0);
}

static void
a_legacy_ring_outside_ram(void **state)
{
	static const uint32_t pages[] = { 0x1000, 0xfff, 0xfee00, 0xffffffff };

	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
		struct virtio_driver d;

		legacy_init(&d, *state);
		bench_out32(d.b, d.ports + 8, 0);
		bench_out32(d.b, d.ports + 8, pages[i]);
		bench_out16(d.b, d.ports + 16, 0);
		assert_int_equal(bench_in8(d.b, d.ports + 18), 7);
		bench_round_trip(d.b);
	}
}

static void
ports_of_every_width(void **state)
{
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	for (unsigned off = 0; off < 32; off++)
		for (unsigned size = 1; size <= 4; size *= 2) {
			(void)bus_read(vm_ports(d.b->vm), d.ports + off, size);
			bus_write(vm_ports(d.b->vm), d.ports + off, size,
			    UINT64_MAX);
		}
	bench_out8(d.b, d.ports + 18, 0);
	assert_int_equal(bench_in32(d.b, d.ports + 16), 0);
	bench_out16(d.b, d.ports + 14, 0x1234);
	assert_int_equal(bench_in32(d.b, d.ports + 12), 0x12340000);
	assert_int_equal(bench_in8(d.b, d.ports + 15), 0x12);
}

/* ---- state --------------------------------------------------------------- */

static void
state_makes_the_trip(void **state)
{
	struct virtio_driver d;

	bench_round_trip(*state);
	d = driver(state);
	bench_round_trip(*state);
	for (unsigned i = 0; i < 70; i++)
		assert_int_equal(ask(&d, BUF, 16), 16);
	bench_round_trip(*state);
	virtio_driver_poke(&d, virtio_driver_avail(0) + 2, 2, 0x7000);
	virtio_driver_kick(&d, 0);
	bench_round_trip(*state);
}

static void
a_loaded_device_goes_on(void **state)
{
	struct virtio_driver d = driver(state);
	struct buf saved = { 0 };
	struct reader in;

	assert_int_equal(ask(&d, BUF, 16), 16);
	bench_save(d.b, &saved);
	virtio_driver_set_status(&d, 0);
	in = reader_make(saved.data, saved.len);
	assert_int_equal(device_load(d.b->dev, &in, NULL), 0);
	assert_int_equal(virtio_driver_status(&d), READY);
	assert_int_equal(ask(&d, BUF, 16), 16);
	buf_fini(&saved);
}

static void
forged_states_are_refused(void **state)
{
	struct virtio_driver d = driver(state);
	struct virtio *v = device_self(d.b->dev);
	struct {
		void *at;
		unsigned size;
		uint64_t value;
	} lies[] = {
		{ &v->status, 1, 0x10 },
		{ &v->status, 1, 0x07 },
		{ &v->isr, 1, 4 },
		{ &v->config_vector, 2, 2 },
		{ &v->legacy, 1, 1 },
		{ &v->driver_features, 8, 0 },
		{ &v->driver_features, 8, VIRTIO_F_VERSION_1 | BIT(0) },
		{ &v->regs[0].size, 8, 0 },
		{ &v->regs[0].size, 8, 128 },
		{ &v->regs[0].vector, 8, 2 },
		{ &v->regs[0].enabled, 8, 2 },
		{ &v->regs[0].avail, 8, 1 },
		{ &v->func.cfg[0], 1, 0 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		struct buf forged = { 0 };
		struct reader in;
		uint64_t kept = 0;

		memcpy(&kept, lies[i].at, lies[i].size);
		memcpy(lies[i].at, &lies[i].value, lies[i].size);
		bench_save(d.b, &forged);
		memcpy(lies[i].at, &kept, lies[i].size);
		in = reader_make(forged.data, forged.len);
		if (device_load(d.b->dev, &in, NULL) != -EINVAL)
			fail_msg("lie %u was taken", i);
		buf_fini(&forged);
	}
	assert_int_equal(ask(&d, BUF, 16), 16);
}

static void
pausing_holds_the_queues(void **state)
{
	const struct virtio_part part = { BUF, 16, true };
	struct virtio_driver d = driver(state);
	const struct device_model *model = device_model(d.b->dev);

	lock_take(device_lock(d.b->dev));
	model->pause(device_self(d.b->dev));
	lock_drop(device_lock(d.b->dev));
	virtio_driver_offer(&d, 0, &part, 1);
	virtio_driver_kick(&d, 0);
	assert_false(virtio_driver_used(&d, 0, NULL, NULL));
	lock_take(device_lock(d.b->dev));
	model->resume(device_self(d.b->dev));
	lock_drop(device_lock(d.b->dev));
	assert_true(virtio_driver_used(&d, 0, NULL, NULL));
}

struct kicker {
	struct virtio_driver *d;
	_Atomic bool stop;
};

static void *
kick(void *arg)
{
	struct kicker *k = arg;
	struct bus *bus = vm_mmio(k->d->b->vm);

	while (!atomic_load_explicit(&k->stop, memory_order_relaxed)) {
		bus_write(bus, k->d->notify, 2, 0);
		bus_write(bus, k->d->common + VC_STATUS, 1, 0);
		(void)bus_read(bus, k->d->common + VC_STATUS, 1);
		(void)bus_read(bus, k->d->isr, 1);
	}
	return NULL;
}

/* Set up and used by one processor, notified and reset by another. */
static void
processors_may_disagree(void **state)
{
	struct virtio_driver d;
	struct kicker k = { .d = &d };
	pthread_t thread;

	virtio_driver_init(&d, *state, 0);
	assert_int_equal(pthread_create(&thread, NULL, kick, &k), 0);
	for (unsigned round = 0; round < 2000; round++) {
		virtio_driver_set_status(&d, 3);
		virtio_driver_put(&d, VC_DRIVER_SELECT, 4, 1);
		virtio_driver_put(&d, VC_DRIVER_FEATURE, 4, 1);
		virtio_driver_set_status(&d, 0x0b);
		virtio_driver_queue(&d, 0);
		virtio_driver_poke(&d, virtio_driver_avail(0) + 2, 2, 1);
		virtio_driver_set_status(&d, READY);
		virtio_driver_kick(&d, 0);
	}
	atomic_store(&k.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	virtio_driver_init(&d, *state, 0);
	assert_int_equal(ask(&d, BUF, 16), 16);
}

static void
any_access_is_survived(void **state)
{
	struct virtio_driver d = driver(state);
	const struct bench_range ranges[] = {
		{ BUS_MMIO, d.common, 0x4000 },
		{ BUS_MMIO, d.common, 0x40 },
		{ BUS_MMIO, d.msix, 0x40 },
		{ BUS_PORT, d.ports, 32 },
		{ BUS_MMIO, d.cfg + 0x40, 0xc0 },
	};

	bench_hammer(d.b, ranges, ARRAY_SIZE(ranges), 20000, 1);
}

BENCH_MAIN_OPTIONS("virtio-rnd", options, BENCH_TEST(buffers_are_filled),
    BENCH_TEST(a_request_has_a_limit),
    BENCH_TEST(a_request_without_room_gets_nothing),
    BENCH_TEST(one_interrupt_for_a_batch), BENCH_TEST(ids_are_transitional),
    BENCH_TEST(interfaces_can_be_left_out),
    BENCH_TEST(one_interface_must_be_left),
    BENCH_TEST(unknown_options_are_refused),
    BENCH_TEST(only_offered_features_are_agreed),
    BENCH_TEST(agreed_features_stay), BENCH_TEST(status_bits_go_by_reset_alone),
    BENCH_TEST(reset_forgets_everything),
    BENCH_TEST(queues_are_set_up_between_features_and_ready),
    BENCH_TEST(a_running_queue_is_left_alone),
    BENCH_TEST(queues_that_do_not_exist), BENCH_TEST(impossible_sizes),
    BENCH_TEST(vectors_that_do_not_exist),
    BENCH_TEST(a_broken_ring_asks_for_a_reset),
    BENCH_TEST(no_dma_without_bus_mastering),
    BENCH_TEST(without_messages_there_are_pin_and_status),
    BENCH_TEST(registers_of_every_width),
    BENCH_TEST(bar_through_configuration_space),
    BENCH_TEST(bad_windows_read_zero), BENCH_TEST(a_legacy_driver_is_served),
    BENCH_TEST(legacy_vectors_move_the_configuration),
    BENCH_TEST(a_legacy_driver_may_begin_early),
    BENCH_TEST(interfaces_do_not_mix), BENCH_TEST(a_legacy_ring_outside_ram),
    BENCH_TEST(ports_of_every_width), BENCH_TEST(state_makes_the_trip),
    BENCH_TEST(a_loaded_device_goes_on), BENCH_TEST(forged_states_are_refused),
    BENCH_TEST(pausing_holds_the_queues), BENCH_TEST(without_msix_there_is_msi),
    BENCH_TEST(processors_may_disagree), BENCH_TEST(any_access_is_survived))
