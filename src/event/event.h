/*
 * The event loop: descriptors, timers, signals, child processes, and wake-ups
 * from other threads, on one epoll descriptor.
 *
 * Threads      One thread runs a loop.  event_*() that add, change, arm or
 *              remove may be called from any thread and from any callback, the
 *              source's own included; loop_stop() also from a signal handler.
 * Callbacks    run on the loop's thread with no lock of the loop held, never
 *              two at once.
 * Fairness     a source that is ready is called once before any other is called
 *              a second time: none starves another.
 * Removal      once event_remove() returns on the loop's thread, the callback
 *              will not run again.  On another thread it also waits for a
 *              callback that is running; so that thread must hold no lock that
 *              the callback takes.  The handle is gone in either case.
 */
#ifndef EVENT_EVENT_H
#define EVENT_EVENT_H

#include <signal.h>
#include <sys/types.h>

#include "base/err.h"

struct loop;
struct event;

struct loop *loop_new(struct err *err); /* NULL on failure */
void loop_free(struct loop *loop);      /* removes what is still there */

/* Run until loop_stop().  A stop that came before the run counts: returns. */
void loop_run(struct loop *loop);
/* Run what is ready, waiting at most timeout_ms (-1: for ever) for the first. */
void loop_run_once(struct loop *loop, int timeout_ms);
void loop_stop(struct loop *loop);

#define EVENT_READ 1u
#define EVENT_WRITE 2u
#define EVENT_HANGUP 4u /* delivered always; never asked for */

/*
 * Watch a descriptor, level-triggered.  The descriptor stays the caller's, who
 * closes it after event_remove(); one watcher a descriptor, -EEXIST for a
 * second.  Regular files count as always ready.  EVENT_HANGUP says that nothing
 * more will come or that writing fails; it does not cease by itself.
 */
typedef void event_fd_fn(void *arg, int fd, unsigned ready);
int event_add_fd(struct loop *loop, int fd, unsigned interest, event_fd_fn *fn,
    void *arg, struct event **event, struct err *err);
void event_set_interest(struct event *event, unsigned interest);

/*
 * A timer on CLOCK_MONOTONIC, disarmed at first.  Arming again replaces what
 * was armed.  A period of 0 fires once; missed periods are delivered as one
 * call with their count.
 */
typedef void event_timer_fn(void *arg, uint64_t expirations);
int event_add_timer(struct loop *loop, event_timer_fn *fn, void *arg,
    struct event **event, struct err *err);
void event_arm(struct event *event, uint64_t delay_ns, uint64_t period_ns);
void event_disarm(struct event *event);

/*
 * A signal, blocked in the calling thread and delivered here.  Add signals
 * before threads are made, so that they inherit the mask.  One watcher a
 * signal in the process; -EBUSY for a second.  event_remove() gives the signal's
 * old mask back to the thread that calls it.
 */
typedef void event_signal_fn(void *arg, const siginfo_t *info);
int event_add_signal(struct loop *loop, int signo, event_signal_fn *fn,
    void *arg, struct event **event, struct err *err);

/*
 * A child of ours, reported once when it ends and reaped by the loop; `status`
 * is as from waitpid(2), or -1 if somebody else reaped it.  The handle must
 * still be removed.  A kernel without pidfds has its SIGCHLD handler taken.
 */
typedef void event_child_fn(void *arg, pid_t pid, int status);
int event_add_child(struct loop *loop, pid_t pid, event_child_fn *fn, void *arg,
    struct event **event, struct err *err);

/*
 * A wake-up: event_wake() from any thread or signal handler makes fn run soon,
 * once for any number of calls before it runs.
 */
typedef void event_wake_fn(void *arg);
int event_add_wake(struct loop *loop, event_wake_fn *fn, void *arg,
    struct event **event, struct err *err);
void event_wake(struct event *event);

void event_remove(struct event *event); /* NULL is fine */

#endif
