/*
 * The host bridge as a PCI function: what a guest finds at 0:0.0 and tells the
 * chip set by.
 *
 * Models       a function of class 06 00 with identification alone and, as
 *              bhyve shows it, a PCI Express capability (PCI Express 2.0,
 *              section 7.8) of type root port: version 2, one lane of 2.5 GT/s.
 *              Its registers are read-only: there is no link behind them.
 * Options      model=netapp|amd|i440fx|q35, or vendor= and devid= together;
 *              pcireg.* overrides single registers.
 * Locking      the device lock, held at every entry.
 */
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "pci/pci.h"

#define PCI_CAP_ID_EXPRESS 0x10
#define EXPRESS_VERSION 2
#define EXPRESS_ROOT_PORT (4 << 4)
#define EXPRESS_LINK_GEN1_X1 0x11 /* speed 1, width 1 */
#define EXPRESS_LINK_CAP_ASPM_L0S 0x400

/* Section 7.8, from offset 2: behind the id and the link to the next. */
struct express_cap {
	le16 capabilities;
	le32 device_capabilities;
	le16 device_control;
	le16 device_status;
	le32 link_capabilities;
	le16 link_control;
	le16 link_status;
	le32 slot_capabilities;
	le16 slot_control;
	le16 slot_status;
	le16 root_control;
	le16 root_capabilities;
	le32 root_status;
	le32 device_capabilities2;
	le16 device_control2;
	le16 device_status2;
	le32 link_capabilities2;
	le16 link_control2;
	le16 link_status2;
	le32 slot_capabilities2;
	le16 slot_control2;
	le16 slot_status2;
};
_Static_assert(sizeof(struct express_cap) == 0x3c - 2, "60-byte capability");

struct hostbridge {
	struct pci_func func;
};

static const struct field hostbridge_state[] = {
	PCI_FUNC_STATE(struct hostbridge, func),
};

static const struct {
	const char *name;
	uint16_t vendor, device;
} bridge_models[] = {
	{ "netapp", 0x1275, 0x1275 }, /* first: the default */
	{ "amd", 0x1022, 0x7432 },
	{ "i440fx", 0x8086, 0x1237 },
	{ "q35", 0x8086, 0x29b0 },
};

static int
model_ids(struct config *node, struct pci_ids *ids, struct err *err)
{
	char *path, *name;
	unsigned i;
	int rc;

	rc = config_str(node, "model", bridge_models[0].name, &name, err);
	if (rc < 0)
		return rc;
	for (i = 0; i < ARRAY_SIZE(bridge_models); i++) {
		if (strcmp(name, bridge_models[i].name) == 0)
			break;
	}
	if (i < ARRAY_SIZE(bridge_models)) {
		ids->vendor = bridge_models[i].vendor;
		ids->device = bridge_models[i].device;
	} else {
		path = config_path(node);
		rc = err_set(err, -EINVAL,
		    "%s: unknown model \"%s\"; known: netapp, amd, i440fx, q35",
		    path, name);
		free(path);
	}
	free(name);
	return rc < 0 ? rc : 0;
}

/* vendor= and devid=, which exclude model=. */
static int
explicit_ids(struct config *node, struct pci_ids *ids, struct err *err)
{
	bool vendor = config_has(node, "vendor");
	bool devid = config_has(node, "devid");
	const char *wrong = NULL;
	int64_t value;
	char *path;
	int rc;

	if (!vendor && !devid)
		return 0;
	if (config_has(node, "model"))
		wrong = "model and vendor or devid exclude each other";
	else if (vendor != devid)
		wrong = "vendor and devid need each other";
	if (wrong != NULL) {
		path = config_path(node);
		rc = err_set(err, -EINVAL, "%s: %s", path, wrong);
		free(path);
		return rc;
	}
	rc = config_int(node, "vendor", 0, 0, UINT16_MAX, &value, err);
	if (rc < 0)
		return rc;
	ids->vendor = (uint16_t)value;
	rc = config_int(node, "devid", 0, 0, UINT16_MAX, &value, err);
	if (rc < 0)
		return rc;
	ids->device = (uint16_t)value;
	return 0;
}

static int
hostbridge_create(struct device *dev, void *self, struct err *err)
{
	const struct express_cap express = {
		.capabilities = le16_make(EXPRESS_VERSION | EXPRESS_ROOT_PORT),
		.link_capabilities =
		    le32_make(EXPRESS_LINK_CAP_ASPM_L0S | EXPRESS_LINK_GEN1_X1),
		.link_status = le16_make(EXPRESS_LINK_GEN1_X1),
	};
	struct pci_ids ids = { .class = 0x06, .subclass = 0x00 };
	struct config *node = device_config(dev);
	struct hostbridge *bridge = self;
	int rc;

	rc = model_ids(node, &ids, err);
	if (rc < 0)
		return rc;
	rc = explicit_ids(node, &ids, err);
	if (rc < 0)
		return rc;
	rc = pci_ids_override(node, &ids, err);
	if (rc < 0)
		return rc;
	rc = pci_func_init(&bridge->func, dev, &ids, err);
	if (rc < 0)
		return rc;
	(void)pci_add_capability(&bridge->func, PCI_CAP_ID_EXPRESS, &express,
	    sizeof(express)); /* nothing else needs its place */
	return 0;
}

static void
hostbridge_reset(void *self)
{
	struct hostbridge *bridge = self;

	pci_func_reset(&bridge->func);
}

static void
hostbridge_changed(void *self)
{
	struct hostbridge *bridge = self;

	pci_func_changed(&bridge->func);
}

static int
hostbridge_check(const void *self, struct err *err)
{
	const struct hostbridge *bridge = self;

	return pci_func_check(&bridge->func, err);
}

static void
hostbridge_destroy(void *self)
{
	struct hostbridge *bridge = self;

	pci_func_fini(&bridge->func);
}

DEVICE_MODEL(hostbridge) = {
	.name = "hostbridge",
	.state_version = 1,
	.size = sizeof(struct hostbridge),
	STATE_TABLE(hostbridge_state),
	.pci_help = "host bridge",
	.create = hostbridge_create,
	.reset = hostbridge_reset,
	.changed = hostbridge_changed,
	.check = hostbridge_check,
	.destroy = hostbridge_destroy,
};
