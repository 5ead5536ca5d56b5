/*
 * INTx: the pins of functions, and how they reach both interrupt chips.
 *
 * Models       PCI Local Bus 3.0, section 2.2.6: a function pulls one of the
 *              four pins of its slot, by level; functions share pins, pins
 *              share lines.  Section 6.2.2 and 6.2.3: the command register's
 *              bit 10 lets go of the pin, the status register's bit 3 shows
 *              what the device wants all the same.
 *
 *                 pin ─┬─▶ I/O APIC pin 16-31, for good
 *                      └─▶ link A-H ── PIRQ register ──▶ ISA IRQ ─▶ 8259A,
 *                                                                  I/O APIC
 *
 *              The PIRQ registers are those of the Intel 82371SB (PIIX3),
 *              section 4.1.10: bit 7 set for none, the IRQ in bits 3-0.  One
 *              that PCI may not use counts as none.  Links E-H are bhyve's.
 * Routes       A function takes the pin of its slot with fewest users, the
 *              first in an empty slot.  Without firmware in ROM I/O APIC pins
 *              are handed out in turn and links go to whoever has fewest users;
 *              with it both follow from slot and pin, as it expects.  A link
 *              in use starts with the IRQ that fewest links have, so that
 *              guests without a router driver see their interrupts; that IRQ
 *              is in the interrupt line register.
 * Trigger      IRQs with a link are sensed by level, whatever the ELCR says.
 * Locking      irq_lock of the function, then the links' own, then irq's.  What
 *              pins are wired to is constant once the machine has been made.
 * Invariants   1. links->pulls[n] counts the functions of link n with
 *                 `pulling` set and the links' epoch.
 *              2. A routed link's line is asserted exactly while it is pulled.
 *
 * Saved state: the PIRQ registers, with the host, which is made before all
 * functions and so loaded before them.  That begins a new epoch, as in irq.c;
 * then each device says again what its level is.
 */
#include <errno.h>

#include "base/util.h"
#include "irq/irq.h"
#include "pci/pci_impl.h"
#include "vm/vm.h"

#define GSIS (PLAT_IOAPIC_PINS - PLAT_IOAPIC_PCI_PIN)
#define PINS 4u
#define IRQ_NONE 0u /* no link may have the PIT's */

/* IRQs with owners that a link does not start with: UARTs, SCI, mouse. */
#define IRQS_TAKEN (BIT(3) | BIT(4) | BIT(PLAT_IRQ_SCI) | BIT(PLAT_IRQ_MOUSE))

/* ---- links -------------------------------------------------------------- */

static unsigned
reg_irq(uint8_t reg)
{
	unsigned irq = reg & PLAT_PIRQ_IRQ;

	if ((reg & PLAT_PIRQ_DISABLED) || !(PLAT_PIRQ_IRQS & BIT(irq)))
		return IRQ_NONE;
	return irq;
}

void
pci_links_init(struct pci_links *links, struct irq_chip *chip)
{
	links->chip = chip;
	lock_init(&links->lock);
	for (unsigned i = 0; i < PLAT_PIRQ_LINKS; i++)
		links->initial[i] = PLAT_PIRQ_DISABLED;
}

void
pci_links_fini(struct pci_links *links)
{
	if (links->chip != NULL)
		lock_fini(&links->lock);
	links->chip = NULL;
}

/* Connect a link as its register says. */
static void
link_route_locked(struct pci_links *links, unsigned link)
{
	unsigned irq = reg_irq(links->reg[link]);

	if (links->routed[link])
		irq_line_set(&links->line[link], false);
	links->routed[link] = irq != IRQ_NONE;
	if (irq == IRQ_NONE)
		return;
	irq_line_init(&links->line[link], links->chip, irq);
	irq_line_set(&links->line[link], links->pulls[link] > 0);
}

/* The SCI is sensed by level in any case: the board says so. */
static void
links_sense_locked(struct pci_links *links)
{
	uint32_t level = 0;

	for (unsigned link = 0; link < PLAT_PIRQ_LINKS; link++)
		level |= (uint32_t)BIT(reg_irq(links->reg[link]));
	for (unsigned irq = 0; irq < IRQ_ISA_LINES; irq++) {
		if ((PLAT_PIRQ_IRQS & BIT(irq)) && irq != PLAT_IRQ_SCI)
			irq_wire_level(links->chip, irq, level & BIT(irq));
	}
}

