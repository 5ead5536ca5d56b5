/*
 * What the files of the software engine share.
 *
 *              jit.c        the engine: making it, memory, messages, time
 *              vcpu.c       a vCPU's life: running, sleeping, kicks, state
 *              world.c      who runs guest code now, and being alone
 *              dispatch.c   from block to block; what translated code hands back
 *              cache.c      the blocks: memory, look-up, invalidation
 *              translate.c  from guest instructions to a block
 *              memory.c     code for memory operands
 *              flow.c       code for jumps, calls, stack
 *              inline.c     code for system instructions that are frequent
 *              emit.h       bytes of host code
 *              stubs.c      entering and leaving translated code
 *              inspect.c    counters, dumps, names for perf
 *
 * Locks        single_lock: one locked access at a time that needs the world.
 *              code_lock: translating, linking, invalidating.  world: see
 *              world.c.  A vCPU that waits for either counts as not running.
 *              Both are leaves but for each other: world inside code_lock.
 */
#ifndef ENGINE_JIT_JIT_IMPL_H
#define ENGINE_JIT_JIT_IMPL_H

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/lock.h"
#include "engine/engine_impl.h"
#include "engine/jit/emit.h"
#include "engine/x86/cpu.h"
#include "engine/x86/interp.h"
#include "engine/x86/lapic.h"
#include "engine/x86/mmu.h"
#include "engine/x86/model.h"

/*
 * The kind of code that a block is made from, and the state that it takes for
 * granted: part of its key.
 */
#define JIT_MODE_CODE 0x003u /* enum x86_code */
#define JIT_MODE_VIEW 0x00cu /* enum x86_view << 2 */
#define JIT_MODE_CPL3 0x010u
#define JIT_MODE_X87 0x020u /* x87, MMX, SSE and so on do not fault ... */
#define JIT_MODE_SSE 0x040u /* ... by CR0, CR4 or XCR0 */
#define JIT_MODE_AVX 0x080u
#define JIT_MODE_AVX512 0x100u
#define JIT_MODE_FS_FLAT 0x200u /* 32-bit code: FS, GS have no limit */
#define JIT_MODE_GS_FLAT 0x400u
#define JIT_MODE_STACK32 0x800u /* 32-bit code: ESP, not SP */
#define JIT_MODE_VALID 0x1000u  /* so that no mode is 0 */
#define JIT_MODE_RING0 0x2000u
#define JIT_MODE_TSC 0x4000u /* RDTSC is allowed */

/* A direct jump: where it leads until it is linked, and after unlinking. */
struct jit_exit {
	uint8_t *field;    /* writable: its rel32 */
	uint32_t unlinked; /* the rel32 that asks for a link */
	uint32_t incoming; /* the next one that leads to the same block */
	gpa_t page;        /* of the block that it leaves, and stays in */
};
#define JIT_NO_EXIT UINT32_MAX

struct jit_block {
	struct jit_block *next; /* in its bucket of the hash */
	gpa_t gpa;              /* of its first instruction */
	uint32_t mode;
	uint16_t len; /* bytes of guest code */
	/* Where they are: in one page, or one instruction in two. */
	struct jit_part {
		struct jit_part *next; /* of its page */
		struct jit_block *block;
		gpa_t page;
		uint16_t first, last; /* offsets in the page */
	} part[2];
	uint8_t parts;
	uint16_t insns;
	bool dead;
	uint32_t incoming;    /* exits that are linked here */
	const uint8_t *entry; /* where to jump to: executable, 8-byte aligned */
	const uint8_t *bail;  /* where a dead one's entry leads: out */
	const uint8_t *end;   /* of its host code */
	/* For each instruction: host code begins at entry + host, page offset. */
	struct jit_place {
		uint32_t host;
		uint16_t guest;
	} * places; /* owned */
	/* Instructions that code of the block hands to the interpreter. */
	struct jit_decoded {
		struct jit_decoded *next;
		struct x86_insn insn;
	} * decoded; /* owned */
};

/* What blocks were made from one page of guest memory. */
struct jit_page {
	struct jit_part *parts;
	uint64_t lines; /* 64-byte lines that hold code */
};

#define JIT_HASH_SIZE 65536u

struct jit_stubs {
	/* Enter code with a processor's state: the reason why it came back. */
	uint32_t (*enter)(struct x86_cpu *cpu, const void *code);
	/* Ways out: ecx is a page offset, signed, which becomes rip. */
	const uint8_t *attention; /* at the start of a block */
	const uint8_t *emulate;   /* an instruction for the interpreter */
	const uint8_t *go_to;     /* a jump that is not linked */
	const uint8_t *link;      /* one that can be: r14d is its number */
	const uint8_t *lookup;    /* r14 is rip; ecx is JIT_LOOKUP_UNDO() */
	/* Slow paths, called: r14 linear address, ecx what (memory.c). */
	const uint8_t *load, *store;
	/* Called: r14 a decoded instruction, ecx its page offset. */
	const uint8_t *interpret;
};

