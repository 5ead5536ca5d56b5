/*
 * A pool of threads that do requests, each waiting for its own.
 *
 * Locking      `lock` guards the queue and is a leaf; it is not held while a
 *              request is done.
 * Plugging     queued requests are there for any thread that comes by; only the
 *              waking of those that sleep is put off.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "storage/block_impl.h"

struct pool {
	struct raw *raw; /* borrowed: it owns us */
	struct lock lock;
	pthread_cond_t more;
	struct block_req *head; /* oldest first, linked by `next` */
	struct block_req **tail;
	unsigned idle;    /* threads that sleep */
	unsigned unwoken; /* queued while plugged */
	unsigned plugs;
	bool stop;

	unsigned count;
	struct worker {
		struct pool *pool;
		pthread_t thread;
		void *bounce; /* owned, BOUNCE_SIZE; made when first needed */
	} * workers;          /* owned */
};

int
block_thread(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(thread, NULL, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

/* Without memory for a bounce buffer a request fails, not the machine. */
static int
do_one(struct worker *worker, struct block_req *req)
{
	struct raw *raw = worker->pool->raw;

	if (worker->bounce == NULL && raw_unaligned(raw, req)) {
		worker->bounce = aligned_alloc(4096, BOUNCE_SIZE);
		if (worker->bounce == NULL)
			return -ENOMEM;
	}
	return raw_do(raw, req, worker->bounce);
}

static void *
worker_run(void *arg)
{
	struct worker *worker = arg;
	struct pool *pool = worker->pool;

	lock_take(&pool->lock);
	for (;;) {
		struct block_req *req = pool->head;

		if (req != NULL) {
			pool->head = req->next;
			if (pool->head == NULL)
				pool->tail = &pool->head;
			lock_drop(&pool->lock);
			block_complete(req, do_one(worker, req));
			lock_take(&pool->lock);
			continue;
		}
		if (pool->stop)
			break;
		pool->idle++;
		lock_wait(&pool->lock, &pool->more);
		pool->idle--;
	}
	lock_drop(&pool->lock);
	return NULL;
}

int
pool_new(struct raw *raw, unsigned threads, struct pool **made, struct err *err)
{
	struct pool *pool = xcalloc(1, sizeof(*pool));
	int rc;

	pool->raw = raw;
	lock_init(&pool->lock);
	pthread_cond_init(&pool->more, NULL);
	pool->tail = &pool->head;
	pool->workers = xcalloc(threads, sizeof(*pool->workers));
	while (pool->count < threads) {
		struct worker *worker = &pool->workers[pool->count];

		worker->pool = pool;
		rc = block_thread(&worker->thread, worker_run, worker);
		if (rc < 0) {
			pool_free(pool);
			return err_set_errno(err, rc,
			    "%s: cannot make a thread", raw->path);
		}
		pool->count++;
	}
	*made = pool;
	return 0;
}

void
pool_free(struct pool *pool)
{
	if (pool == NULL)
		return;
	lock_take(&pool->lock);
	assert(pool->head == NULL);
	pool->stop = true;
	pthread_cond_broadcast(&pool->more);
	lock_drop(&pool->lock);
	for (unsigned i = 0; i < pool->count; i++) {
		pthread_join(pool->workers[i].thread, NULL);
		free(pool->workers[i].bounce);
	}
	free(pool->workers);
	pthread_cond_destroy(&pool->more);
	lock_fini(&pool->lock);
	free(pool);
}

void
pool_submit(struct pool *pool, struct block_req *req)
{
	lock_take(&pool->lock);
	req->next = NULL;
	*pool->tail = req;
	pool->tail = &req->next;
	if (pool->plugs > 0)
		pool->unwoken++;
	else if (pool->idle > 0)
		pthread_cond_signal(&pool->more);
	lock_drop(&pool->lock);
}

void
pool_plug(struct pool *pool)
{
	lock_take(&pool->lock);
	pool->plugs++;
	lock_drop(&pool->lock);
}

void
pool_unplug(struct pool *pool)
{
	unsigned wake;

	lock_take(&pool->lock);
	assert(pool->plugs > 0);
	pool->plugs--;
	wake = MIN(pool->unwoken, pool->idle);
	pool->unwoken = 0;
	while (wake-- > 0)
		pthread_cond_signal(&pool->more);
	lock_drop(&pool->lock);
}
