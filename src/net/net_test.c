/*
 * Network back ends with a card that is a few functions: frames both ways, calls
 * owed, what is refused, and peers that go and come.
 *
 * All of it runs in a network namespace of its own where that is allowed, so
 * that taps, addresses and ports are nobody else's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "net/net_impl.h"

#define PATIENCE_S 20
#define MAC_A "02:00:00:00:00:0a"
#define MAC_B "02:00:00:00:00:0b"

static bool own_namespace;
static char dir[] = "/tmp/net_test.XXXXXX";

/* ---- a card ------------------------------------------------------------- */

struct card {
	struct net *net;
	struct config *config;
	size_t hdr;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	/* Guarded by it. */
	unsigned readable[NET_QUEUES_MAX];
	unsigned writable[NET_QUEUES_MAX];
	bool link;
	unsigned inside; /* callbacks running, over all queues */
};

static void
card_note(struct card *card, unsigned *count)
{
	pthread_mutex_lock(&card->lock);
	(*count)++;
	pthread_cond_broadcast(&card->cond);
	pthread_mutex_unlock(&card->lock);
}

static void
on_readable(void *arg, unsigned queue)
{
	struct card *card = arg;

	card_note(card, &card->readable[queue]);
}

static void
on_writable(void *arg, unsigned queue)
{
	struct card *card = arg;

	card_note(card, &card->writable[queue]);
}

static void
on_link(void *arg, bool up)
{
	struct card *card = arg;

	pthread_mutex_lock(&card->lock);
	card->link = up;
	pthread_cond_broadcast(&card->cond);
	pthread_mutex_unlock(&card->lock);
}

static const struct net_ops ops = { on_readable, on_writable, on_link };

/* text: "key=value" separated by blanks. */
static struct config *
make_config(const char *text)
{
	struct config *config = config_new();
	char *copy = xstrdup(text), *save = NULL;
	struct err err;

	for (char *word = strtok_r(copy, " ", &save); word != NULL;
	     word = strtok_r(NULL, " ", &save))
		if (config_set_option(config, word, &err) < 0)
			fail_msg("%s", err.msg);
	free(copy);
	return config;
}

static int
card_try(struct card *card, const char *text, struct err *err)
{
	struct net_info info;
	int rc;

	memset(card, 0, sizeof(*card));
	card->config = make_config(text);
	pthread_mutex_init(&card->lock, NULL);
	pthread_cond_init(&card->cond, NULL);
	rc = net_open(card->config, "3-0-vm", &ops, card, &card->net, err);
	if (rc < 0) {
		config_free(card->config);
		return rc;
	}
	net_info(card->net, &info);
	card->link = info.link;
	return 0;
}

static void
card_open(struct card *card, const char *text)
{
	struct err err;

	if (card_try(card, text, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	net_resume(card->net);
}

static void
card_close(struct card *card)
{
	net_close(card->net);
	config_free(card->config);
	pthread_cond_destroy(&card->cond);
	pthread_mutex_destroy(&card->lock);
}

static void
assert_refused(const char *text, int rc, const char *words)
{
	struct card card;
	struct err err = { "" };

	assert_int_equal(card_try(&card, text, &err), rc);
	if (strstr(err.msg, words) == NULL)
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err.msg, words);
}

static struct timespec
deadline(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += PATIENCE_S;
	return ts;
}

/* Wait until *count is no longer `old`. */
static void
card_wait(struct card *card, const unsigned *count, unsigned old)
{
	struct timespec ts = deadline();

	pthread_mutex_lock(&card->lock);
	while (*count == old)
		if (pthread_cond_timedwait(&card->cond, &card->lock, &ts) != 0)
			fail_msg("nothing has come");
	pthread_mutex_unlock(&card->lock);
}

static void
card_wait_link(struct card *card, bool up)
{
	struct timespec ts = deadline();

	pthread_mutex_lock(&card->lock);
	while (card->link != up)
		if (pthread_cond_timedwait(&card->cond, &card->lock, &ts) != 0)
			fail_msg("the link does not go %s", up ? "up" : "down");
	pthread_mutex_unlock(&card->lock);
}

static unsigned
card_count(struct card *card, const unsigned *count)
{
	unsigned n;

	pthread_mutex_lock(&card->lock);
	n = *count;
	pthread_mutex_unlock(&card->lock);
	return n;
}

/* The next frame, however long it takes. */
static size_t
card_recv_on(struct card *card, unsigned queue, void *buf, size_t room)
{
	for (;;) {
		const struct iovec iov = { buf, room };
		unsigned old = card_count(card, &card->readable[queue]);
		ssize_t len = net_recv(card->net, queue, &iov, 1);

		if (len >= 0)
			return (size_t)len;
		if (len == -EAGAIN)
			card_wait(card, &card->readable[queue], old);
		else
			assert_int_equal(len, -EMSGSIZE);
	}
}

static size_t
card_recv(struct card *card, void *buf, size_t room)
{
	return card_recv_on(card, 0, buf, room);
}

static void
card_send(struct card *card, const void *buf, size_t len)
{
	for (;;) {
		const struct iovec iov[] = {
			{ (void *)(uintptr_t)buf, MIN(len, (size_t)7) },
			{ (uint8_t *)(uintptr_t)buf + MIN(len, (size_t)7),
			    len - MIN(len, (size_t)7) },
		};
		unsigned old = card_count(card, &card->writable[0]);
		int rc = net_send(card->net, 0, iov, 2);

		if (rc == 0)
			return;
		assert_int_equal(rc, -EAGAIN);
		card_wait(card, &card->writable[0], old);
	}
}

/* A frame to one of the two, numbered. */
static size_t
make_frame(uint8_t *frame, uint8_t to, uint8_t from, uint32_t number,
    size_t len)
{
	memset(frame, 0, len);
	frame[0] = frame[6] = 2;
	frame[5] = to;
	frame[11] = from;
	frame[12] = 0x88;
	frame[13] = 0xb5; /* for experiments */
	if (len >= 18)
		be32_store(frame + 14, number);
	for (size_t i = 18; i < len; i++)
		frame[i] = (uint8_t)(number + i);
	return len;
}

static void
assert_frame(const uint8_t *frame, size_t len, uint8_t to, uint8_t from,
    uint32_t number, size_t wanted)
{
	static uint8_t model[NET_FRAME_MAX];

	make_frame(model, to, from, number, wanted);
	assert_int_equal(len, wanted);
	assert_memory_equal(frame, model, wanted);
}

/* Several sizes there and back. */
static void
exchange(struct card *a, struct card *b, size_t longest)
{
	static uint8_t out[NET_FRAME_MAX], in[NET_FRAME_MAX];
	const size_t sizes[] = { 60, 14, 1514, 200, longest };

	for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		make_frame(out, 0xb, 0xa, i, sizes[i]);
		card_send(a, out, sizes[i]);
		assert_frame(in, card_recv(b, in, sizeof(in)), 0xb, 0xa, i,
		    sizes[i]);
		make_frame(out, 0xa, 0xb, i, sizes[i]);
		card_send(b, out, sizes[i]);
		assert_frame(in, card_recv(a, in, sizeof(in)), 0xa, 0xb, i,
		    sizes[i]);
	}
}

