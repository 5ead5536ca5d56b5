/*
 * NBD: the sectors are a server's, reached through libnbd.
 *
 * Thread       One thread has the connection.  It takes what was submitted, cuts
 *              it into commands of at most PIECE_MAX bytes (one at a time for
 *              each request, those of different requests at once) and completes
 *              it.  Nobody else calls libnbd once it runs.
 * Memory       A command's data is in the command's own buffer, copied from or to
 *              the request's memory: the protocol wants one piece, and a server
 *              that is late cannot write to memory that is not lent any more.
 * Connection
 *                  up ──the server is gone: lose──▶ down ──in vain: give_up──▶ gone
 *                   ▲                                │
 *                   └──────── reach: same size ──────┘
 *
 *              Down lasts as long as `reconnect` says, and requests wait; those
 *              that were in flight are sent again, whole pieces, which does not
 *              harm for none of them was acknowledged.  Gone is for ever: -EIO.
 *              Who closes the disk waits for no server.
 * Durability   The server may have lost what it had acknowledged and not flushed,
 *              so if there was any such write when the connection broke, no
 *              flush succeeds any more.  A server that cannot flush must be able
 *              to write through (FUA), and then every write does.
 * The server   is foreign: what it claims about sizes is checked when connecting.
 * Locking      `lock` guards the queue and is a leaf.  libnbd calls back under
 *              its own lock, so piece_over() only notes that it did.
 */
#include <errno.h>
#include <libnbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "storage/block_impl.h"

#define PIECE_MAX (256 * KIB)
/* For what carries no data; a multiple of all sectors. */
#define SPACE_MAX (64 * MIB)
#define CONNECT_MS 10000
#define RETRY_MS 200
#define SILENCE_MS 30000
#define RECONNECT_MAX 86400

struct queue {
	struct block_req *head; /* oldest first, linked by `next` */
	struct block_req **tail;
};

struct remote {
	struct block *block; /* borrowed: it owns us */
	char *uri;           /* owned */
	uint64_t reconnect_ms;
	bool started;
	pthread_t thread;
	int wake; /* an eventfd: there is something in `queue` */

	struct lock lock;
	struct queue queue;
	unsigned plugs;
	bool hurry; /* wait for no server any more */
	bool stop;

	/* The thread's, once it runs. */
	struct nbd_handle *handle; /* NULL: no connection */
	bool gone;
	uint64_t size; /* as first connected to */
	bool can_flush;
	bool can_fua;
	bool can_trim;
	bool can_zero;
	bool through;       /* every write is to be durable */
	uint64_t piece_max; /* whole sectors, at most PIECE_MAX */
	struct queue todo;
	struct piece *over; /* answered, newest first */
	uint64_t written;   /* writes acknowledged that were not durable ... */
	uint64_t durable;   /* ... and how many of these a flush has covered */
	bool lost;
};

/* A command to the server. */
struct piece {
	struct remote *remote;
	struct block_req *req;
	struct piece *next;
	uint64_t written; /* FLUSH: what it covers */
	size_t len;
	bool flush;
	bool fua;
	int error; /* positive, as libnbd's */
	uint8_t data[];
};

static uint64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void
queue_init(struct queue *queue)
{
	queue->head = NULL;
	queue->tail = &queue->head;
}

static void
queue_put(struct queue *queue, struct block_req *req)
{
	req->next = NULL;
	*queue->tail = req;
	queue->tail = &req->next;
}

/* All of `from` behind what is in `to`. */
static void
queue_move(struct queue *to, struct queue *from)
{
	if (from->head == NULL)
		return;
	*to->tail = from->head;
	to->tail = from->tail;
	queue_init(from);
}

static struct block_req *
queue_take(struct queue *queue)
{
	struct block_req *req = queue->head;

	if (req == NULL)
		return NULL;
	queue->head = req->next;
	if (queue->head == NULL)
		queue->tail = &queue->head;
	return req;
}

/* ---- connecting --------------------------------------------------------- */

/*
 * A host that says nothing any more has gone, too.  Not for unix sockets, whose
 * other end is always told.
 */
static void
watch_peer(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, SILENCE_MS / 1000 / 2 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 5 },
		{ IPPROTO_TCP, TCP_KEEPCNT, SILENCE_MS / 1000 / 2 / 5 },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_MS },
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		(void)setsockopt(fd, options[i].level, options[i].name,
		    &options[i].value, sizeof(options[i].value));
}

