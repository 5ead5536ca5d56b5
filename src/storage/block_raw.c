/*
 * Raw files and devices: byte n of the disk is byte n of the file.
 *
 * What a file is, is never guessed from what is in it: that is the guest's, who
 * could make it look like an image that names other files.
 *
 * Size         A regular file is watched (inotify), a device looked at now and
 *              then.  Our own writes wake the watch as well, so after a look it
 *              is deaf for WATCH_NS:
 *
 *                  listening ──something changed: look──▶ deaf
 *                      ▲                                   │
 *                      └──────── WATCH_NS later: look ─────┘
 *
 *              A file that shrinks is no danger: nothing of it is mapped.
 * Lock         an open file description lock over the whole file, exclusive for
 *              who writes.  It goes with the descriptor, however we end, and
 *              does not go with another descriptor of the same file.
 * Locking      All here happens on the loop's thread, but raw_submit(), plug and
 *              unplug, which read what open has fixed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "storage/block_impl.h"

#define WATCH_NS (NS_PER_SEC / 2)
#define POLL_NS (2 * NS_PER_SEC)

#define POOL_THREADS 8
#define POOL_THREADS_BESIDE_RING 4

struct options {
	bool nocache;
	bool direct;
	bool sync;
	bool ro;
	bool nodelete;
	bool lock;
	char *aio; /* owned, or NULL */
	struct block_sectors sectors;
};

/* ---- keys --------------------------------------------------------------- */

static int
read_options(struct config *node, struct options *opt, char **path,
    struct err *err)
{
	const struct {
		const char *key;
		bool dflt;
		bool *value;
	} bools[] = {
		{ "nocache", false, &opt->nocache },
		{ "direct", false, &opt->direct },
		{ "sync", false, &opt->sync },
		{ "ro", false, &opt->ro },
		{ "nodelete", false, &opt->nodelete },
		{ "lock", true, &opt->lock },
	};
	int rc = config_str(node, "path", NULL, path, err);

	if (rc == 0 && *path == NULL)
		rc = block_key_err(node, "path", err, -EINVAL,
		    "a file or device is needed");
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(bools); i++)
		rc = config_bool(node, bools[i].key, bools[i].dflt,
		    bools[i].value, err);
	if (rc == 0)
		rc = block_read_sectors(node, &opt->sectors, err);
	if (rc == 0)
		rc = config_str(node, "aio", NULL, &opt->aio, err);
	if (rc == 0 && opt->aio != NULL && strcmp(opt->aio, "io_uring") != 0 &&
	    strcmp(opt->aio, "threads") != 0)
		rc = block_key_err(node, "aio", err, -EINVAL,
		    "'%s': neither io_uring nor threads", opt->aio);
	return rc;
}

/* ---- the file ----------------------------------------------------------- */

/* A pipe must not be opened to find out what it is: that may wait for ever. */
static int
check_kind(mode_t mode)
{
	if (S_ISREG(mode) || S_ISBLK(mode))
		return 0;
	return S_ISDIR(mode) ? -EISDIR : -ENOTBLK;
}

static int
open_file(struct raw *raw, struct config *node, const struct options *opt,
    struct err *err)
{
	int flags = O_CLOEXEC | (opt->nocache ? O_DIRECT : 0) |
	    (raw->sync ? O_SYNC : 0);
	bool read_only = opt->ro;
	struct stat st;
	int rc;

	rc = stat(raw->path, &st) < 0 ? -errno : check_kind(st.st_mode);
	if (rc == 0 && !read_only) {
		raw->fd = open(raw->path, O_RDWR | flags);
		read_only = raw->fd < 0;
	}
	if (rc == 0 && read_only) {
		raw->fd = open(raw->path, O_RDONLY | flags);
		rc = raw->fd < 0 ? -errno : 0;
	}
	if (rc == 0) /* another file by now? */
		rc = fstat(raw->fd, &st) < 0 ? -errno : check_kind(st.st_mode);
	if (rc == -EINVAL && opt->nocache)
		return block_key_err(node, "nocache", err, rc,
		    "'%s': not possible on this file system", raw->path);
	if (rc == -ENOTBLK)
		return block_key_err(node, "path", err, rc,
		    "'%s': neither a file nor a block device", raw->path);
	if (rc < 0)
		return block_key_err(node, "path", err, rc,
		    "'%s': cannot be opened: %s", raw->path, strerror(-rc));
	raw->device = S_ISBLK(st.st_mode);
	raw->block->info.read_only = read_only;
	return 0;
}

