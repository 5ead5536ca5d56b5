/*
 * virtio-net: frames for the guest.
 *
 * Models       Virtio 1.2, 5.1.6.3 and 5.1.6.4.  The back end writes a frame
 *              right into the guest's buffers.  How long it is nobody knows
 *              before, so with mergeable buffers a window of chains is popped
 *              that would hold the longest; a frame takes from its front what
 *              it needs, and what is left at the end is given back.
 * Full rings   frames wait in the back end while there is no buffer at all,
 *              and the driver is asked to tell of new ones.  One that does not
 *              fit into what there is is dropped: waiting for more would be for
 *              ever with a driver that offers no more.
 * Locking      the queue's lock; the rules' for each frame.
 */
#include <errno.h>

#include "virtio/virtio_net_impl.h"

struct window {
	unsigned count; /* of chains */
	uint64_t room;
};

/* The frame's beginning, which the guest may rewrite at the same time. */
GUEST_MAY_RACE static void
read_head(const struct iovec *iov, unsigned count, size_t skip, uint8_t *head,
    size_t len)
{
	for (unsigned i = 0; i < count && len != 0; i++) {
		const uint8_t *from = iov[i].iov_base;
		size_t have = iov[i].iov_len;

		for (size_t at = MIN(skip, have); at < have && len != 0; at++) {
			*head++ = from[at];
			len--;
		}
		skip -= MIN(skip, have);
	}
}

/* Pop until the longest frame would fit, or there is no more. */
static void
window_fill(struct virtio_net *n, struct virtq *vq, struct vnet_pair *pair,
    struct window *w)
{
	unsigned most =
	    n->agreed.features & VIRTIO_NET_F_MRG_RXBUF ? VNET_WINDOW : 1;

	while (w->count < most && (w->count == 0 || w->room < n->agreed.room)) {
		struct virtq_chain *chain = &pair->rx[w->count];

		if (virtq_pop(vq, chain) != 1)
			return;
		if (chain->writable_len < n->agreed.hdr) {
			virtq_fail(vq,
			    "a receive buffer without room for the "
			    "header");
			w->count = 0;
			return;
		}
		w->room += chain->writable_len;
		w->count++;
	}
}

static unsigned
window_iov(struct vnet_pair *pair, const struct window *w)
{
	unsigned n = 0;

	for (unsigned i = 0; i < w->count; i++) {
		const struct virtq_chain *chain = &pair->rx[i];

		for (unsigned k = 0; k < chain->writable && n < NET_IOV_MAX;
		     k++)
			pair->rx_iov[n++] = chain->iov[chain->readable + k];
	}
	return n;
}

/* The first `used` chains are the driver's again. */
static void
window_shift(struct vnet_pair *pair, struct window *w, unsigned used)
{
	for (unsigned i = 0; i < used; i++)
		w->room -= pair->rx[i].writable_len;
	/* Exchanged, since their arrays are used again. */
	for (unsigned i = used; i < w->count; i++) {
		struct virtq_chain chain = pair->rx[i - used];

		pair->rx[i - used] = pair->rx[i];
		pair->rx[i] = chain;
	}
	w->count -= used;
}

/* A frame of len bytes, its header included, is in the window's front. */
static void
deliver(struct virtio_net *n, struct virtq *vq, struct vnet_pair *pair,
    struct window *w, uint64_t len)
{
	unsigned used = 0;

	while (len != 0) {
		uint64_t part = MIN(len, pair->rx[used].writable_len);

		pair->rx_written[used++] = part;
		len -= part;
	}
	if (n->agreed.features & VIRTIO_NET_F_MRG_RXBUF) {
		const le16 count = le16_make((uint16_t)used);

		(void)virtq_write(&pair->rx[0],
		    offsetof(struct net_hdr, num_buffers), &count,
		    sizeof(count)); /* window_fill() saw room for it */
	}
	virtq_push_all(vq, pair->rx, pair->rx_written, used);
	window_shift(pair, w, used);
}

static bool
wanted(struct virtio_net *n, const struct vnet_pair *pair, unsigned count,
    size_t len)
{
	uint8_t head[VNET_HEAD] = { 0 };
	bool accept;

	read_head(pair->rx_iov, count, n->agreed.hdr, head,
	    MIN(sizeof(head), len - n->agreed.hdr));
	lock_take(&n->lock);
	accept = vnet_rules_accept(&n->rules, head,
	    n->agreed.features & VIRTIO_NET_F_CTRL_VLAN);
	lock_drop(&n->lock);
	return accept;
}

void
vnet_rx_run(struct virtio_net *n, struct virtq *vq)
{
	struct vnet_pair *pair = &n->pairs[vq->index / 2];
	struct window w = { 0 };
	unsigned frames = 0;

	virtq_no_notify(vq);
	for (;;) {
		unsigned count;
		ssize_t len;

		window_fill(n, vq, pair, &w);
		if (w.count == 0) {
			if (virtq_want_notify(vq))
				continue;
			break;
		}
		if (frames++ == VNET_BUDGET) {
			virtio_notify_later(&n->virtio);
			break;
		}
		count = window_iov(pair, &w);
		len = net_recv(n->net, vq->index / 2, pair->rx_iov, count);
		if (len == -EAGAIN)
			break; /* until the back end calls */
		if (len > 0 && wanted(n, pair, count, (size_t)len))
			deliver(n, vq, pair, &w, (uint64_t)len);
	}
	while (w.count != 0)
		virtq_unpop(vq, &pair->rx[--w.count]);
	virtq_notify(vq);
}
