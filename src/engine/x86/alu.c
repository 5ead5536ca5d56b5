/*
 * Arithmetic, logic, shifts, bits, multiplication and division; and everything
 * that reads, modifies and writes memory, with or without LOCK.
 *
 * Models       Intel SDM volume 2, the operation sections; volume 1, appendix A
 *              for the flags.
 * Undefined    Where the manual leaves a flag or a result undefined, this is
 *              what AMD's processors of family 1Ah do; alu_test.c compares.
 *              shifts        AF set; OF as if the last of the single shifts had
 *                            been the only one: left MSB ^ CF, right MSB ^ next
 *              16-bit SHLD and SHRD by more than 16
 *                            the source rotated by count - 16, CF clear
 *              rotates       OF as for shifts
 *              MUL, IMUL     SF ZF AF PF unchanged
 *              DIV, IDIV     CF OF unchanged, AF set, SF ZF PF clear
 *              BSF, BSR      of zero leaves the destination; CF OF AF clear, SF
 *                            and PF by the result
 *              TZCNT, LZCNT  OF unchanged, SF AF PF clear
 *              BT and kin    unchanged
 *              BMI           AF clear, PF by the result; BEXTR: AF set, SF
 *                            clear
 *              DAA, AAA ...  those of the sum or difference that they form
 * Memory       One compute() serves registers and memory.  With LOCK, and
 *              always for XCHG, the store is a compare-exchange on the guest's
 *              memory itself.  Where that cannot be (a device, ROM, two pages),
 *              the other processors are stopped around a load and a store.
 * Invariants   Registers and flags are changed after the last access to memory:
 *              an exception finds them as they were.
 */
#include "engine/x86/interp_impl.h"
#include "engine/x86/mmu.h"

#define CRC32C 0x82f63b78u /* Castagnoli's polynomial, reflected */

/* What compute() is asked for. */
struct alu {
	unsigned id;    /* enum x86_opid */
	unsigned size;  /* of the destination */
	uint64_t src;   /* of the same size */
	uint64_t count; /* shifts: as written, not masked */
	uint64_t acc;   /* CMPXCHG: the accumulator */
};

static unsigned
bits_of(unsigned size)
{
	return size * 8;
}

static uint64_t
msb(uint64_t value, unsigned size)
{
	return (value >> (bits_of(size) - 1)) & 1;
}

/* ------------------------------------------------------------------ flags */

static uint64_t
flag(bool set, uint64_t which)
{
	return set ? which : 0;
}

/* SF, ZF and PF of a result that has no bits beyond size. */
static uint64_t
flags_of(uint64_t r, unsigned size)
{
	return msb(r, size) << 7 | flag(r == 0, X86_ZF) |
	    flag(!__builtin_parity((uint8_t)r), X86_PF);
}

static void
set_flags(uint64_t *rflags, uint64_t flags)
{
	*rflags = (*rflags & ~(uint64_t)X86_ARITH) | flags;
}

static uint64_t
add(unsigned size, uint64_t a, uint64_t b, uint64_t carry, uint64_t *rflags)
{
	uint64_t r = (a + b + carry) & size_mask(size);
	uint64_t carries = (a & b) | ((a | b) & ~r);

	set_flags(rflags,
	    flags_of(r, size) | msb(carries, size) | ((a ^ b ^ r) & X86_AF) |
		msb((a ^ r) & (b ^ r), size) << 11);
	return r;
}

static uint64_t
sub(unsigned size, uint64_t a, uint64_t b, uint64_t borrow, uint64_t *rflags)
{
	uint64_t r = (a - b - borrow) & size_mask(size);
	uint64_t borrows = (~a & b) | ((~a | b) & r);

	set_flags(rflags,
	    flags_of(r, size) | msb(borrows, size) | ((a ^ b ^ r) & X86_AF) |
		msb((a ^ b) & (a ^ r), size) << 11);
	return r;
}

void
x86_compare(struct x86_cpu *cpu, uint64_t a, uint64_t b, unsigned size)
{
	(void)sub(size, a, b, 0, &cpu->rflags);
}

static uint64_t
logic(unsigned size, uint64_t r, uint64_t *rflags)
{
	set_flags(rflags, flags_of(r, size));
	return r;
}

/* --------------------------------------------------- shifts and rotates */

/* OF of anything that moved left, or right. */
static uint64_t
overflow_left(uint64_t r, unsigned size, uint64_t cf)
{
	return (msb(r, size) ^ cf) << 11;
}

static uint64_t
overflow_right(uint64_t r, unsigned size)
{
	return msb(r ^ (r << 1), size) << 11;
}

