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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "storage/block_impl.h"

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

/* ---- memory that O_DIRECT does not like --------------------------------- */

static void
nocache_takes_any_memory(void **state)
{
	struct rig *rig = *state;
	size_t len = 3 * BOUNCE_SIZE;
	uint8_t *memory = xcalloc(1, len + 4096), *buf = memory + 1;
	struct block_info info;
	struct iovec iov[3];
	struct call call = {
		.req = {
			.op = BLOCK_READ,
			.len = len,
			.iov = iov,
			.iov_count = ARRAY_SIZE(iov),
		},
	};

	rig_open(rig, "nocache=true");
	block_info(rig->block, &info);
	call.req.offset = info.sector;
	fill(buf, len, 6);
	assert_int_equal(run(rig, BLOCK_WRITE, info.sector, buf, len), 0);
	assert_file(rig, info.sector, buf, len);
	assert_zero(rig, 0, info.sector);
	assert_zero(rig, info.sector + len, info.sector);
	/* And pieces of any length. */
	memset(memory, 0, len + 4096);
	iov[0].iov_base = memory + 3;
	iov[0].iov_len = 77777;
	iov[1].iov_base = memory + 3 + 77777;
	iov[1].iov_len = 1;
	iov[2].iov_base = memory + 3 + 77778;
	iov[2].iov_len = len - 77778;
	assert_int_equal(wait_for(rig, &call), 0);
	assert_file(rig, info.sector, memory + 3, len);
	assert_int_equal(memory[2], 0);
	assert_int_equal(memory[3 + len], 0);
	free(memory);
}

/* ---- many at once ------------------------------------------------------- */

#define STORM_SLOTS 16
#define STORM_THREADS 4
#define STORM_ROUNDS 600
#define STORM_SLOT_SIZE (FILE_SIZE / STORM_THREADS / STORM_SLOTS)

/* A piece of the file that has one request in flight, and what it holds. */
struct slot {
	struct call call;
	struct iovec iov[3];
	uint8_t *model; /* owned, STORM_SLOT_SIZE */
	uint8_t *buf;   /* owned, STORM_SLOT_SIZE */
	size_t at;      /* of the request, in the slot */
	bool pending;
};

struct storm {
	struct rig *rig;
	pthread_t thread;
	unsigned number;
	unsigned wrong;
};

static void
slot_start(struct storm *storm, unsigned n, struct slot *slot, uint32_t r)
{
	uint64_t base =
	    (storm->number * STORM_SLOTS + n) * (uint64_t)STORM_SLOT_SIZE;
	size_t sectors = STORM_SLOT_SIZE / 4096;
	size_t at = (r >> 8) % sectors, count = 1 + (r >> 16) % (sectors - at);
	struct block_req *req = &slot->call.req;
	size_t first;

	*req = (struct block_req) {
		.op = (enum block_op)(r % 5),
		.fua = (r & 0x20) != 0 && (r & 0x40) != 0,
		.unmap = (r & 0x80) != 0,
		.offset = base + at * 4096,
		.len = count * 4096,
		.iov = slot->iov,
		.iov_count = ARRAY_SIZE(slot->iov),
		.done = call_done,
	};
	slot->at = at * 4096;
	/* What a discarded sector holds nobody knows, so nobody must ask. */
	if (req->op == BLOCK_DISCARD)
		req->op = BLOCK_WRITE_ZEROES;
	if (req->op == BLOCK_WRITE) {
		fill(slot->buf, req->len, r);
		memcpy(slot->model + slot->at, slot->buf, req->len);
	} else if (req->op == BLOCK_WRITE_ZEROES) {
		memset(slot->model + slot->at, 0, req->len);
	} else {
		memset(slot->buf, 0xee, req->len);
	}
	first = (r >> 4) % (req->len + 1);
	if (r >> 31)
		first = round_down(first, 4096); /* as O_DIRECT likes it */
	slot->iov[0] = (struct iovec) { slot->buf, first };
	slot->iov[1] = (struct iovec) { slot->buf + first, 0 };
	slot->iov[2] = (struct iovec) { slot->buf + first, req->len - first };
	slot->pending = !block_submit(storm->rig->block, req);
}

