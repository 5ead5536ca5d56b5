/*
 * bhyve's command line: it only fills the configuration tree.
 */
#ifndef CMD_BHYVE_OPTIONS_H
#define CMD_BHYVE_OPTIONS_H

#include "base/err.h"
#include "config/config.h"

/* Exit statuses, bhyve(8). */
#define EXIT_RESET 0
#define EXIT_POWEROFF 1 /* also after a usage message or config.dump */
#define EXIT_ERROR 4
#define EXIT_USAGE 64 /* EX_USAGE of sysexits(3) */

/*
 * Defaults first, then the options in their order, then the name.  Returns 0
 * when there is a machine to make.  Otherwise the process ends here: 1 with its
 * exit status in *status, and err has the sentence to say, or is empty where
 * help or usage has been printed.
 */
int options_parse(struct config *root, int argc, char **argv, int *status,
    struct err *err);

#endif
