/*
 * Link protection: what a guest may not claim to be.
 *
 * Models       the property "protection" of links in illumos (dladm(8)), for
 *              frames that leave the guest:
 *              mac-nospoof   Ethernet's source, and the hardware addresses that
 *                            ARP and neighbour discovery carry, are the card's.
 *              ip-nospoof    sources of IPv4 and IPv6, senders in ARP, and
 *                            targets of neighbour advertisements lie in
 *                            allowed-ips.  Besides, 0.0.0.0 may ask a DHCP
 *                            server and probe by ARP, :: may send ICMPv6, and
 *                            the card's EUI-64 link-local address is its own.
 *              dhcp-nospoof  a guest is no DHCP server, and asks one as itself:
 *                            chaddr and client identifiers made of a hardware
 *                            address are the card's.
 *              restricted    nothing but IPv4, IPv6 and ARP; no VLAN tags.
 * Differs      Addresses are not learned from DHCP, and DHCP servers are known
 *              by the ports of either end.
 * Invariants   1. Nothing is read past the private copy; a frame whose end is
 *                 needed for a decision and not there is refused.
 *              2. Whoever completes a checksum afterwards writes into a field
 *                 that no decision was made on: filter_csum_ok().
 *
 * VLAN tags (up to two), LLC/SNAP and IPv6's extension headers are looked
 * through.  Of a fragmented packet the first fragment is checked; DHCP and
 * neighbour discovery are refused in fragments (RFC 6980 for the latter).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "net/net_impl.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_RARP 0x8035
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_QINQ_OLD 0x9100
#define ETHERTYPE_MIN 0x0600 /* below: a length (IEEE 802.3, 3.2.6) */
#define VLAN_TAGS_MAX 2
#define IPV6_HEADERS_MAX 16

#define PROTO_HOP_BY_HOP 0
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ROUTING 43
#define PROTO_FRAGMENT 44
#define PROTO_AH 51
#define PROTO_ICMPV6 58
#define PROTO_DSTOPTS 60
#define PROTO_MOBILITY 135
#define PROTO_HIP 139
#define PROTO_SHIM6 140

#define ND_ROUTER_SOLICIT 133
#define ND_ROUTER_ADVERT 134
#define ND_NEIGHBOR_SOLICIT 135
#define ND_NEIGHBOR_ADVERT 136
#define ND_REDIRECT 137
#define ND_OPT_SOURCE_LLA 1
#define ND_OPT_TARGET_LLA 2

#define DHCP_SERVER_PORT 67
#define DHCP_CLIENT_PORT 68
#define DHCP6_CLIENT_PORT 546
#define DHCP6_SERVER_PORT 547
#define DHCP_BOOTREQUEST 1
#define DHCP_OPTIONS 240 /* behind the magic cookie */
#define DHCP_OPT_CLIENT_ID 61
#define DHCP6_OPT_CLIENTID 1
#define DHCP6_RELAY_FORW 12
#define DUID_LLT 1
#define DUID_LL 3
#define HTYPE_ETHERNET 1

/* A frame being looked at. */
struct frame {
	const struct filter *filter; /* borrowed */
	const uint8_t *data;         /* borrowed; Invariant 1 */
	size_t len;                  /* of data */
	uint16_t type;               /* behind tags */
	size_t l3;
	size_t l4; /* 0: none known */
	uint8_t proto;
	bool fragment;       /* a piece only */
	bool later_fragment; /* not the first piece: no header at l4 */
};

static const uint8_t any_addr[16];

/* len bytes at off, or NULL. */
static const uint8_t *
frame_at(const struct frame *f, size_t off, size_t len)
{
	return range_within(off, len, f->len) ? f->data + off : NULL;
}

static bool
own_mac(const struct filter *filter, const uint8_t *mac)
{
	return memcmp(filter->mac, mac, NET_MAC_LEN) == 0;
}

static bool
prefix_matches(const struct filter_addr *addr, const uint8_t *bytes)
{
	unsigned whole = addr->prefix / 8, bits = addr->prefix % 8;

	if (memcmp(addr->bytes, bytes, whole) != 0)
		return false;
	return bits == 0 ||
	    ((addr->bytes[whole] ^ bytes[whole]) & (0xff00 >> bits) & 0xff) ==
	    0;
}

