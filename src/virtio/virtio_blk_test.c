/*
 * virtio-blk on the bench, with a file of its own for each test.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/wire.h"
#include "storage/block_rig.h"
#include "test/virtio_driver.h"
#include "virtio/virtio.h"
#include "vm/bus.h"

#define SECTORS 8192u
#define HEADER VIRTIO_DATA
#define STATUS (VIRTIO_DATA + 0x100)
#define RANGE (VIRTIO_DATA + 0x200)
#define DATA (VIRTIO_DATA + 0x10000)

#define T_IN 0
#define T_OUT 1
#define T_FLUSH 4
#define T_GET_ID 8
#define T_DISCARD 11
#define T_WRITE_ZEROES 13
#define OK 0
#define IOERR 1
#define UNSUPP 2

#define ALL 0x7e64u /* what this device may offer */
#define F_RO BIT(5)
#define F_FLUSH BIT(9)
#define F_CONFIG_WCE BIT(11)
#define F_MQ BIT(12)
#define F_DISCARD BIT(13)

struct disk {
	struct virtio_driver d;
	char path[64];
	int fd;
	const char *options[8];
	char text[4][96];
};

static struct bench *
machine(struct disk *disk)
{
	return bench_new("virtio-blk", disk->options);
}

/* A disk with another option or two, not driven yet. */
static struct disk *
disk_new(const char *first, const char *second)
{
	struct disk *disk = xcalloc(1, sizeof(*disk));

	(void)snprintf(disk->path, sizeof(disk->path), "/tmp/blk-test-XXXXXX");
	disk->fd = mkstemp(disk->path);
	assert_true(disk->fd >= 0);
	assert_int_equal(ftruncate(disk->fd, (off_t)SECTORS * 512), 0);
	(void)snprintf(disk->text[0], sizeof(disk->text[0]), "%s.path=%s",
	    VIRTIO_DRIVER_NODE, disk->path);
	disk->options[0] = "bench.node=" VIRTIO_DRIVER_NODE;
	disk->options[1] = disk->text[0];
	if (first != NULL) {
		(void)snprintf(disk->text[1], sizeof(disk->text[1]), "%s.%s",
		    VIRTIO_DRIVER_NODE, first);
		disk->options[2] = disk->text[1];
	}
	if (second != NULL) {
		(void)snprintf(disk->text[2], sizeof(disk->text[2]), "%s.%s",
		    VIRTIO_DRIVER_NODE, second);
		disk->options[3] = disk->text[2];
	}
	disk->d.b = machine(disk);
	return disk;
}

static void
disk_free(struct disk *disk)
{
	bench_free(disk->d.b);
	assert_int_equal(close(disk->fd), 0);
	assert_int_equal(unlink(disk->path), 0);
	free(disk);
}

static struct disk *
ready_with(const char *first, const char *second)
{
	struct disk *disk = disk_new(first, second);

	virtio_driver_init(&disk->d, disk->d.b, ALL);
	return disk;
}

/* A disk in memory that does as it is told. */
static struct disk *
ready_rig(struct block_rig **rig)
{
	struct disk *disk = xcalloc(1, sizeof(*disk));

	*rig = block_rig_new("disk", (uint64_t)SECTORS * 512);
	disk->fd = -1;
	disk->options[0] = "bench.node=" VIRTIO_DRIVER_NODE;
	disk->options[1] = VIRTIO_DRIVER_NODE ".path=rig:disk";
	disk->d.b = machine(disk);
	virtio_driver_init(&disk->d, disk->d.b, ALL);
	return disk;
}

static void
rig_free(struct disk *disk, struct block_rig *rig)
{
	bench_free(disk->d.b);
	block_rig_free(rig);
	free(disk);
}

static struct disk *
ready(void)
{
	return ready_with(NULL, NULL);
}

static void
header(struct disk *disk, uint32_t type, uint64_t sector)
{
	virtio_driver_poke(&disk->d, HEADER, 4, type);
	virtio_driver_poke(&disk->d, HEADER + 4, 4, 0);
	virtio_driver_poke(&disk->d, HEADER + 8, 8, sector);
	virtio_driver_poke(&disk->d, STATUS, 1, 0x77);
}

/* Send parts, with header and status around them, and wait for the status. */
static unsigned
request(struct disk *disk, uint32_t type, uint64_t sector,
    const struct virtio_part *data, unsigned n)
{
	struct virtio_part parts[16] = { { HEADER, 16, false } };

	header(disk, type, sector);
	assert_true(n + 2 <= ARRAY_SIZE(parts));
	if (n != 0)
		memcpy(&parts[1], data, n * sizeof(*data));
	parts[n + 1] = (struct virtio_part) { STATUS, 1, true };
	virtio_driver_offer(&disk->d, 0, parts, n + 2);
	virtio_driver_kick(&disk->d, 0);
	virtio_driver_wait(&disk->d, 0, NULL, NULL);
	return (unsigned)virtio_driver_peek(&disk->d, STATUS, 1);
}

