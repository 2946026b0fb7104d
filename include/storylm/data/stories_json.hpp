// SPDX-License-Identifier: MIT
/// @file
/// @brief The story in a JSON record.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <boost/json/basic_parser_impl.hpp>

namespace storylm::detail {

/// Boost.JSON's events of one record: picks the string "story" and notes what is wrong with it.
struct StoryHandler {
  using error_code = boost::json::error_code;
  using string_view = boost::json::string_view;

  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);

  std::string story;
  std::string_view other_kind;  // what "story" is when it is not a string
  int stories = 0;              // keys "story"
  bool is_object = false;

  bool on_document_begin(error_code& /*error*/) {
    story.clear();
    key_.clear();
    other_kind = {};
    stories = depth_ = 0;
    is_object = in_story_ = false;
    return true;
  }
  bool on_document_end(error_code& /*error*/) { return true; }
  bool on_object_begin(error_code& /*error*/) {
    is_object = is_object || depth_ == 0;
    return begin("an object");
  }
  bool on_object_end(std::size_t /*size*/, error_code& /*error*/) { return end(); }
  bool on_array_begin(error_code& /*error*/) { return begin("an array"); }
  bool on_array_end(std::size_t /*size*/, error_code& /*error*/) { return end(); }
  bool on_key_part(string_view part, std::size_t /*size*/, error_code& /*error*/) {
    if (depth_ == 1 && key_.size() <= 8) key_.append(part.data(), part.size());
    return true;
  }
  bool on_key(string_view part, std::size_t size, error_code& error) {
    on_key_part(part, size, error);
    in_story_ = depth_ == 1 && key_ == "story";
    stories += in_story_ ? 1 : 0;
    key_.clear();
    return true;
  }
  bool on_string_part(string_view part, std::size_t /*size*/, error_code& /*error*/) {
    if (in_story_) story.append(part.data(), part.size());
    return true;
  }
  bool on_string(string_view part, std::size_t size, error_code& error) {
    on_string_part(part, size, error);
    in_story_ = false;
    return true;
  }
  bool on_number_part(string_view /*part*/, error_code& /*error*/) { return true; }
  bool on_int64(std::int64_t /*value*/, string_view /*part*/, error_code& /*error*/) { return scalar("a number"); }
  bool on_uint64(std::uint64_t /*value*/, string_view /*part*/, error_code& /*error*/) { return scalar("a number"); }
  bool on_double(double /*value*/, string_view /*part*/, error_code& /*error*/) { return scalar("a number"); }
  bool on_bool(bool /*value*/, error_code& /*error*/) { return scalar("a boolean"); }
  bool on_null(error_code& /*error*/) { return scalar("null"); }
  bool on_comment_part(string_view /*part*/, error_code& /*error*/) { return true; }
  bool on_comment(string_view /*part*/, error_code& /*error*/) { return true; }

 private:
  bool scalar(std::string_view kind) {
    if (in_story_) other_kind = kind;
    in_story_ = false;
    return true;
  }
  bool begin(std::string_view kind) {
    scalar(kind);
    ++depth_;
    return true;
  }
  bool end() {
    --depth_;
    return true;
  }

  std::string key_;
  int depth_ = 0;
  bool in_story_ = false;  // the value of "story" comes next
};

/// Replaces escapes \uD800 ... \uDFFF that are no pair by \uFFFD: JSON's grammar allows them, Boost.JSON does not, and
/// there is no character that they could mean. @return whether there was one
inline bool replace_lone_surrogates(std::string& json) {
  const auto unit_at = [&](std::size_t at) {  // the 16 bits of an escape \uXXXX, or 0
    if (at + 6 > json.size() || json[at] != '\\' || json[at + 1] != 'u') return 0U;
    unsigned value = 0;
    for (std::size_t i = at + 2; i < at + 6; ++i) {
      const std::size_t digit = std::string_view("0123456789abcdef").find(static_cast<char>(json[i] | 0x20));
      if (digit == std::string_view::npos) return 0U;
      value = value * 16 + static_cast<unsigned>(digit);
    }
    return value;
  };
  bool replaced = false;
  for (std::size_t at = 0; at + 1 < json.size();) {
    if (json[at] != '\\') {
      ++at;
      continue;
    }
    const unsigned unit = unit_at(at);
    if (unit >= 0xD800 && unit < 0xE000) {
      const unsigned second = unit_at(at + 6);
      if (unit < 0xDC00 && second >= 0xDC00 && second < 0xE000) {
        at += 12;
        continue;
      }
      json.replace(at + 2, 4, "FFFD");
      replaced = true;
    }
    at += 2;
  }
  return replaced;
}

/// Has Boost.JSON read single records. One for each thread.
class StoryParser {
 public:
  enum class Kind { story, no_story, syntax_error };
  struct Outcome {
    Kind kind = Kind::story;
    std::size_t at = 0;  ///< byte of the record where it is wrong
    std::string reason;
  };

  StoryParser() : parser_(parse_options()) {}

  /// Points `story` at the record's story, which is valid until the next call.
  [[nodiscard]] Outcome parse(std::string_view record, std::string_view& story) {
    boost::json::error_code error;
    std::size_t used = write(record, error);
    if (error && record.find("\\u") != std::string_view::npos) {
      repaired_.assign(record);
      if (replace_lone_surrogates(repaired_)) {
        error = {};
        used = write(record = repaired_, error);
      }
    }
    if (!error && used < record.find_last_not_of(" \t\r\n") + 1) error = boost::json::error::extra_data;
    if (error) {
      return {
          Kind::syntax_error, used,
          error == boost::json::error::incomplete ? "the file ends inside a record" : "not JSON: " + error.message()};
    }
    const StoryHandler& handler = parser_.handler();
    if (!handler.is_object) return {Kind::no_story, 0, "the record is not an object"};
    if (handler.stories == 0) return {Kind::no_story, 0, "the record has no \"story\""};
    if (handler.stories > 1) {
      return {Kind::no_story, 0, "the record has \"story\" " + std::to_string(handler.stories) + " times"};
    }
    if (!handler.other_kind.empty()) {
      return {Kind::no_story, 0, "\"story\" is " + std::string(handler.other_kind) + ", expected a string"};
    }
    story = handler.story;
    return {};
  }

 private:
  static boost::json::parse_options parse_options() {
    boost::json::parse_options options;
    options.allow_invalid_utf8 = true;  // clean_story() removes it
    return options;
  }

  /// Has the parser read `record`; returns how many bytes it took.
  std::size_t write(std::string_view record, boost::json::error_code& error) {
    parser_.reset();
    return parser_.write_some(false, record.data(), record.size(), error);
  }

  boost::json::basic_parser<StoryHandler> parser_;
  std::string repaired_;
};

}  // namespace storylm::detail
