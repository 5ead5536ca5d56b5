/*
 * tapN, and tap with tap=NAME: an interface of the host's kernel.
 *
 * The interface is there already, or `create` has it made, to vanish with us.
 * It is brought up, but given no address and put in no bridge: that is the
 * administrator's.  With queues=N it has N descriptors; those beyond the ones in
 * use are detached, so that the kernel does not choose them.
 *
 * Frames carry a virtio-net header of 12 bytes, whatever the card's have: the
 * kernel does what a guest leaves undone, and leaves undone what the guest said
 * it can do (TUNSETOFFLOAD).  The kernel checks the header itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/net_impl.h"

#define TUN_PATH "/dev/net/tun"

static int
tun_error(struct err *err, const char *name, int code)
{
	switch (code) {
	case EPERM:
		return err_set(err, -code,
		    "%s: not ours to use: that takes CAP_NET_ADMIN or an "
		    "interface that belongs to this user",
		    name);
	case EBUSY:
		return err_set(err, -code, "%s: in use by another process",
		    name);
	case EINVAL:
		return err_set(err, -code,
		    "%s: no tap, or one made for another number of queues",
		    name);
	default:
		return err_set_errno(err, -code, "%s: cannot be used", name);
	}
}

/* One more descriptor for the interface; its name may be chosen by the kernel. */
static int
tun_open(char name[IFNAMSIZ], bool multi, int *opened, struct err *err)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int size = sizeof(struct net_hdr), little = 1, rc;

	if (fd < 0)
		return err_set_errno(err, -errno, TUN_PATH);
	memcpy(ifr.ifr_name, name, IFNAMSIZ);
	if (multi)
		ifr.ifr_flags |= IFF_MULTI_QUEUE;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		rc = tun_error(err, name, errno);
		goto fail;
	}
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0) {
		rc = err_set_errno(err, -errno, "%s: no headers of %d bytes",
		    name, size);
		goto fail;
	}
	/* On this processor that is so anyway. */
	(void)ioctl(fd, TUNSETVNETLE, &little);
	memcpy(name, ifr.ifr_name, IFNAMSIZ);
	*opened = fd;
	return 0;

fail:
	close(fd);
	return rc;
}

/* Bring it up, and agree on an MTU. */
static int
tap_configure(struct net *net, const char *name, bool create, struct err *err)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;

	if (fd < 0)
		return err_set_errno(err, -errno, "socket");
	memcpy(ifr.ifr_name, name, IFNAMSIZ);
	if (create && net->mtu_set) {
		ifr.ifr_mtu = net->mtu;
		if (ioctl(fd, SIOCSIFMTU, &ifr) < 0) {
			rc = err_set_errno(err, -errno, "%s: mtu %u", name,
			    net->mtu);
			goto out;
		}
	} else if (!net->mtu_set && ioctl(fd, SIOCGIFMTU, &ifr) == 0 &&
	    ifr.ifr_mtu >= NET_MTU_MIN && ifr.ifr_mtu <= NET_MTU_MAX) {
		net->mtu = (uint16_t)ifr.ifr_mtu;
	}
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0) {
		rc = err_set_errno(err, -errno, "%s", name);
		goto out;
	}
	if (!(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
			rc = err_set_errno(err, -errno,
			    "%s: is down and cannot be brought up", name);
	}
out:
	close(fd);
	return rc;
}

static int
tap_use_queue(struct net_queue *q, bool use)
{
	struct ifreq ifr = {
		.ifr_flags = use ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE,
	};

	return ioctl(q->fd, TUNSETQUEUE, &ifr) < 0 ? -errno : 0;
}

static int
tap_set_offload(struct net *net, unsigned rx)
{
	static const struct {
		unsigned ours, tun;
	} bits[] = {
		{ NET_OFFLOAD_CSUM, TUN_F_CSUM },
		{ NET_OFFLOAD_TSO4, TUN_F_TSO4 },
		{ NET_OFFLOAD_TSO6, TUN_F_TSO6 },
		{ NET_OFFLOAD_ECN, TUN_F_TSO_ECN },
	};
	unsigned tun = 0;

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		if (rx & bits[i].ours)
			tun |= bits[i].tun;
	/* Segments need checksums (virtio 1.2, 5.1.3.1). */
	if (tun != 0 && !(tun & TUN_F_CSUM))
		return -EINVAL;
	if (net->queues[0].fd < 0)
		return 0; /* the interface was deleted: no frames will come */
	return ioctl(net->queues[0].fd, TUNSETOFFLOAD, tun) < 0 ? -errno : 0;
}

