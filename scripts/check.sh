#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The slower checks, before a change is merged. Warnings are errors.
#
#   scripts/check.sh                     all of them
#   scripts/check.sh format docs ...     these only: format portable x86_64_v3 aarch64 clang sanitize tidy docs
#                                        no_cuda kills soak mutations cuda ptx registers
#
# The last three need nvcc and no GPU; STORYLM_UPDATE_REGISTERS=1 lets registers write its budget anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh

# Every source is laid out by .clang-format.
check_format() {
  git ls-files '*.hpp' '*.cpp' '*.cuh' '*.cu' | xargs -r clang-format --dry-run --Werror
}

# Without -march=native, as a distributor builds: all instruction sets, and the tests with each that this machine has.
check_portable() {
  local set
  configure build/check/portable -DCMAKE_BUILD_TYPE=Release -DSTORYLM_NATIVE=OFF -DSTORYLM_WERROR=ON -DSTORYLM_CUDA=OFF
  build build/check/portable all
  run_tests build/check/portable --label-exclude "compile|consumer|mutations"
  for set in baseline avx2 avx512 avx512_bf16; do
    if ! STORYLM_INSTRUCTION_SET=$set build/check/portable/bin/course/01_tell_a_story >/dev/null 2>&1; then
      echo "check.sh: skipped: this machine or build has no $set"
      continue
    fi
    echo "-- with $set"
    STORYLM_INSTRUCTION_SET=$set run_tests build/check/portable --label-exclude "slow|compile|consumer|mutations|machines" \
      --tests-regex '^(kernels|ops|nn|optim|models|generate|train)_'
  done
}

# For machines from 2013 on, and no other.
check_x86_64_v3() {
  [ "$(uname -m)" = x86_64 ] || { echo "check.sh: skipped: not an x86-64 machine"; return 0; }
  configure build/check/x86_64_v3 -DCMAKE_BUILD_TYPE=Release -DSTORYLM_NATIVE=OFF -DSTORYLM_WERROR=ON -DSTORYLM_CUDA=OFF \
    -DSTORYLM_BUILD_EXAMPLES=OFF "-DCMAKE_CXX_FLAGS=-march=x86-64-v3 -DSTORYLM_PINNED"
  build build/check/x86_64_v3 all
  run_tests build/check/x86_64_v3 --label-exclude "slow|compile|consumer|mutations|machines"
}

# What touches a kernel, cross-compiled and on an emulated machine: NEON.
check_aarch64() {
  if ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; then
    echo "check.sh: skipped: no aarch64-linux-gnu-g++ or no qemu-aarch64 on this machine"
    return 0
  fi
  configure build/check/aarch64 -DCMAKE_BUILD_TYPE=Release -DSTORYLM_NATIVE=OFF -DSTORYLM_WERROR=ON -DSTORYLM_CUDA=OFF \
    -DSTORYLM_BUILD_EXAMPLES=OFF -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake
  build build/check/aarch64 kernel_tests
  run_tests build/check/aarch64 --tests-regex '^(core|tensor|kernels|ops|optim)_'
}

check_clang() {
  configure build/check/clang -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++ -DSTORYLM_WERROR=ON \
    -DSTORYLM_CUDA_ARCHITECTURES=80
  build build/check/clang all all_verify_interface_header_sets
  run_tests build/check/clang --label-exclude mutations
}

# Addresses and undefined behaviour, of the CUDA kernels too (on the emulator). Tests labelled slow would take hours here.
check_sanitize() {
  configure build/check/sanitize --preset sanitize
  build build/check/sanitize all
  ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
    run_tests build/check/sanitize --label-exclude "slow|compile|consumer|mutations|machines"
}

# Each header as a source of its own, and the programs.
check_tidy() {
  configure build/check/clang -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER=clang++ -DSTORYLM_WERROR=ON \
    -DSTORYLM_CUDA_ARCHITECTURES=80
  build build/check/clang all_verify_interface_header_sets  # writes the sources that include one header each
  run-clang-tidy -quiet -p build/check/clang -j "$(jobs)" '_verify_interface_header_sets/|/examples/'
}

