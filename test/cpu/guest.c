/*
 * The same in a guest: ring 3 of a processor that an engine runs.
 *
 * Guest memory (gpa)   what is there
 *      0x1000-0x7000   page tables, GDT, IDT, TSS
 *      0x8000          one OUT for each vector, the stack of ring 0 below
 *      0x10000         the pages of diff_pages[], in their order
 *
 * User pages are at the same addresses as on the native side.  Ring 0 sees
 * everything at KERNEL, where no address comes by chance.  Each vector's
 * handler writes to a port that is the vector; the write stops the vCPU, and
 * the frame on its stack says what was raised.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine.h"
#include "test/cpu/diff.h"

#define RAM_SIZE (2 * MIB)
#define KERNEL 0xffffff8000000000 /* gpa 0 */

#define PML4 0x1000u
#define USER_PDPT 0x2000u
#define USER_PD 0x3000u
#define USER_PT 0x4000u
#define KERNEL_PDPT 0x5000u
#define KERNEL_PD 0x6000u
#define GDT 0x7000u
#define TSS 0x7100u
#define IDT 0x7200u
#define HANDLERS 0x8000u
#define PROBE 0x8f00u /* CPUID */
#define STACK_TOP 0x10000u
#define PAGES 0x10000u

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_PS BIT(7)
#define PTE_NX BIT(63)

#define SEL_KERNEL_CS 0x10
#define SEL_KERNEL_SS 0x18
#define SEL_TSS 0x40

#define VECTORS 32u
#define PORT_VECTOR 0x40u /* and the vector */
#define PORT_PROBE 0x80u
#define HAS_ERROR 0x27d00u /* vectors 8, 10-14, 17 */

#define HUNG_S 3

struct guest {
	struct mem *mem;
	struct engine *engine;
	struct engine_vcpu *vcpu;
	struct cpu_state user; /* a template, in ring 3 */
	struct cpu_state cpu;
	struct features features;
	const struct diff_job *job; /* the last, or NULL: for the watchdog */
	uint16_t port;              /* written by the run; 0: none */

	pthread_t watchdog;
	bool watched;
	_Atomic bool stop, hung;
	_Atomic uint64_t runs; /* started and ended: odd while it runs */
};

/* ---- what the engine calls ---------------------------------------------- */

static void
host_pio(void *arg, unsigned vcpu, uint16_t port, bool write, unsigned size,
    void *data, uint32_t count)
{
	struct guest *guest = arg;

	if (write) {
		guest->port = port;
		engine_kick(guest->vcpu);
	} else {
		memset(data, 0xff, size * count);
	}
}

static void
host_mmio(void *arg, unsigned vcpu, gpa_t gpa, bool write, unsigned size,
    void *data)
{
	if (!write)
		memset(data, 0xff, size);
}

static uint8_t
host_intack(void *arg)
{
	return 0xff;
}

static bool
host_intr(void *arg)
{
	return false;
}

static void
host_eoi(void *arg, uint8_t vector)
{
}

/* ---- memory ------------------------------------------------------------- */

static void
put(struct guest *guest, gpa_t gpa, const void *data, size_t len)
{
	int rc = mem_write(guest->mem, gpa, data, len);

	assert(rc == 0);
	(void)rc;
}

static void
put64(struct guest *guest, gpa_t gpa, uint64_t value)
{
	put(guest, gpa, &value, 8);
}

static gpa_t
page_gpa(unsigned page)
{
	return PAGES + page * DIFF_PAGE;
}

static void
fill_paging(struct guest *guest)
{
	_Static_assert(DIFF_CODE % (2 * MIB) == 0 &&
		DIFF_STACK < DIFF_CODE + 2 * MIB,
	    "one page table holds them all");
	put64(guest, PML4, USER_PDPT | PTE_P | PTE_W | PTE_U);
	put64(guest, PML4 + 511 * 8, KERNEL_PDPT | PTE_P | PTE_W);
	put64(guest, USER_PDPT, USER_PD | PTE_P | PTE_W | PTE_U);
	put64(guest, USER_PD + DIFF_CODE / (2 * MIB) * 8,
	    USER_PT | PTE_P | PTE_W | PTE_U);
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		const struct diff_page *p = &diff_pages[i];

		put64(guest, USER_PT + (p->lin - DIFF_CODE) / DIFF_PAGE * 8,
		    page_gpa(i) | PTE_P | PTE_U | (p->write ? PTE_W : 0) |
			(p->exec ? 0 : PTE_NX));
		put(guest, page_gpa(i), diff_pristine[i], DIFF_PAGE);
	}
	put64(guest, KERNEL_PDPT, KERNEL_PD | PTE_P | PTE_W);
	put64(guest, KERNEL_PD, PTE_PS | PTE_P | PTE_W);
}

