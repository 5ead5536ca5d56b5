/*
 * The e1000 against a network of the test's own: what the card sends is kept,
 * what it receives was put there.  Checksums are computed here by another
 * method than the card's.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "nic/net_double.h"
#include "pci/pci.h"
#include "test/bench.h"
#include "vm/platform.h"

#define CFG(off) (PLAT_ECAM_BASE + (5 << 15) + (off))

#define CTRL 0x0000
#define STATUS 0x0008
#define EECD 0x0010
#define EERD 0x0014
#define MDIC 0x0020
#define ICR 0x00c0
#define ITR 0x00c4
#define ICS 0x00c8
#define IMS 0x00d0
#define IMC 0x00d8
#define RCTL 0x0100
#define TCTL 0x0400
#define RDBAL 0x2800
#define RDLEN 0x2808
#define RDH 0x2810
#define RDT 0x2818
#define RDTR 0x2820
#define RADV 0x282c
#define TDBAL 0x3800
#define TDBAH 0x3804
#define TDLEN 0x3808
#define TDH 0x3810
#define TDT 0x3818
#define TIDV 0x3820
#define TXDCTL 0x3828
#define MPC 0x4010
#define MPRC 0x407c
#define GPRC 0x4074
#define BPRC 0x4078
#define GPTC 0x4080
#define GOTCL 0x4090
#define GOTCH 0x4094
#define RNBC 0x40a0
#define ROC 0x40ac
#define RXCSUM 0x5000
#define MTA 0x5200
#define RAL 0x5400
#define RAH 0x5404
#define VFTA 0x5600

#define SLU 0x00000040u
#define VME 0x40000000u
#define RST 0x04000000u
#define LU 0x2u

#define TXDW 0x00001u
#define TXQE 0x00002u
#define LSC 0x00004u
#define RXDMT0 0x00010u
#define RXO 0x00040u
#define RXT0 0x00080u
#define MDAC 0x00200u
#define TXD_LOW 0x08000u

#define RX_EN 0x2u
#define RX_UPE 0x8u
#define RX_MPE 0x10u
#define RX_LPE 0x20u
#define RX_BAM 0x8000u
#define RX_VFE 0x40000u
#define RX_BSEX 0x2000000u
#define RX_SECRC 0x4000000u

#define EOP 0x01000000u
#define IC 0x04000000u
#define TSE 0x04000000u
#define RS 0x08000000u
#define DEXT 0x20000000u
#define DATA (DEXT | 0x00100000u)
#define VLE 0x40000000u
#define IDE 0x80000000u
#define CTX_TCP 0x01000000u
#define CTX_IPV4 0x02000000u
#define IXSM 0x100u
#define TXSM 0x200u

#define RING 0x10000u
#define RX_RING 0x20000u
#define BUFFERS 0x400000u
#define DATA_AT 0x100000u
#define SIZE 64u

static const uint8_t mac[6] = NET_DOUBLE_MAC;

static const char *const options[] = {
	"bench.node=pci.0.5.0",
	"pci.0.5.0.backend=test",
	NULL,
};

/* ---- the guest ----------------------------------------------------------- */

static uint64_t
bar(struct bench *b, unsigned n)
{
	return bench_read(b, CFG(0x10 + 4 * n), 4) & ~15u;
}

static uint32_t
get(struct bench *b, unsigned off)
{
	return (uint32_t)bench_read(b, bar(b, 0) + off, 4);
}

static void
set(struct bench *b, unsigned off, uint32_t value)
{
	bench_write(b, bar(b, 0) + off, 4, value);
}

static bool
pin(struct bench *b)
{
	return bench_read(b, CFG(6), 2) & 8;
}

static void
run(struct bench *b)
{
	for (unsigned i = 0; i < 4; i++)
		loop_run_once(b->loop, 0);
}

static void
poke(struct bench *b, gpa_t at, const void *data, size_t len)
{
	assert_int_equal(mem_write(device_mem(b->dev), at, data, len), 0);
}

static void
peek(struct bench *b, gpa_t at, void *data, size_t len)
{
	assert_int_equal(mem_read(device_mem(b->dev), at, data, len), 0);
}

static void
desc(struct bench *b, gpa_t ring, unsigned i, uint64_t addr, uint32_t lower,
    uint32_t upper)
{
	uint8_t raw[16];

	le64_store(raw, addr);
	le32_store(raw + 8, lower);
	le32_store(raw + 12, upper);
	poke(b, ring + 16 * i, raw, sizeof(raw));
}

static void
context(struct bench *b, unsigned i, uint32_t ip, uint32_t tu, uint32_t cmd,
    uint8_t header, uint16_t mss)
{
	desc(b, RING, i, ip | (uint64_t)tu << 32, DEXT | cmd,
	    (uint32_t)header << 8 | (uint32_t)mss << 16);
}

static void
ready(struct bench *b)
{
	bench_write(b, CFG(4), 2, 7);
	set(b, CTRL, SLU);
	set(b, TDBAL, RING);
	set(b, TDLEN, SIZE * 16);
	set(b, TCTL, 0xa);
	set(b, RDBAL, RX_RING);
	set(b, RDLEN, SIZE * 16);
	(void)get(b, ICR);
	run(b);
	(void)get(b, ICR);
}

/* Receive buffers of 16 KiB for all descriptors. */
static void
ready_rx(struct bench *b, uint32_t rctl)
{
	ready(b);
	for (unsigned i = 0; i < SIZE; i++)
		desc(b, RX_RING, i, BUFFERS + i * 0x4000, 0, 0);
	set(b, RDT, SIZE - 1);
	set(b, RCTL, RX_EN | rctl);
}

struct got {
	uint16_t len, sum;
	uint8_t status, errors;
	uint16_t special;
};

static struct got
got(struct bench *b, unsigned i)
{
	struct got g;
	uint8_t raw[8];

	peek(b, RX_RING + 16 * i + 8, raw, sizeof(raw));
	g.len = le16_load(raw);
	g.sum = le16_load(raw + 2);
	g.status = raw[4];
	g.errors = raw[5];
	g.special = le16_load(raw + 6);
	return g;
}

static void
pattern(uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + 3 + (i >> 8));
}

/*
 * One's complement by casting out: the remainder of the number modulo 65535,
 * 0 written as 65535.
 */
static unsigned
remainder_of(const uint8_t *data, size_t len, unsigned start)
{
	unsigned rest = start;

	for (size_t i = 0; i < len + len % 2; i++)
		rest = (rest * 256 + (i < len ? data[i] : 0)) % 65535;
	return rest;
}

static unsigned
pseudo4(const uint8_t *ip, unsigned proto, size_t len)
{
	unsigned rest = remainder_of(ip + 12, 8, 0);

	return (unsigned)((rest + proto + len) % 65535);
}

static unsigned
pseudo6(const uint8_t *ip, unsigned proto, size_t len)
{
	return (unsigned)((remainder_of(ip + 8, 32, 0) + proto + len) % 65535);
}

/* Does a frame with IPv4 and TCP or UDP in it have the right sums? */
static void
assert_sums4(const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + 14;
	size_t total = be16_load(ip + 2);

	assert_int_equal(total, len - 14);
	assert_int_equal(remainder_of(ip, 20, 0), 0);
	/* The length, times 256 to the power of a whole number of words. */
	assert_int_equal(remainder_of(ip + 20, total - 20,
			     pseudo4(ip, ip[9], total - 20)),
	    0);
}

static void
assert_sums6(const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + 14;
	size_t total = be16_load(ip + 4);

	assert_int_equal(total, len - 14 - 40);
	assert_int_equal(remainder_of(ip + 40, total,
			     pseudo6(ip, ip[6], total)),
	    0);
}

/*
 * A frame of IPv4 with TCP (header of 54) or UDP (42): sums not in it, but the
 * pseudo header's, with or without the length.
 */
static void
frame4(uint8_t *frame, size_t len, bool tcp, bool with_len)
{
	size_t l4 = len - 34;
	uint8_t *ip = frame + 14;

	pattern(frame, len);
	memcpy(frame, mac, 6);
	be16_store(frame + 12, 0x0800);
	ip[0] = 0x45;
	be16_store(ip + 2, with_len ? (uint16_t)(len - 14) : 0);
	be16_store(ip + 4, 0x1234);
	be16_store(ip + 6, 0x4000);
	ip[9] = tcp ? 6 : 17;
	be16_store(ip + 10, 0);
	be16_store(ip + 20 + (tcp ? 16 : 6),
	    (uint16_t)pseudo4(ip, ip[9], with_len ? l4 : 0));
	if (!tcp) {
		be16_store(ip + 24, (uint16_t)l4);
	} else {
		be32_store(ip + 24, 0xffffff00);
		ip[32] = 0x50;
		ip[33] = 0x19; /* FIN, PSH, ACK */
	}
}