static char *
in_dir(const char *fmt, const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);
	char *text = malloc(strlen(fmt) + strlen(path));

	assert_non_null(text);
	/* One %s, in the test's own words. */
	memcpy(text, fmt, strlen(fmt) + 1);
	strcpy(strstr(text, "%s"), path);
	free(path);
	return text;
}

/* ---- what is configured ------------------------------------------------- */

static void
options_are_checked(void **state)
{
	assert_refused("mac=" MAC_A, -EINVAL, "no backend");
	assert_refused("backend=carrier-pigeon", -EINVAL, "no such backend");
	assert_refused("backend=slirpy", -EINVAL, "no such backend");
	assert_refused("backend=p2p", -EINVAL, "needs path");
	assert_refused("backend=p2p path=/x local=127.0.0.1:1", -EINVAL,
	    "needs path");
	assert_refused("backend=p2p local=127.0.0.1 remote=127.0.0.1:1",
	    -EINVAL, "ADDR:PORT");
	assert_refused("backend=p2p local=::1:1 remote=[::1]:1", -EINVAL,
	    "ADDR:PORT");
	assert_refused("backend=p2p local=127.0.0.1:1 remote=[::1]:1", -EINVAL,
	    "IPv6");
	assert_refused("backend=p2p path=/nonexistent/socket", -ENOENT,
	    "/nonexistent");
	assert_refused("backend=passt", -EINVAL, "no path");
	assert_refused("backend=passt path=/nonexistent/socket", -ENOENT,
	    "/nonexistent/socket");
	assert_refused("backend=switch", -EINVAL, "no path");
	assert_refused("backend=switch path=/nonexistent", -ENOENT,
	    "/nonexistent");
	assert_refused("backend=tap", -EINVAL, "which?");
	assert_refused("backend=tap7 tap=x", -EINVAL, "named");
	assert_refused("tap=a-name-too-long-for-it", -EINVAL, "characters");
	assert_refused("backend=tap987654", -ENODEV, "create");
	assert_refused("backend=tap0 queues=17", -ERANGE, "queues");
	assert_refused("backend=p2p path=/x mac=01:00:00:00:00:00", -EINVAL,
	    "mac");
	assert_refused("backend=p2p path=/x mtu=59", -ERANGE, "mtu");
	assert_refused("backend=p2p path=/x mtu=65536", -ERANGE, "mtu");
	assert_refused("backend=p2p path=/x rate_tx=fast", -EINVAL, "rate_tx");
	assert_refused("backend=p2p path=/x ip-nospoof=true", -EINVAL,
	    "allowed-ips");
	assert_refused("backend=p2p path=/x allowed-ips=1.2.3.4", -EINVAL,
	    "ip-nospoof");
	assert_refused("backend=p2p path=/x restricted=perhaps", -EINVAL,
	    "restricted");
}

static void
a_card_learns_who_it_is(void **state)
{
	char *text = in_dir("backend=p2p path=%s", "who");
	struct net_info info;
	struct card card;
	uint8_t mac[NET_MAC_LEN];

	card_open(&card, text);
	net_info(card.net, &info);
	mac_derive("3-0-vm", mac);
	assert_memory_equal(info.mac, mac, sizeof(mac));
	assert_int_equal(info.mtu, 1500);
	assert_false(info.mtu_set);
	assert_int_equal(info.queues, 1);
	assert_int_equal(info.offloads, 0);
	assert_false(info.link);
	assert_int_equal(net_set_queues(card.net, 2), -EINVAL);
	assert_int_equal(net_set_queues(card.net, 0), -EINVAL);
	assert_int_equal(net_set_queues(card.net, 1), 0);
	card_close(&card);
	free(text);
	text = in_dir("backend=p2p mac=" MAC_A " mtu=9000 path=%s", "who");
	card_open(&card, text);
	net_info(card.net, &info);
	assert_int_equal(info.mac[5], 0xa);
	assert_int_equal(info.mtu, 9000);
	assert_true(info.mtu_set);
	card_close(&card);
	free(text);
}

/* ---- p2p ---------------------------------------------------------------- */

static void
pair_open(struct card *a, struct card *b, const char *name, const char *more)
{
	char *text = in_dir("backend=p2p path=%s", name);
	char *with = xasprintf("%s %s", text, more);

	card_open(a, with);
	card_open(b, text);
	card_wait_link(a, true);
	card_wait_link(b, true);
	free(text);
	free(with);
}

static void
a_cable_joins_two(void **state)
{
	struct card a, b;
	struct net_stats stats;

	pair_open(&a, &b, "cable", "mac=" MAC_A);
	exchange(&a, &b, NET_FRAME_MAX);
	net_stats(a.net, &stats);
	assert_int_equal(stats.tx_frames, 5);
	assert_int_equal(stats.rx_frames, 5);
	assert_int_equal(stats.tx_bytes, 60 + 14 + 1514 + 200 + NET_FRAME_MAX);
	card_close(&a);
	card_close(&b);
}

static void
a_cable_is_plugged_again(void **state)
{
	char *text = in_dir("backend=p2p path=%s", "again");
	uint8_t frame[64];
	struct net_stats stats;
	struct card a, b;

	pair_open(&a, &b, "again", "mac=" MAC_A);
	card_close(&b);
	card_wait_link(&a, false);
	card_send(&a, frame, make_frame(frame, 0xb, 0xa, 0, 64));
	net_stats(a.net, &stats);
	assert_int_equal(stats.tx_dropped, 1);
	card_open(&b, text);
	card_wait_link(&b, true);
	card_wait_link(&a, true);
	exchange(&a, &b, 3000);
	card_close(&a);
	card_close(&b);
	free(text);
}

/* Whoever comes first, at once, over what a killed one left: they meet. */
static void
both_ends_come_at_once(void **state)
{
	char *text = in_dir("backend=p2p path=%s", "rush");
	char *path = in_dir("%s", "rush");
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct card cards[20];

	for (unsigned i = 0; i < ARRAY_SIZE(cards); i++) {
		if (i == 10) {
			int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

			memcpy(sun.sun_path, path, strlen(path));
			do /* the cards may be quicker */
				(void)unlink(path);
			while (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) !=
			    0);
			close(fd);
		}
		card_open(&cards[i], text);
	}
	/* Somehow they find each other in pairs. */
	for (unsigned i = 0; i < ARRAY_SIZE(cards); i++)
		card_wait_link(&cards[i], true);
	for (unsigned i = 0; i < ARRAY_SIZE(cards); i++)
		card_close(&cards[i]);
	assert_int_equal(access(path, F_OK), -1);
	free(path);
	free(text);
}

