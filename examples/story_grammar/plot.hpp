// SPDX-License-Identifier: MIT
/// @file
/// @brief What a plot is.
#pragma once

#include <string_view>

namespace story_grammar {

/// @brief A story with all its variants, and the one-sentence summary that fits whatever variant was told.
struct Plot {
  std::string_view name;     ///< for tests and counts
  std::string_view story;    ///< a template (template.hpp); line breaks in the source count as spaces
  std::string_view summary;  ///< a template expanded after the story, with the same words and keys
};

}  // namespace story_grammar
