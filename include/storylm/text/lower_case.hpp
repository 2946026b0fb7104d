// SPDX-License-Identifier: MIT
/// @file
/// @brief Lower-casing of UTF-8 text that does not depend on the locale.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace storylm {

namespace detail {

/// The lower-case form of a code point by Unicode's simple mapping, for Latin, Greek, Cyrillic, Armenian and full-width
/// letters; any other code point is itself.
[[nodiscard]] constexpr char32_t lower_case_code_point(char32_t c) {
  const auto in = [c](char32_t first, char32_t last) { return c >= first && c <= last; };
  const auto even_is_upper = [c] { return c % 2 == 0 ? c + 1 : c; };
  const auto odd_is_upper = [c] { return c % 2 == 1 ? c + 1 : c; };
  if (c < 0x80) return in(U'A', U'Z') ? c + 32 : c;
  if (c < 0x100) return in(0xC0, 0xDE) && c != 0xD7 ? c + 32 : c;
  if (c < 0x180) {  // Latin Extended-A
    if (c == 0x130) return U'i';
    if (c == 0x178) return 0xFF;
    if (in(0x139, 0x148) || in(0x179, 0x17E)) return odd_is_upper();
    return in(0x100, 0x137) || in(0x14A, 0x177) ? even_is_upper() : c;
  }
  if (in(0x370, 0x3FF)) {  // Greek
    if (c == 0x386) return 0x3AC;
    if (in(0x388, 0x38A)) return c + 37;
    if (c == 0x38C) return 0x3CC;
    if (in(0x38E, 0x38F)) return c + 63;
    return in(0x391, 0x3AB) && c != 0x3A2 ? c + 32 : c;
  }
  if (in(0x400, 0x52F)) {  // Cyrillic
    if (c < 0x410) return c + 80;
    if (c < 0x430) return c + 32;
    if (c == 0x4C0) return 0x4CF;
    if (in(0x4C1, 0x4CE)) return odd_is_upper();
    return in(0x460, 0x481) || in(0x48A, 0x4BF) || in(0x4D0, 0x52F) ? even_is_upper() : c;
  }
  if (in(0x531, 0x556)) return c + 48;  // Armenian
  if (c == 0x1E9E) return 0xDF;
  if (in(0x1E00, 0x1E95) || in(0x1EA0, 0x1EFF)) return even_is_upper();  // Latin Extended Additional
  if (in(0xFF21, 0xFF3A)) return c + 32;                                 // full-width
  return c;
}

/// Appends `c` as UTF-8.
constexpr void append_utf8(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
    return;
  }
  if (c < 0x800) {
    text += static_cast<char>(0xC0U | (c >> 6U));
  } else {
    if (c < 0x10000) {
      text += static_cast<char>(0xE0U | (c >> 12U));
    } else {
      text += static_cast<char>(0xF0U | (c >> 18U));
      text += static_cast<char>(0x80U | ((c >> 12U) & 0x3FU));
    }
    text += static_cast<char>(0x80U | ((c >> 6U) & 0x3FU));
  }
  text += static_cast<char>(0x80U | (c & 0x3FU));
}

/// Appends the ASCII characters at the beginning of `text` in lower case; returns how many there are. Whole blocks run
/// in vectors.
inline std::size_t append_lower_ascii(std::string_view text, std::string& lower) {
  constexpr std::size_t block = 32;
  std::size_t end = 0;
  while (end + block <= text.size()) {
    unsigned char bits = 0;
    for (std::size_t i = end; i < end + block; ++i) {
      bits = static_cast<unsigned char>(bits | static_cast<unsigned char>(text[i]));
    }
    if (bits >= 0x80) break;
    end += block;
  }
  while (end < text.size() && static_cast<unsigned char>(text[end]) < 0x80) ++end;
  const std::size_t before = lower.size();
  lower.append(text, 0, end);
  for (std::size_t i = before; i < lower.size(); ++i) {
    const auto c = static_cast<unsigned char>(lower[i]);
    lower[i] = static_cast<char>(c + (static_cast<unsigned char>(c - 'A') < 26 ? 32 : 0));
  }
  return end;
}

}  // namespace detail

/// Writes `text` in lower case to `lower`, which it does not lie in, replacing what was there: Unicode's simple mapping
/// of one code point to one, for Latin, Greek, Cyrillic, Armenian and full-width letters. Everything else, malformed
/// UTF-8 too, stays as it is.
inline void lower_case(std::string_view text, std::string& lower) {
  lower.clear();
  lower.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t at) -> char32_t {
      return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U;
    };
    const auto continues = [&](std::size_t at) { return (byte(at) & 0xC0U) == 0x80U; };
    const char32_t first = byte(i);
    // Every letter with a mapping takes at most three bytes.
    if (first < 0x80) {
      i += detail::append_lower_ascii(text.substr(i), lower);
    } else if ((first & 0xE0U) == 0xC0U && continues(i + 1)) {
      const char32_t c = ((first & 0x1FU) << 6U) | (byte(i + 1) & 0x3FU);
      const char32_t mapped = detail::lower_case_code_point(c);
      if (c < 0x80 || mapped == c) {
        lower.append(text, i, 2);
      } else {
        detail::append_utf8(lower, mapped);
      }
      i += 2;
    } else if ((first & 0xF0U) == 0xE0U && continues(i + 1) && continues(i + 2)) {
      const char32_t c = ((first & 0x0FU) << 12U) | ((byte(i + 1) & 0x3FU) << 6U) | (byte(i + 2) & 0x3FU);
      const char32_t mapped = detail::lower_case_code_point(c);
      if (c < 0x800 || mapped == c) {
        lower.append(text, i, 3);
      } else {
        detail::append_utf8(lower, mapped);
      }
      i += 3;
    } else {
      lower += text[i++];
    }
  }
}
/// The same as a string of its own.
[[nodiscard]] inline std::string lower_case(std::string_view text) {
  std::string lower;
  lower_case(text, lower);
  return lower;
}

}  // namespace storylm
