/*
 * e1000: an Intel 82545EM, a gigabit card for guests without virtio.
 *
 * Models       the PCI/PCI-X Family of Gigabit Ethernet Controllers Software
 *              Developer's Manual (317453, "SDM" in these files) with bhyve's
 *              identity: 8086:100f, registers in BAR 0, flash in BAR 1,
 *              IOADDR and IODATA in BAR 2 (SDM 13.2.2), a pin for interrupts.
 *
 *              e1000_regs.c    registers, statistics
 *              e1000_eeprom.c  EEPROM      e1000_phy.c  PHY
 *              e1000_tx.c      transmit    e1000_rx.c   receive
 *
 * Leaves out   the flash, which reads as erased; and see each file.
 * Accesses     aligned words of 32 bits; narrower ones read and do not write.
 * Interrupts   ICR and IMS drive the pin.  ITR keeps its rises apart; RDTR
 *              with RADV and TIDV with TADV hold their cause back until no
 *              other came for as long, or the absolute time is over.
 * DMA          only while the guest lets it master the bus.
 * Threads      The back end's threads take no lock here: they leave a note and
 *              wake e1000_work() on the event loop, which takes the device
 *              lock.  So pause() may wait for them with it held.  A guest's
 *              write of TDT sends at once, on the vCPU's thread.
 * Locking      the device lock, held at every other entry.
 * Invariants   1. The pin is asserted only while a cause is not masked.
 *              2. STATUS.LU is what carrier, CTRL.SLU and the PHY make of it.
 */
#include <errno.h>
#include <stdio.h>

#include "base/alloc.h"
#include "nic/e1000_impl.h"
#include "vm/vm.h"

#define FLASH_SIZE (64 * KIB)
#define PORTS 8u
#define IOADDR 0u
#define IODATA 4u
#define IOADDR_MASK 0x000ffffcu

#define ITR_NS 256u    /* a unit of ITR */
#define DELAY_NS 1024u /* a unit of RDTR, RADV, TIDV and TADV */

static const struct field e1000_state[] = {
	PCI_FUNC_STATE(struct e1000, func),
	STATE_ARRAY(struct e1000, regs, 0),
	STATE_INT_MAX(struct e1000, ioaddr, 0, IOADDR_MASK),
	STATE_ARRAY(struct e1000, phy, 0),
	STATE_INT(struct e1000, ee_shift, 0),
	STATE_INT(struct e1000, ee_bits, 0),
	STATE_INT(struct e1000, ee_addr, 0),
	STATE_INT(struct e1000, ee_left, 0),
	STATE_BOOL(struct e1000, asserted, false),
	STATE_INT(struct e1000, itr_until, 0),
	STATE_TIMER(struct e1000, itr_timer),
	STATE_TIMER(struct e1000, rx_delay.timer),
	STATE_INT(struct e1000, rx_delay.latest_ns, 0),
	STATE_TIMER(struct e1000, tx_delay.timer),
	STATE_INT(struct e1000, tx_delay.latest_ns, 0),
	STATE_ARRAY(struct e1000, context, 0),
	STATE_BOOL(struct e1000, tx_skip, false),
	STATE_INT_MAX(struct e1000, tx_segments, 0, E1000_TX_MAX),
};

/* ---- interrupts ---------------------------------------------------------- */

void
e1000_intr_update(struct e1000 *e)
{
	bool wanted = e->regs[E1000_ICR] & e->regs[E1000_IMS];
	uint64_t now = clock_now(e->clock);

	if (wanted == e->asserted)
		return;
	if (wanted && now < e->itr_until) {
		clock_timer_arm(&e->itr_timer, e->itr_until);
		return;
	}
	if (wanted)
		e->itr_until = now + (uint64_t)e->regs[E1000_ITR] * ITR_NS;
	e->asserted = wanted;
	pci_intx_set(&e->func, wanted);
}

void
e1000_raise(struct e1000 *e, uint32_t causes)
{
	e->regs[E1000_ICR] |= causes;
	e1000_intr_update(e);
}

static void
itr_over(void *arg)
{
	e1000_intr_update(arg);
}

void
e1000_delay(struct e1000 *e, struct e1000_delay *delay, uint32_t ticks,
    uint32_t most)
{
	uint64_t now = clock_now(e->clock);

	if (!clock_timer_armed(&delay->timer))
		delay->latest_ns =
		    most != 0 ? now + (uint64_t)most * DELAY_NS : UINT64_MAX;
	clock_timer_arm(&delay->timer,
	    MIN(now + (uint64_t)ticks * DELAY_NS, delay->latest_ns));
}

static void
rx_delay_over(void *arg)
{
	e1000_raise(arg, E1000_ICR_RXT0);
}

