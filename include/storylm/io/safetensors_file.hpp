// SPDX-License-Identifier: MIT
/// @file
/// @brief Reading safetensors files: every byte of the header is checked before anything is believed.
///
/// The format: https://github.com/huggingface/safetensors#format. 8 bytes little-endian length of the header, the
/// header (JSON: name -> dtype, shape, data_offsets; `__metadata__` -> strings), then the tensors without gaps. A file
/// may carry checksums in its metadata: "storylm.checksums" is a JSON object of tensor name -> XXH64 of its bytes,
/// "storylm.header_checksum" the XXH64 of all names, dtypes, shapes and other metadata. Other programs ignore them.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/detail/hash.hpp>
#include <storylm/detail/memory_map.hpp>
#include <storylm/io/json.hpp>
#include <storylm/tensor/shape.hpp>

namespace storylm::io {

/// Strings that travel with the tensors.
using Metadata = std::map<std::string, std::string, std::less<>>;

/// An element type that files may have. The library computes with those of dtype_traits; the rest are for raw().
struct FileDtype {
  std::string_view name;  ///< as files spell it
  std::size_t bytes = 0;  ///< of one element
  /// Field by field.
  friend bool operator==(const FileDtype& a, const FileDtype& b) { return a.name == b.name; }
};
/// Every element type of the format that fills whole bytes.
inline constexpr std::array<FileDtype, 19> file_dtypes{{{"F64", 8},
                                                        {"F32", 4},
                                                        {"F16", 2},
                                                        {"BF16", 2},
                                                        {"I64", 8},
                                                        {"I32", 4},
                                                        {"I16", 2},
                                                        {"I8", 1},
                                                        {"U64", 8},
                                                        {"U32", 4},
                                                        {"U16", 2},
                                                        {"U8", 1},
                                                        {"BOOL", 1},
                                                        {"F8_E5M2", 1},
                                                        {"F8_E4M3", 1},
                                                        {"F8_E8M0", 1},
                                                        {"F8_E4M3FNUZ", 1},
                                                        {"F8_E5M2FNUZ", 1},
                                                        {"C64", 8}}};
/// The file's name and size of T.
template <Dtype T>
inline constexpr FileDtype file_dtype{dtype_traits<T>::name, sizeof(T)};

/// One tensor as a file's header describes it, checked against the file.
struct StoredTensor {
  std::string name;              ///< as in the file
  FileDtype dtype{};             ///< of its elements
  std::vector<index_t> shape{};  ///< up to 16 extents: files may hold more axes than the library computes with
  index_t size = 0;              ///< elements
  std::uint64_t begin = 0;       ///< first byte in the file
  std::uint64_t end = 0;         ///< byte after its last

  /// Size of its data.
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(end - begin); }
  /// True when it has this shape.
  [[nodiscard]] bool has_shape(const Shape& other) const {
    if (static_cast<int>(shape.size()) != other.rank()) return false;
    for (int axis = 0; axis < other.rank(); ++axis) {
      if (shape[static_cast<std::size_t>(axis)] != other[axis]) return false;
    }
    return true;
  }
  /// "(512, 5120)"
  [[nodiscard]] std::string shape_text() const {
    std::string text = "(";
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      text += (axis != 0 ? ", " : "") + std::to_string(shape[axis]);
    return text + ")";
  }
};

/// A tensor's name as messages show it: plain, or in quotes when it is long or has odd characters.
[[nodiscard]] inline std::string shown_name(std::string_view name) {
  const bool plain = !name.empty() && name.size() <= 80 &&
                     std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7F && c != '"'; });
  return plain ? std::string(name) : quoted(name);
}

/// `value` as another float type, rounded to nearest even; a double goes to 16 bits by way of float.
template <FloatDtype To, FloatDtype From>
[[nodiscard]] To converted(From value) {
  if constexpr (std::same_as<To, From>) {
    return value;
  } else {
    return To(static_cast<float>(value));
  }
}

}  // namespace storylm::io

