/*
 * The MP table.
 *
 * Models       Intel MultiProcessor Specification 1.4, chapter 4: the floating
 *              pointer and the configuration table, without extended entries.
 * Place        the pointer lies where bhyve has it, below the range that the
 *              specification names; systems that look there only use ACPI.
 * Wiring       ISA IRQ n is pin n of the I/O APIC, but IRQ 0 is pin 2 and the
 *              8259A pair pin 0; PCI pins are where their routes say.
 * Locking      none; one thread builds, before the machine starts.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "firmware/mptable.h"
#include "vm/platform.h"

struct mp_pointer {
	char signature[4];
	le32 table;
	uint8_t length; /* in units of 16 bytes */
	uint8_t revision;
	uint8_t checksum;
	uint8_t features[5];
};
_Static_assert(sizeof(struct mp_pointer) == 16, "16-byte pointer");

struct mp_table {
	char signature[4];
	le16 length;
	uint8_t revision;
	uint8_t checksum;
	char oem_id[8];
	char product_id[12];
	le32 oem_table;
	le16 oem_table_len;
	le16 count;
	le32 lapic;
	le16 extended_len;
	uint8_t extended_checksum;
	uint8_t reserved;
};
_Static_assert(sizeof(struct mp_table) == 44, "44-byte header");

struct mp_processor {
	uint8_t type;
	uint8_t apic_id;
	uint8_t apic_version;
	uint8_t flags;
	le32 signature;
	le32 features;
	le32 reserved[2];
};
_Static_assert(sizeof(struct mp_processor) == 20, "20-byte entry");

struct mp_bus {
	uint8_t type;
	uint8_t id;
	char name[6];
};

struct mp_ioapic {
	uint8_t type;
	uint8_t id;
	uint8_t version;
	uint8_t flags;
	le32 addr;
};

/* I/O and local interrupts alike. */
struct mp_interrupt {
	uint8_t type;
	uint8_t kind;
	le16 flags;
	uint8_t bus;
	uint8_t irq;
	uint8_t apic_id;
	uint8_t pin;
};
_Static_assert(sizeof(struct mp_bus) == 8 && sizeof(struct mp_ioapic) == 8 &&
	sizeof(struct mp_interrupt) == 8,
    "8-byte entries");

#define MP_REVISION 4 /* of the specification: 1.4 */

enum mp_entry {
	MP_PROCESSOR,
	MP_BUS,
	MP_IOAPIC,
	MP_IO_INTERRUPT,
	MP_LOCAL_INTERRUPT,
};

#define MP_ENABLED 1
#define MP_BOOT_PROCESSOR 2
#define MP_LAPIC_VERSION 0x10
#define MP_IOAPIC_VERSION 0x11
#define MP_SIGNATURE 0x106a5 /* family 6, model 26, stepping 5 */
#define MP_FEATURES 0xbfebfbff
#define MP_CPUS_MAX 255 /* id 255 addresses all of them */

enum mp_bus_id { MP_BUS_PCI, MP_BUS_ISA };

enum mp_kind { MP_INT = 0, MP_NMI = 1, MP_EXTINT = 3 };
#define MP_CONFORMS 0 /* to its bus: ISA edges, PCI levels */
#define MP_LEVEL_LOW 0xf
#define MP_ALL_APICS 0xff

struct mp_entries {
	struct buf out;
	unsigned count;
};

static void
mp_add(struct mp_entries *entries, const void *entry, size_t len)
{
	buf_put(&entries->out, entry, len);
	entries->count++;
}

static void
mp_add_processor(struct mp_entries *entries, unsigned id)
{
	const struct mp_processor cpu = {
		.type = MP_PROCESSOR,
		.apic_id = (uint8_t)id,
		.apic_version = MP_LAPIC_VERSION,
		.flags = MP_ENABLED | (id == 0 ? MP_BOOT_PROCESSOR : 0),
		.signature = le32_make(MP_SIGNATURE),
		.features = le32_make(MP_FEATURES),
	};

	mp_add(entries, &cpu, sizeof(cpu));
}

static void
mp_add_io_interrupt(struct mp_entries *entries, enum mp_kind kind,
    uint16_t flags, enum mp_bus_id bus, unsigned irq, unsigned pin)
{
	const struct mp_interrupt interrupt = {
		.type = MP_IO_INTERRUPT,
		.kind = (uint8_t)kind,
		.flags = le16_make(flags),
		.bus = (uint8_t)bus,
		.irq = (uint8_t)irq,
		.apic_id = PLAT_IOAPIC_ID,
		.pin = (uint8_t)pin,
	};

	mp_add(entries, &interrupt, sizeof(interrupt));
}

