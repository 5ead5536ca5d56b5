/*
 * What the boot protocols share: where in guest memory things go, and the
 * processor states that more than one of them asks for.
 */
#ifndef FIRMWARE_BOOT_IMPL_H
#define FIRMWARE_BOOT_IMPL_H

#include "firmware/boot.h"
#include "firmware/elf.h"

#define BOOT_CLAIMS_MAX 128

/*
 * Guest memory while it is being filled.  Everything that is put there claims
 * its range first, so that nothing ever lies on top of something else.
 */
struct boot_space {
	struct mem *mem;
	const struct boot_params *params;
	struct e820_entry map[E820_MAX]; /* RAM, ascending */
	unsigned map_count;
	struct boot_claim {
		gpa_t gpa;
		uint64_t len;
		const char *what; /* static: for messages */
	} claims[BOOT_CLAIMS_MAX];
	unsigned claim_count;
};

/* The protocols.  -ENOEXEC, without a sentence: not that kind of file. */
int boot_linux(struct boot_space *space, struct cpu_state *cpu,
    struct err *err);
int boot_pvh(struct boot_space *space, struct cpu_state *cpu, struct err *err);
int boot_multiboot(struct boot_space *space, struct cpu_state *cpu,
    struct err *err);

/*
 * Take [gpa, gpa + len): -ENOSPC if that is not RAM, -EINVAL if something else
 * is there.
 */
int boot_claim(struct boot_space *space, gpa_t gpa, uint64_t len,
    const char *what, struct err *err);

/* Copy to a range that was claimed; it is RAM, so nothing can fail. */
static inline void
boot_put(struct boot_space *space, gpa_t gpa, const void *data, uint64_t len)
{
	int rc = mem_write(space->mem, gpa, data, len);

	assert(rc == 0);
	(void)rc;
}

static inline void
boot_zero(struct boot_space *space, gpa_t gpa, uint64_t len)
{
	int rc = mem_fill(space->mem, gpa, 0, len);

	assert(rc == 0);
	(void)rc;
}

/*
 * Claim the lowest or the highest len bytes, at a multiple of align (a power
 * of 2), that are free RAM in [min, limit).  limit is at most 4 GiB: no boot
 * protocol here can name more.
 */
int boot_claim_lowest(struct boot_space *space, uint64_t len, uint64_t align,
    gpa_t min, gpa_t limit, const char *what, gpa_t *gpa, struct err *err);
int boot_claim_highest(struct boot_space *space, uint64_t len, uint64_t align,
    gpa_t min, gpa_t limit, const char *what, gpa_t *gpa, struct err *err);

/*
 * Put a structure of ours where the kernel has claimed nothing, in low memory
 * if there is room.  Page 0 is no place for it: that is the BIOS's.
 */
int boot_store(struct boot_space *space, const void *data, size_t len,
    uint64_t align, const char *what, gpa_t *gpa, struct err *err);

/* The same for a string: first, and behind a space second, unless NULL. */
int boot_store_string(struct boot_space *space, const char *first,
    const char *second, const char *what, gpa_t *gpa, struct err *err);

/* Load an ELF's segments to their physical addresses. */
int boot_load_elf(struct boot_space *space, const struct elf *elf,
    struct err *err);

/*
 * An entry must lie in what was loaded, below 4 GiB.  Asked before anything
 * but the kernel has claimed memory.
 */
int boot_check_entry(const struct boot_space *space, gpa_t entry,
    struct err *err);

/*
 * Protected mode, flat, no paging, interrupts off, general registers zero: as
 * Linux, PVH and Multiboot all want it.  Selectors are 0x10 and 0x18, as Linux
 * asks; a table that holds them goes to memory.
 */
int boot_enter_flat(struct boot_space *space, struct cpu_state *cpu,
    gpa_t entry, struct err *err);

/* Long mode with the first 4 GiB mapped one to one, else the same. */
int boot_enter_long(struct boot_space *space, struct cpu_state *cpu,
    gpa_t entry, struct err *err);

#endif
