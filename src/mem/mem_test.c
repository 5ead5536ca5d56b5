/*
 * Guest memory: boundaries, holes, ROM, the listener, dirty pages with threads.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "mem/mem.h"

#define PAGE MEM_PAGE_SIZE

static struct mem *
plain_mem(void)
{
	return mem_new(&(struct mem_params) { 0 });
}

static struct mem *
pc_mem(uint64_t size)
{
	struct mem *mem = plain_mem();
	struct err err;

	assert_int_equal(mem_add_pc_ram(mem, size, 3 * GIB, &err), 0);
	return mem;
}

/* Bytes of the object that the host has really given. */
static uint64_t
resident(const struct mem_region *region)
{
	struct stat st;

	assert_int_equal(fstat(region->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* ------------------------------------------------------------ regions */

static void
regions_are_sorted_and_stay(void **state)
{
	struct mem *mem = plain_mem();
	const struct mem_region *high, *low, *mid;
	struct err err;

	assert_int_equal(mem_add(mem, "c", MEM_RAM, 8 * PAGE, PAGE, &err), 0);
	high = mem_region(mem, 0);
	assert_int_equal(mem_add(mem, "a", MEM_RAM, 0, PAGE, &err), 0);
	low = mem_region(mem, 0);
	assert_int_equal(mem_add(mem, "b", MEM_ROM, PAGE, 3 * PAGE, &err), 0);
	mid = mem_region(mem, 1);

	assert_int_equal(mem_region_count(mem), 3);
	assert_ptr_equal(mem_region(mem, 0), low);
	assert_ptr_equal(mem_region(mem, 2), high);
	assert_string_equal(high->name, "c");
	assert_int_equal(high->slot, 0);
	assert_int_equal(low->slot, 1);
	assert_int_equal(mid->slot, 2);
	assert_int_equal(mid->gpa, PAGE);
	assert_int_equal(mid->size, 3 * PAGE);
	assert_int_equal(mid->kind, MEM_ROM);
	mem_free(mem);
	mem_free(NULL);
}

static void
bad_regions_are_refused(void **state)
{
	static const struct {
		gpa_t gpa;
		uint64_t size;
		int rc;
	} cases[] = {
		{ 0, 0, -EINVAL },
		{ 0, PAGE + 1, -EINVAL },
		{ 1, PAGE, -EINVAL },
		{ BIT(52) - PAGE, 2 * PAGE, -EINVAL },
		{ BIT(52), PAGE, -EINVAL },
		{ -(uint64_t)PAGE, PAGE, -EINVAL },
		{ -(uint64_t)PAGE, 2 * PAGE, -EINVAL },
		{ PAGE, -(uint64_t)PAGE, -EINVAL },
		{ 16 * PAGE, PAGE, -EEXIST },
		{ 15 * PAGE, 2 * PAGE, -EEXIST },
		{ 0, 64 * PAGE, -EEXIST },
		{ 19 * PAGE, PAGE, -EEXIST },
		{ 15 * PAGE, PAGE, 0 },
		{ 20 * PAGE, PAGE, 0 },
		{ BIT(52) - PAGE, PAGE, 0 },
	};
	struct mem *mem = plain_mem();
	struct err err;

	assert_int_equal(mem_add(mem, "x", MEM_RAM, 16 * PAGE, 4 * PAGE, &err),
	    0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		err.msg[0] = '\0';
		assert_int_equal(mem_add(mem, "new", MEM_RAM, cases[i].gpa,
				     cases[i].size, &err),
		    cases[i].rc);
		if (cases[i].rc != 0)
			assert_non_null(strstr(err.msg, "\"new\""));
	}
	assert_int_equal(mem_region_count(mem), 4);
	mem_free(mem);
}

static void
regions_are_bounded(void **state)
{
	struct mem *mem = plain_mem();
	struct err err;
	unsigned n = 0;
	int rc;

	while ((rc = mem_add(mem, "r", MEM_RAM, n * PAGE, PAGE, &err)) == 0)
		assert_true(++n < 1000);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(mem_region_count(mem), n);
	assert_true(n >= 16);
	mem_free(mem);
}

static void
pc_ram_is_split_at_the_limit(void **state)
{
	static const struct {
		uint64_t size, low, high;
	} cases[] = {
		{ PAGE, PAGE, 0 },
		{ 3 * GIB - PAGE, 3 * GIB - PAGE, 0 },
		{ 3 * GIB, 3 * GIB, 0 },
		{ 3 * GIB + PAGE, 3 * GIB, PAGE },
		{ 64 * GIB, 3 * GIB, 61 * GIB },
	};
	struct err err;
	struct mem *mem;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		mem = pc_mem(cases[i].size);
		assert_int_equal(mem_lowmem(mem), cases[i].low);
		assert_int_equal(mem_highmem(mem), cases[i].high);
		assert_int_equal(mem_region_count(mem), cases[i].high ? 2 : 1);
		if (cases[i].high != 0)
			assert_int_equal(mem_region(mem, 1)->gpa, 4 * GIB);
		mem_free(mem);
	}

	mem = plain_mem();
	assert_int_equal(mem_add_pc_ram(mem, 0, 3 * GIB, &err), -EINVAL);
	assert_int_equal(mem_add_pc_ram(mem, GIB, 5 * GIB, &err), -EINVAL);
	assert_int_equal(mem_add_pc_ram(mem, GIB + 1, 3 * GIB, &err), -EINVAL);
	assert_int_equal(mem_add_pc_ram(mem, UINT64_MAX, 3 * GIB, &err),
	    -EINVAL);
	mem_free(mem);
}

static void
ram_is_demand_paged(void **state)
{
	struct mem *mem = pc_mem(32 * GIB);
	const struct mem_region *high = mem_region(mem, 1);
	const gpa_t last = 4 * GIB + 29 * GIB - 1;
	uint8_t byte = 0x5a;

	assert_int_equal(resident(high), 0);
	assert_int_equal(mem_write(mem, last, &byte, 1), 0);
	byte = 0;
	assert_int_equal(mem_read(mem, last, &byte, 1), 0);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(resident(high), PAGE);
	assert_int_equal(resident(mem_region(mem, 0)), 0);
	mem_free(mem);
}

static void
object_is_shared_and_sealed(void **state)
{
	struct mem *mem = pc_mem(MIB);
	const struct mem_region *region = mem_region(mem, 0);
	uint32_t *other;

	assert_int_not_equal(ftruncate(region->fd, 0), 0);
	assert_int_equal(errno, EPERM);
	assert_int_not_equal(ftruncate(region->fd, 2 * MIB), 0);
	other =
	    mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, region->fd, 0);
	assert_ptr_not_equal(other, MAP_FAILED);
	assert_int_equal(mem_write(mem, 64, &(uint32_t) { 0x12345678 }, 4), 0);
	assert_int_equal(other[16], 0x12345678);
	munmap(other, MIB);
	mem_free(mem);
}

/* -------------------------------------------------- wired, huge, in core */

static void
wired_memory_is_resident(void **state)
{
	struct mem *mem = mem_new(&(struct mem_params) { .wired = true });
	struct err err;

	assert_int_equal(mem_add(mem, "r", MEM_RAM, 0, MIB, &err), 0);
	assert_int_equal(resident(mem_region(mem, 0)), MIB);
	mem_free(mem);
}

/* In a process of its own: limits and identity cannot be taken back. */
static int
wire_unprivileged(void)
{
	const struct rlimit limit = { 64 * KIB, 64 * KIB };
	struct mem *mem;
	struct err err;
	int rc;

	if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
		return 1;
	if (getuid() == 0 && setresuid(65534, 65534, 65534) != 0)
		return 2;
	mem = mem_new(&(struct mem_params) { .wired = true });
	if (mem_add(mem, "small", MEM_ROM, 16 * MIB, 32 * KIB, &err) != 0)
		return 3;
	rc = mem_add_pc_ram(mem, MIB, 3 * GIB, &err);
	if (rc != -ENOMEM && rc != -EAGAIN && rc != -EPERM)
		return 4;
	if (mem_region_count(mem) != 1)
		return 5;
	mem_free(mem);
	return strstr(err.msg, "1056 KiB") != NULL &&
		strstr(err.msg, "64 KiB") != NULL &&
		strstr(err.msg, "RLIMIT_MEMLOCK") != NULL ?
	    0 :
	    6;
}

static void
wiring_beyond_the_limit_says_what_to_do(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(wire_unprivileged());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void
huge_pages_are_there_or_named(void **state)
{
	struct mem *mem = mem_new(&(struct mem_params) { .hugepages = true });
	struct err err;
	int rc;

	assert_int_equal(mem_add(mem, "r", MEM_RAM, 0, MIB, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "2 MiB"));
	/* ROM is never made of them. */
	assert_int_equal(mem_add(mem, "rom", MEM_ROM, 4 * GIB - MIB, MIB, &err),
	    0);
	rc = mem_add(mem, "r", MEM_RAM, 0, 2 * MIB, &err);
	if (rc == 0)
		assert_int_equal(mem_fill(mem, 0, 0x11, 2 * MIB), 0);
	else
		assert_non_null(strstr(err.msg, "huge page"));
	mem_free(mem);
}

/* Does the mapping at host have the flag in /proc/self/smaps? */
static bool
vm_flag(const void *host, const char *flag)
{
	FILE *maps = fopen("/proc/self/smaps", "r");
	bool here = false, found = false;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		unsigned long long start, end;

		if (sscanf(line, "%llx-%llx ", &start, &end) == 2)
			here = start == (uintptr_t)host;
		else if (here && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	fclose(maps);
	return found;
}

static void
core_dumps_leave_memory_out(void **state)
{
	struct mem *in = mem_new(&(struct mem_params) { .in_core = true });
	struct mem *out = pc_mem(MIB);
	struct err err;

	assert_int_equal(mem_add_pc_ram(in, MIB, 3 * GIB, &err), 0);
	assert_true(vm_flag(mem_region(out, 0)->host, " dd"));
	assert_false(vm_flag(mem_region(in, 0)->host, " dd"));
	mem_free(in);
	mem_free(out);
}

/* ------------------------------------------------------ look up, copies */

static void
pointers_stay_in_one_region(void **state)
{
	static const struct {
		gpa_t gpa;
		uint64_t len;
		bool ok;
	} cases[] = {
		{ 0, 1, true },
		{ 0, 3 * GIB, true },
		{ 0, 3 * GIB + 1, false },
		{ 3 * GIB - 1, 1, true },
		{ 3 * GIB - 1, 2, false },
		{ 3 * GIB, 1, false },
		{ 4 * GIB - 1, 1, false },
		{ 4 * GIB - 1, 2, false },
		{ 4 * GIB, GIB, true },
		{ 4 * GIB, GIB + 1, false },
		{ 5 * GIB - 1, 1, true },
		{ 5 * GIB, 1, false },
		/* CVE-2016-1889: the sum wraps, or its low 32 bits fit. */
		{ 4096, UINT64_MAX, false },
		{ 4096, UINT64_MAX - 4095, false },
		{ 3 * GIB - 1, UINT64_MAX - 3 * GIB + 2, false },
		{ 0, 4 * GIB, false },
		{ PAGE, 4 * GIB + 1, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX, UINT64_MAX, false },
		{ BIT(63), PAGE, false },
		/* Nothing is a pointer too, but only into memory. */
		{ 0, 0, true },
		{ 3 * GIB, 0, false },
	};
	struct mem *mem = pc_mem(4 * GIB);
	const uint8_t *low = mem_region(mem, 0)->host;
	const uint8_t *high = mem_region(mem, 1)->host;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		gpa_t gpa = cases[i].gpa;
		const uint8_t *want = NULL;

		if (cases[i].ok)
			want = gpa < 4 * GIB ? low + gpa : high + gpa - 4 * GIB;
		assert_ptr_equal(mem_ptr_read(mem, gpa, cases[i].len), want);
		assert_ptr_equal(mem_ptr_write(mem, gpa, cases[i].len), want);
	}
	mem_free(mem);

	mem = plain_mem();
	assert_null(mem_ptr_read(mem, 0, 0));
	mem_free(mem);
}

static void
copies_refuse_holes_and_wraps(void **state)
{
	static const struct {
		gpa_t gpa;
		uint64_t len;
	} cases[] = {
		{ 3 * GIB - 2, 4 },
		{ 3 * GIB, 4 },
		{ 4 * GIB - 2, 4 },
		{ 5 * GIB - 2, 4 },
		{ UINT64_MAX - 1, 4 },
		{ UINT64_MAX, 1 },
		{ 0, UINT64_MAX },
		{ 4 * GIB, UINT64_MAX },
		{ 4096, -(uint64_t)4096 },
		{ 0, 8 * GIB },
	};
	struct mem *mem = pc_mem(4 * GIB);
	const uint8_t ones[4] = { 0xff, 0xff, 0xff, 0xff };
	uint8_t buf[4] = { 1, 2, 3, 4 };
	uint16_t edge;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(mem_read(mem, cases[i].gpa, buf, cases[i].len),
		    -EFAULT);
		assert_int_equal(mem_write(mem, cases[i].gpa, ones,
				     cases[i].len),
		    -EFAULT);
		assert_int_equal(mem_write_rom(mem, cases[i].gpa, ones,
				     cases[i].len),
		    -EFAULT);
		assert_int_equal(mem_fill(mem, cases[i].gpa, 0xff,
				     cases[i].len),
		    -EFAULT);
	}
	/* Nothing was copied either way. */
	assert_int_equal(buf[0] | buf[1] << 8, 0x0201);
	assert_int_equal(mem_read(mem, 3 * GIB - 2, &edge, 2), 0);
	assert_int_equal(edge, 0);
	assert_int_equal(mem_read(mem, 5 * GIB - 2, &edge, 2), 0);
	assert_int_equal(edge, 0);

	/* No bytes: nothing to refuse. */
	assert_int_equal(mem_read(mem, UINT64_MAX, buf, 0), 0);
	assert_int_equal(mem_write(mem, 3 * GIB, ones, 0), 0);
	assert_int_equal(mem_fill(mem, 3 * GIB, 0, 0), 0);
	mem_free(mem);
}

static void
copies_cross_regions_that_adjoin(void **state)
{
	struct mem *mem = plain_mem();
	uint8_t out[2 * PAGE + 20], in[sizeof(out)];
	const gpa_t at = 4 * PAGE - 10;
	struct err err;

	assert_int_equal(mem_add(mem, "a", MEM_RAM, 0, 4 * PAGE, &err), 0);
	assert_int_equal(mem_add(mem, "b", MEM_RAM, 4 * PAGE, PAGE, &err), 0);
	assert_int_equal(mem_add(mem, "c", MEM_RAM, 5 * PAGE, PAGE, &err), 0);
	assert_int_equal(mem_add(mem, "d", MEM_RAM, 6 * PAGE, PAGE, &err), 0);
	assert_int_equal(mem_add(mem, "e", MEM_RAM, 8 * PAGE, PAGE, &err), 0);
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(mem_write(mem, at, out, sizeof(out)), 0);
	assert_int_equal(mem_read(mem, at, in, sizeof(in)), 0);
	assert_memory_equal(in, out, sizeof(in));
	assert_null(mem_ptr_read(mem, at, sizeof(out)));
	assert_int_equal(mem_fill(mem, at, 0x77, sizeof(out)), 0);
	assert_int_equal(mem_read(mem, at, in, sizeof(in)), 0);
	for (size_t i = 0; i < sizeof(in); i++)
		assert_int_equal(in[i], 0x77);
	assert_int_equal(mem_read(mem, 7 * PAGE - 1, in, PAGE), -EFAULT);
	mem_free(mem);
}

static void
rom_is_read_only_for_devices(void **state)
{
	struct mem *mem = plain_mem();
	const uint32_t magic = 0x55aa55aa;
	struct err err;
	uint32_t value;

	assert_int_equal(mem_add(mem, "ram", MEM_RAM, 0, PAGE, &err), 0);
	assert_int_equal(mem_add(mem, "rom", MEM_ROM, PAGE, PAGE, &err), 0);
	assert_int_equal(mem_write_rom(mem, PAGE - 2, &magic, 4), 0);
	assert_int_equal(mem_read(mem, PAGE - 2, &value, 4), 0);
	assert_int_equal(value, magic);
	assert_non_null(mem_ptr_read(mem, PAGE, PAGE));

	assert_null(mem_ptr_write(mem, PAGE, 1));
	assert_int_equal(mem_write(mem, PAGE, &(uint32_t) { 0 }, 4), -EFAULT);
	assert_int_equal(mem_fill(mem, PAGE, 0, 1), -EFAULT);
	/* Partly ROM: the RAM before it stays as it was, too. */
	assert_int_equal(mem_write(mem, PAGE - 2, &(uint32_t) { 0 }, 4),
	    -EFAULT);
	assert_int_equal(mem_fill(mem, PAGE - 2, 0, 4), -EFAULT);
	assert_int_equal(mem_read(mem, PAGE - 2, &value, 4), 0);
	assert_int_equal(value, magic);
	mem_free(mem);
}

/*
 * Random accesses around regions, holes and ROM at the end of the address
 * space, against a model that knows bytes only.
 */
#define MODEL_PAGES 24u
#define MODEL_BASE (BIT(52) - MODEL_PAGES * PAGE)

/* R RAM, O ROM, a new region at each capital; lower case continues it. */
static const char model_map[MODEL_PAGES + 1] = "..Rr.ROoRr..RrrOR...RrrR";

static char
model_kind(uint64_t off)
{
	char kind = off < MODEL_PAGES * PAGE ? model_map[off / PAGE] : '.';

	return kind >= 'a' ? (char)(kind - 'a' + 'A') : kind;
}

static bool
model_allows(uint64_t off, uint64_t len, bool write)
{
	for (uint64_t i = 0; i < len; i++)
		if (model_kind(off + i) == '.' ||
		    (write && model_kind(off + i) == 'O'))
			return false;
	return true;
}

static void
random_accesses_agree_with_a_model(void **state)
{
	static uint8_t model[MODEL_PAGES * PAGE], in[4 * PAGE], out[4 * PAGE];
	struct mem *mem = plain_mem();
	uint32_t seed = 1;
	struct err err;

	for (unsigned p = 0; p < MODEL_PAGES; p++) {
		unsigned end = p + 1;

		while (end < MODEL_PAGES && model_map[end] >= 'a')
			end++;
		if (model_map[p] == 'R' || model_map[p] == 'O')
			assert_int_equal(mem_add(mem, "r",
					     model_map[p] == 'R' ? MEM_RAM :
								   MEM_ROM,
					     MODEL_BASE + p * PAGE,
					     (end - p) * PAGE, &err),
			    0);
	}
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t off, len;
		gpa_t gpa;
		unsigned op;
		bool ok;

		seed = seed * 1664525 + 1013904223;
		op = seed >> 30;
		len = seed >> 8 & 1 ? seed >> 9 & 15 : (seed >> 9) % sizeof(in);
		seed = seed * 1664525 + 1013904223;
		off = (seed >> 8) % (MODEL_PAGES * PAGE);
		/* Often at the end of a page, where the borders are. */
		if (seed & 0x80)
			off = round_up(off + 1, PAGE) - (seed >> 8 & 7) - 1;
		gpa = MODEL_BASE + off;
		for (uint64_t j = 0; j < len; j++)
			out[j] = (uint8_t)(seed >> 16 ^ j);
		ok = model_allows(off, len, op == 1 || op == 3);
		switch (op) {
		case 0:
			assert_int_equal(mem_read(mem, gpa, in, len),
			    ok ? 0 : -EFAULT);
			if (ok)
				assert_memory_equal(in, model + off, len);
			continue;
		case 1:
			assert_int_equal(mem_write(mem, gpa, out, len),
			    ok ? 0 : -EFAULT);
			break;
		case 2:
			assert_int_equal(mem_write_rom(mem, gpa, out, len),
			    ok ? 0 : -EFAULT);
			break;
		default:
			memset(out, out[0], len);
			assert_int_equal(mem_fill(mem, gpa, out[0], len),
			    ok ? 0 : -EFAULT);
			break;
		}
		if (ok)
			memcpy(model + off, out, len);
	}
	for (uint64_t p = 0; p < MODEL_PAGES; p++)
		if (model_kind(p * PAGE) != '.')
			assert_memory_equal(mem_ptr_read(mem,
						MODEL_BASE + p * PAGE, PAGE),
			    model + p * PAGE, PAGE);
	mem_free(mem);
}

