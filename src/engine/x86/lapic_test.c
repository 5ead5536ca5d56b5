/*
 * The local APIC, as software drives it: by its page, its MSRs and messages,
 * against the rules of SDM volume 3, chapter 11.  Time is moved by hand.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/wire.h"
#include "engine/x86/lapic.h"

#define ID 0x020
#define VERSION 0x030
#define TPR 0x080
#define APR 0x090
#define PPR 0x0a0
#define EOI 0x0b0
#define LDR 0x0d0
#define DFR 0x0e0
#define SVR 0x0f0
#define ISR 0x100
#define TMR 0x180
#define IRR 0x200
#define ESR 0x280
#define CMCI 0x2f0
#define ICR 0x300
#define ICR_HIGH 0x310
#define LVT_TIMER 0x320
#define LVT_THERMAL 0x330
#define LVT_PMC 0x340
#define LINT0 0x350
#define LINT1 0x360
#define LVT_ERROR 0x370
#define INITIAL 0x380
#define CURRENT 0x390
#define DIVIDE 0x3e0

#define MASKED 0x10000u
#define PERIODIC 0x20000u
#define DEADLINE 0x40000u

#define APIC_BASE 0x1b
#define TSC_DEADLINE 0x6e0
#define BASE 0xfee00000ULL
#define BSP 0x100
#define X2 0x400
#define EN 0x800

#define CPUS 20
#define NEVER UINT64_MAX
/* The bus clock ticks every 1953125 / 2^18 ns. */
#define TICK_NUM 1953125ULL
#define TICK_DEN 262144ULL

struct cpu {
	struct machine *machine;
	struct lapic *lapic;
	uint64_t armed;
	atomic_uint notified;
	unsigned signals;
	enum lapic_signal signal;
	uint8_t signal_vector;
	unsigned eois;
	uint8_t eoi;
};

struct machine {
	struct lapic_bus *bus;
	struct cpu cpu[CPUS];
	uint64_t now;
};

static uint64_t
on_now(void *arg)
{
	return ((struct cpu *)arg)->machine->now;
}

/* 3 GHz. */
static uint64_t
on_tsc(void *arg)
{
	return ((struct cpu *)arg)->machine->now * 3;
}

static uint64_t
on_tsc_to_ns(void *arg, uint64_t tsc)
{
	return tsc / 3; /* rounds down: too early */
}

static void
on_set_timer(void *arg, uint64_t ns)
{
	((struct cpu *)arg)->armed = ns;
}

static void
on_notify(void *arg)
{
	atomic_fetch_add(&((struct cpu *)arg)->notified, 1);
}

static void
on_signal(void *arg, enum lapic_signal signal, uint8_t vector)
{
	struct cpu *cpu = arg;

	cpu->signals++;
	cpu->signal = signal;
	cpu->signal_vector = vector;
}

static void
on_eoi(void *arg, uint8_t vector)
{
	struct cpu *cpu = arg;

	cpu->eois++;
	cpu->eoi = vector;
}

static const struct lapic_ops ops = {
	.now = on_now,
	.tsc = on_tsc,
	.tsc_to_ns = on_tsc_to_ns,
	.set_timer = on_set_timer,
	.notify = on_notify,
	.signal = on_signal,
	.eoi = on_eoi,
};

static int
setup(void **state)
{
	struct machine *m = calloc(1, sizeof(*m));

	m->bus = lapic_bus_new(CPUS);
	m->now = 1000;
	for (unsigned i = 0; i < CPUS; i++) {
		m->cpu[i].machine = m;
		m->cpu[i].armed = NEVER;
		m->cpu[i].lapic = lapic_new(m->bus, i, &ops, &m->cpu[i]);
	}
	*state = m;
	return 0;
}

static int
teardown(void **state)
{
	struct machine *m = *state;

	for (unsigned i = 0; i < CPUS; i++)
		lapic_free(m->cpu[i].lapic);
	lapic_bus_free(m->bus);
	free(m);
	return 0;
}

static uint32_t
rd(struct machine *m, unsigned cpu, unsigned reg)
{
	return (uint32_t)lapic_mmio_read(m->cpu[cpu].lapic, reg, 4);
}

static void
wr(struct machine *m, unsigned cpu, unsigned reg, uint32_t value)
{
	lapic_mmio_write(m->cpu[cpu].lapic, reg, 4, value);
}

static bool
wrmsr(struct machine *m, unsigned cpu, uint32_t index, uint64_t value)
{
	return lapic_wrmsr(m->cpu[cpu].lapic, index, value);
}

static uint64_t
rdmsr(struct machine *m, unsigned cpu, uint32_t index)
{
	uint64_t value = 0xdeadbeef;

	assert_true(lapic_rdmsr(m->cpu[cpu].lapic, index, &value));
	return value;
}

static int
pending(struct machine *m, unsigned cpu)
{
	return lapic_pending(m->cpu[cpu].lapic);
}

static void
take(struct machine *m, unsigned cpu, int vector)
{
	assert_int_equal(pending(m, cpu), vector);
	assert_int_equal(lapic_accept(m->cpu[cpu].lapic), vector);
}

static bool
vector_bit(struct machine *m, unsigned cpu, unsigned regs, unsigned vector)
{
	return rd(m, cpu, regs + vector / 32 * 16) >> vector % 32 & 1;
}

/* Enabled in software, as an operating system does. */
static void
enable(struct machine *m)
{
	for (unsigned i = 0; i < CPUS; i++)
		wr(m, i, SVR, 0x1ff);
}

static void
x2apic(struct machine *m, unsigned cpu)
{
	assert_true(
	    wrmsr(m, cpu, APIC_BASE, BASE | EN | X2 | (cpu == 0 ? BSP : 0)));
}

static int
msi(struct machine *m, unsigned dest, uint32_t data)
{
	return lapic_bus_msi(m->bus, BASE | dest << 12, data);
}

/* Who has the vector requested?  And then no more: taken and acknowledged. */
static uint32_t
receivers(struct machine *m, int vector)
{
	uint32_t who = 0;

	for (unsigned i = 0; i < CPUS; i++) {
		if (pending(m, i) < 0)
			continue;
		take(m, i, vector);
		assert_true(wrmsr(m, i, 0x80b, 0) ||
		    lapic_page(m->cpu[i].lapic) == BASE);
		wr(m, i, EOI, 0);
		who |= 1u << i;
	}
	return who;
}

static uint32_t
signalled(struct machine *m, enum lapic_signal signal, uint8_t vector)
{
	uint32_t who = 0;

	for (unsigned i = 0; i < CPUS; i++) {
		struct cpu *cpu = &m->cpu[i];

		if (cpu->signals == 0)
			continue;
		assert_int_equal(cpu->signals, 1);
		assert_int_equal(cpu->signal, signal);
		assert_int_equal(cpu->signal_vector, vector);
		cpu->signals = 0;
		who |= 1u << i;
	}
	return who;
}

#define ALL ((1u << CPUS) - 1)

/* ---------------------------------------------------------- registers */

static void
power_on(void **state)
{
	struct machine *m = *state;
	static const uint16_t masked[] = { CMCI, LVT_TIMER, LVT_THERMAL,
		LVT_PMC, LINT1, LVT_ERROR };
	static struct cpu_state reset, got;

	assert_int_equal(rd(m, 0, ID), 0);
	assert_int_equal(rd(m, 7, ID), 0x07000000);
	assert_int_equal(rd(m, 0, VERSION), 0x00060010);
	assert_int_equal(rd(m, 0, DFR), 0xffffffff);
	assert_int_equal(rd(m, 0, SVR), 0xff);
	assert_int_equal(rd(m, 0, LDR), 0);
	assert_int_equal(rd(m, 0, TPR), 0);
	assert_int_equal(rd(m, 0, PPR), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(masked); i++)
		assert_int_equal(rd(m, 0, masked[i]), MASKED);
	assert_int_equal(rd(m, 0, LINT0), 0x700);
	assert_int_equal(rd(m, 1, LINT0), MASKED);
	assert_int_equal(rdmsr(m, 0, APIC_BASE), BASE | EN | BSP);
	assert_int_equal(rdmsr(m, 1, APIC_BASE), BASE | EN);
	assert_int_equal(m->cpu[0].armed, NEVER);
	for (unsigned i = 0; i < CPUS; i++) {
		cpu_state_reset(&reset, i);
		memset(&got, 0xa5, sizeof(got));
		lapic_get(m->cpu[i].lapic, &got);
		assert_memory_equal(got.lapic, reset.lapic, CPU_LAPIC_SIZE);
		assert_int_equal(got.apic_base, reset.apic_base);
	}
}

