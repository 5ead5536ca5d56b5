/*
 * The local APIC in software: its registers and its state.
 *
 * Models       SDM volume 3, chapter 11, as bhyve sets it up: version 0x10 with
 *              7 LVT entries; xAPIC at 0xfee00000 and nowhere else, x2APIC, and
 *              the ways between them (11.12.5).  What one register accepts is
 *              a row of the table below.
 * State        is the SDM's page of registers in struct cpu_state, as KVM keeps
 *              it.  Two things have no register: errors that ESR does not show
 *              yet lie in the 4 bytes behind it, which mean nothing to others,
 *              and an armed TSC deadline travels as its MSR.
 *              A state from KVM has KVM's version.  That stays, with what it
 *              promised: no CMCI, or to suppress EOI broadcasts.
 * Differences  The ID register is read-only, as in bhyve; a state may have
 *              another ID in it.
 *              APR and RRD, gone since the Pentium 4, read 0.
 *              Disabling in hardware resets all registers at once.
 * Access       xAPIC registers are 32-bit and 16 bytes apart.  Narrower reads
 *              have that part, wider ones zeros behind it; what is not at the
 *              start of a register, and narrower, is not written.
 *              In software-disabled state LVT entries are masked by any write
 *              of SVR and cannot be unmasked; those of power-on stay, so that
 *              the 8259A pair reaches the processor through LINT0.
 * Threads      the owner's; see lapic_impl.h.
 */
#include <errno.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "engine/x86/lapic_impl.h"

#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC 0x800u
#define MSR_X2APIC_LAST 0x8ffu

#define VERSION_RESET 0x00060010u
#define VERSION_NUMBER(v) ((v)&0xff)
#define VERSION_MAX_LVT(v) ((v) >> 16 & 0xff)
#define VERSION_NO_EOI BIT(24) /* SVR can suppress EOI broadcasts */
#define VERSION_BITS 0x1ff00ffu
#define VERSION_NUMBER_MIN 0x10 /* not an 82489DX */
#define VERSION_NUMBER_MAX 0x15
#define MAX_LVT_MIN 3
#define MAX_LVT_CMCI 6

#define SVR_RESET 0xffu
#define DFR_ONES 0x0fffffffu
#define ESR_BITS 0xffu
#define ICR_BITS 0x000ccfffu
#define ICR_BUSY 0x1000u
#define ID_BITS 0xff000000u
#define LVT_BUSY 0x1000u
#define LVT_REMOTE_IRR 0x4000u
#define LVT_BITS (LAPIC_LVT_MASKED | LAPIC_LVT_VECTOR)

/* In bytes, from the start of a register: to ESR's hidden part. */
#define ESR_HIDDEN 4

/* Where a register is read and written. */
#define XR BIT(0)
#define XW BIT(1)
#define R2 BIT(2) /* x2APIC */
#define W2 BIT(3)
#define STRICT BIT(4) /* a state cannot have other bits */
#define AWAY BIT(5)   /* not kept in struct lapic, reg */
#define R (XR | R2)
#define W (XW | W2)
#define LVT (R | W | STRICT)

