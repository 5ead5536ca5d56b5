/*
 * A 16550A UART, to be embedded in a device: at an ISA port or behind a BAR.
 *
 * Everything here is called with the device's lock held, but for uart_init()
 * and uart_fini(), which the device's create and destroy call.
 */
#ifndef CHIPSET_UART_H
#define CHIPSET_UART_H

#include "vm/device.h"

struct chardev;

#define UART_PORTS 8
#define UART_FIFO 16

struct uart {
	struct device *dev; /* borrowed: contains this; NULL before uart_init */
	struct chardev *chardev; /* owned; NULL: bytes vanish */
	void (*irq)(void *arg, bool asserted);
	void *irq_arg;
	bool quiet; /* paused: nothing comes in and nothing goes out */

	/* The state; uart_check() has its invariants. */
	uint8_t ier;
	uint8_t fcr; /* enable and trigger bits */
	uint8_t lcr;
	uint8_t mcr;
	uint8_t scr;
	uint8_t dll;
	uint8_t dlm;
	uint8_t lsr_errors; /* until LSR is read */
	uint8_t msr_deltas; /* until MSR is read */
	uint8_t rx[UART_FIFO];
	uint8_t rx_head;
	uint8_t rx_len;
	uint8_t tx[UART_FIFO]; /* from 0; what the back end has not taken yet */
	uint8_t tx_len;
	bool tx_empty_irq; /* THR became empty and nobody has asked why */
	bool rx_timed_out; /* characters below the trigger level lie about */
	struct clock_timer rx_timer;
};

/* What data sheet and platform say they hold after reset: 9600 baud. */
#define UART_RESET_DLL 12

/* The rows to put in the device's state table. */
/* clang-format off */
#define UART_STATE(type, m)                                     \
	STATE_INT_MAX(type, m.ier, 0, 0x0f),                    \
	    STATE_INT_MAX(type, m.fcr, 0, 0xc1),                \
	    STATE_INT(type, m.lcr, 0),                          \
	    STATE_INT_MAX(type, m.mcr, 0, 0x1f),                \
	    STATE_INT(type, m.scr, 0),                          \
	    STATE_INT(type, m.dll, UART_RESET_DLL),             \
	    STATE_INT(type, m.dlm, 0),                          \
	    STATE_INT_MAX(type, m.lsr_errors, 0, 0x02),         \
	    STATE_INT_MAX(type, m.msr_deltas, 0, 0x0f),         \
	    STATE_ARRAY(type, m.rx, 0),                         \
	    STATE_INT_MAX(type, m.rx_head, 0, UART_FIFO - 1),   \
	    STATE_INT_MAX(type, m.rx_len, 0, UART_FIFO),        \
	    STATE_ARRAY(type, m.tx, 0),                         \
	    STATE_INT_MAX(type, m.tx_len, 0, UART_FIFO),        \
	    STATE_BOOL(type, m.tx_empty_irq, 0),                \
	    STATE_BOOL(type, m.rx_timed_out, 0),                \
	    STATE_TIMER(type, m.rx_timer)
/* clang-format on */

/*
 * Open the back end of `path` (NULL: none).  irq() is told the level of the
 * interrupt line; it may be told the same level twice.
 */
int uart_init(struct uart *uart, struct device *dev, const char *path,
    void (*irq)(void *arg, bool asserted), void *irq_arg, struct err *err);
void uart_fini(struct uart *uart); /* before or after uart_init() */

/* The guest's accesses: off is below UART_PORTS. */
uint8_t uart_read(struct uart *uart, unsigned off);
void uart_write(struct uart *uart, unsigned off, uint8_t value);

/* For the device's model, under the same names. */
void uart_pause(struct uart *uart);
void uart_resume(struct uart *uart);
void uart_changed(struct uart *uart);
int uart_check(const struct uart *uart, struct err *err);

#endif
