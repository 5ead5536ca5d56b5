#!/bin/sh
# The sums of files, by coreutils.
set -eu

cd /usr
for sum in md5sum sha1sum sha224sum sha256sum sha384sum sha512sum b2sum cksum \
    'cksum -a crc' 'cksum -a bsd' 'cksum -a sm3'; do
	echo "$sum $($sum bin/gcc-12 bin/stress-ng bin/perl sbin/* \
	    lib/x86_64-linux-gnu/lib[cm].so.6 | sha512sum)"
done
