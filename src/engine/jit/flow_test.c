/*
 * Jumps, calls, the stack; flags that nothing may touch; faults that find
 * everything as it was; the edges of blocks.
 *
 * Each piece of code runs in four ways (jit_rig.h), which must agree; results are
 * compared with what the manual says (SDM volume 2; appendix B for conditions).
 */
#include "engine/jit/jit_rig.h"

#define CF 0x001u
#define PF 0x004u
#define ZF 0x040u
#define SF 0x080u
#define OF 0x800u

#define STACK (RIG_DATA + 0x1000) /* where rSP is, among the data */
#define LONGEST 20000u

struct code {
	uint8_t bytes[LONGEST];
	size_t len;
};

static void
byte(struct code *code, unsigned value)
{
	code->bytes[code->len++] = (uint8_t)value;
}

static void
bytes(struct code *code, const void *data, size_t len)
{
	memcpy(code->bytes + code->len, data, len);
	code->len += len;
}

static void
word32(struct code *code, uint32_t value)
{
	bytes(code, &value, sizeof(value));
}

static void
done(struct code *code)
{
	byte(code, 0xe6); /* out 0xf4, al */
	byte(code, RIG_DONE);
}

static void
expect(const char *what, unsigned n, uint64_t is, uint64_t want)
{
	if (is != want)
		fail_msg("%s %u is 0x%llx, not 0x%llx", what, n,
		    (unsigned long long)is, (unsigned long long)want);
}

/* ------------------------------------------------------------------- stack */

/* push r; pop r2, of all registers. */
static void
push_and_pop_of_all_registers(void **state)
{
	static struct code code;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_RSP] = STACK;
	for (unsigned i = 0; i < 256; i++) {
		unsigned from = i % 16, to = i / 16;

		code.len = 0;
		byte(&code, 0x40 | from >> 3);
		byte(&code, 0x50 | (from & 7));
		byte(&code, 0x40 | to >> 3);
		byte(&code, 0x58 | (to & 7));
		done(&code);
		rig_compare_done(set, code.bytes, code.len, &cpu, &end);
		for (unsigned r = 0; r < CPU_GPRS; r++)
			expect("register", r, end.cpu.gpr[r],
			    cpu.gpr[r == to ? from : r]);
		expect("pushed", from, rig_data64(set, 0xff8), cpu.gpr[from]);
	}
}

RIG_ASM(stack_code, 64,
    "push 0x12\n push -0x12345678\n push -1\n"
    "push qword ptr [rsp + 8]\n"
    "push qword ptr [r12 + r13*2 + 4]\n"
    "push rsp\n pop r14\n sub r14, rsp\n" /* 0 */
    "push qword ptr [rsp]\n"
    "mov rbp, rsp\n sub rsp, 0x40\n push rax\n leave\n"
    "mov r15, rsp\n"
    "push r15\n pop rsp\n" /* no change */
    "mov rax, rsp\n sub rax, r15\n"
    "pop qword ptr [r12]\n pop qword ptr [rsp + 0x10]\n"
    "push ax\n pop cx\n"
    "mov rbp, rsp\n enter 0x20, 0\n leave\n enter 0x10, 2\n mov rsp, rbp\n pop rbp\n"
    "pushfq\n pop rdx\n push rdx\n popfq\n"
    "push fs\n pop fs" DONE);

static void
stack_instructions(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint64_t pushed;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_RSP] = STACK;
	cpu.gpr[CPU_R12] = RIG_DATA;
	cpu.gpr[CPU_R13] = 6;
	cpu.seg[CPU_FS] = rig_segment(0, 0, CPU_SEG_UNUSABLE);
	pushed = rig_data64(set, 16);
	RIG_COMPARE_DONE(set, stack_code, &cpu, &end);
	/* The second POP to memory went there. */
	assert_int_equal(rig_data64(set, 0xff8), -0x12345678LL);
	assert_int_equal(rig_data64(set, 0), pushed);
	assert_int_equal(end.cpu.gpr[CPU_R14], 0);
	assert_int_equal(end.cpu.gpr[CPU_RAX], 0);
}

/* ------------------------------------------------------------------- calls */

/* Through every register, rSP too: its code is where the stack was. */
static void
calls_and_jumps_through_all_registers(void **state)
{
	static struct code code;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned i = 0; i < 32; i++) {
		unsigned reg = i % 16, jump = i / 16;

		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_RSP] = STACK;
		cpu.gpr[reg] = RIG_CODE + 0x800;
		code.len = 0;
		byte(&code, 0x40 | reg >> 3); /* call or jmp r */
		byte(&code, 0xff);
		byte(&code, (jump ? 0xe0 : 0xd0) | (reg & 7));
		while (code.len < 0x800)
			byte(&code, 0xf4); /* hlt */
		done(&code);
		rig_compare_done(set, code.bytes, code.len, &cpu, &end);
		expect("rip of register", reg, end.cpu.rip, RIG_CODE + 0x802);
		expect("rsp of register", reg, end.cpu.gpr[CPU_RSP],
		    cpu.gpr[CPU_RSP] - (jump ? 0 : 8));
		if (!jump && reg != CPU_RSP)
			expect("pushed", reg, rig_data64(set, 0xff8),
			    RIG_CODE + 3);
	}
}