namespace storylm::detail {

inline constexpr std::string_view checksums_key = "storylm.checksums";
inline constexpr std::string_view header_checksum_key = "storylm.header_checksum";
inline constexpr std::uint64_t safetensors_header_limit = 100'000'000;

/// XXH64 of what a header says, however it is spelt and wherever the tensors lie.
[[nodiscard]] inline std::uint64_t safetensors_header_hash(std::span<const io::StoredTensor> tensors,
                                                           const io::Metadata& metadata) {
  Hash64 hash;
  const auto add = [&hash](std::string_view text) {
    const std::uint64_t length = text.size();  // so that ("ab", "c") and ("a", "bc") differ
    hash.update(std::as_bytes(std::span(&length, 1)));
    hash.update(text);
  };
  for (const auto& [key, value] : metadata) {
    if (key == header_checksum_key) continue;
    add(key);
    add(value);
  }
  std::map<std::string_view, const io::StoredTensor*> by_name;
  for (const io::StoredTensor& tensor : tensors) by_name[tensor.name] = &tensor;
  for (const auto& [name, tensor] : by_name) {
    add(name);
    add(tensor->dtype.name);
    add(tensor->shape_text());
  }
  return hash.value();
}

}  // namespace storylm::detail

namespace storylm::io {

/// A safetensors file, memory-mapped. Everything about it is checked when it is opened, checksums of tensors when they
/// are read. Whoever replaces the file meanwhile must rename over it, not write into it.
class SafetensorsFile {
 public:
  /// @throws FormatError naming file, cause and byte when the file is not exactly what the format says, IoError when it
  /// cannot be read
  explicit SafetensorsFile(const std::filesystem::path& path) : path_(path.string()), map_(path, op) {
    const std::uint64_t file_bytes = map_.bytes().size();
    check(file_bytes >= 8, "the file has ", file_bytes, " bytes, too few for the length of its header");
    std::uint64_t header_bytes = 0;
    for (std::size_t i = 8; i-- > 0;)
      header_bytes = header_bytes << 8U | std::to_integer<std::uint64_t>(map_.bytes()[i]);
    check(header_bytes <= detail::safetensors_header_limit, "byte 0: the header's length is ", header_bytes,
          ", more than the ", detail::safetensors_header_limit, " allowed");
    check(header_bytes <= file_bytes - 8, "byte 0: the header's length is ", header_bytes, ", but only ",
          file_bytes - 8, " bytes follow");
    data_begin_ = 8 + header_bytes;
    const boost::json::value header =
        parse_json({reinterpret_cast<const char*>(map_.bytes().data()) + 8, static_cast<std::size_t>(header_bytes)},
                   {.op = op, .name = path_, .first_byte = 8},
                   {.bytes = detail::safetensors_header_limit, .depth = 3, .values = std::size_t{1} << 22U});
    check(header.is_object(), "the header is ", describe(header), ", expected an object");
    for (const auto& [key, value] : header.get_object()) {
      const std::string_view name(key.data(), key.size());
      name == "__metadata__" ? read_metadata(value) : read_tensor_entry(name, value);
    }
    check_layout();
    read_checksums();
  }

  /// Of the file.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// What stands under `__metadata__`.
  [[nodiscard]] const Metadata& metadata() const noexcept { return metadata_; }
  /// All tensors in the order in which they lie in the file.
  [[nodiscard]] std::span<const StoredTensor> tensors() const noexcept { return tensors_; }
  /// True when the writer stored a checksum for each tensor.
  [[nodiscard]] bool has_checksums() const noexcept { return has_checksums_; }

