/*
 * MAC addresses: what is one, and which one a machine gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/md5.h"
#include "net/net_impl.h"

static void
addresses_are_parsed(void **state)
{
	const uint8_t wanted[] = { 0x02, 0xa0, 0x0b, 0xcd, 0xef, 0x01 };
	uint8_t mac[NET_MAC_LEN];
	struct err err;

	assert_int_equal(mac_parse("02:a0:0b:CD:eF:01", mac, &err), 0);
	assert_memory_equal(mac, wanted, sizeof(mac));
	assert_int_equal(mac_parse("2:A0:b:cd:ef:1", mac, &err), 0);
	assert_memory_equal(mac, wanted, sizeof(mac));
}

static void
what_no_card_has_is_refused(void **state)
{
	static const char *const bad[] = { "", ":", "02", "02:a0:98:01:02",
		"02:a0:98:01:02:03:04",
		"02:a0:98:01:02:03:", "02:a0:98:01:02:", "02:a0:98:01:02:0g",
		"02-a0-98-01-02-03", "002:a0:98:1:2:3", " 02:a0:98:01:02:03",
		"00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff" };
	uint8_t mac[NET_MAC_LEN] = { 1, 2, 3, 4, 5, 6 };
	uint8_t before[NET_MAC_LEN];

	memcpy(before, mac, sizeof(mac));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = { "" };

		assert_int_equal(mac_parse(bad[i], mac, &err), -EINVAL);
		assert_true(err.msg[0] != '\0');
		assert_memory_equal(mac, before, sizeof(mac));
	}
}

static void
the_default_is_bhyves(void **state)
{
	/* MD5("3-0-vm") begins so: md5sum(1) says. */
	uint8_t mac[NET_MAC_LEN], again[NET_MAC_LEN], digest[MD5_SIZE];

	mac_derive("3-0-vm", mac);
	md5("3-0-vm", 6, digest);
	assert_int_equal(mac[0], 0x00);
	assert_int_equal(mac[1], 0xa0);
	assert_int_equal(mac[2], 0x98);
	assert_memory_equal(mac + 3, digest, 3);
	assert_memory_equal(mac + 3,
	    "\x04"
	    "\x74"
	    "\x5a",
	    3);
	mac_derive("3-1-vm", again);
	assert_memory_not_equal(mac, again, sizeof(mac));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_parsed),
		cmocka_unit_test(what_no_card_has_is_refused),
		cmocka_unit_test(the_default_is_bhyves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