static unsigned
transfer(struct disk *disk, uint32_t type, uint64_t sector, uint32_t len)
{
	const struct virtio_part part = { DATA, len, type == T_IN };

	return request(disk, type, sector, &part, len != 0);
}

static unsigned
erase(struct disk *disk, uint32_t type, uint64_t sector, uint32_t sectors,
    uint32_t flags)
{
	const struct virtio_part part = { RANGE, 16, false };

	virtio_driver_poke(&disk->d, RANGE, 8, sector);
	virtio_driver_poke(&disk->d, RANGE + 8, 4, sectors);
	virtio_driver_poke(&disk->d, RANGE + 12, 4, flags);
	return request(disk, type, 0, &part, 1);
}

static void
fill(struct disk *disk, gpa_t gpa, uint8_t byte, uint32_t len)
{
	assert_int_equal(mem_fill(vm_mem(disk->d.b->vm), gpa, byte, len), 0);
}

static void
assert_memory(struct disk *disk, gpa_t gpa, uint8_t byte, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(virtio_driver_peek(&disk->d, gpa + i, 1),
		    byte);
}

static void
assert_file(struct disk *disk, uint64_t sector, uint8_t byte, size_t len)
{
	uint8_t buf[4096];

	assert_true(len <= sizeof(buf));
	assert_int_equal(pread(disk->fd, buf, len, (off_t)sector * 512),
	    (ssize_t)len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(buf[i], byte);
}

/* Pause or resume the device, as the machine does. */
static void
pause_disk(struct disk *disk, bool paused)
{
	struct device *dev = disk->d.b->dev;
	const struct device_model *model = device_model(dev);

	lock_take(device_lock(dev));
	(paused ? model->pause : model->resume)(device_self(dev));
	lock_drop(device_lock(dev));
}

static void
round_trip(struct disk *disk)
{
	pause_disk(disk, true);
	bench_round_trip(disk->d.b);
	pause_disk(disk, false);
}

/* ---- doing what it is for ------------------------------------------------ */

static void
what_was_written_is_read(void **state)
{
	struct disk *disk = ready();

	fill(disk, DATA, 0x5a, 4096);
	assert_int_equal(transfer(disk, T_OUT, 9, 4096), OK);
	assert_file(disk, 9, 0x5a, 4096);
	assert_file(disk, 8, 0, 512);
	assert_file(disk, 17, 0, 512);
	fill(disk, DATA, 0, 4096);
	assert_int_equal(transfer(disk, T_IN, 9, 4096), OK);
	assert_memory(disk, DATA, 0x5a, 4096);
	assert_int_equal(request(disk, T_FLUSH, 0, NULL, 0), OK);
	assert_int_equal(transfer(disk, T_IN, SECTORS - 1, 512), OK);
	assert_memory(disk, DATA, 0, 512);
	disk_free(disk);
}

/* Header, data and status may be cut anywhere (2.7.4.2). */
static void
layout_is_free(void **state)
{
	const struct virtio_part out[] = {
		{ HEADER, 1, false },
		{ HEADER + 1, 14, false },
		{ HEADER + 15, 1, false },
		{ DATA, 1, false },
		{ DATA + 1, 1023, false },
		{ STATUS, 1, true },
	};
	const struct virtio_part joined[] = {
		{ HEADER, 16, false }, { DATA, 1000, true },
		{ DATA + 0x8000, 25, true }, /* data, then the status */
	};
	struct disk *disk = ready();
	uint32_t len;

	header(disk, T_OUT, 3);
	fill(disk, DATA, 0xa5, 1024);
	virtio_driver_offer(&disk->d, 0, out, 6);
	virtio_driver_kick(&disk->d, 0);
	virtio_driver_wait(&disk->d, 0, NULL, &len);
	assert_int_equal(len, 1);
	assert_int_equal(virtio_driver_peek(&disk->d, STATUS, 1), OK);
	assert_file(disk, 3, 0xa5, 1024);

	header(disk, T_IN, 3);
	fill(disk, DATA, 0, 1024);
	virtio_driver_poke(&disk->d, DATA + 0x8000 + 24, 1, 0x77);
	virtio_driver_offer(&disk->d, 0, joined, 3);
	virtio_driver_kick(&disk->d, 0);
	virtio_driver_wait(&disk->d, 0, NULL, &len);
	assert_int_equal(len, 1025);
	assert_memory(disk, DATA, 0xa5, 1000);
	assert_memory(disk, DATA + 0x8000, 0xa5, 24);
	assert_int_equal(virtio_driver_peek(&disk->d, DATA + 0x8000 + 24, 1),
	    OK);
	disk_free(disk);
}

static void
the_serial_number(void **state)
{
	const struct virtio_part parts[] = { { DATA, 20, true },
		{ DATA, 7, true }, { DATA, 64, true } };
	struct disk *disk = ready_with("ser=ABCDEFGHIJKLMNOPQRST", NULL);
	char serial[BLOCK_SERIAL_SIZE];

	assert_int_equal(request(disk, T_GET_ID, 0, &parts[0], 1), OK);
	assert_true(
	    virtio_driver_peek(&disk->d, DATA, 8) == le64_load("ABCDEFGH"));
	assert_true(virtio_driver_peek(&disk->d, DATA + 12, 8) ==
	    le64_load("MNOPQRST"));
	fill(disk, DATA, 0xee, 64);
	assert_int_equal(request(disk, T_GET_ID, 0, &parts[1], 1), OK);
	assert_memory(disk, DATA + 7, 0xee, 57);
	assert_int_equal(request(disk, T_GET_ID, 0, &parts[2], 1), OK);
	assert_memory(disk, DATA + 20, 0xee, 44);
	assert_int_equal(request(disk, T_GET_ID, 0, NULL, 0), OK);
	disk_free(disk);

	disk = ready();
	block_serial(disk->path, serial);
	assert_int_equal(request(disk, T_GET_ID, 0, &parts[0], 1), OK);
	assert_true(virtio_driver_peek(&disk->d, DATA, 8) == le64_load(serial));
	disk_free(disk);
}

static void
zeroes_and_discards(void **state)
{
	struct disk *disk = ready();

	fill(disk, DATA, 0x5a, 4096);
	assert_int_equal(transfer(disk, T_OUT, 0, 4096), OK);
	assert_int_equal(erase(disk, T_WRITE_ZEROES, 2, 2, 0), OK);
	assert_file(disk, 0, 0x5a, 1024);
	assert_file(disk, 2, 0, 1024);
	assert_file(disk, 4, 0x5a, 2048);
	assert_int_equal(erase(disk, T_WRITE_ZEROES, 0, 1, 1), OK);
	assert_file(disk, 0, 0, 512);
	if (disk->d.features & F_DISCARD)
		assert_int_equal(erase(disk, T_DISCARD, 0, 8, 0), OK);
	disk_free(disk);
}

static void
configuration_tells(void **state)
{
	struct disk *disk = ready_with("sectorsize=512/4096", "queues=3");
	struct virtio_driver *d = &disk->d;

	assert_int_equal(bench_read(d->b, d->cfg, 4), 0x10011af4);
	assert_int_equal(bench_read(d->b, d->cfg + 10, 2), 0x0100);
	assert_int_equal(bench_read(d->b, d->cfg + 0x2c, 4), 0x00021af4);
	assert_int_equal(bench_read(d->b, d->device, 4), SECTORS);
	assert_int_equal(bench_read(d->b, d->device + 4, 4), 0);
	assert_int_equal(bench_read(d->b, d->device + 12, 4), 126);
	assert_int_equal(bench_read(d->b, d->device + 20, 4), 512);
	assert_int_equal(bench_read(d->b, d->device + 24, 1), 3);
	assert_int_equal(bench_read(d->b, d->device + 32, 1), 1);
	assert_int_equal(bench_read(d->b, d->device + 34, 2), 3);
	assert_int_equal(virtio_driver_get(d, VC_NUM_QUEUES, 2), 3);
	assert_true(d->features & F_MQ);
	/* Nothing of it but the cache is the driver's to change. */
	for (unsigned off = 0; off < 64; off += 4)
		if (off != 32)
			bench_write(d->b, d->device + off, 4, 0xffffffff);
	assert_int_equal(bench_read(d->b, d->device, 4), SECTORS);
	/* And the legacy interface shows the same. */
	assert_int_equal(bench_in32(d->b, d->ports + 24), SECTORS);
	assert_int_equal(bench_in16(d->b, d->ports + 24 + 34), 3);
	disk_free(disk);
}

static void
queues_work_beside_each_other(void **state)
{
	struct disk *disk = ready_with("queues=4", NULL);
	const struct virtio_part parts[] = {
		{ HEADER, 16, false },
		{ DATA, 512, true },
		{ STATUS, 1, true },
	};

	header(disk, T_IN, 1);
	for (unsigned q = 0; q < 4; q++) {
		virtio_driver_poke(&disk->d, STATUS, 1, 0x77);
		virtio_driver_offer(&disk->d, q, parts, 3);
		virtio_driver_kick(&disk->d, q);
		virtio_driver_wait(&disk->d, q, NULL, NULL);
		assert_int_equal(virtio_driver_peek(&disk->d, STATUS, 1), OK);
	}
	assert_int_equal(virtio_driver_status(&disk->d), 0x0f);
	disk_free(disk);
}

static void
a_full_ring_at_once(void **state)
{
	struct disk *disk = ready();
	struct virtio_driver *d = &disk->d;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 42; i++) {
			const struct virtio_part parts[] = {
				{ HEADER, 16, false },
				{ DATA + i * 4096, 4096, round == 1 },
				{ STATUS + i, 1, true },
			};

			header(disk, round == 1 ? T_IN : T_OUT, 8);
			virtio_driver_poke(d, STATUS + i, 1, 0x77);
			virtio_driver_offer(d, 0, parts, 3);
		}
		virtio_driver_kick(d, 0);
		for (unsigned i = 0; i < 42; i++)
			virtio_driver_wait(d, 0, NULL, NULL);
		assert_memory(disk, STATUS, OK, 42);
	}
	disk_free(disk);
}