/* ------------------------------------------------------------ listener */

struct listener_log {
	char calls[512];
	int fail_map;   /* 1: the first call fails, 2: the second; 0: none */
	int fail_start; /* the same for dirty_start */
	bool fail_fetch;
	uint64_t
	    guest_bits; /* what dirty_fetch finds in word 0, then forgets */
};

static void
listener_note(struct listener_log *log, const char *what, const char *name)
{
	size_t len = strlen(log->calls);

	snprintf(log->calls + len, sizeof(log->calls) - len, "%s %s;", what,
	    name);
}

static int
on_map(void *arg, const struct mem_region *region, struct err *err)
{
	struct listener_log *log = arg;

	listener_note(log, "map", region->name);
	if (log->fail_map != 0 && --log->fail_map == 0)
		return err_set(err, -EIO, "map fails");
	return 0;
}

static void
on_unmap(void *arg, const struct mem_region *region)
{
	listener_note(arg, "unmap", region->name);
}

static int
on_dirty_start(void *arg, const struct mem_region *region, struct err *err)
{
	struct listener_log *log = arg;

	listener_note(log, "start", region->name);
	if (log->fail_start != 0 && --log->fail_start == 0)
		return err_set(err, -EIO, "start fails");
	return 0;
}

static void
on_dirty_stop(void *arg, const struct mem_region *region)
{
	listener_note(arg, "stop", region->name);
}

