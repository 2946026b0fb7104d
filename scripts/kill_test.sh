#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Kills training runs at random moments and at each call that changes a file; they must end as one that nobody touched.
#
#   scripts/kill_test.sh [KILLS]      100 unless said; minutes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

kills=${1:-100}
[[ $kills =~ ^[1-9][0-9]*$ ]] || { echo "usage: kill_test.sh [KILLS]" >&2; exit 2; }
configure build -DCMAKE_BUILD_TYPE=Release >/dev/null
build build examples_train_kills_test
mkdir -p build/check/kills
cd build/check/kills
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
STORYLM_KILLS=$kills ../../tests/bin/examples_train_kills_test --duration
