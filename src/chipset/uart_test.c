/*
 * com1 to com4 as a guest sees them, and what a lying guest or peer gets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "chipset/chardev.h"
#include "chipset/uart.h"
#include "event/event.h"
#include "test/bench.h"

#define COM1 0x3f8
#define COM2 0x2f8
#define IRQ 4

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR, SCR };

/* At 115200 baud a character of 8 bits without parity takes this long. */
#define CHAR_NS (10 * NS_PER_SEC / 115200)

static const char *const options[] = {
	"bench.name=com1",
	"bench.node=lpc.com1",
	"lpc.com1.path=tcp=127.0.0.1:0",
	NULL,
};

static uint8_t
in(struct bench *b, unsigned reg)
{
	return bench_in8(b, (uint16_t)(COM1 + reg));
}

static void
out(struct bench *b, unsigned reg, uint8_t value)
{
	bench_out8(b, (uint16_t)(COM1 + reg), value);
}

static void
set_divisor(struct bench *b, uint16_t divisor)
{
	uint8_t lcr = in(b, LCR);

	out(b, LCR, lcr | 0x80);
	out(b, RBR, (uint8_t)divisor);
	out(b, IER, (uint8_t)(divisor >> 8));
	out(b, LCR, lcr);
}

/* 115200 8N1, FIFOs with this FCR, looped back. */
static void
loop_back(struct bench *b, uint8_t fcr)
{
	set_divisor(b, 1);
	out(b, LCR, 0x03);
	out(b, IIR, fcr);
	out(b, MCR, 0x10);
	(void)in(b, MSR);
}

