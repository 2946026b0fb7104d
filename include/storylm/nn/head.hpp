// SPDX-License-Identifier: MIT
/// @file
/// @brief From hidden states to logits and loss, chunk by chunk: the logits of a batch are never all in memory.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <storylm/core/precision.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/ops/column_sum.hpp>
#include <storylm/ops/cross_entropy.hpp>
#include <storylm/ops/elementwise.hpp>
#include <storylm/ops/linear_gradient.hpp>
#include <storylm/ops/matmul.hpp>
#include <storylm/ops/matmul_rows.hpp>

namespace storylm::nn {

/// What a Head is made with.
struct HeadOptions {
  index_t width = 0;       ///< of hidden states
  index_t vocab_size = 0;  ///< logits a token
  bool bias = true;        ///< added to the logits
  bool tied = false;       ///< the weight belongs to the embedding; this layer has none of its own
};

/// logits (tokens, vocab_size) = hidden (tokens, width) weight^T + bias. The weight is passed in, for it may be tied.
template <class P, Device D>
class Head {
 public:
  using Element = activation_t<P>;  ///< dtype of activations

  /// What a training forward leaves for backward: gradients of the *sum* of losses, not yet scaled.
  struct Cache {
    Tensor<Element, D> dhidden;        ///< (tokens, width)
    Tensor<gradient_t<P>, D> dweight;  ///< (vocab_size, width)
    Tensor<gradient_t<P>, D> dbias;    ///< (vocab_size)
  };

  /// Records shapes; nn::allocate gives memory.
  explicit Head(HeadOptions options) : options_(options) {
    if (!options.tied) weight.emplace(Shape{options.vocab_size, options.width});
    if (options.bias) bias.emplace(Shape{options.vocab_size});
  }

  /// How many of `rows` tokens have their logits in memory at once: few enough for a CPU's caches; on a GPU enough to
  /// fill it, up to 256 MiB, and all chunks alike, for a small last one would leave it half idle.
  [[nodiscard]] index_t chunk(index_t rows) const {
    if constexpr (D::host_memory) return 1024;
    constexpr index_t multiple = 512;
    const index_t row_bytes = logits_stride() * static_cast<index_t>(sizeof(Element));
    const index_t most = std::max(multiple, (index_t{256} << 20U) / row_bytes / multiple * multiple);
    const index_t chunks = std::max<index_t>(1, (rows + most - 1) / most);
    return ((rows + chunks - 1) / chunks + multiple - 1) / multiple * multiple;
  }
  /// Elements from one row of logits to the next: on a GPU rows begin on 256-byte boundaries, for vector accesses and
  /// tensor cores (50257 is no such number).
  [[nodiscard]] index_t logits_stride() const {
    constexpr index_t multiple = D::host_memory ? 1 : 128;
    return (options_.vocab_size + multiple - 1) / multiple * multiple;
  }

  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    return {.dhidden = Tensor<Element, D>::uninitialised({capacity.tokens, options_.width}, device),
            .dweight = Tensor<gradient_t<P>, D>({options_.vocab_size, options_.width}, device),
            .dbias = bias ? Tensor<gradient_t<P>, D>({options_.vocab_size}, device) : Tensor<gradient_t<P>, D>{}};
  }