static const struct row {
	const char *name;
	uint32_t bits;    /* that can be written */
	uint32_t ignored; /* that are read-only and 0; all others: #GP */
	uint8_t access;
} rows[LAPIC_REGS] = {
	[LAPIC_ID] = { "ID", 0, 0, R },
	[LAPIC_VERSION] = { "version", 0, 0, R },
	[LAPIC_TPR] = { "TPR", 0xff, 0, R | W | STRICT },
	[LAPIC_APR] = { "APR", 0, 0, XR | AWAY },
	[LAPIC_PPR] = { "PPR", 0, 0, R | AWAY },
	[LAPIC_EOI] = { "EOI", 0, 0, W | AWAY },
	[LAPIC_RRD] = { "RRD", 0, 0, XR | AWAY },
	[LAPIC_LDR] = { "LDR", ID_BITS, 0, R | XW },
	[LAPIC_DFR] = { "DFR", ~DFR_ONES, 0, XR | XW },
	[LAPIC_SVR] = { "SVR", 0x3ff, 0, R | W | STRICT },
	[LAPIC_ISR... LAPIC_ISR + 7] = { "ISR", 0, 0, R },
	[LAPIC_TMR... LAPIC_TMR + 7] = { "TMR", 0, 0, R | AWAY },
	[LAPIC_IRR... LAPIC_IRR + 7] = { "IRR", 0, 0, R | AWAY },
	[LAPIC_ESR] = { "ESR", 0, 0, R | W },
	[LAPIC_LVT_CMCI] = { "LVT CMCI", LVT_BITS | LAPIC_LVT_MODE, LVT_BUSY,
	    LVT },
	[LAPIC_ICR] = { "ICR", ICR_BITS, ICR_BUSY, R | W },
	[LAPIC_ICR_HIGH] = { "ICR high", ID_BITS, 0, XR | XW },
	[LAPIC_LVT_TIMER] = { "LVT timer", LVT_BITS | 0x60000, LVT_BUSY, LVT },
	[LAPIC_LVT_THERMAL] = { "LVT thermal", LVT_BITS | LAPIC_LVT_MODE,
	    LVT_BUSY, LVT },
	[LAPIC_LVT_PMC] = { "LVT PMC", LVT_BITS | LAPIC_LVT_MODE, LVT_BUSY,
	    LVT },
	[LAPIC_LVT_LINT0] = { "LVT LINT0", LVT_BITS | LAPIC_LVT_MODE | 0xa000,
	    LVT_BUSY | LVT_REMOTE_IRR, LVT },
	[LAPIC_LVT_LINT1] = { "LVT LINT1", LVT_BITS | LAPIC_LVT_MODE | 0xa000,
	    LVT_BUSY | LVT_REMOTE_IRR, LVT },
	[LAPIC_LVT_ERROR] = { "LVT error", LVT_BITS, LVT_BUSY, LVT },
	[LAPIC_TIMER_INITIAL] = { "initial count", UINT32_MAX, 0, R | W },
	[LAPIC_TIMER_CURRENT] = { "current count", 0, 0, R | AWAY },
	[LAPIC_TIMER_DIVIDE] = { "divide configuration", 0xb, 0, R | W },
	[LAPIC_SELF_IPI] = { "self IPI", 0xff, 0, W2 | AWAY },
};

static bool
is_lvt(unsigned reg)
{
	return reg == LAPIC_LVT_CMCI ||
	    (reg >= LAPIC_LVT_TIMER && reg <= LAPIC_LVT_ERROR);
}

static uint32_t
row_bits(unsigned reg, uint32_t version)
{
	uint32_t bits = rows[reg].bits;

	if (reg == LAPIC_SVR && (version & VERSION_NO_EOI))
		bits |= LAPIC_SVR_NO_EOI;
	return bits;
}

static uint8_t
reg_access(const struct lapic *lapic, unsigned reg)
{
	if (reg >= LAPIC_REGS ||
	    (reg == LAPIC_LVT_CMCI &&
		VERSION_MAX_LVT(lapic->reg[LAPIC_VERSION]) < MAX_LVT_CMCI))
		return 0;
	return rows[reg].access;
}

/* -------------------------------------------------------------- resets */

/* In x2APIC mode ID and LDR follow from the processor's number: 11.12.10. */
static void
identify(struct lapic *lapic)
{
	unsigned id = lapic->id;

	if (lapic_is_x2apic(lapic)) {
		lapic->reg[LAPIC_ID] = id;
		lapic->reg[LAPIC_LDR] = id >> 4 << 16 | 1u << id % 16;
	} else {
		lapic->reg[LAPIC_ID] = id << 24;
		lapic->reg[LAPIC_LDR] = 0;
	}
}

/*
 * Table 11-1, and LINT0 as cpu_state.c has it.  What comes from others while
 * this runs comes before or after: a bit that stays has its news.
 */
