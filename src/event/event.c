/*
 * The kinds of sources: what makes each ready and what it then tells.
 *
 *      fd       the caller's descriptor; one that epoll cannot watch because it
 *               never blocks (a regular file, /dev/null) is stood in for by an
 *               eventfd that is always readable and writable
 *      timer    a timerfd; arming and disarming forget expirations not yet read
 *      signal   a signalfd over one blocked signal
 *      child    a pidfd; on a kernel or under a filter without them, a copy of
 *               one eventfd that a SIGCHLD handler writes to, edge-triggered,
 *               so that each child looks for its own end
 *      wake     an eventfd
 *
 * Locking      take() runs with the loop's lock held, so a source that was
 *              removed, or whose interest was changed, says nothing stale.
 * Globals      signals belong to the process, not to a loop: which of them are
 *              watched, and the descriptor that the SIGCHLD handler writes to.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "event/event_impl.h"

/* Put a complete event to work; on failure it is gone and err is written. */
static int
finish(struct event *event, uint32_t events, const char *what,
    struct event **added, struct err *err)
{
	int rc =
	    event->watched < 0 ? -errno : event_enroll(event, events, added);

	if (rc == 0)
		return 0;
	event_discard(event);
	return err_set_errno(err, rc, "cannot watch %s", what);
}

/* The counter of an eventfd or a timerfd, which starts again at 0. */
static bool
take_count(struct event *event, uint64_t *count)
{
	return read(event->watched, count, sizeof(*count)) == sizeof(*count);
}

/* ---- descriptors -------------------------------------------------------- */

static uint32_t
fd_epoll_events(unsigned interest)
{
	return (interest & EVENT_READ ? EPOLLIN : 0) |
	    (interest & EVENT_WRITE ? EPOLLOUT : 0);
}

static bool
fd_take(struct event *event, uint32_t events, struct event_news *news)
{
	unsigned ready = 0;

	if (events & EPOLLIN)
		ready |= EVENT_READ;
	if (events & EPOLLOUT)
		ready |= EVENT_WRITE;
	if (events & (EPOLLHUP | EPOLLERR))
		ready |= EVENT_HANGUP;
	/* An earlier callback of this batch may have lost interest. */
	news->ready = ready & (event->interest | EVENT_HANGUP);
	return news->ready != 0;
}

static void
fd_fire(struct event *event, const struct event_news *news)
{
	event->fn.fd(event->arg, event->fd, news->ready);
}

static const struct event_kind fd_kind = { .take = fd_take, .fire = fd_fire };

int
event_add_fd(struct loop *loop, int fd, unsigned interest, event_fd_fn *fn,
    void *arg, struct event **added, struct err *err)
{
	struct event *event = event_new(loop, &fd_kind, arg);
	uint32_t events = fd_epoll_events(interest);
	int rc;

	event->fn.fd = fn;
	event->fd = fd;
	event->interest = interest;
	event->watched = fd;
	rc = event_enroll(event, events, added);
	if (rc == -EPERM) {
		event->watched = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
		event->owned = true;
		return finish(event, events, "descriptor", added, err);
	}
	if (rc < 0) {
		event_discard(event);
		return err_set_errno(err, rc, "cannot watch descriptor %d", fd);
	}
	return 0;
}

void
event_set_interest(struct event *event, unsigned interest)
{
	assert(event->kind == &fd_kind);
	lock_take(event_lock(event));
	if (event->interest != interest) {
		event->interest = interest;
		event_rewatch_locked(event, fd_epoll_events(interest));
	}
	lock_drop(event_lock(event));
}

/* ---- timers ------------------------------------------------------------- */

static bool
timer_take(struct event *event, uint32_t events, struct event_news *news)
{
	/* Fails if it was armed anew or disarmed since epoll looked. */
	return take_count(event, &news->expirations);
}

static void
timer_fire(struct event *event, const struct event_news *news)
{
	event->fn.timer(event->arg, news->expirations);
}

static const struct event_kind timer_kind = {
	.take = timer_take,
	.fire = timer_fire,
};

int
event_add_timer(struct loop *loop, event_timer_fn *fn, void *arg,
    struct event **added, struct err *err)
{
	struct event *event = event_new(loop, &timer_kind, arg);

	event->fn.timer = fn;
	event->owned = true;
	event->watched =
	    timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return finish(event, EPOLLIN, "a timer", added, err);
}

static struct timespec
ns_to_timespec(uint64_t ns)
{
	return (struct timespec) {
		.tv_sec = (time_t)(ns / NS_PER_SEC),
		.tv_nsec = (long)(ns % NS_PER_SEC),
	};
}

void
event_arm(struct event *event, uint64_t delay_ns, uint64_t period_ns)
{
	/* A delay of 0 would disarm. */
	struct itimerspec spec = {
		.it_value = ns_to_timespec(MAX(delay_ns, 1ULL)),
		.it_interval = ns_to_timespec(period_ns),
	};

	assert(event->kind == &timer_kind);
	/* Every such value is valid. */
	(void)timerfd_settime(event->watched, 0, &spec, NULL);
}

void
event_disarm(struct event *event)
{
	assert(event->kind == &timer_kind);
	(void)timerfd_settime(event->watched, 0, &(struct itimerspec) { 0 },
	    NULL);
}

/* ---- signals ------------------------------------------------------------ */

static atomic_bool signal_watched[NSIG];

