/*
 * What every file relies on: sentences, the log, buffers, numbers, names.
 */
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/md5.h"
#include "base/parse.h"
#include "base/uuid.h"
#include "base/wire.h"

/* ---- err ---------------------------------------------------------------- */

static void
sentences(void **state)
{
	struct err err;

	assert_int_equal(err_set(&err, -EINVAL, "%s: bad", "key"), -EINVAL);
	assert_string_equal(err.msg, "key: bad");
	assert_int_equal(err_prefix(&err, -EIO, "file %u", 3u), -EIO);
	assert_string_equal(err.msg, "file 3: key: bad");
	assert_int_equal(err_set_errno(&err, -ENOENT, "%s", "/x"), -ENOENT);
	assert_string_equal(err.msg, "/x: No such file or directory");
}

static void
nobody_wants_the_words(void **state)
{
	assert_int_equal(err_set(NULL, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_set_errno(NULL, -EINVAL, "x"), -EINVAL);
	assert_int_equal(err_prefix(NULL, -EINVAL, "x"), -EINVAL);
}

static void
long_sentences_are_cut(void **state)
{
	char text[2000];
	struct err err;

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	(void)err_set(&err, -EINVAL, "%s", text);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	(void)err_set_errno(&err, -EINVAL, "%s", text);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	(void)err_set(&err, -EINVAL, "why");
	(void)err_prefix(&err, -EINVAL, "%s", text);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
}

/* ---- log ---------------------------------------------------------------- */

static atomic_uint sink_lines;
static enum log_level sink_level;
static char sink_last[2048];

/* For tests of one thread: keeps the last line. */
static void
keep_line(enum log_level level, const char *line)
{
	sink_lines++;
	sink_level = level;
	(void)snprintf(sink_last, sizeof(sink_last), "%s", line);
}

static void
count_line(enum log_level level, const char *line)
{
	atomic_fetch_add(&sink_lines, 1);
}

static int
log_setup(void **state)
{
	sink_lines = 0;
	sink_last[0] = '\0';
	log_set_level(LOG_INFO);
	log_set_sink(keep_line);
	return 0;
}

static int
log_teardown(void **state)
{
	log_set_sink(NULL);
	log_set_level(LOG_WARN);
	return 0;
}

static void
levels(void **state)
{
	log_error("a%d", 1);
	assert_string_equal(sink_last, "a1");
	assert_int_equal(sink_level, LOG_ERROR);
	log_warn("b");
	assert_int_equal(sink_level, LOG_WARN);
	log_info("c");
	assert_int_equal(sink_level, LOG_INFO);
	assert_int_equal(sink_lines, 3);

	log_set_level(LOG_WARN);
	log_info("d");
	log_warn("e");
	assert_string_equal(sink_last, "e");
	log_set_level(LOG_ERROR);
	log_warn("f");
	assert_int_equal(sink_lines, 4);
}

static void
control_characters_are_escaped(void **state)
{
	struct log_limit limit = { 0 };

	log_guest(&limit, "com1: %s",
	    "\x1b[2J\r\n\x7f"
	    "end");
	assert_string_equal(sink_last, "com1: ?[2J???end");
}

static void
lines_have_a_limit(void **state)
{
	char text[4000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_warn("%s", text);
	assert_in_range(strlen(sink_last), 500, 1023);
}

static void
a_line_goes_to_standard_error(void **state)
{
	char buf[64];
	int pair[2], saved = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_true(dup2(pair[1], STDERR_FILENO) >= 0);
	log_set_sink(NULL);
	log_warn("vm0: odd\n");
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	n = recv(pair[0], buf, sizeof(buf), MSG_DONTWAIT);
	assert_int_equal(n, strlen("vm0: odd?\n")); /* in one write(2) */
	assert_memory_equal(buf, "vm0: odd?\n", (size_t)n);
	(void)close(pair[0]);
	(void)close(pair[1]);
	(void)close(saved);
}

/* Let the next log_guest() find itself in another second. */
static void
second_passes(struct log_limit *limit)
{
	atomic_fetch_sub(&limit->second, 1);
}

static void
storms_are_limited(void **state)
{
	struct log_limit limit = { 0 };
	unsigned before;

	for (unsigned i = 0; i < 10; i++)
		log_guest(&limit, "line %u", i);
	assert_int_equal(sink_lines, 10);
	for (unsigned i = 0; i < 5000; i++)
		log_guest(&limit, "storm");
	/* Some seconds may have begun while this ran, but not many. */
	assert_in_range(sink_lines, 10, 20);

	before = sink_lines;
	second_passes(&limit);
	log_guest(&limit, "again");
	assert_int_equal(sink_lines, before + 1);
	assert_non_null(strstr(sink_last, "again ("));
	assert_non_null(strstr(sink_last, " more left out)"));
}

static void
limits_are_apart(void **state)
{
	struct log_limit storm = { 0 }, other = { 0 };

	for (unsigned i = 0; i < 100; i++)
		log_guest(&storm, "storm");
	log_guest(&other, "other");
	assert_string_equal(sink_last, "other");
}

static void *
storm_thread(void *arg)
{
	for (unsigned i = 0; i < 1000; i++)
		log_guest(arg, "storm %u", i);
	return NULL;
}

static void
threads_share_a_limit(void **state)
{
	struct log_limit limit = { 0 };
	pthread_t threads[4];

	log_set_sink(count_line);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm_thread,
				     &limit),
		    0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_in_range(atomic_load(&sink_lines), 10, 60);
}

/* ---- buf ---------------------------------------------------------------- */

static void
buffers_read_back(void **state)
{
	struct buf buf = { 0 };
	struct reader r;
	char s[4];

	buf_put_int(&buf, 0x1122334455667788, 8);
	buf_put_int(&buf, 0xabcd, 1);
	buf_put_int(&buf, 0x12345678, 4);
	buf_put_str(&buf, "com1");
	buf_put_str(&buf, "");
	buf_put(&buf, "xyz", 3);
	buf_put(&buf, NULL, 0);
	assert_int_equal(buf.len, 8 + 1 + 4 + 2 + 4 + 2 + 3);
	assert_memory_equal(buf.data, "\x88\x77\x66\x55\x44\x33\x22\x11\xcd",
	    9);

	r = reader_make(buf.data, buf.len);
	assert_int_equal(reader_int(&r, 8), 0x1122334455667788);
	assert_int_equal(reader_int(&r, 1), 0xcd);
	assert_int_equal(reader_int(&r, 4), 0x12345678);
	reader_str(&r, s, sizeof(s));
	assert_string_equal(s, "com"); /* cut to fit, but wholly consumed */
	reader_str(&r, s, sizeof(s));
	assert_string_equal(s, "");
	assert_int_equal(reader_left(&r), 3);
	assert_memory_equal(reader_take(&r, 3), "xyz", 3);
	assert_false(r.bad);
	buf_fini(&buf);
	assert_null(buf.data);
	assert_int_equal(buf.len, 0);
}

static void
short_reads_are_bad(void **state)
{
	static const uint8_t bytes[] = { 0xff, 0xff, 'a' };
	struct reader r = reader_make(bytes, sizeof(bytes));
	char s[8] = "old";

	reader_str(&r, s, sizeof(s)); /* claims 65535 bytes, has one */
	assert_string_equal(s, "");
	assert_true(r.bad);
	assert_null(reader_take(&r, 1)); /* bad stays bad */
	assert_int_equal(reader_int(&r, 1), 0);

	r = reader_make(bytes, sizeof(bytes));
	assert_int_equal(reader_int(&r, 4), 0);
	assert_true(r.bad);
	r = reader_make(bytes, sizeof(bytes));
	assert_null(reader_take(&r, SIZE_MAX));
	assert_true(r.bad);
	r = reader_make(NULL, 0);
	assert_int_equal(reader_int(&r, 1), 0);
	assert_true(r.bad);
}

static void
buffers_grow(void **state)
{
	struct buf buf = { 0 };

	for (unsigned i = 0; i < 100000; i++)
		buf_put_int(&buf, i, 4);
	assert_int_equal(buf.len, 400000);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(le32_load(buf.data + i * 4), i);
	buf_fini(&buf);
}

/* ---- md5, uuid ---------------------------------------------------------- */

static void
check_md5(const void *data, size_t len, const char *expected)
{
	uint8_t digest[MD5_SIZE];
	char text[2 * MD5_SIZE + 1];

	md5(data, len, digest);
	for (unsigned i = 0; i < MD5_SIZE; i++)
		(void)snprintf(text + i * 2, 3, "%02x", digest[i]);
	assert_string_equal(text, expected);
}

/* RFC 1321, appendix A.5 */
static void
md5_test_suite(void **state)
{
	static const struct {
		const char *text, *digest;
	} rows[] = {
		{ "", "d41d8cd98f00b204e9800998ecf8427e" },
		{ "a", "0cc175b9c0f1b6a831c399e269772661" },
		{ "abc", "900150983cd24fb0d6963f7d28e17f72" },
		{ "message digest", "f96b697d7cb7938d525a2f31aaf161d0" },
		{ "abcdefghijklmnopqrstuvwxyz",
		    "c3fcd3d76192e4007dfb496cca67e13b" },
		{ "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		  "abcdefghijklmnopqrstuvwxyz0123456789",
		    "d174ab98d277d9f5a5611c2c9f419d9f" },
		{ "1234567890123456789012345678901234567890"
		  "1234567890123456789012345678901234567890",
		    "57edf4a22be3c955ac49da2e2107b67a" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		check_md5(rows[i].text, strlen(rows[i].text), rows[i].digest);
}

/* Every way the tail can fall: the digest of 300 digests, from another MD5. */
static void
md5_of_every_length(void **state)
{
	uint8_t data[300], digests[300][MD5_SIZE];

	for (size_t len = 0; len < ARRAY_SIZE(digests); len++) {
		data[len] = (uint8_t)(len * 7);
		md5(data, len, digests[len]);
	}
	check_md5(digests, sizeof(digests), "b9d5b0ec0d207bb96cccb77036c15f87");
}

static void
uuid_text(void **state)
{
	static const char text[] = "00112233-4455-6677-8899-aAbBcCdDeEfF";
	static const char *const bad[] = { "", "0",
		"00112233-4455-6677-8899-aabbccddeef",
		"00112233-4455-6677-8899-aabbccddeeff0",
		"00112233-4455-6677-8899-aabbccddeeff ",
		"001122334455-6677-8899-aabbccddeeff-",
		"00112233x4455-6677-8899-aabbccddeeff",
		"00112233-4455-6677-8899-aabbccddeefg",
		"{00112233-4455-6677-8899-aabbccddeeff}",
		"00112233-4455-6677-8899-" };
	static const uint8_t guid[16] = { 0x33, 0x22, 0x11, 0x00, 0x55, 0x44,
		0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	char back[UUID_TEXT_SIZE];
	struct uuid uuid;
	uint8_t bytes[16];

	assert_true(uuid_parse(text, &uuid));
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(uuid.b[i], i * 0x11);
	uuid_format(&uuid, back);
	assert_string_equal(back, "00112233-4455-6677-8899-aabbccddeeff");
	uuid_to_guid(&uuid, bytes);
	assert_memory_equal(bytes, guid, sizeof(guid));

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(uuid_parse(bad[i], &uuid));
	assert_int_equal(uuid.b[15], 0xff); /* written on success only */
}

static void
uuid_of_names(void **state)
{
	char text[UUID_TEXT_SIZE];
	struct uuid uuid;

	uuid_from_names("vm0", "host.example", &uuid);
	uuid_format(&uuid, text);
	assert_string_equal(text, "33bbf10e-4e6b-3287-b1af-379631c081d0");
}

/* ---- parse -------------------------------------------------------------- */

static void
integers(void **state)
{
	static const char *const bad[] = { "", " 1", "1 ", "x", "0x", "1x",
		"08", "--1", "+" };
	int64_t i = 42;
	uint64_t u = 42;

	for (size_t n = 0; n < ARRAY_SIZE(bad); n++) {
		assert_int_equal(parse_int(bad[n], INT64_MIN, INT64_MAX, &i),
		    -EINVAL);
		assert_int_equal(parse_uint(bad[n], UINT64_MAX, &u), -EINVAL);
	}
	assert_int_equal(parse_uint("-1", UINT64_MAX, &u), -EINVAL);
	assert_int_equal(parse_int("11", 0, 10, &i), -ERANGE);
	assert_int_equal(parse_int("-1", 0, 10, &i), -ERANGE);
	assert_int_equal(parse_int("9223372036854775808", INT64_MIN, INT64_MAX,
			     &i),
	    -ERANGE);
	assert_int_equal(parse_uint("11", 10, &u), -ERANGE);
	assert_int_equal(parse_uint("18446744073709551616", UINT64_MAX, &u),
	    -ERANGE);
	assert_int_equal(i, 42); /* written on success only */
	assert_int_equal(u, 42);

	assert_int_equal(parse_int("-0x10", -16, 10, &i), 0);
	assert_int_equal(i, -16);
	assert_int_equal(parse_int("010", 0, 10, &i), 0);
	assert_int_equal(i, 8);
	assert_int_equal(parse_int("-9223372036854775808", INT64_MIN, INT64_MAX,
			     &i),
	    0);
	assert_true(i == INT64_MIN);
	assert_int_equal(parse_uint("+7", 10, &u), 0);
	assert_int_equal(u, 7);
	assert_int_equal(parse_uint("0xffffffffffffffff", UINT64_MAX, &u), 0);
	assert_true(u == UINT64_MAX);
}

static void
sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} rows[] = {
		{ "0", 0 },
		{ "512", 512 },
		{ "1k", KIB },
		{ "0x10M", 16 * MIB },
		{ "4g", 4 * GIB },
		{ "2T", 2048 * GIB },
		{ "1P", GIB << 20 },
		{ "15E", 15 * (GIB << 30) },
	};
	static const char *const bad[] = { "", "k", "1kb", "1 k", "-1k", "1.5G",
		"1z", " 1k" };
	uint64_t value = 42;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_size(bad[i], &value), -EINVAL);
	assert_int_equal(parse_size("16E", &value), -ERANGE);
	assert_int_equal(parse_size("18446744073709551615k", &value), -ERANGE);
	assert_int_equal(parse_size("18446744073709551616", &value), -ERANGE);
	assert_int_equal(value, 42);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(parse_size(rows[i].text, &value), 0);
		assert_true(value == rows[i].value);
	}
}

