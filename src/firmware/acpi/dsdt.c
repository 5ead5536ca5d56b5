/*
 * The DSDT: the devices of the machine, in AML.
 *
 *      \_S5                    the only sleep state is off
 *      \PICM, \_PIC            which interrupt chip the system uses
 *      \_SB.PCxx               a root bridge for each bus: windows, _PRT
 *      \_SB.PC00.HPET
 *      \_SB.PC00.ISA           the PCI-ISA bridge, with
 *           PIRA ... PIRH      its PIRQ registers, and methods over them
 *           LNKA ... LNKH      links from PIRQs to 8259A lines
 *           SIO, KBD, MOU, COMn, PIC, TIMR, RTC
 *
 * Models       ACPI 6.4, chapters 5.6 (naming), 6.1, 6.2 (_PRT, _CRS, _PRS,
 *              _SRS, _DIS), 6.3 (_STA), 7.4.2 (_Sx).
 * Links        A PIRQ register holds the 8259A line in bits 3-0; bit 7 is set
 *              where it is not routed.  A line that PCI may not use counts as
 *              not routed, whatever the register says.
 */
#include <stdio.h>

#include "firmware/acpi/acpi_impl.h"
#include "firmware/acpi/aml.h"
#include "vm/platform.h"

#define PCI_CONFIG_LEN 0x100

#define RES_IRQ_MASK 1 /* where an IRQ descriptor has its mask of lines */

/* A device that has no more than an id and what it occupies. */
struct dsdt_isa {
	const char *word;
	const char *id;
	struct {
		uint16_t base;
		uint8_t len;
	} io[2];
	uint16_t irqs; /* mask */
};

static const struct dsdt_isa dsdt_isa_devices[] = {
	{ "KBD", "PNP0303", { { 0x60, 1 }, { 0x64, 1 } },
	    BIT(PLAT_IRQ_KEYBOARD) },
	{ "MOU", "PNP0F13", { { 0 } }, BIT(PLAT_IRQ_MOUSE) },
	{ "PIC", "PNP0000", { { 0x20, 2 }, { 0xa0, 2 } }, BIT(2) },
	{ "TIMR", "PNP0100", { { 0x40, 4 } }, BIT(PLAT_IRQ_PIT) },
	{ "RTC", "PNP0B00", { { 0x70, 2 } }, BIT(PLAT_IRQ_RTC) },
};

static const struct dsdt_isa dsdt_coms[] = {
	{ "COM1", "PNP0501", { { 0x3f8, 8 } }, BIT(4) },
	{ "COM2", "PNP0501", { { 0x2f8, 8 } }, BIT(3) },
	{ "COM3", "PNP0501", { { 0x3e8, 8 } }, BIT(4) },
	{ "COM4", "PNP0501", { { 0x2e8, 8 } }, BIT(3) },
};

static void
dsdt_isa_device(struct aml *aml, const struct dsdt_isa *isa, unsigned uid)
{
	aml_device(aml, isa->word);
	aml_name_eisa_id(aml, "_HID", isa->id);
	if (uid != 0)
		aml_name_int(aml, "_UID", uid);
	aml_name(aml, "_CRS");
	aml_resources(aml);
	for (size_t i = 0; i < ARRAY_SIZE(isa->io) && isa->io[i].len != 0; i++)
		aml_io(aml, isa->io[i].base, isa->io[i].len);
	aml_irq_edge(aml, isa->irqs);
	aml_end(aml);
	aml_end(aml);
}

/* Ports and memory of the board that belong to no device of their own. */
static void
dsdt_sio(struct aml *aml)
{
	aml_device(aml, "SIO");
	aml_name_eisa_id(aml, "_HID", "PNP0C02");
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_io(aml, 0x61, 1);
	aml_io(aml, 0x72, 6); /* the rest of the RTC's ports */
	aml_io(aml, 0x84, 1); /* POST code */
	aml_io(aml, PLAT_PORT_SMI_CMD, 1);
	aml_io(aml, PLAT_PORT_PM1A_EVT, 8); /* and PM1a control */
	aml_io(aml, PLAT_PORT_PM_TMR, 4);
	aml_io(aml, PLAT_PORT_GPE0, 2);
	aml_io(aml, 0x4d0, 2); /* ELCR */
	aml_memory32_fixed(aml, true, PLAT_ECAM_BASE, PLAT_ECAM_SIZE);
	aml_end(aml);
	aml_end(aml);
}

