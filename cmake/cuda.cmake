# storylm::cuda: the CUDA backend, where nvcc and cuBLASLt are. Nothing else of this project needs either.
include(${PROJECT_SOURCE_DIR}/cmake/cuda_kernels.cmake)
set_property(GLOBAL PROPERTY storylm_kernel_list ${PROJECT_SOURCE_DIR}/include/storylm/kernels/cuda/instantiate.cuh)

if(NOT STORYLM_CUDA MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|YES|NO|1|0)$")
  message(FATAL_ERROR "storylm: STORYLM_CUDA is AUTO, ON or OFF, not \"${STORYLM_CUDA}\"")
endif()

set(storylm_cuda_problem "")
if(STORYLM_CUDA)  # AUTO is true
  find_package(CUDAToolkit 12 QUIET)
  if(NOT CUDAToolkit_FOUND)
    set(storylm_cuda_problem "no CUDA toolkit with nvcc 12 or newer (tried: 13.0)")
  elseif(NOT TARGET CUDA::cublasLt)
    set(storylm_cuda_problem "no cuBLASLt beside the CUDA toolkit ${CUDAToolkit_VERSION}")
  else()
    if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
      set(ENV{CUDACXX} ${CUDAToolkit_NVCC_EXECUTABLE})
    endif()
    storylm_choose_cuda_architectures()  # before the language: nvcc's own default is too old a GPU
    include(CheckLanguage)
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER)
      set(storylm_cuda_problem "${CUDAToolkit_NVCC_EXECUTABLE} does not work with this compiler")
    endif()
  endif()
  if(storylm_cuda_problem AND NOT STORYLM_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "storylm: STORYLM_CUDA is ${STORYLM_CUDA}, but there is ${storylm_cuda_problem}")
  elseif(storylm_cuda_problem)
    message(STATUS "storylm: ${storylm_cuda_problem}; storylm::cuda is left out")
  endif()
endif()

if(STORYLM_CUDA AND NOT storylm_cuda_problem)
  enable_language(CUDA)
  message(STATUS "storylm: CUDA ${CUDAToolkit_VERSION} for the architectures ${CMAKE_CUDA_ARCHITECTURES}")
  add_library(storylm_cuda INTERFACE)
  add_library(storylm::cuda ALIAS storylm_cuda)
  set_target_properties(storylm_cuda PROPERTIES EXPORT_NAME cuda INTERFACE_HEADER_SETS_TO_VERIFY HEADERS)
  target_compile_definitions(storylm_cuda INTERFACE STORYLM_WITH_CUDA)
  # CMake 3.25 does not know that nvcc has C++20, and a newer one may read what an older one installed: the option is for both.
  target_compile_options(storylm_cuda INTERFACE $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-std=c++20;--expt-relaxed-constexpr>)
  # The static runtime is nvcc's own default; the shared one would come on top of it.
  target_link_libraries(storylm_cuda INTERFACE storylm CUDA::cudart_static CUDA::cublasLt)
  target_sources(storylm_cuda INTERFACE
    FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${storylm_cuda_headers}
    FILE_SET kernels TYPE HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${storylm_cuda_kernel_headers})
endif()
