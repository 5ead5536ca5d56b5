/*
 * Vector instructions on memory of which only some elements count.
 *
 * Models       Intel SDM volume 2: 2.8 (EVEX fault suppression), MASKMOVQ,
 *              MASKMOVDQU, VMASKMOV, VPMASKMOV, VPGATHER and kin, VPSCATTER
 *              and kin.
 * Method       A bit mask says which bytes of an operand are accessed; runs of
 *              them go to the memory unit one by one, from the lowest.  For
 *              EVEX loads it comes from the opmask and a table of element
 *              sizes.  Gathers and scatters write their registers after each
 *              element, so that a fault finds them as far as they came.
 */
#include "base/wire.h"
#include "engine/x86/mmu.h"
#include "engine/x86/native_impl.h"

#define CPUID_7B_AVX512BW BIT(30)

/* ------------------------------------------------------------ runs of bytes */

static bytes_t
low_bytes(unsigned n)
{
	return n >= 64 ? UINT64_MAX : BIT(n) - 1;
}

/* The first run of bytes at or after *at, and its length in *len. */
static bool
next_run(bytes_t bytes, unsigned *at, unsigned *len)
{
	if (*at >= 64 || bytes >> *at == 0)
		return false;
	*at += (unsigned)__builtin_ctzll(bytes >> *at);
	bytes = ~(bytes >> *at);
	*len = bytes == 0 ? 64 : (unsigned)__builtin_ctzll(bytes);
	return true;
}

/* Bytes `at` and up of what begins at offset ea. */
static uint64_t
byte_address(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t ea,
    unsigned at, unsigned size, bool write)
{
	return x86_address(cpu, insn->seg,
	    (ea & size_mask(insn->addrsize)) + at, size, write);
}

/* The alignment of an element, before anything about those behind it. */
static void
check_element(struct x86_cpu *cpu, const struct x86_insn *insn, uint64_t ea,
    unsigned at, unsigned alignment, bool write)
{
	if (cpu->align_mask != 0)
		x86_check_aligned(cpu,
		    byte_address(cpu, insn, ea, at, alignment, write),
		    alignment);
}

void
native_load_masked(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned alignment, uint8_t *buf, bytes_t bytes)
{
	uint64_t ea = x86_ea(cpu, insn);

	for (unsigned at = 0, len; next_run(bytes, &at, &len); at += len) {
		check_element(cpu, insn, ea, at, alignment, false);
		x86_load_bytes(cpu, byte_address(cpu, insn, ea, at, len, false),
		    buf + at, len);
	}
}

void
native_probe_masked(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned alignment, uint64_t ea, bytes_t bytes)
{
	for (unsigned at = 0, len; next_run(bytes, &at, &len); at += len) {
		check_element(cpu, insn, ea, at, alignment, true);
		x86_probe(cpu, byte_address(cpu, insn, ea, at, len, true), len,
		    true);
	}
}

void
native_store_masked(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned alignment, uint64_t ea, const uint8_t *buf, bytes_t bytes)
{
	native_probe_masked(cpu, insn, alignment, ea, bytes);
	for (unsigned at = 0, len; next_run(bytes, &at, &len); at += len)
		x86_store_bytes(cpu, byte_address(cpu, insn, ea, at, len, true),
		    buf + at, len);
}

/*
 * EVEX instructions that suppress the faults of elements that are masked off,
 * and the size of these elements in memory.  Those of the exception classes that
 * end in NF (SDM volume 2, 2.8) suppress none and are not here.
 */
enum {
	SIZE_W = 16, /* 4, with W 8 */
	SIZE_BW,     /* 1, with W 2 */
	SIZE_KIND = 31,
	BROADCAST = 32, /* memory is repeated as long as the vector is */
	EXPAND = 64,    /* memory has the active elements only */
	WIDENS = 128,   /* without W: to twice the size in the vector */
};
#define PP_NONE BIT(0)
#define PP_66 BIT(1)
#define PP_F3 BIT(2)
#define PP_F2 BIT(3)
#define PP_ANY 15u

