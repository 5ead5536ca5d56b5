/*
 * SMBIOS: what the machine is called, by whom it was made, what is in it.
 */
#ifndef FIRMWARE_SMBIOS_SMBIOS_H
#define FIRMWARE_SMBIOS_SMBIOS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/uuid.h"
#include "config/config.h"
#include "mem/mem.h"

/* The texts that a person may choose, in order of smbios.c's table of keys. */
enum smbios_text {
	SMBIOS_BIOS_VENDOR,
	SMBIOS_BIOS_VERSION,
	SMBIOS_BIOS_RELEASE_DATE,
	SMBIOS_SYSTEM_MANUFACTURER,
	SMBIOS_SYSTEM_PRODUCT_NAME,
	SMBIOS_SYSTEM_VERSION,
	SMBIOS_SYSTEM_SERIAL_NUMBER,
	SMBIOS_SYSTEM_SKU,
	SMBIOS_SYSTEM_FAMILY_NAME,
	SMBIOS_BOARD_MANUFACTURER,
	SMBIOS_BOARD_PRODUCT_NAME,
	SMBIOS_BOARD_VERSION,
	SMBIOS_BOARD_SERIAL_NUMBER,
	SMBIOS_BOARD_ASSET_TAG,
	SMBIOS_BOARD_LOCATION,
	SMBIOS_CHASSIS_MANUFACTURER,
	SMBIOS_CHASSIS_VERSION,
	SMBIOS_CHASSIS_SERIAL_NUMBER,
	SMBIOS_CHASSIS_ASSET_TAG,
	SMBIOS_CHASSIS_SKU,
	SMBIOS_TEXTS,
};

struct smbios_params {
	uint64_t lowmem;
	uint64_t highmem;
	unsigned sockets;
	unsigned cores;   /* of a socket */
	unsigned threads; /* of a core */
	struct uuid uuid;
	char *text[SMBIOS_TEXTS]; /* owned, none empty */
};

/*
 * Texts and UUID from the tree: `bios.*`, `system.*`, `board.*`, `chassis.*`,
 * `uuid`, and what older configurations call them.  Without a UUID there it is
 * made from the names of the machine and of this host.  The rest is zeroed,
 * for the caller to fill.  Release in any case.
 */
int smbios_params_from_config(struct config *root, struct smbios_params *params,
    struct err *err);
void smbios_params_fini(struct smbios_params *params);

/*
 * The entry point and, 32 bytes on, the structures, for address `base`.
 * -ENOSPC if they take more than PLAT_SMBIOS_MAX bytes.
 */
int smbios_build(const struct smbios_params *params, gpa_t base,
    struct buf *image, struct err *err);

/* Into guest memory, at PLAT_SMBIOS_BASE. */
int smbios_install(struct mem *mem, const struct smbios_params *params,
    struct err *err);

#endif
