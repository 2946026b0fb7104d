#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Everything that can only be known with a GPU, in one run of under ten minutes.
#
#   scripts/gpu_check.sh                     all parts
#   scripts/gpu_check.sh --parts 1,2,4       these only: 1 tests, 2 determinism, 3 compute-sanitizer, 4 training,
#                                            5 the same in PyTorch, 6 generation
#   scripts/gpu_check.sh --carry build/carry gathers what a machine without network needs; run it where the packages are
#   scripts/gpu_check.sh --emulated          everything on the emulator, small: does this script work?
#
# Further flags: --tokens FILE (stories.tokens of prepare_stories, with --carry too; else the demo's grammar), --seconds N (for all
# parts together, 570), --require-speed (a missed target is a failure), --batch N (stories of a training step; 512 need 20 GB),
# --build FOLDER (build/gpu_check), --bin FOLDER (programs that are built already), --no-cmake (plain nvcc and g++).
#
# It needs the CUDA toolkit with cuBLASLt, g++ 12 or newer, and Eigen, doctest and Boost's headers: from the system, or from
# build/carry, where --carry puts them (17 MB; copy it with the tree). CMake and ninja are used where they are. Nothing is
# downloaded. Part 5 needs python3 with torch, part 3 compute-sanitizer; where one is missing a row says so, and that is no
# failure. A failure in one part does not stop the others.
#
# The last lines are a table. The same as JSON, and all logs: in $OUT, or in build/gpu_check. Exit code 0: nothing is wrong;
# 1: something is; 2: bad flags, or nothing could be built.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

parts=1,2,3,4,5,6
emulated=off
carry=""
tokens=""
limit=570
require_speed=off
folder=build/gpu_check
bin=""
cmake=on
batch=0
while [ $# -gt 0 ]; do
  case $1 in
    --emulated) emulated=on ;;
    --require-speed) require_speed=on ;;
    --no-cmake) cmake=off ;;
    --parts | --carry | --tokens | --seconds | --build | --bin | --batch)
      [ $# -gt 1 ] || { echo "gpu_check.sh: $1 needs a value" >&2; exit 2; }
      case $1 in
        --parts) parts=$2 ;;
        --carry) carry=$2 ;;
        --tokens) tokens=$(realpath -- "$2") || exit 2 ;;
        --seconds) limit=$2 ;;
        --build) folder=$2 ;;
        --bin) bin=$2 ;;
        --batch) batch=$2 ;;
      esac
      shift ;;
    -h | --help) sed -n '3,/^set -u/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "gpu_check.sh: unknown flag $1 (--help lists them)" >&2; exit 2 ;;
  esac
  shift
done
[[ $parts =~ ^[1-6](,[1-6])*$ ]] || { echo "gpu_check.sh: --parts are numbers from 1 to 6: $parts" >&2; exit 2; }
[[ $batch =~ ^[0-9]+$ ]] || { echo "gpu_check.sh: --batch is a number: $batch" >&2; exit 2; }
[[ $limit =~ ^[1-9][0-9]*$ ]] || { echo "gpu_check.sh: --seconds is a number: $limit" >&2; exit 2; }

source scripts/gpu_check/build.sh
if [ -n "$carry" ]; then
  gather_headers "$carry" || exit
  [ -z "$tokens" ] || cp -- "$tokens" "$carry/stories.tokens"
  exit
fi
if [ -z "$tokens" ] && [ -s build/carry/stories.tokens ]; then tokens=$PWD/build/carry/stories.tokens; fi

