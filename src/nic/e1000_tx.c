/*
 * The transmitter of an e1000.
 *
 * Models       SDM 3.3 to 3.5: legacy, context and data descriptors, checksums
 *              put in, segmentation of TCP and UDP, VLAN tags put in, delayed
 *              write-back interrupts.
 * Packets      are taken whole: descriptors stay the card's, and TDH where it
 *              is, until the one with EOP is there and the packet is sent.  One
 *              of E1000_TX_CHAIN descriptors without EOP, or that fills its
 *              ring, is dropped with all that follows up to an EOP.
 * Lengths      are those of the descriptors: PAYLEN is not asked.  A packet
 *              beyond E1000_TX_MAX, a frame beyond E1000_MAX_FRAME, one whose
 *              data is not in memory or whose context makes no sense is dropped
 *              and its descriptors are done, as if it were lost on the wire.
 *              Of a context, what points outside of the packet is not followed.
 * Loopback     (RCTL.LBM): frames sent in it are counted and go nowhere.
 * Budget       Each descriptor and segment costs 1 of E1000_TX_BUDGET; then
 *              the loop's thread goes on.  A packet half cut is read again and
 *              goes on at segment tx_segments: the guest may have changed
 *              it, which is its own affair.
 * Locking      the device lock, held at every entry.
 */
#include <errno.h>

#include "nic/e1000_impl.h"

/* The second half of a descriptor: `lower` and `upper`. */
#define TX_LENGTH(lower) ((lower)&0xfffff)
#define TX_LEGACY_LENGTH(lower) ((lower)&0xffff)
#define TX_LEGACY_CSO(lower) ((lower) >> 16 & 0xff)
#define TX_TYPE(lower) ((lower) >> 20 & 15)
#define TX_TYPE_CONTEXT 0
#define TX_EOP BIT(24)
#define TX_LEGACY_IC BIT(26)
#define TX_TSE BIT(26)
#define TX_RS BIT(27)
#define TX_DEXT BIT(29)
#define TX_VLE BIT(30)
#define TX_IDE BIT(31)
#define TX_DD BIT(0)
#define TX_LEGACY_CSS(upper) ((upper) >> 8 & 0xff)
#define TX_IXSM BIT(8)
#define TX_TXSM BIT(9)
#define TX_SPECIAL(upper) ((upper) >> 16)
#define TX_STATUS_OFFSET 12 /* in a descriptor */

#define TUCMD_TCP BIT(0)
#define TUCMD_IPV4 BIT(1)

#define TXDCTL_LWTHRESH(txdctl) (((txdctl) >> 25) * 8)

#define VLAN_AT 12u /* offset of a tag in a frame */
#define VLAN_LEN 4u

#define IPV6_HEADER 40u
#define TCP_FLAGS 13u
#define TCP_FIN_PSH 0x09

enum tx_result { TX_IDLE, TX_AGAIN, TX_LATER, TX_FULL };

/* A context descriptor; all of it is a claim. */
struct offload {
	uint8_t ipcss, ipcso, tucss, tucso, hdrlen, tucmd;
	uint16_t ipcse, tucse, mss;
};

static bool
is_context(const struct e1000_desc *desc)
{
	return (desc->lower & TX_DEXT) &&
	    TX_TYPE(desc->lower) == TX_TYPE_CONTEXT;
}

static void
context_load(struct e1000 *e, const struct e1000_desc *desc)
{
	uint32_t *context = &e->context[desc->lower & TX_TSE ? 4 : 0];

	context[0] = (uint32_t)desc->addr;
	context[1] = (uint32_t)(desc->addr >> 32);
	context[2] = desc->lower;
	context[3] = desc->upper;
}

static struct offload
offload_of(const uint32_t context[4])
{
	return (struct offload) {
		.ipcss = (uint8_t)context[0],
		.ipcso = (uint8_t)(context[0] >> 8),
		.ipcse = (uint16_t)(context[0] >> 16),
		.tucss = (uint8_t)context[1],
		.tucso = (uint8_t)(context[1] >> 8),
		.tucse = (uint16_t)(context[1] >> 16),
		.tucmd = (uint8_t)(context[2] >> 24),
		.hdrlen = (uint8_t)(context[3] >> 8),
		.mss = (uint16_t)(context[3] >> 16),
	};
}

/* ---- checksums ----------------------------------------------------------- */

