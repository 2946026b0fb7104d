# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Shared by the scripts beside it, which source it from the root of the repository.

# How many compilers at once: one per core, but no more than the memory holds at about 1.5 GB each.
jobs() {
  local cores gigabytes
  cores=$(nproc)
  gigabytes=$(awk '/^MemAvailable/ { print int($2 / 1572864) }' /proc/meminfo 2>/dev/null || echo "$cores")
  [ "${gigabytes:-0}" -ge 1 ] || gigabytes=1
  echo $((gigabytes < cores ? gigabytes : cores))
}

# configure FOLDER [CMake arguments...]: an existing folder keeps its generator.
configure() {
  local folder=$1 generator=()
  shift
  if [ ! -e "$folder/CMakeCache.txt" ] && command -v ninja >/dev/null; then generator=(-G Ninja); fi
  cmake -S . -B "$folder" "${generator[@]}" ${BOOST_ROOT:+"-DBOOST_ROOT=$BOOST_ROOT"} \
    ${STORYLM_FUZZ:+"-DSTORYLM_FUZZ=$STORYLM_FUZZ"} "$@"
}

# What tests compile kernels for: the GPU that is here, else one architecture; scripts/check.sh cuda does all of them.
cuda_architectures_here() {
  if nvidia-smi -L 2>/dev/null | grep '^GPU 0' >/dev/null; then echo native; else echo 80; fi
}

# build FOLDER TARGET...
build() {
  local folder=$1
  shift
  cmake --build "$folder" --parallel "$(jobs)" --target "$@"
}

# run_tests FOLDER [CTest arguments...]: no test at all is a failure. Ends with the sum of what doctest counted.
run_tests() {
  local folder=$1 status=0
  shift
  ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$(nproc)" "$@" || status=$?
  awk '/^\[doctest\] test cases: / { cases += $4; failed += $9 }
       /^\[doctest\] assertions: / { assertions += $3; wrong += $8 }
       END { printf "doctest: %d test cases, %d failed; %d assertions, %d failed\n", cases, failed, assertions, wrong }' \
    "$folder/Testing/Temporary/LastTest.log"
  return $status
}
