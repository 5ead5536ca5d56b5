/*
 * e1000: what its files share.
 *
 * Registers are words in `regs`, named by enum e1000_slot; e1000_regs.c has the
 * table that says where each is and what a guest may do to it.
 */
#ifndef NIC_E1000_IMPL_H
#define NIC_E1000_IMPL_H

#include "net/net.h"
#include "pci/pci.h"

#define E1000_BAR_SIZE (128 * KIB)

#define E1000_CTRL_FD BIT(0)
#define E1000_CTRL_SLU BIT(6)
#define E1000_CTRL_SPEED_1000 (2u << 8)
#define E1000_CTRL_RST BIT(26)
#define E1000_CTRL_VME BIT(30)
#define E1000_CTRL_PHY_RST BIT(31)

#define E1000_STATUS_FD BIT(0)
#define E1000_STATUS_LU BIT(1)
#define E1000_STATUS_1000 (2u << 6 | 2u << 8) /* SPEED and ASDV */

/* Interrupt causes, in ICR, ICS, IMS and IMC. */
#define E1000_ICR_TXDW BIT(0)
#define E1000_ICR_TXQE BIT(1)
#define E1000_ICR_LSC BIT(2)
#define E1000_ICR_RXDMT0 BIT(4)
#define E1000_ICR_RXO BIT(6)
#define E1000_ICR_RXT0 BIT(7)
#define E1000_ICR_MDAC BIT(9)
#define E1000_ICR_TXD_LOW BIT(15)
#define E1000_ICR_ALL 0x0001fedfu

#define E1000_RCTL_EN BIT(1)
#define E1000_RCTL_UPE BIT(3)
#define E1000_RCTL_MPE BIT(4)
#define E1000_RCTL_LPE BIT(5)
#define E1000_RCTL_LBM (3u << 6)
#define E1000_RCTL_RDMTS(rctl) ((rctl) >> 8 & 3)
#define E1000_RCTL_MO(rctl) ((rctl) >> 12 & 3)
#define E1000_RCTL_BAM BIT(15)
#define E1000_RCTL_BSIZE(rctl) ((rctl) >> 16 & 3)
#define E1000_RCTL_VFE BIT(18)
#define E1000_RCTL_CFIEN BIT(19)
#define E1000_RCTL_CFI BIT(20)
#define E1000_RCTL_BSEX BIT(25)
#define E1000_RCTL_SECRC BIT(26)

#define E1000_RXCSUM_PCSS(rxcsum) ((rxcsum)&0xff)
#define E1000_RXCSUM_IPOFL BIT(8)
#define E1000_RXCSUM_TUOFL BIT(9)

#define E1000_TCTL_EN BIT(1)
#define E1000_TCTL_PSP BIT(3)

#define E1000_RAH_AV BIT(31)

#define E1000_MIN_FRAME 60u  /* what PSP pads to; without its checksum */
#define E1000_CRC_LEN 4u     /* the frame check sequence */
#define E1000_STD_FRAME 1514 /* the longest without LPE; 4 more with a tag */
/* The longest in either direction, checksum and all: SDM 3.2.2, 16 KiB. */
#define E1000_MAX_FRAME 16384u

/* A packet of so many descriptors, or of more, is dropped. */
#define E1000_TX_CHAIN 512u
/* What one packet can hold before it is cut: headers and 64 KiB. */
#define E1000_TX_MAX (64 * KIB + 256)
/* Descriptors and frames in one go, in each direction. */
#define E1000_TX_BUDGET 256u
#define E1000_RX_BUDGET 64u

#define E1000_DESC_SIZE 16u
#define E1000_STATS 64u
#define E1000_RA 16u
#define E1000_TABLE 128u /* MTA, VFTA */
#define E1000_PHY_REGS 32u
#define E1000_EEPROM_WORDS 64u

