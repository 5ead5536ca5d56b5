/*
 * The event loop, from callbacks, from other threads and in storms of both.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "event/event.h"

#define MS 1000000ULL
#define HOUR (3600 * NS_PER_SEC)

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* Being late is what some tests are about. */
static void
be_busy_until(uint64_t when_ns)
{
	while (now_ns() < when_ns)
		sched_yield();
}

static unsigned
open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* One source under test and what its callback saw. */
struct probe {
	struct loop *loop;
	struct event *event;
	int fd[2]; /* a pipe, where it has one */
	unsigned calls;
	unsigned ready;
	uint64_t expirations;
	siginfo_t info;
	int status;
	/* What its callback does, if anything. */
	void (*act)(struct probe *probe);
	struct probe *other;
};

static int
setup(void **state)
{
	struct err err;

	*state = loop_new(&err);
	return *state == NULL;
}

static int
teardown(void **state)
{
	loop_free(*state);
	return 0;
}

static void
called(struct probe *p)
{
	p->calls++;
	if (p->act != NULL)
		p->act(p);
}

static void
on_fd(void *arg, int fd, unsigned ready)
{
	struct probe *p = arg;

	p->ready = ready;
	called(p);
}

static void
on_timer(void *arg, uint64_t expirations)
{
	struct probe *p = arg;

	p->expirations += expirations;
	called(p);
}

static void
on_signal(void *arg, const siginfo_t *info)
{
	struct probe *p = arg;

	p->info = *info;
	called(p);
}

static void
on_child(void *arg, pid_t pid, int status)
{
	struct probe *p = arg;

	p->status = status;
	called(p);
}

static void
on_wake(void *arg)
{
	called(arg);
}

static void
add_fd(struct loop *loop, struct probe *p, int fd, unsigned interest)
{
	struct err err;

	p->loop = loop;
	assert_int_equal(event_add_fd(loop, fd, interest, on_fd, p, &p->event,
			     &err),
	    0);
}

/* A pipe whose reading end is watched; with a byte in it if `full`. */
static void
add_pipe(struct loop *loop, struct probe *p, bool full)
{
	assert_int_equal(pipe2(p->fd, O_CLOEXEC | O_NONBLOCK), 0);
	if (full)
		assert_int_equal(write(p->fd[1], "x", 1), 1);
	add_fd(loop, p, p->fd[0], EVENT_READ);
}

static void
close_pipe(struct probe *p)
{
	event_remove(p->event);
	close(p->fd[0]);
	close(p->fd[1]);
}

static void
add_timer(struct loop *loop, struct probe *p)
{
	struct err err;

	p->loop = loop;
	assert_int_equal(event_add_timer(loop, on_timer, p, &p->event, &err),
	    0);
}

static void
add_wake(struct loop *loop, struct probe *p)
{
	struct err err;

	p->loop = loop;
	assert_int_equal(event_add_wake(loop, on_wake, p, &p->event, &err), 0);
}

static void
add_signal(struct loop *loop, struct probe *p, int signo)
{
	struct err err;

	p->loop = loop;
	assert_int_equal(event_add_signal(loop, signo, on_signal, p, &p->event,
			     &err),
	    0);
}

static void
add_child(struct loop *loop, struct probe *p, pid_t pid)
{
	struct err err;

	p->loop = loop;
	assert_int_equal(event_add_child(loop, pid, on_child, p, &p->event,
			     &err),
	    0);
}

static void
run_until(struct loop *loop, const struct probe *p, unsigned calls)
{
	while (p->calls < calls)
		loop_run_once(loop, -1);
}

static void
act_remove_self(struct probe *p)
{
	event_remove(p->event);
	p->event = NULL;
}

static void
act_remove_other(struct probe *p)
{
	event_remove(p->other->event);
	p->other->event = NULL;
}

static void
act_stop(struct probe *p)
{
	loop_stop(p->loop);
}

/* ---- descriptors -------------------------------------------------------- */

static void
descriptors_are_level_triggered(void **state)
{
	struct probe p = { 0 };
	char c;

	add_pipe(*state, &p, false);
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 0);
	assert_int_equal(write(p.fd[1], "x", 1), 1);
	loop_run_once(*state, -1);
	loop_run_once(*state, -1);
	assert_int_equal(p.calls, 2);
	assert_int_equal(p.ready, EVENT_READ);
	assert_int_equal(read(p.fd[0], &c, 1), 1);
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 2);
	close_pipe(&p);
}

