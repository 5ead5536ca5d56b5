/*
 * The reset control register, for the PCI host bridge: port 0xcf9 lies within
 * the dword that belongs to the bridge, which hands accesses of it on.
 */
#ifndef CHIPSET_RESET_H
#define CHIPSET_RESET_H

#include "vm/device.h"

/* dev is of the model "reset"; its lock is taken. */
uint8_t reset_control_read(struct device *dev);
void reset_control_write(struct device *dev, uint8_t value);

#endif
