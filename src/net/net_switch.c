/*
 * switch: several machines on one segment, with no process in the middle.
 *
 * `path` is a directory.  Each port is a unix datagram socket in it, port-0,
 * port-1, and so on: whoever opens the switch takes the first that is free.  A
 * frame goes straight to the port behind which its destination was last seen,
 * and to all others if that is not known, or for broadcast and multicast.  Who
 * may use the directory is on the switch; its permissions are the only ones.
 *
 * Ports        The directory is watched, and read again when it changes or a
 *              port refuses; one that nobody serves any more is removed.  Who
 *              removes or takes one holds a flock(2) of the directory, or the
 *              two could be about the same.
 * Learning     from the sources of what arrives, by the number in the sender's
 *              name.  It is forgotten after five minutes (IEEE 802.1D, 7.9.2).
 * Pressure     There is no waiting for room in another's socket: the card is
 *              told to try again a little later.  A port that has had no room
 *              for STUCK_NS, of a machine that is paused perhaps, loses frames
 *              instead, and so do those that are flooded.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "net/net_impl.h"

#define PORTS_MAX 256
#define PORT_PREFIX "port-"
#define LEARNED_MAX 1024
#define LEARNED_NS (300 * NS_PER_SEC)
#define STUCK_NS (NS_PER_SEC / 50)
#define SOCKET_ROOM (1024 * 1024)
#define NAMELESS_MAX 64 /* frames of no port that one call drops */

struct port {
	bool there;
	uint64_t stuck; /* ns: since when it has no room; 0: it has */
};

struct learned {
	uint8_t mac[NET_MAC_LEN];
	uint8_t port;
	uint64_t when; /* ns; 0: an empty entry */
};

struct net_switch {
	char *dir; /* owned */
	unsigned number;
	bool bound;
	int dirfd;   /* -1: none */
	int inotify; /* -1: none */

	struct lock lock; /* below tx and rx */
	/* Guarded by it. */
	struct port ports[PORTS_MAX];
	struct learned learned[LEARNED_MAX];
};
_Static_assert(PORTS_MAX <= UINT8_MAX + 1, "struct learned's number");

static socklen_t
port_addr(const struct net_switch *sw, unsigned number, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	/* switch_open() has seen that the longest fits. */
	(void)snprintf(sun->sun_path, sizeof(sun->sun_path), "%s/%s%u", sw->dir,
	    PORT_PREFIX, number);
	return sizeof(*sun);
}

/* The number of the port with this file name, or -1. */
static int
port_number(const char *name)
{
	uint64_t number;

	if (strncmp(name, PORT_PREFIX, strlen(PORT_PREFIX)) != 0)
		return -1;
	name += strlen(PORT_PREFIX);
	if (name[0] < '0' || name[0] > '9' || (name[0] == '0' && name[1]) ||
	    parse_uint(name, PORTS_MAX - 1, &number) < 0)
		return -1;
	return (int)number;
}

/*
 * Remove a port that nobody serves, with the directory locked; false: it is in
 * use, or cannot be.
 */
static bool
port_clear(const struct net_switch *sw, unsigned number)
{
	struct sockaddr_un sun;
	socklen_t len = port_addr(sw, number, &sun);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct stat st;
	bool dead;

	if (fd < 0)
		return false;
	dead = lstat(sun.sun_path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	    connect(fd, (struct sockaddr *)&sun, len) < 0 &&
	    errno == ECONNREFUSED;
	close(fd);
	return dead && unlink(sun.sun_path) == 0;
}

static void
switch_scan(struct net_switch *sw)
{
	bool there[PORTS_MAX] = { false };
	DIR *dir = opendir(sw->dir);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		int number = port_number(entry->d_name);

		if (number >= 0 && (unsigned)number != sw->number)
			there[number] = true;
	}
	if (dir != NULL)
		closedir(dir);
	lock_take(&sw->lock);
	for (unsigned i = 0; i < PORTS_MAX; i++)
		if (sw->ports[i].there != there[i])
			sw->ports[i] = (struct port) { .there = there[i] };
	lock_drop(&sw->lock);
}

static void
on_change(void *arg, int fd, unsigned ready)
{
	struct net_switch *sw = arg;
	char events[4096];

	while (read(fd, events, sizeof(events)) > 0)
		; /* what has changed is seen by looking */
	switch_scan(sw);
}

