/*
 * The configuration tree.
 *
 * Models       bhyve_config(5): names, values and the file format of -k.
 * Leaves out   the warnings that bhyve prints for references it cannot follow:
 *              those are errors here, and a % that begins neither %( nor %%
 *              stands for itself, so that IPv6 zones need no escape.
 * Locking      none: one thread fills the tree, after that all only read.
 * Invariants   1. A node has children or a value, never both.  The root has no
 *                 value.
 *              2. No value is empty, and no word of a name.
 *              3. No path has more than CONFIG_DEPTH_MAX words, so recursion
 *                 over the tree is bounded.
 *
 * Children are found through a binary tree and kept in a list besides: setting
 * a value again moves it to the end of the list, as bhyve's nvlists do, so that
 * both dump in the same order.
 */
#include <errno.h>
#include <search.h>
#include <stdarg.h>
#include <string.h>
#include <sys/queue.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/parse.h"
#include "config/config.h"

#define CONFIG_DEPTH_MAX 32
#define CONFIG_FILE_MAX (16 * MIB)
#define EXPAND_DEPTH_MAX 16
#define EXPAND_LEN_MAX (256 * KIB)

TAILQ_HEAD(config_list, config);

struct config {
	struct config *parent; /* borrowed: owns this; NULL for the root */
	char *name;            /* owned */
	char *value;           /* owned; NULL for a node */
	void *index;           /* of the children by name, see tsearch(3) */
	struct config_list children;
	TAILQ_ENTRY(config) link;
};

static int
config_compare(const void *a, const void *b)
{
	return strcmp(((const struct config *)a)->name,
	    ((const struct config *)b)->name);
}

static struct config *
config_lookup(struct config *node, char *word)
{
	struct config key = { .name = word };
	void *found = tfind(&key, &node->index, config_compare);

	return found == NULL ? NULL : *(struct config **)found;
}

/* Takes over value; NULL makes a node. */
static struct config *
config_add(struct config *parent, const char *word, char *value)
{
	struct config *child = xcalloc(1, sizeof(*child));

	child->parent = parent;
	child->name = xstrdup(word);
	child->value = value;
	TAILQ_INIT(&child->children);
	if (tsearch(child, &parent->index, config_compare) == NULL)
		abort(); /* out of memory */
	TAILQ_INSERT_TAIL(&parent->children, child, link);
	return child;
}

static void
config_remove(struct config *child)
{
	struct config *grandchild;

	while ((grandchild = TAILQ_FIRST(&child->children)) != NULL)
		config_remove(grandchild);
	if (child->parent != NULL) {
		(void)tdelete(child, &child->parent->index, config_compare);
		TAILQ_REMOVE(&child->parent->children, child, link);
	}
	free(child->name);
	free(child->value);
	free(child);
}

struct config *
config_new(void)
{
	struct config *root = xcalloc(1, sizeof(*root));

	root->name = xstrdup("");
	TAILQ_INIT(&root->children);
	return root;
}

void
config_free(struct config *root)
{
	if (root == NULL)
		return;
	assert(root->parent == NULL);
	config_remove(root);
}

static char *
config_strndup(const char *s, size_t len)
{
	char *copy = xcalloc(len + 1, 1);

	memcpy(copy, s, len);
	return copy;
}

static struct config *
config_root(struct config *node)
{
	while (node->parent != NULL)
		node = node->parent;
	return node;
}

const char *
config_name(const struct config *node)
{
	return node->name;
}

char *
config_path(const struct config *node)
{
	char *above, *path;

	if (node->parent == NULL || node->parent->parent == NULL)
		return xstrdup(node->name);
	above = config_path(node->parent);
	path = xasprintf("%s.%s", above, node->name);
	free(above);
	return path;
}

int
config_err_place(const struct config *node, struct err *err, int rc)
{
	char *path;

	if (err == NULL)
		return rc;
	path = config_path(node);
	/* What config_*() says names it already. */
	if (strncmp(err->msg, path, strlen(path)) != 0)
		(void)err_prefix(err, rc, "%s", path);
	free(path);
	return rc;
}

