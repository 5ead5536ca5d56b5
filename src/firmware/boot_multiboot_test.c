/*
 * Multiboot 1: both kinds of image, the boot information, lying headers.
 */
#include "firmware/boot_test.h"
#include "firmware/elf.h"

#define FILE_LEN 0x3000
#define HEADER_AT 0x1000
#define KLUDGE BIT(16)

static void
put_header(uint8_t *p, uint32_t flags)
{
	le32_store(p, 0x1badb002);
	le32_store(p + 4, flags);
	le32_store(p + 8, -(0x1badb002 + flags));
}

static void
put_kludge(uint8_t *p, uint32_t header, uint32_t load, uint32_t load_end,
    uint32_t bss_end, uint32_t entry)
{
	put_header(p, KLUDGE | 3);
	le32_store(p + 12, header);
	le32_store(p + 16, load);
	le32_store(p + 20, load_end);
	le32_store(p + 24, bss_end);
	le32_store(p + 28, entry);
}

/* An ELF32 with 0x400 bytes of text at 0x800 of the file for 1 MiB. */
static struct boot_bench *
elf_bench(uint64_t memory, uint32_t entry, uint32_t vaddr)
{
	struct boot_bench *b = boot_bench_new(memory, FILE_LEN);
	struct elf_maker m = elf_make(b->file, false, entry);

	for (size_t i = 0; i < FILE_LEN - 0x800; i++)
		b->file[0x800 + i] = (uint8_t)(i * 13 ^ i >> 8);
	elf_make_segment(&m, ELF_PT_LOAD, 0x800, vaddr, MIB, 0x400, 0x1400);
	put_header(b->file + HEADER_AT, 3);
	return b;
}

/* The whole file belongs at 2 MiB; header_addr says so. */
static struct boot_bench *
kludge_bench(uint64_t memory)
{
	struct boot_bench *b = boot_bench_new(memory, FILE_LEN);

	for (size_t i = 0; i < FILE_LEN; i++)
		b->file[i] = (uint8_t)(i * 11 ^ i >> 8);
	put_kludge(b->file + HEADER_AT, 2 * MIB + HEADER_AT, 2 * MIB, 0, 0,
	    2 * MIB + 0x20);
	return b;
}

static void
boots_an_elf_with_modules(void **state)
{
	struct boot_bench *b = elf_bench(6 * GIB, MIB + 0x10, MIB);
	gpa_t mbi, mods, map;

	assert_int_equal(mem_fill(b->mem, MIB, 0xee, MIB), 0);
	b->params.kernel.name = "/boot/xen";
	b->params.modules[0] = (struct boot_image) { "vmlinuz root=/dev/vda",
		(const uint8_t *)"first", 5 };
	b->params.modules[1] =
	    (struct boot_image) { "initrd", (const uint8_t *)"second", 6 };
	b->params.module_count = 2;
	b->params.cmdline = "com1=115200 console=com1";
	assert_int_equal(boot_bench_load(b), 0);
	check_entry32(b, MIB + 0x10, BIT(CPU_RAX) | BIT(CPU_RBX));
	assert_int_equal(b->cpu.gpr[CPU_RAX], 0x2badb002);
	guest_is(b, MIB, b->file + 0x800, 0x400);
	for (gpa_t at = MIB + 0x400; at < MIB + 0x1400; at += 4)
		assert_int_equal(guest_u32(b, at), 0);
	assert_int_equal(guest_u32(b, MIB + 0x1400), 0xeeeeeeee);

	mbi = b->cpu.gpr[CPU_RBX];
	assert_true(mbi >= 0x1000 && mbi < 0xa0000);
	assert_int_equal(guest_u32(b, mbi),
	    BIT(0) | BIT(2) | BIT(3) | BIT(6) | BIT(9));
	assert_int_equal(guest_u32(b, mbi + 4), 640);
	assert_int_equal(guest_u32(b, mbi + 8), 3 * 1024 * 1024 - 1024);
	guest_says(b, guest_u32(b, mbi + 16),
	    "/boot/xen com1=115200 console=com1");
	guest_says(b, guest_u32(b, mbi + 64), "Apiary");

	/* Modules just above the kernel, each on a page. */
	assert_int_equal(guest_u32(b, mbi + 20), 2);
	mods = guest_u32(b, mbi + 24);
	assert_int_equal(guest_u32(b, mods), MIB + 0x2000);
	assert_int_equal(guest_u32(b, mods + 4), MIB + 0x2005);
	guest_is(b, MIB + 0x2000, "first", 5);
	guest_says(b, guest_u32(b, mods + 8), "vmlinuz root=/dev/vda");
	assert_int_equal(guest_u32(b, mods + 12), 0);
	assert_int_equal(guest_u32(b, mods + 16), MIB + 0x3000);
	assert_int_equal(guest_u32(b, mods + 20), MIB + 0x3006);
	guest_says(b, guest_u32(b, mods + 24), "initrd");

	assert_int_equal(guest_u32(b, mbi + 44), 3 * 24);
	map = guest_u32(b, mbi + 48);
	assert_int_equal(guest_u32(b, map), 20);
	assert_int_equal(guest_u64(b, map + 4), 0);
	assert_int_equal(guest_u64(b, map + 12), 0xa0000);
	assert_int_equal(guest_u32(b, map + 20), 1);
	assert_int_equal(guest_u32(b, map + 24), 20);
	assert_int_equal(guest_u64(b, map + 28), MIB);
	assert_int_equal(guest_u64(b, map + 36), 3 * GIB - MIB);
	assert_int_equal(guest_u64(b, map + 52), 4 * GIB);
	assert_int_equal(guest_u64(b, map + 60), 3 * GIB);
	boot_bench_free(b);
}

