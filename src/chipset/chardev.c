/*
 * Serial back ends, the user's side: the output queue, pulled input, and the
 * table of what can be opened.
 *
 * Output       chardev_write() only queues; the loop's thread writes.  When the
 *              queue is full the user is told to wait (`full`) and hears
 *              drained() once there is room again.
 *
 *                      flowing ──write finds no room──▶ full
 *                         ▲                            │   │
 *                         │◀────── progress ───────────┘   │ 5 s without any
 *                         │                                ▼
 *                         └────────── progress ──────── stalled
 *
 *              A stalled peer keeps what is queued and loses what comes after,
 *              so that it cannot stop a guest's console for ever.  With a
 *              patient user none stalls.
 * Input        room() is asked first and that much read.  Without room nothing
 *              is read, and chardev_wake() has us ask again.  A peer that hangs
 *              up meanwhile would keep the loop spinning, so its event goes and
 *              chardev_wake() alone drives what it has left to read.  With
 *              nothing left its end needs no room and is seen at once.
 * Locking      dev->lock guards the queue, under the user's lock.  The loop's
 *              thread alone touches descriptors and holds no lock when it calls
 *              the user.  While it writes from the ring, others only append.
 * Invariants   1. len <= CHARDEV_QUEUE; nothing is queued while !open.
 *              2. full implies open, !stalled and len == CHARDEV_QUEUE, but
 *                 between a change and the settle() that follows it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "chipset/chardev_impl.h"

/* How long a closing back end waits for its peer to take the last output. */
#define CLOSE_WAIT_MS 250

static const struct {
	const char *prefix;
	bool whole; /* nothing may follow */
	int (*open)(struct chardev *dev, const char *text, struct err *err);
} families[] = {
	{ "stdio", true, chardev_stdio_open },
	{ "/dev/nmdm", false, chardev_nmdm_dev_open },
	{ "/dev/", false, chardev_tty_open },
	{ "pty", true, chardev_pty_open },
	{ "pty,", false, chardev_pty_open },
	{ "nmdm:", false, chardev_nmdm_open },
	{ "socket,", false, chardev_unix_open },
	{ "tcp=", false, chardev_tcp_open },
};

/* ---- output ------------------------------------------------------------- */

static bool
writable_locked(struct chardev *dev)
{
	assert(lock_held(&dev->lock));
	return !dev->open || dev->stalled || dev->len < CHARDEV_QUEUE;
}

static void
set_full_locked(struct chardev *dev)
{
	assert(lock_held(&dev->lock));
	if (dev->full)
		return;
	dev->full = true;
	if (!dev->user.patient)
		event_arm(dev->stall, CHARDEV_STALL_NS, 0);
}

/* After any change that may have made room: tell the user who waits for it. */
static void
settle(struct chardev *dev)
{
	bool tell;

	lock_take(&dev->lock);
	tell = dev->full && writable_locked(dev);
	if (tell) {
		dev->full = false;
		event_disarm(dev->stall);
	}
	lock_drop(&dev->lock);
	if (tell && dev->has_user && dev->user.drained != NULL)
		dev->user.drained(dev->user.arg);
}

size_t
chardev_write(struct chardev *dev, const void *data, size_t len)
{
	size_t room, tail, first;
	bool was_empty;

	lock_take(&dev->lock);
	if (!dev->open || dev->stalled) {
		lock_drop(&dev->lock);
		return len;
	}
	room = CHARDEV_QUEUE - dev->len;
	if (len > room) {
		len = room;
		set_full_locked(dev);
	}
	tail = (dev->head + dev->len) % CHARDEV_QUEUE;
	first = MIN(len, CHARDEV_QUEUE - tail);
	memcpy(dev->queue + tail, data, first);
	memcpy(dev->queue, (const uint8_t *)data + first, len - first);
	/* Otherwise the loop's thread is at it, or waits for the peer. */
	was_empty = dev->len == 0;
	dev->len += len;
	lock_drop(&dev->lock);
	if (was_empty && len > 0)
		event_wake(dev->wake);
	return len;
}

bool
chardev_writable(struct chardev *dev)
{
	bool writable;

	lock_take(&dev->lock);
	writable = writable_locked(dev);
	if (!writable)
		set_full_locked(dev);
	lock_drop(&dev->lock);
	return writable;
}