static void
udp_is_a_cable(void **state)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	uint8_t frame[64], in[64];
	unsigned ports[3];
	int fds[3];
	struct card a, b;
	char *text;

	for (unsigned i = 0; i < 3; i++) {
		socklen_t len = sizeof(sin);

		sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		sin.sin_port = 0;
		fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (bind(fds[i], (struct sockaddr *)&sin, sizeof(sin)) < 0) {
			print_message("no 127.0.0.1 here\n");
			skip();
		}
		getsockname(fds[i], (struct sockaddr *)&sin, &len);
		ports[i] = ntohs(sin.sin_port);
	}
	close(fds[0]);
	close(fds[1]);
	text = xasprintf("backend=p2p local=127.0.0.1:%u remote=127.0.0.1:%u",
	    ports[0], ports[1]);
	card_open(&a, text);
	free(text);
	text = xasprintf("backend=p2p local=127.0.0.1:%u remote=127.0.0.1:%u",
	    ports[1], ports[0]);
	card_open(&b, text);
	free(text);
	exchange(&a, &b, 9000);
	/* A stranger is not heard. */
	sin.sin_port = htons((uint16_t)ports[0]);
	make_frame(frame, 0xa, 0xc, 1, 64);
	assert_int_equal(sendto(fds[2], frame, 64, 0, (struct sockaddr *)&sin,
			     sizeof(sin)),
	    64);
	card_send(&b, frame, make_frame(frame, 0xa, 0xb, 2, 64));
	assert_frame(in, card_recv(&a, in, sizeof(in)), 0xa, 0xb, 2, 64);
	close(fds[2]);
	card_close(&a);
	card_close(&b);
}

/* ---- what all have in common -------------------------------------------- */

static void
frames_that_are_none_are_dropped(void **state)
{
	static uint8_t data[NET_FRAME_MAX + 1];
	struct iovec many[NET_IOV_MAX + 1];
	struct net_hdr *hdr = (struct net_hdr *)(void *)data;
	uint8_t in[100];
	struct net_stats stats;
	struct card a, b;

	pair_open(&a, &b, "none", "mac=" MAC_A);
	card_send(&a, data, 0);
	card_send(&a, data, 13);
	card_send(&a, data, sizeof(data));
	for (unsigned i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct iovec) { data, 1 };
	assert_int_equal(net_send(a.net, 0, many, ARRAY_SIZE(many)), 0);
	many[0].iov_len = many[1].iov_len = SIZE_MAX / 2 + 2;
	assert_int_equal(net_send(a.net, 0, many, 2), 0);
	/* Offloads that nobody offered. */
	net_pause(a.net);
	assert_int_equal(net_set_offload(a.net, 11, 0), -EINVAL);
	assert_int_equal(net_set_offload(a.net, 12, NET_OFFLOAD_CSUM), -EINVAL);
	assert_int_equal(net_set_offload(a.net, 12, 0), 0);
	net_resume(a.net);
	card_send(&a, data, 12 + 13);
	hdr->flags = NET_HDR_F_NEEDS_CSUM;
	card_send(&a, data, 12 + 64);
	hdr->flags = 0;
	hdr->gso_type = NET_HDR_GSO_TCPV4;
	card_send(&a, data, 12 + 64);
	net_stats(a.net, &stats);
	assert_int_equal(stats.tx_malformed, 8);
	assert_int_equal(stats.tx_frames, 0);
	/* And the next one is well. */
	memset(data, 0, 12);
	make_frame(data + 12, 0xb, 0xa, 9, 64);
	card_send(&a, data, 12 + 64);
	assert_frame(in, card_recv(&b, in, sizeof(in)), 0xb, 0xa, 9, 64);
	card_close(&a);
	card_close(&b);
}

static void
headers_are_made_where_there_are_none(void **state)
{
	static const size_t sizes[] = { 0, NET_HDR_LEGACY, 12 };
	struct card a, b;
	uint8_t frame[100], in[100];

	pair_open(&a, &b, "headers", "mac=" MAC_A);
	for (uint32_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct iovec iov[] = { { in, 3 }, { in + 3, 8 },
			{ in + 11, sizeof(in) - 11 } };
		unsigned old;
		ssize_t len;

		net_pause(b.net);
		assert_int_equal(net_set_offload(b.net, sizes[i], 0), 0);
		net_resume(b.net);
		card_send(&a, frame, make_frame(frame, 0xb, 0xa, i, 64));
		memset(in, 0xff, sizeof(in));
		for (;;) {
			old = card_count(&b, &b.readable[0]);
			len = net_recv(b.net, 0, iov, 3);
			if (len != -EAGAIN)
				break;
			card_wait(&b, &b.readable[0], old);
		}
		assert_int_equal(len, sizes[i] + 64);
		for (unsigned n = 0; n < sizes[i]; n++)
			assert_int_equal(in[n], n == 10);
		assert_frame(in + sizes[i], 64, 0xb, 0xa, i, 64);
	}
	card_close(&a);
	card_close(&b);
}

static void
what_does_not_fit_is_dropped(void **state)
{
	struct card a, b;
	uint8_t frame[1500], in[100];
	struct iovec iov = { in, sizeof(in) };
	struct net_stats stats;
	ssize_t len;

	pair_open(&a, &b, "fit", "mac=" MAC_A);
	card_send(&a, frame, make_frame(frame, 0xb, 0xa, 1, sizeof(frame)));
	card_send(&a, frame, make_frame(frame, 0xb, 0xa, 2, 100));
	for (;;) {
		unsigned old = card_count(&b, &b.readable[0]);

		len = net_recv(b.net, 0, &iov, 1);
		if (len != -EAGAIN)
			break;
		card_wait(&b, &b.readable[0], old);
	}
	assert_int_equal(len, -EMSGSIZE);
	assert_frame(in, card_recv(&b, in, sizeof(in)), 0xb, 0xa, 2, 100);
	net_stats(b.net, &stats);
	assert_int_equal(stats.rx_dropped, 1);
	card_close(&a);
	card_close(&b);
}

static void
a_full_peer_stops_the_sender(void **state)
{
	static uint8_t in[2000];
	uint8_t frame[1514];
	struct iovec iov = { frame, sizeof(frame) };
	uint32_t sent = 0;
	unsigned old;
	struct card a, b;

	pair_open(&a, &b, "full", "mac=" MAC_A);
	do {
		make_frame(frame, 0xb, 0xa, sent, sizeof(frame));
		old = card_count(&a, &a.writable[0]);
	} while (net_send(a.net, 0, &iov, 1) == 0 && ++sent < 100000);
	assert_in_range(sent, 4, 99999);
	/* Nothing is lost, and the call comes once there is room. */
	for (uint32_t i = 0; i < sent; i++)
		assert_frame(in, card_recv(&b, in, sizeof(in)), 0xb, 0xa, i,
		    sizeof(frame));
	card_wait(&a, &a.writable[0], old);
	assert_int_equal(net_send(a.net, 0, &iov, 1), 0);
	card_close(&a);
	card_close(&b);
}

static void
a_call_is_made_once(void **state)
{
	uint8_t frame[64], in[64];
	struct iovec iov = { in, sizeof(in) };
	unsigned old;
	struct card a, b;

	pair_open(&a, &b, "once", "mac=" MAC_A);
	old = card_count(&b, &b.readable[0]);
	assert_int_equal(net_recv(b.net, 0, &iov, 1), -EAGAIN);
	for (uint32_t i = 0; i < 100; i++)
		card_send(&a, frame, make_frame(frame, 0xb, 0xa, i, 64));
	card_wait(&b, &b.readable[0], old);
	/* Another loop's turn: a second call would have come. */
	net_pause(a.net);
	assert_in_range(card_count(&b, &b.readable[0]), old + 1, old + 2);
	card_close(&a);
	card_close(&b);
}

