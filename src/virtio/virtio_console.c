/*
 * virtio-console: named channels between programs of the guest and the host.
 *
 * Models       Virtio 1.2, section 5.3 (device number 3), with SIZE and
 *              MULTIPORT: port.N of the configuration is port N, whose name the
 *              guest sees and whose other end is a unix stream socket.  Without
 *              MULTIPORT a driver has port 0 alone, always open.
 * Leaves out   EMERG_WRITE; ports that are consoles, and RESIZE, which is for
 *              those: a socket has no size.  Ports do not come or go, so there
 *              is no DEVICE_REMOVE.
 * Input        is pulled: a client is read only when the guest has the port
 *              open and buffers for it.  What was read and finds no buffer any
 *              more, since the machine is paused or a driver lied, is staged.
 * Output       waits in the ring for a client that is slow, and is dropped when
 *              there is none.  A chain that was sent in part is given back to
 *              the ring and `sent` says how far it went: nothing is ever in
 *              flight, so neither reset nor pause waits.
 * Control      messages to the driver are not queued but made of what it has
 *              not been told yet, so that no flood of its own makes them many.
 *
 *                           DEVICE_READY          PORT_READY
 *                      unknown ──▶ ADD ── DEVICE_ADD ──▶ READY, NAME
 *
 *              A ready port is told its name, and then PORT_OPEN whenever TOLD
 *              differs from whether there is a client.  A client that went and
 *              came back in between is told as both (`lost`).
 * Locking      a queue's lock guards its chain, and with it a port's staged
 *              input or `sent`; `lock`, taken under any of them, what is said
 *              of ports.  The back ends' functions come on the loop's thread
 *              and take either.
 * State        queues and flags.  Clients and staged input, which is part of a
 *              client's stream, are not saved: a restored guest hears that the
 *              port was closed, and that it is open if there is a client.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/wire.h"
#include "chipset/chardev.h"
#include "virtio/virtio.h"

#define CONSOLE_PORTS 16u
#define CONSOLE_QUEUES (2 * CONSOLE_PORTS + 2)
#define CONSOLE_QUEUE_SIZE 64u
#define CONSOLE_NAME_MAX 128u
#define CONSOLE_STAGE 4096u

#define VIRTIO_CONSOLE_F_SIZE BIT(0)
#define VIRTIO_CONSOLE_F_MULTIPORT BIT(1)

/* 5.3.2: port 0 comes first, then the control queues, then all other ports. */
#define QUEUE_CONTROL_RX 2u
#define QUEUE_CONTROL_TX 3u

/* 5.3.4. */
struct console_config {
	le16 cols, rows;
	le32 max_nr_ports;
	le32 emerg_wr;
};
_Static_assert(sizeof(struct console_config) == 12, "5.3.4");

/* 5.3.6.2. */
enum {
	VIRTIO_CONSOLE_DEVICE_READY,
	VIRTIO_CONSOLE_DEVICE_ADD,
	VIRTIO_CONSOLE_DEVICE_REMOVE,
	VIRTIO_CONSOLE_PORT_READY,
	VIRTIO_CONSOLE_CONSOLE_PORT,
	VIRTIO_CONSOLE_RESIZE,
	VIRTIO_CONSOLE_PORT_OPEN,
	VIRTIO_CONSOLE_PORT_NAME,
};

struct console_control {
	le32 id;
	le16 event;
	le16 value;
};
_Static_assert(sizeof(struct console_control) == 8, "5.3.6.2");

/* What is to be said of a port, and has been. */
#define PORT_ADD 0x01u   /* to be announced */
#define PORT_NAME 0x02u  /* to be told its name */
#define PORT_READY 0x04u /* the driver knows it */
#define PORT_TOLD 0x08u  /* the driver was told that there is a client */
#define PORT_OPEN 0x10u  /* the guest has opened it */
#define PORT_FLAGS 0x1fu

struct console;

struct port {
	struct console *console; /* NULL: there is no such port */
	unsigned id;
	char *name;           /* owned */
	struct chardev *peer; /* owned */

	/* Guarded by the receive queue's lock. */
	uint8_t stage[CONSOLE_STAGE];
	size_t stage_off, stage_len;

	/* Guarded by the console's lock. */
	bool connected;
	bool lost; /* the client that the driver was told of has gone */
};

struct console {
	struct virtio virtio;
	struct virtq_regs queues[CONSOLE_QUEUES];
	struct pci_msix_entry msix[CONSOLE_QUEUES + 1];
	struct virtq_chain chains[CONSOLE_QUEUES]; /* owned */
	struct port ports[CONSOLE_PORTS];
	uint64_t sent[CONSOLE_PORTS]; /* of the next chain to be transmitted */

