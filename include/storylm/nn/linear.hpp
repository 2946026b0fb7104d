// SPDX-License-Identifier: MIT
/// @file
/// @brief Affine map y = x W^T + b. PyTorch equivalent: torch.nn.Linear.
#pragma once

#include <optional>

#include <storylm/core/precision.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/ops/elementwise.hpp>
#include <storylm/ops/linear_gradient.hpp>
#include <storylm/ops/matmul.hpp>
#include <storylm/ops/matmul_rows.hpp>

namespace storylm::nn {

/// What a Linear is made with.
struct LinearOptions {
  index_t in = 0;    ///< columns of x
  index_t out = 0;   ///< columns of y
  bool bias = true;  ///< added to every row
};

/// Shapes: x (tokens, in), weight (out, in), bias (out), y (tokens, out).
/// @tparam P dtype or Precision
template <class P, Device D>
class Linear {
 public:
  using Element = activation_t<P>;  ///< dtype of activations
  /// What backward needs of forward.
  struct Cache {
    Tensor<Element, D> y;  ///< (tokens, out)
  };

  /// Records shapes; nn::allocate gives memory.
  explicit Linear(LinearOptions options) : weight({options.out, options.in}) {
    if (options.bias) bias.emplace(Shape{options.out});
  }

  /// Columns of x.
  [[nodiscard]] index_t in() const noexcept { return weight.shape()[1]; }
  /// Columns of y.
  [[nodiscard]] index_t out() const noexcept { return weight.shape()[0]; }
  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    return {Tensor<Element, D>::uninitialised({capacity.tokens, out()}, device)};
  }

  /// See the concept below.
  [[nodiscard]] MatrixView<const Element> forward(MatrixView<const Element> x, const Pass<D>& pass,
                                                  Cache& cache) const {
    const auto y = cache.y.rows(x.rows);
    apply(x, y, pass);
    return y;
  }
  /// See the concept below.
  void backward(MatrixView<const Element> x, MatrixView<Element> dy, MatrixView<Element> dx, const Pass<D>& pass,
                const Cache&, MatrixView<const Element> plus = {}) {
    parameter_gradients(x, dy, pass);
    if (!dx) return;
    const bool in_place = plus.data == dx.data;
    input_gradient(dy, dx, pass, in_place);
    if (plus && !in_place) ops::add(pass.device, dx, plus);
  }

  /// The parts, for layers that hold the memory themselves. y = x W^T + b.
  void apply(MatrixView<const Element> x, MatrixView<Element> y, const Pass<D>& pass) const {
    const auto* b = bias ? bias->value().data : nullptr;
    if (pass.row_invariant) {
      ops::matmul_rows(pass.device, y, x, weight.value(), b);
    } else {
      ops::matmul(pass.device, y, x, weight.value(), {.transpose_b = true}, b);
    }
  }
  /// Adds d(weight) and d(bias).
  void parameter_gradients(MatrixView<const Element> x, MatrixView<const Element> dy, const Pass<D>& pass) {
    ops::linear_gradient(pass.device, weight.gradient(), bias ? bias->gradient().data : nullptr, dy, x);
  }
  /// dx (+)= dy W.
  void input_gradient(MatrixView<const Element> dy, MatrixView<Element> dx, const Pass<D>& pass,
                      bool accumulate = false) const {
    ops::matmul(pass.device, dx, dy, weight.value(), {.accumulate = accumulate});
  }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("weight", self.weight);
    if (self.bias) f("bias", *self.bias);
  }

  Parameter<weight_t<P>, D> weight;               ///< (out, in)
  std::optional<Parameter<weight_t<P>, D>> bias;  ///< (out)
};
static_assert(Layer<Linear<float, Cpu>, Cpu>);

}  // namespace storylm::nn
