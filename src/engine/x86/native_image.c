/*
 * The vector state in memory: FXSAVE, XSAVE and their kin.
 *
 * Models       Intel SDM volume 1, 10.5 (FXSAVE) and chapter 13 (XSAVE): the
 *              standard and the compacted format, the rules of XSTATE_BV and
 *              XCOMP_BV, initial states, what code that is not 64-bit code
 *              leaves alone.
 * Method       cpu->xsave, into which the state is put away, is an image in the
 *              standard format itself, so saving is copying ranges of it and
 *              restoring the reverse.  All of an operand is checked before
 *              anything changes; what was restored passes through the host's
 *              registers at once, and comes out as the units have it.
 * Differences  1. FIP, FDP, FCS, FDS and FOP are stored as zeros, as AMD's
 *                 processors do with no exception pending: what the unit
 *                 knows are addresses of ours.
 *              2. XSAVEOPT and XSAVES save what is in use, modified or not.
 *                 IA32_XSS is 0.
 */
#include "base/wire.h"
#include "engine/x86/mmu.h"
#include "engine/x86/native_impl.h"

#define MXCSR_INIT 0x1f80u
#define FCW_INIT 0x37fu

/* ------------------------------------------------------------ state images */

#define LEGACY_SIZE 512u
#define HEADER_SIZE 64u
#define IMAGE_BV 512u   /* XSTATE_BV */
#define IMAGE_COMP 520u /* XCOMP_BV */
#define COMPACTED BIT(63)
#define IMAGE_MXCSR 24u
#define IMAGE_XMM 160u
#define SSE_AVX (X86_XCR0_SSE | X86_XCR0_AVX)

#define COMPONENTS 8u
#define AVX 2u
#define ZMM_HI 6u
#define ZMM_16_31 7u

/* Where a standard image has a component: in guest memory and in cpu->xsave. */
struct component {
	uint32_t at, size;
	bool aligned; /* to 64 bytes in a compacted image */
};

static struct component
component_of(const struct x86_cpu *cpu, unsigned i)
{
	struct cpuid_leaf l = cpuid_read(&cpu->cpuid, 0xd, i);

	return (struct component) {
		.at = l.ebx,
		.size = l.eax,
		.aligned = l.ecx & BIT(1),
	};
}

/*
 * A range of an image, in guest memory and in cpu->xsave: of a component what
 * the code size can reach, registers 0 to 7 outside of 64-bit code.
 */
struct range {
	uint16_t guest, ours, size;
};
#define RANGES_MAX 12u

struct ranges {
	struct range range[RANGES_MAX];
	unsigned count;
};

static void
ranges_add(struct ranges *r, unsigned guest, unsigned ours, unsigned size)
{
	if (size == 0)
		return;
	assert(r->count < RANGES_MAX);
	r->range[r->count++] = (struct range) {
		.guest = (uint16_t)guest,
		.ours = (uint16_t)ours,
		.size = (uint16_t)size,
	};
}

/* Component i, which in guest memory is at `guest` if it is an extended one. */
static void
ranges_add_component(struct ranges *r, const struct x86_cpu *cpu, unsigned i,
    unsigned guest)
{
	bool narrow = cpu->code != X86_CODE64;
	struct component c;

	switch (BIT(i)) {
	case X86_XCR0_X87:
		ranges_add(r, 0, 0, 24);
		ranges_add(r, 32, 32, 128);
		break;
	case X86_XCR0_SSE:
		ranges_add(r, 160, 160, narrow ? 128 : 256);
		break;
	default:
		if (narrow && i == ZMM_16_31)
			break;
		c = component_of(cpu, i);
		if (narrow && (i == AVX || i == ZMM_HI))
			c.size /= 2;
		ranges_add(r, guest, c.at, c.size);
		break;
	}
}

/*
 * Where component i begins in guest memory; *next is where a compacted image of
 * the components in front of it ends.
 */
