/*
 * UUIDs in RFC 4122 text form and in the mixed byte order of SMBIOS and GUIDs.
 */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT_SIZE 37 /* with its NUL */

struct uuid {
	uint8_t b[16]; /* in the order of the text */
};

/* False unless text is exactly 8-4-4-4-12 hexadecimal digits. */
bool uuid_parse(const char *text, struct uuid *uuid);
void uuid_format(const struct uuid *uuid, char text[UUID_TEXT_SIZE]);

/* bhyve's default: MD5 over `a` then `b`, stamped version 3, RFC variant. */
void uuid_from_names(const char *a, const char *b, struct uuid *uuid);

/* The first three fields little-endian, as SMBIOS 2.6 and ACPI store it. */
void uuid_to_guid(const struct uuid *uuid, uint8_t guid[16]);

#endif
