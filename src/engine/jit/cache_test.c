/*
 * The code cache: code that changes, in every way in which it can; blocks that
 * are forgotten; a cache that is too small (theory: cache.c).
 *
 * A processor sees its own stores to code at once, those of others when it has
 * serialized (SDM volume 3, 8.1.3 and 11.6), those of devices at once.
 */
#include <sched.h>

#include "engine/jit/jit_rig.h"

#define STACK (RIG_STACK)
#define OTHER (RIG_CODE + 0x2000u)     /* code on a page of its own */
#define NEW_PAGE (RIG_CODE + 0x20000u) /* never code before */

static int
one_new(void **state)
{
	*state = rig_new("jit", 2, NULL);
	return 0;
}

static int
one_free(void **state)
{
	rig_free(*state);
	return 0;
}

static uint64_t
killed(struct rig *rig)
{
	return rig_stat(rig, "blocks invalidated");
}

/* mov eax, value; ret */
static void
put_function(struct rig *rig, gpa_t gpa, uint32_t value)
{
	uint8_t code[6] = { 0xb8, 0, 0, 0, 0, 0xc3 };

	memcpy(code + 1, &value, sizeof(value));
	rig_put(rig, gpa, code, sizeof(code));
}

/* ---------------------------------------------------------- its own stores */

RIG_ASM(next_code, 64,
    "1: mov [rip + 2f - 4], ecx\n"
    "mov eax, 0x11111111\n"
    "2: add rbx, rax\n dec ecx\n jnz 1b" DONE);

static void
the_next_instruction(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RCX] = 100;
	RIG_PUT(rig, RIG_CODE, next_code);
	rig_run_done(rig, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_RBX], 5050);
}

RIG_ASM(behind_code, 64,
    "1: mov eax, 0x11111111\n 2: add rbx, rax\n"
    "mov [rip + 2b - 4], ecx\n dec ecx\n jnz 1b" DONE);

/* What has run in this block and is come back to. */
static void
an_earlier_instruction(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;

	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RCX] = 100;
	RIG_PUT(rig, RIG_CODE, behind_code);
	rig_run_done(rig, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_RBX], 0x11111111 + 5050 - 1);
}

/*
 * A function is called through a register, changed and called again, by every
 * kind of store: rdi is its immediate's address, r15 the new one in all bytes.
 */
#define CALL_STORE_CALL(store) \
	"call rbx\n mov r12d, eax\n" store "\n call rbx\n mov r13d, eax" DONE
#define STORES(X)                                                      \
	X(mov, "mov [rdi], r15d")                                      \
	X(mov_byte,                                                    \
	    "mov [rdi], r15b\n mov [rdi + 3], r15b\n"                  \
	    "mov [rdi + 1], r15w")                                     \
	X(mov_imm, "mov dword ptr [rdi], 0x22222222")                  \
	X(mov_alias, "mov [rdi + 0x1c0000 - 0x2000], r15d")            \
	X(xchg, "xchg [rdi], r15d")                                    \
	X(xadd, "lock xadd [rdi], r14d")                               \
	X(add, "add [rdi], r14d")                                      \
	X(cmpxchg, "mov eax, 0x11111111\n cmpxchg [rdi], r15d")        \
	X(not, "not dword ptr [rdi]\n sub [rdi], ebp")                 \
	X(push,                                                        \
	    "lea rsp, [rdi + 4]\n mov r8, [rsp - 8]\n shl r15, 32\n"   \
	    "mov r8d, r8d\n or r15, r8\n push r15\n mov rsp, r9")      \
	X(stos, "mov eax, r15d\n stosd\n sub rdi, 4")                  \
	X(rep_stos, "mov al, r15b\n mov ecx, 4\n rep stosb")           \
	X(rep_movs, "mov [rsi], r15d\n mov ecx, 4\n rep movsb")        \
	X(movss, "movd xmm0, r15d\n movss [rdi], xmm0")                \
	X(maskmov,                                                     \
	    "movq xmm0, r15\n mov eax, 0x80808080\n movd xmm1, eax\n"  \
	    "maskmovdqu xmm0, xmm1")                                   \
	X(movups,                                                      \
	    "movups xmm0, [rdi]\n pinsrd xmm0, r15d, 0\n"              \
	    "movups [rdi], xmm0")                                      \
	X(vmovups,                                                     \
	    "vmovups ymm1, [rdi]\n movups xmm0, xmm1\n"                \
	    "pinsrd xmm0, r15d, 0\n vinsertf128 ymm1, ymm1, xmm0, 0\n" \
	    "vmovups [rdi], ymm1")                                     \
	X(movnti, "movnti [rdi], r15d")                                \
	X(fist,                                                        \
	    "mov [rsi], r15d\n fild dword ptr [rsi]\n"                 \
	    "fistp dword ptr [rdi]")                                   \
	X(stmxcsr,                                                     \
	    "mov eax, [rdi]\n xor eax, eax\n bts [rdi], eax\n"         \
	    "mov [rdi], r15d")                                         \
	X(sidt,                                                        \
	    "mov rax, [rdi + 4]\n sidt [rdi]\n mov [rdi], r15d\n"      \
	    "mov [rdi + 4], rax")