static void
interest_can_change(void **state)
{
	struct probe p = { 0 };
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	add_fd(*state, &p, sv[0], 0);
	assert_int_equal(write(sv[1], "x", 1), 1);
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 0);
	event_set_interest(p.event, EVENT_WRITE);
	loop_run_once(*state, -1);
	assert_int_equal(p.ready, EVENT_WRITE);
	event_set_interest(p.event, EVENT_READ | EVENT_WRITE);
	loop_run_once(*state, -1);
	assert_int_equal(p.ready, EVENT_READ | EVENT_WRITE);
	event_set_interest(p.event, 0);
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 2);
	event_remove(p.event);
	close(sv[0]);
	close(sv[1]);
}

static void
hangup_needs_no_interest(void **state)
{
	struct probe p = { 0 }, w = { 0 };

	assert_int_equal(pipe2(p.fd, O_CLOEXEC), 0);
	add_fd(*state, &p, p.fd[0], 0);
	close(p.fd[1]);
	loop_run_once(*state, -1);
	assert_int_equal(p.ready, EVENT_HANGUP);
	event_remove(p.event);
	close(p.fd[0]);

	/* And a writer hears that its reader has gone. */
	assert_int_equal(pipe2(w.fd, O_CLOEXEC), 0);
	add_fd(*state, &w, w.fd[1], EVENT_WRITE);
	close(w.fd[0]);
	loop_run_once(*state, -1);
	assert_true(w.ready & EVENT_HANGUP);
	event_remove(w.event);
	close(w.fd[1]);
}

static void
files_are_always_ready(void **state)
{
	struct probe file = { 0 }, null = { 0 };
	char name[] = "/tmp/event_test.XXXXXX";
	int fd = mkstemp(name), null_fd = open("/dev/null", O_RDWR);

	unlink(name);
	add_fd(*state, &file, fd, EVENT_READ);
	add_fd(*state, &null, null_fd, EVENT_READ | EVENT_WRITE);
	for (unsigned i = 1; i <= 3; i++) {
		loop_run_once(*state, -1);
		assert_int_equal(file.calls, i);
		assert_int_equal(file.ready, EVENT_READ);
		assert_int_equal(null.calls, i);
		assert_int_equal(null.ready, EVENT_READ | EVENT_WRITE);
	}
	event_set_interest(file.event, 0);
	event_set_interest(null.event, 0);
	loop_run_once(*state, 0);
	assert_int_equal(file.calls + null.calls, 6);
	event_remove(file.event);
	event_remove(null.event);
	close(fd);
	close(null_fd);
}

static void
bad_descriptors_are_errors(void **state)
{
	struct probe p = { 0 };
	struct event *event = NULL;
	struct err err;
	unsigned fds = open_fds();

	assert_int_equal(event_add_fd(*state, -1, EVENT_READ, on_fd, &p, &event,
			     &err),
	    -EBADF);
	assert_null(event);
	add_pipe(*state, &p, false);
	assert_int_equal(event_add_fd(*state, p.fd[0], EVENT_READ, on_fd, &p,
			     &event, &err),
	    -EEXIST);
	assert_null(event);
	assert_non_null(strstr(err.msg, "cannot watch descriptor"));
	close_pipe(&p);
	assert_int_equal(open_fds(), fds);
	event_remove(NULL);
}

/* ---- callbacks that change the loop ------------------------------------- */

static void
a_source_may_remove_itself(void **state)
{
	struct probe fd = { .act = act_remove_self };
	struct probe timer = { .act = act_remove_self };
	struct probe wake = { .act = act_remove_self };
	struct probe sig = { .act = act_remove_self };
	struct probe child = { .act = act_remove_self };
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	add_pipe(*state, &fd, true);
	add_timer(*state, &timer);
	event_arm(timer.event, 0, 1000);
	add_wake(*state, &wake);
	event_wake(wake.event);
	add_signal(*state, &sig, SIGUSR1);
	kill(getpid(), SIGUSR1);
	add_child(*state, &child, pid);
	run_until(*state, &fd, 1);
	run_until(*state, &timer, 1);
	run_until(*state, &wake, 1);
	run_until(*state, &sig, 1);
	run_until(*state, &child, 1);
	loop_run_once(*state, 0);
	assert_int_equal(fd.calls, 1);
	assert_int_equal(timer.calls, 1);
	close_pipe(&fd);
}

/* Of sources ready in one batch, whichever runs first removes the others. */
static void
removal_reaches_into_the_batch(void **state)
{
	struct probe a = { .act = act_remove_other };
	struct probe b = { .act = act_remove_other, .other = &a };
	struct probe t = { .act = act_remove_other };
	struct probe w = { .act = act_remove_other, .other = &t };

	a.other = &b;
	add_pipe(*state, &a, true);
	add_pipe(*state, &b, true);
	loop_run_once(*state, -1);
	assert_int_equal(a.calls + b.calls, 1);
	close_pipe(&a);
	close_pipe(&b);

	t.other = &w;
	add_timer(*state, &t);
	add_wake(*state, &w);
	event_arm(t.event, 0, 0);
	event_wake(w.event);
	be_busy_until(now_ns() + 5 * MS);
	loop_run_once(*state, -1);
	assert_int_equal(t.calls + w.calls, 1);
	event_remove(t.event);
	event_remove(w.event);
}

