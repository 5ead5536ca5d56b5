/*
 * virtio-net against a network of the test's own: what the card sends is kept,
 * what it receives was put there.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "net/net.h"
#include "test/virtio_driver.h"
#include "virtio/virtio.h"
#include "vm/bus.h"
#include "vm/platform.h"

#define READY 0x0f
#define NEEDS_RESET VIRTIO_STATUS_NEEDS_RESET
#define BUF VIRTIO_DATA
#define RX 0
#define TX 1
#define CTRL 4 /* with two pairs and MQ */

#define F_CSUM BIT(0)
#define F_GUEST_CSUM BIT(1)
#define F_MTU BIT(3)
#define F_MAC BIT(5)
#define F_GUEST_TSO4 BIT(7)
#define F_HOST_TSO4 BIT(11)
#define F_HOST_ECN BIT(13)
#define F_MRG BIT(15)
#define F_CTRL_VQ BIT(17)
#define F_CTRL_RX BIT(18)
#define F_CTRL_VLAN BIT(19)
#define F_MQ BIT(22)
#define F_ALL (BIT(24) - 1)
#define F_SOME (F_ALL & ~F_MRG)

static const uint8_t mac[6] = { 0x00, 0xa0, 0x98, 0x12, 0x34, 0x56 };

static const char *const options[] = {
	"bench.node=" VIRTIO_DRIVER_NODE,
	VIRTIO_DRIVER_NODE ".backend=test",
	NULL,
};

/* ---- the network --------------------------------------------------------- */

#define FRAMES 2048u

struct frame {
	uint8_t *data;
	size_t len;
};

struct net {
	const struct net_ops *ops;
	void *arg;
	/* Guarded by `lock`, for tests with threads. */
	pthread_mutex_t lock;
	bool paused;
	size_t hdr;
	unsigned rx_offloads, queues;
	unsigned room; /* frames it takes before it is full */
	unsigned dropped;
	struct frame sent[FRAMES];
	unsigned sent_count; /* never more are kept */
	struct frame queue[FRAMES];
	unsigned first, end;
};

/* The first one: that of the device under test. */
static struct net *net;

const char *const net_keys[] = { "backend", "mac", "mtu", "queues" };
const size_t net_keys_count = ARRAY_SIZE(net_keys);

int
net_open(struct config *node, const char *mac_seed, const struct net_ops *ops,
    void *arg, struct net **opened, struct err *err)
{
	struct net *n = xcalloc(1, sizeof(*n));

	assert_string_equal(mac_seed, "3-0-bench");
	pthread_mutex_init(&n->lock, NULL);
	n->ops = ops;
	n->arg = arg;
	n->paused = true;
	n->room = UINT32_MAX;
	n->queues = 1;
	if (net == NULL)
		net = n;
	*opened = n;
	return 0;
}

