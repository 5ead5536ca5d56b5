/*
 * The AML builder against the grammar of the specification, byte by byte, and
 * against what iasl makes of the same source.
 */
#include "firmware/acpi/aml.h"
#include "firmware/tool_test.h"

#define HEADER_LEN 36

static void
assert_code(struct aml *aml, const void *code, size_t len)
{
	assert_int_equal(aml->depth, 0);
	assert_int_equal(aml->out.len, len);
	assert_memory_equal(aml->out.data, code, len);
	aml_fini(aml);
	*aml = (struct aml) { 0 };
}

static void
integers_take_the_shortest_form(void **state)
{
	static const struct {
		uint64_t value;
		const char *code;
		size_t len;
	} cases[] = {
		{ 0, "\x00", 1 },
		{ 1, "\x01", 1 },
		{ 2, "\x0a\x02", 2 },
		{ 0xff, "\x0a\xff", 2 },
		{ 0x100, "\x0b\x00\x01", 3 },
		{ 0xffff, "\x0b\xff\xff", 3 },
		{ 0x10000, "\x0c\x00\x00\x01\x00", 5 },
		{ 0xffffffff, "\x0c\xff\xff\xff\xff", 5 },
		{ 0x100000000, "\x0e\0\0\0\0\x01\0\0\0", 9 },
		{ UINT64_MAX - 1, "\x0e\xfe\xff\xff\xff\xff\xff\xff\xff", 9 },
		{ UINT64_MAX, "\xff", 1 },
	};
	struct aml aml = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		aml_int(&aml, cases[i].value);
		assert_code(&aml, cases[i].code, cases[i].len);
	}
}

static void
paths_count_their_words(void **state)
{
	static const struct {
		const char *path;
		const char *code;
		size_t len;
	} cases[] = {
		{ "A", "A___", 4 },
		{ "ABCD", "ABCD", 4 },
		{ "\\", "\\\0", 2 },
		{ "\\_SB", "\\_SB_", 5 },
		{ "^^X", "^^X___", 6 },
		{ "PC00.ISA", "\x2ePC00ISA_", 9 },
		{ "\\_SB.PC00.ISA.LNKA", "\\\x2f\x04_SB_PC00ISA_LNKA", 19 },
	};
	struct aml aml = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		aml_path(&aml, cases[i].path);
		assert_code(&aml, cases[i].code, cases[i].len);
	}
}

static void
eisa_ids_are_compressed(void **state)
{
	struct aml aml = { 0 };

	aml_eisa_id(&aml, "PNP0A03");
	assert_code(&aml, "\x0c\x41\xd0\x0a\x03", 5);
	aml_eisa_id(&aml, "PNP0C0F");
	assert_code(&aml, "\x0c\x41\xd0\x0c\x0f", 5);
}

/* Around each step in size: content, own bytes, and the bytes themselves. */
static void
lengths_count_their_own_bytes(void **state)
{
	static const struct {
		size_t zeros; /* after the path of the scope, which has 4 */
		const char *length;
		size_t len;
	} cases[] = {
		{ 0, "\x05", 1 },
		{ 58, "\x3f", 1 },
		{ 59, "\x41\x04", 2 },
		{ 0xfff - 6, "\x4f\xff", 2 },
		{ 0xfff - 5, "\x81\x00\x01", 3 },
		{ 0xfffff - 7, "\x8f\xff\xff", 3 },
		{ 0xfffff - 6, "\xc1\x00\x00\x01", 4 },
	};
	struct aml aml = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		aml_scope(&aml, "ABCD");
		for (size_t n = 0; n < cases[i].zeros; n++)
			aml_int(&aml, 0);
		aml_end(&aml);
		assert_int_equal(aml.out.len,
		    1 + cases[i].len + 4 + cases[i].zeros);
		assert_memory_equal(aml.out.data + 1, cases[i].length,
		    cases[i].len);
		assert_memory_equal(aml.out.data + 1 + cases[i].len, "ABCD", 4);
		aml_fini(&aml);
		aml = (struct aml) { 0 };
	}
}

