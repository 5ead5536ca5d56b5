#!/bin/sh
# Install the Debian packages that building and testing need, if any is
# missing.  Offline and without root once they are there.
set -eu

packages="
	acpica-tools binutils build-essential busybox-static clang clang-format
	cpio dmidecode e2fsprogs iproute2 libclang-rt-14-dev libcmocka-dev
	libnbd-bin libnbd-dev libslirp-dev liburing-dev libzydis-dev mandoc
	meson nbdkit ninja-build passt pkg-config python3 qemu-system-x86
	qemu-utils socat xz-utils zstd
"

missing=
for package in $packages; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
	    grep -q '^install ok installed$' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing:$missing"
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -q
# shellcheck disable=SC2086 # one word a package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
    --no-install-recommends $missing
