/*
 * BARs: ranges of ports and memory that a guest moves.
 *
 * Models       PCI Local Bus 3.0, section 6.2.5.1: bits below the size and
 *              those that tell the kind are read-only, so that a guest reads
 *              the size after writing ones.  Ports have 16 bits, the upper half
 *              of their registers reads 0.
 * Decoding     A BAR is mapped while the command register lets its space
 *              through, at what its register holds at that moment: a guest
 *              that writes a register, or half of a 64-bit one, with decoding
 *              on moves it at once, to nowhere useful in between.  Any place
 *              is as good as another: RAM is never asked of the bus, and fixed
 *              ranges come before BARs there (vm/bus.h).
 * Assignment   Bus by bus, the larger BARs of a bus first, each aligned to its
 *              size.  A 64-bit BAR is put into the 32-bit window as well,
 *              unless it is larger than HIGH_ABOVE: then it lies above all RAM
 *              and is prefetchable.  A bus gets what it needs with bhyve's
 *              slack; what remains of ports and 32-bit memory is the last
 *              bus's.
 * Locking      the device lock, held at every entry.
 * Invariants   1. Outside this file a BAR is mapped exactly when config space
 *                 says so, and where.
 *              2. Its address is a multiple of its size, so its end is within
 *                 the bus: mapping it cannot fail.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "pci/pci_impl.h"
#include "vm/vm.h"

#define BAR_PORT 0x1
#define BAR_MEM64 0x4
#define BAR_PREFETCH 0x8
#define BAR_PORT_MIN 4u
#define BAR_MEM_MIN 16u
#define BAR_PORT_MAX 0x8000u
#define BAR_MEM32_MAX (PLAT_PCI_MEM32_END - PLAT_PCI_MEM32_BASE)
#define BAR_MEM64_MAX PLAT_PCI_MEM64_SIZE

#define HIGH_ABOVE (128 * MIB)
#define SLACK_PORT 32u
#define SLACK_MEM32 MIB
#define SLACK_MEM64 (512 * MIB)

static unsigned
bar_register(unsigned index)
{
	return PCI_CFG_BAR0 + 4 * index;
}

static uint64_t
bar_address(const struct pci_func *func, unsigned index)
{
	const struct pci_bar *bar = &func->bars[index];
	uint64_t value = pci_get_cfg(func, bar_register(index), 4);

	if (bar->kind == PCI_BAR_MEM64)
		value |= (uint64_t)pci_get_cfg(func, bar_register(index + 1), 4)
		    << 32;
	return round_down(value, bar->size);
}

/* The register as it is after a reset. */
static void
bar_set(struct pci_func *func, unsigned index, uint64_t base, uint32_t flags)
{
	const struct pci_bar *bar = &func->bars[index];
	uint64_t mask = ~(bar->size - 1);

	if (bar->kind == PCI_BAR_PORT)
		mask &= UINT16_MAX;
	pci_set_cfg(func, bar_register(index), 4, (uint32_t)base | flags,
	    (uint32_t)mask);
	if (bar->kind == PCI_BAR_MEM64)
		pci_set_cfg(func, bar_register(index + 1), 4,
		    (uint32_t)(base >> 32), (uint32_t)(mask >> 32));
}

static uint32_t
bar_flags(enum pci_bar_kind kind)
{
	static const uint32_t flags[] = {
		[PCI_BAR_PORT] = BAR_PORT,
		[PCI_BAR_MEM32] = 0,
		[PCI_BAR_MEM64] = BAR_MEM64,
	};

	return flags[kind];
}

