/*
 * The world, without processors: threads go in and out, become alone, take
 * code_lock, in all ways that world.c allows.  Nobody waits for ever, and who is
 * alone is alone.
 *
 * What must not happen at the same time uses plain variables too, so that
 * ThreadSanitizer sees whether one happens before the other.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/jit/jit_impl.h"

#define VCPUS 4u
#define DEVICES 2u
#define ROUNDS 3000u
#define GIVE_UP_S 100

struct rig {
	struct jit jit;
	struct jit_vcpu vcpu[VCPUS];

	atomic_uint inside; /* vCPUs that run guest code */
	atomic_uint alone;  /* threads that are alone */
	atomic_uint failures;
	unsigned long plain;  /* written alone, read inside */
	unsigned long locked; /* written with code_lock */
	atomic_ulong times_alone, times_locked;
};

static int
setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	(void)alarm(GIVE_UP_S); /* somebody waits for ever */
	pthread_mutex_init(&rig->jit.world, NULL);
	pthread_cond_init(&rig->jit.world_cond, NULL);
	lock_init(&rig->jit.code_lock);
	rig->jit.engine.params.vcpus = VCPUS;
	for (unsigned i = 0; i < VCPUS; i++) {
		struct jit_vcpu *vcpu = &rig->vcpu[i];

		vcpu->jit = &rig->jit;
		vcpu->vcpu.id = i;
		vcpu->cpu = aligned_alloc(MEM_PAGE_SIZE,
		    round_up(sizeof(*vcpu->cpu), MEM_PAGE_SIZE));
		assert_non_null(vcpu->cpu);
		atomic_init(&vcpu->cpu->attention, 0);
		rig->jit.vcpus[i] = vcpu;
	}
	*state = rig;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < VCPUS; i++)
		free(rig->vcpu[i].cpu);
	lock_fini(&rig->jit.code_lock);
	pthread_cond_destroy(&rig->jit.world_cond);
	pthread_mutex_destroy(&rig->jit.world);
	free(rig);
	(void)alarm(0);
	return 0;
}

/* In a thread, where a failed assertion could not be told. */
static void
check(struct rig *rig, bool what)
{
	if (!what)
		atomic_fetch_add(&rig->failures, 1);
}

/* ----------------------------------------------------------- all at a time */

static void
be_alone(struct rig *rig, struct jit_vcpu *vcpu)
{
	world_alone(&rig->jit, vcpu);
	check(rig, atomic_fetch_add(&rig->alone, 1) == 0);
	check(rig, atomic_load(&rig->inside) == 0);
	rig->plain++;
	atomic_fetch_add(&rig->times_alone, 1);
	check(rig, atomic_load(&rig->inside) == 0);
	check(rig, atomic_fetch_sub(&rig->alone, 1) == 1);
	world_together(&rig->jit, vcpu);
}

static void
be_inside(struct rig *rig)
{
	atomic_fetch_add(&rig->inside, 1);
	check(rig, atomic_load(&rig->alone) == 0);
}

static void
with_lock(struct rig *rig, struct jit_vcpu *vcpu, bool alone)
{
	code_lock_take(&rig->jit);
	check(rig, lock_held(&rig->jit.code_lock));
	check(rig, vcpu == NULL || vcpu->in_world);
	rig->locked++;
	atomic_fetch_add(&rig->times_locked, 1);
	if (alone)
		be_alone(rig, vcpu);
	rig->locked++;
	code_lock_drop(&rig->jit);
}

struct thread {
	pthread_t thread;
	struct rig *rig;
	struct jit_vcpu *vcpu;
	unsigned seed;
	unsigned long seen;
};