uint16_t
e1000_sum(const uint8_t *data, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += be16_load(data + i);
	if (len % 2 != 0)
		sum += (uint32_t)data[len - 1] << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* Sum bytes css to cse, 0 being the last, and put the result at cso. */
static void
insert_sum(uint8_t *data, size_t len, size_t css, size_t cso, size_t cse,
    bool udp)
{
	size_t end = cse == 0 || cse >= len ? len : cse + 1;
	uint16_t sum;

	if (css >= end || !range_within(cso, 2, len))
		return;
	sum = ~e1000_sum(data + css, end - css, 0);
	/* RFC 768: a sum of 0 would mean that there is none. */
	be16_store(data + cso, sum == 0 && udp ? 0xffff : sum);
}

static void
insert_sums(uint8_t *data, size_t len, const struct offload *o, uint32_t popts)
{
	if (popts & TX_IXSM)
		insert_sum(data, len, o->ipcss, o->ipcso, o->ipcse, false);
	if (popts & TX_TXSM)
		insert_sum(data, len, o->tucss, o->tucso, o->tucse,
		    !(o->tucmd & TUCMD_TCP));
}

/* ---- frames -------------------------------------------------------------- */

static void
count_frame(struct e1000 *e, const uint8_t *data, size_t len)
{
	uint32_t wire = (uint32_t)len + E1000_CRC_LEN;
	bool broadcast = true;

	for (unsigned i = 0; i < NET_MAC_LEN; i++)
		broadcast = broadcast && data[i] == 0xff;
	e1000_count(e, E1000_GPTC, 1);
	e1000_count(e, E1000_TPT, 1);
	e1000_count_octets(e, E1000_GOTC, wire);
	e1000_count_octets(e, E1000_TOT, wire);
	e1000_count_size(e, E1000_PTC64, wire);
	if (broadcast)
		e1000_count(e, E1000_BPTC, 1);
	else if (data[0] & 1)
		e1000_count(e, E1000_MPTC, 1);
}

/*
 * Send a frame, with the tag that `last`, the descriptor with EOP, asks for.
 * False: the back end is full.
 */
static bool
send_frame(struct e1000 *e, uint8_t *data, size_t len,
    const struct e1000_desc *last)
{
	uint8_t pad[E1000_MIN_FRAME] = { 0 };
	bool tagged =
	    (last->lower & TX_VLE) && (e->regs[E1000_CTRL] & E1000_CTRL_VME);
	size_t total = len + (tagged ? VLAN_LEN : 0);
	uint8_t tag[VLAN_LEN];
	struct iovec iov[4];
	unsigned n = 0;

	if (len < NET_ETHER_HDR || total > E1000_MAX_FRAME - E1000_CRC_LEN)
		return true;
	if (tagged) {
		be16_store(tag, (uint16_t)e->regs[E1000_VET]);
		be16_store(tag + 2, (uint16_t)TX_SPECIAL(last->upper));
		iov[n++] = (struct iovec) { data, VLAN_AT };
		iov[n++] = (struct iovec) { tag, VLAN_LEN };
		iov[n++] = (struct iovec) { data + VLAN_AT, len - VLAN_AT };
	} else {
		iov[n++] = (struct iovec) { data, len };
	}
	if (total < E1000_MIN_FRAME && (e->regs[E1000_TCTL] & E1000_TCTL_PSP)) {
		iov[n++] = (struct iovec) { pad, E1000_MIN_FRAME - total };
		total = E1000_MIN_FRAME;
	}
	if (!(e->regs[E1000_RCTL] & E1000_RCTL_LBM) &&
	    net_send(e->net, 0, iov, n) == -EAGAIN)
		return false;
	count_frame(e, data, total);
	return true;
}

/* ---- segmentation -------------------------------------------------------- */

/* Add to a 16-bit field of the header, if it lies in it. */
static void
header_add(uint8_t *header, size_t len, size_t off, uint32_t n)
{
	if (range_within(off, 2, len))
		be16_store(header + off,
		    (uint16_t)(be16_load(header + off) + n));
}

static void
header_set(uint8_t *header, size_t len, size_t off, size_t value)
{
	if (range_within(off, 2, len))
		be16_store(header + off, (uint16_t)value);
}

/*
 * The header of a segment, the index'th, with `off` bytes of the payload before
 * it: SDM 3.5.7 to 3.5.9.  `len` is the header's, `total` the frame's.
 */
static void
header_fix(uint8_t *header, size_t len, size_t total, const struct offload *o,
    uint32_t index, size_t off, bool last)
{
	size_t transport = total - MIN(total, o->tucss);
	size_t network = total - MIN(total, o->ipcss);
	size_t seq = o->tucss + 4u;

	if (o->tucmd & TUCMD_IPV4) {
		header_set(header, len, o->ipcss + 2u, network);
		header_add(header, len, o->ipcss + 4u, index);
	} else {
		header_set(header, len, o->ipcss + 4u,
		    network - MIN(network, IPV6_HEADER));
	}
	if (!(o->tucmd & TUCMD_TCP)) {
		header_set(header, len, o->tucss + 4u, transport);
	} else {
		if (range_within(seq, 4, len))
			be32_store(header + seq,
			    be32_load(header + seq) + (uint32_t)off);
		if (!last && range_within(o->tucss + TCP_FLAGS, 1, len))
			header[o->tucss + TCP_FLAGS] &= ~TCP_FIN_PSH;
	}
}

/* The pseudo header's sum is in its place, but for the segment's length. */
static void
pseudo_add(uint8_t *header, size_t len, size_t total, const struct offload *o)
{
	uint32_t sum = (uint32_t)(total - MIN(total, o->tucss));

	if (!range_within(o->tucso, 2, len))
		return;
	sum += be16_load(header + o->tucso);
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	be16_store(header + o->tucso, (uint16_t)sum);
}

static enum tx_result
send_segments(struct e1000 *e, size_t len, const struct offload *o,
    uint32_t popts, const struct e1000_desc *last, unsigned *budget)
{
	size_t header = o->hdrlen, payload = len - MIN(len, header);
	uint32_t count, start = e->tx_segments;

	if (o->mss == 0 || header == 0 || header > len ||
	    header + MIN(o->mss, payload) > E1000_MAX_FRAME)
		return TX_AGAIN;
	count = (uint32_t)MAX((payload + o->mss - 1) / o->mss, 1u);
	for (uint32_t i = start; i < count; i++) {
		size_t off = (size_t)i * o->mss;
		size_t part = MIN(payload - off, o->mss);

		e->tx_segments = i;
		if (*budget == 0 && i > start)
			return TX_LATER;
		*budget -= MIN(*budget, 1u);
		memcpy(e->tx_frame, e->tx_data, header);
		memcpy(e->tx_frame + header, e->tx_data + header + off, part);
		header_fix(e->tx_frame, header, header + part, o, i, off,
		    i + 1 == count);
		if (popts & TX_TXSM)
			pseudo_add(e->tx_frame, header, header + part, o);
		insert_sums(e->tx_frame, header + part, o, popts);
		if (!send_frame(e, e->tx_frame, header + part, last))
			return TX_FULL;
	}
	e1000_count(e, E1000_TSCTC, 1);
	return TX_AGAIN;
}

/* ---- packets ------------------------------------------------------------- */

/* Copy the data of e->chain's first n; false if it is not to be had. */
static bool
gather(struct e1000 *e, uint32_t n, size_t *len)
{
	size_t have = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct e1000_desc *desc = &e->chain[i];
		uint32_t part = desc->lower & TX_DEXT ?
		    TX_LENGTH(desc->lower) :
		    TX_LEGACY_LENGTH(desc->lower);

		if (is_context(desc) || part == 0)
			continue;
		if (part > E1000_TX_MAX - have ||
		    mem_read(e->mem, desc->addr, e->tx_data + have, part) < 0)
			return false;
		have += part;
	}
	*len = have;
	return true;
}

