/*
 * The PHY of an e1000: a Marvell 88E1000 for 1000BASE-T, reached by MDIC.
 *
 * Models       IEEE 802.3 clause 22 registers and the 88E1000's own that
 *              drivers look at.  Auto-negotiation is over at once and has
 *              always found a gigabit partner; what the guest advertises does
 *              not change the link.
 * Leaves out   loopback, interrupts of the PHY's own, forced speeds.
 */
#include <errno.h>

#include "nic/e1000_impl.h"

#define MDIC_DATA 0x0000ffffu
#define MDIC_REG(mdic) ((mdic) >> 16 & 31)
#define MDIC_PHY(mdic) ((mdic) >> 21 & 31)
#define MDIC_OP(mdic) ((mdic) >> 26 & 3)
#define MDIC_WRITE 1
#define MDIC_READ 2
#define MDIC_READY BIT(28)
#define MDIC_INTERRUPT BIT(29)
#define MDIC_ERROR BIT(30)

#define PHY_ADDRESS 1
#define PHY_CONTROL 0
#define PHY_STATUS 1
#define PHY_SPECIFIC 17

#define CONTROL_RESET BIT(15)
#define CONTROL_POWER_DOWN BIT(11)
#define CONTROL_RESTART BIT(9)
#define STATUS_LINK BIT(2)
#define STATUS_NEGOTIATED BIT(5)
#define SPECIFIC_LINK BIT(10)
#define SPECIFIC_RESOLVED BIT(11)

static const struct {
	uint16_t reset, writable;
} registers[E1000_PHY_REGS] = {
	[PHY_CONTROL] = { 0x1140, 0x3dc0 }, /* negotiate, duplex, 1000 */
	[PHY_STATUS] = { 0x7949, 0 },
	[2] = { 0x0141, 0 }, /* 88E1000, ... */
	[3] = { 0x0c24, 0 }, /* ... its revision 4 in an 82545 */
	[4] = { 0x0de1, 0xffff },
	[5] = { 0x4de1, 0 },      /* the partner takes it all */
	[6] = { 0x000f, 0 },      /* and negotiates */
	[7] = { 0x2001, 0xffff }, /* next page */
	[9] = { 0x0300, 0xffff }, /* advertise 1000, both duplexes */
	[10] = { 0x7c00, 0 },     /* master, receivers fine, partner has 1000 */
	[15] = { 0x3000, 0 },
	[16] = { 0x0068, 0xffff },
	[PHY_SPECIFIC] = { 0xa000, 0 }, /* 1000, full duplex */
	[18] = { 0x0000, 0xffff },
	[20] = { 0x0d60, 0xffff },
	[24] = { 0x4100, 0xffff },
	[29] = { 0x0000, 0xffff },
	[30] = { 0x0000, 0xffff },
};

void
e1000_phy_reset(struct e1000 *e)
{
	for (unsigned i = 0; i < E1000_PHY_REGS; i++)
		e->phy[i] = registers[i].reset;
}

bool
e1000_phy_up(const struct e1000 *e)
{
	return !(e->phy[PHY_CONTROL] & CONTROL_POWER_DOWN);
}

static uint16_t
phy_read(const struct e1000 *e, unsigned reg)
{
	bool link = e1000_phy_up(e) &&
	    atomic_load_explicit(&e->carrier, memory_order_relaxed);
	uint16_t value = e->phy[reg];

	if (reg == PHY_STATUS && link)
		value |= STATUS_LINK | STATUS_NEGOTIATED;
	if (reg == PHY_SPECIFIC && link)
		value |= SPECIFIC_LINK | SPECIFIC_RESOLVED;
	return value;
}

static void
phy_write(struct e1000 *e, unsigned reg, uint16_t value)
{
	uint16_t writable = registers[reg].writable;

	if (reg == PHY_CONTROL && (value & CONTROL_RESET))
		e1000_phy_reset(e);
	else
		e->phy[reg] =
		    (uint16_t)((e->phy[reg] & ~writable) | (value & writable));
	e1000_link_update(e);
}

/* What MDIC holds after a write of value. */
uint32_t
e1000_mdic_write(struct e1000 *e, uint32_t value)
{
	unsigned reg = MDIC_REG(value), op = MDIC_OP(value);

	value &= ~(uint32_t)(MDIC_READY | MDIC_ERROR | BIT(31));
	if (MDIC_PHY(value) != PHY_ADDRESS ||
	    (op != MDIC_READ && op != MDIC_WRITE))
		value |= MDIC_ERROR;
	else if (op == MDIC_READ)
		value = (value & ~MDIC_DATA) | phy_read(e, reg);
	else
		phy_write(e, reg, (uint16_t)value);
	if (value & MDIC_INTERRUPT)
		e1000_raise(e, E1000_ICR_MDAC);
	return value | MDIC_READY;
}

int
e1000_phy_check(const struct e1000 *e, struct err *err)
{
	for (unsigned i = 0; i < E1000_PHY_REGS; i++) {
		if ((e->phy[i] ^ registers[i].reset) & ~registers[i].writable)
			return err_set(err, -EINVAL,
			    "e1000: register %u of the PHY cannot be 0x%04x", i,
			    e->phy[i]);
	}
	return 0;
}
