/*
 * The ACPI tables whose content hardly varies: FADT, FACS, MADT, HPET, MCFG.
 *
 * Models       ACPI 6.4, sections 5.2.9 (FADT), 5.2.10 (FACS), 5.2.12 (MADT);
 *              IA-PC HPET 1.0a, section 3.2.4; PCI Firmware 3.2, section 4.1.2
 *              (MCFG); with the revisions and values that bhyve's guests know.
 * Not here     processor objects, batteries, embedded controllers, hot plug.
 */
#include "firmware/acpi/acpi_impl.h"
#include "vm/platform.h"

/* Generic address structure, section 5.2.3.2. */
struct acpi_gas {
	uint8_t space; /* 0 memory, 1 I/O */
	uint8_t bits;
	uint8_t offset;
	uint8_t access; /* 0 any, 1 byte, 2 word, 3 double word */
	le64 addr;
};
_Static_assert(sizeof(struct acpi_gas) == 12, "12-byte address");
#define GAS_IO(at, width, by)                                \
	{                                                    \
		.space = 1, .bits = (width), .access = (by), \
		.addr = le64_make(at)                        \
	}

/* ---- FADT and FACS ------------------------------------------------------- */

struct acpi_fadt {
	struct acpi_header h;
	le32 facs;
	le32 dsdt;
	uint8_t reserved;
	uint8_t pm_profile;
	le16 sci_int;
	le32 smi_cmd;
	uint8_t acpi_enable;
	uint8_t acpi_disable;
	uint8_t s4bios_req;
	uint8_t pstate_cnt;
	le32 pm1a_evt_blk;
	le32 pm1b_evt_blk;
	le32 pm1a_cnt_blk;
	le32 pm1b_cnt_blk;
	le32 pm2_cnt_blk;
	le32 pm_tmr_blk;
	le32 gpe0_blk;
	le32 gpe1_blk;
	uint8_t pm1_evt_len;
	uint8_t pm1_cnt_len;
	uint8_t pm2_cnt_len;
	uint8_t pm_tmr_len;
	uint8_t gpe0_blk_len;
	uint8_t gpe1_blk_len;
	uint8_t gpe1_base;
	uint8_t cst_cnt;
	le16 p_lvl2_lat;
	le16 p_lvl3_lat;
	le16 flush_size;
	le16 flush_stride;
	uint8_t duty_offset;
	uint8_t duty_width;
	uint8_t day_alrm;
	uint8_t mon_alrm;
	uint8_t century;
	le16 iapc_boot_arch;
	uint8_t reserved2;
	le32 flags;
	struct acpi_gas reset_reg;
	uint8_t reset_value;
	le16 arm_boot_arch;
	uint8_t minor;
	le64 x_facs;
	le64 x_dsdt;
	struct acpi_gas x_pm1a_evt_blk;
	struct acpi_gas x_pm1b_evt_blk;
	struct acpi_gas x_pm1a_cnt_blk;
	struct acpi_gas x_pm1b_cnt_blk;
	struct acpi_gas x_pm2_cnt_blk;
	struct acpi_gas x_pm_tmr_blk;
	struct acpi_gas x_gpe0_blk;
	struct acpi_gas x_gpe1_blk;
	struct acpi_gas sleep_control;
	struct acpi_gas sleep_status;
};
_Static_assert(sizeof(struct acpi_fadt) == 0x10c, "FADT of revision 5.1");

#define FADT_REVISION 5
#define FADT_MINOR 1
#define FADT_C2_NONE 101 /* a worse latency than C2 may have */
#define FADT_C3_NONE 1001
#define FADT_CENTURY 0x32 /* in the RTC's memory */

#define FADT_BOOT_NO_VGA BIT(2)
#define FADT_BOOT_NO_ASPM BIT(4)

#define FADT_WBINVD BIT(0)
#define FADT_PROC_C1 BIT(2)
#define FADT_SLP_BUTTON BIT(5) /* no fixed one; a fixed power button there is */
#define FADT_TMR_VAL_EXT BIT(8)
#define FADT_RESET_REG_SUP BIT(10)
#define FADT_HEADLESS BIT(12)
#define FADT_FORCE_PHYSICAL BIT(19)

