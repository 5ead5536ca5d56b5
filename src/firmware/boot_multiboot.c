/*
 * Multiboot 1 kernels.
 *
 * Models       the Multiboot Specification 0.6.96: the header (3.1), the
 *              machine's state (3.2), the boot information (3.3).  The image
 *              is an ELF, or anything whose header has the address fields
 *              (flag 16, "a.out kludge"), which then count and not the ELF.
 * Leaves out   video modes (flag 2): the request is ignored, the information
 *              says so; drives, APM, the symbol table.
 * BIOS         there is none, and kernels that look for one must find so (see
 *              multiboot_put_bios()).
 * Memory       the kernel where it asks; modules, page-aligned, as low as
 *              possible above it and 1 MiB, where small kernels that map only
 *              their surroundings still reach them; the rest in low memory.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "firmware/boot_impl.h"

#define MULTIBOOT_SEARCH 8192u /* the header lies within so many bytes */
#define MULTIBOOT_HEADER_MAGIC 0x1badb002u
#define MULTIBOOT_BOOTLOADER_MAGIC 0x2badb002u
#define MULTIBOOT_HEADER_SIZE 12u
#define MULTIBOOT_KLUDGE_SIZE 32u

/* Flags of the header.  Of the lower 16, one that is unknown is a refusal. */
#define MULTIBOOT_PAGE_ALIGN BIT(0)
#define MULTIBOOT_MEMORY_INFO BIT(1)
#define MULTIBOOT_VIDEO_MODE BIT(2)
#define MULTIBOOT_AOUT_KLUDGE BIT(16)
#define MULTIBOOT_KNOWN \
	(MULTIBOOT_PAGE_ALIGN | MULTIBOOT_MEMORY_INFO | MULTIBOOT_VIDEO_MODE)

/* Page 0 of a PC. */
#define BDA_BASE_MEMORY 0x413u /* 16 bits, KiB */
#define BIOS_STUB 0x500u       /* behind the BIOS data area */

/* Flags of the information. */
#define MBI_MEMORY BIT(0)
#define MBI_CMDLINE BIT(2)
#define MBI_MODS BIT(3)
#define MBI_MMAP BIT(6)
#define MBI_LOADER_NAME BIT(9)

struct mbi {
	le32 flags;
	le32 mem_lower; /* KiB from 0 */
	le32 mem_upper; /* KiB from 1 MiB */
	le32 boot_device;
	le32 cmdline;
	le32 mods_count;
	le32 mods_addr;
	le32 syms[4];
	le32 mmap_length;
	le32 mmap_addr;
	le32 drives_length;
	le32 drives_addr;
	le32 config_table;
	le32 boot_loader_name;
	le32 apm_table;
	uint8_t video[44]; /* VBE and frame buffer */
};
_Static_assert(sizeof(struct mbi) == 116, "3.3, boot information format");

struct mbi_module {
	le32 mod_start;
	le32 mod_end; /* the first byte that is not of it */
	le32 string;
	le32 reserved;
};
_Static_assert(sizeof(struct mbi_module) == 16, "3.3, module structure");

struct mbi_mmap {
	le32 size; /* of what follows */
	le64 base_addr;
	le64 length;
	le32 type;
};
_Static_assert(sizeof(struct mbi_mmap) == 24, "3.3, memory map entry");

struct multiboot_header {
	uint32_t offset; /* in the file */
	uint32_t flags;
	uint32_t header_addr;
	uint32_t load_addr;
	uint32_t load_end_addr;
	uint32_t bss_end_addr;
	uint32_t entry_addr;
};

static int
multiboot_find(const struct boot_image *file, struct multiboot_header *header,
    struct err *err)
{
	uint64_t end = MIN(file->len, MULTIBOOT_SEARCH);
	const uint8_t *p = NULL;
	uint32_t off;

	for (off = 0; range_within(off, MULTIBOOT_HEADER_SIZE, end); off += 4) {
		p = file->data + off;
		/* Magic, flags and checksum add up to nothing. */
		if (le32_load(p) == MULTIBOOT_HEADER_MAGIC &&
		    le32_load(p) + le32_load(p + 4) + le32_load(p + 8) == 0)
			break;
	}
	if (!range_within(off, MULTIBOOT_HEADER_SIZE, end))
		return -ENOEXEC;
	*header = (struct multiboot_header) {
		.offset = off,
		.flags = le32_load(p + 4),
	};
	if (header->flags & 0xffff & ~MULTIBOOT_KNOWN)
		return err_set(err, -EINVAL,
		    "Multiboot header asks for features 0x%x that are not "
		    "there",
		    header->flags & 0xffff & (unsigned)~MULTIBOOT_KNOWN);
	if (!(header->flags & MULTIBOOT_AOUT_KLUDGE))
		return 0;
	if (!range_within(off, MULTIBOOT_KLUDGE_SIZE, end))
		return err_set(err, -EINVAL, "Multiboot header is cut short");
	header->header_addr = le32_load(p + 12);
	header->load_addr = le32_load(p + 16);
	header->load_end_addr = le32_load(p + 20);
	header->bss_end_addr = le32_load(p + 24);
	header->entry_addr = le32_load(p + 28);
	return 0;
}