void
net_close(struct net *n)
{
	if (n == NULL)
		return;
	if (net == n)
		net = NULL;
	for (unsigned i = 0; i < n->sent_count; i++)
		free(n->sent[i].data);
	for (unsigned i = n->first; i < n->end; i++)
		free(n->queue[i].data);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

void
net_info(struct net *n, struct net_info *info)
{
	*info = (struct net_info) { .mtu = 1400,
		.mtu_set = true,
		.queues = 2,
		.offloads = NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 |
		    NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN,
		.link = true };
	memcpy(info->mac, mac, sizeof(mac));
}

int
net_set_offload(struct net *n, size_t hdr, unsigned rx)
{
	assert_true(n->paused);
	n->hdr = hdr;
	n->rx_offloads = rx;
	return 0;
}

int
net_set_queues(struct net *n, unsigned queues)
{
	assert_in_range(queues, 1, 2);
	n->queues = queues;
	return 0;
}

static int
keep(struct net *n, const struct iovec *iov, unsigned count)
{
	struct frame *f = &n->sent[n->sent_count];
	size_t len = 0;

	if (n->room == 0 || n->paused)
		return -EAGAIN;
	n->room--;
	assert_in_range(count, 1, NET_IOV_MAX);
	for (unsigned i = 0; i < count; i++)
		len += iov[i].iov_len;
	assert_in_range(len - n->hdr, NET_ETHER_HDR, NET_FRAME_MAX);
	if (n->sent_count == FRAMES)
		return 0;
	f->data = malloc(len);
	f->len = 0;
	for (unsigned i = 0; i < count; i++) {
		memcpy(f->data + f->len, iov[i].iov_base, iov[i].iov_len);
		f->len += iov[i].iov_len;
	}
	n->sent_count++;
	return 0;
}

int
net_send(struct net *n, unsigned queue, const struct iovec *iov, unsigned count)
{
	int rc;

	pthread_mutex_lock(&n->lock);
	rc = keep(n, iov, count);
	pthread_mutex_unlock(&n->lock);
	return rc;
}

static ssize_t
take(struct net *n, const struct iovec *iov, unsigned count)
{
	struct frame f;
	size_t room = 0, done = 0;

	if (n->first == n->end || n->paused)
		return -EAGAIN;
	f = n->queue[n->first++];
	assert_in_range(count, 1, NET_IOV_MAX);
	for (unsigned i = 0; i < count; i++)
		room += iov[i].iov_len;
	if (f.len + n->hdr > room) {
		n->dropped++;
		free(f.data);
		return -EMSGSIZE;
	}
	for (unsigned i = 0; i < count; i++) {
		uint8_t *to = iov[i].iov_base;

		for (size_t k = 0; k < iov[i].iov_len && done < f.len + n->hdr;
		     k++, done++)
			to[k] = done >= n->hdr ? f.data[done - n->hdr] :
			    done == 10         ? 1 :
						 0;
	}
	free(f.data);
	return (ssize_t)done;
}

ssize_t
net_recv(struct net *n, unsigned queue, const struct iovec *iov, unsigned count)
{
	ssize_t len;

	if (queue != 0)
		return -EAGAIN;
	pthread_mutex_lock(&n->lock);
	len = take(n, iov, count);
	pthread_mutex_unlock(&n->lock);
	return len;
}

static void
set_paused(struct net *n, bool paused)
{
	pthread_mutex_lock(&n->lock);
	n->paused = paused;
	pthread_mutex_unlock(&n->lock);
}

void
net_pause(struct net *n)
{
	set_paused(n, true);
}

void
net_resume(struct net *n)
{
	set_paused(n, false);
}

static void
queue_frame(const void *data, size_t len)
{
	struct frame *f;

	pthread_mutex_lock(&net->lock);
	f = &net->queue[net->end++];
	f->data = malloc(len);
	f->len = len;
	memcpy(f->data, data, len);
	pthread_mutex_unlock(&net->lock);
}

static void
give(const void *data, size_t len)
{
	queue_frame(data, len);
	net->ops->readable(net->arg, 0);
}

/* ---- the guest ----------------------------------------------------------- */

static struct virtio_driver
driver(void **state, uint64_t features)
{
	struct virtio_driver d;

	virtio_driver_init(&d, *state, features);
	net_resume(net);
	return d;
}

static void
poke(struct virtio_driver *d, gpa_t at, const void *data, size_t len)
{
	assert_int_equal(mem_write(vm_mem(d->b->vm), at, data, len), 0);
}

static void
peek(struct virtio_driver *d, gpa_t at, void *data, size_t len)
{
	assert_int_equal(mem_read(vm_mem(d->b->vm), at, data, len), 0);
}

static void
fill(uint8_t *frame, size_t len, const uint8_t *to)
{
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(i * 7 + i / 256);
	memcpy(frame, to, 6);
	frame[12] = 0x08;
	frame[13] = 0;
}

/* Send len bytes at BUF behind a header there. */
static void
send(struct virtio_driver *d, const struct net_hdr *hdr, uint32_t len)
{
	const struct virtio_part parts[] = {
		{ BUF, 12, false },
		{ BUF + 0x1000, len, false },
	};

	poke(d, BUF, hdr, sizeof(*hdr));
	virtio_driver_offer(d, TX, parts, len == 0 ? 1 : 2);
	virtio_driver_kick(d, TX);
	assert_true(virtio_driver_used(d, TX, NULL, NULL));
}

static uint8_t
command(struct virtio_driver *d, unsigned q, unsigned class, unsigned cmd,
    const void *data, uint32_t len)
{
	const uint8_t head[2] = { (uint8_t) class, (uint8_t)cmd };
	const struct virtio_part parts[] = {
		{ BUF + 0x80000, 2, false },
		{ BUF + 0x80100, len, false },
		{ BUF + 0x80010, 1, true },
	};
	const struct virtio_part bare[] = { parts[0], parts[2] };
	uint32_t used;

	poke(d, parts[0].gpa, head, 2);
	if (len != 0)
		poke(d, parts[1].gpa, data, len);
	virtio_driver_poke(d, parts[2].gpa, 1, 0xee);
	virtio_driver_offer(d, q, len != 0 ? parts : bare, len != 0 ? 3 : 2);
	virtio_driver_kick(d, q);
	assert_true(virtio_driver_used(d, q, NULL, &used));
	assert_int_equal(used, 1);
	return (uint8_t)virtio_driver_peek(d, parts[2].gpa, 1);
}

static uint8_t
set8(struct virtio_driver *d, unsigned class, unsigned cmd, uint8_t value)
{
	return command(d, CTRL, class, cmd, &value, 1);
}

static uint8_t
set16(struct virtio_driver *d, unsigned class, unsigned cmd, uint16_t value)
{
	const le16 raw = le16_make(value);

	return command(d, CTRL, class, cmd, &raw, 2);
}

static void
offer_rx(struct virtio_driver *d, gpa_t at, uint32_t len)
{
	const struct virtio_part part = { at, len, true };

	virtio_driver_offer(d, RX, &part, 1);
}

/* Does a frame to this address arrive? */
static bool
arrives(struct virtio_driver *d, const uint8_t *to, unsigned vlan)
{
	uint8_t frame[64];
	uint32_t len;

	fill(frame, sizeof(frame), to);
	if (vlan != 0) {
		frame[12] = 0x81;
		frame[14] = (uint8_t)(vlan >> 8);
		frame[15] = (uint8_t)vlan;
	}
	offer_rx(d, BUF, 2048);
	virtio_driver_kick(d, RX);
	give(frame, sizeof(frame));
	if (!virtio_driver_used(d, RX, NULL, &len))
		return false;
	assert_int_equal(len, 12 + sizeof(frame));
	return true;
}

/* ---- tests --------------------------------------------------------------- */

static void
identity_and_features(void **state)
{
	struct virtio_driver d;
	uint8_t config[12];

	virtio_driver_find(&d, *state);
	assert_int_equal(bench_read(d.b, d.cfg, 4), 0x10001af4);
	assert_int_equal(bench_read(d.b, d.cfg + 8, 4), 0x02000000);
	assert_int_equal(bench_read(d.b, d.cfg + 0x2e, 2), 1);
	assert_int_equal(virtio_driver_get(&d, VC_NUM_QUEUES, 2), 5);
	assert_int_equal(virtio_driver_get(&d, VC_QUEUE_SIZE, 2), 1024);
	assert_int_equal(virtio_driver_offered(&d) & F_ALL, 0xdfbbab);
	for (unsigned i = 0; i < 12; i++)
		config[i] = (uint8_t)bench_read(d.b, d.device + i, 1);
	assert_memory_equal(config, mac, 6);
	assert_int_equal(config[6], 1);
	assert_int_equal(config[8], 2);
	assert_int_equal(config[10] | config[11] << 8, 1400);
}

static void
features_need_others(void **state)
{
	static const uint64_t bad[] = { F_GUEST_TSO4, F_HOST_TSO4, F_HOST_ECN,
		F_CTRL_RX, F_CTRL_VLAN, F_MQ, F_CSUM | F_HOST_ECN };
	struct virtio_driver d;

	virtio_driver_find(&d, *state);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		virtio_driver_set_status(&d, 0);
		virtio_driver_set_status(&d, 3);
		virtio_driver_put(&d, VC_DRIVER_SELECT, 4, 0);
		virtio_driver_put(&d, VC_DRIVER_FEATURE, 4, (uint32_t)bad[i]);
		virtio_driver_put(&d, VC_DRIVER_SELECT, 4, 1);
		virtio_driver_put(&d, VC_DRIVER_FEATURE, 4, 1);
		virtio_driver_set_status(&d, 0x0b);
		assert_int_equal(virtio_driver_status(&d), 3);
	}
	d = driver(state, F_ALL);
	assert_int_equal(net->hdr, 12);
	assert_int_equal(net->rx_offloads, 15);
	d = driver(state, F_MAC);
	assert_int_equal(net->hdr, 12);
	assert_int_equal(net->rx_offloads, 0);
	virtio_driver_set_status(&d, 0);
	assert_int_equal(net->hdr, 10);
}

