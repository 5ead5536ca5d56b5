/*
 * The EEPROM of an e1000: 64 words behind a microwire, and a register that
 * reads them at once.
 *
 * Models       a 93C46 of 64 words as SDM 5.4 and 13.4.3 (EECD) wire it: while
 *              chip select is up, rising edges of the clock shift bits in; a
 *              start bit, two of opcode, six of address; for a READ a zero,
 *              then the word from its top bit, then the words behind it.  SDM
 *              13.4.4: EERD.
 * Leaves out   writing: it reads as write-protected, all but READ is ignored,
 *              and it is always ready.
 * Contents     the address in words 0 to 2, ids in 0x0b to 0x0e, and a last
 *              word that makes the sum of all 0xbaba (SDM 5.6).
 */
#include <errno.h>

#include "nic/e1000_impl.h"

#define EECD_SK BIT(0)
#define EECD_CS BIT(1)
#define EECD_DI BIT(2)
#define EECD_DO BIT(3)
#define EECD_REQ BIT(6)
#define EECD_GNT BIT(7)

#define EERD_START BIT(0)
#define EERD_DONE BIT(4)
#define EERD_ADDR(eerd) ((eerd) >> 8 & 0xff)

#define MICROWIRE_BITS 9 /* start, opcode, address */
#define MICROWIRE_READ(shift) ((shift) >> 6 == 6)
#define WORD_BITS 16

#define EEPROM_SUM 0xbaba

void
e1000_eeprom_make(struct e1000 *e, const uint8_t mac[NET_MAC_LEN],
    const struct pci_ids *ids)
{
	const uint16_t known[][2] = {
		{ 0x0a, 0x4408 }, /* initialization control 1 */
		{ 0x0b, ids->subdevice }, { 0x0c, ids->subvendor },
		{ 0x0d, ids->device }, { 0x0e, ids->vendor },
		{ 0x0f, 0x3040 }, /* control 2: pause frames both ways */
		{ 0x24, 0 },      /* control 3: no wake-up */
	};
	uint16_t sum = 0;

	for (unsigned i = 0; i < E1000_EEPROM_WORDS; i++)
		e->eeprom[i] = 0xffff;
	for (unsigned i = 0; i < 3; i++)
		e->eeprom[i] = le16_load(mac + 2 * i);
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		e->eeprom[known[i][0]] = known[i][1];
	for (unsigned i = 0; i < E1000_EEPROM_WORDS - 1; i++)
		sum += e->eeprom[i];
	e->eeprom[E1000_EEPROM_WORDS - 1] = EEPROM_SUM - sum;
}

/* A rising edge of the clock: one bit in, or one out. */
static uint32_t
clock_edge(struct e1000 *e, bool in)
{
	uint16_t word;

	if (e->ee_bits < MICROWIRE_BITS) {
		/* Zeros before the start bit are not counted. */
		if (!in && e->ee_bits == 0)
			return EECD_DO;
		e->ee_shift = (uint16_t)(e->ee_shift << 1 | in);
		e->ee_bits++;
		if (e->ee_bits < MICROWIRE_BITS || !MICROWIRE_READ(e->ee_shift))
			return EECD_DO;
		e->ee_addr = e->ee_shift % E1000_EEPROM_WORDS;
		e->ee_left = WORD_BITS;
		return 0;
	}
	if (!MICROWIRE_READ(e->ee_shift))
		return EECD_DO;
	if (e->ee_left == 0) {
		e->ee_addr = (e->ee_addr + 1) % E1000_EEPROM_WORDS;
		e->ee_left = WORD_BITS;
	}
	word = e->eeprom[e->ee_addr];
	e->ee_left--;
	return word >> e->ee_left & 1 ? EECD_DO : 0;
}

uint32_t
e1000_eecd_write(struct e1000 *e, uint32_t old, uint32_t value)
{
	uint32_t out = old & EECD_DO;

	if (!(value & EECD_CS)) {
		e->ee_shift = 0;
		e->ee_bits = 0;
		e->ee_addr = 0;
		e->ee_left = 0;
		out = EECD_DO;
	} else if ((value & EECD_SK) && !(old & EECD_SK)) {
		out = clock_edge(e, value & EECD_DI);
	}
	value &= ~(uint32_t)(EECD_DO | EECD_GNT);
	return value | out | (value & EECD_REQ ? EECD_GNT : 0);
}

uint32_t
e1000_eerd_write(struct e1000 *e, uint32_t value)
{
	uint32_t addr = EERD_ADDR(value), word = 0xffff;

	if (!(value & EERD_START))
		return value & 0xff00;
	if (addr < E1000_EEPROM_WORDS)
		word = e->eeprom[addr];
	return word << 16 | addr << 8 | EERD_DONE;
}

int
e1000_eeprom_check(const struct e1000 *e, struct err *err)
{
	if (e->ee_bits > MICROWIRE_BITS || e->ee_left > WORD_BITS ||
	    e->ee_addr >= E1000_EEPROM_WORDS || e->ee_shift >> e->ee_bits != 0)
		return err_set(err, -EINVAL,
		    "e1000: the EEPROM cannot be at bit %u of %u", e->ee_left,
		    e->ee_bits);
	return 0;
}
