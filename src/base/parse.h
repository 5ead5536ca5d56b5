/*
 * Numbers as people write them on command lines and in files.
 *
 * Unless said otherwise they return 0, or -EINVAL for text that is not wholly a
 * number, or -ERANGE; the result is written on success only.
 */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

/* As strtol(3) with base 0: decimal, 0x hexadecimal, leading 0 octal. */
int parse_int(const char *text, int64_t min, int64_t max, int64_t *value);
int parse_uint(const char *text, uint64_t max, uint64_t *value);

/* A count with an optional K M G T P E suffix in either case (powers of 1024). */
int parse_size(const char *text, uint64_t *value);

/* bhyve's -m: parse_size(), but a bare number below 1 MiB counts MiB. */
int parse_memsize(const char *text, uint64_t *value);

/* true yes on 1, false no off 0, in any case. */
int parse_bool(const char *text, bool *value);

/* The value of a hexadecimal digit in either case, or -1. */
int parse_hex_digit(char c);

/* A list of CPUs, "0-3,6", added to those already in the set. */
int parse_cpus(const char *text, cpu_set_t *cpus);

#endif