static void
frames_are_sent(void **state)
{
	struct virtio_driver d = driver(state, F_ALL);
	struct net_hdr hdr = { 0 };
	uint8_t frame[1514];

	fill(frame, sizeof(frame), mac);
	poke(&d, BUF + 0x1000, frame, sizeof(frame));
	send(&d, &hdr, sizeof(frame));
	assert_int_equal(net->sent_count, 1);
	assert_int_equal(net->sent[0].len, 12 + sizeof(frame));
	assert_memory_equal(net->sent[0].data + 12, frame, sizeof(frame));
	hdr.flags = NET_HDR_F_NEEDS_CSUM;
	hdr.csum_start = le16_make(34);
	hdr.csum_offset = le16_make(16);
	hdr.gso_type = NET_HDR_GSO_TCPV4;
	hdr.gso_size = le16_make(1448);
	hdr.hdr_len = le16_make(54);
	send(&d, &hdr, sizeof(frame));
	assert_memory_equal(net->sent[1].data, &hdr, 10);
}

/* hostile-inputs, case 20. */
static void
headers_that_lie_are_dropped(void **state)
{
	static const struct {
		uint8_t flags, gso;
		uint16_t hdr_len, gso_size, start, offset;
		uint32_t len;
	} bad[] = {
		{ 1, 1, 54, 0, 34, 16, 100 },
		{ 1, 1, 101, 1448, 34, 16, 100 },
		{ 1, 1, 0xffff, 1448, 34, 16, 100 },
		{ 1, 0, 0, 0, 101, 0, 100 },
		{ 1, 0, 0, 0, 100, 0, 100 },
		{ 1, 0, 0, 0, 34, 65, 100 },
		{ 1, 0, 0, 0, 0xffff, 0xffff, 100 },
		{ 0, 1, 54, 1448, 34, 16, 100 },
		{ 1, 2, 54, 1448, 34, 16, 100 },
		{ 1, 3, 54, 1448, 34, 16, 100 },
		{ 1, 5, 54, 1448, 34, 16, 100 },
		{ 1, 0x80, 54, 1448, 34, 16, 100 },
		{ 1, 0xff, 54, 1448, 34, 16, 100 },
		{ 0, 0, 0, 0, 0, 0, 0 },
		{ 0, 0, 0, 0, 0, 0, 13 },
		{ 0, 0, 0, 0, 0, 0, NET_FRAME_MAX + 1 },
		{ 0, 0, 0, 0, 0, 0, 0x200000 },
	};
	struct virtio_driver d = driver(state, F_ALL);
	struct net_hdr hdr = { 0 };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		hdr.flags = bad[i].flags;
		hdr.gso_type = bad[i].gso;
		hdr.hdr_len = le16_make(bad[i].hdr_len);
		hdr.gso_size = le16_make(bad[i].gso_size);
		hdr.csum_start = le16_make(bad[i].start);
		hdr.csum_offset = le16_make(bad[i].offset);
		send(&d, &hdr, bad[i].len);
		assert_int_equal(net->sent_count, 0);
	}
	/* What was not agreed on is not sent either. */
	d = driver(state, F_MAC);
	hdr = (struct net_hdr) { .flags = NET_HDR_F_NEEDS_CSUM,
		.csum_start = le16_make(34),
		.csum_offset = le16_make(16) };
	send(&d, &hdr, 100);
	assert_int_equal(net->sent_count, 0);
	/* Fields that mean nothing reach nobody. */
	hdr.flags = 0xfe;
	hdr.hdr_len = le16_make(0xffff);
	hdr.num_buffers = le16_make(77);
	send(&d, &hdr, 100);
	assert_int_equal(net->sent_count, 1);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(net->sent[0].data[i], 0);
	assert_int_equal(virtio_driver_status(&d), READY);
}

