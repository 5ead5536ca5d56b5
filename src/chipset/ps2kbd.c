/*
 * A PS/2 keyboard.
 *
 * Models       the enhanced keyboard of the IBM PS/2 Hardware Technical
 *              Reference, section "Keyboards (101/102-Key)", in scan code sets
 *              1 and 2: 16 codes are buffered; when a key stroke finds no room
 *              an overrun code stands for it and those behind it.
 * Leaves out   Set 3, refused as keyboards without it do, and with it the
 *              commands 0xfb-0xfd; typematic repeats, which whoever presses our
 *              keys sends himself: the rate is only stored.
 * Locking      the controller's lock, held at every entry.
 */
#include "chipset/ps2_impl.h"

#define KBD_SET_LEDS 0xed
#define KBD_ECHO 0xee
#define KBD_SCAN_SET 0xf0
#define KBD_IDENTIFY 0xf2
#define KBD_TYPEMATIC 0xf3
#define KBD_ENABLE 0xf4
#define KBD_DISABLE 0xf5
#define KBD_DEFAULTS 0xf6
#define KBD_ALL_TYPEMATIC 0xf7 /* these four are for set 3: no effect */
#define KBD_ALL_MAKE_BREAK 0xf8
#define KBD_ALL_MAKE 0xf9
#define KBD_ALL_BOTH 0xfa
#define KBD_RESET 0xff

#define KBD_ARGUMENT_MAX 0x7f
#define KBD_TYPEMATIC_DEFAULT 0x2b /* 10.9 a second, after 500 ms */
#define KBD_FIFO_CODES (PS2_FIFO_SIZE - 1)

static void
kbd_defaults(struct ps2kbd *kbd)
{
	ps2_flush(&kbd->out);
	kbd->typematic = KBD_TYPEMATIC_DEFAULT;
	kbd->scan_set = 2;
}

void
ps2kbd_reset(struct ps2kbd *kbd)
{
	kbd_defaults(kbd);
	kbd->leds = 0;
	kbd->scanning = true;
}

static void
kbd_argument(struct ps2kbd *kbd, uint8_t command, uint8_t byte)
{
	uint8_t answer = PS2_ACK;

	switch (command) {
	case KBD_SET_LEDS:
		kbd->leds = byte & 7;
		break;
	case KBD_TYPEMATIC:
		kbd->typematic = byte;
		break;
	case KBD_SCAN_SET:
		if (byte == 1 || byte == 2) {
			ps2_flush(&kbd->out);
			kbd->scan_set = byte;
		} else if (byte != 0) {
			answer = PS2_RESEND;
		}
		break;
	}
	ps2_answer(&kbd->out, answer);
	if (command == KBD_SCAN_SET && byte == 0)
		ps2_reply(&kbd->out, kbd->scan_set);
}

void
ps2kbd_write(struct ps2kbd *kbd, uint8_t byte)
{
	uint8_t command = kbd->command;

	kbd->command = 0;
	/* A command in place of an argument: the first is forgotten. */
	if (command != 0 && byte <= KBD_ARGUMENT_MAX) {
		kbd_argument(kbd, command, byte);
		return;
	}
	switch (byte) {
	case KBD_SET_LEDS:
	case KBD_SCAN_SET:
	case KBD_TYPEMATIC:
		kbd->command = byte;
		ps2_answer(&kbd->out, PS2_ACK);
		break;
	case KBD_ECHO:
		ps2_answer(&kbd->out, KBD_ECHO);
		break;
	case KBD_IDENTIFY:
		ps2_answer(&kbd->out, PS2_ACK);
		ps2_reply(&kbd->out, 0xab);
		ps2_reply(&kbd->out, 0x83);
		break;
	case KBD_ENABLE:
		ps2_flush(&kbd->out);
		kbd->scanning = true;
		ps2_answer(&kbd->out, PS2_ACK);
		break;
	case KBD_DISABLE:
		kbd_defaults(kbd);
		kbd->scanning = false;
		ps2_answer(&kbd->out, PS2_ACK);
		break;
	case KBD_DEFAULTS:
		kbd_defaults(kbd);
		ps2_answer(&kbd->out, PS2_ACK);
		break;
	case KBD_ALL_TYPEMATIC:
	case KBD_ALL_MAKE_BREAK:
	case KBD_ALL_MAKE:
	case KBD_ALL_BOTH:
		ps2_answer(&kbd->out, PS2_ACK);
		break;
	case PS2_RESEND:
		ps2_answer(&kbd->out, kbd->out.last);
		break;
	case KBD_RESET:
		ps2kbd_reset(kbd);
		ps2_answer(&kbd->out, PS2_ACK);
		ps2_reply(&kbd->out, PS2_BAT_OK);
		break;
	default:
		ps2_answer(&kbd->out, PS2_RESEND);
		break;
	}
}

static void
kbd_overrun(struct ps2kbd *kbd)
{
	uint8_t code = kbd->scan_set == 1 ? 0xff : 0x00;
	struct ps2_out *out = &kbd->out;
	unsigned newest =
	    (out->head + out->count + PS2_FIFO_SIZE - 1u) % PS2_FIFO_SIZE;

	if (out->count == PS2_FIFO_SIZE)
		return;
	if (out->count == 0 || out->fifo[newest] != code)
		ps2_put(out, code);
}

void
ps2kbd_key(struct ps2kbd *kbd, const uint8_t *codes, size_t len)
{
	uint8_t release = 0;

	if (!kbd->scanning)
		return;
	if (len > KBD_FIFO_CODES || kbd->out.count > KBD_FIFO_CODES - len) {
		kbd_overrun(kbd);
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if (kbd->scan_set == 2) {
			ps2_put(&kbd->out, codes[i]);
		} else if (codes[i] == PS2_SET2_BREAK) {
			release = PS2_SET1_BREAK;
		} else {
			ps2_put(&kbd->out, ps2_set1(codes[i]) | release);
			release = 0;
		}
	}
}
