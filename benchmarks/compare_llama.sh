#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Generation beside llama2.c and llama.cpp: the same Llama-shaped model with random weights, one story, one and two
# threads, in alternation.
#
#   benchmarks/compare_llama.sh --llama2c FOLDER --llama-cpp FOLDER [options of compare_llama.py]
#
# FOLDER has the built program (run, and llama-bench with llama-completion; also in bin/ or build/bin/);
# docs/benchmarks/llama.md says where they come from and how they should be built. One that is not given is left out.
# PYTHON names an interpreter (default: python3), BUILD a build folder (default: build).
set -euo pipefail
start=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

build_folder=${BUILD:-build}
configure "$build_folder" -DCMAKE_BUILD_TYPE=Release >/dev/null
build "$build_folder" llama_model llama_generation export_model
script=$PWD/benchmarks/compare_llama.py
programs=$(cd "$build_folder" && pwd)/bin
cd "$start"
exec "${PYTHON:-python3}" "$script" --bin "$programs" "$@"
