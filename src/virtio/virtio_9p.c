/*
 * virtio-9p: a directory of the host as a file system of the guest.
 *
 * Models       Virtio 1.2, section 5.10 (device number 9) and its feature
 *              VIRTIO_9P_MOUNT_TAG: the name of the share in the configuration.
 *              A chain is a request, its readable part, and room for the reply,
 *              its writable part.  What requests mean is src/p9's affair.
 * Differs      a name has 230 bytes at most: with its length and the registers
 *              before it, it fits the 256 ports that PCI 3.0, 6.2.5.1, leaves a
 *              legacy interface.  A request that is no message, or whose room
 *              would not even hold an error, is used with a length of 0.
 * Threads      one of the device's own takes requests from the ring, one after
 *              the other, since files may block: so their order is the
 *              driver's, and a Tflush comes when what it names is answered.
 *              Reset and pause wait for one request at most.
 * Locking      the queue's lock guards `kicked`, `serving` and `stop`.  It is
 *              not held while a request is handled; the chain is the thread's.
 * State        that of the queue.  A session is made of the host's descriptors
 *              and cannot be saved: a restored device begins without one.  What
 *              a guest has mounted fails with errors until it mounts it again,
 *              which suits it better than NEEDS_RESET, after which Linux'
 *              driver waits forever.
 * Invariants   1. Nothing is popped, nor is the ring looked at, unless
 *                 `serving`: what drain() waits for.
 *              2. The share is read-only unless somebody asked for more.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "p9/p9.h"
#include "virtio/virtio.h"

#define P9_QUEUE_SIZE 256u
#define P9_TAG_MAX 230u
#define VIRTIO_9P_MOUNT_TAG BIT(0)

/* 5.10.4. */
struct p9_config {
	le16 tag_len;
	char tag[P9_TAG_MAX];
};
_Static_assert(sizeof(struct p9_config) == 256 - 24, "what 256 ports leave");

struct virtio_9p {
	struct virtio virtio;
	struct virtq_regs queues[1];
	struct pci_msix_entry msix[2];
	struct p9 *server;        /* owned */
	struct virtq_chain chain; /* owned: the thread's */
	pthread_t thread;
	bool has_thread;

	/* Guarded by the queue's lock. */
	pthread_cond_t wake; /* kicked or stop */
	pthread_cond_t idle; /* not serving */
	bool kicked;
	bool serving;
	bool stop;
};

static const struct field virtio_9p_state[] = {
	VIRTIO_STATE(struct virtio_9p, virtio),
	VIRTQ_STATE(struct virtio_9p, queues),
	PCI_MSIX_STATE(struct virtio_9p, msix),
};

/* ---- the thread --------------------------------------------------------- */

/* Bytes of the reply; 0 where there can be none. */
static uint64_t
p9_answer(struct virtio_9p *p9)
{
	const struct virtq_chain *chain = &p9->chain;
	ssize_t len = p9_handle(p9->server, chain->iov, chain->readable,
	    chain->iov + chain->readable, chain->writable);

	return len < 0 ? 0 : (uint64_t)len;
}

/* All that the ring holds, the lock dropped for each. */
static void
p9_serve_locked(struct virtio_9p *p9, struct virtq *vq)
{
	virtq_no_notify(vq);
	while (!p9->stop && virtq_pop(vq, &p9->chain) == 1) {
		uint64_t len;

		lock_drop(&vq->lock);
		len = p9_answer(p9);
		lock_take(&vq->lock);
		virtq_push(vq, &p9->chain, len);
		virtq_notify(vq);
	}
	if (virtq_want_notify(vq))
		p9->kicked = true;
}

static void *
p9_run(void *arg)
{
	struct virtio_9p *p9 = arg;
	struct virtq *vq = &p9->virtio.queues[0];

	lock_take(&vq->lock);
	while (!p9->stop) {
		if (!p9->kicked) {
			lock_wait(&vq->lock, &p9->wake);
			continue;
		}
		p9->kicked = false;
		p9->serving = true;
		p9_serve_locked(p9, vq);
		p9->serving = false;
		pthread_cond_signal(&p9->idle);
	}
	lock_drop(&vq->lock);
	return NULL;
}