static void
fill_tables(struct guest *guest)
{
	static const uint64_t gdt[] = {
		[SEL_KERNEL_CS / 8] = 0x00af9b000000ffff,
		[SEL_KERNEL_SS / 8] = 0x00cf93000000ffff,
		[DIFF_SEL_CS32 / 8] = 0x00cffb000000ffff,
		[DIFF_SEL_DATA / 8] = 0x00cff3000000ffff,
		[DIFF_SEL_CS64 / 8] = 0x00affb000000ffff,
		[SEL_TSS / 8] = 0x80008b0000000067 | (uint64_t)TSS << 16,
		[SEL_TSS / 8 + 1] = KERNEL >> 32,
	};
	static const uint16_t no_ports =
	    0x68; /* the bitmap: beyond the limit */
	static const uint8_t probe[] = { 0x0f, 0xa2, 0xe6, PORT_PROBE, 0xeb,
		0xfe }; /* cpuid; out; jmp . */

	put(guest, GDT, gdt, sizeof(gdt));
	put64(guest, TSS + 4, KERNEL + STACK_TOP);
	put(guest, TSS + 0x66, &no_ports, sizeof(no_ports));
	for (unsigned v = 0; v < VECTORS; v++) {
		uint64_t handler = KERNEL + HANDLERS + 8 * v;
		uint8_t out[] = { 0xe6, (uint8_t)(PORT_VECTOR + v), 0xeb,
			0xfe };
		/* INT3 and INTO are for everybody. */
		uint64_t access = v == 3 || v == 4 ? 0xee00 : 0x8e00;

		put(guest, HANDLERS + 8 * v, out, sizeof(out));
		put64(guest, IDT + 16 * v,
		    (handler & 0xffff) | SEL_KERNEL_CS << 16 | access << 32 |
			(handler >> 16 & 0xffff) << 48);
		put64(guest, IDT + 16 * v + 8, handler >> 32);
	}
	put(guest, PROBE, probe, sizeof(probe));
}

static void
segment(struct cpu_segment *seg, uint16_t selector, uint64_t base,
    uint32_t limit, uint32_t access)
{
	seg->selector = selector;
	seg->base = base;
	seg->limit = limit;
	seg->access = access;
}

static void
set_segments(struct cpu_state *cpu, unsigned bits)
{
	switch (bits) {
	case DIFF_16:
		segment(&cpu->seg[CPU_CS], DIFF_SEL_CS16, DIFF_CODE,
		    DIFF_CODE_SIZE - 1, 0xfb);
		segment(&cpu->seg[CPU_DS], DIFF_SEL_DATA16, DIFF_DATA,
		    DIFF_DATA_END - DIFF_DATA - 1, 0xf3);
		cpu->seg[CPU_ES] = cpu->seg[CPU_DS];
		segment(&cpu->seg[CPU_SS], DIFF_SEL_STACK16, DIFF_STACK,
		    DIFF_STACK_SIZE - 1, 0xf3);
		break;
	case DIFF_32:
		segment(&cpu->seg[CPU_CS], DIFF_SEL_CS32, 0, 0xffffffff,
		    0xc0fb);
		break;
	default:
		break;
	}
}

/* ---- running ------------------------------------------------------------ */

/* Not even a kick helps: nothing more can be done than to tell. */
static _Noreturn void
stuck(const struct guest *guest)
{
	printf("Bail out! engine_run() does not come back from\n");
	if (guest->job != NULL)
		diff_print_case(stdout, guest->job);
	(void)fflush(stdout);
	_exit(1);
}

static void *
watchdog_main(void *arg)
{
	struct guest *guest = arg;
	uint64_t last = 0;
	unsigned same = 0;

	while (!atomic_load(&guest->stop)) {
		uint64_t runs = atomic_load(&guest->runs);

		same = runs == last && runs % 2 == 1 ? same + 1 : 0;
		last = runs;
		if (same > HUNG_S * 10) {
			atomic_store(&guest->hung, true);
			engine_kick(guest->vcpu);
		}
		if (same > 2 * HUNG_S * 10)
			stuck(guest);
		(void)nanosleep(&(struct timespec) { 0, 100000000 }, NULL);
	}
	return NULL;
}

/* Run what guest->cpu says until a port is written; cpu is then the result. */
static int
run(struct guest *guest, struct err *err)
{
	struct engine_exit exit;
	int rc = engine_set(guest->vcpu, &guest->cpu, err);

	if (rc < 0)
		return rc;
	guest->port = 0;
	atomic_store(&guest->hung, false);
	atomic_fetch_add(&guest->runs, 1);
	do {
		engine_run(guest->vcpu, &exit);
	} while (exit.reason == ENGINE_EXIT_KICKED && guest->port == 0 &&
	    !atomic_load(&guest->hung));
	atomic_fetch_add(&guest->runs, 1);
	if (exit.reason == ENGINE_EXIT_ERROR) {
		*err = exit.err;
		return -EIO;
	}
	if (exit.reason != ENGINE_EXIT_KICKED)
		return err_set(err, -EIO, "the guest ended with reason %d",
		    exit.reason);
	return engine_get(guest->vcpu, &guest->cpu, err);
}

