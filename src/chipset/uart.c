/*
 * The 16550A UART.
 *
 * Models       National Semiconductor PC16550D (June 1995): FIFOs, divisor
 *              latch, loopback, line and modem status, prioritized interrupts.
 * Differs      A character takes no time: it goes to the back end at once.
 *              Only when that has no room does it stay in the THR or the
 *              transmitter FIFO, and THRE stays clear.  Baud rate and word
 *              length (8.5, LCR) count for the character timeout alone.
 *              Parity, framing and break do not occur, and LCR's bits for them
 *              do nothing.  Input is pulled, so nothing overruns but loopback,
 *              and a FIFO that is turned off just when input was on its way.
 *              DCD and DSR are always asserted outside of loopback, CTS and RI
 *              never: bhyve's wiring.  OUT2 does not gate the interrupt.
 *              DMA signalling (FCR bit 3) has no pins to show on.
 * Locking      the device lock.  The back end calls room(), receive() and
 *              drained() on the loop's thread without it; they take it.
 * Invariants   uart_check(); rx_timer is armed exactly while characters lie
 *              below the trigger level and have not timed out (watch_rx).
 */
#include <errno.h>
#include <string.h>

#include "chipset/chardev.h"
#include "chipset/uart.h"

/* Registers, data sheet section 8, table II. */
enum {
	UART_RBR = 0, /* read; THR when written; DLL with DLAB */
	UART_IER = 1, /* DLM with DLAB */
	UART_IIR = 2, /* read; FCR when written */
	UART_LCR = 3,
	UART_MCR = 4,
	UART_LSR = 5,
	UART_MSR = 6,
	UART_SCR = 7,
};

#define UART_IER_ERBFI 0x01
#define UART_IER_ETBEI 0x02
#define UART_IER_ELSI 0x04
#define UART_IER_EDSSI 0x08
#define UART_IER_MASK 0x0f

#define UART_IIR_NONE 0x01
#define UART_IIR_LINE 0x06
#define UART_IIR_RX 0x04
#define UART_IIR_RX_TIMEOUT 0x0c
#define UART_IIR_TX 0x02
#define UART_IIR_MODEM 0x00
#define UART_IIR_FIFOS 0xc0

#define UART_FCR_ENABLE 0x01
#define UART_FCR_RX_RESET 0x02
#define UART_FCR_TX_RESET 0x04
#define UART_FCR_TRIGGER 0xc0
#define UART_FCR_TRIGGER_SHIFT 6

#define UART_LCR_WLS 0x03
#define UART_LCR_STB 0x04
#define UART_LCR_PEN 0x08
#define UART_LCR_DLAB 0x80

#define UART_MCR_DTR 0x01
#define UART_MCR_RTS 0x02
#define UART_MCR_OUT1 0x04
#define UART_MCR_OUT2 0x08
#define UART_MCR_LOOP 0x10
#define UART_MCR_MASK 0x1f

#define UART_LSR_DR 0x01
#define UART_LSR_OE 0x02
#define UART_LSR_THRE 0x20
#define UART_LSR_TEMT 0x40

#define UART_MSR_TERI 0x04 /* the other deltas are the lines' bits >> 4 */
#define UART_MSR_CTS 0x10
#define UART_MSR_DSR 0x20
#define UART_MSR_RI 0x40
#define UART_MSR_DCD 0x80

#define UART_CLOCK_HZ 1843200u

/* ---- what follows from the state ---------------------------------------- */

static bool
fifos_on(const struct uart *uart)
{
	return uart->fcr & UART_FCR_ENABLE;
}

static bool
looped(const struct uart *uart)
{
	return uart->mcr & UART_MCR_LOOP;
}

/* Of either FIFO; without them there is one holding register each. */
static unsigned
depth(const struct uart *uart)
{
	return fifos_on(uart) ? UART_FIFO : 1;
}

static unsigned
trigger_level(const struct uart *uart)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return fifos_on(uart) ? levels[uart->fcr >> UART_FCR_TRIGGER_SHIFT] : 1;
}

