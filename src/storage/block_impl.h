/*
 * Within src/storage: what block.c knows of a back end, and the parts that the
 * raw one is made of.
 *
 *      block.c           checks, counts what is in flight, drains
 *      block_limit.c     limits, in front of any back end
 *      block_raw.c       opens a file or device; keys, sectors, lock, size
 *      block_io.c        does one request, whatever it is, waiting for it
 *      block_threads.c   a pool of threads that do so
 *      block_uring.c     an io_uring for what is plain; the pool does the rest
 *      block_nbd.c       the export of an NBD server, in place of a raw one
 */
#ifndef STORAGE_BLOCK_IMPL_H
#define STORAGE_BLOCK_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "storage/block.h"

/* A kind of back end. */
struct block_ops {
	/*
	 * A request that has passed the checks and is counted.  True: done
	 * already, req->error is set.  False: block_complete() is or will be
	 * called.
	 */
	bool (*submit)(void *own, struct block_req *req);
	void (*plug)(void *own);
	void (*unplug)(void *own);
	/* It is being closed: what waits for something may as well fail. */
	void (*hurry)(void *own);   /* or NULL */
	void (*destroy)(void *own); /* nothing is in flight; NULL is fine */
};

struct block {
	const struct block_ops *ops;
	void *own; /* owned: the back end's */
	/* Fixed once open; but for the size. */
	struct block_info info;
	_Atomic uint64_t size; /* stored by the loop's thread */
	struct limit *limit;   /* owned, or NULL */
	void (*resized)(void *arg);
	void *arg;

	_Atomic unsigned in_flight;
	_Atomic unsigned draining; /* so many wait for it to be 0 */
	struct lock lock;
	pthread_cond_t idle;
};

/* A back end has done a request.  No lock may be held. */
void block_complete(struct block_req *req, int error);

/* The loop's thread: the size is now this many bytes, if it was not before. */
void block_set_size(struct block *block, uint64_t size);

/* "path.of.node.key: ", what all complaints about a key begin with. */
int block_key_err(struct config *node, const char *key, struct err *err,
    int code, const char *fmt, ...) PRINTF_LIKE(5, 6);

/*
 * "rig:NAME" in programs that block_rig.c is linked with, which are device tests
 * (block_rig.h).  Elsewhere there is no such function.
 */
int block_rig_open(struct block *block, const char *name, struct err *err)
    __attribute__((weak));

/* ---- limits ------------------------------------------------------------- */

struct limit;

/* *limit stays as it is where the node sets none. */
int limit_new(struct block *block, struct loop *loop, struct config *node,
    struct limit **limit, struct err *err);
void limit_free(struct limit *limit); /* nothing waits; NULL is fine */
/* May it go to the back end?  If not, it goes there in its time. */
bool limit_pass(struct limit *limit, struct block_req *req);
/* With block->draining set: send on what waits, by the calling thread. */
void limit_let_go(struct limit *limit);

/* What `sectorsize` says, checked; both 0 where it is not given. */
#define BLOCK_SECTOR_MIN 512u
#define BLOCK_SECTOR_MAX (1 * MIB)
struct block_sectors {
	uint32_t logical;
	uint32_t physical;
};
int block_read_sectors(struct config *node, struct block_sectors *sectors,
    struct err *err);

/* ---- others ------------------------------------------------------------- */

/* A server's export, by its URI.  -ENOTSUP: this program was built without. */
int remote_open(struct block *block, struct config *node, struct err *err);

/* ---- raw ---------------------------------------------------------------- */

/* Memory of one thread for transfers that the host wants aligned. */
#define BOUNCE_SIZE (256 * KIB)

struct raw {
	struct block *block; /* borrowed: it owns us */
	struct loop *loop;   /* borrowed: outlives every back end */
	char *path;          /* owned */
	int fd;
	bool device;        /* a block device, else a regular file */
	bool sync;          /* every write is durable */
	bool discard;       /* as in struct block_info */
	bool no_cache;      /* O_DIRECT, which wants ... */
	uint32_t align_mem; /* ... memory at multiples of this */
	uint32_t align_io;  /* ... and pieces of it of this size */

	/* What the host turned out not to know is not tried again. */
	_Atomic bool no_fast_read;
	_Atomic bool no_fast_write;
	_Atomic bool no_zero_range;
	_Atomic bool no_punch;
	_Atomic int lost; /* the error of the first flush that failed */

	int watch; /* inotify, or -1 */
	struct event *watch_event;
	struct event *timer;

	struct pool *pool;
	struct ring *ring; /* or NULL: all goes to the pool */
};

int raw_open(struct block *block, struct loop *loop, struct config *node,
    struct err *err);

/* Within block_submit(): what needs no waiting.  True if that was all of it. */
bool raw_do_now(struct raw *raw, struct block_req *req);
/* Do what is left of it.  `bounce` is BOUNCE_SIZE bytes, page-aligned. */
int raw_do(struct raw *raw, struct block_req *req, void *bounce);
/* Must a transfer go through the bounce buffer? */
bool raw_unaligned(const struct raw *raw, const struct block_req *req);
/* n more bytes are done. */
void raw_advance(struct block_req *req, size_t n);
/* A request has ended so on the host: what to tell the guest. */
int raw_result(struct raw *raw, const struct block_req *req, int error);

/* ---- engines ------------------------------------------------------------ */

struct pool;

int pool_new(struct raw *raw, unsigned threads, struct pool **pool,
    struct err *err);
void pool_free(struct pool *pool); /* nothing is queued; NULL is fine */
void pool_submit(struct pool *pool, struct block_req *req);
void pool_plug(struct pool *pool);
void pool_unplug(struct pool *pool);

/* Every thread of ours: signals are for others. */
int block_thread(pthread_t *thread, void *(*fn)(void *arg), void *arg);

struct ring;

/* The errno of the host, or -ENOTSUP: this program was built without. */
int ring_new(struct raw *raw, struct ring **ring);
void ring_free(struct ring *ring); /* nothing is in flight; NULL is fine */
void ring_submit(struct ring *ring, struct block_req *req);
void ring_plug(struct ring *ring);
void ring_unplug(struct ring *ring);

#endif