static void *
vcpu_main(void *arg)
{
	struct thread *t = arg;
	struct rig *rig = t->rig;
	struct jit_vcpu *vcpu = t->vcpu;

	world_enter(vcpu);
	check(rig, world_self() == vcpu);
	for (unsigned i = 0; i < ROUNDS; i++) {
		be_inside(rig);
		t->seen += rig->plain;
		for (unsigned n = 0;
		     n < 50 && atomic_load(&vcpu->cpu->attention) == 0; n++)
			check(rig, atomic_load(&rig->alone) == 0);
		t->seen += rig->plain;
		atomic_fetch_sub(&rig->inside, 1);
		check(rig, vcpu->in_world);
		switch (rand_r(&t->seed) % 8) {
		case 0:
			be_alone(rig, vcpu); /* an access across pages */
			break;
		case 1:
			with_lock(rig, vcpu, false);
			break;
		case 2:
			with_lock(rig, vcpu, true); /* a full cache */
			break;
		case 3: /* a device */
			world_leave(vcpu);
			check(rig, !vcpu->in_world);
			if (i % 2 == 0) /* it writes to code */
				code_lock_take(&rig->jit),
				    code_lock_drop(&rig->jit);
			world_enter(vcpu);
			break;
		default:
			if (atomic_exchange(&vcpu->cpu->attention, 0) != 0) {
				world_leave(vcpu);
				world_enter(vcpu);
			}
			break;
		}
	}
	world_leave(vcpu);
	return NULL;
}

static void *
device_main(void *arg)
{
	struct thread *t = arg;

	check(t->rig, world_self() == NULL);
	for (unsigned i = 0; i < ROUNDS / 4; i++) {
		if (rand_r(&t->seed) % 2 == 0)
			with_lock(t->rig, NULL, i % 8 == 0);
		else
			be_alone(t->rig, NULL);
		(void)sched_yield();
	}
	return NULL;
}

static void
all_at_a_time(void **state)
{
	static struct thread threads[VCPUS + DEVICES];
	struct rig *rig = *state;

	for (unsigned i = 0; i < VCPUS + DEVICES; i++) {
		struct thread *t = &threads[i];

		t->rig = rig;
		t->seed = i + 1;
		t->vcpu = i < VCPUS ? &rig->vcpu[i] : NULL;
		assert_int_equal(pthread_create(&t->thread, NULL,
				     i < VCPUS ? vcpu_main : device_main, t),
		    0);
	}
	for (unsigned i = 0; i < VCPUS + DEVICES; i++)
		assert_int_equal(pthread_join(threads[i].thread, NULL), 0);
	assert_int_equal(atomic_load(&rig->failures), 0);
	assert_int_equal(rig->plain, atomic_load(&rig->times_alone));
	assert_int_equal(rig->locked, 2 * atomic_load(&rig->times_locked));
	assert_int_equal(rig->jit.running, 0);
	assert_false(rig->jit.alone);
}

/* -------------------------------------------------------------- step by step */

/* What a thread of one vCPU has been told to do, and how far it is. */
struct steps {
	pthread_t thread;
	struct rig *rig;
	atomic_uint at, may;
};

static void
step(struct steps *s, unsigned n)
{
	atomic_store(&s->at, n);
	while (atomic_load(&s->may) < n)
		(void)sched_yield();
}

static void
wait_until(struct steps *s, unsigned n)
{
	while (atomic_load(&s->at) < n)
		(void)sched_yield();
}

static void
a_moment(void)
{
	(void)nanosleep(&(struct timespec) { 0, 10000000 }, NULL);
}

static void *
stays_inside_main(void *arg)
{
	struct steps *s = arg;
	struct jit_vcpu *vcpu = &s->rig->vcpu[1];

	world_enter(vcpu);
	step(s, 1);
	/* Told to leave; takes its time. */
	while (!(atomic_load(&vcpu->cpu->attention) & X86_ATTENTION_STOP))
		(void)sched_yield();
	a_moment();
	check(s->rig, atomic_load(&s->rig->alone) == 0);
	atomic_store(&s->at, 2);
	world_leave(vcpu);
	world_enter(vcpu);
	check(s->rig, atomic_load(&s->rig->alone) == 0);
	world_leave(vcpu);
	atomic_store(&s->at, 3);
	return NULL;
}

