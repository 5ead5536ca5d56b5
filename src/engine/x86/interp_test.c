/*
 * The interpreter as a guest sees it: modes, faults and what they leave behind,
 * repeated strings, LOCK, single-stepping, the stack and its flags.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/wire.h"
#include "engine/x86/interp.h"
#include "engine/x86/mmu.h"

#define SIZE (2 * MIB)
#define IDT64 0x2000u
#define IDT32 0x2400u
#define GDT 0x2800u
#define TSS 0x3000u
#define INNER_STACK 0x5000u
#define HANDLERS 0x6000u
#define CODE 0x8000u
#define STACK 0xc000u
#define DATA 0x10000u
#define TABLES 0x80000u

/* Selectors */
#define CS64 0x08u
#define DS0 0x10u
#define CS32 0x18u
#define TR 0x20u

static uint8_t *ram;
static struct x86_cpu *cpu;
static struct x86_mem mem;
static unsigned begun, ended; /* exclusive sections */

/* -------------------------------------------------------------- machine */

static void
exclusive_begin(struct x86_cpu *self)
{
	assert_int_equal(begun, ended);
	begun++;
}

static void
exclusive_end(struct x86_cpu *self)
{
	ended++;
	assert_int_equal(begun, ended);
}

static const struct x86_host host = {
	.exclusive_begin = exclusive_begin,
	.exclusive_end = exclusive_end,
};

static int
setup(void **state)
{
	static struct cpuid_table offered, guest;
	static const struct cpuid_params params = { .cores = 1, .threads = 1 };
	static const struct msr_params msr = { 0 };
	size_t pages = SIZE / 4096;

	ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(ram, MAP_FAILED);
	cpuid_host(&offered);
	cpuid_guest(&offered, &params, &guest);
	cpu = x86_cpu_new(0, &guest, &msr, false);
	cpu->host = &host;
	cpu->mem = &mem;
	mem.ram[0] = (struct x86_ram) {
		.size = SIZE,
		.host = ram,
		.code = calloc(pages, 1),
		.dirty = calloc(pages, 1),
		.writers = calloc(pages, sizeof(uint32_t)),
	};
	mem.count = 1;
	return 0;
}

static int
teardown(void **state)
{
	free((void *)mem.ram[0].code);
	free((void *)mem.ram[0].dirty);
	free((void *)mem.ram[0].writers);
	x86_cpu_free(cpu);
	munmap(ram, SIZE);
	return 0;
}

static struct cpu_segment
segment(uint16_t selector, uint32_t access, uint32_t limit)
{
	return (struct cpu_segment) {
		.selector = selector,
		.access = access,
		.limit = limit,
	};
}

/* Everything at rest, in real mode, with handlers for all exceptions. */
static void
reset(void)
{
	memset(ram, 0, SIZE);
	for (unsigned v = 0; v < 32; v++) {
		uint32_t handler = HANDLERS + v * 16;

		le16_store(ram + v * 4, (uint16_t)handler);
		le16_store(ram + IDT32 + v * 8, (uint16_t)handler);
		le16_store(ram + IDT32 + v * 8 + 2, CS32);
		le16_store(ram + IDT32 + v * 8 + 4, 0x8e00);
		le16_store(ram + IDT64 + v * 16, (uint16_t)handler);
		le16_store(ram + IDT64 + v * 16 + 2, CS64);
		le16_store(ram + IDT64 + v * 16 + 4, 0x8e00);
	}
	le64_store(ram + GDT + CS64, 0x00af9b000000ffff);
	le64_store(ram + GDT + DS0, 0x00cf93000000ffff);
	le64_store(ram + GDT + CS32, 0x00cf9b000000ffff);

	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->gpr[CPU_RSP] = STACK;
	cpu->rip = CODE;
	cpu->rflags = X86_FLAGS_FIXED;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s] = segment(0, 0x93, 0xffff);
	cpu->seg[CPU_TR] = segment(TR, 0x8b, 0x67);
	cpu->seg[CPU_TR].base = TSS;
	cpu->gdtr = (struct cpu_table) { .base = GDT, .limit = 0x2f };
	cpu->idtr = (struct cpu_table) { .limit = 0x3ff };
	cpu->cr0 = X86_CR0_ET;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
	cpu->xcr0 = X86_XCR0_X87;
	cpu->dr6 = 0xffff0ff0;
	cpu->dr7 = 0x400;
	cpu->cpl = 0;
	cpu->sti_shadow = cpu->mov_ss_shadow = cpu->halted = false;
	cpu->attention = 0;
	begun = ended = 0;
	x86_cpu_mode(cpu);
	x86_tlb_flush(cpu, true);
}

static void
enter16(void)
{
	reset();
}

static void
enter32(void)
{
	reset();
	cpu->cr0 |= X86_CR0_PE;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s] = segment(DS0, 0xc093, UINT32_MAX);
	cpu->seg[CPU_CS] = segment(CS32, 0xc09b, UINT32_MAX);
	cpu->idtr = (struct cpu_table) { .base = IDT32, .limit = 0xff };
	le32_store(ram + TSS + 4, INNER_STACK);
	le16_store(ram + TSS + 8, DS0);
	x86_cpu_mode(cpu);
}

/* The page table entry of a page in the first 2 MiB, which are mapped 1:1. */
static uint8_t *
pte(uint64_t lin)
{
	return ram + TABLES + 0x3000 + lin / 4096 * 8;
}

static void
enter64(void)
{
	reset();
	for (unsigned level = 0; level < 3; level++)
		le64_store(ram + TABLES + level * 0x1000,
		    (TABLES + (level + 1) * 0x1000) | 7);
	for (unsigned page = 0; page < 512; page++)
		le64_store(pte(page * 4096), page * 4096 | 7);
	cpu->cr0 |= X86_CR0_PE | X86_CR0_PG | X86_CR0_WP;
	cpu->cr3 = TABLES;
	cpu->cr4 = X86_CR4_PAE;
	cpu->efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s] = segment(DS0, 0xc093, UINT32_MAX);
	cpu->seg[CPU_CS] = segment(CS64, 0xa09b, UINT32_MAX);
	cpu->idtr = (struct cpu_table) { .base = IDT64, .limit = 0x1ff };
	le64_store(ram + TSS + 4, INNER_STACK);
	x86_cpu_mode(cpu);
	x86_tlb_flush(cpu, true);
}

/* As ring 3 of the mode that was entered. */
static void
enter_user(void)
{
	cpu->cpl = 3;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s].access |= 3 << 5;
	x86_cpu_mode(cpu);
}

static void
enter_v86(unsigned iopl)
{
	enter32();
	cpu->rflags |= X86_VM | iopl << 12;
	cpu->cpl = 3;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		cpu->seg[s] = segment(0, 0xf3, 0xffff);
	x86_cpu_mode(cpu);
}

static void
put_code(const void *bytes, size_t len)
{
	memcpy(ram + CODE, bytes, len);
	cpu->rip = CODE;
}

#define CODE_BYTES(...)                             \
	put_code((const uint8_t[]) { __VA_ARGS__ }, \
	    sizeof((const uint8_t[]) { __VA_ARGS__ }))

/* Carry out one instruction that raises nothing. */
#define STEP() assert_int_equal(x86_step(cpu), X86_STEP_NEXT)
#define STEP_TO(where)                             \
	do {                                       \
		STEP();                            \
		assert_int_equal(cpu->rip, where); \
	} while (0)

/*
 * Carry out an instruction that raises `vector`, pushing rip `at`.  What was
 * pushed goes away again, so that rSP can be looked at.
 */
