/*
 * The life of a virtio device, whatever its transport.
 *
 * Models       Virtio 1.2, chapters 2 and 3, and 2.2.3 and 4.1.4.8 where a
 *              legacy driver differs: it knows no FEATURES_OK, and its queues
 *              run as soon as they have a place.
 *
 *              reset ── features ──▶ FEATURES_OK ── queues ──▶ DRIVER_OK
 *                ▲                        │                        │
 *                │                        │                        ▼
 *                └──── status 0 ◀─────────┴──────────────── NEEDS_RESET
 *
 * Locking      see virtio.h.  quiesce() is what reset and pause share: it stops
 *              all popping, then waits for the device's requests in flight,
 *              whose completions need no lock that is held here.
 * Invariants   1. Status bits are cleared by reset alone (2.1.1).
 *              2. Features do not change once agreed, nor a queue once enabled,
 *                 nor any queue once the driver is ready: neither what a
 *                 running queue is made of, nor its interrupt.  Legacy's
 *                 vectors may (its drivers set them last).
 *              3. A queue runs only if enabled, under agreed features.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "virtio/virtio_impl.h"
#include "vm/vm.h"

#define STATUS_BY_DRIVER                                          \
	(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER |       \
	    VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_FEATURES_OK | \
	    VIRTIO_STATUS_FAILED)
#define ISR_QUEUE 1u
#define ISR_CONFIG 2u

/* The legacy layout of a ring, 2.7.2: one piece, aligned to pages. */
#define LEGACY_PAGE 4096u

static void *
virtio_self(const struct virtio *v)
{
	return device_self(v->dev);
}

/* ---- interrupts --------------------------------------------------------- */

static void
virtio_raise_locked(struct virtio *v, uint8_t isr, uint64_t vector)
{
	if (pci_msix_enabled(&v->func)) {
		if (vector != VIRTIO_NO_VECTOR)
			pci_msix_send(&v->func, (unsigned)vector);
		return;
	}
	v->isr |= isr;
	if (pci_msi_enabled(&v->func))
		pci_msi_send(&v->func, 0);
	pci_intx_set(&v->func, true);
}

static void
virtio_queue_interrupt(struct virtq *vq)
{
	struct virtio *v = vq->arg;

	lock_take(&v->lock);
	virtio_raise_locked(v, ISR_QUEUE, vq->regs->vector);
	lock_drop(&v->lock);
}

/* 2.1.2: tell the driver that only a reset helps; a legacy one cannot hear. */
static void
virtio_queue_broken(struct virtq *vq, const char *why)
{
	static struct log_limit limit;
	struct virtio *v = vq->arg;

	log_guest(&limit, "%s: queue %u: %s", device_name(v->dev), vq->index,
	    why);
	if (v->legacy)
		return;
	lock_take(&v->lock);
	if (!(v->status & VIRTIO_STATUS_NEEDS_RESET)) {
		v->status |= VIRTIO_STATUS_NEEDS_RESET;
		virtio_raise_locked(v, ISR_CONFIG, v->config_vector);
	}
	lock_drop(&v->lock);
}

static const struct virtq_ops virtio_queue_ops = {
	.interrupt = virtio_queue_interrupt,
	.broken = virtio_queue_broken,
};

uint8_t
virtio_read_isr(struct virtio *v)
{
	uint8_t isr;

	lock_take(&v->lock);
	isr = v->isr;
	v->isr = 0;
	pci_intx_set(&v->func, false);
	lock_drop(&v->lock);
	return isr;
}

static bool
vector_valid(const struct virtio *v, uint64_t vector)
{
	return vector < v->vectors || vector == VIRTIO_NO_VECTOR;
}

/* 4.1.5.1.2.1: a vector that does not exist reads back as none. */
void
virtio_set_config_vector(struct virtio *v, uint16_t vector)
{
	lock_take(&v->lock);
	v->config_vector = vector_valid(v, vector) ? vector : VIRTIO_NO_VECTOR;
	lock_drop(&v->lock);
}

