/*
 * What this kernel's KVM can do.
 *
 * Every ability that the engine uses is asked for here, once.  Those in the
 * table are needed, and a kernel without one is told so by name; for the rest
 * struct kvm_caps says what happens without.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/kvm/kvm_impl.h"

#define KVM_DEV "/dev/kvm"
#define KVM_API 12

/* MSRs are looked at from 0 and from 0xc0010000 on: x86/msr.h. */
#define MSR_RANGE 0x2000u

static const struct {
	int cap;
	const char *what;
} kvm_needs[] = {
	{ KVM_CAP_USER_MEMORY, "memory slots" },
	{ KVM_CAP_SPLIT_IRQCHIP, "a split interrupt controller" },
	{ KVM_CAP_IRQ_ROUTING, "interrupt routing" },
	{ KVM_CAP_SIGNAL_MSI, "message signalled interrupts" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
	{ KVM_CAP_EXT_CPUID, "CPUID" },
	{ KVM_CAP_MP_STATE, "the multiprocessing state" },
	{ KVM_CAP_VCPU_EVENTS, "the state of events" },
	{ KVM_CAP_DEBUGREGS, "debug registers" },
	{ KVM_CAP_XSAVE, "the XSAVE area" },
	{ KVM_CAP_SET_TSS_ADDR, "the address of a TSS" },
	{ KVM_CAP_SET_IDENTITY_MAP_ADDR, "the address of an identity map" },
};

int
kvm_ioctl(int fd, unsigned long request, void *arg)
{
	int rc;

	do
		rc = ioctl(fd, request, arg);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

int
kvm_open(struct err *err)
{
	int fd = open(KVM_DEV, O_RDWR | O_CLOEXEC);

	return fd >= 0 ? fd : err_set_errno(err, -errno, "%s", KVM_DEV);
}

/*
 * May "auto" choose KVM?  Not where the device is there but the processor has
 * no virtualization: such a kernel emulates a guest's every instruction.
 */
int
kvm_probe(struct err *err)
{
	struct cpuid_table host;
	struct err why = { .msg = "" };
	bool hardware;
	int fd = kvm_open(&why);

	if (fd >= 0)
		close(fd);
	cpuid_host(&host);
	hardware = cpuid_has_virtualization(&host);
	if (hardware && fd < 0)
		return err_set(err, fd, "%s", why.msg);
	if (!hardware)
		return err_set(err, -ENODEV,
		    "%s%sthis processor has neither vmx nor svm; -o engine=kvm "
		    "tries it all the same",
		    why.msg, why.msg[0] != '\0' ? "; " : "");
	return 0;
}

/* 0, or what the kernel answers: often a number and not just 1. */
static int
kvm_check(const struct kvm_engine *kvm, int cap)
{
	int rc = ioctl(kvm->vm_fd, KVM_CHECK_EXTENSION, cap);

	return rc > 0 ? rc : 0;
}

int
kvm_caps_get(struct kvm_engine *kvm, struct err *err)
{
	struct kvm_caps *caps = &kvm->caps;
	int api = kvm_ioctl(kvm->dev_fd, KVM_GET_API_VERSION, NULL);

	if (api != KVM_API)
		return err_set(err, -ENOTSUP,
		    "%s: interface version %d, and this program knows %d",
		    KVM_DEV, api, KVM_API);
	for (size_t i = 0; i < ARRAY_SIZE(kvm_needs); i++) {
		if (kvm_check(kvm, kvm_needs[i].cap) == 0)
			return err_set(err, -ENOTSUP,
			    "%s: this kernel lacks %s (KVM capability %d)",
			    KVM_DEV, kvm_needs[i].what, kvm_needs[i].cap);
	}
	caps->readonly_mem = kvm_check(kvm, KVM_CAP_READONLY_MEM);
	caps->xcrs = kvm_check(kvm, KVM_CAP_XCRS);
	caps->user_msr = kvm_check(kvm, KVM_CAP_X86_USER_SPACE_MSR);
	caps->msr_filter = kvm_check(kvm, KVM_CAP_X86_MSR_FILTER);
	caps->x2apic_api = kvm_check(kvm, KVM_CAP_X2APIC_API);
	caps->irqfd = kvm_check(kvm, KVM_CAP_IRQFD);
	caps->ioeventfd = kvm_check(kvm, KVM_CAP_IOEVENTFD);
	caps->ioeventfd_any = kvm_check(kvm, KVM_CAP_IOEVENTFD_ANY_LENGTH);
	caps->routes = (unsigned)kvm_check(kvm, KVM_CAP_IRQ_ROUTING);
	caps->vcpus = (unsigned)kvm_check(kvm, KVM_CAP_MAX_VCPUS);
	return 0;
}

/*
 * Have accesses to the MSRs of x86/msr.c come out to us, also where the kernel
 * has an answer of its own: the machine is the same on every engine.
 */
static void
kvm_filter_msrs(struct kvm_engine *kvm)
{
	static const struct {
		uint32_t base;
		bool write;
	} ranges[] = {
		{ 0, false },
		{ 0, true },
		{ 0xc0010000, false },
		{ 0xc0010000, true },
	};
	struct kvm_msr_filter filter = { .flags =
					     KVM_MSR_FILTER_DEFAULT_ALLOW };
	uint8_t allow[ARRAY_SIZE(ranges)][MSR_RANGE / 8];

	memset(allow, 0xff, sizeof(allow));
	for (size_t r = 0; r < ARRAY_SIZE(ranges); r++) {
		for (uint32_t i = 0; i < MSR_RANGE; i++) {
			uint32_t index = ranges[r].base + i;

			if (ranges[r].write ? msr_writes(&kvm->msr, index) :
					      msr_reads(&kvm->msr, index))
				allow[r][i / 8] &= (uint8_t) ~(1 << i % 8);
		}
		filter.ranges[r] = (struct kvm_msr_filter_range) {
			.flags = ranges[r].write ? KVM_MSR_FILTER_WRITE :
						   KVM_MSR_FILTER_READ,
			.base = ranges[r].base,
			.nmsrs = MSR_RANGE,
			.bitmap = allow[r],
		};
	}
	/* Without the filter the kernel's own answers stand. */
	(void)kvm_ioctl(kvm->vm_fd, KVM_X86_SET_MSR_FILTER, &filter);
}

static int
kvm_enable(struct kvm_engine *kvm, int cap, uint64_t arg)
{
	struct kvm_enable_cap enable = { .cap = (uint32_t)cap,
		.args = { arg } };

	return kvm_ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &enable);
}

int
kvm_caps_enable(struct kvm_engine *kvm, struct err *err)
{
	struct kvm_caps *caps = &kvm->caps;
	int rc;

	rc = kvm_enable(kvm, KVM_CAP_SPLIT_IRQCHIP, ENGINE_EOI_PINS);
	if (rc < 0)
		return err_set_errno(err, rc,
		    "kvm: cannot split the interrupt controller");

	if (caps->x2apic_api &&
	    kvm_enable(kvm, KVM_CAP_X2APIC_API,
		KVM_X2APIC_API_USE_32BIT_IDS |
		    KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK) < 0)
		caps->x2apic_api = false;
	if (caps->user_msr &&
	    kvm_enable(kvm, KVM_CAP_X86_USER_SPACE_MSR,
		KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL |
		    (caps->msr_filter ? KVM_MSR_EXIT_REASON_FILTER : 0)) < 0)
		caps->user_msr = false;
	if (caps->user_msr && caps->msr_filter)
		kvm_filter_msrs(kvm);
	if (!caps->user_msr && !kvm->engine.params.strict_msr)
		log_warn("kvm: this kernel raises #GP for unknown MSRs, also "
			 "with -w");
	return 0;
}
