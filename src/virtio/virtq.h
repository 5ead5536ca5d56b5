/*
 * Virtqueues: how a driver hands buffers to a device and gets them back.
 *
 * A device pops chains of buffers and pushes them back used, in any order,
 * without knowing whether the ring is split or packed.  Everything that a
 * chain names was checked before a device sees it: buffers lie in RAM, each in
 * one region, those to be read come before those to be written.
 *
 * A ring that breaks the rules is broken until the next reset: popping fails,
 * pushing does nothing, and the transport was told once (`broken`).
 *
 * Threads      Every call but virtq_init() and virtq_fini() is made with the
 *              queue's lock held; `interrupt` and `broken` are called under it.
 *              It nests inside the device's lock, so a completion on a back
 *              end's thread takes this one alone.
 */
#ifndef VIRTIO_VIRTQ_H
#define VIRTIO_VIRTQ_H

#include <stdatomic.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/lock.h"
#include "mem/mem.h"

#define VIRTQ_SIZE_MAX 32768u

/* Feature bits of the rings, Virtio 1.2, chapter 6; 24 is legacy's, 6.3. */
#define VIRTIO_F_NOTIFY_ON_EMPTY BIT(24)
#define VIRTIO_F_ANY_LAYOUT BIT(27)
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX BIT(29)
#define VIRTIO_F_VERSION_1 BIT(32)
#define VIRTIO_F_RING_PACKED BIT(34)

/*
 * What a saved state holds of a queue: the driver's registers and the place in
 * the ring.  All are 64 bits wide, so that an array of queues is an array of
 * integers for the state table (VIRTQ_STATE).
 */
struct virtq_regs {
	uint64_t desc, driver, device; /* addresses of the three areas */
	uint64_t size;
	uint64_t vector;
	uint64_t enabled;
	/*
	 * The next slot to pop, and to push.  Split: 16-bit counts.  Packed: a
	 * slot, and bit 15 says which way the wrap counter stands.
	 */
	uint64_t avail, used;
	uint64_t unsignalled; /* slots pushed since the last virtq_notify() */
};
#define VIRTQ_REGS (sizeof(struct virtq_regs) / sizeof(uint64_t))

/* A row of a state table for `struct virtq_regs member[n]`. */
#define VIRTQ_STATE(type, member)                                       \
	{                                                               \
		.kind = FIELD_INT, .size = sizeof(uint64_t),            \
		.count = FIELD_SIZE(type, member) / (sizeof(uint64_t)), \
		.offset = offsetof(type, member), .max = UINT64_MAX,    \
		.name = #member                                         \
	}

struct virtq;

struct virtq_ops {
	/* The driver wants to know that buffers were used. */
	void (*interrupt)(struct virtq *vq);
	/* The driver broke the rules: why, for the log. */
	void (*broken)(struct virtq *vq, const char *why);
};

struct virtq {
	struct lock lock;
	struct mem *mem;             /* borrowed */
	struct virtq_regs *regs;     /* borrowed: fields of the device */
	const struct virtq_ops *ops; /* borrowed: constant */
	void *arg;                   /* for the transport */
	unsigned index;
	uint16_t size_max; /* and its size after reset */

	/* The rest is set by virtq_start(). */
	bool running;
	bool failed;
	bool held; /* pops nothing; survives start and stop */
	bool packed, indirect, event_idx, notify_on_empty;
	uint16_t size;
	uint32_t in_flight; /* slots popped and not pushed */
	const uint8_t *desc_read;
	uint8_t *desc; /* packed only: used descriptors are written there */
	const uint8_t *driver;
	uint8_t *device;
	_Atomic unsigned barrier; /* see virtq_barrier() */
};

/* A chain popped, its arrays made once with virtq_chain_init(). */
struct virtq_chain {
	unsigned max;
	struct iovec *iov; /* owned: readable buffers, then writable ones */
	gpa_t *gpa;        /* owned: their addresses */
	unsigned readable, writable; /* how many of each */
	uint64_t readable_len, writable_len;
	uint16_t id;
	uint16_t slots; /* of the ring */
};

/* Room for chains of up to `max` buffers; the size of the queue is enough. */
void virtq_chain_init(struct virtq_chain *chain, unsigned max);
void virtq_chain_fini(struct virtq_chain *chain);

/* regs and ops outlive the queue; size_max is what the driver may not exceed. */
void virtq_init(struct virtq *vq, struct mem *mem, struct virtq_regs *regs,
    uint16_t size_max, const struct virtq_ops *ops, void *arg, unsigned index);
void virtq_fini(struct virtq *vq);

/* Registers as after reset; stops. */
void virtq_reset(struct virtq *vq);
/*
 * Take up the rings where regs say, with the features that were negotiated.
 * Areas that no driver could mean break the queue.
 */
void virtq_start(struct virtq *vq, uint64_t features);
/* Nothing is popped or pushed from here on. */
void virtq_stop(struct virtq *vq);
/* While held nothing is popped; what was popped may be pushed. */
void virtq_hold(struct virtq *vq, bool held);
/*
 * Could saved registers have been saved?  Nothing is in flight in a saved
 * queue: devices finish or unpop what they hold before.
 */
int virtq_check(const struct virtq_regs *regs, uint16_t size_max,
    uint64_t features, unsigned index, struct err *err);

/*
 * Take the next chain: 1; 0: there is none, or the queue is held; -EPROTO: it is
 * broken or stopped.
 */
int virtq_pop(struct virtq *vq, struct virtq_chain *chain);
/* Give the last chain popped and not pushed back, to be popped again. */
void virtq_unpop(struct virtq *vq, const struct virtq_chain *chain);
/*
 * Hand a chain back: the first `written` bytes of its writable part were
 * written; they are marked dirty here.
 */
void virtq_push(struct virtq *vq, const struct virtq_chain *chain,
    uint64_t written);
/*
 * The same for several at once, in their order: a driver that finds the first
 * finds them all.
 */
void virtq_push_all(struct virtq *vq, const struct virtq_chain *chains,
    const uint64_t *written, unsigned n);
/* After pushing one or several: interrupt, if the driver wants one. */
void virtq_notify(struct virtq *vq);
/* For a device that refuses a chain's contents: breaks the queue. */
void virtq_fail(struct virtq *vq, const char *why);

/*
 * Ask the driver to notify us of new buffers, or not to trouble.  True from
 * the first: there are some already, which no notification will tell of.
 */
bool virtq_want_notify(struct virtq *vq);
void virtq_no_notify(struct virtq *vq);
/* Is there a chain to pop? */
bool virtq_pending(struct virtq *vq);

/*
 * Copy from the readable part of a chain, or to its writable one, beginning
 * `off` bytes into it.  False if it is too short: then nothing is copied.
 */
bool virtq_read(const struct virtq_chain *chain, uint64_t off, void *buf,
    uint64_t len);
bool virtq_write(const struct virtq_chain *chain, uint64_t off, const void *buf,
    uint64_t len);
/*
 * The memory of len bytes, `off` bytes into the writable or the readable part,
 * which has them.  iov has room for all of the chain; how many were used.
 */
unsigned virtq_slice(const struct virtq_chain *chain, bool writable,
    uint64_t off, uint64_t len, struct iovec *iov);

#endif
