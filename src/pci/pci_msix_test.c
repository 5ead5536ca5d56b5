/*
 * MSI-X through the test device "dummy", which sends the message that its port
 * 4 is told.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "pci/pci.h"
#include "test/bench.h"
#include "vm/platform.h"

#define CFG(off) (PLAT_ECAM_BASE + (5 << 15) + (off))
#define VECTORS 16u
#define ENTRY_BYTES (VECTORS * (unsigned)sizeof(struct pci_msix_entry))
#define ENABLE 0x8000u
#define FUNCTION_MASK 0x4000u
#define APIC 0xfee01000u

static const char *const options[] = {
	"bench.node=pci.0.5.0",
	NULL,
};

static uint64_t
table(struct bench *b)
{
	return bench_read(b, CFG(0x20), 4);
}

static uint64_t
entry(struct bench *b, unsigned vector, unsigned off)
{
	return table(b) + vector * 16 + off;
}

static uint64_t
pba(struct bench *b)
{
	return table(b) + 0x1000;
}

static unsigned
cap(struct bench *b)
{
	unsigned off = (unsigned)bench_read(b, CFG(0x34), 1);

	while (off != 0 && bench_read(b, CFG(off), 1) != 0x11)
		off = (unsigned)bench_read(b, CFG(off + 1), 1);
	assert_int_not_equal(off, 0);
	return off;
}

static void
control(struct bench *b, unsigned bits)
{
	bench_write(b, CFG(cap(b) + 2), 2, bits);
}

/* Vector v goes to APIC with data 0x4000 + v. */
static void
program(struct bench *b, unsigned vector, bool masked)
{
	bench_write(b, entry(b, vector, 0), 8, APIC);
	bench_write(b, entry(b, vector, 8), 4, 0x4000 + vector);
	bench_write(b, entry(b, vector, 12), 4, masked);
}

static void
send(struct bench *b, uint32_t vector)
{
	uint16_t port = (uint16_t)(bench_read(b, CFG(0x10), 4) & 0xfffc);

	bench_out32(b, port + 4, vector);
}

/* The messages since the last look: how many, and the last one's vector. */
static unsigned
sent(struct bench *b, unsigned vector)
{
	unsigned count = b->msi_count;

	if (count > 0) {
		assert_int_equal(b->msi[count - 1].addr, APIC);
		assert_int_equal(b->msi[count - 1].data, 0x4000 + vector);
	}
	b->msi_count = 0;
	return count;
}

static void
capability_tells_table_and_pba(void **state)
{
	struct bench *b = *state;
	unsigned off = cap(b);

	assert_int_equal(bench_read(b, CFG(off + 2), 2), VECTORS - 1);
	assert_int_equal(bench_read(b, CFG(off + 4), 4), 4);
	assert_int_equal(bench_read(b, CFG(off + 8), 4), 0x1004);
	/* The guest changes enable and function mask, nothing else. */
	bench_write(b, CFG(off), 4, 0xffffffff);
	bench_write(b, CFG(off + 4), 4, 0xffffffff);
	bench_write(b, CFG(off + 8), 4, 0xffffffff);
	assert_int_equal(bench_read(b, CFG(off + 2), 2), 0xc000 + VECTORS - 1);
	assert_int_equal(bench_read(b, CFG(off + 4), 4), 4);
	assert_int_equal(bench_read(b, CFG(off + 8), 4), 0x1004);
	assert_int_equal(bench_read(b, CFG(off), 1), 0x11);
	/* After a reset every vector is masked. */
	for (unsigned v = 0; v < VECTORS; v++) {
		assert_int_equal(bench_read(b, entry(b, v, 0), 8), 0);
		assert_true(bench_read(b, entry(b, v, 8), 8) == 1ULL << 32);
	}
}

