/*
 * Disks on NBD servers: nbdkit and qemu-nbd on sockets of their own, servers
 * that say no, that vanish and that were never any.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "storage/block.h"

#define SIZE MIB

/* ---- a disk -------------------------------------------------------------- */

struct rig {
	char dir[64];
	char path[96]; /* an image in it */
	struct loop *loop;
	struct config *root;
	struct block *block;
	struct block_info info;
};

static void
rig_init(struct rig *rig, uint64_t size)
{
	struct err err;
	int fd;

	(void)snprintf(rig->dir, sizeof(rig->dir),
	    "/tmp/block_nbd_test.XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	(void)snprintf(rig->path, sizeof(rig->path), "%s/image", rig->dir);
	fd = open(rig->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
	rig->loop = loop_new(&err);
	assert_non_null(rig->loop);
}

static void
rig_close(struct rig *rig)
{
	block_close(rig->block);
	rig->block = NULL;
	config_free(rig->root);
	rig->root = NULL;
}

static void
rig_fini(struct rig *rig)
{
	rig_close(rig);
	loop_free(rig->loop);
	(void)unlink(rig->path);
	(void)rmdir(rig->dir);
}

/* Options: "key=value" words, comma between; path is the image by default. */
static int
rig_try(struct rig *rig, const char *options, struct err *err)
{
	char *words = strdup(options), *save = NULL;
	struct config *node;
	int rc;

	rig->root = config_new();
	assert_int_equal(config_make(rig->root, "disk", &node, err), 0);
	assert_int_equal(config_set(node, "path", rig->path, err), 0);
	for (char *word = strtok_r(words, ",", &save); word != NULL;
	     word = strtok_r(NULL, ",", &save))
		assert_int_equal(config_set_option(node, word, err), 0);
	free(words);
	rc = block_open(rig->loop, node, NULL, NULL, &rig->block, err);
	if (rc < 0) {
		config_free(rig->root);
		rig->root = NULL;
		return rc;
	}
	block_info(rig->block, &rig->info);
	return 0;
}

/* A request that is waited for. */
struct rig_wait {
	struct block_req req;
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	bool over;
};

static void
rig_done(struct block_req *req)
{
	struct rig_wait *wait = (struct rig_wait *)(void *)req;

	pthread_mutex_lock(&wait->mutex);
	wait->over = true;
	pthread_cond_signal(&wait->cond);
	pthread_mutex_unlock(&wait->mutex);
}

static int
rig_do(struct rig *rig, const struct block_req *what)
{
	struct rig_wait wait = { .req = *what,
		.mutex = PTHREAD_MUTEX_INITIALIZER,
		.cond = PTHREAD_COND_INITIALIZER };

	wait.req.done = rig_done;
	if (block_submit(rig->block, &wait.req))
		return wait.req.error;
	pthread_mutex_lock(&wait.mutex);
	while (!wait.over)
		pthread_cond_wait(&wait.cond, &wait.mutex);
	pthread_mutex_unlock(&wait.mutex);
	return wait.req.error;
}

static int
rig_op(struct rig *rig, enum block_op op, uint64_t offset, uint64_t len)
{
	return rig_do(rig,
	    &(struct block_req) { .op = op, .offset = offset, .len = len });
}

static int
rig_read(struct rig *rig, uint64_t offset, void *data, size_t len)
{
	struct iovec iov = { data, len };

	return rig_do(rig,
	    &(struct block_req) { .op = BLOCK_READ,
		.offset = offset,
		.len = len,
		.iov = &iov,
		.iov_count = 1 });
}

static int
rig_write(struct rig *rig, uint64_t offset, const void *data, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)data, len };

	return rig_do(rig,
	    &(struct block_req) { .op = BLOCK_WRITE,
		.offset = offset,
		.len = len,
		.iov = &iov,
		.iov_count = 1 });
}

/* ---- a server ------------------------------------------------------------ */

struct fixture {
	struct rig rig; /* its image is for servers that want a file */
	char socket[96];
	char open[160]; /* the option that names the server */
	pid_t server;
};

static int
setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	rig_init(&f->rig, SIZE);
	(void)snprintf(f->socket, sizeof(f->socket), "%s/s", f->rig.dir);
	(void)snprintf(f->open, sizeof(f->open), "path=nbd+unix:///?socket=%s",
	    f->socket);
	*state = f;
	return 0;
}

