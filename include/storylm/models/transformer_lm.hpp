// SPDX-License-Identifier: MIT
/// @file
/// @brief A transformer language model whose shape is a compile-time value.
#pragma once

#include <storylm/models/config.hpp>
#include <storylm/nn/transformer_stack.hpp>

namespace storylm {

namespace detail {
template <TransformerConfig C, class P, Device D>
struct stack_type;
template <TransformerConfig C, class P, Device D>
requires(C.norm == NormKind::layer_norm && C.feed_forward != FeedForwardKind::swiglu) struct stack_type<C, P, D>
    : std::type_identity<nn::TransformerStack<P, D, nn::LayerNorm, nn::Mlp>> {
};
template <TransformerConfig C, class P, Device D>
requires(C.norm == NormKind::layer_norm && C.feed_forward == FeedForwardKind::swiglu) struct stack_type<C, P, D>
    : std::type_identity<nn::TransformerStack<P, D, nn::LayerNorm, nn::SwiGlu>> {
};
template <TransformerConfig C, class P, Device D>
requires(C.norm == NormKind::rms_norm && C.feed_forward != FeedForwardKind::swiglu) struct stack_type<C, P, D>
    : std::type_identity<nn::TransformerStack<P, D, nn::RmsNorm, nn::Mlp>> {
};
template <TransformerConfig C, class P, Device D>
requires(C.norm == NormKind::rms_norm && C.feed_forward == FeedForwardKind::swiglu) struct stack_type<C, P, D>
    : std::type_identity<nn::TransformerStack<P, D, nn::RmsNorm, nn::SwiGlu>> {
};
}  // namespace detail

/// Decoder-only language model: everything about the shape is checked when it compiles, and whoever takes a
/// nn::TransformerStack (generator, checkpoints, optimizers, evaluation) takes it. Nothing below depends on C.
/// @tparam C the shape
/// @tparam P dtype or Precision
template <TransformerConfig C, class P = float, Device D = Cpu>
class TransformerLM : public detail::stack_type<C, P, D>::type {
  static_assert(ValidConfig<C>::value);

 public:
  /// What it is below its config.
  using Stack = typename detail::stack_type<C, P, D>::type;
  /// C with every derived field written out.
  static constexpr TransformerConfig config = C.resolved();

  /// Allocates and initialises. @throws ArgumentError when an option is out of its range
  explicit TransformerLM(const D& device = D{}, const TransformerOptions& options = {},
                         nn::Gradients gradients = nn::Gradients::yes)
      : Stack(C, device, options, gradients) {}
};

}  // namespace storylm
