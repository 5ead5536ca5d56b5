/*
 * Small things that every file may need: bits, sizes, checked sums.
 */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BIT(n) (1ULL << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define MIN(a, b)                                  \
	({                                         \
		__typeof__(a) min_a_ = (a);        \
		__typeof__(b) min_b_ = (b);        \
		min_a_ < min_b_ ? min_a_ : min_b_; \
	})
#define MAX(a, b)                                  \
	({                                         \
		__typeof__(a) max_a_ = (a);        \
		__typeof__(b) max_b_ = (b);        \
		max_a_ > max_b_ ? max_a_ : max_b_; \
	})

#define container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/*
 * For what touches guest memory as a processor does: guests may race with each
 * other, and only they have to mind.
 */
#define GUEST_MAY_RACE __attribute__((no_sanitize("thread")))

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Sums and products of numbers that somebody else chose: true on overflow. */
#define add_overflows(a, b, sum) __builtin_add_overflow(a, b, sum)
#define mul_overflows(a, b, product) __builtin_mul_overflow(a, b, product)

/* Does [off, off + len) lie within [0, size)?  No sum, so nothing wraps. */
static inline bool
range_within(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static inline bool
is_power_of_2(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* To a multiple of align, a power of 2.  The caller knows n is far from 2^64. */
static inline uint64_t
round_up(uint64_t n, uint64_t align)
{
	assert(is_power_of_2(align));
	return (n + align - 1) & ~(align - 1);
}

static inline uint64_t
round_down(uint64_t n, uint64_t align)
{
	assert(is_power_of_2(align));
	return n & ~(align - 1);
}

/* The low `size` bytes of a 64-bit value set: what a bus of that width sees. */
static inline uint64_t
size_mask(unsigned size)
{
	return size >= 8 ? UINT64_MAX : BIT(size * 8) - 1;
}

#define NS_PER_SEC 1000000000ULL
#define KIB 1024ULL
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#endif