static void
a_short_chain_is_no_frame(void **state)
{
	static const uint32_t lens[] = { 1, 9, 11, 12, 25 };
	struct virtio_driver d = driver(state, F_ALL);

	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		const struct virtio_part part = { BUF, lens[i], false };

		virtio_driver_offer(&d, TX, &part, 1);
		virtio_driver_kick(&d, TX);
		assert_true(virtio_driver_used(&d, TX, NULL, NULL));
	}
	assert_int_equal(net->sent_count, 0);
}

static void
a_frame_of_single_bytes(void **state)
{
	static struct virtio_part parts[1024];
	struct virtio_driver d = driver(state, F_ALL);
	uint8_t frame[1024] = { 0 };

	fill(frame + 12, sizeof(frame) - 12, mac);
	poke(&d, BUF, frame, sizeof(frame));
	for (unsigned i = 0; i < 1024; i++)
		parts[i] = (struct virtio_part) { BUF + i, 1, false };
	virtio_driver_offer(&d, TX, parts, 1024);
	virtio_driver_kick(&d, TX);
	assert_true(virtio_driver_used(&d, TX, NULL, NULL));
	assert_int_equal(net->sent_count, 1);
	assert_int_equal(net->sent[0].len, sizeof(frame));
	assert_memory_equal(net->sent[0].data, frame, sizeof(frame));
}