static bool
allowed_addr(const struct filter *filter, const uint8_t *bytes, bool v6)
{
	for (unsigned i = 0; i < filter->addr_count; i++)
		if (filter->addrs[i].v6 == v6 &&
		    prefix_matches(&filter->addrs[i], bytes))
			return true;
	return false;
}

static bool
allowed_addr6(const struct filter *filter, const uint8_t *bytes)
{
	const uint8_t *mac = filter->mac;
	const uint8_t link_local[16] = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0,
		mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4],
		mac[5] };

	return memcmp(bytes, link_local, sizeof(link_local)) == 0 ||
	    allowed_addr(filter, bytes, true);
}

/* ---- layers ------------------------------------------------------------- */

/* Find the type and where its payload begins. */
static bool
frame_ether(struct frame *f)
{
	static const uint8_t snap[] = { 0xaa, 0xaa, 3, 0, 0, 0 };
	unsigned tags = 0;
	const uint8_t *p = frame_at(f, 12, 2);

	if (p == NULL)
		return false;
	f->type = be16_load(p);
	f->l3 = NET_ETHER_HDR;
	while (f->type == ETHERTYPE_VLAN || f->type == ETHERTYPE_QINQ ||
	    f->type == ETHERTYPE_QINQ_OLD) {
		p = frame_at(f, f->l3, 4);
		if (p == NULL || f->filter->restricted ||
		    tags++ == VLAN_TAGS_MAX)
			return false;
		f->type = be16_load(p + 2);
		f->l3 += 4;
	}
	if (f->type >= ETHERTYPE_MIN || f->filter->restricted)
		return true;
	p = frame_at(f, f->l3, sizeof(snap) + 2);
	if (p != NULL && memcmp(p, snap, sizeof(snap)) == 0) {
		f->type = be16_load(p + sizeof(snap));
		f->l3 += sizeof(snap) + 2;
	}
	return true;
}

static bool
frame_ipv4(struct frame *f)
{
	const uint8_t *ip = frame_at(f, f->l3, 20);
	unsigned ihl, frag;

	if (ip == NULL || ip[0] >> 4 != 4)
		return false;
	ihl = (ip[0] & 0xf) * 4u;
	if (ihl < 20 || frame_at(f, f->l3, ihl) == NULL)
		return false;
	frag = be16_load(ip + 6);
	f->fragment = (frag & 0x3fff) != 0;
	f->later_fragment = (frag & 0x1fff) != 0;
	f->proto = ip[9];
	f->l4 = f->l3 + ihl;
	return true;
}

/* Walk to the first header that is no extension (RFC 8200, section 4). */
static bool
frame_ipv6(struct frame *f)
{
	const uint8_t *p = frame_at(f, f->l3, 40);
	size_t off = f->l3 + 40;
	uint8_t next;

	if (p == NULL || p[0] >> 4 != 6)
		return false;
	next = p[6];
	for (unsigned i = 0; i < IPV6_HEADERS_MAX; i++) {
		switch (next) {
		case PROTO_HOP_BY_HOP:
		case PROTO_ROUTING:
		case PROTO_DSTOPTS:
		case PROTO_MOBILITY:
		case PROTO_HIP:
		case PROTO_SHIM6:
		case PROTO_FRAGMENT:
		case PROTO_AH:
			p = frame_at(f, off, 8);
			if (p == NULL)
				return false;
			break;
		default:
			f->proto = next;
			f->l4 = off;
			return true;
		}
		if (next == PROTO_FRAGMENT) {
			unsigned frag = be16_load(p + 2);

			/* "Atomic" ones are whole (RFC 6946). */
			f->fragment |= (frag & 0xfff9) != 0;
			off += 8;
			if ((frag & 0xfff8) != 0) {
				f->later_fragment = true;
				f->proto = p[0];
				f->l4 = off;
				return true;
			}
		} else if (next == PROTO_AH) {
			off += (p[1] + 2u) * 4;
		} else {
			off += (p[1] + 1u) * 8;
		}
		next = p[0];
	}
	return false;
}

