/*
 * Re-encoding: chosen instructions against the bytes that GNU as makes of them,
 * then millions of random ones, whose result must be the same instruction with
 * the map's registers and address: by our decoder, and by Zydis, which knows
 * nothing of ours.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>
#include <cmocka.h>

#include "engine/x86/reencode.h"

#define NONE X86_NO_REG

enum {
	RAX,
	RCX,
	RDX,
	RBX,
	RSP,
	RBP,
	RSI,
	RDI,
	R8,
	R9,
	R10,
	R11,
	R12,
	R13,
	R14,
	R15
};

static unsigned
hex(const char *s, uint8_t *out)
{
	unsigned n = 0;
	char *end;

	for (; *s != '\0'; s = *end == ' ' ? end + 1 : end)
		out[n++] = (uint8_t)strtoul(s, &end, 16);
	return n;
}

/* ------------------------------------------------- against an assembler */

/* Guest register r becomes host register r ^ flip. */
static const struct row {
	const char *what;
	enum x86_code code;
	const char *in;
	uint8_t flip, base, index;
	int32_t disp;
	bool gs;
	const char *out; /* NULL: not in 64-bit code */
} rows[] = {
	{ "add r8d,[rsp+8]", X86_CODE64, "03 03", 8, RSP, NONE, 8, false,
	    "44 03 44 24 08" },
	{ "add dword [r12],imm", X86_CODE64, "81 00 78 56 34 12", 8, R12, NONE,
	    0, false, "41 81 04 24 78 56 34 12" },
	{ "add [rbp],r9b", X86_CODE64, "00 0d 11 22 33 44", 8, RBP, NONE, 0,
	    false, "44 00 4d 00" },
	{ "mov [r13],r10", X86_CODE64, "65 48 89 54 8b 7f", 8, R13, NONE, 0,
	    false, "4d 89 55 00" },
	{ "mov rax,gs:[0x1000]", X86_CODE64, "48 8b 00", 0, NONE, NONE, 0x1000,
	    true, "65 48 8b 04 25 00 10 00 00" },
	{ "mov rax,[0x1000]", X86_CODE64, "48 a1 11 22 33 44 55 66 77 88", 8,
	    NONE, NONE, 0x1000, false, "48 8b 04 25 00 10 00 00" },
	{ "mov al,[rcx]", X86_CODE16, "a0 34 12", 0, RCX, NONE, 0, false,
	    "8a 01" },
	{ "mov [rcx],al", X86_CODE32, "a2 34 12 00 00", 0, RCX, NONE, 0, false,
	    "88 01" },
	{ "mov [rcx],ax", X86_CODE32, "66 a3 34 12 00 00", 0, RCX, NONE, 0,
	    false, "66 89 01" },
	{ "lock add gs:[r15+r14+0x1000],r11w", X86_CODE64, "66 f0 01 18", 8,
	    R15, R14, 0x1000, true, "65 f0 66 47 01 9c 37 00 10 00 00" },
	{ "add spl,dil", X86_CODE64, "00 d8", 4, NONE, NONE, 0, false,
	    "40 00 fc" },
	{ "add sil,1", X86_CODE32, "80 c2 01", 4, NONE, NONE, 0, false,
	    "40 80 c6 01" },
	{ "add sil,1 by 82", X86_CODE32, "82 c2 01", 4, NONE, NONE, 0, false,
	    "40 80 c6 01" },
	{ "mov ah,[rdx]", X86_CODE32, "8a 25 00 00 00 00", 0, RDX, NONE, 0,
	    false, "8a 22" },
	{ "mov ah,[r8]", X86_CODE32, "8a 20", 0, R8, NONE, 0, false, NULL },
	{ "mov cl,bh", X86_CODE64, "88 f9", 0, NONE, NONE, 0, false, "88 f9" },
	{ "mov cl,bh with bl moved", X86_CODE64, "88 f9", 1, NONE, NONE, 0,
	    false, NULL },
	{ "imul eax,[rdi],5", X86_CODE16, "66 6b 00 05", 0, RDI, NONE, 0, false,
	    "6b 07 05" },
	{ "inc r9w", X86_CODE16, "41", 8, NONE, NONE, 0, false, "66 41 ff c1" },
	{ "inc ecx", X86_CODE16, "66 41", 0, NONE, NONE, 0, false, "ff c1" },
	{ "dec r10d", X86_CODE32, "4a", 8, NONE, NONE, 0, false, "41 ff ca" },
	{ "cwd", X86_CODE16, "99", 0, NONE, NONE, 0, false, "66 99" },
	{ "cdq", X86_CODE16, "66 99", 0, NONE, NONE, 0, false, "99" },
	{ "mov r14,imm64", X86_CODE64, "48 be 88 77 66 55 44 33 22 11", 8, NONE,
	    NONE, 0, false, "49 be 88 77 66 55 44 33 22 11" },
	{ "mov bx,imm16", X86_CODE16, "bb 34 12", 0, NONE, NONE, 0, false,
	    "66 bb 34 12" },
	{ "bswap r15", X86_CODE64, "48 0f cf", 8, NONE, NONE, 0, false,
	    "49 0f cf" },
	{ "xchg r9,rax", X86_CODE64, "48 91", 8, NONE, NONE, 0, false,
	    "49 91" },
	{ "lfence", X86_CODE16, "0f ae e8", 0, NONE, NONE, 0, false,
	    "0f ae e8" },
	{ "pause", X86_CODE64, "f3 90", 0, NONE, NONE, 0, false, "f3 90" },
	{ "nop", X86_CODE64, "0f 1f 44 00 00", 0, RAX, NONE, 0, false, "90" },
	{ "vaddps xmm1,xmm2,[r12+64]", X86_CODE64, "c5 e8 58 08", 0, R12, NONE,
	    64, false, "c4 c1 68 58 4c 24 40" },
	{ "vaddps ymm9,ymm2,[rbx+rcx]", X86_CODE64, "c4 01 6c 58 08", 0, RBX,
	    RCX, 0, false, "c5 6c 58 0c 0b" },
	{ "andn r8,r9,[rsp-1]", X86_CODE64, "c4 e2 f0 f2 00", 8, RSP, NONE, -1,
	    false, "c4 62 b0 f2 44 24 ff" },
	{ "andn eax,ecx,[rax] with W", X86_CODE32, "c4 e2 f0 f2 00", 0, RAX,
	    NONE, 0, false, "c4 e2 70 f2 00" },
	/* EVEX has no disp8 here, so these end in disp32. */
	{ "vaddps zmm17{k3}{z},zmm30,[r13+64]", X86_CODE64,
	    "62 e1 0c c3 58 48 01", 0, R13, NONE, 64, false,
	    "62 c1 0c c3 58 8d 40 00 00 00" },
	{ "vaddps zmm17{k3}{z},zmm30,[r13]", X86_CODE64, "62 e1 0c c3 58 48 01",
	    0, R13, NONE, 0, false, "62 c1 0c c3 58 4d 00" },
	{ "vaddps zmm17{k3},zmm30,[r13]{1to16}", X86_CODE64,
	    "62 e1 0c 53 58 48 01", 0, R13, NONE, 0, false,
	    "62 c1 0c 53 58 4d 00" },
	{ "vaddps zmm17{k3},zmm30,zmm20,{rz-sae}", X86_CODE64,
	    "62 a1 0c 73 58 cc", 8, NONE, NONE, 0, false, "62 a1 0c 73 58 cc" },
	{ "vpcmpestri xmm0,xmm1,0 with W", X86_CODE32, "c4 e3 f9 61 c1 00", 0,
	    NONE, NONE, 0, false, "c4 e3 79 61 c1 00" },
	{ "vpcmpestri xmm0,xmm1,0, 64-bit", X86_CODE64, "c4 e3 f9 61 c1 00", 0,
	    NONE, NONE, 0, false, "c4 e3 f9 61 c1 00" },
	{ "vzeroupper", X86_CODE64, "c5 f8 77", 0, NONE, NONE, 0, false,
	    "c5 f8 77" },
	{ "vzeroupper of 8 registers", X86_CODE32, "c5 f8 77", 0, NONE, NONE, 0,
	    false, NULL },
	{ "vpinsrd xmm3,xmm4,r10d,2", X86_CODE64, "c4 e3 59 22 da 02", 8, NONE,
	    NONE, 0, false, "c4 c3 59 22 da 02" },
	{ "movd xmm3,r11d", X86_CODE16, "66 0f 6e db", 8, NONE, NONE, 0, false,
	    "66 41 0f 6e db" },
	{ "movmskps r13d,xmm4", X86_CODE64, "0f 50 ec", 8, NONE, NONE, 0, false,
	    "44 0f 50 ec" },
	{ "pinsrw mm3,[rdx],7", X86_CODE64, "0f c4 18 07", 0, RDX, NONE, 0,
	    false, "0f c4 1a 07" },
	{ "fld tword [rax+rcx]", X86_CODE64, "db 29", 0, RAX, RCX, 0, false,
	    "db 2c 08" },
	{ "fnstenv of 16 bits", X86_CODE16, "d9 36 00 01", 0, RAX, NONE, 0,
	    false, "66 d9 30" },
	{ "fnstenv of 32 bits", X86_CODE16, "66 d9 36 00 01", 0, RAX, NONE, 0,
	    false, "d9 30" },
	{ "stmxcsr [r8]", X86_CODE64, "0f ae 1b", 0, R8, NONE, 0, false,
	    "41 0f ae 18" },
	{ "fxsave64", X86_CODE64, "48 0f ae 03", 0, R8, NONE, 0, false, NULL },
	{ "daa", X86_CODE32, "27", 0, NONE, NONE, 0, false, NULL },
	{ "xlat", X86_CODE64, "d7", 0, RAX, NONE, 0, false, NULL },
	{ "maskmovq", X86_CODE64, "0f f7 c1", 0, RAX, NONE, 0, false, NULL },
	{ "vpgatherdd", X86_CODE64, "c4 e2 6d 90 04 08", 0, RAX, NONE, 0, false,
	    NULL },
	{ "push rax", X86_CODE64, "50", 0, NONE, NONE, 0, false, NULL },
	{ "jmp rax", X86_CODE64, "ff e0", 0, NONE, NONE, 0, false, NULL },
	{ "index rsp", X86_CODE64, "03 03", 0, RAX, RSP, 0, false, NULL },
};