static int
on_dirty_fetch(void *arg, const struct mem_region *region, uint64_t *bitmap,
    struct err *err)
{
	struct listener_log *log = arg;

	listener_note(log, "fetch", region->name);
	if (log->fail_fetch)
		return err_set(err, -EIO, "fetch fails");
	bitmap[0] |= log->guest_bits;
	log->guest_bits = 0;
	return 0;
}

static void
on_wrote(void *arg, gpa_t gpa, uint64_t len)
{
	char range[48];

	snprintf(range, sizeof(range), "%llx+%llx", (unsigned long long)gpa,
	    (unsigned long long)len);
	listener_note(arg, "wrote", range);
}

static const struct mem_listener listener = {
	.map = on_map,
	.unmap = on_unmap,
	.dirty_start = on_dirty_start,
	.dirty_stop = on_dirty_stop,
	.dirty_fetch = on_dirty_fetch,
	.wrote = on_wrote,
};

static void
expect_calls(struct listener_log *log, const char *calls)
{
	assert_string_equal(log->calls, calls);
	log->calls[0] = '\0';
}

static struct mem *
two_regions(void)
{
	struct mem *mem = plain_mem();
	struct err err;

	assert_int_equal(mem_add(mem, "b", MEM_RAM, MIB, MIB, &err), 0);
	assert_int_equal(mem_add(mem, "a", MEM_RAM, 0, MIB, &err), 0);
	return mem;
}

