# What only the emulator shows of kernels. Included by tests/cuda, where the kernels and their tests are.
#
#   watched.<name>    <name>_test.cpp once more, while races, reads of shared memory that nobody wrote and writes to the
#                     host's memory are reported. Not for a test that says "// WATCHED: no" in its first 20 lines.
#   mutations         each barrier and each wait left out in turn: some test must notice. It takes long (label mutations).
#   emulator.headers  the stand-in headers against the toolkit's, where there is one
if(NOT CMAKE_CXX_FLAGS MATCHES "-fsanitize")
  # Calls for every access to memory. Not linked: the emulator has the functions.
  target_compile_options(storylm_emulated_kernels PRIVATE -fsanitize=thread)
  set(watched_programs)
  foreach(source IN LISTS cuda_tests)
    cmake_path(GET source STEM stem)
    storylm_read_directive(watched ${source} WATCHED)
    if(watched STREQUAL "no" OR NOT TARGET emulated_${stem})
      continue()
    endif()
    string(REGEX REPLACE "_test$" "" name watched.${stem})
    add_doctest(${name} emulated_${stem} ${source} watched)
    set_property(TEST ${name} APPEND PROPERTY ENVIRONMENT STORYLM_EMULATOR_RACES=1)
    set_property(TEST ${name} PROPERTY TIMEOUT 1500)
    list(APPEND watched_programs $<TARGET_FILE:emulated_${stem}>)
  endforeach()
  add_test(NAME mutations COMMAND Python3::Interpreter ${emulator}/mutate.py ${watched_programs})
  set_tests_properties(mutations PROPERTIES LABELS "emulator;mutations" TIMEOUT 7200)
endif()

if(CUDAToolkit_FOUND)
  add_test(NAME emulator.headers COMMAND Python3::Interpreter ${emulator}/compare_headers.py
                                         ${CMAKE_CURRENT_BINARY_DIR}/headers ${CMAKE_CXX_COMPILER} ${CUDAToolkit_INCLUDE_DIRS})
  set_tests_properties(emulator.headers PROPERTIES LABELS "emulator;compile")
endif()
