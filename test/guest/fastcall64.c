/*
 * SYSCALL and SYSRET, SYSENTER and SYSEXIT, SWAPGS and FSGSBASE in long mode
 * (SDM volume 2; APM volume 3 where AMD differs: SYSENTER is #UD in long mode,
 * SYSCALL also comes from compatibility mode, by CSTAR).
 */
#include "ring.h"

#define MSR_SYSENTER_CS 0x174u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

/* SYSRET's base for its selectors: +8 is SS, +16 CS of 64 bits. */
#define SYSRET_BASE 0x1bu
#define KERNEL_BASE CODE_SELECTOR

static bool amd;
/* What the entry found. */
static struct {
	uint64_t rcx, r11, rflags, rsp, cs, ss;
} seen __attribute__((used));
__asm__(".text\n"
	"entry: mov %rcx, seen; mov %r11, seen + 8\n"
	"mov %rsp, seen + 24\n"
	"mov $ring_stack + 4096, %rsp\n"
	"pushf; pop seen + 16\n"
	"mov %cs, seen + 32; mov %ss, seen + 40\n"
	"mov seen + 24, %rsp\n"
	"int $0x80\n"
	/* In compatibility mode of ring 3. */
	".code32\n"
	"compat_syscall: syscall\n"
	"compat_next: int $0x80\n"
	"compat_sysenter: sysenter\n"
	"compat_swapgs: .byte 0x0f, 0x01, 0xf8\n"
	"compat_rdfsbase: .byte 0xf3, 0x0f, 0xae, 0xc0\n"
	"compat_home: int $0x80\n"
	".code64\n"
	"user_home: int $0x80\n");
extern const char entry[], compat_syscall[], compat_next[], compat_sysenter[];
extern const char compat_swapgs[], compat_rdfsbase[], compat_home[];
extern const char user_home[];

static uint32_t
compat(const char *rip)
{
	return TRY("push $0x23; push fault_sp; push $2; push $0x1b; push %0;"
		   "iretq",
	    "r"(rip));
}

/* ---- SYSCALL ------------------------------------------------------------ */

static void
syscalls(void)
{
	uint64_t efer = rdmsr(MSR_EFER);

	wrmsr(MSR_EFER, efer & ~(uint64_t)EFER_SCE);
	check_eq("SYSCALL without EFER.SCE", USER("syscall", "r"(0)), UD);
	check_eq("SYSRET without it", TRY("sysretq", "c"(user_home), "r"(0)),
	    UD);
	wrmsr(MSR_EFER, efer | EFER_SCE);
	wrmsr(MSR_STAR,
	    (uint64_t)SYSRET_BASE << 48 | (uint64_t)KERNEL_BASE << 32);
	wrmsr(MSR_LSTAR, (uint64_t)entry);
	wrmsr(MSR_CSTAR, (uint64_t)entry);
	wrmsr(MSR_SFMASK, FLAG_CF | FLAG_DF);

	user_flags = FLAG_AC | FLAG_ID | FLAG_DF | FLAG_CF | 2;
	check_eq("SYSCALL from ring 3",
	    USER_FULL(HERE("syscall"), , "r"(0), "rcx", "r11", "cc"), HOME);
	__asm__ volatile("cld; push $2; popf" : : : "cc");
	user_flags = 2;
	check64("RCX: the next instruction", seen.rcx, insn_end);
	check64("R11: the flags", seen.r11,
	    FLAG_AC | FLAG_ID | FLAG_DF | FLAG_CF | 2);
	check64("FMASK clears flags", seen.rflags, FLAG_AC | FLAG_ID | 2);
	check64("RSP stays", seen.rsp, fault_sp);
	check_eq("CS", (uint16_t)seen.cs, KERNEL_BASE);
	check_eq("SS", (uint16_t)seen.ss, KERNEL_BASE + 8);
	check_eq("from ring 0",
	    TRY_FULL(HERE("syscall"), , "r"(0), "rcx", "r11", "cc"), HOME);
	check64("RCX", seen.rcx, insn_end);
	if (amd) {
		check_eq("from compatibility mode", compat(compat_syscall),
		    HOME);
		check64("RCX", seen.rcx, (uint64_t)compat_next);
		check_eq("in 64-bit code", (uint16_t)fault_cs, KERNEL_BASE);
	} else {
		check_eq("from compatibility mode", compat(compat_syscall), UD);
	}
	wrmsr(MSR_SFMASK, 0);
}

