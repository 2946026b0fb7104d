// SPDX-License-Identifier: MIT
/// @file
/// @brief One JSON shard: an array of records, read one record at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include <boost/json/basic_parser_impl.hpp>

#include <storylm/core/error.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm::detail {

inline constexpr std::size_t chunk_bytes = std::size_t{1} << 20U;      // of a file read at once
inline constexpr std::size_t max_story_bytes = std::size_t{1} << 28U;  // larger: a missing quotation mark, not a story

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

/// Finds the records of the array by its brackets and quotation marks, and has Boost.JSON read them one by one: so that
/// memory holds one record, and errors know their place in the file.
class JsonStories {
 public:
  enum class Kind { story, no_story, syntax_error, end };
  struct Outcome {
    Kind kind = Kind::end;
    std::uint64_t at = 0;         ///< byte of the file where it is wrong
    std::uint64_t record_at = 0;  ///< where the record begins
    std::string reason;
  };

  explicit JsonStories(const std::filesystem::path& path)
      : file_(path, "StoryReader"), buffer_(chunk_bytes, '\0'), parser_(parse_options()) {}

  /// The next record's story. After a syntax error or the end there is nothing more.
  [[nodiscard]] Outcome next(std::string& story) {
    if (!started_) {
      started_ = true;
      skip_byte_order_mark();
      if (peek() != '[') return syntax_error(position(), "expected [, the beginning of an array of records");
      advance();
      if (peek() == ']') return finish();
    } else {
      if (peek() == ']') return finish();
      if (peek() != ',') return syntax_error(position(), at_end() ? "the file ends before ]" : "expected , or ]");
      advance();
    }
    peek();
    const std::uint64_t begin = position();
    if (!take_record()) {
      return syntax_error(begin, "a record of more than " + std::to_string(max_story_bytes) + " bytes");
    }
    return parse_record(begin, story);
  }
  [[nodiscard]] std::uint64_t bytes_read() const noexcept { return position(); }

 private:
  static boost::json::parse_options parse_options() {
    boost::json::parse_options options;
    options.allow_invalid_utf8 = true;  // clean_story() removes it
    return options;
  }

  static Outcome syntax_error(std::uint64_t at, std::string reason) {
    return {Kind::syntax_error, at, at, std::move(reason)};
  }

  [[nodiscard]] std::uint64_t position() const noexcept { return base_ + at_; }
  /// Reads on when the buffer is used up; true at the end of the file.
  [[nodiscard]] bool at_end() {
    if (at_ < filled_) return false;
    base_ += filled_;
    at_ = 0;
    filled_ = file_.read(buffer_.data(), buffer_.size());
    return filled_ == 0;
  }
  void advance() noexcept { ++at_; }
  /// The next byte that is not whitespace, not taken; 0 at the end.
  char peek() {
    while (!at_end()) {
      const char c = buffer_[at_];
      if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return c;
      ++at_;
    }
    return '\0';
  }
  void skip_byte_order_mark() {
    if (!at_end() && std::string_view(buffer_.data(), filled_).starts_with("\xEF\xBB\xBF")) at_ = 3;
  }

  [[nodiscard]] Outcome finish() {
    advance();
    const char more = peek();
    if (more != '\0' || !at_end()) return syntax_error(position(), "there is more after the array of records");
    return {};
  }

  /// Moves one value from the file into record_; false when it is too long.
  [[nodiscard]] bool take_record() {
    record_.clear();
    std::size_t depth = 0;
    bool in_string = false;
    bool escaped = false;
    bool complete = false;
    while (!complete && !at_end()) {
      std::size_t i = at_;
      for (; i < filled_ && !complete; ++i) {
        if (in_string) {
          if (escaped) {
            escaped = false;
            continue;
          }
          while (i < filled_ && buffer_[i] != '"' && buffer_[i] != '\\') ++i;
          if (i == filled_) break;
          escaped = buffer_[i] == '\\';
          in_string = escaped;
          complete = !in_string && depth == 0;
          continue;
        }
        const char c = buffer_[i];
        if (c == '"') {
          in_string = true;
        } else if (c == '{' || c == '[') {
          ++depth;
        } else if (c == '}' || c == ']') {
          if (depth == 0) {  // the end of the array: not ours
            complete = true;
            break;
          }
          complete = --depth == 0;
        } else if (c == ',' && depth == 0) {
          complete = true;
          break;
        }
      }
      record_.append(buffer_, at_, i - at_);
      at_ = i;
      if (record_.size() > max_story_bytes) return false;
    }
    return true;
  }

  [[nodiscard]] Outcome parse_record(std::uint64_t begin, std::string& story) {
    boost::json::error_code error;
    std::size_t used = write(error);
    if (error && replace_lone_surrogates(record_)) {
      error = {};
      used = write(error);
    }
    if (!error && used < record_.find_last_not_of(" \t\r\n") + 1) error = boost::json::error::extra_data;
    if (error) {
      Outcome outcome =
          syntax_error(begin + used, error == boost::json::error::incomplete ? "the file ends inside a record"
                                                                             : "not JSON: " + error.message());
      outcome.record_at = begin;
      return outcome;
    }
    const StoryHandler& handler = parser_.handler();
    std::string reason;
    if (!handler.is_object) {
      reason = "the record is not an object";
    } else if (handler.stories == 0) {
      reason = "the record has no \"story\"";
    } else if (handler.stories > 1) {
      reason = "the record has \"story\" " + std::to_string(handler.stories) + " times";
    } else if (!handler.other_kind.empty()) {
      reason = "\"story\" is " + std::string(handler.other_kind) + ", expected a string";
    } else {
      std::swap(story, parser_.handler().story);
      return {Kind::story, begin, begin, {}};
    }
    return {Kind::no_story, begin, begin, std::move(reason)};
  }

  /// Has the parser read record_; returns how many bytes it took.
  std::size_t write(boost::json::error_code& error) {
    parser_.reset();
    return parser_.write_some(false, record_.data(), record_.size(), error);
  }

  InputFile file_;
  std::string buffer_;
  std::size_t at_ = 0;
  std::size_t filled_ = 0;
  std::uint64_t base_ = 0;  // byte of the file at the beginning of buffer_
  bool started_ = false;
  std::string record_;
  boost::json::basic_parser<StoryHandler> parser_;
};

}  // namespace storylm::detail
