/*
 * Where things are on bhyve's PC: addresses, ports and lines that a guest, its
 * firmware and its tables must agree on.  doc/architecture.md has the map.
 */
#ifndef VM_PLATFORM_H
#define VM_PLATFORM_H

/* Guest physical addresses */
#define PLAT_LOWMEM_LIMIT 0xc0000000ULL /* RAM ends here, the rest from 4 GiB */
#define PLAT_MPTABLE_BASE 0xe0000ULL
#define PLAT_SMBIOS_BASE 0xf1000ULL
#define PLAT_SMBIOS_MAX 0x1400u
#define PLAT_ACPI_BASE 0xf2400ULL
#define PLAT_ACPI_END 0x100000ULL
#define PLAT_PCI_MEM32_BASE 0xc0000000ULL
#define PLAT_PCI_MEM32_END 0xe0000000ULL
#define PLAT_PCI_MEM64_SIZE 0x800000000ULL /* above all RAM, so aligned */
#define PLAT_ECAM_BASE 0xe0000000ULL
#define PLAT_ECAM_SIZE 0x10000000ULL
#define PLAT_IOAPIC_BASE 0xfec00000ULL
#define PLAT_HPET_BASE 0xfed00000ULL
#define PLAT_LAPIC_BASE 0xfee00000ULL
#define PLAT_ROM_BASE 0xff000000ULL
#define PLAT_4GIB 0x100000000ULL

/* I/O ports */
#define PLAT_PORT_SMI_CMD 0xb2
#define PLAT_SMI_ACPI_ENABLE 0xa0
#define PLAT_SMI_ACPI_DISABLE 0xa1
#define PLAT_PORT_PM1A_EVT 0x400
#define PLAT_PORT_PM1A_CNT 0x404
#define PLAT_PORT_PM_TMR 0x408
#define PLAT_PORT_GPE0 0x40c
#define PLAT_PORT_RESET 0xcf9
#define PLAT_RESET_VALUE 6
#define PLAT_PCI_IO_BASE 0x2000
#define PLAT_PCI_IO_END 0x10000

/* Interrupt lines: ISA IRQs are also the I/O APIC pins, but IRQ 0 is pin 2. */
#define PLAT_IRQ_PIT 0
#define PLAT_IRQ_KEYBOARD 1
#define PLAT_IRQ_RTC 8
#define PLAT_IRQ_SCI 9
#define PLAT_IRQ_MOUSE 12
#define PLAT_IOAPIC_PINS 32
#define PLAT_IOAPIC_PCI_PIN 16 /* the first that INTx pins reach */
#define PLAT_IOAPIC_ID 0

/* PIRQ links: from INTx pins to ISA IRQs, by a register each of the LPC bridge */
#define PLAT_PIRQ_LINKS 8
#define PLAT_PIRQ_IRQS 0xdef8 /* those that a link may be routed to */
#define PLAT_PIRQ_A 0x60      /* to D, one byte each */
#define PLAT_PIRQ_E 0x68      /* to H */
#define PLAT_PIRQ_DISABLED 0x80
#define PLAT_PIRQ_IRQ 0x0f

/* ACPI */
#define PLAT_SLP_TYP_S5 5
#define PLAT_GPE_VMGENC 0

/* Frequencies */
#define PLAT_PIT_HZ 1193182u
#define PLAT_PM_TMR_HZ 3579545u
#define PLAT_HPET_HZ 16777216u

#endif
