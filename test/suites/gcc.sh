#!/bin/sh
# The compiler makes the same objects as anywhere, and they do the same.
set -eu

# compile WAY PROGRAMS OPTION...
compile() {
	way=$1
	programs=$2
	shift 2
	for program in $programs; do
		gcc -D_GNU_SOURCE "$@" -pthread -c -o "$program.o" \
		    "/suites/$program.c"
		gcc "$@" -pthread -o "$program" "$program.o" -lm
		echo "$way $program $(sha256sum <"$program.o")"
		"./$program"
	done
}
if [ "${MINUTES%.*}" -lt 1 ]; then
	compile 64 'strings threads' -O2
	compile 32 numbers -O2 -m32
	exit
fi
compile 64 'numbers strings threads' -O2
compile 32 'numbers strings threads' -O2 -m32
compile plain 'numbers threads' -O0
compile wide 'numbers strings threads' -O3 -march=x86-64-v3
compile loose 'numbers threads' -O3 -m32 -ffast-math -msse2 -mfpmath=sse