static uint64_t
shift(const struct alu *alu, uint64_t dst, uint64_t *rflags)
{
	unsigned size = alu->size, bits = bits_of(size);
	unsigned n = alu->count & (size == 8 ? 63 : 31);
	uint64_t r, cf, of;

	if (n == 0)
		return dst;
	switch (alu->id) {
	case X86_OP_SHL:
		r = n < bits ? (dst << n) & size_mask(size) : 0;
		cf = n <= bits ? (dst >> (bits - n)) & 1 : 0;
		of = overflow_left(r, size, cf);
		break;
	case X86_OP_SHR:
		r = n < bits ? dst >> n : 0;
		cf = n <= bits ? (dst >> (n - 1)) & 1 : 0;
		/* By one only: the bit that left the top. */
		of = overflow_right(r, size);
		break;
	default: { /* SAR */
		int64_t wide = x86_sign_extend(dst, size);

		r = (uint64_t)(wide >> MIN(n, 63u)) & size_mask(size);
		cf = (uint64_t)(wide >> MIN(n - 1, 63u)) & 1;
		of = 0;
		break;
	}
	}
	set_flags(rflags, flags_of(r, size) | X86_AF | cf | of);
	return r;
}

/* ROL and ROR: only CF and OF. */
static uint64_t
rotate(const struct alu *alu, uint64_t dst, uint64_t *rflags)
{
	unsigned size = alu->size, bits = bits_of(size);
	unsigned count = alu->count & (size == 8 ? 63 : 31);
	unsigned left = count & (bits - 1);
	uint64_t r = dst, flags;

	if (count == 0)
		return dst;
	if (alu->id == X86_OP_ROR)
		left = (bits - left) & (bits - 1);
	if (left != 0)
		r = ((dst << left) | (dst >> (bits - left))) & size_mask(size);
	if (alu->id == X86_OP_ROL)
		flags = (r & 1) | overflow_left(r, size, r & 1);
	else
		flags = msb(r, size) | overflow_right(r, size);
	*rflags = (*rflags & ~(uint64_t)(X86_CF | X86_OF)) | flags;
	return r;
}

/* RCL and RCR: through CF, so of one bit more. */
static uint64_t
rotate_carry(const struct alu *alu, uint64_t dst, uint64_t *rflags)
{
	unsigned size = alu->size, bits = bits_of(size);
	unsigned count = alu->count & (size == 8 ? 63 : 31);
	unsigned n = count % (bits + 1);
	uint64_t r = dst, cf = *rflags & X86_CF, in = cf;

	if (count == 0)
		return dst;
	if (n != 0 && alu->id == X86_OP_RCL) {
		cf = (dst >> (bits - n)) & 1;
		r = (n < bits ? dst << n : 0) | in << (n - 1) |
		    (n > 1 ? dst >> (bits + 1 - n) : 0);
	} else if (n != 0) {
		cf = (dst >> (n - 1)) & 1;
		r = (n < bits ? dst >> n : 0) | in << (bits - n) |
		    (n > 1 ? dst << (bits + 1 - n) : 0);
	}
	r &= size_mask(size);
	*rflags = (*rflags & ~(uint64_t)(X86_CF | X86_OF)) | cf |
	    (alu->id == X86_OP_RCL ? overflow_left(r, size, cf) :
				     overflow_right(r, size));
	return r;
}

static uint64_t
shift_double(const struct alu *alu, uint64_t dst, uint64_t *rflags)
{
	unsigned size = alu->size, bits = bits_of(size);
	unsigned n = alu->count & (size == 8 ? 63 : 31);
	bool left = alu->id == X86_OP_SHLD;
	uint64_t src = alu->src, r, cf, of;

	if (n == 0)
		return dst;
	if (n > bits) { /* 16 bits, 17 to 31 places */
		unsigned turn = n - bits;

		r = left ? src << turn | src >> (bits - turn) :
			   src >> turn | src << (bits - turn);
		cf = 0;
	} else if (left) {
		r = (n < bits ? dst << n : 0) | src >> (bits - n);
		cf = (dst >> (bits - n)) & 1;
	} else {
		r = (n < bits ? dst >> n : 0) | src << (bits - n);
		cf = (dst >> (n - 1)) & 1;
	}
	r &= size_mask(size);
	/* From 16 places on OF is that of SHL. */
	if (!left)
		of = overflow_right(r, size);
	else
		of = overflow_left(n < bits ? r : 0, size, cf);
	set_flags(rflags, flags_of(r, size) | X86_AF | cf | of);
	return r;
}

/* --------------------------------------------- read, modify and write */