int
pci_add_bar(struct pci_func *func, unsigned index, enum pci_bar_kind kind,
    uint64_t size, const struct io_ops *ops, void *arg, struct err *err)
{
	static const struct {
		uint64_t least, most;
	} sizes[] = {
		[PCI_BAR_PORT] = { BAR_PORT_MIN, BAR_PORT_MAX },
		[PCI_BAR_MEM32] = { BAR_MEM_MIN, BAR_MEM32_MAX },
		[PCI_BAR_MEM64] = { BAR_MEM_MIN, BAR_MEM64_MAX },
	};
	struct pci_bar *bar = &func->bars[index];
	uint64_t rounded = sizes[kind].least;

	assert(index + (kind == PCI_BAR_MEM64) < PCI_BARS);
	assert(bar->range == NULL && size != 0);
	if (size > sizes[kind].most)
		return err_set(err, -EINVAL,
		    "%s: BAR %u: 0x%" PRIx64
		    " bytes are more than the 0x%" PRIx64 " of its window",
		    device_name(func->dev), index, size, sizes[kind].most);
	while (rounded < size)
		rounded <<= 1;
	bar->kind = kind;
	bar->size = rounded;
	bar->range = device_add_range(func->dev,
	    kind == PCI_BAR_PORT ? BUS_PORT : BUS_MMIO, rounded, ops, arg);
	bar_set(func, index, 0, bar_flags(kind));
	return 0;
}

void
pci_bar_update(struct pci_func *func)
{
	uint32_t command = pci_get_cfg(func, PCI_CFG_COMMAND, 2);

	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &func->bars[i];
		bool decoded;
		uint64_t base;
		int rc;

		if (bar->range == NULL)
			continue;
		decoded = command &
		    (bar->kind == PCI_BAR_PORT ? PCI_COMMAND_IO :
						 PCI_COMMAND_MEMORY);
		base = bar_address(func, i);
		if (decoded == bar->mapped && (!decoded || base == bar->base))
			continue;
		if (decoded) {
			rc = io_range_map(bar->range, base, NULL);
			assert(rc == 0); /* invariant 2 */
		} else {
			io_range_unmap(bar->range);
		}
		bar->mapped = decoded;
		bar->base = base;
		if (func->bar_changed != NULL)
			func->bar_changed(device_self(func->dev), i);
	}
}

/* ---- assignment --------------------------------------------------------- */

/* A BAR without a place yet, or a window: where the next one may begin. */
struct bar_claim {
	struct pci_func *func;
	unsigned index;
};

struct bar_space {
	uint64_t next, end;
	uint64_t slack;
};

struct bar_spaces {
	struct bar_space io, mem32, mem64;
};

static const struct pci_bar *
claim_bar(const struct bar_claim *claim)
{
	return &claim->func->bars[claim->index];
}

/* The larger first; else as they are, which qsort() alone would not keep. */
static int
claim_order(const void *a, const void *b)
{
	const struct bar_claim *x = a, *y = b;
	uint64_t left = claim_bar(x)->size, right = claim_bar(y)->size;

	if (left != right)
		return left > right ? -1 : 1;
	if (x->func->addr.slot != y->func->addr.slot)
		return x->func->addr.slot < y->func->addr.slot ? -1 : 1;
	if (x->func->addr.func != y->func->addr.func)
		return x->func->addr.func < y->func->addr.func ? -1 : 1;
	return x->index < y->index ? -1 : 1;
}

static int
claim_place(const struct bar_claim *claim, struct bar_spaces *spaces,
    struct err *err)
{
	const struct pci_bar *bar = claim_bar(claim);
	uint32_t flags = bar_flags(bar->kind);
	struct bar_space *space = &spaces->mem32;
	uint64_t base;

	if (bar->kind == PCI_BAR_PORT) {
		space = &spaces->io;
	} else if (bar->kind == PCI_BAR_MEM64 && bar->size > HIGH_ABOVE) {
		space = &spaces->mem64;
		flags |= BAR_PREFETCH;
	}
	base = round_up(space->next, bar->size);
	if (base > space->end || bar->size > space->end - base)
		return err_set(err, -ENOSPC,
		    "%s: BAR %u: no room is left for 0x%" PRIx64 " bytes",
		    device_name(claim->func->dev), claim->index, bar->size);
	space->next = base + bar->size;
	bar_set(claim->func, claim->index, base, flags);
	return 0;
}

