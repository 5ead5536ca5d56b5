/*
 * MAC addresses: as people write them, and as bhyve derives them.
 */
#include <errno.h>
#include <string.h>

#include "base/md5.h"
#include "base/parse.h"
#include "net/net_impl.h"

int
mac_parse(const char *text, uint8_t mac[NET_MAC_LEN], struct err *err)
{
	static const uint8_t zero[NET_MAC_LEN];
	uint8_t parsed[NET_MAC_LEN];
	const char *p = text;

	for (unsigned i = 0; i < NET_MAC_LEN; i++) {
		int digit, value = 0, digits = 0;

		if (i > 0 && *p++ != ':')
			goto malformed;
		/* One digit will do, as for ether_aton(3). */
		while (digits < 2 && (digit = parse_hex_digit(*p)) >= 0) {
			value = value * 16 + digit;
			digits++;
			p++;
		}
		if (digits == 0)
			goto malformed;
		parsed[i] = (uint8_t)value;
	}
	if (*p != '\0')
		goto malformed;
	if (memcmp(parsed, zero, NET_MAC_LEN) == 0)
		return err_set(err, -EINVAL, "%s: a MAC address is not zero",
		    text);
	if (parsed[0] & 1)
		return err_set(err, -EINVAL,
		    "%s: a multicast address, a card's is unicast", text);
	memcpy(mac, parsed, NET_MAC_LEN);
	return 0;

malformed:
	return err_set(err, -EINVAL,
	    "%s: not a MAC address of the form xx:xx:xx:xx:xx:xx", text);
}

void
mac_derive(const char *seed, uint8_t mac[NET_MAC_LEN])
{
	static const uint8_t oui[] = { 0x00, 0xa0, 0x98 };
	uint8_t digest[MD5_SIZE];

	md5(seed, strlen(seed), digest);
	memcpy(mac, oui, sizeof(oui));
	memcpy(mac + sizeof(oui), digest, NET_MAC_LEN - sizeof(oui));
}
