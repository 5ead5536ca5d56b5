/*
 * virtio-console: what a driver and the clients of two ports see of each other.
 *
 * Each test has a directory of its own with the sockets of port 0, "zero", and
 * port 2, "two"; there is no port 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/wire.h"
#include "event/event.h"
#include "test/virtio_driver.h"
#include "virtio/virtio.h"
#include "vm/platform.h"

#define READY 0x0f
#define MULTIPORT BIT(1)

#define RX(port) ((port) == 0 ? 0u : 2 * (port) + 2)
#define TX(port) (RX(port) + 1)
#define CONTROL_RX 2u
#define CONTROL_TX 3u

#define DEVICE_READY 0
#define DEVICE_ADD 1
#define PORT_READY 3
#define PORT_OPEN 6
#define PORT_NAME 7

/* Control buffers have a page each; data of either direction 1 MiB. */
#define CONTROL_IN(i) (VIRTIO_DATA + (i)*0x1000)
#define CONTROL_OUT (VIRTIO_DATA + 0x80000)
#define IN (VIRTIO_DATA + 0x100000)
#define OUT (VIRTIO_DATA + 0x200000)

struct env {
	struct bench *b;
	struct virtio_driver d;
	unsigned control; /* buffers of it that were used */
	char dir[32];
	char paths[2][64];
	char words[2][96];
	const char *options[6]; /* borrowed by the bench */
};

static void
turn(struct env *e, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
		loop_run_once(e->b->loop, 0);
}

/* ---- control ------------------------------------------------------------- */

static void
say_bytes(struct env *e, const void *bytes, uint32_t len)
{
	const struct virtio_part part = { CONTROL_OUT, len, false };

	assert_int_equal(mem_write(vm_mem(e->b->vm), CONTROL_OUT, bytes, len),
	    0);
	virtio_driver_offer(&e->d, CONTROL_TX, &part, 1);
	virtio_driver_kick(&e->d, CONTROL_TX);
	virtio_driver_wait(&e->d, CONTROL_TX, NULL, NULL);
}

static void
say(struct env *e, uint32_t id, unsigned event, unsigned value)
{
	uint8_t bytes[8];

	le32_store(bytes, id);
	le16_store(bytes + 4, (uint16_t)event);
	le16_store(bytes + 6, (uint16_t)value);
	say_bytes(e, bytes, sizeof(bytes));
}

static void
offer_control(struct env *e, unsigned slot, uint32_t len)
{
	const struct virtio_part part = { CONTROL_IN(slot % 32), len, true };

	virtio_driver_offer(&e->d, CONTROL_RX, &part, 1);
	virtio_driver_kick(&e->d, CONTROL_RX);
}

/* The next message is this one; name NULL: it has none. */
static void
assert_told(struct env *e, uint32_t id, unsigned event, unsigned value,
    const char *name)
{
	gpa_t gpa = CONTROL_IN(e->control % 32);
	char text[16] = "";
	uint32_t len;

	virtio_driver_wait(&e->d, CONTROL_RX, NULL, &len);
	assert_int_equal(len, 8 + (name == NULL ? 0 : strlen(name)));
	assert_int_equal(virtio_driver_peek(&e->d, gpa, 4), id);
	assert_int_equal(virtio_driver_peek(&e->d, gpa + 4, 2), event);
	assert_int_equal(virtio_driver_peek(&e->d, gpa + 6, 2), value);
	if (name != NULL) {
		assert_int_equal(mem_read(vm_mem(e->b->vm), gpa + 8, text,
				     len - 8),
		    0);
		assert_string_equal(text, name);
	}
	offer_control(e, e->control++, 0x1000);
}

static void
assert_told_nothing(struct env *e)
{
	turn(e, 20);
	assert_false(virtio_driver_used(&e->d, CONTROL_RX, NULL, NULL));
}