static void
frame6(uint8_t *frame, size_t len)
{
	uint8_t *ip = frame + 14;

	pattern(frame, len);
	be16_store(frame + 12, 0x86dd);
	ip[0] = 0x60;
	be16_store(ip + 4, 0);
	ip[6] = 6;
	be16_store(ip + 40 + 16, (uint16_t)pseudo6(ip, 6, 0));
	be32_store(ip + 44, 1000);
	ip[52] = 0x50;
	ip[53] = 0x19;
}

/* ---- registers ----------------------------------------------------------- */

static void
after_power_on(void **state)
{
	static const struct {
		unsigned off;
		uint32_t value;
	} values[] = {
		{ CTRL, 0x201 },
		{ 0x4, 0x201 },
		{ STATUS, 0x281 },
		{ EECD, 0x118 },
		{ EERD, 0 },
		{ 0x38, 0x8100 },
		{ MDIC, 0x10000000 },
		{ ICR, 0 },
		{ IMS, 0 },
		{ RCTL, 0 },
		{ TCTL, 0 },
		{ 0x0e00, 0x07068302 },
		{ 0x1000, 0x00100030 },
		{ RDLEN, 0 },
		{ TDLEN, 0 },
		{ 0x2828, 0x01010000 },
		{ RAL, 0x1298a000 },
		{ RAH, 0x80005634 },
		{ RAL + 8, 0 },
		{ RAH + 8, 0 },
		{ 0x5ffc, 0 },
		{ 0x1fffc, 0 },
	};
	struct bench *b = *state;

	assert_string_equal(net_double->seed, "5-0-bench");
	assert_int_equal(bench_read(b, CFG(0), 4), 0x100f8086);
	assert_int_equal(bench_read(b, CFG(8), 4), 0x02000000);
	assert_int_equal(bench_read(b, CFG(0x2c), 4), 0x10088086);
	assert_int_equal(bench_read(b, CFG(0x3d), 1), 1);
	assert_int_equal(bench_read(b, CFG(0x34), 1), 0);
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t size[] = { 0xfffe0000, 0xffff0000,
			0xfff9 };
		uint64_t old = bench_read(b, CFG(0x10 + 4 * i), 4);

		bench_write(b, CFG(0x10 + 4 * i), 4, 0xffffffff);
		assert_int_equal(bench_read(b, CFG(0x10 + 4 * i), 4), size[i]);
		bench_write(b, CFG(0x10 + 4 * i), 4, old);
	}
	bench_write(b, CFG(4), 2, 7);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		assert_int_equal(get(b, values[i].off), values[i].value);
	assert_int_equal(bench_read(b, bar(b, 1), 4), 0xffffffff);
	bench_write(b, bar(b, 1) + 0xfffc, 4, 0);
	assert_int_equal(bench_read(b, bar(b, 1) + 0xfffc, 4), 0xffffffff);
}

static void
reserved_bits_stay(void **state)
{
	static const struct {
		unsigned off;
		uint32_t ones, zeros;
	} values[] = {
		{ CTRL, 0x58fc1be9, 0 }, /* see how RST is tested below */
		{ 0x18, 0x00ca8fef, 0 },
		{ 0x2c, 0xffff, 0 },
		{ 0x38, 0xffff, 0 },
		{ ITR, 0xffff, 0 },
		{ RCTL, 0x06dfb3fe, 0 },
		{ TCTL, 0x03fffffa, 0 },
		{ RDBAL, 0xfffffff0, 0 },
		{ 0x2804, 0xffffffff, 0 },
		{ RDLEN, 0xfff80, 0 },
		{ RDH, 0xffff, 0 },
		{ RDT, 0xffff, 0 },
		{ RDTR, 0xffff, 0 },
		{ TDBAL, 0xfffffff0, 0 },
		{ TDLEN, 0xfff80, 0 },
		{ TDH, 0xffff, 0 },
		{ TDT, 0xffff, 0 },
		{ TXDCTL, 0xff3f3f3f, 0 },
		{ RXCSUM, 0x3ff, 0 },
		{ MTA + 0x1fc, 0xffffffff, 0 },
		{ RAL + 0x78, 0xffffffff, 0 },
		{ RAH + 0x78, 0x8003ffff, 0 },
		{ VFTA + 0x1fc, 0xffffffff, 0 },
		{ GPRC, 0, 0 },
		{ 0x5ffc, 0, 0 },
	};
	struct bench *b = *state;

	bench_write(b, CFG(4), 2, 7);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		set(b, values[i].off,
		    values[i].off == CTRL ? 0x7bffffff & ~RST : 0xffffffff);
		assert_int_equal(get(b, values[i].off), values[i].ones);
		set(b, values[i].off, 0);
		assert_int_equal(get(b, values[i].off), values[i].zeros);
	}
	/* The same by the other way. */
	set(b, STATUS, 0);
	assert_int_equal(get(b, STATUS), 0x281);
	bench_round_trip(b);
}

static void
words_are_the_width(void **state)
{
	struct bench *b = *state;
	uint64_t at;

	bench_write(b, CFG(4), 2, 7);
	at = bar(b, 0) + MTA;
	bench_write(b, at, 4, 0x11223344);
	bench_write(b, at + 4, 4, 0x55667788);
	bench_write(b, at, 1, 0xff);
	bench_write(b, at + 2, 2, 0xffff);
	bench_write(b, at + 2, 4, 0xffffffff);
	assert_int_equal(bench_read(b, at, 4), 0x11223344);
	assert_int_equal(bench_read(b, at + 1, 1), 0x33);
	assert_int_equal(bench_read(b, at + 2, 2), 0x1122);
	assert_true(bench_read(b, at, 8) == 0x5566778811223344);
	bench_write(b, at, 8, 0x0102030405060708);
	assert_int_equal(bench_read(b, at + 4, 4), 0x01020304);
	assert_int_equal(bench_read(b, at, 4), 0x05060708);
}

static void
ports_reach_registers(void **state)
{
	struct bench *b = *state;
	uint16_t port;

	bench_write(b, CFG(4), 2, 7);
	port = (uint16_t)(bench_read(b, CFG(0x18), 4) & 0xfff8);
	bench_out32(b, port, RAL + 8);
	bench_out32(b, port + 4, 0xcafef00d);
	assert_int_equal(get(b, RAL + 8), 0xcafef00d);
	assert_int_equal(bench_in32(b, port + 4), 0xcafef00d);
	assert_int_equal(bench_in32(b, port), RAL + 8);
	bench_out32(b, port, 0xffffffff);
	assert_int_equal(bench_in32(b, port), 0xffffc);
	assert_int_equal(bench_in32(b, port + 4), 0);
	bench_out32(b, port + 4, 1);
	bench_out8(b, port, 0);
	assert_int_equal(bench_in32(b, port), 0xffffc);
	bench_round_trip(b);
}

/* ---- EEPROM and PHY ------------------------------------------------------ */

static uint16_t
eerd(struct bench *b, unsigned addr)
{
	set(b, EERD, addr << 8 | 1);
	assert_int_equal(get(b, EERD) & 0xffff, addr << 8 | 0x10);
	return get(b, EERD) >> 16;
}

static bool
microwire_bit(struct bench *b, bool in)
{
	uint32_t bits = 0x42 | (in ? 4 : 0);

	set(b, EECD, bits);
	set(b, EECD, bits | 1);
	return get(b, EECD) & 8;
}

static void
microwire(struct bench *b, unsigned bits, unsigned count)
{
	set(b, EECD, 0x40);
	set(b, EECD, 0x42);
	while (count-- > 0)
		(void)microwire_bit(b, bits >> count & 1);
}

static uint16_t
microwire_word(struct bench *b)
{
	unsigned word = 0;

	for (unsigned i = 0; i < 16; i++)
		word = word << 1 | microwire_bit(b, false);
	return (uint16_t)word;
}

static void
eeprom_reads_both_ways(void **state)
{
	struct bench *b = *state;
	uint16_t sum = 0;

	bench_write(b, CFG(4), 2, 7);
	set(b, EECD, 0x40);
	assert_int_equal(get(b, EECD) & 0xc0, 0xc0);
	for (unsigned i = 0; i < 64; i++) {
		uint16_t word = eerd(b, i);

		microwire(b, 0x180 | i, 9);
		assert_int_equal(get(b, EECD) & 8, 0);
		bench_round_trip(b);
		assert_int_equal(microwire_word(b), word);
		sum += word;
	}
	assert_int_equal(sum, 0xbaba);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(eerd(b, i), mac[2 * i] | mac[2 * i + 1] << 8);
	assert_int_equal(eerd(b, 0x0b), 0x1008);
	assert_int_equal(eerd(b, 0x0d), 0x100f);
	assert_int_equal(eerd(b, 64), 0xffff);
	assert_int_equal(eerd(b, 255), 0xffff);
	set(b, EERD, 0x200);
	assert_int_equal(get(b, EERD), 0x200);
	set(b, EECD, 0);
	assert_int_equal(get(b, EECD) & 0xc0, 0);
}

