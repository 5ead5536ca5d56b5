/*
 * Configuration files of any bytes: read, every value expanded, dumped.  What
 * was dumped must read back to the same dump.
 */
#include <sys/mman.h>
#include <unistd.h>

#include <string.h>

#include "base/alloc.h"
#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
read_bytes(struct config *root, const void *data, size_t len)
{
	int fd = memfd_create("config", MFD_CLOEXEC);
	struct err err;
	char path[64];
	int r;

	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		abort();
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = config_read_file(root, path, &err);
	(void)close(fd);
	return r;
}

static char *
dump(struct config *root, size_t *len)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (out == NULL || config_dump(root, out, NULL) < 0)
		abort();
	(void)fclose(out);
	return text;
}

static void
expand_all(struct config *node)
{
	struct err err;

	for (struct config *child = config_child(node, NULL); child != NULL;
	     child = config_child(node, child)) {
		char *value;

		if (config_value(child) == NULL) {
			expand_all(child);
		} else if (config_get(node, config_name(child), &value, &err) ==
		    0) {
			if (value[0] == '\0')
				abort();
			free(value);
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *first = config_new(), *second = config_new();
	size_t first_len, second_len;
	char *first_text, *second_text;

	(void)read_bytes(first, data, size); /* up to a bad line, if any */
	expand_all(first);
	first_text = dump(first, &first_len);
	/* A name that begins with # dumps as a comment: no fair comparison. */
	if (first_text[0] != '#' && strstr(first_text, "\n#") == NULL) {
		if (read_bytes(second, first_text, first_len) != 0)
			abort();
		second_text = dump(second, &second_len);
		if (first_len != second_len ||
		    memcmp(first_text, second_text, first_len) != 0)
			abort();
		free(second_text);
	}
	free(first_text);
	config_free(first);
	config_free(second);
	return 0;
}
