/*
 * The string functions of the C library, in each variant that it has for this
 * processor, against plain loops: all alignments, all small sizes, and memory
 * that ends with its page.  Which variants there are is not said.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define SIZES 200u
#define IMPLS 64u

/* As in glibc's ifunc-impl-list.h. */
struct impl {
	const char *name;
	void (*function)(void);
	bool usable;
};

static uint8_t *a, *b; /* a page each, with nothing behind it */
static unsigned failures, tests;

static void
check(bool right, const char *what, unsigned size, unsigned align)
{
	tests++;
	if (right)
		return;
	if (failures++ < 20)
		printf("%s: size %u, alignment %u\n", what, size, align);
}

static uint8_t *
guarded_page(void)
{
	uint8_t *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + PAGE, PAGE, PROT_NONE) != 0)
		exit(1);
	return p;
}

static void
fill(void)
{
	for (unsigned i = 0; i < PAGE; i++) {
		a[i] = (uint8_t)(i * 167 % 251 + 1);
		b[i] = (uint8_t)(i * 59 % 241 + 1);
	}
}

static bool
same(const uint8_t *x, const uint8_t *y, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (x[i] != y[i])
			return false;
	}
	return true;
}

static bool
is_all(const uint8_t *x, uint8_t c, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (x[i] != c)
			return false;
	}
	return true;
}

/* Each is given the variant, a size, and where the operand begins. */
static void
try_copy(const struct impl *impl, unsigned n, unsigned at)
{
	void *(*copy)(void *, const void *, size_t) =
	    (void *(*)(void *, const void *, size_t))impl->function;
	uint8_t *to = b + (at * 7 + 64) % 1024 + 64;

	fill();
	copy(to, a + at, n);
	check(same(to, a + at, n) &&
		to[n] == (uint8_t)((to + n - b) * 59 % 241 + 1) &&
		to[-1] == (uint8_t)((to - 1 - b) * 59 % 241 + 1),
	    impl->name, n, at);
}

static void
try_move(const struct impl *impl, unsigned n, unsigned at)
{
	void *(*move)(void *, const void *, size_t) =
	    (void *(*)(void *, const void *, size_t))impl->function;
	bool right = true;

	try_copy(impl, n, at);
	fill();
	move(a + 200 + at % 100, a + 220, n); /* they overlap */
	for (unsigned i = 0; i < n; i++)
		right &= a[200 + at % 100 + i] ==
		    (uint8_t)((220 + i) * 167 % 251 + 1);
	check(right, impl->name, n, at);
}

static void
try_set(const struct impl *impl, unsigned n, unsigned at)
{
	void *(*set)(void *, int, size_t) =
	    (void *(*)(void *, int, size_t))impl->function;

	fill();
	set(a + at, 0, n);
	check(is_all(a + at, 0, n) && (at == 0 || a[at - 1] != 0) &&
		(at + n == PAGE || a[at + n] != 0),
	    impl->name, n, at);
}

static void
try_length(const struct impl *impl, unsigned n, unsigned at)
{
	size_t (*length)(const char *) =
	    (size_t(*)(const char *))impl->function;

	fill();
	if (n == 0)
		return;
	a[at + n - 1] = 0;
	check(length((char *)a + at) == n - 1, impl->name, n, at);
}

static void
try_find(const struct impl *impl, unsigned n, unsigned at)
{
	void *(*find)(const void *, int, size_t) =
	    (void *(*)(const void *, int, size_t))impl->function;

	fill();
	for (unsigned i = 0; i < n; i++)
		a[at + i] = 'x';
	check(find(a + at, 'y', n) == NULL, impl->name, n, at);
	if (n == 0)
		return;
	a[at + n / 2] = 'y';
	check(find(a + at, 'y', n) == a + at + n / 2, impl->name, n, at);
}

