/*
 * Ring 3 in long mode by SYSRET and SYSCALL, and compatibility mode.  A payload
 * of its own, because a /dev/kvm that only emulates fails there.
 */
#include "guest.h"

#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SFMASK 0xc0000084u

extern uint64_t pml4[], pdpt[], pds[];

static uint8_t user_stack[1024] __attribute__((aligned(16), used));
static uint64_t saved_rsp __attribute__((used));
static volatile uint64_t user_flags, user_rip;

/* SYSRET to ring 3, which comes back by SYSCALL with its flags in R11. */
__asm__(".text\n"
	"go_user: push %rbx; push %rbp; push %r12; push %r13; push %r14\n"
	"push %r15\n"
	"mov %rsp, saved_rsp\n"
	"mov $user_code, %ecx\n"
	"mov $0x202, %r11d\n"
	"lea user_stack + 1024, %rsp\n"
	"sysretq\n"
	"user_code: stc\n"
	"mov %cs, %eax\n"
	"syscall\n"
	"user_next: ud2\n"
	"syscall_entry: mov saved_rsp, %rsp\n"
	"mov %rcx, user_rip\n"
	"mov %r11, user_flags\n"
	"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"ret\n");
extern const char syscall_entry[], user_next[];

/* In 32 bits, where 0x40 is INC EAX and not a prefix. */
__asm__("go_compat: push %rbx\n"
	"ljmp *compat_pointer\n"
	".code32\n"
	"compat: xor %eax, %eax\n"
	".byte 0x40\n"
	"ljmp $0x08, $compat_back\n"
	".code64\n"
	"compat_back: pop %rbx\n"
	"ret\n"
	"compat_pointer: .long compat; .word 0x30\n");

void
payload(void)
{
	uint32_t cs, eax;

	test("syscall");
	for (unsigned i = 0; i < 8 * 512; i++)
		pds[i] |= 4;
	for (unsigned i = 0; i < 8; i++)
		pdpt[i] |= 4;
	pml4[0] |= 4;
	__asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" ::
			     : "rax", "memory");
	wrmsr(MSR_STAR, 0x001b000800000000ULL);
	wrmsr(MSR_LSTAR, (uint64_t)syscall_entry);
	wrmsr(MSR_SFMASK, 0x200);
	__asm__ volatile("call go_user"
			 : "=a"(cs)
			 :
			 : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
			 "memory");
	check_eq("SYSRET leads to ring 3", cs & 0xffff, 0x2b);
	check_eq("SYSCALL keeps the flags", (uint32_t)user_flags & 0x201,
	    0x201);
	check64("and the way back", user_rip, (uint64_t)user_next);
	__asm__ volatile("call go_compat"
			 : "=a"(eax)
			 :
			 : "rcx", "rdx", "memory");
	check_eq("compatibility mode", eax, 1);
	done();
}
