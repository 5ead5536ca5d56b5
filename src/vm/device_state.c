/*
 * Device state by description: reset, save and load.
 *
 * A device's fields are those of the register tables it mapped, in the order
 * of mapping, then those of its model's state table.  device_fields() walks
 * them for all three, so that they cannot disagree.
 *
 * A record is: model name, device name, u16 version, u32 length, fields.  An
 * integer takes its size, a bool one byte, a timer nine: armed, deadline.
 *
 * Loading works on a copy of the state: every field is read and checked, then
 * the model's check() looks at the copy, then the fields move over.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"
#include "vm/vm_impl.h"

uint64_t
int_load(const void *p, unsigned size)
{
	switch (size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		assert(size == 8);
		return *(const uint64_t *)p;
	}
}

void
int_store(void *p, unsigned size, uint64_t value)
{
	switch (size) {
	case 1:
		*(uint8_t *)p = (uint8_t)value;
		break;
	case 2:
		*(uint16_t *)p = (uint16_t)value;
		break;
	case 4:
		*(uint32_t *)p = (uint32_t)value;
		break;
	default:
		assert(size == 8);
		*(uint64_t *)p = value;
		break;
	}
}

/* A register as a field.  Its unwritable bits are checked apart. */
static struct field
reg_field(const struct reg *reg)
{
	return (struct field) {
		.kind = FIELD_INT,
		.size = reg->size,
		.count = 1,
		.offset = reg->field,
		.reset = reg->reset,
		.max = UINT64_MAX,
		.name = "register",
	};
}

/* Call fn for every field; stops at the first that is not 0. */
static int
device_fields(struct device *dev,
    int (*fn)(struct device *dev, const struct field *field,
	const struct reg *reg, void *arg),
    void *arg)
{
	struct field field;
	int error;

	for (struct reg_map *map = dev->maps; map != NULL; map = map->next) {
		for (size_t i = 0; i < map->count; i++) {
			field = reg_field(&map->regs[i]);
			error = fn(dev, &field, &map->regs[i], arg);
			if (error != 0)
				return error;
		}
	}
	for (size_t i = 0; i < dev->model->state_count; i++) {
		error = fn(dev, &dev->model->state[i], NULL, arg);
		if (error != 0)
			return error;
	}
	return 0;
}

static int
field_reset(struct device *dev, const struct field *field,
    const struct reg *reg, void *arg)
{
	uint8_t *p = field_at(dev->self, field->offset);

	switch (field->kind) {
	case FIELD_INT:
		for (uint32_t i = 0; i < field->count; i++)
			int_store(p + i * field->size, field->size,
			    field->reset);
		break;
	case FIELD_BOOL:
		for (uint32_t i = 0; i < field->count; i++)
			((bool *)p)[i] = field->reset != 0;
		break;
	case FIELD_TIMER:
		clock_timer_disarm((struct clock_timer *)(void *)p);
		break;
	}
	return 0;
}

void
device_reset(struct device *dev)
{
	lock_take(&dev->lock);
	(void)device_fields(dev, field_reset, NULL); /* never fails */
	if (dev->model->reset != NULL)
		dev->model->reset(dev->self);
	if (dev->model->changed != NULL)
		dev->model->changed(dev->self);
	lock_drop(&dev->lock);
}

static int
field_save(struct device *dev, const struct field *field, const struct reg *reg,
    void *arg)
{
	const uint8_t *p = field_at(dev->self, field->offset);
	const struct clock_timer *timer;
	struct buf *out = arg;

	switch (field->kind) {
	case FIELD_INT:
		for (uint32_t i = 0; i < field->count; i++)
			buf_put_int(out,
			    int_load(p + i * field->size, field->size),
			    field->size);
		break;
	case FIELD_BOOL:
		for (uint32_t i = 0; i < field->count; i++)
			buf_put_int(out, ((const bool *)p)[i], 1);
		break;
	case FIELD_TIMER:
		timer = (const struct clock_timer *)(const void *)p;
		buf_put_int(out, timer->armed, 1);
		buf_put_int(out, timer->armed ? timer->deadline_ns : 0, 8);
		break;
	}
	return 0;
}

/* A load in progress: fields go to `copy`, a bytewise copy of the state. */
struct load {
	struct reader in;
	uint16_t version;
	uint8_t *copy;
	struct err *err;
};