static uint32_t
step_faults(unsigned vector, uint64_t at)
{
	bool has_error = (BIT(vector) & 0x27d00) != 0;
	uint32_t error = 0;
	uint8_t *frame;

	STEP();
	assert_int_equal(cpu->rip, HANDLERS + vector * 16);
	frame = ram + cpu->gpr[CPU_RSP];
	switch (cpu->code) {
	case X86_CODE64:
		if (has_error) {
			error = le32_load(frame);
			frame += 8;
		}
		assert_int_equal(le64_load(frame), at);
		cpu->gpr[CPU_RSP] = le64_load(frame + 24);
		break;
	case X86_CODE32:
		if (has_error) {
			error = le32_load(frame);
			frame += 4;
		}
		assert_int_equal(le32_load(frame), at);
		cpu->gpr[CPU_RSP] = (uint64_t)(frame - ram) + 12;
		break;
	default:
		assert_int_equal(le16_load(frame), at);
		cpu->gpr[CPU_RSP] = (uint64_t)(frame - ram) + 6;
		break;
	}
	return error;
}

/* ---------------------------------------------------------------- modes */

static void
each_mode_has_its_sizes(void **state)
{
	/* 16 bits: mov ax, 1234h; 66 mov eax; */
	enter16();
	CODE_BYTES(0xb8, 0x34, 0x12, 0x66, 0xb8, 1, 2, 3, 4);
	cpu->gpr[CPU_RAX] = 0xffffffff;
	STEP_TO(CODE + 3);
	assert_int_equal(cpu->gpr[CPU_RAX], 0xffff1234);
	STEP_TO(CODE + 9);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x04030201);

	/* 32 bits: mov eax; 40 is inc eax */
	enter32();
	CODE_BYTES(0xb8, 0xff, 0xff, 0xff, 0x7f, 0x40);
	STEP_TO(CODE + 5);
	STEP_TO(CODE + 6);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x80000000);
	assert_int_equal(cpu->rflags & X86_ARITH,
	    X86_OF | X86_SF | X86_AF | X86_PF);

	/* 64 bits: mov rax, imm64; mov eax, eax clears the upper half */
	enter64();
	CODE_BYTES(0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0x89, 0xc0);
	STEP_TO(CODE + 10);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x0807060504030201);
	STEP_TO(CODE + 12);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x04030201);
}

static void
addresses_wrap_at_their_size(void **state)
{
	/* mov al, [bx+si] */
	enter16();
	CODE_BYTES(0x8a, 0x00);
	cpu->gpr[CPU_RBX] = 0xfff0;
	cpu->gpr[CPU_RSI] = 0x8020; /* 0x8010 */
	ram[0x8010] = 0x5a;
	STEP();
	assert_int_equal(cpu->gpr[CPU_RAX], 0x5a);

	/* mov al, [eax]: linear addresses have 32 bits */
	enter32();
	CODE_BYTES(0x8a, 0x00);
	cpu->seg[CPU_DS].base = 0xfffff000;
	cpu->gpr[CPU_RAX] = DATA + 0x1000;
	ram[DATA] = 0x33;
	STEP();
	assert_int_equal(cpu->gpr[CPU_RAX] & 0xff, 0x33);

	/* 67 mov al, [eax + ecx] */
	enter64();
	CODE_BYTES(0x67, 0x8a, 0x04, 0x08);
	cpu->gpr[CPU_RAX] = 0xdeadbeef00000000 | DATA;
	cpu->gpr[CPU_RCX] = 0xffffffff;
	ram[DATA - 1] = 0x44;
	STEP();
	assert_int_equal(cpu->gpr[CPU_RAX] & 0xff, 0x44);

	/* gs mov al, [rax]: the base counts, that of ds does not */
	enter64();
	CODE_BYTES(0x65, 0x8a, 0x00, 0x8a, 0x08);
	cpu->seg[CPU_DS].base = 0x100000;
	cpu->seg[CPU_GS].base = DATA;
	cpu->gpr[CPU_RAX] = 0x10;
	ram[DATA + 0x10] = 0x77;
	STEP();
	assert_int_equal(cpu->gpr[CPU_RAX], 0x77);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RCX], ram[0x77]);
}

static void
limits_and_canonical_form(void **state)
{
	/* mov ax, [ffff] in real mode */
	enter16();
	CODE_BYTES(0xa1, 0xff, 0xff);
	step_faults(X86_GP, CODE);

	/* mov rax, [rbx]; mov rax, [rbp] */
	enter64();
	cpu->gpr[CPU_RBX] = cpu->gpr[CPU_RBP] = 0x7fffffffffff;
	CODE_BYTES(0x48, 0x8b, 0x03);
	assert_int_equal(step_faults(X86_GP, CODE), 0);
	CODE_BYTES(0x48, 0x8b, 0x45, 0x00);
	assert_int_equal(step_faults(X86_SS, CODE), 0);
	/* fs: with a base that makes it so */
	cpu->gpr[CPU_RBX] = DATA;
	cpu->seg[CPU_FS].base = 0x7fffffffffff;
	CODE_BYTES(0x64, 0x48, 0x8b, 0x03);
	assert_int_equal(step_faults(X86_GP, CODE), 0);
}

/* SDM volume 3, 6.15: CPL 3, CR0.AM and EFLAGS.AC, all of them. */
static void
alignment_checks(void **state)
{
	enter64();
	enter_user();
	cpu->cr0 |= X86_CR0_AM;
	cpu->gpr[CPU_RBX] = DATA + 2;
	/* mov eax, [rbx] */
	CODE_BYTES(0x8b, 0x03);
	STEP_TO(CODE + 2);
	cpu->rflags |= X86_AC;
	x86_cpu_mode(cpu);
	CODE_BYTES(0x8b, 0x03);
	assert_int_equal(step_faults(X86_AC_FAULT, CODE), 0);

	/* As far as the operand is wide, and before page faults */
	enter_user();
	CODE_BYTES(0x66, 0x8b, 0x03);
	STEP_TO(CODE + 3);
	le64_store(pte(DATA), 0);
	x86_tlb_flush(cpu, true);
	CODE_BYTES(0x89, 0x03);
	step_faults(X86_AC_FAULT, CODE);
	/* not before #GP: mov eax, [rbx] */
	enter_user();
	cpu->gpr[CPU_RBX] = 0x800000000001;
	CODE_BYTES(0x8b, 0x03);
	step_faults(X86_GP, CODE);

	/* push rax; lock add [rbx], eax; rep movsd; enter 2, 0 */
	enter_user();
	cpu->gpr[CPU_RSP] = STACK + 4;
	CODE_BYTES(0x50);
	step_faults(X86_AC_FAULT, CODE);
	enter_user();
	cpu->gpr[CPU_RSP] = STACK;
	cpu->gpr[CPU_RBX] = DATA + 0x1002;
	CODE_BYTES(0xf0, 0x01, 0x03);
	step_faults(X86_AC_FAULT, CODE);
	enter_user();
	cpu->gpr[CPU_RSI] = cpu->gpr[CPU_RDI] = DATA + 0x1001;
	cpu->gpr[CPU_RCX] = 4;
	CODE_BYTES(0xf3, 0xa5);
	step_faults(X86_AC_FAULT, CODE);
	assert_int_equal(cpu->gpr[CPU_RCX], 4);
	enter_user();
	CODE_BYTES(0xc8, 2, 0, 0);
	step_faults(X86_AC_FAULT, CODE);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK);

	/* In ring 0 AC means something else; without AM nothing. */
	enter64();
	cpu->cr0 |= X86_CR0_AM;
	cpu->rflags |= X86_AC;
	x86_cpu_mode(cpu);
	cpu->gpr[CPU_RBX] = DATA + 1;
	CODE_BYTES(0x8b, 0x03);
	STEP_TO(CODE + 2);
	cpu->cr0 &= ~(uint64_t)X86_CR0_AM;
	enter_user();
	CODE_BYTES(0x8b, 0x03);
	STEP_TO(CODE + 2);
}

/* --------------------------------------------------------------- fetching */