static void
kill_server(struct fixture *f)
{
	if (f->server <= 0)
		return;
	(void)kill(f->server, SIGKILL);
	assert_int_equal(waitpid(f->server, NULL, 0), f->server);
	f->server = 0;
	(void)unlink(f->socket);
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	rig_close(&f->rig);
	kill_server(f);
	rig_fini(&f->rig);
	free(f);
	return 0;
}

static int
listen_at(struct fixture *f)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", f->socket);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

/*
 * A server on a socket that listens already, so that nobody has to wait for it
 * to appear: systemd's protocol.
 */
static void
serve(struct fixture *f, const char *const *words)
{
	int fd = listen_at(f);

	f->server = fork();
	assert_true(f->server >= 0);
	if (f->server == 0) {
		char pid[16];

		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
		(void)setenv("LISTEN_PID", pid, 1);
		(void)setenv("LISTEN_FDS", "1", 1);
		if (fd == 3)
			(void)fcntl(fd, F_SETFD, 0);
		else
			(void)dup2(fd, 3);
		execvp(words[0], (char **)(uintptr_t)words);
		_exit(127);
	}
	(void)close(fd);
}

#define SERVE(f, ...) serve(f, (const char *const[]) { __VA_ARGS__, NULL })

/* The server's disk, with more options ("" or ",key=value"). */
static int
try_disk(struct fixture *f, const char *more, struct err *err)
{
	char options[256];

	(void)snprintf(options, sizeof(options), "%s%s", f->open, more);
	return rig_try(&f->rig, options, err);
}

static void
open_disk(struct fixture *f, const char *more)
{
	struct err err;

	if (try_disk(f, more, &err) < 0)
		fail_msg("%s", err.msg);
}

static void
fill(uint8_t *data, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 9));
}

/* ---- servers that work -------------------------------------------------- */

static void
work_through(struct fixture *f)
{
	static uint8_t out[SIZE], in[SIZE], none[SIZE];
	struct rig *rig = &f->rig;
	struct iovec iov[3] = { { in, 1 }, { in + 1, 99 },
		{ in + 100, SIZE - 512 - 100 } };

	assert_int_equal(rig->info.size, SIZE);
	assert_int_equal(rig->info.sector, 512);
	assert_false(rig->info.read_only);
	fill(out, SIZE, 1);
	assert_int_equal(rig_write(rig, 0, out, SIZE), 0);
	assert_int_equal(rig_do(rig,
			     &(struct block_req) { .op = BLOCK_READ,
				 .offset = 512,
				 .len = SIZE - 512,
				 .iov = iov,
				 .iov_count = 3 }),
	    0);
	assert_memory_equal(in, out + 512, SIZE - 512);
	assert_int_equal(rig_op(rig, BLOCK_FLUSH, 0, 0), 0);
	iov[0] = (struct iovec) { out, 4096 };
	assert_int_equal(rig_do(rig,
			     &(struct block_req) { .op = BLOCK_WRITE,
				 .fua = true,
				 .offset = SIZE - 4096,
				 .len = 4096,
				 .iov = iov,
				 .iov_count = 1 }),
	    0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(rig_write(rig, 0, out, SIZE), 0);
		assert_int_equal(rig_do(rig,
				     &(struct block_req) {
					 .op = BLOCK_WRITE_ZEROES,
					 .unmap = i & 1,
					 .fua = i & 2,
					 .offset = 65536,
					 .len = SIZE / 2 }),
		    0);
		assert_int_equal(rig_read(rig, 0, in, SIZE), 0);
		assert_memory_equal(in, out, 65536);
		assert_memory_equal(in + 65536, none, SIZE / 2);
		assert_memory_equal(in + 65536 + SIZE / 2,
		    out + 65536 + SIZE / 2, SIZE / 2 - 65536);
	}
	if (rig->info.discard)
		assert_int_equal(rig_op(rig, BLOCK_DISCARD, 0, SIZE), 0);
	assert_int_equal(rig_read(rig, SIZE, in, 512), -ERANGE);
}

static void
nbdkit_serves(void **state)
{
	SERVE(*state, "nbdkit", "-f", "memory", "1M");
	open_disk(*state, "");
	work_through(*state);
}

static void
qemu_serves(void **state)
{
	struct fixture *f = *state;

	SERVE(f, "qemu-nbd", "-t", "-f", "raw", "--discard=unmap", f->rig.path);
	open_disk(f, "");
	work_through(f);
}

static void
a_server_without_zeroes_is_sent_some(void **state)
{
	SERVE(*state, "nbdkit", "-f", "--filter=nozero", "memory", "1M");
	open_disk(*state, "");
	work_through(*state);
}

