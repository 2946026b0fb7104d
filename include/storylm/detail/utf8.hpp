// SPDX-License-Identifier: MIT
/// @file
/// @brief One character of UTF-8 at a time, strictly.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace storylm::detail {

/// One code point and the number of bytes it takes; 0 bytes where the text is not UTF-8 (RFC 3629).
struct Utf8 {
  char32_t code_point = 0;
  std::size_t bytes = 0;
};

[[nodiscard]] inline Utf8 decode_utf8(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> char32_t {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0U;
  };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t bytes = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
  if (bytes == 0) return {};
  char32_t c = first & (0x7FU >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return {};
    c = (c << 6U) | (byte(i) & 0x3FU);
  }
  constexpr std::array<char32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
  if (c < smallest[bytes] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) return {};
  return {c, bytes};
}

}  // namespace storylm::detail
