/*
 * A builder for AML, the byte code of ACPI's Differentiated System
 * Description Table (ACPI specification 6.4, chapter 20).
 *
 * A term is written in the order of its encoding: the operator, then each
 * operand, an operand being a term itself.  `Local0 = Arg0 & 15` is
 *
 *      aml_op(aml, AML_AND), aml_op(aml, AML_ARG0), aml_int(aml, 15),
 *          aml_op(aml, AML_LOCAL0);
 *
 * Whatever has a length is opened by a call of its own and closed by
 * aml_end(); lengths are filled in there.  The caller knows ASL: nothing here
 * counts operands.
 */
#ifndef FIRMWARE_ACPI_AML_H
#define FIRMWARE_ACPI_AML_H

#include "base/buf.h"

/* Operators and objects that need no more than their name. */
enum aml_opcode {
	AML_ZERO = 0x00,
	AML_LOCAL0 = 0x60,
	AML_ARG0 = 0x68,
	AML_STORE = 0x70,              /* source, target */
	AML_SUBTRACT = 0x74,           /* a, b, target */
	AML_SHIFT_LEFT = 0x79,         /* a, count, target */
	AML_AND = 0x7b,                /* a, b, target */
	AML_OR = 0x7d,                 /* a, b, target */
	AML_FIND_SET_RIGHT_BIT = 0x82, /* a, target */
	AML_CREATE_WORD_FIELD = 0x8b,  /* buffer, index, path of the field */
	AML_LNOT = 0x92,               /* a */
	AML_RETURN = 0xa4,             /* value */
};

/* No target: the result is only the value of the term. */
#define AML_NO_TARGET AML_ZERO

#define AML_DEPTH_MAX 8

/* Zero it before use; release it with aml_fini(). */
struct aml {
	struct buf out; /* the code so far; complete while depth is 0 */
	unsigned depth;
	struct aml_open {
		size_t start;  /* where the length goes */
		bool template; /* a resource template, with a buffer size */
	} open[AML_DEPTH_MAX];
};

void aml_fini(struct aml *aml);

/*
 * Terms.  A path is as in ASL, "\\_SB.PC00"; short words are padded with '_'.
 * A call of a method is its path, then the arguments.  Integers take their
 * shortest form.
 */
void aml_op(struct aml *aml, enum aml_opcode opcode);
void aml_path(struct aml *aml, const char *path);
void aml_int(struct aml *aml, uint64_t value);
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0A03" */

/* Name (word, value): the value is the term that follows, or given here. */
void aml_name(struct aml *aml, const char *word);
void aml_name_int(struct aml *aml, const char *word, uint64_t value);
void aml_name_eisa_id(struct aml *aml, const char *word, const char *id);
/* CreateWordField (buffer, index, word). */
void aml_create_word_field(struct aml *aml, const char *buffer, uint64_t index,
    const char *word);

/* What holds others, each closed by aml_end(). */
void aml_scope(struct aml *aml, const char *path);
void aml_device(struct aml *aml, const char *word);
enum aml_serialize { AML_NOT_SERIALIZED, AML_SERIALIZED };
void aml_method(struct aml *aml, const char *word, unsigned args,
    enum aml_serialize serialize);
void aml_package(struct aml *aml, unsigned elements); /* at most 255 */
void aml_if(struct aml *aml); /* the condition is the first term inside */
void aml_end(struct aml *aml);

/* Operation regions and their fields. */
enum aml_space {
	AML_SYSTEM_MEMORY = 0,
	AML_SYSTEM_IO = 1,
	AML_PCI_CONFIG = 2,
};
void aml_region(struct aml *aml, const char *word, enum aml_space space,
    uint64_t offset, uint64_t len);
/* Field (region, ByteAcc, NoLock, Preserve), closed by aml_end(). */
void aml_byte_field(struct aml *aml, const char *region);
void aml_field_skip(struct aml *aml, unsigned bits);
void aml_field_unit(struct aml *aml, const char *word, unsigned bits);

/*
 * Resource templates (chapter 6.4).  aml_resources() opens a buffer that takes
 * only the descriptors below; aml_end() adds the end tag and the sizes.
 */
void aml_resources(struct aml *aml);
void aml_io(struct aml *aml, uint16_t base, uint8_t len); /* Decode16, fixed */
void aml_irq_edge(struct aml *aml, uint16_t mask);        /* IRQNoFlags */
void aml_irq_level(struct aml *aml, uint16_t mask); /* level, low, shared */
void aml_memory32_fixed(struct aml *aml, bool writable, uint32_t base,
    uint32_t len);
/*
 * A range that a bridge passes on: Producer, MinFixed, MaxFixed, PosDecode.
 * width is 2, 4 or 8 bytes; len at least 1.
 */
enum aml_window { AML_MEMORY, AML_MEMORY_CACHEABLE, AML_IO, AML_BUS_NUMBER };
void aml_bridge_window(struct aml *aml, enum aml_window kind, unsigned width,
    uint64_t base, uint64_t len);

#endif