static void
slot_finish(struct storm *storm, struct slot *slot)
{
	const struct block_req *req = &slot->call.req;

	if (slot->pending)
		while (sem_wait(&slot->call.done) < 0)
			;
	slot->pending = false;
	if (req->done == NULL)
		return;
	if (req->error != 0)
		storm->wrong++;
	if (req->op == BLOCK_READ &&
	    memcmp(slot->buf, slot->model + slot->at, req->len) != 0)
		storm->wrong++;
}

static void *
storm_run(void *arg)
{
	struct storm *storm = arg;
	struct slot *slots = xcalloc(STORM_SLOTS, sizeof(*slots));
	uint32_t r = storm->number + 1;

	for (unsigned i = 0; i < STORM_SLOTS; i++) {
		slots[i].model = xcalloc(1, STORM_SLOT_SIZE);
		slots[i].buf = aligned_alloc(4096, STORM_SLOT_SIZE);
		sem_init(&slots[i].call.done, 0, 0);
	}
	for (unsigned i = 0; i < STORM_ROUNDS; i++) {
		unsigned n, burst = 1;

		r = r * 1664525 + 1013904223;
		if ((r >> 24) % 4 == 0) {
			burst = STORM_SLOTS / 2;
			block_plug(storm->rig->block);
		}
		/* Only what is not plugged may be waited for. */
		for (unsigned j = 0; j < burst; j++) {
			n = (i + j) % STORM_SLOTS;
			if (slots[n].pending && burst > 1)
				continue;
			slot_finish(storm, &slots[n]);
			slot_start(storm, n, &slots[n], r ^ (j * 0x9e3779b9u));
		}
		if (burst > 1)
			block_unplug(storm->rig->block);
	}
	for (unsigned i = 0; i < STORM_SLOTS; i++) {
		slot_finish(storm, &slots[i]);
		sem_destroy(&slots[i].call.done);
		free(slots[i].model);
		free(slots[i].buf);
	}
	free(slots);
	return NULL;
}

static void
storm(struct rig *rig, const char *options)
{
	struct storm storms[STORM_THREADS];

	assert_int_equal(ftruncate(rig->fd, 0), 0);
	assert_int_equal(ftruncate(rig->fd, FILE_SIZE), 0);
	rig_open(rig, options);
	for (unsigned i = 0; i < STORM_THREADS; i++) {
		storms[i] = (struct storm) { .rig = rig, .number = i };
		assert_int_equal(pthread_create(&storms[i].thread, NULL,
				     storm_run, &storms[i]),
		    0);
	}
	for (unsigned i = 0; i < STORM_THREADS; i++) {
		pthread_join(storms[i].thread, NULL);
		assert_int_equal(storms[i].wrong, 0);
	}
	block_close(rig->block);
	rig->block = NULL;
}

static void
a_storm_keeps_every_byte(void **state)
{
	storm(*state, "");
}

static void
a_storm_past_the_cache_keeps_every_byte(void **state)
{
	storm(*state, "nocache=true");
}

/* Requests that count themselves, and start one more each when told to. */
struct count {
	struct block *block;
	bool read; /* else they write and flush */
	_Atomic unsigned done;
	_Atomic int more;
	_Atomic unsigned errors;
};

struct counted {
	struct block_req req;
	struct iovec iov;
	struct count *count;
	uint8_t *buf;
};

static void counted_done(struct block_req *req);

static void
counted_start(struct counted *c, uint64_t offset)
{
	c->iov = (struct iovec) { c->buf, 4096 };
	c->req = (struct block_req) {
		.op = c->count->read         ? BLOCK_READ :
		    offset % (4 * 4096) == 0 ? BLOCK_FLUSH :
					       BLOCK_WRITE,
		.fua = offset % (32 * 4096) == 4096,
		.offset = offset,
		.len = 4096,
		.iov = &c->iov,
		.iov_count = 1,
		.done = counted_done,
	};
	if (block_submit(c->count->block, &c->req))
		counted_done(&c->req);
}

static void
counted_done(struct block_req *req)
{
	struct counted *c = container_of(req, struct counted, req);

	if (req->error != 0)
		atomic_fetch_add(&c->count->errors, 1);
	if (atomic_fetch_sub(&c->count->more, 1) > 0)
		counted_start(c, req->offset);
	atomic_fetch_add(&c->count->done, 1);
}

