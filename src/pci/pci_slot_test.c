/*
 * The grammar of -s and what it says of a wrong one.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pci/pci.h"
#include "test/bench.h"

static const struct {
	const char *arg;
	const char *path;
	const char *device;
} places[] = {
	{ "0,hostbridge", "pci.0.0.0", "hostbridge" },
	{ "31,lpc", "pci.0.31.0", "lpc" },
	{ "3:7,hostbridge", "pci.0.3.7", "hostbridge" },
	{ "255:31:7,hostbridge", "pci.255.31.7", "hostbridge" },
	{ "04:01,lpc", "pci.0.4.1", "lpc" },
	{ "5,virtio-blk,/dev/null", "pci.0.5.0", "virtio-blk" },
	{ "6,amd_hostbridge", "pci.0.6.0", "hostbridge" },
};

static void
places_become_nodes(void **state)
{
	struct bench *b = *state;
	struct config *node;
	struct err err = { "" };

	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		if (pci_parse_slot(b->config, places[i].arg, &err) != 0)
			fail_msg("%s: %s", places[i].arg, err.msg);
		node = config_find(b->config, places[i].path);
		assert_non_null(node);
		assert_string_equal(config_raw(node, "device"),
		    places[i].device);
	}
}

static void
words_become_keys(void **state)
{
	struct bench *b = *state;
	struct config *node;

	assert_int_equal(pci_parse_slot(b->config,
			     "0,hostbridge,model=q35,wide", NULL),
	    0);
	node = config_find(b->config, "pci.0.0.0");
	assert_non_null(node);
	assert_string_equal(config_raw(node, "model"), "q35");
	assert_string_equal(config_raw(node, "wide"), "true");

	/* The alias is its ids. */
	assert_int_equal(pci_parse_slot(b->config, "1,amd_hostbridge", NULL),
	    0);
	assert_int_equal(pci_create_devices(b->vm, NULL), 0);
	bench_out32(b, 0xcf8, 0x80000800);
	assert_int_equal(bench_in32(b, 0xcfc), 0x74321022);
	bench_out32(b, 0xcf8, 0x80000000);
	assert_int_equal(bench_in32(b, 0xcfc), 0x29b08086);
}

static const struct {
	const char *arg;
	const char *message;
} refusals[] = {
	{ "3", "Invalid PCI slot info field \"3\"" },
	{ ",", "Invalid PCI slot info field \",\"" },
	{ ",hostbridge", "Invalid PCI slot info field \",hostbridge\"" },
	{ "32,lpc", "Invalid PCI slot info field \"32,lpc\"" },
	{ "1:8,lpc", "Invalid PCI slot info field \"1:8,lpc\"" },
	{ "256:1:1,lpc", "Invalid PCI slot info field \"256:1:1,lpc\"" },
	{ "1:32:1,lpc", "Invalid PCI slot info field \"1:32:1,lpc\"" },
	{ "0:0:0:0,lpc", "Invalid PCI slot info field \"0:0:0:0,lpc\"" },
	{ "1:,lpc", "Invalid PCI slot info field \"1:,lpc\"" },
	{ ":1,lpc", "Invalid PCI slot info field \":1,lpc\"" },
	{ "-1,lpc", "Invalid PCI slot info field \"-1,lpc\"" },
	{ "0x1,lpc", "Invalid PCI slot info field \"0x1,lpc\"" },
	{ " 1,lpc", "Invalid PCI slot info field \" 1,lpc\"" },
	{ "4294967296,lpc", "Invalid PCI slot info field \"4294967296,lpc\"" },
	{ "2,nosuch", "pci slot 0:2:0: unknown device \"nosuch\"" },
	{ "2,", "pci slot 0:2:0: unknown device \"\"" },
	{ "2,i8042", "pci slot 0:2:0: unknown device \"i8042\"" },
	{ "9,lpc", "pci slot 0:9:0 already occupied!" },
};

static void
wrong_arguments_are_refused(void **state)
{
	struct bench *b = *state;
	struct err err;

	assert_int_equal(pci_parse_slot(b->config, "9,hostbridge", NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
		assert_true(
		    pci_parse_slot(b->config, refusals[i].arg, &err) < 0);
		assert_string_equal(err.msg, refusals[i].message);
	}
}

static void
help_lists_the_models(void **state)
{
	static const char *const prefixes[] = { "help", "hel", "h", "" };
	struct bench *b = *state;
	char text[256];
	size_t len;
	FILE *file;
	int saved;

	for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++) {
		file = tmpfile();
		assert_non_null(file);
		(void)fflush(stdout);
		saved = dup(STDOUT_FILENO);
		assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
		assert_int_equal(pci_parse_slot(b->config, prefixes[i], NULL),
		    1);
		(void)fflush(stdout);
		assert_true(dup2(saved, STDOUT_FILENO) >= 0);
		(void)close(saved);
		rewind(file);
		len = fread(text, 1, sizeof(text) - 1, file);
		text[len] = '\0';
		(void)fclose(file);
		assert_non_null(strstr(text, "hostbridge\nlpc\n"));
		assert_null(strstr(text, "i8042"));
	}
}

BENCH_MAIN("", BENCH_TEST(places_become_nodes), BENCH_TEST(words_become_keys),
    BENCH_TEST(wrong_arguments_are_refused), BENCH_TEST(help_lists_the_models))
