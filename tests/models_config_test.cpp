// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <storylm/models/config.hpp>

namespace {
using namespace storylm;

constexpr TransformerConfig small = {.vocab_size = 10, .d_model = 6, .n_layers = 2, .n_heads = 3, .max_len = 5};
static_assert(ValidConfig<small>::value);

TEST_CASE("what is not given is derived") {
  CHECK(small.hidden() == 24);
  CHECK(small.kv_heads() == 3);
  CHECK(small.head_size() == 2);
  const TransformerConfig resolved = small.resolved();
  CHECK(resolved.d_ff == 24);
  CHECK(resolved.n_kv_heads == 3);
  CHECK(resolved.head_dim == 2);
  CHECK(resolved == resolved.resolved());
  CHECK(resolved != small);
  TransformerConfig given = small;
  given.d_ff = 7;
  given.n_kv_heads = 1;
  given.head_dim = 4;
  CHECK(given == given.resolved());
  CHECK(TransformerConfig{}.head_size() == 0);  // of nothing, without dividing by zero
}

TEST_CASE("rotary positions are two of the four kinds") {
  TransformerConfig c = small;
  const auto uses_rope = [&](PositionKind kind) {
    c.positions = kind;
    return c.uses_rope();
  };
  CHECK_FALSE(uses_rope(PositionKind::sinusoidal));
  CHECK_FALSE(uses_rope(PositionKind::learned));
  CHECK(uses_rope(PositionKind::rope_half));
  CHECK(uses_rope(PositionKind::rope_interleaved));
}

TEST_CASE("the number of parameters, field by field") {
  // per block: qkv 6 x 18 + 18, out 6 x 6 + 6, up 6 x 24 + 24, down 24 x 6 + 6, two norms of 12
  constexpr index_t block = 108 + 18 + 36 + 6 + 144 + 24 + 144 + 6 + 24;
  constexpr index_t total = 10 * 6 + 2 * block + 12 + 10 * 6 + 10;
  CHECK(parameter_count(small) == total);
  const auto changed = [](auto change) {
    TransformerConfig c = small;
    change(c);
    return parameter_count(c) - parameter_count(small);
  };
  using C = TransformerConfig&;
  CHECK(changed([](C c) { c.positions = PositionKind::learned; }) == 5 * 6);
  CHECK(changed([](C c) { c.positions = PositionKind::rope_half; }) == 0);
  CHECK(changed([](C c) { c.tie_head = true; }) == -60);
  CHECK(changed([](C c) { c.head_bias = false; }) == -10);
  CHECK(changed([](C c) { c.qkv_bias = false; }) == -2 * 18);
  CHECK(changed([](C c) { c.attention_out_bias = false; }) == -2 * 6);
  CHECK(changed([](C c) { c.feed_forward_bias = false; }) == -2 * (24 + 6));
  CHECK(changed([](C c) { c.norm_bias = false; }) == -5 * 6);
  CHECK(changed([](C c) { c.norm = NormKind::rms_norm; }) == -5 * 6);
  CHECK(changed([](C c) { c.feed_forward = FeedForwardKind::swiglu; }) == 2 * (24 * 6 + 24));
  CHECK(changed([](C c) { c.feed_forward = FeedForwardKind::gelu_tanh; }) == 0);
  CHECK(changed([](C c) { c.n_kv_heads = 1; }) == -2 * 4 * 2 * (6 + 1));
  CHECK(changed([](C c) { c.head_dim = 4; }) == 2 * (18 * 6 + 18 + 6 * 6));
  CHECK(changed([](C c) { c.pre_norm = c.scale_embedding = true; }) == 0);
  CHECK(changed([](C c) { c.sliding_window = 3; }) == 0);
}

TEST_CASE("counts beyond 32 bits") {
  TransformerConfig c = small;
  c.vocab_size = 2'000'000'000;
  CHECK(parameter_count(c) - parameter_count(small) == (2'000'000'000 - 10) * index_t{13});
}

}  // namespace
