/*
 * MSI-X: a function's messages, by a table that the guest fills.
 *
 * Models       PCI Local Bus 3.0, section 6.8.2 and after: the capability, the
 *              table at the begin of its BAR and the pending bit array (PBA) at
 *              the next page.  Accesses of 4 and 8 bytes; narrower ones read
 *              their part and write nothing.
 *
 *                 pci_msix_send ──▶ on, not masked ──▶ irq_send_msi
 *                      │ masked                             ▲
 *                      ▼                                    │ pci_msix_update
 *                   pending ────────────────────────────────┘ unmasked
 *
 * Departures   Messages are sent whatever the bus master bit says, as bhyve
 *              does: systems that it runs rely on it.  One whose address is
 *              not that of the local APICs would be a write to memory; it is
 *              dropped.
 * Locking      irq_lock of the function guards the table and what this file
 *              keeps of the control word, because any thread may send.  It is
 *              taken under the device's lock or without; below it are irq's.
 *              Table and PBA need the device's lock for nothing.
 * Invariant    A vector that could be sent is not pending.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "irq/irq.h"
#include "pci/pci_impl.h"

#define CAP_ID_MSIX 0x11
#define MSIX_CONTROL 2 /* offset in the capability */
#define MSIX_CONTROL_MASK 0x4000
#define MSIX_CONTROL_ENABLE 0x8000
#define MSIX_CAP_LEN 10u /* without its header */

#define ENTRY_SIZE 16u
#define ENTRY_MASKED 1u

/* func may be part of a copy of the state: entries are found by offset. */
static struct pci_msix_entry *
msix_entry(const struct pci_func *func, unsigned vector)
{
	char *state = (char *)(uintptr_t)func;

	return (struct pci_msix_entry *)(void *)(state + func->msix.entries) +
	    vector;
}

static bool
entry_masked(const struct pci_func *func, unsigned vector)
{
	return func->msix.masked ||
	    (msix_entry(func, vector)->control & ENTRY_MASKED);
}

bool
pci_msix_enabled(const struct pci_func *func)
{
	return atomic_load_explicit(&func->msix.on, memory_order_acquire);
}

static uint64_t
entry_addr(const struct pci_msix_entry *entry)
{
	return (uint64_t)entry->addr_high << 32 | entry->addr_low;
}

/*
 * Attach the vector's irqfd to its message, or take it off.  A message that
 * reaches nobody is no error, but no reason to attach it, either.
 */
static int
irqfd_update_locked(struct pci_func *func, unsigned vector)
{
	const struct pci_msix_entry *entry = msix_entry(func, vector);
	struct irq_chip *chip = device_irq_chip(func->dev);
	int fd = func->msix.irqfd[vector];
	bool send;
	int rc = 0;

	if (fd < 0)
		return 0;
	send = pci_msix_enabled(func) && !entry_masked(func, vector);
	if (send)
		rc = irq_attach_fd(chip, fd, entry_addr(entry), entry->data);
	send = send && rc == 0;
	/* What is signalled from now on stays in fd. */
	if (!send && func->msix.attached[vector])
		(void)irq_detach_fd(chip, fd);
	func->msix.attached[vector] = send;
	return rc == -EINVAL ? 0 : rc;
}

/* A vector may have been unmasked, or changed. */
static void
vector_update_locked(struct pci_func *func, unsigned vector)
{
	struct pci_msix_entry *entry = msix_entry(func, vector);

	(void)irqfd_update_locked(func, vector); /* there was room once */
	if (!entry->pending || !pci_msix_enabled(func) ||
	    entry_masked(func, vector))
		return;
	entry->pending = 0;
	/* A message to nobody is the guest's own affair. */
	(void)irq_send_msi(device_irq_chip(func->dev), entry_addr(entry),
	    entry->data);
}

void
pci_msix_send(struct pci_func *func, unsigned vector)
{
	lock_take(&func->irq_lock);
	if (vector < func->msix.count && pci_msix_enabled(func)) {
		msix_entry(func, vector)->pending = 1;
		vector_update_locked(func, vector);
	}
	lock_drop(&func->irq_lock);
}

