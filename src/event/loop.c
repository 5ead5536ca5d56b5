/*
 * The loop: one epoll descriptor, its batches of ready sources, and removal.
 *
 * Batches      epoll_wait() hands out up to BATCH sources, each of which is
 *              called at most once before epoll is asked again.  The kernel
 *              puts a level-triggered source that was handed out behind the
 *              others, so a descriptor that is always ready starves nobody.
 * Removal      A source that is removed may still be in the batch of the loop's
 *              thread.  It is closed at once, but its memory stays on the list
 *              of the dead until that batch is over.  While a batch is awaited
 *              or run, only the loop's thread frees.
 * Locking      loop->lock, a leaf, guards the lists, `running` and what
 *              event_impl.h says.  No callback runs under it.
 * Invariants   1. `running` is set exactly while a callback runs, and only the
 *                 loop's thread sets it.
 *              2. A source with `removed` set is on `dead` and unknown to
 *                 epoll; its callback never starts again.
 *              3. While `thread_valid` is false, `dead` is empty.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "event/event_impl.h"

#define BATCH 64

TAILQ_HEAD(event_list, event);

struct loop {
	int epoll;
	int kick; /* eventfd: makes epoll_wait() return */
	atomic_bool stop;
	struct lock lock;
	pthread_cond_t done; /* `running` has changed */
	struct event_list events;
	struct event_list dead;
	struct event *running;
	uint64_t runs;    /* callbacks begun */
	pthread_t thread; /* in loop_run_once() now, if thread_valid */
	bool thread_valid;
};

struct loop *
loop_new(struct err *err)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));
	struct epoll_event ev = { .events = EPOLLIN };

	lock_init(&loop->lock);
	pthread_cond_init(&loop->done, NULL);
	TAILQ_INIT(&loop->events);
	TAILQ_INIT(&loop->dead);
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop->epoll < 0 || loop->kick < 0 ||
	    epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->kick, &ev) < 0) {
		(void)err_set_errno(err, -errno, "event loop");
		loop_free(loop);
		return NULL;
	}
	return loop;
}

static void
free_dead_locked(struct loop *loop)
{
	struct event *event;

	assert(lock_held(&loop->lock));
	while ((event = TAILQ_FIRST(&loop->dead)) != NULL) {
		TAILQ_REMOVE(&loop->dead, event, link);
		free(event);
	}
}

void
loop_free(struct loop *loop)
{
	struct event *event;

	if (loop == NULL)
		return;
	assert(!loop->thread_valid);
	while ((event = TAILQ_FIRST(&loop->events)) != NULL)
		event_remove(event);
	if (loop->kick >= 0)
		close(loop->kick);
	if (loop->epoll >= 0)
		close(loop->epoll);
	pthread_cond_destroy(&loop->done);
	lock_fini(&loop->lock);
	free(loop);
}

/* Async-signal-safe; keeps errno, for the sake of handlers. */
static void
kick(struct loop *loop)
{
	int saved = errno;

	/* A counter that is full already wakes the loop as well. */
	(void)!write(loop->kick, &(uint64_t) { 1 }, sizeof(uint64_t));
	errno = saved;
}

void
loop_stop(struct loop *loop)
{
	/* Read by the loop's thread, which our kick will wake. */
	atomic_store_explicit(&loop->stop, true, memory_order_release);
	kick(loop);
}

/* Run one source of a batch. */
static void
dispatch(struct loop *loop, struct event *event, uint32_t events)
{
	struct event_news news;
	bool any;

	lock_take(&loop->lock);
	any = !event->removed && event->kind->take(event, events, &news);
	if (any) {
		loop->running = event;
		loop->runs++;
	}
	lock_drop(&loop->lock);
	if (!any)
		return;

	event->kind->fire(event, &news);

	lock_take(&loop->lock);
	loop->running = NULL;
	pthread_cond_broadcast(&loop->done);
	lock_drop(&loop->lock);
}