static void
guest_cpuid(void *arg, uint32_t leaf, uint32_t subleaf, uint32_t reg[static 4])
{
	struct guest *guest = arg;
	struct err err = { .msg = "" };

	guest->cpu = guest->user;
	guest->cpu.seg[CPU_CS].selector = SEL_KERNEL_CS;
	guest->cpu.seg[CPU_CS].access = 0xa09b;
	guest->cpu.seg[CPU_SS].selector = SEL_KERNEL_SS;
	guest->cpu.seg[CPU_SS].access = 0xc093;
	guest->cpu.rip = KERNEL + PROBE;
	guest->cpu.gpr[CPU_RAX] = leaf;
	guest->cpu.gpr[CPU_RCX] = subleaf;
	memset(reg, 0, 16);
	if (run(guest, &err) < 0 || guest->port != PORT_PROBE) {
		fprintf(stderr, "CPUID of the guest: %s\n", err.msg);
		return;
	}
	reg[0] = (uint32_t)guest->cpu.gpr[CPU_RAX];
	reg[1] = (uint32_t)guest->cpu.gpr[CPU_RBX];
	reg[2] = (uint32_t)guest->cpu.gpr[CPU_RCX];
	reg[3] = (uint32_t)guest->cpu.gpr[CPU_RDX];
}

/* From one layout of vector state to another, as far as `x` goes. */
static void
convert_xsave(uint8_t *to, const struct xlayout *to_x, const uint8_t *from,
    const struct xlayout *from_x, const struct xlayout *x)
{
	memcpy(to, from, 576);
	for (unsigned i = XCOMP_AVX; i < XCOMPS; i++) {
		if (x->mask & BIT(i))
			memcpy(to + to_x->at[i], from + from_x->at[i],
			    x->len[i]);
	}
}

static void
store_memory(struct guest *guest, struct diff_result *result)
{
	result->dirty = 0;
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		const uint8_t *was = diff_pristine[i];
		const uint8_t *is =
		    mem_ptr_read(guest->mem, page_gpa(i), DIFF_PAGE);
		unsigned first = 0, last = DIFF_PAGE - 1;

		assert(is != NULL);
		if (memcmp(is, was, DIFF_PAGE) == 0)
			continue;
		result->dirty |= (uint32_t)BIT(i);
		memcpy(result->page[i], is, DIFF_PAGE);
		while (is[first] == was[first])
			first++;
		while (is[last] == was[last])
			last--;
		put(guest, page_gpa(i) + first, was + first, last - first + 1);
	}
}

int
guest_run(struct guest *guest, const struct diff_job *job,
    const struct xlayout *x, struct diff_result *result, struct err *err)
{
	const struct diff_state *from = &job->start;
	struct diff_state *end = &result->end;
	struct cpu_state *cpu = &guest->cpu;
	uint64_t frame[6];
	unsigned vector, at;
	int rc;

	guest->job = job;
	*cpu = guest->user;
	memcpy(cpu->gpr, from->gpr, sizeof(cpu->gpr));
	cpu->rip = from->rip;
	cpu->rflags = from->rflags;
	set_segments(cpu, job->bits);
	cpu->seg[CPU_FS].base = from->fs_base;
	cpu->seg[CPU_GS].base = from->gs_base;
	convert_xsave(cpu->xsave, &guest->features.x, from->xsave, x, x);
	memcpy(cpu->xsave + 512, &x->mask, 8);
	put(guest, page_gpa(0) + from->rip % DIFF_CODE, job->code,
	    job->code_len);
	rc = run(guest, err);
	if (rc < 0)
		return rc;

	memcpy(end->gpr, cpu->gpr, sizeof(end->gpr));
	end->fs_base = cpu->seg[CPU_FS].base;
	end->gs_base = cpu->seg[CPU_GS].base;
	memset(end->xsave, 0, sizeof(end->xsave));
	convert_xsave(end->xsave, x, cpu->xsave, &guest->features.x, x);
	diff_xsave_canon(end->xsave, x);
	store_memory(guest, result);
	vector = (unsigned)guest->port - PORT_VECTOR;
	if (vector >= VECTORS) {
		result->outcome = DIFF_HUNG;
		end->rip = cpu->rip;
		end->rflags = cpu->rflags;
		end->vector = end->error = 0;
		end->cr2 = 0;
		return 0;
	}
	at = HAS_ERROR & BIT(vector) ? 0 : 1;
	rc = mem_read(guest->mem, STACK_TOP - sizeof(frame), frame,
	    sizeof(frame));
	if (rc < 0 || cpu->gpr[CPU_RSP] != KERNEL + STACK_TOP - 48 + 8 * at)
		return err_set(err, -EIO,
		    "vector %u: the frame is not where it belongs: rsp %#llx",
		    vector, (unsigned long long)cpu->gpr[CPU_RSP]);
	result->outcome = DIFF_RAISED;
	end->vector = vector;
	end->error = at == 0 ? (uint32_t)frame[0] : 0;
	end->cr2 = vector == 14 ? cpu->cr2 : 0;
	end->rip = frame[1];
	end->rflags = frame[3];
	end->gpr[CPU_RSP] = frame[4];
	return 0;
}