/* NULL, and libnbd has the reason. */
static struct nbd_handle *
dial(const char *uri, uint64_t limit_ms)
{
	uint64_t until = now_ms() + limit_ms;
	struct nbd_handle *handle = nbd_create();

	if (handle == NULL)
		return NULL;
	if (nbd_set_uri_allow_transports(handle,
		LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) < 0 ||
	    nbd_aio_connect_uri(handle, uri) < 0)
		goto fail;
	while (nbd_aio_is_connecting(handle) == 1) {
		uint64_t now = now_ms();

		if (now >= until)
			goto fail;
		if (nbd_poll(handle, (int)(until - now)) < 0)
			goto fail;
	}
	if (nbd_aio_is_ready(handle) == 1) {
		watch_peer(nbd_aio_get_fd(handle));
		return handle;
	}
fail:
	nbd_close(handle);
	return NULL;
}

static const char *
reason(void)
{
	const char *text = nbd_get_error();

	return text != NULL ? text : "no answer";
}

/* A server that has come back must be as it was, or it is another disk. */
static bool
is_same(struct remote *remote, struct nbd_handle *handle)
{
	int64_t size = nbd_get_size(handle);

	return size >= 0 && (uint64_t)size == remote->size &&
	    (remote->block->info.read_only || nbd_is_read_only(handle) == 0) &&
	    nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM) <=
	    (int64_t)remote->block->info.sector &&
	    (nbd_can_flush(handle) == 1) == remote->can_flush &&
	    (nbd_can_fua(handle) == 1) == remote->can_fua &&
	    (nbd_can_trim(handle) == 1) == remote->can_trim &&
	    (nbd_can_zero(handle) == 1) == remote->can_zero;
}

static bool
is_up(struct remote *remote)
{
	return remote->handle != NULL && nbd_aio_is_dead(remote->handle) != 1 &&
	    nbd_aio_is_closed(remote->handle) != 1;
}

/* ---- commands ----------------------------------------------------------- */

static int
map_error(int error)
{
	switch (error) {
	case 0:
		return 0;
	case ENOSPC:
	case ENOMEM:
		return -error;
	}
	return -EIO;
}

/* Under libnbd's lock.  1: it may forget the command. */
static int
piece_over(void *arg, int *error)
{
	struct piece *piece = arg;

	piece->error = *error;
	piece->next = piece->remote->over;
	piece->remote->over = piece;
	return 1;
}

/* Between the memory of a request and a buffer. */
static void
copy(const struct block_req *req, uint8_t *data, size_t len, bool from_req)
{
	for (unsigned i = 0; len > 0; i++) {
		size_t part = MIN(len, req->iov[i].iov_len);

		if (from_req)
			memcpy(data, req->iov[i].iov_base, part);
		else
			memcpy(req->iov[i].iov_base, data, part);
		data += part;
		len -= part;
	}
}

static bool
carries_data(const struct remote *remote, const struct block_req *req)
{
	return req->op == BLOCK_READ || req->op == BLOCK_WRITE ||
	    (req->op == BLOCK_WRITE_ZEROES && !remote->can_zero);
}

/* Have libnbd send it.  Less than 0: it did not, and will not call back. */
static int64_t
send_piece(struct remote *remote, struct piece *piece)
{
	struct block_req *req = piece->req;
	uint64_t at = req->offset + req->moved;
	nbd_completion_callback done = { .callback = piece_over,
		.user_data = piece };
	uint32_t flags = piece->fua ? LIBNBD_CMD_FLAG_FUA : 0;

	if (piece->flush)
		return nbd_aio_flush(remote->handle, done, 0);
	if (req->op == BLOCK_READ)
		return nbd_aio_pread(remote->handle, piece->data, piece->len,
		    at, done, 0);
	if (req->op == BLOCK_DISCARD)
		return nbd_aio_trim(remote->handle, piece->len, at, done, 0);
	if (carries_data(remote, req))
		return nbd_aio_pwrite(remote->handle, piece->data, piece->len,
		    at, done, flags);
	if (!req->unmap)
		flags |= LIBNBD_CMD_FLAG_NO_HOLE;
	return nbd_aio_zero(remote->handle, piece->len, at, done, flags);
}

/* Is a flush all that is left of it? */
static bool
wants_flush(const struct block_req *req)
{
	return req->op == BLOCK_FLUSH || req->moved == req->len;
}

