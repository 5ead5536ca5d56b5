/*
 * p2p: a cable between two machines.
 *
 * path=PATH            A unix socket of packets (SOCK_SEQPACKET).  Both ends are
 *                      configured alike: who finds nobody at the path listens
 *                      there, the other connects.  The link is up while both
 *                      are there.  The path is removed once they have met.
 *                      All of this happens under a flock(2) of the directory:
 *                      a socket that is bound but does not listen yet looks
 *                      just like one left behind.
 * local=A, remote=B    UDP between two addresses, ADDR:PORT or [ADDR6]:PORT;
 *                      what comes from anywhere else is dropped.  Nobody knows
 *                      whether the other is there: the link is always up.
 *                      Frames are in the clear, so the network between the two
 *                      had better be trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "net/net_impl.h"

#define SOCKET_ROOM (1024 * 1024)
#define FOREIGN_MAX 64 /* datagrams of others dropped in one call */

struct p2p {
	bool udp;
	struct sockaddr_storage remote;
	socklen_t remote_len;

	/* The loop's thread. */
	struct sockaddr_un sun;
	int dirfd;    /* where the path is; -1: none */
	int listener; /* -1: none */
	dev_t dev;    /* of the path, while we listen */
	ino_t ino;
};

/* ---- unix --------------------------------------------------------------- */

/* Cease to listen; the path goes if it is still ours. */
static void
p2p_unlisten(struct p2p *p2p)
{
	struct stat st;

	if (p2p->listener < 0)
		return;
	close(p2p->listener);
	p2p->listener = -1;
	if (lstat(p2p->sun.sun_path, &st) == 0 && st.st_dev == p2p->dev &&
	    st.st_ino == p2p->ino)
		(void)unlink(p2p->sun.sun_path); /* else it stays, refused */
}

static void
p2p_listen(struct p2p *p2p)
{
	const struct sockaddr *addr = (const struct sockaddr *)&p2p->sun;
	int fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return;
	if (bind(fd, addr, sizeof(p2p->sun)) < 0 || listen(fd, 1) < 0 ||
	    lstat(p2p->sun.sun_path, &st) < 0) {
		close(fd); /* the other end was quicker; or later, perhaps */
		return;
	}
	p2p->listener = fd;
	p2p->dev = st.st_dev;
	p2p->ino = st.st_ino;
}

static int
p2p_connect(struct p2p *p2p)
{
	const struct sockaddr *addr = (const struct sockaddr *)&p2p->sun;
	int fd =
	    socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return -1;
	if (connect(fd, addr, sizeof(p2p->sun)) == 0)
		return fd;
	/* Left behind by somebody who has gone. */
	if (errno == ECONNREFUSED && lstat(p2p->sun.sun_path, &st) == 0 &&
	    S_ISSOCK(st.st_mode))
		(void)unlink(p2p->sun.sun_path);
	close(fd);
	return -1;
}

/* Find the other end, with the directory locked: a descriptor, or -1. */
static int
p2p_meet(struct p2p *p2p)
{
	struct stat st;
	int fd;

	if (p2p->listener >= 0) {
		fd = accept4(p2p->listener, NULL, NULL,
		    SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			p2p_unlisten(p2p);
			return fd;
		}
		if (lstat(p2p->sun.sun_path, &st) == 0 &&
		    st.st_dev == p2p->dev && st.st_ino == p2p->ino)
			return -1;
		p2p_unlisten(p2p); /* somebody has removed the path */
	}
	fd = p2p_connect(p2p);
	if (fd < 0)
		p2p_listen(p2p);
	return fd;
}

static int
p2p_reopen(struct net_queue *q)
{
	struct p2p *p2p = q->net->own;
	int room = SOCKET_ROOM, fd;

	/* Busy, with the other end perhaps: next time. */
	if (flock(p2p->dirfd, LOCK_EX | LOCK_NB) < 0)
		return -1;
	fd = p2p_meet(p2p);
	(void)flock(p2p->dirfd, LOCK_UN); /* closing would do it, too */
	/* As much as the host allows; less is only slower. */
	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room,
		    sizeof(room));
	return fd;
}

static int
p2p_open_unix(struct p2p *p2p, const char *path, struct err *err)
{
	char *dir;
	int rc = net_unix_addr(&p2p->sun, path, err);

	if (rc < 0)
		return rc;
	dir = xstrdup(path); /* dirname(3) writes to it */
	p2p->dirfd = open(dirname(dir), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p2p->dirfd < 0)
		rc = err_set_errno(err, -errno, "p2p: %s", dir);
	free(dir);
	return rc;
}

/* ---- UDP ---------------------------------------------------------------- */

/* Numbers only: no name service at boot. */
static int
parse_address(const char *key, const char *text, struct sockaddr_storage *ss,
    socklen_t *len, struct err *err)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_DGRAM,
	};
	const char *colon = strrchr(text, ':'), *from = text;
	struct addrinfo *ai;
	char host[64];
	uint64_t port;
	size_t n = colon == NULL ? 0 : (size_t)(colon - text);

	if (n > 2 && from[0] == '[' && from[n - 1] == ']') {
		from++;
		n -= 2;
	} else if (memchr(from, ':', n) != NULL) {
		n = 0; /* which colon is which? */
	}
	if (n == 0 || n >= sizeof(host) ||
	    parse_uint(colon + 1, UINT16_MAX, &port) < 0 || port == 0)
		goto malformed;
	memcpy(host, from, n);
	host[n] = '\0';
	if (getaddrinfo(host, colon + 1, &hints, &ai) != 0)
		goto malformed;
	memcpy(ss, ai->ai_addr, ai->ai_addrlen);
	*len = ai->ai_addrlen;
	freeaddrinfo(ai);
	return 0;

