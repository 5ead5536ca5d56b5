/*
 * Inside the 9P server: messages, fids, the tree.
 *
 * Locking      `lock` guards the table of fids, their counts and the session;
 *              it is a leaf and never held across a system call that may wait.
 *              A fid's own lock keeps the two steps of reading a directory,
 *              and the bytes of an extended attribute, together.  Nothing else
 *              of a fid changes once it is in the table: messages that make
 *              something else of a fid put another in its place.
 */
#ifndef P9_IMPL_H
#define P9_IMPL_H

#include <limits.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/lock.h"
#include "p9/p9.h"

#define P9_HEADER 7 /* size[4] type[1] tag[2] */
#define P9_ERROR 11 /* a header, ecode[4] */
#define P9_QID 13   /* type[1] version[4] path[8] */
#define P9_NAMES 16 /* of one Twalk */
#define P9_BUCKETS 1024
#define P9_IOV_MAX 256

/* The longest message but Twrite: Tsymlink and Twalk stay below. */
#define P9_MESSAGE_MAX 8192
/* The longest reply but for what Rread and Rreaddir carry: Rreadlink. */
#define P9_REPLY_MAX (P9_HEADER + 2 + PATH_MAX)

enum p9_type {
	P9_RLERROR = 7,
	P9_TSTATFS = 8,
	P9_TLOPEN = 12,
	P9_TLCREATE = 14,
	P9_TSYMLINK = 16,
	P9_TMKNOD = 18,
	P9_TRENAME = 20,
	P9_TREADLINK = 22,
	P9_TGETATTR = 24,
	P9_TSETATTR = 26,
	P9_TXATTRWALK = 30,
	P9_TXATTRCREATE = 32,
	P9_TREADDIR = 40,
	P9_TFSYNC = 50,
	P9_TLOCK = 52,
	P9_TGETLOCK = 54,
	P9_TLINK = 70,
	P9_TMKDIR = 72,
	P9_TRENAMEAT = 74,
	P9_TUNLINKAT = 76,
	P9_TVERSION = 100,
	P9_TAUTH = 102,
	P9_TATTACH = 104,
	P9_TFLUSH = 108,
	P9_TWALK = 110,
	P9_TREAD = 116,
	P9_TWRITE = 118,
	P9_TCLUNK = 120,
	P9_TREMOVE = 122,
};

/* What a fid of xattrwalk or xattrcreate holds. */
struct p9_xattr {
	bool writing;
	char name[NAME_MAX + 1];
	int flags;     /* XATTR_CREATE, XATTR_REPLACE */
	uint32_t size; /* of value */
	uint32_t done; /* bytes written so far; guarded by the fid's lock */
	uint8_t value[];
};

struct p9_fid {
	/* guarded by the server's lock */
	uint32_t number;
	unsigned refs; /* the table's and those of calls under way */
	struct p9_fid *next;

	/* constant once in the table */
	int path;    /* O_PATH; -1 with an xattr */
	mode_t type; /* S_IFMT of it */
	dev_t dev;
	ino_t ino;
	struct p9_xattr *xattr; /* owned */

	_Atomic int file; /* -1, then once and for good a descriptor */
	struct lock lock;
};

struct p9 {
	/* constant */
	bool writable;
	uint32_t msize_max;
	unsigned descriptors_max;
	int root; /* O_PATH */
	dev_t root_dev;
	ino_t root_ino;
	int proc; /* /proc/self/fd, O_PATH */

	/* Counts, relaxed: nothing else is told from them. */
	_Atomic unsigned descriptors;
	_Atomic uint32_t xattr_bytes;

	struct lock lock;
	uint32_t session; /* a call that began in another leaves no fid */
	uint32_t msize;   /* 0: none agreed on */
	unsigned fids;
	struct p9_fid *table[P9_BUCKETS];
};

/* One message on its way. */
struct p9_call {
	struct p9 *server;
	uint32_t session;
	uint32_t msize;
	struct reader in; /* our copy, behind the header */
	int error;        /* the first that a field was wrong by */

	const struct iovec *data; /* Twrite: the message as the caller has it */
	unsigned data_count;

	const struct iovec *out;
	unsigned out_count;
	size_t room;   /* in out, at most msize */
	size_t direct; /* bytes put there already, behind those of `reply` */
	size_t len;    /* of reply */
	uint8_t reply[P9_REPLY_MAX];
};

