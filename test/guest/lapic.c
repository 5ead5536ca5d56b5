/* The local APIC: identity, priorities, interrupts to itself. */
#include "guest.h"

#define MSR_APIC_BASE 0x1b
#define ICR_SELF 0x40000u
#define ICR_NMI 0x400u

static volatile unsigned order[8];
static volatile unsigned seen;
static volatile unsigned nmis;

static void
arrived(unsigned vector)
{
	if (seen < 8)
		order[seen] = vector;
	seen++;
	lapic_eoi();
}

#define VECTOR(n)               \
	HANDLER(vector##n)      \
	{                       \
		arrived(0x##n); \
	}
VECTOR(45)
VECTOR(61)
VECTOR(91)

HANDLER(nmi)
{
	nmis++;
}

void
payload(void)
{
	uint32_t r[4];

	test("lapic");
	gate(2, nmi);
	gate(0x45, vector45);
	gate(0x61, vector61);
	gate(0x91, vector91);
	pic_init();

	check_eq("base, BSP, enabled", (uint32_t)rdmsr(MSR_APIC_BASE),
	    0xfee00900);
	check_eq("ID", lapic_read(LAPIC_ID), 0);
	cpuid(1, 0, r);
	check_eq("CPUID says the same ID", r[1] >> 24, 0);
	check_eq("CPUID says there is one", r[3] >> 9 & 1, 1);
	check_eq("version is of an integrated APIC",
	    lapic_read(LAPIC_VERSION) & 0xf0, 0x10);
	check_eq("disabled by software after reset", lapic_read(LAPIC_SVR),
	    0xff);
	lapic_init();

	lapic_write(LAPIC_ICR, ICR_SELF | 0x45);
	check("pending before it is taken", lapic_bit(LAPIC_IRR, 0x45));
	settle();
	check_eq("an interrupt to itself", seen, 1);

	seen = 0;
	lapic_write(LAPIC_TPR, 0x50);
	check_eq("PPR follows TPR", lapic_read(LAPIC_PPR), 0x50);
	lapic_write(LAPIC_ICR, ICR_SELF | 0x45);
	lapic_write(LAPIC_ICR, ICR_SELF | 0x61);
	settle();
	check("TPR holds back the lower class", seen == 1 && order[0] == 0x61);
	lapic_write(LAPIC_TPR, 0);
	settle();
	check("and lets it go", seen == 2 && order[1] == 0x45);

	seen = 0;
	lapic_write(LAPIC_ICR, ICR_SELF | 0x45);
	lapic_write(LAPIC_ICR, ICR_SELF | 0x91);
	lapic_write(LAPIC_ICR, ICR_SELF | 0x61);
	settle();
	check("highest first",
	    seen == 3 && order[0] == 0x91 && order[1] == 0x61 &&
		order[2] == 0x45);

	lapic_ipi(0, 0x45);
	settle();
	check_eq("physical destination", seen, 4);
	lapic_ipi(0, ICR_NMI);
	settle();
	check_eq("an NMI to itself", nmis, 1);
	done();
}
