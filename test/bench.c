/*
 * The bench: a machine without vCPUs and an engine that only takes notes.
 *
 * The engine is called "bench" and registers itself when the first bench is
 * made; each engine knows its bench, because tests of saved state hold two
 * machines at a time.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "engine/engine_impl.h"
#include "event/event.h"
#include "pci/pci.h"
#include "test/bench.h"
#include "vm/bus.h"

#define BENCH_MEM (16 * MIB)

struct bench_engine {
	struct engine engine; /* first: the core sees this */
	struct bench *bench;  /* borrowed */
};

/* The bench being made: vm_new() creates the engine before we know the vm. */
static struct bench *bench_making;

static const struct engine_ops bench_engine_ops;

static int
bench_engine_create(const struct engine_params *params, struct engine **engine,
    struct err *err)
{
	struct bench_engine *be = xcalloc(1, sizeof(*be));

	be->engine.ops = &bench_engine_ops;
	be->engine.params = *params;
	be->bench = bench_making;
	*engine = &be->engine;
	return 0;
}

static void
bench_engine_destroy(struct engine *engine)
{
	free(container_of(engine, struct bench_engine, engine));
}

static struct bench *
bench_of(struct engine *engine)
{
	return container_of(engine, struct bench_engine, engine)->bench;
}

static int
bench_engine_send_msi(struct engine *engine, const struct engine_msi *msi)
{
	struct bench *b = bench_of(engine);

	if (b->deaf)
		return -EINVAL;
	if (b->msi_count == ARRAY_SIZE(b->msi)) {
		memmove(&b->msi[0], &b->msi[1],
		    sizeof(b->msi) - sizeof(b->msi[0]));
		b->msi_count--;
	}
	b->msi[b->msi_count++] = *msi;
	return 0;
}

static void
bench_engine_intr(struct engine *engine)
{
	bench_of(engine)->intr_count++;
}

static void
bench_engine_watch_eoi(struct engine *engine, unsigned pin,
    const struct engine_msi *msi)
{
	struct bench *b = bench_of(engine);

	b->eoi_watched[pin] = msi != NULL;
	if (msi != NULL)
		b->eoi_watch[pin] = *msi;
}

static struct bench_irqfd *
bench_find_irqfd(struct bench *b, int fd)
{
	for (size_t i = 0; i < ARRAY_SIZE(b->irqfds); i++) {
		if (b->irqfds[i].fd == fd)
			return &b->irqfds[i];
	}
	return NULL;
}

static int
bench_engine_irqfd(struct engine *engine, int fd, const struct engine_msi *msi)
{
	struct bench *b = bench_of(engine);
	struct bench_irqfd *irqfd = bench_find_irqfd(b, fd);

	if (!b->irqfd)
		return -ENOTSUP;
	if (msi == NULL) {
		if (irqfd != NULL)
			irqfd->fd = -1;
		return 0;
	}
	if (msi->addr >> 20 != 0xfee)
		return -EINVAL;
	if (irqfd == NULL)
		irqfd = bench_find_irqfd(b, -1);
	if (irqfd == NULL)
		return -ENOSPC;
	*irqfd = (struct bench_irqfd) { fd, *msi };
	return 0;
}

static const struct engine_ops bench_engine_ops = {
	.name = "bench",
	.create = bench_engine_create,
	.destroy = bench_engine_destroy,
	.send_msi = bench_engine_send_msi,
	.intr = bench_engine_intr,
	.watch_eoi = bench_engine_watch_eoi,
	.irqfd = bench_engine_irqfd,
};

/* A failure to build a bench is the test's failure, with the sentence. */
static void
bench_require(int result, const struct err *err, const char *what)
{
	if (result < 0) {
		print_error("bench: %s: %s\n", what, err->msg);
		fail();
	}
}

