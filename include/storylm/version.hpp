// SPDX-License-Identifier: MIT
/// @file
/// @brief The version of the library. CMake reads it from here; it is written nowhere else.
#pragma once

#include <string_view>

namespace storylm {

/// Semantic version of this copy of storylm, "major.minor.patch".
inline constexpr std::string_view version = "0.1.0";

}  // namespace storylm
