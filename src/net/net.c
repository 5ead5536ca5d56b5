/*
 * What all network back ends have in common: threads, calls owed, headers,
 * link protection and rate limits.
 *
 *	card ── net_send() ──▶ checks, filter, rate ──▶ family's send() ──▶ fd
 *	card ◀─ net_recv() ─── header, rate ◀────────── family's recv() ◀── fd
 *	card ◀─ readable(), writable(), link() ─── the queue's loop ◀────── fd
 *
 * Calls owed   -EAGAIN sets `owed`.  The loop makes the call when the
 *              descriptor is ready, when the rate allows, or when told `now`
 *              (after a pause).  Nothing but owed calls is waited for, so a
 *              card that does not read costs nothing.  Interest is taken back
 *              lazily: a card that reads until -EAGAIN in its callback never
 *              makes a system call for it.
 * Failure      A family says -EPIPE, or the loop sees a hang-up.  On the loop's
 *              thread queue_fail() closes the descriptor and link() tells the
 *              card; where the family can, on_retry() finds a new one.
 *              Meanwhile frames of the guest are dropped, as behind an
 *              unplugged cable.
 * Locks        tx or rx, then watch.  Callbacks run with none.
 * Foreign      A frame's header is copied before it is looked at, and the copy
 * memory       is sent.  So is the frame's beginning if link protection wants
 *              to see it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/net_impl.h"

#define RETRY_NS (NS_PER_SEC / 4)
#define BUSY_NS 100000 /* the pause before asking a busy peer again */
#define MTU_DEFAULT 1500

_Static_assert(NET_IOV_MAX + 2 <= IOV_MAX, "a header and a head or a spill");
_Static_assert(FILTER_SPAN >= NET_ETHER_HDR, "or a runt passes");

const char *const net_keys[] = {
	"allowed-ips",
	"backend",
	"burst",
	"create",
	"dhcp-nospoof",
	"hostfwd",
	"ip-nospoof",
	"local",
	"mac",
	"mac-nospoof",
	"mtu",
	"open",
	"path",
	"queues",
	"rate_rx",
	"rate_tx",
	"remote",
	"restricted",
	"tap",
};
const size_t net_keys_count = ARRAY_SIZE(net_keys);

/* A back end is chosen by how its name begins, as bhyve does. */
static const struct {
	const char *prefix;
	bool whole; /* nothing may follow */
	const struct net_family *family;
} families[] = {
	{ "tap", false, &net_tap },
	{ "slirp", true, &net_slirp },
	{ "passt", true, &net_passt },
	{ "p2p", true, &net_p2p },
	{ "switch", true, &net_switch },
};

uint64_t
net_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void
count_up(_Atomic uint64_t *counter, uint64_t n)
{
	/* Only a statistic: nothing is ordered by it. */
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* ---- iovecs ------------------------------------------------------------- */

size_t
net_iov_len(const struct iovec *iov, unsigned count)
{
	size_t len = 0;

	for (unsigned i = 0; i < count; i++)
		if (add_overflows(len, iov[i].iov_len, &len))
			return SIZE_MAX;
	return len;
}

/* The part of src behind `skip` bytes; dst has room for as many. */
static unsigned
iov_tail(struct iovec *dst, const struct iovec *src, unsigned count,
    size_t skip)
{
	unsigned n = 0;

	for (unsigned i = 0; i < count; i++) {
		size_t len = src[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		dst[n].iov_base = (uint8_t *)src[i].iov_base + skip;
		dst[n++].iov_len = len - skip;
		skip = 0;
	}
	return n;
}

/* memcpy() that does not mind what a guest does to its memory meanwhile. */
GUEST_MAY_RACE static void
copy(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
}

static size_t
iov_copy(const struct iovec *iov, unsigned count, size_t off, uint8_t *data,
    size_t len, bool put)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		uint8_t *base = iov[i].iov_base;
		size_t n;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		n = MIN(iov[i].iov_len - off, len - done);
		if (put)
			copy(base + off, data + done, n);
		else
			copy(data + done, base + off, n);
		done += n;
		off = 0;
	}
	return done;
}

size_t
net_iov_get(const struct iovec *iov, unsigned count, size_t off, void *data,
    size_t len)
{
	return iov_copy(iov, count, off, data, len, false);
}

