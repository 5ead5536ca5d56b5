/*
 * A 9P2000.L server: sessions, and what each message does.
 *
 * Models       the protocol as Linux' fs/9p and diod's protocol.md have it,
 *              version 9P2000.L alone.
 * Leaves out   authentication (Tauth is refused); 9P2000's own Topen, Tcreate,
 *              Tstat and Twstat; device nodes (Tmknod refuses to make them).
 *              Locks are granted: a client's kernel keeps its programs apart,
 *              and the host's programs do not take part.
 * Owners       files belong to the user that the process runs as, whatever gid
 *              a message names; Tsetattr may ask for another, and then the host
 *              decides.  Modes are those asked for: the client has its own umask
 *              and ours is made good.
 * Locking      p9_impl.h.
 * Invariants   1. Every descriptor was reached from the root by p9_tree_*.
 *              2. Only regular files and directories are ever opened.
 *              3. A message of `changes` does nothing on a read-only server.
 *              4. Memory and descriptors of a client are bounded (p9.h).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "p9/p9_impl.h"

#define P9_VERSION "9P2000.L"
#define P9_NOFID UINT32_MAX
#define P9_MAGIC 0x01021997 /* V9FS_MAGIC: f_type of statfs(2) */
#define P9_DIRENT 24  /* qid[13] offset[8] type[1] name[s], without name */
#define P9_GETLOCK 23 /* type[1] start[8] length[8] proc[4] client[s], alike */

/* Flags of Tlopen and Tlcreate; the others do not concern a server. */
#define DOTL_ACCESS 03
#define DOTL_EXCL 0200
#define DOTL_TRUNC 01000
#define DOTL_APPEND 02000
#define DOTL_DSYNC 010000
#define DOTL_SYNC 04000000
#define DOTL_DIRECTORY 0200000

/* Tgetattr and Rgetattr: all that we know */
#define GETATTR_BASIC 0x7ff
#define GETATTR_BTIME 0x800

/* Tsetattr */
#define SETATTR_MODE 0x1
#define SETATTR_UID 0x2
#define SETATTR_GID 0x4
#define SETATTR_SIZE 0x8
#define SETATTR_ATIME 0x10
#define SETATTR_MTIME 0x20
#define SETATTR_CTIME 0x40
#define SETATTR_ATIME_SET 0x80
#define SETATTR_MTIME_SET 0x100
#define SETATTR_ALL 0x1ff

#define DOTL_REMOVEDIR 0x200 /* Tunlinkat */

#define LOCK_SUCCESS 0 /* Rlock */
#define LOCK_UNLCK 2   /* Rgetlock: nobody holds it */

static int
need_room(const struct p9_call *call, size_t len)
{
	return len > call->room - P9_HEADER ? -EMSGSIZE : 0;
}

static int
do_version(struct p9_call *call)
{
	uint32_t msize = p9_int(call, 4);
	uint16_t len;
	const char *version = p9_bytes(call, &len);
	bool known;
	int r = p9_parsed(call);

	if (r < 0)
		return r;
	msize = MIN(msize, call->server->msize_max);
	if (msize < P9_MSIZE_MIN)
		return -EMSGSIZE;
	known =
	    len == strlen(P9_VERSION) && memcmp(version, P9_VERSION, len) == 0;
	p9_fid_forget(call->server, known ? msize : 0, &call->session);
	p9_put(call, msize, 4);
	if (known)
		p9_put_bytes(call, P9_VERSION, strlen(P9_VERSION));
	else
		p9_put_bytes(call, "unknown", strlen("unknown"));
	return 0;
}

static int
do_auth(struct p9_call *call)
{
	return -EOPNOTSUPP; /* no authentication required */
}

static int
do_flush(struct p9_call *call)
{
	(void)p9_int(call, 2); /* the other was answered: p9.h */
	return p9_parsed(call);
}

static int
do_attach(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), auth = p9_int(call, 4);
	uint16_t len;
	struct p9_fid *fid;
	struct stat st;
	int root, r;

	(void)p9_bytes(call, &len); /* uname: one user here */
	(void)p9_bytes(call, &len); /* aname: one tree */
	(void)p9_int(call, 4);      /* n_uname */
	if ((r = p9_parsed(call)) < 0)
		return r;
	if (auth != P9_NOFID)
		return -EINVAL;
	root = fcntl(call->server->root, F_DUPFD_CLOEXEC, 0);
	if (root < 0)
		return -errno;
	if (fstat(root, &st) != 0) {
		r = -errno;
		(void)close(root);
		return r;
	}
	if ((r = p9_fid_new(call->server, root, &fid)) < 0 ||
	    (r = p9_fid_insert(call, number, fid)) < 0)
		return r;
	p9_put_qid(call, &st);
	return 0;
}

/* From *at, ours to close, to what it calls `name`. */
static int
step(const struct p9_call *call, int *at, const char *name, struct stat *st)
{
	int next = strcmp(name, "..") == 0 ? p9_tree_up(call->server, *at) :
					     p9_tree_step(*at, name, O_PATH, 0);

	if (next < 0)
		return next;
	(void)close(*at);
	*at = next;
	return fstat(next, st) == 0 ? 0 : -errno;
}

