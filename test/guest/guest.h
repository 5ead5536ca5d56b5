/*
 * What a payload in C stands on: one vCPU, interrupts off, and 32-bit protected
 * mode, flat, without paging; or, built for 64 bits, long mode with the first
 * 8 GiB mapped to themselves.
 *
 * It tells the judge on com1 what it saw, one line a check:
 *
 *	test NAME
 *	pass LABEL
 *	fail LABEL got=HEX want=HEX
 *	input TEXT		the judge types TEXT on com1
 *	done COUNT		COUNT checks, in decimal; then it ends the machine
 *
 * Silence, another line, or another order is a failure.
 */
#ifndef TEST_GUEST_GUEST_H
#define TEST_GUEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "testdev.h"

void payload(void);       /* each payload is this function */
void ap_main(unsigned n); /* where vCPU n (from 1) arrives, if it has one */

void test(const char *name);
void check(const char *label, bool ok);
void check_eq(const char *label, uint32_t got, uint32_t want);
void check64(const char *label, uint64_t got, uint64_t want);
/* Within `percent` of want. */
void check_near(const char *label, uint32_t got, uint32_t want,
    unsigned percent);
void input(const char *text);
/* The last line only, and the whole end: power off through ACPI. */
void done_line(void);
_Noreturn void done(void);

#define IN_OUT(bits, suffix, type)                              \
	static inline type in##bits(uint16_t port)              \
	{                                                       \
		type value;                                     \
                                                                \
		__asm__ volatile("in" suffix " %1, %0"          \
				 : "=a"(value)                  \
				 : "Nd"(port));                 \
		return value;                                   \
	}                                                       \
	static inline void out##bits(uint16_t port, type value) \
	{                                                       \
		__asm__ volatile("out" suffix " %0, %1"         \
				 :                              \
				 : "a"(value), "Nd"(port));     \
	}
IN_OUT(8, "b", uint8_t)
IN_OUT(16, "w", uint16_t)
IN_OUT(32, "l", uint32_t)

#define MMIO(bits)                                                           \
	static inline uint##bits##_t read##bits(uintptr_t addr)              \
	{                                                                    \
		return *(volatile uint##bits##_t *)addr;                     \
	}                                                                    \
	static inline void write##bits(uintptr_t addr, uint##bits##_t value) \
	{                                                                    \
		*(volatile uint##bits##_t *)addr = value;                    \
	}
MMIO(8)
MMIO(16)
MMIO(32)

static inline void
cli(void)
{
	__asm__ volatile("cli" ::: "memory");
}

static inline void
sti(void)
{
	__asm__ volatile("sti" ::: "memory");
}

/* Interrupts on and asleep, without a gap; off again after the wake. */
static inline void
sti_hlt_cli(void)
{
	__asm__ volatile("sti; hlt; cli" ::: "memory");
}

/* Interrupts on for two accesses that leave the guest. */
static inline void
window(void)
{
	uint32_t value;

	__asm__ volatile("sti; nop; inl %%dx, %%eax;"
			 "inl %%dx, %%eax; cli"
			 : "=a"(value)
			 : "d"(TESTDEV_CLOCK)
			 : "memory");
}

static inline void
cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

static inline uint64_t
rdmsr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static inline void
wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((uint32_t)value),
			 "d"((uint32_t)(value >> 32))
			 : "memory");
}

static inline uint32_t
rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low;
}

/* ---- interrupts --------------------------------------------------------- */

struct frame {
	uintptr_t ip, cs, flags;
	uintptr_t sp, ss; /* in 64 bits, or from ring 3 */
};
/* They return by IRET, which some hosts only emulate in long mode. */
#define UNUSED __attribute__((unused))
#define INTERRUPT __attribute__((interrupt)) static void
#define HANDLER(name) INTERRUPT name(struct frame *frame UNUSED)
#define HANDLER_ERROR(name) \
	INTERRUPT name(struct frame *frame UNUSED, uintptr_t error UNUSED)

#define GATE_INTERRUPT 0x8e00u
#define GATE_USER 0x6000u /* ring 3 may call it */
/* handler: a function made with HANDLER, or one that does not return. */
void gate(unsigned vector, const void *handler);
void gate_flags(unsigned vector, const void *handler, uint32_t flags);

/* 8259A pair: vectors 0x20-0x2f, all masked. */
#define PIC_BASE 0x20u
void pic_init(void);
void pic_mask(uint16_t mask); /* 1: masked; bit 2 is the cascade */
void pic_eoi(unsigned irq);