void
lapic_init(struct lapic *lapic)
{
	uint32_t *reg = lapic->reg;
	uint32_t id = reg[LAPIC_ID];

	identify(lapic);
	reg[LAPIC_ID] = id;
	reg[LAPIC_TPR] = 0;
	reg[LAPIC_DFR] = UINT32_MAX;
	reg[LAPIC_SVR] = SVR_RESET;
	reg[LAPIC_ESR] = 0;
	reg[LAPIC_ICR] = 0;
	reg[LAPIC_ICR_HIGH] = 0;
	reg[LAPIC_LVT_CMCI] = LAPIC_LVT_MASKED;
	for (unsigned i = LAPIC_LVT_TIMER; i <= LAPIC_LVT_ERROR; i++)
		reg[i] = LAPIC_LVT_MASKED;
	if (lapic->id == 0)
		reg[LAPIC_LVT_LINT0] = LAPIC_MODE_EXTINT << 8;
	if (VERSION_MAX_LVT(reg[LAPIC_VERSION]) < MAX_LVT_CMCI)
		reg[LAPIC_LVT_CMCI] = 0;
	reg[LAPIC_TIMER_INITIAL] = 0;
	reg[LAPIC_TIMER_DIVIDE] = 0;
	lapic->errors = 0;
	lapic_publish(lapic);
	for (unsigned i = 0; i < LAPIC_VECTOR_WORDS; i++) {
		reg[LAPIC_ISR + i] = 0;
		/* Relaxed: with no sender's data is anything done. */
		atomic_store_explicit(&lapic->irr[i], 0, memory_order_relaxed);
		atomic_store_explicit(&lapic->tmr[i], 0, memory_order_relaxed);
	}
	atomic_store_explicit(&lapic->errors_found, 0, memory_order_relaxed);
	lapic_timer_stop(lapic);
	lapic_update(lapic);
}

struct lapic *
lapic_new(struct lapic_bus *bus, unsigned id, const struct lapic_ops *ops,
    void *arg)
{
	struct lapic *lapic = xcalloc(1, sizeof(*lapic));

	lapic->bus = bus;
	lapic->ops = ops;
	lapic->arg = arg;
	lapic->id = id;
	lapic->base = LAPIC_BASE_ADDR | LAPIC_BASE_ENABLE |
	    (id == 0 ? LAPIC_BASE_BSP : 0);
	lapic->reg[LAPIC_VERSION] = VERSION_RESET;
	identify(lapic);
	lapic_init(lapic);
	lapic_bus_add(bus, lapic);
	return lapic;
}

void
lapic_free(struct lapic *lapic)
{
	if (lapic == NULL)
		return;
	lapic_bus_remove(lapic->bus, lapic);
	free(lapic);
}

/* ----------------------------------------------------------- registers */

static uint32_t
reg_get(const struct lapic *lapic, unsigned reg)
{
	unsigned word = reg % LAPIC_VECTOR_WORDS;

	/* Relaxed: what others send is there when it is there. */
	if (reg >= LAPIC_TMR && reg < LAPIC_IRR)
		return atomic_load_explicit(&lapic->tmr[word],
		    memory_order_relaxed);
	if (reg >= LAPIC_IRR && reg < LAPIC_ESR)
		return atomic_load_explicit(&lapic->irr[word],
		    memory_order_relaxed);
	if (reg == LAPIC_PPR)
		return atomic_load_explicit(&lapic->ppr, memory_order_relaxed);
	if (reg == LAPIC_TIMER_CURRENT)
		return lapic_timer_count(lapic);
	return lapic->reg[reg];
}

static void
lvt_set(struct lapic *lapic, unsigned reg, uint32_t value)
{
	if (!(lapic->reg[LAPIC_SVR] & LAPIC_SVR_ENABLE))
		value |= LAPIC_LVT_MASKED;
	if (reg == LAPIC_LVT_TIMER)
		lapic_timer_set_lvt(lapic, value);
	else
		lapic->reg[reg] = value;
}

static void
svr_set(struct lapic *lapic, uint32_t value)
{
	lapic->reg[LAPIC_SVR] = value;
	if (!(value & LAPIC_SVR_ENABLE)) {
		for (unsigned i = 0; i < LAPIC_REGS; i++) {
			if (is_lvt(i) && reg_access(lapic, i) != 0)
				lvt_set(lapic, i, lapic->reg[i]);
		}
	}
	lapic_publish(lapic);
}

