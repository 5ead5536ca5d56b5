/*
 * Data movement: MOV and kin, flags, the stack, hints and fences.
 *
 * Models       Intel SDM volume 2, the operation sections; volume 3, 21.2 and
 *              21.3 for PUSHF and POPF in virtual-8086 mode.
 * Differences  PUSH of a segment register fills the operand with zeros, as AMD
 *              does; Intel leaves the upper half of memory alone.  A 16-bit
 *              BSWAP, which the manual leaves undefined, gives zero.
 *              MOVDIR64B is not atomic.
 * Leaves out   PUSHA and ENTER write what they can before they raise; only
 *              memory beyond rSP shows it.
 * Invariants   The stack instructions may raise after they changed rSP and rBP;
 *              all others change registers last.
 */
#include "engine/x86/interp_impl.h"
#include "engine/x86/mmu.h"

#define LAHF_FLAGS (X86_SF | X86_ZF | X86_AF | X86_PF | X86_CF)
#define FLAGS_16 0xffffu
#define ENTER_LEVELS 31u

static uint64_t
byte_swap(uint64_t value, unsigned size)
{
	return __builtin_bswap64(value) >> (64 - size * 8);
}

static void
set_flag(struct x86_cpu *cpu, uint64_t which, bool set)
{
	cpu->rflags = set ? cpu->rflags | which : cpu->rflags & ~which;
}

/* ---------------------------------------------------------- conversions */

/* CBW CWDE CDQE: rAX from its lower half. */
static void
extend_accumulator(struct x86_cpu *cpu, unsigned size)
{
	int64_t value =
	    x86_sign_extend(x86_gpr(cpu, CPU_RAX, size / 2), size / 2);

	x86_set_gpr(cpu, CPU_RAX, size, (uint64_t)value);
}

/* CWD CDQ CQO: rDX from the sign of rAX. */
static void
extend_to_data(struct x86_cpu *cpu, unsigned size)
{
	int64_t value = x86_sign_extend(x86_gpr(cpu, CPU_RAX, size), size);

	x86_set_gpr(cpu, CPU_RDX, size, value < 0 ? UINT64_MAX : 0);
}

static void
translate(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t off = (cpu->gpr[CPU_RBX] + x86_gpr(cpu, CPU_RAX, 1)) &
	    size_mask(insn->addrsize);
	uint64_t lin = x86_address(cpu, insn->seg, off, 1, false);

	x86_set_gpr(cpu, CPU_RAX, 1, x86_load(cpu, lin, 1));
}

static void
bound(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned size = insn->opsize;
	uint64_t lin = x86_mem_linear(cpu, insn, size * 2, false);
	uint64_t upper_lin = (lin + size) & x86_rip_mask(cpu);
	int64_t index =
	    x86_sign_extend(x86_gpr(cpu, insn->opnd[0].reg, size), size);
	int64_t lower = x86_sign_extend(x86_load(cpu, lin, size), size);
	int64_t upper = x86_sign_extend(x86_load(cpu, upper_lin, size), size);

	if (index < lower || index > upper)
		x86_raise(cpu, X86_BR);
}

/* ---------------------------------------------------- unusual stores */

static void
move_64_bytes(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t bytes[8];
	uint64_t off = x86_gpr(cpu, insn->opnd[0].reg, insn->addrsize);
	uint64_t from = x86_mem_linear(cpu, insn, sizeof(bytes), false);
	uint64_t to = x86_address(cpu, CPU_ES, off, sizeof(bytes), true);

	if (to % sizeof(bytes) != 0)
		x86_raise_gp(cpu);
	x86_load_bytes(cpu, from, bytes, sizeof(bytes));
	x86_store_bytes(cpu, to, bytes, sizeof(bytes));
}

/* CLZERO (AMD APM volume 3): the line of 64 bytes that holds rAX. */
static void
clear_line(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	static const uint64_t zeros[8];
	uint64_t off = x86_gpr(cpu, CPU_RAX, insn->addrsize) &
	    ~(uint64_t)(sizeof(zeros) - 1);

	x86_store_bytes(cpu,
	    x86_address(cpu, insn->seg, off, sizeof(zeros), true), zeros,
	    sizeof(zeros));
}

/* RDRAND and RDSEED, by the host's; a guest has them only if the host does. */
static void
random_number(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned long long value;
	bool valid;

	if (insn->op->id == X86_OP_RDRAND)
		__asm__ volatile("rdrand %0" : "=r"(value), "=@ccc"(valid));
	else
		__asm__ volatile("rdseed %0" : "=r"(value), "=@ccc"(valid));
	cpu->rflags &= ~(uint64_t)X86_ARITH;
	if (valid)
		cpu->rflags |= X86_CF;
	x86_put(cpu, insn, 0, valid ? value : 0);
}

