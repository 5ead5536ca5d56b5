#!/bin/sh
set -eu

gcc -D_GNU_SOURCE -O2 -mavx -o registers /suites/registers.c
rounds=$(gawk -v m="$MINUTES" 'BEGIN {print int(m * 2000) + 300}')
./registers "$rounds"
