/*
 * The processor itself, in user mode.
 *
 * A child process lives in its signal handler.  To start a sequence it writes
 * registers and vector state into the signal frame, FS and GS bases into
 * themselves, and returns: the kernel loads everything at once.  Whatever the
 * sequence raises comes back as a signal, with everything in the frame again.
 * The handler stores the result, puts the memory back, and starts the next
 * one; between batches it waits on a pipe.
 *
 * What code under test may do  anything but system calls: those meet a filter
 *              and count as lost.  It knows no address of ours, so that it can
 *              only hurt the pages made for it; should the child die all the
 *              same, its job is lost and another child goes on.
 * Time         a timer ticks in the child's own time; a sequence that sees two
 *              ticks hangs.  The first tick goes unnoticed: returning from a
 *              signal restores everything but NT and ID.
 */
#include <asm/ldt.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/err.h"
#include "test/cpu/diff.h"

#define TICK_US 8000
#define HANDLER_STACK 65536u
#define HWCAP2_FSGS BIT(1)
#define VECTOR_PAGE_FAULT 14

struct shared {
	unsigned count; /* jobs of this batch */
	unsigned first; /* where to begin: after one that killed the child */
	_Atomic unsigned at; /* the one that runs, for who finds it dead */
	struct xlayout x;
	struct diff_job job[NATIVE_BATCH];
};

struct native {
	struct shared *shared;
	pid_t child;
	int go, done; /* our ends of the pipes */
};

/* entry.S */
void native_entry(int sig, siginfo_t *info, void *frame);
/* Its counterpart here, and what passes between the two. */
void native_trap(int sig, siginfo_t *info, void *frame);
extern uint64_t native_fs_base, native_gs_base, native_own_fs_base;
extern uint32_t native_data_sel;
uint64_t native_fs_base, native_gs_base, native_own_fs_base;
uint32_t native_data_sel; /* DS and ES */

/* The child's own. */
static struct shared *batch;
static int go_fd, done_fd;
static bool running, ticked;

static const uint8_t greg[CPU_GPRS] = {
	[CPU_RAX] = REG_RAX,
	[CPU_RCX] = REG_RCX,
	[CPU_RDX] = REG_RDX,
	[CPU_RBX] = REG_RBX,
	[CPU_RSP] = REG_RSP,
	[CPU_RBP] = REG_RBP,
	[CPU_RSI] = REG_RSI,
	[CPU_RDI] = REG_RDI,
	[CPU_R8] = REG_R8,
	[CPU_R9] = REG_R9,
	[CPU_R10] = REG_R10,
	[CPU_R11] = REG_R11,
	[CPU_R12] = REG_R12,
	[CPU_R13] = REG_R13,
	[CPU_R14] = REG_R14,
	[CPU_R15] = REG_R15,
};

/* ---- the child ---------------------------------------------------------- */

static void
store_memory(struct diff_result *result)
{
	result->dirty = 0;
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		uint8_t *page = (uint8_t *)(uintptr_t)diff_pages[i].lin;

		if (!diff_pages[i].write ||
		    memcmp(page, diff_pristine[i], DIFF_PAGE) == 0)
			continue;
		result->dirty |= (uint32_t)BIT(i);
		memcpy(result->page[i], page, DIFF_PAGE);
		memcpy(page, diff_pristine[i], DIFF_PAGE);
	}
}

static bool
canonical(uint64_t lin)
{
	return (uint64_t)((int64_t)(lin << 16) >> 16) == lin;
}

static void
store(struct diff_job *job, int sig, const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	struct diff_state *end = &job->native.end;

	job->native.outcome = sig == SIGSYS ? DIFF_LOST :
	    sig == SIGVTALRM                ? DIFF_HUNG :
					      DIFF_RAISED;
	for (unsigned i = 0; i < CPU_GPRS; i++)
		end->gpr[i] = (uint64_t)g[greg[i]];
	/* The kernel returns to a 16-bit stack by way of one of its own. */
	if (job->bits == DIFF_16)
		end->gpr[CPU_RSP] &= UINT32_MAX;
	end->rip = (uint64_t)g[REG_RIP];
	end->rflags = (uint64_t)g[REG_EFL];
	end->fs_base = native_fs_base;
	end->gs_base = native_gs_base;
	end->vector = (uint32_t)g[REG_TRAPNO];
	end->error = (uint32_t)g[REG_ERR];
	end->cr2 = end->vector == VECTOR_PAGE_FAULT ? (uint64_t)g[REG_CR2] : 0;
	/* The kernel's own: it stands in for SLDT and kin, which it forbids. */
	if (end->vector == VECTOR_PAGE_FAULT && !canonical(end->cr2))
		job->native.outcome = DIFF_LOST;
	memcpy(end->xsave, uc->uc_mcontext.fpregs, batch->x.size);
	diff_xsave_canon(end->xsave, &batch->x);
	store_memory(&job->native);
}

