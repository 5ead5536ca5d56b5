/*
 * Link protection: honest frames pass, lies do not, cut frames never help.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/net_impl.h"

#define MAC 0x02, 0x11, 0x22, 0x33, 0x44, 0x55
#define OTHER_MAC 0x02, 0x11, 0x22, 0x33, 0x44, 0x56
#define IP4 192, 0, 2, 7
#define OTHER_IP4 192, 0, 2, 200
/* 2001:db8::7, and the card's link-local address */
#define IP6 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7
#define OTHER_IP6 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8
#define LL6                                                               \
	0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x00, 0x11, 0x22, 0xff, 0xfe, 0x33, \
	    0x44, 0x55
#define ANY6 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0

static const uint8_t mac[] = { MAC }, other_mac[] = { OTHER_MAC };
static const uint8_t ip4[] = { IP4 }, other_ip4[] = { OTHER_IP4 };
static const uint8_t ip6[] = { IP6 }, other_ip6[] = { OTHER_IP6 };
static const uint8_t ll6[] = { LL6 }, any6[] = { ANY6 };

/* ---- frames ------------------------------------------------------------- */

struct pkt {
	uint8_t data[4096];
	size_t len;
};

static void
put(struct pkt *p, const void *data, size_t len)
{
	memcpy(p->data + p->len, data, len);
	p->len += len;
}

static void
put_int(struct pkt *p, uint64_t value, unsigned size)
{
	while (size-- > 0)
		p->data[p->len++] = (uint8_t)(value >> (8 * size));
}

static void
put_zero(struct pkt *p, size_t len)
{
	memset(p->data + p->len, 0, len);
	p->len += len;
}

static struct pkt
ether(const uint8_t *source, uint16_t type)
{
	struct pkt p = { .len = 0 };

	put_int(&p, 0xffffffffffff, 6);
	put(&p, source, 6);
	put_int(&p, type, 2);
	return p;
}

static void
put_ipv4(struct pkt *p, const uint8_t *source, uint8_t proto, uint16_t frag)
{
	put_int(p, 0x45000000, 4);
	put_int(p, frag, 4);
	put_int(p, 0x40000000u | (uint32_t)proto << 16, 4);
	put(p, source, 4);
	put_int(p, 0xffffffff, 4);
}

static void
put_ipv6(struct pkt *p, const uint8_t *source, uint8_t next)
{
	put_int(p, 0x60000000, 4);
	put_int(p, (uint32_t)next << 8 | 255, 4);
	put(p, source, 16);
	put(p, other_ip6, 16);
}

static void
put_udp(struct pkt *p, uint16_t from, uint16_t to)
{
	put_int(p, from, 2);
	put_int(p, to, 2);
	put_zero(p, 4);
}

static struct pkt
arp(const uint8_t *source, const uint8_t *sender, const uint8_t *sender_ip)
{
	struct pkt p = ether(source, 0x0806);

	put_int(&p, 0x0001080006040001, 8);
	put(&p, sender, 6);
	put(&p, sender_ip, 4);
	put_zero(&p, 10);
	return p;
}

static struct pkt
udp4(const uint8_t *source, uint16_t from, uint16_t to)
{
	struct pkt p = ether(mac, 0x0800);

	put_ipv4(&p, source, 17, 0);
	put_udp(&p, from, to);
	put_zero(&p, 16);
	return p;
}

static struct pkt
dhcp4(const uint8_t *chaddr, const void *options, size_t len)
{
	struct pkt p = ether(mac, 0x0800);

	put_ipv4(&p, any6, 17, 0);
	put_udp(&p, 68, 67);
	put_int(&p, 0x01010600, 4);
	put_zero(&p, 24);
	put(&p, chaddr, 6);
	put_zero(&p, 202);
	put_int(&p, 0x63825363, 4);
	put_int(&p, 0x350101, 3);
	if (len > 0)
		put(&p, options, len);
	put_int(&p, 255, 1);
	return p;
}

