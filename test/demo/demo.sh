#!/bin/sh
# A Linux guest with two processors, up to its shell.  In a terminal the shell
# is yours until you power it off; without one a short tour is taken.
set -eu
cd "$(dirname "$0")/../.."

test/packages.sh
test/build.sh gcc
test/fetch.sh build/guests
exec test/demo/demo.py build/gcc/src/cmd/bhyve/bhyve build/guests build/demo
