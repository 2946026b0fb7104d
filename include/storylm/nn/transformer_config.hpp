// SPDX-License-Identifier: MIT
/// @file
/// @brief The shape of a transformer language model: integers, bools and enums only.
#pragma once

#include <cstdint>

#include <storylm/core/dtype.hpp>

namespace storylm {

/// Which norm a model has.
enum class NormKind : std::uint8_t { layer_norm, rms_norm };

/// What a feed-forward layer computes.
enum class FeedForwardKind : std::uint8_t {
  relu,       ///< down(relu(up x))
  gelu_tanh,  ///< down(gelu(up x)), tanh form
  gelu_erf,   ///< down(gelu(up x)), exact
  swiglu,     ///< down(silu(gate x) * up x)
};

/// How a model knows where a token stands.
enum class PositionKind : std::uint8_t {
  sinusoidal,        ///< added to the embedding; Vaswani et al., arXiv:1706.03762
  learned,           ///< added to the embedding, a parameter
  rope_half,         ///< rotates queries and keys, Hugging Face's column order
  rope_interleaved,  ///< rotates queries and keys, the paper's column order
};

/// A structural type: a value of it can be a template argument, and the same struct serves at run time. Flat; reals
/// (dropout, eps, rope theta) are TransformerOptions. Zero means "derived" where a comment says so.
struct TransformerConfig {
  int vocab_size = 0;                    ///< number of token ids
  int d_model = 0;                       ///< width of the residual stream
  int d_ff = 0;                          ///< width inside the feed-forward layer; 0: 4 * d_model
  int n_layers = 0;                      ///< blocks
  int n_heads = 0;                       ///< of queries
  int n_kv_heads = 0;                    ///< grouped-query attention, Ainslie et al., arXiv:2305.13245; 0: n_heads
  int head_dim = 0;                      ///< 0: d_model / n_heads
  int max_len = 0;                       ///< longest sequence, BOS and EOS included
  int sliding_window = 0;                ///< 0: none
  NormKind norm = NormKind::layer_norm;  ///< of blocks and at the end
  bool pre_norm = false;                 ///< norm before attention and feed-forward (GPT-2, Llama) instead of after
  FeedForwardKind feed_forward = FeedForwardKind::relu;  ///< of blocks
  PositionKind positions = PositionKind::sinusoidal;     ///< added or rotated
  bool scale_embedding = false;                          ///< embedding times sqrt(d_model) before positions are added
  bool tie_head = false;                                 ///< the head's weight is the embedding's
  bool qkv_bias = true;                                  ///< of queries, keys and values
  bool attention_out_bias = true;                        ///< of attention's output projection
  bool feed_forward_bias = true;                         ///< of both maps
  bool norm_bias = true;                                 ///< LayerNorm only
  bool head_bias = true;                                 ///< added to the logits

  /// d_ff, or what it is derived as.
  [[nodiscard]] constexpr int hidden() const { return d_ff != 0 ? d_ff : 4 * d_model; }
  /// n_kv_heads, or what it is derived as.
  [[nodiscard]] constexpr int kv_heads() const { return n_kv_heads != 0 ? n_kv_heads : n_heads; }
  /// head_dim, or what it is derived as.
  [[nodiscard]] constexpr int head_size() const {
    return head_dim != 0 ? head_dim : (n_heads != 0 ? d_model / n_heads : 0);
  }
  /// True when queries and keys are rotated.
  [[nodiscard]] constexpr bool uses_rope() const {
    return positions == PositionKind::rope_half || positions == PositionKind::rope_interleaved;
  }

  /// The same shape with every derived field written out: what checkpoints store and comparisons use.
  [[nodiscard]] constexpr TransformerConfig resolved() const {
    TransformerConfig c = *this;
    c.d_ff = hidden();
    c.n_kv_heads = kv_heads();
    c.head_dim = head_size();
    return c;
  }
  /// Field by field.
  friend constexpr bool operator==(const TransformerConfig&, const TransformerConfig&) = default;
};

/// Number of trainable values of a model of this shape.
[[nodiscard]] constexpr index_t parameter_count(const TransformerConfig& config) {
  const TransformerConfig c = config.resolved();
  const auto d = index_t{c.d_model};
  const auto ff = index_t{c.d_ff};
  const index_t q = index_t{c.n_heads} * c.head_dim;
  const index_t qkv = q + 2 * index_t{c.n_kv_heads} * c.head_dim;
  const index_t up = c.feed_forward == FeedForwardKind::swiglu ? 2 * ff : ff;
  const index_t norm = d * (c.norm == NormKind::layer_norm && c.norm_bias ? 2 : 1);
  const index_t block = qkv * d + (c.qkv_bias ? qkv : 0) + d * q + (c.attention_out_bias ? d : 0) + up * d + d * ff +
                        (c.feed_forward_bias ? up + d : 0) + 2 * norm;
  const index_t positions = c.positions == PositionKind::learned ? index_t{c.max_len} * d : 0;
  const index_t head = (c.tie_head ? 0 : c.vocab_size * d) + (c.head_bias ? c.vocab_size : 0);
  return c.vocab_size * d + positions + c.n_layers * block + norm + head;
}

}  // namespace storylm
