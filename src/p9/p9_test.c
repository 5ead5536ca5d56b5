/*
 * The 9P server, spoken to by a small client over a directory of its own.
 *
 * Beside the shared directory lies a secret; the shared one holds a file, a
 * directory with a file, links inside and outside, a FIFO and a socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/wire.h"
#include "p9/p9_impl.h"

#define MSIZE 65536
#define NOFID UINT32_MAX
#define ROOT 0 /* the fid that every test finds attached */

/* One client: a message under construction, the last reply. */
struct client {
	struct p9 *server;
	uint8_t out[MSIZE + 64];
	size_t len;
	uint8_t in[MSIZE + 64];
	size_t room;
	ssize_t got;
	struct reader reply;
};

struct env {
	struct client client;
	char base[64];
	char share[80];
	int base_fd, share_fd;
};

static void
put(struct client *c, uint64_t value, unsigned size)
{
	le64 wire = le64_make(value);

	memcpy(c->out + c->len, &wire, size);
	c->len += size;
}

static void
put_bytes(struct client *c, const void *bytes, size_t len)
{
	memcpy(c->out + c->len, bytes, len);
	c->len += len;
}

static void
put_str(struct client *c, const char *s)
{
	put(c, strlen(s), 2);
	put_bytes(c, s, strlen(s));
}

static void
begin(struct client *c, unsigned type)
{
	c->len = 0;
	put(c, 0, 4);
	put(c, type, 1);
	put(c, 0x1234, 2);
}

/* What p9_handle() says to the message as it is. */
static ssize_t
send_raw(struct client *c)
{
	struct iovec in = { c->out, c->len }, out = { c->in, c->room };

	c->got = p9_handle(c->server, &in, 1, &out, 1);
	return c->got;
}

/* 0, the reply's fields to be read from c->reply; or a negative errno. */
static int
finish(struct client *c)
{
	le32_store(c->out, c->len);
	assert_true(send_raw(c) >= 7);
	assert_true((size_t)c->got <= c->room);
	assert_int_equal(le32_load(c->in), c->got);
	assert_int_equal(le16_load(c->in + 5), le16_load(c->out + 5));
	c->reply = reader_make(c->in + 7, c->got - 7);
	if (c->in[4] == P9_RLERROR) {
		assert_int_equal(c->got, 11);
		return -(int)reader_int(&c->reply, 4);
	}
	assert_int_equal(c->in[4], c->out[4] + 1);
	return 0;
}

static uint64_t
get(struct client *c, unsigned size)
{
	uint64_t value = reader_int(&c->reply, size);

	assert_false(c->reply.bad);
	return value;
}

static int
version(struct client *c, uint32_t msize, const char *name)
{
	begin(c, P9_TVERSION);
	put(c, msize, 4);
	put_str(c, name);
	return finish(c);
}

static int
attach(struct client *c, uint32_t fid)
{
	begin(c, P9_TATTACH);
	put(c, fid, 4);
	put(c, NOFID, 4);
	put_str(c, "root");
	put_str(c, "");
	put(c, 0, 4);
	return finish(c);
}

/* Names separated by blanks; the number walked, or an errno. */
static int
walk(struct client *c, uint32_t fid, uint32_t newfid, const char *names)
{
	char copy[4096], *save = NULL, *name;
	unsigned count = 0;
	int r;

	begin(c, P9_TWALK);
	put(c, fid, 4);
	put(c, newfid, 4);
	put(c, 0, 2);
	(void)snprintf(copy, sizeof(copy), "%s", names);
	for (name = strtok_r(copy, " ", &save); name != NULL;
	     name = strtok_r(NULL, " ", &save), count++)
		put_str(c, name);
	le16_store(c->out + 15, count);
	r = finish(c);
	return r < 0 ? r : (int)get(c, 2);
}

static void
walked(struct client *c, uint32_t fid, uint32_t newfid, const char *names)
{
	int count = *names != '\0';

	for (const char *at = names; *at != '\0'; at++)
		count += *at == ' ';
	assert_int_equal(walk(c, fid, newfid, names), count);
}

static int
with_fid(struct client *c, unsigned type, uint32_t fid)
{
	begin(c, type);
	put(c, fid, 4);
	return finish(c);
}

static int
clunk(struct client *c, uint32_t fid)
{
	return with_fid(c, P9_TCLUNK, fid);
}

static int
lopen(struct client *c, uint32_t fid, uint32_t flags)
{
	begin(c, P9_TLOPEN);
	put(c, fid, 4);
	put(c, flags, 4);
	return finish(c);
}

static int
lcreate(struct client *c, uint32_t fid, const char *name, uint32_t flags,
    uint32_t mode)
{
	begin(c, P9_TLCREATE);
	put(c, fid, 4);
	put_str(c, name);
	put(c, flags, 4);
	put(c, mode, 4);
	put(c, 0, 4);
	return finish(c);
}

/* Tread or Treaddir: the number of bytes, or an errno. */
static int
read_as(struct client *c, unsigned type, uint32_t fid, uint64_t offset,
    uint32_t count)
{
	int r;

	begin(c, type);
	put(c, fid, 4);
	put(c, offset, 8);
	put(c, count, 4);
	r = finish(c);
	if (r < 0)
		return r;
	r = get(c, 4);
	assert_int_equal(reader_left(&c->reply), r);
	return r;
}

static int
write_to(struct client *c, uint32_t fid, uint64_t offset, const void *bytes,
    uint32_t count)
{
	int r;

	begin(c, P9_TWRITE);
	put(c, fid, 4);
	put(c, offset, 8);
	put(c, count, 4);
	put_bytes(c, bytes, count);
	r = finish(c);
	return r < 0 ? r : (int)get(c, 4);
}

static void
contents(struct client *c, uint32_t fid, const char *text)
{
	int len = read_as(c, P9_TREAD, fid, 0, 4096);

	assert_int_equal(len, strlen(text));
	assert_memory_equal(reader_take(&c->reply, len), text, len);
}

static int
mkdir_in(struct client *c, uint32_t fid, const char *name, uint32_t mode)
{
	begin(c, P9_TMKDIR);
	put(c, fid, 4);
	put_str(c, name);
	put(c, mode, 4);
	put(c, 0, 4);
	return finish(c);
}

static int
mknod_in(struct client *c, uint32_t fid, const char *name, uint32_t mode)
{
	begin(c, P9_TMKNOD);
	put(c, fid, 4);
	put_str(c, name);
	put(c, mode, 4);
	put(c, 1, 4);
	put(c, 3, 4);
	put(c, 0, 4);
	return finish(c);
}

static int
symlink_in(struct client *c, uint32_t fid, const char *name, const char *target)
{
	begin(c, P9_TSYMLINK);
	put(c, fid, 4);
	put_str(c, name);
	put_str(c, target);
	put(c, 0, 4);
	return finish(c);
}

static int
link_in(struct client *c, uint32_t dir, uint32_t fid, const char *name)
{
	begin(c, P9_TLINK);
	put(c, dir, 4);
	put(c, fid, 4);
	put_str(c, name);
	return finish(c);
}

static int
rename_to(struct client *c, uint32_t fid, uint32_t dir, const char *name)
{
	begin(c, P9_TRENAME);
	put(c, fid, 4);
	put(c, dir, 4);
	put_str(c, name);
	return finish(c);
}

static int
renameat_in(struct client *c, uint32_t from, const char *name, uint32_t to,
    const char *new_name)
{
	begin(c, P9_TRENAMEAT);
	put(c, from, 4);
	put_str(c, name);
	put(c, to, 4);
	put_str(c, new_name);
	return finish(c);
}

