#!/usr/bin/env bash
# Fuzzes one target for a while, from its seeds and what earlier runs found.
# Usage: fuzz.sh PROGRAM SECONDS
set -euo pipefail

program=$1
seconds=$2
target=$(basename "$program")
found=target/fuzz-corpus/$target
log=target/fuzz-artifacts/$target.log
mkdir -p "$found" target/fuzz-artifacts
echo "fuzzing $target for $seconds s; progress in $log"
if ! "$program" -max_total_time="$seconds" -artifact_prefix=target/fuzz-artifacts/ \
    "$found" "tests/fuzz/corpus/$target" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "fuzz: $target failed; its input lies in target/fuzz-artifacts/" >&2
    exit 1
fi
tail -n 1 "$log"