static void
tx_delay_over(void *arg)
{
	e1000_raise(arg, E1000_ICR_TXDW);
}

/* ---- the back end -------------------------------------------------------- */

void
e1000_link_update(struct e1000 *e)
{
	uint32_t *status = &e->regs[E1000_STATUS];
	bool up = atomic_load_explicit(&e->carrier, memory_order_relaxed) &&
	    (e->regs[E1000_CTRL] & E1000_CTRL_SLU) && e1000_phy_up(e);

	if (up == !!(*status & E1000_STATUS_LU))
		return;
	*status ^= E1000_STATUS_LU;
	e1000_raise(e, E1000_ICR_LSC);
}

/* On the loop's thread: something may have become possible. */
static void
e1000_work(void *arg)
{
	struct e1000 *e = arg;
	struct lock *lock = device_lock(e->dev);

	lock_take(lock);
	if (!e->paused) {
		e1000_link_update(e);
		e1000_tx_run(e);
		e1000_rx_run(e);
	}
	lock_drop(lock);
}

static void
e1000_ready(void *arg, unsigned queue)
{
	struct e1000 *e = arg;

	event_wake(e->wake);
}

static void
e1000_link(void *arg, bool up)
{
	struct e1000 *e = arg;

	/* Read by e1000_link_update() and the PHY; the wake-up orders it. */
	atomic_store_explicit(&e->carrier, up, memory_order_relaxed);
	event_wake(e->wake);
}

static const struct net_ops e1000_net_ops = {
	.readable = e1000_ready,
	.writable = e1000_ready,
	.link = e1000_link,
};

/* ---- BARs ---------------------------------------------------------------- */

static uint64_t
regs_read(void *self, uint64_t off, unsigned size)
{
	return e1000_reg_read(self, (uint32_t)off);
}

static void
regs_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	e1000_reg_write(self, (uint32_t)off, (uint32_t)value);
}

static const struct io_ops regs_ops = {
	.read = regs_read,
	.write = regs_write,
	.widths = 4,
	.aligned = true,
};

static uint64_t
flash_read(void *self, uint64_t off, unsigned size)
{
	return UINT64_MAX;
}

static void
flash_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
}

static const struct io_ops flash_ops = {
	.read = flash_read,
	.write = flash_write,
};

static uint64_t
ports_read(void *self, uint64_t off, unsigned size)
{
	struct e1000 *e = self;

	return off == IOADDR ? e->ioaddr : e1000_reg_read(e, e->ioaddr);
}

static void
ports_write(void *self, uint64_t off, unsigned size, uint64_t value)
{
	struct e1000 *e = self;

	if (off == IOADDR)
		e->ioaddr = (uint32_t)value & IOADDR_MASK;
	else
		e1000_reg_write(e, e->ioaddr, (uint32_t)value);
}

static const struct io_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
	.widths = 4,
	.aligned = true,
};

/* ---- life ---------------------------------------------------------------- */

/* A function's and the back end's, but for what this card does not have. */
static int
check_keys(struct device *dev, struct err *err)
{
	const char **keys = xcalloc(net_keys_count + 2, sizeof(keys[0]));
	size_t n = 0;
	int rc;

	keys[n++] = "device";
	keys[n++] = "pcireg";
	for (size_t i = 0; i < net_keys_count; i++) {
		if (strcmp(net_keys[i], "mtu") != 0 &&
		    strcmp(net_keys[i], "queues") != 0)
			keys[n++] = net_keys[i];
	}
	rc = device_check_keys(dev, keys, n, err);
	free(keys);
	return rc;
}

static int
open_net(struct e1000 *e, const struct pci_ids *ids, struct err *err)
{
	char *seed = xasprintf("%u-%u-%s", e->func.addr.slot, e->func.addr.func,
	    vm_name(device_vm(e->dev)));
	struct net_info info;
	int rc;

	rc = net_open(device_config(e->dev), seed, &e1000_net_ops, e, &e->net,
	    err);
	free(seed);
	if (rc < 0)
		return rc;
	rc = net_set_offload(e->net, 0, 0);
	assert(rc == 0); /* nothing is asked for */
	net_info(e->net, &info);
	atomic_store_explicit(&e->carrier, info.link, memory_order_relaxed);
	e1000_eeprom_make(e, info.mac, ids);
	return 0;
}

static void
e1000_cfg_changed(void *self, unsigned off, unsigned len)
{
	struct e1000 *e = self;

	/* It may master the bus now. */
	event_wake(e->wake);
}

