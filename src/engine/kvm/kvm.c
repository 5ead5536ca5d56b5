/*
 * The KVM engine: making and unmaking its virtual machine.
 *
 * Models       bhyve's processors, with the kernel's KVM behind them.  The
 *              local APICs are the kernel's, 8259A pair and I/O APIC ours
 *              ("split irqchip").  CPUID goes through bhyve's edits.
 * Leaves out   paravirtual features of KVM: the hypervisor's name is bhyve's,
 *              and guests look no further.  exit_on_pause: the kernel yields
 *              in a PAUSE loop by itself.
 * Locking      see kvm_impl.h.  An engine and its vCPUs are made by one thread
 *              before any vCPU runs.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/kvm/kvm_impl.h"

/*
 * Intel processors without unrestricted guests run real mode in a TSS and page
 * table of KVM's own.  They lie in the hole between local APIC and ROM.
 */
#define KVM_IDENTITY_MAP_ADDR 0xfeffc000ULL
#define KVM_TSS_ADDR 0xfeffd000ULL

/* Zeroed, with room for a whole table. */
static struct kvm_cpuid2 *
cpuid_buf_new(void)
{
	return xcalloc(1,
	    sizeof(struct kvm_cpuid2) +
		CPUID_LEAVES_MAX * sizeof(struct kvm_cpuid_entry2));
}

/* What KVM can offer to a guest, as a table of leaves. */
static int
kvm_get_cpuid(struct kvm_engine *kvm, struct err *err)
{
	struct kvm_cpuid2 *buf = cpuid_buf_new();
	int rc;

	buf->nent = CPUID_LEAVES_MAX;
	rc = kvm_ioctl(kvm->dev_fd, KVM_GET_SUPPORTED_CPUID, buf);
	if (rc < 0) {
		free(buf);
		return err_set_errno(err, rc,
		    "kvm: cannot learn which processor features it supports");
	}
	kvm->cpuid.count = MIN(buf->nent, (unsigned)CPUID_LEAVES_MAX);
	for (unsigned i = 0; i < kvm->cpuid.count; i++) {
		const struct kvm_cpuid_entry2 *e = &buf->entries[i];

		kvm->cpuid.leaf[i] = (struct cpuid_leaf) {
			.leaf = e->function,
			.subleaf = e->index,
			.indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = e->eax,
			.ebx = e->ebx,
			.ecx = e->ecx,
			.edx = e->edx,
		};
	}
	free(buf);
	kvm->msr.vendor = cpuid_vendor(&kvm->cpuid);
	return 0;
}

int
kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, struct err *err)
{
	const struct engine_params *params = &vcpu->kvm->engine.params;
	struct kvm_cpuid2 *buf = cpuid_buf_new();
	struct cpuid_table *guest = xcalloc(1, sizeof(*guest));
	int rc;

	cpuid_guest(&vcpu->kvm->cpuid,
	    &(struct cpuid_params) {
		.vcpu = vcpu->vcpu.id,
		.cores = params->cores,
		.threads = params->threads,
		.x2apic = params->x2apic,
	    },
	    guest);
	buf->nent = guest->count;
	for (unsigned i = 0; i < guest->count; i++) {
		const struct cpuid_leaf *l = &guest->leaf[i];

		buf->entries[i] = (struct kvm_cpuid_entry2) {
			.function = l->leaf,
			.index = l->subleaf,
			.flags =
			    l->indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = l->eax,
			.ebx = l->ebx,
			.ecx = l->ecx,
			.edx = l->edx,
		};
	}
	vcpu->xsave_size = cpuid_xsave_size(guest);
	rc = kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, buf);
	free(guest);
	free(buf);
	if (rc < 0)
		return err_set_errno(err, rc,
		    "kvm: vCPU %u: cannot set its processor features",
		    vcpu->vcpu.id);
	return 0;
}

static void
kvm_destroy(struct engine *engine)
{
	struct kvm_engine *kvm = kvm_of(engine);

	mem_clear_listener(engine->params.mem);
	kvm_mem_fini(kvm);
	kvm_irq_fini(kvm);
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->dev_fd >= 0)
		close(kvm->dev_fd);
	lock_fini(&kvm->route_lock);
	lock_fini(&kvm->time_lock);
	free(kvm);
}

static int
kvm_create_vm(struct kvm_engine *kvm, struct err *err)
{
	uint64_t identity = KVM_IDENTITY_MAP_ADDR;
	int rc;

	kvm->vm_fd = kvm_ioctl(kvm->dev_fd, KVM_CREATE_VM, NULL);
	if (kvm->vm_fd < 0)
		return err_set_errno(err, kvm->vm_fd,
		    "kvm: cannot make a virtual machine");
	rc = kvm_caps_get(kvm, err);
	if (rc < 0)
		return rc;
	if (kvm->engine.params.vcpus > kvm->caps.vcpus)
		return err_set(err, -EINVAL,
		    "kvm: %u vCPUs asked for, and this kernel runs at most %u",
		    kvm->engine.params.vcpus, kvm->caps.vcpus);
	rc = kvm_ioctl(kvm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (rc == 0)
		rc = kvm_ioctl(kvm->vm_fd, KVM_SET_TSS_ADDR,
		    (void *)(uintptr_t)KVM_TSS_ADDR);
	if (rc < 0)
		return err_set_errno(err, rc,
		    "kvm: cannot place what real mode needs");
	rc = kvm_caps_enable(kvm, err);
	if (rc < 0)
		return rc;
	rc = kvm_ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (rc < 0)
		return err_set_errno(err, rc, "kvm: KVM_GET_VCPU_MMAP_SIZE");
	kvm->run_size = (size_t)rc;
	return 0;
}

static int
kvm_create(const struct engine_params *params, struct engine **engine,
    struct err *err)
{
	struct kvm_engine *kvm = xcalloc(1, sizeof(*kvm));
	int rc;

	kvm->engine.ops = &engine_kvm_ops;
	kvm->engine.params = *params;
	kvm->vm_fd = -1;
	lock_init(&kvm->route_lock);
	lock_init(&kvm->time_lock);
	kvm->dev_fd = rc = kvm_open(err);
	if (rc < 0) {
		(void)err_prefix(err, rc, "kvm");
		goto fail;
	}
	rc = kvm_get_cpuid(kvm, err);
	if (rc == 0)
		rc = kvm_create_vm(kvm, err);
	if (rc == 0)
		rc = kvm_irq_init(kvm, err);
	if (rc == 0)
		rc = mem_set_listener(params->mem, &kvm_mem_listener, kvm, err);
	if (rc < 0)
		goto fail;
	*engine = &kvm->engine;
	return 0;

fail:
	kvm_destroy(&kvm->engine);
	return rc;
}

const struct engine_ops engine_kvm_ops = {
	.name = "kvm",
	.probe = kvm_probe,
	.create = kvm_create,
	.destroy = kvm_destroy,
	.vcpu_create = kvm_vcpu_create,
	.vcpu_destroy = kvm_vcpu_destroy,
	.run = kvm_vcpu_run,
	.kick = kvm_vcpu_kick,
	.get = kvm_state_get,
	.set = kvm_state_set,
	.halted = kvm_state_halted,
	.send_msi = kvm_send_msi,
	.intr = kvm_intr,
	.nmi = kvm_vcpu_nmi,
	.watch_eoi = kvm_watch_eoi,
	.ioeventfd = kvm_ioeventfd,
	.irqfd = kvm_irqfd,
	.time_stop = kvm_time_stop,
	.time_start = kvm_time_start,
};