static int
walk(struct p9_call *call, uint32_t number, struct p9_fid *fid, uint32_t newfid,
    char (*names)[NAME_MAX + 1], unsigned count)
{
	struct p9_fid *made;
	struct stat st;
	unsigned walked;
	int at, r = 0;

	if (count == 0 && newfid == number) {
		p9_put(call, 0, 2);
		return 0;
	}
	at = fcntl(fid->path, F_DUPFD_CLOEXEC, 0);
	if (at < 0)
		return -errno;
	p9_put(call, 0, 2); /* the count: below */
	for (walked = 0; walked < count; walked++) {
		if ((r = step(call, &at, names[walked], &st)) < 0)
			break;
		p9_put_qid(call, &st);
	}
	le16_store(call->reply, walked);
	if (walked < count) {
		/* Some of the way: say how far, and leave newfid alone. */
		(void)close(at);
		return walked == 0 ? r : 0;
	}
	if ((r = p9_fid_new(call->server, at, &made)) < 0)
		return r;
	return newfid == number ? p9_fid_replace(call, number, fid, made) :
				  p9_fid_insert(call, newfid, made);
}

static int
do_walk(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), newfid = p9_int(call, 4);
	unsigned count = p9_int(call, 2);
	char names[P9_NAMES][NAME_MAX + 1];
	struct p9_fid *fid;
	int r;

	if (count > P9_NAMES)
		return -EINVAL;
	for (unsigned i = 0; i < count; i++)
		p9_step_name(call, names[i]);
	if ((r = p9_parsed(call)) < 0 ||
	    (r = need_room(call, 2 + count * P9_QID)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	r = walk(call, number, fid, newfid, names, count);
	p9_fid_put(call->server, fid);
	return r;
}

/* What to open a file with.  Access 3 is for ioctl(2) alone: nobody's here. */
static int
open_flags(uint32_t dotl, int *flags)
{
	static const int access[] = { O_RDONLY, O_WRONLY, O_RDWR };

	if ((dotl & DOTL_ACCESS) >= ARRAY_SIZE(access))
		return -EINVAL;
	*flags = access[dotl & DOTL_ACCESS];
	if (dotl & DOTL_TRUNC)
		*flags |= O_TRUNC;
	if (dotl & DOTL_APPEND)
		*flags |= O_APPEND;
	if (dotl & DOTL_DSYNC)
		*flags |= O_DSYNC;
	if (dotl & DOTL_SYNC)
		*flags |= O_SYNC;
	return 0;
}

static int
open_fid(struct p9_call *call, struct p9_fid *fid, uint32_t dotl)
{
	struct stat st;
	int file, flags, r = open_flags(dotl, &flags);

	if (r < 0)
		return r;
	if (!call->server->writable && flags & (O_ACCMODE | O_TRUNC))
		return -EROFS;
	if (dotl & DOTL_DIRECTORY && !S_ISDIR(fid->type))
		return -ENOTDIR;
	if (S_ISDIR(fid->type) && flags & (O_ACCMODE | O_TRUNC))
		return -EISDIR;
	if (p9_fid_file(fid) >= 0)
		return -EBUSY;
	file = p9_tree_open(call->server, fid->path, fid->type, flags);
	if (file < 0)
		return file;
	if (fstat(file, &st) != 0) {
		r = -errno;
		(void)close(file);
		return r;
	}
	if ((r = p9_fid_set_file(call->server, fid, file)) < 0)
		return r;
	p9_put_qid(call, &st);
	p9_put(call, 0, 4); /* iounit: as much as a message holds */
	return 0;
}

static int
do_lopen(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), flags = p9_int(call, 4);
	struct p9_fid *fid;
	int r;

	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	r = open_fid(call, fid, flags);
	p9_fid_put(call->server, fid);
	return r;
}

/* Our umask has taken some of the permissions that were asked for: add them. */
static int
complete_mode(const struct p9 *server, int path, mode_t asked, struct stat *st)
{
	mode_t mode;
	int r;

	if (fstat(path, st) != 0)
		return -errno;
	mode = st->st_mode & 07777;
	if ((asked & 0777 & ~mode) == 0)
		return 0;
	r = p9_tree_chmod(server, path, mode | (asked & 0777));
	if (r == 0 && fstat(path, st) != 0)
		r = -errno;
	return r;
}

/* Open what is there already, unless it is special. */
static int
open_existing(const struct p9 *server, int dir, const char *name, int flags)
{
	struct stat st;
	int file, path = p9_tree_step(dir, name, O_PATH, 0);

	if (path < 0)
		return path;
	if (fstat(path, &st) != 0)
		file = -errno;
	else if (S_ISDIR(st.st_mode))
		file = -EISDIR;
	else
		file = p9_tree_open(server, path, st.st_mode, flags);
	(void)close(path);
	return file;
}

/*
 * Always as O_EXCL does, for without it a FIFO or a device that is there would
 * be opened.
 */