/* The other end of com1. */
static int
connect_peer(struct bench *b)
{
	const struct uart *uart = device_self(b->dev); /* it comes first */
	const char *address = chardev_address(uart->chardev);
	struct sockaddr_in sin = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	sin.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(connect(fd, (void *)&sin, sizeof(sin)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	loop_run_once(b->loop, -1); /* accepts */
	return fd;
}

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

#define RUN_UNTIL(b, condition)                               \
	do {                                                  \
		uint64_t until_ = now_ns() + 20 * NS_PER_SEC; \
                                                              \
		while (!(condition)) {                        \
			assert_true(now_ns() < until_);       \
			loop_run_once((b)->loop, 10);         \
		}                                             \
	} while (0)

static void
run_idle(struct bench *b)
{
	for (unsigned i = 0; i < 20; i++)
		loop_run_once(b->loop, 0);
}

/* ---- registers ---------------------------------------------------------- */

static void
reset_values(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(in(b, RBR), 0);
		assert_int_equal(in(b, IER), 0);
		assert_int_equal(in(b, IIR), 0x01);
		assert_int_equal(in(b, LCR), 0);
		assert_int_equal(in(b, MCR), 0);
		assert_int_equal(in(b, LSR), 0x60);
		assert_int_equal(in(b, MSR), 0xa0);
		assert_int_equal(in(b, SCR), 0);
		out(b, LCR, 0x80);
		assert_int_equal(in(b, RBR), 12); /* 9600 baud */
		assert_int_equal(in(b, IER), 0);
		assert_false(bench_line(b, IRQ));
		/* And again after a guest has left its mark everywhere. */
		set_divisor(b, 0x1234);
		loop_back(b, 0xc1);
		for (unsigned reg = 0; reg < 8; reg++)
			out(b, reg, 0x5f);
		assert_true(bench_line(b, IRQ));
		assert_int_equal(vm_reset(b->vm, NULL), 0);
	}
}

static void
reserved_bits_read_zero(void **state)
{
	struct bench *b = *state;

	out(b, IER, 0xff);
	assert_int_equal(in(b, IER), 0x0f);
	out(b, IER, 0);
	out(b, MCR, 0xff);
	assert_int_equal(in(b, MCR), 0x1f);
	out(b, MCR, 0);
	for (unsigned v = 0; v < 256; v++) {
		out(b, SCR, (uint8_t)v);
		assert_int_equal(in(b, SCR), v);
		out(b, LCR, (uint8_t)v);
		assert_int_equal(in(b, LCR), v);
	}
	out(b, LCR, 0);
	/* LSR and MSR cannot be written. */
	(void)in(b, MSR);
	out(b, LSR, 0x1f);
	out(b, MSR, 0xff);
	assert_int_equal(in(b, LSR), 0x60);
	assert_int_equal(in(b, MSR), 0xa0);
}

static void
the_divisor_latch_hides_data_and_interrupts(void **state)
{
	struct bench *b = *state;

	out(b, IER, 0x0c);
	out(b, LCR, 0x83);
	out(b, RBR, 0xcd);
	out(b, IER, 0xab);
	assert_int_equal(in(b, RBR), 0xcd);
	assert_int_equal(in(b, IER), 0xab);
	out(b, LCR, 0x03);
	assert_int_equal(in(b, IER), 0x0c);
	assert_int_equal(in(b, RBR), 0);
	out(b, LCR, 0x80);
	assert_int_equal(in(b, RBR), 0xcd);
}

static void
fcr_counts_only_when_enabled(void **state)
{
	struct bench *b = *state;

	out(b, IIR, 0xc6);
	assert_int_equal(in(b, IIR), 0x01);
	out(b, IIR, 0x01);
	assert_int_equal(in(b, IIR), 0xc1);
	out(b, IIR, 0x00);
	assert_int_equal(in(b, IIR), 0x01);
}

/* Guests do use them: the low byte counts, at the register addressed. */
static void
wide_accesses_are_narrow_ones(void **state)
{
	struct bench *b = *state;

	bench_out32(b, COM1 + SCR, 0x11223344);
	assert_int_equal(bench_in32(b, COM1 + SCR) & 0xff, 0x44);
	bench_out16(b, COM1 + SCR, 0x5566);
	assert_int_equal(bench_in16(b, COM1 + SCR) & 0xff, 0x66);
	/* The neighbours are not touched: IER under THR, MCR under LCR. */
	bench_out32(b, COM1 + RBR, 0x0f0f0f41);
	assert_int_equal(in(b, IER), 0);
	bench_out32(b, COM1 + LCR, 0x1f1f1f03);
	assert_int_equal(in(b, LCR), 0x03);
	assert_int_equal(in(b, MCR), 0);
	assert_int_equal(bench_in32(b, COM1 + LSR) & 0xff, 0x60);
}

/* ---- interrupts --------------------------------------------------------- */

static void
thre_interrupts(void **state)
{
	struct bench *b = *state;

	(void)bench_irqs(b, IRQ);
	/* Enabling it with an empty THR interrupts; asking why answers it. */
	out(b, IER, 0x02);
	assert_int_equal(bench_irqs(b, IRQ), 1);
	assert_int_equal(in(b, IIR), 0x02);
	assert_false(bench_line(b, IRQ));
	assert_int_equal(in(b, IIR), 0x01);
	/* Enabling again what is enabled does not. */
	out(b, IER, 0x02);
	assert_false(bench_line(b, IRQ));
	/* Each byte that leaves does, and so does each enabling. */
	out(b, RBR, 'x');
	assert_int_equal(bench_irqs(b, IRQ), 1);
	assert_int_equal(in(b, IIR), 0x02);
	assert_false(bench_line(b, IRQ));
	out(b, IER, 0x00);
	out(b, IER, 0x02);
	assert_int_equal(bench_irqs(b, IRQ), 1);
	out(b, IER, 0x00);
	assert_false(bench_line(b, IRQ));
}

static void
modem_status_interrupts(void **state)
{
	struct bench *b = *state;
	/*
	 * MCR written and MSR read then: RTS is CTS, DTR DSR, OUT1 RI, OUT2
	 * DCD.  At first DCD and DSR fall.  RI has no delta but when it falls.
	 */
	static const struct {
		uint8_t mcr, msr;
	} steps[] = { { 0x10, 0x0a }, { 0x11, 0x22 }, { 0x13, 0x31 },
		{ 0x17, 0x70 }, { 0x13, 0x34 }, { 0x1b, 0xb8 }, { 0x1b, 0xb0 },
		{ 0x14, 0x4b }, { 0x00, 0xae } };

	out(b, IER, 0x08);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		out(b, MCR, steps[i].mcr);
		assert_int_equal(bench_line(b, IRQ), (steps[i].msr & 0xf) != 0);
		assert_int_equal(in(b, IIR),
		    (steps[i].msr & 0xf) != 0 ? 0x00 : 0x01);
		assert_int_equal(in(b, MSR), steps[i].msr);
		assert_false(bench_line(b, IRQ));
		assert_int_equal(in(b, MSR), steps[i].msr & 0xf0);
	}
}