RIG_ASM(call_code, 64,
    "call 1f\n"
    "lea rdx, [rip + 2f]\n mov [r12], rdx\n call [r12]\n"
    "push rdx\n call [rsp]\n pop rdx\n"
    "mov r13, rdx\n call r13\n"
    "lea rdx, [rip + 3f]\n mov [r12 + 8], rdx\n"
    "push rax\n push rax\n call [r12 + r14*8]\n" /* drops both */
    "lea rdx, [rip + 4f]\n push rdx\n ret\n"
    "hlt\n"
    "4: lea r15, [rip + 5f]\n mov [r12 + 8], r15\n jmp [r12 + 8]\n"
    "hlt\n .fill 4000, 1, 0xf4\n"
    "1: inc rbx\n ret\n"
    "2: add rbx, 0x100\n call 1b\n ret\n"
    "3: add rbx, 0x10000\n ret 16\n"
    "5:" DONE);

static void
calls_and_returns(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	/* From three places in a page: near and far are other ones each time. */
	for (unsigned i = 0; i < 3; i++) {
		uint64_t at = RIG_CODE + 0x5f0 * i;

		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_RSP] = STACK;
		cpu.gpr[CPU_R12] = RIG_DATA;
		cpu.gpr[CPU_R14] = 1;
		cpu.gpr[CPU_RBX] = 0;
		cpu.rip = at;
		for (unsigned w = 0; w < RIG_WAYS; w++)
			RIG_PUT(set->rig[w], at, call_code);
		for (unsigned n = 0; n < 3; n++) { /* learned and linked */
			rig_compare_done(set, NULL, 0, &cpu, &end);
			assert_int_equal(end.cpu.gpr[CPU_RBX], 0x10304);
			assert_int_equal(end.cpu.gpr[CPU_RSP], STACK);
		}
	}
}

/* -------------------------------------------------------------- conditions */

static bool
condition(unsigned cc, uint64_t flags)
{
	bool less = !(flags & SF) != !(flags & OF), result = false;

	switch (cc / 2) {
	case 0:
		result = flags & OF;
		break;
	case 1:
		result = flags & CF;
		break;
	case 2:
		result = flags & ZF;
		break;
	case 3:
		result = flags & (CF | ZF);
		break;
	case 4:
		result = flags & SF;
		break;
	case 5:
		result = flags & PF;
		break;
	case 6:
		result = less;
		break;
	case 7:
		result = less || (flags & ZF);
		break;
	}
	return result != cc % 2;
}

/* Every condition with every set of flags, in its page and to the next one. */
static void
conditional_jumps(void **state)
{
	static struct code code;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned i = 0; i < 32; i++) {
		unsigned cc = i % 16, skip = i < 16 ? 10 : 4096;

		rig_set_begin(set, 64, &cpu);
		code.len = 0;
		byte(&code, 0x0f); /* jcc + skip */
		byte(&code, 0x80 | cc);
		word32(&code, skip);
		done(&code);
		while (code.len < 6 + skip)
			byte(&code, 0xf4);
		byte(&code, 0x90);
		done(&code);
		for (unsigned w = 0; w < RIG_WAYS; w++)
			rig_put(set->rig[w], RIG_CODE, code.bytes, code.len);
		for (unsigned f = 0; f < 64; f++) {
			cpu.rflags = 2 | (f & 1) | (f & 2) << 1 | (f & 4) << 2 |
			    (f & 0x18) << 3 | (f & 0x20) << 6;
			rig_compare_done(set, NULL, 0, &cpu, &end);
			expect("condition", cc, end.cpu.rip,
			    RIG_CODE +
				(condition(cc, cpu.rflags) ? skip + 9 : 8));
			expect("flags", f, end.cpu.rflags, cpu.rflags);
		}
	}
}

/* A block with many ways out: each of them in turn. */
static void
side_exits(void **state)
{
	enum { EXITS = 120 };
	static struct code code;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	code.len = 0;
	for (unsigned i = 0; i < EXITS; i++) {
		const uint8_t cmp[] = { 0x83, 0xf8, (uint8_t)i }; /* eax, i */

		bytes(&code, cmp, sizeof(cmp));
		byte(&code, 0x0f); /* je */
		byte(&code, 0x84);
		word32(&code, EXITS * 9 + 2 - 9 * (i + 1) + 8 * i);
	}
	done(&code);
	for (unsigned i = 0; i < EXITS; i++) {
		const uint8_t add[] = { 0x49, 0x81, 0xc6 }; /* add r14, i */

		bytes(&code, add, sizeof(add));
		word32(&code, i);
		byte(&code, 0x90);
	}
	done(&code);
	for (unsigned w = 0; w < RIG_WAYS; w++)
		rig_put(set->rig[w], RIG_CODE, code.bytes, code.len);
	for (unsigned n = 0; n < 2 * EXITS; n++) {
		unsigned i = n * 7 % (EXITS + 1);

		cpu.gpr[CPU_RAX] = i;
		cpu.gpr[CPU_R14] = 0;
		rig_compare_done(set, NULL, 0, &cpu, &end);
		/* From the i-th on, all are added. */
		expect("exit", i, end.cpu.gpr[CPU_R14],
		    i == EXITS ? 0 : EXITS * (EXITS - 1) / 2 - i * (i - 1) / 2);
	}
}

