/*
 * Every emitter of emit.h, with every register and all sizes of displacement,
 * read back by Zydis, which knows nothing of ours.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>
#include <cmocka.h>

#include "engine/jit/emit.h"

#define ROOM 256u

static struct {
	uint8_t bytes[ROOM];
	struct emit e;
	ZydisDecoder decoder;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand opnd[ZYDIS_MAX_OPERAND_COUNT];
} rig;

static const int32_t displacements[] = { 0, 1, -1, 127, 128, -128, -129,
	0x12345678, INT32_MAX, INT32_MIN };

/* ---------------------------------------------------------- reading back */

static struct emit *
begin(void)
{
	memset(rig.bytes, 0xcc, sizeof(rig.bytes));
	rig.e = (struct emit) {
		.p = rig.bytes,
		.end = rig.bytes + ROOM,
	};
	return &rig.e;
}

static void
decode_at(const uint8_t *at, size_t len)
{
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&rig.decoder, at, len,
		&rig.insn, rig.opnd)))
		fail_msg("no instruction: %02x %02x %02x %02x %02x %02x", at[0],
		    at[1], at[2], at[3], at[4], at[5]);
}

/* What was emitted is one instruction, and this one. */
static void
decode_one(ZydisMnemonic mnemonic)
{
	size_t len = (size_t)(rig.e.p - rig.bytes);

	decode_at(rig.bytes, len);
	assert_int_equal(rig.insn.length, len);
	if (rig.insn.mnemonic != mnemonic)
		fail_msg("%s, not %s",
		    ZydisMnemonicGetString(rig.insn.mnemonic),
		    ZydisMnemonicGetString(mnemonic));
}

static ZydisRegister
gpr(bool w, unsigned reg)
{
	return ZydisRegisterEncode(w ? ZYDIS_REGCLASS_GPR64 :
				       ZYDIS_REGCLASS_GPR32,
	    (ZyanU8)reg);
}

static void
check_reg(unsigned i, bool w, unsigned reg)
{
	assert_int_equal(rig.opnd[i].type, ZYDIS_OPERAND_TYPE_REGISTER);
	if (rig.opnd[i].reg.value != gpr(w, reg))
		fail_msg("operand %u: %s, not %s", i,
		    ZydisRegisterGetString(rig.opnd[i].reg.value),
		    ZydisRegisterGetString(gpr(w, reg)));
}

static void
check_mem(unsigned i, bool gs, unsigned base, unsigned index, unsigned scale,
    int32_t disp)
{
	const ZydisDecodedOperandMem *mem = &rig.opnd[i].mem;
	bool stack = base == RSP || base == RBP;

	assert_int_equal(rig.opnd[i].type, ZYDIS_OPERAND_TYPE_MEMORY);
	if (gs)
		assert_int_equal(mem->segment, ZYDIS_REGISTER_GS);
	else
		assert_int_equal(mem->segment,
		    stack ? ZYDIS_REGISTER_SS : ZYDIS_REGISTER_DS);
	assert_int_equal(mem->base,
	    base == NOREG ? ZYDIS_REGISTER_NONE : gpr(true, base));
	assert_int_equal(mem->index,
	    index == NOREG ? ZYDIS_REGISTER_NONE : gpr(true, index));
	if (index != NOREG)
		assert_int_equal(mem->scale, 1u << scale);
	assert_int_equal(mem->disp.value, disp);
}

/* The shortest displacement there is for it. */
static void
check_disp_size(unsigned base, int32_t disp)
{
	unsigned bits;

	if (base == NOREG)
		bits = 32;
	else if (disp == 0 && (base & 7) != RBP)
		bits = 0;
	else
		bits = disp >= -128 && disp <= 127 ? 8 : 32;
	assert_int_equal(rig.insn.raw.disp.size, bits);
}

static int
setup(void **state)
{
	return ZYAN_SUCCESS(ZydisDecoderInit(&rig.decoder,
		   ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64)) ?
	    0 :
	    -1;
}

/* --------------------------------------------------------------- integers */