/* ---- ARP and neighbour discovery ---------------------------------------- */

static bool
arp_ok(const struct frame *f)
{
	static const uint8_t ether_ipv4[] = { 0, 1, 8, 0, 6, 4 };
	const struct filter *filter = f->filter;
	const uint8_t *p = frame_at(f, f->l3, 28);

	if (p == NULL || memcmp(p, ether_ipv4, sizeof(ether_ipv4)) != 0)
		return false;
	if (filter->mac_nospoof && !own_mac(filter, p + 8))
		return false;
	return !filter->ip_nospoof || memcmp(p + 14, any_addr, 4) == 0 ||
	    allowed_addr(filter, p + 14, false);
}

/* Hardware addresses in the options of neighbour discovery. */
static bool
nd_options_ok(const struct frame *f, size_t off)
{
	while (off < f->len) {
		const uint8_t *p = frame_at(f, off, 8);
		size_t len;

		if (p == NULL)
			return true; /* padding of a short frame */
		len = p[1] * 8u;
		if (len == 0)
			return true; /* so is this; receivers drop it else */
		if ((p[0] == ND_OPT_SOURCE_LLA || p[0] == ND_OPT_TARGET_LLA) &&
		    !own_mac(f->filter, p + 2))
			return false;
		off += len;
	}
	return f->len < FILTER_SPAN;
}

static bool
icmpv6_ok(const struct frame *f)
{
	const struct filter *filter = f->filter;
	const uint8_t *p = frame_at(f, f->l4, 1);
	bool unspecified =
	    memcmp(f->data + f->l3 + 8, any_addr, sizeof(any_addr)) == 0;
	size_t options;

	if (p == NULL)
		return false;
	switch (p[0]) {
	case ND_ROUTER_SOLICIT:
		options = 8;
		break;
	case ND_ROUTER_ADVERT:
		options = 16;
		break;
	case ND_NEIGHBOR_SOLICIT:
	case ND_NEIGHBOR_ADVERT:
		options = 24;
		break;
	case ND_REDIRECT:
		/* Its target's address is another's, rightly. */
		return !f->fragment;
	default:
		return true;
	}
	p = frame_at(f, f->l4, options);
	if (p == NULL || f->fragment)
		return false;
	/* A target is claimed by advertising it and by probing for it. */
	if (filter->ip_nospoof &&
	    (p[0] == ND_NEIGHBOR_ADVERT ||
		(p[0] == ND_NEIGHBOR_SOLICIT && unspecified)) &&
	    !allowed_addr6(filter, p + 8))
		return false;
	return !filter->mac_nospoof || nd_options_ok(f, f->l4 + options);
}

/* ---- DHCP --------------------------------------------------------------- */

/* A DUID (RFC 8415, section 11) that is made of a hardware address. */
static bool
duid_ok(const struct filter *filter, const uint8_t *duid, size_t len)
{
	size_t mac;

	if (len < 4)
		return true;
	switch (be16_load(duid)) {
	case DUID_LLT:
		mac = 8;
		break;
	case DUID_LL:
		mac = 4;
		break;
	default:
		return true;
	}
	if (be16_load(duid + 2) != HTYPE_ETHERNET)
		return true;
	return len == mac + NET_MAC_LEN && own_mac(filter, duid + mac);
}

static bool
dhcp4_ok(const struct frame *f, size_t off)
{
	const struct filter *filter = f->filter;
	const uint8_t *p = frame_at(f, off, DHCP_OPTIONS);

	if (p == NULL || p[0] != DHCP_BOOTREQUEST || p[1] != HTYPE_ETHERNET ||
	    p[2] != NET_MAC_LEN || !own_mac(filter, p + 28))
		return false;
	off += DHCP_OPTIONS;
	for (;;) {
		size_t len;

		p = frame_at(f, off, 1);
		if (p == NULL || p[0] == 255)
			return f->len < FILTER_SPAN;
		if (p[0] == 0) {
			off++;
			continue;
		}
		p = frame_at(f, off, 2);
		if (p == NULL || frame_at(f, off, 2u + p[1]) == NULL)
			return false;
		len = p[1];
		if (p[0] == DHCP_OPT_CLIENT_ID && len >= 1) {
			if (p[2] == HTYPE_ETHERNET &&
			    (len != 1 + NET_MAC_LEN || !own_mac(filter, p + 3)))
				return false;
			/* RFC 4361: an IAID and a DUID. */
			if (p[2] == 255 && len >= 5 &&
			    !duid_ok(filter, p + 7, len - 5))
				return false;
		}
		off += 2 + len;
	}
}

