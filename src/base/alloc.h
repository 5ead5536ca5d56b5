/*
 * Memory for our own structures.
 *
 * These never return NULL: a host that cannot give a few kilobytes while a
 * machine is being put together cannot run it.  What a guest, an image or a
 * peer can size goes through calloc(3) with a named limit, and its failure is
 * an error like any other.
 */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stddef.h>
#include <stdlib.h>

#include "base/util.h"

/* n zeroed objects of size bytes; n * size is checked. */
void *xcalloc(size_t n, size_t size);

/* Room for n objects of size bytes, the old ones kept, new ones undefined. */
void *xreallocarray(void *old, size_t n, size_t size);

char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

#endif
