/* How fast a device is reached, for bench/bench.sh: figures are its labels. */
#include "guest.h"

#define ROUND 1000u
#define MEASURE_US 500000u

/* Decimal, for a label. */
static char *
put_number(char *at, uint32_t n)
{
	if (n >= 10)
		at = put_number(at, n / 10);
	*at = (char)('0' + n % 10);
	return at + 1;
}

static void
report(const char *what, uint32_t n, uint32_t us)
{
	char label[80];
	char *at = label;

	while (*what != '\0')
		*at++ = *what++;
	at = put_number(at, (uint32_t)((uint64_t)n * 1000000 / us));
	for (what = " a second"; *what != '\0';)
		*at++ = *what++;
	*at = '\0';
	check(label, n > 0);
}

#define MEASURE(what, access)                                   \
	do {                                                    \
		uint32_t start_ = clock_us(), n_ = 0, us_;      \
                                                                \
		do {                                            \
			for (uint32_t i_ = 0; i_ < ROUND; i_++) \
				access;                         \
			n_ += ROUND;                            \
			us_ = clock_us() - start_;              \
		} while (us_ < MEASURE_US);                     \
		report(what, n_, us_);                          \
	} while (0)

void
payload(void)
{
	test("exits");
	MEASURE("port writes: ", out32(TESTDEV_PORTS, 1));
	MEASURE("port reads: ", (void)in32(TESTDEV_PORTS));
	MEASURE("memory writes: ", write32(TESTDEV_MMIO, 1));
	MEASURE("memory reads: ", (void)read32(TESTDEV_MMIO));
	MEASURE("PM timer reads: ", (void)in32(0x408));
	MEASURE("nobody's port: ", out8(0x80, 1));
	done();
}
