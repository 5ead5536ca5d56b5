/*
 * Extended attributes, as 9P2000.L carries them: as the contents of fids.
 *
 * Txattrwalk makes a fid of a value or of the list of names.  Txattrcreate
 * turns a fid into a value to be; Twrite fills it, in order, and Tclunk sets it.
 * Size 0 with XATTR_REPLACE is how Linux removes one.
 *
 * A client has the attributes of users and the access control lists.  Those
 * that give power on the host (security.*, trusted.*) are not there for it,
 * and neither are any on what cannot be opened: links and special files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "p9/p9_impl.h"

static bool
is_shared(const char *name)
{
	return strncmp(name, "user.", 5) == 0 ||
	    strcmp(name, "system.posix_acl_access") == 0 ||
	    strcmp(name, "system.posix_acl_default") == 0;
}

/* A descriptor that attributes can be asked from. */
static int
open_target(const struct p9_call *call, const struct p9_fid *fid)
{
	if (!S_ISREG(fid->type) && !S_ISDIR(fid->type))
		return -EOPNOTSUPP;
	return p9_tree_open(call->server, fid->path, fid->type, O_RDONLY);
}

/* A fid of an attribute with room for size bytes. */
static int
xattr_new(struct p9_call *call, size_t size, struct p9_fid **made)
{
	struct p9 *server = call->server;
	struct p9_fid *fid;
	struct p9_xattr *xattr;
	int r;

	assert(size <= P9_XATTR_MAX);
	if (atomic_fetch_add_explicit(&server->xattr_bytes, size,
		memory_order_relaxed) > P9_XATTR_TOTAL - size)
		goto full;
	xattr = calloc(1, sizeof(*xattr) + size);
	if (xattr == NULL)
		goto full;
	r = p9_fid_new(server, -1, &fid);
	if (r < 0) {
		free(xattr);
		atomic_fetch_sub_explicit(&server->xattr_bytes, size,
		    memory_order_relaxed);
		return r;
	}
	xattr->size = size;
	fid->xattr = xattr;
	*made = fid;
	return 0;
full:
	atomic_fetch_sub_explicit(&server->xattr_bytes, size,
	    memory_order_relaxed);
	return -ENOMEM;
}

/* Keep the names that the client may know, each with its NUL. */
static size_t
filter_names(char *names, size_t len)
{
	size_t kept = 0, size;

	for (size_t at = 0; at < len; at += size) {
		size = strnlen(names + at, len - at);
		if (size == len - at)
			break; /* no NUL: not a list */
		size++;
		if (is_shared(names + at)) {
			memmove(names + kept, names + at, size);
			kept += size;
		}
	}
	return kept;
}

/* The value, or the list of names if name is "": its size or an errno. */
static ssize_t
fetch(int file, const char *name, void *value)
{
	ssize_t len;

	if (name[0] != '\0') {
		if (!is_shared(name))
			return -EOPNOTSUPP;
		len = fgetxattr(file, name, value, P9_XATTR_MAX);
	} else {
		len = flistxattr(file, value, P9_XATTR_MAX);
		if (len >= 0)
			len = filter_names(value, len);
	}
	return len < 0 ? -errno : len;
}

static int
walk_to(struct p9_call *call, const struct p9_fid *fid, const char *name,
    uint32_t newfid)
{
	struct p9_fid *made;
	uint8_t *value;
	ssize_t len;
	int file, r;

	file = open_target(call, fid);
	if (file < 0)
		return file;
	value = malloc(P9_XATTR_MAX);
	len = value == NULL ? -ENOMEM : fetch(file, name, value);
	(void)close(file);
	r = len < 0 ? (int)len : xattr_new(call, len, &made);
	if (r == 0) {
		memcpy(made->xattr->value, value, len);
		r = p9_fid_insert(call, newfid, made);
	}
	free(value);
	if (r == 0)
		p9_put(call, len, 8);
	return r;
}

int
p9_xattrwalk(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), newfid = p9_int(call, 4);
	char name[NAME_MAX + 1];
	struct p9_fid *fid;
	int r;

	p9_text(call, name, sizeof(name));
	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	r = walk_to(call, fid, name, newfid);
	p9_fid_put(call->server, fid);
	return r;
}

static int
create(struct p9_call *call, uint32_t number, struct p9_fid *fid,
    const char *name, uint64_t size, uint32_t flags)
{
	struct p9_fid *made;
	int file, r;

	if (!is_shared(name))
		return -EOPNOTSUPP;
	if (size > P9_XATTR_MAX)
		return -E2BIG;
	if (flags != 0 && flags != XATTR_CREATE && flags != XATTR_REPLACE)
		return -EINVAL;
	file = open_target(call, fid);
	if (file < 0)
		return file;
	r = xattr_new(call, size, &made);
	if (r < 0) {
		(void)close(file);
		return r;
	}
	made->xattr->writing = true;
	made->xattr->flags = flags;
	memcpy(made->xattr->name, name, strlen(name) + 1);
	r = p9_fid_set_file(call->server, made, file);
	if (r < 0) {
		p9_fid_put(call->server, made);
		return r;
	}
	return p9_fid_replace(call, number, fid, made);
}

int
p9_xattrcreate(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), flags;
	char name[NAME_MAX + 1];
	struct p9_fid *fid;
	uint64_t size;
	int r;

	p9_text(call, name, sizeof(name));
	size = p9_int(call, 8);
	flags = p9_int(call, 4);
	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	r = create(call, number, fid, name, size, flags);
	p9_fid_put(call->server, fid);
	return r;
}

int
p9_xattr_read(struct p9_call *call, struct p9_fid *fid, uint64_t offset,
    uint32_t count)
{
	const struct p9_xattr *xattr = fid->xattr;
	uint32_t len;

	if (xattr->writing)
		return -EBADF;
	offset = MIN(offset, (uint64_t)xattr->size);
	len = MIN(count, xattr->size - (uint32_t)offset);
	call->direct = p9_iov_write(call->out, call->out_count, P9_HEADER + 4,
	    xattr->value + offset, len);
	return 0;
}

int
p9_xattr_write(struct p9_call *call, struct p9_fid *fid, uint64_t offset,
    const struct iovec *iov, unsigned count)
{
	struct p9_xattr *xattr = fid->xattr;
	size_t len = p9_iov_size(iov, count);
	int r = len;

	if (!xattr->writing)
		return -EBADF;
	lock_take(&fid->lock);
	if (offset != xattr->done)
		r = -EINVAL;
	else if (len > xattr->size - xattr->done)
		r = -ENOSPC;
	else
		xattr->done +=
		    p9_iov_read(iov, count, 0, xattr->value + xattr->done, len);
	lock_drop(&fid->lock);
	return r;
}

int
p9_xattr_commit(struct p9_fid *fid)
{
	const struct p9_xattr *xattr = fid->xattr;
	int file = p9_fid_file(fid), r = -EINVAL;

	lock_take(&fid->lock);
	if (xattr->done == xattr->size) {
		if (xattr->size == 0 && xattr->flags == XATTR_REPLACE)
			r = fremovexattr(file, xattr->name);
		else
			r = fsetxattr(file, xattr->name, xattr->value,
			    xattr->size, xattr->flags);
		if (r < 0)
			r = -errno;
	}
	lock_drop(&fid->lock);
	return r;
}