/* The new value of a destination, and the flags. */
static uint64_t
compute(const struct alu *alu, uint64_t dst, uint64_t *rflags)
{
	unsigned size = alu->size;
	uint64_t carry = *rflags & X86_CF;
	uint64_t bit, r;

	switch (alu->id) {
	case X86_OP_ADD:
	case X86_OP_XADD:
		return add(size, dst, alu->src, 0, rflags);
	case X86_OP_ADC:
		return add(size, dst, alu->src, carry, rflags);
	case X86_OP_SUB:
	case X86_OP_CMP:
		return sub(size, dst, alu->src, 0, rflags);
	case X86_OP_SBB:
		return sub(size, dst, alu->src, carry, rflags);
	case X86_OP_AND:
	case X86_OP_TEST:
		return logic(size, dst & alu->src, rflags);
	case X86_OP_OR:
		return logic(size, dst | alu->src, rflags);
	case X86_OP_XOR:
		return logic(size, dst ^ alu->src, rflags);
	case X86_OP_INC:
		r = add(size, dst, 1, 0, rflags);
		*rflags = (*rflags & ~(uint64_t)X86_CF) | carry;
		return r;
	case X86_OP_DEC:
		r = sub(size, dst, 1, 0, rflags);
		*rflags = (*rflags & ~(uint64_t)X86_CF) | carry;
		return r;
	case X86_OP_NOT:
		return ~dst & size_mask(size);
	case X86_OP_NEG:
		return sub(size, 0, dst, 0, rflags);
	case X86_OP_SHL:
	case X86_OP_SHR:
	case X86_OP_SAR:
		return shift(alu, dst, rflags);
	case X86_OP_ROL:
	case X86_OP_ROR:
		return rotate(alu, dst, rflags);
	case X86_OP_RCL:
	case X86_OP_RCR:
		return rotate_carry(alu, dst, rflags);
	case X86_OP_SHLD:
	case X86_OP_SHRD:
		return shift_double(alu, dst, rflags);
	case X86_OP_BT:
	case X86_OP_BTS:
	case X86_OP_BTR:
	case X86_OP_BTC:
		bit = BIT(alu->src & (bits_of(size) - 1));
		*rflags =
		    (*rflags & ~(uint64_t)X86_CF) | flag(dst & bit, X86_CF);
		if (alu->id == X86_OP_BTS)
			return dst | bit;
		if (alu->id == X86_OP_BTR)
			return dst & ~bit;
		return alu->id == X86_OP_BTC ? dst ^ bit : dst;
	case X86_OP_CMPXCHG:
		(void)sub(size, alu->acc, dst, 0, rflags);
		return alu->acc == dst ? alu->src : dst;
	default: /* XCHG */
		return alu->src;
	}
}

/* LOCK CMPXCHG on the host: false leaves what was there in *expected. */
static bool
exchange(void *place, unsigned size, uint64_t *expected, uint64_t value)
{
	uint64_t acc = *expected;
	bool done;

	switch (size) {
	case 1:
		__asm__ volatile("lock cmpxchgb %b3, (%2)"
				 : "=@ccz"(done), "+a"(acc)
				 : "r"(place), "q"(value)
				 : "memory");
		break;
	case 2:
		__asm__ volatile("lock cmpxchgw %w3, (%2)"
				 : "=@ccz"(done), "+a"(acc)
				 : "r"(place), "r"(value)
				 : "memory");
		break;
	case 4:
		__asm__ volatile("lock cmpxchgl %k3, (%2)"
				 : "=@ccz"(done), "+a"(acc)
				 : "r"(place), "r"(value)
				 : "memory");
		break;
	default:
		__asm__ volatile("lock cmpxchgq %3, (%2)"
				 : "=@ccz"(done), "+a"(acc)
				 : "r"(place), "r"(value)
				 : "memory");
		break;
	}
	*expected = acc & size_mask(size);
	return done;
}

/*
 * Something done while all other processors stand still.  It may raise: then
 * they must go on before the exception does.
 */
static void
alone(struct x86_cpu *cpu, void (*fn)(struct x86_cpu *cpu, void *arg),
    void *arg)
{
	jmp_buf *outer = cpu->jmp;
	jmp_buf inner;

	x86_fpu_put(cpu);
	cpu->host->exclusive_begin(cpu);
	cpu->jmp = &inner;
	if (_setjmp(inner) != 0) {
		cpu->jmp = outer;
		x86_fpu_put(cpu);
		cpu->host->exclusive_end(cpu);
		_longjmp(*outer, 1);
	}
	fn(cpu, arg);
	cpu->jmp = outer;
	x86_fpu_put(cpu);
	cpu->host->exclusive_end(cpu);
}

struct modify {
	const struct alu *alu;
	uint64_t lin;
	uint64_t old;    /* out: what was in memory */
	uint64_t rflags; /* in and out */
};

