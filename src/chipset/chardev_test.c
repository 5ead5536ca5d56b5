/*
 * Serial back ends against real sockets, terminals and pipes, polite and not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "chipset/chardev.h"

#define PATIENCE_NS (20 * NS_PER_SEC)

static char dir[] = "/tmp/chardev_test.XXXXXX";

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* A back end and the user that a test plays. */
struct rig {
	struct loop *loop;
	struct chardev *dev;
	size_t room; /* what the user can take; goes down as it takes */
	unsigned asked;
	unsigned drained;
	unsigned came, went; /* peers; there is never more than one */
	uint8_t *got;        /* owned */
	size_t got_len;
};

static size_t
rig_room(void *arg)
{
	struct rig *rig = arg;

	rig->asked++;
	return rig->room;
}

static void
rig_receive(void *arg, const uint8_t *data, size_t len)
{
	struct rig *rig = arg;

	assert_true(len > 0);
	assert_true(len <= rig->room);
	rig->room -= len;
	rig->got = xreallocarray(rig->got, rig->got_len + len, 1);
	memcpy(rig->got + rig->got_len, data, len);
	rig->got_len += len;
}

static void
rig_drained(void *arg)
{
	struct rig *rig = arg;

	rig->drained++;
}

static void
rig_connected(void *arg, bool is)
{
	struct rig *rig = arg;

	assert_int_equal(rig->came - rig->went, is ? 0 : 1);
	if (is)
		rig->came++;
	else
		rig->went++;
}

static int
rig_try_as(struct rig *rig, struct loop *loop, const char *text, bool patient,
    struct err *err)
{
	const struct chardev_user user = {
		.room = rig_room,
		.receive = rig_receive,
		.drained = rig_drained,
		.connected = rig_connected,
		.patient = patient,
		.arg = rig,
	};

	*rig = (struct rig) { .loop = loop, .room = SIZE_MAX };
	return chardev_open(loop, text, &user, &rig->dev, err);
}

static int
rig_try(struct rig *rig, struct loop *loop, const char *text, struct err *err)
{
	return rig_try_as(rig, loop, text, false, err);
}

static void
rig_open(struct rig *rig, struct loop *loop, const char *text)
{
	struct err err;

	if (rig_try(rig, loop, text, &err) < 0) {
		print_error("%s\n", err.msg);
		fail();
	}
}

static void
rig_close(struct rig *rig)
{
	chardev_close(rig->dev);
	free(rig->got);
	*rig = (struct rig) { 0 };
}

/* Run the loop until something is so; a test that waits in vain fails. */
#define RUN_UNTIL(loop, condition)                        \
	do {                                              \
		uint64_t until_ = now_ns() + PATIENCE_NS; \
                                                          \
		while (!(condition)) {                    \
			assert_true(now_ns() < until_);   \
			loop_run_once(loop, 10);          \
		}                                         \
	} while (0)

/* Run what is ready now, whatever wakes whatever. */
static void
run_idle(struct loop *loop)
{
	for (unsigned i = 0; i < 20; i++)
		loop_run_once(loop, 0);
}

static bool
readable(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

/* Exactly len bytes from a descriptor, with the loop running meanwhile. */
static void
expect(struct loop *loop, int fd, const void *data, size_t len)
{
	uint8_t buf[65536];

	for (size_t at = 0; at < len;) {
		ssize_t n;

		RUN_UNTIL(loop, readable(fd));
		n = read(fd, buf, MIN(len - at, sizeof(buf)));
		assert_true(n > 0);
		assert_memory_equal(buf, (const uint8_t *)data + at, n);
		at += (size_t)n;
	}
}

static void
expect_eof(struct loop *loop, int fd)
{
	char c;

	RUN_UNTIL(loop, readable(fd));
	assert_true(read(fd, &c, 1) <= 0);
}

static void
expect_input(struct rig *rig, const void *data, size_t len)
{
	RUN_UNTIL(rig->loop, rig->got_len >= len);
	assert_int_equal(rig->got_len, len);
	assert_memory_equal(rig->got, data, len);
	rig->got_len = 0;
}

/* Both directions. */
static void
expect_talk(struct rig *rig, int fd)
{
	/* What a cooked terminal would change or swallow. */
	static const char odd[] = "\x03\x11\x13\r\n\x04\x1a\x7f\xff\x00z";

	assert_int_equal(write(fd, odd, sizeof(odd)), sizeof(odd));
	expect_input(rig, odd, sizeof(odd));
	assert_int_equal(chardev_write(rig->dev, odd, sizeof(odd)),
	    sizeof(odd));
	expect(rig->loop, fd, odd, sizeof(odd));
}

static void
fill_pattern(uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
}

/* Is output dropped rather than queued?  Only so does it never fill. */
static void
expect_dropped(struct rig *rig)
{
	static const uint8_t block[CHARDEV_QUEUE];

	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(chardev_write(rig->dev, block, sizeof(block)),
		    sizeof(block));
		assert_true(chardev_writable(rig->dev));
	}
}

static int
setup(void **state)
{
	*state = loop_new(NULL);
	return *state == NULL;
}

static int
teardown(void **state)
{
	loop_free(*state);
	return 0;
}

/* ---- what can be opened ------------------------------------------------- */