static void
act_silence_other(struct probe *p)
{
	event_set_interest(p->other->event, 0);
}

static void
act_disarm_other(struct probe *p)
{
	event_disarm(p->other->event);
}

static void
changes_reach_into_the_batch(void **state)
{
	struct probe a = { .act = act_silence_other };
	struct probe b = { .act = act_silence_other, .other = &a };
	struct probe s = { .act = act_disarm_other };
	struct probe t = { .act = act_disarm_other, .other = &s };

	a.other = &b;
	add_pipe(*state, &a, true);
	add_pipe(*state, &b, true);
	loop_run_once(*state, -1);
	assert_int_equal(a.calls + b.calls, 1);
	close_pipe(&a);
	close_pipe(&b);

	s.other = &t;
	add_timer(*state, &s);
	add_timer(*state, &t);
	event_arm(s.event, 0, 0);
	event_arm(t.event, 0, 0);
	be_busy_until(now_ns() + 5 * MS);
	loop_run_once(*state, -1);
	assert_int_equal(s.calls + t.calls, 1);
	event_remove(s.event);
	event_remove(t.event);
}

static struct probe reborn;

/* Close our descriptor and watch another pipe under the same number. */
static void
act_reuse_fd(struct probe *p)
{
	int old = p->fd[0], end[2];

	act_remove_self(p);
	close(p->fd[0]);
	close(p->fd[1]);
	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	if (end[0] != old) {
		assert_int_equal(dup2(end[0], old), old);
		close(end[0]);
	}
	p->fd[0] = reborn.fd[0] = old;
	p->fd[1] = reborn.fd[1] = end[1];
	add_fd(p->loop, &reborn, old, EVENT_READ);
}

static void
a_reused_number_is_a_new_source(void **state)
{
	struct probe a = { .act = act_reuse_fd };
	struct probe b = { 0 };

	reborn = (struct probe) { 0 };
	add_pipe(*state, &a, true);
	add_pipe(*state, &b, true);
	for (unsigned i = 0; i < 3; i++)
		loop_run_once(*state, 0);
	assert_int_equal(a.calls, 1);
	assert_int_equal(b.calls, 3);
	assert_int_equal(reborn.calls, 0);
	assert_int_equal(write(reborn.fd[1], "x", 1), 1);
	loop_run_once(*state, 0);
	assert_int_equal(a.calls, 1);
	assert_int_equal(reborn.calls, 1);
	close_pipe(&reborn);
	close_pipe(&b);
}

/* Replace the other, which is ready in this batch, under its own number. */
static void
act_reuse_other_fd(struct probe *p)
{
	struct probe *other = p->other;

	if (other->event != NULL && reborn.event == NULL)
		act_reuse_fd(other);
}

static void
a_number_reused_in_the_batch_is_not_called(void **state)
{
	struct probe a = { .act = act_reuse_other_fd };
	struct probe b = { .act = act_reuse_other_fd, .other = &a };

	reborn = (struct probe) { 0 };
	a.other = &b;
	add_pipe(*state, &a, true);
	add_pipe(*state, &b, true);
	loop_run_once(*state, -1);
	assert_int_equal(a.calls + b.calls, 1);
	assert_int_equal(reborn.calls, 0);
	if (a.event != NULL)
		close_pipe(&a);
	if (b.event != NULL)
		close_pipe(&b);
	close_pipe(&reborn);
}

static void
act_add_many(struct probe *p)
{
	struct probe *more = p->other;

	act_remove_self(p);
	for (unsigned i = 0; i < 100; i++)
		add_pipe(p->loop, &more[i], true);
}

static void
a_callback_may_add(void **state)
{
	struct probe more[100] = { 0 };
	struct probe p = { .act = act_add_many, .other = more };

	add_wake(*state, &p);
	event_wake(p.event);
	loop_run_once(*state, -1);
	/* More than a batch: each gets its turn within the next few. */
	for (unsigned i = 0; i < 4; i++)
		loop_run_once(*state, 0);
	for (unsigned i = 0; i < 100; i++) {
		assert_in_range(more[i].calls, 1, 4);
		close_pipe(&more[i]);
	}
}

/* One of each other kind, made and set off inside a callback. */
static void
act_add_kinds(struct probe *p)
{
	struct probe *more = p->other;
	pid_t pid = fork();

	if (pid == 0)
		_exit(5);
	add_timer(p->loop, &more[0]);
	event_arm(more[0].event, 1000, 0);
	add_wake(p->loop, &more[1]);
	event_wake(more[1].event);
	add_signal(p->loop, &more[2], SIGUSR1);
	kill(getpid(), SIGUSR1);
	add_child(p->loop, &more[3], pid);
}