static void
fetching_ends_where_code_does(void **state)
{
	static const uint8_t mov[] = { 0xb8, 1, 2, 3, 4 };
	uint8_t longest[16];

	/* Across a page that is not there */
	enter64();
	memcpy(ram + CODE + 0xffe, mov, sizeof(mov));
	le64_store(pte(CODE + 0x1000), 0);
	cpu->rip = CODE + 0xffe;
	assert_int_equal(step_faults(X86_PFV, CODE + 0xffe), X86_PF_I);
	assert_int_equal(cpu->cr2, CODE + 0x1000);
	/* which is there now */
	le64_store(pte(CODE + 0x1000), (CODE + 0x1000) | 7);
	cpu->rip = CODE + 0xffe;
	STEP_TO(CODE + 0xffe + 5);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x04030201);
	/* The last bytes before one that is not there */
	le64_store(pte(CODE + 0x1000), 0);
	x86_tlb_flush(cpu, true);
	ram[CODE + 0xfff] = 0x90;
	cpu->rip = CODE + 0xfff;
	STEP_TO(CODE + 0x1000);
	assert_int_equal(step_faults(X86_PFV, CODE + 0x1000), X86_PF_I);

	/* Beyond the limit of CS, and with only its tail there */
	enter32();
	CODE_BYTES(0xb8, 1, 2, 3, 4);
	cpu->seg[CPU_CS].limit = CODE + 3;
	assert_int_equal(step_faults(X86_GP, CODE), 0);
	enter32();
	CODE_BYTES(0xb8, 1, 2, 3, 4);
	cpu->seg[CPU_CS].limit = CODE + 4;
	STEP_TO(CODE + 5);
	assert_int_equal(step_faults(X86_GP, CODE + 5), 0);

	/* Fifteen bytes, and sixteen */
	enter64();
	memset(longest, 0x66, sizeof(longest));
	longest[14] = 0x90;
	put_code(longest, 15);
	STEP_TO(CODE + 15);
	longest[14] = 0x66;
	longest[15] = 0x90;
	put_code(longest, 16);
	assert_int_equal(step_faults(X86_GP, CODE), 0);
}

static void
what_the_guest_lacks(void **state)
{
	uint64_t features = cpu->features;

	/* popcnt eax, ecx */
	enter64();
	cpu->features &= ~BIT(X86_F_POPCNT);
	CODE_BYTES(0xf3, 0x0f, 0xb8, 0xc1);
	step_faults(X86_UD, CODE);
	/* tzcnt eax, ecx: an older processor sees bsf */
	cpu->features = features & ~BIT(X86_F_BMI1);
	CODE_BYTES(0xf3, 0x0f, 0xbc, 0xc1);
	cpu->gpr[CPU_RAX] = 5;
	STEP_TO(CODE + 4);
	assert_int_equal(cpu->gpr[CPU_RAX], 5);
	assert_int_not_equal(cpu->rflags & X86_ZF, 0);
	cpu->features = features;
	STEP();
	cpu->rip = CODE;
	STEP_TO(CODE + 4);
	assert_int_equal(cpu->gpr[CPU_RAX], 32);

	/* andn eax, ecx, edx: VEX is not for real mode */
	cpu->features |= BIT(X86_F_BMI1);
	enter16();
	CODE_BYTES(0xc4, 0xe2, 0x70, 0xf2, 0xc2);
	step_faults(X86_UD, CODE);
	enter32();
	CODE_BYTES(0xc4, 0xe2, 0x70, 0xf2, 0xc2);
	cpu->gpr[CPU_RDX] = 0xff;
	STEP_TO(CODE + 5);
	assert_int_equal(cpu->gpr[CPU_RAX], 0xff);
	cpu->features = features;
	/* lock add eax, ecx */
	enter64();
	CODE_BYTES(0xf0, 0x01, 0xc8);
	step_faults(X86_UD, CODE);
}

static unsigned
check_unit(enum x86_fpu unit)
{
	jmp_buf jmp;

	cpu->event.vector = 0;
	cpu->jmp = &jmp;
	if (_setjmp(jmp) == 0)
		x86_fpu_check(cpu, unit);
	cpu->jmp = NULL;
	return cpu->event.vector;
}

static void
units_by_control_registers(void **state)
{
	enter64();
	assert_int_equal(check_unit(X86_FPU_X87), 0);
	assert_int_equal(check_unit(X86_FPU_MMX), 0);
	assert_int_equal(check_unit(X86_FPU_SSE), X86_UD);
	assert_int_equal(check_unit(X86_FPU_AVX), X86_UD);
	cpu->cr4 |= X86_CR4_OSFXSR | X86_CR4_OSXSAVE;
	assert_int_equal(check_unit(X86_FPU_SSE), 0);
	assert_int_equal(check_unit(X86_FPU_AVX), X86_UD);
	cpu->xcr0 = 7;
	assert_int_equal(check_unit(X86_FPU_AVX), 0);
	assert_int_equal(check_unit(X86_FPU_AVX512), X86_UD);
	cpu->xcr0 = 0xe7;
	assert_int_equal(check_unit(X86_FPU_AVX512), 0);
	cpu->cr0 |= X86_CR0_TS;
	assert_int_equal(check_unit(X86_FPU_X87), X86_NM);
	assert_int_equal(check_unit(X86_FPU_MMX), X86_NM);
	assert_int_equal(check_unit(X86_FPU_SSE), X86_NM);
	assert_int_equal(check_unit(X86_FPU_AVX512), X86_NM);
	assert_int_equal(check_unit(X86_FPU_WAIT), 0);
	cpu->cr0 |= X86_CR0_MP;
	assert_int_equal(check_unit(X86_FPU_WAIT), X86_NM);
	cpu->cr0 |= X86_CR0_EM;
	assert_int_equal(check_unit(X86_FPU_SSE), X86_UD);
	assert_int_equal(check_unit(X86_FPU_MMX), X86_UD);
	assert_int_equal(check_unit(X86_FPU_X87), X86_NM);
}

/* ---------------------------------------------------------------- faults */

static void
faults_leave_no_trace(void **state)
{
	/* push [rbx]: the stack is not there */
	enter64();
	le64_store(pte(STACK - 0x1000), 0);
	le64_store(pte(DATA + 0x1000), 0);
	cpu->gpr[CPU_RBX] = DATA;
	cpu->gpr[CPU_RSP] = STACK;
	le64_store(ram + TSS + 0x24, INNER_STACK); /* IST1 */
	for (unsigned v = 0; v < 32; v++)
		ram[IDT64 + v * 16 + 4] = 1;
	CODE_BYTES(0xff, 0x33);
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W);
	assert_int_equal(cpu->cr2, STACK - 8);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK);
	/* call: the same */
	CODE_BYTES(0xe8, 0x10, 0, 0, 0);
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK);
	/* enter 16, 0 and pop [rbx + 1000h], leave */
	CODE_BYTES(0xc8, 0x10, 0, 0);
	cpu->gpr[CPU_RBP] = 0x1234;
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK);
	assert_int_equal(cpu->gpr[CPU_RBP], 0x1234);
	CODE_BYTES(0x8f, 0x83, 0, 0x10, 0, 0);
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK);
	CODE_BYTES(0xc9);
	cpu->gpr[CPU_RBP] = DATA + 0x1000;
	assert_int_equal(step_faults(X86_PFV, CODE), 0);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK);
	assert_int_equal(cpu->gpr[CPU_RBP], DATA + 0x1000);
	/* xadd [rbx], rax on a page that is only read; flags, too */
	le64_store(pte(DATA), DATA | 5);
	x86_tlb_flush(cpu, true);
	cpu->gpr[CPU_RBX] = DATA;
	cpu->gpr[CPU_RAX] = 7;
	cpu->rflags |= X86_CF | X86_ZF;
	CODE_BYTES(0x48, 0x0f, 0xc1, 0x03);
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W | X86_PF_P);
	assert_int_equal(cpu->gpr[CPU_RAX], 7);
	assert_int_equal(cpu->rflags & X86_ARITH, X86_CF | X86_ZF);
	/* cmpxchg [rbx], rcx that finds something else writes, too */
	CODE_BYTES(0x48, 0x0f, 0xb1, 0x0b);
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W | X86_PF_P);
	/* div by zero */
	CODE_BYTES(0xf7, 0xf1);
	cpu->gpr[CPU_RCX] = 0;
	step_faults(X86_DE, CODE);
	assert_int_equal(cpu->gpr[CPU_RAX], 7);
	/* jmp rax, not canonical: the jump's own fault */
	cpu->gpr[CPU_RAX] = 0x800000000000;
	CODE_BYTES(0xff, 0xe0);
	assert_int_equal(step_faults(X86_GP, CODE), 0);
}