static void
a_pause_holds_everything(void **state)
{
	uint8_t frame[64], in[64];
	struct iovec out_iov = { frame, 64 }, in_iov = { in, 64 };
	unsigned readable, writable;
	struct card a, b;

	pair_open(&a, &b, "pause", "mac=" MAC_A);
	net_pause(b.net);
	readable = card_count(&b, &b.readable[0]);
	writable = card_count(&b, &b.writable[0]);
	card_send(&a, frame, make_frame(frame, 0xb, 0xa, 1, 64));
	assert_int_equal(net_recv(b.net, 0, &in_iov, 1), -EAGAIN);
	assert_int_equal(net_send(b.net, 0, &out_iov, 1), -EAGAIN);
	assert_int_equal(card_count(&b, &b.readable[0]), readable);
	assert_int_equal(card_count(&b, &b.writable[0]), writable);
	net_resume(b.net);
	card_wait(&b, &b.readable[0], readable);
	card_wait(&b, &b.writable[0], writable);
	assert_frame(in, card_recv(&b, in, 64), 0xb, 0xa, 1, 64);
	/* A link that fails meanwhile is told later. */
	net_pause(b.net);
	card_close(&a);
	net_resume(b.net);
	card_wait_link(&b, false);
	card_close(&b);
}

static void
protection_is_in_front(void **state)
{
	static const uint8_t arp[] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0,
		0, 0xa, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xa, 192,
		0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1 };
	uint8_t frame[sizeof(arp)], in[100];
	struct net_stats stats;
	struct card a, b;

	pair_open(&a, &b, "protect",
	    "mac=" MAC_A " mac-nospoof=true ip-nospoof=true "
	    "allowed-ips=192.0.2.7;2001:db8::7 restricted=true "
	    "dhcp-nospoof=true");
	memcpy(frame, arp, sizeof(arp));
	frame[11] = 0xb;
	card_send(&a, frame, sizeof(frame));
	memcpy(frame, arp, sizeof(arp));
	frame[31] = 8;
	card_send(&a, frame, sizeof(frame));
	card_send(&a, arp, sizeof(arp));
	assert_int_equal(card_recv(&b, in, sizeof(in)), sizeof(arp));
	assert_memory_equal(in, arp, sizeof(arp));
	net_stats(a.net, &stats);
	assert_int_equal(stats.tx_filtered, 2);
	assert_int_equal(stats.tx_frames, 1);
	card_close(&a);
	card_close(&b);
}

static void
rates_hold(void **state)
{
	static uint8_t frame[1000], in[1000];
	struct card a, b;
	uint64_t begin;

	/* The first 100 are the burst, 100 more take 100 ms. */
	pair_open(&a, &b, "rate",
	    "mac=" MAC_A " rate_tx=8M rate_rx=8M burst=800K");
	make_frame(frame, 0xb, 0xa, 0, sizeof(frame));
	begin = net_now();
	for (unsigned i = 0; i < 201; i++)
		card_send(&a, frame, sizeof(frame));
	assert_in_range(net_now() - begin, NS_PER_SEC / 20, 5 * NS_PER_SEC);
	for (unsigned i = 0; i < 201; i++)
		assert_int_equal(card_recv(&b, in, sizeof(in)), sizeof(in));
	begin = net_now();
	for (unsigned i = 0; i < 201; i++) {
		card_send(&b, frame, sizeof(frame));
		assert_int_equal(card_recv(&a, in, sizeof(in)), sizeof(in));
	}
	assert_in_range(net_now() - begin, NS_PER_SEC / 20, 5 * NS_PER_SEC);
	card_close(&a);
	card_close(&b);
}

/* Threads send and receive while the owner pauses, resumes and closes peers. */
struct storm {
	struct card *card;
	_Atomic bool stop;
};

static void *
storm_send(void *arg)
{
	struct storm *storm = arg;
	uint8_t frame[200];
	struct iovec iov = { frame, sizeof(frame) };

	make_frame(frame, 0xb, 0xa, 0, sizeof(frame));
	while (!atomic_load(&storm->stop))
		(void)net_send(storm->card->net, 0, &iov, 1);
	return NULL;
}

static void *
storm_recv(void *arg)
{
	struct storm *storm = arg;
	uint8_t in[200];
	struct iovec iov = { in, sizeof(in) };

	while (!atomic_load(&storm->stop))
		(void)net_recv(storm->card->net, 0, &iov, 1);
	return NULL;
}

static void
threads_do_not_disturb_each_other(void **state)
{
	char *text = in_dir("backend=p2p path=%s", "storm");
	struct card a, b;
	struct storm storms[] = { { .card = &a }, { .card = &a } };
	pthread_t threads[4];

	pair_open(&a, &b, "storm", "rate_tx=100M");
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
				     i % 2 ? storm_recv : storm_send,
				     &storms[i / 2]),
		    0);
	for (unsigned i = 0; i < 50; i++) {
		net_pause(a.net);
		assert_int_equal(net_set_offload(a.net, 0, 0), 0);
		net_resume(a.net);
		if (i % 25 == 0) {
			card_close(&b);
			card_wait_link(&a, false);
			card_open(&b, text);
			card_wait_link(&a, true);
		}
	}
	atomic_store(&storms[0].stop, true);
	atomic_store(&storms[1].stop, true);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	card_close(&a);
	card_close(&b);
	free(text);
}

/* ---- switch ------------------------------------------------------------- */

/* What b gets next must be frame `number`. */
static void
expect(struct card *card, uint8_t to, uint8_t from, uint32_t number)
{
	uint8_t in[64];

	assert_frame(in, card_recv(card, in, sizeof(in)), to, from, number, 64);
}

