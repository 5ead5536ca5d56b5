/*
 * The registers of an e1000.
 *
 * Models       SDM (Intel PCI/PCI-X Family of Gigabit Ethernet Controllers,
 *              317453), chapter 13, as far as the table below goes; the rest
 *              reads 0 and ignores writes.  A register is a word: reserved and
 *              read-only bits keep their reset value, others what was written.
 * Leaves out   wake-up, flexible filters, diagnostics of the FIFOs, the TBI of
 *              fibre cards.  Flow control registers hold what is written.
 */
#include <errno.h>
#include <inttypes.h>

#include "nic/e1000_impl.h"

#define DELAY_FPD BIT(31)
#define RAH_WRITABLE 0x8003ffffu

struct e1000_reg {
	uint32_t off;
	uint16_t count; /* words */
	enum e1000_slot slot;
	uint32_t reset;
	uint32_t writable;
	uint32_t device; /* bits that the device itself changes */
	/* Optional: what a read gives instead of the word. */
	uint32_t (
	    *read)(struct e1000 *e, const struct e1000_reg *reg, unsigned i);
	/* Optional: a write instead of one to the writable bits. */
	void (*write)(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
	    uint32_t value);
};

/* ---- statistics ---------------------------------------------------------- */

void
e1000_count(struct e1000 *e, enum e1000_stat stat, uint32_t n)
{
	uint32_t *word = &e->regs[E1000_STAT + stat];

	if (add_overflows(*word, n, word))
		*word = UINT32_MAX;
}

void
e1000_count_octets(struct e1000 *e, enum e1000_stat stat, uint32_t n)
{
	uint32_t *low = &e->regs[E1000_STAT + stat], *high = low + 1;

	if (!add_overflows(*low, n, low) || ++*high != 0)
		return;
	*low = UINT32_MAX;
	*high = UINT32_MAX;
}

void
e1000_count_size(struct e1000 *e, enum e1000_stat first, uint32_t len)
{
	static const uint32_t most[] = { 64, 127, 255, 511, 1023 };
	unsigned i = 0;

	while (i < ARRAY_SIZE(most) && len > most[i])
		i++;
	e1000_count(e, first + i, 1);
}

/* A read clears; of 64 bits, that of the upper half clears both. */
static uint32_t
stat_read(struct e1000 *e, const struct e1000_reg *reg, unsigned i)
{
	uint32_t *word = &e->regs[E1000_STAT + i];
	uint32_t value = *word;

	switch (i) {
	case E1000_GORC:
	case E1000_GOTC:
	case E1000_TOR:
	case E1000_TOT:
		return value;
	case E1000_GORC + 1:
	case E1000_GOTC + 1:
	case E1000_TOR + 1:
	case E1000_TOT + 1:
		word[-1] = 0;
		break;
	default:
		break;
	}
	word[0] = 0;
	return value;
}

/* ---- registers that are more than a word --------------------------------- */

static uint32_t
zero_read(struct e1000 *e, const struct e1000_reg *reg, unsigned i)
{
	return 0;
}

static void
ctrl_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	if (value & E1000_CTRL_PHY_RST)
		e1000_phy_reset(e);
	if (value & E1000_CTRL_RST)
		e1000_soft_reset(e);
	else
		e->regs[E1000_CTRL] = value & reg->writable;
	e1000_link_update(e);
}

static void
eecd_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	uint32_t *eecd = &e->regs[E1000_EECD];

	value = (*eecd & ~reg->writable) | (value & reg->writable);
	*eecd = e1000_eecd_write(e, *eecd, value);
}

static void
eerd_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	e->regs[E1000_EERD] = e1000_eerd_write(e, value);
}

static void
mdic_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	e->regs[E1000_MDIC] = e1000_mdic_write(e, value);
}

static uint32_t
icr_read(struct e1000 *e, const struct e1000_reg *reg, unsigned i)
{
	uint32_t value = e->regs[E1000_ICR];

	e->regs[E1000_ICR] = 0;
	e1000_intr_update(e);
	return value;
}

static void
icr_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	e->regs[E1000_ICR] &= ~value;
	e1000_intr_update(e);
}

static void
ics_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	e1000_raise(e, value & E1000_ICR_ALL);
}

static void
ims_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	e->regs[E1000_IMS] |= value & E1000_ICR_ALL;
	e1000_intr_update(e);
}

static void
imc_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	e->regs[E1000_IMS] &= ~value;
	e1000_intr_update(e);
}

static void
word_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	uint32_t *word = &e->regs[reg->slot + i];

	*word = (*word & ~reg->writable) | (value & reg->writable);
}

/* A frame may be waiting for this. */
static void
rctl_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	word_write(e, reg, i, value);
	event_wake(e->wake);
}

