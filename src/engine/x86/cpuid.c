/*
 * CPUID: bhyve's edits of the host's leaves.
 *
 * Models       the rules of bhyve's x86_emulate_cpuid: features that need help
 *              from the hypervisor are hidden, the topology is the one asked
 *              for with -c, the hypervisor names itself "bhyve bhyve ".  Leaves
 *              and bits: Intel SDM volume 2 CPUID, AMD APM volume 3 appendix E.
 * Differences  RDTSCP shows where the host has it, as in newer bhyve.  Leaf
 *              0x15, 0x16 and what bhyve passes but a guest could do nothing
 *              with (performance counters, cache allocation, SEV) are zero.
 * Invariants   1. The guest's table has no leaf that the rules below do not
 *                 name: a new leaf of a new processor is hidden until someone
 *                 has thought about it.
 *              2. Leaves 0 and 0x80000000 say no more than the host does.
 */
#include <cpuid.h>
#include <string.h>

#include "engine/x86/cpuid.h"

#define VENDOR_AMD_EBX 0x68747541u   /* "Auth" */
#define VENDOR_HYGON_EBX 0x6f677948u /* "Hygo" */

#define HV_LEAF 0x40000000u
#define EXT_LEAF 0x80000000u

/* leaf 1 */
#define L1_ECX_HIDE                                                         \
	(BIT(2) /* DTES64 */ | BIT(3) /* MONITOR */ | BIT(4) /* DS-CPL */ | \
	    BIT(5) /* VMX */ | BIT(6) /* SMX */ | BIT(7) /* EST */ |        \
	    BIT(8) /* TM2 */ | BIT(11) /* SDBG */ | BIT(14) /* xTPR */ |    \
	    BIT(15) /* PDCM */ | BIT(18) /* DCA */ |                        \
	    BIT(24) /* TSC-deadline */ | BIT(27) /* OSXSAVE */)
#define L1_ECX_X2APIC BIT(21)
#define L1_ECX_XSAVE BIT(26)
#define L1_ECX_HYPERVISOR BIT(31)
#define L1_EDX_HIDE                                                 \
	(BIT(21) /* DS */ | BIT(22) /* ACPI */ | BIT(29) /* TM */ | \
	    BIT(31) /* PBE */)
#define L1_EDX_SET                                                   \
	(BIT(7) /* MCE */ | BIT(12) /* MTRR */ | BIT(14) /* MCA */ | \
	    BIT(28) /* HTT */)

/* leaf 7, subleaf 0 */
#define L7_EBX_SHOW                                                         \
	(BIT(0) /* FSGSBASE */ | BIT(3) /* BMI1 */ | BIT(4) /* HLE */ |     \
	    BIT(5) /* AVX2 */ | BIT(7) /* SMEP */ | BIT(8) /* BMI2 */ |     \
	    BIT(9) /* ERMS */ | BIT(10) /* INVPCID */ | BIT(11) /* RTM */ | \
	    BIT(16) /* AVX512F */ | BIT(17) /* AVX512DQ */ |                \
	    BIT(18) /* RDSEED */ | BIT(19) /* ADX */ | BIT(20) /* SMAP */ | \
	    BIT(23) /* CLFLUSHOPT */ | BIT(24) /* CLWB */ |                 \
	    BIT(26) /* AVX512PF */ | BIT(27) /* AVX512ER */ |               \
	    BIT(28) /* AVX512CD */ | BIT(29) /* SHA */ |                    \
	    BIT(30) /* AVX512BW */ | BIT(31) /* AVX512VL */)
#define L7_ECX_SHOW (BIT(9) /* VAES */ | BIT(10) /* VPCLMULQDQ */)
#define L7_EDX_SHOW BIT(10) /* MD_CLEAR */

/* leaf 0x80000001 */
#define LX1_ECX_HIDE                                                       \
	(BIT(2) /* SVM */ | BIT(3) /* extended APIC space */ |             \
	    BIT(9) /* OSVW */ | BIT(10) /* IBS */ | BIT(12) /* SKINIT */ | \
	    BIT(13) /* WDT */ | BIT(15) /* LWP */ | BIT(17) /* TCE */ |    \
	    BIT(19) /* NodeId MSR */ | BIT(23) /* PCXC */ |                \
	    BIT(24) /* PNXC */ | BIT(26) /* DBX */ | BIT(27) /* PTSC */ |  \
	    BIT(28) /* L2I */ | BIT(29) /* MWAITX */)
#define LX1_ECX_CMP_LEGACY BIT(1)
#define LX1_ECX_TOPOEXT BIT(22)
#define LX1_EDX_HIDE BIT(25) /* FFXSR */

#define LX7_EDX_INVARIANT_TSC BIT(8)
#define LX8_EBX_SHOW \
	(BIT(0) /* CLZERO */ | BIT(1) /* IRPERF */ | BIT(2) /* XSAVEERPTR */)