	struct lock lock;
	/* Guarded by it. */
	uint8_t flags[CONSOLE_PORTS];
	bool multiport;
};

static const struct field console_state[] = {
	VIRTIO_STATE(struct console, virtio),
	VIRTQ_STATE(struct console, queues),
	PCI_MSIX_STATE(struct console, msix),
	STATE_ARRAY(struct console, sent, 0),
	STATE_ARRAY_MAX(struct console, flags, 0, PORT_FLAGS),
};

static unsigned
port_queue(unsigned id)
{
	return id == 0 ? 0 : 2 * id + 2;
}

static struct virtq *
port_rx(const struct port *port)
{
	return &port->console->virtio.queues[port_queue(port->id)];
}

/* ---- input -------------------------------------------------------------- */

static bool
port_is_open(struct port *port)
{
	struct console *console = port->console;
	bool open;

	lock_take(&console->lock);
	open = console->multiport ? console->flags[port->id] & PORT_OPEN :
				    port->id == 0;
	lock_drop(&console->lock);
	return open;
}

/* Staged bytes into buffers, a queue's worth of them at most. */
static void
port_deliver_locked(struct port *port, struct virtq *vq)
{
	struct virtq_chain *chain = &port->console->chains[vq->index];
	unsigned served = 0;

	assert(lock_held(&vq->lock));
	while (port->stage_len > 0 && served < CONSOLE_QUEUE_SIZE &&
	    virtq_pop(vq, chain) == 1) {
		size_t len = MIN(port->stage_len, chain->writable_len);

		(void)virtq_write(chain, 0, port->stage + port->stage_off,
		    len); /* it has the room */
		virtq_push(vq, chain, len);
		port->stage_off += len;
		port->stage_len -= len;
		served++;
	}
	virtq_notify(vq);
	if (!virtq_want_notify(vq))
		return;
	if (port->stage_len > 0)
		virtio_notify_later(&port->console->virtio);
	else
		chardev_wake(port->peer);
}

static size_t
port_room(void *arg)
{
	struct port *port = arg;
	struct virtq *vq = port_rx(port);
	bool room = port_is_open(port);

	lock_take(&vq->lock);
	room = room && port->stage_len == 0 && virtq_pending(vq);
	lock_drop(&vq->lock);
	return room ? CONSOLE_STAGE : 0;
}

static void
port_receive(void *arg, const uint8_t *data, size_t len)
{
	struct port *port = arg;
	struct virtq *vq = port_rx(port);

	lock_take(&vq->lock);
	assert(port->stage_len == 0 && len <= CONSOLE_STAGE);
	memcpy(port->stage, data, len);
	port->stage_off = 0;
	port->stage_len = len;
	lock_drop(&vq->lock);
	/* Not from here: the device may have to keep off memory. */
	virtio_notify_later(&port->console->virtio);
}

/* ---- output ------------------------------------------------------------- */

/* A chain from where it stands: true when all of it went. */
static bool
port_send(struct port *port, const struct virtq_chain *chain, uint64_t *sent)
{
	uint64_t skip = *sent;

	for (unsigned i = 0; i < chain->readable; i++) {
		const struct iovec *iov = &chain->iov[i];
		size_t len, taken;

		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		len = iov->iov_len - skip;
		taken = chardev_write(port->peer,
		    (const uint8_t *)iov->iov_base + skip, len);
		*sent += taken;
		if (taken < len)
			return false;
		skip = 0;
	}
	return true;
}

static void
port_transmit_locked(struct port *port, struct virtq *vq)
{
	struct console *console = port->console;
	struct virtq_chain *chain = &console->chains[vq->index];
	uint64_t *sent = &console->sent[port->id];
	unsigned served = 0;
	bool full = false;

	assert(lock_held(&vq->lock));
	while (
	    !full && served < CONSOLE_QUEUE_SIZE && virtq_pop(vq, chain) == 1) {
		full = !port_send(port, chain, sent);
		if (full) {
			virtq_unpop(vq, chain);
			break;
		}
		*sent = 0;
		virtq_push(vq, chain, 0);
		served++;
	}
	virtq_notify(vq);
	/* With a full peer, port_drained() has us go on. */
	if (virtq_want_notify(vq) && !full)
		virtio_notify_later(&console->virtio);
}

static void
port_drained(void *arg)
{
	struct port *port = arg;

	virtio_notify_later(&port->console->virtio);
}

/* ---- control ------------------------------------------------------------ */

