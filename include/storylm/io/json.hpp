// SPDX-License-Identifier: MIT
/// @file
/// @brief JSON by Boost.JSON, read as if an enemy wrote it: bounded, without duplicate keys, errors with line and byte.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <boost/json/basic_parser_impl.hpp>

#include <storylm/core/error.hpp>
#include <storylm/detail/file_descriptor.hpp>
#include <storylm/detail/quoted.hpp>

namespace storylm::io {

/// What a document may ask for before it is refused.
struct JsonLimits {
  std::size_t bytes = std::size_t{64} << 20U;  ///< of the text
  std::size_t depth = 32;                      ///< of arrays and objects in each other
  std::size_t values = std::size_t{1} << 22U;  ///< of all kinds
};

/// Where a text comes from; messages begin with it.
struct JsonSource {
  std::string_view op = "json";    ///< what messages begin with
  std::string_view name = "text";  ///< a path, most of the time
  std::uint64_t first_byte = 0;    ///< where in the file the text begins
};

/// `text` as a message may show it: in quotes, control characters escaped, at most about 80 characters.
[[nodiscard]] inline std::string quoted(std::string_view text) { return detail::quoted(text); }
/// The same: where `iomanip` is included, std::quoted, which escapes nothing, would be found and be the better match.
[[nodiscard]] inline std::string quoted(const std::string& text) { return detail::quoted(text); }
/// The same.
[[nodiscard]] inline std::string quoted(std::string& text) { return detail::quoted(text); }
/// The same.
[[nodiscard]] inline std::string quoted(const char* text) { return detail::quoted(text); }

}  // namespace storylm::io

namespace storylm::detail {

/// Builds the document and refuses what Boost's own handler accepts: duplicate keys, too many values, infinities.
/// Numbers are read again by std::from_chars, because Boost 1.81's may be off by one unit in the last place.
class JsonHandler {
 public:
  static constexpr std::size_t max_object_size = boost::json::object::max_size();
  static constexpr std::size_t max_array_size = boost::json::array::max_size();
  static constexpr std::size_t max_key_size = boost::json::string::max_size();
  static constexpr std::size_t max_string_size = boost::json::string::max_size();
  using ErrorCode = boost::json::error_code;
  using Text = boost::json::string_view;

  explicit JsonHandler(std::size_t values_allowed) : values_left_(values_allowed) { values_.reset({}); }

  /// Why the document was refused; empty when Boost's error code says it.
  [[nodiscard]] const std::string& refusal() const noexcept { return refusal_; }
  [[nodiscard]] boost::json::value release() { return values_.release(); }

