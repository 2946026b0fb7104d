// SPDX-License-Identifier: MIT
/// @file
/// @brief The position-wise layers of a block: Mlp (one non-linearity) and SwiGlu (gated).
#pragma once

#include <storylm/nn/dropout.hpp>
#include <storylm/nn/linear.hpp>
#include <storylm/ops/linear_activation.hpp>
#include <storylm/ops/swiglu.hpp>

namespace storylm::nn {

/// What Mlp and SwiGlu are made with.
struct FeedForwardOptions {
  index_t width = 0;                         ///< of the stream
  index_t hidden = 0;                        ///< width inside
  bool bias = true;                          ///< of both maps
  Activation activation = Activation::relu;  ///< Mlp only
  Dropout dropout{};                         ///< of the hidden values
};

/// y = down(dropout(f(up x))): x and y (tokens, width), inside (tokens, hidden).
template <class P, Device D>
class Mlp {
 public:
  using Element = activation_t<P>;  ///< dtype of activations
  /// What backward needs of forward.
  struct Cache {
    Tensor<Element, D> saved;   ///< (tokens, ...)     as ops::linear_activation has it; may be none
    Tensor<Element, D> hidden;  ///< (tokens, hidden)  after f and dropout
    Tensor<Element, D> y;       ///< (tokens, width)
  };

  /// Records shapes; nn::allocate gives memory.
  explicit Mlp(FeedForwardOptions options)
      : up({.in = options.width, .out = options.hidden, .bias = options.bias}),
        down({.in = options.hidden, .out = options.width, .bias = options.bias}),
        options_(options) {}

  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    const index_t saved = ops::linear_activation_saved<D, Element>(options_.activation, up.out());
    return {.saved =
                saved != 0 ? Tensor<Element, D>::uninitialised({capacity.tokens, saved}, device) : Tensor<Element, D>{},
            .hidden = Tensor<Element, D>::uninitialised({capacity.tokens, up.out()}, device),
            .y = Tensor<Element, D>::uninitialised({capacity.tokens, down.out()}, device)};
  }
  /// See the concept below.
  [[nodiscard]] MatrixView<const Element> forward(MatrixView<const Element> x, const Pass<D>& pass,
                                                  Cache& cache) const {
    const auto hidden = cache.hidden.rows(x.rows);
    const auto y = cache.y.rows(x.rows);
    ops::linear_activation(pass.device, hidden, cache.saved.rows(x.rows), x, up.weight.value(),
                           up.bias ? up.bias->value().data : nullptr, options_.activation, options_.dropout.in(pass),
                           pass.batch, pass.row_invariant);
    down.apply(hidden, y, pass);
    return y;
  }
  /// See the concept below.
  void backward(MatrixView<const Element> x, MatrixView<Element> dy, MatrixView<Element> dx, const Pass<D>& pass,
                const Cache& cache, MatrixView<const Element> plus = {}) {
    auto scratch = pass.device.scratch();
    const MatrixView<Element> dpre(scratch.template take<Element>(x.rows * up.out()), x.rows, up.out());
    const auto hidden = cache.hidden.rows(x.rows);
    down.parameter_gradients(hidden, dy, pass);
    ops::linear_activation_backward(pass.device, dpre, dy, down.weight.value(), hidden, cache.saved.rows(x.rows),
                                    options_.activation, options_.dropout.in(pass), pass.batch);
    up.backward(x, dpre, dx, pass, {}, plus);
  }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("up", self.up);
    f("down", self.down);
  }

  Linear<P, D> up;    ///< (hidden, width)
  Linear<P, D> down;  ///< (width, hidden)

 private:
  FeedForwardOptions options_;
};
static_assert(Layer<Mlp<float, Cpu>, Cpu>);

/// y = down(dropout(silu(gate x) * up x)); gate and up are one matrix, gate first. Shazeer, arXiv:2002.05202.
template <class P, Device D>
class SwiGlu {
 public:
  using Element = activation_t<P>;  ///< dtype of activations
  /// What backward needs of forward.
  struct Cache {
    Tensor<Element, D> gate_up;  ///< (tokens, 2 hidden)
    Tensor<Element, D> hidden;   ///< (tokens, hidden)
    Tensor<Element, D> y;        ///< (tokens, width)
  };

  /// Records shapes; nn::allocate gives memory.
  explicit SwiGlu(FeedForwardOptions options)
      : gate_up({.in = options.width, .out = 2 * options.hidden, .bias = options.bias}),
        down({.in = options.hidden, .out = options.width, .bias = options.bias}),
        dropout_(options.dropout) {}

  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    return {.gate_up = Tensor<Element, D>::uninitialised({capacity.tokens, gate_up.out()}, device),
            .hidden = Tensor<Element, D>::uninitialised({capacity.tokens, down.in()}, device),
            .y = Tensor<Element, D>::uninitialised({capacity.tokens, down.out()}, device)};
  }
  /// See the concept below.
  [[nodiscard]] MatrixView<const Element> forward(MatrixView<const Element> x, const Pass<D>& pass,
                                                  Cache& cache) const {
    const auto both = cache.gate_up.rows(x.rows);
    const auto hidden = cache.hidden.rows(x.rows);
    const auto y = cache.y.rows(x.rows);
    gate_up.apply(x, both, pass);
    ops::swiglu(pass.device, hidden, both, dropout_.in(pass), pass.batch);
    down.apply(hidden, y, pass);
    return y;
  }
  /// See the concept below.
  void backward(MatrixView<const Element> x, MatrixView<Element> dy, MatrixView<Element> dx, const Pass<D>& pass,
                const Cache& cache, MatrixView<const Element> plus = {}) {
    auto scratch = pass.device.scratch();
    const MatrixView<Element> dhidden(scratch.template take<Element>(x.rows * down.in()), x.rows, down.in());
    const MatrixView<Element> dboth(scratch.template take<Element>(x.rows * gate_up.out()), x.rows, gate_up.out());
    down.parameter_gradients(cache.hidden.rows(x.rows), dy, pass);
    down.input_gradient(dy, dhidden, pass);
    ops::swiglu_backward(pass.device, dboth, dhidden, cache.gate_up.rows(x.rows), dropout_.in(pass), pass.batch);
    gate_up.backward(x, dboth, dx, pass, {}, plus);
  }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("gate_up", self.gate_up);
    f("down", self.down);
  }

  Linear<P, D> gate_up;  ///< (2 hidden, width), gate first
  Linear<P, D> down;     ///< (width, hidden)

 private:
  Dropout dropout_;
};
static_assert(Layer<SwiGlu<float, Cpu>, Cpu>);

}  // namespace storylm::nn
