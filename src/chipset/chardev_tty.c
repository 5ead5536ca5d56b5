/*
 * /dev/...: a terminal device, raw, with modem control lines ignored.
 *
 * A lock (flock) keeps two back ends off one device.  Its settings are put back
 * when it is closed.  A device that hangs up is gone for good: the guest keeps
 * its UART, and its bytes vanish.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "chipset/chardev_impl.h"

struct tty {
	int fd;
	struct termios saved;
};

int
tty_open_raw(int dirfd, const char *path, struct termios *saved, int *opened,
    struct err *err)
{
	int fd =
	    openat(dirfd, path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct termios raw;
	int rc;

	if (fd < 0)
		return err_set_errno(err, -errno, "cannot open");
	if (tcgetattr(fd, saved) < 0) {
		rc = err_set(err, -ENOTTY, "not a terminal");
		goto fail;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		rc = err_set(err, -EBUSY, "in use");
		goto fail;
	}
	raw = *saved;
	cfmakeraw(&raw);
	raw.c_cflag |= CLOCAL | CREAD;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	if (tcsetattr(fd, TCSANOW, &raw) < 0) {
		rc = err_set_errno(err, -errno, "cannot make it raw");
		goto fail;
	}
	*opened = fd;
	return 0;
fail:
	close(fd);
	return rc;
}

static void
tty_ended(struct chardev *dev)
{
	log_warn("%s: hung up", dev->address);
	chardev_detach(dev);
}

static void
tty_destroy(struct chardev *dev)
{
	struct tty *tty = dev->own;

	if (tty->fd >= 0) {
		/* In vain if it has hung up. */
		(void)tcsetattr(tty->fd, TCSANOW, &tty->saved);
		close(tty->fd);
	}
	free(tty);
}

static const struct chardev_family tty_family = {
	.ended = tty_ended,
	.destroy = tty_destroy,
};

int
chardev_tty_open(struct chardev *dev, const char *text, struct err *err)
{
	struct tty *tty = xcalloc(1, sizeof(*tty));
	int rc, copy;

	tty->fd = -1;
	dev->own = tty;
	dev->family = &tty_family;
	dev->address = xasprintf("/dev/%s", text);
	rc = tty_open_raw(AT_FDCWD, dev->address, &tty->saved, &tty->fd, err);
	if (rc < 0)
		return rc;
	copy = fcntl(tty->fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return err_set_errno(err, -errno, "descriptor");
	return chardev_attach_one(dev, copy, err);
}
