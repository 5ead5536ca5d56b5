/*
 * The bench: a machine with no vCPUs, for device tests.
 *
 * A test speaks as a guest would, through ports and memory, and moves time by
 * hand.  BENCH_MAIN makes a machine for each test with the interrupt chips and
 * one device of the named model in it (the chips' own tests name none, ""),
 * and frees it after.
 */
#ifndef TEST_BENCH_H
#define TEST_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/config.h"
#include "engine/engine.h"
#include "irq/irq.h"
#include "vm/clock.h"
#include "vm/device.h"
#include "vm/vm.h"

struct bench {
	struct vm *vm;
	struct config *config;
	struct loop *loop;
	struct device *dev;         /* the device under test */
	const char *const *options; /* borrowed: for its twins */
	/* What reached the processor since the test last looked. */
	unsigned msi_count;
	struct engine_msi msi[64]; /* the last ones, oldest first */
	bool deaf;           /* a test's wish: no processor takes a message */
	unsigned intr_count; /* times the engine was told of INTR */
	struct engine_msi eoi_watch[ENGINE_EOI_PINS];
	bool eoi_watched[ENGINE_EOI_PINS];
	/* A test's wish: the engine takes irqfds.  fd -1: free. */
	bool irqfd;
	struct bench_irqfd {
		int fd;
		struct engine_msi msi;
	} irqfds[4];
	uint64_t rises[IRQ_LINES]; /* what bench_irqs() has told */
	enum vm_end ended;         /* VM_END_NONE while it goes on */
};

/*
 * Options are "key=value" pairs for the tree, ended by NULL.  Two are the
 * bench's own: bench.name, what the device is called (default: its model), and
 * bench.node, the path of its node (default: it has none).
 */
struct bench *bench_new(const char *model, const char *const *options);
/* With every device of a machine's board, and PCI functions on two buses. */
struct bench *bench_new_board(void);
void bench_free(struct bench *b);
/* Add a device: name defaults to the model's. */
struct device *bench_add(struct bench *b, const char *model, const char *name);

uint8_t bench_in8(struct bench *b, uint16_t port);
uint16_t bench_in16(struct bench *b, uint16_t port);
uint32_t bench_in32(struct bench *b, uint16_t port);
void bench_out8(struct bench *b, uint16_t port, uint8_t value);
void bench_out16(struct bench *b, uint16_t port, uint16_t value);
void bench_out32(struct bench *b, uint16_t port, uint32_t value);
uint64_t bench_read(struct bench *b, gpa_t gpa, unsigned size);
void bench_write(struct bench *b, gpa_t gpa, unsigned size, uint64_t value);

void bench_advance(struct bench *b, uint64_t ns);
enum irq_trigger bench_trigger(struct bench *b, unsigned line);
/* INTR asserted?  And acknowledge it, as a processor would. */
bool bench_intr(struct bench *b);
uint8_t bench_intack(struct bench *b);
/* How often the line rose since the last call for it. */
unsigned bench_irqs(struct bench *b, unsigned line);
/* Is the line asserted by any source? */
bool bench_line(struct bench *b, unsigned line);
void bench_eoi(struct bench *b, uint8_t vector);

/* Load a state made of the device's fields as raw bytes: 0 or -EINVAL. */
int bench_load(struct bench *b, const void *fields, size_t len);
int bench_load_device(struct device *dev, const void *fields, size_t len);
/* The record of the device under test, for comparing. */
void bench_save(struct bench *b, struct buf *out);
/*
 * Save, reset to power-on by loading into a fresh twin machine, save again and
 * compare bytes; fails the test on a difference.  With the clock moved along.
 */
void bench_round_trip(struct bench *b);
/*
 * rounds of random accesses to ranges, all widths and value classes, with time
 * moving and now and then a save/load; seeded.  A range is {space, base, len}.
 * The environment's BENCH_SOAK makes it go on for so many seconds.
 */
struct bench_range {
	enum bus_space space;
	uint64_t base;
	uint64_t len;
};
void bench_hammer(struct bench *b, const struct bench_range *ranges, size_t n,
    unsigned rounds, uint32_t seed);

int bench_setup(void **state, const char *model, const char *const *options);
int bench_teardown(void **state);

#define BENCH_TEST(fn) \
	cmocka_unit_test_setup_teardown(fn, bench_main_setup, bench_teardown)
#define BENCH_MAIN(model, ...) BENCH_MAIN_OPTIONS(model, NULL, __VA_ARGS__)
/* options: an array of "key=value" ended by NULL, or NULL. */
#define BENCH_MAIN_OPTIONS(model, options, ...)                    \
	static int bench_main_setup(void **state)                  \
	{                                                          \
		return bench_setup(state, model, options);         \
	}                                                          \
	int main(void)                                             \
	{                                                          \
		const struct CMUnitTest tests[] = { __VA_ARGS__ }; \
                                                                   \
		return cmocka_run_group_tests(tests, NULL, NULL);  \
	}

#endif
