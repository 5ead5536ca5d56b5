/*
 * The world: which vCPUs run guest code at this moment.
 *
 * A vCPU is in the world while translated code or the interpreter may touch
 * guest memory by what it has cached.  It leaves to sleep, to call a device,
 * to wait for a lock.  Somebody who must change what the others have cached
 * (tags that let code be written, all translated code, an access across two
 * pages that must look like one) becomes alone: asks the others to leave, waits
 * until they are out, and keeps the door shut.
 *
 *              out ──world_enter──▶ in ──world_leave──▶ out
 *                        ▲ waits while somebody is alone
 *
 * code_lock    A vCPU in the world may hold it and become alone.  So one that
 *              waits for it leaves the world first, and who is alone for other
 *              reasons never takes it (vcpu.c puts off what would need it).
 */
#include "engine/jit/jit_impl.h"

static _Thread_local struct jit_vcpu *self;

struct jit_vcpu *
world_self(void)
{
	return self;
}

struct jit_vcpu *
world_self_in(const struct jit *jit)
{
	return self != NULL && self->jit == jit ? self : NULL;
}

void
world_forget(const struct jit_vcpu *vcpu)
{
	if (self == vcpu)
		self = NULL;
}

void
world_enter(struct jit_vcpu *vcpu)
{
	struct jit *jit = vcpu->jit;

	self = vcpu;
	pthread_mutex_lock(&jit->world);
	while (jit->alone)
		pthread_cond_wait(&jit->world_cond, &jit->world);
	jit->running++;
	pthread_mutex_unlock(&jit->world);
	vcpu->in_world = true;
}

void
world_leave(struct jit_vcpu *vcpu)
{
	struct jit *jit = vcpu->jit;

	vcpu->in_world = false;
	pthread_mutex_lock(&jit->world);
	jit->running--;
	if (jit->alone)
		pthread_cond_broadcast(&jit->world_cond);
	pthread_mutex_unlock(&jit->world);
}

/* Enter if the door is open. */
static bool
world_try_enter(struct jit_vcpu *vcpu)
{
	struct jit *jit = vcpu->jit;
	bool open;

	pthread_mutex_lock(&jit->world);
	open = !jit->alone;
	if (open)
		jit->running++;
	pthread_mutex_unlock(&jit->world);
	vcpu->in_world = open;
	return open;
}

void
world_alone(struct jit *jit, struct jit_vcpu *vcpu)
{
	pthread_mutex_lock(&jit->world);
	/* Its place inside is kept, but does not count. */
	if (vcpu != NULL && vcpu->in_world) {
		jit->running--;
		pthread_cond_broadcast(&jit->world_cond);
	}
	while (jit->alone)
		pthread_cond_wait(&jit->world_cond, &jit->world);
	jit->alone = true;
	for (unsigned i = 0; i < jit->engine.params.vcpus; i++) {
		if (jit->vcpus[i] != NULL && jit->vcpus[i] != vcpu)
			atomic_fetch_or(&jit->vcpus[i]->cpu->attention,
			    X86_ATTENTION_STOP);
	}
	while (jit->running > 0)
		pthread_cond_wait(&jit->world_cond, &jit->world);
	pthread_mutex_unlock(&jit->world);
}

void
world_together(struct jit *jit, struct jit_vcpu *vcpu)
{
	pthread_mutex_lock(&jit->world);
	jit->alone = false;
	if (vcpu != NULL && vcpu->in_world)
		jit->running++;
	pthread_cond_broadcast(&jit->world_cond);
	pthread_mutex_unlock(&jit->world);
}

void
code_lock_take(struct jit *jit)
{
	struct jit_vcpu *vcpu = self;

	if (lock_try(&jit->code_lock))
		return;
	if (vcpu == NULL || vcpu->jit != jit || !vcpu->in_world) {
		lock_take(&jit->code_lock);
		return;
	}
	for (;;) {
		world_leave(vcpu);
		lock_take(&jit->code_lock);
		if (world_try_enter(vcpu))
			return;
		/* Whoever is alone may want the lock: let it go first. */
		lock_drop(&jit->code_lock);
		world_enter(vcpu);
		if (lock_try(&jit->code_lock))
			return;
	}
}

void
code_lock_drop(struct jit *jit)
{
	lock_drop(&jit->code_lock);
}
