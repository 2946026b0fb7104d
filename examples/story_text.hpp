// SPDX-License-Identifier: MIT
/// @file
/// @brief From a prompt to token ids, and from ids back to one line of text that begins with the prompt as it was
/// typed.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/text/tokenizer.hpp>

namespace program {

/// Length in bytes of the whitespace or control character that `text` begins with, else 0. Beside ASCII's these are the
/// line ends that some programs know: U+0085, U+2028 and U+2029.
inline std::size_t whitespace_length(std::string_view text) {
  if (text.empty()) return 0;
  const auto first = static_cast<unsigned char>(text.front());
  if (first <= 0x20 || first == 0x7F) return 1;
  if (text.starts_with("\u0085")) return 2;
  return text.starts_with("\u2028") || text.starts_with("\u2029") ? 3 : 0;
}

/// The first character of a text.
struct FirstCharacter {
  std::size_t length = 1;  ///< in bytes
  bool whole = false;      ///< else it is the longest beginning of a character there, or a byte that begins none
};

/// The character of UTF-8 (RFC 3629) that `text`, which is not empty, begins with.
inline FirstCharacter first_character(std::string_view text) {
  const auto byte = [text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const unsigned first = byte(0);
  if (first < 0x80) return {.whole = true};
  if (first < 0xC2 || first > 0xF4) return {};
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  for (std::size_t i = 1; i < length; ++i) {
    unsigned least = 0x80;
    unsigned most = 0xBF;
    if (i == 1) {  // neither more bytes than needed, nor surrogates, nor beyond U+10FFFF
      least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : least;
      most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : most;
    }
    if (byte(i) < least || byte(i) > most) return {.length = i};
  }
  return {.length = length, .whole = true};
}

/// `text` as UTF-8 without control characters: what is neither becomes U+FFFD.
inline std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const FirstCharacter next = first_character(text);
    const std::string_view character = text.substr(0, next.length);
    const auto first = static_cast<unsigned char>(text.front());
    const bool control = first < 0x20 || first == 0x7F ||
                         (character.size() == 2 && first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0);
    result += next.whole && !control ? character : std::string_view("\uFFFD");
    text.remove_prefix(next.length);
  }
  return result;
}

/// The stories that continue one prompt, as text.
///
/// Tokenizers treat spaces in two ways. SentencePiece as we train it drops spaces at the end of what it encodes and
/// writes a space before every word it decodes; byte-level BPE, and Llama's SentencePiece, keep every space, so that
/// one at the end of the prompt is a token of its own. Either way the continuation is what decoding adds to the decoded
/// prompt, and it loses its leading space where the prompt ends in one.
template <storylm::Tokenizer T>
class StoryText {
 public:
  /// @param adds_bos whether the model was trained with BOS before a text, as ours are; without one, an empty prompt
  /// is BOS all the same, for a model needs a token to begin with
  /// @throws storylm::ArgumentError when the prompt is more than one line, or has no tokens at all
  StoryText(T tokenizer, std::string prompt, bool adds_bos = true)
      : tokenizer_(std::move(tokenizer)), prompt_(std::move(prompt)) {
    storylm::expects<storylm::ArgumentError>(prompt_.find_first_of("\r\n") == std::string::npos, "prompt",
                                             "it must be one line, stories are written one per line");
    const auto encoded = tokenizer_.encode(prompt_);
    if (tokenizer_.bos() >= 0 && (adds_bos || encoded.empty())) ids_.push_back(tokenizer_.bos());
    ids_.insert(ids_.end(), encoded.begin(), encoded.end());
    storylm::expects<storylm::ArgumentError>(
        !ids_.empty(), "prompt", "it has no tokens, and the tokenizer has no BOS to begin with instead: give a word");
    decoded_prompt_ = tokenizer_.decode(ids_);
    ends_in_space_ = !prompt_.empty() && whitespace_length(std::string_view(prompt_).substr(prompt_.size() - 1)) != 0;
  }

  /// BOS, where there is to be one, and the prompt, lower-cased first where the tokenizer says so.
  [[nodiscard]] const std::vector<storylm::token_t>& prompt_ids() const noexcept { return ids_; }
  /// True when a space at the end of the prompt is part of its tokens: such a model expects the space to come with the
  /// word that follows, and goes on less well without it.
  [[nodiscard]] bool ends_in_space_token() const { return ends_in_space_ && decoded_prompt_.ends_with(' '); }
  /// As it was typed.
  [[nodiscard]] const std::string& prompt() const noexcept { return prompt_; }

  /// What follows the prompt in a story (ids of prompt and continuation), every run of whitespace as one space, and
  /// bytes that are not UTF-8 as U+FFFD.
  [[nodiscard]] std::string continuation(std::span<const storylm::token_t> story) const {
    const std::string decoded = tokenizer_.decode(story);
    std::string_view text = decoded;
    text.remove_prefix(std::string_view(decoded).starts_with(decoded_prompt_) ? decoded_prompt_.size() : 0);
    std::string result;
    bool after_space = ends_in_space_;
    while (!text.empty()) {
      const std::size_t space = whitespace_length(text);
      const FirstCharacter next = first_character(text);
      if (space == 0) {
        result += next.whole ? text.substr(0, next.length) : std::string_view("\uFFFD");
      } else if (!after_space) {
        result += ' ';
      }
      after_space = space != 0;
      text.remove_prefix(space != 0 ? space : next.length);
    }
    return result;
  }
  /// The story as a line, without its end.
  [[nodiscard]] std::string line(std::span<const storylm::token_t> story) const {
    return prompt_ + continuation(story);
  }

 private:
  T tokenizer_;
  std::string prompt_;
  std::vector<storylm::token_t> ids_;
  std::string decoded_prompt_;
  bool ends_in_space_ = false;
};

/// Hands out a story's text as it grows.
class GrowingText {
 public:
  /// The part of `text`, the story so far, that has not been handed out. Unless the story is `complete`, characters at
  /// its end that lack some of their bytes (U+FFFD until those come) are kept back.
  [[nodiscard]] std::string_view grow(std::string_view text, bool complete) {
    constexpr std::string_view broken = "\uFFFD";
    while (!complete && text.ends_with(broken)) text.remove_suffix(broken.size());
    if (text.size() <= shown_) return {};
    return text.substr(std::exchange(shown_, text.size()));
  }

 private:
  std::size_t shown_ = 0;
};

}  // namespace program
