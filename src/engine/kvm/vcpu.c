/*
 * A KVM vCPU: its run loop, and how other threads get its attention.
 *
 * Requests     Another thread makes its wish visible (`kicked`, `nmi`, `intr`)
 *              and then nudges: it sets immediate_exit and sends a signal to
 *              the thread in the loop.
 *              The loop clears immediate_exit, then looks at the wishes, then
 *              enters KVM_RUN.  None is lost: a wish made before the look is
 *              seen; of one made after it, immediate_exit is set after the
 *              clearing, so KVM_RUN finds it and leaves at once, or, if the
 *              kernel has passed that check, the signal interrupts the guest.
 *              The signal does nothing else and may come late or for nothing.
 * Half-done    After an I/O exit the instruction is finished by the next
 *              KVM_RUN.  So the loop never leaves after such an exit: with
 *              immediate_exit set KVM_RUN finishes the instruction and comes
 *              back with EINTR before the guest runs on, and only there does
 *              a kick end engine_run().  Registers read afterwards are whole.
 * INTR         The 8259A pair's vector becomes the vCPU's injected interrupt
 *              while KVM says that it would take one now, and not through
 *              KVM_INTERRUPT: that leaves the vector in a place which no
 *              ioctl can read, so a state saved then would lose it.  KVM says
 *              so between instructions; after an I/O exit we first have it
 *              finish the instruction.  If it would not, we ask to be told
 *              when it would (request_interrupt_window).
 * Locking      run_lock, a leaf, keeps the thread alive while it is signalled.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "engine/kvm/kvm_impl.h"

/* Ignored unless caught, not queued, and used by nobody else here. */
#define NUDGE_SIGNAL SIGURG

#define RFLAGS_IF BIT(9)

static void
nudge_handler(int signal)
{
	/* To have interrupted KVM_RUN was all. */
}

static void
nudge_install(void)
{
	struct sigaction action = {
		.sa_handler = nudge_handler,
		.sa_flags = SA_RESTART, /* system calls of the callbacks */
	};

	sigemptyset(&action.sa_mask);
	if (sigaction(NUDGE_SIGNAL, &action, NULL) != 0)
		abort(); /* only for a signal that does not exist */
}

/* Have the run loop look at its wishes. */
static void
nudge(struct kvm_vcpu *vcpu)
{
	/* Pairs with the clearing in vcpu_prepare(); see the theory above. */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	lock_take(&vcpu->run_lock);
	if (vcpu->running && !pthread_equal(vcpu->thread, pthread_self()))
		pthread_kill(vcpu->thread, NUDGE_SIGNAL);
	lock_drop(&vcpu->run_lock);
}

void
kvm_vcpu_kick(struct engine_vcpu *v)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(v);

	atomic_store(&vcpu->kicked, true);
	nudge(vcpu);
}

/* KVM_NMI would wait for a running vCPU: its own thread passes it on. */
void
kvm_vcpu_nmi(struct engine_vcpu *v)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(v);

	atomic_store(&vcpu->nmi, true);
	nudge(vcpu);
}

/* Only the first vCPU's LINT0 is wired to the 8259A pair. */
void
kvm_intr(struct engine *engine)
{
	struct kvm_vcpu *bsp = kvm_of(engine)->vcpus[0];

	if (bsp == NULL)
		return;
	atomic_store(&bsp->intr, true);
	nudge(bsp);
}

void
kvm_vcpu_flush_nmi(struct kvm_vcpu *vcpu)
{
	if (atomic_exchange(&vcpu->nmi, false))
		(void)kvm_ioctl(vcpu->fd, KVM_NMI, NULL); /* cannot fail */
}

/* ------------------------------------------------------------ errors */

/* It cannot go on: the sentence, and where the guest was. */
static void PRINTF_LIKE(3, 4)
    fail(struct kvm_vcpu *vcpu, struct engine_exit *exit, const char *fmt, ...)
{
	struct kvm_regs regs = { 0 };
	struct kvm_sregs sregs = { 0 };
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	/* Zeros in the sentence are all that can come of a failure here. */
	(void)kvm_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	(void)kvm_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
	exit->reason = ENGINE_EXIT_ERROR;
	(void)err_set(&exit->err, -EIO,
	    "kvm: vCPU %u: %s; rip 0x%llx, cs 0x%x base 0x%llx, cr0 0x%llx",
	    vcpu->vcpu.id, what, regs.rip, sregs.cs.selector, sregs.cs.base,
	    sregs.cr0);
}