static struct device *
bench_device(struct bench *b, const char *model, const char *name)
{
	const char *path = config_raw(b->config, "bench.node");
	const struct device_model *known;
	struct config *node = NULL;
	struct device *dev;
	struct err err;

	if (path != NULL)
		bench_require(config_make(b->config, path, &node, &err), &err,
		    path);
	/* The host of PCI devices comes before them, and places after. */
	known = device_model_find(model);
	if (known != NULL && known->pci_help != NULL &&
	    device_find(b->vm, "pci") == NULL)
		(void)bench_add(b, "pci", NULL);
	bench_require(device_new(b->vm, model, name, node, &dev, &err), &err,
	    model);
	bench_require(pci_assign(b->vm, &err), &err, model);
	return dev;
}

struct bench *
bench_new(const char *model, const char *const *options)
{
	static bool registered;
	struct bench *b = xcalloc(1, sizeof(*b));
	struct vm_params params = {
		.name = "bench",
		.engine = "bench",
		.mem_size = BENCH_MEM,
		.manual_clock = true,
		.sockets = 1,
		.cores = 1,
		.threads = 1,
	};
	const char *name;
	struct err err;

	if (!registered)
		engine_register(&bench_engine_ops);
	registered = true;
	b->options = options;
	for (size_t i = 0; i < ARRAY_SIZE(b->irqfds); i++)
		b->irqfds[i].fd = -1;
	b->config = config_new();
	for (; options != NULL && *options != NULL; options++)
		bench_require(config_set_option(b->config, *options, &err),
		    &err, *options);
	b->loop = loop_new(&err);
	bench_require(b->loop != NULL ? 0 : -EIO, &err, "loop");
	params.config = b->config;
	params.loop = b->loop;
	bench_making = b;
	bench_require(vm_new(&params, &b->vm, &err), &err, "machine");
	bench_require(irq_chip_new(b->vm, &err), &err, "interrupt chips");
	name = config_raw(b->config, "bench.name");
	if (name == NULL)
		name = model;
	if (model[0] != '\0') {
		/* The chips may have brought it with them. */
		b->dev = device_find(b->vm, name);
		if (b->dev == NULL)
			b->dev = bench_device(b, model, name);
	}
	return b;
}

struct bench *
bench_new_board(void)
{
	static const char *const options[] = {
		"pci.0.0.0.device=hostbridge",
		"pci.0.31.0.device=lpc",
		"pci.5.1.0.device=hostbridge",
		"pci.5.1.7.device=hostbridge",
		"pci.5.2.0.device=dummy",
		"pci.5.3.0.device=uart",
		"pci.5.4.0.device=virtio-rnd",
		NULL,
	};
	static const char *const board[] = { "i8042", "reset", "pit", "rtc",
		"hpet", "acpi_pm" };
	struct bench *b = bench_new("", options);
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(board); i++)
		(void)bench_add(b, board[i], NULL);
	bench_require(pci_create_devices(b->vm, &err), &err, "pci");
	return b;
}

void
bench_free(struct bench *b)
{
	if (b == NULL)
		return;
	vm_free(b->vm);
	loop_free(b->loop);
	config_free(b->config);
	free(b);
}

struct device *
bench_add(struct bench *b, const char *model, const char *name)
{
	struct device *dev;
	struct err err;

	bench_require(device_new(b->vm, model, name != NULL ? name : model,
			  NULL, &dev, &err),
	    &err, model);
	return dev;
}

/* ---- what a guest would do ---------------------------------------------- */

static uint64_t
bench_in(struct bench *b, struct bus *bus, uint64_t addr, unsigned size)
{
	uint64_t value = bus_read(bus, addr, size);

	b->ended = vm_ended(b->vm);
	return value;
}

static void
bench_out(struct bench *b, struct bus *bus, uint64_t addr, unsigned size,
    uint64_t value)
{
	bus_write(bus, addr, size, value);
	b->ended = vm_ended(b->vm);
}

uint8_t
bench_in8(struct bench *b, uint16_t port)
{
	return (uint8_t)bench_in(b, vm_ports(b->vm), port, 1);
}

uint16_t
bench_in16(struct bench *b, uint16_t port)
{
	return (uint16_t)bench_in(b, vm_ports(b->vm), port, 2);
}

