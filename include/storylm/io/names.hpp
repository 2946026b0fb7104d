// SPDX-License-Identifier: MIT
/// @file
/// @brief What parameters are called in files: one table per family, nowhere else.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/nn/transformer_config.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::io {

/// Whose names.
enum class NameFamily : std::uint8_t {
  pytorch,  ///< nn.TransformerEncoder beside `embedding` and `head`
  gpt2,     ///< Hugging Face's GPT-2: matrices are stored (in, out)
  llama,    ///< Hugging Face's Llama and Mistral: q, k, v, gate and up apart
};

/// The family a model's checkpoints are written in.
[[nodiscard]] constexpr NameFamily name_family(const TransformerConfig& config) {
  if (config.norm == NormKind::rms_norm && config.feed_forward == FeedForwardKind::swiglu) return NameFamily::llama;
  if (config.pre_norm && config.positions == PositionKind::learned && config.feed_forward != FeedForwardKind::swiglu)
    return NameFamily::gpt2;
  return NameFamily::pytorch;
}

/// A tensor in a file that holds some rows of a parameter.
struct FileTensor {
  std::string name;         ///< in the file
  Shape shape;              ///< in the file
  index_t first_row = 0;    ///< of the parameter
  index_t rows = 0;         ///< of the parameter
  bool transposed = false;  ///< the file holds (in, out)
};

}  // namespace storylm::io

namespace storylm::detail {

struct NamePair {
  std::string_view ours;
  std::string_view theirs;
};
using NameTable = std::span<const NamePair>;

/// Names of what is inside a block, without ".weight" and ".bias" unless they are irregular.
inline constexpr std::array pytorch_block{NamePair{"attention.qkv.weight", "self_attn.in_proj_weight"},
                                          NamePair{"attention.qkv.bias", "self_attn.in_proj_bias"},
                                          NamePair{"attention.out", "self_attn.out_proj"},
                                          NamePair{"norm1", "norm1"},
                                          NamePair{"norm2", "norm2"},
                                          NamePair{"feed_forward.up", "linear1"},
                                          NamePair{"feed_forward.gate_up", "linear1"},
                                          NamePair{"feed_forward.down", "linear2"}};
inline constexpr std::array gpt2_block{NamePair{"attention.qkv", "attn.c_attn"},
                                       NamePair{"attention.out", "attn.c_proj"},
                                       NamePair{"norm1", "ln_1"},
                                       NamePair{"norm2", "ln_2"},
                                       NamePair{"feed_forward.up", "mlp.c_fc"},
                                       NamePair{"feed_forward.down", "mlp.c_proj"}};
inline constexpr std::array llama_block{
    NamePair{"attention.out", "self_attn.o_proj"}, NamePair{"norm1", "input_layernorm"},
    NamePair{"norm2", "post_attention_layernorm"}, NamePair{"feed_forward.down", "mlp.down_proj"}};

/// Names of what is outside the blocks.
inline constexpr std::array pytorch_model{NamePair{"embedding.weight", "embedding.weight"},
                                          NamePair{"embedding.positions", "positions.weight"},
                                          NamePair{"norm", "encoder.norm"}, NamePair{"head", "head"}};
inline constexpr std::array gpt2_model{NamePair{"embedding.weight", "transformer.wte.weight"},
                                       NamePair{"embedding.positions", "transformer.wpe.weight"},
                                       NamePair{"norm", "transformer.ln_f"}, NamePair{"head", "lm_head"}};
inline constexpr std::array llama_model{NamePair{"embedding.weight", "model.embed_tokens.weight"},
                                        NamePair{"embedding.positions", "model.embed_positions.weight"},
                                        NamePair{"norm", "model.norm"}, NamePair{"head", "lm_head"}};

/// `name` with the table's left side, which it is or begins with (up to a dot), replaced by the right side.
inline std::string translated(std::string_view name, NameTable table) {
  for (const auto& [ours, theirs] : table) {
    if (name == ours) return std::string(theirs);
    if (name.starts_with(ours) && name.substr(ours.size()).starts_with('.'))
      return std::string(theirs) + std::string(name.substr(ours.size()));
  }
  detail::fail<ArgumentError>("names", "the table has no name for ", name);
}

/// Where Llama's files cut one of our matrices: names and numbers of rows.
inline std::vector<std::pair<std::string, index_t>> llama_parts(std::string_view name, const TransformerConfig& c) {
  const auto suffix = std::string(name.substr(name.rfind('.')));  // ".weight" or ".bias"
  if (name.starts_with("attention.qkv.")) {
    const index_t q = index_t{c.n_heads} * c.head_size();
    const index_t kv = index_t{c.kv_heads()} * c.head_size();
    return {{"self_attn.q_proj" + suffix, q}, {"self_attn.k_proj" + suffix, kv}, {"self_attn.v_proj" + suffix, kv}};
  }
  if (name.starts_with("feed_forward.gate_up."))
    return {{"mlp.gate_proj" + suffix, c.hidden()}, {"mlp.up_proj" + suffix, c.hidden()}};
  return {};
}

}  // namespace storylm::detail

namespace storylm::io {

/// The tensors of a file that make up one parameter, named as visit names it ("blocks.0.attention.qkv.weight").
/// @throws ArgumentError when the table has no such name
[[nodiscard]] inline std::vector<FileTensor> file_tensors(NameFamily family, const TransformerConfig& config,
                                                          std::string_view parameter, const Shape& shape) {
  const index_t rows = shape.rank() == 2 ? shape[0] : 1;
  constexpr std::string_view blocks = "blocks.";
  const bool in_block = parameter.starts_with(blocks);
  if (!in_block) {
    const detail::NameTable table = family == NameFamily::pytorch ? detail::NameTable(detail::pytorch_model)
                                    : family == NameFamily::gpt2  ? detail::NameTable(detail::gpt2_model)
                                                                  : detail::NameTable(detail::llama_model);
    return {{.name = detail::translated(parameter, table), .shape = shape, .rows = rows}};
  }
  const std::size_t dot = parameter.find('.', blocks.size());
  const std::string index(parameter.substr(blocks.size(), dot - blocks.size()));
  const std::string_view name = parameter.substr(dot + 1);
  if (family == NameFamily::pytorch) {
    const std::string prefix = "encoder.layers." + index + '.';
    return {{.name = prefix + detail::translated(name, detail::pytorch_block), .shape = shape, .rows = rows}};
  }
  if (family == NameFamily::gpt2) {
    const std::string prefix = "transformer.h." + index + '.';
    const bool matrix = shape.rank() == 2;
    return {{.name = prefix + detail::translated(name, detail::gpt2_block),
             .shape = matrix ? Shape{shape[1], shape[0]} : shape,
             .rows = rows,
             .transposed = matrix}};
  }
  const std::string prefix = "model.layers." + index + '.';
  std::vector<FileTensor> parts;
  index_t first = 0;
  for (const auto& [part, count] : detail::llama_parts(name, config)) {
    const bool matrix = shape.rank() == 2;
    parts.push_back({.name = prefix + part,
                     .shape = matrix ? Shape{count, shape[1]} : Shape{count},
                     .first_row = first,
                     .rows = count});
    first += count;
  }
  if (parts.empty())
    parts.push_back({.name = prefix + detail::translated(name, detail::llama_block), .shape = shape, .rows = rows});
  return parts;
}

}  // namespace storylm::io