  bool on_document_begin(ErrorCode& /*error*/) { return true; }
  bool on_document_end(ErrorCode& /*error*/) { return true; }
  bool on_object_begin(ErrorCode& error) {
    keys_.emplace_back();
    return count(error);
  }
  bool on_object_end(std::size_t n, ErrorCode& /*error*/) {
    keys_.pop_back();
    values_.push_object(n);
    return true;
  }
  bool on_array_begin(ErrorCode& error) { return count(error); }
  bool on_array_end(std::size_t n, ErrorCode& /*error*/) {
    values_.push_array(n);
    return true;
  }
  bool on_key_part(Text part, std::size_t /*n*/, ErrorCode& /*error*/) {
    key_.append(part.data(), part.size());
    values_.push_chars(part);
    return true;
  }
  bool on_key(Text part, std::size_t /*n*/, ErrorCode& error) {
    key_.append(part.data(), part.size());
    if (!keys_.back().insert(key_).second) return refuse("the key " + io::quoted(key_) + " stands there twice", error);
    key_.clear();
    values_.push_key(part);
    return true;
  }
  bool on_string_part(Text part, std::size_t /*n*/, ErrorCode& /*error*/) {
    values_.push_chars(part);
    return true;
  }
  bool on_string(Text part, std::size_t /*n*/, ErrorCode& error) {
    values_.push_string(part);
    return count(error);
  }
  bool on_number_part(Text /*part*/, ErrorCode& /*error*/) { return true; }
  bool on_int64(std::int64_t value, Text /*text*/, ErrorCode& error) {
    values_.push_int64(value);
    return count(error);
  }
  bool on_uint64(std::uint64_t value, Text /*text*/, ErrorCode& error) {
    values_.push_uint64(value);
    return count(error);
  }
  bool on_double(double value, Text text, ErrorCode& error) {
    double exact = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), exact);
    if (code == std::errc() && end == text.data() + text.size()) {
      value = exact;
    } else if (code == std::errc::result_out_of_range && std::abs(value) < 1.0) {
      value = std::copysign(0.0, value);
    } else {
      return refuse("a number is too large: " + io::quoted(std::string_view(text.data(), text.size())), error);
    }
    values_.push_double(value);
    return count(error);
  }
  bool on_bool(bool value, ErrorCode& error) {
    values_.push_bool(value);
    return count(error);
  }
  bool on_null(ErrorCode& error) {
    values_.push_null();
    return count(error);
  }
  bool on_comment_part(Text /*part*/, ErrorCode& /*error*/) { return true; }
  bool on_comment(Text /*part*/, ErrorCode& /*error*/) { return true; }

 private:
  bool count(ErrorCode& error) { return values_left_-- != 0 || refuse("it has too many values", error); }
  bool refuse(std::string why, ErrorCode& error) {
    refusal_ = std::move(why);
    error = boost::json::make_error_code(boost::json::error::syntax);
    return false;
  }

  boost::json::value_stack values_;
  std::vector<std::unordered_set<std::string>> keys_;  // of the objects that are open
  std::string key_;
  std::string refusal_;
  std::size_t values_left_;
};

}  // namespace storylm::detail

namespace storylm::io {

/// Parses one JSON document. @throws FormatError with line and byte: not JSON, not UTF-8, a duplicate key, a number
/// beyond double, more bytes, levels or values than `limits` allows
[[nodiscard]] inline boost::json::value parse_json(std::string_view text, const JsonSource& source = {},
                                                   const JsonLimits& limits = {}) {
  expects<FormatError>(text.size() <= limits.bytes, source.op, source.name, ": the JSON text has ", text.size(),
                       " bytes, more than the ", limits.bytes, " allowed");
  boost::json::parse_options options;
  options.max_depth = limits.depth;
  boost::json::basic_parser<detail::JsonHandler> parser(options, limits.values);
  boost::json::error_code error;
  const std::size_t end = parser.write_some(false, text.data(), text.size(), error);
  if (!error && end == text.size()) return parser.handler().release();

  std::string why = error ? error.message() : "there is something after the document";
  if (!parser.handler().refusal().empty()) why = parser.handler().refusal();
  const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(end), '\n');
  detail::fail<FormatError>(source.op, source.name, ": line ", line, ", byte ", source.first_byte + end, ": ", why);
}

/// Reads a file that is one JSON document. @throws FormatError as parse_json(), IoError when it cannot be read
[[nodiscard]] inline boost::json::value read_json(const std::filesystem::path& path, const JsonLimits& limits = {}) {
  const std::string name = path.string();
  const auto size = detail::InputFile(path, "json").size();  // before any memory is asked for
  expects<FormatError>(size <= limits.bytes, "json", name, ": the file has ", size, " bytes, more than the ",
                       limits.bytes, " allowed");
  return parse_json(detail::read_file(path, "json", limits.bytes), {.name = name}, limits);
}

/// One line of JSON; doubles are written so that they are read back bit for bit.
[[nodiscard]] inline std::string json_text(const boost::json::value& value) { return boost::json::serialize(value); }

/// What a value is, as messages say it: scalars as they are, the rest by kind.
[[nodiscard]] inline std::string describe(const boost::json::value& value) {
  if (const auto* text = value.if_string()) return quoted(std::string_view(text->data(), text->size()));
  if (const auto* items = value.if_array()) return "an array of " + std::to_string(items->size());
  if (value.is_object()) return "an object";
  return json_text(value);
}

}  // namespace storylm::io

