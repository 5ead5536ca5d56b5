/*
 * Messages to the kernel's local APICs, and what it tells back about them.
 *
 * Models       KVM's split interrupt controller: the local APICs are the
 *              kernel's, everything that sends to them is ours.  The routing
 *              table has two parts.  Entries below ENGINE_EOI_PINS belong to
 *              I/O APIC pins, and are there only so that the kernel knows for
 *              which vectors an EOI must come out to us.  Entries from
 *              ENGINE_EOI_PINS on are the messages of irqfds.
 * Leaves out   ExtINT through an I/O APIC pin: KVM takes the 8259A pair's
 *              vector only by way of LINT0 of the first vCPU.
 * Locking      route_lock over all tables.  Replacing the routing table waits
 *              in the kernel for vCPUs to drop the old one, microseconds to a
 *              few milliseconds: do it only for a real change.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "engine/kvm/kvm_impl.h"

/* SDM volume 3, 11.11: message address and data. */
#define MSI_ADDR_MASK 0xfff00000u
#define MSI_ADDR_BASE 0xfee00000u
#define MSI_ADDR_HI_RESERVED 0xffu
#define MSI_DATA_LEVEL BIT(15)

static bool
msi_equal(const struct engine_msi *a, const struct engine_msi *b)
{
	return a->addr == b->addr && a->data == b->data;
}

/* Is it a message to processors at all, in a form that KVM takes? */
static bool
msi_valid(const struct engine_msi *msi)
{
	uint32_t lo = (uint32_t)msi->addr, hi = (uint32_t)(msi->addr >> 32);

	return (lo & MSI_ADDR_MASK) == MSI_ADDR_BASE &&
	    (hi & MSI_ADDR_HI_RESERVED) == 0;
}

int
kvm_send_msi(struct engine *engine, const struct engine_msi *msi)
{
	struct kvm_msi m = {
		.address_lo = (uint32_t)msi->addr,
		.address_hi = (uint32_t)(msi->addr >> 32),
		.data = msi->data,
	};

	if (!msi_valid(msi))
		return -EINVAL;
	/* It answers how many took it: none, where nobody is there or awake. */
	if (kvm_ioctl(kvm_of(engine)->vm_fd, KVM_SIGNAL_MSI, &m) <= 0)
		return -EINVAL;
	return 0;
}

static size_t
table_size(unsigned entries)
{
	return sizeof(struct kvm_irq_routing) +
	    entries * sizeof(struct kvm_irq_routing_entry);
}

static void
route_add(struct kvm_irq_routing *table, unsigned gsi,
    const struct engine_msi *msi, uint32_t data)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {
			.address_lo = (uint32_t)msi->addr,
			.address_hi = (uint32_t)(msi->addr >> 32),
			.data = data,
		},
	};
}

/* Give the kernel the table as it should be now. */
static int
routes_update_locked(struct kvm_engine *kvm)
{
	struct kvm_irq_routing *table = kvm->table;

	assert(lock_held(&kvm->route_lock));
	table->nr = 0;
	for (unsigned i = 0; i < ENGINE_EOI_PINS; i++) {
		/* KVM reports EOIs of level-triggered messages only. */
		if (kvm->pins[i].on)
			route_add(table, i, &kvm->pins[i].msi,
			    kvm->pins[i].msi.data | MSI_DATA_LEVEL);
	}
	for (unsigned i = 0; i < kvm->irqfd_count; i++) {
		if (kvm->irqfds[i].fd >= 0)
			route_add(table, ENGINE_EOI_PINS + i,
			    &kvm->irqfds[i].msi, kvm->irqfds[i].msi.data);
	}
	return kvm_ioctl(kvm->vm_fd, KVM_SET_GSI_ROUTING, table);
}

