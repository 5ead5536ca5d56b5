/*
 * Code for hostile guests: gadgets, a few instructions each, one behind another.
 *
 * Nothing here is exact.  A gadget has a purpose, its instructions exist in the
 * kind of code that it is for, and most of its memory operands lead where
 * something is: data, code, tables, devices, the edges of all of those.
 */
#include <string.h>

#include "test/cpu/hostile.h"

const char *const kind_names[KINDS] = {
	[K_BYTES] = "bytes",
	[K_VALID] = "valid",
	[K_VECTOR] = "vector",
	[K_PREFIX] = "prefix",
	[K_SMC] = "smc",
	[K_TABLES] = "tables",
	[K_CONTROL] = "control",
	[K_FAR] = "far",
	[K_STRING] = "string",
	[K_STATE] = "state",
	[K_DIVIDE] = "divide",
	[K_MMIO] = "mmio",
	[K_PORT] = "port",
	[K_FRAME] = "frame",
	[K_NEST] = "nest",
	[K_LOOP] = "loop",
	[K_JUMP] = "jump",
	[K_APIC] = "apic",
};

struct gen {
	const struct plan *plan;
	struct rng *rng;
	unsigned bits;
	uint8_t *p, *begin, *end;
	uint32_t lin; /* of begin */
};

/* A memory operand: mod and rm, and what follows them. */
struct ea {
	uint8_t modrm;
	uint8_t more[5];
	unsigned len;
};

uint64_t
rng_wild(struct rng *rng)
{
	static const uint64_t edges[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0xfff,
		0x1000, 0x7fff, 0x8000, 0xffff, 0x10000, LOW_SIZE - 1, LOW_SIZE,
		0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff, 0x100000000,
		HIGH + HIGH_SIZE - 1, 0x7fffffffffff, 0x800000000000,
		0xffff7fffffffffff, 0xffff800000000000, 0x7fffffffffffffff,
		0x8000000000000000, 0xfffffffffffff000, 0xfffffffffffffff8,
		0xffffffffffffffff };
	uint64_t v = rng_next(rng);

	switch (v >> 61) {
	case 0:
	case 1:
	case 2:
		return edges[v % ARRAY_SIZE(edges)];
	case 3:
		return v & 0xff;
	case 4:
		return BIT(v % 64);
	case 5:
		return edges[v % ARRAY_SIZE(edges)] + (v >> 32) % 16 - 8;
	default:
		return rng_next(rng);
	}
}

/* ------------------------------------------------------------------ bytes */

static void
put(struct gen *g, const void *bytes, unsigned n)
{
	n = (unsigned)MIN((size_t)n, (size_t)(g->end - g->p));
	memcpy(g->p, bytes, n);
	g->p += n;
}

#define PUT(g, ...)                                 \
	put((g), (const uint8_t[]) { __VA_ARGS__ }, \
	    sizeof((const uint8_t[]) { __VA_ARGS__ }))

static void
put_le(struct gen *g, uint64_t value, unsigned size)
{
	put(g, &value, size);
}

static void
put_random(struct gen *g, unsigned n)
{
	while (n-- > 0)
		PUT(g, (uint8_t)rng_next(g->rng));
}

static uint32_t
pick(struct gen *g, uint32_t n)
{
	return rng_below(g->rng, n);
}

static bool
chance(struct gen *g, unsigned percent)
{
	return rng_chance(g->rng, percent);
}

static uint8_t
any(struct gen *g)
{
	return (uint8_t)rng_next(g->rng);
}

/* mov reg, value: in the code's own width; reg is 0 to 7. */
static void
load(struct gen *g, unsigned reg, uint64_t value)
{
	if (g->bits == 64 && value != (uint32_t)value) {
		PUT(g, 0x48, (uint8_t)(0xb8 | reg));
		put_le(g, value, 8);
	} else {
		if (g->bits == 16 && chance(g, 70))
			PUT(g, 0x66);
		else if (g->bits == 16) {
			PUT(g, (uint8_t)(0xb8 | reg));
			put_le(g, value, 2);
			return;
		}
		PUT(g, (uint8_t)(0xb8 | reg));
		put_le(g, value, 4);
	}
}

/* Operand-size prefixes now and then. */
static void
size_prefix(struct gen *g)
{
	if (chance(g, 15))
		PUT(g, 0x66);
	if (g->bits == 64 && chance(g, 40))
		PUT(g, (uint8_t)(0x40 | (any(g) & (chance(g, 60) ? 8 : 15))));
}

/* -------------------------------------------------------------- addresses */

enum where { DATA_AT, CODE_AT, TABLE_AT, DEVICE_AT, EDGE_AT, ANY_AT, WHERES };

static uint64_t
address(struct gen *g, enum where where)
{
	static const uint64_t edges[] = { LOW_SIZE, HIGH + HIGH_SIZE, HIGH, ROM,
		DATA + 0x1000, DATA + 0x2000, CODE, CODE + 0x1000, 0x400000,
		0xffffffff, 0x800000000000, 0xffff800000000000, 0 };
	static const uint32_t tables[] = { GDT, IDT, TSS, IVT, LDT, TABLES,
		TABLES + 0x1000, TABLES + 0x2000, TABLES + 0x3000,
		TABLES + 0x6000, TABLES + 0x7000 };
	uint32_t here = g->lin + (uint32_t)(g->p - g->begin);

	switch (where) {
	case DATA_AT:
		return chance(g, 95) ? DATA + pick(g, 0x3000) :
				       HIGH + pick(g, 0x2000);
	case CODE_AT:
		if (chance(g, 60)) /* this block or its neighbours */
			return here + pick(g, 192) - 64;
		return CODE + pick(g, 2) * (CODE_SIZE / 2) + pick(g, 0x1000);
	case TABLE_AT:
		return tables[pick(g, ARRAY_SIZE(tables))] + 4 * pick(g, 0x140);
	case DEVICE_AT:
		return chance(g, 70) ? MMIO + pick(g, 0x1000) :
		    chance(g, 50)    ? LOW_SIZE + pick(g, 0x2000) :
				       ROM + pick(g, 0x10000);
	case EDGE_AT:
		return edges[pick(g, ARRAY_SIZE(edges))] + pick(g, 33) - 32;
	default:
		return rng_wild(g->rng);
	}
}

