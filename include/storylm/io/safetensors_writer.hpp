// SPDX-License-Identifier: MIT
/// @file
/// @brief Writing safetensors files: complete or absent, the same bytes for the same tensors, checksums if asked for.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/safetensors_file.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::io {

/// What a file has besides tensors.
struct SafetensorsOptions {
  Metadata metadata = {};  ///< goes under `__metadata__`
  bool checksums = false;  ///< adds them to the metadata; the reader then compares each tensor
};

/// Collects tensors and writes them as one file. Same tensors, same bytes: they lie in the file by falling size of
/// their elements, so that all are aligned, and otherwise in the order in which they were added.
class SafetensorsWriter {
 public:
  /// Takes a tensor's bytes, piece after piece.
  using Sink = std::function<void(std::span<const std::byte>)>;
  /// Hands all of a tensor's bytes to the sink; called once, by save().
  using Producer = std::function<void(const Sink&)>;

  /// Begins an empty file.
  explicit SafetensorsWriter(SafetensorsOptions options = {}) : options_(std::move(options)) {}

  /// A tensor whose bytes are made while the file is written: nothing is copied beforehand.
  /// @throws ArgumentError when the name is taken
  void add(std::string name, FileDtype dtype, const Shape& shape, Producer producer) {
    expects<ArgumentError>(name != "__metadata__", op, "a tensor cannot be called __metadata__");
    StoredTensor tensor{.name = std::move(name), .dtype = dtype, .size = shape.size()};
    for (int axis = 0; axis < shape.rank(); ++axis) tensor.shape.push_back(shape[axis]);
    const auto [entry, is_new] = names_.insert(tensor.name);
    expects<ArgumentError>(is_new, op, "tensor ", shown_name(tensor.name), " is added twice");
    tensors_.push_back(std::move(tensor));
    producers_.push_back(std::move(producer));
  }
  /// A tensor that lies on the host; `values` must stay until save(). @throws ShapeError, ArgumentError
  template <Dtype T>
  void add(std::string name, const Shape& shape, std::span<const T> values) {
    expects<ShapeError>(shape.size() == static_cast<index_t>(values.size()), op, "tensor ", shown_name(name), " is ",
                        shape, ", but has ", values.size(), " values");
    add(std::move(name), file_dtype<T>, shape, [values](const Sink& sink) { sink(std::as_bytes(values)); });
  }

  /// Writes the file; it is there complete or not at all.
  /// @param predecessor where not empty, the name that an older file of this name gets when the new one is complete
  /// @throws WriteError; ArgumentError when a name is not UTF-8 or a producer gives too few or too many bytes
  void save(const std::filesystem::path& path, const std::filesystem::path& predecessor = {}) const {
    std::vector<std::size_t> order(tensors_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
      return tensors_[a].dtype.bytes > tensors_[b].dtype.bytes;
    });
    std::vector<std::uint64_t> hashes(tensors_.size());
    const std::string draft = header(order, hashes);
    detail::AtomicFile file(path);
    file.write(draft);
    for (const std::size_t i : order) hashes[i] = write_tensor(file, i);
    if (options_.checksums) {
      const std::string text = header(order, hashes);  // as long as the draft: hashes have a fixed width
      file.overwrite(0, std::as_bytes(std::span(text)));
    }
    predecessor.empty() ? file.publish() : file.publish_keeping(predecessor);
  }

 private:
  static constexpr std::string_view op = "SafetensorsWriter";

  std::uint64_t write_tensor(detail::AtomicFile& file, std::size_t i) const {
    const StoredTensor& tensor = tensors_[i];
    const std::uint64_t expected = static_cast<std::uint64_t>(tensor.size) * tensor.dtype.bytes;
    std::uint64_t written = 0;
    detail::Hash64 hash;
    producers_[i]([&](std::span<const std::byte> bytes) {
      written += bytes.size();
      expects<ArgumentError>(written <= expected, op, "tensor ", shown_name(tensor.name), " gives more than its ",
                             expected, " bytes");
      if (options_.checksums) hash.update(bytes);
      file.write(bytes);
    });
    expects<ArgumentError>(written == expected, op, "tensor ", shown_name(tensor.name), " gives ", written, " of ",
                           expected, " bytes");
    return hash.value();
  }

  /// Length and text, padded with spaces so that the data begins at a multiple of 8.
  std::string header(std::span<const std::size_t> order, std::span<const std::uint64_t> hashes) const {
    Metadata metadata = options_.metadata;
    if (options_.checksums) {
      boost::json::object checksums;
      for (const std::size_t i : order) checksums[tensors_[i].name] = detail::hash_text(hashes[i]);
      metadata[std::string(detail::checksums_key)] = json_text(checksums);
      metadata[std::string(detail::header_checksum_key)] =
          detail::hash_text(detail::safetensors_header_hash(tensors_, metadata));
    }
    std::string text = "{";
    if (!metadata.empty()) {
      boost::json::object object;
      for (const auto& [key, value] : metadata) object[key] = value;
      text += "\"__metadata__\":" + json_text(object);
    }
    std::uint64_t offset = 0;
    for (const std::size_t i : order) {
      const StoredTensor& tensor = tensors_[i];
      if (text.size() > 1) text += ',';
      text += json_text(boost::json::string(tensor.name)) + ":{\"dtype\":\"" + std::string(tensor.dtype.name) +
              "\",\"shape\":[";
      for (std::size_t axis = 0; axis < tensor.shape.size(); ++axis) {
        text += (axis != 0 ? "," : "") + std::to_string(tensor.shape[axis]);
      }
      text += "],\"data_offsets\":[" + std::to_string(offset) + ',';
      offset += static_cast<std::uint64_t>(tensor.size) * tensor.dtype.bytes;
      text += std::to_string(offset) + "]}";
    }
    text += '}';
    text.append((8 - text.size() % 8) % 8, ' ');
    try {  // what cannot be read back must not be written
      static_cast<void>(parse_json(text, {}, {.bytes = detail::safetensors_header_limit}));
    } catch (const FormatError& error) {
      detail::fail<ArgumentError>(op, "names and metadata do not make a header: ", error.what());
    }
    std::string with_length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) with_length[i] = static_cast<char>(text.size() >> (8 * i) & 0xFFU);
    return with_length + text;
  }

  SafetensorsOptions options_;
  std::vector<StoredTensor> tensors_;  // in the order added; without offsets
  std::vector<Producer> producers_;
  std::set<std::string> names_;
};

}  // namespace storylm::io
