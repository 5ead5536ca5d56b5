/*
 * Bytes of host code: the few forms that the translator writes itself.
 *
 * Guest instructions are re-encoded by x86_reencode(); this is for what stands
 * around them.  Registers are hardware numbers.  Nothing here checks for room
 * but emit_room(): a block is abandoned when it has run out.
 */
#ifndef ENGINE_JIT_EMIT_H
#define ENGINE_JIT_EMIT_H

#include "engine/x86/cpu.h"

struct emit {
	uint8_t *p;   /* writable */
	uint8_t *end; /* of the room */
	ptrdiff_t rx; /* executable address - writable address */
};

enum host_reg {
	RAX,
	RCX,
	RDX,
	RBX,
	RSP,
	RBP,
	RSI,
	RDI,
	R8,
	R9,
	R10,
	R11,
	R12,
	R13,
	R14,
	R15,
	NOREG = X86_NO_REG,
};

/* Homes: see translate.c. */
#define HOST_GUEST_RCX R12
#define HOST_GUEST_RSP R13
#define T0 RCX /* scratch */
#define T1 R14
#define T2 R15

#define CPU_FIELD(field) ((uint32_t)offsetof(struct x86_cpu, field))
#define CPU_GPR_AT(reg) (CPU_FIELD(gpr) + 8u * (reg))

static inline bool
emit_room(const struct emit *e, size_t n)
{
	return (size_t)(e->end - e->p) >= n;
}

static inline const uint8_t *
emit_here(const struct emit *e)
{
	return e->p + e->rx;
}

static inline void
emit8(struct emit *e, unsigned b)
{
	*e->p++ = (uint8_t)b;
}

static inline void
emit32(struct emit *e, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		emit8(e, v >> (8 * i));
}

static inline void
emit64(struct emit *e, uint64_t v)
{
	emit32(e, (uint32_t)v);
	emit32(e, (uint32_t)(v >> 32));
}

/* REX with W for size 8, if it is needed at all. */
static inline void
emit_rex(struct emit *e, bool w, unsigned reg, unsigned index, unsigned rm)
{
	unsigned rex = (w ? 8u : 0) | (reg >> 3 & 1) << 2 |
	    (index >> 3 & 1) << 1 | (rm >> 3 & 1);

	if (rex != 0)
		emit8(e, 0x40 | rex);
}

/* op reg, rm with both registers; op is one byte or 0x0fxx. */
static inline void
emit_op(struct emit *e, unsigned op)
{
	if (op > 0xff)
		emit8(e, op >> 8);
	emit8(e, op & 0xff);
}

