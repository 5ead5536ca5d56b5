/*
 * Code that changes.  A processor sees its own stores to what it executes at
 * the latest after a jump to it (SDM volume 3, 8.1.3); AMD's, and Intel's since
 * the P6, see them in the very next instruction if the linear address is the
 * same (APM volume 2, 7.6.1).  Through another linear address, or by a device,
 * the code is new after a serializing instruction.
 *
 * The function that changes is MOV EAX, imm32; RET.  Two of its pages are
 * mapped at FIRST and, the other way round, at ALIAS.
 */
#include "ring.h"

#define WINDOW 0x50000000u
#define FIRST WINDOW
#define ALIAS (WINDOW + 0x2000u)

typedef uint32_t function(void);

static uint64_t table[512] __attribute__((aligned(4096)));
static uint64_t other_pd[512] __attribute__((aligned(4096)));
static uint64_t other_pdpt[512] __attribute__((aligned(4096)));
static uint64_t other_pml4[512] __attribute__((aligned(4096)));
static uint64_t other_table[512] __attribute__((aligned(4096)));
static uint8_t pages[3][4096] __attribute__((aligned(4096)));

static void
map(unsigned slot, void *page)
{
	table[slot] = (uint64_t)page | PTE_P | PTE_W;
	invlpg(WINDOW + slot * 4096u);
}

static void
write_function(uintptr_t at, uint32_t value)
{
	volatile uint8_t *code = (volatile uint8_t *)at;

	code[0] = 0xb8;
	for (int i = 0; i < 4; i++)
		code[1 + i] = (uint8_t)(value >> (8 * i));
	code[5] = 0xc3;
}

static uint32_t
call(uintptr_t at)
{
	return ((function *)at)();
}

static void
serialize(void)
{
	uint32_t r[4];

	cpuid(0, 0, r);
}

static void
between_calls(void)
{
	unsigned right = 0;

	for (uint32_t i = 0; i < 2000; i++) {
		write_function(FIRST + 64, i * 0x01010101);
		right += call(FIRST + 64) == i * 0x01010101;
	}
	check_eq("changed between calls", right, 2000);
	right = 0;
	for (uint32_t i = 0; i < 2000; i++) {
		/* Two at work on one page, one of which stays. */
		write_function(FIRST + 128 + i % 16 * 8, i);
		right += call(FIRST + 128 + i % 16 * 8) == i;
		right += call(FIRST + 64) == 1999 * 0x01010101U;
	}
	check_eq("beside code that stays", right, 4000);
}

/* Each kind of store into the immediate. */
static void
kinds_of_stores(void)
{
	static const uint8_t source[16] = { 0xb8, 7, 0, 0, 0, 0xc3 };
	uintptr_t at = FIRST + 512;
	uint64_t di, si, cx;

	write_cr4(read_cr4() | CR4_OSFXSR);
#define STORE(label, want, insn, outputs, inputs, ...)                         \
	do {                                                                   \
		write_function(at, 0);                                         \
		check_eq("before " label, call(at), 0);                        \
		__asm__ volatile(insn:outputs:inputs : "memory", __VA_ARGS__); \
		check_eq(label, call(at), want);                               \
	} while (0)
	STORE("MOV of a byte", 1, "movb $1, 1(%0)", , "r"(at), "cc");
	STORE("MOV of 8", 2, "movabs $0xc300000002b8, %%rax; mov %%rax, (%0)", ,
	    "r"(at), "rax");
	STORE("ADD", 3, "addl $3, 1(%0)", , "r"(at), "cc");
	STORE("LOCK INC", 1, "lock incl 1(%0)", , "r"(at), "cc");
	STORE("XCHG", 5, "mov $5, %%eax; xchg %%eax, 1(%0)", , "r"(at), "rax");
	STORE("LOCK CMPXCHG", 6, "xor %%eax, %%eax; lock cmpxchg %1, 1(%0)", ,
	    OPERANDS("r"(at), "r"(6)), "rax");
	STORE("LOCK CMPXCHG8B", 7,
	    "movabs $0xc300000000b8, %%rax; mov %%rax, (%0);"
	    "mov $0xc300, %%edx; mov $0x000000b8, %%eax;"
	    "mov $0xc300, %%ecx; mov $0x000007b8, %%ebx;"
	    "lock cmpxchg8b (%0)",
	    , "r"(at), "rax", "rbx", "rcx", "rdx");
	STORE("BTS", 16, "btsl $4, 1(%0)", , "r"(at), "cc");
	STORE("SETcc", 1, "stc; setc 1(%0)", , "r"(at), "cc");
	STORE("SHL", 0x80, "movb $0x40, 1(%0); shlb $1, 1(%0)", , "r"(at),
	    "cc");
	STORE("PUSH", 8,
	    "mov %%rsp, %%rcx; lea 8(%0), %%rsp; movabs $0xc300000008b8, %%rax;"
	    "push %%rax; mov %%rcx, %%rsp",
	    , "r"(at), "rax", "rcx");
	di = at, si = (uint64_t)source, cx = 6;
	STORE("REP MOVSB", 7, "rep movsb",
	    OPERANDS("+D"(di), "+S"(si), "+c"(cx)), , "cc");
	di = at + 1, cx = 4;
	STORE("REP STOSB", 0x09090909, "rep stosb",
	    OPERANDS("+D"(di), "+c"(cx)), "a"(9), "cc");
	di = at + 1;
	STORE("STOSD", 10, "stosl", "+D"(di), "a"(10), "cc");
	STORE("MOVDQU", 7, "movdqu (%1), %%xmm0; movdqu %%xmm0, (%0)", ,
	    OPERANDS("r"(at), "r"(source)), "cc");
	STORE("MOVNTI", 11, "movnti %1, 1(%0); sfence", ,
	    OPERANDS("r"(at), "r"(11)), "cc");
	STORE("FIST", 1, "fninit; fld1; fistpl 1(%0)", , "r"(at), "cc");
	out32(TESTDEV_PORTS, 12);
	di = at + 1, cx = 1;
	STORE("INS", 12, "rep insl", OPERANDS("+D"(di), "+c"(cx)),
	    "d"(TESTDEV_PORTS), "cc");
	out32(TESTDEV_DMA_ADDR, (uint32_t)(uintptr_t)&pages[0][513]);
	STORE("a device", 13,
	    "mov $13, %%eax; mov %0, %%edx; out %%eax, %%dx; cpuid", ,
	    "i"(TESTDEV_DMA_DATA), "rax", "rbx", "rcx", "rdx");
}

