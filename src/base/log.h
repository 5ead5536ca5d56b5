/*
 * The log: one line a message, to standard error unless told otherwise.
 *
 * Begin with the device: "nvme0: queue 3: ...".  What a guest can provoke is
 * logged through log_guest(), at a limited rate and with its text escaped.
 * Any thread may log.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/util.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO };

/* Messages below this level are dropped.  Default LOG_WARN. */
void log_set_level(enum log_level level);

/* Where lines go: NULL for standard error.  Tests use it. */
typedef void log_sink_fn(enum log_level level, const char *line);
void log_set_sink(log_sink_fn *sink);

/* error: the machine cannot go on; warn: with less; info: its life changed. */
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);

/*
 * Something the guest provoked.  Each place in the source has one `limit`,
 * static and zeroed: ten lines, then one a second, with a count of those left
 * out.
 */
struct log_limit {
	_Atomic uint64_t second; /* last looked at */
	_Atomic uint64_t spent;  /* lines not earned back yet */
	_Atomic uint64_t dropped;
};
void log_guest(struct log_limit *limit, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