size_t
net_iov_put(const struct iovec *iov, unsigned count, size_t off,
    const void *data, size_t len)
{
	/* Only read when putting. */
	return iov_copy(iov, count, off, (uint8_t *)(uintptr_t)data, len, true);
}

/* ---- calls owed --------------------------------------------------------- */

/* What the descriptor is waited for, if it is not what it should be. */
static void
queue_watch_locked(struct net_queue *q)
{
	unsigned interest = 0;

	assert(lock_held(&q->watch));
	if (q->event == NULL)
		return;
	if (!q->paused && q->rx_wait.owed && q->rx_wait.at == 0)
		interest |= EVENT_READ;
	if (!q->paused && q->tx_wait.owed && q->tx_wait.at == 0)
		interest |= EVENT_WRITE;
	if (q->flush)
		interest |= EVENT_WRITE;
	if (interest != q->interest) {
		q->interest = interest;
		event_set_interest(q->event, interest);
	}
}

static void
queue_arm_locked(struct net_queue *q)
{
	uint64_t at = q->rx_wait.at, now = net_now();

	assert(lock_held(&q->watch));
	if (at == 0 || (q->tx_wait.at != 0 && q->tx_wait.at < at))
		at = q->tx_wait.at;
	if (at == 0)
		event_disarm(q->timer);
	else
		event_arm(q->timer, at > now ? at - now : 1, 0);
}

/* The card was told to wait: for the descriptor, or for delay_ns. */
static void
queue_owe(struct net_queue *q, struct net_wait *wait, uint64_t delay_ns)
{
	lock_take(&q->watch);
	wait->owed = true;
	if (delay_ns != 0) {
		wait->at = net_now() + delay_ns;
		queue_arm_locked(q);
	}
	queue_watch_locked(q);
	lock_drop(&q->watch);
}

static bool
queue_stopped(struct net_queue *q, bool *down)
{
	bool paused;

	lock_take(&q->watch);
	paused = q->paused;
	*down = q->down;
	lock_drop(&q->watch);
	return paused;
}

void
net_want_flush(struct net_queue *q)
{
	assert(lock_held(&q->tx));
	lock_take(&q->watch);
	q->flush = true;
	queue_watch_locked(q);
	lock_drop(&q->watch);
}

/* The family says that the descriptor is no good: the loop deals with it. */
static void
queue_mark_failed(struct net_queue *q)
{
	lock_take(&q->watch);
	q->failed = true;
	lock_drop(&q->watch);
	event_wake(q->kick);
}

/* Make a call.  The lock is dropped meanwhile. */
static void
call_locked(struct net_queue *q, void (*fn)(void *arg, unsigned queue))
{
	q->calling = true;
	lock_drop(&q->watch);
	fn(q->net->arg, q->index);
	lock_take(&q->watch);
	q->calling = false;
	pthread_cond_broadcast(&q->idle);
}

static void
call_link_locked(struct net_queue *q)
{
	struct net *net = q->net;
	/* Written by any queue's loop, which then kicks this one. */
	bool up = atomic_load_explicit(&net->link, memory_order_acquire);

	if (q->index != 0 || up == net->link_told)
		return;
	net->link_told = up;
	q->calling = true;
	lock_drop(&q->watch);
	net->ops->link(net->arg, up);
	lock_take(&q->watch);
	q->calling = false;
	pthread_cond_broadcast(&q->idle);
}

/* Make the calls that are due. */
static void
queue_dispatch(struct net_queue *q)
{
	const struct net_ops *ops = q->net->ops;

	lock_take(&q->watch);
	if (!q->paused)
		call_link_locked(q);
	if (!q->paused && q->rx_wait.owed && q->rx_wait.now) {
		q->rx_wait = (struct net_wait) { 0 };
		call_locked(q, ops->readable);
	}
	if (!q->paused && q->tx_wait.owed && q->tx_wait.now) {
		q->tx_wait = (struct net_wait) { 0 };
		call_locked(q, ops->writable);
	}
	queue_watch_locked(q);
	lock_drop(&q->watch);
}

static void
set_link(struct net *net, bool up)
{
	/* Read by queue 0's loop and net_info(). */
	atomic_store_explicit(&net->link, up, memory_order_release);
	event_wake(net->queues[0].kick);
}

