/*
 * The tables in which a guest reads what machine it is on: MP table, SMBIOS,
 * ACPI.  What they say is taken from the devices that are there.
 */
#include <string.h>

#include "base/alloc.h"
#include "cmd/bhyve/machine_impl.h"
#include "firmware/acpi/acpi.h"
#include "firmware/mptable.h"
#include "firmware/smbios/smbios.h"
#include "pci/pci.h"
#include "vm/platform.h"

/* Each pin that is in use, once. */
struct intx_routes {
	struct intx_route *route; /* owned */
	unsigned count;
};

static void
machine_routes(struct vm *vm, struct intx_routes *routes)
{
	struct device *dev = NULL;

	while ((dev = device_next(vm, dev)) != NULL) {
		const struct pci_func *func = pci_func_of(dev);
		unsigned i;

		if (func == NULL || func->intx.pin == 0)
			continue;
		for (i = 0; i < routes->count; i++) {
			if (routes->route[i].bus == func->addr.bus &&
			    routes->route[i].slot == func->addr.slot &&
			    routes->route[i].pin == func->intx.pin)
				break;
		}
		if (i < routes->count)
			continue;
		routes->route = xreallocarray(routes->route, ++routes->count,
		    sizeof(*routes->route));
		routes->route[i] = (struct intx_route) {
			.bus = func->addr.bus,
			.slot = func->addr.slot,
			.pin = func->intx.pin,
			.gsi = func->intx.gsi,
			.link = func->intx.link,
		};
	}
}

static void
machine_acpi_bus(struct vm *vm, uint8_t number, struct acpi_bus *bus)
{
	struct pci_bus_windows windows;

	pci_bus_windows(vm, number, &windows);
	*bus = (struct acpi_bus) {
		.number = number,
		.io = { windows.io.base, windows.io.len },
		.mem32 = { windows.mem32.base, windows.mem32.len },
		.mem64 = { windows.mem64.base, windows.mem64.len },
	};
}

static int
machine_acpi(struct vm *vm, const struct intx_routes *routes, struct err *err)
{
	struct acpi_bus *buses = xcalloc(PCI_BUSES, sizeof(*buses));
	struct acpi_params params = {
		.cpus = vm_vcpus(vm),
		.hpet = true,
		.buses = buses,
		.routes = routes->route,
		.route_count = routes->count,
	};
	bool used[PCI_BUSES] = { true };
	struct acpi_tables tables;
	struct device *dev = NULL;
	int r;

	while ((dev = device_next(vm, dev)) != NULL) {
		const struct pci_func *func = pci_func_of(dev);

		if (func == NULL)
			continue;
		used[func->addr.bus] = true;
		if (strcmp(device_model(dev)->name, "lpc") == 0) {
			params.lpc = true;
			params.lpc_slot = func->addr.slot;
			params.lpc_func = func->addr.func;
			params.coms = 0xf;
		}
	}
	for (unsigned bus = 0; bus < PCI_BUSES; bus++) {
		if (used[bus])
			machine_acpi_bus(vm, (uint8_t)bus,
			    &buses[params.bus_count++]);
	}
	acpi_build(&params, &tables);
	r = acpi_install(vm_mem(vm), &tables, err);
	acpi_tables_fini(&tables);
	free(buses);
	return r;
}

static int
machine_smbios(struct vm *vm, struct err *err)
{
	struct smbios_params params;
	int r = smbios_params_from_config(vm_config(vm), &params, err);

	params.lowmem = mem_lowmem(vm_mem(vm));
	params.highmem = mem_highmem(vm_mem(vm));
	params.sockets = vm_params(vm)->sockets;
	params.cores = vm_params(vm)->cores;
	params.threads = vm_params(vm)->threads;
	if (r == 0)
		r = smbios_install(vm_mem(vm), &params, err);
	smbios_params_fini(&params);
	return r;
}

int
machine_tables(struct vm *vm, gpa_t *rsdp, struct err *err)
{
	struct mptable_params mptable = { .cpus = vm_vcpus(vm) };
	struct config *root = vm_config(vm);
	bool acpi, acpi_in_memory, mp;
	struct intx_routes routes = { 0 };
	int r = config_bool(root, "acpi_tables", true, &acpi, err);

	if (r == 0)
		r = config_bool(root, "acpi_tables_in_memory", true,
		    &acpi_in_memory, err);
	if (r == 0)
		r = config_bool(root, "x86.mptable", true, &mp, err);
	if (r < 0)
		return r;
	machine_routes(vm, &routes);
	mptable.routes = routes.route;
	mptable.route_count = routes.count;
	if (mp)
		r = mptable_install(vm_mem(vm), &mptable, err);
	if (r == 0)
		r = machine_smbios(vm, err);
	*rsdp = 0;
	if (r == 0 && acpi && acpi_in_memory) {
		r = machine_acpi(vm, &routes, err);
		*rsdp = PLAT_ACPI_BASE;
	}
	free(routes.route);
	return r;
}
