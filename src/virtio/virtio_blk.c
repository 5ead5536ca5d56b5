/*
 * virtio-blk: a disk.
 *
 * Models       Virtio 1.2, section 5.2: reads, writes, flushes, discards,
 *              zeroes and the serial number, over one queue or several; a
 *              write cache that the driver may turn off; a size that changes.
 *              Sectors have 512 bytes here, whatever those of the disk are.
 * Options      those of block_keys (storage/block.h); ser, serial: the serial
 *              number; queues: how many.
 *
 *      notify ── pop ──▶ start ── block_submit ──▶ in flight
 *                          │ answered at once         │ done (any thread)
 *                          ▼                          ▼
 *                        finish: status, push    finish, virtq_notify
 *
 *              What is answered at once is so on the vCPU's thread, and makes
 *              one interrupt for all of a notification.
 * Cache        Without FLUSH the driver takes every write for durable
 *              (5.2.6.2), and so it is with the cache off: writes are `fua`.
 * Locking      a queue's lock guards its requests.  Completions take it alone;
 *              the back end holds no lock then.
 * Limits       a request for each slot of a queue, made once: virtq never has
 *              more chains in flight than slots.  One notification starts two
 *              rings full at most, the rest is for the loop's thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "storage/block.h"
#include "virtio/virtio.h"

#define BLK_QUEUE_SIZE 128u
#define BLK_QUEUES_MAX 16u
#define BLK_SEG_MAX (BLK_QUEUE_SIZE - 2)
#define BLK_SECTOR 512u
#define BLK_DISCARD_MAX (16 * MIB / BLK_SECTOR) /* in one request */
#define BLK_ID_SIZE 20u

/* 5.2.3 */
#define BLK_F_SEG_MAX BIT(2)
#define BLK_F_RO BIT(5)
#define BLK_F_BLK_SIZE BIT(6)
#define BLK_F_FLUSH BIT(9)
#define BLK_F_TOPOLOGY BIT(10)
#define BLK_F_CONFIG_WCE BIT(11)
#define BLK_F_MQ BIT(12)
#define BLK_F_DISCARD BIT(13)
#define BLK_F_WRITE_ZEROES BIT(14)

/* 5.2.4 */
struct blk_config {
	le64 capacity;
	le32 size_max;
	le32 seg_max;
	le16 cylinders;
	uint8_t heads;
	uint8_t sectors;
	le32 blk_size;
	uint8_t physical_block_exp;
	uint8_t alignment_offset;
	le16 min_io_size;
	le32 opt_io_size;
	uint8_t writeback;
	uint8_t unused;
	le16 num_queues;
	le32 max_discard_sectors;
	le32 max_discard_seg;
	le32 discard_sector_alignment;
	le32 max_write_zeroes_sectors;
	le32 max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused2[3];
};
_Static_assert(sizeof(struct blk_config) == 60, "60 bytes");

/* 5.2.6 */
struct blk_header {
	le32 type;
	le32 reserved;
	le64 sector;
};
_Static_assert(sizeof(struct blk_header) == 16, "16 bytes");
#define BLK_T_IN 0u
#define BLK_T_OUT 1u
#define BLK_T_FLUSH 4u
#define BLK_T_GET_ID 8u
#define BLK_T_DISCARD 11u
#define BLK_T_WRITE_ZEROES 13u
#define BLK_S_OK 0u
#define BLK_S_IOERR 1u
#define BLK_S_UNSUPP 2u

struct blk_range {
	le64 sector;
	le32 sectors;
	le32 flags;
};
_Static_assert(sizeof(struct blk_range) == 16, "16 bytes");
#define BLK_RANGE_UNMAP 1u

struct blk_req {
	struct block_req block; /* first: done() finds the rest by it */
	struct virtq_chain chain;
	struct iovec *iov; /* owned: the data alone; the back end's to change */
	struct blk_queue *queue;
	struct blk_req *next; /* free ones */
};

struct blk_queue {
	struct virtio_blk *blk;
	struct virtq *vq;
	struct blk_req *reqs; /* owned */
	struct blk_req *free;
};