/* ------------------------------------------------------------------- flags */

/* Nothing of this changes flags (SDM volume 2), and much of it runs in C. */
RIG_ASM(flags_code, 64,
    "mov esi, 2\n"
    "1: mov rax, [r12]\n mov [r12 + 0x1000], rax\n"
    "mov r13, [r12 + 8]\n mov [r12 + 16], r13\n"
    "mov r15b, [r12 + 0xffd]\n mov [rsp - 16], ah\n"
    "mov r14, [r12 + 0xffc]\n mov [r12 + 0xffb], r14\n" /* two pages */
    "push r13\n push qword ptr [r12]\n pop r14\n pop r14\n"
    "mov rbp, rsp\n push rax\n leave\n push rax\n"
    "lea r15, [r12 + r13]\n xchg r13, r15\n bswap r13\n not r13\n"
    "xchg [r12 + 24], r13\n movzx ecx, byte ptr [r12 + 3]\n"
    "mulx r13, r14, [r12 + 32]\n rorx r13, r14, 7\n shlx r13, r13, rcx\n"
    "movups xmm0, [r12 + 5]\n paddd xmm0, xmm1\n movups [r12 + 40], xmm0\n"
    "call 2f\n lea r14, [rip + 3f]\n jmp r14\n"
    "2: ret\n"
    "3: lea r14, [rip + 4f]\n call r14\n jmp 5f\n .fill 4096, 1, 0xf4\n"
    "4: mov rbx, [r12 + 0x1800]\n ret\n"
    "5: setc [r12 + 64]\n cmovc r13, [r12 + 72]\n"
    "lea esi, [rsi - 1]\n mov ecx, esi\n jrcxz 6f\n jmp 1b\n"
    "6: in al, 0x80\n rdtsc\n nop\n pause\n lahf\n"
    "cld\n cpuid\n mov cr2, r13\n mov rdi, cr0\n invlpg [r12]\n"
    "sfence" DONE);

static void
flags_are_left_alone(void **state)
{
	static const uint64_t flags[] = { 0, CF, PF, 0x10, ZF, SF, OF,
		RIG_ARITH };
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_RSP] = STACK + 0x800;
		cpu.gpr[CPU_R12] = RIG_DATA;
		cpu.rflags = 2 | flags[i];
		for (unsigned w = 0; w < RIG_WAYS; w++) {
			RIG_PUT(set->rig[w], RIG_CODE, flags_code);
			rig_put(set->rig[w], RIG_DATA, set->data,
			    RIG_DATA_SIZE);
			rig_run(set->rig[w], 0, &cpu, &end);
			assert_int_equal(end.vector, RIG_NO_VECTOR);
			expect("flags", w, end.cpu.rflags, cpu.rflags);
			/* LAHF has seen them too, before CPUID. */
		}
	}
}

/* And what does change them must not be changed by what follows. */
RIG_ASM(made_flags_code, 64,
    "add al, cl\n mov [r12], r13\n mov r13, [r12 + 0x1000]\n"
    "pushfq\n pop rax\n"
    "sub edx, [r12]\n call 1f\n pushfq\n pop rbx\n"
    "xor esi, esi\n push r13\n pop r13\n jz 2f\n hlt\n"
    "2: lahf\n" DONE "1: ret\n");

static void
flags_that_were_made_stay(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned i = 0; i < 64; i++) {
		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_RSP] = STACK;
		cpu.gpr[CPU_R12] = RIG_DATA;
		cpu.gpr[CPU_RAX] = i * 0x25;
		cpu.gpr[CPU_RCX] = i * 0x67;
		RIG_COMPARE_DONE(set, made_flags_code, &cpu, &end);
	}
}

/* ------------------------------------------------------------------ faults */

#define PREFIX "lea rbx, [rbx + 1]\n"
#define PREFIX_LEN 4u

#define FAULT_R12 RIG_HOLE
#define FAULT_R13 RIG_RO
#define FAULT_R14 0x8000000000000000ULL /* not canonical */
#define FAULT_R15 (RIG_DATA + 1)
#define FAULT_RBP (RIG_DATA + 0x100) /* holds 0 */
#define FAULT_RSI (RIG_DATA + 0x108) /* holds R14 */
#define NO_CR2 0