static int
p9_start_thread(struct virtio_9p *p9, struct err *err)
{
	sigset_t all, old;
	int rc;

	/* Signals are for the event loop. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&p9->thread, NULL, p9_run, p9);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return err_set_errno(err, -rc, "cannot make a thread");
	p9->has_thread = true;
	return 0;
}

static void
p9_stop_thread(struct virtio_9p *p9)
{
	struct lock *lock;

	if (!p9->has_thread)
		return;
	lock = &p9->virtio.queues[0].lock;
	lock_take(lock);
	p9->stop = true;
	pthread_cond_signal(&p9->wake);
	lock_drop(lock);
	pthread_join(p9->thread, NULL);
}

/* ---- virtio ------------------------------------------------------------- */

static void
p9_notify(void *self, struct virtq *vq)
{
	struct virtio_9p *p9 = self;

	assert(lock_held(&vq->lock));
	p9->kicked = true;
	pthread_cond_signal(&p9->wake);
}

/* The queue is held, so there is nothing to be kicked for, either. */
static void
p9_drain(void *self)
{
	struct virtio_9p *p9 = self;
	struct virtq *vq = &p9->virtio.queues[0];

	lock_take(&vq->lock);
	p9->kicked = false;
	while (p9->serving)
		lock_wait(&vq->lock, &p9->idle);
	lock_drop(&vq->lock);
}

static void
p9_forget(void *self)
{
	struct virtio_9p *p9 = self;

	p9_reset(p9->server);
}

static const struct virtio_model p9_virtio = {
	.type = 9,
	.transitional_id = 0x1009,
	.class = 0x01,
	.subclass = 0x80,
	.config_size = sizeof(struct p9_config),
	.notify = p9_notify,
	.drain = p9_drain,
	.reset = p9_forget,
};

/* ---- the device --------------------------------------------------------- */

static int
p9_set_tag(struct virtio_9p *p9, struct config *node, struct err *err)
{
	struct p9_config config = { 0 };
	char *tag;
	size_t len;
	int rc = config_str(node, "sharename", NULL, &tag, err);

	if (rc < 0)
		return rc;
	if (tag == NULL)
		return err_set(err, -EINVAL, "virtio-9p: share name required");
	len = strlen(tag);
	if (len > sizeof(config.tag)) {
		free(tag);
		return err_set(err, -EINVAL,
		    "virtio-9p: share name too long: at most %zu bytes",
		    sizeof(config.tag));
	}
	config.tag_len = le16_make((uint16_t)len);
	memcpy(config.tag, tag, len);
	free(tag);
	virtio_config_set(&p9->virtio, 0, &config, sizeof(config));
	return 0;
}

static int
p9_open_share(struct virtio_9p *p9, struct config *node, struct err *err)
{
	char *path;
	bool ro;
	int rc = config_bool(node, "ro", true, &ro, err);

	if (rc < 0)
		return rc;
	rc = config_str(node, "path", NULL, &path, err);
	if (rc < 0)
		return rc;
	if (path == NULL)
		return err_set(err, -EINVAL, "virtio-9p: path required");
	rc = p9_open(path, !ro, P9_MSIZE_MAX, &p9->server, err);
	free(path);
	return rc < 0 ? config_err_place(node, err, rc) : rc;
}

static int
p9_create(struct device *dev, void *self, struct err *err)
{
	static const char *const keys[] = { "device", "path", "pcireg", "ro",
		"sharename" };
	static const uint16_t size = P9_QUEUE_SIZE;
	struct virtio_9p *p9 = self;
	struct config *node = device_config(dev);
	int rc = device_check_keys(dev, keys, ARRAY_SIZE(keys), err);

	pthread_cond_init(&p9->wake, NULL);
	pthread_cond_init(&p9->idle, NULL);
	virtq_chain_init(&p9->chain, size);
	if (rc == 0)
		rc = virtio_init(&p9->virtio, dev, &p9_virtio, 1, &size,
		    p9->queues, p9->msix, VIRTIO_9P_MOUNT_TAG, err);
	if (rc == 0)
		rc = p9_set_tag(p9, node, err);
	if (rc == 0)
		rc = p9_open_share(p9, node, err);
	if (rc == 0)
		rc = p9_start_thread(p9, err);
	return rc;
}

static void
p9_device_reset(void *self)
{
	struct virtio_9p *p9 = self;

	virtio_reset(&p9->virtio);
}

/* Also after a load, when the session is the one from before. */
static void
p9_changed(void *self)
{
	struct virtio_9p *p9 = self;

	p9_reset(p9->server);
	virtio_changed(&p9->virtio);
}

static int
p9_check(const void *self, struct err *err)
{
	const struct virtio_9p *p9 = self;

	return virtio_check(&p9->virtio, p9->queues, err);
}

static void
p9_pause(void *self)
{
	struct virtio_9p *p9 = self;

	virtio_pause(&p9->virtio);
}

static void
p9_resume(void *self)
{
	struct virtio_9p *p9 = self;

	virtio_resume(&p9->virtio);
}

static void
p9_destroy(void *self)
{
	struct virtio_9p *p9 = self;

	p9_stop_thread(p9);
	virtio_fini(&p9->virtio);
	p9_close(p9->server);
	virtq_chain_fini(&p9->chain);
	pthread_cond_destroy(&p9->wake);
	pthread_cond_destroy(&p9->idle);
}

DEVICE_MODEL(virtio_9p) = {
	.name = "virtio-9p",
	.state_version = 1,
	.size = sizeof(struct virtio_9p),
	STATE_TABLE(virtio_9p_state),
	.unlocked = true, /* see virtio.h */
	.pci_help = "virtio file system: a directory of the host",
	.create = p9_create,
	.pause = p9_pause,
	.resume = p9_resume,
	.reset = p9_device_reset,
	.changed = p9_changed,
	.check = p9_check,
	.destroy = p9_destroy,
};