static const struct masked_row {
	uint8_t map, pp;
	uint8_t first, last; /* opcodes */
	uint8_t element;
} masked_rows[] = {
	{ 1, PP_ANY, 0x10, 0x10, SIZE_W },
	{ 1, PP_ANY, 0x28, 0x28, SIZE_W },
	{ 1, PP_ANY, 0x51, 0x51, SIZE_W },
	{ 1, PP_ANY, 0x54, 0x59, SIZE_W },
	{ 1, PP_NONE, 0x5a, 0x5a, SIZE_W | WIDENS },
	{ 1, PP_66 | PP_F3 | PP_F2, 0x5a, 0x5a, SIZE_W },
	{ 1, PP_ANY, 0x5b, 0x5f, SIZE_W },
	{ 1, PP_66, 0x64, 0x64, 1 },
	{ 1, PP_66, 0x65, 0x65, 2 },
	{ 1, PP_66, 0x66, 0x66, SIZE_W },
	{ 1, PP_66 | PP_F3, 0x6f, 0x6f, SIZE_W },
	{ 1, PP_F2, 0x6f, 0x6f, SIZE_BW },
	{ 1, PP_66, 0x71, 0x71, 2 },
	{ 1, PP_66, 0x72, 0x73, SIZE_W },
	{ 1, PP_66, 0x74, 0x74, 1 },
	{ 1, PP_66, 0x75, 0x75, 2 },
	{ 1, PP_66, 0x76, 0x76, SIZE_W },
	{ 1, PP_66, 0x78, 0x7b, SIZE_W | WIDENS },
	{ 1, PP_F3, 0x7a, 0x7a, SIZE_W | WIDENS },
	{ 1, PP_NONE | PP_F2, 0x78, 0x7b, SIZE_W },
	{ 1, PP_ANY, 0xc2, 0xc2, SIZE_W },
	{ 1, PP_66, 0xd4, 0xd4, SIZE_W },
	{ 1, PP_66, 0xd5, 0xd5, 2 },
	{ 1, PP_66, 0xd8, 0xd8, 1 },
	{ 1, PP_66, 0xd9, 0xd9, 2 },
	{ 1, PP_66, 0xda, 0xda, 1 },
	{ 1, PP_66, 0xdb, 0xdb, SIZE_W },
	{ 1, PP_66, 0xdc, 0xdc, 1 },
	{ 1, PP_66, 0xdd, 0xdd, 2 },
	{ 1, PP_66, 0xde, 0xde, 1 },
	{ 1, PP_66, 0xdf, 0xdf, SIZE_W },
	{ 1, PP_66, 0xe0, 0xe0, 1 },
	{ 1, PP_66, 0xe3, 0xe5, 2 },
	{ 1, PP_F3, 0xe6, 0xe6, SIZE_W | WIDENS },
	{ 1, PP_66 | PP_F2, 0xe6, 0xe6, SIZE_W },
	{ 1, PP_66, 0xe8, 0xe8, 1 },
	{ 1, PP_66, 0xe9, 0xea, 2 },
	{ 1, PP_66, 0xeb, 0xeb, SIZE_W },
	{ 1, PP_66, 0xec, 0xec, 1 },
	{ 1, PP_66, 0xed, 0xee, 2 },
	{ 1, PP_66, 0xef, 0xef, SIZE_W },
	{ 1, PP_66, 0xf4, 0xf4, SIZE_W },
	{ 1, PP_66, 0xf8, 0xf8, 1 },
	{ 1, PP_66, 0xf9, 0xf9, 2 },
	{ 1, PP_66, 0xfa, 0xfb, SIZE_W },
	{ 1, PP_66, 0xfc, 0xfc, 1 },
	{ 1, PP_66, 0xfd, 0xfd, 2 },
	{ 1, PP_66, 0xfe, 0xfe, SIZE_W },
	{ 2, PP_66, 0x0b, 0x0b, 2 },
	{ 2, PP_66, 0x10, 0x13, 2 },
	{ 2, PP_66, 0x14, 0x15, SIZE_W },
	{ 2, PP_66, 0x18, 0x1b, SIZE_W | BROADCAST },
	{ 2, PP_66, 0x1c, 0x1c, 1 },
	{ 2, PP_66, 0x1d, 0x1d, 2 },
	{ 2, PP_66, 0x1e, 0x1f, SIZE_W },
	{ 2, PP_66, 0x20, 0x22, 1 },
	{ 2, PP_66, 0x23, 0x24, 2 },
	{ 2, PP_66, 0x25, 0x25, 4 },
	{ 2, PP_66 | PP_F3, 0x26, 0x26, SIZE_BW },
	{ 2, PP_66 | PP_F3, 0x27, 0x27, SIZE_W },
	{ 2, PP_66, 0x28, 0x29, SIZE_W },
	{ 2, PP_66, 0x2c, 0x2d, SIZE_W },
	{ 2, PP_66, 0x30, 0x32, 1 },
	{ 2, PP_66, 0x33, 0x34, 2 },
	{ 2, PP_66, 0x35, 0x35, 4 },
	{ 2, PP_66, 0x37, 0x37, SIZE_W },
	{ 2, PP_66, 0x38, 0x38, 1 },
	{ 2, PP_66, 0x39, 0x39, SIZE_W },
	{ 2, PP_66, 0x3a, 0x3a, 2 },
	{ 2, PP_66, 0x3b, 0x3b, SIZE_W },
	{ 2, PP_66, 0x3c, 0x3c, 1 },
	{ 2, PP_66, 0x3d, 0x3d, SIZE_W },
	{ 2, PP_66, 0x3e, 0x3e, 2 },
	{ 2, PP_66, 0x3f, 0x40, SIZE_W },
	{ 2, PP_66, 0x42, 0x47, SIZE_W },
	{ 2, PP_66, 0x4c, 0x53, SIZE_W },
	{ 2, PP_F3, 0x52, 0x52, SIZE_W },
	{ 2, PP_66, 0x54, 0x54, SIZE_BW },
	{ 2, PP_66, 0x55, 0x55, SIZE_W },
	{ 2, PP_66, 0x58, 0x5b, SIZE_W | BROADCAST },
	{ 2, PP_66, 0x62, 0x62, SIZE_BW | EXPAND },
	{ 2, PP_66, 0x64, 0x65, SIZE_W },
	{ 2, PP_66, 0x66, 0x66, SIZE_BW },
	{ 2, PP_66, 0x70, 0x70, 2 },
	{ 2, PP_66, 0x71, 0x71, SIZE_W },
	{ 2, PP_66, 0x72, 0x72, 2 },
	{ 2, PP_F3, 0x72, 0x72, SIZE_W },
	{ 2, PP_66, 0x73, 0x73, SIZE_W },
	{ 2, PP_66, 0x78, 0x78, 1 | BROADCAST },
	{ 2, PP_66, 0x79, 0x79, 2 | BROADCAST },
	{ 2, PP_66, 0x88, 0x89, SIZE_W | EXPAND },
	{ 2, PP_66, 0x8f, 0x8f, 1 },
	{ 2, PP_66, 0x96, 0x9f, SIZE_W },
	{ 2, PP_66, 0xa6, 0xaf, SIZE_W },
	{ 2, PP_66, 0xb4, 0xbf, SIZE_W },
	{ 2, PP_66, 0xcf, 0xcf, 1 },
	{ 3, PP_66, 0x08, 0x0b, SIZE_W },
	{ 3, PP_66, 0x1d, 0x1d, 2 },
	{ 3, PP_66, 0x1e, 0x1f, SIZE_W },
	{ 3, PP_66, 0x25, 0x27, SIZE_W },
	{ 3, PP_66, 0x3e, 0x3f, SIZE_BW },
	{ 3, PP_66, 0x50, 0x51, SIZE_W },
	{ 3, PP_66, 0x54, 0x57, SIZE_W },
	{ 3, PP_66, 0x66, 0x67, SIZE_W },
	{ 3, PP_66, 0x70, 0x70, 2 },
	{ 3, PP_66, 0x71, 0x71, SIZE_W },
	{ 3, PP_66, 0x72, 0x72, 2 },
	{ 3, PP_66, 0x73, 0x73, SIZE_W },
	/* Stores */
	{ 1, PP_ANY, 0x11, 0x11, SIZE_W },
	{ 1, PP_ANY, 0x29, 0x29, SIZE_W },
	{ 1, PP_66 | PP_F3, 0x7f, 0x7f, SIZE_W },
	{ 1, PP_F2, 0x7f, 0x7f, SIZE_BW },
	{ 2, PP_F3, 0x10, 0x12, 1 },
	{ 2, PP_F3, 0x13, 0x14, 2 },
	{ 2, PP_F3, 0x15, 0x15, 4 },
	{ 2, PP_F3, 0x20, 0x22, 1 },
	{ 2, PP_F3, 0x23, 0x24, 2 },
	{ 2, PP_F3, 0x25, 0x25, 4 },
	{ 2, PP_F3, 0x30, 0x32, 1 },
	{ 2, PP_F3, 0x33, 0x34, 2 },
	{ 2, PP_F3, 0x35, 0x35, 4 },
	{ 2, PP_66, 0x63, 0x63, SIZE_BW },
	{ 2, PP_66, 0x8a, 0x8b, SIZE_W },
};

