/*
 * nmdm: a null-modem cable with the ends nmdmNAMEA and nmdmNAMEB, for two
 * UARTs, two machines, or a machine and a terminal program.
 *
 * Linux has no such driver, so a cable is a pseudo-terminal and its ends are
 * links in the run directory.  Whoever opens an end first makes the pair, holds
 * its master as the own end and links the other end to the slave; the second
 * opens that link like any other terminal.
 *
 *      opening end X, under the directory's lock (flock):
 *         nmdmNAME.lock free       ──▶ take it for life: master.  Unlink X,
 *                                      which can only be stale; link the peer.
 *         taken, link X is there   ──▶ open it, lock it (flock): slave
 *         taken, no link X         ──▶ end X is the master's: busy
 *
 * The kernel drops the locks of a process that dies, so nothing stale is ever
 * opened: a dead master's pseudo-terminal number may be somebody's shell now.
 * When the master goes, the slave hangs up and opens its end anew, which makes
 * it the master.
 *
 * Locking      flock() on the directory is held for a few system calls.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "chipset/chardev_impl.h"

#define NAME_MAX_LEN 64
#define RETRY_NS NS_PER_SEC

struct nmdm {
	struct chardev *dev; /* borrowed: owns this */
	int dir;             /* the run directory */
	char *lock_name;     /* owned: the three names in it */
	char *own_end;
	char *peer_end;
	int lock;            /* descriptor, -1 while we are not the master */
	struct pty pty;      /* as the master */
	struct event *retry; /* as the slave, hung up */
};

/* The directory, made where missing, which nobody else may write to. */
static int
open_run_dir(const char *path, int *dir, struct err *err)
{
	struct stat st;
	int fd;

	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_set_errno(err, -errno, "cannot make %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_set_errno(err, -errno, "%s", path);
	if (fstat(fd, &st) < 0 || (st.st_uid != geteuid() && st.st_uid != 0) ||
	    st.st_mode & (S_IWGRP | S_IWOTH)) {
		close(fd);
		return err_set(err, -EPERM, "%s: others may write to it", path);
	}
	*dir = fd;
	return 0;
}

/* Become the master.  The lock file is locked; the directory, too. */
static int
make_pair(struct nmdm *nmdm, struct err *err)
{
	int rc = pty_init(&nmdm->pty, nmdm->dev, err);

	if (rc < 0)
		return rc;
	(void)unlinkat(nmdm->dir, nmdm->own_end, 0);  /* most often missing */
	(void)unlinkat(nmdm->dir, nmdm->peer_end, 0); /* or symlink fails */
	if (symlinkat(nmdm->pty.slave, nmdm->dir, nmdm->peer_end) < 0) {
		rc = err_set_errno(err, -errno, "cannot make %s",
		    nmdm->peer_end);
		pty_fini(&nmdm->pty);
	}
	return rc;
}

/* Become the slave. */
static int
open_pair(struct nmdm *nmdm, struct err *err)
{
	struct termios saved;
	int fd, rc;

	if (faccessat(nmdm->dir, nmdm->own_end, F_OK, 0) < 0)
		return err_set(err, -EBUSY, "in use");
	rc = tty_open_raw(nmdm->dir, nmdm->own_end, &saved, &fd, err);
	return rc < 0 ? rc : chardev_attach_one(nmdm->dev, fd, err);
}

static int
open_end(struct nmdm *nmdm, struct err *err)
{
	int lock, rc;

	if (flock(nmdm->dir, LOCK_EX) < 0)
		return err_set_errno(err, -errno, "cannot lock the directory");
	lock = openat(nmdm->dir, nmdm->lock_name,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (lock < 0) {
		rc = err_set_errno(err, -errno, "%s", nmdm->lock_name);
	} else if (flock(lock, LOCK_EX | LOCK_NB) == 0) {
		rc = make_pair(nmdm, err);
		if (rc == 0) {
			nmdm->lock = lock;
			lock = -1;
		}
	} else {
		rc = open_pair(nmdm, err);
	}
	if (lock >= 0)
		close(lock);
	(void)flock(nmdm->dir, LOCK_UN); /* cannot fail */
	return rc;
}

static void
retry(void *arg, uint64_t expirations)
{
	struct nmdm *nmdm = arg;

	if (open_end(nmdm, NULL) < 0)
		event_arm(nmdm->retry, RETRY_NS, 0);
}

static void
nmdm_ended(struct chardev *dev)
{
	struct nmdm *nmdm = dev->own;

	if (nmdm->lock >= 0) {
		pty_ended(&nmdm->pty);
		return;
	}
	chardev_detach(dev);
	event_arm(nmdm->retry, 0, 0);
}

static void
nmdm_destroy(struct chardev *dev)
{
	struct nmdm *nmdm = dev->own;

	if (nmdm->lock >= 0) {
		(void)flock(nmdm->dir, LOCK_EX); /* unlock at worst unguarded */
		(void)unlinkat(nmdm->dir, nmdm->peer_end, 0);
		(void)unlinkat(nmdm->dir, nmdm->lock_name, 0);
		close(nmdm->lock);
		pty_fini(&nmdm->pty);
	}
	event_remove(nmdm->retry);
	if (nmdm->dir >= 0)
		close(nmdm->dir);
	free(nmdm->lock_name);
	free(nmdm->own_end);
	free(nmdm->peer_end);
	free(nmdm);
}

static const struct chardev_family nmdm_family = {
	.ended = nmdm_ended,
	.destroy = nmdm_destroy,
};

static bool
name_ok(const char *name, size_t len)
{
	if (len == 0 || len > NAME_MAX_LEN)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_' &&
		    name[i] != '-' && name[i] != '.')
			return false;
	return true;
}

static int
open_named(struct chardev *dev, const char *name, size_t len, char end,
    struct err *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	struct nmdm *nmdm;
	char *path;
	int rc;

	if (!name_ok(name, len))
		return err_set(err, -EINVAL,
		    "a name is 1 to %d letters, digits, '.', '_' or '-'",
		    NAME_MAX_LEN);
	nmdm = xcalloc(1, sizeof(*nmdm));
	nmdm->dev = dev;
	nmdm->dir = nmdm->lock = -1;
	nmdm->lock_name = xasprintf("nmdm%.*s.lock", (int)len, name);
	nmdm->own_end = xasprintf("nmdm%.*s%c", (int)len, name, end);
	nmdm->peer_end =
	    xasprintf("nmdm%.*s%c", (int)len, name, end == 'A' ? 'B' : 'A');
	dev->own = nmdm;
	dev->family = &nmdm_family;

	path =
	    xasprintf("%s/vmm", base != NULL && base[0] == '/' ? base : "/run");
	dev->address = xasprintf("%s/%s", path, nmdm->peer_end);
	rc = open_run_dir(path, &nmdm->dir, err);
	free(path);
	if (rc == 0)
		rc = event_add_timer(dev->loop, retry, nmdm, &nmdm->retry, err);
	return rc < 0 ? rc : open_end(nmdm, err);
}

/* nmdm:NAME */
int
chardev_nmdm_open(struct chardev *dev, const char *text, struct err *err)
{
	return open_named(dev, text, strlen(text), 'A', err);
}

/* /dev/nmdmNAMEA, /dev/nmdmNAMEB */
int
chardev_nmdm_dev_open(struct chardev *dev, const char *text, struct err *err)
{
	size_t len = strlen(text);

	if (len == 0 || (text[len - 1] != 'A' && text[len - 1] != 'B'))
		return err_set(err, -EINVAL, "must end in A or B");
	return open_named(dev, text, len - 1, text[len - 1], err);
}
