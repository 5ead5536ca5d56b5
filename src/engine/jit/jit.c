/*
 * The software engine: a machine whose processors are programs.
 *
 * Two engines in one: "jit" translates guest code to host code (translate.c),
 * "interp" runs every instruction through the interpreter, to compare with.
 * Both have the same processors (engine/x86), local APICs and time.
 *
 * CPUID        is the host's, cut down to a named model (model.c) and edited as
 *              for every engine (cpuid.h).
 * Time         Machine time is CLOCK_MONOTONIC less what the machine stood
 *              still.  The guest's TSC is the host's, less an offset that is
 *              the same for all vCPUs unless the guest sets its own.
 * Memory       The listener keeps a flat list of regions with a byte a page
 *              for "has translated code" and "was written".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "base/alloc.h"
#include "engine/jit/jit_impl.h"

#define TSC_PROBE_NS 2000000ULL

uint64_t
jit_rdtsc(void)
{
	return __rdtsc();
}

static uint64_t
monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* ------------------------------------------------------------------ time */

uint64_t
jit_now(struct jit *jit)
{
	uint64_t now;

	lock_take(&jit->time_lock);
	now = jit->time_runs ? monotonic_ns() - jit->time_base :
			       jit->time_stopped;
	lock_drop(&jit->time_lock);
	return now;
}

static void
jit_time_start(struct engine *engine)
{
	struct jit *jit = jit_of(engine);

	lock_take(&jit->time_lock);
	if (!jit->time_runs) {
		jit->time_base = monotonic_ns() - jit->time_stopped;
		atomic_fetch_add(&jit->tsc_base,
		    jit_rdtsc() - jit->tsc_stopped);
		atomic_store(&jit->time_runs, true);
	}
	lock_drop(&jit->time_lock);
}

static void
jit_time_stop(struct engine *engine)
{
	struct jit *jit = jit_of(engine);

	lock_take(&jit->time_lock);
	if (jit->time_runs) {
		jit->time_stopped = monotonic_ns() - jit->time_base;
		jit->tsc_stopped = jit_rdtsc();
		atomic_store(&jit->time_runs, false);
	}
	lock_drop(&jit->time_lock);
}

/* Near enough for what asks: ratios in MSRs, deadlines of the local APIC. */
static uint64_t
tsc_measure(void)
{
	uint64_t t0 = monotonic_ns(), c0 = jit_rdtsc(), t1;

	do
		t1 = monotonic_ns();
	while (t1 - t0 < TSC_PROBE_NS);
	return (jit_rdtsc() - c0) * NS_PER_SEC / (t1 - t0);
}

/* ---------------------------------------------------------------- memory */

static int
mem_map(void *arg, const struct mem_region *region, struct err *err)
{
	struct jit *jit = arg;
	struct x86_mem *mem = &jit->mem;
	size_t pages = region->size / MEM_PAGE_SIZE;
	struct x86_ram *ram;

	if (mem->count == X86_RAMS_MAX || region->slot >= X86_RAMS_MAX)
		return err_set(err, -ENOSPC,
		    "memory \"%s\": more than %d regions", region->name,
		    X86_RAMS_MAX);
	ram = &mem->ram[mem->count];
	*ram = (struct x86_ram) {
		.gpa = region->gpa,
		.size = region->size,
		.host = region->host,
		.rom = region->kind == MEM_ROM,
		.slot = region->slot,
		.code = calloc(pages, 1),
		.dirty = calloc(pages, 1),
		.writers = calloc(pages, sizeof(ram->writers[0])),
	};
	jit->cache.pages[region->slot] =
	    calloc(pages, sizeof(jit->cache.pages[0][0]));
	if (ram->code == NULL || ram->dirty == NULL || ram->writers == NULL ||
	    jit->cache.pages[region->slot] == NULL) {
		free(ram->code);
		free(ram->dirty);
		free(ram->writers);
		free(jit->cache.pages[region->slot]);
		jit->cache.pages[region->slot] = NULL;
		return err_set_errno(err, -ENOMEM,
		    "memory \"%s\": what is known of its pages", region->name);
	}
	mem->count++;
	return 0;
}

