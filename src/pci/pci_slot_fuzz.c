/*
 * -s takes any text: a node in the tree or a sentence, and what it leaves can
 * be printed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "pci/pci.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config *root = config_new();
	char *text = xcalloc(1, size + 1);
	FILE *sink = fopen("/dev/null", "w");
	struct err err;
	char *arg;

	memcpy(text, data, size);
	/* Several lines are several options of one command line. */
	for (char *rest = text; (arg = strsep(&rest, "\n")) != NULL;) {
		err.msg[0] = '\0';
		if (strncmp("help", arg, strlen(arg)) != 0 &&
		    pci_parse_slot(root, arg, &err) < 0 && err.msg[0] == '\0')
			abort();
	}
	(void)config_dump(root, sink, &err); /* a %( may have no end */
	(void)fclose(sink);
	free(text);
	config_free(root);
	return 0;
}
