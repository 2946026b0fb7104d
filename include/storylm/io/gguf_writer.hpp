// SPDX-License-Identifier: MIT
/// @file
/// @brief Writing GGUF files, version 3: complete or absent, tensor by tensor.
///
/// The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. "GGUF", version, numbers of tensors and of
/// keys; keys with typed values; names, extents, types and offsets of tensors; the tensors, each at a multiple of 32
/// bytes. All little-endian.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/detail/atomic_file.hpp>
#include <storylm/io/safetensors_file.hpp>
#include <storylm/io/safetensors_writer.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::io {

/// Collects keys and tensors and writes them as one file.
class GgufWriter {
 public:
  using Sink = SafetensorsWriter::Sink;          ///< takes a tensor's bytes, piece after piece
  using Producer = SafetensorsWriter::Producer;  ///< hands all of a tensor's bytes to the sink

  /// Where tensors begin: at multiples of this many bytes.
  static constexpr std::uint64_t alignment = 32;

  /// Begins an empty file.
  GgufWriter() { add("general.alignment", static_cast<std::uint32_t>(alignment)); }

  /// A key with a value: bool, std::int32_t, std::uint32_t, std::uint64_t, float or text. @throws ArgumentError when
  /// the key is taken
  template <class T>
  void add(std::string_view key, const T& value) {
    begin_key(key);
    append_number(type_of<T>());
    append_value(value);
  }
  /// A key with a list of values of those types. @throws ArgumentError when the key is taken
  template <class T>
  void add(std::string_view key, const std::vector<T>& values) {
    begin_key(key);
    append_number(array_type);
    append_number(type_of<T>());
    append_number(std::uint64_t{values.size()});
    for (const T& value : values) append_value(value);
  }

  /// A tensor whose bytes are made while the file is written. @param dtype F32, F16 or BF16
  /// @throws ArgumentError when the name is taken or the type another
  void add_tensor(std::string name, FileDtype dtype, const Shape& shape, Producer producer) {
    expects<ArgumentError>(tensor_names_.insert(name).second, op, "tensor ", shown_name(name), " is added twice");
    tensors_.push_back({std::move(name), type_of(dtype), shape, static_cast<std::uint64_t>(shape.size()) * dtype.bytes,
                        std::move(producer)});
  }

  /// Number of tensors so far.
  [[nodiscard]] std::size_t tensors() const noexcept { return tensors_.size(); }

  /// Writes the file; an older one of that name is there until the new one is complete.
  /// @throws WriteError; ArgumentError when a producer gives too few or too many bytes
  void save(const std::filesystem::path& path) const {
    GgufWriter header;  // for its bytes
    header.keys_ = "GGUF";
    header.append_number(std::uint32_t{3});
    header.append_number(std::uint64_t{tensors_.size()});
    header.append_number(std::uint64_t{key_names_.size()});
    header.keys_ += keys_;
    std::uint64_t offset = 0;
    for (const Entry& tensor : tensors_) {
      header.append_value(tensor.name);
      header.append_number(static_cast<std::uint32_t>(tensor.shape.rank()));
      for (int axis = tensor.shape.rank(); axis-- > 0;)  // the fastest first
        header.append_number(static_cast<std::uint64_t>(tensor.shape[axis]));
      header.append_number(tensor.type);
      header.append_number(offset);
      offset = aligned(offset + tensor.bytes);
    }
    detail::AtomicFile file(path);
    file.write(header.keys_);
    pad(file);
    for (const Entry& tensor : tensors_) {
      write_tensor(file, tensor);
      pad(file);
    }
    file.publish();
  }

 private:
  static constexpr std::string_view op = "GgufWriter";
  static constexpr std::uint32_t array_type = 9;

  struct Entry {
    std::string name;
    std::uint32_t type;
    Shape shape;
    std::uint64_t bytes;
    Producer producer;
  };

  template <class T>
  static constexpr std::uint32_t type_of() {
    if constexpr (std::same_as<T, std::uint32_t>) return 4;
    if constexpr (std::same_as<T, std::int32_t>) return 5;
    if constexpr (std::same_as<T, float>) return 6;
    if constexpr (std::same_as<T, bool>) return 7;
    if constexpr (std::same_as<T, std::uint64_t>) return 10;
    static_assert(
        std::same_as<T, std::uint32_t> || std::same_as<T, std::int32_t> || std::same_as<T, float> ||
            std::same_as<T, bool> || std::same_as<T, std::uint64_t> || std::convertible_to<const T&, std::string_view>,
        "storylm: a GGUF key holds bool, 32-bit integers, std::uint64_t, float, text or std::vector of those");
    return 8;
  }
  static std::uint32_t type_of(FileDtype dtype) {
    if (dtype == file_dtype<float>) return 0;
    if (dtype == file_dtype<half>) return 1;
    expects<ArgumentError>(dtype == file_dtype<bf16>, op, "tensors are F32, F16 or BF16, not ", dtype.name);
    return 30;
  }
  static constexpr std::uint64_t aligned(std::uint64_t at) { return (at + alignment - 1) / alignment * alignment; }
  static void pad(detail::AtomicFile& file) {
    file.write(std::string(static_cast<std::size_t>(aligned(file.size()) - file.size()), '\0'));
  }

  void begin_key(std::string_view key) {
    expects<ArgumentError>(key_names_.insert(std::string(key)).second, op, "the key ", key, " is added twice");
    append_value(key);
  }
  template <class T>
  void append_number(T value) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));  // little-endian here as in the file
    for (std::size_t i = 0; i < sizeof(T); ++i) keys_ += static_cast<char>(bits >> (8 * i) & 0xFFU);
  }
  template <class T>
  void append_value(const T& value) {
    if constexpr (std::is_arithmetic_v<T>) {
      append_number(value);
    } else {
      const std::string_view text = value;
      append_number(std::uint64_t{text.size()});
      keys_ += text;
    }
  }

  static void write_tensor(detail::AtomicFile& file, const Entry& tensor) {
    std::uint64_t written = 0;
    tensor.producer([&](std::span<const std::byte> bytes) {
      written += bytes.size();
      expects<ArgumentError>(written <= tensor.bytes, op, "tensor ", shown_name(tensor.name), " gives more than its ",
                             tensor.bytes, " bytes");
      file.write(bytes);
    });
    expects<ArgumentError>(written == tensor.bytes, op, "tensor ", shown_name(tensor.name), " gives ", written, " of ",
                           tensor.bytes, " bytes");
  }

  std::string keys_;  // as they stand in the file
  std::set<std::string> key_names_;
  std::set<std::string> tensor_names_;
  std::vector<Entry> tensors_;
};

}  // namespace storylm::io
