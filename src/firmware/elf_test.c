/*
 * The ELF reader against files that lie.
 */
#include "firmware/boot_test.h"
#include "firmware/elf.h"

#define FILE_LEN 1024

static void
both_classes_are_read(void **state)
{
	for (unsigned is64 = 0; is64 < 2; is64++) {
		uint8_t file[FILE_LEN] = { 0 };
		struct elf_maker m = elf_make(file, is64, 0x123456);
		struct elf_segment s;
		struct elf elf;
		struct err err;

		elf_make_segment(&m, ELF_PT_LOAD, 0x200, 0xc0100000, 0x100000,
		    0x10, 0x20);
		elf_make_segment(&m, 7, 0x3ff, 1, 2, 1, 3);
		assert_int_equal(elf_open(&elf, file, FILE_LEN, &err), 0);
		assert_int_equal(elf.entry, 0x123456);
		assert_int_equal(elf.phnum, 2);
		assert_int_equal(elf_segment(&elf, 0, &s, &err), 0);
		assert_int_equal(s.type, ELF_PT_LOAD);
		assert_int_equal(s.vaddr, 0xc0100000);
		assert_int_equal(s.paddr, 0x100000);
		assert_int_equal(s.memsz, 0x20);
		assert_int_equal(s.filesz, 0x10);
		assert_ptr_equal(s.bytes, file + 0x200);
		assert_int_equal(elf_segment(&elf, 1, &s, &err), 0);
		assert_int_equal(s.type, 7);
		assert_ptr_equal(s.bytes, file + 0x3ff);
	}
}

static void
headers_that_lie_are_refused(void **state)
{
	/* Values put into a good 64-bit file. */
	static const struct {
		unsigned offset, size;
		uint64_t value;
		int rc;
	} cases[] = {
		{ 0, 1, 0x7e, -ENOEXEC },
		{ 3, 1, 'f', -ENOEXEC },
		{ 4, 1, 0, -EINVAL }, /* class */
		{ 4, 1, 3, -EINVAL },
		{ 5, 1, 2, -EINVAL },    /* big-endian */
		{ 6, 1, 0, -EINVAL },    /* version */
		{ 16, 2, 1, -EINVAL },   /* relocatable */
		{ 16, 2, 4, -EINVAL },   /* core */
		{ 16, 2, 3, 0 },         /* shared */
		{ 18, 2, 183, -EINVAL }, /* another machine */
		{ 18, 2, 3, 0 },
		{ 32, 8, FILE_LEN - 56, 0 }, /* phoff */
		{ 32, 8, FILE_LEN - 55, -EINVAL },
		{ 32, 8, FILE_LEN, -EINVAL },
		{ 32, 8, UINT64_MAX, -EINVAL },
		{ 32, 8, UINT64_MAX - 55, -EINVAL },
		{ 54, 2, 0, -EINVAL }, /* phentsize */
		{ 54, 2, 55, -EINVAL },
		{ 54, 2, 57, 0 },
		{ 54, 2, 0xffff, -EINVAL },
		{ 56, 2, 0, -EINVAL }, /* phnum */
		{ 56, 2, 17, 0 },
		{ 56, 2, 18, -EINVAL },
		{ 56, 2, 0xffff, -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t file[FILE_LEN] = { 0 };
		struct elf_maker m = elf_make(file, true, 0);
		le64 value = le64_make(cases[i].value);
		struct err err = { "" };
		struct elf elf;

		elf_make_segment(&m, ELF_PT_LOAD, 0, 0, 0, 1, 1);
		memcpy(file + cases[i].offset, &value, cases[i].size);
		assert_int_equal(elf_open(&elf, file, FILE_LEN, &err),
		    cases[i].rc);
		assert_int_equal(err.msg[0] != '\0', cases[i].rc == -EINVAL);
	}
}

static void
segments_that_lie_are_refused(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t offset, paddr, filesz, memsz;
		int rc;
	} cases[] = {
		{ ELF_PT_LOAD, FILE_LEN - 1, 0, 1, 1, 0 },
		{ ELF_PT_LOAD, FILE_LEN, 0, 1, 1, -EINVAL },
		{ ELF_PT_LOAD, FILE_LEN, 0, 0, 1, 0 },
		{ ELF_PT_LOAD, UINT64_MAX, 0, 0, 1, 0 }, /* bss alone */
		{ ELF_PT_LOAD, UINT64_MAX, 0, 2, 2, -EINVAL },
		{ ELF_PT_LOAD, 1, 0, UINT64_MAX, UINT64_MAX, -EINVAL },
		{ ELF_PT_LOAD, 0, 0, FILE_LEN + 1, FILE_LEN + 1, -EINVAL },
		{ ELF_PT_LOAD, 0, 0, 2, 1, -EINVAL },
		{ ELF_PT_LOAD, 0, 0, 1, UINT64_MAX, 0 },
		{ ELF_PT_LOAD, 0, 1, 1, UINT64_MAX, -EINVAL },
		{ ELF_PT_LOAD, 0, UINT64_MAX, 1, 1, -EINVAL },
		/* What is not loaded may claim any memory, but no file. */
		{ 7, 0, UINT64_MAX, 2, 1, 0 },
		{ ELF_PT_NOTE, FILE_LEN, 0, 12, 12, -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t file[FILE_LEN] = { 0 };
		struct elf_maker m = elf_make(file, true, 0);
		struct elf_segment s;
		struct elf elf;
		struct err err;

		elf_make_segment(&m, cases[i].type, cases[i].offset, 0,
		    cases[i].paddr, cases[i].filesz, cases[i].memsz);
		assert_int_equal(elf_open(&elf, file, FILE_LEN, &err), 0);
		assert_int_equal(elf_segment(&elf, 0, &s, &err), cases[i].rc);
		if (cases[i].rc == 0)
			assert_true(s.bytes >= file &&
			    range_within((uint64_t)(s.bytes - file), s.filesz,
				FILE_LEN));
	}
}

static void
notes_are_found(void **state)
{
	uint8_t file[FILE_LEN] = { 0 };
	struct elf_maker m = elf_make(file, true, 0);
	const uint8_t *desc;
	struct err err;
	struct elf elf;
	size_t at = 0x200, len = 0;

	at += elf_make_note(file + at, "GNU", 18, "gnus", 4);
	at += elf_make_note(file + at, "Xen", 17, "wrong", 5);
	at += elf_make_note(file + at, "Xenon", 18, "wrong", 5);
	at += elf_make_note(file + at, "Xen", 18, "entry", 5);
	/* A segment of nonsense first: notes may be in any. */
	elf_make_segment(&m, ELF_PT_NOTE, 0, 0, 0, 40, 40);
	elf_make_segment(&m, ELF_PT_NOTE, 0x200, 0, 0, at - 0x200, at - 0x200);
	assert_int_equal(elf_open(&elf, file, FILE_LEN, &err), 0);
	desc = elf_note(&elf, "Xen", 18, &len);
	assert_non_null(desc);
	assert_int_equal(len, 5);
	assert_memory_equal(desc, "entry", 5);
	assert_null(elf_note(&elf, "Xen", 19, &len));

	/* One byte of the last note is missing: it is not there. */
	le64_store(file + 64 + 56 + 32, at - 0x200 - 4);
	assert_int_equal(elf_open(&elf, file, FILE_LEN, &err), 0);
	assert_null(elf_note(&elf, "Xen", 18, &len));
}

static void
notes_that_lie_end_the_search(void **state)
{
	static const uint32_t sizes[] = { 0, 1, 3, 4, 5, 0x1f4, 0x1f5, 0x1f8,
		0x7fffffff, 0xfffffffc, 0xfffffffd, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			/* On the heap, so that overruns show. */
			uint8_t *file = xcalloc(1, FILE_LEN);
			struct elf_maker m = elf_make(file, true, 0);
			const uint8_t *desc;
			struct elf elf;
			struct err err;
			size_t len;

			elf_make_segment(&m, ELF_PT_NOTE, 0x200, 0, 0, 0x200,
			    0x200);
			elf_make_note(file + 0x200, "Xen", 18, "", 0);
			le32_store(file + 0x200, sizes[i]);
			le32_store(file + 0x204, sizes[j]);
			assert_int_equal(elf_open(&elf, file, FILE_LEN, &err),
			    0);
			desc = elf_note(&elf, "Xen", 18, &len);
			if (desc != NULL)
				assert_true(sizes[i] == 4 &&
				    range_within((uint64_t)(desc - file), len,
					FILE_LEN));
			free(file);
		}
	}
}