static void
listener_is_called_in_order(void **state)
{
	struct listener_log log = { 0 };
	struct mem *mem = two_regions();
	struct err err;

	assert_int_equal(mem_set_listener(mem, &listener, &log, &err), 0);
	expect_calls(&log, "map a;map b;");
	assert_int_equal(mem_add(mem, "c", MEM_RAM, 2 * MIB, MIB, &err), 0);
	expect_calls(&log, "map c;");

	assert_int_equal(mem_dirty_start(mem, &err), 0);
	expect_calls(&log, "start a;start b;start c;");
	assert_int_equal(mem_add(mem, "d", MEM_RAM, 3 * MIB, MIB, &err),
	    -EBUSY);
	assert_int_equal(mem_write(mem, 0x1ff8, &log, 16), 0);
	assert_int_equal(mem_fill(mem, 0x10, 0, 3), 0);
	mem_wrote(mem, 0x2000, 0x10);
	expect_calls(&log, "wrote 1ff8+10;wrote 10+3;wrote 2000+10;");
	/* Failed and empty writes are no writes. */
	assert_int_equal(mem_write(mem, 3 * MIB - 1, &log, 2), -EFAULT);
	assert_int_equal(mem_write(mem, 0, &log, 0), 0);
	mem_wrote(mem, 0, 0);
	expect_calls(&log, "");

	mem_dirty_stop(mem);
	expect_calls(&log, "stop a;stop b;stop c;");
	mem_dirty_stop(mem);
	expect_calls(&log, "");
	assert_int_equal(mem_dirty_start(mem, &err), 0);
	log.calls[0] = '\0';
	mem_clear_listener(mem);
	expect_calls(&log, "stop a;stop b;stop c;unmap c;unmap b;unmap a;");
	mem_clear_listener(mem);
	mem_free(mem);
	expect_calls(&log, "");
}

