/*
 * Sequences of random instructions.
 *
 * Opcodes are not listed here: an opcode map is chosen, then the opcode, the
 * prefixes and the registers by chance, and Zydis says what came out.  What it
 * does not know becomes nonsense for #UD now and then, and the rest is drawn
 * again.  Knowledge goes only into three things:
 *
 * Addresses    Memory operands are made to reach the pages.  The state that a
 *              sequence starts from is known, and so is every register that
 *              nothing has written yet; a target is chosen first, then a base
 *              (and index) with a known value, then the displacement.
 * Tuning       Some instructions do something interesting only if a register
 *              or memory suits them: REP, BT with an offset, DIV, POPF, RET,
 *              LDMXCSR, gathers.  They get helpers in front (tune()).
 * Exclusion    What cannot agree: excluded[], and whatever features.c does not
 *              know both sides to offer.
 *
 * A gen_item is one instruction with its helpers: what shrinking removes.
 */
#include <string.h>

#include <Zydis/Zydis.h>

#include "test/cpu/diff.h"

/* Left out, and why. */
static const struct {
	uint16_t mnemonic;
	const char *why;
} excluded[] = {
	{ ZYDIS_MNEMONIC_RDTSC, "time" },
	{ ZYDIS_MNEMONIC_RDTSCP, "time" },
	{ ZYDIS_MNEMONIC_RDPMC, "counts" },
	{ ZYDIS_MNEMONIC_RDPID, "the kernel's number of the CPU" },
	{ ZYDIS_MNEMONIC_CPUID, "the guest's is another one" },
	{ ZYDIS_MNEMONIC_XGETBV, "the guest's XCR0 is another one" },
	{ ZYDIS_MNEMONIC_RDRAND, "random" },
	{ ZYDIS_MNEMONIC_RDSEED, "random" },
	{ ZYDIS_MNEMONIC_SYSCALL, "enters the kernel" },
	{ ZYDIS_MNEMONIC_SYSENTER, "enters the kernel" },
	{ ZYDIS_MNEMONIC_INT, "enters the kernel (80), depends on its IDT" },
	{ ZYDIS_MNEMONIC_INT1, "hypervisors report it before or behind" },
	{ ZYDIS_MNEMONIC_SYSEXIT, "#GP or #UD: vendors differ" },
	{ ZYDIS_MNEMONIC_IRET, "far: depends on the kernel's GDT" },
	{ ZYDIS_MNEMONIC_IRETD, "far: depends on the kernel's GDT" },
	{ ZYDIS_MNEMONIC_IRETQ, "far: depends on the kernel's GDT" },
	{ ZYDIS_MNEMONIC_LDS, "loads a selector: the kernel's GDT" },
	{ ZYDIS_MNEMONIC_LES, "loads a selector: the kernel's GDT" },
	{ ZYDIS_MNEMONIC_LSS, "loads a selector: the kernel's GDT" },
	{ ZYDIS_MNEMONIC_LFS, "loads a selector: the kernel's GDT" },
	{ ZYDIS_MNEMONIC_LGS, "loads a selector: the kernel's GDT" },
	{ ZYDIS_MNEMONIC_LAR, "depends on the kernel's GDT" },
	{ ZYDIS_MNEMONIC_LSL, "depends on the kernel's GDT" },
	{ ZYDIS_MNEMONIC_VERR, "depends on the kernel's GDT" },
	{ ZYDIS_MNEMONIC_VERW, "depends on the kernel's GDT" },
	{ ZYDIS_MNEMONIC_SGDT, "UMIP: the kernel makes up a value" },
	{ ZYDIS_MNEMONIC_SIDT, "UMIP: the kernel makes up a value" },
	{ ZYDIS_MNEMONIC_SLDT, "UMIP: the kernel makes up a value" },
	{ ZYDIS_MNEMONIC_STR, "UMIP: the kernel makes up a value" },
	{ ZYDIS_MNEMONIC_SMSW, "UMIP: the kernel makes up a value" },
	{ ZYDIS_MNEMONIC_XSAVE, "XINUSE is the processor's affair" },
	{ ZYDIS_MNEMONIC_XSAVE64, "XINUSE is the processor's affair" },
	{ ZYDIS_MNEMONIC_XSAVEC, "XINUSE is the processor's affair" },
	{ ZYDIS_MNEMONIC_XSAVEC64, "XINUSE is the processor's affair" },
	{ ZYDIS_MNEMONIC_XSAVEOPT, "XINUSE is the processor's affair" },
	{ ZYDIS_MNEMONIC_XSAVEOPT64, "XINUSE is the processor's affair" },
	{ ZYDIS_MNEMONIC_XRSTOR, "RFBM: the guest's XCR0 is another one" },
	{ ZYDIS_MNEMONIC_XRSTOR64, "RFBM: the guest's XCR0 is another one" },
	{ ZYDIS_MNEMONIC_VMCALL, "calls the hypervisor below us" },
	{ ZYDIS_MNEMONIC_VMMCALL, "calls the hypervisor below us" },
};

#define SLOT_LOOP_MAX 48u /* RCX of a loop or a REP */
#define FLAGS_STATUS 0x8d5u
#define FLAG_AC 0x40000u

/* Opcode maps. */
enum space {
	SP_ONE,
	SP_0F,
	SP_0F38,
	SP_0F3A,
	SP_X87,
	SP_VEX,
	SP_EVEX,
	SPACES,
};

/* What the operand of an instruction in the making looks like. */
struct ea {
	uint8_t modrm; /* mod and rm */
	bool has_sib;
	uint8_t sib;
	uint8_t disp_size;
	int32_t disp;
	bool x, b; /* REX.X and REX.B */
	bool rip;  /* relative to RIP: to addr */
	uint32_t addr;
};

struct gen {
	const struct gen_params *params;
	struct rng *rng;
	unsigned bits;
	unsigned gprs; /* that have names: 16, or 8 */
	ZydisDecoder decoder;
	uint32_t enabled; /* BIT(enum space) */
	uint64_t value[CPU_GPRS];
	uint16_t known; /* BIT(enum cpu_gpr): value is */
	bool known_fs, known_gs;
	uint64_t fs_base, gs_base;
	uint32_t undefined; /* status flags that are, now */
	unsigned at;        /* the item in the making */
	unsigned floor;     /* loops do not nest: where one may begin again */
	struct gen_seq *seq;
};

/* One instruction as it was drawn. */
struct draw {
	uint8_t bytes[32];
	unsigned len; /* of what was drawn, before Zydis says what counts */
	bool has_ea;
	struct ea ea;
	unsigned prefixes; /* bytes before REX */
	uint8_t seg;       /* prefix, or 0 */
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
};

void
gen_list_excluded(FILE *out)
{
	for (unsigned i = 0; i < ARRAY_SIZE(excluded); i++)
		fprintf(out, "%s: %s\n",
		    ZydisMnemonicGetString(excluded[i].mnemonic),
		    excluded[i].why);
	fprintf(out,
	    "far transfers, MOV and POP to segments: the kernel's GDT\n"
	    "near branches with 66 in 64-bit code: vendors differ\n"
	    "0F 0D with a register: NOP or #UD, vendors differ\n"
	    "SHA with misaligned memory: vendors differ\n"
	    "LOOPE and LOOPNE with F2 or F3: AMD's heed the prefix\n"
	    "VEX.W of KMOV with a general register outside of 64-bit code: AMD's "
	    "heed it\n"
	    "EVEX.X, which should not matter, clear with rSP: some read an rSP "
	    "from before a push\n"
	    "whatever CPUID of host or guest does not offer\n");
}

