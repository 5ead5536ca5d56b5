/*
 * MSRs that no engine keeps: what bhyve answers for them.
 *
 * An engine serves the processor's own (EFER, STAR, PAT, the x2APIC range ...)
 * and asks here about all others that a guest touches.  All listed ones lie
 * below 0x2000 or from 0xc0010000 to 0xc0011fff.
 */
#ifndef ENGINE_X86_MSR_H
#define ENGINE_X86_MSR_H

#include "engine/x86/cpuid.h"

enum msr_answer {
	MSR_OK,      /* a read has its value, a write is ignored */
	MSR_FAULT,   /* #GP: the processor defines it and it was misused */
	MSR_UNKNOWN, /* the machine's policy: #GP, or (-w) 0 and ignored */
};

struct msr_params {
	enum cpuid_vendor vendor;
	uint64_t tsc_hz; /* 0: unknown */
};

/* Is it in the table, so that even an engine which knows it leaves it to us? */
bool msr_reads(const struct msr_params *params, uint32_t index);
bool msr_writes(const struct msr_params *params, uint32_t index);

/* The value is set for every answer: 0 unless there is a better one. */
enum msr_answer msr_read(const struct msr_params *params, uint32_t index,
    uint64_t *value);
enum msr_answer msr_write(const struct msr_params *params, uint32_t index);

#endif
