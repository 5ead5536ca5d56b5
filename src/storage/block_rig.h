/*
 * For tests: a disk in memory whose requests do as the test says.
 *
 * A device test names block_rig_src of src/storage/meson.build among its sources
 * and gives its device the path "rig:NAME".  Requests of it are done within
 * block_submit(), or by a thread at once, or by that thread when the test lets
 * them go, the youngest first, so that a device that counts on their order is
 * found out.  Who drains the block lets go of all.
 *
 * Fields may be changed at any time on the test's thread while no request is
 * being submitted; what counts may be read when none is in flight.
 */
#ifndef STORAGE_BLOCK_RIG_H
#define STORAGE_BLOCK_RIG_H

#include "storage/block.h"

#define BLOCK_RIG_OPS (BLOCK_WRITE_ZEROES + 1)

enum block_rig_mode { BLOCK_RIG_NOW, BLOCK_RIG_THREAD, BLOCK_RIG_HELD };

struct block_rig {
	char *name;    /* owned */
	uint8_t *data; /* owned: of the size that it was made with */
	uint64_t room;
	/* Before the block is opened. */
	struct block_info info;

	enum block_rig_mode mode;
	int fail[BLOCK_RIG_OPS]; /* the error of requests of this kind, or 0 */

	/* The requests that came, and the last of each kind. */
	unsigned count[BLOCK_RIG_OPS];
	struct block_req last[BLOCK_RIG_OPS];
	unsigned plugs; /* block_plug() without its block_unplug() */

	struct rig_disk *disk; /* while it is open */
	struct block_rig *next;
};

/* Size bytes of zeroes in sectors of 512, that can discard. */
struct block_rig *block_rig_new(const char *name, uint64_t size);
void block_rig_free(struct block_rig *rig); /* after block_close() */

/* How many are held, and: do up to n of them; returns when they are done. */
unsigned block_rig_held(struct block_rig *rig);
void block_rig_release(struct block_rig *rig, unsigned n);

/* On the loop's thread, as it happens to files; at most the first size. */
void block_rig_resize(struct block_rig *rig, uint64_t size);

#endif