static void
eeprom_goes_on_and_ignores_writes(void **state)
{
	struct bench *b = *state;

	bench_write(b, CFG(4), 2, 7);
	/* Zeros before the start bit do not count; from 63 on comes 0. */
	microwire(b, 0x180 | 63, 14);
	assert_int_equal(microwire_word(b), eerd(b, 63));
	assert_int_equal(microwire_word(b), eerd(b, 0));
	assert_int_equal(microwire_word(b), eerd(b, 1));
	/* EWEN, WRITE to 0: nothing, and ready. */
	microwire(b, 0x130, 9);
	microwire(b, 0x140, 9);
	(void)microwire_word(b);
	set(b, EECD, 0x40);
	set(b, EECD, 0x42);
	assert_int_equal(get(b, EECD) & 8, 8);
	assert_int_equal(eerd(b, 0), 0xa000);
}

static uint32_t
mdic(struct bench *b, unsigned op, unsigned phy, unsigned reg, uint16_t data)
{
	set(b, MDIC, op << 26 | phy << 21 | reg << 16 | data);
	return get(b, MDIC);
}

static uint16_t
phy(struct bench *b, unsigned reg)
{
	uint32_t value = mdic(b, 2, 1, reg, 0);

	assert_int_equal(value >> 28 & 7, 1);
	return (uint16_t)value;
}

static void
phy_has_negotiated(void **state)
{
	struct bench *b = *state;

	ready(b);
	assert_int_equal(phy(b, 2), 0x0141);
	assert_int_equal(phy(b, 3), 0x0c24);
	assert_int_equal(phy(b, 1) & 0x24, 0x24);
	assert_int_equal(phy(b, 17) & 0xec00, 0xac00);
	assert_int_equal(phy(b, 10) & 0x7800, 0x7800);
	/* Reset and restart are over at once. */
	(void)mdic(b, 1, 1, 0, 0x9340);
	assert_int_equal(phy(b, 0), 0x1140);
	(void)mdic(b, 1, 1, 0, 0x1340);
	assert_int_equal(phy(b, 0), 0x1140);
	(void)mdic(b, 1, 1, 4, 0x1234);
	(void)mdic(b, 1, 1, 2, 0x1234);
	assert_int_equal(phy(b, 4), 0x1234);
	assert_int_equal(phy(b, 2), 0x0141);
	/* Nobody at another address, no other operation. */
	assert_int_equal(mdic(b, 2, 0, 2, 0) >> 28 & 7, 5);
	assert_int_equal(mdic(b, 0, 1, 2, 0) >> 28 & 7, 5);
	assert_int_equal(mdic(b, 3, 1, 2, 0) >> 28 & 7, 5);
	assert_int_equal(get(b, ICR), 0);
	set(b, MDIC, 0x28220000);
	assert_int_equal(get(b, ICR), MDAC);
	/* Without power there is no link. */
	assert_int_equal(get(b, STATUS) & LU, LU);
	(void)mdic(b, 1, 1, 0, 0x1940);
	assert_int_equal(get(b, STATUS) & LU, 0);
	assert_int_equal(phy(b, 1) & 0x24, 0);
	assert_int_equal(get(b, ICR), LSC);
	bench_round_trip(b);
	set(b, CTRL, SLU | 0x80000000);
	assert_int_equal(get(b, STATUS) & LU, LU);
	assert_int_equal(phy(b, 4), 0x0de1);
}

static void
link_follows_the_back_end(void **state)
{
	struct bench *b = *state;

	bench_write(b, CFG(4), 2, 7);
	assert_int_equal(get(b, STATUS) & LU, 0);
	set(b, CTRL, SLU);
	assert_int_equal(get(b, STATUS) & LU, LU);
	assert_int_equal(get(b, ICR), LSC);
	net_double->ops->link(net_double->arg, false);
	run(b);
	assert_int_equal(get(b, STATUS) & LU, 0);
	assert_int_equal(phy(b, 1) & 0x24, 0);
	assert_int_equal(get(b, ICR), LSC);
	net_double->ops->link(net_double->arg, true);
	run(b);
	assert_int_equal(get(b, STATUS) & LU, LU);
	assert_int_equal(get(b, ICR), LSC);
	set(b, CTRL, 0);
	assert_int_equal(get(b, STATUS) & LU, 0);
}

/* ---- interrupts ---------------------------------------------------------- */

static void
causes_masks_and_pin(void **state)
{
	struct bench *b = *state;

	ready(b);
	set(b, ICS, 0xffffffff);
	assert_int_equal(get(b, ICS), 0);
	assert_int_equal(get(b, IMC), 0);
	assert_false(pin(b));
	set(b, IMS, RXT0 | LSC);
	assert_int_equal(get(b, IMS), RXT0 | LSC);
	assert_true(pin(b));
	bench_round_trip(b);
	set(b, IMC, LSC);
	assert_true(pin(b));
	set(b, ICR, RXT0);
	assert_false(pin(b));
	assert_int_equal(get(b, ICR), 0x1fedf & ~RXT0);
	assert_int_equal(get(b, ICR), 0);
	set(b, ICS, RXT0);
	assert_true(pin(b));
	assert_int_equal(get(b, ICR), RXT0);
	assert_false(pin(b));
	set(b, IMS, 0xffffffff);
	assert_int_equal(get(b, IMS), 0x1fedf);
	set(b, IMC, 0xffffffff);
	assert_int_equal(get(b, IMS), 0);
}

static void
itr_keeps_interrupts_apart(void **state)
{
	struct bench *b = *state;

	ready(b);
	set(b, ITR, 1000); /* 256 us */
	set(b, IMS, RXT0);
	set(b, ICS, RXT0);
	assert_true(pin(b));
	(void)get(b, ICR);
	bench_advance(b, 100000);
	set(b, ICS, RXT0);
	assert_false(pin(b));
	bench_advance(b, 155999);
	assert_false(pin(b));
	bench_advance(b, 1);
	assert_true(pin(b));
	(void)get(b, ICR);
	/* A cause that is taken back in time is not heard. */
	set(b, ICS, RXT0);
	assert_false(pin(b));
	(void)get(b, ICR);
	bench_advance(b, NS_PER_SEC);
	assert_false(pin(b));
	/* One that waits is saved: the round trip takes 3 ms. */
	set(b, ICS, RXT0);
	(void)get(b, ICR);
	set(b, ICS, RXT0);
	bench_round_trip(b);
	assert_true(pin(b));
}

/* ---- transmit ------------------------------------------------------------ */

static uint8_t
tx_status(struct bench *b, unsigned i)
{
	uint8_t status;

	peek(b, RING + 16 * i + 12, &status, 1);
	return status & 15;
}

static void
legacy_frames(void **state)
{
	struct bench *b = *state;
	uint8_t frame[1514];

	ready(b);
	pattern(frame, sizeof(frame));
	poke(b, DATA_AT, frame, sizeof(frame));
	desc(b, RING, 0, DATA_AT, 100, 0);
	desc(b, RING, 1, DATA_AT + 100, RS, 0);
	desc(b, RING, 2, DATA_AT + 100, EOP | RS | 1414, 0);
	desc(b, RING, 3, DATA_AT, EOP | 42, 0);
	set(b, TDT, 2);
	/* Not before there is an end. */
	assert_int_equal(get(b, TDH), 0);
	assert_int_equal(net_double->sent_count, 0);
	set(b, TDT, 4);
	assert_int_equal(get(b, TDH), 4);
	assert_int_equal(net_double->sent_count, 2);
	assert_int_equal(net_double->sent[0].len, 1514);
	assert_memory_equal(net_double->sent[0].data, frame, 1514);
	assert_int_equal(net_double->sent[1].len, 60);
	assert_memory_equal(net_double->sent[1].data, frame, 42);
	for (unsigned i = 42; i < 60; i++)
		assert_int_equal(net_double->sent[1].data[i], 0);
	assert_int_equal(tx_status(b, 0), 0);
	assert_int_equal(tx_status(b, 1), 1);
	assert_int_equal(tx_status(b, 2), 1);
	assert_int_equal(tx_status(b, 3), 0);
	assert_int_equal(get(b, ICR), TXDW | TXQE);
	assert_int_equal(get(b, GPTC), 2);
	assert_int_equal(get(b, GPTC), 0);
	assert_int_equal(get(b, GOTCL), 1514 + 60 + 8);
	assert_int_equal(get(b, GOTCL), 1514 + 60 + 8);
	assert_int_equal(get(b, GOTCH), 0);
	assert_int_equal(get(b, GOTCL), 0);
	/* As it is, without padding. */
	set(b, TCTL, 2);
	desc(b, RING, 4, DATA_AT, EOP | 42, 0);
	set(b, TDT, 5);
	assert_int_equal(net_double->sent[2].len, 42);
	/* Round the ring's end. */
	set(b, TDH, SIZE - 1);
	desc(b, RING, SIZE - 1, DATA_AT, 500, 0);
	desc(b, RING, 0, DATA_AT + 500, EOP | RS | 500, 0);
	set(b, TDT, 1);
	assert_int_equal(get(b, TDH), 1);
	assert_int_equal(net_double->sent[3].len, 1000);
	assert_memory_equal(net_double->sent[3].data, frame, 1000);
	bench_round_trip(b);
}