/* Close what has failed; calls owed are made, or the guest waits for ever. */
static void
queue_fail(struct net_queue *q)
{
	struct event *event;

	lock_take(&q->watch);
	event = q->event;
	q->event = NULL;
	q->interest = 0;
	q->failed = false;
	q->flush = false;
	if (q->down) {
		lock_drop(&q->watch);
		return;
	}
	q->down = true;
	q->tx_wait.now = q->tx_wait.owed;
	lock_drop(&q->watch);
	event_remove(event);
	lock_take(&q->tx);
	lock_take(&q->rx);
	if (q->fd >= 0)
		close(q->fd);
	q->fd = -1;
	lock_drop(&q->rx);
	lock_drop(&q->tx);
	set_link(q->net, false);
	if (q->net->family->reopen != NULL)
		event_arm(q->retry, RETRY_NS, 0);
}

static void
queue_flush(struct net_queue *q)
{
	int rc;

	lock_take(&q->tx);
	rc = q->fd < 0 ? 0 : q->net->family->flush(q);
	lock_take(&q->watch);
	q->flush = rc == -EAGAIN;
	if (rc == -EPIPE)
		q->failed = true;
	lock_drop(&q->watch);
	lock_drop(&q->tx);
}

static void
on_ready(void *arg, int fd, unsigned ready)
{
	struct net_queue *q = arg;
	bool flush, failed;

	lock_take(&q->watch);
	flush = q->flush && (ready & EVENT_WRITE) != 0;
	lock_drop(&q->watch);
	if (flush)
		queue_flush(q);
	lock_take(&q->watch);
	if ((ready & EVENT_READ) && q->rx_wait.owed && q->rx_wait.at == 0)
		q->rx_wait.now = true;
	if ((ready & EVENT_WRITE) && !q->flush && q->tx_wait.owed &&
	    q->tx_wait.at == 0)
		q->tx_wait.now = true;
	lock_drop(&q->watch);
	queue_dispatch(q);
	lock_take(&q->watch);
	failed = q->failed || (ready & EVENT_HANGUP) != 0;
	lock_drop(&q->watch);
	if (failed)
		queue_fail(q);
}

static void
on_kick(void *arg)
{
	struct net_queue *q = arg;
	bool failed;

	lock_take(&q->watch);
	failed = q->failed;
	lock_drop(&q->watch);
	if (failed)
		queue_fail(q);
	queue_dispatch(q);
}

static void
wait_expired(struct net_wait *wait, uint64_t now)
{
	if (wait->at == 0 || wait->at > now)
		return;
	wait->at = 0;
	wait->now = wait->owed;
}

static void
on_timer(void *arg, uint64_t expirations)
{
	struct net_queue *q = arg;
	uint64_t now = net_now();

	lock_take(&q->watch);
	wait_expired(&q->rx_wait, now);
	wait_expired(&q->tx_wait, now);
	queue_arm_locked(q);
	lock_drop(&q->watch);
	queue_dispatch(q);
}

/* Watch the descriptor that a queue has. */
static int
queue_watch_fd(struct net_queue *q, struct err *err)
{
	struct event *event;
	int rc = event_add_fd(q->loop, q->fd, 0, on_ready, q, &event, err);

	if (rc < 0)
		return rc;
	lock_take(&q->watch);
	q->event = event;
	q->interest = 0;
	q->down = false;
	queue_watch_locked(q);
	lock_drop(&q->watch);
	return 0;
}

static void
on_retry(void *arg, uint64_t expirations)
{
	struct net_queue *q = arg;
	int fd;

	lock_take(&q->tx);
	lock_take(&q->rx);
	fd = q->net->family->reopen(q);
	q->fd = fd;
	lock_drop(&q->rx);
	lock_drop(&q->tx);
	if (fd >= 0 && queue_watch_fd(q, NULL) == 0) {
		set_link(q->net, true);
		return;
	}
	if (fd >= 0) { /* out of something: later */
		lock_take(&q->tx);
		lock_take(&q->rx);
		close(q->fd);
		q->fd = -1;
		lock_drop(&q->rx);
		lock_drop(&q->tx);
	}
	event_arm(q->retry, RETRY_NS, 0);
}

/* ---- rates -------------------------------------------------------------- */

