/*
 * Segmentation and far control transfer, in every mode.
 */
#ifndef ENGINE_X86_SEGMENT_H
#define ENGINE_X86_SEGMENT_H

#include "engine/x86/cpu.h"

/*
 * The linear address of [off, off + size) in a segment, after the checks of its
 * type, limit and presence, or canonical form in 64-bit code: raises #GP or #SS.
 * off has been cut to the address size.
 */
uint64_t x86_linear(struct x86_cpu *cpu, enum cpu_seg seg, uint64_t off,
    unsigned size, bool write);

/* MOV and POP to a segment register, LDS and kin; not CS. */
void x86_load_seg(struct x86_cpu *cpu, enum cpu_seg seg, uint16_t selector);

/* Far JMP, CALL, RET, IRET, INT n and kin: the whole instruction after its
 * operands were read; rip is that of the next instruction. */
void x86_jmp_far(struct x86_cpu *cpu, uint16_t selector, uint64_t off,
    unsigned opsize);
void x86_call_far(struct x86_cpu *cpu, uint16_t selector, uint64_t off,
    unsigned opsize);
void x86_ret_far(struct x86_cpu *cpu, unsigned opsize, unsigned release);
void x86_iret(struct x86_cpu *cpu, unsigned opsize);

/*
 * The stack by SS: size is 2, 4 or 8.  x86_push() and x86_pop() change rSP;
 * after an exception it is as it was, because the interpreter takes it back.
 */
void x86_push(struct x86_cpu *cpu, uint64_t value, unsigned size);
uint64_t x86_pop(struct x86_cpu *cpu, unsigned size);
/* SS.B or 64-bit: the width of rSP, 2, 4 or 8; and rSP changed in that width. */
unsigned x86_stack_width(const struct x86_cpu *cpu);
void x86_set_sp(struct x86_cpu *cpu, uint64_t sp);

/* A task switch through a TSS selector: JMP, CALL, IRET or a task gate. */
enum x86_task_cause {
	X86_TASK_JMP,
	X86_TASK_CALL,
	X86_TASK_IRET,
	X86_TASK_GATE
};
void x86_task_switch(struct x86_cpu *cpu, uint16_t selector,
    enum x86_task_cause cause, bool has_error, uint32_t error);

#endif