static void
nonsense_is_refused_in_a_sentence(void **state)
{
	static const char *const texts[] = {
		"",
		"serial",
		"stdi",
		"stdio,raw",
		"ptyx",
		"pty,/nonexistent/link",
		"socket",
		"socket,",
		"socket,/tmp/a,wait",
		"socket,/nonexistent/socket",
		"tcp=",
		"tcp=127.0.0.1",
		"tcp=127.0.0.1:",
		"tcp=:5555",
		"tcp=127.0.0.1:65536",
		"tcp=127.0.0.1:http",
		"tcp=localhost:5555",
		"tcp=::1:5555",
		"tcp=[::1]",
		"tcp=[]:5555",
		"tcp=203.0.113.1:0",
		"/dev/null",
		"/dev/nonexistent",
		"/dev/nmdm",
		"/dev/nmdmA",
		"/dev/nmdm0",
		"/dev/nmdm../xA",
		"nmdm:",
		"nmdm:a b",
	};
	struct rig rig;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct err err = { "" };

		if (rig_try(&rig, *state, texts[i], &err) >= 0) {
			print_error("'%s' was taken\n", texts[i]);
			fail();
		}
		assert_memory_equal(err.msg, texts[i], strlen(texts[i]));
		assert_true(strlen(err.msg) > strlen(texts[i]) + 5);
	}
}

static void
paths_that_do_not_fit_are_refused(void **state)
{
	char text[300];
	struct rig rig;

	memset(text, 'x', sizeof(text));
	memcpy(text, "socket,/", 8);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(rig_try(&rig, *state, text, NULL), -EINVAL);
	memcpy(text, "nmdm:", 5);
	assert_int_equal(rig_try(&rig, *state, text, NULL), -EINVAL);
}

/* ---- sockets ------------------------------------------------------------ */

static int
connect_tcp(const struct rig *rig)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	const char *address = chardev_address(rig->dev);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(strncmp(address, "127.0.0.1:", 10), 0);
	sin.sin_port = htons((uint16_t)atoi(address + 10));
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (void *)&sin, sizeof(sin)), 0);
	return fd;
}

static int
connect_unix(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(connect(fd, (void *)&sun, sizeof(sun)), 0);
	return fd;
}

static void
tcp_serves_one_client_after_another(void **state)
{
	struct rig rig;

	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	expect_dropped(&rig);
	for (unsigned i = 0; i < 3; i++) {
		int fd = connect_tcp(&rig);

		expect_talk(&rig, fd);
		close(fd);
		/* Its end is seen, and output has nobody again. */
		run_idle(*state);
		expect_dropped(&rig);
	}
	rig_close(&rig);
}

static void
tcp_tells_a_second_client(void **state)
{
	static const char words[] = "Socket already connected\n";
	struct rig rig;
	int first, second;
	char c;

	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	first = connect_tcp(&rig);
	expect_talk(&rig, first);
	second = connect_tcp(&rig);
	/* It does not hear us out; that must not cost it the words. */
	assert_int_equal(write(second, "hello", 5), 5);
	expect(*state, second, words, sizeof(words));
	/* A clean end: a reset could overtake the words. */
	RUN_UNTIL(*state, readable(second));
	assert_int_equal(read(second, &c, 1), 0);
	close(second);
	expect_talk(&rig, first);
	close(first);
	rig_close(&rig);
}

static void
tcp_works_over_ipv6(void **state)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };
	struct rig rig;
	struct err err;
	int fd;

	if (rig_try(&rig, *state, "tcp=[::1]:0", &err) < 0)
		skip(); /* a host without IPv6 */
	assert_memory_equal(chardev_address(rig.dev), "[::1]:", 6);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	sin6.sin6_port = htons((uint16_t)atoi(chardev_address(rig.dev) + 6));
	sin6.sin6_addr = in6addr_loopback;
	assert_int_equal(connect(fd, (void *)&sin6, sizeof(sin6)), 0);
	expect_talk(&rig, fd);
	close(fd);
	rig_close(&rig);
}

static void
unix_sockets_shut_a_second_client(void **state)
{
	char *text = xasprintf("socket,%s/one", dir), *path = text + 7;
	struct rig rig;
	int first, second;

	rig_open(&rig, *state, text);
	assert_string_equal(chardev_address(rig.dev), path);
	first = connect_unix(path);
	expect_talk(&rig, first);
	second = connect_unix(path);
	expect_eof(*state, second);
	close(second);
	expect_talk(&rig, first);
	close(first);
	second = connect_unix(path);
	expect_talk(&rig, second);
	close(second);
	rig_close(&rig);
	assert_int_equal(access(path, F_OK), -1);
	free(text);
}

static void
only_stale_paths_are_replaced(void **state)
{
	char *text = xasprintf("socket,%s/two", dir), *path = text + 7;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct rig rig, other;
	struct err err;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* A server that died without a word. */
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", path);
	assert_int_equal(bind(fd, (void *)&sun, sizeof(sun)), 0);
	close(fd);
	rig_open(&rig, *state, text);

	/* One that lives. */
	assert_int_equal(rig_try(&other, *state, text, &err), -EADDRINUSE);
	fd = connect_unix(path);
	RUN_UNTIL(*state, rig.asked > 0);
	expect_talk(&rig, fd);
	close(fd);

	/* Somebody else's path by now is not ours to remove. */
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	rig_close(&rig);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(rig_try(&rig, *state, text, &err), -EEXIST);
	assert_int_equal(unlink(path), 0);
	free(text);
}

static void
a_half_closed_client_has_gone(void **state)
{
	struct rig rig;
	int fd, next;

	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	fd = connect_tcp(&rig);
	assert_int_equal(write(fd, "bye", 3), 3);
	shutdown(fd, SHUT_WR);
	expect_input(&rig, "bye", 3);
	expect_eof(*state, fd);
	next = connect_tcp(&rig);
	expect_talk(&rig, next);
	close(next);
	close(fd);
	rig_close(&rig);
}

