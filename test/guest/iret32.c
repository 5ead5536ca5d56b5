/*
 * IRET in protected mode (SDM volume 2, IRET): to the same ring and to outer
 * ones, bad frames and their error codes, and which flags it loads at which
 * level (IF by IOPL, IOPL and VM in ring 0 only).
 */
#include "ring.h"

#define FLAT (DESC_BIG | DESC_PAGES)
#define SPARE (GDT_FREE * 8)
#define RING1_CODE ((GDT_FREE + 1) * 8)
#define RING1_STACK ((GDT_FREE + 2) * 8)
#define NO_ERROR 0xdeadu

/* From ring 0, with a frame for an outer one. */
static uint32_t
outwards(uint32_t cs, uint32_t ss, uint32_t flags)
{
	fault_error = NO_ERROR;
	return TRY("push %1; push fault_sp; push %2; push %0; push $2f; iret;"
		   "2: int $0x80",
	    "r"(cs), "r"(ss), "r"(flags));
}

/* In the same ring, 0 or 3. */
static uint32_t
same(uint32_t cs, uint32_t flags, unsigned cpl)
{
	fault_error = NO_ERROR;
	if (cpl == 0)
		return TRY("push %1; push %0; push $2f; iret; 2: int $0x80",
		    "r"(cs), "r"(flags));
	return USER("push %1; push %0; push $3f; iret; 3: int $0x80", "r"(cs),
	    "r"(flags));
}

static void
frames(void)
{
	gdt[RING1_CODE / 8] =
	    segment(0, 0xfffff, DESC_CODE | DESC_DPL(1) | FLAT);
	gdt[RING1_STACK / 8] =
	    segment(0, 0xfffff, DESC_DATA | DESC_DPL(1) | FLAT);
	check_eq("ring 0 to ring 0", same(CODE_SELECTOR, 2, 0), HOME);
	check_eq("ring 3 to ring 3", same(USER_CODE, 2, 3), HOME);
	check_eq("ring 0 to ring 3", outwards(USER_CODE, USER_DATA, 2), HOME);
	check_eq("CS", fault_cs, USER_CODE);
	check_eq("ring 0 to ring 1",
	    outwards(RING1_CODE | 1, RING1_STACK | 1, 2), HOME);
	check_eq("CS", fault_cs, RING1_CODE | 1);
	check_eq("ring 3 to ring 0", same(CODE_SELECTOR, 2, 3), GP);
	check_eq("its error code", fault_error, CODE_SELECTOR);
	check_eq("CS null", same(0, 2, 0), GP);
	check_eq("its error code", fault_error, 0);
	check_eq("CS data", same(DATA_SELECTOR, 2, 0), GP);
	check_eq("its error code", fault_error, DATA_SELECTOR);
	check_eq("CS beyond the table", same(0xfff8, 2, 0), GP);
	check_eq("its error code", fault_error, 0xfff8);
	check_eq("CS with another RPL", outwards(USER_CODE & ~1u, USER_DATA, 2),
	    GP);
	check_eq("its error code", fault_error, USER_CODE & ~3u);
	check_eq("SS null", outwards(USER_CODE, 3, 2), GP);
	check_eq("its error code", fault_error, 0);
	check_eq("SS of ring 0", outwards(USER_CODE, DATA_SELECTOR, 2), GP);
	check_eq("its error code", fault_error, DATA_SELECTOR);
	check_eq("SS code", outwards(USER_CODE, USER_CODE, 2), GP);
	check_eq("its error code", fault_error, USER_CODE & ~3u);
	gdt[SPARE / 8] =
	    segment(0, 0xfffff, ((DESC_DATA | DESC_DPL(3)) & ~DESC_P) | FLAT);
	check_eq("SS not present", outwards(USER_CODE, SPARE | 3, 2), SS);
	check_eq("its error code", fault_error, SPARE);
	gdt[SPARE / 8] =
	    segment(0, 0xfffff, ((DESC_CODE | DESC_DPL(3)) & ~DESC_P) | FLAT);
	check_eq("CS not present", outwards(SPARE | 3, USER_DATA, 2), NP);
	check_eq("its error code", fault_error, SPARE);
	gdt[SPARE / 8] = segment(0, 0xff, DESC_CODE | DESC_DPL(3) | DESC_BIG);
	check_eq("beyond the limit", outwards(SPARE | 3, USER_DATA, 2), GP);
	check_eq("its error code", fault_error, 0);
	check_eq("all of these are in ring 0", fault_cs, CODE_SELECTOR);
	/* Conforming code takes the RPL of the selector. */
	gdt[SPARE / 8] =
	    segment(0, 0xfffff, DESC_CODE | DESC_CONFORMING | FLAT);
	check_eq("conforming code", outwards(SPARE | 3, USER_DATA, 2), HOME);
	check_eq("CS", fault_cs, SPARE | 3);
}