static void
what_can_be_written(void **state)
{
	struct machine *m = *state;
	static const struct {
		uint16_t reg;
		uint32_t ones, zeros;
	} regs[] = {
		{ ID, 0x03000000, 0x03000000 },
		{ VERSION, 0x00060010, 0x00060010 },
		{ TPR, 0xff, 0 },
		{ APR, 0, 0 },
		{ PPR, 0, 0 },
		{ EOI, 0, 0 },
		{ 0x0c0, 0, 0 },
		{ LDR, 0xff000000, 0 },
		{ DFR, 0xffffffff, 0x0fffffff },
		{ ISR, 0, 0 },
		{ TMR + 0x70, 0, 0 },
		{ IRR + 0x30, 0, 0 },
		{ CMCI, 0x107ff, 0 },
		{ ICR_HIGH, 0xff000000, 0 },
		{ LVT_THERMAL, 0x107ff, 0 },
		{ LVT_PMC, 0x107ff, 0 },
		{ LINT0, 0x1a7ff, 0 },
		{ LINT1, 0x1a7ff, 0 },
		{ LVT_ERROR, 0x100ff, 0 },
		{ LVT_TIMER, 0x700ff, 0 },
		{ CURRENT, 0, 0 },
		{ DIVIDE, 0xb, 0 },
	};

	enable(m);
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
		wr(m, 3, regs[i].reg, 0xffffffff);
		if (regs[i].reg == TPR) {
			assert_int_equal(rd(m, 3, PPR), 0xff);
			assert_int_equal(rd(m, 3, TPR), 0xff);
			wr(m, 3, TPR, 0);
			continue;
		}
		assert_int_equal(rd(m, 3, regs[i].reg), regs[i].ones);
		wr(m, 3, regs[i].reg, 0);
		assert_int_equal(rd(m, 3, regs[i].reg), regs[i].zeros);
	}
	wr(m, 3, SVR, 0xffffffff);
	assert_int_equal(rd(m, 3, SVR), 0x3ff); /* bit 12 is not offered */
	wr(m, 3, ESR, 0);
	assert_int_equal(rd(m, 3, ESR), 0); /* all of those exist */
}

static void
widths(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[5].lapic;

	assert_int_equal(lapic_mmio_read(l, VERSION, 1), 0x10);
	assert_int_equal(lapic_mmio_read(l, VERSION + 2, 1), 0x06);
	assert_int_equal(lapic_mmio_read(l, VERSION + 2, 2), 0x0006);
	assert_int_equal(lapic_mmio_read(l, VERSION, 2), 0x0010);
	assert_int_equal(lapic_mmio_read(l, VERSION, 8), 0x00060010);
	assert_int_equal(lapic_mmio_read(l, VERSION + 4, 4), 0);
	assert_int_equal(lapic_mmio_read(l, VERSION + 8, 8), 0);
	lapic_mmio_write(l, TPR, 1, 0x50);
	lapic_mmio_write(l, TPR, 2, 0x50);
	lapic_mmio_write(l, TPR + 4, 4, 0x50);
	lapic_mmio_write(l, TPR + 1, 4, 0x50);
	assert_int_equal(rd(m, 5, TPR), 0);
	lapic_mmio_write(l, TPR, 8, 0xffffffff00000060);
	assert_int_equal(rd(m, 5, TPR), 0x60);
}

static void
software_disable_masks(void **state)
{
	struct machine *m = *state;

	enable(m);
	wr(m, 0, LVT_TIMER, 0x40);
	wr(m, 0, LINT1, 0x400);
	wr(m, 0, SVR, 0xff);
	assert_int_equal(rd(m, 0, LVT_TIMER), 0x40 | MASKED);
	assert_int_equal(rd(m, 0, LINT0), 0x700 | MASKED);
	assert_int_equal(rd(m, 0, LINT1), 0x400 | MASKED);
	wr(m, 0, LVT_TIMER, 0x41);
	assert_int_equal(rd(m, 0, LVT_TIMER), 0x41 | MASKED);
	wr(m, 0, SVR, 0x1ff);
	assert_int_equal(rd(m, 0, LVT_TIMER), 0x41 | MASKED);
	wr(m, 0, LVT_TIMER, 0x41);
	assert_int_equal(rd(m, 0, LVT_TIMER), 0x41);
}

static void
disabled_hears_signals_only(void **state)
{
	struct machine *m = *state;

	assert_int_equal(msi(m, 2, 0x55), 0); /* software-disabled */
	assert_int_equal(pending(m, 2), -1);
	assert_false(vector_bit(m, 2, IRR, 0x55));
	assert_int_equal(msi(m, 2, 0x400), 0);
	assert_int_equal(signalled(m, LAPIC_NMI, 0), 1u << 2);
	assert_int_equal(msi(m, 2, 0x500), 0);
	assert_int_equal(signalled(m, LAPIC_INIT, 0), 1u << 2);
	/* What was requested before stays (11.4.7.2). */
	enable(m);
	assert_int_equal(msi(m, 2, 0x55), 0);
	wr(m, 2, SVR, 0xff);
	take(m, 2, 0x55);
	/* Disabled in hardware. */
	enable(m);
	assert_int_equal(msi(m, 2, 0x56), 0);
	assert_true(wrmsr(m, 2, APIC_BASE, BASE));
	assert_int_equal(pending(m, 2), -1);
	assert_int_equal(msi(m, 2, 0x57), 0);
	assert_int_equal(pending(m, 2), -1);
	assert_int_equal(msi(m, 2, 0x400), 0);
	assert_int_equal(signalled(m, LAPIC_NMI, 0), 1u << 2);
	assert_true(wrmsr(m, 2, APIC_BASE, BASE | EN));
	assert_int_equal(rd(m, 2, SVR), 0xff);
	assert_int_equal(pending(m, 2), -1);
}

/* --------------------------------------------------------- priorities */

static void
classes_nest(void **state)
{
	struct machine *m = *state;

	enable(m);
	msi(m, 0, 0x31);
	assert_int_equal(atomic_load(&m->cpu[0].notified), 1);
	msi(m, 0, 0x31); /* still only one */
	assert_int_equal(atomic_load(&m->cpu[0].notified), 1);
	msi(m, 0, 0x35);
	take(m, 0, 0x35); /* within a class the higher vector first */
	assert_true(vector_bit(m, 0, ISR, 0x35));
	assert_false(vector_bit(m, 0, IRR, 0x35));
	assert_true(vector_bit(m, 0, IRR, 0x31));
	assert_int_equal(rd(m, 0, PPR), 0x30);
	msi(m, 0, 0x3f);
	assert_int_equal(pending(m, 0), -1); /* the same class waits */
	msi(m, 0, 0x41);
	take(m, 0, 0x41);
	assert_int_equal(rd(m, 0, PPR), 0x40);
	wr(m, 0, EOI, 0);
	assert_int_equal(rd(m, 0, PPR), 0x30);
	assert_int_equal(pending(m, 0), -1);
	atomic_store(&m->cpu[0].notified, 0);
	wr(m, 0, EOI, 0);
	assert_int_not_equal(atomic_load(&m->cpu[0].notified), 0);
	take(m, 0, 0x3f);
	wr(m, 0, EOI, 0);
	take(m, 0, 0x31);
	wr(m, 0, EOI, 0);
	wr(m, 0, EOI, 0); /* nothing is in service: nothing happens */
	assert_int_equal(pending(m, 0), -1);
	assert_int_equal(m->cpu[0].eois, 0);
}

static void
tpr_and_cr8_mask(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0].lapic;

	enable(m);
	wr(m, 0, TPR, 0x4f);
	assert_int_equal(lapic_get_cr8(l), 4);
	assert_int_equal(rd(m, 0, PPR), 0x4f);
	msi(m, 0, 0x4f);
	assert_int_equal(pending(m, 0), -1);
	msi(m, 0, 0x50);
	take(m, 0, 0x50);
	assert_int_equal(rd(m, 0, PPR), 0x50);
	wr(m, 0, EOI, 0);
	atomic_store(&m->cpu[0].notified, 0);
	lapic_set_cr8(l, 3);
	assert_int_not_equal(atomic_load(&m->cpu[0].notified), 0);
	assert_int_equal(rd(m, 0, TPR), 0x30);
	take(m, 0, 0x4f);
	lapic_set_cr8(l, 15);
	msi(m, 0, 0xff);
	assert_int_equal(pending(m, 0), -1);
	lapic_set_cr8(l, 0);
	take(m, 0, 0xff);
}

/* Long and random, against a list of what was sent. */
static void
priorities_at_random(void **state)
{
	struct machine *m = *state;
	bool irr[256] = { false };
	uint8_t service[64];
	unsigned depth = 0, tpr = 0;

	srandom(1);
	enable(m);
	for (unsigned n = 0; n < 50000; n++) {
		unsigned v = 16 + (unsigned)random() % 240;
		int expected = -1;

		switch (random() % 5) {
		case 0:
		case 1:
			msi(m, 4, v);
			irr[v] = true;
			break;
		case 2:
			tpr = (unsigned)random() % 3 ? 0 : v;
			wr(m, 4, TPR, tpr);
			break;
		case 3:
			wr(m, 4, EOI, 0);
			depth -= depth > 0;
			break;
		case 4:
			if (pending(m, 4) >= 0) {
				v = lapic_accept(m->cpu[4].lapic);
				irr[v] = false;
				service[depth++] = (uint8_t)v;
			}
			break;
		}
		for (int i = 16; i < 256; i++) {
			if (irr[i] && i / 16 > (int)tpr / 16 &&
			    (depth == 0 || i / 16 > service[depth - 1] / 16))
				expected = i;
		}
		assert_int_equal(pending(m, 4), expected);
	}
}

