/*
 * One request on a file or device, by the calling thread: without waiting where
 * the host's page cache has what it takes, else for as long as it takes.
 *
 * Transfers    go on after a short one until all is moved.  A read that finds
 *              the end of the file is an error: the file was longer before.
 * Alignment    O_DIRECT wants memory aligned, and a guest may name any.  Such a
 *              transfer goes through the caller's bounce buffer, piece by piece.
 * Lost writes  The kernel tells one fsync of a failed write-back and then counts
 *              the pages as clean.  So the first failure is remembered and given
 *              to every later flush; a durable write that fails with EIO may
 *              have been that messenger, too.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "storage/block_impl.h"

/* Copying more than this is for a thread that is not a vCPU. */
#define FAST_READ_MAX (128 * KIB)
#define FAST_WRITE_MAX (64 * KIB)

/* How often the host may say "again" to one request that may wait. */
#define AGAIN_MAX 1000

/* Zeroes are written in pieces of this, ZEROES_IOV at a time. */
#define ZEROES_SIZE (64 * KIB)
#define ZEROES_IOV 16

/* Never written; aligned for O_DIRECT. */
static uint8_t zeroes[ZEROES_SIZE] __attribute__((aligned(4096)));

/* ---- transfers ---------------------------------------------------------- */

/* Pieces that are empty go, too: what is left begins with something to move. */
void
raw_advance(struct block_req *req, size_t n)
{
	req->moved += n;
	while (req->iov_count > 0 && n >= req->iov->iov_len) {
		n -= req->iov->iov_len;
		req->iov++;
		req->iov_count--;
	}
	if (n > 0) {
		req->iov->iov_base = (uint8_t *)req->iov->iov_base + n;
		req->iov->iov_len -= n;
	}
}

bool
raw_unaligned(const struct raw *raw, const struct block_req *req)
{
	if (!raw->no_cache || (req->op != BLOCK_READ && req->op != BLOCK_WRITE))
		return false;
	for (unsigned i = 0; i < req->iov_count; i++) {
		uintptr_t base = (uintptr_t)req->iov[i].iov_base;

		if ((base & (raw->align_mem - 1)) != 0 ||
		    (req->iov[i].iov_len & (raw->align_io - 1)) != 0)
			return true;
	}
	return false;
}

/* The number of bytes that one system call has moved, or a negative errno. */
static ssize_t
move(const struct raw *raw, const struct block_req *req,
    const struct iovec *iov, unsigned count, int flags)
{
	off_t offset = (off_t)(req->offset + req->moved);
	int n = (int)MIN(count, (unsigned)IOV_MAX);
	ssize_t moved;

	if (req->op == BLOCK_READ)
		moved = preadv2(raw->fd, iov, n, offset, flags);
	else
		moved = pwritev2(raw->fd, iov, n, offset,
		    flags | (req->fua ? RWF_DSYNC : 0));
	return moved < 0 ? -errno : moved;
}

/* Between the next `len` bytes of the request's memory and the buffer. */
static void
copy(const struct block_req *req, uint8_t *buf, size_t len, bool to_buf)
{
	for (const struct iovec *iov = req->iov; len > 0; iov++) {
		size_t n = MIN(len, iov->iov_len);

		if (to_buf)
			memcpy(buf, iov->iov_base, n);
		else
			memcpy(iov->iov_base, buf, n);
		buf += n;
		len -= n;
	}
}

static ssize_t
move_bounced(const struct raw *raw, const struct block_req *req, void *bounce)
{
	struct iovec iov = {
		.iov_base = bounce,
		.iov_len = MIN(req->len - req->moved, BOUNCE_SIZE),
	};
	ssize_t n;

	if (req->op == BLOCK_WRITE)
		copy(req, bounce, iov.iov_len, true);
	n = move(raw, req, &iov, 1, 0);
	if (req->op == BLOCK_READ && n > 0)
		copy(req, bounce, (size_t)n, false);
	return n;
}

static int
transfer(const struct raw *raw, struct block_req *req, void *bounce)
{
	unsigned again = 0;

	while (req->moved < req->len) {
		ssize_t n;

		raw_advance(req, 0);
		if (!raw_unaligned(raw, req))
			n = move(raw, req, req->iov, req->iov_count, 0);
		else if (bounce != NULL)
			n = move_bounced(raw, req, bounce);
		else
			n = -EIO; /* it ended within a sector */
		if (n > 0) {
			raw_advance(req, (size_t)n);
			continue;
		}
		if (n == 0)
			return req->op == BLOCK_READ ? -EIO : -ENOSPC;
		if (n == -EAGAIN && ++again < AGAIN_MAX)
			sched_yield();
		else if (n != -EINTR)
			return (int)n;
	}
	return 0;
}

