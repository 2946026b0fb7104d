# What is checked of the emulator's tests and headers. Included by tests/cuda, where the kernels' tests are.
#
#   mutations         each barrier and each wait left out in turn: some test must notice. It takes long.
#   emulator.alone    nothing of the toolkit is included
#   emulator.headers  the stand-in headers against the toolkit's, where there is one
set(programs)
foreach(source IN LISTS cuda_tests)
  cmake_path(GET source STEM stem)
  if(TARGET emulated_${stem} AND NOT stem MATCHES "^(training|models_reference)_test$")  # they come last to know
    list(APPEND programs $<TARGET_FILE:emulated_${stem}>)
  endif()
endforeach()
if(watch_races)
  add_test(NAME mutations COMMAND Python3::Interpreter ${emulator}/mutate.py ${programs})
  set_tests_properties(mutations PROPERTIES LABELS "emulator;mutations" TIMEOUT 7200)
endif()

add_test(NAME emulator.alone COMMAND_EXPAND_LISTS
         COMMAND Python3::Interpreter ${emulator}/alone_test.py ${CMAKE_CXX_COMPILER}
                 $<TARGET_PROPERTY:storylm_emulated_kernels,INCLUDE_DIRECTORIES>)
set_tests_properties(emulator.alone PROPERTIES LABELS "emulator;compile")

if(CUDAToolkit_FOUND)
  add_test(NAME emulator.headers COMMAND Python3::Interpreter ${emulator}/compare_headers.py
                                         ${CMAKE_CURRENT_BINARY_DIR}/headers ${CMAKE_CXX_COMPILER} ${CUDAToolkit_INCLUDE_DIRS})
  set_tests_properties(emulator.headers PROPERTIES LABELS "emulator;compile")
endif()