  /// The tensor of that name, or nullptr.
  [[nodiscard]] const StoredTensor* find(std::string_view name) const {
    const auto found = index_.find(name);
    return found == index_.end() ? nullptr : &tensors_[found->second];
  }
  /// The tensor of that name. @throws FormatError when there is none
  [[nodiscard]] const StoredTensor& at(std::string_view name) const {
    const StoredTensor* const tensor = find(name);
    check(tensor != nullptr, "tensor ", shown_name(name), " is missing");
    return *tensor;
  }
  /// The tensor of that name. @throws FormatError when there is none or its shape is another
  [[nodiscard]] const StoredTensor& at(std::string_view name, const Shape& expected) const {
    const StoredTensor& tensor = at(name);
    check(tensor.has_shape(expected), "tensor ", shown_name(name), " is ", tensor.shape_text(), ", expected ",
          expected);
    return tensor;
  }

  /// Its bytes in the file, little-endian and row-major, not necessarily aligned, not compared with a checksum.
  [[nodiscard]] std::span<const std::byte> raw(const StoredTensor& tensor) const {
    return map_.bytes().subspan(static_cast<std::size_t>(tensor.begin), tensor.bytes());
  }
  /// @throws FormatError when there is none of that name
  [[nodiscard]] std::span<const std::byte> raw(std::string_view name) const { return raw(at(name)); }

  /// Has bytes first, first + 1, ... of a tensor read ahead, as many of them as it has.
  void prefetch(const StoredTensor& tensor, std::size_t first, std::size_t bytes) const noexcept {
    if (first < tensor.bytes())
      map_.prefetch(static_cast<std::size_t>(tensor.begin) + first, std::min(bytes, tensor.bytes() - first));
  }
  /// Gives back the memory that these bytes of a tensor occupy; they can still be read.
  void release(const StoredTensor& tensor, std::size_t first, std::size_t bytes) const noexcept {
    map_.release(static_cast<std::size_t>(tensor.begin) + first, bytes);
  }

  /// Compares its bytes with the file's checksum, where it has one. @throws FormatError naming the tensor and its bytes
  void verify(const StoredTensor& tensor) const {
    if (!has_checksums_) return;
    const std::string actual = detail::hash_text(detail::hash64(raw(tensor)));
    const std::string& expected = checksums_.find(tensor.name)->second;
    check(actual == expected, "tensor ", shown_name(tensor.name), " is damaged: the checksum of bytes ", tensor.begin,
          " to ", tensor.end, " is ", actual, ", the file says ", expected);
  }

  /// Calls `consume(first, std::span<const T>)` for its elements in order, converting between float types; integers
  /// must be stored as T. @throws FormatError when it is missing, damaged, or of another shape or kind
  template <Dtype T, class F>
  void read_chunks(std::string_view name, const Shape& expected, F&& consume) const {
    const StoredTensor& tensor = at(name, expected);
    if (tensor.dtype == file_dtype<T>) return chunks_as<T, T>(tensor, consume);
    if constexpr (FloatDtype<T>) {
      if (tensor.dtype == file_dtype<float>) return chunks_as<T, float>(tensor, consume);
      if (tensor.dtype == file_dtype<bf16>) return chunks_as<T, bf16>(tensor, consume);
      if (tensor.dtype == file_dtype<half>) return chunks_as<T, half>(tensor, consume);
      if (tensor.dtype == file_dtype<double>) return chunks_as<T, double>(tensor, consume);
    }
    check(false, "tensor ", shown_name(name), " is ", tensor.dtype.name, ", expected ", dtype_traits<T>::name,
          FloatDtype<T> ? " or another of F64, F32, F16, BF16" : "");
  }
  /// Its elements into `values`. @throws FormatError as read_chunks(), ShapeError when `values` has another size
  template <Dtype T>
  void read(std::string_view name, const Shape& expected, std::span<T> values) const {
    expects<ShapeError>(expected.size() == static_cast<index_t>(values.size()), op, "tensor ", shown_name(name),
                        " has ", expected.size(), " elements, the memory ", values.size());
    read_chunks<T>(name, expected, [&](index_t first, std::span<const T> chunk) {
      std::copy(chunk.begin(), chunk.end(), values.begin() + first);
    });
  }
  /// Its elements. @throws FormatError as read_chunks()
  template <Dtype T>
  [[nodiscard]] std::vector<T> read(std::string_view name, const Shape& expected) const {
    std::vector<T> values(static_cast<std::size_t>(at(name, expected).size));  // as many as the file really has
    read<T>(name, expected, values);
    return values;
  }