#define STORE_CODE(name, store) \
	RIG_ASM(store_##name, 64, CALL_STORE_CALL(store));
STORES(STORE_CODE)

static const struct {
	const char *name;
	const uint8_t *code, *end;
} stores[] = {
#define STORE_ROW(name, store) { #name, store_##name, store_##name##_end },
	STORES(STORE_ROW)
};

static void
every_kind_of_store(void **state)
{
	struct rig *rig = *state;

	/* The page that is known by two addresses: RIG_CODE is its gpa. */
	for (unsigned i = 0; i < ARRAY_SIZE(stores); i++) {
		struct cpu_state cpu;
		struct rig_end end;
		bool alias = strcmp(stores[i].name, "mov_alias") == 0;
		gpa_t f = alias ? RIG_CODE + 0x800 : OTHER;

		rig_put(rig, RIG_CODE, stores[i].code,
		    (size_t)(stores[i].end - stores[i].code));
		put_function(rig, f, 0x11111111);
		rig_state(rig, 0, &cpu);
		cpu.gpr[CPU_RBX] = f;
		cpu.gpr[CPU_RDI] = f + 1 + (alias ? 0x2000 : 0);
		cpu.gpr[CPU_RSI] = RIG_DATA;
		cpu.gpr[CPU_R9] = STACK;
		cpu.gpr[CPU_R14] = 0x11111111;
		cpu.gpr[CPU_R15] = 0x22222222;
		cpu.gpr[CPU_RBP] = 0xeeeeeeee - 0x22222222;
		rig_run_done(rig, &cpu, &end);
		if (end.cpu.gpr[CPU_R12] != 0x11111111 ||
		    end.cpu.gpr[CPU_R13] != 0x22222222)
			fail_msg("%s: 0x%llx, then 0x%llx", stores[i].name,
			    (unsigned long long)end.cpu.gpr[CPU_R12],
			    (unsigned long long)end.cpu.gpr[CPU_R13]);
	}
}

/* Data, then code, then changed: all in a run, so that the page is known. */
RIG_ASM(becomes_code, 64,
    "mov byte ptr [rbx], 0xb8\n mov dword ptr [rbx + 1], 0x11111111\n"
    "mov byte ptr [rbx + 5], 0xc3\n" CALL_STORE_CALL(
	"mov dword ptr [rbx + 1], 0x22222222"));

static void
a_page_becomes_code(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;

	RIG_PUT(rig, RIG_CODE, becomes_code);
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RBX] = NEW_PAGE;
	rig_run_done(rig, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_R12], 0x11111111);
	assert_int_equal(end.cpu.gpr[CPU_R13], 0x22222222);
}

/* The first page is data, the second begins with the function. */
RIG_ASM(two_pages_code, 64, CALL_STORE_CALL("mov [rdi - 4], r15"));
RIG_ASM(two_pages_lock_code, 64, CALL_STORE_CALL("lock xadd [rdi - 4], r15"));
RIG_ASM(two_pages_vector_code, 64,
    CALL_STORE_CALL("movups xmm0, [rdi - 12]\n pinsrq xmm0, r15, 1\n"
		    "movups [rdi - 12], xmm0"));
/* Only the last byte: mov eax becomes mov edx. */
RIG_ASM(last_byte_code, 64,
    CALL_STORE_CALL("lock xadd [rdi - 8], r15\n mov eax, 0x22222222"));

static void
stores_across_pages(void **state)
{
	static const struct {
		const uint8_t *code, *end;
		uint64_t r15;
	} rows[] = {
		/* 3 bytes, B8, and the immediate. */
		{ two_pages_code, two_pages_code_end, 0x22222222b8555555 },
		{ two_pages_vector_code, two_pages_vector_code_end,
		    0x22222222b8555555 },
		/* Is added. */
		{ two_pages_lock_code, two_pages_lock_code_end,
		    0x1111111100000000 },
		{ last_byte_code, last_byte_code_end, 0x0200000000000000 },
	};
	struct rig *rig = *state;

	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cpu_state cpu;
		struct rig_end end;

		rig_put(rig, RIG_CODE, rows[i].code,
		    (size_t)(rows[i].end - rows[i].code));
		rig_put64(rig, OTHER - 8, 0);
		put_function(rig, OTHER, 0x11111111);
		rig_state(rig, 0, &cpu);
		cpu.gpr[CPU_RBX] = OTHER;
		cpu.gpr[CPU_RDI] = OTHER + 1;
		cpu.gpr[CPU_R15] = rows[i].r15;
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_R12], 0x11111111);
		assert_int_equal(end.cpu.gpr[CPU_R13], 0x22222222);
	}
}

