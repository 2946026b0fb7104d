// SPDX-License-Identifier: MIT
/// @file
/// @brief Stories of random tokens, and a small model's shape: what the tests of training and evaluation run on.
#pragma once

#include <cstdint>
#include <vector>

#include <storylm/core/random.hpp>
#include <storylm/data/token_file.hpp>
#include <storylm/nn/transformer_config.hpp>

namespace storylm::test {

/// The reference architecture, small enough for many steps.
inline constexpr TransformerConfig small_config = {
    .vocab_size = 31, .d_model = 16, .d_ff = 24, .n_layers = 2, .n_heads = 2, .max_len = 16, .scale_embedding = true};

/// `count` stories of 1 to 12 tokens above 2 (1 is BOS, 2 is EOS).
inline TokenLists random_stories(std::size_t count, std::uint64_t seed) {
  RandomStream random(seed, 2, 0x7E57);
  std::vector<std::vector<token_t>> stories(count);
  for (auto& story : stories) {
    story.resize(1 + static_cast<std::size_t>(random.below(12)));
    for (auto& token : story) token = static_cast<token_t>(3 + random.below(28));
  }
  return TokenLists(std::move(stories));
}

}  // namespace storylm::test
