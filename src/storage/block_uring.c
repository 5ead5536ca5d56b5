/*
 * An io_uring for transfers and flushes.
 *
 * It does what is plain.  Whatever turns out otherwise (a short transfer, a
 * request that failed because the thread that submitted it has ended, a
 * host that wants to be asked again) goes on in the pool, which can wait.
 *
 * Submission   Requests queue in `head` and move to the ring as long as fewer
 *              than RING_DEPTH are there, so that neither of its queues can be
 *              full.  While plugged they only queue.
 * Completion   One thread reaps and calls done().  It does not take the lock, or
 *              it would wait for whoever submits, unless there is a `backlog`:
 *              requests that found no room, or that the kernel would not take.
 *              Who leaves one sets the flag and looks at `busy` after; who reaps
 *              counts `busy` down and looks at the flag after.  One of them goes
 *              on with it.
 * Locking      `lock` guards the submission side and is a leaf.
 * Memory       What a submitter wrote to a request reaches the thread that reaps
 *              it through `busy`, counted up before and down after.
 */
#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "storage/block_impl.h"

#define RING_DEPTH 256
#define REAP_MAX 64

struct ring {
	struct raw *raw; /* borrowed: it owns us */
	struct io_uring uring;
	pthread_t thread;
	_Atomic unsigned busy; /* in the ring or the kernel, not reaped yet */
	_Atomic bool backlog;

	struct lock lock;
	struct block_req *head; /* oldest first, linked by `next` */
	struct block_req **tail;
	unsigned plugs;
};

/* ---- submission --------------------------------------------------------- */

static void
prepare(const struct ring *ring, struct io_uring_sqe *sqe,
    struct block_req *req)
{
	unsigned count = MIN(req->iov_count, (unsigned)IOV_MAX);
	uint64_t offset = req->offset + req->moved;
	int fd = ring->raw->fd;

	switch (req->op) {
	case BLOCK_READ:
		io_uring_prep_readv(sqe, fd, req->iov, count, offset);
		break;
	case BLOCK_WRITE:
		io_uring_prep_writev2(sqe, fd, req->iov, count, offset,
		    req->fua ? RWF_DSYNC : 0);
		break;
	default:
		assert(req->op == BLOCK_FLUSH);
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	}
	io_uring_sqe_set_data(sqe, req);
}

/* Move what there is room for into the ring, and have the kernel take it. */
static void
fill_locked(struct ring *ring)
{
	assert(lock_held(&ring->lock));
	while (ring->head != NULL && atomic_load(&ring->busy) < RING_DEPTH) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
		struct block_req *req = ring->head;

		assert(sqe != NULL);
		ring->head = req->next;
		if (ring->head == NULL)
			ring->tail = &ring->head;
		prepare(ring, sqe, req);
		atomic_fetch_add(&ring->busy, 1);
	}
	while (io_uring_sq_ready(&ring->uring) > 0) {
		int n = io_uring_submit(&ring->uring);

		if (n < 0 && n != -EINTR)
			return;
	}
}

static void
start_locked(struct ring *ring)
{
	for (;;) {
		unsigned left, busy;

		fill_locked(ring);
		left = io_uring_sq_ready(&ring->uring);
		if (ring->head == NULL && left == 0) {
			atomic_store(&ring->backlog, false);
			return;
		}
		atomic_store(&ring->backlog, true);
		busy = atomic_load(&ring->busy);
		if (left > 0 ? busy > left : busy == RING_DEPTH)
			return; /* a completion will go on */
		/* It has made room by now, or the host is out of memory. */
		sched_yield();
	}
}

void
ring_submit(struct ring *ring, struct block_req *req)
{
	lock_take(&ring->lock);
	req->next = NULL;
	*ring->tail = req;
	ring->tail = &req->next;
	if (ring->plugs == 0)
		start_locked(ring);
	lock_drop(&ring->lock);
}

void
ring_plug(struct ring *ring)
{
	lock_take(&ring->lock);
	ring->plugs++;
	lock_drop(&ring->lock);
}

void
ring_unplug(struct ring *ring)
{
	lock_take(&ring->lock);
	assert(ring->plugs > 0);
	ring->plugs--;
	start_locked(ring);
	lock_drop(&ring->lock);
}

/* ---- completion --------------------------------------------------------- */

static void
finish(struct ring *ring, struct block_req *req, int res)
{
	switch (res) {
	case -EINTR:
	case -EAGAIN:
	case -ECANCELED:
	case -EFAULT: /* so do kernels call it that the submitter has ended */
	case -EOPNOTSUPP:
		pool_submit(ring->raw->pool, req);
		return;
	}
	if (res > 0)
		raw_advance(req, (size_t)res);
	if (res < 0 || req->op == BLOCK_FLUSH || req->moved == req->len)
		block_complete(req, raw_result(ring->raw, req, MIN(res, 0)));
	else
		pool_submit(ring->raw->pool, req);
}

static void *
ring_run(void *arg)
{
	struct ring *ring = arg;
	bool stop = false;

	while (!stop) {
		struct io_uring_cqe *cqes[REAP_MAX];
		struct {
			struct block_req *req;
			int res;
		} reaped[REAP_MAX];
		unsigned n;

		/* Woken for nothing there is nothing to reap, and that is all. */
		(void)io_uring_wait_cqe(&ring->uring, &cqes[0]);
		n = io_uring_peek_batch_cqe(&ring->uring, cqes, REAP_MAX);
		for (unsigned i = 0; i < n; i++) {
			reaped[i].req = io_uring_cqe_get_data(cqes[i]);
			reaped[i].res = cqes[i]->res;
		}
		io_uring_cq_advance(&ring->uring, n);
		atomic_fetch_sub(&ring->busy, n);
		if (atomic_load(&ring->backlog)) {
			lock_take(&ring->lock);
			start_locked(ring);
			lock_drop(&ring->lock);
		}
		for (unsigned i = 0; i < n; i++) {
			if (reaped[i].req == NULL)
				stop = true;
			else
				finish(ring, reaped[i].req, reaped[i].res);
		}
	}
	return NULL;
}

/* ---- life --------------------------------------------------------------- */

int
ring_new(struct raw *raw, struct ring **made)
{
	struct ring *ring = xcalloc(1, sizeof(*ring));
	int rc = io_uring_queue_init(RING_DEPTH, &ring->uring, 0);

	if (rc < 0) {
		free(ring);
		return rc;
	}
	ring->raw = raw;
	lock_init(&ring->lock);
	ring->tail = &ring->head;
	rc = block_thread(&ring->thread, ring_run, ring);
	if (rc < 0) {
		io_uring_queue_exit(&ring->uring);
		lock_fini(&ring->lock);
		free(ring);
		return rc;
	}
	*made = ring;
	return 0;
}

void
ring_free(struct ring *ring)
{
	struct io_uring_sqe *sqe;

	if (ring == NULL)
		return;
	lock_take(&ring->lock);
	assert(ring->head == NULL && atomic_load(&ring->busy) == 0);
	sqe = io_uring_get_sqe(&ring->uring);
	io_uring_prep_nop(sqe);
	io_uring_sqe_set_data(sqe, NULL);
	atomic_fetch_add(&ring->busy, 1);
	start_locked(ring);
	lock_drop(&ring->lock);
	pthread_join(ring->thread, NULL);
	io_uring_queue_exit(&ring->uring);
	lock_fini(&ring->lock);
	free(ring);
}