static void
irqfd_detach_locked(struct pci_func *func, unsigned vector)
{
	struct pci_msix *msix = &func->msix;

	if (msix->attached[vector])
		(void)irq_detach_fd(device_irq_chip(func->dev),
		    msix->irqfd[vector]); /* it is there */
	msix->attached[vector] = false;
	msix->irqfd[vector] = -1;
}

int
pci_msix_irqfd(struct pci_func *func, unsigned vector, int fd)
{
	int rc = 0;

	if (vector >= func->msix.count)
		return -EINVAL;
	/* Detaching what is not attached asks whether there is such a thing. */
	if (fd >= 0 &&
	    irq_detach_fd(device_irq_chip(func->dev), fd) == -ENOTSUP)
		return -ENOTSUP;
	lock_take(&func->irq_lock);
	irqfd_detach_locked(func, vector);
	if (fd >= 0) {
		func->msix.irqfd[vector] = fd;
		rc = irqfd_update_locked(func, vector);
		if (rc < 0)
			irqfd_detach_locked(func, vector);
	}
	lock_drop(&func->irq_lock);
	return rc;
}

/* ---- table and PBA ------------------------------------------------------ */

/* Pending by itself, or signalled while nobody looks at its irqfd. */
static bool
vector_pending(const struct pci_func *func, unsigned vector)
{
	struct pollfd pfd = { .fd = func->msix.irqfd[vector],
		.events = POLLIN };

	if (msix_entry(func, vector)->pending)
		return true;
	return pfd.fd >= 0 && !func->msix.attached[vector] &&
	    poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLIN);
}

static uint32_t
pba_word(const struct pci_func *func, uint64_t off)
{
	uint32_t word = 0;

	for (unsigned i = 0; i < 32; i++) {
		uint64_t vector = off * 8 + i;

		if (vector < func->msix.count &&
		    vector_pending(func, (unsigned)vector))
			word |= (uint32_t)BIT(i);
	}
	return word;
}

static uint32_t
table_word(const struct pci_func *func, uint64_t off)
{
	const struct pci_msix_entry *entry;

	if (off >= func->msix.pba)
		return pba_word(func, off - func->msix.pba);
	if (off / ENTRY_SIZE >= func->msix.count)
		return 0;
	entry = msix_entry(func, (unsigned)(off / ENTRY_SIZE));
	switch (off % ENTRY_SIZE) {
	case 0:
		return entry->addr_low;
	case 4:
		return entry->addr_high;
	case 8:
		return entry->data;
	default:
		return entry->control;
	}
}

static uint64_t
table_read(void *arg, uint64_t off, unsigned size)
{
	struct pci_func *func = arg;
	uint64_t value;

	lock_take(&func->irq_lock);
	value = table_word(func, off);
	if (size == 8)
		value |= (uint64_t)table_word(func, off + 4) << 32;
	lock_drop(&func->irq_lock);
	return value;
}

static void
entry_write(struct pci_msix_entry *entry, unsigned off, uint32_t value)
{
	switch (off) {
	case 0:
		entry->addr_low = value & ~3u; /* zeros: section 6.8.2.7 */
		break;
	case 4:
		entry->addr_high = value;
		break;
	case 8:
		entry->data = value;
		break;
	default:
		entry->control = value & ENTRY_MASKED;
		break;
	}
}

static void
table_write(void *arg, uint64_t off, unsigned size, uint64_t value)
{
	struct pci_func *func = arg;
	unsigned vector = (unsigned)(off / ENTRY_SIZE);

	if (off / ENTRY_SIZE >= func->msix.count)
		return; /* the PBA is not the guest's to write */
	lock_take(&func->irq_lock);
	for (unsigned i = 0; i < size; i += 4)
		entry_write(msix_entry(func, vector), (off + i) % ENTRY_SIZE,
		    (uint32_t)(value >> (8 * i)));
	vector_update_locked(func, vector);
	lock_drop(&func->irq_lock);
}

static const struct io_ops table_ops = {
	.read = table_read,
	.write = table_write,
	.widths = 4 | 8,
	.odd = IO_SPLIT,
	.aligned = true,
};

