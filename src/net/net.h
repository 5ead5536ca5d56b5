/*
 * Network back ends: where the frames of a network card go.
 *
 * A card (a virtio device, an e1000) opens its node of the configuration and
 * gets one interface, whatever is behind it: a tap, slirp, passt, a socket.
 * Link protection and rate limits (bhyve_config(5)) lie between the two.
 *
 * Frames       are Ethernet's without the frame check sequence, 14 to
 *              NET_FRAME_MAX bytes, in front of them a struct net_hdr if
 *              net_set_offload() said so.  All of them are iovecs into memory
 *              that somebody else may rewrite meanwhile: what counts for a
 *              decision is copied first.
 * Queues       are pairs, numbered from 0, each with a thread of its own for
 *              the calls in struct net_ops.  Only a tap can have several.
 * Threads      net_send() and net_recv() may be called from any thread, from
 *              the callbacks as well; the two do not disturb each other, and
 *              two calls for the same direction of a queue take turns.  They
 *              never block on the network.  The locks taken are of the back
 *              end's rank: callers may hold a device's or a virtqueue's.
 *              net_open(), net_pause(), net_resume(), net_set_offload(),
 *              net_set_queues() and net_close() are the owner's, one at a time
 *              and never from a callback.
 * Callbacks    run on a thread of the back end with no lock held.  For a queue
 *              there is one at a time; link() comes on queue 0's thread.
 *              A call owed is made once: it is owed again only after another
 *              -EAGAIN.  A spurious one may come.
 */
#ifndef NET_NET_H
#define NET_NET_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/wire.h"
#include "config/config.h"

struct net;

#define NET_MAC_LEN 6
#define NET_ETHER_HDR 14
#define NET_FRAME_MAX \
	65553 /* 65535 bytes behind Ethernet's and VLAN's header */
#define NET_MTU_MIN 60
#define NET_MTU_MAX 65535
#define NET_QUEUES_MAX 16

/* The virtio-net header (virtio 1.2, 5.1.6), as on the wire. */
struct net_hdr {
	uint8_t flags;
	uint8_t gso_type;
	le16 hdr_len;
	le16 gso_size;
	le16 csum_start;
	le16 csum_offset;
	le16 num_buffers; /* not in a header of 10 bytes */
};
_Static_assert(sizeof(struct net_hdr) == 12, "virtio 1.2, 5.1.6");
#define NET_HDR_LEGACY 10

#define NET_HDR_F_NEEDS_CSUM 1
#define NET_HDR_F_DATA_VALID 2
#define NET_HDR_GSO_NONE 0
#define NET_HDR_GSO_TCPV4 1
#define NET_HDR_GSO_TCPV6 4
#define NET_HDR_GSO_ECN 0x80

/*
 * Work that one side may leave to the other.  A back end does all that it
 * offers in both directions, or offers none.
 */
#define NET_OFFLOAD_CSUM 1u /* checksums not filled in */
#define NET_OFFLOAD_TSO4 2u /* segments to be cut */
#define NET_OFFLOAD_TSO6 4u
#define NET_OFFLOAD_ECN 8u /* such segments with ECN set */

struct net_info {
	uint8_t mac[NET_MAC_LEN]; /* configured, or derived */
	uint16_t mtu;
	bool mtu_set; /* the user asked for it: tell the guest */
	unsigned queues;
	unsigned offloads; /* NET_OFFLOAD_* that net_set_offload() may name */
	bool link;
};

struct net_stats {
	uint64_t tx_frames, tx_bytes; /* from the guest */
	uint64_t rx_frames, rx_bytes;
	uint64_t tx_filtered;  /* refused by link protection */
	uint64_t tx_malformed; /* too short, too long, or a header that lies */
	uint64_t tx_dropped;   /* nobody there to take them */
	uint64_t rx_dropped;   /* did not fit, or came malformed */
};

struct net_ops {
	/* net_recv() said -EAGAIN; now there may be something. */
	void (*readable)(void *arg, unsigned queue);
	/* net_send() said -EAGAIN; now there may be room. */
	void (*writable)(void *arg, unsigned queue);
	/* The link went up or down. */
	void (*link)(void *arg, bool up);
};

/* The keys of a card's node that net_open() reads: for device_check_keys(). */
extern const char *const net_keys[];
extern const size_t net_keys_count;

/*
 * Open what `node` describes: `backend` and the other net_keys.  mac_seed, such
 * as "3-0-vm" for slot, function and machine, is what a MAC address is derived
 * from if none is given.  ops and arg are borrowed until net_close().
 *
 * It begins paused and without a header or offloads: net_set_offload(), then
 * net_resume(), after which readable() is owed for every queue.
 */
int net_open(struct config *node, const char *mac_seed,
    const struct net_ops *ops, void *arg, struct net **net, struct err *err);
void net_close(struct net *net); /* no callback runs any more; NULL is fine */

void net_info(struct net *net, struct net_info *info);
void net_stats(struct net *net, struct net_stats *stats);

/*
 * Frames have a header of `hdr` bytes in front: 0, NET_HDR_LEGACY or
 * sizeof(struct net_hdr).  `rx` are the offloads that the guest takes: frames
 * for it may need the checksum or be longer than the MTU.  What it sends may
 * use any that net_info() names, if there is a header.  Only while paused.
 * -EINVAL for what is not offered.
 */
int net_set_offload(struct net *net, size_t hdr, unsigned rx);

/*
 * Use the first n queues only, 1 to net_info()'s: frames for the guest come on
 * these.  At first it is 1.  The virtio control queue's affair, so it may be
 * called while frames flow; the caller holds no lock that callbacks take.
 */
int net_set_queues(struct net *net, unsigned n);

/*
 * Take a frame from the guest, header first.  0: sent, or dropped as networks
 * drop frames, and counted.  -EAGAIN: no room, or the rate is used up; nothing
 * was taken and writable() will come.
 */
int net_send(struct net *net, unsigned queue, const struct iovec *iov,
    unsigned count);

/*
 * Put a frame for the guest into iov, header first with num_buffers 1: its
 * length, which includes the header.  -EAGAIN: none, or the rate is used up;
 * readable() will come.  -EMSGSIZE: the next one did not fit, or was no frame,
 * and was dropped.  What iov holds after an error is undefined.
 */
ssize_t net_recv(struct net *net, unsigned queue, const struct iovec *iov,
    unsigned count);

/*
 * While paused there are no callbacks, and send and receive say -EAGAIN; what
 * is owed then comes after net_resume().  When net_pause() returns none is
 * running: the caller holds no lock that callbacks take.
 */
void net_pause(struct net *net);
void net_resume(struct net *net);

/* iovecs longer than this are refused as malformed (or do not fit). */
#define NET_IOV_MAX 1022

#endif