/* 0, or how many nanoseconds must pass before a frame may. */
static uint64_t
rate_wait(struct net_rate *rate)
{
	uint64_t delay_ns;

	if (rate->limit.rate == 0) /* fixed since it was opened */
		return 0;
	lock_take(&rate->lock);
	delay_ns = limit_wait(&rate->limit, net_now());
	lock_drop(&rate->lock);
	return delay_ns;
}

static void
rate_charge(struct net_rate *rate, uint64_t bytes)
{
	if (rate->limit.rate == 0)
		return;
	lock_take(&rate->lock);
	limit_charge(&rate->limit, bytes);
	lock_drop(&rate->lock);
}

/* ---- frames ------------------------------------------------------------- */

static bool
hdr_ok(const struct net *net, const struct net_hdr *hdr)
{
	unsigned gso = hdr->gso_type & ~(unsigned)NET_HDR_GSO_ECN;

	if (!net->vnet)
		return !(hdr->flags & NET_HDR_F_NEEDS_CSUM) &&
		    hdr->gso_type == NET_HDR_GSO_NONE;
	if (hdr->gso_type == NET_HDR_GSO_NONE)
		return true;
	/* Segments need checksums of their own (virtio 1.2, 5.1.6.2). */
	return (gso == NET_HDR_GSO_TCPV4 || gso == NET_HDR_GSO_TCPV6) &&
	    (hdr->flags & NET_HDR_F_NEEDS_CSUM) != 0 &&
	    le16_get(hdr->gso_size) != 0;
}

/* Gather what the family sends: 0, or -EINVAL, -EPERM for what is dropped. */
static int
tx_gather(struct net_queue *q, const struct iovec *iov, unsigned count,
    unsigned *gathered, size_t *len)
{
	struct net *net = q->net;
	size_t total = count > NET_IOV_MAX ? 0 : net_iov_len(iov, count);
	unsigned n = 0;

	memset(&q->tx_hdr, 0, sizeof(q->tx_hdr));
	if (net_iov_get(iov, MIN(count, (unsigned)NET_IOV_MAX), 0, &q->tx_hdr,
		net->hdr) != net->hdr ||
	    total < net->hdr + NET_ETHER_HDR ||
	    total - net->hdr > NET_FRAME_MAX || !hdr_ok(net, &q->tx_hdr))
		return -EINVAL;
	/* What a receiver makes of them is not the guest's to say. */
	q->tx_hdr.flags &= NET_HDR_F_NEEDS_CSUM;
	q->tx_hdr.num_buffers = le16_make(0);
	*len = total - net->hdr;
	if (net->vnet)
		q->tx_iov[n++] =
		    (struct iovec) { &q->tx_hdr, sizeof(q->tx_hdr) };
	if (filter_active(&net->filter)) {
		size_t head = MIN(*len, sizeof(q->head));

		if (net_iov_get(iov, count, net->hdr, q->head, head) != head)
			return -EINVAL;
		if (!filter_check(&net->filter, q->head, *len, &q->tx_hdr))
			return -EPERM;
		q->tx_iov[n++] = (struct iovec) { q->head, head };
		n += iov_tail(q->tx_iov + n, iov, count, net->hdr + head);
	} else {
		n += iov_tail(q->tx_iov + n, iov, count, net->hdr);
	}
	*gathered = n;
	return 0;
}

static int
send_locked(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	uint64_t delay_ns;
	unsigned gathered;
	size_t len;
	bool down;
	int rc;

	if (queue_stopped(q, &down)) {
		queue_owe(q, &q->tx_wait, 0);
		return -EAGAIN;
	}
	if (down) {
		count_up(&q->tx_dropped, 1);
		return 0;
	}
	delay_ns = rate_wait(&q->net->tx_rate);
	if (delay_ns != 0) {
		queue_owe(q, &q->tx_wait, delay_ns);
		return -EAGAIN;
	}
	rc = tx_gather(q, iov, count, &gathered, &len);
	if (rc < 0) {
		count_up(rc == -EPERM ? &q->tx_filtered : &q->tx_malformed, 1);
		return 0;
	}
	rc = q->fd < 0 ? -ENOTCONN :
			 q->net->family->send(q, q->tx_iov, gathered, len);
	if (rc == -EAGAIN || rc == -EBUSY) {
		queue_owe(q, &q->tx_wait, rc == -EBUSY ? BUSY_NS : 0);
		return -EAGAIN;
	}
	if (rc < 0) {
		count_up(&q->tx_dropped, 1);
		if (rc == -EPIPE)
			queue_mark_failed(q);
		return 0;
	}
	rate_charge(&q->net->tx_rate, len);
	count_up(&q->tx_frames, 1);
	count_up(&q->tx_bytes, len);
	return 0;
}