struct virtio_blk {
	struct virtio virtio;
	struct virtq_regs regs[BLK_QUEUES_MAX];
	struct pci_msix_entry msix[BLK_QUEUES_MAX + 1];
	/* Seen by queues without the device's lock. */
	_Atomic bool write_through;
	_Atomic uint64_t sectors;
	uint8_t writeback; /* the configuration's byte */
	bool read_only;
	char id[BLK_ID_SIZE];
	struct block *block; /* owned */
	unsigned queue_count;
	struct blk_queue queues[BLK_QUEUES_MAX];
};

static const struct field virtio_blk_state[] = {
	VIRTIO_STATE(struct virtio_blk, virtio),
	VIRTQ_STATE(struct virtio_blk, regs),
	PCI_MSIX_STATE(struct virtio_blk, msix),
	STATE_INT_MAX(struct virtio_blk, writeback, 1, 1),
};

/* ---- requests ----------------------------------------------------------- */

/* The status is the last byte that the device writes (5.2.6). */
static void
blk_finish(struct blk_req *req, uint8_t status)
{
	struct blk_queue *queue = req->queue;
	uint64_t len = req->chain.writable_len;

	(void)virtq_write(&req->chain, len - 1, &status, 1); /* it has room */
	virtq_push(queue->vq, &req->chain, len);
	req->next = queue->free;
	queue->free = req;
}

static void
blk_done(struct block_req *block)
{
	struct blk_req *req = container_of(block, struct blk_req, block);
	struct virtq *vq = req->queue->vq;

	lock_take(&vq->lock);
	blk_finish(req, block->error == 0 ? BLK_S_OK : BLK_S_IOERR);
	virtq_notify(vq);
	lock_drop(&vq->lock);
}

static void
blk_submit(struct blk_req *req)
{
	struct virtio_blk *blk = req->queue->blk;

	req->block.done = blk_done;
	req->block.error = 0;
	req->block.fua =
	    atomic_load_explicit(&blk->write_through, memory_order_relaxed);
	if (block_submit(blk->block, &req->block))
		blk_finish(req, req->block.error == 0 ? BLK_S_OK : BLK_S_IOERR);
}

/* Is it on the disk?  Then where, in bytes. */
static bool
blk_place(struct blk_req *req, uint64_t sector, uint64_t sectors)
{
	uint64_t size = atomic_load_explicit(&req->queue->blk->sectors,
	    memory_order_relaxed);

	if (!range_within(sector, sectors, size))
		return false;
	req->block.offset = sector * BLK_SECTOR;
	req->block.len = sectors * BLK_SECTOR;
	return true;
}

static void
blk_transfer(struct blk_req *req, bool write, uint64_t sector)
{
	const struct virtq_chain *chain = &req->chain;
	uint64_t off = write ? sizeof(struct blk_header) : 0;
	uint64_t len =
	    write ? chain->readable_len - off : chain->writable_len - 1;

	if ((write && req->queue->blk->read_only) || len % BLK_SECTOR != 0 ||
	    !blk_place(req, sector, len / BLK_SECTOR)) {
		blk_finish(req, BLK_S_IOERR);
		return;
	}
	if (len == 0) {
		blk_finish(req, BLK_S_OK);
		return;
	}
	req->block.op = write ? BLOCK_WRITE : BLOCK_READ;
	req->block.iov = req->iov;
	req->block.iov_count = virtq_slice(chain, !write, off, len, req->iov);
	blk_submit(req);
}

