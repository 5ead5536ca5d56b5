/*
 * The configuration tree, as bhyve_config(5) describes it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "config/config.h"

static int
setup(void **state)
{
	*state = config_new();
	return 0;
}

static int
teardown(void **state)
{
	config_free(*state);
	return 0;
}

static void
set(struct config *root, const char *option)
{
	struct err err = { 0 };

	if (config_set_option(root, option, &err) != 0)
		fail_msg("%s: %s", option, err.msg);
}

/* What config_get() makes of a key; fails the test if it cannot. */
static void
check_value(struct config *node, const char *path, const char *expected)
{
	struct err err = { 0 };
	char *value;

	if (config_get(node, path, &value, &err) != 0)
		fail_msg("%s: %s", path, err.msg);
	assert_string_equal(value, expected);
	free(value);
}

static void
check_refused(struct config *root, const char *option, int code,
    const char *msg)
{
	struct err err = { 0 };

	assert_int_equal(config_set_option(root, option, &err), code);
	assert_string_equal(err.msg, msg);
}

static void
check_dump(struct config *root, const char *expected)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_int_equal(config_dump(root, out, NULL), 0);
	(void)fclose(out);
	assert_string_equal(text, expected);
	free(text);
}

/* Read text as a -k file; the sentence comes without the file's name. */
static int
read_text(struct config *root, const char *text, size_t len, struct err *err)
{
	char name[] = "/tmp/config_test.XXXXXX";
	int fd = mkstemp(name);
	int r;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	(void)close(fd);
	r = config_read_file(root, name, err);
	(void)unlink(name);
	if (r < 0) {
		assert_memory_equal(err->msg, name, strlen(name));
		memmove(err->msg, err->msg + strlen(name),
		    strlen(err->msg + strlen(name)) + 1);
	}
	return r;
}

static void
nested_names(void **state)
{
	struct config *root = *state, *node;
	char *path;

	set(root, "pci.0.3.0.device=virtio-blk");
	set(root, "name=vm0");
	check_value(root, "pci.0.3.0.device", "virtio-blk");
	assert_true(config_has(root, "name"));
	assert_false(config_has(root, "pci"));
	assert_false(config_has(root, "pci.0.3.1.device"));
	assert_null(config_find(root, "name"));
	assert_null(config_find(root, "pci.1"));

	node = config_find(root, "pci.0.3.0");
	assert_non_null(node);
	assert_string_equal(config_name(node), "0");
	path = config_path(node);
	assert_string_equal(path, "pci.0.3.0");
	free(path);
	assert_string_equal(config_raw(node, "device"), "virtio-blk");
}

static void
later_wins(void **state)
{
	struct config *root = *state;

	set(root, "memory.size=256M");
	set(root, "cpus=1");
	set(root, "memory.size=4G");
	check_value(root, "memory.size", "4G");
	/* Setting a value to a part of itself must not read freed memory. */
	assert_int_equal(config_set(root, "memory.size",
			     config_raw(root, "memory.size") + 1, NULL),
	    0);
	check_value(root, "memory.size", "G");
}

static void
nodes_and_values_exclude_each_other(void **state)
{
	struct config *root = *state, *made;
	struct err err = { 0 };

	set(root, "a.b=1");
	set(root, "c=2");
	check_refused(root, "a=1", -EISDIR,
	    "Attempting to add value 1 to existing node a");
	check_refused(root, "a.b.x.y=1", -ENOTDIR,
	    "Configuration node a.b.x is a child of existing variable a.b");
	assert_int_equal(config_make(root, "c", &made, &err), -ENOTDIR);
	assert_string_equal(err.msg,
	    "Configuration node c is a child of existing variable c");
	check_dump(root, "a.b=1\nc=2\n");
}