/* p9_wire.c: fields of messages */
uint64_t p9_int(struct p9_call *call, unsigned size);
/* A name for one component to be made or changed. */
void p9_name(struct p9_call *call, char name[NAME_MAX + 1]);
/* The same, but "." and ".." are good. */
void p9_step_name(struct p9_call *call, char name[NAME_MAX + 1]);
void p9_text(struct p9_call *call, char *text, size_t size);
/* A string of no importance; its bytes are part of the message. */
const void *p9_bytes(struct p9_call *call, uint16_t *len);
/* Was it all good, with nothing behind it? */
int p9_parsed(const struct p9_call *call);
void p9_put(struct p9_call *call, uint64_t value, unsigned size);
void p9_put_bytes(struct p9_call *call, const void *bytes, uint16_t len);
void p9_put_qid(struct p9_call *call, const struct stat *st);
/* A qid of what is only known by its device, inode and type. */
void p9_qid_store(const struct p9 *server, uint8_t qid[P9_QID], dev_t dev,
    ino_t ino, mode_t type, uint32_t version);
size_t p9_iov_size(const struct iovec *iov, unsigned count);
/* Copy [off, off + len), as far as there is so much: the bytes copied. */
size_t p9_iov_read(const struct iovec *iov, unsigned count, size_t off,
    void *bytes, size_t len);
size_t p9_iov_write(const struct iovec *iov, unsigned count, size_t off,
    const void *bytes, size_t len);
/* The same bytes as buffers of their own: how many. */
unsigned p9_iov_slice(const struct iovec *iov, unsigned count, size_t off,
    size_t len, struct iovec slice[P9_IOV_MAX]);

/* p9_tree.c: all return a descriptor or 0, or a negative errno */
bool p9_is_root(const struct p9 *server, dev_t dev, ino_t ino);
int p9_tree_step(int dir, const char *name, uint64_t flags, mode_t mode);
int p9_tree_up(const struct p9 *server, int dir);
/* Open a regular file or directory; -ELOOP, -ENXIO for others. */
int p9_tree_open(const struct p9 *server, int path, mode_t type, int flags);
/* Another O_PATH descriptor of what fd is. */
int p9_tree_path(const struct p9 *server, int fd);
int p9_tree_chmod(const struct p9 *server, int path, mode_t mode);
int p9_tree_link(const struct p9 *server, int path, int dir, const char *name);
/* The directory that has it, and its name there. */
int p9_tree_parent(const struct p9 *server, int path, char name[NAME_MAX + 1]);

/* p9_fid.c */
/* Takes `path` over, whatever happens; -1: of an xattr. */
int p9_fid_new(struct p9 *server, int path, struct p9_fid **fid);
/* Takes `file` over, whatever happens.  -EBUSY: has one. */
int p9_fid_set_file(struct p9 *server, struct p9_fid *fid, int file);
/* Takes the reference over, whatever happens. */
int p9_fid_insert(struct p9_call *call, uint32_t number, struct p9_fid *fid);
int p9_fid_replace(struct p9_call *call, uint32_t number, struct p9_fid *old,
    struct p9_fid *fid);
/* Out of the table: the caller's now, or NULL. */
struct p9_fid *p9_fid_remove(struct p9_call *call, uint32_t number);
/* Any fid; to be given back. */
int p9_fid_get(struct p9_call *call, uint32_t number, struct p9_fid **fid);
/* The same, but not one of an xattr. */
int p9_fid_get_path(struct p9_call *call, uint32_t number, struct p9_fid **fid);
void p9_fid_put(struct p9 *server, struct p9_fid *fid);
/* Forget them all and begin another session; msize 0: that is still to come. */
void p9_fid_forget(struct p9 *server, uint32_t msize, uint32_t *session);
int p9_fid_file(const struct p9_fid *fid);

/* p9_xattr.c */
int p9_xattrwalk(struct p9_call *call);
int p9_xattrcreate(struct p9_call *call);
int p9_xattr_read(struct p9_call *call, struct p9_fid *fid, uint64_t offset,
    uint32_t count);
int p9_xattr_write(struct p9_call *call, struct p9_fid *fid, uint64_t offset,
    const struct iovec *iov, unsigned count);
/* The fid is clunked: set what was written. */
int p9_xattr_commit(struct p9_fid *fid);

#endif
