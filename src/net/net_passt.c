/*
 * passt: user networking by passt(1), over its socket at `path`.
 *
 * A unix stream carries frames both ways, each behind its length in 4 bytes,
 * big-endian.  The other side is another process and is not trusted: a length
 * that no frame has ends the connection.  When passt goes the link is down until
 * a new one listens at the path.
 *
 * A frame that the socket takes in part is kept, and the rest flushed by the
 * loop; until then net_send() says that there is no room.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/net_impl.h"

#define RX_ROOM ((size_t)256 * 1024)
#define SOCKET_ROOM (1024 * 1024)
_Static_assert(RX_ROOM >= NET_FRAME_MAX + 4, "a frame fits");

struct passt {
	struct sockaddr_un sun;

	/* Under rx: bytes not looked at are [pos, len). */
	uint8_t rx[RX_ROOM];
	size_t rx_pos;
	size_t rx_len;

	/* Under tx: what is left of a frame. */
	uint8_t tx[NET_FRAME_MAX + 4];
	size_t tx_pos;
	size_t tx_len;
	struct iovec tx_iov[IOV_MAX];
};

static int
passt_connect(struct passt *passt)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int room = SOCKET_ROOM, rc;

	if (fd < 0)
		return -errno;
	/* As much as the host allows; less is only slower. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (connect(fd, (struct sockaddr *)&passt->sun, sizeof(passt->sun)) <
	    0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	passt->rx_pos = passt->rx_len = 0;
	passt->tx_pos = passt->tx_len = 0;
	return fd;
}

static int
passt_open(struct net *net, const char *name, struct err *err)
{
	struct passt *passt;
	char *path;
	int rc = config_str(net->node, "path", NULL, &path, err);

	if (rc < 0)
		return rc;
	if (path == NULL)
		return err_set(err, -EINVAL,
		    "passt: no path, where its socket is");
	passt = xcalloc(1, sizeof(*passt));
	net->own = passt;
	rc = net_unix_addr(&passt->sun, path, err);
	if (rc == 0)
		rc = net_queues(net, 1, err);
	if (rc == 0) {
		rc = passt_connect(passt);
		if (rc >= 0)
			net->queues[0].fd = rc;
		else
			(void)err_set_errno(err, rc, "passt: %s", path);
	}
	free(path);
	return MIN(rc, 0);
}

static void
passt_close(struct net *net)
{
	free(net->own);
}

static int
passt_reopen(struct net_queue *q)
{
	int fd = passt_connect(q->net->own);

	return MAX(fd, -1);
}

static int
passt_error(int code)
{
	return code == EAGAIN || code == EINTR ? -EAGAIN : -EPIPE;
}

static int
passt_flush(struct net_queue *q)
{
	struct passt *passt = q->net->own;

	while (passt->tx_pos < passt->tx_len) {
		ssize_t n = send(q->fd, passt->tx + passt->tx_pos,
		    passt->tx_len - passt->tx_pos, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0)
			return passt_error(errno);
		passt->tx_pos += (size_t)n;
	}
	return 0;
}

static int
passt_send(struct net_queue *q, const struct iovec *iov, unsigned count,
    size_t len)
{
	struct passt *passt = q->net->own;
	be32 length = be32_make((uint32_t)len);
	struct msghdr msg = {
		.msg_iov = passt->tx_iov,
		.msg_iovlen = count + 1,
	};
	ssize_t n;
	int rc = passt_flush(q);

	if (rc < 0)
		return rc;
	assert(count < IOV_MAX);
	passt->tx_iov[0] = (struct iovec) { &length, sizeof(length) };
	memcpy(passt->tx_iov + 1, iov, count * sizeof(*iov));
	n = sendmsg(q->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return passt_error(errno);
	if ((size_t)n < sizeof(length) + len) {
		passt->tx_pos = 0;
		passt->tx_len = net_iov_get(passt->tx_iov, count + 1, (size_t)n,
		    passt->tx, sizeof(length) + len - (size_t)n);
		net_want_flush(q);
	}
	return 0;
}

static ssize_t
passt_recv(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	struct passt *passt = q->net->own;

	for (;;) {
		const uint8_t *p = passt->rx + passt->rx_pos;
		size_t have = passt->rx_len - passt->rx_pos;
		ssize_t n;

		if (have >= 4) {
			size_t len = be32_load(p);

			if (len > NET_FRAME_MAX)
				return -EPIPE;
			if (have - 4 >= len) {
				(void)net_iov_put(iov, count, 0, p + 4, len);
				passt->rx_pos += 4 + len;
				return (ssize_t)len;
			}
		}
		/* What is there is less than a frame: there is room behind. */
		memmove(passt->rx, p, have);
		passt->rx_pos = 0;
		passt->rx_len = have;
		n = recv(q->fd, passt->rx + have, sizeof(passt->rx) - have,
		    MSG_DONTWAIT);
		if (n <= 0)
			return n == 0 ? -EPIPE : passt_error(errno);
		passt->rx_len += (size_t)n;
	}
}

const struct net_family net_passt = {
	.name = "passt",
	.open = passt_open,
	.close = passt_close,
	.send = passt_send,
	.recv = passt_recv,
	.flush = passt_flush,
	.reopen = passt_reopen,
};