/* --------------------------------------------------------------- stack */

static void
push(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	/* Before rSP changes: PUSH rSP, and memory addressed with it. */
	uint64_t value = x86_get(cpu, insn, 0);

	x86_push(cpu, value & size_mask(insn->opsize), insn->opsize);
}

static void
pop(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t value = x86_pop(cpu, insn->opsize);

	if (insn->opnd[0].kind != X86_K_SEG) {
		/* An address with rSP is that after the pop. */
		x86_put(cpu, insn, 0, value);
		return;
	}
	x86_load_seg(cpu, insn->opnd[0].reg, (uint16_t)value);
	if (insn->opnd[0].reg == CPU_SS) {
		cpu->mov_ss_shadow = true;
		x86_cpu_mode(cpu);
	}
}

static void
push_all(struct x86_cpu *cpu, unsigned size)
{
	uint64_t sp = x86_gpr(cpu, CPU_RSP, size);

	for (unsigned reg = CPU_RAX; reg <= CPU_RDI; reg++)
		x86_push(cpu, reg == CPU_RSP ? sp : x86_gpr(cpu, reg, size),
		    size);
}

static void
pop_all(struct x86_cpu *cpu, unsigned size)
{
	for (unsigned reg = CPU_RDI + 1; reg-- > CPU_RAX;) {
		uint64_t value = x86_pop(cpu, size);

		if (reg != CPU_RSP)
			x86_set_gpr(cpu, reg, size, value);
	}
}

static void
enter(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned size = insn->opsize, width = x86_stack_width(cpu);
	unsigned level = insn->imm2 & ENTER_LEVELS;
	uint64_t bp = x86_gpr(cpu, CPU_RBP, width), frame, sp, lin;

	x86_push(cpu, x86_gpr(cpu, CPU_RBP, size), size);
	frame = cpu->gpr[CPU_RSP];
	if (level > 0) {
		/* The frame pointers of the outer levels, then this one. */
		for (unsigned i = 1; i < level; i++) {
			bp = (bp - size) & size_mask(width);
			x86_push(cpu,
			    x86_load(cpu,
				x86_address(cpu, CPU_SS, bp, size, false),
				size),
			    size);
		}
		x86_push(cpu, frame & size_mask(size), size);
	}
	sp = (cpu->gpr[CPU_RSP] - (insn->imm & 0xffff)) & size_mask(width);
	/* It must be possible to push there. */
	lin = x86_address(cpu, CPU_SS, sp, size, true);
	x86_check_aligned(cpu, lin, size);
	x86_probe(cpu, lin, size, true);
	x86_set_gpr(cpu, CPU_RBP, size, frame);
	x86_set_sp(cpu, sp);
}

static void
leave(struct x86_cpu *cpu, unsigned size)
{
	x86_set_sp(cpu, cpu->gpr[CPU_RBP]);
	x86_set_gpr(cpu, CPU_RBP, size, x86_pop(cpu, size));
}

static void
push_flags(struct x86_cpu *cpu, unsigned size)
{
	uint64_t image = cpu->rflags & ~(X86_VM | X86_RF);

	if (x86_v86(cpu) && x86_iopl(cpu) < 3) {
		if (!(cpu->cr4 & X86_CR4_VME) || size != 2)
			x86_raise_gp(cpu);
		/* VIF stands for IF, and IOPL looks like 3. */
		image = (image & ~X86_IF) | X86_IOPL;
		if (cpu->rflags & X86_VIF)
			image |= X86_IF;
	}
	x86_push(cpu, image & size_mask(size), size);
}

static void
pop_flags(struct x86_cpu *cpu, unsigned size)
{
	uint64_t image = x86_pop(cpu, size);
	uint64_t mask = X86_FLAGS_ALL &
	    ~(X86_RF | X86_VM | X86_VIF | X86_VIP | X86_IOPL | X86_IF);

	if (x86_v86(cpu) && x86_iopl(cpu) < 3) {
		if (!(cpu->cr4 & X86_CR4_VME) || size != 2)
			x86_raise_gp(cpu);
		if ((image & X86_TF) ||
		    ((image & X86_IF) && (cpu->rflags & X86_VIP)))
			x86_raise_gp(cpu);
		if (image & X86_IF)
			image |= X86_VIF;
		else
			image &= ~X86_VIF;
		mask = (mask & FLAGS_16) | X86_VIF;
	} else {
		if (cpu->cpl <= x86_iopl(cpu))
			mask |= X86_IF;
		if (cpu->cpl == 0)
			mask |= X86_IOPL;
		if (size == 2)
			mask &= FLAGS_16;
	}
	cpu->rflags = (cpu->rflags & ~mask) | (image & mask);
	if (mask & X86_AC)
		x86_cpu_mode(cpu);
}