struct jit_cache {
	int fd;
	uint8_t *rw;       /* writable mapping */
	const uint8_t *rx; /* executable mapping of the same memory */
	size_t size;
	size_t used;
	size_t stubs_end; /* what a flush keeps */
	struct jit_stubs stubs;
	_Atomic(struct jit_block *) hash[JIT_HASH_SIZE];
	/*
	 * Sorted by entry, as they are made.  A signal handler looks here, so
	 * the array never moves: one long reservation.
	 */
	struct jit_block **blocks;
	_Atomic size_t block_count;
	size_t block_room;
	struct jit_exit *exits; /* owned: jumps that can be linked */
	size_t exit_count, exit_room;
	struct jit_page **pages[X86_RAMS_MAX]; /* owned: by slot, page number */
	uint64_t generation;                   /* times all was forgotten */
	uint64_t made;                         /* blocks, ever */
	_Atomic uint64_t killed; /* looked at without code_lock, too */
};

struct jit_vcpu;

struct jit {
	struct engine engine;
	struct x86_mem mem;
	bool listens;             /* to engine.params.mem */
	struct cpuid_table model; /* CPUID, before bhyve's edits */
	struct msr_params msr;
	struct lapic_bus *apics;
	struct jit_vcpu *vcpus[ENGINE_VCPUS_MAX];
	bool translates; /* else everything is interpreted */

	struct lock single_lock; /* outermost: see vcpu_exclusive_begin() */
	struct lock code_lock;
	struct jit_cache cache;
	FILE *dump, *perf_map; /* owned; with code_lock; NULL: not wanted */

	/* world.c */
	pthread_mutex_t world;
	pthread_cond_t world_cond;
	unsigned running; /* vCPUs that run guest code, beside one alone */
	bool alone;       /* somebody wants, or has, the world for itself */

	/* Guest time: guarded by time_lock when written. */
	struct lock time_lock;
	atomic_bool time_runs;
	uint64_t time_base; /* CLOCK_MONOTONIC - machine time, while it runs */
	uint64_t time_stopped;     /* machine time, while it stands still */
	uint64_t tsc_stopped;      /* the host's TSC when it stopped */
	_Atomic uint64_t tsc_base; /* host TSC that counts as 0, all vCPUs */
	uint64_t tsc_hz;

	/* I/O APIC pins whose vector's EOI is told. */
	struct lock pin_lock;
	struct {
		bool on;
		struct engine_msi msi;
	} pins[ENGINE_EOI_PINS];
	_Atomic uint64_t eoi_vectors[4]; /* watched by any pin */
};

struct jit_vcpu {
	struct engine_vcpu vcpu;
	struct jit *jit;
	struct x86_cpu *cpu;        /* owned */
	enum cpu_run_state waiting; /* RUNNING, or for INIT or SIPI */
	bool in_world;              /* counted in jit->running; own thread */
	bool intr_waits; /* something to deliver, not interruptible yet */
	bool nmi_waits;
	bool injected; /* an interrupt that a saved state had accepted */
	uint8_t injected_vector;
	_Atomic uint8_t sipi_vector;
	_Atomic bool extint; /* the 8259 pair's wire may be up */
	atomic_bool asleep;  /* waits for `attention` to change */

	/* Alone for one access: code that it overwrites is told afterwards. */
	bool exclusive;
	unsigned put_off;
	struct {
		gpa_t gpa;
		unsigned len;
	} put_off_writes[16];

	/* The local APIC's timer: a signal to the thread in engine_run(). */
	bool has_timer;
	timer_t timer;
	pid_t timer_tid;
	uint64_t timer_at; /* machine time; UINT64_MAX: none */
	int64_t tsc_offset;

	enum x86_step step;      /* how the last interpreted one ended */
	uint64_t stat_exits[16]; /* by enum jit_reason */
};

static inline struct jit *
jit_of(struct engine *engine)
{
	return container_of(engine, struct jit, engine);
}

static inline struct jit_vcpu *
jit_vcpu_of(struct engine_vcpu *vcpu)
{
	return container_of(vcpu, struct jit_vcpu, vcpu);
}

static inline struct jit_vcpu *
jit_owner(struct x86_cpu *cpu)
{
	return cpu->owner;
}

/* ---- jit.c --------------------------------------------------------------- */

uint64_t jit_now(struct jit *jit); /* machine time, ns */
uint64_t jit_rdtsc(void);

/* ---- vcpu.c -------------------------------------------------------------- */

