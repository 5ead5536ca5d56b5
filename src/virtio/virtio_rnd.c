/*
 * virtio-rnd: entropy for guests.
 *
 * Models       Virtio 1.2, section 5.4: one queue of buffers to be filled.  The
 *              host's getrandom(2) is behind it, and does not block once the
 *              host has booted.
 * Limits       a request gets REQUEST_MAX bytes at most, a notification serves
 *              as many as the queue holds: what remains is for the loop's
 *              thread.  Fewer bytes than asked for are what 5.4.6.1 allows.
 * Locking      the queue's lock, held in notify; nothing is ever in flight.
 */
#include <errno.h>
#include <sys/random.h>

#include "virtio/virtio.h"

#define RND_QUEUE_SIZE 64u
#define RND_REQUEST_MAX (64 * KIB)

struct virtio_rnd {
	struct virtio virtio;
	struct virtq_regs queues[1];
	struct pci_msix_entry msix[2];
	struct virtq_chain chain; /* owned */
};

static const struct field virtio_rnd_state[] = {
	VIRTIO_STATE(struct virtio_rnd, virtio),
	VIRTQ_STATE(struct virtio_rnd, queues),
	PCI_MSIX_STATE(struct virtio_rnd, msix),
};

/* Bytes written; fewer than there is room for, if need be. */
static uint64_t
rnd_fill(const struct virtq_chain *chain)
{
	uint64_t left = MIN(chain->writable_len, RND_REQUEST_MAX), done = 0;

	for (unsigned i = chain->readable; left != 0; i++) {
		uint64_t len = MIN(left, chain->iov[i].iov_len);
		ssize_t got = getrandom(chain->iov[i].iov_base, len, 0);

		/* Interrupted, which a driver takes for a short answer. */
		if (got < 0)
			break;
		done += (uint64_t)got;
		left -= (uint64_t)got;
		if ((uint64_t)got < len)
			break;
	}
	return done;
}

static void
rnd_notify(void *self, struct virtq *vq)
{
	struct virtio_rnd *rnd = self;
	unsigned served = 0;

	while (served < RND_QUEUE_SIZE && virtq_pop(vq, &rnd->chain) == 1) {
		virtq_push(vq, &rnd->chain, rnd_fill(&rnd->chain));
		served++;
	}
	virtq_notify(vq);
	if (virtq_want_notify(vq))
		virtio_notify_later(&rnd->virtio);
}

static const struct virtio_model rnd_virtio = {
	.type = 4,
	.transitional_id = 0x1005,
	.class = 0x10,
	.notify = rnd_notify,
};

static int
rnd_create(struct device *dev, void *self, struct err *err)
{
	static const char *const keys[] = { "device", "pcireg" };
	static const uint16_t size = RND_QUEUE_SIZE;
	struct virtio_rnd *rnd = self;
	int rc = device_check_keys(dev, keys, ARRAY_SIZE(keys), err);

	if (rc < 0)
		return rc;
	virtq_chain_init(&rnd->chain, size);
	return virtio_init(&rnd->virtio, dev, &rnd_virtio, 1, &size,
	    rnd->queues, rnd->msix, 0, err);
}

static void
rnd_reset(void *self)
{
	struct virtio_rnd *rnd = self;

	virtio_reset(&rnd->virtio);
}

static void
rnd_changed(void *self)
{
	struct virtio_rnd *rnd = self;

	virtio_changed(&rnd->virtio);
}

static int
rnd_check(const void *self, struct err *err)
{
	const struct virtio_rnd *rnd = self;

	return virtio_check(&rnd->virtio, rnd->queues, err);
}

static void
rnd_pause(void *self)
{
	struct virtio_rnd *rnd = self;

	virtio_pause(&rnd->virtio);
}

static void
rnd_resume(void *self)
{
	struct virtio_rnd *rnd = self;

	virtio_resume(&rnd->virtio);
}

static void
rnd_destroy(void *self)
{
	struct virtio_rnd *rnd = self;

	virtio_fini(&rnd->virtio);
	virtq_chain_fini(&rnd->chain);
}

DEVICE_MODEL(virtio_rnd) = {
	.name = "virtio-rnd",
	.state_version = 1,
	.size = sizeof(struct virtio_rnd),
	STATE_TABLE(virtio_rnd_state),
	.unlocked = true, /* see virtio.h */
	.pci_help = "virtio entropy source",
	.create = rnd_create,
	.pause = rnd_pause,
	.resume = rnd_resume,
	.reset = rnd_reset,
	.changed = rnd_changed,
	.check = rnd_check,
	.destroy = rnd_destroy,
};