static enum where
somewhere(struct gen *g)
{
	unsigned n = pick(g, 100);

	/* Comparing: tables change only where it is looked for. */
	if (g->plan->compare && !(g->plan->kinds & BIT(K_TABLES)))
		return n < 78 ? DATA_AT : n < 84 ? DEVICE_AT : EDGE_AT;
	return n < 62 ? DATA_AT :
	    n < 72    ? CODE_AT :
	    n < 78    ? TABLE_AT :
	    n < 84    ? DEVICE_AT :
	    n < 95    ? EDGE_AT :
			ANY_AT;
}

/* An operand that leads to address; may load a register before. */
static struct ea
ea_to(struct gen *g, uint64_t address)
{
	static const uint8_t bases[] = { 0, 1, 2, 3, 6, 7 };
	struct ea ea = { 0 };
	int32_t disp = (int32_t)address;
	unsigned reg;

	if (g->bits == 16) {
		disp = (int32_t)(address - g->plan->ds_base);
		ea.modrm = 0x06;
		ea.len = 2;
		memcpy(ea.more, &disp, 2);
		return ea;
	}
	if (g->bits == 32)
		disp = (int32_t)(address - g->plan->ds_base);
	if (chance(g, 50) && (g->bits == 32 || (uint64_t)disp == address)) {
		if (g->bits == 64 && chance(g, 40)) {
			/* From rip, as far as its length can be guessed. */
			disp -= (int32_t)(g->lin + (g->p - g->begin) + 8);
			ea.modrm = 0x05;
		} else if (g->bits == 64) {
			ea.modrm = 0x04;
			ea.more[ea.len++] = 0x25;
		} else {
			ea.modrm = 0x05;
		}
		memcpy(ea.more + ea.len, &disp, 4);
		ea.len += 4;
		return ea;
	}
	reg = bases[pick(g, ARRAY_SIZE(bases))];
	if (g->bits == 32)
		address = (uint32_t)disp;
	if (chance(g, 50)) {
		disp = (int8_t)any(g);
		load(g, reg, address - (uint64_t)(int64_t)disp);
		ea.modrm = (uint8_t)(0x40 | reg);
		ea.more[ea.len++] = (uint8_t)disp;
	} else {
		load(g, reg, address);
		ea.modrm = (uint8_t)reg;
	}
	return ea;
}

static struct ea
ea_register(struct gen *g)
{
	return (struct ea) { .modrm = (uint8_t)(0xc0 | pick(g, 8)) };
}

static struct ea
ea_any(struct gen *g)
{
	struct ea ea = { .modrm = any(g) & 0xc7, .len = pick(g, 6) };

	for (unsigned i = 0; i < ea.len; i++)
		ea.more[i] = any(g);
	return ea;
}

static struct ea
ea_some(struct gen *g)
{
	unsigned n = pick(g, 100);

	return n < 45 ? ea_to(g, address(g, somewhere(g))) :
	    n < 90    ? ea_register(g) :
			ea_any(g);
}

static void
put_ea(struct gen *g, const struct ea *ea, unsigned reg)
{
	PUT(g, (uint8_t)(ea->modrm | (reg & 7) << 3));
	put(g, ea->more, ea->len);
}

/* ----------------------------------------------------------------- gadgets */

/* Opcodes of the one-byte map with a ModRM byte, and bytes of immediate. */
static const uint8_t modrm_ops[][2] = { { 0x00, 0 }, { 0x01, 0 }, { 0x02, 0 },
	{ 0x03, 0 }, { 0x08, 0 }, { 0x09, 0 }, { 0x0b, 0 }, { 0x11, 0 },
	{ 0x13, 0 }, { 0x19, 0 }, { 0x1b, 0 }, { 0x21, 0 }, { 0x23, 0 },
	{ 0x29, 0 }, { 0x2b, 0 }, { 0x31, 0 }, { 0x33, 0 }, { 0x38, 0 },
	{ 0x39, 0 }, { 0x3a, 0 }, { 0x3b, 0 }, { 0x63, 0 }, { 0x69, 4 },
	{ 0x6b, 1 }, { 0x80, 1 }, { 0x81, 4 }, { 0x83, 1 }, { 0x84, 0 },
	{ 0x85, 0 }, { 0x86, 0 }, { 0x87, 0 }, { 0x88, 0 }, { 0x89, 0 },
	{ 0x8a, 0 }, { 0x8b, 0 }, { 0x8d, 0 }, { 0x8f, 0 }, { 0xc0, 1 },
	{ 0xc1, 1 }, { 0xc6, 1 }, { 0xc7, 4 }, { 0xd0, 0 }, { 0xd1, 0 },
	{ 0xd2, 0 }, { 0xd3, 0 }, { 0xf6, 1 }, { 0xf7, 4 }, { 0xfe, 0 },
	{ 0xff, 0 } };

/* The same of the 0F map. */
static const uint8_t modrm_0f[][2] = { { 0x40, 0 }, { 0x44, 0 }, { 0x4f, 0 },
	{ 0x90, 0 }, { 0x94, 0 }, { 0x9f, 0 }, { 0xa3, 0 }, { 0xa4, 1 },
	{ 0xa5, 0 }, { 0xab, 0 }, { 0xac, 1 }, { 0xad, 0 }, { 0xaf, 0 },
	{ 0xb0, 0 }, { 0xb1, 0 }, { 0xb3, 0 }, { 0xb6, 0 }, { 0xb7, 0 },
	{ 0xb8, 0 }, { 0xba, 1 }, { 0xbb, 0 }, { 0xbc, 0 }, { 0xbd, 0 },
	{ 0xbe, 0 }, { 0xbf, 0 }, { 0xc0, 0 }, { 0xc1, 0 }, { 0xc3, 0 },
	{ 0xc7, 0 }, { 0x0d, 0 }, { 0x18, 0 }, { 0x1e, 0 }, { 0x1f, 0 } };