/* ---- the cache ----------------------------------------------------------- */

static void
the_cache_can_be_turned_off(void **state)
{
	struct disk *disk = ready_with("lock=false", NULL);
	struct virtio_driver *d = &disk->d;

	assert_true(d->features & F_CONFIG_WCE);
	bench_write(d->b, d->device + 32, 1, 0);
	assert_int_equal(bench_read(d->b, d->device + 32, 1), 0);
	round_trip(disk);
	assert_int_equal(transfer(disk, T_OUT, 0, 512), OK);
	bench_write(d->b, d->device + 32, 1, 2);
	assert_int_equal(bench_read(d->b, d->device + 32, 1), 0);
	bench_write(d->b, d->device + 32, 1, 1);
	assert_int_equal(bench_read(d->b, d->device + 32, 1), 1);
	/* Nobody is told of what he did himself. */
	assert_int_equal(d->b->msi[d->b->msi_count - 1].data,
	    VIRTIO_MSI_DATA(1));
	virtio_driver_init(d, d->b, ALL & ~F_CONFIG_WCE);
	bench_write(d->b, d->device + 32, 1, 0);
	assert_int_equal(bench_read(d->b, d->device + 32, 1), 1);
	virtio_driver_init(d, d->b, ALL & ~F_FLUSH);
	assert_int_equal(bench_read(d->b, d->device + 32, 1), 0);
	assert_int_equal(transfer(disk, T_OUT, 0, 512), OK);
	disk_free(disk);
}