static void
eoi_of_levels_is_told(void **state)
{
	struct machine *m = *state;

	enable(m);
	msi(m, 1, 0xc061); /* level, asserted */
	assert_true(vector_bit(m, 1, TMR, 0x61));
	take(m, 1, 0x61);
	wr(m, 1, EOI, 0);
	assert_int_equal(m->cpu[1].eois, 1);
	assert_int_equal(m->cpu[1].eoi, 0x61);
	msi(m, 1, 0x8061); /* level, de-asserted: nothing */
	assert_int_equal(pending(m, 1), -1);
	msi(m, 1, 0x61); /* now an edge */
	assert_false(vector_bit(m, 1, TMR, 0x61));
	take(m, 1, 0x61);
	wr(m, 1, EOI, 0x1234);
	assert_int_equal(m->cpu[1].eois, 1);
	assert_false(vector_bit(m, 1, ISR, 0x61));
}

/* ----------------------------------------------------------- messages */

static void
message_destinations(void **state)
{
	struct machine *m = *state;

	enable(m);
	assert_int_equal(msi(m, 3, 0x41), 0);
	assert_int_equal(receivers(m, 0x41), 1u << 3);
	assert_int_equal(msi(m, 0xff, 0x42), 0);
	assert_int_equal(receivers(m, 0x42), ALL);
	assert_int_equal(msi(m, CPUS, 0x41), -EINVAL);
	assert_int_equal(lapic_bus_msi(m->bus, 0xfed00000, 0x41), -EINVAL);
	assert_int_equal(lapic_bus_msi(m->bus, 0x1fee00000, 0x41), -EINVAL);
	assert_int_equal(msi(m, 0, 0x300), -EINVAL);
	assert_int_equal(msi(m, 0, 0x641), -EINVAL); /* start-up */
	assert_int_equal(msi(m, 0, 0x200), 0);       /* SMI */
	assert_int_equal(msi(m, 6, 0x733), 0);
	assert_int_equal(signalled(m, LAPIC_EXTINT, 0x33), 1u << 6);
	/* Ids compare with the xAPIC's whole register, LDR is not one. */
	wr(m, 3, LDR, 0x05000000);
	assert_int_equal(msi(m, 5, 0x43), 0);
	assert_int_equal(receivers(m, 0x43), 1u << 5);
}

static int
logical(struct machine *m, unsigned dest, uint32_t data)
{
	return lapic_bus_msi(m->bus, BASE | dest << 12 | 4, data);
}

static void
logical_flat(void **state)
{
	struct machine *m = *state;

	enable(m);
	for (unsigned i = 0; i < 8; i++)
		wr(m, i, LDR, 1u << (24 + i));
	assert_int_equal(logical(m, 0x25, 0x41), 0);
	assert_int_equal(receivers(m, 0x41), 0x25);
	assert_int_equal(logical(m, 0xff, 0x41), 0);
	assert_int_equal(receivers(m, 0x41), ALL);
	wr(m, 2, LDR, 0);
	assert_int_equal(logical(m, 0x04, 0x41), -EINVAL);
}

static void
logical_cluster(void **state)
{
	struct machine *m = *state;

	enable(m);
	for (unsigned i = 0; i < CPUS; i++) {
		wr(m, i, DFR, 0);
		wr(m, i, LDR, (i / 4 << 4 | 1u << i % 4) << 24);
	}
	assert_int_equal(logical(m, 0x25, 0x41), 0); /* cluster 2: 0 and 2 */
	assert_int_equal(receivers(m, 0x41), 5u << 8);
	assert_int_equal(logical(m, 0x0f, 0x41), 0);
	assert_int_equal(receivers(m, 0x41), 0xf);
	assert_int_equal(logical(m, 0xff, 0x41), 0);
	assert_int_equal(receivers(m, 0x41), ALL);
	assert_int_equal(logical(m, 0x20, 0x41), -EINVAL);
	assert_int_equal(logical(m, 0x71, 0x41), -EINVAL);
	wr(m, 8, DFR, 0x50000000); /* neither: hears no logical id */
	assert_int_equal(logical(m, 0x25, 0x41), 0);
	assert_int_equal(receivers(m, 0x41), 4u << 8);
}

static void
lowest_priority(void **state)
{
	struct machine *m = *state;
	unsigned got[4] = { 0 };

	enable(m);
	for (unsigned i = 0; i < 4; i++)
		wr(m, i, LDR, 1u << (24 + i));
	/* Equal ones take turns. */
	for (unsigned n = 0; n < 400; n++) {
		uint32_t who;

		assert_int_equal(logical(m, 0x0f, 0x141), 0);
		who = receivers(m, 0x41);
		assert_true(is_power_of_2(who) && who < 16);
		got[__builtin_ctz(who)]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_true(got[i] >= 10);
	/* The one with the lowest priority. */
	wr(m, 0, TPR, 0x30);
	wr(m, 1, TPR, 0x20);
	wr(m, 3, TPR, 0x20);
	wr(m, 2, TPR, 0x10);
	for (unsigned n = 0; n < 8; n++) {
		assert_int_equal(logical(m, 0x0f, 0x141), 0);
		assert_int_equal(receivers(m, 0x41), 4);
	}
	/* What is in service counts: 0x61 on 2 puts it above the rest. */
	msi(m, 2, 0x61);
	take(m, 2, 0x61);
	wr(m, 1, TPR, 0x40);
	assert_int_equal(logical(m, 0x0f, 0x151), 0);
	assert_int_equal(receivers(m, 0x51), 8);
	/* Who does not listen is not asked. */
	wr(m, 3, SVR, 0xff);
	assert_int_equal(logical(m, 0x08, 0x151), 0);
	assert_int_equal(logical(m, 0x0f, 0x151), 0);
	assert_int_equal(receivers(m, 0x51), 1);
	/* The redirection hint is the same wish; fixed without it is for all. */
	assert_int_equal(lapic_bus_msi(m->bus, BASE | 0x0f << 12 | 0xc, 0x71),
	    0);
	assert_int_equal(receivers(m, 0x71), 1);
	assert_int_equal(logical(m, 0x0f, 0x71), 0);
	assert_int_equal(receivers(m, 0x71), 7);
}

static void
ipis(void **state)
{
	struct machine *m = *state;

	enable(m);
	wr(m, 0, ICR_HIGH, 9u << 24);
	wr(m, 0, ICR, 0x4041);
	assert_int_equal(rd(m, 0, ICR), 0x4041); /* delivered: not busy */
	assert_int_equal(receivers(m, 0x41), 1u << 9);
	wr(m, 0, ICR_HIGH, 0xff000000);
	wr(m, 0, ICR, 0x4042);
	assert_int_equal(receivers(m, 0x42), ALL);
	/* Shorthands do not look at the destination. */
	wr(m, 3, ICR_HIGH, 9u << 24);
	wr(m, 3, ICR, 0x44043);
	assert_int_equal(receivers(m, 0x43), 1u << 3);
	wr(m, 3, ICR, 0x84043);
	assert_int_equal(receivers(m, 0x43), ALL);
	wr(m, 3, ICR, 0xc4043);
	assert_int_equal(receivers(m, 0x43), ALL & ~(1u << 3));
	/* Logical. */
	wr(m, 4, LDR, 0x10000000);
	wr(m, 5, LDR, 0x30000000);
	wr(m, 0, ICR_HIGH, 0x10000000);
	wr(m, 0, ICR, 0x4844);
	assert_int_equal(receivers(m, 0x44), 3u << 4);
	/* Lowest priority to all others. */
	for (unsigned i = 0; i < CPUS; i++)
		wr(m, i, TPR, i == 11 || i == 0 ? 0 : 0x10);
	wr(m, 0, ICR, 0xc4145);
	assert_int_equal(receivers(m, 0x45), 1u << 11);
	/* Trigger mode means nothing here: an edge. */
	wr(m, 0, ICR_HIGH, 11u << 24);
	wr(m, 0, ICR, 0xc046);
	assert_false(vector_bit(m, 11, TMR, 0x46));
	assert_int_equal(receivers(m, 0x46), 1u << 11);
	/* To nobody: no error. */
	wr(m, 0, ICR_HIGH, 99u << 24);
	wr(m, 0, ICR, 0x4047);
	assert_int_equal(receivers(m, 0x47), 0);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0);
}

