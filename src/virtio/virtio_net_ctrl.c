/*
 * virtio-net: the control queue, and the rules that it sets.
 *
 * Models       Virtio 1.2, 5.1.6.5: receive modes, the tables of addresses and
 *              VLANs, the address, the number of pairs.  A command is two bytes
 *              and its data; the answer is one byte, VIRTIO_NET_OK or _ERR.
 * Differs      a table of more than VNET_MACS addresses means all of the kind,
 *              as 5.1.6.5.2.1 allows.  A frame of VLAN 0 belongs to none.  Until
 *              a driver says otherwise it gets every frame: many never do.
 * Locking      the queue's lock, and inside it the rules'.  The number of pairs
 *              is set with the queue's alone, which no callback of the back end
 *              takes: with VIRTIO_NET_F_MQ it is behind all pairs.
 */
#include <errno.h>

#include "virtio/virtio_net_impl.h"

#define CTRL_OK 0
#define CTRL_ERR 1
#define CTRL_BUDGET 64u

#define CTRL_RX 0
#define CTRL_MAC 1
#define CTRL_MAC_TABLE_SET 0
#define CTRL_MAC_ADDR_SET 1
#define CTRL_VLAN 2
#define CTRL_VLAN_ADD 0
#define CTRL_VLAN_DEL 1
#define CTRL_MQ 4
#define CTRL_MQ_PAIRS_SET 0

#define ETHERTYPE_VLAN 0x8100u
#define VLAN_ID 0x0fffu

struct command {
	uint8_t class, cmd;
};

/* ---- rules -------------------------------------------------------------- */

void
vnet_rules_reset(struct vnet_rules *rules, const uint8_t *mac)
{
	memset(rules, 0, sizeof(*rules));
	rules->promisc = true;
	memcpy(rules->mac, mac, NET_MAC_LEN);
}

static bool
listed(const uint8_t *macs, unsigned count, const uint8_t *mac)
{
	for (unsigned i = 0; i < count; i++)
		if (memcmp(macs + i * NET_MAC_LEN, mac, NET_MAC_LEN) == 0)
			return true;
	return false;
}

static bool
accept_vlan(const struct vnet_rules *rules, const uint8_t *head)
{
	unsigned type = (unsigned)head[12] << 8 | head[13];
	unsigned id = ((unsigned)head[14] << 8 | head[15]) & VLAN_ID;

	return type != ETHERTYPE_VLAN || id == 0 ||
	    (rules->vlans[id / 64] & BIT(id % 64));
}

bool
vnet_rules_accept(const struct vnet_rules *rules, const uint8_t head[VNET_HEAD],
    bool vlans)
{
	static const uint8_t broadcast[NET_MAC_LEN] = { 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff };

	if (rules->promisc)
		return true;
	if (vlans && !accept_vlan(rules, head))
		return false;
	if (memcmp(head, broadcast, NET_MAC_LEN) == 0)
		return !rules->nobcast;
	if (head[0] & 1)
		return !rules->nomulti &&
		    (rules->allmulti || rules->many_multi ||
			listed(rules->multi, rules->multi_count, head));
	return !rules->nouni &&
	    (rules->alluni || rules->many_uni ||
		memcmp(head, rules->mac, NET_MAC_LEN) == 0 ||
		listed(rules->uni, rules->uni_count, head));
}

/* ---- commands ----------------------------------------------------------- */

static int
set_mode(struct virtio_net *n, unsigned cmd)
{
	bool *const modes[] = { &n->rules.promisc, &n->rules.allmulti,
		&n->rules.alluni, &n->rules.nomulti, &n->rules.nouni,
		&n->rules.nobcast };
	uint64_t needed =
	    cmd < 2 ? VIRTIO_NET_F_CTRL_RX : VIRTIO_NET_F_CTRL_RX_EXTRA;
	uint8_t on;

	if (cmd >= ARRAY_SIZE(modes) || !(n->agreed.features & needed) ||
	    !virtq_read(&n->ctrl, sizeof(struct command), &on, sizeof(on)))
		return CTRL_ERR;
	lock_take(&n->lock);
	*modes[cmd] = on != 0;
	lock_drop(&n->lock);
	return CTRL_OK;
}

/* One of the two lists, at *off of the chain; *off is moved behind it. */
static bool
read_table(const struct virtq_chain *chain, uint64_t *off, uint8_t *macs,
    uint8_t *count, bool *many)
{
	le32 raw;
	uint64_t n;

	if (!virtq_read(chain, *off, &raw, sizeof(raw)))
		return false;
	n = le32_get(raw);
	*off += sizeof(raw);
	if (n > (chain->readable_len - *off) / NET_MAC_LEN)
		return false;
	*many = n > VNET_MACS;
	*count = (uint8_t)(*many ? 0 : n);
	(void)virtq_read(chain, *off, macs,
	    (uint64_t)*count * NET_MAC_LEN); /* it was seen to be there */
	*off += n * NET_MAC_LEN;
	return true;
}