static void
names_and_values_have_letters(void **state)
{
	static const char *const options[] = { "", "a", "=", "a=", "=b", ".a=1",
		"a.=1", "a..b=1", "." };
	struct config *root = *state;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		err = (struct err) { 0 };
		assert_int_equal(config_set_option(root, options[i], &err),
		    -EINVAL);
		assert_non_null(
		    strstr(err.msg, "invalid configuration option"));
	}
	set(root, "a=b=c");
	check_value(root, "a", "b=c");
	check_dump(root, "a=b=c\n");
}

static void
a_path_has_a_limit(void **state)
{
	char path[200] = "x";

	for (unsigned i = 0; i < 31; i++)
		strcat(path, ".x");
	assert_int_equal(config_set(*state, path, "1", NULL), 0);
	config_unset(*state, "x");
	strcat(path, ".x");
	assert_int_equal(config_set(*state, path, "1", NULL), -EINVAL);
	check_dump(*state, "");
}

static void
references_are_followed(void **state)
{
	struct config *root = *state;

	set(root, "path=/vms/%(name)/disk%(disk.number)");
	set(root, "name=%(prefix)-a");
	set(root, "prefix=vm");
	set(root, "disk.number=0");
	check_value(root, "path", "/vms/vm-a/disk0");
	set(root, "prefix=mv");
	check_value(root, "path", "/vms/mv-a/disk0");
	assert_string_equal(config_raw(root, "name"), "%(prefix)-a");

	/* References start at the root, wherever the value is. */
	set(root, "a.b=%(name)");
	check_value(config_find(root, "a"), "b", "mv-a");
}

static void
percent_signs(void **state)
{
	struct config *root = *state;

	set(root, "name=x");
	set(root, "a=100%% %%(name) %(name)%%");
	check_value(root, "a", "100% %(name) x%");
	set(root, "a=[fe80::1%eth0]:5900");
	check_value(root, "a", "[fe80::1%eth0]:5900");
	set(root, "a=5%");
	check_value(root, "a", "5%");
}

static void
check_no_value(struct config *root, const char *path, int code, const char *msg)
{
	struct err err = { 0 };
	char *value;

	assert_int_equal(config_get(root, path, &value, &err), code);
	assert_string_equal(err.msg, msg);
}

static void
bad_references(void **state)
{
	struct config *root = *state;

	set(root, "a.x=%(b)");
	set(root, "b=%(c)");
	set(root, "c=%(b)");
	check_no_value(root, "a.x", -ELOOP,
	    "a.x: references go too deep, the last to b");
	set(root, "self=%(self)");
	check_no_value(root, "self", -ELOOP,
	    "self: references go too deep, the last to self");
	set(root, "c=%(d)");
	check_no_value(root, "a.x", -EINVAL, "a.x: %(d) is not set");
	set(root, "c=%(d");
	check_no_value(root, "a.x", -EINVAL,
	    "a.x: \"%(d\" has no closing parenthesis");
	set(root, "c=%()");
	check_no_value(root, "a.x", -EINVAL, "a.x: %() is not set");
	set(root, "c=%(a)");
	check_no_value(root, "a.x", -EINVAL, "a.x: %(a) is not set");
	check_no_value(root, "nowhere", -ENOENT, "");
}

static void
sixteen_references_deep(void **state)
{
	struct config *root = *state;
	char name[8], *value;

	for (unsigned i = 0; i < 17; i++) {
		(void)snprintf(name, sizeof(name), "v%u", i);
		assert_int_equal(config_set_fmt(root, NULL, name, "%%(v%u)",
				     i + 1),
		    0);
	}
	set(root, "v17=end");
	check_value(root, "v1", "end");
	assert_int_equal(config_get(root, "v0", &value, NULL), -ELOOP);
}

