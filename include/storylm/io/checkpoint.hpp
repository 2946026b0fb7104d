// SPDX-License-Identifier: MIT
/// @file
/// @brief Checkpoints: safetensors files of (prefix, object) pairs and model tensors, with checksums and a version.
#pragma once

#include <any>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/core/state.hpp>
#include <storylm/io/json.hpp>
#include <storylm/io/safetensors_file.hpp>
#include <storylm/io/safetensors_writer.hpp>
#include <storylm/tensor/span.hpp>
#include <storylm/tensor/tensor.hpp>

namespace storylm::io {

/// The version of the format that is written, and the newest that is read. It is the only one so far.
inline constexpr int checkpoint_format = 1;

/// What a checkpoint says besides its tensors.
struct CheckpointMetadata {
  std::string library_version = {};  ///< of the library that writes it
  std::string config = {};           ///< the model's config, one JSON object; may be empty
  Metadata more = {};                ///< anything else; keys must be neither "config" nor begin with "storylm."
};

}  // namespace storylm::io

namespace storylm::detail {

template <class M>
inline constexpr bool is_state_list = false;  // of changing length
template <>
inline constexpr bool is_state_list<std::string> = true;
template <Dtype T>
inline constexpr bool is_state_list<std::vector<T>> = true;

template <class M>
inline constexpr bool is_state_memory = false;  // of a device
template <Dtype T, Device D>
inline constexpr bool is_state_memory<Tensor<T, D>> = true;
template <Dtype T, Device D>
inline constexpr bool is_state_memory<StateSpan<T, D>> = true;

template <class M>
concept StateScalar = std::integral<M> || std::is_enum_v<M> || FloatDtype<M>;

/// The type that a scalar has in files.
template <class M>
[[nodiscard]] constexpr auto stored_scalar(M value) {
  if constexpr (std::is_enum_v<M>) {
    return stored_scalar(static_cast<std::underlying_type_t<M>>(value));
  } else if constexpr (std::same_as<M, bool>) {
    return static_cast<std::uint8_t>(value);
  } else if constexpr (std::signed_integral<M>) {
    return std::int64_t{value};
  } else if constexpr (std::unsigned_integral<M>) {
    return std::uint64_t{value};
  } else {
    return value;
  }
}
template <class M>
using stored_scalar_t = decltype(stored_scalar(std::declval<M>()));

/// The type that an element of a list has in files.
template <class M>
using stored_element_t = std::conditional_t<std::same_as<M, std::string>, std::uint8_t, typename M::value_type>;

template <Dtype T, Device D>
T* state_data(Tensor<T, D>& tensor) {
  return tensor.data();
}
template <Dtype T, Device D>
T* state_data(const StateSpan<T, D>& span) {
  return span.data;
}
/// A Tensor without memory is stored as one of no elements.
template <Dtype T, Device D>
Shape state_shape(const Tensor<T, D>& tensor) {
  return tensor ? tensor.shape() : Shape{0};
}
template <Dtype T, Device D>
Shape state_shape(const StateSpan<T, D>& span) {
  return {span.size};
}
template <Dtype T, Device D>
const D& state_device(const Tensor<T, D>& tensor) {
  return tensor.device();
}
template <Dtype T, Device D>
const D& state_device(const StateSpan<T, D>& span) {
  return span.device;
}

/// True in branches that no member of a checkpoint may reach.
template <class M>
inline constexpr bool not_state = true;

}  // namespace storylm::detail

namespace storylm::io {

/// Collects what a run is made of and writes it as one file, complete or absent. PyTorch's safetensors reads it too.
class CheckpointWriter {
 public:
  /// @throws ArgumentError when the config is no JSON object or a further key is reserved
  explicit CheckpointWriter(const CheckpointMetadata& metadata)
      : file_({.metadata = header(metadata), .checksums = true}) {}

  /// Adds every member that `object` names in visit_state, as tensors called `prefix.member`. Scalars, strings and
  /// vectors are copied now; memory of devices is read by save() and must stay until then.
  /// @throws ArgumentError when the prefix is empty, or one of two prefixes begins the other
  template <Stateful S>
  void add(std::string_view prefix, const S& object) {
    const std::string own = std::string(prefix) + ".";
    expects<ArgumentError>(!prefix.empty(), op, "an object needs a prefix");
    for (const std::string& other : prefixes_) {
      expects<ArgumentError>(!own.starts_with(other) && !other.starts_with(own), op, "the prefixes ",
                             shown_name(prefix), " and ", shown_name(other.substr(0, other.size() - 1)),
                             " begin each other");
    }
    prefixes_.insert(own);
    add_members(own, object);
  }

