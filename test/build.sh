#!/bin/sh
# Configure, if need be, and build one of the trees below build/:
#
#	gcc	what is installed, measured and booted
#	clang	the other compiler's warnings
#	asan	clang, address and undefined behaviour; and the fuzz targets
#	tsan	gcc, threads
#
# usage: test/build.sh NAME
set -eu
cd "$(dirname "$0")/.."

name=${1:?usage: build.sh gcc|clang|asan|tsan}
case $name in
gcc | clang)
	CC=$name
	set --
	;;
asan)
	CC=clang
	set -- -Dfuzz=true -Dsoak=30 -Db_sanitize=address,undefined -Db_lundef=false \
	    -Dc_args='-fsanitize=fuzzer-no-link -fno-sanitize-recover=all'
	;;
tsan)
	CC=gcc
	set -- -Db_sanitize=thread -Db_lundef=false
	;;
*)
	echo "build.sh: $name: not a build" >&2
	exit 1
	;;
esac
export CC

if [ ! -f "build/$name/build.ninja" ]; then
	mkdir -p build
	if ! meson setup "build/$name" "$@" >"build/$name.log" 2>&1; then
		cat "build/$name.log" >&2
		rm -rf "build/$name"
		exit 1
	fi
fi
exec ninja -C "build/$name" --quiet
