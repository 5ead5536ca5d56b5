/*
 * pty[,LINK]: a pseudo-terminal whose slave anybody may open.
 *
 * Nobody has the slave open at first, and then reading the master hangs up.
 * The kernel does not tell when somebody comes, so a timer looks: nothing is
 * attached, and output is dropped, until then.  When the last one closes the
 * slave it is made raw again for the next.
 *
 * LINK is a symbolic link to the slave.  One that an earlier run left behind is
 * replaced, anything else is not; at the end it goes if it is still ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "chipset/chardev_impl.h"

#define LOOK_NS (NS_PER_SEC / 5)

struct pty_link {
	struct pty pty;
	char *link; /* owned; NULL without one, or while it is not made */
};

/* ---- the pair ----------------------------------------------------------- */

/* On the master they are the slave's settings. */
static int
set_raw(int master)
{
	struct termios tio;

	if (tcgetattr(master, &tio) < 0)
		return -errno;
	cfmakeraw(&tio);
	tio.c_cflag |= CLOCAL;
	return tcsetattr(master, TCSANOW, &tio) < 0 ? -errno : 0;
}

static void
look(void *arg, uint64_t expirations)
{
	struct pty *pty = arg;
	struct pollfd pfd = { .fd = pty->master, .events = POLLIN };
	struct err err;
	int fd;

	if (poll(&pfd, 1, 0) < 0 || pfd.revents & POLLHUP)
		return;
	fd = fcntl(pty->master, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || chardev_attach_one(pty->dev, fd, &err) < 0)
		return; /* out of descriptors: look again */
	event_disarm(pty->look);
}

int
pty_init(struct pty *pty, struct chardev *dev, struct err *err)
{
	int slave = -1;

	*pty = (struct pty) { .dev = dev };
	pty->master = posix_openpt(O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (pty->master < 0 || grantpt(pty->master) < 0 ||
	    unlockpt(pty->master) < 0 ||
	    ptsname_r(pty->master, pty->slave, sizeof(pty->slave)) != 0 ||
	    set_raw(pty->master) < 0)
		goto fail;
	/* The master hangs up only after the slave was open once. */
	slave = open(pty->slave, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		goto fail;
	close(slave);
	if (event_add_timer(dev->loop, look, pty, &pty->look, err) < 0)
		goto fail_said;
	event_arm(pty->look, 0, LOOK_NS);
	return 0;
fail:
	(void)err_set_errno(err, -errno, "no pseudo-terminal");
fail_said:
	pty_fini(pty);
	return -EIO;
}

void
pty_fini(struct pty *pty)
{
	event_remove(pty->look);
	pty->look = NULL;
	if (pty->master >= 0)
		close(pty->master);
	pty->master = -1;
}

void
pty_ended(struct pty *pty)
{
	chardev_detach(pty->dev);
	(void)set_raw(pty->master); /* it worked before */
	event_arm(pty->look, LOOK_NS, LOOK_NS);
}

/* ---- the family --------------------------------------------------------- */

static void
link_ended(struct chardev *dev)
{
	struct pty_link *pl = dev->own;

	pty_ended(&pl->pty);
}

static void
link_destroy(struct chardev *dev)
{
	struct pty_link *pl = dev->own;
	char target[sizeof(pl->pty.slave)];
	ssize_t n;

	if (pl->link != NULL) {
		n = readlink(pl->link, target, sizeof(target) - 1);
		if (n > 0 && (size_t)n == strlen(pl->pty.slave) &&
		    memcmp(target, pl->pty.slave, (size_t)n) == 0)
			(void)unlink(pl->link); /* somebody else was quicker */
	}
	pty_fini(&pl->pty);
	free(pl->link);
	free(pl);
}

static const struct chardev_family pty_family = {
	.ended = link_ended,
	.destroy = link_destroy,
};

int
chardev_pty_open(struct chardev *dev, const char *text, struct err *err)
{
	struct pty_link *pl = xcalloc(1, sizeof(*pl));
	struct stat st;
	int rc;

	pl->pty.master = -1;
	dev->own = pl;
	dev->family = &pty_family;
	rc = pty_init(&pl->pty, dev, err);
	if (rc < 0)
		return rc;
	dev->address = xstrdup(pl->pty.slave);
	if (text[0] == '\0')
		return 0;
	if (lstat(text, &st) == 0 && S_ISLNK(st.st_mode))
		(void)unlink(text); /* or else symlink() fails */
	if (symlink(pl->pty.slave, text) < 0)
		return err_set_errno(err, -errno, "cannot make the link");
	pl->link = xstrdup(text);
	return 0;
}
