// SPDX-License-Identifier: MIT
/// @file
/// @brief What a model computes of one text.
#pragma once

#include <span>
#include <vector>

#include <storylm/tensor/packed.hpp>
#include <storylm/tensor/pass.hpp>
#include <storylm/tensor/tensor.hpp>

namespace storylm::test {

/// Logits (tokens, vocab_size) of one text.
template <class Stack>
std::vector<float> logits_of(const Stack& model, std::span<const token_t> ids) {
  const auto tokens = static_cast<index_t>(ids.size());
  Packed<Cpu> batch({.tokens = tokens, .sequences = 1, .longest = tokens}, model.device());
  const std::vector<token_t> targets(ids.size(), no_target);
  batch.append(ids, targets, 0);
  auto cache = model.make_inference_cache(batch.capacity());
  const Pass<Cpu> pass{.device = model.device(), .batch = batch.view()};
  Tensor<float, Cpu> logits({tokens, model.shape().vocab_size}, model.device());
  model.logits(model.hidden(pass, cache), logits.matrix(), pass);
  return logits.to_host();
}

}  // namespace storylm::test