static int
create_file(struct p9_call *call, uint32_t number, struct p9_fid *dir,
    const char *name, uint32_t dotl, mode_t mode)
{
	struct p9 *server = call->server;
	struct p9_fid *made;
	struct stat st;
	int file, path, flags, r = open_flags(dotl, &flags);

	if (r < 0)
		return r;
	file = p9_tree_step(dir->path, name, flags | O_CREAT | O_EXCL, mode);
	if (file >= 0) {
		r = complete_mode(server, file, mode, &st);
	} else if (file == -EEXIST && !(dotl & DOTL_EXCL)) {
		file = open_existing(server, dir->path, name, flags);
		if (file >= 0 && fstat(file, &st) != 0)
			r = -errno;
	}
	if (file < 0)
		return file;
	path = r < 0 ? r : p9_tree_path(server, file);
	if (path < 0) {
		(void)close(file);
		return path;
	}
	if ((r = p9_fid_new(server, path, &made)) < 0) {
		(void)close(file);
		return r;
	}
	if ((r = p9_fid_set_file(server, made, file)) < 0) {
		p9_fid_put(server, made);
		return r;
	}
	if ((r = p9_fid_replace(call, number, dir, made)) < 0)
		return r;
	p9_put_qid(call, &st);
	p9_put(call, 0, 4); /* iounit */
	return 0;
}

static int
do_lcreate(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), flags, mode;
	char name[NAME_MAX + 1];
	struct p9_fid *fid;
	int r;

	p9_name(call, name);
	flags = p9_int(call, 4);
	mode = p9_int(call, 4) & 07777;
	(void)p9_int(call, 4); /* gid */
	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	r = create_file(call, number, fid, name, flags, mode);
	p9_fid_put(call->server, fid);
	return r;
}

static int
read_fid(struct p9_call *call, struct p9_fid *fid, uint64_t offset,
    uint32_t count)
{
	struct iovec slice[P9_IOV_MAX];
	unsigned n;
	ssize_t len;
	int file = p9_fid_file(fid);

	if (fid->xattr != NULL)
		return p9_xattr_read(call, fid, offset, count);
	if (file < 0)
		return -EBADF;
	n = p9_iov_slice(call->out, call->out_count, P9_HEADER + 4, count,
	    slice);
	len = preadv(file, slice, n, offset);
	if (len < 0)
		return -errno;
	call->direct = len;
	return 0;
}

static int
do_read(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	uint64_t offset = p9_int(call, 8);
	uint32_t count = p9_int(call, 4);
	struct p9_fid *fid;
	int r;

	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get(call, number, &fid)) < 0)
		return r;
	count = MIN(count, call->room - P9_HEADER - 4);
	r = read_fid(call, fid, offset, count);
	p9_fid_put(call->server, fid);
	p9_put(call, call->direct, 4);
	return r;
}

static int
write_fid(struct p9_call *call, struct p9_fid *fid, uint64_t offset,
    uint32_t count)
{
	struct iovec slice[P9_IOV_MAX];
	unsigned n = p9_iov_slice(call->data, call->data_count, P9_HEADER + 16,
	    count, slice);
	ssize_t len;
	int file = p9_fid_file(fid);

	if (fid->xattr != NULL)
		return p9_xattr_write(call, fid, offset, slice, n);
	if (file < 0)
		return -EBADF;
	len = pwritev(file, slice, n, offset);
	return len < 0 ? -errno : (int)len;
}

static int
do_write(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	uint64_t offset = p9_int(call, 8);
	uint32_t count = p9_int(call, 4);
	struct p9_fid *fid;
	int r;

	/* The data was not copied: the reader knows of it and has none. */
	if (call->in.bad || count != reader_left(&call->in))
		return -EPROTO;
	if ((r = p9_fid_get(call, number, &fid)) < 0)
		return r;
	r = write_fid(call, fid, offset, count);
	p9_fid_put(call->server, fid);
	if (r < 0)
		return r;
	p9_put(call, r, 4);
	return 0;
}

/* What getdents64(2) gives. */
struct entry {
	uint64_t ino;
	int64_t next; /* offset to go on from */
	uint16_t size;
	uint8_t type;
	char name[];
} __attribute__((packed));