#define COUNTED 600 /* more than a ring has room for */

static struct counted *
start_many(struct rig *rig, struct count *count)
{
	struct counted *c = xcalloc(COUNTED, sizeof(*c));

	count->block = rig->block;
	for (unsigned i = 0; i < COUNTED; i++) {
		c[i].count = count;
		c[i].buf = aligned_alloc(4096, 4096);
		memset(c[i].buf, (int)i, 4096);
		counted_start(&c[i], (uint64_t)i * 4096);
	}
	return c;
}

static void
free_many(struct counted *c)
{
	for (unsigned i = 0; i < COUNTED; i++)
		free(c[i].buf);
	free(c);
}

static void
drain_waits_for_all(void **state)
{
	struct rig *rig = *state;
	struct count count = { .more = 100 };
	struct counted *c;

	rig_open(rig, "nocache=true");
	c = start_many(rig, &count);
	block_drain(rig->block);
	assert_int_equal(count.done, COUNTED + 100);
	assert_int_equal(count.errors, 0);
	block_drain(rig->block); /* of nothing */
	free_many(c);
}

static void
close_waits_for_all(void **state)
{
	struct rig *rig = *state;
	struct count count = { .more = 0 };
	struct counted *c;

	rig_open(rig, "");
	c = start_many(rig, &count);
	block_close(rig->block);
	rig->block = NULL;
	assert_int_equal(count.done, COUNTED);
	assert_int_equal(count.errors, 0);
	free_many(c);
}

struct short_life {
	struct rig *rig;
	struct count *count;
	struct counted *c;
};

static void *
submit_and_die(void *arg)
{
	struct short_life *life = arg;

	life->c = start_many(life->rig, life->count);
	return NULL;
}

/* An io_uring fails what a thread has submitted when that thread ends. */
static void
end_submitters(struct rig *rig, bool read)
{
	for (unsigned i = 0; i < 3; i++) {
		struct count count = { .read = read };
		struct short_life life = { .rig = rig, .count = &count };
		pthread_t thread;

		drop_cache(rig);
		assert_int_equal(pthread_create(&thread, NULL, submit_and_die,
				     &life),
		    0);
		pthread_join(thread, NULL);
		block_drain(rig->block);
		assert_int_equal(count.done, COUNTED);
		assert_int_equal(count.errors, 0);
		free_many(life.c);
	}
}

static void
submitters_may_end(void **state)
{
	struct rig *rig = *state;
	const struct raw *raw;

	rig_open(rig, "nocache=true");
	end_submitters(rig, false);
	block_close(rig->block);
	rig_open(rig, "");
	raw = rig->block->own;
	/* Each waits for the disk. */
	assert_int_equal(posix_fadvise(raw->fd, 0, 0, POSIX_FADV_RANDOM), 0);
	end_submitters(rig, true);
}

/* ---- errors of the host ------------------------------------------------- */

static void
writing_beyond_a_limit_is_an_error(void **state)
{
	struct rig *rig = *state;
	struct rlimit old, low;
	uint8_t *buf = xcalloc(1, MIB);
	int at_once, odd;

	rig_open(rig, "");
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = old;
	low.rlim_cur = 2 * MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	at_once = run(rig, BLOCK_WRITE, 3 * MIB, buf, 4096);
	/* The first half fits. */
	odd = run(rig, BLOCK_WRITE, 3 * MIB / 2, buf, MIB);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(at_once, -EFBIG);
	assert_int_equal(odd, -EFBIG);
	assert_int_equal(run(rig, BLOCK_WRITE, 3 * MIB, buf, 4096), 0);
	free(buf);
}