static void
ipis_that_signal(void **state)
{
	struct machine *m = *state;

	/* As a system starts others, which are not enabled yet. */
	wr(m, 0, ICR, 0xc4500);
	assert_int_equal(signalled(m, LAPIC_INIT, 0), ALL & ~1u);
	wr(m, 0, ICR_HIGH, 1u << 24);
	wr(m, 0, ICR, 0xc500); /* level, assert */
	assert_int_equal(signalled(m, LAPIC_INIT, 0), 1u << 1);
	wr(m, 0, ICR, 0x8500); /* level, de-assert */
	assert_int_equal(signalled(m, LAPIC_INIT, 0), 0);
	wr(m, 0, ICR, 0x4608); /* its vector is a page and may be below 16 */
	assert_int_equal(signalled(m, LAPIC_SIPI, 0x08), 1u << 1);
	wr(m, 0, ICR, 0x4400);
	assert_int_equal(signalled(m, LAPIC_NMI, 0), 1u << 1);
	wr(m, 0, ICR, 0x4200); /* SMI */
	wr(m, 0, ICR, 0x4300);
	wr(m, 0, ICR, 0x4700);
	assert_int_equal(signalled(m, LAPIC_NMI, 0), 0);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0);
}

static void
errors(void **state)
{
	struct machine *m = *state;

	enable(m);
	wr(m, 0, LVT_ERROR, 0xe1);
	wr(m, 0, ICR_HIGH, 1u << 24);
	wr(m, 0, ICR, 0x400f);
	assert_int_equal(rd(m, 0, ESR), 0); /* not before a write */
	take(m, 0, 0xe1);
	wr(m, 0, EOI, 0);
	assert_int_equal(receivers(m, 0), 0);
	/* More until ESR is written: no more interrupts. */
	rd(m, 0, 0x400);
	assert_int_equal(pending(m, 0), -1);
	wr(m, 0, ESR, 0xffffffff);
	assert_int_equal(rd(m, 0, ESR), 0xa0);
	rd(m, 0, 0x2e0); /* reserved */
	take(m, 0, 0xe1);
	wr(m, 0, EOI, 0);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0x80);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0);
	/* A message with such a vector. */
	assert_int_equal(msi(m, 0, 0x0f), 0);
	take(m, 0, 0xe1);
	wr(m, 0, EOI, 0);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0x40);
	assert_int_equal(rd(m, 0, IRR), 0);
	/* An own event with such a vector; the error entry's too. */
	wr(m, 0, LVT_ERROR, 0x0e);
	wr(m, 0, LVT_TIMER, 0x01);
	wr(m, 0, INITIAL, 1);
	m->now += 1000;
	lapic_timer_due(m->cpu[0].lapic);
	assert_int_equal(pending(m, 0), -1);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0x40);
	/* Masked: only noted. */
	wr(m, 0, LVT_ERROR, 0xe1 | MASKED);
	wr(m, 0, 0x000, 0);
	assert_int_equal(pending(m, 0), -1);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0x80);
}

static void
lint0_passes_the_8259(void **state)
{
	struct machine *m = *state;
	struct lapic *l = m->cpu[0].lapic;

	assert_true(lapic_takes_extint(l));
	assert_false(lapic_takes_extint(m->cpu[1].lapic));
	wr(m, 0, LINT0, 0x700 | MASKED);
	assert_false(lapic_takes_extint(l));
	enable(m);
	wr(m, 0, LINT0, 0x700);
	assert_true(lapic_takes_extint(l));
	wr(m, 0, LINT0, 0x41);
	assert_false(lapic_takes_extint(l));
	wrmsr(m, 0, APIC_BASE, BASE | BSP);
	wrmsr(m, 1, APIC_BASE, BASE);
	assert_true(lapic_takes_extint(l));
	assert_false(lapic_takes_extint(m->cpu[1].lapic));
}

/* -------------------------------------------------------------- modes */

static void
base_transitions(void **state)
{
	struct machine *m = *state;
	static const uint32_t mode[] = { 0, EN, EN | X2, X2 };
	/* From the first three to all four: figure 11-27. */
	static const bool legal[3][4] = {
		{ true, true, false, false },
		{ true, true, true, false },
		{ true, false, true, false },
	};

	for (unsigned from = 0; from < 3; from++) {
		for (unsigned to = 0; to < 4; to++) {
			unsigned cpu = from * 4 + to;
			uint64_t bsp = cpu == 0 ? BSP : 0;
			bool ok;

			if (from != 1)
				assert_true(wrmsr(m, cpu, APIC_BASE,
				    BASE | mode[from] | bsp));
			ok = wrmsr(m, cpu, APIC_BASE, BASE | mode[to]);
			assert_int_equal(ok, legal[from][to]);
			/* BSP is read-only. */
			assert_int_equal(rdmsr(m, cpu, APIC_BASE),
			    BASE | mode[ok ? to : from] | bsp);
			assert_int_equal(lapic_base(m->cpu[cpu].lapic),
			    rdmsr(m, cpu, APIC_BASE));
			assert_int_equal(lapic_page(m->cpu[cpu].lapic),
			    mode[ok ? to : from] == EN ? BASE : UINT64_MAX);
		}
	}
	assert_false(wrmsr(m, 13, APIC_BASE, 0xfed00000 | EN));
	assert_false(wrmsr(m, 13, APIC_BASE, BASE | EN | 1ULL << 36));
	assert_false(wrmsr(m, 13, APIC_BASE, BASE | EN | 1));
	assert_false(wrmsr(m, 13, APIC_BASE, BASE | EN | 0x200));
	assert_true(wrmsr(m, 13, APIC_BASE, BASE | EN | BSP));
	assert_int_equal(rdmsr(m, 13, APIC_BASE), BASE | EN);
}

static void
entering_x2apic(void **state)
{
	struct machine *m = *state;
	uint64_t v;

	enable(m);
	assert_false(lapic_rdmsr(m->cpu[18].lapic, 0x802, &v));
	assert_false(wrmsr(m, 18, 0x808, 0));
	wr(m, 18, LDR, 0x04000000);
	wr(m, 18, ICR_HIGH, 0x04000000);
	wr(m, 18, LVT_PMC, 0x4fe);
	msi(m, 18, 0x55);
	x2apic(m, 18);
	assert_int_equal(rdmsr(m, 18, 0x802), 18);
	assert_int_equal(rdmsr(m, 18, 0x80d), 0x10004);
	assert_int_equal(rdmsr(m, 18, 0x80f), 0x1ff);
	assert_int_equal(rdmsr(m, 18, 0x834), 0x4fe);
	assert_int_equal(rdmsr(m, 18, 0x830), 0);
	take(m, 18, 0x55);
	assert_int_equal(rdmsr(m, 18, 0x812), 1u << 0x15);
	/* INIT leaves the mode. */
	lapic_init(m->cpu[18].lapic);
	assert_int_equal(rdmsr(m, 18, APIC_BASE), BASE | EN | X2);
	assert_int_equal(rdmsr(m, 18, 0x802), 18);
	assert_int_equal(rdmsr(m, 18, 0x80d), 0x10004);
	assert_int_equal(rdmsr(m, 18, 0x80f), 0xff);
	assert_int_equal(rdmsr(m, 18, 0x812), 0);
	/* Off, and an xAPIC again. */
	assert_true(wrmsr(m, 18, APIC_BASE, BASE));
	assert_true(wrmsr(m, 18, APIC_BASE, BASE | EN));
	assert_int_equal(rd(m, 18, ID), 18u << 24);
	assert_int_equal(rd(m, 18, LDR), 0);
}

static void
x2apic_access(void **state)
{
	struct machine *m = *state;
	/* Table 11-6.  W and the bits that can be set: all others are #GP. */
	static const struct {
		uint16_t index;
		bool r, w;
		uint64_t bits, ignored;
	} defined[] = {
		{ 0x02, true, false, 0, 0 },
		{ 0x03, true, false, 0, 0 },
		{ 0x08, true, true, 0xff, 0 },
		{ 0x0a, true, false, 0, 0 },
		{ 0x0b, false, true, 0, 0 },
		{ 0x0d, true, false, 0, 0 },
		{ 0x0f, true, true, 0x3ff, 0 },
		{ 0x28, true, true, 0, 0 },
		{ 0x2f, true, true, 0x107ff, 0x1000 },
		{ 0x30, true, true, 0xffffffff000ccfff, 0x1000 },
		{ 0x32, true, true, 0x700ff, 0x1000 },
		{ 0x33, true, true, 0x107ff, 0x1000 },
		{ 0x34, true, true, 0x107ff, 0x1000 },
		{ 0x35, true, true, 0x1a7ff, 0x5000 },
		{ 0x36, true, true, 0x1a7ff, 0x5000 },
		{ 0x37, true, true, 0x100ff, 0x1000 },
		{ 0x38, true, true, 0xffffffff, 0 },
		{ 0x39, true, false, 0, 0 },
		{ 0x3e, true, true, 0xb, 0 },
		{ 0x3f, false, true, 0xff, 0 },
	};

	enable(m);
	x2apic(m, 6);
	for (unsigned i = 0; i < 0x100; i++) {
		bool vectors = i >= 0x10 && i < 0x28;
		bool r = vectors, w = false;
		uint64_t bits = 0, v;

		for (unsigned d = 0; d < ARRAY_SIZE(defined); d++) {
			if (defined[d].index != i)
				continue;
			r = defined[d].r;
			w = defined[d].w;
			bits = defined[d].bits | defined[d].ignored;
		}
		assert_int_equal(lapic_rdmsr(m->cpu[6].lapic, 0x800 + i, &v),
		    r);
		for (unsigned b = 0; b < 64; b++)
			assert_int_equal(wrmsr(m, 6, 0x800 + i, BIT(b)),
			    w && (bits & BIT(b)));
		assert_int_equal(wrmsr(m, 6, 0x800 + i, 0), w);
		if (i == 0x0f)
			assert_true(wrmsr(m, 6, 0x80f, 0x1ff));
	}
	/* The page is nobody's. */
	assert_int_equal(lapic_mmio_read(m->cpu[6].lapic, ID, 4), 0xffffffff);
}

