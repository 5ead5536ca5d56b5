#!/bin/sh
# Run one fuzz target for $FUZZ_SECONDS (5).  Its corpus in the tree is read
# only; what it finds is kept beside the program, where the next run goes on.
#
# usage: test/fuzz/run.sh PROGRAM CORPUS
set -eu

program=${1:?usage: run.sh PROGRAM CORPUS}
corpus=${2:?usage: run.sh PROGRAM CORPUS}
finds=$program.finds

mkdir -p "$finds/corpus"
[ -d "$corpus" ] || corpus=
exec "$program" -max_total_time="${FUZZ_SECONDS:-5}" -timeout=10 \
    -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="$finds/" "$finds/corpus" ${corpus:+"$corpus"}