static void
received_data_interrupts(void **state)
{
	struct bench *b = *state;

	loop_back(b, 0);
	out(b, IER, 0x01);
	out(b, RBR, 0xa5);
	assert_true(bench_line(b, IRQ));
	assert_int_equal(in(b, IIR), 0x04);
	assert_int_equal(in(b, LSR), 0x61);
	assert_int_equal(in(b, RBR), 0xa5);
	assert_false(bench_line(b, IRQ));
	assert_int_equal(in(b, LSR), 0x60);
}

static void
line_status_interrupts(void **state)
{
	struct bench *b = *state;

	loop_back(b, 0);
	out(b, IER, 0x04);
	out(b, RBR, 'a');
	assert_false(bench_line(b, IRQ));
	out(b, RBR, 'b');
	assert_true(bench_line(b, IRQ));
	assert_int_equal(in(b, IIR), 0x06);
	/* Reading LSR answers; the later character destroyed the earlier. */
	assert_int_equal(in(b, LSR), 0x63);
	assert_false(bench_line(b, IRQ));
	assert_int_equal(in(b, LSR), 0x61);
	assert_int_equal(in(b, RBR), 'b');
}

static void
interrupts_have_priorities(void **state)
{
	struct bench *b = *state;

	loop_back(b, 0);
	out(b, IER, 0x0f);
	out(b, MCR, 0x11);
	out(b, RBR, 'a');
	out(b, RBR, 'b');
	assert_int_equal(in(b, IIR), 0x06);
	assert_int_equal(in(b, IIR), 0x06);
	(void)in(b, LSR);
	assert_int_equal(in(b, IIR), 0x04);
	assert_int_equal(in(b, IIR), 0x04);
	(void)in(b, RBR);
	assert_int_equal(in(b, IIR), 0x02);
	assert_int_equal(in(b, IIR), 0x00);
	assert_true(bench_line(b, IRQ));
	(void)in(b, MSR);
	assert_int_equal(in(b, IIR), 0x01);
	assert_false(bench_line(b, IRQ));
}

/* ---- FIFOs -------------------------------------------------------------- */

static void
the_fifo_holds_sixteen(void **state)
{
	struct bench *b = *state;

	loop_back(b, 0x01);
	for (unsigned i = 0; i < 16; i++)
		out(b, RBR, (uint8_t)(i + 1));
	assert_int_equal(in(b, LSR), 0x61);
	/* What comes then is lost, not what is there. */
	out(b, RBR, 99);
	assert_int_equal(in(b, LSR), 0x63);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(in(b, LSR), 0x61);
		assert_int_equal(in(b, RBR), i + 1);
	}
	assert_int_equal(in(b, LSR), 0x60);
}

static void
triggers_have_their_levels(void **state)
{
	struct bench *b = *state;
	static const unsigned levels[] = { 1, 4, 8, 14 };

	for (unsigned t = 0; t < 4; t++) {
		loop_back(b, (uint8_t)(0x03 | t << 6));
		out(b, IER, 0x01);
		for (unsigned i = 1; i <= 16; i++) {
			out(b, RBR, (uint8_t)i);
			assert_int_equal(bench_line(b, IRQ), i >= levels[t]);
			assert_int_equal(in(b, IIR),
			    i >= levels[t] ? 0xc4 : 0xc1);
		}
		for (unsigned i = 15; i > 0; i--) {
			(void)in(b, RBR);
			assert_int_equal(bench_line(b, IRQ), i >= levels[t]);
		}
		(void)in(b, RBR);
		assert_false(bench_line(b, IRQ));
	}
}

static void
characters_below_the_trigger_time_out(void **state)
{
	struct bench *b = *state;

	loop_back(b, 0x81);
	out(b, IER, 0x01);
	out(b, RBR, 'a');
	bench_advance(b, 3 * CHAR_NS);
	assert_false(bench_line(b, IRQ));
	/* Each new character starts the time anew. */
	out(b, RBR, 'b');
	bench_advance(b, 3 * CHAR_NS);
	assert_false(bench_line(b, IRQ));
	bench_advance(b, CHAR_NS + 10);
	assert_true(bench_line(b, IRQ));
	assert_int_equal(in(b, IIR), 0xcc);
	/* So does each one read. */
	assert_int_equal(in(b, RBR), 'a');
	assert_false(bench_line(b, IRQ));
	bench_advance(b, 4 * CHAR_NS + 10);
	assert_int_equal(in(b, IIR), 0xcc);
	assert_int_equal(in(b, RBR), 'b');
	assert_false(bench_line(b, IRQ));
	bench_advance(b, NS_PER_SEC);
	assert_false(bench_line(b, IRQ));

	/* The baud rate and the shape of a character count. */
	set_divisor(b, 384); /* 300 baud */
	out(b, LCR, 0x0f);   /* 8 bits, parity, two stop bits: 12 */
	out(b, RBR, 'c');
	bench_advance(b, 4 * 12 * NS_PER_SEC / 300 - 1000);
	assert_false(bench_line(b, IRQ));
	bench_advance(b, 2000);
	assert_true(bench_line(b, IRQ));

	/* No divisor at all is no division by zero. */
	out(b, IIR, 0x83);
	set_divisor(b, 0);
	out(b, RBR, 'd');
	bench_advance(b, NS_PER_SEC);
	assert_int_equal(in(b, IIR), 0xcc);
}

