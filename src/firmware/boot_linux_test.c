/*
 * bzImage: both entries, placement, and every field of the header that lies.
 */
#include "firmware/boot_test.h"

#define SETUP ((4 + 1) * 512)
#define CODE 0x1800
#define FILE_LEN (SETUP + CODE)

/* A kernel of protocol 2.15 with a 64-bit entry, that wants to be at 16 MiB. */
static struct boot_bench *
linux_bench(uint64_t memory)
{
	struct boot_bench *b = boot_bench_new(memory, FILE_LEN);
	uint8_t *f = b->file;

	for (size_t i = 0; i < CODE; i++)
		f[SETUP + i] = (uint8_t)(i * 31 + i / 256);
	f[0x1f1] = 4;
	le16_store(f + 0x1fe, 0xaa55);
	f[0x200] = 0xeb;
	f[0x201] = 0x6a; /* the header ends at 0x26c */
	memcpy(f + 0x202, "HdrS", 4);
	le16_store(f + 0x206, 0x20f);
	f[0x211] = 1;
	le32_store(f + 0x214, 0x100000);
	le32_store(f + 0x22c, 0x7fffffff);
	le32_store(f + 0x230, 0x200000);
	f[0x234] = 1;
	le16_store(f + 0x236, 1);
	le32_store(f + 0x238, 2047);
	le64_store(f + 0x258, 16 * MIB);
	le32_store(f + 0x260, 4 * MIB);
	f[0x26b] = 0x77; /* the header's last byte, and the first behind it */
	f[0x26c] = 0x88;
	return b;
}

static void
check_code(struct boot_bench *b, gpa_t at)
{
	guest_is(b, at, b->file + SETUP, CODE);
}

static uint64_t
walk(struct boot_bench *b, uint64_t va)
{
	uint64_t e = b->cpu.cr3;

	for (unsigned shift = 39; shift >= 21; shift -= 9) {
		e = guest_u64(b, (e & ~0xfffULL) + (va >> shift & 511) * 8);
		assert_int_equal(e & 3, 3);
		if (e & BIT(7)) {
			assert_int_equal(shift, 21);
			return (e & ~0x1fffffULL) | (va & 0x1fffff);
		}
	}
	fail_msg("no page for 0x%llx", (unsigned long long)va);
	return 0;
}

static void
enters_in_long_mode(void **state)
{
	struct boot_bench *b = linux_bench(6 * GIB);
	static const uint64_t places[] = { 0, 0x1234, 16 * MIB, 3 * GIB - 1,
		4 * GIB - 1 };
	uint8_t initrd[5000];
	gpa_t bp, at;

	memset(initrd, 0xa5, sizeof(initrd));
	b->params.modules[0] =
	    (struct boot_image) { "initrd", initrd, sizeof(initrd) };
	b->params.module_count = 1;
	b->params.cmdline = "console=ttyS0 quiet";
	b->params.rsdp = 0xf2400;
	assert_int_equal(boot_bench_load(b), 0);

	check_flat(b, 0xa09b);
	assert_int_equal(b->cpu.rip, 16 * MIB + 0x200);
	assert_int_equal(b->cpu.cr0, 0x80000011);
	assert_int_equal(b->cpu.cr4, 0x20);
	assert_int_equal(b->cpu.efer, 0x500);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		assert_int_equal(walk(b, places[i]), places[i]);
	check_code(b, 16 * MIB);

	bp = b->cpu.gpr[CPU_RSI];
	assert_true(bp >= 0x1000 && bp + 0x1000 <= 0xa0000);
	assert_int_equal(guest_u64(b, bp + 0x070), 0xf2400);
	assert_int_equal(guest_u32(b, bp + 0x1ec) >> 24, 0); /* sentinel */
	assert_int_equal(guest_u32(b, bp + 0x202), 0x53726448);
	assert_int_equal(guest_u32(b, bp + 0x210) & 0xff, 0xff);
	assert_int_equal(guest_u32(b, bp + 0x214), 16 * MIB);
	assert_int_equal(guest_u32(b, bp + 0x268) >> 24, 0x77);
	assert_int_equal(guest_u32(b, bp + 0x26c), 0); /* header ends */
	guest_says(b, guest_u32(b, bp + 0x228), "console=ttyS0 quiet");

	/* Highest page-aligned place below initrd_addr_max. */
	at = guest_u32(b, bp + 0x218);
	assert_int_equal(at, 2 * GIB - 0x2000);
	assert_int_equal(guest_u32(b, bp + 0x21c), sizeof(initrd));
	guest_is(b, at, initrd, sizeof(initrd));

	assert_int_equal(guest_u32(b, bp + 0x1e8) & 0xff, 3);
	assert_int_equal(guest_u64(b, bp + 0x2d0), 0);
	assert_int_equal(guest_u64(b, bp + 0x2d8), 0xa0000);
	assert_int_equal(guest_u32(b, bp + 0x2e0), 1);
	assert_int_equal(guest_u64(b, bp + 0x2e4), MIB);
	assert_int_equal(guest_u64(b, bp + 0x2ec), 3 * GIB - MIB);
	assert_int_equal(guest_u32(b, bp + 0x2f4), 1);
	assert_int_equal(guest_u64(b, bp + 0x2f8), 4 * GIB);
	assert_int_equal(guest_u64(b, bp + 0x300), 3 * GIB);
	assert_int_equal(guest_u32(b, bp + 0x308), 1);
	boot_bench_free(b);
}