/* An inner length that grows moves what is outside of it along. */
static void
lengths_nest(void **state)
{
	struct aml aml = { 0 };
	const uint8_t *code;

	aml_device(&aml, "OUTR");
	aml_scope(&aml, "INNR");
	for (unsigned i = 0; i < 0x1000; i++)
		aml_int(&aml, 0);
	aml_end(&aml);
	aml_name_int(&aml, "LAST", 1);
	aml_end(&aml);

	/* Inner: 3 + 4 + 0x1000 after its operator; outer: 3 + 4 + that + 7. */
	assert_int_equal(aml.out.len, 2 + 3 + 4 + 1 + 0x1007 + 6);
	code = aml.out.data;
	assert_memory_equal(code,
	    "\x5b\x82\x85\x01\x01OUTR\x10\x87\x00\x01INNR", 17);
	assert_memory_equal(code + aml.out.len - 6, "\x08LAST\x01", 6);
	aml_fini(&aml);
}

static void
templates_get_size_and_end_tag(void **state)
{
	struct aml aml = { 0 };

	aml_resources(&aml);
	aml_io(&aml, 0x3f8, 8);
	aml_irq_edge(&aml, 0x0010);
	aml_end(&aml);
	assert_code(&aml,
	    "\x11\x10\x0a\x0d"
	    "\x47\x01\xf8\x03\xf8\x03\x01\x08"
	    "\x22\x10\x00"
	    "\x79\x00",
	    17);
}

static void
regions_have_bytewise_fields(void **state)
{
	struct aml aml = { 0 };

	aml_region(&aml, "LPCR", AML_PCI_CONFIG, 0, 0x100);
	aml_byte_field(&aml, "LPCR");
	aml_field_skip(&aml, 0x60 * 8);
	aml_field_unit(&aml, "PIRA", 8);
	aml_end(&aml);
	assert_code(&aml,
	    "\x5b\x80LPCR\x02\x00\x0b\x00\x01"
	    "\x5b\x81\x0eLPCR\x01\x00\x40\x30PIRA\x08",
	    27);
}

/* Every construct the builder knows, as source and as calls. */
static const char source[] =
    "DefinitionBlock (\"\", \"SSDT\", 2, \"APIARY\", \"TEST\", 1) {\n"
    "  External (\\EXT, MethodObj)\n"
    "  Scope (\\_SB) {\n"
    "    Device (DEV) {\n"
    "      Name (_HID, EisaId (\"PNP0C0F\"))\n"
    "      Name (BIG, 0x123456789a)\n"
    "      Name (PKG, Package (3) { 5, Package (1) { ^DEV }, Ones })\n"
    "      Name (_CRS, ResourceTemplate () {\n"
    "        WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,\n"
    "          0, 3, 3, 0, 1)\n"
    "        WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode,\n"
    "          EntireRange, 0, 0xd00, 0xffff, 0, 0xf300)\n"
    "        DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,\n"
    "          NonCacheable, ReadWrite,\n"
    "          0, 0xc0000000, 0xdfffffff, 0, 0x20000000)\n"
    "        QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,\n"
    "          Cacheable, ReadWrite,\n"
    "          0, 0x800000000, 0xfffffffff, 0, 0x800000000)\n"
    "        IO (Decode16, 0x60, 0x60, 1, 1)\n"
    "        IRQ (Level, ActiveLow, Shared) { 3, 15 }\n"
    "        IRQNoFlags () { 4 }\n"
    "        Memory32Fixed (ReadOnly, 0xfed00000, 0x400)\n"
    "        Memory32Fixed (ReadWrite, 0xe0000000, 0x10000000)\n"
    "      })\n"
    "      OperationRegion (REGN, SystemIO, 0xb2, 2)\n"
    "      Field (REGN, ByteAcc, NoLock, Preserve) {\n"
    "        CMND, 4, Offset (1), DATA, 8 }\n"
    "      Method (CALL, 2, Serialized) {\n"
    "        CreateWordField (Arg0, One, WORD)\n"
    "        If (!(WORD & 0x80)) { Return (\\EXT (WORD)) }\n"
    "        Local0 = One << WORD\n"
    "        FindSetRightBit (Local0, Local0)\n"
    "        DATA |= 0x80\n"
    "        WORD = CMND\n"
    "        Return (Local0 - One)\n"
    "      }\n"
    "    }\n"
    "  }\n"
    "}\n";