bool
raw_do_now(struct raw *raw, struct block_req *req)
{
	bool write = req->op == BLOCK_WRITE;
	_Atomic bool *never = write ? &raw->no_fast_write : &raw->no_fast_read;
	ssize_t n;

	if (raw->no_cache || (!write && req->op != BLOCK_READ) ||
	    req->len > (write ? FAST_WRITE_MAX : FAST_READ_MAX) ||
	    (write && (raw->sync || req->fua)) ||
	    atomic_load_explicit(never, memory_order_relaxed))
		return false;
	raw_advance(req, 0);
	n = move(raw, req, req->iov, req->iov_count, RWF_NOWAIT);
	if (n > 0)
		raw_advance(req, (size_t)n);
	else if (n == -EOPNOTSUPP)
		atomic_store_explicit(never, true, memory_order_relaxed);
	return req->moved == req->len;
}

/* ---- what moves no data ------------------------------------------------- */

/* Has the host said that it does not know how, or not for this range? */
static bool
is_no_way(int rc)
{
	return rc == -EOPNOTSUPP || rc == -ENOTTY || rc == -ENOSYS ||
	    rc == -ENODEV || rc == -EINVAL;
}

static int
allocate(const struct raw *raw, const struct block_req *req, int mode)
{
	int rc;

	do
		rc = fallocate(raw->fd, mode | FALLOC_FL_KEEP_SIZE,
		    (off_t)req->offset, (off_t)req->len);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int
range_ioctl(const struct raw *raw, const struct block_req *req,
    unsigned long request)
{
	uint64_t range[2] = { req->offset, req->len };
	int rc;

	do
		rc = ioctl(raw->fd, request, range);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int
discard(const struct raw *raw, const struct block_req *req)
{
	if (raw->device)
		return range_ioctl(raw, req, BLKDISCARD);
	return allocate(raw, req, FALLOC_FL_PUNCH_HOLE);
}

static int
flush(const struct raw *raw)
{
	int rc;

	do
		rc = fdatasync(raw->fd);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* The last way: writing them. */
static int
put_zeroes(const struct raw *raw, const struct block_req *req)
{
	struct iovec iov[ZEROES_IOV];
	struct block_req piece = {
		.op = BLOCK_WRITE,
		.offset = req->offset,
	};
	int rc = 0;

	while (rc == 0 && piece.offset - req->offset < req->len) {
		uint64_t left = req->len - (piece.offset - req->offset);

		piece.iov = iov;
		piece.iov_count = 0;
		piece.moved = 0;
		piece.len = 0;
		while (piece.len < left && piece.iov_count < ZEROES_IOV) {
			size_t n = MIN(left - piece.len, ZEROES_SIZE);

			iov[piece.iov_count].iov_base = zeroes;
			iov[piece.iov_count].iov_len = n;
			piece.iov_count++;
			piece.len += n;
		}
		rc = transfer(raw, &piece, NULL);
		piece.offset += piece.len;
	}
	return rc;
}

/* Try one way; -EOPNOTSUPP if it is none, now and for ever. */
static int
try_zeroes(const struct raw *raw, const struct block_req *req, int mode,
    _Atomic bool *never)
{
	int rc;

	if (atomic_load_explicit(never, memory_order_relaxed))
		return -EOPNOTSUPP;
	if (raw->device && mode == FALLOC_FL_ZERO_RANGE)
		rc = range_ioctl(raw, req, BLKZEROOUT);
	else
		rc = allocate(raw, req, mode);
	if (!is_no_way(rc))
		return rc;
	atomic_store_explicit(never, true, memory_order_relaxed);
	return -EOPNOTSUPP;
}

static int
write_zeroes(struct raw *raw, const struct block_req *req)
{
	int rc = -EOPNOTSUPP;

	if (req->unmap && raw->discard)
		rc = try_zeroes(raw, req, FALLOC_FL_PUNCH_HOLE, &raw->no_punch);
	if (rc == -EOPNOTSUPP)
		rc = try_zeroes(raw, req, FALLOC_FL_ZERO_RANGE,
		    &raw->no_zero_range);
	if (rc == -EOPNOTSUPP)
		rc = put_zeroes(raw, req);
	if (rc == 0 && (req->fua || raw->sync))
		rc = flush(raw);
	return rc;
}

/* ---- requests ----------------------------------------------------------- */

int
raw_result(struct raw *raw, const struct block_req *req, int error)
{
	bool durable =
	    (req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES) &&
	    (req->fua || raw->sync);
	int none = 0;

	if (error != 0 &&
	    (req->op == BLOCK_FLUSH || (durable && error == -EIO)) &&
	    atomic_compare_exchange_strong(&raw->lost, &none, error))
		log_error("%s: the host has lost writes (%s): every flush "
			  "fails from now on",
		    raw->path, strerror(-error));
	if (req->op == BLOCK_FLUSH)
		return atomic_load(&raw->lost);
	return error;
}

int
raw_do(struct raw *raw, struct block_req *req, void *bounce)
{
	int rc = -EOPNOTSUPP;

	switch (req->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		rc = transfer(raw, req, bounce);
		break;
	case BLOCK_FLUSH:
		rc = flush(raw);
		break;
	case BLOCK_DISCARD:
		rc = discard(raw, req);
		break;
	case BLOCK_WRITE_ZEROES:
		rc = write_zeroes(raw, req);
		break;
	}
	return raw_result(raw, req, rc);
}