static void
enters_in_protected_mode(void **state)
{
	struct boot_bench *b = linux_bench(64 * MIB);

	le16_store(b->file + 0x236, 0); /* a 32-bit kernel */
	assert_int_equal(boot_bench_load(b), 0);
	check_entry32(b, 16 * MIB, BIT(CPU_RSI));
	assert_int_equal(guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x202), 0x53726448);
	guest_says(b, guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x228), "");
	assert_int_equal(guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x218), 0);
	check_code(b, 16 * MIB);

	/* Before 2.12 bits of xloadflags mean nothing. */
	le16_store(b->file + 0x236, 1);
	le16_store(b->file + 0x206, 0x20b);
	assert_int_equal(boot_bench_load(b), 0);
	check_entry32(b, 16 * MIB, BIT(CPU_RSI));

	/* Before 2.10 there is no pref_address: 1 MiB. */
	le16_store(b->file + 0x206, 0x209);
	assert_int_equal(boot_bench_load(b), 0);
	check_entry32(b, MIB, BIT(CPU_RSI));
	check_code(b, MIB);
	le16_store(b->file + 0x206, 0x202);
	assert_int_equal(boot_bench_load(b), 0);
	boot_bench_free(b);
}

static void
old_and_odd_kernels_are_refused(void **state)
{
	struct boot_bench *b = linux_bench(64 * MIB);
	uint8_t *f = b->file;

	le16_store(f + 0x206, 0x201);
	boot_bench_refused(b, -EINVAL, "2.01 is too old");
	le16_store(f + 0x206, 0);
	boot_bench_refused(b, -EINVAL, "too old");
	le16_store(f + 0x206, 0x20f);
	f[0x211] = 0;
	boot_bench_refused(b, -EINVAL, "zImage");
	f[0x211] = 1;

	/* setup_sects of 0 means 4. */
	f[0x1f1] = 0;
	assert_int_equal(boot_bench_load(b), 0);
	check_code(b, 16 * MIB);
	f[0x1f1] = (FILE_LEN - 1) / 512;
	boot_bench_refused(b, -EINVAL, "setup sectors");
	f[0x1f1] = 255;
	boot_bench_refused(b, -EINVAL, "255 setup sectors");
	/* So little code that the 64-bit entry is not in it. */
	f[0x1f1] = (FILE_LEN - 0x200) / 512 - 1;
	boot_bench_refused(b, -EINVAL, "64-bit entry");
	f[0x1f1] = 4;

	le32_store(f + 0x230, 0);
	boot_bench_refused(b, -EINVAL, "alignment 0x0");
	le32_store(f + 0x230, 0x180000);
	boot_bench_refused(b, -EINVAL, "alignment 0x180000");
	f[0x234] = 0; /* one that cannot move needs no alignment */
	assert_int_equal(boot_bench_load(b), 0);

	f[0x1fe] = 0;
	boot_bench_refused(b, -EINVAL, "neither");
	boot_bench_free(b);
}