int
net_send(struct net *net, unsigned queue, const struct iovec *iov,
    unsigned count)
{
	struct net_queue *q = &net->queues[queue];
	int rc;

	assert(queue < net->queue_count);
	lock_take(&q->tx);
	rc = send_locked(q, iov, count);
	lock_drop(&q->tx);
	return rc;
}

/* Receive behind where the card's header will be; the frame's length. */
static ssize_t
rx_scatter(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	struct net *net = q->net;
	unsigned n = 0;
	ssize_t len;

	memset(&q->rx_hdr, 0, sizeof(q->rx_hdr));
	if (net->vnet)
		q->rx_iov[n++] =
		    (struct iovec) { &q->rx_hdr, sizeof(q->rx_hdr) };
	n += iov_tail(q->rx_iov + n, iov, count, net->hdr);
	q->rx_iov[n++] = (struct iovec) { q->spill, NET_FRAME_MAX };
	len = net->family->recv(q, q->rx_iov, n);
	if (len >= 0 && net->vnet)
		len = MAX(len - (ssize_t)sizeof(q->rx_hdr), 0);
	/* The kernel tells of good checksums unasked (virtio 1.2, 5.1.6.4.1). */
	if (!(net->rx_offloads & NET_OFFLOAD_CSUM))
		q->rx_hdr.flags = 0;
	q->rx_hdr.num_buffers = le16_make(1);
	return len;
}

static ssize_t
recv_locked(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	struct net *net = q->net;
	size_t room = count > NET_IOV_MAX ? 0 : net_iov_len(iov, count);
	uint64_t delay_ns;
	ssize_t len;
	bool down;

	delay_ns = rate_wait(&net->rx_rate);
	if (queue_stopped(q, &down) || down || delay_ns != 0 || q->fd < 0) {
		queue_owe(q, &q->rx_wait, delay_ns);
		return -EAGAIN;
	}
	len = rx_scatter(q, iov, MIN(count, (unsigned)NET_IOV_MAX));
	if (len < 0) {
		if (len != -EAGAIN)
			queue_mark_failed(q);
		queue_owe(q, &q->rx_wait, 0);
		return -EAGAIN;
	}
	rate_charge(&net->rx_rate, (uint64_t)len);
	if (len < NET_ETHER_HDR || len > NET_FRAME_MAX || room < net->hdr ||
	    (size_t)len > room - net->hdr) {
		count_up(&q->rx_dropped, 1);
		return -EMSGSIZE;
	}
	(void)net_iov_put(iov, count, 0, &q->rx_hdr, net->hdr);
	count_up(&q->rx_frames, 1);
	count_up(&q->rx_bytes, (uint64_t)len);
	return len + (ssize_t)net->hdr;
}

ssize_t
net_recv(struct net *net, unsigned queue, const struct iovec *iov,
    unsigned count)
{
	struct net_queue *q = &net->queues[queue];
	ssize_t len;

	assert(queue < net->queue_count);
	lock_take(&q->rx);
	len = recv_locked(q, iov, count);
	lock_drop(&q->rx);
	return len;
}

/* ---- sockets ------------------------------------------------------------ */

int
net_unix_addr(struct sockaddr_un *sun, const char *path, struct err *err)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	if (path[0] == '\0' || strlen(path) >= sizeof(sun->sun_path))
		return err_set(err, -EINVAL,
		    "%s: a socket's path has 1 to %zu characters", path,
		    sizeof(sun->sun_path) - 1);
	memcpy(sun->sun_path, path, strlen(path));
	return 0;
}

int
net_packet_send(struct net_queue *q, const struct iovec *iov, unsigned count,
    size_t len)
{
	const struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov, /* only read */
		.msg_iovlen = count,
	};

	if (sendmsg(q->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return -EAGAIN;
	case ECONNRESET:
	case ENOTCONN:
	case EPIPE:
		return -EPIPE;
	default:
		return -errno; /* too long, or out of memory: the frame's end */
	}
}

