#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From nothing to stories: installs what is missing, builds the programs, makes a corpus, trains a small model on it and
# prints three stories. Everything lands in build/. Interrupted and started again, it goes on where it was.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

preset=story_3m
vocabulary=1024  # the preset's
stories=20000
steps=600
bin=build/bin demo=build/demo run=build/demo/run

heading() { printf '\n== %s\n' "$*" >&2; }

# once NAME COMMAND...: runs the command unless it has succeeded before with the same arguments.
once() {
  local stamp=$demo/$1.done
  shift
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$*" ] && return
  "$@"
  echo "$*" >"$stamp"
}

trap 'echo "demo.sh: stopped; start it again and it goes on from here" >&2' ERR
scripts/setup.sh

heading "building the programs"
configure build -DCMAKE_BUILD_TYPE=Release -DSTORYLM_BUILD_EXAMPLES=ON >/dev/null
build build make_stories prepare_stories train_stories generate_stories
mkdir -p $demo

heading "making a corpus of $stories stories"
once shards $bin/make_stories --output-dir $demo/shards --count $stories --seed 1 --overwrite

heading "training the tokenizer and tokenizing"
once data $bin/prepare_stories --input $demo/shards --output-dir $demo/data --vocab-size $vocabulary

heading "training $preset for $steps steps"
$bin/train_stories --data-dir $demo/data --run-dir $run --model $preset --max-steps $steps --batch-size 64 --lr 1e-3 \
  --validate-every 200 --dropout 0
echo "loss curves: $run/loss.svg" >&2

heading "three stories"
$bin/generate_stories --checkpoint-path $run/checkpoint_best.safetensors --prompt "Once upon a time " --gen-topk 10 \
  --gen-temperature 0.8 --gen-quantity 3
