/*
 * Rate limits: token buckets of bits.
 *
 * A bucket fills at its rate up to `burst`.  A frame passes while it is not in
 * debt, and takes all of its bits at once; so a frame longer than the burst is
 * late, never stuck.  What has been earned is computed from the time when
 * somebody asks, with the fraction of a bit kept: no rate is rounded away.
 *
 * Locking      the caller's.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/parse.h"
#include "net/net_impl.h"

#define LIMIT_RATE_MIN 8000ULL
#define LIMIT_RATE_MAX 1000000000000ULL
#define LIMIT_BURST_MAX 8000000000000LL
/* The time whose worth of bits is the burst if none is given. */
#define LIMIT_BURST_SHARE 20

int
limit_parse(const char *text, uint64_t *bits, struct err *err)
{
	static const char suffixes[] = "kmg";
	char *end;
	unsigned long long n;
	uint64_t factor = 1;

	if (text[0] < '0' || text[0] > '9')
		goto malformed;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno != 0)
		goto malformed;
	if (*end != '\0') {
		uint64_t unit = 1000;
		const char *s = suffixes;

		while (*s != '\0' && *s != (*end | 0x20)) {
			unit *= 1000;
			s++;
		}
		if (*s == '\0' || end[1] != '\0')
			goto malformed;
		factor = unit;
	}
	if (mul_overflows(n, factor, &factor) || factor > LIMIT_RATE_MAX ||
	    (factor != 0 && factor < LIMIT_RATE_MIN))
		return err_set(err, -ERANGE,
		    "%s: not 0 or from 8K to 1000G bits", text);
	*bits = factor;
	return 0;

malformed:
	return err_set(err, -EINVAL,
	    "%s: not a number of bits, such as 500K, 20M or 1G", text);
}

void
limit_init(struct limit *limit, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	if (burst == 0)
		burst = MAX(rate / LIMIT_BURST_SHARE, NET_FRAME_MAX * 8ULL);
	*limit = (struct limit) {
		.rate = rate,
		.burst = (int64_t)MIN(burst, (uint64_t)LIMIT_BURST_MAX),
		.filled = now_ns,
	};
	limit->level = limit->burst;
}

static void
limit_fill(struct limit *limit, uint64_t now_ns)
{
	uint64_t room = (uint64_t)(limit->burst - limit->level);
	unsigned __int128 earned;

	if (now_ns <= limit->filled)
		return;
	earned = (unsigned __int128)(now_ns - limit->filled) * limit->rate +
	    limit->rest;
	limit->filled = now_ns;
	if (earned / NS_PER_SEC >= room) {
		limit->level = limit->burst;
		limit->rest = 0;
		return;
	}
	limit->level += (int64_t)(earned / NS_PER_SEC);
	limit->rest = (uint64_t)(earned % NS_PER_SEC);
}

uint64_t
limit_wait(struct limit *limit, uint64_t now_ns)
{
	unsigned __int128 missing;

	if (limit->rate == 0)
		return 0;
	limit_fill(limit, now_ns);
	if (limit->level >= 0)
		return 0;
	missing = (unsigned __int128)-limit->level * NS_PER_SEC - limit->rest;
	return (uint64_t)((missing + limit->rate - 1) / limit->rate);
}

void
limit_charge(struct limit *limit, uint64_t bytes)
{
	if (limit->rate != 0)
		limit->level -= (int64_t)(bytes * 8);
}
