/*
 * Vector registers, the x87 stack and MXCSR keep what they hold whatever else
 * the machine has to do meanwhile: page faults, system calls, signals, sleep,
 * new code, code that changes, atomic accesses across pages, other processes.
 *
 * usage: registers ROUNDS
 *
 * As many processes as there are processors, and one more; each says how often
 * it found what.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define GENERAL __attribute__((target("general-regs-only"), noinline))
#define PAGE 4096UL

struct image {
	uint8_t ymm[16][32];
	uint8_t x87[8][16];
	uint32_t mxcsr;
};

static uint8_t *fresh, *code;
static unsigned round_number;
static int null_fd;

#define EACH_YMM(op)                                                       \
	op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) \
	    op(11) op(12) op(13) op(14) op(15)
#define LOAD(n) "vmovdqu " #n "*32(%0), %%ymm" #n "\n"
#define STORE(n) "vmovdqu %%ymm" #n ", " #n "*32(%0)\n"
#define FLD(n) "fldt 512+" #n "*16(%0)\n"
#define FSTP(n) "fstpt 512+" #n "*16(%0)\n"

/* -------------------------------------------------------------- activities */

GENERAL static long
call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;

	__asm__ volatile("syscall"
			 : "+a"(number)
			 : "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return number;
}

GENERAL static void
nothing(void)
{
	for (volatile int i = 0; i < 1000; i++)
		continue;
}

GENERAL static void
faults(void)
{
	call(SYS_madvise, (long)fresh, 16 * PAGE, MADV_DONTNEED, 0);
	for (unsigned i = 0; i < 16; i++)
		*(volatile uint8_t *)(fresh + i * PAGE) = (uint8_t)i;
}

GENERAL static void
calls(void)
{
	for (unsigned i = 0; i < 20; i++)
		call(SYS_sched_yield, 0, 0, 0, 0);
	call(SYS_write, null_fd, (long)fresh, 5000, 0);
}

GENERAL static void
naps(void)
{
	struct timespec t = { 0, 200000 };

	call(SYS_nanosleep, (long)&t, 0, 0, 0);
}

/* mov eax, n; ret: made, run, and changed. */
GENERAL static void
new_code(void)
{
	uint8_t *p = code + round_number * 16 % (4 * PAGE);

	for (unsigned i = 0; i < 4; i++) {
		uint32_t want = round_number + i, got;

		p[0] = 0xb8;
		*(volatile uint32_t *)(p + 1) = want;
		p[5] = 0xc3;
		got = ((uint32_t(*)(void))(uintptr_t)p)();
		if (got != want)
			call(SYS_exit_group, 3, 0, 0, 0);
	}
}

GENERAL static void
signals(void)
{
	__asm__ volatile("ud2");
	__asm__ volatile("int3");
}

GENERAL static void
identity(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	__asm__ volatile("rdtsc" : "=a"(a), "=d"(d));
}

GENERAL static void
across(void)
{
	volatile uint64_t *p = (void *)(fresh + PAGE - 3);

	for (unsigned i = 0; i < 10; i++)
		__asm__ volatile("lock addq $1, %0" : "+m"(*p) : : "cc");
}

GENERAL static void
strings(void)
{
	void *to = fresh + 100, *from = fresh + 5 * PAGE;
	unsigned long n = 3 * PAGE;

	__asm__ volatile("rep movsb"
			 : "+D"(to), "+S"(from), "+c"(n)
			 :
			 : "memory");
}

GENERAL static void
children(void)
{
	int status;
	long pid = call(SYS_fork, 0, 0, 0, 0);

	if (pid == 0)
		call(SYS_exit_group, 0, 0, 0, 0);
	call(SYS_wait4, pid, (long)&status, 0, 0);
}