static void
fail_internal(struct kvm_vcpu *vcpu, struct engine_exit *exit)
{
	static const char *const names[] = {
		[KVM_INTERNAL_ERROR_EMULATION] =
		    "the kernel cannot emulate an instruction",
		[KVM_INTERNAL_ERROR_SIMUL_EX] =
		    "the kernel met exceptions at the same time",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] =
		    "the kernel failed while it delivered an event",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] =
		    "the processor left the guest for no known reason",
	};
	const struct kvm_run *run = vcpu->run;
	uint32_t sub = run->internal.suberror;
	const char *name = sub < ARRAY_SIZE(names) ? names[sub] : NULL;
	char bytes[3 * 16 + 1] = "";

	if (sub == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata >= 3 &&
	    (run->emulation_failure.flags &
		KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		unsigned n = MIN(run->emulation_failure.insn_size,
		    sizeof(run->emulation_failure.insn_bytes));

		for (unsigned i = 0; i < n; i++)
			(void)snprintf(bytes + 3 * i, sizeof(bytes) - 3 * i,
			    " %02x", run->emulation_failure.insn_bytes[i]);
	}
	fail(vcpu, exit, "%s (internal error %u)%s%s",
	    name != NULL ? name : "the kernel gave up", sub,
	    bytes[0] != '\0' ? ", bytes" : "", bytes);
}

/* -------------------------------------------------------- interrupts */

/* Have the 8259A pair's vector delivered before the next instruction. */
static void
intr_inject(struct kvm_vcpu *vcpu)
{
	const struct engine_host *host = &vcpu->kvm->engine.params.host;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;

	/* This may let an INIT in: then there is nobody to interrupt. */
	if (kvm_ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp) < 0 ||
	    (mp.mp_state != KVM_MP_STATE_RUNNABLE &&
		mp.mp_state != KVM_MP_STATE_HALTED) ||
	    kvm_ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
		return;
	events.flags = 0; /* leaves NMIs that arrive meanwhile alone */
	events.interrupt.injected = 1;
	events.interrupt.soft = 0;
	events.interrupt.nr = host->intack(host->arg);
	/* What was just read can be written; a failure would lose one edge. */
	(void)kvm_ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
	if (mp.mp_state == KVM_MP_STATE_HALTED) {
		mp.mp_state = KVM_MP_STATE_RUNNABLE;
		(void)kvm_ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp);
	}
}

/* KVM_RUN has come back between two instructions. */
static void
intr_learn(struct kvm_vcpu *vcpu)
{
	vcpu->takes = vcpu->run->ready_for_interrupt_injection ? KVM_INTR_YES :
								 KVM_INTR_NO;
}

static void
intr_offer(struct kvm_vcpu *vcpu)
{
	const struct engine_host *host = &vcpu->kvm->engine.params.host;
	bool asserted = host->intr(host->arg);

	if (asserted && vcpu->takes == KVM_INTR_YES) {
		intr_inject(vcpu);
		asserted = host->intr(host->arg);
	} else if (asserted && vcpu->takes == KVM_INTR_UNKNOWN) {
		/* In only to finish an instruction. */
		__atomic_store_n(&vcpu->run->immediate_exit, 1,
		    __ATOMIC_SEQ_CST);
	}
	vcpu->run->request_interrupt_window = asserted;
	/* While it is asserted, look again after every exit. */
	if (asserted)
		atomic_store(&vcpu->intr, true);
}

/* ---------------------------------------------------------- run loop */

/* Look at the wishes, ready for KVM_RUN. */
static void
vcpu_prepare(struct kvm_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	__atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (atomic_load(&vcpu->kicked)) {
		/* In only to finish an instruction. */
		__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		return;
	}
	kvm_vcpu_flush_nmi(vcpu);
	if (vcpu->vcpu.id == 0 && atomic_exchange(&vcpu->intr, false))
		intr_offer(vcpu);
}

static void
exit_msr(struct kvm_vcpu *vcpu)
{
	const struct kvm_engine *kvm = vcpu->kvm;
	struct kvm_run *run = vcpu->run;
	enum msr_answer answer;
	uint64_t value;

	if (run->exit_reason == KVM_EXIT_X86_RDMSR) {
		answer = msr_read(&kvm->msr, run->msr.index, &value);
		run->msr.data = value;
	} else {
		answer = msr_write(&kvm->msr, run->msr.index);
	}
	if (answer == MSR_UNKNOWN)
		answer = kvm->engine.params.strict_msr ? MSR_FAULT : MSR_OK;
	run->msr.error = answer == MSR_FAULT;
}

