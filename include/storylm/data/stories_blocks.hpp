// SPDX-License-Identifier: MIT
/// @file
/// @brief Cuts files of stories into blocks of whole stories: the part of reading that cannot be shared among threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <storylm/core/error.hpp>
#include <storylm/detail/file_descriptor.hpp>

namespace storylm {

/// Stories as they lie in a file, found but not parsed.
struct StoryBlock {
  /// One story or record: text[begin] ... text[end - 1].
  struct Range {
    std::uint32_t begin;  ///< its first byte
    std::uint32_t end;    ///< behind its last
  };

  std::size_t file = 0;        ///< which file of the reader
  bool json = false;           ///< the stories are JSON records, else plain text
  bool last = false;           ///< the file has no further block
  std::uint64_t at = 0;        ///< byte of the file where `text` begins
  std::string text;            ///< bytes of the file
  std::vector<Range> stories;  ///< in `text`, in its order
  std::string error;           ///< what is wrong behind the last story; empty: nothing. Then the block is the last.
  std::uint64_t error_at = 0;  ///< byte of the file where that is

  /// Bytes of story i.
  [[nodiscard]] std::string_view operator[](std::size_t i) const noexcept {
    return std::string_view(text).substr(stories[i].begin, stories[i].end - stories[i].begin);
  }
};

namespace detail {

inline constexpr std::size_t block_bytes = std::size_t{1} << 19U;      // of a file in one block
inline constexpr std::size_t max_story_bytes = std::size_t{1} << 28U;  // larger: a missing quotation mark, not a story

/// Reads a file into blocks; what is left at the end of one begins the next.
class BlockInput {
 public:
  BlockInput(const std::filesystem::path& path, std::size_t bytes) : file_(path, "StoryReader"), bytes_(bytes) {}

  /// Empties `block` and puts what the last one left into it.
  void begin(StoryBlock& block) {
    if (block.text.capacity() > 4 * bytes_ + rest_.size()) block.text = {};  // a long story has been there
    block.text.assign(rest_);
    block.stories.clear();
    block.error.clear();
    block.at = at_;
    block.last = false;
    rest_.clear();
  }
  /// Appends the file's next bytes to `block`; false at the end of the file.
  [[nodiscard]] bool read(StoryBlock& block) {
    const std::size_t before = block.text.size();
    const std::size_t wanted = std::max(bytes_, before / 2);  // long stories: few steps
    block.text.resize(before + wanted);
    const std::size_t got = file_.read(block.text.data() + before, wanted);
    block.text.resize(before + got);
    return got != 0;
  }
  /// Everything from `from` on is for the next block.
  void end(StoryBlock& block, std::size_t from) {
    rest_.assign(block.text, from);
    block.text.resize(from);
    at_ = block.at + from;
  }
  [[nodiscard]] InputFile& file() noexcept { return file_; }

 private:
  InputFile file_;
  std::size_t bytes_;
  std::string rest_;
  std::uint64_t at_ = 0;  // byte of the file where rest_ begins
};

/// Finds the records of a JSON array by its brackets and quotation marks; what is in them is for Boost.JSON to judge.
class JsonCutter {
 public:
  explicit JsonCutter(const std::filesystem::path& path, std::size_t bytes = block_bytes) : input_(path, bytes) {}

  /// The next block, which may be empty. Not after the last one.
  void next(StoryBlock& block) {
    input_.begin(block);
    block.json = true;
    while (!cut(block)) {
      if (block.text.size() - record_ > max_story_bytes) {
        fail(block, record_, "a record of more than " + std::to_string(max_story_bytes) + " bytes");
        return;
      }
      ended_ = !input_.read(block);
    }
    if (block.last) return;
    input_.end(block, record_);
    scanned_ -= record_;
    string_ -= std::min(string_, record_);
    record_ = 0;
  }

 private:
  enum class Expect { array, first_record, record, inside_record, comma, end };

  /// Finds records in what has been read; false when more must be read first, true when that is for the next block.
  bool cut(StoryBlock& block) {
    while (true) {
      if (expect_ == Expect::inside_record) {
        if (!scan(block.text) && !ended_) return record_ != 0;
        block.stories.push_back({static_cast<std::uint32_t>(record_), static_cast<std::uint32_t>(scanned_)});
        record_ = scanned_;
        expect_ = Expect::comma;
        continue;
      }
      if (!skip_whitespace(block)) return record_ != 0;
      const char next = scanned_ < block.text.size() ? block.text[scanned_] : '\0';
      record_ = scanned_;
      switch (expect_) {
        case Expect::array:
          if (next != '[') return fail(block, scanned_, "expected [, the beginning of an array of records");
          ++scanned_;
          expect_ = Expect::first_record;
          break;
        case Expect::first_record:
          if (next == ']') {
            ++scanned_;
            expect_ = Expect::end;
            break;
          }
          [[fallthrough]];
        case Expect::record:
          depth_ = 0;
          in_string_ = false;
          expect_ = Expect::inside_record;
          break;
        case Expect::comma:
          if (next != ',' && next != ']') {
            return fail(block, scanned_, scanned_ == block.text.size() ? "the file ends before ]" : "expected , or ]");
          }
          ++scanned_;
          expect_ = next == ',' ? Expect::record : Expect::end;
          break;
        default:  // Expect::end
          if (scanned_ < block.text.size()) return fail(block, scanned_, "there is more after the array of records");
          return block.last = true;
      }
      record_ = scanned_;
    }
  }

