/*
 * Between the user's side of a serial back end (chardev.c) and its families
 * (chardev_stdio.c, _tty.c, _pty.c, _nmdm.c, _socket.c).
 *
 * A family finds peers: it attaches descriptors while there is one and
 * detaches them when it has gone.  chardev.c moves the bytes.
 *
 * All of it runs on the loop's thread, but for what the queue's lock guards.
 */
#ifndef CHIPSET_CHARDEV_IMPL_H
#define CHIPSET_CHARDEV_IMPL_H

#include <sys/types.h>

#include "base/lock.h"
#include "chipset/chardev.h"

/* ---- descriptors (chardev_io.c) ----------------------------------------- */

/* A descriptor that may be shared with other processes. */
struct io_fd {
	int fd; /* owned; -1 for none */
	bool socket;
	size_t chunk; /* bytes that a write cannot block on, once poll agrees */
};

void io_fd_init(struct io_fd *io, int fd);
void io_fd_fini(struct io_fd *io);
/*
 * Like read(2) and write(2), but they never block, whatever the descriptor's
 * flags, raise no SIGPIPE and return a negative errno.
 */
ssize_t io_fd_read(const struct io_fd *io, void *buf, size_t len);
ssize_t io_fd_write(const struct io_fd *io, const void *buf, size_t len);
/* Is it a socket whose peer has ended, with nothing left to read? */
bool io_fd_at_end(const struct io_fd *io);

/* ---- back ends ---------------------------------------------------------- */

struct chardev_family {
	/* Its input has come to an end, or failed. */
	void (*ended)(struct chardev *dev);
	/* Undo what open did, and free `own`.  Nothing is attached any more. */
	void (*destroy)(struct chardev *dev);
};

struct chardev {
	struct loop *loop; /* borrowed: outlives the back end */
	struct chardev_user user;
	bool has_user;
	const struct chardev_family *family;
	void *own;     /* the family's, owned by it */
	char *address; /* owned */

	/* The loop's thread. */
	struct io_fd in;
	struct io_fd out;
	struct event *in_event;  /* NULL, too, after a hang-up not yet read */
	struct event *out_event; /* waits for room while the queue has bytes */
	struct event *wake;
	struct event *stall;
	bool told; /* the user, that a peer is there */

	struct lock lock;
	/* Guarded by it. */
	uint8_t *queue; /* owned; a ring of CHARDEV_QUEUE bytes */
	size_t head;
	size_t len;
	bool open;    /* somebody takes output: `out` is there */
	bool full;    /* the user was told to wait; the stall timer runs */
	bool stalled; /* no progress for CHARDEV_STALL_NS: output is dropped */
};

#define CHARDEV_STALL_NS (5 * NS_PER_SEC)

/*
 * A peer is there.  `in` (-1: none) and `out` are two descriptors of their own
 * and are taken over, also on failure.
 */
int chardev_attach(struct chardev *dev, int in, int out, struct err *err);
/* The same with one descriptor for both directions. */
int chardev_attach_one(struct chardev *dev, int fd, struct err *err);
/* The peer has gone.  Nothing attached is fine. */
void chardev_detach(struct chardev *dev);
bool chardev_attached(const struct chardev *dev);
/* One direction only. */
void chardev_end_input(struct chardev *dev);
void chardev_end_output(struct chardev *dev);
/* Give the user what the peer has sent; false when nothing moved. */
bool chardev_pump(struct chardev *dev);

/*
 * The families.  text is what follows the prefix in chardev.c's table.  On
 * failure `destroy` is called if `family` was set.
 */
int chardev_stdio_open(struct chardev *dev, const char *text, struct err *err);
int chardev_tty_open(struct chardev *dev, const char *text, struct err *err);
int chardev_pty_open(struct chardev *dev, const char *text, struct err *err);
int chardev_nmdm_open(struct chardev *dev, const char *text, struct err *err);
int chardev_nmdm_dev_open(struct chardev *dev, const char *text,
    struct err *err);
int chardev_unix_open(struct chardev *dev, const char *text, struct err *err);
int chardev_tcp_open(struct chardev *dev, const char *text, struct err *err);

/* ---- terminals ---------------------------------------------------------- */

struct termios;

/* Open a terminal, raw, and keep other back ends off it. */
int tty_open_raw(int dirfd, const char *path, struct termios *saved, int *fd,
    struct err *err);

/* A pseudo-terminal of which we hold the master (chardev_pty.c). */
struct pty {
	struct chardev *dev; /* borrowed: owns this */
	int master;
	char slave[64];
	struct event *look; /* timer: has somebody opened the slave? */
};

int pty_init(struct pty *pty, struct chardev *dev, struct err *err);
void pty_fini(struct pty *pty);
/* The peer has closed the slave: wait for the next one. */
void pty_ended(struct pty *pty);

/* The user's terminal (chardev_terminal.c): raw until terminal_restore(). */
int terminal_raw(int fd, struct err *err);
void terminal_restore(void);

#endif