unsigned
acpi_add_fadt(struct acpi_tables *tables, unsigned facs, unsigned dsdt)
{
	const struct acpi_fadt fadt = {
		.h = acpi_header("FACP", FADT_REVISION, "BVFACP  "),
		.sci_int = le16_make(PLAT_IRQ_SCI),
		.smi_cmd = le32_make(PLAT_PORT_SMI_CMD),
		.acpi_enable = PLAT_SMI_ACPI_ENABLE,
		.acpi_disable = PLAT_SMI_ACPI_DISABLE,
		.pm1a_evt_blk = le32_make(PLAT_PORT_PM1A_EVT),
		.pm1a_cnt_blk = le32_make(PLAT_PORT_PM1A_CNT),
		.pm_tmr_blk = le32_make(PLAT_PORT_PM_TMR),
		.gpe0_blk = le32_make(PLAT_PORT_GPE0),
		.pm1_evt_len = 4,
		.pm1_cnt_len = 2,
		.pm_tmr_len = 4,
		.gpe0_blk_len = 2,
		.p_lvl2_lat = le16_make(FADT_C2_NONE),
		.p_lvl3_lat = le16_make(FADT_C3_NONE),
		.century = FADT_CENTURY,
		.iapc_boot_arch =
		    le16_make(FADT_BOOT_NO_VGA | FADT_BOOT_NO_ASPM),
		.flags = le32_make(FADT_WBINVD | FADT_PROC_C1 |
		    FADT_SLP_BUTTON | FADT_TMR_VAL_EXT | FADT_RESET_REG_SUP |
		    FADT_HEADLESS | FADT_FORCE_PHYSICAL),
		.reset_reg = GAS_IO(PLAT_PORT_RESET, 8, 1),
		.reset_value = PLAT_RESET_VALUE,
		.minor = FADT_MINOR,
		.x_pm1a_evt_blk = GAS_IO(PLAT_PORT_PM1A_EVT, 32, 2),
		.x_pm1a_cnt_blk = GAS_IO(PLAT_PORT_PM1A_CNT, 16, 2),
		.x_pm_tmr_blk = GAS_IO(PLAT_PORT_PM_TMR, 32, 3),
		.x_gpe0_blk = GAS_IO(PLAT_PORT_GPE0, 16, 1),
	};
	struct buf out = { 0 };
	unsigned table;

	buf_put(&out, &fadt, sizeof(fadt));
	table = acpi_add(tables, "FACP", &out);
	/* One of the FACS' two addresses has to be 0, of the DSDT's none. */
	acpi_point(tables, table, offsetof(struct acpi_fadt, facs), 4, facs);
	acpi_point(tables, table, offsetof(struct acpi_fadt, dsdt), 4, dsdt);
	acpi_point(tables, table, offsetof(struct acpi_fadt, x_dsdt), 8, dsdt);
	return table;
}

struct acpi_facs {
	char signature[4];
	le32 length;
	le32 hardware_signature;
	le32 waking_vector;
	le32 global_lock;
	le32 flags;
	le64 x_waking_vector;
	uint8_t version;
	uint8_t reserved[31];
};
_Static_assert(sizeof(struct acpi_facs) == 64, "64-byte FACS");

unsigned
acpi_add_facs(struct acpi_tables *tables)
{
	const struct acpi_facs facs = {
		.signature = "FACS",
		.length = le32_make(sizeof(facs)),
		.version = 2,
	};
	struct buf out = { 0 };

	buf_put(&out, &facs, sizeof(facs));
	return acpi_add_raw(tables, "FACS", &out, sizeof(facs));
}

/* ---- MADT ---------------------------------------------------------------- */

/* MPS INTI flags, table 5.59. */
#define MADT_EDGE_HIGH 0x5
#define MADT_LEVEL_LOW 0xf

#define MADT_PCAT_COMPAT 1
#define MADT_ENABLED 1
#define MADT_ALL_CPUS 0xff
#define MADT_ALL_X2APICS 0xffffffff
#define MADT_NMI_LINT 1
#define MADT_XAPIC_IDS 255 /* 255 means all of them: no CPU of that id */

