/*
 * Byte buffers for saved state.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"

void
buf_fini(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf) { 0 };
}

void
buf_put(struct buf *buf, const void *data, size_t len)
{
	if (len == 0)
		return;
	if (len > buf->room - buf->len) {
		buf->room = MAX(buf->room * 2, buf->len + len);
		buf->data = xreallocarray(buf->data, buf->room, 1);
	}
	memcpy(buf->data + buf->len, data, len);
	buf->len += len;
}

void
buf_put_int(struct buf *buf, uint64_t value, unsigned size)
{
	uint8_t bytes[8];

	assert(size <= sizeof(bytes));
	for (unsigned i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> (i * 8));
	buf_put(buf, bytes, size);
}

void
buf_put_str(struct buf *buf, const char *s)
{
	size_t len = strlen(s);

	assert(len <= UINT16_MAX);
	buf_put_int(buf, len, 2);
	buf_put(buf, s, len);
}

const void *
reader_take(struct reader *r, size_t len)
{
	const void *p;

	if (r->bad || len > reader_left(r)) {
		r->bad = true;
		return NULL;
	}
	p = r->data + r->pos;
	r->pos += len;
	return p;
}

uint64_t
reader_int(struct reader *r, unsigned size)
{
	const uint8_t *p = reader_take(r, size);
	uint64_t value = 0;

	if (p == NULL)
		return 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)p[i] << (i * 8);
	return value;
}

void
reader_str(struct reader *r, char *s, size_t size)
{
	size_t len = (size_t)reader_int(r, 2);
	const void *p = reader_take(r, len);

	s[0] = '\0';
	if (p == NULL)
		return;
	len = MIN(len, size - 1);
	memcpy(s, p, len);
	s[len] = '\0';
}