/* -------------------------------------------------------------- transfers */

static void
targets_have_the_operand_size(void **state)
{
	/* 66 jmp short +2 in 32-bit code: ip has 16 bits */
	enter32();
	cpu->rip = 0x1fff0;
	memcpy(ram + 0x1fff0, (uint8_t[]) { 0x66, 0xeb, 0x02 }, 3);
	STEP_TO(0xfff5);
	/* In 16-bit code ip wraps */
	enter16();
	cpu->rip = 0xfffc;
	memcpy(ram + 0xfffc, (uint8_t[]) { 0xeb, 0x10 }, 2);
	STEP_TO(0xe);
	/* jmp far enough to leave the segment */
	enter32();
	cpu->seg[CPU_CS].limit = CODE + 0xff;
	CODE_BYTES(0xe9, 0, 1, 0, 0);
	STEP();
	assert_int_not_equal(cpu->rip, CODE + 0x105);
	/* ret 8 */
	enter64();
	CODE_BYTES(0xc2, 0x08, 0x00);
	le64_store(ram + STACK, CODE + 0x20);
	STEP_TO(CODE + 0x20);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK + 16);
	/* call [rsp]: the operand is read before the push */
	CODE_BYTES(0xff, 0x14, 0x24);
	cpu->gpr[CPU_RSP] = STACK;
	STEP_TO(CODE + 0x20);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK - 8);
	assert_int_equal(le64_load(ram + STACK - 8), CODE + 3);
	/* call rax to no address: what the push raises comes first */
	enter64();
	enter_user();
	CODE_BYTES(0xff, 0xd0);
	cpu->gpr[CPU_RAX] = BIT(47);
	le64_store(pte(DATA), 0);
	cpu->gpr[CPU_RSP] = DATA + 8;
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W | X86_PF_U);
	enter_user();
	CODE_BYTES(0xff, 0xd0);
	cpu->gpr[CPU_RSP] = STACK;
	assert_int_equal(step_faults(X86_GP, CODE), 0);
	assert_int_equal(le64_load(ram + STACK - 8), 0);
}

static void
loops_count_by_address_size(void **state)
{
	/* loop $, in three sizes */
	enter64();
	CODE_BYTES(0xe2, 0xfe);
	cpu->gpr[CPU_RCX] = 0x100000001;
	STEP_TO(CODE);
	assert_int_equal(cpu->gpr[CPU_RCX], 0x100000000);
	CODE_BYTES(0x67, 0xe2, 0xfd);
	cpu->gpr[CPU_RCX] = 0x100000001;
	STEP_TO(CODE + 3);
	assert_int_equal(cpu->gpr[CPU_RCX], 0);
	enter16();
	CODE_BYTES(0xe2, 0xfe);
	cpu->gpr[CPU_RCX] = 0x10001;
	STEP_TO(CODE + 2);
	assert_int_equal(cpu->gpr[CPU_RCX], 0x10000);
	/* loope and loopne */
	enter64();
	CODE_BYTES(0xe1, 0x10, 0xe0, 0x10);
	cpu->gpr[CPU_RCX] = 5;
	STEP_TO(CODE + 2);
	STEP_TO(CODE + 0x14);
	assert_int_equal(cpu->gpr[CPU_RCX], 3);
	cpu->rflags |= X86_ZF;
	CODE_BYTES(0xe1, 0x10);
	STEP_TO(CODE + 0x12);
	/* jrcxz, jecxz */
	cpu->gpr[CPU_RCX] = 0x100000000;
	CODE_BYTES(0xe3, 0x10, 0x67, 0xe3, 0x10);
	STEP_TO(CODE + 2);
	STEP_TO(CODE + 0x15);
}

/* SDM volume 1, appendix B, written out the long way. */
static void
conditions_as_the_manual_lists_them(void **state)
{
	for (unsigned i = 0; i < 32; i++) {
		bool cf = i & 1, pf = i & 2, zf = i & 4, sf = i & 8,
		     of = i & 16;
		uint64_t flags = X86_AF | (cf ? X86_CF : 0) |
		    (pf ? X86_PF : 0) | (zf ? X86_ZF : 0) | (sf ? X86_SF : 0) |
		    (of ? X86_OF : 0);
		const bool expected[16] = { of, !of, cf, !cf, zf, !zf, cf || zf,
			!cf && !zf, sf, !sf, pf, !pf, sf != of, sf == of,
			zf || sf != of, !zf && sf == of };

		for (unsigned cc = 0; cc < 16; cc++)
			assert_int_equal(x86_condition(flags, cc),
			    expected[cc]);
	}
}

/* --------------------------------------------------------------- strings */

static void
a_fault_within_rep_keeps_what_is_done(void **state)
{
	/* rep movsb across a page of the destination that is not there */
	enter64();
	CODE_BYTES(0xf3, 0xa4);
	for (unsigned i = 0; i < 0x100; i++)
		ram[DATA + i] = (uint8_t)(i + 1);
	cpu->gpr[CPU_RSI] = DATA;
	cpu->gpr[CPU_RDI] = DATA + 0x1fc0;
	cpu->gpr[CPU_RCX] = 0x100;
	le64_store(pte(DATA + 0x2000), 0);
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W);
	assert_int_equal(cpu->cr2, DATA + 0x2000);
	assert_int_equal(cpu->gpr[CPU_RCX], 0xc0);
	assert_int_equal(cpu->gpr[CPU_RSI], DATA + 0x40);
	assert_int_equal(cpu->gpr[CPU_RDI], DATA + 0x2000);
	le64_store(pte(DATA + 0x2000), (DATA + 0x2000) | 7);
	cpu->rip = CODE;
	STEP_TO(CODE + 2);
	assert_int_equal(cpu->gpr[CPU_RCX], 0);
	assert_memory_equal(ram + DATA + 0x1fc0, ram + DATA, 0x100);

	/* An element across the edge: one by one, and all of it or nothing */
	cpu->gpr[CPU_RDI] = DATA + 0x1ff9;
	cpu->gpr[CPU_RSI] = DATA;
	cpu->gpr[CPU_RCX] = 4;
	memset(ram + DATA + 0x1ff0, 0, 0x20);
	le64_store(pte(DATA + 0x2000), 0);
	x86_tlb_flush(cpu, true);
	CODE_BYTES(0xf3, 0xa5); /* rep movsd */
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W);
	assert_int_equal(cpu->gpr[CPU_RCX], 3);
	assert_int_equal(cpu->gpr[CPU_RDI], DATA + 0x1ffd);
	assert_int_equal(le32_load(ram + DATA + 0x1ffd), 0);

	/* repe cmpsb: flags as before it began */
	le64_store(pte(DATA + 0x2000), 0);
	cpu->gpr[CPU_RSI] = DATA + 0x1ff0;
	cpu->gpr[CPU_RDI] = DATA + 0x1ff0;
	cpu->gpr[CPU_RCX] = 0x20;
	cpu->rflags |= X86_CF;
	cpu->rflags &= ~(uint64_t)X86_ZF;
	CODE_BYTES(0xf3, 0xa6);
	assert_int_equal(step_faults(X86_PFV, CODE), 0);
	assert_int_equal(cpu->gpr[CPU_RCX], 0x10);
	assert_int_equal(cpu->rflags & (X86_CF | X86_ZF), X86_CF);
}

