/*
 * com1 to com4: the UARTs at the ISA ports, which of them by the device's name.
 *
 * Options      path, a serial back end (chipset/chardev.h); without one, bytes
 *              vanish.
 * Widths       A guest may use 2- and 4-byte accesses; the low byte counts.
 * Locking      the device lock; see uart.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "chipset/uart.h"
#include "irq/irq.h"

static const struct {
	const char *name;
	uint16_t port;
	uint8_t irq;
} places[] = {
	{ "com1", 0x3f8, 4 },
	{ "com2", 0x2f8, 3 },
	{ "com3", 0x3e8, 4 },
	{ "com4", 0x2e8, 3 },
};

struct uart_isa {
	struct uart uart;
	struct irq_line line;
};

static uint64_t
uart_isa_read(void *self, uint64_t off, unsigned size)
{
	struct uart_isa *isa = self;

	return uart_read(&isa->uart, (unsigned)off);
}

static void
uart_isa_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct uart_isa *isa = self;

	uart_write(&isa->uart, (unsigned)off, (uint8_t)value);
}

static const struct io_ops uart_isa_ops = {
	.read = uart_isa_read,
	.write = uart_isa_write,
	.widths = 1,
	.odd = IO_NARROW,
};

static void
uart_isa_irq(void *arg, bool asserted)
{
	struct uart_isa *isa = arg;

	irq_line_set(&isa->line, asserted);
}

static int
uart_isa_create(struct device *dev, void *self, struct err *err)
{
	static const char *const keys[] = { "path" };
	struct uart_isa *isa = self;
	char *path = NULL;
	size_t i;
	int rc;

	for (i = 0; i < ARRAY_SIZE(places); i++)
		if (strcmp(device_name(dev), places[i].name) == 0)
			break;
	if (i == ARRAY_SIZE(places))
		return err_set(err, -EINVAL, "%s: no such serial port",
		    device_name(dev));
	rc = device_check_keys(dev, keys, ARRAY_SIZE(keys), err);
	if (rc == 0 && device_config(dev) != NULL)
		rc = config_str(device_config(dev), "path", NULL, &path, err);
	if (rc < 0)
		return rc;
	irq_line_init(&isa->line, device_irq_chip(dev), places[i].irq);
	rc = uart_init(&isa->uart, dev, path, uart_isa_irq, isa, err);
	free(path);
	if (rc < 0)
		return err_prefix(err, rc, "%s", device_name(dev));
	return device_map_port_ops(dev, places[i].port, UART_PORTS,
	    &uart_isa_ops, err);
}

static int
uart_isa_start(void *self, struct err *err)
{
	struct uart_isa *isa = self;

	uart_resume(&isa->uart);
	return 0;
}

static void
uart_isa_pause(void *self)
{
	struct uart_isa *isa = self;

	uart_pause(&isa->uart);
}

static void
uart_isa_resume(void *self)
{
	struct uart_isa *isa = self;

	uart_resume(&isa->uart);
}

static void
uart_isa_changed(void *self)
{
	struct uart_isa *isa = self;

	uart_changed(&isa->uart);
}

static int
uart_isa_check(const void *self, struct err *err)
{
	const struct uart_isa *isa = self;

	return uart_check(&isa->uart, err);
}

static void
uart_isa_destroy(void *self)
{
	struct uart_isa *isa = self;

	uart_fini(&isa->uart);
}

static const struct field uart_isa_state[] = {
	UART_STATE(struct uart_isa, uart),
};

DEVICE_MODEL(uart_isa) = {
	.name = "com",
	.state_version = 1,
	.size = sizeof(struct uart_isa),
	STATE_TABLE(uart_isa_state),
	.create = uart_isa_create,
	.start = uart_isa_start,
	.pause = uart_isa_pause,
	.resume = uart_isa_resume,
	.changed = uart_isa_changed,
	.check = uart_isa_check,
	.destroy = uart_isa_destroy,
};
