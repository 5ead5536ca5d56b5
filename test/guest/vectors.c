/*
 * Exceptions, vector by vector: the error code, where the saved rip points
 * (SDM volume 3, 6.5: a fault's instruction, or the one behind a trap), and RF
 * in the saved flags (17.3.1.1: set by faults, not by traps).
 *
 * Built for 32 and for 64 bits.
 */
#include "ring.h"

#define NO_ERROR 0xdead /* nothing was pushed */

#define FAULTS(label, vector, error, insn, ...)                               \
	do {                                                                  \
		fault_error = NO_ERROR;                                       \
		check_eq(label, TRY(HERE(insn), __VA_ARGS__), vector);        \
		check_eq(label ": error code", (uint32_t)fault_error, error); \
		check64(label ": a fault", fault_ip, insn_at);                \
		check_eq(label ": RF", fault_flags &FLAG_RF, FLAG_RF);        \
	} while (0)
/* With OF set. */
#define TRAPS(label, vector, insn)                                        \
	do {                                                              \
		fault_error = NO_ERROR;                                   \
		check_eq(label,                                           \
		    TRY_FULL("movb $127, %%al; incb %%al\n" HERE(insn), , \
			"r"(0), "eax"),                                   \
		    vector);                                              \
		check_eq(label ": no error code", (uint32_t)fault_error,  \
		    NO_ERROR);                                            \
		check64(label ": a trap", fault_ip, insn_end);            \
		check_eq(label ": RF", fault_flags &FLAG_RF, 0);          \
	} while (0)

#define ABSENT ((GDT_FREE + 1) * 8)    /* data, not present */
#define CODE_ONLY ((GDT_FREE + 2) * 8) /* code that cannot be read */
#define BEYOND 0xfff8u
#define HOLE 0x50000000u /* in 64 bits: not mapped */

static void
arithmetic(void)
{
	FAULTS("#DE by zero", DE, NO_ERROR, "div %1", "a"(1), "r"(0), "d"(0));
	FAULTS("#DE by overflow", DE, NO_ERROR, "idiv %1", "a"(0x80000000),
	    "r"(-1), "d"(-1));
	FAULTS("#DE in bytes", DE, NO_ERROR, "divb %b1", "a"(0x200), "q"(2));
#ifndef __x86_64__
	static const int32_t limits[2] = { -1, 5 };

	FAULTS("#DE by AAM", DE, NO_ERROR, "aam $0", "a"(1));
	FAULTS("#BR", BR, NO_ERROR, "bound %0, %1", "r"(6), "m"(limits));
	check_eq("BOUND within", TRY("bound %0, %1", "r"(5), "m"(limits)),
	    NO_FAULT);
	TRAPS("#OF", OVER, "into");
	check_eq("INTO without OF", TRY("xor %%eax, %%eax; into", "r"(0)),
	    NO_FAULT);
#else
	FAULTS("INTO in 64-bit code", UD, NO_ERROR, ".byte 0xce", "r"(0));
#endif
}

static void
traps(void)
{
	TRAPS("INT3", BP, "int3");
	TRAPS("INT 3", BP, "int $3");
	TRAPS("INT 4", OVER, "int $4");
	TRAPS("INT1", DB, ".byte 0xf1");
	write_dr6(0xffff0ff0);
	(void)TRY(".byte 0xf1", "r"(0));
	check_eq("INT1 leaves DR6 alone", (uint32_t)read_dr6(), 0xffff0ff0);
}

