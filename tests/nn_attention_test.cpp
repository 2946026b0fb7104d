// SPDX-License-Identifier: MIT
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <storylm/nn/attention.hpp>

#include "nn_support.hpp"

namespace {
using namespace storylm;
using Case = test::CpuF64;
using Attention = nn::CausalSelfAttention<double, Cpu>;

constexpr index_t width = 6;

struct Variant {
  const char* name;
  nn::AttentionOptions options;
};
/// Plain, grouped queries with a window, both rotary layouts, without biases; heads are not width / heads wide.
std::vector<Variant> variants() {
  const AttentionSpec plain{.heads = 3, .kv_heads = 3, .head_dim = 2};
  const AttentionSpec grouped{.heads = 4, .kv_heads = 2, .head_dim = 4, .window = 3};
  return {{"plain", {.width = width, .spec = plain}},
          {"grouped, window, half-split", {.width = width, .spec = grouped, .rope = nn::RopeOptions{.theta = 100.0}}},
          {"grouped, window, interleaved, no biases",
           {.width = width,
            .spec = grouped,
            .qkv_bias = false,
            .out_bias = false,
            .rope = nn::RopeOptions{.theta = 100.0, .layout = RopeLayout::interleaved}}}};
}

TEST_CASE("attention: input and parameters by differences") {
  const test::TrainingPass training;
  for (auto& variant : variants()) {
    nn::AttentionOptions& options = variant.options;
    for (const double dropout : {0.0, 0.1}) {
      CAPTURE(variant.name);
      CAPTURE(dropout);
      options.dropout = {dropout, 9};
      Attention attention(options);
      auto store = nn::allocate<double>(attention, training.cpu, nn::Gradients::yes);
      test::randomise(attention, 0.5);
      test::check_gradients<Case>(attention, store, test::random<Case>({training.tokens(), width}, 1, training.cpu),
                                  training.pass);
    }
  }
}

TEST_CASE("attention is its two projections around ops::rope and ops::attention") {
  const test::TrainingPass training;
  for (auto& variant : variants()) {
    nn::AttentionOptions& options = variant.options;
    CAPTURE(variant.name);
    options.dropout = {0.1, 9};
    Attention attention(options);
    auto store = nn::allocate<double>(attention, training.cpu, nn::Gradients::yes);
    test::randomise(attention, 0.5);
    const auto x = test::random<Case>({training.tokens(), width}, 1, training.cpu);
    auto cache = attention.make_cache(training.cpu, training.capacity());
    const auto y = test::rows_to_host(attention.forward(x.matrix(), training.pass, cache), training.cpu);

    const index_t rows = training.tokens();
    Tensor<double, Cpu> qkv({rows, options.spec.qkv_width()}, training.cpu);
    Tensor<double, Cpu> mixed({rows, options.spec.q_width()}, training.cpu);
    Tensor<double, Cpu> lse({rows, options.spec.heads}, training.cpu);
    Tensor<double, Cpu> expected({rows, width}, training.cpu);
    attention.qkv.apply(x.matrix(), qkv.matrix(), training.pass);
    if (options.rope) {
      ops::rope(training.cpu, qkv.matrix(), options.spec, options.rope->theta, options.rope->layout,
                training.pass.batch);
    }
    ops::attention(training.cpu, mixed.matrix(), lse.matrix(), std::as_const(qkv).matrix(), options.spec,
                   options.dropout.in(training.pass), training.pass.batch);
    attention.out.apply(std::as_const(mixed).matrix(), expected.matrix(), training.pass);
    CHECK(y == expected.to_host());
  }
}

TEST_CASE("a position sees itself and what came before in its sequence and window, and nothing else") {
  test::TrainingPass training({4, 7});
  training.pass.training = false;
  for (const auto& variant : variants()) {
    const nn::AttentionOptions& options = variant.options;
    CAPTURE(variant.name);
    Attention attention(options);
    auto store = nn::allocate<double>(attention, training.cpu, nn::Gradients::no);
    test::randomise(attention, 0.5);
    auto x = test::random<Case>({11, width}, 1, training.cpu);
    auto cache = attention.make_cache(training.cpu, training.capacity());
    const auto forward = [&] {
      return test::rows_to_host(attention.forward(std::as_const(x).matrix(), training.pass, cache), training.cpu);
    };
    const auto before = forward();
    x.matrix()(6, 0) += 1.0;  // position 2 of the second sequence
    const auto after = forward();
    for (index_t row = 0; row < 11; ++row) {
      const auto at = static_cast<std::ptrdiff_t>(row * width);
      const bool same = std::equal(before.begin() + at, before.begin() + at + width, after.begin() + at);
      const index_t window = options.spec.window == 0 ? 100 : options.spec.window;
      CAPTURE(row);
      CHECK(same == !(row >= 6 && row < 6 + window));
    }
  }
}

TEST_CASE("with cached keys and values, token by token, rows are the same as all at once") {
  for (const auto& variant : variants()) {
    const nn::AttentionOptions& options = variant.options;
    CAPTURE(variant.name);
    const Cpu cpu;
    Attention attention(options);
    auto store = nn::allocate<double>(attention, cpu, nn::Gradients::no);
    test::randomise(attention, 0.5);
    const index_t length = 6;
    const auto x = test::random<Case>({length, width}, 1, cpu);
    Packed<Cpu> batch({.tokens = length, .sequences = 1, .longest = length}, cpu);
    auto cache = attention.make_cache(cpu, batch.capacity());
    const std::vector<token_t> ids(static_cast<std::size_t>(length), 1);
    batch.append(ids, {}, 0);
    const auto whole =
        test::rows_to_host(attention.forward(x.matrix(), {.device = cpu, .batch = batch.view()}, cache), cpu);

    const std::vector<std::int32_t> slots = {1};
    Tensor<double, Cpu> keys({2, length, options.spec.kv_width()}, cpu);
    Tensor<double, Cpu> values({2, length, options.spec.kv_width()}, cpu);
    const KvView<double> kv{keys.data(), values.data(), length, slots.data()};
    std::vector<double> steps;
    for (index_t t = 0; t < length; ++t) {
      batch.clear();
      batch.append(std::span(ids).first(1), {}, 0, t);
      const auto row = test::rows_to_host(
          attention.forward(x.matrix().slice_rows(t, 1), {.device = cpu, .batch = batch.view()}, cache, kv), cpu);
      steps.insert(steps.end(), row.begin(), row.end());
    }
    CHECK(test::relative_difference(steps, whole) <= Case::tolerance);
  }
}

}  // namespace