static void
port_connected(void *arg, bool is)
{
	struct port *port = arg;
	struct console *console = port->console;

	lock_take(&console->lock);
	port->connected = is;
	if (!is && (console->flags[port->id] & PORT_TOLD))
		port->lost = true;
	lock_drop(&console->lock);
	virtio_notify_later(&console->virtio);
}

/* What a port's driver has to hear next: false, if nothing. */
static bool
port_message_locked(struct port *port, struct console_control *message)
{
	struct console *console = port->console;
	uint8_t *flags = &console->flags[port->id];
	unsigned event = VIRTIO_CONSOLE_PORT_OPEN, value = 1;

	assert(lock_held(&console->lock));
	if (*flags & PORT_ADD) {
		*flags &= (uint8_t)~PORT_ADD;
		event = VIRTIO_CONSOLE_DEVICE_ADD;
	} else if (!(*flags & PORT_READY)) {
		return false;
	} else if (*flags & PORT_NAME) {
		*flags &= (uint8_t)~PORT_NAME;
		event = VIRTIO_CONSOLE_PORT_NAME;
	} else if ((*flags & PORT_TOLD) && (port->lost || !port->connected)) {
		*flags &= (uint8_t)~PORT_TOLD;
		port->lost = false;
		value = 0;
	} else if (!(*flags & PORT_TOLD) && port->connected) {
		*flags |= PORT_TOLD;
	} else {
		return false;
	}
	message->id = le32_make(port->id);
	message->event = le16_make((uint16_t)event);
	message->value = le16_make((uint16_t)value);
	return true;
}

/*
 * A buffer that is too small for its message loses it.  False if there are none
 * any more.
 */
static bool
port_tell_locked(struct port *port, struct virtq *vq)
{
	struct virtq_chain *chain = &port->console->chains[vq->index];
	struct console_control message;

	while (virtq_pop(vq, chain) == 1) {
		uint64_t len = sizeof(message);

		if (!port_message_locked(port, &message)) {
			virtq_unpop(vq, chain);
			return true;
		}
		if (!virtq_write(chain, 0, &message, len))
			len = 0;
		else if (le16_get(message.event) == VIRTIO_CONSOLE_PORT_NAME &&
		    virtq_write(chain, len, port->name, strlen(port->name)))
			len += strlen(port->name);
		virtq_push(vq, chain, len);
	}
	return false;
}

static void
console_tell_locked(struct console *console, struct virtq *vq)
{
	bool all = true;

	assert(lock_held(&vq->lock));
	lock_take(&console->lock);
	for (unsigned i = 0; i < CONSOLE_PORTS && all; i++)
		if (console->ports[i].console != NULL)
			all = port_tell_locked(&console->ports[i], vq);
	lock_drop(&console->lock);
	virtq_notify(vq);
	if (virtq_want_notify(vq) && !all)
		virtio_notify_later(&console->virtio);
}

/* False: it means nothing. */
static bool
console_heard_locked(struct console *console,
    const struct console_control *message)
{
	uint32_t id = le32_get(message->id);
	unsigned event = le16_get(message->event);
	bool value = le16_get(message->value) == 1;
	uint8_t *flags;

	assert(lock_held(&console->lock));
	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		for (unsigned i = 0; i < CONSOLE_PORTS && value; i++)
			if (console->ports[i].console != NULL)
				console->flags[i] |= PORT_ADD;
		return true;
	}
	if (id >= CONSOLE_PORTS || console->ports[id].console == NULL)
		return false;
	flags = &console->flags[id];
	switch (event) {
	case VIRTIO_CONSOLE_PORT_READY:
		*flags &= (uint8_t) ~(PORT_READY | PORT_NAME | PORT_TOLD);
		if (value)
			*flags |= PORT_READY | PORT_NAME;
		console->ports[id].lost = false;
		return true;
	case VIRTIO_CONSOLE_PORT_OPEN:
		*flags &= (uint8_t)~PORT_OPEN;
		if (value)
			*flags |= PORT_OPEN;
		chardev_wake(console->ports[id].peer);
		return true;
	default:
		return false;
	}
}

static void
console_hear_locked(struct console *console, struct virtq *vq)
{
	static struct log_limit limit;
	struct virtq_chain *chain = &console->chains[vq->index];
	unsigned served = 0;

	assert(lock_held(&vq->lock));
	while (served < CONSOLE_QUEUE_SIZE && virtq_pop(vq, chain) == 1) {
		struct console_control message;
		bool known = virtq_read(chain, 0, &message, sizeof(message));

		lock_take(&console->lock);
		known = known && console_heard_locked(console, &message);
		lock_drop(&console->lock);
		if (!known)
			log_guest(&limit,
			    "%s: a control message that means nothing",
			    device_name(console->virtio.dev));
		virtq_push(vq, chain, 0);
		served++;
	}
	virtq_notify(vq);
	/* Also for the answers, which are another queue's. */
	if (virtq_want_notify(vq) || served > 0)
		virtio_notify_later(&console->virtio);
}

