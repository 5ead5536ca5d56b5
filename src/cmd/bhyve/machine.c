/*
 * Assembly of a machine.
 *
 * The order is bhyve's, because a person sees it: what is wrong with the
 * topology is said before what is wrong with a disk.
 *
 *      topology, memory, engine         vm_new
 *      interrupt chips, board           irq_chip_new, board[]
 *      PCI devices, by address          pci_create_devices
 *      MP table, SMBIOS, ACPI           machine_tables
 *      kernel                           machine_boot
 */
#include <errno.h>
#include <stdlib.h>

#include "base/parse.h"
#include "cmd/bhyve/machine.h"
#include "cmd/bhyve/machine_impl.h"
#include "irq/irq.h"
#include "pci/pci.h"
#include "vm/device.h"

#define CPUS_MAX UINT16_MAX

/* Always there, in this order: the PCI host bridge asks for "reset". */
static const char *const board[] = { "i8042", "reset", "pit", "rtc", "hpet",
	"acpi_pm" };

/* ---- what this version lacks -------------------------------------------- */

/* A set key of bhyve's, or a node with something in it, that stands for ... */
static const struct {
	const char *key;
	const char *what;
} absent[] = {
	{ "lpc.bootrom", "unknown LPC device \"bootrom\"" },
	{ "bootrom", "unknown LPC device \"bootrom\"" },
	{ "tpm", "unknown LPC device \"tpm\"" },
	{ "fwcfg", "fw_cfg items (-f) are not available" },
	{ "domains", "NUMA domains (-n) are not available" },
};

/* The same for booleans, absent only where they are true. */
static const struct {
	const char *key;
	const char *what;
} absent_bools[] = {
	{ "lpc.pc-testdev", "unknown LPC device \"pc-testdev\"" },
	{ "gdb.wait", "the debug server (-G) is not available" },
	{ "suspend_at_boot", "suspending at boot (-d) is not available" },
};

static int
machine_check_absent(struct config *root, struct err *err)
{
	int64_t port;
	bool value;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
		if (config_has(root, absent[i].key) ||
		    config_find(root, absent[i].key) != NULL)
			return err_set(err, -ENOTSUP, "%s", absent[i].what);
	}
	for (size_t i = 0; i < ARRAY_SIZE(absent_bools); i++) {
		r = config_bool(root, absent_bools[i].key, false, &value, err);
		if (r == 0 && value)
			r = err_set(err, -ENOTSUP, "%s", absent_bools[i].what);
		if (r < 0)
			return r;
	}
	r = config_int(root, "gdb.port", 0, -UINT16_MAX, UINT16_MAX, &port,
	    err);
	if (r == 0 && port != 0)
		r = err_set(err, -ENOTSUP,
		    "the debug server (-G) is not available");
	return r;
}

/* ---- parameters --------------------------------------------------------- */

int
machine_mem_size(struct config *root, uint64_t *size, struct err *err)
{
	char *text;
	int r = config_str(root, "memory.size", "256M", &text, err);

	if (r < 0)
		return r;
	r = parse_memsize(text, size);
	/* The engines map whole pages. */
	if (r == 0 && (*size == 0 || *size % MEM_PAGE_SIZE != 0))
		r = -EINVAL;
	if (r < 0)
		(void)err_set(err, r, "invalid memsize '%s'", text);
	free(text);
	return r;
}

int
machine_check_boot(struct config *root, struct err *err)
{
	if (config_has(root, "boot.kernel") ||
	    config_has(root, "lpc.bootrom") || config_has(root, "bootrom"))
		return 0;
	return err_set(err, -ENOEXEC, "virtual machine cannot be booted");
}

/* *value holds the default. */
static int
config_count(struct config *root, const char *key, unsigned *value,
    struct err *err)
{
	int64_t n;
	int r = config_int(root, key, *value, 1, CPUS_MAX, &n, err);

	if (r == 0)
		*value = (unsigned)n;
	return r;
}

/* One socket for each CPU, or as few as the cores and threads of one allow. */
static int
machine_topology(struct config *root, struct vm_params *params, struct err *err)
{
	unsigned cpus = 1, sockets = 1, cores = 1, threads = 1;
	uint64_t product;
	int r = config_count(root, "cpus", &cpus, err);

	if (r == 0)
		r = config_count(root, "cores", &cores, err);
	if (r == 0)
		r = config_count(root, "threads", &threads, err);
	product = (uint64_t)cores * threads;
	if (config_has(root, "cpus"))
		sockets =
		    cpus % product == 0 ? (unsigned)(cpus / product) : cpus;
	if (r == 0)
		r = config_count(root, "sockets", &sockets, err);
	if (r < 0)
		return r;
	product *= sockets;
	if (product > CPUS_MAX)
		return err_set(err, -EINVAL,
		    "Computed number of vCPUs too high: %ju",
		    (uintmax_t)product);
	if (config_has(root, "cpus") && product != cpus)
		return err_set(err, -EINVAL,
		    "Topology (%u sockets, %u cores, %u threads) does not "
		    "match %u vCPUs",
		    sockets, cores, threads, cpus);
	if (product > ENGINE_VCPUS_MAX)
		return err_set(err, -EINVAL,
		    "%ju vCPUs requested but only %u available",
		    (uintmax_t)product, ENGINE_VCPUS_MAX);
	params->vcpus = (unsigned)product;
	params->sockets = sockets;
	params->cores = cores;
	params->threads = threads;
	return 0;
}