void
pci_links_reset(struct pci_links *links)
{
	lock_take(&links->lock);
	for (unsigned i = 0; i < PLAT_PIRQ_LINKS; i++)
		links->reg[i] = links->initial[i];
	lock_drop(&links->lock);
}

void
pci_links_changed(struct pci_links *links)
{
	lock_take(&links->lock);
	links->epoch++;
	links_sense_locked(links);
	for (unsigned i = 0; i < PLAT_PIRQ_LINKS; i++) {
		links->pulls[i] = 0;
		link_route_locked(links, i);
	}
	lock_drop(&links->lock);
}

int
pci_links_check(const struct pci_links *links, struct err *err)
{
	for (unsigned i = 0; i < PLAT_PIRQ_LINKS; i++) {
		if (links->reg[i] & ~(PLAT_PIRQ_DISABLED | PLAT_PIRQ_IRQ))
			return err_set(err, -EINVAL,
			    "pci: the register of PIRQ%c cannot hold 0x%02x",
			    'A' + (int)i, links->reg[i]);
	}
	return 0;
}

/* A function pulls its link or not: invariant 1. */
static void
link_pull(struct pci_links *links, struct pci_intx *intx, bool pull)
{
	lock_take(&links->lock);
	if (intx->epoch != links->epoch) {
		intx->epoch = links->epoch;
		intx->pulling = false;
	}
	if (intx->pulling != pull) {
		intx->pulling = pull;
		links->pulls[intx->link] += pull ? 1 : -1;
		if (links->routed[intx->link])
			irq_line_set(&links->line[intx->link],
			    links->pulls[intx->link] > 0);
	}
	lock_drop(&links->lock);
}

/* ---- the registers of the bridge ---------------------------------------- */

static struct pci_links *
bridge_links(void *self)
{
	struct pci_func *bridge = self;

	return pci_host_links(bridge->host);
}

static uint32_t
regs_read(struct pci_links *links, unsigned first, unsigned size)
{
	uint32_t value = 0;

	lock_take(&links->lock);
	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)links->reg[first + i] << (8 * i);
	lock_drop(&links->lock);
	return value;
}

static void
regs_write(struct pci_links *links, unsigned first, unsigned size,
    uint32_t value)
{
	lock_take(&links->lock);
	for (unsigned i = 0; i < size; i++) {
		links->reg[first + i] = (uint8_t)(value >> (8 * i)) &
		    (PLAT_PIRQ_DISABLED | PLAT_PIRQ_IRQ);
	}
	links_sense_locked(links);
	for (unsigned i = 0; i < size; i++)
		link_route_locked(links, first + i);
	lock_drop(&links->lock);
}

static uint32_t
pirq_a_read(void *self, unsigned off, unsigned size)
{
	return regs_read(bridge_links(self), off, size);
}

static void
pirq_a_write(void *self, unsigned off, unsigned size, uint32_t value)
{
	regs_write(bridge_links(self), off, size, value);
}

static uint32_t
pirq_e_read(void *self, unsigned off, unsigned size)
{
	return regs_read(bridge_links(self), 4 + off, size);
}

static void
pirq_e_write(void *self, unsigned off, unsigned size, uint32_t value)
{
	regs_write(bridge_links(self), 4 + off, size, value);
}

void
pci_add_pirqs(struct pci_func *func)
{
	static const struct pci_window a_to_d = { PLAT_PIRQ_A, pirq_a_read,
		pirq_a_write };
	static const struct pci_window e_to_h = { PLAT_PIRQ_E, pirq_e_read,
		pirq_e_write };

	pci_add_window(func, &a_to_d);
	pci_add_window(func, &e_to_h);
}

/* ---- pins --------------------------------------------------------------- */

/* The smallest of n counts, the first of them. */
static unsigned
least(const unsigned *counts, unsigned n)
{
	unsigned best = 0;

	for (unsigned i = 1; i < n; i++) {
		if (counts[i] < counts[best])
			best = i;
	}
	return best;
}

/*
 * The pin of the slot with fewest users.  Returns one of them, whose wiring it
 * is; NULL if it has none.
 */
