/*
 * A PS/2 mouse, with a wheel for those who know how to ask.
 *
 * Models       the mouse of the IBM PS/2 Hardware Technical Reference, and the
 *              IntelliMouse extension: sampling rates 200, 100, 80 in a row
 *              turn it into device 3 with a fourth byte of wheel motion.
 *              A packet is made as soon as there is something to tell and room
 *              for it; meanwhile motion adds up, to a limit.  A command drops
 *              packets that wait, as it interrupts them on the wire.
 * Leaves out   The sampling rate and the resolution are only stored: our input
 *              comes in counts and at a rate of its own.
 * Locking      the controller's lock, held at every entry.
 */
#include "chipset/ps2_impl.h"

#define MOUSE_SCALE_1 0xe6 /* no argument reaches up to here */
#define MOUSE_SCALE_2 0xe7
#define MOUSE_RESOLUTION 0xe8
#define MOUSE_STATUS 0xe9
#define MOUSE_STREAM 0xea
#define MOUSE_READ 0xeb
#define MOUSE_WRAP_OFF 0xec
#define MOUSE_WRAP 0xee
#define MOUSE_REMOTE 0xf0
#define MOUSE_IDENTIFY 0xf2
#define MOUSE_RATE 0xf3
#define MOUSE_ENABLE 0xf4
#define MOUSE_DISABLE 0xf5
#define MOUSE_DEFAULTS 0xf6
#define MOUSE_RESET 0xff

#define MOUSE_WHEEL_ID 3
#define MOUSE_RATE_DEFAULT 100
#define MOUSE_RESOLUTION_DEFAULT 2 /* 4 counts a millimetre */

/* The first byte of a packet. */
#define PACKET_ALWAYS 0x08
#define PACKET_X_NEGATIVE 0x10
#define PACKET_Y_NEGATIVE 0x20
#define PACKET_BYTES_MAX 4

static int16_t
motion_add(int16_t sum, int add)
{
	int64_t total = (int64_t)sum + add;

	total = MIN(total, PS2MOUSE_MOTION_MAX);
	return (int16_t)MAX(total, -PS2MOUSE_MOTION_MAX);
}

/* Take what a packet can carry, at most `most` either way, off a sum. */
static int
motion_take(int16_t *sum, int most)
{
	int n = MAX(-most, MIN(*sum, most));

	*sum = (int16_t)(*sum - n);
	return n;
}

static void
motion_forget(struct ps2mouse *mouse)
{
	mouse->dx = 0;
	mouse->dy = 0;
	mouse->dz = 0;
	mouse->told = mouse->buttons;
}

/* Scaling 2:1 makes fast motion faster and leaves slow motion slow. */
static int
scale2(int n)
{
	static const uint8_t slow[] = { 0, 1, 1, 3, 6, 9 };
	int count = n < 0 ? -n : n;

	count = (size_t)count < ARRAY_SIZE(slow) ? slow[count] : 2 * count;
	return n < 0 ? -count : count;
}

static unsigned
packet_make(struct ps2mouse *mouse, bool scaled,
    uint8_t packet[PACKET_BYTES_MAX])
{
	int most = scaled ? 127 : 255;
	int dx = motion_take(&mouse->dx, most);
	int dy = motion_take(&mouse->dy, most);

	if (scaled) {
		dx = scale2(dx);
		dy = scale2(dy);
	}
	mouse->told = mouse->buttons;
	packet[0] = PACKET_ALWAYS | mouse->buttons |
	    (dx < 0 ? PACKET_X_NEGATIVE : 0) | (dy < 0 ? PACKET_Y_NEGATIVE : 0);
	packet[1] = (uint8_t)dx;
	packet[2] = (uint8_t)dy;
	if (mouse->id != MOUSE_WHEEL_ID) {
		mouse->dz = 0;
		return 3;
	}
	packet[3] = (uint8_t)motion_take(&mouse->dz, 7);
	return 4;
}

void
ps2mouse_report(struct ps2mouse *mouse)
{
	uint8_t packet[PACKET_BYTES_MAX];
	unsigned len;

	if (!mouse->reporting || mouse->remote || mouse->wrap)
		return;
	if (mouse->id != MOUSE_WHEEL_ID)
		mouse->dz = 0;
	while (mouse->out.count <= PS2_FIFO_SIZE - PACKET_BYTES_MAX &&
	    (mouse->dx != 0 || mouse->dy != 0 || mouse->dz != 0 ||
		mouse->buttons != mouse->told)) {
		len = packet_make(mouse, mouse->scale2, packet);
		for (unsigned i = 0; i < len; i++)
			ps2_put(&mouse->out, packet[i]);
	}
}

void
ps2mouse_event(struct ps2mouse *mouse, int dx, int dy, int dz, unsigned buttons)
{
	mouse->dx = motion_add(mouse->dx, dx);
	mouse->dy = motion_add(mouse->dy, dy);
	mouse->dz = motion_add(mouse->dz, dz);
	mouse->buttons = buttons & PS2MOUSE_BUTTONS;
	ps2mouse_report(mouse);
}

static void
mouse_defaults(struct ps2mouse *mouse)
{
	mouse->rate = MOUSE_RATE_DEFAULT;
	mouse->resolution = MOUSE_RESOLUTION_DEFAULT;
	mouse->scale2 = false;
	mouse->remote = false;
	mouse->reporting = false;
	motion_forget(mouse);
}

