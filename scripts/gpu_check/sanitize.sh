# shellcheck shell=bash
# SPDX-License-Identifier: MIT
# Part 3 of gpu_check.sh, which sources it: one row for each tool of compute-sanitizer. Uses its variables bin and out.
# shellcheck disable=SC2154

# sanitize TOOL: training and generation of the small model, our own kernels only (cuBLASLt's are not ours to check). A tool that
# cannot attach to this GPU is a row that says why.
sanitize() {
  local tool=$1 log=$out/logs/sanitizer_$1.log status=0 filter seconds
  local programs=("$bin/gpu_training --size small --steps 1 --classes off" "$bin/gpu_generation --size small")
  : > "$log"
  for program in "${programs[@]}"; do
    for filter in --kernel-name --kernel-regex; do  # the newer name and the older one
      seconds=$(left 60)
      status=0
      # shellcheck disable=SC2086  # a program and its flags
      timeout --kill-after=5 "$seconds" compute-sanitizer --tool "$tool" $filter kns=storylm --error-exitcode 99 $program \
        > "$log.part" 2>&1 < /dev/null || status=$?
      cat "$log.part" >> "$log"
      grep -qiE "(unrecogni[sz]ed|unknown|invalid).*(option|argument).*kernel" "$log.part" || break
    done
    if grep -qE "Device not supported|Error: (Target|Failed to|Unable to|No attachable)|not supported on" "$log.part"; then
      add_row 3 "$tool" "not possible: $(grep -m 1 -E 'not supported|Error: ' "$log.part" | tr -d '=' | tr '\t' ' ' | cut -c 1-100)" \
        "" "" info
      return
    elif [ "$status" = 124 ] || [ "$status" = 137 ]; then
      add_row 3 "$tool" "not done after $seconds s" "" "$(basename "${program%% *}")" wrong
      return
    elif [ "$status" != 0 ]; then
      add_row 3 "$tool" "$(grep -m 1 -E 'ERROR SUMMARY|RACECHECK SUMMARY|ROW.*wrong' "$log.part" | tr -d '=' | tr '\t' ' ' |
        cut -c 1-100) (exit code $status)" "" "$(basename "${program%% *}")" wrong
      return
    fi
  done
  add_row 3 "$tool" "nothing found" "" "training and generation, small" ok
}
