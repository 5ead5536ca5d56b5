/*
 * slirp: user networking by libslirp, without privileges.
 *
 * The guest is on 10.0.2.0/24: 10.0.2.2 is the host, 10.0.2.3 a name server,
 * DHCP leases begin at 10.0.2.15.  Without `open` it reaches nothing outside;
 * only ports named by `hostfwd` reach it.
 *
 * libslirp runs on a thread of its own with a poll loop of its own, because it
 * wants to name its descriptors anew each time.  Frames travel between it and
 * the rest through a pair of packet sockets, so the kernel does the queueing and
 * the waking, and nothing else is shared: the thread could be a process.  What
 * the guest does not take in time is dropped, and TCP sends it again.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/parse.h"
#include "net/net_impl.h"

#define ADDR(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))
#define SLIRP_NETWORK ADDR(10, 0, 2, 0)
#define SLIRP_NETMASK ADDR(255, 255, 255, 0)
#define SLIRP_HOST ADDR(10, 0, 2, 2)
#define SLIRP_DNS ADDR(10, 0, 2, 3)
#define SLIRP_DHCP ADDR(10, 0, 2, 15)
#define SLIRP_FRAME_MAX 2048 /* as bhyve */
#define SLIRP_BATCH 64       /* frames between looks at the sockets */
#define SOCKET_ROOM (1024 * 1024)
#define NS_PER_MS 1000000ULL

struct slirp_timer {
	struct slirp_timer *next;
	SlirpTimerCb fn;
	void *arg;
	int64_t at_ms; /* -1: not armed */
};

struct slirp_end {
	int fd;   /* our end of the pair; -1: none */
	int stop; /* eventfd; -1: none */
	bool running;
	pthread_t thread;

	/* The thread's, once it runs. */
	Slirp *slirp;
	struct slirp_timer *timers; /* owned */
	struct pollfd *fds;         /* owned: ours, then libslirp's */
	unsigned fd_count;
	unsigned fd_room;
};

enum { FD_FRAMES, FD_STOP, FD_FIRST };

/* ---- what libslirp calls ------------------------------------------------ */

static ssize_t
on_send_packet(const void *buf, size_t len, void *opaque)
{
	struct slirp_end *end = opaque;

	/* A frame that finds no room is lost: TCP sends it again. */
	(void)send(end->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return (ssize_t)len;
}

static void
on_guest_error(const char *msg, void *opaque)
{
	static struct log_limit limit;

	log_guest(&limit, "slirp: %s", msg);
}

static int64_t
on_clock(void *opaque)
{
	return (int64_t)net_now();
}

static void *
on_timer_new(SlirpTimerCb fn, void *arg, void *opaque)
{
	struct slirp_end *end = opaque;
	struct slirp_timer *timer = xcalloc(1, sizeof(*timer));

	timer->fn = fn;
	timer->arg = arg;
	timer->at_ms = -1;
	timer->next = end->timers;
	end->timers = timer;
	return timer;
}

static void
on_timer_free(void *handle, void *opaque)
{
	struct slirp_end *end = opaque;

	for (struct slirp_timer **p = &end->timers; *p != NULL;
	     p = &(*p)->next) {
		if (*p == handle) {
			*p = (*p)->next;
			free(handle);
			return;
		}
	}
}

static void
on_timer_mod(void *handle, int64_t at_ms, void *opaque)
{
	struct slirp_timer *timer = handle;

	timer->at_ms = at_ms;
}

static void
on_poll_fd(int fd, void *opaque)
{
	/* It names them all again before each poll. */
}

static void
on_notify(void *opaque)
{
	/* Comes on the thread itself, which polls next anyway. */
}

static const SlirpCb callbacks = {
	.send_packet = on_send_packet,
	.guest_error = on_guest_error,
	.clock_get_ns = on_clock,
	.timer_new = on_timer_new,
	.timer_free = on_timer_free,
	.timer_mod = on_timer_mod,
	.register_poll_fd = on_poll_fd,
	.unregister_poll_fd = on_poll_fd,
	.notify = on_notify,
};

/* ---- the thread --------------------------------------------------------- */

static const struct {
	int slirp;
	short poll;
} poll_bits[] = {
	{ SLIRP_POLL_IN, POLLIN },
	{ SLIRP_POLL_OUT, POLLOUT },
	{ SLIRP_POLL_PRI, POLLPRI },
	{ SLIRP_POLL_ERR, POLLERR },
	{ SLIRP_POLL_HUP, POLLHUP },
};

static int
add_poll(int fd, int events, void *opaque)
{
	struct slirp_end *end = opaque;
	struct pollfd *pfd;

	if (end->fd_count == end->fd_room) {
		end->fd_room *= 2;
		end->fds =
		    xreallocarray(end->fds, end->fd_room, sizeof(*end->fds));
	}
	pfd = &end->fds[end->fd_count];
	*pfd = (struct pollfd) { .fd = fd };
	for (size_t i = 0; i < ARRAY_SIZE(poll_bits); i++)
		if (events & poll_bits[i].slirp)
			pfd->events |= poll_bits[i].poll;
	/* These come unasked. */
	pfd->events &= (short)~(POLLERR | POLLHUP);
	return (int)end->fd_count++;
}

static int
get_revents(int idx, void *opaque)
{
	const struct slirp_end *end = opaque;
	int revents = 0;

	if (idx < FD_FIRST || (unsigned)idx >= end->fd_count)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(poll_bits); i++)
		if (end->fds[idx].revents & poll_bits[i].poll)
			revents |= poll_bits[i].slirp;
	return revents;
}