/* Many headers over the same many notes: quadratic, were it not bounded. */
static void
note_search_is_bounded(void **state)
{
	const size_t size = 4 * MIB, phnum = 60000;
	uint8_t *file = xcalloc(1, size);
	struct elf_maker m = elf_make(file, true, 0);
	struct elf elf;
	struct err err;
	size_t len;

	for (size_t i = 0; i < phnum; i++)
		elf_make_segment(&m, ELF_PT_NOTE, 0, 0, 0, size, size);
	assert_int_equal(elf_open(&elf, file, size, &err), 0);
	assert_null(elf_note(&elf, "Xen", 18, &len));
	free(file);
}

static void
truncated_headers(void **state)
{
	for (size_t len = 0; len < 64 + 56; len++) {
		uint8_t file[FILE_LEN] = { 0 }, *copy = malloc(len + 1);
		struct elf_maker m = elf_make(file, true, 0);
		struct elf elf;
		struct err err;

		elf_make_segment(&m, ELF_PT_LOAD, 0, 0, 0, 0, 1);
		memcpy(copy, file, len);
		assert_int_equal(elf_open(&elf, copy, len, &err),
		    len < 7 ? -ENOEXEC : -EINVAL);
		free(copy);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_classes_are_read),
		cmocka_unit_test(headers_that_lie_are_refused),
		cmocka_unit_test(segments_that_lie_are_refused),
		cmocka_unit_test(notes_are_found),
		cmocka_unit_test(notes_that_lie_end_the_search),
		cmocka_unit_test(note_search_is_bounded),
		cmocka_unit_test(truncated_headers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
