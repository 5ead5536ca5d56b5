/*
 * Translated instructions: every register as every operand, memory in all its
 * forms.
 *
 * Each piece of code runs in four ways: translated, without links, with only
 * jumps and stack translated, interpreted.  All must agree, and where the
 * result is easy to say, it is compared with that too.  The registers that
 * matter are those without a place of their own in translated code: R12 to R15,
 * rCX, rSP (translate.c, stubs.c).
 */
#include "engine/jit/jit_rig.h"

#define CF 0x001u
#define PF 0x004u
#define AF 0x010u
#define ZF 0x040u
#define SF 0x080u
#define OF 0x800u

#define NONE 16u /* base or index: none */

static uint64_t
random64(void)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* -------------------------------------------------------- writing code out */

struct code {
	uint8_t bytes[64];
	size_t len;
};

static void
byte(struct code *code, unsigned value)
{
	code->bytes[code->len++] = (uint8_t)value;
}

static void
word32(struct code *code, uint32_t value)
{
	memcpy(code->bytes + code->len, &value, sizeof(value));
	code->len += sizeof(value);
}

static void
opcode(struct code *code, unsigned op)
{
	if (op > 0xffff)
		byte(code, op >> 16);
	if (op > 0xff)
		byte(code, op >> 8 & 0xff);
	byte(code, op & 0xff);
}

static void
done(struct code *code)
{
	byte(code, 0xe6); /* out 0xf4, al */
	byte(code, RIG_DONE);
}

static void
rex(struct code *code, unsigned size, unsigned reg, unsigned index,
    unsigned base)
{
	if (size == 2)
		byte(code, 0x66);
	byte(code,
	    0x40 | (size == 8) << 3 | (reg >> 3 & 1) << 2 |
		(index >> 3 & 1) << 1 | (base >> 3 & 1));
}

/* ModRM, SIB and a displacement of 32 bits. */
static void
address(struct code *code, unsigned reg, unsigned base, unsigned index,
    unsigned scale, int32_t disp)
{
	unsigned mod = base == NONE ? 0 : 2;

	byte(code, mod << 6 | (reg & 7) << 3 | 4);
	byte(code,
	    scale << 6 | (index == NONE ? 4 : (index & 7)) << 3 |
		(base == NONE ? 5 : (base & 7)));
	word32(code, (uint32_t)disp);
}

static uint64_t
merged(uint64_t old, uint64_t value, unsigned size)
{
	if (size >= 4)
		return value & size_mask(size);
	return (old & ~size_mask(size)) | (value & size_mask(size));
}

static void
expect(const char *what, unsigned n, uint64_t is, uint64_t want)
{
	if (is != want)
		fail_msg("%s %u is 0x%llx, not 0x%llx", what, n,
		    (unsigned long long)is, (unsigned long long)want);
}

/* Nothing went to the interpreter but the OUT at the end. */
static void
expect_native(const struct rig_set *set)
{
	expect("instructions interpreted", 0, set->interpreted, 1);
}

static void
expect_gprs(const struct cpu_state *is, const uint64_t *want)
{
	for (unsigned r = 0; r < CPU_GPRS; r++)
		expect("register", r, is->gpr[r], want[r]);
}

/* ---------------------------------------------------------- memory operands */

enum mem_op {
	LOAD,
	STORE,
	ADD_LOAD,
	ADD_STORE,
	XCHG,
	XADD,
	LEA,
	MOVZX,
	MEM_OPS
};

static const unsigned mem_opcodes[MEM_OPS][2] = {
	[LOAD] = { 0x8a, 0x8b },
	[STORE] = { 0x88, 0x89 },
	[ADD_LOAD] = { 0x02, 0x03 },
	[ADD_STORE] = { 0x00, 0x01 },
	[XCHG] = { 0x86, 0x87 },
	[XADD] = { 0x0fc0, 0x0fc1 },
	[LEA] = { 0x8d, 0x8d },
	[MOVZX] = { 0x0fb6, 0x0fb6 },
};