/* ---- life --------------------------------------------------------------- */

int
pci_add_msix(struct pci_func *func, unsigned bar,
    struct pci_msix_entry *entries, unsigned count, struct err *err)
{
	struct pci_msix *msix = &func->msix;
	uint8_t body[MSIX_CAP_LEN];
	int rc;

	assert(count >= 1 && count <= PCI_MSIX_MAX && msix->cap == 0);
	assert(device_self(func->dev) == func && bar < PCI_BARS);
	msix->entries = (size_t)((char *)entries - (char *)func);
	msix->pba = (unsigned)round_up(count * ENTRY_SIZE, MEM_PAGE_SIZE);
	rc = pci_add_bar(func, bar, PCI_BAR_MEM32,
	    msix->pba + round_up(count, 64) / 8, &table_ops, func, err);
	if (rc < 0)
		return rc;
	le16_store(&body[0], (uint16_t)(count - 1));
	le32_store(&body[2], bar);
	le32_store(&body[6], msix->pba | bar);
	msix->cap =
	    (uint8_t)pci_add_capability(func, CAP_ID_MSIX, body, sizeof(body));
	pci_set_cfg(func, msix->cap + MSIX_CONTROL, 2, count - 1,
	    MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK);
	msix->count = count;
	msix->irqfd = xcalloc(count, sizeof(*msix->irqfd));
	msix->attached = xcalloc(count, sizeof(*msix->attached));
	for (unsigned i = 0; i < count; i++)
		msix->irqfd[i] = -1;
	return 0;
}

void
pci_msix_fini(struct pci_func *func)
{
	lock_take(&func->irq_lock);
	for (unsigned i = 0; i < func->msix.count; i++)
		irqfd_detach_locked(func, i);
	lock_drop(&func->irq_lock);
	free(func->msix.irqfd);
	free(func->msix.attached);
}

/* Every vector is masked, and none is pending. */
void
pci_msix_reset(struct pci_func *func)
{
	lock_take(&func->irq_lock);
	for (unsigned i = 0; i < func->msix.count; i++)
		*msix_entry(func, i) =
		    (struct pci_msix_entry) { .control = ENTRY_MASKED };
	lock_drop(&func->irq_lock);
}

static uint32_t
msix_control(const struct pci_func *func)
{
	return pci_get_cfg(func, func->msix.cap + MSIX_CONTROL, 2);
}

bool
pci_msix_wanted(const struct pci_func *func)
{
	return func->msix.cap != 0 &&
	    (msix_control(func) & MSIX_CONTROL_ENABLE);
}

void
pci_msix_update(struct pci_func *func)
{
	struct pci_msix *msix = &func->msix;
	uint32_t control;

	if (msix->cap == 0)
		return;
	control = msix_control(func);
	lock_take(&func->irq_lock);
	atomic_store_explicit(&msix->on,
	    (control & MSIX_CONTROL_ENABLE) && !pci_msi_enabled(func),
	    memory_order_release);
	msix->masked = control & MSIX_CONTROL_MASK;
	for (unsigned i = 0; i < msix->count; i++)
		vector_update_locked(func, i);
	lock_drop(&func->irq_lock);
}

int
pci_msix_check(const struct pci_func *func, struct err *err)
{
	bool sends;

	if (func->msix.cap == 0)
		return 0;
	sends = pci_msix_wanted(func) && !pci_msi_wanted(func) &&
	    !(msix_control(func) & MSIX_CONTROL_MASK);
	for (unsigned i = 0; i < func->msix.count; i++) {
		const struct pci_msix_entry *entry = msix_entry(func, i);

		if (entry->control > ENTRY_MASKED || entry->pending > 1 ||
		    (entry->addr_low & 3))
			return err_set(err, -EINVAL,
			    "MSI-X vector %u holds what no guest could have "
			    "written",
			    i);
		if (entry->pending && sends && entry->control == 0)
			return err_set(err, -EINVAL,
			    "MSI-X vector %u is pending, and nothing masks it",
			    i);
	}
	return 0;
}