out=${OUT:-$folder}
mkdir -p "$folder" "$out/logs" || exit 2
rm -f "$out"/logs/*
rows=$out/gpu_check.tsv
: > "$rows"
SECONDS=0

# add_row PART NAME VALUE UNIT REFERENCE VERDICT
add_row() {
  local IFS=$'\t'
  printf '%s\n' "$*" | tee -a "$rows"
}

# left SECONDS: these, or what is left of the whole.
left() {
  local rest=$((limit - SECONDS))
  [ "$rest" -gt 5 ] || rest=5
  echo $(($1 < rest ? $1 : rest))
}

# run_part PART LOG SECONDS COMMAND...: runs it under a limit, takes its rows. Its exit code must be 0, and so much must be said.
run_part() {
  local part=$1 log=$out/logs/$2.log seconds status=0
  seconds=$(left "$3")
  shift 3
  timeout --kill-after=5 "$seconds" "$@" > "$log" 2>&1 < /dev/null || status=$?
  sed -n "s/^ROW\t/$part\t/p" "$log" | tee -a "$rows"
  if [ "$status" = 124 ] || [ "$status" = 137 ]; then
    add_row "$part" "$(basename "$log" .log)" "not done after $seconds s" "" "" wrong
  elif [ "$status" -ge 128 ] || { [ "$status" != 0 ] && ! grep -q $'^ROW\t.*\twrong$' "$log"; }; then
    add_row "$part" "$(basename "$log" .log)" "exit code $status: $(tail -n 1 "$log" | tr '\t' ' ' | cut -c 1-150)" "" "" wrong
  elif ! grep -q $'^ROW\t' "$log"; then
    add_row "$part" "$(basename "$log" .log)" "ended without a result" "" "" wrong
  fi
  return "$status"
}

wants() { [[ ",$parts," == *",$1,"* ]]; }

size=reference
steps=100
if [ "$emulated" = on ]; then
  size=small
  steps=2
fi

if [ -z "$bin" ]; then
  echo "== building, for $([ "$emulated" = on ] && echo the emulator || echo the GPU that is here)"
  if build_all > "$out/logs/build.log" 2>&1; then
    add_row 0 build "$SECONDS" s "" info
  elif compgen -G "$bin/gpu_*" > /dev/null; then
    grep -m 5 -E 'error|Error' "$out/logs/build.log" >&2
    add_row 0 build "failed in part: logs/build.log" "" "" wrong
  else
    tail -n 30 "$out/logs/build.log" >&2
    echo "gpu_check.sh: nothing was built: $out/logs/build.log" >&2
    exit 2
  fi
fi

# 1. The typed tests. No GPU is a failure here, not a reason to skip.
if wants 1; then
  echo "== 1: the tests of tests/cuda"
  passed=0
  failed=0
  mapfile -t tests < <(list_tests)
  export STORYLM_REQUIRE_GPU=1
  # shellcheck disable=SC2016  # the inner shell expands it
  printf '%s\n' "${tests[@]}" |
    timeout --kill-after=5 "$(left 200)" xargs -r -P 4 -I {} bash -c 'log=$1/$(basename "$2").log
      if timeout --kill-after=5 120 "$2" > "$log" 2>&1 < /dev/null; then echo ok; else echo "exit code $?"; fi > "$log.status"' \
      _ "$out/logs" {}
  for test in "${tests[@]}"; do
    log=$out/logs/$(basename "$test").log
    if [ "$(cat "$log.status" 2> /dev/null)" = ok ]; then
      passed=$((passed + 1))
    else
      failed=$((failed + 1))
      add_row 1 "$(basename "$test")" "failed ($(cat "$log.status" 2> /dev/null || echo 'not run'))" "" "" wrong
    fi
  done
  cases=$(cat "$out"/logs/*.log | awk '/^\[doctest\] test cases: / { n += $4 } END { print n + 0 }')
  sources=(tests/cuda/*_test.cpp)
  if [ "${#tests[@]}" = 0 ]; then
    add_row 1 "tests" "there are none" "" "" wrong
  else
    if [ "$emulated" = off ] && [ "${#tests[@]}" -lt "${#sources[@]}" ]; then
      add_row 1 "tests" "${#tests[@]} of ${#sources[@]} programs were built" "" "logs/build.log" wrong
    fi
    add_row 1 "tests" "$passed of ${#tests[@]} programs passed" "" "$cases test cases" "$([ "$failed" = 0 ] && echo ok || echo wrong)"
  fi
fi

# 2. The same bits again.
if wants 2; then
  echo "== 2: determinism"
  for dtype in bfloat16 float16 float32; do
    run_part 2 "determinism_$dtype" 60 "$bin/gpu_determinism" --size $size --dtype $dtype --tokens "$tokens"
  done
fi

# 4. The reference model.
exported=$folder/export
if wants 4 || wants 5; then
  echo "== 4: training"
  rm -rf "$exported"
  target=0
  [ "$emulated" = on ] || target=39000
  run_part 4 training 120 "$bin/gpu_training" --size $size --steps $steps --tokens "$tokens" --export "$exported" \
    --sequences "$batch" --target_us $target
  if ! wants 4; then sed -i '/^4\t/{/\twrong$/!d}' "$rows"; fi
fi

# 5. The same in PyTorch.
if wants 5; then
  echo "== 5: PyTorch"
  python=${PYTHON:-python3}
  if ! command -v "$python" > /dev/null || ! "$python" -c 'import torch' 2> /dev/null; then
    add_row 5 "PyTorch" "not possible: python3 has no torch" "" "" info
  elif [ ! -s "$exported/losses.txt" ]; then
    add_row 5 "PyTorch" "not possible: training left nothing to repeat" "" "" wrong
  else
    ours=$(awk -F '\t' '$2 == "training" { print $3 }' "$rows" "$out/logs/training.log" | head -n 1)
    more=(--device cuda --steps 30 --tokens-per-second "${ours:-0}")
    [ "$emulated" = on ] && more=(--device cpu --steps 2 --no-compile)
    run_part 5 pytorch 170 "$python" scripts/gpu_check/torch_training.py "$exported" "${more[@]}"
  fi
fi

# 6. Generation.
if wants 6; then
  echo "== 6: generation"
  run_part 6 generation 60 "$bin/gpu_generation" --size $size --targets on
fi

# 3. compute-sanitizer, on small shapes. Last, for it may take long.
if wants 3; then
  echo "== 3: compute-sanitizer"
  source scripts/gpu_check/sanitize.sh
  if [ "$emulated" = on ]; then
    add_row 3 "compute-sanitizer" "not possible: the emulator has its own checks" "" "" info
  elif ! command -v compute-sanitizer > /dev/null; then
    add_row 3 "compute-sanitizer" "not possible: it is not installed" "" "" info
  else
    for tool in memcheck racecheck initcheck synccheck; do sanitize $tool; done
  fi
fi

# The table, the JSON, the verdict.
sort -s -n -k 1,1 "$rows" -o "$rows"
awk -F '\t' 'BEGIN { print "{\"rows\": [" }
  function quoted(text) { gsub(/\\/, "\\\\", text); gsub(/"/, "\\\"", text); gsub(/[\001-\037]/, " ", text); return "\"" text "\"" }
  { printf "%s {\"part\": %d, \"name\": %s, \"value\": %s, \"unit\": %s, \"reference\": %s, \"verdict\": %s}", (NR > 1 ? ",\n" : ""),
    $1, quoted($2), ($3 ~ /^-?[0-9.]+(e[-+]?[0-9]+)?$/ ? $3 : quoted($3)), quoted($4), quoted($5), quoted($6) }
  END { printf "\n]}\n" }' "$rows" > "$out/gpu_check.json"
echo
awk -F '\t' '{ printf "%s  %-50s %18s %-9s %-40s %s\n", $1, $2, $3, $4, $5, ($6 == "info" ? "" : $6) }' "$rows"
wrong=$(grep -c $'\twrong$' "$rows")
missed=$(grep -c $'\tmissed$' "$rows")
echo "gpu_check.sh: $wrong wrong, $missed below target, $SECONDS s; $out/gpu_check.json"
[ "$wrong" = 0 ] && { [ "$require_speed" = off ] || [ "$missed" = 0 ]; }
