/*
 * Virtio over PCI: two register interfaces on one device.
 *
 * Models       Virtio 1.2, section 4.1: capabilities for common, notify, ISR,
 *              device and PCI-access structures; 4.1.4.8 for the legacy
 *              registers; 4.1.2 for identification.
 *
 *              BAR 0    legacy registers, ports
 *              BAR 1    MSI-X, as bhyve has it
 *              BAR 2    modern, 16 KiB: common, ISR, device, notify, a page
 *                       each
 *
 * Options      of the machine: virtio.modern and virtio.legacy, which
 *              interfaces there are (with both the ids are transitional);
 *              virtio_msix=false (also virtio.msix; -W): a message
 *              by MSI in place of MSI-X.
 * Locking      the model is unlocked: handlers here take the device's lock,
 *              but for a notification.
 * Leaves out   VIRTIO_F_NOTIFICATION_DATA, VIRTIO_F_RING_RESET and shared
 *              memory, which are not offered.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "virtio/virtio_impl.h"
#include "vm/vm.h"

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_MODERN_ID 0x1040 /* and the type of the device */

#define BAR_LEGACY 0u
#define BAR_MSIX 1u
#define BAR_MODERN 2u

#define MODERN_PAGE 0x1000u
#define MODERN_COMMON 0x0000u
#define MODERN_ISR 0x1000u
#define MODERN_DEVICE 0x2000u
#define MODERN_NOTIFY 0x3000u
#define MODERN_SIZE 0x4000u
#define NOTIFY_MULTIPLIER 4u

/* 4.1.4: vendor capabilities, from their third byte on. */
#define CAP_ID_VENDOR 0x09
#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_ISR 3
#define CAP_DEVICE 4
#define CAP_PCI 5
struct virtio_cap {
	uint8_t cap_len;
	uint8_t cfg_type;
	uint8_t bar;
	uint8_t id;
	uint8_t padding[2];
	le32 offset;
	le32 length;
	le32 more; /* notify: the multiplier; PCI: the data */
};
_Static_assert(sizeof(struct virtio_cap) == 18, "20 bytes with its header");
#define CAP_PCI_BAR 4u
#define CAP_PCI_OFFSET 8u
#define CAP_PCI_LENGTH 12u
#define CAP_PCI_DATA 16u

/* 4.1.4.3: the common configuration. */
#define COMMON_SIZE 56u
struct virtio_common {
	le32 device_feature_select;
	le32 device_feature;
	le32 driver_feature_select;
	le32 driver_feature;
	le16 config_vector;
	le16 num_queues;
	uint8_t device_status;
	uint8_t config_generation;
	le16 queue_select;
	le16 queue_size;
	le16 queue_vector;
	le16 queue_enable;
	le16 queue_notify_off;
	le64 queue_desc;
	le64 queue_driver;
	le64 queue_device;
};
_Static_assert(sizeof(struct virtio_common) == COMMON_SIZE, "56 bytes");
#define COMMON(field) offsetof(struct virtio_common, field)

/* 4.1.4.8: the legacy registers; without MSI-X the vectors are not there. */
#define LEGACY_HOST_FEATURES 0u
#define LEGACY_GUEST_FEATURES 4u
#define LEGACY_QUEUE_PFN 8u
#define LEGACY_QUEUE_SIZE 12u
#define LEGACY_QUEUE_SELECT 14u
#define LEGACY_QUEUE_NOTIFY 16u
#define LEGACY_STATUS 18u
#define LEGACY_ISR 19u
#define LEGACY_CONFIG_VECTOR 20u
#define LEGACY_QUEUE_VECTOR 22u
#define LEGACY_CONFIG 20u
#define LEGACY_CONFIG_MSIX 24u

/* ---- modern ------------------------------------------------------------- */

static uint32_t
features_half(uint64_t features, uint32_t select)
{
	return select > 1 ? 0 : (uint32_t)(features >> (32 * select));
}

