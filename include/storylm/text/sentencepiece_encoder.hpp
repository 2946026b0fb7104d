// SPDX-License-Identifier: MIT
/// @file
/// @brief Encodes much text with one SentencePiece BPE model: looks words up that came before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/text/lower_case.hpp>
#include <storylm/text/sentencepiece.hpp>
#include <storylm/text/word_table.hpp>

namespace storylm {

/// Gives what SentencePieceTokenizer::encode() gives, many times faster on a corpus: BPE pieces end at spaces, so the
/// ids of a text are those of its words, and most words have been seen before. One for each thread.
class SentencePieceEncoder {
 public:
  /// Remembers nothing yet.
  explicit SentencePieceEncoder(SentencePieceTokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}

  /// Writes the ids of `text` to `tokens`, replacing what was there.
  void encode(std::string_view text, std::vector<token_t>& tokens) {
    tokens.clear();
    append(text, tokens);
  }
  /// Writes the ids of `text` behind what is in `tokens`.
  void append(std::string_view text, std::vector<token_t>& tokens) {
    if (tokenizer_.lowercase()) {
      lower_case(text, lower_);
      text = lower_;
    }
    if (!tokenizer_.words_are_independent() || !single_spaces(text)) {
      const std::vector<token_t> all = tokenizer_.encode(text);
      tokens.insert(tokens.end(), all.begin(), all.end());
      return;
    }
    while (!text.empty()) {
      const detail::Word word = detail::take_word(text);
      const Ids* known = words_.find(word);
      if (known == nullptr) {
        append_new(word, tokens);
      } else if (known->count == 1) {
        tokens.push_back(static_cast<token_t>(known->first));
      } else {
        const auto first = kept_.begin() + static_cast<std::ptrdiff_t>(known->first);
        tokens.insert(tokens.end(), first, first + static_cast<std::ptrdiff_t>(known->count));
      }
    }
  }

 private:
  static constexpr std::size_t max_tokens = std::size_t{1} << 21U;  // kept: 8 MB, more than any book's vocabulary
  static constexpr std::size_t max_bytes = std::size_t{1} << 26U;   // of words and their places: a million words
  static constexpr std::size_t max_word = 64;                       // bytes; longer ones do not come twice

  /// One id, or a range in kept_.
  struct Ids {
    std::uint32_t first = 0;
    std::uint32_t count = 0;
  };

  /// True when words are one space apart and nothing else acts as a space: U+2581 is one to SentencePiece.
  static bool single_spaces(std::string_view text) {
    if (text.empty()) return true;
    if (text.front() == ' ' || text.back() == ' ' || text.find("\u2581") != std::string_view::npos) return false;
    bool bad = false;
    for (std::size_t i = 0; i < text.size(); ++i) {  // no way out on the way, so that it runs in vectors
      const auto byte = static_cast<unsigned char>(text[i]);
      bad |= byte < 0x20 || byte == 0x7F;
    }
    for (std::size_t i = 1; i < text.size(); ++i) bad |= text[i] == ' ' && text[i - 1] == ' ';
    return !bad;
  }

  void append_new(const detail::Word& word, std::vector<token_t>& tokens) {
    const std::vector<token_t> ids = tokenizer_.encode(word.text);
    tokens.insert(tokens.end(), ids.begin(), ids.end());
    if (word.text.size() > max_word) return;
    if (kept_.size() + ids.size() > max_tokens || words_.bytes() > max_bytes) {
      words_.clear();
      kept_.clear();
    }
    const bool one = ids.size() == 1;
    words_.insert(word, {static_cast<std::uint32_t>(one ? static_cast<std::size_t>(ids[0]) : kept_.size()),
                         static_cast<std::uint32_t>(ids.size())});
    if (!one) kept_.insert(kept_.end(), ids.begin(), ids.end());
  }

  SentencePieceTokenizer tokenizer_;
  detail::WordTable<Ids> words_;
  std::vector<token_t> kept_;  // the ids of the words in words_ that have several
  std::string lower_;
};

}  // namespace storylm
