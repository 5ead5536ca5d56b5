/*
 * virtio-9p, mounted by a driver that says of 9P what it needs to tell what the
 * device is about: order, life, and chains that no driver should make.
 *
 * Each test has a directory of its own with one file, "file".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/wire.h"
#include "test/virtio_driver.h"
#include "virtio/virtio.h"
#include "vm/platform.h"

#define READY 0x0f
#define TEXT "what the file says"

/* Each request has a page, and its reply as much as it wants. */
#define REQUEST(i) (VIRTIO_DATA + (i)*0x1000)
#define REPLY(i) (VIRTIO_DATA + 0x400000 + (i)*0x1000)
#define ROOM 0x1000u

#define RLERROR 7
#define TLOPEN 12
#define TLCREATE 14
#define TVERSION 100
#define TATTACH 104
#define TWALK 110
#define TREAD 116
#define TWRITE 118
#define NOFID UINT32_MAX
#define ROOT_FID 0
#define FILE_FID 1

struct env {
	struct bench *b;
	struct virtio_driver d;
	char dir[32];
	char path[64];
	const char *options[6]; /* borrowed by the bench */
};

/* A message under construction. */
struct msg {
	uint8_t bytes[256];
	size_t len;
};

static struct msg
msg(unsigned type, uint16_t tag)
{
	struct msg m = { .len = 7 };

	m.bytes[4] = (uint8_t)type;
	le16_store(&m.bytes[5], tag);
	return m;
}

static void
put(struct msg *m, uint64_t value, unsigned size)
{
	le64 wire = le64_make(value);

	memcpy(&m->bytes[m->len], &wire, size);
	m->len += size;
}

static void
put_str(struct msg *m, const char *s)
{
	put(m, strlen(s), 2);
	memcpy(&m->bytes[m->len], s, strlen(s));
	m->len += strlen(s);
}

/* Its length, as told in it. */
static size_t
place(struct env *e, unsigned slot, struct msg *m)
{
	le32_store(m->bytes, (uint32_t)m->len);
	assert_int_equal(mem_write(vm_mem(e->b->vm), REQUEST(slot), m->bytes,
			     m->len),
	    0);
	return m->len;
}

static void
offer(struct env *e, unsigned slot, struct msg *m)
{
	const struct virtio_part parts[] = {
		{ REQUEST(slot), (uint32_t)place(e, slot, m), false },
		{ REPLY(slot), ROOM, true },
	};

	virtio_driver_offer(&e->d, 0, parts, 2);
}

/* 0, or the negative errno that the reply in a slot tells. */
static int
result(struct env *e, unsigned slot, const struct msg *m, uint32_t len)
{
	unsigned type;

	assert_true(len >= 7);
	assert_int_equal(virtio_driver_peek(&e->d, REPLY(slot), 4), len);
	assert_int_equal(virtio_driver_peek(&e->d, REPLY(slot) + 5, 2),
	    le16_load(&m->bytes[5]));
	type = (unsigned)virtio_driver_peek(&e->d, REPLY(slot) + 4, 1);
	if (type == RLERROR)
		return -(int)virtio_driver_peek(&e->d, REPLY(slot) + 7, 4);
	assert_int_equal(type, m->bytes[4] + 1);
	return 0;
}

static int
call(struct env *e, struct msg *m)
{
	uint32_t len;

	offer(e, 0, m);
	virtio_driver_kick(&e->d, 0);
	virtio_driver_wait(&e->d, 0, NULL, &len);
	return result(e, 0, m, len);
}

static int
version(struct env *e)
{
	struct msg m = msg(TVERSION, 0xffff);

	put(&m, 65536, 4);
	put_str(&m, "9P2000.L");
	return call(e, &m);
}

static int
attach(struct env *e)
{
	struct msg m = msg(TATTACH, 1);

	put(&m, ROOT_FID, 4);
	put(&m, NOFID, 4);
	put_str(&m, "user");
	put_str(&m, "");
	put(&m, 0, 4);
	return call(e, &m);
}

static int
walk(struct env *e, uint32_t newfid, const char *name)
{
	struct msg m = msg(TWALK, 2);

	put(&m, ROOT_FID, 4);
	put(&m, newfid, 4);
	put(&m, 1, 2);
	put_str(&m, name);
	return call(e, &m);
}

