// SPDX-License-Identifier: MIT
/// @file
/// @brief Llama-shaped checkpoints as GGUF files with their tokenizer, which llama.cpp runs.
///
/// llama.cpp rotates the two columns of a pair that stand side by side, Hugging Face the first half with the second:
/// rows of queries and keys are reordered, in every head of either.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/io/config_json.hpp>
#include <storylm/io/gguf_writer.hpp>
#include <storylm/io/hugging_face_export.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/model_tensors.hpp>
#include <storylm/io/names.hpp>
#include <storylm/io/sentencepiece_model.hpp>

namespace storylm::io {

/// What a file has besides weights.
struct GgufExportOptions {
  FileDtype dtype = file_dtype<float>;  ///< of matrices: F32, F16 or BF16; norms and biases are F32
  std::string name = {};                ///< of the model, for people
};

/// What llama.cpp calls a tensor of a Llama-shaped checkpoint: "blk.0.attn_q.weight" for
/// "model.layers.0.self_attn.q_proj.weight". @throws ArgumentError when it has no such name
[[nodiscard]] inline std::string gguf_name(std::string_view name) {
  using detail::NamePair;
  constexpr std::array model{NamePair{"model.embed_tokens", "token_embd"}, NamePair{"model.norm", "output_norm"},
                             NamePair{"lm_head", "output"}};
  constexpr std::array block{
      NamePair{"input_layernorm", "attn_norm"},    NamePair{"self_attn.q_proj", "attn_q"},
      NamePair{"self_attn.k_proj", "attn_k"},      NamePair{"self_attn.v_proj", "attn_v"},
      NamePair{"self_attn.o_proj", "attn_output"}, NamePair{"post_attention_layernorm", "ffn_norm"},
      NamePair{"mlp.gate_proj", "ffn_gate"},       NamePair{"mlp.up_proj", "ffn_up"},
      NamePair{"mlp.down_proj", "ffn_down"}};
  constexpr std::string_view layers = "model.layers.";
  if (!name.starts_with(layers)) return detail::translated(name, model);
  const std::string_view rest = name.substr(layers.size());
  const std::size_t dot = rest.find('.');
  expects<ArgumentError>(dot != std::string_view::npos, "names", "a tensor of no layer: ", name);
  return "blk." + std::string(rest.substr(0, dot)) + '.' + detail::translated(rest.substr(dot + 1), block);
}

}  // namespace storylm::io

namespace storylm::detail {

/// @throws ArgumentError naming the field that llama.cpp's llama architecture does not have
inline void check_gguf(const TransformerConfig& c) {
  const ArchitectureCheck check(c, "GGUF's llama");
  check.require(c.norm == NormKind::rms_norm, "norm", "rms_norm");
  check.require(c.feed_forward == FeedForwardKind::swiglu, "feed_forward", "swiglu");
  check.require(c.sliding_window == 0 || c.sliding_window >= c.max_len, "sliding_window", "none");
  check.require(c.pre_norm, "pre_norm", "its norms before attention and feed-forward");
  check.require(c.uses_rope(), "positions", "rotary positions");
  check.require(!c.scale_embedding, "scale_embedding", "no factor at the embedding");
  check.require(!c.head_bias, "head_bias", "no bias at the head");
}

inline void add_gguf_model(io::GgufWriter& writer, const TransformerConfig& c, const TransformerOptions& options) {
  const auto number = [&](std::string_view key, int value) {
    writer.add("llama." + std::string(key), static_cast<std::uint32_t>(value));
  };
  number("vocab_size", c.vocab_size);
  number("context_length", c.max_len);
  number("embedding_length", c.d_model);
  number("block_count", c.n_layers);
  number("feed_forward_length", c.d_ff);
  number("attention.head_count", c.n_heads);
  number("attention.head_count_kv", c.n_kv_heads);
  number("attention.key_length", c.head_dim);
  number("attention.value_length", c.head_dim);
  number("rope.dimension_count", c.head_dim);
  writer.add("llama.attention.layer_norm_rms_epsilon", static_cast<float>(options.norm_eps));
  writer.add("llama.rope.freq_base", static_cast<float>(options.rope_theta));
}

inline void add_gguf_tokenizer(io::GgufWriter& writer, const io::SentencePieceModel& tokenizer) {
  std::vector<std::string> texts;
  std::vector<float> scores;
  std::vector<std::int32_t> kinds;
  for (const io::Piece& piece : tokenizer.pieces) {
    texts.push_back(piece.text);
    scores.push_back(piece.score);
    kinds.push_back(static_cast<std::int32_t>(piece.kind));  // GGUF's numbers are SentencePiece's
  }
  writer.add("tokenizer.ggml.model", "llama");
  writer.add("tokenizer.ggml.tokens", texts);
  writer.add("tokenizer.ggml.scores", scores);
  writer.add("tokenizer.ggml.token_type", kinds);
  const auto id = [&](std::string_view key, token_t token) {
    if (token >= 0) writer.add("tokenizer.ggml." + std::string(key), static_cast<std::uint32_t>(token));
  };
  id("bos_token_id", tokenizer.bos);
  id("eos_token_id", tokenizer.eos);
  id("unknown_token_id", tokenizer.unk);
  id("padding_token_id", tokenizer.pad);
  writer.add("tokenizer.ggml.add_bos_token", tokenizer.bos >= 0);
  writer.add("tokenizer.ggml.add_eos_token", false);
  writer.add("tokenizer.ggml.add_space_prefix", tokenizer.add_dummy_prefix);
}

}  // namespace storylm::detail