/* As long as none is in hand, the back end says when there is one. */
static void
rx_ring_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	word_write(e, reg, i, value);
	if (e->rx_len != 0)
		event_wake(e->wake);
}

/* A new ring, or another place in it, begins with a packet. */
static void
tx_ring_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	word_write(e, reg, i, value);
	e->tx_segments = 0;
	e->tx_skip = false;
}

static void
tx_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	word_write(e, reg, i, value);
	e1000_tx_run(e);
}

/* The wait is over at once: FPD. */
static void
delay_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	struct e1000_delay *delay =
	    reg->slot == E1000_RDTR ? &e->rx_delay : &e->tx_delay;

	word_write(e, reg, i, value);
	if ((value & DELAY_FPD) && clock_timer_armed(&delay->timer))
		clock_timer_arm(&delay->timer, clock_now(e->clock));
}

static void
rar_write(struct e1000 *e, const struct e1000_reg *reg, unsigned i,
    uint32_t value)
{
	word_write(e, reg, i, i % 2 == 0 ? value : value & RAH_WRITABLE);
}

/* ---- the table ----------------------------------------------------------- */

#define ARRAY(at, words, name, mask, fn)                             \
	{                                                            \
		.off = (at), .count = (words), .slot = E1000_##name, \
		.writable = (mask), .write = (fn)                    \
	}
#define WORD(at, name, dflt, mask)                                       \
	{                                                                \
		.off = (at), .count = 1, .slot = E1000_##name,           \
		.reset = (dflt), .writable = (mask), .write = word_write \
	}
/* Registers with functions of their own; bits are the device's to change. */
#define SPECIAL(at, name, dflt, mask, bits, rd, wr)                    \
	{                                                              \
		.off = (at), .count = 1, .slot = E1000_##name,         \
		.reset = (dflt), .writable = (mask), .device = (bits), \
		.read = (rd), .write = (wr)                            \
	}

#define CTRL_WRITABLE 0x58fc1be9u
#define CTRL_RESET (E1000_CTRL_FD | E1000_CTRL_SPEED_1000)
#define STATUS_RESET (E1000_STATUS_FD | E1000_STATUS_1000)
#define MDIC_RESET 0x10000000u /* ready */
#define LENGTH_MASK 0x000fff80u
#define BASE_MASK 0xfffffff0u
#define ALL UINT32_MAX
#define CAUSES E1000_ICR_ALL

/* In order of offsets. */
static const struct e1000_reg table[] = {
	SPECIAL(0x0000, CTRL, CTRL_RESET, CTRL_WRITABLE, 0, NULL, ctrl_write),
	SPECIAL(0x0004, CTRL, CTRL_RESET, CTRL_WRITABLE, 0, NULL, ctrl_write),
	SPECIAL(0x0008, STATUS, STATUS_RESET, 0, E1000_STATUS_LU, NULL,
	    word_write),
	/* An EEPROM is there and ready; flash cannot be written. */
	SPECIAL(0x0010, EECD, 0x0118, 0x0077, 0x0088, NULL, eecd_write),
	SPECIAL(0x0014, EERD, 0, 0, 0xffffff10, NULL, eerd_write),
	WORD(0x0018, CTRL_EXT, 0, 0x00ca8fef),
	SPECIAL(0x0020, MDIC, MDIC_RESET, 0, 0x7fffffff, NULL, mdic_write),
	WORD(0x0028, FCAL, 0, ALL),
	WORD(0x002c, FCAH, 0, 0xffff),
	WORD(0x0030, FCT, 0, 0xffff),
	WORD(0x0038, VET, 0x8100, 0xffff),
	SPECIAL(0x00c0, ICR, 0, 0, CAUSES, icr_read, icr_write),
	WORD(0x00c4, ITR, 0, 0xffff),
	SPECIAL(0x00c8, ICR, 0, 0, CAUSES, zero_read, ics_write),
	SPECIAL(0x00d0, IMS, 0, 0, CAUSES, NULL, ims_write),
	SPECIAL(0x00d8, IMS, 0, 0, CAUSES, zero_read, imc_write),
	SPECIAL(0x0100, RCTL, 0, 0x06dfb3fe, 0, NULL, rctl_write),
	WORD(0x0170, FCTTV, 0, 0xffff),
	WORD(0x0178, TXCW, 0, 0xc000ffff),
	SPECIAL(0x0400, TCTL, 0, 0x03fffffa, 0, NULL, tx_write),
	WORD(0x0410, TIPG, 0x00602008, 0x3fffffff),
	WORD(0x0458, AIT, 0, 0xffff),
	WORD(0x0e00, LEDCTL, 0x07068302, 0xdfdfdfdf),
	WORD(0x1000, PBA, 0x00100030, 0x7f),
	WORD(0x2160, FCRTL, 0, 0x8000fff8),
	WORD(0x2168, FCRTH, 0, 0xfff8),
	SPECIAL(0x2800, RDBAL, 0, BASE_MASK, 0, NULL, rx_ring_write),
	SPECIAL(0x2804, RDBAH, 0, ALL, 0, NULL, rx_ring_write),
	SPECIAL(0x2808, RDLEN, 0, LENGTH_MASK, 0, NULL, rx_ring_write),
	SPECIAL(0x2810, RDH, 0, 0xffff, 0, NULL, rx_ring_write),
	SPECIAL(0x2818, RDT, 0, 0xffff, 0, NULL, rx_ring_write),
	SPECIAL(0x2820, RDTR, 0, 0xffff, 0, NULL, delay_write),
	WORD(0x2828, RXDCTL, 0x01010000, 0x013f3f3f),
	WORD(0x282c, RADV, 0, 0xffff),
	SPECIAL(0x3800, TDBAL, 0, BASE_MASK, 0, NULL, tx_ring_write),
	SPECIAL(0x3804, TDBAH, 0, ALL, 0, NULL, tx_ring_write),
	SPECIAL(0x3808, TDLEN, 0, LENGTH_MASK, 0, NULL, tx_ring_write),
	SPECIAL(0x3810, TDH, 0, 0xffff, 0, NULL, tx_ring_write),
	SPECIAL(0x3818, TDT, 0, 0xffff, 0, NULL, tx_write),
	SPECIAL(0x3820, TIDV, 0, 0xffff, 0, NULL, delay_write),
	WORD(0x3828, TXDCTL, 0, 0xff3f3f3f),
	WORD(0x382c, TADV, 0, 0xffff),
	WORD(0x3830, TSPMT, 0x01000400, ALL),
	{ .off = 0x4000,
	    .count = E1000_STATS,
	    .slot = E1000_STAT,
	    .device = ALL,
	    .read = stat_read,
	    .write = word_write },
	WORD(0x5000, RXCSUM, 0, 0x03ff),
	ARRAY(0x5200, E1000_TABLE, MTA, ALL, word_write),
	ARRAY(0x5400, 2 * E1000_RA, RAR, ALL, rar_write),
	ARRAY(0x5600, E1000_TABLE, VFTA, ALL, word_write),
};