/* One with a ModRM byte, its memory operand at ea. */
static void
operate(struct gen *g, const struct ea *ea)
{
	const uint8_t *op;

	if (chance(g, 8))
		PUT(g, 0xf0);
	if (chance(g, 5))
		PUT(g, chance(g, 50) ? 0xf2 : 0xf3);
	if (chance(g, 5))
		PUT(g, chance(g, 50) ? 0x64 : 0x65);
	size_prefix(g);
	if (chance(g, 65)) {
		op = modrm_ops[pick(g, ARRAY_SIZE(modrm_ops))];
		PUT(g, op[0]);
	} else {
		op = modrm_0f[pick(g, ARRAY_SIZE(modrm_0f))];
		PUT(g, 0x0f, op[0]);
	}
	put_ea(g, ea, any(g));
	put_random(g, op[1] == 4 && g->bits == 16 ? 2 : op[1]);
}

static void
gadget_valid(struct gen *g)
{
	static const uint8_t plain[] = { 0x04, 0x0c, 0x14, 0x24, 0x3c, 0x40,
		0x48, 0x50, 0x58, 0x60, 0x61, 0x6a, 0x90, 0x91, 0x98, 0x99,
		0x9c, 0x9d, 0x9e, 0x9f, 0xa8, 0xb0, 0xc3, 0xc9, 0xd7, 0xf5,
		0xf8, 0xf9, 0xfc, 0xfd, 0x27, 0x2f, 0x37, 0x3f };
	struct ea ea;
	uint8_t op;

	switch (pick(g, 8)) {
	case 0:
		op = plain[pick(g, ARRAY_SIZE(plain))];
		if (op == 0x50 || op == 0x58 || op == 0xb0 || op == 0x91)
			op |= (uint8_t)pick(g, 8);
		PUT(g, op);
		if ((op & 0xc7) == 0x04 || op == 0x6a || op == 0xa8 ||
		    (op & 0xf8) == 0xb0)
			put_random(g, 1);
		break;
	case 1: /* forward, a little */
		PUT(g, (uint8_t)(0x70 | pick(g, 16)), (uint8_t)pick(g, 12));
		break;
	case 2:
		load(g, pick(g, 8), rng_wild(g->rng));
		break;
	default:
		ea = ea_some(g);
		operate(g, &ea);
		break;
	}
}

static void
gadget_vector(struct gen *g)
{
	static const uint8_t pp[] = { 0, 0x66, 0xf2, 0xf3 };
	struct ea ea;
	uint32_t mxcsr;
	uint8_t prefix = pp[pick(g, 4)];

	if (chance(g, 6)) { /* LDMXCSR, FLDCW with exceptions unmasked */
		mxcsr = chance(g, 90) ? pick(g, 0x10000) :
					(uint32_t)rng_next(g->rng);
		ea = ea_to(g, DATA + 0x40);
		PUT(g, 0xc7);
		put_ea(g, &ea, 0);
		put_le(g, mxcsr, g->bits == 16 ? 2 : 4);
		if (chance(g, 50)) {
			PUT(g, 0x0f, 0xae);
			put_ea(g, &ea, 2);
		} else {
			PUT(g, 0xd9);
			put_ea(g, &ea, 5);
		}
		return;
	}
	ea = ea_some(g);
	switch (pick(g, 6)) {
	case 0: /* x87 */
		PUT(g, (uint8_t)(0xd8 | pick(g, 8)));
		put_ea(g, &ea, any(g));
		break;
	case 1: /* two bytes: MMX and SSE */
	case 2:
		if (prefix != 0)
			PUT(g, prefix);
		if (g->bits == 64 && chance(g, 30))
			PUT(g, (uint8_t)(0x40 | pick(g, 16)));
		PUT(g, 0x0f);
		switch (pick(g, 6)) {
		case 0:
			PUT(g, (uint8_t)(0x10 | pick(g, 8)));
			break;
		case 1:
			PUT(g, (uint8_t)(0x28 | pick(g, 8)));
			break;
		case 2:
			PUT(g, (uint8_t)(0x50 | pick(g, 16)));
			break;
		default:
			PUT(g,
			    (uint8_t)(chance(g, 50) ? 0x60 | pick(g, 32) :
						      0xd0 | pick(g, 48)));
			break;
		}
		put_ea(g, &ea, any(g));
		put_random(g, 1);
		break;
	case 3: /* three */
		if (prefix != 0)
			PUT(g, prefix);
		PUT(g, 0x0f, chance(g, 70) ? 0x38 : 0x3a, any(g));
		put_ea(g, &ea, any(g));
		put_random(g, 1);
		break;
	case 4: /* VEX */
		if (chance(g, 50)) {
			PUT(g, 0xc5, any(g), any(g));
		} else {
			PUT(g, 0xc4,
			    (uint8_t)(chance(g, 90) ?
				    (any(g) & 0xe0) | (1 + pick(g, 3)) :
				    any(g)),
			    any(g), any(g));
		}
		put_ea(g, &ea, any(g));
		put_random(g, pick(g, 2));
		break;
	default: /* EVEX */
		PUT(g, 0x62,
		    (uint8_t)(chance(g, 90) ?
			    (any(g) & 0xf0) | (1 + pick(g, 3)) :
			    any(g)),
		    (uint8_t)(any(g) | 4), any(g), any(g));
		put_ea(g, &ea, any(g));
		put_random(g, pick(g, 2));
		break;
	}
}

static void
gadget_prefix(struct gen *g)
{
	static const uint8_t prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x36,
		0x3e, 0x26, 0x64, 0x65, 0xf0, 0xf0 };
	unsigned n = chance(g, 30) ? 12 + pick(g, 5) : 1 + pick(g, 6);
	struct ea ea = ea_some(g);
	bool one = chance(g, 40); /* the same again and again */
	uint8_t prefix = prefixes[pick(g, ARRAY_SIZE(prefixes))];

	while (n-- > 0) {
		if (!one)
			prefix = prefixes[pick(g, ARRAY_SIZE(prefixes))];
		PUT(g, prefix);
		if (g->bits == 64 && chance(g, 10))
			PUT(g, (uint8_t)(0x40 | pick(g, 16)));
	}
	operate(g, &ea);
}

