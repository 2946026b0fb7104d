#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Trains a tiny model for some steps, loads its checkpoint into PyTorch's nn.TransformerEncoder and compares the logits.
#
#   scripts/check_pytorch_loading.sh      PYTHON names an interpreter with torch and safetensors (default: python3)
#
# Exit code 0: they agree to 1e-5 of the largest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

python=${PYTHON:-python3}
folder=build/check/pytorch_loading
"$python" -c 'import torch, safetensors' || {
  echo "check_pytorch_loading.sh: $python lacks torch or safetensors; PYTHON=... names another" >&2
  exit 2
}
configure build -DCMAKE_BUILD_TYPE=Release >/dev/null
build build make_stories prepare_stories compare_training
rm -rf $folder
build/bin/make_stories --output-dir $folder/shards --count 2000 --seed 1
build/bin/prepare_stories --input $folder/shards --output-dir $folder/data --vocab-size 512
build/bin/compare_training --data-dir $folder/data --output-dir $folder/run --model story_tiny --steps 20 --lr 1e-3
"$python" scripts/load_in_pytorch.py $folder/run/final.safetensors --compare $folder/run/logits.safetensors