static void
fifos_can_be_cleared(void **state)
{
	struct bench *b = *state;

	loop_back(b, 0x41);
	out(b, IER, 0x01);
	for (unsigned i = 0; i < 5; i++)
		out(b, RBR, 'x');
	assert_true(bench_line(b, IRQ));
	out(b, IIR, 0x45); /* the transmitter's */
	assert_int_equal(in(b, LSR), 0x61);
	out(b, IIR, 0x43); /* the receiver's */
	assert_int_equal(in(b, LSR), 0x60);
	assert_false(bench_line(b, IRQ));
	out(b, RBR, 'x');
	out(b, IIR, 0x00); /* turning them off clears, too */
	assert_int_equal(in(b, LSR), 0x60);
	bench_advance(b, NS_PER_SEC);
	assert_false(bench_line(b, IRQ));
}

/* ---- with a peer -------------------------------------------------------- */

static void
peers_talk(void **state)
{
	struct bench *b = *state;
	int fd = connect_peer(b);
	char buf[16];

	out(b, IER, 0x01);
	assert_int_equal(write(fd, "k", 1), 1);
	RUN_UNTIL(b, bench_line(b, IRQ));
	assert_int_equal(in(b, IIR), 0x04);
	assert_int_equal(in(b, RBR), 'k');
	out(b, RBR, 'o');
	out(b, RBR, 'k');
	RUN_UNTIL(b, recv(fd, buf, 2, MSG_PEEK) == 2);
	assert_int_equal(read(fd, buf, sizeof(buf)), 2);
	assert_memory_equal(buf, "ok", 2);

	/* In loopback the line is cut both ways. */
	out(b, MCR, 0x10);
	assert_int_equal(write(fd, "later", 5), 5);
	run_idle(b);
	assert_int_equal(in(b, LSR), 0x60);
	out(b, RBR, '!');
	run_idle(b);
	assert_int_equal(in(b, RBR), '!');
	run_idle(b);
	assert_int_equal(in(b, LSR), 0x60);
	assert_int_equal(read(fd, buf, sizeof(buf)), -1);
	out(b, MCR, 0x00);
	RUN_UNTIL(b, in(b, LSR) & 1);
	assert_int_equal(in(b, RBR), 'l');
	close(fd);
}

/* A peer that floods: nothing is lost, however slowly the guest reads. */
static void
a_flood_comes_in_whole(void **state)
{
	struct bench *b = *state;
	int fd = connect_peer(b);
	unsigned sent = 0, got = 0;

	out(b, IIR, 0xc1);
	while (got < 30000) {
		uint8_t block[997];

		for (unsigned i = 0; i < sizeof(block); i++)
			block[i] = (uint8_t)((sent + i) % 253);
		if (sent < 30000) {
			ssize_t n =
			    write(fd, block, MIN(sizeof(block), 30000u - sent));

			sent += n > 0 ? (unsigned)n : 0;
		}
		run_idle(b);
		/* Full, and not overrun. */
		assert_int_equal(in(b, LSR), 0x61);
		do {
			assert_int_equal(in(b, RBR), got % 253);
			got++;
			if (got % 3 == 0)
				loop_run_once(b->loop, 0);
		} while (in(b, LSR) & 1);
		if (got < sent)
			RUN_UNTIL(b, in(b, LSR) & 1);
	}
	assert_int_equal(got, 30000);
	close(fd);
}