void
kvm_watch_eoi(struct engine *engine, unsigned pin, const struct engine_msi *msi)
{
	struct kvm_engine *kvm = kvm_of(engine);
	bool on = msi != NULL && msi_valid(msi);
	int rc = 0;

	lock_take(&kvm->route_lock);
	if (kvm->pins[pin].on != on ||
	    (on && !msi_equal(&kvm->pins[pin].msi, msi))) {
		kvm->pins[pin].on = on;
		if (on)
			kvm->pins[pin].msi = *msi;
		rc = routes_update_locked(kvm);
	}
	lock_drop(&kvm->route_lock);
	if (rc < 0) {
		static struct log_limit limit;

		log_guest(&limit, "kvm: cannot watch I/O APIC pin %u: %s", pin,
		    strerror(-rc));
	}
}

/* ------------------------------------------------------------- irqfd */

static struct kvm_irqfd_route *
irqfd_find_locked(struct kvm_engine *kvm, int fd)
{
	assert(lock_held(&kvm->route_lock));
	for (unsigned i = 0; i < kvm->irqfd_count; i++) {
		if (kvm->irqfds[i].fd == fd)
			return &kvm->irqfds[i];
	}
	return NULL;
}

static int
irqfd_assign(struct kvm_engine *kvm, const struct kvm_irqfd_route *route,
    bool on)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)route->fd,
		.gsi = ENGINE_EOI_PINS + (uint32_t)(route - kvm->irqfds),
		.flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return kvm_ioctl(kvm->vm_fd, KVM_IRQFD, &irqfd);
}

/* A free route, with room for it in the kernel's table. */
static int
irqfd_new_locked(struct kvm_engine *kvm, struct kvm_irqfd_route **route)
{
	*route = irqfd_find_locked(kvm, -1);
	if (*route != NULL)
		return 0;
	if (ENGINE_EOI_PINS + kvm->irqfd_count >= kvm->caps.routes)
		return -ENOSPC;
	kvm->irqfds = xreallocarray(kvm->irqfds, kvm->irqfd_count + 1,
	    sizeof(*kvm->irqfds));
	kvm->table = xreallocarray(kvm->table, 1,
	    table_size(ENGINE_EOI_PINS + kvm->irqfd_count + 1));
	*route = &kvm->irqfds[kvm->irqfd_count++];
	(*route)->fd = -1;
	return 0;
}

static int
irqfd_attach_locked(struct kvm_engine *kvm, int fd,
    const struct engine_msi *msi)
{
	struct kvm_irqfd_route *route;
	int rc = irqfd_new_locked(kvm, &route);

	if (rc < 0)
		return rc;
	route->fd = fd;
	route->msi = *msi;
	rc = routes_update_locked(kvm);
	if (rc == 0)
		rc = irqfd_assign(kvm, route, true);
	if (rc < 0) {
		route->fd = -1; /* the entry leaves with the next update */
		return rc;
	}
	return 0;
}

int
kvm_irqfd(struct engine *engine, int fd, const struct engine_msi *msi)
{
	struct kvm_engine *kvm = kvm_of(engine);
	struct kvm_irqfd_route *route;
	int rc = 0;

	if (!kvm->caps.irqfd)
		return -ENOTSUP;
	if (fd < 0 || (msi != NULL && !msi_valid(msi)))
		return -EINVAL;
	lock_take(&kvm->route_lock);
	route = irqfd_find_locked(kvm, fd);
	if (msi == NULL) {
		if (route != NULL) {
			rc = irqfd_assign(kvm, route, false);
			route->fd = -1;
		}
	} else if (route == NULL) {
		rc = irqfd_attach_locked(kvm, fd, msi);
	} else if (!msi_equal(&route->msi, msi)) {
		route->msi = *msi;
		rc = routes_update_locked(kvm);
	}
	lock_drop(&kvm->route_lock);
	return rc;
}

int
kvm_irq_init(struct kvm_engine *kvm, struct err *err)
{
	if (kvm->caps.routes < ENGINE_EOI_PINS)
		return err_set(err, -ENOTSUP,
		    "kvm: this kernel routes %u interrupts, and an I/O APIC "
		    "has %u",
		    kvm->caps.routes, ENGINE_EOI_PINS);
	kvm->table = xcalloc(1, table_size(ENGINE_EOI_PINS));
	return 0;
}

void
kvm_irq_fini(struct kvm_engine *kvm)
{
	free(kvm->irqfds);
	free(kvm->table);
}