static void
integers_are_little_endian(void **state)
{
	static const uint8_t want[] = { 0x11, 0x44, 0x33, 0x22, 0x81, 0x08,
		0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0xf1 };
	struct emit *e = begin();

	emit8(e, 0x7711);
	emit32(e, 0x81223344);
	emit64(e, 0xf102030405060708);
	assert_int_equal(e->p - rig.bytes, sizeof(want));
	assert_memory_equal(rig.bytes, want, sizeof(want));
	emit_op(e, 0x89);
	emit_op(e, 0x0f85);
	assert_memory_equal(rig.bytes + sizeof(want), "\x89\x0f\x85", 3);
}

static void
room_is_what_is_left(void **state)
{
	struct emit *e = begin();

	assert_true(emit_room(e, ROOM));
	assert_false(emit_room(e, ROOM + 1));
	emit8(e, 0);
	assert_true(emit_room(e, ROOM - 1));
	assert_false(emit_room(e, ROOM));
	e->rx = 0x1000;
	assert_int_equal((uintptr_t)emit_here(e),
	    (uintptr_t)rig.bytes + 0x1001);
}

/* -------------------------------------------------------------- registers */

static void
two_registers(void **state)
{
	static const struct {
		unsigned op;
		ZydisMnemonic mnemonic;
		unsigned reg, rm; /* operands */
	} ops[] = {
		{ OP_STORE, ZYDIS_MNEMONIC_MOV, 1, 0 },
		{ OP_LOAD, ZYDIS_MNEMONIC_MOV, 0, 1 },
		{ 0x85, ZYDIS_MNEMONIC_TEST, 1, 0 },
		{ 0x0faf, ZYDIS_MNEMONIC_IMUL, 0, 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(ops) * 512; i++) {
		unsigned op = i / 512, reg = i % 16, rm = i / 16 % 16;
		bool w = i / 256 % 2;

		emit_rr(begin(), w, ops[op].op, reg, rm);
		decode_one(ops[op].mnemonic);
		check_reg(ops[op].reg, w, reg);
		check_reg(ops[op].rm, w, rm);
	}
}

/* To itself with 64 bits is nothing; with 32 it clears the upper half. */
static void
moves(void **state)
{
	for (unsigned i = 0; i < 512; i++) {
		unsigned to = i % 16, from = i / 16 % 16;
		bool w = i / 256;
		struct emit *e = begin();

		emit_mov(e, w, to, from);
		if (w && to == from) {
			assert_ptr_equal(e->p, rig.bytes);
			continue;
		}
		decode_one(ZYDIS_MNEMONIC_MOV);
		check_reg(0, w, to);
		check_reg(1, w, from);
	}
}

static void
immediates(void **state)
{
	for (unsigned reg = 0; reg < 16; reg++) {
		emit_mov_imm32(begin(), reg, 0x87654321);
		decode_one(ZYDIS_MNEMONIC_MOV);
		check_reg(0, false, reg);
		assert_int_equal((uint32_t)rig.opnd[1].imm.value.u, 0x87654321);

		emit_mov_imm(begin(), reg, -0x12345678);
		decode_one(ZYDIS_MNEMONIC_MOV);
		check_reg(0, true, reg);
		assert_true(rig.opnd[1].imm.is_signed);
		assert_int_equal(rig.opnd[1].imm.value.s, -0x12345678);
	}
}

/* ----------------------------------------------------------------- memory */

static void
check_address(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	static const struct {
		unsigned op;
		ZydisMnemonic mnemonic;
		unsigned reg;
	} ops[] = {
		{ OP_STORE, ZYDIS_MNEMONIC_MOV, 1 },
		{ OP_LOAD, ZYDIS_MNEMONIC_MOV, 0 },
		{ 0x0fb1, ZYDIS_MNEMONIC_CMPXCHG, 1 },
	};
	static unsigned turn;
	unsigned reg = turn % 16, op = turn / 16 % 3;
	bool w = turn / 48 % 2;

	turn++;
	emit_rm(begin(), w, ops[op].op, reg, base, index, scale, disp);
	decode_one(ops[op].mnemonic);
	check_reg(ops[op].reg, w, reg);
	check_mem(1 - ops[op].reg, false, base, index, scale, disp);
	check_disp_size(base, disp);

	emit_lea(begin(), w, reg, base, index, scale, disp);
	decode_one(ZYDIS_MNEMONIC_LEA);
	check_reg(0, w, reg);
	assert_int_equal(rig.opnd[1].mem.type, ZYDIS_MEMOP_TYPE_AGEN);
	check_mem(1, false, base, index, scale, disp);
}

static void
addresses(void **state)
{
	for (unsigned b = 0; b <= 16; b++) {
		for (unsigned i = 0; i <= 16; i++) {
			unsigned base = b == 16 ? NOREG : b;
			unsigned index = i == 16 ? NOREG : i;

			if (index == RSP)
				continue; /* means none */
			for (unsigned n = 0; n < 40; n++)
				check_address(base, index,
				    index == NOREG ? 0 : n / 10,
				    displacements[n % 10]);
		}
	}
}

/* Every register beside those bases that are encoded in a way of their own. */
static void
registers_beside_odd_bases(void **state)
{
	static const unsigned odd[] = { NOREG, RSP, RBP, R12, R13 };

	for (unsigned i = 0; i < 16 * 5 * 5 * 2; i++) {
		unsigned reg = i % 16, base = odd[i / 16 % 5];
		unsigned index = odd[i / 80 % 5];
		bool w = i / 400;

		if (index == RSP)
			continue;
		emit_rm(begin(), w, OP_LOAD, reg, base, index, 0, 0);
		decode_one(ZYDIS_MNEMONIC_MOV);
		check_reg(0, w, reg);
		check_mem(1, false, base, index, 0, 0);
	}
}

static void
the_processors_state(void **state)
{
	for (unsigned i = 0; i < 16 * 16 * 2 * 2; i++) {
		unsigned reg = i % 16, index = i / 16 % 16, load = i / 256 % 2;
		bool w = i / 512;
		unsigned op = load ? OP_LOAD : OP_STORE;

		emit_state(begin(), w, op, reg, 0x12345);
		decode_one(ZYDIS_MNEMONIC_MOV);
		check_reg(1 - load, w, reg);
		check_mem(load, true, NOREG, NOREG, 0, 0x12345);
		if (index == RSP)
			continue;
		emit_state_index(begin(), w, op, reg, index, 0x65432);
		decode_one(ZYDIS_MNEMONIC_MOV);
		check_reg(1 - load, w, reg);
		check_mem(load, true, NOREG, index, 3, 0x65432);
	}
	for (unsigned g = 0; g < CPU_GPRS; g++)
		assert_int_equal(CPU_GPR_AT(g),
		    offsetof(struct x86_cpu, gpr) + g * sizeof(uint64_t));
}

/* ------------------------------------------------ what leaves flags alone */

static void
pext_by_a_field(void **state)
{
	for (unsigned i = 0; i < 256; i++) {
		emit_pext_state(begin(), i % 16, i / 16, 0x123);
		decode_one(ZYDIS_MNEMONIC_PEXT);
		check_reg(0, true, i % 16);
		check_reg(1, true, i / 16);
		check_mem(2, true, NOREG, NOREG, 0, 0x123);
	}
}

static void
pdep_by_a_field(void **state)
{
	for (unsigned i = 0; i < 256; i++) {
		emit_pdep_state(begin(), i % 16, i / 16, 0x123);
		decode_one(ZYDIS_MNEMONIC_PDEP);
		check_reg(0, true, i % 16);
		check_reg(1, true, i / 16);
		check_mem(2, true, NOREG, NOREG, 0, 0x123);
	}
}

static void
complements(void **state)
{
	for (unsigned reg = 0; reg < 16; reg++) {
		emit_not(begin(), reg);
		decode_one(ZYDIS_MNEMONIC_NOT);
		check_reg(0, true, reg);
	}
}

static void
rotations(void **state)
{
	for (unsigned i = 0; i < 256 * 64; i++) {
		emit_rorx(begin(), i % 16, i / 16 % 16, i / 256);
		decode_one(ZYDIS_MNEMONIC_RORX);
		check_reg(0, true, i % 16);
		check_reg(1, true, i / 16 % 16);
		assert_int_equal(rig.opnd[2].imm.value.u, i / 256);
	}
}

static void
jumps_over_a_few_bytes(void **state)
{
	for (unsigned n = 0; n <= 127; n++) {
		struct emit *e = begin();
		uint8_t *from = emit_jrcxz(e);
		ZyanU64 to;

		for (unsigned i = 0; i < n; i++)
			emit8(e, 0x90);
		emit_land8(e, from);
		decode_at(rig.bytes, ROOM);
		assert_int_equal(rig.insn.mnemonic, ZYDIS_MNEMONIC_JRCXZ);
		assert_int_equal(rig.insn.length, 2);
		assert_true(ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&rig.insn,
		    &rig.opnd[0], 0x1000, &to)));
		assert_int_equal(to, 0x1002 + n);
	}
}

