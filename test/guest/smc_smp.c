/*
 * Code that another vCPU changes (SDM volume 3, 8.1.3, cross-modifying code):
 * the one that runs it waits for a flag, serializes, and must then see all of
 * it.  Without that protocol only a change within an aligned quadword is
 * certain (APM volume 2, 7.6.1), and then each call runs the old code or the
 * new; the new one before long.  Two vCPUs.
 */
#include "ring.h"

typedef uint32_t function(void);

#define ROUNDS 300u

static uint8_t page[4096] __attribute__((aligned(4096)));
static volatile uint32_t turn, answer;
static volatile uint32_t stop, last, strange, calls;

#define PROTOCOL page
#define RACE (page + 256)
#define BOTH (page + 512)

static void
write_function(volatile uint8_t *code, uint32_t value)
{
	code[0] = 0xb8;
	for (int i = 0; i < 4; i++)
		code[1 + i] = (uint8_t)(value >> (8 * i));
	code[5] = 0xc3;
}

static void
serialize(void)
{
	uint32_t r[4];

	cpuid(0, 0, r);
}

static uint32_t
call(uint8_t *code)
{
	return ((function *)code)();
}

void
ap_main(unsigned n UNUSED)
{
	/* Odd turns are this one's. */
	for (unsigned i = 0; i < ROUNDS; i++) {
		while (turn != 2 * i + 1)
			__asm__ volatile("pause");
		serialize();
		answer = call(PROTOCOL);
		turn = 2 * i + 2;
	}
	while (stop == 0) {
		uint32_t value = call(RACE);

		if (value != 0x01010101 && value != 0x02020202)
			strange++;
		last = value;
		calls++;
	}
	/* Writes the other one's code while that runs. */
	for (unsigned i = 1; i < 20000; i++)
		*(volatile uint32_t *)(BOTH + 4) = i;
	*(volatile uint32_t *)(BOTH + 4) = 20000;
	stop = 2;
	for (;;)
		__asm__ volatile("pause");
}

void
payload(void)
{
	uint32_t start, right = 0, wrong, before;

	test("smc_smp");
	write_function(RACE, 0x01010101);
	start_ap(1);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		write_function(PROTOCOL, i * 0x10001);
		turn = 2 * i + 1;
		while (turn != 2 * i + 2)
			__asm__ volatile("pause");
		right += answer == i * 0x10001;
	}
	check_eq("by the protocol", right, ROUNDS);

	before = calls;
	start = clock_us();
	for (uint32_t i = 0; clock_us() - start < 200000; i++)
		*(volatile uint64_t *)RACE =
		    i & 1 ? 0xc301010101b8 : 0xc302020202b8;
	check_eq("old code or new, nothing else", strange, 0);
	check("it ran", calls != before);
	*(volatile uint64_t *)RACE = 0xc302020202b8;
	start = clock_us();
	while (last != 0x02020202 && clock_us() - start < 1000000)
		;
	check_eq("the new before long", last, 0x02020202);

	/* MOV EAX, imm32 with the immediate aligned: it only grows. */
	write_function(BOTH + 3, 0);
	stop = 1;
	wrong = before = 0;
	while (stop != 2) {
		uint32_t value = call(BOTH + 3);

		if (value < before)
			wrong++;
		before = value;
	}
	check_eq("never older than before", wrong, 0);
	serialize();
	check_eq("the last of many", call(BOTH + 3), 20000);
	done();
}