static void
a_full_network_is_waited_for(void **state)
{
	const struct virtio_part part = { BUF, 112, false };
	struct virtio_driver d = driver(state, F_ALL);

	net->room = 2;
	for (unsigned i = 0; i < 5; i++)
		virtio_driver_offer(&d, TX, &part, 1);
	virtio_driver_kick(&d, TX);
	assert_int_equal(net->sent_count, 2);
	virtio_driver_kick(&d, TX);
	assert_int_equal(net->sent_count, 2);
	bench_round_trip(d.b);
	net->room = 1;
	net->ops->writable(net->arg, 0);
	assert_int_equal(net->sent_count, 3);
	net->room = 100;
	net->ops->writable(net->arg, 0);
	assert_int_equal(net->sent_count, 5);
	for (unsigned i = 0; i < 5; i++)
		assert_true(virtio_driver_used(&d, TX, NULL, NULL));
	assert_false(virtio_driver_used(&d, TX, NULL, NULL));
}

static void
work_is_bounded_and_goes_on(void **state)
{
	const struct virtio_part part = { BUF, 112, false };
	struct virtio_driver d = driver(state, F_ALL);

	for (unsigned i = 0; i < 1024; i++)
		virtio_driver_offer(&d, TX, &part, 1);
	d.b->msi_count = 0;
	virtio_driver_kick(&d, TX);
	assert_in_range(net->sent_count, 1, 256);
	assert_int_equal(d.b->msi_count, 1);
	for (unsigned i = 0; i < 1024; i++)
		virtio_driver_wait(&d, TX, NULL, NULL);
	assert_int_equal(net->sent_count, 1024);
}

static void
frames_are_received(void **state)
{
	struct virtio_driver d = driver(state, F_SOME);
	uint8_t frame[1514], got[1514];
	uint32_t len;

	fill(frame, sizeof(frame), mac);
	offer_rx(&d, BUF, 2048);
	virtio_driver_kick(&d, RX);
	give(frame, sizeof(frame));
	assert_true(virtio_driver_used(&d, RX, NULL, &len));
	assert_int_equal(len, 12 + sizeof(frame));
	peek(&d, BUF + 12, got, sizeof(got));
	assert_memory_equal(got, frame, sizeof(got));
	assert_int_equal(virtio_driver_peek(&d, BUF + 10, 2), 1);
}

