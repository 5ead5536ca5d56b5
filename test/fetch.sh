#!/bin/sh
# Fetch guests from Debian's packages into DIR.  What is there already is kept,
# so that later runs need no network.  Nothing outside DIR changes: where the
# system's package lists do not do, apt is given a state of its own.
#
#	cloud		vmlinuz, and the modules that make /dev/kvm or that a
#			guest needs to see its power button; without a SET
#	amd64		vmlinuz-amd64, the standard kernel
#	drivers		drivers and drivers-amd64: modules of these two kernels
#			for our devices, and the modules that those need
#	686, 686-pae	vmlinuz-686 and vmlinuz-686-pae, and busybox-i386
#	memtest		memtest86+.bin, as a Linux boot loader takes it
#	xen		xen, a Multiboot kernel
#	all		all of them
#
# usage: test/fetch.sh DIR [SET]...
set -eu

usage="fetch.sh DIR [cloud|amd64|drivers|686|686-pae|memtest|xen|all]..."
dir=${1:?usage: $usage}
shift
modules="virt/lib/irqbypass arch/x86/kvm/kvm arch/x86/kvm/kvm-amd
    drivers/acpi/button drivers/input/evdev"
drivers="virtio_pci virtio-rng virtio_blk virtio_net virtio_console"
drivers_amd64="$drivers 9pnet_virtio 9p e1000"
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT

die() {
	[ -z "$work" ] || cat "$work"/*.log >&2
	echo "fetch.sh: $*" >&2
	exit 1
}

# Configure apt for an architecture that the system may know nothing of.  Its
# sources and keys are the system's; hooks that would tidy up there are not.
private_state() {
	state="$work/apt-$1"
	mkdir -p "$state/lists/partial"
	: >"$state/status"
	cat - "$work/apt.conf" >"$state.conf" <<-end
		#clear APT::Architectures;
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		APT::Architecture "$1";
		APT::Architectures { "$1"; };
		Acquire::Languages "none";
		Dir::State "$state";
		Dir::State::lists "$state/lists";
		Dir::State::status "$state/status";
	end
	# A source that has nothing for this architecture is no failure yet.
	apt-get -c "$state.conf" update -q >>"$work/apt.log" 2>&1 || true
}

# The package itself, or what a metapackage of kernels stands for today.
download() {
	package=$2
	case $package in
	linux-image-*)
		package=$(apt-cache -c "$1" depends "$package" |
		    sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' |
		    head -n 1)
		;;
	esac
	[ -n "$package" ] &&
	    (cd "$work" && apt-get -c "$1" download -q "$package" >>apt.log 2>&1)
}

# Fetch the package of an architecture and unpack it to $work/tree.  The
# system's lists are the quick way; if they are missing or stale, or are another
# architecture's, a private state is the other.
unpack() {
	if [ -z "$work" ]; then
		mkdir -p "$dir"
		work=$(cd "$dir" && mktemp -d "$PWD/fetch.XXXXXX")
		mkdir -p "$work/cache/archives/partial"
		cat >"$work/apt.conf" <<-end
			APT::Sandbox::User "root";
			Dir::Cache "$work/cache";
		end
	fi
	if [ "$1" != "$(dpkg --print-architecture)" ] ||
	    ! download "$work/apt.conf" "$2"; then
		[ -f "$work/apt-$1.conf" ] || private_state "$1"
		download "$work/apt-$1.conf" "$2" ||
		    die "cannot download Debian's $2 for $1"
	fi
	rm -rf "$work/tree"
	dpkg-deb -x "$work"/*.deb "$work/tree"
	rm "$work"/*.deb
}

# In one step, so that what is there is whole.
keep() {
	cp "$1" "$work/kept"
	mv "$work/kept" "$dir/$2"
}

have() {
	for file; do
		[ -f "$dir/$file" ] || return 1
	done
}

fetch_cloud() {
	# shellcheck disable=SC2046,SC2086 # one word a module
	have vmlinuz $(printf '%s.ko\n' $modules | sed 's:.*/::') && return
	unpack amd64 linux-image-cloud-amd64
	for module in $modules; do
		keep "$work"/tree/lib/modules/*/kernel/"$module.ko" \
		    "${module##*/}.ko"
	done
	keep "$work"/tree/boot/vmlinuz-* vmlinuz
}

# fetch_kernel NAME ARCHITECTURE
fetch_kernel() {
	have "vmlinuz-$1" && return
	unpack "$2" "linux-image-$1"
	keep "$work"/tree/boot/vmlinuz-* "vmlinuz-$1"
}

# Copy a module out of the tree to $work/modules, those that it needs first.
keep_module() {
	file=$(find "$work/tree/lib/modules" -name "$(echo "$1" |
	    sed 's/[-_]/[-_]/g').ko")
	[ -n "$file" ] || return 0 # it is in the kernel itself
	cp "$file" "$work/modules/$1.ko"
	tr '\0' '\n' <"$file" | sed -n 's/^depends=//p' | tr , '\n' |
	    while read -r needed; do
		[ -e "$work/modules/$needed.ko" ] || keep_module "$needed"
	done
}

# fetch_modules DIRECTORY PACKAGE MODULE...; what it holds is in its name list.
fetch_modules() {
	to=$1
	package=$2
	shift 2
	[ "$(cat "$dir/$to/names" 2>/dev/null)" = "$*" ] && return
	unpack amd64 "$package"
	rm -rf "$work/modules" "${dir:?}/$to"
	mkdir "$work/modules"
	for module; do
		keep_module "$module"
	done
	echo "$*" >"$work/modules/names"
	mv "$work/modules" "$dir/$to"
}

fetch_drivers() {
	# shellcheck disable=SC2086 # one word a module
	fetch_modules drivers linux-image-cloud-amd64 $drivers
	# shellcheck disable=SC2086
	fetch_modules drivers-amd64 linux-image-amd64 $drivers_amd64
}

fetch_busybox_i386() {
	have busybox-i386 && return
	unpack i386 busybox-static
	keep "$work/tree/bin/busybox" busybox-i386
}

fetch_memtest() {
	have memtest86+.bin && return
	unpack amd64 memtest86+
	keep "$work/tree/boot/memtest86+x64.bin" memtest86+.bin
}

fetch_xen() {
	have xen && return
	unpack amd64 xen-hypervisor-4.17-amd64
	gunzip -c "$work"/tree/boot/xen-*.gz >"$work/xen"
	keep "$work/xen" xen
}

fetch() {
	case $1 in
	cloud) fetch_cloud ;;
	amd64) fetch_kernel "$1" amd64 ;;
	drivers) fetch_drivers ;;
	686 | 686-pae)
		fetch_kernel "$1" i386
		fetch_busybox_i386
		;;
	memtest) fetch_memtest ;;
	xen) fetch_xen ;;
	all)
		for name in cloud amd64 drivers 686 686-pae memtest xen; do
			fetch "$name"
		done
		;;
	*) die "usage: $usage" ;;
	esac
}

[ $# != 0 ] || set -- cloud
for set; do
	fetch "$set"
done
