#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fuzzes every reader for a long time, on all cores. What it finds to be new is kept for the next time.
#
#   scripts/fuzz.sh MINUTES [READER...]     MINUTES each; readers are those of tests/fuzz/*_fuzz.cpp (default: all)
#
# STORYLM_FUZZ_CORPUS names the folder of corpora and findings (default: ~/.cache/storylm-fuzz), outside this repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

minutes=${1:-}
[[ "$minutes" =~ ^[0-9]+$ && "$minutes" -gt 0 ]] || { echo "usage: fuzz.sh MINUTES [READER...]" >&2; exit 2; }
shift
readers=("$@")
if [ $# = 0 ]; then
  for source in tests/fuzz/*_fuzz.cpp; do readers+=("$(basename "$source" _fuzz.cpp)"); done
fi
kept=${STORYLM_FUZZ_CORPUS:-${XDG_CACHE_HOME:-$HOME/.cache}/storylm-fuzz}
scripts/setup.sh --developer
STORYLM_FUZZ=ON configure build/fuzz -DCMAKE_BUILD_TYPE=Release -DSTORYLM_BUILD_EXAMPLES=OFF -DSTORYLM_CUDA=OFF -DSTORYLM_LINK_KERNELS=OFF
build build/fuzz fuzz_targets
for reader in "${readers[@]}"; do
  [ -x "build/fuzz/tests/fuzz/bin/${reader}_fuzz" ] || { echo "fuzz.sh: no reader is called $reader" >&2; exit 2; }
done
printf '%s\n' "${readers[@]}" | xargs -P "$(nproc)" -I READER tests/fuzz/fuzz.sh build/fuzz/tests/fuzz/bin/READER_fuzz \
  $((60 * minutes)) "$kept/READER" "$kept/findings"