 private:
  static constexpr std::string_view op = "safetensors";
  static constexpr std::size_t max_rank = 16;

  template <class... Parts>
  void check(bool ok, const Parts&... parts) const {
    expects<FormatError>(ok, op, path_, ": ", parts...);
  }

  void read_metadata(const boost::json::value& value) {
    check(value.is_object(), "__metadata__ is ", describe(value), ", expected an object");
    for (const auto& [key, text] : value.get_object()) {
      const std::string_view name(key.data(), key.size());
      check(text.is_string(), "__metadata__: ", quoted(name), " is ", describe(text), ", expected a string");
      metadata_.emplace(name, std::string(text.get_string().data(), text.get_string().size()));
    }
  }

  /// A number that is neither negative nor beyond index_t.
  std::uint64_t read_number(std::string_view name, std::string_view what, const boost::json::value& value) const {
    check(value.is_int64() && value.get_int64() >= 0, "tensor ", shown_name(name), ": ", what, " is ", describe(value),
          ", expected an integer from 0 to ", std::numeric_limits<index_t>::max());
    return static_cast<std::uint64_t>(value.get_int64());
  }

  void read_tensor_entry(std::string_view name, const boost::json::value& value) {
    check(value.is_object(), "tensor ", shown_name(name), " is described by ", describe(value), ", expected an object");
    const auto field = [&](std::string_view key) -> const boost::json::value& {
      const auto* found = value.get_object().if_contains({key.data(), key.size()});
      check(found != nullptr, "tensor ", shown_name(name), " has no ", key);
      return *found;
    };
    StoredTensor tensor{.name = std::string(name)};
    const boost::json::value& dtype = field("dtype");
    check(dtype.is_string(), "tensor ", shown_name(name), ": dtype is ", describe(dtype), ", expected a string");
    const std::string_view dtype_name(dtype.get_string().data(), dtype.get_string().size());
    const auto* const known = std::find_if(file_dtypes.begin(), file_dtypes.end(),
                                           [&](const FileDtype& candidate) { return candidate.name == dtype_name; });
    check(known != file_dtypes.end(), "tensor ", shown_name(name), ": dtype ", quoted(dtype_name), " is unknown");
    tensor.dtype = *known;

    const boost::json::value& shape = field("shape");
    check(shape.is_array(), "tensor ", shown_name(name), ": shape is ", describe(shape), ", expected an array");
    check(shape.get_array().size() <= max_rank, "tensor ", shown_name(name), ": rank ", shape.get_array().size(),
          " exceeds ", max_rank);
    for (const boost::json::value& extent : shape.get_array()) {
      tensor.shape.push_back(static_cast<index_t>(read_number(name, "an extent", extent)));
    }
    std::uint64_t bytes = tensor.dtype.bytes;
    bool overflow = false;
    for (const index_t extent : tensor.shape) {
      overflow = overflow || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes) ||
                 !std::in_range<index_t>(bytes);
    }
    check(!overflow, "tensor ", shown_name(name), ": shape ", tensor.shape_text(), " of ", tensor.dtype.name,
          " overflows 64 bits");
    tensor.size = static_cast<index_t>(bytes / tensor.dtype.bytes);

    const boost::json::value& offsets = field("data_offsets");
    check(offsets.is_array() && offsets.get_array().size() == 2, "tensor ", shown_name(name), ": data_offsets is ",
          describe(offsets), ", expected an array of 2");
    const std::uint64_t begin = read_number(name, "a data offset", offsets.get_array()[0]);
    const std::uint64_t end = read_number(name, "a data offset", offsets.get_array()[1]);
    const std::uint64_t data_bytes = map_.bytes().size() - data_begin_;
    check(begin <= end && end <= data_bytes, "tensor ", shown_name(name), ": data offsets ", begin, " to ", end,
          " do not lie within the file's ", data_bytes, " bytes of data");
    check(end - begin == bytes, "tensor ", shown_name(name), ": ", end - begin, " bytes of data, but ",
          tensor.shape_text(), " of ", tensor.dtype.name, " needs ", bytes);
    tensor.begin = data_begin_ + begin;
    tensor.end = data_begin_ + end;
    tensors_.push_back(std::move(tensor));
  }

