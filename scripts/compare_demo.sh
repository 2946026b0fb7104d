#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The comparison in small, in some minutes on two cores: trains a judge (Llama's shape), a writer (the reference system's) and a
# baseline (GPT-2's, for fewer steps) on the same stories, hands judge and baseline on as Hugging Face folders, checks that the judge
# prefers stories it has not seen to the same with their words shuffled, and makes the table of compare_stories.
#
#   scripts/compare_demo.sh FOLDER BIN [STORIES]
#
# STORIES: text or .json shards, as prepare_stories takes them; without it stories of the demo's grammar. BIN: the programs' folder,
# such as build/bin. Everything lands in FOLDER; what is there is not made again. STORYLM_DEMO_STEPS: of judge and writer (600).
set -euo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  sed -n '3,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1 bin=$2 stories=${3:-}
steps=${STORYLM_DEMO_STEPS:-600}
quantity=${STORYLM_DEMO_QUANTITY:-50}
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
say() { printf '\n== %s\n' "$*" >&2; }
mkdir -p "$folder"

if [ ! -f "$folder/held_out.txt" ]; then
  say "stories: nine of ten to learn from, one held out"
  if [ -z "$stories" ]; then
    rm -rf "$folder/shards"
    "$bin/make_stories" --output-dir "$folder/shards" --count 8000 --seed 1
    stories=$folder/shards
  fi
  "$bin/prepare_stories" --input "$stories" --output-dir "$folder/all" --vocab-size 1024
  awk 'NR % 10 != 0' "$folder/all/stories.txt" >"$folder/training.txt"
  awk 'NR % 10 == 0' "$folder/all/stories.txt" >"$folder/held_out.part"
  mv "$folder/held_out.part" "$folder/held_out.txt"
fi
[ -f "$folder/data/stories.tokens" ] ||
  "$bin/prepare_stories" --input "$folder/training.txt" --output-dir "$folder/data" --vocab-size 1024

# train NAME MODEL STEPS
train() {
  say "training $1: $2, $3 steps"
  "$bin/train_stories" --data-dir "$folder/data" --run-dir "$folder/$1" --model "$2" --max-steps "$3" --batch-size 16 --lr 1.5e-3 \
    --dropout 0 --validate-every 200 --dtype bfloat16
}
train judge_run story_llama_3m "$steps"
train writer_run story_3m "$steps"
train baseline_run story_gpt2_3m "$((steps / 4))"
for name in judge baseline; do
  [ -d "$folder/$name" ] || "$bin/export_model" --checkpoint-path "$folder/${name}_run/checkpoint_best.safetensors" --format hf \
    --output "$folder/$name"
done

say "held-out stories, and the same with their words shuffled, as the judge finds them"
python3 "$scripts/shuffle_stories.py" "$folder/held_out.txt" "$folder/shuffled.txt"
"$bin/judge_stories" --judge "$folder/judge" --input "$folder/held_out.txt" "$folder/shuffled.txt" --json "$folder/judged.json"
python3 - "$folder/judged.json" <<'PYTHON'
import json, sys
real, shuffled = json.load(open(sys.argv[1]))["files"]
gap = (shuffled["mean_nll"] - real["mean_nll"]) / (real["standard_error"] ** 2 + shuffled["standard_error"] ** 2) ** 0.5
preferred = sum(a["nll"] / max(1, a["tokens"]) < b["nll"] / max(1, b["tokens"]) for a, b in zip(real["per_story"], shuffled["per_story"]))
print(f"the judge prefers {preferred} of {len(real['per_story'])} stories to their shuffled selves; {gap:.0f} standard errors apart")
if gap < 10 or preferred < 0.99 * len(real["per_story"]):
    sys.exit("compare_demo.sh: that is no wide margin")
PYTHON

say "the table"
"$bin/compare_stories" --checkpoint-path "$folder/writer_run/checkpoint_best.safetensors" --baseline "$folder/baseline" \
  --judge "$folder/judge" --gen-quantity "$quantity" --prompt "Once upon a time " --seed 1 --output-dir "$folder/comparison"
echo "$folder/comparison/comparison.html" >&2
