/*
 * Limits of what a disk may do in a second, in front of any back end.
 *
 * Buckets      Each limit is one, kept as a time: `full`, when it will have run
 *              full again.  A request may go when all of its buckets are no
 *              emptier than their depth allows, and then pushes each `full` on
 *              by its cost.  So a request of any size goes some time, and what
 *              it took too much the next ones pay for.
 * Queues       Reads wait for reads, the others for the others, each in order: a
 *              limit of writes does not stop reads.  FLUSH moves nothing and is
 *              not held; who sent it has waited for his writes before.
 * Draining     lets all go at once.  What they cost is still to be paid after.
 * Locking      `lock` guards everything and is a leaf, but for the loop's own.
 *              Requests go on to the back end without it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "storage/block_impl.h"

/* So deep is a bucket that is not told: what may come at once after a rest. */
#define DEPTH_NS (NS_PER_SEC / 10)

/* Whatever the cost, a bucket is full within an hour after it. */
#define COST_MAX_NS (3600 * NS_PER_SEC)

#define RATE_MAX (1ULL << 50)

enum { WHICH_READ = 1, WHICH_WRITE = 2 };

static const struct limit_kind {
	const char *key;
	const char *burst;
	bool bytes;
	unsigned which; /* requests that it counts */
} kinds[] = {
	{ "iops", "iops_burst", false, WHICH_READ | WHICH_WRITE },
	{ "iops_rd", "iops_rd_burst", false, WHICH_READ },
	{ "iops_wr", "iops_wr_burst", false, WHICH_WRITE },
	{ "bps", "bps_burst", true, WHICH_READ | WHICH_WRITE },
	{ "bps_rd", "bps_rd_burst", true, WHICH_READ },
	{ "bps_wr", "bps_wr_burst", true, WHICH_WRITE },
};

struct bucket {
	uint64_t rate;     /* a second; 0: no limit */
	uint64_t depth_ns; /* how long it takes to fill */
	uint64_t full;     /* when it has, CLOCK_MONOTONIC */
};

struct queue {
	struct block_req *head; /* oldest first, linked by `next` */
	struct block_req **tail;
};

struct limit {
	struct block *block; /* borrowed: it owns us */
	struct event *timer;
	struct lock lock;
	struct bucket buckets[ARRAY_SIZE(kinds)];
	struct queue reads, others;
};

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/*
 * How long a bucket of this rate takes for so much.  Rounded down, so that the
 * parts of a burst take no longer than the whole.
 */
static uint64_t
cost_ns(uint64_t amount, uint64_t rate)
{
	__uint128_t ns = (__uint128_t)amount * NS_PER_SEC / rate;

	return ns > COST_MAX_NS ? COST_MAX_NS : (uint64_t)ns;
}

/* Does it pay into such a bucket?  Discards and zeroes are no bytes. */
static bool
counts(const struct limit_kind *kind, const struct block_req *req)
{
	if (kind->bytes && req->op != BLOCK_READ && req->op != BLOCK_WRITE)
		return false;
	return kind->which & (req->op == BLOCK_READ ? WHICH_READ : WHICH_WRITE);
}

/* When may it go? */
static uint64_t
due_locked(struct limit *limit, const struct block_req *req)
{
	uint64_t due = 0;

	assert(lock_held(&limit->lock));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		const struct bucket *b = &limit->buckets[i];

		if (b->rate != 0 && counts(&kinds[i], req) &&
		    b->full > b->depth_ns)
			due = MAX(due, b->full - b->depth_ns);
	}
	return due;
}

static void
charge_locked(struct limit *limit, const struct block_req *req, uint64_t now)
{
	assert(lock_held(&limit->lock));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct bucket *b = &limit->buckets[i];

		if (b->rate != 0 && counts(&kinds[i], req))
			b->full = MAX(b->full, now) +
			    cost_ns(kinds[i].bytes ? req->len : 1, b->rate);
	}
}

/* Be back when the first of a queue may go. */
static void
arm_locked(struct limit *limit, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	assert(lock_held(&limit->lock));
	if (limit->reads.head != NULL)
		next = due_locked(limit, limit->reads.head);
	if (limit->others.head != NULL)
		next = MIN(next, due_locked(limit, limit->others.head));
	if (next != UINT64_MAX)
		event_arm(limit->timer, next > now ? next - now : 1, 0);
}

