/*
 * Locked operations (SDM volume 3, 8.1.2): whole, whatever they cross, among
 * two vCPUs that hammer the same bytes; CMPXCHG8B and CMPXCHG16B; XCHG, which
 * locks without a prefix; and on memory that may not be written.
 */
#include "ring.h"

#define WINDOW 0x50000000u
#define ROUNDS 3000u
#define DEVICE_ROUNDS 1000u

static uint64_t table[512] __attribute__((aligned(4096)));
static uint8_t page[2][4096] __attribute__((aligned(4096)));
static volatile uint32_t arrived;
static bool has_cx16;

/* ---- two at once --------------------------------------------------------- */

enum { ALIGNED, LINE, PAGES, NIBBLES, LOCKED, WIDE, DEVICE, KINDS };

static volatile uint64_t *
place(unsigned kind)
{
	switch (kind) {
	case LINE: /* over a cache line */
		return (volatile uint64_t *)(page[0] + 256 - 3);
	case PAGES:
		return (volatile uint64_t *)(uintptr_t)(WINDOW + 4096 - 5);
	case DEVICE:
		return (volatile uint64_t *)(uintptr_t)(TESTDEV_MMIO + 64);
	default:
		return (volatile uint64_t *)(page[0] + 1024 + 64 * kind);
	}
}

static uint64_t guarded;

static void
hammer(unsigned kind, unsigned me)
{
	volatile uint64_t *at = place(kind);
	unsigned rounds = kind == DEVICE ? DEVICE_ROUNDS : ROUNDS;

	for (unsigned i = 0; i < rounds; i++) {
		uint64_t low, high, one = 1;
		bool done;

		switch (kind) {
		case NIBBLES: /* neighbours within one word, each its own */
			__asm__ volatile("lock addb $1, %0"
					 : "+m"(((volatile uint8_t *)at)[me])
					 :
					 : "cc");
			__asm__ volatile("lock btcl %1, %0"
					 : "+m"(*(volatile uint32_t *)(at + 1))
					 : "r"(me)
					 : "cc");
			break;
		case LOCKED: /* by XCHG */
			do
				__asm__ volatile("pause; xchg %0, %1"
						 : "+r"(one), "+m"(*at)
						 :
						 : "memory");
			while (one != 0);
			guarded++;
			__asm__ volatile("" ::: "memory");
			*at = 0;
			break;
		case WIDE: /* RDX:RAX + 1 : 2^32 */
			if (!has_cx16)
				break;
			low = at[0];
			high = at[1];
			do
				__asm__ volatile("lock cmpxchg16b %0"
						 : "+m"(*(
						       volatile __int128 *)at),
						 "+a"(low), "+d"(high),
						 "=@ccz"(done)
						 : "b"(low + 1),
						 "c"(high + (1ULL << 32))
						 : "memory");
			while (!done);
			break;
		default:
			__asm__ volatile("lock xaddq %0, %1"
					 : "+r"(one), "+m"(*at)
					 :
					 : "cc");
			__asm__ volatile("lock addl $1, 4(%0)"
					 :
					 : "r"(at)
					 : "memory", "cc");
			break;
		}
	}
}

static void
meet(uint32_t n)
{
	__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
	while (arrived < 2 * n)
		__asm__ volatile("pause");
}

void
ap_main(unsigned n UNUSED)
{
	for (unsigned kind = 0; kind < KINDS; kind++) {
		meet(2 * kind + 1);
		hammer(kind, 1);
		meet(2 * kind + 2);
	}
	for (;;)
		__asm__ volatile("pause");
}

