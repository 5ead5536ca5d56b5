/*
 * Guest time that stands still while the machine is paused.
 *
 * The guest sees time in the TSC and in its local APIC's timer.  A new engine's
 * time stands still, at TSC 0; the first run starts it.  Stopping notes each
 * TSC, starting sets them to go on from there, all by one reading of the host's
 * counter, so that vCPUs whose TSCs were equal stay equal.
 *
 * TSC          Where the kernel gives access to the offset between the host's
 *              TSC and a vCPU's, that is exact.  Otherwise IA32_TSC is written,
 *              and KVM's guesses are worked around: it takes a value within a
 *              second of what it expects for an attempt to synchronize, and
 *              keeps the old offset.  So first a value far away is written.
 *              There are kernels that take both and do neither; which it is
 *              gets tried on the first vCPU.  Where nothing helps the guest's
 *              TSC is the host's and jumps over a pause.
 * Timer        KVM counts on by the host's time and may have let the timer
 *              expire in the pause.  Starting puts the count back and takes
 *              that interrupt away.  A timer that had expired before stays.
 * Locking      time_lock, a leaf; vCPUs do not run while time changes state.
 */
#include <string.h>
#include <x86intrin.h>

#include "base/log.h"
#include "base/wire.h"
#include "engine/kvm/kvm_impl.h"

/* Days away from any TSC a machine of today has. */
#define TSC_FAR (1ULL << 60)

#define LAPIC_IRR 0x200
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_COUNT 0x390

static int
offset_attr(struct kvm_vcpu *vcpu, unsigned long request, uint64_t *offset)
{
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (uintptr_t)offset,
	};

	return kvm_ioctl(vcpu->fd, request, &attr);
}

/*
 * What to add to the host's TSC for the vCPU's.  The host's is read after, or a
 * TSC near 0 could come out below it: with an unstable TSC on the host KVM
 * moves a vCPU's offset at any ioctl.
 */
static uint64_t
tsc_offset(struct kvm_vcpu *vcpu)
{
	uint64_t value = 0;

	if (vcpu->kvm->tsc == KVM_TSC_OFFSET &&
	    offset_attr(vcpu, KVM_GET_DEVICE_ATTR, &value) == 0)
		return value;
	if (kvm_msr_get(vcpu, MSR_IA32_TSC, &value) < 0)
		return 0; /* every kernel has this one */
	return value - __rdtsc();
}

static int
tsc_write(struct kvm_vcpu *vcpu, uint64_t tsc, uint64_t host)
{
	uint64_t offset = tsc - host;

	switch (vcpu->kvm->tsc) {
	case KVM_TSC_OFFSET:
		return offset_attr(vcpu, KVM_SET_DEVICE_ATTR, &offset);
	case KVM_TSC_MSR:
		return kvm_msr_set(vcpu, MSR_IA32_TSC, tsc);
	case KVM_TSC_FIXED:
		break;
	}
	return 0;
}

void
kvm_time_probe(struct kvm_vcpu *vcpu)
{
	static const enum kvm_tsc ways[] = { KVM_TSC_OFFSET, KVM_TSC_MSR };
	struct kvm_engine *kvm = vcpu->kvm;
	uint64_t now;

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		kvm->tsc = ways[i];
		if (tsc_write(vcpu, TSC_FAR, __rdtsc()) == 0 &&
		    kvm_msr_get(vcpu, MSR_IA32_TSC, &now) == 0 &&
		    now >= TSC_FAR)
			return;
	}
	kvm->tsc = KVM_TSC_FIXED;
}

uint64_t
kvm_time_tsc(struct kvm_vcpu *vcpu)
{
	struct kvm_engine *kvm = vcpu->kvm;
	uint64_t tsc;

	lock_take(&kvm->time_lock);
	tsc = vcpu->tsc;
	if (kvm->time_runs) {
		tsc = tsc_offset(vcpu);
		tsc += __rdtsc();
	}
	lock_drop(&kvm->time_lock);
	return tsc;
}