/* The first of the queue, if it may go now or must. */
static struct block_req *
take_locked(struct limit *limit, struct queue *queue, bool must, uint64_t now)
{
	struct block_req *req = queue->head;

	assert(lock_held(&limit->lock));
	if (req == NULL || (!must && due_locked(limit, req) > now))
		return NULL;
	queue->head = req->next;
	if (queue->head == NULL)
		queue->tail = &queue->head;
	charge_locked(limit, req, now);
	return req;
}

/* Send on what may go, or all of it. */
static void
let_go(struct limit *limit, bool all)
{
	struct block *block = limit->block;
	struct block_req *req;

	do {
		uint64_t now = now_ns();

		lock_take(&limit->lock);
		req = take_locked(limit, &limit->reads, all, now);
		if (req == NULL)
			req = take_locked(limit, &limit->others, all, now);
		if (req == NULL)
			arm_locked(limit, now);
		lock_drop(&limit->lock);
		if (req != NULL && block->ops->submit(block->own, req))
			block_complete(req, req->error);
	} while (req != NULL);
}

static void
on_timer(void *arg, uint64_t expirations)
{
	let_go(arg, false);
}

bool
limit_pass(struct limit *limit, struct block_req *req)
{
	struct queue *queue =
	    req->op == BLOCK_READ ? &limit->reads : &limit->others;
	uint64_t now = now_ns();
	bool pass;

	if (req->op == BLOCK_FLUSH)
		return true;
	lock_take(&limit->lock);
	/* Who drains has set the flag before he takes the lock to empty us. */
	pass = atomic_load(&limit->block->draining) != 0 ||
	    (queue->head == NULL && due_locked(limit, req) <= now);
	if (pass) {
		charge_locked(limit, req, now);
	} else {
		req->next = NULL;
		*queue->tail = req;
		queue->tail = &req->next;
		if (queue->head == req)
			arm_locked(limit, now);
	}
	lock_drop(&limit->lock);
	return pass;
}

void
limit_let_go(struct limit *limit)
{
	let_go(limit, true);
}

/* ---- life --------------------------------------------------------------- */

static int
read_amount(struct config *node, const char *key, uint64_t *amount,
    struct err *err)
{
	char *text;
	int rc = config_str(node, key, NULL, &text, err);

	if (rc < 0 || text == NULL)
		return rc;
	if (parse_size(text, amount) < 0 || *amount == 0 || *amount > RATE_MAX)
		rc = block_key_err(node, key, err, -EINVAL,
		    "'%s': not a number from 1 to 1024T", text);
	free(text);
	return rc;
}

static int
read_bucket(struct config *node, const struct limit_kind *kind,
    struct bucket *bucket, struct err *err)
{
	uint64_t burst = 0;
	int rc = read_amount(node, kind->key, &bucket->rate, err);

	if (rc == 0)
		rc = read_amount(node, kind->burst, &burst, err);
	if (rc < 0)
		return rc;
	if (burst != 0 && bucket->rate == 0)
		return block_key_err(node, kind->burst, err, -EINVAL,
		    "there is no %s", kind->key);
	/* One more goes when it is as empty as its depth. */
	bucket->depth_ns = DEPTH_NS;
	if (burst != 0)
		bucket->depth_ns = cost_ns(burst - 1, bucket->rate);
	return 0;
}

int
limit_new(struct block *block, struct loop *loop, struct config *node,
    struct limit **made, struct err *err)
{
	struct limit *limit = xcalloc(1, sizeof(*limit));
	bool any = false;
	int rc = 0;

	limit->block = block;
	lock_init(&limit->lock);
	limit->reads.tail = &limit->reads.head;
	limit->others.tail = &limit->others.head;
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(kinds); i++) {
		rc = read_bucket(node, &kinds[i], &limit->buckets[i], err);
		any = any || limit->buckets[i].rate != 0;
	}
	if (rc == 0 && any)
		rc = event_add_timer(loop, on_timer, limit, &limit->timer, err);
	if (rc < 0 || !any) {
		limit_free(limit);
		return rc;
	}
	*made = limit;
	return 0;
}

void
limit_free(struct limit *limit)
{
	if (limit == NULL)
		return;
	assert(limit->reads.head == NULL && limit->others.head == NULL);
	event_remove(limit->timer);
	lock_fini(&limit->lock);
	free(limit);
}