static void
listener_failures_are_undone(void **state)
{
	struct listener_log log = { .fail_map = 2 };
	struct mem *mem = two_regions();
	struct err err;

	assert_int_equal(mem_set_listener(mem, &listener, &log, &err), -EIO);
	assert_string_equal(err.msg, "map fails");
	expect_calls(&log, "map a;map b;unmap a;");
	mem_wrote(mem, 0, 1);
	expect_calls(&log, "");

	assert_int_equal(mem_set_listener(mem, &listener, &log, &err), 0);
	log.calls[0] = '\0';
	log.fail_map = 1;
	assert_int_equal(mem_add(mem, "c", MEM_RAM, 2 * MIB, MIB, &err), -EIO);
	assert_int_equal(mem_region_count(mem), 2);
	assert_null(mem_ptr_read(mem, 2 * MIB, 1));
	expect_calls(&log, "map c;");

	log.fail_start = 2;
	assert_int_equal(mem_dirty_start(mem, &err), -EIO);
	expect_calls(&log, "start a;start b;stop a;");
	assert_false(mem_dirty_tracking(mem));
	mem_free(mem);
	expect_calls(&log, "unmap b;unmap a;");
}

/* ------------------------------------------------------- dirty tracking */

static void
dirty_pages_are_reported_once(void **state)
{
	struct mem *mem = two_regions();
	uint64_t a[4], b[4];
	struct err err;
	uint8_t *host;

	assert_int_equal(mem_dirty_words(mem_region(mem, 0)), 4);
	assert_int_equal(mem_dirty_fetch(mem, 0, a, &err), -EINVAL);
	assert_int_equal(mem_fill(mem, 0, 1, MIB), 0);
	assert_int_equal(mem_dirty_start(mem, &err), 0);
	assert_int_equal(mem_dirty_start(mem, &err), -EBUSY);
	assert_true(mem_dirty_tracking(mem));

	/* What came before the start does not count. */
	memset(a, 0xff, sizeof(a));
	assert_int_equal(mem_dirty_fetch(mem, 0, a, &err), 0);
	assert_true(a[0] == 0 && a[1] == 0 && a[2] == 0 && a[3] == 0);

	/* Ends of pages, of words, of regions. */
	assert_int_equal(mem_write(mem, 0, "x", 1), 0);
	assert_int_equal(mem_write(mem, 3 * PAGE - 1, "xy", 2), 0);
	assert_int_equal(mem_fill(mem, 63 * PAGE, 0, 66 * PAGE), 0);
	assert_int_equal(mem_fill(mem, MIB - 1, 0, 2), 0);
	host = mem_ptr_write(mem, 2 * MIB - 1, 1);
	*host = 1;
	mem_wrote(mem, 2 * MIB - 1, 1);
	/* Beyond memory: ignored. */
	mem_wrote(mem, 2 * MIB, PAGE);
	mem_wrote(mem, UINT64_MAX, UINT64_MAX);

	assert_int_equal(mem_dirty_fetch(mem, 0, a, &err), 0);
	assert_int_equal(mem_dirty_fetch(mem, 1, b, &err), 0);
	assert_true(a[0] == (BIT(0) | BIT(2) | BIT(3) | BIT(63)));
	assert_true(a[1] == UINT64_MAX);
	assert_true(a[2] == BIT(0));
	assert_true(a[3] == BIT(63));
	assert_true(b[0] == BIT(0) && b[1] == 0 && b[2] == 0);
	assert_true(b[3] == BIT(63));
	assert_int_equal(mem_dirty_fetch(mem, 0, a, &err), 0);
	assert_true(a[0] == 0 && a[1] == 0 && a[2] == 0 && a[3] == 0);

	/* Stopped in between: a new start begins clean. */
	assert_int_equal(mem_write(mem, 0, "x", 1), 0);
	mem_dirty_stop(mem);
	assert_int_equal(mem_dirty_start(mem, &err), 0);
	assert_int_equal(mem_dirty_fetch(mem, 0, a, &err), 0);
	assert_true(a[0] == 0);
	mem_free(mem);
}

