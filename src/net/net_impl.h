/*
 * Between the cards' side of a network back end (net.c) and its families
 * (net_tap.c, net_slirp.c, net_passt.c, net_socket.c); the pieces in front of
 * them (filter.c, limit.c, mac.c).
 *
 * A family gives each queue one descriptor.  net.c watches it, keeps track of
 * calls owed, filters and limits; the family moves one frame at a time.
 */
#ifndef NET_NET_IMPL_H
#define NET_NET_IMPL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "event/event.h"
#include "net/net.h"

/* ---- MAC addresses (mac.c) ---------------------------------------------- */

/* Six pairs of hexadecimal digits and colons; unicast and not all zero. */
int mac_parse(const char *text, uint8_t mac[NET_MAC_LEN], struct err *err);
/* 00:a0:98 and the first three bytes of MD5(seed), as bhyve does. */
void mac_derive(const char *seed, uint8_t mac[NET_MAC_LEN]);

/* ---- rate limits (limit.c) ---------------------------------------------- */

/*
 * A bucket of bits that fills at a rate.  Who wants to move a frame needs it
 * not in debt, and may put it there: so frames of any length pass, and the rate
 * holds on average.
 */
struct limit {
	uint64_t rate;   /* bits a second; 0: no limit */
	int64_t burst;   /* the most it holds, bits */
	int64_t level;   /* below 0: in debt */
	uint64_t filled; /* ns: when level was computed */
	uint64_t rest; /* bits times NS_PER_SEC that did not make a whole bit */
};

/* Bits a second, K M G are powers of 1000: at least 8000 or 0. */
int limit_parse(const char *text, uint64_t *bits, struct err *err);
/* burst in bits; 0: what the rate moves in 50 ms, at least a frame. */
void limit_init(struct limit *limit, uint64_t rate, uint64_t burst,
    uint64_t now_ns);
/* 0: a frame may pass; else the nanoseconds until one may. */
uint64_t limit_wait(struct limit *limit, uint64_t now_ns);
/* It had so many bytes. */
void limit_charge(struct limit *limit, uint64_t bytes);

/* ---- link protection (filter.c) ----------------------------------------- */

#define FILTER_ADDRS_MAX 64
/* What filter_check() needs to see of a frame, at most. */
#define FILTER_SPAN 2048

struct filter_addr {
	uint8_t bytes[16];
	bool v6;
	uint8_t prefix;
};

struct filter {
	bool mac_nospoof;
	bool ip_nospoof;
	bool dhcp_nospoof;
	bool restricted;
	uint8_t mac[NET_MAC_LEN];
	struct filter_addr addrs[FILTER_ADDRS_MAX];
	unsigned addr_count;
};

/* Addresses and prefixes, separated by commas, semicolons or blanks. */
int filter_parse_addrs(struct filter *filter, const char *text,
    struct err *err);
bool filter_active(const struct filter *filter);
/*
 * May this frame leave the guest?  `data` is its beginning, a private copy of
 * MIN(len, FILTER_SPAN) bytes; len its length.  hdr, if not NULL, is the copy
 * of its header, whose checksum must not be able to undo what was checked.
 */
bool filter_check(const struct filter *filter, const uint8_t *data, size_t len,
    const struct net_hdr *hdr);

/* ---- back ends ---------------------------------------------------------- */

/* One direction of a queue: the call that the card is owed. */
struct net_wait {
	bool owed;
	bool now;    /* make it without waiting for the descriptor */
	uint64_t at; /* ns; not before, the rate is used up; 0: any time */
};

/* A rate for all queues together. */
struct net_rate {
	struct lock lock; /* a leaf */
	struct limit limit;
};

struct net_queue {
	struct net *net; /* borrowed: owns this */
	unsigned index;
	void *own; /* the family's, owned by it */
	/*
	 * The family's descriptor, non-blocking, owned by net.c once it is here;
	 * -1: none.  Changed with both of the locks below held.
	 */
	int fd;

	struct loop *loop; /* owned */
	struct event *kick;
	struct event *timer; /* the rates' */
	struct event *retry; /* reopen */
	pthread_t thread;
	bool running;

	struct lock tx;
	/* Guarded by it. */
	struct iovec tx_iov[IOV_MAX];
	struct net_hdr tx_hdr;
	uint8_t head[FILTER_SPAN]; /* of a frame that the filter looks at */

