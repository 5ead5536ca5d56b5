/*
 * Local APICs: priorities, and the messages between them.
 *
 * Models       SDM volume 3, 11.6 (IPIs and destinations), 11.8 (priorities,
 *              acceptance, EOI) and 11.11 (message signalled interrupts).
 * Broadcast    is for the sender to say: 0xff in a message and in an xAPIC's
 *              IPI, 0xffffffff in an x2APIC's.  Every processor hears it,
 *              whatever its own mode, and so are physical ids compared.
 * Lowest       priority goes to the lowest PPR among those who listen, in turn
 *              if there are several.  A message with the redirection hint is
 *              treated so too.
 * Differences  IPIs are edge-triggered (11.6.1).  With shorthands every mode is
 *              sent that can be sent without.  SMI, remote read and ExtINT IPIs
 *              go nowhere.
 *              Bit 2 of a message's address, logical mode, counts also without
 *              the redirection hint, as in chip sets.
 *              An error interrupts once until ESR is written (11.5.3).
 * Threads      A sender writes TMR, then IRR (release), then `news` (release),
 *              then calls notify().  The owner takes `news` away (acquire)
 *              before it looks at IRR, so a bit it does not see is followed by
 *              news that it will.  Senders read `route` and `ppr`; a message
 *              that crosses with a change of those arrives before or after it.
 */
#include <errno.h>

#include "base/alloc.h"
#include "engine/x86/lapic_impl.h"

/* struct lapic, route */
#define ROUTE_ID 0xffu
#define ROUTE_LDR_SHIFT 8
#define ROUTE_FLAT BIT(16)
#define ROUTE_CLUSTER BIT(17)
#define ROUTE_X2APIC BIT(18)
#define ROUTE_LISTENS BIT(19) /* enabled in hardware and in software */

#define DFR_FLAT 0xf
#define DFR_CLUSTER 0x0

#define ICR_LOGICAL 0x800u
#define ICR_SHORTHAND(icr) ((icr) >> 18 & 3)
enum { ICR_DESTINATION, ICR_SELF, ICR_ALL, ICR_OTHERS };

#define MSI_ADDR 0xfeeu /* bits 31 to 20 */
#define MSI_ADDR_HINT 0x8u
#define MSI_ADDR_LOGICAL 0x4u

#define BROADCAST 0xffu
#define BROADCAST_X2APIC UINT32_MAX

/* The class, in place. */
#define PRIORITY(vector) ((vector)&0xf0u)

struct lapic_bus {
	unsigned count;
	_Atomic unsigned turn; /* where the next search for one begins */
	_Atomic(struct lapic *) lapic[];
};

struct message {
	uint32_t dest;
	bool logical;
	bool broadcast;
	bool one; /* of all targets, the one of lowest priority */
	bool level;
	enum lapic_mode mode;
	uint8_t vector;
	const struct lapic *only, *except; /* NULL: no such limit */
};

/* ------------------------------------------------------ to one processor */

static bool
listens(struct lapic *lapic)
{
	/* Acquire: with the release in lapic_publish(). */
	return atomic_load_explicit(&lapic->route, memory_order_acquire) &
	    ROUTE_LISTENS;
}

static void
tell(struct lapic *lapic)
{
	/* Release: with the owner's acquire in look(). */
	atomic_store_explicit(&lapic->news, true, memory_order_release);
	lapic->ops->notify(lapic->arg);
}

/* A vector arrives: from any thread. */
static void
receive(struct lapic *lapic, uint8_t vector, bool level)
{
	unsigned word = vector / 32;
	uint32_t bit = 1u << vector % 32;

	if (!listens(lapic))
		return;
	if (vector < LAPIC_VECTOR_MIN) {
		/* The news, behind it, has the order for both sides. */
		atomic_fetch_or_explicit(&lapic->errors_found,
		    LAPIC_ESR_RECEIVE_VECTOR, memory_order_relaxed);
		tell(lapic);
		return;
	}
	if (level)
		atomic_fetch_or_explicit(&lapic->tmr[word], bit,
		    memory_order_relaxed);
	else
		atomic_fetch_and_explicit(&lapic->tmr[word], ~bit,
		    memory_order_relaxed);
	/*
	 * Release: the owner's acquire in lapic_accept() has TMR with it.
	 * Whoever set a bit that was set already has told or is about to.
	 */
	if (!(atomic_fetch_or_explicit(&lapic->irr[word], bit,
		  memory_order_release) &
		bit))
		tell(lapic);
}