/* The store changes what follows it in the same block. */
static void
next_instruction(void)
{
	uint32_t got, sum = 0;

	for (uint32_t i = 0; i < 300; i++) {
		__asm__ volatile("movl %1, 1f + 1(%%rip); 1: mov $0, %0"
				 : "=a"(got)
				 : "r"(i)
				 : "memory");
		sum += got == i;
	}
	check_eq("the next instruction", sum, 300);
	/* INC becomes DEC, in a loop that does so half way. */
	__asm__ volatile("movb $0xc0, 2f + 1(%%rip); xor %%eax, %%eax;"
			 "mov $100, %%ecx;"
			 "1: cmp $50, %%ecx; jne 2f; movb $0xc8, 2f + 1(%%rip);"
			 "2: .byte 0xff, 0xc0; dec %%ecx; jnz 1b"
			 : "=a"(got)
			 :
			 : "rcx", "memory", "cc");
	check_eq("in a loop, half way", got, 0);
	/* A NOP becomes a jump over what would go wrong. */
	__asm__ volatile("movw $0x9090, 1f(%%rip); xor %%eax, %%eax;"
			 "mov $3, %%ecx;"
			 "3: cmp $1, %%ecx; jne 1f; movw $0x02eb, 1f(%%rip);"
			 "1: .byte 0x90, 0x90; inc %%eax;"
			 "loop 3b"
			 : "=a"(got)
			 :
			 : "rcx", "memory", "cc");
	check_eq("a NOP becomes a jump", got, 2);
}

static void
page_ends(void)
{
	uintptr_t at = FIRST + 4096 - 3;

	write_function(at, 0x11223344);
	check_eq("code over the end of a page", call(at), 0x11223344);
	write8(at + 4, 0x55);
	check_eq("changed on the second page", call(at), 0x55223344);
	write8(at + 1, 0x66);
	check_eq("and on the first", call(at), 0x55223366);
	map(1, pages[2]);
	for (int i = 0; i < 4096; i++)
		pages[2][i] = pages[1][i];
	pages[2][1] = 0x77;
	serialize();
	check_eq("another second page", call(at), 0x77223366);
	map(1, pages[1]);
	check_eq("and back", call(at), 0x55223366);
	/* Into the middle of an instruction. */
	write_function(FIRST + 32, 0xc307b000); /* MOV AL, 7; RET */
	check_eq("MOV EAX, imm32", call(FIRST + 32), 0xc307b000);
	check_eq("its middle", call(FIRST + 34) & 0xff, 7);
	write8(FIRST + 35, 9);
	check_eq("whole again", call(FIRST + 32), 0xc309b000);
	check_eq("middle again", call(FIRST + 34) & 0xff, 9);
}

