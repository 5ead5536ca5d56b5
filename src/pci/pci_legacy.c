/*
 * What people write behind a device's name in -s, turned into the keys of its
 * node.
 *
 * Models       the command lines of FreeBSD's and illumos' bhyve(8), for every
 *              device that either has: a tree must not depend on which devices
 *              a build has, or config.dump would not show what a line means.
 * Leaves out   FreeBSD's default target of virtio-scsi, which names a device
 *              node that no Linux has.
 *
 * A word is what stands between two commas.  Empty words mean nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "pci/pci_legacy.h"

#define AHCI_PORTS 32
#define CONSOLE_PORTS 16
#define SCSI_TARGETS 256

/* rest is what follows the name, the caller's copy to cut up, or NULL. */
typedef int legacy_fn(struct config *node, char *rest, struct err *err);

/* a=b sets a, a bare a sets it true. */
static int
set_word(struct config *node, const char *word, struct err *err)
{
	if (word[0] == '\0')
		return 0;
	if (strchr(word, '=') != NULL)
		return config_set_option(node, word, err);
	return config_set(node, word, "true", err);
}

static int
legacy_words(struct config *node, char *rest, struct err *err)
{
	const char *word;
	int r = 0;

	while (r == 0 && (word = strsep(&rest, ",")) != NULL)
		r = set_word(node, word, err);
	return r;
}

/* The first word is the value of `key`, whatever is in it. */
static int
legacy_first(struct config *node, const char *key, char *rest, struct err *err)
{
	const char *word = strsep(&rest, ",");
	int r = 0;

	if (word != NULL && word[0] != '\0')
		r = config_set(node, key, word, err);
	return r < 0 ? r : legacy_words(node, rest, err);
}

static int
legacy_block(struct config *node, char *rest, struct err *err)
{
	return legacy_first(node, "path", rest, err);
}

/* A first word that is key=value is one like all others. */
static int
legacy_net(struct config *node, char *rest, struct err *err)
{
	if (rest != NULL && strcspn(rest, "=") < strcspn(rest, ","))
		return legacy_words(node, rest, err);
	return legacy_first(node, "backend", rest, err);
}

/* illumos: the word without a value is the link, wherever it stands. */
static int
legacy_viona(struct config *node, char *rest, struct err *err)
{
	const char *word;
	int r = 0;

	while (r == 0 && (word = strsep(&rest, ",")) != NULL) {
		if (strchr(word, '=') == NULL && word[0] != '\0')
			r = config_set(node, "vnic", word, err);
		else
			r = set_word(node, word, err);
	}
	return r;
}

static int
legacy_nvme(struct config *node, char *rest, struct err *err)
{
	if (rest != NULL && strncmp(rest, "ram=", strlen("ram=")) == 0)
		return legacy_words(node, rest, err);
	return legacy_block(node, rest, err);
}

/* The whole rest is one serial back end, commas and all. */
static int
legacy_uart(struct config *node, char *rest, struct err *err)
{
	if (rest == NULL || rest[0] == '\0')
		return 0;
	return config_set(node, "path", rest, err);
}

static int
ahci_port(struct config *node, unsigned port, const char *type, char *rest,
    struct err *err)
{
	char name[sizeof("port.") + 10];
	struct config *made;
	int r;

	(void)snprintf(name, sizeof(name), "port.%u", port);
	r = config_make(node, name, &made, err);
	if (r == 0)
		r = config_set(made, "type", type, err);
	return r < 0 ? r : legacy_block(made, rest, err);
}

static int
legacy_ahci_hd(struct config *node, char *rest, struct err *err)
{
	return ahci_port(node, 0, "hd", rest, err);
}

static int
legacy_ahci_cd(struct config *node, char *rest, struct err *err)
{
	return ahci_port(node, 0, "cd", rest, err);
}

static bool
begins_ahci_port(const char *word)
{
	return strncmp(word, "hd:", 3) == 0 || strncmp(word, "cd:", 3) == 0;
}

