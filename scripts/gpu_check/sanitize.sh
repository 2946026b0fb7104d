# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Part 3 of gpu_check.sh, which sources it: one row for each tool of compute-sanitizer. Uses its variables bin and out.
# shellcheck disable=SC2154

# sanitize TOOL: training and generation of the small model, which has bfloat16 and short sequences only, and the tests of norms and
# attention that have the other dtypes and the backward of long sequences. Our own kernels only: cuBLASLt's are not ours to check.
# A tool that cannot attach to this GPU is a row that says why, and so is one that is too slow; neither is a failure.
sanitize() {
  local tool=$1 log=$out/logs/sanitizer_$1.log status filter seconds own name test
  local names=() slow=() missing=()
  : > "$log"
  own=$(own_limit 60)
  for name in gpu_training gpu_generation cuda_norm_test cuda_attention_test; do
    local command=("$bin/$name" --size small)
    case $name in
      gpu_training) command+=(--steps 1 --classes off) ;;
      cuda_norm_test) command=("--test-case=*rows far from zero*") ;;
      cuda_attention_test) command=("--test-case=long sequences*,several heads*,batches of nothing*") ;;
    esac
    if [[ $name = *_test ]]; then
      test=$(list_tests | grep -m 1 "/$name$")
      [ -n "$test" ] || { missing+=("$name"); continue; }
      command=("$test" "${command[@]}")
    fi
    [ $((limit - SECONDS)) -ge 3 ] || { slow+=("no time left for $name"); continue; }
    for filter in --kernel-name --kernel-regex; do  # the newer name and the older one
      seconds=$(left 60)
      status=0
      timeout --kill-after=5 "$seconds" compute-sanitizer --tool "$tool" $filter kns=storylm --error-exitcode 99 "${command[@]}" \
        > "$log.part" 2>&1 < /dev/null || status=$?
      cat "$log.part" >> "$log"
      grep -qiE "(unrecogni[sz]ed|unknown|invalid).*(option|argument).*kernel" "$log.part" || break
    done
    if grep -qE "Device not supported|Error: (Target|Failed to|Unable to|No attachable)|not supported on" "$log.part"; then
      add_row 3 "$tool" "not possible: $(grep -m 1 -E 'not supported|Error: ' "$log.part" | tr -d '=' | tr '\t' ' ' | cut -c 1-100)" \
        "" "" info
      return
    elif grep -qE "(ERROR|RACECHECK) SUMMARY: .*[1-9][0-9]* (error|hazard)" "$log.part" ||
      { [ "$status" != 0 ] && [ "$status" != 124 ] && [ "$status" != 137 ]; }; then
      add_row 3 "$tool" "$(grep -m 1 -E 'ERROR SUMMARY|RACECHECK SUMMARY|ROW.*wrong' "$log.part" | tr -d '=' | tr '\t' ' ' |
        cut -c 1-100) (exit code $status)" "" "$name" wrong
      return
    elif [ "$status" != 0 ] && [ "$seconds" -lt "$own" ]; then
      slow+=("no time left for $name")
    elif [ "$status" != 0 ]; then
      slow+=("$name is too slow for $seconds s")
    else
      names+=("${name#*_}")
    fi
  done
  local done="${names[*]}" rest=""
  [ "${#missing[@]}" = 0 ] || rest=", ${missing[*]} not built"
  [ "${#slow[@]}" = 0 ] || rest="$rest$(printf ', %s' "${slow[@]}")"
  if [ "${#names[@]}" = 0 ]; then
    add_row 3 "$tool" "no result${rest}" "" "" info
  else
    add_row 3 "$tool" "nothing found$rest" "" "in ${done// /, }; tokens: grammar" "$([ -z "$rest" ] && echo ok || echo info)"
  fi
}