static void
legacy_checksum(void **state)
{
	struct bench *b = *state;
	uint8_t frame[61];

	ready(b);
	frame4(frame, sizeof(frame), false, true);
	poke(b, DATA_AT, frame, sizeof(frame));
	/* UDP: from 34 to the end, into 40. */
	desc(b, RING, 0, DATA_AT, EOP | IC | 40u << 16 | sizeof(frame),
	    34u << 8);
	/* Into beyond the end: left alone. */
	desc(b, RING, 1, DATA_AT, EOP | IC | 60u << 16 | sizeof(frame),
	    34u << 8);
	desc(b, RING, 2, DATA_AT, EOP | IC | 40u << 16 | sizeof(frame),
	    61u << 8);
	set(b, TDT, 3);
	assert_int_equal(net_double->sent_count, 3);
	assert_int_equal(remainder_of(net_double->sent[0].data + 34, 27,
			     pseudo4(frame + 14, 17, 27)),
	    0);
	assert_memory_equal(net_double->sent[1].data, frame, sizeof(frame));
	assert_memory_equal(net_double->sent[2].data, frame, sizeof(frame));
}

static void
checksums_by_context(void **state)
{
	struct bench *b = *state;
	uint8_t frame[1001];

	ready(b);
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		unsigned i = tcp * 3;

		frame4(frame, sizeof(frame), tcp, true);
		poke(b, DATA_AT + tcp * 0x1000, frame, sizeof(frame));
		context(b, i, 14 | 24 << 8 | 33 << 16,
		    34 | (tcp ? 50 : 40) << 8, (tcp ? CTX_TCP : 0) | CTX_IPV4,
		    0, 0);
		desc(b, RING, i + 1, DATA_AT + tcp * 0x1000, DATA | 300,
		    IXSM | TXSM);
		desc(b, RING, i + 2, DATA_AT + tcp * 0x1000 + 300,
		    DATA | EOP | RS | 701, 0);
	}
	set(b, TDT, 6);
	assert_int_equal(net_double->sent_count, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(net_double->sent[i].len, sizeof(frame));
		assert_sums4(net_double->sent[i].data, sizeof(frame));
	}
	/* The context stays; without POPTS nothing is put in. */
	desc(b, RING, 6, DATA_AT + 0x1000, DATA | EOP | 1001, TXSM);
	desc(b, RING, 7, DATA_AT + 0x1000, DATA | EOP | 1001, 0);
	bench_round_trip(b);
	set(b, TDT, 8);
	assert_memory_equal(net_double->sent[2].data + 34,
	    net_double->sent[1].data + 34, 1001 - 34);
	assert_int_equal(be16_load(net_double->sent[2].data + 24), 0);
	assert_memory_equal(net_double->sent[3].data, frame, sizeof(frame));
}

/* A packet of `len` at DATA_AT, from the context in descriptor 0 on. */
static void
send_large(struct bench *b, size_t len, uint32_t more, uint32_t upper)
{
	unsigned i = 1;

	for (size_t off = 0; off < len; i++) {
		size_t part = MIN(len - off, 4096u);
		bool last = off + part == len;

		desc(b, RING, i, DATA_AT + off,
		    (uint32_t)(DATA | TSE | part |
			(last ? EOP | RS | more : 0)),
		    (i == 1 ? IXSM | TXSM : 0) | upper);
		off += part;
	}
	set(b, TDT, i);
}

static void
segments_of_ipv4(void **state)
{
	struct bench *b = *state;
	size_t len = 54 + 65000, at = 54;
	uint8_t *frame = xcalloc(1, len);
	unsigned count = (65000 + 1447) / 1448;

	ready(b);
	frame4(frame, len, true, false);
	poke(b, DATA_AT, frame, len);
	context(b, 0, 14 | 24 << 8 | 33 << 16, 34 | 50 << 8,
	    TSE | CTX_TCP | CTX_IPV4 | 65000, 54, 1448);
	send_large(b, len, 0, 0);
	assert_int_equal(net_double->sent_count, count);
	for (unsigned i = 0; i < count; i++) {
		const struct net_frame *f = &net_double->sent[i];
		size_t part = MIN(1448u, len - at);

		assert_int_equal(f->len, 54 + part);
		assert_sums4(f->data, f->len);
		assert_int_equal(be16_load(f->data + 18), 0x1234 + i);
		assert_int_equal(be32_load(f->data + 38),
		    (uint32_t)(0xffffff00 + i * 1448));
		assert_int_equal(f->data[47], i + 1 == count ? 0x19 : 0x10);
		assert_memory_equal(f->data + 54, frame + at, part);
		at += part;
	}
	assert_int_equal(get(b, 0x40f8), 1);
	assert_int_equal(get(b, GPTC), count);
	free(frame);
}

static void
segments_of_ipv6_with_tags(void **state)
{
	struct bench *b = *state;
	size_t len = 74 + 5001, at = 74;
	uint8_t *frame = xcalloc(1, len);

	ready(b);
	set(b, CTRL, SLU | VME);
	frame6(frame, len);
	poke(b, DATA_AT, frame, len);
	context(b, 0, 14, 54 | 70 << 8, TSE | CTX_TCP, 74, 1000);
	send_large(b, len, VLE, 0x60070000);
	assert_int_equal(net_double->sent_count, 6);
	for (unsigned i = 0; i < 6; i++) {
		struct net_frame *f = &net_double->sent[i];
		size_t part = MIN(1000u, len - at);

		assert_int_equal(f->len, MAX(78 + part, 60u));
		assert_int_equal(be32_load(f->data + 12), 0x81006007);
		memmove(f->data + 4, f->data, 12);
		assert_sums6(f->data + 4, 74 + part);
		assert_int_equal(be32_load(f->data + 4 + 58), 1000 + i * 1000);
		assert_memory_equal(f->data + 78, frame + at, part);
		at += part;
	}
	free(frame);
}

static void
segments_of_udp(void **state)
{
	struct bench *b = *state;
	size_t len = 42 + 2500;
	uint8_t frame[42 + 2500];

	ready(b);
	frame4(frame, len, false, false);
	poke(b, DATA_AT, frame, len);
	context(b, 0, 14 | 24 << 8 | 33 << 16, 34 | 40 << 8, TSE | CTX_IPV4, 42,
	    1000);
	send_large(b, len, 0, 0);
	assert_int_equal(net_double->sent_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(be16_load(net_double->sent[i].data + 38),
		    net_double->sent[i].len - 34);
		assert_sums4(net_double->sent[i].data, net_double->sent[i].len);
	}
}

static void
tags_put_in(void **state)
{
	struct bench *b = *state;
	uint8_t frame[100];

	ready(b);
	pattern(frame, sizeof(frame));
	poke(b, DATA_AT, frame, sizeof(frame));
	desc(b, RING, 0, DATA_AT, EOP | VLE | 100, 0x30050000);
	/* Without CTRL.VME there is none. */
	set(b, TDT, 1);
	assert_int_equal(net_double->sent[0].len, 100);
	set(b, CTRL, SLU | VME);
	desc(b, RING, 1, DATA_AT, EOP | VLE | 58, 0x30050000);
	desc(b, RING, 2, DATA_AT, EOP | VLE | 13, 0x30050000);
	set(b, TDT, 3);
	assert_int_equal(net_double->sent_count, 2);
	assert_int_equal(net_double->sent[1].len, 62);
	assert_memory_equal(net_double->sent[1].data, frame, 12);
	assert_int_equal(be32_load(net_double->sent[1].data + 12), 0x81003005);
	assert_memory_equal(net_double->sent[1].data + 16, frame + 12, 46);
}

