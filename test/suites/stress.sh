#!/bin/sh
# stress-ng checks its own work, for $MINUTES.
set -eu

seconds=$(gawk -v m="$MINUTES" 'BEGIN {print int(m * 60)}')
stress-ng --verify --cpu 2 --vecmath 2 --atomic 2 --switch 2 --mmap 2 \
    --mmap-bytes 64M --fork 2 -t "$seconds" >&2
echo verified
