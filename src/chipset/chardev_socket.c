/*
 * socket,PATH and tcp=ADDR:PORT: a stream socket that one client uses.
 *
 * A client that ends its side has gone; then the next may come.  One that comes
 * too early is told so in bhyve's words on TCP, and just shut on a unix socket.
 * One that comes while we have not yet read the end of the last (a guest that
 * does not read) takes its place: what fits is read before, the rest is lost.
 *
 * PATH may be there already as a socket that nobody serves: it is replaced.  A
 * living server keeps its path, and what is no socket is never removed.
 *
 * A TCP peer that vanished is noticed by keep-alives or by output that it does
 * not acknowledge, in about a minute.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/parse.h"
#include "chipset/chardev_impl.h"

#define BACKLOG 4
#define RETRY_NS NS_PER_SEC
#define PEER_TIMEOUT_S 60

struct server {
	int fd;
	bool tcp;
	struct event *event;
	struct event *retry; /* out of descriptors: accept again later */
	char *path;          /* owned; unix, once it is ours */
	dev_t path_dev;
	ino_t path_ino;
};

static void
refuse(const struct server *server, int fd)
{
	/* With its NUL. */
	static const char words[] = "Socket already connected\n";
	char unread[4096];

	if (server->tcp)
		(void)send(fd, words, sizeof(words),
		    MSG_DONTWAIT | MSG_NOSIGNAL); /* it may have left */
	shutdown(fd, SHUT_WR);
	/* Closing with input unread would reset, and the words be lost. */
	(void)!recv(fd, unread, sizeof(unread), MSG_DONTWAIT);
	close(fd);
}

/* Has the client ended its side, or the connection failed? */
static bool
client_gone(const struct chardev *dev)
{
	struct pollfd pfd = { .fd = dev->in.fd, .events = POLLRDHUP };

	return poll(&pfd, 1, 0) == 1;
}

static void
set_tcp_options(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, PEER_TIMEOUT_S / 2 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, PEER_TIMEOUT_S / 6 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 3 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, PEER_TIMEOUT_S * 1000 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) /* only comfort */
		(void)setsockopt(fd, options[i].level, options[i].name,
		    &options[i].value, sizeof(int));
}

static void
on_connect(void *arg, int listener, unsigned ready)
{
	struct chardev *dev = arg;
	struct server *server = dev->own;
	struct err err;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
		    errno == ENOMEM) {
			event_set_interest(server->event, 0);
			event_arm(server->retry, RETRY_NS, 0);
		}
		return;
	}
	if (chardev_attached(dev) && client_gone(dev)) {
		while (chardev_pump(dev))
			; /* ends: what the kernel has buffered is finite */
		chardev_detach(dev);
	}
	if (chardev_attached(dev)) {
		refuse(server, fd);
		return;
	}
	if (server->tcp)
		set_tcp_options(fd);
	if (chardev_attach_one(dev, fd, &err) < 0)
		log_warn("%s: %s", dev->address, err.msg);
}

static void
on_retry(void *arg, uint64_t expirations)
{
	struct server *server = arg;

	event_set_interest(server->event, EVENT_READ);
}

static void
server_ended(struct chardev *dev)
{
	chardev_detach(dev);
}

static void
server_destroy(struct chardev *dev)
{
	struct server *server = dev->own;
	struct stat st;

	event_remove(server->event);
	event_remove(server->retry);
	if (server->fd >= 0)
		close(server->fd);
	if (server->path != NULL && lstat(server->path, &st) == 0 &&
	    st.st_dev == server->path_dev && st.st_ino == server->path_ino)
		(void)unlink(server->path); /* somebody else was quicker */
	free(server->path);
	free(server);
}

static const struct chardev_family server_family = {
	.ended = server_ended,
	.destroy = server_destroy,
};

static struct server *
server_new(struct chardev *dev, bool tcp)
{
	struct server *server = xcalloc(1, sizeof(*server));

	server->fd = -1;
	server->tcp = tcp;
	dev->own = server;
	dev->family = &server_family;
	return server;
}