ssize_t
net_packet_recv(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)iov, /* only read */
		.msg_iovlen = count,
	};
	ssize_t len = recvmsg(q->fd, &msg, MSG_DONTWAIT | MSG_TRUNC);

	if (len > 0)
		return len;
	return len < 0 && (errno == EAGAIN || errno == EINTR) ? -EAGAIN :
								-EPIPE;
}

/* ---- life --------------------------------------------------------------- */

int
net_queues(struct net *net, unsigned n, struct err *err)
{
	net->queues = xcalloc(n, sizeof(*net->queues));
	net->queue_count = n;
	for (unsigned i = 0; i < n; i++) {
		struct net_queue *q = &net->queues[i];

		q->net = net;
		q->index = i;
		q->fd = -1;
		q->paused = true;
		q->spill = xcalloc(1, NET_FRAME_MAX);
		lock_init(&q->tx);
		lock_init(&q->rx);
		lock_init(&q->watch);
		pthread_cond_init(&q->idle, NULL);
	}
	for (unsigned i = 0; i < n; i++) {
		struct net_queue *q = &net->queues[i];
		int rc;

		q->loop = loop_new(err);
		if (q->loop == NULL)
			return -ENOMEM;
		rc = event_add_wake(q->loop, on_kick, q, &q->kick, err);
		if (rc == 0)
			rc = event_add_timer(q->loop, on_timer, q, &q->timer,
			    err);
		if (rc == 0)
			rc = event_add_timer(q->loop, on_retry, q, &q->retry,
			    err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void *
queue_main(void *arg)
{
	struct net_queue *q = arg;

	loop_run(q->loop);
	return NULL;
}

static int
queue_start(struct net_queue *q, struct err *err)
{
	sigset_t all, old;
	int rc;

	if (q->fd >= 0 && q->index < q->net->queues_used) {
		rc = queue_watch_fd(q, err);
		if (rc < 0)
			return rc;
	} else {
		lock_take(&q->watch);
		q->down = true;
		lock_drop(&q->watch);
		if (q->fd < 0)
			event_arm(q->retry, 1, 0);
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&q->thread, NULL, queue_main, q);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc != 0)
		return err_set_errno(err, -rc, "cannot make a thread");
	q->running = true;
	return 0;
}

static void
queue_fini(struct net_queue *q)
{
	loop_free(q->loop);
	if (q->fd >= 0)
		close(q->fd);
	free(q->spill);
	pthread_cond_destroy(&q->idle);
	lock_fini(&q->watch);
	lock_fini(&q->rx);
	lock_fini(&q->tx);
}

static int
read_limits(struct net *net, struct err *err)
{
	static const char *const keys[] = { "rate_tx", "rate_rx", "burst" };
	uint64_t bits[ARRAY_SIZE(keys)] = { 0 };
	uint64_t now = net_now();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		char *text;
		int rc = config_str(net->node, keys[i], NULL, &text, err);

		if (rc < 0)
			return rc;
		if (text == NULL)
			continue;
		rc = limit_parse(text, &bits[i], err);
		free(text);
		if (rc < 0)
			return err_prefix(err, rc, "%s", keys[i]);
	}
	limit_init(&net->tx_rate.limit, bits[0], bits[2], now);
	limit_init(&net->rx_rate.limit, bits[1], bits[2], now);
	return 0;
}

static int
read_filter(struct net *net, struct err *err)
{
	struct filter *filter = &net->filter;
	const struct {
		const char *key;
		bool *value;
	} flags[] = {
		{ "mac-nospoof", &filter->mac_nospoof },
		{ "ip-nospoof", &filter->ip_nospoof },
		{ "dhcp-nospoof", &filter->dhcp_nospoof },
		{ "restricted", &filter->restricted },
	};
	char *text = NULL;
	int rc;

	memcpy(filter->mac, net->mac, NET_MAC_LEN);
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		rc = config_bool(net->node, flags[i].key, false, flags[i].value,
		    err);
		if (rc < 0)
			return rc;
	}
	rc = config_str(net->node, "allowed-ips", NULL, &text, err);
	if (rc == 0 && text != NULL)
		rc = filter_parse_addrs(filter, text, err);
	free(text);
	if (rc < 0)
		return err_prefix(err, rc, "allowed-ips");
	if (filter->addr_count != 0 && !filter->ip_nospoof)
		return err_set(err, -EINVAL,
		    "allowed-ips means nothing without ip-nospoof");
	if (filter->addr_count == 0 && filter->ip_nospoof)
		return err_set(err, -EINVAL,
		    "ip-nospoof needs allowed-ips: which are they?");
	return 0;
}

