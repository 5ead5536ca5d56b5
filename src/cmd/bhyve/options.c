/*
 * bhyve's command line.
 *
 * Models       getopt(3) letters, messages and exit statuses of FreeBSD's and
 *              illumos' bhyve(8), the letters of both.
 * Leaves out   -r, which comes with snapshots.
 *
 * What is said here is only whether a word can be stored.  Whether there is
 * such a device or feature is found out when the machine is made, so that
 * config.dump shows what any of bhyve's command lines means.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/parse.h"
#include "cmd/bhyve/options.h"
#include "pci/pci.h"

#define FWCFG_NAME_MAX 55

/* What a row of options[] does with its argument. */
struct options {
	struct config *root;
	int *status;
	struct err *err;
};
typedef int option_fn(const struct options *o, const char *arg);

static int
option_usage(const struct options *o, const char *what, const char *arg)
{
	*o->status = EXIT_USAGE;
	return err_set(o->err, -EINVAL, "invalid %s '%s'", what, arg);
}

/* The entry of `words` that is `word`, or NULL. */
static const char *
word_in(const char *word, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(word, words[i]) == 0)
			return words[i];
	}
	return NULL;
}

/* ---- -c ----------------------------------------------------------------- */

static int
option_cpus(const struct options *o, const char *arg)
{
	static const char *const keys[] = { "cpus", "sockets", "cores",
		"threads" };
	char *copy, *rest, *word;
	int r = 0;

	if (arg[0] == '\0')
		arg = "1,sockets=1,cores=1,threads=1";
	copy = rest = xstrdup(arg);
	while (r == 0 && (word = strsep(&rest, ",")) != NULL) {
		const char *key = "cpus";
		char *value = strchr(word, '=');

		if (value == NULL) {
			value = word;
		} else {
			*value++ = '\0';
			key = word_in(word, keys, ARRAY_SIZE(keys));
		}
		r = key == NULL ? -EINVAL :
				  config_set(o->root, key, value, NULL);
	}
	free(copy);
	return r < 0 ? option_usage(o, "cpu topology", arg) : 0;
}

/* ---- -p ----------------------------------------------------------------- */

static int
option_pin(const struct options *o, const char *arg)
{
	const char *colon = strchr(arg, ':'), *old;
	uint64_t vcpu, hostcpu;
	char *text, key[48];
	int r;

	if (colon == NULL)
		return option_usage(o, "vcpu pinning configuration", arg);
	text = xstrdup(arg);
	text[colon - arg] = '\0';
	r = parse_uint(text, INT32_MAX, &vcpu);
	free(text);
	if (r < 0 || parse_uint(colon + 1, CPU_SETSIZE - 1, &hostcpu) < 0)
		return option_usage(o, "vcpu pinning configuration", arg);
	(void)snprintf(key, sizeof(key), "vcpu.%ju.cpuset", (uintmax_t)vcpu);
	old = config_raw(o->root, key);
	return config_set_fmt(o->root, o->err, key, "%s%s%ju",
	    old != NULL ? old : "", old != NULL ? "," : "", (uintmax_t)hostcpu);
}

/* ---- -B ----------------------------------------------------------------- */

static const struct {
	char type; /* of the SMBIOS structure */
	const char *word;
	const char *key;
} smbios_words[] = {
	{ '0', "vendor", "bios.vendor" },
	{ '0', "version", "bios.version" },
	{ '0', "release_date", "bios.release_date" },
	{ '1', "manufacturer", "system.manufacturer" },
	{ '1', "product", "system.product_name" },
	{ '1', "product_name", "system.product_name" },
	{ '1', "version", "system.version" },
	{ '1', "serial", "system.serial_number" },
	{ '1', "serial_number", "system.serial_number" },
	{ '1', "sku", "system.sku" },
	{ '1', "family", "system.family_name" },
	{ '1', "family_name", "system.family_name" },
	{ '1', "uuid", "uuid" },
	{ '2', "manufacturer", "board.manufacturer" },
	{ '2', "product_name", "board.product_name" },
	{ '2', "version", "board.version" },
	{ '2', "serial_number", "board.serial_number" },
	{ '2', "asset_tag", "board.asset_tag" },
	{ '2', "location", "board.location" },
	{ '3', "manufacturer", "chassis.manufacturer" },
	{ '3', "version", "chassis.version" },
	{ '3', "serial_number", "chassis.serial_number" },
	{ '3', "asset_tag", "chassis.asset_tag" },
	{ '3', "sku", "chassis.sku" },
};