static void
a_reset_hurts_nobody(void **state)
{
	static const uint8_t block[CHARDEV_QUEUE];
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };
	struct rig rig;

	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	for (unsigned i = 0; i < 5; i++) {
		int fd = connect_tcp(&rig);

		/* With input that is not read, output on its way and queued. */
		expect_talk(&rig, fd);
		rig.room = i % 2 != 0 ? SIZE_MAX : 0;
		assert_int_equal(write(fd, "x", 1), 1);
		run_idle(*state);
		(void)chardev_write(rig.dev, block, sizeof(block));
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(fd);
		(void)chardev_write(rig.dev, block, sizeof(block));
		run_idle(*state);
		rig.room = SIZE_MAX;
		chardev_wake(rig.dev);
		run_idle(*state);
		rig.got_len = 0;
	}
	rig_close(&rig);
}

static void
input_is_pulled_and_none_is_lost(void **state)
{
	enum { LEN = 300000 };
	uint8_t *data = xcalloc(1, LEN);
	size_t sent = 0;
	struct rig rig;
	int fd;

	fill_pattern(data, LEN);
	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	rig.room = 0;
	fd = connect_tcp(&rig);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (rig.got_len < LEN) {
		ssize_t n = write(fd, data + sent, LEN - sent);

		sent += n > 0 ? (size_t)n : 0;
		/* No room: however long it takes, nothing comes. */
		run_idle(*state);
		assert_int_equal(rig.room, 0);
		rig.room = 1 + rig.got_len % 3000;
		chardev_wake(rig.dev);
		RUN_UNTIL(*state, rig.room == 0 || rig.got_len == sent);
		rig.room = 0;
		run_idle(*state);
	}
	assert_int_equal(sent, LEN);
	assert_memory_equal(rig.got, data, LEN);
	close(fd);
	rig_close(&rig);
	free(data);
}

static void
a_client_that_left_is_read_to_its_end(void **state)
{
	char *text = xasprintf("socket,%s/left", dir);
	uint8_t words[20000];
	struct rig rig;
	unsigned asked;
	int fd;

	fill_pattern(words, sizeof(words));
	rig_open(&rig, *state, text);
	fd = connect_unix(text + 7);
	RUN_UNTIL(*state, rig.asked > 0);
	rig.room = 0;
	assert_int_equal(write(fd, words, sizeof(words)), sizeof(words));
	close(fd);
	run_idle(*state);
	/* Its hang-up does not keep the loop busy. */
	asked = rig.asked;
	run_idle(*state);
	assert_int_equal(rig.asked, asked);
	for (unsigned i = 0; i < 5; i++) {
		rig.room = 2;
		chardev_wake(rig.dev);
		RUN_UNTIL(*state, rig.room == 0);
	}
	rig.room = SIZE_MAX;
	chardev_wake(rig.dev);
	expect_input(&rig, words, sizeof(words));
	fd = connect_unix(text + 7);
	expect_talk(&rig, fd);
	close(fd);
	rig_close(&rig);
	free(text);
}

/* A guest that never reads must not lock the next client out. */
static void
a_newcomer_replaces_who_left_unread(void **state)
{
	struct rig rig;
	int fd;

	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	rig.room = 0;
	for (unsigned i = 0; i < 3; i++) {
		fd = connect_tcp(&rig);
		assert_int_equal(write(fd, "unread", 6), 6);
		run_idle(*state);
		close(fd);
		run_idle(*state);
	}
	fd = connect_tcp(&rig);
	run_idle(*state);
	rig.room = SIZE_MAX;
	chardev_wake(rig.dev);
	expect_talk(&rig, fd);
	close(fd);
	rig_close(&rig);
}

static void
the_user_hears_of_clients(void **state)
{
	char *text = xasprintf("socket,%s/heard", dir);
	struct rig rig;
	int fd;

	rig_open(&rig, *state, text);
	for (unsigned i = 0; i < 3; i++) {
		rig.room = SIZE_MAX;
		fd = connect_unix(text + 7);
		RUN_UNTIL(*state, rig.came == i + 1);
		/* One that left nothing has gone, though there is no room. */
		rig.room = 0;
		close(fd);
		RUN_UNTIL(*state, rig.went == i + 1);
	}
	/* One that left something has not until it is read. */
	fd = connect_unix(text + 7);
	assert_int_equal(write(fd, "left", 4), 4);
	close(fd);
	run_idle(*state);
	assert_int_equal(rig.came, 4);
	assert_int_equal(rig.went, 3);
	rig.room = SIZE_MAX;
	chardev_wake(rig.dev);
	RUN_UNTIL(*state, rig.went == 4);
	assert_int_equal(rig.got_len, 4);
	rig_close(&rig);
	free(text);
}

/* Write until the user is told to wait; the bytes taken. */
static size_t
fill_up(struct rig *rig, const uint8_t *data, size_t len)
{
	size_t sent = 0;

	for (;;) {
		size_t n = chardev_write(rig->dev, data + sent,
		    MIN(len - sent, (size_t)3000));

		sent += n;
		assert_true(sent < len);
		run_idle(rig->loop);
		if (n < 3000 && !chardev_writable(rig->dev))
			return sent;
	}
}

#define FLOOD (16 * MIB)