static void
entry_is_translated(void **state)
{
	struct boot_bench *b = elf_bench(16 * MIB, 0xc0000010, 0xc0000000);

	assert_int_equal(boot_bench_load(b), 0);
	check_entry32(b, MIB + 0x10, BIT(CPU_RAX) | BIT(CPU_RBX));
	guest_says(b, guest_u32(b, b->cpu.gpr[CPU_RBX] + 16), "kernel");
	assert_int_equal(guest_u32(b, b->cpu.gpr[CPU_RBX] + 20), 0);
	boot_bench_free(b);

	/* Already physical: as it is. */
	b = elf_bench(16 * MIB, MIB + 0x10, 0xc0000000);
	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(b->cpu.rip, MIB + 0x10);
	boot_bench_free(b);
	b = elf_bench(16 * MIB, MIB + 0x1400, 0xc0000000);
	boot_bench_refused(b, -EINVAL, "entry 0x101400");
	boot_bench_free(b);
	b = elf_bench(16 * MIB, MIB - 1, MIB);
	boot_bench_refused(b, -EINVAL, "entry 0xfffff");
	boot_bench_free(b);
}

static void
boots_by_address_fields(void **state)
{
	struct boot_bench *b = kludge_bench(16 * MIB);
	uint8_t *header = b->file + HEADER_AT;

	assert_int_equal(mem_fill(b->mem, MIB, 0xee, 4 * MIB), 0);
	assert_int_equal(boot_bench_load(b), 0);
	check_entry32(b, 2 * MIB + 0x20, BIT(CPU_RAX) | BIT(CPU_RBX));
	guest_is(b, 2 * MIB, b->file, FILE_LEN);
	assert_int_equal(guest_u32(b, 2 * MIB + FILE_LEN), 0xeeeeeeee);

	/* Only from the header on, only so much, and bss behind it. */
	put_kludge(header, 3 * MIB, 3 * MIB, 3 * MIB + 0x100, 3 * MIB + 0x200,
	    3 * MIB);
	assert_int_equal(boot_bench_load(b), 0);
	guest_is(b, 3 * MIB, header, 0x100);
	assert_int_equal(guest_u32(b, 3 * MIB + 0x100), 0);
	assert_int_equal(guest_u32(b, 3 * MIB + 0x1fc), 0);
	assert_int_equal(guest_u32(b, 3 * MIB + 0x200), 0xeeeeeeee);
	assert_int_equal(guest_u32(b, 3 * MIB - 4), 0xeeeeeeee);
	boot_bench_free(b);
}

