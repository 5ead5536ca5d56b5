/*
 * Breakpoints and single steps.
 *
 * Models       Intel SDM volume 3, 17.2 (debug registers) and 17.3 (the
 *              exceptions).
 * Data         What an instruction reads and writes is compared, also on its
 *              stack; not what the processor does by itself: page tables,
 *              descriptors, the TSS, and the frames of exceptions and
 *              interrupts.  DR6 tells of breakpoints that DR7 enables, never of
 *              others.
 * Single step  TF set before an instruction is a trap after it: not after one
 *              that loaded SS, and not after one that entered a handler with
 *              TF cleared.
 * MOV SS       keeps a data breakpoint back, too, until the next instruction is
 *              done.  If that is INT1, its own exception tells of it: there
 *              are not two, of which the second would take the first one's
 *              place on an IST stack.  A state saved between the two loses it.
 * Leaves out   the BTF flag of DEBUGCTL.
 */
#include "engine/x86/debug.h"

#define DR6_BREAKPOINTS 0xfu
#define DR6_BS BIT(14)

/* What a breakpoint is for: its R/W field in DR7. */
enum {
	ON_EXECUTION = 0,
	ON_WRITE = 1,
	ON_PORT = 2, /* with CR4.DE */
	ON_ACCESS = 3,
};

static bool
enabled(const struct x86_cpu *cpu, unsigned n)
{
	return (cpu->dr7 >> (2 * n)) & 3;
}

static unsigned
kind(const struct x86_cpu *cpu, unsigned n)
{
	return (cpu->dr7 >> (16 + 4 * n)) & 3;
}

/* Does breakpoint n's range, which is aligned to its length, meet another? */
static bool
meets(const struct x86_cpu *cpu, unsigned n, uint64_t first, unsigned size)
{
	static const uint8_t lengths[] = { 1, 2, 8, 4 };
	uint64_t length = lengths[(cpu->dr7 >> (18 + 4 * n)) & 3];
	uint64_t begin = cpu->dr[n] & ~(length - 1);

	return first - begin < length || begin - first < size;
}

void
x86_debug_insn(struct x86_cpu *cpu, uint64_t lin)
{
	uint64_t hit = 0;

	for (unsigned n = 0; n < 4; n++) {
		if (enabled(cpu, n) && kind(cpu, n) == ON_EXECUTION &&
		    cpu->dr[n] == lin)
			hit |= BIT(n);
	}
	if (hit == 0)
		return;
	cpu->dr6 = (cpu->dr6 & ~DR6_BREAKPOINTS) | hit;
	x86_raise(cpu, X86_DB);
}

void
x86_debug_data(struct x86_cpu *cpu, uint64_t lin, unsigned size, bool write)
{
	for (unsigned n = 0; n < 4; n++) {
		if (enabled(cpu, n) &&
		    (kind(cpu, n) == ON_ACCESS ||
			(write && kind(cpu, n) == ON_WRITE)) &&
		    meets(cpu, n, lin, size))
			cpu->watched |= (uint8_t)BIT(n);
	}
}

void
x86_debug_port(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
	if (!(cpu->cr4 & X86_CR4_DE))
		return;
	for (unsigned n = 0; n < 4; n++) {
		if (enabled(cpu, n) && kind(cpu, n) == ON_PORT &&
		    meets(cpu, n, port, size))
			cpu->watched |= (uint8_t)BIT(n);
	}
}

/* TF was set before insn: is that a trap? */
static bool
single_stepped(const struct x86_cpu *cpu, const struct x86_insn *insn)
{
	switch (insn->op->id) {
	case X86_OP_INT3:
	case X86_OP_INT1:
	case X86_OP_INT:
	case X86_OP_INTO:
	case X86_OP_SYSCALL: /* IA32_FMASK decides */
		return cpu->rflags & X86_TF;
	default:
		return true;
	}
}

bool
x86_debug_trap(struct x86_cpu *cpu, const struct x86_insn *insn,
    uint64_t rflags)
{
	uint64_t why = cpu->watched;

	if (cpu->mov_ss_shadow)
		return false;
	if ((rflags & X86_TF) && single_stepped(cpu, insn))
		why |= DR6_BS;
	if (why == 0)
		return false;
	cpu->dr6 = (cpu->dr6 & ~DR6_BREAKPOINTS) | why;
	return insn->op->id != X86_OP_INT1;
}
