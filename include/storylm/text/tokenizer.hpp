// SPDX-License-Identifier: MIT
/// @file
/// @brief What the library asks of a tokenizer.
#pragma once

#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/core/dtype.hpp>

namespace storylm {

/// Text to token ids and back. Ids are in [0, vocab_size()); a special token that does not exist is negative. All
/// functions may be called from several threads at once.
template <class T>
concept Tokenizer = requires(const T& tokenizer, std::string_view text, std::span<const token_t> tokens) {
  { tokenizer.vocab_size() } -> std::same_as<index_t>;
  /// Ids of `text` after normalise(), without BOS and EOS.
  { tokenizer.encode(text) } -> std::same_as<std::vector<token_t>>;
  /// The text of `tokens`; control tokens such as BOS, EOS and PAD have none.
  { tokenizer.decode(tokens) } -> std::same_as<std::string>;
  /// What the model was trained on instead of `text`: lower-cased, or `text` itself. encode() applies it.
  { tokenizer.normalise(text) } -> std::same_as<std::string>;
  { tokenizer.bos() } -> std::same_as<token_t>;
  { tokenizer.eos() } -> std::same_as<token_t>;
  { tokenizer.pad() } -> std::same_as<token_t>;
  { tokenizer.unk() } -> std::same_as<token_t>;
  /// 64 bits that tell this vocabulary from any other; token files and checkpoints carry them.
  { tokenizer.hash() } -> std::same_as<std::uint64_t>;
};

}  // namespace storylm