int jit_vcpu_create(struct engine *engine, unsigned id,
    struct engine_vcpu **vcpu, struct err *err);
void jit_vcpu_destroy(struct engine_vcpu *vcpu);
void jit_vcpu_run(struct engine_vcpu *vcpu, struct engine_exit *exit);
void jit_vcpu_kick(struct engine_vcpu *vcpu);
void jit_vcpu_nmi(struct engine_vcpu *vcpu);
int jit_vcpu_get(struct engine_vcpu *vcpu, struct cpu_state *state,
    struct err *err);
int jit_vcpu_set(struct engine_vcpu *vcpu, const struct cpu_state *state,
    struct err *err);
bool jit_vcpu_halted(struct engine_vcpu *vcpu);
void jit_vcpu_timer_rearm(struct jit_vcpu *vcpu);
/* Set attention bits and wake it if it sleeps; any thread. */
void jit_vcpu_attend(struct jit_vcpu *vcpu, uint32_t bits);

/* ---- world.c ------------------------------------------------------------- */

/* The vCPU begins and ends running guest code; begin may wait. */
void world_enter(struct jit_vcpu *vcpu);
void world_leave(struct jit_vcpu *vcpu);
/* Wait until no other vCPU is in the world.  From inside it or outside. */
void world_alone(struct jit *jit, struct jit_vcpu *vcpu);
void world_together(struct jit *jit, struct jit_vcpu *vcpu);
/* The vCPU whose thread this is, or NULL. */
struct jit_vcpu *world_self(void);
/* The same, but NULL as well if it is another machine's. */
struct jit_vcpu *world_self_in(const struct jit *jit);
/* It will be freed: no more this thread's. */
void world_forget(const struct jit_vcpu *vcpu);
/* Take code_lock; a vCPU is out of the world while it waits. */
void code_lock_take(struct jit *jit);
void code_lock_drop(struct jit *jit);

/* ---- dispatch.c ---------------------------------------------------------- */

enum jit_stop {
	JIT_STOP_ATTENTION,
	JIT_STOP_HALT,
	JIT_STOP_TRIPLE_FAULT,
};
/* Run guest code until something needs the vCPU's own attention. */
enum jit_stop jit_dispatch(struct jit_vcpu *vcpu);
/* What the stubs call: see stubs.c.  Both return enum jit_reason. */
uint32_t jit_slow_path(struct x86_cpu *cpu, uint64_t lin, uint32_t what,
    bool write);
uint32_t jit_interpret(struct x86_cpu *cpu, const struct x86_insn *insn,
    uint32_t off);
/* The mode of the code at hand, or 0: it is interpreted. */
uint32_t jit_mode(const struct x86_cpu *cpu);
/* The processor's table of jumps for a mode; clearing one. */
unsigned jit_jump_set(uint32_t mode);
void jit_jumps_clear(struct x86_cpu *cpu, unsigned set);
void jit_jumps_clear_page(struct x86_cpu *cpu, uint64_t lin);

/* ---- cache.c ------------------------------------------------------------- */

int jit_cache_init(struct jit *jit, struct err *err);
void jit_cache_fini(struct jit *jit);
/* A region of memory goes away, after all vCPUs. */
void jit_cache_forget_region(struct jit *jit, const struct x86_ram *ram);
/* Without a lock, in the world: the block that begins at gpa, or NULL. */
struct jit_block *jit_cache_find(struct jit *jit, gpa_t gpa, uint32_t mode);
/*
 * With code_lock, in this order: room for a block (all others may be forgotten
 * for it), the page marked so that stores to it are noticed, the block entered.
 */
#define JIT_BLOCK_ROOM 65536u
void jit_cache_reserve_locked(struct jit *jit, struct jit_vcpu *vcpu);
void jit_cache_claim_locked(struct jit *jit, struct jit_vcpu *vcpu, gpa_t gpa);
/* gpa2: the page that the last bytes are in, if they leave the first. */
void jit_cache_add_locked(struct jit *jit, struct jit_block *block, gpa_t gpa2);
/*
 * A number for a jump within the page of gpa that may be linked; field is its
 * rel32, in writable memory, which leads to where it asks for that.
 */
uint32_t jit_cache_exit_locked(struct jit *jit, uint8_t *field, gpa_t gpa);
/*
 * Let exit n of that generation lead to block; not to one of another page, which
 * has come in place of the exit's own while that still ran.
 */
void jit_cache_link(struct jit *jit, uint64_t generation, uint32_t n,
    struct jit_block *to);
/* Code in [gpa, gpa + len) has changed. */
void jit_cache_wrote(struct jit *jit, gpa_t gpa, uint64_t len);
/* The page offset of the guest's instruction at a host address; any context. */
bool jit_cache_place(const struct jit *jit, const uint8_t *host,
    uint16_t *guest);

