/*
 * slirp, where Apiary was built without libslirp: says so.
 */
#include <errno.h>

#include "net/net_impl.h"

static int
slirp_open(struct net *net, const char *name, struct err *err)
{
	return err_set(err, -ENOTSUP,
	    "slirp: this bhyve was built without libslirp; passt does the "
	    "same in a process of its own");
}

const struct net_family net_slirp = {
	.name = "slirp",
	.open = slirp_open,
};