/* -------------------------------------------------------------- branches */

static const struct {
	unsigned op;
	ZydisMnemonic mnemonic;
} branches[] = {
	{ OP_JMP, ZYDIS_MNEMONIC_JMP },
	{ OP_CALL, ZYDIS_MNEMONIC_CALL },
	{ OP_JCC | 4, ZYDIS_MNEMONIC_JZ },
	{ OP_JCC | 0xd, ZYDIS_MNEMONIC_JNL },
};

/* From where the code is executed, not where it is written. */
static void
branches_to_a_place(void **state)
{
	static const ptrdiff_t distances[] = { 0, 1, -1, 0x7ffffff0,
		-0x7ffffff0 };

	for (unsigned i = 0; i < ARRAY_SIZE(branches) * 5; i++) {
		struct emit *e = begin();
		const uint8_t *to;
		ZyanU64 got;

		e->rx = 0x100000000;
		to = emit_here(e) + distances[i % 5];
		emit_branch(e, branches[i / 5].op, to);
		decode_one(branches[i / 5].mnemonic);
		assert_true(ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&rig.insn,
		    &rig.opnd[0], (uintptr_t)rig.bytes + 0x100000000, &got)));
		assert_int_equal(got, (uintptr_t)to);
	}
}

static void
branches_to_what_comes_later(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(branches); i++) {
		static const unsigned gaps[] = { 0, 1, 127, 128, 200 };

		for (unsigned g = 0; g < ARRAY_SIZE(gaps); g++) {
			struct emit *e = begin();
			uint8_t *from = emit_branch_later(e, branches[i].op);
			ZyanU64 to;

			decode_one(branches[i].mnemonic);
			assert_ptr_equal(from, e->p);
			e->p += gaps[g];
			emit_land32(e, from);
			decode_at(rig.bytes, ROOM);
			assert_true(
			    ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&rig.insn,
				&rig.opnd[0], 0, &to)));
			assert_int_equal(to, rig.insn.length + gaps[g]);
		}
	}
}

