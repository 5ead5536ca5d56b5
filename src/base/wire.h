/*
 * Integers of a fixed byte order, as guests, files and peers lay them out.
 *
 * A le32 is not a number: it cannot be added or compared by mistake, has no
 * alignment, and is converted once, where it enters or leaves.
 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define WIRE_TYPE(order, bits)                                            \
	typedef struct {                                                  \
		uint8_t b[bits / 8];                                      \
	} order##bits;                                                    \
	static inline uint##bits##_t order##bits##_get(order##bits w)     \
	{                                                                 \
		uint##bits##_t raw;                                       \
                                                                          \
		memcpy(&raw, w.b, sizeof(raw));                           \
		return order##bits##toh(raw);                             \
	}                                                                 \
	static inline order##bits order##bits##_make(uint##bits##_t v)    \
	{                                                                 \
		uint##bits##_t raw = hto##order##bits(v);                 \
		order##bits w;                                            \
                                                                          \
		memcpy(w.b, &raw, sizeof(raw));                           \
		return w;                                                 \
	}                                                                 \
	/* From and to a place in a byte buffer. */                       \
	static inline uint##bits##_t order##bits##_load(const void *p)    \
	{                                                                 \
		order##bits w;                                            \
                                                                          \
		memcpy(&w, p, sizeof(w));                                 \
		return order##bits##_get(w);                              \
	}                                                                 \
	static inline void order##bits##_store(void *p, uint##bits##_t v) \
	{                                                                 \
		order##bits w = order##bits##_make(v);                    \
                                                                          \
		memcpy(p, &w, sizeof(w));                                 \
	}

WIRE_TYPE(le, 16)
WIRE_TYPE(le, 32)
WIRE_TYPE(le, 64)
WIRE_TYPE(be, 16)
WIRE_TYPE(be, 32)
WIRE_TYPE(be, 64)

#endif
