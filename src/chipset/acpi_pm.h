/*
 * The ACPI fixed hardware, as the rest of the machine sees it: a power button and
 * general purpose events.
 *
 * dev is of the model "acpi_pm"; every call may come from any thread and takes
 * the device's lock.
 */
#ifndef CHIPSET_ACPI_PM_H
#define CHIPSET_ACPI_PM_H

#include "vm/device.h"

/*
 * Press and release the power button.  False, and nothing happens, while the
 * guest is not in ACPI mode (SCI_EN): nobody would see it.
 */
bool acpi_pm_power_button(struct device *dev);

/* Raise general purpose event n, one of ACPI_PM_GPES. */
#define ACPI_PM_GPES 1
void acpi_pm_raise_gpe(struct device *dev, unsigned n);

#endif