static void
a_slow_client_pushes_back(void **state)
{
	char *text = xasprintf("socket,%s/slow", dir);
	uint8_t *data = xcalloc(1, FLOOD);
	struct rig rig;
	size_t sent, more, seen = 0;
	int fd;

	fill_pattern(data, FLOOD);
	rig_open(&rig, *state, text);
	fd = connect_unix(text + 7);
	expect_talk(&rig, fd);
	sent = fill_up(&rig, data, FLOOD);
	assert_true(sent >= CHARDEV_QUEUE);
	assert_int_equal(rig.drained, 0);
	assert_int_equal(chardev_write(rig.dev, data + sent, 1), 0);

	/* When it reads, the user hears of the room, once. */
	while (rig.drained == 0) {
		expect(*state, fd, data + seen, 1000);
		seen += 1000;
		run_idle(*state);
	}
	run_idle(*state);
	assert_int_equal(rig.drained, 1);
	assert_true(chardev_writable(rig.dev));
	more = chardev_write(rig.dev, data + sent, 1000);
	assert_true(more > 0);
	expect(*state, fd, data + seen, sent + more - seen);
	run_idle(*state);
	assert_false(readable(fd));
	close(fd);
	rig_close(&rig);
	free(data);
	free(text);
}

static void
count_lines(enum log_level level, const char *line)
{
	function_called();
}

static void
a_stuck_client_loses_output(void **state)
{
	char *text = xasprintf("socket,%s/stuck", dir);
	char *waits = xasprintf("socket,%s/waits", dir);
	uint8_t *data = xcalloc(1, FLOOD);
	uint64_t start;
	struct rig rig, patient;
	size_t sent, kept;
	int fd, other;

	fill_pattern(data, FLOOD);
	assert_int_equal(rig_try_as(&patient, *state, waits, true, NULL), 0);
	other = connect_unix(waits + 7);
	expect_talk(&patient, other);
	kept = fill_up(&patient, data, FLOOD);
	rig_open(&rig, *state, text);
	fd = connect_unix(text + 7);
	expect_talk(&rig, fd);
	sent = fill_up(&rig, data, FLOOD);
	start = now_ns();
	expect_function_call(count_lines);
	log_set_sink(count_lines);
	RUN_UNTIL(*state, rig.drained > 0);
	log_set_sink(NULL);
	assert_true(now_ns() - start > 4 * NS_PER_SEC);
	expect_dropped(&rig);
	/* A patient user waits on. */
	assert_int_equal(patient.drained, 0);
	assert_false(chardev_writable(patient.dev));
	expect(*state, other, data, kept);
	assert_int_equal(patient.drained, 1);
	close(other);
	rig_close(&patient);

	/* What it was promised it gets, and then it is served again. */
	expect(*state, fd, data, sent);
	run_idle(*state);
	assert_false(readable(fd));
	expect_talk(&rig, fd);
	close(fd);
	rig_close(&rig);
	free(data);
	free(text);
	free(waits);
}

static void
a_client_that_goes_frees_the_user(void **state)
{
	char *text = xasprintf("socket,%s/goes", dir);
	uint8_t *data = xcalloc(1, FLOOD);
	struct rig rig;
	int fd;

	rig_open(&rig, *state, text);
	fd = connect_unix(text + 7);
	expect_talk(&rig, fd);
	(void)fill_up(&rig, data, FLOOD);
	close(fd);
	RUN_UNTIL(*state, rig.drained > 0);
	expect_dropped(&rig);
	/* The next one gets nothing that was meant for the last. */
	fd = connect_unix(text + 7);
	expect_talk(&rig, fd);
	close(fd);
	rig_close(&rig);
	free(data);
	free(text);
}

static void
closing_sends_what_is_queued(void **state)
{
	struct rig rig;
	int fd;

	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	fd = connect_tcp(&rig);
	expect_talk(&rig, fd);
	assert_int_equal(chardev_write(rig.dev, "Power down\n", 11), 11);
	rig_close(&rig);
	expect(*state, fd, "Power down\n", 11);
	expect_eof(*state, fd);
	close(fd);
}

static void
an_output_nobody_reads_takes_no_input(void **state)
{
	struct chardev *dev;
	char *text = xasprintf("socket,%s/log", dir);
	static const uint8_t flood[4000];
	int fd;

	assert_int_equal(chardev_open(*state, text, NULL, &dev, NULL), 0);
	fd = connect_unix(text + 7);
	run_idle(*state);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (unsigned i = 0; i < 200; i++) {
		assert_true(write(fd, flood, sizeof(flood)) > 0);
		run_idle(*state);
	}
	assert_int_equal(chardev_write(dev, "log\n", 4), 4);
	expect(*state, fd, "log\n", 4);
	/* And the end is seen for all that. */
	close(fd);
	run_idle(*state);
	fd = connect_unix(text + 7);
	run_idle(*state);
	assert_int_equal(chardev_write(dev, "more\n", 5), 5);
	expect(*state, fd, "more\n", 5);
	close(fd);
	chardev_close(dev);
	free(text);
}

static void
a_lack_of_descriptors_passes(void **state)
{
	struct rlimit limit, low;
	struct rig rig;
	uint64_t start = now_ns();
	unsigned turns = 0;
	int fd;

	rig_open(&rig, *state, "tcp=127.0.0.1:0");
	fd = connect_tcp(&rig);
	getrlimit(RLIMIT_NOFILE, &limit);
	low = limit;
	low.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &low);
	/* The loop does not spin on the client that cannot be accepted. */
	while (now_ns() < start + NS_PER_SEC / 2) {
		loop_run_once(*state, 100);
		turns++;
	}
	setrlimit(RLIMIT_NOFILE, &limit);
	assert_true(turns < 50);
	expect_talk(&rig, fd);
	close(fd);
	rig_close(&rig);
}

/* ---- threads ------------------------------------------------------------ */

