/*
 * The test device: what payloads measure by and are measured with.
 *
 * Models       nothing real.  testdev.h has its registers: the machine clock,
 *              interrupt lines and messages on demand, an alarm, writes to
 *              memory, and a port and a memory window that keep what is
 *              written and remember the last access.
 * Locking      the device lock.  Other threads of the judge do not look.
 */
#include <string.h>

#include "base/wire.h"
#include "irq/irq.h"
#include "mem/mem.h"
#include "test/guest/testdev.h"
#include "vm/device.h"

struct testdev {
	struct irq_chip *chip; /* borrowed: outlives every device */
	struct clock *clock;   /* likewise */
	struct mem *mem;       /* likewise */
	struct irq_line line[IRQ_LINES];
	struct clock_timer alarm;
	uint32_t alarm_line;
	uint32_t msi_addr;
	uint32_t dma_addr;
	uint32_t count;
	uint32_t last;
	uint32_t value;
	uint8_t ports[TESTDEV_PORTS_LEN];
	uint8_t mmio[TESTDEV_MMIO_LEN];
};

/* ---- control registers -------------------------------------------------- */

static uint64_t
control_read(void *self, uint64_t off, unsigned size)
{
	struct testdev *t = self;

	switch (TESTDEV_CLOCK + off) {
	case TESTDEV_CLOCK:
		return clock_now(t->clock) / 1000;
	case TESTDEV_COUNT:
		return t->count;
	case TESTDEV_LAST:
		return t->last;
	case TESTDEV_VALUE:
		return t->value;
	default:
		return UINT32_MAX;
	}
}

static void
control_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct testdev *t = self;
	unsigned line = value % IRQ_LINES;
	le32 data = le32_make((uint32_t)value);

	switch (TESTDEV_CLOCK + off) {
	case TESTDEV_LINE:
		irq_line_set(&t->line[line], value & TESTDEV_LINE_RAISE);
		break;
	case TESTDEV_PULSE:
		irq_line_pulse(&t->line[line]);
		break;
	case TESTDEV_MSI_ADDR:
		t->msi_addr = (uint32_t)value;
		break;
	case TESTDEV_MSI_DATA:
		/* A message to nobody is one of the things that are tried. */
		(void)irq_send_msi(t->chip, t->msi_addr, (uint32_t)value);
		break;
	case TESTDEV_ALARM_LINE:
		t->alarm_line = line;
		break;
	case TESTDEV_ALARM:
		if (value == 0)
			clock_timer_disarm(&t->alarm);
		else
			clock_timer_arm(&t->alarm,
			    clock_now(t->clock) + value * 1000);
		break;
	case TESTDEV_COUNT:
		t->count = 0;
		t->last = 0;
		t->value = 0;
		break;
	case TESTDEV_DMA_ADDR:
		t->dma_addr = (uint32_t)value;
		break;
	case TESTDEV_DMA_DATA:
		/* As on a bus, what leads nowhere is lost. */
		(void)mem_write(t->mem, t->dma_addr, &data, sizeof(data));
		break;
	}
}

static const struct io_ops control_ops = {
	.read = control_read,
	.write = control_write,
	.widths = 4,
	.odd = IO_ONES,
	.aligned = true,
};

static void
testdev_alarm(void *arg)
{
	struct testdev *t = arg;

	irq_line_pulse(&t->line[t->alarm_line]);
}

/* ---- windows ------------------------------------------------------------ */

static void
note(struct testdev *t, uint64_t off, unsigned size, uint32_t flags,
    uint64_t value)
{
	t->count++;
	t->last = size | flags | (uint32_t)off << TESTDEV_LAST_OFFSET_SHIFT;
	t->value = (uint32_t)value;
}

static uint64_t
window_read(struct testdev *t, const uint8_t *bytes, uint64_t off,
    unsigned size, uint32_t flags)
{
	uint64_t value = 0;

	memcpy(&value, bytes + off, size);
	note(t, off, size, flags, value);
	return value;
}

static void
window_write(struct testdev *t, uint8_t *bytes, uint64_t off, unsigned size,
    uint32_t flags, uint64_t value)
{
	memcpy(bytes + off, &value, size);
	note(t, off, size, flags | TESTDEV_LAST_WRITE, value);
}

static uint64_t
ports_read(void *self, uint64_t off, unsigned size)
{
	struct testdev *t = self;

	return window_read(t, t->ports, off, size, 0);
}

static void
ports_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct testdev *t = self;

	window_write(t, t->ports, off, size, 0, value);
}

static uint64_t
mmio_read(void *self, uint64_t off, unsigned size)
{
	struct testdev *t = self;

	return window_read(t, t->mmio, off, size, TESTDEV_LAST_MMIO);
}

static void
mmio_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct testdev *t = self;

	window_write(t, t->mmio, off, size, TESTDEV_LAST_MMIO, value);
}

static const struct io_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
};

static const struct io_ops mmio_ops = {
	.read = mmio_read,
	.write = mmio_write,
};

/* ---- the model ---------------------------------------------------------- */

static int
testdev_create(struct device *dev, void *self, struct err *err)
{
	struct testdev *t = self;
	int ret;

	t->chip = device_irq_chip(dev);
	t->clock = device_clock(dev);
	t->mem = device_mem(dev);
	for (unsigned i = 0; i < IRQ_LINES; i++)
		irq_line_init(&t->line[i], t->chip, i);
	device_timer_init(dev, &t->alarm, testdev_alarm);
	ret = device_map_port_ops(dev, TESTDEV_CLOCK, 4 * TESTDEV_REGS,
	    &control_ops, err);
	if (ret == 0)
		ret = device_map_port_ops(dev, TESTDEV_PORTS, TESTDEV_PORTS_LEN,
		    &ports_ops, err);
	if (ret == 0)
		ret = device_map_port_ops(dev, TESTDEV_LOW_PORTS,
		    TESTDEV_LOW_PORTS_LEN, &ports_ops, err);
	if (ret == 0)
		ret = device_map_mmio_ops(dev, TESTDEV_MMIO, TESTDEV_MMIO_LEN,
		    &mmio_ops, err);
	return ret;
}

DEVICE_MODEL(testdev) = {
	.name = "testdev",
	.state_version = 1,
	.size = sizeof(struct testdev),
	.create = testdev_create,
};
