/*
 * Frames of any bytes before link protection: the first byte says what is
 * asked, the next twelve are the header, the rest is the frame.  What passes
 * with everything asked passes with less, and an ARP or IPv4 packet that passes
 * carries an address that is allowed.
 */
#include <stdlib.h>
#include <string.h>

#include "net/net_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FRAME_AT (1 + sizeof(struct net_hdr))

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct filter filter = { .mac = { 2, 0x11, 0x22, 0x33, 0x44, 0x55 } };
	struct net_hdr hdr;
	uint8_t *frame;
	size_t len, seen;
	bool passed;

	if (size < FRAME_AT)
		return 0;
	if (filter_parse_addrs(&filter, "192.0.2.0/28 2001:db8::/64", NULL) < 0)
		abort();
	filter.mac_nospoof = data[0] & 1;
	filter.ip_nospoof = data[0] & 2;
	filter.dhcp_nospoof = data[0] & 4;
	filter.restricted = data[0] & 8;
	memcpy(&hdr, data + 1, sizeof(hdr));
	len = size - FRAME_AT;
	seen = MIN(len, (size_t)FILTER_SPAN);
	/* Of its exact size, so that the sanitizer sees a byte too many. */
	frame = malloc(MAX(seen, (size_t)1));
	if (frame == NULL)
		abort();
	memcpy(frame, data + FRAME_AT, seen);
	passed = filter_check(&filter, frame, len, &hdr);
	if (passed && filter.mac_nospoof &&
	    memcmp(frame + 6, filter.mac, sizeof(filter.mac)) != 0)
		abort();
	if (passed && filter.ip_nospoof && frame[12] == 8 && frame[13] == 0 &&
	    memcmp(frame + 26, "\xc0\0\2", 3) != 0 &&
	    memcmp(frame + 26, "\0\0\0\0", 4) != 0)
		abort();
	if (passed && filter.restricted && frame[12] != 8 && frame[12] != 0x86)
		abort();
	filter.mac_nospoof = filter.dhcp_nospoof = filter.restricted = false;
	if (passed && filter.ip_nospoof &&
	    !filter_check(&filter, frame, len, &hdr))
		abort();
	free(frame);
	return 0;
}
