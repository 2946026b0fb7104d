# cmake -DCOMPILER= -DSOURCE= -DINCLUDES= -DDEFINITIONS= [-DMUST_FAIL=ON] -P check_compile.cmake
#
# Compiles SOURCE without writing anything. With MUST_FAIL the compiler must refuse it, with an error that contains the
# sentence of its first line, "// EXPECT: sentence".
list(REMOVE_DUPLICATES INCLUDES)
list(REMOVE_DUPLICATES DEFINITIONS)
list(TRANSFORM INCLUDES PREPEND -I)
list(TRANSFORM DEFINITIONS PREPEND -D)
if(MUST_FAIL)
  file(STRINGS ${SOURCE} expected LIMIT_COUNT 1)
  if(NOT expected MATCHES "^// EXPECT: (.+)$")
    message(FATAL_ERROR "${SOURCE}: the first line must be \"// EXPECT: \" and a sentence of the error")
  endif()
  set(expected "${CMAKE_MATCH_1}")
endif()

execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only -w ${DEFINITIONS} ${INCLUDES} ${SOURCE}
                RESULT_VARIABLE result ERROR_VARIABLE errors OUTPUT_VARIABLE errors)
if(NOT MUST_FAIL)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${SOURCE} must compile:\n${errors}")
  endif()
elseif(result EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles; it must not, and say \"${expected}\"")
else()
  string(FIND "${errors}" "${expected}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "${SOURCE} is refused, but without the sentence \"${expected}\":\n${errors}")
  endif()
endif()
