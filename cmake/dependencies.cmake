# Where each dependency comes from: the parent's target, else the system, else (Eigen alone, and only when asked) the network.
# What each one is for, and why it is found this way: docs/design/dependencies.md.

if(NOT TARGET Eigen3::Eigen)
  find_package(Eigen3 3.4 QUIET NO_MODULE)
endif()
if(NOT TARGET Eigen3::Eigen)
  if(NOT STORYLM_FETCH_DEPENDENCIES)
    message(FATAL_ERROR "storylm needs Eigen 3.4: install libeigen3-dev (scripts/setup.sh does), point CMAKE_PREFIX_PATH at it, "
                        "or let CMake download it with -DSTORYLM_FETCH_DEPENDENCIES=ON")
  endif()
  message(STATUS "storylm: downloading Eigen 3.4.0 (STORYLM_FETCH_DEPENDENCIES is ON)")
  include(FetchContent)
  FetchContent_Declare(Eigen GIT_REPOSITORY https://gitlab.com/libeigen/eigen.git GIT_TAG 3.4.0 GIT_SHALLOW ON SYSTEM)
  set(CMAKE_POLICY_DEFAULT_CMP0077 NEW)  # else Eigen's own options overrule these
  set(EIGEN_BUILD_DOC OFF)
  set(BUILD_TESTING OFF)
  FetchContent_MakeAvailable(Eigen)
  unset(BUILD_TESTING)
  unset(CMAKE_POLICY_DEFAULT_CMP0077)
endif()

if(NOT TARGET OpenMP::OpenMP_CXX)
  find_package(OpenMP QUIET COMPONENTS CXX)
endif()
if(NOT TARGET OpenMP::OpenMP_CXX)
  message(STATUS "storylm: no OpenMP for this compiler; the CPU backend will run on one thread")
endif()

find_package(Threads REQUIRED)  # of storylm::io, which reads stories on all cores

find_package(BoostJSON 1.75 QUIET)
if(NOT TARGET Boost::json AND NOT BoostJSON_FOUND)
  message(STATUS "storylm: no Boost headers of at least 1.75 (Debian 12: libboost1.81-dev, Ubuntu 24.04: libboost1.83-dev, "
                 "elsewhere -DBOOST_ROOT=DIR); storylm::io is left out")
endif()

if(NOT TARGET SentencePiece::SentencePiece)
  find_package(SentencePiece QUIET)
endif()
if(NOT TARGET SentencePiece::SentencePiece)
  message(STATUS "storylm: no SentencePiece (libsentencepiece-dev); storylm::sentencepiece is left out")
endif()