/* The row of the register at off, and its index there; NULL for none. */
static const struct e1000_reg *
find(uint32_t off, unsigned *i)
{
	size_t low = 0, high = ARRAY_SIZE(table);

	while (low < high) {
		size_t mid = (low + high) / 2;
		const struct e1000_reg *reg = &table[mid];

		if (off < reg->off) {
			high = mid;
		} else if (off - reg->off >= 4u * reg->count) {
			low = mid + 1;
		} else {
			*i = (off - reg->off) / 4;
			return reg;
		}
	}
	return NULL;
}

uint32_t
e1000_reg_read(struct e1000 *e, uint32_t off)
{
	unsigned i;
	const struct e1000_reg *reg = find(off, &i);

	if (reg == NULL)
		return 0;
	if (reg->read != NULL)
		return reg->read(e, reg, i);
	return e->regs[reg->slot + i];
}

void
e1000_reg_write(struct e1000 *e, uint32_t off, uint32_t value)
{
	unsigned i;
	const struct e1000_reg *reg = find(off, &i);

	if (reg != NULL)
		reg->write(e, reg, i, value);
}

/* The first exact filter comes from the EEPROM: SDM 13.5.2. */
void
e1000_regs_reset(struct e1000 *e)
{
	uint32_t *rar = &e->regs[E1000_RAR];

	for (size_t n = 0; n < ARRAY_SIZE(table); n++) {
		for (unsigned i = 0; i < table[n].count; i++)
			e->regs[table[n].slot + i] = table[n].reset;
	}
	rar[0] = e->eeprom[0] | (uint32_t)e->eeprom[1] << 16;
	rar[1] = e->eeprom[2] | E1000_RAH_AV;
}

int
e1000_regs_check(const struct e1000 *e, struct err *err)
{
	for (size_t n = 0; n < ARRAY_SIZE(table); n++) {
		const struct e1000_reg *reg = &table[n];

		for (unsigned i = 0; i < reg->count; i++) {
			uint32_t value = e->regs[reg->slot + i];
			uint32_t may = reg->writable | reg->device;

			if (reg->slot == E1000_RAR && i % 2 != 0)
				may = RAH_WRITABLE;
			if ((value ^ reg->reset) & ~may)
				return err_set(err, -EINVAL,
				    "e1000: register 0x%05" PRIx32
				    " cannot be 0x%08" PRIx32,
				    reg->off + 4 * i, value);
		}
	}
	return 0;
}
