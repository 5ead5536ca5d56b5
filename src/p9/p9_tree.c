/*
 * The shared tree: from a directory and a name to a descriptor, never outside.
 *
 * A file is held by an O_PATH descriptor, which opens nothing and cannot change
 * what it means.  Names are resolved a component at a time, and the kernel
 * itself refuses to leave the directory or to follow a symbolic link.  What is
 * then opened is what was looked at, by its descriptor's name in /proc, so
 * nobody can slip in a FIFO or a link between the two.
 *
 * ".." is the one step up.  The root's is the root; another must have the root
 * above it, or the host has moved the directory out of the tree meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "p9/p9_impl.h"

#define RESOLVE_INSIDE \
	(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS)
#define DEPTH_MAX 512 /* directories above one, when looking for the root */

struct link {
	char name[16]; /* of a descriptor in /proc/self/fd */
};

static struct link
link_name(int fd)
{
	struct link link;

	(void)snprintf(link.name, sizeof(link.name), "%d", fd);
	return link;
}

static int
fd_or_errno(int fd)
{
	return fd < 0 ? -errno : fd;
}

bool
p9_is_root(const struct p9 *server, dev_t dev, ino_t ino)
{
	return dev == server->root_dev && ino == server->root_ino;
}

int
p9_tree_step(int dir, const char *name, uint64_t flags, mode_t mode)
{
	struct open_how how = {
		.flags = flags | O_NOFOLLOW | O_CLOEXEC,
		.mode = mode,
		.resolve = RESOLVE_INSIDE,
	};

	/* EAGAIN: something was renamed meanwhile; a busy host gets us few. */
	for (int tries = 0; tries < 16; tries++) {
		int fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));

		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

static int
parent_of(int dir)
{
	return fd_or_errno(openat(dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* Is the root this directory, or above it? */
static bool
below_root(const struct p9 *server, int dir)
{
	struct stat st, above;
	int here = fcntl(dir, F_DUPFD_CLOEXEC, 0);
	bool found = false;

	if (here < 0)
		return false;
	for (int depth = 0; depth < DEPTH_MAX && fstat(here, &st) == 0;
	     depth++) {
		int next;

		found = p9_is_root(server, st.st_dev, st.st_ino);
		if (found)
			break;
		next = parent_of(here);
		if (next < 0)
			break;
		(void)close(here);
		here = next;
		/* The host's root is above itself. */
		if (fstat(here, &above) != 0 ||
		    (above.st_dev == st.st_dev && above.st_ino == st.st_ino))
			break;
	}
	(void)close(here);
	return found;
}

int
p9_tree_up(const struct p9 *server, int dir)
{
	struct stat st;
	int up;

	if (fstat(dir, &st) != 0)
		return -errno;
	if (p9_is_root(server, st.st_dev, st.st_ino))
		return fd_or_errno(fcntl(dir, F_DUPFD_CLOEXEC, 0));
	up = parent_of(dir);
	if (up >= 0 && !below_root(server, up)) {
		(void)close(up);
		return -EXDEV;
	}
	return up;
}

int
p9_tree_open(const struct p9 *server, int path, mode_t type, int flags)
{
	if (S_ISLNK(type))
		return -ELOOP;
	if (!S_ISREG(type) && !S_ISDIR(type))
		return -ENXIO;
	/* Not to wait for the holder of a lease. */
	return fd_or_errno(openat(server->proc, link_name(path).name,
	    flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
}

int
p9_tree_path(const struct p9 *server, int fd)
{
	return fd_or_errno(
	    openat(server->proc, link_name(fd).name, O_PATH | O_CLOEXEC));
}

int
p9_tree_chmod(const struct p9 *server, int path, mode_t mode)
{
	return fchmodat(server->proc, link_name(path).name, mode, 0) == 0 ?
	    0 :
	    -errno;
}

int
p9_tree_link(const struct p9 *server, int path, int dir, const char *name)
{
	return linkat(server->proc, link_name(path).name, dir, name,
		   AT_SYMLINK_FOLLOW) == 0 ?
	    0 :
	    -errno;
}

static int
read_link(const struct p9 *server, int fd, char path[PATH_MAX])
{
	ssize_t len =
	    readlinkat(server->proc, link_name(fd).name, path, PATH_MAX);

	if (len < 0)
		return -errno;
	if (len == PATH_MAX)
		return -ENAMETOOLONG;
	path[len] = '\0';
	return 0;
}

/*
 * The kernel knows where a file was found.  That is a hint: it counts only if
 * the way from the root by these names leads to the file.
 */
int
p9_tree_parent(const struct p9 *server, int path, char name[NAME_MAX + 1])
{
	char root[PATH_MAX], full[PATH_MAX], *rest, *last;
	struct stat st, found;
	int dir, fd, r;
	size_t len;

	if ((r = read_link(server, server->root, root)) < 0 ||
	    (r = read_link(server, path, full)) < 0)
		return r;
	len = strcmp(root, "/") == 0 ? 0 : strlen(root);
	if (strncmp(full, root, len) != 0 || full[len] != '/')
		return -ENOENT;
	rest = full + len + 1;
	last = strrchr(rest, '/');
	if (last == NULL) {
		last = rest;
		rest = NULL;
	} else {
		*last++ = '\0';
	}
	len = strlen(last);
	if (len == 0 || len > NAME_MAX)
		return -ENOENT;
	memcpy(name, last, len + 1);

	dir = p9_tree_step(server->root, rest == NULL ? "." : rest,
	    O_PATH | O_DIRECTORY, 0);
	if (dir < 0)
		return dir;
	fd = p9_tree_step(dir, name, O_PATH, 0);
	if (fd < 0 || fstat(fd, &found) != 0 || fstat(path, &st) != 0 ||
	    found.st_dev != st.st_dev || found.st_ino != st.st_ino)
		r = -ENOENT;
	if (fd >= 0)
		(void)close(fd);
	if (r < 0) {
		(void)close(dir);
		return r;
	}
	return dir;
}