/* A driver begins: port 0 may have its client already. */
static void
begin_with(struct env *e, bool has_client)
{
	virtio_driver_init(&e->d, e->b, MULTIPORT);
	e->control = 0;
	for (unsigned i = 0; i < 32; i++)
		offer_control(e, i, 0x1000);
	say(e, 0, DEVICE_READY, 1);
	assert_told(e, 0, DEVICE_ADD, 1, NULL);
	assert_told(e, 2, DEVICE_ADD, 1, NULL);
	say(e, 0, PORT_READY, 1);
	assert_told(e, 0, PORT_NAME, 1, "zero");
	if (has_client)
		assert_told(e, 0, PORT_OPEN, 1, NULL);
	say(e, 2, PORT_READY, 1);
	assert_told(e, 2, PORT_NAME, 1, "two");
}

static void
begin(struct env *e)
{
	begin_with(e, false);
}

/* ---- clients ------------------------------------------------------------- */

static int
client(struct env *e, unsigned id)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	memcpy(sun.sun_path, e->paths[id / 2], sizeof(e->paths[0]));
	assert_int_equal(connect(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	return fd;
}

static int
connected(struct env *e, unsigned id)
{
	int fd = client(e, id);

	assert_told(e, id, PORT_OPEN, 1, NULL);
	return fd;
}

static void
offer_in(struct env *e, unsigned id, uint32_t len)
{
	const struct virtio_part part = { IN, len, true };

	virtio_driver_offer(&e->d, RX(id), &part, 1);
	virtio_driver_kick(&e->d, RX(id));
}

/* What came into the buffer that was offered. */
static void
assert_in(struct env *e, unsigned id, const char *text)
{
	char got[64] = "";
	uint32_t len;

	virtio_driver_wait(&e->d, RX(id), NULL, &len);
	assert_int_equal(len, strlen(text));
	assert_int_equal(mem_read(vm_mem(e->b->vm), IN, got, len), 0);
	assert_string_equal(got, text);
}

static void
client_sends(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void
guest_sends(struct env *e, unsigned id, const char *text)
{
	const struct virtio_part part = { OUT, (uint32_t)strlen(text), false };

	assert_int_equal(mem_write(vm_mem(e->b->vm), OUT, text, strlen(text)),
	    0);
	virtio_driver_offer(&e->d, TX(id), &part, 1);
	virtio_driver_kick(&e->d, TX(id));
}

static void
assert_client_gets(struct env *e, int fd, const char *text)
{
	char got[64] = "";
	size_t len = 0;

	while (len < strlen(text)) {
		ssize_t n = read(fd, got + len, strlen(text) - len);

		if (n > 0)
			len += (size_t)n;
		else
			loop_run_once(e->b->loop, 1);
	}
	assert_string_equal(got, text);
}

/* ---- what the device is -------------------------------------------------- */

static void
it_says_what_it_is(void **state)
{
	struct env *e = *state;
	struct virtio_driver *d = &e->d;

	virtio_driver_find(d, e->b);
	assert_int_equal(bench_read(e->b, d->cfg, 4), 0x10031af4);
	assert_int_equal(bench_read(e->b, d->cfg + 8, 4), 0x07800000);
	assert_int_equal(bench_read(e->b, d->cfg + 0x2c, 4), 0x00031af4);
	assert_int_equal(virtio_driver_get(d, VC_NUM_QUEUES, 2), 34);
	assert_int_equal(virtio_driver_offered(d) & 7, 3);
	assert_int_equal(bench_read(e->b, d->device, 2), 80);
	assert_int_equal(bench_read(e->b, d->device + 2, 2), 25);
	assert_int_equal(bench_read(e->b, d->device + 4, 4), 16);
}

static void
bad_ports_are_refused(void **state)
{
	static char too_long[sizeof("port.0.name=") + 129];
	static const struct {
		const char *options[5], *msg;
	} bad[] = {
		{ { "port.0.name=a" }, "port 0 has no path" },
		{ { "port.3.path=/tmp/x" }, "port 3 has no name" },
		{ { "port.16.name=a", "port.16.path=/tmp/x" }, "0 to 15" },
		{ { "port.-1.name=a" }, "0 to 15" },
		{ { "port.x.name=a" }, "0 to 15" },
		{ { "port.0=a" }, "0 to 15" },
		{ { "port.0.size=1" }, "port.0.size: unknown key" },
		{ { "size=1" }, "size" },
		{ { too_long, "port.0.path=/tmp/x" }, "longer than 128" },
		{ { "port.0.name=a", "port.0.path=/nonexistent/x" },
		    "cannot make the socket" },
	};
	struct env *e = *state;
	struct err err;

	memset(too_long, 'x', sizeof(too_long) - 1);
	memcpy(too_long, "port.0.name=", strlen("port.0.name="));
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		struct config *node;
		struct device *dev;
		char path[16];

		(void)snprintf(path, sizeof(path), "pci.0.%u.0", i + 4);
		assert_int_equal(config_make(e->b->config, path, &node, NULL),
		    0);
		for (unsigned o = 0; bad[i].options[o] != NULL; o++)
			assert_int_equal(config_set_option(node,
					     bad[i].options[o], NULL),
			    0);
		assert_true(device_new(e->b->vm, "virtio-console", path, node,
				&dev, &err) < 0);
		if (strstr(err.msg, bad[i].msg) == NULL)
			fail_msg("%s", err.msg);
	}
}

/* ---- data ---------------------------------------------------------------- */

static void
ports_carry_data(void **state)
{
	struct env *e = *state;
	int zero, two;

	begin(e);
	zero = connected(e, 0);
	two = connected(e, 2);
	say(e, 0, PORT_OPEN, 1);
	say(e, 2, PORT_OPEN, 1);
	guest_sends(e, 0, "out of zero");
	assert_client_gets(e, zero, "out of zero");
	guest_sends(e, 2, "out of two");
	assert_client_gets(e, two, "out of two");
	virtio_driver_wait(&e->d, TX(2), NULL, NULL);
	offer_in(e, 2, 64);
	client_sends(two, "into two");
	assert_in(e, 2, "into two");
	offer_in(e, 0, 64);
	client_sends(zero, "into zero");
	assert_in(e, 0, "into zero");
	assert_int_equal(virtio_driver_status(&e->d), READY);
	close(zero);
	close(two);
}

static void
input_waits_for_the_guest(void **state)
{
	const struct virtio_part unwritable = { IN, 3, false };
	struct env *e = *state;
	int fd;

	begin(e);
	fd = connected(e, 2);
	client_sends(fd, "abcdefgh");
	offer_in(e, 2, 3);
	turn(e, 20);
	assert_false(virtio_driver_used(&e->d, RX(2), NULL, NULL));
	say(e, 2, PORT_OPEN, 1);
	assert_in(e, 2, "abc");
	/* A buffer that cannot be written has no room. */
	virtio_driver_offer(&e->d, RX(2), &unwritable, 1);
	virtio_driver_kick(&e->d, RX(2));
	assert_in(e, 2, "");
	offer_in(e, 2, 3);
	assert_in(e, 2, "def");
	offer_in(e, 2, 64);
	assert_in(e, 2, "gh");
	/* What it has sent before it went comes before it is told gone. */
	client_sends(fd, "last");
	close(fd);
	assert_told_nothing(e);
	offer_in(e, 2, 64);
	assert_in(e, 2, "last");
	offer_in(e, 2, 64);
	assert_told(e, 2, PORT_OPEN, 0, NULL);
}

static void
without_a_client_output_is_dropped(void **state)
{
	struct env *e = *state;
	int fd;

	begin(e);
	guest_sends(e, 0, "nobody");
	virtio_driver_wait(&e->d, TX(0), NULL, NULL);
	fd = connected(e, 0);
	guest_sends(e, 0, "somebody");
	assert_client_gets(e, fd, "somebody");
	close(fd);
}

/* Byte i of a long stream. */
static uint8_t
pattern(size_t i)
{
	return (uint8_t)(i * 7 + i / 251);
}

static void
a_slow_client_holds_the_guest(void **state)
{
	const size_t total = 0x100000;
	const struct virtio_part whole = { OUT, 0x100000, false };
	struct env *e = *state;
	uint8_t *out = mem_ptr_write(vm_mem(e->b->vm), OUT, total);
	size_t got = 0;
	int fd;

	for (size_t i = 0; i < total; i++)
		out[i] = pattern(i);
	begin(e);
	fd = connected(e, 2);
	virtio_driver_offer(&e->d, TX(2), &whole, 1);
	virtio_driver_kick(&e->d, TX(2));
	turn(e, 100);
	assert_false(virtio_driver_used(&e->d, TX(2), NULL, NULL));
	while (got < total) {
		uint8_t piece[8192];
		ssize_t n = read(fd, piece, sizeof(piece));

		if (n <= 0) {
			loop_run_once(e->b->loop, 1);
			continue;
		}
		for (ssize_t i = 0; i < n; i++)
			if (piece[i] != pattern(got++))
				fail_msg("byte %zu", got - 1);
	}
	virtio_driver_wait(&e->d, TX(2), NULL, NULL);
	/* One that goes lets the guest go on, too. */
	virtio_driver_offer(&e->d, TX(2), &whole, 1);
	virtio_driver_kick(&e->d, TX(2));
	turn(e, 100);
	assert_false(virtio_driver_used(&e->d, TX(2), NULL, NULL));
	close(fd);
	virtio_driver_wait(&e->d, TX(2), NULL, NULL);
}

/* ---- clients come and go ------------------------------------------------- */

static void
clients_come_and_go(void **state)
{
	struct env *e = *state;

	begin(e);
	for (unsigned round = 0; round < 20; round++) {
		int fd = connected(e, 0);

		guest_sends(e, 0, "hello");
		assert_client_gets(e, fd, "hello");
		virtio_driver_wait(&e->d, TX(0), NULL, NULL);
		close(fd);
		assert_told(e, 0, PORT_OPEN, 0, NULL);
	}
	assert_told_nothing(e);
}

static void
a_second_client_is_turned_away(void **state)
{
	struct env *e = *state;
	char byte;
	int first, second;

	begin(e);
	first = connected(e, 0);
	second = client(e, 0);
	while (read(second, &byte, 1) != 0)
		loop_run_once(e->b->loop, 1);
	close(second);
	assert_told_nothing(e);
	guest_sends(e, 0, "first");
	assert_client_gets(e, first, "first");
	close(first);
}

static void
a_quick_change_is_told_as_both(void **state)
{
	struct env *e = *state;
	int fd;

	begin(e);
	fd = connected(e, 0);
	/* Nobody looks at the ring while the device is no bus master. */
	bench_write(e->b, e->d.cfg + 4, 2, 3);
	close(fd);
	turn(e, 20);
	fd = client(e, 0);
	turn(e, 20);
	assert_told_nothing(e);
	bench_write(e->b, e->d.cfg + 4, 2, 7);
	assert_told(e, 0, PORT_OPEN, 0, NULL);
	assert_told(e, 0, PORT_OPEN, 1, NULL);
	assert_told_nothing(e);
	close(fd);
}

static void
reset_while_connected(void **state)
{
	struct env *e = *state;
	int fd;

	begin(e);
	fd = connected(e, 0);
	say(e, 0, PORT_OPEN, 1);
	offer_in(e, 0, 3);
	client_sends(fd, "abcdef");
	assert_in(e, 0, "abc");
	virtio_driver_set_status(&e->d, 0);
	turn(e, 20);
	begin_with(e, true);
	/* What was staged went with the driver that it was for. */
	say(e, 0, PORT_OPEN, 1);
	offer_in(e, 0, 64);
	client_sends(fd, "new");
	assert_in(e, 0, "new");
	close(fd);
}

static void
a_driver_without_multiport_has_one_port(void **state)
{
	struct env *e = *state;
	int fd = client(e, 0);

	virtio_driver_init(&e->d, e->b, 0);
	offer_control(e, 0, 0x1000);
	offer_in(e, 0, 64);
	client_sends(fd, "in");
	assert_in(e, 0, "in");
	guest_sends(e, 0, "out");
	assert_client_gets(e, fd, "out");
	assert_told_nothing(e);
	close(fd);
}

/* ---- messages that no driver sends --------------------------------------- */

static void
hostile_messages_mean_nothing(void **state)
{
	static const uint32_t ids[] = { 1, 3, 15, 16, 17, 0x7fffffff,
		0x80000000, UINT32_MAX };
	const uint8_t bytes[16] = { 0, 0, 0, 0, DEVICE_READY, 0, 1, 0 };
	struct env *e = *state;
	int fd;

	begin(e);
	for (unsigned i = 0; i < ARRAY_SIZE(ids); i++)
		for (unsigned event = 1; event < 10; event++)
			say(e, ids[i], event, 1);
	for (unsigned event = 8; event < 0x10000; event += 0xff)
		say(e, 0, event, 1);
	for (uint32_t len = 1; len < 8; len++)
		say_bytes(e, bytes, len);
	say(e, 0, DEVICE_READY, 0);
	say(e, 0, DEVICE_READY, 0xffff);
	say(e, 0, DEVICE_ADD, 1);
	say(e, 0, PORT_NAME, 1);
	assert_told_nothing(e);
	/* A longer one is one with something after it. */
	say_bytes(e, bytes, sizeof(bytes));
	assert_told(e, 0, DEVICE_ADD, 1, NULL);
	assert_told(e, 2, DEVICE_ADD, 1, NULL);
	fd = connected(e, 2);
	close(fd);
	assert_int_equal(virtio_driver_status(&e->d), READY);
}

static void
a_flood_is_answered_once(void **state)
{
	struct env *e = *state;

	virtio_driver_init(&e->d, e->b, MULTIPORT);
	e->control = 0;
	for (unsigned i = 0; i < 5000; i++) {
		say(e, 0, DEVICE_READY, 1);
		say(e, 0, PORT_READY, 1);
		say(e, 0, PORT_OPEN, i % 2);
	}
	turn(e, 20);
	for (unsigned i = 0; i < 32; i++)
		offer_control(e, i, 0x1000);
	assert_told(e, 0, DEVICE_ADD, 1, NULL);
	assert_told(e, 0, PORT_NAME, 1, "zero");
	assert_told(e, 2, DEVICE_ADD, 1, NULL);
	assert_told_nothing(e);
}

static void
buffers_too_small_for_a_message(void **state)
{
	struct env *e = *state;
	uint32_t len;

	virtio_driver_init(&e->d, e->b, MULTIPORT);
	say(e, 0, DEVICE_READY, 1);
	offer_control(e, 0, 7);
	virtio_driver_wait(&e->d, CONTROL_RX, NULL, &len);
	assert_int_equal(len, 0);
	offer_control(e, 1, 8);
	virtio_driver_wait(&e->d, CONTROL_RX, NULL, &len);
	assert_int_equal(len, 8);
	assert_int_equal(virtio_driver_peek(&e->d, CONTROL_IN(1), 4), 2);
	say(e, 0, PORT_READY, 1);
	offer_control(e, 2, 11);
	virtio_driver_wait(&e->d, CONTROL_RX, NULL, &len);
	assert_int_equal(len, 8);
	assert_int_equal(virtio_driver_status(&e->d), READY);
}

static void
queues_of_ports_that_are_not(void **state)
{
	struct env *e = *state;

	begin(e);
	guest_sends(e, 1, "nowhere");
	offer_in(e, 1, 64);
	turn(e, 20);
	assert_false(virtio_driver_used(&e->d, TX(1), NULL, NULL));
	assert_false(virtio_driver_used(&e->d, RX(1), NULL, NULL));
	assert_int_equal(virtio_driver_status(&e->d), READY);
}

/* ---- state --------------------------------------------------------------- */

static void
life(struct env *e, void (*what)(void *self))
{
	lock_take(device_lock(e->b->dev));
	what(device_self(e->b->dev));
	lock_drop(device_lock(e->b->dev));
}

static void
pausing_keeps_everything(void **state)
{
	struct env *e = *state;
	int fd;

	begin(e);
	fd = connected(e, 2);
	say(e, 2, PORT_OPEN, 1);
	life(e, device_model(e->b->dev)->pause);
	offer_in(e, 2, 64);
	client_sends(fd, "while paused");
	guest_sends(e, 2, "out");
	turn(e, 20);
	assert_false(virtio_driver_used(&e->d, RX(2), NULL, NULL));
	assert_false(virtio_driver_used(&e->d, TX(2), NULL, NULL));
	life(e, device_model(e->b->dev)->resume);
	assert_in(e, 2, "while paused");
	assert_client_gets(e, fd, "out");
	close(fd);
}

static int setup(void **state);
static int teardown(void **state);

static void
state_makes_the_trip(void **state)
{
	const struct virtio_part whole = { OUT, 0x100000, false };
	struct env *e = *state, *twin;
	struct buf saved = { 0 }, again = { 0 };
	struct reader in;
	void *other;
	int fd;

	begin(e);
	fd = connected(e, 2);
	say(e, 2, PORT_OPEN, 1);
	virtio_driver_offer(&e->d, TX(2), &whole, 1);
	virtio_driver_kick(&e->d, TX(2)); /* stops somewhere in it */
	turn(e, 50);
	life(e, device_model(e->b->dev)->pause);
	bench_save(e->b, &saved);

	assert_int_equal(setup(&other), 0);
	twin = other;
	life(twin, device_model(twin->b->dev)->pause);
	in = reader_make(saved.data, saved.len);
	assert_int_equal(device_load(twin->b->dev, &in, NULL), 0);
	bench_save(twin->b, &again);
	assert_int_equal(saved.len, again.len);
	assert_memory_equal(saved.data, again.data, saved.len);
	buf_fini(&again);
	assert_int_equal(teardown(&other), 0);

	/* Loaded where it was saved, the guest hears of another client. */
	in = reader_make(saved.data, saved.len);
	assert_int_equal(device_load(e->b->dev, &in, NULL), 0);
	buf_fini(&saved);
	life(e, device_model(e->b->dev)->resume);
	assert_told(e, 2, PORT_OPEN, 0, NULL);
	assert_told(e, 2, PORT_OPEN, 1, NULL);
	close(fd);
	virtio_driver_wait(&e->d, TX(2), NULL, NULL);
}

static void
ports_of_another_machine_are_refused(void **state)
{
	const char *const none[] = { "bench.node=" VIRTIO_DRIVER_NODE, NULL };
	struct env *e = *state;
	struct bench *b = bench_new("virtio-console", none);
	struct buf saved = { 0 };
	struct reader in;
	struct err err;

	begin(e);
	bench_save(e->b, &saved);
	in = reader_make(saved.data, saved.len);
	assert_int_equal(device_load(b->dev, &in, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "does not have"));
	buf_fini(&saved);
	bench_round_trip(b);
	bench_free(b);
}

struct driver_thread {
	struct bus *bus;
	gpa_t notify, isr;
	_Atomic bool stop;
};

/* Notifies every queue while they are used and reset. */
static void *
other_processor(void *arg)
{
	struct driver_thread *t = arg;

	while (!atomic_load_explicit(&t->stop, memory_order_relaxed)) {
		for (unsigned q = 0; q < 34; q++)
			bus_write(t->bus, t->notify + q * 4, 2, q);
		(void)bus_read(t->bus, t->isr, 1);
	}
	return NULL;
}

static void
processors_may_disagree(void **state)
{
	struct env *e = *state;
	struct driver_thread t = { .bus = vm_mmio(e->b->vm) };
	pthread_t thread;

	begin(e);
	t.notify = e->d.notify;
	t.isr = e->d.isr;
	assert_int_equal(pthread_create(&thread, NULL, other_processor, &t), 0);
	for (unsigned round = 0; round < 30; round++) {
		int fd;

		begin(e);
		fd = connected(e, 0);
		say(e, 0, PORT_OPEN, 1);
		offer_in(e, 0, 64);
		client_sends(fd, "in");
		assert_in(e, 0, "in");
		guest_sends(e, 0, "out");
		assert_client_gets(e, fd, "out");
		if (round % 2 == 0)
			offer_in(e, 0, 64);
		client_sends(fd, "unread");
		close(fd);
		virtio_driver_set_status(&e->d, 0);
		turn(e, 5);
		/* The next driver reads what the last left, to its end. */
		virtio_driver_init(&e->d, e->b, 0);
		offer_in(e, 0, 64);
		offer_in(e, 0, 64);
		turn(e, 20);
	}
	atomic_store_explicit(&t.stop, true, memory_order_relaxed);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void
any_access_is_survived(void **state)
{
	const char *const none[] = { "bench.node=" VIRTIO_DRIVER_NODE, NULL };
	struct bench *b = bench_new("virtio-console", none);
	struct virtio_driver d;

	virtio_driver_init(&d, b, MULTIPORT);
	const struct bench_range ranges[] = {
		{ BUS_MMIO, d.common, 0x4000 },
		{ BUS_MMIO, d.common, 0x40 },
		{ BUS_MMIO, d.device, 16 },
		{ BUS_PORT, d.ports, 64 },
	};

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 5000, 1);
	bench_free(b);
}

/* ---- setting up ---------------------------------------------------------- */

static int
setup(void **state)
{
	static const char *const names[] = { "zero", "two" };
	struct env *e = xcalloc(1, sizeof(*e));

	strcpy(e->dir, "/tmp/vcon.XXXXXX");
	assert_non_null(mkdtemp(e->dir));
	e->options[0] = "bench.node=" VIRTIO_DRIVER_NODE;
	e->options[1] = VIRTIO_DRIVER_NODE ".port.0.name=zero";
	e->options[2] = VIRTIO_DRIVER_NODE ".port.2.name=two";
	for (unsigned i = 0; i < 2; i++) {
		(void)snprintf(e->paths[i], sizeof(e->paths[i]), "%s/%s",
		    e->dir, names[i]);
		(void)snprintf(e->words[i], sizeof(e->words[i]),
		    VIRTIO_DRIVER_NODE ".port.%u.path=%s", i * 2, e->paths[i]);
		e->options[3 + i] = e->words[i];
	}
	e->b = bench_new("virtio-console", e->options);
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct env *e = *state;

	bench_free(e->b);
	/* Empty: the sockets went with the device. */
	assert_int_equal(rmdir(e->dir), 0);
	free(e);
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_says_what_it_is),
		TEST(bad_ports_are_refused),
		TEST(ports_carry_data),
		TEST(input_waits_for_the_guest),
		TEST(without_a_client_output_is_dropped),
		TEST(a_slow_client_holds_the_guest),
		TEST(clients_come_and_go),
		TEST(a_second_client_is_turned_away),
		TEST(a_quick_change_is_told_as_both),
		TEST(reset_while_connected),
		TEST(a_driver_without_multiport_has_one_port),
		TEST(hostile_messages_mean_nothing),
		TEST(a_flood_is_answered_once),
		TEST(buffers_too_small_for_a_message),
		TEST(queues_of_ports_that_are_not),
		TEST(pausing_keeps_everything),
		TEST(state_makes_the_trip),
		TEST(ports_of_another_machine_are_refused),
		TEST(processors_may_disagree),
		TEST(any_access_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