int
kvm_time_set_tsc(struct kvm_vcpu *vcpu, uint64_t tsc)
{
	struct kvm_engine *kvm = vcpu->kvm;
	int rc = 0;

	lock_take(&kvm->time_lock);
	if (kvm->time_runs)
		rc = tsc_write(vcpu, tsc, __rdtsc());
	else
		vcpu->tsc = tsc;
	lock_drop(&kvm->time_lock);
	return rc;
}

/* Undo what the timer did since time stopped. */
static bool
timer_rewind(const struct kvm_vcpu *vcpu, struct kvm_lapic_state *now)
{
	const char *then = vcpu->lapic.regs;
	uint32_t count = le32_load(then + LAPIC_TIMER_COUNT);
	uint8_t vector = (uint8_t)le32_load(then + LAPIC_LVT_TIMER);
	unsigned reg = LAPIC_IRR + vector / 32 * 0x10;
	uint32_t bit = 1u << vector % 32;

	if (count == 0)
		return false; /* it did not run */
	le32_store(now->regs + LAPIC_TIMER_COUNT, count);
	if (!(le32_load(then + reg) & bit))
		le32_store(now->regs + reg, le32_load(now->regs + reg) & ~bit);
	return true;
}

void
kvm_time_still_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *now)
{
	struct kvm_engine *kvm = vcpu->kvm;

	lock_take(&kvm->time_lock);
	if (!kvm->time_runs)
		(void)timer_rewind(vcpu, now);
	lock_drop(&kvm->time_lock);
}

void
kvm_time_keep_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *set)
{
	lock_take(&vcpu->kvm->time_lock);
	vcpu->lapic = *set;
	lock_drop(&vcpu->kvm->time_lock);
}

void
kvm_time_stop(struct engine *engine)
{
	struct kvm_engine *kvm = kvm_of(engine);
	uint64_t host;

	lock_take(&kvm->time_lock);
	if (!kvm->time_runs)
		goto out;
	kvm->time_runs = false;
	for (unsigned i = 0; i < engine->params.vcpus; i++) {
		struct kvm_vcpu *vcpu = kvm->vcpus[i];

		if (vcpu == NULL)
			continue;
		vcpu->tsc = tsc_offset(vcpu);
		/* Cannot fail; if it did, the timer would just run on. */
		memset(&vcpu->lapic, 0, sizeof(vcpu->lapic));
		(void)kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &vcpu->lapic);
	}
	host = __rdtsc();
	for (unsigned i = 0; i < engine->params.vcpus; i++) {
		if (kvm->vcpus[i] != NULL)
			kvm->vcpus[i]->tsc += host;
	}
out:
	lock_drop(&kvm->time_lock);
}

static void
vcpu_time_start(struct kvm_vcpu *vcpu, uint64_t host, bool first)
{
	struct kvm_lapic_state now;

	if (first && vcpu->kvm->tsc == KVM_TSC_MSR)
		(void)kvm_msr_set(vcpu, MSR_IA32_TSC, vcpu->tsc + TSC_FAR);
	/* A failure leaves a TSC that jumps: the guest can live with that. */
	(void)tsc_write(vcpu, vcpu->tsc, host);
	if (kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &now) == 0 &&
	    timer_rewind(vcpu, &now))
		(void)kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &now);
}

void
kvm_time_start(struct engine *engine)
{
	struct kvm_engine *kvm = kvm_of(engine);
	bool first = true, jumps = false;
	uint64_t host;

	lock_take(&kvm->time_lock);
	if (kvm->time_runs)
		goto out;
	kvm->time_runs = true;
	host = __rdtsc();
	for (unsigned i = 0; i < engine->params.vcpus; i++) {
		struct kvm_vcpu *vcpu = kvm->vcpus[i];

		if (vcpu == NULL)
			continue;
		jumps |= kvm->tsc == KVM_TSC_FIXED && vcpu->tsc != 0;
		vcpu_time_start(vcpu, host, first);
		first = false;
	}
out:
	lock_drop(&kvm->time_lock);
	if (jumps)
		log_warn("kvm: this kernel cannot set a guest's TSC: it has "
			 "jumped over the pause");
}