/* Put an entry at `off` of the reply's data: its size, or 0 with no room. */
static size_t
put_entry(struct p9_call *call, const struct p9_fid *dir,
    const struct entry *entry, size_t off, size_t room)
{
	uint8_t wire[P9_DIRENT + NAME_MAX];
	size_t len = strnlen(entry->name, NAME_MAX);
	struct stat st = {
		.st_dev = dir->dev,
		.st_ino = entry->ino,
		.st_mode = DTTOIF(entry->type),
	};

	if (P9_DIRENT + len > room)
		return 0;
	if (strcmp(entry->name, "..") == 0 &&
	    p9_is_root(call->server, dir->dev, dir->ino)) {
		/* What is above the root has no number here. */
		st.st_ino = dir->ino;
	} else if (entry->type == DT_UNKNOWN &&
	    fstatat(dir->path, entry->name, &st,
		AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) {
		st.st_mode = S_IFREG; /* gone meanwhile */
	}
	p9_qid_store(call->server, wire, st.st_dev, st.st_ino, st.st_mode, 0);
	le64_store(wire + 13, entry->next);
	wire[21] = IFTODT(st.st_mode);
	le16_store(wire + 22, len);
	memcpy(wire + P9_DIRENT, entry->name, len);
	return p9_iov_write(call->out, call->out_count, P9_HEADER + 4 + off,
	    wire, P9_DIRENT + len);
}

/* No entry is lost: the client goes on behind the last one that it got. */
static int
read_entries(struct p9_call *call, struct p9_fid *dir, uint64_t offset,
    uint32_t count)
{
	_Alignas(uint64_t) uint8_t entries[32 * KIB];
	/* Few of ours for few of theirs, but room for the longest name. */
	size_t size = MIN(MAX((size_t)count, 1 * KIB), sizeof(entries));
	size_t used = 0, part;
	ssize_t len = -1;
	int file = p9_fid_file(dir);

	lock_take(&dir->lock);
	if (lseek(file, offset, SEEK_SET) >= 0)
		len = getdents64(file, entries, size);
	lock_drop(&dir->lock);
	if (len < 0)
		return -errno;
	for (ssize_t at = 0; at < len; used += part) {
		const struct entry *entry = (const void *)(entries + at);

		part = put_entry(call, dir, entry, used, count - used);
		if (part == 0)
			break;
		at += entry->size;
	}
	if (len > 0 && used == 0)
		return -EINVAL;
	call->direct = used;
	return 0;
}

static int
do_readdir(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	uint64_t offset = p9_int(call, 8);
	uint32_t count = p9_int(call, 4);
	struct p9_fid *fid;
	int r;

	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	count = MIN(count, call->room - P9_HEADER - 4);
	if (!S_ISDIR(fid->type))
		r = -ENOTDIR;
	else if (p9_fid_file(fid) < 0)
		r = -EBADF;
	else
		r = read_entries(call, fid, offset, count);
	p9_fid_put(call->server, fid);
	p9_put(call, call->direct, 4);
	return r;
}

static int
do_clunk(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	struct p9_fid *fid;
	int r = p9_parsed(call);

	if (r < 0)
		return r;
	fid = p9_fid_remove(call, number);
	if (fid == NULL)
		return -EBADF;
	if (fid->xattr != NULL && fid->xattr->writing)
		r = p9_xattr_commit(fid);
	p9_fid_put(call->server, fid);
	return r;
}

static int
remove_fid(struct p9_call *call, const struct p9_fid *fid)
{
	char name[NAME_MAX + 1];
	int dir, r;

	if (!call->server->writable)
		return -EROFS;
	if (fid->xattr != NULL)
		return -EINVAL;
	if (p9_is_root(call->server, fid->dev, fid->ino))
		return -EBUSY;
	dir = p9_tree_parent(call->server, fid->path, name);
	if (dir < 0)
		return dir;
	r = unlinkat(dir, name, S_ISDIR(fid->type) ? AT_REMOVEDIR : 0) == 0 ?
	    0 :
	    -errno;
	(void)close(dir);
	return r;
}

/* Frees the fid whether or not the file could be removed. */
static int
do_remove(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	struct p9_fid *fid;
	int r = p9_parsed(call);

	if (r < 0)
		return r;
	fid = p9_fid_remove(call, number);
	if (fid == NULL)
		return -EBADF;
	r = remove_fid(call, fid);
	p9_fid_put(call->server, fid);
	return r;
}

static int
do_statfs(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	struct p9_fid *fid;
	struct statfs fs;
	int r;

	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	r = fstatfs(fid->path, &fs) == 0 ? 0 : -errno;
	p9_fid_put(call->server, fid);
	if (r < 0)
		return r;
	p9_put(call, P9_MAGIC, 4);
	p9_put(call, fs.f_bsize, 4);
	p9_put(call, fs.f_blocks, 8);
	p9_put(call, fs.f_bfree, 8);
	p9_put(call, fs.f_bavail, 8);
	p9_put(call, fs.f_files, 8);
	p9_put(call, fs.f_ffree, 8);
	p9_put(call, (uint32_t)fs.f_fsid.__val[0], 4);
	p9_put(call, (uint32_t)fs.f_fsid.__val[1], 4);
	p9_put(call, fs.f_namelen, 4);
	return 0;
}

/* Linux' own encoding of a device number in 32 bits. */
static uint32_t
device_number(dev_t dev)
{
	return (minor(dev) & 0xff) | (major(dev) & 0xfff) << 8 |
	    (minor(dev) & 0xfff00) << 12;
}

static void
put_time(struct p9_call *call, int64_t sec, uint32_t nsec)
{
	p9_put(call, sec, 8);
	p9_put(call, nsec, 8);
}

static int
do_getattr(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	struct p9_fid *fid;
	struct statx stx = { 0 };
	struct stat st;
	int r;

	(void)p9_int(call, 8); /* what is asked for: you get all */
	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	if (fstat(fid->path, &st) != 0)
		r = -errno;
	else if (statx(fid->path, "", AT_EMPTY_PATH, STATX_BTIME, &stx) != 0)
		stx.stx_mask = 0;
	p9_fid_put(call->server, fid);
	if (r < 0)
		return r;
	p9_put(call,
	    GETATTR_BASIC | (stx.stx_mask & STATX_BTIME ? GETATTR_BTIME : 0),
	    8);
	p9_put_qid(call, &st);
	p9_put(call, st.st_mode, 4);
	p9_put(call, st.st_uid, 4);
	p9_put(call, st.st_gid, 4);
	p9_put(call, st.st_nlink, 8);
	p9_put(call, device_number(st.st_rdev), 8);
	p9_put(call, st.st_size, 8);
	p9_put(call, st.st_blksize, 8);
	p9_put(call, st.st_blocks, 8);
	put_time(call, st.st_atim.tv_sec, st.st_atim.tv_nsec);
	put_time(call, st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	put_time(call, st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	if (stx.stx_mask & STATX_BTIME)
		put_time(call, stx.stx_btime.tv_sec, stx.stx_btime.tv_nsec);
	else
		put_time(call, 0, 0);
	p9_put(call, 0, 8); /* gen */
	p9_put(call, 0, 8); /* data_version */
	return 0;
}

struct setattr {
	uint32_t valid, mode, uid, gid;
	uint64_t size;
	struct timespec times[2];
};

static int
set_size(struct p9_call *call, struct p9_fid *fid, uint64_t size)
{
	int file = p9_fid_file(fid), r;

	if (!S_ISREG(fid->type))
		return S_ISDIR(fid->type) ? -EISDIR : -EINVAL;
	if (size > INT64_MAX)
		return -EFBIG;
	/* The client opened it once; perhaps it could not any more. */
	if (file >= 0 && ftruncate(file, size) == 0)
		return 0;
	file = p9_tree_open(call->server, fid->path, fid->type, O_WRONLY);
	if (file < 0)
		return file;
	r = ftruncate(file, size) == 0 ? 0 : -errno;
	(void)close(file);
	return r;
}

/* The mode comes behind the owner, whose change takes set-user-ID away. */
static int
set_attributes(struct p9_call *call, struct p9_fid *fid,
    const struct setattr *set)
{
	uid_t uid = set->valid & SETATTR_UID ? set->uid : (uid_t)-1;
	gid_t gid = set->valid & SETATTR_GID ? set->gid : (gid_t)-1;
	int r;

	if (set->valid & SETATTR_SIZE &&
	    (r = set_size(call, fid, set->size)) < 0)
		return r;
	if (set->valid & (SETATTR_UID | SETATTR_GID) &&
	    fchownat(fid->path, "", uid, gid, AT_EMPTY_PATH) != 0)
		return -errno;
	if (set->valid & SETATTR_MODE) {
		if (S_ISLNK(fid->type))
			return -EOPNOTSUPP;
		r = p9_tree_chmod(call->server, fid->path, set->mode & 07777);
		if (r < 0)
			return r;
	}
	if (set->valid & (SETATTR_ATIME | SETATTR_MTIME) &&
	    utimensat(fid->path, "", set->times, AT_EMPTY_PATH) != 0)
		return -errno;
	return 0;
}

static struct timespec
take_time(struct p9_call *call, uint32_t valid, uint32_t change, uint32_t set)
{
	int64_t sec = p9_int(call, 8);
	uint64_t nsec = p9_int(call, 8);

	if (!(valid & change))
		return (struct timespec) { .tv_nsec = UTIME_OMIT };
	if (!(valid & set))
		return (struct timespec) { .tv_nsec = UTIME_NOW };
	/* Not to be taken for one of those two. */
	if (nsec >= NS_PER_SEC && call->error == 0)
		call->error = -EINVAL;
	return (struct timespec) { .tv_sec = sec, .tv_nsec = nsec };
}

static int
do_setattr(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	struct p9_fid *fid;
	struct setattr set;
	int r;

	set.valid = p9_int(call, 4);
	set.mode = p9_int(call, 4);
	set.uid = p9_int(call, 4);
	set.gid = p9_int(call, 4);
	set.size = p9_int(call, 8);
	set.times[0] =
	    take_time(call, set.valid, SETATTR_ATIME, SETATTR_ATIME_SET);
	set.times[1] =
	    take_time(call, set.valid, SETATTR_MTIME, SETATTR_MTIME_SET);
	if ((r = p9_parsed(call)) < 0)
		return r;
	if (set.valid & ~SETATTR_ALL)
		return -EINVAL;
	if ((r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	r = set_attributes(call, fid, &set);
	p9_fid_put(call->server, fid);
	return r;
}

/*
 * The qid of what was just made.  Another of the host's programs may have put
 * something else there meanwhile: then that one's, but we add no permissions
 * to it.
 */
static int
put_made(struct p9_call *call, int dir, const char *name, mode_t mode)
{
	struct stat st;
	int r, path = p9_tree_step(dir, name, O_PATH, 0);

	if (path < 0)
		return path;
	if (fstat(path, &st) != 0)
		r = -errno;
	else if ((st.st_mode ^ mode) & S_IFMT || S_ISLNK(mode))
		r = 0;
	else
		r = complete_mode(call->server, path, mode, &st);
	(void)close(path);
	if (r == 0)
		p9_put_qid(call, &st);
	return r;
}

static int
make_file(struct p9_call *call, int dir, const char *name, mode_t mode)
{
	struct stat st;
	int r,
	    file = p9_tree_step(dir, name, O_WRONLY | O_CREAT | O_EXCL,
		mode & 07777);

	if (file < 0)
		return file;
	r = complete_mode(call->server, file, mode, &st);
	(void)close(file);
	if (r == 0)
		p9_put_qid(call, &st);
	return r;
}

static int
do_symlink(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	char name[NAME_MAX + 1], target[PATH_MAX];
	struct p9_fid *dir;
	int r;

	p9_name(call, name);
	p9_text(call, target, sizeof(target));
	(void)p9_int(call, 4); /* gid */
	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &dir)) < 0)
		return r;
	r = symlinkat(target, dir->path, name) == 0 ?
	    put_made(call, dir->path, name, S_IFLNK) :
	    -errno;
	p9_fid_put(call->server, dir);
	return r;
}

static int
do_mknod(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), mode;
	char name[NAME_MAX + 1];
	struct p9_fid *dir;
	int r;

	p9_name(call, name);
	mode = p9_int(call, 4);
	(void)p9_int(call, 4); /* major */
	(void)p9_int(call, 4); /* minor */
	(void)p9_int(call, 4); /* gid */
	if ((r = p9_parsed(call)) < 0)
		return r;
	mode &= S_IFMT | 07777;
	if (S_ISCHR(mode) || S_ISBLK(mode))
		return -EPERM;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EINVAL;
	if ((r = p9_fid_get_path(call, number, &dir)) < 0)
		return r;
	if (S_ISREG(mode))
		r = make_file(call, dir->path, name, mode);
	else if (mknodat(dir->path, name, mode, 0) == 0)
		r = put_made(call, dir->path, name, mode);
	else
		r = -errno;
	p9_fid_put(call->server, dir);
	return r;
}

static int
do_mkdir(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), mode;
	char name[NAME_MAX + 1];
	struct p9_fid *dir;
	int r;

	p9_name(call, name);
	mode = p9_int(call, 4) & 07777;
	(void)p9_int(call, 4); /* gid */
	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &dir)) < 0)
		return r;
	r = mkdirat(dir->path, name, mode) == 0 ?
	    put_made(call, dir->path, name, S_IFDIR | mode) :
	    -errno;
	p9_fid_put(call->server, dir);
	return r;
}