static int
unlink_in(struct client *c, uint32_t dir, const char *name, uint32_t flags)
{
	begin(c, P9_TUNLINKAT);
	put(c, dir, 4);
	put_str(c, name);
	put(c, flags, 4);
	return finish(c);
}

static int
setattr(struct client *c, uint32_t fid, uint32_t valid, uint32_t mode,
    uint64_t size)
{
	begin(c, P9_TSETATTR);
	put(c, fid, 4);
	put(c, valid, 4);
	put(c, mode, 4);
	put(c, getuid(), 4);
	put(c, getgid(), 4);
	put(c, size, 8);
	put(c, 1000, 8);
	put(c, 5, 8);
	put(c, 2000, 8);
	put(c, 6, 8);
	return finish(c);
}

static int
xattrwalk(struct client *c, uint32_t fid, uint32_t newfid, const char *name)
{
	int r;

	begin(c, P9_TXATTRWALK);
	put(c, fid, 4);
	put(c, newfid, 4);
	put_str(c, name);
	r = finish(c);
	return r < 0 ? r : (int)get(c, 8);
}

static int
xattrcreate(struct client *c, uint32_t fid, const char *name, uint64_t size,
    uint32_t flags)
{
	begin(c, P9_TXATTRCREATE);
	put(c, fid, 4);
	put_str(c, name);
	put(c, size, 8);
	put(c, flags, 4);
	return finish(c);
}

static void
make_file(int dir, const char *name, const char *text)
{
	int fd =
	    openat(dir, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	(void)close(fd);
}

static void
make_socket(const struct env *env)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s/socket",
	    env->share);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	(void)close(fd);
}

static void
serve(struct env *env, bool writable)
{
	struct client *c = &env->client;
	struct err err;

	p9_close(c->server);
	c->server = NULL;
	c->room = sizeof(c->in);
	assert_int_equal(p9_open(env->share, writable, MSIZE, &c->server, &err),
	    0);
	assert_int_equal(version(c, MSIZE, "9P2000.L"), 0);
	assert_int_equal(attach(c, ROOT), 0);
}