static void
table_takes_words_of_4_and_8_bytes(void **state)
{
	struct bench *b = *state;
	uint64_t last = entry(b, VECTORS - 1, 0);

	bench_write(b, last, 8, 0x11223344fee55667);
	bench_write(b, last + 8, 8, 0xffffffffcafef00d);
	assert_true(bench_read(b, last, 8) == 0x11223344fee55664);
	assert_int_equal(bench_read(b, last + 4, 4), 0x11223344);
	assert_true(bench_read(b, last + 8, 8) == 0x1cafef00d);
	/* Narrower: the part is read, nothing is written. */
	assert_int_equal(bench_read(b, last + 9, 1), 0xf0);
	assert_int_equal(bench_read(b, last + 10, 2), 0xcafe);
	bench_write(b, last + 8, 1, 0);
	bench_write(b, last + 8, 2, 0);
	assert_int_equal(bench_read(b, last + 8, 4), 0xcafef00d);
	/* Across words, each gets what is its own. */
	bench_write(b, last + 4, 8, 0x5555555566666666);
	assert_int_equal(bench_read(b, last + 4, 4), 0x66666666);
	assert_int_equal(bench_read(b, last + 8, 4), 0x55555555);
	/* Beyond the last vector there is nothing, and in the PBA no writing. */
	for (uint64_t gpa = last + 16; gpa < table(b) + 0x2000; gpa += 8) {
		bench_write(b, gpa, 8, UINT64_MAX);
		assert_int_equal(bench_read(b, gpa, 8), 0);
	}
}

static void
messages_are_sent_while_enabled(void **state)
{
	struct bench *b = *state;
	struct pci_func *func = device_self(b->dev);

	for (unsigned v = 0; v < VECTORS; v++)
		program(b, v, false);
	send(b, 0);
	assert_int_equal(sent(b, 0), 0);
	assert_false(pci_msix_enabled(func));
	control(b, ENABLE);
	assert_true(pci_msix_enabled(func));
	/* What came while it was off is gone. */
	assert_int_equal(sent(b, 0), 0);
	for (unsigned v = 0; v < VECTORS; v++) {
		send(b, v);
		assert_int_equal(sent(b, v), 1);
	}
	/* No such vectors. */
	send(b, VECTORS);
	send(b, 0xffff);
	send(b, 0xffffffff);
	assert_int_equal(sent(b, 0), 0);
	assert_int_equal(bench_read(b, pba(b), 8), 0);
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_false(pci_msix_enabled(func));
	assert_int_equal(bench_read(b, entry(b, 3, 12), 4), 1);
}

static void
masked_vectors_become_pending(void **state)
{
	struct bench *b = *state;

	control(b, ENABLE);
	program(b, 3, true);
	program(b, 7, false);
	send(b, 3);
	send(b, 3);
	assert_int_equal(sent(b, 3), 0);
	assert_int_equal(bench_read(b, pba(b), 8), 0x08);
	bench_round_trip(b);
	send(b, 7);
	assert_int_equal(sent(b, 7), 1);
	/* Twice asked for, once sent, with what the table holds by then. */
	bench_write(b, entry(b, 3, 8), 8, 0x4003);
	assert_int_equal(sent(b, 3), 1);
	assert_int_equal(bench_read(b, pba(b), 4), 0);
	send(b, 3);
	assert_int_equal(sent(b, 3), 1);

	/* The whole function. */
	control(b, ENABLE | FUNCTION_MASK);
	send(b, 7);
	send(b, 3);
	assert_int_equal(sent(b, 3), 0);
	assert_int_equal(bench_read(b, pba(b), 8), 0x88);
	/* A vector's own mask does not matter then, and nor do writes to it. */
	program(b, 7, true);
	program(b, 7, false);
	program(b, 3, true);
	assert_int_equal(sent(b, 7), 0);
	bench_round_trip(b);
	control(b, ENABLE);
	assert_int_equal(sent(b, 7), 1);
	assert_int_equal(bench_read(b, pba(b), 8), 0x08);
	/* Off and on again, pending stays pending. */
	control(b, 0);
	program(b, 3, false);
	assert_int_equal(sent(b, 3), 0);
	assert_int_equal(bench_read(b, pba(b), 8), 0x08);
	control(b, ENABLE);
	assert_int_equal(sent(b, 3), 1);
	/* And a reset forgets. */
	program(b, 3, true);
	send(b, 3);
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_int_equal(bench_read(b, pba(b), 8), 0);
}

static void
messages_go_to_processors_alone(void **state)
{
	static const uint64_t places[] = { 0, 0x1000, 0xfed00000, 0xfef00000,
		0xffffffff, 0x1fee00000, UINT64_MAX };
	struct bench *b = *state;

	control(b, ENABLE);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		bench_write(b, entry(b, 1, 0), 8, places[i]);
		bench_write(b, entry(b, 1, 8), 8, 0x4001);
		send(b, 1);
		assert_int_equal(b->msi_count, 0);
		assert_int_equal(bench_read(b, pba(b), 8), 0);
	}
	/* To a processor that is not there. */
	b->deaf = true;
	program(b, 1, false);
	send(b, 1);
	b->deaf = false;
	assert_int_equal(sent(b, 1), 0);
	send(b, 1);
	assert_int_equal(sent(b, 1), 1);
}

