/*
 * Fields of 9P messages, and the buffers that they travel in.
 *
 * Fields are read from our copy of a message.  A wrong one is remembered in the
 * call and p9_parsed() tells, so that a handler reads all of its fields first
 * and asks once.
 */
#include <errno.h>
#include <string.h>

#include "base/wire.h"
#include "p9/p9_impl.h"

/* qid.type */
#define QTDIR 0x80
#define QTSYMLINK 0x02

uint64_t
p9_int(struct p9_call *call, unsigned size)
{
	return reader_int(&call->in, size);
}

static void
wrong(struct p9_call *call, int error)
{
	if (call->error == 0)
		call->error = error;
}

const void *
p9_bytes(struct p9_call *call, uint16_t *len)
{
	*len = reader_int(&call->in, 2);
	return reader_take(&call->in, *len);
}

void
p9_text(struct p9_call *call, char *text, size_t size)
{
	uint16_t len;
	const void *bytes = p9_bytes(call, &len);

	text[0] = '\0';
	if (bytes == NULL)
		return;
	if (memchr(bytes, '\0', len) != NULL) {
		wrong(call, -EINVAL);
	} else if (len >= size) {
		wrong(call, -ENAMETOOLONG);
	} else {
		memcpy(text, bytes, len);
		text[len] = '\0';
	}
}

void
p9_step_name(struct p9_call *call, char name[NAME_MAX + 1])
{
	p9_text(call, name, NAME_MAX + 1);
	if (name[0] == '\0' || strchr(name, '/') != NULL)
		wrong(call, -EINVAL);
}

void
p9_name(struct p9_call *call, char name[NAME_MAX + 1])
{
	p9_step_name(call, name);
	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		wrong(call, -EINVAL);
}

int
p9_parsed(const struct p9_call *call)
{
	if (call->in.bad || reader_left(&call->in) != 0)
		return -EPROTO;
	return call->error;
}

void
p9_put(struct p9_call *call, uint64_t value, unsigned size)
{
	le64 wire = le64_make(value);

	assert(size <= sizeof(call->reply) - call->len);
	memcpy(call->reply + call->len, &wire, size);
	call->len += size;
}

void
p9_put_bytes(struct p9_call *call, const void *bytes, uint16_t len)
{
	p9_put(call, len, 2);
	assert(len <= sizeof(call->reply) - call->len);
	memcpy(call->reply + call->len, bytes, len);
	call->len += len;
}

/*
 * An inode number is unique on its device only.  The root's device adds
 * nothing; another turns about half of the bits over, the upper ones among
 * them, which no inode number of a real file system reaches.
 */
static uint64_t
qid_path(const struct p9 *server, dev_t dev, ino_t ino)
{
	uint64_t mix = dev ^ server->root_dev;

	mix *= 0x9e3779b97f4a7c15;
	mix ^= mix >> 32;
	mix *= 0xd6e8feb86659fd93;
	return ino ^ mix;
}

void
p9_qid_store(const struct p9 *server, uint8_t qid[P9_QID], dev_t dev, ino_t ino,
    mode_t type, uint32_t version)
{
	qid[0] = S_ISDIR(type) ? QTDIR : S_ISLNK(type) ? QTSYMLINK : 0;
	le32_store(qid + 1, version);
	le64_store(qid + 5, qid_path(server, dev, ino));
}

void
p9_put_qid(struct p9_call *call, const struct stat *st)
{
	uint32_t version = st->st_mtim.tv_sec ^ st->st_mtim.tv_nsec ^
	    (uint64_t)st->st_size << 8;

	assert(P9_QID <= sizeof(call->reply) - call->len);
	p9_qid_store(call->server, call->reply + call->len, st->st_dev,
	    st->st_ino, st->st_mode, version);
	call->len += P9_QID;
}

size_t
p9_iov_size(const struct iovec *iov, unsigned count)
{
	size_t size = 0;

	/* Far more than a message is as good as any sum. */
	for (unsigned i = 0; i < count && size <= P9_MSIZE_MAX; i++)
		size += MIN(iov[i].iov_len, (size_t)P9_MSIZE_MAX + 1);
	return size;
}

size_t
p9_iov_read(const struct iovec *iov, unsigned count, size_t off, void *bytes,
    size_t len)
{
	uint8_t *to = bytes;
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - off, len - done);
		memcpy(to + done, (const uint8_t *)iov[i].iov_base + off, part);
		done += part;
		off = 0;
	}
	return done;
}

size_t
p9_iov_write(const struct iovec *iov, unsigned count, size_t off,
    const void *bytes, size_t len)
{
	const uint8_t *from = bytes;
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		size_t part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - off, len - done);
		memcpy((uint8_t *)iov[i].iov_base + off, from + done, part);
		done += part;
		off = 0;
	}
	return done;
}

unsigned
p9_iov_slice(const struct iovec *iov, unsigned count, size_t off, size_t len,
    struct iovec slice[P9_IOV_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < count && len > 0 && n < P9_IOV_MAX; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		slice[n].iov_base = (uint8_t *)iov[i].iov_base + off;
		slice[n].iov_len = MIN(iov[i].iov_len - off, len);
		len -= slice[n].iov_len;
		off = 0;
		n++;
	}
	return n;
}