static int
setup(void **state)
{
	struct env *env = calloc(1, sizeof(*env));

	(void)snprintf(env->base, sizeof(env->base), "/tmp/p9_test.XXXXXX");
	assert_non_null(mkdtemp(env->base));
	(void)snprintf(env->share, sizeof(env->share), "%s/share", env->base);
	assert_int_equal(mkdir(env->share, 0755), 0);
	env->base_fd = open(env->base, O_PATH | O_CLOEXEC);
	env->share_fd = open(env->share, O_PATH | O_CLOEXEC);
	make_file(env->base_fd, "secret", "secret");
	make_file(env->share_fd, "file", "hello, world");
	assert_int_equal(mkdirat(env->share_fd, "dir", 0755), 0);
	make_file(env->share_fd, "dir/inner", "inner");
	assert_int_equal(symlinkat("../secret", env->share_fd, "out"), 0);
	assert_int_equal(symlinkat("..", env->share_fd, "up"), 0);
	assert_int_equal(symlinkat("dir", env->share_fd, "in"), 0);
	assert_int_equal(mkfifoat(env->share_fd, "fifo", 0644), 0);
	make_socket(env);
	serve(env, true);
	*state = env;
	return 0;
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int
teardown(void **state)
{
	struct env *env = *state;

	p9_close(env->client.server);
	(void)close(env->base_fd);
	(void)close(env->share_fd);
	(void)nftw(env->base, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(env);
	return 0;
}

static void
version_is_agreed_on(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;

	assert_int_equal(version(c, 1 << 30, "9P2000.L"), 0);
	assert_int_equal(get(c, 4), MSIZE);
	assert_int_equal(get(c, 2), 8);
	assert_memory_equal(reader_take(&c->reply, 8), "9P2000.L", 8);
	/* The fids of the session before are gone. */
	assert_int_equal(clunk(c, ROOT), -EBADF);
	assert_int_equal(version(c, 8192, "9P2000.L"), 0);
	assert_int_equal(get(c, 4), 8192);
	assert_int_equal(version(c, 4095, "9P2000.L"), -EMSGSIZE);
	assert_int_equal(version(c, 8192, "9P2000.u"), 0);
	assert_int_equal(get(c, 4), 8192);
	assert_int_equal(get(c, 2), 7);
	assert_memory_equal(reader_take(&c->reply, 7), "unknown", 7);
	/* Then there is no session. */
	assert_int_equal(attach(c, ROOT), -EPROTO);
	p9_reset(c->server);
	assert_int_equal(version(c, 8192, "9P2000.L"), 0);
	p9_reset(c->server);
	assert_int_equal(attach(c, ROOT), -EPROTO);
}

static void
attach_gives_the_root(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct stat st;

	assert_int_equal(attach(c, 7), 0);
	assert_int_equal(fstat(env->share_fd, &st), 0);
	assert_int_equal(get(c, 1), 0x80);
	(void)get(c, 4);
	assert_int_equal(get(c, 8), st.st_ino);
	assert_int_equal(attach(c, 7), -EINVAL);
	assert_int_equal(attach(c, NOFID), -EINVAL);
	begin(c, P9_TATTACH);
	put(c, 8, 4);
	put(c, 7, 4); /* an afid */
	put_str(c, "root");
	put_str(c, "");
	put(c, 0, 4);
	assert_int_equal(finish(c), -EINVAL);
	begin(c, P9_TAUTH);
	put(c, 8, 4);
	put_str(c, "root");
	put_str(c, "");
	put(c, 0, 4);
	assert_int_equal(finish(c), -EOPNOTSUPP);
	begin(c, P9_TFLUSH);
	put(c, 1, 2);
	assert_true(p9_is_flush(&(struct iovec) { c->out, c->len }, 1));
	assert_int_equal(finish(c), 0);
	begin(c, P9_TCLUNK);
	assert_false(p9_is_flush(&(struct iovec) { c->out, c->len }, 1));
	assert_false(p9_is_flush(&(struct iovec) { c->out, 4 }, 1));
}

static void
walk_goes_by_components(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct stat st;

	walked(c, ROOT, 1, "dir inner");
	(void)get(c, P9_QID - 8);
	(void)get(c, 8);
	assert_int_equal(get(c, 1), 0);
	(void)get(c, 4);
	assert_int_equal(fstatat(env->share_fd, "dir/inner", &st, 0), 0);
	assert_int_equal(get(c, 8), st.st_ino);

	/* Part of the way: no fid. */
	assert_int_equal(walk(c, ROOT, 2, "dir nothing x"), 1);
	assert_int_equal(clunk(c, 2), -EBADF);
	assert_int_equal(walk(c, ROOT, 2, "nothing"), -ENOENT);
	assert_int_equal(walk(c, ROOT, 2, "file x"), 1);
	assert_int_equal(walk(c, 1, 2, "x"), -ENOTDIR);

	/* A copy; itself; in its place. */
	walked(c, 1, 2, "");
	walked(c, 2, 2, "");
	walked(c, ROOT, 3, "");
	walked(c, 3, 3, "dir");
	walked(c, 3, 4, "inner");
	assert_int_equal(lopen(c, 4, 0), 0);
	contents(c, 4, "inner");

	/* Numbers: in use, reserved, unknown. */
	assert_int_equal(walk(c, ROOT, 1, "dir"), -EINVAL);
	assert_int_equal(walk(c, ROOT, NOFID, "dir"), -EINVAL);
	assert_int_equal(walk(c, 99, 5, "dir"), -EBADF);
}

static void
walk_stays_inside(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	char name[300];
	struct stat st;

	walked(c, ROOT, 1, "..");
	walked(c, 1, 2, ".. .. dir .. .. . file");
	assert_int_equal(fstat(env->share_fd, &st), 0);
	walked(c, ROOT, 3, "dir ..");
	(void)get(c, 8);
	(void)get(c, P9_QID - 8);
	assert_int_equal(get(c, 1), 0x80);
	(void)get(c, 4);
	assert_int_equal(get(c, 8), st.st_ino);

	assert_int_equal(walk(c, ROOT, 9, "/"), -EINVAL);
	assert_int_equal(walk(c, ROOT, 9, "dir/inner"), -EINVAL);
	assert_int_equal(walk(c, ROOT, 9, "/etc/passwd"), -EINVAL);
	assert_int_equal(walk(c, ROOT, 9, "../secret"), -EINVAL);
	assert_int_equal(walk(c, ROOT, 9, ".. secret"), 1);
	/* Links are things, not ways. */
	assert_int_equal(walk(c, ROOT, 9, "up secret"), 1);
	assert_int_equal(walk(c, ROOT, 9, "in inner"), 1);
	assert_int_equal(walk(c, ROOT, 9, "out .."), 1);
	assert_int_equal(clunk(c, 9), -EBADF);

	/* No name, a NUL within, too long. */
	begin(c, P9_TWALK);
	put(c, ROOT, 4);
	put(c, 9, 4);
	put(c, 1, 2);
	put(c, 0, 2);
	assert_int_equal(finish(c), -EINVAL);
	c->len -= 2;
	put(c, 5, 2);
	put_bytes(c, "di\0r", 5);
	assert_int_equal(finish(c), -EINVAL);
	memset(name, 'a', sizeof(name) - 1);
	name[299] = '\0';
	assert_int_equal(walk(c, ROOT, 9, name), -ENAMETOOLONG);
	assert_int_equal(walk(c, ROOT, 9, ". . . . . . . . . . . . . . . . ."),
	    -EINVAL);
	walked(c, ROOT, 9, ". . . . . . . . . . . . . . . .");
}

/* The host moves a directory out of the tree while a client is in it. */
static void
moved_out_is_no_way_up(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;

	walked(c, ROOT, 1, "dir");
	walked(c, 1, 2, "inner");
	assert_int_equal(renameat(env->share_fd, "dir", env->base_fd, "dir"),
	    0);
	assert_int_equal(walk(c, 1, 3, ".."), -EXDEV);
	assert_int_equal(walk(c, 1, 3, ".. secret"), -EXDEV);
	assert_int_equal(rename_to(c, 2, ROOT, "stolen"), -ENOENT);
	assert_int_equal(with_fid(c, P9_TREMOVE, 2), -ENOENT);
	assert_int_equal(faccessat(env->base_fd, "dir/inner", F_OK, 0), 0);
}

struct swapper {
	int dir;
	_Atomic bool stop;
};

/* The name `x` is a directory, then a link to the host's, and so on. */
static void *
swap(void *arg)
{
	struct swapper *s = arg;

	/* Relaxed: nothing else is told by it. */
	while (!atomic_load_explicit(&s->stop, memory_order_relaxed)) {
		(void)renameat2(s->dir, "x", s->dir, "y", RENAME_EXCHANGE);
		(void)sched_yield();
	}
	return NULL;
}

static void
swapped_link_is_not_followed(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct swapper s = { .dir = env->share_fd };
	unsigned directories = 0, links = 0;
	pthread_t thread;

	assert_int_equal(mkdirat(env->share_fd, "x", 0755), 0);
	make_file(env->share_fd, "x/secret", "public");
	assert_int_equal(symlinkat("..", env->share_fd, "y"), 0);
	assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
	for (unsigned i = 0;
	     i < 3000 || ((directories == 0 || links == 0) && i < 1000000);
	     i++) {
		int r = walk(c, ROOT, 1, "x secret");

		if (r == 2) {
			directories++;
			assert_int_equal(lopen(c, 1, 0), 0);
			contents(c, 1, "public");
			assert_int_equal(clunk(c, 1), 0);
		} else {
			links++;
			assert_true(r == 1 || r == -ENOENT || r == -EAGAIN);
		}
		/* The same for making: never beside the share. */
		r = lcreate(c, ROOT, "y", 0101, 0644);
		assert_true(r == -EISDIR || r == -ELOOP || r == -ENOENT);
	}
	atomic_store_explicit(&s.stop, true, memory_order_relaxed);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(directories > 0);
	assert_true(links > 0);
}

static void
files_are_read_and_written(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	char buf[32];
	int fd;

	walked(c, ROOT, 1, "file");
	assert_int_equal(read_as(c, P9_TREAD, 1, 0, 10), -EBADF);
	assert_int_equal(write_to(c, 1, 0, "x", 1), -EBADF);
	assert_int_equal(lopen(c, 1, 3), -EINVAL);
	assert_int_equal(lopen(c, 1, 02), 0);
	assert_int_equal(lopen(c, 1, 02), -EBUSY);
	contents(c, 1, "hello, world");
	assert_int_equal(read_as(c, P9_TREAD, 1, 7, 3), 3);
	assert_memory_equal(reader_take(&c->reply, 3), "wor", 3);
	assert_int_equal(read_as(c, P9_TREAD, 1, 12, 3), 0);
	assert_int_equal(read_as(c, P9_TREAD, 1, UINT64_MAX, 3), -EINVAL);
	assert_int_equal(write_to(c, 1, 7, "bees", 4), 4);
	contents(c, 1, "hello, beesd");
	assert_int_equal(write_to(c, 1, UINT64_MAX, "x", 1), -EINVAL);
	begin(c, P9_TFSYNC);
	put(c, 1, 4);
	put(c, 1, 4);
	assert_int_equal(finish(c), 0);
	assert_int_equal(clunk(c, 1), 0);

	walked(c, ROOT, 1, "file");
	assert_int_equal(lopen(c, 1, 02001), 0); /* append */
	assert_int_equal(write_to(c, 1, 0, "!", 1), 1);
	assert_int_equal(read_as(c, P9_TREAD, 1, 0, 3), -EBADF);
	fd = openat(env->share_fd, "file", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, buf, sizeof(buf)), 13);
	assert_memory_equal(buf, "hello, beesd!", 13);
	(void)close(fd);

	walked(c, ROOT, 2, "file");
	assert_int_equal(lopen(c, 2, 01002), 0); /* truncate */
	contents(c, 2, "");
	walked(c, ROOT, 3, "dir");
	assert_int_equal(lopen(c, 3, 1), -EISDIR);
	assert_int_equal(lopen(c, 3, 01000), -EISDIR);
	assert_int_equal(lopen(c, 2, 0200000), -ENOTDIR);
	assert_int_equal(lopen(c, 3, 0200000), 0);
	assert_int_equal(read_as(c, P9_TREAD, 3, 0, 10), -EISDIR);
}

/* The message and the reply in buffers of a byte, and of many. */
static void
buffers_may_be_scattered(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct iovec in[64], out[64];

	walked(c, ROOT, 1, "file");
	assert_int_equal(lopen(c, 1, 02), 0);
	begin(c, P9_TWRITE);
	put(c, 1, 4);
	put(c, 0, 8);
	put(c, 5, 4);
	put_bytes(c, "HELLO", 5);
	le32_store(c->out, c->len);
	for (unsigned i = 0; i < 64; i++) {
		in[i] = (struct iovec) { c->out + i, i < c->len };
		out[i] = (struct iovec) { c->in + i, 1 };
	}
	assert_int_equal(p9_handle(c->server, in, 64, out, 64), 11);
	assert_int_equal(c->in[4], P9_TWRITE + 1);
	begin(c, P9_TREAD);
	put(c, 1, 4);
	put(c, 0, 8);
	put(c, 4096, 4);
	le32_store(c->out, c->len);
	for (unsigned i = 0; i < 64; i++)
		in[i].iov_len = i < c->len;
	memset(c->in, 0, 64);
	assert_int_equal(p9_handle(c->server, in, 64, out, 64), 11 + 12);
	assert_memory_equal(c->in + 11, "HELLO, world", 12);
}

/* The message in c->out takes a reply of `len` bytes, and room for no more. */
static void
takes(struct client *c, size_t len)
{
	c->room = len - 1;
	assert_int_equal(finish(c), -EMSGSIZE);
	c->room = len;
	assert_int_equal(finish(c), 0);
	assert_int_equal(c->got, len);
	c->room = sizeof(c->in);
}

/* Linux brings room for what its very message can be answered. */
static void
exact_room_is_enough(void **state)
{
	static const char *const names[] = { "dir", "dir inner" };
	struct env *env = *state;
	struct client *c = &env->client;

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		c->room = 11;
		assert_int_equal(walk(c, ROOT, 1 + i, names[i]), -EMSGSIZE);
		takes(c, P9_HEADER + 2 + (1 + i) * P9_QID);
	}
	begin(c, P9_TGETATTR);
	put(c, ROOT, 4);
	put(c, UINT64_MAX, 8);
	takes(c, P9_HEADER + 153);
	begin(c, P9_TSTATFS);
	put(c, ROOT, 4);
	takes(c, P9_HEADER + 60);
	begin(c, P9_TLOPEN);
	put(c, 2, 4);
	put(c, 0, 4);
	takes(c, P9_HEADER + P9_QID + 4);
	begin(c, P9_TGETLOCK);
	put(c, 2, 4);
	put(c, 1, 1);
	put(c, 0, 8);
	put(c, 0, 8);
	put(c, 42, 4);
	put_str(c, "guest");
	takes(c, P9_HEADER + 23 + strlen("guest"));
	begin(c, P9_TMKDIR);
	put(c, ROOT, 4);
	put_str(c, "made");
	put(c, 0755, 4);
	put(c, 0, 4);
	takes(c, P9_HEADER + P9_QID);
	begin(c, P9_TVERSION);
	put(c, MSIZE, 4);
	put_str(c, "9P2000.L");
	takes(c, P9_HEADER + 4 + 2 + strlen("9P2000.L"));
}

