/*
 * The disk of device tests does as it is told; and the checks that every back
 * end is behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "storage/block_rig.h"

struct fixture {
	struct loop *loop;
	struct block_rig *rig;
	struct block *block;
	unsigned resized;
};

static void
on_resized(void *arg)
{
	struct fixture *f = arg;

	f->resized++;
}

static int
open_path(struct fixture *f, const char *path, struct block **block)
{
	struct config *config = config_new();
	int rc;

	assert_int_equal(config_set(config, "path", path, NULL), 0);
	rc = block_open(f->loop, config, on_resized, f, block, NULL);
	config_free(config);
	return rc;
}

static int
setup(void **state)
{
	static struct fixture f;

	f = (struct fixture) { .loop = loop_new(NULL) };
	f.rig = block_rig_new("disk", 65536);
	assert_int_equal(open_path(&f, "rig:disk", &f.block), 0);
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

/* What was done, in its order. */
static unsigned order[8], done_count;

struct numbered {
	struct block_req req;
	struct iovec iov;
	uint8_t buf[512];
	unsigned number;
};

static void
on_done(struct block_req *req)
{
	struct numbered *n = container_of(req, struct numbered, req);

	order[done_count++] = n->number;
}

static bool
submit(struct fixture *f, struct numbered *n, unsigned number, enum block_op op)
{
	memset(n->buf, (int)number, sizeof(n->buf));
	n->number = number;
	n->iov = (struct iovec) { n->buf, sizeof(n->buf) };
	n->req = (struct block_req) {
		.op = op,
		.offset = number * 512,
		.len = 512,
		.iov = &n->iov,
		.iov_count = 1,
		.done = on_done,
	};
	return block_submit(f->block, &n->req);
}

static void
now_is_now(void **state)
{
	struct fixture *f = *state;
	struct numbered n;

	done_count = 0;
	assert_true(submit(f, &n, 3, BLOCK_WRITE));
	assert_int_equal(n.req.error, 0);
	assert_int_equal(f->rig->data[3 * 512], 3);
	assert_int_equal(f->rig->data[4 * 512], 0);
	f->rig->data[5 * 512 + 1] = 77;
	assert_true(submit(f, &n, 5, BLOCK_READ));
	assert_int_equal(n.buf[1], 77);
	assert_int_equal(f->rig->count[BLOCK_WRITE], 1);
	assert_int_equal(f->rig->last[BLOCK_READ].offset, 5 * 512);
	f->rig->fail[BLOCK_FLUSH] = -EIO;
	assert_true(submit(f, &n, 0, BLOCK_FLUSH));
	assert_int_equal(n.req.error, -EIO);
	assert_true(submit(f, &n, 128, BLOCK_READ));
	assert_int_equal(n.req.error, -ERANGE);
	assert_int_equal(done_count, 0);
}

static void
held_until_released_youngest_first(void **state)
{
	struct fixture *f = *state;
	struct numbered n[4];

	done_count = 0;
	f->rig->mode = BLOCK_RIG_HELD;
	for (unsigned i = 0; i < 4; i++)
		assert_false(submit(f, &n[i], i, BLOCK_WRITE));
	assert_int_equal(block_rig_held(f->rig), 4);
	assert_int_equal(done_count, 0);
	block_rig_release(f->rig, 1);
	assert_int_equal(done_count, 1);
	assert_int_equal(order[0], 3);
	block_rig_release(f->rig, 2);
	assert_int_equal(done_count, 3);
	assert_int_equal(order[2], 1);
	block_drain(f->block);
	assert_int_equal(done_count, 4);
	f->rig->mode = BLOCK_RIG_THREAD;
	assert_false(submit(f, &n[0], 1, BLOCK_WRITE_ZEROES));
	block_drain(f->block);
	assert_int_equal(done_count, 5);
	assert_int_equal(f->rig->data[512], 0);
}

static void
it_resizes(void **state)
{
	struct fixture *f = *state;
	struct block_info info;
	struct numbered n;

	block_rig_resize(f->rig, 1024);
	assert_int_equal(f->resized, 1);
	block_info(f->block, &info);
	assert_int_equal(info.size, 1024);
	assert_true(submit(f, &n, 2, BLOCK_READ));
	assert_int_equal(n.req.error, -ERANGE);
}

static void
only_what_there_is(void **state)
{
	struct fixture *f = *state;
	struct block *block;

	assert_int_equal(open_path(f, "rig:other", &block), -ENOENT);
	assert_int_equal(open_path(f, "rig:disk", &block), -EBUSY);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(now_is_now, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    held_until_released_youngest_first, setup, teardown),
		cmocka_unit_test_setup_teardown(it_resizes, setup, teardown),
		cmocka_unit_test_setup_teardown(only_what_there_is, setup,
		    teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