/* Pieces of code, each with a fault in its second instruction. */
#define FAULTS(X)                                                             \
	X(load, "mov rax, [r12]", STACK, 14, 0, RIG_HOLE)                     \
	X(load_spilled, "mov r12, [r12 + 8]", STACK, 14, 0, RIG_HOLE + 8)     \
	X(load_high, "mov ah, [rdi]", STACK, 14, 0, RIG_HOLE + 2)             \
	X(load_cl, "mov cl, [r12]", STACK, 14, 0, RIG_HOLE)                   \
	X(add_load, "add r15, [r12]", STACK, 14, 0, RIG_HOLE)                 \
	X(store, "mov [r12], r13", STACK, 14, 2, RIG_HOLE)                    \
	X(store_ro, "mov [r13], eax", STACK, 14, 3, RIG_RO)                   \
	X(store_imm, "mov dword ptr [r13], 5", STACK, 14, 3, RIG_RO)          \
	X(rmw, "add [r13], r15", STACK, 14, 3, RIG_RO)                        \
	X(rmw_hole, "inc qword ptr [r12]", STACK, 14, 2, RIG_HOLE)            \
	X(rmw_xchg, "xchg [r13], r15", STACK, 14, 3, RIG_RO)                  \
	X(rmw_xadd, "lock xadd [r13], r12", STACK, 14, 3, RIG_RO)             \
	X(rmw_cmpxchg, "lock cmpxchg [r13], r15", STACK, 14, 3, RIG_RO)       \
	X(rmw_shift, "shl qword ptr [r13], cl", STACK, 14, 3, RIG_RO)         \
	X(rmw_cx16, "cmpxchg16b [r13]", STACK, 14, 3, RIG_RO)                 \
	X(two_pages, "mov r13, [r12 - 4]", STACK, 14, 0, RIG_HOLE)            \
	X(two_pages_store, "mov [r12 - 4], r13", STACK, 14, 2, RIG_HOLE)      \
	X(two_pages_rmw, "add [r12 - 1], r13d", STACK, 14, 2, RIG_HOLE)       \
	X(mulx, "mulx r12, r13, [r12]", STACK, 14, 0, RIG_HOLE)               \
	X(vector, "movaps xmm0, [r12]", STACK, 14, 0, RIG_HOLE)               \
	X(vector_32, "vmovups ymm3, [r12 - 8]", STACK, 14, 0, RIG_HOLE)       \
	X(vector_store, "vmovups [r13], ymm0", STACK, 14, 3, RIG_RO)          \
	X(vector_int, "cvtsi2sd xmm0, qword ptr [r12]", STACK, 14, 0,         \
	    RIG_HOLE)                                                         \
	X(vector_out, "pextrq [r12], xmm0, 1", STACK, 14, 2, RIG_HOLE)        \
	X(strange, "movbe r13, [r12]", STACK, 14, 0, RIG_HOLE)                \
	X(x87, "fld tbyte ptr [r12]", STACK, 14, 0, RIG_HOLE)                 \
	X(x87_store, "fstp tbyte ptr [r13]", STACK, 14, 3, RIG_RO)            \
	X(misaligned, "movaps xmm0, [r15]", STACK, 13, 0, NO_CR2)             \
	X(misaligned_store, "movaps [r15], xmm0", STACK, 13, 0, NO_CR2)       \
	X(misaligned_op, "paddb xmm1, [r15]", STACK, 13, 0, NO_CR2)           \
	X(misaligned_hole, "movaps xmm0, [r12 + 1]", STACK, 13, 0, NO_CR2)    \
	X(misaligned_cx16, "cmpxchg16b [r15]", STACK, 13, 0, NO_CR2)          \
	X(nowhere, "mov rax, [r14]", STACK, 13, 0, NO_CR2)                    \
	X(nowhere_store, "mov [r14], r12", STACK, 13, 0, NO_CR2)              \
	X(nowhere_stack, "mov rax, [rsp]", FAULT_R14, 12, 0, NO_CR2)          \
	X(divide, "div qword ptr [rbp]", STACK, 0, 0, NO_CR2)                 \
	X(divide_cx, "xor ecx, ecx\n div ecx", STACK, 0, 0, NO_CR2)           \
	X(divide_over, "idiv r15b", STACK, 0, 0, NO_CR2)                      \
	X(push_fault, "push rax", RIG_HOLE + 8, 14, 2, RIG_HOLE)              \
	X(push_spilled, "push r15", RIG_RO + 16, 14, 3, RIG_RO + 8)           \
	X(push_imm, "push 5", RIG_HOLE + 8, 14, 2, RIG_HOLE)                  \
	X(push_load, "push qword ptr [r12]", STACK, 14, 0, RIG_HOLE)          \
	X(push_mem, "push qword ptr [rbp]", RIG_HOLE + 8, 14, 2, RIG_HOLE)    \
	X(push_nowhere, "push rax", FAULT_R14, 12, 0, NO_CR2)                 \
	X(pop_fault, "pop rax", RIG_HOLE, 14, 0, RIG_HOLE)                    \
	X(pop_spilled, "pop r12", RIG_HOLE, 14, 0, RIG_HOLE)                  \
	X(pop_rsp, "pop rsp", RIG_HOLE + 8, 14, 0, RIG_HOLE + 8)              \
	X(pop_mem, "pop qword ptr [r13]", STACK, 14, 3, RIG_RO)               \
	X(leave, "mov rbp, r12\n leave", STACK, 14, 0, RIG_HOLE)              \
	X(call_fault, ".byte 0xe8\n .long 64", RIG_HOLE + 8, 14, 2, RIG_HOLE) \
	X(call_far_page, ".byte 0xe8\n .long 8192", RIG_HOLE + 8, 14, 2,      \
	    RIG_HOLE)                                                         \
	X(call_reg, "call r15", RIG_RO + 8, 14, 3, RIG_RO)                    \
	X(call_mem, "call [r12]", STACK, 14, 0, RIG_HOLE)                     \
	X(call_nowhere, "call r14", STACK, 13, 0, NO_CR2)                     \
	X(call_nowhere_mem, "call [rsi]", STACK, 13, 0, NO_CR2)               \
	X(jmp_mem, "jmp [r12]", STACK, 14, 0, RIG_HOLE)                       \
	X(jmp_nowhere, "jmp r14", STACK, 13, 0, NO_CR2)                       \
	X(jmp_nowhere_mem, "jmp [rsi]", STACK, 13, 0, NO_CR2)                 \
	X(ret_fault, "ret", RIG_HOLE, 14, 0, RIG_HOLE)                        \
	X(ret_nowhere, "ret", FAULT_RSI, 13, 0, NO_CR2)                       \
	X(ret_n_nowhere, "ret 0x1234", FAULT_RSI, 13, 0, NO_CR2)              \
	X(divps, "divps xmm1, xmm2", STACK, 19, 0, NO_CR2)                    \
	X(divps_mem, "divps xmm1, [rbp]", STACK, 19, 0, NO_CR2)               \
	X(no_insn, "ud2", STACK, 6, 0, NO_CR2)                                \
	X(lock_nop, ".byte 0xf0, 0x90", STACK, 6, 0, NO_CR2)

