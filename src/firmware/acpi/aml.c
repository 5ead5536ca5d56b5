/*
 * AML: encoding of terms, names, lengths and resource descriptors.
 *
 * Models       ACPI 6.4, sections 20.2 (AML grammar) and 6.4 (resource data
 *              types), the part of them that our DSDT needs.
 * Lengths      A PkgLength counts its own bytes, of which it has one to four,
 *              so it is only known at the end.  Opening remembers the place,
 *              aml_end() moves the content up and writes the length before it.
 *              Objects close in reverse order, so places inside stay right.
 * Locking      none; a builder belongs to one thread.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "firmware/acpi/aml.h"

#define AML_NAME_OP 0x08
#define AML_BYTE_PREFIX 0x0a
#define AML_WORD_PREFIX 0x0b
#define AML_DWORD_PREFIX 0x0c
#define AML_QWORD_PREFIX 0x0e
#define AML_SCOPE_OP 0x10
#define AML_BUFFER_OP 0x11
#define AML_PACKAGE_OP 0x12
#define AML_METHOD_OP 0x14
#define AML_DUAL_NAME_PREFIX 0x2e
#define AML_MULTI_NAME_PREFIX 0x2f
#define AML_EXT_PREFIX 0x5b
#define AML_EXT_REGION 0x80
#define AML_EXT_FIELD 0x81
#define AML_EXT_DEVICE 0x82
#define AML_IF_OP 0xa0
#define AML_ONES_OP 0xff

#define AML_FIELD_BYTE_ACC 0x01 /* NoLock and Preserve are zeros */
#define AML_METHOD_SERIALIZED 0x08

#define AML_WORD_LEN 4 /* a NameSeg */
#define AML_LENGTH_MAX 4
#define AML_INT_MAX 9

/* Resource descriptors: tags, and the flags of an address space. */
#define RES_IRQ_NO_FLAGS 0x22
#define RES_IRQ 0x23
#define RES_IRQ_LEVEL_LOW_SHARED 0x18
#define RES_IO 0x47
#define RES_IO_DECODE16 0x01
#define RES_END 0x79
#define RES_MEMORY32_FIXED 0x86
#define RES_DWORD_SPACE 0x87
#define RES_WORD_SPACE 0x88
#define RES_QWORD_SPACE 0x8a
#define RES_SPACE_FIXED 0x0c /* producer, PosDecode, MinFixed, MaxFixed */

void
aml_fini(struct aml *aml)
{
	buf_fini(&aml->out);
}

static void
aml_byte(struct aml *aml, uint8_t byte)
{
	buf_put(&aml->out, &byte, 1);
}

void
aml_op(struct aml *aml, enum aml_opcode opcode)
{
	aml_byte(aml, (uint8_t)opcode);
}

static unsigned
aml_int_encode(uint64_t value, uint8_t out[AML_INT_MAX])
{
	if (value <= 1 || value == UINT64_MAX) {
		out[0] = value == UINT64_MAX ? AML_ONES_OP : (uint8_t)value;
		return 1;
	}
	le64_store(out + 1, value);
	if (value <= UINT8_MAX) {
		out[0] = AML_BYTE_PREFIX;
		return 2;
	}
	if (value <= UINT16_MAX) {
		out[0] = AML_WORD_PREFIX;
		return 3;
	}
	if (value <= UINT32_MAX) {
		out[0] = AML_DWORD_PREFIX;
		return 5;
	}
	out[0] = AML_QWORD_PREFIX;
	return 9;
}

void
aml_int(struct aml *aml, uint64_t value)
{
	uint8_t bytes[AML_INT_MAX];

	buf_put(&aml->out, bytes, aml_int_encode(value, bytes));
}

/* The first word of a path, padded to four.  Returns what follows it. */
static const char *
aml_word(struct aml *aml, const char *word)
{
	char seg[AML_WORD_LEN] = { '_', '_', '_', '_' };
	size_t len = strcspn(word, ".");

	assert(len >= 1 && len <= AML_WORD_LEN);
	memcpy(seg, word, len);
	buf_put(&aml->out, seg, AML_WORD_LEN);
	return word[len] == '.' ? word + len + 1 : word + len;
}

