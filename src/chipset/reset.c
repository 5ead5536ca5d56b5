/*
 * Reset control and POST codes: two ports of a PC's board.
 *
 * Models       the reset control register at 0xcf9, RC in the Intel 82371SB
 *              (PIIX3) data sheet: a write with bit 2 set resets the machine,
 *              hard or soft alike; it reads back what was written.
 *              Port 0x84, where firmware tells how far it has got: reads ones,
 *              writes are dropped.
 * Locking      the device lock, held at every entry.
 */
#include "chipset/reset.h"
#include "vm/platform.h"
#include "vm/vm.h"

#define RESET_CONTROL_RCPU 0x04
#define PORT_POST 0x84

struct reset {
	struct vm *vm; /* borrowed: owns this */
	uint8_t control;
	uint8_t post; /* stays as it is: what the port reads */
};

static const struct reg reset_regs[] = {
	REG8(0, struct reset, post, 0xff, 0),
};

static const struct field reset_state[] = {
	STATE_INT(struct reset, control, 0),
};

uint8_t
reset_control_read(struct device *dev)
{
	struct reset *reset = device_self(dev);
	struct lock *lock = device_lock(dev);
	uint8_t value;

	lock_take(lock);
	value = reset->control;
	lock_drop(lock);
	return value;
}

void
reset_control_write(struct device *dev, uint8_t value)
{
	struct reset *reset = device_self(dev);
	struct lock *lock = device_lock(dev);

	lock_take(lock);
	reset->control = value;
	lock_drop(lock);
	if (value & RESET_CONTROL_RCPU)
		vm_end(reset->vm, VM_END_RESET);
}

static int
reset_create(struct device *dev, void *self, struct err *err)
{
	struct reset *reset = self;

	reset->vm = device_vm(dev);
	return device_map_ports(dev, PORT_POST, REG_TABLE(reset_regs), err);
}

DEVICE_MODEL(reset) = {
	.name = "reset",
	.state_version = 1,
	.size = sizeof(struct reset),
	STATE_TABLE(reset_state),
	.create = reset_create,
};
