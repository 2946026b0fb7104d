# What a source file asks of the build, in comments among its first 20 lines:
#   // LINK: io sentencepiece     further targets storylm::io, storylm::sentencepiece
#   // LINK: cuda                 storylm::cuda and its kernels, where this build has them; STORYLM_WITH_CUDA tells
#   // LABELS: slow               CTest labels
#   // TIMEOUT: 300               seconds CTest allows
#   // PROGRAMS: train_stories     for a test: programs of examples/ that it runs

# storylm_read_directive(<variable> <source> <keyword>): the words after "// KEYWORD:", as a list.
function(storylm_read_directive variable source keyword)
  file(STRINGS ${source} lines LIMIT_COUNT 20)
  list(FILTER lines INCLUDE REGEX "^// ${keyword}: ")
  list(TRANSFORM lines REPLACE "^// ${keyword}: *" "")
  list(TRANSFORM lines STRIP)
  string(REGEX REPLACE "[ ,;]+" ";" words "${lines}")
  set(${variable} ${words} PARENT_SCOPE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
endfunction()

# storylm_add_program(<target> <source> [FOLDER dir] [HEADERS_ONLY]): an executable with our flags and what its LINK line names.
# Sets <target>_MISSING in the caller to the targets that this build does not have; then no executable is made. The CPU's
# kernels are linked (storylm_own_kernels) and not compiled in each program, unless HEADERS_ONLY.
function(storylm_add_program target source)
  cmake_parse_arguments(PARSE_ARGV 2 arg "HEADERS_ONLY" "FOLDER" "LINK")
  storylm_read_directive(links ${source} LINK)
  list(APPEND links ${arg_LINK})
  list(REMOVE_DUPLICATES links)
  set(optional)
  if(NOT arg_HEADERS_ONLY AND TARGET storylm_own_kernels)
    list(APPEND optional storylm_own_kernels)
  endif()
  if("cuda" IN_LIST links)
    list(REMOVE_ITEM links cuda)
    if(TARGET storylm_program_kernels)
      list(APPEND optional storylm_program_kernels)
    endif()
  endif()
  set(missing)
  foreach(link IN LISTS links)
    if(NOT link MATCHES "^(io|sentencepiece)$")
      message(FATAL_ERROR "${source}: LINK names \"${link}\"; known are io, sentencepiece and cuda")
    elseif(NOT TARGET storylm::${link})
      list(APPEND missing storylm::${link})
    endif()
  endforeach()
  set(${target}_MISSING ${missing} PARENT_SCOPE)
  if(missing)
    return()
  endif()
  add_executable(${target} ${source})
  list(TRANSFORM links PREPEND storylm::)
  target_link_libraries(${target} PRIVATE storylm::storylm ${links} ${optional} storylm_own_flags)
  if(arg_FOLDER)
    set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${arg_FOLDER})
  endif()
endfunction()

# storylm_set_test_properties(<test> <source> <label>): the source's LABELS and TIMEOUT, and what every test gets.
function(storylm_set_test_properties test source label)
  storylm_read_directive(labels ${source} LABELS)
  storylm_read_directive(timeout ${source} TIMEOUT)
  # Threads that wait give way: several tests run at once, each with as many threads as there are cores.
  set_tests_properties(${test} PROPERTIES LABELS "${label};${labels}" ENVIRONMENT OMP_WAIT_POLICY=passive)
  if(timeout)
    set_tests_properties(${test} PROPERTIES TIMEOUT ${timeout})
  endif()
endfunction()