void
aml_path(struct aml *aml, const char *path)
{
	unsigned words;

	for (; *path == '\\' || *path == '^'; path++)
		aml_byte(aml, (uint8_t)*path);
	words = *path != '\0';
	for (const char *p = path; *p != '\0'; p++)
		words += *p == '.';
	if (words == 0)
		aml_byte(aml, 0); /* NullName */
	if (words == 2)
		aml_byte(aml, AML_DUAL_NAME_PREFIX);
	if (words > 2) {
		aml_byte(aml, AML_MULTI_NAME_PREFIX);
		aml_byte(aml, (uint8_t)words);
	}
	while (*path != '\0')
		path = aml_word(aml, path);
}

static unsigned
aml_hex_digit(char c)
{
	const char digits[] = "0123456789ABCDEF";
	const char *digit = strchr(digits, c);

	assert(c != '\0' && digit != NULL);
	return (unsigned)(digit - digits);
}

/* Three letters of five bits, four hexadecimal digits, big-endian. */
void
aml_eisa_id(struct aml *aml, const char *id)
{
	uint32_t value = 0;

	assert(strlen(id) == 7);
	for (unsigned i = 0; i < 3; i++)
		value = value << 5 | ((unsigned)id[i] & 0x1f);
	for (unsigned i = 3; i < 7; i++)
		value = value << 4 | aml_hex_digit(id[i]);
	aml_int(aml, be32toh(htole32(value)));
}

void
aml_name(struct aml *aml, const char *word)
{
	aml_byte(aml, AML_NAME_OP);
	aml_path(aml, word);
}

void
aml_name_int(struct aml *aml, const char *word, uint64_t value)
{
	aml_name(aml, word);
	aml_int(aml, value);
}

void
aml_name_eisa_id(struct aml *aml, const char *word, const char *id)
{
	aml_name(aml, word);
	aml_eisa_id(aml, id);
}

/* ---- what has a length --------------------------------------------------- */

static void
aml_begin(struct aml *aml, bool template)
{
	assert(aml->depth < AML_DEPTH_MAX);
	aml->open[aml->depth++] = (struct aml_open) {
		.start = aml->out.len,
		.template = template,
	};
}

/* Make room for bytes at `start`, moving up what is there. */
static void
aml_insert(struct aml *aml, size_t start, const uint8_t *bytes, unsigned len)
{
	size_t tail = aml->out.len - start;

	buf_put(&aml->out, bytes, len);
	memmove(aml->out.data + start + len, aml->out.data + start, tail);
	memcpy(aml->out.data + start, bytes, len);
}

/* Section 20.2.4: six bits in one byte, or four and up to three bytes more. */
static unsigned
aml_length_encode(size_t value, uint8_t out[AML_LENGTH_MAX])
{
	unsigned more = 0;

	assert(value < BIT(28));
	if (value < BIT(6)) {
		out[0] = (uint8_t)value;
		return 1;
	}
	out[0] = value & 0x0f;
	for (value >>= 4; value != 0; value >>= 8)
		out[++more] = (uint8_t)value;
	out[0] |= (uint8_t)(more << 6);
	return more + 1;
}

void
aml_end(struct aml *aml)
{
	const uint8_t end_tag[] = { RES_END, 0 }; /* 0: no checksum */
	uint8_t bytes[AML_INT_MAX];
	struct aml_open *open;
	unsigned own = 1;
	size_t len;

	assert(aml->depth > 0);
	open = &aml->open[--aml->depth];
	if (open->template) {
		buf_put(&aml->out, end_tag, sizeof(end_tag));
		aml_insert(aml, open->start, bytes,
		    aml_int_encode(aml->out.len - open->start, bytes));
	}
	len = aml->out.len - open->start;
	while (aml_length_encode(len + own, bytes) > own)
		own++;
	aml_insert(aml, open->start, bytes, own);
}

void
aml_scope(struct aml *aml, const char *path)
{
	aml_byte(aml, AML_SCOPE_OP);
	aml_begin(aml, false);
	aml_path(aml, path);
}

void
aml_device(struct aml *aml, const char *word)
{
	aml_byte(aml, AML_EXT_PREFIX);
	aml_byte(aml, AML_EXT_DEVICE);
	aml_begin(aml, false);
	aml_path(aml, word);
}

void
aml_method(struct aml *aml, const char *word, unsigned args,
    enum aml_serialize serialize)
{
	assert(args <= 7);
	aml_byte(aml, AML_METHOD_OP);
	aml_begin(aml, false);
	aml_path(aml, word);
	aml_byte(aml,
	    (uint8_t)(args |
		(serialize == AML_SERIALIZED ? AML_METHOD_SERIALIZED : 0)));
}