	struct lock rx;
	/* Guarded by it. */
	struct iovec rx_iov[IOV_MAX];
	struct net_hdr rx_hdr;
	uint8_t *spill; /* owned: NET_FRAME_MAX bytes for what does not fit */

	struct lock watch; /* taken last */
	/* Guarded by it. */
	pthread_cond_t idle; /* calling has become false */
	bool paused;
	bool calling; /* a callback runs */
	bool flush;   /* the family has bytes left to write */
	bool failed;  /* the family says that the descriptor is no good */
	bool down;    /* there is none, or it is not used */
	struct net_wait rx_wait, tx_wait;
	struct event *event; /* watches fd; removed by the loop's thread */
	unsigned interest;   /* what it waits for */

	_Atomic uint64_t tx_frames, tx_bytes, rx_frames, rx_bytes;
	_Atomic uint64_t tx_filtered, tx_malformed, tx_dropped, rx_dropped;
};

struct net_family {
	const char *name;
	/*
	 * Make queues with net_queues() and give each its descriptor, or have
	 * reopen() find one later.  name is what the backend is called in full.
	 */
	int (*open)(struct net *net, const char *name, struct err *err);
	/* Free what is `own`, also half-built; threads have ended.  May be NULL. */
	void (*close)(struct net *net);
	/*
	 * Take one frame of len bytes, under tx: 0; -EAGAIN with nothing taken;
	 * -EBUSY, the same where the descriptor cannot be waited for; -EPIPE: it
	 * has failed; another error: dropped.  The frame begins
	 * with a struct net_hdr if net->vnet.
	 */
	int (*send)(struct net_queue *q, const struct iovec *iov,
	    unsigned count, size_t len);
	/*
	 * Give one, under rx: its length; -EAGAIN; -EPIPE.  iov has room for any
	 * frame.
	 */
	ssize_t (*recv)(struct net_queue *q, const struct iovec *iov,
	    unsigned count);
	/* Under tx, where send() has left bytes: 0, -EAGAIN, -EPIPE. */
	int (*flush)(struct net_queue *q);
	/* Where net->offloads is not 0. */
	int (*set_offload)(struct net *net, unsigned rx);
	/* Where there may be several queues. */
	int (*use_queue)(struct net_queue *q, bool use);
	/*
	 * There is no descriptor.  Return a new one, or -1: it is tried again
	 * every now and then.  On the loop's thread under both locks.  NULL:
	 * what has failed stays so.
	 */
	int (*reopen)(struct net_queue *q);
};

struct net {
	const struct net_family *family;
	const struct net_ops *ops; /* borrowed */
	void *arg;
	struct config *node; /* borrowed: while net_open() runs */

	/* Fixed once it is open. */
	uint8_t mac[NET_MAC_LEN];
	uint16_t mtu;
	bool mtu_set;
	bool vnet; /* the family's frames have headers */
	unsigned offloads;
	struct filter filter;
	struct net_queue *queues; /* owned */
	unsigned queue_count;
	void *own; /* the family's, owned by it */

	struct net_rate tx_rate, rx_rate;

	/* Changed while paused. */
	size_t hdr;
	unsigned rx_offloads;

	unsigned queues_used; /* the owner's */
	_Atomic bool link;
	bool link_told; /* guarded by queue 0's watch */
};

extern const struct net_family net_tap, net_slirp, net_passt, net_p2p,
    net_switch;

/* In open(): make n queues, 1 for most. */
int net_queues(struct net *net, unsigned n, struct err *err);
/* A frame has been kept in part: have flush() called.  Under tx. */
void net_want_flush(struct net_queue *q);

uint64_t net_now(void); /* ns, CLOCK_MONOTONIC */
size_t net_iov_len(const struct iovec *iov, unsigned count);
/* Copy from and to an iovec at an offset; the bytes that were there. */
size_t net_iov_get(const struct iovec *iov, unsigned count, size_t off,
    void *data, size_t len);
size_t net_iov_put(const struct iovec *iov, unsigned count, size_t off,
    const void *data, size_t len);

/* A unix socket's address.  -EINVAL for a path that is too long or empty. */
struct sockaddr_un;
int net_unix_addr(struct sockaddr_un *sun, const char *path, struct err *err);

/* send() and recv() on a connected socket whose messages are frames. */
int net_packet_send(struct net_queue *q, const struct iovec *iov,
    unsigned count, size_t len);
ssize_t net_packet_recv(struct net_queue *q, const struct iovec *iov,
    unsigned count);

#endif