/* A server of a few lines of shell: reads zeroes, forgets writes. */
static void
serve_shell(struct fixture *f, const char *fua, const char *flush)
{
	char can_fua[32], script[160];

	(void)snprintf(can_fua, sizeof(can_fua), "can_fua=echo %s", fua);
	(void)snprintf(script, sizeof(script), "flush=f=%s; %s", f->rig.path,
	    flush);
	SERVE(f, "nbdkit", "-f", "eval", "get_size=echo 1M",
	    "pread=head -c $3 /dev/zero", "pwrite=cat >/dev/null",
	    "can_write=exit 0", "can_flush=exit 0", can_fua, script);
}

static void
a_server_without_fua_is_flushed(void **state)
{
	struct fixture *f = *state;
	uint8_t data[512] = { 0 };
	struct iovec iov = { data, sizeof(data) };
	struct block_req req = { .op = BLOCK_WRITE,
		.fua = true,
		.len = sizeof(data),
		.iov = &iov,
		.iov_count = 1 };

	serve_shell(f, "none", "rm $f");
	open_disk(f, "");
	assert_int_equal(rig_write(&f->rig, 0, data, 512), 0);
	assert_int_equal(access(f->rig.path, F_OK), 0);
	assert_int_equal(rig_do(&f->rig, &req), 0);
	assert_int_equal(access(f->rig.path, F_OK), -1);
}

static void
direct_makes_every_write_durable(void **state)
{
	struct fixture *f = *state;
	uint8_t data[512] = { 0 };

	serve_shell(f, "none", "rm $f");
	open_disk(f, ",direct=true");
	assert_int_equal(rig_write(&f->rig, 0, data, 512), 0);
	assert_int_equal(access(f->rig.path, F_OK), -1);
}

static void
a_flush_that_failed_is_remembered(void **state)
{
	struct fixture *f = *state;

	serve_shell(f, "none",
	    "test -e $f || exit 0; rm $f; echo EIO >&2; exit 1");
	open_disk(f, "");
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), -EIO);
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), -EIO);
}

static void
a_read_only_export_is_read_only(void **state)
{
	struct fixture *f = *state;
	uint8_t data[512];

	SERVE(f, "nbdkit", "-f", "-r", "memory", "1M");
	open_disk(f, "");
	assert_true(f->rig.info.read_only);
	assert_int_equal(rig_write(&f->rig, 0, data, 512), -EROFS);
	assert_int_equal(rig_read(&f->rig, 0, data, 512), 0);
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), 0);
}

static void
a_servers_blocks_are_kept(void **state)
{
	struct fixture *f = *state;
	static uint8_t data[SIZE];
	struct err err;

	SERVE(f, "nbdkit", "-f", "--filter=blocksize-policy", "memory", "1M",
	    "blocksize-minimum=4096", "blocksize-preferred=16384",
	    "blocksize-maximum=65536", "blocksize-error-policy=error");
	assert_int_equal(try_disk(f, ",sectorsize=512", &err), -EINVAL);
	assert_non_null(strstr(err.msg, "disk.sectorsize"));
	open_disk(f, "");
	assert_int_equal(f->rig.info.sector, 4096);
	assert_int_equal(f->rig.info.physical, 16384);
	assert_int_equal(rig_write(&f->rig, 0, data, SIZE), 0);
	assert_int_equal(rig_read(&f->rig, 4096, data, SIZE - 4096), 0);
	assert_int_equal(rig_read(&f->rig, 512, data, 4096), -EINVAL);
}

/* ---- many at once ------------------------------------------------------- */

#define SLOTS 16
#define AREA (SIZE / SLOTS)

struct slot {
	struct block_req req; /* first */
	struct storm *storm;
	unsigned seed;
	unsigned rounds;
	uint8_t model[AREA];
	uint8_t data[AREA];
	struct iovec iov;
};

struct storm {
	struct block *block;
	struct slot slots[SLOTS];
	_Atomic unsigned wrong;
	_Atomic unsigned failed;
};

