/*
 * The receiver of an e1000.
 *
 * Models       SDM 3.2: filters (exact, multicast hash, broadcast, promiscuous,
 *              VLAN), buffers of 256 bytes to 16 KiB, frames over several of
 *              them, tags taken off, checksums of the packet, of IPv4, of TCP
 *              and UDP over it.
 * Frames       are pulled from the back end one at a time, while the receiver
 *              is on.  One without buffers stays in hand until there are some,
 *              and the rest where they are: the guest hears of it by RXO, once.
 *              What the card would have got from a wire is made up: padding,
 *              and the frame check sequence if the guest wants it.
 * Leaves out   flow control, splitting of headers, IPv6 checksums.
 * Locking      the device lock, held at every entry.
 */
#include <errno.h>

#include "nic/e1000_impl.h"

#define RX_DD BIT(0)
#define RX_EOP BIT(1)
#define RX_IXSM BIT(2)
#define RX_VP BIT(3)
#define RX_TCPCS BIT(5)
#define RX_IPCS BIT(6)
#define RX_PIF BIT(7)
#define RX_TCPE BIT(5)
#define RX_IPE BIT(6)
#define RX_WRITEBACK 8u /* offset in a descriptor */

#define RAH_SELECT_MASK (3u << 16)

#define VLAN_AT 12u
#define VLAN_LEN 4u
#define VLAN_CFI 0x1000u
#define VLAN_ID 0x0fffu

#define ETHERTYPE_IPV4 0x0800
#define IPV4_HEADER 20u
#define IPV4_FRAGMENT 0x3fff /* more, or an offset */
#define PROTO_TCP 6
#define PROTO_UDP 17

/* ---- filters ------------------------------------------------------------- */

static bool
is_broadcast(const uint8_t *mac)
{
	for (unsigned i = 0; i < NET_MAC_LEN; i++) {
		if (mac[i] != 0xff)
			return false;
	}
	return true;
}

static bool
is_exact(const struct e1000 *e, const uint8_t *mac)
{
	const uint32_t *rar = &e->regs[E1000_RAR];
	uint32_t low = le32_load(mac), high = le16_load(mac + 4);

	for (unsigned i = 0; i < E1000_RA; i++, rar += 2) {
		if (rar[0] == low && (rar[1] & 0xffff) == high &&
		    (rar[1] & E1000_RAH_AV) && !(rar[1] & RAH_SELECT_MASK))
			return true;
	}
	return false;
}

/* SDM 13.4.22, MO: which 12 bits of the address. */
static bool
is_hashed(const struct e1000 *e, const uint8_t *mac)
{
	static const uint8_t shift[] = { 4, 3, 2, 0 };
	unsigned mo = E1000_RCTL_MO(e->regs[E1000_RCTL]);
	unsigned hash = (le16_load(mac + 4) >> shift[mo]) & 0xfff;

	return e->regs[E1000_MTA + hash / 32] & BIT(hash % 32);
}

static bool
is_tagged(const struct e1000 *e, const uint8_t *frame, size_t len)
{
	return len >= VLAN_AT + VLAN_LEN &&
	    be16_load(frame + VLAN_AT) == (uint16_t)e->regs[E1000_VET];
}

static bool
vlan_passes(const struct e1000 *e, const uint8_t *frame)
{
	uint32_t rctl = e->regs[E1000_RCTL];
	uint16_t tci = be16_load(frame + VLAN_AT + 2);
	unsigned id = tci & VLAN_ID;

	if (!(rctl & E1000_RCTL_VFE))
		return true;
	if ((rctl & E1000_RCTL_CFIEN) &&
	    !(tci & VLAN_CFI) != !(rctl & E1000_RCTL_CFI))
		return false;
	return e->regs[E1000_VFTA + id / 32] & BIT(id % 32);
}

/* Does the frame pass?  *inexact: only by the hash of its address. */
static bool
passes(const struct e1000 *e, const uint8_t *frame, size_t len, bool *inexact)
{
	uint32_t rctl = e->regs[E1000_RCTL];
	bool multicast = frame[0] & 1;

	*inexact = false;
	if (is_tagged(e, frame, len) && !vlan_passes(e, frame))
		return false;
	if (is_broadcast(frame) && (rctl & E1000_RCTL_BAM))
		return true;
	if (rctl & (multicast ? E1000_RCTL_MPE : E1000_RCTL_UPE))
		return true;
	if (is_exact(e, frame))
		return true;
	*inexact = true;
	return multicast && is_hashed(e, frame);
}

/* ---- checksums ----------------------------------------------------------- */

