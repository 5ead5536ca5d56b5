/*
 * Which pages a guest has written: all of them are told, and none is lost while
 * the guest goes on (theory: jit.c, Memory; mem.h, Dirty tracking).
 */
#include <sched.h>

#include "engine/jit/jit_rig.h"

#define PAGES 64u

static const char *const engines[] = { "jit", "interp" };

static bool
dirty(const uint64_t *bitmap, gpa_t gpa)
{
	uint64_t page = gpa / MEM_PAGE_SIZE;

	return bitmap[page / 64] & BIT(page % 64);
}

static unsigned
dirty_count(const uint64_t *bitmap, gpa_t gpa, unsigned pages)
{
	unsigned n = 0;

	for (unsigned i = 0; i < pages; i++)
		n += dirty(bitmap, gpa + i * MEM_PAGE_SIZE);
	return n;
}

static uint64_t *
bitmap_new(struct rig *rig)
{
	uint64_t *bitmap =
	    calloc(mem_dirty_words(mem_region(rig->mem, 0)), sizeof(*bitmap));

	assert_non_null(bitmap);
	return bitmap;
}

static void
fetch(struct rig *rig, uint64_t *bitmap)
{
	struct err err = { .msg = "" };

	memset(bitmap, 0,
	    mem_dirty_words(mem_region(rig->mem, 0)) * sizeof(*bitmap));
	if (mem_dirty_fetch(rig->mem, 0, bitmap, &err) != 0)
		fail_msg("%s", err.msg);
}

static void
track(struct rig *rig)
{
	struct err err = { .msg = "" };

	if (mem_dirty_start(rig->mem, &err) != 0)
		fail_msg("%s", err.msg);
}

/* A store of each kind to a page of its own; a load from another. */
RIG_ASM(kinds_code, 64,
    "mov [rdi], rax\n"
    "add qword ptr [rdi + 0x1000], 1\n"
    "lock xadd [rdi + 0x2000], rax\n"
    "lea rsp, [rdi + 0x3800]\n push rax\n"
    "lea rsp, [rdi + 0x4800]\n call 1f\n 1:\n"
    "movups [rdi + 0x5000], xmm0\n"
    "push rdi\n add rdi, 0x6000\n mov ecx, 8\n rep stosb\n pop rdi\n"
    "mov [rdi + 0x7ffc], rax\n" /* and page 8 */
    "fstp dword ptr [rdi + 0x9000]\n"
    "mov rax, [rdi + 0xa000]\n"
    "mov rax, [rsi]" DONE); /* marks a page table */

static void
every_kind_of_store_is_told(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(engines); i++) {
		struct rig *rig = rig_new(engines[i], 1, NULL);
		uint64_t *bitmap = bitmap_new(rig);
		struct cpu_state cpu;
		struct rig_end end;
		const gpa_t at = RIG_DATA;

		RIG_PUT(rig, RIG_CODE, kinds_code);
		rig_state(rig, 0, &cpu);
		cpu.gpr[CPU_RDI] = at;
		cpu.gpr[CPU_RSI] = RIG_BIG;
		/* It knows all pages when tracking begins. */
		rig_run_done(rig, &cpu, &end);
		track(rig);
		fetch(rig, bitmap);
		assert_int_equal(dirty_count(bitmap, at, 16), 0);
		for (unsigned n = 0; n < 3; n++) {
			rig_run_done(rig, &cpu, &end);
			fetch(rig, bitmap);
			assert_int_equal(dirty_count(bitmap, at, 10), 10);
			assert_int_equal(dirty_count(bitmap, at, 16), 10);
			fetch(rig, bitmap);
			assert_int_equal(dirty_count(bitmap, at, 16), 0);
		}
		/* A and D bits are stores of the processor. */
		rig_put64(rig, RIG_PD_BIG, RIG_BIG_GPA | 0x87);
		rig_map(rig, at, at | 7);
		fetch(rig, bitmap);
		assert_true(dirty(bitmap, RIG_PD_BIG));
		rig_run_done(rig, &cpu, &end);
		fetch(rig, bitmap);
		assert_true(dirty(bitmap, RIG_PD_BIG));
		assert_true(dirty(bitmap, RIG_PT));
		/* Nobody looks any more, and then somebody does again. */
		mem_dirty_stop(rig->mem);
		rig_run_done(rig, &cpu, &end);
		track(rig);
		fetch(rig, bitmap);
		assert_int_equal(dirty_count(bitmap, at, 16), 0);
		rig_run_done(rig, &cpu, &end);
		fetch(rig, bitmap);
		assert_int_equal(dirty_count(bitmap, at, 16), 10);
		mem_dirty_stop(rig->mem);
		free(bitmap);
		rig_free(rig);
	}
}