/* CALL pushes its return address onto the code that it leads to. */
RIG_ASM(call_onto_code, 64, "lea rsp, [rbx + 9]\n call rbx\n hlt");

static void
a_call_that_writes_code(void **state)
{
	struct rig *rig = *state;
	/* The address is 0x00000000000100xx: at + 1, an immediate of EAX. */
	const uint8_t code[] = { 0xb8, 1, 2, 3, 4, 0x00, 0x00, 0x00, 0x00, 0xe6,
		RIG_DONE };
	struct cpu_state cpu;
	struct rig_end end;

	RIG_PUT(rig, RIG_CODE, call_onto_code);
	for (unsigned n = 0; n < 2; n++) {
		rig_put(rig, OTHER, code, sizeof(code));
		rig_state(rig, 0, &cpu);
		cpu.gpr[CPU_RBX] = OTHER;
		cpu.gpr[CPU_RAX] = RIG_DATA; /* add [rax], al: 00 00 */
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_RAX],
		    RIG_CODE + RIG_LEN(call_onto_code) - 1);
	}
}

/* --------------------------------------------------------- others' stores */

RIG_ASM(device_code, 64,
    "1: mov eax, 0x11111111\n add rbx, rax\n"
    "out 0x80, al\n"
    "mov eax, 0x11111111\n 2: add rbx, rax\n"
    "dec ecx\n jnz 1b" DONE);

/* A device changes the instruction behind the OUT that starts it. */
static void
device_writes(struct rig *rig, unsigned vcpu, uint16_t port, bool write,
    unsigned size, void *data)
{
	unsigned *count = rig->arg;
	uint32_t value = ++*count;
	gpa_t at = RIG_CODE + (value % 2 == 0 ? 1 : 11);

	assert_int_equal(mem_write(rig->mem, at, &value, sizeof(value)), 0);
}

static void
a_device_writes_code(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;
	unsigned count = 0;

	assert_int_equal(device_code[0], 0xb8);
	assert_int_equal(device_code[10], 0xb8);
	RIG_PUT(rig, RIG_CODE, device_code);
	rig->pio = device_writes;
	rig->arg = &count;
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RCX] = 4;
	rig_run_done(rig, &cpu, &end);
	rig->pio = NULL;
	/* First, second: before, 1; before, 1; 2, 3; 2, 3. */
	assert_int_equal(end.cpu.gpr[CPU_RBX],
	    2 * 0x11111111ULL + 1 + 1 + 2 + 3 + 2 + 3);
}

/* ROM runs, and changes when somebody loads it. */
static void
rom_is_loaded_again(void **state)
{
	struct rig *rig = *state;
	uint8_t code[] = { 0xb8, 0, 0, 0, 0, 0xe6, RIG_DONE };
	struct cpu_state cpu;
	struct rig_end end;

	rig_state(rig, 0, &cpu);
	cpu.rip = RIG_ROM + 0x1230;
	for (unsigned i = 0; i < 4; i++) {
		code[1] = (uint8_t)(i / 2);
		assert_int_equal(mem_write_rom(rig->mem, cpu.rip, code,
				     sizeof(code)),
		    0);
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_RAX], i / 2);
	}
}

/* Of a write over many pages each one is looked at. */
static void
a_large_write(void **state)
{
	static uint8_t bytes[0x5000];
	struct rig *rig = *state;
	uint64_t before;
	struct cpu_state cpu;
	struct rig_end end;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = i % 2 == 0 ? 0xe6 : RIG_DONE; /* out 0xf4, al */
	for (unsigned i = 0; i < 5; i++) {
		rig_put(rig, RIG_CODE, bytes, sizeof(bytes));
		for (unsigned n = 0; n < 5; n++) {
			rig_state(rig, 0, &cpu);
			cpu.rip = RIG_CODE + 0x1000 * n + 0xffe;
			rig_run_done(rig, &cpu, &end);
		}
		before = killed(rig);
		rig_put(rig, RIG_CODE + 0x1000 * i + 0xfff, bytes + 1, 1);
		assert_int_equal(killed(rig), before + 1);
		rig_put(rig, RIG_CODE + 0x1000 * i + 0xffd, bytes + 1, 1);
		assert_int_equal(killed(rig), before + 1);
		/* The last byte of the first page to the first of the last. */
		rig_put(rig, RIG_CODE + 0xfff, bytes + 1, 0x3001);
		assert_int_equal(killed(rig), before + (i < 4 ? 4 : 5));
	}
}