/* One batch; with `stoppable`, not further than a loop_stop(). */
static void
run_batch(struct loop *loop, int timeout_ms, bool stoppable)
{
	struct epoll_event ready[BATCH];
	int n;

	lock_take(&loop->lock);
	assert(!loop->thread_valid); /* no callback runs the loop */
	loop->thread = pthread_self();
	loop->thread_valid = true;
	lock_drop(&loop->lock);

	/* Interrupted by a handler (n < 0): as if nothing was ready. */
	n = epoll_wait(loop->epoll, ready, BATCH, timeout_ms);
	for (int i = 0; i < n; i++) {
		struct event *event = ready[i].data.ptr;

		if (event == NULL) {
			uint64_t count;

			(void)!read(loop->kick, &count, sizeof(count));
			continue;
		}
		/* What is left out stays ready, for the next run. */
		if (stoppable &&
		    atomic_load_explicit(&loop->stop, memory_order_acquire))
			break;
		dispatch(loop, event, ready[i].events);
	}

	lock_take(&loop->lock);
	loop->thread_valid = false;
	free_dead_locked(loop);
	lock_drop(&loop->lock);
}

void
loop_run_once(struct loop *loop, int timeout_ms)
{
	run_batch(loop, timeout_ms, false);
}

void
loop_run(struct loop *loop)
{
	/* Pairs with the store in loop_stop(). */
	for (;;) {
		if (atomic_exchange_explicit(&loop->stop, false,
			memory_order_acquire))
			break;
		run_batch(loop, -1, true);
	}
}

struct event *
event_new(struct loop *loop, const struct event_kind *kind, void *arg)
{
	struct event *event = xcalloc(1, sizeof(*event));

	event->loop = loop;
	event->kind = kind;
	event->arg = arg;
	event->watched = -1;
	return event;
}

void
event_discard(struct event *event)
{
	if (event->owned && event->watched >= 0)
		close(event->watched);
	free(event);
}

int
event_enroll(struct event *event, uint32_t events, struct event **added)
{
	struct loop *loop = event->loop;
	struct epoll_event ev = { .events = events, .data.ptr = event };
	int rc = 0;

	/*
	 * Under the lock, or it could be called before it is on the list and
	 * before its callback can find the handle.
	 */
	lock_take(&loop->lock);
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, event->watched, &ev) < 0) {
		rc = -errno;
	} else {
		event->in_epoll = true;
		TAILQ_INSERT_TAIL(&loop->events, event, link);
		*added = event;
	}
	lock_drop(&loop->lock);
	return rc;
}

void
event_unwatch_locked(struct event *event)
{
	assert(lock_held(&event->loop->lock));
	if (event->in_epoll)
		(void)epoll_ctl(event->loop->epoll, EPOLL_CTL_DEL,
		    event->watched, NULL); /* fails if the caller closed it */
	event->in_epoll = false;
}

void
event_rewatch_locked(struct event *event, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = event };

	assert(lock_held(&event->loop->lock));
	(void)epoll_ctl(event->loop->epoll, EPOLL_CTL_MOD, event->watched,
	    &ev); /* cannot fail for a descriptor that is there */
}

struct lock *
event_lock(struct event *event)
{
	return &event->loop->lock;
}

void
event_remove(struct event *event)
{
	struct loop *loop;

	if (event == NULL)
		return;
	loop = event->loop;
	lock_take(&loop->lock);
	assert(!event->removed);
	event_unwatch_locked(event);
	event->removed = true;
	TAILQ_REMOVE(&loop->events, event, link);
	TAILQ_INSERT_TAIL(&loop->dead, event, link);
	if (event->kind->remove != NULL)
		event->kind->remove(event);
	if (event->owned)
		close(event->watched);
	if (!loop->thread_valid) {
		free_dead_locked(loop);
	} else if (!pthread_equal(loop->thread, pthread_self())) {
		/*
		 * Awake or asleep, the loop's thread has the dead to bury, or
		 * a storm of removals would pile them up.  Then the address
		 * may be another event's, so wait for this very run to end.
		 */
		bool busy = loop->running == event;
		uint64_t run = loop->runs;

		kick(loop);
		while (busy && loop->running != NULL && loop->runs == run)
			lock_wait(&loop->lock, &loop->done);
	}
	lock_drop(&loop->lock);
}
