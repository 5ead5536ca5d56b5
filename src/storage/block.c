/*
 * Block back ends, what all of them share: the checks of a request, the count of
 * those in flight, and waiting for them.
 *
 * Checks       A request is refused here or it is wholly within the size as it
 *              was known then.  The size may shrink while it is in flight; then
 *              the host finds out, and reading there is an error.
 * Locking      `lock` guards nothing but the sleep of who drains.  A request is
 *              uncounted after its done() has returned, which is all that
 *              block_drain() promises.  Who counts down to 0 looks at `draining`
 *              after, who drains looks at the count after setting it, both
 *              sequentially consistent: one of them sees the other.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/md5.h"
#include "base/parse.h"
#include "storage/block_impl.h"

const char *const block_keys[BLOCK_KEY_COUNT] = {
	"path",
	"nocache",
	"direct",
	"sync",
	"ro",
	"sectorsize",
	"nodelete",
	"lock",
	"aio",
	"iops",
	"iops_burst",
	"iops_rd",
	"iops_rd_burst",
	"iops_wr",
	"iops_wr_burst",
	"bps",
	"bps_burst",
	"bps_rd",
	"bps_rd_burst",
	"bps_wr",
	"bps_wr_burst",
	"reconnect",
};

int
block_key_err(struct config *node, const char *key, struct err *err, int code,
    const char *fmt, ...)
{
	char *path = config_path(node);
	char text[sizeof(err->msg)];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* cut is fine */
	va_end(ap);
	(void)err_set(err, code, "%s%s%s: %s", path, *path != '\0' ? "." : "",
	    key, text);
	free(path);
	return code;
}

static bool
parse_sector(const char *text, uint64_t *value)
{
	return parse_uint(text, BLOCK_SECTOR_MAX, value) == 0 &&
	    *value >= BLOCK_SECTOR_MIN && is_power_of_2(*value);
}

int
block_read_sectors(struct config *node, struct block_sectors *sectors,
    struct err *err)
{
	uint64_t logical, physical = 0;
	char *text, *slash;
	bool good;
	int rc = config_str(node, "sectorsize", NULL, &text, err);

	if (rc < 0 || text == NULL)
		return rc;
	slash = strchr(text, '/');
	if (slash != NULL)
		*slash = '\0';
	good = parse_sector(text, &logical);
	physical = logical;
	if (good && slash != NULL)
		good =
		    parse_sector(slash + 1, &physical) && physical >= logical;
	if (slash != NULL)
		*slash = '/';
	if (!good)
		rc = block_key_err(node, "sectorsize", err, -EINVAL,
		    "'%s': not LOGICAL or LOGICAL/PHYSICAL, powers of two from "
		    "512 to 1048576, the second not below the first",
		    text);
	free(text);
	if (rc == 0) {
		sectors->logical = (uint32_t)logical;
		sectors->physical = (uint32_t)physical;
	}
	return rc;
}

/* ---- requests ----------------------------------------------------------- */

/* Does the memory sum up to len? */
static bool
iov_fits(const struct block_req *req)
{
	uint64_t left = req->len;

	for (unsigned i = 0; i < req->iov_count; i++) {
		if (req->iov[i].iov_len > left)
			return false;
		left -= req->iov[i].iov_len;
	}
	return left == 0;
}

static int
check(const struct block *block, const struct block_req *req)
{
	uint64_t within = block->info.sector - 1;
	uint64_t size =
	    atomic_load_explicit(&block->size, memory_order_relaxed);

	if (req->op == BLOCK_FLUSH)
		return 0;
	if (((req->offset | req->len) & within) != 0)
		return -EINVAL;
	if (!range_within(req->offset, req->len, size))
		return -ERANGE;
	switch (req->op) {
	case BLOCK_READ:
		return iov_fits(req) ? 0 : -EINVAL;
	case BLOCK_WRITE:
		if (!iov_fits(req))
			return -EINVAL;
		break;
	case BLOCK_DISCARD:
		if (!block->info.read_only && !block->info.discard)
			return -EOPNOTSUPP;
		break;
	case BLOCK_WRITE_ZEROES:
		break;
	default:
		return -EOPNOTSUPP;
	}
	return block->info.read_only ? -EROFS : 0;
}

/* One is not in flight any more. */
static void
uncount(struct block *block)
{
	if (atomic_fetch_sub(&block->in_flight, 1) != 1 ||
	    atomic_load(&block->draining) == 0)
		return;
	lock_take(&block->lock);
	pthread_cond_broadcast(&block->idle);
	lock_drop(&block->lock);
}