static void
deliver(struct lapic *lapic, const struct message *m)
{
	const struct lapic_ops *ops = lapic->ops;

	switch (m->mode) {
	case LAPIC_MODE_FIXED:
	case LAPIC_MODE_LOWEST:
		receive(lapic, m->vector, m->level);
		break;
	case LAPIC_MODE_NMI:
		ops->signal(lapic->arg, LAPIC_NMI, 0);
		break;
	case LAPIC_MODE_INIT:
		ops->signal(lapic->arg, LAPIC_INIT, 0);
		break;
	case LAPIC_MODE_SIPI:
		ops->signal(lapic->arg, LAPIC_SIPI, m->vector);
		break;
	case LAPIC_MODE_EXTINT:
		ops->signal(lapic->arg, LAPIC_EXTINT, m->vector);
		break;
	case LAPIC_MODE_SMI:
	case LAPIC_MODE_RESERVED:
		break;
	}
}

/* ------------------------------------------------------------ the bus */

struct lapic_bus *
lapic_bus_new(unsigned count)
{
	struct lapic_bus *bus =
	    xcalloc(1, sizeof(*bus) + count * sizeof(bus->lapic[0]));

	bus->count = count;
	return bus;
}

void
lapic_bus_free(struct lapic_bus *bus)
{
	free(bus);
}

void
lapic_bus_add(struct lapic_bus *bus, struct lapic *lapic)
{
	assert(lapic->id < bus->count);
	/* Release: a sender's acquire in bus_lapic() finds it complete. */
	atomic_store_explicit(&bus->lapic[lapic->id], lapic,
	    memory_order_release);
}

void
lapic_bus_remove(struct lapic_bus *bus, struct lapic *lapic)
{
	/* Nobody sends to a processor that is being taken away. */
	atomic_store_explicit(&bus->lapic[lapic->id], NULL,
	    memory_order_relaxed);
}

static struct lapic *
bus_lapic(struct lapic_bus *bus, unsigned i)
{
	return atomic_load_explicit(&bus->lapic[i], memory_order_acquire);
}

/* 11.6.2.2; an x2APIC's logical id follows from its id, 11.12.10.2. */
static bool
matches_logical(const struct lapic *lapic, uint32_t route, uint32_t dest)
{
	uint32_t ldr = route >> ROUTE_LDR_SHIFT & 0xff;

	if (route & ROUTE_X2APIC)
		return dest >> 16 == lapic->id >> 4 &&
		    (dest & 1u << lapic->id % 16);
	if (dest > 0xff)
		return false;
	if (route & ROUTE_FLAT)
		return dest & ldr;
	if (route & ROUTE_CLUSTER)
		return dest >> 4 == ldr >> 4 && (dest & ldr & 0xf);
	return false;
}

static bool
matches(struct lapic *lapic, const struct message *m)
{
	/* Acquire: with the release in lapic_publish(). */
	uint32_t route =
	    atomic_load_explicit(&lapic->route, memory_order_acquire);

	if ((m->only != NULL && lapic != m->only) || lapic == m->except)
		return false;
	if (m->broadcast)
		return true;
	if (m->logical)
		return matches_logical(lapic, route, m->dest);
	return m->dest == (route & ROUTE_X2APIC ? lapic->id : route & ROUTE_ID);
}

/* Is there a target?  Whether it then listens is another matter. */
static bool
bus_send(struct lapic_bus *bus, const struct message *m)
{
	bool vectored =
	    m->mode == LAPIC_MODE_FIXED || m->mode == LAPIC_MODE_LOWEST;
	struct lapic *chosen = NULL;
	unsigned lowest = UINT8_MAX + 1;
	unsigned first = 0;
	bool found = false;

	/* Relaxed: any order of taking turns is fair. */
	if (m->one)
		first = atomic_fetch_add_explicit(&bus->turn, 1,
			    memory_order_relaxed) %
		    bus->count;
	for (unsigned i = 0; i < bus->count; i++) {
		struct lapic *lapic = bus_lapic(bus, (first + i) % bus->count);
		unsigned ppr;

		if (lapic == NULL || !matches(lapic, m))
			continue;
		found = true;
		if (!m->one) {
			deliver(lapic, m);
			continue;
		}
		/* Relaxed: a hint, and old by the time it is used. */
		ppr = atomic_load_explicit(&lapic->ppr, memory_order_relaxed);
		if ((vectored && !listens(lapic)) || ppr >= lowest)
			continue;
		lowest = ppr;
		chosen = lapic;
	}
	if (chosen != NULL)
		deliver(chosen, m);
	return found;
}