static void
address_fields_that_lie_are_refused(void **state)
{
	static const struct {
		uint32_t header, load, load_end, bss_end, entry;
		int rc;
		const char *words;
	} cases[] = {
#define AT (2 * MIB)
		{ AT + 0x1000, AT, AT + 0x3000, AT + 0x3000, AT, 0, NULL },
		{ AT + 0x1001, AT, 0, 0, AT, -EINVAL, "does not belong" },
		{ AT - 1, AT, 0, 0, AT, -EINVAL, "does not belong" },
		{ 0, UINT32_MAX, 0, 0, AT, -EINVAL, "does not belong" },
		{ UINT32_MAX, 0, 0, 0, AT, -EINVAL, "does not belong" },
		{ AT + 0x1000, AT, AT + 0x3001, 0, AT, -EINVAL, "load addr" },
		{ AT + 0x1000, AT, AT - 1, 0, AT, -EINVAL, "load addr" },
		{ AT + 0x1000, AT, UINT32_MAX, 0, AT, -EINVAL, "load addr" },
		{ AT, AT, AT + 0x2001, 0, AT, -EINVAL, "load addr" },
		{ AT + 0x1000, AT, 0, AT + 0x2fff, AT, -EINVAL, "bss ends" },
		{ AT + 0x1000, AT, 0, 1, AT, -EINVAL, "bss ends" },
		{ AT + 0x1000, AT, 0, 16 * MIB, AT, 0, NULL },
		{ AT + 0x1000, AT, 0, 16 * MIB + 1, AT, -ENOSPC, "all RAM" },
		{ AT + 0x1000, AT, 0, UINT32_MAX, AT, -ENOSPC, "all RAM" },
		{ 0xa0000, 0x9f000, 0, 0, 0x9f000, -ENOSPC, "all RAM" },
		{ 0xf1000, 0xf0000, 0, 0, 0xf0000, -ENOSPC, "all RAM" },
		{ 0x1000, 0, 0, 0, 0, 0, NULL },
		{ AT + 0x1000, AT, 0, 0, AT + 0x3000, -EINVAL, "entry" },
		{ AT + 0x1000, AT, 0, 0, AT - 1, -EINVAL, "entry" },
		{ AT + 0x1000, AT, 0, 0, 0, -EINVAL, "entry" },
#undef AT
	};
	struct boot_bench *b = kludge_bench(16 * MIB);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put_kludge(b->file + HEADER_AT, cases[i].header, cases[i].load,
		    cases[i].load_end, cases[i].bss_end, cases[i].entry);
		if (cases[i].rc != 0)
			boot_bench_refused(b, cases[i].rc, cases[i].words);
		else
			assert_int_equal(boot_bench_load(b), 0);
	}
	boot_bench_free(b);
}