/* ---- lies ---------------------------------------------------------------- */

static void
requests_stay_on_the_disk(void **state)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
		unsigned status;
	} lies[] = {
		{ SECTORS, 512, IOERR },
		{ SECTORS - 1, 1024, IOERR },
		{ SECTORS + 1, 512, IOERR },
		{ UINT64_MAX, 512, IOERR },
		{ UINT64_MAX / 512, 512, IOERR },
		{ UINT64_MAX / 512 + 1, 512, IOERR },
		{ BIT(63), 512, IOERR },
		{ 0, 511, IOERR },
		{ 0, 513, IOERR },
		{ 0, 1, IOERR },
		{ 0, 0, OK },
		{ SECTORS, 0, OK },
		{ SECTORS + 1, 0, IOERR },
		{ SECTORS - 1, 512, OK },
	};
	struct disk *disk = ready();

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		assert_int_equal(transfer(disk, T_IN, lies[i].sector,
				     lies[i].len),
		    lies[i].status);
		assert_int_equal(transfer(disk, T_OUT, lies[i].sector,
				     lies[i].len),
		    lies[i].status);
	}
	assert_int_equal(virtio_driver_status(&disk->d), 0x0f);
	assert_int_equal(lseek(disk->fd, 0, SEEK_END), SECTORS * 512);
	disk_free(disk);
}

static void
unknown_types_are_unsupported(void **state)
{
	static const uint32_t types[] = { 2, 3, 5, 6, 7, 9, 10, 12, 14, 16,
		0x7fffffff, 0x80000000, 0x80000001, 0xffffffff };
	struct disk *disk = ready();

	for (unsigned i = 0; i < ARRAY_SIZE(types); i++)
		assert_int_equal(transfer(disk, types[i], 0, 512), UNSUPP);
	disk_free(disk);
}