int
lapic_bus_msi(struct lapic_bus *bus, uint64_t addr, uint32_t data)
{
	struct message m = {
		.dest = addr >> 12 & 0xff,
		.logical = addr & MSI_ADDR_LOGICAL,
		.one = addr & MSI_ADDR_HINT,
		.level = data & LAPIC_ICR_TRIGGER,
		.mode = data >> 8 & 7,
		.vector = (uint8_t)data,
	};

	/* A start-up is for processors alone to send (11.11.2). */
	if (addr >> 20 != MSI_ADDR || m.mode == LAPIC_MODE_RESERVED ||
	    m.mode == LAPIC_MODE_SIPI)
		return -EINVAL;
	m.broadcast = m.dest == BROADCAST;
	m.one |= m.mode == LAPIC_MODE_LOWEST;
	/* The end of a level is nothing that an APIC waits for. */
	if (m.level && !(data & LAPIC_ICR_LEVEL))
		return 0;
	return bus_send(bus, &m) ? 0 : -EINVAL;
}

/* --------------------------------------------------------------- IPIs */

void
lapic_ipi(struct lapic *lapic)
{
	uint32_t icr = lapic->reg[LAPIC_ICR];
	uint32_t high = lapic->reg[LAPIC_ICR_HIGH];
	struct message m = {
		.logical = icr & ICR_LOGICAL,
		.mode = icr >> 8 & 7,
		.vector = (uint8_t)icr,
	};

	if (m.mode == LAPIC_MODE_EXTINT)
		return; /* reserved here */
	/* The de-assert that wakes nobody since the Pentium. */
	if (m.mode == LAPIC_MODE_INIT && (icr & LAPIC_ICR_TRIGGER) &&
	    !(icr & LAPIC_ICR_LEVEL))
		return;
	if (m.mode <= LAPIC_MODE_LOWEST && m.vector < LAPIC_VECTOR_MIN) {
		lapic_error(lapic, LAPIC_ESR_SEND_VECTOR);
		return;
	}
	m.one = m.mode == LAPIC_MODE_LOWEST;
	if (lapic_is_x2apic(lapic)) {
		m.dest = high;
		m.broadcast = m.dest == BROADCAST_X2APIC;
	} else {
		m.dest = high >> 24;
		m.broadcast = m.dest == BROADCAST;
	}
	switch (ICR_SHORTHAND(icr)) {
	case ICR_SELF:
		m.broadcast = true;
		m.only = lapic;
		break;
	case ICR_OTHERS:
		m.except = lapic;
		/* fallthrough */
	case ICR_ALL:
		m.broadcast = true;
		break;
	}
	(void)bus_send(lapic->bus, &m); /* to nobody: no error since P6 */
}

void
lapic_self_ipi(struct lapic *lapic, uint8_t vector)
{
	if (vector < LAPIC_VECTOR_MIN)
		lapic_error(lapic, LAPIC_ESR_SEND_VECTOR);
	else
		receive(lapic, vector, false);
}

/* ----------------------------------------------------- own interrupts */

void
lapic_lvt_deliver(struct lapic *lapic, enum lapic_reg lvt)
{
	uint32_t entry = lapic->reg[lvt];
	uint8_t vector = entry & LAPIC_LVT_VECTOR;

	if ((entry & LAPIC_LVT_MASKED) || !listens(lapic))
		return;
	if (vector < LAPIC_VECTOR_MIN)
		lapic_error(lapic, LAPIC_ESR_RECEIVE_VECTOR);
	else
		receive(lapic, vector, false);
}

/* An error entry with a bad vector comes here again, and finds errors. */
void
lapic_error(struct lapic *lapic, uint32_t bits)
{
	bool first = lapic->errors == 0;

	lapic->errors |= bits;
	if (first)
		lapic_lvt_deliver(lapic, LAPIC_LVT_ERROR);
}

/* --------------------------------------------------------- priorities */

void
lapic_publish(struct lapic *lapic)
{
	uint32_t route = lapic->reg[LAPIC_ID] >> 24;

	if (lapic_is_x2apic(lapic))
		route = ROUTE_X2APIC;
	else
		route |= lapic->reg[LAPIC_LDR] >> 24 << ROUTE_LDR_SHIFT;
	if (lapic->reg[LAPIC_DFR] >> 28 == DFR_FLAT)
		route |= ROUTE_FLAT;
	if (lapic->reg[LAPIC_DFR] >> 28 == DFR_CLUSTER)
		route |= ROUTE_CLUSTER;
	if (lapic_is_enabled(lapic) &&
	    (lapic->reg[LAPIC_SVR] & LAPIC_SVR_ENABLE))
		route |= ROUTE_LISTENS;
	/* Release: with the acquires in matches() and listens(). */
	atomic_store_explicit(&lapic->route, route, memory_order_release);
}

