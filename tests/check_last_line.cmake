# cmake -DPROGRAM= -DSOURCE= -P check_last_line.cmake
#
# Runs PROGRAM; it must exit with 0 and the last line it prints must be the one that SOURCE announces in its first comment:
#   // expected last line: step 200  loss 0.1...
# where "..." stands for any text (numbers whose last digits depend on the machine).
file(STRINGS ${SOURCE} expected REGEX "^// +expected last line: " LIMIT_COUNT 1)
if(NOT expected MATCHES "^// +expected last line: (.+)$")
  message(FATAL_ERROR "${SOURCE}: the first comment must say \"// expected last line: ...\"")
endif()
set(expected "${CMAKE_MATCH_1}")

execute_process(COMMAND ${PROGRAM} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE errors)
message("${errors}${output}")
if(NOT result EQUAL 0)
  message(FATAL_ERROR "${PROGRAM} failed: ${result}")
endif()
string(STRIP "${output}" output)
string(REGEX REPLACE ".*\n" "" last "${output}")
string(REGEX REPLACE "([][+.*()^$?|\\\\])" "\\\\\\1" pattern "${expected}")
string(REPLACE "\\.\\.\\." ".*" pattern "${pattern}")
if(NOT last MATCHES "^${pattern}$")
  message(FATAL_ERROR "last line:          ${last}\nexpected last line: ${expected}")
endif()
