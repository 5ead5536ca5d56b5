/*
 * dummy: a PCI function without a purpose, to test what all functions share.
 *
 * Models       bhyve's function of that name: 10dd:0001 with 16 ports in BAR 0
 *              and 4 KiB of memory in BAR 1, which keep what is written.  We
 *              add BAR 2, of 64 bits, with the same memory, and MSI-X in BAR 4.
 *
 *              port 4    writing 4 bytes sends that message
 *              port 8    bit 0 is the level of INTA
 *
 * Options      pcireg.* overrides single registers; others have no effect.
 * Locking      the device lock, held at every entry.
 */
#include "pci/pci.h"

#define DUMMY_PORTS 16u
#define DUMMY_SEND 4u  /* offset in BAR 0 */
#define DUMMY_LEVEL 8u /* the same */
#define DUMMY_LEVEL_INTX 0x01
#define DUMMY_MEM 4096u
#define DUMMY_VECTORS 16u
#define DUMMY_MESSAGES 4u

struct dummy {
	struct pci_func func;
	struct pci_msix_entry msix[DUMMY_VECTORS];
	uint8_t ports[DUMMY_PORTS];
	uint8_t mem[DUMMY_MEM];
};

static const struct field dummy_state[] = {
	PCI_FUNC_STATE(struct dummy, func),
	PCI_MSIX_STATE(struct dummy, msix),
	STATE_ARRAY(struct dummy, ports, 0),
	STATE_ARRAY(struct dummy, mem, 0),
};

static uint64_t
bytes_read(void *arg, uint64_t off, unsigned size)
{
	const uint8_t *bytes = arg;
	uint64_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)bytes[off + i] << (8 * i);
	return value;
}

static void
bytes_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	uint8_t *bytes = arg;

	for (unsigned i = 0; i < size; i++)
		bytes[off + i] = (uint8_t)(value >> (8 * i));
}

static const struct io_ops dummy_mem_ops = {
	.read = bytes_read,
	.write = bytes_write,
};

static uint64_t
dummy_port_read(void *self, uint64_t off, unsigned size)
{
	struct dummy *dummy = self;

	return bytes_read(dummy->ports, off, size);
}

static void
dummy_drive(struct dummy *dummy)
{
	pci_intx_set(&dummy->func,
	    dummy->ports[DUMMY_LEVEL] & DUMMY_LEVEL_INTX);
}

static void
dummy_port_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct dummy *dummy = self;

	bytes_write(dummy->ports, off, size, value);
	if (off == DUMMY_SEND && size == 4) {
		pci_msi_send(&dummy->func, (uint32_t)value);
		pci_msix_send(&dummy->func, (uint32_t)value);
	}
	dummy_drive(dummy);
}

static const struct io_ops dummy_port_ops = {
	.read = dummy_port_read,
	.write = dummy_port_write,
};

static int
dummy_create(struct device *dev, void *self, struct err *err)
{
	struct pci_ids ids = { .vendor = 0x10dd, .device = 0x0001 };
	struct dummy *dummy = self;
	struct pci_func *func = &dummy->func;
	int rc;

	rc = pci_ids_override(device_config(dev), &ids, err);
	if (rc == 0)
		rc = pci_func_init(func, dev, &ids, err);
	if (rc == 0)
		rc = pci_add_bar(func, 0, PCI_BAR_PORT, DUMMY_PORTS,
		    &dummy_port_ops, NULL, err);
	if (rc == 0)
		rc = pci_add_bar(func, 1, PCI_BAR_MEM32, DUMMY_MEM,
		    &dummy_mem_ops, dummy->mem, err);
	if (rc == 0)
		rc = pci_add_bar(func, 2, PCI_BAR_MEM64, DUMMY_MEM,
		    &dummy_mem_ops, dummy->mem, err);
	if (rc == 0)
		rc = pci_add_msix(func, 4, dummy->msix, DUMMY_VECTORS, err);
	if (rc < 0)
		return rc;
	pci_add_msi(func, DUMMY_MESSAGES);
	pci_add_intx(func);
	return 0;
}

static void
dummy_reset(void *self)
{
	struct dummy *dummy = self;

	pci_func_reset(&dummy->func);
}

static void
dummy_changed(void *self)
{
	struct dummy *dummy = self;

	pci_func_changed(&dummy->func);
	dummy_drive(dummy);
}

static int
dummy_check(const void *self, struct err *err)
{
	const struct dummy *dummy = self;

	return pci_func_check(&dummy->func, err);
}

static void
dummy_destroy(void *self)
{
	struct dummy *dummy = self;

	pci_func_fini(&dummy->func);
}

DEVICE_MODEL(dummy) = {
	.name = "dummy",
	.state_version = 1,
	.size = sizeof(struct dummy),
	STATE_TABLE(dummy_state),
	.pci_help = "test device",
	.create = dummy_create,
	.reset = dummy_reset,
	.changed = dummy_changed,
	.check = dummy_check,
	.destroy = dummy_destroy,
};