static void
write_back_is_held(void **state)
{
	struct bench *b = *state;

	ready(b);
	set(b, TIDV, 100);
	set(b, 0x382c, 150);
	desc(b, RING, 0, DATA_AT, EOP | RS | IDE | 60, 0);
	desc(b, RING, 1, DATA_AT, EOP | RS | IDE | 60, 0);
	set(b, TDT, 1);
	assert_int_equal(get(b, ICR), TXQE);
	bench_advance(b, 100 * 1024 - 1);
	set(b, TDT, 2);
	assert_int_equal(get(b, ICR), TXQE);
	/* The second one starts anew, but not beyond 150. */
	bench_advance(b, 50 * 1024);
	assert_int_equal(get(b, ICR), 0);
	bench_advance(b, 1);
	assert_int_equal(get(b, ICR), TXDW);
	/* Flush. */
	desc(b, RING, 2, DATA_AT, EOP | RS | IDE | 60, 0);
	set(b, TDT, 3);
	assert_int_equal(get(b, ICR), TXQE);
	set(b, TIDV, 0x80000064);
	bench_advance(b, 1);
	assert_int_equal(get(b, ICR), TXDW);
	/* One that is held is saved. */
	set(b, TDT, 2);
	set(b, TDH, 1);
	set(b, TDT, 2);
	bench_round_trip(b);
	assert_int_equal(get(b, ICR) & TXDW, TXDW);
	set(b, TDH, 3);
	set(b, TDT, 3);
	(void)get(b, ICR);
	/* The low threshold, at 8. */
	set(b, TXDCTL, 1u << 25);
	for (unsigned i = 3; i < 12; i++)
		desc(b, RING, i, DATA_AT, 60, 0);
	desc(b, RING, 12, DATA_AT, EOP | 60, 0);
	set(b, TDT, 13);
	assert_int_equal(get(b, ICR), TXQE | TXD_LOW);
}

static void
work_is_bounded_and_goes_on(void **state)
{
	struct bench *b = *state;

	ready(b);
	set(b, TDLEN, 1024 * 16);
	for (unsigned i = 0; i < 1024; i++)
		desc(b, RING, i, DATA_AT, EOP | 60, 0);
	set(b, TDT, 1000);
	assert_int_equal(get(b, TDH), 256);
	bench_round_trip(b);
	for (unsigned i = 0; i < 4; i++)
		run(b);
	assert_int_equal(get(b, TDH), 1000);
	assert_int_equal(net_double->sent_count, 1000);
	/* Contexts only, and descriptors that are nothing. */
	for (unsigned i = 0; i < 1024; i++)
		desc(b, RING, i, 0, DEXT, 0);
	set(b, TDT, 999);
	assert_int_equal(get(b, TDH), (1000 + 256) % 1024);
}

static void
full_back_end_is_waited_for(void **state)
{
	struct bench *b = *state;
	size_t len = 54 + 65000;
	uint8_t *frame = xcalloc(1, len);
	unsigned sent = 0;

	ready(b);
	frame4(frame, len, true, false);
	poke(b, DATA_AT, frame, len);
	/* 650 segments: more than a budget, and the back end takes few. */
	context(b, 0, 14 | 24 << 8 | 33 << 16, 34 | 50 << 8,
	    TSE | CTX_TCP | CTX_IPV4, 54, 100);
	net_double->room = 100;
	send_large(b, len, 0, 0);
	assert_int_equal(net_double->sent_count, 100);
	assert_int_equal(get(b, TDH), 1);
	bench_round_trip(b);
	while (net_double->sent_count < 650) {
		assert_true(net_double->sent_count > sent);
		sent = net_double->sent_count;
		net_double->room = 100;
		net_double->ops->writable(net_double->arg, 0);
		run(b);
	}
	assert_int_equal(get(b, TDH), get(b, TDT));
	for (unsigned i = 0; i < 650; i++) {
		assert_sums4(net_double->sent[i].data, net_double->sent[i].len);
		assert_memory_equal(net_double->sent[i].data + 54,
		    frame + 54 + 100 * i, 100);
	}
	assert_int_equal(get(b, GPTC), 650);
	free(frame);
}

/* ---- transmit, by the hostile -------------------------------------------- */

static void
contexts_that_lie(void **state)
{
	static const uint8_t lens[] = { 1, 14, 33, 54, 55, 255 };
	struct bench *b = *state;
	uint8_t frame[300];

	ready(b);
	frame4(frame, sizeof(frame), true, false);
	poke(b, DATA_AT, frame, sizeof(frame));
	for (unsigned field = 0; field < 6; field++) {
		for (unsigned v = 0; v < 256; v++) {
			uint8_t f[6] = { 14, 24, 34, 50, 54, 100 };
			unsigned len = lens[v % ARRAY_SIZE(lens)];

			f[field] = (uint8_t)v;
			set(b, TDH, 0);
			set(b, TDT, 0);
			for (unsigned tse = 0; tse < 2; tse++) {
				unsigned i = 2 * tse;

				context(b, i, f[0] | f[1] << 8 | v << 16,
				    f[2] | f[3] << 8 | v << 24,
				    (tse ? TSE : 0) | (v & 3) << 24, f[4],
				    f[5]);
				desc(b, RING, i + 1, DATA_AT,
				    DATA | EOP | VLE | (tse ? TSE : 0) | len,
				    IXSM | TXSM);
			}
			set(b, CTRL, SLU | (v & 1 ? VME : 0));
			set(b, TDT, 4);
			for (unsigned i = 0; i < 8; i++)
				run(b);
			assert_int_equal(get(b, TDH), 4);
			net_forget_sent(net_double);
		}
	}
	/* A header beyond the packet, none, and segments of nothing. */
	set(b, TDH, 0);
	set(b, TDT, 0);
	context(b, 0, 14, 34, TSE | CTX_TCP, 255, 100);
	desc(b, RING, 1, DATA_AT, DATA | EOP | TSE | 254, IXSM);
	context(b, 2, 14, 34, TSE | CTX_TCP, 0, 100);
	desc(b, RING, 3, DATA_AT, DATA | EOP | TSE | 254, IXSM);
	context(b, 4, 14, 34, TSE | CTX_TCP, 54, 0);
	desc(b, RING, 5, DATA_AT, DATA | EOP | TSE | 254, IXSM);
	context(b, 6, 14, 34, TSE | CTX_TCP, 54, 0xffff);
	desc(b, RING, 7, DATA_AT, DATA | EOP | TSE | 60000, IXSM);
	set(b, TDT, 8);
	assert_int_equal(get(b, TDH), 8);
	assert_int_equal(net_double->sent_count, 0);
}

static void
packets_without_end(void **state)
{
	struct bench *b = *state;

	ready(b);
	/* Zeros all over: a full ring is dropped, what follows up to EOP too. */
	for (unsigned i = 0; i < SIZE; i++)
		desc(b, RING, i, 0, 0, 0);
	set(b, TDT, SIZE - 1);
	assert_int_equal(get(b, TDH), SIZE - 1);
	bench_round_trip(b);
	desc(b, RING, SIZE - 1, DATA_AT, EOP | 60, 0);
	desc(b, RING, 0, DATA_AT, EOP | 60, 0);
	set(b, TDT, 1);
	assert_int_equal(get(b, TDH), 1);
	assert_int_equal(net_double->sent_count, 1);
	/* In a large ring it is the chain's length that ends it. */
	set(b, TDH, 0);
	set(b, TDT, 0);
	set(b, TDLEN, 2048 * 16);
	for (unsigned i = 0; i < 2048; i++)
		desc(b, RING, i, DATA_AT, 60, 0);
	set(b, TDT, 2000);
	for (unsigned i = 0; i < 4; i++)
		run(b);
	assert_int_equal(get(b, TDH), 3 * 512);
	desc(b, RING, 2000, DATA_AT, EOP | 60, 0);
	desc(b, RING, 2001, DATA_AT, EOP | 61, 0);
	set(b, TDT, 2002);
	for (unsigned i = 0; i < 4; i++)
		run(b);
	assert_int_equal(get(b, TDH), 2002);
	assert_int_equal(net_double->sent_count, 2);
	assert_int_equal(net_double->sent[1].len, 61);
}

static void
data_too_long_or_nowhere(void **state)
{
	struct bench *b = *state;

	ready(b);
	desc(b, RING, 0, DATA_AT, DATA | EOP | 0xfffff, 0);
	desc(b, RING, 1, DATA_AT, EOP | 0xffff, 0);
	desc(b, RING, 2, bar(b, 0), EOP | RS | 60, 0);
	desc(b, RING, 3, UINT64_MAX - 10, EOP | 60, 0);
	desc(b, RING, 4, DATA_AT, DATA | EOP | 16381, 0);
	desc(b, RING, 5, DATA_AT, EOP | 0, 0);
	desc(b, RING, 6, DATA_AT, DATA | EOP | 16380, 0);
	set(b, TDT, 7);
	assert_int_equal(get(b, TDH), 7);
	assert_int_equal(tx_status(b, 2), 1);
	assert_int_equal(net_double->sent_count, 1);
	assert_int_equal(net_double->sent[0].len, 16380);
}