static void
gadget_smc(struct gen *g)
{
	uint64_t to = address(g, chance(g, 90) ? CODE_AT : TABLE_AT);
	unsigned reg = pick(g, 8);
	struct ea ea;

	switch (pick(g, 10)) {
	case 0: /* the code farther down, as it will run */
		ea = ea_to(g, to);
		PUT(g, 0xc6);
		put_ea(g, &ea, 0);
		PUT(g, chance(g, 50) ? 0x90 : any(g));
		break;
	case 1:
		ea = ea_to(g, to);
		PUT(g, chance(g, 30) ? 0xf0 : 0x90,
		    chance(g, 50) ? 0x87 : 0x01);
		put_ea(g, &ea, reg);
		break;
	case 2: /* a piece of code to another place */
		load(g, 6, address(g, CODE_AT) - g->plan->ds_base);
		load(g, 7, to - g->plan->ds_base);
		load(g, 1, 1 + pick(g, 64));
		PUT(g, 0xf3, chance(g, 50) ? 0xa4 : 0xa5);
		break;
	case 3:
		load(g, 7, to - g->plan->ds_base);
		load(g, 1, 1 + pick(g, 32));
		PUT(g, 0xb0, chance(g, 60) ? 0x90 : any(g), 0xf3, 0xaa);
		break;
	case 4: /* the stack lies in the code */
		load(g, 4, to);
		if (chance(g, 50)) {
			PUT(g, 0x50, 0x9c, 0x53);
		} else {
			PUT(g, 0xe8); /* a call that writes its address */
			put_le(g, 0, g->bits == 16 ? 2 : 4);
		}
		load(g, 4, STACKS_END - 0x800);
		break;
	case 5: /* 8, 16 and 512 bytes */
		ea = ea_to(g, chance(g, 50) ? to : to & ~15ULL);
		if (chance(g, 20))
			PUT(g, 0xf0);
		if (g->bits == 64 && chance(g, 40))
			PUT(g, 0x48);
		PUT(g, 0x0f, 0xc7);
		put_ea(g, &ea, 1);
		break;
	case 6:
		ea = ea_to(g, to);
		PUT(g, 0x0f, chance(g, 50) ? 0x11 : 0x29);
		put_ea(g, &ea, reg);
		break;
	case 7:
		ea = ea_to(g, to & ~15ULL);
		PUT(g, 0x0f, 0xae);
		put_ea(g, &ea, chance(g, 60) ? 0 : 4);
		break;
	case 8: /* across two pages */
		ea =
		    ea_to(g, CODE + 0x1000 * (1 + pick(g, 4)) - 1 - pick(g, 7));
		size_prefix(g);
		PUT(g, 0x89);
		put_ea(g, &ea, reg);
		break;
	default:
		ea = ea_to(g, to);
		size_prefix(g);
		PUT(g, chance(g, 50) ? 0x89 : 0x31);
		put_ea(g, &ea, reg);
		break;
	}
}

/* A value for an entry of a page table or descriptor table. */
static uint64_t
entry(struct gen *g)
{
	uint32_t page = 0x1000 * pick(g, 0x100);

	switch (pick(g, 5)) {
	case 0:
		return page | 0x63 | (any(g) & 0x84);
	case 1:
		return (chance(g, 50) ? CODE + (page & 0x1f000) : TABLES) | 7;
	case 2:
		return rng_wild(g->rng);
	case 3:
		return MMIO | page | 0xe7;
	default:
		return 0;
	}
}

static void
gadget_tables(struct gen *g)
{
	/* Entries that matter: for code, data, stacks, handlers, tables. */
	static const uint32_t pages[] = { CODE, CODE + 0x1000, DATA,
		DATA + 0x1000, STACKS + 0x3000, HANDLERS, GDT, IDT, TABLES,
		TABLES + 0x3000, 0x0 };
	uint32_t page = pages[pick(g, ARRAY_SIZE(pages))];
	bool wide = g->plan->world != W_PAGED32;
	uint32_t at = wide ? TABLES + 0x3000 + page / 0x1000 * 8 :
			     TABLES + 0x7000 + page / 0x1000 * 4;
	uint64_t value = entry(g);
	struct ea ea;

	if (chance(g, 25))
		at = TABLES + (pick(g, 8) << 12) + 8 * pick(g, 4);
	else if (chance(g, 20))
		at = (chance(g, 50) ? GDT : IDT) + 4 * pick(g, 128);
	ea = ea_to(g, at);
	if (chance(g, 40)) { /* a bit of what is there */
		PUT(g, 0x80);
		put_ea(g, &ea, 6);
		PUT(g, (uint8_t)BIT(pick(g, 8)));
	} else if (g->bits == 64 && chance(g, 60)) {
		load(g, 0, value);
		PUT(g, 0x48, 0x89);
		put_ea(g, &ea, 0);
	} else {
		PUT(g, 0xc7);
		put_ea(g, &ea, 0);
		put_le(g, value, g->bits == 16 ? 2 : 4);
	}
	switch (pick(g, 6)) {
	case 0:
		ea = ea_to(g, page);
		PUT(g, 0x0f, 0x01);
		put_ea(g, &ea, 7); /* invlpg */
		break;
	case 1:
		PUT(g, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8); /* cr3 again */
		break;
	case 2:
		ea = ea_to(g, page + pick(g, 0x1000));
		PUT(g, chance(g, 50) ? 0x89 : 0x8b);
		put_ea(g, &ea, 0);
		break;
	default:
		break;
	}
}

static const uint32_t msr_list[] = { 0x10, 0x1b, 0x3a, 0x3b, 0x48, 0x8b, 0xc1,
	0xfe, 0x174, 0x175, 0x176, 0x179, 0x17a, 0x198, 0x19a, 0x1a0, 0x1d9,
	0x200, 0x201, 0x250, 0x258, 0x268, 0x26f, 0x277, 0x2ff, 0x400, 0x480,
	0x6e0, 0x802, 0x808, 0x80b, 0x80f, 0x830, 0x832, 0x838, 0x83e, 0x83f,
	0xd90, 0xda0, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083,
	0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103, 0xc0010010,
	0xc0010015, 0xc001001f, 0xc0010114, 0xc0010117, 0xc0011029,
	0x40000000 };

