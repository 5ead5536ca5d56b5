/*
 * The library of payloads in C, for 32 and 64 bits.
 *
 * com1 is used without interrupts: each byte waits for the transmitter.
 */
#include "guest.h"

#define COM1 0x3f8
#define COM1_LSR_THRE 0x20
#define PM1A_CNT 0x404
#define PM1_SLP_S5 (5 << 10 | 1 << 13)

extern const char ap_start[], ap_end[];

static unsigned checks;

static void
put_char(char c)
{
	while ((in8(COM1 + 5) & COM1_LSR_THRE) == 0)
		;
	out8(COM1, (uint8_t)c);
}

static void
put(const char *text)
{
	while (*text != '\0')
		put_char(*text++);
}

static void
put_hex(uint32_t value)
{
	put("0x");
	for (int shift = 28; shift >= 0; shift -= 4)
		put_char("0123456789abcdef"[value >> shift & 15]);
}

static void
put_decimal(unsigned value)
{
	if (value >= 10)
		put_decimal(value / 10);
	put_char((char)('0' + value % 10));
}

void
test(const char *name)
{
	put("test ");
	put(name);
	put("\n");
}

static void
verdict(const char *label, bool ok, uint32_t got, uint32_t want)
{
	checks++;
	put(ok ? "pass " : "fail ");
	put(label);
	if (!ok) {
		put(" got=");
		put_hex(got);
		put(" want=");
		put_hex(want);
	}
	put("\n");
}

void
check(const char *label, bool ok)
{
	verdict(label, ok, ok, 1);
}

void
check_eq(const char *label, uint32_t got, uint32_t want)
{
	verdict(label, got == want, got, want);
}

void
check64(const char *label, uint64_t got, uint64_t want)
{
	if ((uint32_t)(got >> 32) != (uint32_t)(want >> 32))
		check_eq(label, (uint32_t)(got >> 32), (uint32_t)(want >> 32));
	else
		check_eq(label, (uint32_t)got, (uint32_t)want);
}

void
check_near(const char *label, uint32_t got, uint32_t want, unsigned percent)
{
	uint32_t slack = want / 100 * percent;

	verdict(label, got >= want - slack && got <= want + slack, got, want);
}

void
input(const char *text)
{
	put("input ");
	put(text);
	put("\n");
}

void
done_line(void)
{
	put("done ");
	put_decimal(checks);
	put("\n");
}

void
done(void)
{
	cli();
	done_line();
	out16(PM1A_CNT, PM1_SLP_S5);
	for (;;)
		__asm__ volatile("hlt");
}

/* ---- interrupts --------------------------------------------------------- */

void
gate_flags(unsigned vector, const void *handler, uint32_t flags)
{
	uintptr_t at = (uintptr_t)handler;
	uint64_t low = (uint64_t)(at & 0xffff0000u) << 32 |
	    (uint64_t)flags << 32 | 0x08u << 16 | (at & 0xffff);

#ifdef __x86_64__
	idt[2 * vector] = low;
	idt[2 * vector + 1] = at >> 32;
#else
	idt[vector] = low;
#endif
}

void
gate(unsigned vector, const void *handler)
{
	gate_flags(vector, handler, GATE_INTERRUPT);
}

volatile uintptr_t fault_vector, fault_error, fault_ip, fault_cs, fault_flags;
volatile uintptr_t fault_frame;
uintptr_t fault_sp, fault_resume;

#ifdef __x86_64__
#define WORD "q"
#define SP "%rsp"
#else
#define WORD "l"
#define SP "%esp"
#endif
#define FAULT_STUB(vector, pop_error)                                \
	void fault##vector(void);                                    \
	__asm__(".text\n"                                            \
		".globl fault" #vector "\n"                          \
		"fault" #vector ":\n"                                \
		"mov" WORD " $" #vector ", fault_vector\n" pop_error \
		"mov" WORD " " SP ", fault_frame\n"                  \
		"pop" WORD " fault_ip\n"                             \
		"pop" WORD " fault_cs\n"                             \
		"pop" WORD " fault_flags\n"                          \
		"mov" WORD " fault_sp, " SP "\n"                     \
		"jmp *fault_resume\n")