static void
a_callback_may_add_every_kind(void **state)
{
	struct probe more[4] = { 0 };
	struct probe p = { .act = act_add_kinds, .other = more };

	add_wake(*state, &p);
	event_wake(p.event);
	for (unsigned i = 0; i < 4; i++) {
		run_until(*state, &more[i], 1);
		event_remove(more[i].event);
	}
	assert_int_equal(WEXITSTATUS(more[3].status), 5);
	assert_int_equal(p.calls, 1);
	event_remove(p.event);
}

/* ---- timers ------------------------------------------------------------- */

static void
timers_fire_once_and_not_early(void **state)
{
	struct probe t = { 0 };
	uint64_t start;

	add_timer(*state, &t);
	loop_run_once(*state, 0);
	assert_int_equal(t.calls, 0);
	start = now_ns();
	event_arm(t.event, 5 * MS, 0);
	run_until(*state, &t, 1);
	assert_true(now_ns() - start >= 5 * MS);
	assert_int_equal(t.expirations, 1);
	be_busy_until(now_ns() + 10 * MS);
	loop_run_once(*state, 0);
	assert_int_equal(t.calls, 1);
	event_arm(t.event, 0, 0);
	run_until(*state, &t, 2);
	event_remove(t.event);
}

static void
missed_periods_are_counted(void **state)
{
	struct probe t = { 0 };
	uint64_t start = now_ns(), elapsed;

	add_timer(*state, &t);
	event_arm(t.event, MS, MS);
	be_busy_until(start + 20 * MS);
	loop_run_once(*state, -1);
	assert_int_equal(t.calls, 1);
	assert_true(t.expirations >= 19);
	while (t.expirations < 100)
		loop_run_once(*state, -1);
	elapsed = now_ns() - start;
	assert_true(elapsed >= 100 * MS);
	assert_true(t.expirations <= elapsed / MS);
	event_remove(t.event);
}

static void
arming_replaces_and_disarming_forgets(void **state)
{
	struct probe t = { 0 };

	add_timer(*state, &t);
	event_arm(t.event, MS, MS);
	be_busy_until(now_ns() + 3 * MS);
	event_arm(t.event, HOUR, 0);
	loop_run_once(*state, 0);
	event_arm(t.event, UINT64_MAX, UINT64_MAX);
	loop_run_once(*state, 0);
	event_arm(t.event, MS, MS);
	be_busy_until(now_ns() + 3 * MS);
	event_disarm(t.event);
	loop_run_once(*state, 0);
	assert_int_equal(t.calls, 0);
	event_remove(t.event);
}

static void
act_rearm(struct probe *p)
{
	if (p->calls < 10)
		event_arm(p->event, MS / 10, 0);
}

static void
a_timer_may_rearm_itself(void **state)
{
	struct probe t = { .act = act_rearm };

	add_timer(*state, &t);
	event_arm(t.event, 0, 0);
	run_until(*state, &t, 10);
	be_busy_until(now_ns() + MS);
	loop_run_once(*state, 0);
	assert_int_equal(t.calls, 10);
	event_remove(t.event);
}

#define BUSY 300

static void
busy_descriptors_starve_nobody(void **state)
{
	static struct probe busy[BUSY];
	struct probe timer = { .act = act_stop }, wake = { 0 };
	struct probe always = { 0 };
	int null = open("/dev/null", O_RDWR);
	unsigned least = UINT_MAX, most = 0;

	memset(busy, 0, sizeof(busy));
	for (unsigned i = 0; i < BUSY; i++)
		add_pipe(*state, &busy[i], true);
	add_fd(*state, &always, null, EVENT_READ | EVENT_WRITE);
	add_timer(*state, &timer);
	add_wake(*state, &wake);
	event_wake(wake.event);
	event_arm(timer.event, 30 * MS, 0);
	loop_run(*state);
	assert_int_equal(timer.calls, 1);
	assert_int_equal(wake.calls, 1);
	for (unsigned i = 0; i < BUSY; i++) {
		least = MIN(least, busy[i].calls);
		most = MAX(most, busy[i].calls);
		close_pipe(&busy[i]);
	}
	assert_true(least > 0);
	assert_true(most - least <= 1);
	assert_true(always.calls > 0);
	event_remove(always.event);
	event_remove(timer.event);
	event_remove(wake.event);
	close(null);
}

/* ---- signals ------------------------------------------------------------ */

static bool
blocked(int signo)
{
	sigset_t set;

	pthread_sigmask(SIG_SETMASK, NULL, &set);
	return sigismember(&set, signo) == 1;
}