static void
try_find_string(const struct impl *impl, unsigned n, unsigned at)
{
	char *(*find)(const char *, int) =
	    (char *(*)(const char *, int))impl->function;

	if (n < 2)
		return;
	for (unsigned i = 0; i < n; i++)
		a[at + i] = 'x';
	a[at + n - 1] = 0;
	check(find((char *)a + at, 'y') == NULL, impl->name, n, at);
	a[at + n / 2 - 1] = 'y';
	check(find((char *)a + at, 'y') == (char *)a + at + n / 2 - 1,
	    impl->name, n, at);
}

static int
sign(int x)
{
	return (x > 0) - (x < 0);
}

static void
try_compare(const struct impl *impl, unsigned n, unsigned at)
{
	int (*compare)(const void *, const void *, size_t) =
	    (int (*)(const void *, const void *, size_t))impl->function;
	uint8_t *with = b + PAGE - n;

	fill();
	for (unsigned i = 0; i < n; i++)
		with[i] = a[at + i];
	check(compare(a + at, with, n) == 0, impl->name, n, at);
	if (n == 0)
		return;
	with[n - 1]++;
	check(sign(compare(a + at, with, n)) == -1 &&
		sign(compare(with, a + at, n)) == 1,
	    impl->name, n, at);
}

static void
try_compare_strings(const struct impl *impl, unsigned n, unsigned at)
{
	int (*compare)(const char *, const char *) =
	    (int (*)(const char *, const char *))impl->function;
	uint8_t *with = b + PAGE - n;

	if (n < 2)
		return;
	fill();
	a[at + n - 1] = 0;
	for (unsigned i = 0; i < n; i++)
		with[i] = a[at + i];
	check(compare((char *)a + at, (char *)with) == 0, impl->name, n, at);
	with[n - 2]++;
	check(sign(compare((char *)a + at, (char *)with)) == -1, impl->name, n,
	    at);
}

static void
try_copy_string(const struct impl *impl, unsigned n, unsigned at)
{
	char *(*copy)(char *, const char *) =
	    (char *(*)(char *, const char *))impl->function;
	uint8_t *to = b + PAGE - n;

	if (n == 0)
		return;
	fill();
	a[at + n - 1] = 0;
	copy((char *)to, (char *)a + at);
	check(same(to, a + at, n), impl->name, n, at);
}

static const struct {
	const char *name;
	void (*test)(const struct impl *impl, unsigned n, unsigned at);
} functions[] = {
	{ "memcpy", try_copy },
	{ "memmove", try_move },
	{ "mempcpy", try_copy },
	{ "memset", try_set },
	{ "memchr", try_find },
	{ "memrchr", try_find },
	{ "memcmp", try_compare },
	{ "strlen", try_length },
	{ "strchr", try_find_string },
	{ "strrchr", try_find_string },
	{ "strcmp", try_compare_strings },
	{ "strcpy", try_copy_string },
	{ "stpcpy", try_copy_string },
};

int
main(void)
{
	size_t (*list)(const char *, struct impl *, size_t) =
	    (size_t(*)(const char *, struct impl *, size_t))dlvsym(RTLD_DEFAULT,
		"__libc_ifunc_impl_list", "GLIBC_PRIVATE");

	if (list == NULL)
		return 1;
	a = guarded_page();
	b = guarded_page();
	for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++) {
		struct impl impls[IMPLS];
		size_t count = list(functions[f].name, impls, IMPLS);

		tests = 0;
		for (size_t i = 0; i < count; i++) {
			if (!impls[i].usable)
				continue;
			/* From the page's start, and up to its end. */
			for (unsigned n = 0; n < SIZES; n += 1 + n / 40) {
				for (unsigned at = 0; at < 64; at += 7)
					functions[f].test(&impls[i], n, at);
				functions[f].test(&impls[i], n, PAGE - n);
			}
		}
		printf("%s: %s\n", functions[f].name,
		    tests > 0 ? "tried" : "no variants");
	}
	return failures != 0;
}
