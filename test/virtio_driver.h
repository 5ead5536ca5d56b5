/*
 * A virtio driver on the bench: finds the capabilities of the device under
 * test, negotiates, sets up split rings and hands over buffers.
 *
 * The device's node is VIRTIO_DRIVER_NODE ("bench.node=..." of its options).
 * Rings lie from VIRTIO_RINGS up, so tests keep their data above VIRTIO_DATA.
 * What a test wants to get wrong it does itself, with bench_write().
 */
#ifndef TEST_VIRTIO_DRIVER_H
#define TEST_VIRTIO_DRIVER_H

#include "test/bench.h"

#define VIRTIO_DRIVER_NODE "pci.0.3.0"
#define VIRTIO_RINGS 0x100000u
#define VIRTIO_DATA 0x400000u
#define VIRTIO_DRIVER_QUEUES 8u

/* Offsets in the common configuration, Virtio 1.2, 4.1.4.3. */
#define VC_DEVICE_SELECT 0u
#define VC_DEVICE_FEATURE 4u
#define VC_DRIVER_SELECT 8u
#define VC_DRIVER_FEATURE 12u
#define VC_CONFIG_VECTOR 16u
#define VC_NUM_QUEUES 18u
#define VC_STATUS 20u
#define VC_GENERATION 21u
#define VC_QUEUE_SELECT 22u
#define VC_QUEUE_SIZE 24u
#define VC_QUEUE_VECTOR 26u
#define VC_QUEUE_ENABLE 28u
#define VC_QUEUE_NOTIFY_OFF 30u
#define VC_QUEUE_DESC 32u
#define VC_QUEUE_DRIVER 40u
#define VC_QUEUE_DEVICE 48u

/* Messages of the driver: address and, for vector v, data. */
#define VIRTIO_MSI_ADDR 0xfee00000u
#define VIRTIO_MSI_DATA(v) (0x40u + (v))

struct virtio_part {
	gpa_t gpa;
	uint32_t len;
	bool write;
};

struct virtio_driver {
	struct bench *b;
	gpa_t cfg; /* its configuration space */
	gpa_t common, notify, isr, device, msix;
	uint16_t ports;    /* legacy; 0: there are none */
	unsigned msix_cap; /* 0: there is none */
	unsigned cap_pci;  /* the access capability */
	uint64_t features; /* agreed */
	struct {
		unsigned size;
		uint16_t avail, used, slot;
	} queues[VIRTIO_DRIVER_QUEUES];
};

/* Find everything; changes nothing in the device. */
void virtio_driver_find(struct virtio_driver *d, struct bench *b);
/* Reset, and agree on those of the wanted features that are offered. */
void virtio_driver_negotiate(struct virtio_driver *d, uint64_t wanted);
uint64_t virtio_driver_offered(struct virtio_driver *d);
/* Addresses of a queue's areas in its place. */
void virtio_driver_queue(struct virtio_driver *d, unsigned q);
/* All of it: MSI-X with vector 0 for changes, q + 1 for queues; DRIVER_OK. */
void virtio_driver_init(struct virtio_driver *d, struct bench *b,
    uint64_t wanted);

gpa_t virtio_driver_desc(unsigned q);
gpa_t virtio_driver_avail(unsigned q);
gpa_t virtio_driver_used_ring(unsigned q);

/* Memory, little-endian. */
uint64_t virtio_driver_peek(struct virtio_driver *d, gpa_t gpa, unsigned size);
void virtio_driver_poke(struct virtio_driver *d, gpa_t gpa, unsigned size,
    uint64_t value);

/* Offer a chain; its head. */
uint16_t virtio_driver_offer(struct virtio_driver *d, unsigned q,
    const struct virtio_part *parts, unsigned n);
void virtio_driver_kick(struct virtio_driver *d, unsigned q);
/* The next used chain: false if there is none.  id and len may be NULL. */
bool virtio_driver_used(struct virtio_driver *d, unsigned q, uint32_t *id,
    uint32_t *len);
/* The same, having run the machine's event loop until there is one. */
void virtio_driver_wait(struct virtio_driver *d, unsigned q, uint32_t *id,
    uint32_t *len);

uint8_t virtio_driver_status(struct virtio_driver *d);
void virtio_driver_set_status(struct virtio_driver *d, uint8_t status);
/* Registers of the common structure. */
uint32_t virtio_driver_get(struct virtio_driver *d, unsigned off,
    unsigned size);
void virtio_driver_put(struct virtio_driver *d, unsigned off, unsigned size,
    uint32_t value);

#endif
