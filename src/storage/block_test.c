/*
 * Raw back ends: every operation on real files and devices, by either engine,
 * and what happens when the host has no more room, no more file or no wish to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "storage/block_impl.h"

#define PATIENCE_NS (20 * NS_PER_SEC)
#define FILE_SIZE (4 * MIB)

static char dir[] = "/tmp/block_test.XXXXXX";
static const char *aio; /* the engine that this round of tests is about */

/* ---- the rig ------------------------------------------------------------ */

struct rig {
	struct loop *loop;
	struct block *block;
	char *path; /* owned: of the file */
	int fd;     /* how the test sees the file */
	unsigned resized;
	struct err err;
};

static void
on_resized(void *arg)
{
	struct rig *rig = arg;

	rig->resized++;
}

static int
setup(void **state)
{
	static unsigned number;
	struct rig *rig = xcalloc(1, sizeof(*rig));

	rig->loop = loop_new(NULL);
	assert_non_null(rig->loop);
	rig->path = xasprintf("%s/file%u", dir, number++);
	rig->fd = open(rig->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(rig->fd >= 0);
	assert_int_equal(ftruncate(rig->fd, FILE_SIZE), 0);
	*state = rig;
	return 0;
}

static int
teardown(void **state)
{
	struct rig *rig = *state;

	block_close(rig->block);
	loop_free(rig->loop);
	close(rig->fd);
	unlink(rig->path);
	free(rig->path);
	free(rig);
	return 0;
}

/* Open a path with "key=value,...". */
static int
try_open(struct rig *rig, const char *path, const char *options,
    struct block **block)
{
	struct config *config = config_new();
	struct config *node;
	char *copy = xstrdup(options), *rest = copy, *word;
	int rc;

	assert_int_equal(config_make(config, "pci.0.3.0", &node, NULL), 0);
	if (path != NULL)
		assert_int_equal(config_set(node, "path", path, NULL), 0);
	assert_int_equal(config_set(node, "aio", aio, NULL), 0);
	while ((word = strsep(&rest, ",")) != NULL)
		if (*word != '\0')
			assert_int_equal(config_set_option(node, word, NULL),
			    0);
	rc = block_open(rig->loop, node, on_resized, rig, block, &rig->err);
	config_free(config);
	free(copy);
	return rc;
}

static void
rig_open(struct rig *rig, const char *options)
{
	int rc = try_open(rig, rig->path, options, &rig->block);

	if (rc < 0)
		print_error("%s\n", rig->err.msg);
	assert_int_equal(rc, 0);
}

/* One that a test waits for. */
struct call {
	struct block_req req;
	struct iovec iov;
	sem_t done;
};

static void
call_done(struct block_req *req)
{
	sem_post(&container_of(req, struct call, req)->done);
}

static int
wait_for(struct rig *rig, struct call *call)
{
	sem_init(&call->done, 0, 0);
	call->req.done = call_done;
	if (!block_submit(rig->block, &call->req))
		while (sem_wait(&call->done) < 0)
			;
	sem_destroy(&call->done);
	return call->req.error;
}

static int
run(struct rig *rig, enum block_op op, uint64_t offset, void *buf, uint64_t len)
{
	struct call call = {
		.req = { .op = op, .offset = offset, .len = len },
	};

	if (buf != NULL) {
		call.iov.iov_base = buf;
		call.iov.iov_len = len;
		call.req.iov = &call.iov;
		call.req.iov_count = 1;
	}
	return wait_for(rig, &call);
}

static void
fill(void *buf, size_t len, uint32_t seed)
{
	uint8_t *p = buf;

	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24) | 1;
	}
}

/* What the file holds by the test's own descriptor. */
static void
assert_file(const struct rig *rig, uint64_t offset, const void *want,
    size_t len)
{
	void *got = xcalloc(1, len);

	assert_int_equal(pread(rig->fd, got, len, (off_t)offset), len);
	assert_memory_equal(got, want, len);
	free(got);
}

static void
assert_zero(const struct rig *rig, uint64_t offset, size_t len)
{
	void *want = xcalloc(1, len);

	assert_file(rig, offset, want, len);
	free(want);
}

