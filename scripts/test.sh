#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is missing, builds everything in build/ and runs every test.
#
#   scripts/test.sh [--werror]       --werror: a compiler warning is an error
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

werror=OFF
case "${1:-}" in
  "") ;;
  --werror) werror=ON ;;
  *) echo "usage: test.sh [--werror]" >&2; exit 2 ;;
esac

scripts/setup.sh --machines
configure build -DCMAKE_BUILD_TYPE=Release -DSTORYLM_BUILD_TESTS=ON -DSTORYLM_BUILD_EXAMPLES=ON \
  -DSTORYLM_WERROR=$werror -DSTORYLM_CUDA_ARCHITECTURES="$(cuda_architectures_here)"
build build all all_verify_interface_header_sets
run_tests build --label-exclude mutations  # those take a while: scripts/check.sh mutations
