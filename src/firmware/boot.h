/*
 * Booting without firmware: a kernel file put into guest memory, and the state
 * its boot protocol asks of the first processor.
 *
 *      linux       bzImage, 64-bit protocol (Documentation/arch/x86/boot)
 *      pvh         ELF with an XEN_ELFNOTE_PHYS32_ENTRY note
 *      multiboot   ELF or a.out-kludge image with a Multiboot 1 header
 *
 * Files are foreign bytes: whatever they say is checked against their length
 * and the guest's memory before it is used.
 */
#ifndef FIRMWARE_BOOT_H
#define FIRMWARE_BOOT_H

#include "base/err.h"
#include "engine/cpu_state.h"
#include "mem/mem.h"

struct boot_image {
	const char *name;    /* for messages, and as modules' command lines */
	const uint8_t *data; /* borrowed */
	size_t len;
};

#define BOOT_MODULES_MAX 32
#define BOOT_CMDLINE_MAX 65536u

struct boot_params {
	const char *protocol; /* "auto", or one of those above */
	struct boot_image kernel;
	struct boot_image modules[BOOT_MODULES_MAX]; /* Linux: an initrd */
	unsigned module_count;
	const char *cmdline; /* may be NULL */
	gpa_t rsdp;          /* 0: no ACPI tables */
};

/*
 * Load, and change *cpu, which cpu_state_reset() has filled, to the entry of
 * the kernel.  "auto" tries linux, multiboot, pvh.  A Multiboot command line
 * begins with the kernel's name.
 * -EINVAL for a file that is none of the above, -ENOSPC if memory is too small;
 * the sentence names the file.
 */
int boot_load(struct mem *mem, const struct boot_params *params,
    struct cpu_state *cpu, struct err *err);

/* RAM and holes as BIOS E820 tells them; also for other firmware. */
struct e820_entry {
	uint64_t base;
	uint64_t len;
	uint32_t type; /* 1 RAM, 2 reserved */
};
#define E820_MAX 16
unsigned e820_map(const struct mem *mem, struct e820_entry map[E820_MAX]);

#endif