static void
flip_control_register(struct gen *g)
{
	static const uint8_t crs[] = { 0, 0, 3, 4, 4, 8, 2, 1, 7, 15 };
	static const uint8_t bits0[] = { 0, 1, 2, 3, 5, 16, 18, 29, 30, 31 };
	static const uint8_t bits4[] = { 0, 1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 16,
		17, 18, 20, 21, 22, 23, 13 };
	unsigned cr = crs[pick(g, ARRAY_SIZE(crs))];
	uint8_t rex = g->bits == 64 && cr >= 8 ? 0x44 : 0;
	uint8_t modrm = (uint8_t)(0xc0 | (cr & 7) << 3);
	unsigned bit = cr == 0 ? bits0[pick(g, sizeof(bits0))] :
	    cr == 4            ? bits4[pick(g, sizeof(bits4))] :
				 pick(g, 64);

	if (rex != 0)
		PUT(g, rex);
	PUT(g, 0x0f, 0x20, modrm);
	if (chance(g, 80)) { /* one bit: btc eax, imm8 */
		if (g->bits == 64)
			PUT(g, 0x48);
		else if (g->bits == 16)
			PUT(g, 0x66);
		PUT(g, 0x0f, 0xba, 0xf8, (uint8_t)bit);
	} else {
		load(g, 0, rng_wild(g->rng));
	}
	if (rex != 0)
		PUT(g, rex);
	PUT(g, 0x0f, 0x22, modrm);
	if (chance(g, 40)) { /* and back */
		if (g->bits == 64)
			PUT(g, 0x48);
		else if (g->bits == 16)
			PUT(g, 0x66);
		PUT(g, 0x0f, 0xba, 0xf8, (uint8_t)bit, 0x0f, 0x22, modrm);
	}
}

static void
gadget_control(struct gen *g)
{
	static const uint8_t plain[][3] = { { 0x0f, 0x01, 0xd0 }, /* xgetbv */
		{ 0x0f, 0x01, 0xd1 }, { 0x0f, 0x01, 0xca },
		{ 0x0f, 0x01, 0xcb }, { 0x0f, 0x01, 0xf8 },
		{ 0x0f, 0x01, 0xf9 }, { 0x0f, 0x01, 0xc8 },
		{ 0x0f, 0x01, 0xc9 }, { 0x0f, 0x01, 0xc1 },
		{ 0x0f, 0x01, 0xd9 }, { 0x0f, 0x01, 0xee },
		{ 0x0f, 0x01, 0xef }, { 0x0f, 0x01, 0xd5 },
		{ 0x0f, 0x01, 0xfa }, { 0x0f, 0x01, 0xfc },
		{ 0x0f, 0x06, 0x90 }, { 0x0f, 0x09, 0x90 },
		{ 0x0f, 0x08, 0x90 }, { 0x0f, 0xa2, 0x90 },
		{ 0x0f, 0x31, 0x90 }, { 0x0f, 0x33, 0x90 },
		{ 0x0f, 0xaa, 0x90 }, { 0x0f, 0x05, 0x90 },
		{ 0x0f, 0x07, 0x90 }, { 0x0f, 0x34, 0x90 },
		{ 0x0f, 0x35, 0x90 }, { 0xf3, 0x0f, 0xc7 },
		{ 0x0f, 0xc7, 0xf0 }, { 0x0f, 0x77, 0x90 },
		{ 0x0f, 0x01, 0xfe } };
	const uint8_t *op;
	struct ea ea;
	uint32_t msr;

	switch (pick(g, 12)) {
	case 0:
	case 1:
		flip_control_register(g);
		break;
	case 2: /* debug registers */
		load(g, 0,
		    chance(g, 50) ? rng_wild(g->rng) : CODE + pick(g, 0x400));
		PUT(g, 0x0f, chance(g, 80) ? 0x23 : 0x21,
		    (uint8_t)(0xc0 | pick(g, 8) << 3));
		if (chance(g, 40)) {
			load(g, 0, pick(g, 0x10000) | rng_next(g->rng) << 16);
			PUT(g, 0x0f, 0x23, 0xf8);
		}
		break;
	case 3:
	case 4:
		msr = chance(g, 90) ? msr_list[pick(g, ARRAY_SIZE(msr_list))] :
				      (uint32_t)rng_wild(g->rng);
		if (msr == 0x10 && g->plan->compare)
			msr++; /* time */
		load(g, 1, msr);
		if (chance(g, 30)) {
			PUT(g, 0x0f, 0x32);
			break;
		}
		load(g, 0, (uint32_t)rng_wild(g->rng));
		load(g, 2, chance(g, 50) ? 0 : (uint32_t)rng_wild(g->rng));
		PUT(g, 0x0f, 0x30);
		break;
	case 5: /* xsetbv */
		load(g, 1, chance(g, 90) ? 0 : pick(g, 3));
		load(g, 0, chance(g, 70) ? pick(g, 8) : rng_wild(g->rng));
		load(g, 2, 0);
		PUT(g, 0x0f, 0x01, 0xd1);
		break;
	case 6: /* LMSW, SMSW */
		load(g, 0, chance(g, 50) ? pick(g, 16) : any(g));
		PUT(g, 0x0f, 0x01, chance(g, 70) ? 0xf0 : 0xe0);
		break;
	case 7: /* SGDT, SIDT, LGDT, LIDT */
		ea = ea_to(g,
		    chance(g, 70) ? DATA + pick(g, 0x100) :
				    address(g, somewhere(g)));
		PUT(g, 0x0f, 0x01);
		put_ea(g, &ea, pick(g, 4));
		break;
	case 8: /* SLDT, STR, LLDT, LTR, VERR, VERW; LAR, LSL */
		load(g, 0,
		    chance(g, 80) ? 8 * pick(g, GDT_ENTRIES) + pick(g, 8) :
				    (uint32_t)any(g) << 8);
		if (chance(g, 75))
			PUT(g, 0x0f, 0x00, (uint8_t)(0xc0 | pick(g, 6) << 3));
		else
			PUT(g, 0x0f, chance(g, 50) ? 0x02 : 0x03, 0xc8);
		break;
	case 9: /* INVPCID, INVLPG, XSAVES, XRSTORS */
		if (chance(g, 50))
			load(g, 0, pick(g, 6));
		ea = ea_to(g, address(g, somewhere(g)) & ~7ULL);
		if (chance(g, 40)) {
			PUT(g, 0x66, 0x0f, 0x38, 0x82);
			put_ea(g, &ea, 0);
		} else if (chance(g, 50)) {
			PUT(g, 0x0f, 0x01);
			put_ea(g, &ea, 7);
		} else {
			PUT(g, 0x0f, 0xc7);
			put_ea(g, &ea, 3 + pick(g, 3));
		}
		break;
	case 10: /* CPUID of anything */
		load(g, 0,
		    chance(g, 50)     ? pick(g, 0x20) :
			chance(g, 50) ? 0x80000000 | pick(g, 0x28) :
					rng_wild(g->rng));
		load(g, 1, pick(g, 12));
		PUT(g, 0x0f, 0xa2);
		break;
	default:
		op = plain[pick(g, ARRAY_SIZE(plain))];
		PUT(g, op[0], op[1], op[2]);
		break;
	}
}

