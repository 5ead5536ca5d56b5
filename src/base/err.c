/*
 * err.h's sentences.  A sentence too long for its buffer is cut, never lost.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

static void err_format(struct err *err, const char *fmt, va_list ap)
    PRINTF_LIKE(2, 0);

static void
err_format(struct err *err, const char *fmt, va_list ap)
{
	if (err != NULL)
		(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
}

int
err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	assert(code < 0);
	va_start(ap, fmt);
	err_format(err, fmt, ap);
	va_end(ap);
	return code;
}

int
err_set_errno(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	assert(code < 0);
	va_start(ap, fmt);
	err_format(err, fmt, ap);
	va_end(ap);
	if (err != NULL) {
		len = strlen(err->msg);
		(void)snprintf(err->msg + len, sizeof(err->msg) - len, ": %s",
		    strerror(-code));
	}
	return code;
}

int
err_prefix(struct err *err, int code, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;
	size_t len;

	assert(code < 0);
	if (err == NULL)
		return code;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	err_format(err, fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	(void)snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", old);
	return code;
}