/* Methods that all links share; Arg0 is the value of a PIRQ register. */
static void
dsdt_link_methods(struct aml *aml)
{
	/* The line that it routes to, as a mask; 0 if none. */
	aml_method(aml, "PIRM", 1, AML_NOT_SERIALIZED);
	aml_if(aml);
	aml_op(aml, AML_AND);
	aml_op(aml, AML_ARG0);
	aml_int(aml, PLAT_PIRQ_DISABLED);
	aml_op(aml, AML_NO_TARGET);
	aml_op(aml, AML_RETURN);
	aml_int(aml, 0);
	aml_end(aml);
	aml_op(aml, AML_AND);
	aml_op(aml, AML_ARG0);
	aml_int(aml, PLAT_PIRQ_IRQ);
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_SHIFT_LEFT);
	aml_int(aml, 1);
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_RETURN);
	aml_op(aml, AML_AND);
	aml_op(aml, AML_LOCAL0);
	aml_int(aml, PLAT_PIRQ_IRQS);
	aml_op(aml, AML_NO_TARGET);
	aml_end(aml);

	/* _STA: present and working, and enabled if routed. */
	aml_method(aml, "LSTA", 1, AML_NOT_SERIALIZED);
	aml_if(aml);
	aml_path(aml, "PIRM");
	aml_op(aml, AML_ARG0);
	aml_op(aml, AML_RETURN);
	aml_int(aml, 0x0b);
	aml_end(aml);
	aml_op(aml, AML_RETURN);
	aml_int(aml, 0x09);
	aml_end(aml);

	/* _CRS: the line routed now, or none. */
	aml_method(aml, "LCRS", 1, AML_SERIALIZED);
	aml_name(aml, "LBUF");
	aml_resources(aml);
	aml_irq_level(aml, 0);
	aml_end(aml);
	aml_op(aml, AML_CREATE_WORD_FIELD);
	aml_path(aml, "LBUF");
	aml_int(aml, RES_IRQ_MASK);
	aml_path(aml, "LIRQ");
	aml_op(aml, AML_STORE);
	aml_path(aml, "PIRM");
	aml_op(aml, AML_ARG0);
	aml_path(aml, "LIRQ");
	aml_op(aml, AML_RETURN);
	aml_path(aml, "LBUF");
	aml_end(aml);

	/*
	 * _SRS: the register for the template Arg0.  A template without a line
	 * gives -1, whose low byte has the bit that disables.
	 */
	aml_method(aml, "LSRS", 1, AML_SERIALIZED);
	aml_op(aml, AML_CREATE_WORD_FIELD);
	aml_op(aml, AML_ARG0);
	aml_int(aml, RES_IRQ_MASK);
	aml_path(aml, "LIRQ");
	aml_op(aml, AML_FIND_SET_RIGHT_BIT);
	aml_path(aml, "LIRQ");
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_RETURN);
	aml_op(aml, AML_SUBTRACT);
	aml_op(aml, AML_LOCAL0);
	aml_int(aml, 1);
	aml_op(aml, AML_NO_TARGET);
	aml_end(aml);
}