/* Alone begins when the last has left, and lasts until it is over. */
static void
alone_waits_and_keeps_the_door_shut(void **state)
{
	struct rig *rig = *state;
	struct steps s = { .rig = rig };

	world_enter(&rig->vcpu[0]);
	assert_int_equal(pthread_create(&s.thread, NULL, stays_inside_main, &s),
	    0);
	wait_until(&s, 1);
	atomic_store(&s.may, 1);
	world_alone(&rig->jit, &rig->vcpu[0]);
	atomic_store(&rig->alone, 1);
	assert_true(atomic_load(&s.at) >= 2);
	/* All others are asked to leave, and we are not. */
	for (unsigned i = 0; i < VCPUS; i++)
		assert_int_equal(atomic_load(&rig->vcpu[i].cpu->attention),
		    i == 0 ? 0 : X86_ATTENTION_STOP);
	assert_true(rig->vcpu[0].in_world);
	a_moment();
	assert_int_equal(atomic_load(&s.at), 2);
	atomic_store(&rig->alone, 0);
	world_together(&rig->jit, &rig->vcpu[0]);
	wait_until(&s, 3);
	assert_int_equal(pthread_join(s.thread, NULL), 0);
	assert_int_equal(rig->jit.running, 1);
	world_leave(&rig->vcpu[0]);
	assert_int_equal(atomic_load(&rig->failures), 0);
}

static void *
wants_lock_main(void *arg)
{
	struct steps *s = arg;
	struct jit_vcpu *vcpu = &s->rig->vcpu[1];

	world_enter(vcpu);
	step(s, 1);
	code_lock_take(&s->rig->jit);
	check(s->rig, vcpu->in_world);
	check(s->rig, lock_held(&s->rig->jit.code_lock));
	atomic_store(&s->at, 2);
	code_lock_drop(&s->rig->jit);
	world_leave(vcpu);
	return NULL;
}

/* Who waits for code_lock is in nobody's way, and has it inside in the end. */
static void
waiting_for_the_lock_is_outside(void **state)
{
	struct rig *rig = *state;

	for (unsigned i = 0; i < 4; i++) {
		struct steps s = { .rig = rig };
		/* A vCPU, or a device's thread. */
		struct jit_vcpu *self = i % 2 == 0 ? &rig->vcpu[0] : NULL;
		bool drop_alone = i / 2;

		if (self != NULL)
			world_enter(self);
		code_lock_take(&rig->jit);
		assert_int_equal(pthread_create(&s.thread, NULL,
				     wants_lock_main, &s),
		    0);
		wait_until(&s, 1);
		atomic_store(&s.may, 1);
		world_alone(&rig->jit, self);
		if (drop_alone) {
			/* The lock is free, but the door is shut. */
			code_lock_drop(&rig->jit);
			a_moment();
		}
		assert_int_equal(atomic_load(&s.at), 1);
		assert_int_equal(rig->jit.running, 0);
		world_together(&rig->jit, self);
		if (!drop_alone) {
			assert_int_equal(atomic_load(&s.at), 1);
			code_lock_drop(&rig->jit);
		}
		if (self != NULL)
			world_leave(self);
		assert_int_equal(pthread_join(s.thread, NULL), 0);
		assert_int_equal(atomic_load(&s.at), 2);
		assert_int_equal(rig->jit.running, 0);
	}
	assert_int_equal(atomic_load(&rig->failures), 0);
}

static void *
alone_main(void *arg)
{
	struct steps *s = arg;
	struct jit_vcpu *vcpu = &s->rig->vcpu[1];

	world_enter(vcpu);
	step(s, 1);
	be_alone(s->rig, vcpu);
	atomic_store(&s->at, 2);
	world_leave(vcpu);
	return NULL;
}

/* Two vCPUs inside that both become alone: one after the other. */
static void
both_become_alone(void **state)
{
	struct rig *rig = *state;
	struct steps s = { .rig = rig };

	world_enter(&rig->vcpu[0]);
	assert_int_equal(pthread_create(&s.thread, NULL, alone_main, &s), 0);
	wait_until(&s, 1);
	atomic_store(&s.may, 1);
	be_alone(rig, &rig->vcpu[0]);
	world_leave(&rig->vcpu[0]);
	assert_int_equal(pthread_join(s.thread, NULL), 0);
	assert_int_equal(atomic_load(&s.at), 2);
	assert_int_equal(rig->plain, 2);
	assert_int_equal(rig->jit.running, 0);
	assert_int_equal(atomic_load(&rig->failures), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_at_a_time),
		TEST(alone_waits_and_keeps_the_door_shut),
		TEST(waiting_for_the_lock_is_outside),
		TEST(both_become_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
