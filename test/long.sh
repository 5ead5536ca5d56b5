#!/bin/sh
# The tests that take minutes each, for a quiet hour: make check leaves them out.
set -eu
cd "$(dirname "$0")/.."

test/packages.sh
test/fetch.sh build/guests all
test/build.sh gcc
test/build.sh asan
status=0
meson test -C build/gcc --no-rebuild --print-errorlogs --suite long || status=1
meson test -C build/asan --no-rebuild --print-errorlogs hostile-interp-long \
    hostile-jit-long hostile-jit-c-long || status=1
exit "$status"