static void
exec_stack(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	switch (insn->op->id) {
	case X86_OP_PUSH:
		push(cpu, insn);
		break;
	case X86_OP_POP:
		pop(cpu, insn);
		break;
	case X86_OP_PUSHA:
		push_all(cpu, insn->opsize);
		break;
	case X86_OP_POPA:
		pop_all(cpu, insn->opsize);
		break;
	case X86_OP_PUSHF:
		push_flags(cpu, insn->opsize);
		break;
	case X86_OP_POPF:
		pop_flags(cpu, insn->opsize);
		break;
	case X86_OP_ENTER:
		enter(cpu, insn);
		break;
	default:
		leave(cpu, insn->opsize);
		break;
	}
}

/* -------------------------------------------------------------- dispatch */

void
x86_exec_move(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t value;

	switch (insn->op->id) {
	case X86_OP_MOV:
	case X86_OP_MOVNTI:
	case X86_OP_MOVDIRI:
	case X86_OP_MOVZX:
		x86_put(cpu, insn, 0, x86_get(cpu, insn, 1));
		break;
	case X86_OP_MOVSX:
		x86_put(cpu, insn, 0,
		    (uint64_t)x86_sign_extend(x86_get(cpu, insn, 1),
			insn->opnd[1].size));
		break;
	case X86_OP_CMOVCC:
		/* Memory is read, and an upper half cleared, in any case. */
		value = x86_get(cpu, insn, 1);
		if (!x86_condition(cpu->rflags, insn->opcode & 0xf))
			value = x86_get(cpu, insn, 0);
		x86_put(cpu, insn, 0, value);
		break;
	case X86_OP_SETCC:
		x86_put(cpu, insn, 0,
		    x86_condition(cpu->rflags, insn->opcode & 0xf));
		break;
	case X86_OP_LEA:
		x86_put(cpu, insn, 0, x86_ea(cpu, insn));
		break;
	case X86_OP_BSWAP:
		value = x86_get(cpu, insn, 0);
		x86_put(cpu, insn, 0,
		    insn->opsize == 2 ? 0 : byte_swap(value, insn->opsize));
		break;
	case X86_OP_MOVBE:
		value = x86_get(cpu, insn, 1);
		x86_put(cpu, insn, 0, byte_swap(value, insn->opsize));
		break;
	case X86_OP_CBW:
		extend_accumulator(cpu, insn->opsize);
		break;
	case X86_OP_CWD:
		extend_to_data(cpu, insn->opsize);
		break;
	case X86_OP_XLAT:
		translate(cpu, insn);
		break;
	case X86_OP_BOUND:
		bound(cpu, insn);
		break;

	case X86_OP_LAHF:
		cpu->gpr[CPU_RAX] = (cpu->gpr[CPU_RAX] & ~0xff00ULL) |
		    (cpu->rflags & LAHF_FLAGS) << 8 | X86_FLAGS_FIXED << 8;
		break;
	case X86_OP_SAHF:
		cpu->rflags = (cpu->rflags & ~(uint64_t)LAHF_FLAGS) |
		    ((cpu->gpr[CPU_RAX] >> 8) & LAHF_FLAGS);
		break;
	case X86_OP_SALC:
		x86_set_gpr(cpu, CPU_RAX, 1, cpu->rflags & X86_CF ? 0xff : 0);
		break;
	case X86_OP_CLC:
		set_flag(cpu, X86_CF, false);
		break;
	case X86_OP_STC:
		set_flag(cpu, X86_CF, true);
		break;
	case X86_OP_CMC:
		cpu->rflags ^= X86_CF;
		break;
	case X86_OP_CLD:
		set_flag(cpu, X86_DF, false);
		break;
	case X86_OP_STD:
		set_flag(cpu, X86_DF, true);
		break;

	case X86_OP_NOP:
		break;
	case X86_OP_PAUSE:
		__asm__ volatile("pause");
		break;
	case X86_OP_FENCE:
		atomic_thread_fence(memory_order_seq_cst);
		break;
	case X86_OP_CLFLUSH:
		x86_probe(cpu, x86_mem_linear(cpu, insn, 1, false), 1, false);
		break;
	case X86_OP_CLZERO:
		clear_line(cpu, insn);
		break;
	case X86_OP_MOVDIR64B:
		move_64_bytes(cpu, insn);
		break;
	case X86_OP_RDRAND:
	case X86_OP_RDSEED:
		random_number(cpu, insn);
		break;
	case X86_OP_RDPID:
		x86_put(cpu, insn, 0, cpu->tsc_aux);
		break;

	default:
		exec_stack(cpu, insn);
		break;
	}
}