/* reg and the memory value after op. */
static void
mem_op_model(enum mem_op op, unsigned size, uint64_t lin, uint64_t *reg,
    uint64_t *mem)
{
	uint64_t r = *reg, m = *mem;

	switch (op) {
	case LOAD:
		*reg = merged(r, m, size);
		break;
	case STORE:
		*mem = (m & ~size_mask(size)) | (r & size_mask(size));
		break;
	case ADD_LOAD:
		*reg = merged(r, r + m, size);
		break;
	case ADD_STORE:
		*mem = (m & ~size_mask(size)) | ((r + m) & size_mask(size));
		break;
	case XCHG:
		*reg = merged(r, m, size);
		*mem = (m & ~size_mask(size)) | (r & size_mask(size));
		break;
	case XADD:
		*reg = merged(r, m, size);
		*mem = (m & ~size_mask(size)) | ((r + m) & size_mask(size));
		break;
	case LEA:
		*reg = merged(r, lin, size);
		break;
	case MOVZX:
		*reg = merged(r, m & 0xff, size);
		break;
	case MEM_OPS:
		break;
	}
}

static void
check_operand(struct rig_set *set, const struct cpu_state *template,
    unsigned base, unsigned index, unsigned reg, unsigned turn)
{
	enum mem_op op = turn % MEM_OPS;
	unsigned size = 1u << (turn / MEM_OPS % 4),
		 scale = (unsigned)random64() % 4;
	unsigned at = (unsigned)random64() % (RIG_DATA_SIZE - 8);
	uint64_t lin = RIG_DATA + at, mem;
	struct cpu_state cpu = *template;
	struct code code = { .len = 0 };
	struct rig_end end;
	int32_t disp = (int32_t)random64() >> (random64() % 32);

	if (index == NONE)
		scale = 0;
	if ((op == LEA || op == MOVZX) && size == 1)
		size = 4;
	if (base != NONE && base != index && turn % 2 == 0)
		lin += RIG_HIGH + GIB; /* cut to 32 bits: elsewhere */
	/* Registers so that the address is lin. */
	if (index != NONE)
		cpu.gpr[index] = (uint64_t)((int64_t)random64() >> 44);
	if (base == NONE)
		disp = (int32_t)(lin -
		    (index != NONE ? cpu.gpr[index] << scale : 0));
	else if (base == index)
		disp =
		    (int32_t)(lin - cpu.gpr[base] - (cpu.gpr[base] << scale));
	else
		cpu.gpr[base] = lin - (uint64_t)(int64_t)disp -
		    (index != NONE ? cpu.gpr[index] << scale : 0);

	rex(&code, size, reg, index == NONE ? 0 : index,
	    base == NONE ? 0 : base);
	opcode(&code, mem_opcodes[op][size != 1]);
	address(&code, reg, base, index, scale, disp);
	done(&code);
	mem = rig_data64(set, at);
	rig_compare_done(set, code.bytes, code.len, &cpu, &end);
	mem_op_model(op, size, lin, &cpu.gpr[reg], &mem);
	if (lin % MEM_PAGE_SIZE <= MEM_PAGE_SIZE - 8 &&
	    (op != LEA || size != 2)) /* that one is seldom */
		expect_native(set);
	expect_gprs(&end.cpu, cpu.gpr);
	expect("memory", at, rig_data64(set, at), mem);
}

static void
memory_operands_of_all_registers(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state template;
	unsigned turn = 0;

	rig_set_begin(set, 64, &template);
	for (unsigned base = 0; base <= 16; base++) {
		for (unsigned index = 0; index <= 16; index++) {
			if (index == CPU_RSP)
				continue;
			for (unsigned reg = 0; reg < 16; reg += 2) {
				unsigned n = reg + (turn / 8 + base) % 2;

				check_operand(set, &template, base, index, n,
				    turn++ * 5 + index);
			}
		}
	}
}

/* ------------------------------------------------------- register operands */

static void
pairs_of_registers(void **state)
{
	static const struct {
		unsigned op; /* op r/m, reg */
		uint64_t flags;
	} ops[] = {
		{ 0x01, RIG_ARITH },   /* add */
		{ 0x87, RIG_ARITH },   /* xchg */
		{ 0x89, RIG_ARITH },   /* mov */
		{ 0x0fc1, RIG_ARITH }, /* xadd */
		{ 0x0fb1, RIG_ARITH }, /* cmpxchg */
		{ 0x0faf, CF | OF },   /* imul */
		{ 0x0fa5, 0 },         /* shld cl */
		{ 0x0f45, RIG_ARITH }, /* cmovne */
		{ 0x0fa3, CF },        /* bt */
		{ 0x19, RIG_ARITH },   /* sbb */
	};
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	for (unsigned i = 0; i < 16 * 16 * 10; i++) {
		unsigned rm = i % 16, reg = i / 16 % 16, op = i / 256;
		unsigned size = 2u << (rm + reg + op) % 3;
		struct code code = { .len = 0 };
		uint64_t a = cpu.gpr[rm], b = cpu.gpr[reg], want[CPU_GPRS];

		rex(&code, size, reg, 0, rm);
		opcode(&code, ops[op].op);
		byte(&code, 0xc0 | (reg & 7) << 3 | (rm & 7));
		done(&code);
		set->flags = ops[op].flags;
		rig_compare_done(set, code.bytes, code.len, &cpu, &end);
		expect_native(set);
		if (op > 3)
			continue;
		memcpy(want, cpu.gpr, sizeof(want));
		if (op == 1 || op == 3)
			want[reg] = merged(b, a, size);
		want[rm] =
		    merged(want[rm], op == 0 || op == 3 ? a + b : b, size);
		expect_gprs(&end.cpu, want);
	}
}