/* A peer that does not read: THRE stays clear, and then all of it goes. */
static void
a_slow_peer_holds_the_transmitter(void **state)
{
	struct bench *b = *state;
	int fd = connect_peer(b);
	unsigned sent = 0, got = 0;

	out(b, IIR, 0x01);
	out(b, IER, 0x02);
	assert_int_equal(in(b, IIR), 0xc2);
	while (in(b, LSR) & 0x20) {
		for (unsigned i = 0; i < 16; i++)
			out(b, RBR, (uint8_t)(sent++ % 253));
		if (sent % 4096 == 0)
			run_idle(b);
		assert_true(sent < 64 * MIB);
	}
	assert_int_equal(in(b, LSR), 0x00);
	(void)in(b, IIR);
	assert_int_equal(in(b, IIR), 0xc1);
	/* The FIFO is full now; what is written all the same is lost. */
	while (sent % 16 != 0)
		sent++;
	for (unsigned i = 0; i < 20; i++)
		out(b, RBR, 0xff);
	assert_int_equal(in(b, LSR), 0x00);
	assert_false(bench_line(b, IRQ));
	bench_round_trip(b);

	/* It reads again: an interrupt tells that THR is empty. */
	while (got < sent) {
		uint8_t block[4096];
		ssize_t n;

		RUN_UNTIL(b, recv(fd, block, 1, MSG_PEEK) == 1);
		n = read(fd, block, sizeof(block));
		for (ssize_t i = 0; i < n && got < sent; i++, got++)
			assert_int_equal(block[i], got % 253);
	}
	RUN_UNTIL(b, bench_line(b, IRQ));
	assert_int_equal(in(b, IIR), 0xc2);
	assert_int_equal(in(b, LSR), 0x60);
	close(fd);
}

/* Have the transmitter stand still because the peer does not read. */
static unsigned
stop_transmitter(struct bench *b)
{
	unsigned sent = 0;

	while (in(b, LSR) & 0x20) {
		out(b, RBR, 'x');
		if (++sent % 4096 == 0)
			run_idle(b);
		assert_true(sent < 64 * MIB);
	}
	return sent;
}

static void
read_all(struct bench *b, int fd, unsigned len)
{
	while (len > 0) {
		char block[4096];
		ssize_t n;

		RUN_UNTIL(b, recv(fd, block, 1, MSG_PEEK) == 1);
		n = read(fd, block, MIN(sizeof(block), len));
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(block[i], 'x');
		len -= (unsigned)n;
	}
}

/* Clearing the FIFO of a transmitter that waits empties it. */
static void
a_waiting_transmitter_can_be_cleared(void **state)
{
	struct bench *b = *state;
	int fd = connect_peer(b);
	unsigned sent;

	out(b, IIR, 0x01);
	sent = stop_transmitter(b);
	out(b, IER, 0x02);
	assert_int_equal(in(b, IIR), 0xc1);
	out(b, IIR, 0x05);
	assert_int_equal(in(b, LSR), 0x60);
	assert_int_equal(in(b, IIR), 0xc2);
	/* The one in the FIFO is gone, the others are not. */
	read_all(b, fd, sent - 1);
	run_idle(b);
	out(b, RBR, 'x');
	read_all(b, fd, 1);
	close(fd);
}

/* Without FIFOs a byte written too early takes the place of the last. */
static void
one_register_holds_one_byte(void **state)
{
	struct bench *b = *state;
	int fd = connect_peer(b);
	unsigned sent = stop_transmitter(b);

	out(b, RBR, '?');
	out(b, RBR, 'x');
	read_all(b, fd, sent);
	RUN_UNTIL(b, in(b, LSR) == 0x60);
	out(b, RBR, 'x');
	read_all(b, fd, 1);
	close(fd);
}

/* A peer that never reads costs the guest seconds, not its console. */
static void
a_stuck_peer_lets_the_guest_go_on(void **state)
{
	struct bench *b = *state;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/uart_test.XXXXXX";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct config *node;
	unsigned sent = 0;
	struct err err;

	/* Unlike TCP, a unix socket does not find more room by itself. */
	assert_non_null(mkdtemp(dir));
	assert_int_equal(config_set_fmt(b->config, &err, "lpc.com2.path",
			     "socket,%s/com2", dir),
	    0);
	node = config_find(b->config, "lpc.com2");
	assert_int_equal(device_new(b->vm, "com", "com2", node, NULL, &err), 0);
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/com2", dir);
	assert_int_equal(connect(fd, (void *)&sun, sizeof(sun)), 0);
	loop_run_once(b->loop, -1);
	while (bench_in8(b, COM2 + LSR) & 0x20) {
		bench_out8(b, COM2, 'x');
		if (++sent % 4096 == 0)
			run_idle(b);
		assert_true(sent < 64 * MIB);
	}
	RUN_UNTIL(b, bench_in8(b, COM2 + LSR) & 0x20);
	for (unsigned i = 0; i < 1000000; i++)
		bench_out8(b, COM2, 'x');
	assert_int_equal(bench_in8(b, COM2 + LSR), 0x60);
	unlink(sun.sun_path);
	assert_int_equal(rmdir(dir), 0);
	close(fd);
}

