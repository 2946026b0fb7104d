#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# demo_model.sh FOLDER BIN: makes the demo's corpus, tokenizer and model in FOLDER with the programs in BIN: shards/,
# data/ and run/. What is there and still right stays; a run that was interrupted goes on.
# demo.sh and the test of the demo's model source this file, so that what is tested is what is shown.
set -euo pipefail

stories=20000
vocabulary=1024  # the model's
model=story_3m
steps=${STORYLM_DEMO_STEPS:-500}
training=(--batch-size 16 --lr 1.5e-3 --dropout 0 --validate-every 100)

sampling=(--gen-topk 5 --gen-temperature 0.5)

# Threads that wait for work sleep instead of spinning: on a machine that does other things too, many times faster.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

heading() { printf '\n== %s\n' "$*" >&2; }

# keep PATH ORIGIN: what was made from that origin stays, anything else is removed.
keep() {
  if [ ! -f "$1.origin" ] || [ "$(cat "$1.origin")" != "$2" ]; then
    rm -rf "$1"
    echo "$2" >"$1.origin"
  fi
}

# make_model FOLDER BIN
make_model() {
  local folder=$1 bin=$2 origin
  mkdir -p "$folder"

  heading "making a corpus of $stories stories"
  origin="$stories stories, $(cksum <"$bin/make_stories")"
  keep "$folder/shards" "$origin"
  [ -d "$folder/shards" ] || "$bin/make_stories" --output-dir "$folder/shards" --count "$stories" --seed 1

  heading "training the tokenizer and tokenizing"
  origin="$origin, $vocabulary pieces, $(cksum <"$bin/prepare_stories")"
  keep "$folder/data" "$origin"
  [ -f "$folder/data/stories.tokens" ] ||
    "$bin/prepare_stories" --input "$folder/shards" --output-dir "$folder/data" --vocab-size "$vocabulary"

  heading "training $model for $steps steps"
  keep "$folder/run" "$origin, $model ${training[*]}"
  "$bin/train_stories" --data-dir "$folder/data" --run-dir "$folder/run" --model "$model" --max-steps "$steps" \
    "${training[@]}"
}

# tell_stories FOLDER BIN COUNT: one story a line, from the model in FOLDER.
tell_stories() {
  "$2/generate_stories" --checkpoint-path "$1/run/checkpoint_best.safetensors" --prompt "Once upon a time " \
    "${sampling[@]}" --gen-quantity "$3"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  [ $# -eq 2 ] || { echo "usage: demo_model.sh FOLDER BIN" >&2; exit 2; }
  make_model "$@"
fi