/* VEX.map2 with three registers, or a memory operand in the place of rm. */
static void
vex3(struct code *code, unsigned pp, unsigned op, unsigned reg, unsigned vvvv,
    unsigned rm, bool mem)
{
	byte(code, 0xc4);
	byte(code,
	    (~(reg >> 3) & 1) << 7 | 0x40 | (mem ? 1 : ~(rm >> 3) & 1) << 5 |
		2);
	byte(code, 0x80 | (~vvvv & 15) << 3 | pp);
	byte(code, op);
	if (mem)
		address(code, reg, NONE, NONE, 0, RIG_DATA + 16);
	else
		byte(code, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static void
three_registers(void **state)
{
	static const uint8_t regs[] = { CPU_R12, CPU_R13, CPU_R14, CPU_R15,
		CPU_RCX, CPU_RSP, CPU_RDX };
	enum { N = ARRAY_SIZE(regs) };
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	for (unsigned i = 0; i < N * N * N * 4; i++) {
		unsigned reg = regs[i % N], vvvv = regs[i / N % N];
		unsigned rm = regs[i / N / N % N], op = i / N / N / N % 2;
		bool mem = i / N / N / N / 2;
		uint64_t source = mem ? rig_data64(set, 16) : cpu.gpr[rm];
		struct code code = { .len = 0 };
		uint64_t want[CPU_GPRS];

		memcpy(want, cpu.gpr, sizeof(want));
		if (op == 0) { /* mulx reg, vvvv, rm */
			unsigned __int128 product =
			    (unsigned __int128)cpu.gpr[CPU_RDX] * source;

			vex3(&code, 3, 0xf6, reg, vvvv, rm, mem);
			want[vvvv] = (uint64_t)product;
			want[reg] = (uint64_t)(product >> 64);
		} else { /* andn reg, vvvv, rm */
			vex3(&code, 0, 0xf2, reg, vvvv, rm, mem);
			want[reg] = ~cpu.gpr[vvvv] & source;
			set->flags = CF | OF | SF | ZF;
		}
		done(&code);
		rig_compare_done(set, code.bytes, code.len, &cpu, &end);
		expect_native(set);
		expect_gprs(&end.cpu, want);
	}
}

static uint64_t *
byte_register(uint64_t *gpr, unsigned n, unsigned *shift)
{
	*shift = n >= 4 ? 8 : 0;
	return &gpr[n % 4];
}

/* AH and its like with each of them, and with memory at each base. */
static void
high_bytes(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	for (unsigned i = 0; i < 8 * 8 * 4; i++) {
		static const unsigned ops[] = { 0x88, 0x00, 0x86, 0x10 };
		unsigned to = i % 8, from = i / 8 % 8, op = ops[i / 64];
		struct code code = { .len = 0 };
		uint64_t want[CPU_GPRS], *reg;
		unsigned to_shift, from_shift;
		uint64_t a, b;

		byte(&code, op);
		byte(&code, 0xc0 | from << 3 | to);
		done(&code);
		rig_compare_done(set, code.bytes, code.len, &cpu, &end);
		memcpy(want, cpu.gpr, sizeof(want));
		a = *byte_register(want, to, &to_shift) >> to_shift & 0xff;
		b = *byte_register(want, from, &from_shift) >> from_shift &
		    0xff;
		if (op == 0x86) {
			reg = byte_register(want, from, &from_shift);
			*reg =
			    (*reg & ~(0xffULL << from_shift)) | a << from_shift;
		}
		if (op == 0x00)
			b = (a + b) & 0xff;
		if (op != 0x10) { /* adc: as the others say */
			reg = byte_register(want, to, &to_shift);
			*reg = (*reg & ~(0xffULL << to_shift)) | b << to_shift;
			expect_gprs(&end.cpu, want);
		}
	}
	for (unsigned i = 0; i < 8 * 8 * 3; i++) {
		static const unsigned ops[] = { 0x8a, 0x88, 0x00 };
		unsigned base = i % 8, reg = i / 8 % 8, op = ops[i / 64];
		struct cpu_state at = cpu;
		struct code code = { .len = 0 };

		at.gpr[base] = RIG_DATA + 0x10 * i;
		byte(&code, op);
		address(&code, reg, base, NONE, 0, 3);
		done(&code);
		rig_compare_done(set, code.bytes, code.len, &at, &end);
		if (op == 0x8a && reg % 4 != base)
			assert_int_equal((end.cpu.gpr[reg % 4] >>
					     (reg >= 4 ? 8 : 0)) &
				0xff,
			    set->data[0x10 * i + 3]);
	}
}

/* The count must be in CL; the operand may be anywhere. */
static void
shifts_by_cl(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	for (unsigned i = 0; i < 16 * 8 * 3; i++) {
		unsigned reg = i % 16, kind = i / 16 % 8, form = i / 128;
		static const unsigned counts[] = { 0, 1, 7, 31, 63, 64 + 5 };
		unsigned count = counts[i % 6];
		struct code code = { .len = 0 };
		struct cpu_state at = cpu;

		at.gpr[CPU_RCX] = (at.gpr[CPU_RCX] & ~0xffULL) | count;
		if (form == 0) { /* rol ror rcl rcr shl shr sal sar r, cl */
			rex(&code, 8, 0, 0, reg);
			byte(&code, 0xd3);
			byte(&code, 0xc0 | kind << 3 | (reg & 7));
		} else if (form == 1) { /* the same of [r + disp] */
			if (reg == CPU_RCX)
				continue;
			at.gpr[reg] = RIG_DATA + 0x20;
			rex(&code, 8, 0, 0, reg);
			byte(&code, 0xd3);
			address(&code, kind, reg, NONE, 0, 8);
		} else { /* shld or shrd [r13], r, cl */
			at.gpr[CPU_R13] = RIG_DATA + 0x40;
			rex(&code, 8, reg, 0, CPU_R13);
			opcode(&code, kind % 2 ? 0x0fa5 : 0x0fad);
			address(&code, reg, CPU_R13, NONE, 0, 0);
		}
		done(&code);
		/* OF only for counts of 1, AF never; the rest if there is one */
		set->flags =
		    count == 1 ? CF | PF | ZF | SF | OF : CF | PF | ZF | SF;
		if (count == 0)
			set->flags = RIG_ARITH;
		rig_compare_done(set, code.bytes, code.len, &at, &end);
		if (form == 0 && kind == 4 && reg != CPU_RCX)
			expect("shl", reg, end.cpu.gpr[reg],
			    at.gpr[reg] << (count & 63));
	}
}

/* Bits of a string of bits lie beyond the operand. */
RIG_ASM(bits_code, 64,
    "bts [r12], r13\n setc al\n btr [r12 + 8], rcx\n setc ah\n"
    "lock btc [r12], r14d\n bt [r12], r15\n setc bl\n"
    "bts word ptr [r12], dx\n btc dword ptr [r12 + 4], 37" DONE);

static void
bit_strings(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_R12] = RIG_DATA + 0x1000;
	cpu.gpr[CPU_R13] = 0x1003;
	cpu.gpr[CPU_RCX] = -0x802ULL;
	cpu.gpr[CPU_R14] = (uint32_t)-0x1001;
	cpu.gpr[CPU_R15] = 0x1003;
	cpu.gpr[CPU_RDX] = 0x8001;
	set->data[0x1000 + 0x200] = 0x01;
	set->flags = CF;
	RIG_COMPARE_DONE(set, bits_code, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_RAX] & 0xff, 0);
	assert_int_equal(end.cpu.gpr[CPU_RBX] & 0xff, 1);
	assert_int_equal(set->data[0x1000 + 0x200], 0x09);
	/* It is there that the page is looked at. */
	cpu.gpr[CPU_R13] = (RIG_HOLE - cpu.gpr[CPU_R12]) * 8 + 5;
	RIG_COMPARE(set, bits_code, &cpu, &end);
	assert_int_equal(end.vector, 14);
	assert_int_equal(end.cr2, RIG_HOLE);
}

