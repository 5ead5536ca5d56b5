/*
 * String instructions: MOVS, CMPS, STOS, LODS, SCAS, with and without REP.
 *
 * Models       Intel SDM volume 2, REP and the instructions; volume 1, 7.3.9.
 * Runs         Ascending elements that lie in one page of memory are done at
 *              once, with the host's own instruction where they are written: so
 *              operands that overlap come out alike.  All else goes element by
 *              element.
 * Restarts     Count and indexes are committed after every run and element.  An
 *              exception then leaves rip at the instruction and the rest to
 *              do; flags are those before the instruction, as the manual says
 *              of CMPS and SCAS.  After STEP_MAX elements, whenever someone
 *              wants attention, and after a breakpoint on what it touches, the
 *              instruction is left in the same way without an exception.
 */
#include "engine/x86/interp_impl.h"
#include "engine/x86/mmu.h"

#define STEP_MAX 4096u

struct string {
	unsigned id;       /* enum x86_opid */
	unsigned size;     /* of an element */
	unsigned addrsize; /* of indexes and count */
	enum cpu_seg seg;  /* of the source */
	bool reads_si, uses_di, writes;
	bool compares; /* REPE and REPNE: ends by ZF */
	bool until_equal;
};

/* Has a repeated comparison found what ends it? */
static bool
found(const struct x86_cpu *cpu, const struct string *s)
{
	return s->compares && ((cpu->rflags & X86_ZF) != 0) == s->until_equal;
}

/* Move the indexes by n elements. */
static void
advance(struct x86_cpu *cpu, const struct string *s, uint64_t n)
{
	uint64_t by = n * s->size;

	if (cpu->rflags & X86_DF)
		by = -by;
	if (s->reads_si)
		x86_set_gpr(cpu, CPU_RSI, s->addrsize, cpu->gpr[CPU_RSI] + by);
	if (s->uses_di)
		x86_set_gpr(cpu, CPU_RDI, s->addrsize, cpu->gpr[CPU_RDI] + by);
}

/* ------------------------------------------------------------ one element */

static uint64_t
source(struct x86_cpu *cpu, const struct string *s)
{
	return x86_address(cpu, s->seg, x86_gpr(cpu, CPU_RSI, s->addrsize),
	    s->size, false);
}

static uint64_t
destination(struct x86_cpu *cpu, const struct string *s)
{
	return x86_address(cpu, CPU_ES, x86_gpr(cpu, CPU_RDI, s->addrsize),
	    s->size, s->writes);
}

static void
one(struct x86_cpu *cpu, const struct string *s)
{
	uint64_t a, b;

	switch (s->id) {
	case X86_OP_MOVS:
		a = x86_load(cpu, source(cpu, s), s->size);
		x86_store(cpu, destination(cpu, s), s->size, a);
		break;
	case X86_OP_STOS:
		x86_store(cpu, destination(cpu, s), s->size,
		    x86_gpr(cpu, CPU_RAX, s->size));
		break;
	case X86_OP_LODS:
		a = x86_load(cpu, source(cpu, s), s->size);
		x86_set_gpr(cpu, CPU_RAX, s->size, a);
		break;
	case X86_OP_CMPS:
		a = x86_load(cpu, source(cpu, s), s->size);
		b = x86_load(cpu, destination(cpu, s), s->size);
		x86_compare(cpu, a, b, s->size);
		break;
	default: /* SCAS */
		b = x86_load(cpu, destination(cpu, s), s->size);
		x86_compare(cpu, x86_gpr(cpu, CPU_RAX, s->size), b, s->size);
		break;
	}
	advance(cpu, s, 1);
}

/* ------------------------------------------------------------------- runs */

/*
 * The host's place of up to n ascending elements at seg:off, or NULL; *n
 * becomes the number that one page, the segment and the address size let
 * through.  Raises what the first element raises.
 */
static uint8_t *
run_place(struct x86_cpu *cpu, const struct string *s, enum cpu_seg seg,
    uint64_t off, bool write, uint64_t *lin, uint64_t *n)
{
	uint64_t room = size_mask(s->addrsize) - off;
	uint64_t len = *n * s->size;
	uint8_t *place;

	*lin = x86_address(cpu, seg, off, s->size, write);
	x86_check_aligned(cpu, *lin, s->size);
	if (cpu->code != X86_CODE64) {
		const struct cpu_segment *segment = &cpu->seg[seg];

		/* An expand-down segment ends elsewhere: go one by one. */
		if ((segment->access & (X86_SEG_CODE | X86_SEG_CE)) ==
		    X86_SEG_CE)
			return NULL;
		room = MIN(room, segment->limit - off);
		room = MIN(room, UINT32_MAX - *lin);
	}
	/* room is the last byte's distance, so that it cannot overflow. */
	if (len - 1 > room)
		len = room + 1;
	place = x86_run_ptr(cpu, *lin, write, &len);
	*n = len / s->size;
	return *n != 0 ? place : NULL;
}

