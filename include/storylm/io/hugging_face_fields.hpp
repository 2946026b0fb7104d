// SPDX-License-Identifier: MIT
/// @file
/// @brief The fields of a config.json as transformers reads them: absent, null and a value are three things.
#pragma once

#include <concepts>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <storylm/core/dtype.hpp>
#include <storylm/core/error.hpp>
#include <storylm/io/config_json.hpp>
#include <storylm/io/json.hpp>

namespace storylm::detail {

/// The fields of a config.json; messages name file, field and what it is.
class HuggingFaceFields {
 public:
  HuggingFaceFields(const boost::json::object& object, std::string_view context) : object_(object), context_(context) {}

  template <class... Parts>
  void check(bool ok, const Parts&... parts) const {
    expects<FormatError>(ok, "config", context_, ": ", parts...);
  }
  /// The field, or nullptr where it is absent; null is a value.
  [[nodiscard]] const boost::json::value* find(std::string_view key) const {
    return object_.if_contains({key.data(), key.size()});
  }
  /// True when it is there and says something.
  [[nodiscard]] bool says(std::string_view key) const {
    const boost::json::value* const value = find(key);
    return value != nullptr && !value->is_null();
  }
  /// The field, or `absent`; null is refused.
  template <class T>
  [[nodiscard]] T value(std::string_view key, T absent) const {
    const boost::json::value* const found = find(key);
    return found == nullptr ? absent : json_as<T>(*found, io::quoted(key), context_);
  }
  /// A field that counts something: from 1 to config_limit.
  [[nodiscard]] int count(std::string_view key, int absent) const {
    const int number = value<int>(key, absent);
    check(number > 0 && number <= io::config_limit, io::quoted(key), " is ", number, ", expected 1 to ",
          io::config_limit);
    return number;
  }
  /// The same of a field that may also be null.
  [[nodiscard]] int count_or_null(std::string_view key, int absent, int null) const {
    const boost::json::value* const found = find(key);
    return found != nullptr && found->is_null() ? null : count(key, absent);
  }
  /// The same of a field with two names.
  [[nodiscard]] int count(std::string_view key, std::string_view other, int absent) const {
    if (find(key) == nullptr) return count(other, absent);
    const int number = count(key, absent);
    check(count(other, number) == number, io::quoted(key), " is ", number, ", but ", io::quoted(other), " is ",
          count(other, number));
    return number;
  }
  /// A small number that must be positive: what norms add.
  [[nodiscard]] double eps(std::string_view key, double absent) const {
    const auto number = value<double>(key, absent);
    check(number >= 0.0 && number < 1.0, io::quoted(key), " is ", number, ", expected 0 to 1");
    return number;
  }
  /// Refuses a field that has another value than the only one computed here. Null is false where that is a question of
  /// yes or no, and says nothing elsewhere.
  template <class T>
  void only(std::string_view key, T known) const {
    const boost::json::value* const found = find(key);
    if (found == nullptr) return;
    const bool same = found->is_null() ? !std::same_as<T, bool> || known == T{} : value<T>(key, known) == known;
    check(same, io::quoted(key), " is ", io::describe(*found), ", which is not supported: expected ",
          io::json_text(boost::json::value(known)));
  }
  /// Refuses a field that says anything but null, {} or [].
  void none(std::string_view key, std::string_view why) const {
    const boost::json::value* const found = find(key);
    const bool empty = found == nullptr || found->is_null() || (found->is_object() && found->get_object().empty()) ||
                       (found->is_array() && found->get_array().empty());
    check(empty, io::quoted(key), " is ", found == nullptr ? "" : io::describe(*found),
          ", which is not supported: ", why);
  }
  /// Ids of a vocabulary: a number, several or null. Those outside of it are left out.
  [[nodiscard]] std::vector<token_t> ids(std::string_view key, const std::vector<token_t>& absent,
                                         int vocab_size) const {
    std::vector<token_t> all = absent;
    if (const boost::json::value* const found = find(key)) {
      all.clear();
      if (found->is_array()) {
        all = json_as<std::vector<token_t>>(*found, io::quoted(key), context_);
      } else if (!found->is_null()) {
        all.push_back(json_as<token_t>(*found, io::quoted(key), context_));
      }
    }
    std::erase_if(all, [&](token_t id) { return id < 0 || id >= vocab_size; });
    return all;
  }
  [[nodiscard]] std::optional<token_t> id(std::string_view key, std::optional<token_t> absent, int vocab_size) const {
    const boost::json::value* const found = find(key);
    check(found == nullptr || !found->is_array(), io::quoted(key), " is an array, expected an integer or null");
    const auto all = ids(key, absent ? std::vector{*absent} : std::vector<token_t>{}, vocab_size);
    return all.empty() ? std::nullopt : std::optional(all.front());
  }
  [[nodiscard]] std::string_view context() const noexcept { return context_; }

 private:
  const boost::json::object& object_;
  std::string_view context_;
};

}  // namespace storylm::detail