static void
frames_are_spread_over_buffers(void **state)
{
	static uint8_t frame[60000], got[65536];
	struct virtio_driver d = driver(state, F_ALL);
	uint32_t len, id, total = 0;

	fill(frame, sizeof(frame), mac);
	for (unsigned i = 0; i < 64; i++)
		offer_rx(&d, BUF + i * 1024, 1024);
	virtio_driver_kick(&d, RX);
	d.b->msi_count = 0;
	give(frame, sizeof(frame));
	assert_int_equal(d.b->msi_count, 1);
	assert_int_equal(virtio_driver_peek(&d, BUF + 10, 2), 59);
	for (unsigned i = 0; i < 59; i++) {
		assert_true(virtio_driver_used(&d, RX, &id, &len));
		assert_int_equal(id, i);
		total += len;
	}
	assert_int_equal(total, 12 + sizeof(frame));
	peek(&d, BUF, got, total);
	assert_memory_equal(got + 12, frame, sizeof(frame));
	/* The others are still there, and in order. */
	give(frame, 2000);
	assert_true(virtio_driver_used(&d, RX, &id, &len));
	assert_int_equal(id, 59);
	assert_int_equal(len, 1024);
	assert_true(virtio_driver_used(&d, RX, &id, &len));
	assert_int_equal(id, 60);
	assert_int_equal(len, 2012 - 1024);
	/* Three buffers are too few for this one. */
	give(frame, 4000);
	assert_int_equal(net->dropped, 1);
	give(frame, 1000);
	assert_true(virtio_driver_used(&d, RX, &id, &len));
	assert_int_equal(id, 61);
}

/* hostile-inputs, case 21. */
static void
no_buffers_and_a_full_network(void **state)
{
	struct virtio_driver d = driver(state, F_SOME);
	uint8_t frame[100];
	unsigned got = 0;

	fill(frame, sizeof(frame), mac);
	for (unsigned i = 0; i < 1000; i++)
		queue_frame(frame, sizeof(frame));
	net->ops->readable(net->arg, 0);
	assert_int_equal(net->first, 0);
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned i = 0; i < 5; i++)
			offer_rx(&d, BUF + i * 2048, 2048);
		virtio_driver_kick(&d, RX);
		while (virtio_driver_used(&d, RX, NULL, NULL))
			got++;
	}
	assert_int_equal(got, 1000);
	assert_int_equal(net->dropped, 0);
	offer_rx(&d, BUF, 2048);
	virtio_driver_kick(&d, RX);
	give(frame, sizeof(frame));
	assert_true(virtio_driver_used(&d, RX, NULL, NULL));
}

static void
receive_buffers_too_small(void **state)
{
	static const uint32_t lens[] = { 1, 11 };
	uint8_t frame[100];

	fill(frame, sizeof(frame), mac);
	for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
		struct virtio_driver d = driver(state, i == 0 ? F_ALL : F_SOME);

		offer_rx(&d, BUF, lens[i]);
		virtio_driver_kick(&d, RX);
		give(frame, sizeof(frame));
		assert_int_equal(virtio_driver_status(&d), READY | NEEDS_RESET);
	}
	/* With the header's room alone it is there, but no frame fits. */
	struct virtio_driver d = driver(state, F_SOME);

	offer_rx(&d, BUF, 12);
	virtio_driver_kick(&d, RX);
	give(frame, sizeof(frame));
	assert_false(virtio_driver_used(&d, RX, NULL, NULL));
	assert_int_equal(virtio_driver_status(&d), READY);
}