static int
do_readlink(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	char target[PATH_MAX];
	struct p9_fid *fid;
	ssize_t len = -EINVAL;
	int r;

	if ((r = p9_parsed(call)) < 0 ||
	    (r = p9_fid_get_path(call, number, &fid)) < 0)
		return r;
	if (S_ISLNK(fid->type)) {
		len = readlinkat(fid->path, "", target, sizeof(target));
		if (len < 0)
			len = -errno;
	}
	p9_fid_put(call->server, fid);
	if (len < 0)
		return len;
	if ((size_t)len > call->room - P9_HEADER - 2)
		return -ENAMETOOLONG;
	p9_put_bytes(call, target, len);
	return 0;
}

/* Two fids at once: both or none. */
static int
get_two(struct p9_call *call, uint32_t number, struct p9_fid **fid,
    uint32_t number2, struct p9_fid **fid2)
{
	int r = p9_fid_get_path(call, number, fid);

	if (r < 0)
		return r;
	r = p9_fid_get_path(call, number2, fid2);
	if (r < 0)
		p9_fid_put(call->server, *fid);
	return r;
}

static int
do_link(struct p9_call *call)
{
	uint32_t dir_number = p9_int(call, 4), number = p9_int(call, 4);
	char name[NAME_MAX + 1];
	struct p9_fid *dir, *fid;
	int r;

	p9_name(call, name);
	if ((r = p9_parsed(call)) < 0 ||
	    (r = get_two(call, dir_number, &dir, number, &fid)) < 0)
		return r;
	r = p9_tree_link(call->server, fid->path, dir->path, name);
	p9_fid_put(call->server, fid);
	p9_fid_put(call->server, dir);
	return r;
}