static void
ranges_are_checked(void **state)
{
	static const uint32_t types[] = { T_DISCARD, T_WRITE_ZEROES };
	struct disk *disk = ready();

	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		const struct virtio_part bad[] = {
			{ RANGE, 15, false },
			{ RANGE, 17, false },
			{ RANGE, 32, false },
			{ RANGE, 65536 * 16, false },
		};
		uint32_t type = types[i];

		if (type == T_DISCARD && !(disk->d.features & F_DISCARD))
			continue;
		assert_int_equal(erase(disk, type, 0, 0, 0), OK);
		assert_int_equal(erase(disk, type, SECTORS, 1, 0), IOERR);
		assert_int_equal(erase(disk, type, SECTORS - 1, 2, 0), IOERR);
		assert_int_equal(erase(disk, type, UINT64_MAX, 1, 0), IOERR);
		assert_int_equal(erase(disk, type, UINT64_MAX, 0xffffffff, 0),
		    IOERR);
		assert_int_equal(erase(disk, type, 0, 0xffffffff, 0), IOERR);
		assert_int_equal(erase(disk, type, 0, 1, 2), UNSUPP);
		assert_int_equal(erase(disk, type, 0, 1, 0x80000000), UNSUPP);
		assert_int_equal(erase(disk, type, 0, 1, 1),
		    type == T_DISCARD ? UNSUPP : OK);
		assert_int_equal(request(disk, type, 0, NULL, 0), IOERR);
		for (unsigned j = 0; j < ARRAY_SIZE(bad); j++)
			assert_int_equal(request(disk, type, 0, &bad[j], 1),
			    IOERR);
	}
	assert_int_equal(virtio_driver_status(&disk->d), 0x0f);
	virtio_driver_init(&disk->d, disk->d.b, 0);
	assert_int_equal(erase(disk, T_DISCARD, 0, 1, 0), UNSUPP);
	assert_int_equal(erase(disk, T_WRITE_ZEROES, 0, 1, 0), UNSUPP);
	disk_free(disk);
}

static void
requests_have_a_header_and_a_status(void **state)
{
	static const struct virtio_part lies[][2] = {
		{ { HEADER, 15, false }, { STATUS, 1, true } },
		{ { HEADER, 16, false }, { DATA, 512, false } },
		{ { DATA, 512, true }, { STATUS, 1, true } },
	};
	struct disk *disk = ready();

	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		virtio_driver_init(&disk->d, disk->d.b, ALL);
		header(disk, T_IN, 0);
		virtio_driver_offer(&disk->d, 0, lies[i], 2);
		virtio_driver_kick(&disk->d, 0);
		assert_int_equal(virtio_driver_status(&disk->d),
		    0x0f | VIRTIO_STATUS_NEEDS_RESET);
	}
	virtio_driver_init(&disk->d, disk->d.b, ALL);
	assert_int_equal(transfer(disk, T_IN, 0, 512), OK);
	disk_free(disk);
}

static void
a_read_only_disk_is_not_written(void **state)
{
	struct disk *disk = ready_with("ro=true", NULL);

	assert_true(disk->d.features & F_RO);
	fill(disk, DATA, 0x5a, 512);
	assert_int_equal(transfer(disk, T_OUT, 0, 512), IOERR);
	assert_int_equal(erase(disk, T_WRITE_ZEROES, 0, 1, 0), UNSUPP);
	assert_int_equal(erase(disk, T_DISCARD, 0, 1, 0), UNSUPP);
	assert_int_equal(transfer(disk, T_IN, 0, 512), OK);
	assert_file(disk, 0, 0, 512);
	disk_free(disk);
}

/* ---- the file changes ---------------------------------------------------- */

static void
a_resize_is_told(void **state)
{
	struct disk *disk = ready();
	struct virtio_driver *d = &disk->d;
	uint8_t generation = (uint8_t)virtio_driver_get(d, VC_GENERATION, 1);

	d->b->msi_count = 0;
	assert_int_equal(ftruncate(disk->fd, (off_t)SECTORS * 1024), 0);
	while (bench_read(d->b, d->device, 4) == SECTORS)
		loop_run_once(d->b->loop, 10);
	assert_int_equal(bench_read(d->b, d->device, 4), SECTORS * 2);
	assert_int_not_equal(virtio_driver_get(d, VC_GENERATION, 1),
	    generation);
	assert_int_equal(d->b->msi_count, 1);
	assert_int_equal(d->b->msi[0].data, VIRTIO_MSI_DATA(0));
	assert_int_equal(transfer(disk, T_OUT, SECTORS, 512), OK);
	disk_free(disk);
}

/* Before anybody noticed: what was the end is beyond it. */
static void
a_file_that_shrinks_is_an_error_at_most(void **state)
{
	struct disk *disk = ready();

	assert_int_equal(ftruncate(disk->fd, 512), 0);
	assert_in_range(transfer(disk, T_IN, SECTORS - 8, 4096), OK, IOERR);
	assert_int_equal(transfer(disk, T_IN, 0, 512), OK);
	disk_free(disk);
}

/* ---- life ---------------------------------------------------------------- */

static void
state_makes_the_trip(void **state)
{
	/* Both machines open the file. */
	struct disk *disk = disk_new("lock=false", NULL);

	round_trip(disk);
	virtio_driver_init(&disk->d, disk->d.b, ALL);
	round_trip(disk);
	assert_int_equal(transfer(disk, T_OUT, 0, 512), OK);
	round_trip(disk);
	disk_free(disk);
}