uint16_t
virtio_config_vector(struct virtio *v)
{
	uint16_t vector;

	lock_take(&v->lock);
	vector = v->config_vector;
	lock_drop(&v->lock);
	return vector;
}

/* ---- configuration ------------------------------------------------------ */

/* Whether anything changed. */
static bool
config_set_locked(struct virtio *v, unsigned off, const void *bytes,
    unsigned len)
{
	assert(range_within(off, len, v->model->config_size));
	if (memcmp(&v->config[off], bytes, len) == 0)
		return false;
	memcpy(&v->config[off], bytes, len);
	return true;
}

void
virtio_config_set(struct virtio *v, unsigned off, const void *bytes,
    unsigned len)
{
	lock_take(&v->lock);
	if (config_set_locked(v, off, bytes, len)) {
		v->generation++;
		if (v->status & VIRTIO_STATUS_DRIVER_OK)
			virtio_raise_locked(v, ISR_CONFIG, v->config_vector);
	}
	lock_drop(&v->lock);
}

void
virtio_config_set_quiet(struct virtio *v, unsigned off, const void *bytes,
    unsigned len)
{
	lock_take(&v->lock);
	(void)config_set_locked(v, off, bytes, len); /* nobody is told */
	lock_drop(&v->lock);
}

uint64_t
virtio_config_read(struct virtio *v, uint64_t off, unsigned size)
{
	uint64_t value = 0;

	lock_take(&v->lock);
	for (unsigned i = 0; i < size; i++)
		if (off + i < v->model->config_size)
			value |= (uint64_t)v->config[off + i] << (8 * i);
	lock_drop(&v->lock);
	return value;
}

void
virtio_config_write(struct virtio *v, uint64_t off, unsigned size,
    uint64_t value)
{
	if (v->model->config_write == NULL)
		return;
	for (unsigned i = 0; i < size; i++)
		if (off + i < v->model->config_size)
			v->model->config_write(virtio_self(v),
			    (unsigned)off + i, (uint8_t)(value >> (8 * i)));
}

uint8_t
virtio_generation(struct virtio *v)
{
	uint8_t generation;

	lock_take(&v->lock);
	generation = v->generation;
	lock_drop(&v->lock);
	return generation;
}

/* ---- features ----------------------------------------------------------- */

uint64_t
virtio_offered(const struct virtio *v, bool legacy)
{
	if (legacy)
		return (v->offered & UINT32_MAX) | VIRTIO_F_NOTIFY_ON_EMPTY |
		    VIRTIO_F_ANY_LAYOUT;
	return v->offered;
}

uint64_t
virtio_features(const struct virtio *v)
{
	return v->features;
}

static bool
features_acceptable(const struct virtio *v, const void *self)
{
	uint64_t features = v->driver_features;

	return (features & ~v->offered) == 0 &&
	    (features & VIRTIO_F_VERSION_1) &&
	    (v->model->acceptable == NULL ||
		v->model->acceptable(self, features));
}

static void
virtio_agree(struct virtio *v)
{
	v->features = v->driver_features;
	if (v->model->negotiated != NULL)
		v->model->negotiated(virtio_self(v), v->features);
}

void
virtio_set_features(struct virtio *v, unsigned half, uint32_t value)
{
	unsigned shift = half * 32;

	if (half > 1 || v->legacy ||
	    (virtio_status(v) & VIRTIO_STATUS_FEATURES_OK))
		return;
	v->driver_features &= ~((uint64_t)UINT32_MAX << shift);
	v->driver_features |= (uint64_t)value << shift;
}

/* ---- queues ------------------------------------------------------------- */

struct virtq *
virtio_queue(struct virtio *v)
{
	if (v->queue_select >= v->queue_count)
		return NULL;
	return &v->queues[v->queue_select];
}