static const struct {
	const char *name;
	void (*run)(void);
	unsigned every; /* rounds */
} activities[] = {
	{ "nothing", nothing, 1 },
	{ "faults", faults, 1 },
	{ "calls", calls, 1 },
	{ "naps", naps, 8 },
	{ "new code", new_code, 1 },
	{ "signals", signals, 4 },
	{ "identity", identity, 1 },
	{ "across", across, 1 },
	{ "strings", strings, 1 },
	{ "children", children, 16 },
};
#define ACTIVITIES (sizeof(activities) / sizeof(activities[0]))

/* ------------------------------------------------------------------- rounds */

/* Both instructions that get here are skipped: ud2 of 2 bytes; int3 is over. */
static void
on_signal(int signal, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	if (signal == SIGILL)
		uc->uc_mcontext.gregs[REG_RIP] += 2;
	/* What the handler does to them is its own affair. */
	__asm__ volatile("vpxor %%ymm0, %%ymm0, %%ymm0\n"
			 "vpxor %%ymm9, %%ymm9, %%ymm9"
			 :
			 :
			 : "xmm0", "xmm9");
}

/* Registers from `in`, the activity, registers to `out`. */
GENERAL static void
hold(const struct image *in, struct image *out, void (*run)(void))
{
	uint32_t usual = 0x1f80;

	__asm__ volatile(EACH_YMM(LOAD) "fninit\n" FLD(0) FLD(1) FLD(2) FLD(3)
			     FLD(4) FLD(5) FLD(6) FLD(7) "ldmxcsr 640(%0)\n"
			 :
			 : "r"(in)
			 : "memory");
	run();
	__asm__ volatile(EACH_YMM(STORE) FSTP(7) FSTP(6) FSTP(5) FSTP(4) FSTP(
	    3) FSTP(2) FSTP(1) FSTP(0) "stmxcsr 640(%0)\nldmxcsr %1\n"
				       "vzeroupper\n"
			 :
			 : "r"(out), "m"(usual)
			 : "memory");
}

static void
fill(struct image *image, unsigned seed)
{
	memset(image, 0, sizeof(*image));
	for (size_t i = 0; i < sizeof(image->ymm); i++)
		((uint8_t *)image->ymm)[i] = (uint8_t)(seed * 7 + i * 13 + 1);
	for (unsigned i = 0; i < 8; i++) {
		long double x = 1.0L / (3 + seed + i);

		memcpy(image->x87[i], &x, 10);
	}
	/* All exceptions masked; rounding and flags as they come. */
	image->mxcsr = 0x1f80 | (seed & 3) << 13 | (seed >> 2 & 0x3f);
}

static int
work(unsigned id, unsigned rounds)
{
	unsigned bad[ACTIVITIES] = { 0 };
	int status = 0;

	for (round_number = 0; round_number < rounds; round_number++) {
		for (size_t i = 0; i < ACTIVITIES; i++) {
			struct image in, out;

			if (round_number % activities[i].every != 0)
				continue;
			fill(&in, round_number * 64 + id);
			memset(&out, 0, sizeof(out));
			hold(&in, &out, activities[i].run);
			if (memcmp(&in, &out, sizeof(in)) != 0)
				bad[i]++;
		}
	}
	for (size_t i = 0; i < ACTIVITIES; i++) {
		if (bad[i] == 0)
			continue;
		printf("%s: lost %u times\n", activities[i].name, bad[i]);
		status = 1;
	}
	return status;
}

int
main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 1000;
	long processes = sysconf(_SC_NPROCESSORS_ONLN) + 1;
	struct sigaction action = {
		.sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO,
	};
	int status, rc = 0;

	sigaction(SIGILL, &action, NULL);
	sigaction(SIGTRAP, &action, NULL);
	null_fd = open("/dev/null", O_WRONLY);
	fresh = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	code = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (long i = 0; i < processes; i++) {
		if (fork() == 0)
			return work((unsigned)i, rounds);
	}
	while (wait(&status) > 0) {
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
			printf("a process ended with status %#x\n", status);
			rc = 1;
		}
	}
	printf("registers: %s\n", rc == 0 ? "kept" : "LOST");
	return rc;
}