/* The value has no bits but those of its row, and the access is allowed. */
static void
reg_set(struct lapic *lapic, unsigned reg, uint32_t value)
{
	if (is_lvt(reg)) {
		lvt_set(lapic, reg, value);
		return;
	}
	switch (reg) {
	case LAPIC_TPR:
		lapic->reg[LAPIC_TPR] = value;
		lapic_update(lapic);
		break;
	case LAPIC_EOI:
		lapic_end_of_interrupt(lapic);
		break;
	case LAPIC_DFR:
		lapic->reg[LAPIC_DFR] = value | DFR_ONES;
		lapic_publish(lapic);
		break;
	case LAPIC_LDR:
		lapic->reg[LAPIC_LDR] = value;
		lapic_publish(lapic);
		break;
	case LAPIC_SVR:
		svr_set(lapic, value);
		break;
	case LAPIC_ESR:
		(void)lapic_pending(lapic); /* with what others found */
		lapic->reg[LAPIC_ESR] = lapic->errors;
		lapic->errors = 0;
		break;
	case LAPIC_ICR:
		lapic->reg[LAPIC_ICR] = value;
		lapic_ipi(lapic);
		break;
	case LAPIC_ICR_HIGH:
		lapic->reg[LAPIC_ICR_HIGH] = value;
		break;
	case LAPIC_TIMER_INITIAL:
		lapic_timer_set_initial(lapic, value);
		break;
	case LAPIC_TIMER_DIVIDE:
		lapic_timer_set_divide(lapic, value);
		break;
	case LAPIC_SELF_IPI:
		lapic_self_ipi(lapic, (uint8_t)value);
		break;
	}
}

uint64_t
lapic_page(const struct lapic *lapic)
{
	return lapic_is_enabled(lapic) && !lapic_is_x2apic(lapic) ?
	    LAPIC_BASE_ADDR :
	    UINT64_MAX;
}

uint64_t
lapic_mmio_read(struct lapic *lapic, unsigned offset, unsigned size)
{
	unsigned reg = offset / 16, part = offset % 16;
	uint8_t access = reg_access(lapic, reg);
	uint64_t value;

	if (lapic_page(lapic) == UINT64_MAX)
		return size_mask(size); /* nobody is there */
	if (!(access & (XR | XW)))
		lapic_error(lapic, LAPIC_ESR_REGISTER);
	if (!(access & XR) || part >= sizeof(uint32_t))
		return 0;
	value = reg_get(lapic, reg);
	return value >> part * 8 & size_mask(size);
}

void
lapic_mmio_write(struct lapic *lapic, unsigned offset, unsigned size,
    uint64_t value)
{
	unsigned reg = offset / 16, part = offset % 16;
	uint8_t access = reg_access(lapic, reg);

	if (lapic_page(lapic) == UINT64_MAX)
		return;
	if (!(access & (XR | XW)))
		lapic_error(lapic, LAPIC_ESR_REGISTER);
	if (!(access & XW) || part != 0 || size < sizeof(uint32_t))
		return;
	reg_set(lapic, reg,
	    (uint32_t)value & row_bits(reg, lapic->reg[LAPIC_VERSION]));
}

/* -------------------------------------------------------------- MSRs */

uint64_t
lapic_base(const struct lapic *lapic)
{
	return lapic->base;
}

/*
 * Figure 11-27: off, xAPIC, x2APIC and off again.
 *
 *      off ──▶ xAPIC ──▶ x2APIC
 *       ▲────────┴─────────┘
 */
static bool
base_set(struct lapic *lapic, uint64_t value)
{
	const uint64_t modes = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
	uint64_t from = lapic->base & modes, to = value & modes;

	if ((value & ~(modes | LAPIC_BASE_BSP)) != LAPIC_BASE_ADDR ||
	    to == LAPIC_BASE_X2APIC)
		return false;
	if (to == from)
		return true;
	if ((to == modes && from == 0) || (to != 0 && from == modes))
		return false;
	lapic->base = (lapic->base & ~modes) | to;
	identify(lapic);
	if (to == modes) {
		/* Not kept: ID, LDR and this. */
		lapic->reg[LAPIC_ICR_HIGH] = 0;
		lapic_publish(lapic);
	} else {
		lapic_init(lapic);
	}
	return true;
}

static bool
x2apic_read(struct lapic *lapic, unsigned reg, uint64_t *value)
{
	if (!lapic_is_x2apic(lapic) || !(reg_access(lapic, reg) & R2))
		return false;
	*value = reg_get(lapic, reg);
	if (reg == LAPIC_ICR)
		*value |= (uint64_t)lapic->reg[LAPIC_ICR_HIGH] << 32;
	return true;
}