/* ---- made and freed ----------------------------------------------------- */

static void
fill_user(struct cpu_state *cpu)
{
	cpu->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
	cpu->cr3 = PML4;
	cpu->cr4 = 0x50620 | BIT(7); /* OSXSAVE FSGSBASE XMM FXSR PAE, PGE */
	cpu->efer = 0xd01;           /* NXE LMA LME SCE */
	cpu->gdtr = (struct cpu_table) { KERNEL + GDT, 0x4f };
	cpu->idtr = (struct cpu_table) { KERNEL + IDT, VECTORS * 16 - 1 };
	for (unsigned i = CPU_ES; i <= CPU_DS; i++)
		segment(&cpu->seg[i], DIFF_SEL_DATA, 0, 0xffffffff, 0xc0f3);
	segment(&cpu->seg[CPU_FS], 0, 0, 0, CPU_SEG_UNUSABLE);
	segment(&cpu->seg[CPU_GS], 0, 0, 0, CPU_SEG_UNUSABLE);
	segment(&cpu->seg[CPU_CS], DIFF_SEL_CS64, 0, 0xffffffff, 0xa0fb);
	segment(&cpu->seg[CPU_LDTR], 0, 0, 0, CPU_SEG_UNUSABLE);
	segment(&cpu->seg[CPU_TR], SEL_TSS, KERNEL + TSS, 0x67, 0x8b);
	cpu->rflags = 2;
	cpu->gpr[CPU_RSP] = KERNEL + STACK_TOP;
	cpu->run_state = CPU_RUNNING;
	cpu->msr_count = 0; /* as after reset */
}

int
guest_new(const char *engine, const char *model, struct guest **guest,
    struct err *err)
{
	static const struct mem_params mem_params;
	struct guest *g = calloc(1, sizeof(*g));
	struct engine_params params = {
		.vcpus = 1,
		.sockets = 1,
		.cores = 1,
		.threads = 1,
		.soft.cpu_model = model,
		.host = { .pio = host_pio,
		    .mmio = host_mmio,
		    .intack = host_intack,
		    .intr = host_intr,
		    .eoi = host_eoi,
		    .arg = g },
	};
	int rc;

	if (g == NULL)
		return err_set(err, -ENOMEM, "no memory");
	rc = err_set(err, -ENOMEM, "no memory");
	params.mem = g->mem = mem_new(&mem_params);
	if (g->mem == NULL)
		goto fail;
	rc = mem_add(g->mem, "ram", MEM_RAM, 0, RAM_SIZE, err);
	if (rc < 0)
		goto fail;
	fill_paging(g);
	fill_tables(g);
	rc = engine_new(engine, &params, &g->engine, err);
	if (rc < 0)
		goto fail;
	rc = engine_vcpu_new(g->engine, 0, &g->vcpu, err);
	if (rc < 0)
		goto fail;
	rc = engine_get(g->vcpu, &g->user, err);
	if (rc < 0)
		goto fail;
	rc = -pthread_create(&g->watchdog, NULL, watchdog_main, g);
	if (rc < 0) {
		err_set_errno(err, rc, "no thread");
		goto fail;
	}
	g->watched = true;
	fill_user(&g->user);
	features_read(&g->features, guest_cpuid, g);
	g->user.xcr0 = g->features.x.mask;
	if (!(g->features.x.mask & BIT(XCOMP_SSE))) {
		rc = err_set(err, -EIO, "the guest has no XSAVE");
		goto fail;
	}
	*guest = g;
	return 0;

fail:
	guest_free(g);
	return rc;
}

void
guest_free(struct guest *guest)
{
	if (guest == NULL)
		return;
	if (guest->watched) {
		atomic_store(&guest->stop, true);
		(void)pthread_join(guest->watchdog, NULL);
	}
	engine_vcpu_free(guest->vcpu);
	engine_free(guest->engine);
	mem_free(guest->mem);
	free(guest);
}

const struct features *
guest_features(const struct guest *guest)
{
	return &guest->features;
}