/* In a child, in a mount namespace of its own: 0 if all is well. */
static int
fill_tmpfs(struct rig *rig)
{
	char path[] = "/tmp/full";
	uint8_t *buf = xcalloc(1, MIB);
	struct block *block;
	int fd, rc, early, late, flush, again;

	if (unshare(CLONE_NEWNS) < 0 &&
	    unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return 77;
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "/tmp", "tmpfs", 0, "size=1m") < 0)
		return 77;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, 4 * MIB) < 0)
		return 1;
	close(fd);
	rc = try_open(rig, path, "", &block);
	if (rc < 0)
		return 2;
	rig->block = block;
	fill(buf, MIB, 7);
	early = run(rig, BLOCK_WRITE, 0, buf, MIB / 2);
	late = run(rig, BLOCK_WRITE, 2 * MIB, buf, MIB);
	flush = run(rig, BLOCK_FLUSH, 0, NULL, 0);
	/* Room again: what is discarded is there for others. */
	again = run(rig, BLOCK_DISCARD, 0, NULL, 4 * MIB);
	if (again == 0)
		again = run(rig, BLOCK_WRITE, 3 * MIB, buf, MIB / 2);
	block_close(block);
	rig->block = NULL;
	free(buf);
	if (early != 0)
		return 3;
	if (late != -ENOSPC)
		return 4;
	if (flush != 0)
		return 5;
	return again == 0 ? 0 : 6;
}

static void
a_full_file_system_is_an_error(void **state)
{
	struct rig *rig = *state;
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fill_tmpfs(rig));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* nobody lets us mount */
	assert_int_equal(WEXITSTATUS(status), 0);
}

static unsigned complaints;

static void
count_complaint(enum log_level level, const char *line)
{
	complaints++;
}