/* The full name of path below node, for messages. */
static char *
full_path(const struct config *node, const char *path)
{
	char *above, *full;

	if (node->parent == NULL)
		return xstrdup(path);
	above = config_path(node);
	full = xasprintf("%s.%s", above, path);
	free(above);
	return full;
}

static int
bad_name(const struct config *node, const char *path, struct err *err)
{
	char *full = full_path(node, path);

	(void)err_set(err, -EINVAL, "Invalid configuration node: %s", full);
	free(full);
	return -EINVAL;
}

static unsigned
config_depth(const struct config *node)
{
	unsigned depth = 0;

	for (; node->parent != NULL; node = node->parent)
		depth++;
	return depth;
}

/* Do all words of path have letters, and are there not too many of them? */
static bool
path_valid(const struct config *node, const char *path)
{
	unsigned depth = config_depth(node);
	size_t len;

	for (;; path += len + 1) {
		len = strcspn(path, ".");
		if (len == 0 || ++depth > CONFIG_DEPTH_MAX)
			return false;
		if (path[len] == '\0')
			return true;
	}
}

/*
 * What is at path, which may be a value, or NULL.  With `make` missing nodes
 * are made; then NULL means that *blocker, a value, is in the way.
 */
static struct config *
config_walk(struct config *node, const char *path, bool make,
    struct config **blocker)
{
	char *copy, *rest, *word;

	if (!path_valid(node, path))
		return NULL;
	copy = rest = xstrdup(path);
	while (node != NULL && (word = strsep(&rest, ".")) != NULL) {
		struct config *child = config_lookup(node, word);

		if (child == NULL && make) {
			if (node->value != NULL)
				*blocker = node;
			else
				child = config_add(node, word, NULL);
		}
		node = child;
	}
	free(copy);
	return node;
}

struct config *
config_find(struct config *node, const char *path)
{
	struct config *found = config_walk(node, path, false, NULL);

	return found != NULL && found->value == NULL ? found : NULL;
}

int
config_make(struct config *node, const char *path, struct config **made,
    struct err *err)
{
	struct config *blocker = NULL, *found;
	char *full, *var;

	if (!path_valid(node, path))
		return bad_name(node, path, err);
	found = config_walk(node, path, true, &blocker);
	if (found != NULL && found->value == NULL) {
		*made = found;
		return 0;
	}
	full = full_path(node, path);
	var = config_path(blocker != NULL ? blocker : found);
	(void)err_set(err, -ENOTDIR,
	    "Configuration node %s is a child of existing variable %s", full,
	    var);
	free(full);
	free(var);
	return -ENOTDIR;
}

int
config_set(struct config *node, const char *path, const char *value,
    struct err *err)
{
	const char *dot = strrchr(path, '.');
	char *full, *word, *copy;
	struct config *old;
	int r;

	if (!path_valid(node, path))
		return bad_name(node, path, err);
	if (value[0] == '\0') {
		full = full_path(node, path);
		(void)err_set(err, -EINVAL, "%s: the value is empty", full);
		free(full);
		return -EINVAL;
	}
	if (dot != NULL) {
		char *above = config_strndup(path, (size_t)(dot - path));

		r = config_make(node, above, &node, err);
		free(above);
		if (r < 0)
			return r;
		path = dot + 1;
	}
	word = xstrdup(path);
	copy = xstrdup(value); /* before the old one goes: it may be that one */
	old = config_lookup(node, word);
	if (old != NULL && old->value == NULL) {
		full = full_path(node, path);
		r = err_set(err, -EISDIR,
		    "Attempting to add value %s to existing node %s", value,
		    full);
		free(full);
		free(copy);
	} else {
		if (old != NULL)
			config_remove(old);
		(void)config_add(node, word, copy);
		r = 0;
	}
	free(word);
	return r;
}