static void
counts_are_cut(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	int fd = openat(env->share_fd, "file", O_WRONLY | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	(void)close(fd);
	walked(c, ROOT, 1, "file");
	assert_int_equal(lopen(c, 1, 0), 0);
	assert_int_equal(read_as(c, P9_TREAD, 1, 0, UINT32_MAX), MSIZE - 11);
	assert_int_equal(read_as(c, P9_TREAD, 1, 0, MSIZE), MSIZE - 11);
	c->room = 100;
	assert_int_equal(read_as(c, P9_TREAD, 1, 0, MSIZE), 100 - 11);
	c->room = 11;
	assert_int_equal(read_as(c, P9_TREAD, 1, 0, MSIZE), 0);
	c->room = sizeof(c->in);
	walked(c, ROOT, 2, "dir");
	c->room = 23; /* no room for a qid and more: it is not opened, either */
	assert_int_equal(lopen(c, 2, 0), -EMSGSIZE);
	assert_int_equal(with_fid(c, P9_TCLUNK, 1), 0);
	c->room = 10;
	le32_store(c->out, c->len);
	assert_int_equal(send_raw(c), -EMSGSIZE);
	c->room = sizeof(c->in);
	assert_int_equal(lopen(c, 2, 0), 0);
	assert_int_equal(read_as(c, P9_TREADDIR, 2, 0, 30), 25);
	assert_int_equal(read_as(c, P9_TREADDIR, 2, 0, 24), -EINVAL);
	assert_in_range(read_as(c, P9_TREADDIR, 2, 0, UINT32_MAX), 24 * 3,
	    24 * 3 + 8);
}

static void
special_files_are_not_opened(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	static const char *const names[] = { "fifo", "socket" };

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		walked(c, ROOT, 1, names[i]);
		for (uint32_t flags = 0; flags < 3; flags++)
			assert_int_equal(lopen(c, 1, flags), -ENXIO);
		assert_int_equal(xattrwalk(c, 1, 2, ""), -EOPNOTSUPP);
		assert_int_equal(setattr(c, 1, 8, 0, 0), -EINVAL);
		assert_int_equal(setattr(c, 1, 1, 0600, 0), 0);
		assert_int_equal(clunk(c, 1), 0);
		/* Nor by making what is there. */
		walked(c, ROOT, 1, "");
		assert_int_equal(lcreate(c, 1, names[i], 0101, 0644), -ENXIO);
		assert_int_equal(clunk(c, 1), 0);
	}
	walked(c, ROOT, 1, "out");
	assert_int_equal(lopen(c, 1, 0), -ELOOP);
	assert_int_equal(lcreate(c, ROOT, "out", 0101, 0644), -ELOOP);
	assert_int_equal(lcreate(c, ROOT, "dir", 0101, 0644), -EISDIR);
}

/* Read a directory with little room: every name once. */
static void
directories_are_listed(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	char name[NAME_MAX + 1];
	unsigned seen = 0, dots = 0;
	uint64_t offset = 0;
	struct stat root;
	int len;

	assert_int_equal(fstat(env->share_fd, &root), 0);
	walked(c, ROOT, 1, "");
	assert_int_equal(read_as(c, P9_TREADDIR, 1, 0, 100), -EBADF);
	assert_int_equal(lopen(c, 1, 0), 0);
	for (unsigned i = 0; i < 200; i++) {
		(void)snprintf(name, sizeof(name), "many-%u", i);
		make_file(env->share_fd, name, "");
	}
	while ((len = read_as(c, P9_TREADDIR, 1, offset, 100)) > 0) {
		while (reader_left(&c->reply) > 0) {
			uint64_t qid_type = get(c, 1), ino;
			uint8_t type;

			(void)get(c, 4);
			ino = get(c, 8);
			offset = get(c, 8);
			type = get(c, 1);
			reader_str(&c->reply, name, sizeof(name));
			assert_false(c->reply.bad);
			seen++;
			if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
				/* Above the root is the root. */
				assert_int_equal(ino, root.st_ino);
				assert_int_equal(qid_type, 0x80);
				assert_int_equal(type, DT_DIR);
				dots++;
			} else if (strcmp(name, "out") == 0) {
				assert_int_equal(qid_type, 0x02);
				assert_int_equal(type, DT_LNK);
			} else if (strcmp(name, "fifo") == 0) {
				assert_int_equal(type, DT_FIFO);
			}
		}
	}
	assert_int_equal(len, 0);
	assert_int_equal(dots, 2);
	assert_int_equal(seen, 200 + 2 + 7);
	walked(c, ROOT, 2, "file");
	assert_int_equal(lopen(c, 2, 0), 0);
	assert_int_equal(read_as(c, P9_TREADDIR, 2, 0, 100), -ENOTDIR);
	/* Any cookie is survived. */
	len = read_as(c, P9_TREADDIR, 1, UINT64_MAX, 100);
	assert_true(len == -EINVAL || len >= 0);
}