/* The next command of a request; true if the request is over instead. */
static bool
go_on(struct remote *remote, struct block_req *req, int *error)
{
	bool flush = wants_flush(req);
	bool data = !flush && carries_data(remote, req);
	size_t len = 0;
	struct piece *piece;

	*error = 0;
	if (remote->gone || (flush && remote->lost)) {
		*error = -EIO;
		return true;
	}
	if (flush && !remote->can_flush)
		return true; /* all writes were durable */
	if (!flush)
		len = MIN(req->len - req->moved,
		    data ? remote->piece_max : SPACE_MAX);
	piece = calloc(1, sizeof(*piece) + (data ? len : 0));
	if (piece == NULL) {
		*error = -ENOMEM;
		return true;
	}
	piece->remote = remote;
	piece->req = req;
	piece->len = len;
	piece->flush = flush;
	piece->written = remote->written;
	piece->fua = (req->fua || remote->through) && remote->can_fua;
	if (req->op == BLOCK_WRITE && !flush)
		copy(req, piece->data, len, true);
	if (send_piece(remote, piece) >= 0)
		return false;
	/* It is the connection's end, or a command that libnbd will not send. */
	*error = is_up(remote) ? map_error(nbd_get_errno()) : -ENOTCONN;
	free(piece);
	return true;
}

static void
start(struct remote *remote, struct block_req *req)
{
	int error;

	if (!go_on(remote, req, &error))
		return;
	if (error == -ENOTCONN)
		queue_put(&remote->todo, req);
	else
		block_complete(req, error);
}

/* A command was answered, or its connection has ended. */
static void
finish(struct remote *remote, struct piece *piece)
{
	struct block_req *req = piece->req;
	bool write = req->op == BLOCK_WRITE || req->op == BLOCK_WRITE_ZEROES;
	int error = piece->error;

	if (error == ENOTCONN) {
		queue_put(&remote->todo, req);
	} else if (error != 0) {
		/* What a flush did not cover is not known to be lost or kept. */
		if (piece->flush)
			remote->lost = true;
		block_complete(req, map_error(error));
	} else if (piece->flush) {
		remote->durable = MAX(remote->durable, piece->written);
		block_complete(req, remote->lost ? -EIO : 0);
	} else {
		if (req->op == BLOCK_READ)
			copy(req, piece->data, piece->len, false);
		if (write && !piece->fua)
			remote->written++;
		if (req->op == BLOCK_READ || req->op == BLOCK_WRITE)
			raw_advance(req, piece->len);
		else
			req->moved += piece->len;
		if (req->moved < req->len ||
		    (write && (req->fua || remote->through) && !piece->fua))
			start(remote, req);
		else
			block_complete(req, 0);
	}
	free(piece);
}

/* Oldest first, so that requests keep about their order. */
static void
finish_all(struct remote *remote)
{
	struct piece *oldest = NULL;

	while (remote->over != NULL) {
		struct piece *piece = remote->over;

		remote->over = piece->next;
		piece->next = oldest;
		oldest = piece;
	}
	while (oldest != NULL) {
		struct piece *piece = oldest;

		oldest = piece->next;
		finish(remote, piece);
	}
}

/* ---- the thread --------------------------------------------------------- */

/* Closing calls back for what is in flight, and that goes to `todo`. */
static void
lose(struct remote *remote)
{
	log_warn("%s: the server has gone", remote->uri);
	nbd_close(remote->handle);
	remote->handle = NULL;
	if (remote->written != remote->durable)
		remote->lost = true;
	finish_all(remote);
}

static void
drain_wake(struct remote *remote)
{
	uint64_t count;

	(void)!read(remote->wake, &count,
	    sizeof(count)); /* nothing there: fine */
}

static bool
is_set(struct remote *remote, const bool *wish)
{
	bool set;

	lock_take(&remote->lock);
	set = *wish;
	lock_drop(&remote->lock);
	return set;
}

/* Until the server is back, or it is too late, or nobody cares any more. */
static void
reach(struct remote *remote)
{
	uint64_t until = now_ms() + remote->reconnect_ms;

	while (!is_set(remote, &remote->hurry)) {
		struct pollfd woken = { .fd = remote->wake, .events = POLLIN };
		uint64_t now = now_ms();
		struct nbd_handle *handle;

		if (now >= until)
			break;
		handle = dial(remote->uri, until - now);
		if (handle != NULL && is_same(remote, handle)) {
			remote->handle = handle;
			log_warn("%s: the server is back", remote->uri);
			return;
		}
		nbd_close(handle);
		(void)poll(&woken, 1, RETRY_MS);
		drain_wake(remote);
	}
	remote->gone = true;
}