/* ---- learning ----------------------------------------------------------- */

static struct learned *
learned_slot(struct net_switch *sw, const uint8_t mac[NET_MAC_LEN])
{
	/* The last bytes differ most. */
	uint32_t hash = (be32_load(mac + 2) ^ be16_load(mac)) * 0x9e3779b1u;

	return &sw->learned[hash >> 22];
}
_Static_assert(LEARNED_MAX == 1 << (32 - 22), "learned_slot()'s shift");

static void
switch_learn(struct net_switch *sw, const uint8_t mac[NET_MAC_LEN], int port)
{
	struct learned *slot = learned_slot(sw, mac);

	if (mac[0] & 1)
		return;
	lock_take(&sw->lock);
	memcpy(slot->mac, mac, NET_MAC_LEN);
	slot->port = (uint8_t)port;
	slot->when = net_now();
	lock_drop(&sw->lock);
}

/* The port behind which a destination is, or -1. */
static int
switch_find_locked(struct net_switch *sw, const uint8_t mac[NET_MAC_LEN],
    uint64_t now)
{
	const struct learned *slot = learned_slot(sw, mac);

	assert(lock_held(&sw->lock));
	if ((mac[0] & 1) || slot->when == 0 || now - slot->when > LEARNED_NS ||
	    memcmp(slot->mac, mac, NET_MAC_LEN) != 0 ||
	    !sw->ports[slot->port].there)
		return -1;
	return slot->port;
}

/* ---- frames ------------------------------------------------------------- */

/* To one port: 0, -EBUSY, or another error when it is dropped. */
static int
send_to_locked(struct net_switch *sw, int fd, unsigned number,
    const struct iovec *iov, unsigned count, uint64_t now)
{
	struct port *port = &sw->ports[number];
	struct sockaddr_un sun;
	const struct msghdr msg = {
		.msg_name = &sun,
		.msg_namelen = port_addr(sw, number, &sun),
		.msg_iov = (struct iovec *)(uintptr_t)iov, /* only read */
		.msg_iovlen = count,
	};

	assert(lock_held(&sw->lock));
	if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
		port->stuck = 0;
		return 0;
	}
	switch (errno) {
	case EAGAIN:
	case ENOBUFS:
		if (port->stuck == 0)
			port->stuck = now;
		return now - port->stuck < STUCK_NS ? -EBUSY : -EAGAIN;
	case ECONNREFUSED:
		/* Its owner was killed.  If this fails the next one removes it. */
		if (flock(sw->dirfd, LOCK_EX | LOCK_NB) == 0) {
			(void)port_clear(sw, number);
			(void)flock(sw->dirfd, LOCK_UN);
		}
		/* fall through */
	case ENOENT:
		port->there = false;
		return -ECONNREFUSED;
	default:
		return -errno;
	}
}

static int
switch_send(struct net_queue *q, const struct iovec *iov, unsigned count,
    size_t len)
{
	struct net_switch *sw = q->net->own;
	uint8_t mac[NET_MAC_LEN];
	uint64_t now = net_now();
	int port, rc = -ENOTCONN;

	if (net_iov_get(iov, count, 0, mac, sizeof(mac)) != sizeof(mac))
		return -EINVAL;
	lock_take(&sw->lock);
	port = switch_find_locked(sw, mac, now);
	if (port >= 0) {
		rc = send_to_locked(sw, q->fd, (unsigned)port, iov, count, now);
		if (rc == -EAGAIN) /* stuck for long: dropped */
			rc = -ENOBUFS;
	} else {
		for (unsigned i = 0; i < PORTS_MAX; i++)
			if (sw->ports[i].there &&
			    send_to_locked(sw, q->fd, i, iov, count, now) == 0)
				rc = 0;
	}
	lock_drop(&sw->lock);
	return rc;
}

