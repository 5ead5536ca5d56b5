/*
 * PVH kernels: the start info, and segments that lie about where they go.
 */
#include "firmware/boot_test.h"
#include "firmware/elf.h"

#define FILE_LEN 0x1000
#define NOTE_AT 0x800
#define CODE_AT 0xa00
#define CODE_LEN 0x300

/* Code at 2 MiB with some bss, and the note with an entry of `size` bytes. */
static struct boot_bench *
pvh_bench(uint64_t memory, bool is64, uint64_t entry, unsigned size,
    struct elf_maker *maker)
{
	struct boot_bench *b = boot_bench_new(memory, FILE_LEN);
	struct elf_maker m = elf_make(b->file, is64, 0xffffffff81000000);
	le64 desc = le64_make(entry);
	size_t len;

	for (size_t i = 0; i < CODE_LEN; i++)
		b->file[CODE_AT + i] = (uint8_t)(i ^ i >> 8 ^ 0x5c);
	len = elf_make_note(b->file + NOTE_AT, "Xen", 18, &desc, size);
	elf_make_segment(&m, ELF_PT_NOTE, NOTE_AT, 0, 0, len, len);
	elf_make_segment(&m, ELF_PT_LOAD, CODE_AT, 0xffffffff81000000, 2 * MIB,
	    CODE_LEN, CODE_LEN + 0x2000);
	if (maker != NULL)
		*maker = m;
	return b;
}

static void
enters_with_start_info(void **state)
{
	for (unsigned is64 = 0; is64 < 2; is64++) {
		struct boot_bench *b = pvh_bench(6 * GIB, is64, 2 * MIB + 0x40,
		    is64 ? 8 : 4, NULL);
		gpa_t info, list;

		/* What a previous kernel has left is no bss. */
		assert_int_equal(mem_fill(b->mem, 2 * MIB, 0xee, MIB), 0);
		b->params.modules[0] = (struct boot_image) { "initrd a=b",
			(const uint8_t *)"first", 5 };
		b->params.modules[1] = (struct boot_image) { "other",
			(const uint8_t *)"second", 6 };
		b->params.module_count = 2;
		b->params.cmdline = "console=ttyS0";
		b->params.rsdp = 0xf2400;
		assert_int_equal(boot_bench_load(b), 0);
		check_entry32(b, 2 * MIB + 0x40, BIT(CPU_RBX));
		guest_is(b, 2 * MIB, b->file + CODE_AT, CODE_LEN);
		for (gpa_t at = 2 * MIB + CODE_LEN;
		     at < 2 * MIB + CODE_LEN + 0x2000; at += 4)
			assert_int_equal(guest_u32(b, at), 0);

		info = b->cpu.gpr[CPU_RBX];
		assert_int_equal(guest_u32(b, info), 0x336ec578);
		assert_int_equal(guest_u32(b, info + 4), 1);
		assert_int_equal(guest_u32(b, info + 8), 0);
		assert_int_equal(guest_u32(b, info + 12), 2);
		guest_says(b, guest_u64(b, info + 24), "console=ttyS0");
		assert_int_equal(guest_u64(b, info + 32), 0xf2400);
		assert_int_equal(guest_u32(b, info + 48), 3);
		assert_int_equal(guest_u32(b, info + 52), 0);

		list = guest_u64(b, info + 16);
		guest_is(b, guest_u64(b, list), "first", 5);
		assert_int_equal(guest_u64(b, list) % 4096, 0);
		assert_int_equal(guest_u64(b, list + 8), 5);
		guest_says(b, guest_u64(b, list + 16), "initrd a=b");
		assert_int_equal(guest_u64(b, list + 24), 0);
		guest_is(b, guest_u64(b, list + 32), "second", 6);
		assert_int_equal(guest_u64(b, list + 40), 6);
		guest_says(b, guest_u64(b, list + 48), "other");

		list = guest_u64(b, info + 40);
		assert_int_equal(guest_u64(b, list), 0);
		assert_int_equal(guest_u64(b, list + 8), 0xa0000);
		assert_int_equal(guest_u32(b, list + 16), 1);
		assert_int_equal(guest_u64(b, list + 24), MIB);
		assert_int_equal(guest_u64(b, list + 32), 3 * GIB - MIB);
		assert_int_equal(guest_u64(b, list + 48), 4 * GIB);
		assert_int_equal(guest_u64(b, list + 56), 3 * GIB);
		boot_bench_free(b);
	}
}