static void
rings_that_are_none(void **state)
{
	struct bench *b = *state;
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	ready_rx(b, RX_UPE | RX_BAM);
	desc(b, RING, 0, DATA_AT, EOP | 60, 0);
	net_give(net_double, frame, sizeof(frame));
	/* Beyond the end, either index. */
	set(b, RDH, SIZE);
	set(b, TDH, SIZE);
	set(b, TDT, 1);
	run(b);
	assert_int_equal(get(b, TDH), SIZE);
	assert_int_equal(get(b, RDH), SIZE);
	set(b, RDH, 0);
	set(b, TDH, 0);
	set(b, RDT, 0xffff);
	set(b, TDT, 0xffff);
	run(b);
	assert_int_equal(get(b, RDH), 0);
	assert_int_equal(get(b, TDH), 0);
	/* No length at all. */
	set(b, RDLEN, 0);
	set(b, TDLEN, 0);
	set(b, RDT, 0);
	set(b, TDT, 0);
	run(b);
	/* In registers, and beyond all memory. */
	set(b, RDLEN, SIZE * 16);
	set(b, TDLEN, SIZE * 16);
	set(b, TDBAL, (uint32_t)bar(b, 0));
	set(b, RDBAL, (uint32_t)bar(b, 0));
	set(b, TDT, 1);
	run(b);
	assert_int_equal(get(b, TDH), 0);
	set(b, TDBAH, 0xffffffff);
	set(b, TDBAL, 0xfffffff0);
	set(b, TDT, 2);
	assert_int_equal(get(b, TDH), 0);
	assert_int_equal(net_double->sent_count, 0);
	/* And a good one works again. */
	set(b, TDBAH, 0);
	set(b, TDBAL, RING);
	set(b, TDT, 1);
	assert_int_equal(net_double->sent_count, 1);
}

static void
no_dma_without_mastering(void **state)
{
	struct bench *b = *state;
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	ready_rx(b, RX_BAM);
	run(b);
	bench_write(b, CFG(4), 2, 3);
	desc(b, RING, 0, DATA_AT, EOP | RS | 60, 0);
	set(b, TDT, 1);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, TDH), 0);
	assert_int_equal(get(b, RDH), 0);
	assert_int_equal(net_double->sent_count, 0);
	bench_write(b, CFG(4), 2, 7);
	run(b);
	assert_int_equal(get(b, TDH), 1);
	assert_int_equal(get(b, RDH), 1);
}

static void
loopback_goes_nowhere(void **state)
{
	struct bench *b = *state;

	ready_rx(b, 0xc0);
	desc(b, RING, 0, DATA_AT, EOP | RS | 60, 0);
	set(b, TDT, 1);
	run(b);
	assert_int_equal(get(b, TDH), 1);
	assert_int_equal(net_double->sent_count, 0);
	assert_int_equal(get(b, RDH), 0);
}

/* ---- receive ------------------------------------------------------------- */

static uint32_t
crc32_of(const uint8_t *data, size_t len)
{
	uint32_t table[256], crc = 0xffffffff;

	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (unsigned k = 0; k < 8; k++)
			c = c & 1 ? 0xedb88320 ^ (c >> 1) : c >> 1;
		table[i] = c;
	}
	for (size_t i = 0; i < len; i++)
		crc = table[(crc ^ data[i]) & 0xff] ^ (crc >> 8);
	return ~crc;
}

static void
frames_come_in(void **state)
{
	struct bench *b = *state;
	uint8_t frame[1514], in[1518];

	ready_rx(b, RX_BAM | RX_SECRC);
	set(b, IMS, RXT0);
	pattern(frame, sizeof(frame));
	memcpy(frame, mac, 6);
	net_give(net_double, frame, 42);
	net_give(net_double, frame, 1514);
	assert_int_equal(get(b, RDH), 0);
	run(b);
	assert_int_equal(get(b, RDH), 2);
	assert_true(pin(b));
	assert_int_equal(get(b, ICR), RXT0);
	assert_int_equal(got(b, 0).len, 60);
	assert_int_equal(got(b, 0).status, 7);
	assert_int_equal(got(b, 1).len, 1514);
	peek(b, BUFFERS, in, 60);
	assert_memory_equal(in, frame, 42);
	for (unsigned i = 42; i < 60; i++)
		assert_int_equal(in[i], 0);
	peek(b, BUFFERS + 0x4000, in, 1514);
	assert_memory_equal(in, frame, 1514);
	/* With the check sequence. */
	set(b, RCTL, RX_EN | RX_BAM);
	net_give(net_double, frame, 100);
	run(b);
	assert_int_equal(got(b, 2).len, 104);
	peek(b, BUFFERS + 0x8000, in, 104);
	assert_int_equal(le32_load(in + 100), crc32_of(frame, 100));
	assert_int_equal(get(b, GPRC), 3);
	assert_int_equal(get(b, BPRC), 0);
	bench_round_trip(b);
}

static void
filters(void **state)
{
	static const uint8_t multicast[6] = { 0x01, 0x00, 0x5e, 0x12, 0x34,
		0xab };
	static const unsigned hash[] = { 0xab3, 0x566, 0xacd, 0xb34 };
	struct bench *b = *state;
	uint8_t frame[60];
	unsigned n = 0;

	ready_rx(b, RX_SECRC);
	pattern(frame, sizeof(frame));
#define PASSES(what, yes)                                   \
	do {                                                \
		memcpy(frame, (what), 6);                   \
		net_give(net_double, frame, sizeof(frame)); \
		run(b);                                     \
		n += (yes);                                 \
		assert_int_equal(get(b, RDH), n % SIZE);    \
	} while (0)
	PASSES(mac, true);
	PASSES("\xff\xff\xff\xff\xff\xff", false);
	PASSES("\x02\xff\xff\xff\xff\xff", false);
	PASSES(multicast, false);
	set(b, RCTL, RX_EN | RX_BAM);
	PASSES("\xff\xff\xff\xff\xff\xff", true);
	PASSES(multicast, false);
	set(b, RCTL, RX_EN | RX_UPE);
	PASSES("\x02\xff\xff\xff\xff\xff", true);
	PASSES(multicast, false);
	set(b, RCTL, RX_EN | RX_MPE);
	PASSES("\x02\xff\xff\xff\xff\xff", false);
	PASSES(multicast, true);
	assert_int_equal(got(b, n - 1).status & 0x80, 0);
	/* The last exact filter: valid, then of source addresses. */
	set(b, RCTL, RX_EN);
	set(b, RAL + 0x78, 0xffffff02);
	set(b, RAH + 0x78, 0x8000ffff);
	PASSES("\x02\xff\xff\xff\xff\xff", true);
	set(b, RAH + 0x78, 0x8001ffff);
	PASSES("\x02\xff\xff\xff\xff\xff", false);
	set(b, RAH + 0x78, 0x0000ffff);
	PASSES("\x02\xff\xff\xff\xff\xff", false);
	for (unsigned mo = 0; mo < 4; mo++) {
		unsigned word = MTA + hash[mo] / 32 * 4;

		set(b, RCTL, RX_EN | mo << 12);
		PASSES(multicast, false);
		set(b, word, 1u << hash[mo] % 32);
		PASSES(multicast, true);
		assert_int_equal(got(b, n - 1).status & 0x80, 0x80);
		set(b, word, 0);
	}
	assert_int_equal(get(b, MPRC), 5);
}

static void
tags_taken_off(void **state)
{
	struct bench *b = *state;
	uint8_t frame[104], in[104];

	ready_rx(b, RX_SECRC | RX_VFE);
	pattern(frame, sizeof(frame));
	memcpy(frame, mac, 6);
	be32_store(frame + 12, 0x81006007);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, RDH), 0);
	set(b, VFTA, 1u << 7);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, RDH), 1);
	assert_int_equal(got(b, 0).len, 104);
	assert_int_equal(got(b, 0).status & 8, 0);
	set(b, CTRL, SLU | VME);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(got(b, 1).len, 100);
	assert_int_equal(got(b, 1).status & 8, 8);
	assert_int_equal(got(b, 1).special, 0x6007);
	peek(b, BUFFERS + 0x4000, in, 100);
	assert_memory_equal(in, frame, 12);
	assert_memory_equal(in + 12, frame + 16, 88);
	/* CFI: must be clear, then set. */
	set(b, RCTL, RX_EN | RX_VFE | 0x80000);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, RDH), 3);
	set(b, RCTL, RX_EN | RX_VFE | 0x180000);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, RDH), 3);
}