/* Room for translated code: some blocks at least, and less than 2 GiB. */
static int
machine_cache_size(struct config *root, uint64_t *size, struct err *err)
{
	char *text;
	int r = config_str(root, "jit.cache_size", "64M", &text, err);

	if (r == 0 &&
	    (parse_size(text, size) < 0 || *size < MIB || *size > GIB))
		r = err_set(err, -EINVAL,
		    "jit.cache_size: '%s' is not a size from 1M to 1G", text);
	free(text);
	return r;
}

static int
machine_flags(struct config *root, struct vm_params *params, struct err *err)
{
	/* HLT leaves the guest in any case: no engine lets it burn a core. */
	bool exit_on_hlt, chain, native;
	const struct {
		const char *key;
		bool dflt;
		bool *value;
	} flags[] = {
		{ "jit.chain", true, &chain },
		{ "jit.native", true, &native },
		{ "jit.perf_map", false, &params->soft.perf_map },
		{ "memory.guest_in_core", false, &params->mem.in_core },
		{ "memory.hugepages", false, &params->mem.hugepages },
		{ "memory.wired", false, &params->mem.wired },
		{ "x86.strictio", false, &params->strict_io },
		{ "x86.strictmsr", true, &params->strict_msr },
		{ "x86.vmexit_on_hlt", true, &exit_on_hlt },
		{ "x86.vmexit_on_pause", false, &params->exit_on_pause },
		{ "x86.x2apic", false, &params->x2apic },
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(flags) && r == 0; i++)
		r = config_bool(root, flags[i].key, flags[i].dflt,
		    flags[i].value, err);
	if (r == 0) {
		params->soft.no_chain = !chain;
		params->soft.no_native = !native;
		r = machine_cache_size(root, &params->soft.cache_size, err);
	}
	return r;
}

/* vcpu.N.cpuset, as -p fills it. */
static int
machine_pin(struct vm *vm, struct err *err)
{
	struct config *node = config_find(vm_config(vm), "vcpu"), *vcpu = NULL;
	char *text;
	int r = 0;

	while (node != NULL && r == 0 &&
	    (vcpu = config_child(node, vcpu)) != NULL) {
		uint64_t number;
		cpu_set_t cpus;

		if (config_value(vcpu) != NULL)
			return err_set(err, -EINVAL, "vcpu.%s: not a vCPU",
			    config_name(vcpu));
		r = config_str(vcpu, "cpuset", NULL, &text, err);
		if (r < 0 || text == NULL)
			continue;
		CPU_ZERO(&cpus);
		if (parse_uint(config_name(vcpu), vm_vcpus(vm) - 1, &number) <
		    0)
			r = err_set(err, -EINVAL,
			    "vcpu.%s.cpuset: the machine has %u vCPUs",
			    config_name(vcpu), vm_vcpus(vm));
		else if (parse_cpus(text, &cpus) < 0)
			r = err_set(err, -EINVAL,
			    "vcpu.%s.cpuset: not a list of CPUs: '%s'",
			    config_name(vcpu), text);
		else
			vm_pin(vm, (unsigned)number, &cpus);
		free(text);
	}
	return r;
}

/* ---- all of it ---------------------------------------------------------- */

int
machine_new(struct config *root, struct loop *loop, struct vm **vmp,
    struct err *err)
{
	struct vm_params params = { .config = root, .loop = loop };
	char *name = NULL, *engine = NULL, *cpu = NULL, *dump = NULL;
	struct vm *vm = NULL;
	gpa_t rsdp;
	int r = machine_topology(root, &params, err);

	if (r == 0)
		r = machine_mem_size(root, &params.mem_size, err);
	if (r == 0)
		r = machine_flags(root, &params, err);
	if (r == 0)
		r = machine_check_absent(root, err);
	if (r == 0)
		r = config_str(root, "name", "", &name, err);
	if (r == 0)
		r = config_str(root, "engine", "auto", &engine, err);
	if (r == 0)
		r = config_str(root, "cpu", NULL, &cpu, err);
	if (r == 0)
		r = config_str(root, "jit.dump", NULL, &dump, err);
	if (r < 0)
		goto out;
	params.name = name;
	params.engine = engine;
	params.soft.cpu_model = cpu;
	params.soft.dump = dump;
	r = vm_new(&params, &vm, err);
	if (r == 0)
		r = machine_pin(vm, err);
	if (r == 0)
		r = irq_chip_new(vm, err);
	for (size_t i = 0; i < ARRAY_SIZE(board) && r == 0; i++)
		r = device_new(vm, board[i], board[i],
		    config_find(root, board[i]), NULL, err);
	if (r == 0)
		r = pci_create_devices(vm, err);
	if (r == 0)
		r = machine_tables(vm, &rsdp, err);
	if (r == 0)
		r = machine_boot(vm, rsdp, err);
	if (r == 0)
		*vmp = vm;
	else
		vm_free(vm);
out:
	free(name);
	free(engine);
	free(cpu);
	free(dump);
	return r;
}
