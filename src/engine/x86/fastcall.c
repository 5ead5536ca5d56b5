/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT.
 *
 * Models       Intel SDM volume 2 and AMD APM volume 3, by the vendor that the
 *              guest sees.  Where they differ:
 *                                  Intel             AMD
 *              SYSCALL, SYSRET     64-bit code only  any protected mode
 *              SYSRET to RCX       canonical or #GP  unchecked
 *              SYSENTER, SYSEXIT   any               not in long mode
 * Differences  On AMD SYSRET leaves the attributes of SS as they were.  Here
 *              they become those of a flat stack at level 3: CPL is SS's DPL.
 */
#include "engine/x86/system_impl.h"

/* Flat segments, present and accessed; DPL to be added. */
#define FLAT_CODE64 0xa09bu
#define FLAT_CODE32 0xc09bu
#define FLAT_STACK 0xc093u

#define SYSRET_FLAGS 0x3c7fd7u /* of R11 */

static bool
is_amd(const struct x86_cpu *cpu)
{
	return cpu->msr.vendor == CPUID_AMD;
}

static struct cpu_segment
flat(uint16_t selector, uint32_t access, unsigned cpl)
{
	return (struct cpu_segment) {
		.limit = UINT32_MAX,
		.access = access | cpl << 5,
		.selector = selector,
	};
}

static void
enter(struct x86_cpu *cpu, uint16_t cs, uint16_t ss, bool code64, unsigned cpl)
{
	cpu->seg[CPU_CS] = flat(cs, code64 ? FLAT_CODE64 : FLAT_CODE32, cpl);
	cpu->seg[CPU_SS] = flat(ss, FLAT_STACK, cpl);
	cpu->cpl = (uint8_t)cpl;
	x86_cpu_mode(cpu);
}

static void
check_syscall(struct x86_cpu *cpu)
{
	if (!(cpu->efer & X86_EFER_SCE) || !(cpu->cr0 & X86_CR0_PE) ||
	    (!is_amd(cpu) && cpu->code != X86_CODE64))
		x86_raise(cpu, X86_UD);
}

void
x86_syscall(struct x86_cpu *cpu)
{
	uint16_t cs = (uint16_t)(cpu->star >> 32) & 0xfffc;
	uint64_t clear = X86_RF | X86_VM;
	bool lm = x86_long_mode(cpu);

	check_syscall(cpu);
	cpu->gpr[CPU_RCX] = cpu->rip;
	if (lm) {
		cpu->gpr[CPU_R11] = cpu->rflags & ~(uint64_t)X86_RF;
		cpu->rip = cpu->code == X86_CODE64 ? cpu->lstar : cpu->cstar;
		clear |= cpu->sfmask;
	} else {
		cpu->rip = (uint32_t)cpu->star;
		clear |= X86_IF;
	}
	cpu->rflags = (cpu->rflags & ~clear) | X86_FLAGS_FIXED;
	enter(cpu, cs, (uint16_t)(cs + 8), lm, 0);
}

void
x86_sysret(struct x86_cpu *cpu, unsigned opsize)
{
	uint16_t cs = (uint16_t)(cpu->star >> 48);
	uint16_t ss = (uint16_t)(cs + 8);
	uint64_t rip = cpu->gpr[CPU_RCX];
	bool code64 = opsize == 8;

	check_syscall(cpu);
	if (cpu->cpl != 0)
		x86_raise_gp(cpu);
	if (!is_amd(cpu)) {
		if (code64 && !x86_canonical(rip))
			x86_raise_gp(cpu);
		ss |= 3;
	}
	if (code64)
		cs = (uint16_t)(cs + 16);
	else
		rip = (uint32_t)rip;
	cpu->rip = rip;
	if (x86_long_mode(cpu))
		cpu->rflags =
		    (cpu->gpr[CPU_R11] & SYSRET_FLAGS) | X86_FLAGS_FIXED;
	else
		cpu->rflags |= X86_IF;
	enter(cpu, cs | 3, ss, code64, 3);
}

static void
check_sysenter(struct x86_cpu *cpu)
{
	if (is_amd(cpu) && x86_long_mode(cpu))
		x86_raise(cpu, X86_UD);
	if (!(cpu->cr0 & X86_CR0_PE) || x86_is_null((uint16_t)cpu->sysenter_cs))
		x86_raise_gp(cpu);
}

void
x86_sysenter(struct x86_cpu *cpu)
{
	uint16_t cs = (uint16_t)cpu->sysenter_cs & 0xfffc;
	bool lm = x86_long_mode(cpu);

	check_sysenter(cpu);
	cpu->rflags &= ~(uint64_t)(X86_VM | X86_IF | X86_RF);
	cpu->gpr[CPU_RSP] =
	    lm ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
	cpu->rip = lm ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
	enter(cpu, cs, (uint16_t)(cs + 8), lm, 0);
}

void
x86_sysexit(struct x86_cpu *cpu, unsigned opsize)
{
	uint16_t cs = (uint16_t)cpu->sysenter_cs & 0xfffc;
	uint64_t rip = cpu->gpr[CPU_RDX], rsp = cpu->gpr[CPU_RCX];
	bool code64 = opsize == 8;

	check_sysenter(cpu);
	if (cpu->cpl != 0)
		x86_raise_gp(cpu);
	if (code64) {
		if (!x86_canonical(rip) || !x86_canonical(rsp))
			x86_raise_gp(cpu);
		cs = (uint16_t)(cs + 32);
	} else {
		rip = (uint32_t)rip;
		rsp = (uint32_t)rsp;
		cs = (uint16_t)(cs + 16);
	}
	cpu->gpr[CPU_RSP] = rsp;
	cpu->rip = rip;
	enter(cpu, cs | 3, (uint16_t)(cs + 8) | 3, code64, 3);
}