static struct pkt
dhcp6(uint8_t type, const uint8_t *duid_mac)
{
	struct pkt p = ether(mac, 0x86dd);

	put_ipv6(&p, ll6, 17);
	put_udp(&p, 546, 547);
	put_int(&p, (uint32_t)type << 24 | 0x123456, 4);
	put_int(&p, 0x00080002, 4); /* elapsed time */
	put_int(&p, 0, 2);
	put_int(&p, 0x0001000a, 4); /* client identifier: DUID-LL */
	put_int(&p, 0x00030001, 4);
	put(&p, duid_mac, 6);
	return p;
}

/* Neighbour discovery behind `skip` bytes of hop-by-hop options. */
static struct pkt
nd(uint8_t type, const uint8_t *source, const uint8_t *target,
    const uint8_t *lla, unsigned skip)
{
	struct pkt p = ether(mac, 0x86dd);

	put_ipv6(&p, source, skip > 0 ? 0 : 58);
	if (skip > 0) {
		put_int(&p, 58, 1);
		put_int(&p, skip / 8 - 1, 1);
		put_zero(&p, skip - 2);
	}
	put_int(&p, (uint64_t)type << 24, 4);
	put_zero(&p, 4);
	put(&p, target, 16);
	if (lla != NULL) {
		put_int(&p, type == 135 ? 0x0101 : 0x0201, 2);
		put(&p, lla, 6);
	}
	return p;
}

static struct pkt
tagged(struct pkt p, unsigned tags)
{
	for (unsigned i = 0; i < tags; i++) {
		memmove(p.data + 16, p.data + 12, p.len - 12);
		memcpy(p.data + 12, i == 0 ? "\x81\0\0\x05" : "\x88\xa8\0\x05",
		    4);
		p.len += 4;
	}
	return p;
}

/* ---- judging ------------------------------------------------------------ */

/* Judge a copy of its exact size, so that the sanitizer sees a byte too many. */
static bool
passes_with(const struct filter *filter, struct pkt p,
    const struct net_hdr *hdr)
{
	size_t seen = MIN(p.len, (size_t)FILTER_SPAN);
	uint8_t *copy = malloc(MAX(seen, (size_t)1));
	bool passed;

	assert_non_null(copy);
	memcpy(copy, p.data, seen);
	passed = filter_check(filter, copy, p.len, hdr);
	free(copy);
	return passed;
}

static bool
passes(const struct filter *filter, struct pkt p)
{
	return passes_with(filter, p, NULL);
}

static struct filter
filter_make(void)
{
	struct filter f = { .mac = { MAC } };
	struct err err;

	assert_int_equal(filter_parse_addrs(&f,
			     "192.0.2.7, 198.51.100.0/25;2001:db8::7", &err),
	    0);
	assert_int_equal(f.addr_count, 3);
	return f;
}

static struct filter
filter_all(void)
{
	struct filter f = filter_make();

	f.mac_nospoof = f.ip_nospoof = f.dhcp_nospoof = f.restricted = true;
	return f;
}

/* ---- tests -------------------------------------------------------------- */

static void
without_protection_all_passes(void **state)
{
	struct filter f = filter_make();
	struct pkt p = { .len = 3 };

	assert_false(filter_active(&f));
	assert_true(passes(&f, p));
	assert_true(passes(&f, udp4(other_ip4, 67, 68)));
}