static void
signals_arrive_with_their_sender(void **state)
{
	struct probe p = { 0 };

	add_signal(*state, &p, SIGUSR1);
	assert_true(blocked(SIGUSR1));
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 0);
	kill(getpid(), SIGUSR1);
	run_until(*state, &p, 1);
	assert_int_equal(p.info.si_signo, SIGUSR1);
	assert_int_equal(p.info.si_pid, getpid());
	assert_int_equal(p.info.si_code, SI_USER);
	sigqueue(getpid(), SIGUSR1, (union sigval) { .sival_int = 77 });
	run_until(*state, &p, 2);
	assert_int_equal(p.info.si_int, 77);
	event_remove(p.event);
	assert_false(blocked(SIGUSR1));
}

static void
a_signal_blocked_before_stays_blocked(void **state)
{
	struct probe p = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	add_signal(*state, &p, SIGUSR2);
	event_remove(p.event);
	assert_true(blocked(SIGUSR2));
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void
a_signal_has_one_watcher(void **state)
{
	struct probe p = { 0 };
	struct event *event = NULL;
	struct err err;
	struct loop *second = loop_new(&err);

	add_signal(*state, &p, SIGUSR1);
	assert_int_equal(event_add_signal(*state, SIGUSR1, on_signal, &p,
			     &event, &err),
	    -EBUSY);
	assert_int_equal(event_add_signal(second, SIGUSR1, on_signal, &p,
			     &event, &err),
	    -EBUSY);
	event_remove(p.event);
	add_signal(second, &p, SIGUSR1);
	event_remove(p.event);
	assert_int_equal(event_add_signal(*state, SIGKILL, on_signal, &p,
			     &event, &err),
	    -EINVAL);
	assert_int_equal(event_add_signal(*state, NSIG, on_signal, &p, &event,
			     &err),
	    -EINVAL);
	assert_null(event);
	loop_free(second);
}

/* ---- children ----------------------------------------------------------- */

static pid_t
child_that_exits(int status)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(status);
	assert_true(pid > 0);
	return pid;
}

/* A child that ends when our end of the pipe is closed. */
static pid_t
child_that_waits(int pipe_fd[2])
{
	pid_t pid;
	char c;

	assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		close(pipe_fd[1]);
		_exit(read(pipe_fd[0], &c, 1) == 0 ? 42 : 1);
	}
	assert_true(pid > 0);
	close(pipe_fd[0]);
	return pid;
}

static void
children_are_reported_once_and_reaped(void **state)
{
	struct probe exits = { 0 }, killed = { 0 };
	int wait_exit[2], wait_kill[2];
	uint64_t start;
	pid_t pid;

	pid = child_that_waits(wait_exit);
	add_child(*state, &exits, pid);
	loop_run_once(*state, 0);
	start = now_ns();
	loop_run_once(*state, 20); /* and does not spin meanwhile */
	assert_true(now_ns() - start >= 19 * MS);
	assert_int_equal(exits.calls, 0);
	close(wait_exit[1]);
	run_until(*state, &exits, 1);
	assert_true(WIFEXITED(exits.status));
	assert_int_equal(WEXITSTATUS(exits.status), 42);
	loop_run_once(*state, 0);
	assert_int_equal(exits.calls, 1);
	assert_int_equal(waitpid(pid, NULL, 0), -1);
	assert_int_equal(errno, ECHILD);
	event_remove(exits.event);

	pid = child_that_waits(wait_kill);
	add_child(*state, &killed, pid);
	kill(pid, SIGKILL);
	run_until(*state, &killed, 1);
	assert_true(WIFSIGNALED(killed.status));
	assert_int_equal(WTERMSIG(killed.status), SIGKILL);
	event_remove(killed.event);
	close(wait_kill[1]);
}

static void
a_child_may_have_ended_before(void **state)
{
	struct probe dead = { 0 };
	pid_t pid = child_that_exits(7);
	siginfo_t info;

	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	add_child(*state, &dead, pid);
	run_until(*state, &dead, 1);
	assert_int_equal(WEXITSTATUS(dead.status), 7);
	event_remove(dead.event);
}

static void
many_children_at_once(void **state)
{
	struct probe p[20] = { 0 };

	for (int i = 0; i < 20; i++)
		add_child(*state, &p[i], child_that_exits(i));
	for (int i = 0; i < 20; i++) {
		run_until(*state, &p[i], 1);
		assert_int_equal(WEXITSTATUS(p[i].status), i);
	}
	loop_run_once(*state, 0);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(p[i].calls, 1);
		event_remove(p[i].event);
	}
}

