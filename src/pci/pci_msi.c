/*
 * MSI: a function's messages, by registers in config space.
 *
 * Models       PCI Local Bus 3.0, section 6.8.1: a 64-bit address, 1 to 32
 *              messages, no mask for each.  The guest grants some of those that
 *              the function can send, by default one; messages that were not
 *              granted share those that were, so that none is lost.
 * Departures   Bus master bit and other addresses: as pci_msix.c.
 * Locking      irq_lock guards what senders need of config space.
 */
#include "base/util.h"
#include "base/wire.h"
#include "irq/irq.h"
#include "pci/pci_impl.h"

#define CAP_ID_MSI 0x05
#define MSI_CONTROL 2 /* offsets in the capability */
#define MSI_ADDR_LOW 4
#define MSI_ADDR_HIGH 8
#define MSI_DATA 12
#define MSI_CAP_LEN 12u /* without its header */
#define MSI_CONTROL_ENABLE 0x0001
#define MSI_CONTROL_CAPABLE(control) ((control) >> 1 & 7)
#define MSI_CONTROL_GRANTED(control) ((control) >> 4 & 7)
#define MSI_CONTROL_GRANTED_MASK 0x0070
#define MSI_CONTROL_64BIT 0x0080

void
pci_add_msi(struct pci_func *func, unsigned messages)
{
	static const uint8_t body[MSI_CAP_LEN];
	unsigned capable = MSI_CONTROL_64BIT, cap;

	assert(is_power_of_2(messages) && messages <= PCI_MSI_MAX);
	capable |= (unsigned)__builtin_ctz(messages) << 1;
	cap = pci_add_capability(func, CAP_ID_MSI, body, sizeof(body));
	pci_set_cfg(func, cap + MSI_CONTROL, 2, capable,
	    MSI_CONTROL_ENABLE | MSI_CONTROL_GRANTED_MASK);
	pci_set_cfg(func, cap + MSI_ADDR_LOW, 4, 0, ~3u);
	pci_set_cfg(func, cap + MSI_ADDR_HIGH, 4, 0, PCI_ONES);
	pci_set_cfg(func, cap + MSI_DATA, 2, 0, UINT16_MAX);
	func->msi.cap = (uint8_t)cap;
}

bool
pci_msi_wanted(const struct pci_func *func)
{
	return func->msi.cap != 0 &&
	    (pci_get_cfg(func, func->msi.cap + MSI_CONTROL, 2) &
		MSI_CONTROL_ENABLE);
}

bool
pci_msi_enabled(const struct pci_func *func)
{
	return atomic_load_explicit(&func->msi.on, memory_order_acquire);
}

void
pci_msi_update(struct pci_func *func)
{
	struct pci_msi *msi = &func->msi;
	uint32_t control;

	if (msi->cap == 0)
		return;
	control = pci_get_cfg(func, msi->cap + MSI_CONTROL, 2);
	lock_take(&func->irq_lock);
	msi->addr = pci_get_cfg(func, msi->cap + MSI_ADDR_LOW, 4) |
	    (uint64_t)pci_get_cfg(func, msi->cap + MSI_ADDR_HIGH, 4) << 32;
	msi->data = (uint16_t)pci_get_cfg(func, msi->cap + MSI_DATA, 2);
	/* A guest may write what it should not. */
	msi->granted = 1u << MIN(MSI_CONTROL_GRANTED(control),
			   MSI_CONTROL_CAPABLE(control));
	atomic_store_explicit(&msi->on, control & MSI_CONTROL_ENABLE,
	    memory_order_release);
	lock_drop(&func->irq_lock);
}

void
pci_msi_send(struct pci_func *func, unsigned message)
{
	const struct pci_msi *msi = &func->msi;
	uint32_t low;

	lock_take(&func->irq_lock);
	low = msi->granted - 1;
	if (pci_msi_enabled(func)) /* to nobody: the guest's own affair */
		(void)irq_send_msi(device_irq_chip(func->dev), msi->addr,
		    (msi->data & ~low) | (message & low));
	lock_drop(&func->irq_lock);
}