static void
the_filter_is_the_drivers(void **state)
{
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 1 };
	static const uint8_t group[6] = { 0x33, 0x33, 0, 0, 0, 1 };
	static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };
	static uint8_t table[4 + 65 * 6 + 4];
	struct virtio_driver d = driver(state, F_SOME);

	assert_true(arrives(&d, other, 0));
	assert_int_equal(set8(&d, 0, 0, 0), 0);
	assert_true(arrives(&d, mac, 0));
	assert_true(arrives(&d, all, 0));
	assert_false(arrives(&d, other, 0));
	assert_false(arrives(&d, group, 0));
	assert_int_equal(set8(&d, 0, 1, 1), 0);
	assert_true(arrives(&d, group, 0));
	assert_int_equal(set8(&d, 0, 1, 0), 0);
	assert_int_equal(set8(&d, 0, 5, 1), 0);
	assert_false(arrives(&d, all, 0));
	/* One address of each kind. */
	table[0] = 1;
	memcpy(table + 4, other, 6);
	table[10] = 1;
	memcpy(table + 14, group, 6);
	assert_int_equal(command(&d, CTRL, 1, 0, table, 20), 0);
	assert_true(arrives(&d, other, 0));
	assert_true(arrives(&d, group, 0));
	bench_round_trip(d.b);
	/* Too short for what it claims. */
	assert_int_equal(command(&d, CTRL, 1, 0, table, 19), 1);
	table[3] = 0xff;
	assert_int_equal(command(&d, CTRL, 1, 0, table, 20), 1);
	assert_int_equal(command(&d, CTRL, 1, 0, table, 3), 1);
	assert_true(arrives(&d, other, 0));
	/* Too many: then all. */
	memset(table, 0, sizeof(table));
	table[0] = 65;
	assert_int_equal(command(&d, CTRL, 1, 0, table, sizeof(table)), 0);
	assert_true(arrives(&d, other, 0));
	assert_false(arrives(&d, group, 0));
	/* Tagged: VLANs that were asked for. */
	assert_false(arrives(&d, mac, 0x2005));
	assert_int_equal(set16(&d, 2, 0, 5), 0);
	assert_true(arrives(&d, mac, 0x2005));
	assert_int_equal(set16(&d, 2, 1, 5), 0);
	assert_false(arrives(&d, mac, 0x2005));
	assert_true(arrives(&d, mac, 0x2000));
	/* Another address. */
	assert_int_equal(command(&d, CTRL, 1, 1, other, 6), 0);
	assert_int_equal(bench_read(d.b, d.device, 1), 2);
	assert_int_equal(command(&d, CTRL, 1, 1, group, 6), 1);
	virtio_driver_set_status(&d, 0);
	assert_int_equal(bench_read(d.b, d.device + 2, 1), 0x98);
	d = driver(state, F_SOME);
	assert_true(arrives(&d, other, 0));
}

static void
commands_that_mean_nothing(void **state)
{
	static const uint16_t pairs[] = { 0, 3, 0x7fff, 0xffff };
	struct virtio_driver d = driver(state, F_ALL);
	const struct virtio_part mute = { BUF, 2, false };

	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++)
		assert_int_equal(set16(&d, 4, 0, pairs[i]), 1);
	assert_int_equal(set16(&d, 4, 0, 2), 0);
	assert_int_equal(net->queues, 2);
	assert_int_equal(set16(&d, 2, 0, 0xffff), 1);
	assert_int_equal(set16(&d, 2, 0, 0x1000), 1);
	assert_int_equal(set16(&d, 2, 2, 5), 1);
	assert_int_equal(set8(&d, 4, 0, 1), 1);
	for (unsigned class = 0; class < 256; class += 5)
		for (unsigned cmd = 6; cmd < 256; cmd += 25)
			assert_int_equal(set8(&d, class, cmd, 1), 1);
	assert_int_equal(command(&d, CTRL, 0, 0, NULL, 0), 1);
	bench_round_trip(d.b);
	virtio_driver_offer(&d, CTRL, &mute, 1);
	virtio_driver_kick(&d, CTRL);
	assert_int_equal(virtio_driver_status(&d), READY | NEEDS_RESET);
	virtio_driver_set_status(&d, 0);
	assert_int_equal(net->queues, 1);
	/* Without MQ the control queue is the third, and knows no pairs. */
	d = driver(state, F_ALL & ~F_MQ);
	assert_int_equal(command(&d, 2, 0, 0, "", 1), 0);
	assert_int_equal(command(&d, 2, 4, 0, "\1", 2), 1);
}

