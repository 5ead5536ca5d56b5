/*
 * A processor on a bench of its own, for the tests of the system half.
 *
 * One MiB of memory, tables at fixed places, and a host that records what it is
 * asked.  Tests call the functions under test directly, with CATCH around what
 * may raise, or put bytes at cs:rip and step.
 */
#ifndef ENGINE_X86_SYSTEM_RIG_H
#define ENGINE_X86_SYSTEM_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/x86/event.h"
#include "engine/x86/lapic.h"
#include "engine/x86/segment.h"
#include "engine/x86/system_impl.h"

#define RIG_SIZE 0x100000u

#define GDT 0x1000u
#define GDT_LIMIT 0x1ffu
#define LDT 0x1800u
#define IDT 0x2000u
#define TSS 0x3000u
#define TSS2 0x3200u
#define TSS_LIMIT 0x1ffu
#define CODE 0x8000u
#define HANDLER 0x9000u /* of vector v: + v * 16 */
#define STACK0 0x20000u
#define STACK1 0x24000u
#define STACK3 0x30000u
#define STACK_IST 0x28000u
#define PAGES 0x40000u /* page tables */

/* Selectors of the rig's GDT. */
enum {
	K_CODE = 0x08,
	K_DATA = 0x10,
	U_CODE = 0x18 | 3,
	U_DATA = 0x20 | 3,
	K_CODE64 = 0x28,
	U_CODE64 = 0x30 | 3,
	S_TSS = 0x38,
	S_LDT = 0x48,
	K_CONFORMING = 0x58,
	K_ABSENT = 0x60,
	K_READONLY = 0x68,
	K_EXECONLY = 0x70,
	K_DOWN = 0x78,
	C_CODE1 = 0x80 | 1,
	C_DATA1 = 0x88 | 1,
	S_TSS2 = 0x90,
	K_CODE16 = 0xa0,
	K_DATA16 = 0xa8,
	K_ABSENT_CODE = 0xb0,
	U_ABSENT = 0xb8 | 3,
	S_FREE = 0xc0, /* for a test's own, 16 bytes each */
	S_FREE2 = 0xd0,
	S_OUT = 0x200, /* beyond the limit */
};

/* Access bytes and flags of descriptors. */
#define A_CODE 0x9au
#define A_DATA 0x92u
#define A_DPL(n) ((n) << 5)
#define F_32 0xcu
#define F_64 0xau
#define F_16 0x0u

struct rig_pio {
	uint16_t port;
	bool write;
	unsigned size;
	uint32_t count;
	uint8_t data[4096];
};

static struct {
	struct x86_cpu *cpu;
	struct x86_mem mem;
	uint8_t *ram;
	struct lapic_bus *bus;
	uint64_t tsc;
	unsigned pios;
	struct rig_pio pio; /* the last one */
	unsigned flushes;
} rig;

/* ------------------------------------------------------------- the host */

static inline void
rig_pio(struct x86_cpu *cpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	uint8_t *bytes = data;

	rig.pio = (struct rig_pio) { port, write, size, count, { 0 } };
	rig.pios++;
	if (write) {
		memcpy(rig.pio.data, data, (size_t)size * count);
		return;
	}
	for (unsigned i = 0; i < size * count; i++)
		bytes[i] = (uint8_t)(0xa1 + i);
}

static inline void
rig_mmio(struct x86_cpu *cpu, gpa_t gpa, bool write, unsigned size, void *data)
{
	if (!write)
		memset(data, 0xff, size);
}

static inline void
rig_flushed(struct x86_cpu *cpu, bool global)
{
	rig.flushes++;
}

static inline void
rig_nothing(struct x86_cpu *cpu)
{
}

static inline void
rig_wrote_code(struct x86_cpu *cpu, gpa_t gpa, unsigned len)
{
}

static inline uint64_t
rig_tsc(struct x86_cpu *cpu)
{
	return rig.tsc;
}

static inline void
rig_set_tsc(struct x86_cpu *cpu, uint64_t tsc)
{
	rig.tsc = tsc;
}