/* What the row for an instruction says of its elements; 0: all count. */
static unsigned
masked_row(const struct x86_insn *insn)
{
	for (size_t i = 0; i < ARRAY_SIZE(masked_rows); i++) {
		const struct masked_row *row = &masked_rows[i];

		if (row->map == insn->map && (row->pp & BIT(insn->pp)) &&
		    insn->opcode >= row->first && insn->opcode <= row->last)
			return row->element;
	}
	return 0;
}

unsigned
native_masked_element(const struct x86_insn *insn)
{
	unsigned kind = masked_row(insn) & SIZE_KIND;
	bool w = insn->rex & X86_REX_W;

	switch (kind) {
	case SIZE_W:
		return w ? 8 : 4;
	case SIZE_BW:
		return w ? 2 : 1;
	default:
		return kind;
	}
}

/* ------------------------------------------- registers to memory and back */

/* ModRM of register reg and memory at [rdi] */
static uint64_t
mem_modrm(unsigned reg)
{
	return (reg & 7) << 3 | NATIVE_MEM_REG;
}

/* MOVDQU and VMOVDQU[32] between a register of 16 << vl bytes and mem. */
static void
vec_move(struct x86_cpu *cpu, enum x86_encoding encoding, unsigned reg,
    unsigned vl, bool store, void *mem)
{
	uint64_t tail = (store ? 0x7fu : 0x6fu) | mem_modrm(reg) << 8;
	uint64_t r = reg & 8 ? 0 : 0x80; /* inverted, as is the next */
	uint64_t r_high = reg & 16 ? 0 : 0x10;

	switch (encoding) {
	case X86_LEGACY:
		native_run_code(cpu,
		    0x0f40f3 | (reg & 8) >> 1 << 8 | tail << 24, 5, mem);
		break;
	case X86_VEX:
		native_run_code(cpu,
		    0xc5 | (r | 0x7a | vl << 2) << 8 | tail << 16, 4, mem);
		break;
	case X86_EVEX:
		native_run_code(cpu,
		    0x62 | (r | r_high | 0x61) << 8 | 0x7e0000 |
			(vl << 5 | 0x08ULL) << 24 | tail << 32,
		    6, mem);
		break;
	}
}