/* leaf 4 and 0x8000001d EAX */
#define CACHE_TYPE 0x1fu
#define CACHE_LEVEL(eax) (((eax) >> 5) & 7)

/* Subleaves of leaf 4, 0xd, 0x8000001d that anybody has. */
#define CACHES_MAX 8
#define XSAVE_COMPONENTS 63

static void
put(struct cpuid_table *table, const struct cpuid_leaf *leaf)
{
	/* The rules name fewer leaves than the table has rows. */
	if (table->count < CPUID_LEAVES_MAX)
		table->leaf[table->count++] = *leaf;
}

const struct cpuid_leaf *
cpuid_find(const struct cpuid_table *table, uint32_t leaf, uint32_t subleaf)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct cpuid_leaf *row = &table->leaf[i];

		if (row->leaf == leaf &&
		    (!row->indexed || row->subleaf == subleaf))
			return row;
	}
	return NULL;
}

/* The row, or zeros. */
static struct cpuid_leaf
get(const struct cpuid_table *table, uint32_t leaf, uint32_t subleaf)
{
	const struct cpuid_leaf *row = cpuid_find(table, leaf, subleaf);

	return row != NULL ?
	    *row :
	    (struct cpuid_leaf) { .leaf = leaf, .subleaf = subleaf };
}

struct cpuid_leaf
cpuid_read(const struct cpuid_table *table, uint32_t leaf, uint32_t subleaf)
{
	uint32_t base = leaf & 0xf0000000u;
	uint32_t max;

	if (base != HV_LEAF && base != EXT_LEAF)
		base = 0;
	max = get(table, base, 0).eax;
	return get(table, MIN(leaf, max), subleaf);
}

enum cpuid_vendor
cpuid_vendor(const struct cpuid_table *table)
{
	uint32_t ebx = get(table, 0, 0).ebx;

	return ebx == VENDOR_AMD_EBX || ebx == VENDOR_HYGON_EBX ? CPUID_AMD :
								  CPUID_INTEL;
}

uint64_t
cpuid_xcr0(const struct cpuid_table *table)
{
	struct cpuid_leaf d = get(table, 0xd, 0);

	return (uint64_t)d.edx << 32 | d.eax;
}

uint32_t
cpuid_xsave_size(const struct cpuid_table *table)
{
	uint64_t xcr0 = cpuid_xcr0(table);
	uint32_t size = 512 + 64; /* the legacy area and the header */

	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		struct cpuid_leaf d;

		if (!(xcr0 & BIT(i)))
			continue;
		d = get(table, 0xd, i);
		size = MAX(size, d.eax + d.ebx);
	}
	return size;
}

bool
cpuid_has_virtualization(const struct cpuid_table *host)
{
	return (get(host, 1, 0).ecx & BIT(5)) ||
	    (get(host, EXT_LEAF + 1, 0).ecx & BIT(2));
}

/* ------------------------------------------------------------ the host */

static struct cpuid_leaf
ask(uint32_t leaf, uint32_t subleaf, bool indexed)
{
	struct cpuid_leaf l = {
		.leaf = leaf,
		.subleaf = subleaf,
		.indexed = indexed,
	};

	__cpuid_count(leaf, subleaf, l.eax, l.ebx, l.ecx, l.edx);
	return l;
}

/* Highest subleaf worth asking for; 0 where ECX does not matter. */
static unsigned
subleaves(uint32_t leaf)
{
	switch (leaf) {
	case 4:
	case EXT_LEAF + 0x1d:
		return CACHES_MAX;
	case 0xd:
		return XSAVE_COMPONENTS;
	case 7:
	case 0xb:
		return 1;
	default:
		return 0;
	}
}

void
cpuid_host(struct cpuid_table *host)
{
	static const struct {
		uint32_t base, last;
	} ranges[] = { { 0, 0x1f }, { EXT_LEAF, EXT_LEAF + 0x21 } };

	host->count = 0;
	for (size_t r = 0; r < ARRAY_SIZE(ranges); r++) {
		uint32_t max = ask(ranges[r].base, 0, false).eax;
		uint32_t last = MIN(max, ranges[r].last);

		for (uint32_t leaf = ranges[r].base; leaf <= last; leaf++) {
			unsigned subs = subleaves(leaf);

			for (unsigned i = 0; i <= subs; i++) {
				struct cpuid_leaf l = ask(leaf, i, subs > 0);

				if (i == 0 || (l.eax | l.ebx | l.ecx | l.edx))
					put(host, &l);
			}
		}
	}
}

/* ----------------------------------------------------------- the edits */

