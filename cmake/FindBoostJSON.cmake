# Finds Boost headers of at least the version asked for, and the compiled Boost.JSON where there is one.
#
# Targets: BoostJSON::headers always; Boost::json where Boost's own CMake package has it. Debian keeps the compiled library
# in a package of its own, and a default Boost may be too old beside a newer one, so the headers alone are enough.
# Variables: BoostJSON_FOUND, BoostJSON_VERSION. A tree unpacked by hand is named with -DBOOST_ROOT=DIR.
if(NOT TARGET Boost::json)
  find_package(Boost ${BoostJSON_FIND_VERSION} QUIET CONFIG OPTIONAL_COMPONENTS json HINTS ${BOOST_ROOT} $ENV{BOOST_ROOT})
endif()

set(boost_json_hints ${BOOST_ROOT} $ENV{BOOST_ROOT} ${Boost_INCLUDE_DIRS})
if(TARGET Boost::json)
  get_target_property(boost_json_parent_dirs Boost::json INTERFACE_INCLUDE_DIRECTORIES)
  if(boost_json_parent_dirs)
    list(PREPEND boost_json_hints ${boost_json_parent_dirs})
  endif()
endif()
find_path(BoostJSON_INCLUDE_DIR boost/json/src.hpp HINTS ${boost_json_hints} PATH_SUFFIXES include)
mark_as_advanced(BoostJSON_INCLUDE_DIR)

if(BoostJSON_INCLUDE_DIR)
  file(STRINGS ${BoostJSON_INCLUDE_DIR}/boost/version.hpp boost_json_line REGEX "^#define BOOST_LIB_VERSION ")
  string(REGEX REPLACE ".*\"([0-9_]+)\".*" "\\1" BoostJSON_VERSION "${boost_json_line}")
  string(REPLACE "_" "." BoostJSON_VERSION "${BoostJSON_VERSION}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(BoostJSON REQUIRED_VARS BoostJSON_INCLUDE_DIR VERSION_VAR BoostJSON_VERSION)

if(BoostJSON_FOUND AND NOT TARGET BoostJSON::headers)
  add_library(BoostJSON::headers INTERFACE IMPORTED)
  target_include_directories(BoostJSON::headers INTERFACE ${BoostJSON_INCLUDE_DIR})
endif()