/* When the first timer is due, at most `timeout` ms from now. */
static uint32_t
timers_timeout(const struct slirp_end *end, uint32_t timeout)
{
	int64_t now = (int64_t)(net_now() / NS_PER_MS);

	for (const struct slirp_timer *t = end->timers; t != NULL; t = t->next)
		if (t->at_ms >= 0 && t->at_ms - now < (int64_t)timeout)
			timeout = (uint32_t)MAX(t->at_ms - now, 0);
	return timeout;
}

/* One at a time, for it may free others; the next poll does not wait. */
static void
timers_run(struct slirp_end *end)
{
	int64_t now = (int64_t)(net_now() / NS_PER_MS);

	for (struct slirp_timer *t = end->timers; t != NULL; t = t->next) {
		if (t->at_ms < 0 || t->at_ms > now)
			continue;
		t->at_ms = -1;
		t->fn(t->arg);
		return;
	}
}

static void
take_frames(struct slirp_end *end)
{
	uint8_t frame[SLIRP_FRAME_MAX];

	for (unsigned i = 0; i < SLIRP_BATCH; i++) {
		ssize_t len = recv(end->fd, frame, sizeof(frame),
		    MSG_DONTWAIT | MSG_TRUNC);

		if (len <= 0)
			return;
		if ((size_t)len <= sizeof(frame))
			slirp_input(end->slirp, frame, (int)len);
	}
}

static void *
slirp_main(void *arg)
{
	struct slirp_end *end = arg;

	for (;;) {
		uint32_t timeout = INT32_MAX;
		int n;

		end->fd_count = FD_FIRST;
		end->fds[FD_FRAMES] =
		    (struct pollfd) { .fd = end->fd, .events = POLLIN };
		end->fds[FD_STOP] =
		    (struct pollfd) { .fd = end->stop, .events = POLLIN };
		slirp_pollfds_fill(end->slirp, &timeout, add_poll, end);
		timeout = timers_timeout(end, MIN(timeout, INT32_MAX + 0u));
		n = poll(end->fds, end->fd_count, (int)timeout);
		if (n >= 0 && end->fds[FD_STOP].revents != 0)
			return NULL;
		slirp_pollfds_poll(end->slirp, n < 0, get_revents, end);
		timers_run(end);
		if (n > 0 && end->fds[FD_FRAMES].revents != 0)
			take_frames(end);
	}
}

/* ---- hostfwd ------------------------------------------------------------ */

/* "[addr]:port", where an empty address is any. */
static int
parse_end(const char *text, struct in_addr *addr, uint64_t *port)
{
	const char *colon = strchr(text, ':');
	char host[INET_ADDRSTRLEN];
	size_t len;

	if (colon == NULL)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (len >= sizeof(host) || colon[1] < '0' || colon[1] > '9' ||
	    parse_uint(colon + 1, UINT16_MAX, port) < 0 || *port == 0)
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	addr->s_addr = INADDR_ANY;
	if (len > 0 && inet_pton(AF_INET, host, addr) != 1)
		return -EINVAL;
	return 0;
}

