/*
 * Linux bzImage.
 *
 * Models       the x86 boot protocol (Documentation/arch/x86/boot.rst in the
 *              kernel's tree): the 64-bit entry where the kernel has one
 *              (protocol 2.12, XLF_KERNEL_64), else the 32-bit entry, which
 *              every bzImage has.  The real-mode part of the file is read for
 *              its header only and never runs.
 * Leaves out   zImage and protocols before 2.02; loading above 4 GiB; a
 *              non-zero setup_data list; screen_info: there is no display yet.
 * Memory       the kernel at pref_address, or elsewhere if it is relocatable
 *              and that is taken; its init_size is claimed, since it unpacks
 *              itself there.  The initrd goes as high as initrd_addr_max and
 *              RAM below 4 GiB allow.  boot_params, command line, page tables
 *              and GDT go to low memory, which a kernel leaves alone until it
 *              has copied them.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "firmware/boot_impl.h"

/* struct boot_params, "zero page": offsets. */
#define BP_SIZE 4096
#define BP_ACPI_RSDP_ADDR 0x070
#define BP_E820_ENTRIES 0x1e8
#define BP_E820_TABLE 0x2d0
#define BP_E820_ENTRY_SIZE 20

/* struct setup_header: offsets in the file and in boot_params alike. */
#define HDR_SETUP_SECTS 0x1f1
#define HDR_BOOT_FLAG 0x1fe
#define HDR_JUMP 0x200 /* a short jump behind the header: tells its end */
#define HDR_HEADER 0x202
#define HDR_VERSION 0x206
#define HDR_TYPE_OF_LOADER 0x210
#define HDR_LOADFLAGS 0x211
#define HDR_CODE32_START 0x214
#define HDR_RAMDISK_IMAGE 0x218
#define HDR_RAMDISK_SIZE 0x21c
#define HDR_CMD_LINE_PTR 0x228
#define HDR_INITRD_ADDR_MAX 0x22c
#define HDR_KERNEL_ALIGNMENT 0x230
#define HDR_RELOCATABLE_KERNEL 0x234
#define HDR_XLOADFLAGS 0x236
#define HDR_CMDLINE_SIZE 0x238
#define HDR_HARDWARE_SUBARCH 0x23c
#define HDR_SETUP_DATA 0x250
#define HDR_PREF_ADDRESS 0x258
#define HDR_INIT_SIZE 0x260
#define HDR_END_MIN 0x22cu /* the fields of 2.02, whatever the jump says */
#define HDR_END_MAX 0x290u /* where boot_params continues with other things */

#define BOOT_FLAG 0xaa55
#define HEADER_MAGIC 0x53726448u /* "HdrS" */
#define LOADED_HIGH 0x01u
#define XLF_KERNEL_64 0x0001u
#define LOADER_UNKNOWN 0xff
#define SECTOR 512u
#define STARTUP_64 0x200u /* from the start of the protected-mode part */

/* What the file says, with the defaults of older protocols filled in. */
struct linux_image {
	const uint8_t *code; /* the protected-mode part */
	size_t code_len;
	const uint8_t *header;
	unsigned header_end; /* its fields end here */
	unsigned version;
	bool has_entry64;
	bool relocatable;
	uint64_t pref_address;
	uint64_t init_size;
	uint64_t alignment; /* if relocatable */
	uint64_t cmdline_size;
	uint64_t initrd_limit; /* first address that is too high */
};

/*
 * Fields that came after a protocol version are read only from that version
 * on; linux_parse() has made sure that they lie in the file.
 */
static uint32_t
linux_u32(const struct linux_image *image, unsigned since, unsigned offset,
    uint32_t dflt)
{
	return image->version >= since ? le32_load(image->header + offset) :
					 dflt;
}

static int
linux_parse(const struct boot_image *file, struct linux_image *image,
    struct err *err)
{
	const uint8_t *data = file->data;
	uint64_t setup;
	unsigned sects;

