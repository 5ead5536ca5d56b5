/*
 * Virtio devices: what a device says of itself, and what the core does for it.
 *
 * A device's state begins with a struct virtio, which begins with its PCI
 * function.  The core (virtio.c) negotiates features, runs the queues' life,
 * interrupts and state; the transport (virtio_pci.c) shows it in BARs.
 *
 *      create()     virtio_init()
 *      reset()      virtio_reset()
 *      changed()    virtio_changed()
 *      check()      virtio_check()
 *      pause()      virtio_pause()       resume()    virtio_resume()
 *      destroy()    virtio_fini()
 *
 * Locks        A model is `unlocked`: the core takes the device's lock for
 *              everything but a notification, which takes its queue's alone.
 *              Back ends complete requests on threads of their own, under the
 *              queue's lock.  So whoever holds the device's lock may wait
 *              until nothing is in flight, and reset and pause do.
 *              Order: device, queue, virtio (struct virtio.lock), pci, irq.
 */
#ifndef VIRTIO_VIRTIO_H
#define VIRTIO_VIRTIO_H

#include "event/event.h"
#include "pci/pci.h"
#include "virtio/virtq.h"

/* Virtio 1.2, section 2.1. */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01u
#define VIRTIO_STATUS_DRIVER 0x02u
#define VIRTIO_STATUS_DRIVER_OK 0x04u
#define VIRTIO_STATUS_FEATURES_OK 0x08u
#define VIRTIO_STATUS_NEEDS_RESET 0x40u
#define VIRTIO_STATUS_FAILED 0x80u

#define VIRTIO_NO_VECTOR 0xffffu
/* Device-specific configuration: room for every device's. */
#define VIRTIO_CONFIG_MAX 256u

struct virtio;

struct virtio_model {
	uint16_t type;            /* chapter 5 */
	uint16_t transitional_id; /* 4.1.2.1; 0: there is none */
	uint8_t class, subclass;  /* of its PCI function */
	unsigned config_size;

	/*
	 * The driver says that a queue has new buffers.  Under the queue's
	 * lock, on any thread; also after what may have lost a notification.
	 */
	void (*notify)(void *self, struct virtq *vq);
	/*
	 * Optional.  Return when nothing that was popped is in flight: pushed,
	 * or given back.  No queue pops meanwhile.  Under the device's lock.
	 */
	void (*drain)(void *self);
	/* Optional.  After a drain: forget what the driver has set up. */
	void (*reset)(void *self);
	/* Optional.  Features are agreed, before any queue starts. */
	void (*negotiated)(void *self, uint64_t features);
	/* Optional.  These are all offered: do they make sense together? */
	bool (*acceptable)(const void *self, uint64_t features);
	/* Optional.  The driver writes a byte of the configuration. */
	void (*config_write)(void *self, unsigned off, uint8_t value);
};

struct virtio {
	struct pci_func func; /* first: PCI finds a device by it */
	const struct virtio_model *model;
	struct device *dev;      /* borrowed: owns this */
	struct virtq *queues;    /* owned */
	struct virtq_regs *regs; /* borrowed: part of the device's state */
	unsigned queue_count;
	unsigned vectors; /* of MSI-X; 0: it is off for good */
	uint64_t offered;
	bool has_legacy, has_modern;
	struct event *later; /* owned: virtio_notify_later() */
	unsigned window;     /* the PCI configuration access capability */

	/* Guarded by the device's lock. */
	uint32_t device_feature_select;
	uint32_t driver_feature_select;
	uint64_t driver_features; /* as written */
	uint64_t features;        /* as agreed, from driver_features */
	uint16_t queue_select;
	bool legacy; /* the driver has come by the legacy interface */

	/* Guarded by `lock`. */
	struct lock lock;
	uint8_t status;
	uint8_t isr;
	uint8_t generation;
	uint16_t config_vector;
	uint8_t config[VIRTIO_CONFIG_MAX];
};

/* The rows of a device's state table, beside its queues' and MSI-X's. */
#define VIRTIO_STATE(type, member)                            \
	PCI_FUNC_STATE(type, member.func),                    \
	    STATE_INT(type, member.device_feature_select, 0), \
	    STATE_INT(type, member.driver_feature_select, 0), \
	    STATE_INT(type, member.driver_features, 0),       \
	    STATE_INT(type, member.queue_select, 0),          \
	    STATE_BOOL(type, member.legacy, 0),               \
	    STATE_INT(type, member.status, 0),                \
	    STATE_INT_MAX(type, member.isr, 0, 3),            \
	    STATE_INT(type, member.generation, 0),            \
	    STATE_INT(type, member.config_vector, VIRTIO_NO_VECTOR)

/*
 * While creating.  regs and msix are arrays in the device's state, with rows
 * VIRTQ_STATE() and PCI_MSIX_STATE(): `queues` and `queues` + 1 of them.  sizes
 * are the queues', powers of 2.  features are those of the device; the core
 * adds the rings'.
 */
int virtio_init(struct virtio *v, struct device *dev,
    const struct virtio_model *model, unsigned queues, const uint16_t *sizes,
    struct virtq_regs *regs, struct pci_msix_entry *msix, uint64_t features,
    struct err *err);
void virtio_fini(struct virtio *v);

void virtio_reset(struct virtio *v);
void virtio_changed(struct virtio *v);
/* v and regs are those of the copy that was loaded. */
int virtio_check(const struct virtio *v, const struct virtq_regs *regs,
    struct err *err);
void virtio_pause(struct virtio *v);
void virtio_resume(struct virtio *v);

/* The features that driver and device agreed on; 0 before. */
uint64_t virtio_features(const struct virtio *v);

/*
 * The device's configuration.  While creating, or later from any thread: then
 * the driver is told, unless nothing changed.
 */
void virtio_config_set(struct virtio *v, unsigned off, const void *bytes,
    unsigned len);
/* What the driver did itself: it need not be told. */
void virtio_config_set_quiet(struct virtio *v, unsigned off, const void *bytes,
    unsigned len);

/*
 * Have model->notify() called for every queue on the event loop's thread: for a
 * device that has done its share and will go on later.  Any thread.
 */
void virtio_notify_later(struct virtio *v);

#endif
