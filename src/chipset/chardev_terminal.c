/*
 * The user's terminal: raw while a guest has it, put back however we end.
 *
 * Ways out     terminal_restore(); exit(3), by atexit(3); every signal that
 *              would end the process and that had its default action when the
 *              terminal became raw, by a handler that puts the terminal back
 *              and raises the signal again with its default action.  Whoever
 *              installs a handler later, or blocks the signal and reads it
 *              elsewhere, leaves by one of the other ways.
 * Job control  SIGTSTP puts the terminal back and stops us; SIGCONT makes it
 *              raw again once we are in the foreground.  In the background we
 *              never touch it: the shell has given it to somebody else.
 * Left out     SIGKILL, and a stack overflow without an alternate stack:
 *              no code of ours runs any more.
 * Globals      a process has one terminal.  What handlers read is written
 *              before they are installed; `raw` is the state they change.
 *              A forked child of ours is not the owner and leaves it alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "chipset/chardev_impl.h"

static struct {
	int fd;
	pid_t owner; /* 0: nobody */
	struct termios cooked;
	struct termios uncooked;
	atomic_bool raw;
} terminal;

static const int fatal_signals[] = { SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP,
	SIGABRT, SIGBUS, SIGFPE, SIGUSR1, SIGSEGV, SIGUSR2, SIGPIPE, SIGALRM,
	SIGTERM, SIGSTKFLT, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGIO, SIGPWR,
	SIGSYS };

/* Ours to change?  Also when it is nobody's controlling terminal. */
static bool
foreground(void)
{
	pid_t group = tcgetpgrp(terminal.fd);

	return group < 0 || group == getpgrp();
}

/* Async-signal-safe, as is all that it calls. */
static void
put_back(void)
{
	if (terminal.owner != getpid() ||
	    !atomic_exchange_explicit(&terminal.raw, false,
		memory_order_relaxed))
		return;
	if (foreground())
		(void)tcsetattr(terminal.fd, TCSANOW, &terminal.cooked);
}

static void
make_raw(void)
{
	if (terminal.owner != getpid() || !foreground())
		return;
	(void)tcsetattr(terminal.fd, TCSANOW, &terminal.uncooked);
	atomic_store_explicit(&terminal.raw, true, memory_order_relaxed);
}

/* The default action is in place again: SA_RESETHAND. */
static void
on_fatal(int signo)
{
	put_back();
	raise(signo);
}

static void
on_stop(int signo)
{
	int saved = errno;

	put_back();
	raise(SIGSTOP);
	errno = saved;
}

static void
on_continue(int signo)
{
	int saved = errno;

	make_raw();
	errno = saved;
}

/* Take a signal that has its default action. */
static void
take_signal(int signo, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags }, was;

	if (sigaction(signo, NULL, &was) == 0 && !(was.sa_flags & SA_SIGINFO) &&
	    was.sa_handler == SIG_DFL)
		sigaction(signo, &sa, NULL);
}

/* Give it back, unless somebody has replaced our handler. */
static void
give_signal(int signo, void (*handler)(int))
{
	struct sigaction sa = { .sa_handler = SIG_DFL }, was;

	if (sigaction(signo, NULL, &was) == 0 && !(was.sa_flags & SA_SIGINFO) &&
	    was.sa_handler == handler)
		sigaction(signo, &sa, NULL);
}

int
terminal_raw(int fd, struct err *err)
{
	static bool registered;
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0 || tcgetattr(own, &terminal.cooked) < 0) {
		int rc = err_set_errno(err, -errno, "terminal");

		if (own >= 0)
			close(own);
		return rc;
	}
	terminal.uncooked = terminal.cooked;
	cfmakeraw(&terminal.uncooked);
	terminal.uncooked.c_cflag |= CLOCAL;
	terminal.uncooked.c_cc[VMIN] = 1;
	terminal.uncooked.c_cc[VTIME] = 0;
	terminal.fd = own;
	terminal.owner = getpid();
	if (!registered)
		atexit(put_back);
	registered = true;
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		take_signal(fatal_signals[i], on_fatal,
		    SA_RESETHAND | SA_NODEFER | SA_ONSTACK);
	take_signal(SIGTSTP, on_stop, SA_RESTART);
	take_signal(SIGCONT, on_continue, SA_RESTART);
	make_raw();
	return 0;
}

void
terminal_restore(void)
{
	if (terminal.owner != getpid())
		return;
	put_back();
	for (size_t i = 0; i < ARRAY_SIZE(fatal_signals); i++)
		give_signal(fatal_signals[i], on_fatal);
	give_signal(SIGTSTP, on_stop);
	give_signal(SIGCONT, on_continue);
	terminal.owner = 0;
	close(terminal.fd);
}
