/*
 * Booting without firmware: choosing a protocol, placing things in memory, and
 * the processor states at entry.
 *
 * Leaves out   compressed files (gzip around a kernel), kernels above 4 GiB.
 * Locking      none: runs before the vCPUs do.
 * Invariants   1. Nothing is written that was not claimed, and no two claims
 *                 overlap.  A claim lies in RAM that E820 reports, so the BIOS
 *                 area with our tables is never hit.
 *              2. The kernel claims first, at the addresses it wants; what is
 *                 ours fits itself around it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "firmware/boot_impl.h"

#define CR0_PE BIT(0)
#define CR0_ET BIT(4)
#define CR0_PG BIT(31)
#define CR4_PAE BIT(5)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define RFLAGS_ONE BIT(1) /* bit 1 always reads 1 */

/* Selectors and access rights, SDM volume 3, 3.4.5. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18
#define BOOT_TR 0x20
#define ACCESS_CODE32 0xc09bu /* execute, read; 32-bit, 4 KiB granules */
#define ACCESS_CODE64 0xa09bu /* the same with L instead of D */
#define ACCESS_DATA 0xc093u   /* read, write */
#define ACCESS_TSS 0x008bu    /* busy */
#define TSS_LIMIT 0x67u

#define PTE_P BIT(0)
#define PTE_RW BIT(1)
#define PTE_PS BIT(7)

/* ------------------------------------------------------------- placing */

/* Does [gpa, gpa + len) lie in one piece of RAM? */
static bool
boot_is_ram(const struct boot_space *space, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < space->map_count; i++) {
		const struct e820_entry *ram = &space->map[i];

		if (gpa >= ram->base &&
		    range_within(gpa - ram->base, len, ram->len))
			return true;
	}
	return false;
}

/* What is in the way of a range that lies in RAM, or NULL. */
static const struct boot_claim *
boot_conflict(const struct boot_space *space, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < space->claim_count; i++) {
		const struct boot_claim *c = &space->claims[i];

		if (gpa < c->gpa + c->len && c->gpa < gpa + len)
			return c;
	}
	return NULL;
}

int
boot_claim(struct boot_space *space, gpa_t gpa, uint64_t len, const char *what,
    struct err *err)
{
	const struct boot_claim *c;

	if (len == 0)
		return 0;
	if (!boot_is_ram(space, gpa, len))
		return err_set(err, -ENOSPC,
		    "%s: 0x%llx bytes at 0x%llx are not all RAM", what,
		    (unsigned long long)len, (unsigned long long)gpa);
	c = boot_conflict(space, gpa, len);
	if (c != NULL)
		return err_set(err, -EINVAL,
		    "%s at 0x%llx overlaps %s at 0x%llx", what,
		    (unsigned long long)gpa, c->what,
		    (unsigned long long)c->gpa);
	if (space->claim_count == BOOT_CLAIMS_MAX)
		return err_set(err, -EINVAL, "%s: more than %d pieces to load",
		    what, BOOT_CLAIMS_MAX);
	space->claims[space->claim_count++] = (struct boot_claim) {
		.gpa = gpa,
		.len = len,
		.what = what,
	};
	return 0;
}

static int
boot_no_room(uint64_t len, gpa_t min, gpa_t limit, const char *what,
    struct err *err)
{
	return err_set(err, -ENOSPC,
	    "%s: no room for 0x%llx bytes of RAM between 0x%llx and 0x%llx",
	    what, (unsigned long long)len, (unsigned long long)min,
	    (unsigned long long)limit);
}

int
boot_claim_lowest(struct boot_space *space, uint64_t len, uint64_t align,
    gpa_t min, gpa_t limit, const char *what, gpa_t *gpa, struct err *err)
{
	for (unsigned i = 0; i < space->map_count; i++) {
		const struct e820_entry *ram = &space->map[i];
		gpa_t end = MIN(ram->base + ram->len, limit);
		gpa_t at = round_up(MAX(ram->base, min), align);
		const struct boot_claim *c;

		/* Each step passes one claim at least, so it ends. */
		while (at < end && len <= end - at) {
			c = boot_conflict(space, at, len);
			if (c == NULL) {
				*gpa = at;
				return boot_claim(space, at, len, what, err);
			}
			at = round_up(c->gpa + c->len, align);
		}
	}
	return boot_no_room(len, min, limit, what, err);
}