struct writer {
	struct chardev *dev;
	uint8_t tag;
	unsigned count;
	atomic_uint *running;
};

#define WRITER_BYTES 100000u

/* Tagged counters, one byte at a time as a guest writes them. */
static void *
writer_thread(void *arg)
{
	struct writer *w = arg;

	while (w->count < WRITER_BYTES) {
		uint8_t byte = (uint8_t)(w->tag << 7 | (w->count & 0x7f));

		if (chardev_write(w->dev, &byte, 1) == 1)
			w->count++;
		else
			sched_yield();
		if (w->count % 1000 == 0) {
			chardev_wake(w->dev);
			(void)chardev_writable(w->dev);
		}
	}
	atomic_fetch_sub(w->running, 1);
	return NULL;
}

static void
many_threads_may_write(void **state)
{
	char *text = xasprintf("socket,%s/threads", dir);
	struct writer writers[2];
	pthread_t threads[2];
	atomic_uint running = 2;
	unsigned seen[2] = { 0 };
	uint8_t buf[1000];
	struct rig rig;
	int fd;

	rig_open(&rig, *state, text);
	fd = connect_unix(text + 7);
	expect_talk(&rig, fd);
	for (uint8_t i = 0; i < 2; i++) {
		writers[i] = (struct writer) {
			.dev = rig.dev,
			.tag = i,
			.running = &running,
		};
		pthread_create(&threads[i], NULL, writer_thread, &writers[i]);
	}
	while (seen[0] + seen[1] < 2 * WRITER_BYTES) {
		ssize_t n;

		RUN_UNTIL(*state, readable(fd));
		n = read(fd, buf, sizeof(buf));
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++) {
			unsigned tag = buf[i] >> 7;

			assert_int_equal(buf[i] & 0x7f, seen[tag] & 0x7f);
			seen[tag]++;
		}
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&running), 0);
	assert_int_equal(seen[0], WRITER_BYTES);
	close(fd);
	rig_close(&rig);
	free(text);
}

/* ---- terminals ---------------------------------------------------------- */

static bool
cooked(int fd)
{
	struct termios tio;

	assert_int_equal(tcgetattr(fd, &tio), 0);
	return tio.c_lflag & ICANON && tio.c_lflag & ECHO &&
	    tio.c_oflag & OPOST;
}

/* A pair of the test's own, cooked. */
static void
make_pty(int *master, int *slave, char name[64])
{
	*master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*master >= 0);
	assert_int_equal(unlockpt(*master), 0);
	assert_int_equal(ptsname_r(*master, name, 64), 0);
	*slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(*slave >= 0);
	assert_true(cooked(*slave));
}

static void
a_tty_is_raw_and_put_back(void **state)
{
	int master, slave;
	char name[64];
	struct rig rig, other;
	struct err err;

	make_pty(&master, &slave, name);
	rig_open(&rig, *state, name);
	assert_false(cooked(slave));
	expect_talk(&rig, master);
	assert_int_equal(rig_try(&other, *state, name, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "in use"));
	expect_talk(&rig, master);
	rig_close(&rig);
	assert_true(cooked(slave));
	/* And it can be used again. */
	rig_open(&rig, *state, name);
	expect_talk(&rig, master);

	/* Nobody is there after a hang-up, and that is no error. */
	expect_function_call(count_lines);
	log_set_sink(count_lines);
	close(master);
	run_idle(*state);
	log_set_sink(NULL);
	expect_dropped(&rig);
	rig_close(&rig);
	close(slave);
}

