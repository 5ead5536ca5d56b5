/*
 * alloc.h's allocators that do not fail.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

static void *
alloc_checked(void *p)
{
	if (p == NULL) {
		log_error("out of memory");
		abort();
	}
	return p;
}

void *
xcalloc(size_t n, size_t size)
{
	return alloc_checked(calloc(n != 0 ? n : 1, size != 0 ? size : 1));
}

void *
xreallocarray(void *old, size_t n, size_t size)
{
	return alloc_checked(
	    reallocarray(old, n != 0 ? n : 1, size != 0 ? size : 1));
}

char *
xstrdup(const char *s)
{
	return alloc_checked(strdup(s));
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return alloc_checked(n < 0 ? NULL : s);
}