/* MOVQ */
static void
mmx_store(struct x86_cpu *cpu, unsigned reg, void *mem)
{
	native_run_code(cpu, 0x7f0f | mem_modrm(reg) << 16, 3, mem);
}

/* KMOVW, which has bits 15-0, or KMOVQ */
static uint64_t
opmask_get(struct x86_cpu *cpu, unsigned reg, bool wide)
{
	uint64_t value = 0;

	if (wide)
		native_run_code(cpu, 0x91f8e1c4 | mem_modrm(reg) << 32, 5,
		    &value);
	else
		native_run_code(cpu, 0x91f8c5 | mem_modrm(reg) << 24, 4,
		    &value);
	return value;
}

/* The same back; KMOVW has zeros in all bits above. */
static void
opmask_set(struct x86_cpu *cpu, unsigned reg, bool wide, uint64_t value)
{
	if (wide)
		native_run_code(cpu, 0x90f8e1c4 | mem_modrm(reg) << 32, 5,
		    &value);
	else
		native_run_code(cpu, 0x90f8c5 | mem_modrm(reg) << 24, 4,
		    &value);
}

/* Which of the memory operand's size bytes a masked load needs. */
bytes_t
native_bytes_needed(struct x86_cpu *cpu, const struct x86_insn *insn,
    unsigned size)
{
	unsigned row = masked_row(insn);
	unsigned element = native_masked_element(insn);
	unsigned in_vector, in_memory;
	uint64_t mask;
	bytes_t bytes = 0;

	if (row == 0)
		return low_bytes(size);
	in_vector = (16u << insn->vl) / element;
	in_memory = size / element;
	if ((row & WIDENS) && element == 4)
		in_vector /= 2;
	mask = opmask_get(cpu, insn->evex_aaa, in_vector > 16);
	if (row & EXPAND) {
		mask &= low_bytes(in_vector);
		for (; mask != 0; mask &= mask - 1)
			bytes = bytes << element | low_bytes(element);
		return bytes;
	}
	if (!(row & BROADCAST) && !insn->evex_b)
		in_vector = in_memory;
	for (unsigned i = 0; i < in_vector; i++) {
		if (mask & BIT(i))
			bytes |= low_bytes(element) << i % in_memory * element;
	}
	return bytes;
}