static void
common_fill(struct virtio *v, struct virtio_common *c)
{
	const struct virtq *vq = virtio_queue(v);

	*c = (struct virtio_common) {
		.device_feature_select = le32_make(v->device_feature_select),
		.device_feature =
		    le32_make(features_half(virtio_offered(v, false),
			v->device_feature_select)),
		.driver_feature_select = le32_make(v->driver_feature_select),
		.driver_feature = le32_make(features_half(v->driver_features,
		    v->driver_feature_select)),
		.config_vector = le16_make(virtio_config_vector(v)),
		.num_queues = le16_make((uint16_t)v->queue_count),
		.device_status = virtio_status(v),
		.config_generation = virtio_generation(v),
		.queue_select = le16_make(v->queue_select),
		.queue_vector = le16_make(VIRTIO_NO_VECTOR),
	};
	if (vq == NULL)
		return; /* its size of 0 says that there is no such queue */
	c->queue_size = le16_make((uint16_t)vq->regs->size);
	c->queue_vector = le16_make((uint16_t)vq->regs->vector);
	c->queue_enable = le16_make((uint16_t)vq->regs->enabled);
	c->queue_notify_off = le16_make((uint16_t)vq->index);
	c->queue_desc = le64_make(vq->regs->desc);
	c->queue_driver = le64_make(vq->regs->driver);
	c->queue_device = le64_make(vq->regs->device);
}

/* One half of an address of the selected queue. */
static void
address_write(struct virtio *v, uint64_t off, uint32_t value)
{
	struct virtq_regs *regs = virtio_writable_queue(v);
	uint64_t *addr;

	if (regs == NULL)
		return;
	addr = off < COMMON(queue_driver) ? &regs->desc :
	    off < COMMON(queue_device)    ? &regs->driver :
					    &regs->device;
	if (off % 8 == 0)
		*addr = (*addr & ~(uint64_t)UINT32_MAX) | value;
	else
		*addr = (*addr & UINT32_MAX) | (uint64_t)value << 32;
}

static void
queue_size_write(struct virtio *v, uint16_t value)
{
	const struct virtq *vq = virtio_queue(v);
	struct virtq_regs *regs = virtio_writable_queue(v);

	if (regs != NULL && value <= vq->size_max)
		regs->size = value;
}

/*
 * 4.1.3.1: a driver writes each field in its own width, the 64-bit ones by
 * halves.  Anything else changes nothing.
 */
static void
common_write(struct virtio *v, uint64_t off, unsigned size, uint32_t value)
{
	if (size == 4) {
		if (off == COMMON(device_feature_select))
			v->device_feature_select = value;
		else if (off == COMMON(driver_feature_select))
			v->driver_feature_select = value;
		else if (off == COMMON(driver_feature))
			virtio_set_features(v, v->driver_feature_select, value);
		else if (off >= COMMON(queue_desc) && off < COMMON_SIZE)
			address_write(v, off, value);
	} else if (size == 2) {
		if (off == COMMON(config_vector))
			virtio_set_config_vector(v, (uint16_t)value);
		else if (off == COMMON(queue_select))
			v->queue_select = (uint16_t)value;
		else if (off == COMMON(queue_size))
			queue_size_write(v, (uint16_t)value);
		else if (off == COMMON(queue_vector))
			virtio_set_queue_vector(v, (uint16_t)value);
		else if (off == COMMON(queue_enable) && value == 1)
			virtio_enable_queue(v);
	} else if (off == COMMON(device_status)) {
		virtio_set_status(v, (uint8_t)value, false);
	}
}