static bool
x2apic_write(struct lapic *lapic, unsigned reg, uint64_t value)
{
	uint64_t bits;

	if (!lapic_is_x2apic(lapic) || !(reg_access(lapic, reg) & W2))
		return false;
	bits = row_bits(reg, lapic->reg[LAPIC_VERSION]);
	if (reg == LAPIC_ICR)
		bits |= (uint64_t)UINT32_MAX << 32;
	if (value & ~(bits | rows[reg].ignored))
		return false;
	value &= bits;
	if (reg == LAPIC_ICR)
		lapic->reg[LAPIC_ICR_HIGH] = value >> 32;
	reg_set(lapic, reg, (uint32_t)value);
	return true;
}

bool
lapic_rdmsr(struct lapic *lapic, uint32_t index, uint64_t *value)
{
	if (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST)
		return x2apic_read(lapic, index - MSR_X2APIC, value);
	switch (index) {
	case MSR_APIC_BASE:
		*value = lapic->base;
		return true;
	case MSR_TSC_DEADLINE:
		*value = lapic_timer_get_deadline(lapic);
		return true;
	}
	return false;
}

bool
lapic_wrmsr(struct lapic *lapic, uint32_t index, uint64_t value)
{
	if (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST)
		return x2apic_write(lapic, index - MSR_X2APIC, value);
	switch (index) {
	case MSR_APIC_BASE:
		return base_set(lapic, value);
	case MSR_TSC_DEADLINE:
		lapic_timer_set_deadline(lapic, value);
		return true;
	}
	return false;
}

/* -------------------------------------------------------- saved state */

/* Registers as a state has them, put in order by page_fetch(). */
struct page {
	uint64_t base;
	uint32_t reg[LAPIC_REGS];
	uint32_t errors;
	uint64_t deadline;
};

void
lapic_get(struct lapic *lapic, struct cpu_state *state)
{
	uint64_t deadline;

	lapic_timer_due(lapic);     /* so that it is counting, or in IRR */
	(void)lapic_pending(lapic); /* so that errors are found */
	deadline = lapic_timer_get_deadline(lapic);
	memset(state->lapic, 0, sizeof(state->lapic));
	for (unsigned i = 0; i < LAPIC_REGS; i++)
		le32_store(state->lapic + i * 16, reg_get(lapic, i));
	le32_store(state->lapic + LAPIC_ESR * 16 + ESR_HIDDEN, lapic->errors);
	state->apic_base = lapic->base;
	if (deadline != 0) /* has room */
		(void)cpu_state_set_msr(state, MSR_TSC_DEADLINE, deadline);
}

static int
refuse(const struct lapic *lapic, const char *name, uint64_t value,
    struct err *err)
{
	return err_set(err, -EINVAL, "local APIC %u: its %s cannot be 0x%llx",
	    lapic->id, name, (unsigned long long)value);
}

static int
base_check(const struct lapic *lapic, uint64_t base, struct err *err)
{
	uint64_t fixed =
	    LAPIC_BASE_ADDR | (lapic->id == 0 ? LAPIC_BASE_BSP : 0);

	if ((base & ~(LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC)) != fixed ||
	    ((base & LAPIC_BASE_X2APIC) && !(base & LAPIC_BASE_ENABLE)))
		return refuse(lapic, "APIC_BASE", base, err);
	return 0;
}