struct virtq_regs *
virtio_writable_queue(struct virtio *v)
{
	struct virtq *vq = virtio_queue(v);
	uint8_t status = virtio_status(v);

	if (vq == NULL || vq->regs->enabled || v->legacy ||
	    !(status & VIRTIO_STATUS_FEATURES_OK) ||
	    (status & VIRTIO_STATUS_DRIVER_OK))
		return NULL;
	return vq->regs;
}

void
virtio_enable_queue(struct virtio *v)
{
	struct virtq_regs *regs = virtio_writable_queue(v);

	if (regs != NULL)
		regs->enabled = 1;
}

void
virtio_set_queue_vector(struct virtio *v, uint16_t vector)
{
	struct virtq *vq = virtio_queue(v);

	if (vq == NULL ||
	    (!v->legacy && (virtio_status(v) & VIRTIO_STATUS_DRIVER_OK)))
		return;
	lock_take(&vq->lock);
	vq->regs->vector = vector_valid(v, vector) ? vector : VIRTIO_NO_VECTOR;
	lock_drop(&vq->lock);
}

static bool
queue_should_run(struct virtio *v, const struct virtq *vq)
{
	uint8_t status = virtio_status(v);

	if (!vq->regs->enabled || (status & VIRTIO_STATUS_NEEDS_RESET))
		return false;
	return v->legacy || (status & VIRTIO_STATUS_DRIVER_OK);
}

static void
start_queues(struct virtio *v)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		struct virtq *vq = &v->queues[i];

		if (vq->running || !queue_should_run(v, vq))
			continue;
		lock_take(&vq->lock);
		virtq_start(vq, v->features);
		lock_drop(&vq->lock);
	}
}

static void
hold_queues(struct virtio *v, bool held)
{
	for (unsigned i = 0; i < v->queue_count; i++) {
		lock_take(&v->queues[i].lock);
		virtq_hold(&v->queues[i], held);
		lock_drop(&v->queues[i].lock);
	}
}

static void
quiesce(struct virtio *v)
{
	hold_queues(v, true);
	if (v->model->drain != NULL)
		v->model->drain(virtio_self(v));
}

/* Where a legacy queue's areas are, by its page. */
static void
legacy_layout(struct virtq_regs *regs, uint64_t pfn)
{
	regs->desc = pfn * LEGACY_PAGE;
	regs->driver = regs->desc + regs->size * 16;
	regs->device =
	    round_up(regs->driver + 2 * (3 + regs->size), LEGACY_PAGE);
}

/* The legacy interface is the driver's: not if it took the other one. */
static bool
legacy_claim(struct virtio *v)
{
	if (virtio_status(v) & VIRTIO_STATUS_FEATURES_OK)
		return false;
	v->legacy = true;
	return true;
}

void
virtio_legacy_set_features(struct virtio *v, uint32_t value)
{
	if (!legacy_claim(v) || (virtio_status(v) & VIRTIO_STATUS_DRIVER_OK))
		return;
	for (unsigned i = 0; i < v->queue_count; i++)
		if (v->regs[i].enabled)
			return;
	v->driver_features = value & virtio_offered(v, true);
	virtio_agree(v);
}

void
virtio_legacy_set_pfn(struct virtio *v, uint32_t pfn)
{
	struct virtq *vq = virtio_queue(v);
	uint64_t vector;

	if (vq == NULL || !legacy_claim(v) ||
	    (pfn != 0) == (vq->regs->enabled != 0))
		return;
	if (pfn != 0) {
		legacy_layout(vq->regs, pfn);
		vq->regs->enabled = 1;
		start_queues(v);
		return;
	}
	quiesce(v);
	lock_take(&vq->lock);
	vector = vq->regs->vector;
	virtq_reset(vq);
	vq->regs->vector = vector;
	lock_drop(&vq->lock);
	virtio_resume(v);
}

uint32_t
virtio_legacy_pfn(struct virtio *v)
{
	const struct virtq *vq = virtio_queue(v);

	return vq == NULL ? 0 : (uint32_t)(vq->regs->desc / LEGACY_PAGE);
}