/* ------------------------------------------------- registers that are fixed */

RIG_ASM(cx16_code, 64,
    "lock cmpxchg16b [r12 + r13*2]\n"
    "mov r14, rcx\n"
    "setz r15b" DONE);

static void
cmpxchg16b_needs_rcx_in_place(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned equal = 0; equal < 2; equal++) {
		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_R12] = RIG_DATA;
		cpu.gpr[CPU_R13] = 0x10;
		cpu.gpr[CPU_RAX] = rig_data64(set, 0x20);
		cpu.gpr[CPU_RDX] = rig_data64(set, 0x28) + 1 - equal;
		RIG_COMPARE_DONE(set, cx16_code, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_R15] & 0xff, equal);
		assert_int_equal(end.cpu.gpr[CPU_R14], cpu.gpr[CPU_RCX]);
		assert_int_equal(rig_data64(set, 0x28),
		    equal ? cpu.gpr[CPU_RCX] : cpu.gpr[CPU_RDX] - 1);
		assert_int_equal(end.cpu.gpr[CPU_RDX],
		    cpu.gpr[CPU_RDX] - 1 + equal);
	}
}

RIG_ASM(fixed_code, 64,
    "mul r12\n"
    "mov [r13], rax\n mov [r13 + 8], rdx\n"
    "xor edx, edx\n div rcx\n"
    "mov [r13 + 16], rax\n mov [r13 + 24], rdx\n"
    "cqo\n idiv qword ptr [r13 + rbx*8 + 32]\n"
    "mov [r13 + 40], rax\n mov [r13 + 48], rdx\n"
    "mov al, 0x81\n imul r14b\n mov [r13 + 56], ax\n"
    "imul r15, [r13 + 40], -3\n"
    "cmpxchg [r13 + 64], r15\n"
    "cmpxchg r14, r12\n"
    "cmpxchg8b [r13 + 72]\n"
    "xchg rax, r12\n xchg r13, rax\n xchg r13, rax\n"
    "bswap r14\n movsx r15, r12b\n movzx ecx, r14w\n movsxd r12, ecx\n"
    "lahf\n sahf\n cbw\n cwde\n cdqe" DONE);

