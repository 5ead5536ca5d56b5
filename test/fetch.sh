#!/bin/sh
# Fetch Debian's cloud kernel into DIR: vmlinuz, and the modules that make
# /dev/kvm or that a guest needs to see its power button.  What is there already
# is kept, so that later runs need no network.
#
# usage: test/fetch.sh DIR
set -eu

dir=${1:?usage: fetch.sh DIR}
modules="virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-amd
    drivers/acpi/button drivers/input/evdev"

have_all() {
	for module in $modules; do
		[ -f "$dir/${module##*/}.ko" ] || return 1
	done
	[ -f "$dir/vmlinuz" ]
}
have_all && exit 0
mkdir -p "$dir"
work=$(mktemp -d "$dir/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The package that the metapackage of the day stands for.
download() {
	package=$(apt-cache depends linux-image-cloud-amd64 |
	    sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$package" ] &&
	    (cd "$work" && apt-get download -q -o APT::Sandbox::User=root \
	    "$package" >apt.log 2>&1)
}

# Package lists that are missing or stale are the usual reason for a failure.
if ! download; then
	sudo=
	[ "$(id -u)" = 0 ] || sudo="sudo -n"
	$sudo apt-get update -q >"$work/update.log" 2>&1 || true
	if ! download; then
		cat "$work"/*.log >&2
		echo "fetch.sh: cannot download Debian's cloud kernel" >&2
		exit 1
	fi
fi

dpkg-deb -x "$work"/*.deb "$work/tree"
for module in $modules; do
	cp "$work"/tree/lib/modules/*/kernel/"$module".ko "$dir/"
done
cp "$work"/tree/boot/vmlinuz-* "$work/vmlinuz"
mv "$work/vmlinuz" "$dir/vmlinuz"