static void
kernel_goes_where_it_fits(void **state)
{
	static const struct {
		uint64_t pref;
		uint32_t init_size, align;
		bool relocatable;
		gpa_t at; /* 0: refused for want of room */
	} cases[] = {
		{ 16 * MIB, 4 * MIB, 2 * MIB, true, 16 * MIB },
		{ 16 * MIB, 4 * MIB, 2 * MIB, false, 16 * MIB },
		{ 28 * MIB, 4 * MIB, 2 * MIB, false, 28 * MIB },
		/* Not all of it is RAM: move, lowest first, or give up. */
		{ 30 * MIB, 4 * MIB, 2 * MIB, true, 2 * MIB },
		{ 30 * MIB, 4 * MIB, 16 * MIB, true, 16 * MIB },
		{ 30 * MIB, 4 * MIB, 2 * MIB, false, 0 },
		{ 0x98000, 0x10000, 0x1000, false, 0 },
		{ 0x98000, 0x10000, 0x1000, true, MIB },
		{ 0, 0x100000, 0x1000, true, MIB },
		{ GIB, MIB, 2 * MIB, true, 2 * MIB },
		{ GIB, MIB, 2 * MIB, false, 0 },
		{ 4 * GIB, MIB, 2 * MIB, true, 2 * MIB },
		{ 4 * GIB, MIB, 2 * MIB, false, 0 },
		{ UINT64_MAX, MIB, 2 * MIB, true, 2 * MIB },
		{ UINT64_MAX, MIB, 2 * MIB, false, 0 },
		{ UINT64_MAX - MIB + 1, MIB, 2 * MIB, false, 0 },
		/* Not aligned as it says: it cannot run there. */
		{ 16 * MIB + 4096, MIB, 2 * MIB, true, 2 * MIB },
		{ 16 * MIB + 4096, MIB, 2 * MIB, false, 16 * MIB + 4096 },
		{ 16 * MIB, 0, 2 * MIB, true, 16 * MIB },
		{ 16 * MIB, 31 * MIB, 1, true, MIB },
		{ 16 * MIB, 31 * MIB + 1, 1, true, 0 },
		{ 16 * MIB, UINT32_MAX, 1, true, 0 },
		{ 16 * MIB, UINT32_MAX, 1, false, 0 },
		{ 30 * MIB, 4 * MIB, 0x80000000, true, 0 },
	};
	struct boot_bench *b = linux_bench(32 * MIB);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		le64_store(b->file + 0x258, cases[i].pref);
		le32_store(b->file + 0x260, cases[i].init_size);
		le32_store(b->file + 0x230, cases[i].align);
		b->file[0x234] = cases[i].relocatable;
		if (cases[i].at == 0) {
			boot_bench_refused(b, -ENOSPC, "kernel: ");
			continue;
		}
		assert_int_equal(boot_bench_load(b), 0);
		assert_int_equal(b->cpu.rip, cases[i].at + 0x200);
		check_code(b, cases[i].at);
	}
	boot_bench_free(b);
}

static void
memory_beyond_4gib_is_not_for_kernels(void **state)
{
	struct boot_bench *b = linux_bench(8 * GIB);

	/* There is RAM, but the entry's page tables do not reach it. */
	le64_store(b->file + 0x258, 4 * GIB);
	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(b->cpu.rip, 2 * MIB + 0x200);
	b->file[0x234] = 0;
	boot_bench_refused(b, -ENOSPC, "beyond 4 GiB");
	boot_bench_free(b);
}

