// SPDX-License-Identifier: MIT
/// @file
/// @brief Small models that are exported, and what they compute.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include <storylm/io/model_file.hpp>
#include <storylm/nn/transformer_stack.hpp>
#include <storylm/text/sentencepiece_trainer.hpp>

#include "family_configs.hpp"
#include "io_model_support.hpp"
#include "logits_support.hpp"

namespace storylm::test {

inline constexpr index_t export_vocab_size = 290;  // four special pieces, 256 bytes and some words
inline constexpr FamilySizes export_sizes{
    .vocab_size = 290, .d_model = 32, .d_ff = 48, .n_heads = 4, .max_len = 400, .head_dim = 16, .window = 64};
/// Grouped queries, heads that are wider than d_model / n_heads, an own head, no window.
inline constexpr TransformerConfig export_llama = [] {
  TransformerConfig config = resized(llama_config, export_sizes);
  config.sliding_window = 0;
  return config;
}();
inline constexpr TransformerConfig export_gpt2 = resized(gpt2_config, export_sizes);

/// A BPE model of export_vocab_size pieces.
inline SentencePieceTokenizer export_tokenizer(bool lowercase = false) {
  const std::vector<std::string> text{"Once upon a time Lily ran home.",
                                      "The big dog saw a small bird. Lily was happy.",
                                      "Then Ben and Lily played in the big tree, and Mom said hello to Ben."};
  return train_sentencepiece(text, {.vocab_size = export_vocab_size, .byte_fallback = true, .lowercase = lowercase});
}

/// Random weights that are neither so small that all tokens look alike nor so large that rounding counts.
template <class Stack>
void scatter(Stack& model, std::uint64_t seed) {
  RandomStream random(seed, 3, 0x7E57);
  nn::for_each_parameter(model, [&](const std::string& name, auto& p) {
    const bool scale = p.shape().rank() == 1 && name.ends_with("weight");
    std::vector<float> values(static_cast<std::size_t>(p.size()));
    for (float& v : values) v = static_cast<float>((scale ? 1.0 : 0.0) + 0.2 * random.normal());
    p.assign(values);
  });
}

inline std::vector<token_t> random_ids(std::size_t count, index_t vocab_size) {
  RandomStream random(4, 0, 0x1D5);
  std::vector<token_t> ids(count);
  for (token_t& id : ids) id = static_cast<token_t>(random.below(static_cast<std::uint64_t>(vocab_size)));
  return ids;
}

/// A checkpoint with random weights of that shape.
template <class Stack>
Stack write_checkpoint(const std::filesystem::path& path, const TransformerConfig& config,
                       const TransformerOptions& options = {}) {
  Stack model(config, Cpu{}, options, nn::Gradients::no);
  scatter(model, 7);
  save_model(path, model);
  return model;
}

}  // namespace storylm::test