static int
rename_fid(struct p9_call *call, const struct p9_fid *fid,
    const struct p9_fid *to, const char *to_name)
{
	char name[NAME_MAX + 1];
	int from, r;

	if (p9_is_root(call->server, fid->dev, fid->ino))
		return -EBUSY;
	from = p9_tree_parent(call->server, fid->path, name);
	if (from < 0)
		return from;
	r = renameat(from, name, to->path, to_name) == 0 ? 0 : -errno;
	(void)close(from);
	return r;
}

static int
do_rename(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), to_number = p9_int(call, 4);
	char name[NAME_MAX + 1];
	struct p9_fid *fid, *to;
	int r;

	p9_name(call, name);
	if ((r = p9_parsed(call)) < 0 ||
	    (r = get_two(call, number, &fid, to_number, &to)) < 0)
		return r;
	r = rename_fid(call, fid, to, name);
	p9_fid_put(call->server, to);
	p9_fid_put(call->server, fid);
	return r;
}

static int
do_renameat(struct p9_call *call)
{
	uint32_t from_number = p9_int(call, 4), to_number;
	char from_name[NAME_MAX + 1], to_name[NAME_MAX + 1];
	struct p9_fid *from, *to;
	int r;

	p9_name(call, from_name);
	to_number = p9_int(call, 4);
	p9_name(call, to_name);
	if ((r = p9_parsed(call)) < 0 ||
	    (r = get_two(call, from_number, &from, to_number, &to)) < 0)
		return r;
	r = renameat(from->path, from_name, to->path, to_name) == 0 ? 0 :
								      -errno;
	p9_fid_put(call->server, to);
	p9_fid_put(call->server, from);
	return r;
}