static void
fixed_registers(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;
	unsigned __int128 product;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_R13] = RIG_DATA + 0x80;
	cpu.gpr[CPU_RBX] = 1;
	cpu.gpr[CPU_RCX] = 12345;
	rig_set_data64(set, 0x80 + 40, 77);
	product = (unsigned __int128)cpu.gpr[CPU_RAX] * cpu.gpr[CPU_R12];
	set->flags = 0; /* those of divisions are not defined */
	RIG_COMPARE_DONE(set, fixed_code, &cpu, &end);
	assert_int_equal(rig_data64(set, 0x80), (uint64_t)product);
	assert_int_equal(rig_data64(set, 0x88), (uint64_t)(product >> 64));
	assert_int_equal(rig_data64(set, 0x90), (uint64_t)product / 12345);
	assert_int_equal(rig_data64(set, 0x98), (uint64_t)product % 12345);
}

RIG_ASM(vector_code, 64,
    "movq xmm0, r12\n pinsrq xmm0, r13, 1\n"
    "movaps [r14], xmm0\n"
    "pextrq r15, xmm0, 1\n mov [r14 + 16], r15\n"
    "cvtsi2sd xmm1, r12\n movsd [r14 + 24], xmm1\n"
    "cvttsd2si rcx, xmm1\n mov [r14 + 32], rcx\n"
    "cvttsd2si rsp, [r14 + 24]\n mov [r14 + 40], rsp\n"
    "pmovmskb r13d, xmm0\n mov [r14 + 48], r13\n"
    "vmovups ymm2, [r14 + rbx*4 + 1]\n"
    "vpaddb ymm3, ymm2, [r14 + 3]\n vmovups [r14 + 64], ymm3\n"
    "vpextrd [r14 + 96], xmm3, 2\n"
    "mov eax, 7\n mov edx, 9\n pcmpestri xmm2, [r14], 0xc\n"
    "mov [r14 + 104], rcx\n"
    "movnti [r14 + 112], r12\n"
    "crc32 r12, byte ptr [r14 + 3]\n crc32 r13d, cl\n"
    "popcnt r15, rcx\n tzcnt rcx, r15\n lzcnt rsp, [r14]\n"
    "movbe r15d, [r14 + 5]\n movbe [r14 + 120], r12w" DONE);

