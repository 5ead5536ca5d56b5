/*
 * A mutex that knows its holder, so that `_locked` functions can assert it.
 *
 * Locks nest one way: vm, device, back end, irq; the clock's is a leaf below
 * them all.  Nothing blocks under one.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/util.h"

struct lock {
	pthread_mutex_t mutex;
	_Atomic(pthread_t) holder; /* 0 when free; read by lock_held() */
};

static inline void
lock_init(struct lock *lock)
{
	pthread_mutex_init(&lock->mutex, NULL);
	atomic_init(&lock->holder, 0);
}

static inline void
lock_fini(struct lock *lock)
{
	pthread_mutex_destroy(&lock->mutex);
}

static inline void
lock_take(struct lock *lock)
{
	pthread_mutex_lock(&lock->mutex);
	atomic_store_explicit(&lock->holder, pthread_self(),
	    memory_order_relaxed);
}

/* Take it if it is free: whether it was. */
static inline bool
lock_try(struct lock *lock)
{
	if (pthread_mutex_trylock(&lock->mutex) != 0)
		return false;
	atomic_store_explicit(&lock->holder, pthread_self(),
	    memory_order_relaxed);
	return true;
}

static inline void
lock_drop(struct lock *lock)
{
	atomic_store_explicit(&lock->holder, 0, memory_order_relaxed);
	pthread_mutex_unlock(&lock->mutex);
}

/* Does the calling thread hold it? */
static inline bool
lock_held(struct lock *lock)
{
	return pthread_equal(atomic_load_explicit(&lock->holder,
				 memory_order_relaxed),
	    pthread_self());
}

/* Wait on a condition; the lock is dropped meanwhile and held on return. */
static inline void
lock_wait(struct lock *lock, pthread_cond_t *cond)
{
	atomic_store_explicit(&lock->holder, 0, memory_order_relaxed);
	pthread_cond_wait(cond, &lock->mutex);
	atomic_store_explicit(&lock->holder, pthread_self(),
	    memory_order_relaxed);
}

#endif