static void
a_removed_child_is_left_to_others(void **state)
{
	struct probe p = { 0 };
	struct event *event = NULL;
	struct err err;
	int wait_exit[2], status;
	pid_t pid = child_that_waits(wait_exit);

	add_child(*state, &p, pid);
	event_remove(p.event);
	close(wait_exit[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 0);
	assert_int_equal(event_add_child(*state, pid, on_child, &p, &event,
			     &err),
	    -ECHILD);
	assert_int_equal(event_add_child(*state, getppid(), on_child, &p,
			     &event, &err),
	    -ECHILD);
	assert_null(event);
}

/* The same tests where pidfd_open(2) does not exist, in a process of its own. */
static void
children_without_pidfd(void **state)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {
		.len = sizeof(code) / sizeof(code[0]),
		.filter = code,
	};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0)
			_exit(77);
		/* A failed assertion of cmocka ends this process with 1. */
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		a_child_may_have_ended_before(state);
		children_are_reported_once_and_reaped(state);
		many_children_at_once(state);
		a_removed_child_is_left_to_others(state);
		_exit(syscall(SYS_pidfd_open, getpid(), 0) < 0 ? 42 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

/* ---- wake-ups and stopping ---------------------------------------------- */

static void
wakes_are_merged(void **state)
{
	struct probe p = { 0 };

	add_wake(*state, &p);
	for (unsigned i = 0; i < 1000; i++)
		event_wake(p.event);
	loop_run_once(*state, -1);
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 1);
	event_wake(p.event);
	loop_run_once(*state, -1);
	assert_int_equal(p.calls, 2);
	event_remove(p.event);
}

static struct event *handler_event;
static struct loop *handler_loop;

static void
waking_handler(int signo)
{
	event_wake(handler_event);
	loop_stop(handler_loop);
}

static void
handlers_may_wake_and_stop(void **state)
{
	struct sigaction sa = { .sa_handler = waking_handler }, old;
	struct probe p = { 0 };

	add_wake(*state, &p);
	handler_event = p.event;
	handler_loop = *state;
	sigaction(SIGUSR1, &sa, &old);
	raise(SIGUSR1);
	sigaction(SIGUSR1, &old, NULL);
	/* The stop came before the run; the wake-up is not lost by it. */
	loop_run(*state);
	loop_run_once(*state, 0);
	assert_int_equal(p.calls, 1);
	event_remove(p.event);
}

static void
a_stop_ends_the_batch(void **state)
{
	struct probe a = { .act = act_stop }, b = { .act = act_stop };

	add_pipe(*state, &a, true);
	add_pipe(*state, &b, true);
	loop_run(*state);
	assert_int_equal(a.calls + b.calls, 1);
	/* The other one is still ready. */
	loop_run_once(*state, 0);
	assert_int_equal(a.calls + b.calls, 3);
	/* That run made new stops; they count for the next loop_run() once. */
	loop_run(*state);
	assert_int_equal(a.calls + b.calls, 3);
	close_pipe(&a);
	close_pipe(&b);
}

static void
run_once_gives_up_in_time(void **state)
{
	uint64_t start = now_ns();

	loop_run_once(*state, 20);
	assert_true(now_ns() - start >= 19 * MS);
	/* A stop nobody has taken wakes one such run, not all. */
	loop_stop(*state);
	loop_run_once(*state, -1);
	start = now_ns();
	loop_run_once(*state, 20);
	assert_true(now_ns() - start >= 19 * MS);
	loop_run(*state);
}

/* ---- other threads ------------------------------------------------------ */

static void *
loop_thread(void *arg)
{
	loop_run(arg);
	return NULL;
}

static pthread_t
start_loop(struct loop *loop)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, loop_thread, loop), 0);
	return thread;
}

static void
end_loop(struct loop *loop, pthread_t thread)
{
	loop_stop(loop);
	pthread_join(thread, NULL);
}

/* A source whose callback posts a semaphore, for threads to wait on. */
struct posting {
	struct event *event;
	sem_t sem;
	atomic_uint calls;
	char drain;
};

static void
posting_fd(void *arg, int fd, unsigned ready)
{
	struct posting *p = arg;
	char c;

	if (ready & EVENT_READ && read(fd, &c, 1) == 1) {
		atomic_fetch_add(&p->calls, 1);
		sem_post(&p->sem);
	}
}

static void
posting_timer(void *arg, uint64_t expirations)
{
	struct posting *p = arg;

	atomic_fetch_add(&p->calls, 1);
	sem_post(&p->sem);
}

static void
posting_wake(void *arg)
{
	posting_timer(arg, 1);
}

static void
posting_child(void *arg, pid_t pid, int status)
{
	posting_timer(arg, 1);
}