  /// The tensors fill the data from its first to its last byte, each byte once.
  void check_layout() {
    std::stable_sort(tensors_.begin(), tensors_.end(), [](const StoredTensor& a, const StoredTensor& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    std::uint64_t at = data_begin_;
    for (const StoredTensor& tensor : tensors_) {
      check(tensor.begin == at, "byte ", std::min(at, tensor.begin), ": tensor ", shown_name(tensor.name),
            " begins at ", tensor.begin,
            tensor.begin < at ? ", inside the one before, which ends at " : ", after a hole from ", at);
      at = tensor.end;
    }
    check(at == map_.bytes().size(), "byte ", at, ": the tensors end here, but the file has ", map_.bytes().size(),
          " bytes");
    for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
  }

  void read_checksums() {
    const auto text = metadata_.find(detail::checksums_key);
    const auto stored = metadata_.find(detail::header_checksum_key);
    check((text == metadata_.end()) == (stored == metadata_.end()),
          "the header is damaged: its metadata has only one of ", detail::checksums_key, " and ",
          detail::header_checksum_key);
    if (stored != metadata_.end()) {
      const std::string actual = detail::hash_text(detail::safetensors_header_hash(tensors_, metadata_));
      check(actual == stored->second, "the header is damaged: its checksum is ", actual, ", the file says ",
            quoted(stored->second));
    }
    has_checksums_ = text != metadata_.end();
    if (!has_checksums_) return;
    const std::string context = path_ + ": " + std::string(detail::checksums_key);
    const boost::json::value document = parse_json(text->second, {.op = op, .name = context});
    const boost::json::object& object = as_object(document, context);
    for (const StoredTensor& tensor : tensors_)
      checksums_[tensor.name] = get<std::string>(object, tensor.name, context);
    check(object.size() == tensors_.size(), detail::checksums_key, " names ", object.size(), " tensors, the file has ",
          tensors_.size());
  }

  template <Dtype To, Dtype From, class F>
  void chunks_as(const StoredTensor& tensor, F& consume) const {
    verify(tensor);
    const std::span<const std::byte> bytes = raw(tensor);
    if constexpr (std::same_as<To, From>) {
      if (reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(To) == 0) {
        const std::span<const To> all(reinterpret_cast<const To*>(bytes.data()), static_cast<std::size_t>(tensor.size));
        if (!all.empty()) consume(index_t{0}, all);
        return;
      }
    }
    constexpr index_t chunk_elements = 16384;
    std::vector<To> chunk(static_cast<std::size_t>(std::min(tensor.size, chunk_elements)));
    for (index_t first = 0; first < tensor.size; first += chunk_elements) {
      const auto count = static_cast<std::size_t>(std::min(chunk_elements, tensor.size - first));
      const std::byte* const from = bytes.data() + static_cast<std::size_t>(first) * sizeof(From);
      for (std::size_t i = 0; i < count; ++i) {
        From value;
        std::memcpy(&value, from + i * sizeof(From), sizeof(From));
        if constexpr (FloatDtype<To>) {
          chunk[i] = converted<To>(value);
        } else {
          chunk[i] = value;
        }
      }
      consume(first, std::span<const To>(chunk.data(), count));
    }
  }

  std::string path_;
  detail::MemoryMap map_;
  std::uint64_t data_begin_ = 0;
  Metadata metadata_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;      // into tensors_
  std::map<std::string, std::string, std::less<>> checksums_;  // by tensor
  bool has_checksums_ = false;
};

}  // namespace storylm::io