static int
set_tables(struct virtio_net *n)
{
	struct vnet_rules new = { 0 };
	uint64_t off = sizeof(struct command);

	if (!(n->agreed.features & VIRTIO_NET_F_CTRL_RX) ||
	    !read_table(&n->ctrl, &off, new.uni, &new.uni_count,
		&new.many_uni) ||
	    !read_table(&n->ctrl, &off, new.multi, &new.multi_count,
		&new.many_multi))
		return CTRL_ERR;
	lock_take(&n->lock);
	memcpy(n->rules.uni, new.uni, sizeof(new.uni));
	memcpy(n->rules.multi, new.multi, sizeof(new.multi));
	n->rules.uni_count = new.uni_count;
	n->rules.multi_count = new.multi_count;
	n->rules.many_uni = new.many_uni;
	n->rules.many_multi = new.many_multi;
	lock_drop(&n->lock);
	return CTRL_OK;
}

static int
set_mac(struct virtio_net *n)
{
	static const uint8_t none[NET_MAC_LEN];
	uint8_t mac[NET_MAC_LEN];

	if (!(n->agreed.features & VIRTIO_NET_F_CTRL_MAC_ADDR) ||
	    !virtq_read(&n->ctrl, sizeof(struct command), mac, sizeof(mac)) ||
	    (mac[0] & 1) || memcmp(mac, none, sizeof(mac)) == 0)
		return CTRL_ERR;
	lock_take(&n->lock);
	memcpy(n->rules.mac, mac, sizeof(mac));
	lock_drop(&n->lock);
	vnet_show_mac(n);
	return CTRL_OK;
}

static int
set_vlan(struct virtio_net *n, unsigned cmd)
{
	unsigned id;
	le16 raw;

	if (cmd > CTRL_VLAN_DEL ||
	    !(n->agreed.features & VIRTIO_NET_F_CTRL_VLAN) ||
	    !virtq_read(&n->ctrl, sizeof(struct command), &raw, sizeof(raw)))
		return CTRL_ERR;
	id = le16_get(raw);
	if (id >= VNET_VLANS)
		return CTRL_ERR;
	lock_take(&n->lock);
	if (cmd == CTRL_VLAN_ADD)
		n->rules.vlans[id / 64] |= BIT(id % 64);
	else
		n->rules.vlans[id / 64] &= ~BIT(id % 64);
	lock_drop(&n->lock);
	return CTRL_OK;
}

static int
set_pairs(struct virtio_net *n)
{
	unsigned pairs;
	le16 raw;

	if (!(n->agreed.features & VIRTIO_NET_F_MQ) ||
	    !virtq_read(&n->ctrl, sizeof(struct command), &raw, sizeof(raw)))
		return CTRL_ERR;
	pairs = le16_get(raw);
	if (pairs == 0 || pairs > n->info.queues ||
	    net_set_queues(n->net, pairs) < 0)
		return CTRL_ERR;
	n->active = (uint16_t)pairs;
	return CTRL_OK;
}

static int
execute(struct virtio_net *n)
{
	struct command c;

	if (!virtq_read(&n->ctrl, 0, &c, sizeof(c)))
		return CTRL_ERR;
	switch (c.class) {
	case CTRL_RX:
		return set_mode(n, c.cmd);
	case CTRL_MAC:
		return c.cmd == CTRL_MAC_TABLE_SET ? set_tables(n) :
		    c.cmd == CTRL_MAC_ADDR_SET     ? set_mac(n) :
						     CTRL_ERR;
	case CTRL_VLAN:
		return set_vlan(n, c.cmd);
	case CTRL_MQ:
		return c.cmd == CTRL_MQ_PAIRS_SET ? set_pairs(n) : CTRL_ERR;
	default:
		return CTRL_ERR;
	}
}

void
vnet_ctrl_run(struct virtio_net *n, struct virtq *vq)
{
	unsigned served = 0;

	while (served++ < CTRL_BUDGET && virtq_pop(vq, &n->ctrl) == 1) {
		uint8_t ack;

		if (n->ctrl.writable_len == 0) {
			virtq_fail(vq, "a command without room for an answer");
			return;
		}
		ack = (uint8_t)execute(n);
		(void)virtq_write(&n->ctrl, 0, &ack, sizeof(ack));
		virtq_push(vq, &n->ctrl, sizeof(ack));
	}
	virtq_notify(vq);
	if (virtq_want_notify(vq))
		virtio_notify_later(&n->virtio);
}