static int
lopen(struct env *e, uint32_t fid, uint32_t flags)
{
	struct msg m = msg(TLOPEN, 3);

	put(&m, fid, 4);
	put(&m, flags, 4);
	return call(e, &m);
}

static struct msg
read_msg(uint16_t tag, uint64_t offset, uint32_t count)
{
	struct msg m = msg(TREAD, tag);

	put(&m, FILE_FID, 4);
	put(&m, offset, 8);
	put(&m, count, 4);
	return m;
}

/* Up to the file that is open and can be read. */
static void
mount_share(struct env *e)
{
	assert_int_equal(version(e), 0);
	assert_int_equal(attach(e), 0);
	assert_int_equal(walk(e, FILE_FID, "file"), 0);
	assert_int_equal(lopen(e, FILE_FID, O_RDONLY), 0);
}

static void
assert_text(struct env *e)
{
	struct msg m = read_msg(9, 0, 100);
	char text[sizeof(TEXT)] = "";

	assert_int_equal(call(e, &m), 0);
	assert_int_equal(virtio_driver_peek(&e->d, REPLY(0) + 7, 4),
	    strlen(TEXT));
	assert_int_equal(mem_read(vm_mem(e->b->vm), REPLY(0) + 11, text,
			     strlen(TEXT)),
	    0);
	assert_string_equal(text, TEXT);
}

/* ---- what the device is -------------------------------------------------- */

static void
it_says_its_name(void **state)
{
	struct env *e = *state;
	struct bench *b = e->b;
	struct virtio_driver *d = &e->d;
	char tag[6] = "";

	assert_int_equal(bench_read(b, d->cfg, 4), 0x10091af4);
	assert_int_equal(bench_read(b, d->cfg + 8, 4), 0x01800000);
	assert_int_equal(bench_read(b, d->cfg + 0x2c, 4), 0x00091af4);
	assert_int_equal(virtio_driver_get(d, VC_NUM_QUEUES, 2), 1);
	virtio_driver_put(d, VC_QUEUE_SELECT, 2, 0);
	assert_int_equal(virtio_driver_get(d, VC_QUEUE_SIZE, 2), 256);
	assert_true(virtio_driver_offered(d) & BIT(0));
	assert_int_equal(bench_read(b, d->device, 2), 5);
	for (unsigned i = 0; i < 5; i++)
		tag[i] = (char)bench_read(b, d->device + 2 + i, 1);
	assert_string_equal(tag, "share");
	assert_int_equal(bench_read(b, d->device + 7, 1), 0);
	/* A legacy interface's configuration, before MSI-X and after. */
	bench_write(b, d->cfg + d->msix_cap + 2, 2, 0);
	assert_int_equal(bench_in16(b, d->ports + 20), 5);
	bench_write(b, d->cfg + d->msix_cap + 2, 2, 0x8000);
	assert_int_equal(bench_in16(b, d->ports + 24), 5);
	/* It cannot be written. */
	bench_write(b, d->device, 2, 0x1234);
	assert_int_equal(bench_read(b, d->device, 2), 5);
}

static int
make(struct env *e, const char *const *options, const char *node_name,
    struct err *err)
{
	char path[64];
	struct config *node;
	struct device *dev;

	(void)snprintf(path, sizeof(path), "pci.0.%s.0", node_name);
	assert_int_equal(config_make(e->b->config, path, &node, NULL), 0);
	for (; *options != NULL; options++)
		assert_int_equal(config_set_option(node, *options, NULL), 0);
	return device_new(e->b->vm, "virtio-9p", node_name, node, &dev, err);
}