/* Send the packet in e->chain's first n. */
static enum tx_result
send_packet(struct e1000 *e, uint32_t n, unsigned *budget)
{
	const struct e1000_desc *first = &e->chain[0], *last = &e->chain[n - 1];
	bool segments = (first->lower & TX_DEXT) && (first->lower & TX_TSE);
	struct offload o = offload_of(&e->context[segments ? 4 : 0]);
	size_t len;

	if (!gather(e, n, &len)) {
		if (segments)
			e1000_count(e, E1000_TSCTFC, 1);
		return TX_AGAIN;
	}
	if (segments)
		return send_segments(e, len, &o, first->upper, last, budget);
	if (first->lower & TX_DEXT)
		insert_sums(e->tx_data, len, &o, first->upper);
	else if (last->lower & TX_LEGACY_IC)
		insert_sum(e->tx_data, len, TX_LEGACY_CSS(last->upper),
		    TX_LEGACY_CSO(last->lower), 0, false);
	return send_frame(e, e->tx_data, len, last) ? TX_AGAIN : TX_FULL;
}

/* ---- the ring ------------------------------------------------------------ */

struct e1000_ring
e1000_ring(const struct e1000 *e, enum e1000_slot base)
{
	const uint32_t *regs = &e->regs[base];
	struct e1000_ring ring = {
		.base = regs[0] | (uint64_t)regs[1] << 32,
		.size = regs[2] / E1000_DESC_SIZE,
		.head = regs[3],
		.tail = regs[4],
	};

	if (ring.head >= ring.size || ring.tail >= ring.size)
		ring = (struct e1000_ring) { 0 };
	return ring;
}

