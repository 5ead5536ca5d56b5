/*
 * What segments refuse in protected mode.  A payload of its own, because QEMU's
 * emulated processor does not check limits and types of data segments.
 */
#include "guest.h"

#define GP 13

static uint32_t
load(uint64_t descriptor)
{
	gdt[5] = descriptor;
	return TRY("mov %0, %%fs", "r"(0x28));
}

void
payload(void)
{
	test("limits");
	traps_init();
	check_eq("256 bytes at 1 MiB", load(0x00409310000000ffULL), NO_FAULT);
	check_eq("inside the limit", TRY("movl %%fs:0xfc, %%eax", "a"(0)),
	    NO_FAULT);
	check_eq("over it", TRY("movl %%fs:0xfd, %%eax", "a"(0)), GP);
	check_eq("behind it", TRY("movb %%fs:0x100, %%al", "a"(0)), GP);
	check_eq("read-only", load(0x00409110000000ffULL), NO_FAULT);
	check_eq("refuses a write", TRY("movl %%eax, %%fs:0", "a"(0)), GP);
	check_eq("expands down from 256", load(0x00409710000000ffULL),
	    NO_FAULT);
	check_eq("above its limit", TRY("movb %%fs:0x100, %%al", "a"(0)),
	    NO_FAULT);
	check_eq("at it", TRY("movb %%fs:0xff, %%al", "a"(0)), GP);
	__asm__ volatile("mov %0, %%fs" : : "r"(0));
	check_eq("the null segment", TRY("movb %%fs:0, %%al", "a"(0)), GP);
	done();
}
