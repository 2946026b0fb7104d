# find_package(storylm [version] [COMPONENTS io sentencepiece kernels cuda]). Each component but kernels has an export file of
# its own, so that the library alone never asks for Boost, SentencePiece or CUDA.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(storylm_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/storylm)

install(TARGETS storylm EXPORT storylm-targets FILE_SET HEADERS FILE_SET included)
install(EXPORT storylm-targets NAMESPACE storylm:: DESTINATION ${storylm_config_dir})
if(TARGET storylm_io)
  set(storylm_io_parts storylm_io)
  if(TARGET storylm_boost_json)
    list(APPEND storylm_io_parts storylm_boost_json)
  endif()
  install(TARGETS ${storylm_io_parts} EXPORT storylm-io-targets FILE_SET HEADERS)
  install(EXPORT storylm-io-targets NAMESPACE storylm:: DESTINATION ${storylm_config_dir})
endif()
if(TARGET storylm_sentencepiece)
  install(TARGETS storylm_sentencepiece EXPORT storylm-sentencepiece-targets FILE_SET HEADERS)
  install(EXPORT storylm-sentencepiece-targets NAMESPACE storylm:: DESTINATION ${storylm_config_dir})
endif()
if(TARGET storylm_cuda)
  install(TARGETS storylm_cuda EXPORT storylm-cuda-targets FILE_SET HEADERS FILE_SET kernels)
  install(EXPORT storylm-cuda-targets NAMESPACE storylm:: DESTINATION ${storylm_config_dir})
  install(FILES ${PROJECT_SOURCE_DIR}/cmake/cuda_kernels.cmake DESTINATION ${storylm_config_dir})
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/storylm-config.cmake.in ${PROJECT_BINARY_DIR}/storylm-config.cmake
  INSTALL_DESTINATION ${storylm_config_dir} NO_SET_AND_CHECK_MACRO PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/storylm-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/storylm-config.cmake ${PROJECT_BINARY_DIR}/storylm-config-version.cmake
              ${PROJECT_SOURCE_DIR}/cmake/cpu_kernels.cmake ${PROJECT_SOURCE_DIR}/cmake/hugging_face_preset.cmake
              ${PROJECT_SOURCE_DIR}/cmake/FindBoostJSON.cmake ${PROJECT_SOURCE_DIR}/cmake/FindSentencePiece.cmake
        DESTINATION ${storylm_config_dir})