static bool
dhcp6_ok(const struct frame *f, size_t off)
{
	const uint8_t *p = frame_at(f, off, 4);

	if (p == NULL || p[0] == DHCP6_RELAY_FORW)
		return false;
	off += 4;
	while ((p = frame_at(f, off, 4)) != NULL) {
		size_t len = be16_load(p + 2);

		if (frame_at(f, off + 4, len) == NULL)
			return false;
		if (be16_load(p) == DHCP6_OPT_CLIENTID &&
		    !duid_ok(f->filter, p + 4, len))
			return false;
		off += 4 + len;
	}
	return f->len < FILTER_SPAN;
}

static bool
is_dhcp_port(unsigned port, bool v6)
{
	return v6 ? port == DHCP6_CLIENT_PORT || port == DHCP6_SERVER_PORT :
		    port == DHCP_CLIENT_PORT || port == DHCP_SERVER_PORT;
}

/* UDP with its header there, or a fragment. */
static bool
udp_ok(const struct frame *f)
{
	bool v6 = f->type == ETHERTYPE_IPV6;
	const uint8_t *p = frame_at(f, f->l4, 8);
	unsigned from, to;

	if (f->later_fragment)
		return true;
	if (p == NULL)
		return false;
	from = be16_load(p);
	to = be16_load(p + 2);
	if (!is_dhcp_port(from, v6) && !is_dhcp_port(to, v6))
		return true;
	/* A server's port behind us, or a client's before us: a server. */
	if (from == (v6 ? DHCP6_SERVER_PORT : DHCP_SERVER_PORT) ||
	    to == (v6 ? DHCP6_CLIENT_PORT : DHCP_CLIENT_PORT))
		return false;
	if (to != (v6 ? DHCP6_SERVER_PORT : DHCP_SERVER_PORT))
		return true;
	if (f->fragment)
		return false;
	return v6 ? dhcp6_ok(f, f->l4 + 8) : dhcp4_ok(f, f->l4 + 8);
}

/* ---- a frame ------------------------------------------------------------ */

/* 0.0.0.0 asks a DHCP server, and does nothing else. */
static bool
is_dhcp_request(const struct frame *f)
{
	const uint8_t *p = frame_at(f, f->l4, 4);

	return f->proto == PROTO_UDP && !f->fragment && p != NULL &&
	    be16_load(p) == DHCP_CLIENT_PORT &&
	    be16_load(p + 2) == DHCP_SERVER_PORT;
}

static bool
ipv4_ok(struct frame *f)
{
	const struct filter *filter = f->filter;
	const uint8_t *source;

	if (!frame_ipv4(f))
		return false;
	source = f->data + f->l3 + 12;
	if (filter->ip_nospoof && !allowed_addr(filter, source, false) &&
	    (memcmp(source, any_addr, 4) != 0 || !is_dhcp_request(f)))
		return false;
	return !filter->dhcp_nospoof || f->proto != PROTO_UDP || udp_ok(f);
}

static bool
ipv6_ok(struct frame *f)
{
	const struct filter *filter = f->filter;
	const uint8_t *source;

	if (!frame_ipv6(f))
		return false;
	source = f->data + f->l3 + 8;
	if (filter->ip_nospoof && !allowed_addr6(filter, source) &&
	    (memcmp(source, any_addr, 16) != 0 || f->proto != PROTO_ICMPV6))
		return false;
	if (f->proto == PROTO_ICMPV6 && !f->later_fragment && !icmpv6_ok(f))
		return false;
	return !filter->dhcp_nospoof || f->proto != PROTO_UDP || udp_ok(f);
}

