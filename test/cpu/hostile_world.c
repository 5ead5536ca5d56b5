/*
 * A round's memory and processor state.
 *
 * Plausible, so that code gets somewhere: descriptors, gates and page tables
 * that hold together, with a few that do not.  An exception leads to a handler
 * that counts down and goes on, or to whatever struct plan says.
 *
 * Jail         Ring 3 in a paged world.  Only CODE and DATA are its own;
 *              everything else is the supervisor's, gates have DPL 0, there is
 *              no way to call the system, no port, no device mapped.  What ring
 *              0 runs are the handlers here.  So whatever the code is, memory
 *              outside of image_open() must stay as it is.  Accessed and dirty
 *              bits are set from the start.
 */
#include <string.h>

#include "base/wire.h"
#include "test/cpu/hostile.h"

#define CR0_PE BIT(0)
#define CR0_MP BIT(1)
#define CR0_EM BIT(2)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_PG BIT(31)
#define CR4_VME BIT(0)
#define CR4_PVI BIT(1)
#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_PCIDE BIT(17)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_NX BIT(63)

#define PML4 (TABLES + 0x0000u)
#define PDPT (TABLES + 0x1000u)
#define PD (TABLES + 0x2000u)
#define PT (TABLES + 0x3000u)
#define PD_TOP (TABLES + 0x4000u) /* 3 to 4 GiB */
#define PDPT_PAE (TABLES + 0x5000u)
#define PD_32 (TABLES + 0x6000u)
#define PT_32 (TABLES + 0x7000u)
#define ALIAS 511u  /* entry of PML4: low memory again */
#define MIRROR 256u /* the tables themselves */

/* Entries of the GDT. */
enum {
	G_CODE0 = 1,
	G_DATA0,
	G_CODE3,
	G_DATA3,
	G_CODE0_64,
	G_CODE3_64,
	G_CODE0_16,
	G_DATA0_16,
	G_CONFORMING,
	G_DOWN,
	G_EXECUTE,
	G_LDT,
	G_TSS = 14,
	G_TSS_32 = 16,
	G_TSS_16,
	G_CALL,
	G_TASK,
	G_CODE3_16,
	G_DATA3_16,
	G_ABSENT,
	G_CALL_64 = 24,
	G_RANDOM = 26,
};

const char *const world_names[WORLDS] = {
	[W_REAL] = "real",
	[W_UNREAL] = "unreal",
	[W_PROT16] = "prot16",
	[W_PROT32] = "prot32",
	[W_V86] = "v86",
	[W_PAGED32] = "paged32",
	[W_PAE] = "pae",
	[W_COMPAT] = "compat",
	[W_LONG] = "long",
};

const char *const mode_names[MODES] = { "jail", "forged", "smp", "events",
	"dirty" };

/* ------------------------------------------------------------------- plan */

void
plan_make(struct plan *plan, uint64_t seed, uint64_t kinds, uint64_t modes,
    bool compare)
{
	struct rng rng = { seed * 0x2545f4914f6cdd1d + 1 };
	static const uint8_t chance[MODES] = { 12, 8, 30, 45, 12 };
	unsigned most = 1 + rng_below(&rng, 4);

	*plan = (struct plan) { .seed = seed, .compare = compare };
	plan->world = rng_chance(&rng, 40) ? W_LONG : rng_below(&rng, WORLDS);
	plan->handling = rng_chance(&rng, 70) ? rng_below(&rng, 2) :
						rng_below(&rng, HANDLINGS);
	plan->cpl = rng_chance(&rng, 35) ? 3 :
	    rng_chance(&rng, 5)          ? 1 + rng_below(&rng, 2) :
					   0;
	for (unsigned i = 0; i < MODES; i++) {
		if (rng_chance(&rng, chance[i]))
			plan->modes |= BIT(i) & modes;
	}
	/* A few kinds in one round show more than all of them. */
	if (rng_chance(&rng, 25))
		plan->kinds = kinds;
	for (unsigned i = 0; i < most && !rng_chance(&rng, 2); i++)
		plan->kinds |= BIT(rng_below(&rng, KINDS)) & kinds;
	if (plan->kinds == 0)
		plan->kinds = kinds;
	if (compare)
		plan->modes &= M_JAIL;
	if (plan->modes & M_JAIL) {
		static const uint8_t worlds[] = { W_PAGED32, W_PAE, W_COMPAT,
			W_LONG, W_LONG };

		plan->world = worlds[rng_below(&rng, ARRAY_SIZE(worlds))];
		plan->cpl = 3;
		plan->handling = rng_below(&rng, 4);
		plan->modes &= ~M_FORGED;
	}
	if (plan->world < W_PROT16)
		plan->cpl = 0;
	if (plan->world == W_V86)
		plan->cpl = 3;
	plan->vcpus = plan->modes & M_SMP ? VCPUS : 1;
	plan->slice_us = rng_chance(&rng, 5) ? 20000 : 1500;
	plan->ds_base = 0;
	if (world_bits(plan->world) == 16 || rng_chance(&rng, 10)) {
		static const uint32_t bases[] = { 0, DATA, DATA, DATA, CODE,
			0xffff0 };
		static const uint32_t far[] = { MMIO, 0xfffffff0, ROM, TABLES,
			0x12345 };

		plan->ds_base = bases[rng_below(&rng, ARRAY_SIZE(bases))];
		if (plan->world != W_REAL && plan->world != W_V86 &&
		    rng_chance(&rng, 25))
			plan->ds_base = far[rng_below(&rng, ARRAY_SIZE(far))];
	}
	if (plan->modes & M_JAIL)
		plan->ds_base = 0;
}

