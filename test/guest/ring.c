/*
 * A task state segment, and ring 3.
 */
#include "ring.h"

struct tss ring_tss;
uint8_t ring_stack[4096] __attribute__((aligned(16)));
uintptr_t user_flags = 2;
uintptr_t insn_at, insn_end;

void
ring_init(void)
{
	uintptr_t base = (uintptr_t)&ring_tss;

	traps_init();
	ring_tss.iomap = sizeof(ring_tss);
	gdt[TSS_SELECTOR / 8] =
	    segment((uint32_t)base, sizeof(ring_tss) - 1, DESC_TSS32);
#ifdef __x86_64__
	gdt[TSS_SELECTOR / 8 + 1] = base >> 32;
	ring_tss.rsp[0] = RING_STACK;
	for (unsigned i = 0; i < 8 * 512; i++)
		pds[i] |= PTE_U;
	for (unsigned i = 0; i < 8; i++)
		pdpt[i] |= PTE_U;
	pml4[0] |= PTE_U;
	flush_tlb();
#else
	ring_tss.stack[0].esp = RING_STACK;
	ring_tss.stack[0].ss = DATA_SELECTOR;
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_DATA));
#endif
	__asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}
