/*
 * Fids: the numbers by which a client holds files.
 *
 * A fid lives as long as the table or a call refers to it, so a clunk while
 * another thread still reads takes nothing away from that one.  A session ends
 * with Tversion or a reset; calls that are still under way then finish on what
 * they have and leave nothing behind in the next.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "p9/p9_impl.h"

static int
take_descriptor(struct p9 *server)
{
	if (atomic_fetch_add_explicit(&server->descriptors, 1,
		memory_order_relaxed) < server->descriptors_max)
		return 0;
	atomic_fetch_sub_explicit(&server->descriptors, 1,
	    memory_order_relaxed);
	return -ENFILE;
}

static void
close_descriptor(struct p9 *server, int fd)
{
	if (fd < 0)
		return;
	(void)close(fd);
	atomic_fetch_sub_explicit(&server->descriptors, 1,
	    memory_order_relaxed);
}

int
p9_fid_file(const struct p9_fid *fid)
{
	/* Pairs with p9_fid_set_file(). */
	return atomic_load_explicit(&fid->file, memory_order_acquire);
}

static void
fid_free(struct p9 *server, struct p9_fid *fid)
{
	close_descriptor(server, fid->path);
	close_descriptor(server, p9_fid_file(fid));
	if (fid->xattr != NULL)
		atomic_fetch_sub_explicit(&server->xattr_bytes,
		    fid->xattr->size, memory_order_relaxed);
	free(fid->xattr);
	lock_fini(&fid->lock);
	free(fid);
}

int
p9_fid_new(struct p9 *server, int path, struct p9_fid **made)
{
	struct p9_fid *fid = calloc(1, sizeof(*fid));
	struct stat st;
	int r = 0;

	if (fid == NULL)
		r = -ENOMEM;
	else if (path >= 0 && fstat(path, &st) != 0)
		r = -errno;
	else if (path >= 0)
		r = take_descriptor(server);
	if (r < 0) {
		free(fid);
		if (path >= 0)
			(void)close(path);
		return r;
	}
	fid->path = path;
	if (path >= 0) {
		fid->type = st.st_mode & S_IFMT;
		fid->dev = st.st_dev;
		fid->ino = st.st_ino;
	}
	fid->refs = 1;
	atomic_init(&fid->file, -1);
	lock_init(&fid->lock);
	*made = fid;
	return 0;
}

int
p9_fid_set_file(struct p9 *server, struct p9_fid *fid, int file)
{
	int none = -1;
	int r = take_descriptor(server);

	if (r < 0) {
		(void)close(file);
		return r;
	}
	if (atomic_compare_exchange_strong_explicit(&fid->file, &none, file,
		memory_order_release, memory_order_relaxed))
		return 0;
	close_descriptor(server, file);
	return -EBUSY;
}

/* The place that points to a fid, or to NULL at the end of its chain. */
static struct p9_fid **
find_locked(struct p9 *server, uint32_t number)
{
	struct p9_fid **place = &server->table[(number * 0x9e3779b1u) >> 22];

	_Static_assert(P9_BUCKETS == 1u << (32 - 22), "ten bits choose");
	assert(lock_held(&server->lock));
	while (*place != NULL && (*place)->number != number)
		place = &(*place)->next;
	return place;
}

int
p9_fid_insert(struct p9_call *call, uint32_t number, struct p9_fid *fid)
{
	struct p9 *server = call->server;
	struct p9_fid **place;
	int r = 0;

	lock_take(&server->lock);
	place = find_locked(server, number);
	if (call->session != server->session) {
		r = -ECONNRESET;
	} else if (*place != NULL || number == UINT32_MAX) {
		r = -EINVAL;
	} else if (server->fids >= P9_FIDS_MAX) {
		r = -ENFILE;
	} else {
		fid->number = number;
		*place = fid;
		server->fids++;
	}
	lock_drop(&server->lock);
	if (r < 0)
		p9_fid_put(server, fid);
	return r;
}

int
p9_fid_replace(struct p9_call *call, uint32_t number, struct p9_fid *old,
    struct p9_fid *fid)
{
	struct p9 *server = call->server;
	struct p9_fid **place;
	bool same;

	lock_take(&server->lock);
	place = find_locked(server, number);
	same = call->session == server->session && *place == old;
	if (same) {
		fid->number = number;
		fid->next = old->next;
		old->next = NULL;
		*place = fid;
	}
	lock_drop(&server->lock);
	p9_fid_put(server, same ? old : fid);
	return same ? 0 : -EBADF;
}

struct p9_fid *
p9_fid_remove(struct p9_call *call, uint32_t number)
{
	struct p9 *server = call->server;
	struct p9_fid **place, *fid = NULL;

	lock_take(&server->lock);
	place = find_locked(server, number);
	if (*place != NULL && call->session == server->session) {
		fid = *place;
		*place = fid->next;
		fid->next = NULL;
		server->fids--;
	}
	lock_drop(&server->lock);
	return fid;
}

int
p9_fid_get(struct p9_call *call, uint32_t number, struct p9_fid **found)
{
	struct p9 *server = call->server;
	struct p9_fid *fid;

	lock_take(&server->lock);
	fid = call->session == server->session ? *find_locked(server, number) :
						 NULL;
	if (fid != NULL)
		fid->refs++;
	lock_drop(&server->lock);
	if (fid == NULL)
		return -EBADF;
	*found = fid;
	return 0;
}

int
p9_fid_get_path(struct p9_call *call, uint32_t number, struct p9_fid **found)
{
	struct p9_fid *fid;
	int r = p9_fid_get(call, number, &fid);

	if (r < 0)
		return r;
	if (fid->xattr != NULL) {
		p9_fid_put(call->server, fid);
		return -EINVAL;
	}
	*found = fid;
	return 0;
}

void
p9_fid_put(struct p9 *server, struct p9_fid *fid)
{
	bool last;

	lock_take(&server->lock);
	last = --fid->refs == 0;
	lock_drop(&server->lock);
	if (last)
		fid_free(server, fid);
}

void
p9_fid_forget(struct p9 *server, uint32_t msize, uint32_t *session)
{
	struct p9_fid *all = NULL;

	lock_take(&server->lock);
	for (unsigned i = 0; i < P9_BUCKETS; i++) {
		struct p9_fid *fid;

		while ((fid = server->table[i]) != NULL) {
			server->table[i] = fid->next;
			fid->next = all;
			all = fid;
		}
	}
	server->fids = 0;
	server->msize = msize;
	*session = ++server->session;
	lock_drop(&server->lock);
	/* Out of the table, the chain is ours alone. */
	while (all != NULL) {
		struct p9_fid *next = all->next;

		p9_fid_put(server, all);
		all = next;
	}
}
