/*
 * virtio-net: frames from the guest.
 *
 * Models       Virtio 1.2, 5.1.6.2.  The header is copied, and what the back end
 *              gets is made from the copy: only fields that mean something, and
 *              only what was agreed on.  Frames with any other are dropped.
 * Full back    the chain is given back to the ring, to be popped again when
 * end          the back end calls.
 * Long chains  a frame in more pieces than a back end takes is copied.
 * Locking      the queue's lock.
 */
#include <errno.h>

#include "virtio/virtio_net_impl.h"

/* memcpy() that does not mind what a guest does to its memory meanwhile. */
GUEST_MAY_RACE static void
copy(void *to, const void *from, size_t len)
{
	memcpy(to, from, len);
}

static bool
checksum_ok(uint64_t features, const struct net_hdr *hdr, uint64_t len)
{
	uint64_t start = le16_get(hdr->csum_start);
	uint64_t offset = le16_get(hdr->csum_offset);

	return (features & VIRTIO_NET_F_CSUM) && start <= len &&
	    offset <= len - start && len - start - offset >= 2;
}

static bool
gso_ok(uint64_t features, const struct net_hdr *hdr, uint64_t len)
{
	uint64_t needed;

	switch (hdr->gso_type & ~NET_HDR_GSO_ECN) {
	case NET_HDR_GSO_TCPV4:
		needed = VIRTIO_NET_F_HOST_TSO4;
		break;
	case NET_HDR_GSO_TCPV6:
		needed = VIRTIO_NET_F_HOST_TSO6;
		break;
	default:
		return false;
	}
	if (hdr->gso_type & NET_HDR_GSO_ECN)
		needed |= VIRTIO_NET_F_HOST_ECN;
	return (features & needed) == needed &&
	    (hdr->flags & NET_HDR_F_NEEDS_CSUM) &&
	    le16_get(hdr->gso_size) != 0 && le16_get(hdr->hdr_len) <= len;
}

/* Can a frame of len bytes have this header?  What means nothing is cleared. */
static bool
header_ok(uint64_t features, struct net_hdr *hdr, uint64_t len)
{
	struct net_hdr clean = { 0 };

	if (hdr->flags & NET_HDR_F_NEEDS_CSUM) {
		if (!checksum_ok(features, hdr, len))
			return false;
		clean.flags = NET_HDR_F_NEEDS_CSUM;
		clean.csum_start = hdr->csum_start;
		clean.csum_offset = hdr->csum_offset;
	}
	if (hdr->gso_type != NET_HDR_GSO_NONE) {
		if (!gso_ok(features, hdr, len))
			return false;
		clean.gso_type = hdr->gso_type;
		clean.gso_size = hdr->gso_size;
		clean.hdr_len = hdr->hdr_len;
	}
	*hdr = clean;
	return true;
}

/* The pieces behind `skip` bytes, or how many a copy has: one. */
static unsigned
gather(struct vnet_pair *pair, size_t skip, struct iovec *iov, unsigned max)
{
	const struct virtq_chain *chain = &pair->tx;
	size_t at = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < chain->readable; i++) {
		uint8_t *base = chain->iov[i].iov_base;
		size_t len = chain->iov[i].iov_len;
		size_t off = MIN(skip, len);

		skip -= off;
		if (off == len)
			continue;
		if (chain->readable > max) {
			copy(pair->tx_copy + at, base + off, len - off);
			at += len - off;
		} else {
			iov[n++] = (struct iovec) { base + off, len - off };
		}
	}
	if (at != 0)
		iov[n++] = (struct iovec) { pair->tx_copy, at };
	return n;
}

/* 0: sent or dropped; -EAGAIN. */
static int
transmit(struct virtio_net *n, unsigned index)
{
	struct vnet_pair *pair = &n->pairs[index];
	size_t hdr = n->agreed.hdr;
	uint64_t len;
	unsigned count;

	memset(&pair->tx_hdr, 0, sizeof(pair->tx_hdr));
	if (!virtq_read(&pair->tx, 0, &pair->tx_hdr, hdr))
		return 0;
	len = pair->tx.readable_len - hdr;
	if (len < NET_ETHER_HDR || len > NET_FRAME_MAX ||
	    !header_ok(n->agreed.features, &pair->tx_hdr, len))
		return 0;
	pair->tx_iov[0] = (struct iovec) { &pair->tx_hdr, hdr };
	count = 1 + gather(pair, hdr, pair->tx_iov + 1, NET_IOV_MAX - 1);
	return net_send(n->net, index, pair->tx_iov, count);
}

void
vnet_tx_run(struct virtio_net *n, struct virtq *vq)
{
	unsigned index = vq->index / 2, frames = 0;
	struct vnet_pair *pair = &n->pairs[index];

	virtq_no_notify(vq);
	for (;;) {
		if (frames++ == VNET_BUDGET) {
			virtio_notify_later(&n->virtio);
			break;
		}
		if (virtq_pop(vq, &pair->tx) != 1) {
			if (virtq_want_notify(vq))
				continue;
			break;
		}
		if (transmit(n, index) == -EAGAIN) {
			virtq_unpop(vq, &pair->tx);
			break; /* until the back end calls */
		}
		virtq_push(vq, &pair->tx, 0);
	}
	virtq_notify(vq);
}
