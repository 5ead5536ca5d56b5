/*
 * Saved states are foreign bytes: load what the fuzzer makes of one into a
 * device of a whole board, then let the machine go on with it.
 *
 * The first byte chooses the device, the rest are its fields.
 */
#include "test/bench.h"
#include "vm/bus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As a guest might: every port of the board, now and then a millisecond. */
static void
go_on(struct bench *b)
{
	for (uint32_t port = 0x20; port < 0x500; port++) {
		(void)bench_in8(b, (uint16_t)port);
		if (port % 0x100 == 0)
			bench_advance(b, NS_PER_SEC / 1000);
	}
	for (unsigned i = 0; i < 0x400; i += 4)
		(void)bench_read(b, 0xfed00000 + i, 4);
	/* BARs, and what BARs are made of. */
	for (uint16_t port = 0x2000; port < 0x2020; port += 4)
		bench_out32(b, port, port);
	for (unsigned i = 0; i < 0x4000; i += 0x10) {
		bench_write(b, 0xc0000000 + i, 4, i);
		(void)bench_read(b, 0xe0510000 + i, 4);
	}
	while (bench_intr(b) && b->intr_count++ % 16 != 15)
		(void)bench_intack(b);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bench *b;
	static struct device *devices[64];
	static unsigned count;
	struct device *dev = NULL;

	if (b == NULL) {
		b = bench_new_board();
		while (count < ARRAY_SIZE(devices) &&
		    (dev = device_next(b->vm, dev)) != NULL)
			devices[count++] = dev;
	}
	if (size == 0)
		return 0;
	if (bench_load_device(devices[data[0] % count], data + 1, size - 1) ==
	    0)
		go_on(b);
	return 0;
}
