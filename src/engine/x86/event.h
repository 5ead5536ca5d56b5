/*
 * Exceptions and interrupts on their way into the guest.
 */
#ifndef ENGINE_X86_EVENT_H
#define ENGINE_X86_EVENT_H

#include "engine/x86/cpu.h"

/*
 * Deliver cpu->event, an exception raised by the instruction at rip (a fault, or
 * a trap after it).  Exceptions on the way become a double fault; false is a
 * triple fault: the processor has shut down.  Never jumps to cpu->jmp.
 */
bool x86_deliver_exception(struct x86_cpu *cpu);
/* A vector from outside (NMI is 2); rip is where the guest goes on. */
bool x86_deliver_interrupt(struct x86_cpu *cpu, uint8_t vector);

/*
 * INT n, INT3, INT1, INTO as instructions: with their DPL and virtual-8086
 * checks.  rip is the next instruction's; raises like any instruction.
 */
void x86_soft_interrupt(struct x86_cpu *cpu, uint8_t vector, bool int3);

/* Would INTR be taken now?  (IF, shadows) */
static inline bool
x86_interruptible(const struct x86_cpu *cpu)
{
	return (cpu->rflags & X86_IF) && !cpu->sti_shadow &&
	    !cpu->mov_ss_shadow;
}

#endif
