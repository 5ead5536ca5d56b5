/*
 * Between the core and its transport: what the registers of either PCI
 * interface do.  All but virtio_notify() under the device's lock.
 */
#ifndef VIRTIO_VIRTIO_IMPL_H
#define VIRTIO_VIRTIO_IMPL_H

#include "virtio/virtio.h"

/* virtio_pci.c: BARs, capabilities and identification. */
int virtio_pci_init(struct virtio *v, struct pci_msix_entry *msix,
    struct err *err);

uint8_t virtio_status(struct virtio *v);
void virtio_set_status(struct virtio *v, uint8_t value, bool legacy);

/* The half of the features that is selected, as the interface offers it. */
uint64_t virtio_offered(const struct virtio *v, bool legacy);
void virtio_set_features(struct virtio *v, unsigned half, uint32_t value);
void virtio_legacy_set_features(struct virtio *v, uint32_t value);

/* The selected queue, or NULL where there is none of that number. */
struct virtq *virtio_queue(struct virtio *v);
/* Registers of the selected queue, where the driver may set them now. */
struct virtq_regs *virtio_writable_queue(struct virtio *v);
void virtio_enable_queue(struct virtio *v);
void virtio_legacy_set_pfn(struct virtio *v, uint32_t pfn);
uint32_t virtio_legacy_pfn(struct virtio *v);

void virtio_set_config_vector(struct virtio *v, uint16_t vector);
uint16_t virtio_config_vector(struct virtio *v);
void virtio_set_queue_vector(struct virtio *v, uint16_t vector);

/* Reading the interrupt status clears it. */
uint8_t virtio_read_isr(struct virtio *v);
uint8_t virtio_generation(struct virtio *v);
uint64_t virtio_config_read(struct virtio *v, uint64_t off, unsigned size);
void virtio_config_write(struct virtio *v, uint64_t off, unsigned size,
    uint64_t value);

/* Any number is a queue's or is ignored.  With or without the device's lock. */
void virtio_notify(struct virtio *v, uint64_t index);

#endif
