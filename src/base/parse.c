/*
 * Numbers as people write them.
 *
 * strtol(3) and its family do the work, but what they let pass is refused:
 * blanks in front, a minus sign on an unsigned number, anything behind.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/parse.h"
#include "base/util.h"

int
parse_int(const char *text, int64_t min, int64_t max, int64_t *value)
{
	intmax_t n;
	char *end;

	if (isspace((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	n = strtoimax(text, &end, 0);
	if (end == text || *end != '\0')
		return -EINVAL;
	if (errno == ERANGE || n < min || n > max)
		return -ERANGE;
	*value = n;
	return 0;
}

/* The number that text begins with; *end is what follows it. */
static int
parse_prefix(const char *text, uint64_t *value, char **end)
{
	/* strtoumax() would take blanks, and wrap negative numbers around. */
	if (!isdigit((unsigned char)text[text[0] == '+' ? 1 : 0]))
		return -EINVAL;
	errno = 0;
	*value = strtoumax(text, end, 0);
	return errno == ERANGE ? -ERANGE : 0;
}

int
parse_uint(const char *text, uint64_t max, uint64_t *value)
{
	uint64_t n;
	char *end;
	int r = parse_prefix(text, &n, &end);

	if (r == -EINVAL || *end != '\0')
		return -EINVAL;
	if (r < 0 || n > max)
		return -ERANGE;
	*value = n;
	return 0;
}

int
parse_size(const char *text, uint64_t *value)
{
	static const char suffixes[] = "kmgtpe";
	unsigned shift = 0;
	uint64_t n;
	char *end;
	int r = parse_prefix(text, &n, &end);

	if (r == -EINVAL)
		return r;
	if (*end != '\0') {
		const char *s = strchr(suffixes, tolower((unsigned char)*end));

		if (s == NULL || end[1] != '\0')
			return -EINVAL;
		shift = 10 * (unsigned)(s - suffixes + 1);
	}
	if (r < 0 || n > UINT64_MAX >> shift)
		return -ERANGE;
	*value = n << shift;
	return 0;
}

int
parse_memsize(const char *text, uint64_t *value)
{
	uint64_t n;
	int r = parse_uint(text, UINT64_MAX, &n);

	if (r < 0)
		return parse_size(text, value);
	*value = n < MIB ? n * MIB : n;
	return 0;
}

int
parse_bool(const char *text, bool *value)
{
	static const struct {
		const char *text;
		bool value;
	} words[] = {
		{ "true", true },
		{ "yes", true },
		{ "on", true },
		{ "1", true },
		{ "false", false },
		{ "no", false },
		{ "off", false },
		{ "0", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasecmp(text, words[i].text) == 0) {
			*value = words[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

int
parse_hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
parse_cpus(const char *text, cpu_set_t *cpus)
{
	cpu_set_t set = *cpus;
	char *end;
	unsigned long first, last;

	do {
		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		first = last = strtoul(text, &end, 10);
		if (*end == '-') {
			text = end + 1;
			if (!isdigit((unsigned char)*text))
				return -EINVAL;
			last = strtoul(text, &end, 10);
		}
		if (first > last || (*end != '\0' && *end != ','))
			return -EINVAL;
		if (last >= CPU_SETSIZE)
			return -ERANGE;
		for (; first <= last; first++)
			CPU_SET(first, &set);
		text = end + 1;
	} while (*end == ',');
	*cpus = set;
	return 0;
}
