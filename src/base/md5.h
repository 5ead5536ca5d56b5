/*
 * MD5 (RFC 1321), for the names that bhyve derives from it: default UUIDs,
 * MAC addresses and serial numbers.  Not for anything that must resist forging.
 */
#ifndef BASE_MD5_H
#define BASE_MD5_H

#include <stddef.h>
#include <stdint.h>

#define MD5_SIZE 16

void md5(const void *data, size_t len, uint8_t digest[MD5_SIZE]);

#endif
