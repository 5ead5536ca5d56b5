/* Four vCPUs: INIT, SIPI, interrupts between them, one memory. */
#include "guest.h"

#define VECTOR 0x51
#define ROUNDS 500u
#define ICR_INIT 0x4500u
#define ICR_NMI 0x4400u
#define ICR_OTHERS 0xc0000u

static volatile uint32_t here;  /* APs that have arrived */
static volatile uint32_t ids;   /* a bit for each APIC ID seen */
static volatile uint32_t go;    /* a round that everybody takes part in */
static volatile uint32_t total; /* counted by all with locked adds */
static volatile uint32_t ready; /* finished counting */
static volatile uint32_t ipis;  /* handled by APs */
static volatile uint32_t nmis;
static volatile uint32_t wakes; /* HLTs that ended */

HANDLER(ipi)
{
	__atomic_add_fetch(&ipis, 1, __ATOMIC_SEQ_CST);
	lapic_eoi();
}

HANDLER(nmi)
{
	__atomic_add_fetch(&nmis, 1, __ATOMIC_SEQ_CST);
}

static bool
reaches(const volatile uint32_t *value, uint32_t want)
{
	uint32_t start = clock_us();

	while (*value != want && clock_us() - start < 20000000)
		__asm__ volatile("pause");
	return *value == want;
}

void
ap_main(unsigned n UNUSED)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	__atomic_or_fetch(&ids, 1u << (r[1] >> 24), __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&here, 1, __ATOMIC_SEQ_CST);
	while (!go)
		__asm__ volatile("pause");
	for (unsigned i = 0; i < ROUNDS; i++)
		__atomic_add_fetch(&total, 1, __ATOMIC_SEQ_CST);
	lapic_init();
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		sti_hlt_cli();
		__atomic_add_fetch(&wakes, 1, __ATOMIC_SEQ_CST);
	}
}

/* Whoever is about to sleep does. */
static void
all_asleep(void)
{
	delay_us(20000);
}

void
payload(void)
{
	test("smp");
	gate(2, nmi);
	gate(VECTOR, ipi);
	lapic_init();
	delay_us(20000);
	check_eq("nobody runs before its SIPI", here, 0);

	start_ap(1);
	check("vCPU 1 starts", reaches(&here, 1));
	start_ap(2);
	check("vCPU 2 starts", reaches(&here, 2));
	start_ap(3);
	check("vCPU 3 starts", reaches(&here, 3));
	check_eq("each knows its APIC ID", ids, 0xe);
	lapic_ipi(3, 0x4600 | 0x8);
	delay_us(20000);
	check_eq("a second SIPI is ignored", here, 3);

	go = 1;
	for (unsigned i = 0; i < ROUNDS; i++)
		__atomic_add_fetch(&total, 1, __ATOMIC_SEQ_CST);
	check("all get through", reaches(&ready, 3));
	check_eq("no locked add is lost", total, 4 * ROUNDS);

	all_asleep();
	lapic_ipi(2, VECTOR);
	check("an interrupt to one", reaches(&ipis, 1));
	check("ends its HLT", reaches(&wakes, 1));
	all_asleep();
	lapic_write(LAPIC_ICR, ICR_OTHERS | VECTOR);
	check("to all the others", reaches(&ipis, 4));
	check("ends theirs", reaches(&wakes, 4));
	all_asleep();
	lapic_ipi(1, ICR_NMI);
	check("an NMI to one", reaches(&nmis, 1));
	check("ends its HLT, too", reaches(&wakes, 5));

	/* INIT takes a vCPU back to waiting; the next SIPI starts it afresh. */
	lapic_ipi(2, ICR_INIT);
	delay_us(20000);
	lapic_ipi(2, VECTOR);
	delay_us(20000);
	check_eq("after INIT it hears no interrupt", ipis, 4);
	start_ap(2);
	check("and starts again", reaches(&ready, 4));
	check_eq("as a fresh one", ap_count, 4);
	done();
}
