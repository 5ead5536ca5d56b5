/*
 * stdio: standard input and output of this process.
 *
 * Input that ends (a pipe that closes, /dev/null, no descriptor at all) just
 * ends; output goes on.  A terminal is raw meanwhile (chardev_terminal.c).
 *
 * To write a terminal or a pipe without blocking, and without O_NONBLOCK on
 * the description that the shell shares, it is opened a second time through
 * /proc.  Files are not, as their position is part of the description.  Where
 * that does not work chardev_io.c goes slowly but surely.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "chipset/chardev_impl.h"

/* A process has one standard input. */
static atomic_bool taken;

/* A descriptor of our own for a standard one; -1 if that is closed. */
static int
own_copy(int fd, int mode)
{
	struct stat st;
	char path[32];
	int own = -1;

	/* Closed, and the number perhaps taken by an epoll or the like. */
	if (fstat(fd, &st) < 0 || (st.st_mode & S_IFMT) == 0)
		return -1;
	if (S_ISFIFO(st.st_mode) || isatty(fd)) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		own = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void
stdio_ended(struct chardev *dev)
{
	chardev_end_input(dev);
}

static void
stdio_destroy(struct chardev *dev)
{
	terminal_restore();
	atomic_store_explicit(&taken, false, memory_order_release);
}

static const struct chardev_family stdio_family = {
	.ended = stdio_ended,
	.destroy = stdio_destroy,
};

int
chardev_stdio_open(struct chardev *dev, const char *text, struct err *err)
{
	int in = -1, out, rc;

	if (atomic_exchange_explicit(&taken, true, memory_order_acquire))
		return err_set(err, -EBUSY, "in use by another device");
	dev->family = &stdio_family;
	dev->address = xstrdup("stdio");
	if (dev->has_user && isatty(STDIN_FILENO)) {
		rc = terminal_raw(STDIN_FILENO, err);
		if (rc < 0)
			return rc;
	}
	if (dev->has_user)
		in = own_copy(STDIN_FILENO, O_RDONLY);
	out = own_copy(STDOUT_FILENO, O_WRONLY);
	if (out < 0)
		out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (out < 0) {
		rc = err_set_errno(err, -errno, "standard output");
		if (in >= 0)
			close(in);
		return rc;
	}
	return chardev_attach(dev, in, out, err);
}
