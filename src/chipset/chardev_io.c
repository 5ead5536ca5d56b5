/*
 * Reading and writing descriptors that we may share with other processes.
 *
 * O_NONBLOCK belongs to the open file description: set on our standard output
 * it would be set on the shell's, too, and stay after us.  So nothing here
 * depends on it.  A socket has a flag for each call.  Otherwise poll(2) is
 * asked first, and a descriptor that can block gets no more than it then
 * surely takes: PIPE_BUF for a pipe, one byte for a terminal.
 *
 * SIGPIPE is kept from the calling thread alone; its disposition, which our
 * children inherit, is left as it was.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "chipset/chardev_impl.h"

void
io_fd_init(struct io_fd *io, int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	io->fd = fd;
	io->socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	if (flags >= 0 && flags & O_NONBLOCK)
		io->chunk = SIZE_MAX;
	else
		io->chunk = isatty(fd) ? 1 : PIPE_BUF;
}

void
io_fd_fini(struct io_fd *io)
{
	if (io->fd >= 0)
		close(io->fd);
	io->fd = -1;
}

/* Hang-ups and errors count as ready: the call then says which it is. */
static bool
ready(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	return poll(&pfd, 1, 0) == 1;
}

ssize_t
io_fd_read(const struct io_fd *io, void *buf, size_t len)
{
	ssize_t n;

	if (!io->socket && !ready(io->fd, POLLIN))
		return -EAGAIN;
	do
		n = io->socket ? recv(io->fd, buf, len, MSG_DONTWAIT) :
				 read(io->fd, buf, len);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

bool
io_fd_at_end(const struct io_fd *io)
{
	char byte;

	return io->socket &&
	    recv(io->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

/* write(2), with the SIGPIPE that it may raise in this thread taken back. */
static ssize_t
write_quietly(int fd, const void *buf, size_t len)
{
	sigset_t sigpipe, before, pending;
	bool was_pending;
	ssize_t n;

	sigemptyset(&sigpipe);
	sigaddset(&sigpipe, SIGPIPE);
	sigpending(&pending);
	was_pending = sigismember(&pending, SIGPIPE) == 1;
	pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
	do
		n = write(fd, buf, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		n = -errno;
	if (n == -EPIPE && !was_pending)
		sigtimedwait(&sigpipe, NULL, &(struct timespec) { 0 });
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return n;
}

ssize_t
io_fd_write(const struct io_fd *io, const void *buf, size_t len)
{
	if (io->socket) {
		ssize_t n;

		do
			n = send(io->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
		return n < 0 ? -errno : n;
	}
	if (!ready(io->fd, POLLOUT))
		return -EAGAIN;
	return write_quietly(io->fd, buf, MIN(len, io->chunk));
}
