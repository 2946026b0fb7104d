#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The slower checks, before a change is merged. Warnings are errors.
#
#   scripts/check.sh                     all of them
#   scripts/check.sh format docs ...     these only: format portable clang sanitize tidy docs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

# Every source is laid out by .clang-format.
check_format() {
  git ls-files '*.hpp' '*.cpp' '*.cuh' '*.cu' | xargs -r clang-format --dry-run --Werror
}

# Without -march=native, as a distributor builds: vectors are those of the plainest machine.
check_portable() {
  configure build/check/portable -DCMAKE_BUILD_TYPE=Release -DSTORYLM_NATIVE=OFF -DSTORYLM_WERROR=ON
  build build/check/portable all
  run_tests build/check/portable --label-exclude "compile|consumer"
}

check_clang() {
  configure build/check/clang -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++ -DSTORYLM_WERROR=ON
  build build/check/clang all all_verify_interface_header_sets
  run_tests build/check/clang
}

# Addresses and undefined behaviour. Tests labelled slow would take hours here.
check_sanitize() {
  configure build/check/sanitize --preset sanitize
  build build/check/sanitize all
  ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
    run_tests build/check/sanitize --label-exclude "slow|compile|consumer"
}

# Each header as a source of its own, and the programs.
check_tidy() {
  configure build/check/clang -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++ -DSTORYLM_WERROR=ON
  build build/check/clang all_verify_interface_header_sets  # writes the sources that include one header each
  run-clang-tidy -quiet -p build/check/clang -j "$(jobs)" '_verify_interface_header_sets/|/examples/'
}

check_docs() {
  mkdir -p build/docs
  doxygen docs/Doxyfile
}

stages=("$@")
[ $# -gt 0 ] || stages=(format docs portable clang sanitize tidy)
for stage in "${stages[@]}"; do
  declare -F "check_$stage" >/dev/null || { echo "check.sh: no check is called $stage" >&2; exit 2; }
done
scripts/setup.sh --developer
failed=()
for stage in "${stages[@]}"; do
  echo "== $stage"
  set +e  # a subshell beside || would not stop at its first failure
  (set -e; "check_$stage")
  status=$?
  set -e
  [ "$status" = 0 ] || failed+=("$stage")
done
if [ "${#failed[@]}" -gt 0 ]; then
  echo "check.sh: failed: ${failed[*]}" >&2
  exit 1
fi
echo "check.sh: passed: ${stages[*]}"