static void
long_strings_can_be_interrupted(void **state)
{
	unsigned steps = 0;

	/* rep stosb */
	enter64();
	CODE_BYTES(0xf3, 0xaa);
	cpu->gpr[CPU_RAX] = 0x5a;
	cpu->gpr[CPU_RDI] = DATA + 0x10;
	cpu->gpr[CPU_RCX] = 20000;
	while (cpu->rip == CODE) {
		STEP();
		steps++;
		assert_int_equal(cpu->gpr[CPU_RDI] + cpu->gpr[CPU_RCX],
		    DATA + 0x10 + 20000);
	}
	assert_in_range(steps, 4, 6);
	assert_int_equal(ram[DATA + 0x10 + 19999], 0x5a);
	assert_int_equal(ram[DATA + 0x10 + 20000], 0);
	/* One run with attention set, then away */
	cpu->rip = CODE;
	cpu->gpr[CPU_RDI] = DATA + 0xff0;
	cpu->gpr[CPU_RCX] = 0x100;
	cpu->attention = X86_ATTENTION_KICK;
	STEP_TO(CODE);
	assert_int_equal(cpu->gpr[CPU_RCX], 0xf0);
	assert_int_equal(x86_steps(cpu, 10), X86_STEP_NEXT);
	assert_int_equal(cpu->gpr[CPU_RCX], 0xf0);
	cpu->attention = 0;
}

static void
strings_down_and_in_small_segments(void **state)
{
	/* std; rep movsw in 16-bit code, over itself */
	enter16();
	CODE_BYTES(0xf3, 0xa5);
	memcpy(ram + 0x9000, "0123456789", 10);
	cpu->rflags |= X86_DF;
	cpu->gpr[CPU_RSI] = 0xffff9006;
	cpu->gpr[CPU_RDI] = 0xffff9008;
	cpu->gpr[CPU_RCX] = 0xffff0004;
	STEP_TO(CODE + 2);
	assert_memory_equal(ram + 0x9000, "0101234567", 10);
	assert_int_equal(cpu->gpr[CPU_RSI], 0xffff8ffe);
	assert_int_equal(cpu->gpr[CPU_RCX], 0xffff0000);

	/* rep stosb through the end of a segment's offsets: they wrap */
	enter16();
	CODE_BYTES(0xf3, 0xaa);
	cpu->seg[CPU_ES].base = DATA;
	cpu->gpr[CPU_RAX] = 0x11;
	cpu->gpr[CPU_RDI] = 0xfffe;
	cpu->gpr[CPU_RCX] = 4;
	STEP_TO(CODE + 2);
	assert_int_equal(cpu->gpr[CPU_RDI], 2);
	assert_int_equal(le16_load(ram + DATA + 0xfffe), 0x1111);
	assert_int_equal(le16_load(ram + DATA), 0x1111);
	assert_int_equal(le16_load(ram + DATA + 0x10000), 0);

	/* and into its limit: what was within is done */
	enter32();
	CODE_BYTES(0xf3, 0xaa);
	cpu->seg[CPU_ES].limit = DATA + 9;
	cpu->gpr[CPU_RAX] = 0x22;
	cpu->gpr[CPU_RDI] = DATA;
	cpu->gpr[CPU_RCX] = 20;
	assert_int_equal(step_faults(X86_GP, CODE), 0);
	assert_int_equal(cpu->gpr[CPU_RCX], 10);
	assert_int_equal(ram[DATA + 9], 0x22);
	assert_int_equal(ram[DATA + 10], 0);

	/* A segment that expands down begins above its limit */
	enter32();
	CODE_BYTES(0xf3, 0xaa);
	cpu->seg[CPU_ES].access |= X86_SEG_CE;
	cpu->seg[CPU_ES].limit = DATA - 1;
	cpu->gpr[CPU_RAX] = 0x33;
	cpu->gpr[CPU_RDI] = DATA;
	cpu->gpr[CPU_RCX] = 3;
	STEP_TO(CODE + 2);
	assert_int_equal(ram[DATA + 2], 0x33);
	cpu->rip = CODE;
	cpu->gpr[CPU_RDI] = DATA - 1;
	cpu->gpr[CPU_RCX] = 3;
	assert_int_equal(step_faults(X86_GP, CODE), 0);

	/* Nothing to do does nothing, wherever it would lead */
	enter64();
	CODE_BYTES(0xf3, 0xa4);
	cpu->gpr[CPU_RSI] = 0x800000000000;
	STEP_TO(CODE + 2);
}

/* ------------------------------------------------------------------ LOCK */

static void
locked_across_pages(void **state)
{
	/* lock add [rbx], rax */
	enter64();
	CODE_BYTES(0xf0, 0x48, 0x01, 0x03);
	cpu->gpr[CPU_RBX] = DATA + 0xffc;
	cpu->gpr[CPU_RAX] = 0x100000001;
	le64_store(ram + DATA + 0xffc, 0xffffffff);
	STEP_TO(CODE + 4);
	assert_int_equal(le64_load(ram + DATA + 0xffc), 0x200000000);
	assert_int_equal(begun, 1);
	assert_int_equal(ended, 1);
	/* within one page nobody has to stop */
	cpu->gpr[CPU_RBX] = DATA;
	cpu->rip = CODE;
	STEP_TO(CODE + 4);
	assert_int_equal(le64_load(ram + DATA), 0x100000001);
	assert_int_equal(begun, 1);
	/* xchg is locked in any case */
	CODE_BYTES(0x48, 0x87, 0x03);
	cpu->gpr[CPU_RBX] = DATA + 0xffc;
	STEP_TO(CODE + 3);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x200000000);
	assert_int_equal(begun, 2);
	/* and a fault does not leave everybody stopped */
	le64_store(pte(DATA + 0x1000), 0);
	x86_tlb_flush(cpu, true);
	cpu->rip = CODE;
	assert_int_equal(step_faults(X86_PFV, CODE), X86_PF_W);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x200000000);
	assert_int_equal(begun, ended);
}

/* ram[DATA] goes up by one in each round, if nobody is in the way. */
#define INCREMENTS 200000u
static pthread_barrier_t start;

static void *
increment(void *arg)
{
	struct x86_cpu *other = arg;

	pthread_barrier_wait(&start);
	for (unsigned i = 0; i < INCREMENTS; i++)
		(void)x86_steps(other, 2);
	return NULL;
}

static void
locked_increments_are_not_lost(void **state)
{
	struct x86_cpu *other;
	pthread_t thread;

	/* lock inc [rbx]; jmp back */
	enter64();
	CODE_BYTES(0xf0, 0xff, 0x03, 0xeb, 0xfb);
	cpu->gpr[CPU_RBX] = DATA;
	other = aligned_alloc(4096, round_up(sizeof(*other), 4096));
	assert_non_null(other);
	*other = *cpu;
	other->id = 1;
	pthread_barrier_init(&start, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, increment, other), 0);
	(void)increment(cpu);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&start);
	assert_int_equal(le32_load(ram + DATA), 2 * INCREMENTS);
	x86_cpu_free(other);
}

static void
compare_and_exchange_wide(void **state)
{
	/* lock cmpxchg8b [rbx] */
	enter64();
	cpu->gpr[CPU_RSI] = DATA + 4;
	cpu->gpr[CPU_RAX] = 0xffffffff00000001;
	cpu->gpr[CPU_RDX] = 2;
	cpu->gpr[CPU_RBX] = 3;
	cpu->gpr[CPU_RCX] = 4;
	le64_store(ram + DATA + 4, 0x200000001);
	CODE_BYTES(0xf0, 0x0f, 0xc7, 0x0e);
	STEP_TO(CODE + 4);
	assert_int_not_equal(cpu->rflags & X86_ZF, 0);
	assert_int_equal(le64_load(ram + DATA + 4), 0x400000003);
	assert_int_equal(cpu->gpr[CPU_RAX], 0xffffffff00000001);
	cpu->rip = CODE;
	STEP_TO(CODE + 4);
	assert_int_equal(cpu->rflags & X86_ZF, 0);
	assert_int_equal(cpu->gpr[CPU_RAX], 3);
	assert_int_equal(cpu->gpr[CPU_RDX], 4);
	/* across pages */
	cpu->gpr[CPU_RSI] = DATA + 0xffc;
	le64_store(ram + DATA + 0xffc, 0x400000003);
	CODE_BYTES(0x0f, 0xc7, 0x0e);
	cpu->gpr[CPU_RBX] = 9;
	STEP_TO(CODE + 3);
	assert_int_equal(le64_load(ram + DATA + 0xffc), 0x400000009);
	assert_int_equal(ended, 1);

	if (!x86_has(cpu, X86_F_CX16))
		return;
	/* lock cmpxchg16b [rsi] */
	CODE_BYTES(0xf0, 0x48, 0x0f, 0xc7, 0x0e);
	cpu->gpr[CPU_RSI] = DATA + 0x20;
	le64_store(ram + DATA + 0x20, 3);
	le64_store(ram + DATA + 0x28, 4);
	cpu->gpr[CPU_RBX] = 0x1111111111111111;
	cpu->gpr[CPU_RCX] = 0x2222222222222222;
	STEP_TO(CODE + 5);
	assert_int_not_equal(cpu->rflags & X86_ZF, 0);
	assert_int_equal(le64_load(ram + DATA + 0x20), 0x1111111111111111);
	assert_int_equal(le64_load(ram + DATA + 0x28), 0x2222222222222222);
	cpu->rip = CODE;
	STEP_TO(CODE + 5);
	assert_int_equal(cpu->rflags & X86_ZF, 0);
	assert_int_equal(cpu->gpr[CPU_RDX], 0x2222222222222222);
	cpu->gpr[CPU_RSI] = DATA + 0x28;
	cpu->rip = CODE;
	assert_int_equal(step_faults(X86_GP, CODE), 0);
	/* cmpxchg16b [rbp]: alignment comes before the address itself */
	CODE_BYTES(0x48, 0x0f, 0xc7, 0x4d, 0x00);
	cpu->gpr[CPU_RBP] = BIT(59);
	assert_int_equal(step_faults(X86_SS, CODE), 0);
	CODE_BYTES(0x48, 0x0f, 0xc7, 0x4d, 0x00);
	cpu->gpr[CPU_RBP] = BIT(59) + 8;
	assert_int_equal(step_faults(X86_GP, CODE), 0);
}

