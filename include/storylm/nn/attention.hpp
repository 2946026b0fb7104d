// SPDX-License-Identifier: MIT
/// @file
/// @brief Causal self-attention over packed sequences: one projection to q, k and v, heads, one projection back.
#pragma once

#include <optional>

#include <storylm/nn/dropout.hpp>
#include <storylm/nn/linear.hpp>
#include <storylm/ops/attention.hpp>
#include <storylm/ops/attention_cached.hpp>
#include <storylm/ops/rope.hpp>

namespace storylm::nn {

/// Rotary positions: Su et al., arXiv:2104.09864.
struct RopeOptions {
  double theta = 10000.0;                      ///< base of the wavelengths
  RopeLayout layout = RopeLayout::half_split;  ///< which columns turn together
};

/// What CausalSelfAttention is made with.
struct AttentionOptions {
  index_t width = 0;                  ///< of the stream
  AttentionSpec spec{};               ///< heads, kv_heads, head_dim, window
  bool qkv_bias = true;               ///< biases of queries, keys and values
  bool out_bias = true;               ///< bias of the output projection
  std::optional<RopeOptions> rope{};  ///< rotary positions; none: no positions here
  Dropout dropout{};                  ///< of the probabilities
};

/// Shapes: x and y (tokens, width), qkv (tokens, qkv_width) = [heads x q | kv_heads x k | kv_heads x v].
/// PyTorch equivalent: torch.nn.MultiheadAttention with a causal mask, and more. Vaswani et al., arXiv:1706.03762.
template <class P, Device D>
class CausalSelfAttention {
 public:
  using Element = activation_t<P>;  ///< dtype of activations
  /// What backward needs of forward.
  struct Cache {
    Tensor<Element, D> qkv;                 ///< (tokens, qkv_width)  rotated
    Tensor<Element, D> mixed;               ///< (tokens, q_width)    the heads' outputs
    Tensor<accumulator_t<Element>, D> lse;  ///< (tokens, heads)      log of the sum of exponentials
    Tensor<Element, D> y;                   ///< (tokens, width)
  };

  /// Records shapes; nn::allocate gives memory.
  explicit CausalSelfAttention(AttentionOptions options)
      : qkv({.in = options.width, .out = options.spec.qkv_width(), .bias = options.qkv_bias}),
        out({.in = options.spec.q_width(), .out = options.width, .bias = options.out_bias}),
        options_(options) {}

  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    const auto rows = capacity.tokens;
    return {.qkv = Tensor<Element, D>::uninitialised({rows, qkv.out()}, device),
            .mixed = Tensor<Element, D>::uninitialised({rows, out.in()}, device),
            .lse = Tensor<accumulator_t<Element>, D>::uninitialised({rows, options_.spec.heads}, device),
            .y = Tensor<Element, D>::uninitialised({rows, out.out()}, device)};
  }

  /// With `kv`, the rows continue the stories in their slots and attend to what is cached there; else each sequence of
  /// the batch attends to itself.
  [[nodiscard]] MatrixView<const Element> forward(MatrixView<const Element> x, const Pass<D>& pass, Cache& cache,
                                                  const KvView<kv_t<P>>& kv = {}) const {
    const auto projected = cache.qkv.rows(x.rows);
    const auto mixed = cache.mixed.rows(x.rows);
    const auto y = cache.y.rows(x.rows);
    qkv.apply(x, projected, pass);
    rotate(projected, pass);
    if (kv.keys != nullptr) {
      ops::attention_cached(pass.device, mixed, projected, kv, options_.spec, pass.batch);
    } else {
      ops::attention(pass.device, mixed, cache.lse.rows(x.rows), projected, options_.spec, options_.dropout.in(pass),
                     pass.batch);
    }
    out.apply(mixed, y, pass);
    return y;
  }
  /// See the concept below.
  void backward(MatrixView<const Element> x, MatrixView<Element> dy, MatrixView<Element> dx, const Pass<D>& pass,
                const Cache& cache, MatrixView<const Element> plus = {}) {
    auto scratch = pass.device.scratch();
    const MatrixView<Element> dmixed(scratch.template take<Element>(x.rows * out.in()), x.rows, out.in());
    const MatrixView<Element> dqkv(scratch.template take<Element>(x.rows * qkv.out()), x.rows, qkv.out());
    const auto mixed = cache.mixed.rows(x.rows);
    out.parameter_gradients(mixed, dy, pass);
    out.input_gradient(dy, dmixed, pass);
    ops::attention_backward(pass.device, dqkv, dmixed, mixed, cache.lse.rows(x.rows), cache.qkv.rows(x.rows),
                            options_.spec, options_.dropout.in(pass), pass.batch);
    if (options_.rope)
      ops::rope_backward(pass.device, dqkv, options_.spec, options_.rope->theta, options_.rope->layout, pass.batch);
    qkv.backward(x, dqkv, dx, pass, {}, plus);
  }

  /// Heads, head size, window.
  [[nodiscard]] const AttentionSpec& spec() const noexcept { return options_.spec; }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("qkv", self.qkv);
    f("out", self.out);
  }

  Linear<P, D> qkv;  ///< (qkv_width, width)
  Linear<P, D> out;  ///< (width, q_width)

 private:
  void rotate(MatrixView<Element> rows, const Pass<D>& pass) const {
    if (!options_.rope) return;
    ops::rope(pass.device, rows, options_.spec, options_.rope->theta, options_.rope->layout, pass.batch);
  }

  AttentionOptions options_;
};
static_assert(Layer<CausalSelfAttention<float, Cpu>, Cpu>);

}  // namespace storylm::nn
