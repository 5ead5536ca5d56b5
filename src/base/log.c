/*
 * The log.  A line is formatted on the caller's stack and written with one
 * write(2), so lines of several threads do not mix.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define LOG_LINE_MAX 1024
#define LOG_GUEST_BURST 10

static _Atomic(enum log_level) log_level = LOG_WARN;
static _Atomic(log_sink_fn *) log_sink;

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

void
log_set_sink(log_sink_fn *sink)
{
	atomic_store_explicit(&log_sink, sink, memory_order_relaxed);
}

/* Control characters could steer the terminal that shows the log. */
static void
log_escape(char *line)
{
	for (char *p = line; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	}
}

static void log_write(enum log_level level, const char *fmt, va_list ap,
    const char *tail) PRINTF_LIKE(2, 0);

static void
log_write(enum log_level level, const char *fmt, va_list ap, const char *tail)
{
	char line[LOG_LINE_MAX];
	log_sink_fn *sink;
	int n;

	if (level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	if (n < 0)
		return;
	n = MIN(n, (int)sizeof(line) - 2);
	n += snprintf(line + n, sizeof(line) - 1 - (size_t)n, "%s", tail);
	n = MIN(n, (int)sizeof(line) - 2);
	log_escape(line);
	sink = atomic_load_explicit(&log_sink, memory_order_relaxed);
	if (sink != NULL) {
		sink(level, line);
		return;
	}
	line[n] = '\n';
	/* A log that cannot be written has nobody to be told. */
	(void)!write(STDERR_FILENO, line, (size_t)n + 1);
}

#define LOG_FORWARD(level, fmt, tail)             \
	do {                                      \
		va_list ap_;                      \
                                                  \
		va_start(ap_, fmt);               \
		log_write(level, fmt, ap_, tail); \
		va_end(ap_);                      \
	} while (0)

void
log_error(const char *fmt, ...)
{
	LOG_FORWARD(LOG_ERROR, fmt, "");
}

void
log_warn(const char *fmt, ...)
{
	LOG_FORWARD(LOG_WARN, fmt, "");
}

void
log_info(const char *fmt, ...)
{
	LOG_FORWARD(LOG_INFO, fmt, "");
}

void
log_guest(struct log_limit *limit, const char *fmt, ...)
{
	uint64_t second, seen, spent, dropped;
	struct timespec now;
	char tail[64] = "";

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	second = (uint64_t)now.tv_sec;
	seen = atomic_load_explicit(&limit->second, memory_order_relaxed);
	/* Whoever sees a new second first earns a line for each that passed. */
	if (seen != second &&
	    atomic_compare_exchange_strong_explicit(&limit->second, &seen,
		second, memory_order_relaxed, memory_order_relaxed)) {
		spent =
		    atomic_load_explicit(&limit->spent, memory_order_relaxed);
		spent -= MIN(spent, second - seen);
		atomic_store_explicit(&limit->spent, spent,
		    memory_order_relaxed);
	}
	if (atomic_fetch_add_explicit(&limit->spent, 1, memory_order_relaxed) >=
	    LOG_GUEST_BURST) {
		atomic_fetch_sub_explicit(&limit->spent, 1,
		    memory_order_relaxed);
		atomic_fetch_add_explicit(&limit->dropped, 1,
		    memory_order_relaxed);
		return;
	}
	dropped =
	    atomic_exchange_explicit(&limit->dropped, 0, memory_order_relaxed);
	if (dropped != 0)
		(void)snprintf(tail, sizeof(tail), " (%ju more left out)",
		    (uintmax_t)dropped);
	LOG_FORWARD(LOG_WARN, fmt, tail);
}