/* The fields behind config space: five words a vector. */
static int
load_word(struct bench *b, unsigned vector, unsigned word, uint32_t value,
    unsigned bits)
{
	struct buf saved = { 0 };
	struct reader in;
	uint8_t *fields;
	char name[64];
	int rc;

	bench_save(b, &saved);
	in = reader_make(saved.data, saved.len);
	reader_str(&in, name, sizeof(name));
	reader_str(&in, name, sizeof(name));
	(void)reader_take(&in, 6);
	fields = saved.data + in.pos;
	le16_store(fields + cap(b) + 2, (uint16_t)(VECTORS - 1 + bits));
	le32_store(fields + PCI_CFG_SIZE + vector * 20 + word * 4, value);
	rc = bench_load(b, fields, saved.len - in.pos);
	buf_fini(&saved);
	return rc;
}

static void
forged_vectors_are_refused(void **state)
{
	enum { ADDR_LOW, ADDR_HIGH, DATA, CONTROL, PENDING };
	struct bench *b = *state;
	unsigned last = VECTORS - 1;

	assert_int_equal(load_word(b, last, ADDR_LOW, APIC | 1, 0), -EINVAL);
	assert_int_equal(load_word(b, last, CONTROL, 2, 0), -EINVAL);
	assert_int_equal(load_word(b, last, PENDING, 2, 0), -EINVAL);
	assert_int_equal(load_word(b, last, ADDR_LOW, APIC, 0), 0);
	assert_int_equal(load_word(b, last, ADDR_HIGH, 0xffffffff, 0), 0);
	assert_int_equal(load_word(b, last, CONTROL, 0, ENABLE), 0);
	/* Pending, and nothing in its way. */
	assert_int_equal(load_word(b, last, PENDING, 1, ENABLE), -EINVAL);
	assert_int_equal(load_word(b, last, PENDING, 1, 0), 0);
	assert_int_equal(load_word(b, last, PENDING, 1, ENABLE | FUNCTION_MASK),
	    0);
	assert_int_equal(bench_read(b, pba(b), 8), BIT(VECTORS - 1));
	assert_int_equal(b->msi_count, 0);
}

static void
an_engine_without_irqfds_says_so(void **state)
{
	struct bench *b = *state;
	struct pci_func *func = device_self(b->dev);
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	assert_int_equal(pci_msix_irqfd(func, 0, fd), -ENOTSUP);
	assert_int_equal(pci_msix_irqfd(func, VECTORS, fd), -EINVAL);
	assert_int_equal(pci_msix_irqfd(func, 0, -1), 0);
	(void)close(fd);
}

/* Is fd attached, to vector v of program()? */
static bool
attached(const struct bench *b, int fd, unsigned v)
{
	for (size_t i = 0; i < ARRAY_SIZE(b->irqfds); i++) {
		if (b->irqfds[i].fd == fd) {
			assert_int_equal(b->irqfds[i].msi.addr, APIC);
			assert_int_equal(b->irqfds[i].msi.data, 0x4000 + v);
			return true;
		}
	}
	return false;
}