/* The socket is bound: have clients come. */
static int
server_listen(struct chardev *dev, struct err *err)
{
	struct server *server = dev->own;
	int rc;

	if (listen(server->fd, BACKLOG) < 0)
		return err_set_errno(err, -errno, "cannot listen");
	rc = event_add_timer(dev->loop, on_retry, server, &server->retry, err);
	return rc < 0 ? rc :
			event_add_fd(dev->loop, server->fd, EVENT_READ,
			    on_connect, dev, &server->event, err);
}

/* ---- unix --------------------------------------------------------------- */

/* Remove what an earlier run left behind. */
static int
clear_path(const struct sockaddr_un *sun, struct err *err)
{
	struct stat st;
	int fd, rc;

	if (lstat(sun->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "exists and is no socket");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set_errno(err, -errno, "socket");
	rc = connect(fd, (const struct sockaddr *)sun, sizeof(*sun));
	if (rc < 0 && errno == ECONNREFUSED)
		rc = unlink(sun->sun_path) < 0 ?
		    err_set_errno(err, -errno, "cannot replace it") :
		    0;
	else
		rc = err_set(err, -EADDRINUSE, "in use");
	close(fd);
	return rc;
}

int
chardev_unix_open(struct chardev *dev, const char *text, struct err *err)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct server *server;
	struct stat st;
	int rc;

	if (strchr(text, ',') != NULL)
		return err_set(err, -EINVAL, "unknown option after the path");
	if (text[0] == '\0' || strlen(text) >= sizeof(sun.sun_path))
		return err_set(err, -EINVAL, "a path has 1 to %zu characters",
		    sizeof(sun.sun_path) - 1);
	memcpy(sun.sun_path, text, strlen(text));
	server = server_new(dev, false);
	dev->address = xstrdup(text);
	rc = clear_path(&sun, err);
	if (rc < 0)
		return rc;
	server->fd =
	    socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->fd < 0 ||
	    bind(server->fd, (struct sockaddr *)&sun, sizeof(sun)) < 0 ||
	    lstat(text, &st) < 0)
		return err_set_errno(err, -errno, "cannot make the socket");
	server->path = xstrdup(text);
	server->path_dev = st.st_dev;
	server->path_ino = st.st_ino;
	return server_listen(dev, err);
}

/* ---- TCP ---------------------------------------------------------------- */

/* ADDR:PORT or [ADDR6]:PORT, numbers only: no name service at boot. */
static int
parse_address(const char *text, struct addrinfo **found, struct err *err)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM,
	};
	const char *colon = strrchr(text, ':');
	char host[64];
	uint64_t port;
	size_t len;
	int gai;

	len = colon == NULL ? 0 : (size_t)(colon - text);
	if (len > 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	} else if (memchr(text, ':', len) != NULL) {
		len = 0; /* which colon is which? */
	}
	if (len == 0 || len >= sizeof(host) ||
	    parse_uint(colon + 1, UINT16_MAX, &port) < 0)
		return err_set(err, -EINVAL,
		    "not of the form ADDR:PORT or [ADDR6]:PORT");
	memcpy(host, text, len);
	host[len] = '\0';
	gai = getaddrinfo(host, colon + 1, &hints, found);
	if (gai != 0)
		return err_set(err, -EINVAL, "%s", gai_strerror(gai));
	return 0;
}

static char *
bound_address(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char host[64], port[8];

	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&ss, len, host, sizeof(host), port,
		sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return xstrdup("tcp");
	return xasprintf(ss.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
	    port);
}

int
chardev_tcp_open(struct chardev *dev, const char *text, struct err *err)
{
	struct server *server;
	struct addrinfo *ai;
	int rc = parse_address(text, &ai, err);

	if (rc < 0)
		return rc;
	server = server_new(dev, true);
	server->fd = socket(ai->ai_family,
	    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->fd < 0 ||
	    setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &(int) { 1 },
		sizeof(int)) < 0 ||
	    (ai->ai_family == AF_INET6 &&
		setsockopt(server->fd, IPPROTO_IPV6, IPV6_V6ONLY, &(int) { 1 },
		    sizeof(int)) < 0) ||
	    bind(server->fd, ai->ai_addr, ai->ai_addrlen) < 0)
		rc = err_set_errno(err, -errno, "cannot bind");
	freeaddrinfo(ai);
	if (rc < 0)
		return rc;
	rc = server_listen(dev, err);
	if (rc == 0)
		dev->address = bound_address(server->fd);
	return rc;
}
