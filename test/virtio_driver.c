/*
 * A virtio driver on the bench.
 */
#include "base/wire.h"
#include "test/virtio_driver.h"
#include "virtio/virtio.h"
#include "vm/platform.h"

#define CFG_SLOT3 (PLAT_ECAM_BASE + (3u << 15))
#define RING_STRIDE 0x10000u
#define RING_AVAIL 0x4000u
#define RING_USED 0x8000u

static uint64_t
bar_base(struct virtio_driver *d, unsigned bar)
{
	return bench_read(d->b, d->cfg + 0x10 + 4 * bar, 4) & ~0xfu;
}

uint64_t
virtio_driver_peek(struct virtio_driver *d, gpa_t gpa, unsigned size)
{
	le64 raw = le64_make(0);

	assert_int_equal(mem_read(vm_mem(d->b->vm), gpa, &raw, size), 0);
	return le64_get(raw);
}

void
virtio_driver_poke(struct virtio_driver *d, gpa_t gpa, unsigned size,
    uint64_t value)
{
	le64 raw = le64_make(value);

	assert_int_equal(mem_write(vm_mem(d->b->vm), gpa, &raw, size), 0);
}

void
virtio_driver_find(struct virtio_driver *d, struct bench *b)
{
	unsigned cap;

	*d = (struct virtio_driver) { .b = b, .cfg = CFG_SLOT3 };
	if (bench_read(b, d->cfg + 0x10, 4) & 1)
		d->ports = (uint16_t)(bench_read(b, d->cfg + 0x10, 2) & ~3u);
	/* Decoding and bus master. */
	bench_write(b, d->cfg + 4, 2, 7);
	for (cap = (unsigned)bench_read(b, d->cfg + 0x34, 1); cap != 0;
	     cap = (unsigned)bench_read(b, d->cfg + cap + 1, 1)) {
		gpa_t at = d->cfg + cap, base;

		if (bench_read(b, at, 1) == 0x11) {
			d->msix_cap = cap;
			d->msix = bar_base(d, bench_read(b, at + 4, 1) & 7);
			continue;
		}
		if (bench_read(b, at, 1) != 0x09)
			continue;
		base = bar_base(d, (unsigned)bench_read(b, at + 4, 1)) +
		    bench_read(b, at + 8, 4);
		switch (bench_read(b, at + 3, 1)) {
		case 1:
			d->common = base;
			break;
		case 2:
			d->notify = base;
			break;
		case 3:
			d->isr = base;
			break;
		case 4:
			d->device = base;
			break;
		case 5:
			d->cap_pci = cap;
			break;
		}
	}
}

uint32_t
virtio_driver_get(struct virtio_driver *d, unsigned off, unsigned size)
{
	return (uint32_t)bench_read(d->b, d->common + off, size);
}

void
virtio_driver_put(struct virtio_driver *d, unsigned off, unsigned size,
    uint32_t value)
{
	bench_write(d->b, d->common + off, size, value);
}

uint8_t
virtio_driver_status(struct virtio_driver *d)
{
	return (uint8_t)virtio_driver_get(d, VC_STATUS, 1);
}

void
virtio_driver_set_status(struct virtio_driver *d, uint8_t status)
{
	virtio_driver_put(d, VC_STATUS, 1, status);
}

uint64_t
virtio_driver_offered(struct virtio_driver *d)
{
	uint64_t offered = 0;

	for (unsigned half = 0; half < 2; half++) {
		virtio_driver_put(d, VC_DEVICE_SELECT, 4, half);
		offered |= (uint64_t)virtio_driver_get(d, VC_DEVICE_FEATURE, 4)
		    << (32 * half);
	}
	return offered;
}

