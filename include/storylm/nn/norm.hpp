// SPDX-License-Identifier: MIT
/// @file
/// @brief What LayerNorm and RMSNorm share: a residual sum, normalised row by row.
#pragma once

#include <optional>

#include <storylm/core/precision.hpp>
#include <storylm/nn/dropout.hpp>
#include <storylm/nn/init.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/ops/layer_norm.hpp>
#include <storylm/ops/rms_norm.hpp>

namespace storylm::nn {

/// The residual stream between layers: its value is residual + dropout(branch). The next norm adds the branch, in the
/// same pass over memory in which it normalises; so post-norm and pre-norm blocks are the same code.
template <class Element>
struct ResidualStream {
  MatrixView<Element> residual;  ///< (tokens, width)
  MatrixView<Element> branch{};  ///< (tokens, width) or none
  Dropout dropout{};             ///< of the branch
};

/// What a norm is made with.
struct NormOptions {
  index_t width = 0;  ///< of a row
  double eps = 1e-5;  ///< added to the variance, or to the mean square
  bool bias = true;   ///< LayerNorm only
};

/// y = norm(residual + dropout(branch)) * weight (+ bias). Use LayerNorm or RmsNorm.
/// @tparam Op op::layer_norm or op::rms_norm
template <class Op, class P, Device D>
class Norm {
 public:
  using Element = activation_t<P>;                                      ///< dtype of activations
  static constexpr bool has_bias = std::is_same_v<Op, op::layer_norm>;  ///< RMSNorm has none

  /// What backward needs of forward.
  struct Cache {
    Tensor<Element, D> y;                     ///< (tokens, width)
    Tensor<Element, D> sum;                   ///< (tokens, width)  residual + dropout(branch)
    Tensor<accumulator_t<Element>, D> stats;  ///< (tokens, 2)      mean, 1 / standard deviation
  };

  /// Records shapes; nn::allocate gives memory.
  explicit Norm(NormOptions options) : weight({options.width}), eps_(options.eps) {
    expects<ArgumentError>(options.eps >= 0.0, "Norm", "eps must not be negative: ", options.eps);
    if (has_bias && options.bias) bias.emplace(Shape{options.width});
  }

  /// Columns of a row.
  [[nodiscard]] index_t width() const noexcept { return weight.size(); }
  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    const auto rows = capacity.tokens;
    return {.y = Tensor<Element, D>::uninitialised({rows, width()}, device),
            .sum = Tensor<Element, D>::uninitialised({rows, width()}, device),
            .stats = Tensor<accumulator_t<Element>, D>::uninitialised({rows, 2}, device)};
  }

  /// Normalises the stream's value; returns y. The value itself is value(x, cache) afterwards.
  [[nodiscard]] MatrixView<const Element> forward(const ResidualStream<const Element>& x, const Pass<D>& pass,
                                                  Cache& cache) const {
    const auto rows = x.residual.rows;
    const auto y = cache.y.rows(rows);
    const auto sum = x.branch ? cache.sum.rows(rows) : MatrixView<Element>{};
    if constexpr (has_bias) {
      ops::layer_norm(pass.device, y, sum, cache.stats.rows(rows), x.residual, x.branch, weight.value(), bias_value(),
                      eps_, x.dropout.in(pass), pass.batch);
    } else {
      ops::rms_norm(pass.device, y, sum, cache.stats.rows(rows), x.residual, x.branch, weight.value(), eps_,
                    x.dropout.in(pass), pass.batch);
    }
    return y;
  }
  /// residual + dropout(branch), as the last forward with this stream and cache made it.
  [[nodiscard]] static MatrixView<const Element> value(const ResidualStream<const Element>& x, const Cache& cache) {
    return x.branch ? cache.sum.rows(x.residual.rows) : x.residual;
  }
  /// dx.residual = plus + d(loss)/d(sum), dx.branch likewise through the dropout. dx.residual may be plus or dy; `plus`
  /// may be none, dx.branch must be there exactly if x.branch is.
  void backward(const ResidualStream<const Element>& x, MatrixView<const Element> dy, const ResidualStream<Element>& dx,
                const Pass<D>& pass, const Cache& cache, MatrixView<const Element> plus = {}) {
    const auto stats = cache.stats.rows(dy.rows);
    if constexpr (has_bias) {
      const auto dbias = bias ? bias->gradient() : MatrixView<gradient_t<P>>{};
      ops::layer_norm_backward(pass.device, dx.residual, dx.branch, weight.gradient(), dbias, dy, value(x, cache),
                               stats, weight.value(), plus, x.dropout.in(pass), pass.batch);
    } else {
      ops::rms_norm_backward(pass.device, dx.residual, dx.branch, weight.gradient(), dy, value(x, cache), stats,
                             weight.value(), plus, x.dropout.in(pass), pass.batch);
    }
  }

  /// Weight 1, bias 0.
  void initialise() {
    init_constant(weight, 1.0);
    if (bias) init_constant(*bias, 0.0);
  }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("weight", self.weight);
    if (self.bias) f("bias", *self.bias);
  }

  Parameter<weight_t<P>, D> weight;               ///< (width)
  std::optional<Parameter<weight_t<P>, D>> bias;  ///< (width)

 private:
  [[nodiscard]] auto bias_value() const { return bias ? bias->value() : MatrixView<const weight_t<P>>{}; }

  double eps_;
};

}  // namespace storylm::nn