static ssize_t
switch_recv(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	struct net_switch *sw = q->net->own;

	for (unsigned i = 0; i < NAMELESS_MAX; i++) {
		struct sockaddr_un from = { 0 };
		struct msghdr msg = {
			.msg_name = &from,
			.msg_namelen = sizeof(from) - 1, /* ends with a NUL */
			.msg_iov = (struct iovec *)(uintptr_t)iov,
			.msg_iovlen = count,
		};
		ssize_t len = recvmsg(q->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);
		const char *slash;
		uint8_t mac[NET_MAC_LEN];
		int port;

		if (len < 0)
			return -EAGAIN;
		slash = strrchr(from.sun_path, '/');
		port = slash == NULL ? -1 : port_number(slash + 1);
		if (port < 0 || (unsigned)port == sw->number)
			continue; /* not of the switch */
		if (len >= NET_ETHER_HDR &&
		    net_iov_get(iov, count, NET_MAC_LEN, mac, sizeof(mac)) ==
			sizeof(mac))
			switch_learn(sw, mac, port);
		return len;
	}
	return -EAGAIN; /* the descriptor is still ready: it goes on soon */
}

/* ---- life --------------------------------------------------------------- */

/* Take the first port that is free. */
static int
switch_bind(struct net_switch *sw, int fd, struct err *err)
{
	for (unsigned i = 0; i < PORTS_MAX; i++) {
		struct sockaddr_un sun;
		socklen_t len = port_addr(sw, i, &sun);

		for (unsigned tries = 0; tries < 2; tries++) {
			if (bind(fd, (struct sockaddr *)&sun, len) == 0) {
				sw->number = i;
				sw->bound = true;
				return 0;
			}
			if (errno != EADDRINUSE)
				return err_set_errno(err, -errno, "switch: %s",
				    sun.sun_path);
			if (!port_clear(sw, i))
				break;
		}
	}
	return err_set(err, -EBUSY, "switch: %s: all %d ports are taken",
	    sw->dir, PORTS_MAX);
}

static int
switch_open(struct net *net, const char *name, struct err *err)
{
	struct net_switch *sw = xcalloc(1, sizeof(*sw));
	struct net_queue *q;
	struct event *event;
	struct sockaddr_un sun;
	int room = SOCKET_ROOM;
	char *longest;
	int rc;

	net->own = sw;
	sw->dirfd = -1;
	sw->inotify = -1;
	lock_init(&sw->lock);
	rc = config_str(net->node, "path", NULL, &sw->dir, err);
	if (rc < 0)
		return rc;
	if (sw->dir == NULL)
		return err_set(err, -EINVAL,
		    "switch: no path, the directory that is the switch");
	longest = xasprintf("%s/%s%d", sw->dir, PORT_PREFIX, PORTS_MAX - 1);
	rc = net_unix_addr(&sun, longest, err);
	free(longest);
	if (rc == 0)
		rc = net_queues(net, 1, err);
	if (rc < 0)
		return rc;
	q = &net->queues[0];
	q->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (q->fd < 0)
		return err_set_errno(err, -errno, "socket");
	/* As much as the host allows; less is only slower. */
	(void)setsockopt(q->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	sw->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (sw->inotify < 0 ||
	    inotify_add_watch(sw->inotify, sw->dir,
		IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
		    IN_ONLYDIR) < 0)
		return err_set_errno(err, -errno, "switch: %s", sw->dir);
	sw->dirfd = open(sw->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (sw->dirfd < 0 || flock(sw->dirfd, LOCK_EX) < 0)
		return err_set_errno(err, -errno, "switch: %s", sw->dir);
	rc = switch_bind(sw, q->fd, err);
	(void)flock(sw->dirfd, LOCK_UN); /* closing would do it, too */
	if (rc < 0)
		return rc;
	switch_scan(sw);
	/* The loop removes it. */
	return event_add_fd(q->loop, sw->inotify, EVENT_READ, on_change, sw,
	    &event, err);
}

static void
switch_close(struct net *net)
{
	struct net_switch *sw = net->own;
	struct sockaddr_un sun;

	if (sw->bound) {
		(void)port_addr(sw, sw->number, &sun);
		(void)unlink(sun.sun_path); /* else others remove it */
	}
	if (sw->inotify >= 0)
		close(sw->inotify);
	if (sw->dirfd >= 0)
		close(sw->dirfd);
	lock_fini(&sw->lock);
	free(sw->dir);
	free(sw);
}

const struct net_family net_switch = {
	.name = "switch",
	.open = switch_open,
	.close = switch_close,
	.send = switch_send,
	.recv = switch_recv,
};
