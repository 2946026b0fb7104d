#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs one fuzz target under limits of memory and time, over its own seeds and for some seconds more.
#
#   fuzz.sh PROGRAM SECONDS [CORPUS [ARTIFACTS]]
#
# CORPUS keeps what is found to be new from one run to the next (default: a folder that goes away); ARTIFACTS gets the
# input of a finding (default: the folder it is run in).
set -euo pipefail
program=$1 seconds=$2
name=$(basename "$program" _fuzz)
template=storylm-fuzz-run-XXXXXX
if [ -w /dev/shm ]; then work=$(mktemp -d -p /dev/shm "$template"); else work=$(mktemp -d -t "$template"); fi
trap 'rm -rf "$work"' EXIT
corpus=${3:-$work/corpus} artifacts=${4:-.}
mkdir -p "$corpus" "$artifacts" "$work/files"

# What a reader asks for is seen, not what the sanitizer keeps: 16 MB of freed memory at most.
export TMPDIR=$work/files ASAN_OPTIONS=quarantine_size_mb=16:detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1
"$program" --make-corpus="$work/seeds" 2>/dev/null
[ -n "$(ls "$work/seeds")" ] || { echo "fuzz.sh: $name makes no corpus" >&2; exit 1; }
status=0
"$program" -dict="$work/seeds.dict" -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=512 -malloc_limit_mb=128 \
  -print_final_stats=1 -artifact_prefix="$artifacts/$name-" "$corpus" "$work/seeds" >"$work/log" 2>&1 || status=$?
if [ "$status" != 0 ]; then
  grep -av '^#' "$work/log" | tail -n 60 >&2
  echo "fuzz.sh: $name: a finding (exit $status); its input is in $artifacts" >&2
  exit 1
fi
# 0 is a target that was never called.
awk -v name="$name" '/^stat::number_of_executed_units/ { runs = $2 } /^stat::peak_rss_mb/ { peak = $2 }
  / cov: / { for (i = 1; i < NF; ++i) if ($i == "cov:") coverage = $(i + 1) }
  END { printf "fuzz: %s: %d executions, coverage %d, peak %d MB, nothing found\n", name, runs, coverage, peak; exit runs == 0 }' \
  "$work/log"
