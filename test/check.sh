#!/bin/sh
# The whole check: every build, every test, and a count of them all.  A build
# that fails counts as a failed test, and the others still run.
set -u
cd "$(dirname "$0")/.." || exit 1

test/packages.sh || exit 1
test/fetch.sh build/guests all || exit 1

# One line a test case, so that summary.py can count and name them.
export CMOCKA_MESSAGE_OUTPUT=TAP
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1

broken=
run() {
	name=$1
	shift
	echo "== $name"
	test/build.sh "$name" && meson test -C "build/$name" --no-rebuild \
	    --print-errorlogs "$@"
	[ -f "build/$name/meson-logs/testlog.json" ] || broken="$broken $name"
}

rm -f build/*/meson-logs/testlog.json
run gcc --no-suite long
run clang --suite unit --suite device
run asan --suite unit --suite device --suite guest --suite cpu --suite hammer \
    --suite fuzz
run tsan --suite unit --suite device --suite guest --suite cpu --suite hammer

# shellcheck disable=SC2086 # one word a build
exec test/summary.py $broken