namespace storylm::io {

/// Writes a checkpoint's model and its tokenizer as a GGUF file, complete or absent; weights go from the mapped file
/// into the new one some at a time. llama.cpp does not normalise text: it must be lower-cased and have single spaces
/// where the tokenizer's would become so.
/// @throws ArgumentError naming the field that GGUF's llama does not have, when `path` is there already, the tokenizer
/// is no BPE model or has another number of pieces; FormatError when the checkpoint is damaged; WriteError
inline ExportSummary export_gguf(const ModelFile& model, const SentencePieceModel& tokenizer,
                                 const std::filesystem::path& path, const GgufExportOptions& options = {}) {
  const TransformerConfig c = model.config().resolved();
  detail::check_gguf(c);
  expects<ArgumentError>(tokenizer.model == PieceModel::bpe, "export",
                         "llama.cpp's llama tokenizer is BPE, this one is ",
                         tokenizer.model == PieceModel::unigram ? "unigram" : "of words or characters");
  expects<ArgumentError>(tokenizer.pieces.size() == static_cast<std::size_t>(c.vocab_size), "export",
                         "the tokenizer has ", tokenizer.pieces.size(), " pieces, the model ", c.vocab_size);
  std::error_code ignored;
  expects<ArgumentError>(!std::filesystem::exists(std::filesystem::symlink_status(path, ignored)), "export", path,
                         " is there already: choose another name, or remove it");
  const ModelTensors tensors(model);
  GgufWriter writer;
  writer.add("general.architecture", "llama");
  if (!options.name.empty()) writer.add("general.name", options.name);
  const bool is_half = options.dtype == file_dtype<half>;
  writer.add("general.file_type",  // what most tensors are: llama.cpp's numbers
             static_cast<std::uint32_t>(is_half                             ? 1
                                        : options.dtype == file_dtype<bf16> ? 32
                                                                            : 0));
  detail::add_gguf_model(writer, c, model.options());
  detail::add_gguf_tokenizer(writer, tokenizer);

  ExportSummary summary{.architecture = "llama"};
  const bool halves = c.positions == PositionKind::rope_half;
  for (const TensorSource& source : tensors.reordered(halves ? RowOrder::pairs_of_halves : RowOrder::as_stored)) {
    const FileDtype dtype = source.shape.rank() == 2 ? options.dtype : file_dtype<float>;
    writer.add_tensor(gguf_name(source.stored->name), dtype, source.shape, tensors.producer(dtype, source));
    summary.parameters += source.shape.size();
    ++summary.tensors;
  }
  writer.save(path);
  return summary;
}

}  // namespace storylm::io
