/*
 * Accesses that leave the guest: ports, and memory that has no slot.
 *
 * KVM stops in the middle of the instruction with the access in the shared
 * page and finishes the instruction on the next KVM_RUN.  An ioeventfd is an
 * access that ends in the kernel instead, with a signal on a descriptor.
 *
 * Locking: none; exits belong to the vCPU's thread, the kernel guards the rest.
 */
#include <errno.h>

#include "engine/kvm/kvm_impl.h"

void
kvm_exit_io(struct kvm_vcpu *vcpu)
{
	const struct engine_host *host = &vcpu->kvm->engine.params.host;
	struct kvm_run *run = vcpu->run;

	host->pio(host->arg, vcpu->vcpu.id, run->io.port,
	    run->io.direction == KVM_EXIT_IO_OUT, run->io.size,
	    (uint8_t *)run + run->io.data_offset, run->io.count);
}

/* KVM's pieces are at most 8 bytes, but may lie across an 8-byte boundary. */
void
kvm_exit_mmio(struct kvm_vcpu *vcpu)
{
	const struct engine_host *host = &vcpu->kvm->engine.params.host;
	struct kvm_run *run = vcpu->run;
	gpa_t gpa = run->mmio.phys_addr;
	unsigned len = run->mmio.len;
	unsigned first = MIN(len, 8 - (unsigned)(gpa & 7));

	host->mmio(host->arg, vcpu->vcpu.id, gpa, run->mmio.is_write, first,
	    run->mmio.data);
	if (first < len)
		host->mmio(host->arg, vcpu->vcpu.id, gpa + first,
		    run->mmio.is_write, len - first, run->mmio.data + first);
}

int
kvm_ioeventfd(struct engine *engine, const struct engine_ioevent *event, int fd,
    bool on)
{
	struct kvm_engine *kvm = kvm_of(engine);
	struct kvm_ioeventfd io = {
		.addr = event->addr,
		.len = event->len,
		.fd = fd,
	};

	if (!kvm->caps.ioeventfd ||
	    (event->len == 0 && !kvm->caps.ioeventfd_any))
		return -ENOTSUP;
	if (!event->mmio)
		io.flags |= KVM_IOEVENTFD_FLAG_PIO;
	if (event->match) {
		io.flags |= KVM_IOEVENTFD_FLAG_DATAMATCH;
		io.datamatch = event->value;
	}
	if (!on)
		io.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	return kvm_ioctl(kvm->vm_fd, KVM_IOEVENTFD, &io);
}