	if (file->len < HDR_VERSION + 2 ||
	    le16_load(data + HDR_BOOT_FLAG) != BOOT_FLAG ||
	    le32_load(data + HDR_HEADER) != HEADER_MAGIC)
		return -ENOEXEC;
	*image = (struct linux_image) {
		.header = data,
		.header_end = HDR_HEADER + data[HDR_JUMP + 1],
		.version = le16_load(data + HDR_VERSION),
	};
	if (image->version < 0x202)
		return err_set(err, -EINVAL,
		    "Linux boot protocol %u.%02u is too old, 2.02 is needed",
		    image->version >> 8, image->version & 0xff);
	sects = data[HDR_SETUP_SECTS];
	setup = ((sects != 0 ? sects : 4) + 1) * SECTOR;
	if (setup >= file->len)
		return err_set(err, -EINVAL,
		    "%u setup sectors leave nothing of a file of %zu bytes",
		    sects, file->len);
	/* setup is 1 KiB at least, so all fields of the header are there. */
	image->code = data + setup;
	image->code_len = file->len - setup;
	image->header_end = MAX(image->header_end, HDR_END_MIN);
	image->header_end = MIN(image->header_end, HDR_END_MAX);
	if (!(data[HDR_LOADFLAGS] & LOADED_HIGH))
		return err_set(err, -EINVAL,
		    "a zImage, which loads below 1 MiB; a bzImage is needed");

	image->initrd_limit = 1 +
	    (uint64_t)linux_u32(image, 0x203, HDR_INITRD_ADDR_MAX, 0x37ffffff);
	image->cmdline_size = linux_u32(image, 0x206, HDR_CMDLINE_SIZE, 255);
	image->init_size = linux_u32(image, 0x20a, HDR_INIT_SIZE, 0);
	image->init_size = MAX(image->init_size, image->code_len);
	image->pref_address = MIB;
	image->alignment = 1;
	if (image->version >= 0x20a) {
		image->pref_address = le64_load(data + HDR_PREF_ADDRESS);
		image->relocatable = data[HDR_RELOCATABLE_KERNEL] != 0;
		image->alignment = le32_load(data + HDR_KERNEL_ALIGNMENT);
	}
	if (image->version >= 0x20c)
		image->has_entry64 =
		    le16_load(data + HDR_XLOADFLAGS) & XLF_KERNEL_64;
	if (image->has_entry64 && image->code_len <= STARTUP_64)
		return err_set(err, -EINVAL,
		    "its 64-bit entry lies beyond the end of the file");
	if (image->relocatable && !is_power_of_2(image->alignment))
		return err_set(err, -EINVAL,
		    "kernel alignment 0x%llx is not a power of two",
		    (unsigned long long)image->alignment);
	return 0;
}

/* Where it wants to be, or, if that cannot be and it may move, elsewhere. */
static int
linux_load_kernel(struct boot_space *space, const struct linux_image *image,
    gpa_t *start, struct err *err)
{
	uint64_t size = image->init_size;
	gpa_t at = image->pref_address;
	int rc;

	if (!image->relocatable && !range_within(at, size, 4 * GIB))
		return err_set(err, -ENOSPC,
		    "kernel wants to be loaded at 0x%llx, beyond 4 GiB",
		    (unsigned long long)at);
	if (!image->relocatable)
		rc = boot_claim(space, at, size, "kernel", err);
	else if (range_within(at, size, 4 * GIB) &&
	    at % image->alignment == 0 &&
	    boot_claim(space, at, size, "kernel", NULL) == 0)
		rc = 0;
	else
		rc = boot_claim_lowest(space, size, image->alignment, MIB,
		    4 * GIB, "kernel", &at, err);
	if (rc != 0)
		return rc;
	boot_put(space, at, image->code, image->code_len);
	*start = at;
	return 0;
}