/* 5.2.6.2; one range a request, as the configuration says. */
static void
blk_erase(struct blk_req *req, bool zeroes, bool offered)
{
	struct blk_range range;
	uint64_t sectors;
	uint32_t flags;
	uint64_t off = sizeof(struct blk_header);

	if (!offered) {
		blk_finish(req, BLK_S_UNSUPP);
		return;
	}
	if (req->chain.readable_len != off + sizeof(range) ||
	    !virtq_read(&req->chain, off, &range, sizeof(range))) {
		blk_finish(req, BLK_S_IOERR);
		return;
	}
	flags = le32_get(range.flags);
	sectors = le32_get(range.sectors);
	if (flags & (zeroes ? ~BLK_RANGE_UNMAP : ~0u)) {
		blk_finish(req, BLK_S_UNSUPP);
		return;
	}
	if (sectors > BLK_DISCARD_MAX ||
	    !blk_place(req, le64_get(range.sector), sectors)) {
		blk_finish(req, BLK_S_IOERR);
		return;
	}
	if (sectors == 0) {
		blk_finish(req, BLK_S_OK);
		return;
	}
	req->block.op = zeroes ? BLOCK_WRITE_ZEROES : BLOCK_DISCARD;
	req->block.unmap = flags & BLK_RANGE_UNMAP;
	blk_submit(req);
}

static void
blk_start(struct blk_req *req)
{
	struct virtio_blk *blk = req->queue->blk;
	uint64_t features = virtio_features(&blk->virtio);
	struct blk_header header;

	if (req->chain.writable_len == 0 ||
	    !virtq_read(&req->chain, 0, &header, sizeof(header))) {
		req->next = req->queue->free;
		req->queue->free = req;
		virtq_fail(req->queue->vq, "request without header or status");
		return;
	}
	switch (le32_get(header.type)) {
	case BLK_T_IN:
		blk_transfer(req, false, le64_get(header.sector));
		break;
	case BLK_T_OUT:
		blk_transfer(req, true, le64_get(header.sector));
		break;
	case BLK_T_FLUSH:
		req->block.op = BLOCK_FLUSH;
		blk_submit(req);
		break;
	case BLK_T_GET_ID:
		(void)virtq_write(&req->chain, 0, blk->id,
		    MIN(req->chain.writable_len - 1, BLK_ID_SIZE));
		blk_finish(req, BLK_S_OK);
		break;
	case BLK_T_DISCARD:
		blk_erase(req, false, features & BLK_F_DISCARD);
		break;
	case BLK_T_WRITE_ZEROES:
		blk_erase(req, true, features & BLK_F_WRITE_ZEROES);
		break;
	default:
		blk_finish(req, BLK_S_UNSUPP);
		break;
	}
}

static void
blk_notify(void *self, struct virtq *vq)
{
	struct virtio_blk *blk = self;
	struct blk_queue *queue = &blk->queues[vq->index];
	unsigned left = 2 * BLK_QUEUE_SIZE;

	block_plug(blk->block);
	do {
		virtq_no_notify(vq);
		while (left != 0 && queue->free != NULL &&
		    virtq_pop(vq, &queue->free->chain) == 1) {
			struct blk_req *req = queue->free;

			queue->free = req->next;
			left--;
			blk_start(req);
		}
	} while (virtq_want_notify(vq) && left != 0 && queue->free != NULL);
	block_unplug(blk->block);
	virtq_notify(vq);
	if (left == 0)
		virtio_notify_later(&blk->virtio);
}

/* ---- configuration ------------------------------------------------------ */

static void
blk_set_writeback(struct virtio_blk *blk, uint8_t value)
{
	bool flush = virtio_features(&blk->virtio) & BLK_F_FLUSH;

	blk->writeback = value;
	atomic_store_explicit(&blk->write_through, value == 0 || !flush,
	    memory_order_relaxed);
	virtio_config_set_quiet(&blk->virtio,
	    offsetof(struct blk_config, writeback), &value, 1);
}

/* 5.2.5.2: the cache is off for a driver that cannot flush it. */
static void
blk_negotiated(void *self, uint64_t features)
{
	blk_set_writeback(self, (features & BLK_F_FLUSH) ? 1 : 0);
}

static void
blk_drain(void *self)
{
	struct virtio_blk *blk = self;

	block_drain(blk->block);
}

static void
blk_forget(void *self)
{
	blk_set_writeback(self, 1);
}

static void
blk_config_write(void *self, unsigned off, uint8_t value)
{
	struct virtio_blk *blk = self;

	if (off == offsetof(struct blk_config, writeback) && value <= 1 &&
	    (virtio_features(&blk->virtio) & BLK_F_CONFIG_WCE))
		blk_set_writeback(blk, value);
}

