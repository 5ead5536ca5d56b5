#!/bin/sh
# Fuzz every parser of foreign bytes, each for $FUZZ_SECONDS (600).
set -eu
cd "$(dirname "$0")/../.."

test/packages.sh
test/build.sh asan
FUZZ_SECONDS=${FUZZ_SECONDS:-600} meson test -C build/asan --no-rebuild \
    --print-errorlogs --timeout-multiplier 0 --suite fuzz
