/*
 * A reader of ELF executables (System V ABI, generic and x86 supplements) over
 * bytes that nobody vouches for: 32- and 64-bit little-endian x86 files, their
 * program headers and notes.  Sections and symbols are of no use to a loader.
 *
 * What a call returns lies within the file; whether it fits into a guest is
 * the caller's question.
 */
#ifndef FIRMWARE_ELF_H
#define FIRMWARE_ELF_H

#include "base/err.h"

#define ELF_PT_LOAD 1u
#define ELF_PT_NOTE 4u

struct elf {
	const uint8_t *data; /* borrowed */
	size_t len;
	bool is64;
	uint64_t entry;
	uint64_t phoff;
	unsigned phnum;
	unsigned phentsize;
};

struct elf_segment {
	uint32_t type;
	uint64_t vaddr;
	uint64_t paddr;
	uint64_t memsz;
	const uint8_t *bytes; /* filesz of them, in the file */
	uint64_t filesz;
};

/*
 * -ENOEXEC for a file that is no ELF at all, without a sentence; -EINVAL for
 * one that we cannot load or that lies about itself.
 */
int elf_open(struct elf *elf, const void *data, size_t len, struct err *err);

/*
 * Program header i, below elf->phnum.  -EINVAL if its bytes are not in the
 * file, or if a segment to load is larger there than in memory or wraps.
 */
int elf_segment(const struct elf *elf, unsigned i, struct elf_segment *segment,
    struct err *err);

/* The first note of this name and type: its contents, or NULL. */
const uint8_t *elf_note(const struct elf *elf, const char *name, uint32_t type,
    size_t *len);

#endif