/* The kernel tells once; the guest must not take the next flush for the truth. */
static void
a_failed_flush_stays_failed(void **state)
{
	struct rig *rig = *state;
	struct block_req flush = { .op = BLOCK_FLUSH };
	struct block_req write = { .op = BLOCK_WRITE };
	struct block_req read = { .op = BLOCK_READ };
	struct raw *raw;

	log_set_sink(count_complaint);
	complaints = 0;
	rig_open(rig, "");
	raw = rig->block->own;
	assert_int_equal(raw_result(raw, &write, -EIO), -EIO);
	assert_int_equal(raw_result(raw, &read, -EIO), -EIO);
	assert_int_equal(run(rig, BLOCK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(raw_result(raw, &flush, -ENOSPC), -ENOSPC);
	assert_int_equal(run(rig, BLOCK_FLUSH, 0, NULL, 0), -ENOSPC);
	assert_int_equal(raw_result(raw, &flush, -EIO), -ENOSPC);
	assert_int_equal(complaints, 1);
	block_close(rig->block);
	rig_open(rig, "");
	raw = rig->block->own;
	write.fua = true;
	assert_int_equal(raw_result(raw, &write, -ENOSPC), -ENOSPC);
	assert_int_equal(run(rig, BLOCK_FLUSH, 0, NULL, 0), 0);
	assert_int_equal(raw_result(raw, &write, -EIO), -EIO);
	assert_int_equal(run(rig, BLOCK_FLUSH, 0, NULL, 0), -EIO);
	log_set_sink(NULL);
}

/* ---- size --------------------------------------------------------------- */

static uint64_t
size_of(struct rig *rig)
{
	struct block_info info;

	block_info(rig->block, &info);
	return info.size;
}

static void
wait_resized(struct rig *rig, unsigned count)
{
	for (unsigned i = 0; i < 20 && rig->resized < count; i++)
		loop_run_once(rig->loop, 1000);
	assert_int_equal(rig->resized, count);
}

static void
a_resize_is_noticed(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[4096] = { 1 };

	rig_open(rig, "");
	assert_int_equal(size_of(rig), FILE_SIZE);
	assert_int_equal(ftruncate(rig->fd, 2 * FILE_SIZE + 511), 0);
	assert_int_equal(run(rig, BLOCK_READ, FILE_SIZE, buf, 512), -ERANGE);
	wait_resized(rig, 1);
	assert_int_equal(size_of(rig), 2 * FILE_SIZE);
	assert_int_equal(run(rig, BLOCK_READ, FILE_SIZE, buf, 512), 0);
	/* Shorter: an error of the host first, of ours then, never a signal. */
	assert_int_equal(ftruncate(rig->fd, MIB), 0);
	assert_int_equal(run(rig, BLOCK_READ, 2 * MIB, buf, 512), -EIO);
	assert_int_equal(run(rig, BLOCK_READ, MIB - 512, buf, 1024), -EIO);
	wait_resized(rig, 2);
	assert_int_equal(size_of(rig), MIB);
	assert_int_equal(run(rig, BLOCK_READ, 2 * MIB, buf, 512), -ERANGE);
	assert_int_equal(run(rig, BLOCK_WRITE, 2 * MIB, buf, 512), -ERANGE);
	assert_int_equal(run(rig, BLOCK_READ, MIB - 512, buf, 512), 0);
	assert_int_equal(ftruncate(rig->fd, 0), 0);
	wait_resized(rig, 3);
	assert_int_equal(size_of(rig), 0);
	assert_int_equal(run(rig, BLOCK_READ, 0, buf, 512), -ERANGE);
}

static void
a_shrunk_file_past_the_cache_is_an_error(void **state)
{
	struct rig *rig = *state;
	uint8_t *buf = aligned_alloc(4096, MIB);

	rig_open(rig, "nocache=true");
	assert_int_equal(ftruncate(rig->fd, MIB + 100), 0);
	assert_int_equal(run(rig, BLOCK_READ, 2 * MIB, buf, MIB), -EIO);
	assert_int_equal(run(rig, BLOCK_READ, MIB / 2, buf, MIB), -EIO);
	assert_int_equal(run(rig, BLOCK_READ, MIB / 2, buf, MIB / 2), 0);
	free(buf);
}

static void
our_own_writes_are_no_resize(void **state)
{
	struct rig *rig = *state;
	uint8_t buf[4096] = { 1 };

	rig_open(rig, "");
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(run(rig, BLOCK_WRITE, i * 4096, buf, 4096), 0);
		loop_run_once(rig->loop, 0);
	}
	assert_int_equal(rig->resized, 0);
}

/* ---- opening ------------------------------------------------------------ */

static void
a_second_opener_is_refused(void **state)
{
	struct rig *rig = *state;
	struct block *second = NULL;

	rig_open(rig, "");
	assert_int_equal(try_open(rig, rig->path, "", &second), -EBUSY);
	assert_non_null(strstr(rig->err.msg, rig->path));
	assert_non_null(strstr(rig->err.msg, "pci.0.3.0.path: "));
	assert_int_equal(try_open(rig, rig->path, "ro=true", &second), -EBUSY);
	assert_null(second);
	assert_int_equal(try_open(rig, rig->path, "lock=false", &second), 0);
	block_close(second);
	/* Closing it has not given our lock away. */
	assert_int_equal(try_open(rig, rig->path, "", &second), -EBUSY);
	block_close(rig->block);
	rig_open(rig, "ro=true");
	assert_int_equal(try_open(rig, rig->path, "ro=true", &second), 0);
	block_close(second);
	assert_int_equal(try_open(rig, rig->path, "", &second), -EBUSY);
}

static void
sectors_follow_the_rules(void **state)
{
	struct rig *rig = *state;
	static const struct {
		const char *text;
		uint32_t logical; /* 0: refused */
		uint32_t physical;
	} cases[] = {
		{ "512", 512, 512 },
		{ "4096", 4096, 4096 },
		{ "512/4096", 512, 4096 },
		{ "0x1000/8192", 4096, 8192 },
		{ "1048576", 1048576, 1048576 },
		{ "512/512", 512, 512 },
		{ "0", 0, 0 },
		{ "1", 0, 0 },
		{ "256", 0, 0 },
		{ "511", 0, 0 },
		{ "1000", 0, 0 },
		{ "-512", 0, 0 },
		{ "2097152", 0, 0 },
		{ "18446744073709552128", 0, 0 },
		{ "4096/512", 0, 0 },
		{ "512/", 0, 0 },
		{ "/512", 0, 0 },
		{ "/", 0, 0 },
		{ "512/600", 0, 0 },
		{ "512/4096/4096", 0, 0 },
		{ "512k", 0, 0 },
		{ " 512 ", 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *option = xasprintf("sectorsize=%s", cases[i].text);
		struct block *block = NULL;
		struct block_info info;
		int rc = try_open(rig, rig->path, option, &block);

		free(option);
		if (cases[i].logical == 0) {
			assert_int_equal(rc, -EINVAL);
			assert_non_null(
			    strstr(rig->err.msg, "pci.0.3.0.sectorsize: '"));
			continue;
		}
		assert_int_equal(rc, 0);
		block_info(block, &info);
		assert_int_equal(info.sector, cases[i].logical);
		assert_int_equal(info.physical, cases[i].physical);
		block_close(block);
	}
}

static void
a_size_is_whole_sectors(void **state)
{
	struct rig *rig = *state;
	struct stat st;
	struct block_info info;
	uint8_t buf[4096];

	assert_int_equal(ftruncate(rig->fd, 10000), 0);
	rig_open(rig, "");
	assert_int_equal(fstat(rig->fd, &st), 0);
	block_info(rig->block, &info);
	assert_int_equal(info.size, 9728);
	assert_int_equal(info.sector, 512);
	assert_int_equal(info.physical, st.st_blksize);
	block_close(rig->block);
	rig_open(rig, "sectorsize=4096");
	assert_int_equal(size_of(rig), 8192);
	assert_int_equal(run(rig, BLOCK_READ, 512, buf, 4096), -EINVAL);
	assert_int_equal(run(rig, BLOCK_READ, 4096, buf, 4096), 0);
	block_close(rig->block);
	assert_int_equal(ftruncate(rig->fd, 0), 0);
	rig_open(rig, "");
	assert_int_equal(size_of(rig), 0);
}

static void
hostile_nodes_are_refused(void **state)
{
	struct rig *rig = *state;
	char *fifo = xasprintf("%s/fifo", dir);
	const struct {
		const char *path;
		const char *options;
		const char *says;
	} cases[] = {
		{ NULL, "", "pci.0.3.0.path: a file" },
		{ "/nowhere/to/be/found", "", "pci.0.3.0.path: '/nowhere" },
		{ "relative", "", "pci.0.3.0.path: 'relative'" },
		{ dir, "", "pci.0.3.0.path: " },
		{ dir, "ro=true", "pci.0.3.0.path: " },
		{ "/dev/null", "", "neither a file nor a block device" },
		{ "/dev/zero", "nocache=true", "neither a file" },
		{ fifo, "", "neither a file nor a block device" },
		{ fifo, "ro=true", "neither a file nor a block device" },
		{ rig->path, "nocache=maybe", "pci.0.3.0.nocache" },
		{ rig->path, "direct=2", "pci.0.3.0.direct" },
		{ rig->path, "sync=-1", "pci.0.3.0.sync" },
		{ rig->path, "ro=o", "pci.0.3.0.ro" },
		{ rig->path, "nodelete=x", "pci.0.3.0.nodelete" },
		{ rig->path, "lock=x", "pci.0.3.0.lock" },
		{ rig->path, "aio=posix", "pci.0.3.0.aio: 'posix'" },
		{ rig->path, "sectorsize=%(nothing)", "nothing" },
	};

	assert_int_equal(mkfifo(fifo, 0600), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct block *block = NULL;

		rig->err.msg[0] = '\0';
		assert_true(
		    try_open(rig, cases[i].path, cases[i].options, &block) < 0);
		assert_null(block);
		if (strstr(rig->err.msg, cases[i].says) == NULL)
			fail_msg("%zu: %s", i, rig->err.msg);
	}
	unlink(fifo);
	free(fifo);
}

/* What begins like an image in another format is what it is: raw. */
static void
no_format_is_guessed(void **state)
{
	static const char qcow2[] = "QFI\xfb\0\0\0\3\0\0\0\0\0\0\0\x20";
	struct rig *rig = *state;
	uint8_t buf[512], got[512];

	assert_int_equal(pwrite(rig->fd, qcow2, sizeof(qcow2), 0),
	    sizeof(qcow2));
	rig_open(rig, "");
	assert_int_equal(size_of(rig), FILE_SIZE);
	assert_int_equal(run(rig, BLOCK_READ, 0, got, 512), 0);
	assert_memory_equal(got, qcow2, sizeof(qcow2));
	fill(buf, 512, 8);
	assert_int_equal(run(rig, BLOCK_WRITE, 0, buf, 512), 0);
	assert_file(rig, 0, buf, 512);
}

static void
serials_come_from_paths(void **state)
{
	char serial[BLOCK_SERIAL_SIZE];

	/* MD5 of the empty text and of "abc", RFC 1321. */
	block_serial("", serial);
	assert_string_equal(serial, "BHYVE-D41D-8CD9-8F00");
	block_serial("abc", serial);
	assert_string_equal(serial, "BHYVE-9001-5098-3CD2");
}

/* ---- devices ------------------------------------------------------------ */

/* A loop device on the rig's file; -1 where there is none for us. */
static int
loop_device(const struct rig *rig, uint32_t sector, char path[32])
{
	struct loop_config config = {
		.fd = (uint32_t)rig->fd,
		.block_size = sector,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR, /* gone with us */
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int fd = -1;

	for (unsigned i = 0; control >= 0 && fd < 0 && i < 10; i++) {
		int n = ioctl(control, LOOP_CTL_GET_FREE);

		if (n < 0)
			break;
		(void)snprintf(path, 32, "/dev/loop%d", n);
		fd = open(path, O_RDWR | O_CLOEXEC);
		/* Somebody else may have been faster. */
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
			close(fd);
			fd = -1;
		}
	}
	if (control >= 0)
		close(control);
	return fd;
}

static void
every_operation_on_a_device(void **state)
{
	static const char *const options[] = { "", "nocache=true",
		"sync=true" };
	struct rig *rig = *state;
	uint8_t *buf = xcalloc(1, FILE_SIZE), *got = xcalloc(1, FILE_SIZE);
	char path[32];
	int fd = loop_device(rig, 4096, path);

	if (fd < 0)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		struct call call = {
			.req = {
				.op = BLOCK_WRITE_ZEROES,
				.unmap = i == 1,
				.offset = MIB,
				.len = MIB,
			},
		};
		struct block_info info;
		int rc = try_open(rig, path, options[i], &rig->block);

		if (rc < 0)
			fail_msg("%s", rig->err.msg);
		block_info(rig->block, &info);
		assert_int_equal(info.size, FILE_SIZE);
		assert_int_equal(info.sector, 4096);
		assert_true(info.physical >= 4096);
		assert_true(info.discard);
		fill(buf, FILE_SIZE, 20 + (uint32_t)i);
		assert_int_equal(run(rig, BLOCK_WRITE, 0, buf, FILE_SIZE), 0);
		assert_int_equal(run(rig, BLOCK_READ, 4096, got, 8192), 0);
		assert_memory_equal(got, buf + 4096, 8192);
		assert_int_equal(wait_for(rig, &call), 0);
		memset(buf + MIB, 0, MIB);
		assert_int_equal(run(rig, BLOCK_DISCARD, 3 * MIB, NULL, MIB),
		    0);
		assert_int_equal(run(rig, BLOCK_READ, 0, got, 3 * MIB), 0);
		assert_memory_equal(got, buf, 3 * MIB);
		assert_int_equal(run(rig, BLOCK_FLUSH, 0, NULL, 0), 0);
		block_close(rig->block);
		rig->block = NULL;
	}
	assert_true(try_open(rig, path, "sectorsize=512", &rig->block) < 0);
	assert_non_null(strstr(rig->err.msg, "needs a multiple of 4096"));
	/* It grows. */
	assert_int_equal(try_open(rig, path, "", &rig->block), 0);
	assert_int_equal(ftruncate(rig->fd, 2 * FILE_SIZE), 0);
	assert_int_equal(ioctl(fd, LOOP_SET_CAPACITY, 0), 0);
	wait_resized(rig, 1);
	assert_int_equal(size_of(rig), 2 * FILE_SIZE);
	block_close(rig->block);
	rig->block = NULL;
	close(fd);
	free(buf);
	free(got);
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
	TEST(nocache_takes_any_memory),
	TEST(a_storm_keeps_every_byte),
	TEST(a_storm_past_the_cache_keeps_every_byte),
	TEST(drain_waits_for_all),
	TEST(close_waits_for_all),
	TEST(submitters_may_end),
	TEST(writing_beyond_a_limit_is_an_error),
	TEST(a_full_file_system_is_an_error),
	TEST(a_failed_flush_stays_failed),
	TEST(a_resize_is_noticed),
	TEST(a_shrunk_file_past_the_cache_is_an_error),
	TEST(our_own_writes_are_no_resize),
	TEST(a_second_opener_is_refused),
	TEST(sectors_follow_the_rules),
	TEST(a_size_is_whole_sectors),
	TEST(hostile_nodes_are_refused),
	TEST(no_format_is_guessed),
	TEST(serials_come_from_paths),
	TEST(every_operation_on_a_device),
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
