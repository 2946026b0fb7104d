// SPDX-License-Identifier: MIT
// TIMEOUT: 300
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include <storylm/ops/attention_cached.hpp>

#include "cuda/support.hpp"

using namespace storylm;

namespace {

/// Rows and cache of these dtypes.
template <class T, class TKV>
struct Dtypes {
  using Row = T;
  using Cached = TKV;
};
#define STORYLM_CACHED_DTYPES \
  Dtypes<bf16, bf16>, Dtypes<half, half>, Dtypes<float, float>, Dtypes<float, bf16>, Dtypes<float, half>

/// qkv of a story, on the host: (tokens, qkv_width), keys and values as the cache can hold them.
template <class T, class TKV>
std::vector<double> story_of(const AttentionSpec& spec, index_t tokens, std::uint64_t seed) {
  auto values = test::normal_values<T>(tokens * spec.qkv_width(), seed);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (static_cast<index_t>(i) % spec.qkv_width() >= spec.q_width()) values[i] = test::rounded<TKV>(values[i]);
  }
  return values;
}

/// Memory of keys and values, all NaN, so that whatever is read before it is stored is seen.
template <class TKV>
struct CacheMemory {
  index_t capacity;
  Tensor<TKV, Cuda> keys;
  Tensor<TKV, Cuda> values;

  CacheMemory(const AttentionSpec& spec, index_t slots, index_t positions)
      : capacity(positions),
        keys(test::poisoned<TKV>({slots, positions, spec.kv_width()})),
        values(test::poisoned<TKV>({slots, positions, spec.kv_width()})) {}
};

/// Some stories in some slots, each `counts[i]` tokens further in call i; `tail` rows belong to none. y of each story.
template <class T, class TKV>
std::vector<std::vector<T>> attend(const AttentionSpec& spec, const std::vector<std::vector<double>>& stories,
                                   const std::vector<std::int32_t>& slots, const std::vector<index_t>& counts,
                                   CacheMemory<TKV>& cache, index_t tail = 0) {
  const Cuda& device = test::cuda_device();
  const auto sequences = static_cast<index_t>(stories.size());
  const auto slots_on_device = Tensor<std::int32_t, Cuda>::from_host({sequences}, slots, device);
  std::vector<std::vector<T>> y(stories.size());
  index_t first = 0;
  for (const index_t count : counts) {
    const Capacity capacity{.tokens = sequences * count + tail, .sequences = sequences, .longest = count};
    Packed<Cpu> batch(capacity, Cpu{});
    std::vector<double> qkv;
    for (std::size_t s = 0; s < stories.size(); ++s) {
      batch.append(std::vector<token_t>(static_cast<std::size_t>(count)), {}, static_cast<std::uint32_t>(s), first);
      const auto begin = stories[s].begin() + first * spec.qkv_width();
      qkv.insert(qkv.end(), begin, begin + count * spec.qkv_width());
    }
    Packed<Cuda> on_device(capacity, device);
    on_device.assign(batch, {.tokens = capacity.tokens});
    const auto input =
        test::to_cuda<T>(test::with_tail(qkv, tail * spec.qkv_width()), {capacity.tokens, spec.qkv_width()});
    auto out = test::poisoned<T>({capacity.tokens, spec.q_width()});
    ops::attention_cached(device, out.matrix(), input.matrix(),
                          KvView<TKV>{.keys = cache.keys.data(),
                                      .values = cache.values.data(),
                                      .capacity = cache.capacity,
                                      .slots = slots_on_device.data()},
                          spec, on_device.view());
    const auto rows = out.to_host();
    for (std::size_t s = 0; s < stories.size(); ++s) {
      const auto begin = rows.begin() + static_cast<index_t>(s) * count * spec.q_width();
      y[s].insert(y[s].end(), begin, begin + count * spec.q_width());
    }
    for (index_t i = sequences * count * spec.q_width(); i < out.size(); ++i)
      REQUIRE(static_cast<float>(rows[static_cast<std::size_t>(i)]) == 0.0F);
    first += count;
  }
  return y;
}
/// One story alone, in a cache of its own.
template <class T, class TKV>
std::vector<T> alone(const AttentionSpec& spec, const std::vector<double>& story, const std::vector<index_t>& counts) {
  CacheMemory<TKV> cache(spec, 1, static_cast<index_t>(story.size()) / spec.qkv_width());
  return attend<T, TKV>(spec, {story}, {0}, counts, cache)[0];
}

/// The CPU's kernel in double.
std::vector<double> on_cpu(const AttentionSpec& spec, const std::vector<double>& story) {
  const index_t tokens = static_cast<index_t>(story.size()) / spec.qkv_width();
  const Cpu device;
  Packed<Cpu> batch({.tokens = tokens, .sequences = 1, .longest = tokens}, device);
  batch.append(std::vector<token_t>(static_cast<std::size_t>(tokens)), {}, 0);
  Tensor<double, Cpu> keys({tokens, spec.kv_width()}, device);
  Tensor<double, Cpu> values({tokens, spec.kv_width()}, device);
  Tensor<double, Cpu> y({tokens, spec.q_width()}, device);
  const std::int32_t slot = 0;
  ops::attention_cached(
      device, y.matrix(), test::to_cpu(story, {tokens, spec.qkv_width()}).matrix(),
      KvView<double>{.keys = keys.data(), .values = values.data(), .capacity = tokens, .slots = &slot}, spec,
      batch.view());
  return y.to_host();
}