static void
a_closed_peer_costs_nothing(void **state)
{
	struct bench *b = *state;
	int fd = connect_peer(b);

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 100000; i++)
			out(b, RBR, 'x');
		close(fd);
		run_idle(b);
		for (unsigned i = 0; i < 100000; i++)
			out(b, RBR, 'x');
		run_idle(b);
		assert_int_equal(in(b, LSR), 0x60);
		fd = connect_peer(b);
	}
	close(fd);
}

/* Between pause and resume the state stands still, whatever the peer does. */
static void
a_paused_uart_is_quiet(void **state)
{
	struct bench *b = *state;
	struct buf before = { 0 }, after = { 0 };
	const struct device_model *model = device_model(b->dev);
	void *self = device_self(b->dev);
	int fd = connect_peer(b);

	lock_take(device_lock(b->dev));
	model->pause(self);
	lock_drop(device_lock(b->dev));
	bench_save(b, &before);
	assert_int_equal(write(fd, "q", 1), 1);
	run_idle(b);
	bench_save(b, &after);
	assert_int_equal(before.len, after.len);
	assert_memory_equal(before.data, after.data, after.len);
	lock_take(device_lock(b->dev));
	model->resume(self);
	lock_drop(device_lock(b->dev));
	RUN_UNTIL(b, in(b, LSR) & 1);
	assert_int_equal(in(b, RBR), 'q');
	buf_fini(&before);
	buf_fini(&after);
	close(fd);
}

/* What waits to be sent waits on, and goes when the machine does. */
static void
a_pause_holds_the_transmitter(void **state)
{
	struct bench *b = *state;
	const struct device_model *model = device_model(b->dev);
	void *self = device_self(b->dev);
	int fd = connect_peer(b);
	unsigned sent = stop_transmitter(b);

	lock_take(device_lock(b->dev));
	model->pause(self);
	lock_drop(device_lock(b->dev));
	read_all(b, fd, sent - 1);
	run_idle(b);
	assert_int_equal(in(b, LSR), 0x00);
	lock_take(device_lock(b->dev));
	model->resume(self);
	lock_drop(device_lock(b->dev));
	assert_int_equal(in(b, LSR), 0x60);
	read_all(b, fd, 1);
	close(fd);
}

/* Characters of a peer time out below the trigger level, too. */
static void
input_of_a_peer_times_out(void **state)
{
	struct bench *b = *state;
	int fd = connect_peer(b);

	set_divisor(b, 1);
	out(b, LCR, 0x03);
	out(b, IIR, 0x81);
	out(b, IER, 0x01);
	assert_int_equal(write(fd, "ab", 2), 2);
	RUN_UNTIL(b, in(b, LSR) & 1);
	run_idle(b);
	assert_int_equal(in(b, IIR), 0xc1);
	bench_advance(b, 4 * CHAR_NS + 10);
	assert_int_equal(in(b, IIR), 0xcc);
	/* More than the FIFO holds, thrown away, makes room for more. */
	assert_int_equal(write(fd, "0123456789abcdefXY", 18), 18);
	run_idle(b);
	out(b, IIR, 0x83);
	RUN_UNTIL(b, in(b, LSR) & 1);
	assert_int_equal(in(b, RBR), 'e');
	assert_int_equal(in(b, RBR), 'f');
	assert_int_equal(in(b, RBR), 'X');
	close(fd);
}

/* ---- four of them ------------------------------------------------------- */