static void
slot_next(struct slot *slot)
{
	unsigned dice;
	uint64_t first, count;

	if (slot->rounds == 0)
		return;
	slot->rounds--;
	dice = (unsigned)rand_r(&slot->seed);
	first = (dice >> 3) % (AREA / 512);
	count = 1 + (dice >> 12) % (AREA / 512 - first);
	slot->req.offset =
	    (uint64_t)(slot - slot->storm->slots) * AREA + first * 512;
	slot->req.len = count * 512;
	slot->req.op = dice & 1 ? BLOCK_WRITE : BLOCK_READ;
	if (slot->req.op == BLOCK_WRITE) {
		fill(slot->data, slot->req.len, dice);
		memcpy(slot->model + first * 512, slot->data, slot->req.len);
	}
	slot->iov = (struct iovec) { slot->data, slot->req.len };
	slot->req.iov = &slot->iov;
	slot->req.iov_count = 1;
	/* Nothing of a server is done within the call, but after its end. */
	if (block_submit(slot->storm->block, &slot->req))
		atomic_fetch_add(&slot->storm->failed, 1);
}

static void
slot_done(struct block_req *req)
{
	struct slot *slot = (struct slot *)(void *)req;

	if (req->error != 0)
		atomic_fetch_add(&slot->storm->failed, 1);
	else if (req->op == BLOCK_READ &&
	    memcmp(slot->data, slot->model + req->offset % AREA, req->len) != 0)
		atomic_fetch_add(&slot->storm->wrong, 1);
	slot_next(slot);
}

static struct storm *
storm_new(struct rig *rig, unsigned rounds)
{
	struct storm *storm = xcalloc(1, sizeof(*storm));

	storm->block = rig->block;
	block_plug(rig->block);
	for (unsigned i = 0; i < SLOTS; i++) {
		storm->slots[i].storm = storm;
		storm->slots[i].seed = i + 1;
		storm->slots[i].rounds = rounds;
		storm->slots[i].req.done = slot_done;
		slot_next(&storm->slots[i]);
	}
	block_unplug(rig->block);
	return storm;
}

static void
many_at_once_mix_nothing_up(void **state)
{
	struct fixture *f = *state;
	struct storm *storm;

	SERVE(f, "nbdkit", "-f", "memory", "1M");
	open_disk(f, "");
	storm = storm_new(&f->rig, 100);
	block_drain(f->rig.block);
	assert_int_equal(storm->failed, 0);
	assert_int_equal(storm->wrong, 0);
	free(storm);
}

/* ---- servers that do not ------------------------------------------------ */

static void
errors_reach_the_request(void **state)
{
	struct fixture *f = *state;
	uint8_t data[512] = { 0 };

	SERVE(f, "nbdkit", "-f", "--filter=error", "memory", "1M",
	    "error-pwrite=ENOSPC", "error-pwrite-rate=100%", "error-trim=EPERM",
	    "error-trim-rate=100%");
	open_disk(f, "");
	assert_int_equal(rig_write(&f->rig, 0, data, 512), -ENOSPC);
	assert_int_equal(rig_op(&f->rig, BLOCK_DISCARD, 0, 512), -EIO);
	assert_int_equal(rig_read(&f->rig, 0, data, 512), 0);
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), 0);
}

static void
a_server_that_vanishes_fails_all(void **state)
{
	struct fixture *f = *state;
	struct storm *storm;
	uint8_t data[512] = { 0 };

	/* Reads are answered after an hour: they are in flight till the end. */
	SERVE(f, "nbdkit", "-f", "--filter=delay", "memory", "1M",
	    "delay-read=3600");
	open_disk(f, "");
	assert_int_equal(rig_write(&f->rig, 0, data, 512), 0);
	storm = storm_new(&f->rig, 8);
	kill_server(f);
	block_drain(f->rig.block);
	assert_true(storm->failed > 0);
	assert_int_equal(storm->wrong, 0);
	free(storm);
	assert_int_equal(rig_read(&f->rig, 0, data, 512), -EIO);
	assert_int_equal(rig_write(&f->rig, 0, data, 512), -EIO);
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), -EIO);
}

#define SERVE_FILE(f) SERVE(f, "nbdkit", "-f", "file", (f)->rig.path)

static void
a_server_that_comes_back_goes_on(void **state)
{
	struct fixture *f = *state;
	uint8_t out[512], in[512];

	SERVE_FILE(f);
	open_disk(f, ",reconnect=60");
	fill(out, 512, 3);
	assert_int_equal(rig_write(&f->rig, 0, out, 512), 0);
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), 0);
	kill_server(f);
	SERVE_FILE(f);
	assert_int_equal(rig_read(&f->rig, 0, in, 512), 0);
	assert_memory_equal(in, out, 512);
	assert_int_equal(rig_write(&f->rig, 512, out, 512), 0);
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), 0);
}