static void
vectors_and_general_registers(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_R14] = RIG_DATA + 0x200;
	cpu.gpr[CPU_RBX] = 5;
	RIG_COMPARE_DONE(set, vector_code, &cpu, &end);
	expect_native(set);
	assert_int_equal(rig_data64(set, 0x200), cpu.gpr[CPU_R12]);
	assert_int_equal(rig_data64(set, 0x208), cpu.gpr[CPU_R13]);
	assert_int_equal(rig_data64(set, 0x210), cpu.gpr[CPU_R13]);
	assert_int_equal(rig_data64(set, 0x220), rig_data64(set, 0x228));
}

RIG_ASM(x87_code, 64,
    "fld qword ptr [r12]\n fld tbyte ptr [r12 + 16]\n fadd st, st(1)\n"
    "fild qword ptr [r13 + r14*8]\n fmulp\n fistp qword ptr [r12 + 32]\n"
    "fstp tbyte ptr [r12 + 48]\n fnstsw ax\n fnstcw [r12 + 64]\n"
    "movd mm3, r15d\n paddw mm3, [r12 + 8]\n movq [r12 + 72], mm3\n"
    "emms" DONE);

static void
x87_and_mmx(void **state)
{
	static const double value = 1.5;
	static const long double more = 2.25L;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_R12] = RIG_DATA + 0x100;
	cpu.gpr[CPU_R13] = RIG_DATA + 0x80;
	cpu.gpr[CPU_R14] = 3;
	memcpy(set->data + 0x100, &value, sizeof(value));
	memcpy(set->data + 0x110, &more, 10);
	rig_set_data64(set, 0x98, 4);
	RIG_COMPARE_DONE(set, x87_code, &cpu, &end);
	expect_native(set);
	assert_int_equal(rig_data64(set, 0x120), 15); /* (1.5 + 2.25) * 4 */
}

/* -------------------------------------------------------- kinds of address */

RIG_ASM(rip_code, 64,
    "lea rax, [rip + 0x123]\n"
    "lea r12, [rip - 0x11223]\n"
    "lea ecx, [rip]\n"
    ".byte 0x67\n lea r13, [rip + 8]\n" /* of eip */
    "mov r14, [rip + 0xf0000]\n"        /* within the data */
    "mov [rip + 0xf0100], r14\n"
    "add dword ptr [rip + 0xf0000], 0x12345678\n" /* imm comes after */
    "jmp 1f\n .fill 4000\n"                       /* on the next page, too */
    "1: lea rbx, [rip + 1]\n mov r15, [rip + 0xef000]\n"
    "mov [rip + 0xef100], r15" DONE);

static void
relative_to_rip(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	RIG_COMPARE_DONE(set, rip_code, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_RAX], RIG_CODE + 7 + 0x123);
	assert_int_equal(end.cpu.gpr[CPU_R12],
	    (uint64_t)RIG_CODE + 14 - 0x11223);
	assert_int_equal(end.cpu.gpr[CPU_RCX], RIG_CODE + 20);
	assert_int_equal(end.cpu.gpr[CPU_R13], RIG_CODE + 28 + 8);
}

RIG_ASM(segment_code, 64,
    "mov rax, fs:[0x10]\n"
    "mov r12, gs:[r13 + 0x18]\n"
    "mov fs:[r14 + r15*8 + 0x20], r12\n"
    "add gs:[0x28], rcx\n"
    ".byte 0x64\n lea rbx, [rsi + 1]\n"           /* no base is added */
    "mov rdx, ds:[rdi]\n mov cs:[rdi + 8], rdx\n" /* nor here */
    "mov ebp, fs:[edi]\n" /* cut to 32 bits, then the base */
    "push qword ptr gs:[0x30]\n pop r8" DONE);