/* CS, GS, FS and SS, as the frame has them. */
static uint64_t
selectors(unsigned bits)
{
	switch (bits) {
	case DIFF_16:
		return DIFF_SEL_CS16 | (uint64_t)DIFF_SEL_STACK16 << 48;
	case DIFF_32:
		return DIFF_SEL_CS32 | (uint64_t)DIFF_SEL_DATA << 48;
	default:
		return DIFF_SEL_CS64 | (uint64_t)DIFF_SEL_DATA << 48;
	}
}

static void
start(const struct diff_job *job, ucontext_t *uc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
	uint64_t at;

	for (unsigned i = 0; i < CPU_GPRS; i++)
		g[greg[i]] = (greg_t)job->start.gpr[i];
	g[REG_RIP] = (greg_t)job->start.rip;
	g[REG_EFL] = (greg_t)job->start.rflags;
	g[REG_CSGSFS] = (greg_t)selectors(job->bits);
	native_data_sel =
	    job->bits == DIFF_16 ? DIFF_SEL_DATA16 : DIFF_SEL_DATA;
	native_fs_base = job->start.fs_base;
	native_gs_base = job->start.gs_base;
	/* Bytes from 464 are the kernel's: how large the area is. */
	memcpy(fp, job->start.xsave, 416);
	memcpy(fp + 512, &batch->x.mask, 8);
	memcpy(fp + 576, job->start.xsave + 576, batch->x.size - 576);
	at = job->start.rip + (job->bits == DIFF_16 ? DIFF_CODE : 0);
	memcpy((uint8_t *)(uintptr_t)at, job->code, job->code_len);
}

/* Tell of the end of a batch and wait for the next; does not return at EOF. */
static void
exchange(void)
{
	char c = 0;

	if (write(done_fd, &c, 1) != 1 || read(go_fd, &c, 1) != 1)
		_exit(0);
	atomic_store_explicit(&batch->at, batch->first, memory_order_relaxed);
}

void
native_trap(int sig, siginfo_t *info, void *frame)
{
	ucontext_t *uc = frame;
	unsigned at = atomic_load_explicit(&batch->at, memory_order_relaxed);

	if (sig == SIGVTALRM && (!running || !ticked)) {
		ticked = true;
		return;
	}
	if (running) {
		store(&batch->job[at], sig, uc);
		atomic_store_explicit(&batch->at, ++at, memory_order_relaxed);
	}
	if (!running || at == batch->count) {
		exchange();
		at = batch->first;
	}
	running = true;
	ticked = false;
	start(&batch->job[at], uc);
}

static void
map_pages(void)
{
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		void *at = (void *)(uintptr_t)diff_pages[i].lin;
		int prot = PROT_READ | (diff_pages[i].write ? PROT_WRITE : 0) |
		    (diff_pages[i].exec ? PROT_EXEC : 0);

		if (mmap(at, DIFF_PAGE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1,
			0) != at)
			_exit(1);
		memcpy(at, diff_pristine[i], DIFF_PAGE);
		if (mprotect(at, DIFF_PAGE, prot) != 0)
			_exit(1);
	}
}

/* The segments of 16-bit code. */
static void
make_segments(void)
{
	static const struct user_desc segments[] = {
		{ .entry_number = DIFF_SEL_CS16 / 8,
		    .base_addr = DIFF_CODE,
		    .limit = DIFF_CODE_SIZE - 1,
		    .contents = 2 /* code */ },
		{ .entry_number = DIFF_SEL_DATA16 / 8,
		    .base_addr = DIFF_DATA,
		    .limit = DIFF_DATA_END - DIFF_DATA - 1 },
		{ .entry_number = DIFF_SEL_STACK16 / 8,
		    .base_addr = DIFF_STACK,
		    .limit = DIFF_STACK_SIZE - 1 },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(segments); i++) {
		if (syscall(SYS_modify_ldt, 1, &segments[i],
			sizeof(segments[i])) != 0)
			_exit(1);
	}
}

