# The library's targets. A header belongs to exactly one of them; all are installed into the same include folder.
file(GLOB_RECURSE storylm_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/storylm/*.hpp)
list(SORT storylm_headers)

# Parsed several times inside other headers (once per instruction set), so they cannot stand alone.
set(storylm_included_headers ${storylm_headers})
list(FILTER storylm_included_headers INCLUDE REGEX "\\.inc\\.hpp$")
list(FILTER storylm_headers EXCLUDE REGEX "\\.inc\\.hpp$")

set(storylm_io_headers ${storylm_headers})
list(FILTER storylm_io_headers INCLUDE REGEX "/storylm/(io/|data/stories|train/run_state)")
list(FILTER storylm_headers EXCLUDE REGEX "/storylm/(io/|data/stories|train/run_state)")

set(storylm_sentencepiece_headers ${storylm_headers})
list(FILTER storylm_sentencepiece_headers INCLUDE REGEX "/storylm/text/sentencepiece")
list(FILTER storylm_headers EXCLUDE REGEX "/storylm/text/sentencepiece")

# Needs storylm::io and storylm::sentencepiece; installed with the library, includable where both are linked.
set(storylm_both_headers ${storylm_headers})
list(FILTER storylm_both_headers INCLUDE REGEX "/storylm/text/hugging_face_tokenizer")
list(FILTER storylm_headers EXCLUDE REGEX "/storylm/text/hugging_face_tokenizer")
list(APPEND storylm_included_headers ${storylm_both_headers})

# Where they are used: cmake/cuda.cmake.
set(storylm_cuda_headers ${storylm_headers})
list(FILTER storylm_cuda_headers INCLUDE REGEX "/storylm/(core/cuda_|kernels/cuda/)")
list(FILTER storylm_headers EXCLUDE REGEX "/storylm/(core/cuda_|kernels/cuda/)")
file(GLOB storylm_cuda_kernel_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/storylm/kernels/cuda/*.cuh)

# Makes the target all_verify_interface_header_sets, which compiles every header alone.
set(CMAKE_VERIFY_INTERFACE_HEADER_SETS ${STORYLM_BUILD_TESTS})

add_library(storylm INTERFACE)
add_library(storylm::storylm ALIAS storylm)
target_compile_features(storylm INTERFACE cxx_std_20)
target_compile_definitions(storylm INTERFACE EIGEN_NO_CUDA)  # Eigen is host-only here; silences nvcc's warning 20012
target_link_libraries(storylm INTERFACE Eigen3::Eigen)
if(TARGET OpenMP::OpenMP_CXX)  # an installed storylm asks again: it may meet a compiler without OpenMP
  target_link_libraries(storylm INTERFACE $<BUILD_INTERFACE:OpenMP::OpenMP_CXX>
                                          $<INSTALL_INTERFACE:$<TARGET_NAME_IF_EXISTS:OpenMP::OpenMP_CXX>>)
endif()
target_sources(storylm INTERFACE
  FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${storylm_headers}
  FILE_SET included TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${storylm_included_headers})
set_target_properties(storylm PROPERTIES INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)

# storylm::kernels: see there. Compiled only where something links it.
include(${CMAKE_CURRENT_LIST_DIR}/cpu_kernels.cmake)
set_property(GLOBAL PROPERTY storylm_cpu_kernel_folder ${PROJECT_SOURCE_DIR}/include/storylm/kernels/cpu)
storylm_add_kernels_target()

# storylm::io: file formats, on Boost.JSON. Where only Boost's headers are there, one small static library compiles them.
if(TARGET Boost::json OR BoostJSON_FOUND)
  add_library(storylm_io INTERFACE)
  add_library(storylm::io ALIAS storylm_io)
  set_target_properties(storylm_io PROPERTIES EXPORT_NAME io)
  target_compile_definitions(storylm_io INTERFACE STORYLM_WITH_IO)
  if(TARGET Boost::json)
    target_link_libraries(storylm_io INTERFACE storylm Boost::json Threads::Threads)
  else()
    add_library(storylm_boost_json STATIC ${PROJECT_SOURCE_DIR}/cmake/boost_json.cpp)
    add_library(storylm::boost_json ALIAS storylm_boost_json)
    set_target_properties(storylm_boost_json PROPERTIES EXPORT_NAME boost_json POSITION_INDEPENDENT_CODE ON
                                                        VERIFY_INTERFACE_HEADER_SETS OFF)
    target_compile_features(storylm_boost_json PUBLIC cxx_std_20)
    target_link_libraries(storylm_boost_json PUBLIC BoostJSON::headers)
    target_link_libraries(storylm_io INTERFACE storylm storylm_boost_json Threads::Threads)
  endif()
  target_sources(storylm_io INTERFACE
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${storylm_io_headers})
endif()

# storylm::sentencepiece: the tokenizer.
if(TARGET SentencePiece::SentencePiece)
  add_library(storylm_sentencepiece INTERFACE)
  add_library(storylm::sentencepiece ALIAS storylm_sentencepiece)
  set_target_properties(storylm_sentencepiece PROPERTIES EXPORT_NAME sentencepiece)
  target_compile_definitions(storylm_sentencepiece INTERFACE STORYLM_WITH_SENTENCEPIECE)
  target_link_libraries(storylm_sentencepiece INTERFACE storylm SentencePiece::SentencePiece)
  target_sources(storylm_sentencepiece INTERFACE
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${storylm_sentencepiece_headers})
endif()

# Not installed: verifies that the headers that need both stand alone.
if(TARGET storylm_io AND TARGET storylm_sentencepiece)
  add_library(storylm_io_and_sentencepiece INTERFACE)
  target_link_libraries(storylm_io_and_sentencepiece INTERFACE storylm_io storylm_sentencepiece)
  target_sources(storylm_io_and_sentencepiece INTERFACE
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${storylm_both_headers})
endif()

include(${CMAKE_CURRENT_LIST_DIR}/cuda.cmake)
set(CMAKE_VERIFY_INTERFACE_HEADER_SETS OFF)