static void
segment_bases(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint64_t first;

	rig_set_begin(set, 64, &cpu);
	cpu.seg[CPU_FS].base = RIG_DATA + 0x100;
	cpu.seg[CPU_GS].base = (uint64_t)RIG_DATA - 0x7f0000000000;
	cpu.gpr[CPU_R13] = 0x7f0000000000;
	cpu.gpr[CPU_R14] = 0x20;
	cpu.gpr[CPU_R15] = 2;
	cpu.seg[CPU_DS].base = cpu.seg[CPU_CS].base = 0x1000;
	cpu.gpr[CPU_RDI] = RIG_DATA + 0x300;
	rig_set_data64(set, 0x318, 0x55);
	first = rig_data64(set, 0x110);
	/* gs:[0x28] is far away. */
	RIG_COMPARE(set, segment_code, &cpu, &end);
	assert_int_equal(end.vector, 14);
	assert_int_equal(end.cr2, cpu.seg[CPU_GS].base + 0x28);
	assert_int_equal(end.cpu.gpr[CPU_RAX], first);

	rig_set_begin(set, 64, &end.cpu);
	rig_set_data64(set, 0x230, 0xabcd);
	cpu.seg[CPU_GS].base = RIG_DATA + 0x200;
	cpu.gpr[CPU_R13] = 0;
	cpu.seg[CPU_FS].base = RIG_DATA;
	cpu.gpr[CPU_RDI] = 0xffffffff00000400;
	RIG_COMPARE(set, segment_code, &cpu, &end);
	assert_int_equal(end.vector, 14); /* [rdi], in the end */
	assert_int_equal(end.cr2, cpu.gpr[CPU_RDI]);
	assert_int_equal(end.cpu.gpr[CPU_RBX], cpu.gpr[CPU_RSI] + 1);

	/* fs:[0x10] is at the bottom of memory now; EDI's sum is not cut. */
	cpu.gpr[CPU_RDI] = RIG_DATA + 0x400;
	cpu.seg[CPU_FS].base = RIG_HIGH + GIB + 0x100;
	cpu.gpr[CPU_R14] = RIG_DATA;
	RIG_COMPARE_DONE(set, segment_code, &cpu, &end);
	assert_int_equal((uint32_t)end.cpu.gpr[CPU_RBP],
	    (uint32_t)rig_data64(set, 0x500));
	assert_int_equal(end.cpu.gpr[CPU_R8], 0xabcd);
}

RIG_ASM(narrow_code, 64,
    "mov rax, [r12d + r13d*4 + 0x10]\n" /* the sum is cut to 32 bits */
    "mov [ecx - 8], rax\n"
    "lea r14, [r12d + 8]\n"
    "lea r15d, [r12 + r13]\n"
    "lea esp, [r13*8 + 1]\n"
    "lea cx, [r12 + r13 + 3]\n"
    "movabs rax, 0x100040\n"              /* a constant */
    ".byte 0x48, 0xa1\n .quad 0x100040\n" /* memory */
    ".byte 0x48, 0xa3\n .quad 0x100048\n"
    ".byte 0x67, 0xa2\n .long 0x100050\n"
    "mov rdx, [0x100058]\n"
    "mov ebp, [r13d*2 - 0x7fefffff]" DONE);

static void
narrow_and_absolute_addresses(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_R12] = 0x1234567800000000 + RIG_DATA + 0x100 + 0x200;
	cpu.gpr[CPU_R13] = 0xabcdef12c0000000 - 0x80;
	cpu.gpr[CPU_RCX] = 0xffffffff00000000 + RIG_DATA + 0x20;
	/* The last one: -0x100 - 0x7fefffff + 2 * 0xc0000000 */
	RIG_COMPARE(set, narrow_code, &cpu, &end);
	assert_int_equal(rig_data64(set, 0x18), rig_data64(set, 0x110));
	assert_int_equal(end.cpu.gpr[CPU_R14], RIG_DATA + 0x308);
	assert_int_equal(end.cpu.gpr[CPU_R15],
	    (uint32_t)(cpu.gpr[CPU_R12] + cpu.gpr[CPU_R13]));
	assert_int_equal(end.cpu.gpr[CPU_RSP],
	    (uint32_t)(cpu.gpr[CPU_R13] * 8 + 1));
	assert_int_equal(end.cpu.gpr[CPU_RDX], rig_data64(set, 0x58));
	assert_int_equal(rig_data64(set, 0x48), rig_data64(set, 0x40));
	assert_int_equal(set->data[0x50], set->data[0x40]);
}

RIG_ASM(view_code, 64, "mov rax, [r12]\n add [r12 + 8], rax" DONE);

/* Through each way to look at memory: user, kernel, kernel with SMAP. */
static void
each_view_has_its_own_tags(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned i = 0; i < 4; i++) {
		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_R12] = RIG_DATA;
		if (i == 0 || i == 3) {
			cpu.seg[CPU_CS].access |= 0x60;
			cpu.seg[CPU_SS].access |= 0x60;
			cpu.rflags |= 0x3000; /* its OUT is allowed */
		}
		if (i >= 2)
			cpu.cr4 |= BIT(21);
		RIG_COMPARE(set, view_code, &cpu, &end);
		/* The page is a user's. */
		assert_int_equal(end.vector, i == 2 ? 14 : RIG_NO_VECTOR);
		if (i != 2)
			assert_int_equal(end.cpu.gpr[CPU_RAX],
			    rig_data64(set, 0));
	}
}