#define FAULT_CODE(name, text, ...) \
	RIG_ASM(fault_##name, 64, PREFIX text "\n hlt");
FAULTS(FAULT_CODE)

static const struct {
	const char *name;
	const uint8_t *code, *end;
	uint64_t rsp;
	unsigned vector, error;
	uint64_t cr2;
} faults[] = {
#define FAULT_ROW(name, text, ...) \
	{ #name, fault_##name, fault_##name##_end, __VA_ARGS__ },
	FAULTS(FAULT_ROW)
};

static void
faults_find_all_as_it_was(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++) {
		unsigned at = PREFIX_LEN;
		uint8_t before[RIG_DATA_SIZE];

		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_RSP] = faults[i].rsp;
		cpu.gpr[CPU_RBP] = FAULT_RBP;
		cpu.gpr[CPU_RSI] = FAULT_RSI;
		cpu.gpr[CPU_RDI] = FAULT_R12 + 2;
		cpu.gpr[CPU_R12] = FAULT_R12;
		cpu.gpr[CPU_R13] = FAULT_R13;
		cpu.gpr[CPU_R14] = FAULT_R14;
		cpu.gpr[CPU_R15] = FAULT_R15;
		cpu.gpr[CPU_RAX] = 0x7f00; /* too much for a byte */
		cpu.rflags = 2 | RIG_ARITH;
		le32_store(cpu.xsave + 24, 0x1d80); /* division by 0 raises */
		for (unsigned n = 0; n < 16; n++)
			le32_store(cpu.xsave + 160 + 4 * n,
			    n / 4 == 2 ? 0 : 0x3f800000 + n);
		le64_store(cpu.xsave + 512, 7);
		rig_set_data64(set, 0x100, 0);
		rig_set_data64(set, 0x108, FAULT_R14);
		memcpy(before, set->data, sizeof(before));
		rig_compare(set, faults[i].code,
		    (size_t)(faults[i].end - faults[i].code), &cpu, &end);
		if (end.vector != faults[i].vector ||
		    end.error != faults[i].error || end.cr2 != faults[i].cr2)
			fail_msg("%s: exception %u, error 0x%x, cr2 0x%llx",
			    faults[i].name, end.vector, end.error,
			    (unsigned long long)end.cr2);
		cpu.gpr[CPU_RBX]++;
		if (strcmp(faults[i].name, "divide_cx") == 0) {
			cpu.gpr[CPU_RCX] = 0;
			cpu.rflags = 2 | ZF | PF | (end.cpu.rflags & 0x10);
			at += 2;
		}
		if (strcmp(faults[i].name, "leave") == 0) {
			cpu.gpr[CPU_RBP] = FAULT_R12;
			at += 3;
		}
		expect(faults[i].name, 100, end.cpu.rip, RIG_CODE + at);
		expect(faults[i].name, 101, end.cpu.rflags & RIG_ARITH,
		    cpu.rflags & RIG_ARITH);
		for (unsigned r = 0; r < CPU_GPRS; r++)
			expect(faults[i].name, r, end.cpu.gpr[r], cpu.gpr[r]);
		assert_memory_equal(set->data, before, sizeof(before));
		assert_memory_equal(end.cpu.xsave + 160, cpu.xsave + 160, 256);
	}
}

