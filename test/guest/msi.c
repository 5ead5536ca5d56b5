/* Messages as PCI devices send them, sent by the test device. */
#include "guest.h"

#define VECTOR 0x51
#define MSI_ADDR(dest) (0xfee00000u | (dest) << 12)
#define MSI_LOGICAL 0x4u
#define MSI_LOWEST 0x100u
#define MSI_NMI 0x400u

static volatile unsigned arrived;
static volatile unsigned nmis;

HANDLER(message)
{
	arrived++;
	lapic_eoi();
}

HANDLER(nmi)
{
	nmis++;
}

static void
send(uint32_t addr, uint32_t data)
{
	out32(TESTDEV_MSI_ADDR, addr);
	out32(TESTDEV_MSI_DATA, data);
	settle();
}

void
payload(void)
{
	test("msi");
	pic_init();
	lapic_init();
	lapic_write(LAPIC_DFR, 0xffffffff);
	lapic_write(LAPIC_LDR, 0x02000000);
	gate(2, nmi);
	gate(VECTOR, message);

	send(MSI_ADDR(0), VECTOR);
	check_eq("fixed, physical destination", arrived, 1);
	send(MSI_ADDR(0), VECTOR);
	check_eq("and again", arrived, 2);
	send(MSI_ADDR(0xff), VECTOR);
	check_eq("to everybody", arrived, 3);
	send(MSI_ADDR(2) | MSI_LOGICAL, VECTOR);
	check_eq("logical destination", arrived, 4);
	send(MSI_ADDR(2) | MSI_LOGICAL, VECTOR | MSI_LOWEST);
	check_eq("lowest priority", arrived, 5);
	send(MSI_ADDR(9), VECTOR);
	check_eq("to nobody", arrived, 5);
	send(MSI_ADDR(4) | MSI_LOGICAL, VECTOR);
	check_eq("to nobody, logically", arrived, 5);
	lapic_write(LAPIC_TPR, 0x60);
	send(MSI_ADDR(0), VECTOR);
	check_eq("held back by TPR", arrived, 5);
	lapic_write(LAPIC_TPR, 0);
	settle();
	check_eq("until it falls", arrived, 6);
	send(MSI_ADDR(0), MSI_NMI);
	check_eq("as NMI", nmis, 1);
	done();
}
