/*
 * An exception while #DF is delivered ends the machine (SDM volume 3, 6.15,
 * interrupt 8), here a page fault: #DF has a stack that is not mapped.
 */
#include "ring.h"

#define HOLE 0x50000000u

void
payload(void)
{
	test("shutdown");
	ring_init();
	*pde(HOLE) = 0;
	flush_tlb();
	idt[2 * PF] |= 1ULL << 32;
	idt[2 * DF] |= 1ULL << 32;
	ring_tss.ist[0] = HOLE + 0x1000;
	check_eq("a page fault in its place is none", TRY("ud2", "r"(0)), UD);
	done_line();
	(void)TRY("mov %0, (%0)", "r"((uint64_t)HOLE));
	check("still here", false);
	done();
}
