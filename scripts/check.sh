#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The slower checks, before a change is merged. Warnings are errors.
#
#   scripts/check.sh                     all of them
#   scripts/check.sh format docs ...     these only: format portable x86_64_v3 aarch64 clang sanitize valgrind tsan fuzz
#                                        tidy docs no_cuda kills soak comparison mutations cuda ptx registers
#
# The last three need nvcc and no GPU; STORYLM_UPDATE_REGISTERS=1 lets registers write its budget anew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/common.sh
export STORYLM_FUZZ=OFF  # clang++ compiles the fuzz targets whatever a stage is about: once, in check_fuzz

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

# Every reader against bytes of an enemy; STORYLM_FUZZ_MINUTES=60 for an hour each.
check_fuzz() {
  scripts/fuzz.sh "${STORYLM_FUZZ_MINUTES:-1}"
}

# Readers of files under memcheck, which sees what is read before it was written. Valgrind 3.19 knows no AVX-512: kernels for
# all machines, of which those that it says it has are taken.
check_valgrind() {
  local tests=(detail_hash io_json io_safetensors io_checkpoint io_config_json io_model_file data_token_file data_stories
    text_tokenizer_settings) test
  if ! command -v valgrind >/dev/null; then
    echo "check.sh: skipped: no valgrind on this machine"
    return 0
  fi
  configure build/check/valgrind -DCMAKE_BUILD_TYPE=RelWithDebInfo -DSTORYLM_NATIVE=OFF -DSTORYLM_WERROR=ON -DSTORYLM_CUDA=OFF \
    -DSTORYLM_BUILD_EXAMPLES=OFF
  build build/check/valgrind "${tests[@]/%/_test}"
  for test in "${tests[@]}"; do
    echo "-- $test"
    (cd build/check/valgrind/tests && OMP_NUM_THREADS=1 valgrind --quiet --error-exitcode=1 --leak-check=full \
      --errors-for-leak-kinds=definite "bin/${test}_test" \
      --test-case-exclude="*anywhere*,*changed byte*,*claims of sizes*")  # slow; the last counts calls that valgrind takes over
  done
}

# Threads: the loader's, the pipelines' and the kernels'. Archer tells ThreadSanitizer what OpenMP's threads wait for, so that
# it must be clang's OpenMP. The emulator's fibers are left out.
check_tsan() {
  local tests=(data_ordered_pipeline data_stories_parallel data_loader kernels_parallel) test archer
  archer=$(dirname "$(readlink -f "$(command -v clang++)")")/../lib/libarcher.so
  [ -e "$archer" ] || { echo "check.sh: skipped: no libarcher.so beside clang++ (libomp-dev has it)"; return 0; }
  configure build/check/tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=clang++ -DSTORYLM_WERROR=ON \
    -DSTORYLM_CUDA=OFF -DSTORYLM_BUILD_EXAMPLES=OFF -DSTORYLM_LINK_KERNELS=OFF "-DCMAKE_CXX_FLAGS=-fsanitize=thread" \
    -DCMAKE_EXE_LINKER_FLAGS=-Wl,-z,muldefs  # tests that count allocations have an operator new of their own, as TSan has
  build build/check/tsan "${tests[@]/%/_test}"
  for test in "${tests[@]}"; do
    echo "-- $test"
    (cd build/check/tsan/tests && OMP_NUM_THREADS=4 OMP_TOOL_LIBRARIES=$archer \
      TSAN_OPTIONS="ignore_noninstrumented_modules=1:halt_on_error=0:exitcode=66" "bin/${test}_test")
  done
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

# The comparison in small: a trained judge must prefer stories to the same with their words shuffled, by a wide margin.
check_comparison() {
  configure build -DCMAKE_BUILD_TYPE=Release >/dev/null
  build build make_stories prepare_stories train_stories export_model judge_stories compare_stories
  local folder
  folder=$(mktemp -d)
  STORYLM_DEMO_STEPS=60 STORYLM_DEMO_QUANTITY=5 scripts/compare_demo.sh "$folder" build/bin
  rm -rf "$folder"
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
  stages=(format docs portable x86_64_v3 aarch64 clang sanitize valgrind tsan fuzz tidy no_cuda kills
    soak comparison mutations)
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
