/*
 * A directory of the host as a 9P2000.L file server.
 *
 * A message goes in, its reply comes out; the transport is the caller's.  What
 * a client may ask, and what it gets, is what Linux' v9fs needs with
 * version=9p2000.L; errors are Linux' errno numbers.
 *
 * A client sees the tree below one directory and nothing else of the host:
 * symbolic links are shown and never followed, special files are never opened.
 * What the host has mounted below is shared with the rest.  Files that a client
 * makes belong to the user this process runs as, and all its users act as that
 * one: which of them may do what is the client's affair.  Unless the server was
 * opened writable, all that would change something is EROFS.
 *
 * Any threads may call p9_handle() at once.  A Tflush is answered at once,
 * because no call waits for anything but the file system: a transport with
 * several threads must have given back all that it took before a Tflush
 * (p9_is_flush()) when it hands that in.
 */
#ifndef P9_P9_H
#define P9_P9_H

#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/util.h"

struct p9;

/* Bytes in a message: the least a client may ask for, the most we offer. */
#define P9_MSIZE_MIN 4096
#define P9_MSIZE_MAX (1024 * 1024)

/* What one client may hold at most. */
#define P9_FIDS_MAX 4096
#define P9_XATTR_MAX 65536           /* bytes: a value, or a list of names */
#define P9_XATTR_TOTAL (4096 * 1024) /* bytes: of all of them */

/*
 * Serve the directory `path`; msize is the longest message to agree on.  Never
 * uses more than two descriptors a fid nor, but for some during a call, half of
 * what the process may have when it is opened (RLIMIT_NOFILE).
 */
int p9_open(const char *path, bool writable, uint32_t msize, struct p9 **server,
    struct err *err);

/* No call may be under way. */
void p9_close(struct p9 *server);

/* The client is gone: forget its fids.  The next one begins with Tversion. */
void p9_reset(struct p9 *server);

/*
 * Answer one message.  Bytes behind its end are ignored; the buffers may be
 * changed by others meanwhile.  The length of the reply, at least 7, or
 * -EPROTO (less than a header) or -EMSGSIZE (not even room for an error): then
 * nothing was done and there is no reply.  More than 256 buffers make reads and
 * writes short.
 */
ssize_t p9_handle(struct p9 *server, const struct iovec *in, unsigned in_count,
    const struct iovec *out, unsigned out_count);

/* Is this a Tflush? */
bool p9_is_flush(const struct iovec *in, unsigned in_count);

#endif
