/*
 * What the files of the interpreter share beside interp.h: taking back an
 * instruction, and linear addresses on the hot path.
 */
#ifndef ENGINE_X86_INTERP_IMPL_H
#define ENGINE_X86_INTERP_IMPL_H

#include <string.h>

#include "engine/x86/interp.h"
#include "engine/x86/segment.h"

/*
 * What an exception restores.  cpu->jmp leads here while an instruction is
 * carried out.
 */
struct x86_undo {
	jmp_buf jmp;
	uint64_t gpr[CPU_GPRS];
	uint64_t rip;
	uint64_t rflags;
	bool gprs; /* gpr[] counts; else no register changes before a raise */
	unsigned left; /* instructions to go, without this one */
};

/*
 * A repeated instruction that is begun anew after an exception has come this
 * far: what it did to the general registers stays.  Flags and rip still go back
 * to where the instruction found them.
 */
static inline void
x86_commit(struct x86_cpu *cpu)
{
	struct x86_undo *undo = container_of(cpu->jmp, struct x86_undo, jmp);

	memcpy(undo->gpr, cpu->gpr, sizeof(undo->gpr));
	undo->gprs = true;
}

static inline bool
x86_wants_attention(struct x86_cpu *cpu)
{
	/* Pairs with the release of whoever set a bit. */
	return atomic_load_explicit(&cpu->attention, memory_order_acquire) != 0;
}

/* rip outside of 64-bit code has 32 bits. */
static inline uint64_t
x86_rip_mask(const struct x86_cpu *cpu)
{
	return cpu->code == X86_CODE64 ? UINT64_MAX : UINT32_MAX;
}

/*
 * As x86_linear(), with 64-bit code's short rules here: only FS and GS have a
 * base, nothing has a limit or a type (SDM volume 1, 3.3.4 and 3.4.2.1).
 */
static inline uint64_t
x86_address(struct x86_cpu *cpu, enum cpu_seg seg, uint64_t off, unsigned size,
    bool write)
{
	if (cpu->code != X86_CODE64)
		return x86_linear(cpu, seg, off, size, write);
	if (seg >= CPU_FS)
		off += cpu->seg[seg].base;
	if (!x86_canonical(off) || !x86_canonical(off + size - 1))
		x86_raise_error(cpu, seg == CPU_SS ? X86_SS : X86_GP, 0);
	return off;
}

/*
 * Where the memory operand begins, unchecked: for alignment that is looked at
 * before anything else.
 */
static inline uint64_t
x86_first_byte(const struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t ea = x86_ea(cpu, insn);

	if (cpu->code != X86_CODE64 || insn->seg >= CPU_FS)
		ea += cpu->seg[insn->seg].base;
	return ea;
}

/* size is 1, 2, 4 or 8 */
static inline int64_t
x86_sign_extend(uint64_t value, unsigned size)
{
	unsigned shift = 64 - size * 8;

	return (int64_t)(value << shift) >> shift;
}

/* What stands at a place of the host's that x86_rmw_ptr() and kin found. */
static inline uint64_t
x86_peek(const void *place, unsigned size)
{
	uint64_t value = 0;

	switch (size) {
	case 1:
		memcpy(&value, place, 1);
		break;
	case 2:
		memcpy(&value, place, 2);
		break;
	case 4:
		memcpy(&value, place, 4);
		break;
	default:
		memcpy(&value, place, 8);
		break;
	}
	return value;
}

/* alu.c: the flags of a - b, as CMP sets them. */
void x86_compare(struct x86_cpu *cpu, uint64_t a, uint64_t b, unsigned size);

#endif