  /// Logits of some rows.
  void logits(MatrixView<const Element> hidden, MatrixView<const weight_t<P>> w, MatrixView<Element> y,
              const Pass<D>& pass) const {
    const auto* b = bias ? bias->value().data : nullptr;
    if (pass.row_invariant) {
      ops::matmul_rows(pass.device, y, hidden, w, b);
    } else {
      ops::matmul(pass.device, y, hidden, w, {.transpose_b = true}, b);
    }
  }
  /// Adds the losses of all positions that have a target to *total (on the device). With a cache, also leaves there
  /// what backward needs.
  void loss(MatrixView<const Element> hidden, MatrixView<const weight_t<P>> w, double* total, const Pass<D>& pass,
            Cache* cache) const {
    if (cache != nullptr) {
      pass.device.fill_zero(cache->dweight.data(), cache->dweight.bytes());
      if (bias) pass.device.fill_zero(cache->dbias.data(), cache->dbias.bytes());
    }
    auto scratch = pass.device.scratch();
    const index_t chunk_rows = chunk(hidden.rows);
    const index_t most = std::min(chunk_rows, hidden.rows);
    auto* const memory = scratch.template take<Element>(most * logits_stride());  // (most, vocab_size)
    auto* const losses = scratch.template take<accumulator_t<Element>>(most);     // (most)
    for (index_t first = 0; first < hidden.rows; first += chunk_rows) {
      const index_t rows = std::min(chunk_rows, hidden.rows - first);
      const auto count = static_cast<std::size_t>(rows);
      const auto x = hidden.slice_rows(first, rows);
      const MatrixView<Element> y(memory, rows, options_.vocab_size, logits_stride());
      logits(x, w, y, pass);
      ops::cross_entropy(pass.device, std::span(losses, count), y, std::span(pass.batch.targets + first, count),
                         cache != nullptr);
      ops::sum(pass.device, total, std::span<const accumulator_t<Element>>(losses, count));
      if (cache == nullptr) continue;
      ops::matmul(pass.device, cache->dhidden.matrix().slice_rows(first, rows), y, w);
      ops::linear_gradient(pass.device, cache->dweight.matrix(), bias ? cache->dbias.data() : nullptr, y, x);
    }
  }
  /// losses[r] = -log softmax(logits of hidden[r])[targets[r]], in nats, 0 without a target. On a CPU logits of 16-bit
  /// models are not rounded to 16 bits on the way.
  /// @param losses (rows)
  /// @param targets (rows), in the device's memory like the losses
  void token_losses(MatrixView<const Element> hidden, MatrixView<const weight_t<P>> w,
                    std::span<accumulator_t<Element>> losses, std::span<const token_t> targets,
                    const Pass<D>& pass) const {
    using Logit = std::conditional_t<D::host_memory, accumulator_t<Element>, Element>;
    if (hidden.rows == 0) return;
    auto scratch = pass.device.scratch();
    const index_t most = std::min(chunk(hidden.rows), hidden.rows);
    auto* const memory = scratch.template take<Logit>(most * logits_stride());  // (most, vocab_size)
    [[maybe_unused]] Logit* wide_bias = nullptr;                                // (vocab_size)
    if constexpr (!std::is_same_v<Logit, Element>) {
      if (bias) {
        wide_bias = scratch.template take<Logit>(options_.vocab_size);
        pass.device.fill_zero(wide_bias, static_cast<std::size_t>(options_.vocab_size) * sizeof(Logit));
        ops::column_sum(pass.device, wide_bias, bias->value());  // of one row: the row, in the wider type
      }
    }
    for (index_t first = 0; first < hidden.rows; first += most) {
      const index_t rows = std::min(most, hidden.rows - first);
      const auto at = static_cast<std::size_t>(first);
      const auto count = static_cast<std::size_t>(rows);
      const MatrixView<Logit> y(memory, rows, options_.vocab_size, logits_stride());
      if constexpr (std::is_same_v<Logit, Element>) {
        logits(hidden.slice_rows(first, rows), w, y, pass);
      } else {
        ops::matmul(pass.device, y, hidden.slice_rows(first, rows), w, {.transpose_b = true}, wide_bias);
      }
      ops::cross_entropy(pass.device, losses.subspan(at, count), y, targets.subspan(at, count), false);
    }
  }
  /// Adds the gradients of the *mean* over the step's targets to dw and the bias; returns that of `rows` hidden states.
  [[nodiscard]] MatrixView<Element> backward(index_t rows, MatrixView<gradient_t<P>> dw, const Pass<D>& pass,
                                             Cache& cache) {
    const auto scale = [&](auto y, auto x, bool accumulate) {
      const auto size = [](auto m) { return static_cast<std::size_t>(m.rows * m.cols); };
      ops::scale_to_mean(pass.device, std::span(y.data, size(y)), std::span(std::as_const(x).data, size(x)), pass.state,
                         accumulate);
    };
    const auto dhidden = cache.dhidden.rows(rows);
    scale(dhidden, MatrixView<const Element>(dhidden), false);
    scale(dw, std::as_const(cache.dweight).matrix(), true);
    if (bias) scale(bias->gradient(), std::as_const(cache.dbias).matrix(), true);
    return dhidden;
  }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    if (self.weight) f("weight", *self.weight);
    if (self.bias) f("bias", *self.bias);
  }

  std::optional<Parameter<weight_t<P>, D>> weight;  ///< (vocab_size, width)  none where tied
  std::optional<Parameter<weight_t<P>, D>> bias;    ///< (vocab_size)

 private:
  HeadOptions options_;
};
static_assert(Module<Head<float, Cpu>>);

}  // namespace storylm::nn