  /// Adds a tensor, such as a model's, whose bytes are made piece by piece while save() writes them.
  /// @throws ArgumentError when the name is taken
  void add_tensor(std::string name, FileDtype dtype, const Shape& shape, SafetensorsWriter::Producer producer) {
    tensors_.push_back(name);
    file_.add(std::move(name), dtype, shape, std::move(producer));
  }
  /// Adds a tensor that lies on the host; `values` must stay until save(). @throws ShapeError, ArgumentError
  template <Dtype T>
  void add_tensor(std::string name, const Shape& shape, std::span<const T> values) {
    tensors_.push_back(name);
    file_.add<T>(std::move(name), shape, values);
  }

  /// Writes everything; an older file of that name is there until the new one is complete.
  /// @param predecessor where not empty, the name that the older file has from then on
  /// @throws WriteError; ArgumentError when a tensor's name begins with an object's prefix
  void save(const std::filesystem::path& path, const std::filesystem::path& predecessor = {}) const {
    for (const std::string& name : tensors_) {
      for (const std::string& prefix : prefixes_) {
        expects<ArgumentError>(!name.starts_with(prefix), op, "tensor ", shown_name(name),
                               " has the prefix of an object");
      }
    }
    file_.save(path, predecessor);
  }

 private:
  static constexpr std::string_view op = "CheckpointWriter";

  static Metadata header(const CheckpointMetadata& metadata) {
    Metadata all = metadata.more;
    for (const auto& [key, value] : all) {
      expects<ArgumentError>(key != "config" && !key.starts_with("storylm."), op, "the metadata key ", quoted(key),
                             " is reserved");
    }
    if (!metadata.config.empty()) {
      try {
        static_cast<void>(as_object(parse_json(metadata.config), "config"));
      } catch (const FormatError& error) {
        detail::fail<ArgumentError>(op, "the config is no JSON object: ", error.what());
      }
      all["config"] = metadata.config;
    }
    all.emplace("format", "pt");  // what programs of the PyTorch world look for
    all["storylm.format"] = std::to_string(checkpoint_format);
    all["storylm.version"] = metadata.library_version;
    return all;
  }

  template <class S>
  void add_members(const std::string& prefix, const S& object) {
    S::visit_state(object,
                   [&](std::string_view name, auto&& member) { add_member(prefix + std::string(name), member); });
  }

  template <class M>
  void add_member(std::string name, const M& member) {
    if constexpr (Stateful<M>) {
      add_members(name + ".", member);
    } else if constexpr (detail::StateScalar<M>) {
      using Stored = detail::stored_scalar_t<M>;
      add_copy<Stored>(std::move(name), {}, {detail::stored_scalar(member)});
    } else if constexpr (detail::is_state_list<M>) {
      using Stored = detail::stored_element_t<M>;
      add_copy<Stored>(std::move(name), {static_cast<index_t>(member.size())},
                       std::vector<Stored>(member.begin(), member.end()));
    } else if constexpr (detail::is_state_memory<M>) {
      add_memory(std::move(name), member);
    } else {
      static_assert(!detail::not_state<M>,
                    "storylm: a checkpoint holds bool, integers, enums, float, double, std::string, std::vector of "
                    "numbers, Tensor, StateSpan and objects with visit_state");
    }
  }
  template <Dtype T>
  void add_copy(std::string name, const Shape& shape, std::vector<T> values) {
    const auto kept = std::make_shared<const std::vector<T>>(std::move(values));
    file_.add(std::move(name), file_dtype<T>, shape,
              [kept](const SafetensorsWriter::Sink& sink) { sink(std::as_bytes(std::span<const T>(*kept))); });
  }
  template <Dtype T, Device D>
  void add_memory(std::string name, const Tensor<T, D>& tensor) {
    file_.add(std::move(name), file_dtype<T>, detail::state_shape(tensor),
              [&tensor](const SafetensorsWriter::Sink& sink) {
                if (tensor) hand_over(tensor.data(), tensor.size(), tensor.device(), sink);
              });
  }
  template <Dtype T, Device D>
  void add_memory(std::string name, const StateSpan<T, D>& span) {
    file_.add(std::move(name), file_dtype<T>, detail::state_shape(span),
              [span](const SafetensorsWriter::Sink& sink) { hand_over(span.data, span.size, span.device, sink); });
  }
  template <Dtype T, Device D>
  static void hand_over(const T* data, index_t size, const D& device, const SafetensorsWriter::Sink& sink) {
    for_each_host_chunk(data, size, device,
                        [&](index_t /*first*/, std::span<const T> chunk) { sink(std::as_bytes(chunk)); });
  }

