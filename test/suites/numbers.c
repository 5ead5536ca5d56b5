/*
 * Floating point and wide integers: digests of many results, bit by bit, in
 * each rounding mode, with the exceptions that they raise.
 */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 3000

static uint64_t state, digest;

static uint64_t
next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void
take(const void *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		digest = (digest ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
}

static void
take_double(double x)
{
	if (x != x)
		x = 0.5; /* of a NaN neither sign nor payload matter */
	take(&x, sizeof(x));
}

static void
take_long(long double x)
{
	if (x != x)
		x = 0.5L;
	take(&x, 10);
}

static void
begin(void)
{
	state = 88172645463325252;
	digest = 0xcbf29ce484222325;
	feclearexcept(FE_ALL_EXCEPT);
}

static void
say(const char *what)
{
	int raised = fetestexcept(FE_ALL_EXCEPT);

	take(&raised, sizeof(raised));
	printf("%-12s %016llx\n", what, (unsigned long long)digest);
}

/* Any bits at all, and numbers of a size that functions like. */
static double
any(void)
{
	uint64_t bits = next();
	double x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static double
near(void)
{
	return (double)(int64_t)next() / 0x1p60;
}

static const int modes[] = { FE_TONEAREST, FE_DOWNWARD, FE_UPWARD,
	FE_TOWARDZERO };

static void
arithmetic(void)
{
	begin();
	for (int m = 0; m < 4; m++) {
		fesetround(modes[m]);
		for (int i = 0; i < TRIES; i++) {
			volatile double x = i & 1 ? any() : near(), y = any();
			volatile float f = (float)x, g = (float)near();
			volatile long double l = x, k = near();

			take_double(x + y);
			take_double(x - near());
			take_double(x * y);
			take_double(x / y);
			take_double(sqrt(x));
			take_double(fma(x, near(), y));
			take_double(f * g);
			take_double(f / g);
			take_long(l * k);
			take_long(l / k);
			take_long(sqrtl(k));
			take_double(rint(near() * 1e3));
			take_double(floor(x) + ceil(near()));
		}
	}
	fesetround(FE_TONEAREST);
	say("arithmetic");
}

static void
conversions(void)
{
	begin();
	for (int m = 0; m < 4; m++) {
		fesetround(modes[m]);
		for (int i = 0; i < TRIES; i++) {
			volatile double x = near() * 1e8;
			volatile int64_t n = (int64_t)next();
			int64_t v[4] = { llrint(x), (int64_t)x, (int32_t)x,
				lrintf((float)x) };

			take(v, sizeof(v));
			take_double((double)n);
			take_double((float)n);
			take_double((double)(uint64_t)n);
			take_long((long double)n);
		}
	}
	fesetround(FE_TONEAREST);
	say("conversions");
}

#define FUNCTION(name)                                              \
	do {                                                        \
		begin();                                            \
		for (int i = 0; i < TRIES; i++) {                   \
			volatile double x = i % 8 ? near() : any(); \
			volatile float f = (float)x;                \
			volatile long double l = x;                 \
                                                                    \
			take_double(name(x));                       \
			take_double(name##f(f));                    \
			take_long(name##l(l));                      \
		}                                                   \
		say(#name);                                         \
	} while (0)

static void
functions(void)
{
	FUNCTION(sin);
	FUNCTION(cos);
	FUNCTION(tan);
	FUNCTION(asin);
	FUNCTION(acos);
	FUNCTION(atan);
	FUNCTION(sinh);
	FUNCTION(cosh);
	FUNCTION(tanh);
	FUNCTION(exp);
	FUNCTION(exp2);
	FUNCTION(expm1);
	FUNCTION(log);
	FUNCTION(log10);
	FUNCTION(log2);
	FUNCTION(log1p);
	FUNCTION(cbrt);
	FUNCTION(erf);
	FUNCTION(tgamma);
	FUNCTION(lgamma);
	FUNCTION(j0);
	begin();
	for (int i = 0; i < TRIES; i++) {
		double x = any(), y = near();
		int n;

		take_double(pow(fabs(near()), y));
		take_double(atan2(near(), y));
		take_double(fmod(x, y));
		take_double(remainder(x, y));
		take_double(hypot(near(), y));
		take_double(frexp(x, &n));
		take(&n, sizeof(n));
		take_double(ldexp(y, n));
		take_long(powl(fabsl(near()), y));
	}
	say("others");
}

static void
text(void)
{
	begin();
	for (int i = 0; i < TRIES; i++) {
		char said[128];
		double x = any();

		if (x != x)
			continue;
		snprintf(said, sizeof(said), "%.17g", x);
		take(said, strlen(said));
		if (strtod(said, NULL) != x)
			printf("%s is not what it was\n", said);
		snprintf(said, sizeof(said), "%a %.3f %Lg", x, near(),
		    1.0L / i);
		take(said, strlen(said));
	}
	say("text");
}

static void
integers(void)
{
	begin();
	for (int i = 0; i < 10 * TRIES; i++) {
		uint64_t a = next() >> (next() & 63), b = next() | 1;
		uint32_t c = (uint32_t)(next() >> (next() & 31)) | 1;
		uint64_t v[] = { a * b, a / b, a % b, a / c, a % c,
			(uint64_t)((int64_t)a / (int64_t)b), a << (b & 63),
			a >> (c & 63), (uint64_t)((int64_t)a >> (b & 63)),
			(uint64_t)__builtin_popcountll(a),
			(uint64_t)__builtin_clzll(b),
			(uint64_t)__builtin_ctzll(b), __builtin_bswap64(a),
			a << (b & 31) | a >> (64 - (b & 31)) % 64 };

		take(v, sizeof(v));
#ifdef __SIZEOF_INT128__
		unsigned __int128 wide = (unsigned __int128)a * b + c;

		take(&wide, sizeof(wide));
		wide = (wide << (c & 63)) / b;
		take(&wide, sizeof(wide));
#endif
	}
	say("integers");
}

int
main(void)
{
	arithmetic();
	conversions();
	functions();
	text();
	integers();
	return 0;
}
