/*
 * The decoder: chosen instructions with everything written down, then each
 * opcode with each ModRM and prefix, and millions of random bytes, against
 * Zydis.  Where we differ from Zydis on purpose is a list with reasons.
 */
#include <sys/mman.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>
#include <cmocka.h>

#include "engine/x86/decode.h"

#define PAGE 4096u

/* A generator of its own: the same numbers on every host. */
static uint64_t
random64(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static unsigned
hex(const char *s, uint8_t *out)
{
	unsigned n = 0;
	char *end;

	for (; *s != '\0'; s = *end == ' ' ? end + 1 : end)
		out[n++] = (uint8_t)strtoul(s, &end, 16);
	return n;
}

static bool
is_undefined(const struct x86_insn *insn)
{
	/* UD0, UD1, UD2 and 3DNow have rows, for their lengths. */
	return insn->op->id == X86_OP_UD && strcmp(insn->op->name, "ud") == 0;
}

/* ------------------------------------------------------------- by hand */

/*
 * An instruction as text: name, operands, @ memory, # immediates.  An operand
 * is r: GPR, h: AH..BH, m: memory, i: immediate, s: segment, c and d: control
 * and debug register, mm: MMX, v: vector, k: opmask, st: x87; then the number
 * of the register, a dot and its bytes, and how it is accessed.
 */
static void
describe(const struct x86_insn *insn, char *text, size_t size)
{
	static const char *const kinds[] = {
		[X86_K_NONE] = "none",
		[X86_K_GPR] = "r",
		[X86_K_HIGH] = "h",
		[X86_K_MEM] = "m",
		[X86_K_IMM] = "i",
		[X86_K_SEG] = "s",
		[X86_K_CR] = "c",
		[X86_K_DR] = "d",
		[X86_K_MMX] = "mm",
		[X86_K_VEC] = "v",
		[X86_K_OPMASK] = "k",
		[X86_K_ST] = "st",
		[X86_K_BND] = "bnd",
	};
	static const char *const access[] = { "", "=r", "=w", "=rw" };
	static const char *const segs[] = { "es", "cs", "ss", "ds", "fs",
		"gs" };
	FILE *out = fmemopen(text, size, "w");
	bool imm = false;

	assert_non_null(out);
	fputs(insn->op->name, out);
	for (unsigned i = 0; i < insn->operands; i++) {
		const struct x86_operand *o = &insn->opnd[i];

		fprintf(out, " %s", kinds[o->kind]);
		if (o->kind != X86_K_MEM && o->kind != X86_K_IMM)
			fprintf(out, "%u.", o->reg);
		fprintf(out, "%u%s", o->size, access[o->rw]);
		imm |= o->kind == X86_K_IMM || o->slot == X86_S_IS4;
	}
	if (insn->has_mem) {
		fprintf(out, " @%s:", segs[insn->seg]);
		if (insn->base == X86_BASE_RIP)
			fputs("rip+", out);
		else if (insn->base != X86_NO_REG)
			fprintf(out, "%u+", insn->base);
		if (insn->index != X86_NO_REG)
			fprintf(out, "%u*%u+", insn->index, 1u << insn->scale);
		fprintf(out, "%llx", (unsigned long long)insn->disp);
	}
	if (imm)
		fprintf(out, " #%llx", (unsigned long long)insn->imm);
	if (insn->imm2 != 0)
		fprintf(out, ",%x", insn->imm2);
	fclose(out);
}

static const struct known {
	enum x86_code code;
	uint8_t opsize; /* 0: not looked at */
	const char *bytes;
	const char *text;
} known[] = {
	{ X86_CODE64, 8, "48 01 d8", "add r0.8=rw r3.8=r" },
	{ X86_CODE64, 2, "66 01 d8", "add r0.2=rw r3.2=r" },
	{ X86_CODE64, 2, "48 66 01 d8", "add r0.2=rw r3.2=r" },
	{ X86_CODE64, 8, "66 48 01 d8", "add r0.8=rw r3.8=r" },
	{ X86_CODE64, 0, "00 e5", "add h1.1=rw h0.1=r" },
	{ X86_CODE64, 0, "40 00 e5", "add r5.1=rw r4.1=r" },
	{ X86_CODE64, 0, "40 66 00 e5", "add h1.1=rw h0.1=r" },
	{ X86_CODE64, 0, "41 80 c4 ff", "add r12.1=rw i1=r #ffffffffffffffff" },
	{ X86_CODE64, 4, "83 c0 80", "add r0.4=rw i1=r #ffffffffffffff80" },
	{ X86_CODE64, 8, "48 81 c0 00 00 00 80",
	    "add r0.8=rw i4=r #ffffffff80000000" },
	{ X86_CODE64, 0, "04 7f", "add r0.1=rw i1=r #7f" },
	{ X86_CODE64, 0, "48 05 ff ff ff ff",
	    "add r0.8=rw i4=r #ffffffffffffffff" },
	{ X86_CODE64, 0, "4c 8b 24 24", "mov r12.8=w m8=r @ss:4+0" },
	{ X86_CODE64, 0, "8b 44 8d f8",
	    "mov r0.4=w m4=r @ss:5+1*4+fffffffffffffff8" },
	{ X86_CODE64, 0, "8b 05 10 00 00 00", "mov r0.4=w m4=r @ds:rip+10" },
	{ X86_CODE64, 0, "67 8b 05 f0 ff ff ff",
	    "mov r0.4=w m4=r @ds:rip+fffffffffffffff0" },
	{ X86_CODE64, 0, "8b 04 25 00 00 00 80",
	    "mov r0.4=w m4=r @ds:ffffffff80000000" },
	{ X86_CODE64, 0, "41 8b 45 00", "mov r0.4=w m4=r @ds:13+0" },
	{ X86_CODE64, 0, "41 8b 04 24", "mov r0.4=w m4=r @ds:12+0" },
	{ X86_CODE64, 0, "42 8b 04 20", "mov r0.4=w m4=r @ds:0+12*1+0" },
	{ X86_CODE64, 0, "65 48 8b 04 25 28 00 00 00",
	    "mov r0.8=w m8=r @gs:28" },
	{ X86_CODE64, 0, "64 2e 8b 00", "mov r0.4=w m4=r @fs:0+0" },
	{ X86_CODE64, 0, "2e 8b 00", "mov r0.4=w m4=r @ds:0+0" },
	{ X86_CODE32, 0, "2e 8b 00", "mov r0.4=w m4=r @cs:0+0" },
	{ X86_CODE32, 0, "8b 05 00 00 00 80",
	    "mov r0.4=w m4=r @ds:ffffffff80000000" },
	{ X86_CODE32, 0, "67 8b 02", "mov r0.4=w m4=r @ss:5+6*1+0" },
	{ X86_CODE16, 2, "8b 00", "mov r0.2=w m2=r @ds:3+6*1+0" },
	{ X86_CODE16, 0, "8b 01", "mov r0.2=w m2=r @ds:3+7*1+0" },
	{ X86_CODE16, 0, "8b 02", "mov r0.2=w m2=r @ss:5+6*1+0" },
	{ X86_CODE16, 0, "8b 03", "mov r0.2=w m2=r @ss:5+7*1+0" },
	{ X86_CODE16, 0, "8b 04", "mov r0.2=w m2=r @ds:6+0" },
	{ X86_CODE16, 0, "8b 05", "mov r0.2=w m2=r @ds:7+0" },
	{ X86_CODE16, 0, "8b 06 34 92",
	    "mov r0.2=w m2=r @ds:ffffffffffff9234" },
	{ X86_CODE16, 0, "8b 46 80", "mov r0.2=w m2=r @ss:5+ffffffffffffff80" },
	{ X86_CODE16, 0, "8b 87 34 12", "mov r0.2=w m2=r @ds:3+1234" },
	{ X86_CODE16, 4, "66 67 8b 04 8d 78 56 34 12",
	    "mov r0.4=w m4=r @ds:1*4+12345678" },
	{ X86_CODE64, 0, "48 b8 88 77 66 55 44 33 22 f1",
	    "mov r0.8=w i8=r #f122334455667788" },
	{ X86_CODE64, 0, "b8 ff ff ff ff", "mov r0.4=w i4=r #ffffffff" },
	{ X86_CODE64, 0, "48 c7 c0 ff ff ff ff",
	    "mov r0.8=w i4=r #ffffffffffffffff" },
	{ X86_CODE64, 0, "a1 88 77 66 55 44 33 22 f1",
	    "mov r0.4=w m4=r @ds:f122334455667788" },
	{ X86_CODE64, 0, "67 a0 88 77 66 f5", "mov r0.1=w m1=r @ds:f5667788" },
	{ X86_CODE16, 0, "64 a3 34 f2", "mov m2=w r0.2=r @fs:f234" },
	{ X86_CODE64, 0, "8c d8", "mov r0.4=w s3.2=r" },
	{ X86_CODE64, 0, "48 8c 18", "mov m2=w s3.2=r @ds:0+0" },
	{ X86_CODE64, 0, "8e d0", "mov s2.2=w r0.2=r" },
	{ X86_CODE64, 0, "0f 20 04", "mov r4.8=w c0.8=r" },
	{ X86_CODE64, 0, "44 0f 22 c0", "mov c8.8=w r0.8=r" },
	{ X86_CODE32, 0, "0f 23 38", "mov d7.4=w r0.4=r" },
	{ X86_CODE64, 0, "0f 20 c8", "ud" },
	{ X86_CODE64, 0, "44 0f 20 c8", "ud" },
	{ X86_CODE64, 0, "90", "nop" },
	{ X86_CODE64, 0, "41 90", "xchg r8.4=rw r0.4=rw" },
	{ X86_CODE64, 0, "f3 41 90", "xchg r8.4=rw r0.4=rw" },
	{ X86_CODE64, 0, "f3 90", "pause" },
	{ X86_CODE64, 0, "48 90", "nop" },
	{ X86_CODE64, 0, "63 c8", "movsxd r1.4=w r0.4=r" },
	{ X86_CODE64, 0, "48 63 08", "movsxd r1.8=w m4=r @ds:0+0" },
	{ X86_CODE32, 0, "63 08", "arpl m2=rw r1.2=r @ds:0+0" },
	{ X86_CODE32, 0, "41", "inc r1.4=rw" },
	{ X86_CODE16, 0, "66 4f", "dec r7.4=rw" },
	{ X86_CODE64, 0, "0f b6 c4", "movzx r0.4=w h0.1=r" },
	{ X86_CODE64, 0, "48 0f bf 00", "movsx r0.8=w m2=r @ds:0+0" },
	{ X86_CODE64, 0, "48 8d 04 01", "lea r0.8=w m0 @ds:1+0*1+0" },
	{ X86_CODE64, 0, "8d c0", "ud" },
	{ X86_CODE64, 0, "c1 e0 ff", "shl r0.4=rw i1=r #ff" },
	{ X86_CODE64, 0, "d1 30", "shl m4=rw i1=r @ds:0+0 #1" },
	{ X86_CODE64, 0, "d2 e8", "shr r0.1=rw r1.1=r" },
	{ X86_CODE64, 0, "0f ac d0 07", "shrd r0.4=rw r2.4=r i1=r #7" },
	{ X86_CODE64, 0, "6b c1 f0",
	    "imul r0.4=w r1.4=r i1=r #fffffffffffffff0" },
	{ X86_CODE64, 0, "66 69 c1 00 80",
	    "imul r0.2=w r1.2=r i2=r #ffffffffffff8000" },
	{ X86_CODE64, 8, "6a ff", "push i1=r #ffffffffffffffff" },
	{ X86_CODE64, 2, "66 68 00 80", "push i2=r #ffffffffffff8000" },
	{ X86_CODE64, 8, "68 00 00 00 80", "push i4=r #ffffffff80000000" },
	{ X86_CODE64, 8, "41 57", "push r15.8=r" },
	{ X86_CODE64, 2, "66 50", "push r0.2=r" },
	{ X86_CODE64, 0, "8f 00", "pop m8=w @ds:0+0" },
	{ X86_CODE64, 0, "8f 08", "ud" },
	{ X86_CODE64, 8, "0f a0", "push s4.2=r" },
	{ X86_CODE32, 4, "06", "push s0.2=r" },
	{ X86_CODE64, 0, "06", "ud" },
	{ X86_CODE64, 8, "e8 fb ff ff ff", "call i4=r #fffffffffffffffb" },
	{ X86_CODE64, 8, "66 e8 fb ff ff ff", "call i4=r #fffffffffffffffb" },
	{ X86_CODE32, 2, "66 e9 fc ff", "jmp i2=r #fffffffffffffffc" },
	{ X86_CODE64, 8, "66 c3", "ret" },
	{ X86_CODE64, 8, "c2 08 f0", "ret i2=r #f008" },
	{ X86_CODE64, 8, "ff e0", "jmp r0.8=r" },
	{ X86_CODE64, 8, "66 ff 10", "call m8=r @ds:0+0" },
	{ X86_CODE64, 0, "ff 28", "jmp m6=r @ds:0+0" },
	{ X86_CODE64, 0, "48 ff 18", "call m10=r @ds:0+0" },
	{ X86_CODE64, 0, "ff d8", "ud" },
	{ X86_CODE32, 0, "9a 78 56 34 f2 cd ab", "call i6=r #f2345678,abcd" },
	{ X86_CODE16, 0, "ea 34 f2 cd ab", "jmp i4=r #f234,abcd" },
	{ X86_CODE64, 0, "9a", "ud" },
	{ X86_CODE64, 8, "c8 34 f2 1f", "enter i3=r #f234,1f" },
	{ X86_CODE64, 0, "cd 80", "int i1=r #80" },
	{ X86_CODE64, 1, "e4 f0", "in r0.1=w i1=r #f0" },
	{ X86_CODE64, 4, "66 48 ed", "in r0.4=w r2.2=r" },
	{ X86_CODE64, 2, "66 ef", "out r2.2=r r0.2=r" },
	{ X86_CODE64, 1, "a4", "movs" },
	{ X86_CODE64, 8, "48 a5", "movs" },
	{ X86_CODE64, 4, "6d", "ins" },
	{ X86_CODE64, 4, "48 6d", "ins" },
	{ X86_CODE64, 8, "48 98", "cbw" },
	{ X86_CODE16, 2, "99", "cwd" },
	{ X86_CODE64, 0, "0f c7 08", "cmpxchg8b m8=rw @ds:0+0" },
	{ X86_CODE64, 0, "48 0f c7 08", "cmpxchg16b m16=rw @ds:0+0" },
	{ X86_CODE64, 0, "48 0f c8", "bswap r0.8=rw" },
	{ X86_CODE64, 0, "f0 48 0f c7 08", "cmpxchg16b m16=rw @ds:0+0" },
	{ X86_CODE64, 0, "f0 01 18", "add m4=rw r3.4=r @ds:0+0" },
	{ X86_CODE64, 0, "f0 01 d8", "ud" },
	{ X86_CODE64, 0, "f0 03 18", "ud" },
	{ X86_CODE64, 0, "f0 38 18", "ud" },
	{ X86_CODE64, 0, "f0 87 18", "xchg m4=rw r3.4=rw @ds:0+0" },
	{ X86_CODE64, 0, "f0 0f a3 18", "ud" },
	{ X86_CODE64, 0, "f0 0f ab 18", "bts m4=rw r3.4=r @ds:0+0" },
	{ X86_CODE64, 0, "f0 0f ba 20 01", "ud" },
	{ X86_CODE64, 0, "f0 90", "ud" },
	{ X86_CODE64, 0, "f0 f7 18", "neg m4=rw @ds:0+0" },
	{ X86_CODE64, 0, "f0 f7 20", "ud" },
	{ X86_CODE64, 0, "f3 0f b8 c1", "popcnt r0.4=w r1.4=r" },
	{ X86_CODE64, 0, "66 f3 0f b8 c1", "popcnt r0.2=w r1.2=r" },
	{ X86_CODE64, 0, "0f b8 c1", "ud" },
	{ X86_CODE64, 0, "f3 0f bc c1", "tzcnt r0.4=w r1.4=r" },
	{ X86_CODE64, 0, "f2 0f bc c1", "bsf r0.4=rw r1.4=r" },
	{ X86_CODE64, 0, "f2 66 0f 38 f1 c1", "crc32 r0.4=rw r1.2=r" },
	{ X86_CODE64, 0, "66 0f 38 f1 01", "movbe m2=w r0.2=r @ds:1+0" },
	{ X86_CODE64, 0, "66 0f 38 82 00", "invpcid r0.8=r m16=r @ds:0+0" },
	{ X86_CODE64, 0, "0f 01 00", "sgdt m10=w @ds:0+0" },
	{ X86_CODE16, 0, "0f 01 10", "lgdt m6=r @ds:3+6*1+0" },
	{ X86_CODE64, 0, "0f 01 e0", "smsw r0.4=w" },
	{ X86_CODE64, 0, "0f 01 f8", "swapgs" },
	{ X86_CODE32, 0, "0f 01 f8", "ud" },
	{ X86_CODE64, 0, "f3 0f ae c8", "rdgsbase r0.4=w" },
	{ X86_CODE32, 0, "f3 0f ae c8", "ud" },
	{ X86_CODE64, 0, "0f ae e8", "lfence" },
	{ X86_CODE64, 0, "f3 0f 1e fa", "nop r2.4" },
	{ X86_CODE64, 0, "0f 1f 84 00 00 00 00 00", "nop m4 @ds:0+0*1+0" },
	{ X86_CODE64, 0, "66 2e 0f 1f 84 00 00 00 00 00",
	    "nop m2 @ds:0+0*1+0" },
	{ X86_CODE64, 0, "0f 0b", "ud2" },
	{ X86_CODE64, 0, "0f b9 c0", "ud1 r0.4 r0.4" },
	{ X86_CODE64, 0, "0f 0f c1 b4", "3dnow" },
	{ X86_CODE64, 0, "d5", "ud" },
	{ X86_CODE64, 0, "d6", "ud" },
	{ X86_CODE32, 0, "d6", "salc" },
	{ X86_CODE32, 0, "c4 00", "les r0.4=w m6=r s0.2=w @ds:0+0" },
	{ X86_CODE32, 0, "c5 c0 58 c1", "vaddps v0.16=w v7.16=r v1.16=r" },
	{ X86_CODE32, 0, "62 00", "bound r0.4=r m8=r @ds:0+0" },
	{ X86_CODE32, 0, "82 c0 01", "add r0.1=rw i1=r #1" },
	{ X86_CODE64, 0, "82 c0 01", "ud" },
	{ X86_CODE64, 0, "d9 30", "fnstenv m28=w @ds:0+0" },
	{ X86_CODE64, 0, "66 d9 30", "fnstenv m14=w @ds:0+0" },
	{ X86_CODE16, 0, "dd 20", "frstor m94=r @ds:3+6*1+0" },
	{ X86_CODE64, 0, "db 28", "fld m10=r @ds:0+0" },
	{ X86_CODE64, 0, "df 20", "fbld m10=r @ds:0+0" },
	{ X86_CODE64, 0, "dc c1", "fadd st1.10=rw st0.10=r" },
	{ X86_CODE64, 0, "df e0", "fnstsw r0.2=w" },
	{ X86_CODE64, 0, "da c1", "fcmovb st0.10=rw st1.10=r" },
	{ X86_CODE64, 0, "d9 d1", "ud" },
	{ X86_CODE64, 0, "0f 6e c8", "movd mm1.8=w r0.4=r" },
	{ X86_CODE64, 0, "66 48 0f 7e c8", "movd r0.8=w v1.16=r" },
	{ X86_CODE64, 0, "f3 0f 10 c1", "movss v0.16=rw v1.16=r" },
	{ X86_CODE64, 0, "f3 0f 10 01", "movss v0.16=w m4=r @ds:1+0" },
	{ X86_CODE64, 0, "f2 48 0f 2d c1", "cvtsd2si r0.8=w v1.16=r" },
	{ X86_CODE64, 0, "66 0f c4 08 03",
	    "pinsrw v1.16=rw m2=r i1=r @ds:0+0 #3" },
	{ X86_CODE64, 0, "66 0f 3a 14 08 03",
	    "pextrb m1=w v1.16=r i1=r @ds:0+0 #3" },
	{ X86_CODE64, 0, "66 0f 38 10 c1",
	    "pblendvb v0.16=rw v1.16=r v0.16=r" },
	{ X86_CODE64, 0, "c5 f8 77", "vzeroupper" },
	{ X86_CODE64, 0, "c5 74 58 c1", "vaddps v8.32=w v1.32=r v1.32=r" },
	{ X86_CODE64, 0, "c4 e3 71 4a c2 f0",
	    "vblendvps v0.16=w v1.16=r v2.16=r v15.16=r #f0" },
	{ X86_CODE32, 0, "c4 e3 71 4a c2 f0",
	    "vblendvps v0.16=w v1.16=r v2.16=r v7.16=r #f0" },
	{ X86_CODE64, 0, "c4 e2 e9 93 04 0b",
	    "vgatherqpd v0.16=rw m8=r v2.16=rw @ds:3+1*1+0" },
	{ X86_CODE64, 0, "c4 e2 e9 93 04 13", "ud" },
	{ X86_CODE64, 0, "c4 e2 e9 93 03", "ud" },
	{ X86_CODE64, 0, "66 c5 f8 58 c1", "ud" },
	{ X86_CODE64, 0, "48 c5 f8 58 c1", "ud" },
	{ X86_CODE64, 0, "f0 c5 f8 58 c1", "ud" },
	{ X86_CODE64, 0, "c5 80 28 c1", "ud" },
	{ X86_CODE64, 0, "c4 e2 78 f2 c1", "andn r0.4=w r0.4=r r1.4=r" },
	{ X86_CODE64, 0, "c4 42 e3 f6 c1", "mulx r8.8=w r3.8=w r9.8=r" },
	{ X86_CODE32, 0, "c4 e2 f8 f2 c1", "andn r0.4=w r0.4=r r1.4=r" },
	{ X86_CODE64, 0, "c5 fb 92 c8", "kmovd k1.8=w r0.4=r" },
	{ X86_CODE64, 0, "c4 e1 fb 93 c1", "kmovq r0.8=w k1.8=r" },
	{ X86_CODE64, 0, "c5 f9 90 08", "kmovb k1.8=w m1=r @ds:0+0" },
	{ X86_CODE64, 0, "62 f1 7c 48 58 48 01",
	    "vaddps v1.64=w v0.64=r m64=r @ds:0+40" },
	{ X86_CODE64, 0, "62 f1 7c 58 58 48 01",
	    "vaddps v1.64=w v0.64=r m4=r @ds:0+4" },
	{ X86_CODE64, 0, "62 f1 7c 49 58 c9",
	    "vaddps v1.64=rw v0.64=r v1.64=r" },
	{ X86_CODE64, 0, "62 f1 7c c9 58 c9",
	    "vaddps v1.64=w v0.64=r v1.64=r" },
	{ X86_CODE64, 0, "62 f1 7c c8 58 c9", "ud" },
	{ X86_CODE64, 0, "62 a1 7c 40 58 c9",
	    "vaddps v17.64=w v16.64=r v17.64=r" },
	{ X86_CODE64, 0, "62 f1 7e 68 58 c0", "ud" },
	{ X86_CODE64, 0, "62 f1 7e 78 58 c0",
	    "vaddss v0.16=w v0.16=r v0.16=r" },
	{ X86_CODE64, 0, "62 f1 fe 08 6f 40 ff",
	    "vmovdqu64 v0.16=w m16=r @ds:0+fffffffffffffff0" },
	{ X86_CODE64, 0, "62 f2 7d 49 8a 40 02",
	    "vcompressps m64=w v0.64=r @ds:0+8" },
	{ X86_CODE64, 0, "62 f2 7e 48 31 40 01",
	    "vpmovdb m16=w v0.64=r @ds:0+10" },
	{ X86_CODE64, 0, "62 f1 fd 48 6e c0", "ud" },
	{ X86_CODE64, 0, "62 f1 fd 08 6e c0", "vmovd v0.16=w r0.8=r" },
	{ X86_CODE64, 0, "62 f1 fc 48 58 c0", "ud" },
	{ X86_CODE64, 0, "62 d2 fd 41 93 44 d4 01",
	    "vgatherqpd v0.64=rw m8=r @ds:12+18*8+8" },
	{ X86_CODE64, 0, "62 f2 7d 49 7c c8", "vpbroadcastd v1.64=rw r0.4=r" },
	{ X86_CODE64, 0, "62 f1 74 49 c2 ca 04",
	    "vcmpps k1.8=w v1.64=r v2.64=r i1=r #4" },
};

static void
known_instructions(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		const struct known *k = &known[i];
		uint8_t bytes[X86_INSN_MAX];
		unsigned len = hex(k->bytes, bytes);
		struct x86_insn insn;
		char text[160];

		if (x86_decode(bytes, len, k->code, &insn) != X86_DECODED)
			fail_msg("%s: not decoded", k->bytes);
		describe(&insn, text, sizeof(text));
		if (strcmp(text, k->text) != 0)
			fail_msg("%s: %s, not %s", k->bytes, text, k->text);
		if (!is_undefined(&insn) && insn.len != len)
			fail_msg("%s: length %u", k->bytes, insn.len);
		if (k->opsize != 0 && insn.opsize != k->opsize)
			fail_msg("%s: opsize %u", k->bytes, insn.opsize);
	}
}