/* ----------------------------------------------------- debug exceptions */

static void
single_steps(void **state)
{
	/* nop with TF: trap after it; the handler runs without */
	enter64();
	CODE_BYTES(0x90, 0x90);
	cpu->rflags |= X86_TF;
	step_faults(X86_DB, CODE + 1);
	assert_int_equal(cpu->dr6, 0xffff4ff0);
	assert_int_equal(cpu->rflags & X86_TF, 0);
	assert_int_equal(le64_load(ram + STACK - 24) & (X86_TF | X86_RF),
	    X86_TF);

	/* popf that sets it: not yet */
	enter64();
	le64_store(ram + STACK, X86_TF);
	CODE_BYTES(0x9d, 0x90);
	STEP_TO(CODE + 1);
	step_faults(X86_DB, CODE + 2);
	/* popf that clears it: once more */
	enter64();
	CODE_BYTES(0x9d);
	cpu->rflags |= X86_TF;
	step_faults(X86_DB, CODE + 1);

	/* pop ss: after the next one */
	enter32();
	le32_store(ram + STACK, DS0);
	CODE_BYTES(0x17, 0x90, 0x90);
	cpu->rflags |= X86_TF;
	STEP_TO(CODE + 1);
	assert_true(cpu->mov_ss_shadow);
	step_faults(X86_DB, CODE + 2);

	/* rep movsb: after every round */
	enter64();
	CODE_BYTES(0xf3, 0xa4);
	cpu->gpr[CPU_RSI] = DATA;
	cpu->gpr[CPU_RDI] = DATA + 0x100;
	cpu->gpr[CPU_RCX] = 2;
	cpu->rflags |= X86_TF;
	step_faults(X86_DB, CODE);
	assert_int_equal(cpu->gpr[CPU_RCX], 1);
	cpu->rflags |= X86_TF;
	cpu->rip = CODE;
	step_faults(X86_DB, CODE + 2);
	assert_int_equal(cpu->gpr[CPU_RCX], 0);

	/* A fault has no trap, int n leaves none to come. */
	enter64();
	CODE_BYTES(0x0f, 0x0b);
	cpu->rflags |= X86_TF;
	step_faults(X86_UD, CODE);
	enter64();
	CODE_BYTES(0xcc);
	cpu->rflags |= X86_TF;
	step_faults(X86_BP, CODE + 1);
	ram[HANDLERS + X86_BP * 16] = 0x90;
	STEP_TO(HANDLERS + X86_BP * 16 + 1);
}

static void
instruction_breakpoints(void **state)
{
	enter64();
	CODE_BYTES(0x90, 0x90, 0x90);
	cpu->dr[2] = CODE + 1;
	cpu->dr7 = 0x400 | 1u << 4; /* L2, execution */
	STEP_TO(CODE + 1);
	step_faults(X86_DB, CODE + 1);
	assert_int_equal(cpu->dr6 & 0xf, 4);
	/* RF lets one instruction pass, and goes */
	cpu->rip = CODE + 1;
	cpu->rflags |= X86_RF;
	STEP_TO(CODE + 2);
	assert_int_equal(cpu->rflags & X86_RF, 0);
	/* and stays while a repeated instruction is not done */
	CODE_BYTES(0xf3, 0xaa);
	cpu->dr[2] = CODE;
	cpu->gpr[CPU_RDI] = DATA;
	cpu->gpr[CPU_RCX] = 5000;
	cpu->rflags |= X86_RF;
	STEP_TO(CODE);
	STEP();
	while (cpu->rip == CODE)
		STEP();
	assert_int_equal(cpu->gpr[CPU_RCX] | (cpu->rflags & X86_RF), 0);
	CODE_BYTES(0x90, 0x90, 0x90);
	cpu->dr[2] = CODE + 1;
	/* Not for execution, not enabled */
	cpu->dr7 |= 1u << 24;
	cpu->rip = CODE + 1;
	STEP_TO(CODE + 2);
	cpu->dr7 = 0x400;
	cpu->rip = CODE + 1;
	STEP_TO(CODE + 2);
	/* Linear addresses count */
	enter16();
	CODE_BYTES(0x90);
	cpu->seg[CPU_CS].base = 0x1000;
	cpu->rip = CODE - 0x1000;
	cpu->dr[0] = CODE;
	cpu->dr7 = 0x402; /* G0 */
	step_faults(X86_DB, CODE - 0x1000);
}

/* Of the 64-bit frame that step_faults() took away. */
static uint64_t
pushed_flags(void)
{
	return le64_load(ram + cpu->gpr[CPU_RSP] - 24);
}

static void
data_breakpoints_in_strings(void **state)
{
	enter64();
	CODE_BYTES(0xf3, 0xaa, 0x90); /* rep stosb */
	cpu->dr[1] = DATA + 6;
	cpu->dr7 = 0x400 | 1u << 2 | 1u << 20 | 1u << 22; /* L1, 2 bytes */
	cpu->gpr[CPU_RDI] = DATA;
	cpu->gpr[CPU_RCX] = 8;
	step_faults(X86_DB, CODE);
	assert_int_equal(cpu->dr6 & 0xf, 2);
	assert_int_equal(cpu->gpr[CPU_RCX], 1);
	assert_int_equal(pushed_flags() & X86_RF, X86_RF);
	/* The last element ends the instruction. */
	cpu->rip = CODE;
	cpu->gpr[CPU_RDI] = DATA + 7;
	cpu->gpr[CPU_RCX] = 1;
	step_faults(X86_DB, CODE + 2);
	assert_int_equal(pushed_flags() & X86_RF, 0);
	/* One that faults does not count. */
	CODE_BYTES(0xaa, 0x90);
	cpu->gpr[CPU_RDI] = BIT(47);
	step_faults(X86_GP, CODE);
	STEP();
	assert_int_equal(cpu->watched, 0);
}