int
e1000_desc_fetch(const struct e1000 *e, const struct e1000_ring *ring,
    uint32_t index, struct e1000_desc *desc)
{
	uint8_t raw[E1000_DESC_SIZE];
	int rc;

	index = index < ring->size ? index : index - ring->size;
	rc = mem_read(e->mem, ring->base + (uint64_t)index * sizeof(raw), raw,
	    sizeof(raw));
	if (rc < 0)
		return rc;
	desc->addr = le64_load(raw);
	desc->lower = le32_load(raw + 8);
	desc->upper = le32_load(raw + 12);
	return 0;
}

/* The first n of the ring, which are in e->chain, are done. */
static void
finish(struct e1000 *e, const struct e1000_ring *ring, uint32_t n)
{
	uint32_t low = TXDCTL_LWTHRESH(e->regs[E1000_TXDCTL]);
	uint32_t left = e1000_ring_left(ring);
	bool now = false, later = false;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t at = (ring->head + i) % ring->size;
		uint8_t status = (uint8_t)(e->chain[i].upper | TX_DD);

		if (!(e->chain[i].lower & TX_RS))
			continue;
		/* A ring in ROM is the guest's own idea. */
		(void)mem_write(e->mem,
		    ring->base + (uint64_t)at * E1000_DESC_SIZE +
			TX_STATUS_OFFSET,
		    &status, 1);
		if ((e->chain[i].lower & TX_IDE) && e->regs[E1000_TIDV] != 0)
			later = true;
		else
			now = true;
	}
	e->regs[E1000_TDH] = (ring->head + n) % ring->size;
	e->tx_segments = 0;
	if (later)
		e1000_delay(e, &e->tx_delay, e->regs[E1000_TIDV],
		    e->regs[E1000_TADV]);
	e1000_raise(e,
	    (now ? E1000_ICR_TXDW : 0) | (n == left ? E1000_ICR_TXQE : 0) |
		(left > low && left - n <= low && low != 0 ? E1000_ICR_TXD_LOW :
							     0));
}

/* One context or one packet. */
static enum tx_result
tx_step(struct e1000 *e, unsigned *budget)
{
	struct e1000_ring ring = e1000_ring(e, E1000_TDBAL);
	uint32_t left = ring.size != 0 ? e1000_ring_left(&ring) : 0, n = 0;
	bool whole = false, alone = false;
	enum tx_result result = TX_AGAIN;

	while (n < left && n < E1000_TX_CHAIN && !whole && !alone) {
		struct e1000_desc *desc = &e->chain[n];

		if (e1000_desc_fetch(e, &ring, ring.head + n, desc) < 0)
			return TX_IDLE;
		if (is_context(desc))
			alone = n == 0 && !e->tx_skip;
		else
			whole = desc->lower & TX_EOP;
		n++;
	}
	if (n == 0 ||
	    (!whole && !alone && n < E1000_TX_CHAIN && n + 1 < ring.size))
		return TX_IDLE;
	/* A whole budget is enough for anything. */
	if (*budget < n && *budget < E1000_TX_BUDGET)
		return TX_LATER;
	*budget -= MIN(*budget, n);
	if (alone)
		context_load(e, &e->chain[0]);
	else if (whole && !e->tx_skip)
		result = send_packet(e, n, budget);
	if (result != TX_AGAIN)
		return result;
	if (!alone)
		e->tx_skip = !whole;
	finish(e, &ring, n);
	return TX_AGAIN;
}

void
e1000_tx_run(struct e1000 *e)
{
	unsigned budget = E1000_TX_BUDGET;
	enum tx_result result = TX_AGAIN;

	while (result == TX_AGAIN && pci_may_dma(&e->func) &&
	    (e->regs[E1000_TCTL] & E1000_TCTL_EN))
		result = tx_step(e, &budget);
	if (result == TX_LATER)
		event_wake(e->wake);
}