static void
a_switch_learns(void **state)
{
	char *path = in_dir("%s", "segment"), *stale, *text;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct card cards[3];
	uint8_t frame[64], in[64];
	struct iovec iov = { in, sizeof(in) };
	int fd;

	assert_int_equal(mkdir(path, 0700), 0);
	/* A port of one that was killed. */
	stale = xasprintf("%s/port-1", path);
	memcpy(sun.sun_path, stale, strlen(stale));
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	close(fd);
	text = xasprintf("backend=switch path=%s", path);
	for (unsigned i = 0; i < 3; i++)
		card_open(&cards[i], text);
	/* The first learns of the others by its watch: until then, again. */
	for (unsigned i = 0; i < 3; i++) {
		bool heard = false;

		while (!heard) {
			card_send(&cards[0], frame,
			    make_frame(frame, 0xff, 0xa, 0, 64));
			heard = true;
			for (unsigned n = 1; n < 3; n++)
				heard &= net_recv(cards[n].net, 0, &iov, 1) > 0;
		}
	}
	for (unsigned n = 0; n < 3; n++)
		while (net_recv(cards[n].net, 0, &iov, 1) > 0)
			;
	/* 0xa is known to both now: the third does not hear the second. */
	card_send(&cards[1], frame, make_frame(frame, 0xa, 0xb, 1, 64));
	expect(&cards[0], 0xa, 0xb, 1);
	card_send(&cards[0], frame, make_frame(frame, 0xb, 0xa, 2, 64));
	expect(&cards[1], 0xb, 0xa, 2);
	assert_int_equal(net_recv(cards[2].net, 0, &iov, 1), -EAGAIN);
	/* Unknown goes to all but its sender. */
	card_send(&cards[2], frame, make_frame(frame, 0xd, 0xc, 3, 64));
	expect(&cards[0], 0xd, 0xc, 3);
	expect(&cards[1], 0xd, 0xc, 3);
	assert_int_equal(net_recv(cards[2].net, 0, &iov, 1), -EAGAIN);
	/* A port that is gone takes its address along. */
	card_close(&cards[1]);
	card_send(&cards[0], frame, make_frame(frame, 0xb, 0xa, 4, 64));
	card_send(&cards[0], frame, make_frame(frame, 0xb, 0xa, 5, 64));
	do
		assert_in_range(card_recv(&cards[2], in, 64), 64, 64);
	while (be32_load(in + 14) != 5);
	card_close(&cards[0]);
	card_close(&cards[2]);
	assert_int_equal(rmdir(path), 0); /* nothing is left behind */
	free(path);
	free(stale);
	free(text);
}

static void
a_stuck_port_stops_nobody_for_long(void **state)
{
	char *path = in_dir("%s", "stuck"), *text;
	uint8_t frame[1514], in[64];
	struct iovec iov = { in, sizeof(in) };
	struct net_stats stats;
	struct card a, b;

	assert_int_equal(mkdir(path, 0700), 0);
	text = xasprintf("backend=switch path=%s", path);
	card_open(&b, text);
	card_open(&a, text);
	/* Each must know where the other is. */
	do
		card_send(&b, frame, make_frame(frame, 0xff, 0xb, 0, 64));
	while (net_recv(a.net, 0, &iov, 1) < 0);
	do {
		card_send(&a, frame,
		    make_frame(frame, 0xb, 0xa, 0, sizeof(frame)));
		net_stats(a.net, &stats);
	} while (stats.tx_dropped < 3);
	card_close(&a);
	card_close(&b);
	assert_int_equal(rmdir(path), 0);
	free(path);
	free(text);
}

/* ---- passt -------------------------------------------------------------- */

static int
passt_listen(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(sun.sun_path, path, strlen(path));
	(void)unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void
write_all(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), len);
}

static void
read_all(int fd, void *data, size_t len)
{
	assert_int_equal(recv(fd, data, len, MSG_WAITALL), len);
}

static void
a_stream_carries_frames(void **state)
{
	static uint8_t out[4 + NET_FRAME_MAX], in[NET_FRAME_MAX];
	char *path = in_dir("%s", "stream");
	char *text = in_dir("backend=passt path=%s", "stream");
	int listener = passt_listen(path), fd;
	struct iovec iov = { in, sizeof(in) };
	uint32_t sent = 0;
	struct card card;

	card_open(&card, text);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	/* In pieces of one byte, then two frames at once. */
	be32_store(out, 64);
	make_frame(out + 4, 0xa, 0xb, 1, 64);
	for (unsigned i = 0; i < 68; i++)
		write_all(fd, out + i, 1);
	expect(&card, 0xa, 0xb, 1);
	memcpy(out + 68, out, 68);
	write_all(fd, out, 136);
	expect(&card, 0xa, 0xb, 1);
	expect(&card, 0xa, 0xb, 1);
	/* A runt is dropped, the next one not. */
	be32_store(out, 0);
	write_all(fd, out, 4);
	be32_store(out, 64);
	write_all(fd, out, 68);
	expect(&card, 0xa, 0xb, 1);
	/* As many as there is room for, one of them in part. */
	iov = (struct iovec) { out, NET_FRAME_MAX };
	for (;;) {
		make_frame(out, 0xb, 0xa, sent, NET_FRAME_MAX);
		if (net_send(card.net, 0, &iov, 1) < 0)
			break;
		sent++;
	}
	for (uint32_t i = 0; i < sent; i++) {
		read_all(fd, out, 4);
		assert_int_equal(be32_load(out), NET_FRAME_MAX);
		read_all(fd, in, NET_FRAME_MAX);
		assert_frame(in, NET_FRAME_MAX, 0xb, 0xa, i, NET_FRAME_MAX);
	}
	/* A length that no frame has ends it; then another may come. */
	be32_store(out, NET_FRAME_MAX + 1);
	write_all(fd, out, 4);
	iov = (struct iovec) { in, sizeof(in) };
	do
		assert_int_equal(net_recv(card.net, 0, &iov, 1), -EAGAIN);
	while (poll(&(struct pollfd) { .fd = fd, .events = POLLRDHUP }, 1, 1) ==
	    0);
	card_wait_link(&card, false);
	close(fd);
	fd = accept(listener, NULL, NULL);
	assert_true(fd >= 0);
	card_wait_link(&card, true);
	be32_store(out, 64);
	make_frame(out + 4, 0xa, 0xb, 7, 64);
	write_all(fd, out, 68);
	expect(&card, 0xa, 0xb, 7);
	close(fd);
	close(listener);
	card_wait_link(&card, false);
	card_close(&card);
	free(path);
	free(text);
}

/* ---- the guest's side of an IPv4 network -------------------------------- */

#define GUEST_IP 0x0a00020f
#define HOST_IP 0x0a000202

static uint32_t
sum(const uint8_t *p, size_t len, uint32_t acc)
{
	for (size_t i = 0; i < len; i++)
		acc += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	return acc;
}

static uint16_t
fold(uint32_t acc)
{
	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	return (uint16_t)~acc;
}

/* An IPv4 packet of the guest; payload is at frame + 34 already. */
static void
send_ip(struct card *card, uint8_t *frame, const uint8_t *to, uint8_t proto,
    uint32_t source, uint32_t dest, size_t len)
{
	uint8_t *ip = frame + 14, *l4 = frame + 34;
	size_t at = proto == 6 ? 16 : 6;
	uint32_t acc;

	memcpy(frame, to, 6);
	memcpy(frame + 6, "\x02\0\0\0\0\x0a\x08\0", 8);
	memset(ip, 0, 20);
	ip[0] = 0x45;
	be16_store(ip + 2, (uint16_t)(20 + len));
	ip[8] = 64;
	ip[9] = proto;
	be32_store(ip + 12, source);
	be32_store(ip + 16, dest);
	be16_store(ip + 10, fold(sum(ip, 20, 0)));
	be16_store(l4 + at, 0);
	acc = sum(ip + 12, 8, proto + (uint32_t)len);
	be16_store(l4 + at, fold(sum(l4, len, acc)));
	card_send(card, frame, 34 + len);
}

