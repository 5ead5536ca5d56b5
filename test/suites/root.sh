#!/bin/sh
# Make the root file system of a guest that tests itself: DIR/root, from
# Debian's packages, and DIR/root.cpio, the same as an archive.  Self-tests of
# Linux and glibc are built in it, from Debian's sources.  What is there already
# is kept, unless the scripts that make it are newer.  Nothing outside DIR
# changes.
#
# usage: test/suites/root.sh DIR
set -eu

dir=${1:?usage: root.sh DIR}
here=$(cd "$(dirname "$0")" && pwd)
packages="
	bash binutils bzip2 coreutils dash diffutils findutils gawk
	gcc-multilib glibc-source grep gzip hostname libc-bin libpython3.11-testsuite
	linux-source-6.1 make mount net-tools openssl perl procps python3 sed
	sqlite3 stress-ng tar util-linux xz-utils zstd
"
# Large, and nothing here runs them: what stress-ng would draw with, x32,
# sanitizers.
unwanted='libllvm*|libgl1-mesa-dri*|libx32*|libc6-x32*|libc6-dev-x32*|
	libasan*|lib32asan*|libtsan*|liblsan*|linux-source*|glibc-source*'
documents='doc man info locale i18n icons X11'

# Of the kernel's sources, the tests.  What they include by relative paths comes
# along.
tests=tools/testing/selftests

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
if [ -f "$dir/root.cpio" ] && [ -z "$(find "$here/root.sh" \
    "$here/kernel-tests.sh" "$here/glibc-tests.sh" -newer "$dir/root.cpio")" ]
then
	exit
fi
log="$dir/root.log"
: >"$log"

die() {
	tail -n 20 "$log" >&2
	echo "root.sh: $*" >&2
	exit 1
}

# A system with nothing installed, so that apt finds all that is needed.
mkdir -p "$dir/packages/partial" "$dir/lists/partial"
: >"$dir/status"
cat >"$dir/apt.conf" <<-end
	#clear APT::Update::Pre-Invoke;
	#clear APT::Update::Post-Invoke;
	#clear APT::Update::Post-Invoke-Success;
	APT::Install-Recommends "false";
	APT::Sandbox::User "root";
	Debug::NoLocking "true";
	Dir::State::status "$dir/status";
	Dir::Cache::archives "$dir/packages";
end
download() {
	# shellcheck disable=SC2086 # one word a package
	apt-get -c "$dir/apt.conf" install -q -y --download-only \
	    $packages >>"$log" 2>&1
}
# The system's lists are the quick way; if they are missing or stale, others.
if ! download; then
	echo "Dir::State::lists \"$dir/lists\";" >>"$dir/apt.conf"
	apt-get -c "$dir/apt.conf" update -q >>"$log" 2>&1 || true
	download || die 'cannot download packages'
fi

root="$dir/root"
rm -rf "$root"
mkdir -p "$root/usr"
for name in bin sbin lib lib32 lib64; do
	mkdir "$root/usr/$name"
	ln -s "usr/$name" "$root/$name"
done
exclude=
for name in $documents; do
	exclude="$exclude --exclude=./usr/share/$name"
done
unwanted=$(echo "$unwanted" | tr -d '\n\t')
for deb in "$dir"/packages/*.deb; do
	eval "case \${deb##*/} in $unwanted) continue ;; esac"
	# shellcheck disable=SC2086 # one word an option
	dpkg-deb --fsys-tarfile "$deb" |
	    tar -x -C "$root" --keep-directory-symlink $exclude ||
	    die "cannot unpack $deb"
done
# Link-time optimization is not used, and its compilers are as large as cc1.
rm -f "$root"/usr/lib/gcc/*/*/lto1 "$root"/usr/bin/*lto-dump*
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/root" \
    "$root/suites"

# sources PACKAGE DIRECTORY MEMBER...
sources() {
	package=$1
	mkdir -p "$2"
	dpkg-deb --fsys-tarfile "$dir/packages/$package"_*.deb 2>>"$log" |
	    tar -x -O --wildcards '*.tar.xz' >"$dir/sources.tar.xz"
	to=$2
	shift 2
	tar -x -f "$dir/sources.tar.xz" -C "$to" --strip-components=1 \
	    --wildcards "$@" || die "cannot unpack $package"
	rm "$dir/sources.tar.xz"
}
sources linux-source-6.1 "$root/usr/src/linux" "*/$tests/x86" \
    "*/$tests/kselftest.h" '*/arch/x86/include/asm/desc_defs.h'
sources glibc-source "$root/usr/src/glibc" '*'

# build SCRIPT DIRECTORY ARGUMENT...: in the tree, as root of it
enter=
[ "$(id -u)" = 0 ] || enter='unshare --map-root-user'
build() {
	script=$1
	cp "$here/$script" "$root/root"
	where=$2
	shift 2
	$enter chroot "$root" /bin/sh -c \
	    "PATH=/usr/bin:/usr/sbin; ldconfig && cd $where &&
	    sh /root/$script $*" >>"$log" 2>&1 || die "$script failed"
	rm "$root/root/$script"
}
build kernel-tests.sh "/usr/src/linux/$tests/x86"
build glibc-tests.sh / /usr/src/glibc /usr/src/glibc-tests
rm -rf "$root/usr/src/glibc" "$root/usr/src/glibc-tests/include"

(cd "$root" && find . -print | LC_ALL=C sort |
    cpio -o -H newc --quiet --reproducible -R 0:0) >"$dir/root.new"
mv "$dir/root.new" "$dir/root.cpio"
