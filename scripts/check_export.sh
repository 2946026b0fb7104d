#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Exports models of every shape and compares them with ours in transformers, PyTorch and llama.cpp.
#
#   scripts/check_export.sh [options of check_export.py]    PYTHON names an interpreter with torch, transformers and
#                                                           safetensors (default: python3); BUILD a build folder
#
# Exit code 0: all agree.
set -euo pipefail
start=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

python=${PYTHON:-python3}
"$python" -c 'import safetensors, torch, transformers' || {
  echo "check_export.sh: $python lacks torch, transformers or safetensors; PYTHON=... names another" >&2
  exit 2
}
build_folder=${BUILD:-build}
configure "$build_folder" -DCMAKE_BUILD_TYPE=Release >/dev/null
build "$build_folder" make_stories make_export_models export_model
script=$PWD/scripts/check_export.py
programs=$(cd "$build_folder" && pwd)/bin
cd "$start"
exec "$python" "$script" --bin "$programs" "$@"