static int
smbios_word(const struct options *o, char type, char *word)
{
	char *value = strchr(word, '=');

	if (value == NULL)
		return -EINVAL;
	*value++ = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(smbios_words); i++) {
		if (smbios_words[i].type == type &&
		    strcmp(smbios_words[i].word, word) == 0)
			return config_set(o->root, smbios_words[i].key, value,
			    NULL);
	}
	return -EINVAL;
}

static int
option_smbios(const struct options *o, const char *arg)
{
	char *copy = xstrdup(arg), *rest = copy, *word;
	const char *type = strsep(&rest, ",");
	int r = rest == NULL || strlen(type) != 1 ? -EINVAL : 0;

	while (r == 0 && (word = strsep(&rest, ",")) != NULL)
		r = smbios_word(o, type[0], word);
	free(copy);
	return r < 0 ? option_usage(o, "SMBIOS configuration", arg) : 0;
}

/* ---- -f, -G, -n --------------------------------------------------------- */

/* [name=]NAME,string=TEXT or file=PATH: the next free fwcfg.N. */
static int
option_fwcfg(const struct options *o, const char *arg)
{
	const char *name = arg, *comma;
	char path[48], *key;
	struct config *item;
	unsigned n = 0;
	int r;

	if (strncmp(name, "name=", strlen("name=")) == 0)
		name += strlen("name=");
	comma = strchr(name, ',');
	if (comma == NULL || comma == name || comma - name > FWCFG_NAME_MAX ||
	    (strncmp(comma, ",string=", strlen(",string=")) != 0 &&
		strncmp(comma, ",file=", strlen(",file=")) != 0))
		return option_usage(o, "fwcfg item", arg);
	do
		(void)snprintf(path, sizeof(path), "fwcfg.%u", n++);
	while (config_find(o->root, path) != NULL);
	r = config_make(o->root, path, &item, o->err);
	if (r < 0)
		return r;
	key = xstrdup(name);
	key[comma - name] = '\0';
	r = config_set(item, "name", key, o->err);
	free(key);
	if (r == 0 && config_set_option(item, comma + 1, NULL) < 0)
		r = option_usage(o, "fwcfg item", arg);
	return r;
}

/* [w][ADDRESS:]PORT */
static int
option_gdb(const struct options *o, const char *arg)
{
	const char *colon;
	char *address;
	int r = 0;

	if (arg[0] == 'w') {
		r = config_set(o->root, "gdb.wait", "true", o->err);
		arg++;
	}
	colon = strrchr(arg, ':');
	if (r == 0 && colon != NULL && colon > arg) {
		address = xstrdup(arg);
		address[colon - arg] = '\0';
		r = config_set(o->root, "gdb.address", address, o->err);
		free(address);
	}
	if (r < 0)
		return r;
	return config_set(o->root, "gdb.port", colon != NULL ? colon + 1 : arg,
	    o->err);
}

/*
 * id=N,size=SIZE,cpus=LIST[,domain_policy=POLICY].  A list of CPUs has commas:
 * words without a key go on with it.
 */
