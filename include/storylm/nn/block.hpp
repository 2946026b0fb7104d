// SPDX-License-Identifier: MIT
/// @file
/// @brief One transformer block, post-norm or pre-norm, over a residual stream whose branch is not yet added.
#pragma once

#include <storylm/nn/attention.hpp>
#include <storylm/nn/feed_forward.hpp>
#include <storylm/nn/layer_norm.hpp>
#include <storylm/nn/rms_norm.hpp>

namespace storylm::nn {

/// A layer that takes and gives a residual stream. backward has the gradient of what forward returned in `d` and leaves
/// the gradient of x there: d.residual in place, d.branch as memory that is always there.
template <class L, class D>
concept StreamLayer = Module<L> &&
    requires(L& layer, const L& constant, const Capacity& capacity, const Pass<D>& pass, typename L::Cache& cache,
             const ResidualStream<const typename L::Element>& x, const ResidualStream<typename L::Element>& d) {
  { constant.make_cache(pass.device, capacity) } -> std::same_as<typename L::Cache>;
  { constant.forward(x, pass, cache) } -> std::same_as<ResidualStream<const typename L::Element>>;
  layer.backward(x, d, pass, cache);
};

/// What a Block is made with.
struct BlockOptions {
  AttentionOptions attention{};       ///< of its attention
  FeedForwardOptions feed_forward{};  ///< of its feed-forward layer
  NormOptions norm{};                 ///< of both norms
  bool pre_norm = false;              ///< norms before the layers instead of after
  Dropout attention_branch{};         ///< of what attention adds to the stream
  Dropout feed_forward_branch{};      ///< of what the feed-forward layer adds to the stream
};

/// Post-norm: x <- norm1(x + attention(x)), x <- norm2(x + feed_forward(x)): torch.nn.TransformerEncoderLayer.
/// Pre-norm: x <- x + attention(norm1(x)), x <- x + feed_forward(norm2(x)): GPT-2, Llama.
/// @tparam NormLayer LayerNorm or RmsNorm
/// @tparam FeedForward Mlp or SwiGlu
template <class P, Device D, template <class, class> class NormLayer, template <class, class> class FeedForward>
class Block {
 public:
  using Element = activation_t<P>;  ///< dtype of activations
  /// What backward needs of forward.
  struct Cache {
    typename NormLayer<P, D>::Cache norm1;                ///< of the first norm
    typename NormLayer<P, D>::Cache norm2;                ///< of the second norm
    typename CausalSelfAttention<P, D>::Cache attention;  ///< of attention
    typename FeedForward<P, D>::Cache feed_forward;       ///< of the feed-forward layer
  };

  /// Records shapes; nn::allocate gives memory.
  explicit Block(const BlockOptions& options)
      : attention(options.attention),
        norm1(options.norm),
        feed_forward(options.feed_forward),
        norm2(options.norm),
        pre_norm_(options.pre_norm),
        attention_dropout_(options.attention_branch),
        feed_forward_dropout_(options.feed_forward_branch) {}

  /// Memory for batches of up to `capacity`.
  [[nodiscard]] Cache make_cache(const D& device, const Capacity& capacity) const {
    return {.norm1 = norm1.make_cache(device, capacity),
            .norm2 = norm2.make_cache(device, capacity),
            .attention = attention.make_cache(device, capacity),
            .feed_forward = feed_forward.make_cache(device, capacity)};
  }

  /// `kv`: this block's cached keys and values, in generation. @throws ArgumentError when a post-norm block is given a
  /// branch
  [[nodiscard]] ResidualStream<const Element> forward(const ResidualStream<const Element>& x, const Pass<D>& pass,
                                                      Cache& cache, const KvView<kv_t<P>>& kv = {}) const {
    const auto rows = x.residual.rows;
    if (pre_norm_) {
      static_cast<void>(attention.forward(norm1.forward(x, pass, cache.norm1), pass, cache.attention, kv));
      const auto mid = middle(x, cache, rows);
      const auto branch = feed_forward.forward(norm2.forward(mid, pass, cache.norm2), pass, cache.feed_forward);
      return {norm2.value(mid, cache.norm2), branch, feed_forward_dropout_};
    }
    expects<ArgumentError>(!x.branch, "Block",
                           "a post-norm block takes a stream without a branch; a norm before it adds the branch");
    static_cast<void>(attention.forward(x.residual, pass, cache.attention, kv));
    const auto y1 = norm1.forward(middle(x, cache, rows), pass, cache.norm1);
    static_cast<void>(feed_forward.forward(y1, pass, cache.feed_forward));
    return {.residual = norm2.forward(end(cache, rows), pass, cache.norm2), .branch = {}, .dropout = {}};
  }

  /// See the concept below.
  void backward(const ResidualStream<const Element>& x, const ResidualStream<Element>& d, const Pass<D>& pass,
                const Cache& cache) {
    const auto rows = x.residual.rows;
    const auto residual = d.residual;
    const auto mid = middle(x, cache, rows);
    if (pre_norm_) {
      auto scratch = pass.device.scratch();
      const MatrixView<Element> dnormed(scratch.template take<Element>(rows * residual.cols), rows, residual.cols);
      feed_forward.backward(cache.norm2.y.rows(rows), d.branch, dnormed, pass, cache.feed_forward);
      norm2.backward(mid, dnormed, d, pass, cache.norm2, residual);
      attention.backward(cache.norm1.y.rows(rows), d.branch, dnormed, pass, cache.attention);
      const auto dbranch = x.branch ? d.branch : MatrixView<Element>{};
      norm1.backward(x, dnormed, {residual, dbranch, {}}, pass, cache.norm1, residual);
      return;
    }
    norm2.backward(end(cache, rows), residual, d, pass, cache.norm2);
    feed_forward.backward(cache.norm1.y.rows(rows), d.branch, residual, pass, cache.feed_forward, residual);
    norm1.backward(mid, residual, d, pass, cache.norm1);
    attention.backward(x.residual, d.branch, residual, pass, cache.attention, residual);
  }

  /// Names its parts; see Module.
  template <class Self, class F>
  static void visit(Self& self, F&& f) {
    f("attention", self.attention);
    f("norm1", self.norm1);
    f("feed_forward", self.feed_forward);
    f("norm2", self.norm2);
  }

  CausalSelfAttention<P, D> attention;  ///< mixes tokens
  NormLayer<P, D> norm1;                ///< attention's
  FeedForward<P, D> feed_forward;       ///< works on each token
  NormLayer<P, D> norm2;                ///< the feed-forward layer's

 private:
  /// The stream after attention, before the feed-forward layer.
  [[nodiscard]] ResidualStream<const Element> middle(const ResidualStream<const Element>& x, const Cache& cache,
                                                     index_t rows) const {
    const auto residual = pre_norm_ ? norm1.value(x, cache.norm1) : x.residual;
    return {residual, cache.attention.y.rows(rows), attention_dropout_};
  }
  /// Post-norm: the stream after the feed-forward layer, which norm2 normalises.
  [[nodiscard]] ResidualStream<const Element> end(const Cache& cache, index_t rows) const {
    return {cache.norm1.y.rows(rows), cache.feed_forward.y.rows(rows), feed_forward_dropout_};
  }

  bool pre_norm_;
  Dropout attention_dropout_;
  Dropout feed_forward_dropout_;
};
static_assert(StreamLayer<Block<float, Cpu, LayerNorm, Mlp>, Cpu>);
static_assert(StreamLayer<Block<float, Cpu, RmsNorm, SwiGlu>, Cpu>);

}  // namespace storylm::nn