static void
offer_reads(struct disk *disk, unsigned n)
{
	const struct virtio_part parts[] = {
		{ HEADER, 16, false },
		{ DATA, 65536, true },
		{ STATUS, 1, true },
	};

	header(disk, T_IN, 0);
	for (unsigned i = 0; i < n; i++)
		virtio_driver_offer(&disk->d, 0, parts, 3);
	virtio_driver_kick(&disk->d, 0);
}

static void
reset_waits_for_what_is_in_flight(void **state)
{
	struct disk *disk = ready();

	for (unsigned i = 0; i < 50; i++) {
		offer_reads(disk, 40);
		virtio_driver_set_status(&disk->d, 0);
		/* From here on nothing may write to memory. */
		fill(disk, DATA, 0xcc, 65536);
		virtio_driver_init(&disk->d, disk->d.b, ALL);
		assert_memory(disk, DATA, 0xcc, 4096);
	}
	assert_int_equal(transfer(disk, T_IN, 0, 512), OK);
	disk_free(disk);
}

static void
pause_waits_too(void **state)
{
	struct disk *disk = ready();

	offer_reads(disk, 40);
	pause_disk(disk, true);
	for (unsigned i = 0; i < 40; i++)
		assert_true(virtio_driver_used(&disk->d, 0, NULL, NULL));
	offer_reads(disk, 1);
	assert_false(virtio_driver_used(&disk->d, 0, NULL, NULL));
	pause_disk(disk, false);
	virtio_driver_wait(&disk->d, 0, NULL, NULL);
	disk_free(disk);
}

static void
a_disk_goes_with_requests_in_flight(void **state)
{
	struct disk *disk = ready();

	offer_reads(disk, 40);
	disk_free(disk);
}

static void
errors_of_the_host_are_told(void **state)
{
	struct block_rig *rig;
	struct disk *disk = ready_rig(&rig);

	for (int mode = BLOCK_RIG_NOW; mode <= BLOCK_RIG_THREAD; mode++) {
		rig->mode = (enum block_rig_mode)mode;
		rig->fail[BLOCK_READ] = -EIO;
		rig->fail[BLOCK_WRITE] = -ENOSPC;
		rig->fail[BLOCK_FLUSH] = -EIO;
		rig->fail[BLOCK_DISCARD] = -EOPNOTSUPP;
		rig->fail[BLOCK_WRITE_ZEROES] = -ENOSPC;
		assert_int_equal(transfer(disk, T_IN, 0, 512), IOERR);
		assert_int_equal(transfer(disk, T_OUT, 0, 512), IOERR);
		assert_int_equal(request(disk, T_FLUSH, 0, NULL, 0), IOERR);
		assert_int_equal(erase(disk, T_DISCARD, 0, 1, 0), IOERR);
		assert_int_equal(erase(disk, T_WRITE_ZEROES, 0, 1, 0), IOERR);
		pause_disk(disk, true); /* and the thread is at rest */
		memset(rig->fail, 0, sizeof(rig->fail));
		pause_disk(disk, false);
		assert_int_equal(transfer(disk, T_IN, 0, 512), OK);
		pause_disk(disk, true);
		pause_disk(disk, false);
	}
	assert_int_equal(virtio_driver_status(&disk->d), 0x0f);
	rig_free(disk, rig);
}

static void
the_back_end_hears_what_is_meant(void **state)
{
	struct block_rig *rig;
	struct disk *disk = ready_rig(&rig);
	struct virtio_driver *d = &disk->d;

	rig->mode = BLOCK_RIG_NOW;
	assert_int_equal(transfer(disk, T_OUT, 4, 1024), OK);
	assert_false(rig->last[BLOCK_WRITE].fua);
	assert_true(rig->last[BLOCK_WRITE].offset == 4 * 512);
	assert_true(rig->last[BLOCK_WRITE].len == 1024);
	assert_int_equal(erase(disk, T_WRITE_ZEROES, 8, 16, 1), OK);
	assert_true(rig->last[BLOCK_WRITE_ZEROES].unmap);
	assert_int_equal(erase(disk, T_WRITE_ZEROES, 8, 16, 0), OK);
	assert_false(rig->last[BLOCK_WRITE_ZEROES].unmap);
	assert_true(rig->last[BLOCK_WRITE_ZEROES].offset == 8 * 512);
	assert_int_equal(erase(disk, T_DISCARD, 8, 32768 / 8, 0), OK);
	assert_true(rig->last[BLOCK_DISCARD].len == 32768 / 8 * 512);
	assert_int_equal(request(disk, T_FLUSH, 0, NULL, 0), OK);
	assert_int_equal(rig->count[BLOCK_FLUSH], 1);
	/* Without a cache, and for a driver that cannot flush. */
	bench_write(d->b, d->device + 32, 1, 0);
	assert_int_equal(transfer(disk, T_OUT, 4, 512), OK);
	assert_true(rig->last[BLOCK_WRITE].fua);
	assert_int_equal(erase(disk, T_WRITE_ZEROES, 8, 16, 0), OK);
	assert_true(rig->last[BLOCK_WRITE_ZEROES].fua);
	virtio_driver_init(d, d->b, 0);
	assert_int_equal(transfer(disk, T_OUT, 4, 512), OK);
	assert_true(rig->last[BLOCK_WRITE].fua);
	virtio_driver_init(d, d->b, ALL);
	assert_int_equal(transfer(disk, T_OUT, 4, 512), OK);
	assert_false(rig->last[BLOCK_WRITE].fua);
	assert_int_equal(rig->plugs, 0);
	rig_free(disk, rig);
}