static void
modify_plain(struct x86_cpu *cpu, void *arg)
{
	struct modify *m = arg;
	unsigned size = m->alu->size;
	uint64_t rflags = m->rflags;
	uint64_t value;

	m->old = x86_load_rw(cpu, m->lin, size);
	value = compute(m->alu, m->old, &rflags);
	x86_store(cpu, m->lin, size, value);
	m->rflags = rflags;
}

static void
modify_locked(struct x86_cpu *cpu, struct modify *m)
{
	unsigned size = m->alu->size;
	void *place = x86_rmw_ptr(cpu, m->lin, size);
	uint64_t rflags, value;

	if (place == NULL) {
		alone(cpu, modify_plain, m);
		return;
	}
	m->old = x86_peek(place, size);
	do {
		rflags = m->rflags;
		value = compute(m->alu, m->old, &rflags);
	} while (!exchange(place, size, &m->old, value));
	m->rflags = rflags;
	x86_rmw_done(cpu, m->lin, size);
}

/* The linear address of opnd[0]; a bit string's is beyond it. */
static uint64_t
destination(struct x86_cpu *cpu, const struct x86_insn *insn,
    const struct alu *alu, bool write)
{
	uint64_t off = x86_ea(cpu, insn);

	if ((insn->op->attrs & X86_A_BITSTR) &&
	    insn->opnd[1].kind == X86_K_GPR) {
		int64_t bit = x86_sign_extend(alu->src, insn->opnd[1].size);
		unsigned shift = (unsigned)__builtin_ctz(bits_of(alu->size));

		off += (uint64_t)(bit >> shift) * alu->size;
		off &= size_mask(insn->addrsize);
	}
	return x86_address(cpu, insn->seg, off, alu->size, write);
}

/* opnd[0] is read, changed and written back. */
static void
modify(struct x86_cpu *cpu, const struct x86_insn *insn, struct alu *alu)
{
	struct modify m = { .alu = alu, .rflags = cpu->rflags };
	uint64_t value = 0;

	if (insn->opnd[0].kind == X86_K_MEM) {
		m.lin = destination(cpu, insn, alu, true);
		if ((insn->pfx & X86_PFX_LOCK) || alu->id == X86_OP_XCHG)
			modify_locked(cpu, &m);
		else
			modify_plain(cpu, &m);
	} else {
		m.old = x86_get(cpu, insn, 0);
		value = compute(alu, m.old, &m.rflags);
	}

	cpu->rflags = m.rflags;
	if (alu->id == X86_OP_XADD || alu->id == X86_OP_XCHG)
		x86_put(cpu, insn, 1, m.old);
	if (alu->id == X86_OP_CMPXCHG && !(m.rflags & X86_ZF)) {
		/* A register keeps even its upper half. */
		x86_set_gpr(cpu, CPU_RAX, alu->size, m.old);
		return;
	}
	/* After the source: of XADD with one register twice the sum stays. */
	if (insn->opnd[0].kind != X86_K_MEM)
		x86_put(cpu, insn, 0, value);
}

/* CMP, TEST and BT: opnd[0] is only read. */
static void
compare(struct x86_cpu *cpu, const struct x86_insn *insn, const struct alu *alu)
{
	uint64_t dst;

	if (alu->id == X86_OP_BT && insn->opnd[0].kind == X86_K_MEM)
		dst = x86_load(cpu, destination(cpu, insn, alu, false),
		    alu->size);
	else
		dst = x86_get(cpu, insn, 0);
	(void)compute(alu, dst, &cpu->rflags);
}

/* ----------------------------------------------- CMPXCHG8B, CMPXCHG16B */

struct wide {
	uint64_t lin;
	unsigned half;   /* 4 or 8 */
	uint64_t lo, hi; /* expected; then what was there */
	uint64_t new_lo, new_hi;
	bool equal;
};

static void
wide_plain(struct x86_cpu *cpu, void *arg)
{
	struct wide *w = arg;
	/* 16 bytes do not cross a page, 8 may: as one they raise as one. */
	uint64_t all = w->half == 4 ? x86_load_rw(cpu, w->lin, 8) : 0;
	uint64_t lo =
	    w->half == 4 ? all & UINT32_MAX : x86_load_rw(cpu, w->lin, 8);
	uint64_t hi =
	    w->half == 4 ? all >> 32 : x86_load_rw(cpu, w->lin + 8, 8);

	w->equal = lo == w->lo && hi == w->hi;
	if (w->half == 4) {
		x86_store(cpu, w->lin, 8,
		    w->equal ? w->new_hi << 32 | w->new_lo : all);
	} else {
		x86_store(cpu, w->lin, 8, w->equal ? w->new_lo : lo);
		x86_store(cpu, w->lin + 8, 8, w->equal ? w->new_hi : hi);
	}
	w->lo = lo;
	w->hi = hi;
}

