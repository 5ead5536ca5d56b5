/*
 * An exception while an exception is delivered (SDM volume 3, 6.15, table 6-5):
 *
 *	first           second: contributory    #PF
 *	benign          the second              the second
 *	contributory    #DF                     the second
 *	#PF             #DF                     #DF
 *
 * Contributory are #DE, #TS, #NP, #SS and #GP.  The second is provoked by the
 * first one's gate: absent (#NP), of no type (#GP), or with an IST stack that
 * is not mapped (#PF) or not canonical (#SS).  In its error code EXT says that
 * no program asked for it (6.13), which INT n does.
 */
#include "ring.h"

#define EXT 1u
#define IDT 2u /* the index is one of the IDT */
#define HOLE 0x50000000u
#define VECTOR 0x40u /* of an interrupt */
#define NO_ERROR 0xdead

enum spoil { ABSENT, NO_TYPE, UNMAPPED, NOT_CANONICAL, SPOILS };

/* What each way to spoil a gate gives when nothing else is wrong. */
static const uint8_t second[SPOILS] = { NP, GP, PF, SS };

/* Spoil the gate; the old one is returned. */
static uint64_t
spoil(unsigned vector, enum spoil how)
{
	uint64_t old = idt[2 * vector];

	switch (how) {
	case ABSENT:
		idt[2 * vector] &= ~(0x8000ULL << 32);
		break;
	case NO_TYPE:
		idt[2 * vector] &= ~(0xf00ULL << 32);
		break;
	case UNMAPPED:
		idt[2 * vector] |= 1ULL << 32;
		break;
	default:
		idt[2 * vector] |= 2ULL << 32;
		break;
	}
	return old;
}

static uint32_t
provoke(unsigned vector)
{
	switch (vector) {
	case DE:
		return TRY(HERE("div %1"), "a"(1), "r"(0), "d"(0));
	case DB:
		return TRY("pushf; orl $0x100, (%%rsp)\n" HERE("popf; nop"),
		    "r"(0));
	case BP:
		return TRY(HERE("int3"), "r"(0));
	case UD:
		return TRY(HERE("ud2"), "r"(0));
	case NP:
		return TRY(HERE("mov %0, %%fs"), "r"(GDT_FREE * 8));
	case SS:
		return TRY(HERE("mov (%%rsp, %0), %1"), "r"(1ULL << 63),
		    "a"(0));
	case GP:
		return TRY(HERE("mov (%0), %0"), "r"(1ULL << 63));
	case PF:
		return TRY(HERE("mov %1, (%0)"), "r"(HOLE + 0x123ULL), "r"(0));
	default: /* interrupts on for one instruction */
		lapic_ipi(0, 0x4000 | VECTOR);
		return TRY(HERE("sti; nop; nop; nop") "cli", "r"(0));
	}
}

enum class { BENIGN, CONTRIBUTORY, PAGE_FAULT };

static enum class class_of(unsigned vector) {
	switch (vector) {
		case DE : case TS : case NP : case SS : case
		GP : return CONTRIBUTORY;
		case PF : return PAGE_FAULT;
		default : return BENIGN;
	}
}

static bool doubles(enum class first, enum class then)
{
	if (first == CONTRIBUTORY)
		return then == CONTRIBUTORY;
	return first == PAGE_FAULT && then != BENIGN;
}

static void
one(unsigned first, const char *name)
{
	/* INT3 is the program's own wish. */
	uint32_t ext = first == BP ? 0 : EXT;

	for (enum spoil how = 0; how < SPOILS; how++) {
		unsigned then = second[how];
		uint32_t error = 0;
		uint64_t old;
		uint32_t got;

		/* The gate of the second must not be the spoiled one. */
		if (then == first)
			continue;
		old = spoil(first, how);
		fault_error = NO_ERROR;
		write_cr2(0);
		got = provoke(first);
		idt[2 * first] = old;
		if (doubles(class_of(first), class_of(then)))
			then = DF;
		else if (then == PF)
			error = 2;
		else if (then == SS)
			error = ext;
		else
			error = first * 8 + IDT + ext;
		check_eq(name, got, then);
		check_eq("its error code", (uint32_t)fault_error, error);
		if (then != DF)
			check("back to where the first one was",
			    fault_ip >= insn_at && fault_ip <= insn_end);
		if (how == UNMAPPED)
			check_eq("CR2 is that of the second",
			    (uint32_t)read_cr2() & ~0xfffu, HOLE + 0x1000);
		/* It was accepted, if not served. */
		while (lapic_bit(LAPIC_ISR, VECTOR))
			lapic_eoi();
	}
}

/* The second may be the first one's vector: they meet themselves. */
static void
same(void)
{
	uint64_t old = spoil(PF, UNMAPPED);

	check_eq("#PF in #PF", provoke(PF), DF);
	idt[2 * PF] = old;
	old = spoil(GP, NO_TYPE);
	check_eq("#GP in #GP", provoke(GP), DF);
	idt[2 * GP] = old;
	old = spoil(NP, ABSENT);
	check_eq("#NP in #NP", provoke(NP), DF);
	idt[2 * NP] = old;
}

/* #DF on a stack of its own, when there is none left. */
static void
with_ist(void)
{
	uint32_t vector;

	idt[2 * DF] |= 3ULL << 32;
	vector = TRY_FULL("mov %0, %%rsp; push %%rax; mov fault_sp, %%rsp", ,
	    "r"(HOLE + 0x800ULL), "memory");
	check_eq("#DF for a bad stack pointer", vector, DF);
	check64("on its IST stack", fault_frame, RING_STACK - 40);
	check64("with the bad one saved",
	    ((volatile struct frame *)fault_frame)->sp, HOLE + 0x800);
	check_eq("CR2", (uint32_t)read_cr2() & ~0xfffu, HOLE);
	idt[2 * DF] &= ~(7ULL << 32);
}

HANDLER(interrupt)
{
	lapic_eoi();
}

void
payload(void)
{
	test("double");
	ring_init();
	lapic_init();
	gdt[GDT_FREE] = segment(0, 0xfffff, DESC_DATA & ~DESC_P);
	*pde(HOLE) = 0;
	flush_tlb();
	ring_tss.ist[0] = HOLE + 0x2000;
	ring_tss.ist[1] = 1ULL << 63;
	ring_tss.ist[2] = RING_STACK;
	gate(VECTOR, interrupt);
	one(UD, "#UD, then");
	one(DB, "#DB, then");
	one(BP, "#BP, then");
	one(VECTOR, "interrupt, then");
	one(DE, "#DE, then");
	one(NP, "#NP, then");
	one(SS, "#SS, then");
	one(GP, "#GP, then");
	one(PF, "#PF, then");
	same();
	with_ist();
	done();
}