int
config_set_fmt(struct config *node, struct err *err, const char *path,
    const char *fmt, ...)
{
	va_list ap;
	char *value;
	int r;

	va_start(ap, fmt);
	if (vasprintf(&value, fmt, ap) < 0)
		abort(); /* out of memory */
	va_end(ap);
	r = config_set(node, path, value, err);
	free(value);
	return r;
}

int
config_set_option(struct config *root, const char *option, struct err *err)
{
	const char *equals = strchr(option, '=');
	char *path;
	int r = -EINVAL;

	if (equals != NULL) {
		path = config_strndup(option, (size_t)(equals - option));
		r = config_set(root, path, equals + 1, err);
		free(path);
	}
	if (r == -EINVAL)
		return err_set(err, r, "invalid configuration option '%s'",
		    option);
	return r;
}

/* Cut text, which ends with a NUL beyond its len bytes, into options. */
static int
config_read_text(struct config *root, const char *file, char *text, size_t len,
    struct err *err)
{
	char *end;
	int r;

	for (unsigned line = 1; len > 0; line++) {
		size_t used;

		end = memchr(text, '\n', len);
		used = end != NULL ? (size_t)(end - text) + 1 : len;
		if (end != NULL)
			*end = '\0';
		else
			end = text + len;
		if (text[0] != '#' && end != text) {
			r = memchr(text, '\0', (size_t)(end - text)) != NULL ?
			    -EINVAL :
			    config_set_option(root, text, err);
			if (r == -EINVAL)
				return err_set(err, r,
				    "%s line %u: invalid config option '%s'",
				    file, line, text);
			if (r < 0)
				return err_prefix(err, r, "%s line %u", file,
				    line);
		}
		text += used;
		len -= used;
	}
	return 0;
}

int
config_read_file(struct config *root, const char *file, struct err *err)
{
	FILE *f = fopen(file, "re");
	size_t len = 0, room = 0;
	char *text = NULL;
	int r = 0;

	if (f == NULL)
		return err_set_errno(err, -errno,
		    "Failed to open configuration file %s", file);
	do {
		/* A file may be a pipe, so its size is known at its end. */
		if (len + 1 >= room) {
			room = MAX(room * 2, (size_t)4096);
			text = xreallocarray(text, room, 1);
		}
		len += fread(text + len, 1, room - 1 - len, f);
	} while (!feof(f) && !ferror(f) && len <= CONFIG_FILE_MAX);
	if (ferror(f))
		r = err_set_errno(err, -EIO,
		    "Failed to read configuration file %s", file);
	else if (len > CONFIG_FILE_MAX)
		r = err_set(err, -EFBIG,
		    "%s: a configuration file has at most %ju bytes", file,
		    (uintmax_t)CONFIG_FILE_MAX);
	(void)fclose(f);
	if (r == 0) {
		text[len] = '\0';
		r = config_read_text(root, file, text, len, err);
	}
	free(text);
	return r;
}

void
config_unset(struct config *node, const char *path)
{
	struct config *found = config_walk(node, path, false, NULL);

	if (found != NULL)
		config_remove(found);
}

const char *
config_raw(struct config *node, const char *path)
{
	struct config *found = config_walk(node, path, false, NULL);

	return found != NULL ? found->value : NULL;
}

bool
config_has(struct config *node, const char *path)
{
	return config_raw(node, path) != NULL;
}

/*
 * Append value with its references followed.  The length of the result bounds
 * the work: what a reference stands for is never empty (invariant 2).
 */
static int
config_expand(struct config *root, const char *value, unsigned depth,
    struct buf *out, struct err *err)
{
	const char *close, *raw;
	char *var;
	int r;

