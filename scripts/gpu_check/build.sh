# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# What gpu_check.sh builds, and the headers it carries; gpu_check.sh sources it from the root of the repository. Uses its
# variables cmake, emulated, folder and build_limit, and sets bin.
# shellcheck disable=SC2154

# gather_headers FOLDER: Eigen, doctest and the part of Boost that storylm::io includes, as a prefix that CMake and -I understand.
gather_headers() {
  local to=$1 root list
  root=$(mktemp -d) || return 2
  mkdir -p "$to/include" "$to/share" || return 2
  printf '#include <Eigen/Core>\n' > "$root/eigen.cpp"
  printf '#include <doctest/doctest.h>\n' > "$root/doctest.cpp"
  local eigen=""
  for candidate in ${EIGEN_ROOT:+"$EIGEN_ROOT"} /usr/include/eigen3 /usr/local/include/eigen3; do
    [ -e "$candidate/Eigen/Core" ] && { eigen=$candidate; break; }
  done
  [ -n "$eigen" ] || { echo "gpu_check.sh: no Eigen in /usr/include/eigen3; say where with EIGEN_ROOT" >&2; return 2; }
  mkdir -p "$to/include/eigen3"
  cp -r "$eigen/Eigen" "$eigen/signature_of_eigen3_matrix_library" "$to/include/eigen3/"
  local config=${eigen%/include/eigen3}/share/eigen3
  [ -d "$config" ] && cp -r "$config" "$to/share/"

  # doctest and Boost: what the compiler says it reads, whole folders of it, for another compiler may read other files of them.
  local boost=${BOOST_ROOT:+-I"$BOOST_ROOT/include"}
  # shellcheck disable=SC2086
  list=$(g++ -std=c++20 -M $boost -DBOOST_JSON_HEADER_ONLY cmake/boost_json.cpp | tr ' \\' '\n\n' | grep '/boost/' | sort -u) ||
    { echo "gpu_check.sh: no headers of Boost" >&2; return 2; }
  local prefix=${list%%/boost/*}
  prefix=${prefix##*$'\n'}
  mkdir -p "$to/include/boost"
  for name in $(printf '%s\n' "$list" | sed "s#^$prefix/boost/##; s#/.*##" | sort -u); do
    cp -r "$prefix/boost/$name" "$to/include/boost/"
  done
  cp "$prefix"/boost/*.hpp "$to/include/boost/"
  local doctest
  doctest=$(g++ -M -x c++ "$root/doctest.cpp" | tr ' \\' '\n\n' | grep -m 1 'doctest/doctest.h$') ||
    { echo "gpu_check.sh: no doctest" >&2; return 2; }
  mkdir -p "$to/include/doctest"
  cp "$doctest" "$to/include/doctest/"
  for config in "${doctest%/include/doctest/doctest.h}"/lib/cmake/doctest "${doctest%/include/doctest/doctest.h}"/share/cmake/doctest; do
    [ -d "$config" ] && mkdir -p "$to/lib/cmake" && cp -r "$config" "$to/lib/cmake/"
  done
  rm -rf "$root"
  echo "gpu_check.sh: $(du -sm "$to" | cut -f 1) MB in $to: copy it to the same place of the tree on the GPU machine"
}

# Where the headers are: the folder that was carried, else the system.
include_flags() {
  local flags=""
  if [ -d build/carry/include ]; then
    flags="-isystem build/carry/include -isystem build/carry/include/eigen3"
  else
    flags="-isystem /usr/include/eigen3"
  fi
  echo "$flags"
}

programs="gpu_training gpu_generation gpu_determinism"

# within COMMAND...: what builds has until build_limit.
within() {
  local rest=$((build_limit - SECONDS))
  [ "$rest" -gt 0 ] || return 124
  timeout --kill-after=5 "$rest" "$@"
}

# build_all: programs and tests; sets bin. Programs first, for most parts need nothing else. CMake where it is and finds what it needs, else plain commands.
build_all() {
  local status=3
  if [ "$cmake" = on ] && command -v cmake > /dev/null; then
    build_with_cmake
    status=$?
  fi
  [ $status = 3 ] && [ "$emulated" = off ] || return $status
  build_without_cmake
}

# Returns 3 when CMake does not find what it needs.
build_with_cmake() {
  local generator=() prefix=() cuda=ON targets=()
  command -v ninja > /dev/null && [ ! -e "$folder/cmake/CMakeCache.txt" ] && generator=(-G Ninja)
  [ -d build/carry ] && prefix=("-DCMAKE_PREFIX_PATH=$PWD/build/carry" "-DBOOST_ROOT=$PWD/build/carry")
  [ "$emulated" = on ] && cuda=OFF
  within cmake -S . -B "$folder/cmake" "${generator[@]}" "${prefix[@]}" -DCMAKE_BUILD_TYPE=Release -DSTORYLM_CUDA=$cuda \
    -DSTORYLM_BUILD_EXAMPLES=OFF -DSTORYLM_INSTALL=OFF -DCMAKE_CUDA_FLAGS=-lineinfo || return 3
  local tests=()
  if [ "$emulated" = on ]; then
    bin=$folder/cmake/bin/emulated
    for program in $programs; do targets+=("emulated_$program"); done
    tests=(emulated_device_test)
  else
    bin=$folder/cmake/bin
    for program in $programs; do targets+=("$program"); done
    for test in tests/cuda/*_test.cpp; do tests+=("cuda_$(basename "$test" .cpp)"); done
  fi
  # A name that CMake does not know would stop all: a test that needs what is not here is left out.
  local known status=0
  known=$(cmake --build "$folder/cmake" --target help | sed -n 's/^[. ]*\([a-z_0-9]*\).*/\1/p')
  mapfile -t targets < <(printf '%s\n' "${targets[@]}" | grep -Fx -f <(printf '%s\n' "$known"))
  mapfile -t tests < <(printf '%s\n' "${tests[@]}" | grep -Fx -f <(printf '%s\n' "$known"))
  local go_on=-k  # what does not build must not stop the rest
  [ -e "$folder/cmake/build.ninja" ] && go_on=-k0
  [ "${#targets[@]}" = 0 ] || within cmake --build "$folder/cmake" --parallel "$(nproc)" --target "${targets[@]}" -- $go_on || status=1
  [ "${#tests[@]}" = 0 ] || within cmake --build "$folder/cmake" --parallel "$(nproc)" --target "${tests[@]}" -- $go_on || status=1
  return $status
}

# Kernels: one .cu for each op of instantiate.cuh, as cmake/cuda_kernels.cmake does it. Programs and tests: g++.
build_without_cmake() {
  local at=$folder/plain include arch failed=0
  mkdir -p "$at"
  include="-Iinclude -iquote tests $(include_flags)"
  [ -d build/carry/include ] || include="$include ${BOOST_ROOT:+-isystem $BOOST_ROOT/include}"
  local nvcc=${CUDA_HOME:-/usr/local/cuda}/bin/nvcc
  command -v nvcc > /dev/null && nvcc=$(command -v nvcc)
  local cuda header library
  cuda=$(dirname "$(dirname "$(realpath "$nvcc")")")
  arch=${CUDA_ARCH:-native}  # such as sm_90, where the GPU is another machine's
  # cuBLASLt may lie apart from nvcc, as Python's packages have it.
  header=$(find "$cuda" /usr /opt -name cublasLt.h 2> /dev/null | head -n 1)
  library=$(find "$cuda" /usr /opt -name 'libcublasLt.so*' 2> /dev/null | head -n 1)
  [ -n "$header" ] && [ -n "$library" ] || { echo "no cuBLASLt" >&2; return 1; }
  local cxx
  cxx="g++ -std=c++20 -O2 -march=native -fopenmp -DEIGEN_NO_CUDA -DSTORYLM_WITH_CUDA -DSTORYLM_WITH_IO $include -isystem $cuda/include -isystem $(dirname "$header")"
  local commands=$at/commands objects=$at/objects
  mkdir -p "$objects"
  rm -f "$at"/*.o "$objects"/*.o  # nothing of an earlier build must be linked or run
  for program in $programs; do rm -f "$folder/bin/$program"; done
  for test in tests/cuda/*_test.cpp; do rm -f "$folder/tests/cuda_$(basename "$test" .cpp)"; done
  : > "$commands"
  local list=include/storylm/kernels/cuda/instantiate.cuh kernels
  while read -r op; do
    kernels=$(grep "^template struct kernel<op::$op, Cuda," $list)
    printf '#include <storylm/kernels/cuda/%s>\nnamespace storylm {\n%s\n}\n' "$op.cuh" "$kernels" > "$at/$op.cu"
    echo "$nvcc -std=c++20 -O3 -lineinfo --expt-relaxed-constexpr -arch=$arch -DSTORYLM_WITH_CUDA -Iinclude -I$(dirname "$header")" \
      "-c $at/$op.cu -o $objects/kernel_$op.o" >> "$commands"
  done < <(sed -n 's/^template struct kernel<op::\([a-z0-9_]*\), Cuda,.*/\1/p' $list | sort -u)
  for program in $programs; do echo "$cxx -c benchmarks/$program.cpp -o $at/$program.o" >> "$commands"; done
  echo "$cxx -O1 -c cmake/boost_json.cpp -o $objects/boost_json.o" >> "$commands"
  run_commands "$commands" || failed=1
  local libraries
  libraries="$library -L$cuda/lib64 -L$cuda/lib -lcudart_static -ldl -lrt -lpthread -Wl,-rpath,$(dirname "$library")"
  bin=$folder/bin
  mkdir -p "$bin" "$folder/tests"
  for program in $programs; do
    # shellcheck disable=SC2086
    g++ -fopenmp -o "$bin/$program" "$at/$program.o" "$objects"/*.o $libraries || failed=1
  done
  echo "$cxx -DSTORYLM_TEST_GPU -c tests/main.cpp -o $at/main.o" > "$commands"
  for test in tests/cuda/*_test.cpp; do
    echo "$cxx -O1 -DSTORYLM_TEST_DIR='\"$PWD/tests\"' -c $test -o $at/$(basename "$test" .cpp).o" >> "$commands"
  done
  run_commands "$commands" || failed=1
  for test in tests/cuda/*_test.cpp; do
    test=$(basename "$test" .cpp)
    [ -e "$at/$test.o" ] || continue
    # shellcheck disable=SC2086
    g++ -fopenmp -o "$folder/tests/cuda_$test" "$at/$test.o" "$at/main.o" "$objects"/*.o $libraries || failed=1
  done
  return $failed
}

# run_commands FILE: each of its lines, as many at a time as there are cores.
run_commands() {
  # shellcheck disable=SC2016  # the inner shell expands it
  tr '\n' '\0' < "$1" | within xargs -0 -P "$(nproc)" -I {} bash -c 'echo "$1"; eval "$1"' _ {}
}

# The test programs, one a line.
list_tests() {
  if [ "$emulated" = on ]; then
    find "$bin/../../tests/cuda/bin" -maxdepth 1 -type f -name emulated_device_test -perm -u+x
  else
    find "$folder/tests" "$bin/../tests/cuda/bin" -maxdepth 1 -type f -name 'cuda_*_test' -perm -u+x 2> /dev/null | sort
  fi
}