static void
x2apic_destinations(void **state)
{
	struct machine *m = *state;

	enable(m);
	for (unsigned i = 0; i < CPUS; i++)
		x2apic(m, i);
	assert_true(wrmsr(m, 0, 0x830, 17ULL << 32 | 0x4041));
	assert_int_equal(rdmsr(m, 0, 0x830), 17ULL << 32 | 0x4041);
	assert_int_equal(receivers(m, 0x41), 1u << 17);
	assert_true(wrmsr(m, 0, 0x830, 0xffffffffULL << 32 | 0x4041));
	assert_int_equal(receivers(m, 0x41), ALL);
	assert_true(wrmsr(m, 0, 0x830, 0xffULL << 32 | 0x4041));
	assert_int_equal(receivers(m, 0x41), 0); /* just an id */
	/* Logical: cluster 1 is 16 to 31. */
	assert_true(wrmsr(m, 0, 0x830, 0x1000aULL << 32 | 0x4842));
	assert_int_equal(receivers(m, 0x42), 0xau << 16);
	assert_true(wrmsr(m, 0, 0x830, 0x0000aULL << 32 | 0x4842));
	assert_int_equal(receivers(m, 0x42), 0xau);
	assert_true(wrmsr(m, 0, 0x830, 0xffffffffULL << 32 | 0x4842));
	assert_int_equal(receivers(m, 0x42), ALL);
	assert_true(wrmsr(m, 2, 0x830, 0xc4043));
	assert_int_equal(receivers(m, 0x43), ALL & ~4u);
	/* Self IPI. */
	assert_true(wrmsr(m, 2, 0x83f, 0x44));
	assert_int_equal(receivers(m, 0x44), 4);
	assert_true(wrmsr(m, 2, 0x83f, 0x0f));
	assert_int_equal(receivers(m, 0x0f), 0);
	assert_true(wrmsr(m, 2, 0x828, 0));
	assert_int_equal(rdmsr(m, 2, 0x828), 0x20);
	/* Messages have 8 bits. */
	assert_int_equal(msi(m, 17, 0x45), 0);
	assert_int_equal(receivers(m, 0x45), 1u << 17);
	assert_int_equal(msi(m, 0xff, 0x45), 0);
	assert_int_equal(receivers(m, 0x45), ALL);
	assert_int_equal(logical(m, 0x06, 0x45), 0);
	assert_int_equal(receivers(m, 0x45), 6);
}

/* A system in x2APIC mode starts processors that are xAPICs yet. */
static void
mixed_modes(void **state)
{
	struct machine *m = *state;

	x2apic(m, 0);
	assert_true(wrmsr(m, 0, 0x830, 19ULL << 32 | 0xc500));
	assert_int_equal(signalled(m, LAPIC_INIT, 0), 1u << 19);
	assert_true(wrmsr(m, 0, 0x830, 19ULL << 32 | 0x4699));
	assert_int_equal(signalled(m, LAPIC_SIPI, 0x99), 1u << 19);
	assert_true(wrmsr(m, 0, 0x830, 0x113ULL << 32 | 0x4699));
	assert_int_equal(signalled(m, LAPIC_SIPI, 0x99), 0);
}

/* -------------------------------------------------------------- timer */

/* The first nanosecond at which `ticks` have passed since `start`. */
static uint64_t
after(uint64_t start, uint64_t ticks)
{
	__uint128_t num = (__uint128_t)ticks * TICK_NUM;

	return start + (uint64_t)((num + TICK_DEN - 1) / TICK_DEN);
}

static void
one_shot(void **state)
{
	struct machine *m = *state;
	struct cpu *cpu = &m->cpu[0];
	uint64_t start = m->now, end = after(start, 1000 * 2);

	enable(m);
	wr(m, 0, LVT_TIMER, 0x40);
	wr(m, 0, INITIAL, 1000); /* by 2 after reset */
	assert_int_equal(cpu->armed, end);
	assert_int_equal(rd(m, 0, INITIAL), 1000);
	assert_int_equal(rd(m, 0, CURRENT), 1000);
	m->now = after(start, 2) - 1;
	assert_int_equal(rd(m, 0, CURRENT), 1000);
	m->now = after(start, 2);
	assert_int_equal(rd(m, 0, CURRENT), 999);
	m->now = after(start, 1400);
	assert_int_equal(rd(m, 0, CURRENT), 300);
	m->now = end - 1;
	lapic_timer_due(cpu->lapic); /* too early: armed again */
	assert_int_equal(pending(m, 0), -1);
	assert_int_equal(cpu->armed, end);
	assert_int_equal(rd(m, 0, CURRENT), 1);
	m->now = end;
	lapic_timer_due(cpu->lapic);
	take(m, 0, 0x40);
	wr(m, 0, EOI, 0);
	assert_int_equal(cpu->armed, NEVER);
	assert_int_equal(rd(m, 0, CURRENT), 0);
	m->now += 1000000;
	lapic_timer_due(cpu->lapic);
	assert_int_equal(pending(m, 0), -1);
	/* Again, then stopped. */
	wr(m, 0, INITIAL, 1000);
	assert_int_equal(cpu->armed, after(m->now, 2000));
	wr(m, 0, INITIAL, 0);
	assert_int_equal(cpu->armed, NEVER);
	assert_int_equal(rd(m, 0, CURRENT), 0);
}

static void
divide(void **state)
{
	struct machine *m = *state;
	static const struct {
		uint32_t config;
		unsigned by;
	} rows[] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 },
		{ 9, 64 }, { 10, 128 }, { 11, 1 } };

	enable(m);
	wr(m, 0, LVT_TIMER, 0x40);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		wr(m, 0, DIVIDE, rows[i].config);
		wr(m, 0, INITIAL, 0xffffffff);
		assert_int_equal(m->cpu[0].armed,
		    after(m->now, 0xffffffffULL * rows[i].by));
		m->now = after(m->now, 12345ULL * rows[i].by);
		assert_int_equal(rd(m, 0, CURRENT), 0xffffffff - 12345);
	}
	/* On the way: the same count, at another pace. */
	wr(m, 0, INITIAL, 1000);
	m->now = after(m->now, 400);
	wr(m, 0, DIVIDE, 3);
	assert_int_equal(rd(m, 0, CURRENT), 600);
	assert_int_equal(m->cpu[0].armed, after(m->now, 600 * 16));
}

static void
periodic(void **state)
{
	struct machine *m = *state;
	struct cpu *cpu = &m->cpu[0];
	uint64_t start = m->now;

	enable(m);
	wr(m, 0, DIVIDE, 11);
	wr(m, 0, LVT_TIMER, 0x40 | PERIODIC);
	wr(m, 0, INITIAL, 134217); /* a bit less than a millisecond */
	/* No drift: every expiry where the rational number says. */
	for (unsigned n = 1; n <= 3000; n++) {
		assert_int_equal(cpu->armed, after(start, 134217ULL * n));
		m->now = cpu->armed - 1;
		lapic_timer_due(cpu->lapic);
		assert_int_equal(pending(m, 0), -1);
		m->now++;
		lapic_timer_due(cpu->lapic);
		take(m, 0, 0x40);
		wr(m, 0, EOI, 0);
		assert_int_equal(rd(m, 0, CURRENT), 134217);
	}
	/* Late by some periods: one interrupt, the phase stays. */
	m->now = after(start, 134217ULL * 3010 + 17);
	assert_int_equal(rd(m, 0, CURRENT), 134217 - 17);
	lapic_timer_due(cpu->lapic);
	take(m, 0, 0x40);
	assert_int_equal(pending(m, 0), -1);
	assert_int_equal(cpu->armed, after(start, 134217ULL * 3011));
	/* A period too short to live with: in phase, but not each. */
	wr(m, 0, INITIAL, 10);
	start = m->now;
	m->now = cpu->armed;
	lapic_timer_due(cpu->lapic);
	assert_true(cpu->armed >= m->now + 1000);
	assert_true(cpu->armed <= m->now + 20000);
	m->now = after(start, 10 * 500 + 3);
	assert_int_equal(rd(m, 0, CURRENT), 7);
	/* Longer than anybody would sleep. */
	wr(m, 0, INITIAL, 134217);
	m->now += 1ULL << 50;
	lapic_timer_due(cpu->lapic);
	assert_true(cpu->armed > m->now && cpu->armed <= m->now + 1000000);
}

