/* Two vCPUs that sleep for ever with interrupts on, for test/idle.py. */
#include "guest.h"

static volatile uint32_t asleep;

static void
sleep(void)
{
	lapic_init();
	__atomic_add_fetch(&asleep, 1, __ATOMIC_SEQ_CST);
	for (;;)
		sti_hlt_cli();
}

void
ap_main(unsigned n UNUSED)
{
	sleep();
}

void
payload(void)
{
	test("idle");
	pic_init();
	lapic_init();
	start_ap(1);
	while (asleep < 1)
		__asm__ volatile("pause");
	check("two vCPUs go to sleep", true);
	done_line();
	sleep();
}
