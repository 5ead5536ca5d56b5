/*
 * NMI: not maskable by IF, masked from its delivery to the next IRET (SDM
 * volume 3, 6.7.1), one of them remembered meanwhile; and out of HLT.  The
 * machine has two vCPUs: the other one sends what must arrive while this one
 * sleeps.
 */
#include "ring.h"

#define ICR_NMI 0x4400u

static volatile unsigned nmis, depth, deepest, inside;
static volatile bool send_again, iret_inside;
static volatile uintptr_t nmi_ip, nmi_flags;
static volatile uint32_t request; /* of the other vCPU: after so many us */

static uint64_t
long_enough(void)
{
	for (unsigned i = 0; i < 2000; i++)
		__asm__ volatile("pause");
	return clock_us();
}

/* IRET to the next instruction, as any handler within this one would. */
static void
iret_here(void)
{
	__asm__ volatile("mov %%rsp, %%rax; push $0x10; push %%rax; pushf;"
			 "push $0x08; push $1f; iretq; 1:" ::
			     : "rax", "memory");
}

HANDLER(nmi)
{
	nmis++;
	depth++;
	if (depth > deepest)
		deepest = depth;
	nmi_ip = frame->ip;
	nmi_flags = frame->flags;
	if (send_again) {
		send_again = false;
		for (int i = 0; i < 3; i++)
			lapic_ipi(0, ICR_NMI);
		(void)long_enough();
		inside = nmis;
		if (iret_inside)
			iret_here();
		(void)long_enough();
	}
	depth--;
}

void
ap_main(unsigned n UNUSED)
{
	lapic_init();
	for (;;) {
		while (request == 0)
			__asm__ volatile("pause");
		delay_us(request);
		request = 0;
		lapic_ipi(0, ICR_NMI);
	}
}

static bool
wait_nmis(unsigned want)
{
	uint32_t start = clock_us();

	while (nmis < want && clock_us() - start < 1000000)
		;
	(void)long_enough();
	return nmis == want;
}

static void
masking(void)
{
	lapic_ipi(0, ICR_NMI);
	check("an NMI arrives with IF clear", wait_nmis(1));
	check_eq("with the flags saved", nmi_flags & (FLAG_IF | 2), 2);

	send_again = true;
	lapic_ipi(0, ICR_NMI);
	check("three more within the handler are one", wait_nmis(3));
	check_eq("not before its IRET", inside, 2);
	check_eq("so the handler was not nested", deepest, 1);

	nmis = 0;
	deepest = 0;
	send_again = iret_inside = true;
	lapic_ipi(0, ICR_NMI);
	check("any IRET lets the next one in", wait_nmis(2));
	check_eq("nested then", deepest, 2);
}

static void
halted(void)
{
	uintptr_t behind;

	nmis = 0;
	request = 2000;
	__asm__ volatile("lea 1f(%%rip), %0; hlt; 1:"
			 : "=r"(behind)
			 :
			 : "memory");
	check_eq("HLT with IF clear ends by an NMI", nmis, 1);
	check64("which returns behind it", nmi_ip, behind);
}

/* In ring 3, and on a stack of its own. */
static void
from_ring3(void)
{
	nmis = 0;
	request = 2000;
	check_eq("ring 3 is interrupted and goes on",
	    USER_FULL("2: pause; cmpl $0, %1; je 2b", ,
		OPERANDS("r"(0), "m"(nmis)), "cc"),
	    HOME);
	check_eq("once", nmis, 1);
}

void
payload(void)
{
	test("nmi");
	ring_init();
	lapic_init();
	gate(NMI, nmi);
	start_ap(1);
	while (ap_count == 0)
		;
	masking();
	halted();
	from_ring3();
	done();
}