/* -------------------------------------------------------------- 32-bit code */

RIG_ASM(code32, 32,
    /* INC and DEC of 40-4F */
    "inc eax\n inc ecx\n inc edx\n inc ebx\n inc esp\n inc ebp\n"
    "inc esi\n inc edi\n dec esp\n dec eax\n dec cx\n inc sp\n dec sp\n"
    /* moffs */
    "mov eax, [0x100010]\n mov [0x100014], eax\n mov al, [0x100018]\n"
    "mov [0x100019], al\n mov ax, fs:[0x1c]\n mov fs:[0x1e], ax\n"
    /* high bytes, and ECX as a base of them */
    "mov ecx, 0x100020\n mov ah, [ecx + 1]\n mov [ecx + ebx + 2], dh\n"
    "mov ch, al\n xchg cl, ch\n add bl, ch\n"
    "mov ecx, 0x100030\n"
    /* FS with a base, the address wraps */
    "mov edx, fs:[0x30]\n mov gs:[0xffffff00], edx\n"
    "add fs:[ebp + esi*2], ecx\n"
    ".byte 0x64\n lea edi, [ecx + esi*4 - 3]\n"
    /* the stack */
    "push eax\n push esp\n push 0x55\n push dword ptr [ecx]\n"
    "pop dword ptr [ecx + 4]\n pop ebx\n pop edx\n pop eax\n"
    "push ecx\n mov ebp, esp\n leave\n"
    "pusha\n popa\n push edi\n pop esp\n mov esp, 0x80000\n"
    "call 1f\n mov [ecx + 8], eax\n jmp 2f\n"
    "1: mov eax, [esp]\n ret\n"
    "2: .byte 0xb8\n .long 3f - 2b\n add eax, [ecx + 8]\n add eax, 5\n"
    "jmp eax\n hlt\n"
    "3: call [esi]\n sub ecx, [esp - 4]\n"
    "daa\n aaa\n bound eax, [esi + 4]" DONE);

static void
code_of_32_bits(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint8_t ret = 0xc3;
	const uint32_t bounds[] = { RIG_DATA + 0x100, 0x80000000, 0x7fffffff };

	rig_set_begin(set, 32, &cpu);
	cpu.seg[CPU_FS].base = RIG_DATA;
	cpu.seg[CPU_GS].base = RIG_DATA + 0x200;
	cpu.gpr[CPU_RBX] = 0x10;
	cpu.gpr[CPU_RBP] = (uint32_t)(-2 * (RIG_DATA + 0x400) + 0x50);
	cpu.gpr[CPU_RSI] = RIG_DATA + 0x400;
	memcpy(set->data + 0x100, &ret, 1);
	/* ESI will have been incremented, EBP too. */
	memcpy(set->data + 0x401, bounds, sizeof(bounds));
	RIG_COMPARE(set, code32, &cpu, &end);
	if (end.vector != RIG_NO_VECTOR)
		fail_msg("exception %u at +0x%llx, cr2 0x%llx", end.vector,
		    (unsigned long long)end.cpu.rip - RIG_CODE,
		    (unsigned long long)end.cr2);
	assert_int_equal(set->data[0x19], set->data[0x18]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_operands_of_all_registers),
		cmocka_unit_test(pairs_of_registers),
		cmocka_unit_test(three_registers),
		cmocka_unit_test(high_bytes),
		cmocka_unit_test(shifts_by_cl),
		cmocka_unit_test(bit_strings),
		cmocka_unit_test(cmpxchg16b_needs_rcx_in_place),
		cmocka_unit_test(fixed_registers),
		cmocka_unit_test(vectors_and_general_registers),
		cmocka_unit_test(x87_and_mmx),
		cmocka_unit_test(relative_to_rip),
		cmocka_unit_test(segment_bases),
		cmocka_unit_test(narrow_and_absolute_addresses),
		cmocka_unit_test(each_view_has_its_own_tags),
		cmocka_unit_test(code_of_32_bits),
	};

	return cmocka_run_group_tests(tests, rig_set_new, rig_set_free);
}