#define A (1u << CPU_RAX)
#define C (1u << CPU_RCX)
#define D (1u << CPU_RDX)
#define B (1u << CPU_RBX)
#define SP (1u << CPU_RSP)
#define BP (1u << CPU_RBP)
#define SI (1u << CPU_RSI)
#define DI (1u << CPU_RDI)
#define R11 (1u << CPU_R11)
#define ALL X86_ARITH

/* clang-format off */
/* What Zydis does not say, or says otherwise. */
static const struct facts {
	const char *bytes; /* in 64-bit code */
	struct x86_op op;
} facts[] = {
	{ "0f af c1", { .id = X86_OP_IMUL, .flags_written = ALL,
	    .flags_undefined = X86_SF | X86_ZF | X86_AF | X86_PF } },
	{ "01 18", { .id = X86_OP_ADD, .attrs = X86_A_LOCK,
	    .flags_written = ALL } },
	{ "11 18", { .id = X86_OP_ADC, .attrs = X86_A_LOCK,
	    .flags_read = X86_CF, .flags_written = ALL } },
	{ "19 18", { .id = X86_OP_SBB, .attrs = X86_A_LOCK,
	    .flags_read = X86_CF, .flags_written = ALL } },
	{ "21 18", { .id = X86_OP_AND, .attrs = X86_A_LOCK,
	    .flags_written = ALL, .flags_undefined = X86_AF } },
	{ "3c 00", { .id = X86_OP_CMP, .flags_written = ALL,
	    .fixed_read = A } },
	{ "04 00", { .id = X86_OP_ADD, .flags_written = ALL, .fixed_read = A,
	    .fixed_written = A } },
	{ "ff c0", { .id = X86_OP_INC, .attrs = X86_A_LOCK,
	    .flags_written = ALL & ~X86_CF } },
	{ "f7 d8", { .id = X86_OP_NEG, .attrs = X86_A_LOCK,
	    .flags_written = ALL } },
	{ "f7 d0", { .id = X86_OP_NOT, .attrs = X86_A_LOCK } },
	{ "d3 e0", { .id = X86_OP_SHL, .flags_read = ALL, .flags_written = ALL,
	    .flags_undefined = X86_OF | X86_AF, .fixed_read = C } },
	{ "d1 e0", { .id = X86_OP_SHL, .flags_written = ALL,
	    .flags_undefined = X86_AF } },
	{ "c1 c0 00", { .id = X86_OP_ROL, .flags_read = X86_CF | X86_OF,
	    .flags_written = X86_CF | X86_OF, .flags_undefined = X86_OF } },
	{ "d1 d0", { .id = X86_OP_RCL, .flags_read = X86_CF,
	    .flags_written = X86_CF | X86_OF } },
	{ "0f a5 c8", { .id = X86_OP_SHLD, .flags_read = ALL,
	    .flags_written = ALL, .flags_undefined = X86_OF | X86_AF,
	    .fixed_read = C } },
	{ "f6 e1", { .id = X86_OP_MUL, .flags_written = ALL,
	    .flags_undefined = X86_SF | X86_ZF | X86_AF | X86_PF,
	    .fixed_read = A, .fixed_written = A } },
	{ "f7 f1", { .id = X86_OP_DIV, .flags_written = ALL,
	    .flags_undefined = ALL, .fixed_read = A | D,
	    .fixed_written = A | D } },
	{ "0f a3 18", { .id = X86_OP_BT, .attrs = X86_A_BITSTR,
	    .flags_written = ALL & ~X86_ZF,
	    .flags_undefined = ALL & ~X86_ZF & ~X86_CF } },
	{ "0f ba 28 01", { .id = X86_OP_BTS, .attrs = X86_A_LOCK,
	    .flags_written = ALL & ~X86_ZF,
	    .flags_undefined = ALL & ~X86_ZF & ~X86_CF } },
	{ "0f b1 18", { .id = X86_OP_CMPXCHG, .attrs = X86_A_LOCK,
	    .flags_written = ALL, .fixed_read = A, .fixed_written = A } },
	{ "48 0f c7 08", { .id = X86_OP_CMPXCHG8B, .feature = X86_F_CX16,
	    .attrs = X86_A_LOCK, .flags_written = X86_ZF,
	    .fixed_read = A | B | C | D, .fixed_written = A | D } },
	{ "91", { .id = X86_OP_XCHG, .fixed_read = A, .fixed_written = A } },
	{ "8d 00", { .id = X86_OP_LEA, .attrs = X86_A_NO_MEM_READ } },
	{ "0f 94 c0", { .id = X86_OP_SETCC, .flags_read = X86_ZF } },
	{ "0f 4f c1", { .id = X86_OP_CMOVCC, .feature = X86_F_CMOV,
	    .flags_read = X86_ZF | X86_SF | X86_OF } },
	{ "c4 e2 63 f6 c1", { .id = X86_OP_MULX, .feature = X86_F_BMI2,
	    .fixed_read = D } },
	{ "9f", { .id = X86_OP_LAHF, .feature = X86_F_LAHF64,
	    .flags_read = ALL & ~X86_OF, .fixed_read = A,
	    .fixed_written = A } },
	{ "50", { .id = X86_OP_PUSH, .cls = X86_C_STACK, .attrs = X86_A_DEF64,
	    .fixed_read = SP, .fixed_written = SP } },
	{ "c8 00 00 00", { .id = X86_OP_ENTER, .cls = X86_C_STACK,
	    .attrs = X86_A_DEF64, .fixed_read = SP | BP,
	    .fixed_written = SP | BP } },
	{ "9c", { .id = X86_OP_PUSHF, .cls = X86_C_STACK, .attrs = X86_A_DEF64,
	    .flags_read = ALL, .fixed_read = SP, .fixed_written = SP } },
	{ "e8 00 00 00 00", { .id = X86_OP_CALL, .cls = X86_C_FLOW,
	    .attrs = X86_A_DEF64, .fixed_read = SP, .fixed_written = SP } },
	{ "7f 00", { .id = X86_OP_JCC, .cls = X86_C_FLOW, .attrs = X86_A_DEF64,
	    .flags_read = X86_ZF | X86_SF | X86_OF } },
	{ "e1 00", { .id = X86_OP_LOOPE, .cls = X86_C_FLOW,
	    .attrs = X86_A_DEF64, .flags_read = X86_ZF, .fixed_read = C,
	    .fixed_written = C } },
	{ "e3 00", { .id = X86_OP_JCXZ, .cls = X86_C_FLOW, .attrs = X86_A_DEF64,
	    .fixed_read = C } },
	{ "ff e0", { .id = X86_OP_JMP_IND, .cls = X86_C_FLOW,
	    .attrs = X86_A_DEF64 } },
	{ "a4", { .id = X86_OP_MOVS, .cls = X86_C_STRING,
	    .fixed_read = C | SI | DI, .fixed_written = C | SI | DI } },
	{ "a6", { .id = X86_OP_CMPS, .cls = X86_C_STRING, .flags_read = ALL,
	    .flags_written = ALL, .fixed_read = C | SI | DI,
	    .fixed_written = C | SI | DI } },
	{ "ae", { .id = X86_OP_SCAS, .cls = X86_C_STRING, .flags_read = ALL,
	    .flags_written = ALL, .fixed_read = A | C | DI,
	    .fixed_written = C | DI } },
	{ "ac", { .id = X86_OP_LODS, .cls = X86_C_STRING,
	    .fixed_read = A | C | SI, .fixed_written = A | C | SI } },
	{ "6c", { .id = X86_OP_INS, .cls = X86_C_STRING,
	    .fixed_read = C | D | DI, .fixed_written = C | DI } },
	{ "6e", { .id = X86_OP_OUTS, .cls = X86_C_STRING,
	    .fixed_read = C | D | SI, .fixed_written = C | SI } },
	{ "cd 80", { .id = X86_OP_INT, .cls = X86_C_SYSTEM, .flags_read = ALL,
	    .fixed_read = SP, .fixed_written = SP } },
	{ "0f 05", { .id = X86_OP_SYSCALL, .cls = X86_C_SYSTEM,
	    .feature = X86_F_SYSCALL, .flags_read = ALL,
	    .fixed_written = C | R11 } },
	{ "0f a2", { .id = X86_OP_CPUID, .cls = X86_C_SYSTEM,
	    .fixed_read = A | C, .fixed_written = A | B | C | D } },
	{ "fc", { .id = X86_OP_CLD, .cls = X86_C_SYSTEM } },
	{ "d7", { .id = X86_OP_XLAT, .cls = X86_C_SYSTEM, .fixed_read = A | B,
	    .fixed_written = A } },
	{ "0f a0", { .id = X86_OP_PUSH, .cls = X86_C_SYSTEM,
	    .attrs = X86_A_DEF64, .fixed_read = SP, .fixed_written = SP } },
	{ "0f 01 38", { .id = X86_OP_INVLPG, .cls = X86_C_SYSTEM,
	    .attrs = X86_A_NO_MEM_READ } },
	{ "0f 1f 00", { .id = X86_OP_NOP, .attrs = X86_A_NO_MEM_READ } },
	{ "0f 01 c8", { .id = X86_OP_MONITOR, .cls = X86_C_SYSTEM,
	    .feature = X86_F_NEVER } },
	{ "9b", { .id = X86_OP_WAIT, .cls = X86_C_SYSTEM,
	    .fpu = X86_FPU_WAIT } },
	{ "d8 c1", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_X87, .feature = X86_F_FPU } },
	{ "da c9", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_X87, .feature = X86_F_CMOV, .flags_read = X86_ZF } },
	{ "db f1", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_X87, .feature = X86_F_CMOV, .flags_written = ALL } },
	{ "df e0", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_X87, .feature = X86_F_FPU, .fixed_read = A,
	    .fixed_written = A } },
	{ "0f ae 00", { .id = X86_OP_FXSAVE, .cls = X86_C_SYSTEM,
	    .fpu = X86_FPU_X87, .feature = X86_F_FXSR, .attrs = X86_A_ALIGN } },
	{ "0f ae 10", { .id = X86_OP_LDMXCSR, .cls = X86_C_SYSTEM,
	    .fpu = X86_FPU_SSE, .feature = X86_F_SSE } },
	{ "0f fc c1", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_MMX, .feature = X86_F_MMX } },
	{ "0f 28 00", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_SSE, .feature = X86_F_SSE, .attrs = X86_A_ALIGN } },
	{ "0f 10 00", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_SSE, .feature = X86_F_SSE } },
	{ "66 0f 3a 61 00 00", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_SSE, .feature = X86_F_SSE42, .flags_written = ALL,
	    .fixed_read = A | C | D, .fixed_written = C } },
	{ "66 0f f7 c1", { .id = X86_OP_MASKMOV, .cls = X86_C_SYSTEM,
	    .fpu = X86_FPU_SSE, .feature = X86_F_SSE2, .fixed_read = DI } },
	{ "c4 e2 7d 17 c1", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_AVX, .feature = X86_F_AVX, .flags_written = ALL } },
	{ "c4 e2 79 2c 00", { .id = X86_OP_VMASKMOV, .cls = X86_C_SYSTEM,
	    .fpu = X86_FPU_AVX, .feature = X86_F_AVX } },
	{ "c4 e2 e9 93 04 0b", { .id = X86_OP_GATHER, .cls = X86_C_SYSTEM,
	    .fpu = X86_FPU_AVX, .feature = X86_F_AVX2, .attrs = X86_A_VSIB } },
	{ "c5 f1 fc c1", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_AVX, .feature = X86_F_AVX } },
	{ "c5 f5 fc c1", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_AVX, .feature = X86_F_AVX2 } },
	{ "c5 f8 98 c1", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_AVX512, .feature = X86_F_AVX512,
	    .flags_written = ALL } },
	{ "62 f1 7c 48 28 00", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_AVX512, .feature = X86_F_AVX512,
	    .attrs = X86_A_ALIGN | X86_A_MASKED } },
	{ "62 f1 7d 48 60 00", { .id = X86_OP_VECTOR, .cls = X86_C_VECTOR,
	    .fpu = X86_FPU_AVX512, .feature = X86_F_AVX512 } },
	{ "62 f2 7d 49 a0 04 08", { .id = X86_OP_SCATTER, .cls = X86_C_SYSTEM,
	    .fpu = X86_FPU_AVX512, .feature = X86_F_AVX512,
	    .attrs = X86_A_VSIB | X86_A_MASKED } },
};
/* clang-format on */