static int
field_load(struct device *dev, const struct field *field, const struct reg *reg,
    void *arg)
{
	struct load *load = arg;
	uint8_t *p = field_at(load->copy, field->offset);
	struct clock_timer *timer;
	uint64_t value, fixed;

	if (field->since > load->version) {
		/* Unknown to that version: as after reset. */
		for (uint32_t i = 0; i < field->count; i++) {
			if (field->kind == FIELD_INT)
				int_store(p + i * field->size, field->size,
				    field->reset);
			else if (field->kind == FIELD_BOOL)
				((bool *)p)[i] = field->reset != 0;
			else
				((struct clock_timer *)(void *)p)->armed =
				    false;
		}
		return 0;
	}
	if (field->kind == FIELD_TIMER) {
		timer = (struct clock_timer *)(void *)p;
		value = reader_int(&load->in, 1);
		timer->deadline_ns = reader_int(&load->in, 8);
		if (value > 1)
			return err_set(load->err, -EINVAL,
			    "%s: timer %s is neither armed nor not", dev->name,
			    field->name);
		timer->armed = value != 0;
		return 0;
	}
	for (uint32_t i = 0; i < field->count; i++) {
		unsigned size = field->kind == FIELD_BOOL ? 1 : field->size;

		value = reader_int(&load->in, size);
		if (value > field->max)
			return err_set(load->err, -EINVAL,
			    "%s: %s is 0x%" PRIx64 ", more than 0x%" PRIx64,
			    dev->name, field->name, value, field->max);
		if (reg != NULL) {
			fixed = ~(reg->writable | reg->clear | reg->device) &
			    size_mask(size);
			if ((value & fixed) != (reg->reset & fixed))
				return err_set(load->err, -EINVAL,
				    "%s: register 0x%x cannot hold 0x%" PRIx64,
				    dev->name, reg->offset, value);
		}
		if (field->kind == FIELD_BOOL)
			((bool *)p)[i] = value != 0;
		else
			int_store(p + i * field->size, field->size, value);
	}
	return 0;
}

/* Move a checked field from the copy into the device. */
static int
field_commit(struct device *dev, const struct field *field,
    const struct reg *reg, void *arg)
{
	const struct load *load = arg;
	const uint8_t *from = load->copy + field->offset;
	uint8_t *to = field_at(dev->self, field->offset);
	const struct clock_timer *loaded;

	switch (field->kind) {
	case FIELD_INT:
		memcpy(to, from, (size_t)field->size * field->count);
		break;
	case FIELD_BOOL:
		memcpy(to, from, sizeof(bool) * field->count);
		break;
	case FIELD_TIMER:
		loaded = (const struct clock_timer *)(const void *)from;
		if (loaded->armed)
			clock_timer_arm((struct clock_timer *)(void *)to,
			    loaded->deadline_ns);
		else
			clock_timer_disarm((struct clock_timer *)(void *)to);
		break;
	}
	return 0;
}

void
device_save(struct device *dev, struct buf *out)
{
	struct buf fields = { 0 };

	lock_take(&dev->lock);
	(void)device_fields(dev, field_save, &fields); /* never fails */
	lock_drop(&dev->lock);
	buf_put_str(out, dev->model->name);
	buf_put_str(out, dev->name);
	buf_put_int(out, dev->model->state_version, 2);
	buf_put_int(out, fields.len, 4);
	buf_put(out, fields.data, fields.len);
	buf_fini(&fields);
}

int
device_load(struct device *dev, struct reader *in, struct err *err)
{
	struct load load = { .err = err };
	char model[64], name[64];
	const uint8_t *fields;
	size_t len;
	int error;

	reader_str(in, model, sizeof(model));
	reader_str(in, name, sizeof(name));
	load.version = (uint16_t)reader_int(in, 2);
	len = (size_t)reader_int(in, 4);
	fields = reader_take(in, len);
	if (fields == NULL)
		return err_set(err, -EINVAL, "%s: the saved state is cut short",
		    dev->name);
	if (strcmp(model, dev->model->name) != 0 ||
	    strcmp(name, dev->name) != 0)
		return err_set(err, -EINVAL,
		    "the saved state is of %s (%s) where %s (%s) is expected",
		    name, model, dev->name, dev->model->name);
	if (load.version == 0 || load.version > dev->model->state_version)
		return err_set(err, -EINVAL,
		    "%s: saved state version %u is not known, %u is the newest",
		    dev->name, load.version, dev->model->state_version);

	load.in = reader_make(fields, len);
	load.copy = xcalloc(1, dev->model->size);
	lock_take(&dev->lock);
	memcpy(load.copy, dev->self, dev->model->size);
	error = device_fields(dev, field_load, &load);
	if (error == 0 && (load.in.bad || reader_left(&load.in) != 0))
		error = err_set(err, -EINVAL,
		    "%s: the saved state has the wrong length", dev->name);
	if (error == 0 && dev->model->check != NULL)
		error = dev->model->check(load.copy, err);
	if (error == 0) {
		(void)device_fields(dev, field_commit, &load); /* never fails */
		if (dev->model->changed != NULL)
			dev->model->changed(dev->self);
	}
	lock_drop(&dev->lock);
	free(load.copy);
	return error;
}
