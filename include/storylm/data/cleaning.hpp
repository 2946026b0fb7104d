// SPDX-License-Identifier: MIT
/// @file
/// @brief Turns a raw story into one clean line, and counts what was wrong with it.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <storylm/core/dtype.hpp>
#include <storylm/detail/utf8.hpp>

namespace storylm {

/// How many stories were kept, dropped or repaired, and why. A story with several faults counts for each.
struct CleaningCounts {
  index_t kept = 0;               ///< stories that came out
  index_t dropped_empty = 0;      ///< nothing but whitespace and what is removed below
  index_t dropped_long_word = 0;  ///< a word of more than max_word_bytes: data, not a story
  index_t outer_whitespace = 0;   ///< began or ended in whitespace
  index_t invalid_utf8 = 0;       ///< had bytes that are not UTF-8 (removed)
  index_t control = 0;            ///< had control characters (removed; tabs and line ends are whitespace)
  index_t replacement = 0;        ///< had U+FFFD, left by an earlier failed decoding (removed)
  index_t invisible = 0;          ///< had zero-width spaces or byte order marks (removed)
  index_t chat_markers = 0;       ///< had <|im_start|> and the like, whole or in fragments (removed)
  index_t mojibake = 0;           ///< had quotation marks or dashes decoded as Windows-1252 (put right)

  /// Adds what was counted elsewhere.
  CleaningCounts& operator+=(const CleaningCounts& other) noexcept {
    kept += other.kept;
    dropped_empty += other.dropped_empty;
    dropped_long_word += other.dropped_long_word;
    outer_whitespace += other.outer_whitespace;
    invalid_utf8 += other.invalid_utf8;
    control += other.control;
    replacement += other.replacement;
    invisible += other.invisible;
    chat_markers += other.chat_markers;
    mojibake += other.mojibake;
    return *this;
  }
  /// Field by field.
  friend bool operator==(const CleaningCounts&, const CleaningCounts&) = default;
};

/// The longest word that clean_story() takes for one.
inline constexpr std::size_t max_word_bytes = 65536;

namespace detail {

/// Bytes at the beginning of `text`, which begins with a plain character, that stay as they are: plain characters, and
/// single spaces between them.
[[nodiscard]] inline std::size_t plain_run(std::string_view text) {
  const auto plain = [](char c) { return static_cast<unsigned char>(c - 0x20) < 0x5F && c != '<'; };  // or a space
  constexpr std::size_t block = 32;
  std::size_t end = 0;
  while (end + block < text.size()) {
    unsigned char other = 0;
    for (std::size_t i = end; i < end + block; ++i) {  // bytes only, and no way out on the way: it runs in vectors
      const auto c = static_cast<unsigned char>(text[i]);
      const auto next = static_cast<unsigned char>(text[i + 1]);
      other = static_cast<unsigned char>(other | (static_cast<unsigned char>(c - 0x20U) >= 0x5FU) | (c == '<') |
                                         ((c | next) == ' '));
    }
    if (other != 0) break;
    end += block;
  }
  while (end < text.size() && plain(text[end]) && !(text[end] == ' ' && end > 0 && text[end - 1] == ' ')) ++end;
  while (text[end - 1] == ' ') --end;
  return end;
}

/// Bytes of the longest run without a space.
[[nodiscard]] inline std::size_t longest_word(std::string_view text) {
  std::size_t longest = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' '), text.size());
    longest = std::max(longest, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return longest;
}

/// Bytes of the chat marker at the beginning of `text`: <|name|> with any end missing, then the speaker's role.
[[nodiscard]] inline std::size_t chat_marker(std::string_view text) {
  if (!text.starts_with("<|")) return 0;
  std::size_t end = 2;
  while (end < text.size() && ((text[end] >= 'a' && text[end] <= 'z') || text[end] == '_')) ++end;
  const std::string_view name = text.substr(2, end - 2);
  if (name.empty() || name.size() > 20) return 0;
  if (end < text.size() && text[end] == '|') ++end;
  if (end < text.size() && text[end] == '>') ++end;
  if (name == "im_start") {
    for (const std::string_view role : {"system", "user", "assistant"}) {
      if (text.substr(end).starts_with(role)) return end + role.size();
    }
  }
  return end;
}

/// U+2018 ... U+2026 in UTF-8, decoded as Windows-1252, begin with these two characters: bytes E2 80.
inline constexpr std::string_view mojibake_prefix = "\u00E2\u20AC";

/// What the mojibake at the beginning of `text` (after the prefix) stood for, and how many bytes of it that uses.
struct Mojibake {
  std::string_view meant;
  std::size_t bytes = 0;
};

[[nodiscard]] inline Mojibake mojibake(std::string_view text) {
  struct Pair {
    std::string_view seen;
    std::string_view meant;
  };
  constexpr std::array<Pair, 8> pairs{{{"\u02DC", "\u2018"},
                                       {"\u2122", "\u2019"},
                                       {"\u0153", "\u201C"},
                                       {"\u009D", "\u201D"},
                                       {"\u201C", "\u2013"},
                                       {"\u201D", "\u2014"},
                                       {"\u00A6", "\u2026"},
                                       {"\u2013", "\u2013"}}};
  for (const Pair& pair : pairs) {
    if (text.starts_with(pair.seen)) return {pair.meant, pair.seen.size()};
  }
  return {"\u201D", 0};  // byte 9D has no character in Windows-1252: the closing quotation mark has lost it
}

}  // namespace detail