static void
honest_frames_pass(void **state)
{
	struct filter f = filter_all();
	struct pkt p;

	assert_true(passes(&f, arp(mac, mac, ip4)));
	assert_true(passes(&f, arp(mac, mac, any6))); /* a probe */
	assert_true(passes(&f, udp4(ip4, 1000, 53)));
	assert_true(passes(&f, dhcp4(mac, NULL, 0)));
	assert_true(passes(&f, dhcp6(1, mac)));
	assert_true(passes(&f, nd(135, ip6, other_ip6, mac, 0)));
	assert_true(passes(&f, nd(135, any6, ip6, NULL, 0)));
	assert_true(passes(&f, nd(136, ll6, ll6, mac, 8)));
	assert_true(passes(&f, nd(136, ip6, ip6, mac, 0)));
	p = ether(mac, 0x86dd); /* MLD report from :: */
	put_ipv6(&p, any6, 0);
	put_int(&p, 0x3a00050200000000, 8);
	put_int(&p, 0x8f00000000000000, 8);
	assert_true(passes(&f, p));
}

static void
mac_spoofing_is_refused(void **state)
{
	struct filter f = { .mac = { MAC }, .mac_nospoof = true };

	assert_true(passes(&f, arp(mac, mac, other_ip4)));
	assert_false(passes(&f, arp(other_mac, mac, ip4)));
	assert_false(passes(&f, arp(mac, other_mac, ip4)));
	assert_false(passes(&f, nd(136, ip6, ip6, other_mac, 0)));
	assert_false(passes(&f, nd(135, ip6, ip6, other_mac, 16)));
	assert_false(passes(&f, tagged(nd(136, ip6, ip6, other_mac, 0), 1)));
	assert_true(passes(&f, ether(mac, 0x88cc)));
	assert_false(passes(&f, ether(other_mac, 0x88cc)));
}

static void
ip_spoofing_is_refused(void **state)
{
	const uint8_t net_ip4[] = { 198, 51, 100, 127 };
	const uint8_t beyond_ip4[] = { 198, 51, 100, 128 };
	struct filter f = filter_make();
	struct pkt p;

	f.ip_nospoof = true;
	assert_true(passes(&f, udp4(net_ip4, 1, 2)));
	assert_false(passes(&f, udp4(beyond_ip4, 1, 2)));
	assert_false(passes(&f, udp4(other_ip4, 1, 2)));
	assert_false(passes(&f, udp4(any6, 1, 2)));
	assert_true(passes(&f, udp4(any6, 68, 67)));
	assert_false(passes(&f, arp(mac, mac, other_ip4)));
	for (unsigned tags = 1; tags <= 2; tags++) {
		assert_true(passes(&f, tagged(udp4(ip4, 1, 2), tags)));
		assert_false(passes(&f, tagged(udp4(other_ip4, 1, 2), tags)));
		assert_false(
		    passes(&f, tagged(arp(mac, mac, other_ip4), tags)));
	}
	/* A third could hide anything. */
	assert_false(passes(&f, tagged(udp4(ip4, 1, 2), 3)));
	assert_false(passes(&f, nd(136, ip6, other_ip6, mac, 0)));
	assert_false(passes(&f, nd(136, other_ip6, ip6, mac, 0)));
	assert_false(passes(&f, nd(135, any6, other_ip6, NULL, 0)));
	assert_false(passes(&f, nd(136, ip6, other_ip6, mac, 64)));
	p = ether(mac, 0x86dd);
	put_ipv6(&p, any6, 17);
	put_zero(&p, 8);
	assert_false(passes(&f, p));
	/* In LLC/SNAP. */
	p = ether(mac, 36);
	put_int(&p, 0xaaaa030000000800, 8);
	put_ipv4(&p, other_ip4, 1, 0);
	put_zero(&p, 8);
	assert_false(passes(&f, p));
	/* RARP claims like ARP. */
	p = arp(mac, mac, other_ip4);
	p.data[12] = 0x80;
	p.data[13] = 0x35;
	assert_false(passes(&f, p));
	assert_true(passes(&f, ether(mac, 0x88cc)));
}