static void
one_interrupt_for_what_is_at_hand(void **state)
{
	struct block_rig *rig;
	struct disk *disk = ready_rig(&rig);

	rig->mode = BLOCK_RIG_NOW;
	disk->d.b->msi_count = 0;
	offer_reads(disk, 40);
	assert_int_equal(disk->d.b->msi_count, 1);
	for (unsigned i = 0; i < 40; i++)
		assert_true(virtio_driver_used(&disk->d, 0, NULL, NULL));
	rig_free(disk, rig);
}

static void
requests_finish_in_any_order(void **state)
{
	struct block_rig *rig;
	struct disk *disk = ready_rig(&rig);
	uint32_t id;

	rig->mode = BLOCK_RIG_HELD;
	offer_reads(disk, 3);
	assert_int_equal(block_rig_held(rig), 3);
	assert_false(virtio_driver_used(&disk->d, 0, NULL, NULL));
	for (unsigned i = 3; i-- > 0;) { /* the youngest first */
		block_rig_release(rig, 1);
		assert_true(virtio_driver_used(&disk->d, 0, &id, NULL));
		assert_int_equal(id, i * 3);
	}
	rig_free(disk, rig);
}

static void
what_is_held_ends_with_a_reset(void **state)
{
	struct block_rig *rig;
	struct disk *disk = ready_rig(&rig);

	rig->mode = BLOCK_RIG_HELD;
	offer_reads(disk, 42);
	assert_int_equal(block_rig_held(rig), 42);
	virtio_driver_set_status(&disk->d, 0);
	assert_int_equal(block_rig_held(rig), 0);
	fill(disk, DATA, 0xcc, 512);
	virtio_driver_init(&disk->d, disk->d.b, ALL);
	/* And all requests are there again. */
	for (unsigned i = 0; i < 3; i++) {
		offer_reads(disk, 42);
		assert_int_equal(block_rig_held(rig), 42);
		block_rig_release(rig, 42);
		for (unsigned j = 0; j < 42; j++)
			assert_true(
			    virtio_driver_used(&disk->d, 0, NULL, NULL));
	}
	rig_free(disk, rig);
}

/* A driver that offers slots again that it did not get back. */
static void
no_more_in_flight_than_slots(void **state)
{
	struct block_rig *rig;
	struct disk *disk = ready_rig(&rig);

	rig->mode = BLOCK_RIG_HELD;
	for (unsigned i = 0; i < 4; i++)
		offer_reads(disk, 42);
	assert_int_equal(virtio_driver_status(&disk->d),
	    0x0f | VIRTIO_STATUS_NEEDS_RESET);
	assert_in_range(block_rig_held(rig), 1, 128);
	virtio_driver_init(&disk->d, disk->d.b, ALL);
	rig->mode = BLOCK_RIG_NOW;
	assert_int_equal(transfer(disk, T_IN, 0, 512), OK);
	rig_free(disk, rig);
}

static void
it_shrinks_under_a_request(void **state)
{
	struct block_rig *rig;
	struct disk *disk = ready_rig(&rig);
	struct virtio_driver *d = &disk->d;

	rig->mode = BLOCK_RIG_HELD;
	offer_reads(disk, 1);
	block_rig_resize(rig, 4096);
	assert_int_equal(bench_read(d->b, d->device, 4), 8);
	block_rig_release(rig, 1);
	virtio_driver_wait(d, 0, NULL, NULL);
	rig->mode = BLOCK_RIG_NOW;
	assert_int_equal(transfer(disk, T_IN, 8, 512), IOERR);
	assert_int_equal(transfer(disk, T_IN, 7, 512), OK);
	rig_free(disk, rig);
}

struct rewriter {
	struct mem *mem;
	struct bus *bus;
	gpa_t notify;
	_Atomic bool stop;
};

/* Another processor rewrites headers and descriptors, and kicks. */
static void *
rewrite(void *arg)
{
	struct rewriter *r = arg;
	gpa_t words[] = { virtio_driver_desc(0) + 24,
		virtio_driver_desc(0) + 16 };
	uint64_t values[] = { 0x0002000300001000, 0x0002000300000200,
		0x00020003ffffffff, DATA, UINT64_MAX, 0xfee00000 };
	unsigned n = 0;

	while (!atomic_load_explicit(&r->stop, memory_order_relaxed)) {
		uint64_t *word = mem_ptr_write(r->mem, words[n % 2], 8);

		__atomic_store_n(word, htole64(values[n % 6]),
		    __ATOMIC_RELAXED);
		bus_write(r->bus, r->notify, 2, 0);
		n++;
	}
	return NULL;
}

