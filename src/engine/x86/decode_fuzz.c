/*
 * Instructions of any bytes: what comes out must hold together, and depend on
 * nothing but the bytes that belong to it.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/x86/decode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

static void
check_operand(const struct x86_insn *insn, const struct x86_operand *o)
{
	static const uint8_t registers[] = {
		[X86_K_GPR] = 16,
		[X86_K_HIGH] = 4,
		[X86_K_MEM] = 1,
		[X86_K_IMM] = 1,
		[X86_K_SEG] = 6,
		[X86_K_CR] = 9,
		[X86_K_DR] = 8,
		[X86_K_MMX] = 8,
		[X86_K_VEC] = 32,
		[X86_K_OPMASK] = 8,
		[X86_K_ST] = 8,
	};

	require(o->kind < sizeof(registers) && o->reg < registers[o->kind]);
	require(o->slot <= X86_S_IMM && o->rw <= X86_RW);
	if (o->kind == X86_K_MEM)
		require(insn->has_mem);
	if (o->kind == X86_K_GPR)
		require(o->size == 1 || o->size == 2 || o->size == 4 ||
		    (o->size == 8 && insn->code == X86_CODE64));
	if (insn->code != X86_CODE64 && o->kind == X86_K_GPR)
		require(o->reg < 8);
}

static void
check(const struct x86_insn *insn)
{
	require(insn->op != NULL && insn->op->id < X86_OPS);
	require(insn->op->name != NULL);
	require(insn->len > 0 && insn->len <= X86_INSN_MAX);
	require(insn->operands <= X86_OPERANDS_MAX);
	if (insn->op->id == X86_OP_UD)
		return;
	require(insn->opcode_at < insn->len);
	require(insn->bytes[insn->opcode_at] == insn->opcode);
	require(
	    insn->addrsize == 2 || insn->addrsize == 4 || insn->addrsize == 8);
	require(insn->opsize == 1 || insn->opsize == 2 || insn->opsize == 4 ||
	    insn->opsize == 8);
	require(insn->seg <= CPU_GS && insn->scale <= 3 && insn->vl <= 2);
	require(insn->opcode_at + 1u + insn->has_modrm + insn->disp_size +
		insn->imm_size <=
	    insn->len);
	for (unsigned i = 0; i < insn->operands; i++)
		check_operand(insn, &insn->opnd[i]);
	if (insn->pfx & X86_PFX_LOCK)
		require((insn->op->attrs & X86_A_LOCK) &&
		    insn->opnd[0].kind == X86_K_MEM);
}

/* From memory of just that size, so that a sanitizer sees what is read. */
static enum x86_decoded
decode(const uint8_t *bytes, unsigned len, enum x86_code code,
    struct x86_insn *insn)
{
	uint8_t *copy = malloc(len != 0 ? len : 1);
	enum x86_decoded result;

	require(copy != NULL);
	memcpy(copy, bytes, len);
	result = x86_decode(copy, len, code, insn);
	free(copy);
	return result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum x86_code code;
	struct x86_insn insn, again;
	unsigned len;

	if (size < 2 || size > 64)
		return 0;
	code = data[0] % 3;
	len = (unsigned)size - 1;
	switch (decode(data + 1, len, code, &insn)) {
	case X86_DECODED:
		check(&insn);
		require(insn.len <= len);
		require(
		    decode(data + 1, insn.len, code, &again) == X86_DECODED);
		require(again.op == insn.op && again.len == insn.len);
		if (insn.op->id != X86_OP_UD)
			require(decode(data + 1, insn.len - 1, code, &again) ==
			    X86_SHORT);
		break;
	case X86_SHORT:
		require(len < X86_INSN_MAX);
		break;
	case X86_TOO_LONG:
		require(len >= X86_INSN_MAX);
		break;
	}
	return 0;
}
