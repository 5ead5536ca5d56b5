/*
 * Faults in the middle: what an instruction has done when it faults, and that
 * it goes on from there (SDM volume 3, 6.6; volume 2, REP: registers say how
 * far it came).  Fetches over the end of a page: the fault is on the page that
 * is missing, the saved rip that of the instruction.
 *
 * Two pages of memory at EDGE, the second of which is taken away.
 */
#include "ring.h"

#define EDGE_TABLE 0x50000000u
#define EDGE (EDGE_TABLE + 0x1000u) /* the second page's address */
#define FETCH 0x10u
#define USER_PAGE 4u
#define USER_WRITE 6u

static uint64_t table[512] __attribute__((aligned(4096)));
static uint8_t pages[2][4096] __attribute__((aligned(4096)));

static void
map(bool second)
{
	table[0] = (uint64_t)pages[0] | PTE_P | PTE_W | PTE_U;
	table[1] = second ? (uint64_t)pages[1] | PTE_P | PTE_W | PTE_U : 0;
	flush_tlb();
}

static uint8_t *
at(unsigned before)
{
	return (uint8_t *)(uintptr_t)(EDGE - before);
}

static void
rep_stos(void)
{
	uint64_t di = EDGE - 12, cx = 8;
	uint32_t vector;

	map(false);
	vector = TRY_FULL(HERE("rep stosl"), OPERANDS("+D"(di), "+c"(cx)),
	    "a"(0x11111111), "cc");
	check_eq("REP STOS onto a missing page", vector, PF);
	check_eq("error code: write", (uint32_t)fault_error, 2);
	check64("CR2", read_cr2(), EDGE);
	check64("rip: the instruction", fault_ip, insn_at);
	check64("three elements were stored: RCX", cx, 5);
	check64("RDI", di, EDGE);
	check_eq("RF", fault_flags & FLAG_RF, FLAG_RF);
	map(true);
	__asm__ volatile("rep stosl"
			 : "+D"(di), "+c"(cx)
			 : "a"(0x11111111)
			 : "memory");
	check_eq("and the rest when it is there", *(uint32_t *)at(-16),
	    0x11111111);
}

static void
rep_movs_down(void)
{
	uint64_t si = EDGE - 4096 + 8, di = EDGE + 8, cx = 4;
	uint32_t vector;

	/* Downwards, and the source runs out of its page. */
	map(true);
	*pde(EDGE_TABLE - 1) = 0;
	flush_tlb();
	vector = TRY_FULL("std\n" HERE("rep movsq") "cld",
	    OPERANDS("+S"(si), "+D"(di), "+c"(cx)), "r"(0), "cc");
	__asm__ volatile("cld");
	check_eq("REP MOVS downwards", vector, PF);
	check64("CR2", read_cr2(), EDGE_TABLE - 8);
	check64("RCX", cx, 2);
	check64("RSI", si, EDGE_TABLE - 8);
	check64("RDI", di, EDGE - 8);
}

static void
rep_cmps(void)
{
	uint64_t si = EDGE - 4, di = (uint64_t)pages, cx = 100;
	uint32_t vector;

	map(false);
	for (int i = 0; i < 4; i++)
		pages[0][i] = *at(4 - i) = (uint8_t)i;
	vector = TRY_FULL(HERE("repe cmpsb"),
	    OPERANDS("+S"(si), "+D"(di), "+c"(cx)), "r"(0), "cc");
	check_eq("REPE CMPS over the edge", vector, PF);
	check64("RCX", cx, 96);
	check64("RSI", si, EDGE);
}

/* One access over the edge writes all or nothing. */
static void
split_store(void)
{
	map(false);
	*at(4) = 0x55;
	check_eq("a store over the edge",
	    TRY("movq %1, (%0)", "r"(at(4)), "r"(0ULL)), PF);
	check64("CR2", read_cr2(), EDGE);
	check_eq("nothing is stored", *at(4), 0x55);
	check_eq("a locked add over it",
	    TRY("lock addq %1, (%0)", "r"(at(4)), "r"(1ULL)), PF);
	check_eq("changes nothing", *at(4), 0x55);
	check_eq("error code: write", (uint32_t)fault_error, 2);
}