/* At offset 0 of its segment. */
extern const char iret_target[];
__asm__(".text\niret_target: int $0x80\n");

static void
flags(void)
{
	/* NT would make the next IRET a task switch: without it. */
	uint32_t all = 0x240dd5 & ~FLAG_DF & ~FLAG_TF;

	check_eq("ring 0", same(CODE_SELECTOR, all | FLAG_IOPL | 2, 0), HOME);
	check_eq("all flags", fault_flags, all | FLAG_IOPL | 2);
	check_eq("none", same(CODE_SELECTOR, 0, 0), HOME);
	check_eq("bit 1 is always set", fault_flags, 2);
	check_eq("reserved bits", same(CODE_SELECTOR, 0xffc0802a, 0), HOME);
	check_eq("are not", fault_flags, 2);
	check_eq("RF", same(CODE_SELECTOR, FLAG_RF | 2, 0), HOME);

	user_flags = 2;
	check_eq("ring 3, IOPL 0",
	    same(USER_CODE, all | FLAG_IOPL | FLAG_IF | 2, 3), HOME);
	check_eq("IF and IOPL stay", fault_flags & (FLAG_IF | FLAG_IOPL), 0);
	check_eq("the others do not", fault_flags & all, all);
	user_flags = 0x3002;
	check_eq("ring 3, IOPL 3", same(USER_CODE, FLAG_IF | 2, 3), HOME);
	check_eq("IF by the frame, IOPL stays",
	    fault_flags & (FLAG_IF | FLAG_IOPL), FLAG_IF | FLAG_IOPL);
	user_flags = 2;
	check_eq("VM in ring 3 is ignored", same(USER_CODE, FLAG_VM | 2, 3),
	    HOME);
	check_eq("no virtual-8086 mode", fault_flags & FLAG_VM, 0);
	check_eq("ring 0 to ring 3 with IF",
	    outwards(USER_CODE, USER_DATA, FLAG_IF | FLAG_IOPL | 2), HOME);
	check_eq("both loaded", fault_flags & (FLAG_IF | FLAG_IOPL),
	    FLAG_IF | FLAG_IOPL);

	/* A frame of 16 bits: the upper flags stay. */
	gdt[SPARE / 8] =
	    segment((uint32_t)iret_target, 0xfffff, DESC_CODE | FLAT);
	check_eq("a frame of 16 bits",
	    TRY("push $0x240002; popf; pushw $0xad5; pushw %w0; pushw $0;"
		"iretw",
		"r"(SPARE)),
	    HOME);
	check_eq("the upper flags stay", fault_flags, 0x240ad7);
}

static void
popf_rules(void)
{
	uint32_t got;

	(void)TRY_FULL("push $0x240202; popf; pushf; pop %0; push $2; popf",
	    "=&r"(got), "r"(0), "cc");
	check_eq("POPF in ring 0", got & 0x240200, 0x240200);
	user_flags = 2;
	(void)USER_FULL("push $0x243202; popf; pushf; pop %0", "=&r"(got),
	    "r"(0), "cc");
	check_eq("in ring 3: neither IF nor IOPL", got & 0x243200, 0x240000);
	user_flags = 0x3002;
	(void)USER_FULL("push $0x202; popf; pushf; pop %0", "=&r"(got), "r"(0),
	    "cc");
	check_eq("with IOPL 3: IF", got & 0x243200, 0x3200);
	user_flags = 2;
	(void)TRY_FULL("push $0x30002; popf; pushf; pop %0", "=&r"(got), "r"(0),
	    "cc");
	check_eq("neither VM nor RF", got & (FLAG_VM | FLAG_RF), 0);
	(void)TRY_FULL("pushw $0x4000; popfw; pushf; pop %0; push $2; popf",
	    "=&r"(got), "r"(0), "cc");
	check_eq("16 bits: NT", got & FLAG_NT, FLAG_NT);
}

void
payload(void)
{
	test("iret32");
	ring_init();
	frames();
	flags();
	popf_rules();
	done();
}