  /// Ends file and block with an error at text[at].
  bool fail(StoryBlock& block, std::size_t at, std::string_view error) {
    block.error = error;
    block.error_at = block.at + at;
    return block.last = true;
  }

  /// False when more must be read to see what follows the whitespace.
  bool skip_whitespace(const StoryBlock& block) {
    constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";
    const std::string_view text = block.text;
    if (expect_ == Expect::array && block.at == 0 && scanned_ == 0) {
      if (text.size() < byte_order_mark.size() && !ended_) return false;
      if (text.starts_with(byte_order_mark)) scanned_ = byte_order_mark.size();
    }
    while (scanned_ < text.size()) {
      const char c = text[scanned_];
      if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return true;
      ++scanned_;
    }
    record_ = scanned_;
    return ended_;
  }

  /// Moves scanned_ behind the value; false when it does not end here.
  bool scan(std::string_view text) {
    while (scanned_ < text.size()) {
      if (in_string_) {  // memchr sees many bytes at once, and most of a shard is strings
        const void* const quote = std::memchr(text.data() + scanned_, '"', text.size() - scanned_);
        if (quote == nullptr) {
          scanned_ = text.size();
          return false;
        }
        const auto at = static_cast<std::size_t>(static_cast<const char*>(quote) - text.data());
        std::size_t backslashes = 0;
        while (at - backslashes > string_ && text[at - backslashes - 1] == '\\') ++backslashes;
        scanned_ = at + 1;
        in_string_ = backslashes % 2 == 1;
        if (in_string_) {
          string_ = scanned_;
        } else if (depth_ == 0) {
          return true;
        }
        continue;
      }
      switch (text[scanned_]) {
        case '"':
          in_string_ = true;
          string_ = scanned_ + 1;
          break;
        case '{':
        case '[':
          ++depth_;
          break;
        case '}':
        case ']':
          if (depth_ == 0) return true;  // the end of the array: not the value's
          if (--depth_ == 0) {
            ++scanned_;
            return true;
          }
          break;
        case ',':
          if (depth_ == 0) return true;
          break;
        default:
          break;
      }
      ++scanned_;
    }
    return false;
  }

  BlockInput input_;
  Expect expect_ = Expect::array;
  std::size_t record_ = 0;   // where the next record begins in the block
  std::size_t scanned_ = 0;  // what lies before it has been looked at
  std::size_t string_ = 0;   // no escape of the string at hand begins before it
  std::size_t depth_ = 0;
  bool in_string_ = false;
  bool ended_ = false;
};

/// Finds the stories of a text file: separated by <|endoftext|>, or one per line where that does not occur.
class TextCutter {
 public:
  static constexpr std::string_view separator = "<|endoftext|>";

  /// How stories are told apart.
  enum class Form { lines, separators };

  explicit TextCutter(const std::filesystem::path& path, std::size_t bytes = block_bytes) : input_(path, bytes) {
    by_line_ = !contains_separator();
    input_.file().rewind();
  }
  TextCutter(const std::filesystem::path& path, Form form, std::size_t bytes = block_bytes)
      : input_(path, bytes), by_line_(form == Form::lines) {}

  /// The next block, which may be empty. Not after the last one.
  void next(StoryBlock& block) {
    const std::string_view delimiter = by_line_ ? std::string_view("\n") : separator;
    input_.begin(block);
    block.json = false;
    std::size_t begin = 0;
    while (true) {
      const std::size_t end = block.text.find(delimiter, searched_);
      if (end != std::string::npos) {
        add(block, begin, end, by_line_);
        begin = searched_ = end + delimiter.size();
        continue;
      }
      searched_ = std::max(begin, block.text.size() - std::min(block.text.size(), delimiter.size() - 1));
      if (begin != 0) break;
      expects<FormatError>(block.text.size() <= max_story_bytes, "StoryReader", input_.file().path(), " at byte ",
                           block.at, ": a story of more than ", max_story_bytes, " bytes");
      if (input_.read(block)) continue;
      add(block, begin, block.text.size(), true);
      block.last = true;
      return;
    }
    input_.end(block, begin);
    searched_ -= begin;
  }

 private:
  /// Line ends beside a separator belong to the file's form, not to the story. Blank lines, and nothing but whitespace
  /// after the last separator, are no stories; between separators they are.
  static void add(StoryBlock& block, std::size_t begin, std::size_t end, bool may_be_none) {
    const std::string_view text = std::string_view(block.text).substr(begin, end - begin);
    if (may_be_none && text.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos) return;
    const std::size_t first = std::min(text.find_first_not_of("\r\n"), text.size());
    const std::size_t behind = text.find_last_not_of("\r\n") + 1;  // 0 when there is none
    block.stories.push_back(
        {static_cast<std::uint32_t>(begin + first), static_cast<std::uint32_t>(begin + std::max(first, behind))});
  }

  [[nodiscard]] bool contains_separator() {
    StoryBlock block;
    while (true) {
      const std::size_t kept = std::min(block.text.size(), separator.size() - 1);
      block.text.erase(0, block.text.size() - kept);
      if (!input_.read(block)) return false;
      if (block.text.find(separator) != std::string::npos) return true;
    }
  }

  BlockInput input_;
  bool by_line_ = false;
  std::size_t searched_ = 0;  // no delimiter begins before it
};

}  // namespace detail
}  // namespace storylm