static void
attributes_are_the_hosts(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct stat st;

	walked(c, ROOT, 1, "file");
	assert_int_equal(fstatat(env->share_fd, "file", &st, 0), 0);
	begin(c, P9_TGETATTR);
	put(c, 1, 4);
	put(c, 0x3fff, 8);
	assert_int_equal(finish(c), 0);
	assert_int_equal(c->got, 7 + 153);
	assert_int_equal(get(c, 8) & 0x7ff, 0x7ff);
	assert_int_equal(get(c, 1), 0);
	(void)get(c, 4);
	assert_int_equal(get(c, 8), st.st_ino);
	assert_int_equal(get(c, 4), S_IFREG | 0644);
	assert_int_equal(get(c, 4), getuid());
	assert_int_equal(get(c, 4), st.st_gid);
	assert_int_equal(get(c, 8), 1);
	assert_int_equal(get(c, 8), 0);
	assert_int_equal(get(c, 8), 12);
	assert_int_equal(get(c, 8), st.st_blksize);
	assert_int_equal(get(c, 8), st.st_blocks);
	assert_int_equal(get(c, 8), st.st_atim.tv_sec);
	assert_int_equal(get(c, 8), st.st_atim.tv_nsec);
	assert_int_equal(get(c, 8), st.st_mtim.tv_sec);
	assert_int_equal(get(c, 8), st.st_mtim.tv_nsec);

	assert_int_equal(with_fid(c, P9_TSTATFS, ROOT), 0);
	assert_int_equal(c->got, 7 + 60);
	assert_int_equal(get(c, 4), 0x01021997);
	walked(c, ROOT, 2, "out");
	assert_int_equal(with_fid(c, P9_TREADLINK, 2), 0);
	assert_int_equal(get(c, 2), 9);
	assert_memory_equal(reader_take(&c->reply, 9), "../secret", 9);
	assert_int_equal(with_fid(c, P9_TREADLINK, 1), -EINVAL);
}

