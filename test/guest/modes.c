/*
 * Out of long mode and in again (SDM volume 3, 9.8.5 and 9.9): compatibility
 * mode, protected mode without paging, real mode with a segment that kept its 4
 * GiB, and back, several times over.
 */
#include "ring.h"

#define REAL 0x9000u /* where the 16-bit part runs */
#define CODE16 ((GDT_FREE + 0) * 8)
#define DATA16 ((GDT_FREE + 1) * 8)

struct seen {
	uint32_t efer_compat, efer_protected, cr0_real, big, count, efer_back,
	    segment;
};
static volatile struct seen seen __attribute__((used));
static uint64_t saved_rsp __attribute__((used));
static uint8_t saved_idt[10] __attribute__((used));
static uint32_t probe __attribute__((used));

__asm__(".text\n"
	"round_trip: push %rbx; push %rbp; push %r12; push %r13; push %r14\n"
	"push %r15; mov %rsp, saved_rsp; sidt saved_idt\n"
	"ljmp *to_compat\n"
	"to_compat: .long leave_long; .word 0x30\n"
	".code32\n"
	"leave_long: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es\n"
	"mov %eax, %ss; mov saved_rsp, %esp\n"
	"mov $0xc0000080, %ecx; rdmsr; mov %eax, seen\n"
	"mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0; jmp 1f\n"
	"1: mov $0xc0000080, %ecx; rdmsr; mov %eax, seen + 4\n"
	"and $~0x100, %eax; wrmsr\n"
	"mov %cr4, %eax; and $~0x20, %eax; mov %eax, %cr4\n"
	"ljmp $0x48, $0x9000\n"
	/* 16-bit protected mode, at REAL */
	".code16\n"
	"real_start: mov $0x50, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss\n"
	"mov $0x10, %ax; mov %ax, %fs\n"
	"lidtl at_real_idt\n"
	"mov %cr0, %eax; and $~1, %eax; mov %eax, %cr0\n"
	"ljmp $0, $at_real\n"
	"real_idt: .word 0x3ff; .long 0\n"
	"real: xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss\n"
	"mov $0x8ff0, %sp\n"
	"mov %cr0, %eax; mov %eax, %ebx\n"
	/* FS takes another base but keeps its limit. */
	"mov $0x10, %ax; mov %ax, %fs\n"
	"mov $probe - 0x100, %esi; mov %fs:(%esi), %edi\n"
	"int $0x60\n"
	"xor %cl, %cl; mov $1, %ax\n"
	"div %cl\n" /* two bytes, which its handler skips */
	"mov $0xffff, %si\n"
	"mov (%si), %ax\n" /* two bytes, beyond 64 KiB */
	/* A base is the selector, four bits on. */
	"mov $0x0900, %ax; mov %ax, %es; mov %es:0, %dx\n"
	"lidtl %cs:at_real_idt\n"
	"mov %cr0, %eax; or $1, %al; mov %eax, %cr0\n"
	"ljmpl $0x30, $enter_long\n"
	"real_int: incw at_ints; iret\n"
	"real_de: incw at_divides\n"
	"push %bp; mov %sp, %bp; addw $2, 2(%bp); pop %bp; iret\n"
	"real_gp: incw at_limits\n"
	"push %bp; mov %sp, %bp; addw $2, 2(%bp); pop %bp; iret\n"
	"ints: .word 0\n"
	"divides: .word 0\n"
	"limits: .word 0\n"
	"real_end:\n"
	/* Where these are when they run. */
	".set at_real_idt, real_idt - real_start + 0x9000\n"
	".set at_real, real - real_start + 0x9000\n"
	".set at_ints, ints - real_start + 0x9000\n"
	".set at_divides, divides - real_start + 0x9000\n"
	".set at_limits, limits - real_start + 0x9000\n"
	".code32\n"
	"enter_long: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es\n"
	"mov %eax, %ss\n"
	"mov %ebx, seen + 8; mov %edi, seen + 12; movzwl %dx, %edx\n"
	"mov %edx, seen + 24; incl seen + 16\n"
	"mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4\n"
	"mov $0xc0000080, %ecx; rdmsr; or $0x100, %eax; wrmsr\n"
	"rdmsr; mov %eax, seen + 20\n"
	"mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
	"ljmp $0x08, $1f\n"
	".code64\n"
	"1: mov saved_rsp, %rsp; lidt saved_idt\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");
void round_trip(void);
extern const uint8_t real_start[], real_end[], real_int[], real_de[], real_gp[];
extern const uint8_t ints[], divides[], limits[];

static void
vector(unsigned n, const uint8_t *code)
{
	*(volatile uint32_t *)(uintptr_t)(n * 4) =
	    REAL + (uint32_t)(code - real_start);
}

static unsigned
counted(const uint8_t *where)
{
	return read16(REAL + (uintptr_t)(where - real_start));
}

void
payload(void)
{
	uint64_t efer, cr0 = read_cr0();

	test("modes");
	ring_init();
	efer = rdmsr(MSR_EFER);
	gdt[CODE16 / 8] = segment(0, 0xffff, DESC_CODE);
	gdt[DATA16 / 8] = segment(0, 0xffff, DESC_DATA);
	for (const uint8_t *from = real_start; from < real_end; from++)
		write8(REAL + (uintptr_t)(from - real_start), *from);
	vector(0, real_de);
	vector(13, real_gp);
	vector(0x60, real_int);
	probe = 0x600dcafe;
	for (unsigned i = 1; i <= 5; i++) {
		round_trip();
		check_eq("there and back", seen.count, i);
		check_eq("in compatibility mode LMA is set",
		    seen.efer_compat & (EFER_LME | EFER_LMA),
		    EFER_LME | EFER_LMA);
		check_eq("without paging it is clear",
		    seen.efer_protected & (EFER_LME | EFER_LMA), EFER_LME);
		check_eq("real mode", seen.cr0_real & (1 | CR0_PG), 0);
		check_eq("FS kept 4 GiB there", seen.big, 0x600dcafe);
		check_eq("INT by the vector table", counted(ints), i);
		check_eq("#DE, without an error code", counted(divides), i);
		check_eq("#GP beyond 64 KiB", counted(limits), i);
		check_eq("a base by the selector", seen.segment, read16(REAL));
		check_eq("LME is set before paging, LMA is not",
		    seen.efer_back & (EFER_LME | EFER_LMA), EFER_LME);
		check64("EFER is as it was", rdmsr(MSR_EFER), efer);
		check64("CR0, too", read_cr0(), cr0);
	}
	check_eq("exceptions work", TRY("ud2", "r"(0)), UD);
	check_eq("and ring 3", USER("nop", "r"(0)), HOME);
	done();
}
