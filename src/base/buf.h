/*
 * Byte buffers for saved state: one that grows, one that is read with care.
 *
 * Everything is little-endian.  A reader over foreign bytes never runs past
 * its end: a short read sets `bad` and yields zeros, so that a parser may read
 * a whole structure and ask once.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/util.h"

struct buf {
	uint8_t *data; /* owned */
	size_t len;
	size_t room;
};

void buf_fini(struct buf *buf);
void buf_put(struct buf *buf, const void *data, size_t len);
/* The low `size` bytes (1, 2, 4 or 8) of value. */
void buf_put_int(struct buf *buf, uint64_t value, unsigned size);
/* A 16-bit length, then the bytes. */
void buf_put_str(struct buf *buf, const char *s);

struct reader {
	const uint8_t *data; /* borrowed */
	size_t len;
	size_t pos;
	bool bad;
};

static inline struct reader
reader_make(const void *data, size_t len)
{
	return (struct reader) { .data = data, .len = len };
}

static inline size_t
reader_left(const struct reader *r)
{
	return r->len - r->pos;
}

/* NULL when fewer than len bytes are left. */
const void *reader_take(struct reader *r, size_t len);
uint64_t reader_int(struct reader *r, unsigned size);
/* A string as buf_put_str() wrote it, cut to fit and ended with a NUL. */
void reader_str(struct reader *r, char *s, size_t size);

#endif