static unsigned
component_place(const struct x86_cpu *cpu, unsigned i, bool compacted,
    unsigned *next)
{
	struct component c;
	unsigned at;

	if (i < AVX)
		return 0;
	c = component_of(cpu, i);
	if (!compacted)
		return c.at;
	at = c.aligned ? (*next + 63) & ~63u : *next;
	*next = at + c.size;
	return at;
}

/* Initial values into a component of cpu->xsave. */
static void
component_reset(struct x86_cpu *cpu, const struct ranges *r)
{
	for (unsigned i = 0; i < r->count; i++) {
		memset(cpu->xsave + r->range[i].ours, 0, r->range[i].size);
		if (r->range[i].ours == 0)
			le16_store(cpu->xsave, FCW_INIT);
	}
}

/*
 * Through the host's registers once, so that what was put into cpu->xsave by
 * hand obeys the rules of the units: ES, reserved bits.
 */
static void
image_settle(struct x86_cpu *cpu)
{
	native_run_code(cpu, 0x90, 1, NULL); /* NOP */
}

/* The state in cpu->xsave; the components that are not as after a reset. */
static uint64_t
image_take(struct x86_cpu *cpu)
{
	image_settle(cpu);
	x86_fpu_put(cpu);
	return le64_load(cpu->xsave + IMAGE_BV) & cpu->xcr0_allowed;
}

static uint64_t
image_address(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned size,
    unsigned alignment, bool write)
{
	/* The first byte, then alignment, then the others. */
	if (x86_mem_linear(cpu, insn, 1, write) & (alignment - 1))
		x86_raise_gp(cpu);
	return x86_mem_linear(cpu, insn, size, write);
}

static uint64_t
image_byte(const struct x86_cpu *cpu, uint64_t lin, unsigned off)
{
	lin += off;
	return cpu->code == X86_CODE64 ? lin : (uint32_t)lin;
}

/* All ranges to guest memory, and new header words if there are any. */
static void
image_store(struct x86_cpu *cpu, uint64_t lin, const struct ranges *r,
    const void *header, unsigned header_size)
{
	x86_probe(cpu, image_byte(cpu, lin, IMAGE_BV), header_size, true);
	for (unsigned i = 0; i < r->count; i++)
		x86_probe(cpu, image_byte(cpu, lin, r->range[i].guest),
		    r->range[i].size, true);
	memset(cpu->xsave + 6, 0, 18); /* FOP, FIP, FDP */
	for (unsigned i = 0; i < r->count; i++)
		x86_store_bytes(cpu, image_byte(cpu, lin, r->range[i].guest),
		    cpu->xsave + r->range[i].ours, r->range[i].size);
	x86_store_bytes(cpu, image_byte(cpu, lin, IMAGE_BV), header,
	    header_size);
}

/*
 * Ranges from guest memory into `from`, laid out as cpu->xsave; nothing has
 * changed if that raises.
 */
static void
image_load(struct x86_cpu *cpu, uint64_t lin, const struct ranges *r,
    uint8_t *from)
{
	for (unsigned i = 0; i < r->count; i++)
		x86_load_bytes(cpu, image_byte(cpu, lin, r->range[i].guest),
		    from + r->range[i].ours, r->range[i].size);
}

static void
image_apply(struct x86_cpu *cpu, const struct ranges *r, const uint8_t *from)
{
	for (unsigned i = 0; i < r->count; i++)
		memcpy(cpu->xsave + r->range[i].ours, from + r->range[i].ours,
		    r->range[i].size);
}

static void
check_mxcsr(struct x86_cpu *cpu, const uint8_t *image)
{
	if (le32_load(image + IMAGE_MXCSR) & ~cpu->mxcsr_mask)
		x86_raise_gp(cpu);
}

/*
 * SDM volume 2, FXSAVE: an alignment check may look at some low bits.  All of
 * the area must be there, what is not used, too.
 */
