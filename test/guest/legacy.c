/*
 * Protected mode, second part: INT3, single steps, ring 3 and back by INT, and
 * decimal arithmetic.  A /dev/kvm that only emulates lacks INT, IRET and DAA.
 */
#include "guest.h"

#define DB 1
#define BP 3
#define GP 13

static uint8_t user_stack[1024] __attribute__((used));
static uint8_t kernel_stack[4096] __attribute__((aligned(16)));

static struct {
	uint32_t link, esp0, ss0, rest[22];
	uint16_t trap, iomap;
	uint8_t bits[8 + 1]; /* ports 0 to 63; the last byte is all ones */
} __attribute__((packed)) tss;

static volatile uint32_t user_cs, user_vectors[4];
static uint32_t saved_esp __attribute__((used));
static uint32_t saved_ebp __attribute__((used));

/*
 * Ring 3 tries three things; each fault's handler notes it and skips the one
 * byte, and INT 0x80 comes home.
 */
__asm__(".text\n"
	"user_code: cli\n" /* #GP: IOPL 0 */
	"hlt\n"            /* #GP */
	"mov $0x3f, %dx\n"
	"in %dx, %al\n" /* allowed by the bitmap */
	"mov $0x84, %dx\n"
	"in %dx, %al\n" /* #GP: beyond the bitmap */
	"int $0x80\n"
	"come_home: mov %ss:saved_esp, %esp\n"
	"mov $0x10, %eax\n"
	"mov %eax, %ds\n"
	"mov %eax, %es\n"
	"mov saved_ebp, %ebp\n"
	"ret\n"
	"go_user: mov %esp, saved_esp\n"
	"mov %ebp, saved_ebp\n"
	"mov $0x23, %eax\n"
	"mov %eax, %ds\n"
	"mov %eax, %es\n"
	"push $0x23\n"
	"push $user_stack + 1024\n"
	"push $2\n"
	"push $0x1b\n"
	"push $user_code\n"
	"iret\n");
void go_user(void);
extern const char come_home[];

static volatile unsigned user_faults;

HANDLER_ERROR(user_gp)
{
	user_cs = frame->cs;
	if (user_faults < 4)
		user_vectors[user_faults] = error;
	user_faults++;
	frame->ip++;
}

static void
ring3(void)
{
	uint32_t base = (uint32_t)&tss;

	tss.esp0 = (uint32_t)kernel_stack + sizeof(kernel_stack);
	tss.ss0 = 0x10;
	tss.iomap = offsetof(__typeof__(tss), bits);
	for (unsigned i = 0; i < 8; i++)
		tss.bits[i] = 0;
	tss.bits[8] = 0xff;
	gdt[6] = 0x0000890000000000ULL | (sizeof(tss) - 1) |
	    (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(base >> 24) << 56;
	__asm__ volatile("ltr %w0" : : "r"(0x30));
	gate(GP, user_gp);
	gate_flags(0x80, come_home, GATE_INTERRUPT | GATE_USER);
	__asm__ volatile("call go_user"
			 :
			 :
			 : "eax", "ebx", "ecx", "edx", "esi", "edi", "memory");
	check_eq("three instructions were refused", user_faults, 3);
	check_eq("in ring 3", user_cs, 0x1b);
	check_eq("error code 0", user_vectors[0], 0);
}

static void
decimal(void)
{
	uint32_t eax;

	__asm__("addb $0x28, %%al; daa" : "=a"(eax) : "a"(0x19));
	check_eq("DAA", eax, 0x47);
	__asm__("subb $0x17, %%al; das" : "=a"(eax) : "a"(0x45));
	check_eq("DAS", eax, 0x28);
	__asm__("addb $5, %%al; aaa" : "=a"(eax) : "a"(9));
	check_eq("AAA", eax, 0x0104);
	__asm__("subb $9, %%al; aas" : "=a"(eax) : "a"(0x0205));
	check_eq("AAS", eax, 0x0106);
	__asm__("aam" : "=a"(eax) : "a"(63));
	check_eq("AAM", eax, 0x0603);
	__asm__("aad" : "=a"(eax) : "a"(0x0603));
	check_eq("AAD", eax, 63);
}

void
payload(void)
{
	test("legacy");
	traps_init();
	check_eq("#BP", TRY("int3", "r"(0)), BP);
	check_eq("it points behind INT3", read8(fault_ip - 1), 0xcc);
	check_eq("#DB after a step",
	    TRY("pushf; orl $0x100, (%%esp); popf; nop", "r"(0)), DB);
	ring3();
	decimal();
	done();
}
