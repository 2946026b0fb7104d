// SPDX-License-Identifier: MIT
/// @file
/// @brief Operations of a training step, against sums written out by hand.
#include <doctest/doctest.h>

#include <storylm/models/presets.hpp>
#include <storylm/ops/peak_flops.hpp>
#include <storylm/train/flops.hpp>

using namespace storylm;
using train::flops_per_token;

TEST_CASE("the reference model: six for each weight in a product, and causal attention") {
  // 6 blocks of 4 x 512 x 512 (q, k, v, out) and 2 x 512 x 2048, and the head of 5120 x 512. The embedding is no
  // product.
  constexpr double weights = 6.0 * (4.0 * 512 * 512 + 2.0 * 512 * 2048) + 5120.0 * 512;
  static_assert(flops_per_token(presets::story_24m, 0.0) == 6.0 * weights);
  // Forward: query times keys and probabilities times values, 2 x 2 x 512 operations for each of length / 2 positions
  // before on average; backward twice that.
  constexpr double attention = 6 * 3.0 * (2.0 * 2.0 * 512) * (200.0 / 2.0);
  CHECK(flops_per_token(presets::story_24m, 200.0) == doctest::Approx(6.0 * weights + attention).epsilon(1e-15));
}

TEST_CASE("grouped queries have smaller keys and values, SwiGLU a third matrix, a tied head is a product too") {
  constexpr TransformerConfig c = presets::story_llama_tiny;
  constexpr double q = 4.0 * 32;
  constexpr double kv = 2.0 * 32;
  constexpr double block = 64.0 * (q + 2.0 * kv) + q * 64.0 + 3.0 * 64.0 * 192.0;
  static_assert(flops_per_token(c, 0.0) == 6.0 * (2.0 * block + 512.0 * 64));
  CHECK(flops_per_token(c, 100.0) - flops_per_token(c, 0.0) == doctest::Approx(2 * 3.0 * 4.0 * q * 50.0));
}

TEST_CASE("the machine's peak is a plausible number") {
  const double peak = ops::peak_flops<float>(Cpu({.threads = 1}));
  CHECK(peak > 1e8);
  CHECK(peak < 1e13);
}