static int
option_numa(const struct options *o, const char *arg)
{
	static const char *const keys[] = { "id", "size", "cpus",
		"domain_policy" };
	char *copy = xstrdup(arg), *rest = copy, *word, path[48];
	const char *key = "", *value = NULL;
	uint64_t id;
	int r;

	r = strncmp(copy, "id=", strlen("id=")) == 0 ? 0 : -EINVAL;
	while (r == 0 && (word = strsep(&rest, ",")) != NULL) {
		char *equals = strchr(word, '=');

		if (equals == NULL) {
			if (strcmp(key, "cpus") != 0)
				r = -EINVAL;
			else
				r = config_set_fmt(o->root, NULL, path, "%s,%s",
				    config_raw(o->root, path), word);
			continue;
		}
		*equals = '\0';
		value = equals + 1;
		key = word_in(word, keys, ARRAY_SIZE(keys));
		if (key == NULL) {
			r = -EINVAL;
		} else if (key == keys[0]) {
			r = parse_uint(value, UINT8_MAX, &id);
		} else {
			(void)snprintf(path, sizeof(path), "domains.%ju.%s",
			    (uintmax_t)id, key);
			r = config_set(o->root, path, value, NULL);
		}
	}
	free(copy);
	return r < 0 ? option_usage(o, "NUMA configuration", arg) : 0;
}

/* ---- -l ----------------------------------------------------------------- */

/* A word after the device's own: a=b, or a for a=true. */
static int
lpc_words(const struct options *o, const char *node, char *rest)
{
	const char *word;
	char *key;
	int r = 0;

	while (r == 0 && (word = strsep(&rest, ",")) != NULL) {
		if (word[0] == '\0')
			continue;
		key = xasprintf("%s.%s%s", node, word,
		    strchr(word, '=') != NULL ? "" : "=true");
		r = config_set_option(o->root, key, o->err);
		free(key);
	}
	return r;
}

/* bootrom,ROM[,VARS][,KEY=VALUE...] */
static int
lpc_bootrom(const struct options *o, const char *arg, char *rest)
{
	const char *rom = strsep(&rest, ",");
	int r;

	if (rom == NULL || rom[0] == '\0')
		return err_set(o->err, -EINVAL, "invalid bootrom option \"%s\"",
		    arg);
	r = config_set(o->root, "lpc.bootrom", rom, o->err);
	if (r == 0 && rest != NULL && rest[0] != ',' && rest[0] != '\0' &&
	    strcspn(rest, ",") <= strcspn(rest, "="))
		r = config_set(o->root, "lpc.bootvars", strsep(&rest, ","),
		    o->err);
	return r < 0 ? r : lpc_words(o, "lpc", rest);
}

/* tpm,TYPE,PATH[,version=2.0] */
static int
lpc_tpm(const struct options *o, const char *arg, char *rest)
{
	const char *type = strsep(&rest, ","), *path = strsep(&rest, ",");
	int r;

	if (type == NULL || type[0] == '\0')
		return err_set(o->err, -EINVAL, "invalid tpm type \"%s\"", arg);
	if (path == NULL || path[0] == '\0')
		return err_set(o->err, -EINVAL, "invalid tpm path \"%s\"", arg);
	r = config_set(o->root, "tpm.type", type, o->err);
	if (r == 0)
		r = config_set(o->root, "tpm.path", path, o->err);
	if (r == 0)
		r = lpc_words(o, "tpm", rest);
	if (r == 0 && !config_has(o->root, "tpm.version"))
		r = config_set(o->root, "tpm.version", "2.0", o->err);
	return r;
}

