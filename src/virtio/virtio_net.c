/*
 * virtio-net: a network card.
 *
 * Models       Virtio 1.2, section 5.1 (device number 1): pairs of queues and a
 *              control queue.  What checksums and segments may be left to the
 *              other side is what the back end (net/net.h) offers.
 *
 *              virtio_net_rx.c    frames for the guest
 *              virtio_net_tx.c    frames from the guest
 *              virtio_net_ctrl.c  the control queue
 *
 * Queues       rx 0, tx 0, rx 1, ..., and the control queue behind the pairs:
 *              those of the back end with VIRTIO_NET_F_MQ, else one (5.1.2), so
 *              the place of the control queue is up to the driver.
 * Leaves out   announcing, RSS, UDP segments, interrupt coalescing.
 * Locking      device, queue, `lock`.  The back end's threads come with none and
 *              take that of the queue, as a notification of the driver would.
 *              Frames are moved under it, and no chain is held beyond: nothing
 *              is ever in flight, so there is nothing to drain.
 * Order        pause: the queues are held, then the back end is paused, which
 *              waits for its calls; resume in reverse.  While a driver resets or
 *              agrees no queue runs, and the back end is paused to be told of
 *              it.  The back end is closed first, then nobody calls any more.
 * State        that of the queues, the rules of reception, the pairs in use.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "virtio/virtio_impl.h"
#include "virtio/virtio_net_impl.h"
#include "vm/vm.h"

#define STATUS_LINK_UP 1u
#define JUMBO_MTU 9000u
#define VLAN_TAG 4u

static const struct field virtio_net_state[] = {
	VIRTIO_STATE(struct virtio_net, virtio),
	VIRTQ_STATE(struct virtio_net, queues),
	PCI_MSIX_STATE(struct virtio_net, msix),
	STATE_INT(struct virtio_net, active, 1),
	STATE_BOOL(struct virtio_net, rules.promisc, true),
	STATE_BOOL(struct virtio_net, rules.allmulti, false),
	STATE_BOOL(struct virtio_net, rules.alluni, false),
	STATE_BOOL(struct virtio_net, rules.nomulti, false),
	STATE_BOOL(struct virtio_net, rules.nouni, false),
	STATE_BOOL(struct virtio_net, rules.nobcast, false),
	STATE_BOOL(struct virtio_net, rules.many_uni, false),
	STATE_BOOL(struct virtio_net, rules.many_multi, false),
	STATE_ARRAY(struct virtio_net, rules.mac, 0),
	STATE_INT_MAX(struct virtio_net, rules.uni_count, 0, VNET_MACS),
	STATE_INT_MAX(struct virtio_net, rules.multi_count, 0, VNET_MACS),
	STATE_ARRAY(struct virtio_net, rules.uni, 0),
	STATE_ARRAY(struct virtio_net, rules.multi, 0),
	STATE_ARRAY(struct virtio_net, rules.vlans, 0),
};

/* ---- features ----------------------------------------------------------- */

/* What is offered for one of the back end's, 5.1.3. */
static const struct {
	unsigned offload;
	uint64_t guest, host;
} offloads[] = {
	{ NET_OFFLOAD_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_CSUM },
	{ NET_OFFLOAD_TSO4, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4 },
	{ NET_OFFLOAD_TSO6, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_TSO6 },
	{ NET_OFFLOAD_ECN, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_HOST_ECN },
};

/* 5.1.3.1: a feature is worth nothing without one of these. */
static const struct {
	uint64_t feature, needs;
} requirements[] = {
	{ VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_CSUM },
	{ VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_GUEST_CSUM },
	{ VIRTIO_NET_F_GUEST_ECN,
	    VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 },
	{ VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_CSUM },
	{ VIRTIO_NET_F_HOST_TSO6, VIRTIO_NET_F_CSUM },
	{ VIRTIO_NET_F_HOST_ECN,
	    VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 },
	{ VIRTIO_NET_F_CTRL_RX, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_NET_F_CTRL_RX_EXTRA, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_NET_F_CTRL_VLAN, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_NET_F_CTRL_MAC_ADDR, VIRTIO_NET_F_CTRL_VQ },
	{ VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ },
};

static uint64_t
offered(const struct net_info *info)
{
	uint64_t features = VIRTIO_NET_F_MAC | VIRTIO_NET_F_STATUS |
	    VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_CTRL_VQ |
	    VIRTIO_NET_F_CTRL_RX | VIRTIO_NET_F_CTRL_RX_EXTRA |
	    VIRTIO_NET_F_CTRL_VLAN | VIRTIO_NET_F_CTRL_MAC_ADDR;

	if (info->mtu_set)
		features |= VIRTIO_NET_F_MTU;
	if (info->queues > 1)
		features |= VIRTIO_NET_F_MQ;
	for (unsigned i = 0; i < ARRAY_SIZE(offloads); i++)
		if (info->offloads & offloads[i].offload)
			features |= offloads[i].guest | offloads[i].host;
	return features;
}