static int
page_check(const struct lapic *lapic, const struct page *page, struct err *err)
{
	const uint32_t *reg = page->reg;
	uint32_t version = reg[LAPIC_VERSION];
	int bad = -1;

	if ((version & ~VERSION_BITS) ||
	    VERSION_NUMBER(version) < VERSION_NUMBER_MIN ||
	    VERSION_NUMBER(version) > VERSION_NUMBER_MAX ||
	    VERSION_MAX_LVT(version) < MAX_LVT_MIN ||
	    VERSION_MAX_LVT(version) > MAX_LVT_CMCI)
		bad = LAPIC_VERSION;
	for (unsigned i = 0; i < LAPIC_REGS; i++) {
		uint32_t bits = row_bits(i, version) | rows[i].ignored;

		if ((rows[i].access & STRICT) && (reg[i] & ~bits))
			bad = i;
	}
	if (page->base & LAPIC_BASE_X2APIC) {
		if (reg[LAPIC_ID] != lapic->id)
			bad = LAPIC_ID;
	} else if (page->base & LAPIC_BASE_ENABLE) {
		if (reg[LAPIC_ID] & ~ID_BITS)
			bad = LAPIC_ID;
		if (reg[LAPIC_LDR] & ~ID_BITS)
			bad = LAPIC_LDR;
	}
	if ((reg[LAPIC_DFR] & DFR_ONES) != DFR_ONES)
		bad = LAPIC_DFR;
	if (reg[LAPIC_ESR] & ~ESR_BITS)
		bad = LAPIC_ESR;
	/* Invariant 1: nothing below 16 can have been accepted. */
	if (reg[LAPIC_ISR] & (BIT(LAPIC_VECTOR_MIN) - 1))
		bad = LAPIC_ISR;
	return bad < 0 ? 0 : refuse(lapic, rows[bad].name, reg[bad], err);
}

/*
 * Fetch a state's registers.  KVM keeps ICR and the divide configuration as a
 * guest wrote them, read-only bits of LVT entries too, and takes requests for
 * illegal vectors that it never delivers; none of that is anybody's forgery.
 */
static int
page_fetch(const struct lapic *lapic, const struct cpu_state *state,
    struct page *page, struct err *err)
{
	uint32_t *reg = page->reg;
	int rc;

	for (unsigned i = 0; i < LAPIC_REGS; i++)
		reg[i] = le32_load(state->lapic + i * 16);
	page->base = state->apic_base;
	page->errors =
	    le32_load(state->lapic + LAPIC_ESR * 16 + ESR_HIDDEN) & ESR_BITS;
	page->deadline = 0;
	for (unsigned i = 0; i < state->msr_count; i++) {
		if (state->msr[i].index == MSR_TSC_DEADLINE)
			page->deadline = state->msr[i].value;
	}
	rc = base_check(lapic, page->base, err);
	if (rc == 0)
		rc = page_check(lapic, page, err);
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < LAPIC_REGS; i++)
		reg[i] &= ~rows[i].ignored;
	reg[LAPIC_ICR] &= ICR_BITS;
	reg[LAPIC_TIMER_DIVIDE] &= rows[LAPIC_TIMER_DIVIDE].bits;
	reg[LAPIC_IRR] &= ~(uint32_t)(BIT(LAPIC_VECTOR_MIN) - 1);
	reg[LAPIC_TMR] &= ~(uint32_t)(BIT(LAPIC_VECTOR_MIN) - 1);
	if (!(page->base & LAPIC_BASE_X2APIC))
		reg[LAPIC_ICR_HIGH] &= ID_BITS;
	return 0;
}

int
lapic_set(struct lapic *lapic, const struct cpu_state *state, struct err *err)
{
	struct page page;
	int rc = page_fetch(lapic, state, &page, err);

	if (rc < 0)
		return rc;
	lapic->base = page.base;
	for (unsigned i = 0; i < LAPIC_REGS; i++) {
		bool here = rows[i].access != 0 && !(rows[i].access & AWAY);

		lapic->reg[i] = here ? page.reg[i] : 0;
	}
	/* An xAPIC's ID and LDR are its own, others' follow. */
	if (lapic_page(lapic) == UINT64_MAX)
		identify(lapic);
	lapic->errors = page.errors;
	for (unsigned i = 0; i < LAPIC_VECTOR_WORDS; i++) {
		/* Relaxed: whatever is sent now comes before or after. */
		atomic_store_explicit(&lapic->irr[i], page.reg[LAPIC_IRR + i],
		    memory_order_relaxed);
		atomic_store_explicit(&lapic->tmr[i], page.reg[LAPIC_TMR + i],
		    memory_order_relaxed);
	}
	atomic_store_explicit(&lapic->errors_found, 0, memory_order_relaxed);
	lapic_publish(lapic);
	lapic->timer.deadline = 0;
	lapic_timer_resume(lapic, page.reg[LAPIC_TIMER_CURRENT]);
	lapic_timer_set_deadline(lapic, page.deadline);
	lapic_update(lapic);
	return 0;
}
