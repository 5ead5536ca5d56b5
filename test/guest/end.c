/* The ways in which a guest ends its machine, one a build of this file. */
#include "guest.h"

void
payload(void)
{
#if defined(END_POWEROFF)
	test("end_poweroff");
	done();
#elif defined(END_RESET_CF9)
	test("end_reset_cf9");
	/* Bit 2 starts a reset; bit 1 alone only says which kind. */
	out8(0xcf9, 0x02);
	check_eq("reset control reads back", in8(0xcf9), 0x02);
	done_line();
	out8(0xcf9, 0x06);
#elif defined(END_RESET_8042)
	test("end_reset_8042");
	done_line();
	while (in8(0x64) & 0x02)
		;
	out8(0x64, 0xfe);
#elif defined(END_TRIPLE)
	static const struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) none = { 0, 0 };

	test("end_triple");
	done_line();
	__asm__ volatile("lidt %0; ud2" : : "m"(none));
#elif defined(END_HALT)
	test("end_halt");
	done_line();
#endif
	for (;;)
		__asm__ volatile("cli; hlt");
}