static int
linux_load_initrd(struct boot_space *space, const struct linux_image *image,
    uint8_t *bp, struct err *err)
{
	const struct boot_image *initrd = &space->params->modules[0];
	gpa_t gpa;
	int rc;

	if (space->params->module_count == 0 || initrd->len == 0)
		return 0;
	if (space->params->module_count > 1)
		return err_set(err, -EINVAL,
		    "Linux takes one initrd, not %u modules",
		    space->params->module_count);
	rc = boot_claim_highest(space, initrd->len, MEM_PAGE_SIZE, MIB,
	    MIN(image->initrd_limit, 4 * GIB), "initrd", &gpa, err);
	if (rc != 0)
		return err_prefix(err, rc, "%s", initrd->name);
	boot_put(space, gpa, initrd->data, initrd->len);
	le32_store(bp + HDR_RAMDISK_IMAGE, (uint32_t)gpa);
	le32_store(bp + HDR_RAMDISK_SIZE, (uint32_t)initrd->len);
	return 0;
}

static int
linux_store_cmdline(struct boot_space *space, const struct linux_image *image,
    uint8_t *bp, struct err *err)
{
	const char *cmdline = space->params->cmdline;
	gpa_t gpa;
	int rc;

	if (cmdline == NULL)
		cmdline = "";
	if (strlen(cmdline) > image->cmdline_size)
		return err_set(err, -EINVAL,
		    "command line of %zu bytes, this kernel takes %llu",
		    strlen(cmdline), (unsigned long long)image->cmdline_size);
	rc = boot_store_string(space, cmdline, NULL, "command line", &gpa, err);
	if (rc == 0)
		le32_store(bp + HDR_CMD_LINE_PTR, (uint32_t)gpa);
	return rc;
}

static void
linux_fill_e820(const struct boot_space *space, uint8_t *bp)
{
	uint8_t *entry = bp + BP_E820_TABLE;

	for (unsigned i = 0; i < space->map_count; i++) {
		le64_store(entry, space->map[i].base);
		le64_store(entry + 8, space->map[i].len);
		le32_store(entry + 16, space->map[i].type);
		entry += BP_E820_ENTRY_SIZE;
	}
	bp[BP_E820_ENTRIES] = (uint8_t)space->map_count;
}

int
boot_linux(struct boot_space *space, struct cpu_state *cpu, struct err *err)
{
	uint8_t bp[BP_SIZE] = { 0 };
	struct linux_image image;
	gpa_t start = 0, bp_gpa;
	int rc;

	rc = linux_parse(&space->params->kernel, &image, err);
	if (rc != 0)
		return rc;
	rc = linux_load_kernel(space, &image, &start, err);
	if (rc != 0)
		return rc;

	/* The header as it is in the file, then what a loader has to say. */
	memcpy(bp + HDR_SETUP_SECTS, image.header + HDR_SETUP_SECTS,
	    image.header_end - HDR_SETUP_SECTS);
	bp[HDR_TYPE_OF_LOADER] = LOADER_UNKNOWN;
	le32_store(bp + HDR_CODE32_START, (uint32_t)start);
	le32_store(bp + HDR_RAMDISK_IMAGE, 0);
	le32_store(bp + HDR_RAMDISK_SIZE, 0);
	if (image.version >= 0x207)
		le32_store(bp + HDR_HARDWARE_SUBARCH, 0); /* a PC */
	if (image.version >= 0x209)
		le64_store(bp + HDR_SETUP_DATA, 0);
	le64_store(bp + BP_ACPI_RSDP_ADDR, space->params->rsdp);
	linux_fill_e820(space, bp);
	rc = linux_load_initrd(space, &image, bp, err);
	if (rc != 0)
		return rc;
	rc = linux_store_cmdline(space, &image, bp, err);
	if (rc != 0)
		return rc;
	rc = boot_store(space, bp, sizeof(bp), MEM_PAGE_SIZE, "boot_params",
	    &bp_gpa, err);
	if (rc != 0)
		return rc;

	if (image.has_entry64)
		rc = boot_enter_long(space, cpu, start + STARTUP_64, err);
	else
		rc = boot_enter_flat(space, cpu, start, err);
	if (rc == 0)
		cpu->gpr[CPU_RSI] = bp_gpa;
	return rc;
}
