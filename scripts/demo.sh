#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# From nothing to stories: installs what is missing, builds the programs, makes a corpus, trains a small model on it and
# prints three stories. Everything lands in build/. Interrupted and started again, it goes on where it was.
set -Eeuo pipefail  # E: the trap holds in functions too
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh
source scripts/demo_model.sh

demo=build/demo
programs=$demo/programs  # a build of their own: for the CPU, without minutes of nvcc where there is one
bin=$programs/bin

trap 'echo "demo.sh: stopped; start it again and it goes on from here" >&2' ERR
scripts/setup.sh

heading "building the programs"
configure $programs -DCMAKE_BUILD_TYPE=Release -DSTORYLM_BUILD_TESTS=OFF -DSTORYLM_CUDA=OFF >/dev/null
build $programs make_stories prepare_stories train_stories generate_stories >&2

make_model $demo $bin >&2
echo "loss curves: $demo/run/loss.svg" >&2

heading "three stories"
tell_stories $demo $bin 3
