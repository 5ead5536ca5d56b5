/*
 * In place of block_nbd.c where there is no libnbd.
 */
#include <errno.h>

#include "storage/block_impl.h"

int
remote_open(struct block *block, struct config *node, struct err *err)
{
	return block_key_err(node, "path", err, -ENOTSUP,
	    "this program was built without NBD");
}
