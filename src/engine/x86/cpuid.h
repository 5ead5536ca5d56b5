/*
 * CPUID as a guest of bhyve sees it: the host's leaves through bhyve's edits.
 *
 * A pure function from what a processor (or the kernel's KVM) offers to what
 * each vCPU is shown, the same for every engine.  What changes while a guest
 * runs stays with the engine: OSXSAVE mirrors CR4, the APIC bit APIC_BASE, and
 * leaf 0xd subleaf 0 EBX (subleaf 1 EBX) the size of the enabled XSAVE area.
 */
#ifndef ENGINE_X86_CPUID_H
#define ENGINE_X86_CPUID_H

#include "base/util.h"

struct cpuid_leaf {
	uint32_t leaf;
	uint32_t subleaf; /* 0 unless indexed */
	bool indexed;     /* ECX chooses among subleaves */
	uint32_t eax, ebx, ecx, edx;
};

#define CPUID_LEAVES_MAX 256
struct cpuid_table {
	unsigned count;
	struct cpuid_leaf leaf[CPUID_LEAVES_MAX];
};

enum cpuid_vendor { CPUID_INTEL, CPUID_AMD }; /* AMD: Hygon, too */

struct cpuid_params {
	unsigned vcpu;           /* its APIC id */
	unsigned cores, threads; /* of a socket, of a core */
	bool x2apic;
};

/* XCR0 components a guest may have: x87, SSE, AVX, AVX-512. */
#define CPUID_XCR0_ALLOWED 0xe7ULL

/* What the processor that we run on says. */
void cpuid_host(struct cpuid_table *host);

void cpuid_guest(const struct cpuid_table *host,
    const struct cpuid_params *params, struct cpuid_table *guest);

/* The row, or NULL. */
const struct cpuid_leaf *cpuid_find(const struct cpuid_table *table,
    uint32_t leaf, uint32_t subleaf);
/*
 * What the instruction returns: a leaf beyond its range's maximum is the
 * maximum, one that is not there is zero.
 */
struct cpuid_leaf cpuid_read(const struct cpuid_table *table, uint32_t leaf,
    uint32_t subleaf);

enum cpuid_vendor cpuid_vendor(const struct cpuid_table *table);
/* XCR0 bits that the table offers, and the XSAVE area all of them need. */
uint64_t cpuid_xcr0(const struct cpuid_table *table);
uint32_t cpuid_xsave_size(const struct cpuid_table *table);

/* Has the processor VT-x or SVM? */
bool cpuid_has_virtualization(const struct cpuid_table *host);

#endif