/*
 * One vCPU changes a function and says so, the other calls it and answers.
 * Waiting gives the host's processor away.
 */
RIG_ASM(writer_code, 64,
    "1: mov [rdi + 1], ecx\n mov [rsi], ecx\n"
    "2: in al, 0x81\n cmp [rsi + 64], ecx\n jne 2b\n"
    "dec ecx\n jnz 1b\n" DONE);
RIG_ASM(reader_code, 64,
    "1: in al, 0x81\n mov r12d, [rsi]\n cmp r12d, r13d\n je 1b\n"
    "xor eax, eax\n cpuid\n"
    "call rdi\n cmp eax, r12d\n jne 2f\n"
    "mov r13d, r12d\n mov [rsi + 64], r12d\n"
    "cmp r12d, 1\n jne 1b" DONE "2: ud2");

static void
give_way(struct rig *rig, unsigned vcpu, uint16_t port, bool write,
    unsigned size, void *data)
{
	(void)sched_yield();
}

static void
another_processor_writes_code(void **state)
{
	static struct rig_thread writer, reader;
	struct rig *rig = *state;

	rig->pio = give_way;
	RIG_PUT(rig, RIG_CODE, writer_code);
	RIG_PUT(rig, RIG_CODE + 0x1000, reader_code);
	put_function(rig, OTHER, 0);
	rig_put64(rig, RIG_DATA, 0);
	rig_put64(rig, RIG_DATA + 64, 0);
	rig_state(rig, 0, &writer.cpu);
	rig_state(rig, 1, &reader.cpu);
	writer.cpu.gpr[CPU_RCX] = 300;
	writer.cpu.gpr[CPU_RDI] = reader.cpu.gpr[CPU_RDI] = OTHER;
	writer.cpu.gpr[CPU_RSI] = reader.cpu.gpr[CPU_RSI] = RIG_DATA;
	reader.cpu.rip = RIG_CODE + 0x1000;
	reader.cpu.gpr[CPU_RSP] = STACK - 0x1000;
	rig_start(&reader, rig, 1);
	rig_start(&writer, rig, 0);
	rig_join(&writer);
	rig_join(&reader);
	rig->pio = NULL;
	assert_int_equal(reader.end.vector, RIG_NO_VECTOR);
	assert_int_equal(writer.end.vector, RIG_NO_VECTOR);
}

/* ------------------------------------------------- only what has to go goes */

RIG_ASM(beside_code, 64,
    "1: call rbx\n add [rdi], rax\n mov [rdi + 8], rcx\n"
    "dec ecx\n jnz 1b" DONE);

static void
data_beside_code_costs_no_block(void **state)
{
	/* After the function: in its line, in the next, at the page's end. */
	static const unsigned places[] = { 6, 16, 64, 0xff0 };
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint64_t before, made, value = 1;

	RIG_PUT(rig, RIG_CODE, beside_code);
	put_function(rig, OTHER, 3);
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RCX] = 100;
	cpu.gpr[CPU_RBX] = OTHER;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
		cpu.gpr[CPU_RDI] = OTHER + places[i];
		rig_put64(rig, OTHER + places[i], 0);
		rig_run_done(rig, &cpu, &end); /* makes the blocks */
		before = killed(rig);
		made = rig_stat(rig, "blocks made");
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(killed(rig), before);
		assert_int_equal(rig_stat(rig, "blocks made"), made);
		assert_int_equal(rig_get64(rig, OTHER + places[i]), 600);
		rig_put(rig, OTHER + places[i], &value, 1);
		assert_int_equal(killed(rig), before);
	}
	/* The last byte of it, and the first. */
	before = killed(rig);
	value = 0xc3;
	rig_put(rig, OTHER + 5, &value, 1);
	assert_int_equal(killed(rig), before + 1);
	rig_run_done(rig, &cpu, &end);
	value = 0xb8;
	rig_put(rig, OTHER, &value, 1);
	assert_int_equal(killed(rig), before + 2);
	rig_put(rig, OTHER, &value, 1);
	assert_int_equal(killed(rig), before + 2);
}

/* A loop whose two halves are linked to each other. */
RIG_ASM(halves_code, 64,
    "1: dec ecx\n jz 3f\n jmp 2f\n"
    "3: hlt\n .fill 100, 1, 0xf4\n"
    "2: add rbx, 1\n jmp 1b\n");

