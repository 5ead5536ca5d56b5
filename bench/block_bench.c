/*
 * What a block back end costs: random reads of 4 KiB from a file that the page
 * cache has, one at a time and 32 at once, on each engine; with the cache gone
 * past as well, where the engines do the work.
 *
 * usage: block_bench [FILE]
 *
 * FILE is made, and removed in the end.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storage/block.h"

#define FILE_SIZE (64 * MIB)
#define PIECE 4096
#define DEPTH_MAX 32
#define RUN_NS NS_PER_SEC

/* Of the requests that one of them is at a time. */
struct slot {
	struct block_req req; /* first */
	struct run *run;
	struct iovec iov;
	void *data;
};

struct run {
	struct block *block;
	struct slot slots[DEPTH_MAX];
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	struct slot *done[DEPTH_MAX]; /* come back, not sent again yet */
	unsigned done_count;
	uint64_t dice;
	int error;
};

static void
fail(const char *what, const char *why)
{
	(void)fprintf(stderr, "block_bench: %s: %s\n", what, why);
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail */
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void
on_done(struct block_req *req)
{
	struct slot *slot = (struct slot *)(void *)req;
	struct run *run = slot->run;

	pthread_mutex_lock(&run->mutex);
	run->done[run->done_count++] = slot;
	pthread_cond_signal(&run->cond);
	pthread_mutex_unlock(&run->mutex);
}

/* Those that have come back, at least one; there is one in flight. */
static unsigned
reap(struct run *run, struct slot *slots[DEPTH_MAX])
{
	unsigned n;

	pthread_mutex_lock(&run->mutex);
	while (run->done_count == 0)
		pthread_cond_wait(&run->cond, &run->mutex);
	n = run->done_count;
	memcpy(slots, run->done, n * sizeof(*slots));
	run->done_count = 0;
	pthread_mutex_unlock(&run->mutex);
	return n;
}

/* True: done already. */
static bool
send_slot(struct run *run, struct slot *slot)
{
	run->dice = run->dice * 6364136223846793005ULL + 1442695040888963407ULL;
	slot->iov = (struct iovec) { slot->data, PIECE };
	slot->req = (struct block_req) {
		.op = BLOCK_READ,
		.offset = (run->dice >> 33) % (FILE_SIZE / PIECE) * PIECE,
		.len = PIECE,
		.iov = &slot->iov,
		.iov_count = 1,
		.done = on_done,
	};
	return block_submit(run->block, &slot->req);
}

/* Requests a second. */
static double
measure(struct run *run, unsigned depth)
{
	struct slot *ready[DEPTH_MAX];
	unsigned n = depth, in_flight = 0;
	uint64_t count = 0, begin = now_ns(), end;

	for (unsigned i = 0; i < depth; i++)
		ready[i] = &run->slots[i];
	do {
		unsigned at_once = 0;

		block_plug(run->block);
		for (unsigned i = 0; i < n; i++) {
			if (send_slot(run, ready[i]))
				ready[at_once++] = ready[i];
			else
				in_flight++;
		}
		block_unplug(run->block);
		for (unsigned i = 0; i < at_once; i++)
			run->error |= ready[i]->req.error;
		count += at_once;
		n = at_once;
		if (n == 0) {
			n = reap(run, ready);
			in_flight -= n;
			count += n;
			for (unsigned i = 0; i < n; i++)
				run->error |= ready[i]->req.error;
		}
		end = now_ns();
	} while (end - begin < RUN_NS);
	while (in_flight > 0)
		in_flight -= reap(run, ready);
	return (double)count * 1e9 / (double)(end - begin);
}

static void
bench(struct loop *loop, const char *path, const char *aio, const char *nocache)
{
	struct config *root = config_new();
	struct run *run = calloc(1, sizeof(*run));
	double one, many;
	struct err err;

	if (run == NULL || config_set(root, "path", path, &err) < 0 ||
	    config_set(root, "aio", aio, &err) < 0 ||
	    config_set(root, "nocache", nocache, &err) < 0)
		fail(path, "no memory");
	if (block_open(loop, root, NULL, NULL, &run->block, &err) < 0) {
		printf("block %-8s nocache=%-5s %s\n", aio, nocache, err.msg);
	} else {
		pthread_mutex_init(&run->mutex, NULL);
		pthread_cond_init(&run->cond, NULL);
		for (unsigned i = 0; i < DEPTH_MAX; i++) {
			run->slots[i].run = run;
			run->slots[i].data = aligned_alloc(PIECE, PIECE);
			if (run->slots[i].data == NULL)
				fail(path, "no memory");
		}
		one = measure(run, 1);
		many = measure(run, DEPTH_MAX);
		if (run->error != 0)
			fail(path, strerror(-run->error));
		printf("block %-8s nocache=%-5s 4 KiB reads a second: "
		       "%8.0f at depth 1, %8.0f at depth %d\n",
		    aio, nocache, one, many, DEPTH_MAX);
		block_close(run->block);
		for (unsigned i = 0; i < DEPTH_MAX; i++)
			free(run->slots[i].data);
		pthread_cond_destroy(&run->cond);
		pthread_mutex_destroy(&run->mutex);
	}
	free(run);
	config_free(root);
}

int
main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "/tmp/block_bench.img";
	static uint8_t data[MIB];
	struct loop *loop;
	struct err err;
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		fail(path, "cannot be made");
	memset(data, 0x5a, sizeof(data));
	for (unsigned i = 0; i < FILE_SIZE / MIB; i++) {
		if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
			fail(path, "cannot be written");
	}
	if (fdatasync(fd) < 0)
		fail(path, "cannot be written");
	(void)close(fd);
	loop = loop_new(&err);
	if (loop == NULL)
		fail("event loop", err.msg);
	bench(loop, path, "io_uring", "false");
	bench(loop, path, "threads", "false");
	bench(loop, path, "io_uring", "true");
	bench(loop, path, "threads", "true");
	loop_free(loop);
	(void)unlink(path);
	return 0;
}