/// Writes `raw` to `clean` as one line: whitespace runs, line ends among them, become one space, none at either end;
/// what CleaningCounts lists is removed or put right. @return whether there is a story; if not, why is counted
[[nodiscard]] inline bool clean_story(std::string_view raw, std::string& clean, CleaningCounts& counts) {
  bool control = false;
  bool replacement = false;
  bool invisible = false;
  bool invalid = false;
  bool marker = false;
  bool mojibake = false;
  bool space = false;  // whitespace came since the last character kept
  bool outer = false;
  clean.clear();

  const auto keep = [&](std::string_view text) {
    if (space && !clean.empty()) clean += ' ';
    outer = outer || (space && clean.empty());
    space = false;
    clean += text;
  };

  for (std::size_t i = 0; i < raw.size();) {
    const auto c = static_cast<unsigned char>(raw[i]);
    if (c > 0x20 && c < 0x7F && c != '<') {  // the common case
      const std::size_t bytes = detail::plain_run(raw.substr(i));
      keep(raw.substr(i, bytes));
      i += bytes;
      continue;
    }
    if (c == '<') {
      const std::size_t bytes = detail::chat_marker(raw.substr(i));
      if (bytes == 0) {
        keep("<");
        ++i;
      } else {
        marker = space = true;
        i += bytes;
      }
      continue;
    }
    if (raw.substr(i).starts_with(detail::mojibake_prefix)) {
      const detail::Mojibake found = detail::mojibake(raw.substr(i + detail::mojibake_prefix.size()));
      keep(found.meant);
      mojibake = true;
      i += detail::mojibake_prefix.size() + found.bytes;
      continue;
    }
    const detail::Utf8 next = detail::decode_utf8(raw, i);
    if (next.bytes == 0) {
      invalid = true;
      ++i;
      continue;
    }
    const char32_t point = next.code_point;
    if (point == ' ' || (point >= '\t' && point <= '\r') || point == 0x85 || point == 0xA0 || point == 0x2028 ||
        point == 0x2029) {
      space = true;
    } else if (point < 0x20 || (point >= 0x7F && point < 0xA0)) {
      control = true;
    } else if (point == 0xFFFD) {
      replacement = true;
    } else if (point == 0x200B || point == 0x2060 || point == 0xFEFF) {
      invisible = true;
    } else {
      keep(raw.substr(i, next.bytes));
    }
    i += next.bytes;
  }

  counts.control += control ? 1 : 0;
  counts.replacement += replacement ? 1 : 0;
  counts.invisible += invisible ? 1 : 0;
  counts.invalid_utf8 += invalid ? 1 : 0;
  counts.chat_markers += marker ? 1 : 0;
  counts.mojibake += mojibake ? 1 : 0;
  if (clean.empty()) {
    ++counts.dropped_empty;
    return false;
  }
  if (clean.size() > max_word_bytes && detail::longest_word(clean) > max_word_bytes) {
    ++counts.dropped_long_word;
    return false;
  }
  counts.outer_whitespace += outer || space ? 1 : 0;
  ++counts.kept;
  return true;
}

}  // namespace storylm