static void
buffers_of_all_sizes(void **state)
{
	static const struct {
		uint32_t rctl, size;
	} sizes[] = {
		{ 0, 2048 },
		{ 1u << 16, 1024 },
		{ 2u << 16, 512 },
		{ 3u << 16, 256 },
		{ RX_BSEX, 2048 },
		{ RX_BSEX | 1u << 16, 16384 },
		{ RX_BSEX | 2u << 16, 8192 },
		{ RX_BSEX | 3u << 16, 4096 },
	};
	struct bench *b = *state;
	uint8_t frame[9000], in[9000];

	pattern(frame, sizeof(frame));
	memcpy(frame, mac, 6);
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		unsigned size = sizes[s].size, n = (9000 + size - 1) / size;

		ready_rx(b, RX_SECRC | RX_LPE | sizes[s].rctl);
		set(b, RDH, 0);
		net_give(net_double, frame, sizeof(frame));
		run(b);
		assert_int_equal(get(b, RDH), n);
		for (unsigned i = 0; i < n; i++) {
			unsigned part = MIN(size, 9000 - i * size);

			assert_int_equal(got(b, i).len, part);
			assert_int_equal(got(b, i).status & 3,
			    i + 1 == n ? 3 : 1);
			peek(b, BUFFERS + i * 0x4000, in + i * size, part);
		}
		assert_memory_equal(in, frame, sizeof(frame));
	}
}

static void
long_frames_are_dropped(void **state)
{
	struct bench *b = *state;
	uint8_t *frame = xcalloc(1, 20000);

	ready_rx(b, 0);
	memcpy(frame, mac, 6);
	net_give(net_double, frame, 1515);
	net_give(net_double, frame, 1514);
	be16_store(frame + 12, 0x8100);
	net_give(net_double, frame, 1519);
	net_give(net_double, frame, 1518);
	run(b);
	assert_int_equal(get(b, RDH), 2);
	assert_int_equal(get(b, ROC), 2);
	set(b, RCTL, RX_EN | RX_LPE);
	net_give(net_double, frame, 20000);
	net_give(net_double, frame, 16381);
	net_give(net_double, frame, 16380);
	run(b);
	assert_int_equal(get(b, ROC), 2);
	assert_int_equal(get(b, RDH), 2 + 8);
	free(frame);
}

static void
checksums_are_judged(void **state)
{
	struct bench *b = *state;
	uint8_t frame[201];
	unsigned n = 0;

	ready_rx(b, RX_SECRC);
	for (unsigned tcp = 0; tcp < 2; tcp++) {
		unsigned at = 34 + (tcp ? 16 : 6);

		set(b, RXCSUM, 0x300 | 14);
		frame4(frame, sizeof(frame), tcp, true);
		be16_store(frame + 24,
		    (uint16_t)(65535 - remainder_of(frame + 14, 20, 0)));
		be16_store(frame + at, 0);
		be16_store(frame + at,
		    (uint16_t)(65535 -
			remainder_of(frame + 34, 167,
			    pseudo4(frame + 14, frame[23], 167))));
		net_give(net_double, frame, sizeof(frame));
		run(b);
		assert_int_equal(got(b, n).status & 0x64, 0x60);
		assert_int_equal(got(b, n).errors, 0);
		assert_int_equal(got(b, n).sum % 65535,
		    remainder_of(frame + 14, 187, 0));
		n++;
		frame[200] ^= 1;
		net_give(net_double, frame, sizeof(frame));
		run(b);
		assert_int_equal(got(b, n++).errors, 0x20);
		frame[200] ^= 1;
		frame[22] ^= 1;
		net_give(net_double, frame, sizeof(frame));
		run(b);
		assert_int_equal(got(b, n++).errors, 0x40);
		frame[22] ^= 1;
		set(b, RXCSUM, 0x100 | 255);
		net_give(net_double, frame, sizeof(frame));
		run(b);
		assert_int_equal(got(b, n).status & 0x64, 0x40);
		assert_int_equal(got(b, n++).sum, 0);
		set(b, RXCSUM, 0);
		net_give(net_double, frame, sizeof(frame));
		run(b);
		assert_int_equal(got(b, n++).status & 0x64, 4);
	}
	/* What claims more than it has is not judged; nor is a fragment. */
	set(b, RXCSUM, 0x300);
	frame4(frame, sizeof(frame), true, true);
	be16_store(frame + 16, 188);
	net_give(net_double, frame, sizeof(frame));
	be16_store(frame + 16, 19);
	net_give(net_double, frame, sizeof(frame));
	be16_store(frame + 16, 187);
	frame[14] = 0x44;
	net_give(net_double, frame, sizeof(frame));
	frame[14] = 0x4f;
	be16_store(frame + 16, 59);
	net_give(net_double, frame, sizeof(frame));
	frame[14] = 0x45;
	be16_store(frame + 20, 0x2000);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(got(b, n++).status & 0x64, 4);
	assert_int_equal(got(b, n++).status & 0x64, 0x40);
}

static void
frames_wait_for_buffers(void **state)
{
	struct bench *b = *state;
	uint8_t frame[600];

	pattern(frame, sizeof(frame));
	memcpy(frame, mac, 6);
	ready_rx(b, RX_SECRC | 3u << 16);
	set(b, RDT, 2);
	run(b);
	for (unsigned i = 0; i < 5; i++)
		net_give(net_double, frame, sizeof(frame));
	run(b);
	/* It needs three, there are two: nothing of it is written. */
	assert_int_equal(get(b, RDH), 0);
	assert_int_equal(got(b, 0).status, 0);
	assert_int_equal(net_double->end - net_double->first, 4);
	assert_int_equal(get(b, ICR), RXO);
	assert_int_equal(get(b, RNBC), 1);
	run(b);
	assert_int_equal(get(b, ICR), 0);
	set(b, RDT, 7);
	run(b);
	assert_int_equal(get(b, RDH), 6);
	assert_int_equal(net_double->end - net_double->first, 2);
	assert_int_equal(get(b, ICR), RXO | RXT0);
	set(b, RDT, 40);
	run(b);
	assert_int_equal(get(b, RDH), 15);
	/* While the receiver is off they stay. */
	set(b, RCTL, 0);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(net_double->end - net_double->first, 1);
	set(b, RCTL, RX_EN);
	run(b);
	assert_int_equal(net_double->end - net_double->first, 0);
}

static void
frames_beyond_the_ring_are_dropped(void **state)
{
	struct bench *b = *state;
	uint8_t frame[2000] = { 0 };

	memcpy(frame, mac, 6);
	ready_rx(b, RX_SECRC | RX_LPE | 3u << 16);
	set(b, RDT, 0);
	set(b, RDLEN, 128);
	set(b, RDT, 7);
	net_give(net_double, frame, 1793); /* 8 of 7 */
	net_give(net_double, frame, 1792);
	run(b);
	assert_int_equal(get(b, RDH), 7);
	assert_int_equal(got(b, 6).status & 3, 3);
	assert_int_equal(get(b, MPC), 1);
	assert_int_equal(get(b, ICR) & RXO, 0);
}

static void
receive_interrupts(void **state)
{
	struct bench *b = *state;
	uint8_t frame[60] = { 0 };

	memcpy(frame, mac, 6);
	ready_rx(b, 0);
	/* Half of 64 are free after 31 of 63. */
	for (unsigned i = 0; i < 30; i++)
		net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, ICR), RXT0);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, ICR), RXT0 | RXDMT0);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, ICR), RXT0);
	/* Held back, but no longer than RADV. */
	set(b, RDTR, 100);
	set(b, RADV, 150);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	assert_int_equal(get(b, ICR), 0);
	bench_advance(b, 100 * 1024 - 1);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	bench_advance(b, 50 * 1024);
	assert_int_equal(get(b, ICR), 0);
	bench_round_trip(b);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	bench_advance(b, 100 * 1024);
	assert_int_equal(get(b, ICR), RXT0);
	net_give(net_double, frame, sizeof(frame));
	run(b);
	set(b, RDTR, 0x80000064);
	bench_advance(b, 1);
	assert_int_equal(get(b, ICR), RXT0);
}

static void
receiving_is_bounded(void **state)
{
	struct bench *b = *state;
	uint8_t frame[60] = { 0 };

	ready_rx(b, 0);
	run(b);
	for (unsigned i = 0; i < 1000; i++)
		net_give(net_double, frame, sizeof(frame));
	loop_run_once(b->loop, 0);
	assert_int_equal(net_double->end - net_double->first, 1000 - 64);
	for (unsigned i = 0; i < 8; i++)
		run(b);
	assert_int_equal(net_double->end - net_double->first, 0);
	assert_int_equal(get(b, RDH), 0);
}

/* ---- life ---------------------------------------------------------------- */