static bool
signal_take(struct event *event, uint32_t events, struct event_news *news)
{
	struct signalfd_siginfo si;

	if (read(event->watched, &si, sizeof(si)) != sizeof(si))
		return false;
	memset(&news->info, 0, sizeof(news->info));
	news->info.si_signo = (int)si.ssi_signo;
	news->info.si_errno = si.ssi_errno;
	news->info.si_code = si.ssi_code;
	news->info.si_pid = (pid_t)si.ssi_pid;
	news->info.si_uid = si.ssi_uid;
	if (si.ssi_signo == SIGCHLD)
		news->info.si_status = si.ssi_status;
	else
		news->info.si_ptr = (void *)(uintptr_t)si.ssi_ptr;
	return true;
}

static void
signal_fire(struct event *event, const struct event_news *news)
{
	event->fn.signal(event->arg, &news->info);
}

/* Unless it was blocked before, one still pending now takes its old effect. */
static void
signal_remove(struct event *event)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, event->signo);
	if (!event->was_blocked)
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	atomic_store_explicit(&signal_watched[event->signo], false,
	    memory_order_release);
}

static const struct event_kind signal_kind = {
	.take = signal_take,
	.fire = signal_fire,
	.remove = signal_remove,
};

int
event_add_signal(struct loop *loop, int signo, event_signal_fn *fn, void *arg,
    struct event **added, struct err *err)
{
	struct event *event;
	sigset_t set, before;
	int rc;

	if (signo <= 0 || signo >= NSIG || signo == SIGKILL || signo == SIGSTOP)
		return err_set(err, -EINVAL, "cannot watch signal %d", signo);
	if (atomic_exchange_explicit(&signal_watched[signo], true,
		memory_order_acquire))
		return err_set(err, -EBUSY, "signal %d is watched already",
		    signo);

	sigemptyset(&set);
	sigaddset(&set, signo);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	event = event_new(loop, &signal_kind, arg);
	event->fn.signal = fn;
	event->signo = signo;
	event->was_blocked = sigismember(&before, signo) == 1;
	event->owned = true;
	event->watched = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	rc = finish(event, EPOLLIN, "a signal", added, err);
	if (rc < 0) {
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		atomic_store_explicit(&signal_watched[signo], false,
		    memory_order_release);
	}
	return rc;
}

/* ---- children ----------------------------------------------------------- */

/* Where there is no pidfd: written by every SIGCHLD, never read, never closed. */
static atomic_int child_bell = -1;

static void
child_handler(int signo)
{
	int saved = errno;

	(void)!write(atomic_load_explicit(&child_bell, memory_order_relaxed),
	    &(uint64_t) { 1 }, sizeof(uint64_t));
	errno = saved;
}

/* A copy of the bell, which is made when first needed. */
static int
child_bell_copy(void)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;
	struct sigaction sa = {
		.sa_handler = child_handler,
		.sa_flags = SA_RESTART | SA_NOCLDSTOP,
	};
	int bell;

	pthread_mutex_lock(&once);
	bell = atomic_load_explicit(&child_bell, memory_order_relaxed);
	if (bell < 0) {
		/* Rung once from the start: a child may have ended before. */
		bell = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
		atomic_store_explicit(&child_bell, bell, memory_order_relaxed);
		if (bell >= 0)
			sigaction(SIGCHLD, &sa, NULL);
	}
	pthread_mutex_unlock(&once);
	return bell < 0 ? -1 : fcntl(bell, F_DUPFD_CLOEXEC, 0);
}

static bool
child_take(struct event *event, uint32_t events, struct event_news *news)
{
	pid_t pid;

	do
		pid = waitpid(event->pid, &news->status, WNOHANG);
	while (pid < 0 && errno == EINTR);
	if (pid == 0)
		return false;
	if (pid < 0)
		news->status = -1;
	event_unwatch_locked(event);
	return true;
}

static void
child_fire(struct event *event, const struct event_news *news)
{
	event->fn.child(event->arg, event->pid, news->status);
}

static const struct event_kind child_kind = {
	.take = child_take,
	.fire = child_fire,
};

int
event_add_child(struct loop *loop, pid_t pid, event_child_fn *fn, void *arg,
    struct event **added, struct err *err)
{
	struct event *event;
	siginfo_t info;
	uint32_t events = EPOLLIN;

	if (pid <= 0 ||
	    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
		return err_set(err, -ECHILD, "process %d is no child of ours",
		    (int)pid);
	event = event_new(loop, &child_kind, arg);
	event->fn.child = fn;
	event->pid = pid;
	event->owned = true;
	event->watched = pidfd_open(pid, 0);
	if (event->watched < 0 && (errno == ENOSYS || errno == EPERM)) {
		event->watched = child_bell_copy();
		events |= EPOLLET;
	}
	return finish(event, events, "a child process", added, err);
}

/* ---- wake-ups ----------------------------------------------------------- */

static bool
wake_take(struct event *event, uint32_t events, struct event_news *news)
{
	uint64_t calls;

	return take_count(event, &calls);
}

static void
wake_fire(struct event *event, const struct event_news *news)
{
	event->fn.wake(event->arg);
}

static const struct event_kind wake_kind = {
	.take = wake_take,
	.fire = wake_fire,
};

int
event_add_wake(struct loop *loop, event_wake_fn *fn, void *arg,
    struct event **added, struct err *err)
{
	struct event *event = event_new(loop, &wake_kind, arg);

	event->fn.wake = fn;
	event->owned = true;
	event->watched = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return finish(event, EPOLLIN, "a wake-up", added, err);
}

void
event_wake(struct event *event)
{
	int saved = errno;

	assert(event->kind == &wake_kind);
	/* Fails only when the counter is full, and then it is ready. */
	(void)!write(event->watched, &(uint64_t) { 1 }, sizeof(uint64_t));
	errno = saved;
}