static void
killed_blocks_are_unlinked(void **state)
{
	static const uint8_t end_code[] = { 0xe6, RIG_DONE };
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint64_t links, attention, before;
	gpa_t add = RIG_CODE + RIG_LEN(halves_code) - 6;
	uint8_t value;

	assert_int_equal(halves_code[RIG_LEN(halves_code) - 6], 0x48);
	RIG_PUT(rig, RIG_CODE, halves_code);
	rig_put(rig, RIG_CODE + 6, end_code, sizeof(end_code));
	rig_state(rig, 0, &cpu);
	for (unsigned i = 0; i < 5; i++) {
		cpu.gpr[CPU_RCX] = 1001;
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_RBX], 1000ull * (i + 1));
		links = rig_stat(rig, "exits of jumps to link");
		attention = rig_stat(rig, "exits for attention");
		rig_run_done(rig, &cpu, &end);
		/* All are linked. */
		assert_int_equal(rig_stat(rig, "exits of jumps to link"),
		    links);
		before = killed(rig);
		value = (uint8_t)(i + 2);
		rig_put(rig, add + 3, &value, 1);
		assert_int_equal(killed(rig), before + 1);
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_RBX], 1000ull * (i + 2));
		/* The one that led there has asked again, and once. */
		assert_in_range(rig_stat(rig, "exits of jumps to link") - links,
		    1, 3);
		/* ... and nobody has entered the dead one again and again. */
		assert_in_range(rig_stat(rig, "exits for attention") -
			attention,
		    0, 3);
	}
}

/* -------------------------------------------- addresses that mean something else */

#define L1 0x180000u  /* linear */
#define FAR 0x100000u /* the page so far away has the same place in the itlb */
#define GPA_A 0x20000u
#define GPA_B 0x21000u

RIG_ASM(remap_code, 64,
    "mov [rip + 1f], eax\n mov [rbx], rdx\n invlpg [rip]\n"
    "mov esi, 0x11\n" DONE " 1: .long 0");

/* A page of code is replaced under the code's own feet. */
static void
invlpg_of_the_page_that_runs(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint8_t value = 0x22;
	size_t imm;

	RIG_PUT(rig, GPA_A, remap_code);
	RIG_PUT(rig, GPA_B, remap_code);
	for (imm = RIG_LEN(remap_code) - 1; remap_code[imm] != 0x11; imm--)
		;
	rig_put(rig, GPA_B + imm, &value, 1);
	rig_state(rig, 0, &cpu);
	cpu.rip = L1;
	cpu.gpr[CPU_RBX] = RIG_PT + L1 / 4096 * 8;
	for (unsigned i = 0; i < 4; i++) {
		gpa_t from = i % 2 == 0 ? GPA_A : GPA_B;

		rig_map(rig, L1, from | 7);
		cpu.gpr[CPU_RDX] = (from ^ GPA_A ^ GPA_B) | 7;
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_RSI],
		    i % 2 == 0 ? 0x22 : 0x11);
	}
	rig_map(rig, L1, L1 | 7);
}

/*
 * Two pages with the same code but for a constant.  One is replaced by the other
 * without a word to the processor, which may go on with what it knows, or with
 * the new page; but what it learns then must not stay when the first one is
 * back, at another address.
 */
RIG_ASM(stale_code, 64,
    "ret\n .fill 15, 1, 0xf4\n"
    "test ecx, ecx\n jnz 1f\n ret\n .fill 64, 1, 0xf4\n"
    "1: mov eax, 0x11\n ret\n");
RIG_ASM(stale_main_code, 64,
    "lea r12, [r15 + 16]\n"
    "mov rax, r12\n xor ecx, ecx\n call rax\n" /* learns the way there */
    "mov [rbx], rdx\n"                         /* another page, and ... */
    "lea rax, [r15 + 0x100000]\n call rax\n"   /* ... itlb entry gone */
    "inc ecx\n mov rax, r12\n call rax" DONE);

static void
a_link_stays_in_its_page(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint8_t value = 0x22, ret = 0xc3;
	size_t imm;

	for (imm = RIG_LEN(stale_code) - 1; stale_code[imm] != 0x11; imm--)
		;
	RIG_PUT(rig, RIG_CODE, stale_main_code);
	RIG_PUT(rig, GPA_A, stale_code);
	RIG_PUT(rig, GPA_B, stale_code);
	rig_put(rig, GPA_B + imm, &value, 1);
	rig_put(rig, L1 + FAR, &ret, 1);
	rig_put(rig, GPA_A + FAR, &ret, 1);
	rig_map(rig, L1, GPA_A | 7);
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RBX] = RIG_PT + L1 / 4096 * 8;
	cpu.gpr[CPU_RDX] = GPA_B | 7;
	cpu.gpr[CPU_R15] = L1;
	rig_run_done(rig, &cpu, &end);
	assert_true(
	    end.cpu.gpr[CPU_RAX] == 0x11 || end.cpu.gpr[CPU_RAX] == 0x22);
	/* Now all is told: the first page, called directly. */
	rig_map(rig, L1, L1 | 7);
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RBX] = RIG_DATA;
	cpu.gpr[CPU_R15] = GPA_A;
	rig_run_done(rig, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_RAX], 0x11);
}