static void
bad_options_are_refused(void **state)
{
	static char longest[sizeof("sharename=") + 230];
	static char too_long[sizeof("sharename=") + 231];
	static const struct {
		const char *options[4], *msg;
	} bad[] = {
		{ { "path=/" }, "virtio-9p: share name required" },
		{ { "sharename=a" }, "virtio-9p: path required" },
		{ { "path=/", too_long },
		    "virtio-9p: share name too long: at most 230 bytes" },
		{ { "path=/dev/null", "sharename=a" }, "/dev/null: Not a dir" },
		{ { "path=/nonexistent", "sharename=a" },
		    "/nonexistent: No such file" },
		{ { "path=/", "sharename=a", "ro=maybe" }, "ro" },
		{ { "path=/", "sharename=a", "rw=true" }, "rw" },
	};
	const char *const fine[] = { "path=/", longest, NULL };
	struct env *e = *state;
	struct err err;

	memset(longest, 'x', sizeof(longest) - 1);
	memset(too_long, 'x', sizeof(too_long) - 1);
	memcpy(longest, "sharename=", strlen("sharename="));
	memcpy(too_long, "sharename=", strlen("sharename="));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		char slot[8];

		(void)snprintf(slot, sizeof(slot), "%u", i + 4);
		assert_true(make(e, bad[i].options, slot, &err) < 0);
		if (strstr(err.msg, bad[i].msg) == NULL)
			fail_msg("%s", err.msg);
	}
	assert_int_equal(make(e, fine, "20", &err), 0);
}

/* ---- requests ------------------------------------------------------------ */

static void
a_file_can_be_read(void **state)
{
	struct env *e = *state;

	mount_share(e);
	assert_text(e);
}

static int
create(struct env *e, const char *name)
{
	struct msg m = msg(TWALK, 4);
	int rc;

	put(&m, ROOT_FID, 4);
	put(&m, 5, 4);
	put(&m, 0, 2);
	rc = call(e, &m);
	assert_int_equal(rc, 0);
	m = msg(TLCREATE, 5);
	put(&m, 5, 4);
	put_str(&m, name);
	put(&m, O_RDWR, 4);
	put(&m, 0644, 4);
	put(&m, 0, 4);
	return call(e, &m);
}

static void
unless_asked_for_it_is_read_only(void **state)
{
	struct env *e = *state;

	mount_share(e);
	assert_int_equal(create(e, "new"), -EROFS);
	assert_int_equal(walk(e, 6, "file"), 0);
	assert_int_equal(lopen(e, 6, O_WRONLY), -EROFS);
}

static void
a_share_can_be_written(void **state)
{
	struct env *e = *state;
	struct msg m = msg(TWRITE, 6);
	char path[64], text[16] = "";
	int fd;

	mount_share(e);
	assert_int_equal(create(e, "new"), 0);
	put(&m, 5, 4);
	put(&m, 0, 8);
	put(&m, 5, 4);
	memcpy(&m.bytes[m.len], "hello", 5);
	m.len += 5;
	assert_int_equal(call(e, &m), 0);
	(void)snprintf(path, sizeof(path), "%s/new", e->dir);
	fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
	(void)close(fd);
}

static void
requests_are_answered_in_order(void **state)
{
	struct env *e = *state;
	struct msg msgs[100];
	uint16_t heads[100];

	mount_share(e);
	for (unsigned i = 0; i < 100; i++) {
		heads[i] = e->d.queues[0].slot;
		msgs[i] = read_msg((uint16_t)(100 + i), 0, i % 10 + 1);
		offer(e, i, &msgs[i]);
	}
	virtio_driver_kick(&e->d, 0);
	for (unsigned i = 0; i < 100; i++) {
		uint32_t id, len;

		virtio_driver_wait(&e->d, 0, &id, &len);
		assert_int_equal(id, heads[i]);
		assert_int_equal(len, 11 + i % 10 + 1);
		assert_int_equal(result(e, i, &msgs[i], len), 0);
	}
}

static void
any_pieces_will_do(void **state)
{
	struct env *e = *state;
	struct virtio_part parts[40];
	struct msg m = read_msg(77, 0, 4);
	uint32_t len;
	unsigned n = 0;

	mount_share(e);
	(void)place(e, 0, &m);
	for (size_t i = 0; i < m.len; i++)
		parts[n++] = (struct virtio_part) { REQUEST(0) + i, 1, false };
	/* The same place in one piece is what result() looks at. */
	for (unsigned i = 0; i < 15; i++)
		parts[n++] = (struct virtio_part) { REPLY(0) + i, 1, true };
	virtio_driver_offer(&e->d, 0, parts, n);
	virtio_driver_kick(&e->d, 0);
	virtio_driver_wait(&e->d, 0, NULL, &len);
	assert_int_equal(len, 15);
	assert_int_equal(result(e, 0, &m, len), 0);
	assert_int_equal(virtio_driver_peek(&e->d, REPLY(0) + 11, 4),
	    0x74616877);
}