/*
 * Invariant 2.  The checksum goes to csum_start + csum_offset: either the
 * field of the protocol that was found, or, for a packet within a packet,
 * something behind all that was looked at.
 */
static bool
filter_csum_ok(const struct frame *f, const struct net_hdr *hdr)
{
	size_t start = le16_get(hdr->csum_start);
	unsigned offset = le16_get(hdr->csum_offset);
	const uint8_t *p;

	if (!(hdr->flags & NET_HDR_F_NEEDS_CSUM))
		return true;
	if (f->l4 == 0 || start < f->l4 || f->later_fragment)
		return false;
	if (start == f->l4)
		return (f->proto == PROTO_TCP && offset == 16) ||
		    (f->proto == PROTO_UDP && offset == 6) ||
		    (f->proto == PROTO_ICMPV6 && offset == 2);
	if (f->proto == PROTO_ICMPV6 || start - f->l4 < 8)
		return false;
	if (f->proto != PROTO_UDP)
		return true;
	p = frame_at(f, f->l4, 4);
	return p != NULL &&
	    !is_dhcp_port(be16_load(p), f->type == ETHERTYPE_IPV6) &&
	    !is_dhcp_port(be16_load(p + 2), f->type == ETHERTYPE_IPV6);
}

bool
filter_active(const struct filter *filter)
{
	return filter->mac_nospoof || filter->ip_nospoof ||
	    filter->dhcp_nospoof || filter->restricted;
}

bool
filter_check(const struct filter *filter, const uint8_t *data, size_t len,
    const struct net_hdr *hdr)
{
	struct frame f = {
		.filter = filter,
		.data = data,
		.len = MIN(len, (size_t)FILTER_SPAN),
	};

	if (!filter_active(filter))
		return true;
	if (f.len < NET_ETHER_HDR)
		return false;
	if (filter->mac_nospoof && !own_mac(filter, data + NET_MAC_LEN))
		return false;
	if (!frame_ether(&f))
		return false;
	switch (f.type) {
	case ETHERTYPE_RARP:
		if (filter->restricted)
			return false;
		/* fall through */
	case ETHERTYPE_ARP:
		if (!arp_ok(&f))
			return false;
		break;
	case ETHERTYPE_IPV4:
		if (!ipv4_ok(&f))
			return false;
		break;
	case ETHERTYPE_IPV6:
		if (!ipv6_ok(&f))
			return false;
		break;
	default:
		if (filter->restricted)
			return false;
	}
	return hdr == NULL || filter_csum_ok(&f, hdr);
}

/* ---- allowed-ips -------------------------------------------------------- */

static int
parse_addr(char *text, struct filter_addr *addr, struct err *err)
{
	char *slash = strchr(text, '/');
	uint64_t prefix;
	unsigned bits;

	if (slash != NULL)
		*slash = '\0';
	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, text, addr->bytes) != 1) {
		addr->v6 = true;
		if (inet_pton(AF_INET6, text, addr->bytes) != 1)
			return err_set(err, -EINVAL,
			    "%s: not an IPv4 or IPv6 address", text);
	}
	bits = addr->v6 ? 128 : 32;
	addr->prefix = (uint8_t)bits;
	if (slash == NULL)
		return 0;
	if (parse_uint(slash + 1, bits, &prefix) < 0)
		return err_set(err, -EINVAL, "%s/%s: a prefix has 0 to %u bits",
		    text, slash + 1, bits);
	addr->prefix = (uint8_t)prefix;
	return 0;
}

int
filter_parse_addrs(struct filter *filter, const char *text, struct err *err)
{
	char *copy = xstrdup(text), *save = NULL;
	int rc = 0;

	for (char *word = strtok_r(copy, ",; ", &save); word != NULL && rc == 0;
	     word = strtok_r(NULL, ",; ", &save)) {
		if (filter->addr_count == FILTER_ADDRS_MAX)
			rc = err_set(err, -E2BIG, "more than %d addresses",
			    FILTER_ADDRS_MAX);
		else
			rc = parse_addr(word,
			    &filter->addrs[filter->addr_count], err);
		if (rc == 0)
			filter->addr_count++;
	}
	free(copy);
	return rc;
}