static void
timer_masks_and_modes(void **state)
{
	struct machine *m = *state;
	struct cpu *cpu = &m->cpu[0];
	uint64_t start;

	enable(m);
	wr(m, 0, DIVIDE, 11);
	/* Masked it counts and says nothing, nor when unmasked later. */
	wr(m, 0, LVT_TIMER, 0x40 | MASKED);
	wr(m, 0, INITIAL, 100000);
	assert_int_equal(cpu->armed, NEVER);
	start = m->now;
	m->now = after(start, 60000);
	assert_int_equal(rd(m, 0, CURRENT), 40000);
	wr(m, 0, LVT_TIMER, 0x40);
	assert_int_equal(cpu->armed, after(start, 100000));
	wr(m, 0, LVT_TIMER, 0x40 | MASKED);
	m->now = after(start, 100000);
	wr(m, 0, LVT_TIMER, 0x40);
	assert_int_equal(cpu->armed, NEVER);
	assert_int_equal(pending(m, 0), -1);
	/* Due when its entry changes: the old entry's interrupt. */
	wr(m, 0, INITIAL, 100000);
	m->now = cpu->armed + 5;
	wr(m, 0, LVT_TIMER, 0x50 | MASKED);
	take(m, 0, 0x40);
	/* One-shot, periodic and back on the way. */
	wr(m, 0, LVT_TIMER, 0x60);
	wr(m, 0, INITIAL, 100000);
	start = m->now;
	m->now = after(start, 1000);
	wr(m, 0, LVT_TIMER, 0x60 | PERIODIC);
	m->now = after(start, 100000);
	lapic_timer_due(cpu->lapic);
	take(m, 0, 0x60);
	assert_int_equal(cpu->armed, after(start, 200000));
	wr(m, 0, LVT_TIMER, 0x70);
	m->now = after(start, 200000);
	lapic_timer_due(cpu->lapic);
	take(m, 0, 0x70);
	assert_int_equal(cpu->armed, NEVER);
	/* Expired and then made periodic: as if loaded from such a state. */
	wr(m, 0, LVT_TIMER, 0x70 | PERIODIC);
	assert_int_equal(rd(m, 0, CURRENT), 100000);
	assert_int_equal(cpu->armed, after(m->now, 100000));
	/* INIT stops it. */
	wr(m, 0, INITIAL, 100000);
	lapic_init(cpu->lapic);
	assert_int_equal(cpu->armed, NEVER);
	assert_int_equal(rd(m, 0, CURRENT), 0);
}

static void
deadline(void **state)
{
	struct machine *m = *state;
	struct cpu *cpu = &m->cpu[0];
	uint64_t tsc = m->now * 3;

	enable(m);
	assert_true(wrmsr(m, 0, TSC_DEADLINE, tsc + 300)); /* other mode */
	assert_int_equal(rdmsr(m, 0, TSC_DEADLINE), 0);
	assert_int_equal(cpu->armed, NEVER);
	wr(m, 0, LVT_TIMER, 0x40);
	wr(m, 0, INITIAL, 1000);
	wr(m, 0, LVT_TIMER, 0x40 | DEADLINE); /* stops what ran */
	assert_int_equal(cpu->armed, NEVER);
	assert_int_equal(rd(m, 0, INITIAL), 0);
	wr(m, 0, INITIAL, 1000);
	assert_int_equal(rd(m, 0, INITIAL), 0);
	assert_int_equal(rd(m, 0, CURRENT), 0);
	assert_true(wrmsr(m, 0, TSC_DEADLINE, tsc + 301));
	assert_int_equal(rdmsr(m, 0, TSC_DEADLINE), tsc + 301);
	assert_int_equal(cpu->armed, m->now + 100);
	assert_int_equal(rd(m, 0, CURRENT), 0);
	m->now += 100;
	lapic_timer_due(cpu->lapic); /* the TSC is at 300 */
	assert_int_equal(pending(m, 0), -1);
	assert_int_equal(cpu->armed, m->now + 1);
	m->now++;
	lapic_timer_due(cpu->lapic);
	take(m, 0, 0x40);
	wr(m, 0, EOI, 0);
	assert_int_equal(rdmsr(m, 0, TSC_DEADLINE), 0);
	assert_int_equal(cpu->armed, NEVER);
	assert_true(wrmsr(m, 0, TSC_DEADLINE, 1)); /* long past: at once */
	take(m, 0, 0x40);
	wr(m, 0, EOI, 0);
	assert_true(wrmsr(m, 0, TSC_DEADLINE, UINT64_MAX));
	assert_true(wrmsr(m, 0, TSC_DEADLINE, 0));
	assert_int_equal(cpu->armed, NEVER);
	assert_true(wrmsr(m, 0, TSC_DEADLINE, m->now * 3 + 300));
	wr(m, 0, LVT_TIMER, 0x40);
	assert_int_equal(cpu->armed, NEVER);
	assert_int_equal(rdmsr(m, 0, TSC_DEADLINE), 0);
}

/* -------------------------------------------------------- saved state */