void
plan_print(const struct plan *plan, FILE *out)
{
	fprintf(out, "seed %llu: %s, ring %u, %u vCPU%s, kinds",
	    (unsigned long long)plan->seed, world_names[plan->world], plan->cpl,
	    plan->vcpus, plan->vcpus == 1 ? "" : "s");
	for (unsigned i = 0; i < KINDS; i++) {
		if (plan->kinds & BIT(i))
			fprintf(out, " %s", kind_names[i]);
	}
	for (unsigned i = 0; i < MODES; i++) {
		if (plan->modes & BIT(i))
			fprintf(out, ", %s", mode_names[i]);
	}
	fputc('\n', out);
}

bool
image_open(uint32_t gpa)
{
	return (gpa >= CODE && gpa < DATA + DATA_SIZE) ||
	    (gpa >= STACKS && gpa < STACKS_END) ||
	    (gpa >= COUNTDOWN && gpa < COUNTDOWN + 4);
}

/* ------------------------------------------------------------ descriptors */

static uint64_t
descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	    (uint64_t)access << 40 | (uint64_t)((limit >> 16) & 0xf) << 48 |
	    (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static uint64_t
gate(uint32_t to, unsigned selector, unsigned access)
{
	return (to & 0xffff) | (uint64_t)selector << 16 |
	    (uint64_t)access << 40 | (uint64_t)(to >> 16) << 48;
}

#define FLAGS_16 0x0u
#define FLAGS_32 0xcu /* G, D/B */
#define FLAGS_64 0xau /* G, L */

static void
put_gdt(struct image *image, const struct plan *plan, struct rng *rng)
{
	uint8_t *gdt = image->low + GDT;
	bool lm = world_long(plan->world);
	const uint64_t own[GDT_ENTRIES] = {
		[G_CODE0] = descriptor(0, 0xfffff, 0x9b, FLAGS_32),
		[G_DATA0] = descriptor(0, 0xfffff, 0x93, FLAGS_32),
		[G_CODE3] = descriptor(0, 0xfffff, 0xfb, FLAGS_32),
		[G_DATA3] = descriptor(plan->ds_base, 0xfffff, 0xf3, FLAGS_32),
		[G_CODE0_64] = descriptor(0, 0xfffff, 0x9b, FLAGS_64),
		[G_CODE3_64] = descriptor(0, 0xfffff, 0xfb, FLAGS_64),
		[G_CODE0_16] = descriptor(CODE, 0xffff, 0x9b, FLAGS_16),
		[G_DATA0_16] =
		    descriptor(plan->ds_base, 0xffff, 0x93, FLAGS_16),
		[G_CODE3_16] = descriptor(CODE, 0xffff, 0xfb, FLAGS_16),
		[G_DATA3_16] =
		    descriptor(plan->ds_base, 0xffff, 0xf3, FLAGS_16),
		[G_TSS] = descriptor(TSS, 0x1ff, 0x8b, FLAGS_16),
	};
	const uint64_t more[GDT_ENTRIES] = {
		[G_CONFORMING] = descriptor(0, 0xfffff, 0x9f, FLAGS_32),
		[G_DOWN] = descriptor(0, 0xf, 0xf7, FLAGS_32),
		[G_EXECUTE] = descriptor(0, 0xfffff, 0xf9, FLAGS_32),
		[G_LDT] = descriptor(LDT, 0xff, 0x82, FLAGS_16),
		[G_TSS_32] = descriptor(TSS + TSS_ROOM, 0x1ff, 0xe9, FLAGS_16),
		[G_TSS_16] =
		    descriptor(TSS + 2 * TSS_ROOM, 0x2b, 0xe1, FLAGS_16),
		[G_CALL] = gate(CODE + 0x40, G_CODE0 * 8, lm ? 0xec : 0xe4),
		[G_TASK] = gate(0, G_TSS_32 * 8, 0xe5),
		[G_ABSENT] = descriptor(0, 0xfffff, 0x73, FLAGS_32),
		[G_CALL_64] = gate(CODE + 0x80, G_CODE0_64 * 8, 0xec),
	};

	for (unsigned i = 0; i < GDT_ENTRIES; i++) {
		uint64_t e = own[i];

		if (!(plan->modes & M_JAIL)) {
			e |= more[i];
			if (i >= G_RANDOM)
				e = rng_next(rng) |
				    (rng_chance(rng, 70) ? BIT(47) : 0);
		}
		le64_store(gdt + 8 * i, e);
	}
	if (plan->modes & M_JAIL)
		return;
	for (unsigned i = 0; i < 0x100; i++)
		image->low[LDT + i] = (uint8_t)rng_next(rng);
}

/* The hidden part, as loading the selector makes it. */
static struct cpu_segment
segment(const struct image *image, unsigned entry, unsigned rpl)
{
	uint64_t d = le64_load(image->low + GDT + 8 * entry);
	uint32_t limit = (uint32_t)((d & 0xffff) | (d >> 32 & 0xf0000));

	return (struct cpu_segment) {
		.base = (d >> 16 & 0xffffff) | (d >> 56) << 24,
		.limit = d & BIT(55) ? limit << 12 | 0xfff : limit,
		.access = (uint32_t)((d >> 40 & 0xff) | (d >> 52 & 0xf) << 12),
		.selector = (uint16_t)(entry * 8 | rpl),
	};
}

static void
put_tss(struct image *image, const struct plan *plan, struct rng *rng)
{
	uint8_t *tss = image->low + TSS;

	if (!(plan->modes & M_JAIL)) {
		for (unsigned i = 0; i < TSS_KINDS * TSS_ROOM; i++)
			tss[i] =
			    rng_chance(rng, 90) ? 0 : (uint8_t)rng_next(rng);
	}
	for (unsigned i = 0; i < TSS_KINDS; i++, tss += TSS_ROOM) {
		/* The last one is the second vCPU's. */
		uint32_t stack =
		    STACKS_END - (i == TSS_KINDS - 1 ? 0x2000 : 0x1000);

		if (world_long(plan->world)) {
			le64_store(tss + 4, stack);
			for (unsigned n = 0; n < 7; n++)
				le64_store(tss + 36 + 8 * n,
				    STACKS + 0x1000 * (n % 3 + 1));
			le16_store(tss + 102, 0x1ff);
			continue;
		}
		if (i == 2) { /* the 16-bit one */
			le16_store(tss + 2, STACKS_END - 0x1000);
			le16_store(tss + 4, G_DATA0 * 8);
			le16_store(tss + 14, 0x40);
			le16_store(tss + 36, G_CODE0_16 * 8);
			le16_store(tss + 38, G_DATA0 * 8);
			le16_store(tss + 40, G_DATA0 * 8);
			continue;
		}
		le32_store(tss + 4, stack);
		le32_store(tss + 8, G_DATA0 * 8);
		le32_store(tss + 28, plan->world == W_PAE ? PDPT_PAE : PD_32);
		le32_store(tss + 32, CODE + rng_below(rng, 0x1000));
		le32_store(tss + 36, rng_chance(rng, 10) ? 0x20202 : 0x202);
		le32_store(tss + 56, STACKS_END - 0x2000);
		for (unsigned s = 0; s < 6; s++)
			le32_store(tss + 72 + 4 * s,
			    s == 1 ? G_CODE0 * 8 : G_DATA0 * 8);
		/* No bitmap, or one without a bit set. */
		le16_store(tss + 102,
		    plan->modes & M_JAIL || rng_chance(rng, 50) ? 0x1ff : 0x80);
	}
}

/* -------------------------------------------------------------- exceptions */

static bool
has_error(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static uint8_t *
bytes(uint8_t *p, const void *from, unsigned n)
{
	memcpy(p, from, n);
	return p + n;
}

#define PUT(p, ...)                                   \
	bytes((p), (const uint8_t[]) { __VA_ARGS__ }, \
	    sizeof((const uint8_t[]) { __VA_ARGS__ }))

/* Counts down, changes the frame's instruction pointer, returns. */
static void
put_going_on(uint8_t *at, const struct plan *plan, unsigned vector, bool skip,
    uint32_t to)
{
	uint8_t le[4], *p = at, *end;

	le32_store(le, COUNTDOWN);
	switch (plan->world) {
	case W_REAL:
	case W_UNREAL:
		le16_store(le, COUNTDOWN - HANDLERS);
		p = PUT(p, 0x2e, 0xff, 0x0e); /* dec word cs:[] */
		p = bytes(p, le, 2);
		end = p = PUT(p, 0x74, 0);
		p = PUT(p, 0x55, 0x89, 0xe5); /* push bp; mov bp, sp */
		le16_store(le, (uint16_t)to);
		if (skip) /* inc word [bp + 2]; mov word [bp + 2], imm */
			p = PUT(p, 0xff, 0x46, 0x02);
		else
			p = bytes(PUT(p, 0xc7, 0x46, 0x02), le, 2);
		p = PUT(p, 0x5d, 0xcf);
		break;
	case W_COMPAT:
	case W_LONG:
		p = bytes(PUT(p, 0xff, 0x0c, 0x25), le, 4); /* dec dword [] */
		end = p = PUT(p, 0x74, 0);
		if (has_error(vector))
			p = PUT(p, 0x48, 0x83, 0xc4, 0x08);
		le32_store(le, to);
		if (skip && plan->world == W_COMPAT) /* add dword [rsp], 1 */
			p = PUT(p, 0x83, 0x04, 0x24, 0x01);
		else if (skip) /* add qword [rsp], 1 */
			p = PUT(p, 0x48, 0x83, 0x04, 0x24, 0x01);
		else /* mov qword [rsp], imm */
			p = bytes(PUT(p, 0x48, 0xc7, 0x04, 0x24), le, 4);
		p = PUT(p, 0x48, 0xcf);
		break;
	default:
		p = bytes(PUT(p, 0x36, 0xff, 0x0d), le, 4); /* dec ss:[] */
		end = p = PUT(p, 0x74, 0);
		if (has_error(vector))
			p = PUT(p, 0x83, 0xc4, 0x04);
		le32_store(le, to);
		if (skip)
			p = PUT(p, 0x83, 0x04, 0x24, 0x01);
		else
			p = bytes(PUT(p, 0xc7, 0x04, 0x24), le, 4);
		p = PUT(p, 0xcf);
		break;
	}
	end[-1] = (uint8_t)(p - end);
	p = PUT(p, 0xe6, PORT_END, 0xeb, 0xfe);
	assert(p <= at + HANDLER_ROOM);
}

static void
put_handler(struct image *image, const struct plan *plan, struct rng *rng,
    unsigned vector)
{
	uint8_t *at = image->low + HANDLERS + vector * HANDLER_ROOM;
	bool wide = world_bits(plan->world) != 16;
	uint32_t to = (wide ? CODE : 0) + rng_below(rng, 0x1000);
	bool skip;

	/* In jail an interrupt may find ring 0 at work: it goes back there. */
	if ((plan->modes & M_JAIL) && (vector == 2 || vector >= 32)) {
		if (world_long(plan->world))
			at = PUT(at, 0x48);
		(void)PUT(at, 0xcf);
		return;
	}
	switch (plan->handling) {
	case H_SKIP:
	case H_GO_ON:
		skip = plan->handling == H_SKIP || rng_chance(rng, 20);
		/* Past the last address IRET would fail, in ring 0. */
		if ((plan->modes & M_JAIL) && plan->world == W_LONG)
			skip = false;
		put_going_on(at, plan, vector, skip, to);
		break;
	case H_HALT:
		(void)PUT(at, 0xf4, 0xeb, 0xfd);
		break;
	case H_RANDOM:
		for (unsigned i = 0; i < HANDLER_ROOM; i++)
			at[i] = (uint8_t)rng_next(rng);
		break;
	default:
		(void)PUT(at, 0xe6, PORT_END, 0xeb, 0xfe);
		break;
	}
}

static void
put_idt(struct image *image, const struct plan *plan, struct rng *rng)
{
	bool jail = plan->modes & M_JAIL, lm = world_long(plan->world);
	unsigned cs = (lm ? G_CODE0_64 : G_CODE0) * 8;

	le32_store(image->low + COUNTDOWN,
	    plan->compare ? 1 + rng_below(rng, 200) :
			    1 + rng_below(rng, 20000));
	for (unsigned v = 0; v < 256; v++) {
		uint32_t to = HANDLERS + v * HANDLER_ROOM;
		/* From jail no interrupt may pile up on another one. */
		unsigned access = jail || rng_chance(rng, 80) ? 0x8e : 0x8f;
		uint64_t e;

		put_handler(image, plan, rng, v);
		le16_store(image->low + IVT + 4 * v, (uint16_t)(to - HANDLERS));
		le16_store(image->low + IVT + 4 * v + 2, HANDLERS >> 4);
		if (!jail && rng_chance(rng, 40))
			access |= 0x60;
		e = gate(to, cs, access);
		if (lm && !jail && rng_chance(rng, 25))
			e |= (uint64_t)(1 + rng_below(rng, 3)) << 32; /* IST */
		if (plan->handling == H_RANDOM && rng_chance(rng, 50))
			e = rng_chance(rng, 50) ? rng_next(rng) :
						  gate(0, G_TSS_32 * 8, 0xe5);
		if (lm)
			le64_store(image->low + IDT + 16 * v, e);
		else
			le64_store(image->low + IDT + 8 * v, e);
	}
}

/* ------------------------------------------------------------ page tables */

/* What a page of low memory, or of devices behind it, is mapped to and how. */
static uint64_t
leaf(const struct plan *plan, struct rng *rng, uint32_t lin, bool user, bool nx)
{
	uint64_t e = lin | PTE_P | PTE_W;

	if (plan->modes & M_JAIL) {
		e |= PTE_A | PTE_D;
		if (lin >= CODE && lin < DATA + DATA_SIZE)
			e |= PTE_U;
		return lin < LOW_SIZE ? e : 0;
	}
	if (user)
		e |= PTE_U;
	if (rng_chance(rng, 30))
		e |= PTE_A | PTE_D;
	/* Handlers and what leads to them stay in most rounds. */
	if (lin < TABLES ? rng_chance(rng, 99) : rng_chance(rng, 92))
		return e;
	switch (rng_below(rng, 8)) {
	case 0:
		return e & ~PTE_P;
	case 1:
		return e & ~PTE_W;
	case 2:
		return e ^ PTE_U;
	case 3:
		return nx ? e | PTE_NX : e;
	case 4:
		return e | BIT(9 + rng_below(rng, 50));
	case 5:
		return (e & 0xfff) | (CODE + 0x1000 * rng_below(rng, 64));
	case 6:
		return (e & 0xfff) | (MMIO + 0x1000 * rng_below(rng, 64));
	default:
		return (e & 0xfff) | HIGH | 0x1000 * rng_below(rng, 32);
	}
}

static void
put64(struct image *image, uint32_t at, uint64_t value)
{
	le64_store(image->low + at, value);
}

static void
put_tables(struct image *image, const struct plan *plan, struct rng *rng,
    uint64_t cr4, uint64_t efer)
{
	bool jail = plan->modes & M_JAIL, nx = efer & EFER_NXE;
	bool user = plan->cpl == 3 ||
	    (!(cr4 & (CR4_SMEP | CR4_SMAP)) && rng_chance(rng, 30));
	uint64_t all = PTE_P | PTE_W | PTE_A | (user || jail ? PTE_U : 0);
	uint64_t device = all | PTE_D | PTE_PS;

	for (unsigned i = 0; i < 512; i++)
		put64(image, PT + 8 * i, leaf(plan, rng, i << 12, user, nx));
	put64(image, PD, PT | all);
	put64(image, PDPT, PD | all);
	put64(image, PML4, PDPT | all);
	put64(image, PDPT_PAE, PD | PTE_P);
	for (unsigned i = 0; i < 1024; i++)
		le32_store(image->low + PT_32 + 4 * i,
		    (uint32_t)leaf(plan, rng, i << 12, user, false));
	le32_store(image->low + PD_32, (uint32_t)(PT_32 | all));
	if (jail)
		return;
	put64(image, PDPT + 8 * 3, PD_TOP | all);
	put64(image, PDPT + 8 * 4, HIGH | device);
	put64(image, PML4 + 8 * ALIAS, PDPT | all);
	put64(image, PML4 + 8 * MIRROR, PML4 | all);
	put64(image, PDPT_PAE + 8 * 3, PD_TOP | PTE_P);
	for (unsigned i = 0; i < 512; i++)
		put64(image, PD_TOP + 8 * i,
		    (0xc0000000 + ((uint64_t)i << 21)) | device);
	/* Large pages of the low 2 MiB too, farther up. */
	put64(image, PD + 8 * 1, device);
	for (unsigned i = 768; i < 1024; i++)
		le32_store(image->low + PD_32 + 4 * i,
		    (uint32_t)(i << 22 | device));
	le32_store(image->low + PD_32 + 4, (uint32_t)device);
}

/* -------------------------------------------------------------- processor */

static void
control_registers(struct cpu_state *cpu, const struct plan *plan,
    struct rng *rng)
{
	static const uint64_t xcr0[] = { 1, 3, 7, 7, 7, 0xe7 };
	uint64_t r = rng_next(rng);

	cpu->cr0 = CR0_ET | CR0_NE;
	cpu->cr0 |= r & (CR0_MP | CR0_WP | CR0_AM);
	if (rng_chance(rng, 4))
		cpu->cr0 |= r >> 32 & (CR0_EM | CR0_TS);
	/* DE, PSE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE */
	cpu->cr4 = rng_next(rng) & 0x50f98;
	if (rng_chance(rng, 85))
		cpu->cr4 |= 0x40600;
	if (rng_chance(rng, 10))
		cpu->cr4 |= BIT(2); /* TSD */
	cpu->cr4 |= r & (CR4_SMEP | CR4_SMAP);
	cpu->efer = rng_next(rng) & EFER_NXE;
	if (!(plan->modes & M_JAIL))
		cpu->efer |= r >> 40 & EFER_SCE;
	if (plan->world >= W_PROT16)
		cpu->cr0 |= CR0_PE;
	if (plan->world == W_V86 || rng_chance(rng, 10))
		cpu->cr4 |= r >> 16 & (CR4_VME | CR4_PVI);
	if (world_paged(plan->world))
		cpu->cr0 |= CR0_PG;
	switch (plan->world) {
	case W_PAGED32:
		cpu->cr3 = PD_32;
		cpu->cr4 |= rng_chance(rng, 80) ? CR4_PSE : 0;
		break;
	case W_PAE:
		cpu->cr3 = PDPT_PAE;
		cpu->cr4 |= CR4_PAE;
		break;
	case W_COMPAT:
	case W_LONG:
		cpu->cr3 = PML4;
		cpu->cr4 |= CR4_PAE | (r >> 24 & CR4_PCIDE);
		cpu->efer |= EFER_LME | EFER_LMA;
		break;
	default:
		cpu->cr3 =
		    rng_chance(rng, 80) ? PD_32 : (uint32_t)rng_wild(rng);
		break;
	}
	cpu->xcr0 = xcr0[rng_below(rng, ARRAY_SIZE(xcr0))];
}

static void
segments(struct cpu_state *cpu, const struct image *image,
    const struct plan *plan, struct rng *rng, unsigned id)
{
	uint32_t code = CODE + id * (CODE_SIZE / 2);
	unsigned cs, ss, rpl = plan->cpl;
	bool user = rpl == 3;

	if (plan->world == W_REAL || plan->world == W_UNREAL ||
	    plan->world == W_V86) {
		for (unsigned s = CPU_ES; s <= CPU_GS; s++)
			cpu->seg[s] = (struct cpu_segment) {
				.base = plan->ds_base,
				.limit = 0xffff,
				.access = plan->world == W_V86 ? 0xf3 : 0x93,
				.selector = (uint16_t)(plan->ds_base >> 4),
			};
		cpu->seg[CPU_CS].base = code;
		cpu->seg[CPU_CS].selector = (uint16_t)(code >> 4);
		cpu->seg[CPU_SS].base = 0;
		cpu->seg[CPU_SS].selector = 0;
		if (plan->world == W_UNREAL) {
			static const uint32_t limits[] = { 0xffff, 0xffffffff,
				0xfff, 0x7fffffff };

			cpu->seg[CPU_DS].limit =
			    limits[rng_below(rng, ARRAY_SIZE(limits))];
			cpu->seg[CPU_DS].access |= 0x8000;
			cpu->seg[CPU_ES] = cpu->seg[CPU_DS];
		}
	} else {
		switch (plan->world) {
		case W_PROT16:
			cs = user ? G_CODE3_16 : G_CODE0_16;
			ss = user ? G_DATA3_16 : G_DATA0_16;
			break;
		case W_LONG:
			cs = user ? G_CODE3_64 : G_CODE0_64;
			ss = user ? G_DATA3 : G_DATA0;
			break;
		default:
			cs = user ? G_CODE3 : G_CODE0;
			ss = user ? G_DATA3 : G_DATA0;
			break;
		}
		for (unsigned s = CPU_ES; s <= CPU_GS; s++)
			cpu->seg[s] = segment(image, ss, rpl);
		cpu->seg[CPU_CS] = segment(image, cs, rpl);
		if (plan->world == W_PROT16)
			cpu->seg[CPU_CS].base = code;
		/* Rings 1 and 2 have no descriptors: their hidden parts. */
		if (rpl == 1 || rpl == 2) {
			cpu->seg[CPU_CS].access |= rpl << 5;
			cpu->seg[CPU_SS].access |= rpl << 5;
		}
		if (rng_chance(rng, 20))
			cpu->seg[CPU_FS].base = DATA + rng_below(rng, 0x1000);
		if (plan->world == W_LONG && !(plan->modes & M_JAIL) &&
		    rng_chance(rng, 30))
			cpu->seg[CPU_GS].base = rng_wild(rng);
	}
	cpu->seg[CPU_TR] = segment(image, G_TSS, 0);
	cpu->seg[CPU_TR].base += id * (TSS_KINDS - 1) * TSS_ROOM;
	cpu->seg[CPU_LDTR] = (struct cpu_segment) {
		.limit = plan->modes & M_JAIL ? 0 : 0xff,
		.base = LDT,
		.access = plan->modes & M_JAIL ? CPU_SEG_UNUSABLE : 0x82,
		.selector = plan->modes & M_JAIL ? 0 : G_LDT * 8,
	};
}

static void
msrs(struct cpu_state *cpu, const struct plan *plan, struct rng *rng)
{
	static const struct {
		uint32_t index;
		uint64_t value;
	} own[] = {
		{ 0x174, G_CODE0 * 8 },
		{ 0x175, STACKS_END - 0x10 },
		{ 0x176, CODE + 0x100 },
		{ 0xc0000081,
		    (uint64_t)(G_CODE3 * 8 | 3) << 48 |
			(uint64_t)(G_CODE0 * 8) << 32 | (CODE + 0x200) },
		{ 0xc0000082, CODE + 0x300 },
		{ 0xc0000083, CODE + 0x400 },
		{ 0xc0000084, 0x47700 },
		{ 0xc0000102, DATA },
		{ 0xc0000103, 1 },
	};

	if (plan->modes & M_JAIL)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		(void)cpu_state_set_msr(cpu, own[i].index,
		    rng_chance(rng, 90) ? own[i].value : rng_wild(rng));
}

static void
local_apic(struct cpu_state *cpu, struct rng *rng, unsigned id)
{
	/* Software-enabled, so that messages get through. */
	le32_store(cpu->lapic + 0xf0, 0x1ff);
	le32_store(cpu->lapic + 0xd0, 0xff000000u & (uint32_t)rng_next(rng));
	if (rng_chance(rng, 20))
		le32_store(cpu->lapic + 0x80, rng_below(rng, 256));
	if (rng_chance(rng, 20)) { /* a timer, periodic or not */
		le32_store(cpu->lapic + 0x320,
		    0x30 | (rng_chance(rng, 50) ? 0x20000 : 0));
		le32_store(cpu->lapic + 0x380, 1 + rng_below(rng, 100000));
		le32_store(cpu->lapic + 0x390, 1 + rng_below(rng, 100000));
		le32_store(cpu->lapic + 0x3e0, rng_below(rng, 16) & 0xb);
	}
	if (rng_chance(rng, 15) || (cpu->apic_base & CPU_APIC_BASE_X2APIC)) {
		cpu->apic_base |= CPU_APIC_BASE_X2APIC;
		le32_store(cpu->lapic + 0x20, id);
	}
}

static void
registers(struct cpu_state *cpu, const struct plan *plan, struct rng *rng,
    unsigned id)
{
	unsigned bits = world_bits(plan->world);
	uint32_t base = bits == 16 ? 0 : CODE + id * (CODE_SIZE / 2);
	uint64_t fcw, fsw;

	for (unsigned i = 0; i < CPU_GPRS; i++) {
		cpu->gpr[i] = rng_chance(rng, 60) ?
		    DATA + rng_below(rng, DATA_SIZE) :
		    rng_wild(rng);
		if (bits != 64)
			cpu->gpr[i] = (uint32_t)cpu->gpr[i];
	}
	cpu->gpr[CPU_RSP] = bits == 16 || plan->cpl == 0 ?
	    STACKS_END - 0x800 * (1 + id) :
	    DATA + DATA_SIZE - 0x1000;
	cpu->rip = base;
	if (rng_chance(rng, 15)) /* cut by the end of a page */
		cpu->rip +=
		    0x1000 * (1 + rng_below(rng, 3)) - rng_below(rng, 15);
	cpu->rflags = 0x2 | (rng_next(rng) & 0x8d5);
	if (!plan->compare || (plan->modes & M_JAIL))
		cpu->rflags |= 0x200;
	if (rng_chance(rng, 5))
		cpu->rflags |= 0x100; /* TF */
	if (!(plan->modes & M_JAIL)) {
		cpu->rflags |= rng_next(rng) & 0x3000; /* IOPL */
		if (rng_chance(rng, 10))
			cpu->rflags |= 0x4000; /* NT */
	}
	if (rng_chance(rng, 10))
		cpu->rflags |= BIT(18); /* AC */
	if (plan->world == W_V86)
		cpu->rflags |= BIT(17);
	if (rng_chance(rng, 8)) {
		for (unsigned i = 0; i < 4; i++)
			cpu->dr[i] = CODE + rng_below(rng, 0x200);
		cpu->dr7 = 0x400 | (rng_next(rng) & 0xffff00ff);
	}
	for (unsigned i = 0; i < 512; i++) {
		if (i < 24 || i > 31) /* not MXCSR and its mask */
			cpu->xsave[i] = (uint8_t)rng_next(rng);
	}
	/* As a processor has it: ES and B say that something is pending. */
	fcw = rng_chance(rng, 70) ? 0x37f : (rng_next(rng) & 0x1f3f) | 0x40;
	fsw = rng_next(rng) & 0x7f7f;
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	le16_store(cpu->xsave, (uint16_t)fcw);
	le16_store(cpu->xsave + 2, (uint16_t)fsw);
	le32_store(cpu->xsave + 24,
	    rng_chance(rng, 70) ? 0x1f80 : rng_below(rng, 0x10000));
	le64_store(cpu->xsave + 512, 3);
}

/* ------------------------------------------------------------------ forgery */

/* What a saved state, or whoever sends one, may claim. */
static void
forge(struct cpu_state *cpu, struct rng *rng)
{
	uint64_t flip = BIT(rng_below(rng, 64));
	uint64_t wild = rng_wild(rng);
	struct cpu_segment *seg = &cpu->seg[rng_below(rng, CPU_SEGS)];
	uint64_t *const words[] = { &cpu->rflags, &cpu->rip, &cpu->cr0,
		&cpu->cr2, &cpu->cr3, &cpu->cr4, &cpu->cr8, &cpu->efer,
		&cpu->apic_base, &cpu->dr[0], &cpu->dr6, &cpu->dr7, &cpu->xcr0,
		&cpu->gdtr.base, &cpu->idtr.base, &seg->base };
	uint64_t *word = words[rng_below(rng, ARRAY_SIZE(words))];

	switch (rng_below(rng, 14)) {
	case 0:
	case 1:
	case 2:
		*word ^= flip;
		break;
	case 3:
		*word = wild;
		break;
	case 4:
		seg->access = (uint32_t)wild;
		break;
	case 5:
		seg->access ^= (uint32_t)BIT(rng_below(rng, 17));
		break;
	case 6:
		seg->limit = (uint32_t)wild;
		break;
	case 7:
		for (unsigned i = 0; i < 16; i++)
			cpu->xsave[rng_below(rng, 640)] =
			    (uint8_t)rng_next(rng);
		break;
	case 8:
		for (unsigned i = 0; i < 64; i++)
			cpu->lapic[rng_below(rng, CPU_LAPIC_SIZE)] =
			    (uint8_t)rng_next(rng);
		break;
	case 9:
		cpu->run_state = (enum cpu_run_state)rng_below(rng, 6);
		cpu->sipi_vector = (uint8_t)wild;
		break;
	case 10:
		cpu->exception = (struct cpu_event) { true, (uint8_t)wild,
			wild & BIT(9), (uint32_t)(wild >> 32) };
		break;
	case 11:
		cpu->interrupt =
		    (struct cpu_event) { true, (uint8_t)wild, false, 0 };
		cpu->nmi_pending = wild & BIT(8);
		cpu->nmi_masked = wild & BIT(9);
		cpu->sti_shadow = wild & BIT(10);
		cpu->mov_ss_shadow = wild & BIT(11);
		break;
	case 12:
		if (cpu->msr_count - 1 < CPU_MSRS_MAX)
			cpu->msr[rng_below(rng, cpu->msr_count)].value = wild;
		break;
	default:
		if (flip & 0xff)
			cpu->xsave_size = (uint32_t)wild;
		else if (flip & 0xff00)
			cpu->msr_count = (unsigned)wild;
		else
			cpu->gdtr.limit = cpu->idtr.limit = (uint16_t)wild;
		break;
	}
}

/* ------------------------------------------------------------------- whole */

void
image_rom(uint8_t *rom)
{
	struct plan plan = { .kinds = KINDS_ALL, .world = W_REAL };
	struct rng rng = { 1 };

	code_fill(&plan, &rng, 16, rom, ROM_SIZE, ROM);
	/* The reset vector leads to RAM: jmp 2000:0000 */
	(void)PUT(rom + ROM_SIZE - 16, 0xea, 0x00, 0x00, 0x00, 0x20);
}

/* What depends on time or chance: RDTSC, RDTSCP, RDRAND and RDSEED. */
static void
scrub(uint8_t *code, uint32_t len)
{
	for (uint32_t i = 0; i + 2 < len; i++) {
		if (code[i] != 0x0f)
			continue;
		if (code[i + 1] == 0x31 ||
		    (code[i + 1] == 0x01 && code[i + 2] == 0xf9) ||
		    (code[i + 1] == 0xc7 && code[i + 2] >= 0xf0))
			code[i] = 0x90;
	}
}

static void
put_code(struct image *image, const struct plan *plan, struct rng *rng)
{
	unsigned bits = world_bits(plan->world);
	uint32_t size = 0x200u << rng_below(rng, 5);

	/* Behind what is there, and between: ends of the round. */
	for (uint32_t i = 0; i < CODE_SIZE; i += 2) {
		image->low[CODE + i] = 0xe6;
		image->low[CODE + i + 1] = PORT_END;
	}
	for (unsigned id = 0; id < VCPUS; id++) {
		uint32_t at = CODE + id * (CODE_SIZE / 2);

		code_fill(plan, rng, bits, image->low + at, size, at);
	}
	/* And of another width, for who gets there. */
	code_fill(plan, rng, rng_chance(rng, 50) ? 32 : 64,
	    image->low + CODE + 0x8000, 0x200, CODE + 0x8000);
	if (plan->compare)
		scrub(image->low + CODE, CODE_SIZE);
	for (uint32_t i = 0; i < DATA_SIZE; i += 8)
		put64(image, DATA + i, rng_next(rng));
	for (uint32_t i = 0; i < 0x1000; i += 8)
		le64_store(image->high + i, rng_next(rng));
}

void
image_make(struct image *image, const struct plan *plan,
    const struct cpu_state *base)
{
	struct rng rng = { plan->seed };
	struct cpu_state *cpu = image->cpu;

	memset(image->low, 0, sizeof(image->low));
	memset(image->high, 0, sizeof(image->high));
	put_gdt(image, plan, &rng);
	put_tss(image, plan, &rng);
	put_idt(image, plan, &rng);
	put_code(image, plan, &rng);
	for (unsigned id = 0; id < VCPUS; id++, cpu++) {
		*cpu = base[id];
		if (id == 0 || rng_chance(&rng, 30)) {
			control_registers(cpu, plan, &rng);
		} else {
			cpu->cr0 = image->cpu[0].cr0;
			cpu->cr3 = image->cpu[0].cr3;
			cpu->cr4 = image->cpu[0].cr4;
			cpu->efer = image->cpu[0].efer;
			cpu->xcr0 = image->cpu[0].xcr0;
		}
		if (id == 0)
			put_tables(image, plan, &rng, cpu->cr4, cpu->efer);
		segments(cpu, image, plan, &rng, id);
		msrs(cpu, plan, &rng);
		registers(cpu, plan, &rng, id);
		if (plan->modes & M_EVENTS)
			local_apic(cpu, &rng, id);
		cpu->gdtr = (struct cpu_table) { GDT, 8 * GDT_ENTRIES - 1 };
		cpu->idtr = plan->world <= W_UNREAL ?
		    (struct cpu_table) { IVT, 0x3ff } :
		    (struct cpu_table) { IDT,
			    world_long(plan->world) ? 0xfff : 0x7ff };
		if (!(plan->modes & M_JAIL) && rng_chance(&rng, 3))
			cpu->idtr.limit = (uint16_t)rng_next(&rng);
		cpu->run_state = CPU_RUNNING;
		if (id != 0 && rng_chance(&rng, 15))
			cpu->run_state = rng_chance(&rng, 50) ? CPU_WAIT_INIT :
								CPU_WAIT_SIPI;
		for (unsigned n = rng_below(&rng, 4);
		     (plan->modes & M_FORGED) && n < 4; n++)
			forge(cpu, &rng);
	}
}