enum e1000_slot {
	E1000_CTRL,
	E1000_STATUS,
	E1000_EECD,
	E1000_EERD,
	E1000_CTRL_EXT,
	E1000_MDIC,
	E1000_FCAL,
	E1000_FCAH,
	E1000_FCT,
	E1000_VET,
	E1000_ICR,
	E1000_ITR,
	E1000_IMS,
	E1000_RCTL,
	E1000_FCTTV,
	E1000_TXCW,
	E1000_TCTL,
	E1000_TIPG,
	E1000_AIT,
	E1000_LEDCTL,
	E1000_PBA,
	E1000_FCRTL,
	E1000_FCRTH,
	E1000_RDBAL,
	E1000_RDBAH,
	E1000_RDLEN,
	E1000_RDH,
	E1000_RDT,
	E1000_RDTR,
	E1000_RXDCTL,
	E1000_RADV,
	E1000_TDBAL,
	E1000_TDBAH,
	E1000_TDLEN,
	E1000_TDH,
	E1000_TDT,
	E1000_TIDV,
	E1000_TXDCTL,
	E1000_TADV,
	E1000_TSPMT,
	E1000_RXCSUM,
	E1000_STAT,
	E1000_MTA = E1000_STAT + E1000_STATS,
	E1000_RAR = E1000_MTA + E1000_TABLE, /* RAL 0, RAH 0, RAL 1, ... */
	E1000_VFTA = E1000_RAR + 2 * E1000_RA,
	E1000_SLOTS = E1000_VFTA + E1000_TABLE,
};

/* Statistics, by their word from 0x4000 on. */
enum e1000_stat {
	E1000_MPC = 0x10 / 4,
	E1000_PRC64 = 0x5c / 4, /* and five more, by length */
	E1000_GPRC = 0x74 / 4,
	E1000_BPRC = 0x78 / 4,
	E1000_MPRC = 0x7c / 4,
	E1000_GPTC = 0x80 / 4,
	E1000_GORC = 0x88 / 4, /* two words */
	E1000_GOTC = 0x90 / 4,
	E1000_RNBC = 0xa0 / 4,
	E1000_ROC = 0xac / 4,
	E1000_TOR = 0xc0 / 4,
	E1000_TOT = 0xc8 / 4,
	E1000_TPR = 0xd0 / 4,
	E1000_TPT = 0xd4 / 4,
	E1000_PTC64 = 0xd8 / 4,
	E1000_MPTC = 0xf0 / 4,
	E1000_BPTC = 0xf4 / 4,
	E1000_TSCTC = 0xf8 / 4,
	E1000_TSCTFC = 0xfc / 4,
};

/* A descriptor as fetched, either direction. */
struct e1000_desc {
	uint64_t addr;
	uint32_t lower, upper;
};

/* A moderated cause: one that waits for more of its kind. */
struct e1000_delay {
	struct clock_timer timer;
	uint64_t latest_ns; /* while armed: not later, whatever comes */
};

struct e1000 {
	struct pci_func func; /* first: PCI finds it here */
	struct device *dev;   /* borrowed: owns this */
	struct clock *clock;  /* borrowed: outlives every device */
	struct mem *mem;      /* the same */
	struct net *net;      /* owned */
	struct event *wake;   /* owned: e1000_work() on the loop's thread */
	uint16_t eeprom[E1000_EEPROM_WORDS]; /* constant once made */
	bool paused;          /* nothing moves but by register accesses */
	_Atomic bool carrier; /* the back end's link, set by its thread */

	uint32_t regs[E1000_SLOTS];
	uint32_t ioaddr;
	uint16_t phy[E1000_PHY_REGS];

	/* The EEPROM's serial side. */
	uint16_t ee_shift; /* bits that came in since the start bit */
	uint8_t ee_bits;   /* how many; 0: none has come */
	uint8_t ee_addr;   /* the word that goes out */
	uint8_t ee_left;   /* bits of it still to go out */

	/* Interrupts. */
	bool asserted;      /* the pin */
	uint64_t itr_until; /* it rises no sooner */
	struct clock_timer itr_timer;
	struct e1000_delay rx_delay, tx_delay;