static void
wide_locked(struct x86_cpu *cpu, struct wide *w)
{
	void *place = x86_rmw_ptr(cpu, w->lin, w->half * 2);

	if (place == NULL) {
		alone(cpu, wide_plain, w);
		return;
	}
	if (w->half == 4) {
		uint64_t was = w->hi << 32 | w->lo;

		w->equal =
		    exchange(place, 8, &was, w->new_hi << 32 | w->new_lo);
		w->lo = was & UINT32_MAX;
		w->hi = was >> 32;
	} else {
		__asm__ volatile("lock cmpxchg16b (%3)"
				 : "=@ccz"(w->equal), "+a"(w->lo), "+d"(w->hi)
				 : "r"(place), "b"(w->new_lo), "c"(w->new_hi)
				 : "memory");
	}
	x86_rmw_done(cpu, w->lin, w->half * 2);
}

static void
compare_exchange_wide(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned half = insn->opnd[0].size / 2;
	struct wide w = {
		.half = half,
		.lo = x86_gpr(cpu, CPU_RAX, half),
		.hi = x86_gpr(cpu, CPU_RDX, half),
		.new_lo = x86_gpr(cpu, CPU_RBX, half),
		.new_hi = x86_gpr(cpu, CPU_RCX, half),
	};

	if (half == 8) {
		if (!x86_has(cpu, X86_F_CX16))
			x86_raise(cpu, X86_UD);
		if (x86_first_byte(cpu, insn) & 15)
			x86_raise_gp(cpu);
	}
	w.lin = x86_mem_linear(cpu, insn, half * 2, true);
	/* Without LOCK one access is as good as another: always at once. */
	wide_locked(cpu, &w);
	if (w.equal) {
		cpu->rflags |= X86_ZF;
		return;
	}
	cpu->rflags &= ~(uint64_t)X86_ZF;
	x86_set_gpr(cpu, CPU_RAX, half, w.lo);
	x86_set_gpr(cpu, CPU_RDX, half, w.hi);
}

/* -------------------------------------------- multiplication, division */

static void
set_product_flags(struct x86_cpu *cpu, bool overflow)
{
	cpu->rflags &= ~(uint64_t)(X86_CF | X86_OF);
	if (overflow)
		cpu->rflags |= X86_CF | X86_OF;
}

/* The double-width accumulator: AX, DX:AX, EDX:EAX, RDX:RAX. */
static void
set_accumulators(struct x86_cpu *cpu, unsigned size, uint64_t lo, uint64_t hi)
{
	if (size == 1) {
		x86_set_gpr(cpu, CPU_RAX, 2, (lo & 0xff) | hi << 8);
	} else {
		x86_set_gpr(cpu, CPU_RAX, size, lo);
		x86_set_gpr(cpu, CPU_RDX, size, hi);
	}
}

static void
multiply(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned size = insn->opnd[0].size;
	uint64_t a = x86_gpr(cpu, CPU_RAX, size);
	uint64_t b = x86_get(cpu, insn, 0);
	uint64_t lo, hi;

	if (insn->op->id == X86_OP_MUL) {
		unsigned __int128 p = (unsigned __int128)a * b;

		lo = (uint64_t)p & size_mask(size);
		hi = (uint64_t)(p >> bits_of(size)) & size_mask(size);
		set_product_flags(cpu, hi != 0);
	} else {
		__int128 p = (__int128)x86_sign_extend(a, size) *
		    x86_sign_extend(b, size);

		lo = (uint64_t)p & size_mask(size);
		hi = (uint64_t)(p >> bits_of(size)) & size_mask(size);
		set_product_flags(cpu, p != x86_sign_extend(lo, size));
	}
	set_accumulators(cpu, size, lo, hi);
}

/* IMUL with a destination of its own. */
static void
multiply_to(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned size = insn->opnd[0].size;
	bool three = insn->operands == 3;
	uint64_t a = three ? insn->imm : x86_get(cpu, insn, 0);
	uint64_t b = x86_get(cpu, insn, 1);
	__int128 p =
	    (__int128)x86_sign_extend(a, size) * x86_sign_extend(b, size);

	set_product_flags(cpu, p != x86_sign_extend((uint64_t)p, size));
	x86_put(cpu, insn, 0, (uint64_t)p);
}

/* hi:lo / d, whose quotient has 64 bits because hi < d. */
static uint64_t
divide_wide(uint64_t hi, uint64_t lo, uint64_t d, uint64_t *rest)
{
	uint64_t quotient;

	__asm__("divq %4"
		: "=a"(quotient), "=d"(*rest)
		: "a"(lo), "d"(hi), "r"(d)
		: "cc");
	return quotient;
}