static void
as_the_assembler(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];
		struct x86_regmap map = {
			.base = row->base,
			.index = row->index,
			.disp = row->disp,
			.gs = row->gs,
		};
		uint8_t in[X86_INSN_MAX], want[X86_INSN_MAX];
		uint8_t out[X86_REENCODED_MAX];
		struct x86_insn insn;
		unsigned len = hex(row->in, in);
		int n;

		for (unsigned r = 0; r < CPU_GPRS; r++)
			map.gpr[r] = (uint8_t)(r ^ row->flip);
		assert_int_equal(x86_decode(in, len, row->code, &insn),
		    X86_DECODED);
		if (insn.len != len)
			fail_msg("%s: decoded as %u bytes", row->what,
			    insn.len);
		n = x86_reencode(&insn, &map, out);
		if (row->out == NULL) {
			if (n != -ENOTSUP)
				fail_msg("%s: %d", row->what, n);
			continue;
		}
		len = hex(row->out, want);
		if (n != (int)len || memcmp(out, want, len) != 0) {
			for (int b = 0; b < n; b++)
				print_message("%02x ", out[b]);
			fail_msg("%s (%s): %d", row->what, insn.op->name, n);
		}
	}
}

/* ------------------------------------------------------- random streams */

static uint64_t seed = 0x9e3779b97f4a7c15ULL;