static void
every_call_works_from_another_thread(void **state)
{
	struct loop *loop = *state;
	struct posting p = { 0 };
	struct err err;
	pthread_t thread = start_loop(loop);
	int fd[2];

	sem_init(&p.sem, 0, 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(event_add_fd(loop, fd[0], 0, posting_fd, &p, &p.event,
			     &err),
	    0);
	assert_int_equal(write(fd[1], "x", 1), 1);
	event_set_interest(p.event, EVENT_READ);
	sem_wait(&p.sem);
	event_remove(p.event);
	close(fd[0]);
	close(fd[1]);

	assert_int_equal(event_add_timer(loop, posting_timer, &p, &p.event,
			     &err),
	    0);
	event_arm(p.event, MS, MS);
	sem_wait(&p.sem);
	sem_wait(&p.sem);
	event_disarm(p.event);
	event_remove(p.event);
	while (sem_trywait(&p.sem) == 0)
		;

	assert_int_equal(event_add_wake(loop, posting_wake, &p, &p.event, &err),
	    0);
	event_wake(p.event);
	sem_wait(&p.sem);
	event_remove(p.event);

	assert_int_equal(event_add_child(loop, child_that_exits(0),
			     posting_child, &p, &p.event, &err),
	    0);
	sem_wait(&p.sem);
	event_remove(p.event);
	end_loop(loop, thread);
	sem_destroy(&p.sem);
}

/* A callback that is in the middle when another thread removes its source. */
struct slow {
	sem_t entered;
	atomic_bool removing;
	atomic_bool left;
};

static void
slow_wake(void *arg)
{
	struct slow *slow = arg;

	sem_post(&slow->entered);
	while (!atomic_load(&slow->removing))
		sched_yield();
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	atomic_store(&slow->left, true);
}

static void
removal_waits_for_a_running_callback(void **state)
{
	struct loop *loop = *state;
	struct err err;
	pthread_t thread = start_loop(loop);

	for (unsigned i = 0; i < 50; i++) {
		struct slow slow = { 0 };
		struct event *event;

		sem_init(&slow.entered, 0, 0);
		assert_int_equal(event_add_wake(loop, slow_wake, &slow, &event,
				     &err),
		    0);
		event_wake(event);
		sem_wait(&slow.entered);
		atomic_store(&slow.removing, true);
		event_remove(event);
		assert_true(atomic_load(&slow.left));
		sem_destroy(&slow.entered);
	}
	end_loop(loop, thread);
}

/* Sources come and go while others of the same loop are busy. */
struct storm {
	struct loop *loop;
	unsigned seed;
	unsigned calls;
};

struct victim {
	atomic_uint calls;
	bool gone; /* written after removal: a late call is a race and a lie */
};

static void
victim_wake(void *arg)
{
	struct victim *v = arg;

	assert_false(v->gone);
	atomic_fetch_add(&v->calls, 1);
}

static void
victim_fd(void *arg, int fd, unsigned ready)
{
	victim_wake(arg);
}

static void
victim_timer(void *arg, uint64_t expirations)
{
	victim_wake(arg);
}

static void *
storm_thread(void *arg)
{
	struct storm *storm = arg;

	for (unsigned i = 0; i < 300; i++) {
		struct victim *v = calloc(1, sizeof(*v));
		struct event *fd_event, *timer, *wake;
		struct err err;
		int fd[2];

		assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
		assert_int_equal(write(fd[1], "x", 1), 1);
		assert_int_equal(event_add_fd(storm->loop, fd[0], EVENT_READ,
				     victim_fd, v, &fd_event, &err),
		    0);
		assert_int_equal(event_add_timer(storm->loop, victim_timer, v,
				     &timer, &err),
		    0);
		assert_int_equal(event_add_wake(storm->loop, victim_wake, v,
				     &wake, &err),
		    0);
		event_arm(timer, 0, 10000);
		event_wake(wake);
		if (rand_r(&storm->seed) % 2 != 0)
			while (atomic_load(&v->calls) == 0)
				sched_yield();
		event_set_interest(fd_event, 0);
		event_set_interest(fd_event, EVENT_READ | EVENT_WRITE);
		event_disarm(timer);
		event_remove(timer);
		event_remove(fd_event);
		event_remove(wake);
		close(fd[0]);
		close(fd[1]);
		storm->calls += atomic_load(&v->calls);
		v->gone = true;
		free(v);
	}
	return NULL;
}

static void
storms_of_adding_and_removing(void **state)
{
	struct storm storm[4];
	pthread_t threads[4], thread = start_loop(*state);
	struct err err;
	struct victim busy = { 0 };
	struct event *event;
	int null = open("/dev/null", O_RDWR);
	unsigned fds, calls = 0;

	assert_int_equal(event_add_fd(*state, null, EVENT_READ, victim_fd,
			     &busy, &event, &err),
	    0);
	fds = open_fds();
	for (unsigned i = 0; i < 4; i++) {
		storm[i] = (struct storm) { .loop = *state, .seed = i };
		pthread_create(&threads[i], NULL, storm_thread, &storm[i]);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		calls += storm[i].calls;
	}
	assert_true(calls > 0);
	assert_int_equal(open_fds(), fds);
	event_remove(event);
	end_loop(*state, thread);
	close(null);
}

/* Removals while the loop sleeps do not pile up until it wakes by itself. */
static void
a_sleeping_loop_lets_go(void **state)
{
	pthread_t thread = start_loop(*state);
	size_t before = mallinfo2().uordblks;
	uint64_t until;
	struct err err;

	for (unsigned i = 0; i < 1000; i++) {
		struct posting p = { 0 };

		assert_int_equal(event_add_timer(*state, posting_timer, &p,
				     &p.event, &err),
		    0);
		event_arm(p.event, HOUR, 0);
		event_remove(p.event);
	}
	/* A sanitizer's allocator tells nothing here. */
	until = now_ns() + 20 * NS_PER_SEC;
	while (mallinfo2().uordblks > before + 10000) {
		assert_true(now_ns() < until);
		sched_yield();
	}
	end_loop(*state, thread);
}

/* Two loops, each waking the other. */
struct player {
	struct loop *loop;
	struct event *event;
	struct player *peer;
	unsigned hits;
};

#define HITS 500

static void
hit(void *arg)
{
	struct player *p = arg;

	if (++p->hits == HITS)
		loop_stop(p->loop);
	event_wake(p->peer->event);
}

static void
two_loops_in_two_threads(void **state)
{
	struct player a = { .loop = *state }, b = { .peer = &a };
	struct err err;
	pthread_t thread;

	a.peer = &b;
	b.loop = loop_new(&err);
	assert_non_null(b.loop);
	assert_int_equal(event_add_wake(a.loop, hit, &a, &a.event, &err), 0);
	assert_int_equal(event_add_wake(b.loop, hit, &b, &b.event, &err), 0);
	thread = start_loop(b.loop);
	event_wake(a.event);
	loop_run(a.loop);
	pthread_join(thread, NULL);
	assert_int_equal(a.hits, HITS);
	assert_true(b.hits == HITS);
	loop_free(b.loop);
	event_remove(a.event);
}

static void
freeing_removes_what_is_left(void **state)
{
	unsigned fds = open_fds();
	struct probe fd = { 0 }, file = { 0 }, timer = { 0 }, wake = { 0 };
	struct probe sig = { 0 }, child = { 0 };
	struct err err;
	struct loop *loop = loop_new(&err);
	int wait_exit[2], null = open("/dev/null", O_RDWR);
	pid_t pid = child_that_waits(wait_exit);

	add_pipe(loop, &fd, true);
	add_fd(loop, &file, null, EVENT_READ);
	add_timer(loop, &timer);
	event_arm(timer.event, 0, MS);
	add_wake(loop, &wake);
	event_wake(wake.event);
	add_signal(loop, &sig, SIGUSR1);
	add_child(loop, &child, pid);
	loop_run_once(loop, 0);
	loop_free(loop);
	assert_false(blocked(SIGUSR1));
	close(fd.fd[0]);
	close(fd.fd[1]);
	close(null);
	close(wait_exit[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(open_fds(), fds);
	loop_free(NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(descriptors_are_level_triggered),
		TEST(interest_can_change),
		TEST(hangup_needs_no_interest),
		TEST(files_are_always_ready),
		TEST(bad_descriptors_are_errors),
		TEST(a_source_may_remove_itself),
		TEST(removal_reaches_into_the_batch),
		TEST(changes_reach_into_the_batch),
		TEST(a_reused_number_is_a_new_source),
		TEST(a_number_reused_in_the_batch_is_not_called),
		TEST(a_callback_may_add),
		TEST(a_callback_may_add_every_kind),
		TEST(timers_fire_once_and_not_early),
		TEST(missed_periods_are_counted),
		TEST(arming_replaces_and_disarming_forgets),
		TEST(a_timer_may_rearm_itself),
		TEST(busy_descriptors_starve_nobody),
		TEST(signals_arrive_with_their_sender),
		TEST(a_signal_blocked_before_stays_blocked),
		TEST(a_signal_has_one_watcher),
		TEST(children_are_reported_once_and_reaped),
		TEST(a_child_may_have_ended_before),
		TEST(many_children_at_once),
		TEST(a_removed_child_is_left_to_others),
		TEST(children_without_pidfd),
		TEST(wakes_are_merged),
		TEST(handlers_may_wake_and_stop),
		TEST(a_stop_ends_the_batch),
		TEST(run_once_gives_up_in_time),
		TEST(every_call_works_from_another_thread),
		TEST(removal_waits_for_a_running_callback),
		TEST(storms_of_adding_and_removing),
		TEST(a_sleeping_loop_lets_go),
		TEST(two_loops_in_two_threads),
		TEST(freeing_removes_what_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
