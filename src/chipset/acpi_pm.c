/*
 * ACPI fixed hardware: PM1 event and control, PM timer, GPE0, SMI_CMD.
 *
 * Models       ACPI 6.4, chapter 4.8, with bhyve's registers:
 *
 *                0xb2   SMI_CMD    write ACPI_ENABLE or _DISABLE; reads ones
 *                0x400  PM1_STS    write 1 to clear
 *                0x402  PM1_EN     GBL, PWRBTN, RTC
 *                0x404  PM1_CNT    SCI_EN read-only, SLP_TYP, SLP_EN
 *                0x408  PM_TMR     3579545 Hz, 32 bits, read-only
 *                0x40c  GPE0_STS   write 1 to clear
 *                0x40d  GPE0_EN
 *
 *              The SCI is level-triggered: asserted while any status bit and
 *              its enable bit are set, in ACPI mode or not, as bhyve has it.
 *              Only S5 is a sleep state: SLP_EN with another type does
 *              nothing.  Registers take every width; bhyve takes 16 bits alone
 *              for PM1, which the standard does not ask for.
 * Leaves out   TMR_STS, which has no enable bit here; the sleep button; the
 *              RTC's alarm as an event; WAK_STS is never set, for nothing
 *              sleeps.
 * Locking      the device lock; the calls of acpi_pm.h take it.
 * Invariants   1. The line equals (PM1_STS & PM1_EN) | (GPE0_STS & GPE0_EN).
 */
#include "chipset/acpi_pm.h"
#include "irq/irq.h"
#include "vm/platform.h"
#include "vm/vm.h"

#define PM1_STS_TMR BIT(0)
#define PM1_STS_BM BIT(4)
#define PM1_STS_GBL BIT(5)
#define PM1_STS_PWRBTN BIT(8)
#define PM1_STS_SLPBTN BIT(9)
#define PM1_STS_RTC BIT(10)
#define PM1_STS_WAK BIT(15)
#define PM1_STS_MASK                                               \
	(PM1_STS_TMR | PM1_STS_BM | PM1_STS_GBL | PM1_STS_PWRBTN | \
	    PM1_STS_SLPBTN | PM1_STS_RTC | PM1_STS_WAK)
#define PM1_EN_MASK (BIT(5) | BIT(8) | BIT(10))
#define PM1_CNT_SCI_EN BIT(0)
#define PM1_CNT_SLP_TYP(cnt) (((cnt) >> 10) & 7)
#define PM1_CNT_SLP_EN BIT(13)
/* Not bits 0, 1, 14 and 15, which are 0; SLP_EN is for writing only. */
#define PM1_CNT_WRITABLE 0x1ffc
#define GPE0_MASK (BIT(ACPI_PM_GPES) - 1)

struct acpi_pm {
	struct vm *vm;       /* borrowed: owns this */
	struct clock *clock; /* borrowed, likewise */
	struct irq_line sci;

	uint16_t pm1_sts;
	uint16_t pm1_en;
	uint16_t pm1_cnt;
	uint32_t pm_tmr; /* stays 0: the clock is the timer */
	uint8_t gpe0_sts;
	uint8_t gpe0_en;
	uint8_t smi_cmd; /* stays ones: what the port reads */
};

static uint64_t
pm_tmr_read(void *self, const struct reg *reg)
{
	const struct acpi_pm *pm = self;

	/* The core takes the low 32 bits: the timer wraps every 20 minutes. */
	return clock_ns_to_ticks(clock_now(pm->clock), PLAT_PM_TMR_HZ);
}

static void
pm1_cnt_wrote(void *self, const struct reg *reg, uint64_t value)
{
	const struct acpi_pm *pm = self;

	/* SLP_TYP from the register: a write of the high byte has it, too. */
	if ((value & PM1_CNT_SLP_EN) &&
	    PM1_CNT_SLP_TYP(pm->pm1_cnt) == PLAT_SLP_TYP_S5)
		vm_end(pm->vm, VM_END_POWEROFF);
}

static void
smi_cmd_wrote(void *self, const struct reg *reg, uint64_t value)
{
	struct acpi_pm *pm = self;

	if (value == PLAT_SMI_ACPI_ENABLE)
		pm->pm1_cnt |= PM1_CNT_SCI_EN;
	else if (value == PLAT_SMI_ACPI_DISABLE)
		pm->pm1_cnt &= (uint16_t)~PM1_CNT_SCI_EN;
}

static const struct reg acpi_pm_regs[] = {
	REG16(0, struct acpi_pm, pm1_sts, 0, 0, .clear = PM1_STS_MASK),
	REG16(2, struct acpi_pm, pm1_en, 0, PM1_EN_MASK),
	REG16(4, struct acpi_pm, pm1_cnt, 0, PM1_CNT_WRITABLE,
	    .device = PM1_CNT_SCI_EN, .wrote = pm1_cnt_wrote),
	REG32(8, struct acpi_pm, pm_tmr, 0, 0, .read = pm_tmr_read),
	REG8(12, struct acpi_pm, gpe0_sts, 0, 0, .clear = GPE0_MASK),
	REG8(13, struct acpi_pm, gpe0_en, 0, GPE0_MASK),
};

static const struct reg smi_regs[] = {
	REG8(0, struct acpi_pm, smi_cmd, 0xff, 0, .wrote = smi_cmd_wrote),
};

static void
acpi_pm_changed(void *self)
{
	struct acpi_pm *pm = self;

	irq_line_set(&pm->sci,
	    (pm->pm1_sts & pm->pm1_en) != 0 ||
		(pm->gpe0_sts & pm->gpe0_en) != 0);
}

bool
acpi_pm_power_button(struct device *dev)
{
	struct acpi_pm *pm = device_self(dev);
	bool pressed;

	lock_take(device_lock(dev));
	pressed = pm->pm1_cnt & PM1_CNT_SCI_EN;
	if (pressed) {
		pm->pm1_sts |= PM1_STS_PWRBTN;
		acpi_pm_changed(pm);
	}
	lock_drop(device_lock(dev));
	return pressed;
}

void
acpi_pm_raise_gpe(struct device *dev, unsigned n)
{
	struct acpi_pm *pm = device_self(dev);

	assert(n < ACPI_PM_GPES);
	lock_take(device_lock(dev));
	pm->gpe0_sts |= (uint8_t)BIT(n);
	acpi_pm_changed(pm);
	lock_drop(device_lock(dev));
}

static int
acpi_pm_create(struct device *dev, void *self, struct err *err)
{
	struct acpi_pm *pm = self;
	int rc;

	pm->vm = device_vm(dev);
	pm->clock = device_clock(dev);
	irq_line_init(&pm->sci, device_irq_chip(dev), PLAT_IRQ_SCI);
	/* The tables call it level-triggered, but no firmware may come by. */
	irq_wire_level(pm->sci.chip, PLAT_IRQ_SCI, true);
	rc = device_map_ports(dev, PLAT_PORT_PM1A_EVT, REG_TABLE(acpi_pm_regs),
	    err);
	if (rc < 0)
		return rc;
	return device_map_ports(dev, PLAT_PORT_SMI_CMD, REG_TABLE(smi_regs),
	    err);
}

DEVICE_MODEL(acpi_pm) = {
	.name = "acpi_pm",
	.state_version = 1,
	.size = sizeof(struct acpi_pm),
	.create = acpi_pm_create,
	.changed = acpi_pm_changed,
};
