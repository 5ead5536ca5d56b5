/*
 * The real-time clock as others see it: tools set it, firmware looks into it.
 *
 * Times are what the clock shows, as seconds since 1970-01-01 00:00:00 of its
 * own calendar: UTC or local, as rtc.use_localtime says.  Any thread may call,
 * with no lock above the device's held.
 */
#ifndef CHIPSET_RTC_H
#define CHIPSET_RTC_H

#include "base/err.h"
#include "vm/device.h"

#define RTC_NVRAM_SIZE 128

/* -ERANGE outside the years 0 to 9999; -EBUSY if the guest has stopped it. */
int rtc_set_time(struct device *dev, int64_t seconds, struct err *err);
/* -EBUSY while the guest has stopped it, or set it to no date at all. */
int rtc_get_time(struct device *dev, int64_t *seconds, struct err *err);

/* Any of the 128 bytes, as a guest would read it but without side effects. */
int rtc_nvram_read(struct device *dev, unsigned offset, uint8_t *value,
    struct err *err);
/* -EPERM for clock and status registers: 0 to 13, and the century at 0x32. */
int rtc_nvram_write(struct device *dev, unsigned offset, uint8_t value,
    struct err *err);

#endif