/* What a bus took of a space, with slack, or all of it. */
static struct pci_bus_window
space_close(struct bar_space *space, uint64_t begin, bool all)
{
	if (all)
		space->next = space->end;
	else if (space->next != begin)
		space->next =
		    MIN(round_up(space->next + space->slack, space->slack),
			space->end);
	return (struct pci_bus_window) { begin, space->next - begin };
}

/* Decoding and bus mastering as after a reset, and the BARs where they are. */
static void
func_settle(struct pci_func *func, bool enable)
{
	struct lock *lock = device_lock(func->dev);
	uint32_t command = 0;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		if (func->bars[i].range != NULL)
			command |= func->bars[i].kind == PCI_BAR_PORT ?
			    PCI_COMMAND_IO :
			    PCI_COMMAND_MEMORY;
	}
	lock_take(lock);
	pci_set_cfg(func, PCI_CFG_COMMAND, 2, enable ? command : 0,
	    PCI_COMMAND_WRITABLE);
	pci_bar_update(func);
	lock_drop(lock);
}

static int
assign_bus(struct pci_host *host, uint8_t bus, struct bar_claim *claims,
    size_t n, bool last, struct bar_spaces *spaces, struct err *err)
{
	struct pci_bus_windows *windows = pci_host_windows(host, bus);
	struct bar_spaces begin = *spaces;
	int rc = 0;

	qsort(claims, n, sizeof(*claims), claim_order);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = claim_place(&claims[i], spaces, err);
	windows->io = space_close(&spaces->io, begin.io.next, last);
	windows->mem32 = space_close(&spaces->mem32, begin.mem32.next, last);
	windows->mem64 = space_close(&spaces->mem64, begin.mem64.next, false);
	return rc;
}

int
pci_assign(struct vm *vm, struct err *err)
{
	uint64_t high =
	    round_up(PLAT_4GIB + mem_highmem(vm_mem(vm)), PLAT_PCI_MEM64_SIZE);
	struct bar_spaces spaces = {
		.io = { PLAT_PCI_IO_BASE, PLAT_PCI_IO_END, SLACK_PORT },
		.mem32 = { PLAT_PCI_MEM32_BASE, PLAT_PCI_MEM32_END,
		    SLACK_MEM32 },
		.mem64 = { high, high + PLAT_PCI_MEM64_SIZE, SLACK_MEM64 },
	};
	struct pci_host *host = pci_host(vm);
	struct pci_func *func, *next;
	struct bar_claim *claims;
	size_t n = 0;
	bool enable;
	int rc;

	rc = config_bool(vm_config(vm), "pci.enable_bars", true, &enable, err);
	if (rc < 0 || host == NULL)
		return rc;
	claims =
	    xcalloc((size_t)PCI_SLOTS * PCI_FUNCS * PCI_BARS, sizeof(*claims));
	for (func = pci_host_next(host, NULL); func != NULL && rc == 0;
	     func = next) {
		next = pci_host_next(host, func);
		for (unsigned i = 0; i < PCI_BARS; i++) {
			if (func->bars[i].range != NULL)
				claims[n++] = (struct bar_claim) { func, i };
		}
		if (next != NULL && next->addr.bus == func->addr.bus)
			continue;
		rc = assign_bus(host, func->addr.bus, claims, n, next == NULL,
		    &spaces, err);
		n = 0;
	}
	free(claims);
	if (rc < 0)
		return rc;
	for (func = pci_host_next(host, NULL); func != NULL;
	     func = pci_host_next(host, func))
		func_settle(func, enable);
	return 0;
}

void
pci_bus_windows(struct vm *vm, uint8_t bus, struct pci_bus_windows *out)
{
	struct pci_host *host = pci_host(vm);

	*out = (struct pci_bus_windows) { 0 };
	if (host != NULL)
		*out = *pci_host_windows(host, bus);
}