/* ------------------------------------------------------- element by element */

/* The register that a slot names. */
static unsigned
slot_reg(const struct x86_insn *insn, enum x86_slot slot)
{
	for (unsigned i = 0; i < insn->operands; i++) {
		if (insn->opnd[i].slot == slot)
			return insn->opnd[i].reg;
	}
	return 0;
}

/* The bytes of those elements whose most significant bit is set. */
static bytes_t
sign_bytes(const uint8_t *mask, unsigned size, unsigned element)
{
	bytes_t bytes = 0;

	for (unsigned i = 0; i < size; i += element) {
		if (mask[i + element - 1] & 0x80)
			bytes |= low_bytes(element) << i;
	}
	return bytes;
}

/* MASKMOVQ, MASKMOVDQU: ModRM.reg has the bytes, ModRM.rm which of them. */
void
native_exec_maskmov(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned data_reg = slot_reg(insn, X86_S_REG);
	unsigned mask_reg = slot_reg(insn, X86_S_RM);
	_Alignas(16) uint8_t data[16], mask[16];
	uint64_t ea = cpu->gpr[CPU_RDI];
	unsigned size = 16;
	bytes_t bytes;

	if (native_is_waiting(insn)) {
		bool ignore = native_x87_wait(cpu);
		uint16_t fcw = ignore ? native_x87_mask(cpu) : 0;

		size = 8;
		mmx_store(cpu, data_reg, data);
		mmx_store(cpu, mask_reg, mask);
		if (ignore)
			native_x87_unmask(cpu, fcw);
	} else {
		vec_move(cpu, insn->encoding, data_reg, 0, true, data);
		vec_move(cpu, insn->encoding, mask_reg, 0, true, mask);
	}
	bytes = sign_bytes(mask, size, 1);
	/* The address is checked even if nothing is written. */
	native_probe_masked(cpu, insn, 8, ea, low_bytes(size));
	native_store_masked(cpu, insn, 1, ea, data, bytes);
}

