/*
 * The configuration tree: dotted names with string values, as in
 * bhyve_config(5).
 *
 * Options only fill the tree; devices read their own node of it.  A name is a
 * path of words joined by dots; a name that has children is a node and cannot
 * have a value.  Values may hold %(name), expanded when the value is read, and
 * %% for a percent sign.  Later settings overwrite earlier ones.
 *
 * One thread fills it; after that any number may read.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdio.h>

#include "base/err.h"

struct config; /* a tree, and also any node of one */

struct config *config_new(void);
void config_free(struct config *root); /* takes the root; NULL is fine */

/*
 * Set a value below `node` by its dotted path, making nodes on the way.
 * -ENOTDIR if a word on the way is already a value, -EISDIR if the last one is
 * a node, -EINVAL for an empty word, name or value.
 */
int config_set(struct config *node, const char *path, const char *value,
    struct err *err);
int config_set_fmt(struct config *node, struct err *err, const char *path,
    const char *fmt, ...) PRINTF_LIKE(4, 5);

/* "key=value", as -o and a line of a -k file give it. */
int config_set_option(struct config *root, const char *option, struct err *err);

/* Read a -k file.  The error names FILE and line. */
int config_read_file(struct config *root, const char *file, struct err *err);

/* Forget a value or a whole node.  Not being there is fine. */
void config_unset(struct config *node, const char *path);

/* The node at path, or NULL.  config_make() creates it where missing. */
struct config *config_find(struct config *node, const char *path);
int config_make(struct config *node, const char *path, struct config **made,
    struct err *err);

/* Is there a value at path? */
bool config_has(struct config *node, const char *path);

/*
 * The value at path, unexpanded, or NULL; it lives until it is next set.
 * config_get() expands %(name) from the root of the tree into a fresh string
 * that the caller frees: 0; -ENOENT (no message) when unset; -ELOOP or
 * -EINVAL for a value that cannot be expanded.
 */
const char *config_raw(struct config *node, const char *path);
int config_get(struct config *node, const char *path, char **value,
    struct err *err);

/*
 * Typed reads: an unset key gives `dflt`; a value of another kind is an error
 * that names the key in full and the text.
 */
int config_bool(struct config *node, const char *path, bool dflt, bool *value,
    struct err *err);
int config_int(struct config *node, const char *path, int64_t dflt, int64_t min,
    int64_t max, int64_t *value, struct err *err);
int config_str(struct config *node, const char *path, const char *dflt,
    char **value, struct err *err); /* fresh, or NULL if unset and no dflt */

/* The node's own word, and its full dotted path (fresh; "" for the root). */
const char *config_name(const struct config *node);
char *config_path(const struct config *node);
/* Have the sentence of an error say which node it is about.  Returns rc. */
int config_err_place(const struct config *node, struct err *err, int rc);

/* Children in the order they were last set.  config_child(NULL) begins. */
struct config *config_child(struct config *node, struct config *after);
/* A child is a value or a node: the raw value, or NULL for a node. */
const char *config_value(const struct config *child);

/*
 * Every "path=value" line, depth first, as config.dump prints it: unexpanded,
 * so that config_read_file() makes the same tree of it.
 */
int config_dump(struct config *root, FILE *out, struct err *err);

#endif