static void
steps_end_early(void **state)
{
	/* inc eax (64-bit: ff c0), jmp back */
	enter64();
	CODE_BYTES(0xff, 0xc0, 0xeb, 0xfc);
	assert_int_equal(x86_steps(cpu, 0), X86_STEP_NEXT);
	assert_int_equal(cpu->gpr[CPU_RAX], 0);
	assert_int_equal(x86_steps(cpu, 2000), X86_STEP_NEXT);
	assert_int_equal(cpu->gpr[CPU_RAX], 1000);
	cpu->attention = X86_ATTENTION_INTR;
	assert_int_equal(x86_steps(cpu, 10), X86_STEP_NEXT);
	assert_int_equal(cpu->gpr[CPU_RAX], 1000);
	cpu->rip = CODE;
	STEP();
	assert_int_equal(cpu->gpr[CPU_RAX], 1001);
	cpu->attention = 0;
	/* An exception is one step of several. */
	CODE_BYTES(0x0f, 0x0b);
	memset(ram + HANDLERS + X86_UD * 16, 0x90, 4);
	assert_int_equal(x86_steps(cpu, 4), X86_STEP_NEXT);
	assert_int_equal(cpu->rip, HANDLERS + X86_UD * 16 + 3);
	CODE_BYTES(0x90, 0xf4, 0x90);
	assert_int_equal(x86_steps(cpu, 10), X86_STEP_HALT);
	assert_int_equal(cpu->rip, CODE + 2);
	/* No handlers at all */
	enter64();
	cpu->idtr.limit = 0;
	CODE_BYTES(0x0f, 0x0b);
	assert_int_equal(x86_steps(cpu, 10), X86_STEP_TRIPLE_FAULT);
	assert_null(cpu->jmp);
}

/* ----------------------------------------------------------------- stack */

static void
pushes_and_pops_of_the_stack_pointer(void **state)
{
	/* push rsp; pop rsp */
	enter64();
	CODE_BYTES(0x54, 0x5c);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RSP], STACK - 8);
	assert_int_equal(le64_load(ram + STACK - 8), STACK);
	le64_store(ram + STACK - 8, 0x1234);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RSP], 0x1234);
	/* pop [rsp + 8]: the address after the pop */
	cpu->gpr[CPU_RSP] = STACK;
	le64_store(ram + STACK, 0xabcd);
	CODE_BYTES(0x8f, 0x44, 0x24, 0x08);
	STEP();
	assert_int_equal(le64_load(ram + STACK + 16), 0xabcd);
	/* push -1 (byte), 66 push imm16, push fs */
	cpu->gpr[CPU_RSP] = STACK;
	cpu->seg[CPU_FS].selector = 0x53;
	memset(ram + STACK - 32, 0xee, 32);
	CODE_BYTES(0x6a, 0xff, 0x66, 0x68, 0x34, 0x12, 0x0f, 0xa0);
	STEP();
	assert_int_equal(le64_load(ram + STACK - 8), UINT64_MAX);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RSP], STACK - 10);
	assert_int_equal(le16_load(ram + STACK - 10), 0x1234);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RSP], STACK - 18);
	assert_int_equal(le64_load(ram + STACK - 18), 0x53);

	/* pusha, popa in 16-bit code: sp itself comes back as it is */
	enter16();
	for (unsigned r = 0; r < 8; r++)
		cpu->gpr[r] = 0x10100u * r + 0xc000;
	cpu->gpr[CPU_RSP] = STACK;
	CODE_BYTES(0x60, 0x61);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RSP], STACK - 16);
	for (unsigned r = 0; r < 8; r++)
		assert_int_equal(le16_load(ram + STACK - 2 - r * 2),
		    r == CPU_RSP ? STACK : 0x100 * r + 0xc000);
	for (unsigned r = 0; r < 8; r++)
		cpu->gpr[r] = r == CPU_RSP ? cpu->gpr[r] : 0x77770000;
	STEP();
	for (unsigned r = 0; r < 8; r++)
		assert_int_equal(cpu->gpr[r],
		    r == CPU_RSP ? STACK : 0x7777c000 + 0x100 * r);
}

static void
frames(void **state)
{
	/* enter 16, 3: two older frame pointers, then the new one */
	enter64();
	CODE_BYTES(0xc8, 16, 0, 3, 0xc9);
	cpu->gpr[CPU_RBP] = DATA + 32;
	le64_store(ram + DATA + 24, 0xa1);
	le64_store(ram + DATA + 16, 0xa2);
	STEP();
	assert_int_equal(le64_load(ram + STACK - 8), DATA + 32);
	assert_int_equal(le64_load(ram + STACK - 16), 0xa1);
	assert_int_equal(le64_load(ram + STACK - 24), 0xa2);
	assert_int_equal(le64_load(ram + STACK - 32), STACK - 8);
	assert_int_equal(cpu->gpr[CPU_RBP], STACK - 8);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK - 32 - 16);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RBP], DATA + 32);
	assert_int_equal(cpu->gpr[CPU_RSP], STACK);
	/* leave with a 16-bit stack and a 32-bit operand */
	enter16();
	CODE_BYTES(0x66, 0xc9);
	cpu->gpr[CPU_RSP] = 0x11110000;
	cpu->gpr[CPU_RBP] = 0x2222c000;
	le32_store(ram + STACK, 0x12345678);
	STEP();
	assert_int_equal(cpu->gpr[CPU_RBP], 0x12345678);
	assert_int_equal(cpu->gpr[CPU_RSP], 0x1111c004);
}

/* popf of an image in 32-bit operand size; what rflags becomes */
static uint64_t
pop_flags(uint32_t before, uint32_t image, bool short_form)
{
	static const uint8_t popf[] = { 0x66, 0x9d };
	bool wide = cpu->code != X86_CODE16;

	put_code(popf + (wide != short_form), 2 - (wide != short_form));
	cpu->rflags = (cpu->rflags & X86_VM) | before | X86_FLAGS_FIXED;
	cpu->gpr[CPU_RSP] = STACK;
	le64_store(ram + STACK, image);
	STEP();
	return cpu->rflags;
}

static void
flags_by_privilege(void **state)
{
	const uint32_t iopl = X86_IOPL, all = X86_FLAGS_ALL;

	/* CPL 0: all but RF, VM, VIF, VIP */
	enter64();
	assert_int_equal(pop_flags(0, all, false),
	    (all & ~(X86_RF | X86_VM | X86_VIF | X86_VIP)) | 2);
	enter64();
	assert_int_equal(pop_flags(X86_VIF | X86_AC, 0, false), X86_VIF | 2);
	enter64();
	assert_int_equal(pop_flags(X86_AC, all, true),
	    (all & 0xffff) | X86_AC | 2);
	/* CPL 3: IF only with IOPL 3, IOPL never */
	enter64();
	enter_user();
	assert_int_equal(pop_flags(0, X86_IF | iopl | X86_CF, false), 3);
	assert_int_equal(pop_flags(X86_IF | 1u << 12, 0, false),
	    X86_IF | 1u << 12 | 2);
	assert_int_equal(pop_flags(iopl, X86_IF, false), X86_IF | iopl | 2);
	/* AC means another view of memory */
	enter64();
	cpu->cr4 |= X86_CR4_SMAP;
	x86_cpu_mode(cpu);
	for (unsigned page = 0; page < 512; page++)
		le64_store(pte(page * 4096), page * 4096 | 3);
	x86_tlb_flush(cpu, true);
	assert_int_equal(cpu->view, X86_VIEW_KERNEL);
	(void)pop_flags(0, X86_AC, false);
	assert_int_equal(cpu->view, X86_VIEW_KERNEL_AC);

	/* pushfq shows neither RF nor VM */
	enter64();
	CODE_BYTES(0x9c);
	cpu->rflags = X86_RF | X86_ID | X86_CF | 2;
	STEP();
	assert_int_equal(le64_load(ram + STACK - 8), X86_ID | X86_CF | 2);
}