static void
soft_reset(void **state)
{
	struct bench *b = *state;

	ready_rx(b, RX_UPE);
	set(b, IMS, 0xffffffff);
	set(b, ICS, RXT0);
	set(b, RAL, 0);
	(void)mdic(b, 1, 1, 4, 0x1111);
	assert_true(pin(b));
	set(b, CTRL, RST | SLU);
	assert_false(pin(b));
	assert_int_equal(get(b, CTRL), 0x201);
	assert_int_equal(get(b, RCTL), 0);
	assert_int_equal(get(b, IMS), 0);
	assert_int_equal(get(b, RAL), 0x1298a000);
	assert_int_equal(get(b, STATUS), 0x281);
	assert_int_equal(phy(b, 4), 0x1111);
	assert_int_equal(bench_read(b, CFG(4), 2), 7);
	bench_round_trip(b);
}

static void
nothing_moves_while_paused(void **state)
{
	struct bench *b = *state;
	const struct device_model *model = device_model(b->dev);
	uint8_t frame[60] = { 0 };

	ready_rx(b, 0);
	run(b);
	memcpy(frame, mac, 6);
	net_double->room = 0;
	desc(b, RING, 0, 0, DEXT, 0);
	desc(b, RING, 1, DATA_AT, EOP | 60, 0);
	set(b, TDT, 2);
	assert_int_equal(get(b, TDH), 1);
	lock_take(device_lock(b->dev));
	model->pause(device_self(b->dev));
	lock_drop(device_lock(b->dev));
	assert_true(net_double->paused);
	net_double->room = 10;
	net_give(net_double, frame, sizeof(frame));
	net_double->ops->writable(net_double->arg, 0);
	run(b);
	assert_int_equal(get(b, RDH), 0);
	assert_int_equal(get(b, TDH), 1);
	bench_round_trip(b);
	lock_take(device_lock(b->dev));
	model->resume(device_self(b->dev));
	lock_drop(device_lock(b->dev));
	run(b);
	assert_int_equal(get(b, RDH), 1);
	assert_int_equal(get(b, TDH), 2);
}

static size_t
fields_of(struct buf *saved)
{
	struct reader in = reader_make(saved->data, saved->len);
	size_t model = le16_load(saved->data);
	size_t name = le16_load(saved->data + 2 + model);

	assert_true(reader_left(&in) > 10 + model + name);
	return 2 + model + 2 + name + 2 + 4;
}

static void
forged_states_are_refused(void **state)
{
	struct bench *b = *state;
	struct buf saved = { 0 };
	uint8_t *fields, *regs;
	size_t at, len;
	static const struct {
		size_t off; /* behind config space */
		uint8_t value;
	} forged[] = {
		{ 0, 0x02 },          /* CTRL: reserved */
		{ 4 + 1, 0xff },      /* STATUS */
		{ 8 + 1, 0x00 },      /* EECD: no EEPROM */
		{ 11 * 4 + 3, 0xff }, /* ICR */
	};

	ready(b);
	bench_save(b, &saved);
	at = fields_of(&saved);
	fields = saved.data + at;
	len = saved.len - at;
	assert_int_equal(bench_load(b, fields, len), 0);
	assert_int_equal(bench_load(b, fields, len - 1), -EINVAL);
	regs = fields + 256;
	for (size_t i = 0; i < ARRAY_SIZE(forged); i++) {
		uint8_t old = regs[forged[i].off];

		regs[forged[i].off] = forged[i].value;
		assert_int_equal(bench_load(b, fields, len), -EINVAL);
		regs[forged[i].off] = old;
	}
	/* Any byte may be anything: refused, or taken and harmless. */
	for (size_t i = 0; i < len; i++) {
		uint8_t old = fields[i];

		fields[i] ^= 0xff;
		if (bench_load(b, fields, len) == 0) {
			(void)get(b, ICR);
			run(b);
		}
		fields[i] = old;
	}
	assert_int_equal(bench_load(b, fields, len), 0);
	buf_fini(&saved);
}

static void
mtu_and_queues_are_no_options(void **state)
{
	static const char *const keys[] = { "mtu", "queues" };
	struct bench *b = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		char *path = xasprintf("pci.0.%u.0", 6 + i);
		char *option = xasprintf("%s.%s=2", path, keys[i]);
		struct config *node;
		struct device *dev;
		struct err err;

		assert_int_equal(config_set_option(b->config, option, &err), 0);
		node = config_find(b->config, path);
		assert_int_equal(device_new(b->vm, "e1000", path, node, &dev,
				     &err),
		    -EINVAL);
		assert_non_null(strstr(err.msg, keys[i]));
		free(option);
		free(path);
	}
}

static void *
restless(void *arg)
{
	for (unsigned i = 0; i < 2000; i++) {
		net_double->ops->readable(net_double->arg, 0);
		net_double->ops->link(net_double->arg, i % 2 != 0);
		net_double->ops->writable(net_double->arg, 0);
	}
	return NULL;
}

static void
callbacks_come_from_any_thread(void **state)
{
	struct bench *b = *state;
	pthread_t thread;

	ready_rx(b, 0);
	assert_int_equal(pthread_create(&thread, NULL, restless, NULL), 0);
	for (unsigned i = 0; i < 500; i++) {
		desc(b, RING, i % SIZE, DATA_AT, EOP | 60, 0);
		set(b, TDT, (i + 1) % SIZE);
		(void)phy(b, 1);
		run(b);
	}
	pthread_join(thread, NULL);
	run(b);
	assert_int_equal(net_double->sent_count, 500);
	assert_int_equal(get(b, STATUS) & LU, LU);
}

static void
hammered(void **state)
{
	struct bench *b = *state;
	uint64_t random = 88172645463325252ULL;
	uint8_t junk[4096];

	ready_rx(b, RX_UPE | RX_MPE);
	for (unsigned round = 0; round < 20; round++) {
		struct bench_range ranges[] = {
			{ BUS_MMIO, bar(b, 0), 0x6000 },
			{ BUS_MMIO, bar(b, 0) + 0x3800, 0x40 },
			{ BUS_MMIO, bar(b, 0), 0x20000 },
			{ BUS_MMIO, bar(b, 1), 0x10000 },
			{ BUS_PORT, bench_read(b, CFG(0x18), 4) & 0xfff8, 8 },
		};

		for (size_t i = 0; i < sizeof(junk); i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			junk[i] = (uint8_t)random;
		}
		poke(b, RING, junk, sizeof(junk));
		poke(b, RX_RING, junk, sizeof(junk));
		bench_hammer(b, ranges, ARRAY_SIZE(ranges), 600, round);
		(void)net_give(net_double, junk, 60 + random % 4000);
		ready(b);
		set(b, TDH, 0);
		set(b, TDT, (uint32_t)random % SIZE);
		set(b, RDT, (uint32_t)(random >> 8) % SIZE);
		run(b);
		bench_round_trip(b);
		net_forget_sent(net_double);
	}
}

BENCH_MAIN_OPTIONS("e1000", options, BENCH_TEST(after_power_on),
    BENCH_TEST(reserved_bits_stay), BENCH_TEST(words_are_the_width),
    BENCH_TEST(ports_reach_registers), BENCH_TEST(eeprom_reads_both_ways),
    BENCH_TEST(eeprom_goes_on_and_ignores_writes),
    BENCH_TEST(phy_has_negotiated), BENCH_TEST(link_follows_the_back_end),
    BENCH_TEST(causes_masks_and_pin), BENCH_TEST(itr_keeps_interrupts_apart),
    BENCH_TEST(legacy_frames), BENCH_TEST(legacy_checksum),
    BENCH_TEST(checksums_by_context), BENCH_TEST(segments_of_ipv4),
    BENCH_TEST(segments_of_ipv6_with_tags), BENCH_TEST(segments_of_udp),
    BENCH_TEST(tags_put_in), BENCH_TEST(write_back_is_held),
    BENCH_TEST(work_is_bounded_and_goes_on),
    BENCH_TEST(full_back_end_is_waited_for), BENCH_TEST(contexts_that_lie),
    BENCH_TEST(packets_without_end), BENCH_TEST(data_too_long_or_nowhere),
    BENCH_TEST(rings_that_are_none), BENCH_TEST(no_dma_without_mastering),
    BENCH_TEST(loopback_goes_nowhere), BENCH_TEST(frames_come_in),
    BENCH_TEST(filters), BENCH_TEST(tags_taken_off),
    BENCH_TEST(buffers_of_all_sizes), BENCH_TEST(long_frames_are_dropped),
    BENCH_TEST(checksums_are_judged), BENCH_TEST(frames_wait_for_buffers),
    BENCH_TEST(frames_beyond_the_ring_are_dropped),
    BENCH_TEST(receive_interrupts), BENCH_TEST(receiving_is_bounded),
    BENCH_TEST(soft_reset), BENCH_TEST(nothing_moves_while_paused),
    BENCH_TEST(forged_states_are_refused),
    BENCH_TEST(mtu_and_queues_are_no_options),
    BENCH_TEST(callbacks_come_from_any_thread), BENCH_TEST(hammered))