/* ---- virtio ------------------------------------------------------------- */

static bool
console_multiport(struct console *console)
{
	bool multiport;

	lock_take(&console->lock);
	multiport = console->multiport;
	lock_drop(&console->lock);
	return multiport;
}

static void
console_notify(void *self, struct virtq *vq)
{
	struct console *console = self;
	unsigned index = vq->index;
	struct port *port;

	if (index == QUEUE_CONTROL_RX || index == QUEUE_CONTROL_TX) {
		if (!console_multiport(console))
			return;
		if (index == QUEUE_CONTROL_RX)
			console_tell_locked(console, vq);
		else
			console_hear_locked(console, vq);
		return;
	}
	port = &console->ports[index < 2 ? 0 : index / 2 - 1];
	if (port->console == NULL)
		return;
	if (index % 2 == 0)
		port_deliver_locked(port, vq);
	else
		port_transmit_locked(port, vq);
}

/* Clients stay; the next driver will hear of them. */
static void
console_forget(void *self)
{
	struct console *console = self;

	for (unsigned i = 0; i < CONSOLE_PORTS; i++) {
		struct port *port = &console->ports[i];
		struct lock *rx, *tx;

		if (port->console == NULL)
			continue;
		rx = &port_rx(port)->lock;
		tx = &(port_rx(port) + 1)->lock;
		lock_take(rx);
		port->stage_len = 0;
		lock_drop(rx);
		lock_take(tx);
		console->sent[i] = 0;
		lock_drop(tx);
		lock_take(&console->lock);
		console->flags[i] = 0;
		port->lost = false;
		lock_drop(&console->lock);
	}
	lock_take(&console->lock);
	console->multiport = false;
	lock_drop(&console->lock);
}

static void
console_negotiated(void *self, uint64_t features)
{
	struct console *console = self;

	lock_take(&console->lock);
	console->multiport = features & VIRTIO_CONSOLE_F_MULTIPORT;
	lock_drop(&console->lock);
}

static const struct virtio_model console_virtio = {
	.type = 3,
	.transitional_id = 0x1003,
	.class = 0x07,
	.subclass = 0x80,
	.config_size = sizeof(struct console_config),
	.notify = console_notify,
	.reset = console_forget,
	.negotiated = console_negotiated,
};

/* ---- the device --------------------------------------------------------- */

/* A word of a port's configuration, which it must have: fresh. */
static int
port_word(struct config *node, const char *key, char **value, struct err *err)
{
	int rc = config_str(node, key, NULL, value, err);

	if (rc == 0 && *value == NULL)
		rc = err_set(err, -EINVAL, "virtio-console: port %s has no %s",
		    config_name(node), key);
	return rc;
}

static int
port_set_name(struct port *port, struct config *node, struct err *err)
{
	int rc = port_word(node, "name", &port->name, err);

	if (rc < 0)
		return rc;
	if (strlen(port->name) > CONSOLE_NAME_MAX)
		return err_set(err, -EINVAL,
		    "virtio-console: the name of port %u is longer than %u "
		    "bytes",
		    port->id, CONSOLE_NAME_MAX);
	for (unsigned i = 0; i < CONSOLE_PORTS; i++) {
		const struct port *other = &port->console->ports[i];

		if (other != port && other->name != NULL &&
		    strcmp(other->name, port->name) == 0)
			return err_set(err, -EINVAL,
			    "virtio-console: two ports are called %s",
			    port->name);
	}
	return 0;
}

static int
port_listen(struct port *port, struct config *node, struct loop *loop,
    struct err *err)
{
	const struct chardev_user user = {
		.room = port_room,
		.receive = port_receive,
		.drained = port_drained,
		.connected = port_connected,
		.patient = true,
		.arg = port,
	};
	char *path, *text;
	int rc = port_word(node, "path", &path, err);

	if (rc < 0)
		return rc;
	text = xasprintf("socket,%s", path);
	rc = chardev_open(loop, text, &user, &port->peer, err);
	free(text);
	free(path);
	return rc;
}

static int
console_add_port(struct console *console, struct config *node,
    struct loop *loop, struct err *err)
{
	struct config *child = NULL;
	struct port *port;
	uint64_t id;
	int rc;

