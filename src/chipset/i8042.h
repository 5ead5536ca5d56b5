/*
 * Key strokes and mouse motion from outside, for the PS/2 devices.
 *
 * dev is of the model "i8042".  Any thread may call; the device's lock is
 * taken.  Input that finds no room is lost as on the real thing: the queues
 * have the size of their originals.
 */
#ifndef CHIPSET_I8042_H
#define CHIPSET_I8042_H

#include "vm/device.h"

/* Scan codes of set 2, whole strokes: { 0x1c }, { 0xe0, 0xf0, 0x75 }. */
void i8042_key(struct device *dev, const uint8_t *codes, size_t len);

/*
 * Motion in counts, positive to the right, upwards, and wheel towards the
 * user; buttons pressed now: bit 0 left, 1 right, 2 middle.
 */
void i8042_mouse(struct device *dev, int dx, int dy, int dz, unsigned buttons);

#endif
