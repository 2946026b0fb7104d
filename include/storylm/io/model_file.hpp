// SPDX-License-Identifier: MIT
/// @file
/// @brief Models in checkpoints: weights under the names of their family, the config, the tokenizer's hash.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/detail/hash.hpp>
#include <storylm/io/checkpoint.hpp>
#include <storylm/io/config_json.hpp>
#include <storylm/io/model_parts.hpp>
#include <storylm/io/names.hpp>
#include <storylm/version.hpp>

namespace storylm::io {

/// Prefixes under which a run keeps its own state; every other tensor of a checkpoint is the model's.
inline constexpr std::string_view run_prefix = "run";

}  // namespace storylm::io

namespace storylm::detail {

/// (rows, cols) -> (cols, rows).
template <class T>
std::vector<T> transposed(std::span<const T> values, index_t rows, index_t cols) {
  std::vector<T> result(values.size());
  for (index_t r = 0; r < rows; ++r)
    for (index_t c = 0; c < cols; ++c)
      result[static_cast<std::size_t>(c * rows + r)] = values[static_cast<std::size_t>(r * cols + c)];
  return result;
}

}  // namespace storylm::detail

namespace storylm::io {

/// Metadata of a checkpoint that holds this model. @param tokenizer_hash of the vocabulary its ids belong to
template <class Stack>
[[nodiscard]] CheckpointMetadata model_metadata(const Stack& model, std::optional<std::uint64_t> tokenizer_hash = {}) {
  CheckpointMetadata metadata{.library_version = std::string(version),
                              .config = json_text(config_to_json({model.shape(), model.options()}))};
  metadata.more["state_prefixes"] = std::string(run_prefix);
  if (tokenizer_hash) metadata.more["tokenizer_hash"] = detail::hash_text(*tokenizer_hash);
  return metadata;
}

/// Adds a model's weights (masters where there are some) to a checkpoint. The model must stay until save().
template <class Stack>
void add_model(CheckpointWriter& writer, const Stack& model) {
  const NameFamily family = name_family(model.shape());
  nn::for_each_parameter(model, [&](const std::string& name, const auto& p) {
    using Value = typename std::remove_cvref_t<decltype(p)>::gradient_type;
    const index_t cols = p.shape().cols();
    for (FileTensor& part : file_tensors(family, model.shape(), name, p.shape())) {
      const index_t width = p.shape().rank() == 2 ? cols : 1;
      const index_t first = part.first_row * width;
      const bool transposed = part.transposed;
      const index_t size = part.shape.size();
      writer.add_tensor(std::move(part.name), file_dtype<Value>, part.shape,
                        [&p, first, size, transposed, cols](const SafetensorsWriter::Sink& sink) {
                          std::vector<Value> values(static_cast<std::size_t>(size));
                          p.read_part(first, values);
                          if (transposed) values = detail::transposed<Value>(values, size / cols, cols);
                          sink(std::as_bytes(std::span<const Value>(values)));
                        });
    }
  });
}

/// A checkpoint seen as a model: what generation and evaluation need of it.
class ModelFile {
 public:
  /// @throws FormatError, IoError
  explicit ModelFile(const std::filesystem::path& path)
      : reader_(path), model_(config_from_json(reader_.config(), reader_.file().path() + ": config")) {
    double stored = 0.0;
    for (const StoredTensor& tensor : reader_.file().tensors()) stored += static_cast<double>(tensor.size);
    detail::expect_enough_weights(model_.config, stored, reader_.file().tensors().size(), reader_.file().path());
  }

  /// Shape and stored options; initialisation is none.
  [[nodiscard]] const TransformerConfig& config() const noexcept { return model_.config; }
  /// Stored options; initialisation is none.
  [[nodiscard]] const TransformerOptions& options() const noexcept { return model_.options; }
  /// Of the vocabulary the model's ids belong to, where the file says so: hash_text of it.
  [[nodiscard]] std::optional<std::string> tokenizer_hash() const {
    const auto found = reader_.metadata().find("tokenizer_hash");
    if (found == reader_.metadata().end()) return std::nullopt;
    return found->second;
  }
  /// The checkpoint that it is.
  [[nodiscard]] const CheckpointReader& reader() const noexcept { return reader_; }

  /// Sets every parameter: all of them, or none when it throws.
  /// @throws FormatError when the shapes or constants differ (naming field, expected and found), or a tensor is
  /// missing, damaged, misshapen, not of floating-point numbers, not the model's or has one too large for its dtype
  template <class Stack>
  void load_into(Stack& model) const {
    expect(model);
    std::size_t bytes = 0;
    detail::for_each_part(model, [&](const auto& p, const FileTensor& part) {
      bytes = std::max(bytes, detail::load_bytes(p, part, reader_.file().at(part.name)));
    });
    std::vector<std::byte> buffer(bytes);
    detail::for_each_part(model, [&](auto& p, const FileTensor& part) {
      detail::load_part(p, part, reader_.file(), reader_.file().at(part.name), buffer);
    });
  }

  /// All that load_into() checks. @throws FormatError as load_into()
  template <class Stack>
  void expect(const Stack& model) const {
    detail::expect_description({model.shape(), model.options()}, model_, reader_.file().path());
    std::set<std::string, std::less<>> used;
    detail::for_each_part(model, [&](const auto& p, const FileTensor& part) {
      const StoredTensor& tensor = reader_.file().at(part.name, part.shape);
      detail::expect_float(reader_.file(), tensor);
      reader_.file().verify(tensor);
      detail::expect_range(p, reader_.file(), tensor);
      used.insert(part.name);
    });
    const std::string state = std::string(run_prefix) + '.';
    for (const StoredTensor& tensor : reader_.file().tensors()) {
      expects<FormatError>(tensor.name.starts_with(state) || used.contains(tensor.name), "model", reader_.file().path(),
                           ": tensor ", shown_name(tensor.name), " is not one of the model's");
    }
  }

 private:
  CheckpointReader reader_;
  ModelDescription model_;
};

}  // namespace storylm::io
