/*
 * Kernel files from nowhere, for every protocol.
 *
 * Beyond not crashing: what a loaded kernel is told about must be intact in
 * guest memory, wherever the file wanted to be.
 */
#include <stdlib.h>
#include <string.h>

#include "base/wire.h"
#include "firmware/boot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char cmdline[] = "console=ttyS0 root=/dev/vda1";
static const char module[] = "the contents of a module";

#define EXPECT(what)             \
	do {                     \
		if (!(what))     \
			abort(); \
	} while (0)

static uint32_t
guest_u32(const struct mem *mem, gpa_t gpa)
{
	le32 v = { { 0 } };

	EXPECT(mem_read(mem, gpa, &v, sizeof(v)) == 0);
	return le32_get(v);
}

static bool
guest_has(const struct mem *mem, gpa_t gpa, const void *data, size_t len)
{
	const void *there = mem_ptr_read(mem, gpa, len);

	return there != NULL && memcmp(there, data, len) == 0;
}

/* What the kernel was handed, by protocol. */
static void
check_linux(const struct mem *mem, const struct cpu_state *cpu)
{
	gpa_t bp = cpu->gpr[CPU_RSI];

	EXPECT(guest_u32(mem, bp + 0x202) == 0x53726448);
	EXPECT(guest_has(mem, guest_u32(mem, bp + 0x228), cmdline,
	    sizeof(cmdline)));
	EXPECT(
	    guest_has(mem, guest_u32(mem, bp + 0x218), module, sizeof(module)));
	if (cpu->cr0 & BIT(31))
		EXPECT((guest_u32(mem, cpu->cr3) & 3) == 3);
}

static void
check_multiboot(const struct mem *mem, const struct cpu_state *cpu)
{
	gpa_t mbi = cpu->gpr[CPU_RBX];
	gpa_t mods = guest_u32(mem, mbi + 24);

	EXPECT(guest_has(mem, guest_u32(mem, mbi + 16) + strlen("kernel "),
	    cmdline, sizeof(cmdline)));
	EXPECT(guest_has(mem, guest_u32(mem, mods), module, sizeof(module)));
	EXPECT(guest_has(mem, guest_u32(mem, mods + 8), "m", 2));
	EXPECT(guest_u32(mem, guest_u32(mem, mbi + 48)) == 20);
}

static void
check_pvh(const struct mem *mem, const struct cpu_state *cpu)
{
	gpa_t info = cpu->gpr[CPU_RBX];
	gpa_t mods = guest_u32(mem, info + 16);

	EXPECT(guest_u32(mem, info) == 0x336ec578);
	EXPECT(guest_has(mem, guest_u32(mem, info + 24), cmdline,
	    sizeof(cmdline)));
	EXPECT(guest_has(mem, guest_u32(mem, mods), module, sizeof(module)));
	EXPECT(guest_has(mem, guest_u32(mem, mods + 16), "m", 2));
}

static const struct {
	const char *name;
	void (*check)(const struct mem *mem, const struct cpu_state *cpu);
} protocols[] = {
	{ "linux", check_linux },
	{ "multiboot", check_multiboot },
	{ "pvh", check_pvh },
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct cpu_state cpu;
	static struct mem *mem;
	struct boot_params params = {
		.kernel = { "kernel", data, size },
		.modules = { { "m", (const uint8_t *)module, sizeof(module) } },
		.module_count = 1,
		.cmdline = cmdline,
	};
	struct err err;

	if (mem == NULL) {
		/* Little, for speed; with RAM above 4 GiB. */
		mem = mem_new(&(struct mem_params) { 0 });
		EXPECT(mem_add_pc_ram(mem, 5 * MIB, 4 * MIB, &err) == 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		params.protocol = protocols[i].name;
		err.msg[0] = '\0';
		if (boot_load(mem, &params, &cpu, &err) != 0) {
			EXPECT(strncmp(err.msg, "kernel: ", 8) == 0);
			continue;
		}
		EXPECT(mem_ptr_read(mem, cpu.rip, 1) != NULL);
		EXPECT(cpu.rip < 4 * GIB);
		protocols[i].check(mem, &cpu);
	}
	return 0;
}