/* Load what the address fields describe. */
static int
multiboot_load_kludge(struct boot_space *space,
    const struct multiboot_header *h, gpa_t *entry, struct err *err)
{
	const struct boot_image *file = &space->params->kernel;
	uint64_t before, len, size;
	int rc;

	/* The part of the text that precedes the header, and so its start. */
	before = (uint64_t)h->header_addr - h->load_addr;
	if (h->load_addr > h->header_addr || before > h->offset)
		return err_set(err, -EINVAL,
		    "Multiboot header at 0x%x of the file does not belong at "
		    "0x%x of memory that begins at 0x%x",
		    h->offset, h->header_addr, h->load_addr);
	len = file->len - (h->offset - before);
	if (h->load_end_addr != 0) {
		if (h->load_end_addr < h->load_addr ||
		    h->load_end_addr - h->load_addr > len)
			return err_set(err, -EINVAL,
			    "Multiboot load addresses 0x%x to 0x%x are not "
			    "in the file",
			    h->load_addr, h->load_end_addr);
		len = h->load_end_addr - h->load_addr;
	}
	size = len;
	if (h->bss_end_addr != 0) {
		if (h->bss_end_addr < h->load_addr ||
		    h->bss_end_addr - h->load_addr < len)
			return err_set(err, -EINVAL,
			    "Multiboot bss ends at 0x%x, before the data do",
			    h->bss_end_addr);
		size = h->bss_end_addr - h->load_addr;
	}
	rc = boot_claim(space, h->load_addr, size, "kernel", err);
	if (rc != 0)
		return rc;
	boot_put(space, h->load_addr, file->data + h->offset - before, len);
	boot_zero(space, h->load_addr + len, size - len);
	*entry = h->entry_addr;
	return 0;
}

/*
 * Load an ELF.  Its entry is a virtual address where the segment that holds it
 * has one; what runs is physical memory, so it is translated.
 */
static int
multiboot_load_elf(struct boot_space *space, gpa_t *entry, struct err *err)
{
	const struct boot_image *file = &space->params->kernel;
	struct elf elf;
	int rc;

	rc = elf_open(&elf, file->data, file->len, err);
	if (rc == -ENOEXEC)
		return err_set(err, -EINVAL,
		    "Multiboot header has no address fields, and the file is "
		    "no ELF");
	if (rc == 0)
		rc = boot_load_elf(space, &elf, err);
	if (rc != 0)
		return rc;
	*entry = elf.entry;
	for (unsigned i = 0; i < elf.phnum; i++) {
		struct elf_segment s;

		if (elf_segment(&elf, i, &s, NULL) == 0 &&
		    s.type == ELF_PT_LOAD && elf.entry >= s.vaddr &&
		    elf.entry - s.vaddr < s.memsz) {
			*entry = s.paddr + (elf.entry - s.vaddr);
			break;
		}
	}
	return 0;
}

static int
multiboot_store_modules(struct boot_space *space, gpa_t above, struct mbi *mbi,
    struct err *err)
{
	const struct boot_params *params = space->params;
	struct mbi_module list[BOOT_MODULES_MAX] = { 0 };
	gpa_t gpa;
	int rc;

	for (unsigned i = 0; i < params->module_count; i++) {
		const struct boot_image *module = &params->modules[i];

		rc = boot_claim_lowest(space, module->len, MEM_PAGE_SIZE, above,
		    4 * GIB, "module", &gpa, err);
		if (rc != 0)
			return err_prefix(err, rc, "%s", module->name);
		boot_put(space, gpa, module->data, module->len);
		list[i].mod_start = le32_make((uint32_t)gpa);
		list[i].mod_end = le32_make((uint32_t)(gpa + module->len));
		rc = boot_store_string(space, module->name, NULL,
		    "module string", &gpa, err);
		if (rc != 0)
			return rc;
		list[i].string = le32_make((uint32_t)gpa);
	}
	rc = boot_store(space, list, params->module_count * sizeof(list[0]), 8,
	    "module list", &gpa, err);
	if (rc != 0)
		return rc;
	mbi->mods_count = le32_make(params->module_count);
	mbi->mods_addr = le32_make((uint32_t)gpa);
	return 0;
}

/* Memory sizes, and the memory map. */
static int
multiboot_store_memory(struct boot_space *space, struct mbi *mbi,
    struct err *err)
{
	struct mbi_mmap list[E820_MAX] = { 0 };
	gpa_t gpa;
	int rc;

