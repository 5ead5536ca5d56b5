/*
 * What machine_new() makes of a tree.  Needs an engine, so everything is
 * skipped where KVM cannot be opened.
 */
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "cmd/bhyve/machine.h"
#include "pci/pci.h"
#include "vm/device.h"
#include "vm/platform.h"

struct fixture {
	struct config *root;
	struct loop *loop;
	struct vm *vm;
};

static int
setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));

	f->root = config_new();
	f->loop = loop_new(NULL);
	*state = f;
	return f->loop != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	vm_free(f->vm);
	loop_free(f->loop);
	config_free(f->root);
	free(f);
	return 0;
}

static void
need_engine(void)
{
	if (access("/dev/kvm", R_OK | W_OK) != 0)
		skip();
}

/* options are separated by blanks. */
static int
make(struct fixture *f, const char *options, struct err *err)
{
	char *copy, *rest, *option;
	int r = 0;

	need_engine();
	vm_free(f->vm);
	f->vm = NULL;
	config_free(f->root);
	f->root = config_new();
	assert_int_equal(config_set(f->root, "name", "test", NULL), 0);
	assert_int_equal(config_set(f->root, "engine", "kvm", NULL), 0);
	copy = rest = xstrdup(options);
	while (r == 0 && (option = strsep(&rest, " ")) != NULL)
		r = option[0] == '\0' ? 0 :
					config_set_option(f->root, option, err);
	free(copy);
	return r < 0 ? r : machine_new(f->root, f->loop, &f->vm, err);
}

static void
made(struct fixture *f, const char *options)
{
	struct err err = { 0 };

	if (make(f, options, &err) != 0)
		fail_msg("%s: %s", options, err.msg);
}

static void
refused(struct fixture *f, const char *options, const char *sentence)
{
	struct err err = { 0 };

	assert_true(make(f, options, &err) < 0);
	assert_null(f->vm);
	assert_string_equal(err.msg, sentence);
}

static bool
memory_has(struct fixture *f, gpa_t gpa, const char *signature)
{
	char bytes[8];
	size_t len = strlen(signature);

	assert_int_equal(mem_read(vm_mem(f->vm), gpa, bytes, len), 0);
	return memcmp(bytes, signature, len) == 0;
}

static void
defaults(void **state)
{
	struct fixture *f = *state;
	const struct vm_params *p;
	struct cpu_state *cpu;

	made(f, "");
	p = vm_params(f->vm);
	assert_string_equal(vm_name(f->vm), "test");
	assert_int_equal(p->vcpus, 1);
	assert_int_equal(p->mem_size, 256 * MIB);
	assert_int_equal(mem_lowmem(vm_mem(f->vm)), 256 * MIB);
	assert_int_equal(mem_highmem(vm_mem(f->vm)), 0);
	assert_true(p->strict_msr);
	assert_false(p->strict_io || p->x2apic || p->exit_on_pause);
	assert_false(p->mem.wired || p->mem.hugepages || p->mem.in_core);
	assert_non_null(device_find(f->vm, "acpi_pm"));
	assert_non_null(device_find(f->vm, "rtc"));
	assert_null(device_find(f->vm, "com1"));

	/* Nothing to boot: the processor is where a reset leaves it. */
	cpu = xcalloc(1, sizeof(*cpu));
	assert_int_equal(vm_get_cpu(f->vm, 0, cpu, NULL), 0);
	assert_int_equal(cpu->rip, 0xfff0);
	assert_int_equal(cpu->seg[CPU_CS].base, 0xffff0000);
	free(cpu);
}

static void
flags(void **state)
{
	struct fixture *f = *state;
	const struct vm_params *p;

	made(f,
	    "memory.size=16M x86.strictmsr=no x86.strictio=yes "
	    "x86.x2apic=1 x86.vmexit_on_pause=on "
	    "memory.guest_in_core=true memory.wired=true");
	p = vm_params(f->vm);
	assert_false(p->strict_msr);
	assert_true(p->strict_io && p->x2apic && p->exit_on_pause);
	assert_true(p->mem.in_core && p->mem.wired);
	assert_int_equal(p->mem_size, 16 * MIB);
}

static void
memory_above_4_gib(void **state)
{
	struct fixture *f = *state;

	made(f, "memory.size=4G");
	assert_int_equal(mem_lowmem(vm_mem(f->vm)), PLAT_LOWMEM_LIMIT);
	assert_int_equal(mem_highmem(vm_mem(f->vm)),
	    4 * GIB - PLAT_LOWMEM_LIMIT);
}