static void
what_a_server_may_have_lost_is_not_flushed(void **state)
{
	struct fixture *f = *state;
	uint8_t data[512] = { 0 };

	SERVE_FILE(f);
	open_disk(f, ",reconnect=60");
	assert_int_equal(rig_write(&f->rig, 0, data, 512), 0);
	kill_server(f);
	SERVE_FILE(f);
	assert_int_equal(rig_read(&f->rig, 0, data, 512), 0);
	assert_int_equal(rig_op(&f->rig, BLOCK_FLUSH, 0, 0), -EIO);
}

static void
another_disk_is_not_taken_for_ours(void **state)
{
	struct fixture *f = *state;
	uint8_t data[512];

	SERVE_FILE(f);
	open_disk(f, ",reconnect=1");
	kill_server(f);
	SERVE(f, "nbdkit", "-f", "memory", "2M");
	assert_int_equal(rig_read(&f->rig, 0, data, 512), -EIO);
}

static void
closing_waits_for_no_server(void **state)
{
	struct fixture *f = *state;
	struct storm *storm;

	SERVE(f, "nbdkit", "-f", "--filter=delay", "memory", "1M",
	    "delay-read=3600");
	open_disk(f, ",reconnect=3600");
	storm = storm_new(&f->rig, 8);
	kill_server(f);
	rig_close(&f->rig);
	assert_true(storm->failed > 0);
	assert_int_equal(storm->wrong, 0);
	free(storm);
}

static void
a_server_must_be_able_to_keep_data(void **state)
{
	struct fixture *f = *state;
	struct err err;

	SERVE(f, "nbdkit", "-f", "eval", "get_size=echo 1M", "pread=exit 1",
	    "pwrite=exit 1", "can_write=exit 0");
	assert_int_equal(try_disk(f, "", &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "ro=true"));
	open_disk(f, ",ro=true");
}

static void
no_server_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct err err;

	assert_true(try_disk(f, "", &err) < 0);
	assert_non_null(strstr(err.msg, "disk.path"));
	assert_non_null(strstr(err.msg, f->socket));
	assert_true(rig_try(&f->rig, "path=nbd://", &err) < 0);
	assert_true(rig_try(&f->rig, "path=nbd+unix:///", &err) < 0);
	assert_int_equal(try_disk(f, ",nocache=true", &err), -EINVAL);
	assert_non_null(strstr(err.msg, "disk.nocache"));
	assert_true(try_disk(f, ",reconnect=-1", &err) < 0);
	assert_non_null(strstr(err.msg, "disk.reconnect"));
}

static void
a_babbler_is_no_server(void **state)
{
	struct fixture *f = *state;
	struct err err;
	int fd = listen_at(f);

	f->server = fork();
	if (f->server == 0) {
		uint8_t babble[4096];
		int peer = accept(fd, NULL, NULL);

		memset(babble, 0xff, sizeof(babble));
		memcpy(babble, "NBDMAGICIHAVEOPT", 16);
		(void)!write(peer, babble, sizeof(babble));
		_exit(0);
	}
	(void)close(fd);
	assert_true(try_disk(f, "", &err) < 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

/* The test's peers may be missing, and the program may know no servers. */
static bool
can_test(void)
{
	struct fixture *f;
	struct err err = { "" };

	if (system("nbdkit --version >/dev/null 2>&1") != 0 ||
	    system("qemu-nbd --version >/dev/null 2>&1") != 0)
		return false;
	setup((void **)&f);
	(void)try_disk(f, "", &err);
	teardown((void **)&f);
	return strstr(err.msg, "built without") == NULL;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nbdkit_serves),
		TEST(qemu_serves),
		TEST(a_server_without_zeroes_is_sent_some),
		TEST(a_server_without_fua_is_flushed),
		TEST(direct_makes_every_write_durable),
		TEST(a_flush_that_failed_is_remembered),
		TEST(a_read_only_export_is_read_only),
		TEST(a_servers_blocks_are_kept),
		TEST(many_at_once_mix_nothing_up),
		TEST(errors_reach_the_request),
		TEST(a_server_that_vanishes_fails_all),
		TEST(a_server_that_comes_back_goes_on),
		TEST(what_a_server_may_have_lost_is_not_flushed),
		TEST(another_disk_is_not_taken_for_ours),
		TEST(closing_waits_for_no_server),
		TEST(a_server_must_be_able_to_keep_data),
		TEST(no_server_is_an_error),
		TEST(a_babbler_is_no_server),
	};

	if (!can_test())
		return 77; /* skipped */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