static uint64_t
random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1dULL;
}

static unsigned
below(unsigned n)
{
	return (unsigned)(random64() >> 33) % n;
}

/* Bytes in which every encoding turns up: pure noise would be mostly ADD. */
static void
random_bytes(uint8_t *b, enum x86_code code)
{
	static const uint8_t prefixes[] = { 0x66, 0x66, 0xf2, 0xf3, 0xf0, 0x67,
		0x2e, 0x64, 0x65 };
	unsigned at = 0;

	for (unsigned i = 0; i < X86_INSN_MAX; i++)
		b[i] = (uint8_t)random64();
	while (below(3) == 0 && at < 3)
		b[at++] = prefixes[below(ARRAY_SIZE(prefixes))];
	if (code == X86_CODE64 && below(2) == 0)
		b[at++] = (uint8_t)(0x40 | below(16));
	switch (below(8)) {
	case 0:
		break; /* one-byte opcodes */
	case 1:
		b[at] = (uint8_t)(0xd8 | below(8));
		break;
	case 2:
		b[at] = 0x0f;
		break;
	case 3:
		b[at] = 0x0f;
		b[at + 1] = below(2) ? 0x38 : 0x3a;
		break;
	case 4:
		b[0] = 0xc5;
		break;
	case 5:
		b[0] = 0xc4;
		b[1] = (uint8_t)((b[1] & 0xe0) | (1 + below(3)));
		break;
	default:
		b[0] = 0x62;
		b[1] = (uint8_t)((b[1] & 0xf0) | (1 + below(3)));
		b[2] |= 0x04;
		break;
	}
}

