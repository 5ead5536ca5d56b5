/*
 * A network of a test's own, linked in place of src/net: what a card sends is
 * kept, what it receives was put there.
 */
#ifndef NIC_NET_DOUBLE_H
#define NIC_NET_DOUBLE_H

#include "net/net.h"

#define NET_DOUBLE_FRAMES 2048u
#define NET_DOUBLE_MAC                             \
	{                                          \
		0x00, 0xa0, 0x98, 0x12, 0x34, 0x56 \
	}

struct net_frame {
	uint8_t *data; /* owned */
	size_t len;
};

struct net {
	const struct net_ops *ops;
	void *arg;
	char seed[32];
	bool paused;
	unsigned room; /* frames it takes before it is full */
	struct net_frame sent[NET_DOUBLE_FRAMES]; /* the first ones */
	unsigned sent_count;
	struct net_frame queue[NET_DOUBLE_FRAMES]; /* from first to end */
	unsigned first, end;
};

/* The one that was opened first, by the device under test; or NULL. */
extern struct net *net_double;

void net_forget_sent(struct net *net);
/* A frame comes for the card; false if there is no place for it. */
bool net_give(struct net *net, const void *data, size_t len);

#endif