void
ps2mouse_reset(struct ps2mouse *mouse)
{
	mouse_defaults(mouse);
	mouse->wrap = false;
	mouse->id = 0;
	mouse->rates[0] = 0;
	mouse->rates[1] = 0;
}

static bool
mouse_set_rate(struct ps2mouse *mouse, uint8_t rate)
{
	static const uint8_t known[] = { 10, 20, 40, 60, 80, 100, 200 };
	unsigned i = 0;

	while (i < ARRAY_SIZE(known) && rate != known[i])
		i++;
	if (i == ARRAY_SIZE(known))
		return false;
	if (mouse->rates[1] == 200 && mouse->rates[0] == 100 && rate == 80)
		mouse->id = MOUSE_WHEEL_ID;
	mouse->rates[1] = mouse->rates[0];
	mouse->rates[0] = rate;
	mouse->rate = rate;
	return true;
}

static void
mouse_argument(struct ps2mouse *mouse, uint8_t command, uint8_t byte)
{
	bool good = false;

	if (command == MOUSE_RATE) {
		good = mouse_set_rate(mouse, byte);
	} else if (command == MOUSE_RESOLUTION && byte <= 3) {
		mouse->resolution = byte;
		good = true;
	}
	motion_forget(mouse);
	ps2_answer(&mouse->out, good ? PS2_ACK : PS2_RESEND);
}

static void
mouse_answer_status(struct ps2mouse *mouse)
{
	uint8_t b = mouse->buttons;

	ps2_answer(&mouse->out, PS2_ACK);
	/* Unlike a packet: right in bit 0, middle in 1, left in 2. */
	ps2_reply(&mouse->out,
	    (uint8_t)((mouse->remote ? 0x40 : 0) |
		(mouse->reporting ? 0x20 : 0) | (mouse->scale2 ? 0x10 : 0) |
		(b & BIT(0) ? 4 : 0) | (b & BIT(2) ? 2 : 0) |
		(b & BIT(1) ? 1 : 0)));
	ps2_reply(&mouse->out, mouse->resolution);
	ps2_reply(&mouse->out, mouse->rate);
}

static void
mouse_answer_packet(struct ps2mouse *mouse)
{
	uint8_t packet[PACKET_BYTES_MAX];
	unsigned len = packet_make(mouse, false, packet);

	ps2_answer(&mouse->out, PS2_ACK);
	for (unsigned i = 0; i < len; i++)
		ps2_reply(&mouse->out, packet[i]);
}

static void
mouse_command(struct ps2mouse *mouse, uint8_t byte)
{
	ps2_answer(&mouse->out, PS2_ACK);
	switch (byte) {
	case MOUSE_SCALE_1:
	case MOUSE_SCALE_2:
		mouse->scale2 = byte == MOUSE_SCALE_2;
		break;
	case MOUSE_RESOLUTION:
	case MOUSE_RATE:
		mouse->command = byte;
		break;
	case MOUSE_STATUS:
		mouse_answer_status(mouse);
		break;
	case MOUSE_READ:
		mouse_answer_packet(mouse);
		break;
	case MOUSE_STREAM:
	case MOUSE_REMOTE:
		mouse->remote = byte == MOUSE_REMOTE;
		motion_forget(mouse);
		break;
	case MOUSE_WRAP:
	case MOUSE_WRAP_OFF:
		mouse->wrap = byte == MOUSE_WRAP;
		motion_forget(mouse);
		break;
	case MOUSE_IDENTIFY:
		ps2_reply(&mouse->out, mouse->id);
		break;
	case MOUSE_ENABLE:
	case MOUSE_DISABLE:
		mouse->reporting = byte == MOUSE_ENABLE;
		motion_forget(mouse);
		break;
	case MOUSE_DEFAULTS:
		mouse_defaults(mouse);
		break;
	case PS2_RESEND:
		ps2_answer(&mouse->out, mouse->out.last);
		break;
	case MOUSE_RESET:
		ps2mouse_reset(mouse);
		ps2_reply(&mouse->out, PS2_BAT_OK);
		ps2_reply(&mouse->out, mouse->id);
		break;
	default:
		ps2_answer(&mouse->out, PS2_RESEND);
		break;
	}
}

void
ps2mouse_write(struct ps2mouse *mouse, uint8_t byte)
{
	uint8_t command = mouse->command;

	mouse->command = 0;
	ps2_flush(&mouse->out);
	if (mouse->wrap && byte != MOUSE_WRAP_OFF && byte != MOUSE_RESET)
		ps2_answer(&mouse->out, byte);
	else if (command != 0 && byte < MOUSE_SCALE_1)
		mouse_argument(mouse, command, byte);
	else
		mouse_command(mouse, byte);
}

bool
ps2mouse_possible(const struct ps2mouse *mouse)
{
	const int16_t sums[] = { mouse->dx, mouse->dy, mouse->dz };

	for (unsigned i = 0; i < ARRAY_SIZE(sums); i++) {
		if (sums[i] < -PS2MOUSE_MOTION_MAX ||
		    sums[i] > PS2MOUSE_MOTION_MAX)
			return false;
	}
	return mouse->id == 0 || mouse->id == MOUSE_WHEEL_ID;
}