static void
random_map(struct x86_regmap *map)
{
	static const int32_t disps[] = { 0, 0, 1, -1, 127, 128, -128, -129, 64,
		INT32_MAX, INT32_MIN, 0x12345678 };

	for (unsigned r = 0; r < CPU_GPRS; r++)
		map->gpr[r] = (uint8_t)(below(2) ? r : below(CPU_GPRS));
	map->base = (uint8_t)(below(8) ? below(CPU_GPRS) : X86_NO_REG);
	do {
		map->index = (uint8_t)(below(2) ? below(CPU_GPRS) : X86_NO_REG);
	} while (map->index == CPU_RSP);
	map->disp = disps[below(ARRAY_SIZE(disps))];
	map->gs = below(2);
}

/* May an instruction be refused?  For the reasons that reencode.h gives. */
static bool
refusable(const struct x86_insn *insn)
{
	static const uint16_t ids[] = { X86_OP_DAA, X86_OP_DAS, X86_OP_AAA,
		X86_OP_AAS, X86_OP_AAM, X86_OP_AAD, X86_OP_SALC, X86_OP_BOUND,
		X86_OP_XLAT, X86_OP_MASKMOV, X86_OP_CLZERO, X86_OP_MOVDIR64B,
		X86_OP_XCHG };

	if (insn->op->attrs & X86_A_VSIB)
		return true;
	if (strncmp(insn->op->name, "vzero", 5) == 0)
		return insn->code != X86_CODE64;
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		if (insn->op->id == ids[i])
			return true;
	}
	for (unsigned i = 0; i < insn->operands; i++) {
		if (insn->opnd[i].kind == X86_K_HIGH)
			return true;
	}
	return false;
}

struct trial {
	struct x86_insn in;
	struct x86_regmap map;
	uint8_t out[X86_REENCODED_MAX];
	unsigned len;
};

_Noreturn static void
complain(const struct trial *t, const char *what)
{
	print_message("code %u:", t->in.code);
	for (unsigned i = 0; i < t->in.len; i++)
		print_message(" %02x", t->in.bytes[i]);
	print_message(" (%s) became", t->in.op->name);
	for (unsigned i = 0; i < t->len; i++)
		print_message(" %02x", t->out[i]);
	print_message("\n");
	fail_msg("%s", what);
	abort();
}

static bool
same_memory(const struct x86_regmap *map, unsigned base, unsigned index,
    int64_t disp)
{
	if (disp != map->disp)
		return false;
	return base == map->base && index == map->index;
}

/* Bit 7 is ignored where bits 7-4 are a register and there are only 8. */
static uint64_t
imm_bits(const struct x86_insn *in)
{
	for (unsigned i = 0; i < in->operands; i++) {
		if (in->opnd[i].slot == X86_S_IS4 && in->code != X86_CODE64)
			return 0x7f;
	}
	return UINT64_MAX;
}