static void
dirty_pages_of_guest_and_devices_merge(void **state)
{
	struct listener_log log = { 0 };
	struct mem *mem = two_regions();
	uint64_t bits[4];
	struct err err;

	assert_int_equal(mem_set_listener(mem, &listener, &log, &err), 0);
	assert_int_equal(mem_dirty_start(mem, &err), 0);
	assert_int_equal(mem_write(mem, PAGE, "x", 1), 0);
	log.guest_bits = BIT(1) | BIT(5);
	assert_int_equal(mem_dirty_fetch(mem, 0, bits, &err), 0);
	assert_true(bits[0] == (BIT(1) | BIT(5)));

	/* A fetch that fails loses nothing. */
	assert_int_equal(mem_write(mem, 7 * PAGE, "x", 1), 0);
	log.guest_bits = BIT(9);
	log.fail_fetch = true;
	assert_int_equal(mem_dirty_fetch(mem, 0, bits, &err), -EIO);
	log.fail_fetch = false;
	assert_int_equal(mem_dirty_fetch(mem, 0, bits, &err), 0);
	assert_true(bits[0] == (BIT(7) | BIT(9)));
	mem_free(mem);
}

/* -------------------------------------------------------------- threads */

#define WRITERS 4
#define WRITER_PAGES 24
#define THREAD_PAGES (WRITERS * WRITER_PAGES)
#define WRITER_ROUNDS 4000