static void
start_info_without_extras(void **state)
{
	struct boot_bench *b = pvh_bench(16 * MIB, true, 2 * MIB, 4, NULL);
	gpa_t info;

	b->params.protocol = "pvh";
	assert_int_equal(boot_bench_load(b), 0);
	info = b->cpu.gpr[CPU_RBX];
	assert_int_equal(guest_u32(b, info + 12), 0);
	assert_int_equal(guest_u64(b, info + 16), 0);
	assert_int_equal(guest_u64(b, info + 24), 0);
	assert_int_equal(guest_u64(b, info + 32), 0);
	assert_int_equal(guest_u32(b, info + 48), 2);
	boot_bench_free(b);
}

static void
entries_that_lie_are_refused(void **state)
{
	static const uint64_t entries[] = { 0, 2 * MIB - 1,
		2 * MIB + CODE_LEN + 0x2000, 4 * GIB, 4 * GIB + 2 * MIB,
		UINT64_MAX };
	struct boot_bench *b;

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++) {
		b = pvh_bench(6 * GIB, true, entries[i], 8, NULL);
		boot_bench_refused(b, -EINVAL, "entry 0x");
		boot_bench_free(b);
	}
	for (unsigned size = 0; size < 8; size++) {
		if (size == 4)
			continue;
		b = pvh_bench(16 * MIB, true, 2 * MIB, size, NULL);
		boot_bench_refused(b, -EINVAL, "entry note");
		boot_bench_free(b);
	}
	/* In the bss it is odd, but it is there. */
	b = pvh_bench(16 * MIB, true, 2 * MIB + CODE_LEN + 0x1fff, 8, NULL);
	assert_int_equal(boot_bench_load(b), 0);
	boot_bench_free(b);
}