static uint16_t
selector(struct gen *g)
{
	if (chance(g, 85))
		return (uint16_t)(8 * pick(g, 28) |
		    (chance(g, 50) ? 0 : pick(g, 8)));
	return (uint16_t)rng_wild(g->rng);
}

/* What a far transfer leads to. */
static uint64_t
target(struct gen *g)
{
	uint32_t base = g->bits == 16 ? g->lin & ~0xffffu : 0;

	if (chance(g, 85))
		return g->lin - base + pick(g, (uint32_t)(g->end - g->begin));
	return rng_wild(g->rng);
}

static void
gadget_far(struct gen *g)
{
	static const uint8_t loads[][2] = { { 0, 0xc4 }, { 0, 0xc5 },
		{ 0x0f, 0xb2 }, { 0x0f, 0xb4 }, { 0x0f, 0xb5 } };
	unsigned size = g->bits == 16 ? 2 : 4;
	unsigned reg;
	struct ea ea;

	switch (pick(g, 8)) {
	case 0: /* direct */
		if (g->bits == 64)
			break;
		PUT(g, chance(g, 60) ? 0xea : 0x9a);
		put_le(g, target(g), size);
		put_le(g, selector(g), 2);
		break;
	case 1: /* through memory */
		load(g, 0, target(g));
		ea = ea_to(g, DATA + 0x80);
		PUT(g, 0x89);
		put_ea(g, &ea, 0);
		load(g, 0, selector(g));
		ea = ea_to(g, DATA + 0x80 + size);
		PUT(g, 0x89);
		put_ea(g, &ea, 0);
		ea = ea_to(g, DATA + 0x80);
		size_prefix(g);
		if (chance(g, 60)) {
			PUT(g, 0xff);
			put_ea(g, &ea, chance(g, 50) ? 3 : 5);
		} else {
			reg = pick(g, ARRAY_SIZE(loads));
			if (loads[reg][0] != 0)
				PUT(g, loads[reg][0]);
			PUT(g, loads[reg][1]);
			put_ea(g, &ea, pick(g, 8));
		}
		break;
	case 2: /* RETF */
		PUT(g, 0x68);
		put_le(g, selector(g), size);
		PUT(g, 0x68);
		put_le(g, target(g), size);
		if (g->bits == 64 && chance(g, 20))
			PUT(g, 0x48);
		PUT(g, 0xcb);
		break;
	case 3: /* to segment registers */
	case 4:
		load(g, 0, selector(g));
		PUT(g, 0x8e, (uint8_t)(0xc0 | pick(g, 8) << 3));
		break;
	case 5:
		PUT(g, 0x68);
		put_le(g, selector(g), size);
		switch (pick(g, 5)) {
		case 0:
			PUT(g, 0x07);
			break;
		case 1:
			PUT(g, 0x17);
			break;
		case 2:
			PUT(g, 0x1f);
			break;
		default:
			PUT(g, 0x0f, chance(g, 50) ? 0xa1 : 0xa9);
			break;
		}
		break;
	case 6: /* whatever is at hand */
		ea = ea_some(g);
		PUT(g, 0xff);
		put_ea(g, &ea, chance(g, 50) ? 3 : 5);
		break;
	default:                    /* an outer, an inner task */
		PUT(g, 0x9c, 0x58); /* pushf; pop eax: NT */
		PUT(g, 0x0d);
		put_le(g, 0x4000, size);
		PUT(g, 0x50, 0x9d, 0xcf);
		break;
	}
}

static void
gadget_string(struct gen *g)
{
	static const uint8_t ops[] = { 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac,
		0xad, 0xae, 0xaf };

	if (chance(g, 60))
		load(g, 1, chance(g, 50) ? rng_wild(g->rng) : pick(g, 0x3000));
	if (chance(g, 70))
		load(g, 6, address(g, somewhere(g)) - g->plan->ds_base);
	if (chance(g, 70))
		load(g, 7, address(g, somewhere(g)) - g->plan->ds_base);
	PUT(g, chance(g, 80) ? 0xfc : 0xfd);
	if (chance(g, 10))
		PUT(g, 0x67);
	if (chance(g, 90))
		PUT(g, chance(g, 60) ? 0xf3 : 0xf2);
	size_prefix(g);
	PUT(g, ops[pick(g, ARRAY_SIZE(ops))]);
	if (chance(g, 50))
		PUT(g, 0xfc);
}

static void
gadget_state(struct gen *g)
{
	uint64_t at = DATA + 0x40 * pick(g, 0x80);
	unsigned n = pick(g, 4);
	struct ea ea;

	if (chance(g, 10))
		at = address(g, somewhere(g));
	if (chance(g, 60)) { /* first a good image, then a little off */
		load(g, 0, chance(g, 80) ? 7 : rng_wild(g->rng));
		load(g, 2, 0);
		ea = ea_to(g, at);
		PUT(g, 0x0f, 0xae);
		put_ea(g, &ea, chance(g, 70) ? 4 : chance(g, 50) ? 6 : 0);
	}
	while (n-- > 0) {
		ea = ea_to(g,
		    at + (chance(g, 40) ? 512 + pick(g, 64) : pick(g, 600)));
		PUT(g, 0xc6);
		put_ea(g, &ea, 0);
		PUT(g, chance(g, 50) ? 0 : any(g));
	}
	load(g, 0, chance(g, 70) ? 7 : rng_wild(g->rng));
	load(g, 2, chance(g, 90) ? 0 : rng_wild(g->rng));
	ea = ea_to(g, at);
	if (g->bits == 64 && chance(g, 40))
		PUT(g, 0x48);
	switch (pick(g, 6)) {
	case 0:
		PUT(g, 0xdd); /* FRSTOR, FSAVE */
		put_ea(g, &ea, chance(g, 70) ? 4 : 6);
		break;
	case 1:
		PUT(g, 0xd9); /* FLDENV, FSTENV */
		put_ea(g, &ea, chance(g, 70) ? 4 : 6);
		break;
	case 2:
		PUT(g, 0x0f, 0xae); /* FXRSTOR */
		put_ea(g, &ea, 1);
		break;
	case 3:
		PUT(g, 0x0f, 0xc7); /* XRSTORS, XSAVEC, XSAVES */
		put_ea(g, &ea, 3 + pick(g, 3));
		break;
	default:
		PUT(g, 0x0f, 0xae); /* XRSTOR */
		put_ea(g, &ea, 5);
		break;
	}
}