/* x87 exceptions wait for the next x87 instruction. */
RIG_ASM(x87_code, 64,
    "fldcw [rbp]\n fld1\n fldz\n fdivp\n lea rbx, [rbx + 1]\n"
    "fwait\n hlt");

static void
x87_exceptions_come_late(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_RBP] = RIG_DATA;
	set->data[0] = 0x7b; /* zero divide is not masked */
	set->data[1] = 0x03;
	RIG_COMPARE(set, x87_code, &cpu, &end);
	assert_int_equal(end.vector, 16);
	assert_int_equal(end.cpu.rip, RIG_CODE + RIG_LEN(x87_code) - 2);
	assert_int_equal(end.cpu.gpr[CPU_RBX], cpu.gpr[CPU_RBX] + 1);
}

/* ------------------------------------------------------- the edge of nothing */

#define TOP_PDPT 0xd000u
#define TOP_PD 0xe000u
#define TOP_PT 0xf000u
#define TOP 0x7ffffffff000ULL /* the last page of the lower half */

static void
map_top(struct rig_set *set)
{
	const uint64_t all = RIG_PTE_P | RIG_PTE_W | RIG_PTE_U;

	for (unsigned w = 0; w < RIG_WAYS; w++) {
		struct rig *rig = set->rig[w];

		rig_put64(rig, RIG_PML4 + 255 * 8, TOP_PDPT | all);
		rig_put64(rig, TOP_PDPT + 511 * 8, TOP_PD | all);
		rig_put64(rig, TOP_PD + 511 * 8, TOP_PT | all);
		rig_put64(rig, TOP_PT + 511 * 8, RIG_CODE | all);
	}
}

/* What leads out of the canonical addresses is an error of the jump ... */
static void
jumps_beyond_the_canonical_addresses(void **state)
{
	static const struct {
		uint8_t code[8];
		unsigned len;
	} jumps[] = {
		{ { 0xe9, 0x00, 0x10, 0x00, 0x00 }, 5 },       /* jmp */
		{ { 0xe8, 0x00, 0x10, 0x00, 0x00 }, 5 },       /* call */
		{ { 0x0f, 0x84, 0x00, 0x10, 0x00, 0x00 }, 6 }, /* je */
	};
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint8_t nop = 0x90;

	map_top(set);
	for (unsigned i = 0; i < ARRAY_SIZE(jumps); i++) {
		rig_set_begin(set, 64, &cpu);
		cpu.rip = TOP;
		cpu.rflags = 2 | ZF;
		rig_compare(set, jumps[i].code, jumps[i].len, &cpu, &end);
		assert_int_equal(end.vector, 13);
		expect("rip of jump", i, end.cpu.rip, TOP);
		/* What it has pushed may be left there, beyond the stack. */
		expect("rsp of jump", i, end.cpu.gpr[CPU_RSP], RIG_STACK);
	}
	/* ... but not if it comes there step by step. */
	for (unsigned w = 0; w < RIG_WAYS; w++)
		rig_put(set->rig[w], RIG_CODE + 0xfff, &nop, 1);
	rig_set_begin(set, 64, &cpu);
	cpu.rip = TOP + 0xfff;
	rig_compare(set, NULL, 0, &cpu, &end);
	assert_int_equal(end.vector, 13);
	assert_int_equal(end.cpu.rip, TOP + 0x1000);
}

RIG_ASM(first_jump_code, 64, "jmp rax");

/* The first jump that a processor ever makes, to the ends of all addresses. */
static void
first_jumps(void **state)
{
	static const uint64_t targets[] = { UINT64_MAX, 0, 1 };
	static const uint8_t end_code[] = { 0x90, 0xe6, RIG_DONE };

	for (unsigned i = 0; i < RIG_WAYS * ARRAY_SIZE(targets); i++) {
		unsigned w = i % RIG_WAYS;
		struct rig *rig =
		    rig_new(rig_ways[w].engine, 1, &rig_ways[w].soft);
		struct cpu_state cpu;
		struct rig_end end;

		rig_state(rig, 0, &cpu);
		cpu.gpr[CPU_RAX] = targets[i / RIG_WAYS];
		RIG_PUT(rig, RIG_CODE, first_jump_code);
		rig_put(rig, 0, end_code, sizeof(end_code));
		rig_run(rig, 0, &cpu, &end);
		if (targets[i / RIG_WAYS] == UINT64_MAX) {
			assert_int_equal(end.vector, 14);
			assert_int_equal(end.cpu.rip, UINT64_MAX);
			assert_int_equal(end.cr2, UINT64_MAX);
		} else {
			assert_int_equal(end.vector, RIG_NO_VECTOR);
			assert_int_equal(end.cpu.rip, sizeof(end_code));
		}
		rig_free(rig);
	}
}

/* The same function at two addresses that differ in the upper half alone. */
RIG_ASM(far_apart_code, 64,
    "mov ecx, 10\n"
    "1: lea rax, [rip + 2f]\n call rax\n add r13, rax\n"
    "lea rax, [rip + 2f]\n add rax, r12\n call rax\n xor r14, rax\n"
    "sub rax, r12\n add r13, rax\n dec ecx\n jnz 1b" DONE
    "2: lea rax, [rip]\n ret\n");