static void
descriptors_change_under_way(void **state)
{
	struct disk *disk = ready();
	struct rewriter r = {
		.mem = vm_mem(disk->d.b->vm),
		.bus = vm_mmio(disk->d.b->vm),
		.notify = disk->d.notify,
	};
	const struct virtio_part parts[] = {
		{ HEADER, 16, false },
		{ DATA, 512, true },
		{ STATUS, 1, true },
	};
	pthread_t thread;

	header(disk, T_IN, 0);
	assert_int_equal(pthread_create(&thread, NULL, rewrite, &r), 0);
	for (unsigned i = 0; i < 300; i++) {
		disk->d.queues[0].slot = 0;
		virtio_driver_offer(&disk->d, 0, parts, 3);
		virtio_driver_kick(&disk->d, 0);
		if (virtio_driver_status(&disk->d) != 0x0f || i % 32 == 31)
			virtio_driver_init(&disk->d, disk->d.b, ALL);
	}
	atomic_store(&r.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	virtio_driver_init(&disk->d, disk->d.b, ALL);
	assert_int_equal(transfer(disk, T_IN, 0, 512), OK);
	disk_free(disk);
}

static void
wrong_options_are_refused(void **state)
{
	static const char *const wrong[][2] = {
		{ "ser", "ABCDEFGHIJKLMNOPQRSTU" },
		{ "queues", "0" },
		{ "queues", "17" },
		{ "colour", "red" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct disk *disk = disk_new("lock=false", NULL);
		struct config *node;
		struct err err = { "" };

		assert_int_equal(config_make(disk->d.b->config, "pci.0.4.0",
				     &node, NULL),
		    0);
		assert_int_equal(config_set(node, "path", disk->path, NULL), 0);
		assert_int_equal(config_set(node, "lock", "false", NULL), 0);
		assert_int_equal(config_set(node, wrong[i][0], wrong[i][1],
				     NULL),
		    0);
		assert_true(device_new(disk->d.b->vm, "virtio-blk", "other",
				node, NULL, &err) < 0);
		assert_true(err.msg[0] != '\0');
		disk_free(disk);
	}
}

static void
any_access_is_survived(void **state)
{
	struct disk *disk = disk_new("lock=false", "queues=2");
	struct bench_range ranges[3];

	virtio_driver_init(&disk->d, disk->d.b, ALL);
	ranges[0] = (struct bench_range) { BUS_MMIO, disk->d.common, 0x4000 };
	ranges[1] = (struct bench_range) { BUS_PORT, disk->d.ports, 128 };
	ranges[2] = (struct bench_range) { BUS_MMIO, disk->d.device, 64 };
	bench_hammer(disk->d.b, ranges, 3, 5000, 2);
	disk_free(disk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read),
		cmocka_unit_test(layout_is_free),
		cmocka_unit_test(the_serial_number),
		cmocka_unit_test(zeroes_and_discards),
		cmocka_unit_test(configuration_tells),
		cmocka_unit_test(queues_work_beside_each_other),
		cmocka_unit_test(a_full_ring_at_once),
		cmocka_unit_test(the_cache_can_be_turned_off),
		cmocka_unit_test(requests_stay_on_the_disk),
		cmocka_unit_test(unknown_types_are_unsupported),
		cmocka_unit_test(ranges_are_checked),
		cmocka_unit_test(requests_have_a_header_and_a_status),
		cmocka_unit_test(a_read_only_disk_is_not_written),
		cmocka_unit_test(a_resize_is_told),
		cmocka_unit_test(a_file_that_shrinks_is_an_error_at_most),
		cmocka_unit_test(state_makes_the_trip),
		cmocka_unit_test(reset_waits_for_what_is_in_flight),
		cmocka_unit_test(pause_waits_too),
		cmocka_unit_test(a_disk_goes_with_requests_in_flight),
		cmocka_unit_test(descriptors_change_under_way),
		cmocka_unit_test(errors_of_the_host_are_told),
		cmocka_unit_test(the_back_end_hears_what_is_meant),
		cmocka_unit_test(one_interrupt_for_what_is_at_hand),
		cmocka_unit_test(requests_finish_in_any_order),
		cmocka_unit_test(what_is_held_ends_with_a_reset),
		cmocka_unit_test(no_more_in_flight_than_slots),
		cmocka_unit_test(it_shrinks_under_a_request),
		cmocka_unit_test(wrong_options_are_refused),
		cmocka_unit_test(any_access_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
