/*
 * The same instruction with other registers and another memory operand: what
 * lets guest code run as host code.
 *
 * Shared by the translator (whole blocks) and the interpreter (one vector
 * instruction).  Only for instructions of the classes X86_C_PLAIN and
 * X86_C_VECTOR.  The result is always 64-bit code, whatever the guest's code
 * size: where 64-bit code encodes an instruction of 16- or 32-bit code
 * otherwise (INC and DEC of 40-4F, no address-size prefix ...), it is so
 * rewritten; what 64-bit code lacks is -ENOTSUP.
 */
#ifndef ENGINE_X86_REENCODE_H
#define ENGINE_X86_REENCODE_H

#include "engine/x86/decode.h"

/* The longest result, generously. */
#define X86_REENCODED_MAX 24u

struct x86_regmap {
	uint8_t gpr[CPU_GPRS]; /* the host register for each guest register */
	/* The memory operand becomes base + index (X86_NO_REG: none) + disp. */
	uint8_t base, index;
	int32_t disp;
	bool gs; /* with a gs override */
};

/*
 * The number of bytes written to out, or -ENOTSUP: no 64-bit encoding, or a
 * high-byte register (AH ...) that meets a host register which needs REX.
 * Fixed registers (MUL's rAX and rDX, shifts' CL) are not mapped: the caller
 * puts them where the processor wants them.
 */
int x86_reencode(const struct x86_insn *insn, const struct x86_regmap *map,
    uint8_t *out);

#endif
