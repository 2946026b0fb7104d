// SPDX-License-Identifier: MIT
/// @file
/// @brief Token embedding, scaled, with positions added and dropout. PyTorch equivalent: torch.nn.Embedding and more.
#pragma once

#include <cmath>
#include <optional>

#include <storylm/core/precision.hpp>
#include <storylm/nn/dropout.hpp>
#include <storylm/nn/module.hpp>
#include <storylm/nn/positions.hpp>
#include <storylm/ops/embedding.hpp>

namespace storylm::nn {

/// Where positions come from; rotary ones belong to attention, so `none` here.
enum class AddedPositions : std::uint8_t { none, sinusoidal, learned };

/// What an Embedding is made with.
struct EmbeddingOptions {
  index_t vocab_size = 0;                           ///< rows of the table
  index_t width = 0;                                ///< of a row
  index_t max_len = 0;                              ///< positions
  AddedPositions positions = AddedPositions::none;  ///< what is added
  bool scale = false;                               ///< multiply by sqrt(width)
  double dropout = 0.0;                             ///< of the sum
};

/// y[t] = dropout(weight[id of t] * scale + positions[position of t]); weight (vocab_size, width), y (tokens, width).
template <class P, Device D>
class Embedding {
 public:
  using Element = activation_t<P>;  ///< dtype of activations
  /// What backward needs of forward.
  struct Cache {
    Tensor<Element, D> y;  ///< (tokens, width)
  };

  /// Records shapes, and computes sinusoidal positions.
  Embedding(EmbeddingOptions options, const D& device)
      : weight({options.vocab_size, options.width}),
        scale_(options.scale ? std::sqrt(static_cast<double>(options.width)) : 1.0),
        dropout_{options.dropout, DropoutSites::embedding} {
    if (options.positions == AddedPositions::learned) positions.emplace(Shape{options.max_len, options.width});
    if (options.positions == AddedPositions::sinusoidal)
      sinusoids_ = sinusoidal_positions<weight_t<P>>(options.max_len, options.width, device);
  }

  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    return {Tensor<Element, D>::uninitialised({capacity.tokens, weight.shape()[1]}, device)};
  }
  /// Looks up pass.batch.ids.
  [[nodiscard]] MatrixView<const Element> forward(const Pass<D>& pass, Cache& cache) const {
    const auto y = cache.y.rows(pass.batch.tokens);
    ops::embedding(pass.device, y, weight.value(), position_table(), scale_, dropout_.in(pass), pass.batch);
    return y;
  }
  /// Adds d(weight) and d(positions).
  void backward(MatrixView<const Element> dy, const Pass<D>& pass) {
    const auto dpositions = positions ? positions->gradient() : MatrixView<gradient_t<P>>{};
    ops::embedding_backward(pass.device, weight.gradient(), dpositions, dy, scale_, dropout_.in(pass), pass.batch);
  }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("weight", self.weight);
    if (self.positions) f("positions", *self.positions);
  }

  Parameter<weight_t<P>, D> weight;                    ///< (vocab_size, width)
  std::optional<Parameter<weight_t<P>, D>> positions;  ///< (max_len, width)  learned ones

 private:
  [[nodiscard]] MatrixView<const weight_t<P>> position_table() const {
    return positions ? positions->value() : sinusoids_.matrix();
  }

  double scale_;
  Dropout dropout_;
  Tensor<weight_t<P>, D> sinusoids_;  // (max_len, width) or none
};
static_assert(Module<Embedding<float, Cpu>>);

}  // namespace storylm::nn