static void
flags_in_virtual_8086_mode(void **state)
{
	const uint32_t iopl = X86_IOPL;

	/* IOPL 3: as a program of ring 3 with I/O rights */
	enter_v86(3);
	assert_int_equal(pop_flags(iopl, X86_IF | X86_CF, true),
	    X86_VM | iopl | X86_IF | 3);
	enter_v86(3);
	CODE_BYTES(0x9c);
	STEP();
	assert_int_equal(le16_load(ram + STACK - 2), iopl | 2);
	/* IOPL 0 without VME: #GP */
	enter_v86(0);
	CODE_BYTES(0x9c);
	STEP();
	assert_int_equal(cpu->rip, HANDLERS + X86_GP * 16);
	enter_v86(0);
	CODE_BYTES(0x9d);
	STEP();
	assert_int_equal(cpu->rip, HANDLERS + X86_GP * 16);
	assert_int_equal(cpu->cpl, 0);
	/* With VME VIF stands for IF */
	enter_v86(0);
	cpu->cr4 |= X86_CR4_VME;
	assert_int_equal(pop_flags(0, X86_IF, true), X86_VM | X86_VIF | 2);
	CODE_BYTES(0x9c);
	STEP();
	assert_int_equal(le16_load(ram + cpu->gpr[CPU_RSP]), X86_IF | iopl | 2);
	assert_int_equal(pop_flags(X86_VIF | X86_IF, 0, true),
	    X86_VM | X86_IF | 2);
	/* but not while VIP is set */
	CODE_BYTES(0x9d);
	cpu->rflags |= X86_VIP;
	cpu->gpr[CPU_RSP] = STACK;
	le16_store(ram + STACK, X86_IF);
	STEP();
	assert_int_equal(cpu->rip, HANDLERS + X86_GP * 16);
	/* nor in the 32-bit form */
	enter_v86(0);
	cpu->cr4 |= X86_CR4_VME;
	CODE_BYTES(0x66, 0x9d);
	STEP();
	assert_int_equal(cpu->rip, HANDLERS + X86_GP * 16);
}

/* --------------------------------------------------- 32-bit code's own */

static unsigned
packed(unsigned n)
{
	return n / 10 << 4 | n % 10;
}

static void
decimal_arithmetic(void **state)
{
	enter32();
	for (unsigned a = 0; a < 100; a++) {
		for (unsigned b = 0; b < 100; b++) {
			unsigned sum = a + b, rest = a + 100 - b;

			/* add al, cl; daa */
			CODE_BYTES(0x00, 0xc8, 0x27, 0x28, 0xc8, 0x2f);
			cpu->gpr[CPU_RAX] = packed(a);
			cpu->gpr[CPU_RCX] = packed(b);
			STEP();
			STEP();
			assert_int_equal(cpu->gpr[CPU_RAX], packed(sum % 100));
			assert_int_equal(cpu->rflags & X86_CF, sum >= 100);
			/* sub al, cl; das */
			cpu->gpr[CPU_RAX] = packed(a);
			STEP();
			STEP();
			assert_int_equal(cpu->gpr[CPU_RAX], packed(rest % 100));
			assert_int_equal(cpu->rflags & X86_CF, a < b);
			assert_int_equal(!(cpu->rflags & X86_ZF), a != b);
		}
	}
	for (unsigned a = 0; a < 10; a++) {
		for (unsigned b = 0; b < 10; b++) {
			/* add al, cl; aaa; sub al, cl; aas */
			CODE_BYTES(0x00, 0xc8, 0x37, 0x28, 0xc8, 0x3f);
			cpu->gpr[CPU_RAX] = 0x500 | a;
			cpu->gpr[CPU_RCX] = b;
			STEP();
			STEP();
			assert_int_equal(cpu->gpr[CPU_RAX],
			    0x500 + (a + b) / 10 * 0x100 + (a + b) % 10);
			assert_int_equal(cpu->rflags & X86_CF, a + b >= 10);
			cpu->gpr[CPU_RAX] = 0x500 | a;
			STEP();
			STEP();
			assert_int_equal(cpu->gpr[CPU_RAX],
			    0x500 - (a < b ? 0x100 : 0) + (a + 10 - b) % 10);
			assert_int_equal(cpu->rflags & X86_CF, a < b);
			/* aam; aad */
			CODE_BYTES(0xd4, 0x0a, 0xd5, 0x0a);
			cpu->gpr[CPU_RAX] = a * b;
			STEP();
			assert_int_equal(cpu->gpr[CPU_RAX],
			    a * b / 10 << 8 | a * b % 10);
			STEP();
			assert_int_equal(cpu->gpr[CPU_RAX], a * b);
		}
	}
	/* aam 0 */
	CODE_BYTES(0xd4, 0x00);
	step_faults(X86_DE, CODE);
	/* salc */
	CODE_BYTES(0xd6);
	cpu->rflags |= X86_CF;
	STEP();
	assert_int_equal(cpu->gpr[CPU_RAX] & 0xff, 0xff);
}

static void
bounds(void **state)
{
	static const int32_t in[] = { -5, 0, 7 }, out[] = { -6, 8, INT32_MIN };

	/* bound eax, [ebx] */
	enter32();
	le32_store(ram + DATA, (uint32_t)-5);
	le32_store(ram + DATA + 4, 7);
	cpu->gpr[CPU_RBX] = DATA;
	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		CODE_BYTES(0x62, 0x03);
		cpu->gpr[CPU_RAX] = (uint32_t)in[i];
		STEP_TO(CODE + 2);
		CODE_BYTES(0x62, 0x03);
		cpu->gpr[CPU_RAX] = (uint32_t)out[i];
		step_faults(X86_BR, CODE);
	}
}

/* ----------------------------------------------------------- odd stores */

static void
wide_stores(void **state)
{
	uint64_t features = cpu->features;

	/* movdir64b rax, [rbx] */
	enter64();
	cpu->features |= BIT(X86_F_MOVDIRI) | BIT(X86_F_CLZERO);
	for (unsigned i = 0; i < 64; i++)
		ram[DATA + 3 + i] = (uint8_t)(i + 1);
	cpu->gpr[CPU_RBX] = DATA + 3;
	cpu->gpr[CPU_RAX] = DATA + 0x1c0;
	CODE_BYTES(0x66, 0x0f, 0x38, 0xf8, 0x03);
	STEP_TO(CODE + 5);
	assert_memory_equal(ram + DATA + 3, ram + DATA + 0x1c0, 64);
	cpu->gpr[CPU_RAX] = DATA + 0x1c8;
	cpu->rip = CODE;
	assert_int_equal(step_faults(X86_GP, CODE), 0);
	/* clzero: the line around rax */
	CODE_BYTES(0x0f, 0x01, 0xfc);
	cpu->gpr[CPU_RAX] = DATA + 0x1c0 + 17;
	ram[DATA + 0x1bf] = ram[DATA + 0x200] = 1;
	STEP_TO(CODE + 3);
	assert_int_equal(ram[DATA + 0x1c0] | ram[DATA + 0x1ff], 0);
	assert_int_equal(ram[DATA + 0x1bf] & ram[DATA + 0x200], 1);
	cpu->features = features;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_mode_has_its_sizes),
		cmocka_unit_test(addresses_wrap_at_their_size),
		cmocka_unit_test(limits_and_canonical_form),
		cmocka_unit_test(alignment_checks),
		cmocka_unit_test(fetching_ends_where_code_does),
		cmocka_unit_test(what_the_guest_lacks),
		cmocka_unit_test(units_by_control_registers),
		cmocka_unit_test(faults_leave_no_trace),
		cmocka_unit_test(targets_have_the_operand_size),
		cmocka_unit_test(loops_count_by_address_size),
		cmocka_unit_test(conditions_as_the_manual_lists_them),
		cmocka_unit_test(a_fault_within_rep_keeps_what_is_done),
		cmocka_unit_test(long_strings_can_be_interrupted),
		cmocka_unit_test(strings_down_and_in_small_segments),
		cmocka_unit_test(locked_across_pages),
		cmocka_unit_test(locked_increments_are_not_lost),
		cmocka_unit_test(compare_and_exchange_wide),
		cmocka_unit_test(single_steps),
		cmocka_unit_test(instruction_breakpoints),
		cmocka_unit_test(data_breakpoints_in_strings),
		cmocka_unit_test(steps_end_early),
		cmocka_unit_test(pushes_and_pops_of_the_stack_pointer),
		cmocka_unit_test(frames),
		cmocka_unit_test(flags_by_privilege),
		cmocka_unit_test(flags_in_virtual_8086_mode),
		cmocka_unit_test(decimal_arithmetic),
		cmocka_unit_test(bounds),
		cmocka_unit_test(wide_stores),
	};

	return cmocka_run_group_tests_name("interp", tests, setup, teardown);
}