static int
e1000_create(struct device *dev, void *self, struct err *err)
{
	struct pci_ids ids = {
		.vendor = 0x8086,
		.device = 0x100f,
		.subvendor = 0x8086,
		.subdevice = 0x1008,
		.class = 0x02,
	};
	struct e1000 *e = self;
	struct pci_func *func = &e->func;
	int rc;

	e->dev = dev;
	e->clock = device_clock(dev);
	e->mem = device_mem(dev);
	e->tx_data = xcalloc(1, E1000_TX_MAX);
	e->tx_frame = xcalloc(1, E1000_MAX_FRAME);
	e->rx_frame = xcalloc(1, E1000_MAX_FRAME);
	device_timer_init(dev, &e->itr_timer, itr_over);
	device_timer_init(dev, &e->rx_delay.timer, rx_delay_over);
	device_timer_init(dev, &e->tx_delay.timer, tx_delay_over);
	rc = check_keys(dev, err);
	if (rc == 0)
		rc = pci_ids_override(device_config(dev), &ids, err);
	if (rc == 0)
		rc = pci_func_init(func, dev, &ids, err);
	if (rc == 0)
		rc = pci_add_bar(func, 0, PCI_BAR_MEM32, E1000_BAR_SIZE,
		    &regs_ops, NULL, err);
	if (rc == 0)
		rc = pci_add_bar(func, 1, PCI_BAR_MEM32, FLASH_SIZE, &flash_ops,
		    NULL, err);
	if (rc == 0)
		rc = pci_add_bar(func, 2, PCI_BAR_PORT, PORTS, &ports_ops, NULL,
		    err);
	if (rc == 0)
		rc = event_add_wake(device_loop(dev), e1000_work, e, &e->wake,
		    err);
	if (rc == 0)
		rc = open_net(e, &ids, err);
	if (rc < 0)
		return rc;
	pci_add_intx(func);
	func->cfg_changed = e1000_cfg_changed;
	return 0;
}

static int
e1000_start(void *self, struct err *err)
{
	struct e1000 *e = self;

	net_resume(e->net);
	return 0;
}

static void
e1000_pause(void *self)
{
	struct e1000 *e = self;

	e->paused = true;
	net_pause(e->net);
}

static void
e1000_resume(void *self)
{
	struct e1000 *e = self;

	e->paused = false;
	net_resume(e->net);
	event_wake(e->wake);
}

void
e1000_soft_reset(struct e1000 *e)
{
	e1000_regs_reset(e);
	clock_timer_disarm(&e->itr_timer);
	clock_timer_disarm(&e->rx_delay.timer);
	clock_timer_disarm(&e->tx_delay.timer);
	e->itr_until = 0;
	memset(e->context, 0, sizeof(e->context));
	e->tx_skip = false;
	e->tx_segments = 0;
	e->rx_len = 0;
	e1000_intr_update(e);
}

static void
e1000_reset(void *self)
{
	struct e1000 *e = self;

	pci_func_reset(&e->func);
	e1000_phy_reset(e);
	e1000_regs_reset(e);
}

/* Reset or loaded: what was not saved begins anew. */
static void
e1000_changed(void *self)
{
	struct e1000 *e = self;

	pci_func_changed(&e->func);
	e->rx_len = 0;
	pci_intx_set(&e->func, e->asserted);
	e1000_link_update(e);
	e1000_intr_update(e);
	event_wake(e->wake);
}

static int
e1000_check(const void *self, struct err *err)
{
	const struct e1000 *e = self;
	int rc = pci_func_check(&e->func, err);

	if (rc == 0)
		rc = e1000_regs_check(e, err);
	if (rc == 0)
		rc = e1000_phy_check(e, err);
	if (rc == 0)
		rc = e1000_eeprom_check(e, err);
	if (rc == 0 && e->asserted &&
	    !(e->regs[E1000_ICR] & e->regs[E1000_IMS]))
		rc = err_set(err, -EINVAL,
		    "e1000: an interrupt without a cause");
	if (rc == 0 && e->ioaddr % 4 != 0)
		rc = err_set(err, -EINVAL,
		    "e1000: IOADDR is not that of a word");
	return rc;
}

static void
e1000_destroy(void *self)
{
	struct e1000 *e = self;

	net_close(e->net);
	event_remove(e->wake);
	pci_func_fini(&e->func);
	free(e->tx_data);
	free(e->tx_frame);
	free(e->rx_frame);
}

DEVICE_MODEL(e1000) = {
	.name = "e1000",
	.state_version = 1,
	.size = sizeof(struct e1000),
	STATE_TABLE(e1000_state),
	.pci_help = "Intel 82545EM gigabit Ethernet",
	.create = e1000_create,
	.start = e1000_start,
	.pause = e1000_pause,
	.resume = e1000_resume,
	.reset = e1000_reset,
	.changed = e1000_changed,
	.check = e1000_check,
	.destroy = e1000_destroy,
};
