/*
 * The last field of -s: what people write behind a device's name.
 *
 * Most devices take key=value words; some give the first word a meaning of its
 * own, and a few names stand for another device with some keys set.
 */
#ifndef PCI_PCI_LEGACY_H
#define PCI_PCI_LEGACY_H

#include "base/err.h"
#include "config/config.h"

/*
 * Fill a device's node: `device` with its real name, then the keys that conf
 * means for it.  conf is NULL where -s ended with the name.  A name that
 * nothing here knows is stored as it is, with its words as keys: a=b sets a,
 * a bare a sets it true.  -EINVAL and bhyve's message for words that the
 * device cannot mean.
 */
int pci_legacy_conf(struct config *node, const char *device, const char *conf,
    struct err *err);

/* The device that an alias such as "ahci-hd" stands for; NULL if it is none. */
const char *pci_legacy_alias(const char *device);

#endif