static void
divide(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned size = insn->opnd[0].size;
	uint64_t lo = x86_gpr(cpu, CPU_RAX, size);
	uint64_t hi = size == 1 ? (cpu->gpr[CPU_RAX] >> 8) & 0xff :
				  x86_gpr(cpu, CPU_RDX, size);
	uint64_t d = x86_get(cpu, insn, 0);
	bool is_signed = insn->op->id == X86_OP_IDIV;
	bool negative = false, rest_negative = false;
	uint64_t quotient, rest;

	if (is_signed) {
		/* Divide magnitudes; the rest has the dividend's sign. */
		rest_negative = msb(hi, size);
		negative = rest_negative != (bool)msb(d, size);
		if (rest_negative) {
			hi = (~hi + (lo == 0)) & size_mask(size);
			lo = -lo & size_mask(size);
		}
		if (msb(d, size))
			d = -d & size_mask(size);
	}
	if (hi >= d) /* and division by zero */
		x86_raise(cpu, X86_DE);
	if (size == 8) {
		quotient = divide_wide(hi, lo, d, &rest);
	} else {
		uint64_t n = hi << bits_of(size) | lo;

		quotient = n / d;
		rest = n % d;
	}
	if (is_signed && quotient > (size_mask(size) >> 1) + negative)
		x86_raise(cpu, X86_DE);
	if (negative)
		quotient = -quotient & size_mask(size);
	if (rest_negative)
		rest = -rest & size_mask(size);
	cpu->rflags &= ~(uint64_t)(X86_SF | X86_ZF | X86_PF);
	cpu->rflags |= X86_AF;
	set_accumulators(cpu, size, quotient, rest);
}

/* --------------------------------------------------------- bit counting */

static void
scan(struct x86_cpu *cpu, const struct x86_insn *insn, bool forward)
{
	unsigned size = insn->opnd[0].size;
	uint64_t src = x86_get(cpu, insn, 1);
	uint64_t r = 0;

	if (src != 0) {
		r = forward ? (uint64_t)__builtin_ctzll(src) :
			      63 - (uint64_t)__builtin_clzll(src);
		x86_put(cpu, insn, 0, r);
	}
	set_flags(&cpu->rflags,
	    src == 0 ? X86_ZF | X86_PF : flags_of(r, size) & X86_PF);
}

/* TZCNT and LZCNT. */
static void
count_zeros(struct x86_cpu *cpu, const struct x86_insn *insn, bool trailing)
{
	unsigned bits = bits_of(insn->opnd[0].size);
	uint64_t src = x86_get(cpu, insn, 1);
	uint64_t r = bits;

	if (src != 0)
		r = trailing ? (uint64_t)__builtin_ctzll(src) :
			       (uint64_t)__builtin_clzll(src) - (64 - bits);
	x86_put(cpu, insn, 0, r);
	set_flags(&cpu->rflags,
	    flag(src == 0, X86_CF) | flag(r == 0, X86_ZF) |
		(cpu->rflags & X86_OF));
}

static void
count_ones(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t src = x86_get(cpu, insn, 1);
	uint64_t r = 0;

	for (uint64_t left = src; left != 0; left &= left - 1)
		r++;
	x86_put(cpu, insn, 0, r);
	set_flags(&cpu->rflags, flag(src == 0, X86_ZF));
}

static void
crc32(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned bits = bits_of(insn->opnd[1].size);
	uint64_t src = x86_get(cpu, insn, 1);
	uint32_t crc = (uint32_t)x86_get(cpu, insn, 0);

	for (unsigned i = 0; i < bits; i++) {
		bool out = (crc ^ (src >> i)) & 1;

		crc = crc >> 1 ^ (out ? CRC32C : 0);
	}
	x86_put(cpu, insn, 0, crc);
}

/* ------------------------------------------------------- BMI and ADX */

/* ADCX and ADOX: a chain through one flag that leaves all others. */
static void
add_chain(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t chain)
{
	unsigned size = insn->opnd[0].size;
	uint64_t a = x86_get(cpu, insn, 0), b = x86_get(cpu, insn, 1);
	uint64_t flags = 0;
	uint64_t r = add(size, a, b, (cpu->rflags & chain) != 0, &flags);

	cpu->rflags = (cpu->rflags & ~chain) | flag(flags & X86_CF, chain);
	x86_put(cpu, insn, 0, r);
}

/* The low n bits of a value. */
static uint64_t
low_bits(uint64_t value, unsigned n)
{
	return n < 64 ? value & (BIT(n) - 1) : value;
}

