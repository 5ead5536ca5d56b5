/*
 * Choosing an engine and passing calls on to it.
 *
 * The table below is the one list of engines: its order is the order in which
 * "auto" tries them.  A program with a bench registers one more by name; auto
 * never takes that one.
 *
 * Locking: none.  engine_register() comes before the first engine_new().
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine_impl.h"

static const struct engine_ops *const engines[] = {
	&engine_kvm_ops,
	&engine_jit_ops,
	&engine_interp_ops,
};

/* What "auto" tells when no engine would have it. */
#define AUTO "auto"
#define AUTO_NONE "no engine can run here"

static const struct engine_ops *registered;

void
engine_register(const struct engine_ops *ops)
{
	registered = ops;
}

const char *
engine_names(void)
{
	return "kvm, jit, interp, " AUTO;
}

static const struct engine_ops *
engine_find(const char *name)
{
	if (registered != NULL && strcmp(name, registered->name) == 0)
		return registered;
	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		if (strcmp(name, engines[i]->name) == 0)
			return engines[i];
	}
	return NULL;
}

/* The first engine whose probe is content, or all their reasons. */
static int
engine_find_auto(const struct engine_ops **ops, struct err *err)
{
	struct err all = { .msg = "" };
	size_t len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(engines); i++) {
		struct err why = { .msg = "" };

		if (engines[i]->probe(&why) == 0) {
			*ops = engines[i];
			return 0;
		}
		len += (size_t)snprintf(all.msg + len, sizeof(all.msg) - len,
		    "%s%s: %s", i == 0 ? "" : "; ", engines[i]->name, why.msg);
		if (len >= sizeof(all.msg))
			break;
	}
	return err_set(err, -ENODEV, AUTO_NONE ": %s", all.msg);
}

int
engine_new(const char *name, const struct engine_params *params,
    struct engine **engine, struct err *err)
{
	const struct engine_ops *ops;

	if (strcmp(name, AUTO) == 0) {
		int rc = engine_find_auto(&ops, err);

		if (rc != 0)
			return rc;
	} else {
		ops = engine_find(name);
		if (ops == NULL)
			return err_set(err, -EINVAL,
			    "%s: unknown engine; there are: %s", name,
			    engine_names());
	}
	return ops->create(params, engine, err);
}

void
engine_free(struct engine *engine)
{
	if (engine != NULL)
		engine->ops->destroy(engine);
}

const char *
engine_name(const struct engine *engine)
{
	return engine->ops->name;
}

int
engine_vcpu_new(struct engine *engine, unsigned id, struct engine_vcpu **vcpu,
    struct err *err)
{
	assert(id < engine->params.vcpus);
	return engine->ops->vcpu_create(engine, id, vcpu, err);
}

void
engine_vcpu_free(struct engine_vcpu *vcpu)
{
	if (vcpu != NULL)
		vcpu->engine->ops->vcpu_destroy(vcpu);
}

void
engine_run(struct engine_vcpu *vcpu, struct engine_exit *exit)
{
	vcpu->engine->ops->run(vcpu, exit);
}

void
engine_kick(struct engine_vcpu *vcpu)
{
	vcpu->engine->ops->kick(vcpu);
}

int
engine_get(struct engine_vcpu *vcpu, struct cpu_state *cpu, struct err *err)
{
	return vcpu->engine->ops->get(vcpu, cpu, err);
}

int
engine_set(struct engine_vcpu *vcpu, const struct cpu_state *cpu,
    struct err *err)
{
	return vcpu->engine->ops->set(vcpu, cpu, err);
}

bool
engine_halted(struct engine_vcpu *vcpu)
{
	return vcpu->engine->ops->halted(vcpu);
}

int
engine_send_msi(struct engine *engine, const struct engine_msi *msi)
{
	return engine->ops->send_msi(engine, msi);
}

void
engine_intr(struct engine *engine)
{
	engine->ops->intr(engine);
}

void
engine_nmi(struct engine_vcpu *vcpu)
{
	vcpu->engine->ops->nmi(vcpu);
}

void
engine_watch_eoi(struct engine *engine, unsigned pin,
    const struct engine_msi *msi)
{
	assert(pin < ENGINE_EOI_PINS);
	engine->ops->watch_eoi(engine, pin, msi);
}

int
engine_ioeventfd(struct engine *engine, const struct engine_ioevent *event,
    int fd, bool on)
{
	if (engine->ops->ioeventfd == NULL)
		return -ENOTSUP;
	return engine->ops->ioeventfd(engine, event, fd, on);
}

int
engine_irqfd(struct engine *engine, int fd, const struct engine_msi *msi)
{
	if (engine->ops->irqfd == NULL)
		return -ENOTSUP;
	return engine->ops->irqfd(engine, fd, msi);
}

void
engine_time_stop(struct engine *engine)
{
	if (engine->ops->time_stop != NULL)
		engine->ops->time_stop(engine);
}

void
engine_time_start(struct engine *engine)
{
	if (engine->ops->time_start != NULL)
		engine->ops->time_start(engine);
}

void
engine_stats(struct engine *engine, engine_stat_fn *fn, void *arg)
{
	if (engine->ops->stats != NULL)
		engine->ops->stats(engine, fn, arg);
}
