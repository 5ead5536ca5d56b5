/*
 * For tests: a directory of one's own, and programs of the host run in it.
 */
#ifndef FIRMWARE_TOOL_TEST_H
#define FIRMWARE_TOOL_TEST_H

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"

extern char **environ;

/* A fresh directory, as *state; removed with all that is in it. */
static inline int
tool_setup(void **state)
{
	char *dir = xasprintf("%s/apiary-test-XXXXXX",
	    getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");

	*state = dir;
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static inline int
tool_spawn(const char *dir, char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int rc, status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, dir);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "output",
	    O_WRONLY | O_CREAT | O_TRUNC, 0600);
	posix_spawn_file_actions_adddup2(&actions, 1, 2);
	rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (rc != 0)
		return -rc;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return 255;
	return WEXITSTATUS(status);
}

static inline int
tool_teardown(void **state)
{
	/* In the directory itself, where the output file belongs. */
	char *const argv[] = { "rm", "-r", *state, NULL };
	int rc = tool_spawn(*state, argv);

	free(*state);
	return rc;
}

static inline void
tool_write(const char *dir, const char *name, const void *data, size_t len)
{
	char *path = xasprintf("%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	free(path);
}

/* The whole file, with a NUL behind it that *len does not count. */
static inline char *
tool_read(const char *dir, const char *name, size_t *len)
{
	char *path = xasprintf("%s/%s", dir, name);
	FILE *f = fopen(path, "r");
	char *data;
	long size;

	if (f == NULL)
		fail_msg("%s: missing", path);
	assert_int_equal(fseek(f, 0, SEEK_END), 0);
	size = ftell(f);
	assert_true(size >= 0);
	rewind(f);
	data = xcalloc((size_t)size + 1, 1);
	assert_int_equal(fread(data, 1, (size_t)size, f), (size_t)size);
	assert_int_equal(fclose(f), 0);
	if (len != NULL)
		*len = (size_t)size;
	free(path);
	return data;
}

/*
 * Run a program in dir.  Returns what it printed; the caller frees it.  A
 * program that is not installed skips the test, one that fails fails it.
 */
static inline char *
tool_run(const char *dir, char *const argv[])
{
	int rc = tool_spawn(dir, argv);
	char *output;

	if (rc < 0) {
		print_message("%s: not installed\n", argv[0]);
		skip();
	}
	output = tool_read(dir, "output", NULL);
	if (rc != 0)
		fail_msg("%s: exit status %d:\n%s", argv[0], rc, output);
	return output;
}

#endif
