/*
 * Rings, and what they point to, are any bytes.  The first ones become
 * registers, the rest is the guest's memory from 0 on, with the transmitter's
 * ring at 0 and the receiver's at 0x400; all of it comes in as a frame, too.
 */
#include <string.h>

#include "nic/net_double.h"
#include "test/bench.h"
#include "vm/platform.h"

#define CFG(off) (PLAT_ECAM_BASE + (5 << 15) + (off))
#define RX_RING 0x400u
#define FRAME_MAX 16380u
#define ROOM 1000u /* frames until the back end is full */
#define ROUNDS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Written in this order, with so many bytes of the input. */
static const struct {
	uint16_t off;
	uint8_t bytes;
} registers[] = {
	{ 0x0000, 4 }, /* CTRL */
	{ 0x5000, 2 }, /* RXCSUM */
	{ 0x2820, 1 }, /* RDTR */
	{ 0x3820, 1 }, /* TIDV */
	{ 0x3828, 4 }, /* TXDCTL */
	{ 0x2808, 2 }, /* RDLEN */
	{ 0x3808, 2 }, /* TDLEN */
	{ 0x2810, 1 }, /* RDH */
	{ 0x3810, 1 }, /* TDH */
	{ 0x0100, 4 }, /* RCTL */
	{ 0x0400, 1 }, /* TCTL */
	{ 0x2818, 1 }, /* RDT */
	{ 0x3818, 1 }, /* TDT */
};
#define REGISTER_BYTES 25u

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const options[] = { "bench.node=pci.0.5.0", NULL };
	static struct bench *b;
	const uint8_t *from = data;
	uint64_t base;

	if (size < REGISTER_BYTES)
		return 0;
	data += REGISTER_BYTES;
	size -= REGISTER_BYTES;
	if (b == NULL)
		b = bench_new("e1000", options);
	/* A reset of the card; then it may master the bus, with room ahead. */
	bench_write(b, CFG(4), 2, 7);
	base = bench_read(b, CFG(0x10), 4) & ~15u;
	bench_write(b, base, 4, 0x04000000);
	bench_write(b, base + 0x2800, 4, RX_RING);
	net_double->room = ROOM;
	(void)mem_write(device_mem(b->dev), 0, data, size);
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++) {
		uint32_t value = 0;

		memcpy(&value, from, registers[i].bytes);
		from += registers[i].bytes;
		bench_write(b, base + registers[i].off, 4, value);
	}
	if (size >= NET_ETHER_HDR)
		(void)net_give(net_double, data, MIN(size, FRAME_MAX));
	for (unsigned i = 0; i < ROUNDS; i++) {
		loop_run_once(b->loop, 0);
		bench_advance(b, NS_PER_SEC / 1000);
	}
	net_forget_sent(net_double);
	return 0;
}