/* ---- chains that no driver makes ----------------------------------------- */

/* The length that a chain is used with, of so many bytes either way. */
static uint32_t
used_with(struct env *e, uint32_t in, uint32_t out)
{
	struct virtio_part parts[2];
	uint32_t len;
	unsigned n = 0;

	if (in != 0)
		parts[n++] = (struct virtio_part) { REQUEST(0), in, false };
	if (out != 0)
		parts[n++] = (struct virtio_part) { REPLY(0), out, true };
	assert_int_equal(mem_fill(vm_mem(e->b->vm), REPLY(0), 0xee, ROOM), 0);
	virtio_driver_offer(&e->d, 0, parts, n);
	virtio_driver_kick(&e->d, 0);
	virtio_driver_wait(&e->d, 0, NULL, &len);
	/* Not a byte more than it says. */
	if (len < ROOM)
		assert_int_equal(virtio_driver_peek(&e->d, REPLY(0) + len, 1),
		    0xee);
	return len;
}

static void
chains_too_short_break_nothing(void **state)
{
	struct env *e = *state;
	struct msg m = read_msg(8, 0, 10);
	uint32_t len = (uint32_t)m.len;

	mount_share(e);
	(void)place(e, 0, &m);
	/* No message. */
	for (uint32_t in = 0; in < 7; in++)
		assert_int_equal(used_with(e, in, ROOM), 0);
	/* No room for an error. */
	for (uint32_t out = 0; out < 11; out++)
		assert_int_equal(used_with(e, len, out), 0);
	/* A message cut short. */
	for (uint32_t in = 7; in < len; in++) {
		assert_int_equal(used_with(e, in, ROOM), 11);
		assert_true(result(e, 0, &m, 11) < 0);
	}
	/* Room for an error only, or for a part of what was asked for. */
	for (uint32_t out = 11; out < 21; out++) {
		uint32_t got = used_with(e, len, out);

		assert_true(got >= 11 && got <= out);
		(void)result(e, 0, &m, got);
	}
	assert_int_equal(used_with(e, len, 21), 21);
	assert_int_equal(result(e, 0, &m, 21), 0);
	assert_int_equal(virtio_driver_status(&e->d), READY);
	assert_text(e);
}

static void
sizes_that_lie(void **state)
{
	static const uint32_t sizes[] = { 0, 6, 7, 22, 24, 0x1000, 65536, 65537,
		0x7fffffff, 0x80000000, UINT32_MAX };
	struct env *e = *state;
	struct msg m = read_msg(8, 0, 10);

	mount_share(e);
	for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint32_t len;

		(void)place(e, 0, &m);
		virtio_driver_poke(&e->d, REQUEST(0), 4, sizes[i]);
		len = used_with(e, (uint32_t)m.len, ROOM);
		if (sizes[i] != 24)
			assert_true(result(e, 0, &m, len) < 0);
	}
	assert_text(e);
}

static void
a_reply_over_its_request(void **state)
{
	struct env *e = *state;
	struct msg m = read_msg(8, 0, 10);
	struct virtio_part parts[] = {
		{ REQUEST(0), 0, false },
		{ REQUEST(0), ROOM, true },
	};
	uint32_t len;

	mount_share(e);
	parts[0].len = (uint32_t)place(e, 0, &m);
	virtio_driver_offer(&e->d, 0, parts, 2);
	virtio_driver_kick(&e->d, 0);
	virtio_driver_wait(&e->d, 0, NULL, &len);
	assert_true(len == 21 || len == 11);
	assert_text(e);
}

static void
a_broken_ring_asks_for_a_reset(void **state)
{
	const struct virtio_part nowhere = { 0xfffffffff000, 16, false };
	struct env *e = *state;

	mount_share(e);
	virtio_driver_offer(&e->d, 0, &nowhere, 1);
	virtio_driver_kick(&e->d, 0);
	while (!(virtio_driver_status(&e->d) & VIRTIO_STATUS_NEEDS_RESET))
		loop_run_once(e->b->loop, 1);
	virtio_driver_init(&e->d, e->b, 0);
	mount_share(e);
	assert_text(e);
}

/* ---- its life ------------------------------------------------------------ */