/*
 * VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ; the mask is in vvvv.  A load
 * zeroes what it does not load.  Elements need not be aligned, whatever AC says.
 */
void
native_exec_vmaskmov(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	const struct x86_operand *mem = native_memory_operand(insn);
	unsigned reg = slot_reg(insn, X86_S_REG);
	_Alignas(64) uint8_t buf[64], mask[64];
	unsigned element;
	bytes_t bytes;

	if (insn->opcode >= 0x8c)
		element = insn->rex & X86_REX_W ? 8 : 4;
	else
		element = insn->opcode & 1 ? 8 : 4;
	vec_move(cpu, X86_VEX, insn->vvvv, insn->vl, true, mask);
	bytes = sign_bytes(mask, mem->size, element);
	if (mem->rw & X86_W) {
		vec_move(cpu, X86_VEX, reg, insn->vl, true, buf);
		native_store_masked(cpu, insn, 1, x86_ea(cpu, insn), buf,
		    bytes);
	} else {
		native_fill(buf, 0);
		native_load_masked(cpu, insn, 1, buf, bytes);
		vec_move(cpu, X86_VEX, reg, insn->vl, false, buf);
	}
}

/* A gather or scatter: its shape and registers. */
struct vsib {
	const struct x86_insn *insn;
	unsigned data_size, index_size; /* of an element */
	unsigned count;
	unsigned data_reg, data_vl;
	unsigned index_vl;
	/* How registers are written for a fault: see vsib_done(). */
	enum x86_encoding whole;
	unsigned whole_vl;
	_Alignas(64) uint8_t data[64];
	_Alignas(64) uint8_t index[64];
	/* Which elements remain: a register like data, or an opmask. */
	_Alignas(64) uint8_t mask[64];
	uint64_t left;
	bool wide_opmask;
};

static unsigned
vl_of(unsigned size)
{
	return size > 32 ? 2 : size > 16 ? 1 : 0;
}

static void
vsib_begin(struct x86_cpu *cpu, const struct x86_insn *insn, struct vsib *v)
{
	v->insn = insn;
	v->data_size = insn->rex & X86_REX_W ? 8 : 4;
	v->index_size = insn->opcode & 1 ? 8 : 4;
	v->count = (16u << insn->vl) / MAX(v->data_size, v->index_size);
	v->data_reg = slot_reg(insn, X86_S_REG);
	v->data_vl = vl_of(v->count * v->data_size);
	v->index_vl = vl_of(v->count * v->index_size);
	v->whole = cpu->xcr0_allowed & X86_XCR0_AVX512 ? X86_EVEX : X86_VEX;
	v->whole_vl = insn->encoding == X86_EVEX ? insn->vl :
	    v->whole == X86_EVEX                 ? 2 :
						   1;
	vec_move(cpu, v->whole, v->data_reg, v->whole_vl, true, v->data);
	vec_move(cpu, insn->encoding, insn->index, v->index_vl, true, v->index);
	v->left = 0;
	if (insn->encoding == X86_EVEX) {
		v->wide_opmask =
		    cpuid_read(&cpu->cpuid, 7, 0).ebx & CPUID_7B_AVX512BW;
		v->left = opmask_get(cpu, insn->evex_aaa, v->wide_opmask);
		return;
	}
	vec_move(cpu, v->whole, insn->vvvv, v->whole_vl, true, v->mask);
	for (unsigned i = 0; i < v->count; i++) {
		if (v->mask[(i + 1) * v->data_size - 1] & 0x80)
			v->left |= BIT(i);
	}
}