/* TCP or UDP of len bytes at data, behind an IPv4 header. */
static bool
transport_fits(const uint8_t *ip, const uint8_t *data, size_t len)
{
	uint32_t pseudo = e1000_sum(ip + 12, 8, ip[9] + (uint32_t)len);

	return e1000_sum(data, len, pseudo) == 0xffff;
}

/*
 * What the card says of the checksums in a frame: status in the low byte,
 * errors above.
 */
static uint16_t
verdict(const struct e1000 *e, const uint8_t *frame, size_t len)
{
	uint32_t rxcsum = e->regs[E1000_RXCSUM];
	size_t at = NET_ETHER_HDR, header, total;
	uint16_t status = 0, errors = 0;
	const uint8_t *ip;

	if (is_tagged(e, frame, len))
		at += VLAN_LEN;
	if (!range_within(at, IPV4_HEADER, len) ||
	    be16_load(frame + at - 2) != ETHERTYPE_IPV4)
		return RX_IXSM;
	ip = frame + at;
	header = (ip[0] & 15u) * 4;
	total = be16_load(ip + 2);
	if (ip[0] >> 4 != 4 || header < IPV4_HEADER || total < header ||
	    total > len - at)
		return RX_IXSM;
	if (rxcsum & E1000_RXCSUM_IPOFL) {
		status |= RX_IPCS;
		if (e1000_sum(ip, header, 0) != 0xffff)
			errors |= RX_IPE;
	}
	total -= header;
	if ((rxcsum & E1000_RXCSUM_TUOFL) &&
	    !(be16_load(ip + 6) & IPV4_FRAGMENT) &&
	    ((ip[9] == PROTO_TCP && total >= 20) ||
		(ip[9] == PROTO_UDP && total >= 8 &&
		    be16_load(ip + header + 6) != 0))) {
		status |= RX_TCPCS;
		if (!transport_fits(ip, ip + header, total))
			errors |= RX_TCPE;
	}
	return status != 0 ? (uint16_t)(errors << 8 | status) : RX_IXSM;
}

