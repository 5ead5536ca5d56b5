/*
 * One sentence for the person who asked.
 *
 * A function that can fail because of what a person wrote takes a last
 * `struct err *err`.  Whoever finds the failure writes the sentence there and
 * returns a negative errno; those above pass both on, untouched.  `err` may be
 * NULL where the caller does not care for the words.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/util.h"

struct err {
	char msg[512];
};

/* Write the sentence and return `code`, which must be negative. */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The same with ": " and the text of errno `-code` behind the sentence. */
int err_set_errno(struct err *err, int code, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* Put "context: " in front of a sentence already there.  Returns `code`. */
int err_prefix(struct err *err, int code, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

#endif