static void
header_is_found_where_it_may_be(void **state)
{
	/* The last place for 12 bytes, and for 32, below 8 KiB. */
	static const struct {
		unsigned at;
		bool kludge;
		bool found;
	} cases[] = {
		{ 0x600, false, true },
		{ 0x604, false, true },
		{ 0x602, false, false }, /* not at a multiple of 4 */
		{ 8192 - 12, false, true },
		{ 8192 - 8, false, false },
		{ 8192, false, false },
		{ 8192 - 32, true, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct boot_bench *b = elf_bench(16 * MIB, MIB, MIB);

		memset(b->file + 0x600, 0, FILE_LEN - 0x600);
		if (cases[i].kludge)
			put_kludge(b->file + cases[i].at, MIB, MIB, 0, 0, MIB);
		else
			put_header(b->file + cases[i].at, 0);
		if (cases[i].found)
			assert_int_equal(boot_bench_load(b), 0);
		else
			boot_bench_refused(b, -EINVAL, "neither");
		boot_bench_free(b);
	}
}

static void
headers_that_lie_are_refused(void **state)
{
	struct boot_bench *b = elf_bench(16 * MIB, MIB, MIB);
	uint8_t *header = b->file + HEADER_AT;

	b->params.protocol = "multiboot";
	/* Requests we cannot grant; those without effect; those we ignore. */
	put_header(header, BIT(3));
	boot_bench_refused(b, -EINVAL, "features 0x8");
	put_header(header, 0xffff);
	boot_bench_refused(b, -EINVAL, "features 0xfff8");
	put_header(header, 0xfffe0000);
	assert_int_equal(boot_bench_load(b), 0);
	put_header(header, BIT(2));
	assert_int_equal(boot_bench_load(b), 0);

	le32_store(header + 8, le32_load(header + 8) + 1);
	boot_bench_refused(b, -EINVAL, "not a Multiboot header");

	/* Address fields beyond the 8 KiB, and beyond the file. */
	put_header(b->file + 8192 - 28, KLUDGE);
	boot_bench_refused(b, -EINVAL, "cut short");
	memset(b->file + 8192 - 28, 0, 12);
	put_header(header, KLUDGE);
	b->params.kernel.len = HEADER_AT + 31;
	boot_bench_refused(b, -EINVAL, "cut short");

	/* No address fields, no ELF; an ELF for something else. */
	put_header(header, 0);
	b->file[18] = 40;
	boot_bench_refused(b, -EINVAL, "machine 40");
	b->file[0] = 0;
	boot_bench_refused(b, -EINVAL, "no ELF");
	boot_bench_free(b);
}

/* What is left of a BIOS: the size of base memory, and a stub that says no. */
static void
page_0_has_a_bios_that_refuses(void **state)
{
	static const uint8_t stub[] = { 0x55, 0x89, 0xe5, 0x80, 0x4e, 0x06,
		0x01, 0x5d, 0xcf };
	struct boot_bench *b = elf_bench(16 * MIB, MIB, MIB);

	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(guest_u32(b, 0x413) & 0xffff, 640);
	assert_int_equal(guest_u32(b, 0x40e) & 0xffff, 0);
	for (unsigned vector = 0; vector < 256; vector++)
		assert_int_equal(guest_u32(b, vector * 4), 0x500);
	guest_is(b, 0x500, stub, sizeof(stub));
	boot_bench_free(b);

	/* A kernel that is there itself is left alone. */
	b = kludge_bench(16 * MIB);
	put_kludge(b->file + HEADER_AT, HEADER_AT, 0, 0, 0, 0);
	assert_int_equal(boot_bench_load(b), 0);
	guest_is(b, 0, b->file, FILE_LEN);
	boot_bench_free(b);
}

static void
modules_need_room(void **state)
{
	struct boot_bench *b = elf_bench(16 * MIB, MIB, MIB);
	uint8_t *big = xcalloc(1, 16 * MIB);

	memset(big, 0x3c, 16 * MIB);
	b->params.modules[0] =
	    (struct boot_image) { "big", big, 15 * MIB - 0x2000 };
	b->params.module_count = 1;
	assert_int_equal(boot_bench_load(b), 0);
	guest_is(b, MIB + 0x2000, big, 15 * MIB - 0x2000);
	guest_is(b, MIB, b->file + 0x800, 0x400);
	b->params.modules[0].len++;
	boot_bench_refused(b, -ENOSPC, "big: module: no room");
	b->params.modules[0].len = 0;
	assert_int_equal(boot_bench_load(b), 0);
	free(big);
	boot_bench_free(b);
}

static void
truncated_files(void **state)
{
	struct boot_bench *b = elf_bench(16 * MIB, MIB, MIB);

	check_truncations(b, HEADER_AT + 12);
	boot_bench_free(b);
	b = kludge_bench(16 * MIB);
	check_truncations(b, HEADER_AT + 32);
	boot_bench_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boots_an_elf_with_modules),
		cmocka_unit_test(entry_is_translated),
		cmocka_unit_test(boots_by_address_fields),
		cmocka_unit_test(address_fields_that_lie_are_refused),
		cmocka_unit_test(header_is_found_where_it_may_be),
		cmocka_unit_test(headers_that_lie_are_refused),
		cmocka_unit_test(page_0_has_a_bios_that_refuses),
		cmocka_unit_test(modules_need_room),
		cmocka_unit_test(truncated_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