static void
dsdt_link(struct aml *aml, unsigned link)
{
	const char reg[] = { 'P', 'I', 'R', (char)('A' + link), '\0' };
	const char word[] = { 'L', 'N', 'K', (char)('A' + link), '\0' };

	aml_device(aml, word);
	aml_name_eisa_id(aml, "_HID", "PNP0C0F");
	aml_name_int(aml, "_UID", link + 1);
	aml_name(aml, "_PRS");
	aml_resources(aml);
	aml_irq_level(aml, PLAT_PIRQ_IRQS);
	aml_end(aml);

	aml_method(aml, "_STA", 0, AML_NOT_SERIALIZED);
	aml_op(aml, AML_RETURN);
	aml_path(aml, "LSTA");
	aml_path(aml, reg);
	aml_end(aml);

	aml_method(aml, "_CRS", 0, AML_NOT_SERIALIZED);
	aml_op(aml, AML_RETURN);
	aml_path(aml, "LCRS");
	aml_path(aml, reg);
	aml_end(aml);

	aml_method(aml, "_SRS", 1, AML_NOT_SERIALIZED);
	aml_op(aml, AML_STORE);
	aml_path(aml, "LSRS");
	aml_op(aml, AML_ARG0);
	aml_path(aml, reg);
	aml_end(aml);

	aml_method(aml, "_DIS", 0, AML_NOT_SERIALIZED);
	aml_op(aml, AML_OR);
	aml_path(aml, reg);
	aml_int(aml, PLAT_PIRQ_DISABLED);
	aml_path(aml, reg);
	aml_end(aml);
	aml_end(aml);
}

static void
dsdt_isa_bridge(struct aml *aml, const struct acpi_params *params)
{
	aml_device(aml, "ISA");
	aml_name_int(aml, "_ADR",
	    (uint32_t)params->lpc_slot << 16 | params->lpc_func);
	aml_region(aml, "LPCR", AML_PCI_CONFIG, 0, PCI_CONFIG_LEN);
	aml_byte_field(aml, "LPCR");
	aml_field_skip(aml, PLAT_PIRQ_A * 8);
	aml_field_unit(aml, "PIRA", 8);
	aml_field_unit(aml, "PIRB", 8);
	aml_field_unit(aml, "PIRC", 8);
	aml_field_unit(aml, "PIRD", 8);
	aml_field_skip(aml, (PLAT_PIRQ_E - PLAT_PIRQ_A - 4) * 8);
	aml_field_unit(aml, "PIRE", 8);
	aml_field_unit(aml, "PIRF", 8);
	aml_field_unit(aml, "PIRG", 8);
	aml_field_unit(aml, "PIRH", 8);
	aml_end(aml);

	dsdt_link_methods(aml);
	for (unsigned link = 0; link < PLAT_PIRQ_LINKS; link++)
		dsdt_link(aml, link);
	dsdt_sio(aml);
	for (size_t i = 0; i < ARRAY_SIZE(dsdt_isa_devices); i++)
		dsdt_isa_device(aml, &dsdt_isa_devices[i], 0);
	for (unsigned i = 0; i < ARRAY_SIZE(dsdt_coms); i++) {
		if (params->coms & BIT(i))
			dsdt_isa_device(aml, &dsdt_coms[i], i + 1);
	}
	aml_end(aml);
}

/* ---- root bridges -------------------------------------------------------- */

static void
dsdt_window(struct aml *aml, enum aml_window kind, unsigned width,
    const struct acpi_range *range)
{
	if (range->len != 0)
		aml_bridge_window(aml, kind, width, range->base, range->len);
}

static void
dsdt_bridge_resources(struct aml *aml, const struct acpi_bus *bus)
{
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_bridge_window(aml, AML_BUS_NUMBER, 2, bus->number, 1);
	if (bus->number == 0) {
		/* All ports below those of BARs, but for 0xcf8 to 0xcff. */
		aml_io(aml, 0xcf8, 8);
		aml_bridge_window(aml, AML_IO, 2, 0, 0xcf8);
		aml_bridge_window(aml, AML_IO, 2, 0xd00,
		    PLAT_PCI_IO_BASE - 0xd00);
	}
	dsdt_window(aml, AML_IO, 2, &bus->io);
	dsdt_window(aml, AML_MEMORY, 4, &bus->mem32);
	dsdt_window(aml, AML_MEMORY_CACHEABLE, 8, &bus->mem64);
	aml_end(aml);
}

/* Does the route belong into bus's table for this interrupt chip? */
static bool
dsdt_route_listed(const struct intx_route *route, uint8_t bus, bool ioapic)
{
	return route->bus == bus && (ioapic || route->link != INTX_NO_LINK);
}