static void
a_pty_waits_for_its_clients(void **state)
{
	char *text = xasprintf("pty,%s/link", dir);
	struct rig rig;
	int fd;

	assert_int_equal(symlink("/stale", text + 4), 0);
	rig_open(&rig, *state, text);
	assert_memory_equal(chardev_address(rig.dev), "/dev/pts/", 9);
	/* However often it looks, nobody is there. */
	for (uint64_t until = now_ns() + NS_PER_SEC / 2; now_ns() < until;)
		loop_run_once(*state, 50);
	assert_int_equal(rig.asked, 0);
	expect_dropped(&rig);
	for (unsigned i = 0; i < 3; i++) {
		unsigned asked = rig.asked;
		struct termios tio;

		fd = open(i != 0 ? text + 4 : chardev_address(rig.dev),
		    O_RDWR | O_NOCTTY | O_CLOEXEC);
		assert_true(fd >= 0);
		assert_false(cooked(fd));
		RUN_UNTIL(*state, rig.asked > asked);
		expect_talk(&rig, fd);
		/* It leaves a mess, which is not the next one's. */
		tcgetattr(fd, &tio);
		tio.c_lflag |= ICANON | ECHO;
		tcsetattr(fd, TCSANOW, &tio);
		close(fd);
		run_idle(*state);
		expect_dropped(&rig);
	}
	rig_close(&rig);
	assert_int_equal(access(text + 4, F_OK), -1);

	/* What is no link is not replaced, another's link not removed. */
	fd = open(text + 4, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_true(rig_try(&rig, *state, text, NULL) < 0);
	unlink(text + 4);
	rig_open(&rig, *state, text);
	unlink(text + 4);
	assert_int_equal(symlink("/other", text + 4), 0);
	rig_close(&rig);
	assert_int_equal(unlink(text + 4), 0);
	free(text);
}

/* ---- nmdm --------------------------------------------------------------- */

static void
expect_cable(struct rig *a, struct rig *b)
{
	static uint8_t data[20000];

	fill_pattern(data, sizeof(data));
	assert_int_equal(chardev_write(a->dev, data, sizeof(data)),
	    sizeof(data));
	assert_int_equal(chardev_write(b->dev, data, sizeof(data)),
	    sizeof(data));
	expect_input(b, data, sizeof(data));
	expect_input(a, data, sizeof(data));
}

static void
nmdm_joins_two_ends(void **state)
{
	struct rig a, b, third;
	struct err err;
	unsigned asked;

	rig_open(&a, *state, "nmdm:test.0");
	expect_dropped(&a);
	rig_open(&b, *state, "/dev/nmdmtest.0B");
	RUN_UNTIL(*state, a.asked > 0 && b.asked > 0);
	expect_cable(&a, &b);
	assert_int_equal(rig_try(&third, *state, "nmdm:test.0", &err), -EBUSY);
	assert_int_equal(rig_try(&third, *state, "/dev/nmdmtest.0B", &err),
	    -EBUSY);
	expect_cable(&a, &b);

	/* The slave comes back... */
	rig_close(&b);
	run_idle(*state);
	expect_dropped(&a);
	asked = a.asked;
	rig_open(&b, *state, "/dev/nmdmtest.0B");
	RUN_UNTIL(*state, a.asked > asked);
	expect_cable(&a, &b);

	/* ... and the master, to which the slave is master now. */
	rig_close(&a);
	run_idle(*state);
	expect_dropped(&b);
	asked = b.asked;
	rig_open(&a, *state, "/dev/nmdmtest.0A");
	RUN_UNTIL(*state, b.asked > asked);
	expect_cable(&a, &b);
	rig_close(&b);
	rig_close(&a);
}

static void
nmdm_survives_a_crash(void **state)
{
	char *end_a = xasprintf("%s/vmm/nmdmcrashA", dir);
	char *end_b = xasprintf("%s/vmm/nmdmcrashB", dir);
	struct rig b;
	pid_t pid = fork();
	int status, fd;

	if (pid == 0) {
		static struct rig a;

		rig_open(&a, *state, "nmdm:crash");
		_exit(access(end_b, F_OK) == 0 ? 42 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 42);

	/* Its pseudo-terminal may be anybody's by now. */
	rig_open(&b, *state, "/dev/nmdmcrashB");
	assert_string_equal(chardev_address(b.dev), end_a);
	assert_int_equal(access(end_b, F_OK), -1);

	/* A terminal program on the other end. */
	fd = open(end_a, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_false(cooked(fd));
	RUN_UNTIL(*state, b.asked > 0);
	expect_talk(&b, fd);
	close(fd);
	rig_close(&b);
	assert_int_equal(access(end_a, F_OK), -1);
	free(end_a);
	free(end_b);
}

static void
nmdm_wants_a_directory_of_its_own(void **state)
{
	char *path = xasprintf("%s/vmm", dir);
	struct rig rig;
	struct err err;

	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(rig_try(&rig, *state, "nmdm:x", &err), -EPERM);
	assert_int_equal(chmod(path, 0755), 0);
	rig_open(&rig, *state, "nmdm:x");
	rig_close(&rig);
	free(path);
}

/* ---- stdio -------------------------------------------------------------- */

/* What the child of a test does with its standard input and output. */
static struct rig stdio_rig;

static void
child_receive(void *arg, const uint8_t *data, size_t len)
{
	struct rig *rig = arg;

	for (size_t i = 0; i < len; i++) {
		switch (data[i]) {
		case 'e':
			exit(0);
		case 'a':
			abort();
		case 's':
			raise(SIGSEGV);
			break;
		case 'c':
			loop_stop(rig->loop);
			break;
		default:
			(void)chardev_write(rig->dev, &data[i], 1);
			break;
		}
	}
}

/* Echo; says 'R' when ready.  Ends by one of the letters above. */
static void
child_echo(void)
{
	const struct chardev_user user = {
		.room = rig_room,
		.receive = child_receive,
		.arg = &stdio_rig,
	};

	stdio_rig.room = 16;
	stdio_rig.loop = loop_new(NULL);
	if (chardev_open(stdio_rig.loop, "stdio", &user, &stdio_rig.dev, NULL) <
	    0)
		_exit(90);
	/* There is one user of it. */
	if (chardev_open(stdio_rig.loop, "stdio", &user, &stdio_rig.dev,
		NULL) != -EBUSY)
		_exit(91);
	(void)chardev_write(stdio_rig.dev, "R", 1);
	loop_run(stdio_rig.loop);
	chardev_close(stdio_rig.dev);
	_exit(42);
}

/* Run it on these descriptors; `terminal` makes `in` the controlling one. */
static pid_t
spawn(int in, int out, bool terminal, void (*body)(void))
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Some sanitizers have handlers of their own. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGABRT, SIG_DFL);
	setsid();
	if (terminal)
		ioctl(in, TIOCSCTTY, 0);
	if (in >= 0)
		dup2(in, 0);
	else
		close(0);
	if (out >= 0)
		dup2(out, 1);
	else
		close(1);
	/* Or it would be a reader of its own output. */
	close_range(3, ~0u, 0);
	body();
	_exit(99);
}

static int
wait_for(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
expect_byte(int fd, char byte)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char c = 0;

	assert_int_equal(poll(&pfd, 1, 20000), 1);
	assert_int_equal(read(fd, &c, 1), 1);
	assert_int_equal(c, byte);
}

static void
the_terminal_is_put_back_on_every_way_out(void **state)
{
	static const struct {
		char key;  /* typed, or */
		int signo; /* sent */
		int exit;  /* status, or -1: dies of a signal */
		int death;
	} ways[] = {
		{ 'e', 0, 0, 0 },
		{ 'c', 0, 42, 0 },
		{ 'a', 0, -1, SIGABRT },
		{ 's', 0, -1, SIGSEGV },
		{ 0, SIGTERM, -1, SIGTERM },
		{ 0, SIGINT, -1, SIGINT },
		{ 0, SIGHUP, -1, SIGHUP },
		{ 0, SIGQUIT, -1, SIGQUIT },
		{ 0, SIGSEGV, -1, SIGSEGV },
		{ 0, SIGUSR1, -1, SIGUSR1 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		int master, slave, status, flags;
		char name[64];
		pid_t pid;

		make_pty(&master, &slave, name);
		flags = fcntl(slave, F_GETFL);
		pid = spawn(slave, slave, true, child_echo);
		expect_byte(master, 'R');
		assert_false(cooked(slave));
		assert_int_equal(write(master, "\x03", 1), 1);
		expect_byte(master, '\x03');
		if (ways[i].key != 0)
			assert_int_equal(write(master, &ways[i].key, 1), 1);
		else
			kill(pid, ways[i].signo);
		status = wait_for(pid);
		if (ways[i].exit >= 0) {
			assert_true(WIFEXITED(status));
			assert_int_equal(WEXITSTATUS(status), ways[i].exit);
		} else {
			assert_true(WIFSIGNALED(status));
			assert_int_equal(WTERMSIG(status), ways[i].death);
		}
		assert_true(cooked(slave));
		/* The shell shares this description. */
		assert_int_equal(fcntl(slave, F_GETFL), flags);
		close(slave);
		close(master);
	}
}

static void
stopping_gives_the_terminal_back_for_a_while(void **state)
{
	int master, slave, status;
	char name[64];
	pid_t pid;

	make_pty(&master, &slave, name);
	pid = spawn(slave, slave, true, child_echo);
	expect_byte(master, 'R');
	for (unsigned i = 0; i < 3; i++) {
		kill(pid, SIGTSTP);
		assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
		assert_true(WIFSTOPPED(status));
		assert_true(cooked(slave));
		kill(pid, SIGCONT);
		/* Once it answers to a raw ^C it has seen SIGCONT. */
		for (uint64_t start = now_ns(); cooked(slave);)
			assert_true(now_ns() - start < PATIENCE_NS);
		assert_int_equal(write(master, "\x03", 1), 1);
		expect_byte(master, '\x03');
	}
	kill(pid, SIGTERM);
	(void)wait_for(pid);
	assert_true(cooked(slave));
	close(slave);
	close(master);
}

/* Somebody else's handler is not ours to replace. */
static void
nothing(int signo)
{
}

static void
child_with_handlers(void)
{
	struct sigaction sa;

	signal(SIGUSR1, nothing);
	signal(SIGUSR2, SIG_IGN);
	if (rig_try(&stdio_rig, loop_new(NULL), "stdio", NULL) < 0)
		_exit(90);
	sigaction(SIGTERM, NULL, &sa);
	if (sa.sa_handler == SIG_DFL)
		_exit(91);
	sigaction(SIGUSR1, NULL, &sa);
	if (sa.sa_handler != nothing)
		_exit(92);
	sigaction(SIGUSR2, NULL, &sa);
	if (sa.sa_handler != SIG_IGN)
		_exit(93);
	chardev_close(stdio_rig.dev);
	sigaction(SIGTERM, NULL, &sa);
	_exit(sa.sa_handler == SIG_DFL ? 42 : 94);
}

static void
handlers_of_others_stay(void **state)
{
	int master, slave, status;
	char name[64];

	make_pty(&master, &slave, name);
	status = wait_for(spawn(slave, slave, true, child_with_handlers));
	assert_int_equal(WEXITSTATUS(status), 42);
	close(slave);
	close(master);
}

/* Wait for the end of input, and still be there to write. */
static void
child_outlives_input(void)
{
	uint64_t until = now_ns() + NS_PER_SEC / 10;
	const struct chardev_user user = {
		.room = rig_room,
		.receive = rig_receive,
		.arg = &stdio_rig,
	};

	stdio_rig.room = 100;
	stdio_rig.loop = loop_new(NULL);
	if (chardev_open(stdio_rig.loop, "stdio", &user, &stdio_rig.dev, NULL) <
	    0)
		_exit(90);
	while (now_ns() < until)
		loop_run_once(stdio_rig.loop, 10);
	(void)chardev_write(stdio_rig.dev, "after", 5);
	chardev_close(stdio_rig.dev);
	_exit((int)stdio_rig.got_len);
}

static void
output_goes_on_without_input(void **state)
{
	char *file = xasprintf("%s/input", dir);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int in[5], sv[2], ended[2];
	static const int bytes[5] = { 0, 0, 3, 3, 0 };

	in[0] = null;
	in[1] = -1;
	in[2] = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_int_equal(pwrite(in[2], "abc", 3, 0), 3);
	assert_int_equal(pipe2(ended, O_CLOEXEC), 0);
	assert_int_equal(write(ended[1], "abc", 3), 3);
	close(ended[1]);
	in[3] = ended[0];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv),
	    0);
	close(sv[1]);
	in[4] = sv[0];
	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		int out[2], status;
		char buf[6] = "";

		assert_int_equal(pipe2(out, O_CLOEXEC), 0);
		status =
		    wait_for(spawn(in[i], out[1], false, child_outlives_input));
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), bytes[i]);
		assert_int_equal(read(out[0], buf, 5), 5);
		assert_string_equal(buf, "after");
		assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
		close(out[0]);
		close(out[1]);
		if (in[i] >= 0)
			close(in[i]);
	}
	unlink(file);
	free(file);
}