	if (config_value(node) != NULL ||
	    parse_uint(config_name(node), CONSOLE_PORTS - 1, &id) < 0 ||
	    console->ports[id].console != NULL)
		return err_set(err, -EINVAL,
		    "virtio-console: port.%s: ports are called 0 to %u",
		    config_name(node), CONSOLE_PORTS - 1);
	while ((child = config_child(node, child)) != NULL)
		if (strcmp(config_name(child), "name") != 0 &&
		    strcmp(config_name(child), "path") != 0)
			return err_set(err, -EINVAL,
			    "virtio-console: port.%s.%s: unknown key",
			    config_name(node), config_name(child));
	port = &console->ports[id];
	port->console = console;
	port->id = (unsigned)id;
	rc = port_set_name(port, node, err);
	return rc < 0 ? rc : port_listen(port, node, loop, err);
}

static int
console_create(struct device *dev, void *self, struct err *err)
{
	static const char *const keys[] = { "device", "pcireg", "port" };
	const struct console_config config = {
		.cols = le16_make(80),
		.rows = le16_make(25),
		.max_nr_ports = le32_make(CONSOLE_PORTS),
	};
	struct config *node = device_config(dev), *child = NULL, *ports;
	struct console *console = self;
	uint16_t sizes[CONSOLE_QUEUES];
	int rc = device_check_keys(dev, keys, ARRAY_SIZE(keys), err);

	lock_init(&console->lock);
	for (unsigned i = 0; i < CONSOLE_QUEUES; i++) {
		sizes[i] = CONSOLE_QUEUE_SIZE;
		virtq_chain_init(&console->chains[i], sizes[i]);
	}
	if (rc == 0)
		rc = virtio_init(&console->virtio, dev, &console_virtio,
		    CONSOLE_QUEUES, sizes, console->queues, console->msix,
		    VIRTIO_CONSOLE_F_SIZE | VIRTIO_CONSOLE_F_MULTIPORT, err);
	if (rc < 0)
		return rc;
	virtio_config_set(&console->virtio, 0, &config, sizeof(config));
	ports = config_find(node, "port");
	while (rc == 0 && ports != NULL &&
	    (child = config_child(ports, child)) != NULL)
		rc = console_add_port(console, child, device_loop(dev), err);
	return rc;
}

static void
console_reset(void *self)
{
	struct console *console = self;

	virtio_reset(&console->virtio);
}

/* The clients that a loaded state tells of are not those of now. */
static void
console_changed(void *self)
{
	struct console *console = self;

	for (unsigned i = 0; i < CONSOLE_PORTS; i++) {
		struct port *port = &console->ports[i];

		if (port->console == NULL)
			continue;
		lock_take(&port_rx(port)->lock);
		port->stage_len = 0;
		lock_drop(&port_rx(port)->lock);
		lock_take(&console->lock);
		port->lost = console->flags[i] & PORT_TOLD;
		lock_drop(&console->lock);
	}
	virtio_changed(&console->virtio);
}

static int
console_check(const void *self, struct err *err)
{
	const struct console *console = self;

	for (unsigned i = 0; i < CONSOLE_PORTS; i++)
		if (console->ports[i].console == NULL &&
		    (console->flags[i] != 0 || console->sent[i] != 0))
			return err_set(err, -EINVAL,
			    "port %u, which this machine does not have", i);
	return virtio_check(&console->virtio, console->queues, err);
}

static void
console_pause(void *self)
{
	struct console *console = self;

	virtio_pause(&console->virtio);
}

static void
console_resume(void *self)
{
	struct console *console = self;

	virtio_resume(&console->virtio);
}

static void
console_destroy(void *self)
{
	struct console *console = self;

	for (unsigned i = 0; i < CONSOLE_PORTS; i++) {
		chardev_close(console->ports[i].peer);
		free(console->ports[i].name);
	}
	virtio_fini(&console->virtio);
	for (unsigned i = 0; i < CONSOLE_QUEUES; i++)
		virtq_chain_fini(&console->chains[i]);
	lock_fini(&console->lock);
}

DEVICE_MODEL(virtio_console) = {
	.name = "virtio-console",
	.state_version = 1,
	.size = sizeof(struct console),
	STATE_TABLE(console_state),
	.unlocked = true, /* see virtio.h */
	.pci_help = "virtio channels to unix sockets of the host",
	.create = console_create,
	.pause = console_pause,
	.resume = console_resume,
	.reset = console_reset,
	.changed = console_changed,
	.check = console_check,
	.destroy = console_destroy,
};