/* The frame check sequence, IEEE 802.3, 3.2.9. */
static uint32_t
check_sequence(const uint8_t *data, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= data[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

/* ---- into the ring ------------------------------------------------------- */

static uint32_t
buffer_size(const struct e1000 *e)
{
	uint32_t rctl = e->regs[E1000_RCTL];
	unsigned bsize = E1000_RCTL_BSIZE(rctl);

	/* BSEX with 0 is reserved; taken as if it were not set. */
	if ((rctl & E1000_RCTL_BSEX) && bsize != 0)
		return 32768u >> bsize;
	return 2048u >> bsize;
}

static void
count_frame(struct e1000 *e, const uint8_t *frame, uint32_t wire)
{
	e1000_count(e, E1000_GPRC, 1);
	e1000_count_octets(e, E1000_GORC, wire);
	e1000_count_size(e, E1000_PRC64, wire);
	if (is_broadcast(frame))
		e1000_count(e, E1000_BPRC, 1);
	else if (frame[0] & 1)
		e1000_count(e, E1000_MPRC, 1);
}

/* Write len bytes over the buffers of `count` descriptors. */
static void
scatter(struct e1000 *e, const struct e1000_ring *ring, uint32_t count,
    const uint8_t *data, uint32_t len, uint16_t sum, uint16_t said,
    uint16_t special)
{
	uint32_t room = buffer_size(e);
	uint8_t back[8];

	for (uint32_t i = 0; i < count; i++, data += room, len -= room) {
		uint32_t at = (ring->head + i) % ring->size;
		bool last = i + 1 == count;
		uint32_t part = last ? len : room;
		struct e1000_desc desc;

		/* What has no place in memory is lost, as on a bus. */
		if (e1000_desc_fetch(e, ring, at, &desc) < 0)
			return;
		(void)mem_write(e->mem, desc.addr, data, part);
		le16_store(back, (uint16_t)part);
		le16_store(back + 2, sum);
		back[4] = (uint8_t)(RX_DD | (last ? RX_EOP | said : 0));
		back[5] = (uint8_t)(last ? said >> 8 : 0);
		le16_store(back + 6, special);
		(void)mem_write(e->mem,
		    ring->base + (uint64_t)at * E1000_DESC_SIZE + RX_WRITEBACK,
		    back, sizeof(back));
	}
}

static void
tell_received(struct e1000 *e, const struct e1000_ring *ring, uint32_t count)
{
	uint32_t left = e1000_ring_left(ring);
	uint32_t low =
	    ring->size >> (E1000_RCTL_RDMTS(e->regs[E1000_RCTL]) + 1);
	uint32_t causes = 0;

	if (left > low && left - count <= low)
		causes |= E1000_ICR_RXDMT0;
	if (e->regs[E1000_RDTR] == 0)
		causes |= E1000_ICR_RXT0;
	else
		e1000_delay(e, &e->rx_delay, e->regs[E1000_RDTR],
		    e->regs[E1000_RADV]);
	e1000_raise(e, causes);
}

/*
 * The frame in hand into the ring; false: it must wait for buffers.  One that
 * the whole ring cannot hold is dropped.
 */
static bool
place(struct e1000 *e)
{
	struct e1000_ring ring = e1000_ring(e, E1000_RDBAL);
	uint32_t left = ring.size != 0 ? e1000_ring_left(&ring) : 0;
	bool strip = (e->regs[E1000_CTRL] & E1000_CTRL_VME) &&
	    is_tagged(e, e->rx_frame, e->rx_len);
	bool keep = !(e->regs[E1000_RCTL] & E1000_RCTL_SECRC);
	uint32_t pcss = E1000_RXCSUM_PCSS(e->regs[E1000_RXCSUM]);
	uint32_t len = e->rx_len, total, count;
	uint16_t sum, said, special = 0;
	uint8_t *frame = e->rx_frame;

	total = len - (strip ? VLAN_LEN : 0) + (keep ? E1000_CRC_LEN : 0);
	count = (total + buffer_size(e) - 1) / buffer_size(e);
	if (count >= ring.size && ring.size != 0) {
		e1000_count(e, E1000_MPC, 1);
		e->rx_len = 0;
		return true;
	}
	if (count > left) {
		if (!e->rx_told) {
			e->rx_told = true;
			e1000_count(e, E1000_RNBC, 1);
			e1000_raise(e, E1000_ICR_RXO);
		}
		return false;
	}
	count_frame(e, frame, len + E1000_CRC_LEN);
	sum = pcss < len ? e1000_sum(frame + pcss, len - pcss, 0) : 0;
	said = verdict(e, frame, len) | (e->rx_inexact ? RX_PIF : 0);
	if (keep)
		le32_store(frame + len, check_sequence(frame, len));
	if (strip) {
		said |= RX_VP;
		special = be16_load(frame + VLAN_AT + 2);
		memmove(frame + VLAN_LEN, frame, VLAN_AT);
		frame += VLAN_LEN;
	}
	scatter(e, &ring, count, frame, total, sum, said, special);
	e->regs[E1000_RDH] = (ring.head + count) % ring.size;
	e->rx_len = 0;
	tell_received(e, &ring, count);
	return true;
}

/* ---- from the back end --------------------------------------------------- */

/*
 * Take the next frame into the hand, if it passes the filters.  False: there
 * is none, and readable() will come.
 */
static bool
take(struct e1000 *e)
{
	struct iovec iov = { e->rx_frame, E1000_MAX_FRAME - E1000_CRC_LEN };
	ssize_t got = net_recv(e->net, 0, &iov, 1);
	uint32_t len, most = E1000_STD_FRAME;

	if (got == -EMSGSIZE) {
		e1000_count(e, E1000_ROC, 1);
		return true;
	}
	if (got < NET_ETHER_HDR)
		return false;
	len = (uint32_t)got;
	if (len < E1000_MIN_FRAME) {
		memset(e->rx_frame + len, 0, E1000_MIN_FRAME - len);
		len = E1000_MIN_FRAME;
	}
	e1000_count(e, E1000_TPR, 1);
	e1000_count_octets(e, E1000_TOR, len + E1000_CRC_LEN);
	if (is_tagged(e, e->rx_frame, len))
		most += VLAN_LEN;
	if (len > most && !(e->regs[E1000_RCTL] & E1000_RCTL_LPE)) {
		e1000_count(e, E1000_ROC, 1);
		return true;
	}
	if (passes(e, e->rx_frame, len, &e->rx_inexact)) {
		e->rx_len = len;
		e->rx_told = false;
	}
	return true;
}

void
e1000_rx_run(struct e1000 *e)
{
	unsigned budget = E1000_RX_BUDGET;

	while ((e->regs[E1000_RCTL] & E1000_RCTL_EN) && pci_may_dma(&e->func)) {
		if (budget-- == 0) {
			event_wake(e->wake);
			return;
		}
		if (e->rx_len == 0 && !take(e))
			return;
		if (e->rx_len != 0 && !place(e))
			return;
	}
}