/* What the interface is called: the key, or the back end's own name. */
static int
tap_name(struct net *net, const char *backend, bool create, char name[IFNAMSIZ],
    struct err *err)
{
	bool keyed = config_has(net->node, "tap");
	char *text;
	int rc;

	if (keyed && strcmp(backend, "tap") != 0)
		return err_set(err, -EINVAL,
		    "tap: %s is named by the backend already", backend);
	rc = config_str(net->node, "tap", backend, &text, err);
	if (rc < 0)
		return rc;
	if (!keyed && strcmp(backend, "tap") == 0) {
		free(text);
		if (!create)
			return err_set(err, -EINVAL,
			    "tap: which? tapN or tap=NAME");
		memset(name, 0, IFNAMSIZ);
		memcpy(name, "tap%d", sizeof("tap%d"));
		return 0;
	}
	if (strlen(text) >= IFNAMSIZ || text[0] == '\0') {
		rc = err_set(err, -EINVAL,
		    "%s: an interface's name has 1 to %d characters", text,
		    IFNAMSIZ - 1);
	} else {
		memset(name, 0, IFNAMSIZ);
		memcpy(name, text, strlen(text));
		if (!create && if_nametoindex(name) == 0)
			rc = err_set(err, -ENODEV,
			    "%s: no such interface; create=true makes it",
			    name);
	}
	free(text);
	return rc;
}

static int
tap_open(struct net *net, const char *backend, struct err *err)
{
	char name[IFNAMSIZ];
	int64_t queues;
	bool create;
	int rc = config_bool(net->node, "create", false, &create, err);

	if (rc == 0)
		rc = config_int(net->node, "queues", 1, 1, NET_QUEUES_MAX,
		    &queues, err);
	if (rc == 0)
		rc = tap_name(net, backend, create, name, err);
	if (rc == 0)
		rc = net_queues(net, (unsigned)queues, err);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < net->queue_count; i++) {
		struct net_queue *q = &net->queues[i];

		rc = tun_open(name, queues > 1, &q->fd, err);
		/* One that was made for several serves one, too. */
		if (rc == -EINVAL && queues == 1)
			rc = tun_open(name, true, &q->fd, err);
		if (rc < 0)
			return rc;
		if (i > 0) {
			rc = tap_use_queue(q, false);
			if (rc < 0)
				return err_set_errno(err, rc,
				    "%s: cannot detach a queue", name);
		}
	}
	net->vnet = true;
	net->offloads = NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 |
	    NET_OFFLOAD_ECN;
	rc = tap_set_offload(net, 0);
	if (rc < 0)
		return err_set_errno(err, rc, "%s: offloads", name);
	return tap_configure(net, name, create, err);
}

static int
tap_send(struct net_queue *q, const struct iovec *iov, unsigned count,
    size_t len)
{
	if (writev(q->fd, iov, (int)count) >= 0)
		return 0;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return -EAGAIN;
	case EBADFD:
		return -EPIPE;
	default:
		return -errno; /* it is down, or does not like the header */
	}
}

static ssize_t
tap_recv(struct net_queue *q, const struct iovec *iov, unsigned count)
{
	ssize_t len = readv(q->fd, iov, (int)count);

	if (len >= 0)
		return len;
	switch (errno) {
	case EAGAIN:
	case EINTR:
		return -EAGAIN;
	case EFAULT:
	case EINVAL:
		return 0; /* a frame is lost, the interface is not */
	default:
		return -EPIPE;
	}
}

const struct net_family net_tap = {
	.name = "tap",
	.open = tap_open,
	.send = tap_send,
	.recv = tap_recv,
	.set_offload = tap_set_offload,
	.use_queue = tap_use_queue,
};