static const struct x86_host rig_host = {
	.pio = rig_pio,
	.mmio = rig_mmio,
	.wrote_code = rig_wrote_code,
	.flushed = rig_flushed,
	.exclusive_begin = rig_nothing,
	.exclusive_end = rig_nothing,
	.tsc = rig_tsc,
	.set_tsc = rig_set_tsc,
};

static inline uint64_t
rig_now(void *arg)
{
	return 0;
}

static inline uint64_t
rig_lapic_tsc(void *arg)
{
	return rig.tsc;
}

static inline uint64_t
rig_tsc_to_ns(void *arg, uint64_t tsc)
{
	return tsc;
}

static inline void
rig_set_timer(void *arg, uint64_t ns)
{
}

static inline void
rig_notify(void *arg)
{
}

static inline void
rig_signal(void *arg, enum lapic_signal signal, uint8_t vector)
{
}

static inline void
rig_eoi(void *arg, uint8_t vector)
{
}

static const struct lapic_ops rig_lapic_ops = {
	.now = rig_now,
	.tsc = rig_lapic_tsc,
	.tsc_to_ns = rig_tsc_to_ns,
	.set_timer = rig_set_timer,
	.notify = rig_notify,
	.signal = rig_signal,
	.eoi = rig_eoi,
};

/* --------------------------------------------------------------- memory */

static inline uint64_t
rig_peek(uint64_t gpa, unsigned size)
{
	uint64_t value = 0;

	assert_true(gpa + size <= RIG_SIZE);
	memcpy(&value, rig.ram + gpa, size);
	return value;
}

static inline void
rig_poke(uint64_t gpa, unsigned size, uint64_t value)
{
	assert_true(gpa + size <= RIG_SIZE);
	memcpy(rig.ram + gpa, &value, size);
}