int
boot_claim_highest(struct boot_space *space, uint64_t len, uint64_t align,
    gpa_t min, gpa_t limit, const char *what, gpa_t *gpa, struct err *err)
{
	for (unsigned i = space->map_count; i-- > 0;) {
		const struct e820_entry *ram = &space->map[i];
		gpa_t start = MAX(ram->base, min);
		gpa_t end = MIN(ram->base + ram->len, limit);
		const struct boot_claim *c;
		gpa_t at;

		while (start < end && len <= end - start) {
			at = round_down(end - len, align);
			if (at < start)
				break;
			c = boot_conflict(space, at, len);
			if (c == NULL) {
				*gpa = at;
				return boot_claim(space, at, len, what, err);
			}
			end = c->gpa;
		}
	}
	return boot_no_room(len, min, limit, what, err);
}

int
boot_store(struct boot_space *space, const void *data, size_t len,
    uint64_t align, const char *what, gpa_t *gpa, struct err *err)
{
	int rc = boot_claim_lowest(space, len, align, MEM_PAGE_SIZE, 4 * GIB,
	    what, gpa, err);

	if (rc == 0)
		boot_put(space, *gpa, data, len);
	return rc;
}

int
boot_store_string(struct boot_space *space, const char *first,
    const char *second, const char *what, gpa_t *gpa, struct err *err)
{
	char *text =
	    second != NULL ? xasprintf("%s %s", first, second) : xstrdup(first);
	int rc = boot_store(space, text, strlen(text) + 1, 16, what, gpa, err);

	free(text);
	return rc;
}

int
boot_load_elf(struct boot_space *space, const struct elf *elf, struct err *err)
{
	bool loaded = false;

	for (unsigned i = 0; i < elf->phnum; i++) {
		struct elf_segment s;
		int rc = elf_segment(elf, i, &s, err);

		if (rc != 0)
			return rc;
		if (s.type != ELF_PT_LOAD || s.memsz == 0)
			continue;
		rc = boot_claim(space, s.paddr, s.memsz, "kernel segment", err);
		if (rc != 0)
			return rc;
		boot_put(space, s.paddr, s.bytes, s.filesz);
		boot_zero(space, s.paddr + s.filesz, s.memsz - s.filesz);
		loaded = true;
	}
	if (!loaded)
		return err_set(err, -EINVAL, "ELF has nothing to load");
	return 0;
}

/* ------------------------------------------------------------- entering */

int
boot_check_entry(const struct boot_space *space, gpa_t entry, struct err *err)
{
	if (entry >= 4 * GIB || boot_conflict(space, entry, 1) == NULL)
		return err_set(err, -EINVAL,
		    "entry 0x%llx does not lie in what is loaded",
		    (unsigned long long)entry);
	return 0;
}

/* A segment descriptor of base 0; limit is in bytes, or in pages with G set. */
static le64
boot_descriptor(uint32_t access, uint32_t limit)
{
	uint64_t low = limit & 0xffff, high = limit >> 16 & 0xf;
	uint64_t type = access & 0xff, flags = access >> 12 & 0xf;

	return le64_make(low | type << 40 | high << 48 | flags << 52);
}

static int
boot_enter(struct boot_space *space, struct cpu_state *cpu, gpa_t entry,
    uint32_t code_access, struct err *err)
{
	const le64 gdt[] = {
		[BOOT_CS / 8] = boot_descriptor(code_access, 0xfffff),
		[BOOT_DS / 8] = boot_descriptor(ACCESS_DATA, 0xfffff),
		[BOOT_TR / 8] = boot_descriptor(ACCESS_TSS, TSS_LIMIT),
		/* In long mode a TSS takes two places; base 0 leaves zeros. */
		[BOOT_TR / 8 + 1] = le64_make(0),
	};
	gpa_t gdt_gpa;
	int rc;

	rc = boot_store(space, gdt, sizeof(gdt), 16, "descriptor table",
	    &gdt_gpa, err);
	if (rc != 0)
		return rc;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s] = (struct cpu_segment) {
			.limit = UINT32_MAX,
			.access = ACCESS_DATA,
			.selector = BOOT_DS,
		};
	cpu->seg[CPU_CS].access = code_access;
	cpu->seg[CPU_CS].selector = BOOT_CS;
	cpu->seg[CPU_TR] = (struct cpu_segment) {
		.limit = TSS_LIMIT,
		.access = ACCESS_TSS,
		.selector = BOOT_TR,
	};
	cpu->gdtr = (struct cpu_table) {
		.base = gdt_gpa,
		.limit = sizeof(gdt) - 1,
	};
	/* An event would find no handler: no gate fits into an empty table. */
	cpu->idtr = (struct cpu_table) { 0 };
	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->rip = entry;
	cpu->rflags = RFLAGS_ONE;
	cpu->cr0 = CR0_PE | CR0_ET;
	cpu->cr4 = 0;
	cpu->efer = 0;
	return 0;
}