static void
life(struct env *e, void (*what)(void *self))
{
	lock_take(device_lock(e->b->dev));
	what(device_self(e->b->dev));
	lock_drop(device_lock(e->b->dev));
}

static void
pause_device(struct env *e)
{
	life(e, device_model(e->b->dev)->pause);
}

static void
resume_device(struct env *e)
{
	life(e, device_model(e->b->dev)->resume);
}

static void
a_reset_ends_the_session(void **state)
{
	struct env *e = *state;
	struct msg m = read_msg(1, 0, 10);

	mount_share(e);
	virtio_driver_init(&e->d, e->b, 0);
	assert_int_equal(call(e, &m), -EPROTO);
	mount_share(e);
	assert_text(e);
}

static void
reset_under_requests(void **state)
{
	struct env *e = *state;

	for (unsigned round = 0; round < 50; round++) {
		mount_share(e);
		for (unsigned i = 0; i < 100; i++) {
			struct msg m = read_msg((uint16_t)i, 0, 18);

			offer(e, i, &m);
		}
		virtio_driver_kick(&e->d, 0);
		for (unsigned i = 0; i < round % 8; i++)
			virtio_driver_wait(&e->d, 0, NULL, NULL);
		virtio_driver_init(&e->d, e->b, 0);
		/* Of the old ones nothing comes any more. */
		assert_false(virtio_driver_used(&e->d, 0, NULL, NULL));
	}
	mount_share(e);
	assert_text(e);
}

static void
pausing_holds_requests(void **state)
{
	struct env *e = *state;

	mount_share(e);
	for (unsigned round = 0; round < 20; round++) {
		unsigned used = 0;

		for (unsigned i = 0; i < 50; i++) {
			struct msg m = read_msg((uint16_t)i, 0, 18);

			offer(e, i, &m);
		}
		virtio_driver_kick(&e->d, 0);
		pause_device(e);
		while (virtio_driver_used(&e->d, 0, NULL, NULL))
			used++;
		virtio_driver_kick(&e->d, 0);
		assert_false(virtio_driver_used(&e->d, 0, NULL, NULL));
		bench_round_trip(e->b);
		assert_false(virtio_driver_used(&e->d, 0, NULL, NULL));
		resume_device(e);
		for (; used < 50; used++)
			virtio_driver_wait(&e->d, 0, NULL, NULL);
	}
	assert_text(e);
}

static void
interrupts_follow(void **state)
{
	struct env *e = *state;
	unsigned before;

	mount_share(e);
	pause_device(e);
	before = e->b->msi_count;
	assert_true(before > 0);
	assert_int_equal(e->b->msi[0].data, VIRTIO_MSI_DATA(1));
	resume_device(e);
	assert_text(e);
	pause_device(e);
	assert_int_equal(e->b->msi_count, before + 1);
	resume_device(e);
}

static void
a_loaded_device_has_no_session(void **state)
{
	struct env *e = *state;
	struct buf saved = { 0 };
	struct reader in;
	struct msg m = read_msg(1, 0, 10);

	mount_share(e);
	pause_device(e);
	bench_save(e->b, &saved);
	in = reader_make(saved.data, saved.len);
	assert_int_equal(device_load(e->b->dev, &in, NULL), 0);
	resume_device(e);
	buf_fini(&saved);
	assert_int_equal(virtio_driver_status(&e->d), READY);
	assert_int_equal(call(e, &m), -EPROTO);
	mount_share(e);
	assert_text(e);
}

static void
the_machine_ends_under_requests(void **state)
{
	struct env *e = *state;

	mount_share(e);
	for (unsigned i = 0; i < 100; i++) {
		struct msg m = read_msg((uint16_t)i, 0, 18);

		offer(e, i, &m);
	}
	virtio_driver_kick(&e->d, 0);
}

struct kicker {
	struct virtio_driver *d;
	_Atomic bool stop;
};

static void *
kick(void *arg)
{
	struct kicker *k = arg;
	struct bus *bus = vm_mmio(k->d->b->vm);

	while (!atomic_load_explicit(&k->stop, memory_order_relaxed)) {
		bus_write(bus, k->d->notify, 2, 0);
		(void)bus_read(bus, k->d->isr, 1);
	}
	return NULL;
}