static uint64_t
deposit(uint64_t src, uint64_t mask)
{
	uint64_t r = 0;

	for (; mask != 0; mask &= mask - 1, src >>= 1)
		r |= src & 1 ? mask & -mask : 0;
	return r;
}

static uint64_t
extract(uint64_t src, uint64_t mask)
{
	uint64_t r = 0;

	for (unsigned i = 0; mask != 0; mask &= mask - 1, i++)
		r |= src & mask & -mask ? BIT(i) : 0;
	return r;
}

/* opnd[0] is computed from opnd[1] and, but for BLSx, opnd[2]. */
static void
bmi(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned id = insn->op->id, size = insn->opnd[0].size;
	unsigned bits = bits_of(size), n;
	uint64_t a = x86_get(cpu, insn, 1), b = 0, r, flags = 0;

	if (insn->operands > 2)
		b = x86_get(cpu, insn, 2);
	n = (unsigned)b & (bits - 1); /* of shifts */
	switch (id) {
	case X86_OP_ANDN:
		r = ~a & b;
		break;
	case X86_OP_BLSI:
		r = a & -a;
		flags = flag(a != 0, X86_CF);
		break;
	case X86_OP_BLSMSK:
		r = (a ^ (a - 1)) & size_mask(size);
		flags = flag(a == 0, X86_CF);
		break;
	case X86_OP_BLSR:
		r = a & (a - 1);
		flags = flag(a == 0, X86_CF);
		break;
	case X86_OP_BEXTR:
		n = b & 0xff;
		r = n < bits ? low_bits(a >> n, (b >> 8) & 0xff) : 0;
		flags = X86_AF;
		break;
	case X86_OP_BZHI:
		n = b & 0xff;
		r = low_bits(a, n);
		flags = flag(n >= bits, X86_CF);
		break;
	case X86_OP_PDEP:
		r = deposit(a, b);
		break;
	case X86_OP_PEXT:
		r = extract(a, b);
		break;
	case X86_OP_RORX:
		r = n != 0 ? a >> n | a << (bits - n) : a;
		break;
	case X86_OP_SARX:
		r = (uint64_t)(x86_sign_extend(a, size) >> n);
		break;
	case X86_OP_SHLX:
		r = a << n;
		break;
	default: /* SHRX */
		r = a >> n;
		break;
	}
	r &= size_mask(size);
	if (id == X86_OP_BEXTR)
		flags |= flags_of(r, size) & ~(uint64_t)X86_SF;
	else
		flags |= flags_of(r, size);
	if (insn->op->flags_written != 0)
		set_flags(&cpu->rflags, flags);
	x86_put(cpu, insn, 0, r);
}

static void
mulx(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned size = insn->opnd[0].size;
	unsigned __int128 p = (unsigned __int128)x86_gpr(cpu, CPU_RDX, size) *
	    x86_get(cpu, insn, 2);

	/* One register for both gets the upper half. */
	x86_put(cpu, insn, 1, (uint64_t)p);
	x86_put(cpu, insn, 0, (uint64_t)(p >> bits_of(size)));
}

/* ------------------------------------------------- decimal adjustment */

/* The flags of the sum or difference, but for the two that are digits' own. */
static void
adjusted(struct x86_cpu *cpu, bool cf, bool af)
{
	cpu->rflags &= ~(uint64_t)(X86_CF | X86_AF);
	cpu->rflags |= flag(cf, X86_CF) | flag(af, X86_AF);
}

/* DAA and DAS. */
static void
adjust_packed(struct x86_cpu *cpu, bool sum)
{
	uint64_t al = x86_gpr(cpu, CPU_RAX, 1), by = 0, r;
	bool low = (al & 0xf) > 9 || (cpu->rflags & X86_AF);
	bool high = al > 0x99 || (cpu->rflags & X86_CF);

	if (low)
		by = 6;
	if (high)
		by += 0x60;
	r = (sum ? add : sub)(1, al, by, 0, &cpu->rflags);
	x86_set_gpr(cpu, CPU_RAX, 1, r);
	/* DAS: the lower digit alone may borrow, too. */
	adjusted(cpu, high || (!sum && low && al < 6), low);
}

/* AAA and AAS: the flags are those of AX. */
static void
adjust_unpacked(struct x86_cpu *cpu, bool sum)
{
	uint64_t ax = x86_gpr(cpu, CPU_RAX, 2), r;
	bool carry = (ax & 0xf) > 9 || (cpu->rflags & X86_AF);

	r = (sum ? add : sub)(2, ax, carry ? 0x106 : 0, 0, &cpu->rflags);
	x86_set_gpr(cpu, CPU_RAX, 2, r & 0xff0f);
	adjusted(cpu, carry, carry);
}