static void
initrd_avoids_everything(void **state)
{
	struct boot_bench *b = linux_bench(32 * MIB);
	uint8_t *initrd = xcalloc(1, 12 * MIB);
	gpa_t at, bp;

	for (size_t i = 0; i < 12 * MIB; i++)
		initrd[i] = (uint8_t)(i >> 4);
	b->params.modules[0] = (struct boot_image) { "rd", initrd, 8 * MIB };
	b->params.module_count = 1;

	assert_int_equal(boot_bench_load(b), 0);
	bp = b->cpu.gpr[CPU_RSI];
	assert_int_equal(guest_u32(b, bp + 0x218), 24 * MIB);

	/* 12 MiB fit above the kernel (16 + 4) exactly, not a page more. */
	b->params.modules[0].len = 12 * MIB;
	assert_int_equal(boot_bench_load(b), 0);
	at = guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x218);
	assert_int_equal(at, 20 * MIB);
	guest_is(b, at, initrd, 12 * MIB);
	check_code(b, 16 * MIB);
	le32_store(b->file + 0x260, 4 * MIB + 1);
	assert_int_equal(boot_bench_load(b), 0);
	at = guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x218);
	assert_int_equal(at, 4 * MIB);
	guest_is(b, at, initrd, 12 * MIB);
	check_code(b, 16 * MIB);

	/* initrd_addr_max below the kernel, in it, and absurd. */
	b->params.modules[0].len = MIB + 1;
	le32_store(b->file + 0x22c, 0xffffff);
	assert_int_equal(boot_bench_load(b), 0);
	at = guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x218);
	assert_int_equal(at, 16 * MIB - MIB - 0x1000);
	le32_store(b->file + 0x22c, 18 * MIB);
	assert_int_equal(boot_bench_load(b), 0);
	at = guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x218);
	assert_int_equal(at, 16 * MIB - MIB - 0x1000);
	le32_store(b->file + 0x22c, UINT32_MAX);
	assert_int_equal(boot_bench_load(b), 0);
	le32_store(b->file + 0x22c, 0);
	boot_bench_refused(b, -ENOSPC, "rd: initrd: no room");
	le32_store(b->file + 0x22c, 2 * MIB - 1);
	boot_bench_refused(b, -ENOSPC, "rd: initrd: no room");
	le32_store(b->file + 0x22c, 2 * MIB);
	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x218), MIB);
	le32_store(b->file + 0x22c, 2 * MIB - 1);
	/* Before 2.03 the limit is a constant, whatever is there. */
	le16_store(b->file + 0x206, 0x202);
	assert_int_equal(boot_bench_load(b), 0);
	le16_store(b->file + 0x206, 0x20f);

	le32_store(b->file + 0x22c, 0x7fffffff);
	b->params.module_count = 2;
	b->params.modules[1] = b->params.modules[0];
	boot_bench_refused(b, -EINVAL, "one initrd");
	/* An empty one is none. */
	b->params.module_count = 1;
	b->params.modules[0].len = 0;
	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x218), 0);
	free(initrd);
	boot_bench_free(b);
}

static void
command_lines_of_every_length(void **state)
{
	static const size_t lengths[] = { 0, 1, 2, 255, 256, 2047, 2048, 4095,
		4096, 65534, 65535 };
	struct boot_bench *b = linux_bench(32 * MIB);
	char *line = xcalloc(1, BOOT_CMDLINE_MAX + 1);

	b->params.cmdline = line;
	le32_store(b->file + 0x238, UINT32_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		memset(line, 'x', lengths[i]);
		line[lengths[i]] = '\0';
		assert_int_equal(boot_bench_load(b), 0);
		guest_says(b, guest_u32(b, b->cpu.gpr[CPU_RSI] + 0x228), line);
	}
	memset(line, 'x', BOOT_CMDLINE_MAX);
	boot_bench_refused(b, -EINVAL, "longer than 65535");

	line[2047] = '\0';
	le32_store(b->file + 0x238, 2047);
	assert_int_equal(boot_bench_load(b), 0);
	le32_store(b->file + 0x238, 2046);
	boot_bench_refused(b, -EINVAL, "this kernel takes 2046");
	le32_store(b->file + 0x238, 0);
	boot_bench_refused(b, -EINVAL, "this kernel takes 0");
	/* Before 2.06 the limit is 255. */
	le32_store(b->file + 0x238, UINT32_MAX);
	le16_store(b->file + 0x206, 0x205);
	boot_bench_refused(b, -EINVAL, "this kernel takes 255");
	line[255] = '\0';
	assert_int_equal(boot_bench_load(b), 0);
	free(line);
	boot_bench_free(b);
}