static uint32_t
sysret64(uint64_t rip, uint64_t flags)
{
	return TRY_FULL("mov %1, %%r11; sysretq", ,
	    OPERANDS("c"(rip), "a"(flags)), "r11", "cc");
}

static uint32_t
sysret32(uint64_t rip, uint64_t flags)
{
	return TRY_FULL("mov %1, %%r11; sysretl", ,
	    OPERANDS("c"(rip), "a"(flags)), "r11", "cc");
}

static void
sysrets(void)
{
	uint32_t vector;

	check_eq("SYSRET to 64-bit code",
	    sysret64((uint64_t)user_home, FLAG_CF | FLAG_ID), HOME);
	check_eq("CS", fault_cs, USER_CODE);
	check_eq("SS", (uint32_t)((struct frame *)fault_frame)->ss | 3,
	    SYSRET_BASE + 8);
	check64("RFLAGS is R11", fault_flags, FLAG_CF | FLAG_ID | 2);
	check_eq("with all of R11's bits",
	    sysret64((uint64_t)user_home,
		~(uint64_t)(FLAG_TF | FLAG_IF | FLAG_NT)),
	    HOME);
	__asm__ volatile("push $2; popf; cld" : : : "cc");
	/* RF is cleared by the instruction that runs then. */
	check64("only those that exist, without RF and VM", fault_flags,
	    0x3f7fd7 & ~(FLAG_TF | FLAG_IF | FLAG_NT | FLAG_RF | FLAG_VM));
	check_eq("to compatibility mode",
	    sysret32((uint64_t)compat_home | 1ULL << 32, 2), HOME);
	check_eq("CS", fault_cs, SYSRET_BASE);
	check64("to ECX", fault_ip, (uint64_t)compat_home + 2);
	check_eq("in ring 3", USER("sysretq", "c"(user_home)), GP);
	vector = sysret64(1ULL << 47, 2);
	check_eq("to what is not canonical", vector, GP);
	/* Intel's is the SYSRET's in ring 0, AMD's the fetch's in ring 3. */
	check_eq("CS", fault_cs, amd ? USER_CODE : CODE_SELECTOR);
}

/* ---- SYSENTER ----------------------------------------------------------- */

static void
sysenters(void)
{
	wrmsr(MSR_SYSENTER_CS, CODE_SELECTOR);
	wrmsr(MSR_SYSENTER_EIP, (uint64_t)entry);
	wrmsr(MSR_SYSENTER_ESP, RING_STACK);
	if (amd) {
		check_eq("SYSENTER in 64-bit code", USER("sysenter", "r"(0)),
		    UD);
		check_eq("in compatibility mode", compat(compat_sysenter), UD);
		check_eq("SYSEXIT", TRY("sysexitl", "c"(0), "d"(0)), UD);
		return;
	}
	check_eq("SYSENTER from ring 3", USER("sysenter", "r"(0)), HOME);
	check64("RSP", seen.rsp, RING_STACK);
	check_eq("CS", (uint16_t)seen.cs, CODE_SELECTOR);
	check_eq("SS", (uint16_t)seen.ss, CODE_SELECTOR + 8);
	check_eq("from compatibility mode", compat(compat_sysenter), HOME);
	check_eq("SYSEXIT in ring 3", USER("sysexitl", "c"(0), "d"(0)), GP);
	check_eq("to what is not canonical",
	    TRY("sysexitq", "c"(fault_sp), "d"(1ULL << 47)), GP);
	/* CS of 64-bit code would be +32: ring 3's is there. */
	check_eq("SYSEXIT", TRY("sysexitq", "c"(fault_sp), "d"(user_home)),
	    HOME);
	check_eq("CS", fault_cs, (CODE_SELECTOR + 32) | 3);
	wrmsr(MSR_SYSENTER_CS, 0);
	check_eq("with CS null", USER("sysenter", "r"(0)), GP);
	check_eq("SYSEXIT", TRY("sysexitl", "c"(0), "d"(0)), GP);
}

