// SPDX-License-Identifier: MIT
/// @file
/// @brief The tensors of a checkpoint without a model in memory: what exports copy, converted piece by piece.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/io/model_file.hpp>
#include <storylm/io/model_parts.hpp>
#include <storylm/io/names.hpp>
#include <storylm/io/safetensors_file.hpp>
#include <storylm/io/safetensors_writer.hpp>
#include <storylm/nn/transformer_config.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::io {

/// A parameter that a model of some shape has, named as visit names it.
struct ParameterShape {
  std::string name;  ///< "blocks.0.attention.qkv.weight"
  Shape shape;       ///< (out, in) for matrices
};

/// All parameters of a model of that shape, in the order in which visit names them.
[[nodiscard]] inline std::vector<ParameterShape> parameter_shapes(const TransformerConfig& config) {
  const TransformerConfig c = config.resolved();
  const index_t d = c.d_model;
  const index_t q = index_t{c.n_heads} * c.head_dim;
  const index_t qkv = q + 2 * index_t{c.n_kv_heads} * c.head_dim;
  const bool gated = c.feed_forward == FeedForwardKind::swiglu;
  std::vector<ParameterShape> all;
  const auto add = [&all](std::string name, const Shape& shape) { all.push_back({std::move(name), shape}); };
  const auto add_map = [&](const std::string& name, index_t out, index_t in, bool bias) {
    add(name + ".weight", {out, in});
    if (bias) add(name + ".bias", {out});
  };
  const auto add_norm = [&](const std::string& name) {
    add(name + ".weight", {d});
    if (c.norm == NormKind::layer_norm && c.norm_bias) add(name + ".bias", {d});
  };
  add("embedding.weight", {c.vocab_size, d});
  if (c.positions == PositionKind::learned) add("embedding.positions", {c.max_len, d});
  for (int i = 0; i < c.n_layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + '.';
    add_map(block + "attention.qkv", qkv, d, c.qkv_bias);
    add_map(block + "attention.out", d, q, c.attention_out_bias);
    add_norm(block + "norm1");
    add_map(block + (gated ? "feed_forward.gate_up" : "feed_forward.up"), gated ? 2 * index_t{c.d_ff} : c.d_ff, d,
            c.feed_forward_bias);
    add_map(block + "feed_forward.down", d, c.d_ff, c.feed_forward_bias);
    add_norm(block + "norm2");
  }
  add_norm("norm");
  if (!c.tie_head) add("head.weight", {c.vocab_size, d});
  if (c.head_bias) add("head.bias", {c.vocab_size});
  return all;
}

/// How rows of rotated queries and keys stand in a head: first of all pairs and then the second ones (rope_half,
/// Hugging Face), or the two of a pair side by side (rope_interleaved, llama.cpp).
enum class RowOrder : std::uint8_t {
  as_stored,        ///< no change
  pairs_of_halves,  ///< rope_half becomes rope_interleaved
  halves_of_pairs,  ///< rope_interleaved becomes rope_half
};

/// Which row is stored where row `row` shall be. @param head_rows rows of a head, even
[[nodiscard]] constexpr index_t source_row(RowOrder order, index_t head_rows, index_t row) {
  if (order == RowOrder::as_stored) return row;
  const index_t half = head_rows / 2;
  const index_t at = row % head_rows;
  return row - at + (order == RowOrder::pairs_of_halves ? at % 2 * half + at / 2 : at % half * 2 + at / half);
}

}  // namespace storylm::io

namespace storylm::detail {

/// Elements `first`... of a stored tensor that has passed expect_float().
template <FloatDtype To>
void read_elements(const io::SafetensorsFile& file, const io::StoredTensor& tensor, index_t first, std::span<To> to) {
  const std::byte* const from = file.raw(tensor).data() + static_cast<std::size_t>(first) * tensor.dtype.bytes;
  if (tensor.dtype == io::file_dtype<float>) return convert_values<float>(from, to);
  if (tensor.dtype == io::file_dtype<bf16>) return convert_values<bf16>(from, to);
  if (tensor.dtype == io::file_dtype<half>) return convert_values<half>(from, to);
  convert_values<double>(from, to);
}

}  // namespace storylm::detail