static void
gadget_divide(struct gen *g)
{
	struct ea ea = ea_some(g);

	if (chance(g, 15) && g->bits != 64) {
		PUT(g, chance(g, 50) ? 0xd4 : 0xd5, chance(g, 50) ? 0 : any(g));
		return;
	}
	if (chance(g, 50)) {
		load(g, 0, rng_wild(g->rng));
		load(g, 2, chance(g, 50) ? 0 : rng_wild(g->rng));
		load(g, 1, chance(g, 30) ? 0 : rng_wild(g->rng));
		ea.modrm = 0xc1;
		ea.len = 0;
	}
	size_prefix(g);
	PUT(g, chance(g, 30) ? 0xf6 : 0xf7);
	put_ea(g, &ea, 6 + pick(g, 2));
}

static void
gadget_mmio(struct gen *g)
{
	struct ea ea = ea_to(g, address(g, DEVICE_AT));

	if (chance(g, 70)) {
		operate(g, &ea);
		return;
	}
	if (chance(g, 50)) { /* wider than a device takes */
		if (chance(g, 50))
			PUT(g, chance(g, 50) ? 0x66 : 0xf3);
		PUT(g, 0x0f,
		    chance(g, 50)     ? 0x6f :
			chance(g, 50) ? 0x7f :
					(uint8_t)(0x10 | pick(g, 2)));
	} else if (chance(g, 50)) {
		PUT(g, 0xc5, any(g) | 0x78, chance(g, 50) ? 0x10 : 0x58);
	} else {
		PUT(g, (uint8_t)(0xd8 | pick(g, 8)));
	}
	put_ea(g, &ea, any(g));
}

static void
gadget_port(struct gen *g)
{
	switch (pick(g, 4)) {
	case 0:
		size_prefix(g);
		PUT(g, (uint8_t)(0xe4 | pick(g, 4)), (uint8_t)(any(g) & 0x7f));
		break;
	case 1:
		load(g, 2, rng_next(g->rng) & 0xffff);
		size_prefix(g);
		PUT(g, (uint8_t)(0xec | pick(g, 4)));
		break;
	default:
		load(g, 1, chance(g, 80) ? pick(g, 0x1800) : rng_wild(g->rng));
		load(g, 2, rng_next(g->rng) & 0xffff);
		load(g, 6, address(g, somewhere(g)) - g->plan->ds_base);
		load(g, 7, address(g, somewhere(g)) - g->plan->ds_base);
		PUT(g, chance(g, 90) ? 0xfc : 0xfd);
		if (chance(g, 80))
			PUT(g, chance(g, 50) ? 0xf3 : 0xf2);
		size_prefix(g);
		PUT(g, (uint8_t)(0x6c | pick(g, 4)));
		break;
	}
}

/* Push a word; 64-bit code sign-extends it. */
static void
push(struct gen *g, uint64_t value)
{
	PUT(g, 0x68);
	put_le(g, value, g->bits == 16 ? 2 : 4);
}

static void
gadget_frame(struct gen *g)
{
	if (chance(g, 70)) {
		push(g, selector(g)); /* SS */
		push(g, chance(g, 70) ? STACKS_END - 0x900 : rng_wild(g->rng));
		push(g, chance(g, 60) ? 0x202 : rng_wild(g->rng) | 2);
		push(g, selector(g));
		push(g, target(g));
	} else if (chance(g, 50)) { /* to virtual-8086 mode */
		for (unsigned i = 0; i < 5; i++)
			push(g, selector(g));
		push(g, STACKS_END - 0x900);
		push(g, 0x20202 | (chance(g, 50) ? 0x3000 : 0));
		push(g, 0x2000);
		push(g, pick(g, 0x400));
	}
	size_prefix(g);
	if (g->bits == 64 && chance(g, 70))
		PUT(g, 0x48);
	PUT(g, 0xcf);
}

static void
gadget_nest(struct gen *g)
{
	switch (pick(g, 12)) {
	case 0:
	case 1:
		PUT(g, 0xcd, chance(g, 50) ? (uint8_t)pick(g, 32) : any(g));
		break;
	case 2:
		PUT(g, chance(g, 50) ? 0xcc : 0xf1);
		break;
	case 3:
		PUT(g, 0xce);
		break;
	case 4:
		PUT(g, 0xfb, 0xf4); /* sti; hlt */
		break;
	case 5:
		if (chance(g, 30))
			PUT(g, 0xfa, 0xf4); /* cli; hlt */
		else
			PUT(g, 0xfa);
		break;
	case 6:
		PUT(g, 0xfb);
		break;
	case 7: /* TF and other flags */
		PUT(g, 0x9c, 0x58, 0x0d);
		put_le(g, chance(g, 50) ? 0x100 : BIT(pick(g, 22)),
		    g->bits == 16 ? 2 : 4);
		PUT(g, 0x50, 0x9d);
		break;
	case 8: /* mov ss, ax; int3 */
		PUT(g, 0x8c, 0xd0, 0x8e, 0xd0, chance(g, 50) ? 0xcc : 0x90);
		break;
	case 9: /* BOUND */
		PUT(g, 0x62, (uint8_t)(any(g) & 0x3f));
		break;
	case 10:
		PUT(g, 0xcd, 0x02); /* as if an NMI */
		break;
	default:
		PUT(g, 0xfb, 0x90, 0xfa);
		break;
	}
}