static void
start_all(struct remote *remote)
{
	struct queue todo;

	queue_init(&todo);
	queue_move(&todo, &remote->todo);
	lock_take(&remote->lock);
	queue_move(&todo, &remote->queue);
	lock_drop(&remote->lock);
	for (struct block_req *req = queue_take(&todo); req != NULL;
	     req = queue_take(&todo)) {
		if (remote->gone || is_up(remote))
			start(remote, req);
		else
			queue_put(&remote->todo, req);
	}
}

static void
wait_and_notify(struct remote *remote)
{
	struct pollfd fds[2] = { { .fd = remote->wake, .events = POLLIN },
		{ .fd = -1 } };
	unsigned direction = 0;

	if (remote->handle != NULL) {
		direction = nbd_aio_get_direction(remote->handle);
		fds[1].fd = nbd_aio_get_fd(remote->handle);
		if (direction & LIBNBD_AIO_DIRECTION_READ)
			fds[1].events |= POLLIN;
		if (direction & LIBNBD_AIO_DIRECTION_WRITE)
			fds[1].events |= POLLOUT;
	}
	if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
		return; /* EINTR; looked at again */
	if (fds[0].revents != 0)
		drain_wake(remote);
	/* What fails here shows in the handle's state. */
	if (fds[1].revents & (POLLIN | POLLHUP | POLLERR))
		(void)nbd_aio_notify_read(remote->handle);
	else if (fds[1].revents & POLLOUT)
		(void)nbd_aio_notify_write(remote->handle);
}

static void *
remote_run(void *arg)
{
	struct remote *remote = arg;

	while (!is_set(remote, &remote->stop)) {
		if (!remote->gone && !is_up(remote)) {
			lose(remote);
			reach(remote);
		}
		start_all(remote);
		finish_all(remote);
		if (remote->gone ||
		    (is_up(remote) && remote->todo.head == NULL))
			wait_and_notify(remote);
		finish_all(remote);
	}
	return NULL;
}

/* ---- what block.c calls ------------------------------------------------- */

static void
wake_up(struct remote *remote)
{
	const uint64_t one = 1;

	(void)!write(remote->wake, &one, sizeof(one)); /* full: it is awake */
}

static bool
remote_submit(void *own, struct block_req *req)
{
	struct remote *remote = own;
	bool wake;

	lock_take(&remote->lock);
	wake = remote->queue.head == NULL && remote->plugs == 0;
	queue_put(&remote->queue, req);
	lock_drop(&remote->lock);
	if (wake)
		wake_up(remote);
	return false;
}

static void
remote_plug(void *own)
{
	struct remote *remote = own;

	lock_take(&remote->lock);
	remote->plugs++;
	lock_drop(&remote->lock);
}

static void
remote_unplug(void *own)
{
	struct remote *remote = own;
	bool wake;

	lock_take(&remote->lock);
	assert(remote->plugs > 0);
	remote->plugs--;
	wake = remote->plugs == 0 && remote->queue.head != NULL;
	lock_drop(&remote->lock);
	if (wake)
		wake_up(remote);
}

static void
remote_hurry(void *own)
{
	struct remote *remote = own;

	lock_take(&remote->lock);
	remote->hurry = true;
	lock_drop(&remote->lock);
	wake_up(remote);
}

static void
remote_destroy(void *own)
{
	struct remote *remote = own;

	if (remote->started) {
		lock_take(&remote->lock);
		remote->stop = true;
		lock_drop(&remote->lock);
		wake_up(remote);
		pthread_join(remote->thread, NULL);
	}
	if (remote->handle != NULL) /* a courtesy, for which nobody waits */
		(void)nbd_aio_disconnect(remote->handle, 0);
	nbd_close(remote->handle);
	if (remote->wake >= 0)
		(void)close(remote->wake);
	lock_fini(&remote->lock);
	free(remote->uri);
	free(remote);
}

static const struct block_ops remote_ops = {
	.submit = remote_submit,
	.plug = remote_plug,
	.unplug = remote_unplug,
	.hurry = remote_hurry,
	.destroy = remote_destroy,
};

/* ---- opening ------------------------------------------------------------ */

/* Keys about a file that would be wrong to swallow. */
static int
refuse_keys(struct config *node, struct err *err)
{
	static const char *const keys[] = { "nocache", "aio" };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (config_has(node, keys[i]))
			return block_key_err(node, keys[i], err, -EINVAL,
			    "not for a disk of an NBD server");
	}
	return 0;
}