static uint64_t
fx_address(struct x86_cpu *cpu, const struct x86_insn *insn, bool write)
{
	uint64_t lin;

	x86_check_aligned(cpu, x86_mem_linear(cpu, insn, 1, write), 4);
	lin = image_address(cpu, insn, LEGACY_SIZE, 16, write);
	x86_probe(cpu, lin, LEGACY_SIZE, write);
	return lin;
}

static void
fx_ranges(const struct x86_cpu *cpu, struct ranges *r)
{
	r->count = 0;
	ranges_add_component(r, cpu, 0, 0);
	ranges_add_component(r, cpu, 1, 0);
	ranges_add(r, IMAGE_MXCSR, IMAGE_MXCSR, 8);
}

void
native_exec_fxsave(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t lin = fx_address(cpu, insn, true);
	struct ranges r;

	image_take(cpu);
	fx_ranges(cpu, &r);
	image_store(cpu, lin, &r, NULL, 0);
}

void
native_exec_fxrstor(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t lin = fx_address(cpu, insn, false);
	uint8_t from[LEGACY_SIZE];
	uint64_t in_use;
	struct ranges r;

	in_use = image_take(cpu);
	fx_ranges(cpu, &r);
	image_load(cpu, lin, &r, from);
	check_mxcsr(cpu, from);
	image_apply(cpu, &r, from);
	le64_store(cpu->xsave + IMAGE_BV, in_use | X86_XCR0_X87 | X86_XCR0_SSE);
	image_settle(cpu);
}

/* SDM volume 1, 13.2 and 13.5: what XSAVE and its kin meet first. */
static void
xsave_check(struct x86_cpu *cpu)
{
	if (!(cpu->cr4 & X86_CR4_OSXSAVE))
		x86_raise(cpu, X86_UD);
	if (cpu->cr0 & X86_CR0_TS)
		x86_raise(cpu, X86_NM);
}

/* RFBM: the components that are asked for and enabled. */
static uint64_t
requested(const struct x86_cpu *cpu)
{
	return ((cpu->gpr[CPU_RDX] << 32) | (uint32_t)cpu->gpr[CPU_RAX]) &
	    cpu->xcr0;
}

/*
 * XSAVE, XSAVEOPT, XSAVEC, XSAVES: SDM volume 1, 13.7 and 13.9 to 13.11.
 */
void
native_exec_xsave(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint16_t id = insn->op->id;
	bool compacted = id == X86_OP_XSAVEC || id == X86_OP_XSAVES;
	bool optimized = id != X86_OP_XSAVE;
	unsigned next = LEGACY_SIZE + HEADER_SIZE;
	uint64_t rfbm = requested(cpu);
	uint64_t lin, in_use, header[2];
	struct ranges r;

	xsave_check(cpu);
	if (id == X86_OP_XSAVES && cpu->cpl != 0)
		x86_raise_gp(cpu);
	lin = image_address(cpu, insn, LEGACY_SIZE + HEADER_SIZE, 64, true);
	in_use = image_take(cpu);
	/* A compacted image has MXCSR in the SSE component. */
	if (compacted && le32_load(cpu->xsave + IMAGE_MXCSR) != MXCSR_INIT)
		in_use |= X86_XCR0_SSE;
	r.count = 0;
	for (unsigned i = 0; i < COMPONENTS; i++) {
		unsigned place;

		if (!(rfbm & BIT(i)))
			continue;
		place = component_place(cpu, i, compacted, &next);
		if (!optimized || (in_use & BIT(i)))
			ranges_add_component(&r, cpu, i, place);
	}
	if (compacted ? rfbm & in_use & X86_XCR0_SSE : rfbm & SSE_AVX)
		ranges_add(&r, IMAGE_MXCSR, IMAGE_MXCSR, 8);

	header[0] = rfbm & in_use;
	header[1] = rfbm | COMPACTED;
	if (!compacted) {
		uint64_t at = image_byte(cpu, lin, IMAGE_BV), before;

		x86_probe(cpu, at, 8, true);
		x86_load_bytes(cpu, at, &before, 8);
		header[0] |= before & ~rfbm;
	}
	image_store(cpu, lin, &r, header, compacted ? 16 : 8);
}