static uint64_t
modern_read_locked(struct virtio *v, uint64_t off, unsigned size)
{
	struct virtio_common common;
	uint8_t bytes[8] = { 0 };

	switch (off / MODERN_PAGE * MODERN_PAGE) {
	case MODERN_COMMON:
		if (!range_within(off, size, sizeof(common)))
			return 0;
		common_fill(v, &common);
		memcpy(bytes, (uint8_t *)&common + off, size);
		return le64_load(bytes);
	case MODERN_ISR:
		return off == MODERN_ISR ? virtio_read_isr(v) : 0;
	case MODERN_DEVICE:
		return virtio_config_read(v, off - MODERN_DEVICE, size);
	default:
		return 0;
	}
}

static void
modern_write_locked(struct virtio *v, uint64_t off, unsigned size,
    uint64_t value)
{
	if (off < MODERN_PAGE)
		common_write(v, off, size, (uint32_t)value);
	else if (off >= MODERN_NOTIFY)
		virtio_notify(v, (off - MODERN_NOTIFY) / NOTIFY_MULTIPLIER);
	else if (off >= MODERN_DEVICE)
		virtio_config_write(v, off - MODERN_DEVICE, size, value);
}

static uint64_t
modern_read(void *self, uint64_t off, unsigned size)
{
	struct virtio *v = self;
	uint64_t value;

	lock_take(device_lock(v->dev));
	value = modern_read_locked(v, off, size);
	lock_drop(device_lock(v->dev));
	return value;
}

static void
modern_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct virtio *v = self;

	if (off >= MODERN_NOTIFY) {
		modern_write_locked(v, off, size, value);
		return;
	}
	lock_take(device_lock(v->dev));
	modern_write_locked(v, off, size, value);
	lock_drop(device_lock(v->dev));
}

static const struct io_ops modern_ops = {
	.read = modern_read,
	.write = modern_write,
	.widths = 1 | 2 | 4,
	.odd = IO_SPLIT,
	.aligned = true,
};

/*
 * 4.1.4.9: BAR 2 through configuration space, for those who cannot map it.
 * Its lock is held here.  True if the registers of the capability make sense.
 */
static bool
window_target(struct virtio *v, unsigned off, unsigned size, uint32_t *target,
    uint32_t *length)
{
	*target = pci_get_cfg(&v->func, v->window + CAP_PCI_OFFSET, 4);
	*length = pci_get_cfg(&v->func, v->window + CAP_PCI_LENGTH, 4);
	return off == 0 && *length == size && size != 3 &&
	    pci_get_cfg(&v->func, v->window + CAP_PCI_BAR, 1) == BAR_MODERN &&
	    *target % size == 0 && range_within(*target, size, MODERN_SIZE);
}

static uint32_t
window_read(void *self, unsigned off, unsigned size)
{
	struct virtio *v = self;
	uint32_t target, length;

	if (!window_target(v, off, size, &target, &length))
		return 0;
	return (uint32_t)modern_read_locked(v, target, length);
}

static void
window_write(void *self, unsigned off, unsigned size, uint32_t value)
{
	struct virtio *v = self;
	uint32_t target, length;

	if (window_target(v, off, size, &target, &length))
		modern_write_locked(v, target, length, value);
}

/* ---- legacy ------------------------------------------------------------- */

static unsigned
legacy_config_at(const struct virtio *v)
{
	return pci_msix_enabled(&v->func) ? LEGACY_CONFIG_MSIX : LEGACY_CONFIG;
}

static uint32_t
legacy_register(struct virtio *v, uint64_t off)
{
	const struct virtq *vq = virtio_queue(v);

	switch (off) {
	case LEGACY_HOST_FEATURES:
		return (uint32_t)virtio_offered(v, true);
	case LEGACY_GUEST_FEATURES:
		return (uint32_t)v->driver_features;
	case LEGACY_QUEUE_PFN:
		return virtio_legacy_pfn(v);
	case LEGACY_QUEUE_SIZE:
		return vq == NULL ? 0 : (uint32_t)vq->regs->size;
	case LEGACY_QUEUE_SELECT:
		return v->queue_select;
	case LEGACY_STATUS:
		return virtio_status(v);
	case LEGACY_ISR:
		return virtio_read_isr(v);
	case LEGACY_CONFIG_VECTOR:
		return virtio_config_vector(v);
	case LEGACY_QUEUE_VECTOR:
		return vq == NULL ? VIRTIO_NO_VECTOR :
				    (uint32_t)vq->regs->vector;
	default:
		return 0;
	}
}

