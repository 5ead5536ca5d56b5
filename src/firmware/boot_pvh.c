/*
 * PVH: an ELF kernel entered in 32-bit mode with a description of the machine.
 *
 * Models       Xen's "x86/HVM direct boot ABI": the XEN_ELFNOTE_PHYS32_ENTRY
 *              note and struct hvm_start_info version 1 with a memory map.
 *              Linux (vmlinux), FreeBSD and others have such an entry; nothing
 *              of Xen itself is needed.
 * Memory       segments at their physical addresses, modules as high as RAM
 *              below 4 GiB allows, the rest in low memory.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "firmware/boot_impl.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18u
#define HVM_START_MAGIC 0x336ec578u
#define HVM_START_VERSION 1

struct hvm_start_info {
	le32 magic;
	le32 version;
	le32 flags;
	le32 nr_modules;
	le64 modlist_paddr;
	le64 cmdline_paddr;
	le64 rsdp_paddr;
	le64 memmap_paddr;
	le32 memmap_entries;
	le32 reserved;
};
_Static_assert(sizeof(struct hvm_start_info) == 56, "version 1");

struct hvm_module {
	le64 paddr;
	le64 size;
	le64 cmdline_paddr;
	le64 reserved;
};
_Static_assert(sizeof(struct hvm_module) == 32, "module list entry");

struct hvm_memmap {
	le64 addr;
	le64 size;
	le32 type; /* as E820's */
	le32 reserved;
};
_Static_assert(sizeof(struct hvm_memmap) == 24, "memory map entry");

/* The entry: 32 bits, which a 64-bit file may store as 64. */
static int
pvh_entry(const struct elf *elf, gpa_t *entry, struct err *err)
{
	const uint8_t *desc;
	size_t len;

	desc = elf_note(elf, "Xen", XEN_ELFNOTE_PHYS32_ENTRY, &len);
	if (desc == NULL)
		return -ENOEXEC;
	if (len != 4 && len != 8)
		return err_set(err, -EINVAL, "PVH entry note of %zu bytes",
		    len);
	*entry = len == 4 ? le32_load(desc) : le64_load(desc);
	return 0;
}

static int
pvh_store_modules(struct boot_space *space, struct hvm_start_info *info,
    struct err *err)
{
	const struct boot_params *params = space->params;
	struct hvm_module list[BOOT_MODULES_MAX] = { 0 };
	gpa_t gpa;
	int rc;

	for (unsigned i = 0; i < params->module_count; i++) {
		const struct boot_image *module = &params->modules[i];

		rc = boot_claim_highest(space, module->len, MEM_PAGE_SIZE, MIB,
		    4 * GIB, "module", &gpa, err);
		if (rc != 0)
			return err_prefix(err, rc, "%s", module->name);
		boot_put(space, gpa, module->data, module->len);
		list[i].paddr = le64_make(gpa);
		list[i].size = le64_make(module->len);
		rc = boot_store_string(space, module->name, NULL,
		    "module string", &gpa, err);
		if (rc != 0)
			return rc;
		list[i].cmdline_paddr = le64_make(gpa);
	}
	if (params->module_count == 0)
		return 0;
	rc = boot_store(space, list, params->module_count * sizeof(list[0]), 8,
	    "module list", &gpa, err);
	if (rc != 0)
		return rc;
	info->nr_modules = le32_make(params->module_count);
	info->modlist_paddr = le64_make(gpa);
	return 0;
}

static int
pvh_store_memmap(struct boot_space *space, struct hvm_start_info *info,
    struct err *err)
{
	struct hvm_memmap list[E820_MAX] = { 0 };
	gpa_t gpa;
	int rc;

	for (unsigned i = 0; i < space->map_count; i++) {
		list[i].addr = le64_make(space->map[i].base);
		list[i].size = le64_make(space->map[i].len);
		list[i].type = le32_make(space->map[i].type);
	}
	rc = boot_store(space, list, space->map_count * sizeof(list[0]), 8,
	    "memory map", &gpa, err);
	if (rc != 0)
		return rc;
	info->memmap_paddr = le64_make(gpa);
	info->memmap_entries = le32_make(space->map_count);
	return 0;
}

int
boot_pvh(struct boot_space *space, struct cpu_state *cpu, struct err *err)
{
	const struct boot_params *params = space->params;
	struct hvm_start_info info = {
		.magic = le32_make(HVM_START_MAGIC),
		.version = le32_make(HVM_START_VERSION),
		.rsdp_paddr = le64_make(params->rsdp),
	};
	gpa_t entry = 0, gpa;
	struct elf elf;
	int rc;

	rc = elf_open(&elf, params->kernel.data, params->kernel.len, err);
	if (rc == 0)
		rc = pvh_entry(&elf, &entry, err);
	if (rc == 0)
		rc = boot_load_elf(space, &elf, err);
	if (rc == 0)
		rc = boot_check_entry(space, entry, err);
	if (rc != 0)
		return rc;

	rc = pvh_store_modules(space, &info, err);
	if (rc == 0)
		rc = pvh_store_memmap(space, &info, err);
	if (rc != 0)
		return rc;
	if (params->cmdline != NULL) {
		rc = boot_store_string(space, params->cmdline, NULL,
		    "command line", &gpa, err);
		if (rc != 0)
			return rc;
		info.cmdline_paddr = le64_make(gpa);
	}
	rc = boot_store(space, &info, sizeof(info), 8, "start info", &gpa, err);
	if (rc == 0)
		rc = boot_enter_flat(space, cpu, entry, err);
	if (rc == 0)
		cpu->gpr[CPU_RBX] = gpa;
	return rc;
}