/* Used and reset by one processor, notified by another. */
static void
processors_may_disagree(void **state)
{
	struct env *e = *state;
	struct kicker k = { .d = &e->d };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, kick, &k), 0);
	for (unsigned round = 0; round < 50; round++) {
		mount_share(e);
		assert_text(e);
		for (unsigned i = 0; i < 20; i++) {
			struct msg m = read_msg((uint16_t)i, 0, 18);

			offer(e, i, &m);
		}
		virtio_driver_set_status(&e->d, 0);
		virtio_driver_negotiate(&e->d, 0);
		virtio_driver_queue(&e->d, 0);
		virtio_driver_set_status(&e->d, READY);
	}
	atomic_store(&k.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	mount_share(e);
	assert_text(e);
}

static void
state_makes_the_trip(void **state)
{
	struct env *e = *state;

	virtio_driver_set_status(&e->d, 0);
	bench_round_trip(e->b);
	virtio_driver_init(&e->d, e->b, 0);
	bench_round_trip(e->b);
	mount_share(e);
	assert_text(e);
	pause_device(e);
	bench_round_trip(e->b);
	resume_device(e);
	assert_text(e);
}

static void
any_access_is_survived(void **state)
{
	struct env *e = *state;
	struct virtio_driver *d = &e->d;
	const struct bench_range ranges[] = {
		{ BUS_MMIO, d->common, 0x4000 },
		{ BUS_MMIO, d->common, 0x40 },
		{ BUS_MMIO, d->device, 0x100 },
		{ BUS_MMIO, d->notify, 4 },
		{ BUS_PORT, d->ports, 256 },
	};

	bench_hammer(e->b, ranges, ARRAY_SIZE(ranges), 20000, 1);
}

/* ---- the directory ------------------------------------------------------- */

static int
setup_share(void **state, bool writable)
{
	struct env *e = calloc(1, sizeof(*e));
	char file[64];
	int fd;

	assert_non_null(e);
	(void)snprintf(e->dir, sizeof(e->dir), "/tmp/virtio_9p.XXXXXX");
	assert_non_null(mkdtemp(e->dir));
	(void)snprintf(file, sizeof(file), "%s/file", e->dir);
	fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, TEXT, strlen(TEXT)), strlen(TEXT));
	(void)close(fd);
	(void)snprintf(e->path, sizeof(e->path), VIRTIO_DRIVER_NODE ".path=%s",
	    e->dir);
	e->options[0] = "bench.node=" VIRTIO_DRIVER_NODE;
	e->options[1] = VIRTIO_DRIVER_NODE ".sharename=share";
	e->options[2] = e->path;
	e->options[3] = writable ? VIRTIO_DRIVER_NODE ".ro=false" : NULL;
	e->b = bench_new("virtio-9p", e->options);
	virtio_driver_init(&e->d, e->b, 0);
	*state = e;
	return 0;
}

static int
setup(void **state)
{
	return setup_share(state, false);
}

static int
setup_writable(void **state)
{
	return setup_share(state, true);
}

static int
teardown(void **state)
{
	struct env *e = *state;
	const struct dirent *entry;
	DIR *dir;

	bench_free(e->b);
	dir = opendir(e->dir);
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		(void)unlinkat(dirfd(dir), entry->d_name, 0);
	(void)closedir(dir);
	assert_int_equal(rmdir(e->dir), 0);
	free(e);
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_says_its_name),
		TEST(bad_options_are_refused),
		TEST(a_file_can_be_read),
		TEST(unless_asked_for_it_is_read_only),
		cmocka_unit_test_setup_teardown(a_share_can_be_written,
		    setup_writable, teardown),
		TEST(requests_are_answered_in_order),
		TEST(any_pieces_will_do),
		TEST(chains_too_short_break_nothing),
		TEST(sizes_that_lie),
		TEST(a_reply_over_its_request),
		TEST(a_broken_ring_asks_for_a_reset),
		TEST(a_reset_ends_the_session),
		TEST(reset_under_requests),
		TEST(pausing_holds_requests),
		TEST(interrupts_follow),
		TEST(a_loaded_device_has_no_session),
		TEST(the_machine_ends_under_requests),
		TEST(processors_may_disagree),
		TEST(state_makes_the_trip),
		TEST(any_access_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
