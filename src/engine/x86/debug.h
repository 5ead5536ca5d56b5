/*
 * The breakpoints of DR7, and the debug exception after an instruction.
 *
 * Only the interpreter looks for them: while DR7 enables one, nothing is
 * translated.
 */
#ifndef ENGINE_X86_DEBUG_H
#define ENGINE_X86_DEBUG_H

#include "engine/x86/cpu.h"

#define X86_DR7_ENABLES 0xffu

/* #DB if an instruction breakpoint is at lin: before anything is done. */
void x86_debug_insn(struct x86_cpu *cpu, uint64_t lin);

/* Note in cpu->watched which breakpoints an access has met.  A leaf. */
void x86_debug_data(struct x86_cpu *cpu, uint64_t lin, unsigned size,
    bool write);
void x86_debug_port(struct x86_cpu *cpu, uint16_t port, unsigned size);

/*
 * Is there a trap after insn, which is done and began with rflags?  Then DR6
 * says why, and the caller raises it.
 */
bool x86_debug_trap(struct x86_cpu *cpu, const struct x86_insn *insn,
    uint64_t rflags);

#endif