static uint64_t
random64(void)
{
	return (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^
	    (uint64_t)random();
}

/* Anything that software and others might do to a processor. */
static void
do_something(struct machine *m, unsigned cpu)
{
	static const uint16_t liked[] = { TPR, EOI, LDR, DFR, SVR, ESR, CMCI,
		ICR, ICR_HIGH, LVT_TIMER, LINT0, LVT_ERROR, INITIAL, INITIAL,
		DIVIDE };
	struct lapic *l = m->cpu[cpu].lapic;
	unsigned reg = liked[(unsigned)random() % ARRAY_SIZE(liked)];
	uint64_t value = random64() & (random() % 2 ? 0xfffff : UINT64_MAX);

	if (reg == SVR && random() % 4)
		value |= 0x100;
	if (reg == LVT_TIMER)
		value &= ~(uint64_t)MASKED;
	switch (random() % 8) {
	case 0:
		msi(m, cpu, (value & 0xff) | (random() % 2 ? 0xc000 : 0));
		break;
	case 1:
		if (pending(m, cpu) >= 0)
			lapic_accept(l);
		break;
	case 2:
		m->now += value % 100000;
		break;
	case 3:
		(void)wrmsr(m, cpu, TSC_DEADLINE, m->now * 3 + value % 100000);
		break;
	case 4:
		if (random() % 20 == 0)
			(void)wrmsr(m, cpu, APIC_BASE,
			    BASE | (value & (EN | X2 | BSP)));
		break;
	default:
		lapic_mmio_write(l, reg, 4, value);
		if (lapic_page(l) == UINT64_MAX)
			(void)wrmsr(m, cpu, 0x800 + reg / 16,
			    reg == ICR ? value : value & 0x107ff);
		if (m->cpu[cpu].armed <= m->now)
			lapic_timer_due(l);
		break;
	}
}

static void
round_trips(void **state)
{
	struct machine *m = *state;
	static struct cpu_state first, second;
	unsigned running = 0, waiting = 0;

	srandom(2);
	for (unsigned n = 0; n < 300; n++) {
		unsigned i = n % CPUS;
		struct cpu *cpu = &m->cpu[i];
		struct err err;
		uint64_t armed;
		int best;

		if (n % 3 == 0)
			wr(m, i, SVR, 0x1ff);
		for (unsigned k = 0; k < 60; k++)
			do_something(m, i);
		memset(&first, 0, sizeof(first));
		lapic_get(cpu->lapic, &first);
		best = pending(m, i);
		armed = cpu->armed;
		running += armed != NEVER;
		waiting += best >= 0;

		lapic_free(cpu->lapic);
		cpu->armed = NEVER;
		atomic_store(&cpu->notified, 0);
		cpu->lapic = lapic_new(m->bus, i, &ops, cpu);
		assert_int_equal(lapic_set(cpu->lapic, &first, &err), 0);
		memset(&second, 0, sizeof(second));
		lapic_get(cpu->lapic, &second);
		assert_memory_equal(first.lapic, second.lapic, CPU_LAPIC_SIZE);
		assert_int_equal(first.apic_base, second.apic_base);
		assert_int_equal(first.msr_count, second.msr_count);
		assert_memory_equal(first.msr, second.msr, sizeof(first.msr));
		assert_int_equal(pending(m, i), best);
		assert_true(best < 0 || atomic_load(&cpu->notified) > 0);
		/* Within a tick of its phase. */
		assert_int_equal(cpu->armed == NEVER, armed == NEVER);
		if (armed != NEVER)
			assert_true(cpu->armed + 1000 > armed &&
			    armed + 11000 > cpu->armed);
	}
	assert_true(running > 20 && waiting > 20);
}

static void
timer_resumes(void **state)
{
	struct machine *m = *state;
	static struct cpu_state cpu;
	struct err err;

	enable(m);
	wr(m, 0, DIVIDE, 11);
	wr(m, 0, LVT_TIMER, 0x40 | PERIODIC);
	wr(m, 0, INITIAL, 100000);
	m->now = after(m->now, 30000);
	lapic_get(m->cpu[0].lapic, &cpu);
	assert_int_equal(le32_load(cpu.lapic + CURRENT), 70000);
	m->now = 17; /* another machine's clock */
	assert_int_equal(lapic_set(m->cpu[0].lapic, &cpu, &err), 0);
	assert_int_equal(m->cpu[0].armed, after(17, 70000));
	m->now = after(17, 70000);
	lapic_timer_due(m->cpu[0].lapic);
	take(m, 0, 0x40);
	assert_int_equal(m->cpu[0].armed, after(17, 170000));
	/* Expired but not seen: the request is in the state. */
	m->now = after(17, 170000) + 5;
	lapic_get(m->cpu[0].lapic, &cpu);
	assert_true(le32_load(cpu.lapic + IRR + 0x20) & 1);
	/* An expired one-shot timer stays so. */
	wr(m, 0, LVT_TIMER, 0x41);
	m->now += 1000000;
	lapic_timer_due(m->cpu[0].lapic);
	lapic_get(m->cpu[0].lapic, &cpu);
	assert_int_equal(le32_load(cpu.lapic + CURRENT), 0);
	assert_int_equal(le32_load(cpu.lapic + INITIAL), 100000);
	assert_int_equal(lapic_set(m->cpu[0].lapic, &cpu, &err), 0);
	assert_int_equal(m->cpu[0].armed, NEVER);
	/* A deadline travels as its MSR. */
	wr(m, 0, LVT_TIMER, 0x42 | DEADLINE);
	assert_true(wrmsr(m, 0, TSC_DEADLINE, m->now * 3 + 3000));
	lapic_get(m->cpu[0].lapic, &cpu);
	assert_int_equal(cpu_state_msr(&cpu, TSC_DEADLINE)->value,
	    m->now * 3 + 3000);
	lapic_init(m->cpu[0].lapic);
	assert_int_equal(lapic_set(m->cpu[0].lapic, &cpu, &err), 0);
	assert_int_equal(m->cpu[0].armed, m->now + 1000);
}

static void
refused(struct machine *m, unsigned cpu, struct cpu_state *forged,
    const char *name)
{
	static struct cpu_state before, behind;
	struct err err = { .msg = "" };

	lapic_get(m->cpu[cpu].lapic, &before);
	assert_int_equal(lapic_set(m->cpu[cpu].lapic, forged, &err), -EINVAL);
	assert_non_null(strstr(err.msg, name));
	lapic_get(m->cpu[cpu].lapic, &behind);
	assert_memory_equal(before.lapic, behind.lapic, CPU_LAPIC_SIZE);
	assert_int_equal(before.apic_base, behind.apic_base);
}

static void
forged_states_are_refused(void **state)
{
	struct machine *m = *state;
	static const struct {
		uint16_t reg;
		uint32_t value;
		const char *name;
	} rows[] = {
		{ ID, 0x05000001, "ID" },
		{ VERSION, 0x00060000, "version" },
		{ VERSION, 0x00ff0010, "version" },
		{ VERSION, 0x80060010, "version" },
		{ TPR, 0x100, "TPR" },
		{ LDR, 0x1, "LDR" },
		{ DFR, 0xf0000000, "DFR" },
		{ SVR, 0x11ff, "SVR" }, /* its version has no bit 12 */
		{ SVR, 0x80000000, "SVR" },
		{ ISR, 0x8000, "ISR" },
		{ ESR, 0x100, "ESR" },
		{ CMCI, 0x20000, "CMCI" },
		{ LVT_TIMER, 0x80000, "timer" },
		{ LVT_THERMAL, 0x2000, "thermal" },
		{ LVT_PMC, 0x800, "PMC" },
		{ LINT0, 0x800, "LINT0" },
		{ LINT1, 0x20000, "LINT1" },
		{ LVT_ERROR, 0x100, "error" },
	};
	static const uint64_t bases[] = { 0, BASE | X2, 0xfed00000 | EN,
		BASE | EN | BSP, BASE | EN | 1, BASE | EN | BIT(40) };
	static struct cpu_state cpu;

	enable(m);
	wr(m, 5, TPR, 0x20);
	msi(m, 5, 0x77);
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
		cpu_state_reset(&cpu, 5);
		le32_store(cpu.lapic + rows[i].reg, rows[i].value);
		refused(m, 5, &cpu, rows[i].name);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bases); i++) {
		cpu_state_reset(&cpu, 5);
		cpu.apic_base = bases[i];
		refused(m, 5, &cpu, "APIC_BASE");
	}
	cpu_state_reset(&cpu, 5);
	cpu.apic_base |= X2; /* its ID is still an xAPIC's */
	refused(m, 5, &cpu, "ID");
	take(m, 5, 0x77);
}

/* Random bytes: refused or not, the processor stays in order. */
static void
random_states(void **state)
{
	struct machine *m = *state;
	static struct cpu_state cpu;
	unsigned taken = 0;

	srandom(3);
	for (unsigned n = 0; n < 20000; n++) {
		struct err err;

		cpu_state_reset(&cpu, 5);
		for (unsigned i = (unsigned)random() % 8; i > 0; i--)
			le32_store(cpu.lapic + random() % 256 * 4,
			    (uint32_t)random64() &
				(random() % 2 ? 0xffff : 0xffffffff));
		if (random() % 4 == 0)
			cpu.apic_base ^= BIT(random() % 40);
		taken += lapic_set(m->cpu[5].lapic, &cpu, &err) == 0;
		for (unsigned i = 0; i < 4; i++)
			do_something(m, 5);
		if (pending(m, 5) >= 0)
			assert_true(lapic_accept(m->cpu[5].lapic) >= 16);
	}
	assert_true(taken > 1000 && taken < 19000);
}

/* What Linux's KVM saves and takes: arch/x86/kvm/lapic.c. */
static void
kvm_states_load(void **state)
{
	struct machine *m = *state;
	static struct cpu_state cpu, got;
	struct err err;

	/* A split interrupt controller: no CMCI, EOI suppression on offer. */
	cpu_state_reset(&cpu, 3);
	le32_store(cpu.lapic + VERSION, 0x01050014);
	le32_store(cpu.lapic + CMCI, 0);
	le32_store(cpu.lapic + SVR, 0x13ff);
	le32_store(cpu.lapic + LDR, 0x08000000);
	le32_store(cpu.lapic + ICR, 0xdc4041); /* reserved bits as written */
	le32_store(cpu.lapic + DIVIDE, 0x7);
	le32_store(cpu.lapic + LINT1, 0x5400); /* read-only bits as written */
	le32_store(cpu.lapic + LVT_TIMER, 0x200ef);
	le32_store(cpu.lapic + INITIAL, 1000);
	le32_store(cpu.lapic + CURRENT, 26000); /* of a longer period */
	le32_store(cpu.lapic + IRR, 1u << 3);   /* never to be delivered */
	le32_store(cpu.lapic + IRR + 0x20, 1);
	le32_store(cpu.lapic + TMR + 0x20, 1);
	le32_store(cpu.lapic + ISR + 0x10, 2);
	le32_store(cpu.lapic + PPR, 0x20);
	assert_int_equal(lapic_set(m->cpu[3].lapic, &cpu, &err), 0);
	assert_int_equal(rd(m, 3, VERSION), 0x01050014);
	assert_int_equal(rd(m, 3, LINT1), 0x400);
	assert_int_equal(rd(m, 3, ICR), 0xc4041);
	assert_int_equal(rd(m, 3, DIVIDE), 3);
	assert_int_equal(rd(m, 3, PPR), 0x20);
	assert_int_equal(rd(m, 3, CURRENT), 1000);
	assert_int_equal(m->cpu[3].armed, after(m->now, 16000));
	assert_int_equal(logical(m, 0x08, 0x91), 0);
	take(m, 3, 0x91);
	wr(m, 3, EOI, 0);
	take(m, 3, 0x40);
	wr(m, 3, EOI, 0);
	assert_int_equal(m->cpu[3].eois, 0); /* suppressed */
	wr(m, 3, SVR, 0x1ff);
	assert_int_equal(msi(m, 3, 0xc051), 0);
	take(m, 3, 0x51);
	wr(m, 3, EOI, 0);
	assert_int_equal(m->cpu[3].eois, 1);
	wr(m, 3, SVR, 0x11ff);
	assert_int_equal(rd(m, 3, SVR), 0x11ff);
	wr(m, 3, ESR, 0);
	assert_int_equal(rd(m, 3, CMCI), 0); /* there is none */
	wr(m, 3, ESR, 0);
	assert_int_equal(rd(m, 3, ESR), 0x80);

	/* x2APIC mode: the whole id, ICR in two registers. */
	cpu_state_reset(&cpu, 17);
	cpu.apic_base |= X2;
	le32_store(cpu.lapic + ID, 17);
	le32_store(cpu.lapic + LDR, 0x10002);
	le32_store(cpu.lapic + SVR, 0x1ff);
	le32_store(cpu.lapic + ICR, 0x40fb);
	le32_store(cpu.lapic + ICR + 4, 18); /* its own notes */
	le32_store(cpu.lapic + ICR_HIGH, 18);
	assert_int_equal(lapic_set(m->cpu[17].lapic, &cpu, &err), 0);
	assert_int_equal(rdmsr(m, 17, 0x802), 17);
	assert_int_equal(rdmsr(m, 17, 0x80d), 0x10002);
	assert_int_equal(rdmsr(m, 17, 0x830), 18ULL << 32 | 0x40fb);
	lapic_get(m->cpu[17].lapic, &got);
	le32_store(cpu.lapic + ICR + 4, 0);
	assert_memory_equal(got.lapic, cpu.lapic, CPU_LAPIC_SIZE);

	/* A guest of KVM may give itself another xAPIC id. */
	cpu_state_reset(&cpu, 4);
	le32_store(cpu.lapic + ID, 0x44000000);
	le32_store(cpu.lapic + SVR, 0x1ff);
	assert_int_equal(lapic_set(m->cpu[4].lapic, &cpu, &err), 0);
	assert_int_equal(msi(m, 4, 0x41), -EINVAL);
	assert_int_equal(msi(m, 0x44, 0x41), 0);
	assert_int_equal(receivers(m, 0x41), 1u << 4);
	lapic_init(m->cpu[4].lapic);
	assert_int_equal(rd(m, 4, ID), 0x44000000); /* INIT keeps it */
}