void
block_complete(struct block_req *req, int error)
{
	struct block *block = req->block;

	req->error = error;
	req->done(req);
	uncount(block);
}

bool
block_submit(struct block *block, struct block_req *req)
{
	req->block = block;
	req->next = NULL;
	req->moved = 0;
	req->error = check(block, req);
	if (req->error != 0)
		return true;
	if (req->op != BLOCK_FLUSH && req->len == 0)
		return true;
	atomic_fetch_add(&block->in_flight, 1);
	if (block->limit != NULL && !limit_pass(block->limit, req))
		return false;
	if (!block->ops->submit(block->own, req))
		return false;
	uncount(block);
	return true;
}

void
block_plug(struct block *block)
{
	block->ops->plug(block->own);
}

void
block_unplug(struct block *block)
{
	block->ops->unplug(block->own);
}

void
block_drain(struct block *block)
{
	atomic_fetch_add(&block->draining, 1);
	if (block->limit != NULL)
		limit_let_go(block->limit);
	lock_take(&block->lock);
	while (atomic_load(&block->in_flight) != 0)
		lock_wait(&block->lock, &block->idle);
	lock_drop(&block->lock);
	atomic_fetch_sub(&block->draining, 1);
}

/* ---- life --------------------------------------------------------------- */

void
block_info(struct block *block, struct block_info *info)
{
	*info = block->info;
	info->size = atomic_load_explicit(&block->size, memory_order_relaxed);
}

void
block_set_size(struct block *block, uint64_t size)
{
	size = round_down(size, block->info.sector);
	if (atomic_exchange_explicit(&block->size, size,
		memory_order_relaxed) == size)
		return;
	if (block->resized != NULL)
		block->resized(block->arg);
}

static void
ignore_sigxfsz(void)
{
	struct sigaction now;

	if (sigaction(SIGXFSZ, NULL, &now) < 0 || (now.sa_flags & SA_SIGINFO) ||
	    now.sa_handler != SIG_DFL)
		return;
	now.sa_handler = SIG_IGN;
	(void)sigaction(SIGXFSZ, &now, NULL); /* cannot fail with these */
}

/* Does the path name a server? */
static bool
is_remote(const char *path)
{
	static const char *const schemes[] = { "nbd:", "nbds:", "nbd+unix:",
		"nbds+unix:" };

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (strncmp(path, schemes[i], strlen(schemes[i])) == 0)
			return true;
	}
	return false;
}

static int
open_back_end(struct block *block, struct loop *loop, struct config *node,
    struct err *err)
{
	char *path;
	int rc = config_str(node, "path", "", &path, err);

	if (rc < 0)
		return rc;
	if (block_rig_open != NULL && strncmp(path, "rig:", 4) == 0)
		rc = block_rig_open(block, path + 4, err);
	else if (is_remote(path))
		rc = remote_open(block, node, err);
	else
		rc = raw_open(block, loop, node, err);
	free(path);
	return rc;
}

int
block_open(struct loop *loop, struct config *node, void (*resized)(void *arg),
    void *arg, struct block **opened, struct err *err)
{
	struct block *block = xcalloc(1, sizeof(*block));
	int rc;

	lock_init(&block->lock);
	pthread_cond_init(&block->idle, NULL);
	ignore_sigxfsz();
	rc = open_back_end(block, loop, node, err);
	if (rc == 0)
		rc = limit_new(block, loop, node, &block->limit, err);
	if (rc < 0) {
		block_close(block);
		return rc;
	}
	block->resized = resized;
	block->arg = arg;
	*opened = block;
	return 0;
}

void
block_close(struct block *block)
{
	if (block == NULL)
		return;
	if (block->ops != NULL && block->ops->hurry != NULL)
		block->ops->hurry(block->own);
	block_drain(block);
	limit_free(block->limit);
	if (block->ops != NULL)
		block->ops->destroy(block->own);
	pthread_cond_destroy(&block->idle);
	lock_fini(&block->lock);
	free(block);
}

void
block_serial(const char *path, char serial[BLOCK_SERIAL_SIZE])
{
	uint8_t d[MD5_SIZE];

	md5(path, strlen(path), d);
	(void)snprintf(serial, BLOCK_SERIAL_SIZE,
	    "BHYVE-%02X%02X-%02X%02X-%02X%02X", d[0], d[1], d[2], d[3], d[4],
	    d[5]);
}