void
aml_package(struct aml *aml, unsigned elements)
{
	assert(elements <= UINT8_MAX);
	aml_byte(aml, AML_PACKAGE_OP);
	aml_begin(aml, false);
	aml_byte(aml, (uint8_t)elements);
}

void
aml_if(struct aml *aml)
{
	aml_byte(aml, AML_IF_OP);
	aml_begin(aml, false);
}

/* ---- operation regions --------------------------------------------------- */

void
aml_region(struct aml *aml, const char *word, enum aml_space space,
    uint64_t offset, uint64_t len)
{
	aml_byte(aml, AML_EXT_PREFIX);
	aml_byte(aml, AML_EXT_REGION);
	aml_path(aml, word);
	aml_byte(aml, (uint8_t)space);
	aml_int(aml, offset);
	aml_int(aml, len);
}

void
aml_byte_field(struct aml *aml, const char *region)
{
	aml_byte(aml, AML_EXT_PREFIX);
	aml_byte(aml, AML_EXT_FIELD);
	aml_begin(aml, false);
	aml_path(aml, region);
	aml_byte(aml, AML_FIELD_BYTE_ACC);
}

/* A field's width is written as a PkgLength that does not count itself. */
static void
aml_field_width(struct aml *aml, unsigned bits)
{
	uint8_t bytes[AML_LENGTH_MAX];

	buf_put(&aml->out, bytes, aml_length_encode(bits, bytes));
}

void
aml_field_skip(struct aml *aml, unsigned bits)
{
	aml_byte(aml, 0); /* ReservedField */
	aml_field_width(aml, bits);
}

void
aml_field_unit(struct aml *aml, const char *word, unsigned bits)
{
	(void)aml_word(aml, word); /* one word: nothing follows */
	aml_field_width(aml, bits);
}

/* ---- resource templates -------------------------------------------------- */

void
aml_resources(struct aml *aml)
{
	aml_byte(aml, AML_BUFFER_OP);
	aml_begin(aml, true);
}

void
aml_io(struct aml *aml, uint16_t base, uint8_t len)
{
	aml_byte(aml, RES_IO);
	aml_byte(aml, RES_IO_DECODE16);
	buf_put_int(&aml->out, base, 2);
	buf_put_int(&aml->out, base, 2);
	aml_byte(aml, 1); /* alignment */
	aml_byte(aml, len);
}

void
aml_irq_edge(struct aml *aml, uint16_t mask)
{
	aml_byte(aml, RES_IRQ_NO_FLAGS);
	buf_put_int(&aml->out, mask, 2);
}

void
aml_irq_level(struct aml *aml, uint16_t mask)
{
	aml_byte(aml, RES_IRQ);
	buf_put_int(&aml->out, mask, 2);
	aml_byte(aml, RES_IRQ_LEVEL_LOW_SHARED);
}

void
aml_memory32_fixed(struct aml *aml, bool writable, uint32_t base, uint32_t len)
{
	aml_byte(aml, RES_MEMORY32_FIXED);
	buf_put_int(&aml->out, 9, 2);
	aml_byte(aml, writable);
	buf_put_int(&aml->out, base, 4);
	buf_put_int(&aml->out, len, 4);
}

void
aml_bridge_window(struct aml *aml, enum aml_window kind, unsigned width,
    uint64_t base, uint64_t len)
{
	static const struct {
		uint8_t type;
		uint8_t flags;
	} kinds[] = {
		[AML_MEMORY] = { 0, 0x01 },           /* ReadWrite */
		[AML_MEMORY_CACHEABLE] = { 0, 0x03 }, /* and Cacheable */
		[AML_IO] = { 1, 0x03 },               /* EntireRange */
		[AML_BUS_NUMBER] = { 2, 0x00 },
	};
	const uint64_t fields[] = { 0, base, base + (len - 1), 0, len };

	assert(width == 2 || width == 4 || width == 8);
	assert(len != 0);
	aml_byte(aml,
	    width == 2     ? RES_WORD_SPACE :
		width == 4 ? RES_DWORD_SPACE :
			     RES_QWORD_SPACE);
	buf_put_int(&aml->out, 3 + ARRAY_SIZE(fields) * width, 2);
	aml_byte(aml, kinds[kind].type);
	aml_byte(aml, RES_SPACE_FIXED);
	aml_byte(aml, kinds[kind].flags);
	/* granularity, minimum, maximum, translation, length */
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		buf_put_int(&aml->out, fields[i], width);
}