static int
do_unlinkat(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), flags;
	char name[NAME_MAX + 1];
	struct p9_fid *dir;
	int r;

	p9_name(call, name);
	flags = p9_int(call, 4);
	if ((r = p9_parsed(call)) < 0)
		return r;
	if (flags & ~DOTL_REMOVEDIR)
		return -EINVAL;
	if ((r = p9_fid_get_path(call, number, &dir)) < 0)
		return r;
	r = unlinkat(dir->path, name, flags ? AT_REMOVEDIR : 0) == 0 ? 0 :
								       -errno;
	p9_fid_put(call->server, dir);
	return r;
}

/* A fid of a file that was opened. */
static int
get_open(struct p9_call *call, uint32_t number, struct p9_fid **fid)
{
	int r = p9_fid_get_path(call, number, fid);

	if (r == 0 && p9_fid_file(*fid) < 0) {
		p9_fid_put(call->server, *fid);
		r = -EBADF;
	}
	return r;
}

static int
do_fsync(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4), only_data = p9_int(call, 4);
	struct p9_fid *fid;
	int file, r;

	if ((r = p9_parsed(call)) < 0 || (r = get_open(call, number, &fid)) < 0)
		return r;
	file = p9_fid_file(fid);
	r = (only_data ? fdatasync(file) : fsync(file)) == 0 ? 0 : -errno;
	p9_fid_put(call->server, fid);
	return r;
}

static int
do_lock(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	uint8_t type = p9_int(call, 1);
	struct p9_fid *fid;
	uint16_t len;
	int r;

	(void)p9_int(call, 4);      /* flags */
	(void)p9_int(call, 8);      /* start */
	(void)p9_int(call, 8);      /* length */
	(void)p9_int(call, 4);      /* proc_id */
	(void)p9_bytes(call, &len); /* client_id */
	if ((r = p9_parsed(call)) < 0)
		return r;
	if (type > LOCK_UNLCK)
		return -EINVAL;
	if ((r = get_open(call, number, &fid)) < 0)
		return r;
	p9_fid_put(call->server, fid);
	p9_put(call, LOCK_SUCCESS, 1);
	return 0;
}

static int
do_getlock(struct p9_call *call)
{
	uint32_t number = p9_int(call, 4);
	uint8_t type = p9_int(call, 1);
	uint64_t start = p9_int(call, 8), length = p9_int(call, 8);
	uint32_t process = p9_int(call, 4);
	struct p9_fid *fid;
	uint16_t len;
	const void *client = p9_bytes(call, &len);
	int r;

	if ((r = p9_parsed(call)) < 0)
		return r;
	if (type > LOCK_UNLCK)
		return -EINVAL;
	if (len > NAME_MAX)
		return -ENAMETOOLONG;
	if ((r = need_room(call, P9_GETLOCK + len)) < 0 ||
	    (r = get_open(call, number, &fid)) < 0)
		return r;
	p9_fid_put(call->server, fid);
	p9_put(call, LOCK_UNLCK, 1);
	p9_put(call, start, 8);
	p9_put(call, length, 8);
	p9_put(call, process, 4);
	p9_put_bytes(call, client, len);
	return 0;
}

/*
 * A reply needs room for `reply` bytes, or nothing is done.  No more than it
 * takes: Linux brings what the reply to just this message can take.  A walk and
 * a lock's holder need more, when it is known how much.
 */
static const struct message {
	int (*handle)(struct p9_call *call);
	uint16_t reply;
	bool changes;
} messages[] = {
	[P9_TSTATFS] = { do_statfs, 60, false },
	[P9_TLOPEN] = { do_lopen, P9_QID + 4, false },
	[P9_TLCREATE] = { do_lcreate, P9_QID + 4, true },
	[P9_TSYMLINK] = { do_symlink, P9_QID, true },
	[P9_TMKNOD] = { do_mknod, P9_QID, true },
	[P9_TRENAME] = { do_rename, 0, true },
	[P9_TREADLINK] = { do_readlink, 2, false },
	[P9_TGETATTR] = { do_getattr, 153, false },
	[P9_TSETATTR] = { do_setattr, 0, true },
	[P9_TXATTRWALK] = { p9_xattrwalk, 8, false },
	[P9_TXATTRCREATE] = { p9_xattrcreate, 0, true },
	[P9_TREADDIR] = { do_readdir, 4, false },
	[P9_TFSYNC] = { do_fsync, 0, false },
	[P9_TLOCK] = { do_lock, 1, false },
	[P9_TGETLOCK] = { do_getlock, P9_GETLOCK, false },
	[P9_TLINK] = { do_link, 0, true },
	[P9_TMKDIR] = { do_mkdir, P9_QID, true },
	[P9_TRENAMEAT] = { do_renameat, 0, true },
	[P9_TUNLINKAT] = { do_unlinkat, 0, true },
	[P9_TVERSION] = { do_version, 4 + 2 + sizeof(P9_VERSION) - 1, false },
	[P9_TAUTH] = { do_auth, 0, false },
	[P9_TATTACH] = { do_attach, P9_QID, false },
	[P9_TFLUSH] = { do_flush, 0, false },
	[P9_TWALK] = { do_walk, 2, false },
	[P9_TREAD] = { do_read, 4, false },
	[P9_TWRITE] = { do_write, 4, true },
	[P9_TCLUNK] = { do_clunk, 0, false },
	[P9_TREMOVE] = { do_remove, 0, false }, /* frees the fid, then looks */
};