/* Where the register that holds off begins, and its width. */
static unsigned
legacy_width(uint64_t off, uint64_t *begin)
{
	unsigned width = off < LEGACY_QUEUE_SIZE      ? 4 :
	    off >= LEGACY_STATUS && off <= LEGACY_ISR ? 1 :
							2;

	*begin = round_down(off, width);
	return width;
}

static uint64_t
legacy_read(void *self, uint64_t off, unsigned size)
{
	struct virtio *v = self;
	uint64_t value = 0, begin;
	unsigned config, width;

	lock_take(device_lock(v->dev));
	config = legacy_config_at(v);
	if (off >= config) {
		value = virtio_config_read(v, off - config, size);
	} else {
		width = legacy_width(off, &begin);
		value = legacy_register(v, begin) >> (8 * (off - begin));
		/* Two registers at once: the rest of a dword. */
		for (uint64_t at = begin + width;
		     at < off + size && at < config; at += width) {
			uint64_t next;

			width = legacy_width(at, &next);
			value |= (uint64_t)legacy_register(v, at)
			    << (8 * (at - off));
		}
	}
	lock_drop(device_lock(v->dev));
	return value & size_mask(size);
}

static void
legacy_register_write(struct virtio *v, uint64_t off, uint32_t value)
{
	switch (off) {
	case LEGACY_GUEST_FEATURES:
		virtio_legacy_set_features(v, value);
		break;
	case LEGACY_QUEUE_PFN:
		virtio_legacy_set_pfn(v, value);
		break;
	case LEGACY_QUEUE_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	case LEGACY_STATUS:
		virtio_set_status(v, (uint8_t)value, true);
		break;
	case LEGACY_CONFIG_VECTOR:
		virtio_set_config_vector(v, (uint16_t)value);
		break;
	case LEGACY_QUEUE_VECTOR:
		virtio_set_queue_vector(v, (uint16_t)value);
		break;
	default:
		break;
	}
}

/* A register is written as a whole; wider accesses write the first one. */
static void
legacy_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct virtio *v = self;
	uint64_t begin;
	unsigned config;

	if (off == LEGACY_QUEUE_NOTIFY) {
		virtio_notify(v, value & UINT16_MAX);
		return;
	}
	lock_take(device_lock(v->dev));
	config = legacy_config_at(v);
	if (off >= config)
		virtio_config_write(v, off - config, size, value);
	else if (legacy_width(off, &begin) <= size && begin == off)
		legacy_register_write(v, off, (uint32_t)value);
	lock_drop(device_lock(v->dev));
}

static const struct io_ops legacy_ops = {
	.read = legacy_read,
	.write = legacy_write,
	.widths = 1 | 2 | 4,
	.odd = IO_SPLIT,
};

/* ---- making ------------------------------------------------------------- */

static unsigned
add_cap(struct virtio *v, uint8_t type, uint32_t offset, uint32_t length,
    uint32_t more)
{
	bool has_more = type == CAP_NOTIFY || type == CAP_PCI;
	struct virtio_cap cap = {
		.cap_len = has_more ? 20 : 16,
		.cfg_type = type,
		.bar = type == CAP_PCI ? 0 : BAR_MODERN,
		.offset = le32_make(offset),
		.length = le32_make(length),
		.more = le32_make(more),
	};

	return pci_add_capability(&v->func, CAP_ID_VENDOR, &cap,
	    cap.cap_len - 2u);
}