/* -------------------------------------------------------------- many modes */

/* inc eax; add eax, ecx in 32-bit code; with REX one instruction in 64-bit. */
static const uint8_t modes_code[] = { 0x40, 0x01, 0xc8, 0x0f, 0x58, 0xc1, 0xe6,
	RIG_DONE };

static void
the_same_code_in_many_modes(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;
	uint64_t made;

	rig_put(rig, RIG_CODE, modes_code, sizeof(modes_code));
	made = rig_stat(rig, "blocks made");
	for (unsigned i = 0; i < 64; i++) {
		bool wide = i & 1, user = i & 2, no_sse = i & 4, ts = i & 8;
		bool smap = i & 16;

		if (smap && !user)
			continue; /* its code and data are the user's */
		if (wide)
			rig_state(rig, 0, &cpu);
		else
			rig_state32(rig, 0, &cpu);
		if (user) {
			cpu.seg[CPU_CS].access |= 0x60;
			cpu.seg[CPU_SS].access |= 0x60;
			cpu.rflags |= 0x3000;
		}
		if (no_sse)
			cpu.cr4 &= ~BIT(9);
		if (ts)
			cpu.cr0 |= BIT(3);
		if (smap)
			cpu.cr4 |= BIT(21);
		cpu.gpr[CPU_RAX] = 5;
		cpu.gpr[CPU_RCX] = 7;
		rig_run(rig, 0, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_RAX], wide ? 12 : 13);
		assert_int_equal(end.vector,
		    no_sse ? 6 :
			ts ? 7 :
			     RIG_NO_VECTOR);
	}
	assert_true(rig_stat(rig, "blocks made") - made >= 12);
}

/* Task switched: no SSE, but nothing has been flushed. */
RIG_ASM(switched_code, 64,
    "1: call rbx\n mov rax, cr0\n or rax, rdx\n mov cr0, rax\n"
    "add rdx, 8\n jmp 1b");
RIG_ASM(sse_code, 64, "xorps xmm0, xmm0\n ret");

static void
jumps_stay_in_their_mode(void **state)
{
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;

	RIG_PUT(rig, RIG_CODE, switched_code);
	RIG_PUT(rig, OTHER, sse_code);
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RBX] = OTHER;
	rig_run(rig, 0, &cpu, &end);
	assert_int_equal(end.vector, 7);
	assert_int_equal(end.cpu.rip, OTHER);
	assert_int_equal(end.cpu.gpr[CPU_RDX], 16);
}

/* An instruction in two pages, of which the second changes, or is another. */
RIG_ASM(straddle_code, 64,
    "mov ecx, 4\n 1: call rbx\n add r12, rax\n dec ecx\n jnz 1b\n"
    "mov byte ptr [rdi], 0x22\n"
    "mov ecx, 4\n 1: call rbx\n add r13, rax\n dec ecx\n jnz 1b\n"
    "mov [rsi], rdx\n invlpg [rdi]\n"
    "mov ecx, 4\n 1: call rbx\n add r14, rax\n dec ecx\n jnz 1b\n"
    "mov byte ptr [rdi - 1], 0x44\n"
    "mov ecx, 4\n 1: call rbx\n add r15, rax\n dec ecx\n jnz 1b" DONE);

static void
an_instruction_in_two_pages(void **state)
{
	static const uint8_t function[] = { 0xb8, 0x11, 0x11, 0, 0, 0xc3 };
	struct rig *rig = *state;
	struct cpu_state cpu;
	struct rig_end end;

	RIG_PUT(rig, RIG_CODE, straddle_code);
	rig_put(rig, GPA_A + 0x1000 - 2, function, sizeof(function));
	rig_put(rig, NEW_PAGE + 0x1000 - 2, function, sizeof(function));
	rig_put(rig, NEW_PAGE + 0x1000, "\x33", 1);
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RBX] = GPA_A + 0x1000 - 2;
	cpu.gpr[CPU_RDI] = GPA_A + 0x1000;
	cpu.gpr[CPU_RSI] = RIG_PT + cpu.gpr[CPU_RDI] / 4096 * 8;
	cpu.gpr[CPU_RDX] = (NEW_PAGE + 0x1000) | 7;
	rig_run_done(rig, &cpu, &end);
	rig_map(rig, GPA_A + 0x1000, (GPA_A + 0x1000) | 7);
	assert_int_equal(end.cpu.gpr[CPU_R12], 4 * 0x1111);
	assert_int_equal(end.cpu.gpr[CPU_R13], 4 * 0x2211);
	assert_int_equal(end.cpu.gpr[CPU_R14], 4 * 0x3311);
	assert_int_equal(end.cpu.gpr[CPU_R15], 4 * 0x3344);
}