/* The highest vector in eight words; 0: none. */
static uint8_t
highest(const uint32_t words[static LAPIC_VECTOR_WORDS])
{
	for (unsigned i = LAPIC_VECTOR_WORDS; i-- > 0;) {
		if (words[i] != 0)
			return i * 32 + 31 - __builtin_clz(words[i]);
	}
	return 0;
}

/* 11.8.3.1: what is in service and TPR hold lower classes back. */
static void
look(struct lapic *lapic)
{
	uint32_t errors;
	uint8_t tpr = lapic->reg[LAPIC_TPR];
	uint8_t ppr, irrv = 0;

	/* Acquire: with the release in tell(), and before reading IRR. */
	(void)atomic_exchange_explicit(&lapic->news, false,
	    memory_order_acquire);
	errors = atomic_exchange_explicit(&lapic->errors_found, 0,
	    memory_order_relaxed);
	if (errors != 0)
		lapic_error(lapic, errors);

	lapic->isrv = highest(&lapic->reg[LAPIC_ISR]);
	ppr = PRIORITY(tpr) >= PRIORITY(lapic->isrv) ? tpr :
						       PRIORITY(lapic->isrv);
	/* Relaxed: senders take it for a hint. */
	atomic_store_explicit(&lapic->ppr, ppr, memory_order_relaxed);

	for (unsigned i = LAPIC_VECTOR_WORDS; i-- > 0 && irrv == 0;) {
		/* Relaxed: lapic_accept() orders the one that it takes. */
		uint32_t word =
		    atomic_load_explicit(&lapic->irr[i], memory_order_relaxed);

		if (word != 0)
			irrv = i * 32 + 31 - __builtin_clz(word);
	}
	lapic->best = -1;
	if (lapic_is_enabled(lapic) && PRIORITY(irrv) > PRIORITY(ppr))
		lapic->best = irrv;
}

void
lapic_update(struct lapic *lapic)
{
	look(lapic);
	if (lapic->best >= 0)
		lapic->ops->notify(lapic->arg);
}

int
lapic_pending(struct lapic *lapic)
{
	/* Relaxed: look() has the order. */
	if (atomic_load_explicit(&lapic->news, memory_order_relaxed))
		look(lapic);
	return lapic->best;
}

uint8_t
lapic_accept(struct lapic *lapic)
{
	int vector = lapic_pending(lapic);
	uint32_t bit = 1u << vector % 32;

	assert(vector >= 0); /* only the owner takes bits away */
	/* Acquire: with the release in receive(), for TMR. */
	(void)atomic_fetch_and_explicit(&lapic->irr[vector / 32], ~bit,
	    memory_order_acquire);
	lapic->reg[LAPIC_ISR + vector / 32] |= bit;
	look(lapic);
	return (uint8_t)vector;
}

void
lapic_end_of_interrupt(struct lapic *lapic)
{
	uint8_t vector = lapic->isrv;
	uint32_t bit = 1u << vector % 32;
	uint32_t tmr;

	if (vector == 0)
		return;
	lapic->reg[LAPIC_ISR + vector / 32] &= ~bit;
	/* Relaxed: lapic_accept() had the order. */
	tmr = atomic_load_explicit(&lapic->tmr[vector / 32],
	    memory_order_relaxed);
	/* The level may still be high and send the vector at once. */
	if ((tmr & bit) && !(lapic->reg[LAPIC_SVR] & LAPIC_SVR_NO_EOI))
		lapic->ops->eoi(lapic->arg, vector);
	lapic_update(lapic);
}

unsigned
lapic_get_cr8(const struct lapic *lapic)
{
	return lapic->reg[LAPIC_TPR] >> 4;
}

void
lapic_set_cr8(struct lapic *lapic, unsigned cr8)
{
	lapic->reg[LAPIC_TPR] = (cr8 & 0xf) << 4;
	lapic_update(lapic);
}

/* As KVM has it: the mask and mode of LINT0, software-enabled or not. */
bool
lapic_takes_extint(const struct lapic *lapic)
{
	uint32_t lvt = lapic->reg[LAPIC_LVT_LINT0];

	if (!lapic_is_enabled(lapic))
		return lapic->id == 0; /* the 8259A pair's wire ends there */
	return !(lvt & LAPIC_LVT_MASKED) &&
	    (lvt & LAPIC_LVT_MODE) >> 8 == LAPIC_MODE_EXTINT;
}