static void
built_resources(struct aml *aml)
{
	aml_name(aml, "_CRS");
	aml_resources(aml);
	aml_bridge_window(aml, AML_BUS_NUMBER, 2, 3, 1);
	aml_bridge_window(aml, AML_IO, 2, 0xd00, 0xf300);
	aml_bridge_window(aml, AML_MEMORY, 4, 0xc0000000, 0x20000000);
	aml_bridge_window(aml, AML_MEMORY_CACHEABLE, 8, 0x800000000,
	    0x800000000);
	aml_io(aml, 0x60, 1);
	aml_irq_level(aml, 0x8008);
	aml_irq_edge(aml, 0x0010);
	aml_memory32_fixed(aml, false, 0xfed00000, 0x400);
	aml_memory32_fixed(aml, true, 0xe0000000, 0x10000000);
	aml_end(aml);
}

static void
built_method(struct aml *aml)
{
	aml_method(aml, "CALL", 2, AML_SERIALIZED);
	aml_op(aml, AML_CREATE_WORD_FIELD);
	aml_op(aml, AML_ARG0);
	aml_int(aml, 1);
	aml_path(aml, "WORD");
	aml_if(aml);
	aml_op(aml, AML_LNOT);
	aml_op(aml, AML_AND);
	aml_path(aml, "WORD");
	aml_int(aml, 0x80);
	aml_op(aml, AML_NO_TARGET);
	aml_op(aml, AML_RETURN);
	aml_path(aml, "\\EXT");
	aml_path(aml, "WORD");
	aml_end(aml);
	aml_op(aml, AML_SHIFT_LEFT);
	aml_int(aml, 1);
	aml_path(aml, "WORD");
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_FIND_SET_RIGHT_BIT);
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_LOCAL0);
	aml_op(aml, AML_OR);
	aml_path(aml, "DATA");
	aml_int(aml, 0x80);
	aml_path(aml, "DATA");
	aml_op(aml, AML_STORE);
	aml_path(aml, "CMND");
	aml_path(aml, "WORD");
	aml_op(aml, AML_RETURN);
	aml_op(aml, AML_SUBTRACT);
	aml_op(aml, AML_LOCAL0);
	aml_int(aml, 1);
	aml_op(aml, AML_NO_TARGET);
	aml_end(aml);
}

static void
built_table(struct aml *aml)
{
	aml_scope(aml, "\\_SB");
	aml_device(aml, "DEV");
	aml_name_eisa_id(aml, "_HID", "PNP0C0F");
	aml_name_int(aml, "BIG", 0x123456789a);
	aml_name(aml, "PKG");
	aml_package(aml, 3);
	aml_int(aml, 5);
	aml_package(aml, 1);
	aml_path(aml, "^DEV");
	aml_end(aml);
	aml_int(aml, UINT64_MAX);
	aml_end(aml);
	built_resources(aml);
	aml_region(aml, "REGN", AML_SYSTEM_IO, 0xb2, 2);
	aml_byte_field(aml, "REGN");
	aml_field_unit(aml, "CMND", 4);
	aml_field_skip(aml, 4);
	aml_field_unit(aml, "DATA", 8);
	aml_end(aml);
	built_method(aml);
	aml_end(aml);
	aml_end(aml);
}

static void
iasl_compiles_to_the_same(void **state)
{
	char *const argv[] = { "iasl", "-oa", "-oe", "-p", "test", "test.asl",
		NULL };
	struct aml aml = { 0 };
	size_t len;
	char *code;

	tool_write(*state, "test.asl", source, strlen(source));
	free(tool_run(*state, argv));
	code = tool_read(*state, "test.aml", &len);
	built_table(&aml);
	/* Behind the header, and the note of externals that iasl puts first. */
	assert_true(len >= HEADER_LEN + aml.out.len);
	assert_code(&aml, code + len - aml.out.len, aml.out.len);
	free(code);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_take_the_shortest_form),
		cmocka_unit_test(paths_count_their_words),
		cmocka_unit_test(eisa_ids_are_compressed),
		cmocka_unit_test(lengths_count_their_own_bytes),
		cmocka_unit_test(lengths_nest),
		cmocka_unit_test(templates_get_size_and_end_tag),
		cmocka_unit_test(regions_have_bytewise_fields),
		cmocka_unit_test_setup_teardown(iasl_compiles_to_the_same,
		    tool_setup, tool_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