	/* Transmitter. */
	uint32_t context[8];  /* of checksums, then of segmentation */
	bool tx_skip;         /* drop up to the end of a packet */
	uint32_t tx_segments; /* of the packet at TDH, sent already */
	/* Not saved: */
	struct e1000_desc chain[E1000_TX_CHAIN];
	uint8_t *tx_data;  /* owned: E1000_TX_MAX bytes, the packet */
	uint8_t *tx_frame; /* owned: E1000_MAX_FRAME bytes, a segment */

	/* Receiver; a frame in hand is lost by a save. */
	uint8_t *rx_frame; /* owned: E1000_MAX_FRAME bytes */
	uint32_t rx_len;   /* a frame waits here for buffers; 0: none */
	bool rx_told;      /* and the guest knows */
	bool rx_inexact;   /* and it passed by its hash */
};

/* ---- e1000.c ------------------------------------------------------------ */

/* Causes have occurred: interrupt, or not, as masks and throttle say. */
void e1000_raise(struct e1000 *e, uint32_t causes);
/* ICR or IMS have changed. */
void e1000_intr_update(struct e1000 *e);
/* Hold a cause back: until `delay` of the register passed without another. */
void e1000_delay(struct e1000 *e, struct e1000_delay *delay, uint32_t ticks,
    uint32_t most);
/* STATUS.LU and the PHY follow carrier and guest. */
void e1000_link_update(struct e1000 *e);
/* CTRL.RST: all but the PHY and the serial side of the EEPROM. */
void e1000_soft_reset(struct e1000 *e);

/* ---- e1000_regs.c ------------------------------------------------------- */

uint32_t e1000_reg_read(struct e1000 *e, uint32_t off);
void e1000_reg_write(struct e1000 *e, uint32_t off, uint32_t value);
void e1000_regs_reset(struct e1000 *e);
int e1000_regs_check(const struct e1000 *e, struct err *err);
/* Statistics stick at their maximum. */
void e1000_count(struct e1000 *e, enum e1000_stat stat, uint32_t n);
void e1000_count_octets(struct e1000 *e, enum e1000_stat stat, uint32_t n);
/* The counters of frames by length: 64, 65-127, ... */
void e1000_count_size(struct e1000 *e, enum e1000_stat first, uint32_t len);

/* ---- e1000_eeprom.c ----------------------------------------------------- */

void e1000_eeprom_make(struct e1000 *e, const uint8_t mac[NET_MAC_LEN],
    const struct pci_ids *ids);
/* EECD has been written; returns what it holds now. */
uint32_t e1000_eecd_write(struct e1000 *e, uint32_t old, uint32_t value);
uint32_t e1000_eerd_write(struct e1000 *e, uint32_t value);
int e1000_eeprom_check(const struct e1000 *e, struct err *err);

/* ---- e1000_phy.c -------------------------------------------------------- */

void e1000_phy_reset(struct e1000 *e);
bool e1000_phy_up(const struct e1000 *e); /* powered */
uint32_t e1000_mdic_write(struct e1000 *e, uint32_t value);
int e1000_phy_check(const struct e1000 *e, struct err *err);

/* ---- e1000_tx.c, e1000_rx.c --------------------------------------------- */

/* The ring's size in descriptors, its entries at `low`, `len`. */
struct e1000_ring {
	uint64_t base;
	uint32_t size; /* 0: the guest has made none that works */
	uint32_t head, tail;
};
struct e1000_ring e1000_ring(const struct e1000 *e, enum e1000_slot base);
static inline uint32_t
e1000_ring_left(const struct e1000_ring *ring)
{
	return ring->tail >= ring->head ? ring->tail - ring->head :
					  ring->tail + ring->size - ring->head;
}
int e1000_desc_fetch(const struct e1000 *e, const struct e1000_ring *ring,
    uint32_t index, struct e1000_desc *desc);

/* Send what is in the ring, as far as the budget goes. */
void e1000_tx_run(struct e1000 *e);
/* Receive what fits into the ring, the same. */
void e1000_rx_run(struct e1000 *e);

/* The one's complement sum of bytes, carried on from `sum`; not inverted. */
uint16_t e1000_sum(const uint8_t *data, size_t len, uint32_t sum);

#endif