struct writer {
	struct mem *mem;
	unsigned first; /* owns pages first, first + WRITERS, ... */
	atomic_uint *running;
	pthread_t thread;
};

/* Numbers only grow, so that a copy of an old one shows. */
static void *
writer_main(void *arg)
{
	struct writer *w = arg;

	for (uint64_t n = 1; n <= WRITER_ROUNDS; n++) {
		gpa_t page = w->first + n % WRITER_PAGES * WRITERS;

		/* Some pages lie on either side of the regions' border. */
		page += (MIB / PAGE) - THREAD_PAGES / 2;
		assert(mem_write(w->mem, page * PAGE + 8, &n, 8) == 0);
	}
	atomic_fetch_sub(w->running, 1);
	return NULL;
}

static void
writers_start(struct writer writers[WRITERS], struct mem *mem,
    atomic_uint *running)
{
	atomic_store(running, WRITERS);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer) { mem, i, running, 0 };
		assert_int_equal(pthread_create(&writers[i].thread, NULL,
				     writer_main, &writers[i]),
		    0);
	}
}

static void
writers_join(struct writer writers[WRITERS])
{
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
}

/* As a migration does: copy each page that a fetch reports. */
static void
copy_dirty(struct mem *mem, uint64_t copy[2 * MIB / PAGE])
{
	for (unsigned index = 0; index < 2; index++) {
		const struct mem_region *region = mem_region(mem, index);
		uint64_t bits[4];
		struct err err;

		assert_int_equal(mem_dirty_fetch(mem, index, bits, &err), 0);
		for (unsigned i = 0; i < 256; i++) {
			gpa_t page = region->gpa / PAGE + i;

			if (bits[i / 64] & BIT(i % 64))
				assert_int_equal(mem_read(mem, page * PAGE + 8,
						     &copy[page], 8),
				    0);
		}
	}
}