static void
mp_add_local_interrupt(struct mp_entries *entries, enum mp_kind kind,
    unsigned lint)
{
	const struct mp_interrupt interrupt = {
		.type = MP_LOCAL_INTERRUPT,
		.kind = (uint8_t)kind,
		.flags = le16_make(MP_CONFORMS),
		.bus = MP_BUS_ISA,
		.apic_id = MP_ALL_APICS,
		.pin = (uint8_t)lint,
	};

	mp_add(entries, &interrupt, sizeof(interrupt));
}

/* ISA IRQs but the cascade, whose pin is the timer's. */
static void
mp_add_isa_interrupts(struct mp_entries *entries)
{
	mp_add_io_interrupt(entries, MP_EXTINT, MP_CONFORMS, MP_BUS_ISA, 0, 0);
	for (unsigned irq = 0; irq < 16; irq++) {
		if (irq == 2)
			continue;
		mp_add_io_interrupt(entries, MP_INT,
		    irq == PLAT_IRQ_SCI ? MP_LEVEL_LOW : MP_CONFORMS,
		    MP_BUS_ISA, irq, irq == PLAT_IRQ_PIT ? 2 : irq);
	}
}

static void
mp_add_pci_interrupts(struct mp_entries *entries,
    const struct mptable_params *params)
{
	for (unsigned i = 0; i < params->route_count; i++) {
		const struct intx_route *route = &params->routes[i];

		if (route->bus != 0)
			continue;
		mp_add_io_interrupt(entries, MP_INT, MP_CONFORMS, MP_BUS_PCI,
		    (unsigned)route->slot << 2 | (route->pin - 1u), route->gsi);
	}
}

static uint8_t
mp_checksum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += p[i];
	return (uint8_t)-sum;
}

int
mptable_build(const struct mptable_params *params, gpa_t base,
    struct buf *image, struct err *err)
{
	const struct mp_bus pci = { MP_BUS, MP_BUS_PCI, "PCI   " };
	const struct mp_bus isa = { MP_BUS, MP_BUS_ISA, "ISA   " };
	const struct mp_ioapic ioapic = { MP_IOAPIC, PLAT_IOAPIC_ID,
		MP_IOAPIC_VERSION, MP_ENABLED, le32_make(PLAT_IOAPIC_BASE) };
	struct mp_pointer pointer = {
		.signature = "_MP_",
		.table = le32_make((uint32_t)(base + sizeof(pointer))),
		.length = 1,
		.revision = MP_REVISION,
	};
	struct mp_table table = {
		.signature = "PCMP",
		.revision = MP_REVISION,
		.oem_id = "BHyVe   ",
		.product_id = "Hypervisor  ",
		.lapic = le32_make(PLAT_LAPIC_BASE),
	};
	struct mp_entries entries = { 0 };
	size_t checksum = offsetof(struct mp_table, checksum);

	if (params->cpus > MP_CPUS_MAX)
		return err_set(err, -ENOSPC,
		    "the MP table has room for %u processors, not %u: "
		    "x86.mptable=false goes without it",
		    MP_CPUS_MAX, params->cpus);
	buf_put(&entries.out, &table, sizeof(table));
	for (unsigned id = 0; id < params->cpus; id++)
		mp_add_processor(&entries, id);
	mp_add(&entries, &pci, sizeof(pci));
	mp_add(&entries, &isa, sizeof(isa));
	mp_add(&entries, &ioapic, sizeof(ioapic));
	mp_add_isa_interrupts(&entries);
	mp_add_pci_interrupts(&entries, params);
	mp_add_local_interrupt(&entries, MP_EXTINT, 0);
	mp_add_local_interrupt(&entries, MP_NMI, 1);

	table.length = le16_make((uint16_t)entries.out.len);
	table.count = le16_make((uint16_t)entries.count);
	memcpy(entries.out.data, &table, sizeof(table));
	entries.out.data[checksum] =
	    mp_checksum(entries.out.data, entries.out.len);
	pointer.checksum = mp_checksum((uint8_t *)&pointer, sizeof(pointer));

	*image = (struct buf) { 0 };
	buf_put(image, &pointer, sizeof(pointer));
	buf_put(image, entries.out.data, entries.out.len);
	buf_fini(&entries.out);
	return 0;
}

int
mptable_install(struct mem *mem, const struct mptable_params *params,
    struct err *err)
{
	struct buf image;
	int rc;

	rc = mptable_build(params, PLAT_MPTABLE_BASE, &image, err);
	if (rc < 0)
		return rc;
	rc = mem_write(mem, PLAT_MPTABLE_BASE, image.data, image.len);
	buf_fini(&image);
	if (rc < 0)
		return err_set(err, rc, "no memory for the MP table at %#llx",
		    PLAT_MPTABLE_BASE);
	return 0;
}