int
boot_enter_flat(struct boot_space *space, struct cpu_state *cpu, gpa_t entry,
    struct err *err)
{
	return boot_enter(space, cpu, entry, ACCESS_CODE32, err);
}

/* A PML4, a PDPT, four page directories of 2 MiB pages, which any CPU has. */
#define PAGE_ENTRIES 512
#define PAGE_DIRS 4

int
boot_enter_long(struct boot_space *space, struct cpu_state *cpu, gpa_t entry,
    struct err *err)
{
	const size_t size = (2 + PAGE_DIRS) * MEM_PAGE_SIZE;
	le64 *tables = xcalloc(1, size);
	le64 *pdpt = tables + PAGE_ENTRIES;
	le64 *dir = pdpt + PAGE_ENTRIES;
	gpa_t gpa;
	int rc;

	rc = boot_claim_lowest(space, size, MEM_PAGE_SIZE, MEM_PAGE_SIZE,
	    4 * GIB, "page tables", &gpa, err);
	if (rc != 0)
		goto out;
	tables[0] = le64_make((gpa + MEM_PAGE_SIZE) | PTE_P | PTE_RW);
	for (uint64_t i = 0; i < PAGE_DIRS; i++)
		pdpt[i] =
		    le64_make((gpa + (2 + i) * MEM_PAGE_SIZE) | PTE_P | PTE_RW);
	for (uint64_t i = 0; i < PAGE_DIRS * PAGE_ENTRIES; i++)
		dir[i] = le64_make(i * 2 * MIB | PTE_P | PTE_RW | PTE_PS);
	boot_put(space, gpa, tables, size);
	rc = boot_enter(space, cpu, entry, ACCESS_CODE64, err);
	if (rc != 0)
		goto out;
	cpu->cr0 |= CR0_PG;
	cpu->cr3 = gpa;
	cpu->cr4 = CR4_PAE;
	cpu->efer = EFER_LME | EFER_LMA;
out:
	free(tables);
	return rc;
}

/* ------------------------------------------------------------- choosing */

/*
 * In the order that "auto" tries them.  Multiboot comes before PVH: Xen has
 * both, and takes the second for a sign that it runs on another Xen.
 */
static const struct boot_protocol {
	const char *name;
	const char *sign; /* what a file of that kind has */
	int (*load)(struct boot_space *space, struct cpu_state *cpu,
	    struct err *err);
} boot_protocols[] = {
	{ "linux", "a Linux boot header", boot_linux },
	{ "multiboot", "a Multiboot header", boot_multiboot },
	{ "pvh", "an ELF with a PVH entry note", boot_pvh },
};

static int
boot_check(const struct boot_params *params, struct err *err)
{
	if (params->module_count > BOOT_MODULES_MAX)
		return err_set(err, -EINVAL, "%u modules, more than %d",
		    params->module_count, BOOT_MODULES_MAX);
	if (params->cmdline != NULL &&
	    strnlen(params->cmdline, BOOT_CMDLINE_MAX) == BOOT_CMDLINE_MAX)
		return err_set(err, -EINVAL,
		    "kernel command line is longer than %u bytes",
		    BOOT_CMDLINE_MAX - 1);
	return 0;
}

int
boot_load(struct mem *mem, const struct boot_params *params,
    struct cpu_state *cpu, struct err *err)
{
	bool any =
	    params->protocol == NULL || strcmp(params->protocol, "auto") == 0;
	const char *file = params->kernel.name;
	struct boot_space space = { .mem = mem, .params = params };
	bool tried = false;
	int rc;

	rc = boot_check(params, err);
	if (rc != 0)
		return err_prefix(err, rc, "%s", file);
	space.map_count = e820_map(mem, space.map);
	for (size_t i = 0; i < ARRAY_SIZE(boot_protocols); i++) {
		const struct boot_protocol *p = &boot_protocols[i];

		if (!any && strcmp(params->protocol, p->name) != 0)
			continue;
		tried = true;
		rc = p->load(&space, cpu, err);
		if (rc == 0)
			return 0;
		if (rc != -ENOEXEC)
			return err_prefix(err, rc, "%s", file);
		if (!any)
			return err_set(err, -EINVAL, "%s: not %s", file,
			    p->sign);
	}
	if (!tried)
		return err_set(err, -EINVAL,
		    "%s: boot protocol \"%s\" is none of auto, linux, "
		    "multiboot, pvh",
		    file, params->protocol);
	return err_set(err, -EINVAL,
	    "%s: not a kernel that can be booted: neither %s, nor %s, nor %s",
	    file, boot_protocols[0].sign, boot_protocols[1].sign,
	    boot_protocols[2].sign);
}
