// SPDX-License-Identifier: MIT
/// @file
/// @brief Where a model drops: one site number per use of randomness, and the DropoutSpec of a pass.
#pragma once

#include <cstdint>

#include <storylm/kernels/kernel.hpp>
#include <storylm/tensor/pass.hpp>

namespace storylm::nn {

/// Dropout of one place in a model. There is no layer of its own: whichever op writes or adds the tensor applies it.
/// Srivastava et al., JMLR 15 (2014).
struct Dropout {
  double probability = 0.0;  ///< of being dropped, in [0, 1)
  std::uint32_t site = 0;    ///< one of DropoutSites

  /// What a kernel needs of it in this pass; inactive outside training. @throws ArgumentError in training without a
  /// StepState
  template <Device D>
  [[nodiscard]] DropoutSpec in(const Pass<D>& pass) const {
    if (!pass.training || probability == 0.0) return {};
    expects<ArgumentError>(pass.state != nullptr, "Dropout",
                           "a training pass needs a StepState: masks depend on the step");
    return {.probability = probability, .seed = pass.seed, .site = site, .state = pass.state};
  }
};

/// Site numbers: the embedding's is 0, block b has four from 1 + 4 b on.
struct DropoutSites {
  /// Of the embedding with its positions.
  static constexpr std::uint32_t embedding = 0;
  /// Of the probabilities.
  static constexpr std::uint32_t attention(std::uint32_t block) { return 1 + 4 * block; }
  /// Before its residual.
  static constexpr std::uint32_t attention_branch(std::uint32_t block) { return 2 + 4 * block; }
  /// Inside the feed-forward layer.
  static constexpr std::uint32_t hidden(std::uint32_t block) { return 3 + 4 * block; }
  /// Before its residual.
  static constexpr std::uint32_t feed_forward_branch(std::uint32_t block) { return 4 + 4 * block; }
};

}  // namespace storylm::nn