  SafetensorsWriter file_;
  std::set<std::string> prefixes_;    // of objects, each with its dot
  std::vector<std::string> tensors_;  // added by name
};

/// Reads what CheckpointWriter wrote. A damaged or foreign file changes no object.
class CheckpointReader {
 public:
  /// @throws FormatError when the file is no checkpoint, damaged in its header or of a newer version; IoError
  explicit CheckpointReader(const std::filesystem::path& path) : file_(path) {
    const auto stored = file_.metadata().find("storylm.format");
    check(stored != file_.metadata().end(), "this is no checkpoint: its metadata has no storylm.format");
    const std::string& text = stored->second;
    int version = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), version);
    check(code == std::errc() && end == text.data() + text.size() && version > 0, "storylm.format is ", quoted(text),
          ", expected a version number");
    check(version <= checkpoint_format, "format version ", version, " (written by storylm ", library_version(),
          ") is newer than ", checkpoint_format, ", the newest that can be read");
    check(file_.has_checksums(), "this is no whole checkpoint: its metadata has no checksums");
  }

  /// The file underneath: tensors, metadata, path.
  [[nodiscard]] const SafetensorsFile& file() const noexcept { return file_; }
  /// All of the file's metadata.
  [[nodiscard]] const Metadata& metadata() const noexcept { return file_.metadata(); }
  /// Version of the library that wrote the file, "unknown" when it does not say.
  [[nodiscard]] std::string library_version() const {
    const auto found = metadata().find("storylm.version");
    return found == metadata().end() ? "unknown" : found->second;
  }
  /// The model's config. @throws FormatError when there is none or it is no JSON object
  [[nodiscard]] boost::json::object config() const {
    const auto found = metadata().find("config");
    check(found != metadata().end(), "its metadata has no config");
    const std::string context = file_.path() + ": config";
    return as_object(parse_json(found->second, {.op = op, .name = context}), context);
  }
  /// Compares every tensor with its checksum. @throws FormatError naming the first that is damaged
  void verify() const {
    for (const StoredTensor& tensor : file_.tensors()) file_.verify(tensor);
  }

  /// Sets every member of `object` from the tensors `prefix.member`: all of them, or none when it throws.
  /// @throws FormatError naming the tensor that is missing, damaged, of another dtype or shape, out of its member's
  /// range, or there without a member of that name
  template <Stateful S>
  void load(std::string_view prefix, S& object) const {
    std::deque<std::any> lists = checked(prefix, object);
    assign_members(std::string(prefix) + ".", object, lists);
  }
  /// All that load() checks; `object` stays as it is. Who loads several objects checks all of them first.
  /// @throws FormatError as load()
  template <Stateful S>
  void expect(std::string_view prefix, S& object) const {
    static_cast<void>(checked(prefix, object));
  }

  /// Calls `consume(first, std::span<const T>)` for the elements of a tensor, in order, converting between float types.
  /// @throws FormatError when it is missing, damaged, or of another shape or kind
  template <Dtype T, class F>
  void read_tensor(std::string_view name, const Shape& shape, F&& consume) const {
    file_.read_chunks<T>(name, shape, consume);
  }

 private:
  static constexpr std::string_view op = "checkpoint";

  template <class... Parts>
  void check(bool ok, const Parts&... parts) const {
    expects<FormatError>(ok, op, file_.path(), ": ", parts...);
  }

  const StoredTensor& found(std::string_view name, FileDtype dtype) const {
    const StoredTensor* const tensor = file_.find(name);
    check(tensor != nullptr, "tensor ", shown_name(name), " is missing");
    check(tensor->dtype == dtype, "tensor ", shown_name(name), " is ", tensor->dtype.name, ", expected ", dtype.name);
    return *tensor;
  }
  const StoredTensor& stored(std::string_view name, FileDtype dtype, const Shape& shape) const {
    const StoredTensor& tensor = found(name, dtype);
    check(tensor.has_shape(shape), "tensor ", shown_name(name), " is ", tensor.shape_text(), ", expected ", shape);
    file_.verify(tensor);
    return tensor;
  }
  const StoredTensor& stored_list(std::string_view name, FileDtype dtype) const {
    const StoredTensor& tensor = found(name, dtype);
    check(tensor.shape.size() == 1, "tensor ", shown_name(name), " is ", tensor.shape_text(), ", expected rank 1");
    file_.verify(tensor);
    return tensor;
  }
  template <class T>
  T scalar(const StoredTensor& tensor) const {
    T value;
    std::memcpy(&value, file_.raw(tensor).data(), sizeof(T));
    return value;
  }

  /// Compares everything with the file; returns the lists that the object will take.
  template <class S>
  std::deque<std::any> checked(std::string_view prefix, S& object) const {
    const std::string own = std::string(prefix) + ".";
    std::deque<std::any> lists;
    std::set<std::string, std::less<>> used;
    check_members(own, object, lists, used);
    for (const StoredTensor& tensor : file_.tensors()) {
      check(!tensor.name.starts_with(own) || used.contains(tensor.name), "tensor ", shown_name(tensor.name),
            " belongs to nothing that is loaded");
    }
    return lists;
  }

  /// First walk: everything is compared with the file, nothing in the object changes; what needs memory gets it here.
  template <class S>
  void check_members(const std::string& prefix, S& object, std::deque<std::any>& lists,
                     std::set<std::string, std::less<>>& used) const {
    S::visit_state(object, [&](std::string_view name, auto&& member) {
      using M = std::remove_cvref_t<decltype(member)>;
      const std::string full = prefix + std::string(name);
      if constexpr (Stateful<M>) {
        check_members(full + ".", member, lists, used);
      } else {
        check_member<M>(full, member, lists);
        used.insert(full);
      }
    });
  }
  template <class M>
  void check_member(const std::string& name, const M& member, std::deque<std::any>& lists) const {
    if constexpr (detail::StateScalar<M>) {
      using Stored = detail::stored_scalar_t<M>;
      const StoredTensor& tensor = stored(name, file_dtype<Stored>, {});
      if constexpr (std::integral<Stored>) {
        const auto value = scalar<Stored>(tensor);
        check(detail::stored_scalar(static_cast<M>(value)) == value, "tensor ", shown_name(name), " is ", +value,
              ", out of its member's range");
      }
    } else if constexpr (detail::is_state_list<M>) {
      const StoredTensor& tensor = stored_list(name, file_dtype<detail::stored_element_t<M>>);
      M values;
      values.resize(static_cast<std::size_t>(tensor.size));
      if (!values.empty()) std::memcpy(values.data(), file_.raw(tensor).data(), tensor.bytes());
      lists.emplace_back(std::move(values));
    } else if constexpr (detail::is_state_memory<M>) {
      stored(name, file_dtype<typename M::value_type>, detail::state_shape(member));
    } else {
      static_assert(!detail::not_state<M>,
                    "storylm: a checkpoint holds bool, integers, enums, float, double, std::string, std::vector of "
                    "numbers, Tensor, StateSpan and objects with visit_state");
    }
  }

  /// Second walk: the object takes its values; only a device can still fail.
  template <class S>
  void assign_members(const std::string& prefix, S& object, std::deque<std::any>& lists) const {
    S::visit_state(object, [&](std::string_view name, auto&& member) {
      using M = std::remove_cvref_t<decltype(member)>;
      const std::string full = prefix + std::string(name);
      if constexpr (Stateful<M>) {
        assign_members(full + ".", member, lists);
      } else if constexpr (detail::StateScalar<M>) {
        member = static_cast<M>(scalar<detail::stored_scalar_t<M>>(*file_.find(full)));
      } else if constexpr (detail::is_state_list<M>) {
        member = std::move(*std::any_cast<M>(&lists.front()));
        lists.pop_front();
      } else if constexpr (detail::is_state_memory<M>) {
        const std::span<const std::byte> bytes = file_.raw(*file_.find(full));
        if (!bytes.empty()) {
          detail::state_device(member).copy_from_host(detail::state_data(member), bytes.data(), bytes.size());
          detail::state_device(member).synchronize();  // the file may go away
        }
      }
    });
  }

  SafetensorsFile file_;
};

}  // namespace storylm::io