/* --------------------------------------------------------- too much of code */

#define FUNCTIONS 8192u
#define FUNCTION_SIZE 64u
#define FUNCTIONS_AT 0x200000u

RIG_ASM(many_code, 64, "1: call rbx\n add rbx, 64\n dec ecx\n jnz 1b" DONE);

static void
put_functions(struct rig *rig, gpa_t gpa, unsigned seed, bool io)
{
	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		uint8_t code[FUNCTION_SIZE] = {
			0x48,
			0x05,
			0,
			0,
			0,
			0, /* add rax, i */
			0x4c,
			0x69,
			0xe0,
			7,
			0,
			0,
			0, /* imul r12, rax, 7 */
			0x4c,
			0x89,
			0x27, /* mov [rdi], r12 */
			0x48,
			0x33,
			0x07, /* xor rax, [rdi] */
			0x90,
			0x90, /* in al, 0x82 */
			0x4c,
			0x01,
			0xe0, /* add rax, r12 */
			0xc3,
		};
		uint32_t value = i + seed;

		memcpy(code + 2, &value, sizeof(value));
		if (io && i % 64 == 0) {
			code[19] = 0xe6; /* out 0x82, al: it leaves the world */
			code[20] = 0x82;
		}
		rig_put(rig, gpa + i * FUNCTION_SIZE, code, sizeof(code));
	}
}

static uint64_t
functions_result(unsigned seed)
{
	uint64_t rax = 0;

	for (uint32_t i = 0; i < FUNCTIONS; i++) {
		uint64_t r12;

		rax += i + seed;
		r12 = rax * 7;
		rax = (rax ^ r12) + r12;
	}
	return rax;
}

static void
functions_state(struct rig *rig, unsigned vcpu, gpa_t gpa,
    struct cpu_state *cpu)
{
	rig_state(rig, vcpu, cpu);
	cpu->gpr[CPU_RBX] = gpa;
	cpu->gpr[CPU_RCX] = FUNCTIONS;
	cpu->gpr[CPU_RDI] = RIG_DATA + 64 * vcpu;
	cpu->gpr[CPU_RSP] = STACK - 0x1000 * vcpu;
}

/* A sanitizer keeps what was freed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMORY_STAYS_RESIDENT true
#elif defined(__has_feature)
#define MEMORY_STAYS_RESIDENT __has_feature(address_sanitizer)
#else
#define MEMORY_STAYS_RESIDENT false
#endif

static long
resident_kib(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long size, resident;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%ld %ld", &size, &resident), 2);
	(void)fclose(f);
	return resident * (MEM_PAGE_SIZE / 1024);
}

static const struct engine_soft small = { .cache_size = 1 * MIB };

static void
a_full_cache_begins_anew(void **state)
{
	struct rig *rig = rig_new("jit", 1, &small);
	uint64_t want = functions_result(1);
	struct cpu_state cpu;
	struct rig_end end;
	long before = 0;

	RIG_PUT(rig, RIG_CODE, many_code);
	put_functions(rig, FUNCTIONS_AT, 1, false);
	functions_state(rig, 0, FUNCTIONS_AT, &cpu);
	for (unsigned i = 0; i < 6; i++) {
		rig_run_done(rig, &cpu, &end);
		assert_int_equal(end.cpu.gpr[CPU_RAX], want);
		assert_in_range(rig_stat(rig, "code cache bytes"), 1, 1 * MIB);
		if (i == 1)
			before = resident_kib();
	}
	assert_true(rig_stat(rig, "code cache flushes") > 3);
	if (!MEMORY_STAYS_RESIDENT)
		assert_true(resident_kib() < before + 1024);
	rig_free(rig);
}

static void
a_full_cache_of_two(void **state)
{
	static struct rig_thread threads[2];
	struct rig *rig = rig_new("jit", 2, &small);

	rig->pio = give_way;
	RIG_PUT(rig, RIG_CODE, many_code);
	for (unsigned i = 0; i < 2; i++)
		put_functions(rig, FUNCTIONS_AT + MIB * i, i + 1, true);
	for (unsigned n = 0; n < 4; n++) {
		for (unsigned i = 0; i < 2; i++) {
			functions_state(rig, i, FUNCTIONS_AT + MIB * i,
			    &threads[i].cpu);
			rig_start(&threads[i], rig, i);
		}
		for (unsigned i = 0; i < 2; i++) {
			rig_join(&threads[i]);
			assert_int_equal(threads[i].end.vector, RIG_NO_VECTOR);
			assert_int_equal(threads[i].end.cpu.gpr[CPU_RAX],
			    functions_result(i + 1));
		}
	}
	assert_true(rig_stat(rig, "code cache flushes") > 3);
	rig_free(rig);
}

/* While a device is called all code is forgotten and made again, by another. */
static void
forget_meanwhile(struct rig *rig, unsigned vcpu, uint16_t port, bool write,
    unsigned size, void *data)
{
	static struct rig_thread other;
	uint64_t flushes = rig_stat(rig, "code cache flushes");

	if (vcpu != 0)
		return;
	functions_state(rig, 1, FUNCTIONS_AT, &other.cpu);
	other.cpu.rip = RIG_CODE + 0x1000;
	do {
		rig_start(&other, rig, 1);
		rig_join(&other);
		assert_int_equal(other.end.cpu.gpr[CPU_RAX],
		    functions_result(1));
	} while (rig_stat(rig, "code cache flushes") < flushes + 2);
	if (!write)
		memset(data, 0x5a, size);
}