malformed:
	return err_set(err, -EINVAL,
	    "%s: %s: not of the form ADDR:PORT or [ADDR6]:PORT", key, text);
}

static bool
from_remote(const struct p2p *p2p, const struct sockaddr_storage *ss)
{
	if (ss->ss_family != p2p->remote.ss_family)
		return false;
	if (ss->ss_family == AF_INET6) {
		const struct sockaddr_in6 *a = (const void *)ss;
		const struct sockaddr_in6 *b = (const void *)&p2p->remote;

		return a->sin6_port == b->sin6_port &&
		    IN6_ARE_ADDR_EQUAL(&a->sin6_addr, &b->sin6_addr);
	}
	const struct sockaddr_in *a = (const void *)ss;
	const struct sockaddr_in *b = (const void *)&p2p->remote;

	return a->sin_port == b->sin_port &&
	    a->sin_addr.s_addr == b->sin_addr.s_addr;
}

static int
p2p_send(struct net_queue *q, const struct iovec *iov, unsigned count,
    size_t len)
{
	struct p2p *p2p = q->net->own;
	const struct msghdr msg = {
		.msg_name = &p2p->remote,
		.msg_namelen = p2p->remote_len,
		.msg_iov = (struct iovec *)(uintptr_t)iov, /* only read */
		.msg_iovlen = count,
	};

	if (!p2p->udp)
		return net_packet_send(q, iov, count, len);
	return sendmsg(q->fd, &msg, MSG_DONTWAIT) < 0 ? -errno : 0;
}

static ssize_t
p2p_recv(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	struct p2p *p2p = q->net->own;

	if (!p2p->udp)
		return net_packet_recv(q, iov, count);
	for (unsigned i = 0; i < FOREIGN_MAX; i++) {
		struct sockaddr_storage from = { 0 };
		struct msghdr msg = {
			.msg_name = &from,
			.msg_namelen = sizeof(from),
			.msg_iov = (struct iovec *)(uintptr_t)iov,
			.msg_iovlen = count,
		};
		ssize_t len = recvmsg(q->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);

		if (len < 0)
			return -EAGAIN; /* nothing, or the network's troubles */
		if (from_remote(p2p, &from))
			return len;
	}
	return -EAGAIN; /* the descriptor is still ready: it goes on soon */
}

static int
p2p_open_udp(struct net *net, const char *local, const char *remote,
    struct err *err)
{
	struct p2p *p2p = net->own;
	struct sockaddr_storage ss = { 0 };
	socklen_t len;
	int fd, rc = parse_address("local", local, &ss, &len, err);

	if (rc == 0)
		rc = parse_address("remote", remote, &p2p->remote,
		    &p2p->remote_len, err);
	if (rc < 0)
		return rc;
	if (ss.ss_family != p2p->remote.ss_family)
		return err_set(err, -EINVAL,
		    "local and remote: one is IPv4, the other IPv6");
	p2p->udp = true;
	fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set_errno(err, -errno, "socket");
	net->queues[0].fd = fd;
	if (bind(fd, (struct sockaddr *)&ss, len) < 0)
		return err_set_errno(err, -errno, "local: %s", local);
	return 0;
}

/* ---- both --------------------------------------------------------------- */

static int
p2p_open(struct net *net, const char *name, struct err *err)
{
	struct p2p *p2p = xcalloc(1, sizeof(*p2p));
	char *path = NULL, *local = NULL, *remote = NULL;
	int rc;

	net->own = p2p;
	p2p->dirfd = -1;
	p2p->listener = -1;
	rc = config_str(net->node, "path", NULL, &path, err);
	if (rc == 0)
		rc = config_str(net->node, "local", NULL, &local, err);
	if (rc == 0)
		rc = config_str(net->node, "remote", NULL, &remote, err);
	if (rc == 0)
		rc = net_queues(net, 1, err);
	if (rc < 0)
		goto out;
	if ((path != NULL) == (local != NULL) ||
	    (local != NULL) != (remote != NULL))
		rc = err_set(err, -EINVAL,
		    "p2p: needs path, or both of local and remote");
	else if (path != NULL)
		rc = p2p_open_unix(p2p, path, err);
	else
		rc = p2p_open_udp(net, local, remote, err);
out:
	free(path);
	free(local);
	free(remote);
	return rc;
}

static void
p2p_close(struct net *net)
{
	struct p2p *p2p = net->own;

	p2p_unlisten(p2p);
	if (p2p->dirfd >= 0)
		close(p2p->dirfd);
	free(p2p);
}

const struct net_family net_p2p = {
	.name = "p2p",
	.open = p2p_open,
	.close = p2p_close,
	.send = p2p_send,
	.recv = p2p_recv,
	.reopen = p2p_reopen,
};