/* Local APIC */
#define LAPIC 0xfee00000u
#define LAPIC_ID 0x20u
#define LAPIC_VERSION 0x30u
#define LAPIC_TPR 0x80u
#define LAPIC_PPR 0xa0u
#define LAPIC_EOI 0xb0u
#define LAPIC_LDR 0xd0u
#define LAPIC_DFR 0xe0u
#define LAPIC_SVR 0xf0u
#define LAPIC_ISR 0x100u
#define LAPIC_TMR 0x180u
#define LAPIC_IRR 0x200u
#define LAPIC_ESR 0x280u
#define LAPIC_ICR 0x300u
#define LAPIC_ICR_HIGH 0x310u
#define LAPIC_LVT_TIMER 0x320u
#define LAPIC_LVT_LINT0 0x350u
#define LAPIC_LVT_LINT1 0x360u
#define LAPIC_LVT_ERROR 0x370u
#define LAPIC_TIMER_INITIAL 0x380u
#define LAPIC_TIMER_CURRENT 0x390u
#define LAPIC_TIMER_DIVIDE 0x3e0u
#define LAPIC_MASKED 0x10000u
#define LAPIC_PERIODIC 0x20000u
/* Enabled, spurious vector 0xff, LINT0 masked. */
void lapic_init(void);
static inline uint32_t
lapic_read(uint32_t reg)
{
	return read32(LAPIC + reg);
}
static inline void
lapic_write(uint32_t reg, uint32_t value)
{
	write32(LAPIC + reg, value);
}
static inline void
lapic_eoi(void)
{
	lapic_write(LAPIC_EOI, 0);
}
/* The bit of a vector in ISR, TMR or IRR. */
bool lapic_bit(uint32_t reg, unsigned vector);
void lapic_ipi(unsigned dest, uint32_t command);

/* I/O APIC */
#define IOAPIC 0xfec00000u
#define IOAPIC_LEVEL 0x8000u
#define IOAPIC_REMOTE_IRR 0x4000u
#define IOAPIC_LOW 0x2000u
#define IOAPIC_LOGICAL 0x800u
#define IOAPIC_MASKED 0x10000u
uint32_t ioapic_read(unsigned reg);
void ioapic_write(unsigned reg, uint32_t value);
void ioapic_pin(unsigned pin, uint32_t low, unsigned dest);
uint32_t ioapic_pin_low(unsigned pin);

/*
 * Run an instruction that may fault.  The vector, or NO_FAULT; fault_error and
 * the pushed fault_ip, fault_cs and fault_flags tell more, fault_frame where
 * they were.  traps_init() first.  The handlers return without IRET.
 */
#define NO_FAULT 0x100u
#define HOME 0x80u /* INT of a program that comes home by itself */
extern volatile uintptr_t fault_vector, fault_error, fault_ip, fault_cs;
extern volatile uintptr_t fault_flags, fault_frame;
extern uintptr_t fault_sp, fault_resume;
void traps_init(void);
#ifdef __x86_64__
#define TRY_PREPARE "movq $1f, fault_resume; movq %%rsp, fault_sp\n"
#else
#define TRY_PREPARE "movl $1f, fault_resume; movl %%esp, fault_sp\n"
#endif
#define TRY(insn, ...)                                   \
	({                                               \
		fault_vector = NO_FAULT;                 \
		__asm__ volatile(TRY_PREPARE insn "\n1:" \
				 :                       \
				 : __VA_ARGS__           \
				 : "memory");            \
		(uint32_t) fault_vector;                 \
	})

/* ---- time --------------------------------------------------------------- */

/* The machine clock, in microseconds. */
static inline uint32_t
clock_us(void)
{
	return in32(TESTDEV_CLOCK);
}
/* Interrupts on until *count reaches want or us have passed: whether it did. */
bool wait_count(const volatile unsigned *count, unsigned want, uint32_t us);
/* Interrupts on for long enough that whatever is pending comes in. */
void settle(void);
/* Spin until us have passed. */
void delay_us(uint32_t us);

/* PIT */
#define PIT_HZ 1193182u
void pit_start(unsigned counter, unsigned mode, uint16_t count);

/* INIT and SIPI to an APIC; ap_main() runs there.  Only in 64 bits. */
void start_ap(unsigned apic_id);
extern volatile uint32_t ap_count;
extern uint64_t gdt[], idt[];
extern const uint32_t boot_info; /* Multiboot's; only in 64 bits */

#endif