RIG_ASM(forgotten_code, 64,
    "mov rbx, 1\n 1: in eax, 0x80\n add rbx, 1\n add rax, rbx\n"
    "out 0x80, al\n add rbx, 2\n mov rdx, [rsi]\n add rbx, rdx\n"
    "rep outsb\n add rbx, rdx" DONE);
RIG_ASM(forgotten_mmio_code, 64,
    "mov rbx, 1\n mov rax, [rdi]\n add rbx, 1\n add rax, rbx\n"
    "mov [rdi + 8], rax\n add rbx, 2\n lock add [rdi + 8], rax\n"
    "add rbx, 3" DONE);

static void
forget_mmio(struct rig *rig, unsigned vcpu, gpa_t gpa, bool write,
    unsigned size, void *data)
{
	forget_meanwhile(rig, vcpu, 0, write, size, data);
}

static void
code_is_forgotten_while_a_device_is_called(void **state)
{
	struct rig *rig = rig_new("jit", 2, &small);
	struct cpu_state cpu;
	struct rig_end end;

	RIG_PUT(rig, RIG_CODE + 0x1000, many_code);
	put_functions(rig, FUNCTIONS_AT, 1, false);
	RIG_PUT(rig, RIG_CODE, forgotten_code);
	rig_put64(rig, RIG_DATA, 0x1000);
	rig->pio = forget_meanwhile;
	rig_state(rig, 0, &cpu);
	cpu.gpr[CPU_RSI] = RIG_DATA;
	cpu.gpr[CPU_RDX] = 0x80;
	cpu.gpr[CPU_RCX] = 1;
	rig_run_done(rig, &cpu, &end);
	rig->pio = NULL;
	assert_int_equal(end.cpu.gpr[CPU_RBX], 4 + 2 * 0x1000);
	assert_int_equal(end.cpu.gpr[CPU_RAX], 0x5a5a5a5a + 2);

	RIG_PUT(rig, RIG_CODE, forgotten_mmio_code);
	rig->mmio = forget_mmio;
	cpu.gpr[CPU_RDI] = RIG_MMIO;
	rig_run_done(rig, &cpu, &end);
	assert_int_equal(end.cpu.gpr[CPU_RBX], 7);
	assert_int_equal(end.cpu.gpr[CPU_RAX], 0x5a5a5a5a5a5a5a5a + 2);
	rig_free(rig);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_instruction),
		cmocka_unit_test(an_earlier_instruction),
		cmocka_unit_test(every_kind_of_store),
		cmocka_unit_test(a_page_becomes_code),
		cmocka_unit_test(stores_across_pages),
		cmocka_unit_test(a_call_that_writes_code),
		cmocka_unit_test(a_device_writes_code),
		cmocka_unit_test(rom_is_loaded_again),
		cmocka_unit_test(a_large_write),
		cmocka_unit_test(another_processor_writes_code),
		cmocka_unit_test(data_beside_code_costs_no_block),
		cmocka_unit_test(killed_blocks_are_unlinked),
		cmocka_unit_test(invlpg_of_the_page_that_runs),
		cmocka_unit_test(a_link_stays_in_its_page),
		cmocka_unit_test(the_same_code_in_many_modes),
		cmocka_unit_test(jumps_stay_in_their_mode),
		cmocka_unit_test(an_instruction_in_two_pages),
		cmocka_unit_test(a_full_cache_begins_anew),
		cmocka_unit_test(a_full_cache_of_two),
		cmocka_unit_test(code_is_forgotten_while_a_device_is_called),
	};

	return cmocka_run_group_tests(tests, one_new, one_free);
}