static void
move_run(uint8_t *to, const uint8_t *from, unsigned size, uint64_t n)
{
	switch (size) {
	case 1:
		__asm__ volatile("rep movsb"
				 : "+D"(to), "+S"(from), "+c"(n)
				 :
				 : "memory");
		break;
	case 2:
		__asm__ volatile("rep movsw"
				 : "+D"(to), "+S"(from), "+c"(n)
				 :
				 : "memory");
		break;
	case 4:
		__asm__ volatile("rep movsl"
				 : "+D"(to), "+S"(from), "+c"(n)
				 :
				 : "memory");
		break;
	default:
		__asm__ volatile("rep movsq"
				 : "+D"(to), "+S"(from), "+c"(n)
				 :
				 : "memory");
		break;
	}
}

static void
store_run(uint8_t *to, uint64_t value, unsigned size, uint64_t n)
{
	switch (size) {
	case 1:
		__asm__ volatile("rep stosb"
				 : "+D"(to), "+c"(n)
				 : "a"(value)
				 : "memory");
		break;
	case 2:
		__asm__ volatile("rep stosw"
				 : "+D"(to), "+c"(n)
				 : "a"(value)
				 : "memory");
		break;
	case 4:
		__asm__ volatile("rep stosl"
				 : "+D"(to), "+c"(n)
				 : "a"(value)
				 : "memory");
		break;
	default:
		__asm__ volatile("rep stosq"
				 : "+D"(to), "+c"(n)
				 : "a"(value)
				 : "memory");
		break;
	}
}

/* As many of n as one run has; 0: none, go element by element. */
static uint64_t
run(struct x86_cpu *cpu, const struct string *s, uint64_t n)
{
	uint64_t from_lin, to_lin, done = 0;
	uint8_t *from = NULL, *to = NULL;

	if (s->reads_si) {
		from = run_place(cpu, s, s->seg,
		    x86_gpr(cpu, CPU_RSI, s->addrsize), false, &from_lin, &n);
		if (from == NULL)
			return 0;
	}
	if (s->uses_di) {
		to = run_place(cpu, s, CPU_ES,
		    x86_gpr(cpu, CPU_RDI, s->addrsize), s->writes, &to_lin, &n);
		if (to == NULL)
			return 0;
	}
	switch (s->id) {
	case X86_OP_MOVS:
		move_run(to, from, s->size, n);
		x86_rmw_done(cpu, to_lin, (unsigned)(n * s->size));
		break;
	case X86_OP_STOS:
		store_run(to, cpu->gpr[CPU_RAX], s->size, n);
		x86_rmw_done(cpu, to_lin, (unsigned)(n * s->size));
		break;
	case X86_OP_LODS:
		x86_set_gpr(cpu, CPU_RAX, s->size,
		    x86_peek(from + (n - 1) * s->size, s->size));
		break;
	default: { /* CMPS and SCAS */
		uint64_t a = x86_gpr(cpu, CPU_RAX, s->size), b;

		/* Only the flags of the last comparison are seen. */
		do {
			if (from != NULL)
				a = x86_peek(from + done * s->size, s->size);
			b = x86_peek(to + done * s->size, s->size);
			done++;
		} while (done < n && (a == b) != s->until_equal);
		x86_compare(cpu, a, b, s->size);
		n = done;
		break;
	}
	}
	advance(cpu, s, n);
	return n;
}

/* ------------------------------------------------------------------ repeat */

static void
repeat(struct x86_cpu *cpu, const struct string *s, uint64_t begin)
{
	uint64_t budget = cpu->rflags & X86_TF ? 1 : STEP_MAX;
	uint64_t left = x86_gpr(cpu, CPU_RCX, s->addrsize);

	while (left != 0) {
		uint64_t done = 0;

		/* At least one element, or nothing would ever be done. */
		if (budget == 0 ||
		    (budget != STEP_MAX &&
			(x86_wants_attention(cpu) || cpu->watched))) {
			cpu->rip = begin;
			return;
		}
		if (!(cpu->rflags & X86_DF))
			done = run(cpu, s, MIN(left, budget));
		if (done == 0) {
			one(cpu, s);
			done = 1;
		}
		left -= done;
		budget -= done;
		x86_set_gpr(cpu, CPU_RCX, s->addrsize, left);
		x86_commit(cpu);
		if (found(cpu, s))
			return;
	}
}

void
x86_exec_string(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned id = insn->op->id;
	const struct string s = {
		.id = id,
		.size = insn->opcode & 1 ? insn->opsize : 1,
		.addrsize = insn->addrsize,
		.seg = insn->seg,
		.reads_si = id != X86_OP_STOS && id != X86_OP_SCAS,
		.uses_di = id != X86_OP_LODS,
		.writes = id == X86_OP_MOVS || id == X86_OP_STOS,
		.compares = id == X86_OP_CMPS || id == X86_OP_SCAS,
		.until_equal = insn->pfx & X86_PFX_REPNE,
	};

	if (insn->pfx & (X86_PFX_REP | X86_PFX_REPNE))
		repeat(cpu, &s, (cpu->rip - insn->len) & x86_rip_mask(cpu));
	else
		one(cpu, &s);
}
