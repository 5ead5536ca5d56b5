/*
 * A ring is any bytes: the first byte chooses the kind of ring and its
 * features, the second what the device does, the rest is the driver's memory,
 * its rings at the beginning.  Whatever is popped lies in RAM.
 */
#include <stdlib.h>
#include <string.h>

#include "virtio/virtq.h"

#define RAM_SIZE 0x4000u
#define QUEUE_SIZE 8u
#define DRIVER_OFF 0x80u
#define DEVICE_OFF 0xa0u
#define STEPS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
ignore_interrupt(struct virtq *vq)
{
	(void)vq;
}

static void
ignore_broken(struct virtq *vq, const char *why)
{
	if (why[0] == '\0')
		abort();
}

static const struct virtq_ops ops = {
	.interrupt = ignore_interrupt,
	.broken = ignore_broken,
};

static void
check_chain(struct mem *mem, const struct virtq_chain *chain)
{
	unsigned n = chain->readable + chain->writable;

	if (n == 0 || n > QUEUE_SIZE)
		abort();
	for (unsigned i = 0; i < n; i++)
		if (chain->iov[i].iov_len == 0 ||
		    chain->iov[i].iov_base !=
			mem_ptr_write(mem, chain->gpa[i],
			    chain->iov[i].iov_len))
			abort();
}

static void
run(struct mem *mem, struct virtq *vq, uint8_t script)
{
	struct virtq_chain chain;
	uint8_t byte;

	virtq_chain_init(&chain, QUEUE_SIZE);
	for (unsigned i = 0; i < STEPS && virtq_pop(vq, &chain) == 1; i++) {
		check_chain(mem, &chain);
		switch (script >> (i % 4 * 2) & 3) {
		case 0:
			virtq_push(vq, &chain, chain.writable_len);
			break;
		case 1: /* write and see what it does to the ring */
			if (virtq_read(&chain, 0, &byte, 1))
				(void)virtq_write(&chain, 0, &byte, 1);
			virtq_push(vq, &chain, MIN(chain.writable_len, 1u));
			virtq_notify(vq);
			break;
		case 2:
			virtq_unpop(vq, &chain);
			if (!virtq_pending(vq))
				abort();
			(void)virtq_want_notify(vq);
			break;
		default: /* kept for ever */
			virtq_no_notify(vq);
			break;
		}
	}
	virtq_chain_fini(&chain);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mem_params params = { 0 };
	struct virtq_regs regs;
	struct virtq vq;
	struct mem *mem;

	if (size < 2 || size - 2 > RAM_SIZE)
		return 0;
	mem = mem_new(&params);
	if (mem_add_pc_ram(mem, RAM_SIZE, RAM_SIZE, NULL) != 0 ||
	    mem_write(mem, 0, data + 2, size - 2) != 0)
		abort();
	virtq_init(&vq, mem, &regs, QUEUE_SIZE, &ops, NULL, 0);
	lock_take(&vq.lock);
	virtq_reset(&vq);
	regs.driver = DRIVER_OFF;
	regs.device = DEVICE_OFF;
	regs.enabled = 1;
	virtq_start(&vq,
	    (data[0] & 1 ? VIRTIO_F_RING_PACKED : 0) |
		(data[0] & 2 ? VIRTIO_F_INDIRECT_DESC : 0) |
		(data[0] & 4 ? VIRTIO_F_EVENT_IDX : 0) |
		(data[0] & 8 ? VIRTIO_F_NOTIFY_ON_EMPTY : 0));
	run(mem, &vq, data[1]);
	lock_drop(&vq.lock);
	virtq_fini(&vq);
	mem_free(mem);
	return 0;
}
