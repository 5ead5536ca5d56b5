/*
 * Where the INTx pins of PCI devices arrive, as the ACPI and MP tables tell it.
 */
#ifndef FIRMWARE_INTX_H
#define FIRMWARE_INTX_H

#include <stdint.h>

#define INTX_NO_LINK 0xff

/* One for each pin in use of a slot, whichever functions share it. */
struct intx_route {
	uint8_t bus;
	uint8_t slot;
	uint8_t pin;  /* as in configuration space: 1 is INTA, 4 is INTD */
	uint8_t gsi;  /* pin of the I/O APIC */
	uint8_t link; /* 8259A side: 0 is LNKA, 7 is LNKH, or INTX_NO_LINK */
};

#endif