static int
add_modern(struct virtio *v, struct err *err)
{
	struct pci_window window = {
		.read = window_read,
		.write = window_write,
	};
	int rc = pci_add_bar(&v->func, BAR_MODERN, PCI_BAR_MEM32, MODERN_SIZE,
	    &modern_ops, NULL, err);

	if (rc < 0)
		return rc;
	assert(v->queue_count * NOTIFY_MULTIPLIER <= MODERN_PAGE);
	add_cap(v, CAP_COMMON, MODERN_COMMON, COMMON_SIZE, 0);
	add_cap(v, CAP_NOTIFY, MODERN_NOTIFY,
	    v->queue_count * NOTIFY_MULTIPLIER, NOTIFY_MULTIPLIER);
	add_cap(v, CAP_ISR, MODERN_ISR, 1, 0);
	if (v->model->config_size != 0)
		add_cap(v, CAP_DEVICE, MODERN_DEVICE, v->model->config_size, 0);
	v->window = add_cap(v, CAP_PCI, 0, 0, 0);
	pci_set_cfg(&v->func, v->window + CAP_PCI_BAR, 1, 0, UINT8_MAX);
	pci_set_cfg(&v->func, v->window + CAP_PCI_OFFSET, 4, 0, UINT32_MAX);
	pci_set_cfg(&v->func, v->window + CAP_PCI_LENGTH, 4, 0, UINT32_MAX);
	window.off = v->window + CAP_PCI_DATA;
	pci_add_window(&v->func, &window);
	return 0;
}

static int
read_options(struct virtio *v, bool *msix, struct err *err)
{
	struct config *root = vm_config(device_vm(v->dev));
	int rc = config_bool(root, "virtio.modern", true, &v->has_modern, err);

	if (rc == 0)
		rc = config_bool(root, "virtio.legacy",
		    v->model->transitional_id != 0, &v->has_legacy, err);
	if (rc == 0)
		rc = config_bool(root, "virtio_msix", true, msix, err);
	if (rc == 0)
		rc = config_bool(root, "virtio.msix", *msix, msix, err);
	if (rc < 0)
		return rc;
	if (v->model->transitional_id == 0)
		v->has_legacy = false;
	if (!v->has_modern && !v->has_legacy)
		return err_set(err, -EINVAL,
		    "%s: neither its legacy interface nor its modern one is "
		    "left by virtio.legacy and virtio.modern",
		    device_name(v->dev));
	return 0;
}

int
virtio_pci_init(struct virtio *v, struct pci_msix_entry *msix, struct err *err)
{
	const struct virtio_model *model = v->model;
	struct pci_ids ids = {
		.vendor = VIRTIO_VENDOR,
		.subvendor = VIRTIO_VENDOR,
		.class = model->class,
		.subclass = model->subclass,
	};
	bool use_msix;
	int rc = read_options(v, &use_msix, err);

	if (rc < 0)
		return rc;
	/* 4.1.2.3: revision 0 and the type as subsystem mean transitional. */
	ids.device = v->has_legacy ? model->transitional_id :
				     VIRTIO_MODERN_ID + model->type;
	ids.subdevice = v->has_legacy ? model->type : ids.device;
	ids.revision = v->has_legacy ? 0 : 1;
	rc = pci_ids_override(device_config(v->dev), &ids, err);
	if (rc == 0)
		rc = pci_func_init(&v->func, v->dev, &ids, err);
	if (rc < 0)
		return rc;
	pci_add_intx(&v->func);
	if (v->has_legacy)
		rc = pci_add_bar(&v->func, BAR_LEGACY, PCI_BAR_PORT,
		    LEGACY_CONFIG_MSIX + model->config_size, &legacy_ops, NULL,
		    err);
	if (rc == 0 && use_msix) {
		v->vectors = v->queue_count + 1;
		rc = pci_add_msix(&v->func, BAR_MSIX, msix, v->vectors, err);
	}
	if (!use_msix)
		pci_add_msi(&v->func, 1);
	if (rc == 0 && v->has_modern)
		rc = add_modern(v, err);
	return rc;
}