static void
blk_resized(void *arg)
{
	struct virtio_blk *blk = arg;
	struct block_info info;
	le64 capacity;

	block_info(blk->block, &info);
	capacity = le64_make(info.size / BLK_SECTOR);
	atomic_store_explicit(&blk->sectors, info.size / BLK_SECTOR,
	    memory_order_relaxed);
	virtio_config_set(&blk->virtio, offsetof(struct blk_config, capacity),
	    &capacity, sizeof(capacity));
}

static void
blk_configure(struct virtio_blk *blk, const struct block_info *info)
{
	struct blk_config config = {
		.capacity = le64_make(info->size / BLK_SECTOR),
		.seg_max = le32_make(BLK_SEG_MAX),
		.blk_size = le32_make(info->sector),
		.physical_block_exp =
		    (uint8_t)__builtin_ctz(info->physical / info->sector),
		.writeback = 1,
		.num_queues = le16_make((uint16_t)blk->queue_count),
	};

	if (info->discard) {
		config.max_discard_sectors = le32_make(BLK_DISCARD_MAX);
		config.max_discard_seg = le32_make(1);
		config.discard_sector_alignment =
		    le32_make(info->sector / BLK_SECTOR);
		config.write_zeroes_may_unmap = 1;
	}
	if (!info->read_only) {
		config.max_write_zeroes_sectors = le32_make(BLK_DISCARD_MAX);
		config.max_write_zeroes_seg = le32_make(1);
	}
	virtio_config_set(&blk->virtio, 0, &config, sizeof(config));
}

static const struct virtio_model blk_virtio = {
	.type = 2,
	.transitional_id = 0x1001,
	.class = 0x01,
	.config_size = sizeof(struct blk_config),
	.notify = blk_notify,
	.drain = blk_drain,
	.reset = blk_forget,
	.negotiated = blk_negotiated,
	.config_write = blk_config_write,
};

/* ---- making ------------------------------------------------------------- */

static void
blk_make_queue(struct virtio_blk *blk, unsigned index)
{
	struct blk_queue *queue = &blk->queues[index];

	queue->blk = blk;
	queue->vq = &blk->virtio.queues[index];
	queue->reqs = xcalloc(BLK_QUEUE_SIZE, sizeof(*queue->reqs));
	for (unsigned i = 0; i < BLK_QUEUE_SIZE; i++) {
		struct blk_req *req = &queue->reqs[i];

		virtq_chain_init(&req->chain, BLK_QUEUE_SIZE);
		req->iov = xcalloc(BLK_QUEUE_SIZE, sizeof(*req->iov));
		req->queue = queue;
		req->next = queue->free;
		queue->free = req;
	}
}

/* ser=, else serial=, else what the path gives. */
static int
blk_read_id(struct virtio_blk *blk, struct config *node, struct err *err)
{
	char serial[BLOCK_SERIAL_SIZE], *path, *text;
	int rc = config_str(node, "ser", NULL, &text, err);

	if (rc == 0 && text == NULL)
		rc = config_str(node, "serial", NULL, &text, err);
	if (rc < 0)
		return rc;
	if (text == NULL) {
		rc = config_str(node, "path", "", &path, err);
		if (rc < 0)
			return rc;
		block_serial(path, serial);
		free(path);
		memcpy(blk->id, serial, strlen(serial));
		return 0;
	}
	if (strlen(text) > BLK_ID_SIZE)
		rc = err_set(err, -EINVAL,
		    "%s: the serial number \"%s\" has more than %u bytes",
		    device_name(blk->virtio.dev), text, BLK_ID_SIZE);
	else
		memcpy(blk->id, text, strlen(text));
	free(text);
	return rc;
}

static int
blk_check_keys(struct device *dev, struct err *err)
{
	static const char *const own[] = { "device", "pcireg", "ser", "serial",
		"queues" };
	const char *keys[ARRAY_SIZE(own) + BLOCK_KEY_COUNT];

	memcpy(keys, own, sizeof(own));
	memcpy(&keys[ARRAY_SIZE(own)], block_keys, sizeof(block_keys));
	return device_check_keys(dev, keys, ARRAY_SIZE(keys), err);
}