/* By our own decoder. */
static void
check_decoded(const struct trial *t)
{
	const struct x86_insn *in = &t->in;
	struct x86_insn out;

	if (x86_decode(t->out, t->len, X86_CODE64, &out) != X86_DECODED ||
	    out.len != t->len)
		complain(t, "length");
	if (in->op->id == X86_OP_NOP) {
		if (out.op->id != X86_OP_NOP)
			complain(t, "not a NOP");
		return;
	}
	if (out.op->id != in->op->id || out.encoding != in->encoding ||
	    out.pp != in->pp || (out.imm ^ in->imm) & imm_bits(in) ||
	    out.vl != in->vl || out.evex_aaa != in->evex_aaa ||
	    out.evex_b != in->evex_b || out.evex_z != in->evex_z ||
	    out.operands != in->operands ||
	    ((out.pfx ^ in->pfx) & X86_PFX_LOCK))
		complain(t, "another instruction");
	for (unsigned i = 0; i < in->operands; i++) {
		const struct x86_operand *a = &in->opnd[i], *b = &out.opnd[i];
		bool renamed = a->kind == X86_K_GPR && a->slot != X86_S_FIXED;

		if (a->kind != b->kind || a->size != b->size || a->rw != b->rw)
			complain(t, "another operand");
		if (a->kind != X86_K_MEM && a->kind != X86_K_IMM &&
		    b->reg != (renamed ? t->map.gpr[a->reg] : a->reg))
			complain(t, "another register");
	}
	if (in->has_mem != out.has_mem)
		complain(t, "memory lost");
	if (!in->has_mem)
		return;
	if (!same_memory(&t->map, out.base, out.index, out.disp) ||
	    (out.index != X86_NO_REG && out.scale != 0) ||
	    ((out.pfx & X86_PFX_SEG) != 0) != t->map.gs ||
	    (t->map.gs && out.seg != CPU_GS) || out.addrsize != 8)
		complain(t, "another address");
}

static unsigned
zydis_gpr(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return X86_NO_REG;
	return (unsigned)ZydisRegisterGetId(reg);
}

static bool
zydis_is_gpr(ZydisRegister reg)
{
	ZydisRegisterClass class = ZydisRegisterGetClass(reg);

	return class == ZYDIS_REGCLASS_GPR8 || class == ZYDIS_REGCLASS_GPR16 ||
	    class == ZYDIS_REGCLASS_GPR32 || class == ZYDIS_REGCLASS_GPR64;
}

/* The number of a general register among its kind: AH to BH are 4 to 7. */
static unsigned
zydis_number(ZydisRegister reg, bool *high)
{
	*high = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
	if (*high)
		return (unsigned)(reg - ZYDIS_REGISTER_AH);
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return (unsigned)(reg - ZYDIS_REGISTER_SPL) + CPU_RSP;
	return zydis_gpr(reg);
}

static void
check_zydis_register(const struct trial *t, const ZydisDecodedOperand *a,
    const ZydisDecodedOperand *b)
{
	ZydisRegister from = a->reg.value, to = b->reg.value;
	unsigned number, got;
	bool high, high_now;

	if (!zydis_is_gpr(from) || !zydis_is_gpr(to)) {
		if (from != to)
			complain(t, "Zydis: another register");
		return;
	}
	number = zydis_number(from, &high);
	got = zydis_number(to, &high_now);
	/* Implied by the opcode, and so not mapped; MOFFS has it in ModRM. */
	if (a->encoding != ZYDIS_OPERAND_ENCODING_NONE || high)
		number = high ? number : t->map.gpr[number];
	if (number != got || high != high_now)
		complain(t, "Zydis: another register");
}

static void
check_zydis_memory(const struct trial *t, const ZydisDecodedOperand *m)
{
	unsigned base = zydis_gpr(m->mem.base);
	unsigned index = zydis_gpr(m->mem.index);

	if (!same_memory(&t->map, base, index,
		m->mem.disp.has_displacement ? m->mem.disp.value : 0))
		complain(t, "Zydis: another address");
	/* LEA has no segment, whatever the prefix. */
	if ((m->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
		(m->mem.segment == ZYDIS_REGISTER_GS) != t->map.gs) ||
	    (index != X86_NO_REG && m->mem.scale > 1))
		complain(t, "Zydis: another segment or scale");
}