/* A legacy driver cannot be refused; it gets what makes sense. */
static uint64_t
coherent(uint64_t features)
{
	for (unsigned i = 0; i < ARRAY_SIZE(requirements); i++)
		if (!(features & requirements[i].needs))
			features &= ~requirements[i].feature;
	return features;
}

static bool
vnet_acceptable(const void *self, uint64_t features)
{
	return coherent(features) == features;
}

/* No queue runs.  The back end is paused, and stays so unless we are live. */
static void
vnet_negotiated(void *self, uint64_t features)
{
	struct virtio_net *n = self;
	unsigned rx = 0;
	bool mq;
	int rc;

	features = coherent(features);
	mq = features & VIRTIO_NET_F_MQ;
	for (unsigned i = 0; i < ARRAY_SIZE(offloads); i++)
		if (features & offloads[i].guest)
			rx |= offloads[i].offload;
	n->agreed.features = features;
	n->agreed.hdr =
	    features & (VIRTIO_NET_F_MRG_RXBUF | VIRTIO_F_VERSION_1) ?
	    sizeof(struct net_hdr) :
	    NET_HDR_LEGACY;
	n->agreed.room = n->agreed.hdr +
	    (rx & (NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6) ?
		    NET_FRAME_MAX :
		    MAX(n->info.mtu, JUMBO_MTU) + NET_ETHER_HDR + VLAN_TAG);
	n->agreed.pairs = mq ? n->info.queues : 1;
	n->agreed.ctrl =
	    features & VIRTIO_NET_F_CTRL_VQ ? 2 * n->agreed.pairs : 0;
	net_pause(n->net);
	rc = net_set_offload(n->net, n->agreed.hdr, rx);
	if (rc < 0) {
		log_warn("%s: the back end fills in checksums after all",
		    device_name(n->virtio.dev));
		/* Nothing is asked for that it could refuse. */
		(void)net_set_offload(n->net, n->agreed.hdr, 0);
	}
	if (n->live)
		net_resume(n->net);
}

/* ---- configuration ------------------------------------------------------ */

void
vnet_show_mac(struct virtio_net *n)
{
	uint8_t mac[NET_MAC_LEN];

	lock_take(&n->lock);
	memcpy(mac, n->rules.mac, sizeof(mac));
	lock_drop(&n->lock);
	virtio_config_set(&n->virtio, offsetof(struct vnet_config, mac), mac,
	    sizeof(mac));
}

static void
show_link(struct virtio_net *n, bool up)
{
	const le16 status = le16_make(up ? STATUS_LINK_UP : 0);

	virtio_config_set(&n->virtio, offsetof(struct vnet_config, status),
	    &status, sizeof(status));
}

/* 5.1.4.1: a legacy driver sets its address here, byte by byte. */
static void
vnet_config_write(void *self, unsigned off, uint8_t value)
{
	struct virtio_net *n = self;

	if (!n->virtio.legacy || off >= NET_MAC_LEN)
		return;
	lock_take(&n->lock);
	n->rules.mac[off] = value;
	lock_drop(&n->lock);
	vnet_show_mac(n);
}

/* ---- queues ------------------------------------------------------------- */

static void
vnet_notify(void *self, struct virtq *vq)
{
	struct virtio_net *n = self;

	if (n->agreed.ctrl != 0 && vq->index == n->agreed.ctrl)
		vnet_ctrl_run(n, vq);
	else if (vq->index >= 2 * n->agreed.pairs)
		return;
	else if (vq->index % 2 == 0)
		vnet_rx_run(n, vq);
	else
		vnet_tx_run(n, vq);
}

static void
vnet_readable(void *arg, unsigned queue)
{
	struct virtio_net *n = arg;

	virtio_notify(&n->virtio, 2 * queue);
}

static void
vnet_writable(void *arg, unsigned queue)
{
	struct virtio_net *n = arg;

	virtio_notify(&n->virtio, 2 * queue + 1);
}

static void
vnet_link(void *arg, bool up)
{
	show_link(arg, up);
}

static const struct net_ops vnet_net_ops = {
	.readable = vnet_readable,
	.writable = vnet_writable,
	.link = vnet_link,
};

/* By the driver or the machine; no queue runs. */
static void
vnet_forget(void *self)
{
	struct virtio_net *n = self;

	lock_take(&n->lock);
	vnet_rules_reset(&n->rules, n->info.mac);
	lock_drop(&n->lock);
	vnet_show_mac(n);
	n->active = 1;
	(void)net_set_queues(n->net, 1); /* or more, which does no harm */
	vnet_negotiated(n, 0);
}

static const struct virtio_model vnet_virtio = {
	.type = 1,
	.transitional_id = 0x1000,
	.class = 0x02,
	.config_size = sizeof(struct vnet_config),
	.notify = vnet_notify,
	.reset = vnet_forget,
	.negotiated = vnet_negotiated,
	.acceptable = vnet_acceptable,
	.config_write = vnet_config_write,
};

/* ---- the device --------------------------------------------------------- */