static void
drop_cache(const struct rig *rig)
{
	assert_int_equal(fsync(rig->fd), 0);
	assert_int_equal(posix_fadvise(rig->fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

/* ---- operations --------------------------------------------------------- */

static void
reads_and_writes(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[8192], got[8192];

	rig_open(rig, "");
	fill(buf, sizeof(buf), 1);
	assert_int_equal(run(rig, BLOCK_WRITE, 4096, buf, sizeof(buf)), 0);
	assert_file(rig, 4096, buf, sizeof(buf));
	assert_zero(rig, 0, 4096);
	assert_zero(rig, 4096 + sizeof(buf), 4096);
	memset(got, 0, sizeof(got));
	assert_int_equal(run(rig, BLOCK_READ, 4096, got, sizeof(got)), 0);
	assert_memory_equal(got, buf, sizeof(got));
	/* A single sector, the last. */
	assert_int_equal(run(rig, BLOCK_WRITE, FILE_SIZE - 512, buf, 512), 0);
	assert_file(rig, FILE_SIZE - 512, buf, 512);
}

static void
reads_what_is_not_cached(void **state)
{
	struct rig *rig = *state;
	uint8_t *buf = xcalloc(1, FILE_SIZE), *got = xcalloc(1, FILE_SIZE);

	fill(buf, FILE_SIZE, 2);
	assert_int_equal(pwrite(rig->fd, buf, FILE_SIZE, 0), FILE_SIZE);
	drop_cache(rig);
	rig_open(rig, "");
	assert_int_equal(run(rig, BLOCK_READ, 65536, got, 4096), 0);
	assert_memory_equal(got, buf + 65536, 4096);
	drop_cache(rig);
	assert_int_equal(run(rig, BLOCK_READ, 0, got, FILE_SIZE), 0);
	assert_memory_equal(got, buf, FILE_SIZE);
	free(buf);
	free(got);
}

/* More pieces than one system call takes, empty ones among them. */
static void
scattered_memory(void **state)
{
	enum { PIECES = 3000, PIECE = 256 };
	struct rig *rig = *state;
	struct iovec *iov = xcalloc(2 * PIECES + 1, sizeof(*iov));
	uint8_t *buf = xcalloc(PIECES, PIECE), *got = xcalloc(PIECES, PIECE);

	rig_open(rig, "");
	fill(buf, (size_t)PIECES * PIECE, 3);
	for (unsigned write = 0; write < 2; write++) {
		struct call call = {
			.req = {
				.op = write ? BLOCK_READ : BLOCK_WRITE,
				.offset = 512,
				.len = (uint64_t)PIECES * PIECE,
				.iov = iov,
				.iov_count = 2 * PIECES + 1,
			},
		};
		uint8_t *memory = write ? got : buf;

		for (unsigned i = 0; i < 2 * PIECES + 1; i++) {
			iov[i].iov_base = memory + (size_t)(i / 2) * PIECE;
			iov[i].iov_len = i % 2 == 0 ? 0 : PIECE;
		}
		assert_int_equal(wait_for(rig, &call), 0);
		drop_cache(rig);
	}
	assert_file(rig, 512, buf, (size_t)PIECES * PIECE);
	assert_memory_equal(got, buf, (size_t)PIECES * PIECE);
	free(iov);
	free(buf);
	free(got);
}

static void
flush_and_fua(void **state)
{
	static const char *const options[] = { "", "sync=true", "direct=true" };
	struct rig *rig = *state;
	uint8_t buf[4096];

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		struct call call = {
			.req = {
				.op = BLOCK_WRITE,
				.fua = true,
				.offset = 8192,
				.len = sizeof(buf),
				.iov = &call.iov,
				.iov_count = 1,
			},
			.iov = { buf, sizeof(buf) },
		};

		rig_open(rig, options[i]);
		fill(buf, sizeof(buf), 10 + (uint32_t)i);
		assert_int_equal(wait_for(rig, &call), 0);
		assert_file(rig, 8192, buf, sizeof(buf));
		assert_int_equal(run(rig, BLOCK_WRITE, 0, buf, 512), 0);
		assert_int_equal(run(rig, BLOCK_FLUSH, 0, NULL, 0), 0);
		/* A flush does not look at these. */
		assert_int_equal(run(rig, BLOCK_FLUSH, UINT64_MAX, NULL, 3), 0);
		block_close(rig->block);
		rig->block = NULL;
	}
}

static uint64_t
blocks(const struct rig *rig)
{
	struct stat st;

	assert_int_equal(fsync(rig->fd), 0);
	assert_int_equal(fstat(rig->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Fill the file, then lose a piece of it so. */
static void
lose(struct rig *rig, enum block_op op, bool unmap, bool fua, const char *opt)
{
	struct call call = {
		.req = {
			.op = op,
			.unmap = unmap,
			.fua = fua,
			.offset = MIB,
			.len = 2 * MIB,
		},
	};
	uint8_t *buf = xcalloc(1, FILE_SIZE);

	rig_open(rig, opt);
	fill(buf, FILE_SIZE, 4);
	assert_int_equal(run(rig, BLOCK_WRITE, 0, buf, FILE_SIZE), 0);
	assert_int_equal(wait_for(rig, &call), 0);
	assert_file(rig, 0, buf, MIB);
	assert_zero(rig, MIB, 2 * MIB);
	assert_file(rig, 3 * MIB, buf + 3 * MIB, MIB);
	block_close(rig->block);
	rig->block = NULL;
	free(buf);
}

static void
discard_frees_space(void **state)
{
	struct rig *rig = *state;

	lose(rig, BLOCK_DISCARD, false, false, "");
	assert_true(blocks(rig) <= FILE_SIZE - 2 * MIB + 64 * KIB);
	lose(rig, BLOCK_DISCARD, false, false, "nocache=true");
}

static void
zeroes_keep_space_unless_told(void **state)
{
	struct rig *rig = *state;

	lose(rig, BLOCK_WRITE_ZEROES, false, false, "");
	assert_true(blocks(rig) >= FILE_SIZE);
	lose(rig, BLOCK_WRITE_ZEROES, true, true, "nodelete=true");
	assert_true(blocks(rig) >= FILE_SIZE);
	lose(rig, BLOCK_WRITE_ZEROES, true, true, "");
	assert_true(blocks(rig) <= FILE_SIZE - 2 * MIB + 64 * KIB);
	lose(rig, BLOCK_WRITE_ZEROES, false, false, "nocache=true,sync=true");
}

/* A file system that has no such call: they are written, in pieces. */
static void
zeroes_where_the_host_has_none(void **state)
{
	struct rig *rig = *state;
	struct raw *raw;
	struct call call = {
		.req = {
			.op = BLOCK_WRITE_ZEROES,
			.unmap = true,
			.offset = 512,
			.len = 3 * MIB + 512,
		},
	};
	uint8_t *buf = xcalloc(1, FILE_SIZE);

	for (unsigned nocache = 0; nocache < 2; nocache++) {
		rig_open(rig, nocache ? "nocache=true" : "");
		if (nocache) {
			struct block_info info;

			block_info(rig->block, &info);
			call.req.offset = info.sector;
			call.req.len = 3 * MIB + info.sector;
		}
		raw = rig->block->own;
		atomic_store(&raw->no_zero_range, true);
		atomic_store(&raw->no_punch, true);
		fill(buf, FILE_SIZE, 5);
		assert_int_equal(run(rig, BLOCK_WRITE, 0, buf, FILE_SIZE), 0);
		assert_int_equal(wait_for(rig, &call), 0);
		assert_file(rig, 0, buf, call.req.offset);
		assert_zero(rig, call.req.offset, call.req.len);
		assert_file(rig, call.req.offset + call.req.len,
		    buf + call.req.offset + call.req.len,
		    FILE_SIZE - call.req.offset - call.req.len);
		block_close(rig->block);
		rig->block = NULL;
	}
	free(buf);
}

/* ---- refusals ----------------------------------------------------------- */

static void
bad_requests_are_refused(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[4096] = { 1 };
	struct call call = {
		.req = {
			.op = BLOCK_WRITE,
			.len = 1024,
			.iov = &call.iov,
			.iov_count = 1,
		},
		.iov = { buf, 512 },
	};

	rig_open(rig, "");
	assert_int_equal(run(rig, BLOCK_READ, 1, buf, 512), -EINVAL);
	assert_int_equal(run(rig, BLOCK_READ, 0, buf, 513), -EINVAL);
	assert_int_equal(run(rig, BLOCK_READ, FILE_SIZE, buf, 512), -ERANGE);
	assert_int_equal(run(rig, BLOCK_READ, FILE_SIZE, buf, 0), 0);
	assert_int_equal(run(rig, BLOCK_WRITE, FILE_SIZE - 512, buf, 1024),
	    -ERANGE);
	assert_int_equal(run(rig, BLOCK_WRITE, UINT64_MAX - 511, buf, 1024),
	    -ERANGE);
	assert_int_equal(run(rig, BLOCK_DISCARD, 512, NULL, UINT64_MAX - 511),
	    -ERANGE);
	assert_int_equal(run(rig, BLOCK_WRITE_ZEROES, 0, NULL, FILE_SIZE + 512),
	    -ERANGE);
	assert_int_equal(run(rig, (enum block_op)77, 0, NULL, 512),
	    -EOPNOTSUPP);
	/* Memory that is not as long as it should be, or longer. */
	assert_int_equal(wait_for(rig, &call), -EINVAL);
	call.iov.iov_len = SIZE_MAX;
	assert_int_equal(wait_for(rig, &call), -EINVAL);
	call.req.iov_count = 0;
	assert_int_equal(wait_for(rig, &call), -EINVAL);
	assert_zero(rig, 0, FILE_SIZE);
}

static void
read_only_is_read_only(void **state)
{
	struct rig *rig = *state;
	struct block_info info;
	uint8_t buf[512] = { 1 };

	rig_open(rig, "ro=true");
	block_info(rig->block, &info);
	assert_true(info.read_only);
	assert_false(info.discard);
	assert_int_equal(run(rig, BLOCK_READ, 0, buf, 512), 0);
	assert_int_equal(run(rig, BLOCK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(run(rig, BLOCK_WRITE, 0, buf, 512), -EROFS);
	assert_int_equal(run(rig, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
	assert_int_equal(run(rig, BLOCK_WRITE_ZEROES, 0, NULL, 512), -EROFS);
}

/* A running program cannot be written, whoever we are. */
static void
read_only_where_it_must_be(void **state)
{
	struct rig *rig = *state;
	struct block_info info;

	assert_int_equal(try_open(rig, "/proc/self/exe", "", &rig->block), 0);
	block_info(rig->block, &info);
	assert_true(info.read_only);
}

static void
nodelete_does_not_delete(void **state)
{
	struct rig *rig = *state;
	struct block_info info;

	rig_open(rig, "nodelete=true");
	block_info(rig->block, &info);
	assert_false(info.discard);
	assert_int_equal(run(rig, BLOCK_DISCARD, 0, NULL, 512), -EOPNOTSUPP);
}

/* ---- main --------------------------------------------------------------- */

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

static const struct CMUnitTest tests[] = {
	TEST(reads_and_writes),
	TEST(reads_what_is_not_cached),
	TEST(scattered_memory),
	TEST(flush_and_fua),
	TEST(discard_frees_space),
	TEST(zeroes_keep_space_unless_told),
	TEST(zeroes_where_the_host_has_none),
	TEST(bad_requests_are_refused),
	TEST(read_only_is_read_only),
	TEST(read_only_where_it_must_be),
	TEST(nodelete_does_not_delete),
};

/* Does this host, and this build, have the engine? */
static bool
have(const char *engine)
{
	struct rig *rig;
	void *state;
	int rc;

	aio = engine;
	setup(&state);
	rig = state;
	rc = try_open(rig, rig->path, "", &rig->block);
	if (rc < 0)
		print_message("%s\n", rig->err.msg);
	teardown(&state);
	return rc == 0;
}

int
main(void)
{
	int failed;

	if (mkdtemp(dir) == NULL)
		return 1;
	aio = "threads";
	failed = cmocka_run_group_tests_name("threads", tests, NULL, NULL);
	if (have("io_uring"))
		failed +=
		    cmocka_run_group_tests_name("io_uring", tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
