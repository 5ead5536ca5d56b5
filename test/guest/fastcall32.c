/*
 * SYSENTER and SYSEXIT, SYSCALL and SYSRET in 32-bit protected mode (SDM volume
 * 2; APM volume 3: SYSCALL outside of long mode is AMD's alone, by STAR).
 */
#include "ring.h"

#define MSR_SYSENTER_CS 0x174u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_STAR 0xc0000081u

static struct {
	uint32_t ecx, esp, eflags, cs, ss;
} seen __attribute__((used));
__asm__(".text\n"
	"entry: mov %ecx, seen; mov %esp, seen + 4\n"
	"mov $ring_stack + 4096, %esp\n"
	"pushf; pop seen + 8\n"
	"mov %cs, seen + 12; mov %ss, seen + 16\n"
	"int $0x80\n"
	"user_home: int $0x80\n"
	"user_end:\n");
extern const char entry[], user_home[], user_end[];

static bool amd;

static void
sysenter(void)
{
	const struct frame *frame;

	wrmsr(MSR_SYSENTER_CS, CODE_SELECTOR | 3);
	wrmsr(MSR_SYSENTER_EIP, (uint32_t)entry);
	wrmsr(MSR_SYSENTER_ESP, RING_STACK - 64);
	user_flags = FLAG_IOPL | FLAG_IF | FLAG_CF | 2;
	check_eq("SYSENTER from ring 3", USER("sysenter", "r"(0)), HOME);
	user_flags = 2;
	check_eq("CS is that of ring 0", seen.cs & 0xffff, CODE_SELECTOR);
	check_eq("SS follows it", seen.ss & 0xffff, CODE_SELECTOR + 8);
	check_eq("ESP", seen.esp, RING_STACK - 64);
	check_eq("IF is clear, the rest stays", seen.eflags,
	    FLAG_IOPL | FLAG_CF | 2);
	check_eq("from ring 0", TRY("sysenter", "r"(0)), HOME);
	__asm__ volatile("push $2; popf" : : : "cc");

	check_eq("SYSEXIT", TRY("sysexit", "c"(fault_sp), "d"(user_home)),
	    HOME);
	frame = (const struct frame *)fault_frame;
	check_eq("EIP is EDX", fault_ip, (uint32_t)user_end);
	check_eq("CS", fault_cs, (CODE_SELECTOR + 16) | 3);
	check_eq("SS", (uint16_t)frame->ss, (CODE_SELECTOR + 24) | 3);
	check_eq("ESP is ECX", frame->sp, fault_sp);
	check_eq("in ring 3", USER("sysexit", "c"(0), "d"(user_home)), GP);
	check_eq("its error code", fault_error, 0);
	wrmsr(MSR_SYSENTER_CS, 3);
	check_eq("SYSENTER with CS null", USER("sysenter", "r"(0)), GP);
	check_eq("its error code", fault_error, 0);
	check_eq("SYSEXIT, too", TRY("sysexit", "c"(0), "d"(0)), GP);
}

static void
syscall(void)
{
	uint64_t efer = rdmsr(MSR_EFER);
	const struct frame *frame;

	check_eq("SYSCALL without EFER.SCE", USER("syscall", "r"(0)), UD);
	wrmsr(MSR_EFER, efer | EFER_SCE);
	wrmsr(MSR_STAR,
	    (uint64_t)USER_CODE << 48 | (uint64_t)CODE_SELECTOR << 32 |
		(uint32_t)entry);
	if (!amd) {
		check_eq("SYSCALL outside of long mode",
		    USER("syscall", "r"(0)), UD);
		check_eq("SYSRET", TRY("sysret", "c"(user_home)), UD);
		wrmsr(MSR_EFER, efer);
		return;
	}
	user_flags = FLAG_IF | FLAG_CF | 2;
	check_eq("SYSCALL from ring 3",
	    USER_FULL(HERE("syscall"), , "r"(0), "ecx", "cc"), HOME);
	user_flags = 2;
	check_eq("ECX: the next instruction", seen.ecx, insn_end);
	check_eq("CS", seen.cs & 0xffff, CODE_SELECTOR);
	check_eq("SS", seen.ss & 0xffff, CODE_SELECTOR + 8);
	check_eq("ESP stays", seen.esp, fault_sp);
	check_eq("IF is clear, the rest stays", seen.eflags, FLAG_CF | 2);
	check_eq("SYSRET", TRY("sysret", "c"(user_home)), HOME);
	frame = (const struct frame *)fault_frame;
	check_eq("CS", fault_cs, USER_CODE);
	check_eq("SS", (uint16_t)frame->ss | 3, USER_DATA);
	check_eq("IF is set", fault_flags & FLAG_IF, FLAG_IF);
	check_eq("in ring 3", USER("sysret", "c"(user_home)), GP);
	wrmsr(MSR_EFER, efer);
}

void
payload(void)
{
	uint32_t r[4];

	test("fastcall32");
	cpuid(0, 0, r);
	amd = r[1] == 0x68747541 || r[1] == 0x6f677948;
	ring_init();
	sysenter();
	syscall();
	done();
}