static const struct pci_func *
choose_pin(struct pci_func *func)
{
	const struct pci_func *users[PINS] = { NULL };
	struct pci_addr addr = func->addr;
	unsigned counts[PINS] = { 0 }, pin;

	for (addr.func = 0; addr.func < PCI_FUNCS; addr.func++) {
		const struct pci_func *other =
		    pci_find(device_vm(func->dev), addr);

		if (other == NULL || other->intx.pin == 0)
			continue;
		users[other->intx.pin - 1] = other;
		counts[other->intx.pin - 1]++;
	}
	pin = least(counts, PINS);
	func->intx.pin = (uint8_t)(pin + 1);
	return users[pin];
}

static bool
has_boot_rom(struct vm *vm)
{
	return config_has(vm_config(vm), "lpc.bootrom") ||
	    config_has(vm_config(vm), "bootrom");
}

/* Both sides of a pin that nobody has used yet. */
static void
choose_route(struct pci_links *links, struct pci_func *func)
{
	struct pci_intx *intx = &func->intx;
	unsigned mix = (4u + func->addr.slot + intx->pin) % PLAT_PIRQ_LINKS;

	if (has_boot_rom(device_vm(func->dev))) {
		intx->gsi = (uint8_t)(PLAT_IOAPIC_PCI_PIN + mix);
		intx->link = (uint8_t)mix;
	} else {
		intx->gsi =
		    (uint8_t)(PLAT_IOAPIC_PCI_PIN + links->next_gsi++ % GSIS);
		intx->link = (uint8_t)least(links->users, PLAT_PIRQ_LINKS);
	}
}

/* A link gets its first user: which IRQ shall it have after a reset? */
static void
choose_irq(struct pci_links *links, unsigned link)
{
	unsigned best = IRQ_NONE;

	for (unsigned irq = 1; irq < IRQ_ISA_LINES; irq++) {
		if (!(PLAT_PIRQ_IRQS & ~IRQS_TAKEN & BIT(irq)))
			continue;
		if (best == IRQ_NONE ||
		    links->shares[irq] < links->shares[best])
			best = irq;
	}
	links->shares[best]++;
	links->initial[link] = (uint8_t)best;
	/* The machine's first reset has been. */
	regs_write(links, link, 1, best);
}

void
pci_add_intx(struct pci_func *func)
{
	struct pci_links *links = pci_host_links(func->host);
	struct pci_intx *intx = &func->intx;
	const struct pci_func *other;

	assert(intx->pin == 0);
	other = choose_pin(func);
	if (other != NULL) {
		intx->gsi = other->intx.gsi;
		intx->link = other->intx.link;
	} else {
		choose_route(links, func);
	}
	if (links->users[intx->link]++ == 0)
		choose_irq(links, intx->link);
	irq_line_init(&intx->line, links->chip, intx->gsi);
	pci_set_cfg(func, PCI_CFG_INT_PIN, 1, intx->pin, 0);
	pci_set_cfg(func, PCI_CFG_INT_LINE, 1, links->initial[intx->link],
	    0xff);
}

static void
intx_drive_locked(struct pci_func *func)
{
	struct pci_intx *intx = &func->intx;
	bool pull = intx->asserted && !intx->blocked;

	irq_line_set(&intx->line, pull);
	link_pull(pci_host_links(func->host), intx, pull);
}

void
pci_intx_set(struct pci_func *func, bool asserted)
{
	assert(func->intx.pin != 0);
	lock_take(&func->irq_lock);
	func->intx.asserted = asserted;
	intx_drive_locked(func);
	lock_drop(&func->irq_lock);
}

void
pci_intx_update(struct pci_func *func)
{
	uint32_t command = pci_get_cfg(func, PCI_CFG_COMMAND, 2);

	if (func->intx.pin == 0)
		return;
	lock_take(&func->irq_lock);
	func->intx.blocked = (command & PCI_COMMAND_INTX_DISABLE) ||
	    pci_msi_wanted(func) || pci_msix_wanted(func);
	intx_drive_locked(func);
	lock_drop(&func->irq_lock);
}

void
pci_intx_forget(struct pci_func *func)
{
	lock_take(&func->irq_lock);
	func->intx.asserted = false;
	lock_drop(&func->irq_lock);
}

bool
pci_intx_asserted(struct pci_func *func)
{
	bool asserted;

	lock_take(&func->irq_lock);
	asserted = func->intx.asserted;
	lock_drop(&func->irq_lock);
	return asserted;
}