namespace storylm::io {

/// Where an exported tensor comes from.
struct TensorSource {
  const StoredTensor* stored = nullptr;  ///< in the checkpoint
  Shape shape;                           ///< in the checkpoint
  RowOrder order = RowOrder::as_stored;  ///< of what is exported
  index_t head_rows = 0;                 ///< where order is not as_stored
};

/// The tensors that a checkpoint's model is made of, by their names in the checkpoint.
class ModelTensors {
 public:
  /// @throws FormatError when a tensor is missing, misshapen, not of floating-point numbers or not the model's
  explicit ModelTensors(const ModelFile& model) : file_(&model.reader().file()), config_(model.config().resolved()) {
    const NameFamily family = name_family(config_);
    std::set<std::string, std::less<>> used;
    for (const ParameterShape& parameter : parameter_shapes(config_)) {
      for (const FileTensor& part : file_tensors(family, config_, parameter.name, parameter.shape)) {
        const StoredTensor& stored = file_->at(part.name, part.shape);
        detail::expect_float(*file_, stored);
        used.insert(part.name);
        tensors_.push_back({.stored = &stored, .shape = part.shape});
      }
    }
    for (const StoredTensor& tensor : file_->tensors()) {
      expects<FormatError>(tensor.name.starts_with(std::string(run_prefix) + '.') || used.contains(tensor.name),
                           "model", file_->path(), ": tensor ", shown_name(tensor.name), " is not one of the model's");
    }
  }

  /// In the order of visit.
  [[nodiscard]] std::span<const TensorSource> all() const noexcept { return tensors_; }
  /// The tensors with rows of rotated queries and keys in another order, those of a Llama-shaped model only.
  [[nodiscard]] std::vector<TensorSource> reordered(RowOrder order) const {
    std::vector<TensorSource> changed = tensors_;
    for (TensorSource& source : changed) {
      const std::string_view name = source.stored->name;
      if (name.find(".self_attn.q_proj.") == name.npos && name.find(".self_attn.k_proj.") == name.npos) continue;
      source.order = order;
      source.head_rows = config_.head_dim;
    }
    return changed;
  }

  /// Calls consume(std::span<const T>) for the elements of what is exported, some at a time. @throws FormatError when
  /// the tensor is damaged, or has finite numbers that T has not
  template <FloatDtype T, class F>
  void read(const TensorSource& source, F&& consume) const {
    file_->verify(*source.stored);
    const index_t rows = source.shape[0];
    const index_t width = source.shape.size() / std::max<index_t>(rows, 1);
    const bool whole = source.order == RowOrder::as_stored;
    // A run of elements that lie one after another: many rows, or a part of one.
    const index_t run = whole ? std::min(chunk, source.shape.size()) : std::min(chunk, width);
    std::vector<T> values(static_cast<std::size_t>(run));
    const auto hand_over = [&](index_t first, index_t count) {
      const std::span<T> part(values.data(), static_cast<std::size_t>(count));
      detail::read_elements<T>(*file_, *source.stored, first, part);
      expects_range<T>(*source.stored, first, part);
      consume(std::span<const T>(part));
    };
    if (whole) {
      for (index_t at = 0; at < source.shape.size(); at += run) hand_over(at, std::min(run, source.shape.size() - at));
    }
    for (index_t row = 0; !whole && row < rows; ++row) {
      const index_t from = source_row(source.order, source.head_rows, row) * width;
      for (index_t at = 0; at < width; at += run) hand_over(from + at, std::min(run, width - at));
    }
    file_->release(*source.stored, 0, source.stored->bytes());  // the checkpoint may be larger than the memory
  }

  /// What a writer calls for the bytes of an exported tensor. The checkpoint must stay until then.
  template <FloatDtype T>
  [[nodiscard]] SafetensorsWriter::Producer producer(TensorSource source) const {
    return [this, source](const SafetensorsWriter::Sink& sink) {
      read<T>(source, [&](std::span<const T> values) { sink(std::as_bytes(values)); });
    };
  }
  /// The same for a type chosen at run time: F32, F16 or BF16. @throws ArgumentError for another
  [[nodiscard]] SafetensorsWriter::Producer producer(FileDtype dtype, const TensorSource& source) const {
    if (dtype == file_dtype<float>) return producer<float>(source);
    if (dtype == file_dtype<half>) return producer<half>(source);
    if (dtype == file_dtype<bf16>) return producer<bf16>(source);
    detail::fail<ArgumentError>("export", "models are exported as F32, F16 or BF16, not as ", dtype.name);
  }

 private:
  static constexpr index_t chunk = 16384;

  /// Conversion must not make infinities of numbers.
  template <class T>
  void expects_range(const StoredTensor& tensor, index_t first, std::span<const T> values) const {
    if (tensor.dtype == file_dtype<T>) return;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (std::isfinite(static_cast<float>(values[i]))) continue;
      double stored = 0.0;
      const index_t at = first + static_cast<index_t>(i);
      detail::read_elements<double>(*file_, tensor, at, std::span(&stored, 1));
      expects<FormatError>(!std::isfinite(stored), "export", file_->path(), ": tensor ", shown_name(tensor.name),
                           " has ", stored, " at element ", at, ", which is too large for ", dtype_traits<T>::name);
    }
  }

  const SafetensorsFile* file_;
  TransformerConfig config_;
  std::vector<TensorSource> tensors_;
};

}  // namespace storylm::io