static uint64_t
blk_features(const struct block_info *info, unsigned queues)
{
	uint64_t features = BLK_F_SEG_MAX | BLK_F_BLK_SIZE | BLK_F_TOPOLOGY |
	    BLK_F_FLUSH | BLK_F_CONFIG_WCE;

	if (info->read_only)
		features |= BLK_F_RO;
	else
		features |= BLK_F_WRITE_ZEROES;
	if (info->discard && !info->read_only)
		features |= BLK_F_DISCARD;
	if (queues > 1)
		features |= BLK_F_MQ;
	return features;
}

static int
blk_create(struct device *dev, void *self, struct err *err)
{
	struct virtio_blk *blk = self;
	struct config *node = device_config(dev);
	uint16_t sizes[BLK_QUEUES_MAX];
	struct block_info info;
	int64_t queues;
	int rc;

	rc = blk_check_keys(dev, err);
	if (rc == 0)
		rc = config_int(node, "queues", 1, 1, BLK_QUEUES_MAX, &queues,
		    err);
	if (rc == 0)
		rc = block_open(device_loop(dev), node, blk_resized, blk,
		    &blk->block, err);
	if (rc < 0)
		return rc;
	block_info(blk->block, &info);
	blk->queue_count = (unsigned)queues;
	blk->read_only = info.read_only;
	atomic_init(&blk->sectors, info.size / BLK_SECTOR);
	for (unsigned i = 0; i < blk->queue_count; i++)
		sizes[i] = BLK_QUEUE_SIZE;
	rc = virtio_init(&blk->virtio, dev, &blk_virtio, blk->queue_count,
	    sizes, blk->regs, blk->msix, blk_features(&info, blk->queue_count),
	    err);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < blk->queue_count; i++)
		blk_make_queue(blk, i);
	blk_configure(blk, &info);
	return blk_read_id(blk, node, err);
}

static void
blk_reset(void *self)
{
	struct virtio_blk *blk = self;

	virtio_reset(&blk->virtio);
}

/* The driver's choice outlives the agreement on features that allowed it. */
static void
blk_changed(void *self)
{
	struct virtio_blk *blk = self;
	uint8_t writeback = blk->writeback;

	virtio_changed(&blk->virtio);
	blk_set_writeback(blk, writeback);
}

static int
blk_check(const void *self, struct err *err)
{
	const struct virtio_blk *blk = self;

	return virtio_check(&blk->virtio, blk->regs, err);
}

static void
blk_pause(void *self)
{
	struct virtio_blk *blk = self;

	virtio_pause(&blk->virtio);
}

static void
blk_resume(void *self)
{
	struct virtio_blk *blk = self;

	virtio_resume(&blk->virtio);
}

static void
blk_destroy(void *self)
{
	struct virtio_blk *blk = self;

	/* What is in flight ends in the queues, so these go after. */
	block_close(blk->block);
	virtio_fini(&blk->virtio);
	for (unsigned i = 0; i < blk->queue_count; i++) {
		struct blk_queue *queue = &blk->queues[i];

		for (unsigned j = 0; queue->reqs != NULL && j < BLK_QUEUE_SIZE;
		     j++) {
			virtq_chain_fini(&queue->reqs[j].chain);
			free(queue->reqs[j].iov);
		}
		free(queue->reqs);
	}
}

DEVICE_MODEL(virtio_blk) = {
	.name = "virtio-blk",
	.state_version = 1,
	.size = sizeof(struct virtio_blk),
	STATE_TABLE(virtio_blk_state),
	.unlocked = true, /* see virtio.h */
	.pci_help = "virtio disk",
	.create = blk_create,
	.pause = blk_pause,
	.resume = blk_resume,
	.reset = blk_reset,
	.changed = blk_changed,
	.check = blk_check,
	.destroy = blk_destroy,
};