/* Two vCPUs, each with half of the pages, write numbers that grow. */
RIG_ASM(writer_code, 64,
    "1: mov rdx, rdi\n mov ecx, 32\n"
    "2: add rax, 1\n mov [rdx], rax\n add rdx, 0x1000\n"
    "dec ecx\n jnz 2b\n"
    "cmp byte ptr [rsi], 0\n je 1b" DONE);

#define STOP (RIG_DATA - 0x1000)

static void
fetch_and_copy(struct rig *rig, uint64_t *bitmap, uint64_t *copy)
{
	fetch(rig, bitmap);
	for (unsigned p = 0; p < PAGES; p++) {
		gpa_t gpa = RIG_DATA + p * MEM_PAGE_SIZE;

		if (dirty(bitmap, gpa))
			copy[p] = rig_get64(rig, gpa);
	}
}

/* Until both have written some more. */
static void
wait_for_stores(struct rig *rig)
{
	for (unsigned i = 0; i < 2; i++) {
		gpa_t gpa = RIG_DATA + PAGES / 2 * MEM_PAGE_SIZE * i;
		uint64_t before = rig_get64(rig, gpa);

		while (rig_get64(rig, gpa) == before)
			(void)sched_yield();
	}
}

/*
 * As when a machine moves while it runs: pages that are told are copied, and in
 * the end, when it stands still, the copy must be the memory.
 */
static void
no_store_is_lost(void **state)
{
	enum { ROUNDS = 12, FETCHES = 4 };
	static struct rig_thread threads[2];
	static uint64_t copy[PAGES];
	struct rig *rig = rig_new("jit", 2, NULL);
	uint64_t *bitmap = bitmap_new(rig);

	RIG_PUT(rig, RIG_CODE, writer_code);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		rig_put64(rig, STOP, 0);
		for (unsigned p = 0; p < PAGES; p++)
			copy[p] = rig_get64(rig, RIG_DATA + p * MEM_PAGE_SIZE);
		for (unsigned i = 0; i < 2; i++) {
			rig_state(rig, i, &threads[i].cpu);
			threads[i].cpu.gpr[CPU_RAX] = (round + 1) << 40;
			threads[i].cpu.gpr[CPU_RDI] =
			    RIG_DATA + PAGES / 2 * MEM_PAGE_SIZE * i;
			threads[i].cpu.gpr[CPU_RSI] = STOP;
		}
		track(rig);
		for (unsigned i = 0; i < 2; i++)
			rig_start(&threads[i], rig, i);
		for (unsigned n = 0; n < FETCHES; n++) {
			wait_for_stores(rig);
			fetch_and_copy(rig, bitmap, copy);
		}
		wait_for_stores(rig);
		rig_put64(rig, STOP, 1);
		for (unsigned i = 0; i < 2; i++)
			rig_join(&threads[i]);
		fetch_and_copy(rig, bitmap, copy);
		for (unsigned p = 0; p < PAGES; p++)
			assert_int_equal(copy[p],
			    rig_get64(rig, RIG_DATA + p * MEM_PAGE_SIZE));
		mem_dirty_stop(rig->mem);
	}
	free(bitmap);
	rig_free(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_store_is_told),
		cmocka_unit_test(no_store_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