static void
check_copy(struct mem *mem, const uint64_t copy[2 * MIB / PAGE])
{
	for (gpa_t page = 0; page < 2 * MIB / PAGE; page++) {
		uint64_t now;

		assert_int_equal(mem_read(mem, page * PAGE + 8, &now, 8), 0);
		assert_int_equal(copy[page], now);
	}
}

static void
concurrent_writes_are_never_lost(void **state)
{
	uint64_t copy[2 * MIB / PAGE] = { 0 };
	struct writer writers[WRITERS];
	struct mem *mem = two_regions();
	atomic_uint running;
	struct err err;

	assert_int_equal(mem_dirty_start(mem, &err), 0);
	writers_start(writers, mem, &running);
	while (atomic_load(&running) != 0)
		copy_dirty(mem, copy);
	copy_dirty(mem, copy);
	check_copy(mem, copy);
	writers_join(writers);
	mem_free(mem);
}

/* Start, copy everything, copy what is dirty: while writers are at it. */
static void
tracking_starts_and_stops_under_writers(void **state)
{
	uint64_t copy[2 * MIB / PAGE];
	struct writer writers[WRITERS];
	struct mem *mem = two_regions();
	atomic_uint running;
	struct err err;

	writers_start(writers, mem, &running);
	do {
		mem_dirty_stop(mem);
		assert_int_equal(mem_dirty_start(mem, &err), 0);
		for (gpa_t page = 0; page < 2 * MIB / PAGE; page++)
			assert_int_equal(mem_read(mem, page * PAGE + 8,
					     &copy[page], 8),
			    0);
		copy_dirty(mem, copy);
	} while (atomic_load(&running) != 0);
	copy_dirty(mem, copy);
	check_copy(mem, copy);
	writers_join(writers);
	mem_free(mem);
}

struct flipper {
	struct mem *mem;
	atomic_bool stop;
};

static void *
flipper_main(void *arg)
{
	struct flipper *f = arg;

	for (uint64_t v = 0; !atomic_load(&f->stop); v = ~v) {
		assert(mem_write(f->mem, 8, &v, 8) == 0);
		assert(mem_write(f->mem, 16, &v, 4) == 0);
		assert(mem_write(f->mem, 20, &v, 2) == 0);
	}
	return NULL;
}

static void
aligned_integers_are_never_torn(void **state)
{
	struct flipper f = { .mem = pc_mem(MIB) };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, flipper_main, &f), 0);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t v64;
		uint32_t v32;
		uint16_t v16;

		assert_int_equal(mem_read(f.mem, 8, &v64, 8), 0);
		assert_true(v64 == 0 || v64 == UINT64_MAX);
		assert_int_equal(mem_read(f.mem, 16, &v32, 4), 0);
		assert_true(v32 == 0 || v32 == UINT32_MAX);
		assert_int_equal(mem_read(f.mem, 20, &v16, 2), 0);
		assert_true(v16 == 0 || v16 == UINT16_MAX);
	}
	atomic_store(&f.stop, true);
	pthread_join(thread, NULL);
	mem_free(f.mem);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions_are_sorted_and_stay),
		cmocka_unit_test(bad_regions_are_refused),
		cmocka_unit_test(regions_are_bounded),
		cmocka_unit_test(pc_ram_is_split_at_the_limit),
		cmocka_unit_test(ram_is_demand_paged),
		cmocka_unit_test(object_is_shared_and_sealed),
		cmocka_unit_test(wired_memory_is_resident),
		cmocka_unit_test(wiring_beyond_the_limit_says_what_to_do),
		cmocka_unit_test(huge_pages_are_there_or_named),
		cmocka_unit_test(core_dumps_leave_memory_out),
		cmocka_unit_test(pointers_stay_in_one_region),
		cmocka_unit_test(copies_refuse_holes_and_wraps),
		cmocka_unit_test(copies_cross_regions_that_adjoin),
		cmocka_unit_test(rom_is_read_only_for_devices),
		cmocka_unit_test(random_accesses_agree_with_a_model),
		cmocka_unit_test(listener_is_called_in_order),
		cmocka_unit_test(listener_failures_are_undone),
		cmocka_unit_test(dirty_pages_are_reported_once),
		cmocka_unit_test(dirty_pages_of_guest_and_devices_merge),
		cmocka_unit_test(concurrent_writes_are_never_lost),
		cmocka_unit_test(tracking_starts_and_stops_under_writers),
		cmocka_unit_test(aligned_integers_are_never_torn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