#define FAULT(vector) FAULT_STUB(vector, "")
#define FAULT_ERROR(vector) FAULT_STUB(vector, "pop" WORD " fault_error\n")
FAULT(0);
FAULT(1);
FAULT(2);
FAULT(3);
FAULT(4);
FAULT(5);
FAULT(6);
FAULT(7);
FAULT_ERROR(8);
FAULT_ERROR(10);
FAULT_ERROR(11);
FAULT_ERROR(12);
FAULT_ERROR(13);
FAULT_ERROR(14);
FAULT(16);
FAULT_ERROR(17);
FAULT(19);
FAULT(128);

void
traps_init(void)
{
	gate(0, fault0);
	gate(1, fault1);
	gate(2, fault2);
	gate_flags(3, fault3, GATE_INTERRUPT | GATE_USER);
	gate_flags(4, fault4, GATE_INTERRUPT | GATE_USER);
	gate(5, fault5);
	gate(6, fault6);
	gate(7, fault7);
	gate(8, fault8);
	gate(10, fault10);
	gate(11, fault11);
	gate(12, fault12);
	gate(13, fault13);
	gate(14, fault14);
	gate(16, fault16);
	gate(17, fault17);
	gate(19, fault19);
	gate_flags(HOME, fault128, GATE_INTERRUPT | GATE_USER);
}

void
pic_init(void)
{
	out8(0x20, 0x11);
	out8(0xa0, 0x11);
	out8(0x21, PIC_BASE);
	out8(0xa1, PIC_BASE + 8);
	out8(0x21, 1 << 2);
	out8(0xa1, 2);
	out8(0x21, 1);
	out8(0xa1, 1);
	pic_mask(0xffff);
}

void
pic_mask(uint16_t mask)
{
	out8(0x21, (uint8_t)mask);
	out8(0xa1, (uint8_t)(mask >> 8));
}

void
pic_eoi(unsigned irq)
{
	if (irq >= 8)
		out8(0xa0, 0x20);
	out8(0x20, 0x20);
}

void
lapic_init(void)
{
	lapic_write(LAPIC_SVR, 0x1ff);
	lapic_write(LAPIC_TPR, 0);
	lapic_write(LAPIC_LVT_LINT0, LAPIC_MASKED);
}

bool
lapic_bit(uint32_t reg, unsigned vector)
{
	return lapic_read(reg + vector / 32 * 16) >> vector % 32 & 1;
}

void
lapic_ipi(unsigned dest, uint32_t command)
{
	lapic_write(LAPIC_ICR_HIGH, dest << 24);
	lapic_write(LAPIC_ICR, command);
}

uint32_t
ioapic_read(unsigned reg)
{
	write32(IOAPIC, reg);
	return read32(IOAPIC + 0x10);
}

void
ioapic_write(unsigned reg, uint32_t value)
{
	write32(IOAPIC, reg);
	write32(IOAPIC + 0x10, value);
}

void
ioapic_pin(unsigned pin, uint32_t low, unsigned dest)
{
	ioapic_write(0x10 + 2 * pin, IOAPIC_MASKED);
	ioapic_write(0x11 + 2 * pin, dest << 24);
	ioapic_write(0x10 + 2 * pin, low);
}

uint32_t
ioapic_pin_low(unsigned pin)
{
	return ioapic_read(0x10 + 2 * pin);
}

/* ---- time --------------------------------------------------------------- */

bool
wait_count(const volatile unsigned *count, unsigned want, uint32_t us)
{
	uint32_t start = clock_us();

	while (*count < want && clock_us() - start < us)
		window();
	return *count >= want;
}

void
settle(void)
{
	uint32_t start = clock_us();

	/* A host that emulates looks for interrupts every few milliseconds. */
	while (clock_us() - start < 30000)
		window();
}

void
delay_us(uint32_t us)
{
	uint32_t start = clock_us();

	while (clock_us() - start < us)
		;
}

void
pit_start(unsigned counter, unsigned mode, uint16_t count)
{
	out8(0x43, (uint8_t)(counter << 6 | 3 << 4 | mode << 1));
	out8((uint16_t)(0x40 + counter), (uint8_t)count);
	out8((uint16_t)(0x40 + counter), (uint8_t)(count >> 8));
}

/* ---- other vCPUs -------------------------------------------------------- */

#ifdef __x86_64__
#define AP_PAGE 0x8000u

void
start_ap(unsigned apic_id)
{
	volatile char *page = (volatile char *)(uintptr_t)AP_PAGE;

	for (int i = 0; i < ap_end - ap_start; i++)
		page[i] = ap_start[i];
	lapic_ipi(apic_id, 0x4500);
	lapic_ipi(apic_id, 0x4600 | AP_PAGE >> 12);
}
#endif