void
gen_decoder(ZydisDecoder *decoder, unsigned bits)
{
	switch (bits) {
	case DIFF_16:
		(void)ZydisDecoderInit(decoder,
		    ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
		break;
	case DIFF_32:
		(void)ZydisDecoderInit(decoder,
		    ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
		break;
	default:
		(void)ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64,
		    ZYDIS_STACK_WIDTH_64);
		break;
	}
}

/* ---- items -------------------------------------------------------------- */

static void
emit(struct gen_item *item, const uint8_t *bytes, unsigned len)
{
	assert(item->len + len <= GEN_ITEM_MAX);
	memcpy(item->bytes + item->len, bytes, len);
	item->len = (uint8_t)(item->len + len);
}

#define EMIT(item, ...)                                 \
	emit((item), (const uint8_t[]) { __VA_ARGS__ }, \
	    sizeof((const uint8_t[]) { __VA_ARGS__ }))

static void
emit_le(struct gen_item *item, uint64_t value, unsigned size)
{
	emit(item, (const uint8_t *)&value, size);
}

static void
forget(struct gen *g, struct gen_item *item, unsigned reg)
{
	g->known &= (uint16_t)~BIT(reg);
	item->writes |= (uint16_t)BIT(reg);
}

/* A helper: MOV of a constant. */
static void
load(struct gen *g, struct gen_item *item, unsigned reg, uint64_t value)
{
	uint8_t b = reg >> 3, low = reg & 7;

	if (g->bits != DIFF_64)
		value = (uint32_t)value;
	if (value == (uint32_t)value) {
		if (g->bits == DIFF_16)
			EMIT(item, 0x66);
		if (b != 0)
			EMIT(item, 0x41);
		EMIT(item, (uint8_t)(0xb8 | low));
		emit_le(item, value, 4);
	} else if (value == (uint64_t)(int64_t)(int32_t)value) {
		EMIT(item, (uint8_t)(0x48 | b), 0xc7, (uint8_t)(0xc0 | low));
		emit_le(item, value, 4);
	} else {
		EMIT(item, (uint8_t)(0x48 | b), (uint8_t)(0xb8 | low));
		emit_le(item, value, 8);
	}
	item->writes |= (uint16_t)BIT(reg);
	g->known |= (uint16_t)BIT(reg);
	g->value[reg] = value;
}

/* An item that ends in a memory operand without registers: [lin]. */
static void
emit_absolute(const struct gen *g, struct gen_item *item, unsigned reg,
    uint32_t lin)
{
	if (g->bits == DIFF_16) {
		EMIT(item, (uint8_t)(reg << 3 | 6));
		emit_le(item, lin - DIFF_DATA, 2);
		return;
	}
	EMIT(item, (uint8_t)(reg << 3 | 4), 0x25);
	emit_le(item, lin, 4);
}

/* ---- drawing addresses -------------------------------------------------- */

static uint64_t
pick_target(struct gen *g, bool vector)
{
	static const uint16_t align[] = { 16, 32, 64 };
	struct rng *rng = g->rng;
	unsigned what = rng_below(rng, 100);
	uint64_t target;

	if (what < 82)
		target = DIFF_DATA + DIFF_PAGE + rng_below(rng, 2 * DIFF_PAGE);
	else if (what < 87)
		target = DIFF_DATA + 4 * DIFF_PAGE + rng_below(rng, 0x800);
	else if (what < 90)
		target = DIFF_DATA + 3 * DIFF_PAGE + rng_below(rng, DIFF_PAGE);
	else if (what < 95)
		target = DIFF_STACK + rng_below(rng, DIFF_STACK_SIZE);
	else if (what < 96)
		target = DIFF_CODE + rng_below(rng, DIFF_CODE_SIZE);
	else if (what < 98)
		target = DIFF_DATA + rng_below(rng, 6 * DIFF_PAGE);
	else if (what < 99)
		target = rng_next(rng);
	else
		target = (rng_next(rng) & 0xffff) | 0x8000000000000000;
	if (what < 90 && rng_chance(rng, 30)) /* across or at a page's edge */
		target = round_down(target + DIFF_PAGE / 2, DIFF_PAGE) +
		    rng_below(rng, 80) - 64;
	if (rng_chance(rng, vector ? 80 : 30))
		target = round_down(target, align[rng_below(rng, 3)]);
	if (g->bits == DIFF_16)
		target -= DIFF_DATA;
	if (g->bits != DIFF_64)
		target = (uint32_t)target;
	return target;
}

static bool
is_known(const struct gen *g, unsigned reg)
{
	return g->known & BIT(reg);
}

static bool
fits(int64_t v)
{
	return v == (int32_t)v;
}

/* The same with 16-bit addresses: what BP takes part in lies in the stack. */
static void
pick_ea16(struct gen *g, uint64_t target, struct ea *ea)
{
	static const uint8_t base[8] = { CPU_RBX, CPU_RBX, CPU_RBP, CPU_RBP,
		CPU_RSI, CPU_RDI, CPU_RBP, CPU_RBX };
	static const uint8_t index[4] = { CPU_RSI, CPU_RDI, CPU_RSI, CPU_RDI };
	unsigned rm = rng_below(g->rng, 8);
	uint64_t v = rng_next(g->rng);
	int16_t disp;

	memset(ea, 0, sizeof(*ea));
	if (!is_known(g, base[rm]) || (rm < 4 && !is_known(g, index[rm])) ||
	    rng_chance(g->rng, 15)) {
		ea->modrm = 6;
		ea->disp_size = 2;
		ea->disp = (int16_t)target;
		return;
	}
	if (rng_chance(g->rng, 5))
		target = v;
	else if (base[rm] == CPU_RBP)
		target = v % DIFF_STACK_SIZE;
	disp = (int16_t)(target - g->value[base[rm]]);
	if (rm < 4)
		disp = (int16_t)(disp - (int64_t)g->value[index[rm]]);
	ea->disp = disp;
	ea->disp_size = disp == (int8_t)disp ? 1 : 2;
	ea->modrm = (uint8_t)(ea->disp_size << 6 | rm);
	if (disp == 0 && rm != 6) {
		ea->disp_size = 0;
		ea->modrm = (uint8_t)rm;
	}
}

/* ModRM, SIB and displacement that give `target`; a helper may be emitted. */
static void
pick_ea(struct gen *g, struct gen_item *item, uint64_t target, bool evex,
    struct ea *ea)
{
	struct rng *rng = g->rng;
	unsigned start = rng_below(rng, g->gprs), base, index = 4, scale = 0;
	unsigned how = rng_below(rng, 100);
	int64_t disp = 0;
	bool found = false;

	memset(ea, 0, sizeof(*ea));
	if (how < 5) { /* anything */
		uint64_t v = rng_next(rng);

		ea->modrm = v % 3 << 6 | (v >> 8 & 7);
		ea->has_sib = (ea->modrm & 7) == 4;
		ea->sib = (uint8_t)(v >> 16);
		ea->disp_size = ea->modrm >> 6 == 1 ? 1 :
		    ea->modrm >> 6 == 2 || (ea->modrm & 7) == 5 ||
			(ea->has_sib && (ea->sib & 7) == 5) ?
						      4 :
						      0;
		ea->disp = (int32_t)rng_next(rng);
		if (v & BIT(40))
			ea->disp %= 1024;
		ea->x = g->bits == DIFF_64 && (v & BIT(32));
		ea->b = g->bits == DIFF_64 && (v & BIT(33));
		return;
	}
	if (how < 20 && target < BIT(31)) {
		ea->modrm = how < 13 ? 5 : 4; /* relative to RIP, with SIB */
		ea->rip = ea->modrm == 5 && g->bits == DIFF_64;
		ea->has_sib = ea->modrm == 4;
		ea->sib = 0x25;
		ea->disp_size = 4;
		ea->disp = (int32_t)target;
		ea->addr = (uint32_t)target;
		return;
	}
	if (rng_chance(rng, 35)) { /* a known, small one */
		for (unsigned i = 0; i < g->gprs; i++) {
			unsigned reg = (start + 5 * i) % g->gprs;

			if (reg != CPU_RSP && is_known(g, reg) &&
			    (g->bits != DIFF_64 ||
				g->value[reg] + 65536 < 131072)) {
				index = reg;
				scale = rng_below(rng, 4);
				break;
			}
		}
		if (index != 4)
			target -= g->value[index] << scale;
	}
	for (unsigned i = 0; i < g->gprs && !found; i++) {
		base = (start + i) % g->gprs;
		disp = (int64_t)(target - g->value[base]);
		if (g->bits != DIFF_64)
			disp = (int32_t)disp;
		found = is_known(g, base) && fits(disp);
	}
	if (!found) {
		do {
			base = rng_below(rng, g->gprs);
		} while (base == CPU_RSP || base == index);
		disp = (int64_t)rng_below(rng, 256) - 128;
		load(g, item, base, target - (uint64_t)disp);
	}
	ea->b = base >> 3;
	ea->x = index >> 3;
	ea->has_sib = index != 4 || (base & 7) == 4 || rng_chance(rng, 10);
	ea->sib = (uint8_t)(scale << 6 | (index & 7) << 3 | (base & 7));
	ea->modrm = ea->has_sib ? 4 : base & 7;
	ea->disp = (int32_t)disp;
	if (disp == 0 && (base & 7) != 5 && rng_chance(rng, 80)) {
		ea->disp_size = 0;
	} else if (disp == (int8_t)disp && rng_chance(rng, evex ? 10 : 85)) {
		ea->disp_size = 1;
		ea->modrm |= 0x40;
	} else {
		ea->disp_size = 4;
		ea->modrm |= 0x80;
	}
}

/* ---- drawing instructions ----------------------------------------------- */

static void
put8(struct draw *d, unsigned byte)
{
	d->bytes[d->len++] = (uint8_t)byte;
}

static enum space
pick_space(struct gen *g)
{
	static const uint8_t weight[SPACES] = { [SP_ONE] = 30,
		[SP_0F] = 25,
		[SP_0F38] = 8,
		[SP_0F3A] = 6,
		[SP_X87] = 10,
		[SP_VEX] = 25,
		[SP_EVEX] = 30 };
	unsigned total = 0, n;

	for (unsigned i = 0; i < SPACES; i++)
		total += g->enabled & BIT(i) ? weight[i] : 0;
	n = rng_below(g->rng, total);
	for (unsigned i = 0; i < SPACES; i++) {
		unsigned w = g->enabled & BIT(i) ? weight[i] : 0;

		if (n < w)
			return (enum space)i;
		n -= w;
	}
	return SP_ONE;
}

static void
draw_prefixes(struct gen *g, struct draw *d, bool vex)
{
	struct rng *rng = g->rng;

	if (d->seg != 0)
		put8(d, d->seg);
	if (rng_chance(rng, g->bits == DIFF_64 ? 4 : 1))
		put8(d, 0x67);
	if (vex)
		return;
	if (rng_chance(rng, 22))
		put8(d, 0x66);
	if (rng_chance(rng, 10))
		put8(d, 0xf3);
	if (rng_chance(rng, 10))
		put8(d, 0xf2);
	if (rng_chance(rng, 4))
		put8(d, 0xf0);
	if (rng_chance(rng, 2)) { /* they mean nothing in 64-bit code */
		static const uint8_t ignored[] = { 0x26, 0x2e, 0x36, 0x3e };

		put8(d, ignored[rng_below(rng, 4)]);
	}
}

/*
 * A VEX prefix, and the opcode where a hint is needed: those for general and
 * for mask registers are too few to be met by chance.
 */
static int
draw_vex(struct gen *g, struct draw *d, bool x, bool b)
{
	struct rng *rng = g->rng;
	uint64_t classes = g->params->classes;
	unsigned map = 1 + rng_below(rng, 3);
	unsigned w = rng_below(rng, 2),
		 r = g->bits == DIFF_64 && rng_chance(rng, 50);
	unsigned vvvv = rng_chance(rng, 40) ? 0 : rng_below(rng, 16);
	unsigned lpp = rng_below(rng, 8);
	int opcode = -1;

	if ((classes & GEN_INT) &&
	    (!(classes & GEN_AVX) || rng_chance(rng, 20))) {
		static const uint8_t opcodes[] = { 0xf2, 0xf3, 0xf5, 0xf6, 0xf7,
			0xf7, 0xf0 };

		opcode = opcodes[rng_below(rng, sizeof(opcodes))];
		map = opcode == 0xf0 ? 3 : 2;
		lpp &= 3;
	} else if ((classes & GEN_AVX512) &&
	    (!(classes & GEN_AVX) || rng_chance(rng, 20))) {
		static const uint8_t high[] = { 0x40, 0x90, 0x30 };
		unsigned i = rng_below(rng, 3);

		opcode = high[i] | (int)rng_below(rng, 16);
		map = i == 2 ? 3 : 1;
	}

	if (map == 1 && !x && !b && rng_chance(rng, 50)) {
		put8(d, 0xc5);
		put8(d, (r ^ 1) << 7 | (vvvv ^ 15) << 3 | lpp);
		return opcode;
	}
	put8(d, 0xc4);
	put8(d, (r ^ 1) << 7 | (unsigned)!x << 6 | (unsigned)!b << 5 | map);
	put8(d, w << 7 | (vvvv ^ 15) << 3 | lpp);
	return opcode;
}

static void
draw_evex(struct gen *g, struct draw *d, bool x, bool b, bool mem)
{
	static const uint8_t maps[] = { 1, 1, 1, 2, 2, 2, 3, 3, 5, 6 };
	struct rng *rng = g->rng;
	unsigned v = (unsigned)rng_next(rng);
	unsigned map = maps[rng_below(rng, sizeof(maps))];
	unsigned vvvv = rng_chance(rng, 40) ? 0 : rng_below(rng, 32);
	unsigned aaa = rng_chance(rng, 40) ? 0 : rng_below(rng, 8);
	unsigned z = aaa != 0 && rng_chance(rng, 35);
	unsigned bc = rng_chance(rng, mem ? 15 : 10);

	if (g->bits != DIFF_64) {
		vvvv &= 7;
		v |= 0x90;
	}
	put8(d, 0x62);
	put8(d, (v & 0x90) | (unsigned)!x << 6 | (unsigned)!b << 5 | map);
	put8(d, (v >> 8 & 0x83) | 4 | (~vvvv & 15) << 3);
	put8(d,
	    z << 7 | rng_below(rng, 3) << 5 | bc << 4 | (vvvv < 16) << 3 | aaa);
}

static void
draw_opcode(struct gen *g, struct draw *d, enum space space)
{
	struct rng *rng = g->rng;
	bool few = space == SP_0F38 && (g->params->classes & GEN_INT) &&
	    rng_chance(rng, 30); /* MOVBE, CRC32, ADCX */

	switch (space) {
	case SP_0F:
		put8(d, 0x0f);
		break;
	case SP_0F38:
		put8(d, 0x0f);
		put8(d, 0x38);
		break;
	case SP_0F3A:
		put8(d, 0x0f);
		put8(d, 0x3a);
		break;
	case SP_X87:
		put8(d, 0xd8 + rng_below(rng, 8));
		return;
	default:
		break;
	}
	put8(d, few ? 0xf0 | rng_below(rng, 16) : rng_below(rng, 256));
}

/*
 * Draw bytes and have them decoded.  A helper for the address may be emitted;
 * item->rel is set for an operand that is relative to RIP.
 */
static bool
draw(struct gen *g, struct gen_item *item, enum space space, struct draw *d)
{
	struct rng *rng = g->rng;
	bool vex = space == SP_VEX || space == SP_EVEX;
	bool mem = rng_chance(rng, space == SP_X87 ? 35 : 55);
	uint64_t target = pick_target(g, space != SP_ONE);
	bool x = g->bits == DIFF_64 && rng_chance(rng, 50);
	bool b = g->bits == DIFF_64 && rng_chance(rng, 50);
	bool short_ea;
	int opcode = -1;

	d->len = 0;
	d->seg = 0;
	if (mem && rng_chance(rng, g->bits == DIFF_64 ? 8 : 1)) {
		d->seg = rng_chance(rng, 50) ? 0x64 : 0x65;
		if (d->seg == 0x64 && g->known_fs)
			target -= g->fs_base;
		if (d->seg == 0x65 && g->known_gs)
			target -= g->gs_base;
	}
	short_ea = g->bits == DIFF_16 && rng_chance(rng, 75);
	if (g->bits == DIFF_16 && mem && !short_ea)
		put8(d, 0x67);
	draw_prefixes(g, d, vex);
	d->prefixes = d->len;
	d->has_ea = mem;
	if (mem) {
		if (short_ea)
			pick_ea16(g, target, &d->ea);
		else
			pick_ea(g, item, target, space == SP_EVEX, &d->ea);
		x = d->ea.x;
		b = d->ea.b;
	}
	if (space == SP_VEX)
		opcode = draw_vex(g, d, x, b);
	else if (space == SP_EVEX)
		draw_evex(g, d, x, b, mem);
	else if (g->bits == DIFF_64 &&
	    ((mem && (x || b)) || rng_chance(rng, 45)))
		put8(d,
		    0x40 | rng_below(rng, 2) << 3 | rng_below(rng, 2) << 2 |
			(unsigned)x << 1 | b);
	if (opcode >= 0)
		put8(d, (unsigned)opcode);
	else
		draw_opcode(g, d, space);
	if (mem) {
		put8(d, d->ea.modrm | rng_below(rng, 8) << 3);
		if (d->ea.has_sib)
			put8(d, d->ea.sib);
		for (unsigned i = 0; i < d->ea.disp_size; i++)
			put8(d, (uint8_t)(d->ea.disp >> 8 * i));
	} else {
		put8(d, 0xc0 | rng_below(rng, 64));
	}
	for (unsigned i = 0; i < 9; i++)
		put8(d,
		    rng_chance(rng, 30) ? rng_below(rng, 8) :
					  rng_below(rng, 256));
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&g->decoder, d->bytes,
	    MIN(d->len, 15u), &d->insn, d->operand));
}