/* By Zydis: false if it does not know the original. */
static bool
check_zydis(const struct trial *t, const ZydisDecoder decoders[3])
{
	ZydisDecodedInstruction a, b;
	ZydisDecodedOperand ao[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedOperand bo[ZYDIS_MAX_OPERAND_COUNT];

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[t->in.code],
		t->in.bytes, t->in.len, &a, ao)))
		return false;
	/* F3 and REX.B before 90: XCHG to processors, PAUSE to Zydis. */
	if (t->in.op->id == X86_OP_XCHG && a.mnemonic == ZYDIS_MNEMONIC_PAUSE)
		return false;
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[X86_CODE64], t->out,
		t->len, &b, bo)) ||
	    b.length != t->len)
		complain(t, "Zydis: not an instruction");
	if (t->in.op->id == X86_OP_NOP) {
		if (b.mnemonic != ZYDIS_MNEMONIC_NOP)
			complain(t, "Zydis: not a NOP");
		return true;
	}
	if (a.mnemonic != b.mnemonic || a.encoding != b.encoding ||
	    a.operand_count_visible != b.operand_count_visible ||
	    ((a.attributes ^ b.attributes) & ZYDIS_ATTRIB_HAS_LOCK))
		complain(t, "Zydis: another instruction");
	if (a.avx.vector_length != b.avx.vector_length ||
	    a.avx.mask.mode != b.avx.mask.mode ||
	    a.avx.mask.reg != b.avx.mask.reg ||
	    a.avx.broadcast.mode != b.avx.broadcast.mode ||
	    a.avx.rounding.mode != b.avx.rounding.mode ||
	    a.avx.has_sae != b.avx.has_sae)
		complain(t, "Zydis: another EVEX context");
	for (unsigned i = 0; i < a.operand_count_visible; i++) {
		/* The size of LEA's operand is that of addresses. */
		bool address = ao[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    ao[i].mem.type == ZYDIS_MEMOP_TYPE_AGEN;

		if (ao[i].type != bo[i].type ||
		    (ao[i].size != bo[i].size && !address) ||
		    (ao[i].element_size != bo[i].element_size && !address) ||
		    ao[i].actions != bo[i].actions)
			complain(t, "Zydis: another operand");
		if (ao[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
			check_zydis_register(t, &ao[i], &bo[i]);
		else if (ao[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			check_zydis_memory(t, &bo[i]);
		else if (ao[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
		    ao[i].imm.value.u != bo[i].imm.value.u)
			complain(t, "Zydis: another immediate");
	}
	return true;
}

#define TRIALS 1500000u

static void
random_ones_stay_the_same(void **state)
{
	ZydisDecoder decoders[3];
	unsigned done = 0, refused = 0, by_zydis = 0;
	unsigned by_encoding[3] = { 0 };
	struct trial t;

	ZydisDecoderInit(&decoders[X86_CODE16],
	    ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&decoders[X86_CODE32],
	    ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoders[X86_CODE64], ZYDIS_MACHINE_MODE_LONG_64,
	    ZYDIS_STACK_WIDTH_64);
	for (unsigned i = 0; i < TRIALS; i++) {
		enum x86_code code = below(2) ? X86_CODE64 : below(3);
		uint8_t bytes[X86_INSN_MAX];
		int n;

		random_bytes(bytes, code);
		if (x86_decode(bytes, sizeof(bytes), code, &t.in) !=
		    X86_DECODED)
			continue;
		random_map(&t.map);
		n = x86_reencode(&t.in, &t.map, t.out);
		if (t.in.op->cls != X86_C_PLAIN &&
		    t.in.op->cls != X86_C_VECTOR) {
			assert_int_equal(n, -ENOTSUP);
			continue;
		}
		if (n < 0) {
			assert_int_equal(n, -ENOTSUP);
			t.len = 0;
			if (!refusable(&t.in))
				complain(&t, "refused");
			refused++;
			continue;
		}
		t.len = (unsigned)n;
		if (t.len > 14)
			complain(&t, "too long");
		check_decoded(&t);
		by_zydis += check_zydis(&t, decoders);
		by_encoding[t.in.encoding]++;
		done++;
	}
	print_message("%u re-encoded, %u of them judged by Zydis, %u refused\n",
	    done, by_zydis, refused);
	/* A test that looked at nothing has not passed. */
	for (unsigned i = 0; i < ARRAY_SIZE(by_encoding); i++)
		assert_true(by_encoding[i] > 1000);
	assert_true(by_zydis > done / 10 * 9);
	assert_true(refused < done / 5);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_assembler),
		cmocka_unit_test(random_ones_stay_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
