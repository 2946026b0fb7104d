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
# Further flags: --tokens FILE (stories.tokens of prepare_stories, with --carry too; else the demo's grammar), --batch N (stories of a
# training step, and most that are generated together; 512 need 20 GB), --require-speed (a missed target is a failure; targets are an
# H200's, on another GPU they are only told), --seconds N (for everything together, 570; the build takes at most 300 of them),
# --part-seconds N (for each program at most), --build FOLDER (build/gpu_check), --bin FOLDER (programs that are built already),
# --no-cmake (plain nvcc and g++), --output FOLDER (for results and logs).
#
# It needs the CUDA toolkit with cuBLASLt, g++ 12 or newer, and Eigen, doctest and Boost's headers: from the system, or from
# build/carry, where --carry puts them (17 MB; copy it with the tree). CMake and ninja are used where they are. Nothing is
# downloaded. Part 5 needs python3 with torch, part 3 compute-sanitizer; where one is missing a row says so, and that is no
# failure. A failure in one part does not stop the others. A part that no time is left for says so, and that is no failure either.
#
# The last lines are a table. The same as JSON (gpu_check.json), and all logs: in the folder of --output, else in $OUT where that is
# set, else in build/gpu_check. Exit code 0: nothing is wrong; 1: something is; 2: bad flags, or nothing could be built.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

parts=1,2,3,4,5,6
emulated=off
carry=""
tokens=""
limit=570
part_limit=0
output=""
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
    --parts | --carry | --tokens | --seconds | --part-seconds | --build | --bin | --batch | --output)
      [ $# -gt 1 ] || { echo "gpu_check.sh: $1 needs a value" >&2; exit 2; }
      case $1 in
        --parts) parts=$2 ;;
        --carry) carry=$2 ;;
        --tokens) tokens=$(realpath -- "$2") || exit 2 ;;
        --seconds) limit=$2 ;;
        --part-seconds) part_limit=$2 ;;
        --build) folder=$2 ;;
        --output) output=$2 ;;
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
[[ $part_limit =~ ^[0-9]+$ ]] || { echo "gpu_check.sh: --part-seconds is a number: $part_limit" >&2; exit 2; }
[[ $limit =~ ^[1-9][0-9]*$ ]] || { echo "gpu_check.sh: --seconds is a number: $limit" >&2; exit 2; }

source scripts/gpu_check/build.sh
if [ -n "$carry" ]; then
  gather_headers "$carry" || exit
  [ -z "$tokens" ] || cp -- "$tokens" "$carry/stories.tokens"
  exit
fi
# The small model's vocabulary is too small for a file.
if [ -z "$tokens" ] && [ "$emulated" = off ] && [ -s build/carry/stories.tokens ]; then tokens=$PWD/build/carry/stories.tokens; fi

out=${output:-${OUT:-$folder}}
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

# own_limit SECONDS: what a program gets when there is time enough.
own_limit() {
  echo $((part_limit > 0 && part_limit < $1 ? part_limit : $1))
}

# left SECONDS: these, or what is left of the whole.
left() {
  local rest=$((limit - SECONDS)) own
  own=$(own_limit "$1")
  [ "$rest" -gt 1 ] || rest=1
  echo $((own < rest ? own : rest))
}

# time_left PART: false, with one row for the part, when there is too little left to begin anything.
declare -A timeless=()
time_left() {
  [ $((limit - SECONDS)) -lt 3 ] || return 0
  no_time "$1"
  return 1
}
no_time() {
  [ -n "${timeless[$1]:-}" ] || add_row "$1" "${2:-the rest of this part}" "no time left" "" "of ${limit} s" info
  timeless[$1]=1
}

# run_part PART LOG SECONDS COMMAND...: runs it under a limit, takes its rows. Its exit code must be 0, and so much must be said.
run_part() {
  local part=$1 log=$out/logs/$2.log own seconds status=0
  time_left "$part" || return 0
  own=$(own_limit "$3")
  seconds=$(left "$3")
  shift 3
  timeout --kill-after=5 "$seconds" "$@" > "$log" 2>&1 < /dev/null || status=$?
  sed -n "s/^ROW\t/$part\t/p" "$log" | tee -a "$rows"
  if { [ "$status" = 124 ] || [ "$status" = 137 ]; } && [ "$seconds" -lt "$own" ]; then
    no_time "$part" "$(basename "$log" .log)"
  elif [ "$status" = 124 ] || [ "$status" = 137 ]; then
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
  build_limit=$((limit < 300 ? limit : 300))
  if build_all > "$out/logs/build.log" 2>&1; then
    add_row 0 build "$SECONDS" s "" info
  elif compgen -G "$bin/gpu_*" > /dev/null && [ "$SECONDS" -ge "$build_limit" ]; then
    add_row 0 build "stopped after $SECONDS s" "" "what was not built is not checked" wrong
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
export STORYLM_REQUIRE_GPU=1
if wants 1 && time_left 1; then
  echo "== 1: the tests of tests/cuda"
  passed=0
  failed=0
  unfinished=0
  mapfile -t tests < <(list_tests)
  seconds=$(left 200)
  # shellcheck disable=SC2016  # the inner shell expands it
  printf '%s\n' "${tests[@]}" |
    timeout --kill-after=5 "$seconds" xargs -r -P 4 -I {} bash -c 'log=$1/$(basename "$2").log
      if timeout --foreground --kill-after=5 120 "$2" > "$log" 2>&1 < /dev/null; then echo ok; else echo "exit code $?"; fi > "$log.status"' \
      _ "$out/logs" {}
  for test in "${tests[@]}"; do
    log=$out/logs/$(basename "$test").log
    if [ "$(cat "$log.status" 2> /dev/null)" = ok ]; then
      passed=$((passed + 1))
    elif [ -s "$log.status" ]; then
      failed=$((failed + 1))
      add_row 1 "$(basename "$test")" "failed ($(cat "$log.status"))" "" "" wrong
    else
      unfinished=$((unfinished + 1))
    fi
  done
  if [ "$unfinished" -gt 0 ] && [ "$seconds" -lt "$(own_limit 200)" ]; then
    no_time 1 "$unfinished of ${#tests[@]} programs"
  elif [ "$unfinished" -gt 0 ]; then
    failed=$((failed + unfinished))
    add_row 1 "tests" "$unfinished of ${#tests[@]} programs not done after $seconds s" "" "" wrong
  fi
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
    run_part 2 "determinism_$dtype" 60 "$bin/gpu_determinism" --size $size --dtype $dtype --tokens "$tokens" \
      --sequences "$batch"
  done
fi

# 4. The reference model.
exported=$folder/export
if wants 4 || wants 5; then
  echo "== 4: training"
  rm -rf "$exported"
  target=0
  [ "$emulated" = off ] && [ $((batch % 512)) = 0 ] && target=39000  # of a step of 512
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
  elif [ ! -s "$exported/losses.txt" ] && [ -n "${timeless[4]:-}" ]; then
    no_time 5 "PyTorch"
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
  run_part 6 generation 60 "$bin/gpu_generation" --size $size --targets on --sequences "$batch"
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
    for tool in memcheck racecheck initcheck synccheck; do
      time_left 3 || break
      sanitize $tool
    done
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
without=""
[ "${#timeless[@]}" = 0 ] || without=", no time left in ${#timeless[@]} parts"
echo "gpu_check.sh: $wrong wrong, $missed below target, $SECONDS s$without; $out/gpu_check.json"
[ "$wrong" = 0 ] && { [ "$require_speed" = off ] || [ "$missed" = 0 ]; }