static void
gadget_loop(struct gen *g)
{
	switch (pick(g, 6)) {
	case 0:
		if (chance(g, 40)) {
			PUT(g, 0xeb, 0xfe);
			break;
		}
		/* fallthrough */
	case 1: /* a while */
		load(g, 1, pick(g, 20000));
		PUT(g, 0xe2, 0xfe);
		break;
	case 2:
		PUT(g, (uint8_t)(0x70 | pick(g, 16)),
		    (uint8_t) - (int)(2 + pick(g, 60)));
		break;
	case 3: /* calls itself until the stack ends */
		PUT(g, 0xe8);
		put_le(g, (uint64_t) - (int64_t)(5 + pick(g, 32)),
		    g->bits == 16 ? 2 : 4);
		break;
	case 4:
		PUT(g, 0xf3, 0x90, 0x70, 0xfc);
		break;
	default:
		PUT(g, (uint8_t)(0xe0 | pick(g, 4)),
		    (uint8_t) - (int)(2 + pick(g, 60)));
		break;
	}
}

static void
gadget_jump(struct gen *g)
{
	uint64_t to = target(g);
	struct ea ea;

	if (g->bits == 64 && chance(g, 10)) /* the other name of low memory */
		to |= 0xffffff8000000000;
	switch (pick(g, 5)) {
	case 0:
		load(g, 0, to);
		PUT(g, 0xff, chance(g, 60) ? 0xe0 : 0xd0);
		break;
	case 1:
		PUT(g, chance(g, 60) ? 0xe9 : 0xe8);
		put_le(g, pick(g, 256) - 128, g->bits == 16 ? 2 : 4);
		break;
	case 2:
		PUT(g, 0x0f, (uint8_t)(0x80 | pick(g, 16)));
		put_le(g, pick(g, 512) - 256, g->bits == 16 ? 2 : 4);
		break;
	case 3:
		load(g, 0, to);
		PUT(g, 0x50, 0xc3);
		break;
	default:
		ea = ea_to(g, DATA + 8 * pick(g, 16));
		load(g, 0, to);
		if (g->bits == 64)
			PUT(g, 0x48);
		PUT(g, 0x89);
		put_ea(g, &ea, 0);
		PUT(g, 0xff);
		put_ea(g, &ea, chance(g, 50) ? 4 : 2);
		break;
	}
}

static void
gadget_apic(struct gen *g)
{
	static const uint16_t regs[] = { 0x020, 0x030, 0x080, 0x0a0, 0x0b0,
		0x0d0, 0x0e0, 0x0f0, 0x100, 0x280, 0x2f0, 0x300, 0x310, 0x320,
		0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0, 0x3f0 };
	unsigned reg = regs[pick(g, ARRAY_SIZE(regs))];
	/* Modes: fixed, lowest priority, SMI, NMI, INIT, SIPI, ExtINT */
	uint32_t icr = any(g) | pick(g, 8) << 8 | pick(g, 2) << 11 |
	    pick(g, 4) << 14 | pick(g, 4) << 18;
	struct ea ea;

	if (chance(g, 40)) { /* x2APIC */
		load(g, 1, chance(g, 50) ? 0x830 : 0x800 + reg / 16);
		load(g, 0, icr);
		load(g, 2, pick(g, 3));
		PUT(g, 0x0f, chance(g, 80) ? 0x30 : 0x32);
		return;
	}
	if (chance(g, 10)) { /* its base and its modes */
		load(g, 1, 0x1b);
		load(g, 0, (chance(g, 60) ? APIC : MMIO) | pick(g, 16) << 8);
		load(g, 2, 0);
		PUT(g, 0x0f, 0x30);
		return;
	}
	if (chance(g, 40)) {
		reg = 0x300;
	} else if (chance(g, 60)) {
		icr = (uint32_t)rng_wild(g->rng);
	}
	ea = ea_to(g, APIC + reg + (chance(g, 5) ? pick(g, 16) : 0));
	if (chance(g, 75)) {
		PUT(g, 0xc7);
		put_ea(g, &ea, 0);
		put_le(g, icr, g->bits == 16 ? 2 : 4);
	} else {
		operate(g, &ea);
	}
}

static void
gadget(struct gen *g, enum kind kind)
{
	switch (kind) {
	case K_BYTES:
		put_random(g, 1 + pick(g, 15));
		break;
	case K_VALID:
		gadget_valid(g);
		break;
	case K_VECTOR:
		gadget_vector(g);
		break;
	case K_PREFIX:
		gadget_prefix(g);
		break;
	case K_SMC:
		gadget_smc(g);
		break;
	case K_TABLES:
		gadget_tables(g);
		break;
	case K_CONTROL:
		gadget_control(g);
		break;
	case K_FAR:
		gadget_far(g);
		break;
	case K_STRING:
		gadget_string(g);
		break;
	case K_STATE:
		gadget_state(g);
		break;
	case K_DIVIDE:
		gadget_divide(g);
		break;
	case K_MMIO:
		gadget_mmio(g);
		break;
	case K_PORT:
		gadget_port(g);
		break;
	case K_FRAME:
		gadget_frame(g);
		break;
	case K_NEST:
		gadget_nest(g);
		break;
	case K_LOOP:
		gadget_loop(g);
		break;
	case K_JUMP:
		gadget_jump(g);
		break;
	default:
		gadget_apic(g);
		break;
	}
}

void
code_fill(const struct plan *plan, struct rng *rng, unsigned bits, uint8_t *buf,
    uint32_t len, uint32_t lin)
{
	struct gen g = {
		.plan = plan,
		.rng = rng,
		.bits = bits,
		.p = buf,
		.begin = buf,
		.end = buf + len,
		.lin = lin,
	};
	uint8_t chosen[KINDS];
	unsigned n = 0;

	for (unsigned i = 0; i < KINDS; i++) {
		if (plan->kinds & BIT(i))
			chosen[n++] = (uint8_t)i;
	}
	while (g.p < g.end) {
		/* Something that works between what does not. */
		if ((plan->kinds & BIT(K_VALID)) && chance(&g, 30))
			gadget_valid(&g);
		else
			gadget(&g, chosen[pick(&g, n)]);
	}
}

unsigned
code_one(const struct plan *plan, struct rng *rng, unsigned bits, uint8_t *buf,
    uint32_t lin)
{
	struct gen g = {
		.plan = plan,
		.rng = rng,
		.bits = bits,
		.p = buf,
		.begin = buf,
		.end = buf + CODE_ONE_MAX,
		.lin = lin,
	};

	gadget_valid(&g);
	return (unsigned)(g.p - g.begin);
}