static void
stdio_may_be_a_socket(void **state)
{
	int sv[2], status;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv),
	    0);
	pid = spawn(sv[1], sv[1], false, child_echo);
	expect_byte(sv[0], 'R');
	assert_int_equal(write(sv[0], "x", 1), 1);
	expect_byte(sv[0], 'x');
	assert_int_equal(write(sv[0], "c", 1), 1);
	status = wait_for(pid);
	assert_int_equal(WEXITSTATUS(status), 42);
	assert_int_equal(fcntl(sv[1], F_GETFL) & O_NONBLOCK, 0);
	close(sv[0]);
	close(sv[1]);
}

/* Output to a pipe nobody reads, then to one that is gone. */
static void
child_floods(void)
{
	static uint8_t block[CHARDEV_QUEUE];
	bool full = false;

	stdio_rig.loop = loop_new(NULL);
	if (chardev_open(stdio_rig.loop, "stdio", NULL, &stdio_rig.dev, NULL) <
	    0)
		_exit(90);
	for (unsigned i = 0; i < 100; i++) {
		if (chardev_write(stdio_rig.dev, block, sizeof(block)) <
		    sizeof(block))
			full = true;
		run_idle(stdio_rig.loop);
	}
	if (!full)
		_exit(95);
	close(STDERR_FILENO); /* the test closes the reader now */
	RUN_UNTIL(stdio_rig.loop, chardev_writable(stdio_rig.dev));
	if (chardev_write(stdio_rig.dev, block, sizeof(block)) != sizeof(block))
		_exit(96);
	chardev_close(stdio_rig.dev);
	_exit(42);
}

