/*
 * Block back ends: what a virtual disk keeps its sectors in.
 *
 * A disk model opens one from its node of the configuration tree (the keys are
 * block_keys; bhyve_config(5), "Block options") and then submits requests of
 * whole sectors.  Many may be in flight; they finish in any order, so who needs
 * one after the other waits for the first.
 *
 * Durability   A WRITE that is done is seen by every READ submitted later.  It
 *              survives a crash of the host once a FLUSH submitted after it was
 *              done has succeeded, or at once if it has `fua` or the back end
 *              was opened with `direct` or `sync`.  When the host loses what it
 *              had not yet written, that FLUSH fails, and so does every later
 *              one: a guest must not be told that all is well again.
 * Threads      block_open() and block_close() on the loop's thread, or while no
 *              thread runs the loop.  All else from any thread, any lock of the
 *              caller's held that done() does not take.
 * Signals      SIGXFSZ is ignored from the first block_open() on, if it had its
 *              default action: a file at its limit is an error of one request,
 *              not the end of the machine.
 */
#ifndef STORAGE_BLOCK_H
#define STORAGE_BLOCK_H

#include <sys/uio.h>

#include "base/err.h"
#include "config/config.h"
#include "event/event.h"

struct block;

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD,     /* what is there afterwards is anybody's guess */
	BLOCK_WRITE_ZEROES /* reads as zeroes afterwards */
};

/*
 * One request.  The caller's, zeroed at first, lent from block_submit() until it
 * is done; it may be used again then, from done() already.
 */
struct block_req {
	enum block_op op;
	bool fua;   /* WRITE, WRITE_ZEROES: durable when done */
	bool unmap; /* WRITE_ZEROES: may give up the space */
	/* Bytes, in whole logical sectors; FLUSH looks at neither. */
	uint64_t offset;
	uint64_t len;
	/*
	 * READ, WRITE: memory that sums up to len.  Lent with the request, and
	 * changed as the transfer goes on.
	 */
	struct iovec *iov;
	unsigned iov_count;
	/*
	 * On a thread of the back end or on the loop's, holding no lock, or on
	 * that of who drains; never within block_submit().
	 */
	void (*done)(struct block_req *req);
	/*
	 * When done: 0 or a negative errno.  -EINVAL: not whole sectors, or iov
	 * sums up to something else; -ERANGE: beyond the end; -EROFS; -EOPNOTSUPP;
	 * what the host says, as -EIO and -ENOSPC.  Part of the data may have been
	 * transferred.
	 */
	int error;

	/* The back end's own. */
	struct block *block;
	struct block_req *next;
	uint64_t moved; /* bytes of it that are done */
};

struct block_info {
	uint64_t size;   /* bytes, whole logical sectors */
	uint32_t sector; /* logical sector, bytes */
	uint32_t
	    physical;   /* physical sector, bytes: a multiple of the logical */
	bool read_only; /* WRITE, DISCARD and WRITE_ZEROES give -EROFS */
	bool discard;   /* DISCARD works, and giving up space by zeroes */
};

/*
 * Open what `node` describes.  `resized` (may be NULL) runs on the loop's thread
 * after the size in block_info() has changed; never within block_open() or
 * after block_close().
 */
int block_open(struct loop *loop, struct config *node,
    void (*resized)(void *arg), void *arg, struct block **block,
    struct err *err);
/* Waits for what is in flight.  NULL is fine. */
void block_close(struct block *block);

void block_info(struct block *block, struct block_info *info);

/*
 * True: it is done already (data at hand, or an error), req->error says how, and
 * done() is not called.  False: done() is called once, perhaps before this
 * returns.
 */
bool block_submit(struct block *block, struct block_req *req);

/*
 * Requests submitted in between may wait for the unplugging, so that one system
 * call starts them all.  Pairs nest, also those of different threads.
 */
void block_plug(struct block *block);
void block_unplug(struct block *block);

/*
 * Wait until nothing is in flight and the last done() has returned.  Nothing is
 * submitted meanwhile, but what a done() submits: that is waited for, too.  The
 * caller holds no lock that a done() takes, and has not plugged.
 */
void block_drain(struct block *block);

/* The keys of a node that are ours, for device_check_keys(). */
#define BLOCK_KEY_COUNT 22
extern const char *const block_keys[BLOCK_KEY_COUNT];

/* The serial number of a disk that was given none, made from its path. */
#define BLOCK_SERIAL_SIZE 21 /* with the NUL */
void block_serial(const char *path, char serial[BLOCK_SERIAL_SIZE]);

#endif
