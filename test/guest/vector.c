/*
 * SSE and x87 in ring 0, also on a device.  A payload of its own, because a
 * /dev/kvm that only emulates lacks them there.
 */
#include "guest.h"

#define CR4_OSFXSR 0x200u

static void
vectors(void)
{
	static const double numbers[2]
	    __attribute__((aligned(16))) = { 1.5, 2.25 };
	static uint64_t result[2] __attribute__((aligned(16)));

	__asm__ volatile("movapd %1, %%xmm0; mulpd %%xmm0, %%xmm0;"
			 "movapd %%xmm0, %0"
			 : "=m"(result)
			 : "m"(numbers)
			 : "memory");
	check64("1.5 squared", result[0], 0x4002000000000000);
	check64("2.25 squared", result[1], 0x4014400000000000);
	__asm__ volatile("fninit; fld1; fldpi; faddp; fstpl %0"
			 : "=m"(result)
			 :
			 : "memory");
	check64("x87: pi and 1", result[0], 0x401090fdaa22168c);
}

static void
mmio(void)
{
	volatile uint64_t *window = (volatile uint64_t *)TESTDEV_MMIO;
	static uint64_t buf[4] __attribute__((aligned(16)));

	/* 16 bytes are two accesses: the bus is 8 bytes wide. */
	buf[2] = 0x0123456789abcdef;
	buf[3] = 0xfedcba9876543210;
	__asm__ volatile("movdqa %0, %%xmm3; movdqu %%xmm3, (%1)"
			 :
			 : "m"(buf[2]), "r"(window + 4)
			 : "memory");
	check64("XMM to the device, low", window[4], buf[2]);
	check64("high", window[5], buf[3]);
	__asm__ volatile("movdqu (%1), %%xmm5; movdqa %%xmm5, %0"
			 : "=m"(buf[0])
			 : "r"(window + 4)
			 : "memory");
	check64("and back, low", buf[0], buf[2]);
	check64("high", buf[1], buf[3]);
}

void
payload(void)
{
	test("vector");
	__asm__ volatile("mov %%cr4, %%rax; or %0, %%rax; mov %%rax, %%cr4"
			 :
			 : "i"(CR4_OSFXSR)
			 : "rax");
	vectors();
	mmio();
	done();
}