void
virtio_notify(struct virtio *v, uint64_t index)
{
	struct virtq *vq;

	if (index >= v->queue_count)
		return;
	vq = &v->queues[index];
	lock_take(&vq->lock);
	/* Legacy drivers are known to forget about the bus master bit. */
	if (vq->running && !vq->failed && !vq->held &&
	    (v->legacy || pci_may_dma(&v->func)))
		v->model->notify(virtio_self(v), vq);
	lock_drop(&vq->lock);
}

static void
notify_all(void *arg)
{
	struct virtio *v = arg;

	for (unsigned i = 0; i < v->queue_count; i++)
		virtio_notify(v, i);
}

void
virtio_notify_later(struct virtio *v)
{
	event_wake(v->later);
}

/* What was notified while the device was no bus master is to be done now. */
static void
virtio_cfg_changed(void *self, unsigned off, unsigned len)
{
	struct virtio *v = self;

	if (off <= PCI_CFG_COMMAND && PCI_CFG_COMMAND - off < len)
		virtio_notify_later(v);
}

/* ---- status ------------------------------------------------------------- */

uint8_t
virtio_status(struct virtio *v)
{
	uint8_t status;

	lock_take(&v->lock);
	status = v->status;
	lock_drop(&v->lock);
	return status;
}

/* By the driver, or the machine. */
static void
reset_all(struct virtio *v)
{
	quiesce(v);
	for (unsigned i = 0; i < v->queue_count; i++) {
		lock_take(&v->queues[i].lock);
		virtq_reset(&v->queues[i]);
		lock_drop(&v->queues[i].lock);
	}
	v->device_feature_select = v->driver_feature_select = 0;
	v->driver_features = v->features = 0;
	v->queue_select = 0;
	v->legacy = false;
	lock_take(&v->lock);
	v->status = 0;
	v->isr = 0;
	pci_intx_set(&v->func, false);
	v->config_vector = VIRTIO_NO_VECTOR;
	lock_drop(&v->lock);
	if (v->model->reset != NULL)
		v->model->reset(virtio_self(v));
	hold_queues(v, false);
}

void
virtio_set_status(struct virtio *v, uint8_t value, bool legacy)
{
	uint8_t old = virtio_status(v), added;

	if (value == 0) {
		reset_all(v);
		return;
	}
	if (legacy ? !legacy_claim(v) : v->legacy)
		return;
	added = value & STATUS_BY_DRIVER & ~old;
	if ((added & VIRTIO_STATUS_FEATURES_OK) &&
	    (legacy || !features_acceptable(v, virtio_self(v))))
		added &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
	if (!legacy && !((old | added) & VIRTIO_STATUS_FEATURES_OK))
		added &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	lock_take(&v->lock);
	v->status |= added;
	lock_drop(&v->lock);
	if (added & VIRTIO_STATUS_FEATURES_OK)
		virtio_agree(v);
	if (added & VIRTIO_STATUS_DRIVER_OK)
		start_queues(v);
}

/* ---- life and state ----------------------------------------------------- */

int
virtio_init(struct virtio *v, struct device *dev,
    const struct virtio_model *model, unsigned queues, const uint16_t *sizes,
    struct virtq_regs *regs, struct pci_msix_entry *msix, uint64_t features,
    struct err *err)
{
	struct config *root = vm_config(device_vm(dev));
	bool packed;
	int rc;

	assert(device_self(dev) == v && device_model(dev)->unlocked);
	assert(model->config_size <= VIRTIO_CONFIG_MAX);
	v->dev = dev;
	v->model = model;
	v->regs = regs;
	lock_init(&v->lock);
	v->queues = xcalloc(queues, sizeof(*v->queues));
	v->queue_count = queues;
	for (unsigned i = 0; i < queues; i++)
		virtq_init(&v->queues[i], device_mem(dev), &regs[i], sizes[i],
		    &virtio_queue_ops, v, i);
	rc = config_bool(root, "virtio.packed", true, &packed, err);
	if (rc < 0)
		return rc;
	v->offered = features | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
	    VIRTIO_F_VERSION_1 | (packed ? VIRTIO_F_RING_PACKED : 0);
	rc = virtio_pci_init(v, msix, err);
	if (rc < 0)
		return rc;
	v->func.cfg_changed = virtio_cfg_changed;
	return event_add_wake(device_loop(dev), notify_all, v, &v->later, err);
}