/* Bits that number n things. */
static unsigned
width(unsigned n)
{
	unsigned bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

static void
edit_features(struct cpuid_leaf *l, const struct cpuid_params *p)
{
	unsigned logical = p->cores * p->threads;
	bool xsave = l->ecx & L1_ECX_XSAVE;

	l->ebx =
	    (l->ebx & 0x0000ffff) | MIN(logical, 255u) << 16 | p->vcpu << 24;
	l->ecx &= ~(uint32_t)(L1_ECX_HIDE | L1_ECX_X2APIC);
	l->ecx |= L1_ECX_HYPERVISOR;
	if (p->x2apic)
		l->ecx |= L1_ECX_X2APIC;
	if (!xsave) /* what needs YMM goes with it */
		l->ecx &= ~(uint32_t)(BIT(12) | BIT(28) | BIT(29));
	l->edx &= ~(uint32_t)L1_EDX_HIDE;
	l->edx |= L1_EDX_SET;
}

/* Intel's caches: who shares each, and how many cores a package has. */
static void
edit_caches(struct cpuid_table *guest, const struct cpuid_table *host,
    const struct cpuid_params *p)
{
	for (unsigned i = 0; i < CACHES_MAX; i++) {
		struct cpuid_leaf l = get(host, 4, i);
		unsigned share;

		l.indexed = true;
		if ((l.eax & CACHE_TYPE) != 0) {
			share = CACHE_LEVEL(l.eax) < 3 ? p->threads :
							 p->cores * p->threads;
			l.eax = (l.eax & 0x3ff) | (share - 1) << 14 |
			    (p->cores - 1) << 26;
		}
		put(guest, &l);
		if ((l.eax & CACHE_TYPE) == 0)
			break;
	}
}

/* Intel's extended topology: threads, then cores. */
static void
edit_topology(struct cpuid_table *guest, const struct cpuid_params *p)
{
	const struct cpuid_leaf rows[] = {
		{
		    .leaf = 0xb,
		    .subleaf = 0,
		    .indexed = true,
		    .eax = width(p->threads),
		    .ebx = p->threads,
		    .ecx = 1 << 8 | 0, /* SMT */
		    .edx = p->vcpu,
		},
		{
		    .leaf = 0xb,
		    .subleaf = 1,
		    .indexed = true,
		    .eax = width(p->threads * p->cores),
		    .ebx = p->threads * p->cores,
		    .ecx = 2 << 8 | 1, /* core */
		    .edx = p->vcpu,
		},
		{
		    .leaf = 0xb,
		    .subleaf = 2,
		    .indexed = true,
		    .ecx = 2, /* no further level */
		    .edx = p->vcpu,
		},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		put(guest, &rows[i]);
}

static void
edit_xsave(struct cpuid_table *guest, const struct cpuid_table *host)
{
	struct cpuid_leaf l = get(host, 0xd, 0);
	uint64_t xcr0 = cpuid_xcr0(host) & CPUID_XCR0_ALLOWED;
	bool xsave = get(host, 1, 0).ecx & L1_ECX_XSAVE;

	if (!xsave)
		xcr0 = 0;
	l.indexed = true;
	l.eax = (uint32_t)xcr0;
	l.edx = (uint32_t)(xcr0 >> 32);
	l.ebx = l.ecx = 0;
	put(guest, &l);
	if (!xsave)
		return;
	/* Of XSAVES and its kin only XSAVEOPT: the rest need IA32_XSS. */
	l = get(host, 0xd, 1);
	put(guest,
	    &(struct cpuid_leaf) {
		.leaf = 0xd,
		.subleaf = 1,
		.indexed = true,
		.eax = l.eax & 1,
	    });
	for (unsigned i = 2; i < XSAVE_COMPONENTS; i++) {
		if (!(xcr0 & BIT(i)))
			continue;
		l = get(host, 0xd, i);
		l.indexed = true;
		l.ecx = l.edx = 0; /* in XCR0, not aligned */
		put(guest, &l);
	}
	/* The sizes, now that the table has what they are made of. */
	for (unsigned i = 0; i < guest->count; i++) {
		struct cpuid_leaf *d = &guest->leaf[i];

		if (d->leaf == 0xd && d->subleaf == 0)
			d->ebx = d->ecx = cpuid_xsave_size(guest);
	}
}

static void
edit_basic(struct cpuid_table *guest, const struct cpuid_table *host,
    const struct cpuid_params *p)
{
	bool intel = cpuid_vendor(host) == CPUID_INTEL;
	struct cpuid_leaf l = get(host, 0, 0);
	uint32_t max = MIN(l.eax, 0x16u);

	l.eax = max;
	put(guest, &l);
	for (uint32_t leaf = 1; leaf <= max; leaf++) {
		l = get(host, leaf, 0);
		l.indexed = false;
		switch (leaf) {
		case 1:
			edit_features(&l, p);
			break;
		case 2:
		case 3:
			break;
		case 4:
			edit_caches(guest, host, p);
			continue;
		case 6:
			l.eax &= BIT(2); /* ARAT: the APIC timer never stops */
			l.ebx = l.ecx = l.edx = 0;
			break;
		case 7:
			l.indexed = true;
			l.eax = 0;
			l.ebx &= L7_EBX_SHOW;
			l.ecx &= L7_ECX_SHOW;
			l.edx &= L7_EDX_SHOW;
			break;
		case 0xb:
			if (intel) {
				edit_topology(guest, p);
				continue;
			}
			l = (struct cpuid_leaf) { .leaf = leaf };
			break;
		case 0xd:
			edit_xsave(guest, host);
			continue;
		default:
			l = (struct cpuid_leaf) { .leaf = leaf };
			break;
		}
		put(guest, &l);
	}
}

static void
edit_hypervisor(struct cpuid_table *guest)
{
	struct cpuid_leaf l = { .leaf = HV_LEAF, .eax = HV_LEAF };
	static const char name[12] = "bhyve bhyve ";

	memcpy(&l.ebx, name, 4);
	memcpy(&l.ecx, name + 4, 4);
	memcpy(&l.edx, name + 8, 4);
	put(guest, &l);
}

/* AMD's caches: L1 data, L2, L3; the host's own geometry where it has one. */
static void
edit_amd_caches(struct cpuid_table *guest, const struct cpuid_table *host,
    const struct cpuid_params *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < CACHES_MAX; i++) {
		struct cpuid_leaf l = get(host, EXT_LEAF + 0x1d, i);
		unsigned share;

		if ((l.eax & CACHE_TYPE) == 0)
			break;
		share =
		    CACHE_LEVEL(l.eax) < 3 ? p->threads : p->cores * p->threads;
		l.indexed = true;
		l.subleaf = n++;
		l.eax = (l.eax & 0x3fff) | (share - 1) << 14;
		put(guest, &l);
	}
	put(guest,
	    &(struct cpuid_leaf) {
		.leaf = EXT_LEAF + 0x1d,
		.subleaf = n,
		.indexed = true,
	    });
}

static void
edit_amd_node(struct cpuid_leaf *l, const struct cpuid_params *p)
{
	*l = (struct cpuid_leaf) {
		.leaf = EXT_LEAF + 0x1e,
		.eax = p->vcpu,
		.ebx = (p->threads - 1) << 8 | p->vcpu / p->threads,
	};
}

static void
edit_extended(struct cpuid_table *guest, const struct cpuid_table *host,
    const struct cpuid_params *p)
{
	bool amd = cpuid_vendor(host) == CPUID_AMD;
	struct cpuid_leaf l = get(host, EXT_LEAF, 0);
	unsigned logical = p->cores * p->threads;
	uint32_t max = MIN(l.eax, EXT_LEAF + 0x1e);

	if (max < EXT_LEAF)
		return;
	l.eax = max;
	put(guest, &l);
	for (uint32_t leaf = EXT_LEAF + 1; leaf <= max; leaf++) {
		l = get(host, leaf, 0);
		l.indexed = false;
		switch (leaf - EXT_LEAF) {
		case 1:
			l.ecx &= ~(uint32_t)LX1_ECX_HIDE;
			l.edx &= ~(uint32_t)LX1_EDX_HIDE;
			if (amd && logical > 1)
				l.ecx |= LX1_ECX_CMP_LEGACY;
			if (max < EXT_LEAF + 0x1e)
				l.ecx &= ~(uint32_t)LX1_ECX_TOPOEXT;
			break;
		case 2:
		case 3:
		case 4:
		case 5:
		case 6:
			break;
		case 7:
			l.eax = l.ebx = l.ecx = 0;
			l.edx &= LX7_EDX_INVARIANT_TSC;
			break;
		case 8:
			l.ebx &= amd ? LX8_EBX_SHOW : 0;
			l.ecx = amd ? width(logical) << 12 | (logical - 1) : 0;
			l.edx = 0;
			break;
		case 0x19: /* TLBs of 1 GiB pages */
		case 0x1a: /* how wide vector units are */
			break;
		case 0x1d:
			if (amd) {
				edit_amd_caches(guest, host, p);
				continue;
			}
			l = (struct cpuid_leaf) { .leaf = leaf };
			break;
		case 0x1e:
			if (amd) {
				edit_amd_node(&l, p);
				break;
			}
			/* FALLTHROUGH */
		default:
			l = (struct cpuid_leaf) { .leaf = leaf };
			break;
		}
		put(guest, &l);
	}
}

void
cpuid_guest(const struct cpuid_table *host, const struct cpuid_params *params,
    struct cpuid_table *guest)
{
	guest->count = 0;
	edit_basic(guest, host, params);
	edit_hypervisor(guest);
	edit_extended(guest, host, params);
}
