// SPDX-License-Identifier: MIT
/// @file
/// @brief Stories seen as words and sentences: what the tests of the grammar and of the model trained on it share.
#pragma once

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace storylm::test {

inline bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }

/// Runs of letters, with where each begins.
inline std::vector<std::pair<std::string, std::size_t>> words_of(std::string_view text) {
  std::vector<std::pair<std::string, std::size_t>> words;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && is_letter(text[end])) ++end;
    if (end > at) words.emplace_back(text.substr(at, end - at), at);
    at = std::max(end, at + 1);
  }
  return words;
}

/// Where the third sentence ends, by the strictest count: every ".", "!" and "?" ends a sentence.
inline std::size_t end_of_third_sentence(std::string_view text) {
  std::size_t at = 0;
  for (int sentence = 0; sentence < 3; ++sentence) {
    const std::size_t end = text.find_first_of(".!?", at);
    if (end == std::string_view::npos) return text.size();
    at = end + 1;
  }
  return at;
}

}  // namespace storylm::test