static void
known_facts(void **state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(facts); i++) {
		const struct x86_op *want = &facts[i].op, *op;
		uint8_t bytes[X86_INSN_MAX];
		unsigned len = hex(facts[i].bytes, bytes);
		struct x86_insn insn;

		assert_int_equal(x86_decode(bytes, len, X86_CODE64, &insn),
		    X86_DECODED);
		op = insn.op;
		if (op->id != want->id || op->cls != want->cls ||
		    op->fpu != want->fpu || op->feature != want->feature ||
		    op->attrs != want->attrs)
			fail_msg("%s: id %u class %u unit %u feature %u "
				 "attributes %x",
			    facts[i].bytes, op->id, op->cls, op->fpu,
			    op->feature, op->attrs);
		if (op->flags_read != want->flags_read ||
		    op->flags_written != want->flags_written ||
		    op->flags_undefined != want->flags_undefined)
			fail_msg("%s: flags %x %x %x", facts[i].bytes,
			    op->flags_read, op->flags_written,
			    op->flags_undefined);
		if (op->fixed_read != want->fixed_read ||
		    op->fixed_written != want->fixed_written)
			fail_msg("%s: fixed %x %x", facts[i].bytes,
			    op->fixed_read, op->fixed_written);
	}
}

/* ----------------------------------------------------- against Zydis */