static int
read_identity(struct net *net, const char *mac_seed, struct err *err)
{
	int64_t mtu;
	char *text;
	int rc;

	mac_derive(mac_seed, net->mac);
	rc = config_str(net->node, "mac", NULL, &text, err);
	if (rc < 0)
		return rc;
	if (text != NULL) {
		rc = mac_parse(text, net->mac, err);
		free(text);
		if (rc < 0)
			return err_prefix(err, rc, "mac");
	}
	rc = config_int(net->node, "mtu", MTU_DEFAULT, NET_MTU_MIN, NET_MTU_MAX,
	    &mtu, err);
	if (rc < 0)
		return rc;
	net->mtu = (uint16_t)mtu;
	net->mtu_set = config_has(net->node, "mtu");
	return 0;
}

static int
open_family(struct net *net, struct err *err)
{
	char *name;
	int rc = config_str(net->node, "backend",
	    config_has(net->node, "tap") ? "tap" : NULL, &name, err);

	if (rc < 0)
		return rc;
	if (name == NULL)
		return err_set(err, -EINVAL,
		    "no backend: tapN, slirp, passt, p2p or switch");
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		size_t len = strlen(families[i].prefix);

		if (strncmp(name, families[i].prefix, len) == 0 &&
		    (!families[i].whole || name[len] == '\0'))
			net->family = families[i].family;
	}
	rc = net->family == NULL ?
	    err_set(err, -EINVAL,
		"%s: no such backend (tapN, slirp, passt, p2p or switch)",
		name) :
	    net->family->open(net, name, err);
	free(name);
	return rc;
}

int
net_open(struct config *node, const char *mac_seed, const struct net_ops *ops,
    void *arg, struct net **opened, struct err *err)
{
	struct net *net = xcalloc(1, sizeof(*net));
	int rc;

	net->node = node;
	net->ops = ops;
	net->arg = arg;
	net->queues_used = 1;
	lock_init(&net->tx_rate.lock);
	lock_init(&net->rx_rate.lock);
	rc = read_identity(net, mac_seed, err);
	if (rc == 0)
		rc = read_filter(net, err);
	if (rc == 0)
		rc = open_family(net, err);
	if (rc == 0)
		rc = read_limits(net, err);
	if (rc < 0)
		goto fail;
	net->node = NULL;
	net->link_told = net->queues[0].fd >= 0;
	atomic_init(&net->link, net->link_told);
	for (unsigned i = 0; i < net->queue_count; i++) {
		rc = queue_start(&net->queues[i], err);
		if (rc < 0)
			goto fail;
	}
	*opened = net;
	return 0;

fail:
	net_close(net);
	return config_err_place(node, err, rc);
}

void
net_close(struct net *net)
{
	if (net == NULL)
		return;
	/* Queue 0 is kicked by all: it goes when nobody can any more. */
	for (unsigned i = 0; i < net->queue_count; i++) {
		struct net_queue *q = &net->queues[i];

		if (q->running) {
			loop_stop(q->loop);
			pthread_join(q->thread, NULL);
		}
	}
	if (net->family != NULL && net->family->close != NULL)
		net->family->close(net);
	for (unsigned i = 0; i < net->queue_count; i++)
		queue_fini(&net->queues[i]);
	lock_fini(&net->tx_rate.lock);
	lock_fini(&net->rx_rate.lock);
	free(net->queues);
	free(net);
}

void
net_info(struct net *net, struct net_info *info)
{
	*info = (struct net_info) {
		.mtu = net->mtu,
		.mtu_set = net->mtu_set,
		.queues = net->queue_count,
		.offloads = net->offloads,
		.link = atomic_load_explicit(&net->link, memory_order_acquire),
	};
	memcpy(info->mac, net->mac, NET_MAC_LEN);
}