/* Fetch the message once, look it up, do it: 0 or what Rlerror says. */
static int
dispatch(struct p9_call *call, const uint8_t header[P9_HEADER],
    const struct iovec *in, unsigned in_count)
{
	uint8_t copy[P9_MESSAGE_MAX];
	uint32_t size = le32_load(header);
	uint8_t type = header[4];
	const struct message *message;
	size_t len;

	if (size < P9_HEADER || size > p9_iov_size(in, in_count))
		return -EPROTO;
	if (size > call->msize)
		return -EMSGSIZE;
	if (type >= ARRAY_SIZE(messages) || messages[type].handle == NULL)
		return -EOPNOTSUPP;
	message = &messages[type];
	if (need_room(call, message->reply) < 0)
		return -EMSGSIZE;
	if (message->changes && !call->server->writable)
		return -EROFS;
	len = size - P9_HEADER;
	if (type == P9_TWRITE) {
		/* Its data goes from the caller's buffers to the file. */
		call->data = in;
		call->data_count = in_count;
		(void)p9_iov_read(in, in_count, P9_HEADER, copy,
		    MIN(len, (size_t)16));
	} else if (len > sizeof(copy)) {
		return -EMSGSIZE;
	} else {
		(void)p9_iov_read(in, in_count, P9_HEADER, copy, len);
	}
	call->in = reader_make(copy, len);
	return message->handle(call);
}

ssize_t
p9_handle(struct p9 *server, const struct iovec *in, unsigned in_count,
    const struct iovec *out, unsigned out_count)
{
	struct p9_call call;
	uint8_t header[P9_HEADER];
	bool agreed;
	int r;

	if (p9_iov_read(in, in_count, 0, header, P9_HEADER) < P9_HEADER)
		return -EPROTO;
	/* All but the bytes of the reply, which are many. */
	memset(&call, 0, offsetof(struct p9_call, reply));
	call.server = server;
	call.out = out;
	call.out_count = out_count;
	call.room = p9_iov_size(out, out_count);
	if (call.room < P9_ERROR)
		return -EMSGSIZE;
	lock_take(&server->lock);
	call.session = server->session;
	call.msize = server->msize;
	lock_drop(&server->lock);
	agreed = call.msize != 0;
	if (!agreed)
		call.msize = P9_MSIZE_MIN;
	call.room = MIN(call.room, (size_t)call.msize);

	if (agreed || header[4] == P9_TVERSION)
		r = dispatch(&call, header, in, in_count);
	else
		r = -EPROTO;
	header[4]++; /* the reply's type */
	if (r < 0) {
		header[4] = P9_RLERROR;
		call.len = 0;
		call.direct = 0;
		p9_put(&call, -r, 4);
	}
	le32_store(header, P9_HEADER + call.len + call.direct);
	(void)p9_iov_write(out, out_count, 0, header, P9_HEADER);
	(void)p9_iov_write(out, out_count, P9_HEADER, call.reply, call.len);
	return P9_HEADER + call.len + call.direct;
}

bool
p9_is_flush(const struct iovec *in, unsigned in_count)
{
	uint8_t type;

	return p9_iov_read(in, in_count, 4, &type, 1) == 1 && type == P9_TFLUSH;
}

/* Half of what the process may have is for others. */
static unsigned
descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return P9_FIDS_MAX;
	return MIN(limit.rlim_cur / 2, (rlim_t)2 * P9_FIDS_MAX);
}

int
p9_open(const char *path, bool writable, uint32_t msize, struct p9 **made,
    struct err *err)
{
	struct p9 *server;
	struct stat st;
	int r, fd;

	if (msize < P9_MSIZE_MIN || msize > P9_MSIZE_MAX)
		return err_set(err, -EINVAL,
		    "%s: messages of %u bytes: must be %u to %u", path, msize,
		    P9_MSIZE_MIN, P9_MSIZE_MAX);
	server = xcalloc(1, sizeof(*server));
	lock_init(&server->lock);
	server->writable = writable;
	server->msize_max = msize;
	server->descriptors_max = descriptor_limit();
	server->proc = -1;
	server->root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (server->root < 0 || fstat(server->root, &st) != 0) {
		r = err_set_errno(err, -errno, "%s", path);
		goto fail;
	}
	server->root_dev = st.st_dev;
	server->root_ino = st.st_ino;
	server->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (server->proc < 0) {
		r = err_set_errno(err, -errno, "/proc/self/fd");
		goto fail;
	}
	/* Better now than at the first walk: openat2() is of Linux 5.6. */
	fd = p9_tree_step(server->root, ".", O_PATH | O_DIRECTORY, 0);
	if (fd < 0) {
		r = err_set_errno(err, fd, "%s: cannot be shared", path);
		goto fail;
	}
	(void)close(fd);
	*made = server;
	return 0;
fail:
	p9_close(server);
	return r;
}

void
p9_reset(struct p9 *server)
{
	uint32_t session;

	p9_fid_forget(server, 0, &session);
}

void
p9_close(struct p9 *server)
{
	if (server == NULL)
		return;
	p9_reset(server);
	if (server->root >= 0)
		(void)close(server->root);
	if (server->proc >= 0)
		(void)close(server->proc);
	lock_fini(&server->lock);
	free(server);
}
