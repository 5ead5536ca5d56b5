/*
 * MD5.
 *
 * Models       RFC 1321, for whole messages in memory.
 * Leaves out   streaming: what is hashed here is a name, not a file.
 *
 * The message is cut into blocks of 64 bytes.  The last ones hold its tail, a
 * 1 bit, zeros, and the length in bits; they are built on the stack.
 */
#include <string.h>

#include "base/md5.h"
#include "base/util.h"
#include "base/wire.h"

#define MD5_BLOCK 64u

/* floor(2^32 * |sin(i + 1)|), section 3.4 */
static const uint32_t md5_sine[64] = {
	/* clang-format off */
	0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee,
	0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
	0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be,
	0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
	0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa,
	0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
	0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
	0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
	0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
	0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
	0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05,
	0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
	0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039,
	0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
	0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
	0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
	/* clang-format on */
};

/* Rotations: one row a round, repeating every four steps. */
static const uint8_t md5_rotate[4][4] = {
	{ 7, 12, 17, 22 },
	{ 5, 9, 14, 20 },
	{ 4, 11, 16, 23 },
	{ 6, 10, 15, 21 },
};

static uint32_t
rotate_left(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static void
md5_block(uint32_t sum[4], const uint8_t block[MD5_BLOCK])
{
	uint32_t a = sum[0], b = sum[1], c = sum[2], d = sum[3];

	for (unsigned i = 0; i < 64; i++) {
		uint32_t mix, next;
		unsigned word;

		switch (i / 16) {
		case 0:
			mix = (b & c) | (~b & d);
			word = i;
			break;
		case 1:
			mix = (b & d) | (c & ~d);
			word = 5 * i + 1;
			break;
		case 2:
			mix = b ^ c ^ d;
			word = 3 * i + 5;
			break;
		default:
			mix = c ^ (b | ~d);
			word = 7 * i;
			break;
		}
		mix += a + md5_sine[i] + le32_load(block + word % 16 * 4);
		next = b + rotate_left(mix, md5_rotate[i / 16][i % 4]);
		a = d;
		d = c;
		c = b;
		b = next;
	}
	sum[0] += a;
	sum[1] += b;
	sum[2] += c;
	sum[3] += d;
}

void
md5(const void *data, size_t len, uint8_t digest[MD5_SIZE])
{
	uint32_t sum[4] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 };
	uint8_t tail[2 * MD5_BLOCK] = { 0 };
	const uint8_t *p = data;
	size_t left, end;

	for (left = len; left >= MD5_BLOCK; left -= MD5_BLOCK) {
		md5_block(sum, p);
		p += MD5_BLOCK;
	}
	if (left > 0)
		memcpy(tail, p, left);
	tail[left] = 0x80;
	end = left < MD5_BLOCK - 8 ? MD5_BLOCK : 2 * MD5_BLOCK;
	le64_store(tail + end - 8, (uint64_t)len * 8);
	for (size_t off = 0; off < end; off += MD5_BLOCK)
		md5_block(sum, tail + off);
	for (unsigned i = 0; i < 4; i++)
		le32_store(digest + i * 4, sum[i]);
}