static void
mem_unmap(void *arg, const struct mem_region *region)
{
	struct jit *jit = arg;
	struct x86_mem *mem = &jit->mem;

	for (unsigned i = 0; i < mem->count; i++) {
		struct x86_ram *ram = &mem->ram[i];

		if (ram->slot != region->slot)
			continue;
		free(ram->code);
		free(ram->dirty);
		free(ram->writers);
		jit_cache_forget_region(jit, ram);
		*ram = mem->ram[--mem->count];
		return;
	}
}

/*
 * Let every vCPU forget its write tags: stores are seen from now on.  Alone, until
 * world_together() of what is returned.
 */
static struct jit_vcpu *
mem_watch_stores(struct jit *jit)
{
	struct jit_vcpu *self = world_self_in(jit);

	world_alone(jit, self);
	for (unsigned i = 0; i < jit->engine.params.vcpus; i++) {
		if (jit->vcpus[i] != NULL)
			x86_tlb_flush_writes(jit->vcpus[i]->cpu);
	}
	return self;
}

static struct x86_ram *
mem_ram(struct jit *jit, const struct mem_region *region)
{
	return x86_ram_find(&jit->mem, region->gpa);
}

static int
mem_dirty_begin(void *arg, const struct mem_region *region, struct err *err)
{
	struct jit *jit = arg;
	struct x86_ram *ram = mem_ram(jit, region);

	for (size_t i = 0; i < region->size / MEM_PAGE_SIZE; i++)
		ram->dirty[i] = 0;
	jit->mem.tracking = true;
	world_together(jit, mem_watch_stores(jit));
	return 0;
}

static void
mem_dirty_end(void *arg, const struct mem_region *region)
{
	struct jit *jit = arg;

	jit->mem.tracking = false;
}

static int
mem_dirty_take(void *arg, const struct mem_region *region, uint64_t *bitmap,
    struct err *err)
{
	struct jit *jit = arg;
	struct x86_ram *ram = mem_ram(jit, region);
	struct jit_vcpu *self;

	/*
	 * Tags and bytes at once: of a page with a tag, which is written
	 * unseen, the byte must be there for the next time.
	 */
	self = mem_watch_stores(jit);
	for (size_t i = 0; i < region->size / MEM_PAGE_SIZE; i++) {
		if (ram->dirty[i]) {
			ram->dirty[i] = 0;
			bitmap[i / 64] |= BIT(i % 64);
		}
	}
	world_together(jit, self);
	return 0;
}

static void
mem_device_wrote(void *arg, gpa_t gpa, uint64_t len)
{
	jit_cache_wrote(arg, gpa, len);
}

static const struct mem_listener jit_mem_listener = {
	.map = mem_map,
	.unmap = mem_unmap,
	.dirty_start = mem_dirty_begin,
	.dirty_stop = mem_dirty_end,
	.dirty_fetch = mem_dirty_take,
	.wrote = mem_device_wrote,
};

/* -------------------------------------------------------------- messages */

static int
jit_send_msi(struct engine *engine, const struct engine_msi *msi)
{
	return lapic_bus_msi(jit_of(engine)->apics, msi->addr, msi->data);
}

/* Only the first vCPU's LINT0 is wired to the 8259A pair. */
static void
jit_intr(struct engine *engine)
{
	struct jit_vcpu *bsp = jit_of(engine)->vcpus[0];

	if (bsp == NULL)
		return;
	atomic_store(&bsp->extint, true);
	jit_vcpu_attend(bsp, X86_ATTENTION_INTR);
}

static void
jit_watch_eoi(struct engine *engine, unsigned pin, const struct engine_msi *msi)
{
	struct jit *jit = jit_of(engine);
	uint64_t vectors[4] = { 0 };

	lock_take(&jit->pin_lock);
	jit->pins[pin].on = msi != NULL;
	if (msi != NULL)
		jit->pins[pin].msi = *msi;
	for (unsigned i = 0; i < ENGINE_EOI_PINS; i++) {
		unsigned vector = jit->pins[i].msi.data & 0xff;

		if (jit->pins[i].on)
			vectors[vector / 64] |= BIT(vector % 64);
	}
	for (unsigned i = 0; i < 4; i++)
		atomic_store(&jit->eoi_vectors[i], vectors[i]);
	lock_drop(&jit->pin_lock);
}