/* A rule: proto:[hostaddr]:hostport-[guestaddr]:guestport. */
static int
add_hostfwd(struct slirp_end *end, char *rule, struct err *err)
{
	struct in_addr host, guest;
	uint64_t host_port, guest_port;
	char *dash = strchr(rule, '-');
	bool udp = strncmp(rule, "udp:", 4) == 0;
	int rc;

	if ((!udp && strncmp(rule, "tcp:", 4) != 0) || dash == NULL)
		goto malformed;
	*dash = '\0';
	rc = parse_end(rule + 4, &host, &host_port);
	if (rc == 0)
		rc = parse_end(dash + 1, &guest, &guest_port);
	*dash = '-';
	if (rc < 0)
		goto malformed;
	if (slirp_add_hostfwd(end->slirp, udp, host, (int)host_port, guest,
		(int)guest_port) < 0)
		return err_set_errno(err, errno != 0 ? -errno : -EADDRINUSE,
		    "hostfwd: %s", rule);
	return 0;

malformed:
	return err_set(err, -EINVAL,
	    "hostfwd: %s: not of the form "
	    "tcp|udp:[hostaddr]:hostport-[guestaddr]:guestport",
	    rule);
}

static int
add_hostfwds(struct slirp_end *end, char *rules, struct err *err)
{
	char *save = NULL;

	for (char *rule = strtok_r(rules, ";", &save); rule != NULL;
	     rule = strtok_r(NULL, ";", &save)) {
		int rc = add_hostfwd(end, rule, err);

		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- life --------------------------------------------------------------- */

static int
slirp_pair(struct net *net, struct slirp_end *end, struct err *err)
{
	int pair[2], room = SOCKET_ROOM;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, pair) < 0)
		return err_set_errno(err, -errno, "socketpair");
	net->queues[0].fd = pair[0];
	end->fd = pair[1];
	for (unsigned i = 0; i < 2; i++) /* as much as the host allows */
		(void)setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &room,
		    sizeof(room));
	end->stop = eventfd(0, EFD_CLOEXEC);
	if (end->stop < 0)
		return err_set_errno(err, -errno, "eventfd");
	return 0;
}

static int
slirp_start(struct slirp_end *end, struct err *err)
{
	sigset_t all, old;
	int rc;

	/* SIGPIPE, too: libslirp writes to sockets without asking not to. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&end->thread, NULL, slirp_main, end);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return err_set_errno(err, -rc, "cannot make a thread");
	end->running = true;
	return 0;
}

static int
slirp_open(struct net *net, const char *name, struct err *err)
{
	struct slirp_end *end = xcalloc(1, sizeof(*end));
	SlirpConfig config = {
		.version = 1,
		.in_enabled = true,
		.vnetwork.s_addr = htonl(SLIRP_NETWORK),
		.vnetmask.s_addr = htonl(SLIRP_NETMASK),
		.vhost.s_addr = htonl(SLIRP_HOST),
		.vdhcp_start.s_addr = htonl(SLIRP_DHCP),
		.vnameserver.s_addr = htonl(SLIRP_DNS),
	};
	char *rules = NULL;
	bool outside;
	int rc;

	net->own = end;
	end->fd = -1;
	end->stop = -1;
	end->fd_room = 64;
	end->fds = xcalloc(end->fd_room, sizeof(*end->fds));
	rc = config_bool(net->node, "open", false, &outside, err);
	if (rc == 0)
		rc = net_queues(net, 1, err);
	if (rc == 0)
		rc = slirp_pair(net, end, err);
	if (rc < 0)
		return rc;
	config.restricted = !outside;
	end->slirp = slirp_new(&config, &callbacks, end);
	if (end->slirp == NULL)
		return err_set(err, -ENOMEM, "slirp: libslirp does not start");
	rc = config_str(net->node, "hostfwd", NULL, &rules, err);
	if (rc == 0 && rules != NULL)
		rc = add_hostfwds(end, rules, err);
	free(rules);
	return rc < 0 ? rc : slirp_start(end, err);
}

static void
slirp_close(struct net *net)
{
	struct slirp_end *end = net->own;
	uint64_t one = 1;

	if (end->running) {
		if (write(end->stop, &one, sizeof(one)) != sizeof(one))
			abort(); /* an eventfd at 0 has room */
		pthread_join(end->thread, NULL);
	}
	if (end->slirp != NULL)
		slirp_cleanup(end->slirp);
	while (end->timers != NULL)
		on_timer_free(end->timers, end);
	if (end->fd >= 0)
		close(end->fd);
	if (end->stop >= 0)
		close(end->stop);
	free(end->fds);
	free(end);
}

const struct net_family net_slirp = {
	.name = "slirp",
	.open = slirp_open,
	.close = slirp_close,
	.send = net_packet_send,
	.recv = net_packet_recv,
};