static void
topologies(void **state)
{
	static const struct {
		const char *options;
		unsigned vcpus, sockets, cores, threads;
	} rows[] = {
		{ "cpus=4", 4, 4, 1, 1 },
		{ "cpus=8 cores=2 threads=2", 8, 2, 2, 2 },
		{ "cpus=4 sockets=1 cores=4", 4, 1, 4, 1 },
		{ "cores=3 threads=2", 6, 1, 3, 2 },
		{ "sockets=2", 2, 2, 1, 1 },
		{ "cpus=0x20", 32, 32, 1, 1 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct vm_params *p;

		made(f, rows[i].options);
		p = vm_params(f->vm);
		assert_int_equal(p->vcpus, rows[i].vcpus);
		assert_int_equal(p->sockets, rows[i].sockets);
		assert_int_equal(p->cores, rows[i].cores);
		assert_int_equal(p->threads, rows[i].threads);
	}
	refused(f, "cpus=4 threads=3",
	    "Topology (4 sockets, 1 cores, 3 threads) does not match 4 vCPUs");
}

static void
tables(void **state)
{
	struct fixture *f = *state;

	made(f, "pci.0.0.0.device=hostbridge pci.0.31.0.device=lpc");
	assert_true(memory_has(f, PLAT_MPTABLE_BASE, "_MP_"));
	assert_true(memory_has(f, PLAT_SMBIOS_BASE, "_SM_"));
	assert_true(memory_has(f, PLAT_ACPI_BASE, "RSD PTR "));

	made(f, "x86.mptable=false acpi_tables=false");
	assert_false(memory_has(f, PLAT_MPTABLE_BASE, "_MP_"));
	assert_true(memory_has(f, PLAT_SMBIOS_BASE, "_SM_"));
	assert_false(memory_has(f, PLAT_ACPI_BASE, "RSD PTR "));

	made(f, "acpi_tables_in_memory=false");
	assert_false(memory_has(f, PLAT_ACPI_BASE, "RSD PTR "));
}

static void
pci_devices(void **state)
{
	struct fixture *f = *state;
	struct pci_func *func;

	made(f,
	    "pci.0.0.0.device=hostbridge pci.0.0.0.model=amd "
	    "pci.0.1.0.device=lpc pci.9.2.0.device=hostbridge");
	func = pci_find(f->vm, (struct pci_addr) { 0, 0, 0 });
	assert_non_null(func);
	assert_int_equal(pci_get_cfg(func, PCI_CFG_VENDOR, 2), 0x1022);
	assert_non_null(pci_find(f->vm, (struct pci_addr) { 9, 2, 0 }));
	assert_null(pci_find(f->vm, (struct pci_addr) { 9, 2, 1 }));
	assert_non_null(device_find(f->vm, "com4"));
	refused(f, "pci.0.2.0.device=nvme",
	    "pci slot 0:2:0: unknown device \"nvme\"");
}

/* A Multiboot header, entered behind it. */
static void
write_kernel(const char *path)
{
	static const uint32_t words[9] = { 0x1badb002, 0x10000, 0xe4514ffe,
		0x100000, 0x100000, 0, 0, 0x100020, 0xf4f4f4f4 };
	FILE *out = fopen(path, "we");

	assert_non_null(out);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		le32 word = le32_make(words[i]);

		assert_int_equal(fwrite(&word, sizeof(word), 1, out), 1);
	}
	assert_int_equal(fclose(out), 0);
}

/* One module more than a kernel can have. */
static void
refused_many(struct fixture *f, const char *path)
{
	char *options =
	    xasprintf("boot.kernel=%s boot.initrd=%s boot.modules=%s", path,
		path, path);

	for (unsigned i = 2; i < 33; i++) {
		char *longer = xasprintf("%s,%s", options, path);

		free(options);
		options = longer;
	}
	refused(f, options, "boot.modules: more than 32");
	free(options);
}

static void
a_kernel_and_its_modules(void **state)
{
	char dir[] = "/tmp/machine_test.XXXXXX", *path, *options;
	struct fixture *f = *state;
	struct cpu_state *cpu;
	uint32_t info, count;

	need_engine();
	assert_non_null(mkdtemp(dir));
	path = xasprintf("%s/kernel", dir);
	write_kernel(path);
	options = xasprintf("boot.kernel=%%(dir)/kernel dir=%s "
			    "boot.initrd=%s boot.modules=%%(dir)/kernel,%s",
	    dir, path, path);
	made(f, options);
	cpu = xcalloc(1, sizeof(*cpu));
	assert_int_equal(vm_get_cpu(f->vm, 0, cpu, NULL), 0);
	assert_int_equal(cpu->rip, 0x100020);
	assert_int_equal(cpu->gpr[CPU_RAX], 0x2badb002);
	/* Multiboot 1, section 3.3: modules_count is at offset 20. */
	info = (uint32_t)cpu->gpr[CPU_RBX];
	assert_int_equal(mem_read(vm_mem(f->vm), info + 20, &count, 4), 0);
	assert_int_equal(le32toh(count), 3);
	free(options);

	refused_many(f, path);
	(void)unlink(path);
	(void)rmdir(dir);
	free(path);
	free(cpu);
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(defaults),
		TEST(flags),
		TEST(memory_above_4_gib),
		TEST(topologies),
		TEST(tables),
		TEST(pci_devices),
		TEST(a_kernel_and_its_modules),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