static void
a_pipe_may_be_full_or_broken(void **state)
{
	int out[2], told[2], saved, status;
	uint64_t start = now_ns();
	pid_t pid;
	char c;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(told, O_CLOEXEC), 0);
	fflush(NULL);
	saved = fcntl(2, F_DUPFD_CLOEXEC, 10);
	dup2(told[1], 2);
	pid = spawn(-1, out[1], false, child_floods);
	dup2(saved, 2);
	close(saved);
	close(told[1]);
	close(out[1]);
	assert_int_equal(read(told[0], &c, 1), 0);
	close(out[0]);
	close(told[0]);
	status = wait_for(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
	/* By the broken pipe, not by our patience with a full one. */
	assert_true(now_ns() - start < 4 * NS_PER_SEC);
}

/* The last words of a guest, to a pipe that breaks before they are written. */
static void
child_writes_too_late(void)
{
	struct pollfd pfd = { .fd = STDOUT_FILENO };

	if (chardev_open(loop_new(NULL), "stdio", NULL, &stdio_rig.dev, NULL) <
	    0)
		_exit(90);
	poll(&pfd, 1, 20000); /* the only event is that the reader has gone */
	(void)chardev_write(stdio_rig.dev, "late", 4);
	chardev_close(stdio_rig.dev);
	_exit(pfd.revents & POLLERR ? 42 : 97);
}

static void
a_broken_pipe_kills_nobody(void **state)
{
	int out[2], status;
	pid_t pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = spawn(-1, out[1], false, child_writes_too_late);
	close(out[1]);
	close(out[0]);
	status = wait_for(pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

/* ------------------------------------------------------------------------- */

static int
group_setup(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	return setenv("XDG_RUNTIME_DIR", dir, 1);
}

static int
group_teardown(void **state)
{
	char *vmm = xasprintf("%s/vmm", dir), *lock;

	/* What a crash leaves; everything else has removed what it made. */
	lock = xasprintf("%s/nmdmcrash.lock", vmm);
	unlink(lock);
	free(lock);
	if (rmdir(vmm) < 0 || rmdir(dir) < 0) {
		print_error("%s is not empty\n", dir);
		free(vmm);
		return -1;
	}
	free(vmm);
	return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nonsense_is_refused_in_a_sentence),
		TEST(paths_that_do_not_fit_are_refused),
		TEST(tcp_serves_one_client_after_another),
		TEST(tcp_tells_a_second_client),
		TEST(tcp_works_over_ipv6),
		TEST(unix_sockets_shut_a_second_client),
		TEST(only_stale_paths_are_replaced),
		TEST(a_half_closed_client_has_gone),
		TEST(a_reset_hurts_nobody),
		TEST(input_is_pulled_and_none_is_lost),
		TEST(a_client_that_left_is_read_to_its_end),
		TEST(a_newcomer_replaces_who_left_unread),
		TEST(the_user_hears_of_clients),
		TEST(a_slow_client_pushes_back),
		TEST(a_stuck_client_loses_output),
		TEST(a_client_that_goes_frees_the_user),
		TEST(closing_sends_what_is_queued),
		TEST(an_output_nobody_reads_takes_no_input),
		TEST(a_lack_of_descriptors_passes),
		TEST(many_threads_may_write),
		TEST(a_tty_is_raw_and_put_back),
		TEST(a_pty_waits_for_its_clients),
		TEST(nmdm_joins_two_ends),
		TEST(nmdm_survives_a_crash),
		TEST(nmdm_wants_a_directory_of_its_own),
		TEST(the_terminal_is_put_back_on_every_way_out),
		TEST(stopping_gives_the_terminal_back_for_a_while),
		TEST(handlers_of_others_stay),
		TEST(output_goes_on_without_input),
		TEST(stdio_may_be_a_socket),
		TEST(a_pipe_may_be_full_or_broken),
		TEST(a_broken_pipe_kills_nobody),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
