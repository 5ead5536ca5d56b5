/*
 * Deadlines of timers that count ticks of the machine clock.
 */
#ifndef CHIPSET_TICKS_H
#define CHIPSET_TICKS_H

#include "vm/clock.h"

/*
 * The first nanosecond at which `ticks` of hz have passed: a timer that fires
 * then finds them with clock_ns_to_ticks().  UINT64_MAX if that is beyond time.
 */
static inline uint64_t
ticks_deadline(uint64_t ticks, uint32_t hz)
{
	uint64_t ns = clock_ticks_to_ns(ticks, hz);

	if (ns < UINT64_MAX && clock_ns_to_ticks(ns, hz) < ticks)
		ns++;
	return ns;
}

#endif