# As on a machine that has never seen CUDA: the toolkit's folders are hidden, if this machine lets us, and in any case nothing
# of them may be opened.
check_no_cuda() {
  local folder=build/check/no_cuda toolkit
  toolkit=$(readlink -f /usr/local/cuda || true)
  local here=(env -u CUDACXX PATH="$(tr ':' '\n' <<<"$PATH" | grep -v cuda | paste -sd:)")
  if [ -d "$toolkit" ] && unshare --mount true 2>/dev/null; then
    here=(unshare --mount bash -c 'mount -t tmpfs none "$0" && exec "$@"' "$toolkit" "${here[@]}")
  fi
  rm -rf "$folder"
  "${here[@]}" bash -c 'set -euo pipefail; source scripts/common.sh; configure "$0" -DCMAKE_BUILD_TYPE=Release -DSTORYLM_WERROR=ON \
    -DSTORYLM_INSTALL=OFF; build "$0" all; run_tests "$0" --label-regex emulator --label-exclude mutations' "$folder"
  scripts/check_no_cuda.py "$folder"
}

# Every kernel, test and program for sm_80, sm_86, sm_89 and sm_90, and PTX for what is newer; each .cuh alone; kernels once
# for all that nvcc knows.
check_cuda() {
  configure_cuda
  build build/check/cuda all storylm_cuda_headers_alone gpu_training gpu_generation gpu_determinism
  run_tests build/check/cuda --label-regex "gpu|emulator" --label-exclude mutations
  scripts/gpu_check.sh --emulated
  configure build/check/cuda_all_major -DCMAKE_BUILD_TYPE=Release -DSTORYLM_WERROR=ON -DSTORYLM_CUDA=ON \
    -DSTORYLM_CUDA_ARCHITECTURES=all-major
  build build/check/cuda_all_major storylm_program_kernels cuda_promises_test
}
configure_cuda() {
  configure build/check/cuda -DCMAKE_BUILD_TYPE=Release -DSTORYLM_WERROR=ON -DSTORYLM_CUDA=ON \
    "-DSTORYLM_CUDA_ARCHITECTURES=80-real;86-real;89-real;90"
}

# Each barrier and each wait of the kernels left out in turn: some test must notice.
check_mutations() {
  configure build/check/mutations -DCMAKE_BUILD_TYPE=Release -DSTORYLM_WERROR=ON -DSTORYLM_CUDA=OFF
  build build/check/mutations all
  run_tests build/check/mutations --label-regex mutations
}

# Training runs killed a hundred times, and at each call that changes a file.
check_kills() {
  scripts/kill_test.sh 100
}

# Train, kill, go on, generate, and a long run's memory; STORYLM_SOAK_MINUTES=60 for an hour.
check_soak() {
  scripts/soak.sh "${STORYLM_SOAK_MINUTES:-5}"
}

check_ptx() {
  scripts/check_ptx.py
}

# Registers, stack and spills of every kernel.
check_registers() {
  configure_cuda
  build build/check/cuda storylm_program_kernels
  if [ "${STORYLM_UPDATE_REGISTERS:-0}" = 1 ]; then
    find build/check/cuda/CMakeFiles/storylm_program_kernels.dir -name '*.cu.o' -print0 |
      xargs -0 scripts/check_registers.py --update --compiler "$(nvcc --version | sed -nE 's/.*V([0-9.]+).*/\1/p')"
  fi
  run_tests build/check/cuda --tests-regex '^registers$'
}

check_docs() {
  mkdir -p build/docs
  doxygen docs/Doxyfile
}

stages=("$@")
if [ $# = 0 ]; then
  stages=(format docs portable x86_64_v3 aarch64 clang sanitize tidy no_cuda kills soak mutations)
  command -v nvcc >/dev/null && stages+=(cuda ptx registers)
fi
for stage in "${stages[@]}"; do
  declare -F "check_$stage" >/dev/null || { echo "check.sh: no check is called $stage" >&2; exit 2; }
done
scripts/setup.sh --developer --machines
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
