/*
 * The memory map as BIOS E820 would tell it.
 *
 * Models       bhyve's: RAM below 640 KiB, from 1 MiB to the end of low
 *              memory, and from 4 GiB.  All else is left out rather than
 *              called reserved: the VGA window and the BIOS area, where our
 *              tables lie, and the ECAM window, which the DSDT reserves.
 */
#include "firmware/boot.h"

#define E820_RAM 1u
#define LOW_END 0xa0000u /* 640 KiB, where the VGA window begins */

static void
e820_add(struct e820_entry map[E820_MAX], unsigned *n, uint64_t base,
    uint64_t end)
{
	if (base < end)
		map[(*n)++] = (struct e820_entry) {
			.base = base,
			.len = end - base,
			.type = E820_RAM,
		};
}

unsigned
e820_map(const struct mem *mem, struct e820_entry map[E820_MAX])
{
	uint64_t lowmem = mem_lowmem(mem);
	unsigned n = 0;

	e820_add(map, &n, 0, MIN(lowmem, LOW_END));
	e820_add(map, &n, MIB, lowmem);
	e820_add(map, &n, 4 * GIB, 4 * GIB + mem_highmem(mem));
	return n;
}
