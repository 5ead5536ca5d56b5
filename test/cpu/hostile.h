/*
 * Hostile guests: machines full of code that was never meant to run, to see
 * that an engine survives them.
 *
 *      hostile.c       options, rounds, what is checked after each
 *      hostile_world.c a round's memory and processor state, out of its seed
 *      hostile_code.c  its code
 *      hostile_rig.c   the machine: engine, memory, threads, devices
 *
 * All that a round is comes from its seed.  How it goes may also depend on time
 * and on what the rounds before have left in the engine.
 */
#ifndef TEST_CPU_HOSTILE_H
#define TEST_CPU_HOSTILE_H

#include <stdatomic.h>
#include <stdio.h>

#include "engine/engine.h"

#define VCPUS 2u

/* ---- random numbers ------------------------------------------------------ */

struct rng {
	uint64_t s;
};

static inline uint64_t
rng_next(struct rng *rng)
{
	uint64_t z = rng->s += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline uint32_t
rng_below(struct rng *rng, uint32_t n)
{
	return (uint32_t)((rng_next(rng) >> 32) * n >> 32);
}

static inline bool
rng_chance(struct rng *rng, unsigned percent)
{
	return rng_below(rng, 100) < percent;
}

/* Numbers from the edges more often than from between. */
uint64_t rng_wild(struct rng *rng);

/* ---- memory -------------------------------------------------------------- */

/* Guest physical; low memory is at the same linear addresses too. */
#define LOW_SIZE 0x100000u
#define IVT 0x0u
#define GDT 0x1000u
#define GDT_ENTRIES 64u
#define IDT 0x2000u
#define TSS 0x3000u /* TSS_KINDS of them, TSS_ROOM apart */
#define TSS_ROOM 0x200u
#define TSS_KINDS 4u
#define LDT 0x3f00u
#define STACKS 0x4000u /* four pages for ring 0 */
#define STACKS_END 0x8000u
#define HANDLERS 0x8000u /* HANDLER_ROOM for each vector */
#define HANDLER_ROOM 32u
#define COUNTDOWN 0xa000u /* exceptions left before the round ends */
#define TABLES 0x10000u
#define TABLES_END 0x1a000u
#define CODE 0x20000u
#define CODE_SIZE 0x20000u /* each vCPU begins in its half */
#define DATA 0x40000u
#define DATA_SIZE 0x20000u
#define HIGH 0x100000000u
#define HIGH_SIZE 0x20000u
#define ROM_SIZE 0x10000u
#define ROM (HIGH - ROM_SIZE)
#define MMIO 0xd0000000u /* no memory: devices answer */
#define APIC 0xfee00000u

/* Writing there ends the round. */
#define PORT_END 0xf5u

/* ---- a round ------------------------------------------------------------- */

/* What its code consists of. */
enum kind {
	K_BYTES,   /* anything */
	K_VALID,   /* opcodes that exist, operands that lead somewhere */
	K_VECTOR,  /* x87, SSE, VEX, EVEX; exceptions unmasked */
	K_PREFIX,  /* floods of prefixes, LOCK where it must not be */
	K_SMC,     /* code that overwrites itself and others' */
	K_TABLES,  /* page tables, GDT, IDT, TSS edited as they are used */
	K_CONTROL, /* control and debug registers, MSRs, LGDT and the like */
	K_FAR,     /* far transfers, selectors, task switches */
	K_STRING,  /* REP with huge counts */
	K_STATE,   /* XRSTOR, FXRSTOR, FRSTOR of anything */
	K_DIVIDE,  /* divide errors */
	K_MMIO,    /* devices as operands of everything */
	K_PORT,    /* IN, OUT, INS, OUTS */
	K_FRAME,   /* IRET to anywhere */
	K_NEST,    /* INT n, HLT, STI, NMI in NMI */
	K_LOOP,    /* no end */
	K_JUMP,    /* into the middle of everything */
	K_APIC,    /* interrupts sent, the APIC moved and turned off */
	KINDS,
};
extern const char *const kind_names[KINDS];
#define KINDS_ALL (BIT(KINDS) - 1)

enum world {
	W_REAL,
	W_UNREAL, /* real mode with protected mode's segments */
	W_PROT16,
	W_PROT32,
	W_V86,
	W_PAGED32, /* 32-bit code from here to W_COMPAT */
	W_PAE,
	W_COMPAT,
	W_LONG,
	WORLDS,
};
extern const char *const world_names[WORLDS];

/* What stands behind an exception. */
enum handling {
	H_SKIP,   /* the next byte is tried */
	H_GO_ON,  /* somewhere else in the code */
	H_END,    /* the round ends */
	H_HALT,   /* HLT */
	H_RANDOM, /* anything, also no handler at all */
	HANDLINGS,
};

/* Ways to have a round, besides its code. */
#define M_JAIL BIT(0)   /* ring 3 with nothing that lets it out */
#define M_FORGED BIT(1) /* a processor state that no processor was in */
#define M_SMP BIT(2)
#define M_EVENTS BIT(3) /* interrupts, NMIs, devices that write memory */
#define M_DIRTY BIT(4)  /* dirty tracking, and is it right? */
#define M_ALL 0x1fu
#define MODES 5u
extern const char *const mode_names[MODES];

struct plan {
	uint64_t seed;
	uint64_t kinds; /* BIT(enum kind) */
	uint64_t modes;
	bool compare; /* nothing in it depends on time */
	enum world world;
	enum handling handling;
	unsigned cpl;
	unsigned vcpus;
	unsigned slice_us;
	uint32_t cs_base, ds_base; /* where segments have bases of their own */
};

static inline bool
world_paged(enum world world)
{
	return world >= W_PAGED32;
}

static inline bool
world_long(enum world world)
{
	return world == W_COMPAT || world == W_LONG;
}

/* Bits of code: 16, 32 or 64. */
static inline unsigned
world_bits(enum world world)
{
	switch (world) {
	case W_REAL:
	case W_UNREAL:
	case W_PROT16:
	case W_V86:
		return 16;
	case W_LONG:
		return 64;
	default:
		return 32;
	}
}

/* What it begins with. */
struct image {
	uint8_t low[LOW_SIZE];
	uint8_t high[HIGH_SIZE];
	struct cpu_state cpu[VCPUS];
};

/* ---- hostile_world.c ----------------------------------------------------- */

/* Choose a round: kinds and modes are what may be chosen from. */
void plan_make(struct plan *plan, uint64_t seed, uint64_t kinds, uint64_t modes,
    bool compare);
void plan_print(const struct plan *plan, FILE *out);
/* base: the engine's own state after reset, for each vCPU. */
void image_make(struct image *image, const struct plan *plan,
    const struct cpu_state *base);
/* The ROM, the same for all rounds. */
void image_rom(uint8_t *rom);
/* In jail: may the guest change this byte of low memory? */
bool image_open(uint32_t gpa);

/* ---- hostile_code.c ------------------------------------------------------ */

/* Fill len bytes at buf, which the guest sees at linear address lin. */
void code_fill(const struct plan *plan, struct rng *rng, unsigned bits,
    uint8_t *buf, uint32_t len, uint32_t lin);
/* One instruction that exists, for who needs a few; returns its length. */
unsigned code_one(const struct plan *plan, struct rng *rng, unsigned bits,
    uint8_t *buf, uint32_t lin);
#define CODE_ONE_MAX 96u

/* ---- hostile_rig.c ------------------------------------------------------- */

struct rig;

/* What a round has shown.  complaint: empty, or the first thing wrong. */
struct outcome {
	char complaint[400];
	unsigned exits[4]; /* by enum engine_exit_reason */
	bool timed_out;    /* compared rounds: it did not end by itself */
	bool refused;      /* the engine did not take the state */
	uint64_t calls;    /* a hash of what devices were asked, in order */
	struct cpu_state cpu[VCPUS];
};

struct rig_limits {
	unsigned cpu_ms;  /* to come back after a kick, of the vCPU's thread */
	unsigned wall_ms; /* ... by the clock */
};
struct rig_worst {
	uint64_t cpu_ns, wall_ns;
};

int rig_new(const char *engine, uint64_t seed, const struct rig_limits *limits,
    struct rig **rig, struct err *err);
void rig_free(struct rig *rig);
const struct cpu_state *rig_base(const struct rig *rig);
void rig_run(struct rig *rig, const struct plan *plan,
    const struct image *image, struct outcome *outcome);
const uint8_t *rig_low(const struct rig *rig);
const uint8_t *rig_high(const struct rig *rig);
struct rig_worst rig_worst(const struct rig *rig);
/* Signals that say an access went where nothing is; 0: none so far. */
unsigned rig_strays(char *what, size_t len);

/*
 * The first thing in which two states differ, or NULL.  loose: but for time
 * and what does not count (the pointers of the last x87 instruction).
 */
const char *state_differs(const struct cpu_state *a, const struct cpu_state *b,
    bool loose);

#endif