/* Handle an exit; true when engine_run() must return. */
static bool
vcpu_exit(struct kvm_vcpu *vcpu, struct engine_exit *exit)
{
	const struct engine_host *host = &vcpu->kvm->engine.params.host;
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		kvm_exit_io(vcpu);
		return false;
	case KVM_EXIT_MMIO:
		kvm_exit_mmio(vcpu);
		return false;
	case KVM_EXIT_IOAPIC_EOI:
		host->eoi(host->arg, run->eoi.vector);
		return false;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		exit_msr(vcpu);
		return false;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		intr_learn(vcpu);
		return false;
	case KVM_EXIT_INTR:
		return false;
	case KVM_EXIT_SHUTDOWN:
		exit->reason = ENGINE_EXIT_TRIPLE_FAULT;
		return true;
	case KVM_EXIT_DEBUG:
		exit->reason = ENGINE_EXIT_DEBUG;
		return true;
	case KVM_EXIT_FAIL_ENTRY:
		fail(vcpu, exit,
		    "the processor refused to enter the guest (reason 0x%llx)",
		    run->fail_entry.hardware_entry_failure_reason);
		return true;
	case KVM_EXIT_INTERNAL_ERROR:
		fail_internal(vcpu, exit);
		return true;
	default:
		fail(vcpu, exit,
		    "the kernel left the guest with exit %u (0x%llx)",
		    run->exit_reason, run->hw.hardware_exit_reason);
		return true;
	}
}

/* From here on nudges reach this thread. */
static void
run_begin(struct kvm_vcpu *vcpu)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, NUDGE_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	/* The wire may have risen before the first run, or in a saved state. */
	atomic_store(&vcpu->intr, true);
	lock_take(&vcpu->run_lock);
	vcpu->thread = pthread_self();
	vcpu->running = true;
	lock_drop(&vcpu->run_lock);
}

static void
run_end(struct kvm_vcpu *vcpu)
{
	lock_take(&vcpu->run_lock);
	vcpu->running = false;
	lock_drop(&vcpu->run_lock);
}

void
kvm_vcpu_run(struct engine_vcpu *v, struct engine_exit *exit)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(v);
	bool done = false;

	kvm_time_start(v->engine);
	run_begin(vcpu);
	while (!done) {
		int rc;

		vcpu_prepare(vcpu);
		vcpu->takes = KVM_INTR_UNKNOWN; /* that moment passes */
		rc = ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
		switch (rc) {
		case 0:
			done = vcpu_exit(vcpu, exit);
			break;
		case -EINTR:
			/* Nothing is half-done now. */
			intr_learn(vcpu);
			if (atomic_exchange(&vcpu->kicked, false)) {
				exit->reason = ENGINE_EXIT_KICKED;
				done = true;
			}
			break;
		case -EAGAIN:
			/* An INIT or SIPI has changed what it waits for. */
			break;
		default:
			fail(vcpu, exit, "the kernel cannot run it: %s",
			    strerror(-rc));
			done = true;
			break;
		}
	}
	run_end(vcpu);
}

/* -------------------------------------------------------------- life */

void
kvm_vcpu_destroy(struct engine_vcpu *v)
{
	struct kvm_vcpu *vcpu = kvm_vcpu_of(v);

	vcpu->kvm->vcpus[v->id] = NULL;
	if (vcpu->run != NULL)
		munmap(vcpu->run, vcpu->kvm->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
	lock_fini(&vcpu->run_lock);
	free(vcpu);
}

int
kvm_vcpu_create(struct engine *engine, unsigned id, struct engine_vcpu **v,
    struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct kvm_engine *kvm = kvm_of(engine);
	struct kvm_vcpu *vcpu = xcalloc(1, sizeof(*vcpu));
	void *run;
	int rc;

	pthread_once(&once, nudge_install);
	vcpu->vcpu.engine = engine;
	vcpu->vcpu.id = id;
	vcpu->kvm = kvm;
	lock_init(&vcpu->run_lock);
	vcpu->fd = rc =
	    kvm_ioctl(kvm->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
	if (rc < 0) {
		(void)err_set_errno(err, rc, "kvm: cannot make vCPU %u", id);
		goto fail;
	}
	run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    vcpu->fd, 0);
	if (run == MAP_FAILED) {
		rc = err_set_errno(err, -errno, "kvm: vCPU %u: mmap", id);
		goto fail;
	}
	vcpu->run = run;
	/* Older kernels have KVM's own MSRs answer whatever CPUID says. */
	(void)kvm_ioctl(vcpu->fd, KVM_ENABLE_CAP,
	    &(struct kvm_enable_cap) {
		.cap = KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
		.args = { 1 },
	    });
	rc = kvm_vcpu_set_cpuid(vcpu, err);
	if (rc < 0)
		goto fail;
	if (!kvm->probed) {
		kvm_msrs_probe(vcpu);
		kvm_time_probe(vcpu);
		kvm->probed = true;
	}
	kvm->vcpus[id] = vcpu;
	*v = &vcpu->vcpu;
	return 0;

fail:
	kvm_vcpu_destroy(&vcpu->vcpu);
	return rc;
}