/* A kernel in low memory: what is ours must fit itself around it. */
static void
loader_leaves_the_kernel_alone(void **state)
{
	struct boot_bench *b = linux_bench(32 * MIB);
	gpa_t bp;

	b->file[0x234] = 0;
	le64_store(b->file + 0x258, 0x1000);
	le32_store(b->file + 0x260, 0x9f000 - 0x2000);
	assert_int_equal(boot_bench_load(b), 0);
	check_code(b, 0x1000);
	bp = b->cpu.gpr[CPU_RSI];
	assert_true(bp >= 0x9e000 || guest_u32(b, bp + 0x228) >= 0x9e000);
	/* All of low memory: then above 1 MiB. */
	le64_store(b->file + 0x258, 0);
	le32_store(b->file + 0x260, 0xa0000);
	assert_int_equal(boot_bench_load(b), 0);
	check_code(b, 0);
	assert_true(b->cpu.gpr[CPU_RSI] >= MIB);
	assert_true(b->cpu.cr3 >= MIB && b->cpu.gdtr.base >= MIB);
	boot_bench_free(b);
}

static void
header_length_is_bounded(void **state)
{
	struct boot_bench *b = linux_bench(32 * MIB);
	gpa_t bp;

	/* 0x202 + 255 would run over the E820 table's neighbours. */
	memset(b->file + 0x26c, 0x99, 0x200);
	b->file[0x201] = 0xff;
	assert_int_equal(boot_bench_load(b), 0);
	bp = b->cpu.gpr[CPU_RSI];
	assert_int_equal(guest_u32(b, bp + 0x28c), 0x99999999);
	assert_int_equal(guest_u32(b, bp + 0x290), 0);
	/* Nor does a jump to nowhere hide the fields that are always there. */
	b->file[0x201] = 0;
	assert_int_equal(boot_bench_load(b), 0);
	bp = b->cpu.gpr[CPU_RSI];
	assert_int_equal(guest_u32(b, bp + 0x202), 0x53726448);
	assert_int_equal(guest_u32(b, bp + 0x22c), 0);
	boot_bench_free(b);
}

static void
truncated_files(void **state)
{
	struct boot_bench *b = linux_bench(32 * MIB);

	/* One byte beyond the 64-bit entry is enough for us. */
	check_truncations(b, SETUP + 0x201);
	boot_bench_free(b);
}

static void
machines_too_small(void **state)
{
	struct boot_bench *b = linux_bench(MIB);

	boot_bench_refused(b, -ENOSPC, "no room");
	boot_bench_free(b);
	b = linux_bench(4096);
	boot_bench_refused(b, -ENOSPC, "no room");
	boot_bench_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(enters_in_long_mode),
		cmocka_unit_test(enters_in_protected_mode),
		cmocka_unit_test(old_and_odd_kernels_are_refused),
		cmocka_unit_test(kernel_goes_where_it_fits),
		cmocka_unit_test(memory_beyond_4gib_is_not_for_kernels),
		cmocka_unit_test(initrd_avoids_everything),
		cmocka_unit_test(command_lines_of_every_length),
		cmocka_unit_test(loader_leaves_the_kernel_alone),
		cmocka_unit_test(header_length_is_bounded),
		cmocka_unit_test(truncated_files),
		cmocka_unit_test(machines_too_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
