/*
 * Ports: IN, OUT, INS, OUTS, and who may use them.
 *
 * Models       Intel SDM volume 1, chapter 19 (I/O privilege level, the bitmap
 *              in the TSS); volume 2, INS, OUTS, REP.
 * Batches      A round of REP moves what lies in one page of memory by one call
 *              of the host, element by element while there are breakpoints;
 *              other events may come between rounds.  Memory is
 *              looked at before the device is, so that a page fault loses
 *              nothing that was read from it.
 */
#include "engine/x86/debug.h"
#include "engine/x86/segment.h"
#include "engine/x86/system_impl.h"

#define TSS_LIMIT 0x67u /* at least, to have a bitmap */
#define TSS_IOMAP 0x66u

#define BATCH_BYTES 4096u

static void
check_port(struct x86_cpu *cpu, uint16_t port, unsigned size)
{
	const struct cpu_segment *tr = &cpu->seg[CPU_TR];
	uint32_t map, bits;

	if (!x86_v86(cpu) && cpu->cpl <= x86_iopl(cpu))
		return;
	if ((tr->access & CPU_SEG_UNUSABLE) || !(tr->access & X86_DT_WIDE) ||
	    tr->limit < TSS_LIMIT)
		x86_raise_gp(cpu);
	map = (uint32_t)x86_load_sys(cpu, x86_sys_lin(cpu, tr->base, TSS_IOMAP),
	    2);
	map += port / 8u;
	if (map + 1 > tr->limit) /* two bytes are always read */
		x86_raise_gp(cpu);
	bits = (uint32_t)x86_load_sys(cpu, x86_sys_lin(cpu, tr->base, map), 2);
	if ((bits >> (port % 8)) & (BIT(size) - 1))
		x86_raise_gp(cpu);
}

static void
access_port(struct x86_cpu *cpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	cpu->stat_pio++;
	x86_fpu_put(cpu);
	cpu->host->pio(cpu, port, write, size, data, count);
	if (cpu->dr7 & X86_DR7_ENABLES)
		x86_debug_port(cpu, port, size);
}

/* The port that operand i names. */
static uint16_t
port_of(struct x86_cpu *cpu, const struct x86_insn *insn, unsigned i)
{
	if (insn->opnd[i].kind == X86_K_IMM)
		return insn->imm & 0xff;
	return (uint16_t)cpu->gpr[CPU_RDX];
}

void
x86_in(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint16_t port = port_of(cpu, insn, 1);
	unsigned size = insn->opnd[0].size;
	uint32_t value = 0;

	check_port(cpu, port, size);
	access_port(cpu, port, false, size, &value, 1);
	x86_put(cpu, insn, 0, value);
}

void
x86_out(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint16_t port = port_of(cpu, insn, 0);
	unsigned size = insn->opnd[1].size;
	uint32_t value = (uint32_t)x86_get(cpu, insn, 1);

	check_port(cpu, port, size);
	access_port(cpu, port, true, size, &value, 1);
}

/* ------------------------------------------------------------- strings */

struct string {
	enum cpu_seg seg;
	unsigned reg; /* rSI or rDI */
	unsigned size;
	bool write; /* to memory */
	uint64_t off;
	uint64_t count; /* still to go */
};

static struct string
string_begin(const struct x86_cpu *cpu, const struct x86_insn *insn,
    enum cpu_seg seg, unsigned reg)
{
	bool rep = insn->pfx & (X86_PFX_REP | X86_PFX_REPNE);

	return (struct string) {
		.seg = seg,
		.reg = reg,
		.size = !(insn->opcode & 1) ? 1 : MIN(insn->opsize, 4u),
		.write = reg == CPU_RDI,
		.off = x86_gpr(cpu, reg, insn->addrsize),
		.count = rep ? x86_gpr(cpu, CPU_RCX, insn->addrsize) : 1,
	};
}

/* Bytes from off on that the segment and the address size have. */
static uint64_t
string_room(const struct x86_cpu *cpu, const struct x86_insn *insn,
    const struct string *s)
{
	const struct cpu_segment *seg = &cpu->seg[s->seg];
	uint64_t last = size_mask(insn->addrsize);

	if (cpu->code != X86_CODE64) {
		bool down =
		    !(seg->access & X86_SEG_CODE) && (seg->access & X86_SEG_CE);
		uint32_t limit = !down       ? seg->limit :
		    seg->access & X86_SEG_DB ? UINT32_MAX :
					       0xffffu;

		last = MIN(last, limit);
	}
	return MIN(last - s->off, BATCH_BYTES) + 1;
}

/*
 * The memory of a batch, which can be accessed without a fault, and how many
 * elements it has; NULL: one element, the long way.
 */
static void *
string_run(struct x86_cpu *cpu, const struct x86_insn *insn,
    const struct string *s, uint64_t lin, uint32_t *count)
{
	uint64_t len = MIN(s->count, BATCH_BYTES) * s->size;
	void *run;

	*count = 1;
	if (cpu->rflags & X86_DF)
		return NULL;
	len = MIN(len, string_room(cpu, insn, s));
	run = x86_run_ptr(cpu, lin, s->write, &len);
	if (run == NULL || len < s->size)
		return NULL;
	*count = (uint32_t)(len / s->size);
	return run;
}

static void
string_end(struct x86_cpu *cpu, const struct x86_insn *insn,
    const struct string *s, uint32_t done)
{
	uint64_t bytes = (uint64_t)done * s->size;

	x86_set_gpr(cpu, s->reg, insn->addrsize,
	    cpu->rflags & X86_DF ? s->off - bytes : s->off + bytes);
	if (!(insn->pfx & (X86_PFX_REP | X86_PFX_REPNE)))
		return;
	x86_set_gpr(cpu, CPU_RCX, insn->addrsize, s->count - done);
	if (s->count > done) /* the same instruction again */
		cpu->rip = (cpu->rip - insn->len) &
		    (cpu->code == X86_CODE64 ? UINT64_MAX : UINT32_MAX);
}

static void
string_port(struct x86_cpu *cpu, const struct x86_insn *insn, struct string s)
{
	uint16_t port = (uint16_t)cpu->gpr[CPU_RDX];
	uint32_t value = 0, count;
	uint64_t lin;
	void *run;

	check_port(cpu, port, s.size); /* REP of nothing is checked, too */
	if (s.count == 0)
		return;
	lin = x86_linear(cpu, s.seg, s.off, s.size, s.write);
	x86_check_aligned(cpu, lin, s.size);
	run = string_run(cpu, insn, &s, lin, &count);
	if (run != NULL && s.write) {
		/*
		 * Not straight to memory: while the device is asked, the page
		 * may become code, or what is known of dirty pages be fetched.
		 */
		uint8_t batch[BATCH_BYTES];

		access_port(cpu, port, false, s.size, batch, count);
		x86_store_bytes(cpu, lin, batch, count * s.size);
	} else if (run != NULL) {
		access_port(cpu, port, true, s.size, run, count);
	} else if (s.write) {
		x86_probe(cpu, lin, s.size, true);
		access_port(cpu, port, false, s.size, &value, 1);
		x86_store(cpu, lin, s.size, value);
	} else {
		value = (uint32_t)x86_load(cpu, lin, s.size);
		access_port(cpu, port, true, s.size, &value, 1);
	}
	string_end(cpu, insn, &s, count);
}

void
x86_ins(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	string_port(cpu, insn, string_begin(cpu, insn, CPU_ES, CPU_RDI));
}

void
x86_outs(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	string_port(cpu, insn,
	    string_begin(cpu, insn, (enum cpu_seg)insn->seg, CPU_RSI));
}
