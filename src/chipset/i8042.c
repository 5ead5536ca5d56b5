/*
 * i8042: the keyboard controller of an AT, with a keyboard and a mouse.
 *
 * Models       the keyboard/auxiliary device controller of the IBM PS/2
 *              Hardware Technical Reference: ports 0x60 and 0x64, 32 bytes of
 *              internal RAM of which byte 0 is the command byte, translation of
 *              scan code set 2 to 1, IRQ 1 and IRQ 12.
 *              After power-on it is as a BIOS leaves it for kernels that come
 *              without one: system flag and translation on, interrupts off.
 * Leaves out   the time that bytes take on the wires: a byte is there at once.
 *              The A20 gate is kept and told, but every address line is on.
 * Output       One byte waits in the output buffer.  The controller's answers
 *              go before what the devices say: if a device's byte is in the
 *              buffer already, it is held back and shown again afterwards, so
 *              that the answer to a command is the next byte that is read.
 *
 *                empty ──fill──▶ device's ──answer──▶ answer, one held
 *                  ▲  ◀──read───    ▲  ◀──────read───────┘
 *                  └─────read── answer ◀──answer── (empty)
 *
 *              An interrupt line is up while its kind of byte is in the buffer.
 * Locking      the device lock; the calls of i8042.h take it.
 * Invariants   1. A byte is held only while an answer is in the buffer.
 *              2. Lines follow the buffer and the command byte.
 */
#include <errno.h>

#include "chipset/i8042.h"
#include "chipset/ps2_impl.h"
#include "irq/irq.h"
#include "vm/platform.h"
#include "vm/vm.h"

#define PORT_DATA 0x60
#define PORT_COMMAND 0x64

#define STATUS_OBF 0x01
#define STATUS_SYS 0x04
#define STATUS_CMD 0x08
#define STATUS_UNLOCKED 0x10
#define STATUS_AUX_OBF 0x20

#define CCB_INT_KBD 0x01
#define CCB_INT_AUX 0x02
#define CCB_SYS 0x04
#define CCB_DISABLE_KBD 0x10
#define CCB_DISABLE_AUX 0x20
#define CCB_TRANSLATE 0x40

#define OUTPORT_RUNNING 0x01 /* 0 resets the machine */
#define OUTPORT_A20 0x02
#define OUTPORT_KBD_OBF 0x10
#define OUTPORT_AUX_OBF 0x20

#define I8042_RAM 32
#define CMD_READ_RAM 0x20  /* to 0x3f */
#define CMD_WRITE_RAM 0x60 /* to 0x7f; these with an argument */
#define CMD_PASSWORD_TEST 0xa4
#define CMD_DISABLE_AUX 0xa7
#define CMD_ENABLE_AUX 0xa8
#define CMD_TEST_AUX 0xa9
#define CMD_SELF_TEST 0xaa
#define CMD_TEST_KBD 0xab
#define CMD_DISABLE_KBD 0xad
#define CMD_ENABLE_KBD 0xae
#define CMD_READ_INPORT 0xc0
#define CMD_READ_OUTPORT 0xd0
#define CMD_WRITE_OUTPORT 0xd1
#define CMD_WRITE_KBD_BUFFER 0xd2
#define CMD_WRITE_AUX_BUFFER 0xd3
#define CMD_WRITE_AUX 0xd4
#define CMD_PULSE 0xf0 /* to 0xff: a 0 in bits 0-3 pulses that output bit */

#define ANSWER_NO_PASSWORD 0xf1
#define ANSWER_SELF_TEST_OK 0x55
#define ANSWER_PORT_OK 0x00
#define ANSWER_INPORT 0x00

enum source { SOURCE_NONE, SOURCE_KBD, SOURCE_AUX };

struct i8042 {
	struct vm *vm; /* borrowed: owns this */
	struct irq_line kbd_irq;
	struct irq_line aux_irq;

