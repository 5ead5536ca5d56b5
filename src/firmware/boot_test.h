/*
 * What the tests of the boot protocols share: a machine's memory, files made
 * field by field, and looks at what the loader left behind.
 */
#ifndef FIRMWARE_BOOT_TEST_H
#define FIRMWARE_BOOT_TEST_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "firmware/boot.h"

/* A loader's whole world; `file` is owned, the rest of params borrowed. */
struct boot_bench {
	struct mem *mem;
	struct boot_params params;
	struct cpu_state cpu;
	struct err err;
	uint8_t *file;
};

static inline struct boot_bench *
boot_bench_new(uint64_t memory, size_t file_len)
{
	struct boot_bench *b = xcalloc(1, sizeof(*b));

	b->mem = mem_new(&(struct mem_params) { 0 });
	assert_int_equal(mem_add_pc_ram(b->mem, memory, 3 * GIB, &b->err), 0);
	b->file = xcalloc(1, file_len);
	b->params.protocol = "auto";
	b->params.kernel.name = "kernel";
	b->params.kernel.data = b->file;
	b->params.kernel.len = file_len;
	return b;
}

static inline void
boot_bench_free(struct boot_bench *b)
{
	mem_free(b->mem);
	free(b->file);
	free(b);
}

/* Load over registers full of rubbish: what matters must be set. */
static inline int
boot_bench_load(struct boot_bench *b)
{
	memset(&b->cpu, 0x5a, sizeof(b->cpu));
	b->err.msg[0] = '\0';
	return boot_load(b->mem, &b->params, &b->cpu, &b->err);
}

/* Fails with that code, and a sentence that names the file and has `words`. */
static inline void
boot_bench_refused(struct boot_bench *b, int rc, const char *words)
{
	assert_int_equal(boot_bench_load(b), rc);
	if (strstr(b->err.msg, b->params.kernel.name) == NULL ||
	    strstr(b->err.msg, words) == NULL)
		fail_msg("\"%s\" has no \"%s\"", b->err.msg, words);
}

static inline uint32_t
guest_u32(struct boot_bench *b, gpa_t gpa)
{
	le32 v;

	assert_int_equal(mem_read(b->mem, gpa, &v, sizeof(v)), 0);
	return le32_get(v);
}

static inline uint64_t
guest_u64(struct boot_bench *b, gpa_t gpa)
{
	le64 v;

	assert_int_equal(mem_read(b->mem, gpa, &v, sizeof(v)), 0);
	return le64_get(v);
}

static inline void
guest_is(struct boot_bench *b, gpa_t gpa, const void *data, size_t len)
{
	const void *there = mem_ptr_read(b->mem, gpa, len);

	assert_non_null(there);
	assert_memory_equal(there, data, len);
}

/* Is there this string, with its NUL, below 4 GiB? */
static inline void
guest_says(struct boot_bench *b, gpa_t gpa, const char *text)
{
	assert_true(gpa != 0 && gpa < 4 * GIB);
	guest_is(b, gpa, text, strlen(text) + 1);
}

/* The descriptor of a selector says what the segment register holds. */
static inline void
check_descriptor(struct boot_bench *b, enum cpu_seg which)
{
	const struct cpu_segment *seg = &b->cpu.seg[which];
	uint64_t d = guest_u64(b, b->cpu.gdtr.base + seg->selector);
	uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));

	assert_true(seg->selector != 0);
	assert_true(seg->selector + 7u <= b->cpu.gdtr.limit);
	if (d & BIT(55))
		limit = limit << 12 | 0xfff;
	assert_int_equal(limit, seg->limit);
	assert_int_equal(d >> 40 & 0xf0ff, seg->access);
	assert_int_equal((d >> 16 & 0xffffff) | d >> 56 << 24, seg->base);
	assert_int_equal(seg->base, 0);
}

/* Flat segments, interrupts off: common to all entries. */
static inline void
check_flat(struct boot_bench *b, uint32_t code_access)
{
	for (unsigned s = CPU_ES; s <= CPU_GS; s++) {
		assert_int_equal(b->cpu.seg[s].limit, UINT32_MAX);
		if (s != CPU_CS) {
			assert_int_equal(b->cpu.seg[s].access, 0xc093);
			assert_int_equal(b->cpu.seg[s].selector, 0x18);
		}
		check_descriptor(b, s);
	}
	assert_int_equal(b->cpu.seg[CPU_CS].access, code_access);
	assert_int_equal(b->cpu.seg[CPU_CS].selector, 0x10);
	assert_int_equal(b->cpu.seg[CPU_TR].access, 0x8b);
	assert_int_equal(b->cpu.seg[CPU_TR].limit, 0x67);
	check_descriptor(b, CPU_TR);
	assert_int_equal(b->cpu.rflags, 2);
}