static inline bool
jit_cache_holds(const struct jit *jit, const void *host)
{
	return (uintptr_t)host - (uintptr_t)jit->cache.rx < jit->cache.size;
}

/* ---- translate.c --------------------------------------------------------- */

/*
 * The block for the code at gpa, in the page of memory at `page`.  NULL: the
 * first instruction is the interpreter's.
 */
struct jit_block *jit_translate(struct jit_vcpu *vcpu, const uint8_t *page,
    gpa_t gpa, uint32_t mode);

/* ---- for translate.c, memory.c and flow.c -------------------------------- */

#define JIT_BLOCK_INSNS 96u
#define JIT_BLOCK_COLD 256u

/* Code that stands behind the block: what seldom happens. */
struct jit_cold {
	enum { COLD_LOAD, COLD_STORE, COLD_JUMP } kind;
	uint8_t *from;  /* behind the rel32 that leads here */
	uint8_t *retry; /* slow paths: where to try again */
	uint8_t *done;  /* ... and behind the instruction; NULL: a jump */
	uint32_t what;  /* slow paths: for the stub; jumps: the exit's number */
	int32_t target; /* jumps: page offset */
};

struct trans {
	struct emit e;
	struct jit *jit;
	struct x86_cpu *cpu;
	uint32_t mode;
	enum x86_code code;
	unsigned at; /* page offset of the instruction in hand */
	const uint8_t *page;
	/* The page behind it, in linear addresses, if it is known; and used. */
	const uint8_t *page2;
	gpa_t gpa2;
	bool straddles;
	const struct x86_insn *insn;
	struct jit_block *block;
	struct jit_cold cold[JIT_BLOCK_COLD];
	unsigned colds;
};

/* All of these return false, nothing emitted, for what they do not handle. */
/* T1 = the linear address of the memory operand. */
bool jit_emit_address(struct trans *t);
/* T1 is checked for an access: its place is T1 + T2 then. */
void jit_emit_check(struct trans *t, unsigned size, bool write);
bool jit_emit_flow(struct trans *t, bool *ends);
bool jit_emit_stack(struct trans *t);
bool jit_emit_system(struct trans *t);
/* Leave for an instruction of this page. */
void jit_emit_goto(struct trans *t, int64_t target);
void jit_emit_emulate(struct trans *t);
/* Have the interpreter carry out t->insn, and go on behind it. */
void jit_emit_interpret(struct trans *t);
void jit_emit_cold(struct trans *t);
/* The host register that holds a guest register; loads it into tmp if spilled. */
unsigned jit_emit_use(struct trans *t, unsigned gpr, unsigned tmp);
unsigned jit_home(unsigned gpr); /* NOREG: spilled */

/* ---- stubs.c ------------------------------------------------------------- */

/* Why translated code came back; what stubs.enter() returns. */
enum jit_reason {
	JIT_AGAIN, /* of slow paths, not seen outside: try again, */
	JIT_DONE,  /* ... or: the instruction is done, go on behind it */
	JIT_ATTENTION,
	JIT_EMULATE,
	JIT_GOTO,
	JIT_LINK,
	JIT_LOOKUP,
	JIT_STEPPED, /* the interpreter was called, with vcpu->step */
	JIT_REASONS,
};
/*
 * What a jump that leads nowhere takes back (SDM volume 2, JMP, CALL, RET: #GP
 * is the instruction's, not the target's): the instruction's page offset, up
 * to the page's end, and by how much rSP has moved.
 */
#define JIT_LOOKUP_UNDO(at, moved) ((uint32_t)(at) | (uint32_t)(moved) << 13)
#define JIT_LOOKUP_AT(undo) ((undo)&0x1fffu)
#define JIT_LOOKUP_MOVED(undo) ((int32_t)(undo) >> 13)
void jit_stubs_make(struct jit *jit);
/* The calling thread is the one that enters: gs leads to the processor. */
void jit_stubs_adopt(struct jit_vcpu *vcpu);
/* rip and the flags of a processor, from what the stubs have left. */
void jit_stubs_settle(struct x86_cpu *cpu, enum jit_reason reason);
/* The other way: what a stub needs to go back into the block. */
void jit_stubs_resume(struct x86_cpu *cpu);

/* ---- inspect.c ----------------------------------------------------------- */

int jit_inspect_init(struct jit *jit, struct err *err);
void jit_inspect_fini(struct jit *jit);
/* With code_lock: a block was made from the page of guest memory. */
void jit_inspect_block(struct jit *jit, const struct jit_block *block,
    const uint8_t *page);
void jit_stats(struct engine *engine, engine_stat_fn *fn, void *arg);

#endif