static inline uint64_t
rig_desc(uint32_t base, uint32_t limit, uint32_t access, uint32_t flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	    (uint64_t)access << 40 | (uint64_t)((limit >> 16) & 0xf) << 48 |
	    (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

static inline uint64_t
rig_gate_desc(uint16_t selector, uint32_t off, uint32_t access, uint32_t low)
{
	return (off & 0xffff) | (uint64_t)selector << 16 | (uint64_t)low << 32 |
	    (uint64_t)access << 40 | (uint64_t)(off >> 16) << 48;
}

static inline void
rig_gdt(unsigned selector, uint64_t desc)
{
	rig_poke(GDT + (selector & ~7u), 8, desc);
}

/* A vector's gate, to HANDLER + vector * 16. */
static inline void
rig_idt(unsigned vector, uint16_t selector, uint32_t access)
{
	unsigned size = x86_long_mode(rig.cpu) ? 16 : 8;

	rig_poke(IDT + vector * size, 8,
	    rig_gate_desc(selector, HANDLER + vector * 16, access, 0));
	if (size == 16)
		rig_poke(IDT + vector * size + 8, 8, 0);
}

static inline void
rig_bytes(uint64_t gpa, const void *bytes, size_t len)
{
	assert_true(gpa + len <= RIG_SIZE);
	memcpy(rig.ram + gpa, bytes, len);
}

/* ------------------------------------------------------------ a processor */

static inline void
rig_cpuid(struct cpuid_table *table, enum cpuid_vendor vendor)
{
	const struct cpuid_leaf leaves[] = {
		{ .leaf = 0,
		    .eax = 0xd,
		    .ebx = vendor == CPUID_AMD ? 0x68747541 : 0x756e6547 },
		{ .leaf = 1,
		    /* SSE3 PCID SSE4.2 x2APIC MOVBE POPCNT XSAVE AVX */
		    .ecx = 0x00000001 | 0x00020000 | 0x10f00000 | 0x04000000,
		    /* all of the old ones, without PSN, DS, ACPI, TM */
		    .edx = 0x078bfbff },
		{ .leaf = 7,
		    .indexed = true,
		    /* FSGSBASE TSC_ADJUST SMEP INVPCID SMAP AVX512F */
		    .ebx = 0x00000001 | 0x2 | 0x80 | 0x400 | 0x110000,
		    .ecx = 0x4 }, /* UMIP */
		{ .leaf = 0xd,
		    .indexed = true,
		    .eax = 0xe7,
		    .ebx = 0xa80,
		    .ecx = 0xa80 },
		{ .leaf = 0xd, .subleaf = 1, .indexed = true, .eax = 0x3 },
		{ .leaf = 0xd,
		    .subleaf = 2,
		    .indexed = true,
		    .eax = 0x100,
		    .ebx = 0x240 },
		{ .leaf = 0xd,
		    .subleaf = 5,
		    .indexed = true,
		    .eax = 0x40,
		    .ebx = 0x440 },
		{ .leaf = 0xd,
		    .subleaf = 6,
		    .indexed = true,
		    .eax = 0x200,
		    .ebx = 0x480 },
		{ .leaf = 0xd,
		    .subleaf = 7,
		    .indexed = true,
		    .eax = 0x400,
		    .ebx = 0x680 },
		{ .leaf = 0x80000000, .eax = 0x80000008 },
		/* SYSCALL NX RDTSCP LM */
		{ .leaf = 0x80000001, .edx = 0x28100a00 },
		{ .leaf = 0x80000008, .eax = 0x3028 }, /* 48, 40 bits */
	};

	memset(table, 0, sizeof(*table));
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		table->leaf[table->count++] = leaves[i];
}

static inline void
rig_new(enum cpuid_vendor vendor)
{
	const struct msr_params msr = { .vendor = vendor };
	struct cpuid_table *cpuid = malloc(sizeof(*cpuid));
	struct cpu_state *state =
	    aligned_alloc(64, round_up(sizeof(*state), 64));
	struct x86_ram *ram = &rig.mem.ram[0];

	assert_true(cpuid != NULL && state != NULL);
	memset(&rig, 0, sizeof(rig));
	rig_cpuid(cpuid, vendor);
	rig.cpu = x86_cpu_new(0, cpuid, &msr, true);
	rig.ram = calloc(1, RIG_SIZE);
	ram->size = RIG_SIZE;
	ram->host = rig.ram;
	ram->code = calloc(1, RIG_SIZE / 4096);
	ram->dirty = calloc(1, RIG_SIZE / 4096);
	ram->writers = calloc(RIG_SIZE / 4096, sizeof(ram->writers[0]));
	rig.mem.count = 1;
	rig.bus = lapic_bus_new(1);
	rig.cpu->host = &rig_host;
	rig.cpu->mem = &rig.mem;
	rig.cpu->lapic = lapic_new(rig.bus, 0, &rig_lapic_ops, NULL);
	memset(state, 0, sizeof(*state));
	state->xsave_size = rig.cpu->xsave_size;
	cpu_state_reset(state, 0);
	assert_int_equal(x86_cpu_set(rig.cpu, state, NULL), 0);
	assert_int_equal(lapic_set(rig.cpu->lapic, state, NULL), 0);
	free(state);
	free(cpuid);
}

static inline void
rig_free(void)
{
	lapic_free(rig.cpu->lapic);
	lapic_bus_free(rig.bus);
	x86_cpu_free(rig.cpu);
	free(rig.ram);
	free((void *)rig.mem.ram[0].code);
	free((void *)rig.mem.ram[0].dirty);
	free((void *)rig.mem.ram[0].writers);
}

/* -------------------------------------------------------------- the modes */

static inline void
rig_tables(void)
{
	struct x86_cpu *cpu = rig.cpu;

	memset(rig.ram, 0, RIG_SIZE);
	rig_gdt(K_CODE, rig_desc(0, 0xfffff, A_CODE, F_32));
	rig_gdt(K_DATA, rig_desc(0, 0xfffff, A_DATA, F_32));
	rig_gdt(U_CODE, rig_desc(0, 0xfffff, A_CODE | A_DPL(3), F_32));
	rig_gdt(U_DATA, rig_desc(0, 0xfffff, A_DATA | A_DPL(3), F_32));
	rig_gdt(K_CODE64, rig_desc(0, 0xfffff, A_CODE, F_64));
	rig_gdt(U_CODE64, rig_desc(0, 0xfffff, A_CODE | A_DPL(3), F_64));
	rig_gdt(S_TSS, rig_desc(TSS, TSS_LIMIT, 0x89, 0));
	rig_gdt(S_LDT, rig_desc(LDT, 0xff, 0x82, 0));
	rig_gdt(K_CONFORMING, rig_desc(0, 0xfffff, A_CODE | 4, F_32));
	rig_gdt(K_ABSENT, rig_desc(0, 0xfffff, A_DATA & 0x7f, F_32));
	rig_gdt(K_READONLY, rig_desc(0, 0xfffff, 0x90, F_32));
	rig_gdt(K_EXECONLY, rig_desc(0, 0xfffff, 0x98, F_32));
	rig_gdt(K_DOWN, rig_desc(0, 0xfff, A_DATA | 4, 4));
	rig_gdt(C_CODE1, rig_desc(0, 0xfffff, A_CODE | A_DPL(1), F_32));
	rig_gdt(C_DATA1, rig_desc(0, 0xfffff, A_DATA | A_DPL(1), F_32));
	rig_gdt(S_TSS2, rig_desc(TSS2, TSS_LIMIT, 0x89, 0));
	rig_gdt(K_CODE16, rig_desc(0, 0xffff, A_CODE, F_16));
	rig_gdt(K_DATA16, rig_desc(0, 0xffff, A_DATA, F_16));
	rig_gdt(K_ABSENT_CODE, rig_desc(0, 0xfffff, A_CODE & 0x7f, F_32));
	rig_gdt(U_ABSENT,
	    rig_desc(0, 0xfffff, (A_DATA & 0x7f) | A_DPL(3), F_32));
	cpu->gdtr = (struct cpu_table) { GDT, GDT_LIMIT };
	cpu->idtr = (struct cpu_table) { IDT, 0xfff };
}

static inline void
rig_seg(enum cpu_seg seg, uint16_t selector)
{
	uint64_t low = rig_peek(GDT + (selector & ~7u), 8);
	struct x86_desc d = { .low = low | BIT(40) };

	d.access = (uint32_t)(d.low >> 40) & 0xf0ff;
	rig.cpu->seg[seg] = x86_desc_segment(&d, selector);
}

/* Real mode, at CODE with a stack at 0x7000. */
static inline void
rig_real(void)
{
	struct x86_cpu *cpu = rig.cpu;

	memset(rig.ram, 0, RIG_SIZE);
	cpu->seg[CPU_CS].selector = 0;
	cpu->seg[CPU_CS].base = 0;
	cpu->idtr = (struct cpu_table) { 0, 0x3ff };
	cpu->rip = CODE;
	cpu->gpr[CPU_RSP] = 0x7000;
	cpu->cr0 = X86_CR0_ET | X86_CR0_NE;
	cpu->rflags = X86_FLAGS_FIXED;
	cpu->cpl = 0;
	x86_cpu_mode(cpu);
}

/* 32-bit protected mode without paging, at a privilege level. */
static inline void
rig_prot(unsigned cpl)
{
	static const uint16_t cs[] = { K_CODE, C_CODE1, 0, U_CODE };
	static const uint16_t ss[] = { K_DATA, C_DATA1, 0, U_DATA };
	static const uint32_t sp[] = { STACK0, STACK1, 0, STACK3 };
	struct x86_cpu *cpu = rig.cpu;

	rig_tables();
	cpu->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
	cpu->rflags = X86_FLAGS_FIXED;
	rig_seg(CPU_CS, cs[cpl]);
	rig_seg(CPU_SS, ss[cpl]);
	rig_seg(CPU_DS, U_DATA);
	rig_seg(CPU_ES, U_DATA);
	rig_seg(CPU_FS, U_DATA);
	rig_seg(CPU_GS, U_DATA);
	rig_gdt(S_TSS, rig_desc(TSS, TSS_LIMIT, 0x8b, 0));
	rig_seg(CPU_TR, S_TSS);
	rig_poke(TSS + 4, 4, STACK0);
	rig_poke(TSS + 8, 4, K_DATA);
	rig_poke(TSS + 12, 4, STACK1);
	rig_poke(TSS + 16, 4, C_DATA1);
	rig_poke(TSS + 0x66, 2, TSS_LIMIT + 1); /* no I/O bitmap */
	rig_seg(CPU_LDTR, S_LDT);
	cpu->gpr[CPU_RSP] = sp[cpl];
	cpu->rip = CODE;
	cpu->cpl = (uint8_t)cpl;
	x86_cpu_mode(cpu);
}

/* Virtual-8086 mode in a task with a 32-bit TSS. */
static inline void
rig_v86(unsigned iopl)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(3);
	cpu->rflags |= X86_VM | iopl << 12;
	for (unsigned s = CPU_ES; s <= CPU_GS; s++)
		x86_load_seg_real(cpu, (enum cpu_seg)s, 0);
	cpu->gpr[CPU_RSP] = 0x7000;
	x86_cpu_mode(cpu);
}

/* Long mode, all memory mapped at its own address for every level. */
static inline void
rig_long(unsigned cpl)
{
	struct x86_cpu *cpu = rig.cpu;

	rig_prot(cpl);
	rig_poke(PAGES, 8, (PAGES + 0x1000) | 7);
	rig_poke(PAGES + 0x1000, 8, (PAGES + 0x2000) | 7);
	rig_poke(PAGES + 0x2000, 8, 0x87); /* 2 MiB at 0 */
	cpu->cr3 = PAGES;
	cpu->cr4 |= X86_CR4_PAE;
	cpu->cr0 |= X86_CR0_PG | X86_CR0_WP;
	cpu->efer |= X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE;
	rig_seg(CPU_CS, cpl == 0 ? K_CODE64 : U_CODE64);
	rig_poke(TSS, 8, 0);
	rig_poke(TSS + 4, 8, STACK0);
	rig_poke(TSS + 12, 8, STACK1);
	rig_poke(TSS + 0x24, 8, STACK_IST);
	x86_tlb_flush(cpu, true);
	x86_cpu_mode(cpu);
}

/* ------------------------------------------------------------ what happens */

/*
 * Nothing is changed between CATCH's setjmp and the jump, so every variable has
 * its value; gcc sees only that a loop changes some.
 */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

/* Did it raise?  Then cpu->event says what. */
#define CATCH(stmt)                         \
	({                                  \
		jmp_buf catch_;             \
		bool raised_;               \
		rig.cpu->jmp = &catch_;     \
		if (_setjmp(catch_) == 0) { \
			stmt;               \
			raised_ = false;    \
		} else {                    \
			raised_ = true;     \
		}                           \
		rig.cpu->jmp = NULL;        \
		raised_;                    \
	})

#define RAISES(stmt, v, e)                                  \
	do {                                                \
		assert_true(CATCH(stmt));                   \
		assert_int_equal(rig.cpu->event.vector, v); \
		assert_int_equal(rig.cpu->event.error, e);  \
	} while (0)

#define SUCCEEDS(stmt) assert_false(CATCH(stmt))

/* Carry out the bytes, as an instruction; true if it raised. */
static inline bool
rig_raises(const void *bytes, size_t len)
{
	struct x86_cpu *cpu = rig.cpu;
	struct x86_insn insn;
	enum x86_decoded decoded =
	    x86_decode(bytes, (unsigned)len, (enum x86_code)cpu->code, &insn);
	uint64_t rip = cpu->rip;
	bool raised;

	assert_int_equal(decoded, X86_DECODED);
	assert_int_equal(insn.len, len);
	if (!x86_has(cpu, insn.op->feature)) {
		cpu->event = (struct x86_event) { .vector = X86_UD };
		return true;
	}
	cpu->rip += len;
	raised = CATCH(x86_exec_system(cpu, &insn));
	if (raised)
		cpu->rip = rip;
	return raised;
}

#define INSN(...)                                     \
	rig_raises((const uint8_t[]) { __VA_ARGS__ }, \
	    sizeof((const uint8_t[]) { __VA_ARGS__ }))
#define INSN_RAISES(v, e, ...)                              \
	do {                                                \
		assert_true(INSN(__VA_ARGS__));             \
		assert_int_equal(rig.cpu->event.vector, v); \
		assert_int_equal(rig.cpu->event.error, e);  \
	} while (0)

/* The n-th word of `size` bytes on the stack. */
static inline uint64_t
rig_stack(unsigned n, unsigned size)
{
	return rig_peek(rig.cpu->seg[CPU_SS].base + rig.cpu->gpr[CPU_RSP] +
		(uint64_t)n * size,
	    size);
}

#endif