static void
contention(void)
{
	static const char *const names[KINDS] = { "aligned",
		"over a cache line", "over two pages", "neighbouring bytes",
		"a lock by XCHG", "CMPXCHG16B", "a device" };

	for (unsigned kind = 0; kind < KINDS; kind++) {
		volatile uint64_t *at = place(kind);
		unsigned rounds = kind == DEVICE ? DEVICE_ROUNDS : ROUNDS;
		uint64_t want = 2 * rounds * 0x100000001ULL;

		at[0] = at[1] = 0;
		meet(2 * kind + 1);
		hammer(kind, 0);
		meet(2 * kind + 2);
		switch (kind) {
		case NIBBLES:
			check64(names[kind], at[0], (uint8_t)rounds * 0x101ULL);
			check64("and bits", at[1], 0);
			break;
		case LOCKED:
			check64(names[kind], guarded, 2 * rounds);
			break;
		case WIDE:
			if (!has_cx16)
				break;
			check64(names[kind], at[0], 2 * rounds);
			check64("and its upper half", at[1],
			    (uint64_t)(2 * rounds) << 32);
			break;
		default:
			check64(names[kind], at[0], want);
			break;
		}
	}
}

/* ---- one alone ----------------------------------------------------------- */

static void
exchanges(void)
{
	static uint64_t pair[4] __attribute__((aligned(16)));
	uint64_t low = 1, high = 2;
	bool equal;

	pair[0] = 1;
	pair[1] = 2;
	__asm__ volatile("cmpxchg16b %0"
			 : "+m"(*(__int128 *)pair), "+a"(low), "+d"(high),
			 "=@ccz"(equal)
			 : "b"(3ULL), "c"(4ULL)
			 : "memory");
	check("CMPXCHG16B of equals", equal);
	check64("stores RBX", pair[0], 3);
	check64("and RCX", pair[1], 4);
	low = 9;
	__asm__ volatile("lock cmpxchg16b %0"
			 : "+m"(*(__int128 *)pair), "+a"(low), "+d"(high),
			 "=@ccz"(equal)
			 : "b"(5ULL), "c"(6ULL)
			 : "memory");
	check("of others", !equal);
	check64("loads RAX", low, 3);
	check64("and RDX", high, 4);
	check64("and stores nothing", pair[0], 3);
	check_eq("off its alignment", TRY("cmpxchg16b 8(%0)", "r"(pair)), GP);
	check_eq("CMPXCHG8B is not so strict",
	    TRY_FULL("lock cmpxchg8b 3(%0)", , "r"(pair), "rax", "rdx", "cc"),
	    NO_FAULT);
	check_eq("CMPXCHG8B of a register",
	    TRY(".byte 0x0f, 0xc7, 0xc8", "r"(0)), UD);
}

static void
rights(void)
{
	uint32_t old = 0;

	table[1] &= ~PTE_W;
	invlpg(WINDOW + 4096);
	check_eq("XCHG with read-only memory",
	    TRY("xchg %1, (%0)", "r"(WINDOW + 4096ULL), "r"(0)), PF);
	check_eq("its error code: write", (uint32_t)fault_error, 3);
	check_eq("CMPXCHG that would not store",
	    TRY("lock cmpxchg %1, (%0)", "r"(WINDOW + 4096ULL), "r"(1),
		"a"(0x5555)),
	    PF);
	check_eq("its error code: write", (uint32_t)fault_error, 3);
	*(volatile uint32_t *)(WINDOW + 4092) = 0x11111111;
	check_eq("over a page that may be written and one that may not",
	    TRY("lock addq $1, (%0)", "r"(WINDOW + 4092ULL)), PF);
	check_eq("the first is unchanged",
	    *(volatile uint32_t *)(WINDOW + 4092), 0x11111111);
	table[1] |= PTE_W;
	invlpg(WINDOW + 4096);
	__asm__ volatile("xchg %0, (%1)"
			 : "+r"(old)
			 : "r"(WINDOW + 4092ULL)
			 : "memory");
	check_eq("XCHG", old, 0x11111111);
}

void
payload(void)
{
	uint32_t r[4];

	test("atomic");
	ring_init();
	*pde(WINDOW) = (uint64_t)table | PTE_P | PTE_W;
	table[0] = (uint64_t)page[0] | PTE_P | PTE_W;
	table[1] = (uint64_t)page[1] | PTE_P | PTE_W;
	flush_tlb();
	cpuid(1, 0, r);
	has_cx16 = r[2] >> 13 & 1;
	if (has_cx16)
		exchanges();
	rights();
	start_ap(1);
	contention();
	done();
}