/* The value of a _PRT: {slot and any function, pin, source, index or GSI}. */
static void
dsdt_routing_table(struct aml *aml, const char *word, uint8_t bus, bool ioapic,
    const struct acpi_params *params)
{
	unsigned count = 0;

	for (unsigned i = 0; i < params->route_count; i++)
		count += dsdt_route_listed(&params->routes[i], bus, ioapic);
	aml_name(aml, word);
	aml_package(aml, count);
	for (unsigned i = 0; i < params->route_count; i++) {
		const struct intx_route *route = &params->routes[i];
		char link[] = "\\_SB.PC00.ISA.LNKA";

		if (!dsdt_route_listed(route, bus, ioapic))
			continue;
		aml_package(aml, 4);
		aml_int(aml, (uint32_t)route->slot << 16 | 0xffff);
		aml_int(aml, route->pin - 1);
		if (ioapic) {
			aml_int(aml, 0);
			aml_int(aml, route->gsi);
		} else {
			link[sizeof(link) - 2] = (char)('A' + route->link);
			aml_path(aml, link);
			aml_int(aml, 0);
		}
		aml_end(aml);
	}
	aml_end(aml);
}

static void
dsdt_routing(struct aml *aml, uint8_t bus, const struct acpi_params *params)
{
	dsdt_routing_table(aml, "APRT", bus, true, params);
	if (params->lpc)
		dsdt_routing_table(aml, "PPRT", bus, false, params);
	aml_method(aml, "_PRT", 0, AML_NOT_SERIALIZED);
	if (params->lpc) {
		/* Without the bridge there is no router for the 8259A. */
		aml_if(aml);
		aml_op(aml, AML_LNOT);
		aml_path(aml, "PICM");
		aml_op(aml, AML_RETURN);
		aml_path(aml, "PPRT");
		aml_end(aml);
	}
	aml_op(aml, AML_RETURN);
	aml_path(aml, "APRT");
	aml_end(aml);
}

static void
dsdt_hpet(struct aml *aml)
{
	aml_device(aml, "HPET");
	aml_name_eisa_id(aml, "_HID", "PNP0103");
	aml_name_int(aml, "_UID", 0);
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_memory32_fixed(aml, true, PLAT_HPET_BASE, 0x400);
	aml_end(aml);
	aml_end(aml);
}

static void
dsdt_bus(struct aml *aml, const struct acpi_bus *bus,
    const struct acpi_params *params)
{
	char word[5];

	(void)snprintf(word, sizeof(word), "PC%02X", bus->number);
	aml_device(aml, word);
	aml_name_eisa_id(aml, "_HID", "PNP0A03");
	aml_name_int(aml, "_UID", bus->number);
	aml_name_int(aml, "_BBN", bus->number);
	dsdt_bridge_resources(aml, bus);
	if (bus->number == 0 && params->lpc)
		dsdt_isa_bridge(aml, params);
	dsdt_routing(aml, bus->number, params);
	if (bus->number == 0 && params->hpet)
		dsdt_hpet(aml);
	aml_end(aml);
}

unsigned
acpi_add_dsdt(struct acpi_tables *tables, const struct acpi_params *params)
{
	const struct acpi_header h = acpi_header("DSDT", 2, "BVDSDT  ");
	struct aml aml = { 0 };

	buf_put(&aml.out, &h, sizeof(h));
	aml_name(&aml, "_S5");
	aml_package(&aml, 2);
	aml_int(&aml, PLAT_SLP_TYP_S5);
	aml_int(&aml, 0);
	aml_end(&aml);

	aml_name_int(&aml, "PICM", 0);
	aml_method(&aml, "_PIC", 1, AML_NOT_SERIALIZED);
	aml_op(&aml, AML_STORE);
	aml_op(&aml, AML_ARG0);
	aml_path(&aml, "PICM");
	aml_end(&aml);

	aml_scope(&aml, "\\_SB");
	for (unsigned i = 0; i < params->bus_count; i++)
		dsdt_bus(&aml, &params->buses[i], params);
	aml_end(&aml);
	assert(aml.depth == 0);
	return acpi_add(tables, "DSDT", &aml.out);
}