static int
lock_file(const struct raw *raw, struct config *node, struct err *err)
{
	bool read_only = raw->block->info.read_only;
	struct flock lock = {
		.l_type = read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(raw->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return block_key_err(node, "path", err, -EBUSY,
		    "'%s': in use by another disk or program%s", raw->path,
		    read_only ? " that writes to it" : "");
	return block_key_err(node, "path", err, -errno,
	    "'%s': cannot be locked (%s); lock=false goes without", raw->path,
	    strerror(errno));
}

static int
read_size(const struct raw *raw, uint64_t *size)
{
	struct stat st;

	if (raw->device)
		return ioctl(raw->fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
	if (fstat(raw->fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

/* ---- sectors and alignment ---------------------------------------------- */

/* Does O_DIRECT take pieces of 512 bytes?  For kernels that do not tell. */
static bool
takes_512(const struct raw *raw)
{
	void *buf = aligned_alloc(4096, 4096);
	bool taken = buf != NULL &&
	    (pread(raw->fd, buf, 512, 0) >= 0 || errno != EINVAL);

	free(buf);
	return taken;
}

static int
read_alignment(struct raw *raw, uint32_t device_sector)
{
	struct statx stx;
	uint32_t guess;

	if (!raw->no_cache)
		return 0;
	if (statx(raw->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN)) {
		raw->align_mem = stx.stx_dio_mem_align;
		raw->align_io = stx.stx_dio_offset_align;
		if (!is_power_of_2(raw->align_mem) ||
		    !is_power_of_2(raw->align_io))
			return -ENOTSUP;
		return 0;
	}
	guess = takes_512(raw) ? 512 : 4096;
	raw->align_mem = raw->align_io = MAX(guess, device_sector);
	return 0;
}

static int
choose_sectors(struct raw *raw, struct config *node, const struct options *opt,
    struct err *err)
{
	struct block_info *info = &raw->block->info;
	uint32_t sector = BLOCK_SECTOR_MIN;
	uint64_t physical;
	struct stat st;
	unsigned stripe;
	int logical;

	if (fstat(raw->fd, &st) < 0)
		return err_set_errno(err, -errno, "%s", raw->path);
	physical = (uint64_t)st.st_blksize;
	if (raw->device) {
		if (ioctl(raw->fd, BLKSSZGET, &logical) < 0 ||
		    ioctl(raw->fd, BLKPBSZGET, &stripe) < 0)
			return err_set_errno(err, -errno,
			    "%s: cannot read the sector size", raw->path);
		sector = (uint32_t)logical;
		physical = stripe;
	}
	if (read_alignment(raw, sector) < 0)
		return block_key_err(node, "nocache", err, -ENOTSUP,
		    "'%s': not possible for this file", raw->path);
	/* Or each smaller write would have to read what is around it first. */
	if (raw->no_cache)
		sector = MAX(sector, raw->align_io);
	if (opt->sectors.logical != 0 && opt->sectors.logical % sector != 0)
		return block_key_err(node, "sectorsize", err, -EINVAL,
		    "%u: '%s' needs a multiple of %u%s", opt->sectors.logical,
		    raw->path, sector, raw->no_cache ? " with nocache" : "");
	if (opt->sectors.logical != 0) {
		sector = opt->sectors.logical;
		physical = opt->sectors.physical;
	}
	if (!is_power_of_2(physical) || physical < sector ||
	    physical > UINT32_MAX)
		physical = sector;
	info->sector = sector;
	info->physical = (uint32_t)physical;
	return 0;
}

/* ---- discard ------------------------------------------------------------ */

static bool
device_discards(const struct raw *raw)
{
	/* A partition has the queue of the device around it. */
	static const char *const up[] = { "", "../" };
	unsigned long long max = 0;
	struct stat st;

	if (fstat(raw->fd, &st) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(up); i++) {
		char path[128];
		FILE *file;
		int n;

		(void)snprintf(path, sizeof(path),
		    "/sys/dev/block/%u:%u/%squeue/discard_max_bytes",
		    major(st.st_rdev), minor(st.st_rdev), up[i]);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		n = fscanf(file, "%llu", &max);
		(void)fclose(file); /* only read */
		return n == 1 && max != 0;
	}
	return false;
}

/* A hole behind the end changes nothing, but tells whether there can be any. */
static bool
file_discards(const struct raw *raw, uint64_t size)
{
	if (size > (uint64_t)INT64_MAX - 4096)
		return false;
	return fallocate(raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		   (off_t)size, 4096) == 0;
}

/* ---- size --------------------------------------------------------------- */

static void
look(struct raw *raw)
{
	uint64_t size;

	/* What cannot be told has not changed. */
	if (read_size(raw, &size) == 0)
		block_set_size(raw->block, size);
}

static void
forget_events(const struct raw *raw)
{
	char buf[sizeof(struct inotify_event) + NAME_MAX + 1]
	    __attribute__((aligned(__alignof__(struct inotify_event))));

	/* The kernel merges equal ones, so there are few. */
	while (read(raw->watch, buf, sizeof(buf)) > 0)
		;
}

static void
on_watch(void *arg, int fd, unsigned ready)
{
	struct raw *raw = arg;

	event_set_interest(raw->watch_event, 0);
	event_arm(raw->timer, WATCH_NS, 0);
	look(raw);
}

static void
on_timer(void *arg, uint64_t expirations)
{
	struct raw *raw = arg;

	if (raw->watch >= 0) {
		forget_events(raw);
		event_set_interest(raw->watch_event, EVENT_READ);
	}
	look(raw);
}

/* Without inotify, as beyond its limits, a file is looked at like a device. */
static void
watch_file(struct raw *raw)
{
	char path[64];
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	if (fd < 0)
		return;
	/* The file that we have, whatever its name means by now. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", raw->fd);
	if (inotify_add_watch(fd, path, IN_MODIFY | IN_ATTRIB) < 0 ||
	    event_add_fd(raw->loop, fd, EVENT_READ, on_watch, raw,
		&raw->watch_event, NULL) < 0) {
		close(fd);
		return;
	}
	raw->watch = fd;
}

static int
watch(struct raw *raw, struct err *err)
{
	int rc = event_add_timer(raw->loop, on_timer, raw, &raw->timer, err);

	if (rc < 0)
		return rc;
	if (!raw->device)
		watch_file(raw);
	if (raw->watch < 0)
		event_arm(raw->timer, POLL_NS, POLL_NS);
	return 0;
}

/* ---- the back end ------------------------------------------------------- */

/*
 * Is the ring the better way?  Where the file system cannot take a buffered
 * write without waiting, the kernel has threads of its own do them, one after
 * the other for one file: ours cost less.
 */
static bool
is_for_ring(struct raw *raw, const struct block_req *req)
{
	switch (req->op) {
	case BLOCK_READ:
	case BLOCK_FLUSH:
		break;
	case BLOCK_WRITE:
		if (!raw->no_cache &&
		    atomic_load_explicit(&raw->no_fast_write,
			memory_order_relaxed))
			return false;
		break;
	default:
		return false;
	}
	return raw->ring != NULL && !raw_unaligned(raw, req);
}

static bool
raw_submit(void *own, struct block_req *req)
{
	struct raw *raw = own;

	if (raw_do_now(raw, req))
		return true;
	if (is_for_ring(raw, req))
		ring_submit(raw->ring, req);
	else
		pool_submit(raw->pool, req);
	return false;
}

static void
raw_plug(void *own)
{
	struct raw *raw = own;

	pool_plug(raw->pool);
	if (raw->ring != NULL)
		ring_plug(raw->ring);
}

static void
raw_unplug(void *own)
{
	struct raw *raw = own;

	if (raw->ring != NULL)
		ring_unplug(raw->ring);
	pool_unplug(raw->pool);
}

static void
raw_destroy(void *own)
{
	struct raw *raw = own;

	event_remove(raw->watch_event);
	event_remove(raw->timer);
	if (raw->watch >= 0)
		close(raw->watch);
	ring_free(raw->ring);
	pool_free(raw->pool);
	if (raw->fd >= 0)
		close(raw->fd);
	free(raw->path);
	free(raw);
}

static const struct block_ops raw_ops = {
	.submit = raw_submit,
	.plug = raw_plug,
	.unplug = raw_unplug,
	.destroy = raw_destroy,
};

/* What was asked for must be; else an io_uring where there can be one. */
static int
choose_engine(struct raw *raw, struct config *node, const char *aio,
    struct err *err)
{
	bool asked = aio != NULL && strcmp(aio, "io_uring") == 0;
	int rc = 0;

	if (aio == NULL || asked)
		rc = ring_new(raw, &raw->ring);
	if (asked && rc == -ENOTSUP)
		return block_key_err(node, "aio", err, rc,
		    "io_uring: this program was built without liburing");
	if (asked && rc < 0)
		return block_key_err(node, "aio", err, rc,
		    "io_uring: the host does not let us: %s", strerror(-rc));
	return pool_new(raw,
	    raw->ring != NULL ? POOL_THREADS_BESIDE_RING : POOL_THREADS,
	    &raw->pool, err);
}

static int
raw_init(struct raw *raw, struct config *node, struct options *opt,
    struct err *err)
{
	struct block *block = raw->block;
	uint64_t size;
	int rc = read_options(node, opt, &raw->path, err);

	if (rc < 0)
		return rc;
	raw->no_cache = opt->nocache;
	raw->sync = opt->direct || opt->sync;
	rc = open_file(raw, node, opt, err);
	if (rc == 0 && opt->lock)
		rc = lock_file(raw, node, err);
	if (rc == 0)
		rc = choose_sectors(raw, node, opt, err);
	if (rc < 0)
		return rc;
	rc = read_size(raw, &size);
	if (rc < 0)
		return block_key_err(node, "path", err, rc,
		    "'%s': cannot read its size: %s", raw->path, strerror(-rc));
	block_set_size(block, size);
	if (!block->info.read_only && !opt->nodelete)
		raw->discard = raw->device ? device_discards(raw) :
					     file_discards(raw, size);
	block->info.discard = raw->discard;
	rc = choose_engine(raw, node, opt->aio, err);
	if (rc == 0)
		rc = watch(raw, err);
	return rc;
}

int
raw_open(struct block *block, struct loop *loop, struct config *node,
    struct err *err)
{
	struct raw *raw = xcalloc(1, sizeof(*raw));
	struct options opt = { .lock = true };
	int rc;

	raw->block = block;
	raw->loop = loop;
	raw->fd = -1;
	raw->watch = -1;
	block->ops = &raw_ops;
	block->own = raw;
	rc = raw_init(raw, node, &opt, err);
	free(opt.aio);
	return rc;
}