/* Ten references a value, nine values deep: 10^9 words, if nobody counted. */
static void
a_value_does_not_explode(void **state)
{
	struct config *root = *state;
	char value[128], name[2] = "a";
	struct err err = { 0 };
	char *text;

	for (; name[0] < 'j'; name[0]++) {
		value[0] = '\0';
		for (unsigned i = 0; i < 10; i++)
			(void)snprintf(value + strlen(value), 8, "%%(%c)",
			    name[0] + 1);
		assert_int_equal(config_set(root, name, value, NULL), 0);
	}
	set(root, "j=word");
	assert_int_equal(config_get(root, "a", &text, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "expands to more than"));
}

static void
booleans(void **state)
{
	struct config *root = *state;
	struct err err = { 0 };
	bool value;

	set(root, "a.yes=YES");
	set(root, "a.off=off");
	set(root, "a.one=%(one)");
	set(root, "one=1");
	set(root, "a.two=2");
	assert_int_equal(config_bool(root, "a.yes", false, &value, NULL), 0);
	assert_true(value);
	assert_int_equal(config_bool(root, "a.off", true, &value, NULL), 0);
	assert_false(value);
	assert_int_equal(config_bool(root, "a.one", false, &value, NULL), 0);
	assert_true(value);
	assert_int_equal(config_bool(root, "a.none", true, &value, NULL), 0);
	assert_true(value);
	assert_int_equal(config_bool(config_find(root, "a"), "two", true,
			     &value, &err),
	    -EINVAL);
	assert_string_equal(err.msg,
	    "Invalid value 2 for boolean variable a.two");
}

static void
numbers(void **state)
{
	struct config *root = *state;
	struct err err = { 0 };
	int64_t value;

	set(root, "cpus=0x10");
	set(root, "bad=4x");
	set(root, "many=65536");
	assert_int_equal(config_int(root, "cpus", 1, 1, 65535, &value, NULL),
	    0);
	assert_int_equal(value, 16);
	assert_int_equal(config_int(root, "none", 7, 1, 65535, &value, NULL),
	    0);
	assert_int_equal(value, 7);
	assert_int_equal(config_int(root, "many", 1, 1, 65535, &value, &err),
	    -ERANGE);
	assert_string_equal(err.msg, "Invalid value for many: '65536'");
	assert_int_equal(config_int(root, "bad", 1, 1, 65535, &value, &err),
	    -EINVAL);
	assert_string_equal(err.msg, "Invalid value for bad: '4x'");
}

static void
strings(void **state)
{
	struct config *root = *state;
	char *value;

	set(root, "a=%(b)");
	assert_int_equal(config_str(root, "a", "dflt", &value, NULL), -EINVAL);
	assert_int_equal(config_str(root, "c", "dflt", &value, NULL), 0);
	assert_string_equal(value, "dflt");
	free(value);
	assert_int_equal(config_str(root, "c", NULL, &value, NULL), 0);
	assert_null(value);
}

static void
dump_keeps_the_order_of_setting(void **state)
{
	struct config *root = *state, *child;

	set(root, "memory.size=256M");
	set(root, "acpi_tables=false");
	set(root, "memory.wired=true");
	set(root, "path=%(name)%%");
	set(root, "memory.size=1G");
	set(root, "acpi_tables=true");
	check_dump(root,
	    "memory.wired=true\nmemory.size=1G\n"
	    "path=%(name)%%\nacpi_tables=true\n");

	child = config_child(root, NULL);
	assert_string_equal(config_name(child), "memory");
	assert_null(config_value(child));
	child = config_child(root, child);
	assert_string_equal(config_name(child), "path");
	assert_string_equal(config_value(child), "%(name)%%");
	child = config_child(root, child);
	assert_null(config_child(root, child));
}

static void
unset_forgets(void **state)
{
	struct config *root = *state;

	set(root, "a.b=1");
	set(root, "a.c=2");
	set(root, "d.e.f=3");
	config_unset(root, "a.b");
	config_unset(root, "d");
	config_unset(root, "d");
	config_unset(root, "nothing.here");
	check_dump(root, "a.c=2\n");
	set(root, "d=now a value");
	check_dump(root, "a.c=2\nd=now a value\n");
}

