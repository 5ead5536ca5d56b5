/*
 * What an engine provides.  engine.c dispatches; the meaning of each function
 * is that of its namesake in engine.h.  NULL where an engine has no short cut.
 */
#ifndef ENGINE_ENGINE_IMPL_H
#define ENGINE_ENGINE_IMPL_H

#include "engine/engine.h"

struct engine_ops {
	const char *name;
	/* May "auto" take it?  0, or a negative errno and the reason. */
	int (*probe)(struct err *err);
	int (*create)(const struct engine_params *params,
	    struct engine **engine, struct err *err);
	void (*destroy)(struct engine *engine);
	int (*vcpu_create)(struct engine *engine, unsigned id,
	    struct engine_vcpu **vcpu, struct err *err);
	void (*vcpu_destroy)(struct engine_vcpu *vcpu);
	void (*run)(struct engine_vcpu *vcpu, struct engine_exit *exit);
	void (*kick)(struct engine_vcpu *vcpu);
	int (*get)(struct engine_vcpu *vcpu, struct cpu_state *cpu,
	    struct err *err);
	int (*set)(struct engine_vcpu *vcpu, const struct cpu_state *cpu,
	    struct err *err);
	bool (*halted)(struct engine_vcpu *vcpu);
	int (*send_msi)(struct engine *engine, const struct engine_msi *msi);
	void (*intr)(struct engine *engine);
	void (*nmi)(struct engine_vcpu *vcpu);
	void (*watch_eoi)(struct engine *engine, unsigned pin,
	    const struct engine_msi *msi);
	int (*ioeventfd)(struct engine *engine,
	    const struct engine_ioevent *event, int fd, bool on);
	int (*irqfd)(struct engine *engine, int fd,
	    const struct engine_msi *msi);
	void (*time_stop)(struct engine *engine);
	void (*time_start)(struct engine *engine);
	void (*stats)(struct engine *engine, engine_stat_fn *fn, void *arg);
};

/* Every engine begins with these. */
struct engine {
	const struct engine_ops *ops;
	struct engine_params params;
};

struct engine_vcpu {
	struct engine *engine;
	unsigned id;
};

extern const struct engine_ops engine_kvm_ops, engine_jit_ops,
    engine_interp_ops;

/*
 * An engine for the bench: it runs nothing and records what it is told.  Only
 * a program that links test/bench.c has one; engine_new("bench") finds it here.
 */
void engine_register(const struct engine_ops *ops);

#endif