static void
answer_arp(struct card *card, uint8_t *frame)
{
	uint8_t reply[60] = { 0 };

	memcpy(reply, frame + 6, 6);
	memcpy(reply + 6, "\x02\0\0\0\0\x0a\x08\x06\0\x01\x08\0\x06\x04\0\x02",
	    16);
	memcpy(reply + 22, "\x02\0\0\0\0\x0a", 6);
	memcpy(reply + 28, frame + 38, 4);
	memcpy(reply + 32, frame + 22, 10);
	card_send(card, reply, sizeof(reply));
}

/* The next IPv4 packet of a protocol; ARP is answered meanwhile. */
static size_t
recv_ip(struct card *card, uint8_t *frame, size_t room, uint8_t proto)
{
	for (;;) {
		size_t len = card_recv(card, frame, room);

		if (len >= 42 && be16_load(frame + 12) == 0x0806 &&
		    be16_load(frame + 20) == 1)
			answer_arp(card, frame);
		if (len >= 34 && be16_load(frame + 12) == 0x0800 &&
		    frame[23] == proto)
			return 14u + be16_load(frame + 16);
	}
}

static void
send_tcp(struct card *card, const uint8_t *got, uint8_t flags, uint32_t seq,
    uint32_t ack, const char *text)
{
	uint8_t frame[200] = { 0 };
	uint8_t *tcp = frame + 34;

	memcpy(tcp, got + 36, 2);
	memcpy(tcp + 2, got + 34, 2);
	be32_store(tcp + 4, seq);
	be32_store(tcp + 8, ack);
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	be16_store(tcp + 14, 8192);
	memcpy(tcp + 20, text, strlen(text));
	send_ip(card, frame, got + 6, 6, be32_load(got + 30),
	    be32_load(got + 26), 20 + strlen(text));
}

/* DHCP: discover, and what is offered. */
static uint32_t
get_lease(struct card *card)
{
	static const uint8_t all[] = { 255, 255, 255, 255, 255, 255 };
	uint8_t frame[2048] = { 0 };
	uint8_t *udp = frame + 34, *bootp = udp + 8;

	be16_store(udp, 68);
	be16_store(udp + 2, 67);
	be16_store(udp + 4, 8 + 300);
	memcpy(bootp, "\x01\x01\x06\0\x12\x34\x56\x78", 8);
	memcpy(bootp + 28, "\x02\0\0\0\0\x0a", 6);
	memcpy(bootp + 236, "\x63\x82\x53\x63\x35\x01\x01\xff", 8);
	send_ip(card, frame, all, 17, 0, 0xffffffff, 8 + 300);
	recv_ip(card, frame, sizeof(frame), 17);
	assert_int_equal(be16_load(udp), 67);
	assert_memory_equal(bootp + 4, "\x12\x34\x56\x78", 4);
	return be32_load(bootp + 16);
}

/* The host connects to the guest at 127.0.0.1:port; both say something. */
static void
talk_tcp(struct card *card, unsigned port)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	uint8_t frame[2048];
	uint32_t seq = 1000, peer;
	char words[16] = "";
	size_t len;

	assert_int_equal(connect(fd, (struct sockaddr *)&sin, sizeof(sin)), 0);
	recv_ip(card, frame, sizeof(frame), 6);
	assert_int_equal(frame[47], 0x02); /* SYN */
	assert_int_equal(be16_load(frame + 36), 22);
	peer = be32_load(frame + 38) + 1;
	send_tcp(card, frame, 0x12, seq++, peer, "");
	write_all(fd, "knock", 5);
	do
		len = recv_ip(card, frame, sizeof(frame), 6);
	while (len <= 34u + (frame[46] >> 4) * 4);
	assert_memory_equal(frame + 34 + (frame[46] >> 4) * 4, "knock", 5);
	send_tcp(card, frame, 0x18, seq, peer + 5, "who is there?");
	read_all(fd, words, 13);
	assert_string_equal(words, "who is there?");
	close(fd);
}

static unsigned
free_port(void)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	close(fd);
	return ntohs(sin.sin_port);
}

static bool
have_slirp(void)
{
	struct card card;
	struct err err = { "" };

	if (card_try(&card, "backend=slirp", &err) == 0) {
		card_close(&card);
		return true;
	}
	if (strstr(err.msg, "without libslirp") == NULL)
		fail_msg("%s", err.msg);
	print_message("built without libslirp\n");
	return false;
}

static void
slirp_forwards(void **state)
{
	unsigned port;
	struct card card;
	char *text;

	if (!have_slirp())
		skip();
	port = free_port();
	text = xasprintf("backend=slirp mac=" MAC_A " hostfwd=tcp:127.0.0.1:%u-"
			 ":22;udp::%u-10.0.2.15:53",
	    port, port);
	card_open(&card, text);
	assert_int_equal(get_lease(&card), GUEST_IP);
	talk_tcp(&card, port);
	card_close(&card);
	free(text);
}

/* Does the guest reach a port of the host's? */
static bool
slirp_reaches(const char *text, int listener, uint16_t port)
{
	static const uint8_t gateway[] = { 0x52, 0x55, 10, 0, 2, 2 };
	uint8_t got[64] = { 0 };
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	struct card card;
	bool reached;

	card_open(&card, text);
	assert_int_equal(get_lease(&card), GUEST_IP);
	memcpy(got + 6, gateway, 6);
	be32_store(got + 26, HOST_IP);
	be32_store(got + 30, GUEST_IP);
	be16_store(got + 34, port);
	be16_store(got + 36, 4000);
	send_tcp(&card, got, 0x02, 1, 0, "");
	/* slirp takes frames in order: with this answer that one is judged. */
	assert_int_equal(get_lease(&card), GUEST_IP);
	reached = poll(&pfd, 1, 0) == 1;
	if (reached)
		close(accept(listener, NULL, NULL));
	card_close(&card);
	return reached;
}

static void
slirp_is_closed_unless_open(void **state)
{
	struct sockaddr_in sin = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(sin);
	int fd;

	if (!have_slirp())
		skip();
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, len), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	assert_false(slirp_reaches("backend=slirp", fd, ntohs(sin.sin_port)));
	assert_true(
	    slirp_reaches("backend=slirp open=true", fd, ntohs(sin.sin_port)));
	close(fd);
}

static void
slirp_options_are_checked(void **state)
{
	static const char *const bad[] = { "tcp:22-22", "icmp::1-:2",
		"tcp::1-:0", "tcp::0-:1", "tcp::65536-:1", "tcp:1.2.3:1-:1",
		"tcp::1", "tcp:::1-:1", "tcp::1-:2-3" };

	if (!have_slirp())
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char *text = xasprintf("backend=slirp hostfwd=%s", bad[i]);

		assert_refused(text, -EINVAL, "hostfwd");
		free(text);
	}
	assert_refused("backend=slirp open=maybe", -EINVAL, "open");
}

/* ---- taps --------------------------------------------------------------- */

static void
need_tap(void)
{
	int fd;

	if (!own_namespace) {
		print_message("no network namespace of our own\n");
		skip();
	}
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		print_message("/dev/net/tun: %s\n", strerror(errno));
		skip();
	}
	close(fd);
}