static inline void
emit_rr(struct emit *e, bool w, unsigned op, unsigned reg, unsigned rm)
{
	emit_rex(e, w, reg, 0, rm);
	emit_op(e, op);
	emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* ModRM and what follows for [base + index << scale + disp]; index or base may
 * be NOREG. */
static inline void
emit_modrm_mem(struct emit *e, unsigned reg, unsigned base, unsigned index,
    unsigned scale, int32_t disp)
{
	unsigned mod;

	if (base == NOREG) {
		emit8(e, (reg & 7) << 3 | 4);
		emit8(e,
		    scale << 6 | (index == NOREG ? 4 : (index & 7)) << 3 | 5);
		emit32(e, (uint32_t)disp);
		return;
	}
	if (disp == 0 && (base & 7) != 5)
		mod = 0;
	else if (disp >= -128 && disp <= 127)
		mod = 1;
	else
		mod = 2;
	if (index != NOREG || (base & 7) == 4) {
		emit8(e, mod << 6 | (reg & 7) << 3 | 4);
		emit8(e,
		    scale << 6 | (index == NOREG ? 4 : (index & 7)) << 3 |
			(base & 7));
	} else {
		emit8(e, mod << 6 | (reg & 7) << 3 | (base & 7));
	}
	if (mod == 1)
		emit8(e, (uint8_t)disp);
	else if (mod == 2)
		emit32(e, (uint32_t)disp);
}

static inline void
emit_rm(struct emit *e, bool w, unsigned op, unsigned reg, unsigned base,
    unsigned index, unsigned scale, int32_t disp)
{
	emit_rex(e, w, reg, index == NOREG ? 0 : index,
	    base == NOREG ? 0 : base);
	emit_op(e, op);
	emit_modrm_mem(e, reg, base, index, scale, disp);
}

/* op reg, gs:[index * 8 + field] */
static inline void
emit_state_index(struct emit *e, bool w, unsigned op, unsigned reg,
    unsigned index, uint32_t field)
{
	emit8(e, 0x65);
	emit_rm(e, w, op, reg, NOREG, index, 3, (int32_t)field);
}

static inline void
emit_state(struct emit *e, bool w, unsigned op, unsigned reg, uint32_t field)
{
	emit8(e, 0x65);
	emit_rm(e, w, op, reg, NOREG, NOREG, 0, (int32_t)field);
}

#define OP_STORE 0x89u
#define OP_LOAD 0x8bu
#define OP_LEA 0x8du

static inline void
emit_mov(struct emit *e, bool w, unsigned to, unsigned from)
{
	if (!w || to != from)
		emit_rr(e, w, OP_STORE, from, to);
}

static inline void
emit_mov_imm32(struct emit *e, unsigned reg, uint32_t imm)
{
	emit_rex(e, false, 0, 0, reg);
	emit8(e, 0xb8 | (reg & 7));
	emit32(e, imm);
}

/* The sign-extended form. */
static inline void
emit_mov_imm(struct emit *e, unsigned reg, int32_t imm)
{
	emit_rex(e, true, 0, 0, reg);
	emit8(e, 0xc7);
	emit8(e, 0xc0 | (reg & 7));
	emit32(e, (uint32_t)imm);
}

static inline void
emit_lea(struct emit *e, bool w, unsigned reg, unsigned base, unsigned index,
    unsigned scale, int32_t disp)
{
	emit_rm(e, w, OP_LEA, reg, base, index, scale, disp);
}

/* pext reg, src, gs:[field]: reg = the bits of src that the field selects. */
static inline void
emit_pext_state(struct emit *e, unsigned reg, unsigned src, uint32_t field)
{
	emit8(e, 0x65);
	emit8(e, 0xc4);
	emit8(e, (~(reg >> 3) & 1) << 7 | 1u << 6 | 1u << 5 | 2);
	emit8(e, 1u << 7 | (~src & 0xf) << 3 | 2 /* F3 */);
	emit8(e, 0xf5);
	emit_modrm_mem(e, reg, NOREG, NOREG, 0, (int32_t)field);
}

/* pdep reg, src, gs:[field]: the other way. */
static inline void
emit_pdep_state(struct emit *e, unsigned reg, unsigned src, uint32_t field)
{
	emit8(e, 0x65);
	emit8(e, 0xc4);
	emit8(e, (~(reg >> 3) & 1) << 7 | 1u << 6 | 1u << 5 | 2);
	emit8(e, 1u << 7 | (~src & 0xf) << 3 | 3 /* F2 */);
	emit8(e, 0xf5);
	emit_modrm_mem(e, reg, NOREG, NOREG, 0, (int32_t)field);
}

static inline void
emit_not(struct emit *e, unsigned reg)
{
	emit_rex(e, true, 0, 0, reg);
	emit8(e, 0xf7);
	emit8(e, 0xd0 | (reg & 7));
}

/* rorx reg, src, n */
static inline void
emit_rorx(struct emit *e, unsigned reg, unsigned src, unsigned n)
{
	emit8(e, 0xc4);
	emit8(e,
	    (~(reg >> 3) & 1) << 7 | 1u << 6 | (~(src >> 3) & 1) << 5 |
		3 /* 0F3A */);
	emit8(e, 1u << 7 | 0xfu << 3 | 3 /* F2 */);
	emit8(e, 0xf0);
	emit8(e, 0xc0 | (reg & 7) << 3 | (src & 7));
	emit8(e, n);
}

/* Forward: the place of an 8-bit displacement, to be set by emit_land8(). */
static inline uint8_t *
emit_jrcxz(struct emit *e)
{
	emit8(e, 0xe3);
	emit8(e, 0);
	return e->p;
}

static inline void
emit_land8(struct emit *e, uint8_t *from)
{
	assert(e->p - from <= 127);
	from[-1] = (uint8_t)(e->p - from);
}

/* Jump or call to an executable address of the cache. */
static inline void
emit_branch(struct emit *e, unsigned op, const uint8_t *to)
{
	emit_op(e, op);
	emit32(e, (uint32_t)(to - (emit_here(e) + 4)));
}

#define OP_JMP 0xe9u
#define OP_CALL 0xe8u
#define OP_JCC 0x0f80u

/* The same to a place of this block that comes later: see emit_land32(). */
static inline uint8_t *
emit_branch_later(struct emit *e, unsigned op)
{
	emit_op(e, op);
	emit32(e, 0);
	return e->p;
}

static inline void
emit_land32(struct emit *e, uint8_t *from)
{
	uint32_t rel = (uint32_t)(e->p - from);

	for (unsigned i = 0; i < 4; i++)
		from[(int)i - 4] = (uint8_t)(rel >> (8 * i));
}

/* Let the next byte that follows n more be at a multiple of align. */
static inline void
emit_align(struct emit *e, unsigned align, unsigned n)
{
	while (((uintptr_t)e->p + n) % align != 0)
		emit8(e, 0x90);
}

#endif