/* ---- bases -------------------------------------------------------------- */

static void
bases(void)
{
	uint64_t value, cr4 = read_cr4();
	uint32_t r[4];

	wrmsr(MSR_GS_BASE, 0x1111);
	wrmsr(MSR_KERNEL_GS_BASE, 0xffff800000002222);
	__asm__ volatile("swapgs");
	check64("SWAPGS: GS base", rdmsr(MSR_GS_BASE), 0xffff800000002222);
	check64("and the other", rdmsr(MSR_KERNEL_GS_BASE), 0x1111);
	check_eq("in ring 3", USER("swapgs", "r"(0)), GP);
	check_eq("in compatibility mode", compat(compat_swapgs), UD);
	check_eq("a base that is not canonical",
	    TRY("wrmsr", "c"(MSR_FS_BASE), "a"(0), "d"(0x8000)), GP);
	check_eq("KERNEL_GS_BASE, too",
	    TRY("wrmsr", "c"(MSR_KERNEL_GS_BASE), "a"(0), "d"(0x8000)), GP);
	check_eq("LSTAR", TRY("wrmsr", "c"(MSR_LSTAR), "a"(0), "d"(0x8000)),
	    GP);
	/* A selector takes the base of its descriptor: 32 bits. */
	wrmsr(MSR_FS_BASE, 0x123456789abc);
	gdt[GDT_FREE] = segment(0x87654321, 0xfffff, DESC_DATA);
	__asm__ volatile("mov %0, %%fs" : : "r"(GDT_FREE * 8));
	check64("MOV FS", rdmsr(MSR_FS_BASE), 0x87654321);
	/* No limit in 64-bit code. */
	gdt[GDT_FREE] = segment(0, 0, DESC_DATA);
	__asm__ volatile("mov %0, %%fs" : : "r"(GDT_FREE * 8));
	check_eq("no limit in 64-bit code", TRY("cmpb $0, %%fs:seen", "r"(0)),
	    NO_FAULT);
	wrmsr(MSR_FS_BASE, 0x7fffffffff00);
	check_eq("base and offset that leave the canonical half",
	    TRY("cmpb $0, %%fs:(%0)", "r"(0x100ULL)), GP);

	write_cr4(cr4 & ~(uint64_t)CR4_FSGSBASE);
	check_eq("RDFSBASE without CR4.FSGSBASE", TRY("rdfsbase %0", "r"(0ULL)),
	    UD);
	check_eq("WRGSBASE", TRY("wrgsbase %0", "r"(0ULL)), UD);
	cpuid(7, 0, r);
	if (!(r[1] & 1)) {
		check_eq("which is not offered",
		    TRY("mov %0, %%cr4", "r"(cr4 | CR4_FSGSBASE)), GP);
		return;
	}
	write_cr4(cr4 | CR4_FSGSBASE);
	check_eq("WRFSBASE in ring 3",
	    USER("wrfsbase %0", "r"(0x7654321087ULL)), HOME);
	check64("it is there", rdmsr(MSR_FS_BASE), 0x7654321087);
	__asm__ volatile("rdfsbase %0" : "=r"(value));
	check64("RDFSBASE", value, 0x7654321087);
	__asm__ volatile("wrgsbase %k1; rdgsbase %0"
			 : "=r"(value)
			 : "r"(0xffffffff12345678));
	check64("32 bits", value, 0x12345678);
	check_eq("not canonical", TRY("wrfsbase %0", "r"(1ULL << 47)), GP);
	check_eq("in compatibility mode", compat(compat_rdfsbase), UD);
	write_cr4(cr4);
}

void
payload(void)
{
	uint32_t r[4];

	test("fastcall64");
	cpuid(0, 0, r);
	amd = r[1] == 0x68747541 || r[1] == 0x6f677948;
	ring_init();
	syscalls();
	sysrets();
	sysenters();
	bases();
	done();
}
