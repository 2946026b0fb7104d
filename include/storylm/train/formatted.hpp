// SPDX-License-Identifier: MIT
/// @file
/// @brief printf formatting into a string, cut at 255 characters.
#pragma once

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

namespace storylm::train::detail {

/// Plain printf formatting, for the coordinates and labels of a picture.
template <class... Numbers>
std::string formatted(const char* format, Numbers... numbers) {
  std::array<char, 256> text{};
  const int length = std::snprintf(text.data(), text.size(), format, numbers...);
  return {text.data(), static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(text.size()) - 1))};
}

}  // namespace storylm::train::detail