/* Write what the peer takes now, a queue's worth at most. */
static void
flush(struct chardev *dev)
{
	size_t budget = CHARDEV_QUEUE;
	bool more = true;

	if (dev->out.fd < 0)
		return;
	while (budget > 0) {
		const uint8_t *data;
		size_t len;
		ssize_t n;

		lock_take(&dev->lock);
		data = dev->queue + dev->head;
		len = MIN(dev->len, CHARDEV_QUEUE - dev->head);
		lock_drop(&dev->lock);
		len = MIN(len, budget);
		more = len > 0;
		if (!more)
			break;
		n = io_fd_write(&dev->out, data, len);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			chardev_end_output(dev);
			return;
		}
		budget -= (size_t)n;
		lock_take(&dev->lock);
		dev->head = (dev->head + (size_t)n) % CHARDEV_QUEUE;
		dev->len -= (size_t)n;
		dev->stalled = false;
		lock_drop(&dev->lock);
	}
	event_set_interest(dev->out_event, more ? EVENT_WRITE : 0);
	settle(dev);
}

static void
on_output(void *arg, int fd, unsigned ready)
{
	struct chardev *dev = arg;

	if (ready & EVENT_HANGUP)
		chardev_end_output(dev);
	else
		flush(dev);
}

static void
on_stall(void *arg, uint64_t expirations)
{
	static struct log_limit limit;
	struct chardev *dev = arg;
	bool stalled;

	/* A socket may take a little long before poll calls it writable. */
	flush(dev);
	lock_take(&dev->lock);
	stalled = dev->full && !writable_locked(dev);
	if (stalled)
		dev->stalled = true;
	lock_drop(&dev->lock);
	if (stalled)
		log_guest(&limit,
		    "%s: does not read: output is lost until it does",
		    dev->address);
	settle(dev);
}

/* ---- input -------------------------------------------------------------- */

bool
chardev_pump(struct chardev *dev)
{
	uint8_t buf[4096];
	size_t room = sizeof(buf);
	ssize_t n;

	if (dev->in.fd < 0)
		return false;
	if (dev->has_user)
		room = dev->user.room(dev->user.arg);
	if (dev->in_event != NULL)
		event_set_interest(dev->in_event, room > 0 ? EVENT_READ : 0);
	if (room == 0)
		return false;
	n = io_fd_read(&dev->in, buf, MIN(room, sizeof(buf)));
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		dev->family->ended(dev);
		return false;
	}
	if (dev->has_user)
		dev->user.receive(dev->user.arg, buf, (size_t)n);
	return true;
}

static void
on_input(void *arg, int fd, unsigned ready)
{
	struct chardev *dev = arg;

	if (chardev_pump(dev) || !(ready & EVENT_HANGUP))
		return;
	/* No room, or detached by now. */
	if (io_fd_at_end(&dev->in)) {
		dev->family->ended(dev);
		return;
	}
	event_remove(dev->in_event);
	dev->in_event = NULL;
}

void
chardev_wake(struct chardev *dev)
{
	event_wake(dev->wake);
}

static void
on_wake(void *arg)
{
	struct chardev *dev = arg;

	if (chardev_pump(dev) && dev->in_event == NULL)
		event_wake(dev->wake); /* nothing else will call again */
	flush(dev);
}

/* ---- peers -------------------------------------------------------------- */

/* Whether a peer is there may have changed. */
static void
tell(struct chardev *dev)
{
	bool is = chardev_attached(dev);

	if (is == dev->told)
		return;
	dev->told = is;
	if (dev->has_user && dev->user.connected != NULL)
		dev->user.connected(dev->user.arg, is);
}

int
chardev_attach(struct chardev *dev, int in, int out, struct err *err)
{
	int rc = 0;

	assert(!chardev_attached(dev));
	if (in >= 0)
		io_fd_init(&dev->in, in);
	io_fd_init(&dev->out, out);
	if (in >= 0)
		rc = event_add_fd(dev->loop, in, 0, on_input, dev,
		    &dev->in_event, err);
	if (rc == 0)
		rc = event_add_fd(dev->loop, out, 0, on_output, dev,
		    &dev->out_event, err);
	if (rc < 0) {
		chardev_detach(dev);
		return rc;
	}
	lock_take(&dev->lock);
	dev->open = true;
	lock_drop(&dev->lock);
	tell(dev);
	/* Input is pulled from the loop, not under the locks of an opener. */
	chardev_wake(dev);
	return 0;
}