static void
four_ports_share_two_lines(void **state)
{
	struct bench *b = *state;
	static const struct {
		const char *name;
		uint16_t port;
		unsigned irq;
	} others[] = {
		{ "com2", 0x2f8, 3 },
		{ "com3", 0x3e8, 4 },
		{ "com4", 0x2e8, 3 },
	};
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		assert_int_equal(bench_in8(b, others[i].port + SCR), 0xff);
		bench_add(b, "com", others[i].name);
		bench_out8(b, others[i].port + SCR, (uint8_t)i);
		bench_out8(b, others[i].port + IER, 0x02);
		assert_true(bench_line(b, others[i].irq));
	}
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_int_equal(bench_in8(b, others[i].port + SCR), i);
	/* A line is up as long as one of its two wants it so. */
	(void)bench_in8(b, 0x2f8 + IIR);
	assert_true(bench_line(b, 3));
	(void)bench_in8(b, 0x2e8 + IIR);
	assert_false(bench_line(b, 3));
	assert_true(bench_line(b, 4));
	/* Without a path bytes vanish. */
	for (unsigned i = 0; i < 200000; i++)
		bench_out8(b, 0x2f8, 'x');
	assert_int_equal(bench_in8(b, 0x2f8 + LSR), 0x60);

	assert_int_equal(device_new(b->vm, "com", "com5", NULL, NULL, &err),
	    -EINVAL);
	assert_non_null(strstr(err.msg, "com5"));
}

static void
wrong_keys_are_named(void **state)
{
	struct bench *b = *state;
	struct config *node;
	struct err err;

	assert_int_equal(config_set(b->config, "lpc.com2.speed", "9", &err), 0);
	node = config_find(b->config, "lpc.com2");
	assert_int_equal(device_new(b->vm, "com", "com2", node, NULL, &err),
	    -EINVAL);
	assert_non_null(strstr(err.msg, "lpc.com2.speed"));
	assert_int_equal(config_set(b->config, "lpc.com3.path", "tcp=x", &err),
	    0);
	node = config_find(b->config, "lpc.com3");
	assert_int_equal(device_new(b->vm, "com", "com3", node, NULL, &err),
	    -EINVAL);
	assert_memory_equal(err.msg, "com3: tcp=x: ", 13);
}

/* ---- saved state -------------------------------------------------------- */

static void
a_round_trip_loses_nothing(void **state)
{
	struct bench *b = *state;
	unsigned seed = 16550;
	int fd = connect_peer(b);

	for (unsigned round = 0; round < 100; round++) {
		for (unsigned i = rand_r(&seed) % 40; i > 0; i--) {
			unsigned reg = rand_r(&seed) % 8;

			if (rand_r(&seed) % 3 == 0)
				(void)in(b, reg);
			else
				out(b, reg, (uint8_t)rand_r(&seed));
			if (rand_r(&seed) % 8 == 0) {
				(void)!write(fd, "activity", 8);
				loop_run_once(b->loop, 0);
			}
			if (rand_r(&seed) % 16 == 0)
				bench_advance(b, rand_r(&seed) % 100000);
		}
		bench_round_trip(b);
	}
	close(fd);
}

/* The fields in the order of UART_STATE. */
struct fields {
	uint8_t ier, fcr, lcr, mcr, scr, dll, dlm, lsr_errors, msr_deltas;
	uint8_t rx[16], rx_head, rx_len;
	uint8_t tx[16], tx_len;
	uint8_t tx_empty_irq, rx_timed_out;
	uint8_t timer_armed, timer_deadline[8];
};
_Static_assert(sizeof(struct fields) == 55, "as saved");

static void
forged_state_is_refused(void **state)
{
	struct bench *b = *state;
	const struct fields good = {
		.fcr = 0x41,
		.dll = 1,
		.rx = "abc",
		.rx_len = 3,
		.tx_len = 2,
		.timer_armed = 1,
	};
	struct fields bad[16];
	size_t n = 0;

	assert_int_equal(bench_load(b, &good, sizeof(good)), 0);
	assert_int_equal(in(b, LSR), 0x01);
	for (n = 0; n < ARRAY_SIZE(bad); n++)
		bad[n] = good;
	n = 0;
	bad[n++].ier = 0x10;
	bad[n++].fcr = 0x40;
	bad[n++].fcr = 0x21;
	bad[n++].fcr = 0x00; /* three characters in one register */
	bad[n++].mcr = 0x20;
	bad[n++].lsr_errors = 0x01;
	bad[n++].lsr_errors = 0x80;
	bad[n++].msr_deltas = 0x10;
	bad[n++].rx_head = 16;
	bad[n++].rx_len = 17;
	bad[n++].tx_len = 17;
	bad[n++].tx_empty_irq = 1;
	bad[n++].tx_empty_irq = 2;
	bad[n].rx_len = 0;
	bad[n++].rx_timed_out = 1;
	bad[n].rx_len = 4;
	bad[n++].rx_timed_out = 1;
	bad[n++].timer_armed = 2;
	assert_int_equal(n, ARRAY_SIZE(bad));
	for (size_t i = 0; i < n; i++) {
		struct buf before = { 0 }, after = { 0 };

		bench_save(b, &before);
		assert_int_equal(bench_load(b, &bad[i], sizeof(bad[i])),
		    -EINVAL);
		bench_save(b, &after);
		assert_memory_equal(before.data, after.data, after.len);
		buf_fini(&before);
		buf_fini(&after);
	}
	assert_int_equal(bench_load(b, &good, sizeof(good) - 1), -EINVAL);

	/* A timer that no guest could have armed does not last. */
	bad[0] = good;
	bad[0].rx_len = 0;
	bad[0].timer_deadline[1] = 1;
	assert_int_equal(bench_load(b, &bad[0], sizeof(bad[0])), 0);
	out(b, IER, 0x01);
	bench_advance(b, NS_PER_SEC);
	assert_false(bench_line(b, IRQ));
}

