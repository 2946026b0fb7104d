// SPDX-License-Identifier: MIT
#include <type_traits>
#include <utility>

#include <storylm/models/presets.hpp>
#include <storylm/models/transformer_lm.hpp>

#include "support.hpp"

namespace {
using namespace storylm;

constexpr TransformerConfig with(NormKind norm, FeedForwardKind feed_forward) {
  TransformerConfig c = presets::story_tiny;
  c.norm = norm;
  c.feed_forward = feed_forward;
  return c;
}
template <NormKind norm, FeedForwardKind feed_forward>
using StackOf = typename TransformerLM<with(norm, feed_forward), double>::Stack;
template <template <class, class> class Norm, template <class, class> class FeedForward>
using Stack = nn::TransformerStack<double, Cpu, Norm, FeedForward>;

static_assert(std::is_same_v<StackOf<NormKind::layer_norm, FeedForwardKind::relu>, Stack<nn::LayerNorm, nn::Mlp>>);
static_assert(std::is_same_v<StackOf<NormKind::layer_norm, FeedForwardKind::gelu_erf>, Stack<nn::LayerNorm, nn::Mlp>>);
static_assert(std::is_same_v<StackOf<NormKind::layer_norm, FeedForwardKind::swiglu>, Stack<nn::LayerNorm, nn::SwiGlu>>);
static_assert(std::is_same_v<StackOf<NormKind::rms_norm, FeedForwardKind::gelu_tanh>, Stack<nn::RmsNorm, nn::Mlp>>);
static_assert(std::is_same_v<StackOf<NormKind::rms_norm, FeedForwardKind::swiglu>, Stack<nn::RmsNorm, nn::SwiGlu>>);

/// Takes any stack, as the generator, checkpoints and evaluation do.
template <class P, class D, template <class, class> class N, template <class, class> class F>
const TransformerConfig& shape_of(const nn::TransformerStack<P, D, N, F>& stack) {
  return stack.shape();
}

TEST_CASE("story_24m has 24,163,328 parameters") {
  const TransformerLM<presets::story_24m> model(Cpu{}, {.initialisation = Initialisation::none}, nn::Gradients::no);
  CHECK(nn::parameter_count(model) == 24'163'328);
  CHECK(parameter_count(model.config) == 24'163'328);
  CHECK(shape_of(model) == presets::story_24m.resolved());
  CHECK(model.config == model.shape());
  CHECK_FALSE(model.parameters().has_gradients());
}

TEST_CASE("a model is made of nothing but its config; one of the same config at run time is the same") {
  const TransformerLM<presets::story_tiny> model;
  using Model = std::remove_const_t<decltype(model)>;
  const Model::Stack other(presets::story_tiny, Cpu{});
  CHECK(model.parameters().has_gradients());
  CHECK(model.embedding.weight.to_host() == other.embedding.weight.to_host());
  CHECK(model.head.bias->to_host() == other.head.bias->to_host());
  static_assert(!std::is_copy_constructible_v<Model> && std::is_nothrow_move_constructible_v<Tensor<float, Cpu>>);
}

}  // namespace