/* Protected mode without paging, registers zero but for those in `mask`. */
static inline void
check_entry32(struct boot_bench *b, uint64_t rip, unsigned mask)
{
	check_flat(b, 0xc09b);
	assert_int_equal(b->cpu.rip, rip);
	assert_int_equal(b->cpu.cr0, 0x11);
	assert_int_equal(b->cpu.cr4, 0);
	assert_int_equal(b->cpu.efer, 0);
	for (unsigned r = 0; r < CPU_GPRS; r++)
		if (!(mask & BIT(r)))
			assert_int_equal(b->cpu.gpr[r], 0);
}

/* A file cut short anywhere is refused or loaded, never read beyond its end. */
static inline void
check_truncations(struct boot_bench *b, size_t shortest_good)
{
	size_t full = b->params.kernel.len;

	for (size_t len = 0; len < full; len++) {
		/* A copy of exactly that length, for the sanitizer. */
		uint8_t *copy = malloc(len != 0 ? len : 1);

		assert_non_null(copy);
		memcpy(copy, b->file, len);
		b->params.kernel.data = copy;
		b->params.kernel.len = len;
		if (len < shortest_good)
			boot_bench_refused(b, -EINVAL, "");
		else
			assert_int_equal(boot_bench_load(b), 0);
		free(copy);
	}
	b->params.kernel.data = b->file;
	b->params.kernel.len = full;
}

/* An ELF whose program headers follow its header, all of it in `file`. */
struct elf_maker {
	uint8_t *file;
	bool is64;
	unsigned phnum;
};

static inline struct elf_maker
elf_make(uint8_t *file, bool is64, uint64_t entry)
{
	memcpy(file, "\177ELF", 4);
	file[4] = is64 ? 2 : 1;
	file[5] = 1;
	file[6] = 1;
	le16_store(file + 16, 2);
	le16_store(file + 18, is64 ? 62 : 3);
	le32_store(file + 20, 1);
	if (is64) {
		le64_store(file + 24, entry);
		le64_store(file + 32, 64);
		le16_store(file + 52, 64);
		le16_store(file + 54, 56);
	} else {
		le32_store(file + 24, (uint32_t)entry);
		le32_store(file + 28, 52);
		le16_store(file + 40, 52);
		le16_store(file + 42, 32);
	}
	return (struct elf_maker) { .file = file, .is64 = is64 };
}

static inline void
elf_make_segment(struct elf_maker *m, uint32_t type, uint64_t offset,
    uint64_t vaddr, uint64_t paddr, uint64_t filesz, uint64_t memsz)
{
	uint8_t *p =
	    m->file + (m->is64 ? 64 + 56 * m->phnum : 52 + 32 * m->phnum);

	le32_store(p, type);
	if (m->is64) {
		le64_store(p + 8, offset);
		le64_store(p + 16, vaddr);
		le64_store(p + 24, paddr);
		le64_store(p + 32, filesz);
		le64_store(p + 40, memsz);
	} else {
		le32_store(p + 4, (uint32_t)offset);
		le32_store(p + 8, (uint32_t)vaddr);
		le32_store(p + 12, (uint32_t)paddr);
		le32_store(p + 16, (uint32_t)filesz);
		le32_store(p + 20, (uint32_t)memsz);
	}
	m->phnum++;
	le16_store(m->file + (m->is64 ? 56 : 44), (uint16_t)m->phnum);
}

/* A note at p; its length. */
static inline size_t
elf_make_note(uint8_t *p, const char *name, uint32_t type, const void *desc,
    uint32_t descsz)
{
	uint32_t namesz = (uint32_t)strlen(name) + 1;

	le32_store(p, namesz);
	le32_store(p + 4, descsz);
	le32_store(p + 8, type);
	memcpy(p + 12, name, namesz);
	memcpy(p + 12 + round_up(namesz, 4), desc, descsz);
	return 12 + round_up(namesz, 4) + round_up(descsz, 4);
}

#endif
