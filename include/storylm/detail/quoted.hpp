// SPDX-License-Identifier: MIT
/// @file
/// @brief Text from files as messages may show it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace storylm::detail {

/// `text` with control characters, quotation marks and backslashes escaped, and cut behind `longest` bytes.
[[nodiscard]] inline std::string escaped(std::string_view text, std::size_t longest) {
  std::string shown;
  for (const char c : text.substr(0, longest)) {
    const auto code = static_cast<unsigned char>(c);
    if (code < 0x20U || code == 0x7FU) {
      constexpr std::string_view digits = "0123456789abcdef";
      ((shown += "\\x") += digits[code >> 4U]) += digits[code & 15U];
    } else {
      if (c == '"' || c == '\\') shown += '\\';
      shown += c;
    }
  }
  return text.size() > longest ? shown += "..." : shown;
}
/// `text` in quotes, escaped, at most about 80 characters.
[[nodiscard]] inline std::string quoted(std::string_view text) { return '"' + escaped(text, 80) + '"'; }

}  // namespace storylm::detail