	while (*value != '\0') {
		if (out->len > EXPAND_LEN_MAX)
			return err_set(err, -EINVAL,
			    "expands to more than %ju bytes",
			    (uintmax_t)EXPAND_LEN_MAX);
		if (value[0] != '%' || (value[1] != '(' && value[1] != '%')) {
			size_t len = strcspn(value + 1, "%") + 1;

			buf_put(out, value, len);
			value += len;
			continue;
		}
		if (value[1] == '%') {
			buf_put(out, "%", 1);
			value += 2;
			continue;
		}
		value += 2;
		close = strchr(value, ')');
		if (close == NULL)
			return err_set(err, -EINVAL,
			    "\"%%(%s\" has no closing parenthesis", value);
		var = config_strndup(value, (size_t)(close - value));
		raw = config_raw(root, var);
		if (raw == NULL)
			r = err_set(err, -EINVAL, "%%(%s) is not set", var);
		else if (depth == EXPAND_DEPTH_MAX)
			r = err_set(err, -ELOOP,
			    "references go too deep, the last to %s", var);
		else
			r = config_expand(root, raw, depth + 1, out, err);
		free(var);
		if (r < 0)
			return r;
		value = close + 1;
	}
	return 0;
}

int
config_get(struct config *node, const char *path, char **value, struct err *err)
{
	const char *raw = config_raw(node, path);
	struct buf text = { 0 };
	char *full;
	int r;

	if (raw == NULL)
		return -ENOENT;
	r = config_expand(config_root(node), raw, 0, &text, err);
	if (r < 0) {
		full = full_path(node, path);
		(void)err_prefix(err, r, "%s", full);
		free(full);
		buf_fini(&text);
		return r;
	}
	buf_put(&text, "", 1);
	*value = (char *)text.data;
	return 0;
}

int
config_str(struct config *node, const char *path, const char *dflt,
    char **value, struct err *err)
{
	int r = config_get(node, path, value, err);

	if (r != -ENOENT)
		return r;
	*value = dflt != NULL ? xstrdup(dflt) : NULL;
	return 0;
}

int
config_bool(struct config *node, const char *path, bool dflt, bool *value,
    struct err *err)
{
	char *full, *text;
	int r = config_get(node, path, &text, err);

	if (r == -ENOENT) {
		*value = dflt;
		return 0;
	}
	if (r < 0)
		return r;
	r = parse_bool(text, value);
	if (r < 0) {
		full = full_path(node, path);
		(void)err_set(err, r,
		    "Invalid value %s for boolean variable %s", text, full);
		free(full);
	}
	free(text);
	return r;
}

int
config_int(struct config *node, const char *path, int64_t dflt, int64_t min,
    int64_t max, int64_t *value, struct err *err)
{
	char *full, *text;
	int r = config_get(node, path, &text, err);

	if (r == -ENOENT) {
		*value = dflt;
		return 0;
	}
	if (r < 0)
		return r;
	r = parse_int(text, min, max, value);
	if (r < 0) {
		full = full_path(node, path);
		(void)err_set(err, r, "Invalid value for %s: '%s'", full, text);
		free(full);
	}
	free(text);
	return r;
}

struct config *
config_child(struct config *node, struct config *after)
{
	return after != NULL ? TAILQ_NEXT(after, link) :
			       TAILQ_FIRST(&node->children);
}

const char *
config_value(const struct config *child)
{
	return child->value;
}

static void
config_dump_node(const struct config *node, const char *prefix, FILE *out)
{
	const struct config *child;

	TAILQ_FOREACH (child, &node->children, link) {
		if (child->value != NULL) {
			(void)fprintf(out, "%s%s=%s\n", prefix, child->name,
			    child->value);
		} else {
			char *longer = xasprintf("%s%s.", prefix, child->name);

			config_dump_node(child, longer, out);
			free(longer);
		}
	}
}

int
config_dump(struct config *root, FILE *out, struct err *err)
{
	config_dump_node(root, "", out);
	if (fflush(out) != 0)
		return err_set_errno(err, -errno,
		    "Failed to write the configuration");
	/* An earlier write failed, when the buffer was full. */
	if (ferror(out))
		return err_set(err, -EIO, "Failed to write the configuration");
	return 0;
}
