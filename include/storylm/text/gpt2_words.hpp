// SPDX-License-Identifier: MIT
/// @file
/// @brief GPT-2's pre-tokenizer: cuts a text into the words that byte-level BPE works on.
///
/// A. Radford et al., "Language models are unsupervised multitask learners", 2019; its expression is
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include <storylm/detail/utf8.hpp>
#include <storylm/text/unicode_classes.hpp>

namespace storylm::detail {

/// A character's class and the bytes it takes. A byte that is not UTF-8 is a character of its own, of class other.
struct ClassedCharacter {
  UnicodeClass kind = UnicodeClass::other;
  std::size_t bytes = 1;
};
[[nodiscard]] inline ClassedCharacter classed_character(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) return {unicode_class(first), 1};
  const Utf8 character = decode_utf8(text, at);
  if (character.bytes == 0) return {};
  return {unicode_class(character.code_point), character.bytes};
}

/// Bytes of 's, 't, 're, 've, 'm, 'll or 'd at the beginning of `text`; 0 where there is none of them.
[[nodiscard]] inline std::size_t contraction_bytes(std::string_view text) {
  constexpr std::array<std::string_view, 7> contractions{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
  if (text.empty() || text.front() != '\'') return 0;
  for (const std::string_view contraction : contractions) {
    if (text.starts_with(contraction)) return contraction.size();
  }
  return 0;
}

/// Bytes of the first word of `text`, which is not empty. All words together are the text, and finding them takes time
/// proportional to it.
[[nodiscard]] inline std::size_t gpt2_word_bytes(std::string_view text) {
  if (const std::size_t bytes = contraction_bytes(text); bytes != 0) return bytes;
  const std::size_t begin = text.front() == ' ' && text.size() > 1 ? 1 : 0;  // ` ?`: the space belongs to the word
  ClassedCharacter character = classed_character(text, begin);
  if (character.kind != UnicodeClass::space) {
    const UnicodeClass kind = character.kind;
    std::size_t end = begin;
    do {
      end += character.bytes;
    } while (end < text.size() && (character = classed_character(text, end)).kind == kind);
    return end;
  }
  std::size_t end = 0;
  std::size_t last = 0;  // where the last space of the run begins
  while (end < text.size() && (character = classed_character(text, end)).kind == UnicodeClass::space) {
    last = end;
    end += character.bytes;
  }
  // \s+(?!\S): with something behind, the last space is left to it, unless it is the only one.
  return end < text.size() && last != 0 ? last : end;
}

}  // namespace storylm::detail