static int
check_keys(struct device *dev, struct err *err)
{
	const char **keys = xcalloc(net_keys_count + 2, sizeof(keys[0]));
	int rc;

	keys[0] = "device";
	keys[1] = "pcireg";
	memcpy(keys + 2, net_keys, net_keys_count * sizeof(keys[0]));
	rc = device_check_keys(dev, keys, net_keys_count + 2, err);
	free(keys);
	return rc;
}

static int
open_net(struct virtio_net *n, struct device *dev, struct err *err)
{
	struct config *node = device_config(dev);
	struct pci_addr addr;
	char *seed;
	int rc = pci_node_addr(node, &addr, err);

	if (rc < 0)
		return rc;
	seed = xasprintf("%u-%u-%s", addr.slot, addr.func,
	    vm_name(device_vm(dev)));
	rc = net_open(node, seed, &vnet_net_ops, n, &n->net, err);
	free(seed);
	if (rc == 0)
		net_info(n->net, &n->info);
	return rc;
}

static void
make_pairs(struct virtio_net *n)
{
	n->pairs = xcalloc(n->info.queues, sizeof(n->pairs[0]));
	for (unsigned i = 0; i < n->info.queues; i++) {
		struct vnet_pair *pair = &n->pairs[i];

		for (unsigned k = 0; k < VNET_WINDOW; k++)
			virtq_chain_init(&pair->rx[k], VNET_QUEUE_SIZE);
		virtq_chain_init(&pair->tx, VNET_QUEUE_SIZE);
		pair->tx_copy = xcalloc(1, NET_FRAME_MAX);
	}
	virtq_chain_init(&n->ctrl, VNET_QUEUE_SIZE);
}

static int
vnet_create(struct device *dev, void *self, struct err *err)
{
	struct virtio_net *n = self;
	uint16_t sizes[VNET_QUEUES];
	struct vnet_config config = { 0 };
	int rc = check_keys(dev, err);

	lock_init(&n->lock);
	if (rc == 0)
		rc = open_net(n, dev, err);
	if (rc < 0)
		return rc;
	make_pairs(n);
	for (unsigned i = 0; i < VNET_QUEUES; i++)
		sizes[i] = VNET_QUEUE_SIZE;
	rc = virtio_init(&n->virtio, dev, &vnet_virtio, 2 * n->info.queues + 1,
	    sizes, n->queues, n->msix, offered(&n->info), err);
	if (rc < 0)
		return rc;
	config.max_pairs = le16_make((uint16_t)n->info.queues);
	config.mtu = le16_make(n->info.mtu);
	virtio_config_set(&n->virtio, 0, &config, sizeof(config));
	show_link(n, n->info.link);
	return 0;
}

static int
vnet_start(void *self, struct err *err)
{
	struct virtio_net *n = self;

	n->live = true;
	net_resume(n->net);
	return 0;
}

static void
vnet_reset(void *self)
{
	struct virtio_net *n = self;

	virtio_reset(&n->virtio);
}

/* Reset, or loaded: then what the back end has been told is another's. */
static void
vnet_changed(void *self)
{
	struct virtio_net *n = self;

	net_pause(n->net);
	if (net_set_queues(n->net, n->active) < 0)
		log_warn("%s: cannot use %u queues of the back end",
		    device_name(n->virtio.dev), n->active);
	vnet_show_mac(n);
	vnet_negotiated(n, 0);
	virtio_changed(&n->virtio);
}

static int
vnet_check(const void *self, struct err *err)
{
	const struct virtio_net *n = self;

	if (n->active == 0 || n->active > n->info.queues)
		return err_set(err, -EINVAL, "%u pairs of queues", n->active);
	return virtio_check(&n->virtio, n->queues, err);
}

static void
vnet_pause(void *self)
{
	struct virtio_net *n = self;

	virtio_pause(&n->virtio);
	n->live = false;
	net_pause(n->net);
}

static void
vnet_resume(void *self)
{
	struct virtio_net *n = self;

	n->live = true;
	net_resume(n->net);
	virtio_resume(&n->virtio);
}

static void
vnet_destroy(void *self)
{
	struct virtio_net *n = self;

	net_close(n->net);
	virtio_fini(&n->virtio);
	for (unsigned i = 0; n->pairs != NULL && i < n->info.queues; i++) {
		struct vnet_pair *pair = &n->pairs[i];

		for (unsigned k = 0; k < VNET_WINDOW; k++)
			virtq_chain_fini(&pair->rx[k]);
		virtq_chain_fini(&pair->tx);
		free(pair->tx_copy);
	}
	virtq_chain_fini(&n->ctrl);
	free(n->pairs);
	lock_fini(&n->lock);
}

DEVICE_MODEL(virtio_net) = {
	.name = "virtio-net",
	.state_version = 1,
	.size = sizeof(struct virtio_net),
	STATE_TABLE(virtio_net_state),
	.unlocked = true, /* see virtio.h */
	.pci_help = "virtio network card",
	.create = vnet_create,
	.start = vnet_start,
	.pause = vnet_pause,
	.resume = vnet_resume,
	.reset = vnet_reset,
	.changed = vnet_changed,
	.check = vnet_check,
	.destroy = vnet_destroy,
};