static void
dhcp_spoofing_is_refused(void **state)
{
	static const uint8_t own_id[] = { 61, 7, 1, MAC };
	static const uint8_t other_id[] = { 61, 7, 1, OTHER_MAC };
	static const uint8_t other_duid[] = { 12, 1, 'x', 61, 15, 255, 0, 0, 0,
		1, 0, 3, 0, 1, OTHER_MAC };
	static const uint8_t cut[] = { 61, 200, 1 };
	struct filter f = { .mac = { MAC }, .dhcp_nospoof = true };
	struct pkt p;

	assert_true(passes(&f, dhcp4(mac, own_id, sizeof(own_id))));
	assert_false(passes(&f, dhcp4(other_mac, NULL, 0)));
	assert_false(passes(&f, dhcp4(mac, other_id, sizeof(other_id))));
	assert_false(passes(&f, dhcp4(mac, other_duid, sizeof(other_duid))));
	assert_false(passes(&f, dhcp4(mac, cut, sizeof(cut))));
	p = dhcp4(mac, NULL, 0);
	p.data[42] = 2; /* BOOTREPLY */
	assert_false(passes(&f, p));
	assert_false(passes(&f, udp4(ip4, 67, 68)));
	assert_false(passes(&f, udp4(ip4, 67, 1000)));
	assert_false(passes(&f, udp4(ip4, 1000, 68)));
	assert_true(passes(&f, udp4(ip4, 1000, 53)));
	assert_false(passes(&f, dhcp6(1, other_mac)));
	assert_false(passes(&f, dhcp6(12, mac))); /* RELAY-FORW */
	/* In fragments nothing can be seen. */
	p = dhcp4(mac, NULL, 0);
	p.data[20] = 0x20;
	assert_false(passes(&f, p));
	p = ether(mac, 0x0800);
	put_ipv4(&p, ip4, 17, 0x2000);
	put_zero(&p, 4); /* the ports would fit, but not the header */
	assert_false(passes(&f, p));
	p = ether(mac, 0x0800);
	put_ipv4(&p, ip4, 17, 0x0010);
	assert_true(passes(&f, p));
}

static void
restricted_means_three_types(void **state)
{
	struct filter f = { .mac = { MAC }, .restricted = true };

	assert_true(passes(&f, arp(mac, mac, ip4)));
	assert_true(passes(&f, udp4(ip4, 1, 2)));
	assert_true(passes(&f, nd(136, ip6, ip6, mac, 0)));
	assert_false(passes(&f, ether(mac, 0x88cc)));
	assert_false(passes(&f, ether(mac, 0x0026)));
	assert_false(passes(&f, tagged(udp4(ip4, 1, 2), 1)));
}

static void
extension_headers_end(void **state)
{
	struct filter f = filter_all();
	struct pkt p = ether(mac, 0x86dd);

	put_ipv6(&p, ip6, 60);
	for (unsigned i = 0; i < 100; i++)
		put_int(&p, 0x3c00010400000000, 8);
	assert_false(passes(&f, p)); /* too many */
	p = ether(mac, 0x86dd);
	put_ipv6(&p, ip6, 60);
	put_int(&p, 0x3aff010400000000, 8);
	put_zero(&p, 2040);
	assert_int_equal(p.len, 14 + 40 + 2048);
	put_int(&p, 0x88, 1);
	put_zero(&p, 100);
	assert_false(passes(&f, p)); /* beyond what is looked at */
	/* Neighbour discovery in a fragment. */
	p = ether(mac, 0x86dd);
	put_ipv6(&p, ip6, 44);
	put_int(&p, 0x3a00000100000001, 8);
	put_int(&p, 0x8800000000000000, 8);
	put(&p, ip6, 16);
	assert_false(passes(&f, p));
	/* An atomic fragment is whole. */
	p.data[14 + 40 + 3] = 0;
	assert_true(passes(&f, p));
}