static int
option_lpc(const struct options *o, const char *arg)
{
	static const char *const coms[] = { "com1", "com2", "com3", "com4" };
	char *copy, *rest, key[24];
	const char *device;
	int r = 0;

	if (strncmp("help", arg, strlen(arg)) == 0) {
		for (size_t i = 0; i < ARRAY_SIZE(coms); i++)
			(void)printf("%s\n", coms[i]);
		*o->status = 0;
		return 1;
	}
	copy = rest = xstrdup(arg);
	device = strsep(&rest, ",");
	if (strcasecmp(device, "bootrom") == 0) {
		r = lpc_bootrom(o, arg, rest);
		goto out;
	}
	if (strcasecmp(device, "tpm") == 0) {
		r = lpc_tpm(o, arg, rest);
		goto out;
	}
	if (strcasecmp(device, "pc-testdev") == 0) {
		r = config_set(o->root, "lpc.pc-testdev", "true", o->err);
		goto out;
	}
	for (size_t i = 0; i < ARRAY_SIZE(coms); i++) {
		if (strcasecmp(device, coms[i]) != 0 || rest == NULL ||
		    rest[0] == '\0')
			continue;
		(void)snprintf(key, sizeof(key), "lpc.%s.path", coms[i]);
		r = config_set(o->root, key, rest, o->err);
		goto out;
	}
	r = option_usage(o, "lpc device configuration", arg);
out:
	free(copy);
	return r;
}

/* ---- the others --------------------------------------------------------- */

static int
option_file(const struct options *o, const char *arg)
{
	return config_read_file(o->root, arg, o->err);
}

static int
option_key(const struct options *o, const char *arg)
{
	int r = config_set_option(o->root, arg, o->err);

	if (r == -EINVAL)
		*o->status = EXIT_USAGE;
	return r;
}

static int
option_restore(const struct options *o, const char *arg)
{
	return err_set(o->err, -ENOTSUP,
	    "%s: restoring a snapshot (-r) is not available", arg);
}

static int
option_slot(const struct options *o, const char *arg)
{
	int r = pci_parse_slot(o->root, arg, o->err);

	if (r == 1)
		*o->status = 0;
	return r;
}

static int
option_text(const struct options *o, const char *key, const char *arg)
{
	*o->status = arg[0] == '\0' ? EXIT_USAGE : EXIT_ERROR;
	return config_set(o->root, key, arg, o->err);
}

static int
option_ignored(const struct options *o, const char *arg)
{
	return 0;
}

/* fn, or a key that is set to `value`, or without one to the argument. */
static const struct {
	char letter;
	bool has_arg;
	option_fn *fn;
	const char *key;
	const char *value;
	const char *help;
} options[] = {
	{ 'A', false, NULL, "acpi_tables", "true", "create ACPI tables" },
	{ 'a', false, NULL, "x86.x2apic", "false",
	    "local APICs are in xAPIC mode" },
	{ 'B', true, option_smbios, NULL, NULL,
	    "type,key=value,...: set SMBIOS information" },
	{ 'C', false, NULL, "memory.guest_in_core", "true",
	    "include guest memory in core files" },
	{ 'c', true, option_cpus, NULL, NULL,
	    "number of CPUs and their topology" },
	{ 'D', false, NULL, "destroy_on_poweroff", "true",
	    "destroy on power-off" },
	{ 'd', false, NULL, "suspend_at_boot", "true",
	    "suspend the first CPU at boot" },
	{ 'e', false, NULL, "x86.strictio", "true",
	    "exit on an access to an I/O port that nobody has" },
	{ 'f', true, option_fwcfg, NULL, NULL,
	    "name,string=text or name,file=path: add a fw_cfg item" },
	{ 'G', true, option_gdb, NULL, NULL, "start a debug server" },
	{ 'H', false, NULL, "x86.vmexit_on_hlt", "true",
	    "leave the guest on HLT" },
	{ 'h', false, NULL, NULL, NULL, "this help" },
	{ 'I', false, option_ignored, NULL, NULL,
	    "ignored: there always is an I/O APIC" },
	{ 'K', true, NULL, "keyboard.layout", NULL, "keyboard layout" },
	{ 'k', true, option_file, NULL, NULL, "file of key=value lines" },
	{ 'l', true, option_lpc, NULL, NULL,
	    "device,configuration: LPC device, or help" },
	{ 'm', true, NULL, "memory.size", NULL, "memory size" },
	{ 'n', true, option_numa, NULL, NULL,
	    "id=n,size=size,cpus=list[,domain_policy=policy]: NUMA domain" },
	{ 'o', true, option_key, NULL, NULL, "key=value: set a variable" },
	{ 'P', false, NULL, "x86.vmexit_on_pause", "true",
	    "leave the guest on PAUSE" },
	{ 'p', true, option_pin, NULL, NULL, "vcpu:hostcpu: pin a CPU" },
	{ 'r', true, option_restore, NULL, NULL, "restore a snapshot" },
	{ 'S', false, NULL, "memory.wired", "true",
	    "guest memory cannot be swapped" },
	{ 's', true, option_slot, NULL, NULL,
	    "slot,device,configuration: PCI device, or help" },
	{ 'U', true, NULL, "uuid", NULL, "UUID" },
	{ 'u', false, NULL, "rtc.use_localtime", "false", "RTC keeps UTC" },
	{ 'W', false, NULL, "virtio_msix", "false",
	    "virtio devices use MSI, not MSI-X" },
	{ 'w', false, NULL, "x86.strictmsr", "false",
	    "ignore unimplemented MSRs" },
	{ 'x', false, NULL, "x86.x2apic", "true",
	    "local APICs are in x2APIC mode" },
	{ 'Y', false, NULL, "x86.mptable", "false",
	    "do not build an MP table" },
};