static void
irqfds_follow_their_vectors(void **state)
{
	struct bench *b = *state;
	struct pci_func *func = device_self(b->dev);
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t count = 1;

	assert_true(fd >= 0 && other >= 0);
	b->irqfd = true;
	assert_int_equal(pci_msix_irqfd(func, 5, fd), 0);
	assert_int_equal(pci_msix_irqfd(func, VECTORS, other), -EINVAL);
	assert_false(attached(b, fd, 5));
	program(b, 5, false);
	assert_false(attached(b, fd, 5));
	control(b, ENABLE);
	assert_true(attached(b, fd, 5));
	/* Masked, what is signalled waits in the descriptor, and is pending. */
	bench_write(b, entry(b, 5, 12), 4, 1);
	assert_false(attached(b, fd, 5));
	assert_int_equal(bench_read(b, pba(b), 8), 0);
	assert_int_equal(write(fd, &count, sizeof(count)), sizeof(count));
	assert_int_equal(bench_read(b, pba(b), 8), BIT(5));
	bench_write(b, entry(b, 5, 8), 4, 0x4006);
	bench_write(b, entry(b, 5, 12), 4, 0);
	assert_true(attached(b, fd, 6));
	assert_int_equal(bench_read(b, pba(b), 8), 0);
	control(b, ENABLE | FUNCTION_MASK);
	assert_false(attached(b, fd, 6));
	control(b, ENABLE);
	assert_true(attached(b, fd, 6));
	/* A new message, and one to nobody. */
	program(b, 5, false);
	assert_true(attached(b, fd, 5));
	bench_write(b, entry(b, 5, 4), 4, 1);
	assert_false(attached(b, fd, 5));
	program(b, 5, false);
	/* Another takes its place; a reset, and the end, detach. */
	assert_int_equal(pci_msix_irqfd(func, 5, other), 0);
	assert_false(attached(b, fd, 5));
	assert_true(attached(b, other, 5));
	assert_int_equal(vm_reset(b->vm, NULL), 0);
	assert_false(attached(b, other, 5));
	program(b, 5, false);
	control(b, ENABLE);
	assert_true(attached(b, other, 5));
	assert_int_equal(pci_msix_irqfd(func, 5, -1), 0);
	assert_false(attached(b, other, 5));
	/* More than the engine takes: the owner is told. */
	for (unsigned v = 0; v <= ARRAY_SIZE(b->irqfds); v++) {
		program(b, v, false);
		bool room = v < ARRAY_SIZE(b->irqfds);

		assert_int_equal(pci_msix_irqfd(func, v, 1000 + (int)v),
		    room ? 0 : -ENOSPC);
		assert_int_equal(attached(b, 1000 + (int)v, v), room);
	}
	(void)close(fd);
	(void)close(other);
}

/* Back ends send while the guest masks and unmasks. */
static void *
sending_backend(void *arg)
{
	struct pci_func *func = arg;

	for (unsigned i = 0; i < 5000; i++)
		pci_msix_send(func, i % (VECTORS + 2));
	return NULL;
}

static void
any_thread_may_send(void **state)
{
	struct bench *b = *state;
	pthread_t thread;

	for (unsigned v = 0; v < VECTORS; v++)
		program(b, v, false);
	assert_int_equal(pthread_create(&thread, NULL, sending_backend,
			     device_self(b->dev)),
	    0);
	for (unsigned i = 0; i < 2000; i++) {
		control(b, i % 3 ? ENABLE : ENABLE | FUNCTION_MASK);
		program(b, i % VECTORS, i & 1);
		(void)bench_read(b, pba(b), 8);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	control(b, ENABLE);
	for (unsigned v = 0; v < VECTORS; v++)
		program(b, v, false);
	assert_int_equal(bench_read(b, pba(b), 8), 0);
	b->msi_count = 0;
	send(b, 9);
	assert_int_equal(sent(b, 9), 1);
}

static void
hammered_in_every_width(void **state)
{
	struct bench *b = *state;
	const struct bench_range ranges[] = {
		{ BUS_MMIO, CFG(0), 0x100 },
		{ BUS_MMIO, table(b), 0x2000 },
		{ BUS_MMIO, table(b), 0x100 },
		{ BUS_PORT, 0x2000, 0x10 },
		{ BUS_MMIO, PLAT_PCI_MEM32_BASE, 0x8000 },
	};

	bench_hammer(b, ranges, ARRAY_SIZE(ranges), 20000, 0x35);
	assert_int_equal(bench_read(b, CFG(0), 4), 0x000110dd);
}

BENCH_MAIN_OPTIONS("dummy", options, BENCH_TEST(capability_tells_table_and_pba),
    BENCH_TEST(table_takes_words_of_4_and_8_bytes),
    BENCH_TEST(messages_are_sent_while_enabled),
    BENCH_TEST(masked_vectors_become_pending),
    BENCH_TEST(messages_go_to_processors_alone),
    BENCH_TEST(forged_vectors_are_refused),
    BENCH_TEST(an_engine_without_irqfds_says_so),
    BENCH_TEST(irqfds_follow_their_vectors), BENCH_TEST(any_thread_may_send),
    BENCH_TEST(hammered_in_every_width))