/* A frame that is refused is refused, however much of it is cut off. */
static void
cut_frames_gain_nothing(void **state)
{
	const struct filter f = filter_all();
	struct pkt lies[] = {
		arp(mac, mac, other_ip4),
		udp4(other_ip4, 1, 2),
		nd(136, ip6, other_ip6, mac, 8),
		nd(136, ip6, ip6, other_mac, 0),
		dhcp4(other_mac, NULL, 0),
	};

	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		struct pkt p = lies[i];
		size_t claim = i == 3 ? p.len - 1 : p.len;

		for (p.len = 0; p.len <= claim; p.len++) {
			/* Without its option the third claims nothing. */
			if (i == 3 && p.len >= 14 + 40 + 24)
				break;
			assert_false(passes(&f, p));
		}
	}
}

static struct net_hdr
csum(uint16_t start, uint16_t offset)
{
	return (struct net_hdr) {
		.flags = NET_HDR_F_NEEDS_CSUM,
		.csum_start = le16_make(start),
		.csum_offset = le16_make(offset),
	};
}

static void
a_checksum_undoes_no_check(void **state)
{
	static const struct {
		uint16_t start, offset;
		bool passes;
	} cases[] = {
		{ 34, 6, true },       /* UDP's own */
		{ 34, 0, false },      /* the ports */
		{ 34, 2, false },      /* the ports */
		{ 34, 16, false },     /* TCP's */
		{ 26, 0, false },      /* IP's source */
		{ 0, 6, false },       /* Ethernet's source */
		{ 0, 40, false },      /* begins too early */
		{ 35, 5, false },      /* in the header */
		{ 42, 0, true },       /* within the payload: a tunnel */
		{ 65535, 65535, true } /* the kernel's to refuse */
	};
	struct filter f = filter_all();
	struct net_hdr hdr;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		hdr = csum(cases[i].start, cases[i].offset);
		assert_int_equal(passes_with(&f, udp4(ip4, 1, 2), &hdr),
		    cases[i].passes);
	}
	hdr = csum(42, 28); /* chaddr */
	assert_false(passes_with(&f, dhcp4(mac, NULL, 0), &hdr));
	hdr = csum(34, 6);
	assert_true(passes_with(&f, dhcp4(mac, NULL, 0), &hdr));
	hdr = csum(54, 2);
	assert_true(passes_with(&f, nd(136, ip6, ip6, mac, 0), &hdr));
	hdr = csum(62, 0); /* the target */
	assert_false(passes_with(&f, nd(136, ip6, ip6, mac, 0), &hdr));
	hdr = csum(14, 14); /* ARP's sender */
	assert_false(passes_with(&f, arp(mac, mac, ip4), &hdr));
}

static void
addresses_are_parsed(void **state)
{
	static const char *const bad[] = { "x", "1.2.3", "1.2.3.4/33",
		"1.2.3.4/", "::/129", "::1/-1", "1.2.3.4/8,x" };
	struct filter f = { 0 };
	struct err err;
	char many[FILTER_ADDRS_MAX * 4 + 8] = "";

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		f.addr_count = 0;
		assert_true(filter_parse_addrs(&f, bad[i], &err) < 0);
	}
	f.addr_count = 0;
	assert_int_equal(filter_parse_addrs(&f, "0.0.0.0/0 ::/0", &err), 0);
	f.ip_nospoof = true;
	assert_true(passes(&f, udp4(other_ip4, 1, 2)));
	f.addr_count = 0;
	for (unsigned i = 0; i <= FILTER_ADDRS_MAX; i++)
		strcat(many, "::1,");
	assert_int_equal(filter_parse_addrs(&f, many, &err), -E2BIG);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_protection_all_passes),
		cmocka_unit_test(honest_frames_pass),
		cmocka_unit_test(mac_spoofing_is_refused),
		cmocka_unit_test(ip_spoofing_is_refused),
		cmocka_unit_test(dhcp_spoofing_is_refused),
		cmocka_unit_test(restricted_means_three_types),
		cmocka_unit_test(extension_headers_end),
		cmocka_unit_test(cut_frames_gain_nothing),
		cmocka_unit_test(a_checksum_undoes_no_check),
		cmocka_unit_test(addresses_are_parsed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
