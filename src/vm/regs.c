/*
 * Registers by table: the bus handlers behind device_map_ports() and
 * device_map_mmio().
 *
 * An access may cover a part of a register or several of them.  Each that it
 * touches takes or gives just the bytes touched; bytes between registers read
 * as ones.  A device's changed() runs once, after all of them.
 */
#include "base/alloc.h"
#include "vm/vm_impl.h"

/* The bytes of reg that [off, off + size) touches, as a mask of its value. */
static uint64_t
reg_touched(const struct reg *reg, uint64_t off, unsigned size)
{
	uint64_t mask = 0;

	for (unsigned i = 0; i < reg->size; i++) {
		if (reg->offset + i >= off && reg->offset + i < off + size)
			mask |= 0xffULL << (i * 8);
	}
	return mask;
}

/* Move a value between a register's own bytes and those of the access. */
static uint64_t
reg_shift(uint64_t value, int64_t bytes)
{
	if (bytes >= 8 || bytes <= -8)
		return 0;
	return bytes >= 0 ? value << (bytes * 8) : value >> (-bytes * 8);
}

static uint64_t
regs_read(void *arg, uint64_t off, unsigned size)
{
	const struct reg_map *map = arg;
	uint64_t result = size_mask(size);

	for (size_t i = 0; i < map->count; i++) {
		const struct reg *reg = &map->regs[i];
		uint64_t touched = reg_touched(reg, off, size), value;
		int64_t shift = (int64_t)reg->offset - (int64_t)off;

		if (touched == 0)
			continue;
		value = reg->read != NULL ?
		    reg->read(map->dev->self, reg) :
		    int_load(field_at(map->dev->self, reg->field), reg->size);
		result &= ~reg_shift(touched, shift);
		result |= reg_shift(value & touched, shift);
	}
	return result;
}

static void
regs_write(void *arg, uint64_t off, unsigned size, uint64_t data)
{
	const struct reg_map *map = arg;
	struct device *dev = map->dev;
	bool hit = false;

	for (size_t i = 0; i < map->count; i++) {
		const struct reg *reg = &map->regs[i];
		uint64_t touched = reg_touched(reg, off, size), mask, value;
		void *field = field_at(dev->self, reg->field);

		if (touched == 0)
			continue;
		value = reg_shift(data, (int64_t)off - (int64_t)reg->offset) &
		    touched;
		mask = reg->writable & touched;
		int_store(field, reg->size,
		    ((int_load(field, reg->size) & ~mask) | (value & mask)) &
			~(value & reg->clear));
		if (reg->wrote != NULL)
			reg->wrote(dev->self, reg, value);
		hit = true;
	}
	if (hit && dev->model->changed != NULL)
		dev->model->changed(dev->self);
}

const struct io_ops regs_ops = {
	.read = regs_read,
	.write = regs_write,
	.odd = IO_SPLIT,
};