/* A packet socket on an interface: the host's side. */
static int
host_side(const char *name)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(ifr.ifr_name, name, strlen(name));
	sin.sin_addr.s_addr = htonl(HOST_IP);
	memcpy(&ifr.ifr_addr, &sin, sizeof(sin));
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &ifr), 0);
	sin.sin_addr.s_addr = htonl(0xffffff00);
	memcpy(&ifr.ifr_netmask, &sin, sizeof(sin));
	assert_int_equal(ioctl(fd, SIOCSIFNETMASK, &ifr), 0);
	return fd;
}

static void
get_host_mac(int fd, const char *name, uint8_t mac[6])
{
	struct ifreq ifr = { 0 };

	memcpy(ifr.ifr_name, name, strlen(name));
	assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &ifr), 0);
	memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
}

static void
a_tap_reaches_the_host(void **state)
{
	static const size_t headers[] = { 0, NET_HDR_LEGACY, 12 };
	struct net_info info;
	uint8_t frame[2048];
	struct card card;

	need_tap();
	card_open(&card, "tap=vm0 create=true mac=" MAC_A " mtu=1400");
	net_info(card.net, &info);
	assert_int_equal(info.mtu, 1400);
	assert_true(info.link);
	assert_int_equal(info.offloads & NET_OFFLOAD_TSO4, NET_OFFLOAD_TSO4);
	close(host_side("vm0"));
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		uint8_t *arp = frame + headers[i];

		net_pause(card.net);
		assert_int_equal(net_set_offload(card.net, headers[i], 0), 0);
		net_resume(card.net);
		memset(frame, 0, sizeof(frame));
		memset(arp, 0xff, 6);
		memcpy(arp + 6,
		    "\x02\0\0\0\0\x0a\x08\x06\0\x01\x08\0\x06\x04\0\x01", 16);
		memcpy(arp + 22, "\x02\0\0\0\0\x0a", 6);
		be32_store(arp + 28, GUEST_IP);
		be32_store(arp + 38, HOST_IP);
		card_send(&card, frame, headers[i] + 60);
		do
			assert_in_range(card_recv(&card, frame, sizeof(frame)),
			    headers[i] + 42, headers[i] + 1500);
		while (
		    be16_load(arp + 12) != 0x0806 || be16_load(arp + 20) != 2);
		assert_int_equal(be32_load(arp + 28), HOST_IP);
		for (size_t n = 0; n < headers[i]; n++)
			assert_int_equal(frame[n], n == 10);
	}
	card_close(&card);
	assert_int_equal(if_nametoindex("vm0"), 0);
}

static void
a_tap_is_used_by_one(void **state)
{
	struct card card;

	need_tap();
	card_open(&card, "tap=busy0 create=true");
	assert_refused("tap=busy0", -EBUSY, "another process");
	card_close(&card);
	assert_refused("tap=lo", -EINVAL, "lo");
}

/* Checksums and segments are left to the kernel. */
static void
a_tap_offloads(void **state)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	uint8_t frame[12 + 34 + 20] = { 0 }, words[16] = { 0 };
	struct net_hdr *hdr = (struct net_hdr *)(void *)frame;
	uint8_t *ip = frame + 12 + 14, *udp = ip + 20;
	struct card card;
	int fd, host;

	need_tap();
	card_open(&card, "tap=off0 create=true mac=" MAC_A);
	host = host_side("off0");
	net_pause(card.net);
	assert_int_equal(net_set_offload(card.net, 12,
			     NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4),
	    0);
	assert_int_equal(net_set_offload(card.net, 12, NET_OFFLOAD_TSO4),
	    -EINVAL);
	net_resume(card.net);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	sin.sin_addr.s_addr = htonl(HOST_IP);
	assert_int_equal(bind(fd, (struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	get_host_mac(host, "off0", frame + 12);
	memcpy(frame + 18, "\x02\0\0\0\0\x0a\x08\0", 8);
	ip[0] = 0x45;
	be16_store(ip + 2, 20 + 8 + 5);
	ip[8] = 64;
	ip[9] = 17;
	be32_store(ip + 12, GUEST_IP);
	be32_store(ip + 16, HOST_IP);
	be16_store(ip + 10, fold(sum(ip, 20, 0)));
	be16_store(udp, 4000);
	memcpy(udp + 2, &sin.sin_port, 2);
	be16_store(udp + 4, 13);
	/* Of the pseudo header alone. */
	be16_store(udp + 6, (uint16_t)~fold(sum(ip + 12, 8, 17 + 13)));
	memcpy(udp + 8, "hello", 5);
	hdr->flags = NET_HDR_F_NEEDS_CSUM;
	hdr->csum_start = le16_make(34);
	hdr->csum_offset = le16_make(6);
	card_send(&card, frame, 12 + 34 + 13);
	assert_int_equal(recv(fd, words, sizeof(words), 0), 5);
	assert_memory_equal(words, "hello", 5);
	close(fd);
	close(host);
	card_close(&card);
}

/* The kernel is given what a guest makes up, and the tap goes on. */
static void
a_tap_survives_lying_headers(void **state)
{
	static const uint16_t words[] = { 0, 1, 13, 14, 34, 63, 64, 65, 1514,
		65535 };
	uint8_t frame[12 + 64] = { 0 }, in[2048];
	struct net_hdr *hdr = (struct net_hdr *)(void *)frame;
	struct iovec iov = { in, sizeof(in) };
	struct net_stats stats;
	unsigned sent = 0;
	struct card card;

	need_tap();
	card_open(&card, "tap=lie0 create=true mac=" MAC_A " mac-nospoof=true");
	net_pause(card.net);
	assert_int_equal(net_set_offload(card.net, 12, 0), 0);
	net_resume(card.net);
	make_frame(frame + 12, 0xb, 0xa, 0, 64);
	memcpy(frame + 24, "\x08\0\x45\0\0\x32\0\0\0\0\x40\x06", 12);
	for (unsigned flags = 0; flags < 4; flags++)
		for (unsigned gso = 0; gso < 256; gso += gso < 8 ? 1 : 31)
			for (size_t i = 0; i < 1000; i++) {
				hdr->flags = (uint8_t)flags;
				hdr->gso_type = (uint8_t)gso;
				hdr->hdr_len = le16_make(words[i % 10]);
				hdr->gso_size = le16_make(words[i / 10 % 10]);
				hdr->csum_start = le16_make(words[i / 100]);
				hdr->csum_offset = le16_make(words[i % 7]);
				hdr->num_buffers = le16_make(words[i % 9]);
				card_send(&card, frame, sizeof(frame));
				sent++;
				(void)net_recv(card.net, 0, &iov, 1);
			}
	net_stats(card.net, &stats);
	assert_int_equal(stats.tx_frames + stats.tx_dropped +
		stats.tx_malformed + stats.tx_filtered,
	    sent);
	assert_true(stats.tx_filtered > 0 && stats.tx_malformed > 0);
	memset(hdr, 0, sizeof(*hdr));
	card_send(&card, frame, sizeof(frame));
	net_stats(card.net, &stats);
	assert_int_equal(stats.tx_frames + stats.tx_dropped +
		stats.tx_malformed + stats.tx_filtered,
	    sent + 1);
	assert_true(card.link);
	card_close(&card);
}

static void
a_tap_has_queues(void **state)
{
	struct net_info info;
	uint8_t frame[64];
	struct iovec iov = { frame, sizeof(frame) };
	struct card card;

	need_tap();
	card_open(&card, "tap=many0 create=true queues=4 mac=" MAC_A);
	net_info(card.net, &info);
	assert_int_equal(info.queues, 4);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned n = 1; n <= 4; n++) {
			assert_int_equal(net_set_queues(card.net, n), 0);
			for (unsigned q = 0; q < 4; q++) {
				make_frame(frame, 0xb, 0xa, q, 64);
				assert_int_equal(net_send(card.net, q, &iov, 1),
				    0);
				while (
				    net_recv(card.net, q, &iov, 1) != -EAGAIN)
					;
			}
		}
		assert_int_equal(net_set_queues(card.net, 1), 0);
	}
	net_info(card.net, &info);
	assert_true(info.link);
	card_close(&card);
}

