// SPDX-License-Identifier: MIT
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include <doctest/doctest.h>

#include <storylm/generate/kv_cache.hpp>
#include <storylm/models/presets.hpp>

#include "support.hpp"

namespace {

using namespace storylm;

constexpr TransformerConfig windowed() {
  TransformerConfig config = presets::story_llama_tiny;
  config.sliding_window = 5;
  return config;
}
constexpr TransformerConfig small_gpt2() {
  TransformerConfig config = presets::gpt2;
  config.vocab_size = 97;
  config.d_model = 48;
  config.d_ff = 96;
  config.n_layers = 3;
  config.n_heads = 3;
  config.max_len = 64;
  return config;
}

/// Logits of every row of a batch: (tokens * vocab_size).
template <class Stack>
std::vector<float> logits(const Stack& stack, const Packed<Cpu>& batch, bool row_invariant,
                          const nn::KvViews<float>& kv = {}) {
  const Pass<Cpu> pass{.device = stack.device(), .batch = batch.view(), .row_invariant = row_invariant};
  auto cache = stack.make_inference_cache(batch.capacity());
  Tensor<float, Cpu> y({batch.tokens(), stack.shape().vocab_size}, stack.device());
  stack.logits(stack.hidden(pass, cache, kv), y.matrix(), pass);
  return y.to_host();
}

/// Calls f(stack) for a random model of each family.
template <class F>
void for_each_stack(const F& f) {
  for (const TransformerConfig& config : {presets::story_tiny, small_gpt2(), presets::story_llama_tiny, windowed()}) {
    nn::with_stack_type<float, Cpu>(config, [&]<class Stack>(std::type_identity<Stack>) {
      f(Stack(config, Cpu({.threads = 2}), {.seed = 4}, nn::Gradients::no));
    });
  }
}

/// Feeds a story to the cache in pieces and returns all logits.
template <class Stack>
std::vector<float> fed(const Stack& stack, KvCache<float, Cpu>& kv, std::int32_t slot, const std::vector<token_t>& ids,
                       const std::vector<std::size_t>& pieces) {
  std::vector<float> all;
  std::size_t at = 0;
  for (const std::size_t piece : pieces) {
    Packed<Cpu> batch({.tokens = 64, .sequences = 1, .longest = 64}, Cpu{});
    batch.append(std::span(ids).subspan(at, piece), {}, 0, static_cast<index_t>(at));
    const auto part = logits(stack, batch, true, kv.views(std::vector{slot}));
    all.insert(all.end(), part.begin(), part.end());
    at += piece;
  }
  REQUIRE(at == ids.size());
  return all;
}

std::vector<token_t> random_ids(std::size_t count, std::uint64_t seed) {
  RandomStream random(seed);
  std::vector<token_t> ids(count);
  for (token_t& id : ids) id = static_cast<token_t>(random.below(97));
  return ids;
}

TEST_CASE("prompt and continuation through the cache have the logits of the whole context") {
  for_each_stack([](const auto& stack) {
    const auto ids = random_ids(21, 6);
    Packed<Cpu> whole({.tokens = 64, .sequences = 1, .longest = 64}, Cpu{});
    whole.append(ids, {}, 0);
    const auto expected = logits(stack, whole, false);
    KvCache<float, Cpu> kv(stack.shape(), 3, 24, stack.device());
    std::vector<std::size_t> pieces{9};
    pieces.resize(13, 1);
    CHECK(test::relative_difference(fed(stack, kv, 1, ids, pieces), expected) < 1e-5);
  });
}

TEST_CASE("logits are the same bits however a story is fed, whatever lay in the cache before") {
  for_each_stack([](const auto& stack) {
    const auto ids = random_ids(21, 7);
    KvCache<float, Cpu> kv(stack.shape(), 3, 24, stack.device());
    const auto at_once = fed(stack, kv, 0, ids, {21});
    for (const auto& view : kv.views({})) {
      std::fill_n(view.keys, 3 * 24 * kv.width(), std::numeric_limits<float>::quiet_NaN());
      std::fill_n(view.values, 3 * 24 * kv.width(), std::numeric_limits<float>::quiet_NaN());
    }
    CHECK(fed(stack, kv, 2, ids, std::vector<std::size_t>(21, 1)) == at_once);
    CHECK(fed(stack, kv, 1, ids, {1, 8, 7, 5}) == at_once);
    CHECK(fed(stack, kv, 2, ids, {20, 1}) == at_once);
  });
}

TEST_CASE("slots are given out, taken back, and run out") {
  KvCache<float, Cpu> kv(presets::story_tiny, 3, 10, Cpu{});
  CHECK(kv.available() == 3);
  const std::int32_t a = kv.acquire();
  const std::int32_t b = kv.acquire();
  const std::int32_t c = kv.acquire();
  CHECK(a == 0);
  CHECK(b == 1);
  CHECK(c == 2);
  CHECK_THROWS_WITH_AS(static_cast<void>(kv.acquire()), "[KvCache] all 3 slots are taken", ArgumentError);
  kv.release(b);
  CHECK_THROWS_WITH_AS(kv.release(b), "[KvCache] slot 1 of 3 is not in use", ArgumentError);
  CHECK_THROWS_AS(kv.release(3), ArgumentError);
  CHECK_THROWS_AS(kv.release(-1), ArgumentError);
  CHECK(kv.acquire() == b);
  kv.release_all();
  CHECK(kv.available() == 3);
  CHECK(kv.acquire() == 0);
}

TEST_CASE("views give every block memory of its own, and the slots of the batch") {
  KvCache<float, Cpu> kv(presets::story_llama_tiny, 4, 10, Cpu{});
  CHECK(kv.width() == 2 * 32);
  CHECK(kv.blocks() == 2);
  CHECK(kv.bytes() == 2U * 2U * 4U * 10U * 64U * sizeof(float));
  const nn::KvViews<float>& views = kv.views(std::vector<std::int32_t>{3, 1});
  REQUIRE(views.size() == 2);
  CHECK(views[0].keys != views[1].keys);
  CHECK(views[0].values != views[1].values);
  CHECK(views[0].capacity == 10);
  CHECK(views[1].slots[0] == 3);
  CHECK(views[1].slots[1] == 1);
  CHECK_THROWS_AS(static_cast<void>(kv.views(std::vector<std::int32_t>(5, 0))), ShapeError);
  CHECK_THROWS_AS(static_cast<void>(kv.views(std::vector<std::int32_t>{4})), ShapeError);
  CHECK_THROWS_AS((KvCache<float, Cpu>(presets::story_tiny, 0, 10, Cpu{})), ArgumentError);
  CHECK_THROWS_AS((KvCache<float, Cpu>(presets::story_tiny, 2, 0, Cpu{})), ArgumentError);
  const KvCache<Precision<float, float, float, bf16>, Cpu> narrow(presets::story_tiny, 1, 8, Cpu{});
  CHECK(narrow.bytes() == 2U * 2U * 8U * 64U * sizeof(bf16));
}

}  // namespace
