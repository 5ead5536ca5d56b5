/*
 * virtio-net: what its files share.
 *
 * Features, header and buffers in `agreed` change only while no queue runs, so
 * whoever holds the lock of a running queue may read them.
 */
#ifndef VIRTIO_VIRTIO_NET_IMPL_H
#define VIRTIO_VIRTIO_NET_IMPL_H

#include "net/net.h"
#include "virtio/virtio.h"

/* Virtio 1.2, 5.1.3. */
#define VIRTIO_NET_F_CSUM BIT(0)
#define VIRTIO_NET_F_GUEST_CSUM BIT(1)
#define VIRTIO_NET_F_MTU BIT(3)
#define VIRTIO_NET_F_MAC BIT(5)
#define VIRTIO_NET_F_GUEST_TSO4 BIT(7)
#define VIRTIO_NET_F_GUEST_TSO6 BIT(8)
#define VIRTIO_NET_F_GUEST_ECN BIT(9)
#define VIRTIO_NET_F_HOST_TSO4 BIT(11)
#define VIRTIO_NET_F_HOST_TSO6 BIT(12)
#define VIRTIO_NET_F_HOST_ECN BIT(13)
#define VIRTIO_NET_F_MRG_RXBUF BIT(15)
#define VIRTIO_NET_F_STATUS BIT(16)
#define VIRTIO_NET_F_CTRL_VQ BIT(17)
#define VIRTIO_NET_F_CTRL_RX BIT(18)
#define VIRTIO_NET_F_CTRL_VLAN BIT(19)
#define VIRTIO_NET_F_CTRL_RX_EXTRA BIT(20)
#define VIRTIO_NET_F_MQ BIT(22)
#define VIRTIO_NET_F_CTRL_MAC_ADDR BIT(23)

#define VNET_QUEUES (2 * NET_QUEUES_MAX + 1)
#define VNET_QUEUE_SIZE 1024u
/* Chains that one frame may be spread over: 64 KiB in buffers of 1 KiB. */
#define VNET_WINDOW 65u
/* Frames in one go, each way. */
#define VNET_BUDGET 128u
#define VNET_MACS 64u
#define VNET_VLANS 4096u

/* 5.1.4. */
struct vnet_config {
	uint8_t mac[NET_MAC_LEN];
	le16 status;
	le16 max_pairs;
	le16 mtu;
};
_Static_assert(sizeof(struct vnet_config) == 12, "virtio 1.2, 5.1.4");

/* Which frames the driver wants (5.1.6.5.1 to 5.1.6.5.3). */
struct vnet_rules {
	bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
	/* There were more addresses than fit: take all of the kind. */
	bool many_uni, many_multi;
	uint8_t mac[NET_MAC_LEN];
	uint8_t uni_count, multi_count;
	uint8_t uni[VNET_MACS * NET_MAC_LEN];
	uint8_t multi[VNET_MACS * NET_MAC_LEN];
	uint64_t vlans[VNET_VLANS / 64];
};

/* Each half is guarded by the lock of its queue. */
struct vnet_pair {
	/* Popped for frames to come, while receiving. */
	struct virtq_chain rx[VNET_WINDOW]; /* owned */
	uint64_t rx_written[VNET_WINDOW];
	struct iovec rx_iov[NET_IOV_MAX];

	struct virtq_chain tx; /* owned */
	struct net_hdr tx_hdr;
	struct iovec tx_iov[NET_IOV_MAX];
	uint8_t *tx_copy; /* owned: a frame in too many pieces */
};

struct virtio_net {
	struct virtio virtio;
	struct virtq_regs queues[VNET_QUEUES];
	struct pci_msix_entry msix[VNET_QUEUES + 1];
	struct net *net;         /* owned */
	struct net_info info;    /* constant, but for its link */
	bool live;               /* the back end is to run; the device's lock */
	struct vnet_pair *pairs; /* owned: info.queues of them */
	struct virtq_chain ctrl; /* owned; guarded by its queue's lock */
	uint16_t active;         /* pairs in use; the control queue's lock */

	struct {
		uint64_t features;
		size_t hdr; /* bytes in front of a frame */
		size_t
		    room; /* for the longest frame expected, header and all */
		unsigned ctrl; /* the control queue's index; 0: there is none */
		unsigned pairs;
	} agreed;

	struct lock lock;        /* a leaf inside the queues' */
	struct vnet_rules rules; /* guarded by it */
};

/* ---- virtio_net.c ------------------------------------------------------- */

/* The guest's address has changed: its configuration says so. */
void vnet_show_mac(struct virtio_net *n);

/* ---- virtio_net_rx.c, virtio_net_tx.c, virtio_net_ctrl.c ---------------- */

/* All three with the queue's lock held, as far as the budget goes. */
void vnet_rx_run(struct virtio_net *n, struct virtq *vq);
void vnet_tx_run(struct virtio_net *n, struct virtq *vq);
void vnet_ctrl_run(struct virtio_net *n, struct virtq *vq);

void vnet_rules_reset(struct vnet_rules *rules, const uint8_t *mac);
/* Is a frame that begins so for this guest?  vlans: heed its VLAN. */
#define VNET_HEAD (NET_ETHER_HDR + 4)
bool vnet_rules_accept(const struct vnet_rules *rules,
    const uint8_t head[VNET_HEAD], bool vlans);

#endif