static void
targets_far_apart(void **state)
{
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint64_t at = RIG_CODE + RIG_LEN(far_apart_code) - 1;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_R12] = RIG_HIGH;
	cpu.gpr[CPU_R13] = cpu.gpr[CPU_R14] = 0;
	RIG_COMPARE_DONE(set, far_apart_code, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_R13], 20 * at);
	assert_int_equal(end.cpu.gpr[CPU_R14], 0);
}

/* 32-bit code goes on at 0 behind the last address; jumps wrap, too. */
static void
wrapping_32_bit_code(void **state)
{
	static const uint8_t last[] = { 0xe9, 0x10, 0x00, 0x00, 0x00 };
	static const uint8_t first[] = { 0x41, 0xe6, RIG_DONE };
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 32, &cpu);
	for (unsigned w = 0; w < RIG_WAYS; w++) {
		rig_put(set->rig[w], RIG_BIG_GPA + 2 * MIB - 5, last,
		    sizeof(last));
		rig_put(set->rig[w], RIG_BIG_GPA + 2 * MIB - 6, "\x40", 1);
		rig_put(set->rig[w], RIG_BIG_GPA + 2 * MIB - 0x10, "\x40", 1);
		rig_put(set->rig[w], RIG_BIG_GPA + 2 * MIB - 0xf,
		    "\x90\x90\x90\x90\x90\x90\x90\x90\x90", 9);
		rig_put(set->rig[w], 0x10, first, sizeof(first));
	}
	cpu.rip = 0xfffffff0;
	rig_compare_done(set, NULL, 0, &cpu, &end);
	assert_int_equal(end.cpu.rip, 0x13);
	assert_int_equal(end.cpu.gpr[CPU_RAX], cpu.gpr[CPU_RAX] + 2);
	for (unsigned w = 0; w < RIG_WAYS; w++) {
		rig_put(set->rig[w], RIG_BIG_GPA + 2 * MIB - 5,
		    "\x90\x90\x90\x90\x40", 5);
		rig_put(set->rig[w], 0, first, sizeof(first));
	}
	rig_compare_done(set, NULL, 0, &cpu, &end);
	assert_int_equal(end.cpu.rip, 3);
	assert_int_equal(end.cpu.gpr[CPU_RAX], cpu.gpr[CPU_RAX] + 3);
}

/* ------------------------------------------------------------- many of them */

/* Straight code around the limit of instructions in a block. */
static void
long_blocks(void **state)
{
	static const unsigned lengths[] = { 1, 95, 96, 97, 191, 192, 193,
		1000 };
	static struct code code;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	for (unsigned i = 0; i < ARRAY_SIZE(lengths); i++) {
		code.len = 0;
		for (unsigned n = 0; n < lengths[i]; n++) {
			static const uint8_t lea[] = { 0x4f, 0x8d, 0x6c, 0x2d,
				0x01 }; /* lea r13, [r13 + r13 + 1] */
			static const uint8_t add[] = { 0x4d, 0x01,
				0xee }; /* add r14, r13 */

			if (n % 2 == 0)
				bytes(&code, lea, sizeof(lea));
			else
				bytes(&code, add, sizeof(add));
		}
		done(&code);
		cpu.gpr[CPU_R13] = cpu.gpr[CPU_R14] = 1;
		rig_compare_done(set, code.bytes, code.len, &cpu, &end);
		for (unsigned n = 0; n < lengths[i]; n++) {
			if (n % 2 == 0)
				cpu.gpr[CPU_R13] = 2 * cpu.gpr[CPU_R13] + 1;
			else
				cpu.gpr[CPU_R14] += cpu.gpr[CPU_R13];
		}
		expect("instructions", lengths[i], end.cpu.gpr[CPU_R14],
		    cpu.gpr[CPU_R14]);
		expect("instructions", lengths[i], end.cpu.gpr[CPU_R13],
		    cpu.gpr[CPU_R13]);
	}
}

/* More operands in memory than a block has slow paths for. */
static void
many_memory_operands(void **state)
{
	enum { PUSHES = 600 };
	static struct code code;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_set_begin(set, 64, &cpu);
	cpu.gpr[CPU_RSP] = RIG_DATA + 8 * (PUSHES + 1);
	cpu.gpr[CPU_RBP] = RIG_DATA + 0x1f00;
	code.len = 0;
	for (unsigned i = 0; i < PUSHES; i++) {
		static const uint8_t push[] = { 0xff, 0x75, 0x00 }; /* [rbp] */
		static const uint8_t inc[] = { 0x48, 0xff, 0x45,
			0x00 }; /* inc [rbp] */

		bytes(&code, push, sizeof(push));
		bytes(&code, inc, sizeof(inc));
	}
	done(&code);
	rig_set_data64(set, 0x1f00, 5);
	rig_compare_done(set, code.bytes, code.len, &cpu, &end);
	for (unsigned i = 0; i < PUSHES; i++)
		expect("pushed", i, rig_data64(set, 8 * (PUSHES - i)), 5 + i);
}

