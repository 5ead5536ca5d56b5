/*
 * What the files of the KVM engine share.  No KVM type leaves this directory.
 *
 *              caps.c   what this kernel can do
 *              kvm.c    the VM: making it, unmaking it, CPUID
 *              vcpu.c   the run loop, kicks, exits
 *              io.c     port and memory accesses, ioeventfd
 *              irq.c    messages, routes, EOI watches, irqfd
 *              mem.c    memory slots and the dirty log
 *              state.c  struct cpu_state from and to KVM's pieces
 *              time.c   guest time that stands still
 *
 * Locks        route_lock, time_lock and each vCPU's run_lock are leaves: no
 *              callback runs under them, and none is taken under another.
 */
#ifndef ENGINE_KVM_KVM_IMPL_H
#define ENGINE_KVM_KVM_IMPL_H

#include <linux/kvm.h>

#include "base/lock.h"
#include "engine/engine_impl.h"
#include "engine/x86/cpuid.h"
#include "engine/x86/msr.h"

/* Optional abilities: each has a way round. */
struct kvm_caps {
	bool readonly_mem;  /* else ROM is not mapped, and each access exits */
	bool xcrs;          /* else the processor has no XSAVE, so no XCR0 */
	bool user_msr;      /* else an unknown MSR is #GP */
	bool msr_filter;    /* else KVM's own answers for some MSRs stand */
	bool x2apic_api;    /* else x2APIC ids are 8 bits */
	bool irqfd;         /* else -ENOTSUP */
	bool ioeventfd;     /* else -ENOTSUP */
	bool ioeventfd_any; /* an ioeventfd of any width */
	unsigned routes;    /* entries of the routing table */
	unsigned vcpus;     /* the most that a VM can have */
};

/* The MSRs that this kernel reads and writes back, with power-on values. */
struct kvm_msr_set {
	unsigned count;
	struct cpu_msr msr[CPU_MSRS_MAX];
};

/* How a vCPU's TSC is set; see time.c. */
enum kvm_tsc {
	KVM_TSC_FIXED, /* not at all */
	KVM_TSC_MSR,
	KVM_TSC_OFFSET,
};

struct kvm_irqfd_route {
	int fd; /* -1: free */
	struct engine_msi msi;
};

struct kvm_vcpu;

struct kvm_engine {
	struct engine engine;
	int dev_fd; /* /dev/kvm */
	int vm_fd;
	size_t run_size;
	struct kvm_caps caps;
	struct cpuid_table cpuid; /* what KVM supports, without bhyve's edits */
	struct msr_params msr;
	bool probed; /* the first vCPU has shown: */
	struct kvm_msr_set msrs;
	enum kvm_tsc tsc;
	struct kvm_vcpu *vcpus[ENGINE_VCPUS_MAX];

	/* One buffer for each slot whose dirty pages are logged; mem's lock. */
	uint64_t **dirty;
	unsigned dirty_slots;

	struct lock route_lock;
	struct {
		bool on;
		struct engine_msi msi;
	} pins[ENGINE_EOI_PINS];
	struct kvm_irqfd_route *irqfds; /* route ENGINE_EOI_PINS + index */
	unsigned irqfd_count;
	struct kvm_irq_routing *table; /* room for all of the above */

	struct lock time_lock;
	bool time_runs;
};

struct kvm_vcpu {
	struct engine_vcpu vcpu;
	struct kvm_engine *kvm;
	int fd;
	struct kvm_run *run; /* shared with the kernel */
	uint32_t xsave_size;

	/* What other threads ask for; they nudge afterwards. */
	atomic_bool kicked;
	atomic_bool nmi;
	atomic_bool intr; /* look at the INTR wire */

	/* Whom to nudge. */
	struct lock run_lock;
	bool running;
	pthread_t thread;

	/* Would the vCPU take an interrupt at this moment? */
	enum kvm_intr { KVM_INTR_UNKNOWN, KVM_INTR_NO, KVM_INTR_YES } takes;

	/* While time stands still (time_lock). */
	uint64_t tsc;
	struct kvm_lapic_state lapic;
};

static inline struct kvm_engine *
kvm_of(struct engine *engine)
{
	return container_of(engine, struct kvm_engine, engine);
}

static inline struct kvm_vcpu *
kvm_vcpu_of(struct engine_vcpu *vcpu)
{
	return container_of(vcpu, struct kvm_vcpu, vcpu);
}

/* ioctl(2), not undone by a signal: 0 or a count, or a negative errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* caps.c */
int kvm_probe(struct err *err);
int kvm_open(struct err *err); /* the descriptor, or a negative errno */
int kvm_caps_get(struct kvm_engine *kvm, struct err *err);
int kvm_caps_enable(struct kvm_engine *kvm, struct err *err);

/* kvm.c */
int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, struct err *err);

/* vcpu.c */
int kvm_vcpu_create(struct engine *engine, unsigned id,
    struct engine_vcpu **vcpu, struct err *err);
void kvm_vcpu_destroy(struct engine_vcpu *vcpu);
void kvm_vcpu_run(struct engine_vcpu *vcpu, struct engine_exit *exit);
void kvm_vcpu_kick(struct engine_vcpu *vcpu);
void kvm_vcpu_nmi(struct engine_vcpu *vcpu);
/* Hand an NMI that was asked for over to KVM; the vCPU must not run. */
void kvm_vcpu_flush_nmi(struct kvm_vcpu *vcpu);
void kvm_intr(struct engine *engine);

/* io.c */
void kvm_exit_io(struct kvm_vcpu *vcpu);
void kvm_exit_mmio(struct kvm_vcpu *vcpu);
int kvm_ioeventfd(struct engine *engine, const struct engine_ioevent *event,
    int fd, bool on);

/* irq.c */
int kvm_irq_init(struct kvm_engine *kvm, struct err *err);
void kvm_irq_fini(struct kvm_engine *kvm);
int kvm_send_msi(struct engine *engine, const struct engine_msi *msi);
void kvm_watch_eoi(struct engine *engine, unsigned pin,
    const struct engine_msi *msi);
int kvm_irqfd(struct engine *engine, int fd, const struct engine_msi *msi);

/* mem.c */
extern const struct mem_listener kvm_mem_listener;
void kvm_mem_fini(struct kvm_engine *kvm);

/* state.c */
int kvm_state_get(struct engine_vcpu *vcpu, struct cpu_state *cpu,
    struct err *err);
int kvm_state_set(struct engine_vcpu *vcpu, const struct cpu_state *cpu,
    struct err *err);
bool kvm_state_halted(struct engine_vcpu *vcpu);
/* Learn kvm->msrs from the first vCPU. */
void kvm_msrs_probe(struct kvm_vcpu *vcpu);
int kvm_msr_get(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *value);
int kvm_msr_set(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value);

/* time.c */
#define MSR_IA32_TSC 0x10u
void kvm_time_stop(struct engine *engine);
void kvm_time_start(struct engine *engine);
void kvm_time_probe(struct kvm_vcpu *vcpu); /* with the first vCPU */
uint64_t kvm_time_tsc(struct kvm_vcpu *vcpu);
int kvm_time_set_tsc(struct kvm_vcpu *vcpu, uint64_t tsc);
/* A local APIC as read now: put back its timer if time stands still. */
void kvm_time_still_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *now);
/* A local APIC that was set: what the timer goes on from. */
void kvm_time_keep_lapic(struct kvm_vcpu *vcpu,
    const struct kvm_lapic_state *set);

#endif
