/*
 * The memory map, and the choice of a protocol.
 */
#include "firmware/boot_impl.h"
#include "firmware/boot_test.h"

static void
memory_map_leaves_the_holes_out(void **state)
{
	static const struct {
		uint64_t memory;
		unsigned count;
		struct e820_entry map[3];
	} cases[] = {
		{ 4096, 1, { { 0, 4096, 1 } } },
		{ 0xa0000, 1, { { 0, 0xa0000, 1 } } },
		{ MIB, 1, { { 0, 0xa0000, 1 } } },
		{ MIB + 4096, 2, { { 0, 0xa0000, 1 }, { MIB, 4096, 1 } } },
		{ 3 * GIB, 2,
		    { { 0, 0xa0000, 1 }, { MIB, 3 * GIB - MIB, 1 } } },
		{ 3 * GIB + 4096, 3,
		    { { 0, 0xa0000, 1 }, { MIB, 3 * GIB - MIB, 1 },
			{ 4 * GIB, 4096, 1 } } },
		{ 64 * GIB, 3,
		    { { 0, 0xa0000, 1 }, { MIB, 3 * GIB - MIB, 1 },
			{ 4 * GIB, 61 * GIB, 1 } } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct boot_bench *b = boot_bench_new(cases[i].memory, 1);
		struct e820_entry map[E820_MAX];

		assert_int_equal(e820_map(b->mem, map), cases[i].count);
		for (unsigned j = 0; j < cases[i].count; j++) {
			assert_int_equal(map[j].base, cases[i].map[j].base);
			assert_int_equal(map[j].len, cases[i].map[j].len);
			assert_int_equal(map[j].type, cases[i].map[j].type);
		}
		boot_bench_free(b);
	}
}

/*
 * Random claims, against a model that has a byte for each of 8 MiB's pages:
 * what is found must be the very lowest or highest place there is.
 */
#define MODEL_PAGES 2048u

static bool
model_free(const uint8_t *model, uint64_t page, uint64_t pages)
{
	for (uint64_t i = page; i < page + pages; i++)
		if (i >= MODEL_PAGES || model[i] != 0)
			return false;
	return true;
}

static void
placing_agrees_with_a_model(void **state)
{
	for (uint32_t seed = 1; seed < 60; seed++) {
		struct boot_bench *b = boot_bench_new(8 * MIB, 1);
		struct boot_space space = { .mem = b->mem };
		uint8_t model[MODEL_PAGES] = { 0 };
		uint32_t random = seed;

		space.map_count = e820_map(b->mem, space.map);
		memset(model + 0xa0, 1, 0x60);
		for (unsigned i = 0; i < 100; i++) {
			uint64_t pages, align, min, limit, want, page;
			unsigned op;
			gpa_t gpa = 0;
			int rc;

			random = random * 1664525 + 1013904223;
			pages = 1 + (random >> 8) % 64;
			align = BIT(random >> 20 & 7);
			op = random >> 30;
			random = random * 1664525 + 1013904223;
			min = (random >> 8) % MODEL_PAGES;
			limit = min + (random >> 20) % MODEL_PAGES;
			want = MODEL_PAGES;
			for (page = min; page + pages <= limit; page++) {
				if (page % align != 0 ||
				    !model_free(model, page, pages))
					continue;
				want = page;
				if (op == 0)
					break;
			}
			if (op == 0)
				rc = boot_claim_lowest(&space, pages * 4096,
				    align * 4096, min * 4096, limit * 4096, "x",
				    &gpa, &b->err);
			else if (op == 1)
				rc = boot_claim_highest(&space, pages * 4096,
				    align * 4096, min * 4096, limit * 4096, "x",
				    &gpa, &b->err);
			else {
				gpa = min * 4096;
				want = min;
				rc = boot_claim(&space, gpa, pages * 4096, "x",
				    &b->err);
				if (!model_free(model, min, pages)) {
					assert_int_not_equal(rc, 0);
					continue;
				}
			}
			if (want == MODEL_PAGES) {
				assert_int_equal(rc, -ENOSPC);
				continue;
			}
			assert_int_equal(rc, 0);
			assert_int_equal(gpa, want * 4096);
			memset(model + want, 1, pages);
		}
		boot_bench_free(b);
	}
}

static void
no_kernel_says_what_was_tried(void **state)
{
	struct boot_bench *b = boot_bench_new(16 * MIB, 4096);

	b->params.kernel.name = "/etc/passwd";
	boot_bench_refused(b, -EINVAL, "a Linux boot header");
	boot_bench_refused(b, -EINVAL, "a Multiboot header");
	boot_bench_refused(b, -EINVAL, "a PVH entry note");
	b->params.kernel.len = 0;
	boot_bench_refused(b, -EINVAL, "neither");

	b->params.protocol = "linux";
	boot_bench_refused(b, -EINVAL, "not a Linux boot header");
	b->params.protocol = "pvh";
	boot_bench_refused(b, -EINVAL, "not an ELF with a PVH entry note");
	b->params.protocol = "multiboot";
	boot_bench_refused(b, -EINVAL, "not a Multiboot header");
	b->params.protocol = "Linux";
	boot_bench_refused(b, -EINVAL, "\"Linux\" is none of auto, linux");
	boot_bench_free(b);
}

/* An ELF with both a PVH note and a Multiboot header, as Xen is. */
static void
multiboot_wins_over_pvh_unless_asked(void **state)
{
	struct boot_bench *b = boot_bench_new(16 * MIB, 4096);
	struct elf_maker m = elf_make(b->file, false, MIB);
	le32 entry = le32_make(MIB + 0x10);
	size_t len;

	len = elf_make_note(b->file + 0x200, "Xen", 18, &entry, 4);
	elf_make_segment(&m, ELF_PT_NOTE, 0x200, 0, 0, len, len);
	elf_make_segment(&m, ELF_PT_LOAD, 0x400, MIB, MIB, 0x100, 0x100);
	le32_store(b->file + 0x300, 0x1badb002);
	le32_store(b->file + 0x308, -0x1badb002u);

	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(b->cpu.rip, MIB);
	b->params.protocol = NULL;
	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(b->cpu.rip, MIB);
	b->params.protocol = "pvh";
	assert_int_equal(boot_bench_load(b), 0);
	assert_int_equal(b->cpu.rip, MIB + 0x10);
	b->params.protocol = "linux";
	boot_bench_refused(b, -EINVAL, "not a Linux boot header");

	/* Neither: an ELF that has nothing for us. */
	b->params.protocol = "auto";
	le32_store(b->file + 0x300, 0);
	le32_store(b->file + 0x208, 17);
	boot_bench_refused(b, -EINVAL, "neither");
	boot_bench_free(b);
}

/* A file that is refused leaves the processor as it was. */
static void
failure_leaves_the_processor_alone(void **state)
{
	struct boot_bench *b = boot_bench_new(16 * MIB, 4096);
	struct elf_maker m = elf_make(b->file, false, 0);
	struct cpu_state before;

	elf_make_segment(&m, ELF_PT_LOAD, 0x400, MIB, MIB, 0x100, 0x100);
	le32_store(b->file + 0x300, 0x1badb002);
	le32_store(b->file + 0x308, -0x1badb002u);
	boot_bench_refused(b, -EINVAL, "entry");
	memset(&before, 0x5a, sizeof(before));
	assert_memory_equal(&b->cpu, &before, sizeof(before));
	boot_bench_free(b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_map_leaves_the_holes_out),
		cmocka_unit_test(placing_agrees_with_a_model),
		cmocka_unit_test(no_kernel_says_what_was_tried),
		cmocka_unit_test(multiboot_wins_over_pvh_unless_asked),
		cmocka_unit_test(failure_leaves_the_processor_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