/* What follows n more bytes is aligned, after as few NOPs as can be. */
static void
alignment(void **state)
{
	static const unsigned aligns[] = { 1, 4, 8, 16 };

	for (unsigned i = 0; i < 4 * 16 * 3; i++) {
		unsigned align = aligns[i % 4], n = i / 64;
		struct emit *e = begin();
		uint8_t *from = e->p += i / 4 % 16;

		emit_align(e, align, n);
		assert_int_equal(((uintptr_t)e->p + n) % align, 0);
		assert_true(e->p - from < (ptrdiff_t)align);
		for (; from < e->p; from++)
			assert_int_equal(*from, 0x90);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_are_little_endian),
		cmocka_unit_test(room_is_what_is_left),
		cmocka_unit_test(two_registers),
		cmocka_unit_test(moves),
		cmocka_unit_test(immediates),
		cmocka_unit_test(addresses),
		cmocka_unit_test(registers_beside_odd_bases),
		cmocka_unit_test(the_processors_state),
		cmocka_unit_test(pext_by_a_field),
		cmocka_unit_test(pdep_by_a_field),
		cmocka_unit_test(complements),
		cmocka_unit_test(rotations),
		cmocka_unit_test(jumps_over_a_few_bytes),
		cmocka_unit_test(branches_to_a_place),
		cmocka_unit_test(branches_to_what_comes_later),
		cmocka_unit_test(alignment),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