static void
undefined(void)
{
	FAULTS("UD2", UD, NO_ERROR, "ud2", "r"(0));
	FAULTS("UD0", UD, NO_ERROR, ".byte 0x0f, 0xff, 0xc0", "r"(0));
	FAULTS("LOCK of a register", UD, NO_ERROR, ".byte 0xf0, 0x01, 0xc0",
	    "r"(0));
	FAULTS("LOCK NOP", UD, NO_ERROR, ".byte 0xf0, 0x90", "r"(0));
	FAULTS("LOCK CMP", UD, NO_ERROR, ".byte 0xf0, 0x39, 0x00",
	    "a"(&gdt[0]));
	FAULTS("MOV to CS", UD, NO_ERROR, "mov %0, %%cs", "r"(8));
	FAULTS("MOV to CR1", UD, NO_ERROR, ".byte 0x0f, 0x22, 0xc8", "a"(0));
	FAULTS("the seventh segment register", UD, NO_ERROR, ".byte 0x8e, 0xf0",
	    "a"(0));
	FAULTS("LEA of a register", UD, NO_ERROR, ".byte 0x8d, 0xc0", "a"(0));
#ifdef __x86_64__
	FAULTS("PUSH ES in 64-bit code", UD, NO_ERROR, ".byte 0x06", "r"(0));
	FAULTS("DAA in 64-bit code", UD, NO_ERROR, ".byte 0x27", "r"(0));
	FAULTS("PUSHA in 64-bit code", UD, NO_ERROR, ".byte 0x60", "r"(0));
	FAULTS("JMP ptr16:32 in 64-bit code", UD, NO_ERROR,
	    ".byte 0xea, 0, 0, 0, 0, 8, 0", "r"(0));
#else
	FAULTS("SYSRET without EFER.SCE", UD, NO_ERROR, "sysret", "r"(0));
#endif
}

static void
protection(void)
{
	FAULTS("#GP: a selector beyond the table", GP, BEYOND, "mov %0, %%fs",
	    "r"(BEYOND));
	FAULTS("#GP: its error code has no RPL", GP, BEYOND, "mov %0, %%fs",
	    "r"(BEYOND | 3));
	FAULTS("#GP: in the LDT that is not there", GP, 0xc, "mov %0, %%fs",
	    "r"(0xf));
	FAULTS("#GP: code that cannot be read", GP, CODE_ONLY, "mov %0, %%fs",
	    "r"(CODE_ONLY));
	FAULTS("#GP: read-only stack", GP, CODE_SELECTOR, "mov %0, %%ss",
	    "r"(CODE_SELECTOR));
	FAULTS("#NP", NP, ABSENT, "mov %0, %%fs", "r"(ABSENT));
	FAULTS("#SS: stack that is not present", SS, ABSENT, "mov %0, %%ss",
	    "r"(ABSENT));
	FAULTS("#GP: an instruction of 16 bytes", GP, 0,
	    ".fill 15, 1, 0x3e; nop", "r"(0));
	check_eq("of 15 bytes: none", TRY(".fill 14, 1, 0x3e; nop", "r"(0)),
	    NO_FAULT);
#ifdef __x86_64__
	FAULTS("#SS: stack not canonical", SS, 0, "movq $0, (%%rsp, %0)",
	    "r"(1ULL << 63));
	FAULTS("#GP: data not canonical", GP, 0, "movq $0, (%0)",
	    "r"(1ULL << 63));
	FAULTS("#GP: half of it not canonical", GP, 0, "movq $0, (%0)",
	    "r"(0x7ffffffffffcULL));
	FAULTS("#PF", PF, 2, "movl $0, (%0)", "r"((uint64_t)HOLE));
	check64("CR2", read_cr2(), HOLE);
	FAULTS("#GP, after it", GP, 0, "movq $0, (%0)", "r"(1ULL << 63));
	check64("CR2 is still that", read_cr2(), HOLE);
#endif
}

void
payload(void)
{
	test("vectors");
	ring_init();
	gdt[ABSENT / 8] =
	    segment(0, 0xfffff, (DESC_DATA & ~DESC_P) | DESC_BIG | DESC_PAGES);
	gdt[CODE_ONLY / 8] = segment(0, 0xfffff,
	    (DESC_CODE & ~DESC_READABLE) | DESC_BIG | DESC_PAGES);
#ifdef __x86_64__
	*pde(HOLE) = 0;
	flush_tlb();
#endif
	arithmetic();
	traps();
	undefined();
	protection();
	done();
}