namespace storylm::detail {

template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

/// `value` as a T; `context` and `what` begin the message. Integers are never rounded, cut or taken from a fraction.
template <class T>
[[nodiscard]] T json_as(const boost::json::value& value, std::string_view what, std::string_view context) {
  if constexpr (std::same_as<T, bool>) {
    expects<FormatError>(value.is_bool(), "json", context, ": ", what, " is ", io::describe(value),
                         ", expected true or false");
    return value.get_bool();
  } else if constexpr (std::integral<T>) {
    expects<FormatError>(value.is_int64() || value.is_uint64(), "json", context, ": ", what, " is ",
                         io::describe(value), ", expected an integer");
    const bool fits = value.is_int64() ? std::in_range<T>(value.get_int64()) : std::in_range<T>(value.get_uint64());
    expects<FormatError>(fits, "json", context, ": ", what, " is ", io::describe(value), ", expected an integer from ",
                         +std::numeric_limits<T>::min(), " to ", +std::numeric_limits<T>::max());
    return value.is_int64() ? static_cast<T>(value.get_int64()) : static_cast<T>(value.get_uint64());
  } else if constexpr (std::floating_point<T>) {
    expects<FormatError>(value.is_number(), "json", context, ": ", what, " is ", io::describe(value),
                         ", expected a number");
    const double number = value.is_double()  ? value.get_double()
                          : value.is_int64() ? static_cast<double>(value.get_int64())
                                             : static_cast<double>(value.get_uint64());
    expects<FormatError>(std::abs(number) <= static_cast<double>(std::numeric_limits<T>::max()), "json", context, ": ",
                         what, " is ", io::describe(value), ", too large for its type");
    return static_cast<T>(number);
  } else if constexpr (std::same_as<T, std::string>) {
    expects<FormatError>(value.is_string(), "json", context, ": ", what, " is ", io::describe(value),
                         ", expected a string");
    return {value.get_string().data(), value.get_string().size()};
  } else if constexpr (std::same_as<T, boost::json::object>) {
    expects<FormatError>(value.is_object(), "json", context, ": ", what, " is ", io::describe(value),
                         ", expected an object");
    return value.get_object();
  } else {
    static_assert(is_vector<T>,
                  "storylm: io::get reads bool, integers, reals, std::string, objects and vectors of those");
    expects<FormatError>(value.is_array(), "json", context, ": ", what, " is ", io::describe(value),
                         ", expected an array");
    T items;
    items.reserve(value.get_array().size());
    for (const boost::json::value& item : value.get_array()) {
      items.push_back(json_as<typename T::value_type>(item, "an element of " + std::string(what), context));
    }
    return items;
  }
}

}  // namespace storylm::detail

namespace storylm::io {

/// The document itself as an object. @throws FormatError
[[nodiscard]] inline const boost::json::object& as_object(const boost::json::value& value, std::string_view context) {
  expects<FormatError>(value.is_object(), "json", context, ": the document is ", describe(value),
                       ", expected an object");
  return value.get_object();
}

/// Field `key` of `object`, or nothing when it is not there or null. `context` (a path) begins the message.
/// @throws FormatError when it has another type or does not fit into T
template <class T>
[[nodiscard]] std::optional<T> find(const boost::json::object& object, std::string_view key, std::string_view context) {
  const boost::json::value* const value = object.if_contains({key.data(), key.size()});
  if (value == nullptr || value->is_null()) return std::nullopt;
  return detail::json_as<T>(*value, quoted(key), context);
}

/// Field `key` of `object` as a T: bool, an integer, a real, std::string, boost::json::object or a std::vector of
/// those.
/// @throws FormatError when it is missing, has another type or does not fit into T
template <class T>
[[nodiscard]] T get(const boost::json::object& object, std::string_view key, std::string_view context) {
  const boost::json::value* const value = object.if_contains({key.data(), key.size()});
  expects<FormatError>(value != nullptr, "json", context, ": ", quoted(key), " is missing");
  return detail::json_as<T>(*value, quoted(key), context);
}

}  // namespace storylm::io