/* hd:path,options,cd:path,...: the words up to the next port are one port's. */
static int
legacy_ahci(struct config *node, char *rest, struct err *err)
{
	unsigned port = 0;
	int r = 0;

	if (rest != NULL && rest[0] == '\0')
		return 0;
	while (r == 0 && rest != NULL) {
		const char *type = rest[0] == 'h' ? "hd" : "cd";
		char *conf = rest + 3, *comma = rest;

		if (!begins_ahci_port(rest))
			return err_set(err, -EINVAL,
			    "ahci: \"%s\" begins neither hd: nor cd:", rest);
		if (port == AHCI_PORTS)
			return err_set(err, -EINVAL, "ahci: more than %u ports",
			    AHCI_PORTS);
		do
			comma = strchr(comma + 1, ',');
		while (comma != NULL && !begins_ahci_port(comma + 1));
		if (comma != NULL)
			*comma++ = '\0';
		r = ahci_port(node, port++, type, conf, err);
		rest = comma;
	}
	return r;
}

static int
legacy_amd_hostbridge(struct config *node, char *rest, struct err *err)
{
	int r = config_set(node, "pcireg.vendor", "0x1022", err);

	return r < 0 ? r : config_set(node, "pcireg.device", "0x7432", err);
}

/* name=path, one word a port. */
static int
legacy_console(struct config *node, char *rest, struct err *err)
{
	char name[sizeof("port..name") + 10], *path;
	const char *word;
	int r = 0;

	for (unsigned port = 0; (path = strsep(&rest, ",")) != NULL;) {
		word = strsep(&path, "=");
		if (path == NULL && word[0] == '\0')
			continue;
		if (path == NULL)
			return err_set(err, -EINVAL,
			    "vtcon: port %s requires a path", word);
		if (port == CONSOLE_PORTS)
			return err_set(err, -EINVAL, "vtcon: too many ports");
		(void)snprintf(name, sizeof(name), "port.%u.name", port);
		r = config_set(node, name, word, err);
		if (r < 0)
			return r;
		(void)snprintf(name, sizeof(name), "port.%u.path", port++);
		r = config_set(node, name, path, err);
		if (r < 0)
			return r;
	}
	return r;
}

/* sharename=/path, and words without a value; rw, which is ours, is ro=false. */
static int
legacy_9p(struct config *node, char *rest, struct err *err)
{
	char *word, *share;
	int r = 0;

	while (r == 0 && (word = strsep(&rest, ",")) != NULL) {
		if (strcmp(word, "rw") == 0) {
			r = config_set(node, "ro", "false", err);
			continue;
		}
		if (strchr(word, '=') == NULL) {
			r = set_word(node, word, err);
			continue;
		}
		if (config_has(node, "sharename"))
			return err_set(err, -EINVAL,
			    "virtio-9p: more than one share name given");
		share = strsep(&word, "=");
		r = config_set(node, "sharename", share, err);
		if (r == 0)
			r = config_set(node, "path", word, err);
	}
	return r;
}

/* device[=option], one word a slot, the first of which is 1. */
static int
legacy_xhci(struct config *node, char *rest, struct err *err)
{
	char name[sizeof("slot.") + 10], *word;
	struct config *slot;
	int r = 0;

	for (unsigned i = 1; r == 0 && (word = strsep(&rest, ",")) != NULL;) {
		const char *device = strsep(&word, "=");

		if (device[0] == '\0' && word == NULL)
			continue;
		(void)snprintf(name, sizeof(name), "slot.%u", i++);
		r = config_make(node, name, &slot, err);
		if (r == 0)
			r = config_set(slot, "device", device, err);
		if (r == 0 && word != NULL)
			r = set_word(slot, word, err);
	}
	return r;
}

/*
 * A first word without a value and each target=[id:]path are targets; one
 * without an id takes the number after the one before it.
 */
static int
legacy_scsi(struct config *node, char *rest, struct err *err)
{
	char name[sizeof("target.") + 20];
	uint64_t id = 0;
	int r = 0;

	for (bool first = true; r == 0 && rest != NULL; first = false) {
		char *word = strsep(&rest, ","), *colon;

		if (strncmp(word, "target=", strlen("target=")) == 0) {
			word += strlen("target=");
		} else if (!first || strchr(word, '=') != NULL) {
			r = set_word(node, word, err);
			continue;
		}
		colon = word[0] != '/' ? strchr(word, ':') : NULL;
		if (colon != NULL) {
			*colon = '\0';
			if (parse_uint(word, SCSI_TARGETS - 1, &id) < 0)
				return err_set(err, -EINVAL,
				    "virtio-scsi: invalid target id \"%s\"",
				    word);
			word = colon + 1;
		}
		if (word[0] == '\0')
			continue;
		(void)snprintf(name, sizeof(name), "target.%ju", (uintmax_t)id);
		if (config_has(node, name) || id >= SCSI_TARGETS)
			return err_set(err, -EINVAL,
			    "virtio-scsi: cannot add '%s' as target %ju", word,
			    (uintmax_t)id);
		r = config_set(node, name, word, err);
		id++;
	}
	return r;
}

