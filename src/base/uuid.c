/*
 * UUIDs.
 *
 * Models       the text form, the version and the variant of RFC 4122, and
 *              the byte order of SMBIOS 2.6 (section 7.2.1).
 * Leaves out   making random ones or ones from the time: nothing needs them.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/md5.h"
#include "base/parse.h"
#include "base/uuid.h"

/* Does a hyphen stand before byte i of the text? */
static bool
hyphen_before(unsigned i)
{
	return i == 4 || i == 6 || i == 8 || i == 10;
}

bool
uuid_parse(const char *text, struct uuid *uuid)
{
	struct uuid parsed;
	int high, low;

	for (unsigned i = 0; i < sizeof(parsed.b); i++) {
		if (hyphen_before(i) && *text++ != '-')
			return false;
		/* A NUL is no digit, so this stops at the end of the text. */
		high = parse_hex_digit(text[0]);
		if (high < 0)
			return false;
		low = parse_hex_digit(text[1]);
		if (low < 0)
			return false;
		parsed.b[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (*text != '\0')
		return false;
	*uuid = parsed;
	return true;
}

void
uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < sizeof(uuid->b); i++) {
		if (hyphen_before(i))
			*text++ = '-';
		*text++ = digits[uuid->b[i] >> 4];
		*text++ = digits[uuid->b[i] & 0xf];
	}
	*text = '\0';
}

void
uuid_from_names(const char *a, const char *b, struct uuid *uuid)
{
	char *names = xasprintf("%s%s", a, b);

	_Static_assert(sizeof(uuid->b) == MD5_SIZE, "a digest fills a UUID");
	md5(names, strlen(names), uuid->b);
	free(names);
	uuid->b[6] = (uuid->b[6] & 0x0f) | 0x30; /* version 3 */
	uuid->b[8] = (uuid->b[8] & 0x3f) | 0x80; /* the RFC's variant */
}

void
uuid_to_guid(const struct uuid *uuid, uint8_t guid[16])
{
	static const uint8_t from[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11,
		12, 13, 14, 15 };

	for (unsigned i = 0; i < 16; i++)
		guid[i] = uuid->b[from[i]];
}
