/*
 * The engine contract: what runs vCPUs over guest memory.
 *
 * An engine knows processors and memory, never devices.  It calls out through
 * struct engine_host for everything else, and engine_run() returns only for
 * the events of a life (struct engine_exit).  Everything hot stays inside.
 *
 * Threads      engine_run(), engine_get() and engine_set() of one vCPU belong
 *              to its thread (get and set also to another while the vCPU's
 *              thread is known not to run).  All else may come from any thread.
 * Callbacks    run on the vCPU's thread, with no lock of the engine held that
 *              another engine call takes.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/err.h"
#include "engine/cpu_state.h"
#include "mem/mem.h"

struct engine;
struct engine_vcpu;

#define ENGINE_VCPUS_MAX 32

/* What the machine answers while a guest runs. */
struct engine_host {
	/*
	 * Port I/O: count items of size 1, 2 or 4 at data (string instructions
	 * have counts above 1).  A read fills data.
	 */
	void (*pio)(void *arg, unsigned vcpu, uint16_t port, bool write,
	    unsigned size, void *data, uint32_t count);
	/* Memory that is no RAM: size 1 to 8, not beyond an 8-byte boundary. */
	void (*mmio)(void *arg, unsigned vcpu, gpa_t gpa, bool write,
	    unsigned size, void *data);
	/* The processor acknowledges INTR: the 8259 pair's vector, 0 to 255. */
	uint8_t (*intack)(void *arg);
	/* Is the 8259 pair's INTR wire asserted now? */
	bool (*intr)(void *arg);
	/* A vector watched by engine_watch_eoi() was acknowledged. */
	void (*eoi)(void *arg, uint8_t vector);
	void *arg;
};

/* Messages as PCI devices send them. */
struct engine_msi {
	uint64_t addr;
	uint32_t data;
};

/* A software engine: what processor it is, and how to look into it. */
struct engine_soft {
	const char *cpu_model; /* NULL: the default */
	uint64_t cache_size;   /* bytes of translated code; 0: the default */
	bool no_chain; /* jit: every jump comes back to the dispatcher */
	bool
	    no_native; /* jit: jumps and the stack only, the rest interpreted */
	bool perf_map; /* write /tmp/perf-PID.map, for perf(1) */
	const char *dump; /* file for guest code beside host code, or NULL */
};

struct engine_params {
	struct mem *mem; /* borrowed: outlives the engine */
	struct engine_host host;
	unsigned vcpus;
	unsigned sockets, cores, threads; /* product: vcpus */
	bool x2apic;                      /* -x: APICs start in x2APIC mode */
	bool strict_msr;    /* an MSR nobody knows raises #GP; else reads 0 */
	bool exit_on_pause; /* -P: PAUSE gives the core away */
	struct engine_soft soft;
};

/* Why engine_run() came back. */
enum engine_exit_reason {
	ENGINE_EXIT_KICKED,       /* engine_kick(), or a signal */
	ENGINE_EXIT_TRIPLE_FAULT, /* shutdown */
	ENGINE_EXIT_DEBUG, /* breakpoint or single step, for a debugger */
	ENGINE_EXIT_ERROR, /* it cannot go on: `err` says why */
};

struct engine_exit {
	enum engine_exit_reason reason;
	struct err err;
};

/*
 * Choosing an engine.  name is "auto", "kvm", ...; "auto" takes kvm where the
 * processor really has vmx or svm.  An engine that is asked for by name is
 * tried whatever the processor says.
 */
int engine_new(const char *name, const struct engine_params *params,
    struct engine **engine, struct err *err);
void engine_free(struct engine *engine);
const char *engine_name(const struct engine *engine);
/* "kvm, auto": for messages and help; static storage. */
const char *engine_names(void);

int engine_vcpu_new(struct engine *engine, unsigned id,
    struct engine_vcpu **vcpu, struct err *err);
void engine_vcpu_free(struct engine_vcpu *vcpu);

void engine_run(struct engine_vcpu *vcpu, struct engine_exit *exit);
/* Make engine_run() return soon, or at once if it is not running. */
void engine_kick(struct engine_vcpu *vcpu);

int engine_get(struct engine_vcpu *vcpu, struct cpu_state *cpu,
    struct err *err);
int engine_set(struct engine_vcpu *vcpu, const struct cpu_state *cpu,
    struct err *err);

/*
 * Nothing but NMI, INIT or reset could wake it: halted with interrupts off, or
 * an AP still waiting for INIT or SIPI.  On the vCPU's thread, after a kick.
 */
bool engine_halted(struct engine_vcpu *vcpu);

/* -EINVAL if no vCPU can be its target. */
int engine_send_msi(struct engine *engine, const struct engine_msi *msi);
/* The INTR wire of the 8259 pair rose: have host.intr() looked at. */
void engine_intr(struct engine *engine);
void engine_nmi(struct engine_vcpu *vcpu);
/*
 * Tell host.eoi() when the vector of `msi` is acknowledged: I/O APIC pins that
 * are level-triggered.  A pin watches one message; NULL stops it.
 */
#define ENGINE_EOI_PINS 32
void engine_watch_eoi(struct engine *engine, unsigned pin,
    const struct engine_msi *msi);

/*
 * Short cuts for device threads: -ENOTSUP where the engine has none, and the
 * device then goes the long way (a callback; engine_send_msi()).
 *
 * A write to a port or address signals fd instead of calling out.
 */
struct engine_ioevent {
	bool mmio;
	uint64_t addr;
	unsigned len; /* 0: any width */
	bool match;   /* only this value */
	uint64_t value;
};
int engine_ioeventfd(struct engine *engine, const struct engine_ioevent *event,
    int fd, bool on);
/* Signalling fd sends msi.  Calling again changes msi; NULL detaches. */
int engine_irqfd(struct engine *engine, int fd, const struct engine_msi *msi);

/*
 * Guest time (the TSC) stands still between stop and start.  Called with all
 * vCPUs out of engine_run().
 */
void engine_time_stop(struct engine *engine);
void engine_time_start(struct engine *engine);

/*
 * What an engine counts, one call a counter, vCPU by vCPU; -1: of the whole
 * engine.  Any thread; the numbers are as of a moment ago.
 */
typedef void engine_stat_fn(void *arg, int vcpu, const char *name,
    uint64_t value);
void engine_stats(struct engine *engine, engine_stat_fn *fn, void *arg);

#endif