/* bus/slot/func, pciBUS:SLOT:FUNC or pci0:BUS:SLOT:FUNC, taken apart. */
static int
passthru_place(struct config *node, char *word, struct err *err)
{
	static const char *const keys[] = { "bus", "slot", "func" };
	bool named = strncmp(word, "pci", strlen("pci")) == 0;
	char *copy = xstrdup(named ? word + strlen("pci") : word);
	char *rest = copy, *fields[4];
	uint64_t number;
	size_t n = 0, skip;
	int r = 0;

	while (rest != NULL && n < ARRAY_SIZE(fields))
		fields[n++] = strsep(&rest, named ? ":" : "/");
	skip = n == 4 && named && strcmp(fields[0], "0") == 0 ? 1 : 0;
	if (rest != NULL || n - skip != ARRAY_SIZE(keys))
		r = -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(keys) && r == 0; i++) {
		r = parse_uint(fields[skip + i], UINT8_MAX, &number);
		if (r == 0)
			r = config_set(node, keys[i], fields[skip + i], err);
	}
	free(copy);
	if (r < 0)
		return err_set(err, r, "passthru: invalid options \"%s\"",
		    word);
	return 0;
}

static int
legacy_passthru(struct config *node, char *rest, struct err *err)
{
	char *word = strsep(&rest, ",");
	int r;

	if (word == NULL)
		return 0;
	if (strncmp(word, "ppt", strlen("ppt")) == 0)
		r = config_set(node, "pptdev", word, err);
	else if (word[0] == '/')
		r = config_set(node, "path", word, err);
	else
		r = passthru_place(node, word, err);
	return r < 0 ? r : legacy_words(node, rest, err);
}

static const struct {
	const char *name;
	const char *alias; /* what it really is, if something else */
	legacy_fn *parse;
} legacy_devices[] = {
	{ "ahci", NULL, legacy_ahci },
	{ "ahci-cd", "ahci", legacy_ahci_cd },
	{ "ahci-hd", "ahci", legacy_ahci_hd },
	{ "amd_hostbridge", "hostbridge", legacy_amd_hostbridge },
	{ "e1000", NULL, legacy_net },
	{ "nvme", NULL, legacy_nvme },
	{ "passthru", NULL, legacy_passthru },
	{ "uart", NULL, legacy_uart },
	{ "virtio-9p", NULL, legacy_9p },
	{ "virtio-blk", NULL, legacy_block },
	{ "virtio-console", NULL, legacy_console },
	{ "virtio-input", NULL, legacy_block },
	{ "virtio-net", NULL, legacy_net },
	{ "virtio-net-viona", NULL, legacy_viona },
	{ "virtio-scsi", NULL, legacy_scsi },
	{ "xhci", NULL, legacy_xhci },
};

const char *
pci_legacy_alias(const char *device)
{
	for (size_t i = 0; i < ARRAY_SIZE(legacy_devices); i++) {
		if (strcmp(legacy_devices[i].name, device) == 0)
			return legacy_devices[i].alias;
	}
	return NULL;
}

int
pci_legacy_conf(struct config *node, const char *device, const char *conf,
    struct err *err)
{
	const char *alias = pci_legacy_alias(device);
	char *rest = conf != NULL ? xstrdup(conf) : NULL;
	legacy_fn *parse = legacy_words;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(legacy_devices); i++) {
		if (strcmp(legacy_devices[i].name, device) == 0)
			parse = legacy_devices[i].parse;
	}
	r = config_set(node, "device", alias != NULL ? alias : device, err);
	if (r == 0)
		r = parse(node, rest, err);
	free(rest);
	return r;
}
