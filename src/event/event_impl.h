/*
 * Between the loop (loop.c) and its kinds of sources (event.c).
 *
 * Every source is a descriptor that epoll watches; its kind says what to do
 * when that descriptor is ready.
 */
#ifndef EVENT_EVENT_IMPL_H
#define EVENT_EVENT_IMPL_H

#include <signal.h>
#include <sys/queue.h>

#include "base/lock.h"
#include "event/event.h"

/* What a source has to tell, carried from take() to fire(). */
struct event_news {
	unsigned ready;       /* fd */
	uint64_t expirations; /* timer */
	siginfo_t info;       /* signal */
	int status;           /* child */
};

struct event_kind {
	/*
	 * The descriptor is ready (`events` as from epoll): fetch the news.
	 * False if there are none after all.  The loop's lock is held.
	 */
	bool (*take)(struct event *event, uint32_t events,
	    struct event_news *news);
	/* Call the user's function.  No lock is held. */
	void (*fire)(struct event *event, const struct event_news *news);
	/* Optional: undo what the descriptor's closing does not. */
	void (*remove)(struct event *event);
};

struct event {
	struct loop *loop; /* borrowed: outlives the event */
	const struct event_kind *kind;
	int watched; /* the descriptor epoll knows */
	bool owned;  /* `watched` is ours to close */
	union {
		event_fd_fn *fd;
		event_timer_fn *timer;
		event_signal_fn *signal;
		event_child_fn *child;
		event_wake_fn *wake;
	} fn;
	void *arg;
	int fd;           /* fd: the caller's descriptor */
	int signo;        /* signal */
	bool was_blocked; /* signal: before we came */
	pid_t pid;        /* child */
	/* Guarded by the loop's lock. */
	unsigned interest; /* fd */
	bool in_epoll;
	bool removed; /* on the list of the dead, callback must not run */
	TAILQ_ENTRY(event) link;
};

/* A zeroed event with nothing to watch yet, not on the loop's list. */
struct event *event_new(struct loop *loop, const struct event_kind *kind,
    void *arg);
/* Undo event_new() for an event that never was enrolled; closes `watched`. */
void event_discard(struct event *event);
/*
 * Have epoll watch it and put it on the loop's list: 0 or a negative errno.
 * The handle is written before the first callback can run.
 */
int event_enroll(struct event *event, uint32_t events, struct event **added);
/* Stop watching; the event stays.  The loop's lock is held. */
void event_unwatch_locked(struct event *event);
/* Change what epoll watches for.  The loop's lock is held. */
void event_rewatch_locked(struct event *event, uint32_t events);

struct lock *event_lock(struct event *event);

#endif
