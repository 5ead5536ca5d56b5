/*
 * What the files that carry out vector instructions share: running code on the
 * guest's vector state, memory of which only some bytes count.
 *
 *              native.c         the host's units: stubs, exceptions
 *              native_masked.c  masked memory: EVEX, MASKMOV, gathers, scatters
 *              native_image.c   whole states in memory: FXSAVE, XSAVE and kin
 */
#ifndef ENGINE_X86_NATIVE_IMPL_H
#define ENGINE_X86_NATIVE_IMPL_H

#include "engine/x86/interp_impl.h"

/* ---- native.c ----------------------------------------------------------- */

/* Where the memory operand of code that runs natively is. */
#define NATIVE_MEM_REG CPU_RDI

/*
 * Run one instruction of len (to 7) bytes, the first lowest, that uses nothing
 * but vector state and memory at [rdi].
 */
void native_run_code(struct x86_cpu *cpu, uint64_t code, unsigned len,
    void *mem);

/*
 * What an instruction that waits for x87 exceptions meets first: #MF, or if
 * CR0.NE does not let it through, true: run it between the next two.
 */
bool native_x87_wait(struct x86_cpu *cpu);
/* Have nothing pending, by masking everything; the control word before. */
uint16_t native_x87_mask(struct x86_cpu *cpu);
/* Back to control word fcw, and to what is pending with it. */
void native_x87_unmask(struct x86_cpu *cpu, uint16_t fcw);

/* Does it look for pending x87 exceptions?  SDM volume 1, 8.3.11 to 8.3.13. */
bool native_is_waiting(const struct x86_insn *insn);

/* ---- native_masked.c ---------------------------------------------------- */

/* A bit for each byte, of up to 64. */
typedef uint64_t bytes_t;

/*
 * Which of the memory operand's size bytes a load needs: all, but for EVEX
 * instructions that suppress the faults of elements that are masked off.  And
 * which VCVTPS2PH stores.
 */
bytes_t native_bytes_needed(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned size);
/* The size of an element whose faults can be suppressed, or 0. */
unsigned native_masked_element(const struct x86_insn *insn);
/* alignment: what an alignment check asks of the bytes that count. */
void native_load_masked(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned alignment, uint8_t *buf, bytes_t bytes);
/* To offset ea: raise what a store would raise; and store. */
void native_probe_masked(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned alignment, uint64_t ea, bytes_t bytes);
void native_store_masked(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned alignment, uint64_t ea, const uint8_t *buf, bytes_t bytes);

x86_exec_fn native_exec_maskmov, native_exec_vmaskmov, native_exec_gather,
    native_exec_scatter;

/* ---- native_image.c ----------------------------------------------------- */

x86_exec_fn native_exec_fxsave, native_exec_fxrstor, native_exec_xsave,
    native_exec_xrstor;
/* VZEROALL and VZEROUPPER of 16- and 32-bit code. */
x86_exec_fn native_exec_vzero;

/* ---- small things ------------------------------------------------------- */

static inline const struct x86_operand *
native_memory_operand(const struct x86_insn *insn)
{
	for (unsigned i = 0; i < insn->operands; i++) {
		if (insn->opnd[i].kind == X86_K_MEM)
			return &insn->opnd[i];
	}
	return NULL;
}

/* 64 bytes; no memset(), which is free to use vector registers. */
static inline void
native_fill(uint8_t *buf, uint64_t pattern)
{
	for (unsigned i = 0; i < 64; i += 8)
		memcpy(buf + i, &pattern, 8);
}

#endif