static void
segments_that_do_not_fit_are_refused(void **state)
{
	static const struct {
		uint64_t paddr, memsz;
		int rc;
		const char *words;
	} cases[] = {
		{ 3 * MIB, 0x1000, 0, NULL },
		{ 3 * MIB, 13 * MIB, 0, NULL },
		{ 3 * MIB, 13 * MIB + 1, -ENOSPC, "not all RAM" },
		{ 16 * MIB, 0x1000, -ENOSPC, "not all RAM" },
		{ 0x9f000, 0x1001, -ENOSPC, "not all RAM" },
		{ 0xa0000, 0x1000, -ENOSPC, "not all RAM" },
		{ 0xf2000, 0x1000, -ENOSPC, "not all RAM" },
		{ 0xff000, 0x2000, -ENOSPC, "not all RAM" },
		{ 0, 16 * MIB, -ENOSPC, "not all RAM" },
		{ 0, UINT64_MAX, -ENOSPC, "not all RAM" },
		{ UINT64_MAX - 0xfff, 0xfff, -ENOSPC, "not all RAM" },
		{ UINT64_MAX - 0xfff, 0x1000, -EINVAL, "segment 2" },
		{ 2 * MIB, 0x100, -EINVAL, "overlaps kernel segment" },
		{ 2 * MIB - 0xff, 0x100, -EINVAL, "overlaps kernel segment" },
		{ 2 * MIB - 0x100, 0x100, 0, NULL },
		{ 2 * MIB + CODE_LEN + 0x1fff, 0x100, -EINVAL, "overlaps" },
		{ 2 * MIB + CODE_LEN + 0x2000, 0x100, 0, NULL },
		{ MIB, 2 * MIB, -EINVAL, "overlaps kernel segment" },
		{ 3 * MIB, 0xf, -EINVAL, "segment 2 claims" },
		/* Nothing at all may be anywhere. */
		{ 0xa0000, 0, 0, NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct elf_maker m;
		struct boot_bench *b =
		    pvh_bench(16 * MIB, true, 2 * MIB, 8, &m);
		uint64_t filesz = cases[i].memsz != 0 ? 0x10 : 0;

		elf_make_segment(&m, ELF_PT_LOAD, CODE_AT, 0, cases[i].paddr,
		    filesz, cases[i].memsz);
		if (cases[i].rc != 0)
			boot_bench_refused(b, cases[i].rc, cases[i].words);
		else
			assert_int_equal(boot_bench_load(b), 0);
		boot_bench_free(b);
	}
}

static void
segments_and_notes_are_bounded(void **state)
{
	struct boot_bench *b = boot_bench_new(16 * MIB, 64 * KIB);
	struct elf_maker m = elf_make(b->file, true, 0);
	le32 entry = le32_make(MIB);
	size_t len;

	for (unsigned i = 0; i < 1000; i++)
		elf_make_segment(&m, ELF_PT_LOAD, 0, 0, MIB + i * 16, 16, 16);
	len = elf_make_note(b->file + 0xf000, "Xen", 18, &entry, 4);
	elf_make_segment(&m, ELF_PT_NOTE, 0xf000, 0, 0, len, len);
	boot_bench_refused(b, -EINVAL, "pieces to load");
	boot_bench_free(b);
}

static void
nothing_to_load_is_refused(void **state)
{
	struct boot_bench *b = boot_bench_new(16 * MIB, FILE_LEN);
	struct elf_maker m = elf_make(b->file, true, 0);
	le32 entry = le32_make(MIB);
	size_t len;

	len = elf_make_note(b->file + NOTE_AT, "Xen", 18, &entry, 4);
	elf_make_segment(&m, ELF_PT_NOTE, NOTE_AT, 0, 0, len, len);
	boot_bench_refused(b, -EINVAL, "nothing to load");
	boot_bench_free(b);
}

static void
modules_need_room(void **state)
{
	struct boot_bench *b = pvh_bench(16 * MIB, true, 2 * MIB, 8, NULL);
	uint8_t *big = xcalloc(1, 14 * MIB);

	b->params.modules[0] = (struct boot_image) { "big", big, 13 * MIB };
	b->params.modules[1] = (struct boot_image) { "more", big, MIB };
	b->params.module_count = 1;
	assert_int_equal(boot_bench_load(b), 0);
	guest_is(b, 2 * MIB, b->file + CODE_AT, CODE_LEN);
	/* Below the kernel is place for one of 1 MiB, and for no more. */
	b->params.module_count = 2;
	assert_int_equal(boot_bench_load(b), 0);
	b->params.modules[1].len = MIB + 1;
	boot_bench_refused(b, -ENOSPC, "more: module: no room");
	b->params.modules[0].len = 14 * MIB;
	boot_bench_refused(b, -ENOSPC, "big: module: no room");
	b->params.module_count = BOOT_MODULES_MAX + 1;
	boot_bench_refused(b, -EINVAL, "33 modules");

	/* As many as there may be, with strings, find their places. */
	b->params.module_count = BOOT_MODULES_MAX;
	for (unsigned i = 0; i < BOOT_MODULES_MAX; i++)
		b->params.modules[i] = (struct boot_image) { "m", big, 100 };
	assert_int_equal(boot_bench_load(b), 0);
	free(big);
	boot_bench_free(b);
}

static void
truncated_files(void **state)
{
	struct boot_bench *b = pvh_bench(16 * MIB, true, 2 * MIB, 8, NULL);

	check_truncations(b, CODE_AT + CODE_LEN);
	boot_bench_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enters_with_start_info),
		cmocka_unit_test(start_info_without_extras),
		cmocka_unit_test(entries_that_lie_are_refused),
		cmocka_unit_test(segments_that_do_not_fit_are_refused),
		cmocka_unit_test(segments_and_notes_are_bounded),
		cmocka_unit_test(nothing_to_load_is_refused),
		cmocka_unit_test(modules_need_room),
		cmocka_unit_test(truncated_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
