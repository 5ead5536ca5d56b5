#!/bin/sh
# Compress and expand, to the same bytes as anywhere.
set -eu

cat /usr/bin/stress-ng /usr/bin/perl | head -c 6000001 >data
for tool in 'gzip -n1' 'gzip -n9' 'bzip2 -9' 'xz -1' 'xz -3 -T 2' 'zstd -1' \
    'zstd -12' 'zstd -5 -T2'; do
	$tool -c <data 2>/dev/null >packed
	echo "$tool $(sha256sum <packed)"
	${tool%% *} -d -c <packed >unpacked
	cmp data unpacked
done
