#!/bin/sh
# Measure what a machine costs:
#
#	block	reads of a disk, a second; no machine is made
#
# and where the host has /dev/kvm:
#
#	exits	port and memory accesses that reach a device, a second
#	idle	processor time and memory of a machine that sleeps
set -eu
cd "$(dirname "$0")/.."

test/packages.sh
test/build.sh gcc
build=build/gcc
"$build/bench/block_bench" "$build/block_bench.img"
if [ ! -w /dev/kvm ]; then
	echo "bench: no /dev/kvm that can be opened"
	exit 0
fi
"$build/test/guest/judge" -t 120 "$build/test/guest/exits.payload" |
    sed -n 's/^ok [0-9]* - //p' | grep 'a second'
test/idle.py "$build/src/cmd/bhyve/bhyve" "$build/test/guest/idle.payload" |
    sed -n 's/^\(not \)\{0,1\}ok [0-9]* - //p'
