/*
 * uart: a UART as a PCI function.
 *
 * Models       bhyve's: 131f:2000, which drivers know for a card with one 16550
 *              at BAR 0.
 * Options      path, a serial back end (chipset/chardev.h); without one, bytes
 *              vanish.  pcireg.* overrides single registers.
 * Widths       A guest may use 2- and 4-byte accesses; the low byte counts.
 * Locking      the device lock; see uart.c.
 */
#include <stdlib.h>

#include "chipset/uart.h"
#include "pci/pci.h"

struct uart_pci {
	struct pci_func func;
	struct uart uart;
};

static const struct field uart_pci_state[] = {
	PCI_FUNC_STATE(struct uart_pci, func),
	UART_STATE(struct uart_pci, uart),
};

static uint64_t
uart_pci_read(void *self, uint64_t off, unsigned size)
{
	struct uart_pci *pci = self;

	return uart_read(&pci->uart, (unsigned)off);
}

static void
uart_pci_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct uart_pci *pci = self;

	uart_write(&pci->uart, (unsigned)off, (uint8_t)value);
}

static const struct io_ops uart_pci_ops = {
	.read = uart_pci_read,
	.write = uart_pci_write,
	.widths = 1,
	.odd = IO_NARROW,
};

static void
uart_pci_irq(void *arg, bool asserted)
{
	struct uart_pci *pci = arg;

	pci_intx_set(&pci->func, asserted);
}

static int
uart_pci_create(struct device *dev, void *self, struct err *err)
{
	static const char *const keys[] = { "device", "path", "pcireg" };
	struct config *node = device_config(dev);
	struct uart_pci *pci = self;
	struct pci_ids ids = {
		.vendor = 0x131f,
		.device = 0x2000,
		.class = 0x07,
		.subclass = 0x00,
		.prog_if = 0x02, /* 16550 */
	};
	char *path = NULL;
	int rc;

	rc = device_check_keys(dev, keys, ARRAY_SIZE(keys), err);
	if (rc == 0)
		rc = pci_ids_override(node, &ids, err);
	if (rc == 0)
		rc = pci_func_init(&pci->func, dev, &ids, err);
	if (rc == 0)
		rc = pci_add_bar(&pci->func, 0, PCI_BAR_PORT, UART_PORTS,
		    &uart_pci_ops, NULL, err);
	if (rc == 0)
		rc = config_str(node, "path", NULL, &path, err);
	if (rc < 0)
		return rc;
	pci_add_intx(&pci->func);
	rc = uart_init(&pci->uart, dev, path, uart_pci_irq, pci, err);
	free(path);
	return rc < 0 ? err_prefix(err, rc, "%s", device_name(dev)) : 0;
}

static int
uart_pci_start(void *self, struct err *err)
{
	struct uart_pci *pci = self;

	uart_resume(&pci->uart);
	return 0;
}

static void
uart_pci_pause(void *self)
{
	struct uart_pci *pci = self;

	uart_pause(&pci->uart);
}

static void
uart_pci_resume(void *self)
{
	struct uart_pci *pci = self;

	uart_resume(&pci->uart);
}

static void
uart_pci_reset(void *self)
{
	struct uart_pci *pci = self;

	pci_func_reset(&pci->func);
}

static void
uart_pci_changed(void *self)
{
	struct uart_pci *pci = self;

	pci_func_changed(&pci->func);
	uart_changed(&pci->uart);
}

static int
uart_pci_check(const void *self, struct err *err)
{
	const struct uart_pci *pci = self;
	int rc = pci_func_check(&pci->func, err);

	return rc < 0 ? rc : uart_check(&pci->uart, err);
}

static void
uart_pci_destroy(void *self)
{
	struct uart_pci *pci = self;

	uart_fini(&pci->uart);
	pci_func_fini(&pci->func);
}

DEVICE_MODEL(uart_pci) = {
	.name = "uart",
	.state_version = 1,
	.size = sizeof(struct uart_pci),
	STATE_TABLE(uart_pci_state),
	.pci_help = "serial port",
	.create = uart_pci_create,
	.start = uart_pci_start,
	.pause = uart_pci_pause,
	.resume = uart_pci_resume,
	.reset = uart_pci_reset,
	.changed = uart_pci_changed,
	.check = uart_pci_check,
	.destroy = uart_pci_destroy,
};