static void
memory_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t value;
	} rows[] = {
		{ "256", 256 * MIB },
		{ "1048575", 1048575 * MIB },
		{ "1048576", MIB },
		{ "1073741824", GIB },
		{ "1024k", MIB },
		{ "1k", KIB }, /* a suffix is taken at its word */
		{ "4G", 4 * GIB },
		{ "0x100", 256 * MIB },
	};
	uint64_t value = 42;

	assert_int_equal(parse_memsize("", &value), -EINVAL);
	assert_int_equal(parse_memsize("lots", &value), -EINVAL);
	assert_int_equal(parse_memsize("-1", &value), -EINVAL);
	assert_int_equal(parse_memsize("18446744073709551616", &value),
	    -ERANGE);
	assert_int_equal(value, 42);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(parse_memsize(rows[i].text, &value), 0);
		assert_true(value == rows[i].value);
	}
}

static void
truth(void **state)
{
	static const char *const yes[] = { "true", "TRUE", "yes", "On", "1" };
	static const char *const no[] = { "false", "No", "oFF", "0" };
	static const char *const bad[] = { "", "2", "y", "true ", "00" };
	bool value;

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		value = false;
		assert_int_equal(parse_bool(yes[i], &value), 0);
		assert_true(value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(no); i++) {
		value = true;
		assert_int_equal(parse_bool(no[i], &value), 0);
		assert_false(value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_bool(bad[i], &value), -EINVAL);
}

/* ---- util, wire, lock, alloc -------------------------------------------- */

static void
ranges(void **state)
{
	assert_true(range_within(0, 0, 0));
	assert_true(range_within(4, 4, 8));
	assert_true(range_within(8, 0, 8));
	assert_false(range_within(4, 5, 8));
	assert_false(range_within(9, 0, 8));
	assert_false(range_within(UINT64_MAX, 2, 8));
	assert_false(range_within(4, UINT64_MAX - 1, 8));
	assert_true(range_within(0, UINT64_MAX, UINT64_MAX));
}

static void
powers_and_masks(void **state)
{
	int once = 1;
	uint64_t sum;
	struct {
		int before;
		int member;
	} whole;

	assert_false(is_power_of_2(0));
	assert_true(is_power_of_2(1));
	assert_true(is_power_of_2(BIT(63)));
	assert_false(is_power_of_2(BIT(63) + 1));
	assert_int_equal(round_up(0, 4096), 0);
	assert_int_equal(round_up(1, 4096), 4096);
	assert_int_equal(round_up(4096, 4096), 4096);
	assert_int_equal(round_down(4097, 4096), 4096);
	assert_int_equal(size_mask(0), 0);
	assert_int_equal(size_mask(1), 0xff);
	assert_int_equal(size_mask(4), 0xffffffff);
	assert_true(size_mask(8) == UINT64_MAX);
	assert_int_equal(MIN(once++, 5), 1);
	assert_int_equal(once, 2); /* the argument was evaluated once */
	assert_int_equal(MAX(once, 5), 5);
	assert_true(add_overflows(UINT64_MAX, 1, &sum));
	assert_true(mul_overflows(BIT(32), BIT(32), &sum));
	assert_false(add_overflows(UINT64_MAX, 0, &sum));
	assert_ptr_equal(container_of(&whole.member, __typeof__(whole), member),
	    &whole);
}

static void
byte_orders(void **state)
{
	static const uint8_t bytes[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
	uint8_t out[9] = { 0 };
	le32 little = le32_make(0x11223344);
	be16 big = be16_make(0x1122);

	/* From odd addresses, too. */
	assert_int_equal(le16_load(bytes + 1), 0x0201);
	assert_int_equal(le32_load(bytes + 1), 0x04030201);
	assert_int_equal(le64_load(bytes + 1), 0x0807060504030201);
	assert_int_equal(be16_load(bytes + 1), 0x0102);
	assert_int_equal(be32_load(bytes + 1), 0x01020304);
	assert_int_equal(be64_load(bytes + 1), 0x0102030405060708);
	be64_store(out + 1, 0x0102030405060708);
	assert_memory_equal(out, bytes, sizeof(bytes));
	assert_memory_equal(little.b, "\x44\x33\x22\x11", 4);
	assert_memory_equal(big.b, "\x11\x22", 2);
	assert_int_equal(le32_get(little), 0x11223344);
	assert_int_equal(be16_get(big), 0x1122);
	assert_int_equal(_Alignof(le64), 1);
}

struct handover {
	struct lock lock;
	pthread_cond_t cond;
	bool held_elsewhere;
	bool done;
};

static void *
other_thread(void *arg)
{
	struct handover *h = arg;

	h->held_elsewhere = lock_held(&h->lock);
	lock_take(&h->lock);
	h->done = true;
	pthread_cond_signal(&h->cond);
	lock_drop(&h->lock);
	return NULL;
}

static void
a_lock_knows_its_holder(void **state)
{
	struct handover h = { .cond = PTHREAD_COND_INITIALIZER };
	pthread_t thread;

	lock_init(&h.lock);
	assert_false(lock_held(&h.lock));
	lock_take(&h.lock);
	assert_true(lock_held(&h.lock));
	assert_int_equal(pthread_create(&thread, NULL, other_thread, &h), 0);
	while (!h.done)
		lock_wait(&h.lock, &h.cond);
	assert_true(lock_held(&h.lock));
	lock_drop(&h.lock);
	assert_false(lock_held(&h.lock));
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_false(h.held_elsewhere);
	lock_fini(&h.lock);
}

static void
allocators(void **state)
{
	uint32_t *p = xcalloc(3, sizeof(*p));
	char *s;

	assert_int_equal(p[0] | p[1] | p[2], 0);
	p[2] = 7;
	p = xreallocarray(p, 1000, sizeof(*p));
	assert_int_equal(p[2], 7);
	free(p);
	p = xcalloc(0, 0);
	assert_non_null(p);
	free(p);
	s = xasprintf("%s%d", "vm", 3);
	assert_string_equal(s, "vm3");
	free(s);
}

static void
lists_of_cpus(void **state)
{
	static const char *const wrong[] = { "", ",", "1,", "1-", "-1", "2-1",
		"1 ", "x", "1-2-3", "1,,2", "1024", "0-99999999999999999999" };
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	assert_int_equal(parse_cpus("0-2,1023", &cpus), 0);
	assert_int_equal(CPU_COUNT(&cpus), 4);
	assert_true(CPU_ISSET(1023, &cpus));
	assert_int_equal(parse_cpus("2,7", &cpus), 0);
	assert_int_equal(CPU_COUNT(&cpus), 5);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_true(parse_cpus(wrong[i], &cpus) < 0);
	assert_int_equal(CPU_COUNT(&cpus), 5);
}

int
main(void)
{
#define LOG_TEST(fn) \
	cmocka_unit_test_setup_teardown(fn, log_setup, log_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_of_cpus),
		cmocka_unit_test(sentences),
		cmocka_unit_test(nobody_wants_the_words),
		cmocka_unit_test(long_sentences_are_cut),
		LOG_TEST(levels),
		LOG_TEST(control_characters_are_escaped),
		LOG_TEST(lines_have_a_limit),
		LOG_TEST(a_line_goes_to_standard_error),
		LOG_TEST(storms_are_limited),
		LOG_TEST(limits_are_apart),
		LOG_TEST(threads_share_a_limit),
		cmocka_unit_test(buffers_read_back),
		cmocka_unit_test(short_reads_are_bad),
		cmocka_unit_test(buffers_grow),
		cmocka_unit_test(md5_test_suite),
		cmocka_unit_test(md5_of_every_length),
		cmocka_unit_test(uuid_text),
		cmocka_unit_test(uuid_of_names),
		cmocka_unit_test(integers),
		cmocka_unit_test(sizes),
		cmocka_unit_test(memory_sizes),
		cmocka_unit_test(truth),
		cmocka_unit_test(ranges),
		cmocka_unit_test(powers_and_masks),
		cmocka_unit_test(byte_orders),
		cmocka_unit_test(a_lock_knows_its_holder),
		cmocka_unit_test(allocators),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