/* A loaded FIFO goes out in order, also when it does not go at once. */
static void
a_loaded_fifo_is_sent(void **state)
{
	struct bench *b = *state;
	struct fields fields = {
		.fcr = 0x01,
		.dll = 1,
		.tx = "0123456789ABCDE",
		.tx_len = 16,
	};
	int fd = connect_peer(b);
	char tail[17] = "";

	run_idle(b);
	/* Into the queue, which only the loop empties. */
	for (unsigned i = 0; i < CHARDEV_QUEUE - 5; i++)
		out(b, RBR, 'x');
	fields.tx[15] = 'F';
	assert_int_equal(bench_load(b, &fields, sizeof(fields)), 0);
	assert_int_equal(in(b, LSR), 0x00);
	lock_take(device_lock(b->dev));
	device_model(b->dev)->resume(device_self(b->dev));
	lock_drop(device_lock(b->dev));
	assert_int_equal(in(b, LSR), 0x00);
	read_all(b, fd, CHARDEV_QUEUE - 5);
	RUN_UNTIL(b, recv(fd, tail, 16, MSG_PEEK) == 16);
	assert_string_equal(tail, "0123456789ABCDEF");
	assert_int_equal(in(b, LSR), 0x60);
	close(fd);
}

static void
hammering(void **state)
{
	static const struct bench_range ranges[] = {
		{ BUS_PORT, COM1 - 2, 12 },
	};
	struct bench *b = *state;
	int fd = connect_peer(b);

	for (uint32_t seed = 1; seed <= 20; seed++) {
		uint8_t sink[8192];

		bench_hammer(b, ranges, ARRAY_SIZE(ranges), 6000, seed);
		(void)!write(fd, sink, seed * 10);
		run_idle(b);
		(void)!read(fd, sink, sizeof(sink));
	}
	close(fd);
}

BENCH_MAIN_OPTIONS("com", options, BENCH_TEST(reset_values),
    BENCH_TEST(reserved_bits_read_zero),
    BENCH_TEST(the_divisor_latch_hides_data_and_interrupts),
    BENCH_TEST(fcr_counts_only_when_enabled),
    BENCH_TEST(wide_accesses_are_narrow_ones), BENCH_TEST(thre_interrupts),
    BENCH_TEST(modem_status_interrupts), BENCH_TEST(received_data_interrupts),
    BENCH_TEST(line_status_interrupts), BENCH_TEST(interrupts_have_priorities),
    BENCH_TEST(the_fifo_holds_sixteen), BENCH_TEST(triggers_have_their_levels),
    BENCH_TEST(characters_below_the_trigger_time_out),
    BENCH_TEST(fifos_can_be_cleared), BENCH_TEST(peers_talk),
    BENCH_TEST(a_flood_comes_in_whole),
    BENCH_TEST(a_slow_peer_holds_the_transmitter),
    BENCH_TEST(a_waiting_transmitter_can_be_cleared),
    BENCH_TEST(one_register_holds_one_byte),
    BENCH_TEST(a_stuck_peer_lets_the_guest_go_on),
    BENCH_TEST(a_closed_peer_costs_nothing), BENCH_TEST(a_paused_uart_is_quiet),
    BENCH_TEST(a_pause_holds_the_transmitter),
    BENCH_TEST(input_of_a_peer_times_out),
    BENCH_TEST(four_ports_share_two_lines), BENCH_TEST(wrong_keys_are_named),
    BENCH_TEST(a_round_trip_loses_nothing), BENCH_TEST(forged_state_is_refused),
    BENCH_TEST(a_loaded_fifo_is_sent), BENCH_TEST(hammering))
