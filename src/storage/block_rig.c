/*
 * The disk of device tests.
 *
 * Locking      disk->lock guards the list of those that wait and what counts;
 *              done() is called without it, by the disk's own thread.  Rigs are
 *              found by name in a list that only the test's thread changes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "storage/block_impl.h"
#include "storage/block_rig.h"

/* How often a disk that holds requests looks whether somebody drains it. */
#define LOOK_NS 1000000

struct rig_disk {
	struct block_rig *rig; /* borrowed: the test's */
	struct block *block;   /* borrowed: it owns us */
	pthread_t thread;
	bool has_thread;
	struct lock lock;
	pthread_cond_t changed;
	struct block_req *waiting; /* youngest first, linked by `next` */
	unsigned held;
	unsigned allowed; /* of those that are held, to be done */
	bool busy;        /* one is being done, and no more held */
	bool stop;
};

static struct block_rig *rigs;

struct block_rig *
block_rig_new(const char *name, uint64_t size)
{
	struct block_rig *rig = xcalloc(1, sizeof(*rig));

	rig->name = xstrdup(name);
	rig->data = xcalloc(1, MAX(size, 1u));
	rig->room = size;
	rig->info = (struct block_info) {
		.size = size,
		.sector = 512,
		.physical = 512,
		.discard = true,
	};
	rig->next = rigs;
	rigs = rig;
	return rig;
}

void
block_rig_free(struct block_rig *rig)
{
	struct block_rig **link = &rigs;

	assert(rig->disk == NULL);
	while (*link != rig)
		link = &(*link)->next;
	*link = rig->next;
	free(rig->data);
	free(rig->name);
	free(rig);
}

/* ---- requests ----------------------------------------------------------- */

static int
carry_out(const struct block_rig *rig, const struct block_req *req)
{
	uint8_t *data = rig->data + req->offset;

	if (rig->fail[req->op] != 0)
		return rig->fail[req->op];
	switch (req->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		for (unsigned i = 0; i < req->iov_count; i++) {
			const struct iovec *iov = &req->iov[i];

			if (req->op == BLOCK_READ)
				memcpy(iov->iov_base, data, iov->iov_len);
			else
				memcpy(data, iov->iov_base, iov->iov_len);
			data += iov->iov_len;
		}
		break;
	case BLOCK_FLUSH:
		break;
	case BLOCK_DISCARD:
		memset(data, 0xd5, req->len); /* anybody's guess */
		break;
	case BLOCK_WRITE_ZEROES:
		memset(data, 0, req->len);
		break;
	}
	return 0;
}

static bool
rig_submit(void *own, struct block_req *req)
{
	struct rig_disk *disk = own;
	struct block_rig *rig = disk->rig;
	bool now;

	lock_take(&disk->lock);
	rig->count[req->op]++;
	rig->last[req->op] = *req;
	now = rig->mode == BLOCK_RIG_NOW;
	if (now) {
		req->error = carry_out(rig, req);
	} else {
		req->next = disk->waiting;
		disk->waiting = req;
		disk->held++;
		if (rig->mode == BLOCK_RIG_THREAD)
			disk->allowed++;
		pthread_cond_broadcast(&disk->changed);
	}
	lock_drop(&disk->lock);
	return now;
}

/* Like lock_wait(), but not for long. */
static void
wait_a_little(struct rig_disk *disk)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += LOOK_NS;
	if (until.tv_nsec >= (long)NS_PER_SEC) {
		until.tv_nsec -= (long)NS_PER_SEC;
		until.tv_sec++;
	}
	lock_drop(&disk->lock);
	pthread_mutex_lock(&disk->lock.mutex);
	(void)pthread_cond_timedwait(&disk->changed, &disk->lock.mutex,
	    &until); /* either way we look again */
	pthread_mutex_unlock(&disk->lock.mutex);
	lock_take(&disk->lock);
}

static void *
rig_run(void *arg)
{
	struct rig_disk *disk = arg;

	lock_take(&disk->lock);
	while (!disk->stop) {
		struct block_req *req = disk->waiting;
		int error;

		if (req != NULL && atomic_load(&disk->block->draining) != 0)
			disk->allowed = disk->held;
		if (disk->allowed == 0) {
			if (req != NULL)
				wait_a_little(disk);
			else
				lock_wait(&disk->lock, &disk->changed);
			continue;
		}
		disk->waiting = req->next;
		disk->held--;
		disk->allowed--;
		disk->busy = true;
		error = carry_out(disk->rig, req);
		lock_drop(&disk->lock);
		block_complete(req, error);
		lock_take(&disk->lock);
		disk->busy = false;
		pthread_cond_broadcast(&disk->changed);
	}
	lock_drop(&disk->lock);
	return NULL;
}

unsigned
block_rig_held(struct block_rig *rig)
{
	unsigned held;

	lock_take(&rig->disk->lock);
	held = rig->disk->held;
	lock_drop(&rig->disk->lock);
	return held;
}

void
block_rig_release(struct block_rig *rig, unsigned n)
{
	struct rig_disk *disk = rig->disk;

	lock_take(&disk->lock);
	disk->allowed = MIN(n, disk->held);
	pthread_cond_broadcast(&disk->changed);
	while (disk->allowed > 0 || disk->busy)
		lock_wait(&disk->lock, &disk->changed);
	lock_drop(&disk->lock);
}

void
block_rig_resize(struct block_rig *rig, uint64_t size)
{
	assert(size <= rig->room);
	block_set_size(rig->disk->block, size);
}

/* ---- life --------------------------------------------------------------- */

static void
rig_plug(void *own)
{
	struct rig_disk *disk = own;

	lock_take(&disk->lock);
	disk->rig->plugs++;
	lock_drop(&disk->lock);
}

static void
rig_unplug(void *own)
{
	struct rig_disk *disk = own;

	lock_take(&disk->lock);
	assert(disk->rig->plugs > 0);
	disk->rig->plugs--;
	lock_drop(&disk->lock);
}

static void
rig_destroy(void *own)
{
	struct rig_disk *disk = own;

	lock_take(&disk->lock);
	disk->stop = true;
	pthread_cond_broadcast(&disk->changed);
	lock_drop(&disk->lock);
	if (disk->has_thread)
		pthread_join(disk->thread, NULL);
	disk->rig->disk = NULL;
	pthread_cond_destroy(&disk->changed);
	lock_fini(&disk->lock);
	free(disk);
}

static const struct block_ops rig_ops = {
	.submit = rig_submit,
	.plug = rig_plug,
	.unplug = rig_unplug,
	.destroy = rig_destroy,
};

int
block_rig_open(struct block *block, const char *name, struct err *err)
{
	struct block_rig *rig = rigs;
	struct rig_disk *disk;
	int rc;

	while (rig != NULL && strcmp(rig->name, name) != 0)
		rig = rig->next;
	if (rig == NULL)
		return err_set(err, -ENOENT, "rig:%s: no such rig", name);
	if (rig->disk != NULL)
		return err_set(err, -EBUSY, "rig:%s: in use", name);
	disk = xcalloc(1, sizeof(*disk));
	disk->rig = rig;
	disk->block = block;
	lock_init(&disk->lock);
	pthread_cond_init(&disk->changed, NULL);
	rig->disk = disk;
	block->ops = &rig_ops;
	block->own = disk;
	block->info = rig->info;
	block_set_size(block, rig->info.size);
	rc = block_thread(&disk->thread, rig_run, disk);
	disk->has_thread = rc == 0;
	return rc < 0 ? err_set_errno(err, rc, "rig:%s", name) : 0;
}