static void
attributes_are_set(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct stat st, secret;

	assert_int_equal(fstatat(env->base_fd, "secret", &secret, 0), 0);
	walked(c, ROOT, 1, "file");
	assert_int_equal(setattr(c, 1, 0x1 | 0x2 | 0x4, 0177754, 0), 0);
	assert_int_equal(fstatat(env->share_fd, "file", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 07754);
	assert_int_equal(setattr(c, 1, 0x8, 0, 5), 0);
	assert_int_equal(setattr(c, 1, 0x1b0, 0, 0), 0);
	assert_int_equal(fstatat(env->share_fd, "file", &st, 0), 0);
	assert_int_equal(st.st_size, 5);
	assert_int_equal(st.st_atim.tv_sec, 1000);
	assert_int_equal(st.st_atim.tv_nsec, 5);
	assert_int_equal(st.st_mtim.tv_sec, 2000);
	assert_int_equal(st.st_mtim.tv_nsec, 6);
	assert_int_equal(setattr(c, 1, 0x20, 0, 0), 0); /* now */
	assert_int_equal(fstatat(env->share_fd, "file", &st, 0), 0);
	assert_true(st.st_mtim.tv_sec > 2000);
	assert_int_equal(st.st_atim.tv_sec, 1000);
	assert_int_equal(setattr(c, 1, 0x200, 0, 0), -EINVAL);
	assert_int_equal(setattr(c, 1, 0x8, 0, UINT64_MAX), -EFBIG);
	assert_int_equal(setattr(c, ROOT, 0x8, 0, 0), -EISDIR);

	/* Nanoseconds that utimensat() would take for words. */
	begin(c, P9_TSETATTR);
	put(c, 1, 4);
	put(c, 0x90, 4);
	put(c, 0, 8);
	put(c, 0, 4);
	put(c, 0, 8);
	put(c, 0, 8);
	put(c, UTIME_NOW, 8);
	put(c, 0, 8);
	put(c, 0, 8);
	assert_int_equal(finish(c), -EINVAL);

	/* A link's own, not those of what it leads to. */
	walked(c, ROOT, 2, "out");
	assert_int_equal(setattr(c, 2, 0x1, 0600, 0), -EOPNOTSUPP);
	assert_int_equal(setattr(c, 2, 0x1b0, 0, 0), 0);
	assert_int_equal(setattr(c, 2, 0x6, 0, 0), 0);
	assert_int_equal(setattr(c, 2, 0x8, 0, 0), -EINVAL);
	assert_int_equal(fstatat(env->base_fd, "secret", &st, 0), 0);
	assert_int_equal(st.st_ctim.tv_sec, secret.st_ctim.tv_sec);
	assert_int_equal(st.st_ctim.tv_nsec, secret.st_ctim.tv_nsec);
}

static void
things_are_made(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct stat st;

	/* Whatever our umask is: the client has its own. */
	walked(c, ROOT, 1, "");
	assert_int_equal(lcreate(c, 1, "new", 0302, 0666), 0);
	assert_int_equal(write_to(c, 1, 0, "new", 3), 3);
	contents(c, 1, "new");
	assert_int_equal(fstatat(env->share_fd, "new", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0666);
	assert_int_equal(st.st_uid, getuid());
	walked(c, ROOT, 2, "");
	assert_int_equal(lcreate(c, 2, "new", 0302, 0666), -EEXIST);
	assert_int_equal(lcreate(c, 2, "new", 0102, 0600), 0);
	contents(c, 2, "new");
	walked(c, ROOT, 3, "");
	assert_int_equal(lcreate(c, 3, "new", 01102, 0600), 0);
	contents(c, 3, "");
	assert_int_equal(lcreate(c, 3, "x", 0102, 0600), -ENOTDIR);

	assert_int_equal(mkdir_in(c, ROOT, "sub", 01777), 0);
	assert_int_equal(get(c, 1), 0x80);
	assert_int_equal(fstatat(env->share_fd, "sub", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 01777);
	assert_int_equal(mkdir_in(c, ROOT, "sub", 0755), -EEXIST);
	assert_int_equal(symlink_in(c, ROOT, "link", "/etc/passwd"), 0);
	assert_int_equal(get(c, 1), 0x02);
	assert_int_equal(symlink_in(c, ROOT, "link2", ""), -ENOENT);
	assert_int_equal(mknod_in(c, ROOT, "pipe", S_IFIFO | 0622), 0);
	assert_int_equal(fstatat(env->share_fd, "pipe", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFIFO | 0622);
	assert_int_equal(mknod_in(c, ROOT, "sock", S_IFSOCK | 0600), 0);
	assert_int_equal(mknod_in(c, ROOT, "plain", S_IFREG | 0466), 0);
	assert_int_equal(fstatat(env->share_fd, "plain", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0466);
	assert_int_equal(mknod_in(c, ROOT, "chr", S_IFCHR | 0666), -EPERM);
	assert_int_equal(mknod_in(c, ROOT, "blk", S_IFBLK | 0666), -EPERM);
	assert_int_equal(mknod_in(c, ROOT, "bad", S_IFDIR | 0666), -EINVAL);
	assert_int_equal(faccessat(env->share_fd, "chr", F_OK, 0), -1);
}

static void
names_change(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct stat st;

	walked(c, ROOT, 1, "file");
	walked(c, ROOT, 2, "dir");
	assert_int_equal(link_in(c, 2, 1, "hard"), 0);
	assert_int_equal(fstatat(env->share_fd, "dir/hard", &st, 0), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(link_in(c, 2, 1, "hard"), -EEXIST);
	assert_int_equal(link_in(c, 2, 2, "loop"), -EPERM);
	assert_int_equal(link_in(c, 1, 1, "hard"), -ENOTDIR);
	/* A link to a link is another name of the link. */
	walked(c, ROOT, 3, "out");
	assert_int_equal(link_in(c, 2, 3, "out"), 0);
	assert_int_equal(fstatat(env->share_fd, "dir/out", &st,
			     AT_SYMLINK_NOFOLLOW),
	    0);
	assert_true(S_ISLNK(st.st_mode));

	assert_int_equal(renameat_in(c, 2, "hard", ROOT, "moved"), 0);
	assert_int_equal(renameat_in(c, 2, "hard", ROOT, "moved"), -ENOENT);
	assert_int_equal(renameat_in(c, ROOT, "dir", 2, "loop"), -EINVAL);
	/* By the fid: its first name, which it was found by. */
	assert_int_equal(rename_to(c, 1, 2, "renamed"), 0);
	assert_int_equal(faccessat(env->share_fd, "dir/renamed", F_OK, 0), 0);
	assert_int_equal(faccessat(env->share_fd, "moved", F_OK, 0), 0);
	assert_int_equal(rename_to(c, 1, ROOT, "back"), 0);
	assert_int_equal(faccessat(env->share_fd, "back", F_OK, 0), 0);

	assert_int_equal(with_fid(c, P9_TREMOVE, 2), -ENOTEMPTY);
	assert_int_equal(clunk(c, 2), -EBADF);
	walked(c, ROOT, 2, "dir");
	assert_int_equal(unlink_in(c, 2, "inner", 0x200), -ENOTDIR);
	assert_int_equal(unlink_in(c, 2, "inner", 0), 0);
	assert_int_equal(unlink_in(c, 2, "out", 0), 0);
	assert_int_equal(unlink_in(c, ROOT, "dir", 0), -EISDIR);
	assert_int_equal(unlink_in(c, ROOT, "dir", 1), -EINVAL);
	assert_int_equal(with_fid(c, P9_TREMOVE, 2), 0);
	assert_int_equal(faccessat(env->share_fd, "dir", F_OK, 0), -1);
	assert_int_equal(with_fid(c, P9_TREMOVE, 1), 0);
	assert_int_equal(faccessat(env->share_fd, "back", F_OK, 0), -1);
	/* Out of a directory that is no more. */
	walked(c, ROOT, 4, "moved");
	assert_int_equal(unlink_in(c, ROOT, "moved", 0), 0);
	assert_int_equal(rename_to(c, 4, ROOT, "again"), -ENOENT);
	assert_int_equal(fstatat(env->base_fd, "secret", &st, 0), 0);
	assert_int_equal(st.st_nlink, 1);
}

static void
root_stays(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	static const char *const bad[] = { "", ".", "..", "/", "a/b",
		"../share" };

	walked(c, ROOT, 1, "file");
	walked(c, ROOT, 2, "dir ..");
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(renameat_in(c, ROOT, "dir", ROOT, bad[i]),
		    -EINVAL);
		assert_int_equal(renameat_in(c, ROOT, bad[i], ROOT, "x"),
		    -EINVAL);
		assert_int_equal(rename_to(c, 1, ROOT, bad[i]), -EINVAL);
		assert_int_equal(link_in(c, ROOT, 1, bad[i]), -EINVAL);
		assert_int_equal(mkdir_in(c, ROOT, bad[i], 0755), -EINVAL);
		assert_int_equal(mknod_in(c, ROOT, bad[i], 010644), -EINVAL);
		assert_int_equal(symlink_in(c, ROOT, bad[i], "x"), -EINVAL);
		assert_int_equal(lcreate(c, ROOT, bad[i], 0102, 0644), -EINVAL);
		assert_int_equal(unlink_in(c, ROOT, bad[i], 0x200), -EINVAL);
	}
	assert_int_equal(rename_to(c, ROOT, 2, "x"), -EBUSY);
	assert_int_equal(rename_to(c, 2, ROOT, "x"), -EBUSY);
	assert_int_equal(link_in(c, ROOT, 2, "x"), -EPERM);
	assert_int_equal(with_fid(c, P9_TREMOVE, 2), -EBUSY);
	assert_int_equal(clunk(c, 2), -EBADF);
}

static void
read_only_changes_nothing(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	struct stat before, after;

	serve(env, false);
	assert_int_equal(fstat(env->share_fd, &before), 0);
	walked(c, ROOT, 1, "file");
	walked(c, ROOT, 2, "dir");
	assert_int_equal(lopen(c, 1, 1), -EROFS);
	assert_int_equal(lopen(c, 1, 2), -EROFS);
	assert_int_equal(lopen(c, 1, 01000), -EROFS);
	assert_int_equal(lopen(c, 1, 0), 0);
	contents(c, 1, "hello, world");
	assert_int_equal(write_to(c, 1, 0, "x", 1), -EROFS);
	assert_int_equal(lcreate(c, ROOT, "new", 0102, 0644), -EROFS);
	assert_int_equal(lcreate(c, ROOT, "file", 0102, 0644), -EROFS);
	assert_int_equal(mkdir_in(c, ROOT, "new", 0755), -EROFS);
	assert_int_equal(mknod_in(c, ROOT, "new", 010644), -EROFS);
	assert_int_equal(symlink_in(c, ROOT, "new", "x"), -EROFS);
	assert_int_equal(link_in(c, ROOT, 1, "new"), -EROFS);
	assert_int_equal(rename_to(c, 1, ROOT, "new"), -EROFS);
	assert_int_equal(renameat_in(c, ROOT, "file", ROOT, "new"), -EROFS);
	assert_int_equal(unlink_in(c, ROOT, "file", 0), -EROFS);
	assert_int_equal(setattr(c, 1, 1, 0600, 0), -EROFS);
	assert_int_equal(xattrcreate(c, 1, "user.a", 1, 0), -EROFS);
	assert_int_equal(with_fid(c, P9_TREMOVE, 1), -EROFS);
	assert_int_equal(clunk(c, 1), -EBADF);
	assert_int_equal(fstat(env->share_fd, &after), 0);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

static void
locks_are_granted(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;

	walked(c, ROOT, 1, "file");
	for (unsigned type = 0; type < 4; type++) {
		for (unsigned open = 0; open < 2; open++) {
			begin(c, P9_TLOCK);
			put(c, open ? 2 : 1, 4);
			put(c, type, 1);
			put(c, 1, 4);
			put(c, 0, 8);
			put(c, 0, 8);
			put(c, 42, 4);
			put_str(c, "guest");
			if (!open) {
				assert_int_equal(finish(c),
				    type == 3 ? -EINVAL : -EBADF);
				walked(c, ROOT, 2, "file");
				assert_int_equal(lopen(c, 2, 0), 0);
				continue;
			}
			assert_int_equal(finish(c), type == 3 ? -EINVAL : 0);
			if (type < 3)
				assert_int_equal(get(c, 1), 0);
			assert_int_equal(clunk(c, 2), 0);
		}
	}
	assert_int_equal(lopen(c, 1, 0), 0);
	begin(c, P9_TGETLOCK);
	put(c, 1, 4);
	put(c, 1, 1);
	put(c, 3, 8);
	put(c, 4, 8);
	put(c, 42, 4);
	put_str(c, "guest");
	assert_int_equal(finish(c), 0);
	assert_int_equal(get(c, 1), 2);
	assert_int_equal(get(c, 8), 3);
	assert_int_equal(get(c, 8), 4);
	assert_int_equal(get(c, 4), 42);
	assert_int_equal(get(c, 2), 5);
}

/* tmpfs has none of user.* before Linux 6.6. */
static void
need_xattrs(struct env *env)
{
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/file", env->share);
	if (setxattr(path, "user.probe", "", 0, 0) != 0)
		skip();
	(void)removexattr(path, "user.probe");
}

static void
xattrs_go_through_fids(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;

	need_xattrs(env);
	walked(c, ROOT, 1, "file");
	walked(c, 1, 2, "");
	assert_int_equal(xattrcreate(c, 2, "user.bee", 5, 0), 0);
	assert_int_equal(read_as(c, P9_TREAD, 2, 0, 5), -EBADF);
	assert_int_equal(write_to(c, 2, 0, "hon", 3), 3);
	assert_int_equal(write_to(c, 2, 0, "hon", 3), -EINVAL);
	assert_int_equal(write_to(c, 2, 3, "eyyy", 4), -ENOSPC);
	assert_int_equal(write_to(c, 2, 3, "ey", 2), 2);
	assert_int_equal(lopen(c, 2, 0), -EINVAL);
	assert_int_equal(clunk(c, 2), 0);

	assert_int_equal(xattrwalk(c, 1, 2, "user.bee"), 5);
	contents(c, 2, "honey");
	assert_int_equal(read_as(c, P9_TREAD, 2, 3, 100), 2);
	assert_int_equal(read_as(c, P9_TREAD, 2, UINT64_MAX, 100), 0);
	assert_int_equal(write_to(c, 2, 0, "x", 1), -EBADF);
	assert_int_equal(walk(c, 2, 5, ""), -EINVAL);
	assert_int_equal(xattrwalk(c, 1, 2, "user.bee"), -EINVAL); /* in use */
	assert_int_equal(clunk(c, 2), 0);
	assert_int_equal(xattrwalk(c, 1, 2, ""), 9);
	assert_int_equal(read_as(c, P9_TREAD, 2, 0, 100), 9);
	assert_memory_equal(reader_take(&c->reply, 9), "user.bee", 9);
	assert_int_equal(clunk(c, 2), 0);
	assert_int_equal(xattrwalk(c, 1, 2, "user.wasp"), -ENODATA);

	/* Too little written: not set, and the fid is free anyhow. */
	walked(c, 1, 2, "");
	assert_int_equal(xattrcreate(c, 2, "user.bee", 5, 0), 0);
	assert_int_equal(write_to(c, 2, 0, "wax", 3), 3);
	assert_int_equal(clunk(c, 2), -EINVAL);
	assert_int_equal(clunk(c, 2), -EBADF);
	walked(c, 1, 2, "");
	assert_int_equal(xattrcreate(c, 2, "user.bee", 0, XATTR_CREATE), 0);
	assert_int_equal(clunk(c, 2), -EEXIST);
	walked(c, 1, 2, "");
	assert_int_equal(xattrcreate(c, 2, "user.bee", 0, XATTR_REPLACE), 0);
	assert_int_equal(clunk(c, 2), 0);
	assert_int_equal(xattrwalk(c, 1, 2, "user.bee"), -ENODATA);
}

static void
xattrs_have_bounds(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	int r = 0;

	walked(c, ROOT, 1, "file");
	assert_int_equal(xattrcreate(c, 1, "user.a", P9_XATTR_MAX + 1, 0),
	    -E2BIG);
	assert_int_equal(xattrcreate(c, 1, "user.a", UINT64_MAX, 0), -E2BIG);
	assert_int_equal(xattrcreate(c, 1, "user.a", 1, 3), -EINVAL);
	assert_int_equal(xattrcreate(c, 1, "security.capability", 1, 0),
	    -EOPNOTSUPP);
	assert_int_equal(xattrcreate(c, 1, "trusted.x", 1, 0), -EOPNOTSUPP);
	assert_int_equal(xattrcreate(c, 1, "", 1, 0), -EOPNOTSUPP);
	assert_int_equal(xattrwalk(c, 1, 2, "security.selinux"), -EOPNOTSUPP);
	assert_int_equal(xattrwalk(c, 99, 2, ""), -EBADF);
	/* All of them together. */
	for (uint32_t fid = 2; fid < 200 && r == 0; fid++) {
		walked(c, 1, fid, "");
		r = xattrcreate(c, fid, "user.a", P9_XATTR_MAX, 0);
	}
	assert_int_equal(r, -ENOMEM);
	assert_int_equal(version(c, MSIZE, "9P2000.L"), 0);
	assert_int_equal(attach(c, ROOT), 0);
	walked(c, ROOT, 1, "file");
	assert_int_equal(xattrcreate(c, 1, "user.a", P9_XATTR_MAX, 0), 0);
}

static void
broken_messages_are_refused(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	static const uint8_t types[] = { 0, 6, 7, 9, 13, 98, 101, 112, 114, 124,
		126, 127, 128, 255 };

	/* Less than a header: nobody knows whom to answer. */
	begin(c, P9_TCLUNK);
	for (c->len = 0; c->len < 7; c->len++)
		assert_int_equal(send_raw(c), -EPROTO);
	/* Sizes that lie. */
	for (uint32_t size = 0; size < 7; size++) {
		le32_store(c->out, size);
		assert_int_equal(send_raw(c), 11);
		assert_int_equal(le32_load(c->in + 7), EPROTO);
	}
	begin(c, P9_TCLUNK);
	put(c, ROOT, 4);
	le32_store(c->out, 12);
	assert_int_equal(send_raw(c), 11);
	assert_int_equal(le32_load(c->in + 7), EPROTO);
	le32_store(c->out, UINT32_MAX);
	assert_int_equal(send_raw(c), 11);
	assert_int_equal(le32_load(c->in + 7), EPROTO);
	/* One too long, and one too long for its kind. */
	begin(c, P9_TCLUNK);
	c->len = MSIZE + 1;
	assert_int_equal(finish(c), -EMSGSIZE);
	c->len = MSIZE;
	assert_int_equal(finish(c), -EMSGSIZE);
	/* A byte less, a byte more. */
	begin(c, P9_TCLUNK);
	put(c, ROOT, 3);
	assert_int_equal(finish(c), -EPROTO);
	begin(c, P9_TCLUNK);
	put(c, ROOT, 5);
	assert_int_equal(finish(c), -EPROTO);
	begin(c, P9_TWRITE);
	put(c, ROOT, 4);
	put(c, 0, 8);
	put(c, 2, 4);
	put(c, 0, 1);
	assert_int_equal(finish(c), -EPROTO);
	put(c, 0, 2);
	assert_int_equal(finish(c), -EPROTO);
	c->len = 20;
	assert_int_equal(finish(c), -EPROTO);
	/* A string beyond the end. */
	begin(c, P9_TWALK);
	put(c, ROOT, 4);
	put(c, 1, 4);
	put(c, 1, 2);
	put(c, 0xffff, 2);
	put_bytes(c, "dir", 3);
	assert_int_equal(finish(c), -EPROTO);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		assert_int_equal(with_fid(c, types[i], ROOT), -EOPNOTSUPP);
	/* Bytes behind the message are not the message's. */
	begin(c, P9_TCLUNK);
	put(c, ROOT, 4);
	le32_store(c->out, c->len);
	c->len += 20;
	assert_int_equal(send_raw(c), 7);
}

/* Every message cut short at every byte, and of no fid. */
static void
every_message_may_be_short(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;

	for (unsigned type = 0; type < 256; type++) {
		for (unsigned len = 7; len < 80; len++) {
			int r;

			if (type == P9_TVERSION || type == P9_TAUTH ||
			    type == P9_TFLUSH)
				continue;
			begin(c, type);
			memset(c->out + 7, 0x55, 80);
			c->len = len;
			r = finish(c);
			assert_true(r == -EPROTO || r == -EBADF ||
			    r == -EINVAL || r == -EOPNOTSUPP);
		}
	}
}

static unsigned
open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		count++;
	(void)closedir(dir);
	return count;
}

static void
fids_are_bounded(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	unsigned before = open_descriptors();
	uint32_t fid = 1;
	int r;

	while ((r = walk(c, ROOT, fid, "file")) == 1) {
		if (fid % 2 == 0)
			assert_int_equal(lopen(c, fid, 0), 0);
		assert_true(fid < P9_FIDS_MAX);
		fid++;
	}
	assert_int_equal(r, -ENFILE);
	assert_true(fid > 10);
	/* One back, one more. */
	assert_int_equal(clunk(c, 2), 0);
	assert_int_equal(walk(c, ROOT, 0xfffffff0, "file"), 1);
	while (--fid > 2)
		assert_int_equal(clunk(c, fid), 0);
	assert_int_equal(clunk(c, 1), 0);
	assert_int_equal(clunk(c, 1), -EBADF);
	assert_int_equal(clunk(c, 0xfffffff0), 0);
	assert_int_equal(open_descriptors(), before);
	walked(c, ROOT, 1, "file");
	assert_int_equal(version(c, MSIZE, "9P2000.L"), 0);
	assert_int_equal(open_descriptors(), before - 1); /* the root's fid */
}

/* All of them: fids of attributes take no descriptor, which are fewer here. */
static void
fid_numbers_are_bounded(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;

	need_xattrs(env);
	walked(c, ROOT, 1, "file");
	for (uint32_t fid = 2; fid < P9_FIDS_MAX; fid++)
		assert_int_equal(xattrwalk(c, 1, fid, ""), 0);
	assert_int_equal(xattrwalk(c, 1, P9_FIDS_MAX, ""), -ENFILE);
	assert_int_equal(clunk(c, 2), 0);
	assert_int_equal(xattrwalk(c, 1, P9_FIDS_MAX, ""), 0);
}

struct worker {
	struct client client;
	uint32_t first;
};

/* Fids of its own and one that all fight for. */
static void *
work(void *arg)
{
	struct worker *w = arg;
	struct client *c = &w->client;
	char name[32];

	(void)snprintf(name, sizeof(name), "made-%u", w->first);
	for (unsigned i = 0; i < 200; i++) {
		int r = walk(c, ROOT, 1, "file");

		assert_true(r == 1 || r == -EINVAL);
		r = lopen(c, 1, 0);
		assert_true(r == 0 || r == -EBADF || r == -EBUSY);
		r = read_as(c, P9_TREAD, 1, 0, 100);
		assert_true(r == 12 || r == -EBADF);
		r = clunk(c, 1);
		assert_true(r == 0 || r == -EBADF);

		walked(c, ROOT, w->first, "");
		assert_int_equal(lcreate(c, w->first, name, 0302, 0600), 0);
		assert_int_equal(write_to(c, w->first, 0, name, 6), 6);
		assert_int_equal(with_fid(c, P9_TREMOVE, w->first), 0);
		r = read_as(c, P9_TREADDIR, 2, 0, 1000);
		assert_true(r > 0);
	}
	return NULL;
}

static void
threads_may_share(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	pthread_t threads[4];
	struct worker *workers = calloc(4, sizeof(*workers));

	walked(c, ROOT, 2, "");
	assert_int_equal(lopen(c, 2, 0), 0);
	for (unsigned i = 0; i < 4; i++) {
		workers[i].client.server = c->server;
		workers[i].client.room = sizeof(c->in);
		workers[i].first = 10 + i;
		assert_int_equal(pthread_create(&threads[i], NULL, work,
				     &workers[i]),
		    0);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	free(workers);
}

/* Calls that the session may end under. */
static void *
walk_on(void *arg)
{
	struct worker *w = arg;
	struct client *c = &w->client;

	for (unsigned i = 0; i < 500; i++) {
		int r = walk(c, ROOT, w->first, "dir inner");

		assert_true(
		    r == 2 || r == -EBADF || r == -ECONNRESET || r == -EINVAL);
		r = lopen(c, w->first, 0);
		assert_true(r == 0 || r == -EBADF || r == -EBUSY);
		r = read_as(c, P9_TREAD, w->first, 0, 100);
		assert_true(r == 5 || r == -EBADF);
	}
	return NULL;
}

static void
sessions_end_under_calls(void **state)
{
	struct env *env = *state;
	struct client *c = &env->client;
	unsigned before = open_descriptors();
	struct worker *workers = calloc(3, sizeof(*workers));
	pthread_t threads[3];

	for (unsigned i = 0; i < 3; i++) {
		workers[i].client.server = c->server;
		workers[i].client.room = sizeof(c->in);
		workers[i].first = 10 + i;
		assert_int_equal(pthread_create(&threads[i], NULL, walk_on,
				     &workers[i]),
		    0);
	}
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(version(c, MSIZE, "9P2000.L"), 0);
		assert_int_equal(attach(c, ROOT), 0);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	free(workers);
	assert_int_equal(version(c, MSIZE, "9P2000.L"), 0);
	assert_int_equal(attach(c, ROOT), 0);
	assert_int_equal(open_descriptors(), before);
}

/* What the child found: 0 good, 1 bad, 2 it may not mount. */
static int
look_across_devices(struct env *env)
{
	struct client *c = &env->client;
	char path[96];
	uint64_t paths[2];
	struct stat outer, inner;

	(void)snprintf(path, sizeof(path), "%s/dir", env->share);
	if (unshare(CLONE_NEWNS) != 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("p9", env->share, "tmpfs", 0, NULL) != 0 ||
	    mkdir(path, 0755) != 0 || mount("p9", path, "tmpfs", 0, NULL) != 0)
		return 2;
	/* Two file systems of a kind number alike. */
	serve(env, true);
	if (stat(env->share, &outer) != 0 || stat(path, &inner) != 0 ||
	    outer.st_ino != inner.st_ino || walk(c, ROOT, 1, "dir") != 1)
		return 1;
	(void)get(c, 5);
	paths[1] = get(c, 8);
	if (walk(c, 1, 2, "..") != 1)
		return 1;
	(void)get(c, 5);
	paths[0] = get(c, 8);
	return paths[0] == outer.st_ino && paths[1] != paths[0] ? 0 : 1;
}

static void
qids_differ_across_devices(void **state)
{
	pid_t child = fork();
	int status;

	if (child == 0)
		_exit(look_across_devices(*state));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 2)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
bad_roots_are_refused(void **state)
{
	struct env *env = *state;
	struct p9 *server = NULL;
	struct err err;
	char path[96];

	(void)snprintf(path, sizeof(path), "%s/nothing", env->share);
	assert_int_equal(p9_open(path, true, MSIZE, &server, &err), -ENOENT);
	assert_non_null(strstr(err.msg, path));
	(void)snprintf(path, sizeof(path), "%s/file", env->share);
	assert_int_equal(p9_open(path, true, MSIZE, &server, &err), -ENOTDIR);
	assert_int_equal(p9_open(env->share, true, 4095, &server, &err),
	    -EINVAL);
	assert_int_equal(p9_open(env->share, true, P9_MSIZE_MAX + 1, &server,
			     &err),
	    -EINVAL);
	assert_null(server);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(version_is_agreed_on),
		TEST(attach_gives_the_root),
		TEST(walk_goes_by_components),
		TEST(walk_stays_inside),
		TEST(moved_out_is_no_way_up),
		TEST(swapped_link_is_not_followed),
		TEST(files_are_read_and_written),
		TEST(buffers_may_be_scattered),
		TEST(exact_room_is_enough),
		TEST(counts_are_cut),
		TEST(special_files_are_not_opened),
		TEST(directories_are_listed),
		TEST(attributes_are_the_hosts),
		TEST(attributes_are_set),
		TEST(things_are_made),
		TEST(names_change),
		TEST(root_stays),
		TEST(read_only_changes_nothing),
		TEST(locks_are_granted),
		TEST(xattrs_go_through_fids),
		TEST(xattrs_have_bounds),
		TEST(broken_messages_are_refused),
		TEST(every_message_may_be_short),
		TEST(fids_are_bounded),
		TEST(fid_numbers_are_bounded),
		TEST(threads_may_share),
		TEST(sessions_end_under_calls),
		TEST(qids_differ_across_devices),
		TEST(bad_roots_are_refused),
	};

	return cmocka_run_group_tests_name("p9", tests, NULL, NULL);
}