/* ---- which may stay ----------------------------------------------------- */

static uint64_t
class_of(const struct draw *d)
{
	const ZydisDecodedInstruction *in = &d->insn;
	bool gpr = true, mmx = false, xmm = false;

	switch (in->meta.category) {
	case ZYDIS_CATEGORY_STRINGOP:
		return GEN_STRING;
	case ZYDIS_CATEGORY_PUSH:
	case ZYDIS_CATEGORY_POP:
		return GEN_STACK;
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
		return GEN_FLOW;
	case ZYDIS_CATEGORY_IO:
	case ZYDIS_CATEGORY_IOSTRINGOP:
	case ZYDIS_CATEGORY_SYSTEM:
	case ZYDIS_CATEGORY_INTERRUPT:
		return GEN_SYSTEM;
	case ZYDIS_CATEGORY_RDWRFSGS:
		return GEN_INT;
	default:
		break;
	}
	if (in->meta.isa_set == ZYDIS_ISA_SET_SSE3X87)
		return GEN_X87;
	if (in->mnemonic == ZYDIS_MNEMONIC_ENTER ||
	    in->mnemonic == ZYDIS_MNEMONIC_LEAVE)
		return GEN_STACK;
	if (in->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED)
		return GEN_SYSTEM;
	switch (in->meta.isa_ext) {
	case ZYDIS_ISA_EXT_X87:
		return GEN_X87;
	case ZYDIS_ISA_EXT_MMX:
		return GEN_MMX;
	case ZYDIS_ISA_EXT_AVX512EVEX:
	case ZYDIS_ISA_EXT_AVX512VEX:
		return GEN_AVX512;
	default:
		break;
	}
	for (unsigned i = 0; i < in->operand_count; i++) {
		ZydisRegisterClass c;

		if (d->operand[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		c = ZydisRegisterGetClass(d->operand[i].reg.value);
		if (c == ZYDIS_REGCLASS_MMX)
			mmx = true;
		if (c == ZYDIS_REGCLASS_XMM || c == ZYDIS_REGCLASS_YMM ||
		    c == ZYDIS_REGCLASS_ZMM)
			xmm = true;
		if (mmx || xmm ||
		    d->operand[i].reg.value == ZYDIS_REGISTER_MXCSR)
			gpr = false;
	}
	if (mmx && !xmm)
		return GEN_MMX;
	if (gpr)
		return in->meta.isa_ext == ZYDIS_ISA_EXT_AVX ? GEN_AVX :
							       GEN_INT;
	return in->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? GEN_AVX :
								GEN_SSE;
}

/* A GPR's number, whatever part of it; -1 if it is none. */
static int
gpr_of(ZydisRegister reg)
{
	ZydisRegister r =
	    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (r < ZYDIS_REGISTER_RAX || r > ZYDIS_REGISTER_R15)
		return -1;
	return (int)(r - ZYDIS_REGISTER_RAX);
}

static bool
writes_rsp(const struct draw *d)
{
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		if (d->operand[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (d->operand[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    gpr_of(d->operand[i].reg.value) == CPU_RSP)
			return true;
	}
	return false;
}

static bool
is_excluded(const struct gen *g, const struct draw *d)
{
	const ZydisDecodedInstruction *in = &d->insn;

	for (unsigned i = 0; i < ARRAY_SIZE(excluded); i++) {
		if (excluded[i].mnemonic == in->mnemonic)
			return true;
	}
	if (in->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return true;
	if (in->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE &&
	    g->bits == DIFF_64 &&
	    (in->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE))
		return true;
	if (in->opcode_map == ZYDIS_OPCODE_MAP_0F && in->opcode == 0x0d &&
	    in->raw.modrm.mod == 3)
		return true;
	if (in->mnemonic == ZYDIS_MNEMONIC_KMOVD && g->bits != DIFF_64 &&
	    in->raw.vex.W && (in->opcode == 0x92 || in->opcode == 0x93))
		return true;
	if (in->mnemonic == ZYDIS_MNEMONIC_LOOPE ||
	    in->mnemonic == ZYDIS_MNEMONIC_LOOPNE) {
		for (unsigned i = 0; i < in->raw.prefix_count; i++) {
			if (in->raw.prefixes[i].value == 0xf2 ||
			    in->raw.prefixes[i].value == 0xf3)
				return true;
		}
	}
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *op = &d->operand[i];

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM &&
		    in->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
		    in->raw.evex.X == 0 && gpr_of(op->reg.value) == CPU_RSP)
			return true;
		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    ZydisRegisterGetClass(op->reg.value) ==
			ZYDIS_REGCLASS_SEGMENT)
			return true;
	}
	return false;
}

static bool
acceptable(struct gen *g, const struct draw *d)
{
	const ZydisDecodedInstruction *in = &d->insn;
	uint64_t class = class_of(d);

	if (is_excluded(g, d) || !(g->params->classes & class))
		return false;
	if (!features_have_isa(g->params->features, in->meta.isa_set))
		return false;
	/* They end most sequences, and vary little. */
	if (class == GEN_SYSTEM && !rng_chance(g->rng, 10))
		return false;
	if (in->mnemonic == ZYDIS_MNEMONIC_NOP && !rng_chance(g->rng, 10))
		return false;
	if (class != GEN_STACK && class != GEN_FLOW && writes_rsp(d) &&
	    !rng_chance(g->rng, 15))
		return false;
	if (g->params->defined && in->cpu_flags != NULL &&
	    (in->cpu_flags->tested & g->undefined))
		return false;
	return true;
}

/* ---- tuning ------------------------------------------------------------- */

static bool
points_to_data(const struct gen *g, unsigned reg)
{
	return is_known(g, reg) &&
	    g->value[reg] - diff_offset(g->bits, DIFF_DATA, DIFF_DATA) <
	    DIFF_DATA_END - DIFF_DATA;
}

static void
want_pointer(struct gen *g, struct gen_item *item, unsigned reg)
{
	if (!points_to_data(g, reg) && rng_chance(g->rng, 92))
		load(g, item, reg, pick_target(g, false));
}

/* Is the register part of the drawn memory operand? */
static bool
addresses_with(const struct draw *d, unsigned reg)
{
	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *op = &d->operand[i];

		if (op->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (gpr_of(op->mem.base) == (int)reg ||
			gpr_of(op->mem.index) == (int)reg))
			return true;
	}
	return false;
}

static void
tune_string(struct gen *g, struct gen_item *item, const struct draw *d)
{
	bool rep = d->insn.attributes &
	    (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
		ZYDIS_ATTRIB_HAS_REPNE);

	if (addresses_with(d, CPU_RSI))
		want_pointer(g, item, CPU_RSI);
	if (addresses_with(d, CPU_RDI))
		want_pointer(g, item, CPU_RDI);
	if (rep && rng_chance(g->rng, 96) &&
	    (!is_known(g, CPU_RCX) || g->value[CPU_RCX] > 512 ||
		rng_chance(g->rng, 50)))
		load(g, item, CPU_RCX,
		    rng_below(g->rng, rng_chance(g->rng, 85) ? 40 : 4096));
}

/* The next item that a branch may go to. */
static uint8_t
pick_forward(struct gen *g)
{
	return (uint8_t)(g->at + 1 + rng_below(g->rng, 3));
}

/* LOOP back, if RCX is small and nothing on the way writes it. */
static bool
pick_backward(struct gen *g, struct gen_item *item)
{
	unsigned target =
	    g->at - MIN(g->at - g->floor, 1 + rng_below(g->rng, 3));

	if (!is_known(g, CPU_RCX) || g->value[CPU_RCX] == 0 ||
	    g->value[CPU_RCX] > SLOT_LOOP_MAX)
		return false;
	for (unsigned i = target; i < g->at; i++) {
		if (g->seq->item[i].writes & BIT(CPU_RCX))
			return false;
	}
	item->target = (uint8_t)target;
	g->floor = g->at + 1;
	return true;
}

/* A branch with a displacement: false if it cannot be aimed. */
static bool
tune_relative(struct gen *g, struct gen_item *item, const struct draw *d)
{
	const ZydisDecodedInstruction *in = &d->insn;
	bool loop = in->mnemonic == ZYDIS_MNEMONIC_LOOP ||
	    in->mnemonic == ZYDIS_MNEMONIC_LOOPE ||
	    in->mnemonic == ZYDIS_MNEMONIC_LOOPNE;

	if (in->raw.imm[0].size == 0)
		return false;
	if (!loop || !rng_chance(g->rng, 60) || !pick_backward(g, item))
		item->target = pick_forward(g);
	item->rel = REL_JUMP;
	item->rel_at = (uint8_t)(item->len + in->raw.imm[0].offset);
	item->rel_size = in->raw.imm[0].size / 8;
	item->rel_end = (uint8_t)(item->len + in->length);
	return true;
}

static void
aim(struct gen *g, struct gen_item *item)
{
	item->target = pick_forward(g);
	item->rel = REL_ABS;
	item->rel_at = item->len;
	item->rel_size = g->bits == DIFF_16 ? 2 : 4;
	emit_le(item, 0, item->rel_size);
}

/* JMP and CALL through a register or memory: true if all is emitted here. */
static bool
tune_indirect(struct gen *g, struct gen_item *item, const struct draw *d)
{
	unsigned digit = d->insn.raw.modrm.reg;
	int reg;

	if (!rng_chance(g->rng, 88))
		return false;
	item->rel = REL_NONE;
	if (d->operand[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (g->bits == DIFF_64)
			EMIT(item, 0x48);
		EMIT(item, 0xc7);
		emit_absolute(g, item, 0, DIFF_SLOT_JUMP);
		aim(g, item);
		EMIT(item, 0xff);
		emit_absolute(g, item, digit, DIFF_SLOT_JUMP);
		return true;
	}
	reg = gpr_of(d->operand[0].reg.value);
	if (reg < 0 || reg == CPU_RSP)
		return false;
	if (reg >= 8)
		EMIT(item, 0x41);
	EMIT(item, (uint8_t)(0xb8 | (reg & 7)));
	aim(g, item);
	forget(g, item, (unsigned)reg);
	emit(item, d->bytes, d->insn.length);
	return true;
}

/* Storing the x87 state: what is not compared is overwritten at once. */
static void
emit_fx_store(const struct gen *g, struct gen_item *item, bool fxsave,
    uint8_t opcode, uint32_t slot)
{
	static const uint8_t env[] = { 12, 16, 20, 24 };
	static const uint8_t fx[] = { 8, 12, 16, 20, 28 };
	unsigned n = fxsave ? ARRAY_SIZE(fx) : ARRAY_SIZE(env);

	if (!fxsave && g->bits == DIFF_16)
		EMIT(item, 0x66); /* the format of 32-bit code */
	if (fxsave)
		EMIT(item, 0x0f);
	EMIT(item, opcode);
	emit_absolute(g, item, fxsave ? 0 : 6, slot);
	if (fxsave) { /* FOP */
		if (g->bits != DIFF_16)
			EMIT(item, 0x66);
		EMIT(item, 0xc7);
		emit_absolute(g, item, 0, slot + 6);
		emit_le(item, 0, 2);
	}
	for (unsigned i = 0; i < n; i++) {
		if (g->bits == DIFF_16)
			EMIT(item, 0x66);
		EMIT(item, 0xc7);
		emit_absolute(g, item, 0, slot + (fxsave ? fx[i] : env[i]));
		emit_le(item, 0, 4);
	}
}

/* VMOVDQU of small indices into the register that a VSIB operand names. */
static void
tune_vsib(struct gen *g, struct gen_item *item, const struct draw *d,
    const ZydisDecodedOperand *op)
{
	ZydisRegisterClass class = ZydisRegisterGetClass(op->mem.index);
	unsigned reg = (unsigned)ZydisRegisterGetId(op->mem.index);
	unsigned l = class == ZYDIS_REGCLASS_ZMM ? 2 :
	    class == ZYDIS_REGCLASS_YMM          ? 1 :
						   0;
	uint32_t slot =
	    rng_chance(g->rng, 50) ? DIFF_SLOT_INDEX4 : DIFF_SLOT_INDEX8;

	if (d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
		EMIT(item, 0xc5, (uint8_t)((reg < 8) << 7 | 0x7a | l << 2),
		    0x6f);
	} else {
		EMIT(item, 0x62,
		    (uint8_t)(0x61 | !(reg & 8) << 7 | !(reg & 16) << 4), 0x7e,
		    (uint8_t)(0x08 | l << 5), 0x6f);
	}
	emit_absolute(g, item, reg & 7, slot);
}

static void
tune_bit_offset(struct gen *g, struct gen_item *item, const struct draw *d)
{
	int reg;

	if (d->operand[0].type != ZYDIS_OPERAND_TYPE_MEMORY ||
	    d->operand[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return;
	reg = gpr_of(d->operand[1].reg.value);
	if (reg < 0 || reg == CPU_RSP || addresses_with(d, (unsigned)reg) ||
	    !rng_chance(g->rng, 90))
		return;
	load(g, item, (unsigned)reg,
	    (uint64_t)(int64_t)((int32_t)rng_below(g->rng, 8192) - 4096));
}

/*
 * Whatever the instruction needs in front of it.  True if it, or something in
 * its place, is emitted already.
 */
static bool
tune(struct gen *g, struct gen_item *item, const struct draw *d)
{
	const ZydisDecodedInstruction *in = &d->insn;
	struct rng *rng = g->rng;

	for (unsigned i = 0; i < in->operand_count; i++) {
		if (d->operand[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    d->operand[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB &&
		    rng_chance(rng, 92))
			tune_vsib(g, item, d, &d->operand[i]);
	}
	switch (in->mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		tune_bit_offset(g, item, d);
		return false;
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
		if (rng_chance(rng, 60) && !addresses_with(d, CPU_RDX))
			load(g, item, CPU_RDX, rng_chance(rng, 80) ? 0 : 1);
		return false;
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_CMPXCHG8B:
	case ZYDIS_MNEMONIC_CMPXCHG16B:
		/* A quarter of memory is zero. */
		if (rng_chance(rng, 50) && !addresses_with(d, CPU_RDX) &&
		    !addresses_with(d, CPU_RAX)) {
			load(g, item, CPU_RAX, 0);
			load(g, item, CPU_RDX, 0);
		}
		return false;
	case ZYDIS_MNEMONIC_XLAT:
		want_pointer(g, item, CPU_RBX);
		return false;
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		want_pointer(g, item, CPU_RDI);
		return false;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		if (g->params->aligned || rng_chance(rng, 75)) {
			uint32_t flags = (uint32_t)rng_next(rng) & 0xcd5;

			if (rng_chance(rng, 10))
				flags |= (uint32_t)rng_next(rng) & 0x3f7fd5;
			if (g->params->aligned)
				flags &= ~FLAG_AC;
			if (g->bits == DIFF_16)
				EMIT(item, 0x66);
			EMIT(item, 0x68); /* push */
			emit_le(item, flags, 4);
		}
		return false;
	case ZYDIS_MNEMONIC_RET:
		if (rng_chance(rng, 88)) {
			EMIT(item, 0x68);
			aim(g, item);
		}
		return false;
	case ZYDIS_MNEMONIC_ENTER:
		EMIT(item, 0xc8, (uint8_t)rng_next(rng),
		    rng_chance(rng, 5) ? (uint8_t)rng_next(rng) : 0,
		    rng_chance(rng, 60) ? 0 : (uint8_t)rng_next(rng));
		return true;
	case ZYDIS_MNEMONIC_LDMXCSR:
		if (!rng_chance(rng, 80))
			return false;
		item->rel = REL_NONE;
		EMIT(item, 0x0f, 0xae);
		emit_absolute(g, item, 2,
		    DIFF_SLOT_MXCSR + 4 * rng_below(rng, 16));
		return true;
	case ZYDIS_MNEMONIC_SHA1RNDS4:
	case ZYDIS_MNEMONIC_SHA1NEXTE:
	case ZYDIS_MNEMONIC_SHA1MSG1:
	case ZYDIS_MNEMONIC_SHA1MSG2:
	case ZYDIS_MNEMONIC_SHA256RNDS2:
	case ZYDIS_MNEMONIC_SHA256MSG1:
	case ZYDIS_MNEMONIC_SHA256MSG2:
		/* Intel's want their memory aligned, AMD's do not care. */
		if (in->raw.modrm.mod == 3)
			return false;
		item->rel = REL_NONE;
		EMIT(item, 0x0f,
		    in->opcode_map == ZYDIS_OPCODE_MAP_0F38 ? 0x38 : 0x3a,
		    in->opcode);
		emit_absolute(g, item, in->raw.modrm.reg,
		    DIFF_DATA + DIFF_PAGE + 16 * rng_below(rng, 512));
		if (in->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
			EMIT(item, (uint8_t)rng_next(rng));
		return true;
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		if (!rng_chance(rng, 85))
			return false;
		item->rel = REL_NONE;
		EMIT(item, 0x0f, 0xae);
		emit_absolute(g, item, 1, DIFF_SLOT_FX);
		return true;
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		item->rel = REL_NONE;
		if (in->mnemonic == ZYDIS_MNEMONIC_FXSAVE64)
			EMIT(item, 0x48);
		emit_fx_store(g, item, true, 0xae, DIFF_SLOT_FX);
		return true;
	case ZYDIS_MNEMONIC_FNSTENV:
		item->rel = REL_NONE;
		emit_fx_store(g, item, false, 0xd9, DIFF_SLOT_ENV);
		return true;
	case ZYDIS_MNEMONIC_FNSAVE:
		item->rel = REL_NONE;
		emit_fx_store(g, item, false, 0xdd, DIFF_SLOT_ENV);
		return true;
	default:
		break;
	}
	if (in->meta.category == ZYDIS_CATEGORY_STRINGOP)
		tune_string(g, item, d);
	if (in->mnemonic == ZYDIS_MNEMONIC_JMP ||
	    in->mnemonic == ZYDIS_MNEMONIC_CALL)
		return d->operand[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE &&
		    tune_indirect(g, item, d);
	return false;
}

/* ---- what is known afterwards ------------------------------------------- */

static void
learn(struct gen *g, struct gen_item *item, const struct draw *d)
{
	const ZydisDecodedInstruction *in = &d->insn;

	for (unsigned i = 0; i < in->operand_count; i++) {
		const ZydisDecodedOperand *op = &d->operand[i];
		int reg;

		if (op->type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    (op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) &&
		    (reg = gpr_of(op->reg.value)) >= 0)
			forget(g, item, (unsigned)reg);
		/* Zydis 4.0 has no operands for these. */
		if (in->meta.category == ZYDIS_CATEGORY_STRINGOP) {
			forget(g, item, CPU_RSI);
			forget(g, item, CPU_RDI);
			forget(g, item, CPU_RCX);
		}
	}
	if (in->mnemonic == ZYDIS_MNEMONIC_WRFSBASE)
		g->known_fs = false;
	if (in->mnemonic == ZYDIS_MNEMONIC_WRGSBASE)
		g->known_gs = false;
	if (in->cpu_flags != NULL) {
		item->flags_undefined = in->cpu_flags->undefined & FLAGS_STATUS;
		item->flags_defined =
		    (in->cpu_flags->modified | in->cpu_flags->set_0 |
			in->cpu_flags->set_1) &
		    ~in->cpu_flags->undefined & FLAGS_STATUS;
		g->undefined |= item->flags_undefined;
		if (!g->seq->flow)
			g->undefined &= ~item->flags_defined;
	}
	if (in->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
		g->seq->flow = true;
}

/* ---- sequences ---------------------------------------------------------- */

static bool
is_prefix(const struct gen *g, uint8_t byte)
{
	static const uint8_t prefixes[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65,
		0x66, 0x67, 0xf0, 0xf2, 0xf3 };

	return memchr(prefixes, byte, sizeof(prefixes)) != NULL ||
	    (g->bits == DIFF_64 && (byte & 0xf0) == 0x40);
}

/*
 * An opcode that Zydis does not know.  The processor may (MPX's are NOPs), so
 * that behind ModRM there is only INT3, be it displacement or the end.  False
 * for what asks the hypervisor (among 0F 01) and for CR8 by AMD's LOCK.
 */
static bool
nonsense(const struct gen *g, struct gen_item *item, const struct draw *d)
{
	unsigned at = 0;

	while (at < 8 && is_prefix(g, d->bytes[at]))
		at++;
	if (d->bytes[at] == 0x0f) {
		at++;
		if (d->bytes[at] == 0x01 || (d->bytes[at] & 0xfc) == 0x20)
			return false;
		if (d->bytes[at] == 0x38 || d->bytes[at] == 0x3a)
			at++;
	}
	item->len = 0;
	item->rel = REL_NONE;
	emit(item, d->bytes, at + 2);
	while (item->len < 15)
		EMIT(item, 0xcc);
	return true;
}

static void
clear(struct gen_item *item)
{
	memset(item, 0, offsetof(struct gen_item, bytes));
	item->rel = REL_NONE;
	item->mnemonic = 0;
	item->writes = 0;
	item->flags_undefined = item->flags_defined = 0;
}

/* Count a register down and go back. */
static bool
compose_loop(struct gen *g, struct gen_item *item)
{
	unsigned target =
	    g->at - MIN(g->at - g->floor, 1 + rng_below(g->rng, 4));
	unsigned start = rng_below(g->rng, g->gprs);
	uint32_t written = 0;

	for (unsigned i = target; i < g->at; i++)
		written |= g->seq->item[i].writes;
	for (unsigned i = 0; i < g->gprs; i++) {
		unsigned reg = (start + i) % g->gprs;

		if (!is_known(g, reg) || g->value[reg] == 0 ||
		    g->value[reg] > SLOT_LOOP_MAX || (written & BIT(reg)))
			continue;
		if (g->bits == DIFF_64)
			EMIT(item, (uint8_t)(0x48 | reg >> 3));
		EMIT(item, 0xff, (uint8_t)(0xc8 | (reg & 7)), 0x75, 0);
		item->mnemonic = ZYDIS_MNEMONIC_DEC;
		item->rel = REL_JUMP;
		item->rel_at = item->len - 1;
		item->rel_size = 1;
		item->rel_end = item->len;
		item->target = (uint8_t)target;
		item->flags_defined = FLAGS_STATUS & ~1u;
		forget(g, item, reg);
		g->floor = g->at + 1;
		return true;
	}
	return false;
}

static void
emit_call(const struct gen *g, struct gen_item *item, unsigned over)
{
	EMIT(item, 0xe8);
	emit_le(item, over, g->bits == DIFF_16 ? 2 : 4);
}

/* CALL of something that returns, in one of many ways. */
static bool
compose_call(struct gen *g, struct gen_item *item)
{
	item->mnemonic = ZYDIS_MNEMONIC_CALL;
	switch (rng_below(g->rng, 3)) {
	case 0: /* call 1f; jmp 2f; 1: ret; 2: */
		emit_call(g, item, 2);
		EMIT(item, 0xeb, 1, 0xc3);
		break;
	case 1: /* push 0; call 1f; jmp 2f; 1: ret N; 2: */
		EMIT(item, 0x6a, 0);
		emit_call(g, item, 2);
		EMIT(item, 0xeb, 3, 0xc2, (uint8_t)(g->bits / 8), 0);
		break;
	default: /* call 1f; jmp 3f; 1: call 2f; ret; 2: ret; 3: */
		emit_call(g, item, 2);
		EMIT(item, 0xeb, g->bits == DIFF_16 ? 5 : 7);
		emit_call(g, item, 1);
		EMIT(item, 0xc3, 0xc3);
		break;
	}
	return true;
}

/* Code that changes itself: what runs next, and what ran before. */
static bool
compose_smc(struct gen *g, struct gen_item *item)
{
	uint8_t v = (uint8_t)rng_next(g->rng);

	if (g->bits != DIFF_64)
		return false; /* the addresses are relative to RIP */
	item->mnemonic = ZYDIS_MNEMONIC_MOV;
	if (rng_chance(g->rng, 50)) {
		/* mov byte [1f + 1], v; 1: mov eax, 0x11223344 */
		EMIT(item, 0xc6, 0x05, 1, 0, 0, 0, v, 0xb8, 0x44, 0x33, 0x22,
		    0x11);
	} else {
		/*
		 * mov ecx, N; 1: add eax, v; add [1b + 1], 0x01010101;
		 * loop 1b
		 */
		EMIT(item, 0xb9, (uint8_t)(1 + rng_below(g->rng, 40)), 0, 0, 0,
		    0x05, v, 0, 0, 0, 0x81, 0x05, 0xf2, 0xff, 0xff, 0xff, 1, 1,
		    1, 1, 0xe2, 0xef);
		forget(g, item, CPU_RCX);
	}
	item->flags_defined = 0;
	forget(g, item, CPU_RAX);
	return true;
}

/* What chance would not write. */
static bool
compose(struct gen *g, struct gen_item *item)
{
	bool done;

	if (!(g->params->classes & GEN_FLOW) || !rng_chance(g->rng, 12))
		return false;
	clear(item);
	switch (rng_below(g->rng, 4)) {
	case 0:
		done = compose_call(g, item);
		break;
	case 1:
		done = compose_smc(g, item);
		break;
	default:
		done = compose_loop(g, item);
		break;
	}
	g->seq->flow |= done;
	return done;
}

/* One item.  False: nothing suitable came, or it must be the last. */
static bool
gen_item(struct gen *g, struct gen_item *item)
{
	struct gen was = *g;
	enum space space = pick_space(g);
	struct draw d;

	if (compose(g, item))
		return true;

	for (unsigned tries = 0; tries < 2000; tries++) {
		*g = was;
		clear(item);
		if (tries % 200 == 199)
			space = pick_space(g); /* nothing in this one */
		if (!draw(g, item, space, &d)) {
			if (!(g->params->classes & GEN_BYTES) ||
			    !rng_chance(g->rng, 1) || !nonsense(g, item, &d))
				continue;
			return false;
		}
		if (!acceptable(g, &d))
			continue;
		if (d.insn.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE &&
		    d.operand[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
		    d.insn.mnemonic != ZYDIS_MNEMONIC_RET &&
		    !tune_relative(g, item, &d))
			continue;
		item->mnemonic = (uint16_t)d.insn.mnemonic;
		if (!tune(g, item, &d)) {
			if (d.has_ea && d.ea.rip && item->rel == REL_NONE &&
			    d.insn.raw.disp.size == 32 &&
			    d.insn.raw.modrm.mod == 0 &&
			    d.insn.raw.modrm.rm == 5) {
				item->rel = REL_DATA;
				item->rel_at = (uint8_t)(item->len +
				    d.insn.raw.disp.offset);
				item->rel_size = 4;
				item->rel_end =
				    (uint8_t)(item->len + d.insn.length);
				item->addr = d.ea.addr;
			}
			emit(item, d.bytes, d.insn.length);
		}
		learn(g, item, &d);
		return true;
	}
	item->len = 0;
	return false;
}

/* Bring targets nearer that a displacement of a byte does not reach. */
static void
shorten(struct gen_seq *seq)
{
	for (unsigned i = 0; i < seq->items; i++) {
		struct gen_item *item = &seq->item[i];
		unsigned way = 0;

		if (item->rel != REL_JUMP || item->rel_size != 1)
			continue;
		for (unsigned k = i + 1; k < MIN(item->target, seq->items); k++)
			way += seq->item[k].len;
		if (way > INT8_MAX)
			item->target = (uint8_t)(i + 1);
		for (unsigned k = item->target; k < i; k++)
			way += seq->item[k].len;
		if (item->target <= i && way + item->len > INT8_MAX)
			item->target = (uint8_t)i;
	}
}

void
gen_sequence(struct gen_seq *seq, const struct gen_params *params,
    const struct diff_state *state, struct rng *rng)
{
	static const struct {
		uint64_t classes;
		uint32_t spaces;
	} spaces[] = {
		{ GEN_INT | GEN_SYSTEM,
		    BIT(SP_ONE) | BIT(SP_0F) | BIT(SP_0F38) | BIT(SP_VEX) },
		{ GEN_STRING | GEN_STACK, BIT(SP_ONE) },
		{ GEN_FLOW, BIT(SP_ONE) | BIT(SP_0F) },
		{ GEN_X87, BIT(SP_X87) },
		{ GEN_MMX | GEN_SSE, BIT(SP_0F) | BIT(SP_0F38) | BIT(SP_0F3A) },
		{ GEN_AVX, BIT(SP_VEX) },
		{ GEN_AVX512, BIT(SP_VEX) | BIT(SP_EVEX) },
		{ GEN_BYTES, BIT(SP_ONE) | BIT(SP_0F) },
	};
	struct gen g = { .params = params,
		.rng = rng,
		.known = 0xffff,
		.known_fs = true,
		.known_gs = true,
		.fs_base = state->fs_base,
		.gs_base = state->gs_base,
		.seq = seq };
	unsigned want = 1 + rng_below(rng, params->max_len);

	g.bits = params->bits;
	g.gprs = g.bits == DIFF_64 ? 16 : 8;
	gen_decoder(&g.decoder, g.bits);
	for (unsigned i = 0; i < ARRAY_SIZE(spaces); i++) {
		if (params->classes & spaces[i].classes)
			g.enabled |= spaces[i].spaces;
	}
	memcpy(g.value, state->gpr, sizeof(g.value));
	seq->items = 0;
	seq->flow = false;
	for (g.at = 0; g.at < want; g.at++) {
		bool more = gen_item(&g, &seq->item[g.at]);

		if (seq->item[g.at].len != 0)
			seq->items++;
		if (!more)
			break;
	}
	shorten(seq);
}

unsigned
gen_assemble(const struct gen_seq *seq, uint32_t keep, uint64_t rip,
    uint8_t code[static DIFF_CODE_MAX])
{
	unsigned at[GEN_ITEMS_MAX + 1], len = 0;

	for (unsigned i = 0; i < seq->items; i++) {
		at[i] = len;
		if (!(keep & BIT(i)))
			continue;
		memcpy(code + len, seq->item[i].bytes, seq->item[i].len);
		len += seq->item[i].len;
	}
	at[seq->items] = len;
	for (unsigned i = 0; i < seq->items; i++) {
		const struct gen_item *item = &seq->item[i];
		uint64_t value = rip + at[MIN(item->target, seq->items)];

		if (item->rel == REL_NONE || !(keep & BIT(i)))
			continue;
		if (item->rel == REL_DATA)
			value = item->addr;
		if (item->rel != REL_ABS)
			value -= rip + at[i] + item->rel_end;
		if (item->rel_size == 1 && (int64_t)value != (int8_t)value)
			return 0;
		memcpy(code + at[i] + item->rel_at, &value, item->rel_size);
	}
	return len;
}

uint32_t
gen_undefined(const struct gen_seq *seq)
{
	uint32_t undefined = 0;

	for (unsigned i = 0; i < seq->items; i++) {
		undefined |= seq->item[i].flags_undefined;
		if (!seq->flow)
			undefined &= ~seq->item[i].flags_defined;
	}
	return undefined;
}