	uint8_t ram[I8042_RAM];
	uint8_t command;   /* that waits for its argument; 0: none */
	bool last_command; /* was the last write one to 0x64? */
	bool a20;
	bool release; /* translation has seen a break prefix */

	uint8_t out; /* the output buffer, also after it was read */
	uint8_t out_source;
	bool out_answer;
	uint8_t held;
	uint8_t held_source;

	struct ps2kbd kbd;
	struct ps2mouse mouse;
};

static const struct field i8042_state[] = {
	STATE_ARRAY(struct i8042, ram, 0),
	STATE_INT(struct i8042, command, 0),
	STATE_BOOL(struct i8042, last_command, 0),
	STATE_BOOL(struct i8042, a20, 1),
	STATE_BOOL(struct i8042, release, 0),
	STATE_INT(struct i8042, out, 0),
	STATE_INT_MAX(struct i8042, out_source, SOURCE_NONE, SOURCE_AUX),
	STATE_BOOL(struct i8042, out_answer, 0),
	STATE_INT(struct i8042, held, 0),
	STATE_INT_MAX(struct i8042, held_source, SOURCE_NONE, SOURCE_AUX),
	PS2KBD_STATE(struct i8042, kbd),
	PS2MOUSE_STATE(struct i8042, mouse),
};

/* ---- the output buffer -------------------------------------------------- */

static void
i8042_changed(void *self)
{
	struct i8042 *kbc = self;
	uint8_t ccb = kbc->ram[0];

	irq_line_set(&kbc->kbd_irq,
	    kbc->out_source == SOURCE_KBD && (ccb & CCB_INT_KBD));
	irq_line_set(&kbc->aux_irq,
	    kbc->out_source == SOURCE_AUX && (ccb & CCB_INT_AUX));
}

/* The next byte of the keyboard, translated if that is on. */
static bool
take_kbd(struct i8042 *kbc, uint8_t *byte)
{
	/* A break prefix becomes bit 7 of the code that follows. */
	while (ps2_take(&kbc->kbd.out, byte)) {
		if (!(kbc->ram[0] & CCB_TRANSLATE)) {
			kbc->release = false;
			return true;
		}
		if (*byte == PS2_SET2_BREAK) {
			kbc->release = true;
			continue;
		}
		*byte = ps2_set1(*byte);
		if (kbc->release)
			*byte |= PS2_SET1_BREAK;
		kbc->release = false;
		return true;
	}
	return false;
}

/* Fill the buffer if it is empty, and let the lines follow. */
static void
i8042_fill(struct i8042 *kbc)
{
	uint8_t ccb = kbc->ram[0];

	ps2mouse_report(&kbc->mouse);
	if (kbc->out_source != SOURCE_NONE) {
		/* Full. */
	} else if (kbc->held_source != SOURCE_NONE) {
		kbc->out = kbc->held;
		kbc->out_source = kbc->held_source;
		kbc->held_source = SOURCE_NONE;
	} else if (!(ccb & CCB_DISABLE_KBD) && take_kbd(kbc, &kbc->out)) {
		kbc->out_source = SOURCE_KBD;
	} else if (!(ccb & CCB_DISABLE_AUX) &&
	    ps2_take(&kbc->mouse.out, &kbc->out)) {
		kbc->out_source = SOURCE_AUX;
	}
	i8042_changed(kbc);
}

static void
i8042_empty(struct i8042 *kbc)
{
	kbc->out_source = SOURCE_NONE;
	kbc->out_answer = false;
	/* The line falls, so that the next byte is an edge. */
	i8042_changed(kbc);
}

static void
i8042_answer(struct i8042 *kbc, enum source source, uint8_t byte)
{
	if (kbc->out_source != SOURCE_NONE && !kbc->out_answer) {
		kbc->held = kbc->out;
		kbc->held_source = kbc->out_source;
	}
	i8042_empty(kbc);
	kbc->out = byte;
	kbc->out_source = source;
	kbc->out_answer = true;
}

/* ---- ports -------------------------------------------------------------- */

