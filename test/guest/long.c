/*
 * Long mode: wide registers and accesses, faults, no-execute, segment bases,
 * and memory above 4 GiB.  The machine has 4 GiB.
 */
#include "guest.h"

#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define UD 6
#define GP 13
#define PF 14
#define NX (1ULL << 63)

#define HIGH 0x100000000ULL

extern uint64_t pds[];

static void
flush(void)
{
	__asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" ::
			     : "rax", "memory");
}

static void
registers(void)
{
	uint64_t value, high;

	__asm__ volatile("mov $0x123456789abcdef0, %%r8; mov %%r8, %%r15;"
			 "mov $1, %%r15d; lea 1(%%r15, %%r8, 2), %0"
			 : "=r"(value)
			 :
			 : "r8", "r15");
	check64("64-bit arithmetic", value, 0x2468acf13579bde2);
	__asm__ volatile("mov $-1, %%rax; mov $5, %%eax; mov %%rax, %0"
			 : "=r"(value)
			 :
			 : "rax");
	check64("32-bit writes clear the upper half", value, 5);
	__asm__ volatile("mul %%rdx"
			 : "=a"(value), "=d"(high)
			 : "a"(0x8000000000000001), "d"(6ULL));
	check64("a product's upper half", high, 3);
	check64("and lower half", value, 6);
	__asm__ volatile("lea 1f(%%rip), %0; 1:" : "=r"(value));
	check64("RIP-relative", value >> 32, 0);
}

static void
wide_mmio(void)
{
	volatile uint64_t *window = (volatile uint64_t *)TESTDEV_MMIO;
	static uint64_t buf[4] __attribute__((aligned(16)));
	uint64_t at, to, n;

	out32(TESTDEV_COUNT, 0);
	window[0] = 0x8877665544332211;
	check_eq("a write of 64 bits is one access", in32(TESTDEV_LAST),
	    8 | TESTDEV_LAST_WRITE | TESTDEV_LAST_MMIO);
	check64("read back", window[0], 0x8877665544332211);
	check_eq("in its parts", read16(TESTDEV_MMIO + 5), 0x7766);
	window[1] = 0x1122334455667788;
	check64("over an 8-byte boundary",
	    *(volatile uint64_t *)(TESTDEV_MMIO + 4), 0x5566778888776655);
	__asm__ volatile("lock addq %1, (%0)"
			 :
			 : "r"(window), "r"(1ULL << 40)
			 : "memory");
	check64("locked add", window[0], 0x8877675544332211);
	at = TESTDEV_MMIO, to = (uint64_t)buf, n = 2;
	__asm__ volatile("rep movsq"
			 : "+S"(at), "+D"(to), "+c"(n)
			 :
			 : "memory");
	check64("REP MOVSQ", buf[1], 0x1122334455667788);
}

static void
faults(void)
{
	traps_init();
	check_eq("#UD", TRY("ud2", "r"(0)), UD);
	check_eq("#GP for a non-canonical address",
	    TRY("mov (%0), %%eax", "r"(1ULL << 63), "a"(0)), GP);
	check_eq("#GP for an MSR that nobody has",
	    TRY("rdmsr", "c"(0x12345678), "a"(0), "d"(0)), GP);
	check_eq("#GP for a reserved bit of CR4",
	    TRY("mov %0, %%cr4", "r"(1ULL << 40)), GP);
	pds[4 * 512] = 0;
	flush();
	check_eq("#PF above 4 GiB",
	    TRY("movl %%eax, (%0)", "r"(HIGH + 8), "a"(0)), PF);
	check_eq("its error code: write", (uint32_t)fault_error, 2);
	pds[4 * 512] = HIGH | 0x83 | NX;
	flush();
	check_eq("#PF for fetching from no-execute", TRY("jmp *%0", "r"(HIGH)),
	    PF);
	check_eq("its error code: fetch, present", (uint32_t)fault_error, 0x11);
	pds[4 * 512] = HIGH | 0x83;
	flush();
}

static void
high_memory(void)
{
	volatile uint64_t *high = (volatile uint64_t *)HIGH;
	volatile uint64_t *top = (volatile uint64_t *)(HIGH + (1ULL << 30)) - 1;

	*high = 0x1111222233334444;
	*top = 0x5555666677778888;
	check64("memory at 4 GiB", *high, 0x1111222233334444);
	check64("and at its end", *top, 0x5555666677778888);
	check64("not the same as at 0",
	    *(volatile uint64_t *)0x1000 == 0x1111222233334444, 0);
	check64("nothing behind it", top[1], UINT64_MAX);
	check64("nothing between 3 GiB and the devices",
	    *(volatile uint64_t *)0xc0000000, UINT64_MAX);
	*(volatile uint64_t *)(0xc0000000 - 8) = 42;
	check64("memory ends at 3 GiB", *(volatile uint64_t *)(0xc0000000 - 8),
	    42);
}

static void
bases(void)
{
	static uint64_t words[2] = { 0x1111, 0x2222 };
	uint64_t value;

	wrmsr(MSR_FS_BASE, (uint64_t)&words[0]);
	__asm__ volatile("mov %%fs:8, %0" : "=r"(value));
	check64("FS base", value, 0x2222);
	wrmsr(MSR_GS_BASE, (uint64_t)&words[0]);
	wrmsr(MSR_KERNEL_GS_BASE, (uint64_t)&words[1]);
	__asm__ volatile("swapgs; mov %%gs:0, %0; swapgs" : "=r"(value));
	check64("SWAPGS", value, 0x2222);
	__asm__ volatile("mov %%gs:0, %0" : "=r"(value));
	check64("and back", value, 0x1111);
	__asm__ volatile("mov %0, %%cr8" : : "r"(5ULL));
	check_eq("CR8 is the task priority", lapic_read(LAPIC_TPR), 0x50);
	lapic_write(LAPIC_TPR, 0x30);
	__asm__ volatile("mov %%cr8, %0" : "=r"(value));
	check64("and the other way round", value, 3);
	lapic_write(LAPIC_TPR, 0);
}

void
payload(void)
{
	uint32_t r[4];

	test("long");
	cpuid(0x80000001, 0, r);
	check_eq("CPUID has long mode", r[3] >> 29 & 1, 1);
	cpuid(1, 0, r);
	check_eq("and says it is a guest", r[2] >> 31, 1);
	registers();
	wide_mmio();
	faults();
	high_memory();
	bases();
	done();
}