/*
 * ENTER pushes rBP on the page that is there, then cannot on the one that is
 * not.  In ring 3, so that the exception has another stack.
 */
static void
stack(void)
{
	volatile struct frame *frame;
	uint64_t bp;
	uint32_t vector;

	map(true);
	table[0] = 0;
	flush_tlb();
	vector =
	    USER_FULL("xchg %%rbp, %0; mov %1, %%rsp\n" HERE("enter $16, $1"),
		OPERANDS("=&r"(bp)), OPERANDS("r"(EDGE + 8ULL), "0"(0x1234ULL)),
		"cc");
	__asm__ volatile("xchg %%rbp, %0" : "+r"(bp));
	frame = (volatile struct frame *)fault_frame;
	check_eq("ENTER off the stack", vector, PF);
	check_eq("error code: user, write", (uint32_t)fault_error, USER_WRITE);
	check64("CR2", read_cr2(), EDGE - 8);
	check64("RSP is as it was", frame->sp, EDGE + 8);
	check64("RBP", bp, 0x1234);
	check64("rip", fault_ip, insn_at);
}

static void
fetches(void)
{
	static const uint8_t mov[] = { 0xb8, 1, 2, 3, 4, 0xc3 };
	uint32_t vector, value;

	map(true);
	for (unsigned i = 0; i < sizeof(mov); i++)
		*(at(2) + i) = mov[i];
	__asm__ volatile("call *%1" : "=a"(value) : "r"(at(2)));
	check_eq("an instruction over the edge", value, 0x04030201);
	map(false);
	vector = TRY("call *%0", "r"(at(2)));
	check_eq("#PF when its second page is missing", vector, PF);
	check64("CR2 is in that page", read_cr2(), EDGE);
	check64("rip is its first byte", fault_ip, EDGE - 2);
	check_eq("error code: fetch", (uint32_t)fault_error, FETCH);
	/* RET ends just before the edge. */
	*at(1) = 0xc3;
	check_eq("none before the edge", TRY("call *%0", "r"(at(1))), NO_FAULT);
	*at(1) = 0x90;
	vector = TRY("call *%0", "r"(at(1)));
	check_eq("running over it", vector, PF);
	check64("rip", fault_ip, EDGE);
	check64("CR2", read_cr2(), EDGE);
	*at(1) = 0x66;
	vector = TRY("call *%0", "r"(at(1)));
	check64("a prefix before it: rip", fault_ip, EDGE - 1);
	check64("CR2", read_cr2(), EDGE);
	/* #UD needs no more bytes than show it. */
	*at(2) = 0x0f;
	*at(1) = 0x0b;
	check_eq("UD2 just before it", TRY("call *%0", "r"(at(2))), UD);
	table[1] = (uint64_t)pages[1] | PTE_P | PTE_NX | PTE_U;
	flush_tlb();
	vector = TRY("call *%0", "r"(at(2) + 1));
	check_eq("a second page without execution", vector, PF);
	check_eq("error code: fetch, present", (uint32_t)fault_error,
	    FETCH | 1);
	map(false);
	check_eq("in ring 3", USER("jmp *%0", "r"(at(0))), PF);
	check_eq("error code: fetch, user", (uint32_t)fault_error,
	    FETCH | USER_PAGE);
}

void
payload(void)
{
	test("restart");
	ring_init();
	*pde(EDGE_TABLE) = (uint64_t)table | PTE_P | PTE_W | PTE_U;
	rep_stos();
	rep_movs_down();
	rep_cmps();
	split_store();
	stack();
	fetches();
	done();
}
