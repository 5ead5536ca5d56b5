#!/bin/sh
# Build self-tests of glibc against the C library that is installed, without
# glibc's own build: what tests share becomes a library, the tests are those of
# a few directories that need nothing that is private to it.
#
# usage: glibc-tests.sh SOURCES OUT
set -eu

sources=${1:?usage: glibc-tests.sh SOURCES OUT}
out=${2:?usage: glibc-tests.sh SOURCES OUT}

# They try every size and alignment for minutes; strings.c does less of that.
# Or they wait for time to go by.
slow=' test-bz22786 test-cxa_atexit-race2 test-memcpy test-memcpy-large
    test-memmove test-mempcpy test-memset test-strcasecmp test-strcat
    test-strcmp test-strcspn test-strncasecmp test-strncat test-strncmp test-strnlen
    test-wcscmp test-wcsncmp test-wcsnlen tst-arc4random-fork
    tst-arc4random-thread '

# Headers of glibc's own that tests and what they share include.  All else is
# taken from the system: the two do not mix.
include="$out/include"
mkdir -p "$include"
for header in array_length intprops libc-diag scratch_buffer \
    ifunc-impl-list; do
	sed '/^libc_hidden_proto/d' "$sources/include/$header.h" \
	    >"$include/$header.h"
done
cp "$sources/sysdeps/i386/stackinfo.h" "$sources/test-skeleton.c" "$include"
ln -s "$sources/support" "$sources/malloc" "$include"
: >"$include/config.h"
cat >"$include/first.h" <<-end
	#include <limits.h>
	#include <stdint.h>
	#define TIMEOUTFACTOR 20
	#define libc_hidden_proto(name)
	#define attribute_hidden
	#define __always_inline inline __attribute__((always_inline))
	#define SRCDIR_PATH "/tmp"
	#define OBJDIR_PATH "/tmp"
	#define OBJDIR_ELF_LDSO_PATH "/lib64/ld-linux-x86-64.so.2"
	#define INSTDIR_PATH "/usr"
	#define LIBDIR_PATH "/usr/lib"
	#define BINDIR_PATH "/usr/bin"
	#define SBINDIR_PATH "/usr/sbin"
	#define SLIBDIR_PATH "/lib"
	#define ROOTSBINDIR_PATH "/sbin"
	#define COMPLOCALEDIR_PATH "/usr/lib/locale"
	#define SYSCONFDIR_PATH "/etc"
end
compile() {
	gcc -std=gnu11 -O2 -w -D_GNU_SOURCE -I"$include" -I"$sources/support" \
	    -include "$include/first.h" "$@" 2>>"$out/log"
}

# What does not compile or link wants more of glibc's own, and is left out.
for file in "$sources"/support/*.c; do
	case ${file##*/} in
	README* | tst-* | links-dso* | echo-* | shell-* | true-* | test-*) ;;
	*) compile -c -o "$out/$(basename "$file" .c).o" "$file" || : ;;
	esac
done
ar rcs "$out/support.a" "$out"/*.o
rm "$out"/*.o

mkdir "$out/tests"
for directory in string math stdlib stdio-common setjmp wcsmbs; do
	for file in "$sources/$directory"/*tst-*.c \
	    "$sources/$directory"/test*.c "$sources/$directory"/bug-*.c; do
		name=$(basename "$file" .c)
		if [ ! -f "$file" ] || echo "$slow" | grep -qw "$name"; then
			continue
		fi
		compile -o "$out/tests/$name" "$file" "$out/support.a" -lm \
		    -pthread || :
	done
done
[ "$(find "$out/tests" -type f | wc -l)" -gt 100 ]