/* The header of an image to be restored: is it one?  SDM volume 1, 13.8. */
static bool
header_is_valid(const struct x86_cpu *cpu, const struct x86_insn *insn,
    const uint64_t header[8])
{
	uint64_t reserved = 0;

	if (!(header[1] & COMPACTED) || !x86_has(cpu, X86_F_XSAVEC))
		return insn->op->id != X86_OP_XRSTORS &&
		    !(header[0] & ~cpu->xcr0) && (header[1] | header[2]) == 0;
	for (unsigned i = 2; i < 8; i++)
		reserved |= header[i];
	return reserved == 0 && !(header[1] & ~(cpu->xcr0 | COMPACTED)) &&
	    !(header[0] & (~header[1] | COMPACTED));
}

void
native_exec_xrstor(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned next = LEGACY_SIZE + HEADER_SIZE;
	uint64_t rfbm = requested(cpu);
	uint64_t lin, in_use, header[8];
	struct ranges loaded, reset;
	uint8_t from[CPU_XSAVE_MAX];
	bool compacted, mxcsr, mxcsr_reset;

	xsave_check(cpu);
	if (insn->op->id == X86_OP_XRSTORS && cpu->cpl != 0)
		x86_raise_gp(cpu);
	lin = image_address(cpu, insn, LEGACY_SIZE + HEADER_SIZE, 64, false);
	in_use = image_take(cpu);
	x86_load_bytes(cpu, image_byte(cpu, lin, IMAGE_BV), header,
	    sizeof(header));
	if (!header_is_valid(cpu, insn, header))
		x86_raise_gp(cpu);
	compacted = header[1] & COMPACTED;
	loaded.count = reset.count = 0;
	for (unsigned i = 0; i < COMPONENTS; i++) {
		unsigned place = 0;

		if (!compacted || (header[1] & BIT(i)))
			place = component_place(cpu, i, compacted, &next);
		if (!(rfbm & BIT(i)))
			continue;
		ranges_add_component(header[0] & BIT(i) ? &loaded : &reset, cpu,
		    i, place);
	}
	if (compacted) {
		mxcsr = rfbm & header[0] & X86_XCR0_SSE;
		mxcsr_reset = rfbm & ~header[0] & X86_XCR0_SSE;
	} else {
		mxcsr = rfbm & SSE_AVX;
		mxcsr_reset = false;
	}
	if (mxcsr)
		ranges_add(&loaded, IMAGE_MXCSR, IMAGE_MXCSR, 4);
	image_load(cpu, lin, &loaded, from);
	if (mxcsr)
		check_mxcsr(cpu, from);

	image_apply(cpu, &loaded, from);
	component_reset(cpu, &reset);
	if (mxcsr_reset)
		le32_store(cpu->xsave + IMAGE_MXCSR, MXCSR_INIT);
	in_use |= rfbm & header[0];
	/* Elsewhere registers 8 and up keep what they have. */
	if (cpu->code == X86_CODE64)
		in_use &= ~(rfbm & ~header[0]);
	le64_store(cpu->xsave + IMAGE_BV, in_use);
	image_settle(cpu);
}

/* Registers 0 to 7 alone, which no code does that the host could run. */
void
native_exec_vzero(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	x86_fpu_put(cpu);
	if (insn->vl == 1) /* VZEROALL */
		memset(cpu->xsave + IMAGE_XMM, 0, 8 * 16);
	memset(cpu->xsave + component_of(cpu, AVX).at, 0, 8 * 16);
	if (cpu->xcr0_allowed & BIT(ZMM_HI))
		memset(cpu->xsave + component_of(cpu, ZMM_HI).at, 0, 8 * 32);
}
