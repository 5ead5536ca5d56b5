/*
 * Threads that count together: mutexes, conditions, barriers, atomics, and
 * thread-local memory.  What is said does not depend on who is faster.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define THREADS 4
#define ROUNDS 20000
#define ITEMS 5000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static _Atomic uint64_t sum;
static _Atomic uint8_t small;
static uint64_t guarded;
static unsigned queue[8], queue_head, queue_tail;
static _Thread_local uint64_t mine;

static void *
count(void *arg)
{
	uint64_t id = (uintptr_t)arg;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t old = atomic_load(&sum);

		while (!atomic_compare_exchange_weak(&sum, &old, old + id))
			continue;
		atomic_fetch_add(&small, 3);
		mine += i ^ id;
		pthread_mutex_lock(&lock);
		guarded += i;
		pthread_mutex_unlock(&lock);
		if (i % 1000 == 0)
			pthread_barrier_wait(&barrier);
	}
	return (void *)(uintptr_t)mine;
}

static void *
produce(void *arg)
{
	for (unsigned i = 0; i < ITEMS; i++) {
		pthread_mutex_lock(&lock);
		while (queue_head - queue_tail == 8)
			pthread_cond_wait(&changed, &lock);
		queue[queue_head++ % 8] = i;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return arg;
}

int
main(void)
{
	pthread_t threads[THREADS];
	uint64_t got = 0;
	void *result;

	pthread_barrier_init(&barrier, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, count, (void *)(i + 1));
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &result);
		printf("thread %u: %ju\n", i, (uintmax_t)(uintptr_t)result);
	}
	printf("%ju %u %ju\n", (uintmax_t)sum, small, (uintmax_t)guarded);

	pthread_create(&threads[0], NULL, produce, NULL);
	for (unsigned i = 0; i < ITEMS; i++) {
		pthread_mutex_lock(&lock);
		while (queue_head == queue_tail)
			pthread_cond_wait(&changed, &lock);
		got = got * 31 + queue[queue_tail++ % 8];
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	pthread_join(threads[0], NULL);
	printf("%ju\n", (uintmax_t)got);
	return 0;
}