static void
aliases(void)
{
	static const uint8_t where[] = { 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xc3 };
	uint64_t first, alias;

	write_function(FIRST + 96, 1);
	check_eq("at its first address", call(FIRST + 96), 1);
	check_eq("at another", call(ALIAS + 0x1000 + 96), 1);
	write_function(ALIAS + 0x1000 + 96, 2);
	serialize();
	check_eq("written through the other", call(FIRST + 96), 2);
	check_eq("and there", call(ALIAS + 0x1000 + 96), 2);
	pages[0][97] = 3;
	serialize();
	check_eq("through a large page", call(FIRST + 96), 3);
	for (unsigned i = 0; i < sizeof(where); i++)
		pages[0][160 + i] = where[i];
	__asm__ volatile("call *%1" : "=a"(first) : "r"(FIRST + 160ULL));
	__asm__ volatile("call *%1"
			 : "=a"(alias)
			 : "r"(ALIAS + 0x1000 + 160ULL));
	check64("RIP is that of the address used", first, FIRST + 167);
	check64("whichever", alias, ALIAS + 0x1000 + 167);
}

/* As an operating system copies a page when it is written to. */
static void
remap(void)
{
	unsigned right = 0;

	for (uint32_t i = 0; i < 200; i++) {
		write_function((uintptr_t)pages[0] + 256, i);
		map(0, pages[0]);
		serialize();
		right += call(FIRST + 256) == i;
		write_function((uintptr_t)pages[2] + 256, ~i);
		map(0, pages[2]);
		serialize();
		right += call(FIRST + 256) == ~i;
		right += call(ALIAS + 0x1000 + 256) == i;
	}
	check_eq("another page at the same address", right, 600);
	map(0, pages[0]);
}

/* Two address spaces, the same address, other code; a global page stays. */
static void
address_spaces(void)
{
	uintptr_t cr3 = read_cr3();
	unsigned right = 0;

	for (unsigned i = 0; i < 512; i++) {
		other_pml4[i] = pml4[i];
		other_pdpt[i] = pdpt[i];
		other_pd[i] = pds[512 + i];
		other_table[i] = table[i];
	}
	other_pml4[0] = (uint64_t)other_pdpt | PTE_P | PTE_W;
	other_pdpt[1] = (uint64_t)other_pd | PTE_P | PTE_W;
	other_pd[(WINDOW >> 21) % 512] = (uint64_t)other_table | PTE_P | PTE_W;
	other_table[0] = (uint64_t)pages[2] | PTE_P | PTE_W;
	write_function((uintptr_t)pages[0] + 320, 1);
	write_function((uintptr_t)pages[2] + 320, 2);
	serialize();
	for (int i = 0; i < 200; i++) {
		right += call(FIRST + 320) == 1;
		write_cr3((uintptr_t)other_pml4);
		right += call(FIRST + 320) == 2;
		write_cr3(cr3);
	}
	check_eq("two address spaces", right, 400);
}

/* The same bytes in 64-bit code and in compatibility mode: 0x40 is INC EAX. */
__asm__(".text\n"
	"call_compat: push %rbx; push %rbp; mov %edi, %edx\n"
	"ljmp *compat_pointer\n"
	".code32\n"
	"compat: call *%edx\n"
	"ljmp $0x08, $compat_back\n"
	".code64\n"
	"compat_back: mov %esp, %esp; pop %rbp; pop %rbx\n"
	"ret\n"
	"compat_pointer: .long compat; .word 0x30\n");
uint32_t call_compat(uintptr_t at);

static void
modes(void)
{
	static const uint8_t inc[] = { 0x31, 0xc0, 0x40, 0x90, 0xc3 };
	unsigned right = 0;

	for (unsigned i = 0; i < sizeof(inc); i++)
		pages[0][384 + i] = inc[i];
	serialize();
	for (int i = 0; i < 100; i++) {
		right += call((uintptr_t)pages[0] + 384) == 0;
		right += call_compat((uintptr_t)pages[0] + 384) == 1;
	}
	check_eq("the same bytes in two modes", right, 200);
}

/* A trampoline on the stack, as nested functions have them. */
static void
stack_code(void)
{
	volatile uint8_t code[16];
	unsigned right = 0;

	for (uint32_t i = 0; i < 1000; i++) {
		write_function((uintptr_t)code, i);
		right += call((uintptr_t)code) == i;
	}
	check_eq("code on the stack", right, 1000);
}

void
payload(void)
{
	test("smc");
	ring_init();
	*pde(WINDOW) = (uint64_t)table | PTE_P | PTE_W;
	map(0, pages[0]);
	map(1, pages[1]);
	map(2, pages[1]);
	map(3, pages[0]);
	flush_tlb();
	between_calls();
	kinds_of_stores();
	next_instruction();
	page_ends();
	aliases();
	remap();
	address_spaces();
	modes();
	stack_code();
	done();
}
