/*
 * Serial back ends: what a UART, a console or a debug port talks to.
 *
 *      stdio                   this process's terminal, raw, put back at exit
 *      /dev/...                a tty, raw
 *      pty[,LINK]              a new pseudo-terminal, LINK a symbolic link to it
 *      nmdm:NAME               end A of a null-modem cable, the peer is end B;
 *      /dev/nmdmNAMEA          either end by its name.  The ends are links in
 *      /dev/nmdmNAMEB          $XDG_RUNTIME_DIR/vmm, else /run/vmm, for machines
 *                              and terminal programs alike (chardev_nmdm.c)
 *      socket,PATH             a unix stream socket that we listen on
 *      tcp=ADDR:PORT           the same over TCP; [ADDR6]:PORT for IPv6
 *
 * Output is queued here up to CHARDEV_QUEUE bytes and never blocks.  Without a
 * client it is dropped.  A client that reads nothing for 5 s while the queue is
 * full loses what follows until it reads again, unless the user is patient.
 * Input is pulled: it is read from the peer only when its user has room, so
 * nothing is lost and nothing grows.
 *
 * stdio puts the terminal back however the process ends, by handlers for those
 * fatal signals that have their default action when it is opened; whoever
 * installs others must pass on what it does not handle (chardev_terminal.c).
 *
 * Threads      chardev_open() and chardev_close() on the loop's thread, or while
 *              no thread runs the loop, but not from the user's own functions.
 *              chardev_write(), chardev_writable() and chardev_wake() from any
 *              thread, the user's lock held or not.  The functions of the user
 *              run on the loop's thread with no lock of the back end held.
 */
#ifndef CHIPSET_CHARDEV_H
#define CHIPSET_CHARDEV_H

#include "base/err.h"
#include "event/event.h"

#define CHARDEV_QUEUE 65536u

struct chardev;

struct chardev_user {
	/* How many bytes can be taken now? */
	size_t (*room)(void *arg);
	/* Take bytes, at most the room that was told just before. */
	void (*receive)(void *arg, const uint8_t *data, size_t len);
	/* The queue has drained: chardev_writable() is true again.  Optional. */
	void (*drained)(void *arg);
	/*
	 * Optional.  A peer is there, or has gone and all it sent was received.
	 * Where a peer is there from the first, chardev_open() itself tells.
	 */
	void (*connected)(void *arg, bool is);
	/* Its output is never lost to a peer that does not read: it waits. */
	bool patient;
	void *arg;
};

/*
 * Open what text describes.  Errors name the text.  user may be NULL for an
 * output that is never read.
 */
int chardev_open(struct loop *loop, const char *text,
    const struct chardev_user *user, struct chardev **dev, struct err *err);
void chardev_close(struct chardev *dev); /* NULL is fine */

/* Queue bytes; the number taken, less than len only when the queue is full. */
size_t chardev_write(struct chardev *dev, const void *data, size_t len);
/* Is there room for another byte?  True without a client: it is dropped. */
bool chardev_writable(struct chardev *dev);
/* The user has room again after it had none. */
void chardev_wake(struct chardev *dev);

/* Where its peer finds it: "/dev/pts/3", "127.0.0.1:5555"; lives as long. */
const char *chardev_address(const struct chardev *dev);

#endif