static void
usage(FILE *out)
{
	(void)fprintf(out,
	    "Usage: bhyve [-AaCDdeHhIPSuWwxY] [-B smbios] "
	    "[-c [[cpus=]numcpus][,sockets=n]\n"
	    "             [,cores=n][,threads=n]] [-f fwcfg] [-G port] "
	    "[-K layout] [-k file]\n"
	    "             [-l lpc] [-m size] [-n numa] [-o key=value] "
	    "[-p vcpu:hostcpu]\n"
	    "             [-r file] [-s pci] [-U uuid] vmname\n");
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		(void)fprintf(out, "       -%c: %s\n", options[i].letter,
		    options[i].help);
}

static int
usage_error(const struct options *o)
{
	usage(stderr);
	*o->status = EXIT_POWEROFF;
	return 1;
}

static int
option_run(const struct options *o, int letter, const char *arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (options[i].letter != letter)
			continue;
		if (options[i].fn != NULL)
			return options[i].fn(o, arg);
		if (options[i].value != NULL)
			return config_set(o->root, options[i].key,
			    options[i].value, o->err);
		if (options[i].key != NULL)
			return option_text(o, options[i].key, arg);
		break;
	}
	if (letter == 'h') {
		usage(stdout);
		*o->status = 0;
		return 1;
	}
	if (letter == ':')
		(void)fprintf(stderr,
		    "bhyve: option requires an argument -- %c\n", optopt);
	else
		(void)fprintf(stderr, "bhyve: illegal option -- %c\n", optopt);
	return usage_error(o);
}

static void
set_defaults(struct config *root)
{
	static const char *const defaults[][2] = {
		{ "acpi_tables", "true" },
		{ "acpi_tables_in_memory", "true" },
		{ "memory.size", "256M" },
		{ "x86.strictmsr", "true" },
		{ "lpc.fwcfg", "bhyve" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++)
		(void)config_set(root, defaults[i][0], defaults[i][1], NULL);
}

int
options_parse(struct config *root, int argc, char **argv, int *status,
    struct err *err)
{
	const struct options o = { root, status, err };
	char letters[2 * ARRAY_SIZE(options) + 3] = "+:", *p = letters + 2;
	int letter, r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		*p++ = options[i].letter;
		if (options[i].has_arg)
			*p++ = ':';
	}
	*p = '\0';
	set_defaults(root);
	*status = EXIT_ERROR;
	optind = 0;
	while (r == 0 && (letter = getopt(argc, argv, letters)) != -1)
		r = option_run(&o, letter, optarg);
	if (r == 0 && optind == argc - 1)
		r = config_set(root, "name", argv[optind], err);
	if (r == 0 && (optind < argc - 1 || !config_has(root, "name")))
		r = usage_error(&o);
	return r != 0;
}
