/*
 * The other side of net_double.h: net.h as far as a card uses it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "nic/net_double.h"

struct net *net_double;

const char *const net_keys[] = { "backend", "mac", "mtu", "queues" };
const size_t net_keys_count = ARRAY_SIZE(net_keys);

int
net_open(struct config *node, const char *mac_seed, const struct net_ops *ops,
    void *arg, struct net **opened, struct err *err)
{
	struct net *net = xcalloc(1, sizeof(*net));

	snprintf(net->seed, sizeof(net->seed), "%s", mac_seed);
	net->ops = ops;
	net->arg = arg;
	net->room = UINT32_MAX;
	if (net_double == NULL)
		net_double = net;
	*opened = net;
	return 0;
}

void
net_close(struct net *net)
{
	if (net == NULL)
		return;
	if (net_double == net)
		net_double = NULL;
	net_forget_sent(net);
	for (unsigned i = net->first; i < net->end; i++)
		free(net->queue[i].data);
	free(net);
}

void
net_info(struct net *net, struct net_info *info)
{
	*info = (struct net_info) {
		.mac = NET_DOUBLE_MAC,
		.mtu = 1500,
		.queues = 1,
		.link = true,
	};
}

int
net_set_offload(struct net *net, size_t hdr, unsigned rx)
{
	return hdr == 0 && rx == 0 ? 0 : -EINVAL;
}

int
net_send(struct net *net, unsigned queue, const struct iovec *iov,
    unsigned count)
{
	struct net_frame *frame;
	size_t len = 0;

	if (net->room == 0 || net->paused)
		return -EAGAIN;
	net->room--;
	for (unsigned i = 0; i < count; i++)
		len += iov[i].iov_len;
	assert(len >= NET_ETHER_HDR && len <= NET_FRAME_MAX);
	if (net->sent_count == NET_DOUBLE_FRAMES)
		return 0;
	frame = &net->sent[net->sent_count++];
	frame->data = xcalloc(1, len);
	frame->len = 0;
	for (unsigned i = 0; i < count; i++) {
		memcpy(frame->data + frame->len, iov[i].iov_base,
		    iov[i].iov_len);
		frame->len += iov[i].iov_len;
	}
	return 0;
}

ssize_t
net_recv(struct net *net, unsigned queue, const struct iovec *iov,
    unsigned count)
{
	struct net_frame frame;
	ssize_t got;

	if (net->first == net->end || net->paused)
		return -EAGAIN;
	frame = net->queue[net->first++];
	if (net->first == net->end)
		net->first = net->end = 0;
	got = frame.len > iov->iov_len ? -EMSGSIZE : (ssize_t)frame.len;
	if (got > 0)
		memcpy(iov->iov_base, frame.data, frame.len);
	free(frame.data);
	return got;
}

void
net_pause(struct net *net)
{
	net->paused = true;
}

void
net_resume(struct net *net)
{
	net->paused = false;
}

void
net_forget_sent(struct net *net)
{
	for (unsigned i = 0; i < net->sent_count; i++)
		free(net->sent[i].data);
	net->sent_count = 0;
}

bool
net_give(struct net *net, const void *data, size_t len)
{
	struct net_frame *frame = &net->queue[net->end];

	if (net->end == NET_DOUBLE_FRAMES)
		return false;
	frame->data = xcalloc(1, len);
	frame->len = len;
	memcpy(frame->data, data, len);
	net->end++;
	net->ops->readable(net->arg, 0);
	return true;
}