#define LOAD(field) \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW(call)                                      \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1), \
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void
filter_calls(void)
{
	struct sock_filter filter[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		LOAD(nr),
		ALLOW(SYS_rt_sigreturn),
		ALLOW(SYS_read),
		ALLOW(SYS_write),
		ALLOW(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = { ARRAY_SIZE(filter), filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
		_exit(1);
}

static _Noreturn void
child_main(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
		SIGSYS, SIGVTALRM };
	static uint8_t stack[HANDLER_STACK];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_sigaction = native_entry,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };
	struct itimerval timer = { { 0, TICK_US }, { 0, TICK_US } };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* EOF ends it as well */
	map_pages();
	__asm__ volatile("rdfsbase %0" : "=r"(native_own_fs_base));
	native_data_sel = DIFF_SEL_DATA;
	make_segments();
	sigfillset(&sa.sa_mask);
	if (sigaltstack(&ss, NULL) != 0)
		_exit(1);
	for (unsigned i = 0; i < ARRAY_SIZE(signals); i++) {
		if (sigaction(signals[i], &sa, NULL) != 0)
			_exit(1);
	}
	if (setitimer(ITIMER_VIRTUAL, &timer, NULL) != 0)
		_exit(1);
	filter_calls();
	__builtin_trap(); /* into the handler, for ever */
}

/* ---- the parent --------------------------------------------------------- */

/* Wait until the child is ready or has done its batch; false if it is dead. */
static bool
child_done(struct native *native)
{
	char c;
	ssize_t n;

	do {
		n = read(native->done, &c, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1;
}

static void
child_stop(struct native *native)
{
	if (native->child <= 0)
		return;
	(void)close(native->go);
	(void)close(native->done);
	(void)kill(native->child, SIGKILL);
	(void)waitpid(native->child, NULL, 0);
	native->child = 0;
}

static int
child_start(struct native *native, struct err *err)
{
	int go[2], done[2];

	if (pipe(go) != 0)
		return err_set_errno(err, -errno, "pipe");
	if (pipe(done) != 0) {
		int rc = err_set_errno(err, -errno, "pipe");

		(void)close(go[0]);
		(void)close(go[1]);
		return rc;
	}
	native->child = fork();
	if (native->child == 0) {
		(void)close(go[1]);
		(void)close(done[0]);
		go_fd = go[0];
		done_fd = done[1];
		batch = native->shared;
		child_main();
	}
	(void)close(go[0]);
	(void)close(done[1]);
	native->go = go[1];
	native->done = done[0];
	if (native->child < 0)
		return err_set_errno(err, -errno, "fork");
	if (!child_done(native)) {
		child_stop(native);
		return err_set(err, -EIO, "the native runner does not start");
	}
	return 0;
}

int
native_run(struct native *native, unsigned n, struct err *err)
{
	struct shared *shared = native->shared;
	char c = 0;

	shared->count = n;
	shared->first = 0;
	while (shared->first < n) {
		unsigned at;
		int rc;

		if (native->child <= 0 && (rc = child_start(native, err)) < 0)
			return rc;
		if (write(native->go, &c, 1) == 1 && child_done(native))
			return 0;
		child_stop(native);
		at = atomic_load(&shared->at);
		shared->job[at].native.outcome = DIFF_LOST;
		shared->first = at + 1;
	}
	return 0;
}

struct diff_job *
native_jobs(struct native *native)
{
	return native->shared->job;
}

int
native_new(struct native **native, struct err *err)
{
	struct native *n;
	struct features f;
	int rc;

	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGS))
		return err_set(err, -ENOTSUP,
		    "no FSGSBASE in user mode: nothing to compare with");
	n = calloc(1, sizeof(*n));
	if (n == NULL)
		return err_set(err, -ENOMEM, "no memory");
	n->shared = mmap(NULL, sizeof(*n->shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (n->shared == MAP_FAILED) {
		free(n);
		return err_set(err, -ENOMEM, "no memory");
	}
	features_host(&f);
	n->shared->x = f.x;
	rc = child_start(n, err);
	if (rc < 0) {
		native_free(n);
		return rc;
	}
	*native = n;
	return 0;
}

void
native_free(struct native *native)
{
	if (native == NULL)
		return;
	child_stop(native);
	(void)munmap(native->shared, sizeof(*native->shared));
	free(native);
}
