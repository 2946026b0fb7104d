#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Trains, kills, goes on and generates in a loop. Each round ends with the bytes of a run that nobody touched: checkpoints,
# metrics but for their times, stories. Before that, a run of 10,000 steps whose memory must stay flat.
#
#   scripts/soak.sh MINUTES [BIN]     BIN: a folder with the programs; without it they are built in build/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || { echo "usage: soak.sh MINUTES [BIN]" >&2; exit 2; }
minutes=$1
bin=${2:-}
steps=${STORYLM_SOAK_STEPS:-10000}  # of the run whose memory is looked at
folder=build/check/soak
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
if [ -z "$bin" ]; then
  configure build -DCMAKE_BUILD_TYPE=Release >/dev/null
  build build make_stories prepare_stories train_stories generate_stories
  bin=build/bin
fi

fail() { echo "soak.sh: $*" >&2; exit 1; }
lines_of() { if [ -e "$1" ]; then wc -l <"$1"; else echo 0; fi; }
child=
trap '[ -z "$child" ] || kill -9 "$child" 2>/dev/null || true' EXIT

rm -rf "$folder"
mkdir -p "$folder"
"$bin/make_stories" --count 20000 --output-dir "$folder/shards" 2>"$folder/log"
"$bin/prepare_stories" --vocab-size 512 --input "$folder/shards" --output-dir "$folder/data" >>"$folder/log" 2>&1
training=("$bin/train_stories" --data-dir "$folder/data" --model story_tiny --max-len 64 --batch-size 4 --micro-tokens 128)

# In KiB, after each thousand steps.
"${training[@]}" --run-dir "$folder/long" --max-steps "$steps" --validate-every 1000 2>>"$folder/log" &
child=$!
memory=()
for ((next = steps / 10; next < steps; next += steps / 10)); do
  until [ "$(lines_of "$folder/long/metrics.jsonl")" -ge "$next" ]; do
    kill -0 $child 2>/dev/null || fail "the long run ended early: $(tail -n 1 "$folder/log")"
    sleep 0.02
  done
  memory+=("$(awk '/^VmRSS/ { print $2 }' /proc/$child/status)")
done
wait $child || fail "the long run failed: $(tail -n 1 "$folder/log")"
child=
echo "soak.sh: memory in KiB after each $((steps / 10)) of $steps steps: ${memory[*]}"
growth=$((memory[-1] - memory[1]))
[ "$growth" -le 2048 ] || fail "memory grew by $growth KiB"

without_times() {
  sed -E 's/, "(seconds|tokens_per_second|generation_tokens_per_second)": [^,}]*//g' "$1/metrics.jsonl"
}
stories_of() {
  "$bin/generate_stories" --checkpoint-path "$1/checkpoint_last.safetensors" --prompt "Once upon a time " \
    --gen-quantity 3 --seed "$2" 2>>"$folder/log"
}

RANDOM=7
rounds=0 kills=0 stories=0
end=$((SECONDS + 60 * minutes))
while [ $rounds = 0 ] || [ $SECONDS -lt $end ]; do
  rounds=$((rounds + 1))
  rm -rf "$folder/straight" "$folder/killed"
  round=("${training[@]}" --seed $rounds --max-steps 300 --validate-every 25)
  [ $((rounds % 2)) = 1 ] || round+=(--spike-threshold 2 --spike-window 10)
  "${round[@]}" --run-dir "$folder/straight" --threads 2 2>>"$folder/log" || fail "round $rounds: $(tail -n 1 "$folder/log")"
  while true; do
    minutes_apart=10
    [ $((RANDOM % 2)) = 0 ] || minutes_apart=0.0001
    "${round[@]}" --run-dir "$folder/killed" --threads $((1 + RANDOM % 3)) --checkpoint-minutes $minutes_apart \
      2>>"$folder/log" &
    child=$!
    sleep "$(printf '%d.%03d' $((RANDOM % 2)) $((RANDOM % 1000)))"
    if [ $((RANDOM % 4)) = 0 ]; then signal=TERM; else signal=KILL; fi
    kill -$signal $child 2>/dev/null || true
    status=0
    { wait $child; } 2>/dev/null || status=$?  # without what the shell says of it
    child=
    [ $status != 0 ] || break
    [ $status = 137 ] || [ $status = 143 ] || fail "round $rounds: exit code $status: $(tail -n 1 "$folder/log")"
    kills=$((kills + 1))
    if [ -e "$folder/killed/checkpoint_last.safetensors" ]; then
      stories_of "$folder/killed" $kills >"$folder/stories" || fail "round $rounds: no stories: $(tail -n 1 "$folder/log")"
      stories=$((stories + 3))
    fi
  done
  for file in checkpoint_last.safetensors checkpoint_best.safetensors; do
    cmp "$folder/straight/$file" "$folder/killed/$file" || fail "round $rounds: $file differs"
  done
  cmp <(without_times "$folder/straight") <(without_times "$folder/killed") || fail "round $rounds: metrics differ"
  cmp <(stories_of "$folder/straight" 1) <(stories_of "$folder/killed" 1) || fail "round $rounds: stories differ"
done
echo "soak.sh: passed: $rounds rounds of 300 steps, $kills stops, $stories stories on the way; every round ended equal"
