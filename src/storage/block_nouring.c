/*
 * In place of block_uring.c where there is no liburing: no ring is ever made.
 */
#include <errno.h>
#include <stdlib.h>

#include "storage/block_impl.h"

int
ring_new(struct raw *raw, struct ring **ring)
{
	return -ENOTSUP;
}

void
ring_free(struct ring *ring)
{
	assert(ring == NULL);
}

void
ring_submit(struct ring *ring, struct block_req *req)
{
	abort();
}

void
ring_plug(struct ring *ring)
{
	abort();
}

void
ring_unplug(struct ring *ring)
{
	abort();
}
