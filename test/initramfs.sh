#!/bin/sh
# Make an initramfs: busybox, a shell script as /init, and files with the
# shared libraries they need.
#
# usage: test/initramfs.sh [-b BUSYBOX] OUT INIT [FILE=PATH]...
#
# BUSYBOX is the guest's, if it cannot use the host's.  Its applets are taken to
# be those of the host's: it may not run here.
set -eu

busybox=$(command -v busybox)
if [ "${1:-}" = -b ]; then
	busybox=$2
	shift 2
fi
out=${1:?usage: initramfs.sh [-b BUSYBOX] OUT INIT [FILE=PATH]...}
init=${2:?usage: initramfs.sh OUT INIT [FILE=PATH]...}
shift 2

root=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$root"' EXIT

# Copy a file, and what ldd(1) says it needs to the same places.
install_file() {
	mkdir -p "$root/$(dirname "$2")"
	cp -L "$1" "$root/$2"
	[ -x "$1" ] || return 0
	ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r lib; do
		mkdir -p "$root/$(dirname "$lib")"
		cp -L "$lib" "$root/$lib"
	done
}

mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" \
    "$root/run"
cp "$init" "$root/init"
chmod 755 "$root/init"
cp "$busybox" "$root/bin/busybox"
for applet in $(busybox --list); do
	[ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
for spec; do
	install_file "${spec%%=*}" "${spec#*=}"
done

# In order of name and without times: the same input gives the same bytes.
(cd "$root" && find . -print | LC_ALL=C sort |
    cpio -o -H newc --quiet --reproducible -R 0:0) | gzip -1n >"$out.new"
mv "$out.new" "$out"