uint32_t
bench_in32(struct bench *b, uint16_t port)
{
	return (uint32_t)bench_in(b, vm_ports(b->vm), port, 4);
}

void
bench_out8(struct bench *b, uint16_t port, uint8_t value)
{
	bench_out(b, vm_ports(b->vm), port, 1, value);
}

void
bench_out16(struct bench *b, uint16_t port, uint16_t value)
{
	bench_out(b, vm_ports(b->vm), port, 2, value);
}

void
bench_out32(struct bench *b, uint16_t port, uint32_t value)
{
	bench_out(b, vm_ports(b->vm), port, 4, value);
}

uint64_t
bench_read(struct bench *b, gpa_t gpa, unsigned size)
{
	return bench_in(b, vm_mmio(b->vm), gpa, size);
}

void
bench_write(struct bench *b, gpa_t gpa, unsigned size, uint64_t value)
{
	bench_out(b, vm_mmio(b->vm), gpa, size, value);
}

void
bench_advance(struct bench *b, uint64_t ns)
{
	clock_advance(vm_clock(b->vm), ns);
	b->ended = vm_ended(b->vm);
}

enum irq_trigger
bench_trigger(struct bench *b, unsigned line)
{
	return irq_get_trigger(vm_irq_chip(b->vm), line);
}

static const struct engine_host *
bench_host(struct bench *b)
{
	return &vm_engine(b->vm)->params.host;
}

bool
bench_intr(struct bench *b)
{
	return bench_host(b)->intr(bench_host(b)->arg);
}

uint8_t
bench_intack(struct bench *b)
{
	return bench_host(b)->intack(bench_host(b)->arg);
}

void
bench_eoi(struct bench *b, uint8_t vector)
{
	bench_host(b)->eoi(bench_host(b)->arg, vector);
}

unsigned
bench_irqs(struct bench *b, unsigned line)
{
	uint64_t before = b->rises[line];

	b->rises[line] = irq_line_rises(vm_irq_chip(b->vm), line);
	return (unsigned)(b->rises[line] - before);
}

bool
bench_line(struct bench *b, unsigned line)
{
	return irq_line_level(vm_irq_chip(b->vm), line);
}

/* ---- saved state -------------------------------------------------------- */

int
bench_load_device(struct device *dev, const void *fields, size_t len)
{
	struct buf record = { 0 };
	struct reader in;
	struct err err = { "" };
	int error;

	buf_put_str(&record, device_model(dev)->name);
	buf_put_str(&record, device_name(dev));
	buf_put_int(&record, device_model(dev)->state_version, 2);
	buf_put_int(&record, len, 4);
	buf_put(&record, fields, len);
	in = reader_make(record.data, record.len);
	error = device_load(dev, &in, &err);
	buf_fini(&record);
	/* A refusal without a sentence is a defect of its own. */
	assert_true(error == 0 || err.msg[0] != '\0');
	return error;
}

int
bench_load(struct bench *b, const void *fields, size_t len)
{
	return bench_load_device(b->dev, fields, len);
}

void
bench_save(struct bench *b, struct buf *out)
{
	device_save(b->dev, out);
}

/* A machine with the same devices, made in the same order. */
static struct bench *
bench_twin(struct bench *b)
{
	struct bench *twin = bench_new("", b->options);
	struct device *dev;
	struct err err;

	for (dev = device_next(b->vm, NULL); dev != NULL;
	     dev = device_next(b->vm, dev)) {
		/* The chips are there, and children come with their parents. */
		if (device_find(twin->vm, device_name(dev)) == NULL)
			bench_require(device_new(twin->vm,
					  device_model(dev)->name,
					  device_name(dev), device_config(dev),
					  NULL, &err),
			    &err, device_name(dev));
	}
	bench_require(pci_assign(twin->vm, &err), &err, "pci");
	if (b->dev != NULL)
		twin->dev = device_find(twin->vm, device_name(b->dev));
	return twin;
}