template <class T>
std::vector<double> doubles(const std::vector<T>& values) {
  std::vector<double> converted;
  for (const T v : values) converted.push_back(static_cast<double>(static_cast<float>(v)));
  return converted;
}

TEST_CASE_TEMPLATE("cached attention agrees with the CPU in double", D, STORYLM_CACHED_DTYPES) {
  using T = typename D::Row;
  using TKV = typename D::Cached;
  const std::vector<AttentionSpec> specs{
      {.heads = 2, .kv_heads = 2, .head_dim = 64},                // four lanes a column group, full tiles
      {.heads = 2, .kv_heads = 1, .head_dim = 32, .window = 19},  // two queries share a key
      {.heads = 6, .kv_heads = 2, .head_dim = 16},                // three, in room for four
      {.heads = 5, .kv_heads = 1, .head_dim = 6, .window = 64},   // no 16-byte accesses; more than four
      {.heads = 1, .kv_heads = 1, .head_dim = 2},
      {.heads = 1, .kv_heads = 1, .head_dim = 72, .window = 1},
      {.heads = 4, .kv_heads = 1, .head_dim = 128},
      {.heads = 1, .kv_heads = 1, .head_dim = 250},
      {.heads = 1, .kv_heads = 1, .head_dim = 256, .window = 33}};
  std::uint64_t seed = 7;
  for (const AttentionSpec& spec : specs) {
    CAPTURE(spec.head_dim);
    CAPTURE(spec.heads);
    const index_t tokens = spec.head_dim == 64 ? 133 : 70;
    const auto story = story_of<T, TKV>(spec, tokens, ++seed);
    test::check_close<T>("y", doubles(alone<T, TKV>(spec, story, {tokens})), on_cpu(spec, story));
  }
}

TEST_CASE_TEMPLATE("the bits of a row depend neither on its neighbours nor on how its story was given", D,
                   STORYLM_CACHED_DTYPES) {
  using T = typename D::Row;
  using TKV = typename D::Cached;
  for (const AttentionSpec& spec : {AttentionSpec{.heads = 2, .kv_heads = 2, .head_dim = 64},
                                    AttentionSpec{.heads = 3, .kv_heads = 1, .head_dim = 10, .window = 21}}) {
    constexpr index_t tokens = 37;
    std::vector<std::vector<double>> stories;
    std::vector<std::vector<std::uint8_t>> expected;
    for (std::uint64_t s = 0; s < 3; ++s) {
      stories.push_back(story_of<T, TKV>(spec, tokens, 20 + s));
      expected.push_back(test::bits_of(alone<T, TKV>(spec, stories.back(), {tokens})));
    }
    test::for_each_schedule([&](unsigned) {
      CHECK(test::bits_of(alone<T, TKV>(spec, stories[0], std::vector<index_t>(tokens, 1))) == expected[0]);
      CHECK(test::bits_of(alone<T, TKV>(spec, stories[0], {20, 1, 1, 15})) == expected[0]);
      CacheMemory<TKV> cache(spec, 5, tokens + 3);
      const auto together = attend<T, TKV>(spec, stories, {4, 0, 2}, {17, 1, 1, 18}, cache, 3);
      for (std::size_t s = 0; s < stories.size(); ++s) CHECK(test::bits_of(together[s]) == expected[s]);
    });
  }
}

TEST_CASE_TEMPLATE("keys and values are stored where they belong and nowhere else", D, STORYLM_CACHED_DTYPES) {
  using T = typename D::Row;
  using TKV = typename D::Cached;
  const AttentionSpec spec{.heads = 4, .kv_heads = 2, .head_dim = 8};
  for (const std::vector<index_t>& counts : {std::vector<index_t>{3, 1}, std::vector<index_t>{1, 1, 2}}) {
    const std::vector<std::vector<double>> stories{story_of<T, TKV>(spec, 4, 1), story_of<T, TKV>(spec, 4, 2)};
    CacheMemory<TKV> cache(spec, 3, 6);
    static_cast<void>(attend<T, TKV>(spec, stories, {2, 0}, counts, cache, 4));
    const auto keys = test::to_doubles(cache.keys);
    const auto values = test::to_doubles(cache.values);
    for (index_t slot = 0; slot < 3; ++slot) {
      for (index_t position = 0; position < 6; ++position) {
        for (index_t c = 0; c < spec.kv_width(); ++c) {
          const auto at = static_cast<std::size_t>((slot * 6 + position) * spec.kv_width() + c);
          if (slot == 1 || position >= 4) {
            CHECK(std::isnan(keys[at]));
            CHECK(std::isnan(values[at]));
          } else {
            const auto from = static_cast<std::size_t>(position * spec.qkv_width() + spec.q_width() + c);
            const auto& story = stories[slot == 2 ? 0 : 1];
            CHECK(keys[at] == story[from]);
            CHECK(values[at] == story[from + static_cast<std::size_t>(spec.kv_width())]);
          }
        }
      }
    }
  }
}

TEST_CASE("a wider head than 256 is refused") {
  const AttentionSpec spec{.heads = 1, .kv_heads = 1, .head_dim = 258};
  CHECK_THROWS_WITH_AS((alone<float, float>(spec, story_of<float, float>(spec, 1, 1), {1})),
                       "[attention_cached] head_dim is 258, on CUDA it may be up to 256", ShapeError);
}

}  // namespace
