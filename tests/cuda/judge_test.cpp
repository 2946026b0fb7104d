// SPDX-License-Identifier: MIT
// TIMEOUT: 600
/// @file
/// @brief Judges on CUDA: the CPU's scores, and the same bits in any batch.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include <storylm/evaluate/judge.hpp>
#include <storylm/nn/transformer_stack.hpp>

#include "cuda/support.hpp"

using namespace storylm;

namespace {

constexpr TransformerConfig config = {
    .vocab_size = 61, .d_model = 32, .d_ff = 48, .n_layers = 2, .n_heads = 2, .max_len = 24, .pre_norm = true};
template <class T, Device D>
using Stack = nn::TransformerStack<T, D, nn::LayerNorm, nn::Mlp>;

/// A random model, the same on every device, whose probabilities are far from uniform.
template <class T, Device D>
Stack<T, D> make_stack(const D& device) {
  Stack<T, D> stack(config, device, {.seed = 9, .initialisation = Initialisation::xavier}, nn::Gradients::no);
  auto weight = stack.head.weight->to_host();
  for (auto& w : weight) w *= 3;
  stack.head.weight->assign(weight);
  return stack;
}
std::vector<evaluate::JudgeStory> stories() {
  std::vector<evaluate::JudgeStory> all;
  for (const std::size_t length : {5, 40, 1, 0, 24, 25, 9}) {
    RandomStream random(all.size(), 0, 0x7E57);
    std::vector<token_t> ids(length);
    for (auto& id : ids) id = static_cast<token_t>(random.below(config.vocab_size));
    all.push_back({.ids = ids});
  }
  return all;
}
constexpr evaluate::JudgePolicy policy{.stride = 10, .bos = true, .bos_id = 1};

TEST_CASE_TEMPLATE("scores are near those of the CPU in float", T, STORYLM_CUDA_DTYPES) {
  const auto on_cpu = make_stack<float>(Cpu{});
  const auto expected = evaluate::Judge(on_cpu, policy).score(stories());
  const auto stack = make_stack<T>(test::cuda_device());
  for (const bool row_invariant : {true, false}) {
    CAPTURE(row_invariant);
    const auto scores = evaluate::Judge(stack, policy, {.row_invariant = row_invariant}).score(stories());
    for (std::size_t i = 0; i < scores.size(); ++i) {
      CAPTURE(i);
      CHECK(scores[i].tokens == expected[i].tokens);
      CHECK(std::abs(scores[i].nll - expected[i].nll) <= test::tolerance_of<T> * expected[i].nll);
    }
  }
}

TEST_CASE_TEMPLATE("a story has the same score alone and in any batch", T, STORYLM_CUDA_DTYPES) {
  const auto stack = make_stack<T>(test::cuda_device());
  const auto all = stories();
  evaluate::Judge judge(stack, policy);
  const auto expected = judge.score(all);
  CHECK((evaluate::Judge(stack, policy, {.batch_tokens = 26}).score(all) == expected));
  CHECK((judge.score(std::vector{all[1]})[0] == expected[1]));
  CHECK(expected[1].nll != expected[4].nll);
}

}  // namespace
