/*
 * Guest memory as KVM's memory slots, and the log of what the guest wrote.
 *
 * A region is a slot of the same number.  ROM is a read-only slot: reads and
 * execution cost nothing, writes leave the guest as MMIO.  Where the kernel
 * cannot do that, ROM has no slot and the machine answers each read of it.
 *
 * Dirty log    KVM_GET_DIRTY_LOG hands its bits over, clears them and takes
 *              write access to those pages away again before it returns, so a
 *              write is either in the bits fetched now or faults and is in
 *              the next ones.  Nothing here may read, then clear.
 * Locking      mem's lock serialises the dirty hooks; regions come and go
 *              while no vCPU runs.
 */
#include <errno.h>

#include "base/alloc.h"
#include "engine/kvm/kvm_impl.h"

static int
slot_set(struct kvm_engine *kvm, const struct mem_region *region, uint64_t size,
    uint32_t flags)
{
	struct kvm_userspace_memory_region slot = {
		.slot = region->slot,
		.flags = flags,
		.guest_phys_addr = region->gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)region->host,
	};

	return kvm_ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &slot);
}

static bool
has_slot(const struct kvm_engine *kvm, const struct mem_region *region)
{
	return region->kind == MEM_RAM || kvm->caps.readonly_mem;
}

static int
slot_map(void *arg, const struct mem_region *region, struct err *err)
{
	struct kvm_engine *kvm = arg;
	int rc;

	if (!has_slot(kvm, region))
		return 0;
	rc = slot_set(kvm, region, region->size,
	    region->kind == MEM_ROM ? KVM_MEM_READONLY : 0);
	if (rc < 0)
		return err_set_errno(err, rc,
		    "kvm: cannot map memory \"%s\", 0x%llx bytes at 0x%llx",
		    region->name, (unsigned long long)region->size,
		    (unsigned long long)region->gpa);
	return 0;
}

static void
slot_unmap(void *arg, const struct mem_region *region)
{
	struct kvm_engine *kvm = arg;

	if (has_slot(kvm, region))
		(void)slot_set(kvm, region, 0, 0); /* a slot can always go */
}

static int
slot_dirty_start(void *arg, const struct mem_region *region, struct err *err)
{
	struct kvm_engine *kvm = arg;
	uint64_t *buf;
	int rc;

	if (region->kind != MEM_RAM)
		return 0;
	if (region->slot >= kvm->dirty_slots) {
		kvm->dirty = xreallocarray(kvm->dirty, region->slot + 1,
		    sizeof(*kvm->dirty));
		while (kvm->dirty_slots <= region->slot)
			kvm->dirty[kvm->dirty_slots++] = NULL;
	}
	buf = calloc(mem_dirty_words(region), sizeof(*buf));
	if (buf == NULL)
		return err_set_errno(err, -ENOMEM,
		    "kvm: the dirty log of memory \"%s\"", region->name);
	rc = slot_set(kvm, region, region->size, KVM_MEM_LOG_DIRTY_PAGES);
	if (rc < 0) {
		free(buf);
		return err_set_errno(err, rc,
		    "kvm: cannot log writes to memory \"%s\"", region->name);
	}
	kvm->dirty[region->slot] = buf;
	return 0;
}

static void
slot_dirty_stop(void *arg, const struct mem_region *region)
{
	struct kvm_engine *kvm = arg;

	if (region->kind != MEM_RAM)
		return;
	/* If it fails the kernel logs on, which costs time and no more. */
	(void)slot_set(kvm, region, region->size, 0);
	free(kvm->dirty[region->slot]);
	kvm->dirty[region->slot] = NULL;
}

static int
slot_dirty_fetch(void *arg, const struct mem_region *region, uint64_t *bitmap,
    struct err *err)
{
	struct kvm_engine *kvm = arg;
	struct kvm_dirty_log log = { .slot = region->slot };
	uint64_t *buf;
	int rc;

	if (region->kind != MEM_RAM)
		return 0;
	buf = kvm->dirty[region->slot];
	log.dirty_bitmap = buf;
	rc = kvm_ioctl(kvm->vm_fd, KVM_GET_DIRTY_LOG, &log);
	if (rc < 0)
		return err_set_errno(err, rc,
		    "kvm: the dirty log of memory \"%s\"", region->name);
	for (size_t i = 0; i < mem_dirty_words(region); i++)
		bitmap[i] |= buf[i];
	return 0;
}

void
kvm_mem_fini(struct kvm_engine *kvm)
{
	for (unsigned i = 0; i < kvm->dirty_slots; i++)
		free(kvm->dirty[i]);
	free(kvm->dirty);
}

const struct mem_listener kvm_mem_listener = {
	.map = slot_map,
	.unmap = slot_unmap,
	.dirty_start = slot_dirty_start,
	.dirty_stop = slot_dirty_stop,
	.dirty_fetch = slot_dirty_fetch,
};