int
chardev_attach_one(struct chardev *dev, int fd, struct err *err)
{
	int out = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (out < 0) {
		int rc = err_set_errno(err, -errno, "descriptor");

		close(fd);
		return rc;
	}
	return chardev_attach(dev, fd, out, err);
}

bool
chardev_attached(const struct chardev *dev)
{
	return dev->in.fd >= 0 || dev->out.fd >= 0;
}

void
chardev_end_input(struct chardev *dev)
{
	event_remove(dev->in_event);
	dev->in_event = NULL;
	io_fd_fini(&dev->in);
	tell(dev);
}

void
chardev_end_output(struct chardev *dev)
{
	event_remove(dev->out_event);
	dev->out_event = NULL;
	io_fd_fini(&dev->out);
	lock_take(&dev->lock);
	dev->open = false;
	dev->stalled = false;
	dev->len = 0;
	lock_drop(&dev->lock);
	settle(dev);
	tell(dev);
}

void
chardev_detach(struct chardev *dev)
{
	chardev_end_input(dev);
	chardev_end_output(dev);
}

/* ---- open and close ----------------------------------------------------- */

static void
destroy(struct chardev *dev)
{
	dev->has_user = false;
	chardev_detach(dev);
	if (dev->family != NULL)
		dev->family->destroy(dev);
	event_remove(dev->wake);
	event_remove(dev->stall);
	lock_fini(&dev->lock);
	free(dev->queue);
	free(dev->address);
	free(dev);
}

int
chardev_open(struct loop *loop, const char *text,
    const struct chardev_user *user, struct chardev **opened, struct err *err)
{
	struct chardev *dev;
	size_t f, skip = 0;
	int rc;

	for (f = 0; f < ARRAY_SIZE(families); f++) {
		skip = strlen(families[f].prefix);
		if (strncmp(text, families[f].prefix, skip) == 0 &&
		    (!families[f].whole || text[skip] == '\0'))
			break;
	}
	if (f == ARRAY_SIZE(families))
		return err_set(err, -EINVAL, "%s: unknown serial back end",
		    text);

	dev = xcalloc(1, sizeof(*dev));
	dev->loop = loop;
	if (user != NULL) {
		dev->user = *user;
		dev->has_user = true;
	}
	dev->in.fd = dev->out.fd = -1;
	dev->queue = xcalloc(1, CHARDEV_QUEUE);
	lock_init(&dev->lock);
	rc = event_add_wake(loop, on_wake, dev, &dev->wake, err);
	if (rc == 0)
		rc = event_add_timer(loop, on_stall, dev, &dev->stall, err);
	if (rc == 0)
		rc = families[f].open(dev, text + skip, err);
	if (rc < 0) {
		destroy(dev);
		return err_prefix(err, rc, "%s", text);
	}
	*opened = dev;
	return 0;
}

/* What is queued still goes out, if the peer takes it in a moment. */
static void
drain(struct chardev *dev)
{
	struct timespec start, now;
	int left = CLOSE_WAIT_MS;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (dev->out.fd >= 0 && left > 0) {
		struct pollfd pfd = { .fd = dev->out.fd, .events = POLLOUT };
		bool pointless;

		flush(dev);
		lock_take(&dev->lock);
		pointless = dev->len == 0 || dev->stalled;
		lock_drop(&dev->lock);
		if (pointless)
			break;
		(void)poll(&pfd, 1, left); /* flush() finds out */
		clock_gettime(CLOCK_MONOTONIC, &now);
		left = CLOSE_WAIT_MS -
		    (int)((now.tv_sec - start.tv_sec) * 1000 +
			(now.tv_nsec - start.tv_nsec) / 1000000);
	}
}

void
chardev_close(struct chardev *dev)
{
	if (dev == NULL)
		return;
	dev->has_user = false;
	drain(dev);
	destroy(dev);
}

const char *
chardev_address(const struct chardev *dev)
{
	return dev->address;
}