static ZydisDecoder zydis[3];

static void
zydis_init(void)
{
	static const ZydisMachineMode modes[] = {
		[X86_CODE16] = ZYDIS_MACHINE_MODE_LEGACY_16,
		[X86_CODE32] = ZYDIS_MACHINE_MODE_LEGACY_32,
		[X86_CODE64] = ZYDIS_MACHINE_MODE_LONG_64,
	};
	static const ZydisStackWidth stacks[] = {
		[X86_CODE16] = ZYDIS_STACK_WIDTH_16,
		[X86_CODE32] = ZYDIS_STACK_WIDTH_32,
		[X86_CODE64] = ZYDIS_STACK_WIDTH_64,
	};

	for (unsigned code = 0; code < 3; code++) {
		(void)ZydisDecoderInit(&zydis[code], modes[code], stacks[code]);
		(void)ZydisDecoderEnableMode(&zydis[code],
		    ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		(void)ZydisDecoderEnableMode(&zydis[code],
		    ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		(void)ZydisDecoderEnableMode(&zydis[code],
		    ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
		(void)ZydisDecoderEnableMode(&zydis[code],
		    ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
	}
}

struct theirs {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand opnd[ZYDIS_MAX_OPERAND_COUNT];
};

static const char *
mnemonic(const struct theirs *t)
{
	return ZydisMnemonicGetString(t->insn.mnemonic);
}

/* Their register as our kind and number. */
static bool
same_register(ZydisRegister reg, const struct x86_operand *o)
{
	unsigned id = (unsigned)ZydisRegisterGetId(reg);

	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_GPR8:
		if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
			return o->kind == X86_K_HIGH && o->size == 1 &&
			    o->reg == (unsigned)(reg - ZYDIS_REGISTER_AH);
		if (reg >= ZYDIS_REGISTER_SPL)
			id = 4 + (unsigned)(reg - ZYDIS_REGISTER_SPL);
		else
			id = (unsigned)(reg - ZYDIS_REGISTER_AL);
		return o->kind == X86_K_GPR && o->reg == id && o->size == 1;
	case ZYDIS_REGCLASS_GPR16:
		return o->kind == X86_K_GPR && o->reg == id && o->size == 2;
	case ZYDIS_REGCLASS_GPR32:
		return o->kind == X86_K_GPR && o->reg == id && o->size == 4;
	case ZYDIS_REGCLASS_GPR64:
		return o->kind == X86_K_GPR && o->reg == id && o->size == 8;
	case ZYDIS_REGCLASS_SEGMENT:
		return o->kind == X86_K_SEG && o->reg == id;
	case ZYDIS_REGCLASS_CONTROL:
		return o->kind == X86_K_CR && o->reg == id;
	case ZYDIS_REGCLASS_DEBUG:
		return o->kind == X86_K_DR && o->reg == id;
	case ZYDIS_REGCLASS_MMX:
		return o->kind == X86_K_MMX && o->reg == id && o->size == 8;
	case ZYDIS_REGCLASS_XMM:
		return o->kind == X86_K_VEC && o->reg == id && o->size == 16;
	case ZYDIS_REGCLASS_YMM:
		return o->kind == X86_K_VEC && o->reg == id && o->size == 32;
	case ZYDIS_REGCLASS_ZMM:
		return o->kind == X86_K_VEC && o->reg == id && o->size == 64;
	case ZYDIS_REGCLASS_MASK:
		return o->kind == X86_K_OPMASK && o->reg == id;
	case ZYDIS_REGCLASS_X87:
		return o->kind == X86_K_ST && o->reg == id;
	default:
		return false;
	}
}

/* Their base or index, as ours. */
static unsigned
address_register(ZydisRegister reg)
{
	switch (ZydisRegisterGetClass(reg)) {
	case ZYDIS_REGCLASS_INVALID:
		return X86_NO_REG;
	case ZYDIS_REGCLASS_IP:
		return X86_BASE_RIP;
	default:
		return (unsigned)ZydisRegisterGetId(reg);
	}
}

/*
 * What is written only in part, or only perhaps, is read, too: it stays as it
 * was.  Memory is not.
 */
static unsigned
access_of(const ZydisDecodedOperand *zo)
{
	unsigned rw = 0;
	bool reg = zo->type == ZYDIS_OPERAND_TYPE_REGISTER;

	if (zo->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		rw |= X86_R;
	if (zo->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		rw |= X86_W;
	if (reg && (zo->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
		rw |= X86_R;
	if (reg && (rw & X86_W) && zo->size < 128 &&
	    ZydisRegisterGetClass(zo->reg.value) == ZYDIS_REGCLASS_XMM)
		rw |= X86_R;
	return rw;
}

static const char *
compare_memory(const ZydisDecodedOperand *zo, const struct x86_insn *insn,
    const struct x86_operand *o)
{
	uint64_t addr_mask = size_mask(insn->addrsize);

	if (o->kind != X86_K_MEM || !insn->has_mem)
		return "no memory operand";
	if (address_register(zo->mem.base) != insn->base)
		return "base";
	if (address_register(zo->mem.index) != insn->index)
		return "index";
	if (insn->index != X86_NO_REG && zo->mem.scale != 1u << insn->scale)
		return "scale";
	if (((uint64_t)zo->mem.disp.value ^ (uint64_t)insn->disp) & addr_mask)
		return "disp";
	if (zo->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
		return o->rw == 0 ? NULL : "access of an address";
	if (zo->mem.segment - ZYDIS_REGISTER_ES != insn->seg)
		return "segment";
	if (o->rw != 0 && o->size != zo->size / 8)
		return "memory size";
	return NULL;
}

static const char *
compare_operand(const struct theirs *t, const ZydisDecodedOperand *zo,
    const struct x86_insn *insn, const struct x86_operand *o)
{
	const char *why;

	switch (zo->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (!same_register(zo->reg.value, o))
			return "register";
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		why = compare_memory(zo, insn, o);
		if (why != NULL)
			return why;
		if (zo->mem.type == ZYDIS_MEMOP_TYPE_AGEN)
			return NULL;
		break;
	case ZYDIS_OPERAND_TYPE_POINTER:
		if (o->kind != X86_K_IMM || zo->ptr.offset != insn->imm ||
		    zo->ptr.segment != insn->imm2)
			return "far pointer";
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		if (o->kind != X86_K_IMM)
			return "no immediate";
		if ((zo->imm.value.u ^ insn->imm) &
		    size_mask(zo->imm.is_signed ? t->insn.operand_width / 8 :
						  zo->size / 8))
			return "immediate";
		break;
	default:
		return "unused";
	}
	return access_of(zo) == o->rw ? NULL : "access";
}

/* General registers that they say are used beside the encoding. */
static const char *
compare_fixed(const struct theirs *t, const struct x86_insn *insn)
{
	unsigned reads = 0, writes = 0;

	for (unsigned i = 0; i < t->insn.operand_count; i++) {
		const ZydisDecodedOperand *zo = &t->opnd[i];
		ZydisRegister wide;
		unsigned reg;

		if (zo->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			continue;
		if (zo->type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    i >= t->insn.operand_count_visible) {
			wide = ZydisRegisterGetLargestEnclosing(
			    ZYDIS_MACHINE_MODE_LONG_64, zo->mem.base);
			if (ZydisRegisterGetClass(wide) == ZYDIS_REGCLASS_GPR64)
				reads |= 1u << ZydisRegisterGetId(wide);
			continue;
		}
		if (zo->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		    zo->encoding == ZYDIS_OPERAND_ENCODING_MASK)
			continue;
		wide =
		    ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
			zo->reg.value);
		if (ZydisRegisterGetClass(wide) != ZYDIS_REGCLASS_GPR64)
			continue;
		reg = 1u << ZydisRegisterGetId(wide);
		if (access_of(zo) & X86_R)
			reads |= reg;
		if (access_of(zo) & X86_W)
			writes |= reg;
	}
	if (reads & ~insn->op->fixed_read)
		return "a fixed register read";
	if (writes & ~insn->op->fixed_written)
		return "a fixed register written";
	/* With or without REP; Zydis leaves some of a string's out. */
	if (insn->op->cls == X86_C_STRING)
		return NULL;
	if (insn->op->fixed_written & ~writes)
		return "a fixed register not written";
	if (insn->op->fixed_read & ~(reads | writes))
		return "a fixed register not read";
	return NULL;
}

static const char *
compare_flags(const struct theirs *t, const struct x86_insn *insn)
{
	const ZydisAccessedFlags *zf = t->insn.cpu_flags;
	unsigned written = 0, undef = 0, read = 0;

	if (zf != NULL) {
		written =
		    (zf->modified | zf->set_0 | zf->set_1 | zf->undefined) &
		    X86_ARITH;
		undef = zf->undefined & X86_ARITH;
		read = zf->tested & X86_ARITH;
	}
	if (read != insn->op->flags_read)
		return "flags read";
	if (written != insn->op->flags_written)
		return "flags written";
	if (undef != insn->op->flags_undefined)
		return "flags undefined";
	return NULL;
}

/* Whether memory must be aligned, and whether masked-off elements can fault. */
static const char *
compare_memory_rules(const struct theirs *t, const struct x86_insn *insn)
{
	bool aligned = insn->op->attrs & X86_A_ALIGN;
	bool masked = insn->op->attrs & X86_A_MASKED;

	switch (t->insn.meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_SSE1:
	case ZYDIS_EXCEPTION_CLASS_SSE2:
	case ZYDIS_EXCEPTION_CLASS_SSE4:
	case ZYDIS_EXCEPTION_CLASS_AVX1:
	case ZYDIS_EXCEPTION_CLASS_E1:
	case ZYDIS_EXCEPTION_CLASS_E1NF:
		if (!aligned)
			return "alignment";
		break;
	case ZYDIS_EXCEPTION_CLASS_NONE:
		break;
	default:
		if (aligned)
			return "alignment";
	}
	if (insn->evex_aaa == 0)
		return NULL;
	switch (t->insn.meta.exception_class) {
	case ZYDIS_EXCEPTION_CLASS_E1:
	case ZYDIS_EXCEPTION_CLASS_E2:
	case ZYDIS_EXCEPTION_CLASS_E3:
	case ZYDIS_EXCEPTION_CLASS_E4:
	case ZYDIS_EXCEPTION_CLASS_E5:
	case ZYDIS_EXCEPTION_CLASS_E6:
	case ZYDIS_EXCEPTION_CLASS_E10:
	case ZYDIS_EXCEPTION_CLASS_E11:
	case ZYDIS_EXCEPTION_CLASS_E12:
		return masked ? NULL : "fault suppression";
	default:
		return masked ? "fault suppression" : NULL;
	}
}

static const char *
compare_operands(const struct theirs *t, const struct x86_insn *insn)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->insn.operand_count; i++) {
		const ZydisDecodedOperand *zo = &t->opnd[i];
		const char *why;

		if (zo->encoding == ZYDIS_OPERAND_ENCODING_MASK)
			continue;
		if (i >= t->insn.operand_count_visible) {
			/* Hidden there, but ours: XMM0, ES of LES. */
			if (n < insn->operands &&
			    compare_operand(t, zo, insn, &insn->opnd[n]) ==
				NULL)
				n++;
			continue;
		}
		/* Of two immediates we have one operand. */
		if (n > 0 && zo->type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
		    insn->opnd[n - 1].kind == X86_K_IMM) {
			if (zo->imm.value.u != insn->imm2)
				return "second immediate";
			continue;
		}
		if (n >= insn->operands)
			return "too few operands";
		why = compare_operand(t, zo, insn, &insn->opnd[n++]);
		if (why != NULL)
			return why;
	}
	return n == insn->operands ? NULL : "too many operands";
}

/* What differs, or NULL. */
static const char *
compare(const struct theirs *t, const struct x86_insn *insn)
{
	const char *why;

	if (t->insn.length != insn->len)
		return "length";
	/* Never carried out, or without a trace. */
	if (insn->op->id == X86_OP_UD || insn->op->id == X86_OP_NOP ||
	    insn->op->id == X86_OP_MONITOR)
		return NULL;
	why = compare_operands(t, insn);
	if (why == NULL)
		why = compare_flags(t, insn);
	if (why == NULL)
		why = compare_fixed(t, insn);
	if (why == NULL && insn->has_mem)
		why = compare_memory_rules(t, insn);
	return why;
}

/*
 * Units that we have as X86_OP_UD: beginnings of Zydis' names of instruction
 * sets.
 */
static const char *const units_left_out[] = {
	"3DNOW", /* and others of AMD's past */
	"AMD3DNOW",
	"AMD_INVLPGB",
	"AMX_",
	"AVX512ER_",
	"AVX512PF_",
	"AVX512_4FMAPS_",
	"AVX512_4VNNIW_",
	"AVX512_FP16_",
	"AVX512_VP2INTERSECT_",
	"CET",
	"ENQCMD",
	"FMA4",
	"HRESET",
	"KEYLOCKER",
	"KNC", /* Xeon Phi */
	"LWP",
	"MCOMMIT",
	"PADLOCK_",
	"PCONFIG",
	"PKU",
	"PT",
	"RDPRU",
	"RTM",
	"SERIALIZE",
	"SGX",
	"SNP",
	"TBM",
	"TDX",
	"TSX_LDTRK",
	"UINTR",
	"WAITPKG",
	"XOP",
};

/* Where Zydis is wrong, or the contract asks for something else. */
static const struct difference {
	const char *mnemonic;
	const char *what;
	const char *reason;
} differences[] = {
	{ "bsf", "access", "of 0 leaves the destination as it was" },
	{ "bsr", "access", "of 0 leaves the destination as it was" },
	{ "bextr", "flags undefined", "SDM: CF and OF are cleared" },
	{ "sbb", "flags undefined", "SDM: AF is defined" },
	{ "vptest", "flags written", "SDM: AF, OF, PF, SF are cleared" },
	{ "vtestps", "flags written", "SDM: AF, OF, PF, SF are cleared" },
	{ "vtestpd", "flags written", "SDM: AF, OF, PF, SF are cleared" },
	{ "vmcall", "flags written", "not by what our guests can call" },
	{ "movsxd", "register", "two bytes are the lower half of four" },
	{ "lar", "register", "of a selector 16 bits are read" },
	{ "lsl", "register", "of a selector 16 bits are read" },
	{ "movmskps", "register", "32 bits, zero-extended, with W, too" },
	{ "movmskpd", "register", "32 bits, zero-extended, with W, too" },
	{ "clflush", "memory size", "one byte must be accessible" },
	{ "clflushopt", "memory size", "one byte must be accessible" },
	{ "clwb", "memory size", "one byte must be accessible" },
	{ "invlpg", "access", "the address is not accessed" },
	{ "fucomp", "register", "ST0 is understood, as in FUCOM" },
	{ "fucomp", "too few operands", "ST0 is understood, as in FUCOM" },
	{ "clzero", "too few operands", "RAX is fixed" },
	{ "clzero", "we do not have it", "processors have none with F2, F3" },
	{ "vpinsrd", "we do not have it", "nor, without 64 bits, with W" },
	{ "vpextrd", "we do not have it", "nor, without 64 bits, with W" },
	{ "movdir64b", "a fixed register read", "an operand, not fixed" },
	{ "pause", "too many operands", "F3 41 90 is XCHG R8D, EAX" },
	{ "vcvtps2ph", "access", "a register's upper half is cleared" },
	{ "movups", "alignment", "Zydis has one class for both" },
	{ "movupd", "alignment", "Zydis has one class for both" },
	{ "movdqu", "alignment", "Zydis has one class for both" },
	{ "lddqu", "alignment", "Zydis has one class for both" },
	{ "pcmpestri", "alignment", "SDM: any address" },
	{ "pcmpestrm", "alignment", "SDM: any address" },
	{ "pcmpistri", "alignment", "SDM: any address" },
	{ "pcmpistrm", "alignment", "SDM: any address" },
	{ "vdbpsadbw", "fault suppression", "SDM: type E4NF.nb" },
	{ "vcvtne2ps2bf16", "fault suppression", "SDM: type E4NF" },
	{ "vgf2p8affineqb", "fault suppression", "SDM: type E4NF" },
	{ "vgf2p8affineinvqb", "fault suppression", "SDM: type E4NF" },
	/* INT pushes flags, SYSCALL keeps them in R11. */
	{ "int", "flags read", "all are stored" },
	{ "int1", "flags read", "all are stored" },
	{ "int3", "flags read", "all are stored" },
	{ "into", "flags read", "all are stored" },
	{ "syscall", "flags read", "all are stored" },
	/* Flags that may stay are read. */
	{ "rol", "flags read", "the count may be 0" },
	{ "ror", "flags read", "the count may be 0" },
	{ "rcl", "flags read", "the count may be 0" },
	{ "rcr", "flags read", "the count may be 0" },
	{ "shl", "flags read", "the count may be 0" },
	{ "shr", "flags read", "the count may be 0" },
	{ "sar", "flags read", "the count may be 0" },
	{ "shld", "flags read", "the count may be 0" },
	{ "shrd", "flags read", "the count may be 0" },
	{ "cmpsb", "flags read", "RCX may be 0" },
	{ "cmpsw", "flags read", "RCX may be 0" },
	{ "cmpsd", "flags read", "RCX may be 0" },
	{ "cmpsq", "flags read", "RCX may be 0" },
	{ "scasb", "flags read", "RCX may be 0" },
	{ "scasw", "flags read", "RCX may be 0" },
	{ "scasd", "flags read", "RCX may be 0" },
	{ "scasq", "flags read", "RCX may be 0" },
	/* Shifts by one */
	{ "rol", "flags undefined", "SDM: OF is defined if the count is 1" },
	{ "ror", "flags undefined", "SDM: OF is defined if the count is 1" },
	{ "rcl", "flags undefined", "SDM: OF is defined if the count is 1" },
	{ "rcr", "flags undefined", "SDM: OF is defined if the count is 1" },
	{ "shl", "flags undefined", "SDM: OF is defined if the count is 1" },
	{ "shr", "flags undefined", "SDM: OF is defined if the count is 1" },
	{ "sar", "flags undefined", "SDM: OF is defined if the count is 1" },
};

static bool
on_purpose(const struct theirs *t, const char *what)
{
	const char *name = mnemonic(t);

	for (unsigned i = 0; i < ARRAY_SIZE(differences); i++) {
		if (strcmp(differences[i].what, what) == 0 &&
		    strcmp(differences[i].mnemonic, name) == 0)
			return true;
	}
	return false;
}

static bool
left_out(const struct theirs *t)
{
	const char *set = ZydisISASetGetString(t->insn.meta.isa_set);

	for (unsigned i = 0; i < ARRAY_SIZE(units_left_out); i++) {
		size_t len = strlen(units_left_out[i]);

		if (strncmp(set, units_left_out[i], len) == 0)
			return true;
	}
	return false;
}

/* How often each id was seen, by all tests. */
static unsigned seen[X86_OPS];
static unsigned compared;

/* NULL, or what differs by no purpose. */
static const char *
check(enum x86_code code, const uint8_t *bytes, unsigned len)
{
	struct theirs t;
	struct x86_insn insn;
	const char *what;
	bool zydis_valid = ZYAN_SUCCESS(
	    ZydisDecoderDecodeFull(&zydis[code], bytes, len, &t.insn, t.opnd));
	bool valid = x86_decode(bytes, len, code, &insn) == X86_DECODED &&
	    !is_undefined(&insn);

	if (valid)
		seen[insn.op->id]++;
	if (zydis_valid && !valid) {
		what = "we do not have it";
		return left_out(&t) || on_purpose(&t, what) ? NULL : what;
	}
	if (!zydis_valid && valid) {
		/* Of 3DNow any opcode has the same length. */
		return strcmp(insn.op->name, "3dnow") == 0 ? NULL :
							     "we have it";
	}
	if (!valid)
		return NULL;
	compared++;
	what = compare(&t, &insn);
	return what == NULL || on_purpose(&t, what) ? NULL : what;
}

static void
must_agree(enum x86_code code, const uint8_t *bytes, unsigned len)
{
	const char *what = check(code, bytes, len);
	char text[3 * X86_INSN_MAX + 1] = "";

	if (what == NULL)
		return;
	for (unsigned i = 0; i < MIN(len, X86_INSN_MAX); i++)
		(void)sprintf(text + 3 * i, "%02x ", bytes[i]);
	fail_msg("code %u: %s: %s", code, text, what);
}

/* What follows an opcode and its ModRM: SIB, displacement, immediate. */
static const uint8_t rest[] = { 0x8c, 0x91, 0xa2, 0x33, 0xc4, 0x55, 0xe6, 0x77,
	0x88, 0x99, 0xaa, 0xbb, 0xcc };

/* All ModRM, or those that differ by mod and reg, and have a SIB. */
static void
sweep_modrm(enum x86_code code, uint8_t *bytes, unsigned len, bool all)
{
	for (unsigned modrm = 0; modrm < 256; modrm++) {
		if (!all && (modrm & 7) != 4 && (modrm & 7) != 1)
			continue;
		bytes[len] = (uint8_t)modrm;
		memcpy(bytes + len + 1, rest, X86_INSN_MAX - len - 1);
		must_agree(code, bytes, X86_INSN_MAX);
	}
}

static void
sweep_legacy(enum x86_code code, const uint8_t *prefix, unsigned prefixes)
{
	static const uint8_t escapes[][2] = { { 0, 0 }, { 0x0f, 0 },
		{ 0x0f, 0x38 }, { 0x0f, 0x3a } };
	static const uint8_t escape_len[] = { 0, 1, 2, 2 };

	for (unsigned map = 0; map < 4; map++) {
		uint8_t bytes[X86_INSN_MAX];
		unsigned n = prefixes + escape_len[map];

		memcpy(bytes, prefix, prefixes);
		memcpy(bytes + prefixes, escapes[map], escape_len[map]);
		for (unsigned opcode = 0; opcode < 256; opcode++) {
			bytes[n] = (uint8_t)opcode;
			sweep_modrm(code, bytes, n + 1,
			    prefixes == 0 && map < 2);
		}
	}
}

static void
every_legacy_opcode(void **state)
{
	static const char *const prefixes[] = { "", "66", "f3", "f2", "67",
		"f0", "66 f3", "f2 66", "48", "66 48", "f3 48", "f2 4f", "64" };

	for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++) {
		uint8_t bytes[4];
		unsigned n =
		    prefixes[i][0] == '\0' ? 0 : hex(prefixes[i], bytes);

		for (unsigned code = 0; code < 3; code++) {
			if (code != X86_CODE64 && n > 0 &&
			    (bytes[n - 1] & 0xf0) == 0x40)
				continue; /* no REX */
			sweep_legacy(code, bytes, n);
		}
	}
}

/* Each map, pp, W, L; with and without a register in vvvv. */
static void
every_vex_opcode(void **state)
{
	for (unsigned i = 0; i < 3 * 4 * 2 * 2 * 2 * 256; i++) {
		unsigned fields = i / 256 / 3; /* pp, L; W; vvvv */
		uint8_t bytes[X86_INSN_MAX] = {
			0xc4,
			(uint8_t)(0xe1 + i / 256 % 3),
			(uint8_t)((fields & 7) | (fields & 8) << 4 |
			    (fields & 16 ? 0x78 : 0x50)),
			(uint8_t)i,
		};

		for (unsigned code = X86_CODE32; code <= X86_CODE64; code++)
			sweep_modrm(code, bytes, 4, false);
	}
}

/* Each map, pp, W, L'L, b; without a mask, merging and zeroing. */
static void
every_evex_opcode(void **state)
{
	static const uint8_t masks[] = { 0x00, 0x02, 0x82 };

	for (unsigned i = 0; i < 3 * 4 * 2 * 4 * 2 * 3 * 256; i++) {
		unsigned fields = i / 256 / 3; /* pp; W; b; L'L; mask */
		uint8_t bytes[X86_INSN_MAX] = {
			0x62,
			(uint8_t)(0xf1 + i / 256 % 3),
			(uint8_t)((fields & 3) | (fields & 4) << 5 | 0x7c),
			(uint8_t)((fields >> 3 & 1) << 4 |
			    (fields >> 4 & 3) << 5 | 8 | masks[fields >> 6]),
			(uint8_t)i,
		};

		for (unsigned reg = 0; reg < 8; reg++) {
			for (unsigned mod = 0; mod < 2; mod++) {
				bytes[5] = (uint8_t)(reg << 3 |
				    (mod == 0 ? 0x44 : 0xc1));
				memcpy(bytes + 6, rest, X86_INSN_MAX - 6);
				must_agree(X86_CODE64, bytes, X86_INSN_MAX);
			}
		}
	}
}

/* Random bytes that begin like an instruction. */
static enum x86_code
random_bytes(uint64_t *seed, uint8_t bytes[X86_INSN_MAX])
{
	static const uint8_t prefixes[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e,
		0x36, 0x64, 0x65, 0x40, 0x41, 0x44, 0x42, 0x48, 0x4f, 0x66 };
	uint64_t r = random64(seed);
	unsigned n = 0;

	for (unsigned i = 0; i < X86_INSN_MAX; i++)
		bytes[i] = (uint8_t)random64(seed);
	for (; n < 5 && (r & 3) == 0; r >>= 2)
		bytes[n++] = prefixes[random64(seed) % ARRAY_SIZE(prefixes)];
	switch (r >> 4 & 7) {
	case 0:
	case 1:
		bytes[n] = 0x0f;
		break;
	case 2:
		bytes[n++] = 0x0f;
		bytes[n] = r & 0x100 ? 0x38 : 0x3a;
		break;
	case 3:
		n = r & 0x100 ? n : 0;
		bytes[n] = 0xc5;
		bytes[n + 1] |= r & 0x200 ? 0xf8 : 0xc0;
		break;
	case 4:
		n = r & 0x100 ? n : 0;
		bytes[n] = 0xc4;
		bytes[n + 1] = (bytes[n + 1] & 0xe0) | (1 + (r >> 10) % 3);
		bytes[n + 2] |= r & 0x1000 ? 0x78 : 0;
		break;
	case 5:
		n = r & 0x100 ? n : 0;
		bytes[n] = 0x62;
		bytes[n + 1] = (bytes[n + 1] & 0xf0) | (1 + (r >> 10) % 3);
		bytes[n + 2] |= r & 0x1000 ? 0x7c : 0x04;
		bytes[n + 3] |= r & 0x2000 ? 0x08 : 0;
		break;
	default:
		break;
	}
	return r >> 20 & 1 ? X86_CODE64 : r >> 21 & 1;
}

static void
random_instructions(void **state)
{
	uint64_t seed = 0x2545f4914f6cdd1d;

	for (unsigned i = 0; i < 4000000; i++) {
		uint8_t bytes[X86_INSN_MAX];
		enum x86_code code = random_bytes(&seed, bytes);

		must_agree(code, bytes, X86_INSN_MAX);
	}
}

/* After all that, nothing in the list of ids is out of reach. */
static void
every_id_was_seen(void **state)
{
	for (unsigned id = 0; id < X86_OPS; id++) {
		if (seen[id] == 0)
			fail_msg("id %u", id);
	}
	assert_true(compared > 2000000);
}

/* --------------------------------------------------- bytes and their end */

/* Bytes at the end of a page, with nothing behind. */
static uint8_t *
page_end(void)
{
	uint8_t *page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(page != MAP_FAILED);
	assert_int_equal(mprotect(page + PAGE, PAGE, PROT_NONE), 0);
	return page + PAGE;
}

/* Each shorter piece of an instruction is short; nobody looks behind it. */
static void
pieces_are_short(void **state)
{
	uint8_t *end = page_end();
	uint64_t seed = 0x9e3779b97f4a7c15;

	for (unsigned i = 0; i < 200000; i++) {
		uint8_t bytes[X86_INSN_MAX];
		enum x86_code code = random_bytes(&seed, bytes);
		struct x86_insn insn;

		if (x86_decode(bytes, sizeof(bytes), code, &insn) !=
			X86_DECODED ||
		    is_undefined(&insn))
			continue;
		for (unsigned len = 0; len <= insn.len; len++) {
			enum x86_decoded want =
			    len < insn.len ? X86_SHORT : X86_DECODED;
			struct x86_insn piece;

			memcpy(end - len, bytes, len);
			if (x86_decode(end - len, len, code, &piece) != want)
				fail_msg("%s: %u of %u bytes", insn.op->name,
				    len, insn.len);
			assert_non_null(piece.op);
		}
	}
	assert_int_equal(munmap(end - PAGE, 2 * PAGE), 0);
}

/* What follows an instruction does not matter. */
static void
bytes_behind_do_not_matter(void **state)
{
	uint64_t seed = 0x123456789abcdef1;

	for (unsigned i = 0; i < 200000; i++) {
		uint8_t bytes[X86_INSN_MAX + 1];
		enum x86_code code = random_bytes(&seed, bytes);
		struct x86_insn insn, again;

		if (x86_decode(bytes, X86_INSN_MAX, code, &insn) != X86_DECODED)
			continue;
		bytes[X86_INSN_MAX] = 0;
		for (unsigned at = insn.len; at < X86_INSN_MAX; at++)
			bytes[at] = (uint8_t)~bytes[at];
		assert_int_equal(x86_decode(bytes, UINT32_MAX, code, &again),
		    X86_DECODED);
		memcpy(again.bytes, insn.bytes, sizeof(again.bytes));
		assert_memory_equal(&again, &insn, sizeof(insn));
	}
}

static void
fifteen_bytes(void **state)
{
	uint8_t bytes[32];
	struct x86_insn insn;

	memset(bytes, 0x2e, sizeof(bytes));
	assert_int_equal(x86_decode(bytes, 14, X86_CODE64, &insn), X86_SHORT);
	assert_int_equal(x86_decode(bytes, 15, X86_CODE64, &insn),
	    X86_TOO_LONG);
	assert_int_equal(x86_decode(bytes, 32, X86_CODE64, &insn),
	    X86_TOO_LONG);
	assert_int_equal(x86_decode(bytes, 0, X86_CODE64, &insn), X86_SHORT);

	/* 13 prefixes and two bytes are an instruction, 14 are not. */
	bytes[13] = 0x01;
	bytes[14] = 0xd8;
	assert_int_equal(x86_decode(bytes, 32, X86_CODE64, &insn), X86_DECODED);
	assert_int_equal(insn.len, 15);
	assert_int_equal(insn.op->id, X86_OP_ADD);
	bytes[13] = 0x2e;
	bytes[14] = 0x01;
	bytes[15] = 0xd8;
	assert_int_equal(x86_decode(bytes, 32, X86_CODE64, &insn),
	    X86_TOO_LONG);
	/* Too long by its displacement, its immediate, EVEX at the end. */
	memset(bytes, 0x2e, sizeof(bytes));
	hex("81 80 00 00 00 00 00 00 00 00", bytes + 6);
	assert_int_equal(x86_decode(bytes, 32, X86_CODE64, &insn),
	    X86_TOO_LONG);
	for (unsigned at = 9; at < 15; at++) {
		memset(bytes, 0x2e, sizeof(bytes));
		hex("62 f1 7c 48 58 c0", bytes + at);
		assert_int_equal(x86_decode(bytes, 32, X86_CODE64, &insn),
		    at == 9 ? X86_DECODED : X86_TOO_LONG);
	}
}

static int
setup(void **state)
{
	zydis_init();
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_instructions),
		cmocka_unit_test(known_facts),
		cmocka_unit_test(every_legacy_opcode),
		cmocka_unit_test(every_vex_opcode),
		cmocka_unit_test(every_evex_opcode),
		cmocka_unit_test(random_instructions),
		cmocka_unit_test(every_id_was_seen),
		cmocka_unit_test(pieces_are_short),
		cmocka_unit_test(bytes_behind_do_not_matter),
		cmocka_unit_test(fifteen_bytes),
	};

	return cmocka_run_group_tests_name("decode", tests, setup, NULL);
}