/* Four times start bit, word, parity and stop bits: section 8.11. */
static uint64_t
char_timeout_ns(const struct uart *uart)
{
	unsigned divisor = uart->dlm << 8 | uart->dll;
	unsigned bits = 1 + 5 + (uart->lcr & UART_LCR_WLS) +
	    (uart->lcr & UART_LCR_PEN ? 1 : 0) +
	    (uart->lcr & UART_LCR_STB ? 2 : 1);

	/* A divisor of 0 is no baud rate: then it does not wait. */
	return clock_ticks_to_ns(4ULL * bits * 16 * divisor, UART_CLOCK_HZ);
}

/* The modem lines' bits of MSR. */
static uint8_t
modem_lines(const struct uart *uart)
{
	if (!looped(uart))
		return UART_MSR_DCD | UART_MSR_DSR;
	return (uart->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	    (uart->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
	    (uart->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
	    (uart->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

/* The highest interrupt pending, table IV. */
static uint8_t
reason(const struct uart *uart)
{
	if (uart->ier & UART_IER_ELSI && uart->lsr_errors != 0)
		return UART_IIR_LINE;
	if (uart->ier & UART_IER_ERBFI && uart->rx_len >= trigger_level(uart))
		return UART_IIR_RX;
	if (uart->ier & UART_IER_ERBFI && uart->rx_timed_out)
		return UART_IIR_RX_TIMEOUT;
	if (uart->ier & UART_IER_ETBEI && uart->tx_empty_irq)
		return UART_IIR_TX;
	if (uart->ier & UART_IER_EDSSI && uart->msr_deltas != 0)
		return UART_IIR_MODEM;
	return UART_IIR_NONE;
}

static void
update_irq(struct uart *uart)
{
	uart->irq(uart->irq_arg, reason(uart) != UART_IIR_NONE);
}

/* ---- receiver ----------------------------------------------------------- */

static bool
rx_below_trigger(const struct uart *uart)
{
	return uart->rx_len > 0 && uart->rx_len < trigger_level(uart);
}

/* A character came or went, or the level has moved: the timeout starts anew. */
static void
watch_rx(struct uart *uart)
{
	uart->rx_timed_out = false;
	if (rx_below_trigger(uart))
		clock_timer_arm(&uart->rx_timer,
		    clock_now(device_clock(uart->dev)) + char_timeout_ns(uart));
	else
		clock_timer_disarm(&uart->rx_timer);
}

static void
rx_timer_fired(void *arg)
{
	struct uart *uart = arg;

	uart->rx_timed_out = true;
	update_irq(uart);
}

static void
rx_put(struct uart *uart, uint8_t byte)
{
	if (uart->rx_len < depth(uart)) {
		uart->rx[(uart->rx_head + uart->rx_len) % UART_FIFO] = byte;
		uart->rx_len++;
		return;
	}
	/* A FIFO keeps what it has; the one register takes the new character. */
	uart->lsr_errors |= UART_LSR_OE;
	if (!fifos_on(uart))
		uart->rx[uart->rx_head] = byte;
}

/* The receiver may have room that it had not. */
static void
rx_wake(struct uart *uart)
{
	if (uart->chardev != NULL)
		chardev_wake(uart->chardev);
}

/* An empty receiver gives what was read last; the sheet leaves it open. */
static uint8_t
rx_get(struct uart *uart)
{
	uint8_t byte = uart->rx[uart->rx_head];

	if (uart->rx_len == 0)
		return uart->rx[(uart->rx_head + UART_FIFO - 1) % UART_FIFO];
	uart->rx_head = (uart->rx_head + 1) % UART_FIFO;
	uart->rx_len--;
	watch_rx(uart);
	/* Half empty: a wake-up for each character would be a waste. */
	if (uart->rx_len == depth(uart) / 2)
		rx_wake(uart);
	return byte;
}

/* ---- transmitter -------------------------------------------------------- */

/* Move what the transmitter holds to where it can go now. */
static void
transmit(struct uart *uart)
{
	size_t sent = uart->tx_len;

	if (uart->tx_len == 0 || uart->quiet)
		return;
	if (looped(uart)) {
		for (unsigned i = 0; i < uart->tx_len; i++)
			rx_put(uart, uart->tx[i]);
		watch_rx(uart);
	} else if (uart->chardev != NULL) {
		sent = chardev_write(uart->chardev, uart->tx, uart->tx_len);
	}
	uart->tx_len -= (uint8_t)sent;
	memmove(uart->tx, uart->tx + sent, uart->tx_len);
	if (uart->tx_len == 0)
		uart->tx_empty_irq = true;
}

static void
tx_put(struct uart *uart, uint8_t byte)
{
	if (!fifos_on(uart))
		uart->tx_len = 0; /* written before THRE: the old one is lost */
	if (uart->tx_len < UART_FIFO)
		uart->tx[uart->tx_len++] = byte;
	uart->tx_empty_irq = false;
	transmit(uart);
}

/* ---- the back end's side ------------------------------------------------ */

static size_t
uart_room(void *arg)
{
	struct uart *uart = arg;
	size_t room = 0;

	lock_take(device_lock(uart->dev));
	/* In loopback the receiver's input is disconnected. */
	if (!uart->quiet && !looped(uart))
		room = depth(uart) - uart->rx_len;
	lock_drop(device_lock(uart->dev));
	return room;
}

static void
uart_receive(void *arg, const uint8_t *data, size_t len)
{
	struct uart *uart = arg;

	lock_take(device_lock(uart->dev));
	for (size_t i = 0; i < len; i++)
		rx_put(uart, data[i]);
	watch_rx(uart);
	update_irq(uart);
	lock_drop(device_lock(uart->dev));
}

static void
uart_drained(void *arg)
{
	struct uart *uart = arg;

	lock_take(device_lock(uart->dev));
	transmit(uart);
	update_irq(uart);
	lock_drop(device_lock(uart->dev));
}

/* ---- the guest's side --------------------------------------------------- */

static uint8_t
read_iir(struct uart *uart)
{
	uint8_t why = reason(uart);

	/* Reading IIR answers this one, and only if it is the one told. */
	if (why == UART_IIR_TX)
		uart->tx_empty_irq = false;
	return why | (fifos_on(uart) ? UART_IIR_FIFOS : 0);
}

static uint8_t
read_lsr(struct uart *uart)
{
	uint8_t lsr = uart->lsr_errors;

	if (uart->rx_len > 0)
		lsr |= UART_LSR_DR;
	if (uart->tx_len == 0)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	uart->lsr_errors = 0;
	return lsr;
}

static uint8_t
read_msr(struct uart *uart)
{
	uint8_t msr = modem_lines(uart) | uart->msr_deltas;

	uart->msr_deltas = 0;
	return msr;
}

uint8_t
uart_read(struct uart *uart, unsigned off)
{
	bool dlab = uart->lcr & UART_LCR_DLAB;
	uint8_t value = 0;

	switch (off) {
	case UART_RBR:
		value = dlab ? uart->dll : rx_get(uart);
		break;
	case UART_IER:
		value = dlab ? uart->dlm : uart->ier;
		break;
	case UART_IIR:
		value = read_iir(uart);
		break;
	case UART_LCR:
		value = uart->lcr;
		break;
	case UART_MCR:
		value = uart->mcr;
		break;
	case UART_LSR:
		value = read_lsr(uart);
		break;
	case UART_MSR:
		value = read_msr(uart);
		break;
	case UART_SCR:
		value = uart->scr;
		break;
	}
	update_irq(uart);
	return value;
}

static void
write_ier(struct uart *uart, uint8_t value)
{
	/* Enabling it with an empty THR interrupts at once. */
	if (value & ~uart->ier & UART_IER_ETBEI && uart->tx_len == 0)
		uart->tx_empty_irq = true;
	uart->ier = value & UART_IER_MASK;
}

static void
clear_rx(struct uart *uart)
{
	uart->rx_head = uart->rx_len = 0;
	rx_wake(uart);
}

static void
clear_tx(struct uart *uart)
{
	if (uart->tx_len > 0)
		uart->tx_empty_irq = true;
	uart->tx_len = 0;
}

static void
write_fcr(struct uart *uart, uint8_t value)
{
	bool toggled = (value ^ uart->fcr) & UART_FCR_ENABLE;

	/* The other bits count only together with the first. */
	if (!(value & UART_FCR_ENABLE))
		value = 0;
	uart->fcr = value & (UART_FCR_ENABLE | UART_FCR_TRIGGER);
	if (toggled || value & UART_FCR_RX_RESET)
		clear_rx(uart);
	if (toggled || value & UART_FCR_TX_RESET)
		clear_tx(uart);
	watch_rx(uart);
}

static void
write_mcr(struct uart *uart, uint8_t value)
{
	uint8_t before = modem_lines(uart), after, changed;

	uart->mcr = value & UART_MCR_MASK;
	after = modem_lines(uart);
	changed = before ^ after;
	/* RI tells only of its trailing edge. */
	uart->msr_deltas |= (changed & ~UART_MSR_RI) >> 4;
	if (before & changed & UART_MSR_RI)
		uart->msr_deltas |= UART_MSR_TERI;
	transmit(uart);
	rx_wake(uart);
}

void
uart_write(struct uart *uart, unsigned off, uint8_t value)
{
	bool dlab = uart->lcr & UART_LCR_DLAB;

	switch (off) {
	case UART_RBR:
		if (dlab)
			uart->dll = value;
		else
			tx_put(uart, value);
		break;
	case UART_IER:
		if (dlab)
			uart->dlm = value;
		else
			write_ier(uart, value);
		break;
	case UART_IIR:
		write_fcr(uart, value);
		break;
	case UART_LCR:
		uart->lcr = value;
		break;
	case UART_MCR:
		write_mcr(uart, value);
		break;
	case UART_SCR:
		uart->scr = value;
		break;
	}
	/* LSR's and MSR's writes are for the factory. */
	update_irq(uart);
}

/* ---- life --------------------------------------------------------------- */

int
uart_init(struct uart *uart, struct device *dev, const char *path,
    void (*irq)(void *arg, bool asserted), void *irq_arg, struct err *err)
{
	const struct chardev_user user = {
		.room = uart_room,
		.receive = uart_receive,
		.drained = uart_drained,
		.arg = uart,
	};

	uart->dev = dev;
	uart->irq = irq;
	uart->irq_arg = irq_arg;
	clock_timer_init(&uart->rx_timer, device_clock(dev), device_lock(dev),
	    rx_timer_fired, uart);
	if (path == NULL)
		return 0;
	return chardev_open(device_loop(dev), path, &user, &uart->chardev, err);
}

void
uart_fini(struct uart *uart)
{
	chardev_close(uart->chardev);
}

void
uart_pause(struct uart *uart)
{
	uart->quiet = true;
}

void
uart_resume(struct uart *uart)
{
	uart->quiet = false;
	transmit(uart);
	update_irq(uart);
	rx_wake(uart);
}

/* After a reset or a load.  What waits to be sent goes when we resume. */
void
uart_changed(struct uart *uart)
{
	if (rx_below_trigger(uart) && !uart->rx_timed_out) {
		if (!clock_timer_armed(&uart->rx_timer))
			watch_rx(uart);
	} else {
		clock_timer_disarm(&uart->rx_timer);
	}
	update_irq(uart);
	rx_wake(uart);
}

int
uart_check(const struct uart *uart, struct err *err)
{
	if (uart->fcr & ~(UART_FCR_ENABLE | UART_FCR_TRIGGER) ||
	    (uart->fcr != 0 && !fifos_on(uart)))
		return err_set(err, -EINVAL, "FCR cannot be 0x%02x", uart->fcr);
	if (uart->lsr_errors & ~UART_LSR_OE)
		return err_set(err, -EINVAL, "LSR cannot have errors 0x%02x",
		    uart->lsr_errors);
	if (uart->rx_len > depth(uart) || uart->tx_len > depth(uart))
		return err_set(err, -EINVAL,
		    "%u characters received and %u to send where %u fit",
		    uart->rx_len, uart->tx_len, depth(uart));
	if (uart->rx_timed_out && !rx_below_trigger(uart))
		return err_set(err, -EINVAL,
		    "a character timeout without such characters");
	if (uart->tx_empty_irq && uart->tx_len > 0)
		return err_set(err, -EINVAL,
		    "the transmitter is empty and holds %u characters",
		    uart->tx_len);
	return 0;
}