/* ------------------------------------------------------------------ life */

static void
jit_destroy(struct engine *engine)
{
	struct jit *jit = jit_of(engine);

	if (jit->listens)
		mem_clear_listener(engine->params.mem);
	jit_inspect_fini(jit);
	jit_cache_fini(jit);
	lapic_bus_free(jit->apics);
	pthread_cond_destroy(&jit->world_cond);
	pthread_mutex_destroy(&jit->world);
	lock_fini(&jit->pin_lock);
	lock_fini(&jit->time_lock);
	lock_fini(&jit->code_lock);
	lock_fini(&jit->single_lock);
	free(jit);
}

static int
create(const struct engine_ops *ops, bool translates,
    const struct engine_params *params, struct engine **engine, struct err *err)
{
	struct jit *jit = xcalloc(1, sizeof(*jit));
	int rc;

	jit->engine.ops = ops;
	jit->engine.params = *params;
	jit->translates = translates;
	lock_init(&jit->single_lock);
	lock_init(&jit->code_lock);
	lock_init(&jit->time_lock);
	lock_init(&jit->pin_lock);
	pthread_mutex_init(&jit->world, NULL);
	pthread_cond_init(&jit->world_cond, NULL);
	rc = model_cpuid(params->soft.cpu_model, &jit->model, err);
	if (rc != 0)
		goto fail;
	jit->tsc_hz = tsc_measure();
	jit->tsc_stopped = 0;
	jit->msr = (struct msr_params) {
		.vendor = cpuid_vendor(&jit->model),
		.tsc_hz = jit->tsc_hz,
	};
	jit->apics = lapic_bus_new(params->vcpus);
	rc = jit_cache_init(jit, err);
	if (rc == 0)
		rc = jit_inspect_init(jit, err);
	if (rc != 0)
		goto fail;
	rc = mem_set_listener(params->mem, &jit_mem_listener, jit, err);
	if (rc != 0)
		goto fail;
	jit->listens = true;
	*engine = &jit->engine;
	return 0;

fail:
	jit_destroy(&jit->engine);
	return rc;
}

static int
jit_create(const struct engine_params *params, struct engine **engine,
    struct err *err)
{
	return create(&engine_jit_ops, true, params, engine, err);
}

static int
interp_create(const struct engine_params *params, struct engine **engine,
    struct err *err)
{
	return create(&engine_interp_ops, false, params, engine, err);
}

/* What translated code and the interpreter's vector instructions stand on. */
static int
jit_probe(struct err *err)
{
	struct cpuid_table *model = xcalloc(1, sizeof(*model));
	int rc = model_cpuid(NULL, model, err);

	free(model);
	return rc;
}

/* Two names for one engine: all but how it is made is the same. */
#define SOFT_ENGINE(called, made_by)                                      \
	{                                                                 \
		.name = called, .probe = jit_probe, .create = made_by,    \
		.destroy = jit_destroy, .vcpu_create = jit_vcpu_create,   \
		.vcpu_destroy = jit_vcpu_destroy, .run = jit_vcpu_run,    \
		.kick = jit_vcpu_kick, .get = jit_vcpu_get,               \
		.set = jit_vcpu_set, .halted = jit_vcpu_halted,           \
		.send_msi = jit_send_msi, .intr = jit_intr,               \
		.nmi = jit_vcpu_nmi, .watch_eoi = jit_watch_eoi,          \
		.time_stop = jit_time_stop, .time_start = jit_time_start, \
		.stats = jit_stats,                                       \
	}

const struct engine_ops engine_jit_ops = SOFT_ENGINE("jit", jit_create);
const struct engine_ops engine_interp_ops =
    SOFT_ENGINE("interp", interp_create);