/* Errors that ESR does not show yet are not forgotten. */
static void
hidden_errors_travel(void **state)
{
	struct machine *m = *state;
	static struct cpu_state cpu;
	struct err err;

	enable(m);
	msi(m, 0, 0x05);
	lapic_get(m->cpu[0].lapic, &cpu);
	lapic_init(m->cpu[0].lapic);
	assert_int_equal(lapic_set(m->cpu[0].lapic, &cpu, &err), 0);
	assert_int_equal(rd(m, 0, ESR), 0);
	wr(m, 0, ESR, 0);
	assert_int_equal(rd(m, 0, ESR), 0x40);
}

/* ------------------------------------------------------ threads, fuzz */

#define SENDS 10000

struct sender {
	struct machine *m;
	pthread_t thread;
	uint8_t first, count; /* vectors of its own */
	_Atomic uint32_t sent[256], got[256];
	atomic_bool done;
};

/* Send each vector again once it has come through; count. */
static void *
send_all(void *arg)
{
	struct sender *s = arg;

	for (unsigned n = 0; n < SENDS; n++) {
		uint8_t v = (uint8_t)(s->first + n % s->count);

		while (atomic_load(&s->got[v]) != atomic_load(&s->sent[v]))
			(void)sched_yield(); /* it cannot fail */
		atomic_fetch_add(&s->sent[v], 1);
		/* Levels and edges, by vector: TMR has to agree. */
		msi(s->m, 0, v | (v & 1 ? 0xc000u : 0));
	}
	atomic_store(&s->done, true);
	return NULL;
}

static void
senders_lose_nothing(void **state)
{
	struct machine *m = *state;
	static struct sender senders[2];
	struct cpu *cpu = &m->cpu[0];
	uint64_t levels = 0, total = 0;

	enable(m);
	memset(senders, 0, sizeof(senders));
	for (unsigned i = 0; i < 2; i++) {
		/* Their vectors share words. */
		senders[i].m = m;
		senders[i].first = i == 0 ? 0x25 : 0x35;
		senders[i].count = 11;
		assert_int_equal(pthread_create(&senders[i].thread, NULL,
				     send_all, &senders[i]),
		    0);
	}
	while (total < 2 * SENDS) {
		/* As an engine does: no notice, no look. */
		if (atomic_exchange(&cpu->notified, 0) == 0) {
			(void)sched_yield(); /* it cannot fail */
			continue;
		}
		while (pending(m, 0) >= 0) {
			/* Perhaps a higher one by now. */
			uint8_t vector = lapic_accept(cpu->lapic);
			struct sender *s = &senders[vector >= 0x35];
			unsigned eois = cpu->eois;

			wr(m, 0, EOI, 0);
			assert_int_equal(cpu->eois - eois, vector & 1);
			levels += vector & 1;
			total++;
			atomic_fetch_add(&s->got[vector], 1);
		}
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pthread_join(senders[i].thread, NULL), 0);
		assert_true(atomic_load(&senders[i].done));
		for (unsigned v = 0; v < 256; v++)
			assert_int_equal(atomic_load(&senders[i].sent[v]),
			    atomic_load(&senders[i].got[v]));
	}
	assert_true(levels > SENDS / 2);
	assert_int_equal(pending(m, 0), -1);
}

static void
fuzz(void **state)
{
	struct machine *m = *state;
	static const uint64_t values[] = { 0, 1, 0x7fffffff, 0x80000000,
		0xffffffff, 0x100000000, UINT64_MAX };
	static struct cpu_state cpu;

	/* Each place, width and kind of value. */
	for (unsigned offset = 0; offset < 4096; offset++) {
		for (unsigned size = 1; size <= 8; size++) {
			uint64_t v =
			    lapic_mmio_read(m->cpu[1].lapic, offset, size);

			assert_int_equal(v & ~size_mask(size), 0);
			for (unsigned i = 0; i < ARRAY_SIZE(values); i++)
				lapic_mmio_write(m->cpu[1].lapic, offset, size,
				    values[i]);
		}
		if (m->cpu[1].armed <= (m->now += 100))
			lapic_timer_due(m->cpu[1].lapic);
	}
	/* At random, in all modes. */
	srandom(4);
	for (unsigned n = 0; n < 300000; n++) {
		unsigned i = (unsigned)random() % CPUS;
		struct lapic *l = m->cpu[i].lapic;
		uint64_t value = values[(unsigned)random() % 7], got;

		if (random() % 2)
			value = random64() >> random() % 64;
		switch (random() % 12) {
		case 0:
			(void)lapic_bus_msi(m->bus, BASE | (value & 0xfffff),
			    (uint32_t)random64());
			break;
		case 1:
			(void)lapic_wrmsr(l, APIC_BASE, BASE | (value & 0xf00));
			break;
		case 2:
			(void)lapic_wrmsr(l, 0x800 + random() % 256, value);
			break;
		case 3:
			(void)lapic_rdmsr(l, 0x800 + random() % 256, &got);
			break;
		case 4:
			lapic_set_cr8(l, (unsigned)value);
			assert_int_equal(lapic_get_cr8(l), value & 15);
			break;
		case 5:
			m->now += value >> 20;
			lapic_timer_due(l);
			break;
		case 6:
			(void)lapic_wrmsr(l, TSC_DEADLINE, value);
			break;
		case 7:
			if (lapic_pending(l) >= 0)
				assert_true(lapic_accept(l) >= 16);
			break;
		case 8:
			cpu.msr_count = 0;
			lapic_get(l, &cpu);
			if (random() % 4 == 0) {
				struct err err;

				assert_int_equal(lapic_set(l, &cpu, &err), 0);
			}
			break;
		default:
			lapic_mmio_write(l, random() % 64 * 16, 4, value);
			break;
		}
		assert_true(lapic_pending(l) == -1 || lapic_pending(l) >= 16);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(power_on),
		TEST(what_can_be_written),
		TEST(widths),
		TEST(software_disable_masks),
		TEST(disabled_hears_signals_only),
		TEST(classes_nest),
		TEST(tpr_and_cr8_mask),
		TEST(priorities_at_random),
		TEST(eoi_of_levels_is_told),
		TEST(message_destinations),
		TEST(logical_flat),
		TEST(logical_cluster),
		TEST(lowest_priority),
		TEST(ipis),
		TEST(ipis_that_signal),
		TEST(errors),
		TEST(lint0_passes_the_8259),
		TEST(base_transitions),
		TEST(entering_x2apic),
		TEST(x2apic_access),
		TEST(x2apic_destinations),
		TEST(mixed_modes),
		TEST(one_shot),
		TEST(divide),
		TEST(periodic),
		TEST(timer_masks_and_modes),
		TEST(deadline),
		TEST(round_trips),
		TEST(timer_resumes),
		TEST(forged_states_are_refused),
		TEST(random_states),
		TEST(kvm_states_load),
		TEST(hidden_errors_travel),
		TEST(senders_lose_nothing),
		TEST(fuzz),
	};

	return cmocka_run_group_tests_name("lapic", tests, NULL, NULL);
}
