#!/bin/sh
# The tests that take minutes each, for a quiet hour: make check leaves them out.
set -eu
cd "$(dirname "$0")/.."

test/packages.sh
test/fetch.sh build/guests all
test/build.sh gcc
export CMOCKA_MESSAGE_OUTPUT=TAP
exec meson test -C build/gcc --no-rebuild --print-errorlogs --suite long