static uint8_t
outport_get(const struct i8042 *kbc)
{
	return OUTPORT_RUNNING | (kbc->a20 ? OUTPORT_A20 : 0) |
	    (kbc->out_source == SOURCE_KBD ? OUTPORT_KBD_OBF : 0) |
	    (kbc->out_source == SOURCE_AUX ? OUTPORT_AUX_OBF : 0);
}

static void
outport_set(struct i8042 *kbc, uint8_t value)
{
	kbc->a20 = value & OUTPORT_A20;
	if (!(value & OUTPORT_RUNNING))
		vm_end(kbc->vm, VM_END_RESET);
}

static uint64_t
data_read(void *self, uint64_t off, unsigned size)
{
	struct i8042 *kbc = self;
	uint8_t byte = kbc->out;

	i8042_empty(kbc);
	i8042_fill(kbc);
	return byte;
}

static void
data_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct i8042 *kbc = self;
	uint8_t command = kbc->command, byte = (uint8_t)value;

	kbc->command = 0;
	kbc->last_command = false;
	switch (command) {
	case 0:
		/* To reach the keyboard is to enable its wire. */
		kbc->ram[0] &= (uint8_t)~CCB_DISABLE_KBD;
		ps2kbd_write(&kbc->kbd, byte);
		break;
	case CMD_WRITE_OUTPORT:
		outport_set(kbc, byte);
		break;
	case CMD_WRITE_KBD_BUFFER:
		i8042_answer(kbc, SOURCE_KBD, byte);
		break;
	case CMD_WRITE_AUX_BUFFER:
		i8042_answer(kbc, SOURCE_AUX, byte);
		break;
	case CMD_WRITE_AUX:
		kbc->ram[0] &= (uint8_t)~CCB_DISABLE_AUX;
		ps2mouse_write(&kbc->mouse, byte);
		break;
	default: /* the rest of those that i8042_takes_argument() names */
		kbc->ram[command % I8042_RAM] = byte;
		break;
	}
	i8042_fill(kbc);
}

static uint64_t
status_read(void *self, uint64_t off, unsigned size)
{
	const struct i8042 *kbc = self;

	return STATUS_UNLOCKED | (kbc->last_command ? STATUS_CMD : 0) |
	    (kbc->ram[0] & CCB_SYS ? STATUS_SYS : 0) |
	    (kbc->out_source != SOURCE_NONE ? STATUS_OBF : 0) |
	    (kbc->out_source == SOURCE_AUX ? STATUS_AUX_OBF : 0);
}

static bool
i8042_takes_argument(uint8_t command)
{
	return (command >= CMD_WRITE_RAM &&
		   command < CMD_WRITE_RAM + I8042_RAM) ||
	    (command >= CMD_WRITE_OUTPORT && command <= CMD_WRITE_AUX);
}

static void
command_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct i8042 *kbc = self;
	uint8_t command = (uint8_t)value;

	kbc->last_command = true;
	kbc->command = i8042_takes_argument(command) ? command : 0;
	if (command >= CMD_READ_RAM && command < CMD_READ_RAM + I8042_RAM) {
		i8042_answer(kbc, SOURCE_KBD, kbc->ram[command % I8042_RAM]);
	} else if (command >= CMD_PULSE) {
		if (!(command & OUTPORT_RUNNING))
			vm_end(kbc->vm, VM_END_RESET);
	} else {
		switch (command) {
		case CMD_PASSWORD_TEST:
			i8042_answer(kbc, SOURCE_KBD, ANSWER_NO_PASSWORD);
			break;
		case CMD_DISABLE_AUX:
			kbc->ram[0] |= CCB_DISABLE_AUX;
			break;
		case CMD_ENABLE_AUX:
			kbc->ram[0] &= (uint8_t)~CCB_DISABLE_AUX;
			break;
		case CMD_TEST_AUX:
		case CMD_TEST_KBD:
			i8042_answer(kbc, SOURCE_KBD, ANSWER_PORT_OK);
			break;
		case CMD_SELF_TEST:
			kbc->ram[0] |= CCB_SYS;
			i8042_answer(kbc, SOURCE_KBD, ANSWER_SELF_TEST_OK);
			break;
		case CMD_DISABLE_KBD:
			kbc->ram[0] |= CCB_DISABLE_KBD;
			break;
		case CMD_ENABLE_KBD:
			kbc->ram[0] &= (uint8_t)~CCB_DISABLE_KBD;
			break;
		case CMD_READ_INPORT:
			i8042_answer(kbc, SOURCE_KBD, ANSWER_INPORT);
			break;
		case CMD_READ_OUTPORT:
			i8042_answer(kbc, SOURCE_KBD, outport_get(kbc));
			break;
		}
	}
	i8042_fill(kbc);
}