void
virtio_fini(struct virtio *v)
{
	if (v->dev == NULL)
		return;
	event_remove(v->later);
	pci_func_fini(&v->func);
	for (unsigned i = 0; i < v->queue_count; i++)
		virtq_fini(&v->queues[i]);
	free(v->queues);
	lock_fini(&v->lock);
}

void
virtio_reset(struct virtio *v)
{
	reset_all(v);
	pci_func_reset(&v->func);
}

/* After a reset there is nothing to take up; after a load there may be. */
void
virtio_changed(struct virtio *v)
{
	pci_func_changed(&v->func);
	pci_intx_set(&v->func, v->isr != 0);
	for (unsigned i = 0; i < v->queue_count; i++) {
		lock_take(&v->queues[i].lock);
		virtq_stop(&v->queues[i]);
		lock_drop(&v->queues[i].lock);
	}
	v->features = 0;
	if (v->legacy || (virtio_status(v) & VIRTIO_STATUS_FEATURES_OK))
		virtio_agree(v);
	start_queues(v);
}

static int
check_status(const struct virtio *v, struct err *err)
{
	bool agreed = v->status & VIRTIO_STATUS_FEATURES_OK;
	bool fine =
	    (v->status &
		(uint8_t) ~(STATUS_BY_DRIVER | VIRTIO_STATUS_NEEDS_RESET)) ==
		0 &&
	    !(agreed && v->legacy) &&
	    (!v->legacy ||
		(v->has_legacy &&
		    (v->driver_features & ~virtio_offered(v, true)) == 0)) &&
	    (!agreed || (v->has_modern && features_acceptable(v, v))) &&
	    (agreed || v->legacy || !(v->status & VIRTIO_STATUS_DRIVER_OK)) &&
	    vector_valid(v, v->config_vector);

	if (!fine)
		return err_set(err, -EINVAL,
		    "status 0x%02x and features 0x%llx that no driver could "
		    "have left",
		    v->status, (unsigned long long)v->driver_features);
	return 0;
}

static bool
check_legacy_queue(const struct virtq_regs *regs, uint16_t size)
{
	struct virtq_regs placed = *regs;

	if (regs->size != size || regs->desc % LEGACY_PAGE != 0 ||
	    regs->desc / LEGACY_PAGE > UINT32_MAX)
		return false;
	legacy_layout(&placed, regs->desc / LEGACY_PAGE);
	return placed.driver == regs->driver && placed.device == regs->device;
}

int
virtio_check(const struct virtio *v, const struct virtq_regs *regs,
    struct err *err)
{
	bool agreed = v->status & VIRTIO_STATUS_FEATURES_OK;
	int rc = pci_func_check(&v->func, err);

	if (rc == 0)
		rc = check_status(v, err);
	for (unsigned i = 0; i < v->queue_count && rc == 0; i++) {
		uint16_t size = v->queues[i].size_max;

		rc = virtq_check(&regs[i], size,
		    agreed ? v->driver_features : 0, i, err);
		if (rc < 0)
			break;
		if (!vector_valid(v, regs[i].vector) ||
		    (regs[i].enabled && !agreed && !v->legacy) ||
		    (regs[i].enabled && v->legacy &&
			!check_legacy_queue(&regs[i], size)))
			rc = err_set(err, -EINVAL,
			    "queue %u: registers that no driver could have "
			    "left",
			    i);
	}
	return rc;
}

void
virtio_pause(struct virtio *v)
{
	quiesce(v);
}

void
virtio_resume(struct virtio *v)
{
	hold_queues(v, false);
	notify_all(v);
}