static void
madt_cpu(struct buf *out, uint32_t id)
{
	if (id < MADT_XAPIC_IDS) {
		const struct {
			uint8_t type, length, uid, id;
			le32 flags;
		} lapic = { 0, sizeof(lapic), (uint8_t)id, (uint8_t)id,
			le32_make(MADT_ENABLED) };

		buf_put(out, &lapic, sizeof(lapic));
	} else {
		const struct {
			uint8_t type, length, reserved[2];
			le32 id, flags, uid;
		} x2apic = { 9, sizeof(x2apic), { 0 }, le32_make(id),
			le32_make(MADT_ENABLED), le32_make(id) };

		buf_put(out, &x2apic, sizeof(x2apic));
	}
}

static void
madt_override(struct buf *out, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	const struct {
		uint8_t type, length, bus, irq;
		le32 gsi;
		le16 flags;
	} override = { 2, sizeof(override), 0, irq, le32_make(gsi),
		le16_make(flags) };

	buf_put(out, &override, sizeof(override));
}

unsigned
acpi_add_madt(struct acpi_tables *tables, const struct acpi_params *params)
{
	const struct {
		struct acpi_header h;
		le32 lapic, flags;
	} madt = { acpi_header("APIC", 1, "BVMADT  "),
		le32_make(PLAT_LAPIC_BASE), le32_make(MADT_PCAT_COMPAT) };
	const struct {
		uint8_t type, length, id, reserved;
		le32 addr, gsi_base;
	} ioapic = { 1, sizeof(ioapic), PLAT_IOAPIC_ID, 0,
		le32_make(PLAT_IOAPIC_BASE), le32_make(0) };
	const struct {
		uint8_t type, length, uid;
		le16 flags;
		uint8_t lint;
	} nmi = { 4, sizeof(nmi), MADT_ALL_CPUS, le16_make(MADT_EDGE_HIGH),
		MADT_NMI_LINT };
	const struct {
		uint8_t type, length;
		le16 flags;
		le32 uid;
		uint8_t lint, reserved[3];
	} x2apic_nmi = { 10, sizeof(x2apic_nmi), le16_make(MADT_EDGE_HIGH),
		le32_make(MADT_ALL_X2APICS), MADT_NMI_LINT, { 0 } };
	struct buf out = { 0 };

	buf_put(&out, &madt, sizeof(madt));
	for (unsigned id = 0; id < params->cpus; id++)
		madt_cpu(&out, id);
	buf_put(&out, &ioapic, sizeof(ioapic));
	madt_override(&out, PLAT_IRQ_PIT, 2, MADT_EDGE_HIGH);
	madt_override(&out, PLAT_IRQ_SCI, PLAT_IRQ_SCI, MADT_LEVEL_LOW);
	buf_put(&out, &nmi, sizeof(nmi));
	if (params->cpus > MADT_XAPIC_IDS)
		buf_put(&out, &x2apic_nmi, sizeof(x2apic_nmi));
	return acpi_add(tables, "APIC", &out);
}

/* ---- HPET and MCFG ------------------------------------------------------- */

/* The low half of the capabilities: 8086, 8 timers of 32 bits, revision 1. */
#define HPET_ID 0x80860701
#define HPET_PROTECT_4K 1

unsigned
acpi_add_hpet(struct acpi_tables *tables)
{
	const struct {
		struct acpi_header h;
		le32 id;
		struct acpi_gas base;
		uint8_t number;
		le16 min_tick;
		uint8_t protection;
	} hpet = {
		.h = acpi_header("HPET", 1, "BVHPET  "),
		.id = le32_make(HPET_ID),
		.base.addr = le64_make(PLAT_HPET_BASE),
		.protection = HPET_PROTECT_4K,
	};
	struct buf out = { 0 };

	buf_put(&out, &hpet, sizeof(hpet));
	return acpi_add(tables, "HPET", &out);
}

unsigned
acpi_add_mcfg(struct acpi_tables *tables)
{
	const struct {
		struct acpi_header h;
		uint8_t reserved[8];
		le64 base;
		le16 segment;
		uint8_t first_bus, last_bus;
		uint8_t reserved2[4];
	} mcfg = {
		.h = acpi_header("MCFG", 1, "BVMCFG  "),
		.base = le64_make(PLAT_ECAM_BASE),
		.last_bus = (PLAT_ECAM_SIZE >> 20) - 1,
	};
	struct buf out = { 0 };

	buf_put(&out, &mcfg, sizeof(mcfg));
	return acpi_add(tables, "MCFG", &out);
}