static void
a_tap_that_is_deleted_is_down(void **state)
{
	struct timespec ts = deadline();
	uint8_t in[2048];
	struct iovec iov = { in, sizeof(in) };
	struct card card;

	need_tap();
	card_open(&card, "tap=gone0 create=true");
	if (system("ip link delete gone0") != 0) {
		card_close(&card);
		print_message("no ip(8)\n");
		skip();
	}
	/* A card that takes what comes hears of it. */
	pthread_mutex_lock(&card.lock);
	while (card.link) {
		unsigned old = card.readable[0];
		ssize_t len;

		pthread_mutex_unlock(&card.lock);
		len = net_recv(card.net, 0, &iov, 1);
		pthread_mutex_lock(&card.lock);
		while (len < 0 && card.link && card.readable[0] == old)
			if (pthread_cond_timedwait(&card.cond, &card.lock,
				&ts) != 0)
				fail_msg("nothing has come");
	}
	pthread_mutex_unlock(&card.lock);
	card_close(&card);
}

/* ---- the real passt ----------------------------------------------------- */

/* Run it on an uplink of ours; the card is connected once it listens. */
static pid_t
run_passt(struct card *card, const char *path, unsigned port)
{
	char *forward = xasprintf("127.0.0.1/%u:22", port);
	char *text = xasprintf("backend=passt mac=" MAC_A " path=%s", path);
	struct err err;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 1);
		dup2(null, 2);
		execlp("passt", "passt", "--foreground", "--socket", path, "-4",
		    "-t", forward, "--runas", "0", (char *)NULL);
		_exit(127);
	}
	/* It says by its socket that it is ready, or by its end that not. */
	while (card_try(card, text, &err) < 0) {
		if (waitpid(pid, NULL, WNOHANG) == pid) {
			pid = -1;
			break;
		}
		poll(NULL, 0, 10);
	}
	free(forward);
	free(text);
	return pid;
}

static void
passt_itself_serves_us(void **state)
{
	char *path = in_dir("%s", "passt");
	struct card card, uplink;
	unsigned port;
	pid_t pid;

	need_tap();
	card_open(&uplink, "tap=up0 create=true mac=" MAC_B);
	close(host_side("up0"));
	port = free_port();
	pid = system("ip route add default via 10.0.2.1") == 0 ?
	    run_passt(&card, path, port) :
	    -1;
	if (pid < 0) {
		card_close(&uplink);
		free(path);
		print_message("no ip(8), or passt(1) does not run here\n");
		skip();
	}
	net_resume(card.net);
	/* It gives the guest the host's own address. */
	assert_int_equal(get_lease(&card), HOST_IP);
	talk_tcp(&card, port);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	card_wait_link(&card, false);
	card_close(&card);
	card_close(&uplink);
	free(path);
}

/* ---- throughput --------------------------------------------------------- */

static void *
drain(void *arg)
{
	struct card *card = arg;
	static uint8_t in[2000];

	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(card_recv(card, in, sizeof(in)), 1514);
	return NULL;
}

static void
many_frames_pass_in_no_time(void **state)
{
	uint8_t frame[1514];
	uint64_t begin;
	pthread_t thread;
	struct card a, b;

	pair_open(&a, &b, "many", "mac=" MAC_A);
	make_frame(frame, 0xb, 0xa, 0, sizeof(frame));
	begin = net_now();
	assert_int_equal(pthread_create(&thread, NULL, drain, &b), 0);
	for (unsigned i = 0; i < 20000; i++)
		card_send(&a, frame, sizeof(frame));
	pthread_join(thread, NULL);
	/* Sane, even with sanitizers on a busy host; printed for a person. */
	print_message("20000 frames in %llu us\n",
	    (unsigned long long)((net_now() - begin) / 1000));
	assert_in_range(net_now() - begin, 0, PATIENCE_S * NS_PER_SEC);
	card_close(&a);
	card_close(&b);
}

/* ---- main --------------------------------------------------------------- */

static int
group_setup(void **state)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (mkdtemp(dir) == NULL)
		return -1;
	own_namespace = unshare(CLONE_NEWNET) == 0;
	if (own_namespace) {
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		own_namespace = ioctl(fd, SIOCSIFFLAGS, &ifr) == 0;
		close(fd);
	}
	return 0;
}

static int
group_teardown(void **state)
{
	char *command = xasprintf("rm -rf '%s'", dir);
	int rc = system(command);

	free(command);
	return rc;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(a_card_learns_who_it_is),
		cmocka_unit_test(a_cable_joins_two),
		cmocka_unit_test(a_cable_is_plugged_again),
		cmocka_unit_test(both_ends_come_at_once),
		cmocka_unit_test(udp_is_a_cable),
		cmocka_unit_test(frames_that_are_none_are_dropped),
		cmocka_unit_test(headers_are_made_where_there_are_none),
		cmocka_unit_test(what_does_not_fit_is_dropped),
		cmocka_unit_test(a_full_peer_stops_the_sender),
		cmocka_unit_test(a_call_is_made_once),
		cmocka_unit_test(a_pause_holds_everything),
		cmocka_unit_test(protection_is_in_front),
		cmocka_unit_test(rates_hold),
		cmocka_unit_test(threads_do_not_disturb_each_other),
		cmocka_unit_test(a_switch_learns),
		cmocka_unit_test(a_stuck_port_stops_nobody_for_long),
		cmocka_unit_test(a_stream_carries_frames),
		cmocka_unit_test(slirp_forwards),
		cmocka_unit_test(slirp_is_closed_unless_open),
		cmocka_unit_test(slirp_options_are_checked),
		cmocka_unit_test(a_tap_reaches_the_host),
		cmocka_unit_test(a_tap_is_used_by_one),
		cmocka_unit_test(a_tap_offloads),
		cmocka_unit_test(a_tap_survives_lying_headers),
		cmocka_unit_test(a_tap_has_queues),
		cmocka_unit_test(a_tap_that_is_deleted_is_down),
		cmocka_unit_test(passt_itself_serves_us),
		cmocka_unit_test(many_frames_pass_in_no_time),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
