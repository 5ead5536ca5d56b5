/*
 * A guest that means harm: two vCPUs access ports and registers at random, of
 * every width, with values of every class, alone and as strings, while their
 * interrupts come in.  For test/hammer.py; it ends by accident, or never.  The
 * kernel's command line is the seed.
 */
#include "guest.h"

struct range {
	uint32_t base;
	uint32_t len;
};

static const struct range ports[] = {
	{ 0x20, 2 },
	{ 0x40, 4 },
	{ 0x60, 5 },
	{ 0x70, 8 },
	{ 0x80, 16 },
	{ 0xa0, 2 },
	{ 0xb2, 2 },
	{ 0x2e8, 8 },
	{ 0x2f8, 8 },
	{ 0x3e8, 8 },
	{ 0x3f8, 8 },
	{ 0x400, 16 },
	{ 0x4d0, 2 },
	{ 0x510, 12 },
	{ 0xcf8, 8 },
	{ 0, 0x10000 },
};

static const struct range registers[] = {
	{ 0xfec00000, 0x100 },
	{ 0xfed00000, 0x400 },
	{ 0xfee00000, 0x400 },
	{ 0xe0000000, 0x1000 },
	{ 0xe00f8000, 0x1000 },
	{ 0xe0000000, 0x10000000 },
	{ 0xc0000000, 0x20000000 },
	{ 0xfd000000, 0x2fffff8 },
};

static const uint64_t classes[] = { 0, 1, UINT64_MAX, 0x7f, 0x80, 0xff, 0x7fff,
	0x8000, 0x7fffffff, 0x80000000, 0x5555555555555555 };

struct cpu {
	uint64_t random;
	uint8_t buf[4096];
};
static struct cpu cpus[33];

/* xorshift64 */
static uint32_t
any(struct cpu *cpu, uint32_t n)
{
	cpu->random ^= cpu->random << 13;
	cpu->random ^= cpu->random >> 7;
	cpu->random ^= cpu->random << 17;
	return (uint32_t)(cpu->random >> 20) % n;
}

static uint64_t
value(struct cpu *cpu)
{
	uint32_t which = any(cpu, 24);

	if (which < sizeof(classes) / sizeof(classes[0]))
		return classes[which];
	if (which < 16)
		return 1ULL << any(cpu, 64);
	(void)any(cpu, 1);
	return cpu->random;
}

/* What ends the machine; wanted, but not all the time. */
static bool
ends(uint16_t port, unsigned size, uint64_t value)
{
	/* The bytes from `port` on, and which of them are 0xcf9's and so on. */
	for (unsigned i = 0; i < size; i++) {
		uint8_t byte = (uint8_t)(value >> 8 * i);

		switch (port + i) {
		case 0x64:
			if (byte == 0xfe || (byte & 0xf0) == 0xd0)
				return true;
			break;
		case 0x405:
			if (byte & 0x20)
				return true;
			break;
		case 0xcf9:
			if (byte & 4)
				return true;
			break;
		}
	}
	return false;
}

static void
string(struct cpu *cpu, uint16_t port, unsigned size, bool write)
{
	void *at = cpu->buf;
	uint64_t n = 1 + any(cpu, 64);

	/* A string to a port that can end the machine would. */
	if (write &&
	    (port < 0x68 || (port >= 0x3f0 && port < 0x410) ||
		(port >= 0xcf0 && port < 0xd00)))
		return;
#define STRING(insn, reg)                       \
	__asm__ volatile("rep " insn            \
			 : "+" reg(at), "+c"(n) \
			 : "d"(port)            \
			 : "memory")
	switch (size) {
	case 1:
		if (write)
			STRING("outsb", "S");
		else
			STRING("insb", "D");
		break;
	case 2:
		if (write)
			STRING("outsw", "S");
		else
			STRING("insw", "D");
		break;
	default:
		if (write)
			STRING("outsl", "S");
		else
			STRING("insl", "D");
		break;
	}
}

static void
hit_port(struct cpu *cpu)
{
	const struct range *range =
	    &ports[any(cpu, sizeof(ports) / sizeof(ports[0]))];
	uint16_t port = (uint16_t)(range->base + any(cpu, range->len));
	unsigned size = 1u << any(cpu, 3);
	bool write = any(cpu, 2);
	uint64_t v = value(cpu);

	if (any(cpu, 32) == 0) {
		string(cpu, port, size, write);
		return;
	}
	if (write && ends(port, size, v) && any(cpu, 65536) != 0)
		return;
	if (write && size == 1)
		out8(port, (uint8_t)v);
	else if (write && size == 2)
		out16(port, (uint16_t)v);
	else if (write)
		out32(port, (uint32_t)v);
	else if (size == 1)
		(void)in8(port);
	else if (size == 2)
		(void)in16(port);
	else
		(void)in32(port);
}

static void
hit_register(struct cpu *cpu)
{
	const struct range *range =
	    &registers[any(cpu, sizeof(registers) / sizeof(registers[0]))];
	uintptr_t at = range->base + any(cpu, range->len);
	bool write = any(cpu, 2);
	uint64_t v = value(cpu);

	/* Mostly where registers are. */
	if (any(cpu, 4) != 0)
		at &= ~(uintptr_t)3;
	switch (any(cpu, 4)) {
	case 0:
		if (write)
			write8(at, (uint8_t)v);
		else
			(void)read8(at);
		break;
	case 1:
		if (write)
			write16(at, (uint16_t)v);
		else
			(void)read16(at);
		break;
	case 2:
		if (write)
			write32(at, (uint32_t)v);
		else
			(void)read32(at);
		break;
	default:
		if (write)
			*(volatile uint64_t *)at = v;
		else
			(void)*(volatile uint64_t *)at;
		break;
	}
}

HANDLER(interrupt)
{
	lapic_eoi();
	out8(0xa0, 0x20);
	out8(0x20, 0x20);
}

static _Noreturn void
hammer(struct cpu *cpu, uint64_t seed)
{
	cpu->random = seed;
	for (;;) {
		for (unsigned i = 0; i < 64; i++) {
			if (any(cpu, 2))
				hit_port(cpu);
			else
				hit_register(cpu);
		}
		window();
	}
}

static uint64_t seed;

void
ap_main(unsigned n)
{
	hammer(&cpus[n], seed * 2654435761u + n);
}

void
payload(void)
{
	const char *text = (const char *)(uintptr_t)read32(boot_info + 16);

	while (*text >= '0' && *text <= '9')
		seed = 10 * seed + (uint64_t)(*text++ - '0');
	seed |= 1ULL << 40; /* never 0 */
	traps_init();
	for (unsigned v = 0; v < 256; v++) {
		if (v == 2 || v >= 32)
			gate(v, interrupt);
	}
	pic_init();
	lapic_init();
	start_ap(1);
	hammer(&cpus[0], seed);
}