/* An instruction of 10 bytes with k of them on the next page, or none. */
static void
instructions_across_pages(void **state)
{
	static struct code code;
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned k = 0; k <= 12; k++) {
		static const uint8_t inc[] = { 0x49, 0xff, 0xc6 }; /* inc r14 */
		static const uint8_t mov[] = { 0x49,
			0xbf }; /* mov r15, imm64 */
		static const uint64_t value = 0x123456789abcdef0;
		unsigned at = 4096 + k - 10;

		rig_set_begin(set, 64, &cpu);
		code.len = 0;
		while (code.len < at - 33)
			byte(&code, 0xf4);
		for (unsigned n = 0; n < 11; n++)
			bytes(&code, inc, sizeof(inc));
		bytes(&code, mov, sizeof(mov));
		bytes(&code, &value, sizeof(value));
		bytes(&code, inc, sizeof(inc));
		done(&code);
		cpu.rip = RIG_CODE + at - 33;
		for (unsigned n = 0; n < 2; n++) {
			rig_compare_done(set, code.bytes, code.len, &cpu, &end);
			expect("r15", k, end.cpu.gpr[CPU_R15], value);
			expect("r14", k, end.cpu.gpr[CPU_R14],
			    cpu.gpr[CPU_R14] + 12);
		}
		/* The second page is missing: the fault is the instruction's. */
		for (unsigned w = 0; w < RIG_WAYS; w++)
			rig_map(set->rig[w], RIG_CODE + 0x1000, 0);
		rig_compare(set, NULL, 0, &cpu, &end);
		assert_int_equal(end.vector, 14);
		expect("cr2", k, end.cr2, RIG_CODE + 0x1000);
		/* That one, what follows it or what comes before. */
		expect("rip", k, end.cpu.rip,
		    RIG_CODE +
			(k == 0         ? 4096 :
				k <= 10 ? at :
					  at - 3));
		for (unsigned w = 0; w < RIG_WAYS; w++)
			rig_map(set->rig[w], RIG_CODE + 0x1000,
			    (RIG_CODE + 0x1000) | RIG_PTE_P | RIG_PTE_W |
				RIG_PTE_U);
	}
}

/* Loops within a page and around its end, and a call in each round. */
RIG_ASM(loop_code, 64,
    "1: add r14, r12\n call 2f\n dec ecx\n jnz 1b" DONE ".fill 64, 1, 0xf4\n"
    "2: imul r12, r12, 7\n test cl, 3\n jz 3f\n inc r12\n ret\n"
    "3: xor r12, rcx\n ret\n");

static uint64_t
loop_exits(struct rig *rig)
{
	return rig_stat(rig, "exits of jumps to link") +
	    rig_stat(rig, "exits of jumps not in the table");
}

static void
loops(void **state)
{
	enum { ROUNDS = 1000 };
	struct rig_set *set = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint64_t exits = loop_exits(set->rig[0]);

	for (unsigned i = 0; i < 4; i++) {
		uint64_t at = RIG_CODE + 0x1000 - 30 * i;
		uint64_t r12 = 3, r14 = 0;

		rig_set_begin(set, 64, &cpu);
		cpu.gpr[CPU_RSP] = STACK;
		cpu.gpr[CPU_RCX] = ROUNDS;
		cpu.gpr[CPU_R12] = r12;
		cpu.gpr[CPU_R14] = r14;
		cpu.rip = at;
		for (unsigned w = 0; w < RIG_WAYS; w++)
			RIG_PUT(set->rig[w], at, loop_code);
		rig_compare_done(set, NULL, 0, &cpu, &end);
		for (uint64_t n = ROUNDS; n != 0; n--) {
			r14 += r12;
			r12 *= 7;
			r12 = n % 4 == 0 ? r12 ^ n : r12 + 1;
		}
		expect("r12", i, end.cpu.gpr[CPU_R12], r12);
		expect("r14", i, end.cpu.gpr[CPU_R14], r14);
	}
	/* And they did not come out for each round. */
	assert_in_range(loop_exits(set->rig[0]) - exits, 1, ROUNDS / 10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(push_and_pop_of_all_registers),
		cmocka_unit_test(stack_instructions),
		cmocka_unit_test(calls_and_jumps_through_all_registers),
		cmocka_unit_test(calls_and_returns),
		cmocka_unit_test(conditional_jumps),
		cmocka_unit_test(side_exits),
		cmocka_unit_test(flags_are_left_alone),
		cmocka_unit_test(flags_that_were_made_stay),
		cmocka_unit_test(faults_find_all_as_it_was),
		cmocka_unit_test(x87_exceptions_come_late),
		cmocka_unit_test(jumps_beyond_the_canonical_addresses),
		cmocka_unit_test(first_jumps),
		cmocka_unit_test(targets_far_apart),
		cmocka_unit_test(wrapping_32_bit_code),
		cmocka_unit_test(long_blocks),
		cmocka_unit_test(many_memory_operands),
		cmocka_unit_test(instructions_across_pages),
		cmocka_unit_test(loops),
	};

	return cmocka_run_group_tests(tests, rig_set_new, rig_set_free);
}
