/*
 * The time stamp counter among four vCPUs: one who reads it after another one
 * did reads no less (SDM volume 3, 17.17), and the counters do not stand still.
 */
#include "ring.h"

#define CPUS 4u
#define ROUNDS 2000u

static volatile uint32_t lock, finished;
static uint64_t last;
static volatile uint32_t backwards, still, reads[CPUS];

static uint64_t
ordered_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc; lfence"
			 : "=a"(low), "=d"(high)
			 :
			 : "memory");
	return (uint64_t)high << 32 | low;
}

static void
take_turns(unsigned me)
{
	uint64_t own = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t now;

		while (__atomic_exchange_n(&lock, 1, __ATOMIC_ACQUIRE) != 0)
			__asm__ volatile("pause");
		now = ordered_tsc();
		backwards += now < last;
		last = now;
		reads[me]++;
		__atomic_store_n(&lock, 0, __ATOMIC_RELEASE);
		still += now == own;
		own = now;
	}
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
}

void
ap_main(unsigned n)
{
	take_turns(n);
	for (;;)
		__asm__ volatile("pause");
}

void
payload(void)
{
	test("tsc_smp");
	for (unsigned i = 1; i < CPUS; i++)
		start_ap(i);
	take_turns(0);
	while (finished != CPUS)
		__asm__ volatile("pause");
	check_eq("it never went backwards", backwards, 0);
	check_eq("nor stood still", still, 0);
	for (unsigned i = 0; i < CPUS; i++)
		check_eq("reads", reads[i], ROUNDS);
	done();
}