static int
set_info(struct remote *remote, struct config *node,
    const struct block_sectors *want, bool no_delete, struct err *err)
{
	struct block_info *info = &remote->block->info;
	int64_t minimum =
	    nbd_get_block_size(remote->handle, LIBNBD_SIZE_MINIMUM);
	int64_t preferred =
	    nbd_get_block_size(remote->handle, LIBNBD_SIZE_PREFERRED);
	int64_t maximum =
	    nbd_get_block_size(remote->handle, LIBNBD_SIZE_MAXIMUM);
	int64_t size = nbd_get_size(remote->handle);

	minimum = MAX(minimum, (int64_t)BLOCK_SECTOR_MIN);
	if (maximum <= 0 || maximum > (int64_t)PIECE_MAX)
		maximum = (int64_t)PIECE_MAX;
	if (size < 0 || !is_power_of_2((uint64_t)minimum) || minimum > maximum)
		return block_key_err(node, "path", err, -EINVAL,
		    "%s: the server's sizes make no sense", remote->uri);
	info->sector = want->logical != 0 ? want->logical : (uint32_t)minimum;
	info->physical = want->physical;
	if (info->sector % (uint32_t)minimum != 0 || info->sector > maximum)
		return block_key_err(node, "sectorsize", err, -EINVAL,
		    "%u: the server needs a multiple of %lld, at most %lld",
		    info->sector, (long long)minimum, (long long)maximum);
	remote->piece_max = round_down((uint64_t)maximum, info->sector);
	if (info->physical == 0 && preferred > 0 && preferred <= (int64_t)MIB &&
	    is_power_of_2((uint64_t)preferred))
		info->physical = (uint32_t)preferred;
	info->physical = MAX(info->physical, info->sector);
	if (nbd_is_read_only(remote->handle) != 0)
		info->read_only = true;
	remote->can_flush = nbd_can_flush(remote->handle) == 1;
	remote->can_fua = nbd_can_fua(remote->handle) == 1;
	remote->can_trim = nbd_can_trim(remote->handle) == 1;
	remote->can_zero = nbd_can_zero(remote->handle) == 1;
	if (!remote->can_flush)
		remote->through = true;
	if (!info->read_only && remote->through && !remote->can_fua &&
	    !remote->can_flush)
		return block_key_err(node, "path", err, -ENOTSUP,
		    "%s: the server can make nothing durable; only ro=true "
		    "will do",
		    remote->uri);
	info->discard = remote->can_trim && !info->read_only && !no_delete;
	remote->size = (uint64_t)size;
	block_set_size(remote->block, remote->size);
	return 0;
}

int
remote_open(struct block *block, struct config *node, struct err *err)
{
	struct remote *remote = xcalloc(1, sizeof(*remote));
	struct block_sectors sectors = { 0 };
	bool direct, sync, no_delete;
	int64_t seconds;
	int rc;

	remote->block = block;
	remote->wake = -1;
	lock_init(&remote->lock);
	queue_init(&remote->queue);
	queue_init(&remote->todo);
	block->ops = &remote_ops;
	block->own = remote;
	if ((rc = refuse_keys(node, err)) < 0 ||
	    (rc = config_str(node, "path", NULL, &remote->uri, err)) < 0 ||
	    (rc = config_bool(node, "ro", false, &block->info.read_only, err)) <
		0 ||
	    (rc = config_bool(node, "direct", false, &direct, err)) < 0 ||
	    (rc = config_bool(node, "sync", false, &sync, err)) < 0 ||
	    (rc = config_bool(node, "nodelete", false, &no_delete, err)) < 0 ||
	    (rc = config_int(node, "reconnect", 0, 0, RECONNECT_MAX, &seconds,
		 err)) < 0 ||
	    (rc = block_read_sectors(node, &sectors, err)) < 0)
		return rc;
	remote->through = direct || sync;
	remote->reconnect_ms = (uint64_t)seconds * 1000;
	remote->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (remote->wake < 0)
		return err_set_errno(err, -errno, "%s", remote->uri);
	remote->handle = dial(remote->uri, CONNECT_MS);
	if (remote->handle == NULL)
		return block_key_err(node, "path", err, -ECONNREFUSED, "%s: %s",
		    remote->uri, reason());
	rc = set_info(remote, node, &sectors, no_delete, err);
	if (rc < 0)
		return rc;
	rc = block_thread(&remote->thread, remote_run, remote);
	if (rc < 0)
		return err_set_errno(err, rc, "%s: cannot make a thread",
		    remote->uri);
	remote->started = true;
	return 0;
}
