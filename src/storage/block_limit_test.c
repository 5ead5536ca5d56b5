/*
 * Limits: never more than they allow, and no less for long.
 *
 * A host may be slow at any moment, so what is held against the clock is only
 * that nothing was too fast.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "storage/block_rig.h"

#define SIZE (256 * KIB)
#define PATIENCE_NS (20 * NS_PER_SEC)

struct fixture {
	struct loop *loop;
	struct block_rig *rig;
	struct block *block;
	struct err err;
	uint64_t start;
	_Atomic unsigned done;
};

/* One request, big enough for all of them. */
struct item {
	struct block_req req;
	struct iovec iov;
	struct fixture *f;
};

static uint8_t memory[SIZE];

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static int
setup(void **state)
{
	static struct fixture f;

	memset(&f, 0, sizeof(f));
	f.loop = loop_new(NULL);
	f.rig = block_rig_new("disk", SIZE);
	*state = &f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	block_close(f->block);
	block_rig_free(f->rig);
	loop_free(f->loop);
	return 0;
}

/* "key=value,..." */
static int
try_open(struct fixture *f, const char *options)
{
	struct config *config = config_new();
	char *copy = xstrdup(options), *rest = copy, *word;
	int rc;

	assert_int_equal(config_set(config, "path", "rig:disk", NULL), 0);
	while ((word = strsep(&rest, ",")) != NULL)
		assert_int_equal(config_set_option(config, word, NULL), 0);
	rc = block_open(f->loop, config, NULL, NULL, &f->block, &f->err);
	config_free(config);
	free(copy);
	f->start = now_ns();
	return rc;
}

static void
on_done(struct block_req *req)
{
	struct item *item = container_of(req, struct item, req);

	assert_int_equal(req->error, 0);
	item->f->done++;
}

static struct item *
submit(struct fixture *f, unsigned n, enum block_op op, size_t len)
{
	struct item *items = xcalloc(n, sizeof(*items));

	for (unsigned i = 0; i < n; i++) {
		items[i].f = f;
		items[i].iov = (struct iovec) { memory, len };
		items[i].req = (struct block_req) {
			.op = op,
			.len = len,
			.iov = &items[i].iov,
			.iov_count = 1,
			.done = on_done,
		};
		if (block_submit(f->block, &items[i].req))
			f->done++;
	}
	return items;
}

static unsigned
came(const struct fixture *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < BLOCK_RIG_OPS; i++)
		n += f->rig->count[i];
	return n;
}

/* Run until n are done, of which no more than burst + rate * time at any time. */
static void
run_until(struct fixture *f, unsigned n, double burst, double rate)
{
	while (f->done < n) {
		unsigned so_far = came(f);
		uint64_t spent = now_ns() - f->start;

		assert_true(spent < PATIENCE_NS);
		assert_true(so_far <= burst + rate * (double)spent / 1e9);
		loop_run_once(f->loop, 1000);
	}
	assert_true(n <= burst + rate * (double)(now_ns() - f->start) / 1e9);
}

static void
requests_a_second(void **state)
{
	struct fixture *f = *state;
	struct item *items;

	assert_int_equal(try_open(f, "iops=100,iops_burst=10"), 0);
	items = submit(f, 40, BLOCK_READ, 512);
	assert_true(came(f) >= 10);
	run_until(f, 40, 10, 100);
	free(items);
}

static void
bytes_a_second(void **state)
{
	struct fixture *f = *state;
	struct item *items;

	/* Each is larger than the burst; still they all go. */
	assert_int_equal(try_open(f, "bps=1M,bps_burst=4K"), 0);
	items = submit(f, 5, BLOCK_WRITE, 64 * KIB);
	assert_true(came(f) >= 1);
	run_until(f, 5, 1.07, 16);
	free(items);
}

static void
a_request_of_any_size_goes(void **state)
{
	struct fixture *f = *state;
	struct item *items;

	assert_int_equal(try_open(f, "bps=1"), 0);
	items = submit(f, 1, BLOCK_WRITE, SIZE);
	assert_int_equal(f->done, 1);
	free(items);
}

static void
writes_do_not_stop_reads(void **state)
{
	struct fixture *f = *state;
	struct item *writes, *reads, *flushes;

	assert_int_equal(try_open(f, "iops_wr=10,iops_wr_burst=2,bps_wr=1G"),
	    0);
	writes = submit(f, 4, BLOCK_WRITE, 512);
	assert_true(f->rig->count[BLOCK_WRITE] >= 2);
	reads = submit(f, 50, BLOCK_READ, 512);
	assert_int_equal(f->rig->count[BLOCK_READ], 50);
	flushes = submit(f, 20, BLOCK_FLUSH, 0);
	assert_int_equal(f->rig->count[BLOCK_FLUSH], 20);
	run_until(f, 74, 72, 10);
	free(writes);
	free(reads);
	free(flushes);
}

static void
both_share_a_bucket(void **state)
{
	struct fixture *f = *state;
	struct item *reads, *others;

	assert_int_equal(try_open(f, "iops=50,iops_burst=1"), 0);
	reads = submit(f, 8, BLOCK_READ, 512);
	others = submit(f, 8, BLOCK_DISCARD, 512);
	run_until(f, 16, 1, 50);
	free(reads);
	free(others);
}

static void
draining_does_not_wait_for_time(void **state)
{
	struct fixture *f = *state;
	struct item *items;

	assert_int_equal(try_open(f, "iops=1,iops_burst=1"), 0);
	f->rig->mode = BLOCK_RIG_THREAD;
	items = submit(f, 60, BLOCK_WRITE, 512);
	block_drain(f->block);
	assert_int_equal(f->done, 60);
	assert_true(now_ns() - f->start < PATIENCE_NS);
	free(items);
	/* It is still to be paid. */
	items = submit(f, 1, BLOCK_READ, 512);
	assert_int_equal(f->rig->count[BLOCK_READ], 0);
	block_close(f->block);
	f->block = NULL;
	assert_int_equal(f->done, 61);
	free(items);
}

static void
bad_limits_are_refused(void **state)
{
	static const struct {
		const char *options;
		const char *says;
	} bad[] = {
		{ "iops=0", "iops: '0'" },
		{ "iops=-1", "iops: '-1'" },
		{ "iops=x", "iops: 'x'" },
		{ "iops_rd=1.5", "iops_rd: '1.5'" },
		{ "iops_wr=2000T", "iops_wr: '2000T'" },
		{ "bps=99999999999999999999", "bps: '99" },
		{ "bps_wr=10 ", "bps_wr: '10 '" },
		{ "iops_burst=5", "iops_burst: there is no iops" },
		{ "bps_rd_burst=1M", "bps_rd_burst: there is no bps_rd" },
		{ "iops=5,iops_burst=0", "iops_burst: '0'" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(try_open(f, bad[i].options), -EINVAL);
		assert_ptr_equal(strstr(f->err.msg, bad[i].says), f->err.msg);
	}
	assert_int_equal(try_open(f, "iops=1k,bps=1024T,bps_burst=1"), 0);
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(requests_a_second),
		TEST(bytes_a_second),
		TEST(a_request_of_any_size_goes),
		TEST(writes_do_not_stop_reads),
		TEST(both_share_a_bucket),
		TEST(draining_does_not_wait_for_time),
		TEST(bad_limits_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