static void
the_link_is_shown(void **state)
{
	struct virtio_driver d = driver(state, F_ALL);

	d.b->msi_count = 0;
	net->ops->link(net->arg, false);
	assert_int_equal(bench_read(d.b, d.device + 6, 2), 0);
	assert_int_equal(d.b->msi_count, 1);
	assert_int_equal(d.b->msi[0].data, VIRTIO_MSI_DATA(0));
	net->ops->link(net->arg, true);
	assert_int_equal(bench_read(d.b, d.device + 6, 2), 1);
}

static void
forged_states_are_refused(void **state)
{
	struct virtio_driver d = driver(state, F_ALL);
	static const uint8_t junk[64] = { 0xff };

	assert_int_equal(bench_load(d.b, junk, sizeof(junk)), -EINVAL);
	assert_int_equal(virtio_driver_status(&d), READY);
}

struct storm {
	_Atomic bool stop;
};

static void *
storm_run(void *arg)
{
	struct storm *storm = arg;
	uint8_t frame[100];

	fill(frame, sizeof(frame), mac);
	while (!atomic_load(&storm->stop)) {
		pthread_mutex_lock(&net->lock);
		if (net->first == net->end)
			net->first = net->end = 0;
		pthread_mutex_unlock(&net->lock);
		if (net->end < FRAMES)
			give(frame, sizeof(frame));
		net->ops->writable(net->arg, 0);
		net->ops->link(net->arg, false);
		net->ops->link(net->arg, true);
	}
	return NULL;
}

static void
the_network_does_not_wait_for_resets(void **state)
{
	const struct virtio_part part = { BUF + 0x10000, 112, false };
	struct storm storm = { false };
	struct virtio_driver d;
	pthread_t thread;

	virtio_driver_init(&d, *state, F_SOME);
	net_resume(net);
	assert_int_equal(pthread_create(&thread, NULL, storm_run, &storm), 0);
	for (unsigned round = 0; round < 100; round++) {
		offer_rx(&d, BUF, 2048);
		virtio_driver_kick(&d, RX);
		virtio_driver_offer(&d, TX, &part, 1);
		virtio_driver_kick(&d, TX);
		(void)set8(&d, 0, 0, round & 1);
		if (round % 10 == 0)
			virtio_driver_init(&d, *state, F_SOME);
	}
	atomic_store(&storm.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static void
any_access_is_survived(void **state)
{
	struct virtio_driver d = driver(state, F_ALL);
	const struct bench_range ranges[] = {
		{ BUS_MMIO, d.common, 0x4000 },
		{ BUS_MMIO, d.common, 0x40 },
		{ BUS_PORT, d.ports, 64 },
		{ BUS_MMIO, d.cfg + 0x40, 0xc0 },
	};

	bench_hammer(d.b, ranges, ARRAY_SIZE(ranges), 5000, 1);
}

BENCH_MAIN_OPTIONS("virtio-net", options, BENCH_TEST(identity_and_features),
    BENCH_TEST(features_need_others), BENCH_TEST(frames_are_sent),
    BENCH_TEST(headers_that_lie_are_dropped),
    BENCH_TEST(a_short_chain_is_no_frame), BENCH_TEST(a_frame_of_single_bytes),
    BENCH_TEST(a_full_network_is_waited_for),
    BENCH_TEST(work_is_bounded_and_goes_on), BENCH_TEST(frames_are_received),
    BENCH_TEST(frames_are_spread_over_buffers),
    BENCH_TEST(no_buffers_and_a_full_network),
    BENCH_TEST(receive_buffers_too_small),
    BENCH_TEST(the_filter_is_the_drivers),
    BENCH_TEST(commands_that_mean_nothing), BENCH_TEST(the_link_is_shown),
    BENCH_TEST(forged_states_are_refused),
    BENCH_TEST(the_network_does_not_wait_for_resets),
    BENCH_TEST(any_access_is_survived))