	for (unsigned i = 0; i < space->map_count; i++) {
		const struct e820_entry *ram = &space->map[i];

		list[i].size = le32_make(sizeof(list[i]) - sizeof(le32));
		list[i].base_addr = le64_make(ram->base);
		list[i].length = le64_make(ram->len);
		list[i].type = le32_make(ram->type);
		if (ram->base == 0)
			mbi->mem_lower = le32_make((uint32_t)(ram->len / KIB));
		else if (ram->base == MIB)
			mbi->mem_upper = le32_make((uint32_t)(ram->len / KIB));
	}
	rc = boot_store(space, list, space->map_count * sizeof(list[0]), 8,
	    "memory map", &gpa, err);
	if (rc != 0)
		return rc;
	mbi->mmap_addr = le32_make((uint32_t)gpa);
	mbi->mmap_length =
	    le32_make((uint32_t)(space->map_count * sizeof(list[0])));
	return 0;
}

/*
 * Xen takes the lesser of mem_lower and the BIOS data area's word for the end
 * of low memory, and calls the BIOS in real mode for a memory map, disks and
 * video modes.  So page 0 gets that word, and vectors that all lead to a stub
 * which sets carry in the caller's flags: no such function.  A kernel that
 * loads something there has no such wishes.
 */
static void
multiboot_put_bios(struct boot_space *space, unsigned low_kib)
{
	static const uint8_t stub[] = {
		0x55,                   /* push %bp */
		0x89, 0xe5,             /* mov %sp, %bp */
		0x80, 0x4e, 0x06, 0x01, /* orb $1, 6(%bp): flags */
		0x5d,                   /* pop %bp */
		0xcf,                   /* iret */
	};
	uint8_t page[BIOS_STUB + sizeof(stub)] = { 0 };

	if (boot_claim(space, 0, sizeof(page), "BIOS data area", NULL) != 0)
		return;
	for (unsigned vector = 0; vector < 256; vector++)
		le32_store(page + vector * 4, BIOS_STUB); /* 0000:BIOS_STUB */
	le16_store(page + BDA_BASE_MEMORY, (uint16_t)low_kib);
	memcpy(page + BIOS_STUB, stub, sizeof(stub));
	boot_put(space, 0, page, sizeof(page));
}

static int
multiboot_store_strings(struct boot_space *space, struct mbi *mbi,
    struct err *err)
{
	const struct boot_params *params = space->params;
	gpa_t gpa;
	int rc;

	/* The kernel's name comes first, as it does in argv. */
	rc = boot_store_string(space, params->kernel.name, params->cmdline,
	    "command line", &gpa, err);
	if (rc != 0)
		return rc;
	mbi->cmdline = le32_make((uint32_t)gpa);
	rc = boot_store_string(space, "Apiary", NULL, "loader's name", &gpa,
	    err);
	if (rc == 0)
		mbi->boot_loader_name = le32_make((uint32_t)gpa);
	return rc;
}

int
boot_multiboot(struct boot_space *space, struct cpu_state *cpu, struct err *err)
{
	struct mbi mbi = {
		.flags = le32_make(MBI_MEMORY | MBI_CMDLINE | MBI_MODS |
		    MBI_MMAP | MBI_LOADER_NAME),
	};
	struct multiboot_header header;
	gpa_t entry = 0, gpa, above = MIB;
	int rc;

	rc = multiboot_find(&space->params->kernel, &header, err);
	if (rc != 0)
		return rc;
	if (header.flags & MULTIBOOT_AOUT_KLUDGE)
		rc = multiboot_load_kludge(space, &header, &entry, err);
	else
		rc = multiboot_load_elf(space, &entry, err);
	if (rc == 0)
		rc = boot_check_entry(space, entry, err);
	if (rc != 0)
		return rc;

	/* So far only the kernel has claimed anything. */
	for (unsigned i = 0; i < space->claim_count; i++)
		above = MAX(above, space->claims[i].gpa + space->claims[i].len);
	rc = multiboot_store_modules(space, above, &mbi, err);
	if (rc == 0)
		rc = multiboot_store_memory(space, &mbi, err);
	if (rc != 0)
		return rc;
	multiboot_put_bios(space, le32_get(mbi.mem_lower));
	rc = multiboot_store_strings(space, &mbi, err);
	if (rc == 0)
		rc = boot_store(space, &mbi, sizeof(mbi), 8, "boot information",
		    &gpa, err);
	if (rc == 0)
		rc = boot_enter_flat(space, cpu, entry, err);
	if (rc != 0)
		return rc;
	cpu->gpr[CPU_RAX] = MULTIBOOT_BOOTLOADER_MAGIC;
	cpu->gpr[CPU_RBX] = gpa;
	return 0;
}
