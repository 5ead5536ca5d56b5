/*
 * PS/2 devices, as their controller (i8042.c) sees them: bytes go in by
 * _write(), bytes come out by ps2_take().  All under the controller's lock.
 */
#ifndef CHIPSET_PS2_IMPL_H
#define CHIPSET_PS2_IMPL_H

#include "base/util.h"
#include "vm/device.h"

#define PS2_ACK 0xfa
#define PS2_RESEND 0xfe
#define PS2_BAT_OK 0xaa

/*
 * What a device has to say.  The answer to the last command goes first; a new
 * command drops what is left of it, so nothing a guest does piles up.
 */
#define PS2_REPLY_MAX 5
#define PS2_FIFO_SIZE 17 /* the 17th is for the keyboard's overrun code */
struct ps2_out {
	uint8_t reply[PS2_REPLY_MAX];
	uint8_t reply_len, reply_pos;
	uint8_t fifo[PS2_FIFO_SIZE];
	uint8_t head, count;
	uint8_t last; /* byte sent, for PS2_RESEND as a command */
};
#define PS2_OUT_STATE(type, member)                                  \
	STATE_ARRAY(type, member.reply, 0),                          \
	    STATE_INT_MAX(type, member.reply_len, 0, PS2_REPLY_MAX), \
	    STATE_INT_MAX(type, member.reply_pos, 0, PS2_REPLY_MAX), \
	    STATE_ARRAY(type, member.fifo, 0),                       \
	    STATE_INT_MAX(type, member.head, 0, PS2_FIFO_SIZE - 1),  \
	    STATE_INT_MAX(type, member.count, 0, PS2_FIFO_SIZE),     \
	    STATE_INT(type, member.last, 0)

/* Add to the answer; ps2_answer() begins a new one. */
void ps2_reply(struct ps2_out *out, uint8_t byte);
void ps2_answer(struct ps2_out *out, uint8_t byte);
/* Events: the caller has looked for room. */
void ps2_put(struct ps2_out *out, uint8_t byte);
void ps2_flush(struct ps2_out *out);
/* The next byte to send; false if there is none. */
bool ps2_take(struct ps2_out *out, uint8_t *byte);

/* The code of set 1 for one of set 2 (make codes; others are unchanged). */
uint8_t ps2_set1(uint8_t set2);
#define PS2_SET2_BREAK 0xf0
#define PS2_SET1_BREAK 0x80

struct ps2kbd {
	struct ps2_out out;
	uint8_t command; /* that waits for its argument; 0: none */
	uint8_t leds;
	uint8_t typematic;
	uint8_t scan_set;
	bool scanning;
};
#define PS2KBD_STATE(type, member)                                           \
	PS2_OUT_STATE(type, member.out), STATE_INT(type, member.command, 0), \
	    STATE_INT_MAX(type, member.leds, 0, 7),                          \
	    STATE_INT_MAX(type, member.typematic, 0, 0x7f),                  \
	    STATE_INT_MAX(type, member.scan_set, 0, 2),                      \
	    STATE_BOOL(type, member.scanning, 0)

void ps2kbd_reset(struct ps2kbd *kbd);
void ps2kbd_write(struct ps2kbd *kbd, uint8_t byte);
/* Codes of set 2 of whole key strokes. */
void ps2kbd_key(struct ps2kbd *kbd, const uint8_t *codes, size_t len);

#define PS2MOUSE_MOTION_MAX 4095
#define PS2MOUSE_BUTTONS 7
struct ps2mouse {
	struct ps2_out out;
	uint8_t command; /* that waits for its argument; 0: none */
	uint8_t id;      /* 0, or 3 for one with a wheel */
	uint8_t rate;
	uint8_t rates[2]; /* the ones before, newest first */
	uint8_t resolution;
	bool scale2, remote, wrap, reporting;
	uint8_t buttons; /* pressed now */
	uint8_t told;    /* those of the last packet */
	/* Motion not told yet, each at most PS2MOUSE_MOTION_MAX either way. */
	int16_t dx, dy, dz;
};
#define PS2MOUSE_STATE(type, member)                                         \
	PS2_OUT_STATE(type, member.out), STATE_INT(type, member.command, 0), \
	    STATE_INT_MAX(type, member.id, 0, 3),                            \
	    STATE_INT(type, member.rate, 0),                                 \
	    STATE_ARRAY(type, member.rates, 0),                              \
	    STATE_INT_MAX(type, member.resolution, 0, 3),                    \
	    STATE_BOOL(type, member.scale2, 0),                              \
	    STATE_BOOL(type, member.remote, 0),                              \
	    STATE_BOOL(type, member.wrap, 0),                                \
	    STATE_BOOL(type, member.reporting, 0),                           \
	    STATE_INT_MAX(type, member.buttons, 0, PS2MOUSE_BUTTONS),        \
	    STATE_INT_MAX(type, member.told, 0, PS2MOUSE_BUTTONS),           \
	    STATE_INT(type, member.dx, 0), STATE_INT(type, member.dy, 0),    \
	    STATE_INT(type, member.dz, 0)

void ps2mouse_reset(struct ps2mouse *mouse);
void ps2mouse_write(struct ps2mouse *mouse, uint8_t byte);
/* Motion in counts and the buttons pressed now, as in i8042.h. */
void ps2mouse_event(struct ps2mouse *mouse, int dx, int dy, int dz,
    unsigned buttons);
/* Room may have come: make packets of what is not told yet. */
void ps2mouse_report(struct ps2mouse *mouse);
bool ps2mouse_possible(const struct ps2mouse *mouse);

#endif