void
virtio_driver_negotiate(struct virtio_driver *d, uint64_t wanted)
{
	virtio_driver_set_status(d, 0);
	assert_int_equal(virtio_driver_status(d), 0);
	virtio_driver_set_status(d, VIRTIO_STATUS_ACKNOWLEDGE);
	virtio_driver_set_status(d,
	    VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	d->features = (wanted | VIRTIO_F_VERSION_1) & virtio_driver_offered(d);
	for (unsigned half = 0; half < 2; half++) {
		virtio_driver_put(d, VC_DRIVER_SELECT, 4, half);
		virtio_driver_put(d, VC_DRIVER_FEATURE, 4,
		    (uint32_t)(d->features >> (32 * half)));
	}
	virtio_driver_set_status(d,
	    VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |
		VIRTIO_STATUS_FEATURES_OK);
	assert_true(virtio_driver_status(d) & VIRTIO_STATUS_FEATURES_OK);
}

gpa_t
virtio_driver_desc(unsigned q)
{
	return VIRTIO_RINGS + q * RING_STRIDE;
}

gpa_t
virtio_driver_avail(unsigned q)
{
	return virtio_driver_desc(q) + RING_AVAIL;
}

gpa_t
virtio_driver_used_ring(unsigned q)
{
	return virtio_driver_desc(q) + RING_USED;
}

void
virtio_driver_queue(struct virtio_driver *d, unsigned q)
{
	unsigned size;

	assert_true(q < VIRTIO_DRIVER_QUEUES);
	virtio_driver_put(d, VC_QUEUE_SELECT, 2, q);
	size = virtio_driver_get(d, VC_QUEUE_SIZE, 2);
	/* Flags, indexes and events. */
	virtio_driver_poke(d, virtio_driver_avail(q), 4, 0);
	virtio_driver_poke(d, virtio_driver_avail(q) + 4 + size * 2, 2, 0);
	virtio_driver_poke(d, virtio_driver_used_ring(q), 4, 0);
	virtio_driver_poke(d, virtio_driver_used_ring(q) + 4 + size * 8, 2, 0);
	d->queues[q].size = size;
	d->queues[q].avail = d->queues[q].used = d->queues[q].slot = 0;
	virtio_driver_put(d, VC_QUEUE_DESC, 4, (uint32_t)virtio_driver_desc(q));
	virtio_driver_put(d, VC_QUEUE_DESC + 4, 4, 0);
	virtio_driver_put(d, VC_QUEUE_DRIVER, 4,
	    (uint32_t)virtio_driver_avail(q));
	virtio_driver_put(d, VC_QUEUE_DRIVER + 4, 4, 0);
	virtio_driver_put(d, VC_QUEUE_DEVICE, 4,
	    (uint32_t)virtio_driver_used_ring(q));
	virtio_driver_put(d, VC_QUEUE_DEVICE + 4, 4, 0);
	if (d->msix_cap != 0)
		virtio_driver_put(d, VC_QUEUE_VECTOR, 2, q + 1);
	virtio_driver_put(d, VC_QUEUE_ENABLE, 2, 1);
}

static void
enable_msix(struct virtio_driver *d, unsigned vectors)
{
	for (unsigned v = 0; v < vectors; v++) {
		gpa_t entry = d->msix + v * 16;

		bench_write(d->b, entry, 4, VIRTIO_MSI_ADDR);
		bench_write(d->b, entry + 4, 4, 0);
		bench_write(d->b, entry + 8, 4, VIRTIO_MSI_DATA(v));
		bench_write(d->b, entry + 12, 4, 0);
	}
	bench_write(d->b, d->cfg + d->msix_cap + 2, 2, 0x8000);
}

void
virtio_driver_init(struct virtio_driver *d, struct bench *b, uint64_t wanted)
{
	unsigned queues;

	virtio_driver_find(d, b);
	virtio_driver_negotiate(d, wanted & ~VIRTIO_F_RING_PACKED);
	queues = virtio_driver_get(d, VC_NUM_QUEUES, 2);
	if (d->msix_cap != 0) {
		enable_msix(d, queues + 1);
		virtio_driver_put(d, VC_CONFIG_VECTOR, 2, 0);
	}
	for (unsigned q = 0; q < MIN(queues, VIRTIO_DRIVER_QUEUES); q++)
		virtio_driver_queue(d, q);
	virtio_driver_set_status(d,
	    virtio_driver_status(d) | VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(virtio_driver_status(d), 0x0f);
}

uint16_t
virtio_driver_offer(struct virtio_driver *d, unsigned q,
    const struct virtio_part *parts, unsigned n)
{
	unsigned size = d->queues[q].size;
	uint16_t head = d->queues[q].slot;
	uint16_t *idx;

	for (unsigned i = 0; i < n; i++) {
		gpa_t at = virtio_driver_desc(q) + d->queues[q].slot * 16u;
		uint16_t next = (uint16_t)((d->queues[q].slot + 1u) % size);

		virtio_driver_poke(d, at, 8, parts[i].gpa);
		virtio_driver_poke(d, at + 8, 4, parts[i].len);
		virtio_driver_poke(d, at + 12, 2,
		    (i + 1 < n ? 1u : 0) | (parts[i].write ? 2u : 0));
		virtio_driver_poke(d, at + 14, 2, next);
		d->queues[q].slot = next;
	}
	virtio_driver_poke(d,
	    virtio_driver_avail(q) + 4 + d->queues[q].avail % size * 2, 2,
	    head);
	/* After what the device reads, which it may do before it is kicked. */
	idx = mem_ptr_write(vm_mem(d->b->vm), virtio_driver_avail(q) + 2, 2);
	__atomic_store_n(idx, htole16(++d->queues[q].avail), __ATOMIC_RELEASE);
	return head;
}

void
virtio_driver_kick(struct virtio_driver *d, unsigned q)
{
	bench_write(d->b, d->notify + q * 4, 2, q);
}

bool
virtio_driver_used(struct virtio_driver *d, unsigned q, uint32_t *id,
    uint32_t *len)
{
	gpa_t ring = virtio_driver_used_ring(q), at;
	uint16_t idx;

	/* Before what the device wrote, which it did first. */
	idx = __atomic_load_n((const uint16_t *)mem_ptr_read(vm_mem(d->b->vm),
				  ring + 2, 2),
	    __ATOMIC_ACQUIRE);
	if (le16toh(idx) == d->queues[q].used)
		return false;
	at = ring + 4 + d->queues[q].used % d->queues[q].size * 8;
	if (id != NULL)
		*id = (uint32_t)virtio_driver_peek(d, at, 4);
	if (len != NULL)
		*len = (uint32_t)virtio_driver_peek(d, at + 4, 4);
	d->queues[q].used++;
	return true;
}

void
virtio_driver_wait(struct virtio_driver *d, unsigned q, uint32_t *id,
    uint32_t *len)
{
	while (!virtio_driver_used(d, q, id, len))
		loop_run_once(d->b->loop, 1);
}