/* AAM and AAD: an immediate for a base. */
static void
adjust_product(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t base = insn->imm & 0xff;
	uint64_t al = x86_gpr(cpu, CPU_RAX, 1);

	if (base == 0)
		x86_raise(cpu, X86_DE);
	x86_set_gpr(cpu, CPU_RAX, 2, (al / base) << 8 | al % base);
	set_flags(&cpu->rflags, flags_of(al % base, 1));
}

static void
adjust_dividend(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	uint64_t ax = x86_gpr(cpu, CPU_RAX, 2);
	uint64_t high = ((ax >> 8) * (insn->imm & 0xff)) & 0xff;

	x86_set_gpr(cpu, CPU_RAX, 2, add(1, ax & 0xff, high, 0, &cpu->rflags));
}

/* -------------------------------------------------------------- dispatch */

void
x86_exec_alu(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	struct alu alu = {
		.id = insn->op->id,
		.size = insn->opnd[0].size,
	};

	switch (insn->op->id) {
	case X86_OP_CMP:
	case X86_OP_TEST:
	case X86_OP_BT:
		alu.src = x86_get(cpu, insn, 1) & size_mask(alu.size);
		compare(cpu, insn, &alu);
		break;
	case X86_OP_INC:
	case X86_OP_DEC:
	case X86_OP_NOT:
	case X86_OP_NEG:
		modify(cpu, insn, &alu);
		break;
	case X86_OP_ROL:
	case X86_OP_ROR:
	case X86_OP_RCL:
	case X86_OP_RCR:
	case X86_OP_SHL:
	case X86_OP_SHR:
	case X86_OP_SAR:
		alu.count = x86_get(cpu, insn, 1);
		modify(cpu, insn, &alu);
		break;
	case X86_OP_SHLD:
	case X86_OP_SHRD:
		alu.src = x86_get(cpu, insn, 1);
		alu.count = x86_get(cpu, insn, 2);
		modify(cpu, insn, &alu);
		break;
	case X86_OP_CMPXCHG:
		alu.acc = x86_gpr(cpu, CPU_RAX, alu.size);
		/* fallthrough */
	default:
		alu.src = x86_get(cpu, insn, 1) & size_mask(alu.size);
		modify(cpu, insn, &alu);
		break;
	case X86_OP_MUL:
	case X86_OP_IMUL1:
		multiply(cpu, insn);
		break;
	case X86_OP_IMUL:
		multiply_to(cpu, insn);
		break;
	case X86_OP_DIV:
	case X86_OP_IDIV:
		divide(cpu, insn);
		break;
	case X86_OP_BSF:
	case X86_OP_BSR:
		scan(cpu, insn, insn->op->id == X86_OP_BSF);
		break;
	case X86_OP_TZCNT:
		if (x86_has(cpu, X86_F_BMI1))
			count_zeros(cpu, insn, true);
		else
			scan(cpu, insn, true);
		break;
	case X86_OP_LZCNT:
		if (x86_has(cpu, X86_F_LZCNT))
			count_zeros(cpu, insn, false);
		else
			scan(cpu, insn, false);
		break;
	case X86_OP_POPCNT:
		count_ones(cpu, insn);
		break;
	case X86_OP_CRC32:
		crc32(cpu, insn);
		break;
	case X86_OP_ADCX:
		add_chain(cpu, insn, X86_CF);
		break;
	case X86_OP_ADOX:
		add_chain(cpu, insn, X86_OF);
		break;
	case X86_OP_ANDN:
	case X86_OP_BEXTR:
	case X86_OP_BLSI:
	case X86_OP_BLSMSK:
	case X86_OP_BLSR:
	case X86_OP_BZHI:
	case X86_OP_PDEP:
	case X86_OP_PEXT:
	case X86_OP_RORX:
	case X86_OP_SARX:
	case X86_OP_SHLX:
	case X86_OP_SHRX:
		bmi(cpu, insn);
		break;
	case X86_OP_MULX:
		mulx(cpu, insn);
		break;
	case X86_OP_CMPXCHG8B:
		compare_exchange_wide(cpu, insn);
		break;
	case X86_OP_DAA:
	case X86_OP_DAS:
		adjust_packed(cpu, insn->op->id == X86_OP_DAA);
		break;
	case X86_OP_AAA:
	case X86_OP_AAS:
		adjust_unpacked(cpu, insn->op->id == X86_OP_AAA);
		break;
	case X86_OP_AAM:
		adjust_product(cpu, insn);
		break;
	case X86_OP_AAD:
		adjust_dividend(cpu, insn);
		break;
	}
}