static uint64_t
vsib_linear(struct x86_cpu *cpu, const struct vsib *v, unsigned i, bool write)
{
	const struct x86_insn *insn = v->insn;
	uint64_t ea = (uint64_t)insn->disp;
	int64_t index;

	if (insn->base != X86_NO_REG)
		ea += cpu->gpr[insn->base];
	if (v->index_size == 8)
		index = (int64_t)le64_load(v->index + i * 8);
	else
		index = (int32_t)le32_load(v->index + i * 4);
	ea += (uint64_t)index << insn->scale;
	return byte_address(cpu, insn, ea, 0, v->data_size, write);
}

/*
 * Element i is done, active or not: what a fault of a later one leaves behind.
 * What is above the vector may be zeros by then, and with EVEX is, as soon as
 * there is an active element.
 */
static void
vsib_done(struct x86_cpu *cpu, struct vsib *v, unsigned i, bool gather)
{
	v->left &= ~BIT(i);
	if (gather)
		vec_move(cpu, v->whole, v->data_reg, v->whole_vl, false,
		    v->data);
	if (v->insn->encoding == X86_EVEX) {
		opmask_set(cpu, v->insn->evex_aaa, v->wide_opmask, v->left);
	} else {
		if (v->data_size == 8)
			le64_store(v->mask + i * 8, 0);
		else
			le32_store(v->mask + i * 4, 0);
		vec_move(cpu, v->whole, v->insn->vvvv, v->whole_vl, false,
		    v->mask);
	}
}

/* All elements are done: nothing of mask or vector beyond them stays. */
static void
gather_end(struct x86_cpu *cpu, struct vsib *v)
{
	if (v->count * v->data_size == 8)
		le64_store(v->data + 8, 0);
	vec_move(cpu, v->insn->encoding, v->data_reg, v->data_vl, false,
	    v->data);
	if (v->insn->encoding == X86_EVEX) {
		opmask_set(cpu, v->insn->evex_aaa, false, 0);
	} else {
		native_fill(v->mask, 0);
		vec_move(cpu, X86_VEX, v->insn->vvvv, v->data_vl, false,
		    v->mask);
	}
}

void
native_exec_gather(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	unsigned data_reg = slot_reg(insn, X86_S_REG);
	bool clash = data_reg == insn->index;
	struct vsib v;

	if (insn->encoding == X86_EVEX)
		clash |= insn->evex_aaa == 0;
	else
		clash |= data_reg == insn->vvvv || insn->index == insn->vvvv;
	if (clash)
		x86_raise(cpu, X86_UD);
	vsib_begin(cpu, insn, &v);
	for (unsigned i = 0; i < v.count; i++) {
		bool active = v.left & BIT(i);

		/* Elements need not be aligned, whatever AC says. */
		if (active)
			x86_load_bytes(cpu, vsib_linear(cpu, &v, i, false),
			    v.data + i * v.data_size, v.data_size);
		if (active || insn->encoding == X86_VEX)
			vsib_done(cpu, &v, i, true);
	}
	gather_end(cpu, &v);
}

void
native_exec_scatter(struct x86_cpu *cpu, const struct x86_insn *insn)
{
	struct vsib v;

	if (insn->evex_aaa == 0)
		x86_raise(cpu, X86_UD);
	vsib_begin(cpu, insn, &v);
	for (unsigned i = 0; i < v.count; i++) {
		if (!(v.left & BIT(i)))
			continue;
		x86_store_bytes(cpu, vsib_linear(cpu, &v, i, true),
		    v.data + i * v.data_size, v.data_size);
		vsib_done(cpu, &v, i, false);
	}
	opmask_set(cpu, insn->evex_aaa, false, 0);
}