static const struct io_ops data_ops = {
	.read = data_read,
	.write = data_write,
	.widths = 1,
};

static const struct io_ops command_ops = {
	.read = status_read,
	.write = command_write,
	.widths = 1,
};

/* ---- input -------------------------------------------------------------- */

void
i8042_key(struct device *dev, const uint8_t *codes, size_t len)
{
	struct i8042 *kbc = device_self(dev);

	lock_take(device_lock(dev));
	ps2kbd_key(&kbc->kbd, codes, len);
	i8042_fill(kbc);
	lock_drop(device_lock(dev));
}

void
i8042_mouse(struct device *dev, int dx, int dy, int dz, unsigned buttons)
{
	struct i8042 *kbc = device_self(dev);

	lock_take(device_lock(dev));
	ps2mouse_event(&kbc->mouse, dx, dy, dz, buttons);
	i8042_fill(kbc);
	lock_drop(device_lock(dev));
}

/* ---- life --------------------------------------------------------------- */

static int
i8042_create(struct device *dev, void *self, struct err *err)
{
	struct irq_chip *chip = device_irq_chip(dev);
	struct i8042 *kbc = self;
	int rc;

	kbc->vm = device_vm(dev);
	irq_line_init(&kbc->kbd_irq, chip, PLAT_IRQ_KEYBOARD);
	irq_line_init(&kbc->aux_irq, chip, PLAT_IRQ_MOUSE);
	rc = device_map_port_ops(dev, PORT_DATA, 1, &data_ops, err);
	if (rc < 0)
		return rc;
	return device_map_port_ops(dev, PORT_COMMAND, 1, &command_ops, err);
}

static void
i8042_reset(void *self)
{
	struct i8042 *kbc = self;

	kbc->ram[0] = CCB_SYS | CCB_TRANSLATE;
	ps2kbd_reset(&kbc->kbd);
	ps2mouse_reset(&kbc->mouse);
}

static int
i8042_check(const void *self, struct err *err)
{
	const struct i8042 *kbc = self;
	const char *wrong = NULL;

	if (kbc->command != 0 && !i8042_takes_argument(kbc->command))
		wrong = "a command that takes no argument waits for one";
	else if (kbc->out_answer && kbc->out_source == SOURCE_NONE)
		wrong = "the controller's answer is missing";
	else if (kbc->held_source != SOURCE_NONE && !kbc->out_answer)
		wrong = "a byte is held back by no answer";
	else if (kbc->kbd.out.reply_pos > kbc->kbd.out.reply_len ||
	    kbc->mouse.out.reply_pos > kbc->mouse.out.reply_len)
		wrong = "more of an answer was sent than there is";
	else if (kbc->kbd.scan_set == 0)
		wrong = "the keyboard has no scan code set";
	else if (!ps2mouse_possible(&kbc->mouse))
		wrong = "no mouse is like that";
	return wrong == NULL ? 0 : err_set(err, -EINVAL, "i8042: %s", wrong);
}

DEVICE_MODEL(i8042) = {
	.name = "i8042",
	.state_version = 1,
	.size = sizeof(struct i8042),
	STATE_TABLE(i8042_state),
	.create = i8042_create,
	.reset = i8042_reset,
	.changed = i8042_changed,
	.check = i8042_check,
};
