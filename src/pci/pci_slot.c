/*
 * -s: from SLOT[:FUNC]|BUS:SLOT:FUNC,DEVICE[,CONF] to the node of a device.
 *
 * A device that bhyve has but this build has not is let through: it becomes an
 * unknown device only when the machine is made, so that config.dump shows what
 * any of bhyve's command lines means.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "pci/pci.h"
#include "pci/pci_legacy.h"

static const char *const bhyve_devices[] = {
	"ahci",
	"dummy",
	"e1000",
	"fbuf",
	"hda",
	"hostbridge",
	"lpc",
	"nvme",
	"passthru",
	"uart",
	"virtio-9p",
	"virtio-blk",
	"virtio-console",
	"virtio-input",
	"virtio-net",
	"virtio-net-viona",
	"virtio-rnd",
	"virtio-scsi",
	"xhci",
};

static bool
device_known(const char *name)
{
	const struct device_model *model = device_model_find(name);

	if (model != NULL && model->pci_help != NULL)
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(bhyve_devices); i++) {
		if (strcmp(name, bhyve_devices[i]) == 0)
			return true;
	}
	return pci_legacy_alias(name) != NULL;
}

static void
print_devices(void)
{
	const struct device_model *model = NULL;

	while ((model = device_model_next(model)) != NULL) {
		if (model->pci_help != NULL)
			(void)printf("%s\n", model->name);
	}
}

/* A decimal number below `limit` of digits alone: no sign, no 0x. */
static int
parse_field(const char *text, unsigned limit, uint8_t *value)
{
	unsigned n = 0;

	if (*text == '\0')
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		n = n * 10 + (unsigned)(*text - '0');
		if (n >= limit)
			return -ERANGE;
	}
	*value = (uint8_t)n;
	return 0;
}

/* text is cut at its colons. */
static int
parse_place(char *text, struct pci_addr *addr)
{
	char *fields[3];
	unsigned n = 0;
	int rc = 0;

	do {
		if (n == ARRAY_SIZE(fields))
			return -EINVAL;
		fields[n++] = strsep(&text, ":");
	} while (text != NULL);
	*addr = (struct pci_addr) { 0 };
	if (n == 3)
		rc = parse_field(fields[0], PCI_BUSES, &addr->bus);
	if (rc == 0) /* the first of one or two, the second of three */
		rc = parse_field(fields[n / 3], PCI_SLOTS, &addr->slot);
	if (rc == 0 && n > 1)
		rc = parse_field(fields[n - 1], PCI_FUNCS, &addr->func);
	return rc;
}

int
pci_parse_slot(struct config *root, const char *arg, struct err *err)
{
	char *words = xstrdup(arg), *conf = words, *path = NULL, *place;
	const char *name;
	struct config *node;
	struct pci_addr addr;
	int rc;

	if (strncmp("help", arg, strlen(arg)) == 0) {
		print_devices();
		rc = 1;
		goto out;
	}
	place = strsep(&conf, ",");
	name = strsep(&conf, ",");
	if (name == NULL || parse_place(place, &addr) < 0) {
		rc = err_set(err, -EINVAL, "Invalid PCI slot info field \"%s\"",
		    arg);
		goto out;
	}
	path = xasprintf("pci.%u.%u.%u", addr.bus, addr.slot, addr.func);
	if (!device_known(name))
		rc = err_set(err, -EINVAL,
		    "pci slot %u:%u:%u: unknown device \"%s\"", addr.bus,
		    addr.slot, addr.func, name);
	else if (config_find(root, path) != NULL)
		rc =
		    err_set(err, -EINVAL, "pci slot %u:%u:%u already occupied!",
			addr.bus, addr.slot, addr.func);
	else
		rc = config_make(root, path, &node, err);
	if (rc == 0)
		rc = pci_legacy_conf(node, name, conf, err);
out:
	free(words);
	free(path);
	return rc;
}