static void
bench_compare(struct bench *a, struct bench *b, const char *when)
{
	struct buf one = { 0 }, two = { 0 };
	size_t i;

	vm_save_devices(a->vm, &one);
	vm_save_devices(b->vm, &two);
	if (one.len != two.len || memcmp(one.data, two.data, one.len) != 0) {
		for (i = 0; i < MIN(one.len, two.len); i++) {
			if (one.data[i] != two.data[i])
				break;
		}
		print_error("bench: states differ %s: %zu and %zu bytes, first "
			    "at %zu\n",
		    when, one.len, two.len, i);
		fail();
	}
	buf_fini(&one);
	buf_fini(&two);
}

void
bench_round_trip(struct bench *b)
{
	struct bench *twin = bench_twin(b);
	struct buf saved = { 0 };
	struct reader in;
	struct err err;

	vm_save_devices(b->vm, &saved);
	in = reader_make(saved.data, saved.len);
	bench_require(vm_load_devices(twin->vm, &in, &err), &err, "load");
	assert_int_equal(reader_left(&in), 0);
	bench_compare(b, twin, "after a load");
	assert_int_equal(bench_intr(b), bench_intr(twin));
	/* And they go on alike. */
	clock_advance(vm_clock(b->vm), 3 * NS_PER_SEC / 1000);
	clock_advance(vm_clock(twin->vm), 3 * NS_PER_SEC / 1000);
	bench_compare(b, twin, "3 ms after a load");
	buf_fini(&saved);
	bench_free(twin);
}

/* ---- hammering ---------------------------------------------------------- */

static uint64_t
bench_random(uint64_t *seed)
{
	/* xorshift64: repeatable, and good enough to be awkward. */
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static uint64_t
bench_value(uint64_t *seed)
{
	switch (bench_random(seed) % 6) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return BIT(bench_random(seed) % 64);
	case 3:
		return bench_random(seed) % 16;
	case 4:
		return bench_random(seed) & 0xff;
	default:
		return bench_random(seed);
	}
}

static void
bench_poke(struct bench *b, const struct bench_range *range, uint64_t *seed)
{
	bool mmio = range->space == BUS_MMIO;
	struct bus *bus = mmio ? vm_mmio(b->vm) : vm_ports(b->vm);
	unsigned size = 1u << (bench_random(seed) % (mmio ? 4 : 3));
	uint64_t addr = range->base + bench_random(seed) % range->len;

	if (bench_random(seed) % 3 == 0)
		(void)bench_in(b, bus, addr, size);
	else
		bench_out(b, bus, addr, size, bench_value(seed));
}

/*
 * How long to go on when the environment asks for a soak, in seconds; 0: rounds
 * alone count.
 */
static time_t
bench_soak(void)
{
	const char *text = getenv("BENCH_SOAK");

	return text != NULL ? (time_t)strtol(text, NULL, 10) : 0;
}

void
bench_hammer(struct bench *b, const struct bench_range *ranges, size_t n,
    unsigned rounds, uint32_t seed)
{
	time_t until = bench_soak() != 0 ? time(NULL) + bench_soak() : 0;
	uint64_t random = seed * 0x9e3779b97f4a7c15ULL + 1;

	for (unsigned i = 0; i < rounds || time(NULL) < until; i++) {
		bench_poke(b, &ranges[bench_random(&random) % n], &random);
		switch (bench_random(&random) % 64) {
		case 0:
			bench_advance(b, bench_random(&random) % 20000000);
			break;
		case 1:
			if (bench_intr(b))
				(void)bench_intack(b);
			break;
		case 2:
			bench_eoi(b, (uint8_t)bench_random(&random));
			break;
		case 3:
			bench_advance(b, bench_random(&random) % 1000);
			break;
		default:
			break;
		}
		if (i % 5000 == 4999)
			bench_round_trip(b);
	}
}

/* ---- cmocka ------------------------------------------------------------- */

int
bench_setup(void **state, const char *model, const char *const *options)
{
	*state = bench_new(model, options);
	return 0;
}

int
bench_teardown(void **state)
{
	bench_free(*state);
	return 0;
}