void
net_stats(struct net *net, struct net_stats *stats)
{
	const struct {
		size_t from, to;
	} counters[] = {
#define COUNTER(name) \
	{ offsetof(struct net_queue, name), offsetof(struct net_stats, name) }
		COUNTER(tx_frames),
		COUNTER(tx_bytes),
		COUNTER(rx_frames),
		COUNTER(rx_bytes),
		COUNTER(tx_filtered),
		COUNTER(tx_malformed),
		COUNTER(tx_dropped),
		COUNTER(rx_dropped),
#undef COUNTER
	};

	memset(stats, 0, sizeof(*stats));
	for (unsigned i = 0; i < net->queue_count; i++)
		for (size_t c = 0; c < ARRAY_SIZE(counters); c++) {
			_Atomic uint64_t *from =
			    (void *)((uint8_t *)&net->queues[i] +
				counters[c].from);

			*(uint64_t *)(void *)((uint8_t *)stats +
			    counters[c].to) +=
			    atomic_load_explicit(from, memory_order_relaxed);
		}
}

int
net_set_offload(struct net *net, size_t hdr, unsigned rx)
{
	if ((hdr != 0 && hdr != NET_HDR_LEGACY &&
		hdr != sizeof(struct net_hdr)) ||
	    (rx & ~net->offloads) != 0 || (rx != 0 && hdr == 0))
		return -EINVAL;
	/* Whoever moves frames next takes these locks. */
	for (unsigned i = 0; i < net->queue_count; i++) {
		lock_take(&net->queues[i].tx);
		lock_take(&net->queues[i].rx);
		assert(net->queues[i].paused);
	}
	net->hdr = hdr;
	net->rx_offloads = rx;
	for (unsigned i = net->queue_count; i-- > 0;) {
		lock_drop(&net->queues[i].rx);
		lock_drop(&net->queues[i].tx);
	}
	return net->family->set_offload == NULL ?
	    0 :
	    net->family->set_offload(net, rx);
}

/* Begin or cease to use a queue that has a descriptor. */
static int
queue_use(struct net_queue *q, bool use)
{
	struct event *event;
	int rc;

	if (use) {
		rc = q->net->family->use_queue(q, true);
		if (rc == 0)
			rc = queue_watch_fd(q, NULL);
		if (rc == 0)
			event_wake(q->kick);
		return rc;
	}
	/* One that is not used reports errors when watched. */
	lock_take(&q->watch);
	event = q->event;
	q->event = NULL;
	q->down = true;
	q->tx_wait.now = q->tx_wait.owed;
	lock_drop(&q->watch);
	event_remove(event);
	event_wake(q->kick);
	return q->net->family->use_queue(q, false);
}

int
net_set_queues(struct net *net, unsigned n)
{
	if (n == 0 || n > net->queue_count)
		return -EINVAL;
	/* One at a time, so that what fails leaves a count that is true. */
	while (net->queues_used != n) {
		bool more = net->queues_used < n;
		unsigned i = more ? net->queues_used : net->queues_used - 1;
		int rc = queue_use(&net->queues[i], more);

		if (rc < 0)
			return rc;
		net->queues_used = more ? i + 1 : i;
	}
	return 0;
}

void
net_pause(struct net *net)
{
	for (unsigned i = 0; i < net->queue_count; i++) {
		struct net_queue *q = &net->queues[i];

		lock_take(&q->watch);
		q->paused = true;
		queue_watch_locked(q);
		while (q->calling)
			lock_wait(&q->watch, &q->idle);
		lock_drop(&q->watch);
	}
	/* Calls of net_send() and net_recv() that began before have ended. */
	for (unsigned i = 0; i < net->queue_count; i++) {
		lock_take(&net->queues[i].tx);
		lock_drop(&net->queues[i].tx);
		lock_take(&net->queues[i].rx);
		lock_drop(&net->queues[i].rx);
	}
}

void
net_resume(struct net *net)
{
	for (unsigned i = 0; i < net->queue_count; i++) {
		struct net_queue *q = &net->queues[i];

		lock_take(&q->watch);
		q->paused = false;
		q->rx_wait = (struct net_wait) { .owed = true, .now = true };
		q->tx_wait.now = q->tx_wait.owed;
		queue_watch_locked(q);
		lock_drop(&q->watch);
		event_wake(q->kick);
	}
}