static void
a_dump_to_a_full_disk_is_an_error(void **state)
{
	FILE *full = fopen("/dev/full", "w");
	struct err err = { 0 };

	assert_non_null(full);
	set(*state, "a=b");
	assert_int_equal(config_dump(*state, full, &err), -ENOSPC);
	assert_string_equal(err.msg,
	    "Failed to write the configuration: "
	    "No space left on device");
	(void)fclose(full);
}

static void
files(void **state)
{
	static const char text[] = "# a comment\n"
				   "\n"
				   "name=vm0\n"
				   "memory.size=1G\n"
				   " spaced = kept \n"
				   "name=vm1\n"
				   "last=no newline";
	struct config *root = *state;
	struct err err = { 0 };

	if (read_text(root, text, sizeof(text) - 1, &err) < 0)
		fail_msg("%s", err.msg);
	check_dump(root,
	    "memory.size=1G\n spaced = kept \nname=vm1\n"
	    "last=no newline\n");
}

static void
bad_lines(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		int code;
		const char *msg;
	} rows[] = {
		{ "a=1\nb\nc=2\n", 10, -EINVAL,
		    " line 2: invalid config option 'b'" },
		{ "a=\n", 3, -EINVAL, " line 1: invalid config option 'a='" },
		{ "#\n\n\n..=x", 8, -EINVAL,
		    " line 4: invalid config option '..=x'" },
		{ " # x\n", 5, -EINVAL,
		    " line 1: invalid config option ' # x'" },
		{ "a=1\0b\n", 6, -EINVAL,
		    " line 1: invalid config option 'a=1'" },
		{ "x.y=1\nx=1\n", 10, -EISDIR,
		    " line 2: Attempting to add value 1 to existing node x" },
	};
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		err = (struct err) { 0 };
		assert_int_equal(read_text(*state, rows[i].text, rows[i].len,
				     &err),
		    rows[i].code);
		assert_string_equal(err.msg, rows[i].msg);
	}
}

static void
files_that_cannot_be_read(void **state)
{
	struct err err = { 0 };

	assert_int_equal(config_read_file(*state, "/nowhere/vm.conf", &err),
	    -ENOENT);
	assert_string_equal(err.msg,
	    "Failed to open configuration file /nowhere/vm.conf: "
	    "No such file or directory");
	assert_int_equal(config_read_file(*state, "/tmp", &err), -EIO);
	assert_int_equal(config_read_file(*state, "/dev/zero", &err), -EFBIG);
	check_dump(*state, "");
}

/* A million lines would take hours if each were looked for in a list. */
static void
many_lines(void **state)
{
	const unsigned lines = 200000;
	char *text = xcalloc(lines, 16);
	struct err err = { 0 };
	size_t len = 0;

	for (unsigned i = 0; i < lines; i++)
		len += (size_t)snprintf(text + len, 16, "k%u=%u\n", i, i);
	if (read_text(*state, text, len, &err) < 0)
		fail_msg("%s", err.msg);
	check_value(*state, "k199999", "199999");
	check_dump(*state, text);
	free(text);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nested_names),
		TEST(later_wins),
		TEST(nodes_and_values_exclude_each_other),
		TEST(names_and_values_have_letters),
		TEST(a_path_has_a_limit),
		TEST(references_are_followed),
		TEST(percent_signs),
		TEST(bad_references),
		TEST(sixteen_references_deep),
		TEST(a_value_does_not_explode),
		TEST(booleans),
		TEST(numbers),
		TEST(strings),
		TEST(dump_keeps_the_order_of_setting),
		TEST(unset_forgets),
		TEST(a_dump_to_a_full_disk_is_an_error),
		TEST(files),
		TEST(bad_lines),
		TEST(files_that_cannot_be_read),
		TEST(many_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
